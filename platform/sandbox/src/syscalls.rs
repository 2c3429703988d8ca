//! The few system calls that the standard library and rustix do not wrap safely. What else of the room is `unsafe` says
//! so by an `allow` at the top of its file.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What `clone3` came back with.
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the pid as the caller's pid namespace sees it, and a descriptor of it.
    Parent { pid: i32, pidfd: OwnedFd },
}

/// A system call by its kernel's name, of up to six arguments: numbers and pointers.
macro_rules! raw {
    ($number:ident $(, $argument:expr)*) => {
        $crate::syscalls::system_call(libc::$number, &[$($argument as usize),*])
    };
}
pub(crate) use raw;

/// What the kernel answers, or its `errno`; up to six arguments. Written out where it is called: children of a cloner so touch no
/// page of libc's, neither its code nor its `errno`, each of which costs them a page fault.
///
/// # Safety
/// As the system call's own.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn system_call(number: libc::c_long, arguments: &[usize]) -> Result<usize, i32> {
    let argument = |at: usize| if at < arguments.len() { arguments[at] } else { 0 };
    let result: isize;
    // SAFETY: the caller's promise; the kernel changes these registers alone.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") argument(0),
            in("rsi") argument(1),
            in("rdx") argument(2),
            in("r10") argument(3),
            in("r8") argument(4),
            in("r9") argument(5),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    outcome(result)
}

/// The same through libc.
///
/// # Safety
/// As the system call's own.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn system_call(number: libc::c_long, arguments: &[usize]) -> Result<usize, i32> {
    let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
    let [a, b, c, d, e, f] = std::array::from_fn(argument);
    // SAFETY: the caller's promise.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        // SAFETY: the thread's own errno always exists.
        -1 => Err(unsafe { *libc::__errno_location() }),
        result => Ok(result as usize),
    }
}

/// An answer as the kernel gives it: small negative numbers are an `errno`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn outcome(result: isize) -> Result<usize, i32> {
    if (-4095..0).contains(&result) { Err(-(result as i32)) } else { Ok(result as usize) }
}

/// Empties this process's arguments and environment as others see them in `/proc/PID/cmdline` and
/// `/proc/PID/environ`: every environment's supervisor is a copy of this process, and the platform's command line is
/// no business of the functions.
pub(crate) fn hide_command_line() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/stat")?;
    // The second field may hold anything, parentheses included; what is wanted follows it (proc(5): arg_start is field 48).
    let fields = status.rsplit_once(')').map_or("", |(_, rest)| rest);
    let address =
        |field: usize| fields.split_whitespace().nth(field - 3).and_then(|text| text.parse::<usize>().ok());
    for (start, end) in [(address(48), address(49)), (address(50), address(51))] {
        let (Some(start), Some(end)) = (start, end) else { return Err(io::ErrorKind::InvalidData.into()) };
        if start != 0 && end > start {
            // SAFETY: the kernel says that these bytes hold the process's own arguments or environment, on its stack;
            // nothing in this process holds a reference to them. Pointers to strings there lead to empty strings.
            unsafe { std::ptr::write_bytes(start as *mut u8, 0, end - start) };
        }
    }
    Ok(())
}

/// The hard limit of a resource: without a capability nothing can be set above it.
pub(crate) fn hard_limit(resource: u32) -> u64 {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: libc::RLIM64_INFINITY };
    // SAFETY: writes one live structure.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0_usize, &raw mut limit) };
    limit.rlim_max
}

/// Forks with `flags`, born in `cgroup` when given. With `CLONE_PARENT` the child is our parent's.
///
/// # Safety
/// As `fork(2)`: in a process with threads the child may only make async-signal-safe calls.
pub(crate) unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain numbers; all zero is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    // With CLONE_PARENT the kernel takes our own and refuses another.
    arguments.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the arguments live across the call and their size is given; no stack is given, so the child
    // continues on its own copy of this one. The rest is the caller's promise.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel has just made this descriptor for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// From now on the calling thread keeps its capabilities when it acts for another user.
pub(crate) fn keep_capabilities() -> io::Result<()> {
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 4;
    // SAFETY: numbers alone.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) })
}

/// Makes `user` the effective user and group of the calling thread, which has kept its capabilities.
pub(crate) fn act_for(user: u32) -> io::Result<()> {
    const SAME: u32 = u32::MAX;
    // SAFETY: numbers alone. The raw calls change this thread only; callers have but one.
    unsafe {
        check(libc::syscall(libc::SYS_setresgid, SAME, user, SAME) as i32)?;
        check(libc::syscall(libc::SYS_setresuid, SAME, user, SAME) as i32)?;
        // The change took it away, and without it the files of /proc/self that a child writes are root's.
        check(libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(user != 0), 0, 0, 0))
    }
}

/// Moves the calling thread into the namespace.
pub(crate) fn setns(namespace: BorrowedFd<'_>, kind: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) })
}

/// The user namespace of a process that lives. Since Linux 6.11; before, it is refused.
pub(crate) fn user_namespace(pidfd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PIDFD_GET_USER_NAMESPACE: libc::c_ulong = 0xFF09;
    // SAFETY: no memory is passed; the kernel has just made the descriptor for us.
    unsafe {
        let namespace = libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_USER_NAMESPACE as _, 0);
        check(namespace)?;
        Ok(OwnedFd::from_raw_fd(namespace))
    }
}

/// Gives the calling thread namespaces of its own.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: no memory is passed; callers never pass CLONE_FILES, so descriptors stay shared.
    check(unsafe { libc::unshare(flags) })
}

/// Sets mount attributes (`MOUNT_ATTR_*`) on the whole tree below `path`, or on its top mount alone.
pub(crate) fn set_mount_attributes(path: &Path, attributes: u64, recursive: bool) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: mount_attr is plain numbers; all zero is valid.
    let mut change: libc::mount_attr = unsafe { std::mem::zeroed() };
    change.attr_set = attributes;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path ends in NUL and the structure's size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw mut change,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result as i32)
}

/// Blocks every signal for the calling thread and the threads it will make.
pub(crate) fn block_signals() {
    // SAFETY: the set is initialised by sigfillset before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// The calling thread's signal mask as it was; put back when dropped.
pub(crate) struct HeldSignals(libc::sigset_t);

/// Holds every signal back until the result is dropped; then they arrive.
pub(crate) fn hold_signals() -> HeldSignals {
    // SAFETY: sigset_t is plain numbers, all zero is valid, and the call fills it in.
    unsafe {
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut before);
        block_signals();
        HeldSignals(before)
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled in by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// From now on the kernel reaps this process's children.
pub(crate) fn leave_children_to_kernel() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Becomes an ordinary user for good, without groups; the process has one thread and is root.
pub(crate) fn become_user(user: u32) -> io::Result<()> {
    // SAFETY: numbers alone, and no list of groups.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) as i32)?;
        check(libc::syscall(libc::SYS_setresgid, user, user, user) as i32)?;
        check(libc::syscall(libc::SYS_setresuid, user, user, user) as i32)
    }
}

/// No program that is executed may give this process rights, and nobody of its user may look into it.
pub(crate) fn give_up_new_privileges() -> io::Result<()> {
    // SAFETY: numbers alone.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))
    }
}

/// Installs a system call filter for good. No new privileges must be given up before.
pub(crate) fn install_filter(filter: &[seccompiler::sock_filter]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    let len = libc::c_ushort::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: the program lives across the call, which copies it.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const program) } as i32)
}

/// Waits for one of two blocked signals and says which came.
pub(crate) fn wait_for_signal(one: i32, other: i32) -> i32 {
    // SAFETY: the set is initialised by sigemptyset before it is used; no siginfo is asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, one);
        libc::sigaddset(&raw mut set, other);
        libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
    }
}

/// Reaps one dead child, without waiting.
pub(crate) fn reap() -> Option<i32> {
    let mut status = 0;
    // SAFETY: the status is a live integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some(pid)
}

/// Registers a descriptor with the calling task's runtime.
pub(crate) fn watch(descriptor: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the Arc names one descriptor and keeps it open for as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Brings `lo` up in the calling thread's network namespace.
pub(crate) fn bring_up_loopback(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: ifreq is plain data; all zero is valid, and the name fits.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives across the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) })
}

/// Descriptors that a process's table has room for from the start.
const TABLE_LEN: u64 = 16_384;

/// Grows the table of descriptors once, to `limit` entries or 16,384 (128 KiB). Later, with threads, each doubling
/// of it waits for an RCU grace period with the table locked: 15 to 30 ms for whoever opens a file meanwhile
/// (measured). Call while the process has one thread; children that are forked get small tables all the same.
pub(crate) fn widen_descriptor_table(limit: u64) {
    let last = limit.clamp(1, TABLE_LEN) - 1;
    // SAFETY: no memory is passed. Standard error is open; were it not, nothing would be widened.
    unsafe {
        let copy = libc::fcntl(2, libc::F_DUPFD_CLOEXEC, last as libc::c_long);
        if copy >= 0 {
            libc::close(copy);
        }
    }
}

/// Keeps the mappings of all libraries but libc out of this process's future children, which then neither copy nor tear
/// them down: half of 36 mappings, 0.1 ms for each child (measured). The children may call nothing but libc's wrappers.
pub(crate) fn leave_libraries_to_parent() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        if let Some((start, len)) = library_mapping(line, &program) {
            // SAFETY: changes nothing for this process; no child calls into these libraries.
            check(unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTFORK) })?;
        }
    }
    Ok(())
}

/// Leaves a range of memory out of this process's future children, or no more. What cannot be left out they get.
pub(crate) fn leave_to_parent((start, bytes): (usize, usize), leave: bool) {
    let advice = if leave { libc::MADV_DONTFORK } else { libc::MADV_DOFORK };
    // SAFETY: changes nothing for this process; what its children need is the caller's to know.
    unsafe { libc::madvise(start as *mut libc::c_void, bytes, advice) };
}

/// The mappings of the dynamic linker, which a child needs that allocates, for what it keeps about the process.
pub(crate) fn loader_memory() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let of_loader = |line: &&str| line.rsplit('/').next().is_some_and(|name| name.starts_with("ld-linux"));
    maps.lines().filter(of_loader).filter_map(range_of).collect()
}

/// Start and length of a line of `/proc/PID/maps`.
fn range_of(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

/// Start and length of a line of `/proc/PID/maps` that belongs to a library other than libc.
fn library_mapping(line: &str, program: &Path) -> Option<(usize, usize)> {
    // start-end perms offset device inode path
    let path = Path::new(line.splitn(6, char::is_whitespace).nth(5)?.trim_start());
    let name = path.file_name()?.to_str()?;
    let is_library = path.is_absolute() && path != program && name.contains(".so");
    if !is_library || name.starts_with("libc.") || name.starts_with("libc-") || name.starts_with("ld-musl") {
        return None;
    }
    range_of(line)
}

/// This process's heap and anonymous memory, where each range begins and its bytes; but not the stack, nor the variables
/// of the program and its libraries, nor what libc keeps for the calling thread. A copy of this process may let go of it
/// once it uses none of it any more.
pub(crate) fn spare_memory() -> Vec<(usize, usize)> {
    // SAFETY: only the address is taken; the thread's own errno always exists.
    let of_thread = unsafe { libc::__errno_location() } as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut spare = anonymous_memory(&maps);
    spare.retain(|range| !contains(*range, of_thread));
    spare
}

fn contains((start, bytes): (usize, usize), address: usize) -> bool {
    (start..start.saturating_add(bytes)).contains(&address)
}

/// The ranges of `/proc/PID/maps` that are heap, or anonymous and stand apart: what follows a file's mapping without a
/// gap holds the variables of that file.
fn anonymous_memory(maps: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut end_of_file = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let range = fields.next().and_then(|range| range.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).ok();
        let Some((Some(start), Some(end))) = range.map(|(start, end)| (number(start), number(end))) else {
            continue;
        };
        let is_private = fields.next().is_some_and(|rights| rights.ends_with('p'));
        match fields.nth(3).unwrap_or("") {
            "[heap]" => ranges.push((start, end.saturating_sub(start))),
            "" if is_private && start != end_of_file => ranges.push((start, end.saturating_sub(start))),
            "" if start == end_of_file => end_of_file = end,
            path if path.starts_with('/') => end_of_file = end,
            _ => {}
        }
    }
    ranges
}

/// Closes a descriptor by number. Only for descriptors that no value owns, as after a fork.
pub(crate) fn close(descriptor: RawFd) {
    // SAFETY: touches no memory; the caller says that nobody owns the descriptor.
    unsafe { libc::close(descriptor) };
}

/// Ends this process at once, running nothing.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_config` of linux/loop.h: a descriptor, a block size, a `loop_info64`, reserved words.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// The number of a loop device that nobody uses; another process may take it first.
pub(crate) fn free_loop_device(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Puts `image` behind the loop device. The device frees itself once nothing has it open or mounted. With
/// `direct`, its blocks are not cached a second time.
pub(crate) fn configure_loop(device: BorrowedFd<'_>, image: BorrowedFd<'_>, direct: bool) -> io::Result<()> {
    // SAFETY: the structure is plain numbers; all zero is valid.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = image.as_raw_fd() as u32;
    config.block_size = if direct { 4096 } else { 0 };
    config.flags = LO_FLAGS_AUTOCLEAR | if direct { LO_FLAGS_DIRECT_IO } else { 0 };
    // SAFETY: LOOP_CONFIGURE reads one loop_config, whose layout is asserted above.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_memory_is_heap_and_anonymous_memory_without_the_threads_own() {
        let maps = "1000-2000 r-xp 00000000 fd:01 7 /usr/bin/onrush\n\
                    2000-3000 rw-p 00000000 00:00 0 \n\
                    5000-6000 rw-p 00000000 00:00 0 [heap]\n\
                    7000-9000 rw-p 00000000 00:00 0 \n\
                    a000-b000 rw-s 00000000 00:01 7\n\
                    c000-d000 rw-p 00000000 fd:01 7 /usr/lib/libc.so.6\n\
                    d000-e000 rw-p 00000000 00:00 0\n\
                    e000-f000 rw-p 00000000 00:00 0 [stack]\n\
                    nonsense\n";
        assert_eq!(anonymous_memory(maps), [(0x5000, 0x1000), (0x7000, 0x2000)]);
        let spare = spare_memory();
        let on_heap = Box::new(0_u8);
        // SAFETY: only the address is taken.
        let of_thread = unsafe { libc::__errno_location() } as usize;
        assert!(!spare.iter().any(|range| contains(*range, of_thread)));
        assert!(spare.iter().any(|range| contains(*range, &raw const *on_heap as usize)));
    }

    #[test]
    fn children_get_the_program_and_libc_alone() {
        let program = Path::new("/opt/x.so/onrush");
        let of =
            |path: &str| library_mapping(&format!("7f00-8f00 r-xp 00000000 fd:01 77    {path}"), program);
        assert_eq!(of("/usr/lib/x86_64-linux-gnu/libm.so.6"), Some((0x7f00, 0x1000)));
        assert_eq!(of("/usr/lib/ld-linux-x86-64.so.2"), Some((0x7f00, 0x1000)));
        for kept in ["/usr/lib/libc.so.6", "/lib/libc-2.31.so", "/lib/ld-musl-x86_64.so.1", "[heap]", ""] {
            assert_eq!(of(kept), None, "{kept}");
        }
        assert_eq!(of("/opt/x.so/onrush"), None);
    }
}
