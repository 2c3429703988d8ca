//! Layers unpacked by another process, which is confined to the folder: what it is given, and what it says.
//!
//! Its answer is as little trusted as the layer: facts name paths, which are looked at when they are used.

use crate::ImageError;
use crate::digest::Digest;
use crate::layer::{Budget, Facts, unpack_within};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Has [`unpack`] done where it can do no harm.
pub trait Unpacker: Send + Sync + std::fmt::Debug {
    /// Hands over what `unpack` gets; its answer comes back.
    ///
    /// # Errors
    /// It could not be done there, or ended before it was done.
    fn run(&self, order: &[u8], blob: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<Vec<u8>>;
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    blob: Option<String>,
    diff_id: String,
    bytes: u64,
    entries: usize,
    folder: PathBuf,
}

/// What became of a layer, as bytes between processes.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Unpacked(Facts),
    TooLarge,
    TooMany,
    /// The content of the first is the second instead.
    Digest(String, String),
    /// Damaged or hostile; why.
    Refused(String),
    /// The disk refused: where, and what it said.
    File(PathBuf, i32, String),
}

/// Unpacks the layer that comes from `blob` into `folder`, as `order` says.
pub fn unpack(order: &[u8], blob: OwnedFd, folder: OwnedFd) -> Vec<u8> {
    let outcome = match serde_json::from_slice(order) {
        Ok(order) => begin(&order, File::from(blob), folder),
        Err(error) => Outcome::Refused(error.to_string()),
    };
    // An answer that cannot be written is none, and that is an error, too.
    serde_json::to_vec(&outcome).unwrap_or_default()
}

fn begin(order: &Order, blob: File, folder: OwnedFd) -> Outcome {
    let Some(diff_id) = Digest::from_hex(&order.diff_id) else {
        return Outcome::Refused("an order without a digest".to_owned());
    };
    let expected = order.blob.as_deref().and_then(Digest::from_hex);
    let budget = Budget { bytes: order.bytes, entries: order.entries };
    match unpack_within(blob, expected, diff_id, folder, &order.folder, budget) {
        Ok(facts) => Outcome::Unpacked(facts),
        Err(ImageError::TooLarge) => Outcome::TooLarge,
        Err(ImageError::TooMany) => Outcome::TooMany,
        Err(ImageError::Digest { expected, found }) => Outcome::Digest(expected.hex(), found.hex()),
        Err(ImageError::File { path, source }) => {
            Outcome::File(path, source.raw_os_error().unwrap_or_default(), source.to_string())
        }
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

/// Has a layer unpacked elsewhere; `source` is read here and handed on through a pipe.
pub(crate) fn hand_over(
    unpacker: &dyn Unpacker,
    mut source: impl Read,
    blob: Option<Digest>,
    diff_id: Digest,
    folder: &Path,
    budget: Budget,
) -> Result<Facts, ImageError> {
    let fail = |source: io::Error| ImageError::file(folder, source);
    let order = Order {
        blob: blob.map(|blob| blob.hex()),
        diff_id: diff_id.hex(),
        bytes: budget.bytes,
        entries: budget.entries,
        folder: folder.to_owned(),
    };
    let order = serde_json::to_vec(&order).map_err(|error| fail(error.into()))?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let open = rustix::fs::open(folder, flags, Mode::empty()).map_err(|error| fail(error.into()))?;
    let (theirs, ours) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| fail(error.into()))?;
    let (read, answer) = std::thread::scope(|scope| {
        // Owns our copy of the pipe's end: were it open any longer, a write would wait for ever once nobody reads.
        let unpacking = scope.spawn(move || unpacker.run(&order, theirs.as_fd(), open.as_fd()));
        let read = io::copy(&mut source, &mut File::from(ours));
        let answer = unpacking.join();
        (read, answer.unwrap_or_else(|_| Err(io::Error::other("the unpacking thread ended"))))
    });
    if let Err(error) = read
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(ImageError::Content { layer: diff_id, why: error.to_string() });
    }
    let digest = |hex: String| Digest::from_hex(&hex).unwrap_or(diff_id);
    match serde_json::from_slice(&answer.map_err(fail)?) {
        Ok(Outcome::Unpacked(facts)) => Ok(facts),
        Ok(Outcome::TooLarge) => Err(ImageError::TooLarge),
        Ok(Outcome::TooMany) => Err(ImageError::TooMany),
        Ok(Outcome::Digest(expected, found)) => {
            Err(ImageError::Digest { expected: digest(expected), found: digest(found) })
        }
        Ok(Outcome::Refused(why)) => Err(ImageError::Refused { why }),
        Ok(Outcome::File(path, 0, text)) => Err(ImageError::file(&path, io::Error::other(text))),
        Ok(Outcome::File(path, code, _)) => Err(ImageError::file(&path, io::Error::from_raw_os_error(code))),
        Err(error) => Err(fail(error.into())),
    }
}
