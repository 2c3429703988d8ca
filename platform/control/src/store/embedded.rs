//! The store in one file of this machine.

use super::{Rows, Store, StoreError, Write, seal, unseal};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const ROWS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("rows");
/// Page cache: the rows are read once at the start, so a little is enough.
const CACHE_BYTES: usize = 1024 * 1024;

/// Rows in one redb file. Every commit is on the disk before it returns.
pub struct Embedded {
    path: PathBuf,
    state: Mutex<State>,
}

enum State {
    Open(Database),
    /// A commit met a full disk: the file is opened anew before the next.
    Closed,
    /// A commit met a failing disk.
    Failed(String),
}

impl Embedded {
    /// Opens the file, makes it if need be, and repairs what a crash left.
    ///
    /// # Errors
    /// Another process has it open; it is damaged; it cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Self::database(path)?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(State::Open(database)) })
    }

    fn database(path: &Path) -> Result<Database, StoreError> {
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        opened.map_err(|error| {
            let path = path.to_owned();
            match error {
                DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                    StoreError::InUse { path }
                }
                DatabaseError::Storage(StorageError::Io(source)) => io_error(path, source),
                other => StoreError::Damaged { path, detail: other.to_string() },
            }
        })
    }

    fn read(&self, database: &Database) -> Result<Rows, StoreError> {
        let failed = |error: redb::Error| match error {
            redb::Error::Io(source) => io_error(self.path.clone(), source),
            other => StoreError::Damaged { path: self.path.clone(), detail: other.to_string() },
        };
        let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
        let table = match transaction.open_table(ROWS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Rows::new()),
            Err(error) => return Err(failed(error.into())),
        };
        let mut rows = Rows::new();
        for row in table.iter().map_err(|error| failed(error.into()))? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            let key = key.value().to_owned();
            let Some(value) = unseal(&key, value.value()) else {
                return Err(StoreError::DamagedRow { path: self.path.clone(), key });
            };
            rows.insert(key, value);
        }
        Ok(rows)
    }

    fn write(database: &Database, batch: &[Write]) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(ROWS)?;
            for write in batch {
                match write {
                    Write::Put(key, value) => drop(table.insert(key.as_str(), seal(key, value).as_slice())?),
                    Write::Remove(key) => drop(table.remove(key.as_str())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Store for Embedded {
    fn load(&self) -> Result<Rows, StoreError> {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => self.read(database),
            State::Closed => self.read(&Self::database(&self.path)?),
            State::Failed(cause) => {
                Err(StoreError::ReadOnly { path: self.path.clone(), cause: cause.clone() })
            }
        }
    }

    fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Closed) {
            *state = State::Open(Self::database(&self.path)?);
        }
        let database = match &*state {
            State::Open(database) => database,
            State::Closed => return Err(StoreError::Full { path: self.path.clone() }),
            State::Failed(cause) => {
                return Err(StoreError::ReadOnly { path: self.path.clone(), cause: cause.clone() });
            }
        };
        let Err(error) = Self::write(database, batch) else { return Ok(()) };
        if let redb::Error::Io(source) = &error
            && is_full(source)
        {
            // The store refuses further work on a handle that failed; a fresh one starts from the last good commit.
            *state = State::Closed;
            return Err(StoreError::Full { path: self.path.clone() });
        }
        // After any other failure it is unknown what reached the disk, and asking again may well say "fine" for pages
        // that the kernel has dropped. So nothing is acknowledged any more.
        let cause = error.to_string();
        *state = State::Failed(cause.clone());
        Err(StoreError::ReadOnly { path: self.path.clone(), cause })
    }
}

fn io_error(path: PathBuf, source: io::Error) -> StoreError {
    if is_full(&source) { StoreError::Full { path } } else { StoreError::Io { path, source } }
}

/// Whether an error means that there is no room: space, inodes or quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Write {
        Write::Put(key.to_owned(), value.as_bytes().to_vec())
    }

    #[test]
    fn rows_are_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Embedded::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), Rows::new());
        store.commit(&[put("a", "1"), put("b", "2")]).unwrap();
        store.commit(&[put("a", "3"), Write::Remove("b".to_owned())]).unwrap();
        drop(store);
        let rows = Embedded::open(&path).unwrap().load().unwrap();
        assert_eq!(rows, Rows::from([("a".to_owned(), b"3".to_vec())]));
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, "hello ".repeat(2000)).unwrap();
        assert!(matches!(Embedded::open(&path), Err(StoreError::Damaged { .. } | StoreError::Io { .. })));
    }
}
