//! Writes a layer's files below one folder and nowhere else.
//!
//! Every step is taken from an open folder and follows no link by itself (`O_NOFOLLOW`, part by part): links on the way are
//! read and followed by us, with the layer's own top as the world, so neither `..` nor an absolute target leads out.

use crate::tar::NAME_MAX;
use rustix::fs::{self as raw, AtFlags, Dir, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Bytes of one part of a name, as Linux has it.
const PART_MAX: usize = 255;
/// Folders within folders.
pub const DEPTH_MAX: usize = 128;
/// Links that may be followed one after another, as Linux has it (path_resolution(7)).
const HOPS_MAX: usize = 40;
/// What marks a folder that hides everything below it, for overlays mounted with `userxattr`.
const OPAQUE: &str = "user.overlay.opaque";

/// Why a name is refused, or nothing could be written.
#[derive(Debug)]
pub(crate) enum TreeError {
    /// The entry is at fault.
    Entry(&'static str),
    /// The disk is.
    Disk(io::Error),
}

impl From<Errno> for TreeError {
    fn from(error: Errno) -> Self {
        Self::Disk(error.into())
    }
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

type Done<T> = Result<T, TreeError>;

/// The parts of a checked name; none for the top itself.
pub(crate) type Parts = Vec<Vec<u8>>;

/// A layer being written.
pub(crate) struct Tree {
    root: OwnedFd,
    /// The folder that was used last: entries of a folder tend to come together.
    last: Option<(Parts, OwnedFd)>,
    /// Whether this file system takes whiteouts and opaque marks as overlays want them.
    pub overlay: bool,
    /// Folders and links that stand in for names that no entry had.
    pub implied: usize,
}

/// Splits a name, leading `/` and `./` left out.
pub(crate) fn parts(name: &[u8]) -> Done<Parts> {
    if name.len() > NAME_MAX {
        return Err(TreeError::Entry("has too long a name"));
    }
    let mut parts = Parts::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(TreeError::Entry("leads out of the image with `..`")),
            _ if part.len() > PART_MAX => return Err(TreeError::Entry("has too long a name")),
            _ if part.contains(&0) => return Err(TreeError::Entry("holds a NUL byte")),
            _ => parts.push(part.to_vec()),
        }
    }
    if parts.len() > DEPTH_MAX {
        return Err(TreeError::Entry("is nested too deeply"));
    }
    Ok(parts)
}

impl Tree {
    /// Begins in an existing, empty folder that nobody else writes to.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::within(raw::open(path, FOLDER | OFlags::RDONLY, Mode::empty())?))
    }

    /// The same in an open folder.
    pub fn within(root: OwnedFd) -> Self {
        Self { root, last: None, overlay: true, implied: 0 }
    }

    /// Makes a folder, or changes the rights of one that is there.
    pub fn folder(&mut self, path: &Parts, mode: u32) -> Done<()> {
        let mode = Mode::from_raw_mode((mode & 0o777 | 0o700) as RawMode);
        let Some((name, parent)) = path.split_last() else { return Ok(()) };
        let (name, parent) = (c_string(name)?, self.parent(parent)?);
        let mut opaque = false;
        match kind_at(&parent, &name)? {
            Some((FileType::Directory, _)) => {}
            found => {
                if let Some((kind, device)) = found {
                    // The layer hides what lay here, and then puts a folder in its place.
                    opaque = kind == FileType::CharacterDevice && device == 0;
                    raw::unlinkat(&parent, &name, AtFlags::empty())?;
                }
                raw::mkdirat(&parent, &name, mode)?;
            }
        }
        let folder = raw::openat(&parent, &name, FOLDER | OFlags::RDONLY, Mode::empty())?;
        // The umask of this process must not decide what functions can read.
        raw::fchmod(&folder, mode)?;
        if opaque {
            self.mark_opaque(&folder)?;
        }
        self.last = Some((path.clone(), folder));
        Ok(())
    }

    /// Makes an empty file to be written; what was there before goes.
    pub fn file(&mut self, path: &Parts, mode: u32) -> Done<File> {
        let mode = Mode::from_raw_mode((mode & 0o777 | 0o400) as RawMode);
        let (parent, name) = self.vacant(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = raw::openat(&parent, &name, flags, mode)?;
        raw::fchmod(&file, mode)?;
        Ok(File::from(file))
    }

    /// Makes a symbolic link. Where it leads is the business of who runs inside.
    pub fn symlink(&mut self, path: &Parts, target: &[u8]) -> Done<()> {
        if target.is_empty() || target.len() >= NAME_MAX {
            return Err(TreeError::Entry("is a link with no target, or too long a one"));
        }
        let target = c_string(target)?;
        let (parent, name) = self.vacant(path)?;
        Ok(raw::symlinkat(&target, &parent, &name)?)
    }

    /// Gives a file of this layer another name.
    pub fn hard_link(&mut self, path: &Parts, target: &Parts) -> Done<()> {
        const NOWHERE: TreeError = TreeError::Entry("is a hard link to nothing in its layer");
        let Some((old_name, old_parent)) = target.split_last() else { return Err(NOWHERE) };
        let old_name = c_string(old_name)?;
        let old_parent = self.walk(old_parent, false)?.ok_or(NOWHERE)?;
        match kind_at(&old_parent, &old_name)? {
            Some((FileType::RegularFile | FileType::Symlink, _)) => {}
            _ => return Err(NOWHERE),
        }
        if path == target {
            return Ok(());
        }
        let (parent, name) = self.vacant(path)?;
        match raw::linkat(&old_parent, &old_name, &parent, &name, AtFlags::empty()) {
            // It went when its new name was made vacant.
            Err(Errno::NOENT) => Err(NOWHERE),
            linked => Ok(linked?),
        }
    }

    /// Notes that what lower layers have at `path` is gone. What this layer puts there itself stays.
    pub fn whiteout(&mut self, path: &Parts) -> Done<()> {
        let Some((name, parent)) = path.split_last() else {
            return Err(TreeError::Entry("would remove the whole image"));
        };
        let (name, parent) = (c_string(name)?, self.parent(parent)?);
        match kind_at(&parent, &name)? {
            None => {
                let device = raw::mknodat(&parent, &name, FileType::CharacterDevice, Mode::empty(), 0);
                if device.is_err() {
                    self.overlay = false;
                }
                Ok(())
            }
            Some((FileType::Directory, _)) => {
                let folder = raw::openat(&parent, &name, FOLDER | OFlags::RDONLY, Mode::empty())?;
                self.mark_opaque(&folder)
            }
            Some(_) => Ok(()),
        }
    }

    /// Notes that nothing of lower layers shows in the folder at `path`.
    pub fn opaque(&mut self, path: &Parts) -> Done<()> {
        let folder = self.parent(path)?;
        self.mark_opaque(&folder)
    }

    fn mark_opaque(&mut self, folder: &OwnedFd) -> Done<()> {
        match raw::fsetxattr(folder, OPAQUE, b"y", raw::XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::NOSYS) => self.overlay = false,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The folder that an entry goes to, and its name, at which nothing is left.
    fn vacant(&mut self, path: &Parts) -> Done<(OwnedFd, CString)> {
        let Some((name, parent)) = path.split_last() else {
            return Err(TreeError::Entry("takes the place of the image's top"));
        };
        let (name, parent) = (c_string(name)?, self.parent(parent)?);
        match kind_at(&parent, &name)? {
            None => {}
            Some((FileType::Directory, _)) => {
                self.last = None;
                remove_folder(parent.as_fd(), &name, 0)?;
            }
            Some(_) => raw::unlinkat(&parent, &name, AtFlags::empty())?,
        }
        Ok((parent, name))
    }

    /// The folder at `path`, made where it is missing.
    fn parent(&mut self, path: &[Vec<u8>]) -> Done<OwnedFd> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.try_clone()?);
        }
        let folder = self.walk(path, true)?.ok_or(TreeError::Entry("lies in no folder"))?;
        self.last = Some((path.to_vec(), folder.try_clone()?));
        Ok(folder)
    }

    /// Steps to a folder, links followed within the layer. `None` if it is not there and not to be made.
    fn walk(&mut self, path: &[Vec<u8>], make: bool) -> Done<Option<OwnedFd>> {
        let mut todo: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut at = vec![self.root.try_clone()?];
        let mut hops = 0;
        while let Some(part) = todo.pop_front() {
            let here = at.last().map_or(self.root.as_fd(), AsFd::as_fd);
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    if at.len() > 1 {
                        at.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let name = c_string(&part)?;
            match kind_at(here, &name)? {
                Some((FileType::Directory, _)) => {}
                Some((FileType::Symlink, _)) => {
                    hops += 1;
                    if hops > HOPS_MAX {
                        return Err(TreeError::Entry("lies behind links that lead in a circle"));
                    }
                    let target = raw::readlinkat(here, &name, Vec::new())?;
                    if target.as_bytes().starts_with(b"/") {
                        at.truncate(1);
                    }
                    for part in target.as_bytes().split(|byte| *byte == b'/').rev() {
                        todo.push_front(part.to_vec());
                    }
                    continue;
                }
                _ if !make => return Ok(None),
                found => {
                    if at.len() > DEPTH_MAX {
                        return Err(TreeError::Entry("is nested too deeply"));
                    }
                    if found.is_some() {
                        // A file, or a whiteout: the later entry wins.
                        raw::unlinkat(here, &name, AtFlags::empty())?;
                    }
                    let mode = Mode::from_raw_mode(0o755);
                    raw::mkdirat(here, &name, mode)?;
                    self.implied += 1;
                    let made = raw::openat(here, &name, FOLDER | OFlags::RDONLY, Mode::empty())?;
                    raw::fchmod(&made, mode)?;
                    at.push(made);
                    continue;
                }
            }
            let next = raw::openat(here, &name, FOLDER | OFlags::RDONLY, Mode::empty())?;
            at.push(next);
        }
        Ok(at.pop())
    }

    /// Makes all of it durable.
    pub fn persist(&self) -> io::Result<()> {
        Ok(raw::syncfs(&self.root)?)
    }
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn c_string(bytes: &[u8]) -> Done<CString> {
    CString::new(bytes).map_err(|_| TreeError::Entry("holds a NUL byte"))
}

/// What stands at a name, and its device number.
fn kind_at(at: impl AsFd, name: &CStr) -> Done<Option<(FileType, u64)>> {
    match raw::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some((FileType::from_raw_mode(found.st_mode), found.st_rdev))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a folder of ours with everything in it.
fn remove_folder(at: BorrowedFd<'_>, name: &CStr, depth: usize) -> Done<()> {
    if depth > DEPTH_MAX {
        return Err(TreeError::Entry("is nested too deeply"));
    }
    let folder = raw::openat(at, name, FOLDER | OFlags::RDONLY, Mode::empty())?;
    let entries: Vec<_> = Dir::read_from(&folder)?.collect::<Result<_, _>>()?;
    for entry in entries {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match kind_at(&folder, name)? {
            Some((FileType::Directory, _)) => remove_folder(folder.as_fd(), name, depth + 1)?,
            _ => raw::unlinkat(&folder, name, AtFlags::empty())?,
        }
    }
    Ok(raw::unlinkat(at, name, AtFlags::REMOVEDIR)?)
}
