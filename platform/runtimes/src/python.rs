//! Python: the nearest installed interpreter, its packages, and AWS's runtime interface client.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::{
    Launch, Request, RuntimeError, Runtimes, Warning, handler,
    install::{Installed, place, staged},
    installer::Installers,
    interpreter::{Candidate, Interpreter, LANGUAGE_ROOT, Places, Version, ask, by_distance, for_users},
};

/// Our own start of a Python function; it hands over to `awslambdaric` where that is installed.
const BOOTSTRAP: &str = include_str!("../bootstraps/bootstrap.py");
/// What AWS's `/var/runtime` carries: its runtime interface client and its SDK.
const PACKAGES: [&str; 2] = ["awslambdaric", "boto3"];
/// Where version managers keep their Pythons, below the home.
const MANAGERS: [&str; 5] = [
    ".pyenv/versions",
    ".asdf/installs/python",
    ".local/share/mise/installs/python",
    ".local/share/uv/python",
    ".rye/py",
];
/// What an interpreter is asked: kind, version, real prefix, real program, then package folders.
const QUESTION: &str = "import os, site, sys\n\
    print(sys.implementation.name)\n\
    print('%d.%d.%d' % sys.version_info[:3])\n\
    print(os.path.realpath(sys.base_prefix))\n\
    print(os.path.realpath('/proc/self/exe'))\n\
    [print(os.path.realpath(folder)) for folder in site.getsitepackages([sys.base_prefix])]";

pub(crate) fn resolve(
    runtimes: &Runtimes,
    request: &Request<'_>,
    minor: u32,
) -> Result<Launch, RuntimeError> {
    if request.handler.is_empty() {
        let runtime = request.runtime.to_owned();
        return Err(RuntimeError::NoHandler { runtime, example: "app.handler" });
    }
    let (interpreter, warning) = find(runtimes, request.runtime, minor)?;
    let folder = match runtimes.shelf.complete(&shelf_name(&interpreter)) {
        Some(folder) => folder,
        None => runtimes.shelf.folder(&format!("{}-bare", shelf_name(&interpreter)))?,
    };
    let mut placed = runtimes.placed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let start = match placed.get(&folder) {
        Some(start) => start.clone(),
        None => place_bootstrap(&interpreter, &folder)?,
    };
    placed.insert(folder.clone(), start.clone());
    drop(placed);
    let unreachable = || RuntimeError::Files {
        path: interpreter.program.clone(),
        source: io::Error::other("the interpreter lies outside its own prefix"),
    };
    let mut program = vec![interpreter.inside(&interpreter.program).ok_or_else(unreachable)?];
    // Without `site` the host's packages are not even looked for, and the start is some 2 ms faster. The
    // bootstrap then does what AWS's does: the paths in AWS's order, .pth files, and site's builtins.
    program.push("-S".to_owned());
    if runtimes.own_bootstrap {
        // No argument of the bootstrap's: wrappers take the last one for it, as AWS's documentation does.
        program.extend(["-X", "own-bootstrap"].map(str::to_owned));
    }
    program.push(format!("/var/runtime/{start}"));
    let mut binds = Vec::new();
    if !interpreter.is_shared() {
        binds.push((interpreter.prefix.clone(), LANGUAGE_ROOT.to_owned()));
    }
    for hidden in &interpreter.package_folders {
        if let Some(inside) = interpreter.inside(hidden) {
            binds.push((runtimes.shelf.folder("empty")?, inside));
        }
    }
    binds.push((folder, "/var/runtime".to_owned()));
    Ok(Launch {
        program,
        binds,
        environment: crate::runtime::managed_environment(request.runtime),
        warnings: warning.into_iter().collect(),
        code_warnings: handler::warning(request, handler::Language::Python).into_iter().collect(),
    })
}

pub(crate) fn prepare(
    runtimes: &Runtimes,
    runtime: &str,
    minor: u32,
    progress: &dyn Fn(&str),
) -> Result<Vec<Warning>, RuntimeError> {
    let (interpreter, _) = find(runtimes, runtime, minor)?;
    let mut warnings = Vec::new();
    let name = shelf_name(&interpreter);
    // Compiled files are of one patch version at least.
    let version = interpreter.version.to_string();
    let recipe: Vec<&str> = PACKAGES.iter().copied().chain([version.as_str()]).collect();
    let installed = runtimes.shelf.install(&name, &recipe, |staging| {
        progress(&format!("installing {} for Python {} (once)", PACKAGES.join(", "), interpreter.version));
        install_packages(&runtimes.shelf.installers, pip_commands(&interpreter), staging, progress)?;
        compile(&runtimes.shelf.installers, &interpreter, staging)
    })?;
    if let Installed::Failed(reason) = installed {
        warnings.push(format!(
            "{runtime}: pip could not install {} ({reason}); `import boto3` and `import botocore` will fail unless the \
             function brings them, and it runs on Onrush's own bootstrap",
            PACKAGES.join(" and ")
        ));
    }
    Ok(warnings)
}

/// What runs a Python runtime.
pub(crate) fn interpreter(runtimes: &Runtimes, runtime: &str) -> Result<Interpreter, RuntimeError> {
    let minor = runtime.strip_prefix("python3.").and_then(|minor| minor.parse().ok());
    let minor = minor.ok_or_else(|| RuntimeError::Unknown { runtime: runtime.to_owned() })?;
    find(runtimes, runtime, minor).map(|(interpreter, _)| interpreter)
}

/// Ways to install what a user's requirements name, in order: sources are built where there is no wheel.
pub(crate) fn pip_for_users(interpreter: &Interpreter) -> Vec<Command> {
    let common = ["install", "--quiet", "--disable-pip-version-check", "--no-input"];
    let mut own = Command::new(&interpreter.program);
    own.args(["-m", "pip"]).args(common).args(["--prefer-binary", "--retries", "1", "--timeout", "15"]);
    let mut another = Command::new("pip3");
    another.args(common).args(["--retries", "1", "--timeout", "15", "--only-binary", ":all:"]);
    another.args(["--implementation", "cp", "--python-version"]).arg(interpreter.version.to_string());
    let mut uv = Command::new("uv");
    uv.args(["pip", "install", "--quiet", "--python"]).arg(&interpreter.program);
    vec![own, another, uv]
}

fn shelf_name(interpreter: &Interpreter) -> String {
    format!("python{}.{}", interpreter.version.major, interpreter.version.minor)
}

/// The interpreter of a runtime, remembered once found, and a warning if it is only the nearest.
fn find(
    runtimes: &Runtimes,
    runtime: &str,
    minor: u32,
) -> Result<(Interpreter, Option<String>), RuntimeError> {
    let mut interpreters = runtimes.interpreters.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(known) = interpreters.known.get(runtime) {
        return Ok(known.clone());
    }
    let places = Places::of_this_process();
    let found = for_users(runtimes, (runtime, "Python"), |accept| nearest(&places, minor, accept));
    let (nearest, closed) = found.ok_or_else(|| RuntimeError::NoInterpreter {
        runtime: runtime.to_owned(),
        language: "Python 3",
        looked_in: places.describe(&MANAGERS),
    })?;
    let exact = nearest.version.minor == minor;
    if !exact && runtimes.strict {
        return Err(RuntimeError::NotExact {
            runtime: runtime.to_owned(),
            wanted: format!("Python 3.{minor}"),
            nearest: format!("Python {}", nearest.version),
        });
    }
    let usual = || {
        format!(
            "{runtime}: Python 3.{minor} is not installed; running on the nearest, Python {}",
            nearest.version
        )
    };
    let warning = closed.or_else(|| (!exact).then(usual));
    interpreters.known.insert(runtime.to_owned(), (nearest.clone(), warning.clone()));
    Ok((nearest, warning))
}

/// What may be a Python 3 here.
pub(crate) fn candidates(places: &Places) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = places.managed(&MANAGERS, "bin/python3");
    candidates.extend(places.on_path(|name| {
        let rest = name.strip_prefix("python3")?;
        match rest.strip_prefix('.') {
            None => rest.is_empty().then_some(None),
            Some(minor) => Some(Some(Version { major: 3, minor: minor.parse().ok()?, patch: 0 })),
        }
    }));
    candidates
}

/// Runs candidates, nearest promise first, until one proves to be CPython 3.
fn nearest(places: &Places, minor: u32, accept: &dyn Fn(&Interpreter) -> bool) -> Option<Interpreter> {
    let mut candidates = candidates(places);
    // A plain `python3` promises nothing: it is asked after all that do.
    candidates.sort_by_key(|it| it.promised.map_or((u32::MAX, true), |it| by_distance(minor, it.minor)));
    candidates.iter().filter_map(describe).find(accept)
}

fn describe(candidate: &Candidate) -> Option<Interpreter> {
    let answers = ask(&candidate.program, &["-I", "-S", "-c", QUESTION])?;
    let [kind, version, prefix, program, folders @ ..] = answers.as_slice() else { return None };
    let version = Version::read(version)?;
    if kind != "cpython" || version.major != 3 {
        return None;
    }
    let prefix = PathBuf::from(prefix);
    let mut package_folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    package_folders.retain(|folder| folder.starts_with(&prefix) && folder.is_dir());
    Some(Interpreter { version, program: PathBuf::from(program), prefix, package_folders })
}

/// Tries one way after another until one works; the first one's complaint is the telling one.
fn install_packages(
    installers: &Installers,
    ways: Vec<Command>,
    target: &Path,
    progress: &dyn Fn(&str),
) -> Result<(), String> {
    let mut first_complaint = None;
    for mut way in ways {
        match installers.run(way.arg("--target").arg(target).args(PACKAGES), progress) {
            Ok(()) => return Ok(()),
            Err(complaint) => {
                first_complaint.get_or_insert(complaint);
            }
        }
    }
    Err(first_complaint.unwrap_or_else(|| "pip is not installed".to_owned()))
}

/// Ways to run pip for an interpreter, in order: its own, then another's with the version told, then uv.
fn pip_commands(interpreter: &Interpreter) -> Vec<Command> {
    let common = ["install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"];
    let bounded = ["--retries", "1", "--timeout", "15", "--only-binary", ":all:"];
    let mut own = Command::new(&interpreter.program);
    own.args(["-m", "pip"]).args(common).args(bounded);
    let mut another = Command::new("pip3");
    another.args(common).args(bounded);
    another.args(["--implementation", "cp", "--python-version"]).arg(interpreter.version.to_string());
    let mut uv = Command::new("uv");
    uv.args(["pip", "install", "--quiet", "--only-binary", ":all:", "--python"]).arg(&interpreter.program);
    vec![own, another, uv]
}

/// Compiles the packages: `/var/runtime` is read-only, so nobody could later. Unchecked, because the
/// folder never changes once in place; and with the paths of the sandbox, so that importing need not
/// rewrite each code object.
fn compile(installers: &Installers, interpreter: &Interpreter, staging: &Path) -> Result<(), String> {
    let mut compile = Command::new(&interpreter.program);
    compile.args(["-I", "-m", "compileall", "-qq", "-f", "--invalidation-mode", "unchecked-hash"]);
    if interpreter.version.minor >= 9 {
        compile.arg("-s").arg(staging).args(["-p", "/var/runtime"]);
    }
    // Some packages carry files for other Pythons, which do not compile: their failure is not ours.
    let _ = installers.run(compile.arg(staging), &|_| {});
    if installers.is_stopped() {
        return Err("the platform is ending".to_owned());
    }
    fs::metadata(staging.join("boto3/__init__.py"))
        .map(drop)
        .map_err(|_| "pip left no boto3 behind".to_owned())
}

/// Puts our bootstrap into a folder, compiled for this interpreter, and answers with the file to start.
///
/// The compiled file carries the text's hash in its name: an upgrade of Onrush makes a new one beside it,
/// and running sandboxes keep theirs.
fn place_bootstrap(interpreter: &Interpreter, folder: &Path) -> Result<String, RuntimeError> {
    let digest =
        Sha256::new().chain_update(BOOTSTRAP).chain_update(interpreter.version.to_string()).finalize();
    let compiled =
        format!("bootstrap-{:02x}{:02x}{:02x}{:02x}.pyc", digest[0], digest[1], digest[2], digest[3]);
    if folder.join(&compiled).is_file() {
        return Ok(compiled);
    }
    place(folder, "bootstrap.py", BOOTSTRAP.as_bytes())?;
    let staged = staged(folder, &compiled);
    let script = "import py_compile, sys\n\
        py_compile.compile(sys.argv[1], cfile=sys.argv[2], dfile='/var/runtime/bootstrap.py', doraise=True,\n\
        \x20   invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)";
    let compiling = Installers::default().run(
        Command::new(&interpreter.program)
            .args(["-I", "-S", "-c", script])
            .arg(folder.join("bootstrap.py"))
            .arg(&staged),
        &|_| {},
    );
    let files = |source| RuntimeError::Files { path: folder.join(&compiled), source };
    compiling.map_err(|reason| files(io::Error::other(reason)))?;
    fs::set_permissions(&staged, std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(files)?;
    fs::rename(&staged, folder.join(&compiled)).map_err(files)?;
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script that can be run. Another process writes it: whatever a test beside this one starts holds our descriptors until
    /// it executes, and what is open for writing cannot be executed.
    fn script(path: &Path, text: &str) {
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
        assert!(Command::new("sh").args(["-c", write]).arg(path).arg(text).status().unwrap().success());
    }

    /// A program that answers as an interpreter would.
    fn pretend(home: &Path, version: &str, kind: &str) {
        let prefix = home.join(".pyenv/versions").join(version);
        fs::create_dir_all(prefix.join("bin")).unwrap();
        let program = prefix.join("bin/python3");
        let at = prefix.display();
        script(&program, &format!("printf '%s\\n' {kind} {version} {at} {at}/bin/python3 {at}/absent"));
    }

    #[test]
    fn the_exact_version_comes_before_the_nearest() {
        let home = tempfile::tempdir().unwrap();
        for version in ["3.9.1", "3.11.7", "3.13.0"] {
            pretend(home.path(), version, "cpython");
        }
        pretend(home.path(), "3.12.5", "pypy");
        let places = Places { path: Vec::new(), home: Some(home.path().to_owned()) };
        let found = |minor| nearest(&places, minor, &|_| true).map(|it| it.version.to_string());
        assert_eq!(found(11).as_deref(), Some("3.11.7"));
        assert_eq!(found(12).as_deref(), Some("3.13.0"), "not PyPy, and newer before older");
        assert_eq!(found(8).as_deref(), Some("3.9.1"));
        assert_eq!(nearest(&Places::default(), 11, &|_| true), None);
    }

    #[test]
    fn the_first_way_to_install_that_works_is_the_last_one_tried() {
        let target = tempfile::tempdir().unwrap();
        let way = |script: &str| {
            let mut way = Command::new("sh");
            way.args(["-c", script, "sh"]).current_dir(target.path());
            way
        };
        let ways = ["echo no index >&2; exit 1", "touch second", "touch third"].map(way);
        assert_eq!(install_packages(&Installers::default(), ways.into(), target.path(), &|_| {}), Ok(()));
        assert!(target.path().join("second").exists() && !target.path().join("third").exists());
        let ways = ["echo no index >&2; exit 1", "echo no pip >&2; exit 1"].map(way);
        assert_eq!(
            install_packages(&Installers::default(), ways.into(), target.path(), &|_| {}),
            Err("no index".to_owned())
        );
    }

    #[test]
    fn a_broken_interpreter_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        pretend(home.path(), "3.11.7", "cpython");
        pretend(home.path(), "3.12.1", "cpython");
        let broken = home.path().join(".pyenv/versions/3.12.1/bin/python3");
        script(&broken, "exit 127");
        let places = Places { path: Vec::new(), home: Some(home.path().to_owned()) };
        assert_eq!(
            nearest(&places, 12, &|_| true).map(|it| it.version.to_string()).as_deref(),
            Some("3.11.7")
        );
    }

    #[test]
    fn a_systems_python_keeps_its_place_and_loses_its_packages() {
        let system = Candidate { program: "/usr/bin/python3".into(), promised: None };
        let Some(interpreter) = describe(&system).filter(Interpreter::is_shared) else {
            eprintln!("skipped: this host has no Python in /usr");
            return;
        };
        assert!(interpreter.inside(&interpreter.program).is_some_and(|it| it.starts_with("/usr/")));
        let hides = |folder: &PathBuf| folder.ends_with("dist-packages") || folder.ends_with("site-packages");
        assert!(interpreter.package_folders.iter().all(hides), "{interpreter:?}");
    }
}
