//! What is written down while a plan runs.

use super::function::{Course, Function, Warmth};
use crate::input::DoorKind;
use crate::options::Options;
use crate::refusals::Refusals;
use crate::report::{Decided, FirstLimit, Seconds};
use crate::samples::Samples;
use crate::timeline::Timeline;
use limits::billing::{BillingRules, Millis, Times};
use limits::{Decision, ProvisionedId};
use model::{ApiKind, GatewayResponse, Instant, LimitId, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// So many REPORT lines of each function are kept.
const REPORT_LINES_MAX: usize = 10;

/// So many decisions are kept one by one.
const TRACE_MAX: usize = 1_000_000;

/// What a client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The function's answer.
    Ok,
    /// The event was accepted.
    Accepted,
    /// The function ran into its time-out, having waited so long for connections.
    TimedOut(Cause, Duration),
    /// The function failed, having waited so long for connections.
    Failed(Cause, Duration),
    /// The door waited no longer for the function, which had waited so long for connections then.
    DoorTimedOut(Cause, Duration),
    /// A limit refused the request.
    Refused(LimitId),
    /// A limit left the function's new environment without a network interface.
    Unplaced(LimitId),
    /// The authorizer said no.
    Denied,
    /// The authorizer could not be asked, failed, or did not answer in time.
    Barred(Cause, Duration),
}

/// What a client meets first, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outer {
    /// A limit that answers.
    Limit(LimitId),
    /// The function answered with an error of its own.
    FunctionError,
    /// The authorizer denied the request.
    Denial,
    /// There was no answer of the authorizer.
    AuthorizerError,
    /// The client waited no longer.
    ClientTimeout,
}

/// Why a client fared badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    pub outer: Outer,
    /// Index of the trouble behind it.
    pub trouble: Option<u32>,
}

/// What stood in the way of a step.
#[derive(Debug)]
pub enum Trouble {
    /// SYNs of a connect were refused, with these figures when they first were.
    Connect { destination: Arc<str>, refusal: Refusal },
    /// A query waited for a connection of a pool, as this was full, with the figures when it first was.
    Query { database: Arc<str>, refusal: Refusal, behind: Option<Refusal> },
    /// A call of the function with this index.
    Call { function: usize, why: CallTrouble },
}

/// Why a call went wrong.
#[derive(Clone, Debug)]
pub enum CallTrouble {
    /// It was refused, with these figures when it first was.
    Refused(Refusal),
    /// The function that was called failed.
    Failed(Cause),
    /// There was no answer in time.
    Late,
}

/// What tells the troubles of calls apart.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CallKey {
    Refused(LimitId, Arc<str>),
    Failed(Cause),
    Late,
}

/// How often a cause struck, and how long connects had waited then.
#[derive(Clone, Copy, Debug)]
pub struct Strikes {
    pub count: u64,
    pub shortest: Duration,
    pub longest: Duration,
}

/// Counts by cause.
#[derive(Debug, Default)]
pub struct Causes(pub BTreeMap<Cause, Strikes>);

impl Causes {
    fn add(&mut self, cause: Cause, waited: Duration) {
        let first = Strikes { count: 0, shortest: waited, longest: waited };
        let strikes = self.0.entry(cause).or_insert(first);
        strikes.count += 1;
        strikes.shortest = strikes.shortest.min(waited);
        strikes.longest = strikes.longest.max(waited);
    }
}

impl Answer {
    /// The status that the client sees. What a function URL and an HTTP API make of a time-out or a throttle
    /// is not published for every case; these are the reported ones.
    pub const fn status(self, door: Option<DoorKind>) -> u16 {
        let api = match door {
            Some(DoorKind::HttpApi) => Some(ApiKind::Http),
            Some(DoorKind::RestApi) => Some(ApiKind::Rest),
            Some(DoorKind::FunctionUrl | DoorKind::LoadBalancer) | None => None,
        };
        let limit = match self {
            Self::Refused(limit) => Some(limit),
            Self::DoorTimedOut(..) => Some(LimitId::IntegrationTimeout),
            Self::Ok
            | Self::Accepted
            | Self::TimedOut(..)
            | Self::Failed(..)
            | Self::Unplaced(_)
            | Self::Denied
            | Self::Barred(..) => None,
        };
        if let (Some(limit), Some(api)) = (limit, api)
            && let Some(response) = GatewayResponse::to(limit)
        {
            return response.status(api);
        }
        match (self, door) {
            (Self::Accepted, _) => 202,
            (Self::Denied, _) => 403,
            (Self::Barred(..), _) => 500,
            (Self::Ok, _) | (Self::TimedOut(..) | Self::Failed(..), None) => 200,
            (Self::Refused(_), None | Some(DoorKind::FunctionUrl)) => 429,
            // A load balancer says 502 whatever keeps its function from an answer; not confirmed for each case.
            (_, Some(DoorKind::LoadBalancer)) => 502,
            (Self::TimedOut(..) | Self::Failed(..), Some(DoorKind::FunctionUrl | DoorKind::RestApi)) => 502,
            (Self::TimedOut(..) | Self::Failed(..), Some(DoorKind::HttpApi)) => 500,
            (Self::Unplaced(_), None | Some(DoorKind::FunctionUrl | DoorKind::RestApi)) => 502,
            (Self::Unplaced(_), Some(DoorKind::HttpApi)) => 500,
            (Self::Refused(_), Some(DoorKind::HttpApi)) => 503,
            (Self::Refused(_), Some(DoorKind::RestApi)) => 500,
            // Only APIs wait no longer than their function.
            (Self::DoorTimedOut(..), _) => 504,
        }
    }

    /// The trouble behind it, and how long connects had waited.
    pub fn trouble(self) -> (Option<u32>, Duration) {
        match self {
            Self::TimedOut(cause, waited)
            | Self::Failed(cause, waited)
            | Self::DoorTimedOut(cause, waited)
            | Self::Barred(cause, waited) => (cause.trouble, waited),
            Self::Ok | Self::Accepted | Self::Refused(_) | Self::Unplaced(_) | Self::Denied => {
                (None, Duration::ZERO)
            }
        }
    }
}

/// One function's counts.
#[derive(Debug, Default)]
pub struct FunctionRecord {
    pub invocations: u64,
    pub cold_starts: u64,
    pub throttled: u64,
    pub timed_out: u64,
    pub peak_concurrency: u32,
    pub durations: Samples,
    pub billed_ms: u64,
    /// Bytes of responses that went and cost something.
    pub streamed: u128,
    pub init_nanos: u64,
    pub report_lines: Vec<String>,
    /// An INIT ran into its time limit.
    pub init_timed_out: bool,
}

/// Everything that the report needs.
#[derive(Debug)]
pub struct Record {
    pub timeline: Timeline,
    pub refusals: Refusals,
    pub functions: Vec<FunctionRecord>,
    pub answers: Samples,
    /// Invocations that the dispatcher was asked for, and requests that a door answered by itself.
    pub asked: u64,
    /// Requests of clients.
    pub requests: u64,
    /// How often clients sent them.
    pub attempts: u64,
    pub ok: u64,
    pub throttled: u64,
    pub timed_out: u64,
    /// Functions that answered with an error.
    pub failed: u64,
    /// Clients that waited no longer.
    pub gave_up: u64,
    pub statuses: BTreeMap<u16, u64>,
    /// What spoiled answers.
    pub causes: Causes,
    pub troubles: Vec<Trouble>,
    by_trouble: BTreeMap<(Arc<str>, LimitId, Arc<str>), u32>,
    by_query: BTreeMap<(Arc<str>, LimitId, Arc<str>), u32>,
    by_call: BTreeMap<(usize, CallKey), u32>,
    /// Whom each limit refused: by its resource and the function's index.
    pub victims: BTreeMap<(LimitId, Arc<str>, usize), u64>,
    pub first_limit: Option<FirstLimit>,
    pub first_sent: Option<Instant>,
    pub last_answered: Instant,
    pub decisions: DecisionsHash,
    /// The first decisions, if they are wanted.
    pub trace: Option<Vec<Decided>>,
    /// A user without think time was answered in no time.
    pub turnaround_used: bool,
    /// Billed Duration on provisioned environments, which has another price.
    pub provisioned_ms: BTreeMap<ProvisionedId, u64>,
}

impl Record {
    pub fn new(step: Duration, functions: usize, options: &Options) -> Self {
        Self {
            timeline: Timeline::new(step),
            refusals: Refusals::default(),
            functions: std::iter::repeat_with(FunctionRecord::default).take(functions).collect(),
            answers: Samples::default(),
            asked: 0,
            requests: 0,
            attempts: 0,
            ok: 0,
            throttled: 0,
            timed_out: 0,
            failed: 0,
            gave_up: 0,
            statuses: BTreeMap::new(),
            causes: Causes::default(),
            troubles: Vec::new(),
            by_trouble: BTreeMap::new(),
            by_query: BTreeMap::new(),
            by_call: BTreeMap::new(),
            victims: BTreeMap::new(),
            first_limit: None,
            first_sent: None,
            last_answered: Instant::START,
            decisions: DecisionsHash { is_off: options.unhashed, ..DecisionsHash::default() },
            trace: options.trace.then(Vec::new),
            turnaround_used: false,
            provisioned_ms: BTreeMap::new(),
        }
    }

    /// A client sends a request, for the first time or again.
    #[inline]
    pub fn sent(&mut self, now: Instant) {
        self.attempts += 1;
        self.first_sent.get_or_insert(now);
    }

    /// The dispatcher has decided on an invocation.
    pub fn decided(&mut self, now: Instant, function: usize, decision: &Decision) {
        self.asked += 1;
        self.decisions.add(now, function, decision);
        if let Some(trace) = self.trace.as_mut().filter(|trace| trace.len() < TRACE_MAX) {
            trace.push(Decided { at: now, function, decision: decision.clone() });
        }
    }

    /// The door refused a request before its function was asked.
    pub fn turned_away(&mut self, now: Instant, refusal: &Refusal, environments: u32, function: usize) {
        self.asked += 1;
        self.decisions.door(now, function, refusal.limit as u64 + 1);
        self.strike(now, refusal, None, environments, function);
        self.timeline.throttle();
    }

    /// The door's cache answered a request.
    pub fn hit(&mut self, now: Instant, function: usize) {
        self.asked += 1;
        self.decisions.door(now, function, 0);
    }

    /// An authorizer's kept answer says whether a request of the function may pass.
    pub fn judged(&mut self, now: Instant, function: usize, allowed: bool) {
        self.asked += 1;
        self.decisions.judged(now, function, allowed);
    }

    /// An invocation begins.
    pub fn starts(&mut self, function: usize, warmth: Warmth) {
        let record = &mut self.functions[function];
        record.invocations += 1;
        if warmth == Warmth::Cold {
            record.cold_starts += 1;
            self.timeline.cold_start();
        }
    }

    /// The course of an invocation is known. `ends` says that it ends before the plan does; only then it has a duration.
    pub fn runs(
        &mut self,
        function: &Function,
        course: &Course,
        billing: BillingRules,
        ends: bool,
        request: u64,
    ) {
        let record = &mut self.functions[function.index];
        record.init_timed_out |= course.init_timed_out;
        if !ends {
            return;
        }
        record.timed_out += u64::from(course.timed_out);
        record.durations.push(course.handler);
        record.init_nanos = record.init_nanos.saturating_add(course.init);
        // Whether an INIT that timed out is billed besides its second run is not published; here it is not.
        let billed_ms = billing.billed_ms(&Times {
            duration: Duration::from_nanos(course.handler),
            init: Duration::from_nanos(if course.init_timed_out { 0 } else { course.init }),
            init_always_billed: function.init_always_billed,
        });
        record.billed_ms = record.billed_ms.saturating_add(billed_ms);
        record.streamed += u128::from(course.streamed);
        if record.report_lines.len() < REPORT_LINES_MAX {
            record.report_lines.push(report_line(request, function, course, billed_ms));
        }
    }

    /// So many bytes of a response go that cost something.
    pub fn streams(&mut self, function: usize, bytes: u64) {
        self.functions[function].streamed += u128::from(bytes);
    }

    /// An invocation on a provisioned environment took so long. Its INIT was ahead, and is no part of it.
    pub fn runs_provisioned(&mut self, pool: ProvisionedId, handler: u64) {
        let billed = self.provisioned_ms.entry(pool).or_default();
        *billed = billed.saturating_add(handler.div_ceil(1_000_000));
    }

    /// A limit refused, or ended, a request of the function.
    pub fn refused(&mut self, now: Instant, refusal: &Refusal, environments: u32, function: usize) {
        self.strike(now, refusal, refusal.destination.as_ref(), environments, function);
        if !matches!(refusal.limit, LimitId::FunctionTimeout | LimitId::IntegrationTimeout) {
            self.timeline.throttle();
            self.functions[function].throttled += 1;
        }
    }

    /// A limit left a new environment of the function without a network interface.
    pub fn unplaced(&mut self, now: Instant, refusal: &Refusal, environments: u32, function: usize) {
        self.strike(now, refusal, None, environments, function);
    }

    /// A query of the function got no connection of a pool.
    pub fn unserved(&mut self, now: Instant, refusal: &Refusal, environments: u32, function: usize) {
        self.strike(now, refusal, None, environments, function);
    }

    /// A query waits, as this is full; or waited in vain, with what was full behind that. The index of the trouble.
    pub fn waits(&mut self, database: &Arc<str>, refusal: &Refusal, behind: Option<&Refusal>) -> u32 {
        let key = (Arc::clone(database), refusal.limit, Arc::clone(&refusal.resource));
        let troubles = &mut self.troubles;
        *self.by_query.entry(key).or_insert_with(|| {
            let (refusal, behind) = (refusal.clone(), behind.cloned());
            troubles.push(Trouble::Query { database: Arc::clone(database), refusal, behind });
            (troubles.len() - 1) as u32
        })
    }

    /// A SYN of the function to `destination` was dropped. The index of the trouble.
    pub fn dropped(
        &mut self,
        now: Instant,
        refusal: &Refusal,
        destination: &Arc<str>,
        environments: u32,
        function: usize,
    ) -> u32 {
        self.strike(now, refusal, Some(destination), environments, function);
        self.trouble(refusal, destination)
    }

    /// Something slows or stops the way to `destination`. The index of the trouble.
    pub fn trouble(&mut self, refusal: &Refusal, destination: &Arc<str>) -> u32 {
        let key = (Arc::clone(destination), refusal.limit, Arc::clone(&refusal.resource));
        let troubles = &mut self.troubles;
        *self.by_trouble.entry(key).or_insert_with(|| {
            troubles
                .push(Trouble::Connect { destination: Arc::clone(destination), refusal: refusal.clone() });
            (troubles.len() - 1) as u32
        })
    }

    /// A call of the function went wrong. The index of the trouble.
    pub fn call_trouble(&mut self, function: usize, why: CallTrouble) -> Option<u32> {
        let key = match &why {
            CallTrouble::Refused(refusal) => CallKey::Refused(refusal.limit, Arc::clone(&refusal.resource)),
            CallTrouble::Failed(cause) => CallKey::Failed(*cause),
            CallTrouble::Late => CallKey::Late,
        };
        let troubles = &mut self.troubles;
        let index = *self.by_call.entry((function, key)).or_insert_with(|| {
            troubles.push(Trouble::Call { function, why });
            (troubles.len() - 1) as u32
        });
        Some(index)
    }

    fn strike(
        &mut self,
        now: Instant,
        refusal: &Refusal,
        destination: Option<&Arc<str>>,
        environments: u32,
        function: usize,
    ) {
        let Refusal { limit, resource, used, max, .. } = refusal;
        self.refusals.add(now, *limit, resource);
        *self.victims.entry((*limit, Arc::clone(resource), function)).or_default() += 1;
        self.first_limit.get_or_insert_with(|| FirstLimit {
            id: *limit,
            resource: Arc::clone(resource),
            destination: destination.cloned(),
            at_s: Seconds::from(now),
            used: *used,
            max: *max,
            environments,
            victims: Vec::new(),
        });
    }

    /// A client has its answer.
    pub fn answered(&mut self, sent: Instant, at: Instant, answer: Answer, door: Option<DoorKind>) {
        match answer {
            Answer::Ok | Answer::Accepted => self.ok += 1,
            Answer::TimedOut(cause, waited) | Answer::DoorTimedOut(cause, waited) => {
                self.timed_out += 1;
                self.causes.add(cause, waited);
            }
            Answer::Failed(cause, waited) | Answer::Barred(cause, waited) => {
                self.failed += 1;
                self.causes.add(cause, waited);
            }
            Answer::Denied => {
                self.failed += 1;
                self.causes.add(Cause { outer: Outer::Denial, trouble: None }, Duration::ZERO);
            }
            Answer::Refused(limit) => {
                self.throttled += 1;
                self.causes.add(Cause { outer: Outer::Limit(limit), trouble: None }, Duration::ZERO);
            }
            Answer::Unplaced(limit) => {
                self.failed += 1;
                self.causes.add(Cause { outer: Outer::Limit(limit), trouble: None }, Duration::ZERO);
            }
        }
        *self.statuses.entry(answer.status(door)).or_default() += 1;
        self.answers.push(at.as_nanos() - sent.as_nanos());
        self.last_answered = self.last_answered.max(at);
    }

    /// A client waits no longer, with a connect that has waited so long behind it.
    pub fn gives_up(&mut self, at: Instant, trouble: Option<u32>, waited: Duration) {
        self.gave_up += 1;
        self.causes.add(Cause { outer: Outer::ClientTimeout, trouble }, waited);
        self.last_answered = self.last_answered.max(at);
    }
}

/// A REPORT line as Lambda writes it: fields end with a tab. A plan does not know the memory used.
fn report_line(request: u64, function: &Function, course: &Course, billed_ms: u64) -> String {
    let mut line = format!(
        "REPORT RequestId: 00000000-0000-4000-8000-{request:012x}\tDuration: {} ms\tBilled Duration: {billed_ms} ms\t\
         Memory Size: {} MB\t",
        millis(course.handler),
        function.memory_mb
    );
    if course.init > 0 && !course.init_timed_out {
        line += &format!("Init Duration: {} ms\t", millis(course.init));
    }
    if course.timed_out {
        line += "Status: timeout\t";
    }
    line
}

fn millis(nanos: u64) -> Millis {
    Millis(Duration::from_nanos(nanos))
}

/// A hash over decisions in their order. Not for secrets: two plans that differ are told apart with 2^-64 doubt.
#[derive(Clone, Copy, Debug)]
pub struct DecisionsHash {
    state: u64,
    is_off: bool,
}

impl Default for DecisionsHash {
    fn default() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, is_off: false }
    }
}

impl DecisionsHash {
    /// Adds one decision.
    #[inline]
    fn add(&mut self, now: Instant, function: usize, decision: &Decision) {
        let (kind, detail) = match decision {
            Decision::Run(id) => (0, u64::from(id.slot()) << 32 | u64::from(id.generation())),
            Decision::Start(id) => (1, u64::from(id.slot()) << 32 | u64::from(id.generation())),
            Decision::Reset(id) => (2, u64::from(id.slot()) << 32 | u64::from(id.generation())),
            Decision::Refuse(refusal) => (3, refusal.limit as u64),
            Decision::NoFunction => (4, 0),
        };
        self.words([now.as_nanos(), (function as u64) << 8 | kind, detail]);
    }

    /// Adds what became of the SYNs that an invocation sent at once.
    #[inline]
    pub fn syns(&mut self, now: Instant, connect: u32, wanted: u32, opened: u32) {
        let kind = 5;
        self.words([
            now.as_nanos(),
            u64::from(connect) << 8 | kind,
            u64::from(wanted) << 32 | u64::from(opened),
        ]);
    }

    /// Adds what the door decided by itself.
    #[inline]
    fn door(&mut self, now: Instant, function: usize, detail: u64) {
        let kind = 6;
        self.words([now.as_nanos(), (function as u64) << 8 | kind, detail]);
    }

    /// Adds what an authorizer's kept answer says.
    #[inline]
    fn judged(&mut self, now: Instant, function: usize, allowed: bool) {
        let kind = 10;
        self.words([now.as_nanos(), (function as u64) << 8 | kind, u64::from(allowed)]);
    }

    /// Adds whether a transaction had a connection of a pool at once.
    #[inline]
    pub fn borrow(&mut self, now: Instant, query: u32, lent: bool) {
        let kind = 9;
        self.words([now.as_nanos(), u64::from(query) << 8 | kind, u64::from(lent)]);
    }

    #[inline]
    fn words(&mut self, words: [u64; 3]) {
        if self.is_off {
            return;
        }
        for word in words {
            // One round of a multiply-and-fold hash (as in wyhash); both constants are odd and random.
            let product = u128::from(self.state ^ word ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db_u128;
            self.state = (product >> 64) as u64 ^ product as u64;
        }
    }
}

impl std::fmt::Display for DecisionsHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:016x}", self.state)
    }
}
