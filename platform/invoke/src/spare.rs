//! Gives memory back to the host: what the allocator keeps after a burst, 14 KB for each of 1,000 environments (measured), and
//! the code that only the start took, some 9 MB.
#![allow(unsafe_code)]

/// Gives back every page that nothing is allocated in. Others that allocate meanwhile wait for milliseconds, so call when
/// it is quiet. Allocators other than glibc's do as they see fit.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks; pads nothing.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The same once the platform has started, and code that nothing runs again soon: once only, since the next request waits
/// for the pages that it needs.
pub(crate) fn give_back_start() {
    give_back();
    sandbox::let_go_of_code();
}

#[cfg(test)]
mod tests {
    /// Pages of this process that are in memory.
    #[cfg(target_env = "gnu")]
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn what_was_freed_below_something_in_use_is_given_back() {
        let mut pieces: Vec<_> = (0..20_000_usize).map(|number| vec![number as u8; 1024]).collect();
        let last = pieces.pop();
        drop(pieces);
        let before = resident();
        super::give_back();
        let after = resident();
        // 20 MB; other tests allocate at the same time.
        assert!(after + 2_000 < before, "{before} pages, then {after}");
        assert_eq!(last.unwrap().len(), 1024);
    }
}
