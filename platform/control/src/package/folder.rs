//! Looks at a user's own code folder: how large it is, and a fingerprint that changes when its files do; and copies it.

use super::tree::Tree;
use super::{DEPTH_MAX, ENTRIES_MAX, LayoutError, PackageError, UNZIPPED_MAX};
use rustix::fs::{self as raw, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
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

/// Copies a folder, [`DATA_FOLDER`] left out, in the same order each time. Links that lead out of the folder are left out: they
/// mean nothing in a sandbox. Each step is taken from a descriptor of the last and follows no link, so a folder or file that is
/// swapped for a link meanwhile leads nowhere.
///
/// # Errors
/// It cannot be read, holds more than a package may, was swapped, or the disk refuses.
pub fn copy(root: &Path, to: &mut impl Files) -> Result<(), PackageError> {
    let top = open(raw::CWD, root, OFlags::DIRECTORY).map_err(|error| unread(root, error))?;
    let mut folders = vec![PathBuf::new()];
    let mut entries = 0;
    while let Some(folder) = folders.pop() {
        let here = root.join(&folder);
        if folder.iter().count() > DEPTH_MAX {
            return Err(LayoutError::TooMany.into());
        }
        if !folder.as_os_str().is_empty() {
            to.folder(&folder)?;
        }
        let mut at = open(&top, Path::new("."), OFlags::DIRECTORY).map_err(|error| unread(&here, error))?;
        for name in &folder {
            at = open(&at, Path::new(name), OFlags::DIRECTORY).map_err(|error| unread(&here, error))?;
        }
        let mut names = Vec::new();
        for entry in raw::Dir::read_from(&at).map_err(|error| unread(&here, error))? {
            let entry = entry.map_err(|error| unread(&here, error))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(LayoutError::TooMany.into());
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        names.sort_unstable();
        for name in names {
            let (path, full) = (folder.join(&name), here.join(&name));
            if path == Path::new(DATA_FOLDER) {
                continue;
            }
            let found = match raw::statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(unread(&full, error)),
            };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => folders.push(path),
                FileType::Symlink => {
                    let target =
                        raw::readlinkat(&at, &name, Vec::new()).map_err(|error| unread(&full, error))?;
                    let target = OsStr::from_bytes(target.to_bytes());
                    if leads_inside(&folder, Path::new(target)) {
                        to.link(&path, target)?;
                    }
                }
                FileType::RegularFile => copy_file(&at, &name, &path, &full, to)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn copy_file(
    at: &OwnedFd,
    name: &OsStr,
    path: &Path,
    full: &Path,
    to: &mut impl Files,
) -> Result<(), PackageError> {
    let unreadable = |source| PackageError::Unreadable { path: full.to_owned(), source };
    // A pipe that was put in its place is not waited for.
    let file = open(at, Path::new(name), OFlags::NONBLOCK).map_err(|error| unread(full, error))?;
    let mut file = fs::File::from(file);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(PackageError::Changing { path: full.to_owned() });
    }
    if metadata.len() >= UNZIPPED_MAX {
        return Err(PackageError::UnzippedTooLarge);
    }
    // Whole, so that what is written is as long as it says, whoever writes the file meanwhile; it may also grow.
    let mut content = Vec::new();
    (&mut file).take(UNZIPPED_MAX).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 >= UNZIPPED_MAX {
        return Err(PackageError::UnzippedTooLarge);
    }
    to.file(path, metadata.mode() & 0o111 != 0, &content)
}

fn open(at: impl AsFd, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    raw::openat(at, name, flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// What was a folder or a file when it was looked at, and is not when it is opened, has been changed.
fn unread(path: &Path, error: Errno) -> PackageError {
    let path = path.to_owned();
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NOENT => PackageError::Changing { path },
        error => PackageError::Unreadable { path, source: error.into() },
    }
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

    /// Swaps the folder `lib` for a link that leads out, between the look at it and the one into it.
    struct Swapper<'a> {
        root: &'a Path,
        outside: &'a Path,
        copied: Vec<Vec<u8>>,
    }

    impl Files for Swapper<'_> {
        fn folder(&mut self, path: &Path) -> Result<(), PackageError> {
            assert_eq!(path, Path::new("lib"));
            fs::rename(self.root.join(path), self.root.join("away")).unwrap();
            std::os::unix::fs::symlink(self.outside, self.root.join(path)).unwrap();
            Ok(())
        }

        fn link(&mut self, _: &Path, _: &OsStr) -> Result<(), PackageError> {
            Ok(())
        }

        fn file(&mut self, _: &Path, _: bool, content: &[u8]) -> Result<(), PackageError> {
            self.copied.push(content.to_owned());
            Ok(())
        }
    }

    #[test]
    fn a_copy_never_follows_what_is_swapped_for_a_link_meanwhile() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::write(outside.path().join("word"), "outside").unwrap();
        fs::create_dir(root.join("lib")).unwrap();
        fs::write(root.join("lib/word"), "inside").unwrap();
        let mut swapper = Swapper { root: &root, outside: outside.path(), copied: Vec::new() };
        let copied = copy(&root, &mut swapper);
        assert!(matches!(copied, Err(PackageError::Changing { .. })), "{copied:?}");
        assert!(swapper.copied.is_empty(), "{:?}", swapper.copied);
        let at = rustix::fs::open(&root, OFlags::DIRECTORY, Mode::empty()).unwrap();
        std::os::unix::fs::symlink(outside.path().join("word"), root.join("word")).unwrap();
        let copied = copy_file(&at, OsStr::new("word"), Path::new("word"), &root.join("word"), &mut swapper);
        assert!(matches!(copied, Err(PackageError::Changing { .. })), "{copied:?}");
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_is_read_up_to_the_limit() {
        // Says that it is empty, and has gigabytes.
        let at = rustix::fs::open("/proc/self", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = Path::new("pagemap");
        let mut swapper = Swapper { root: name, outside: name, copied: Vec::new() };
        let copied = copy_file(&at, name.as_os_str(), name, name, &mut swapper);
        assert!(matches!(copied, Err(PackageError::UnzippedTooLarge)), "{copied:?}");
    }

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
