//! A file whose sync is asked once: a failed one is no full disk, whatever it says.
//!
//! Where space is promised before it is there (thin volumes, network file systems, quotas), "no space" comes from the sync and
//! not from the write. The kernel has then dropped the pages, and takes them for clean: whoever reads them sees what is not
//! on the disk, and a second sync answers that all is well.

use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;

/// Passes everything on, and tells a failed sync apart from a write that found no room.
#[derive(Debug)]
pub struct Synced<B>(pub B);

type Locked<T> = Result<T, BackendError>;

impl<B: StorageBackend> StorageBackend for Synced<B> {
    fn sync_data(&self) -> io::Result<()> {
        self.0
            .sync_data()
            .map_err(|error| io::Error::other(format!("what was written could not be kept: {error}")))
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.query_lock_range(start, end)
    }
}
