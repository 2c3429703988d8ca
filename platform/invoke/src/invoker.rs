//! The front of the room: functions come and go, requests come in, decisions and answers go out.

mod others;
mod preparation;
mod shelf;
mod versions;

use self::preparation::never_ran;
pub use self::shelf::Preparation;
use self::versions::Origin;
use crate::environment::{Entry, Environment, HostError, RestoreFailure, Version};
use crate::failure::Failure;
use crate::freezer::Freezer;
use crate::gate::{Entrance, Gate, Place, TICK};
use crate::network::Network;
use crate::reactors;
use crate::refusals::Refusals;
use crate::room::{Room, Starting};
use crate::streaming::{Answered, Caller, Streams};
use bytes::Bytes;
use control::{Change, Control, Function, State};
use limits::{
    Callee, Decision, Dispatcher, Effect, EnvironmentId, FunctionId, FunctionLimits, InvocationType, Outcome,
    ProvisionedId, Settings, StreamFigures,
};
use model::{Instant, LimitRow, Refusal};
use runtimes::{RuntimeError, Runtimes};
use sandbox::{HostMemory, Sandboxes, StartError};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use telemetry::{Counters, FunctionCounters, Logs};
use tokio::sync::{Notify, RwLock, oneshot, watch};

/// What the room is told at start.
#[derive(Debug)]
pub struct Options {
    /// The limits.
    pub settings: Settings,
    /// The limits of streamed responses.
    pub streams: StreamFigures,
    /// How long INIT may take.
    pub init_timeout: Duration,
    /// Whether INIT is billed.
    pub init_billed: bool,
    /// The Region that functions see.
    pub region: Arc<str>,
    /// How long an environment is idle before it is frozen.
    pub freeze_after: Duration,
    /// Where layers are merged.
    pub layers_folder: PathBuf,
    /// What carries environments' packets; `None`: they have loopback alone.
    pub network: Option<Arc<dyn Network>>,
    /// Most of this host's memory that may be in use when an environment is started, in MB; `None`: all but a reserve.
    pub memory_max_mb: Option<u64>,
    /// Turns true when the doors serve: an INIT that nobody waits for may ask the platform's own API, and begins by then only.
    pub serving: watch::Receiver<bool>,
    /// Whether to keep every decision for [`Invoker::decisions`]; for comparing with a plan, since it grows.
    pub trace: bool,
}

/// How many idle environments are given up for one that starts, while the host has no memory, descriptors or processes left:
/// more than one, so that the host gets out of its straits.
const GIVEN_UP_FOR_ONE: usize = 2;

/// One decision of the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The function's name.
    pub function: Arc<str>,
    /// What was decided.
    pub decision: Decision,
}

/// One request to run a function.
#[derive(Clone, Debug)]
pub struct Request {
    /// The function's bare name.
    pub function: Arc<str>,
    /// The ARN as the caller named it, with its qualifier.
    pub invoked_arn: Arc<str>,
    /// A fresh request id.
    pub request_id: Arc<str>,
    /// The event.
    pub payload: Bytes,
    /// Whether the end of the log is wanted.
    pub tail: bool,
    /// The caller's client context, decoded.
    pub client_context: Option<Arc<str>>,
    /// The caller's X-Ray header.
    pub trace_id: Option<Arc<str>>,
}

/// What came of a request that ran.
#[derive(Clone, Debug)]
pub struct Invoked {
    /// The handler's result, or an error document.
    pub payload: Bytes,
    /// Whether it is an error document (`X-Amz-Function-Error: Unhandled`).
    pub failed: bool,
    /// The end of the log, when asked for.
    pub log_tail: Option<Vec<u8>>,
    /// The version that ran.
    pub version: String,
    /// The limit that made it fail, if one did.
    pub limit: Option<Arc<Refusal>>,
    /// What the runtime said of a streamed result.
    pub content_type: Option<Arc<str>>,
}

/// Why a request did not run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvokeError {
    /// There is no such function (any more).
    #[error("no function is called {0}")]
    NoFunction(Arc<str>),
    /// Its image is still being fetched, or could not be had; or SnapStart prepares it still, or could not.
    #[error("{}", control::not_ready(*.0))]
    NotReady(State),
    /// A limit refused it.
    #[error("{0}")]
    Refused(Refusal),
    /// An environment of a SnapStart version could not be restored.
    #[error("{0}")]
    Restore(RestoreFailure),
    /// This host could not run it.
    #[error("{0}")]
    Host(Arc<str>),
}

/// A look at the whole, for health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Environments, busy and idle.
    pub environments: u32,
    /// Requests in flight.
    pub in_flight: u32,
}

/// Runs functions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Invoker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    /// Wakes the reaper when there is a deadline where there was none.
    deadlines: Notify,
    started: std::time::Instant,
    sandboxes: Sandboxes,
    runtimes: Arc<Runtimes>,
    freezer: Arc<Freezer>,
    logs: Logs,
    counters: Arc<Counters>,
    region: Arc<str>,
    init_timeout: Duration,
    init_billed: bool,
    layers_folder: PathBuf,
    network: Option<Arc<dyn Network>>,
    streams: Arc<Streams>,
    refusals: Refusals,
    room: Room,
    serving: watch::Receiver<bool>,
    /// Held for reading by environments that tell extensions of their end.
    farewells: Arc<RwLock<()>>,
    /// The platform stops: what ends now is no fault of a function's.
    stops: AtomicBool,
    /// Who knows the functions that nobody asked for yet.
    others: OnceLock<Weak<Control>>,
    /// There are none of those any more.
    others_taken: AtomicBool,
}

#[derive(Debug)]
struct Core {
    dispatcher: Dispatcher,
    /// What can be invoked, by key: `cart`, `cart:3`, `cart:live`.
    functions: HashMap<Arc<str>, Known>,
    /// The keys of a function's versions and aliases.
    keys: HashMap<Arc<str>, Vec<Arc<str>>>,
    pools: HashMap<ProvisionedId, versions::Pool>,
    /// Environments of SnapStart versions, initialised ahead.
    shelves: HashMap<FunctionId, shelf::Shelf>,
    /// What lay on shelves that are gone; to be ended.
    forgotten: Vec<Arc<Environment>>,
    environments: HashMap<EnvironmentId, Named>,
    trace: Option<Vec<Decided>>,
}

/// What an id stands for at present; see [`Core::exchange`].
#[derive(Debug)]
struct Named {
    environment: Arc<Environment>,
    /// An invocation was admitted to it, as the dispatcher sees it.
    in_use: bool,
}

#[derive(Clone, Debug)]
struct Known {
    id: FunctionId,
    /// What the dispatcher is asked for.
    callee: Callee,
    version: Arc<Version>,
}

impl Invoker {
    /// An invoker without functions. Call it inside a tokio runtime.
    pub fn new(
        options: Options,
        sandboxes: Sandboxes,
        runtimes: Arc<Runtimes>,
        logs: Logs,
        counters: Arc<Counters>,
    ) -> Self {
        let freezer = Arc::new(Freezer::new(options.freeze_after));
        let started = std::time::Instant::now();
        let invoker = Self(Arc::new(Shared {
            core: Mutex::new(Core {
                dispatcher: Dispatcher::new(options.settings),
                functions: HashMap::new(),
                keys: HashMap::new(),
                pools: HashMap::new(),
                shelves: HashMap::new(),
                forgotten: Vec::new(),
                environments: HashMap::new(),
                trace: options.trace.then(Vec::new),
            }),
            deadlines: Notify::new(),
            started,
            sandboxes,
            runtimes,
            freezer: freezer.clone(),
            logs,
            counters,
            region: options.region,
            init_timeout: options.init_timeout,
            init_billed: options.init_billed,
            layers_folder: options.layers_folder,
            network: options.network,
            streams: Streams::new(options.streams, started),
            refusals: Refusals::default(),
            room: Room::new(HostMemory::of_this_process(), options.memory_max_mb),
            serving: options.serving,
            farewells: Arc::default(),
            stops: AtomicBool::new(false),
            others: OnceLock::new(),
            others_taken: AtomicBool::new(false),
        }));
        tokio::spawn(freezer.run());
        tokio::spawn(invoker.clone().reap());
        invoker
    }

    /// Takes over what changed in the control room.
    pub fn apply(&self, change: Change) {
        let now = self.now();
        let mut effects = Vec::new();
        let mut deployed = None;
        let mut core = self.lock();
        match change {
            Change::Put(function) => {
                self.put(&mut core, now, function.clone(), &mut effects);
                self.sync_versions(&mut core, now, &function, Origin::Change, &mut effects);
                deployed = Some((function.arn.clone(), Some(function)));
            }
            Change::Removed { name } => {
                Self::forget_versions(&mut core, &name);
                if let Some(known) = core.functions.remove(name.as_str()) {
                    core.dispatcher.remove_function(now, known.id, &mut effects);
                    deployed = Some((known.version.function.arn.clone(), None));
                }
                self.0.logs.forget(&name);
                self.0.counters.remove(&name);
            }
            Change::Reserved { name, reserved } => {
                if let Some(known) = self.known(&mut core, now, &name).cloned() {
                    let limits = limits_of(&known.version.function, reserved);
                    core.dispatcher.update_function(now, known.id, limits);
                }
            }
        }
        let mut taken = core.take_out(&effects);
        taken.blanks = core.blanks();
        drop(core);
        self.carry_out(taken);
        if let (Some(network), Some((arn, function))) = (&self.0.network, deployed) {
            network.deployed(&arn, function.as_deref());
        }
        // Something may be due earlier than what the reaper waits for.
        self.0.deadlines.notify_one();
    }

    /// Takes over functions that the control room has at the start: [`Invoker::apply`] for each, in one go.
    pub fn begin(&self, functions: &[Arc<Function>]) {
        let now = self.now();
        let mut effects = Vec::new();
        let mut core = self.lock();
        core.functions.reserve(functions.len());
        for function in functions {
            self.put(&mut core, now, function.clone(), &mut effects);
            self.sync_versions(&mut core, now, function, Origin::Store, &mut effects);
        }
        let mut taken = core.take_out(&effects);
        taken.blanks = core.blanks();
        drop(core);
        self.carry_out(taken);
        if let Some(network) = &self.0.network {
            functions.iter().for_each(|function| network.deployed(&function.arn, Some(function)));
        }
        self.0.deadlines.notify_one();
    }

    /// Everything as at the start, but for the functions and their settings: no environment is used again (busy ones finish
    /// their invocation), SnapStart prepares its versions anew, those that had failed, too, buckets are full, the board and
    /// the counters begin anew.
    pub fn reset(&self) {
        let now = self.now();
        let mut effects = Vec::new();
        let mut core = self.lock();
        core.dispatcher.reset(now, &mut effects);
        self.renew_pools(&mut core, now, &mut effects);
        self.renew_shelves(&mut core);
        let mut taken = core.take_out(&effects);
        taken.blanks = core.blanks();
        drop(core);
        self.0.counters.reset();
        self.carry_out(taken);
        self.0.deadlines.notify_one();
    }

    fn put(&self, core: &mut Core, now: Instant, function: Arc<Function>, effects: &mut Vec<Effect>) {
        let name: Arc<str> = function.name.as_str().into();
        let limits = limits_of(&function, function.reserved);
        let known = core.functions.get(&name).cloned();
        let id = match &known {
            Some(known) => {
                core.dispatcher.update_function(now, known.id, limits);
                if known.version.function.version_key != function.version_key {
                    core.dispatcher.retire_version(now, known.id, effects);
                } else {
                    return;
                }
                known.id
            }
            None => core.dispatcher.add_function(now, limits),
        };
        let version = self.version(function, false);
        core.functions.insert(name, versions::whole(id, version));
    }

    /// Runs a function and waits for its answer: [`Invoker::admit`] and [`Admission::run`].
    ///
    /// # Errors
    /// See [`InvokeError`]; a handler that fails is no error here but an [`Invoked`] with `failed`.
    pub async fn invoke(&self, request: Request) -> Result<Invoked, InvokeError> {
        self.admit(&request.function, &request.request_id)?.run(request).await
    }

    /// Asks the limits for one invocation of a function, or of the version or alias under a key as
    /// [`control::Route`] has it. What is admitted counts as in flight at once.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub fn admit(&self, function: &str, request_id: &str) -> Result<Admission, InvokeError> {
        self.admit_as(function, request_id, InvocationType::RequestResponse)
    }

    /// The same for an invocation of that type: asynchronous ones meet no request rate.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub fn admit_as(
        &self,
        function: &str,
        request_id: &str,
        kind: InvocationType,
    ) -> Result<Admission, InvokeError> {
        match self.decide(function, kind) {
            Ok((entry, id, environment)) => {
                reactors::admitted();
                let mut held = Held {
                    invoker: self.clone(),
                    id,
                    environment,
                    place: None,
                    starting: None,
                    settled: false,
                };
                if matches!(entry, Entry::Start | Entry::Reset) {
                    match self.room(entry) {
                        Ok(starting) => held.starting = Some(starting),
                        Err(refusal) => {
                            FunctionCounters::count(&held.environment.version.counters.throttles);
                            self.0.refusals.say(&refusal, function, request_id);
                            return Err(InvokeError::Refused(refusal));
                        }
                    }
                }
                Ok(Admission { entry, held })
            }
            Err(error) => {
                // Out of the lock: a terminal that stands still must stop nothing.
                if let InvokeError::Refused(refusal) = &error {
                    reactors::refused();
                    self.0.refusals.say(refusal, function, request_id);
                }
                Err(error)
            }
        }
    }

    /// Memory of this host for an environment that starts. Where there is none, idle environments are given up for it.
    fn room(&self, entry: Entry) -> Result<Starting, Refusal> {
        let now = self.now();
        let refusal = match self.0.room.take(now) {
            Ok(starting) => return Ok(starting),
            Err(refusal) => refusal,
        };
        let given_up = self.give_up_idle(now);
        // An environment that starts anew after a failure has its place already.
        if given_up > 0 || entry == Entry::Reset {
            return Ok(self.0.room.take_anyway());
        }
        self.0.room.refused(now);
        Err(refusal)
    }

    /// Ends idle environments, the oldest first, for one that starts; how many there were.
    fn give_up_idle(&self, now: Instant) -> usize {
        let (mut given_up, mut effects) = (0, Vec::new());
        let mut core = self.lock();
        while given_up < GIVEN_UP_FOR_ONE && core.dispatcher.reap_oldest(now, &mut effects) {
            given_up += 1;
        }
        let taken = core.take_out(&effects);
        drop(core);
        self.carry_out(taken);
        given_up
    }

    /// Whether a function could be invoked now, without invoking it (`InvocationType: DryRun`).
    pub fn knows(&self, function: &str) -> bool {
        let now = self.now();
        self.known(&mut self.lock(), now, function).is_some()
    }

    fn decide(
        &self,
        function: &str,
        kind: InvocationType,
    ) -> Result<(Entry, EnvironmentId, Arc<Environment>), InvokeError> {
        let now = self.now();
        let mut core = self.lock();
        let core = &mut *core;
        let no_function = || InvokeError::NoFunction(function.into());
        self.known(core, now, function);
        let known = core.functions.get(function).ok_or_else(no_function)?;
        let state = known.version.function.state;
        if state != State::Active {
            return Err(InvokeError::NotReady(state));
        }
        if let Some(state) = core.unready(known) {
            return Err(InvokeError::NotReady(state));
        }
        let decision = core.dispatcher.invoke_as(now, known.callee, kind);
        if let Some(trace) = &mut core.trace {
            trace.push(Decided { function: function.into(), decision: decision.clone() });
        }
        let (entry, id) = match decision {
            Decision::Run(id) => (Entry::Run, id),
            Decision::Reset(id) => (Entry::Reset, id),
            Decision::Start(id) => {
                let (of, version) = (known.id, known.version.clone());
                let (ready, blanks) = core.off_the_shelf(of);
                if !blanks.is_empty() {
                    tokio::spawn(self.clone().restock(blanks));
                }
                let (entry, environment) = match ready {
                    Some(environment) => (Entry::Restore, environment),
                    None => (Entry::Start, Environment::new(version)),
                };
                core.environments.insert(id, Named { environment: environment.clone(), in_use: true });
                return Ok((entry, id, environment));
            }
            Decision::Refuse(refusal) => {
                FunctionCounters::count(&known.version.counters.throttles);
                return Err(InvokeError::Refused(refusal));
            }
            Decision::NoFunction => return Err(no_function()),
        };
        match core.environments.get_mut(&id) {
            Some(named) => {
                named.in_use = true;
                Ok((entry, id, named.environment.clone()))
            }
            None => {
                core.dispatcher.lost(now, id);
                Err(InvokeError::Host("the environment is gone".into()))
            }
        }
    }

    async fn drive(self, entry: Entry, mut held: Held, request: Request, mut caller: Caller) {
        let id = held.id;
        let version = &held.environment.version.clone();
        if entry == Entry::Run {
            self.pass_gate(&mut held, version).await;
        }
        let prepared = match self.prepared(version).await {
            Ok(prepared) => prepared,
            Err(error) => {
                let failure = Failure {
                    kind: error.error_type().to_owned(),
                    body: error.invoke_body(&request.request_id).into(),
                };
                held.settle(Err(()));
                if let RuntimeError::InvalidEntrypoint { hint, .. } = &*error {
                    version.log.write(hint);
                }
                self.0.refusals.say_failed(&request.function, &request.request_id, &failure.body);
                return caller.answer(Ok(never_ran(version, &request, failure)));
            }
        };
        let starting = held.starting.take();
        let started = || {
            drop(starting);
            if entry != Entry::Run {
                let now = self.now();
                self.lock().dispatcher.started(now, id);
            }
        };
        let environment = held.environment.clone();
        let run = environment.run(&self.0.sandboxes, entry, &prepared, &request, &mut caller, started);
        match run.await {
            Ok(ran) => {
                let counters = &version.counters;
                FunctionCounters::count(&counters.invocations);
                let took = u64::try_from(ran.duration.as_micros()).unwrap_or(u64::MAX);
                counters.duration_us.fetch_add(took, Ordering::Relaxed);
                if ran.invoked.failed || ran.outcome != Outcome::Done {
                    FunctionCounters::count(&counters.errors);
                }
                if ran.invoked.failed && ran.outcome != Outcome::TimedOut {
                    self.0.refusals.say_failed(&request.function, &request.request_id, &ran.invoked.payload);
                }
                // First the environment, then the answer: the caller's next request finds it free.
                held.settle(Ok(ran.outcome));
                caller.answer(Ok(ran.invoked));
            }
            // The package is at fault, not this host.
            Err(HostError::Start(StartError::Program { program, error })) => {
                let failure = Failure::not_executable(&request.request_id, &program, &error);
                held.settle(Err(()));
                self.0.refusals.say_failed(&request.function, &request.request_id, &failure.body);
                caller.answer(Ok(never_ran(version, &request, failure)));
            }
            Err(HostError::Start(StartError::WorkingDirectory { folder, error })) => {
                let failure = Failure::no_working_directory(&request.request_id, &folder, &error);
                held.settle(Err(()));
                self.0.refusals.say_failed(&request.function, &request.request_id, &failure.body);
                caller.answer(Ok(never_ran(version, &request, failure)));
            }
            Err(HostError::Restore(failure)) => {
                FunctionCounters::count(&version.counters.errors);
                held.settle(Err(()));
                caller.answer(Err(InvokeError::Restore(failure)));
            }
            Err(HostError::NoInterface(refusal)) => {
                FunctionCounters::count(&version.counters.errors);
                self.0.refusals.say(&refusal, &request.function, &request.request_id);
                held.settle(Err(()));
                caller.answer(Err(InvokeError::Refused(refusal)));
            }
            Err(error) => {
                if !self.0.sandboxes.is_shut_down() {
                    tracing::error!(limit = "host.sandboxes", function = %request.function, %error, "this host cannot run the function");
                }
                held.settle(Err(()));
                // Whoever tries again finds room.
                if error.is_shortage() {
                    self.give_up_idle(self.now());
                }
                caller.answer(Err(InvokeError::Host(error.to_string().into())));
            }
        }
    }

    /// Waits for a turn, when the function's invocations are short and enough of them run; then holds the environment of
    /// one that has ended.
    async fn pass_gate(&self, held: &mut Held, version: &Arc<Version>) {
        let gate = version.gate();
        match gate.enter(held.id) {
            Entrance::Open if held.environment.is_hot_here() => {}
            Entrance::Open => held.environment = self.hotter(held),
            Entrance::Wait { turn, is_first } => {
                if is_first {
                    tokio::spawn(tick(version.clone()));
                }
                held.environment = match turn.await {
                    Ok(Some(environment)) => environment,
                    Ok(None) | Err(_) => self.hotter(held),
                };
            }
        }
        held.place = Some(gate.place(std::time::Instant::now()));
    }

    /// The environment that an invocation runs in, if nobody has handed it one: its own, which may be another than it was
    /// admitted to if it waited, or one that is idle and hot.
    fn hotter(&self, held: &Held) -> Arc<Environment> {
        let mut core = self.lock();
        core.come_home(held.id);
        core.environments
            .get(&held.id)
            .map_or_else(|| held.environment.clone(), |named| named.environment.clone())
    }

    /// Gives the environment back to the dispatcher, or ends it.
    fn settle(&self, held: &Held, outcome: Result<Outcome, ()>) {
        let now = self.now();
        let mut effects = Vec::new();
        let environment = &held.environment;
        environment.release();
        let gate = environment.version.gate();
        let next = held.place.and_then(|place| gate.leave(place, std::time::Instant::now()));
        let mut core = self.lock();
        let had_deadline = core.dispatcher.next_deadline().is_some();
        match outcome {
            Ok(outcome) => {
                core.dispatcher.finished(now, held.id, outcome, &mut effects);
            }
            Err(()) => {
                core.dispatcher.lost(now, held.id);
                effects.push(Effect::Reap(held.id));
            }
        }
        let handed_over = match &next {
            Some(waiter) if outcome == Ok(Outcome::Done) => core.hand_over(gate, held.id, waiter.id),
            _ => None,
        };
        let is_handed_over = handed_over.as_ref().is_some_and(|other| Arc::ptr_eq(other, environment));
        let taken = core.take_out(&effects);
        if let Some(named) = core.environments.get_mut(&held.id) {
            named.in_use = false;
        }
        drop(core);
        if outcome == Ok(Outcome::Done) && !is_handed_over {
            gate.idle(held.id);
        }
        if taken.ended.is_empty() && !is_handed_over {
            self.0.freezer.idle(environment);
        }
        if !had_deadline {
            self.0.deadlines.notify_one();
        }
        self.carry_out(taken);
        if let Some(waiter) = next {
            waiter.call(handed_over);
        }
    }

    /// Ends environments whose idle time is over, until cancelled.
    async fn reap(self) {
        loop {
            let deadline = self.lock().dispatcher.next_deadline();
            match deadline {
                None => self.0.deadlines.notified().await,
                Some(deadline) => {
                    let wait = deadline.since(self.now());
                    tokio::select! {
                        () = tokio::time::sleep(wait + Duration::from_millis(1)) => {}
                        () = self.0.deadlines.notified() => continue,
                    }
                }
            }
            let now = self.now();
            let mut effects = Vec::new();
            let mut core = self.lock();
            core.dispatcher.advance(now, &mut effects);
            let taken = core.take_out(&effects);
            drop(core);
            self.carry_out(taken);
        }
    }

    /// Tells extensions that their environments end, and waits until they have: at most what Lambda gives them. Environments
    /// without extensions stay as they are. For the end of the platform.
    pub async fn tell_extensions_of_the_end(&self) {
        self.0.stops.store(true, Ordering::Relaxed);
        let environments: Vec<_> =
            self.lock().environments.values().map(|named| named.environment.clone()).collect();
        for environment in environments.iter().filter(|environment| environment.is_extended()) {
            environment.end();
        }
        drop(self.0.farewells.write().await);
    }

    /// Every decision so far, when traced.
    pub fn decisions(&self) -> Vec<Decided> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// The limits board, of all functions after [`Invoker::complete`].
    pub fn board(&self) -> Vec<LimitRow> {
        let now = self.now();
        let mut rows = self.lock().dispatcher.board(now);
        rows.extend(self.0.streams.board());
        rows.push(self.0.room.row(now));
        rows
    }

    /// A look at the whole.
    pub fn figures(&self) -> Figures {
        let core = self.lock();
        Figures { environments: core.dispatcher.environments(), in_flight: core.dispatcher.in_flight() }
    }

    /// The engines' time.
    pub fn now(&self) -> Instant {
        let nanos = u64::try_from(self.0.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(nanos)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An invocation that the limits let in. It is in flight; dropping it without running it gives its place back, and its
/// environment up.
#[derive(Debug)]
pub struct Admission {
    entry: Entry,
    held: Held,
}

impl Admission {
    /// Runs the invocation and waits for its answer. A caller that stops waiting changes nothing: the invocation goes on,
    /// as it does at AWS.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn run(self, request: Request) -> Result<Invoked, InvokeError> {
        let (caller, answer) = oneshot::channel();
        self.start(request, Caller::whole(caller));
        // If the task panicked, its environment was given up on the way.
        answer.await.unwrap_or_else(|_| Err(InvokeError::Host("the invocation's task failed".into())))
    }

    /// The same for a caller who takes the answer piece by piece, if the function gives it so.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn run_streaming(self, request: Request) -> Result<Answered, InvokeError> {
        let (caller, answer) = oneshot::channel();
        self.start(request, Caller::either(caller));
        answer.await.unwrap_or_else(|_| Err(InvokeError::Host("the invocation's task failed".into())))
    }

    fn start(self, request: Request, caller: Caller) {
        let Self { entry, held } = self;
        let invoker = held.invoker.clone();
        tokio::spawn(invoker.drive(entry, held, request, caller));
    }
}

/// An environment in use: given up if its driver ends without a word, as by a panic.
#[derive(Debug)]
struct Held {
    invoker: Invoker,
    id: EnvironmentId,
    environment: Arc<Environment>,
    place: Option<Place>,
    /// While its INIT runs.
    starting: Option<Starting>,
    settled: bool,
}

impl Held {
    fn settle(&mut self, outcome: Result<Outcome, ()>) {
        self.settled = true;
        self.invoker.settle(self, outcome);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Err(()));
        }
    }
}

/// Keeps a gate's time while somebody waits there.
async fn tick(version: Arc<Version>) {
    loop {
        tokio::time::sleep(TICK).await;
        if !version.gate().tick(std::time::Instant::now()) {
            return;
        }
    }
}

impl Core {
    /// Two environments of one version swap their ids. The dispatcher knows them by nothing else: whoever is busy under
    /// an id, it is one environment that is busy. Provisioned ones have a version value of their own, and so
    /// change places only among themselves.
    fn exchange(&mut self, one: EnvironmentId, other: EnvironmentId) -> bool {
        let [Some(one), Some(other)] = self.environments.get_disjoint_mut([&one, &other]) else {
            return false;
        };
        std::mem::swap(&mut one.environment, &mut other.environment);
        true
    }

    /// Gives the one whose turn it is the environment of the invocation that has ended, or a better one.
    fn hand_over(
        &mut self,
        gate: &Gate,
        ended: EnvironmentId,
        next: EnvironmentId,
    ) -> Option<Arc<Environment>> {
        let here = reactors::here();
        let is_here = |id: &EnvironmentId| {
            self.environments.get(id).is_some_and(|named| named.environment.home() == here)
        };
        let heir = gate.heir(ended, next, is_here);
        if heir != next && !self.exchange(heir, next) {
            return None;
        }
        self.environments.get(&next).map(|named| named.environment.clone())
    }

    /// If the environment that is to run is frozen, or another reactor serves it, and this one serves an idle environment of
    /// the same version, the latest such one runs instead, under the same id.
    fn come_home(&mut self, id: EnvironmentId) {
        let Some(Named { environment, .. }) = self.environments.get(&id) else { return };
        if environment.is_hot_here() {
            return;
        }
        let here = reactors::here();
        let version = environment.version.clone();
        let is_idle_here = |other: &EnvironmentId| {
            self.environments.get(other).is_some_and(|named| {
                !named.in_use
                    && named.environment.home() == here
                    && Arc::ptr_eq(&named.environment.version, &version)
            })
        };
        if let Some(other) = version.gate().recent(is_idle_here) {
            self.exchange(id, other);
        }
    }
}

fn end_all(environments: Vec<Arc<Environment>>) {
    for environment in environments {
        environment.end();
    }
}

fn limits_of(function: &Function, reserved: Option<u32>) -> FunctionLimits {
    FunctionLimits { resource: function.name.clone(), reserved, timeout: function.timeout }
}
