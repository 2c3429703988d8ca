//! Reads the records of a zip archive that nobody vouches for.
//!
//! The format is in PKWARE's APPNOTE.TXT (sections 4.3.7 local header, 4.3.12 central directory, 4.3.14-16 end
//! records). Only what packages need is understood: stored and deflated entries, ZIP64 sizes. Every offset is checked
//! against the file, entries may not overlap each other or the directory (that is how a small archive unpacks to
//! petabytes), and sizes and checksums must be true.

use super::{ENTRIES_MAX, UNZIPPED_MAX};
use flate2::bufread::DeflateDecoder;
use flate2::Crc;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

/// Bytes of the central directory that are read into memory: enough for 100,000 entries with names of 200 bytes.
pub const DIRECTORY_MAX: u64 = 32 * 1024 * 1024;

const END_SIZE: usize = 22;
const COMMENT_MAX: usize = 65_535;
const LOCATOR_SIZE: u64 = 20;
const CENTRAL_SIZE: usize = 46;
const LOCAL_SIZE: u64 = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const FLAG_ENCRYPTED: u16 = 1;
const FLAG_STRONG: u16 = 1 << 6;
const FLAG_MASKED: u16 = 1 << 13;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It has no end record.
    #[error("it is not a zip archive: the end-of-directory record is missing")]
    NoEnd,
    /// A record does not begin as it must.
    #[error("the {record} at byte {at} is damaged")]
    Damaged {
        /// Which kind of record.
        record: &'static str,
        /// Where it was expected.
        at: u64,
    },
    /// A record reaches over the end of what may hold it.
    #[error("the {record} at byte {at} reaches past the end of the archive")]
    Outside {
        /// Which kind of record.
        record: &'static str,
        /// Where it begins.
        at: u64,
    },
    /// The archive is one of several.
    #[error("it is split over several disks")]
    Split,
    /// Too many entries.
    #[error("it has {entries} entries, more than {ENTRIES_MAX}")]
    TooMany {
        /// How many it claims.
        entries: u64,
    },
    /// The directory is too long.
    #[error("its directory has {bytes} bytes, more than {DIRECTORY_MAX}")]
    DirectoryTooLarge {
        /// How many it claims.
        bytes: u64,
    },
    /// An entry needs a key.
    #[error("entry `{name}` is encrypted")]
    Encrypted {
        /// Which.
        name: String,
    },
    /// An entry is compressed in a way that packages may not use.
    #[error("entry `{name}` uses compression method {method}; only stored (0) and deflated (8) can be unpacked")]
    Method {
        /// Which.
        name: String,
        /// The number of APPNOTE 4.4.5.
        method: u16,
    },
    /// Directory and local header disagree.
    #[error("entry `{name}` has another name in its own header")]
    Disagree {
        /// Which.
        name: String,
    },
    /// Two entries share bytes.
    #[error("entry `{name}` overlaps another")]
    Overlap {
        /// The later one.
        name: String,
    },
    /// An entry unpacks to more or less than it says.
    #[error("entry `{name}` does not have the {size} bytes that it claims")]
    Size {
        /// Which.
        name: String,
        /// What it claims.
        size: u64,
    },
    /// The checksum is wrong or the compressed data is damaged.
    #[error("entry `{name}` is damaged")]
    Content {
        /// Which.
        name: String,
    },
    /// Together the entries claim more than a package may have.
    #[error("Unzipped size must be smaller than {UNZIPPED_MAX} bytes")]
    TooLarge,
    /// The archive cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

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
            data: if entry.method == STORED { Data::Stored(raw) } else { Data::Deflated(DeflateDecoder::new(raw)) },
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
            None if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
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

/// What the end records say.
struct End {
    entries: usize,
    directory_at: u64,
    directory_size: u64,
    /// Bytes before the archive proper, as self-extracting ones have.
    shift: u64,
}

impl End {
    fn find(source: &(impl ReadAt + ?Sized)) -> Result<Self, ArchiveError> {
        let length = source.length()?;
        let tail_size = length.min((END_SIZE + COMMENT_MAX) as u64);
        let tail_at = length - tail_size;
        let tail = read_exactly(source, tail_at, tail_size, "end record")?;
        let last = tail.len().checked_sub(END_SIZE).ok_or(ArchiveError::NoEnd)?;
        let fits = |at: &usize| {
            tail[*at..].starts_with(b"PK\x05\x06") && *at + END_SIZE + usize::from(u16_at(&tail[*at..], 20)) == tail.len()
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
        let shift = directory_end.checked_sub(size).and_then(|at| at.checked_sub(offset)).ok_or_else(damaged)?;
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
    fn wide(source: &(impl ReadAt + ?Sized), end_at: u64) -> Result<Option<(u64, u64, u64, u64)>, ArchiveError> {
        let Some(at) = end_at.checked_sub(LOCATOR_SIZE) else { return Ok(None) };
        let locator = read_exactly(source, at, LOCATOR_SIZE, "end record")?;
        if &locator[..4] != b"PK\x06\x07" {
            return Ok(None);
        }
        // The record lies right before its locator; where the locator points is off by what was put before it all.
        let Some(record_at) = at.checked_sub(56) else { return Ok(None) };
        let record = read_exactly(source, record_at, 56, "end record")?;
        if &record[..4] != b"PK\x06\x06" {
            return Err(ArchiveError::Damaged { record: "end record", at: record_at });
        }
        Ok(Some((u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48), record_at)))
    }
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

/// What was untrue about an entry's content.
#[derive(Debug, thiserror::Error)]
enum Untrue {
    #[error("the size is untrue")]
    Size,
    #[error("the checksum is untrue")]
    Checksum,
}

/// The unpacked bytes of one entry.
pub struct Content<'a, S: ReadAt + ?Sized> {
    data: Data<'a, S>,
    left: u64,
    checksum: u32,
    crc: Crc,
    done: bool,
}

enum Data<'a, S: ReadAt + ?Sized> {
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

/// A part of the source, read in order.
struct Window<'a, S: ReadAt + ?Sized> {
    source: &'a S,
    at: u64,
    left: u64,
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

fn read_exactly(
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

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A name for an error text: no control bytes, not too long.
pub fn printable(name: &[u8]) -> String {
    const SHOWN_MAX: usize = 120;
    let text: String = String::from_utf8_lossy(name).chars().flat_map(char::escape_default).take(SHOWN_MAX).collect();
    if text.len() == SHOWN_MAX { text + "…" } else { text }
}
