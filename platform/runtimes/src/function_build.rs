//! Builds a function's folder as `sam build` does, outside the user's tree: what pip or npm installs for it, or what its
//! makefile makes.
//!
//! ```text
//! DATA/builds/deps-HEX/          what requirements.txt or package.json ask for; made once for the same text and interpreter
//! DATA/builds/code-NAME-HEX/     a function's own files with those, or what make made; never changed once it is there
//! ```

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use rustix::fs::{self as raw, AtFlags, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::{
    RuntimeError, Runtimes,
    install::{Installed, Shelf},
    node, python,
    runtime::{Family, family},
};

/// Folders within folders of a function.
const DEPTH_MAX: usize = 64;
/// Files and folders of a function.
const ENTRIES_MAX: usize = 100_000;
/// How often a folder that changes while it is copied is copied again.
const COPY_TRIES: u32 = 8;
/// How long a build that was replaced stays: an invocation that runs on it takes 900 s at most.
const REPLACED_STAYS: Duration = Duration::from_secs(960);
/// What is no part of a function, by name.
const LEFT_OUT: [&str; 6] = [".aws-sam", ".git", ".gitignore", ".onrush", ".venv", "__pycache__"];

/// What a folder needs before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// pip, for `requirements.txt`.
    Pip,
    /// npm, for `package.json`.
    Npm,
    /// `make build-NAME` with `ARTIFACTS_DIR`. Source: AWS SAM Developer Guide, "Building Lambda functions with custom runtimes".
    Make,
}

/// Why a folder was not built.
#[derive(Debug, thiserror::Error)]
pub enum FunctionBuildError {
    /// pip, npm or make could not; its last complaint.
    #[error("{program} could not build {}: {reason}", .folder.display())]
    Program {
        /// Which.
        program: &'static str,
        /// The function's folder.
        folder: PathBuf,
        /// One line.
        reason: String,
    },
    /// There is no interpreter, or no such runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Files {
        /// The file or folder acted on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Build {
    /// What a function's folder needs; `None`: it runs as it is. So does one where the packages lie already, and what `sam
    /// build` left behind. `make` says that the template asks for a makefile.
    pub fn of(runtime: &str, source: &Path, make: bool) -> Option<Build> {
        if source.iter().any(|part| part == ".aws-sam") {
            return None;
        }
        if make {
            return Some(Build::Make);
        }
        match family(runtime).ok()? {
            Family::Python { .. } => {
                let text = fs::read_to_string(source.join("requirements.txt")).ok()?;
                let asks = text.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
                let has = fs::read_dir(source)
                    .ok()?
                    .flatten()
                    .any(|entry| Path::new(&entry.file_name()).extension() == Some(OsStr::new("dist-info")));
                (asks && !has).then_some(Build::Pip)
            }
            Family::Node { .. } => {
                let text = fs::read_to_string(source.join("package.json")).ok()?;
                let package: serde_json::Value = serde_json::from_str(&text).ok()?;
                let asks = package["dependencies"].as_object().is_some_and(|all| !all.is_empty());
                (asks && !source.join("node_modules").exists()).then_some(Build::Npm)
            }
            Family::Provided => None,
        }
    }
}

impl Runtimes {
    /// Builds a function's folder where something changed since the last time, and answers with the folder to run, which never
    /// changes. `name` is the function's logical id; `progress` is told what takes time.
    ///
    /// # Errors
    /// See [`FunctionBuildError`]. Nothing is left behind then.
    pub fn build_function(
        &self,
        build: Build,
        runtime: &str,
        name: &str,
        source: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, FunctionBuildError> {
        self.build((Some(build), ""), runtime, name, source, progress)
    }

    /// Builds a layer's folder by SAM's `BuildMethod`, a runtime or `makefile`, and answers with the folder that becomes `/opt`: a
    /// runtime's files and packages lie in its own folder there, also where there is nothing to install. `None` where there is
    /// nothing to build: `sam build` has, or the method is none of these. Otherwise as [`Runtimes::build_function`]. Source: AWS
    /// SAM Developer Guide, "Building Lambda layers", published.
    ///
    /// # Errors
    /// See [`FunctionBuildError`]. Nothing is left behind then.
    pub fn build_layer(
        &self,
        method: &str,
        name: &str,
        source: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<Option<PathBuf>, FunctionBuildError> {
        let inside = match (method, family(method)) {
            _ if source.iter().any(|part| part == ".aws-sam") => return Ok(None),
            ("makefile", _) => "",
            (_, Ok(Family::Python { .. })) => "python",
            (_, Ok(Family::Node { .. })) => "nodejs",
            _ => return Ok(None),
        };
        let build = Build::of(method, source, method == "makefile");
        self.build((build, inside), method, name, source, progress).map(Some)
    }

    /// What is built lies in the folder `inside` the one that is answered; a makefile puts it itself.
    fn build(
        &self,
        (build, inside): (Option<Build>, &str),
        runtime: &str,
        name: &str,
        source: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, FunctionBuildError> {
        let packages = match build {
            None | Some(Build::Make) => None,
            Some(Build::Pip) => Some(self.pip_packages(runtime, source, progress)?),
            Some(Build::Npm) => Some(self.npm_packages(runtime, source, progress)?),
        };
        let files = |source| FunctionBuildError::Files { path: self.builds.root().to_owned(), source };
        let mut tries = 1;
        loop {
            let before = fingerprint(source).map_err(files)?;
            let mut hasher = Sha256::new().chain_update(before);
            hasher.update(
                packages.as_ref().map_or(&b""[..], |packages| packages.as_os_str().as_encoded_bytes()),
            );
            hasher.update(inside);
            let folder = format!("code-{name}-{}", hex(&hasher.finalize()[..8]));
            if let Some(built) = self.builds.complete(&folder) {
                return Ok(built);
            }
            let mut changed = false;
            let mut make_failed = None;
            let made = self.builds.install_again(&folder, |staging| {
                let done = if build == Some(Build::Make) {
                    progress(&format!("make build-{name}"));
                    match self.make(name, source, staging, progress) {
                        Ok(()) => Ok(()),
                        Err(reason) => {
                            make_failed = Some(reason);
                            Err(io::Error::other("make"))
                        }
                    }
                } else {
                    let staging = &staging.join(inside);
                    fs::create_dir_all(staging)
                        .and_then(|()| {
                            packages.iter().try_for_each(|packages| link_tree(packages, staging, 0))
                        })
                        .and_then(|()| copy_tree(source, staging, 0))
                        .and_then(
                            |()| if build == Some(Build::Npm) { forget_settings(staging) } else { Ok(()) },
                        )
                };
                // A save that came meanwhile may be in it by half.
                changed = fingerprint(source).map_err(|error| error.to_string())? != before;
                if changed { Err("it changes".to_owned()) } else { done.map_err(|error| error.to_string()) }
            })?;
            match made {
                Installed::Complete => {
                    self.sweep_builds(name, &folder);
                    return Ok(self.builds.root().join(folder));
                }
                Installed::Failed(_) if changed && tries < COPY_TRIES => tries += 1,
                Installed::Failed(reason) => {
                    let (program, reason) = match make_failed {
                        Some(reason) => ("make", reason),
                        None => ("a copy", reason),
                    };
                    return Err(FunctionBuildError::Program { program, folder: source.to_owned(), reason });
                }
            }
        }
    }

    /// Whether a folder is one that [`Runtimes::build_function`] answered with: its path says nothing to the function's owner.
    pub fn is_build(&self, folder: &Path) -> bool {
        let root = self.builds.root();
        folder.starts_with(root) || fs::canonicalize(root).is_ok_and(|root| folder.starts_with(root))
    }

    fn pip_packages(
        &self,
        runtime: &str,
        source: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, FunctionBuildError> {
        let manifest = source.join("requirements.txt");
        let interpreter = python::interpreter(self, runtime)?;
        let folder =
            packages_folder(&["pip", &interpreter.version.to_string()], source, &["requirements.txt"]);
        let installed = self.builds.install(&folder, &[], |staging| {
            progress(&format!("pip install -r requirements.txt, for Python {}", interpreter.version));
            let mut first = None;
            for mut way in python::pip_for_users(&interpreter) {
                way.arg("--target").arg(staging).arg("-r").arg(&manifest).current_dir(source);
                match self.shelf.installers.run(&mut way, progress) {
                    Ok(()) => return Ok(()),
                    Err(complaint) => drop(first.get_or_insert(complaint)),
                }
            }
            Err(first.unwrap_or_else(|| "pip is not installed".to_owned()))
        })?;
        self.installed("pip", source, folder, installed)
    }

    fn npm_packages(
        &self,
        runtime: &str,
        source: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, FunctionBuildError> {
        const MANIFESTS: [&str; 4] = ["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"];
        let interpreter = node::interpreter(self, runtime)?;
        let text = fs::read_to_string(source.join("package.json")).unwrap_or_default();
        // Packages that lie beside the code are part of what decides.
        let local = if text.contains("\"file:") {
            let files = |error| FunctionBuildError::Files { path: source.to_owned(), source: error };
            Some(hex(&fingerprint(source).map_err(files)?))
        } else {
            None
        };
        let version = interpreter.version.major.to_string();
        let words = ["npm", &version, local.as_deref().unwrap_or_default()];
        let folder = packages_folder(&words, source, &MANIFESTS);
        let installed = self.builds.install(&folder, &[], |staging| {
            if local.is_some() {
                copy_tree(source, staging, 0).map_err(|error| error.to_string())?;
            }
            for name in MANIFESTS.iter().filter(|name| source.join(name).is_file()) {
                fs::copy(source.join(name), staging.join(name)).map_err(|error| error.to_string())?;
            }
            let locked = staging.join("package-lock.json").is_file();
            let word = if locked { "ci" } else { "install" };
            progress(&format!("npm {word} --omit=dev, for Node {}", interpreter.version));
            let mut npm = node::npm_command(&interpreter, self.shelf.root());
            npm.args([
                word,
                "--omit=dev",
                "--no-audit",
                "--no-fund",
                "--no-update-notifier",
                "--loglevel=error",
            ]);
            npm.args(["--fetch-retries=1", "--fetch-timeout=15000"]).current_dir(staging);
            let done = self.shelf.installers.run(&mut npm, progress);
            forget_settings(staging).map_err(|error| error.to_string())?;
            done
        })?;
        self.installed("npm", source, folder, installed)
    }

    fn installed(
        &self,
        program: &'static str,
        source: &Path,
        folder: String,
        installed: Installed,
    ) -> Result<PathBuf, FunctionBuildError> {
        match installed {
            Installed::Complete => Ok(self.builds.root().join(folder)),
            Installed::Failed(reason) => {
                Err(FunctionBuildError::Program { program, folder: source.to_owned(), reason })
            }
        }
    }

    /// Runs the makefile on a copy of the sources, so that what it leaves beside them is not in the user's tree.
    fn make(
        &self,
        name: &str,
        source: &Path,
        artifacts: &Path,
        progress: &dyn Fn(&str),
    ) -> Result<(), String> {
        let scratch = self.builds.root().join(format!(".make-{name}"));
        let copied = crate::install::remove_all(&scratch)
            .and_then(|()| fs::create_dir_all(&scratch))
            .and_then(|()| copy_tree(source, &scratch, 0));
        copied.map_err(|error| error.to_string())?;
        let mut make = Command::new("make");
        make.arg(format!("build-{name}")).env("ARTIFACTS_DIR", artifacts).current_dir(&scratch);
        // Of the make that started us, if one did.
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        let made = self.shelf.installers.run(&mut make, progress);
        // What could not be removed is removed by the next run.
        let _ = crate::install::remove_all(&scratch);
        made
    }

    /// Removes a function's builds that were replaced long ago.
    fn sweep_builds(&self, name: &str, current: &str) {
        let of_function = |folder: &str| {
            folder.strip_prefix(&format!("code-{name}-")).is_some_and(|rest| !rest.contains('-'))
                && folder != current
        };
        let Ok(entries) = fs::read_dir(self.builds.root()) else { return };
        let mut others: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(of_function))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        others.sort();
        // The newest was in use until now: its time begins.
        if let Some((_, newest)) = others.pop() {
            let _ = File::open(newest).and_then(|folder| folder.set_modified(SystemTime::now()));
        }
        let is_old = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > REPLACED_STAYS);
        for (_, folder) in others.iter().filter(|(at, _)| is_old(at)) {
            let _ = crate::install::remove_all(folder);
        }
    }
}

/// Named after what decides what is in it.
fn packages_folder(words: &[&str], source: &Path, manifests: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update(word);
        hasher.update([0]);
    }
    for name in manifests {
        let content = fs::read(source.join(name)).unwrap_or_default();
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    format!("deps-{}", hex(&hasher.finalize()[..16]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes with every save: names, modes, sizes and times.
fn fingerprint(source: &Path) -> io::Result<[u8; 32]> {
    fn walk(folder: &Path, depth: usize, entries: &mut usize, hasher: &mut Sha256) -> io::Result<()> {
        for (name, path) in sorted(folder, depth)? {
            *entries += 1;
            if *entries > ENTRIES_MAX {
                return Err(io::Error::other("too many files for a function"));
            }
            let about = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                about => about?,
            };
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name.as_encoded_bytes());
            hasher.update(about.mode().to_le_bytes());
            if about.is_dir() {
                walk(&path, depth + 1, entries, hasher)?;
                hasher.update(b"/");
            } else {
                hasher.update(about.len().to_le_bytes());
                hasher.update(about.mtime().to_le_bytes());
                hasher.update(about.mtime_nsec().to_le_bytes());
            }
        }
        Ok(())
    }
    let mut hasher = Sha256::new();
    walk(source, 0, &mut 0, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// A folder's entries that are part of a function.
fn sorted(folder: &Path, depth: usize) -> io::Result<Vec<(std::ffi::OsString, PathBuf)>> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("too many folders within folders for a function"));
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
            all.push((name, entry.path()));
        }
    }
    all.sort();
    Ok(all)
}

/// The user's own files, over what lies there. Nothing is followed that is swapped for a link meanwhile.
fn copy_tree(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    copy_open(&open(raw::CWD, from.as_os_str(), OFlags::DIRECTORY)?, to, depth)
}

fn copy_open(from: &OwnedFd, to: &Path, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("too many folders within folders for a function"));
    }
    for entry in raw::Dir::read_from(from)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let target = to.join(name);
        let kind = FileType::from_raw_mode(raw::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        if kind.is_dir() {
            fs::create_dir_all(&target)?;
            copy_open(&open(from, name, OFlags::DIRECTORY | OFlags::NOFOLLOW)?, &target, depth + 1)?;
            continue;
        }
        match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if kind.is_symlink() {
            let link = raw::readlinkat(from, name, Vec::new())?;
            std::os::unix::fs::symlink(OsStr::from_bytes(link.to_bytes()), &target)?;
        } else if kind.is_file() {
            let mut file = File::from(open(from, name, OFlags::NOFOLLOW | OFlags::NONBLOCK)?);
            let permissions = file.metadata()?.permissions();
            let mut copied = File::create(&target)?;
            io::copy(&mut file, &mut copied)?;
            copied.set_permissions(permissions)?;
        }
    }
    Ok(())
}

fn open(at: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(raw::openat(at, name, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// npm's settings, and the tokens in them, are for the build: `sam build` takes them out of what is deployed, too.
fn forget_settings(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(".npmrc")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Packages, which nobody changes: the files are the same.
fn link_tree(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("too many folders within folders"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir_all(&target)?;
            link_tree(&entry.path(), &target, depth + 1)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::hard_link(entry.path(), &target)?;
        }
    }
    Ok(())
}

impl Shelf {
    /// As `install`, but what failed once is tried again at once.
    fn install_again(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<Installed, RuntimeError> {
        let installed = self.install(name, &[], make)?;
        if let Installed::Failed(_) = installed {
            self.forget_failure(name);
        }
        Ok(installed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn a_folder_says_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path();
        let of = |runtime| Build::of(runtime, source, false);
        assert_eq!((of("python3.13"), of("nodejs22.x")), (None, None));
        write(source, "requirements.txt", "# none\n\n");
        write(source, "package.json", r#"{"devDependencies": {"a": "1"}}"#);
        assert_eq!((of("python3.13"), of("nodejs22.x")), (None, None));
        write(source, "requirements.txt", "requests\n");
        write(source, "package.json", r#"{"dependencies": {"a": "1"}}"#);
        assert_eq!((of("python3.13"), of("nodejs22.x")), (Some(Build::Pip), Some(Build::Npm)));
        assert_eq!((of("provided.al2023"), of("cobol")), (None, None));
        assert_eq!(Build::of("provided.al2023", source, true), Some(Build::Make));
        write(source, "node_modules/a/index.js", "");
        write(source, "requests-2.0.dist-info/METADATA", "");
        assert_eq!((of("python3.13"), of("nodejs22.x")), (None, None), "they lie there already");
        let built = source.join(".aws-sam/build/Cart");
        write(&built, "requirements.txt", "requests\n");
        assert_eq!(Build::of("python3.13", &built, false), None);
        assert_eq!(Build::of("python3.13", &built, true), None, "its makefile lies elsewhere");
    }

    #[test]
    fn a_makefile_makes_what_runs_and_leaves_the_tree_alone() {
        let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let source = folder.path();
        write(
            source,
            "Makefile",
            "build-Cart:\n\techo made > left\n\tcp app.sh $(ARTIFACTS_DIR)/bootstrap\n\techo $(ARTIFACTS_DIR) > $(ARTIFACTS_DIR)/place\nbuild-Bad:\n\t@echo no luck >&2; false\n",
        );
        write(source, "app.sh", "one");
        let runtimes = Runtimes::open(data.path(), false);
        let build = |name| runtimes.build_function(Build::Make, "provided.al2023", name, source, &|_| {});
        let first = build("Cart").unwrap();
        assert_eq!(fs::read_to_string(first.join("bootstrap")).unwrap(), "one");
        let place = fs::read_to_string(first.join("place")).unwrap();
        assert!(place.starts_with('/') && !place.ends_with("/\n"), "as SAM gives it: {place}");
        assert_eq!(build("Cart").unwrap(), first, "nothing changed");
        assert!(!source.join("left").exists());
        write(source, "app.sh", "other");
        let second = build("Cart").unwrap();
        assert_ne!(second, first);
        assert_eq!(fs::read_to_string(second.join("bootstrap")).unwrap(), "other");
        assert!(first.join("bootstrap").is_file(), "environments may still run on it");
        for _ in 0..2 {
            let error = build("Bad").unwrap_err().to_string();
            assert!(error.contains("make could not build") && error.contains("Error 1"), "{error}");
        }
    }

    #[test]
    fn a_folder_that_is_swapped_for_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (source, outside, target) =
            (folder.path().join("s"), folder.path().join("o"), folder.path().join("t"));
        for (below, text) in [(&source, "inside"), (&outside, "outside")] {
            write(below, "lib/word", text);
            write(below, "word", text);
        }
        fs::create_dir(&target).unwrap();
        let opened = open(raw::CWD, source.as_os_str(), OFlags::DIRECTORY).unwrap();
        // As late as can be: what the path leads to has been swapped, and what is open has not.
        fs::rename(&source, folder.path().join("away")).unwrap();
        std::os::unix::fs::symlink(&outside, &source).unwrap();
        copy_open(&opened, &target, 0).unwrap();
        for word in ["word", "lib/word"] {
            assert_eq!(fs::read_to_string(target.join(word)).unwrap(), "inside");
        }
        fs::remove_dir_all(folder.path().join("away/lib")).unwrap();
        std::os::unix::fs::symlink(outside.join("lib"), folder.path().join("away/lib")).unwrap();
        assert!(open(&opened, OsStr::new("lib"), OFlags::DIRECTORY | OFlags::NOFOLLOW).is_err());
    }

    #[test]
    fn own_files_lie_over_packages_and_packages_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (packages, source, target) =
            (folder.path().join("p"), folder.path().join("s"), folder.path().join("t"));
        write(&packages, "lib/a.py", "package");
        write(&packages, "app.py", "package");
        write(&source, "app.py", "own");
        write(&source, ".git/index", "");
        fs::create_dir(&target).unwrap();
        link_tree(&packages, &target, 0).unwrap();
        copy_tree(&source, &target, 0).unwrap();
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(
            (read(target.join("app.py")), read(target.join("lib/a.py"))),
            ("own".into(), "package".into())
        );
        assert_eq!(read(packages.join("app.py")), "package");
        assert!(!target.join(".git").exists());
    }
}
