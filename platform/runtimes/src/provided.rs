//! OS-only runtimes: the function brings its own `bootstrap`.

use std::io::{self, Read as _};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{Launch, Request, RuntimeError, Warning};

/// Where AWS looks for a bootstrap, in this order: (host folder's role, path inside).
const TASK_BOOTSTRAP: &str = "/var/task/bootstrap";
const LAYER_BOOTSTRAP: &str = "/opt/bootstrap";
/// Bytes of a script's first line that the kernel reads. Source: Linux `include/uapi/linux/binfmts.h`, `BINPRM_BUF_SIZE`.
const HEAD_BYTES: u64 = 256;
/// What a program for another processor is called, by its ELF header's `e_machine`. Source: ELF specification, gABI.
const MACHINES: [(u16, &str); 4] = [(62, "x86_64"), (183, "aarch64"), (40, "arm"), (243, "riscv64")];

/// `/var/task/bootstrap`, else `/opt/bootstrap`.
///
/// Source: Lambda Developer Guide, "Building a custom runtime" (published). A bootstrap may be a script or
/// a program linked against the host's glibc: the sandbox sees the host's `/usr`.
pub(crate) fn resolve(request: &Request<'_>) -> Result<Launch, RuntimeError> {
    let mut hints = Vec::new();
    let candidates = [(Some(request.code), TASK_BOOTSTRAP), (request.layers, LAYER_BOOTSTRAP)];
    for (folder, inside) in candidates {
        let Some(folder) = folder else { continue };
        let bootstrap = folder.join("bootstrap");
        match executable(&bootstrap)? {
            Found::Executable => {
                let code_warnings = unlike_a_program(&bootstrap, inside, request).into_iter().collect();
                return Ok(Launch { code_warnings, ..launch(inside) });
            }
            Found::Nothing => hints.push(format!("{inside} does not exist")),
            Found::NotExecutable => hints.push(format!("{inside} is not executable (chmod +x bootstrap)")),
            Found::NotAFile => hints.push(format!("{inside} is not a file")),
        }
    }
    Err(RuntimeError::InvalidEntrypoint {
        looked_at: vec![TASK_BOOTSTRAP.to_owned(), LAYER_BOOTSTRAP.to_owned()],
        hint: hints.join("; "),
    })
}

fn launch(inside: &str) -> Launch {
    Launch {
        program: vec![inside.to_owned()],
        binds: Vec::new(),
        environment: vec![
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin/:/bin:/opt/bin".to_owned()),
            (
                "LD_LIBRARY_PATH".to_owned(),
                "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib".to_owned(),
            ),
        ],
        warnings: Vec::new(),
        code_warnings: Vec::new(),
    }
}

enum Found {
    Executable,
    Nothing,
    NotExecutable,
    NotAFile,
}

fn executable(path: &Path) -> Result<Found, RuntimeError> {
    match fs::metadata(path) {
        Ok(it) if !it.is_file() => Ok(Found::NotAFile),
        // The sandbox's user is nobody's owner or group: what counts in the end is the x bit for others,
        // but code folders are bound as they are, and a 0750 file of the user's own should get a clear word.
        Ok(it) if it.permissions().mode() & 0o111 == 0 => Ok(Found::NotExecutable),
        Ok(_) => Ok(Found::Executable),
        // A link to an absolute path means something else inside than out here: let the sandbox try.
        Err(_) if fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink()) => Ok(Found::Executable),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            Ok(Found::Nothing)
        }
        Err(source) => Err(RuntimeError::Files { path: path.to_owned(), source }),
    }
}

/// Why the kernel will not execute a bootstrap, with the cure, as far as its first bytes tell. AWS says `exec format error` or
/// `no such file or directory` of it, with the first invocation.
fn unlike_a_program(bootstrap: &Path, inside: &str, request: &Request<'_>) -> Option<Warning> {
    let mut head = Vec::new();
    fs::File::open(bootstrap).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    let mut error = "Runtime.InvalidEntrypoint";
    let why = if let Some(rest) = head.strip_prefix(b"\x7fELF") {
        let machine = u16::from_le_bytes([*rest.get(14)?, *rest.get(15)?]);
        let (_, name) = MACHINES.iter().find(|(number, _)| *number == machine)?;
        let ours = std::env::consts::ARCH;
        if *name == ours {
            return None;
        }
        format!(
            "is a program for {name}: build it for {ours}, which this host is (unless binfmt_misc emulates the other)"
        )
    } else if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default());
        let interpreter = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
        if line.ends_with('\r') {
            // What `#!/usr/bin/env bash\r` names is there, and finds no `bash\r`.
            if !interpreter.ends_with('\r') {
                error = "Runtime.ExitError";
            }
            "has the line ends of Windows, and so no interpreter: sed -i 's/\\r$//' bootstrap".to_owned()
        } else if is_missing(interpreter, request) {
            format!("begins with `#!{interpreter}`, which is not there")
        } else {
            return None;
        }
    } else if head.is_empty() {
        "is empty".to_owned()
    } else {
        "is neither a Linux program nor a script that begins with `#!` and its interpreter".to_owned()
    };
    Some(format!("{inside} {why}; invocations will fail with {error}"))
}

/// Whether a script's interpreter is certainly nowhere that the sandbox would find it: what a link leads to is not judged.
fn is_missing(interpreter: &str, request: &Request<'_>) -> bool {
    let place = if let Some(rest) = interpreter.strip_prefix("/var/task/") {
        request.code.join(rest)
    } else if let Some(rest) = interpreter.strip_prefix("/opt/") {
        match request.layers {
            Some(layers) => layers.join(rest),
            None => return true,
        }
    } else if interpreter.starts_with('/') {
        interpreter.into()
    } else {
        return false;
    };
    fs::symlink_metadata(place).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(folder: &Path, mode: u32) {
        fs::write(folder.join("bootstrap"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join("bootstrap"), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn resolved(code: &Path, layers: Option<&Path>) -> Result<Launch, RuntimeError> {
        resolve(&Request {
            runtime: "provided.al2023",
            handler: "",
            code,
            known_as: None,
            layers,
            memory_mb: 128,
            node_options: None,
            exec_wrapper: None,
        })
    }

    #[test]
    fn the_code_comes_before_the_layers() {
        let (code, layers) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        bootstrap(layers.path(), 0o755);
        assert_eq!(resolved(code.path(), Some(layers.path())).unwrap().program, [LAYER_BOOTSTRAP]);
        bootstrap(code.path(), 0o755);
        assert_eq!(resolved(code.path(), Some(layers.path())).unwrap().program, [TASK_BOOTSTRAP]);
    }

    #[test]
    fn a_bootstrap_that_cannot_run_is_an_invalid_entrypoint_with_a_cure() {
        let code = tempfile::tempdir().unwrap();
        let missing = resolved(code.path(), None).unwrap_err();
        assert_eq!(missing.error_type(), "Runtime.InvalidEntrypoint");
        assert_eq!(
            missing.invoke_body("id-1"),
            r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: id-1 Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"}"#
        );
        bootstrap(code.path(), 0o644);
        match resolved(code.path(), None).unwrap_err() {
            RuntimeError::InvalidEntrypoint { hint, .. } => assert!(hint.contains("chmod +x"), "{hint}"),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_bootstrap_that_the_kernel_would_not_execute_is_told_with_a_cure() {
        let code = tempfile::tempdir().unwrap();
        bootstrap(code.path(), 0o755);
        let said = |head: &[u8]| {
            fs::write(code.path().join("bootstrap"), head).unwrap();
            resolved(code.path(), None).unwrap().code_warnings.pop()
        };
        let elf =
            |machine: u16| [b"\x7fELF\x02\x01\x01", &[0; 9][..], &[2, 0], &machine.to_le_bytes()].concat();
        let (ours, other) = if cfg!(target_arch = "x86_64") { (62, 183) } else { (183, 62) };
        for runs in [
            &elf(ours)[..],
            b"#!/bin/sh\n",
            b"#! /usr/bin/env python3\n",
            b"#!/bin/sh",
            b"#!/var/task/bootstrap\n",
        ] {
            assert_eq!(said(runs), None, "{}", String::from_utf8_lossy(runs));
        }
        for (fails, words) in [
            (&elf(other)[..], "is a program for "),
            (b"", "is empty"),
            (b"echo hi\n", "neither a Linux program nor a script"),
            (b"#!/bin/sh\r\nexit 0\r\n", "sed -i 's/\\r$//' bootstrap"),
            (b"#!/opt/ruby/bin/ruby\n", "`#!/opt/ruby/bin/ruby`, which is not there"),
            (b"#!/var/task/ruby -w\n", "`#!/var/task/ruby`, which is not there"),
        ] {
            let told = said(fails).unwrap();
            assert!(told.contains(words) && told.ends_with("Runtime.InvalidEntrypoint"), "{told}");
        }
        let told = said(b"#!/usr/bin/env bash\r\nexit 0\r\n").unwrap();
        assert!(
            told.contains("sed -i 's/\\r$//' bootstrap") && told.ends_with("Runtime.ExitError"),
            "{told}"
        );
    }
}
