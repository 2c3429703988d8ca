//! Looks at a user's own code folder: how large it is, and a fingerprint that changes when its files do; and copies it.

use super::tree::Tree;
use super::{DEPTH_MAX, ENTRIES_MAX, LayoutError, PackageError, UNZIPPED_MAX};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Onrush's own data below a code folder, where `up` puts it by default: it changes all the time, and is nobody's code.
const DATA_FOLDER: &str = ".onrush";

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The folder, absolute, links resolved.
    pub root: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
    /// SHA-256 over every name, mode, size and time of change; contents are not read.
    pub fingerprint: [u8; 32],
    /// Whether every user may read all of it, and start what its owner may start.
    pub is_open: bool,
    /// When the youngest of its files was written last; those of a time to come left out, which would hide the others.
    pub youngest: Option<SystemTime>,
    /// Files that hold nothing, below the folder.
    pub empty: BTreeSet<PathBuf>,
}

/// A file that was written so recently may have companions that are still to be written: editors and version control save
/// several files, one after another.
const QUIET: Duration = Duration::from_millis(60);

impl Listing {
    /// Whether a file has just been written at that time. Times that lie ahead of it say nothing.
    pub fn is_young(&self, now: SystemTime) -> bool {
        let age = self.youngest.and_then(|time| now.duration_since(time).ok());
        age.is_some_and(|age| age < QUIET)
    }
}

/// Lists a folder, [`DATA_FOLDER`] left out. Links are noted, not followed.
///
/// # Errors
/// It cannot be read, or holds more than a package may.
pub fn list(path: &Path) -> Result<Listing, PackageError> {
    let unreadable = |path: &Path, source| PackageError::Unreadable { path: path.to_owned(), source };
    let root = fs::canonicalize(path).map_err(|source| unreadable(path, source))?;
    let top = fs::metadata(&root).map_err(|source| unreadable(&root, source))?;
    let mut walk = Walk {
        root: &root,
        now: SystemTime::now(),
        hasher: Sha256::new(),
        bytes: 0,
        entries: 0,
        is_open: is_open(&top),
        youngest: None,
        empty: BTreeSet::new(),
    };
    walk.folder(&root, 0).map_err(|stop| match stop {
        Stop::Read { path, source } => unreadable(&path, source),
        Stop::TooLarge => PackageError::UnzippedTooLarge,
        Stop::TooMany => LayoutError::TooMany.into(),
    })?;
    let Walk { hasher, bytes, is_open, youngest, empty, .. } = walk;
    Ok(Listing { root, bytes, fingerprint: hasher.finalize().into(), is_open, youngest, empty })
}

/// Whether others may do what the owner may, writing aside. Links have no say.
fn is_open(metadata: &fs::Metadata) -> bool {
    let owner = metadata.mode() >> 6 & 0o5;
    metadata.is_symlink() || metadata.mode() & owner == owner && metadata.mode() & 0o4 != 0
}

struct Walk<'a> {
    root: &'a Path,
    now: SystemTime,
    hasher: Sha256,
    bytes: u64,
    entries: usize,
    is_open: bool,
    youngest: Option<SystemTime>,
    empty: BTreeSet<PathBuf>,
}

enum Stop {
    Read { path: PathBuf, source: io::Error },
    TooLarge,
    TooMany,
}

impl Walk<'_> {
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
            let name = entry.map_err(read)?.file_name();
            if depth > 0 || name != DATA_FOLDER {
                names.push(name);
            }
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
        self.is_open &= is_open(&metadata);
        if metadata.is_dir() {
            return self.folder(path, depth + 1);
        }
        self.hasher.update(metadata.len().to_le_bytes());
        self.hasher.update(metadata.mtime().to_le_bytes());
        self.hasher.update(metadata.mtime_nsec().to_le_bytes());
        self.youngest = self.youngest.max(metadata.modified().ok().filter(|time| *time <= self.now));
        if metadata.len() == 0 {
            self.empty.insert(path.strip_prefix(self.root).unwrap_or(path).to_owned());
        }
        self.bytes += if metadata.is_file() { metadata.len() } else { 0 };
        if self.bytes >= UNZIPPED_MAX {
            return Err(Stop::TooLarge);
        }
        Ok(())
    }
}

/// Where the files of a folder go.
pub trait Files {
    /// A folder; those above it may not have been named.
    ///
    /// # Errors
    /// The disk refuses.
    fn folder(&mut self, path: &Path) -> Result<(), PackageError>;
    /// A symbolic link.
    ///
    /// # Errors
    /// As [`Files::folder`].
    fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), PackageError>;
    /// A file.
    ///
    /// # Errors
    /// As [`Files::folder`]; or the package grows too large.
    fn file(&mut self, path: &Path, executable: bool, content: &[u8]) -> Result<(), PackageError>;
}

impl Files for Tree {
    fn folder(&mut self, path: &Path) -> Result<(), PackageError> {
        self.folder(path)
    }

    fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), PackageError> {
        self.link(path, target)
    }

    fn file(&mut self, path: &Path, executable: bool, mut content: &[u8]) -> Result<(), PackageError> {
        let size = content.len() as u64;
        Ok(self.file(path, executable, &mut content, size)?)
    }
}

/// Copies a folder, [`DATA_FOLDER`] left out, in the same order each time. Links that lead out of the folder are left out: they mean nothing in a sandbox.
///
/// # Errors
/// It cannot be read, holds more than a package may, or the disk refuses.
pub fn copy(root: &Path, to: &mut impl Files) -> Result<(), PackageError> {
    let mut folders = vec![PathBuf::new()];
    let mut entries = 0;
    while let Some(folder) = folders.pop() {
        let here = root.join(&folder);
        let unreadable = |path: &Path, source| PackageError::Unreadable { path: path.to_owned(), source };
        if folder.iter().count() > DEPTH_MAX {
            return Err(LayoutError::TooMany.into());
        }
        if !folder.as_os_str().is_empty() {
            to.folder(&folder)?;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&here).map_err(|source| unreadable(&here, source))? {
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(LayoutError::TooMany.into());
            }
            names.push(entry.map_err(|source| unreadable(&here, source))?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let (path, full) = (folder.join(&name), here.join(&name));
            if path == Path::new(DATA_FOLDER) {
                continue;
            }
            let metadata = match fs::symlink_metadata(&full) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(unreadable(&full, source)),
            };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&full).map_err(|source| unreadable(&full, source))?;
                if leads_inside(&folder, &target) {
                    to.link(&path, target.as_os_str())?;
                }
            } else if metadata.is_file() {
                if metadata.len() >= UNZIPPED_MAX {
                    return Err(PackageError::UnzippedTooLarge);
                }
                // Whole, so that what is written is as long as it says, whoever writes the file meanwhile.
                let content = fs::read(&full).map_err(|source| unreadable(&full, source))?;
                let executable = metadata.mode() & 0o111 != 0;
                to.file(&path, executable, &content)?;
            }
        }
    }
    Ok(())
}

/// Whether a link in `folder` stays below the root, by its words alone.
fn leads_inside(folder: &Path, target: &Path) -> bool {
    let mut depth = folder.iter().count();
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_young_while_its_last_file_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("__init__.py"), "").unwrap();
        fs::write(folder.path().join("app.py"), "code").unwrap();
        let at = fs::metadata(folder.path().join("app.py")).unwrap().modified().unwrap();
        let listing = list(folder.path()).unwrap();
        let ms = Duration::from_millis;
        assert!(listing.is_young(at) && listing.is_young(at + ms(59)) && !listing.is_young(at + ms(60)));
        assert!(!listing.is_young(at - ms(1)), "the clock was set back");
        assert_eq!(listing.empty, [PathBuf::from("__init__.py")].into());
    }

    #[test]
    fn a_file_of_a_time_to_come_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.py"), "code").unwrap();
        let at = fs::metadata(folder.path().join("app.py")).unwrap().modified().unwrap();
        let odd = fs::File::create(folder.path().join("odd.py")).unwrap();
        odd.set_modified(at + Duration::from_secs(3_600)).unwrap();
        assert!(list(folder.path()).unwrap().is_young(at + Duration::from_millis(1)));
    }

    #[test]
    fn the_platforms_own_data_below_the_code_is_no_code() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.py"), "code").unwrap();
        let before = list(folder.path()).unwrap();
        fs::create_dir(folder.path().join(DATA_FOLDER)).unwrap();
        fs::write(folder.path().join(DATA_FOLDER).join("store"), "data").unwrap();
        assert_eq!(list(folder.path()).unwrap(), before);
        fs::create_dir_all(folder.path().join("lib").join(DATA_FOLDER)).unwrap();
        assert_ne!(list(folder.path()).unwrap(), before, "further down it is a folder like any other");
    }
}
