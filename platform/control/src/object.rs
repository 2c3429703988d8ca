//! Archives in S3, and who fetches them.

use std::fmt;
use std::fs::File;
use std::io;

/// An object of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// Its bucket.
    pub bucket: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Its version; the latest without it.
    pub version: Option<&'a str>,
    /// Whether a session asks for it, as functions do: it has what functions may have, and nothing of lasting keys.
    pub in_session: bool,
}

/// Fetches objects. May block.
pub trait Objects: Send + Sync + fmt::Debug {
    /// Writes an object of at most `bytes_max` bytes into an empty file.
    ///
    /// # Errors
    /// See [`ObjectError`].
    fn fetch(&self, object: Object<'_>, bytes_max: u64, into: &mut File) -> Result<(), ObjectError>;
}

/// Why an object was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no S3 here.
    #[error("no S3 is attached")]
    NoServer,
    /// It has more bytes than were asked for.
    #[error("the object is too large")]
    TooLarge,
    /// S3 says no.
    #[error("S3 Error Code: {code}. S3 Error Message: {message}")]
    Refused {
        /// S3's code: `NoSuchKey`.
        code: String,
        /// What it says.
        message: String,
    },
    /// It did not answer in its time, or not as S3 does.
    #[error("{0}")]
    Unreachable(String),
    /// The file could not be written.
    #[error(transparent)]
    Disk(#[from] io::Error),
}
