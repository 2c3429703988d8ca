//! Writes zip archives of which every field can be a lie.

/// One entry, true unless a test changes it.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: Vec<u8>,
    /// The name in the entry's own header.
    pub local_name: Vec<u8>,
    pub data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    pub checksum: u32,
    pub size: u32,
    pub compressed: u32,
    pub host: u8,
    pub mode: u32,
    /// Where the directory says that the header is; `None` for the truth.
    pub header_at: Option<u32>,
}

impl Item {
    /// A stored file.
    pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        let (name, data) = (name.as_ref().to_vec(), data.as_ref().to_vec());
        let mut crc = flate2::Crc::new();
        crc.update(&data);
        let size = u32::try_from(data.len()).unwrap();
        Self {
            local_name: name.clone(),
            name,
            method: 0,
            flags: 0,
            checksum: crc.sum(),
            size,
            compressed: size,
            host: 3,
            mode: 0o100_644,
            header_at: None,
            data,
        }
    }

    /// A deflated file.
    pub fn deflated(name: &str, data: &[u8]) -> Self {
        use std::io::Write;
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        let packed = encoder.finish().unwrap();
        let mut item = Self::file(name, data);
        item.compressed = u32::try_from(packed.len()).unwrap();
        item.method = 8;
        item.data = packed;
        item
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// A symbolic link.
    pub fn link(name: &str, target: &str) -> Self {
        Self::file(name, target).mode(0o120_777)
    }
}

/// An archive.
#[derive(Clone, Debug, Default)]
pub struct Pack {
    pub items: Vec<Item>,
    pub prefix: Vec<u8>,
    pub comment: Vec<u8>,
    /// What the end record claims instead of the truth.
    pub entries: Option<u16>,
    pub directory_size: Option<u32>,
    pub directory_at: Option<u32>,
}

impl Pack {
    pub fn new(items: Vec<Item>) -> Self {
        Self { items, ..Self::default() }
    }

    /// An archive of stored files.
    pub fn of(files: &[(&str, &str)]) -> Vec<u8> {
        Self::new(files.iter().map(|(name, text)| Item::file(name, text)).collect()).bytes()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.prefix.clone();
        let start = self.prefix.len();
        let mut directory = Vec::new();
        for item in &self.items {
            let at = item.header_at.unwrap_or(u32::try_from(out.len() - start).unwrap());
            directory.extend_from_slice(b"PK\x01\x02\x14");
            directory.push(item.host);
            put16(&mut directory, &[20, item.flags, item.method, 0, 0]);
            put32(&mut directory, &[item.checksum, item.compressed, item.size]);
            put16(&mut directory, &[item.name.len() as u16, 0, 0, 0, 0]);
            put32(&mut directory, &[item.mode << 16, at]);
            directory.extend_from_slice(&item.name);
            out.extend_from_slice(b"PK\x03\x04");
            put16(&mut out, &[20, item.flags, item.method, 0, 0]);
            put32(&mut out, &[item.checksum, item.compressed, item.size]);
            put16(&mut out, &[item.local_name.len() as u16, 0]);
            out.extend_from_slice(&item.local_name);
            out.extend_from_slice(&item.data);
        }
        let at = u32::try_from(out.len() - start).unwrap();
        let entries = self.entries.unwrap_or(self.items.len() as u16);
        out.extend_from_slice(&directory);
        out.extend_from_slice(b"PK\x05\x06");
        put16(&mut out, &[0, 0, entries, entries]);
        put32(
            &mut out,
            &[self.directory_size.unwrap_or(directory.len() as u32), self.directory_at.unwrap_or(at)],
        );
        put16(&mut out, &[self.comment.len() as u16]);
        out.extend_from_slice(&self.comment);
        out
    }
}

fn put16(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}
