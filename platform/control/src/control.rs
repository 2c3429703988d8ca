//! The room's one value: a snapshot for readers, one writer at a time, and the order check, store, publish, tell.

mod alias;
mod code;
mod concurrency;
mod deploy;
mod event_invoke;
mod function;
mod functions;
mod image;
mod layer;
mod open;
mod policy;
mod provisioned;
mod pull;
mod record;
mod resolve;
mod restore;
mod signing;
mod stored;
mod tags;
mod url;
mod version;

pub use alias::{AliasSettings, RoutingSettings};
pub use layer::{LayerPermission, PublishLayer};
pub use open::{OpenError, Stored};
pub use policy::{AddPermission, POLICY_MAX};
pub use pull::not_ready;
pub use resolve::check_qualifier;
pub use restore::{Deployment, Restored};
pub use signing::{
    AllowedPublishers, CodeSigningConfig, CodeSigningPolicies, CodeSigningSettings, SigningConfigs,
};
pub use stored::RuntimeManagementSettings;
pub use url::url_id;
pub use version::PublishVersion;

use self::functions::Functions;
use crate::function::Function;
use crate::image::Images;
use crate::layer::Layers;
use crate::object::Objects;
use crate::package::{Location, Packages};
use crate::store::{Store, StoreError, Write};
use model::error::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Functions of one account. Ours: AWS bounds the stored bytes alone.
pub const FUNCTIONS_MAX: usize = 100_000;
/// Bytes of all functions' code. Source: Lambda quotas, "Uploaded functions ... 75 GB", published.
pub const CODE_STORAGE_MAX: u64 = 75 * 1024 * 1024 * 1024;

/// What a control plane is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything durable lies; made if it is not there.
    pub data_dir: PathBuf,
    /// Twelve digits.
    pub account_id: String,
    /// The Region in every ARN.
    pub region: String,
    /// Concurrency of the whole account.
    pub account_concurrency: u32,
    /// What reservations may not touch.
    pub unreserved_minimum: u32,
    /// Whether SnapStart takes runtimes that AWS does not restore.
    pub experimental_snap_start: bool,
    /// Whether other users may pass through the data folder, for functions without walls: they run as others.
    pub passable: bool,
}

/// What the observer is told, after the change is durable and readers see it. Changes come one at a time, in order.
#[derive(Clone, Debug)]
pub enum Change {
    /// A function is new or has changed. Its `version_key` is new if code or configuration changed, and the same if
    /// only its URL, tags or policy did.
    Put(Arc<Function>),
    /// A function is gone.
    Removed {
        /// Its name.
        name: String,
    },
    /// A function's reservation changed; nothing else did, and no [`Change::Put`] comes with it.
    Reserved {
        /// Its name.
        name: String,
        /// The reservation from now on.
        reserved: Option<u32>,
    },
}

type Observer = Box<dyn Fn(Change) + Send + Sync>;

/// All functions of one account in one Region, durable in one folder.
///
/// Every method may touch the disk except [`Control::functions`], [`Control::function`], [`Control::resolve`] and the
/// other readers; call writers from a thread that may block.
pub struct Control {
    options: Options,
    packages: Packages,
    images: Option<Arc<dyn Images>>,
    objects: Option<Arc<dyn Objects>>,
    store: Box<dyn Store>,
    snapshot: RwLock<Arc<Functions>>,
    layers: RwLock<Arc<Layers>>,
    signing: RwLock<Arc<SigningConfigs>>,
    /// The VPC of each subnet that a template has.
    subnets: RwLock<BTreeMap<String, String>>,
    writer: Mutex<Writer>,
    pulls: pull::Pulls,
    /// One at a time says which images stay, so that the newest word is the last.
    images_told: Mutex<()>,
    observer: Observer,
    /// Held so that no second process works on the folder.
    _lock: File,
}

/// What only the writer needs.
#[derive(Debug)]
struct Writer {
    /// The last key that was given out; persisted with every function that takes one.
    version_key: u64,
    /// Bytes of the code of all functions, of every version.
    code_bytes: u64,
    /// How many versions run each image.
    images: BTreeMap<String, usize>,
}

/// What an edit decided, under the writer's lock.
enum Edit {
    /// Nothing differs.
    Keep(Arc<Function>),
    /// A function as it is from now on, and whether its code or configuration changed.
    Put(Box<Function>, Fresh),
    /// Only the reservation changed.
    Reserve(Box<Function>),
    /// The function goes.
    Remove(Arc<Function>),
}

/// Whether a change needs new execution environments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    /// Code or configuration changed: a new version key.
    Version,
    /// The same, back to what was before: what was published of that is still what was published of it.
    Again,
    /// Only what lies around the function changed.
    Around,
}

impl Control {
    /// Why no change can be stored at present, if that is known. Waits for nothing.
    pub fn trouble(&self) -> Option<String> {
        self.store.trouble()
    }

    /// Ends the store in good order; changes are refused from now on.
    pub fn close(&self) {
        self.store.close();
    }

    /// All functions, by name. Cost: one pointer copy each, and 10 us for each that nobody asked for since the start.
    pub fn functions(&self) -> Vec<Arc<Function>> {
        self.snapshot().values().cloned().collect()
    }

    /// At most `max` functions by name, those from `name` on. Cost: as [`Control::functions`], and a lookup.
    pub fn functions_from(&self, name: &str, max: usize) -> Vec<Arc<Function>> {
        let functions = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        functions.from(name).take(max).cloned().collect()
    }

    /// All functions but those that are plain since the start: whatever has a reservation, a version, a URL, an image, a
    /// network or a template is among them.
    pub fn known_functions(&self) -> Vec<Arc<Function>> {
        self.snapshot().known().cloned().collect()
    }

    /// The names of those others.
    pub fn plain_names(&self) -> Vec<String> {
        self.snapshot().plain_names().map(str::to_owned).collect()
    }

    /// Hands name, ARN and the template's name of each function to `see`, by name.
    pub fn each_name(&self, mut see: impl FnMut(&str, &str, Option<&str>)) {
        self.snapshot().names().for_each(|(name, arn, logical_id)| see(name, arn, logical_id));
    }

    /// How many functions there are.
    pub fn count(&self) -> usize {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The function of that bare name. Cost: a short read lock that no writer holds over I/O, and a lookup; 10 us if nobody asked
    /// for it since the start.
    pub fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Bytes of the code of all functions and their versions, and of all layers.
    pub fn code_bytes(&self) -> u64 {
        let layers = self.layers();
        let layers = layers.values().flat_map(|layer| layer.versions.values());
        let functions = self.writer.lock().unwrap_or_else(PoisonError::into_inner).code_bytes;
        functions + layers.map(|version| version.layer.code_size).sum::<u64>()
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn snapshot(&self) -> Arc<Functions> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs one change: decide on the newest state, make it durable, show it to readers, tell the observer. Cost: the
    /// size of the function that changes, however many there are beside it.
    fn change(
        &self,
        edit: impl FnOnce(&Functions) -> Result<Edit, ApiError>,
    ) -> Result<Arc<Function>, ApiError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot();
        let (function, after, change, batch) = match edit(&before)? {
            Edit::Keep(function) => return Ok(function),
            Edit::Remove(function) => {
                let change = Change::Removed { name: function.name.clone() };
                let mut batch = vec![Write::Remove(record::key(&function.name))];
                batch.extend(record::versions(&function, None));
                (function, None, change, batch)
            }
            Edit::Reserve(function) => {
                let function = Arc::new(*function);
                let change = Change::Reserved { name: function.name.clone(), reserved: function.reserved };
                let batch = vec![record::put(&function)];
                (function.clone(), Some(function), change, batch)
            }
            Edit::Put(mut function, fresh) => {
                let mut batch = Vec::with_capacity(2);
                let former = function.version_key;
                if fresh != Fresh::Around {
                    // A key that was decided on but not committed is simply skipped.
                    writer.version_key += 1;
                    function.version_key = writer.version_key;
                    function.last_modified = crate::clock::now();
                    batch.push(record::version_key(writer.version_key));
                }
                let known = before.get(&function.name);
                for (number, version) in &mut function.published.versions {
                    let follows = fresh == Fresh::Again && version.source_key == former;
                    if follows {
                        Arc::make_mut(version).source_key = function.version_key;
                    }
                    // One that is to be published gets its row with its key; one that comes back, here.
                    let stored = known.and_then(|known| known.published.versions.get(number));
                    let is_new = stored.is_none();
                    // A policy of its own that changes is told by its revision.
                    let is_renewed = stored.is_some_and(|stored| stored.revision_id != version.revision_id);
                    if follows || is_renewed || is_new && version.version_key != 0 {
                        batch.push(record::put_version(version));
                    }
                }
                self.stamp_versions(&mut function, &mut writer, &mut batch)?;
                let old = before.get(&function.name);
                let function = if fresh == Fresh::Around && old.is_some_and(|old| is_beside(old, &function)) {
                    Arc::new(*function)
                } else {
                    self.stamp(*function)?
                };
                if let Some(before) = before.get(&function.name) {
                    batch.extend(record::versions(before, Some(&function)));
                }
                batch.push(record::put(&function));
                (function.clone(), Some(function.clone()), Change::Put(function), batch)
            }
        };
        let old = before.get(&function.name).cloned();
        let (of_old, of_new) = (References::of(old.as_deref()), References::of(after.as_deref()));
        let bytes = writer.code_bytes - of_old.code_bytes + of_new.code_bytes;
        if matches!(change, Change::Put(_)) {
            check_quotas(bytes, before.len() + usize::from(old.is_none()))?;
        }
        // What readers see can then be changed in place.
        drop(before);
        self.store.commit(&batch).map_err(|error| store_error(&error))?;
        writer.code_bytes = bytes;
        let images_differ = writer.count_images(&of_new, &of_old);
        {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            let functions = Arc::make_mut(&mut snapshot);
            match &after {
                Some(after) => functions.insert(Arc::clone(after)),
                None => functions.remove(&function.name),
            };
        }
        (self.observer)(change);
        let gone = self.packages.refer(&of_new.packages, &of_old.packages);
        drop(writer);
        // The last holder of an old function may be this one, and removing its code takes time.
        drop(old);
        if images_differ {
            self.tell_images();
        }
        self.packages.collect(&gone);
        Ok(function)
    }

    fn stamp(&self, mut function: Function) -> Result<Arc<Function>, ApiError> {
        function.revision_id = self.fresh_id()?;
        Ok(Arc::new(function))
    }

    /// Gives versions that are new their keys and revisions, and writes them down.
    fn stamp_versions(
        &self,
        function: &mut Function,
        writer: &mut Writer,
        batch: &mut Vec<Write>,
    ) -> Result<(), ApiError> {
        for version in function.published.versions.values_mut().filter(|version| version.version_key == 0) {
            let version = Arc::make_mut(version);
            writer.version_key += 1;
            version.version_key = writer.version_key;
            version.revision_id = self.fresh_id()?;
            if version.source_key == 0 {
                // Published with the very change that made it.
                version.source_key = function.version_key;
            }
            batch.push(record::version_key(writer.version_key));
            batch.push(record::put_version(version));
        }
        Ok(())
    }

    /// A new revision.
    fn fresh_id(&self) -> Result<String, ApiError> {
        crate::clock::uuid().map_err(|error| {
            ApiError::new(ErrorCode::Service, format!("the system gave no random bytes: {error}"))
        })
    }
}

/// Whether all that differs has a revision of its own or none, as aliases, URLs and what is set for qualifiers: who locks a
/// function by its revision is not disturbed by that. A version that is published changes its function's.
///
/// Source: recorded on AWS for aliases and policies; assumed for the others.
fn is_beside(before: &Function, after: &Function) -> bool {
    if before.published.last_version != after.published.last_version {
        return false;
    }
    let mut same = before.clone();
    same.published.clone_from(&after.published);
    same.url.clone_from(&after.url);
    same.event_invoke.clone_from(&after.event_invoke);
    same.reserved = after.reserved;
    same == *after
}

fn check_quotas(bytes: u64, functions: usize) -> Result<(), ApiError> {
    if bytes > CODE_STORAGE_MAX || functions > FUNCTIONS_MAX {
        return Err(ApiError::new(
            ErrorCode::CodeStorageExceeded,
            format!(
                "Code storage limit exceeded: {bytes} of {CODE_STORAGE_MAX} bytes, {functions} of {FUNCTIONS_MAX} functions. Delete functions that are not needed.",
            ),
        ));
    }
    Ok(())
}

impl Writer {
    fn new(version_key: u64) -> Self {
        Self { version_key, code_bytes: 0, images: BTreeMap::new() }
    }

    /// Counts what one function that is there already needs.
    fn add(&mut self, references: &References<'_>) {
        self.code_bytes += references.code_bytes;
        self.count_images(references, &References::default());
    }

    /// Whether there is an image now that nobody ran before, or the other way round.
    fn count_images(&mut self, new: &References<'_>, old: &References<'_>) -> bool {
        let before = self.images.len();
        let mut differ = false;
        for id in &new.images {
            let count = self.images.entry((*id).to_owned()).or_insert(0);
            differ |= *count == 0;
            *count += 1;
        }
        for id in &old.images {
            let Some(count) = self.images.get_mut(*id) else { continue };
            *count -= 1;
            if *count == 0 {
                self.images.remove(*id);
                differ = true;
            }
        }
        differ || self.images.len() != before
    }
}

/// What one function needs to be kept, all its versions together; each as often as it is referred to.
#[derive(Debug, Default)]
struct References<'a> {
    code_bytes: u64,
    packages: Vec<&'a str>,
    images: Vec<&'a str>,
}

impl<'a> References<'a> {
    fn of(function: Option<&'a Function>) -> Self {
        let mut references = Self::default();
        let published = function.into_iter().flat_map(|function| function.published.versions.values());
        for version in function.into_iter().chain(published.map(|version| &**version)) {
            references.code_bytes += version.code_size;
            let layers = version.layers.iter().map(|layer| &layer.location);
            references.packages.extend(layers.chain([&version.location]).filter_map(package));
            references.images.extend(version.image.as_ref().map(|image| image.id.as_str()));
        }
        references
    }
}

/// The package that a location names.
fn package(location: &Location) -> Option<&str> {
    match location {
        Location::Package(hex) => Some(hex),
        Location::Folder(_) | Location::Image(_) => None,
    }
}

/// What a caller hears when the store failed; the log hears more.
fn store_error(error: &StoreError) -> ApiError {
    // At the end nothing is wrong with it.
    if !matches!(error, StoreError::Closed { .. }) {
        tracing::error!(%error, "a change could not be stored");
    }
    let message = match error {
        StoreError::Full { path } => {
            format!("No space left for {}. Free some and try again; nothing was changed.", path.display())
        }
        other => format!("The change could not be stored and does not count: {other}"),
    };
    ApiError::new(ErrorCode::Service, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Deploy, DeployCode, Settings};
    use crate::store::Rows;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A store in memory that fails when it is told to.
    #[derive(Clone, Default)]
    struct Failing {
        rows: Arc<Mutex<Rows>>,
        fails: Arc<AtomicBool>,
    }

    impl Store for Failing {
        fn load(&self) -> Result<Rows, StoreError> {
            Ok(self.rows.lock().unwrap().clone())
        }

        fn commit(&self, batch: &[Write]) -> Result<(), StoreError> {
            if self.fails.load(Ordering::SeqCst) {
                return Err(StoreError::ReadOnly { path: PathBuf::from("store"), cause: "EIO".to_owned() });
            }
            let mut rows = self.rows.lock().unwrap();
            for write in batch {
                match write {
                    Write::Put(key, value) => drop(rows.insert(key.clone(), value.clone())),
                    Write::Remove(key) => drop(rows.remove(key)),
                }
            }
            Ok(())
        }
    }

    fn deploy(text: &str) -> Deploy {
        let settings = Settings {
            runtime: Some("python3.13".to_owned()),
            handler: Some("index.handler".to_owned()),
            ..Settings::default()
        };
        Deploy {
            name: "cart".to_owned(),
            code: DeployCode::Inline(text.to_owned()),
            settings,
            ..Deploy::default()
        }
    }

    #[test]
    fn what_cannot_be_stored_never_happened() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            data_dir: folder.path().to_owned(),
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            account_concurrency: 1_000,
            unreserved_minimum: 100,
            experimental_snap_start: false,
            passable: false,
        };
        let (store, heard) = (Failing::default(), Arc::new(AtomicUsize::new(0)));
        let observer = {
            let heard = Arc::clone(&heard);
            Box::new(move |_| {
                heard.fetch_add(1, Ordering::SeqCst);
            })
        };
        let lock = open::lock(folder.path()).unwrap();
        let control = Control::of(
            Stored::over(folder.path(), Box::new(store.clone()), lock).unwrap(),
            options,
            observer,
        );
        let before = control.deploy(deploy("one")).unwrap();
        let packages = || std::fs::read_dir(folder.path().join("code")).unwrap().count();
        assert_eq!((heard.load(Ordering::SeqCst), packages()), (1, 1));

        store.fails.store(true, Ordering::SeqCst);
        let error = control.deploy(deploy("two")).unwrap_err();
        assert_eq!(error.code, ErrorCode::Service);
        assert!(error.message.contains("does not count"), "{error}");
        assert!(control.delete("cart", None).is_err());
        assert!(control.put_concurrency("cart", Some(1)).is_err());
        assert_eq!(*control.function("cart").unwrap(), *before);
        assert_eq!((heard.load(Ordering::SeqCst), packages()), (1, 1));

        store.fails.store(false, Ordering::SeqCst);
        let after = control.deploy(deploy("two")).unwrap();
        assert!(after.version_key > before.version_key);
    }
}
