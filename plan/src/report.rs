//! The answer of a plan: what `onrush plan --json` prints, and its text.
//!
//! The field names are a contract that scripts read. What a later part of the planner will fill is empty or null
//! here, never made up.

mod html;
mod rows;
mod text;

pub use html::render_html;
pub use model::grouped;
pub use text::render;
pub(crate) use text::seconds;

use crate::cost::Bill;
use crate::fix::{Cut, Fix};
use crate::promise::PromiseRow;
use crate::sweep::SweepRow;
use limits::Decision;
use model::{Instant, LimitId, LimitRow};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of the JSON.
pub const SCHEMA: u32 = 1;

/// Nanoseconds, written as seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

impl Seconds {
    /// As a float, for reports only.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl From<Instant> for Seconds {
    fn from(at: Instant) -> Self {
        Self(at.as_nanos())
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

/// A plan's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The first refusal of any limit; none if nothing breaks.
    pub first_limit: Option<FirstLimit>,
    /// All requests, as a load generator would sum them up.
    pub summary: Summary,
    /// The limits board at the end.
    pub limits: Vec<LimitRow>,
    /// The state at each step of virtual time.
    pub timeline: Vec<TimelineRow>,
    /// Each function that the load reaches.
    pub functions: Vec<FunctionReport>,
    /// The month's bill; none where there is no template.
    pub cost: Option<Bill>,
    /// How asynchronous events fared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRow>,
    /// How provisioned concurrency fared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provisioned: Vec<ProvisionedRow>,
    /// How the caches of REST APIs fared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheRow>,
    /// How the authorizers of APIs fared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorizers: Vec<AuthorizerRow>,
    /// Every default and unconfirmed figure that was used.
    pub assumptions: Vec<Assumption>,
    /// Promises and whether they are kept.
    pub promises: Vec<PromiseRow>,
    /// Changes that survive, the cheapest first.
    pub fixes: Vec<Fix>,
    /// How a search for them went, if there was one; the text shows it.
    #[serde(skip)]
    pub searched: Option<Searched>,
    /// One summary per value of a sweep.
    pub sweep: Vec<SweepRow>,
    /// What was swept; the text shows it.
    #[serde(skip)]
    pub swept: Option<String>,
    /// What computed this.
    pub engine: Engine,
    /// When which limit refused how many; the text shows it.
    #[serde(skip)]
    pub refusals: Vec<RefusalRow>,
    /// Requests that were sent and had no answer when the plan ended.
    #[serde(skip)]
    pub unanswered: u64,
    /// How each function's connects fared; the text shows it.
    #[serde(skip)]
    pub connects: Vec<ConnectRow>,
    /// How each function's queries fared; the text shows it.
    #[serde(skip)]
    pub queries: Vec<QueryRow>,
    /// What the pools of database proxies have done; the text shows it.
    #[serde(skip)]
    pub pools: Vec<PoolReport>,
    /// The limit that came nearest to refusing.
    #[serde(skip)]
    pub nearest: Option<HeadRoom>,
    /// The first decisions one by one, if [`Options::trace`](crate::Options::trace) asked for them.
    #[serde(skip)]
    pub decisions: Vec<Decided>,
}

/// How a search for changes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searched {
    /// Plans that were made.
    pub runs: u32,
    /// Why it did not come to its end, if so.
    pub cut: Option<Cut>,
    /// Some change was passed over as the load would have become another one: see
    /// [`REQUESTS_TIMES_MAX`](crate::fix::REQUESTS_TIMES_MAX).
    pub another_load: bool,
}

impl Searched {
    /// What is said of changes that were passed over.
    pub fn passed_over(&self) -> Option<&'static str> {
        self.another_load.then_some(
            "Passed over: changes after which the users, answered sooner, would send more than three times as much.",
        )
    }
}

/// How near a limit came to refusing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRoom {
    /// The limit.
    pub id: LimitId,
    /// What it limits.
    pub resource: Arc<str>,
    /// The most in use at once, in the limit's unit; of a time-out, in nanoseconds.
    pub peak: u64,
    /// The limit's figure, in the same unit.
    pub max: u64,
}

/// One decision of the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// When.
    pub at: Instant,
    /// Index of the function in the plan's input.
    pub function: usize,
    /// What it decided.
    pub decision: Decision,
}

/// The first limit that refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstLimit {
    /// The limit.
    pub id: LimitId,
    /// What it limits.
    pub resource: Arc<str>,
    /// Towards whom, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Arc<str>>,
    /// When it first refused.
    pub at_s: Seconds,
    /// In use then, in the limit's unit.
    pub used: u64,
    /// The limit's figure.
    pub max: u64,
    /// Environments of all functions then.
    pub environments: u32,
    /// Functions that this limit refused in the whole plan, the worst hit first.
    pub victims: Vec<String>,
}

impl FirstLimit {
    /// `55,000 of 55,000 connections`, where anything is counted.
    pub(crate) fn in_use(&self) -> Option<String> {
        let figures = || format!("{} of {} {}", grouped(self.used), grouped(self.max), self.id.unit());
        self.id.is_counted().then(figures)
    }
}

/// All requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Requests of clients, each counted once; what follows tells how they ended.
    pub requests: u64,
    /// How often clients sent them: as often, unless they retry.
    pub attempts: u64,
    /// Answered well.
    pub ok: u64,
    /// Refused by a limit.
    pub throttled: u64,
    /// Ended by the function's time-out, or by that of the door before it.
    pub timed_out: u64,
    /// Everything else that clients count as an error: an error of the function, their own time-out.
    pub errors: u64,
    /// Environments that were started.
    pub cold_starts: u64,
    /// Answers by status, as the client sees them.
    pub statuses: BTreeMap<u16, u64>,
    /// Failures by cause, the outermost first.
    pub errors_by_cause: Vec<CauseRow>,
    /// From the first request to the last answer.
    pub total_s: Seconds,
    /// The fastest answer, refusals included, as load generators count.
    pub fastest_s: Seconds,
    /// The slowest answer.
    pub slowest_s: Seconds,
    /// The mean.
    pub average_s: Seconds,
    /// Answers per second of the total time.
    pub requests_per_s: f64,
    /// Percentiles of the answers.
    pub percentiles_s: BTreeMap<&'static str, Seconds>,
    /// Answers by time.
    pub histogram: Vec<HistogramRow>,
}

impl Summary {
    /// Requests that were answered well, per second of the total time.
    pub fn ok_per_s(&self) -> f64 {
        if self.total_s.0 == 0 { 0.0 } else { self.ok as f64 / self.total_s.as_f64() }
    }
}

/// One cause of failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseRow {
    /// What the client meets first, then what is behind it. Each begins with the id of a limit, or with
    /// `function.error`, `client.timeout` or `connect`.
    pub chain: Vec<String>,
    /// How many.
    pub count: u64,
}

/// Answers up to a time, and slower than the row before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistogramRow {
    /// The row's upper mark.
    pub up_to_s: Seconds,
    /// How many.
    pub count: u64,
}

/// The state after all that happens up to a moment; counts are those since the row before.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TimelineRow {
    /// The moment.
    pub t_s: Seconds,
    /// Requests in flight.
    pub concurrency: u32,
    /// Environments, busy or idle.
    pub environments: u32,
    /// Environments started.
    pub cold_starts: u64,
    /// Requests refused.
    pub throttled: u64,
    /// Connections through each shared interface and NAT gateway; empty where nobody connects.
    pub connections: BTreeMap<Arc<str>, u64>,
    /// Pools of database proxies; empty where nobody connects.
    pub pools: BTreeMap<Arc<str>, PoolRow>,
    /// Shared network interfaces; none where nobody connects.
    pub interfaces: Option<u64>,
}

/// The pool of a database proxy at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolRow {
    /// Clients that are connected.
    pub clients: u32,
    /// Connections to the database that are lent.
    pub in_use: u32,
    /// Clients that wait for one.
    pub waiting: u32,
}

/// One function.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunctionReport {
    /// Its logical id.
    pub name: String,
    /// Invocations that ran.
    pub invocations: u64,
    /// Of those, on new environments.
    pub cold_starts: u64,
    /// Requests refused.
    pub throttled: u64,
    /// Invocations ended by the time-out.
    pub timed_out: u64,
    /// The most in flight at once.
    pub peak_concurrency: u32,
    /// Percentiles of the handler's time.
    pub duration_s: BTreeMap<&'static str, Seconds>,
    /// Billed Duration of all, ms.
    pub billed_ms: u64,
    /// INIT of all, ms.
    pub init_ms: f64,
    /// The first REPORT lines. Memory used is unknown to a plan, so it is not in them.
    pub report_lines: Vec<String>,
}

/// How one `connect` fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRow {
    /// The function's logical id.
    pub function: String,
    /// `cache.example.com:443`.
    pub destination: Arc<str>,
    /// Connections that were opened.
    pub opened: u64,
    /// Times that a connection of the environment was used again.
    pub reused: u64,
    /// SYNs that nobody answered, or that a full database refused.
    pub dropped: u64,
    /// Connects that failed for good before the function's time was over.
    pub failed: u64,
    /// Connections that were forgotten on the way while they were silent.
    pub resets: u64,
    /// How long invocations waited for their connections: whole seconds, each with its count.
    pub waits_s: BTreeMap<u64, u64>,
}

/// How the events of one function, version or alias fared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRow {
    /// `Cart`, `Cart:live`.
    pub function: Arc<str>,
    /// Taken into the queue (202).
    pub accepted: u64,
    /// Whose function answered.
    pub delivered: u64,
    /// Tried again after their function failed.
    pub retried: u64,
    /// Sent back after a limit refused them.
    pub throttled: u64,
    /// Given up: too old, failed too often, or a function that reserves nothing.
    pub dropped: u64,
    /// Of those, sent to the dead letters.
    pub dead_lettered: u64,
    /// Records that destinations got.
    pub to_destinations: u64,
    /// Still waiting or running when the plan ended.
    pub pending: u64,
    /// Percentiles of their age whenever their function began.
    pub age_s: BTreeMap<&'static str, Seconds>,
}

/// How one version's or alias's provisioned concurrency fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProvisionedRow {
    /// The function's logical id.
    pub function: String,
    /// `live`, `1`.
    pub qualifier: String,
    /// Environments kept ready.
    pub environments: u32,
    /// The most of them that were busy at once.
    pub peak: u32,
    /// Requests that ran on them.
    pub invocations: u64,
    /// Requests that ran on demand since they were busy, or over ten requests a second for each.
    pub spillover: u64,
    /// Billed Duration of what ran on them, ms; it has another price.
    pub billed_ms: u64,
}

/// How one stage's cache fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheRow {
    /// `Api/prod`.
    pub stage: Arc<str>,
    /// What it holds.
    pub bytes: u64,
    /// Requests that it answered.
    pub hits: u64,
    /// Requests that went on to the function.
    pub misses: u64,
    /// Entries that made room for others before their time.
    pub evicted: u64,
    /// Responses that were too large to keep.
    pub too_large: u64,
}

/// How one authorizer fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizerRow {
    /// `Token of Api`.
    pub authorizer: String,
    /// Logical id of the function that it asks.
    pub function: Arc<str>,
    /// Requests about which that was asked.
    pub asked: u64,
    /// Requests about which an answer was kept.
    pub kept: u64,
    /// Requests that were denied.
    pub denied: u64,
    /// Requests about which there was no answer, with status 500.
    pub failed: u64,
}

/// How one `query` fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryRow {
    /// The function's logical id.
    pub function: String,
    /// The database or the database proxy.
    pub database: Arc<str>,
    /// Transactions, or statements of their own, that had a connection.
    pub asked: u64,
    /// Those among them that had to wait for it.
    pub waited: u64,
    /// Percentiles of those waits.
    pub waits_s: BTreeMap<&'static str, Seconds>,
    /// The longest of them.
    pub longest_s: Seconds,
    /// Those that waited in vain.
    pub failed: u64,
}

/// What the pool of a database proxy has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// The proxy's logical id.
    pub name: Arc<str>,
    /// The most clients at once.
    pub clients_peak: u32,
    /// Clients now.
    pub clients: u32,
    /// Clients that the proxy closed as they were idle.
    pub idle_closed: u64,
    /// Connections to the database that were opened.
    pub opened: u64,
    /// Times that one was lent.
    pub lent: u64,
    /// The most clients that waited at once.
    pub waiting_peak: u32,
    /// Clients that pinned theirs.
    pub pinned: u64,
}

/// Something that was assumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumption {
    /// What it is about.
    pub what: String,
    /// The value that was used.
    pub value: String,
    /// Why that one.
    pub why: String,
}

impl Assumption {
    /// One row.
    pub fn new(what: impl Into<String>, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into(), why: why.into() }
    }
}

/// What computed a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// Onrush's version.
    pub version: &'static str,
    /// The era.
    pub era: String,
    /// The Region.
    pub region: String,
    /// The seed.
    pub seed: u64,
    /// A hash over every decision in order: equal if and only if two plans decided alike.
    pub decisions_hash: String,
}

/// How many requests one limit refused, or ended, in a bucket of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalRow {
    /// The bucket's begin.
    pub at_s: Seconds,
    /// The limit.
    pub limit: LimitId,
    /// What it limits.
    pub resource: Arc<str>,
    /// How many.
    pub count: u64,
}
