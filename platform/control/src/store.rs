//! Rows that outlive the process: a small trait, and the embedded store behind it.
//!
//! A row is a key and some bytes with a checksum before them, so that a flipped bit is found and refused instead of
//! being believed. Another store (several machines) fits behind the same trait.

mod embedded;

pub use embedded::Embedded;
pub(crate) use embedded::is_full;

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Bytes of the checksum before each row's value: enough that 2^64 flips would be needed to meet one by chance.
const CHECKSUM_SIZE: usize = 8;
/// What can be done where a store is damaged.
const WAY_OUT: &str =
    "put a copy of the data folder from before in its place, or take another one with --data-dir";

/// All rows, by key.
pub type Rows = BTreeMap<String, Vec<u8>>;

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The row has this value from now on.
    Put(String, Vec<u8>),
    /// There is no such row any more.
    Remove(String),
}

/// Where rows are kept.
pub trait Store: Send + Sync {
    /// Every row, checked.
    ///
    /// # Errors
    /// The store cannot be read, or a row is damaged.
    fn load(&self) -> Result<Rows, StoreError>;

    /// Hands each row to `see`, checked, in any order, and from two threads where they are many.
    ///
    /// # Errors
    /// As [`Store::load`]; some rows were seen then.
    fn each(&self, see: &(dyn Fn(&str, &[u8]) + Sync)) -> Result<(), StoreError> {
        self.load()?.iter().for_each(|(key, value)| see(key, value));
        Ok(())
    }

    /// The rows whose key begins so, checked.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn load_prefix(&self, prefix: &str) -> Result<Rows, StoreError> {
        let mut rows = self.load()?;
        rows.retain(|key, _| key.starts_with(prefix));
        Ok(rows)
    }

    /// One row, checked.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.load()?.remove(key))
    }

    /// Makes all of a batch durable, or nothing of it: when this returns, a `kill -9` or a power cut loses none of it.
    ///
    /// # Errors
    /// The store cannot be written; nothing of the batch counts then.
    fn commit(&self, batch: &[Write]) -> Result<(), StoreError>;

    /// Why nothing can be written at present, if that is known. Waits for nothing.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Ends it in good order: nothing is read or written any more. A store that was not ended so may, for all that it can tell, have
    /// died amid its last commit, which a flipped bit in it then takes back in silence.
    fn close(&self) {}
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{} is open in another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full. Nothing was written; it goes on by itself when there is space again.
    #[error("{}: no space left on the disk", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The disk failed once. What it holds is then unknown, so nothing more is written until a restart.
    #[error("{}: the disk failed, the store is read-only until Onrush is started again: {cause}", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        cause: String,
    },
    /// It was closed: the platform ends.
    #[error("{} is closed", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a store, or is damaged beyond what the store repairs by itself.
    #[error("{} is damaged: {detail}; {WAY_OUT}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A row's checksum is wrong.
    #[error("{} is damaged: row `{key}` does not match its checksum; {WAY_OUT}", path.display())]
    DamagedRow {
        /// The file.
        path: PathBuf,
        /// Which row.
        key: String,
    },
}

/// Puts the checksum before a value.
fn seal(key: &str, value: &[u8]) -> Vec<u8> {
    let mut sealed = checksum(key, value).to_vec();
    sealed.extend_from_slice(value);
    sealed
}

/// Takes the checksum off again; `None` if it is wrong.
fn unseal<'a>(key: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = sealed.split_at_checked(CHECKSUM_SIZE)?;
    (sum == checksum(key, value)).then_some(value)
}

/// The key belongs to it, so that rows cannot change places either.
fn checksum(key: &str, value: &[u8]) -> [u8; CHECKSUM_SIZE] {
    let mut hasher = Sha256::new();
    hasher.update((key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(value);
    let digest = hasher.finalize();
    digest[..CHECKSUM_SIZE].try_into().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_a_moved_row_is_found() {
        let sealed = seal("function/cart", b"{}");
        assert_eq!(unseal("function/cart", &sealed), Some(&b"{}"[..]));
        assert_eq!(unseal("function/card", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal("function/cart", &flipped), None);
        }
        assert_eq!(unseal("x", &[1, 2, 3]), None);
    }
}
