//! One layer, from compressed bytes to a folder: decompressed, checked against both of its digests, unpacked.

use crate::ImageError;
use crate::digest::{Digest, Hashing};
use crate::store::{ENTRIES_MAX, IMAGE_BYTES_MAX};
use crate::tar::{Entry, Kind, Tar, printable};
use crate::tree::{Parts, Tree, TreeError, parts};
use crate::zstd::Frames;
use flate2::read::MultiGzDecoder;
use rustix::fs::{Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Chain, Cursor, Read, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Before a name it says that lower layers' file of that name is gone. Source: OCI image specification, "Image Layer
/// Filesystem Changeset", "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
/// In a folder it says that nothing of lower layers shows there. Source: as above, "Opaque Whiteout".
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What other file systems' own records begin with; they mean nothing here.
const RECORDS: &[u8] = b".wh..wh.";
/// Headers and padding that a layer's archive may have on top of its files.
const OVERHEAD_MAX: u64 = ENTRIES_MAX as u64 * 2_048;

/// What is known of an unpacked layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Bytes of its files.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: usize,
    /// Whether whiteouts and opaque folders lie in it as overlays want them.
    pub overlay: bool,
    /// Whether nothing of lower layers shows at all.
    pub opaque_top: bool,
    /// Folders in which nothing of lower layers shows, as the archive has their names.
    pub opaque: Vec<String>,
    /// What of lower layers is gone.
    pub gone: Vec<String>,
    /// Devices, pipes and the like that were left out.
    pub dropped: usize,
}

/// How much of an image there may still be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub bytes: u64,
    pub entries: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: IMAGE_BYTES_MAX, entries: ENTRIES_MAX }
    }
}

impl Budget {
    /// Takes a layer's part.
    ///
    /// # Errors
    /// It is larger than what is left.
    pub fn take(&mut self, facts: &Facts) -> Result<(), ImageError> {
        self.bytes = self.bytes.checked_sub(facts.bytes).ok_or(ImageError::TooLarge)?;
        self.entries = self.entries.checked_sub(facts.entries).ok_or(ImageError::TooMany)?;
        Ok(())
    }
}

/// Unpacks into `folder`, which is empty and nobody else's, and checks that the compressed bytes are `blob` (where it is known)
/// and the archive is `diff_id`. Until both are checked nobody may use the folder.
///
/// # Errors
/// The content is damaged, hostile or too much, or the disk refuses.
pub(crate) fn unpack(
    source: impl Read,
    blob: Option<Digest>,
    diff_id: Digest,
    folder: &Path,
    budget: Budget,
) -> Result<Facts, ImageError> {
    let tree = Tree::create(folder).map_err(|source| ImageError::file(folder, source))?;
    unpack_to(source, blob, diff_id, tree, folder, budget)
}

/// The same into an open folder; its path is for what is said of it.
///
/// # Errors
/// As [`unpack`].
pub(crate) fn unpack_within(
    source: impl Read,
    blob: Option<Digest>,
    diff_id: Digest,
    folder: OwnedFd,
    path: &Path,
    budget: Budget,
) -> Result<Facts, ImageError> {
    unpack_to(source, blob, diff_id, Tree::within(folder), path, budget)
}

fn unpack_to(
    source: impl Read,
    blob: Option<Digest>,
    diff_id: Digest,
    mut tree: Tree,
    folder: &Path,
    budget: Budget,
) -> Result<Facts, ImageError> {
    let fail = |source: io::Error| ImageError::file(folder, source);
    // A compressed layer is never much longer than its content.
    let compressed_max = budget.bytes.saturating_add(OVERHEAD_MAX);
    let mut archive = Decompressed::new(Hashing::new(source, compressed_max), diff_id, compressed_max)?;
    let facts = write(&mut archive, diff_id, &mut tree, budget, folder)?;
    let (found_blob, found) = archive.finish(diff_id)?;
    for (expected, found) in [(Some(diff_id), found), (blob, found_blob)] {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(ImageError::Digest { expected, found });
        }
    }
    tree.persist().map_err(fail)?;
    Ok(facts)
}

fn write(
    archive: &mut impl Read,
    layer: Digest,
    tree: &mut Tree,
    budget: Budget,
    folder: &Path,
) -> Result<Facts, ImageError> {
    let mut tar = Tar::new(archive);
    let mut facts = Facts::default();
    loop {
        let broken = |source| match source {
            crate::tar::TarError::Read(error) => too_much_or(&error, layer),
            source => ImageError::Archive { layer, source },
        };
        let Some(entry) = tar.entry().map_err(broken)? else { break };
        facts.entries += 1;
        if facts.entries + tree.implied > budget.entries {
            return Err(ImageError::TooMany);
        }
        // Told before it is written; what is really written is the same, a tar's content is as long as it says.
        if facts.bytes.saturating_add(entry.size) > budget.bytes {
            return Err(ImageError::TooLarge);
        }
        let blame = |error| match error {
            TreeError::Entry(why) => ImageError::Entry { layer, name: printable(&entry.name), why },
            TreeError::Disk(source) => ImageError::file(folder, source),
        };
        let path = parts(&entry.name).map_err(blame)?;
        if let Some(done) = whiteout(&path, tree, &mut facts) {
            done.map_err(blame)?;
            continue;
        }
        match entry.kind {
            Kind::Folder => tree.folder(&path, entry.mode),
            Kind::Symlink => tree.symlink(&path, &entry.link),
            Kind::HardLink => parts(&entry.link).and_then(|target| tree.hard_link(&path, &target)),
            Kind::File => {
                let mut file = tree.file(&path, entry.mode).map_err(blame)?;
                copy(&mut tar, &mut file, &entry, layer, folder)?;
                facts.bytes += entry.size;
                Ok(())
            }
            Kind::Special => {
                // The sandbox has its own devices; an image's are nobody's need.
                facts.dropped += 1;
                Ok(())
            }
            Kind::Unknown(_) => Err(TreeError::Entry("is of a kind that no layer may have")),
        }
        .map_err(blame)?;
    }
    facts.entries += tree.implied;
    facts.overlay = tree.overlay;
    Ok(facts)
}

/// Takes note of an entry that removes something; `None` if it is an ordinary one.
fn whiteout(path: &Parts, tree: &mut Tree, facts: &mut Facts) -> Option<Result<(), TreeError>> {
    let (name, parent) = path.split_last()?;
    let removed = name.strip_prefix(WHITEOUT)?;
    let text = |parts: &[Vec<u8>]| {
        // Names that are not UTF-8 can be hidden by overlays alone.
        String::from_utf8(parts.join(&b'/')).ok()
    };
    if name == OPAQUE {
        if parent.is_empty() {
            facts.opaque_top = true;
            return Some(Ok(()));
        }
        facts.opaque.extend(text(parent));
        return Some(tree.opaque(&parent.to_vec()));
    }
    if name.starts_with(RECORDS) {
        return Some(Ok(()));
    }
    if matches!(removed, b"" | b"." | b"..") {
        return Some(Err(TreeError::Entry("is a whiteout that names nothing")));
    }
    let mut target = parent.to_vec();
    target.push(removed.to_vec());
    facts.gone.extend(text(&target));
    Some(tree.whiteout(&target))
}

fn copy(
    tar: &mut impl Read,
    file: &mut File,
    entry: &Entry,
    layer: Digest,
    folder: &Path,
) -> Result<(), ImageError> {
    let fail = |source: io::Error| ImageError::file(folder, source);
    let mut buffer = [0; 64 * 1024];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => file.write_all(&buffer[..count]).map_err(fail)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(too_much_or(&error, layer)),
        }
    }
    // Python compares the time of a source with the one in its cached bytecode.
    let time = Timespec { tv_sec: entry.modified, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    // A time that the file system cannot hold is no reason to refuse.
    let _ = rustix::fs::futimens(&*file, &times);
    Ok(())
}

fn too_much_or(error: &io::Error, layer: Digest) -> ImageError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => ImageError::TooLarge,
        _ => ImageError::Content { layer, why: error.to_string() },
    }
}

type Compressed<R> = Chain<Cursor<Vec<u8>>, Hashing<R>>;

/// The archive inside a blob, whatever it is compressed with: its first bytes say that, media types are often wrong.
enum Unwrapped<R: Read> {
    Plain(Compressed<R>),
    Gzip(Box<MultiGzDecoder<Compressed<R>>>),
    Zstd(Box<Frames<Compressed<R>>>),
}

/// An archive whose digest is computed on the way, as is its blob's.
struct Decompressed<R: Read> {
    inner: Hashing<Unwrapped<R>>,
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

impl<R: Read> Decompressed<R> {
    fn new(mut blob: Hashing<R>, layer: Digest, bytes_max: u64) -> Result<Self, ImageError> {
        let mut head = Vec::new();
        (&mut blob).take(4).read_to_end(&mut head).map_err(|error| too_much_or(&error, layer))?;
        let kind = head.clone();
        let blob = Cursor::new(head).chain(blob);
        let unwrapped = if kind.starts_with(GZIP) {
            Unwrapped::Gzip(Box::new(MultiGzDecoder::new(blob)))
        } else if kind == ZSTD {
            Unwrapped::Zstd(Box::new(Frames::new(blob)))
        } else {
            Unwrapped::Plain(blob)
        };
        Ok(Self { inner: Hashing::new(unwrapped, bytes_max) })
    }

    /// Reads the rest. The digests of the blob and of the archive.
    fn finish(self, layer: Digest) -> Result<(Digest, Digest), ImageError> {
        let (archive, unwrapped) = self.inner.finish().map_err(|error| too_much_or(&error, layer))?;
        let (_, blob) = match unwrapped {
            Unwrapped::Plain(blob) => blob,
            Unwrapped::Gzip(decoder) => decoder.into_inner(),
            Unwrapped::Zstd(frames) => frames.into_inner(),
        }
        .into_inner();
        let (blob, _) = blob.finish().map_err(|error| too_much_or(&error, layer))?;
        Ok((blob, archive))
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<R: Read> Read for Unwrapped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            Self::Gzip(gzip) => gzip.read(buffer),
            Self::Zstd(zstd) => zstd.read(buffer),
        }
    }
}
