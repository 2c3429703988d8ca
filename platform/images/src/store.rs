//! Images on the disk: layers unpacked once per content, shared, and removed when no image needs them any more.
//!
//! ```text
//! DATA/images/layers/HEX/root      the files of the layer whose uncompressed archive has that SHA-256
//! DATA/images/layers/HEX/facts     what is known of it; written last
//! DATA/images/records/HEX          the image with that id: its settings and layers
//! DATA/images/merged/HEX           all its layers in one folder, where overlays cannot be mounted
//! DATA/images/staging              what is being made
//! ```
//!
//! Everything is made in `staging`, made durable and renamed into place, so what has its name is whole. What a crash leaves in
//! `staging` is removed after the next start, while nobody waits for it.

use crate::ImageError;
use crate::confined::{self, Unpacker};
use crate::digest::Digest;
use crate::layer::{Budget, Facts, unpack};
use crate::manifest::{Architecture, Settings};
use crate::merge::{Scaffold, merge};
use crate::place::{Place, Repository};
use crate::source::engine::{Engines, Held};
use crate::source::{Found, Source, archive::Archive, layout::Layout, registry::Registry};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes of an image's files together. Source: Lambda quotas, "Container image code package size", 10 GB, published.
pub const IMAGE_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
/// Files and folders of one image. Ours: AWS states none; it bounds time and inodes.
pub const ENTRIES_MAX: usize = 500_000;
/// Layers of one image. Source: Docker's own bound, which no build of its exceeds; the kernel's for overlays is 500.
pub const LAYERS_MAX: usize = 127;

/// How the store is to be used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether overlays can be mounted here; otherwise layers are linked into one folder.
    pub overlay: bool,
    /// What a merged folder must have, for mounts that overlays get on a layer of their own.
    pub scaffold: Scaffold,
    /// Who unpacks layers; this process itself without.
    pub unpacker: Option<Arc<dyn Unpacker>>,
}

/// An image that is in place.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its configuration, 64 hex digits: what Docker calls its id.
    pub id: String,
    /// The digest of its manifest, 64 hex digits; that of the configuration where there is no manifest.
    pub digest: String,
    /// What it says of its program.
    pub settings: Settings,
    /// Folders to be laid over each other, lowest first; at least one.
    pub layers: Vec<PathBuf>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Keeps it there.
    pub lease: Arc<Lease>,
}

/// What a look at an image found.
#[derive(Debug)]
pub enum Look {
    /// It is in place.
    Here(Image),
    /// It has to be fetched.
    Elsewhere {
        /// Where from: what was asked for, by digest if a registry has it.
        place: Place,
        /// Of its manifest, or else of its configuration, 64 hex digits; an engine may not say.
        digest: Option<String>,
    },
}

/// Who has an image.
enum Origin {
    /// A Docker or Podman of this machine.
    Engine(Held),
    Source(Box<dyn Source>),
}

/// Bytes of a layer as long as somebody wants them.
struct Watched<'a> {
    source: Box<dyn io::Read + 'a>,
    wanted: &'a dyn Fn() -> bool,
}

impl io::Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.wanted)() {
            return Err(io::Error::other("nobody wants it any more"));
        }
        self.source.read(buffer)
    }
}

/// Keeps one image on the disk; it goes when the last lease is gone and nobody says [`Store::keep`].
#[derive(Debug)]
pub struct Lease {
    id: String,
    shelf: Arc<Shelf>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.shelf.books().kept.contains(&self.id) {
            self.shelf.clone().sweep_aside();
        }
    }
}

/// All images of one data folder.
#[derive(Debug)]
pub struct Store {
    shelf: Arc<Shelf>,
    options: Options,
    engines: Engines,
}

#[derive(Debug)]
struct Shelf {
    folder: PathBuf,
    next: AtomicU64,
    books: Mutex<Books>,
    making: Mutex<Makers>,
}

/// Images that are being made: their layers belong to no image yet, so nothing is swept meanwhile. Nor does anybody wait for a
/// sweep: a download takes minutes, and a look at another image must not.
#[derive(Debug, Default)]
struct Makers {
    count: usize,
    /// Somebody wanted to sweep; the last one who leaves does.
    sweep: bool,
}

/// Held while an image is being made.
struct Making(Arc<Shelf>);

impl Drop for Making {
    fn drop(&mut self) {
        let mut makers = self.0.makers();
        makers.count -= 1;
        if makers.count == 0 && std::mem::take(&mut makers.sweep) {
            self.0.clone().sweep_aside();
        }
    }
}

#[derive(Debug, Default)]
struct Books {
    leased: HashMap<String, Weak<Lease>>,
    kept: HashSet<String>,
    /// Whether anybody has said yet what is kept.
    told: bool,
}

/// What is written down of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    digest: String,
    layers: Vec<String>,
    bytes: u64,
    settings: Settings,
}

impl Store {
    /// Opens the images below `folder`, which is made if it is not there, and has removed what a crash left in staging.
    ///
    /// # Errors
    /// The folders cannot be made or read.
    pub fn open(folder: &Path, options: Options) -> Result<Self, ImageError> {
        let shelf = Shelf {
            folder: folder.to_owned(),
            next: AtomicU64::new(0),
            books: Mutex::default(),
            making: Mutex::default(),
        };
        shelf.clear_staging()?;
        for name in ["layers", "records", "merged", "staging"] {
            let folder = shelf.at(name);
            fs::create_dir_all(&folder).map_err(|source| ImageError::file(&folder, source))?;
        }
        Ok(Self { shelf: Arc::new(shelf), options, engines: Engines::default() })
    }

    /// Finds an image without fetching any of its layers: it is here already, or where and what it is.
    ///
    /// # Errors
    /// It is not there, its documents are damaged or too large, or it is for another platform.
    pub fn look(&self, place: &Place, architecture: Architecture) -> Result<Look, ImageError> {
        let elsewhere = |place: &Place, digest| Look::Elsewhere { place: place.clone(), digest };
        let source = match self.origin(place)? {
            Origin::Engine(held) => {
                let digest = held.id.map(|id| id.hex());
                let here = digest.as_deref().and_then(|id| self.find(id));
                return Ok(here.map_or_else(|| elsewhere(place, digest), Look::Here));
            }
            Origin::Source(source) => source,
        };
        let found = source.find(architecture)?;
        let _making = Shelf::begin(&self.shelf);
        if found.configuration.diff_ids.iter().all(|id| self.shelf.facts(&id.hex()).is_some()) {
            return self.complete(place, &*source, &found, &|_| (), &|| true).map(Look::Here);
        }
        Ok(match (place, found.digest) {
            // The tag may mean another image by the time when this one is fetched.
            (Place::Registry { repository, .. }, Some(digest)) => {
                let repository = Repository { digest: Some(digest), ..repository.clone() };
                let written = repository.to_string();
                elsewhere(&Place::Registry { repository, written }, Some(digest.hex()))
            }
            (_, digest) => elsewhere(place, Some(digest.unwrap_or(found.id).hex())),
        })
    }

    /// Has an image in place: finds it, checks it, and unpacks those of its layers that are not there. `wanted` is asked again
    /// and again while bytes come in; once it says no, this ends.
    ///
    /// # Errors
    /// It is not there, damaged, hostile, too large or for another platform; or the disk refuses; or nobody wants it any more.
    /// Nothing of it stays then but whole layers, until the next sweep.
    pub fn add(
        &self,
        place: &Place,
        architecture: Architecture,
        progress: &dyn Fn(&str),
        wanted: &dyn Fn() -> bool,
    ) -> Result<Image, ImageError> {
        let mut saved = None;
        let source: Box<dyn Source> = match self.origin(place)? {
            Origin::Source(source) => source,
            Origin::Engine(held) => {
                if let Some(image) = held.id.and_then(|id| self.find(&id.hex())) {
                    return Ok(image);
                }
                progress("saved from the images of this machine");
                let staged = saved.insert(StagedFile(self.shelf.fresh()));
                held.save(&self.engines, &staged.0, wanted)?;
                Box::new(Archive::open(&staged.0, None)?)
            }
        };
        let found = source.find(architecture)?;
        let _making = Shelf::begin(&self.shelf);
        self.complete(place, &*source, &found, progress, wanted)
    }

    /// Who has what is at a place.
    fn origin(&self, place: &Place) -> Result<Origin, ImageError> {
        Ok(Origin::Source(match place {
            Place::Path { path, tag } if path.is_dir() => {
                Box::new(Layout { folder: path.clone(), tag: tag.clone() })
            }
            Place::Path { path, tag } if path.exists() => Box::new(Archive::open(path, tag.as_deref())?),
            Place::Path { path, .. } => {
                let why = "there is no such file or folder".to_owned();
                return Err(ImageError::Missing { reference: path.display().to_string(), why });
            }
            Place::Registry { repository, written } => match self.engines.find(repository, written) {
                Some(held) => return Ok(Origin::Engine(held)),
                None => Box::new(Registry::new(repository)?),
            },
        }))
    }

    /// Unpacks what is missing of an image that was found, and writes it down. Nobody sweeps meanwhile.
    fn complete(
        &self,
        place: &Place,
        source: &dyn Source,
        found: &Found,
        progress: &dyn Fn(&str),
        wanted: &dyn Fn() -> bool,
    ) -> Result<Image, ImageError> {
        let mut budget = Budget::default();
        for (number, (layer, diff_id)) in found.layers.iter().zip(&found.configuration.diff_ids).enumerate() {
            let facts = match self.shelf.facts(&diff_id.hex()) {
                Some(facts) => facts,
                None => {
                    progress(&format!(
                        "layer {} of {}: {}",
                        number + 1,
                        found.layers.len(),
                        &diff_id.hex()[..12]
                    ));
                    let unpacker = self.options.unpacker.as_deref();
                    let bytes = Watched { source: source.open(layer)?, wanted };
                    let placed = self.shelf.place_layer(bytes, layer.digest(), *diff_id, budget, unpacker);
                    // Whatever it was called on the way.
                    if !wanted() {
                        return Err(ImageError::Unwanted);
                    }
                    placed?
                }
            };
            budget.take(&facts)?;
            if facts.dropped > 0 {
                tracing::warn!(image = %place, layer = %diff_id, "{} devices or pipes were left out", facts.dropped);
            }
        }
        let record = Record {
            digest: found.digest.unwrap_or(found.id).hex(),
            layers: found.configuration.diff_ids.iter().map(Digest::hex).collect(),
            bytes: IMAGE_BYTES_MAX - budget.bytes,
            settings: found.configuration.settings.clone(),
        };
        self.record(found, &record)?;
        self.image(&found.id.hex(), &record)?.ok_or_else(|| {
            let gone = io::Error::new(io::ErrorKind::NotFound, "a layer went while its image was made");
            ImageError::file(&self.shelf.folder, gone)
        })
    }

    /// Ends what engines of this machine do for this store, with all that they started; nothing is asked of them from now on.
    pub fn stop(&self) {
        self.engines.stop();
    }

    /// An image that was added before, by its id; `None` if it is not whole any more.
    pub fn find(&self, id: &str) -> Option<Image> {
        Digest::from_hex(id)?;
        let record = self.shelf.read_record(id)?;
        let image = self.image(id, &record);
        image.inspect_err(|error| tracing::error!(%error, image = id, "an image cannot be used")).ok()?
    }

    /// Says which images must stay although nobody holds a lease, by id; the others go when their last lease does. Those that
    /// are still wanted after a restart are to be found before, see [`Store::find`].
    pub fn keep(&self, kept: HashSet<String>) {
        let gone = {
            let mut books = self.shelf.books();
            let gone = books.kept.difference(&kept).count();
            books.kept = kept;
            // What a process before this one left unused goes, too.
            gone > 0 || !std::mem::replace(&mut books.told, true)
        };
        if gone {
            self.shelf.clone().sweep_aside();
        }
    }

    /// Writes an image down. What has its name is whole, so its layers come first.
    fn record(&self, found: &Found, record: &Record) -> Result<(), ImageError> {
        let path = self.shelf.at("records").join(found.id.hex());
        let text = serde_json::to_vec(record).map_err(|error| ImageError::file(&path, error))?;
        let staged = self.shelf.fresh();
        let written = File::create_new(&staged).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&staged, &path)).map_err(|source| ImageError::file(&path, source))
    }

    fn image(&self, id: &str, record: &Record) -> Result<Option<Image>, ImageError> {
        // Before the look at the disk: from here on no sweep takes it.
        let lease = self.shelf.lease(id);
        let Some(mut stack) = self.shelf.stack(record) else { return Ok(None) };
        if !self.options.overlay || stack.iter().any(|(_, facts)| !facts.overlay) {
            stack = vec![(self.merged(id, &stack)?, Facts::default())];
        }
        Ok(Some(Image {
            id: id.to_owned(),
            digest: record.digest.clone(),
            settings: record.settings.clone(),
            layers: stack.into_iter().map(|(path, _)| path).collect(),
            bytes: record.bytes,
            lease,
        }))
    }

    /// The image's layers in one folder.
    fn merged(&self, id: &str, stack: &[(PathBuf, Facts)]) -> Result<PathBuf, ImageError> {
        let merged = self.shelf.at("merged").join(id);
        if merged.is_dir() {
            return Ok(merged);
        }
        let staged = Staged(self.shelf.fresh());
        merge(stack, &self.options.scaffold, &staged.0)
            .map_err(|source| ImageError::file(&staged.0, source))?;
        match fs::rename(&staged.0, &merged) {
            Err(error) if !merged.is_dir() => Err(ImageError::file(&merged, error)),
            _ => Ok(merged),
        }
    }
}

impl Shelf {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn makers(&self) -> MutexGuard<'_, Makers> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(shelf: &Arc<Self>) -> Making {
        shelf.makers().count += 1;
        Making(Arc::clone(shelf))
    }

    /// Puts what is in staging aside and removes it on a thread of its own, with what earlier processes put there.
    fn clear_staging(&self) -> Result<(), ImageError> {
        let (staging, left) = (self.at("staging"), self.at("left"));
        if staging.exists() {
            fs::create_dir_all(&left).map_err(|source| ImageError::file(&left, source))?;
            let aside = (0_u64..).map(|number| left.join(number.to_string())).find(|aside| !aside.exists());
            let aside = aside.unwrap_or_default();
            fs::rename(&staging, &aside).map_err(|source| ImageError::file(&aside, source))?;
        }
        if left.exists() {
            let remove = move || {
                if let Err(error) = fs::remove_dir_all(&left) {
                    tracing::warn!(%error, path = %left.display(), "what is not needed could not be removed");
                }
            };
            drop(std::thread::Builder::new().name("removals".to_owned()).spawn(remove));
        }
        Ok(())
    }

    /// A name in staging that was never used by this process; the process before has been cleaned away.
    fn fresh(&self) -> PathBuf {
        self.at("staging").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn lease(self: &Arc<Self>, id: &str) -> Arc<Lease> {
        let mut books = self.books();
        if let Some(lease) = books.leased.get(id).and_then(Weak::upgrade) {
            return lease;
        }
        let lease = Arc::new(Lease { id: id.to_owned(), shelf: Arc::clone(self) });
        books.leased.insert(id.to_owned(), Arc::downgrade(&lease));
        lease
    }

    fn read_record(&self, id: &str) -> Option<Record> {
        let bytes = fs::read(self.at("records").join(id)).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        // A record of ours that somebody has edited must not lead out of the folder.
        record.layers.iter().all(|hex| Digest::from_hex(hex).is_some()).then_some(record)
    }

    /// What is known of a layer that is in place.
    fn facts(&self, hex: &str) -> Option<Facts> {
        let bytes = fs::read(self.at("layers").join(hex).join("facts")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// An image's layers, lowest first, without those of which nothing shows.
    fn stack(&self, record: &Record) -> Option<Vec<(PathBuf, Facts)>> {
        let mut stack = Vec::new();
        let mut seen = HashSet::new();
        for hex in record.layers.iter().rev() {
            // A layer that comes again higher up shows whole there.
            if !seen.insert(hex) {
                continue;
            }
            let facts = self.facts(hex)?;
            let opaque = facts.opaque_top;
            stack.push((self.at("layers").join(hex).join("root"), facts));
            if opaque {
                break;
            }
        }
        stack.reverse();
        Some(stack)
    }

    fn place_layer(
        &self,
        source: impl io::Read,
        blob: Option<Digest>,
        diff_id: Digest,
        budget: Budget,
        unpacker: Option<&dyn Unpacker>,
    ) -> Result<Facts, ImageError> {
        let staged = Staged(self.fresh());
        let root = staged.0.join("root");
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| ImageError::file(&path, source)
        };
        fs::create_dir_all(&root).map_err(fail(&root))?;
        for folder in [&staged.0, &root] {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(folder, open).map_err(fail(folder))?;
        }
        let facts = match unpacker {
            None => unpack(source, blob, diff_id, &root, budget)?,
            Some(unpacker) => confined::hand_over(unpacker, source, blob, diff_id, &root, budget)?,
        };
        let path = staged.0.join("facts");
        let text = serde_json::to_vec(&facts).map_err(|error| ImageError::file(&path, error))?;
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.map_err(fail(&path))?;
        let layer = self.at("layers").join(diff_id.hex());
        match fs::rename(&staged.0, &layer) {
            // Another was quicker.
            Err(error) if !layer.join("facts").is_file() => Err(ImageError::file(&layer, error)),
            _ => Ok(facts),
        }
    }

    /// Sweeps on a thread of its own: removing 300 MB takes a while, and whoever lets go of a lease should not wait.
    fn sweep_aside(self: Arc<Self>) {
        let made = std::thread::Builder::new().name("images-sweep".to_owned()).spawn(move || self.sweep());
        if let Err(error) = made {
            tracing::warn!(%error, "unused images stay until the next start");
        }
    }

    fn sweep(&self) {
        let mut makers = self.makers();
        if makers.count > 0 {
            makers.sweep = true;
            return;
        }
        let needed = |books: &Books, id: &str| {
            books.kept.contains(id) || books.leased.get(id).is_some_and(|lease| lease.strong_count() > 0)
        };
        let mut layers = HashSet::new();
        let mut graves = Vec::new();
        {
            let mut books = self.books();
            for id in names(&self.at("records")) {
                match self.read_record(&id) {
                    Some(record) if needed(&books, &id) => layers.extend(record.layers),
                    _ => {
                        books.leased.remove(&id);
                        drop(fs::remove_file(self.at("records").join(&id)));
                    }
                }
            }
            let mut bury = |folder: &str, name: &str| {
                let grave = self.fresh();
                match fs::rename(self.at(folder).join(name), &grave) {
                    Ok(()) => graves.push(grave),
                    Err(error) => tracing::warn!(%error, name, "an unused image could not be removed"),
                }
            };
            for id in names(&self.at("merged")).filter(|id| !needed(&books, id)) {
                bury("merged", &id);
            }
            for hex in names(&self.at("layers")).filter(|hex| !layers.contains(hex)) {
                bury("layers", &hex);
            }
        }
        drop(makers);
        for grave in graves {
            drop(Staged(grave));
        }
    }
}

fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// A folder in staging that goes unless it was renamed away.
struct Staged(PathBuf);

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

/// The same for a file.
struct StagedFile(PathBuf);

impl Drop for StagedFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests;
