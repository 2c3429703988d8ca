//! Looks at a user's own code folder: how large it is, and a fingerprint that changes when its files do.

use super::{DEPTH_MAX, ENTRIES_MAX, PackageError, UNZIPPED_MAX};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The folder, absolute, links resolved.
    pub root: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// SHA-256 over every name, mode, size and time of change; contents are not read.
    pub fingerprint: [u8; 32],
}

/// Lists a folder. Links are noted, not followed.
///
/// # Errors
/// It cannot be read, or holds more than a package may.
pub fn list(path: &Path) -> Result<Listing, PackageError> {
    let unreadable = |path: &Path, source| PackageError::Unreadable { path: path.to_owned(), source };
    let root = fs::canonicalize(path).map_err(|source| unreadable(path, source))?;
    let mut walk = Walk { hasher: Sha256::new(), bytes: 0, entries: 0 };
    walk.folder(&root, 0).map_err(|stop| match stop {
        Stop::Read { path, source } => unreadable(&path, source),
        Stop::TooLarge => PackageError::UnzippedTooLarge,
        Stop::TooMany => super::LayoutError::TooMany.into(),
    })?;
    Ok(Listing { root, bytes: walk.bytes, fingerprint: walk.hasher.finalize().into() })
}

struct Walk {
    hasher: Sha256,
    bytes: u64,
    entries: usize,
}

enum Stop {
    Read { path: PathBuf, source: io::Error },
    TooLarge,
    TooMany,
}

impl Walk {
    fn folder(&mut self, path: &Path, depth: usize) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::TooMany);
        }
        let read = |source| Stop::Read { path: path.to_owned(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(read)? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(Stop::TooMany);
            }
            names.push(entry.map_err(read)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            self.entry(&path.join(&name), &name, depth)?;
        }
        self.hasher.update(b"/");
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &OsStr, depth: usize) -> Result<(), Stop> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            // Editors replace files while somebody looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Stop::Read { path: path.to_owned(), source }),
        };
        self.hasher.update((name.len() as u64).to_le_bytes());
        self.hasher.update(name.as_bytes());
        self.hasher.update(metadata.mode().to_le_bytes());
        if metadata.is_dir() {
            return self.folder(path, depth + 1);
        }
        self.hasher.update(metadata.len().to_le_bytes());
        self.hasher.update(metadata.mtime().to_le_bytes());
        self.hasher.update(metadata.mtime_nsec().to_le_bytes());
        self.bytes += if metadata.is_file() { metadata.len() } else { 0 };
        if self.bytes >= UNZIPPED_MAX {
            return Err(Stop::TooLarge);
        }
        Ok(())
    }
}
