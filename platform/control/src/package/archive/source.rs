//! Bytes that can be read anywhere, in parts, and as numbers.

use super::ArchiveError;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Bytes that can be read anywhere.
pub trait ReadAt {
    /// How many there are.
    fn length(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// A part of the source, read in order.
pub(super) struct Window<'a, S: ReadAt + ?Sized> {
    pub(super) source: &'a S,
    pub(super) at: u64,
    pub(super) left: u64,
}

impl<S: ReadAt + ?Sized> Read for Window<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.source.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

pub(super) fn read_exactly(
    source: &(impl ReadAt + ?Sized),
    at: u64,
    size: u64,
    record: &'static str,
) -> Result<Vec<u8>, ArchiveError> {
    let outside = || ArchiveError::Outside { record, at };
    if at.checked_add(size).is_none_or(|end| source.length().is_ok_and(|length| end > length)) {
        return Err(outside());
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| outside())?];
    let mut done = 0;
    while done < bytes.len() {
        match source.read_at(&mut bytes[done..], at + done as u64)? {
            0 => return Err(outside()),
            count => done += count,
        }
    }
    Ok(bytes)
}

pub(super) fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
