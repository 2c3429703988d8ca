//! The end records, which say where the directory is: the plain one and that of ZIP64 (APPNOTE 4.3.14 to 4.3.16).

use super::source::{ReadAt, read_exactly, u16_at, u32_at, u64_at};
use super::{ArchiveError, CENTRAL_SIZE, DIRECTORY_MAX};
use crate::package::ENTRIES_MAX;

const END_SIZE: usize = 22;
const COMMENT_MAX: usize = 65_535;
const LOCATOR_SIZE: u64 = 20;
const WIDE_SIZE: u64 = 56;

/// What the end records say.
pub(super) struct End {
    pub(super) entries: usize,
    pub(super) directory_at: u64,
    pub(super) directory_size: u64,
    /// Bytes before the archive proper, as self-extracting ones have.
    pub(super) shift: u64,
}

impl End {
    pub(super) fn find(source: &(impl ReadAt + ?Sized)) -> Result<Self, ArchiveError> {
        let length = source.length()?;
        let tail_size = length.min((END_SIZE + COMMENT_MAX) as u64);
        let tail_at = length - tail_size;
        let tail = read_exactly(source, tail_at, tail_size, "end record")?;
        let last = tail.len().checked_sub(END_SIZE).ok_or(ArchiveError::NoEnd)?;
        let fits = |at: &usize| {
            tail[*at..].starts_with(b"PK\x05\x06")
                && *at + END_SIZE + usize::from(u16_at(&tail[*at..], 20)) == tail.len()
        };
        let at = (0..=last).rev().find(fits).ok_or(ArchiveError::NoEnd)?;
        let record = &tail[at..];
        let end_at = tail_at + at as u64;
        if u16_at(record, 4) != u16_at(record, 6) || u16_at(record, 8) != u16_at(record, 10) {
            return Err(ArchiveError::Split);
        }
        let (entries, size, offset) = (u16_at(record, 10), u32_at(record, 12), u32_at(record, 16));
        let wide = entries == u16::MAX || size == u32::MAX || offset == u32::MAX;
        let (entries, size, offset, directory_end) = match Self::wide(source, end_at)? {
            Some(found) if wide => found,
            _ => (u64::from(entries), u64::from(size), u64::from(offset), end_at),
        };
        let damaged = || ArchiveError::Damaged { record: "end record", at: end_at };
        let shift =
            directory_end.checked_sub(size).and_then(|at| at.checked_sub(offset)).ok_or_else(damaged)?;
        if size > DIRECTORY_MAX {
            return Err(ArchiveError::DirectoryTooLarge { bytes: size });
        }
        let count = usize::try_from(entries).ok().filter(|count| *count <= ENTRIES_MAX);
        let count = count.ok_or(ArchiveError::TooMany { entries })?;
        if (count as u64).saturating_mul(CENTRAL_SIZE as u64) > size {
            return Err(damaged());
        }
        Ok(Self { entries: count, directory_at: offset + shift, directory_size: size, shift })
    }

    /// The ZIP64 end record: entries, size and offset of the directory, and where the directory ends.
    fn wide(
        source: &(impl ReadAt + ?Sized),
        end_at: u64,
    ) -> Result<Option<(u64, u64, u64, u64)>, ArchiveError> {
        let Some(at) = end_at.checked_sub(LOCATOR_SIZE) else { return Ok(None) };
        let locator = read_exactly(source, at, LOCATOR_SIZE, "end record")?;
        if &locator[..4] != b"PK\x06\x07" {
            return Ok(None);
        }
        // The record lies right before its locator; where the locator points is off by what was put before it all.
        let Some(record_at) = at.checked_sub(WIDE_SIZE) else { return Ok(None) };
        let record = read_exactly(source, record_at, WIDE_SIZE, "end record")?;
        if &record[..4] != b"PK\x06\x06" {
            return Err(ArchiveError::Damaged { record: "end record", at: record_at });
        }
        Ok(Some((u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48), record_at)))
    }
}
