//! What was installed once, kept for the user: the next data directory links it instead of asking the network again.
//!
//! ```text
//! $XDG_CACHE_HOME/onrush/runtimes/python3.13-5f2c9a01d4e7/     complete if it exists; named after what it was made of
//! ```
//!
//! A folder that is not ours alone to write is not used: what lies in it will run as every function's runtime. Entries are
//! linked file by file, so a data directory stays whole when the cache is removed, and nothing in a cache is ever
//! changed: files are replaced, not written to.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::install::remove_all;

/// Files of one entry; the SDKs have some thousands.
const FILES_MAX: usize = 200_000;

/// The user's cache of installed runtimes.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Of the user who runs this process: below `XDG_CACHE_HOME`, else `HOME/.cache`. `None` for a user without either.
    pub(crate) fn of_this_user() -> Option<Cache> {
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(Cache::at(caches.join("onrush/runtimes")))
    }

    pub(crate) fn at(root: PathBuf) -> Cache {
        Cache { root }
    }

    /// Copies an entry to `target`, which must not exist. `false` when there is none that can be trusted; what was
    /// copied by then is for the caller to remove.
    pub(crate) fn take(&self, name: &str, recipe: &[&str], target: &Path) -> bool {
        let entry = self.entry(name, recipe);
        ours_alone(&self.root) && ours_alone(&entry) && copy(&entry, target).is_ok()
    }

    /// Keeps a copy of a complete installation. Not being able to is nobody's concern.
    pub(crate) fn put(&self, name: &str, recipe: &[&str], made: &Path) {
        let entry = self.entry(name, recipe);
        let made_root = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        if made_root.is_err() || !ours_alone(&self.root) || entry.exists() {
            return;
        }
        let staging = self.root.join(format!(".staging-{name}-{}", std::process::id()));
        let kept = copy(made, &staging).and_then(|()| fs::rename(&staging, &entry));
        if kept.is_err() {
            drop(remove_all(&staging));
        }
    }

    fn entry(&self, name: &str, recipe: &[&str]) -> PathBuf {
        let mut hash = Sha256::new();
        for part in recipe {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        self.root.join(format!("{name}-{digest}"))
    }
}

/// A folder, no link, that belongs to this user and that nobody else may write to.
fn ours_alone(folder: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == user && found.permissions().mode() & 0o022 == 0)
}

/// Links every file, or copies it where links do not reach.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    let mut files = 0;
    while let Some((from, to)) = folders.pop() {
        fs::DirBuilder::new().mode(0o755).create(&to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            files += 1;
            if files > FILES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push((from, to));
            } else if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
            } else if kind.is_file() {
                fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_for_the_same_recipe_alone() {
        let top = tempfile::tempdir().unwrap();
        let cache = Cache::at(top.path().join("cache"));
        let made = top.path().join("made");
        fs::create_dir_all(made.join("deep")).unwrap();
        fs::write(made.join("deep/file"), "x").unwrap();
        std::os::unix::fs::symlink("deep/file", made.join("link")).unwrap();
        cache.put("p", &["boto3"], &made);
        let out = |name: &str| top.path().join(name);
        assert!(cache.take("p", &["boto3"], &out("a")));
        assert_eq!(fs::read_to_string(out("a").join("deep/file")).unwrap(), "x");
        assert_eq!(fs::read_link(out("a").join("link")).unwrap(), Path::new("deep/file"));
        assert!(!cache.take("p", &["boto3", "requests"], &out("b")));
        assert!(!cache.take("q", &["boto3"], &out("b")));
    }

    #[test]
    fn a_cache_that_others_may_write_is_not_used() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("cache");
        let cache = Cache::at(root.clone());
        let made = top.path().join("made");
        fs::create_dir_all(&made).unwrap();
        cache.put("p", &[], &made);
        for folder in [root.clone(), cache.entry("p", &[])] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
            assert!(!cache.take("p", &[], &top.path().join("out")));
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let elsewhere = top.path().join("elsewhere");
        fs::rename(&root, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &root).unwrap();
        assert!(!cache.take("p", &[], &top.path().join("out")));
        fs::remove_file(&root).unwrap();
        fs::rename(&elsewhere, &root).unwrap();
        assert!(cache.take("p", &[], &top.path().join("out")));
    }
}
