//! Memory for what a child reads of its cloner, apart from the cloner's heap: of every page that a clone has a copy of, whoever
//! writes first makes one more, and the heap is written all over between two clones.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::CStr;
use std::io;

/// Holds what the longest packet can bring, with a pointer to each of its texts, and a path of the longest for each folder
/// of a `PATH`.
const SHEET_BYTES: usize = 1 << 20;

/// Values written one after another, until all are forgotten at once.
pub(crate) struct Sheet {
    begin: *mut u8,
    used: Cell<usize>,
}

impl Sheet {
    /// An empty one, in a mapping of its own that the process keeps.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new() -> io::Result<Sheet> {
        let (private, none) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, std::ptr::null_mut());
        // SAFETY: a new mapping that nobody else knows.
        let begin =
            unsafe { libc::mmap(none, SHEET_BYTES, libc::PROT_READ | libc::PROT_WRITE, private, -1, 0) };
        if begin == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Sheet { begin: begin.cast(), used: Cell::new(0) })
    }

    /// Copies `items` down.
    ///
    /// # Errors
    /// `E2BIG` when they do not fit.
    pub fn put<T: Copy>(&self, items: &[T]) -> io::Result<&[T]> {
        let start = self.used.get().next_multiple_of(align_of::<T>());
        let end = start.saturating_add(size_of_val(items));
        if end > SHEET_BYTES {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        self.used.set(end);
        // SAFETY: within the mapping, whose start is aligned to a page; handed out to nobody else before `clear`, which
        // nobody can call while this is borrowed.
        unsafe {
            let place = self.begin.add(start).cast::<T>();
            std::ptr::copy_nonoverlapping(items.as_ptr(), place, items.len());
            Ok(std::slice::from_raw_parts(place, items.len()))
        }
    }

    /// Copies a text down with its NUL. The pointer is good until [`clear`](Sheet::clear).
    ///
    /// # Errors
    /// As [`put`](Sheet::put).
    pub fn put_text(&self, text: &CStr) -> io::Result<*const libc::c_char> {
        Ok(self.put(text.to_bytes_with_nul())?.as_ptr().cast())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.used.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_down_stays_until_all_is_forgotten_and_what_does_not_fit_is_refused() {
        let mut sheet = Sheet::new().unwrap();
        let odd = sheet.put(b"odd").unwrap();
        let numbers = sheet.put(&[1_u64, 2]).unwrap();
        let text = sheet.put_text(c"text").unwrap();
        assert_eq!((odd, numbers), (b"odd".as_slice(), [1, 2].as_slice()));
        // SAFETY: put down above, with its NUL.
        assert_eq!(unsafe { CStr::from_ptr(text) }, c"text");
        let refused = sheet.put(&vec![0_u8; SHEET_BYTES]).map(drop);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::E2BIG));
        sheet.clear();
        assert_eq!(sheet.put(&vec![7_u8; SHEET_BYTES]).unwrap().last(), Some(&7));
        assert!(sheet.put(b"").is_ok() && sheet.put(b"x").is_err());
    }
}
