//! Reads the records of a zip archive that nobody vouches for.
//!
//! The format is in PKWARE's APPNOTE.TXT (sections 4.3.7 local header, 4.3.12 central directory, 4.3.14-16 end
//! records). Only what packages need is understood: stored and deflated entries, ZIP64 sizes. Every offset is checked
//! against the file, entries may not overlap each other or the directory (that is how a small archive unpacks to
//! petabytes), and sizes and checksums must be true.

mod content;
mod end;
mod error;
mod source;

pub use content::Content;
pub use error::ArchiveError;
pub use source::ReadAt;

use super::UNZIPPED_MAX;
use content::{Data, Untrue};
use end::End;
use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use source::{Window, read_exactly, take, u16_at, u32_at, u64_at};
use std::io::{self, BufReader};

/// Bytes of the central directory that are read into memory: enough for 100,000 entries with names of 200 bytes.
pub const DIRECTORY_MAX: u64 = 32 * 1024 * 1024;

const CENTRAL_SIZE: usize = 46;
const LOCAL_SIZE: u64 = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const FLAG_ENCRYPTED: u16 = 1;
const FLAG_STRONG: u16 = 1 << 6;
const FLAG_MASKED: u16 = 1 << 13;

/// One entry of the directory, checked against its own header and all others.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name as written: any bytes.
    pub name: Vec<u8>,
    /// The system that made it (APPNOTE 4.4.2): 0 DOS, 3 Unix, 19 macOS.
    pub host: u8,
    /// Unix mode, if the system that made it has such; else 0.
    pub mode: u32,
    /// Bytes once unpacked.
    pub size: u64,
    compressed: u64,
    method: u16,
    checksum: u32,
    header_at: u64,
    data_at: u64,
}

/// An archive whose records are in order.
pub struct Archive<'a, S: ReadAt + ?Sized> {
    source: &'a S,
    entries: Vec<Entry>,
}

impl<'a, S: ReadAt + ?Sized> Archive<'a, S> {
    /// Reads and checks all records. Cost: the directory and one header per entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(source: &'a S) -> Result<Self, ArchiveError> {
        let end = End::find(source)?;
        let directory = read_exactly(source, end.directory_at, end.directory_size, "directory")?;
        let mut entries = Vec::with_capacity(end.entries.min(1024));
        let mut rest = directory.as_slice();
        for _ in 0..end.entries {
            let at = end.directory_at + (directory.len() - rest.len()) as u64;
            entries.push(Entry::read(&mut rest, at, end.shift)?);
        }
        if !rest.is_empty() {
            let at = end.directory_at + (directory.len() - rest.len()) as u64;
            return Err(ArchiveError::Damaged { record: "directory", at });
        }
        let claimed = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
        if claimed >= UNZIPPED_MAX {
            return Err(ArchiveError::TooLarge);
        }
        for entry in &mut entries {
            entry.locate(source, end.directory_at)?;
        }
        apart(&entries)?;
        Ok(Self { source, entries })
    }

    /// All entries, in the order of the directory.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Unpacks one entry: a reader that ends with an error unless size and checksum are true.
    pub fn content(&self, entry: &Entry) -> Content<'a, S> {
        let raw = Window { source: self.source, at: entry.data_at, left: entry.compressed };
        let raw = BufReader::with_capacity(32 * 1024, raw);
        Content {
            data: if entry.method == STORED {
                Data::Stored(raw)
            } else {
                Data::Deflated(DeflateDecoder::new(raw))
            },
            left: entry.size,
            checksum: entry.checksum,
            crc: Crc::new(),
            done: false,
        }
    }

    /// The error for an entry whose content ended badly.
    pub fn blame(entry: &Entry, error: io::Error) -> ArchiveError {
        let name = printable(&entry.name);
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Untrue>()) {
            Some(Untrue::Size) => ArchiveError::Size { name, size: entry.size },
            Some(Untrue::Checksum) => ArchiveError::Content { name },
            None if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
            {
                ArchiveError::Content { name }
            }
            None => ArchiveError::Io(error),
        }
    }
}

impl Entry {
    fn read(rest: &mut &[u8], at: u64, shift: u64) -> Result<Self, ArchiveError> {
        let damaged = || ArchiveError::Damaged { record: "directory entry", at };
        let fixed = take(rest, CENTRAL_SIZE).ok_or_else(damaged)?;
        if &fixed[..4] != b"PK\x01\x02" {
            return Err(damaged());
        }
        let name = take(rest, usize::from(u16_at(fixed, 28))).ok_or_else(damaged)?.to_vec();
        let extra = take(rest, usize::from(u16_at(fixed, 30))).ok_or_else(damaged)?;
        take(rest, usize::from(u16_at(fixed, 32))).ok_or_else(damaged)?;
        let (flags, method) = (u16_at(fixed, 8), u16_at(fixed, 10));
        if flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED) != 0 {
            return Err(ArchiveError::Encrypted { name: printable(&name) });
        }
        if method != STORED && method != DEFLATED {
            return Err(ArchiveError::Method { name: printable(&name), method });
        }
        let mut wide = Wide::of(extra);
        let size = wide.or(u32_at(fixed, 24)).ok_or_else(damaged)?;
        let compressed = wide.or(u32_at(fixed, 20)).ok_or_else(damaged)?;
        let header_at = wide.or(u32_at(fixed, 42)).ok_or_else(damaged)?;
        if u16_at(fixed, 34) != 0 && u16_at(fixed, 34) != u16::MAX {
            return Err(ArchiveError::Split);
        }
        if method == STORED && size != compressed {
            return Err(ArchiveError::Size { name: printable(&name), size });
        }
        let host = fixed[5];
        Ok(Self {
            name,
            host,
            mode: if matches!(host, 3 | 19) { u32_at(fixed, 38) >> 16 } else { 0 },
            size,
            compressed,
            method,
            checksum: u32_at(fixed, 16),
            header_at: header_at.checked_add(shift).ok_or_else(damaged)?,
            data_at: 0,
        })
    }

    /// Reads the entry's own header, which says where the data begins.
    fn locate(&mut self, source: &(impl ReadAt + ?Sized), directory_at: u64) -> Result<(), ArchiveError> {
        let at = self.header_at;
        let outside = || ArchiveError::Outside { record: "entry", at };
        let name_at = at.checked_add(LOCAL_SIZE).filter(|end| *end <= directory_at).ok_or_else(outside)?;
        let fixed = read_exactly(source, at, LOCAL_SIZE, "entry")?;
        if &fixed[..4] != b"PK\x03\x04" {
            return Err(ArchiveError::Damaged { record: "entry", at });
        }
        let (name, extra) = (u64::from(u16_at(&fixed, 26)), u64::from(u16_at(&fixed, 28)));
        self.data_at = name_at + name + extra;
        let end = self.data_at.checked_add(self.compressed);
        if end.is_none_or(|end| end > directory_at) {
            return Err(outside());
        }
        if read_exactly(source, name_at, name, "entry")? != self.name || u16_at(&fixed, 8) != self.method {
            return Err(ArchiveError::Disagree { name: printable(&self.name) });
        }
        Ok(())
    }
}

/// Refuses entries that share bytes. Cost: one sort.
fn apart(entries: &[Entry]) -> Result<(), ArchiveError> {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| entry.header_at);
    for pair in order.windows(2) {
        // `locate` has bounded the sum by the directory's offset.
        if pair[0].data_at + pair[0].compressed > pair[1].header_at {
            return Err(ArchiveError::Overlap { name: printable(&pair[1].name) });
        }
    }
    Ok(())
}

/// The ZIP64 extra field (APPNOTE 4.5.3): 64-bit values for those of the record that are all ones, in order.
struct Wide<'a>(&'a [u8]);

impl<'a> Wide<'a> {
    fn of(mut extra: &'a [u8]) -> Self {
        while let Some(head) = take(&mut extra, 4) {
            let Some(body) = take(&mut extra, usize::from(u16_at(head, 2))) else { break };
            if u16_at(head, 0) == 1 {
                return Self(body);
            }
        }
        Self(&[])
    }

    fn or(&mut self, narrow: u32) -> Option<u64> {
        if narrow != u32::MAX {
            return Some(u64::from(narrow));
        }
        take(&mut self.0, 8).map(|bytes| u64_at(bytes, 0))
    }
}

/// A name for an error text: no control bytes, not too long.
pub fn printable(name: &[u8]) -> String {
    const SHOWN_MAX: usize = 120;
    let text: String =
        String::from_utf8_lossy(name).chars().flat_map(char::escape_default).take(SHOWN_MAX).collect();
    if text.len() == SHOWN_MAX { text + "…" } else { text }
}
