//! What processes and the kernel hold, told apart: the platform's, the kernel's, and the functions' own.

use anyhow::{Context as _, Result};
use std::fs;

/// Kernel memory that cannot be had back while it is used.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    pub kib: u64,
}

/// Fields of /proc/meminfo (proc_meminfo(5)): objects, stacks of threads, page tables, per-processor memory.
const FIELDS: [&str; 4] = ["SUnreclaim", "KernelStack", "PageTables", "Percpu"];
/// A thread's stack in the kernel, KiB (x86-64 and arm64).
const STACK_KIB: u64 = 16;

impl Kernel {
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let fields =
            FIELDS.map(|name| field(&text, name).with_context(|| format!("/proc/meminfo has no {name}")));
        Ok(Self { kib: fields.into_iter().sum::<Result<u64>>()? })
    }
}

/// What a platform and what it started hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Memory of the platform's own processes, supervisors included.
    pub ours_kib: u64,
    /// Page tables and kernel stacks of the functions' processes, which the kernel's figures count too.
    pub functions_kernel_kib: u64,
}

/// Of a platform's processes and their descendants.
pub fn of(family: &[u32]) -> Held {
    let mut held = Held::default();
    for id in family {
        let read = |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let status = read("status");
        if read("comm").starts_with("onrush") {
            held.ours_kib += field(&read("smaps_rollup"), "Pss_Anon").unwrap_or(0);
        } else {
            let threads = field(&status, "Threads").unwrap_or(0);
            held.functions_kernel_kib += field(&status, "VmPTE").unwrap_or(0) + threads * STACK_KIB;
        }
    }
    held
}

/// `Name:   123 kB`, the number.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "SReclaimable: 5 kB\nPageTables:      77 kB\nSecPageTables: 9 kB\nbroken\n";
        assert_eq!(field(text, "PageTables"), Some(77));
        assert_eq!(field(text, "SUnreclaim"), None);
        assert!(Kernel::now().unwrap().kib > 0);
    }

    #[test]
    fn a_process_of_another_name_is_a_function() {
        let held = of(&[std::process::id()]);
        assert_eq!(held.ours_kib, 0);
        assert!(held.functions_kernel_kib >= STACK_KIB);
    }
}
