//! The table of system calls that an environment's processes are refused, and its compilation to BPF.
//!
//! Everything else is allowed: interpreters use several hundred calls, and what keeps an environment in is
//! the namespaces and the empty capability sets. The table takes away what widens the kernel's attack
//! surface or undoes a namespace. `clone` loses its namespace flags; `clone3` answers ENOSYS because its
//! flags stand behind a pointer that a filter cannot read, and every libc then falls back to `clone`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

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
};

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

/// Namespace flags of `clone`: NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_FLAGS_REFUSED: [u64; 8] = [
    0x0000_0080,
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
];

/// Socket families that stay: UNIX, INET, INET6 and NETLINK (getifaddrs needs it). Others are either
/// privileged or reach past the network namespace, as VSOCK does.
const FAMILIES_ALLOWED: [u64; 4] =
    [libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_NETLINK as u64];

/// `TIOCSTI` pushes bytes into a terminal's input; `TIOCLINUX` does so on consoles.
const TERMINAL_REQUESTS_REFUSED: [u64; 2] = [0x5412, 0x541C];

/// Parts that the table is compiled in.
const PARTS: usize = 12;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The calls that are refused whatever their arguments.
pub fn refused_calls() -> impl Iterator<Item = &'static RefusedCall> {
    REFUSED.iter().chain(REFUSED_HERE)
}

/// Compiles the table for this machine.
///
/// # Errors
/// Only when the machine's architecture is not one that seccompiler knows.
pub(crate) fn compile() -> Result<BpfProgram, seccompiler::Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(seccompiler::Error::Backend)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        refused_calls().map(|call| (call.number, Vec::new())).collect();
    let mut clone = Vec::new();
    for flag in CLONE_FLAGS_REFUSED {
        clone.push(rule(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?])?);
    }
    rules.insert(libc::SYS_clone, clone);
    let other_family = FAMILIES_ALLOWED
        .iter()
        .map(|&family| condition(0, SeccompCmpOp::Ne, family))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![rule(other_family)?]);
    let mut requests = Vec::new();
    for request in TERMINAL_REQUESTS_REFUSED {
        requests.push(rule(vec![condition(1, SeccompCmpOp::Eq, request)?])?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    let mut parts: Vec<(u32, BpfProgram)> = Vec::new();
    let part_len = rules.len().div_ceil(PARTS).max(1);
    while let Some(first) = rules.keys().next().copied() {
        let rest = rules.keys().nth(part_len).copied().map(|next| rules.split_off(&next));
        let part = std::mem::replace(&mut rules, rest.unwrap_or_default());
        let refusal = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(part, SeccompAction::Allow, refusal, architecture)
            .map_err(seccompiler::Error::Backend)?;
        // The first part also answers for the numbers below its own.
        let from = if parts.is_empty() { 0 } else { first as u32 };
        parts.push((from, filter.try_into().map_err(seccompiler::Error::Backend)?));
    }
    let mut program = unknown_calls();
    program.extend(choose_part(&parts));
    program.extend(parts.into_iter().flat_map(|(_, part)| part));
    Ok(program)
}

/// Jumps to the part that a call's number falls into. When a filter is installed the kernel runs it once for
/// every call there is, so short chains are worth 0.1 ms at each start, and some at each call.
fn choose_part(parts: &[(u32, BpfProgram)]) -> BpfProgram {
    let mut program = BpfProgram::new();
    for (index, (from, _)) in parts.iter().enumerate().rev() {
        let table_left = 2 * index as u32;
        let before: usize = parts[..index].iter().map(|(_, part)| part.len()).sum();
        program.push(sock_filter { code: JUMP_GREATER_OR_EQUAL, jt: 0, jf: 1, k: *from });
        program.push(sock_filter { code: JUMP, jt: 0, jf: 0, k: table_left + before as u32 });
    }
    program
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::Error> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .map_err(seccompiler::Error::Backend)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::Error> {
    SeccompRule::new(conditions).map_err(seccompiler::Error::Backend)
}

/// Four instructions before the table: `clone3` and the x32 numbers (which name the same calls once more)
/// answer ENOSYS. One filter has one refusal, hence by hand. A foreign architecture's numbers can only be
/// answered ENOSYS here or be ended by the check that follows.
fn unknown_calls() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
    vec![
        sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_GREATER_OR_EQUAL, jt: 1, jf: 0, k: X32 },
        sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: libc::SYS_clone3 as u32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: RETURN_ERRNO | libc::ENOSYS as u32 },
    ]
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
        let architecture: u32 = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };
        data.extend(architecture.to_ne_bytes());
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
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                0x54 => {
                    accumulator &= k; // BPF_ALU | BPF_AND | BPF_K
                    continue;
                }
                JUMP_EQUAL => accumulator == k,
                JUMP_GREATER_OR_EQUAL => accumulator >= k,
                0x25 => accumulator > k, // BPF_JMP | BPF_JGT | BPF_K
                code => panic!("instruction {code:#x}"),
            };
            at += usize::from(if condition { jt } else { jf });
        }
    }

    #[test]
    fn each_call_is_answered_as_the_table_says() {
        const ALLOW: u32 = 0x7fff_0000;
        const NOT_PERMITTED: u32 = 0x0005_0000 | libc::EPERM as u32;
        const UNKNOWN: u32 = 0x0005_0000 | libc::ENOSYS as u32;
        let program = compile().unwrap();
        let none = [0; 6];
        for number in 0..500 {
            let refused = refused_calls().any(|call| call.number == number);
            let expected = match number {
                libc::SYS_clone3 => UNKNOWN,
                _ if refused => NOT_PERMITTED,
                // Family 0 is not one of those that stay.
                libc::SYS_socket => NOT_PERMITTED,
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
            assert_eq!(with(libc::SYS_clone, 0, flag | libc::CLONE_VM as u64), NOT_PERMITTED, "{flag:#x}");
        }
        let thread = (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
        assert_eq!(with(libc::SYS_clone, 0, thread), ALLOW);
        for family in 0..50 {
            let expected = if FAMILIES_ALLOWED.contains(&family) { ALLOW } else { NOT_PERMITTED };
            assert_eq!(with(libc::SYS_socket, 0, family), expected, "family {family}");
        }
        assert_eq!(with(libc::SYS_ioctl, 1, 0x5412), NOT_PERMITTED);
        assert_eq!(with(libc::SYS_ioctl, 1, 0x5413), ALLOW);
        assert_eq!(answer(&program, 0x4000_0000 + libc::SYS_mount, none), UNKNOWN);
    }

    #[test]
    fn the_table_compiles_and_fits_the_kernel_limit() {
        let program = compile().unwrap();
        assert!(program.len() < 4096, "{} instructions", program.len());
    }
}
