//! Why an archive is refused.

use super::DIRECTORY_MAX;
use crate::package::{ENTRIES_MAX, UNZIPPED_MAX};
use std::io;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It has no end record.
    #[error("it is not a zip archive: the end-of-directory record is missing")]
    NoEnd,
    /// A record does not begin as it must.
    #[error("the {record} at byte {at} is damaged")]
    Damaged {
        /// Which kind of record.
        record: &'static str,
        /// Where it was expected.
        at: u64,
    },
    /// A record reaches over the end of what may hold it.
    #[error("the {record} at byte {at} reaches past the end of the archive")]
    Outside {
        /// Which kind of record.
        record: &'static str,
        /// Where it begins.
        at: u64,
    },
    /// The archive is one of several.
    #[error("it is split over several disks")]
    Split,
    /// Too many entries.
    #[error("it has {entries} entries, more than {ENTRIES_MAX}")]
    TooMany {
        /// How many it claims.
        entries: u64,
    },
    /// The directory is too long.
    #[error("its directory has {bytes} bytes, more than {DIRECTORY_MAX}")]
    DirectoryTooLarge {
        /// How many it claims.
        bytes: u64,
    },
    /// An entry needs a key.
    #[error("entry `{name}` is encrypted")]
    Encrypted {
        /// Which.
        name: String,
    },
    /// An entry is compressed in a way that packages may not use.
    #[error(
        "entry `{name}` uses compression method {method}; only stored (0) and deflated (8) can be unpacked"
    )]
    Method {
        /// Which.
        name: String,
        /// The number of APPNOTE 4.4.5.
        method: u16,
    },
    /// Directory and local header disagree.
    #[error("entry `{name}` has another name in its own header")]
    Disagree {
        /// Which.
        name: String,
    },
    /// Two entries share bytes.
    #[error("entry `{name}` overlaps another")]
    Overlap {
        /// The later one.
        name: String,
    },
    /// An entry unpacks to more or less than it says.
    #[error("entry `{name}` does not have the {size} bytes that it claims")]
    Size {
        /// Which.
        name: String,
        /// What it claims.
        size: u64,
    },
    /// The checksum is wrong or the compressed data is damaged.
    #[error("entry `{name}` is damaged")]
    Content {
        /// Which.
        name: String,
    },
    /// Together the entries claim more than a package may have.
    #[error("Unzipped size must be smaller than {UNZIPPED_MAX} bytes")]
    TooLarge,
    /// The archive cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}
