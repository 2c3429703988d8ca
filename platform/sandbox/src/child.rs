//! What a new process does between `clone3` and the program: it puts itself into its box, gives everything
//! up, starts the program, and stays as the environment's supervisor.
//!
//! The supervisor is pid 1 of the environment: it reaps orphans (a runtime as pid 1 would get no default
//! signal actions and would have to), reports how the program ended, and takes everything with it when it
//! goes. Runs in a copy of a cloner without its heap that has libc alone of all libraries, so it allocates nothing and
//! makes raw calls alone. The order of the steps matters: each needs what the next gives up.
//!
//! A process may also be [parked](park) ahead, before it is known which version it will serve, and [filled](fill) later.
#![allow(unsafe_code)]

pub(crate) mod desk;
pub(crate) mod small;

use std::ffi::CStr;
use std::os::fd::RawFd;

use seccompiler::sock_filter;

use crate::landlock;
use crate::spec::COMPANIONS_MAX;
use crate::syscalls::raw;

/// A step that can fail, named in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    IdentityMaps = 1,
    Group,
    GroupNamespace,
    Identity,
    Proc,
    Temporary,
    WorkingDirectory,
    HostName,
    ResourceLimits,
    Capabilities,
    NoNewPrivileges,
    Landlock,
    Seccomp,
    Supervise,
    Execute,
    Root,
    UserNamespace,
}

impl Step {
    const ALL: [Step; 17] = [
        Step::IdentityMaps,
        Step::Group,
        Step::GroupNamespace,
        Step::Identity,
        Step::Proc,
        Step::Temporary,
        Step::WorkingDirectory,
        Step::HostName,
        Step::ResourceLimits,
        Step::Capabilities,
        Step::NoNewPrivileges,
        Step::Landlock,
        Step::Seccomp,
        Step::Supervise,
        Step::Execute,
        Step::Root,
        Step::UserNamespace,
    ];

    fn from_byte(byte: u8) -> Option<Step> {
        Step::ALL.into_iter().find(|step| *step as u8 == byte)
    }

    /// What was being done, for an error text.
    pub fn words(self) -> &'static str {
        match self {
            Step::IdentityMaps => "write the identity maps",
            Step::Group => "join the control groups",
            Step::GroupNamespace => "make a control group namespace",
            Step::Identity => "change to the environment's user",
            Step::Proc => "mount /proc",
            Step::Temporary => "attach /tmp",
            Step::WorkingDirectory => "enter the working directory",
            Step::HostName => "set the host name",
            Step::ResourceLimits => "set resource limits",
            Step::Capabilities => "drop capabilities",
            Step::NoNewPrivileges => "give up new privileges",
            Step::Landlock => "restrict what files may be written",
            Step::Seccomp => "install the system call filter",
            Step::Supervise => "set up the supervisor",
            Step::Execute => "start the program",
            Step::Root => "enter the root",
            Step::UserNamespace => "make a user namespace",
        }
    }
}

/// One message on the status pipe: `kind step 0 0 value(4, native order)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The program runs.
    Started,
    /// A step failed with this errno.
    Failed { step: Step, errno: i32 },
    /// The program exited.
    Exited { code: i32 },
    /// A signal ended the program.
    Signaled { signal: i32 },
    /// Memory ran out, of the environment's group or of one around it: the kernel rings alike (measured, version 1).
    MemoryRanOut,
    /// A companion, by its place in the list, exited.
    CompanionExited { index: u8, code: i32 },
    /// A signal ended a companion.
    CompanionSignaled { index: u8, signal: i32 },
    /// A companion could not be executed, for this errno.
    CompanionFailed { index: u8, errno: i32 },
    /// A blank environment stands ready.
    Parked,
}

/// Ranges of memory that a supervisor lets go of; if there are more, it keeps the others.
pub(crate) const SPARE_MAX: usize = 16;

/// A supervisor gives its memory up once nothing has happened for so long, milliseconds: the processor is its program's
/// until it has started, and one that ends soon takes all of it along at once. Less than it takes until an idle environment
/// is frozen, its supervisor with it.
const SETTLE_MS: i64 = 4;

/// Bytes of one status message.
pub(crate) const STATUS_BYTES: usize = 8;

/// Kinds of status messages that [`small`] writes, too.
const EXITED: u8 = 3;
const SIGNALED: u8 = 4;
const MEMORY_RAN_OUT: u8 = 5;

impl Status {
    fn to_bytes(self) -> [u8; STATUS_BYTES] {
        let (kind, step, value) = match self {
            Status::Started => (1, 0, 0),
            Status::Failed { step, errno } => (2, step as u8, errno),
            Status::Exited { code } => (EXITED, 0, code),
            Status::Signaled { signal } => (SIGNALED, 0, signal),
            Status::MemoryRanOut => (MEMORY_RAN_OUT, 0, 0),
            Status::CompanionExited { index, code } => (6, index, code),
            Status::CompanionSignaled { index, signal } => (7, index, signal),
            Status::CompanionFailed { index, errno } => (8, index, errno),
            Status::Parked => (9, 0, 0),
        };
        let [a, b, c, d] = value.to_ne_bytes();
        [kind, step, 0, 0, a, b, c, d]
    }

    /// Reads one message; `None` for bytes that are none.
    pub fn from_bytes(bytes: [u8; STATUS_BYTES]) -> Option<Status> {
        let [kind, step, _, _, a, b, c, d] = bytes;
        let value = i32::from_ne_bytes([a, b, c, d]);
        match kind {
            1 => Some(Status::Started),
            2 => Some(Status::Failed { step: Step::from_byte(step)?, errno: value }),
            EXITED => Some(Status::Exited { code: value }),
            SIGNALED => Some(Status::Signaled { signal: value }),
            MEMORY_RAN_OUT => Some(Status::MemoryRanOut),
            6 => Some(Status::CompanionExited { index: step, code: value }),
            7 => Some(Status::CompanionSignaled { index: step, signal: value }),
            8 => Some(Status::CompanionFailed { index: step, errno: value }),
            9 => Some(Status::Parked),
            _ => None,
        }
    }
}

/// Everything the child needs, prepared by the jailer before the clone.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// The box to enter; `None` for a plain process.
    pub walls: Option<Walls<'a>>,
    /// How urgently the host's out-of-memory killer should take it, as text.
    pub oom_score: &'a [u8],
    /// The jailer's `/proc`.
    pub proc: RawFd,
    /// Where status messages go.
    pub status: RawFd,
    /// `/dev/null`, to be the program's input.
    pub null: RawFd,
    /// Write end of the output pipe.
    pub output: RawFd,
    /// Rings when memory runs out; -1 for none.
    pub bell: RawFd,
    /// Control files to write `0` to.
    pub entrances: &'a [RawFd],
    /// Become this user and group, if the jailer may.
    pub identity: Option<(u32, u32)>,
    /// Resource, soft limit, hard limit.
    pub resource_limits: &'a [(u32, u64, u64)],
    pub filter: &'a [sock_filter],
    pub working_directory: &'a CStr,
    /// Where the program may be; the first that can be executed is taken.
    pub programs: &'a [*const libc::c_char],
    /// Null-terminated arrays of C strings; a trial has no program and stops before it.
    pub arguments: &'a [*const libc::c_char],
    pub environment: &'a [*const libc::c_char],
    /// Programs to run beside, at most [`COMPANIONS_MAX`]; with any, the program waits for SIGHUP.
    pub companions: &'a [*const libc::c_char],
    /// Null-terminated.
    pub companion_environment: &'a [*const libc::c_char],
    /// Write end of each companion's output pipe.
    pub companion_outputs: &'a [RawFd],
    /// Memory that a supervisor can do without: where it begins, and its bytes.
    pub spare: &'a [(usize, usize)],
    /// Where a supervisor needs hardly any.
    pub small: Option<&'a small::Small>,
}

/// The parts of a box.
#[derive(Clone, Copy)]
pub(crate) struct Walls<'a> {
    /// Detached tree: `/tmp`.
    pub temporary: RawFd,
    pub host_name: &'a [u8],
    /// Lines for `uid_map` and `gid_map`.
    pub maps: [&'a [u8]; 2],
    /// In place of a new one, whose maps are still to be written.
    pub user_namespace: Option<RawFd>,
    pub in_control_group: bool,
    /// Version of Landlock to use; 0 for none.
    pub landlock: u32,
    /// Whether the host shows the kernel's addresses to everybody, so that they are to be hidden.
    pub kernel_addresses: bool,
}

fn say(plan: &Plan<'_>, status: Status) {
    let bytes = status.to_bytes();
    // SAFETY: eight live bytes; a full or closed pipe is nobody's loss.
    let _ = unsafe { raw!(SYS_write, plan.status, bytes.as_ptr(), bytes.len()) };
}

fn exit() -> ! {
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { raw!(SYS_exit_group, 0) };
    }
}

fn fail(plan: &Plan<'_>, step: Step, errno: i32) -> ! {
    say(plan, Status::Failed { step, errno });
    exit()
}

fn must(plan: &Plan<'_>, step: Step, result: Result<usize, i32>) -> RawFd {
    match result {
        Ok(made) => made as RawFd,
        Err(errno) => fail(plan, step, errno),
    }
}

macro_rules! call {
    ($plan:expr, $step:expr, $number:ident $(, $argument:expr)*) => {
        // SAFETY: pointers among the arguments are to C strings and structures that outlive the call; all
        // of them were prepared in `Plan` or stand in this function.
        must($plan, $step, unsafe { raw!($number $(, $argument)*) })
    };
}

/// Enters the box, starts the program, supervises it. Never returns.
pub(crate) fn run(plan: &Plan<'_>) -> ! {
    // Where it does not count, it cannot be set.
    let _ = write_own(plan, c"self/oom_score_adj", plan.oom_score);
    let is_mapped = plan.walls.as_ref().is_none_or(|walls| walls.user_namespace.is_some());
    if let Some(walls) = plan.walls.as_ref().filter(|_| !is_mapped) {
        map_identity(plan, walls.maps);
    }
    // Before the limit of open files, which the jailer's own descriptors may exceed.
    let signals = watch_signals(plan);
    join_groups(plan);
    if let Some(walls) = plan.walls.as_ref().filter(|_| is_mapped) {
        // All other namespaces are to be complete before it is entered, as in `fill`: from there none can be changed.
        enter(plan, walls);
        if let Some(namespace) = walls.user_namespace {
            call!(plan, Step::UserNamespace, SYS_setns, namespace, libc::CLONE_NEWUSER);
        }
        become_user(plan);
    } else {
        become_user(plan);
        if let Some(walls) = &plan.walls {
            enter(plan, walls);
        }
    }
    settle(plan, signals)
}

/// What a blank environment has ready for the version that it will serve.
#[derive(Clone, Copy)]
pub(crate) struct Parked {
    signals: RawFd,
    /// Detached: `/proc` of its own processes.
    proc: RawFd,
}

/// Does ahead what no version has a say in. The caller's process is the first of a new pid namespace and has all
/// privileges still.
pub(crate) fn park(plan: &Plan<'_>) -> Parked {
    let _ = write_own(plan, c"self/oom_score_adj", plan.oom_score);
    let signals = watch_signals(plan);
    join_groups(plan);
    let parked = Parked { signals, proc: detached_proc(plan) };
    say(plan, Status::Parked);
    parked
}

/// Makes of a blank environment one of the version whose root `root` names, as [`run`] does at once, and in the end with
/// the same: of its namespaces the user's alone is its own to rule, and that is made when all others are complete.
pub(crate) fn fill(plan: &Plan<'_>, walls: &Walls<'_>, root: RawFd, outside: u32, parked: Parked) -> ! {
    call!(plan, Step::Root, SYS_setns, root, libc::CLONE_NEWNS);
    call!(plan, Step::Root, SYS_unshare, libc::CLONE_NEWNS);
    attach(plan, Step::Proc, parked.proc, c"/proc");
    hide_addresses(walls);
    attach(plan, Step::Temporary, walls.temporary, c"/tmp");
    call!(plan, Step::HostName, SYS_sethostname, walls.host_name.as_ptr(), walls.host_name.len());
    if outside != 0 {
        // The user namespace belongs to whom we act for. Capabilities stay, see `syscalls::keep_capabilities`.
        const SAME: u32 = u32::MAX;
        call!(plan, Step::UserNamespace, SYS_setresgid, SAME, outside, SAME);
        call!(plan, Step::UserNamespace, SYS_setresuid, SAME, outside, SAME);
        call!(plan, Step::UserNamespace, SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
    }
    call!(plan, Step::UserNamespace, SYS_unshare, libc::CLONE_NEWUSER);
    map_identity(plan, walls.maps);
    become_user(plan);
    settle(plan, parked.signals)
}

/// The last steps, the same for all: gives everything up and starts the program.
fn settle(plan: &Plan<'_>, signals: RawFd) -> ! {
    // SAFETY: reads a C string.
    must(plan, Step::WorkingDirectory, unsafe { raw!(SYS_chdir, plan.working_directory.as_ptr()) });
    for &(resource, soft, hard) in plan.resource_limits {
        let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
        call!(plan, Step::ResourceLimits, SYS_prlimit64, 0, resource, &raw const limit, 0_usize);
    }
    give_up_privileges(plan);
    if plan.arguments.len() <= 1 {
        say(plan, Status::Exited { code: 0 });
        exit();
    }
    if !plan.companions.is_empty() {
        say(plan, Status::Started);
        supervise_with_companions(plan, signals)
    }
    let program = match spawn(plan, &main_program(plan)) {
        Ok(program) => program,
        Err(errno) => fail(plan, Step::Execute, errno),
    };
    say(plan, Status::Started);
    supervise(plan, signals, program)
}

/// Writes one value into a file of `/proc`.
fn write_own(plan: &Plan<'_>, path: &CStr, text: &[u8]) -> Result<usize, i32> {
    // SAFETY: a C string and live bytes; the descriptor is ours to close.
    unsafe {
        let file = raw!(SYS_openat, plan.proc, path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)?;
        let written = raw!(SYS_write, file, text.as_ptr(), text.len());
        let _ = raw!(SYS_close, file);
        written
    }
}

/// Maps one user and one group. The new user namespace belongs to the user that is mapped, and so the child may do it
/// itself (user_namespaces(7)), for the price of giving up setgroups, and nobody has to wait for the other.
///
/// Project ids anybody inside could map, once, and leave a few kilobytes of numbers to whoever enters the namespace next. Where
/// our own user namespace has none to map, nobody inside has.
fn map_identity(plan: &Plan<'_>, [user, group]: [&[u8]; 2]) {
    for (path, text) in [(c"self/setgroups", &b"deny"[..]), (c"self/gid_map", group), (c"self/uid_map", user)]
    {
        must(plan, Step::IdentityMaps, write_own(plan, path, text));
    }
    let _ = write_own(plan, c"self/projid_map", user);
}

/// Joins the control groups. In walls these become the top of what the environment can see.
fn join_groups(plan: &Plan<'_>) {
    for &entrance in plan.entrances {
        call!(plan, Step::Group, SYS_write, entrance, c"0".as_ptr(), 1_usize);
    }
    if plan.walls.as_ref().is_some_and(|walls| walls.in_control_group) {
        call!(plan, Step::GroupNamespace, SYS_unshare, libc::CLONE_NEWCGROUP);
    }
}

fn become_user(plan: &Plan<'_>) {
    let Some((user, group)) = plan.identity else { return };
    call!(plan, Step::Identity, SYS_setresgid, group, group, group);
    call!(plan, Step::Identity, SYS_setresuid, user, user, user);
}

/// Completes the copy of the mounts that we were cloned with: the version's root is in place already, see `root`.
fn enter(plan: &Plan<'_>, walls: &Walls<'_>) {
    let none = 0_usize;
    let restricted = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let proc = c"proc".as_ptr();
    call!(plan, Step::Proc, SYS_mount, proc, c"/proc".as_ptr(), proc, restricted, none);
    hide_addresses(walls);
    attach(plan, Step::Temporary, walls.temporary, c"/tmp");
    call!(plan, Step::HostName, SYS_sethostname, walls.host_name.as_ptr(), walls.host_name.len());
}

/// Covers the list of the kernel's addresses, where the host shows it to everybody.
fn hide_addresses(walls: &Walls<'_>) {
    if walls.kernel_addresses {
        let (nothing, addresses) = (c"/dev/null".as_ptr(), c"/proc/kallsyms".as_ptr());
        // SAFETY: C strings. Where it fails, the file shows what the host's settings let everybody see.
        let _ = unsafe { raw!(SYS_mount, nothing, addresses, 0_usize, libc::MS_BIND, 0_usize) };
    }
}

/// Mounts a detached tree at `place`.
fn attach(plan: &Plan<'_>, step: Step, tree: RawFd, place: &CStr) {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    let (empty, at) = (c"".as_ptr(), libc::AT_FDCWD);
    call!(plan, step, SYS_move_mount, tree, empty, at, place.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH);
}

/// A `/proc` of our pid namespace, attached nowhere yet.
fn detached_proc(plan: &Plan<'_>) -> RawFd {
    const FSOPEN_CLOEXEC: u32 = 1;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    const NOSUID_NODEV_NOEXEC: u32 = 2 | 4 | 8;
    let none = 0_usize;
    // SAFETY: a C string, numbers, and null where nothing is told.
    let context = must(plan, Step::Proc, unsafe { raw!(SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC) });
    call!(plan, Step::Proc, SYS_fsconfig, context, FSCONFIG_CMD_CREATE, none, none, 0);
    let mount = call!(plan, Step::Proc, SYS_fsmount, context, FSMOUNT_CLOEXEC, NOSUID_NODEV_NOEXEC);
    // SAFETY: closes what was made above.
    let _ = unsafe { raw!(SYS_close, context) };
    mount
}

fn give_up_privileges(plan: &Plan<'_>) {
    const LAST_CAPABILITY: libc::c_ulong = 63;
    const VERSION_3: u32 = 0x2008_0522;
    for capability in 0..=LAST_CAPABILITY {
        // SAFETY: numbers alone.
        match unsafe { raw!(SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } {
            Err(libc::EINVAL) => break, // past the kernel's last one
            // A plain process of an ordinary user has none to drop.
            Err(errno) if plan.walls.is_some() => fail(plan, Step::Capabilities, errno),
            _ => {}
        }
    }
    let header: [u32; 2] = [VERSION_3, 0];
    let none = [0_u32; 6];
    call!(plan, Step::Capabilities, SYS_capset, header.as_ptr(), none.as_ptr());
    call!(plan, Step::NoNewPrivileges, SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    // The supervisor is a copy of the jailer: nobody inside may read its memory or descriptors.
    call!(plan, Step::NoNewPrivileges, SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    if plan.walls.is_none() {
        call!(plan, Step::Supervise, SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        // After the last credential change, which clears it.
        call!(plan, Step::Supervise, SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
    }
    if let Some(walls) = plan.walls.as_ref().filter(|walls| walls.landlock > 0)
        && let Err(errno) = landlock::restrict(walls.landlock)
    {
        fail(plan, Step::Landlock, errno);
    }
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    let program = libc::sock_fprog {
        len: plan.filter.len() as u16,
        filter: plan.filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    call!(plan, Step::Seccomp, SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const program);
}

/// The jailer blocks all signals, so all of these wait until the supervisor reads them.
fn watch_signals(plan: &Plan<'_>) -> RawFd {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    call!(plan, Step::Supervise, SYS_signalfd4, -1_i32, &raw const WATCHED_SIGNALS, size_of::<u64>(), flags)
}

/// What a supervisor reads, as the kernel has sets of signals.
static WATCHED_SIGNALS: u64 = set_of(libc::SIGCHLD)
    | set_of(libc::SIGTERM)
    | set_of(libc::SIGUSR1)
    | set_of(libc::SIGUSR2)
    | set_of(START_PROGRAM)
    | set_of(TERMINATE_PROGRAM)
    | set_of(KILL_PROGRAM);

const fn set_of(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Starts the program, where there are companions.
pub(crate) const START_PROGRAM: i32 = libc::SIGHUP;
/// Sends SIGTERM to the program.
pub(crate) const TERMINATE_PROGRAM: i32 = libc::SIGINT;
/// Sends SIGKILL to the program alone.
pub(crate) const KILL_PROGRAM: i32 = libc::SIGQUIT;

/// What is executed, and how.
#[derive(Clone, Copy)]
struct Image {
    /// Where it may be; the first that can be executed is taken.
    programs: *const *const libc::c_char,
    programs_count: usize,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    output: RawFd,
    /// Null: where the supervisor is.
    directory: *const libc::c_char,
}

fn main_program(plan: &Plan<'_>) -> Image {
    Image {
        programs: plan.programs.as_ptr(),
        programs_count: plan.programs.len(),
        arguments: plan.arguments.as_ptr(),
        environment: plan.environment.as_ptr(),
        output: plan.output,
        directory: std::ptr::null(),
    }
}

struct Launch<'a> {
    plan: &'a Plan<'a>,
    image: Image,
    errno: i32,
}

/// Starts the program with `vfork`'s bargain: the child borrows our memory until it executes, so we know
/// how that went when we continue.
fn spawn(plan: &Plan<'_>, image: &Image) -> Result<i32, i32> {
    let mut launch = Launch { plan, image: *image, errno: 0 };
    // SAFETY: `execute` never returns, and we sleep until it has let go of our memory.
    let pid = unsafe { clone_borrowing(&raw mut launch) }?;
    // SAFETY: the child wrote through a pointer that the compiler may have lost sight of.
    match unsafe { std::ptr::read_volatile(&raw const launch.errno) } {
        0 => Ok(pid),
        errno => Err(errno),
    }
}

const BORROWING: libc::c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;

/// Clones a process that lives in [`execute`]. Its stack is the rest of our own, of which it so touches no new page.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_borrowing(launch: *mut Launch<'_>) -> Result<i32, i32> {
    let result: isize;
    // SAFETY: the child runs below all that we have on our stack, the 128 bytes that a function may use unasked included;
    // its registers are its own, and it never leaves `execute`.
    unsafe {
        std::arch::asm!(
            "lea rsi, [rsp - 256]",
            "and rsi, -16",
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call {execute}",
            "ud2",
            "2:",
            execute = sym execute,
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") BORROWING as usize,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            in("r9") launch,
            out("rsi") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    crate::syscalls::outcome(result).map(|pid| pid as i32)
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone_borrowing(launch: *mut Launch<'_>) -> Result<i32, i32> {
    let mut stack = [0_u128; 1024];
    // SAFETY: the stack is large enough for `execute` and used by nobody else.
    let pid = unsafe { libc::clone(execute, stack.as_mut_ptr_range().end.cast(), BORROWING, launch.cast()) };
    // SAFETY: the thread's own errno always exists.
    if pid < 0 { Err(unsafe { *libc::__errno_location() }) } else { Ok(pid) }
}

extern "C" fn execute(launch: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passes a live Launch and sleeps while we use it. Every pointer comes from the plan.
    unsafe {
        let launch = &mut *launch.cast::<Launch<'_>>();
        let (plan, image) = (launch.plan, launch.image);
        let _ = raw!(SYS_setsid);
        if plan.walls.is_none() {
            let _ = raw!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        }
        let _ = raw!(SYS_dup3, plan.null, 0, 0);
        let _ = raw!(SYS_dup3, image.output, 1, 0);
        let _ = raw!(SYS_dup3, image.output, 2, 0);
        if !image.directory.is_null() {
            let _ = raw!(SYS_chdir, image.directory);
        }
        let _ = raw!(SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        let _ = raw!(SYS_umask, 0o022);
        // Rust ignores SIGPIPE and the jailer blocks everything; a program expects neither.
        let default = [0_u64; 4];
        let _ = raw!(SYS_rt_sigaction, libc::SIGPIPE, default.as_ptr(), 0, size_of::<u64>());
        let _ = raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, default.as_ptr(), 0, size_of::<u64>());
        let mut failed = libc::ENOENT;
        for &program in std::slice::from_raw_parts(image.programs, image.programs_count) {
            match raw!(SYS_execve, program, image.arguments, image.environment) {
                // One that is there but may not be executed says more than one that is not.
                Ok(_) | Err(libc::ENOENT | libc::ENOTDIR) => {}
                Err(libc::EACCES) => failed = libc::EACCES,
                Err(other) => {
                    failed = other;
                    break;
                }
            }
        }
        std::ptr::write_volatile(&raw mut launch.errno, failed);
        loop {
            let _ = raw!(SYS_exit, 127);
        }
    }
}

/// Moves the few descriptors still needed out of the way and closes all others.
fn keep_only(plan: &Plan<'_>, descriptors: &mut [RawFd; 3]) {
    for (target, descriptor) in (0..).zip(descriptors.iter_mut()) {
        // The jailer has 0, 1 and 2 open, so none of ours can be among the targets.
        if *descriptor >= 0 {
            call!(plan, Step::Supervise, SYS_dup3, *descriptor, target, libc::O_CLOEXEC);
            *descriptor = target;
        } else {
            // SAFETY: closes the jailer's own.
            let _ = unsafe { raw!(SYS_close, target) };
        }
    }
    call!(plan, Step::Supervise, SYS_close_range, 3, u32::MAX, 0);
}

/// Lets go of the heap and other memory that only the cloner has a use for: with its page tables 0.1 MB for as long as the
/// environment lives (measured). Whatever the plan points to is gone afterwards.
fn shrink(plan: &Plan<'_>) {
    // The list is part of what goes.
    let mut spare = [(0, 0); SPARE_MAX];
    for (slot, range) in spare.iter_mut().zip(plan.spare) {
        *slot = *range;
    }
    for (start, bytes) in spare {
        if bytes > 0 {
            // SAFETY: of the plan, only values are used from here on; our stack and what libc keeps for the thread are
            // never among these ranges, see `syscalls::spare_memory`.
            let _ = unsafe { raw!(SYS_munmap, start, bytes) };
        }
    }
}

/// Waits for a signal or for the bell; whether it was the bell, which rings when memory is used up.
fn is_rung(signals: RawFd, bell: RawFd) -> bool {
    wait(signals, bell, None) == Some(true)
}

/// Says that memory ran out, once everything has been stopped. Whose it was, the platform can see, and ends all if it was the
/// environment's own, or lets all go on.
fn tell_of_memory(plan: &Plan<'_>, bell: RawFd) {
    silence(bell);
    say(plan, Status::MemoryRanOut);
}

/// Takes back what a bell rang, if it is one.
fn silence(bell: RawFd) {
    let mut count = [0_u8; 8];
    // SAFETY: a live buffer and its length; nothing waits.
    let _ = unsafe { raw!(SYS_read, bell, count.as_mut_ptr(), count.len()) };
}

/// The same for so many milliseconds; `None`: neither came.
fn wait(signals: RawFd, bell: RawFd, patience_ms: Option<i64>) -> Option<bool> {
    let wait = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut waits = [wait(signals), wait(bell)];
    let mut patience = patience_ms.map(|patience| [0, patience * 1_000_000]);
    // The kernel writes what is left of it.
    let patience = patience.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: two live entries, a `timespec` or null, no mask; a descriptor of -1 is passed over.
    let ready = unsafe { raw!(SYS_ppoll, waits.as_mut_ptr(), 2, patience, 0, size_of::<u64>()) };
    (ready != Ok(0)).then_some(waits[1].revents & libc::POLLIN != 0)
}

fn supervise(plan: &Plan<'_>, signals: RawFd, program: i32) -> ! {
    let mut kept = [plan.status, signals, plan.bell];
    keep_only(plan, &mut kept);
    let [status, signals, bell] = kept;
    let everyone = if plan.walls.is_some() { -1 } else { -program };
    let mut is_settled = false;
    let plan = &Plan { status, ..*plan };
    // It may have rung before the group was this environment's.
    silence(bell);
    loop {
        if !is_settled && wait(signals, bell, Some(SETTLE_MS)).is_none() {
            if let Some(small) = plan.small {
                small.live(program, everyone, bell);
            }
            shrink(plan);
            is_settled = true;
        }
        if is_rung(signals, bell) {
            kill(everyone, libc::SIGSTOP);
            tell_of_memory(plan, bell);
        }
        let Some(signal) = read_signal(signals) else { continue };
        // A supervisor is never among its own `everyone`.
        match signal {
            libc::SIGUSR1 => kill(everyone, libc::SIGSTOP),
            libc::SIGUSR2 => kill(everyone, libc::SIGCONT),
            libc::SIGTERM => kill(everyone, libc::SIGKILL),
            TERMINATE_PROGRAM => kill(program, libc::SIGTERM),
            libc::SIGCHLD => reap(plan, program, everyone),
            _ => {}
        }
    }
}

/// One signal; `None` if another look found it gone.
fn read_signal(signals: RawFd) -> Option<i32> {
    // SAFETY: signalfd_siginfo is plain data, and the read is given its size.
    unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        (raw!(SYS_read, signals, &raw mut info, size) == Ok(size)).then_some(info.ssi_signo as i32)
    }
}

/// A process that died, if one did: its pid, and how.
fn reap_one() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: a live integer.
    let pid = unsafe { raw!(SYS_wait4, -1_i32, &raw mut status, libc::WNOHANG, 0) };
    pid.ok().filter(|pid| *pid > 0).map(|pid| (pid as i32, status))
}

/// Sends a signal to whoever is still there.
fn kill(pid: i32, signal: i32) {
    // SAFETY: numbers alone.
    let _ = unsafe { raw!(SYS_kill, pid, signal) };
}

/// Reaps whatever died; when it was the program, reports and takes the rest along.
fn reap(plan: &Plan<'_>, program: i32, everyone: i32) {
    loop {
        let Some((pid, status)) = reap_one() else { return };
        if pid == program {
            if libc::WIFSIGNALED(status) {
                say(plan, Status::Signaled { signal: libc::WTERMSIG(status) });
            } else {
                say(plan, Status::Exited { code: libc::WEXITSTATUS(status) });
            }
            end(everyone);
        }
    }
}

/// As pid 1 our end is everybody's, and a signal to all would walk the host's whole table of processes; a plain
/// supervisor must say so.
fn end(everyone: i32) -> ! {
    if everyone != -1 {
        kill(everyone, libc::SIGKILL);
    }
    exit()
}

/// What the supervisor of an environment with companions knows.
struct Household {
    /// 0 while the program does not run.
    program: i32,
    /// 0 once a companion has ended.
    companions: [i32; COMPANIONS_MAX],
}

impl Household {
    /// A signal for everybody but us.
    fn signal_all(&self, plan: &Plan<'_>, signal: i32) {
        // As pid 1 -1 means everybody but ourselves, else each leads a group.
        if plan.walls.is_some() {
            return kill(-1, signal);
        }
        for pid in self.companions.iter().chain([&self.program]) {
            if *pid > 0 {
                kill(-*pid, signal);
            }
        }
    }

    fn signal_program(&self, signal: i32) {
        if self.program > 0 {
            kill(self.program, signal);
        }
    }
}

/// Starts the companions, and the program when asked to; reports each end. Lives until it is killed, or told to end.
fn supervise_with_companions(plan: &Plan<'_>, signals: RawFd) -> ! {
    let ([status, signals, bell, null, output], companion_outputs) = keep_only_household(plan, signals);
    let plan = &Plan { status, null, output, companion_outputs: &companion_outputs, ..*plan };
    let mut household = Household { program: 0, companions: [0; COMPANIONS_MAX] };
    silence(bell);
    // More than may be were refused long before.
    for ((index, program), output) in (0_u8..).zip(plan.companions).zip(companion_outputs) {
        let arguments = [*program, std::ptr::null()];
        let image = Image {
            programs: program,
            programs_count: 1,
            arguments: arguments.as_ptr(),
            environment: plan.companion_environment.as_ptr(),
            output,
            directory: c"/".as_ptr(),
        };
        match spawn(plan, &image) {
            Ok(pid) => household.companions[usize::from(index)] = pid,
            Err(errno) => say(plan, Status::CompanionFailed { index, errno }),
        }
    }
    loop {
        if is_rung(signals, bell) {
            household.signal_all(plan, libc::SIGSTOP);
            tell_of_memory(plan, bell);
        }
        match read_signal(signals) {
            None => {}
            Some(libc::SIGUSR1) => household.signal_all(plan, libc::SIGSTOP),
            Some(libc::SIGUSR2) => household.signal_all(plan, libc::SIGCONT),
            Some(libc::SIGTERM) => household.signal_all(plan, libc::SIGKILL),
            Some(START_PROGRAM) if household.program == 0 => match spawn(plan, &main_program(plan)) {
                Ok(pid) => household.program = pid,
                Err(errno) => say(plan, Status::Failed { step: Step::Execute, errno }),
            },
            Some(TERMINATE_PROGRAM) => household.signal_program(libc::SIGTERM),
            Some(KILL_PROGRAM) => household.signal_program(libc::SIGKILL),
            Some(_) => reap_household(plan, &mut household),
        }
    }
}

fn reap_household(plan: &Plan<'_>, household: &mut Household) {
    loop {
        let Some((pid, status)) = reap_one() else { return };
        if pid == household.program {
            // A program is started once in a life.
            household.program = -1;
            say(
                plan,
                match libc::WIFSIGNALED(status) {
                    true => Status::Signaled { signal: libc::WTERMSIG(status) },
                    false => Status::Exited { code: libc::WEXITSTATUS(status) },
                },
            );
        }
        for (index, companion) in (0_u8..).zip(&mut household.companions) {
            if *companion == pid {
                *companion = 0;
                say(
                    plan,
                    match libc::WIFSIGNALED(status) {
                        true => Status::CompanionSignaled { index, signal: libc::WTERMSIG(status) },
                        false => Status::CompanionExited { index, code: libc::WEXITSTATUS(status) },
                    },
                );
            }
        }
    }
}

/// Moves what is still needed to the first descriptors and closes all others: status, signals, bell, null and output, and
/// the companions' outputs, -1 where there is no companion.
fn keep_only_household(plan: &Plan<'_>, signals: RawFd) -> ([RawFd; 5], [RawFd; COMPANIONS_MAX]) {
    const OUT_OF_THE_WAY: libc::c_int = 16;
    const KEPT: usize = 5 + COMPANIONS_MAX;
    const _: () = assert!(KEPT <= OUT_OF_THE_WAY as usize);
    let mut kept = [-1; KEPT];
    let needed = [plan.status, signals, plan.bell, plan.null, plan.output];
    for (slot, descriptor) in kept.iter_mut().zip(needed.iter().chain(plan.companion_outputs)) {
        *slot = *descriptor;
    }
    for descriptor in &mut kept {
        if *descriptor >= 0 {
            *descriptor =
                call!(plan, Step::Supervise, SYS_fcntl, *descriptor, libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
        }
    }
    for (target, descriptor) in (0..).zip(&mut kept) {
        if *descriptor >= 0 {
            call!(plan, Step::Supervise, SYS_dup3, *descriptor, target, libc::O_CLOEXEC);
            *descriptor = target;
        } else {
            // SAFETY: closes the jailer's own.
            let _ = unsafe { raw!(SYS_close, target) };
        }
    }
    call!(plan, Step::Supervise, SYS_close_range, kept.len(), u32::MAX, 0);
    let [status, signals, bell, null, output, companions @ ..] = kept;
    ([status, signals, bell, null, output], companions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_messages_survive_the_pipe() {
        for status in [
            Status::Started,
            Status::Failed { step: Step::Seccomp, errno: 22 },
            Status::Exited { code: 255 },
            Status::Signaled { signal: 9 },
            Status::MemoryRanOut,
            Status::CompanionExited { index: 9, code: 1 },
            Status::CompanionSignaled { index: 0, signal: 9 },
            Status::CompanionFailed { index: 3, errno: 13 },
            Status::Parked,
        ] {
            assert_eq!(Status::from_bytes(status.to_bytes()), Some(status));
        }
        assert_eq!(Status::from_bytes([99; STATUS_BYTES]), None);
        assert_eq!(Status::from_bytes([2, 99, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn every_step_has_its_own_number_and_words() {
        for step in Step::ALL {
            assert_eq!(Step::from_byte(step as u8), Some(step));
            assert!(!step.words().is_empty());
        }
    }
}
