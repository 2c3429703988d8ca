//! Which of the host's user ids a platform's environments have. The kernel counts processes and more per user id, so two
//! platforms on one host lease ranges of their own, each by a lock on a file.

use std::fs::{DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

/// First of the host's user ids for environments; far above what distributions and their containers use.
pub(crate) const FIRST_USER: u32 = 1_500_000_000;
/// Environments that one platform can have at once, each with a user id of its own.
pub(crate) const USERS: u32 = 65_536;
/// Platforms with user ids of their own on one host.
pub(crate) const RANGES_MAX: u32 = 16;
/// All that environments may have.
pub(crate) const ALL: Range<u32> = FIRST_USER..FIRST_USER + USERS * RANGES_MAX;
/// Where the locks are. The folder is root's alone, so nobody else can hold one.
pub(crate) const LEASES: &str = "/run/onrush";

/// A range that is this platform's for as long as this lives, in whichever process.
pub(crate) struct Lease {
    pub users: Range<u32>,
    /// Why another platform may have the same, if it may.
    pub shared: Option<Shared>,
    _lock: Option<File>,
}

/// Why user ids are not one platform's alone, and what helps.
pub(crate) struct Shared {
    pub why: String,
    pub cure: &'static str,
}

impl Lease {
    /// The first range that is free in `folder`; the first of all where none can be had.
    pub fn take(folder: &Path) -> Lease {
        let range = |number: u32| ALL.start + number * USERS..ALL.start + (number + 1) * USERS;
        let shared = match take_lock(folder) {
            Ok(Some((number, lock))) => {
                return Lease { users: range(number), shared: None, _lock: Some(lock) };
            }
            Ok(None) => {
                Shared { why: format!("{RANGES_MAX} platforms run on this host"), cure: "end one of them" }
            }
            Err(error) => Shared {
                why: format!("{}: {error}", folder.display()),
                cure: "make /run a folder that root can write",
            },
        };
        Lease { users: range(0), shared: Some(shared), _lock: None }
    }
}

fn take_lock(folder: &Path) -> io::Result<Option<(u32, File)>> {
    // The folder above is the host's: made here it would be ours alone.
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for number in 0..RANGES_MAX {
        let path = folder.join(format!("users-{number}"));
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some((number, file))),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_platform_has_users_of_its_own_while_there_are_some() {
        let folder = tempfile::tempdir().unwrap();
        let mut leases: Vec<_> = (0..RANGES_MAX).map(|_| Lease::take(folder.path())).collect();
        assert!(leases.iter().all(|lease| lease.shared.is_none()));
        assert_eq!((leases[0].users.start, leases[15].users.end), (ALL.start, ALL.end));
        assert!(leases.windows(2).all(|two| two[0].users.end == two[1].users.start));
        let late = Lease::take(folder.path());
        assert_eq!(late.shared.unwrap().why, "16 platforms run on this host");
        let freed = leases.remove(3).users.clone();
        assert_eq!(Lease::take(folder.path()).users, freed);
        let refused = Lease::take(Path::new("/proc/onrush"));
        assert!(refused.shared.is_some_and(|shared| shared.why.starts_with("/proc/onrush: ")));
    }

    #[test]
    fn the_hosts_own_folder_is_not_made() {
        let host = tempfile::tempdir().unwrap();
        let run = host.path().join("run");
        let shared = Lease::take(&run.join("onrush")).shared.expect("no folder for it");
        assert!(!run.exists());
        assert_eq!(shared.cure, "make /run a folder that root can write");
    }
}
