//! Code that was needed once: a process lets go of it, and the pages that it runs from now on come back from the host's
//! page cache, which all processes of the program share.
//!
//! The kernel maps sixteen pages around each that is touched, so a start leaves most of the program mapped for good: 12 MB of
//! the platform's 18, and 1 to 3 MB of each small process forked from it (measured). What comes back takes 1 us for sixteen
//! pages.
#![allow(unsafe_code)]

use std::ffi::c_void;

/// Of all machines that Linux runs on.
const LARGEST_PAGE: usize = 65_536;

/// Lets go of the pages of the program and its libraries that hold code and constants. Those in use come back at once, so
/// call when a process has done most of what it does once.
pub fn let_go_of_code() {
    // SAFETY: the callback keeps nothing of what it is given.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of_object), std::ptr::null_mut()) };
}

unsafe extern "C" fn let_go_of_object(
    object: *mut libc::dl_phdr_info,
    _bytes: libc::size_t,
    _data: *mut c_void,
) -> libc::c_int {
    // SAFETY: libc hands over a live description of one object, whose program headers are part of the object.
    let (base, headers) = unsafe {
        let object = &*object;
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    // SAFETY: asks for a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(LARGEST_PAGE);
    for header in headers {
        // Where a segment may be written, relocations were: those are the process's own.
        let is_constant = header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
        let range = whole_pages(base.wrapping_add(header.p_vaddr) as usize, header.p_memsz as usize, page);
        if let Some((start, bytes)) = range.filter(|_| is_constant) {
            // SAFETY: whole pages of a mapping of a file that nobody writes to; the next access reads them from the file.
            unsafe { libc::madvise(start as *mut c_void, bytes, libc::MADV_DONTNEED) };
        }
    }
    0
}

/// The pages that lie wholly within a range of memory: where they begin, and their bytes.
fn whole_pages(start: usize, bytes: usize, page: usize) -> Option<(usize, usize)> {
    let end = start.checked_add(bytes)? & !(page - 1);
    let start = start.checked_next_multiple_of(page)?;
    (end > start).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbours_page_is_left_alone() {
        assert_eq!(whole_pages(0x1000, 0x2000, 0x1000), Some((0x1000, 0x2000)));
        assert_eq!(whole_pages(0x1001, 0x2000, 0x1000), Some((0x2000, 0x1000)));
        assert_eq!(whole_pages(0x1fff, 0x1001, 0x1000), Some((0x2000, 0x1000)));
        assert_eq!(whole_pages(0x1001, 0x1ffe, 0x1000), None);
        assert_eq!(whole_pages(0x1000, 0, 0x1000), None);
        assert_eq!(whole_pages(usize::MAX - 1, 1, 0x1000), None);
        assert_eq!(whole_pages(usize::MAX, 2, 0x1000), None);
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
