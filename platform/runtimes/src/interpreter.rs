//! Interpreters installed on this machine: where to look, and what one says of itself when run.

use crate::{Runtimes, barrier, node, python};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Most candidates that are run for one runtime before giving up; a machine has a handful.
const CANDIDATES_MAX: usize = 64;
/// Folders of the host that every sandbox sees at the same path; what lies there needs no bind.
const SHARED_WITH_SANDBOX: [&str; 1] = ["/usr"];
/// Where AWS's images keep the language, and where a prefix from elsewhere is bound.
pub(crate) const LANGUAGE_ROOT: &str = "/var/lang";

/// `3.11.7` or `20.20.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Version {
    /// Reads `3.11.7`, `v20.20.2`, `3.12`, and ignores what follows the numbers (`3.14.0rc1`).
    pub(crate) fn read(text: &str) -> Option<Version> {
        let mut numbers = text.trim_start_matches('v').splitn(3, '.').map(|part| {
            let digits = part.len() - part.trim_start_matches(|it: char| it.is_ascii_digit()).len();
            part[..digits].parse::<u32>().ok()
        });
        let major = numbers.next()??;
        Some(Version {
            major,
            minor: numbers.next().flatten().unwrap_or(0),
            patch: numbers.next().flatten().unwrap_or(0),
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// An interpreter that was run and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub(crate) version: Version,
    /// The real program on the host, not a shim.
    pub(crate) program: PathBuf,
    /// The real installation folder on the host.
    pub(crate) prefix: PathBuf,
    /// Folders below the prefix or `/usr` that hold the host's packages, to be hidden.
    pub(crate) package_folders: Vec<PathBuf>,
}

impl Interpreter {
    /// Whether the prefix must be bound, or is seen by every sandbox anyway.
    pub(crate) fn is_shared(&self) -> bool {
        SHARED_WITH_SANDBOX.iter().any(|shared| self.prefix.starts_with(shared))
    }

    /// Where a host path of this interpreter lies inside the sandbox.
    pub(crate) fn inside(&self, host: &Path) -> Option<String> {
        if self.is_shared() {
            return Some(host.to_str()?.to_owned());
        }
        let below = host.strip_prefix(&self.prefix).ok()?.to_str()?;
        Some(format!("{LANGUAGE_ROOT}/{below}"))
    }
}

/// A program that may be an interpreter, with the version its name or folder promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) program: PathBuf,
    pub(crate) promised: Option<Version>,
}

/// Answers already found, by runtime identifier: which interpreter, and the warning that goes with it.
#[derive(Debug, Default)]
pub(crate) struct Interpreters {
    pub(crate) known: HashMap<String, (Interpreter, Option<String>)>,
}

/// The places to look in; a value, so that tests can point it elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The folders of `PATH`, and the usual ones after them.
    pub(crate) path: Vec<PathBuf>,
    /// The user's home, below which version managers install.
    pub(crate) home: Option<PathBuf>,
}

impl Places {
    /// This process's `PATH` and `HOME`.
    pub(crate) fn of_this_process() -> Places {
        let mut path: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
        path.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
        let mut seen = BTreeSet::new();
        path.retain(|folder| folder.is_absolute() && seen.insert(folder.clone()));
        Places { path, home: env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) }
    }

    /// Programs below version managers' folders: each `managers` entry is a folder that holds one folder
    /// per version; `program` is the path below it. The version is read out of the folder's name.
    pub(crate) fn managed(&self, managers: &[&str], program: &str) -> Vec<Candidate> {
        let Some(home) = &self.home else { return Vec::new() };
        let mut found: Vec<Candidate> = managers
            .iter()
            .filter_map(|manager| fs::read_dir(home.join(manager)).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let digits = name.find(|it: char| it.is_ascii_digit())?;
                let promised = Version::read(&name[digits..])?;
                let program = entry.path().join(program);
                program.is_file().then_some(Candidate { program, promised: Some(promised) })
            })
            .take(CANDIDATES_MAX)
            .collect();
        found.sort_by(|a, b| b.promised.cmp(&a.promised).then(a.program.cmp(&b.program)));
        found
    }

    /// Programs on `PATH` whose name `promise` accepts, in the order of `PATH`. Shims are passed over:
    /// what they stand for is found by [`Places::managed`], without running a shell each time.
    pub(crate) fn on_path(&self, promise: impl Fn(&str) -> Option<Option<Version>>) -> Vec<Candidate> {
        let is_shim = |folder: &Path| folder.components().any(|part| part.as_os_str() == OsStr::new("shims"));
        let mut found = Vec::new();
        for folder in self.path.iter().filter(|folder| !is_shim(folder)) {
            let mut names: Vec<String> = fs::read_dir(folder)
                .into_iter()
                .flat_map(|entries| entries.flatten())
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect();
            names.sort();
            found.extend(names.iter().filter_map(|name| {
                let promised = promise(name)?;
                Some(Candidate { program: folder.join(name), promised })
            }));
        }
        found.truncate(CANDIDATES_MAX);
        found
    }

    /// For messages: where an interpreter was looked for.
    pub(crate) fn describe(&self, managers: &[&str]) -> Vec<String> {
        let mut all = vec!["PATH".to_owned()];
        all.extend(managers.iter().map(|manager| format!("~/{manager}")));
        all
    }
}

/// The nearest interpreter of those that are accepted; for `for_others`, the nearest that other users can reach, if there is
/// any, and what to say where it is another version, or none is reached.
pub(crate) fn for_users(
    runtimes: &Runtimes,
    (runtime, language): (&str, &str),
    nearest: impl Fn(&dyn Fn(&Interpreter) -> bool) -> Option<Interpreter>,
) -> Option<(Interpreter, Option<String>)> {
    let found = nearest(&|_| true)?;
    let closed = runtimes.for_others.then(|| barrier(&found.program)).flatten();
    let Some(folder) = closed else { return Some((found, None)) };
    let (program, folder) = (found.program.display(), folder.display());
    let why = format!(
        "{runtime}: {program} ({language} {}) cannot be reached: with --isolation process functions run as another user, who \
         may not enter {folder}",
        found.version
    );
    let open = |it: &Interpreter| barrier(&it.program).is_none();
    Some(match (!runtimes.strict).then(|| nearest(&open)).flatten() {
        Some(other) if other.version == found.version => (other, None),
        Some(other) => {
            let version = other.version;
            (
                other,
                Some(format!(
                    "{why}; running on the nearest that can be, {language} {version}; chmod o+x {folder} opens the other"
                )),
            )
        }
        None => {
            let cure = format!("{why}: chmod o+x {folder}, or install {language} elsewhere");
            (found, Some(cure))
        }
    })
}

/// Programs of Python and Node.js on this machine that other users cannot reach, by the folder that is closed to them. None is
/// run.
pub fn closed_to_others() -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let places = Places::of_this_process();
    let mut all: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for candidate in python::candidates(&places).into_iter().chain(node::candidates(&places)) {
        let Ok(program) = fs::canonicalize(&candidate.program) else { continue };
        let Some(folder) = barrier(&program) else { continue };
        let found = all.entry(folder).or_default();
        if !found.contains(&program) {
            found.push(program);
        }
    }
    all
}

/// Runs a program that prints one line per fact, with a bare environment; `None` if it fails.
pub(crate) fn ask(program: &Path, arguments: &[&str]) -> Option<Vec<String>> {
    let home = env::var_os("HOME").unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([("HOME", home), ("PATH", path)])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().map(str::to_owned).collect())
}

/// The nearest of several versions: the exact one, else the smallest distance, newer before older.
pub(crate) fn by_distance(wanted: u32, found: u32) -> (u32, bool) {
    (wanted.abs_diff(found), found < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_folder_names() {
        let read = |text| Version::read(text).map(|it| it.to_string());
        assert_eq!(read("3.11.7").as_deref(), Some("3.11.7"));
        assert_eq!(read("v20.20.2").as_deref(), Some("20.20.2"));
        assert_eq!(read("3.14.0rc1").as_deref(), Some("3.14.0"));
        assert_eq!(read("3.12-dev").as_deref(), Some("3.12.0"));
        assert_eq!(read("pypy"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn version_managers_offer_their_newest_first() {
        let home = tempfile::tempdir().unwrap();
        for version in ["3.9.1", "3.11.2", "3.11.10"] {
            let bin = home.path().join(".pyenv/versions").join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("python3"), "").unwrap();
        }
        let places = Places { path: Vec::new(), home: Some(home.path().to_owned()) };
        let found = places.managed(&[".pyenv/versions", ".absent"], "bin/python3");
        let versions: Vec<String> = found.iter().filter_map(|it| Some(it.promised?.to_string())).collect();
        assert_eq!(versions, ["3.11.10", "3.11.2", "3.9.1"]);
    }

    #[test]
    fn shims_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let folders = [root.path().join("shims"), root.path().join("bin")];
        for folder in &folders {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("node"), "").unwrap();
        }
        let places = Places { path: folders.to_vec(), home: None };
        let found = places.on_path(|name| (name == "node").then_some(None));
        assert_eq!(found, [Candidate { program: folders[1].join("node"), promised: None }]);
    }

    #[test]
    fn the_nearest_version_is_the_newer_of_two_equally_far() {
        let mut found = vec![9, 11, 13];
        found.sort_by_key(|it| by_distance(12, *it));
        assert_eq!(found, [13, 11, 9]);
    }

    #[test]
    fn what_other_users_reach_comes_before_what_is_nearer() {
        let home = tempfile::tempdir().unwrap();
        let mode = |folder: &Path, mode| {
            fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        mode(home.path(), 0o755);
        let made = |folder: &str, minor| {
            let prefix = home.path().join(folder);
            fs::create_dir_all(prefix.join("bin")).unwrap();
            let program = prefix.join("bin/python3");
            fs::write(&program, "").unwrap();
            let version = Version { major: 3, minor, patch: 1 };
            Interpreter { version, program, prefix, package_folders: Vec::new() }
        };
        let (near, far) = (made("root/pyenv", 13), made("usr", 11));
        let closed = fs::canonicalize(home.path().join("root")).unwrap();
        let all = [near.clone(), far.clone()];
        let some = |some: &[Interpreter], strict, for_others| {
            let runtimes = Runtimes::open(home.path(), strict);
            let runtimes = if for_others { runtimes.for_others() } else { runtimes };
            for_users(&runtimes, ("python3.13", "Python"), |accept| {
                some.iter().find(|it| accept(it)).cloned()
            })
        };
        mode(&closed, 0o700);
        assert_eq!(some(&all, false, false), Some((near.clone(), None)));
        let (found, warning) = some(&all, false, true).unwrap();
        let warning = warning.unwrap();
        assert_eq!(found, far);
        for part in [
            "Python 3.13.1",
            "running on the nearest that can be, Python 3.11.1",
            &format!("chmod o+x {}", closed.display()),
        ] {
            assert!(warning.contains(part), "{warning}");
        }
        for (there, strict) in [(&all[..1], false), (&all[..], true)] {
            let (found, warning) = some(there, strict, true).unwrap();
            let warning = warning.unwrap();
            assert!(
                found == near && warning.contains(": chmod o+x ") && !warning.contains("running on"),
                "{warning}"
            );
        }
        let same = Interpreter { version: near.version, ..far };
        assert_eq!(some(&[near.clone(), same.clone()], false, true), Some((same, None)));
        mode(&closed, 0o711);
        assert_eq!(some(&all, false, true), Some((near, None)));
    }

    #[test]
    fn only_what_the_sandbox_cannot_see_moves_to_var_lang() {
        let at = |prefix: &str, program: &str| Interpreter {
            version: Version { major: 3, minor: 11, patch: 0 },
            program: program.into(),
            prefix: prefix.into(),
            package_folders: Vec::new(),
        };
        let system = at("/usr", "/usr/bin/python3.11");
        assert_eq!(system.inside(&system.program).as_deref(), Some("/usr/bin/python3.11"));
        let managed = at("/home/u/.pyenv/versions/3.11.7", "/home/u/.pyenv/versions/3.11.7/bin/python3.11");
        assert_eq!(managed.inside(&managed.program).as_deref(), Some("/var/lang/bin/python3.11"));
        assert_eq!(managed.inside(Path::new("/etc/passwd")), None);
    }
}
