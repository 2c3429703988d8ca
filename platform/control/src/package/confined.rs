//! Archives unpacked by another process, which is confined to the folder: what it is given, and what it says.

use super::archive::ArchiveError;
use super::layout::LayoutError;
use super::tree::Tree;
use super::{PackageError, disk, write_archive};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Has [`unpack`] done where it can do no harm.
pub trait Unpacker: Send + Sync + std::fmt::Debug {
    /// Hands over what `unpack` gets; its answer comes back.
    ///
    /// # Errors
    /// It could not be done there, or ended before it was done.
    fn run(&self, order: &[u8], archive: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<Vec<u8>>;
}

/// What became of an archive, as bytes between processes.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    /// With [`Tree::closed`].
    Unpacked(Option<(String, u32)>),
    TooLarge,
    Empty,
    /// It is damaged or hostile; why.
    Refused(String),
    /// It could not be read.
    Unreadable(i32, String),
    /// The disk refused: where, and what it said.
    Disk(Vec<u8>, i32, String),
}

/// Unpacks the archive into the folder; `order` is the folder's path, for what is said of it.
pub fn unpack(order: &[u8], archive: OwnedFd, folder: OwnedFd) -> Vec<u8> {
    let archive = File::from(archive);
    let mut tree = Tree::within(folder, Path::new(OsStr::from_bytes(order)));
    let done = write_archive(&archive, &mut tree);
    let closed = tree.closed.take();
    let done = done.and_then(|()| tree.persist());
    let outcome = match done {
        Ok(()) => Outcome::Unpacked(closed),
        Err(PackageError::UnzippedTooLarge | PackageError::Archive(ArchiveError::TooLarge)) => {
            Outcome::TooLarge
        }
        Err(PackageError::Layout(LayoutError::Empty)) => Outcome::Empty,
        Err(PackageError::Archive(ArchiveError::Io(source))) => {
            Outcome::Unreadable(source.raw_os_error().unwrap_or_default(), source.to_string())
        }
        Err(PackageError::Disk { path, source }) => Outcome::Disk(
            path.as_os_str().as_bytes().to_vec(),
            source.raw_os_error().unwrap_or_default(),
            source.to_string(),
        ),
        Err(error) => Outcome::Refused(error.to_string()),
    };
    // An answer that cannot be written is none, and that is an error, too.
    serde_json::to_vec(&outcome).unwrap_or_default()
}

/// Has an archive unpacked elsewhere. The tree is not ours again until this returns.
pub(super) fn hand_over(
    unpacker: &dyn Unpacker,
    archive: BorrowedFd<'_>,
    tree: &mut Tree,
) -> Result<(), PackageError> {
    let path = tree.path();
    let answer = unpacker.run(path.as_os_str().as_bytes(), archive, tree.root());
    let answer = answer.map_err(|source| disk(path, source))?;
    let error = |code: i32, text: String| match code {
        0 => io::Error::other(text),
        code => io::Error::from_raw_os_error(code),
    };
    match serde_json::from_slice(&answer) {
        Ok(Outcome::Unpacked(closed)) => {
            tree.closed = closed;
            Ok(())
        }
        Ok(Outcome::TooLarge) => Err(PackageError::UnzippedTooLarge),
        Ok(Outcome::Empty) => Err(LayoutError::Empty.into()),
        Ok(Outcome::Refused(why)) => Err(PackageError::Refused { why }),
        Ok(Outcome::Unreadable(code, text)) => Err(ArchiveError::Io(error(code, text)).into()),
        Ok(Outcome::Disk(path, code, text)) => {
            Err(disk(&PathBuf::from(OsStr::from_bytes(&path)), error(code, text)))
        }
        Err(source) => Err(disk(path, source.into())),
    }
}
