//! Removing what nobody needs without anybody waiting for it: a package of 66,000 files takes most of a minute.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

/// Files and folders that wait; whoever brings one more removes it himself. Ours: what is deleted faster than it can be
/// removed would fill the disk.
const WAITING_MAX: usize = 64;

/// Removes files and folders on a thread of its own, one after the other. What the process leaves behind as it ends is for
/// the next one.
#[derive(Debug)]
pub struct Removals {
    remove: fn(&Path),
    /// `None` if there can be no thread.
    waiting: OnceLock<Option<SyncSender<PathBuf>>>,
}

impl Default for Removals {
    fn default() -> Self {
        Self::by(remove)
    }
}

impl Removals {
    fn by(remove: fn(&Path)) -> Self {
        Self { remove, waiting: OnceLock::new() }
    }

    /// Has one removed that nobody finds by its name any more.
    pub fn take(&self, path: PathBuf) {
        let left = match self.waiting.get_or_init(|| self.begin()) {
            Some(waiting) => match waiting.try_send(path) {
                Ok(()) => return,
                Err(TrySendError::Full(path) | TrySendError::Disconnected(path)) => path,
            },
            None => path,
        };
        (self.remove)(&left);
    }

    fn begin(&self) -> Option<SyncSender<PathBuf>> {
        let (waiting, brought) = sync_channel::<PathBuf>(WAITING_MAX);
        let remove = self.remove;
        let work = move || brought.iter().for_each(|path| remove(&path));
        thread::Builder::new().name("removals".to_owned()).spawn(work).ok()?;
        Some(waiting)
    }
}

fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "what is not needed could not be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    struct Gate {
        is_open: bool,
        by_thread: usize,
        by_us: usize,
    }

    #[test]
    fn nobody_waits_for_a_removal_unless_too_many_wait() {
        static GATE: Mutex<Gate> = Mutex::new(Gate { is_open: false, by_thread: 0, by_us: 0 });
        static CHANGED: Condvar = Condvar::new();
        let removals = Removals::by(|_| {
            let mut gate = GATE.lock().unwrap();
            if thread::current().name() == Some("removals") {
                gate = CHANGED.wait_while(gate, |gate| !gate.is_open).unwrap();
                gate.by_thread += 1;
            } else {
                gate.by_us += 1;
            }
            CHANGED.notify_all();
        });
        (0..WAITING_MAX).for_each(|_| removals.take(PathBuf::new()));
        assert_eq!(GATE.lock().unwrap().by_us, 0, "nothing is waited for");
        // One may be at the gate already.
        (0..2).for_each(|_| removals.take(PathBuf::new()));
        let mut gate = GATE.lock().unwrap();
        assert!((1..=2).contains(&gate.by_us), "nor is more kept than may be: {}", gate.by_us);
        gate.is_open = true;
        CHANGED.notify_all();
        drop(CHANGED.wait_while(gate, |gate| gate.by_thread + gate.by_us < WAITING_MAX + 2).unwrap());
    }
}
