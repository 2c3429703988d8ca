//! The store in one file of this machine.

#[cfg(test)]
mod disk;
#[cfg(test)]
mod faults;
mod synced;

use super::{Rows, Store, StoreError, Write, seal, unseal};
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableError};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use synced::Synced;

const ROWS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("rows");
/// Page cache: the rows are read once at the start, so a little is enough.
const CACHE_BYTES: usize = 1024 * 1024;

/// Rows in one redb file. Every commit is on the disk before it returns; readers do not wait for it.
pub struct Embedded {
    path: PathBuf,
    /// Opens the file; again after a full disk.
    open: Opener,
    state: RwLock<State>,
}

type Opener = Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

enum State {
    Open(Database),
    /// A commit met a full disk: the file is opened anew before the next.
    Closed,
    /// A commit met a failing disk.
    Failed(String),
    /// Nothing comes any more.
    Ended,
}

/// Environments of functions hold secrets: nobody but the owner reads the file. Opens it; makes it if need be, empty.
fn private(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

impl Embedded {
    /// Opens the file, makes it if need be, and repairs what a crash left.
    ///
    /// # Errors
    /// Another process has it open; it is damaged; it cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::with_cache(path, CACHE_BYTES)
    }

    /// The same with another size of the page cache, for rows that come and go all the time.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn with_cache(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let file = path.to_owned();
        Self::over(path, move || {
            let file = private(&file).map_err(StorageError::Io)?;
            // Without the check a file that was closed in good order is trusted blindly, and a flipped bit in it leads to
            // wrong pages. It reads everything once, as the next step does anyway.
            let mut builder = Database::builder();
            builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
            builder.create_with_backend(Synced(FileBackend::new(file)?))
        })
    }

    /// Over whatever `open` opens; `path` is what errors call it.
    fn over(
        path: &Path,
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let name = path.to_owned();
        let open: Opener = Box::new(move || open().map_err(|error| not_opened(name.clone(), error)));
        let state = RwLock::new(State::Open(open()?));
        Ok(Self { path: path.to_owned(), open, state })
    }

    /// What is open now; opened anew after a full disk.
    fn open_state(&self) -> Result<RwLockReadGuard<'_, State>, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Closed) {
            return Ok(state);
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Closed) {
            *state = State::Open((self.open)()?);
        }
        drop(state);
        Ok(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.open_state()? {
            State::Open(database) => work(database),
            State::Closed => Err(StoreError::Full { path: self.path.clone() }),
            State::Failed(cause) => {
                Err(StoreError::ReadOnly { path: self.path.clone(), cause: cause.clone() })
            }
            State::Ended => Err(StoreError::Closed { path: self.path.clone() }),
        }
    }

    /// After a commit that failed. What was ended meanwhile is not opened anew.
    fn fail(&self, after: State) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Ended) {
            *state = after;
        }
    }

    fn unreadable(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Io(source) if !says_damaged(&source) => io_error(self.path.clone(), source),
            other => StoreError::Damaged { path: self.path.clone(), detail: other.to_string() },
        }
    }

    fn read(&self, database: &Database, prefix: &str) -> Result<Rows, StoreError> {
        let failed = |error: redb::Error| self.unreadable(error);
        let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
        let table = match transaction.open_table(ROWS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Rows::new()),
            Err(error) => return Err(failed(error.into())),
        };
        let mut rows = Rows::new();
        for row in table.range(prefix..).map_err(|error| failed(error.into()))? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            let key = key.value().to_owned();
            if !key.starts_with(prefix) {
                break;
            }
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
        self.load_prefix("")
    }

    fn load_prefix(&self, prefix: &str) -> Result<Rows, StoreError> {
        self.with_database(|database| self.read(database, prefix))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin_read().map_err(|error| self.unreadable(error))?;
            let table = match transaction.open_table(ROWS) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(self.unreadable(error)),
            };
            let Some(value) = table.get(key).map_err(|error| self.unreadable(error))? else {
                return Ok(None);
            };
            match unseal(key, value.value()) {
                Some(value) => Ok(Some(value)),
                None => Err(StoreError::DamagedRow { path: self.path.clone(), key: key.to_owned() }),
            }
        })
    }

    fn trouble(&self) -> Option<String> {
        // Somebody who opens it anew may hold it for writing; then all is about to be well.
        match &*self.state.try_read().ok()? {
            State::Open(_) | State::Ended => None,
            State::Closed => Some(StoreError::Full { path: self.path.clone() }.to_string()),
            State::Failed(cause) => {
                Some(StoreError::ReadOnly { path: self.path.clone(), cause: cause.clone() }.to_string())
            }
        }
    }

    fn close(&self) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::Ended;
    }

    fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
        let state = self.open_state()?;
        let database = match &*state {
            State::Open(database) => database,
            State::Closed => return Err(StoreError::Full { path: self.path.clone() }),
            State::Failed(cause) => {
                return Err(StoreError::ReadOnly { path: self.path.clone(), cause: cause.clone() });
            }
            State::Ended => return Err(StoreError::Closed { path: self.path.clone() }),
        };
        let Err(error) = Self::write(database, batch) else { return Ok(()) };
        drop(state);
        if let redb::Error::Io(source) = &error
            && is_full(source)
        {
            // The store refuses further work on a handle that failed; a fresh one starts from the last good commit.
            self.fail(State::Closed);
            return Err(StoreError::Full { path: self.path.clone() });
        }
        // After any other failure it is unknown what reached the disk, and asking again may well say "fine" for pages
        // that the kernel has dropped. So nothing is acknowledged any more.
        let cause = error.to_string();
        self.fail(State::Failed(cause.clone()));
        Err(StoreError::ReadOnly { path: self.path.clone(), cause })
    }
}

fn not_opened(path: PathBuf, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path }
        }
        DatabaseError::Storage(StorageError::Io(source)) if !says_damaged(&source) => io_error(path, source),
        other => StoreError::Damaged { path, detail: other.to_string() },
    }
}

/// Whether the file is not what it must be: it begins differently, or ends too early.
fn says_damaged(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
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
    fn a_store_that_is_closed_is_closed_in_good_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Embedded::open(&path).unwrap();
        store.commit(&[put("a", "1")]).unwrap();
        store.close();
        assert!(matches!(store.commit(&[put("a", "2")]), Err(StoreError::Closed { .. })));
        assert!(matches!(store.load(), Err(StoreError::Closed { .. })));
        // A commit that was under way meets a full disk.
        store.fail(State::Closed);
        assert!(matches!(store.commit(&[put("a", "2")]), Err(StoreError::Closed { .. })));
        // Whoever holds the handle still holds nothing of the file.
        let rows = Embedded::open(&path).unwrap().load().unwrap();
        assert_eq!(rows, Rows::from([("a".to_owned(), b"1".to_vec())]));
    }

    #[test]
    fn rows_are_read_one_by_one_and_by_the_beginning_of_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(&folder.path().join("store")).unwrap();
        assert_eq!(store.get("a").unwrap(), None);
        store.commit(&[put("a/1", "x"), put("b/1", "1"), put("b/2", "2"), put("c", "3")]).unwrap();
        assert_eq!(store.get("b/1").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(store.get("b").unwrap(), None);
        assert_eq!(store.load_prefix("b/").unwrap().into_keys().collect::<Vec<_>>(), ["b/1", "b/2"]);
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, "hello ".repeat(2000)).unwrap();
        assert!(matches!(Embedded::open(&path), Err(StoreError::Damaged { .. } | StoreError::Io { .. })));
    }
}
