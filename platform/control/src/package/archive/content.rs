//! Unpacks one entry, and finds out whether its size and checksum are true.

use super::source::{ReadAt, Window};
use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use std::io::{self, BufReader, Read};

/// What was untrue about an entry's content.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untrue {
    #[error("the size is untrue")]
    Size,
    #[error("the checksum is untrue")]
    Checksum,
}

/// The unpacked bytes of one entry.
pub struct Content<'a, S: ReadAt + ?Sized> {
    pub(super) data: Data<'a, S>,
    pub(super) left: u64,
    pub(super) checksum: u32,
    pub(super) crc: Crc,
    pub(super) done: bool,
}

pub(super) enum Data<'a, S: ReadAt + ?Sized> {
    Stored(BufReader<Window<'a, S>>),
    Deflated(DeflateDecoder<BufReader<Window<'a, S>>>),
}

impl<S: ReadAt + ?Sized> Read for Content<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done || buffer.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.data {
            Data::Stored(data) => data.read(buffer)?,
            Data::Deflated(data) => data.read(buffer)?,
        };
        let untrue = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if count as u64 > self.left || (count == 0 && self.left > 0) {
            return untrue(Untrue::Size);
        }
        self.left -= count as u64;
        self.crc.update(&buffer[..count]);
        if count == 0 {
            self.done = true;
            if self.crc.sum() != self.checksum {
                return untrue(Untrue::Checksum);
            }
        }
        Ok(count)
    }
}
