//! A cloner: the process that environments are cloned from.
//!
//! A clone copies its parent's memory map and descriptors, and both sides then pay for every page they write.
//! The jailer has threads, stacks and hundreds of descriptors; a cloner has one thread, little memory and three
//! descriptors, so a clone from it costs a fraction (measured: 0.41 ms against 0.15). Its children are the
//! jailer's (`CLONE_PARENT`), which alone reaps. A cloner ends with the jailer. Its heap it keeps to itself: what a child
//! needs to know is laid out on a [desk](crate::child::desk). Blanks alone, which read an order themselves, get all.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use seccompiler::sock_filter;

use super::house::{Registry, Unfit, close_all_but};
use crate::child::small::Small;
use crate::child::{self, Plan, SPARE_MAX, Walls, desk::Desk};
use crate::protocol::{Malformed, Reader, Writer};
use crate::socket::{self, PACKET_BYTES_MAX};
use crate::syscalls::{self, Cloned};
use crate::{landlock, resident};

/// The host's out-of-memory killer takes environments before the platform, cloners included.
const OOM_SCORE: &[u8] = b"500";
/// Folders of `PATH` that a program is looked for in.
const PATH_FOLDERS_MAX: usize = 64;
/// How often a look is taken for the reaper having seen one end, a millisecond apart.
const LOOKS_MAX: u32 = 100;
/// After so long without an order what only the start took goes.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// The identity maps of a user namespace: one user, one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Maps {
    pub inside_user: u32,
    pub inside_group: u32,
    /// User and group as the jailer's user namespace has them; the environment's user namespace belongs to them.
    pub outside: u32,
}

/// What a new process is to be. Descriptors travel beside it, in the order of [`Descriptors`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Host name inside the walls; `None` for a plain process.
    pub host_name: Option<String>,
    pub in_control_group: bool,
    pub maps: Option<Maps>,
    /// Become this user and group.
    pub identity: Option<(u32, u32)>,
    /// Resource, soft limit, hard limit.
    pub resource_limits: Vec<(u32, u64, u64)>,
    pub working_directory: CString,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// Programs beside the main one, and what each finds in its environment.
    pub companions: Vec<CString>,
    pub companion_environment: Vec<CString>,
}

/// The descriptors of an order.
#[derive(Clone, Copy)]
pub(super) struct Descriptors<'a> {
    pub status: BorrowedFd<'a>,
    pub output: BorrowedFd<'a>,
    /// Network namespace, mount namespace with the root, `/tmp`.
    pub walls: Option<[BorrowedFd<'a>; 3]>,
    pub birthplace: Option<BorrowedFd<'a>>,
    pub bell: Option<BorrowedFd<'a>>,
    /// To be entered in place of a new one; the maps are written.
    pub user_namespace: Option<BorrowedFd<'a>>,
    /// As many as the order has companions.
    pub companion_outputs: &'a [OwnedFd],
    /// For a blank: where its order will come from.
    pub orders: Option<BorrowedFd<'a>>,
    pub entrances: &'a [OwnedFd],
}

const HAS_WALLS: u8 = 1;
const HAS_BIRTHPLACE: u8 = 2;
const HAS_BELL: u8 = 4;
const IS_BLANK: u8 = 8;
const HAS_TEMPORARY: u8 = 16;
const HAS_USER: u8 = 32;

/// The jailer's end of one cloner.
pub(super) struct Cloner {
    socket: Mutex<OwnedFd>,
    gone: AtomicBool,
}

impl Cloner {
    /// Forks a cloner. Call while the jailer has one thread; `proc` is the jailer's own `/proc`.
    ///
    /// `privileged` says that supplementary groups can, and must, be dropped.
    pub fn fork(
        filter: &[sock_filter],
        null: &OwnedFd,
        proc: &OwnedFd,
        privileged: bool,
    ) -> io::Result<Cloner> {
        let (ours, theirs) = socket::pair()?;
        // SAFETY: this process has one thread, so the copy may do anything.
        #[allow(unsafe_code)]
        match unsafe { syscalls::clone3(0, None) }? {
            Cloned::Child => {
                close_all_but(&[theirs.as_raw_fd(), null.as_raw_fd(), proc.as_raw_fd()]);
                if privileged
                    && (rustix::thread::set_thread_groups(&[]).is_err()
                        || syscalls::keep_capabilities().is_err())
                {
                    syscalls::exit_now(71);
                }
                let life = std::panic::AssertUnwindSafe(|| serve(&theirs, filter, null, proc));
                drop(std::panic::catch_unwind(life));
                syscalls::exit_now(70);
            }
            Cloned::Parent { .. } => Ok(Cloner { socket: Mutex::new(ours), gone: AtomicBool::new(false) }),
        }
    }

    /// Whether it has ended, which it never should.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Makes a process; it is waking up when this returns. Its pid is the jailer's view. An error means that there is
    /// none, and that its parts are free.
    pub fn clone_process(
        &self,
        order: &Order,
        descriptors: &Descriptors<'_>,
        registry: &Mutex<Registry>,
    ) -> Result<(i32, OwnedFd), Unfit> {
        let failed = |error| Unfit { doing: "ask for a process".into(), error };
        let gone = |error| {
            self.gone.store(true, Ordering::Relaxed);
            failed(error)
        };
        let socket = self.socket.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (bytes, passed) = order.to_packet(descriptors);
        socket::send(&*socket, &bytes, &passed).map_err(gone)?;
        let mut buffer = [0; 256];
        let (count, mut received) = socket::receive(&*socket, &mut buffer).map_err(gone)?;
        if count == 0 {
            return Err(gone(io::Error::from_raw_os_error(libc::ECHILD)));
        }
        match (Answer::from_bytes(&buffer[..count]), received.pop()) {
            (Ok(Answer::Made { pid }), Some(pidfd)) => Ok((pid, pidfd)),
            (Ok(Answer::Failed { doing, errno }), _) => {
                Err(Unfit { doing, error: io::Error::from_raw_os_error(errno) })
            }
            // There was no room for the descriptor in our table. Nobody but us knows of the process.
            (Ok(Answer::Made { pid }), None) => {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
                await_reaped(registry, pid);
                Err(failed(io::Error::from_raw_os_error(libc::EMFILE)))
            }
            (Err(Malformed), _) => Err(failed(io::Error::from_raw_os_error(libc::EPROTO))),
        }
    }
}

/// Waits until the reaper has seen the end of a process that was killed.
pub(super) fn await_reaped(registry: &Mutex<Registry>, pid: i32) {
    for _ in 0..LOOKS_MAX {
        if registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).forget(pid) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Order {
    fn to_packet<'a>(&self, descriptors: &Descriptors<'a>) -> (Vec<u8>, Vec<BorrowedFd<'a>>) {
        let mut passed = vec![descriptors.status, descriptors.output];
        let mut given = 0;
        if let Some(walls) = descriptors.walls {
            given |= HAS_WALLS;
            passed.extend(walls);
        }
        if let Some(birthplace) = descriptors.birthplace {
            given |= HAS_BIRTHPLACE;
            passed.push(birthplace);
        }
        if let Some(bell) = descriptors.bell {
            given |= HAS_BELL;
            passed.push(bell);
        }
        if let Some(namespace) = descriptors.user_namespace {
            given |= HAS_USER;
            passed.push(namespace);
        }
        passed.extend(descriptors.companion_outputs.iter().map(AsFd::as_fd));
        if let Some(orders) = descriptors.orders {
            given |= IS_BLANK;
            passed.push(orders);
        }
        passed.extend(descriptors.entrances.iter().map(AsFd::as_fd));
        (self.to_bytes(given), passed)
    }

    /// What a blank is told, with the root's mount namespace, a `/tmp` in place of its own, and where each companion writes.
    pub fn fill<'a>(
        &self,
        root: BorrowedFd<'a>,
        temporary: Option<BorrowedFd<'a>>,
        companion_outputs: &'a [OwnedFd],
    ) -> (Vec<u8>, Vec<BorrowedFd<'a>>) {
        let mut given = 0;
        let mut passed = vec![root];
        if let Some(temporary) = temporary {
            given |= HAS_TEMPORARY;
            passed.push(temporary);
        }
        passed.extend(companion_outputs.iter().map(AsFd::as_fd));
        (self.to_bytes(given), passed)
    }

    fn to_bytes(&self, given: u8) -> Vec<u8> {
        let mut writer = Writer::of(given);
        writer.optional(self.host_name.as_ref().map(String::as_bytes));
        writer.u32(u32::from(self.in_control_group));
        writer.u32(u32::from(self.maps.is_some()));
        if let Some(maps) = self.maps {
            writer.u32(maps.inside_user);
            writer.u32(maps.inside_group);
            writer.u32(maps.outside);
        }
        writer.u32(u32::from(self.identity.is_some()));
        if let Some((user, group)) = self.identity {
            writer.u32(user);
            writer.u32(group);
        }
        writer.count(self.resource_limits.len());
        for (resource, soft, hard) in &self.resource_limits {
            writer.u32(*resource);
            writer.u64(*soft);
            writer.u64(*hard);
        }
        writer.bytes(self.working_directory.as_bytes());
        for texts in [&self.arguments, &self.environment, &self.companions, &self.companion_environment] {
            writer.count(texts.len());
            texts.iter().for_each(|text| writer.bytes(text.as_bytes()));
        }
        writer.0
    }

    fn from_bytes(bytes: &[u8]) -> Result<(Order, u8), Malformed> {
        let mut reader = Reader(bytes);
        let flag = |reader: &mut Reader<'_>| reader.u32().map(|number| number != 0);
        let text = |reader: &mut Reader<'_>| CString::new(reader.bytes()?.to_vec()).map_err(|_| Malformed);
        let given = reader.u8()?;
        let host_name = match reader.u8()? {
            0 => None,
            _ => Some(reader.text()?),
        };
        let mut order = Order { host_name, ..Order::default() };
        order.in_control_group = flag(&mut reader)?;
        if flag(&mut reader)? {
            order.maps = Some(Maps {
                inside_user: reader.u32()?,
                inside_group: reader.u32()?,
                outside: reader.u32()?,
            });
        }
        if flag(&mut reader)? {
            order.identity = Some((reader.u32()?, reader.u32()?));
        }
        order.resource_limits = reader.list(|reader| Ok((reader.u32()?, reader.u64()?, reader.u64()?)))?;
        order.working_directory = text(&mut reader)?;
        order.arguments = reader.list(text)?;
        order.environment = reader.list(text)?;
        order.companions = reader.list(text)?;
        order.companion_environment = reader.list(text)?;
        reader.end((order, given))
    }
}

/// What a cloner says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The pidfd comes along.
    Made {
        pid: i32,
    },
    Failed {
        doing: String,
        errno: i32,
    },
}

impl Answer {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Answer::Made { pid } => {
                let mut writer = Writer::of(1);
                writer.u32(pid.cast_unsigned());
                writer.0
            }
            Answer::Failed { doing, errno } => {
                let mut writer = Writer::of(2);
                writer.text(doing);
                writer.u32(errno.cast_unsigned());
                writer.0
            }
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Answer, Malformed> {
        let mut reader = Reader(bytes);
        let answer = match reader.u8()? {
            1 => Answer::Made { pid: reader.u32()?.cast_signed() },
            2 => Answer::Failed { doing: reader.text()?, errno: reader.u32()?.cast_signed() },
            _ => return Err(Malformed),
        };
        reader.end(answer)
    }
}

/// What a cloner keeps for all its children.
struct Tools<'a> {
    filter: &'a [sock_filter],
    null: RawFd,
    proc: BorrowedFd<'a>,
    landlock: u32,
    kernel_addresses: bool,
    /// Where plans are laid out; what its children have in place of the heap.
    desk: Desk,
    spare: Vec<(usize, usize)>,
    /// Memory that most children are cloned without.
    own: Vec<(usize, usize)>,
    small: Option<Small>,
    /// The cloner's own end.
    socket: RawFd,
}

/// Whether this host shows the kernel's addresses to everybody in `/proc/kallsyms`: with these two settings of its, see
/// `kallsyms_show_value` in the kernel's kernel/ksyms_common.c.
fn shows_kernel_addresses(proc: &OwnedFd) -> bool {
    let setting = |name: &str| -> Option<i32> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(proc, format!("sys/kernel/{name}"), flags, Mode::empty()).ok()?;
        io::read_to_string(std::fs::File::from(file)).ok()?.trim().parse().ok()
    };
    setting("kptr_restrict") == Some(0) && setting("perf_event_paranoid").is_some_and(|level| level <= 1)
}

/// A cloner's life: one order after another.
fn serve(socket: &OwnedFd, filter: &[sock_filter], null: &OwnedFd, proc: &OwnedFd) {
    let _ = rustix::thread::set_name(c"onrush-cloner");
    // Without a pid namespace nothing else would end us when the jailer is killed.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Fails never, and the children are then as they were.
    drop(syscalls::leave_libraries_to_parent());
    let Some(desk) = Desk::new(filter) else { return };
    let mut tools = Tools {
        filter,
        null: null.as_raw_fd(),
        proc: proc.as_fd(),
        landlock: landlock::version(),
        kernel_addresses: shows_kernel_addresses(proc),
        desk,
        spare: Vec::with_capacity(SPARE_MAX),
        own: Vec::new(),
        small: None,
        socket: socket.as_raw_fd(),
    };
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    // Last, when what lives long has its place; what the heap gains later the supervisors keep.
    tools.spare = syscalls::spare_memory();
    tools.spare.retain(|range| !tools.desk.is_in(*range));
    tools.own = [tools.spare.clone(), syscalls::loader_memory()].concat();
    tools.small = Small::prepare();
    tools.leave_memory(true);
    let mut is_settled = false;
    loop {
        if !is_settled && is_quiet(socket) {
            resident::let_go_of_code();
            is_settled = true;
        }
        let Ok((count, descriptors)) = socket::receive(socket, &mut buffer) else { return };
        if count == 0 {
            return;
        }
        let Ok((order, given)) = Order::from_bytes(&buffer[..count]) else { return };
        let (answer, pidfd) = match tools.make(&order, given, &descriptors, &mut buffer) {
            Ok((pid, pidfd)) => (Answer::Made { pid }, Some(pidfd)),
            Err(unfit) => {
                let errno = unfit.error.raw_os_error().unwrap_or(libc::EIO);
                (Answer::Failed { doing: unfit.doing, errno }, None)
            }
        };
        let passed: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
        if socket::send(socket, &answer.to_bytes(), &passed).is_err() {
            return;
        }
    }
}

/// Whether no order comes for a while.
fn is_quiet(orders: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(orders, PollFlags::IN)], Some(&QUIET)) == Ok(0)
}

fn unfit<T, E: Into<io::Error>>(doing: &str, result: Result<T, E>) -> Result<T, Unfit> {
    result.map_err(|error| Unfit { doing: doing.to_owned(), error: error.into() })
}

/// The texts of an order as system calls want them.
struct Texts {
    maps: [String; 2],
    /// What `programs` points to.
    _candidates: Vec<CString>,
    programs: Vec<*const libc::c_char>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    companions: Vec<*const libc::c_char>,
    companion_environment: Vec<*const libc::c_char>,
}

impl Texts {
    /// The pointers are good for as long as the order.
    fn of(order: &Order) -> Texts {
        let Maps { inside_user, inside_group, outside } = order.maps.unwrap_or_default();
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let candidates = candidates(&order.arguments, &order.environment);
        Texts {
            maps: [format!("{inside_user} {outside} 1"), format!("{inside_group} {outside} 1")],
            programs: candidates.iter().map(|program| program.as_ptr()).collect(),
            _candidates: candidates,
            arguments: pointers(&order.arguments),
            environment: pointers(&order.environment),
            companions: order.companions.iter().map(|program| program.as_ptr()).collect(),
            companion_environment: pointers(&order.companion_environment),
        }
    }
}

/// The descriptors of a process to be, by number.
struct Ends {
    status: RawFd,
    output: RawFd,
    bell: RawFd,
    user_namespace: Option<RawFd>,
    companion_outputs: Vec<RawFd>,
    temporary: Option<RawFd>,
    entrances: Vec<RawFd>,
}

impl Tools<'_> {
    fn make(
        &self,
        order: &Order,
        given: u8,
        passed: &[OwnedFd],
        buffer: &mut [u8],
    ) -> Result<(i32, OwnedFd), Unfit> {
        // Fewer than were sent arrive when our table of descriptors is full.
        let missing = || Unfit {
            doing: "receive an environment's descriptors".into(),
            error: io::Error::from_raw_os_error(libc::EMFILE),
        };
        let mut rest = passed.iter();
        let mut next = || rest.next().ok_or_else(missing);
        let (status, output) = (next()?, next()?);
        let mut temporary = None;
        if given & HAS_WALLS != 0 {
            unfit("enter the network namespace", syscalls::setns(next()?.as_fd(), libc::CLONE_NEWNET))?;
            unfit("enter the root", syscalls::setns(next()?.as_fd(), libc::CLONE_NEWNS))?;
            temporary = Some(next()?.as_raw_fd());
        }
        let birthplace = if given & HAS_BIRTHPLACE != 0 { Some(next()?) } else { None };
        let bell = if given & HAS_BELL != 0 { Some(next()?) } else { None };
        let user_namespace = if given & HAS_USER != 0 { Some(next()?.as_raw_fd()) } else { None };
        let mut companion_outputs = Vec::new();
        for _ in &order.companions {
            companion_outputs.push(next()?.as_raw_fd());
        }
        let orders = if given & IS_BLANK != 0 { Some(next()?) } else { None };
        let ends = Ends {
            status: status.as_raw_fd(),
            output: output.as_raw_fd(),
            bell: bell.map_or(-1, AsRawFd::as_raw_fd),
            user_namespace,
            companion_outputs,
            temporary,
            entrances: rest.map(AsRawFd::as_raw_fd).collect(),
        };
        if let Some(orders) = orders {
            return unfit("clone a blank", self.clone_blank(order, &ends, birthplace, orders, buffer));
        }
        let texts = Texts::of(order);
        let plan = self.plan(order, &texts, &ends);
        // One that is too large for the desk needs the heap that it is in.
        // SAFETY: the plan before has been cloned, and this one's parts stand above.
        #[allow(unsafe_code)]
        let laid_out = unsafe { self.desk.lay_out(&plan) };
        let _whole = laid_out.is_none().then(|| self.lend_memory());
        // Whose namespaces made now belong to: nobody else's where there is a user namespace already.
        let owner = order.maps.filter(|_| user_namespace.is_none()).map_or(0, |maps| maps.outside);
        let _guise = unfit("act for another user", Guise::of(owner))?;
        unfit("clone a process", clone_child(laid_out.as_ref().unwrap_or(&plan), birthplace))
    }

    /// Whether children are cloned without the memory that is the cloner's own, which is most of it: neither is then copied,
    /// written anew by both sides, and taken apart (measured).
    fn leave_memory(&self, leave: bool) {
        self.own.iter().for_each(|range| syscalls::leave_to_parent(*range, leave));
    }

    /// Has children cloned with all memory, until the result is dropped.
    fn lend_memory(&self) -> Lent<'_> {
        self.leave_memory(false);
        Lent(&self.own)
    }

    fn plan<'a>(&'a self, order: &'a Order, texts: &'a Texts, ends: &'a Ends) -> Plan<'a> {
        Plan {
            walls: order.host_name.as_ref().zip(ends.temporary).map(|(host_name, temporary)| Walls {
                temporary,
                host_name: host_name.as_bytes(),
                maps: [texts.maps[0].as_bytes(), texts.maps[1].as_bytes()],
                user_namespace: ends.user_namespace,
                in_control_group: order.in_control_group,
                landlock: self.landlock,
                kernel_addresses: self.kernel_addresses,
            }),
            oom_score: OOM_SCORE,
            proc: self.proc.as_raw_fd(),
            status: ends.status,
            null: self.null,
            output: ends.output,
            bell: ends.bell,
            entrances: &ends.entrances,
            identity: order.identity,
            resource_limits: &order.resource_limits,
            filter: self.filter,
            working_directory: &order.working_directory,
            programs: &texts.programs,
            arguments: &texts.arguments,
            environment: &texts.environment,
            companions: &texts.companions,
            companion_environment: &texts.companion_environment,
            companion_outputs: &ends.companion_outputs,
            spare: &self.spare,
            small: self.small.as_ref(),
        }
    }

    /// A process in new pid, IPC and UTS namespaces that waits for its order. The other namespaces follow with it.
    fn clone_blank(
        &self,
        order: &Order,
        ends: &Ends,
        birthplace: Option<&OwnedFd>,
        orders: &OwnedFd,
        buffer: &mut [u8],
    ) -> io::Result<(i32, OwnedFd)> {
        let flags = libc::CLONE_PARENT | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        // It reads its order, for which it needs the heap.
        let _whole = self.lend_memory();
        // SAFETY: we have one thread. The child calls libc alone, see `leave_libraries_to_parent`.
        #[allow(unsafe_code)]
        match unsafe { syscalls::clone3(flags as u64, birthplace.map(AsFd::as_fd)) }? {
            Cloned::Child => self.wait_for_order(order, ends, orders, buffer),
            Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
        }
    }

    /// A blank's life until it is filled, or nobody has a use for it any more.
    fn wait_for_order(&self, blank: &Order, ends: &Ends, orders: &OwnedFd, buffer: &mut [u8]) -> ! {
        // Its end is how the jailer learns that the cloner is gone.
        syscalls::close(self.socket);
        let texts = Texts::of(blank);
        let parked = child::park(&self.plan(blank, &texts, ends));
        let Ok((count, passed)) = socket::receive(orders, buffer) else { syscalls::exit_now(0) };
        if count == 0 {
            syscalls::exit_now(0);
        }
        let Ok((order, given)) = Order::from_bytes(&buffer[..count]) else { syscalls::exit_now(73) };
        let mut rest = passed.iter().map(AsRawFd::as_raw_fd);
        let root = rest.next();
        let temporary = if given & HAS_TEMPORARY != 0 { rest.next() } else { ends.temporary };
        let companion_outputs: Vec<_> = rest.take(order.companions.len()).collect();
        let complete = companion_outputs.len() == order.companions.len();
        let ends = Ends { companion_outputs, temporary, entrances: Vec::new(), ..*ends };
        let outside = order.maps.map_or(0, |maps| maps.outside);
        let texts = Texts::of(&order);
        let plan = self.plan(&order, &texts, &ends);
        match (root, &plan.walls) {
            (Some(root), Some(walls)) if complete => child::fill(&plan, walls, root, outside, parked),
            // Our table of descriptors was full.
            _ => syscalls::exit_now(74),
        }
    }
}

/// While it lives, children get these ranges too.
struct Lent<'a>(&'a [(usize, usize)]);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|range| syscalls::leave_to_parent(*range, true));
    }
}

/// While it lives, we act for another user, with all our capabilities: namespaces made now belong to that user.
struct Guise(u32);

impl Guise {
    fn of(user: u32) -> io::Result<Guise> {
        if user != 0 {
            syscalls::act_for(user)?;
        }
        Ok(Guise(user))
    }
}

impl Drop for Guise {
    fn drop(&mut self) {
        if self.0 != 0 && syscalls::act_for(0).is_err() {
            // Cannot fail with these capabilities. As another user we must not go on.
            syscalls::exit_now(72);
        }
    }
}

/// Where the program may be: at its path, or in the folders of the environment's own `PATH`.
fn candidates(arguments: &[CString], environment: &[CString]) -> Vec<CString> {
    let Some(program) = arguments.first() else { return Vec::new() };
    if program.as_bytes().contains(&b'/') {
        return vec![program.clone()];
    }
    let path = environment.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
    let folders = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin").split(|byte| *byte == b':');
    let joined =
        folders.filter(|folder| !folder.is_empty()).map(|folder| [folder, b"/", program.as_bytes()].concat());
    joined.take(PATH_FOLDERS_MAX).filter_map(|path| CString::new(path).ok()).collect()
}

fn clone_child(plan: &Plan<'_>, birthplace: Option<&OwnedFd>) -> io::Result<(i32, OwnedFd)> {
    let mut flags = libc::CLONE_PARENT;
    if let Some(walls) = &plan.walls {
        // Not NEWNET: we are in the environment's network, which it must not own. Not NEWCGROUP: the child
        // makes that one after it has joined its groups.
        flags |= libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if walls.user_namespace.is_none() {
            flags |= libc::CLONE_NEWUSER;
        }
    }
    // SAFETY: we have one thread; the child makes raw calls alone, see `child`.
    #[allow(unsafe_code)]
    match unsafe { syscalls::clone3(flags as u64, birthplace.map(AsFd::as_fd)) }? {
        Cloned::Child => child::run(plan),
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_the_path_and_a_path_is_taken_as_it_is() {
        let environment = [c"A=1".into(), c"PATH=/a::/b/c".into()];
        assert_eq!(
            candidates(&[c"npm".into(), c"run".into()], &environment),
            [c"/a/npm".to_owned(), c"/b/c/npm".to_owned()]
        );
        assert_eq!(candidates(&[c"./run".into()], &environment), [c"./run".to_owned()]);
        assert!(candidates(&[], &environment).is_empty());
    }

    #[test]
    fn a_process_whose_descriptor_found_no_room_is_ended_before_its_parts_are_free() {
        let (ours, theirs) = socket::pair().unwrap();
        let cloner = Cloner { socket: Mutex::new(ours), gone: AtomicBool::new(false) };
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let registry = Mutex::new(Registry::default());
        let (read, _write) = rustix::pipe::pipe().unwrap();
        let descriptors = Descriptors {
            status: read.as_fd(),
            output: read.as_fd(),
            walls: None,
            birthplace: None,
            bell: None,
            user_namespace: None,
            companion_outputs: &[],
            orders: None,
            entrances: &[],
        };
        let pid = child.id().cast_signed();
        socket::send(&theirs, &Answer::Made { pid }.to_bytes(), &[]).unwrap();
        let (ended, made) = std::thread::scope(|scope| {
            let reaper = scope.spawn(|| {
                for _ in 0..2_000 {
                    if let Some(ended) = child.try_wait().unwrap() {
                        registry.lock().unwrap().stray(pid);
                        return Some(ended);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                None
            });
            let made = cloner.clone_process(&Order::default(), &descriptors, &registry);
            (reaper.join().unwrap(), made)
        });
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(made.unwrap_err().error.raw_os_error(), Some(libc::EMFILE));
        assert!(ended.is_some(), "the process goes on, and nobody knows of it");
        assert!(!registry.lock().unwrap().forget(pid), "its end is known to be its own");
    }

    #[test]
    fn orders_and_answers_survive_the_socket() {
        let order = Order {
            host_name: Some("h".into()),
            in_control_group: true,
            maps: Some(Maps { inside_user: 993, inside_group: 990, outside: 1_500_000_000 }),
            identity: Some((993, 990)),
            resource_limits: vec![(7, 1_024, u64::MAX)],
            working_directory: c"/var/task".into(),
            arguments: vec![c"/var/task/bootstrap".into()],
            environment: vec![c"A=1".into(), c"B=".into()],
            companions: vec![c"/opt/extensions/a".into(), c"/opt/extensions/b".into()],
            companion_environment: vec![c"C=".into()],
        };
        let (read, write) = rustix::pipe::pipe().unwrap();
        let entrances = [write];
        let descriptors = Descriptors {
            status: read.as_fd(),
            output: read.as_fd(),
            walls: None,
            birthplace: Some(read.as_fd()),
            bell: None,
            user_namespace: None,
            companion_outputs: &[],
            orders: None,
            entrances: &entrances,
        };
        for order in [order, Order::default()] {
            let (bytes, passed) = order.to_packet(&descriptors);
            assert_eq!(passed.len(), 4);
            assert_eq!(Order::from_bytes(&bytes), Ok((order.clone(), HAS_BIRTHPLACE)));
            for end in 0..bytes.len() {
                assert_eq!(Order::from_bytes(&bytes[..end]), Err(Malformed));
            }
            let (bytes, passed) = order.fill(read.as_fd(), Some(read.as_fd()), &entrances);
            assert_eq!(passed.len(), 3);
            assert_eq!(Order::from_bytes(&bytes), Ok((order, HAS_TEMPORARY)));
        }
        for answer in [Answer::Made { pid: 7 }, Answer::Failed { doing: "clone".into(), errno: 11 }] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Ok(answer));
        }
    }
}
