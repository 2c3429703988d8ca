//! The store in one file of this machine.

#[cfg(test)]
mod disk;
#[cfg(test)]
mod faults;
mod synced;

use super::{Rows, Store, StoreError, Write, seal, unseal};
use redb::backends::FileBackend;
use redb::{
    AccessGuard, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata,
    StorageError, TableDefinition, TableError,
};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use synced::Synced;

const ROWS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("rows");
/// Fewer rows than these are read by one thread: another costs as much as reading ten.
const SHARED_MIN: usize = 500;
/// Page cache: the rows are read once at the start, so a little is enough.
const CACHE_BYTES: usize = 1024 * 1024;

/// Rows in one redb file. Every commit is on the disk before it returns; readers do not wait for it.
pub struct Embedded {
    path: PathBuf,
    /// Opens the file; again after a full disk.
    open: Opener,
    state: RwLock<State>,
}

type Table = ReadOnlyTable<&'static str, &'static [u8]>;
type Found = Result<(AccessGuard<'static, &'static str>, AccessGuard<'static, &'static [u8]>), StorageError>;
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

    /// The table as it is now; `None` in a new file.
    fn table(&self, database: &Database) -> Result<Option<Table>, StoreError> {
        let transaction = database.begin_read().map_err(|error| self.unreadable(error))?;
        match transaction.open_table(ROWS) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// Opens what was found of one row.
    fn checked<T>(&self, row: Found, see: impl FnOnce(&str, &[u8]) -> T) -> Result<T, StoreError> {
        let (key, sealed) = row.map_err(|error| self.unreadable(error))?;
        match unseal(key.value(), sealed.value()) {
            Some(value) => Ok(see(key.value(), value)),
            None => Err(StoreError::DamagedRow { path: self.path.clone(), key: key.value().to_owned() }),
        }
    }

    fn read(&self, database: &Database, prefix: &str) -> Result<Rows, StoreError> {
        let Some(table) = self.table(database)? else { return Ok(Rows::new()) };
        let mut rows = Rows::new();
        for row in table.range(prefix..).map_err(|error| self.unreadable(error))? {
            let (key, value) = self.checked(row, |key, value| (key.to_owned(), value.to_vec()))?;
            if !key.starts_with(prefix) {
                break;
            }
            rows.insert(key, value);
        }
        Ok(rows)
    }

    /// See [`Store::each`]: one thread goes on from the first row, one from the last, until they meet.
    fn see(&self, database: &Database, see: &(dyn Fn(&str, &[u8]) + Sync)) -> Result<(), StoreError> {
        let Some(table) = self.table(database)? else { return Ok(()) };
        let count = table.len().map_err(|error| self.unreadable(error))?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let from_end = if count < SHARED_MIN { 0 } else { count / 2 };
        let range = || table.range::<&str>(..).map_err(|error| self.unreadable(error));
        let first = || range()?.take(count - from_end).try_for_each(|row| self.checked(row, see));
        let last = || range()?.rev().take(from_end).try_for_each(|row| self.checked(row, see));
        std::thread::scope(|scope| {
            // A host without a thread to spare reads all the same.
            let spawn = || std::thread::Builder::new().spawn_scoped(scope, last).ok();
            let helper = if from_end == 0 { None } else { spawn() };
            first()?;
            match helper.map(std::thread::ScopedJoinHandle::join) {
                Some(Ok(done)) => done,
                _ => last(),
            }
        })
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

    fn each(&self, see: &(dyn Fn(&str, &[u8]) + Sync)) -> Result<(), StoreError> {
        self.with_database(|database| self.see(database, see))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with_database(|database| {
            let Some(table) = self.table(database)? else { return Ok(None) };
            let Some(value) = table.get(key).map_err(|error| self.unreadable(error))? else {
                return Ok(None);
            };
            match unseal(key, value.value()) {
                Some(value) => Ok(Some(value.to_vec())),
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
    fn each_row_is_seen_once_however_many_there_are() {
        for count in [0, 1, SHARED_MIN - 1, SHARED_MIN, SHARED_MIN * 2 + 1] {
            let folder = tempfile::tempdir().unwrap();
            let store = Embedded::open(&folder.path().join("store")).unwrap();
            let rows: Vec<_> = (0..count).map(|n| put(&format!("{n:04}"), &n.to_string())).collect();
            store.commit(&rows).unwrap();
            let seen = std::sync::Mutex::new(Vec::new());
            store.each(&|key, value| seen.lock().unwrap().push((key.to_owned(), value.to_vec()))).unwrap();
            let mut seen = seen.into_inner().unwrap();
            seen.sort();
            assert!(seen.into_iter().eq(store.load().unwrap()), "{count}");
            // A damaged one on either half.
            for damaged in ["0001", &format!("{:04}", count.saturating_sub(2))] {
                let State::Open(database) = &*store.state.read().unwrap() else { panic!("it is open") };
                let transaction = database.begin_write().unwrap();
                transaction.open_table(ROWS).unwrap().insert(damaged, &[0; 9][..]).unwrap();
                transaction.commit().unwrap();
                let refused = store.each(&|_, _| {});
                assert!(
                    matches!(refused, Err(StoreError::DamagedRow { key, .. }) if key == damaged),
                    "{damaged}"
                );
                Embedded::write(database, &[put(damaged, "well")]).unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, "hello ".repeat(2000)).unwrap();
        assert!(matches!(Embedded::open(&path), Err(StoreError::Damaged { .. } | StoreError::Io { .. })));
    }
}
