//! Writes a package's files below one folder and nowhere else.
//!
//! Every step is relative to an open folder and follows no link (`openat` with `O_NOFOLLOW`, part by part), so a link
//! put in the way by anybody cannot lead a write outside.

use super::{PackageError, UNZIPPED_MAX, disk};
use rustix::fs::{self as raw, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
const PROGRAM_MODE: u32 = 0o755;
/// Up to so many files are made durable one by one; more of them by one flush of the whole file system.
const SYNCED_SINGLY_MAX: usize = 64;

/// Why a file could not be written: where it comes from failed, or where it goes.
#[derive(Debug)]
pub enum WriteError {
    /// The reader failed.
    Source(io::Error),
    /// The disk failed, or the package is too large.
    Package(PackageError),
}

impl From<WriteError> for PackageError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Source(source) => Self::Disk { path: PathBuf::new(), source },
            WriteError::Package(error) => error,
        }
    }
}

/// A package being written.
pub struct Tree {
    /// What was not everybody's to read where it comes from, with its mode: the first such entry. Here it is.
    pub closed: Option<(String, u32)>,
    path: PathBuf,
    root: OwnedFd,
    /// The folder that was used last: files of a folder tend to come together.
    last: Option<(PathBuf, OwnedFd)>,
    written: u64,
    unsynced: Vec<File>,
    many: bool,
}

impl Tree {
    /// Begins in an existing, empty folder.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn create(path: &Path) -> Result<Self, PackageError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = raw::open(path, flags, Mode::empty()).map_err(|error| disk(path, error.into()))?;
        Ok(Self::within(root, path))
    }

    /// The same in an open folder; the path is for what is said of it.
    pub fn within(root: OwnedFd, path: &Path) -> Self {
        let path = path.to_owned();
        Self { closed: None, path, root, last: None, written: 0, unsynced: Vec::new(), many: false }
    }

    /// The folder.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn folder(&mut self, path: &Path) -> Result<(), PackageError> {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        let fail = |error: Errno| disk(&self.path.join(path), error.into());
        let mut at: Option<OwnedFd> = None;
        for part in path.iter() {
            let parent = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            match raw::mkdirat(parent, part, Mode::from_raw_mode(FOLDER_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(fail(error)),
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            let folder = raw::openat(parent, part, flags, Mode::empty()).map_err(fail)?;
            // The process's umask must not decide what the sandbox's user can read.
            raw::fchmod(&folder, Mode::from_raw_mode(FOLDER_MODE)).map_err(fail)?;
            at = Some(folder);
        }
        if let Some(folder) = at {
            self.last = Some((path.to_owned(), folder));
        }
        Ok(())
    }

    /// Writes one new file from `content`; `size` is what is expected, the package's bound is kept on what comes.
    ///
    /// # Errors
    /// The content fails, the package grows too large, or the disk refuses.
    pub fn file(
        &mut self,
        path: &Path,
        executable: bool,
        content: &mut dyn Read,
        size: u64,
    ) -> Result<(), WriteError> {
        let full = self.path.join(path);
        let fail = |source: io::Error| WriteError::Package(disk(&full, source));
        let mode = Mode::from_raw_mode(if executable { PROGRAM_MODE } else { FILE_MODE });
        let (parent, name) = self.place(path).map_err(WriteError::Package)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = raw::openat(parent, name, flags, mode).map_err(|error| fail(error.into()))?;
        raw::fchmod(&file, mode).map_err(|error| fail(error.into()))?;
        let mut file = File::from(file);
        let mut buffer = [0; 16 * 1024];
        let mut left = size;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(WriteError::Source(error)),
            };
            self.written += count as u64;
            if self.written >= UNZIPPED_MAX {
                return Err(WriteError::Package(PackageError::UnzippedTooLarge));
            }
            left = left.saturating_sub(count as u64);
            file.write_all(&buffer[..count]).map_err(fail)?;
        }
        debug_assert_eq!(left, 0, "the archive's reader ends exactly at the size that it claims");
        if self.unsynced.len() < SYNCED_SINGLY_MAX {
            self.unsynced.push(file);
        } else {
            self.many = true;
        }
        Ok(())
    }

    /// Makes a symbolic link. The caller has checked where it leads.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), PackageError> {
        let full = self.path.join(path);
        let (parent, name) = self.place(path)?;
        raw::symlinkat(target, parent, name).map_err(|error| disk(&full, error.into()))
    }

    /// Makes all of it durable: it is acknowledged only after.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn persist(self) -> Result<(), PackageError> {
        let fail = |source: io::Error| disk(&self.path, source);
        // Folders are only reached by a flush of everything, so nothing but a handful of files goes the short way.
        if self.many || self.last.is_some() {
            return raw::syncfs(&self.root).map_err(|error| fail(error.into()));
        }
        for file in &self.unsynced {
            file.sync_all().map_err(fail)?;
        }
        raw::fsync(&self.root).map_err(|error| fail(error.into()))
    }

    /// The open folder that a path lies in, and its last part.
    fn place<'a>(&mut self, path: &'a Path) -> Result<(BorrowedFd<'_>, &'a OsStr), PackageError> {
        let name = path.file_name().unwrap_or_default();
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() {
            return Ok((self.root.as_fd(), name));
        }
        self.folder(parent)?;
        let folder = self.last.as_ref().map_or(self.root.as_fd(), |(_, folder)| folder.as_fd());
        Ok((folder, name))
    }
}
