//! The table of system calls that an environment's processes are refused, and its compilation to BPF.
//!
//! Everything else is allowed: interpreters use several hundred calls, and what keeps an environment in is
//! the namespaces and the empty capability sets. The table takes away what widens the kernel's attack
//! surface or undoes a namespace. `clone` loses its namespace flags; `clone3` answers ENOSYS because its
//! flags stand behind a pointer that a filter cannot read, and every libc then falls back to `clone`.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

/// One refused system call and why.
#[derive(Clone, Copy, Debug)]
pub struct RefusedCall {
    /// Its name in the manual.
    pub name: &'static str,
    /// Its number on this machine.
    pub number: i64,
    /// Why it is refused.
    pub reason: &'static str,
}

macro_rules! refused {
    ($($name:ident $number:ident $reason:literal;)*) => {
        &[$(RefusedCall { name: stringify!($name), number: libc::$number, reason: $reason }),*]
    };
}

/// Refused with EPERM whatever the arguments, on every architecture.
const REFUSED: &[RefusedCall] = refused! {
    mount SYS_mount "changes what the environment sees";
    umount2 SYS_umount2 "could uncover what a mount hides";
    pivot_root SYS_pivot_root "changes the root";
    chroot SYS_chroot "changes the root";
    open_tree SYS_open_tree "copies mounts";
    move_mount SYS_move_mount "moves mounts";
    fsopen SYS_fsopen "parses file systems";
    fsconfig SYS_fsconfig "parses file systems";
    fsmount SYS_fsmount "makes mounts";
    fspick SYS_fspick "reconfigures mounts";
    mount_setattr SYS_mount_setattr "could undo read-only";
    unshare SYS_unshare "makes namespaces, which open privileged code paths";
    setns SYS_setns "enters namespaces";
    ptrace SYS_ptrace "controls other processes";
    process_vm_readv SYS_process_vm_readv "reads other processes";
    process_vm_writev SYS_process_vm_writev "writes other processes";
    process_madvise SYS_process_madvise "acts on other processes' memory";
    kcmp SYS_kcmp "compares kernel objects of processes";
    pidfd_getfd SYS_pidfd_getfd "takes descriptors from other processes";
    bpf SYS_bpf "loads programs into the kernel";
    perf_event_open SYS_perf_event_open "large attack surface, observes the host";
    userfaultfd SYS_userfaultfd "makes kernel races easy to win";
    io_uring_setup SYS_io_uring_setup "large attack surface, passes by this filter";
    io_uring_enter SYS_io_uring_enter "as io_uring_setup";
    io_uring_register SYS_io_uring_register "as io_uring_setup";
    keyctl SYS_keyctl "keyrings are shared by the host";
    add_key SYS_add_key "keyrings are shared by the host";
    request_key SYS_request_key "calls up to the host";
    kexec_load SYS_kexec_load "replaces the kernel";
    init_module SYS_init_module "loads kernel code";
    finit_module SYS_finit_module "loads kernel code";
    delete_module SYS_delete_module "unloads kernel code";
    reboot SYS_reboot "stops the host";
    swapon SYS_swapon "changes the host's memory";
    swapoff SYS_swapoff "changes the host's memory";
    acct SYS_acct "process accounting of the host";
    quotactl SYS_quotactl "quotas of the host";
    settimeofday SYS_settimeofday "the host's clock";
    clock_settime SYS_clock_settime "the host's clock";
    clock_adjtime SYS_clock_adjtime "the host's clock";
    adjtimex SYS_adjtimex "the host's clock";
    sethostname SYS_sethostname "the name is the platform's to give";
    setdomainname SYS_setdomainname "the name is the platform's to give";
    open_by_handle_at SYS_open_by_handle_at "opens files past the root";
    name_to_handle_at SYS_name_to_handle_at "prepares open_by_handle_at";
    lookup_dcookie SYS_lookup_dcookie "reads paths of the host";
    syslog SYS_syslog "reads the kernel's log";
    vhangup SYS_vhangup "hangs up terminals";
    nfsservctl SYS_nfsservctl "removed call";
    fanotify_init SYS_fanotify_init "watches whole file systems";
    move_pages SYS_move_pages "acts on other processes' memory";
    migrate_pages SYS_migrate_pages "acts on other processes' memory";
    quotactl_fd SYS_quotactl_fd "quotas of the host";
    process_mrelease SYS_process_mrelease "acts on other processes' memory";
};

/// Refused with EPERM; numbers that all machines share, younger than some libc.
const REFUSED_YOUNG: &[RefusedCall] = &[
    RefusedCall { name: "cachestat", number: 451, reason: "shows which of the host's files are in memory" },
    RefusedCall { name: "statmount", number: 457, reason: "shows where mounts lie on the host" },
    RefusedCall { name: "listmount", number: 458, reason: "lists mounts" },
    RefusedCall { name: "lsm_set_self_attr", number: 460, reason: "security modules are the host's" },
];

/// Calls from here on are answered ENOSYS: they were added after this table was written, and `open_tree_attr`, the first,
/// shows that they may do what older ones are refused for.
const FIRST_UNKNOWN: u32 = 467;

/// Refused with EPERM on x86-64 alone; other machines lack them.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[RefusedCall] = refused! {
    iopl SYS_iopl "raw ports of the machine";
    ioperm SYS_ioperm "raw ports of the machine";
    modify_ldt SYS_modify_ldt "segment descriptors, a history of holes";
    uselib SYS_uselib "obsolete, a history of holes";
    _sysctl SYS__sysctl "removed call";
    kexec_file_load SYS_kexec_file_load "replaces the kernel";
    ustat SYS_ustat "file systems of the host";
};
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[RefusedCall] = &[];

/// All that a process needs which reads one open file and writes others below a folder. Everything else is refused: no
/// network, no processes, no signals, no namespaces.
const FOR_FILES: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_mknodat,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_fchmod,
    libc::SYS_fsetxattr,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Namespace flags of `clone`: NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_FLAGS_REFUSED: [u32; 8] = [
    0x0000_0080,
    libc::CLONE_NEWNS as u32,
    libc::CLONE_NEWCGROUP as u32,
    libc::CLONE_NEWUTS as u32,
    libc::CLONE_NEWIPC as u32,
    libc::CLONE_NEWUSER as u32,
    libc::CLONE_NEWPID as u32,
    libc::CLONE_NEWNET as u32,
];

/// Protocols of INET and INET6 that stay: 0 (the family's own), ICMP, TCP, UDP, ICMPv6, MPTCP. Asking for another has the
/// kernel load its module, such as DCCP or SCTP, for anybody.
const PROTOCOLS_ALLOWED: [u32; 6] = [0, 1, 6, 17, 58, 262];

/// `NETLINK_ROUTE`, which getifaddrs needs. The others talk to packet filters, IPsec, auditing and devices.
const NETLINK_ALLOWED: u32 = 0;

/// `TIOCSTI` pushes bytes into a terminal's input; `TIOCLINUX` does so on consoles.
const TERMINAL_REQUESTS_REFUSED: [u32; 2] = [0x5412, 0x541C];

/// Numbers from here on name the same calls once more, with the x32 calling convention.
const X32: u32 = 0x4000_0000;
const _: () = assert!(FIRST_UNKNOWN < X32);

/// What the kernel calls this machine (`AUDIT_ARCH_*`).
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const MACHINE: u32 = 0xC000_00B7;

// Offsets in `struct seccomp_data`; of arguments, the low half, which is all that the calls concerned look at.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT_0: u32 = 16;
const ARGUMENT_1: u32 = 24;
const ARGUMENT_2: u32 = 32;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: u32 = 0x7FFF_0000; // SECCOMP_RET_ALLOW
const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
const KILL_PROCESS: u32 = 0x8000_0000; // SECCOMP_RET_KILL_PROCESS

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// EPERM.
    Refuse,
    /// ENOSYS: `clone3`, the x32 numbers.
    Unknown,
    /// By the flags.
    Clone,
    /// By the family: UNIX, INET, INET6 and NETLINK stay. Others are either privileged or reach past the network namespace,
    /// as VSOCK does, or have their modules loaded for anybody.
    Socket,
    /// By the protocol, of INET and INET6.
    Protocol,
    /// By the protocol, of NETLINK.
    Netlink,
    /// By the family of `socketpair`: UNIX alone.
    Pair,
    /// By the request.
    Ioctl,
}

/// How many there are.
const VERDICTS: usize = Verdict::Ioctl as usize + 1;

/// The calls that are refused whatever their arguments.
pub fn refused_calls() -> impl Iterator<Item = &'static RefusedCall> {
    REFUSED.iter().chain(REFUSED_YOUNG).chain(REFUSED_HERE)
}

/// A jump's aim while the program is put together.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Another comparison, by its place among them.
    Comparison(usize),
    Verdict(Verdict),
}

/// Compiles the table for this machine: a search tree over the numbers, then what each verdict does. When a filter is
/// installed the kernel translates it and runs it once for every call there is, so every instruction counts at each
/// start, and the depth at each call (measured: 130 instructions in place of 560 are worth 0.05 ms of a start).
pub(crate) fn compile() -> BpfProgram {
    program(&segments())
}

/// Compiles the list of what unpacking needs.
pub(crate) fn compile_for_files() -> BpfProgram {
    let mut numbers: Vec<u32> = FOR_FILES.iter().map(|number| *number as u32).collect();
    numbers.sort_unstable();
    let mut segments = vec![(0, Verdict::Refuse)];
    for number in numbers {
        segments.push((number, Verdict::Allow));
        segments.push((number + 1, Verdict::Refuse));
    }
    join(&mut segments);
    program(&segments)
}

fn program(segments: &[(u32, Verdict)]) -> BpfProgram {
    let mut comparisons = Vec::new();
    let root = search(segments, &mut comparisons);
    debug_assert!(matches!(root, Aim::Comparison(0)));
    let head = [
        statement(LOAD, ARCHITECTURE),
        // A foreign machine's numbers mean other calls.
        sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: MACHINE },
        statement(RETURN, KILL_PROCESS),
        statement(LOAD, NUMBER),
    ];
    let (verdicts, places) = verdicts();
    let count = comparisons.len();
    let place = |aim: Aim| match aim {
        Aim::Comparison(index) => index,
        Aim::Verdict(verdict) => count + places[verdict as usize],
    };
    let jump = |from: usize, aim: Aim| {
        u8::try_from(place(aim) - from - 1).expect("the program is shorter than 256 instructions, tested")
    };
    let tree = comparisons.iter().enumerate().map(|(at, &(k, greater, less))| sock_filter {
        code: JUMP_GREATER_OR_EQUAL,
        jt: jump(at, greater),
        jf: jump(at, less),
        k,
    });
    head.into_iter().chain(tree).chain(verdicts).collect()
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// From which number on which verdict holds, without two equal neighbours.
fn segments() -> Vec<(u32, Verdict)> {
    let mut verdicts: BTreeMap<u32, Verdict> =
        refused_calls().map(|call| (call.number as u32, Verdict::Refuse)).collect();
    verdicts.insert(libc::SYS_clone as u32, Verdict::Clone);
    verdicts.insert(libc::SYS_socket as u32, Verdict::Socket);
    verdicts.insert(libc::SYS_socketpair as u32, Verdict::Pair);
    verdicts.insert(libc::SYS_ioctl as u32, Verdict::Ioctl);
    verdicts.insert(libc::SYS_clone3 as u32, Verdict::Unknown);
    let mut segments = vec![(0, Verdict::Allow)];
    let mut next = 0;
    for (number, verdict) in verdicts {
        if number > next {
            segments.push((next, Verdict::Allow));
        }
        segments.push((number, verdict));
        next = number + 1;
    }
    segments.push((next, Verdict::Allow));
    // So are the numbers from X32 on, which name the same calls once more.
    segments.push((FIRST_UNKNOWN, Verdict::Unknown));
    join(&mut segments);
    segments
}

/// Of segments that begin at the same number the last holds; equal neighbours are one.
fn join(segments: &mut Vec<(u32, Verdict)>) {
    segments.dedup_by(|later, earlier| {
        let replaced = later.0 == earlier.0;
        if replaced {
            earlier.1 = later.1;
        }
        replaced
    });
    segments.dedup_by_key(|(_, verdict)| *verdict);
}

/// Adds the comparisons that find a number's segment; the first added decides first. Depth is the logarithm of the
/// count.
fn search(segments: &[(u32, Verdict)], comparisons: &mut Vec<(u32, Aim, Aim)>) -> Aim {
    let [(_, verdict)] = segments else {
        let (less, greater) = segments.split_at(segments.len() / 2);
        let at = comparisons.len();
        comparisons.push((greater[0].0, Aim::Verdict(Verdict::Allow), Aim::Verdict(Verdict::Allow)));
        let less = search(less, comparisons);
        let greater = search(greater, comparisons);
        (comparisons[at].1, comparisons[at].2) = (greater, less);
        return Aim::Comparison(at);
    };
    Aim::Verdict(*verdict)
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    Verdict(Verdict),
}

/// What each verdict does, one after the other, and where in it each begins.
fn verdicts() -> (BpfProgram, [usize; VERDICTS]) {
    use To::Next;
    let (allow, refuse) = (To::Verdict(Verdict::Allow), To::Verdict(Verdict::Refuse));
    let flags = CLONE_FLAGS_REFUSED.iter().fold(0, |all, flag| all | flag);
    let equal = |k: u32, then: To| (JUMP_EQUAL, k, then);
    let families = [
        (libc::AF_UNIX, Verdict::Allow),
        (libc::AF_INET, Verdict::Protocol),
        (libc::AF_INET6, Verdict::Protocol),
        (libc::AF_NETLINK, Verdict::Netlink),
    ];
    // What is looked at, what it is compared with, and what holds if nothing fits.
    let deciding: [(Verdict, u32, Vec<_>, To); 6] = [
        (Verdict::Clone, ARGUMENT_0, vec![(JUMP_SET, flags, refuse)], allow),
        (Verdict::Ioctl, ARGUMENT_1, TERMINAL_REQUESTS_REFUSED.map(|it| equal(it, refuse)).to_vec(), allow),
        (
            Verdict::Socket,
            ARGUMENT_0,
            families.map(|(family, then)| equal(family as u32, To::Verdict(then))).to_vec(),
            refuse,
        ),
        (Verdict::Protocol, ARGUMENT_2, PROTOCOLS_ALLOWED.map(|it| equal(it, allow)).to_vec(), refuse),
        (Verdict::Netlink, ARGUMENT_2, vec![equal(NETLINK_ALLOWED, allow)], refuse),
        (Verdict::Pair, ARGUMENT_0, vec![equal(libc::AF_UNIX as u32, allow)], refuse),
    ];
    let mut program = BpfProgram::new();
    let mut places = [0; VERDICTS];
    let mut jumps = Vec::new();
    for (verdict, look_at, comparisons, otherwise) in deciding {
        places[verdict as usize] = program.len();
        program.push(statement(LOAD, look_at));
        let last = comparisons.len() - 1;
        for (index, (code, k, then)) in comparisons.into_iter().enumerate() {
            jumps.push((program.len(), then, if index == last { otherwise } else { Next }));
            program.push(statement(code, k));
        }
    }
    for (verdict, answer) in [
        (Verdict::Allow, ALLOW),
        (Verdict::Refuse, ERRNO | libc::EPERM as u32),
        (Verdict::Unknown, ERRNO | libc::ENOSYS as u32),
    ] {
        places[verdict as usize] = program.len();
        program.push(statement(RETURN, answer));
    }
    for (at, then, otherwise) in jumps {
        let offset = |to: To| match to {
            Next => 0,
            To::Verdict(verdict) => u8::try_from(places[verdict as usize] - at - 1)
                .expect("the program is shorter than 256 instructions, tested"),
        };
        (program[at].jt, program[at].jf) = (offset(then), offset(otherwise));
    }
    (program, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refused_call_has_a_reason_and_appears_once() {
        let mut numbers: Vec<i64> = refused_calls().map(|call| call.number).collect();
        numbers.sort_unstable();
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        assert!(refused_calls().all(|call| !call.reason.is_empty()));
    }

    /// A classic BPF machine, as far as seccomp programs need one.
    fn answer(program: &[sock_filter], number: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend((number as u32).to_ne_bytes());
        data.extend(MACHINE.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let condition = match code {
                LOAD => {
                    let bytes = &data[k as usize..k as usize + 4];
                    accumulator = u32::from_ne_bytes(bytes.try_into().unwrap());
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => accumulator == k,
                JUMP_GREATER_OR_EQUAL => accumulator >= k,
                JUMP_SET => accumulator & k != 0,
                code => panic!("instruction {code:#x}"),
            };
            at += usize::from(if condition { jt } else { jf });
        }
    }

    #[test]
    fn each_call_is_answered_as_the_table_says() {
        const NOT_PERMITTED: u32 = 0x0005_0000 | libc::EPERM as u32;
        const UNKNOWN: u32 = 0x0005_0000 | libc::ENOSYS as u32;
        let program = compile();
        let none = [0; 6];
        for number in 0..500 {
            let refused = refused_calls().any(|call| call.number == number);
            let expected = match number {
                libc::SYS_clone3 | 467.. => UNKNOWN,
                _ if refused => NOT_PERMITTED,
                // Family 0 is not one of those that stay.
                libc::SYS_socket | libc::SYS_socketpair => NOT_PERMITTED,
                _ => ALLOW,
            };
            assert_eq!(answer(&program, number, none), expected, "call {number}");
        }
        let with = |number, at: usize, value: u64| {
            let mut arguments = none;
            arguments[at] = value;
            answer(&program, number, arguments)
        };
        for flag in CLONE_FLAGS_REFUSED {
            let flags = u64::from(flag) | libc::CLONE_VM as u64;
            assert_eq!(with(libc::SYS_clone, 0, flags), NOT_PERMITTED, "{flag:#x}");
        }
        let thread = (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
        assert_eq!(with(libc::SYS_clone, 0, thread), ALLOW);
        for family in 0..50 {
            let stays = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].contains(&family);
            let expected = if stays { ALLOW } else { NOT_PERMITTED };
            assert_eq!(with(libc::SYS_socket, 0, family as u64), expected, "family {family}");
            let expected = if family == libc::AF_UNIX { ALLOW } else { NOT_PERMITTED };
            assert_eq!(with(libc::SYS_socketpair, 0, family as u64), expected, "pair of family {family}");
        }
        for protocol in 0..300 {
            let socket =
                |family: i32| answer(&program, libc::SYS_socket, [family as u64, 1, protocol, 0, 0, 0]);
            let expected = if [0, 1, 6, 17, 58, 262].contains(&protocol) { ALLOW } else { NOT_PERMITTED };
            assert_eq!(socket(libc::AF_INET), expected, "protocol {protocol}");
            assert_eq!(socket(libc::AF_INET6), expected, "protocol {protocol}");
            let expected = if protocol == 0 { ALLOW } else { NOT_PERMITTED };
            assert_eq!(socket(libc::AF_NETLINK), expected, "netlink {protocol}");
            assert_eq!(socket(libc::AF_UNIX), ALLOW);
        }
        assert_eq!(with(libc::SYS_ioctl, 1, 0x5412), NOT_PERMITTED);
        assert_eq!(with(libc::SYS_ioctl, 1, 0x541C), NOT_PERMITTED);
        // The kernel looks at 32 bits of a request, so these name the same one.
        assert_eq!(with(libc::SYS_ioctl, 1, 0x7_0000_5412), NOT_PERMITTED);
        assert_eq!(with(libc::SYS_ioctl, 1, 0x5413), ALLOW);
        assert_eq!(answer(&program, 0x4000_0000 + libc::SYS_mount, none), UNKNOWN);
    }

    #[test]
    fn files_need_what_is_listed_and_nothing_else() {
        let program = compile_for_files();
        assert!(program.len() < 256, "{} instructions", program.len());
        for number in (0..600).chain([0x4000_0000, i64::from(u32::MAX)]) {
            let expected = if FOR_FILES.contains(&number) { ALLOW } else { ERRNO | libc::EPERM as u32 };
            assert_eq!(answer(&program, number, [0; 6]), expected, "call {number}");
        }
    }

    #[test]
    fn jumps_reach_and_the_tree_is_shallow() {
        let program = compile();
        assert!(program.len() < 256, "{} instructions", program.len());
        let mut comparisons = Vec::new();
        search(&segments(), &mut comparisons);
        fn depth(comparisons: &[(u32, Aim, Aim)], aim: Aim) -> usize {
            let Aim::Comparison(at) = aim else { return 0 };
            let (_, greater, less) = comparisons[at];
            1 + depth(comparisons, greater).max(depth(comparisons, less))
        }
        assert!(depth(&comparisons, Aim::Comparison(0)) <= 8);
    }

    #[test]
    fn a_foreign_machine_is_ended() {
        let program = compile();
        assert_eq!((program[0].code, program[0].k), (LOAD, ARCHITECTURE));
        assert_eq!((program[1].code, program[1].k), (JUMP_EQUAL, MACHINE));
        assert_eq!((program[2].code, program[2].k), (RETURN, KILL_PROCESS));
    }
}
