//! Telemetry of one environment: what the platform and its programs say, for extensions that subscribe to it.
//!
//! An event is rendered once and given to the buffer of each subscriber that wants its kind; a task per subscriber sends
//! them on, in batches, to what listens inside the environment. Nothing is kept, and next to nothing done, where nobody
//! subscribes.
//!
//! Source: AWS Lambda Developer Guide, "Telemetry API", "Lambda Logs API"; buffering as its table has it.

mod buffer;
mod sink;
mod subscription;

use buffer::{Buffer, Dropped};
use serde_json::Value;
pub use sink::Dial;
use sink::Sink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subscription::{Kind, Schema, Wanted};
use telemetry::{PlatformEvent, SubscriptionKind, iso_time, unix_millis};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What is kept from the beginning of INIT for those who have yet to subscribe.
const EARLY_EVENTS_MAX: usize = 1_000;
const EARLY_BYTES_MAX: usize = 256 * 1024;
/// How often a batch is tried before it is given up, and what lies between.
const ATTEMPTS_MAX: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// The two APIs; they differ in paths and in the shape of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Telemetry,
    Logs,
}

/// What is wrong with the body of a subscription, asked of both APIs.
pub(crate) fn subscription_problems(body: &[u8]) -> [Result<(), String>; 2] {
    [Api::Telemetry, Api::Logs].map(|api| Wanted::parse(api, body).map(drop))
}

/// Why a subscription is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SubscribeError {
    /// INIT is over.
    Closed,
    /// The request is wrong, in these ways.
    Invalid(String),
}

/// The telemetry of one life of an environment.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Whether anything said now may interest anybody.
    listening: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Subscriptions are taken.
    is_open: bool,
    early: Vec<Arc<Entry>>,
    early_bytes: usize,
    subscribers: Vec<Subscriber>,
    dial: Option<Arc<dyn Dial>>,
    on_subscription: Option<OnSubscription>,
}

/// Told of each subscription, by the extension's name and its types.
#[derive(Clone)]
struct OnSubscription(Arc<Told>);

type Told = dyn Fn(&str, &[&'static str], SubscriptionKind) + Send + Sync;

impl std::fmt::Debug for OnSubscription {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OnSubscription")
    }
}

/// One event in the shapes that subscribers may want.
#[derive(Debug, Default)]
struct Entry {
    kind: Kind,
    /// Of the Telemetry API.
    telemetry: Option<Arc<str>>,
    /// Of the same, where a line that is a JSON object stays one.
    structured: Option<Arc<str>>,
    /// Of the Logs API.
    logs: Option<Arc<str>>,
    /// Its first version does not know this event.
    only_later_logs: bool,
}

#[derive(Debug)]
struct Subscriber {
    name: Arc<str>,
    wanted: Wanted,
    post: Arc<Post>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Between those who say something and the task that sends it.
#[derive(Debug)]
struct Post {
    buffer: Mutex<Buffer>,
    /// There is something, or enough, or it is wanted now.
    news: Notify,
    hurry: AtomicBool,
}

impl Telemetry {
    /// Takes subscriptions from now on, until the end of INIT; `dial` reaches what listens inside the environment.
    /// `told` hears of each.
    pub fn open(
        &self,
        dial: Arc<dyn Dial>,
        told: impl Fn(&str, &[&'static str], SubscriptionKind) + Send + Sync + 'static,
    ) {
        let mut state = self.lock();
        state.is_open = true;
        state.dial = Some(dial);
        state.on_subscription = Some(OnSubscription(Arc::new(told)));
        self.listening.store(true, Ordering::Release);
    }

    /// Whether anybody listens, or may yet: what follows costs nothing otherwise.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// The platform says something.
    pub fn platform(&self, events: &[PlatformEvent<'_>]) {
        if !self.is_listening() {
            return;
        }
        let now = unix_millis();
        let mut state = self.lock();
        for event in events {
            let logs = event.logs(now);
            state.add(Entry {
                kind: Kind::Platform,
                telemetry: event.telemetry(now).map(Into::into),
                structured: None,
                only_later_logs: logs.as_ref().is_some_and(|(_, later)| *later),
                logs: logs.map(|(text, _)| text.into()),
            });
        }
    }

    /// The function prints lines; `json` says that its log format is JSON.
    pub fn function<'line>(&self, lines: impl Iterator<Item = &'line str>, json: bool) {
        self.lines(Kind::Function, "function", lines, json);
    }

    /// Extensions print lines.
    pub fn extension<'line>(&self, lines: impl Iterator<Item = &'line str>) {
        self.lines(Kind::Extension, "extension", lines, false);
    }

    fn lines<'line>(&self, kind: Kind, word: &str, lines: impl Iterator<Item = &'line str>, json: bool) {
        if !self.is_listening() {
            return;
        }
        let time = iso_time(unix_millis());
        let mut state = self.lock();
        if !state.wants(kind) {
            return;
        }
        for line in lines {
            let shape = |record: &str| -> Arc<str> {
                format!(r#"{{"time":"{time}","type":"{word}","record":{record}}}"#).into()
            };
            let plain = shape(&Value::from(line).to_string());
            let object = json && line.starts_with('{') && serde_json::from_str::<Value>(line).is_ok();
            state.add(Entry {
                kind,
                structured: object.then(|| shape(line)),
                logs: Some(plain.clone()),
                telemetry: Some(plain),
                only_later_logs: false,
            });
        }
    }

    /// INIT is over: nobody subscribes any more.
    pub fn close_subscriptions(&self) {
        if !self.is_listening() {
            return;
        }
        let mut state = self.lock();
        state.is_open = false;
        state.early = Vec::new();
        state.early_bytes = 0;
        state.dial = None;
        self.listening.store(!state.subscribers.is_empty(), Ordering::Release);
    }

    /// Sends what is buffered without waiting for more.
    pub fn hurry(&self) {
        if self.is_listening() {
            for subscriber in &self.lock().subscribers {
                subscriber.post.hurry.store(true, Ordering::Release);
                subscriber.post.news.notify_one();
            }
        }
    }

    /// Ends all subscriptions; what is not sent stays unsent.
    pub fn end(&self) {
        let mut state = self.lock();
        // Callbacks hold what holds us.
        *state = State::default();
        self.listening.store(false, Ordering::Release);
    }

    pub(crate) fn subscribe(&self, api: Api, name: &Arc<str>, body: &[u8]) -> Result<(), SubscribeError> {
        let wanted = Wanted::parse(api, body).map_err(SubscribeError::Invalid)?;
        let mut state = self.lock();
        let Some(dial) = state.dial.clone().filter(|_| state.is_open) else {
            return Err(SubscribeError::Closed);
        };
        let post = Arc::new(Post {
            buffer: Mutex::new(Buffer::new(wanted.limits)),
            news: Notify::new(),
            hurry: AtomicBool::new(false),
        });
        let sink = Sink::new(dial, wanted.destination.clone());
        let task = tokio::spawn(send(post.clone(), sink, wanted.schema));
        let types = wanted.type_names();
        let subscriber = Subscriber { name: name.clone(), wanted, post, task };
        for entry in &state.early {
            subscriber.take(entry);
        }
        // The latest subscription of an extension holds.
        state.subscribers.retain(|other| other.name != *name);
        state.subscribers.push(subscriber);
        let told = state.on_subscription.clone();
        drop(state);
        if let Some(OnSubscription(told)) = told {
            let kind = match api {
                Api::Telemetry => SubscriptionKind::Telemetry,
                Api::Logs => SubscriptionKind::Logs,
            };
            told(name, &types, kind);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wants(&self, kind: Kind) -> bool {
        self.is_open || self.subscribers.iter().any(|subscriber| subscriber.wanted.types.contains(&kind))
    }

    fn add(&mut self, entry: Entry) {
        let entry = Arc::new(entry);
        for subscriber in &self.subscribers {
            subscriber.take(&entry);
        }
        let bytes = entry.telemetry.as_ref().map_or(0, |text| text.len());
        if self.is_open
            && self.early.len() < EARLY_EVENTS_MAX
            && self.early_bytes.saturating_add(bytes) <= EARLY_BYTES_MAX
        {
            self.early_bytes += bytes;
            self.early.push(entry);
        }
    }
}

impl Entry {
    fn text(&self, schema: Schema) -> Option<&Arc<str>> {
        match schema {
            Schema::Telemetry => self.telemetry.as_ref(),
            Schema::StructuredTelemetry => self.structured.as_ref().or(self.telemetry.as_ref()),
            Schema::Logs => self.logs.as_ref().filter(|_| !self.only_later_logs),
            Schema::LaterLogs => self.logs.as_ref(),
        }
    }
}

impl Subscriber {
    fn take(&self, entry: &Entry) {
        if !self.wanted.types.contains(&entry.kind) {
            return;
        }
        let Some(text) = entry.text(self.wanted.schema) else { return };
        let mut buffer = self.post.lock();
        let was_empty = buffer.is_empty();
        buffer.push(text.clone());
        if was_empty || buffer.is_due() {
            self.post.news.notify_one();
        }
    }
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch, once there is enough of it, or it has waited long enough, or is wanted now.
    async fn batch(&self) -> (Vec<Arc<str>>, Dropped) {
        loop {
            while self.lock().is_empty() {
                self.news.notified().await;
            }
            let patience = tokio::time::sleep(self.lock().timeout());
            tokio::pin!(patience);
            loop {
                if self.lock().is_due() || self.hurry.load(Ordering::Acquire) {
                    break;
                }
                tokio::select! {
                    () = &mut patience => break,
                    () = self.news.notified() => {}
                }
            }
            let batch = self.lock().take();
            if self.lock().is_empty() {
                self.hurry.store(false, Ordering::Release);
            }
            if !batch.0.is_empty() {
                return batch;
            }
        }
    }
}

/// A subscriber's life: one batch after another.
async fn send(post: Arc<Post>, mut sink: Sink, schema: Schema) {
    loop {
        let (mut batch, dropped) = post.batch().await;
        if dropped.records > 0 {
            let event = PlatformEvent::LogsDropped {
                records: dropped.records,
                bytes: dropped.bytes,
                reason: "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.",
            };
            let now = unix_millis();
            let text = match schema {
                Schema::Telemetry | Schema::StructuredTelemetry => event.telemetry(now),
                Schema::Logs | Schema::LaterLogs => event.logs(now).map(|(text, _)| text),
            };
            batch.extend(text.map(Into::into));
        }
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            match sink.deliver(&batch).await {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS_MAX => {
                    tracing::debug!(%error, "telemetry is given up: its subscriber does not take it");
                    post.lock().lose(&batch);
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
