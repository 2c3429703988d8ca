//! What an earlier run may have left behind, and the lock that keeps two runs out of one state folder.
//!
//! Processes, mounts, loop devices and network namespaces end with the jailer. Control groups do not, so
//! their folders are written down before they are made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::cgroup;

/// Every control group folder of ours is named so; nothing else is ever removed.
pub(crate) const SESSION_PREFIX: &str = "onrush-";
/// How long a dying predecessor may take to clean up.
const PREDECESSOR: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// Begins the record's first line.
const OF: &str = "of ";

/// Takes the folder for this run. The lock goes when the last copy of the descriptor does, so it is the
/// jailer that holds it.
///
/// # Errors
/// `WouldBlock` when another run holds the folder.
pub(crate) fn lock(state_dir: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(state_dir.join("lock"))?;
    let deadline = Instant::now() + PREDECESSOR;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what the record names, `lock` being this folder's. Images for `/tmp` are no leftovers: they are taken up, see
/// `temporary`. A record that came with a copy of another folder, or is of an earlier boot, names groups that may be a living
/// platform's by now: nothing of it is touched.
pub(crate) fn clear(state_dir: &Path, lock: &File) -> io::Result<()> {
    let record = state_dir.join("leftovers");
    let text = match fs::read_to_string(&record) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let until = Instant::now() + PREDECESSOR;
    let of = text.lines().next().and_then(|line| line.strip_prefix(OF));
    let own = match of {
        Some(of) => of == identity(lock)?,
        // Of an Onrush that did not say yet.
        None => true,
    };
    for folder in text.lines().filter(|_| own).map(Path::new).filter(|folder| ours(folder)) {
        cgroup::clear_folder(folder, until)?;
    }
    match fs::remove_file(&record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the empty groups of sessions that ended without cleaning up and whose state folder may be gone: of platforms
/// that were killed and never started again. Nothing is killed: a group with a process in it stays.
pub(crate) fn sweep(parents: &[PathBuf]) {
    for parent in parents {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().and_then(session_process).is_some_and(|process| !is_alive(process)) {
                drop(remove_empty(&entry.path()));
            }
        }
    }
}

/// The process that made a session's folder: `onrush-123` or `onrush-123-platform`.
fn session_process(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(SESSION_PREFIX)?;
    rest.strip_suffix("-platform").unwrap_or(rest).parse().ok()
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// Removes a folder of groups, innermost first; the kernel refuses where a process is left.
fn remove_empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// Writes down what will have to be removed.
pub(crate) fn record(state_dir: &Path, lock: &File, folders: &[PathBuf]) -> io::Result<()> {
    let mut text = format!("{OF}{}\n", identity(lock)?);
    for folder in folders {
        text.push_str(&folder.to_string_lossy());
        text.push('\n');
    }
    fs::write(state_dir.join("leftovers"), text)
}

/// What no copy of the folder has, and this folder not after the next boot: the boot, and the lock's device and inode.
fn identity(lock: &File) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let file = lock.metadata()?;
    Ok(format!("{} {}:{}", boot.trim(), file.dev(), file.ino()))
}

/// A damaged record must not make us remove anything else.
fn ours(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    folder.is_absolute() && name.is_some_and(|name| name.starts_with(SESSION_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_ours_are_cleared() {
        let state = std::env::temp_dir().join(format!("sandbox-leftovers-{}", std::process::id()));
        let ours = state.join("onrush-1");
        let group = ours.join("e1");
        let other = state.join("other");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(&other).unwrap();
        let held = lock(&state).unwrap();
        record(&state, &held, &[ours.clone(), other.clone(), PathBuf::from("onrush-relative")]).unwrap();
        clear(&state, &held).unwrap();
        assert!(!group.exists());
        assert!(other.exists());
        assert!(!state.join("leftovers").exists());
        clear(&state, &held).unwrap();
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_copied_folder_does_not_clear_the_groups_of_its_origin() {
        let top = std::env::temp_dir().join(format!("sandbox-copy-{}", std::process::id()));
        let (origin, copy, group) = (top.join("origin"), top.join("copy"), top.join("onrush-1/e1"));
        [&origin, &copy, &group].iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        let held = lock(&origin).unwrap();
        record(&origin, &held, &[top.join("onrush-1")]).unwrap();
        fs::copy(origin.join("leftovers"), copy.join("leftovers")).unwrap();
        clear(&copy, &lock(&copy).unwrap()).unwrap();
        assert!(group.exists(), "the origin's platform may be alive");
        assert!(!copy.join("leftovers").exists());
        // One from before the record said whose it is.
        let old = fs::read_to_string(origin.join("leftovers")).unwrap();
        fs::write(origin.join("leftovers"), old.split_once('\n').unwrap().1).unwrap();
        clear(&origin, &held).unwrap();
        assert!(!group.exists());
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn groups_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let parent = std::env::temp_dir().join(format!("sandbox-sweep-{}", std::process::id()));
        // No process has the first number: it is above the kernel's highest.
        let living = format!("onrush-{}", std::process::id());
        for name in
            ["onrush-4194999/e1", "onrush-4194999-platform", &format!("{living}/e1"), "onrush-x", "other"]
        {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        // A file cannot be in a real group's folder; here it stands for a process that keeps the group.
        fs::create_dir_all(parent.join("onrush-4194998/e1")).unwrap();
        fs::write(parent.join("onrush-4194998/e1/process"), "").unwrap();
        sweep(&[parent.clone(), parent.join("missing")]);
        let mut left: Vec<_> = fs::read_dir(&parent)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = vec![living, "onrush-4194998".into(), "onrush-x".into(), "other".into()];
        expected.sort();
        assert_eq!(left, expected);
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn the_lock_is_exclusive_and_goes_with_its_holder() {
        let state = std::env::temp_dir().join(format!("sandbox-lock-{}", std::process::id()));
        fs::create_dir_all(&state).unwrap();
        let held = lock(&state).unwrap();
        let second = File::options().write(true).open(state.join("lock")).unwrap();
        let attempt = rustix::fs::flock(&second, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(attempt, Err(rustix::io::Errno::AGAIN));
        drop(held);
        assert!(lock(&state).is_ok());
        fs::remove_dir_all(state).unwrap();
    }
}
