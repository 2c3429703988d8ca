//! Opening: one process per data folder, the store read and checked, left-overs of a crash removed.

use super::functions::{self, Code};
use super::{
    CodeSigningConfig, Control, Functions, Observer, Options, References, SigningConfigs, Writer, package,
    record,
};
use crate::function::{Function, State, StateReason};
use crate::layer::Layers;
use crate::package::{CodeLease, Location, PackageError, Packages};
use crate::store::{Embedded, Store, StoreError};
use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

/// How often a folder in use is looked at again. A process that was just killed, or a child of it that has not yet begun
/// its own program, holds the folder for some milliseconds more.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Fewer plain functions than these are understood at the start: it takes a millisecond, and what is wrong with their code
/// is told before the ready line.
const PLAIN_MIN: usize = 100;

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on it.
    #[error(
        "the data folder {} is in use by another Onrush{}; stop that one, or give another folder with --data-dir",
        data_dir.display(),
        process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    InUse {
        /// The folder.
        data_dir: PathBuf,
        /// The other process, if it left its id.
        process: Option<u32>,
    },
    /// A newer Onrush has written it.
    #[error(
        "the data folder {} was written by a newer Onrush (layout {found}, this one knows {known}); run that one, or give another folder with --data-dir",
        data_dir.display()
    )]
    NewerSchema {
        /// The folder.
        data_dir: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest layout that this Onrush knows.
        known: u32,
    },
    /// A row cannot be understood.
    #[error("the data folder {} is damaged: row `{key}`: {detail}", data_dir.display())]
    DamagedRow {
        /// The folder.
        data_dir: PathBuf,
        /// Which row.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// The folder cannot be made, read or written.
    #[error("the data folder {}: {source}", data_dir.display())]
    Folder {
        /// The folder.
        data_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store's file cannot be opened.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] StoreError),
    /// The code folders cannot be opened.
    #[error("the code folders cannot be opened: {0}")]
    Packages(#[from] PackageError),
}

/// A data folder that is this process's, read and checked: what [`Control::of`] begins with. It depends on nothing but the
/// folder, so that it can be read while other things are made ready.
pub struct Stored {
    data_dir: PathBuf,
    store: Box<dyn Store>,
    packages: Packages,
    writer: Writer,
    functions: Functions,
    layers: Layers,
    signing: SigningConfigs,
    lock: File,
}

impl Stored {
    /// Takes a data folder and reads it; made if it is not there. `passable` is that of [`Options`].
    ///
    /// # Errors
    /// Another process has it open, a newer Onrush wrote it, or it cannot be used.
    pub fn read(data_dir: &Path, passable: bool) -> Result<Self, OpenError> {
        fs::create_dir_all(data_dir).map_err(|source| folder(data_dir, source))?;
        // Nobody else looks around in it: code and what was built may hold secrets, and is readable for sandboxes' users.
        // Where the folder is not ours to change, it stays as it is.
        let mode = if passable { 0o711 } else { 0o700 };
        if let Err(error) = fs::set_permissions(data_dir, fs::Permissions::from_mode(mode)) {
            tracing::debug!(%error, "the data folder keeps its mode");
        }
        let mut tries = 0;
        let (lock, store) = loop {
            match Self::take(data_dir) {
                Err(OpenError::InUse { .. } | OpenError::Store(StoreError::InUse { .. }))
                    if tries < LOCK_TRIES =>
                {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                taken => break taken?,
            }
        };
        Self::over(data_dir, Box::new(store), lock)
    }

    fn take(data_dir: &Path) -> Result<(File, Embedded), OpenError> {
        let lock = lock(data_dir)?;
        Ok((lock, Embedded::open(&data_dir.join("store.redb"))?))
    }

    /// Reads any store; `lock` keeps other processes away as long as the value lives.
    pub(super) fn over(data_dir: &Path, store: Box<dyn Store>, lock: File) -> Result<Self, OpenError> {
        let data_dir = data_dir.to_owned();
        let contents = record::read(&*store)?.map_err(|unreadable| match unreadable {
            record::Unreadable::Newer(found) => {
                OpenError::NewerSchema { data_dir: data_dir.clone(), found, known: record::SCHEMA }
            }
            record::Unreadable::Row { key, detail } => {
                OpenError::DamagedRow { data_dir: data_dir.clone(), key, detail }
            }
        })?;
        if contents.schema.is_none() {
            store.commit(&[record::schema()])?;
        }
        let packages = Packages::open(&data_dir)?;
        let mut known: Vec<_> = contents.functions.into_values().collect();
        let mut writer = Writer::new(contents.version_key);
        let (mut codes, mut plain) = (HashMap::new(), Vec::with_capacity(contents.plain.len()));
        let rows = Arc::new(contents.plain_rows);
        let are_few = contents.plain.len() < PLAIN_MIN;
        for (sketch, row) in contents.plain {
            let code = match codes.get(&sketch.hex) {
                _ if are_few => None,
                Some(code) => Clone::clone(code),
                None => {
                    let code = packages.find(&sketch.hex).map(|(path, lease)| Arc::new(Code { path, lease }));
                    codes.insert(sketch.hex.clone(), code.clone());
                    code
                }
            };
            let Some(code) = code else {
                known.push(Arc::new(functions::again(&rows[row])));
                continue;
            };
            writer.code_bytes += sketch.code_size;
            packages.refer(&[&sketch.hex], &[]);
            plain.push(sketch.plain(code, &rows, row));
        }
        let mut last = None;
        for function in known.iter_mut().map(Arc::make_mut) {
            find_code(&packages, function, &mut last);
            for version in function.published.versions.values_mut() {
                find_code(&packages, Arc::make_mut(version), &mut last);
            }
            let references = References::of(Some(function));
            writer.add(&references);
            packages.refer(&references.packages, &[]);
        }
        let by_arn = |config: CodeSigningConfig| (config.code_signing_config_arn.clone(), Arc::new(config));
        let signing: SigningConfigs = contents.signing.into_iter().map(by_arn).collect();
        let layers: Layers = contents
            .layers
            .into_iter()
            .map(|mut layer| {
                for version in layer.versions.values_mut() {
                    match &version.layer.location {
                        Location::Folder(path) => {
                            (version.layer.path, version.layer.lease) = packages.of_folder(path);
                        }
                        Location::Package(hex) => {
                            if let Some((path, lease)) = packages.find(hex) {
                                (version.layer.path, version.layer.lease) = (path, Some(lease));
                            }
                        }
                        // No layer is one.
                        Location::Image(_) => {}
                    }
                }
                (layer.name.clone(), Arc::new(layer))
            })
            .collect();
        for version in layers.values().flat_map(|layer| layer.versions.values()) {
            packages.refer(package(&version.layer.location).as_slice(), &[]);
        }
        packages.sweep()?;
        let functions = Functions::of(known, plain);
        Ok(Self { data_dir, store, packages, writer, functions, layers, signing, lock })
    }
}

impl Control {
    /// Opens a data folder. The observer hears of changes from now on; what is there already is in
    /// [`Control::functions`]. It is called by the thread that makes the change, with the writer's lock held: it must
    /// be quick and must not call writers.
    ///
    /// # Errors
    /// Another process has it open, a newer Onrush wrote it, or it cannot be used.
    pub fn open(options: Options, observer: Observer) -> Result<Self, OpenError> {
        let stored = Stored::read(&options.data_dir, options.passable)?;
        Ok(Self::of(stored, options, observer))
    }

    /// The same for a folder that was read ahead, with its own options.
    pub fn of(stored: Stored, options: Options, observer: Observer) -> Self {
        Self {
            options: Options { data_dir: stored.data_dir, ..options },
            packages: stored.packages,
            store: stored.store,
            writer: Mutex::new(stored.writer),
            snapshot: RwLock::new(Arc::new(stored.functions)),
            layers: RwLock::new(Arc::new(stored.layers)),
            signing: RwLock::new(Arc::new(stored.signing)),
            subnets: RwLock::default(),
            images: None,
            objects: None,
            pulls: Default::default(),
            images_told: Mutex::default(),
            observer,
            _lock: stored.lock,
        }
    }
}

/// A package that was found: its name, its folder, what keeps it.
type Found = (String, PathBuf, Arc<CodeLease>);

/// Fills in where code lies now; a function whose code is gone stays, and says so. `last` is the package that was found last:
/// of thousands of functions many share one.
fn find_code(packages: &Packages, function: &mut Function, last: &mut Option<Found>) {
    let mut missing = None;
    let mut find = |location: &Location| -> (PathBuf, Option<Arc<CodeLease>>) {
        match location {
            Location::Folder(path) => packages.of_folder(path),
            Location::Package(hex) => {
                if last.as_ref().is_none_or(|(found, ..)| found != hex) {
                    *last = packages.find(hex).map(|(path, lease)| (hex.clone(), path, lease));
                }
                match last {
                    Some((_, path, lease)) => (path.clone(), Some(lease.clone())),
                    None => {
                        missing = Some(hex.clone());
                        (PathBuf::new(), None)
                    }
                }
            }
            // Found by `Control::with_images`.
            Location::Image(_) => (PathBuf::new(), None),
        }
    };
    (function.code, function.lease) = find(&function.location);
    for layer in &mut function.layers {
        (layer.path, layer.lease) = find(&layer.location);
    }
    if let Some(hex) = missing {
        tracing::error!(
            function = function.name,
            package = hex,
            "the code package is missing from the data folder"
        );
        function.state = State::Failed;
        function.state_reason = Some(StateReason {
            code: "InvalidZipFileException".to_owned(),
            text: format!(
                "The code package {hex} is missing from the data folder; update the function's code."
            ),
        });
    }
}

/// Takes the folder for this process; the lock goes with the process, however it ends.
pub(super) fn lock(data_dir: &Path) -> Result<File, OpenError> {
    let fail = |source| folder(data_dir, source);
    let path = data_dir.join("lock");
    let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = open.map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = (&mut file).take(32).read_to_string(&mut text);
            let process = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { data_dir: data_dir.to_owned(), process });
        }
        Err(TryLockError::Error(source)) => return Err(fail(source)),
    }
    // Only a help for people, so a full disk does not matter here.
    let id = format!("{}\n", std::process::id());
    let noted = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(id.as_bytes()));
    if let Err(error) = noted {
        tracing::debug!(%error, "the process id was not noted in the lock");
    }
    Ok(file)
}

fn folder(data_dir: &Path, source: io::Error) -> OpenError {
    OpenError::Folder { data_dir: data_dir.to_owned(), source }
}
