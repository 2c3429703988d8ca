//! What the jailer's threads share, and the life of the process: set up, try out, serve, clean up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{PidfdFlags, Signal};
use seccompiler::sock_filter;

use super::blanks::{self, Blanks, has_ended};
use super::cloner::Cloner;
use super::starter::{Parts, Starter};
use super::trial;
use crate::cgroup::{self, ControlGroups, Group};
use crate::network::Network;
use crate::protocol::{Reply, Request};
use crate::resident;
use crate::root::{Mounts, Roots};
use crate::shortage::Shortage;
use crate::socket::{self, PACKET_BYTES_MAX};
use crate::spec::{Isolation, PoolSizes, Spec};
use crate::stock::{Stock, User};
use crate::syscalls::{self, Cloned};
use crate::temporary::{Temporaries, Temporary};
use crate::users::{self, Lease};

/// One network namespace is destroyed per this much time: in bulk it stalls the making of new ones
/// (measured).
const TRICKLE: Duration = Duration::from_millis(5);
/// With more than this many waiting, twenty times as fast: each holds 0.2 MB.
const TRICKLE_BACKLOG_MAX: usize = 512;
/// How long the last processes may take to die at the end.
const LAST_GASP: Duration = Duration::from_millis(700);
/// And their groups to be empty after that. Together less than the next start waits for us.
const LAST_GROUPS: Duration = Duration::from_secs(2);
/// Default size of `/tmp` (AWS Lambda Developer Guide, "Lambda quotas"); the size that is made ahead.
const TMP_MB: u32 = 512;
/// Dead children that belong to nobody yet, remembered until somebody claims them.
const STRAYS_MAX: usize = 1024;
/// Parts are made ahead once no environment was started for this long: a start, and the INIT that follows it, would
/// else wait for them on a busy processor, and for the kernel's locks (measured: 1.5 ms of 5).
const CALM: Duration = Duration::from_millis(10);
/// Environments whose control groups stay open, to be used again; the groups of all others hold no descriptors, so that
/// some 2,500 fit into 20,000.
const GROUPS_OPEN_MAX: usize = 256;
/// Starts are worth two threads: 1.4 times the rate of one (measured).
const STARTERS: usize = 2;

/// No mount made below tells the host, nor the host's us.
const PRIVATE: MountPropagationFlags = MountPropagationFlags::PRIVATE.union(MountPropagationFlags::REC);

/// What the platform decided before the fork.
pub(super) struct Settings {
    pub state_dir: PathBuf,
    pub isolation: Isolation,
    pub pool: PoolSizes,
    pub interfaces: bool,
    pub groups: Arc<ControlGroups>,
    pub group_refusals: Vec<String>,
    /// The name of the network namespace whose `ip netns exec` hides the control groups.
    pub hidden_in: Option<String>,
    pub filter: Vec<sock_filter>,
    pub open_files: u64,
    /// As the platform sees them: the jailer may be in a user namespace with limits of its own.
    pub low_limits: Vec<Shortage>,
}

/// One environment as the jailer knows it.
pub(super) struct Environment {
    pub spec: Arc<Spec>,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub dead: bool,
    pub released: bool,
    /// Whether its program was started, as the platform knows.
    pub ran: bool,
    pub group: Option<Group>,
    pub network: Option<Network>,
    pub temporary: Option<Temporary>,
    pub user: Option<User>,
}

#[derive(Default)]
pub(super) struct Registry {
    pub environments: HashMap<u64, Environment>,
    /// Versions that are gone, while environments of theirs live.
    forgotten: HashSet<u64>,
    pids: HashMap<i32, u64>,
    strays: VecDeque<i32>,
}

impl Registry {
    /// Notes the process of an environment, which may have died already. A stray of the same number may be another's that
    /// nobody claimed.
    pub fn adopt(&mut self, id: u64, pid: i32) {
        let is_dead = |environment: &Environment| has_ended(&environment.pidfd);
        let gone = self.claim(pid) && self.environments.get(&id).is_some_and(is_dead);
        if !gone {
            self.pids.insert(pid, id);
        }
        if let Some(environment) = self.environments.get_mut(&id) {
            environment.dead = gone;
        }
    }

    /// Whether a child that belonged to no environment has died; it is then forgotten.
    pub fn forget(&mut self, pid: i32) -> bool {
        self.claim(pid)
    }

    /// Whether an environment of that version is alive, or dead and unburied.
    fn has(&self, version_key: u64) -> bool {
        self.environments.values().any(|environment| environment.spec.version_key == version_key)
    }

    /// Remembers a dead child that belongs to nobody yet.
    pub fn stray(&mut self, pid: i32) {
        if self.strays.len() >= STRAYS_MAX {
            self.strays.pop_front();
        }
        self.strays.push_back(pid);
    }

    fn claim(&mut self, pid: i32) -> bool {
        let at = self.strays.iter().position(|stray| *stray == pid);
        at.and_then(|at| self.strays.remove(at)).is_some()
    }
}

/// What the keeper is asked to do.
pub(super) enum Job {
    /// Something was taken from the stock.
    Refill,
    /// An environment is dead and nobody wants it.
    Bury(Box<Environment>),
    /// A version is gone: nobody needs the parts that were kept for it.
    Forget(u64),
    /// A group whose processes are gone.
    RemoveGroup(String),
}

/// Everything the jailer's threads share.
pub(super) struct House {
    pub isolation: Isolation,
    pub privileged: bool,
    /// Whose the platform is: in the user namespace that an ordinary user's jailer has, everybody is root.
    pub owner: u32,
    pub socket: OwnedFd,
    pub groups: Arc<ControlGroups>,
    pub filter: Vec<sock_filter>,
    pub roots: Mutex<Roots>,
    pub stock: OnceLock<Stock>,
    pub blanks: Blanks,
    pub registry: Mutex<Registry>,
    pub jobs: Sender<Job>,
    /// Held for reading while a start is under way, for writing at the end.
    pub open: RwLock<()>,
    /// Whether processes can really be put into our groups.
    pub groups_usable: AtomicBool,
    ending: AtomicBool,
    /// When the jailer began, and when the last start was under way, in microseconds after that.
    began: Instant,
    last_start_us: AtomicU64,
    /// The memory limit that was wanted last; 0 before the first.
    last_memory_bytes: AtomicU64,
    is_refill_asked: AtomicBool,
    /// One per starter.
    pub cloners: Vec<Cloner>,
    pub mounts: Option<Mounts>,
    state_dir: PathBuf,
}

/// A step of setting up that the host refused.
pub(super) struct Unfit {
    pub doing: String,
    pub error: io::Error,
}

pub(super) fn step<T, E: Into<io::Error>>(doing: &str, result: Result<T, E>) -> Result<T, Unfit> {
    result.map_err(|error| Unfit { doing: doing.to_owned(), error: error.into() })
}

impl House {
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn stock(&self) -> &Stock {
        self.stock.get().expect("the stock is filled in before any thread starts")
    }

    pub fn reply(&self, reply: &Reply) {
        // A platform that is gone is noticed by the reader.
        drop(socket::send(&self.socket, &reply.to_bytes(), &[]));
    }

    /// Notes that a start is under way.
    pub fn note_start(&self) {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_start_us.fetch_max(now_us, Ordering::Relaxed);
    }

    /// Something was taken from the stock. The keeper is woken for the first that it has not seen to yet, and when little
    /// is left.
    pub fn ask_for_refill(&self) {
        if !self.is_refill_asked.swap(true, Ordering::AcqRel) || self.stock().is_low() {
            drop(self.jobs.send(Job::Refill));
        }
    }

    /// Whether starts have paused.
    fn is_calm(&self) -> bool {
        Instant::now() >= self.last_start() + CALM
    }

    fn last_start(&self) -> Instant {
        self.began + Duration::from_micros(self.last_start_us.load(Ordering::Relaxed))
    }

    /// The cloner to ask for what is made ahead.
    pub fn quiet_cloner(&self) -> &Cloner {
        self.cloners.last().expect("there is one per starter")
    }

    /// A user id of its own for an environment, where we may give it one.
    pub fn take_user(&self, version_key: u64) -> Result<Option<User>, Unfit> {
        let exhausted = || io::Error::from_raw_os_error(libc::EUSERS);
        let user = self.privileged.then(|| self.stock().take_user(version_key).ok_or_else(exhausted));
        step("find a free user id", user.transpose())
    }

    /// A group for an environment of that version; `None` where there are none.
    pub fn take_group(&self, version_key: u64) -> Result<Option<Group>, Unfit> {
        if !self.groups_usable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        step("make a control group", self.stock().take_group(version_key))
    }

    /// Limits the memory of the group among `parts`, unless that is its limit already.
    pub fn limit_memory(&self, parts: &mut Parts, bytes: u64) -> Result<(), Unfit> {
        let (Some(limits), Some(group)) = (self.groups.limits(), &mut parts.group) else { return Ok(()) };
        if limits.offered().memory && group.memory_bytes != bytes {
            step("limit memory", limits.set_memory(&group.name, bytes))?;
            group.memory_bytes = bytes;
        }
        self.last_memory_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the group among `parts` the limit that was wanted last: most functions of a host have one of a few.
    pub fn limit_memory_ahead(&self, parts: &mut Parts) -> Result<(), Unfit> {
        match self.last_memory_bytes.load(Ordering::Relaxed) {
            0 => Ok(()),
            bytes => self.limit_memory(parts, bytes),
        }
    }

    /// Takes back what was gathered for an environment that has no process.
    pub fn give_back(&self, parts: Parts) {
        let stock = self.stock();
        let key = parts.version_key;
        if let Some(user) = parts.user {
            stock.put_user(key, user);
        }
        if let Some(group) = parts.group {
            drop(self.jobs.send(Job::RemoveGroup(group.name)));
        }
        if let Some(temporary) = parts.temporary {
            stock.put_temporary(key, temporary);
        }
        drop(parts.network.and_then(|network| stock.put_network(key, network)));
    }

    /// The same at once, before anybody does the jobs.
    pub fn discard(&self, mut parts: Parts) {
        if let Some(group) = parts.group.take() {
            drop(self.groups.remove(&group.name));
        }
        self.give_back(parts);
    }

    /// Enters an environment into the registry.
    pub fn move_in(&self, id: u64, pid: i32, pidfd: OwnedFd, spec: Arc<Spec>, parts: Parts) {
        let Parts { group, network, temporary, user, version_key: _ } = parts;
        let (dead, released, ran) = (false, false, false);
        let mut environment =
            Environment { spec, pid, pidfd, dead, released, ran, group, network, temporary, user };
        let mut registry = self.registry();
        if registry.environments.len() >= GROUPS_OPEN_MAX {
            if let Some(group) = &mut environment.group {
                group.close();
            }
            if let Some(user) = &mut environment.user {
                user.namespace = None;
            }
        }
        registry.environments.insert(id, environment);
        registry.adopt(id, pid);
    }

    /// Makes one thing that is missing; `false` when nothing is. Blanks are for quiet moments.
    fn refill(&self) -> bool {
        // Before the look: what is taken after it is asked for anew.
        self.is_refill_asked.store(false, Ordering::Release);
        if self.is_calm() && (self.blanks.refill(self).unwrap_or(false) || self.begin_root()) {
            return true;
        }
        self.stock().refill().unwrap_or(false)
    }

    /// Makes what the next version's root begins with, if that is missing and can be made.
    fn begin_root(&self) -> bool {
        let roots = || self.roots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.mounts.is_none() {
            return false;
        }
        let Some(base) = roots().lacks_base() else { return false };
        // Without the lock: starts need it.
        let made = base.make().is_ok();
        if made {
            roots().put_base(base);
        }
        made
    }

    /// When parts may be made ahead: at once when the stock is nearly empty, else when starts have paused.
    fn refill_due(&self) -> Instant {
        if self.stock().is_low() {
            return self.began;
        }
        self.last_start() + CALM
    }

    /// The platform has no more use for it: its processes end, its parts go back.
    pub fn release(&self, id: u64, ran: bool) {
        let mut registry = self.registry();
        let Some(environment) = registry.environments.get_mut(&id) else { return };
        environment.released = true;
        environment.ran = ran;
        if environment.dead {
            self.bury(&mut registry, id);
        } else {
            self.kill(environment);
        }
    }

    pub fn kill(&self, environment: &Environment) {
        if self.isolation == Isolation::Process {
            // No pid namespace ends the rest: first those the supervisor knows, then the whole group.
            let _ = rustix::process::pidfd_send_signal(&environment.pidfd, Signal::TERM);
            if let Some(group) = &environment.group {
                self.groups.kill(&group.name);
            }
            if self.groups.folders().is_empty() {
                return;
            }
        }
        let _ = rustix::process::pidfd_send_signal(&environment.pidfd, Signal::KILL);
        if let (Some(group), cgroup::Freezer::VersionOne(_)) = (&environment.group, self.groups.freezer()) {
            drop(self.groups.freezer().thaw(&group.name));
        }
    }

    fn bury(&self, registry: &mut Registry, id: u64) {
        if let Some(environment) = registry.environments.remove(&id) {
            let version_key = environment.spec.version_key;
            drop(self.jobs.send(Job::Bury(Box::new(environment))));
            if registry.forgotten.contains(&version_key) {
                drop(self.jobs.send(Job::Forget(version_key)));
                if !registry.has(version_key) {
                    registry.forgotten.remove(&version_key);
                }
            }
        }
    }

    /// Lets go of what is kept for a version, now and when its last environments are dead.
    pub fn forget(&self, version_key: u64) {
        let mut registry = self.registry();
        if registry.has(version_key) {
            registry.forgotten.insert(version_key);
        }
        drop(self.jobs.send(Job::Forget(version_key)));
    }

    /// A child of ours has been reaped.
    fn died(&self, pid: i32) {
        let mut registry = self.registry();
        if let Some(id) = registry.pids.remove(&pid) {
            if let Some(environment) = registry.environments.get_mut(&id)
                && environment.pid == pid
            {
                environment.dead = true;
                if self.isolation == Isolation::Process
                    && let Some(group) = &environment.group
                {
                    self.groups.kill(&group.name);
                }
                if environment.released {
                    self.bury(&mut registry, id);
                }
            }
        } else {
            registry.stray(pid);
        }
    }

    fn reap(&self) {
        while let Some(pid) = syscalls::reap() {
            self.died(pid);
        }
    }

    /// Kills everything, removes everything, and ends the process.
    pub fn finish(&self) -> ! {
        if self.ending.swap(true, Ordering::SeqCst) {
            // Another thread is at it and will end us.
            loop {
                std::thread::park();
            }
        }
        let _no_more_starts = self.open.write();
        let deadline = Instant::now() + LAST_GASP;
        for environment in self.registry().environments.values() {
            self.kill(environment);
        }
        loop {
            self.reap();
            let living = self.registry().environments.values().any(|environment| !environment.dead);
            let living = living || !self.blanks.end();
            if !living || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let cleared = self.groups.clear(Instant::now() + cgroup::REAPING);
        // Mounts, loop devices and network namespaces end with us: unmounting takes the kernel the longest.
        self.reply(&Reply::Finished);
        // The platform need not wait for what a busy host takes long to let die.
        if cleared.or_else(|_| self.groups.clear(Instant::now() + LAST_GROUPS)).is_ok() {
            drop(fs::remove_file(self.state_dir.join("leftovers")));
        }
        syscalls::exit_now(0)
    }
}

/// Closes what a forked process has from its parent, save standard error and what it needs.
pub(crate) fn close_all_but(keep: &[RawFd]) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open {
        if descriptor > 2 && !keep.contains(&descriptor) {
            syscalls::close(descriptor);
        }
    }
}

/// The jailer's life. Returns never in practice; whoever calls it ends the process.
pub(super) fn serve(
    settings: &Settings,
    socket: OwnedFd,
    lock: fs::File,
    privileged: bool,
    user: (u32, u32),
) {
    let reporting = socket.try_clone();
    let unfit = match set_up(settings, socket, privileged, user) {
        Ok((house, jobs)) => {
            run(&Arc::new(house), jobs);
            drop(lock);
            return;
        }
        Err(unfit) => unfit,
    };
    if let Ok(socket) = reporting {
        let errno = unfit.error.raw_os_error().unwrap_or(libc::EIO);
        let reply = Reply::Unfit { doing: unfit.doing, errno };
        drop(socket::send(&socket, &reply.to_bytes(), &[]));
    }
    syscalls::exit_now(1);
}

fn set_up(
    settings: &Settings,
    socket: OwnedFd,
    privileged: bool,
    (user, group): (u32, u32),
) -> Result<(House, Receiver<Job>), Unfit> {
    syscalls::block_signals();
    let _ = rustix::thread::set_name(c"onrush-jailer");
    step("hide the command line", syscalls::hide_command_line())?;
    let _ = rustix::process::setsid();
    // End of file on the socket is the usual way to learn that the platform is gone. This is the second: all
    // signals are blocked, the reaper takes this one as the order to clean up.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    let null =
        step("open /dev/null", rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    let walls = settings.isolation == Isolation::Namespaces;
    if walls && !privileged {
        step("write the user map", write_own_maps(user, group))?;
    }
    let stage = settings.state_dir.join("stage");
    let mut mounts = None;
    if walls {
        step("make a stage folder", fs::create_dir_all(&stage))?;
        mounts = Some(own_mounts(&stage)?);
    } else {
        step("adopt orphans", rustix::process::set_child_subreaper(true.then(rustix::process::getpid)))?;
    }
    let proc = match &mounts {
        Some(mounts) => step("copy a descriptor", mounts.proc.try_clone())?,
        None => open_proc()?,
    };
    let cloner = |_| step("fork a cloner", Cloner::fork(&settings.filter, &null, &proc, privileged));
    let cloners = (0..STARTERS).map(cloner).collect::<Result<_, _>>()?;
    let (jobs, received) = channel();
    let house = House {
        isolation: settings.isolation,
        privileged,
        owner: user,
        socket,
        groups: settings.groups.clone(),
        filter: settings.filter.clone(),
        roots: Mutex::new(Roots::new(&stage)),
        stock: OnceLock::new(),
        // An ordinary user's environments all are that user to the kernel, and a blank's IPC namespace would be its own to
        // set, having been made outside of its user namespace.
        blanks: Blanks::new(if walls && privileged { settings.pool.blanks } else { 0 }, settings.open_files),
        registry: Mutex::default(),
        jobs,
        open: RwLock::new(()),
        groups_usable: AtomicBool::new(true),
        ending: AtomicBool::new(false),
        began: Instant::now(),
        last_start_us: AtomicU64::new(0),
        last_memory_bytes: AtomicU64::new(0),
        is_refill_asked: AtomicBool::new(false),
        cloners,
        mounts,
        state_dir: settings.state_dir.clone(),
    };
    let abilities = trial::run(&house, settings, &stage)?;
    house.reply(&Reply::Ready { abilities });
    Ok((house, received))
}

/// Maps our own user and group to root in the user namespace that we were forked into.
fn write_own_maps(user: u32, group: u32) -> io::Result<()> {
    // The kernel asks it of those who may not choose groups.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

fn open_proc() -> Result<OwnedFd, Unfit> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    step("open /proc", rustix::fs::open("/proc", flags, Mode::empty()))
}

/// Two mount namespaces: one with the host's mounts and what we stage, one nearly empty to make roots from,
/// because every clone copies every mount.
fn own_mounts(stage: &Path) -> Result<Mounts, Unfit> {
    step("make a chroot the root", leave_chroot())?;
    step("make mounts private", rustix::mount::mount_change("/", PRIVATE))?;
    let restricted = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Ours, of our own pid namespace: the host's would name other processes by our children's pids.
    step("mount /proc", rustix::mount::mount("proc", "/proc", "proc", restricted, None))?;
    let proc = open_proc()?;
    let options = c"size=64m,mode=700";
    step("mount the stage", rustix::mount::mount("tmpfs", stage, "tmpfs", MountFlags::NOSUID, options))?;
    for folder in ["roots", "tmp", "small"] {
        step("make a stage folder", fs::create_dir(stage.join(folder)))?;
    }
    let host = step("open the mount namespace", Mounts::current(&proc))?;
    step("make a small mount namespace", syscalls::unshare(libc::CLONE_NEWNS))?;
    let small = stage.join("small");
    let options = c"size=64k,nr_inodes=16,mode=755";
    step("mount a small root", rustix::mount::mount("tmpfs", &small, "tmpfs", MountFlags::NOSUID, options))?;
    for folder in ["proc", "staging"] {
        step("make a folder in the small root", fs::create_dir(small.join(folder)))?;
    }
    step("mount an empty /proc", mount_empty_proc(&small.join("proc"), restricted))?;
    step("enter the small root", std::env::set_current_dir(&small))?;
    step("change to the small root", rustix::process::pivot_root(".", "."))?;
    step("let go of the old root", rustix::mount::unmount(".", UnmountFlags::DETACH))?;
    let small = step("open the small mount namespace", Mounts::current(&proc))?;
    step("go back to the host's mounts", syscalls::setns(host.as_fd(), libc::CLONE_NEWNS))?;
    Ok(Mounts { host, small, proc })
}

/// Makes the folder that a `chroot` shut us into the root of our mount namespace: whoever enters a namespace, as we go on doing,
/// is at its root, which would be outside. Elsewhere nothing changes.
fn leave_chroot() -> io::Result<()> {
    let root = || {
        let folder =
            rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
        let found = rustix::fs::statx(&folder, "", AtFlags::EMPTY_PATH, wanted)?;
        Ok::<_, io::Error>((folder, (found.stx_mnt_id, found.stx_ino)))
    };
    let (folder, identity) = root()?;
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    syscalls::setns(own.as_fd(), libc::CLONE_NEWNS)?;
    if root()?.1 == identity {
        return Ok(());
    }
    rustix::mount::mount_change("/", PRIVATE)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(&folder, "", flags)?;
    rustix::mount::move_mount(&tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&tree)?;
    rustix::process::pivot_root(".", ".")?;
    Ok(rustix::mount::unmount(".", UnmountFlags::DETACH)?)
}

/// Mounts the `/proc` of a pid namespace that has ended: it lies below each environment's own and must show nobody.
fn mount_empty_proc(folder: &Path, flags: MountFlags) -> io::Result<()> {
    // SAFETY: this process has one thread, so the copy may do anything.
    #[allow(unsafe_code)]
    match unsafe { syscalls::clone3(libc::CLONE_NEWPID as u64, None) }? {
        Cloned::Child => {
            let mounted = rustix::mount::mount("proc", folder, "proc", flags, None);
            syscalls::exit_now(mounted.err().map_or(0, rustix::io::Errno::raw_os_error));
        }
        Cloned::Parent { pidfd, .. } => {
            use rustix::process::{WaitId, WaitIdOptions, waitid};
            let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            match ended.and_then(|ended| ended.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(io::Error::from_raw_os_error(libc::ECHILD)),
            }
        }
    }
}

/// The stock, its file systems on loop devices where root may and they work.
pub(super) fn fill_in_stock(
    house: &House,
    settings: &Settings,
    stage: &Path,
) -> Result<Option<String>, Unfit> {
    let loops = house.privileged && house.isolation == Isolation::Namespaces;
    let images = settings.state_dir.join("images");
    let made = Temporaries::new(stage, &images, loops, TMP_MB);
    let (temporaries, refusal) = step("prepare /tmp", made)?;
    let mut pool = settings.pool;
    if house.isolation == Isolation::Process {
        (pool.networks, pool.temporaries) = (0, 0);
    }
    let lease = house.privileged.then(|| Lease::take(Path::new(users::LEASES)));
    drop(house.stock.set(Stock::new(pool, TMP_MB, house.groups.clone(), temporaries, lease)));
    Ok(refusal)
}

/// Serves until the platform is gone or says so.
fn run(house: &Arc<House>, jobs: Receiver<Job>) {
    let spawn = |name: &str, life: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(life);
        if thread.is_err() {
            house.finish();
        }
    };
    let keeper = house.clone();
    spawn("keeper", Box::new(move || keep(&keeper, &jobs)));
    let reaper = house.clone();
    spawn("reaper", Box::new(move || reap(&reaper)));
    house.ask_for_refill();
    for number in 1..STARTERS {
        let starter = house.clone();
        spawn(&format!("starter-{number}"), Box::new(move || start(&starter, number)));
    }
    start(house, 0);
}

/// A starter's life: one request after another.
fn start(house: &House, number: usize) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let starter = Starter::new(house, number);
    loop {
        let Ok((count, _)) = socket::receive(&house.socket, &mut buffer) else { house.finish() };
        if count == 0 {
            house.finish();
        }
        match Request::from_bytes(&buffer[..count]) {
            Ok(Request::Start { id, spec }) => starter.start(id, Arc::from(spec)),
            Ok(Request::Restart { id }) => starter.restart(id),
            Ok(Request::Release { id, ran }) => house.release(id, ran),
            Ok(Request::Forget { version_key }) => house.forget(version_key),
            Ok(Request::Socket { id, turn }) => starter.socket(id, turn),
            // A platform that talks nonsense is as good as gone.
            Ok(Request::Shutdown) | Err(_) => house.finish(),
        }
        if house.cloners[number].is_gone() {
            house.finish();
        }
    }
}

fn reap(house: &House) {
    loop {
        if syscalls::wait_for_signal(libc::SIGCHLD, libc::SIGTERM) == libc::SIGTERM {
            house.finish();
        }
        house.reap();
    }
}

/// The keeper's life: what nobody should wait for.
fn keep(house: &House, jobs: &Receiver<Job>) {
    let mut dying: VecDeque<Network> = VecDeque::new();
    let mut next_death = Instant::now();
    let mut hungry = true;
    let mut is_settled = false;
    loop {
        if !hungry && !is_settled {
            // All that only the start took.
            resident::let_go_of_code();
            is_settled = true;
        }
        let now = Instant::now();
        if !dying.is_empty() && now >= next_death {
            dying.pop_front();
            next_death = now + if dying.len() > TRICKLE_BACKLOG_MAX { TRICKLE / 20 } else { TRICKLE };
        }
        if house.blanks.is_crowded() && now >= house.last_start() + blanks::REST {
            let _open = house.open.read();
            house.blanks.settle(house);
        }
        let refill_due = hungry.then(|| house.refill_due());
        let due = match (refill_due, dying.is_empty()) {
            (Some(due), true) => Some(due),
            (Some(due), false) => Some(due.min(next_death)),
            (None, true) if house.blanks.is_crowded() => Some(house.last_start() + blanks::REST),
            (None, true) => None,
            (None, false) => Some(next_death),
        };
        let patience = due.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
        let job = if patience == Duration::MAX {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(patience)
        };
        match job {
            Ok(Job::Refill) => hungry = true,
            Ok(Job::RemoveGroup(group)) => drop(house.groups.remove(&group)),
            Ok(Job::Bury(environment)) => bury(house, *environment, &mut dying),
            Ok(Job::Forget(version_key)) => {
                dying.extend(house.stock().forget(version_key));
                let mut roots = house.roots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let unused = roots.forget(version_key);
                // Taking mounts apart takes its time; starts wait for the lock.
                drop(roots);
                drop(unused);
            }
            // Starts since then have put it off without a word.
            Err(RecvTimeoutError::Timeout)
                if refill_due.is_none_or(|_| house.refill_due() > Instant::now()) => {}
            // What cannot be made now is made when it is needed, or that start says why not.
            Err(RecvTimeoutError::Timeout) => {
                let _open = house.open.read();
                hungry = hungry && !house.ending.load(Ordering::SeqCst) && house.refill();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Puts the parts back or destroys them.
fn bury(house: &House, environment: Environment, dying: &mut VecDeque<Network>) {
    let version_key = environment.spec.version_key;
    let stock = house.stock();
    if let Some(network) = environment.network {
        dying.extend(stock.put_network(version_key, network));
    }
    match environment.group {
        // Without a pid namespace groups are ended with `cgroup.kill`, after which they are of no use.
        Some(group) if house.isolation == Isolation::Process => drop(house.groups.remove(&group.name)),
        Some(group) => stock.put_group(version_key, group),
        None => {}
    }
    if let Some(temporary) = environment.temporary {
        stock.put_temporary(version_key, temporary);
    }
    if let Some(mut user) = environment.user {
        // One that did not get as far may have left the namespace without its maps.
        user.namespace = user.namespace.filter(|_| environment.ran);
        stock.put_user(version_key, user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_lives_is_not_taken_for_a_dead_one_of_its_number() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id().cast_signed();
        let spec = Spec {
            hostname: String::new(),
            version_key: 1,
            image: Vec::new(),
            task: PathBuf::new(),
            opt: None,
            binds: Vec::new(),
            program: Vec::new(),
            environment: Vec::new(),
            working_directory: String::new(),
            memory_mb: 128,
            tmp_mb: 512,
            dual_stack: false,
            companions: Default::default(),
        };
        let open = |pid| rustix::process::Pid::from_raw(pid).unwrap();
        let environment = |pidfd| Environment {
            spec: Arc::new(spec.clone()),
            pid,
            pidfd,
            dead: false,
            released: false,
            ran: false,
            group: None,
            network: None,
            temporary: None,
            user: None,
        };
        let pidfd = rustix::process::pidfd_open(open(pid), PidfdFlags::empty()).unwrap();
        let mut registry = Registry::default();
        registry.stray(pid);
        registry.environments.insert(7, environment(pidfd.try_clone().unwrap()));
        registry.adopt(7, pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!registry.environments[&7].dead, "it lived");
        assert_eq!(registry.pids.get(&pid), Some(&7), "and its end will be known");
        registry.stray(pid);
        registry.environments.insert(8, environment(pidfd));
        registry.adopt(8, pid);
        assert!(registry.environments[&8].dead);
    }
}
