//! The room's one value: what it holds, how events come in, and what the board shows.

use crate::delivery;
use crate::endpoint::Endpoints;
use crate::row::{self, Event, Response, event_key, number_of, payload_key};
use crate::run::{Runs, Try};
use crate::said::Said;
use crate::writer::Writer;
use bytes::Bytes;
use control::store::{Store, StoreError, Write};
use control::{Change, Function};
use limits::async_queue::{AsyncQueue, EventFigures, EventId, Past, QueueId, Settled, Timing};
use model::name::LATEST;
use model::{Instant, LimitId, LimitRow};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use telemetry::{Counters, FunctionCounters};
use tokio::sync::{Notify, Semaphore, oneshot};

/// Most events at once, those that wait to be heard of included.
const EVENTS_MAX: usize = 1_000_000;
/// Most bytes of payloads and responses at once; they lie on the disk.
const BYTES_MAX: u64 = 4 << 30;
/// Of those, bytes that memory keeps as well.
pub(crate) const MEMORY_BYTES_MAX: usize = 64 << 20;
/// The engine's clock at the start, so that events of an earlier run can be older than this one.
const CLOCK_START: Duration = Duration::from_secs(7 * 86_400);
/// Messages to dead letters and destinations on their way at once.
const SENDING_MAX: usize = 64;

/// What the queue is told at start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How old an event may become, whatever its function says (`--limit async.queue-age`).
    pub maximum_age: Option<Duration>,
    /// How long events wait.
    pub timing: Timing,
    /// Where dead letters and destinations are.
    pub endpoints: Endpoints,
    /// Largest event, in bytes.
    pub payload_bytes_max: usize,
}

/// An event that comes in.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The function that it is for.
    pub function: Arc<Function>,
    /// The version or alias that the caller named; it exists.
    pub qualifier: Option<Arc<str>>,
    /// A fresh request id.
    pub request_id: Arc<str>,
    /// JSON.
    pub payload: Bytes,
    /// The caller's client context, decoded.
    pub client_context: Option<Arc<str>>,
    /// The caller's X-Ray header.
    pub trace_id: Option<Arc<str>>,
}

/// Why an event was not accepted. Nothing of it is kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EventError {
    /// The queue is full.
    #[error("the queue of asynchronous events is full: {used} of {max} {unit}")]
    Full {
        /// What is there.
        used: u64,
        /// What may be there.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// It could not be made durable.
    #[error("the event could not be stored: {0}")]
    Store(Arc<StoreError>),
    /// The platform is stopping.
    #[error("the platform is stopping")]
    Stopping,
}

/// The queue. Cheap to clone.
#[derive(Clone)]
pub struct Events(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub writer: Writer,
    pub core: Mutex<Core>,
    /// Wakes the task that delivers.
    pub wake: Notify,
    pub sending: Arc<Semaphore>,
    pub runs: OnceLock<Arc<dyn Runs>>,
    pub counters: Arc<Counters>,
    pub options: Options,
    pub said: Said,
    pub is_closed: AtomicBool,
    started: std::time::Instant,
}

/// What changes.
pub(crate) struct Core {
    pub queue: AsyncQueue<u64>,
    pub lanes: BTreeMap<(Arc<str>, Arc<str>), Lane>,
    pub held: HashMap<u64, Held>,
    /// Settled events that somebody is to hear of, by when that is tried.
    pub outbox: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Of the engine's, between two calls.
    pub settled: Vec<Settled<u64>>,
    next: u64,
    /// Events on their way to the disk.
    arriving: usize,
    pub bytes: u64,
    pub in_memory: usize,
    peak: u64,
    refused: u64,
    first_refused_at: Option<Instant>,
}

/// The events of one function, version or alias, and who hears of them.
pub(crate) struct Lane {
    pub id: QueueId,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    pub dead_letter: Option<String>,
}

/// One event, as long as anything is to be done for it.
pub(crate) struct Held {
    pub event: Event,
    /// Of its rows.
    pub bytes: u64,
    /// Its payload, while memory allows.
    pub payload: Option<Bytes>,
    /// What its function said last, while memory allows.
    pub response: Option<(Response, Bytes)>,
    /// How often somebody could not be told in a row, and since when that is tried.
    pub tries: u8,
    pub told_since: Instant,
}

impl Held {
    pub fn attempt(&self) -> Try {
        let event = &self.event;
        Try {
            function: event.function.clone(),
            qualifier: event.qualifier.clone(),
            arn: event.arn.clone(),
            request_id: event.request_id.clone(),
            client_context: event.client_context.clone(),
            trace_id: event.trace_id.clone(),
        }
    }

    pub fn in_memory(&self) -> usize {
        let response = self.response.as_ref().map_or(0, |(_, body)| body.len());
        self.payload.as_ref().map_or(0, Bytes::len) + response
    }
}

impl Events {
    /// Opens the queue over a store. Events of an earlier run wait until [`Events::start`].
    ///
    /// # Errors
    /// The store cannot be read, or there can be no thread.
    pub fn open(
        store: Box<dyn Store>,
        options: Options,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let mut held = HashMap::new();
        let mut bytes = 0;
        for (key, row) in store.load_prefix(row::EVENTS)? {
            let (Some(number), Ok(event)) = (number_of(&key), serde_json::from_slice::<Event>(&row)) else {
                return Err(StoreError::DamagedRow { path: "events".into(), key });
            };
            let size = event.bytes as u64;
            bytes += size;
            held.insert(number, Held { bytes: size, ..Held::of(event) });
        }
        let next = held.keys().max().map_or(0, |last| last + 1);
        let writer =
            Writer::start(store).map_err(|source| StoreError::Io { path: "events".into(), source })?;
        let core = Core {
            queue: AsyncQueue::with_timing(options.timing),
            lanes: BTreeMap::new(),
            held,
            outbox: BinaryHeap::new(),
            settled: Vec::new(),
            next,
            arriving: 0,
            bytes,
            in_memory: 0,
            peak: 0,
            refused: 0,
            first_refused_at: None,
        };
        Ok(Self(Arc::new(Shared {
            writer,
            core: Mutex::new(core),
            wake: Notify::new(),
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
            runs: OnceLock::new(),
            counters,
            options,
            said: Said::default(),
            is_closed: AtomicBool::new(false),
            started: std::time::Instant::now(),
        })))
    }

    /// Begins to deliver, with what an earlier run left. To be called once, inside a tokio runtime, when all functions
    /// are there: events of a function that is gone are dropped.
    pub fn start(&self, runs: impl Runs + 'static) {
        if self.0.runs.set(Arc::new(runs)).is_err() {
            return;
        }
        let (restored, gone) = self.0.restore();
        if restored + gone > 0 {
            tracing::info!(events = restored, dropped = gone, "asynchronous events of an earlier run go on");
        }
        tokio::spawn(delivery::work(self.0.clone()));
    }

    /// Takes an event in; it is on the disk when this returns. A caller that stops waiting changes nothing.
    ///
    /// # Errors
    /// See [`EventError`].
    pub async fn accept(&self, arrival: Arrival) -> Result<(), EventError> {
        let (said, heard) = oneshot::channel();
        self.0.clone().take_in(arrival, move |result| {
            let _ = said.send(result);
        })?;
        heard.await.unwrap_or(Err(EventError::Stopping))
    }

    /// Takes over what changed in the control room: the settings of functions hold at once, also for events that wait;
    /// events of a function that is gone are dropped.
    pub fn apply(&self, change: &Change) {
        match change {
            Change::Put(function) => self.0.refresh(function),
            Change::Removed { name } => self.0.remove_function(name),
            _ => {}
        }
    }

    /// The limits board: the age of each function's oldest event, and what this host holds.
    pub fn board(&self) -> Vec<LimitRow> {
        let core = self.0.lock();
        let mut rows = core.queue.board(self.0.now());
        let since_start =
            |at: Instant| Instant::from_nanos(at.since(Instant::START + CLOCK_START).as_nanos() as u64);
        rows.push(LimitRow {
            id: LimitId::HostEvents,
            resource: "host".into(),
            max: EVENTS_MAX as u64,
            used: core.count() as u64,
            peak: core.peak,
            refused: core.refused,
            first_refused_at: core.first_refused_at,
            source: "Onrush's own bound".into(),
            raisable: LimitId::HostEvents.raisable(),
        });
        for row in &mut rows {
            row.first_refused_at = row.first_refused_at.map(since_start);
        }
        rows
    }

    /// Largest event, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        self.0.options.payload_bytes_max
    }

    /// Why no event can be accepted at present, if that is known. Waits for nothing.
    pub fn trouble(&self) -> Option<String> {
        self.0.writer.trouble()
    }

    /// Events that wait or run, and events that somebody is still to hear of.
    pub fn pending(&self) -> (usize, usize) {
        let core = self.0.lock();
        (core.queue.pending(), core.held.len() - core.queue.pending())
    }

    /// Delivers nothing more, and commits what became of events so far. Waits for the disk.
    pub fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.wake.notify_one();
        self.0.writer.close();
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's time: monotonic, so that a clock that jumps makes no event older.
    pub fn now(&self) -> Instant {
        Instant::START + CLOCK_START + self.started.elapsed()
    }

    /// Makes an event durable, then puts it into the queue; `answer` hears of it after that.
    pub fn take_in(
        self: Arc<Self>,
        arrival: Arrival,
        answer: impl FnOnce(Result<(), EventError>) + Send + 'static,
    ) -> Result<(), EventError> {
        let Arrival { function, qualifier, request_id, payload, client_context, trace_id } = arrival;
        let number = self.reserve(payload.len())?;
        let event = Event {
            function: function.name.as_str().into(),
            arn: function.arn.as_str().into(),
            qualifier,
            request_id,
            accepted_ms: telemetry::unix_millis(),
            bytes: payload.len(),
            client_context,
            trace_id,
            failures: 0,
            due_ms: 0,
            settlement: None,
        };
        let rows = vec![
            Write::Put(event_key(number), event.to_row()),
            Write::Put(payload_key(number), payload.to_vec()),
        ];
        let shared = self.clone();
        self.writer.commit(rows, move |committed| {
            answer(match committed {
                Ok(()) => {
                    shared.enter(number, &function, event, payload);
                    Ok(())
                }
                Err(error) => {
                    let mut core = shared.lock();
                    core.arriving -= 1;
                    core.bytes -= payload.len() as u64;
                    Err(EventError::Store(error))
                }
            });
        });
        Ok(())
    }

    /// Keeps room for one event; its number.
    fn reserve(&self, bytes: usize) -> Result<u64, EventError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(EventError::Stopping);
        }
        let now = self.now();
        let mut core = self.lock();
        let count = core.count();
        let full = if count >= EVENTS_MAX {
            Some(EventError::Full { used: count as u64, max: EVENTS_MAX as u64, unit: "events" })
        } else if core.bytes + bytes as u64 > BYTES_MAX {
            Some(EventError::Full { used: core.bytes, max: BYTES_MAX, unit: "bytes" })
        } else {
            None
        };
        if let Some(full) = full {
            core.refused += 1;
            core.first_refused_at.get_or_insert(now);
            return Err(full);
        }
        core.arriving += 1;
        core.peak = core.peak.max(count as u64 + 1);
        core.bytes += bytes as u64;
        core.next += 1;
        Ok(core.next - 1)
    }

    /// Puts an event that is on the disk into the queue.
    fn enter(&self, number: u64, function: &Function, event: Event, payload: Bytes) {
        FunctionCounters::count(&self.counters.function(&function.name).async_events_received);
        let now = self.now();
        let mut core = self.lock();
        let core = &mut *core;
        core.arriving -= 1;
        let lane = core.lane(function, &event, &self.options);
        // The bound of the engine is far above ours.
        if core.queue.accept(now, lane, number).is_none() {
            tracing::error!("an event waits for the next start: the engine's queue is full");
            return;
        }
        let bytes = payload.len() as u64;
        let kept = core.keep(payload);
        core.held.insert(number, Held { bytes, payload: kept, ..Held::of(event) });
        self.wake.notify_one();
    }

    /// Puts what an earlier run left into the queue: how many go on, and how many are dropped.
    fn restore(&self) -> (usize, usize) {
        let Some(runs) = self.runs.get() else { return (0, 0) };
        let (now, wall) = (self.now(), telemetry::unix_millis());
        let mut core = self.lock();
        let core = &mut *core;
        let mut numbers: Vec<u64> = core.held.keys().copied().collect();
        numbers.sort_unstable();
        let (mut restored, mut gone) = (0, Vec::new());
        for number in numbers {
            let Some(event) = core.held.get(&number).map(|held| held.event.clone()) else { continue };
            if event.settlement.is_some() {
                core.outbox.push(Reverse((now, number)));
                restored += 1;
                continue;
            }
            let Some(function) = runs.function(&event.function) else {
                gone.push((number, event));
                continue;
            };
            let lane = core.lane(&function, &event, &self.options);
            let past = Past {
                age: Duration::from_millis(wall.saturating_sub(event.accepted_ms)),
                failures: event.failures,
                // No wait is longer than the longest back-off, however the wall clock was set meanwhile.
                wait: Duration::from_millis(event.due_ms.saturating_sub(wall))
                    .min(self.options.timing.backoff_max),
            };
            if core.queue.restore(now, lane, number, past).is_some() {
                restored += 1;
            }
        }
        core.peak = core.held.len() as u64;
        for (number, event) in &gone {
            self.forget(core, *number);
            FunctionCounters::count(&self.counters.function(&event.function).async_events_dropped);
        }
        (restored, gone.len())
    }

    /// What becomes of a function's events may have changed.
    fn refresh(&self, function: &Function) {
        let mut core = self.lock();
        let core = &mut *core;
        let name: Arc<str> = function.name.as_str().into();
        let first = (name.clone(), Arc::from(""));
        for ((_, qualifier), lane) in
            core.lanes.range_mut(first..).take_while(|((function, _), _)| *function == name)
        {
            let (figures, new) = lane_of(lane.id, function, qualifier, &self.options);
            core.queue.set_figures(lane.id, figures);
            *lane = new;
        }
    }

    /// Drops the events of a function that is gone.
    pub fn remove_function(&self, name: &str) {
        let name: Arc<str> = name.into();
        let mut dropped = Vec::new();
        let mut core = self.lock();
        let inner = &mut *core;
        let first = (name.clone(), Arc::from(""));
        let range = inner.lanes.range(first..).take_while(|((function, _), _)| *function == name);
        let keys: Vec<_> = range.map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(lane) = inner.lanes.remove(&key) {
                inner.queue.remove(lane.id, &mut dropped);
            }
        }
        for number in &dropped {
            self.forget(inner, *number);
        }
        drop(core);
        if !dropped.is_empty() {
            tracing::warn!(function = %name, events = dropped.len(), "the function is gone, and its events with it");
        }
    }

    /// Takes an event out of memory and store.
    pub fn forget(&self, core: &mut Core, number: u64) {
        let Some(held) = core.held.remove(&number) else { return };
        core.in_memory -= held.in_memory();
        core.bytes -= held.bytes;
        let mut rows = vec![Write::Remove(event_key(number)), Write::Remove(payload_key(number))];
        if held.event.settlement.is_some() {
            rows.push(Write::Remove(row::response_key(number)));
        }
        self.writer.later(rows);
    }
}

impl Core {
    fn count(&self) -> usize {
        self.held.len() + self.arriving
    }

    /// The lane of an event of that function, made at first use.
    fn lane(&mut self, function: &Function, event: &Event, options: &Options) -> QueueId {
        let qualifier: Arc<str> = event.qualifier().into();
        let key = (event.function.clone(), qualifier);
        if let Some(lane) = self.lanes.get(&key) {
            return lane.id;
        }
        let id = self.queue.add(EventFigures::new(event.function.clone()));
        let (figures, lane) = lane_of(id, function, &key.1, options);
        self.queue.set_figures(id, figures);
        self.lanes.insert(key, lane);
        id
    }

    /// Bytes that memory may keep as well.
    pub fn keep(&mut self, bytes: Bytes) -> Option<Bytes> {
        if self.in_memory + bytes.len() > MEMORY_BYTES_MAX {
            return None;
        }
        self.in_memory += bytes.len();
        Some(bytes)
    }
}

impl Held {
    fn of(event: Event) -> Self {
        let told_since = Instant::START + CLOCK_START;
        Self { event, bytes: 0, payload: None, response: None, tries: 0, told_since }
    }
}

/// What becomes of the events of a function's qualifier.
fn lane_of(id: QueueId, function: &Function, qualifier: &str, options: &Options) -> (EventFigures, Lane) {
    let resource: Arc<str> = match qualifier {
        LATEST => function.name.as_str().into(),
        other => format!("{}:{other}", function.name).into(),
    };
    let config = function.event_invoke.get(qualifier).cloned().unwrap_or_default();
    let named = |arn: Option<String>| arn.filter(|arn| !arn.is_empty());
    let lane = Lane {
        id,
        on_success: named(config.on_success),
        on_failure: named(config.on_failure),
        dead_letter: named(function.dead_letter_arn.clone()),
    };
    let defaults = EventFigures::new(resource);
    let own = config.maximum_event_age.map(|age| Duration::from_secs(age.into()));
    let figures = EventFigures {
        maximum_age: options.maximum_age.or(own).unwrap_or(defaults.maximum_age),
        maximum_retries: config.maximum_retry_attempts.unwrap_or(defaults.maximum_retries),
        on_success: lane.on_success.is_some(),
        on_failure: lane.on_failure.is_some(),
        dead_letter: lane.dead_letter.is_some(),
        ..defaults
    };
    (figures, lane)
}

/// An event of the engine and its number here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which {
    pub id: EventId,
    pub number: u64,
}

#[cfg(test)]
mod tests;
