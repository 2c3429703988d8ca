//! One more wall where the kernel has it: files may be written below `/tmp`, `/dev` and `/proc` alone.
//!
//! The root is read-only already. This holds also where a mount is writable by mistake, or a hole in the kernel's mounts
//! is found. The rules are tied to this environment's own `/tmp`, so they are made in the child: eleven calls,
//! 24 to 30 us, and 8 of the 620 us of a bare fork, exec and exit (measured). Raw calls alone: see [`crate::child`].
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::syscalls::raw;

/// Before this version every rename between folders is refused, also in `/tmp`.
const ABI_MIN: i64 = 2;
/// From this version truncation is a right of its own.
const ABI_TRUNCATE: i64 = 3;

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const VERSION: u32 = 1;
/// `LANDLOCK_RULE_PATH_BENEATH`.
const PATH_BENEATH: u32 = 1;

/// Bits of `LANDLOCK_ACCESS_FS_*`: `WRITE_FILE`; from `REMOVE_DIR` to `MAKE_SYM` all that changes folders, then `REFER`;
/// `TRUNCATE`. Reading and executing are left to the root, which holds nothing else.
const WRITE_FILE: u64 = 1 << 1;
const CHANGE_FOLDERS: u64 = 0x3ff0;
const TRUNCATE: u64 = 1 << 14;
const _: () = assert!(CHANGE_FOLDERS == (1 << 14) - (1 << 4));

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The version of Landlock that can be used here; 0 for none.
pub(crate) fn version() -> u32 {
    // SAFETY: with this flag no memory is read.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) };
    if abi < ABI_MIN { 0 } else { u32::try_from(abi).unwrap_or(0) }
}

/// Restricts the calling process and its children for good. No new privileges must be given up before.
///
/// # Errors
/// The `errno` of the call that failed.
pub(crate) fn restrict(version: u32) -> Result<(), i32> {
    let truncate = if i64::from(version) < ABI_TRUNCATE { 0 } else { TRUNCATE };
    let all = WRITE_FILE | CHANGE_FOLDERS | truncate;
    let handled = [all];
    // SAFETY: eight live bytes, which every version takes.
    let rules = unsafe { raw!(SYS_landlock_create_ruleset, handled.as_ptr(), size_of_val(&handled), 0) }?;
    let files = WRITE_FILE | truncate;
    for (path, allowed) in [(c"/tmp", all), (c"/dev", files), (c"/proc", files)] {
        allow(rules, path, allowed)?;
    }
    // SAFETY: numbers alone.
    unsafe { raw!(SYS_landlock_restrict_self, rules, 0) }?;
    // SAFETY: closes what was made above.
    let _ = unsafe { raw!(SYS_close, rules) };
    Ok(())
}

/// Leaves the calling process, for good, the files below `folder` and those that it has open: no others are read, written or
/// executed. In the folder it may not execute, nor make sockets, pipes and disks. No new privileges must be given up before.
///
/// # Errors
/// The `errno` of the call that failed.
pub(crate) fn confine_to(folder: BorrowedFd<'_>) -> Result<(), i32> {
    // From `EXECUTE` to `REFER`, which every version from ABI_MIN on knows.
    const ALL: u64 = 0x3fff;
    // `EXECUTE`; `MAKE_SOCK`, `MAKE_FIFO`, `MAKE_BLOCK`. Whiteouts are character devices.
    const NEVER: u64 = 1 | 0b111 << 9;
    let handled = [ALL];
    // SAFETY: eight live bytes, which every version takes.
    let rules = unsafe { raw!(SYS_landlock_create_ruleset, handled.as_ptr(), size_of_val(&handled), 0) }?;
    let rule = PathBeneath { allowed: ALL & !NEVER, parent: folder.as_raw_fd() };
    // SAFETY: a live structure of the kernel's layout; numbers; closes what was made above.
    unsafe {
        raw!(SYS_landlock_add_rule, rules, PATH_BENEATH, &raw const rule, 0)?;
        raw!(SYS_landlock_restrict_self, rules, 0)?;
        raw!(SYS_close, rules).map(drop)
    }
}

fn allow(rules: usize, path: &CStr, allowed: u64) -> Result<(), i32> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: reads a C string.
    let parent = unsafe { raw!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) }?;
    let rule = PathBeneath { allowed, parent: parent as i32 };
    // SAFETY: a live structure of the kernel's layout; the descriptor is ours to close.
    unsafe {
        let added = raw!(SYS_landlock_add_rule, rules, PATH_BENEATH, &raw const rule, 0);
        let _ = raw!(SYS_close, parent);
        added.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    #[test]
    fn only_tmp_may_be_written() {
        let version = version();
        if version == 0 {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        }
        let name = format!("onrush-landlock-{}", std::process::id());
        let script = format!(
            "echo a > /tmp/{name} && mv /tmp/{name} /tmp/{name}2 && rm /tmp/{name}2 && echo b > /dev/null || exit 1; \
             read line < /etc/hostname; (echo c > /var/tmp/{name}) 2>/dev/null && exit 2; exit 0"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        // SAFETY: raw calls alone between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                restrict(version).map_err(std::io::Error::from_raw_os_error)
            });
        }
        let status = command.status().unwrap();
        let _ = std::fs::remove_file(format!("/var/tmp/{name}"));
        assert_eq!(status.code(), Some(0));
    }
}
