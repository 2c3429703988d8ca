//! Queues of asynchronous events, opened in folders.

use crate::Stop;
use crate::arguments::Up;
use anyhow::Context as _;
use control::store::Embedded;
use events::{Endpoint, Endpoints, Events, Options};
use limits::async_queue::Timing;
use model::{LimitId, Overrides};
use network::attach::Attachments;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Counters;

/// Largest event since October 2025. Source: Lambda quotas, published.
const EVENT_BYTES_MAX: usize = 1_048_576;
/// The same before.
const EVENT_BYTES_MAX_BEFORE: usize = 262_144;
/// The store's page cache: events come and go all the time, and many in one commit.
const CACHE_BYTES: usize = 32 << 20;

/// What every queue of this platform is opened with.
#[derive(Clone)]
pub struct Queues {
    options: Options,
}

impl Queues {
    /// As the arguments say.
    ///
    /// # Errors
    /// An endpoint cannot be read.
    pub fn of(arguments: &Up, attachments: &Attachments, overrides: &Overrides) -> Result<Self, Stop> {
        // What is attached for functions serves here as well, unless it wants TLS.
        let attached = attachments.services.iter().filter(|(_, server)| !server.tls);
        let mut endpoints: Endpoints = attached
            .map(|(service, server)| (service.clone(), Endpoint::new(&server.host, server.port)))
            .collect();
        for option in &arguments.endpoints {
            let (service, endpoint) =
                Endpoint::parse(option).map_err(|error| Stop::Usage(format!("--endpoint: {error}")))?;
            endpoints.insert(service, endpoint);
        }
        let is_today = arguments.figures.era == model::era::DEFAULT_ERA;
        let options = Options {
            maximum_age: overrides.get(LimitId::AsyncQueueAge).map(Duration::from_secs),
            timing: Timing::default().faster(arguments.event_speed),
            endpoints,
            payload_bytes_max: if is_today { EVENT_BYTES_MAX } else { EVENT_BYTES_MAX_BEFORE },
        };
        Ok(Self { options })
    }

    /// The queue in a folder.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub fn open(&self, folder: &Path, counters: Arc<Counters>) -> Result<Events, Stop> {
        let store = Embedded::with_cache(&folder.join("events.redb"), CACHE_BYTES);
        let store = store.context("cannot open the queue of asynchronous events")?;
        let events = Events::open(Box::new(store), self.options.clone(), counters);
        Ok(events.context("cannot read the queue of asynchronous events")?)
    }
}
