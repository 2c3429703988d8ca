//! Other accounts and Regions than the one that the platform was started for: each with a store, limits, a queue and doors
//! of its own, below `accounts/ACCOUNT/REGION` in the data folder.

use super::events_queue::Queues;
use super::images;
use super::objects::Objects;
use super::unpacking::Archives;
use crate::Stop;
use anyhow::Context as _;
use control::{Control, Stored};
use doors::signature::Keys;
use doors::{Doors, Opens, Realm};
use events::{Events, Live};
use invoke::{Invoker, StreamFigures};
use model::{Era, LimitId, Overrides};
use runtimes::Runtimes;
use sandbox::{Sandboxes, Workshop};
use services::Services;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;
use telemetry::{Counters, Logs};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The folder in the data folder.
const FOLDER: &str = "accounts";
/// What is said of a data folder that cannot be read.
pub const UNOPENED: &str = "cannot open the store";

/// What all of them share with home.
pub struct Ground {
    pub data_dir: PathBuf,
    /// The account of keys that name none.
    pub home_account_id: String,
    pub era: Era,
    pub overrides: Overrides,
    pub sandboxes: Sandboxes,
    pub runtimes: Arc<Runtimes>,
    pub network: Option<Arc<dyn invoke::Network>>,
    pub services: Arc<Services>,
    pub keys: Keys,
    pub permissions: doors::guard::Permissions,
    pub freeze_after: Duration,
    pub experimental_snap_start: bool,
    /// Whether functions have no walls, and get to their code as other users.
    pub passable: bool,
    pub loopback: bool,
    pub queues: Queues,
    /// Turns true when the doors serve.
    pub serving: watch::Receiver<bool>,
    /// Who unpacks archives and layers.
    pub workshop: Option<Arc<Workshop>>,
    /// Where tasks run.
    pub runtime: Handle,
}

/// Opens them, and closes them all at the end.
pub struct Realms {
    ground: Ground,
    open: Mutex<Vec<Open>>,
}

/// What has to be ended.
struct Open {
    control: Arc<Control>,
    invoker: Invoker,
    events: Events,
    logs: Logs,
    writer: JoinHandle<()>,
}

/// What each account in a Region has of its own.
pub struct Parts {
    pub control: Arc<Control>,
    pub invoker: Invoker,
    pub events: Events,
    /// Where its doors are named once they are there.
    pub doors: Arc<OnceLock<Weak<Doors>>>,
}

/// A control room whose changes everybody hears of.
pub fn parts(
    stored: Stored,
    options: control::Options,
    invoker: Invoker,
    events: Events,
    (overlay, workshop, objects): (bool, Option<Arc<Workshop>>, Arc<Objects>),
) -> Result<Parts, Stop> {
    let data_dir = options.data_dir.clone();
    let doors: Arc<OnceLock<Weak<Doors>>> = Arc::default();
    let observer = (invoker.clone(), events.clone(), doors.clone());
    let control = Control::of(
        stored,
        options,
        Box::new(move |change| {
            let (invoker, events, doors) = &observer;
            invoker.apply(change.clone());
            events.apply(&change);
            if let Some(doors) = doors.get().and_then(Weak::upgrade) {
                doors.apply(&change);
            }
        }),
    );
    let images =
        images::open(&data_dir, overlay, workshop.clone()).context("cannot open the container images")?;
    let control = match workshop {
        Some(workshop) => control.with_unpacker(Arc::new(Archives(workshop))),
        None => control,
    };
    let control = Arc::new(control.with_images(images).with_objects(objects));
    invoker.begin(&control.known_functions());
    invoker.begin_others(Arc::downgrade(&control));
    Ok(Parts { control, invoker, events, doors })
}

impl Realms {
    pub fn new(ground: Ground) -> Arc<Self> {
        Arc::new(Self { ground, open: Mutex::default() })
    }

    /// Those that were opened in earlier runs.
    pub fn stored(&self) -> Vec<Realm> {
        let names = |folder: PathBuf| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let root = self.ground.data_dir.join(FOLDER);
        let mut all = Vec::new();
        for account_id in names(root.clone()).into_iter().filter(|name| model::name::is_account(name)) {
            let regions = names(root.join(&account_id)).into_iter();
            let realm = |region| Realm { account_id: account_id.clone(), region };
            all.extend(regions.filter(|name| model::name::is_region(name)).map(realm));
        }
        all.sort();
        all.truncate(doors::realms::REALMS_MAX);
        all
    }

    fn make(&self, realm: &Realm) -> Result<Arc<Doors>, Stop> {
        let ground = &self.ground;
        let Realm { account_id, region } = realm;
        let (era, overrides) = (&ground.era, &ground.overrides);
        let data_dir = ground.data_dir.join(FOLDER).join(account_id).join(region);
        fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot make the folder {}", data_dir.display()))?;
        let settings = limits::Settings::from_era(era, region, overrides)
            .map_err(|error| Stop::Usage(error.to_string()))?;
        let account_concurrency = settings.account_concurrency;
        let logs = Logs::open(Some(&data_dir.join("logs"))).context("cannot make the log folder")?;
        let counters = Arc::new(Counters::default());
        let options = invoke::Options {
            init_timeout: Duration::from_secs(era.settings.init_timeout_s),
            init_billed: era.settings.init_billed,
            region: region.as_str().into(),
            freeze_after: ground.freeze_after,
            layers_folder: data_dir.join("layers"),
            network: ground.network.clone(),
            memory_max_mb: overrides.get(LimitId::HostMemory),
            serving: ground.serving.clone(),
            trace: false,
            streams: StreamFigures::from_era(era, region, overrides),
            settings,
        };
        let (sandboxes, runtimes) = (ground.sandboxes.clone(), ground.runtimes.clone());
        let invoker = Invoker::new(options, sandboxes, runtimes, logs.clone(), counters.clone());
        let events = ground.queues.open(&data_dir, counters.clone())?;
        let options = control::Options {
            data_dir,
            account_id: account_id.clone(),
            region: region.clone(),
            account_concurrency,
            unreserved_minimum: era.settings.unreserved_minimum,
            experimental_snap_start: ground.experimental_snap_start,
            passable: ground.passable,
        };
        let overlay = ground.sandboxes.abilities().enforced("image-overlay");
        let objects =
            Objects::of(ground.services.clone(), realm.clone(), &ground.keys, ground.runtime.clone());
        let stored = Stored::read(&options.data_dir, options.passable).context(UNOPENED)?;
        let Parts { control, invoker, events, doors: watched } =
            parts(stored, options, invoker, events, (overlay, ground.workshop.clone(), objects))?;
        events.start(Live { control: control.clone(), invoker: invoker.clone() });
        let options = doors::Options {
            account_id: account_id.clone(),
            region: region.clone(),
            home_account_id: ground.home_account_id.clone(),
            opens: None,
            apis: doors::ApiParts::default(),
            gateway: doors::GatewaySettings {
                throttle: limits::api_throttle::ApiSettings::from_era(era, region, overrides)
                    .map_err(|error| Stop::Usage(error.to_string()))?,
                integration_timeout: None,
                stream_idle_timeout: None,
                disable_authorizers: false,
            },
            loopback: ground.loopback,
            services: Some(Arc::new(super::names::OnTheDoors(ground.services.clone()))),
            network: None,
            orders: None,
            front: false,
            // Those of home: who is connected is the listener's affair.
            clients: doors::clients::Clients::new(None, None),
            keys: ground.keys.clone(),
            permissions: ground.permissions,
        };
        let (of_invoker, of_events) = (invoker.clone(), events.clone());
        let doors =
            Arc::new(Doors::new(options, control.clone(), of_invoker, of_events, logs.clone(), counters));
        let _ = watched.set(Arc::downgrade(&doors));
        doors.look();
        control.begin_pulls();
        images::keep_pulling(&ground.runtime, &control);
        let writer = ground.runtime.spawn(logs.clone().write_behind());
        let open = Open { control, invoker, events, logs, writer };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        Ok(doors)
    }

    fn take(&self) -> Vec<Open> {
        std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn invokers(&self) -> Vec<Invoker> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|open| open.invoker.clone()).collect()
    }

    /// Tells extensions everywhere of the end.
    pub async fn tell_extensions_of_the_end(&self) {
        for invoker in self.invokers() {
            invoker.tell_extensions_of_the_end().await;
        }
    }

    /// Gives up the images that are being fetched anywhere.
    pub fn stop_pulls(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().for_each(|open| open.control.stop_pulls());
    }

    /// Closes the queues and stores of all, and then writes the logs, whose disk may be slow; may block.
    pub fn close(&self) {
        let all = self.take();
        for open in &all {
            open.events.close();
            open.control.close();
        }
        for open in &all {
            open.writer.abort();
            open.logs.flush();
        }
    }
}

impl Opens for Realms {
    fn open(&self, realm: &Realm) -> Result<Arc<Doors>, String> {
        // The caller's runtime serves connections of one core; what is begun here is for all.
        let _entered = self.ground.runtime.enter();
        self.make(realm).map_err(|stop| match stop {
            Stop::Usage(message) => message,
            Stop::Problems(lines) => lines.join("\n"),
            Stop::Reported => "it was reported".to_owned(),
            Stop::Failed(error) => format!("{error:#}"),
        })
    }
}
