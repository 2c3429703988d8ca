//! OS-only runtimes: the function brings its own `bootstrap`.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use crate::{Launch, Request, RuntimeError};

/// Where AWS looks for a bootstrap, in this order: (host folder's role, path inside).
const TASK_BOOTSTRAP: &str = "/var/task/bootstrap";
const LAYER_BOOTSTRAP: &str = "/opt/bootstrap";

/// `/var/task/bootstrap`, else `/opt/bootstrap`.
///
/// Source: Lambda Developer Guide, "Building a custom runtime" (published). A bootstrap may be a script or
/// a program linked against the host's glibc: the sandbox sees the host's `/usr`.
pub(crate) fn resolve(request: &Request<'_>) -> Result<Launch, RuntimeError> {
    let mut hints = Vec::new();
    let candidates = [(Some(request.code), TASK_BOOTSTRAP), (request.layers, LAYER_BOOTSTRAP)];
    for (folder, inside) in candidates {
        let Some(folder) = folder else { continue };
        match executable(&folder.join("bootstrap"))? {
            Found::Executable => return Ok(launch(inside)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(folder: &Path, mode: u32) {
        fs::write(folder.join("bootstrap"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join("bootstrap"), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn resolved(code: &Path, layers: Option<&Path>) -> Result<Launch, RuntimeError> {
        resolve(&Request { runtime: "provided.al2023", handler: "", code, layers })
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
}
