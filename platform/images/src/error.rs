//! Why an image could not be had.

use crate::digest::Digest;
use crate::store::{ENTRIES_MAX, IMAGE_BYTES_MAX, LAYERS_MAX};
use crate::tar::TarError;
use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be had. Every text says which image, layer or entry, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The reference is none of the forms.
    #[error("`{reference}` is no image reference: {why}")]
    Reference {
        /// As given.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody has it.
    #[error("{reference} is not there: {why}")]
    Missing {
        /// As given.
        reference: String,
        /// Where it was looked for.
        why: String,
    },
    /// A registry refuses us.
    #[error("{reference}: access denied: {why}")]
    Denied {
        /// As given.
        reference: String,
        /// What the registry said, and the way out.
        why: String,
    },
    /// A registry fails, or answers nonsense.
    #[error("{reference}: {why}")]
    Registry {
        /// As given.
        reference: String,
        /// What happened.
        why: String,
    },
    /// The image is not made for this function's architecture.
    #[error("the image is for {found}, the function for linux/{wanted}{hint}")]
    Platform {
        /// What there is.
        found: String,
        /// What is asked for: `amd64` or `arm64`.
        wanted: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A manifest, index or configuration that cannot be read.
    #[error("the {document} is not valid: {why}")]
    Document {
        /// Which of them.
        document: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Content that is not what its digest says.
    #[error("the content of {expected} is {found} instead: it is damaged")]
    Digest {
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// More layers than an image may have.
    #[error("it has {count} layers, at most {LAYERS_MAX} are run; build with fewer steps, or squash it")]
    Layers {
        /// How many.
        count: usize,
    },
    /// More bytes than an image may have. Source: Lambda quotas, container image code package size, published.
    #[error("its files are larger than {IMAGE_BYTES_MAX} bytes together, the 10 GB that Lambda allows")]
    TooLarge,
    /// More files than an image may have.
    #[error("it has more than {ENTRIES_MAX} files and folders")]
    TooMany,
    /// A layer's archive is damaged.
    #[error("layer {layer}: {source}")]
    Archive {
        /// Which layer.
        layer: Digest,
        /// What is wrong.
        source: TarError,
    },
    /// An entry that no image needs and that could do harm.
    #[error("layer {layer}: `{name}` {why}")]
    Entry {
        /// Which layer.
        layer: Digest,
        /// Which entry.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A layer cannot be decompressed, or ends too early.
    #[error("layer {layer} cannot be read: {why}")]
    Content {
        /// Which layer.
        layer: Digest,
        /// What is wrong.
        why: String,
    },
    /// Any of these, as another process has found it.
    #[error("{why}")]
    Refused {
        /// What is wrong.
        why: String,
    },
    /// It was given up on the way.
    #[error("nobody wants it any more")]
    Unwanted,
    /// A file of this machine cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ImageError {
    pub(crate) fn file(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File { path: path.to_owned(), source: source.into() }
    }
}
