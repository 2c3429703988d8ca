//! A package as an archive: the very one that came, kept as `DATA/archives/HEX`; where none came, one made of the files.

use super::folder::{self, Files};
use super::{PackageError, Shelf, UNZIPPED_MAX, disk};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILE_MODE: u32 = 0o100_644;
const PROGRAM_MODE: u32 = 0o100_755;
const LINK_MODE: u32 = 0o120_777;
/// Midnight of 1980-01-01, the first day that the format knows: the same files make the same archive.
const DATE: u16 = 1 << 5 | 1;
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
const DEFLATED: u16 = 8;
/// The flag of a name in UTF-8; without it a name is in code page 437.
const UTF_8: u16 = 1 << 11;

impl Shelf {
    /// Where the archive of a package is kept.
    pub(super) fn archive(&self, hex: &str) -> PathBuf {
        self.archives.join(hex)
    }

    /// Writes an archive to staging, for good.
    pub(super) fn stage_archive(&self, from: &mut dyn Read) -> Result<StagedArchive, PackageError> {
        let path = self.fresh();
        let fail = |source| disk(&path, source);
        let staged = StagedArchive(path.clone());
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(fail)?;
        io::copy(from, &mut file).and_then(|_| file.sync_all()).map_err(fail)?;
        Ok(staged)
    }

    /// Packs a folder into a file without a name, read from its beginning.
    pub(super) fn pack(&self, folder: &Path) -> Result<File, PackageError> {
        let path = self.fresh();
        let fail = |source| disk(&path, source);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(fail)?;
        fs::remove_file(&path).map_err(fail)?;
        let mut packer = Packer::new(file, path.clone());
        folder::copy(folder, &mut packer)?;
        packer.finish().map_err(fail)
    }
}

/// An archive in staging that goes unless it was renamed away.
pub(super) struct StagedArchive(pub(super) PathBuf);

impl Drop for StagedArchive {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "staging could not be removed");
            }
            _ => {}
        }
    }
}

/// Writes a zip archive. The format is in PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16.
struct Packer {
    out: BufWriter<File>,
    /// For what is said of it.
    path: PathBuf,
    /// Bytes written: below 4 GiB, since a package's files are below [`super::UNZIPPED_MAX`].
    at: u32,
    /// Bytes of the files: a folder may grow while it is packed.
    files: u64,
    entries: u32,
    directory: Vec<u8>,
}

impl Packer {
    /// `path` is where `file` is or was.
    fn new(file: File, path: PathBuf) -> Self {
        Self { out: BufWriter::new(file), path, at: 0, files: 0, entries: 0, directory: Vec::new() }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let too_long = || io::Error::from(io::ErrorKind::InvalidFilename);
        let name = path.as_os_str().as_bytes();
        let length = u16::try_from(name.len()).map_err(|_| too_long())?;
        let mut crc = Crc::new();
        crc.update(content);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content)?;
        let packed = encoder.finish()?;
        // What both headers say: version, flags, method, time, date, checksum, sizes, lengths of name and extra field.
        let mut shared = Vec::with_capacity(26);
        let flags = if std::str::from_utf8(name).is_ok() { UTF_8 } else { 0 };
        put(&mut shared, &[VERSION, flags, DEFLATED, 0, DATE]);
        put32(&mut shared, &[crc.sum(), size(packed.len())?, size(content.len())?]);
        put(&mut shared, &[length, 0]);
        self.directory.extend_from_slice(b"PK\x01\x02");
        // Made by Unix: the mode is in the upper half of the attributes.
        put(&mut self.directory, &[3 << 8 | VERSION]);
        self.directory.extend_from_slice(&shared);
        put(&mut self.directory, &[0, 0, 0]);
        put32(&mut self.directory, &[mode << 16, self.at]);
        self.directory.extend_from_slice(name);
        self.entries += 1;
        for part in [b"PK\x03\x04", &*shared, name, &packed] {
            self.out.write_all(part)?;
            self.at = self.at.checked_add(size(part.len())?).ok_or(io::ErrorKind::FileTooLarge)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<File> {
        let mut end = std::mem::take(&mut self.directory);
        let length = size(end.len())?;
        if self.entries > u32::from(u16::MAX) - 1 {
            let end_at = u64::from(self.at) + u64::from(length);
            end.extend_from_slice(b"PK\x06\x06");
            put64(&mut end, &[44]);
            put(&mut end, &[3 << 8 | VERSION_64, VERSION_64]);
            put32(&mut end, &[0, 0]);
            let entries = u64::from(self.entries);
            put64(&mut end, &[entries, entries, length.into(), self.at.into()]);
            end.extend_from_slice(b"PK\x06\x07");
            put32(&mut end, &[0]);
            put64(&mut end, &[end_at]);
            put32(&mut end, &[1]);
        }
        let entries = u16::try_from(self.entries).unwrap_or(u16::MAX);
        end.extend_from_slice(b"PK\x05\x06");
        put(&mut end, &[0, 0, entries, entries]);
        put32(&mut end, &[length, self.at]);
        put(&mut end, &[0]);
        self.out.write_all(&end)?;
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }

    fn write(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<(), PackageError> {
        self.files += content.len() as u64;
        if self.files >= UNZIPPED_MAX {
            return Err(PackageError::UnzippedTooLarge);
        }
        self.entry(path, mode, content).map_err(|source| disk(&self.path, source))
    }
}

impl Files for Packer {
    fn folder(&mut self, _: &Path) -> Result<(), PackageError> {
        // Those that hold files come with them.
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), PackageError> {
        self.write(path, LINK_MODE, target.as_bytes())
    }

    fn file(&mut self, path: &Path, executable: bool, content: &[u8]) -> Result<(), PackageError> {
        self.write(path, if executable { PROGRAM_MODE } else { FILE_MODE }, content)
    }
}

fn size(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

fn put(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::super::Packages;
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn packed(packages: &Packages, folder: &Path) -> Vec<u8> {
        let mut zip = Vec::new();
        packages.shelf.pack(folder).unwrap().read_to_end(&mut zip).unwrap();
        zip
    }

    #[test]
    fn a_folder_becomes_an_archive_that_unpacks_to_the_same_files() {
        let (data, code) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = code.path();
        fs::create_dir_all(root.join("lib/deep")).unwrap();
        fs::create_dir_all(root.join(".onrush")).unwrap();
        for (name, text) in [
            ("bootstrap", "#!/bin/sh"),
            ("lib/deep/empty", ""),
            ("größe.txt", "as named"),
            (".onrush/store", "no code"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        fs::set_permissions(root.join("bootstrap"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("deep/empty", root.join("lib/link")).unwrap();
        symlink("/etc/passwd", root.join("outside")).unwrap();
        let packages = Packages::open(data.path()).unwrap();
        let zip = packed(&packages, root);
        assert_eq!(zip, packed(&packages, root));
        assert_eq!(fs::read_dir(data.path().join("staging")).unwrap().count(), 0);

        let package = packages.unpack(&zip).unwrap();
        let mode = |name: &str| fs::metadata(package.path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("bootstrap"), mode("lib/deep/empty")), (0o755, 0o644));
        assert_eq!(fs::read_to_string(package.path.join("bootstrap")).unwrap(), "#!/bin/sh");
        assert_eq!(fs::read_link(package.path.join("lib/link")).unwrap(), Path::new("deep/empty"));
        assert_eq!(fs::read_to_string(package.path.join("größe.txt")).unwrap(), "as named");
        let at = zip.windows(11).position(|bytes| bytes == "größe.txt".as_bytes()).unwrap();
        assert_eq!(zip[at - 24..][..2], [0, 8], "the name is said to be in UTF-8");
        assert!(!package.path.join("outside").is_symlink() && !package.path.join(".onrush").exists());
    }

    #[test]
    fn a_folder_that_outgrew_a_package_while_it_was_read_is_refused() {
        let mut packer = Packer::new(tempfile::tempfile().unwrap(), PathBuf::new());
        let half = vec![0; UNZIPPED_MAX as usize / 2];
        packer.file(Path::new("a"), false, &half).unwrap();
        let error = packer.file(Path::new("b"), false, &half).unwrap_err();
        assert!(matches!(error, PackageError::UnzippedTooLarge), "{error}");
    }

    #[test]
    fn more_entries_than_sixteen_bits_count_are_all_there() {
        let data = tempfile::tempdir().unwrap();
        let packages = Packages::open(data.path()).unwrap();
        let mut packer = Packer::new(tempfile::tempfile().unwrap(), PathBuf::new());
        for number in 0..65_536 {
            packer.file(Path::new(&number.to_string()), false, b"").unwrap();
        }
        let file = packer.finish().unwrap();
        let archive = super::super::archive::Archive::open(&file).unwrap();
        assert_eq!(archive.entries().len(), 65_536);
        drop(packages);
    }
}
