//! Reads tar archives as layers come: ustar, GNU's long names, PAX. Entry by entry, from a stream, never trusting a size.
//!
//! Source: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".

use std::io::{self, Read};

const BLOCK: usize = 512;
/// Bytes of one name or link target, as Linux has it.
pub const NAME_MAX: usize = 4_096;
/// Bytes of one PAX header: names, times and attributes of one entry.
pub const PAX_BYTES_MAX: u64 = 1024 * 1024;
/// PAX and long-name headers that one entry may have before it.
const HEADERS_MAX: usize = 16;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It ends within an entry.
    #[error("the archive ends within an entry")]
    Cut,
    /// A header that is none: its check sum or a number is wrong.
    #[error("the header at byte {at} is damaged")]
    Header {
        /// Where, in the uncompressed archive.
        at: u64,
    },
    /// A name, or what a PAX header says, is too long or cannot be read.
    #[error("the extended header at byte {at} is damaged or too long")]
    Extended {
        /// Where.
        at: u64,
    },
    /// A file with holes, which nobody's build writes into layers.
    #[error("`{name}` is a sparse file; build the layer without `tar --sparse`")]
    Sparse {
        /// Which.
        name: String,
    },
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With content.
    File,
    /// Another name of a file of the same archive.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Folder,
    /// A device, a pipe.
    Special,
    /// Something that this reader does not know.
    Unknown(u8),
}

/// One entry's header; its content is read from the [`Tar`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written, with `/` between the parts.
    pub name: Vec<u8>,
    /// Where a link leads.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The low twelve bits: set-id, sticky and rwx bits.
    pub mode: u32,
    /// Seconds since 1970.
    pub modified: i64,
    /// Bytes of content that follow.
    pub size: u64,
}

/// An archive being read; as a reader it gives the content of the entry that came last.
pub struct Tar<R> {
    inner: R,
    at: u64,
    /// Content of the current entry that was not read yet, and the padding behind it.
    left: u64,
    padding: u64,
    over: bool,
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
    sparse: bool,
}

impl<R: Read> Tar<R> {
    /// From its first byte.
    pub fn new(inner: R) -> Self {
        Self { inner, at: 0, left: 0, padding: 0, over: false }
    }

    /// Where the content of the current entry begins, counted from the archive's start.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next entry; what was not read of the last one's content is passed over. `None` at the end.
    ///
    /// # Errors
    /// The archive is damaged or cut, or a bound is exceeded.
    pub fn entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        for _ in 0..=HEADERS_MAX {
            self.pass_over()?;
            let at = self.at;
            let Some(block) = self.block()? else { return Ok(None) };
            let damaged = || TarError::Header { at };
            check(&block).ok_or_else(damaged)?;
            let size = number(&block[124..136]).ok_or_else(damaged)?;
            match block[156] {
                b'L' => extended.name = Some(self.long(size, at)?),
                b'K' => extended.link = Some(self.long(size, at)?),
                b'x' => self.pax(size, at, &mut extended)?,
                // What is said of all entries: nobody's layer says something there that matters.
                b'g' => drop(self.bytes(size, PAX_BYTES_MAX, at)?),
                kind => return self.describe(&block, kind, size, extended, at).map(Some),
            }
        }
        Err(TarError::Extended { at: self.at })
    }

    fn describe(
        &mut self,
        block: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extended: Extended,
        at: u64,
    ) -> Result<Entry, TarError> {
        let damaged = || TarError::Header { at };
        let name = extended.name.unwrap_or_else(|| name_of(block));
        if kind == b'S' || extended.sparse {
            return Err(TarError::Sparse { name: printable(&name) });
        }
        let kind = match kind {
            // Before POSIX a folder was a file whose name ends so.
            0 | b'0' | b'7' if name.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Folder,
            other => Kind::Unknown(other),
        };
        let size = extended.size.unwrap_or(size);
        // Only files have content; some writers repeat a file's size in its links.
        let content = if matches!(kind, Kind::File | Kind::Unknown(_)) { size } else { 0 };
        self.left = content;
        self.padding = padding(content);
        Ok(Entry {
            link: extended.link.unwrap_or_else(|| until_nul(&block[157..257]).to_vec()),
            mode: (number(&block[100..108]).ok_or_else(damaged)? & 0o7777) as u32,
            modified: extended.modified.or_else(|| number(&block[136..148])?.try_into().ok()).unwrap_or(0),
            name,
            kind,
            size: content,
        })
    }

    fn pass_over(&mut self) -> Result<(), TarError> {
        let mut rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let mut buffer = [0; 16 * 1024];
        while rest > 0 {
            let want = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            match self.fill(&mut buffer[..want])? {
                0 => return Err(TarError::Cut),
                count => rest -= count as u64,
            }
        }
        Ok(())
    }

    /// One header block; `None` at the two empty ones, or where the stream ends.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.over {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        match self.whole(&mut block)? {
            0 => self.over = true,
            BLOCK if block.iter().all(|byte| *byte == 0) => self.over = true,
            BLOCK => return Ok(Some(block)),
            _ => return Err(TarError::Cut),
        }
        Ok(None)
    }

    /// Fills the buffer as far as the stream reaches.
    fn whole(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.fill(&mut buffer[done..])? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    let count = read?;
                    self.at += count as u64;
                    return Ok(count);
                }
            }
        }
    }

    /// Content of a header of headers.
    fn bytes(&mut self, size: u64, bytes_max: u64, at: u64) -> Result<Vec<u8>, TarError> {
        if size > bytes_max {
            return Err(TarError::Extended { at });
        }
        let mut bytes = vec![0; size as usize];
        if self.whole(&mut bytes)? < bytes.len() {
            return Err(TarError::Cut);
        }
        self.padding = padding(size);
        Ok(bytes)
    }

    fn long(&mut self, size: u64, at: u64) -> Result<Vec<u8>, TarError> {
        let bytes = self.bytes(size, NAME_MAX as u64 + 1, at)?;
        Ok(until_nul(&bytes).to_vec())
    }

    fn pax(&mut self, size: u64, at: u64, extended: &mut Extended) -> Result<(), TarError> {
        let bytes = self.bytes(size, PAX_BYTES_MAX, at)?;
        let damaged = || TarError::Extended { at };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let space = rest.iter().take(12).position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let length: usize =
                text(&rest[..space]).and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
            if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
                return Err(damaged());
            }
            let record = &rest[space + 1..length - 1];
            rest = &rest[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let name = || if value.len() > NAME_MAX { Err(damaged()) } else { Ok(value.to_vec()) };
            match key {
                b"path" => extended.name = Some(name()?),
                b"linkpath" => extended.link = Some(name()?),
                b"size" => {
                    let size = text(value).and_then(|text| text.parse().ok());
                    extended.size = Some(size.ok_or_else(damaged)?);
                }
                b"mtime" => {
                    let whole = value.split(|byte| *byte == b'.').next().and_then(text);
                    extended.modified = whole.and_then(|text| text.parse().ok());
                }
                _ if key.starts_with(b"GNU.sparse.") => extended.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count = self.fill(&mut buffer[..want])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within an entry"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A name for an error text: no control bytes, not too long.
pub fn printable(name: &[u8]) -> String {
    const SHOWN_MAX: usize = 120;
    let text: String =
        String::from_utf8_lossy(name).chars().flat_map(char::escape_default).take(SHOWN_MAX).collect();
    if text.len() == SHOWN_MAX { text + "…" } else { text }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The check sum: all bytes together, its own field taken as spaces.
fn check(block: &[u8; BLOCK]) -> Option<()> {
    let told = number(&block[148..156])?;
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
    (sum - own + 8 * u64::from(b' ') == told).then_some(())
}

/// Octal digits, or GNU's big-endian number with the first bit set. Negative ones are refused.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x7f);
        if value & 0x40 != 0 {
            return None;
        }
        for byte in &field[1..] {
            value = value.checked_mul(256)? | u64::from(*byte);
        }
        return Some(value);
    }
    let digits = text(until_nul(field))?.trim_matches(' ');
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

fn name_of(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    // GNU's own format has other things where ustar has the prefix.
    let prefix = if &block[257..263] == b"ustar\0" { until_nul(&block[345..500]) } else { b"" };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes archives for tests.
    #[derive(Default)]
    pub(crate) struct Writer(pub Vec<u8>);

    impl Writer {
        pub fn add(&mut self, name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> &mut Self {
            if name.len() > 100 || link.len() > 100 {
                let record = |key: &str, value: &str| {
                    let body = format!(" {key}={value}\n");
                    let mut length = body.len();
                    while length != body.len() + length.to_string().len() {
                        length = body.len() + length.to_string().len();
                    }
                    format!("{length}{body}")
                };
                let pax = record("path", name) + &record("linkpath", link);
                self.raw("PaxHeader", b'x', 0o644, "", pax.len() as u64, pax.as_bytes());
            }
            let short = |text: &str| text.chars().take(99).collect::<String>();
            self.raw(&short(name), kind, mode, &short(link), content.len() as u64, content)
        }

        pub fn raw(
            &mut self,
            name: &str,
            kind: u8,
            mode: u32,
            link: &str,
            size: u64,
            content: &[u8],
        ) -> &mut Self {
            let mut block = [0; BLOCK];
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
            block[108..115].copy_from_slice(b"0000000");
            block[116..123].copy_from_slice(b"0000000");
            if size < 1 << 33 {
                block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
            } else {
                block[124] = 0x80;
                block[128..136].copy_from_slice(&size.to_be_bytes());
            }
            block[136..147].copy_from_slice(b"14000000000");
            block[156] = kind;
            block[157..157 + link.len()].copy_from_slice(link.as_bytes());
            block[257..265].copy_from_slice(b"ustar\x0000");
            block[148..156].copy_from_slice(b"        ");
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            self.0.extend_from_slice(&block);
            self.0.extend_from_slice(content);
            self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
            self
        }

        pub fn folder(&mut self, name: &str) -> &mut Self {
            self.add(name, b'5', 0o755, "", b"")
        }

        pub fn file(&mut self, name: &str, content: &[u8]) -> &mut Self {
            self.add(name, b'0', 0o644, "", content)
        }

        pub fn link(&mut self, name: &str, target: &str) -> &mut Self {
            self.add(name, b'2', 0o777, target, b"")
        }

        pub fn end(&self) -> Vec<u8> {
            [&self.0[..], &[0; 2 * BLOCK]].concat()
        }
    }

    fn all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
        let mut tar = Tar::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = tar.entry()? {
            let mut content = Vec::new();
            tar.read_to_end(&mut content)?;
            found.push((entry, content));
        }
        Ok(found)
    }

    #[test]
    fn names_long_and_short_links_and_content_are_read() {
        let long = "folder/".repeat(40) + "name";
        let mut writer = Writer::default();
        writer
            .folder("a/")
            .file("a/b", b"hello")
            .link("a/c", "b")
            .file(&long, b"long")
            .add("a/d", b'1', 0o4755, "a/b", b"");
        let found = all(&writer.end()).unwrap();
        let names: Vec<_> =
            found.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.name).into_owned()).collect();
        assert_eq!(names, ["a/", "a/b", "a/c", long.as_str(), "a/d"]);
        assert_eq!(found[1].1, b"hello");
        assert_eq!((found[2].0.kind, &found[2].0.link[..]), (Kind::Symlink, &b"b"[..]));
        assert_eq!(found[3].1, b"long");
        assert_eq!((found[4].0.kind, found[4].0.mode), (Kind::HardLink, 0o4755));
        assert_eq!(found[1].0.modified, 0o14000000000);
        // An archive without its two empty blocks is complete all the same.
        assert_eq!(all(&writer.0).unwrap().len(), 5);
    }

    #[test]
    fn damage_is_named_and_huge_sizes_cost_nothing() {
        let good = Writer::default().file("a", b"hello").end();
        let mut wrong = good.clone();
        wrong[0] = b'b';
        assert!(matches!(all(&wrong), Err(TarError::Header { at: 0 })));
        assert!(matches!(all(&good[..600]), Err(TarError::Cut | TarError::Read(_))));
        assert!(matches!(all(&good[..100]), Err(TarError::Cut)));
        for kind in [b'L', b'K', b'x', b'g'] {
            let huge = Writer::default().raw("h", kind, 0, "", 1 << 40, b"").end();
            assert!(matches!(all(&huge), Err(TarError::Extended { .. })), "{kind}");
        }
        let mut chain = Writer::default();
        for _ in 0..HEADERS_MAX + 1 {
            chain.raw("h", b'x', 0, "", 0, b"");
        }
        assert!(matches!(all(&chain.end()), Err(TarError::Extended { .. })));
        let sparse = Writer::default().raw("holes", b'S', 0o644, "", 0, b"").end();
        assert!(matches!(all(&sparse), Err(TarError::Sparse { .. })));
        let sparse =
            Writer::default().raw("p", b'x', 0o644, "", 22, b"22 GNU.sparse.major=1\n").file("h", b"").end();
        assert!(matches!(all(&sparse), Err(TarError::Sparse { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_hang(mut bytes in proptest::collection::vec(any::<u8>(), 0..4_096), fix in any::<bool>()) {
            if fix && bytes.len() >= BLOCK {
                bytes[148..156].copy_from_slice(b"        ");
                let sum: u64 = bytes[..BLOCK].iter().map(|byte| u64::from(*byte)).sum();
                bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            drop(all(&bytes));
        }
    }
}
