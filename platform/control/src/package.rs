//! Code packages on the disk: unpacked once per content, shared, and removed when nobody needs them any more.
//!
//! `DATA/code/HEX/` holds the files of the archive whose SHA-256 is `HEX`. A package is unpacked into
//! `DATA/staging/`, made durable, and renamed into place, so a folder under `code` is always whole. What a crash leaves
//! in `staging` is removed at the next start, as is every package that no function refers to; what goes is renamed there
//! first, and nobody waits for its removal. The archive itself is kept beside, in `DATA/archives/HEX`, for those who ask
//! for it.

mod archive;
mod archives;
mod confined;
mod folder;
mod inline;
mod layout;
mod removals;
mod tree;

pub use archive::ArchiveError;
pub use confined::{Unpacker, unpack};
pub use folder::{Listing, list};
pub use inline::Language;
pub use layout::LayoutError;

use self::removals::Removals;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Bytes of an archive that arrives in the request. Source: recorded on AWS, `Zipped size must be smaller than
/// 52428800 bytes`.
pub const ZIPPED_MAX: u64 = 52_428_800;
/// Bytes of a package's files together. Source: recorded on AWS, `Unzipped size must be smaller than 262144000 bytes`.
pub const UNZIPPED_MAX: u64 = 262_144_000;
/// Bytes of an archive that does not come with a request: a package's files and the archive's own records; what is longer
/// cannot be a package that fits.
pub const ARCHIVE_MAX: u64 = UNZIPPED_MAX + archive::DIRECTORY_MAX;
/// Files and folders of one package. Ours: AWS states none; 100,000 keeps the time and inodes of one request bounded.
pub const ENTRIES_MAX: usize = 100_000;
/// Folders within folders. Ours.
pub const DEPTH_MAX: usize = 64;
/// Bytes of one name, as Linux has it.
pub const NAME_MAX: usize = 255;
/// Bytes of one path, well below Linux's 4,096 so that `/var/task/` fits before it.
pub const PATH_MAX: usize = 3_072;
/// Bytes of one symbolic link's target.
pub const LINK_MAX: usize = 1_024;
/// How often a folder that changes while it is copied is copied again.
const COPY_TRIES: u32 = 8;
/// How often a folder that seems to be in the middle of a save is looked at again, and how long after the look before: then it
/// is taken as it is.
const SAVE_TRIES: u32 = 50;
const SAVE_STEP: Duration = Duration::from_millis(20);
/// Folders that somebody works in whose empty files are known. Ours: as many as a template has resources.
const WORKED_MAX: usize = 500;
/// A file that holds nothing, and held something when the folder was copied the last time, is waited for so long.
const EMPTIED: Duration = Duration::from_millis(500);
/// Bytes of inline code. Source: CloudFormation, AWS::Lambda::Function Code, `ZipFile` up to 4 MB, published.
pub const INLINE_MAX: usize = 4 * 1024 * 1024;

/// Where code lies: in the data folder by its content, or in a folder of the user's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Location {
    /// The package with that SHA-256 in lower-case hex.
    Package(String),
    /// The user's own folder, absolute, bound as it is.
    Folder(PathBuf),
    /// The container image with that id.
    Image(String),
}

/// Why a package could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// More bytes than a direct upload may have.
    #[error("Zipped size must be smaller than {ZIPPED_MAX} bytes")]
    ZippedTooLarge {
        /// How many there were.
        bytes: u64,
    },
    /// More bytes than a package may have.
    #[error("Unzipped size must be smaller than {UNZIPPED_MAX} bytes")]
    UnzippedTooLarge,
    /// More source text than a template may hold.
    #[error("inline code must be smaller than {INLINE_MAX} bytes")]
    InlineTooLarge {
        /// How many there were.
        bytes: usize,
    },
    /// The archive is damaged or uses what packages may not use.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An entry's name or kind is refused.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Either of these, as another process has found it.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// The code's folder or archive cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder changed each time that it was copied.
    #[error("{} changes all the time", path.display())]
    Changing {
        /// Which.
        path: PathBuf,
    },
    /// The data folder cannot be written.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A package that is in place.
#[derive(Clone, Debug)]
pub struct Package {
    /// Where it lies.
    pub location: Location,
    /// The folder.
    pub path: PathBuf,
    /// Base64 SHA-256 as the API says it.
    pub sha256: String,
    /// Bytes as the API says them: of the archive, or of a folder's files.
    pub size: u64,
    /// Keeps it there.
    pub lease: Option<Arc<CodeLease>>,
}

/// Keeps one unpacked package on the disk; it goes when the last lease and the last function are gone.
#[derive(Debug)]
pub struct CodeLease {
    hex: String,
    shelf: Arc<Shelf>,
}

impl PartialEq for CodeLease {
    fn eq(&self, other: &Self) -> bool {
        self.hex == other.hex
    }
}

impl Drop for CodeLease {
    fn drop(&mut self) {
        self.shelf.collect(&self.hex);
    }
}

/// All packages of one data folder.
#[derive(Debug)]
pub struct Packages {
    shelf: Arc<Shelf>,
    unpacker: Option<Arc<dyn Unpacker>>,
    /// Folders that somebody works in, and what was empty there when they were copied, the latest one last: at most
    /// [`WORKED_MAX`].
    worked: Mutex<VecDeque<(PathBuf, BTreeSet<PathBuf>)>>,
    /// Whether functions run as other users than this process does, as they do for root.
    for_others: bool,
}

#[derive(Debug)]
struct Shelf {
    code: PathBuf,
    archives: PathBuf,
    staging: PathBuf,
    next: AtomicU64,
    books: Mutex<Books>,
    removals: Removals,
}

/// Which packages must stay: those leased now, and those that the store refers to.
#[derive(Debug, Default)]
struct Books {
    leased: HashMap<String, Weak<CodeLease>>,
    /// How often the store refers to each.
    kept: HashMap<String, usize>,
    /// Bytes of the files of those that were measured: what is unpacked stays as it is.
    sizes: HashMap<String, u64>,
}

impl Packages {
    /// Opens the packages below `data_dir` and has removed what a crash left in staging.
    ///
    /// # Errors
    /// The folders cannot be made or read.
    pub fn open(data_dir: &Path) -> Result<Self, PackageError> {
        let mut shelf = Shelf {
            code: data_dir.join("code"),
            archives: data_dir.join("archives"),
            staging: data_dir.join("staging"),
            next: AtomicU64::new(0),
            books: Mutex::default(),
            removals: Removals::default(),
        };
        for folder in [&shelf.code, &shelf.archives, &shelf.staging] {
            fs::create_dir_all(folder).map_err(|source| disk(folder, source))?;
        }
        // Whatever the umask, who runs a package comes through; nobody looks around.
        for (folder, mode) in [(&shelf.code, 0o711), (&shelf.archives, 0o700)] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(folder, mode).map_err(|source| disk(folder, source))?;
        }
        for entry in fs::read_dir(&shelf.staging).map_err(|source| disk(&shelf.staging, source))? {
            let left = entry.map_err(|source| disk(&shelf.staging, source))?;
            // It keeps its name until it is gone.
            let number = left.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            let next = shelf.next.get_mut();
            *next = number.map_or(0, |number| number.saturating_add(1)).max(*next);
            shelf.removals.take(left.path());
        }
        let for_others = rustix::process::geteuid().is_root();
        Ok(Self { shelf: Arc::new(shelf), unpacker: None, worked: Mutex::default(), for_others })
    }

    /// From now on archives are unpacked by another process.
    pub fn confine(&mut self, unpacker: Arc<dyn Unpacker>) {
        self.unpacker = Some(unpacker);
    }

    /// Counts references of the store that are new and such that are gone, each as often as it is made. Packages that
    /// nobody refers to any more are returned: give them to [`Packages::collect`] once no lock is held.
    pub fn refer(&self, new: &[&str], gone: &[&str]) -> Vec<String> {
        let mut books = self.shelf.books();
        for hex in new {
            match books.kept.get_mut(*hex) {
                Some(count) => *count += 1,
                None => drop(books.kept.insert((*hex).to_owned(), 1)),
            }
        }
        let mut unused = Vec::new();
        for hex in gone {
            let Some(count) = books.kept.get_mut(*hex) else { continue };
            *count -= 1;
            if *count == 0 {
                books.kept.remove(*hex);
                unused.push((*hex).to_owned());
            }
        }
        unused
    }

    /// Removes those of the packages that nobody needs.
    pub fn collect(&self, packages: &[String]) {
        for hex in packages {
            self.shelf.collect(hex);
        }
    }

    /// Removes every package that is neither kept nor leased: once, at the start.
    ///
    /// # Errors
    /// The folder cannot be read; a package that cannot be removed is only logged.
    pub fn sweep(&self) -> Result<(), PackageError> {
        for folder in [&self.shelf.code, &self.shelf.archives] {
            for entry in fs::read_dir(folder).map_err(|source| disk(folder, source))? {
                let entry = entry.map_err(|source| disk(folder, source))?;
                if let Some(hex) = entry.file_name().to_str() {
                    self.shelf.collect(hex);
                }
            }
        }
        Ok(())
    }

    /// Finds a package that is on the disk already.
    pub fn find(&self, hex: &str) -> Option<(PathBuf, Arc<CodeLease>)> {
        let mut books = self.shelf.books();
        let path = self.shelf.code.join(hex);
        // What somebody leases is there, and stays; not to ask counts where thousands share one.
        let is_leased = books.leased.get(hex).is_some_and(|lease| lease.strong_count() > 0);
        (is_leased || path.is_dir()).then(|| (path, self.shelf.lease(&mut books, hex)))
    }

    /// Bytes of the files of code that is in place, at `path`. Cost: lists them, for a package once.
    ///
    /// # Errors
    /// They are more than a package may have, or cannot be read.
    pub fn unzipped(&self, location: &Location, path: &Path) -> Result<u64, PackageError> {
        let Location::Package(hex) = location else { return Ok(list(path)?.bytes) };
        if let Some(size) = self.shelf.books().sizes.get(hex) {
            return Ok(*size);
        }
        let size = list(path)?.bytes;
        let mut books = self.shelf.books();
        // One that went meanwhile would never be forgotten.
        if books.kept.contains_key(hex) || books.leased.contains_key(hex) {
            books.sizes.insert(hex.clone(), size);
        }
        Ok(size)
    }

    /// The code at `path` as an archive, read from its beginning: the one that came, or one made of the files. Cost: reads all
    /// of it, so that no other bytes than those that came are handed out for them.
    ///
    /// # Errors
    /// It is not there, cannot be read, or the disk refuses; a user's own folder is not, or does not stay, what `sha256` says.
    pub fn archive(&self, location: &Location, path: &Path, sha256: &str) -> Result<File, PackageError> {
        if let Location::Package(digest) = location
            && let Ok(mut kept) = File::open(self.shelf.archive(digest))
        {
            let mut hasher = Sha256::new();
            let read = copy_into(&mut kept, &mut hasher).and_then(|()| kept.rewind());
            if read.is_ok() && hex(&hasher.finalize()) == *digest {
                return Ok(kept);
            }
            tracing::error!(
                package = digest,
                "the archive of a package is damaged; one is made of its files until it comes again"
            );
            let path = self.shelf.archive(digest);
            fs::remove_file(&path).map_err(|source| disk(&path, source))?;
        }
        let check = || match location {
            // A copy of it, as others read it, stays as it is.
            Location::Folder(root) if root == path && base64(&list(path)?.fingerprint) != sha256 => {
                Err(PackageError::Changing { path: path.to_owned() })
            }
            _ => Ok(()),
        };
        check()?;
        let packed = self.shelf.pack(path);
        // A file that went while it was read is a change, too.
        check()?;
        packed
    }

    /// Unpacks an archive from memory, as direct uploads come.
    ///
    /// # Errors
    /// The archive is too long, damaged or hostile, or the disk refuses.
    pub fn unpack(&self, zip: &[u8]) -> Result<Package, PackageError> {
        let bytes = zip.len() as u64;
        if bytes >= ZIPPED_MAX {
            return Err(PackageError::ZippedTooLarge { bytes });
        }
        let digest = Sha256::digest(zip);
        self.place(&digest, bytes, Some(&mut &*zip), |tree| match &self.unpacker {
            None => write_archive(zip, tree),
            Some(unpacker) => {
                let archive = in_memory(zip).map_err(|source| disk(Path::new("memory"), source))?;
                confined::hand_over(&**unpacker, archive.as_fd(), tree)
            }
        })
    }

    /// Unpacks an archive of this machine, read piece by piece.
    ///
    /// # Errors
    /// As [`Packages::unpack`]; or the file cannot be read.
    pub fn unpack_file(&self, path: &Path) -> Result<Package, PackageError> {
        let unreadable = |source| PackageError::Unreadable { path: path.to_owned(), source };
        // What waits for something, as `/proc/kmsg` does though it says that it is a file, is not waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
        self.unpack_open(file.into(), path)
    }

    /// The same for an archive that is open; `path` is for what is said of it.
    ///
    /// # Errors
    /// See [`PackageError`].
    pub fn unpack_open(&self, mut file: File, path: &Path) -> Result<Package, PackageError> {
        let unreadable = |source| PackageError::Unreadable { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a file")));
        }
        if metadata.len() > ARCHIVE_MAX {
            return Err(PackageError::UnzippedTooLarge);
        }
        file.rewind().map_err(unreadable)?;
        let mut hasher = Sha256::new();
        copy_into(&mut file, &mut hasher).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        self.place(&hasher.finalize(), metadata.len(), Some(&mut &file), |tree| match &self.unpacker {
            None => write_archive(&file, tree),
            Some(unpacker) => confined::hand_over(&**unpacker, file.as_fd(), tree),
        })
    }

    /// An empty file for an archive on its way, which goes when it is closed.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn scratch(&self) -> Result<File, PackageError> {
        let path = self.shelf.fresh();
        let refused = |source| disk(&path, source);
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(refused)?;
        fs::remove_file(&path).map_err(refused)?;
        Ok(file)
    }

    /// Makes a package of what CloudFormation makes of inline code: the file `index`, and the module that answers custom
    /// resources, if the text loads it.
    ///
    /// # Errors
    /// The text is too long, or the disk refuses.
    pub fn inline(&self, language: Language, text: &str) -> Result<Package, PackageError> {
        if text.len() > INLINE_MAX {
            return Err(PackageError::InlineTooLarge { bytes: text.len() });
        }
        let files = language.files(text);
        let mut hasher = Sha256::new();
        for (name, text) in &files {
            hasher.update(name.as_bytes());
            hasher.update([0]);
            hasher.update(text.as_bytes());
        }
        self.place(&hasher.finalize(), text.len() as u64, None, |tree| {
            for (name, text) in &files {
                tree.file(Path::new(name), false, &mut text.as_bytes(), text.len() as u64)?;
            }
            Ok(())
        })
    }

    /// The user's own folder as it is. What runs as another user could not read a folder that is its owner's alone, as a
    /// umask of 027 or 077 makes them: of such a one the files are a copy that everybody may read, as in an archive that
    /// SAM makes of it.
    ///
    /// # Errors
    /// It cannot be read, holds more than a package may, or cannot be copied.
    pub fn folder(&self, path: &Path) -> Result<Package, PackageError> {
        let listing = list(path)?;
        let (path, lease) = if self.for_others && !listing.is_open {
            let copy = self.copy(path)?;
            (copy.path, copy.lease)
        } else {
            (listing.root.clone(), None)
        };
        Ok(Package {
            location: Location::Folder(listing.root),
            path,
            sha256: base64(&listing.fingerprint),
            size: listing.bytes,
            lease,
        })
    }

    /// Where a folder's files lie that was deployed before, and what keeps them there.
    pub fn of_folder(&self, path: &Path) -> (PathBuf, Option<Arc<CodeLease>>) {
        match self.folder(path) {
            Ok(package) => (package.path, package.lease),
            // What is wrong with it, its next deployment or invocation says.
            Err(_) => (path.to_owned(), None),
        }
    }

    /// A copy of the user's own folder, for those who must not see it change: of one moment, so that no save is in it by
    /// half.
    ///
    /// # Errors
    /// It cannot be read, holds more than a package may, changes all the time, or the disk refuses.
    pub fn copy(&self, path: &Path) -> Result<Package, PackageError> {
        for _ in 1..COPY_TRIES {
            match self.copy_of(path, &list(path)?) {
                Err(PackageError::Changing { .. }) => {}
                done => return done,
            }
        }
        self.copy_of(path, &list(path)?)
    }

    /// The same of a folder that somebody works in: a save that is under way is waited for, for a second.
    ///
    /// # Errors
    /// As [`Packages::copy`].
    pub fn copy_of_work(&self, path: &Path) -> Result<Package, PackageError> {
        let begun = Instant::now();
        let known = self.worked().iter().find(|(worked, _)| worked == path).map(|(_, empty)| empty.clone());
        for _ in 0..SAVE_TRIES {
            let listing = list(path)?;
            // Who saves truncates first, and on a busy machine writes the rest much later. The time of a file that is being
            // truncated says nothing: it is that of the save before until the kernel is done.
            let emptied = known.as_ref().is_some_and(|known| !listing.empty.is_subset(known));
            if !listing.is_young(SystemTime::now()) && (!emptied || begun.elapsed() > EMPTIED) {
                let empty = listing.empty.clone();
                match self.copy_of(path, &listing) {
                    Err(PackageError::Changing { .. }) => {}
                    done => {
                        self.remember(path, empty);
                        return done;
                    }
                }
            }
            std::thread::sleep(SAVE_STEP);
        }
        self.copy(path)
    }

    fn worked(&self) -> MutexGuard<'_, VecDeque<(PathBuf, BTreeSet<PathBuf>)>> {
        self.worked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was empty in a folder that has just been copied. Folders that are gone, or were left alone for longest, go.
    fn remember(&self, path: &Path, empty: BTreeSet<PathBuf>) {
        let mut worked = self.worked();
        worked.retain(|(known, _)| known != path && known.is_dir());
        while worked.len() >= WORKED_MAX {
            worked.pop_front();
        }
        worked.push_back((path.to_owned(), empty));
    }

    fn copy_of(&self, path: &Path, listing: &Listing) -> Result<Package, PackageError> {
        let mut hasher = Sha256::new();
        hasher.update(b"copy of a folder");
        hasher.update(listing.root.as_os_str().as_encoded_bytes());
        hasher.update(listing.fingerprint);
        self.place(&hasher.finalize(), listing.bytes, None, |tree| {
            let copied = folder::copy(&listing.root, tree);
            // A file that went while it was read is a change, too.
            let now = list(path)?;
            if (&now.root, now.fingerprint) != (&listing.root, listing.fingerprint) {
                return Err(PackageError::Changing { path: path.to_owned() });
            }
            copied
        })
    }

    /// Puts a package in its place, unless it is there; and the archive that it came as.
    fn place(
        &self,
        digest: &[u8],
        size: u64,
        archive: Option<&mut dyn Read>,
        write: impl FnOnce(&mut tree::Tree) -> Result<(), PackageError>,
    ) -> Result<Package, PackageError> {
        let hex = hex(digest);
        let package = |path, lease| Package {
            location: Location::Package(hex.clone()),
            path,
            sha256: base64(digest),
            size,
            lease: Some(lease),
        };
        if let Some((path, lease)) = self.find(&hex) {
            let kept = self.shelf.archive(&hex);
            let is_kept = || fs::metadata(&kept).is_ok_and(|kept| kept.len() == size);
            // It was unpacked before archives were kept, or its own was damaged.
            if let Some(archive) = archive.filter(|_| !is_kept()) {
                put_in_place(&self.shelf.stage_archive(archive)?.0, &kept)?;
            }
            return Ok(package(path, lease));
        }
        let staged = Staged::new(&self.shelf)?;
        let mut tree = tree::Tree::create(&staged.0)?;
        write(&mut tree)?;
        if let Some((name, mode)) = &tree.closed {
            tracing::warn!(
                package = hex,
                "`{name}` of an archive is not everybody's to read (mode {mode:o}): it works here, and is `Permission denied` on AWS. Files need 644, folders and programs 755"
            );
        }
        tree.persist()?;
        let archive = archive.map(|archive| self.shelf.stage_archive(archive)).transpose()?;
        let mut books = self.shelf.books();
        let path = self.shelf.code.join(&hex);
        if !path.is_dir() {
            // The archive first: whoever finds the package finds it.
            if let Some(archive) = archive {
                put_in_place(&archive.0, &self.shelf.archive(&hex))?;
            }
            put_in_place(&staged.0, &path)?;
        }
        let lease = self.shelf.lease(&mut books, &hex);
        Ok(package(path, lease))
    }
}

impl Shelf {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(self: &Arc<Self>, books: &mut Books, hex: &str) -> Arc<CodeLease> {
        if let Some(lease) = books.leased.get(hex).and_then(Weak::upgrade) {
            return lease;
        }
        let lease = Arc::new(CodeLease { hex: hex.to_owned(), shelf: Arc::clone(self) });
        books.leased.insert(hex.to_owned(), Arc::downgrade(&lease));
        lease
    }

    /// Removes a package if nobody needs it. The rename is quick and happens under the lock; the removing is not, and happens
    /// elsewhere.
    fn collect(&self, hex: &str) {
        let graves = {
            let mut books = self.books();
            if books.kept.contains_key(hex) {
                return;
            }
            if books.leased.get(hex).is_some_and(|lease| lease.strong_count() > 0) {
                return;
            }
            books.leased.remove(hex);
            books.sizes.remove(hex);
            [self.code.join(hex), self.archive(hex)].map(|path| {
                let grave = self.fresh();
                match fs::rename(path, &grave) {
                    Ok(()) => Some(grave),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => {
                        tracing::warn!(%error, package = hex, "an unused code package could not be removed");
                        None
                    }
                }
            })
        };
        graves.into_iter().flatten().for_each(|grave| self.removals.take(grave));
    }

    /// A name in staging that was never used by this process, nor is by what the one before left there.
    fn fresh(&self) -> PathBuf {
        self.staging.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// A folder in staging that goes unless it was renamed away.
struct Staged(PathBuf);

impl Staged {
    fn new(shelf: &Shelf) -> Result<Self, PackageError> {
        let path = shelf.fresh();
        fs::create_dir_all(&path).map_err(|source| disk(&path, source))?;
        let staged = Self(path);
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&staged.0, open).map_err(|source| disk(&staged.0, source))?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "staging could not be removed");
            }
            _ => {}
        }
    }
}

/// Renames what was staged, for good.
fn put_in_place(staged: &Path, path: &Path) -> Result<(), PackageError> {
    let fail = |source| disk(path, source);
    fs::rename(staged, path).map_err(fail)?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}

fn write_archive(
    source: &(impl archive::ReadAt + ?Sized),
    tree: &mut tree::Tree,
) -> Result<(), PackageError> {
    let archive = archive::Archive::open(source)?;
    let layout = layout::Layout::plan(&archive)?;
    layout.write(&archive, tree)
}

/// An archive as a file that only descriptors name.
fn in_memory(zip: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("archive", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(zip)?;
    Ok(file)
}

fn copy_into(file: &mut File, hasher: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn disk(path: &Path, source: io::Error) -> PackageError {
    PackageError::Disk { path: path.to_owned(), source }
}

fn base64(digest: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(digest)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("four bits"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// A folder as a umask of 077 makes it.
    fn closed() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        for (name, own) in [("bootstrap", 0o700), ("lib/data", 0o600), ("lib", 0o700), ("", 0o700)] {
            let path = folder.path().join(name);
            if !path.exists() {
                fs::write(&path, name).unwrap();
            }
            fs::set_permissions(path, fs::Permissions::from_mode(own)).unwrap();
        }
        folder
    }

    /// What layers hold is asked of each function that has them.
    #[test]
    fn a_package_is_measured_once_and_a_folder_each_time() {
        let (data, code) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(code.path().join("app.py"), "12345").unwrap();
        let packages = Packages::open(data.path()).unwrap();
        let (copy, folder) = (packages.copy(code.path()).unwrap(), packages.folder(code.path()).unwrap());
        let size = |package: &Package| packages.unzipped(&package.location, &package.path).unwrap();
        assert_eq!((size(&copy), size(&folder)), (5, 5));
        for path in [&copy.path, &folder.path] {
            fs::write(path.join("more.py"), "12345").unwrap();
        }
        assert_eq!((size(&copy), size(&folder)), (5, 10));
        drop(copy);
        assert!(packages.shelf.books().sizes.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn what_a_crash_left_of_a_removal_goes_and_nothing_is_made_of_it() {
        let data = tempfile::tempdir().unwrap();
        let left = ["7", "archive"].map(|name| data.path().join("staging").join(name));
        fs::create_dir_all(left[0].join("lib")).unwrap();
        fs::write(left[0].join("lib/word"), "old").unwrap();
        fs::write(&left[1], "old").unwrap();
        let packages = Packages::open(data.path()).unwrap();
        assert_eq!(packages.shelf.fresh(), data.path().join("staging/8"));
        let begun = Instant::now();
        while left.iter().any(|path| path.exists()) {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
    }

    #[test]
    fn folders_that_somebody_worked_in_are_forgotten() {
        let (data, code) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let packages = Packages::open(data.path()).unwrap();
        let folders: Vec<_> = (0..=WORKED_MAX).map(|n| code.path().join(n.to_string())).collect();
        for folder in &folders {
            fs::create_dir(folder).unwrap();
            packages.remember(folder, BTreeSet::new());
        }
        packages.remember(&folders[1], BTreeSet::new());
        let known = || packages.worked().iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(known(), [&folders[2..], &folders[1..2]].concat());
        fs::remove_dir(&folders[2]).unwrap();
        packages.remember(&folders[1], BTreeSet::new());
        assert_eq!(known(), [&folders[3..], &folders[1..2]].concat());
    }

    #[test]
    fn a_folder_of_its_owners_alone_is_read_by_others_in_a_copy() {
        let (data, code) = (tempfile::tempdir().unwrap(), closed());
        let mut packages = Packages::open(data.path()).unwrap();
        packages.for_others = true;
        let package = packages.folder(code.path()).unwrap();
        assert_eq!(package.location, Location::Folder(fs::canonicalize(code.path()).unwrap()));
        assert!(package.path.starts_with(data.path()), "{package:?}");
        let modes = ["", "bootstrap", "lib", "lib/data"].map(|name| mode(&package.path.join(name)));
        assert_eq!(modes, [0o755, 0o755, 0o755, 0o644]);
        assert_eq!(packages.of_folder(code.path()).0, package.path);

        // The next save has a copy of its own; the one before goes with whoever ran it.
        fs::write(code.path().join("lib/data"), "another").unwrap();
        let saved = packages.folder(code.path()).unwrap();
        assert_eq!(fs::read_to_string(saved.path.join("lib/data")).unwrap(), "another");
        assert_ne!(saved.sha256, package.sha256);
        let old = package.path.clone();
        drop(package);
        assert!(!old.exists() && saved.path.exists());
    }

    #[test]
    fn a_folder_that_all_may_read_is_bound_as_it_is_and_so_is_the_runners_own() {
        let (data, code) = (tempfile::tempdir().unwrap(), closed());
        let mut packages = Packages::open(data.path()).unwrap();
        packages.for_others = false;
        let root = fs::canonicalize(code.path()).unwrap();
        assert_eq!(packages.folder(code.path()).unwrap().path, root);
        packages.for_others = true;
        for (name, open) in [("", 0o755), ("bootstrap", 0o755), ("lib", 0o755), ("lib/data", 0o644)] {
            assert_ne!(packages.folder(code.path()).unwrap().path, root, "{name} is closed");
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(open)).unwrap();
        }
        assert_eq!(packages.folder(code.path()).unwrap().path, root);
    }
}
