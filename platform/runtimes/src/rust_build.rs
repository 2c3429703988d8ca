//! Builds a template's Rust function with plain cargo, when its source is newer than what was built.
//!
//! ```text
//! SOURCE/target/onrush/BIN/bootstrap    the program; as old as the moment its build began
//! SOURCE/target/onrush/BIN/sources      files outside SOURCE that went into it (path dependencies)
//! SOURCE/target/onrush/.only            the name of the BIN that is meant where none is named
//! ```

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use crate::{BuildError, Runtimes, install::staged, installer::Installers};

/// How many of cargo's last lines go into an error.
const LAST_LINES_MAX: usize = 30;
/// The file beside what is built that says which is meant.
const ONLY: &str = ".only";
/// Folders deeper than this are not looked into for newer sources, and count as newer.
const DEPTH_MAX: usize = 32;

impl Runtimes {
    /// Builds a binary of the Rust package or workspace in `source` for this machine and answers with the absolute path of a folder
    /// that holds it as `bootstrap`: the one of that name, else the only one of the package. When nothing is newer, it does nothing
    /// but look at modification times. `progress` is told what is being built, and then each line of cargo's.
    ///
    /// # Errors
    /// When there is no `Cargo.toml`, no cargo, no binary of that name, without a name not exactly one (or one named `bootstrap`),
    /// or cargo fails, or the end was announced ([`Runtimes::stop_installers`]).
    pub fn build_rust(
        &self,
        source: &Path,
        binary: Option<&str>,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, BuildError> {
        build(&self.shelf.installers, OsStr::new("cargo"), source, binary, progress)
    }
}

/// Files outside `source` that went into what was built there last, path dependencies for instance: whoever waits for
/// edits looks at them, too. What builds make themselves is left out. Empty before the first build.
pub fn rust_sources(source: &Path, binary: Option<&str>) -> Vec<PathBuf> {
    let Some(built) = built_before(&source.join("target").join("onrush"), binary) else { return Vec::new() };
    let listed = fs::read_to_string(built.join("sources")).unwrap_or_default();
    let own = |path: &PathBuf| !path.iter().any(|part| part == "target");
    listed.lines().map(PathBuf::from).filter(own).collect()
}

fn build(
    installers: &Installers,
    cargo: &OsStr,
    source: &Path,
    binary: Option<&str>,
    progress: &dyn Fn(&str),
) -> Result<PathBuf, BuildError> {
    let source = &std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
    let manifest = source.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(BuildError::NoManifest { folder: source.clone() });
    }
    let onrush = source.join("target").join("onrush");
    if let Some(fresh) = built_before(&onrush, binary).filter(|built| is_fresh(built, source)) {
        return Ok(fresh);
    }
    if binary.is_none() {
        // There may be several by now.
        let _ = fs::remove_file(onrush.join(ONLY));
    }
    let package = describe(installers, cargo, source, &manifest, binary)?;
    progress(&format!("building {} (cargo build --release)", package.binary));
    // What changes while cargo runs may not be in what it makes: the artefact is as old as the start.
    let started = SystemTime::now();
    cargo_build(installers, cargo, source, &package, progress)?;
    // cargo may have just written the lock file, before it read the first source.
    let locked = fs::metadata(source.join("Cargo.lock")).and_then(|it| it.modified());
    let started = locked.map_or(started, |locked| started.max(locked));
    let folder = onrush.join(&package.binary);
    let stored = store(&package, source, &folder, started).and_then(|()| match binary {
        Some(_) => Ok(()),
        None => fs::write(onrush.join(ONLY), &package.binary),
    });
    stored.map_err(|source| BuildError::Files { path: folder.clone(), source })?;
    Ok(folder)
}

/// The folder of this binary, or of the one that is built where none is named, if it was built before.
fn built_before(onrush: &Path, binary: Option<&str>) -> Option<PathBuf> {
    let folder = match binary {
        Some(binary) => onrush.join(binary),
        None => onrush.join(fs::read_to_string(onrush.join(ONLY)).ok()?),
    };
    Some(folder).filter(|folder| folder.join("bootstrap").is_file())
}

/// Whether no source is newer than the artefact; hidden folders and `target` do not count.
fn is_fresh(built: &Path, source: &Path) -> bool {
    let Ok(made) = fs::metadata(built.join("bootstrap")).and_then(|it| it.modified()) else { return false };
    let Ok(outside) = fs::read_to_string(built.join("sources")) else { return false };
    let is_old = |path: &str| fs::metadata(path).and_then(|it| it.modified()).is_ok_and(|at| at <= made);
    outside.lines().all(is_old) && !has_newer(source, made, DEPTH_MAX)
}

fn has_newer(folder: &Path, than: SystemTime, depth: usize) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().first() == Some(&b'.');
        match entry.metadata() {
            _ if is_hidden || name == "target" => false,
            Ok(about) if about.is_dir() => depth == 0 || has_newer(&entry.path(), than, depth - 1),
            Ok(about) => about.modified().map_or(true, |at| at > than),
            Err(_) => true,
        }
    })
}

struct Package {
    /// `NAME@VERSION`: cargo before 1.77 does not take the id that its metadata say.
    spec: String,
    binary: String,
    target: PathBuf,
}

/// Asks cargo which binary this package makes, or which package of this workspace makes the wanted one, and where its target
/// folder lies.
fn describe(
    installers: &Installers,
    cargo: &OsStr,
    source: &Path,
    manifest: &Path,
    wanted: Option<&str>,
) -> Result<Package, BuildError> {
    let mut metadata = command(cargo, source, &["metadata", "--format-version", "1", "--no-deps"]);
    let (child, leader) =
        installers.start(metadata.stderr(Stdio::piped())).map_err(|error| not_started(error, source))?;
    let output = child.wait_with_output();
    installers.ended(leader);
    let output = output.map_err(|error| not_started(error, source))?;
    if !output.status.success() {
        let last_lines = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
        return Err(BuildError::Cargo { folder: source.to_owned(), status: output.status, last_lines });
    }
    let unreadable = || BuildError::Metadata { manifest: manifest.to_owned() };
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| unreadable())?;
    let manifest = fs::canonicalize(manifest)
        .map_err(|source| BuildError::Files { path: manifest.to_owned(), source })?;
    let target = metadata["target_directory"].as_str().ok_or_else(unreadable)?.into();
    let packages = metadata["packages"].as_array().ok_or_else(unreadable)?;
    let is_this = |path: &str| fs::canonicalize(path).is_ok_and(|path| path == manifest);
    // This package's own binaries come first.
    let (own, others): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| package["manifest_path"].as_str().is_some_and(is_this));
    let mut binaries: Vec<_> = own.iter().copied().flat_map(binaries_of).collect();
    let own_binaries = binaries.len();
    if wanted.is_some() || own.is_empty() {
        binaries.extend(others.iter().copied().flat_map(binaries_of));
    }
    let is_wanted = |(_, name): &&(String, String)| name == wanted.unwrap_or("bootstrap");
    let (of_this, of_others) = binaries.split_at(own_binaries);
    let chosen = match (wanted, binaries.as_slice()) {
        (None, [only]) => Some(only),
        _ => of_this.iter().find(is_wanted).or_else(|| {
            // Which of several packages is meant nobody says.
            let mut found = of_others.iter().filter(is_wanted);
            found.next().filter(|_| found.next().is_none())
        }),
    };
    match chosen.cloned() {
        Some((spec, binary)) => Ok(Package { spec, binary, target }),
        None => {
            let names = binaries.into_iter().map(|(_, name)| name).collect();
            Err(BuildError::Binaries { manifest, names })
        }
    }
}

/// Of each of a package's binaries what [`Package`] says of the package, and its name.
fn binaries_of(package: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let spec = format!("{}@{}", text(&package["name"]), text(&package["version"]));
    let targets = package["targets"].as_array().into_iter().flatten();
    let binaries = targets.filter(|target| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
    });
    binaries.map(|target| (spec.clone(), text(&target["name"]))).collect()
}

fn cargo_build(
    installers: &Installers,
    cargo: &OsStr,
    source: &Path,
    Package { spec, binary, .. }: &Package,
    progress: &dyn Fn(&str),
) -> Result<(), BuildError> {
    let mut build = command(cargo, source, &["build", "--release", "--package", spec, "--bin", binary]);
    let (mut child, leader) = installers
        .start(build.stdout(Stdio::null()).stderr(Stdio::piped()))
        .map_err(|error| not_started(error, source))?;
    let mut last_lines: VecDeque<String> = VecDeque::new();
    let lines = child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines());
    for line in lines.map_while(Result::ok) {
        progress(line.trim());
        if last_lines.len() == LAST_LINES_MAX {
            last_lines.pop_front();
        }
        last_lines.push_back(line);
    }
    let status = child.wait();
    installers.ended(leader);
    let status = status.map_err(|source| BuildError::Files { path: "cargo".into(), source })?;
    match status.success() {
        true => Ok(()),
        false => Err(BuildError::Cargo { folder: source.to_owned(), status, last_lines: last_lines.into() }),
    }
}

/// Puts the program where sandboxes find it. A copy, not a link: cargo rewrites its file in place, and a
/// running sandbox keeps the old one.
fn store(package: &Package, source: &Path, folder: &Path, started: SystemTime) -> io::Result<()> {
    let release = package.target.join("release");
    // Make's syntax: `PROGRAM: SOURCE SOURCE …`, with spaces in names escaped by a backslash.
    let dependencies =
        fs::read_to_string(release.join(format!("{}.d", package.binary)))?.replace("\\ ", "\0");
    let outside = dependencies
        .lines()
        .flat_map(|line| line.split_once(": ").map_or("", |(_, sources)| sources).split(' '))
        .map(|path| path.replace('\0', " "))
        .filter(|path| !path.is_empty() && !Path::new(path).starts_with(source))
        .fold(String::new(), |all, path| all + &path + "\n");
    fs::create_dir_all(folder)?;
    // Two functions may share one source folder, and be built at once.
    let staged = staged(folder, "bootstrap");
    fs::copy(release.join(&package.binary), &staged)?;
    File::options().write(true).open(&staged)?.set_modified(started)?;
    fs::write(folder.join("sources"), outside)?;
    fs::rename(&staged, folder.join("bootstrap"))
}

/// cargo in the package's folder. What an outer `cargo run` sets for its child must not reach the inner
/// build: it would be taken for another package's.
fn command(cargo: &OsStr, source: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(source).stdin(Stdio::null()).stdout(Stdio::piped());
    let inherited = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let prefixes = ["CARGO_MANIFEST", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_"];
        let names = ["CARGO", "CARGO_PRIMARY_PACKAGE", "OUT_DIR", "RUSTC_WORKSPACE_WRAPPER"];
        name.to_str().is_some_and(|name| {
            names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
        })
    });
    for name in inherited {
        command.env_remove(name);
    }
    command
}

fn not_started(error: io::Error, source: &Path) -> BuildError {
    match error.kind() {
        io::ErrorKind::NotFound => BuildError::NoCargo { folder: source.to_owned() },
        _ => BuildError::Files { path: "cargo".into(), source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cargo_the_way_out_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        let error = build(&Installers::default(), OsStr::new("/no/such/cargo"), folder.path(), None, &|_| ())
            .unwrap_err();
        assert!(matches!(error, BuildError::NoCargo { .. }));
        assert!(error.to_string().contains("rustup"), "{error}");
    }

    #[test]
    fn a_package_is_named_as_every_cargo_takes_it() {
        let package = serde_json::json!({
            "id": "carts 0.1.0 (path+file:///carts)", "name": "carts", "version": "0.1.0",
            "targets": [{"kind": ["lib"], "name": "carts"}, {"kind": ["bin"], "name": "put"}],
        });
        assert_eq!(binaries_of(&package), [("carts@0.1.0".to_owned(), "put".to_owned())]);
    }

    #[test]
    fn an_artefact_is_fresh_until_a_source_is_newer() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("target/onrush/x");
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::create_dir_all(&built).unwrap();
        fs::create_dir_all(folder.path().join("src")).unwrap();
        fs::create_dir_all(folder.path().join(".git")).unwrap();
        let at = |path: &Path, seconds: u64| {
            let file = File::options().create(true).append(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        let (source, hidden) = (folder.path().join("src/main.rs"), folder.path().join(".git/index"));
        fs::write(built.join("sources"), outside.path().to_str().unwrap()).unwrap();
        at(&built.join("bootstrap"), 100);
        at(outside.path(), 100);
        at(&source, 100);
        at(&hidden, 300);
        assert!(is_fresh(&built, folder.path()));
        at(&source, 101);
        assert!(!is_fresh(&built, folder.path()));
        at(&source, 99);
        at(outside.path(), 101);
        assert!(!is_fresh(&built, folder.path()), "a path dependency counts");
        drop(outside);
        assert!(!is_fresh(&built, folder.path()), "so does its absence");
    }
}
