//! The shelf of installed runtimes in the data directory: made once, all or nothing, shared by all.
//!
//! ```text
//! DATA/runtimes/python3.13/          what /var/runtime shows; complete if it exists
//! DATA/runtimes/python3.13-bare/     Onrush's own bootstrap alone, while the above is not there
//! DATA/runtimes/empty/               hides the host's packages
//! DATA/runtimes/.staging-…           being made; removed by whoever finds it under the lock
//! DATA/runtimes/.lock-python3.13     held while installing, also against other processes
//! ```
//!
//! What was installed for one data directory is linked into the next from the user's cache, see `cache`.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use crate::{RuntimeError, cache::Cache, installer::Installers};

/// A failed installation is not tried again for this long.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(60);

/// The folder of installed runtimes.
#[derive(Debug)]
pub(crate) struct Shelf {
    root: PathBuf,
    cache: Option<Cache>,
    pub(crate) installers: Installers,
    failures: Mutex<HashMap<String, (Instant, String)>>,
}

/// How an installation ended.
pub(crate) enum Installed {
    /// The folder is complete; made now or before.
    Complete,
    /// It could not be made, for this reason (one line).
    Failed(String),
}

impl Shelf {
    pub(crate) fn new(data_dir: &Path, cache: Option<Cache>) -> Shelf {
        Shelf::below(data_dir, "runtimes", cache)
    }

    /// The shelf in that folder of the data directory.
    pub(crate) fn below(data_dir: &Path, folder: &str, cache: Option<Cache>) -> Shelf {
        // Binds need absolute paths; a data directory is usually given as `.onrush`.
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Shelf {
            root: data_dir.join(folder),
            cache,
            installers: Installers::default(),
            failures: Mutex::default(),
        }
    }

    /// Where everything lies.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Lets a failed installation be tried again at once.
    pub(crate) fn forget_failure(&self, name: &str) {
        self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(name);
    }

    /// The complete installation of this name, if there is one.
    pub(crate) fn complete(&self, name: &str) -> Option<PathBuf> {
        let folder = self.root.join(name);
        folder.is_dir().then_some(folder)
    }

    /// A folder of this name, made if need be; for what needs no installation.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, RuntimeError> {
        let folder = self.root.join(name);
        if folder.is_dir() {
            return Ok(folder);
        }
        // Not as the umask has it: functions run as other users.
        let open = |folder: &Path| fs::set_permissions(folder, Permissions::from_mode(0o755));
        fs::create_dir_all(&folder)
            .and_then(|()| open(&self.root))
            .and_then(|()| open(&folder))
            .map_err(|source| RuntimeError::Files { path: folder.clone(), source })?;
        Ok(folder)
    }

    /// Makes an installation unless it is there, or in the user's cache, made from the same `recipe`. `make` fills a
    /// staging folder and answers with one line when it cannot; the folder is then given to everyone to read, flushed by
    /// renaming it into place.
    pub(crate) fn install(
        &self,
        name: &str,
        recipe: &[&str],
        make: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<Installed, RuntimeError> {
        if self.complete(name).is_some() {
            return Ok(Installed::Complete);
        }
        if let Some(reason) = self.recent_failure(name) {
            return Ok(Installed::Failed(reason));
        }
        let _lock = self.lock(name)?;
        if self.complete(name).is_some() {
            return Ok(Installed::Complete);
        }
        let staging = self.root.join(format!(".staging-{name}"));
        let files = |source| RuntimeError::Files { path: staging.clone(), source };
        remove_all(&staging).map_err(files)?;
        if self.cache.as_ref().is_some_and(|cache| cache.take(name, recipe, &staging)) {
            fs::rename(&staging, self.root.join(name)).map_err(files)?;
            return Ok(Installed::Complete);
        }
        remove_all(&staging).map_err(files)?;
        fs::create_dir(&staging).map_err(files)?;
        match make(&staging) {
            Ok(()) => {
                readable_by_all(&staging).map_err(files)?;
                if let Some(cache) = &self.cache {
                    cache.put(name, recipe, &staging);
                }
                fs::rename(&staging, self.root.join(name)).map_err(files)?;
                Ok(Installed::Complete)
            }
            Err(reason) => {
                remove_all(&staging).map_err(files)?;
                self.remember_failure(name, &reason);
                Ok(Installed::Failed(reason))
            }
        }
    }

    fn lock(&self, name: &str) -> Result<File, RuntimeError> {
        let path = self.folder("")?.join(format!(".lock-{name}"));
        let locked =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).and_then(|file| {
                flock(&file, FlockOperation::LockExclusive).map(|()| file).map_err(io::Error::from)
            });
        locked.map_err(|source| RuntimeError::Files { path, source })
    }

    fn recent_failure(&self, name: &str) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failures
            .get(name)
            .filter(|(at, _)| at.elapsed() < FAILURE_REMEMBERED)
            .map(|(_, reason)| reason.clone())
    }

    fn remember_failure(&self, name: &str, reason: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failures.insert(name.to_owned(), (Instant::now(), reason.to_owned()));
    }
}

/// Writes a file all or nothing, and only when its content differs; readable by everyone.
pub(crate) fn place(folder: &Path, name: &str, content: &[u8]) -> Result<(), RuntimeError> {
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let staged = staged(folder, name);
    fs::write(&staged, content)
        .and_then(|()| fs::set_permissions(&staged, Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&staged, &path))
        .map_err(|source| RuntimeError::Files { path, source })
}

/// Where a file is made before it is renamed into place: whoever makes the same at once, in a thread or process, has another.
pub(crate) fn staged(folder: &Path, name: &str) -> PathBuf {
    static MADE: AtomicU64 = AtomicU64::new(0);
    folder.join(format!(".{name}.{}.{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Folders 0755, files 0644 or 0755: a sandbox runs as a user of its own, whatever the umask was here.
fn readable_by_all(path: &Path) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if about.is_symlink() {
        return Ok(());
    }
    let executable = about.is_dir() || about.permissions().mode() & 0o111 != 0;
    fs::set_permissions(path, Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            readable_by_all(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_made_once_and_all_or_nothing() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(data.path(), None);
        let failed = shelf.install("x", &[], |staging| {
            fs::write(staging.join("half"), "").unwrap();
            Err("no network".to_owned())
        });
        assert!(matches!(failed, Ok(Installed::Failed(reason)) if reason == "no network"));
        assert_eq!(shelf.complete("x"), None);
        let again = shelf.install("x", &[], |_| panic!("tried again at once"));
        assert!(matches!(again, Ok(Installed::Failed(_))));

        let shelf = Shelf::new(data.path(), None);
        let made = shelf.install("x", &[], |staging| {
            assert!(!staging.join("half").exists());
            fs::write(staging.join("whole"), "").map_err(|error| error.to_string())?;
            fs::set_permissions(staging.join("whole"), Permissions::from_mode(0o600))
                .map_err(|it| it.to_string())
        });
        assert!(matches!(made, Ok(Installed::Complete)));
        let whole = shelf.complete("x").unwrap().join("whole");
        assert_eq!(fs::metadata(whole).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(matches!(shelf.install("x", &[], |_| panic!("made twice")), Ok(Installed::Complete)));
    }

    #[test]
    fn concurrent_callers_wait_for_the_first() {
        let data = tempfile::tempdir().unwrap();
        let made = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // Each its own shelf, as separate processes have.
                    let shelf = Shelf::new(data.path(), None);
                    let installed = shelf.install("x", &[], |_| {
                        made.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    });
                    assert!(matches!(installed, Ok(Installed::Complete)));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
    #[test]
    fn a_file_may_be_placed_by_several_at_once() {
        let data = tempfile::tempdir().unwrap();
        for round in 0..200 {
            let (name, start) = (format!("index-{round}"), std::sync::Barrier::new(4));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        place(data.path(), &name, &[0; 4096]).unwrap();
                    });
                }
            });
        }
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 200, "nothing is left beside");
    }
}
