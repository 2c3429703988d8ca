//! A supervisor's life in two pages: one of code that all supervisors share, one of its own; all else of the copy that it
//! began as goes.
//!
//! What is left of a process that lives as long as its environment counts a thousand times: 48 KB of page tables and 16 KB
//! of written pages as a plain copy, 12 and 4 KB so (measured). Where this is not possible, the supervisor keeps its
//! memory and [`super`] does the same in Rust. The code is a page of machine code, because nothing that a compiler links
//! to is there any more.
#![allow(unsafe_code)]

/// Bytes of a page; the kernel's is never larger on this machine.
const PAGE: usize = 4096;
/// Ranges between what stays: the two pages, and up to three of the kernel's own.
const RANGES_MAX: usize = 8;

/// The pages, and what goes for good when a supervisor enters them.
pub(crate) struct Small {
    code: usize,
    ranges: [(usize, usize); RANGES_MAX],
    count: usize,
}

/// The ranges of `/proc/PID/maps` between what stays, from the first mapping to the last.
fn ranges(maps: &str, pages: usize) -> Option<Vec<(usize, usize)>> {
    let mut ranges = Vec::new();
    let (mut start, mut last) = (None, 0);
    for line in maps.lines() {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        // Not memory of ours at all.
        if line.ends_with("[vsyscall]") {
            continue;
        }
        // Some kernels let nobody unmap these.
        let stays =
            from == pages || ["[vdso]", "[vvar]", "[vvar_vclock]"].iter().any(|name| line.ends_with(name));
        if !stays {
            start.get_or_insert(from);
        } else if let Some(start) = start.take() {
            ranges.push((start, last - start));
        }
        last = to;
    }
    ranges.extend(start.map(|start| (start, last - start)));
    (ranges.len() <= RANGES_MAX).then_some(ranges)
}

#[cfg(not(target_arch = "x86_64"))]
impl Small {
    /// Not on this machine.
    pub fn prepare() -> Option<Small> {
        None
    }

    /// Never called.
    pub fn live(&self, _program: i32, _everyone: i32, _bell: i32) -> ! {
        let _ = (self.code, &self.ranges, self.count, PAGE, ranges);
        unreachable!("nothing prepares this on this machine")
    }
}

#[cfg(target_arch = "x86_64")]
impl Small {
    /// Makes the pages, for the children that this process will have. Call while it has one thread, when what lives long
    /// has its place. `None` where the host or libc is in the way.
    pub fn prepare() -> Option<Small> {
        if !leave_restartable_sequences() {
            return None;
        }
        // SAFETY: a new mapping; the code is copied within its first page, which is then made executable, not writable.
        let code = unsafe {
            let (private, none) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, std::ptr::null_mut());
            let pages = libc::mmap(none, 2 * PAGE, libc::PROT_READ | libc::PROT_WRITE, private, -1, 0);
            if pages == libc::MAP_FAILED {
                return None;
            }
            let (begin, end) = (&raw const onrush_supervise, &raw const onrush_supervise_end);
            let length = end as usize - begin as usize;
            if length > PAGE {
                return None;
            }
            std::ptr::copy_nonoverlapping(begin, pages.cast(), length);
            if libc::mprotect(pages, PAGE, libc::PROT_READ | libc::PROT_EXEC) < 0 {
                return None;
            }
            // Its own mapping, and not one with a neighbour of the same kind.
            libc::madvise(pages.byte_add(PAGE), PAGE, libc::MADV_DONTDUMP);
            pages as usize
        };
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        // The second page is another line, with other rights.
        let second = format!("{:x}-{:x} ", code + PAGE, code + 2 * PAGE);
        let maps: String = maps.lines().filter(|line| !line.starts_with(&second)).fold(
            String::with_capacity(maps.len()),
            |mut all, line| {
                let end = if line.starts_with(&format!("{code:x}-{:x} ", code + PAGE)) {
                    line.replacen(&format!("-{:x} ", code + PAGE), &format!("-{:x} ", code + 2 * PAGE), 1)
                } else {
                    line.to_owned()
                };
                all.push_str(&end);
                all.push('\n');
                all
            },
        );
        let found = ranges(&maps, code)?;
        if found.iter().any(|(start, bytes)| (*start..start + bytes).contains(&code)) {
            return None;
        }
        let mut small = Small { code, ranges: [(0, 0); RANGES_MAX], count: found.len() };
        small.ranges[..found.len()].copy_from_slice(&found);
        Some(small)
    }

    /// Supervises from here on: status messages to descriptor 0, signals from 1, `bell` is 2 or -1. Every other page of
    /// this process goes, so nothing of it may be used by anybody.
    pub fn live(&self, program: i32, everyone: i32, bell: i32) -> ! {
        let table = self.code + PAGE;
        // SAFETY: the second page is ours to write, larger than the table, and the stack begins at its other end; what is
        // jumped to needs nothing but the registers named here.
        unsafe {
            let mut slot = table as *mut usize;
            for (start, bytes) in &self.ranges[..self.count] {
                slot.write(*start);
                slot.add(1).write(*bytes);
                slot = slot.add(2);
            }
            std::arch::asm!(
                "mov rsp, r8",
                "jmp rax",
                in("rax") self.code,
                in("rdi") i64::from(program),
                in("rsi") i64::from(everyone),
                in("rdx") i64::from(bell),
                in("rcx") table,
                in("r8") table + PAGE - STACK,
                in("r9") self.count,
                options(noreturn)
            )
        }
    }
}

/// Bytes that the code uses from its stack pointer upwards: two `pollfd` at 0, a `signalfd_siginfo` at 16, a wait status at
/// 144, a status message at 152.
#[cfg(target_arch = "x86_64")]
const STACK: usize = 256;

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    static onrush_supervise: u8;
    static onrush_supervise_end: u8;
}

// The same as `supervise` of the room above: see there why. Status messages as `Status::to_bytes` writes them.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.onrush_supervise,\"a\",@progbits",
    ".global onrush_supervise",
    ".hidden onrush_supervise",
    "onrush_supervise:",
    "mov ebx, edi", // the program
    "mov r12d, esi", // everyone
    "mov r13d, edx", // the bell
    "mov r14, rcx",
    "mov r15, r9",
    "20:", // unmap one range after another
    "test r15, r15",
    "jz 30f",
    "mov rdi, [r14]",
    "mov rsi, [r14 + 8]",
    "mov eax, {munmap}",
    "syscall",
    "add r14, 16",
    "dec r15",
    "jmp 20b",
    "30:", // wait for a signal or the bell
    "mov dword ptr [rsp], 1",
    "mov dword ptr [rsp + 4], {pollin}",
    "mov dword ptr [rsp + 8], r13d",
    "mov dword ptr [rsp + 12], {pollin}",
    "mov rdi, rsp",
    "mov esi, 2",
    "mov rdx, -1",
    "mov eax, {poll}",
    "syscall",
    "test word ptr [rsp + 14], {pollin}",
    "jnz 80f",
    "mov edi, 1",
    "lea rsi, [rsp + 16]",
    "mov edx, 128",
    "mov eax, {read}",
    "syscall",
    "cmp rax, 128",
    "jne 30b",
    "mov eax, dword ptr [rsp + 16]",
    "mov edi, r12d",
    "mov esi, {stop}",
    "cmp eax, {usr1}",
    "je 40f",
    "mov esi, {cont}",
    "cmp eax, {usr2}",
    "je 40f",
    "mov esi, {kill_signal}",
    "cmp eax, {term}",
    "je 40f",
    "mov edi, ebx",
    "mov esi, {term}",
    "cmp eax, {terminate_program}",
    "je 40f",
    "cmp eax, {chld}",
    "je 50f",
    "jmp 30b",
    "40:", // pass a signal on
    "mov eax, {kill}",
    "syscall",
    "jmp 30b",
    "50:", // reap whatever died
    "mov rdi, -1",
    "lea rsi, [rsp + 144]",
    "mov edx, {nohang}",
    "xor r10d, r10d",
    "mov eax, {wait4}",
    "syscall",
    "test eax, eax",
    "jle 30b",
    "cmp eax, ebx",
    "jne 50b",
    "mov eax, dword ptr [rsp + 144]",
    "mov ecx, eax",
    "and ecx, 0x7f",
    "mov edx, {signaled}",
    "jnz 60f",
    "mov edx, {exited}",
    "mov ecx, eax",
    "shr ecx, 8",
    "and ecx, 0xff",
    "jmp 60f",
    "80:", // memory ran out: stop everybody, tell, and go on
    "mov edi, r12d",
    "mov esi, {stop}",
    "mov eax, {kill}",
    "syscall",
    "mov edi, r13d",
    "lea rsi, [rsp + 16]",
    "mov edx, 8",
    "mov eax, {read}",
    "syscall",
    "mov dword ptr [rsp + 152], {memory_ran_out}",
    "mov dword ptr [rsp + 156], 0",
    "xor edi, edi",
    "lea rsi, [rsp + 152]",
    "mov edx, 8",
    "mov eax, {write}",
    "syscall",
    "jmp 30b",
    "60:", // tell, and end with everybody
    "mov dword ptr [rsp + 152], edx",
    "mov dword ptr [rsp + 156], ecx",
    "xor edi, edi",
    "lea rsi, [rsp + 152]",
    "mov edx, 8",
    "mov eax, {write}",
    "syscall",
    "cmp r12d, -1",
    "je 70f",
    "mov edi, r12d",
    "mov esi, {kill_signal}",
    "mov eax, {kill}",
    "syscall",
    "70:",
    "xor edi, edi",
    "mov eax, {exit_group}",
    "syscall",
    "jmp 70b",
    ".global onrush_supervise_end",
    ".hidden onrush_supervise_end",
    "onrush_supervise_end:",
    ".popsection",
    munmap = const libc::SYS_munmap,
    poll = const libc::SYS_poll,
    read = const libc::SYS_read,
    write = const libc::SYS_write,
    kill = const libc::SYS_kill,
    wait4 = const libc::SYS_wait4,
    exit_group = const libc::SYS_exit_group,
    pollin = const libc::POLLIN,
    nohang = const libc::WNOHANG,
    stop = const libc::SIGSTOP,
    cont = const libc::SIGCONT,
    kill_signal = const libc::SIGKILL,
    usr1 = const libc::SIGUSR1,
    usr2 = const libc::SIGUSR2,
    term = const libc::SIGTERM,
    chld = const libc::SIGCHLD,
    terminate_program = const super::TERMINATE_PROGRAM,
    exited = const super::EXITED,
    signaled = const super::SIGNALED,
    memory_ran_out = const super::MEMORY_RAN_OUT,
);

/// The kernel writes to a thread's `struct rseq`, which libc registers, whenever it runs on: so it must be no more when its
/// memory goes. Whether none is registered any more, for this thread and the processes that it clones.
#[cfg(target_arch = "x86_64")]
fn leave_restartable_sequences() -> bool {
    const UNREGISTER: i32 = 1;
    const SIGNATURE: u32 = 0x5305_3053;
    /// `AT_RSEQ_FEATURE_SIZE`.
    const FEATURE_BYTES: libc::c_ulong = 27;
    #[repr(align(32))]
    struct Area([u8; 32]);
    let call = |area: usize, bytes: usize, flags: i32| {
        // SAFETY: the kernel checks the address; what is registered here is unregistered before it goes.
        let result = unsafe { libc::syscall(libc::SYS_rseq, area, bytes, flags, SIGNATURE) };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().raw_os_error()) }
    };
    let area = Area([0; 32]);
    let own = area.0.as_ptr() as usize;
    match call(own, size_of::<Area>(), 0) {
        Ok(()) => return call(own, size_of::<Area>(), UNREGISTER).is_ok(),
        Err(Some(libc::ENOSYS)) => return true,
        Err(_) => {}
    }
    // SAFETY: looks a name up; glibc's variable of that name holds a `ptrdiff_t`; the first word of a thread's own
    // block is its address (System V ABI).
    let registered = unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        if offset.is_null() {
            return false;
        }
        let thread: usize;
        std::arch::asm!("mov {}, fs:[0]", out(reg) thread, options(nostack, readonly));
        thread.wrapping_add_signed(*offset)
    };
    // SAFETY: reads a number that the kernel handed to this process.
    let feature_bytes = unsafe { libc::getauxval(FEATURE_BYTES) } as usize;
    [32, feature_bytes.next_multiple_of(32)]
        .into_iter()
        .any(|bytes| call(registered, bytes, UNREGISTER).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_between_what_stays_goes() {
        let maps = "1000-2000 r-xp 0 fd:01 7 /usr/bin/onrush\n\
                    3000-4000 rw-p 0 00:00 0 [heap]\n\
                    7000-9000 r-xp 0 00:00 0 \n\
                    a000-b000 rw-p 0 00:00 0 \n\
                    c000-d000 r--p 0 00:00 0 [vvar]\n\
                    d000-e000 r-xp 0 00:00 0 [vdso]\n\
                    f000-11000 rw-p 0 00:00 0 [stack]\n\
                    ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]\n";
        let expected = vec![(0x1000, 0x3000), (0xa000, 0x1000), (0xf000, 0x2000)];
        assert_eq!(ranges(maps, 0x7000), Some(expected));
        assert_eq!(ranges("nonsense", 0), None);
        assert_eq!(ranges("", 0), Some(Vec::new()));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_process_in_two_pages_reaps_and_tells() {
        use std::os::fd::AsRawFd;
        use std::os::unix::process::ExitStatusExt;
        // A program that lives in them, with a child that the shell of it leaves behind.
        let Some(small) = Small::prepare() else {
            eprintln!("skipped: libc or the host is in the way");
            return;
        };
        let (mut told, tell) = std::io::pipe().unwrap();
        // SAFETY: plain numbers; the kernel's set is where libc's begins.
        let mut filter: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        unsafe { (&raw mut filter).cast::<u64>().write(super::super::WATCHED_SIGNALS) };
        // SAFETY: the child makes raw calls alone, and never returns.
        let supervisor = unsafe { libc::fork() };
        if supervisor == 0 {
            // SAFETY: as above; descriptors 0 and 1 are the harness's copies and ours to replace.
            unsafe {
                libc::sigprocmask(libc::SIG_SETMASK, &raw const filter, std::ptr::null_mut());
                let signals = libc::signalfd(-1, &raw const filter, 0);
                let program = libc::fork();
                if program == 0 {
                    libc::_exit(7);
                }
                libc::dup2(tell.as_raw_fd(), 0);
                libc::dup2(signals, 1);
                small.live(program, program, -1);
            }
        }
        drop(tell);
        let mut message = [0; 8];
        std::io::Read::read_exact(&mut told, &mut message).unwrap();
        assert_eq!(super::super::Status::from_bytes(message), Some(super::super::Status::Exited { code: 7 }));
        let mut status = 0;
        // SAFETY: a live integer.
        unsafe { libc::waitpid(supervisor, &raw mut status, 0) };
        assert_eq!(std::process::ExitStatus::from_raw(status).code(), Some(0));
    }
}
