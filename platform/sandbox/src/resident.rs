//! Code that was needed once: a process lets go of it, and the pages that it runs from now on come back from the host's
//! page cache, which all processes of the program share.
//!
//! The kernel maps sixteen pages around each that is touched, so a start leaves most of the program mapped for good: 12 MB of
//! the platform's 18, and 1 to 3 MB of each small process forked from it (measured). What comes back takes 1 us for sixteen
//! pages.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;

/// Lets go of the pages of the program and its libraries that hold code and constants. Those in use come back at once, so
/// call when a process has done most of what it does once. Where the kernel does not tell what is mapped, nothing goes.
pub fn let_go_of_code() {
    let Ok(smaps) = File::open("/proc/self/smaps") else { return };
    for range in files_as_they_are(BufReader::new(smaps)) {
        // SAFETY: a private mapping of a file, which cannot be written and of which no page ever was: the next access reads
        // from the file what was there.
        unsafe { libc::madvise(range.start as *mut c_void, range.len(), libc::MADV_DONTNEED) };
    }
}

/// The private mappings of files in the text of `smaps` that nobody may write and nobody wrote: relocated tables, a
/// debugger's breakpoints and code that was moved to larger pages are a process's own.
fn files_as_they_are(mut smaps: impl BufRead) -> Vec<Range<usize>> {
    let (mut found, mut mapping, mut line) = (Vec::new(), None, Vec::new());
    while smaps.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let text = std::mem::take(&mut line);
        let line = String::from_utf8_lossy(&text);
        if let Some(constant) = constant_of(&line) {
            mapping = constant;
        } else if line.strip_prefix("Anonymous:").is_some_and(|kib| kib.trim() == "0 kB") {
            found.extend(mapping.take());
        }
    }
    found
}

/// Of a mapping's first line (`start-end mode offset device inode path`) its addresses, if it is of a file, private and
/// not to be written; the outer `None` is another line.
fn constant_of(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let range = address(start)?..address(end)?;
    let (mode, inode) = (words.next()?.as_bytes(), words.nth(2)?);
    let is_constant = inode != "0" && matches!(mode, [b'r', b'-', _, b'p']);
    Some(is_constant.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_or_may_be_stays() {
        let told = "Size:                  4 kB\nRss:                   4 kB\n";
        let smaps = [
            ("1000-2000 r--p 00000000 fd:01 77 /bin/x", 0),
            ("2000-4000 r-xp 00001000 fd:01 77 /bin/x", 0),
            ("4000-5000 r-xp 00003000 fd:01 78 /lib/relocated.so", 4),
            ("5000-6000 rw-p 00004000 fd:01 77 /bin/x", 0),
            ("6000-7000 r--s 00000000 fd:01 79 /data/shared", 0),
            ("7000-8000 r-xp 00000000 00:00 0 [vdso]", 0),
            ("8000-9000 ---p 00000000 fd:01 77 /bin/x", 0),
            ("9000-a000 r--p 00005000 fd:01 77 /bin/a name", 0),
        ]
        .map(|(line, kib)| format!("{line}\n{told}Anonymous:    {kib} kB\nVmFlags: rd mr mw me sd\n"))
        .concat();
        assert_eq!(files_as_they_are(smaps.as_bytes()), [0x1000..0x2000, 0x2000..0x4000, 0x9000..0xa000]);
        for lie in ["", "x", "1000 r--p", "-", "g-h r--p 0 0 7 x", "Anonymous: 0 kB", "1000-2000 r--p"] {
            assert_eq!(files_as_they_are(lie.as_bytes()), [], "{lie}");
        }
    }

    #[test]
    fn code_that_runs_comes_back_and_the_rest_goes() {
        static TABLE: [u8; 1 << 20] = [7; 1 << 20];
        let sum = |table: &[u8]| table.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        assert_eq!(sum(std::hint::black_box(&TABLE)), 7 << 20);
        let before = resident_file_kib();
        let_go_of_code();
        let after = resident_file_kib();
        // Other tests run code meanwhile.
        assert!(after + 512 < before, "{before} KiB, then {after}");
        assert_eq!(sum(std::hint::black_box(&TABLE)), 7 << 20);
    }

    fn resident_file_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}
