//! The jailer: a small process forked at the very start, pid 1 of an outer pid namespace, that makes every
//! environment. When it ends, however it ends, the kernel ends all of them.
//!
//! [`fork_jailer`] runs in the platform; [`serve`](house) is the jailer's own life.

mod blanks;
mod cloner;
mod house;
mod starter;
mod trial;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub(crate) use house::close_all_but;

use crate::ability::{Abilities, Ability, AbilityState};
use crate::cgroup::{self, ControlGroups};
use crate::protocol::{Reply, Request};
use crate::sandboxes::Sandboxes;
use crate::socket::{self, PACKET_BYTES_MAX};
use crate::spec::{Isolation, Options, PoolSizes};
use crate::syscalls::{self, Cloned};
use crate::users;
use crate::{leftovers, seccomp, shortage};

/// Why there is no jailer.
#[derive(Debug, thiserror::Error)]
pub enum JailerError {
    /// A fork copies one thread; with more, the copy could wait for locks that nobody holds.
    #[error("the jailer must be forked while the process has one thread; it has {threads}")]
    NotSingleThreaded {
        /// Threads found.
        threads: usize,
    },
    /// The state folder cannot be used.
    #[error("state folder {path}: {error}")]
    StateFolder {
        /// The folder.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// Another run uses the state folder.
    #[error("another run uses the state folder {path}; stop it, or choose another folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The host refuses what environments need.
    #[error("this host refuses to {doing}: {error}; {}", shortage::hint_or(doing, error, CURE))]
    Refused {
        /// The step that failed.
        doing: String,
        /// What the host said.
        error: io::Error,
    },
    /// A call failed that does not depend on the host's settings.
    #[error("cannot {doing}: {error}")]
    Host {
        /// The step that failed.
        doing: &'static str,
        /// What the host said.
        error: io::Error,
    },
    /// The jailer ended before it was ready.
    #[error("the jailer ended before it was ready")]
    Died,
}

const CURE: &str = "allow user namespaces (sysctl -w user.max_user_namespaces=15000; on Ubuntu also \
                    kernel.apparmor_restrict_unprivileged_userns=0), run as root, or run without walls: \
                    --isolation process";

/// A forked jailer that is ready to serve.
#[derive(Debug)]
pub struct Jailer {
    socket: OwnedFd,
    pidfd: OwnedFd,
    abilities: Abilities,
    groups: Arc<ControlGroups>,
    isolation: Isolation,
}

impl std::fmt::Debug for ControlGroups {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ControlGroups").field("folders", &self.folders()).finish()
    }
}

impl Jailer {
    /// The handle that starts environments. Call inside the tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the jailer's socket.
    pub fn into_sandboxes(self) -> io::Result<Sandboxes> {
        Sandboxes::new(self.socket, self.pidfd, self.abilities, self.groups, self.isolation)
    }

    /// What this host can enforce; every entry was tried.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// Ends the jailer and waits until it has cleaned up.
    fn end(self) {
        drop(socket::send(&self.socket, &Request::Shutdown.to_bytes(), &[]));
        let mut buffer = [0; 64];
        while matches!(socket::receive(&self.socket, &mut buffer), Ok((count, _)) if count > 0) {}
        let jailer = rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&self.pidfd));
        let _ = rustix::process::waitid(jailer, rustix::process::WaitIdOptions::EXITED);
        self.groups.leave();
    }
}

/// Forks the jailer and waits until it has tried everything it needs (a few milliseconds; as root the first
/// `/tmp` is formatted, 15 ms). Call first in `main`, while the process has one thread. Also removes what a
/// run that was killed left behind, and raises the limit of open files to its maximum.
///
/// # Errors
/// See [`JailerError`]; `Refused` names the step and the cure.
pub fn fork_jailer(options: Options) -> Result<Jailer, JailerError> {
    Ok(fork_jailer_meanwhile(options, || ())?.0)
}

/// The same, and `work` while the jailer tries things. Signals wait until it is done; the jailer knows nothing of it, and
/// other processes may be forked there as long as there is one thread.
///
/// # Errors
/// As [`fork_jailer`]; if the jailer could not be forked, `work` was not begun.
#[allow(clippy::needless_pass_by_value)] // the options are spent; nobody starts two jailers on one folder
pub fn fork_jailer_meanwhile<T>(
    options: Options,
    work: impl FnOnce() -> T,
) -> Result<(Jailer, T), JailerError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(JailerError::NotSingleThreaded { threads });
    }
    let state_dir = prepare_folder(&options.state_dir)
        .map_err(|error| JailerError::StateFolder { path: options.state_dir.clone(), error })?;
    let lock = leftovers::lock(&state_dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => JailerError::InUse { path: state_dir.clone() },
        _ => JailerError::StateFolder { path: state_dir.clone(), error },
    })?;
    // From the first group on somebody must be there to remove it, and until the jailer serves nobody else is.
    let _held = syscalls::hold_signals();
    leftovers::clear(&state_dir, &lock)
        .map_err(|error| JailerError::StateFolder { path: state_dir.clone(), error })?;
    let open_files = raise_open_files();
    syscalls::widen_descriptor_table(open_files);
    let (groups, refusals, named_network) = open_groups(&state_dir, &lock);
    let groups = Arc::new(groups);
    let filter = seccomp::compile();
    let (ours, theirs) =
        socket::pair().map_err(|error| JailerError::Host { doing: "make a socket pair", error })?;
    let settings = house::Settings {
        state_dir,
        isolation: options.isolation,
        pool: options.pool,
        interfaces: options.interfaces,
        groups: groups.clone(),
        group_refusals: refusals,
        hidden_in: named_network,
        filter,
        open_files,
        low_limits: shortage::low_limits(&groups.folders()),
    };
    let forked = fork(&settings, theirs, &ours, lock);
    let ready = forked.and_then(|pidfd| {
        let done = work();
        Ok((pidfd, await_ready(&ours)?, done))
    });
    match ready {
        Ok((pidfd, abilities, done)) => {
            Ok((Jailer { socket: ours, pidfd, abilities, groups, isolation: options.isolation }, done))
        }
        Err(error) => {
            drop(groups.clear(Instant::now() + cgroup::REAPING));
            groups.leave();
            Err(error)
        }
    }
}

/// Tries on this host everything that environments need, cleans up, and says what was found. Call first in
/// `main`, as [`fork_jailer`]. Never fails: what does not work is the answer. Where the folder is what does not, the rest
/// is tried in a new one of the system's temporary folder.
pub fn probe(state_dir: &Path) -> Abilities {
    let folder = state_dir.join(format!("doctor-{}", std::process::id()));
    let abilities = try_all(&folder).unwrap_or_else(|error| {
        let elsewhere = std::env::temp_dir().join(format!("onrush-doctor-{}", std::process::id()));
        // Nobody else's: who made it is whom it belongs to.
        let mut abilities = Abilities::default();
        if fs::DirBuilder::new().mode(0o700).create(&elsewhere).is_ok() {
            abilities = try_all(&elsewhere).unwrap_or_default();
            drop(fs::remove_dir_all(elsewhere));
        }
        let detail = format!("{} cannot be used: {error}", state_dir.display());
        let cure = "name a folder that you may write: --data-dir FOLDER";
        abilities.add("data-folder", AbilityState::Missing, detail, Some(cure));
        abilities
    });
    drop(fs::remove_dir_all(folder));
    abilities
}

/// # Errors
/// The folder cannot be used.
fn try_all(folder: &Path) -> Result<Abilities, io::Error> {
    let pool = PoolSizes { networks: 0, groups: 0, temporaries: 0, blanks: 0 };
    let options =
        Options { state_dir: folder.to_owned(), isolation: Isolation::Namespaces, pool, interfaces: true };
    let told = |jailer: Jailer| {
        let abilities = jailer.abilities.clone();
        jailer.end();
        abilities
    };
    match fork_jailer(options.clone()) {
        Ok(jailer) => Ok(told(jailer)),
        Err(JailerError::StateFolder { error, .. }) => Err(error),
        Err(error) => {
            // What is left without walls is worth knowing too; what is not, lacks what the walls do.
            let plain = Options { isolation: Isolation::Process, ..options };
            let mut abilities = fork_jailer(plain).map_or_else(|_| Abilities::default(), told);
            let (detail, cure) = match &error {
                JailerError::Refused { doing, error } => {
                    let found = shortage::found(doing, error);
                    let (what, cure) = found.map_or_else(
                        || (String::new(), CURE.to_owned()),
                        |found| (format!("; {}", found.what), found.cure),
                    );
                    (format!("this host refuses to {doing}: {error}{what}"), cure)
                }
                other => (other.to_string(), CURE.to_owned()),
            };
            let wall_less = |item: &&mut Ability| item.cure.as_deref() == Some(trial::CURE_WALLS);
            abilities.items.iter_mut().filter(wall_less).for_each(|item| item.cure = Some(cure.clone()));
            abilities.add("user-namespaces", AbilityState::Missing, detail, Some(&cure));
            Ok(abilities)
        }
    }
}

/// The folder, private to us, by its real path: the jailer's view of relative paths may differ.
fn prepare_folder(state_dir: &Path) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let state_dir = fs::canonicalize(state_dir)?;
    fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o700))?;
    Ok(state_dir)
}

/// Descriptors are what each environment costs most of. Returns the limit now in force.
fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Takes our corner of the control groups, written down first so that it can be removed after a `kill -9`. Says what was
/// refused, and where no groups are to be seen the name of the network that may hide them.
fn open_groups(state_dir: &Path, lock: &fs::File) -> (ControlGroups, Vec<String>, Option<String>) {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let hierarchies =
        cgroup::discover(Path::new("/"), &read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    if hierarchies == cgroup::Hierarchies::default() {
        let name = named_network();
        let why = name.as_ref().map(|name| format!(": `ip netns exec {name}` shows a /sys without them"));
        let refusal = format!("none are mounted here{}", why.unwrap_or_default());
        return (ControlGroups::none(), vec![refusal], name);
    }
    leftovers::sweep(&hierarchies.parents());
    let session = format!("{}{}", leftovers::SESSION_PREFIX, std::process::id());
    if let Err(error) = leftovers::record(state_dir, lock, &hierarchies.possible_folders(&session)) {
        return (ControlGroups::none(), vec![format!("cannot record what to clean: {error}")], None);
    }
    let (groups, refusals) = ControlGroups::open(&hierarchies, &session);
    (groups, refusals, None)
}

/// The network namespace that we are in, if `ip netns` knows it by a name.
fn named_network() -> Option<String> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let own = identity(Path::new("/proc/self/ns/net"))?;
    let mut named = fs::read_dir("/run/netns").ok()?.flatten();
    named.find(|entry| identity(&entry.path()) == Some(own))?.file_name().into_string().ok()
}

fn fork(
    settings: &house::Settings,
    theirs: OwnedFd,
    ours: &OwnedFd,
    lock: fs::File,
) -> Result<OwnedFd, JailerError> {
    let (flags, attempts): (u64, &[u64]) = match settings.isolation {
        Isolation::Process => (0, &[0]),
        // As root without a user namespace, so that environments can have user ids of their own.
        Isolation::Namespaces => {
            ((libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64, &[0, libc::CLONE_NEWUSER as u64])
        }
    };
    let mut refusal = io::Error::from_raw_os_error(libc::EPERM);
    for &user_namespace in attempts {
        let privileged = user_namespace == 0 && is_root_of_all();
        if settings.isolation == Isolation::Namespaces && !privileged && user_namespace == 0 {
            continue;
        }
        let user = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // SAFETY: this process has one thread, checked by the caller, so the copy may do anything.
        #[allow(unsafe_code)]
        let cloned = unsafe { syscalls::clone3(flags | user_namespace, None) };
        match cloned {
            Ok(Cloned::Child) => {
                // The platform's end must not live on in us, or we would never see it close.
                close_all_but(&[theirs.as_raw_fd(), lock.as_raw_fd()]);
                // In case /proc could not be read; twice does no harm here.
                syscalls::close(ours.as_raw_fd());
                syscalls::widen_descriptor_table(settings.open_files);
                let life =
                    std::panic::AssertUnwindSafe(|| house::serve(settings, theirs, lock, privileged, user));
                drop(std::panic::catch_unwind(life));
                syscalls::exit_now(70);
            }
            Ok(Cloned::Parent { pidfd, .. }) => return Ok(pidfd),
            Err(error) => refusal = error,
        }
    }
    Err(JailerError::Refused { doing: "make a pid namespace for the jailer".into(), error: refusal })
}

/// Whether we are root, and not of a user namespace that has few users.
pub fn is_root_of_all() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        rustix::process::geteuid().is_root() && may_choose_users(&|path| fs::read_to_string(path).ok())
    })
}

/// Whether root here may become whom environments run as, and let go of its groups: root of a user namespace, as in a container
/// without root, mostly may not, and is as an ordinary user then. What cannot be read says nothing against it.
fn may_choose_users(read: &dyn Fn(&str) -> Option<String>) -> bool {
    let maps_all = |path| {
        let covers = |line: &str| {
            let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [inside, _, count] = numbers[..] else { return false };
            inside <= u64::from(users::ALL.start) && u64::from(users::ALL.end) <= inside + count
        };
        read(path).is_none_or(|map| map.lines().any(covers))
    };
    maps_all("/proc/self/uid_map")
        && maps_all("/proc/self/gid_map")
        && read("/proc/self/setgroups").is_none_or(|setgroups| setgroups.trim() != "deny")
}

fn await_ready(socket: &OwnedFd) -> Result<Abilities, JailerError> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let (count, _) = socket::receive(socket, &mut buffer)
        .map_err(|error| JailerError::Host { doing: "hear from the jailer", error })?;
    match Reply::from_bytes(&buffer[..count]) {
        Ok(Reply::Ready { abilities }) => Ok(abilities),
        Ok(Reply::Unfit { doing, errno }) => {
            Err(JailerError::Refused { doing, error: io::Error::from_raw_os_error(errno) })
        }
        _ => Err(JailerError::Died),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_that_has_one_user_alone_is_as_an_ordinary_user() {
        let may = |uid_map: &str, gid_map: &str, setgroups: &str| {
            may_choose_users(&|path| match path {
                "/proc/self/uid_map" => Some(uid_map.to_owned()),
                "/proc/self/gid_map" => Some(gid_map.to_owned()),
                _ => Some(setgroups.to_owned()),
            })
        };
        let everybody = "         0          0 4294967295\n";
        assert!(may(everybody, everybody, "allow\n"));
        assert!(!may("0 1000 1\n", "0 1000 1\n", "deny\n"), "unshare -r");
        let some = "0 1000 1\n1 100000 65536\n";
        assert!(!may(some, some, "allow\n"), "a container without root");
        assert!(!may(everybody, everybody, "deny\n"));
        assert!(may_choose_users(&|_| None), "there is no /proc");
    }
}
