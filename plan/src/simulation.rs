//! The virtual clock: takes the next event off the heap, asks the dispatcher, and puts what follows on the heap.
//!
//! Once the dispatcher has decided, the whole course of an invocation without connections is known (its times are drawn
//! at once), so each costs one or two events: the environment is free again, and a closed-loop user sends again. One
//! that needs connections goes step by step (see `course`), and costs an event more for each wait before a SYN.

mod attach;
mod attempts;
mod authorizer;
mod bill;
mod conclusion;
mod course;
mod events;
mod front;
mod function;
mod network;
mod phase;
mod provisioned;
mod query;
mod record;
mod request;

use crate::heap::{EventHeap, Turn};
use crate::input::PlanInput;
use crate::load::{ConnectStep, Load, QueryStep, check_streams, size};
use crate::options::{Options, PlanError, SIMULATED};
use crate::quantity::DURATION_MAX;
use crate::report::Report;
use crate::retry::Mode;
use crate::watch::{EVENTS_BETWEEN, Extent};
pub use crate::watch::{Progress, Watch};
use attach::AttachRun;
use attempts::Attempts;
use authorizer::{AuthorizerRun, QuestionId, Questions};
use course::{CallClients, CallRun, Parked, ParkedId};
use events::EventsRun;
use front::Fronts;
use function::{Function, Ways};
use limits::async_queue::EventId;
use limits::billing::BillingRules;
use limits::{
    Dispatcher, Effect, EnvironmentId, FunctionLimits, NetworkSettings, Outcome, ProvisionedId, Settings,
    StreamFigures,
};
use model::time::{Instant, nanos};
use model::{LimitId, Refusal};
use network::NetworkRun;
use phase::{Crowd, PhaseRun, User};
use query::Queries;
use record::Record;
use request::Caller;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use template::yaml::Problems;

/// A user who is answered in no time and does not think sends again after this: never twice in one instant.
const TURNAROUND_MIN: Duration = Duration::from_millis(1);
/// A plan stops after so many requests; at a million a second that is three minutes.
pub const REQUESTS_MAX: u64 = 200_000_000;
/// A plan stops after so many SYNs and reuses of connections; that is a few minutes, too.
const PACKETS_MAX: u64 = 2_000_000_000;
/// A plan stops when environments hold so many connections at once: 2 GB.
const HELD_MAX: usize = 30_000_000;
const STEP: Duration = Duration::from_secs(1);

/// Plans a load on a stack.
///
/// The same arguments give the same report, byte by byte, on every machine.
///
/// # Errors
/// [`PlanError`] when the load does not fit the stack or the options make no settings.
pub fn run(input: &PlanInput, load: &Load, options: &Options) -> Result<Report, PlanError> {
    run_watched(input, load, options, &mut |_| ControlFlow::Continue(()))
}

/// As [`run`], and the caller is told how far it is and may end it early: then the report says what is known.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    input: &PlanInput,
    load: &Load,
    options: &Options,
    watch: &mut Watch<'_>,
) -> Result<Report, PlanError> {
    let mut simulation = Simulation::new(input, load, options)?;
    simulation.run(load, watch);
    Ok(simulation.report(input, load, options))
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The environment's invocation has ended.
    Free { environment: EnvironmentId, outcome: Outcome },
    /// The environment's INIT is done.
    Started(EnvironmentId),
    /// A phase begins.
    Begin(u32),
    /// A phase's time is over.
    Over(u32),
    /// A user has the answer to their last request.
    Leaves(u32),
    /// A request of an open loop comes.
    Arrive(u32),
    /// A user sends.
    Send(u32),
    /// A SYN is to be sent, or an INIT to be ended.
    Resume(ParkedId),
    /// A client waits no longer.
    GiveUp(ParkedId),
    /// The queue of asynchronous events has something to deliver.
    Queue,
    /// The function has answered an event, or failed.
    Replied { id: EventId, succeeded: bool },
    /// The oldest connection of this connect closes by its time.
    Close(u32),
    /// The door before a phase's function waits no longer.
    DoorOver(u32),
    /// A function's answer to a phase's request is there for the cache.
    Fill { phase: u32, word: u32 },
    /// An authorizer's answer is there.
    Judged(QuestionId),
    /// An authorizer is waited for no longer.
    Unjudged(QuestionId),
    /// A client waits no longer while an authorizer is asked.
    Leave(QuestionId),
    /// The next attempt of a request is wanted.
    Wish(u32),
    /// It is sent.
    Dispatch(u32),
    /// What has become of it is known.
    Settle(u32),
}

struct Simulation {
    dispatcher: Dispatcher,
    network: NetworkRun,
    queries: Queries,
    /// Interfaces of environments, in eras that make them at cold starts.
    attach: Option<AttachRun>,
    /// What stands before functions; `None` if nothing does.
    fronts: Option<Box<Fronts>>,
    /// The queue of asynchronous events; `None` if no phase sends any.
    events: Option<Box<EventsRun>>,
    parked: Parked,
    attempts: Attempts,
    questions: Questions,
    calls: Vec<CallRun>,
    call_clients: CallClients,
    heap: EventHeap<Event>,
    functions: Vec<Function>,
    /// Which functions some phase sends to, an authorizer asks, or a function that is reached calls.
    reached: Vec<bool>,
    phases: Vec<PhaseRun>,
    users: Vec<User>,
    record: Record,
    effects: Vec<Effect>,
    /// By the input's provisioned concurrency.
    pools: Vec<ProvisionedId>,
    /// Provisioned environments that have not run yet, where the first invocation differs.
    unused: BTreeSet<EnvironmentId>,
    now: Instant,
    horizon: Instant,
    init_timeout_nanos: u64,
    billing: BillingRules,
    /// The caller ended the plan.
    interrupted: bool,
}

impl Simulation {
    fn new(input: &PlanInput, load: &Load, options: &Options) -> Result<Self, PlanError> {
        input.check(load).map_err(PlanError::Load)?;
        let streams = StreamFigures::from_era(&options.era, &options.region, &options.overrides);
        let mut too_large = size::check(load, options.until);
        too_large.extend(check_streams(load, &streams));
        if !too_large.is_empty() {
            return Err(PlanError::Load(too_large));
        }
        if let Some((limit, _)) = options.overrides.iter().find(|(limit, _)| !SIMULATED.contains(limit)) {
            return Err(PlanError::NotSimulated(limit));
        }
        let step = options.step.unwrap_or(STEP);
        if step.is_zero() {
            return Err(PlanError::ZeroStep);
        }
        let seed = options.seed.unwrap_or(load.seed);
        let mut dispatcher =
            Dispatcher::new(Settings::from_era(&options.era, &options.region, &options.overrides)?);
        let network = NetworkSettings::from_era(&options.era, &options.region, &options.overrides)?;
        let attach = AttachRun::new(input, &network, seed);
        let mut network = NetworkRun::new(input, network, load);
        let timeout = time_limit(options)?;
        let mut problems = Problems::new();
        let mut calls = Vec::new();
        let mut queries = Queries::default();
        let functions = input.functions.iter().enumerate().map(|(index, function)| {
            let timeout = timeout.unwrap_or(function.timeout);
            let limits =
                FunctionLimits { resource: function.id.clone(), reserved: function.reserved, timeout };
            let id = dispatcher.add_function(Instant::START, limits);
            let named = |name: &str| name == function.id || name == function.name;
            let behaviour = load.behaviour.iter().find(|behaviour| named(&behaviour.function.text));
            let (network, calls, queries) = (&mut network, &mut calls, &mut queries);
            let streams = &streams;
            let mut ways = FunctionWays { index, input, options, streams, network, calls, queries };
            Function::new(index, id, function, timeout, behaviour, seed, &mut ways)
        });
        let mut functions: Vec<Function> = functions.collect();
        for function in &mut functions {
            function.undeployed = network.undeployed(function.index);
        }
        queries.link(&mut network);
        let phases = load.phases.iter().enumerate().filter_map(|(index, phase)| {
            let target = input.target(phase, &mut problems)?;
            let namesakes = load.phases[..index].iter().filter(|earlier| earlier.name == phase.name).count();
            Some(PhaseRun::new(phase, namesakes, target, seed))
        });
        let phases: Vec<PhaseRun> = phases.collect();
        let events = EventsRun::new(input, load, &phases, options);
        let fronts = Fronts::new(input, load, &phases, seed, options)?;
        let asked = fronts.as_ref().map_or(&[][..], |fronts| &fronts.authorizers);
        let reached = reached(&phases, asked, &calls, functions.len());
        let mut simulation = Self {
            reached,
            dispatcher,
            network,
            queries,
            attach,
            fronts,
            events,
            parked: Parked::default(),
            attempts: Attempts::default(),
            questions: Questions::default(),
            calls,
            call_clients: CallClients::default(),
            heap: EventHeap::default(),
            functions,
            phases,
            users: Vec::new(),
            record: Record::new(step, input.functions.len(), options),
            effects: Vec::new(),
            pools: Vec::new(),
            unused: BTreeSet::new(),
            now: Instant::START,
            horizon: options.until.map_or(Instant::NEVER, |until| Instant::START + until),
            init_timeout_nanos: options.era.settings.init_timeout_s.saturating_mul(1_000_000_000),
            interrupted: false,
            billing: BillingRules {
                init_billed: options.era.settings.init_billed,
                step_ms: options.era.settings.billed_step_ms,
            },
        };
        simulation.place_provisioned(input)?;
        simulation.place_initial(input, load)?;
        simulation.schedule_phases();
        Ok(simulation)
    }

    /// Environments that are there at t = 0.
    fn place_initial(&mut self, input: &PlanInput, load: &Load) -> Result<(), PlanError> {
        let mut problems = Problems::new();
        for initial in &load.initial {
            let Some(index) = input.function(&initial.function, &mut problems) else { continue };
            let id = self.functions[index].id;
            let refused = |wanted, room| PlanError::Initial {
                function: input.functions[index].id.clone(),
                wanted,
                room,
                name: initial.function.text.clone(),
            };
            for room in 0..initial.idle {
                let environment = self.dispatcher.preload(Instant::START, id);
                let environment = environment.ok_or_else(|| refused(initial.idle, room))?;
                self.network.begin(index, environment);
                self.preload_interface(index, environment)?;
                self.dispatcher.finished(Instant::START, environment, Outcome::Done, &mut self.effects);
            }
            for room in 0..initial.busy {
                let environment = self.dispatcher.preload(Instant::START, id);
                let environment = environment.ok_or_else(|| refused(initial.busy, room))?;
                self.network.begin(index, environment);
                self.preload_interface(index, environment)?;
                let event = Event::Free { environment, outcome: Outcome::Done };
                self.heap.push(Instant::START + initial.busy_for, Turn::Free, event);
            }
            let in_flight = self.dispatcher.counts(id).in_flight;
            self.record.functions[index].peak_concurrency = in_flight;
        }
        Ok(())
    }

    /// Phases with a start begin then; the others when the one before them has ended, the first at once.
    fn schedule_phases(&mut self) {
        for (index, phase) in self.phases.iter().enumerate() {
            let start = phase.start.or((index == 0).then_some(Duration::ZERO));
            if let Some(start) = start {
                self.heap.push(Instant::START + start, Turn::Phase, Event::Begin(index as u32));
            }
        }
    }

    fn run(&mut self, load: &Load, watch: &mut Watch<'_>) {
        let extent = Extent::of(load, self.horizon);
        let mut until_watch = EVENTS_BETWEEN;
        while let Some((at, is_event)) = self.next_at() {
            if at > self.horizon
                || self.record.asked >= REQUESTS_MAX
                || self.network.is_too_much()
                || self.queue_is_full()
            {
                break;
            }
            while self.record.timeline.next() < at {
                self.complete_row();
            }
            self.advance(at);
            self.hear_pools(at);
            if !is_event {
                continue;
            }
            let Some((_, event)) = self.heap.pop() else { break };
            self.handle(at, event);
            self.hear_pools(at);
            until_watch -= 1;
            if until_watch == 0 {
                until_watch = EVENTS_BETWEEN;
                let (requests, refused) = (self.record.requests, self.record.first_limit.is_some());
                let progress = Progress { at, requests, permille: extent.permille(at, requests), refused };
                if watch(&progress).is_break() {
                    self.interrupted = true;
                    break;
                }
            }
        }
        let cut = self.heap.next_at().is_some_and(|at| at > self.horizon);
        let end = if cut { self.horizon } else { self.now };
        while self.record.timeline.next() <= end {
            self.complete_row();
        }
        if self.record.timeline.end_at(end) {
            self.complete_row();
        }
        self.advance(end);
    }

    fn complete_row(&mut self) {
        self.advance(self.record.timeline.next());
        let interfaces = self.attach.as_ref().map_or_else(|| self.network.interfaces(), AttachRun::count);
        let network = (self.network.counts(), interfaces, self.network.pools());
        self.record.timeline.push(self.dispatcher.in_flight(), self.dispatcher.environments(), network);
    }

    #[inline]
    fn advance(&mut self, now: Instant) {
        self.now = now;
        if self.dispatcher.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.dispatcher.advance(now, &mut self.effects);
            self.reap(now);
        }
        self.network.engine().advance(now);
    }

    /// Environments that have ended leave their connections behind.
    fn reap(&mut self, now: Instant) {
        if self.effects.is_empty() {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reap(environment) => {
                    self.unused.remove(&environment);
                    if let Some(attach) = &mut self.attach {
                        attach.end(now, environment);
                    }
                    if let Some(function) = self.network.function_of(environment) {
                        let closes = self.functions[function].closes_on_shutdown;
                        self.network.end_process(now, environment, closes);
                    }
                }
                Effect::Provision(environment) => self.provision(now, environment),
            }
        }
        self.effects = effects;
    }

    fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Free { environment, outcome } => self.free(now, environment, outcome),
            Event::Started(environment) => self.started(now, environment),
            Event::Begin(phase) => self.begin(now, phase),
            Event::Over(phase) => self.end(now, phase),
            Event::Leaves(phase) => {
                let run = &mut self.phases[phase as usize];
                run.users_left -= 1;
                if run.users_left == 0 {
                    self.end(now, phase);
                }
            }
            Event::Arrive(phase) => {
                self.request(now, phase, None);
                self.schedule_arrival(phase);
            }
            Event::Queue => self.deliver(now),
            Event::Replied { id, succeeded } => self.event_done(now, id, succeeded),
            Event::Send(user) => self.send(now, user),
            Event::Resume(id) => self.resume(now, id),
            Event::GiveUp(id) => self.give_up(now, id),
            Event::DoorOver(phase) => self.door_over(now, phase),
            Event::Fill { phase, word } => self.fill(now, phase, word),
            Event::Close(connect) => self.network.close_oldest(now, connect),
            Event::Judged(id) => self.judged(now, id),
            Event::Unjudged(id) => self.unjudged(now, id),
            Event::Leave(id) => self.leave(now, id),
            Event::Wish(request) => self.wish(now, request),
            Event::Dispatch(request) => self.dispatch(now, request),
            Event::Settle(request) => self.settle(now, request),
        }
    }

    fn free(&mut self, now: Instant, environment: EnvironmentId, outcome: Outcome) {
        if outcome == Outcome::TimedOut
            && let Some(id) = self.dispatcher.function_of(environment)
        {
            // Functions were added in order and none was removed, so slots are indices.
            let function = &self.functions[id.slot() as usize];
            let seconds = nanos(function.timeout).div_ceil(1_000_000_000);
            let refusal = Refusal {
                limit: LimitId::FunctionTimeout,
                resource: Arc::clone(&function.name),
                destination: None,
                used: seconds,
                max: seconds,
                retry_at: None,
            };
            self.record.refused(now, &refusal, self.dispatcher.environments(), function.index);
        }
        match outcome {
            Outcome::Done => self.network.end_invocation(now, environment),
            // The runtime's process is stopped, which closes what it has open.
            Outcome::TimedOut | Outcome::Crashed => self.network.end_process(now, environment, true),
        }
        self.dispatcher.finished(now, environment, outcome, &mut self.effects);
        self.reap(now);
    }

    fn begin(&mut self, now: Instant, index: u32) {
        let phase = &mut self.phases[index as usize];
        phase.begins(now, self.users.len());
        if let Some(length) = phase.length {
            phase.stop = now + length;
            self.heap.push(phase.stop, Turn::Phase, Event::Over(index));
        }
        let Some(Crowd { users, requests, spawn }) = phase.crowd else {
            return self.schedule_arrival(index);
        };
        for user in 0..users {
            let left = requests.map_or(u64::MAX, |total| share(total, users, user));
            if left == 0 {
                break;
            }
            let spawned = spawn.and_then(|rate| rate.nanos_of(u64::from(user))).unwrap_or(0);
            let event = Event::Send(self.users.len() as u32);
            self.heap.push(now + Duration::from_nanos(spawned), Turn::Want, event);
            self.users.push(User { phase: index, left });
            phase.users_left += u32::from(requests.is_some());
        }
        if requests == Some(0) {
            self.end(now, index);
        }
    }

    /// The phase sends nothing new; the next one begins unless it has a start of its own. Only the first call counts.
    fn end(&mut self, now: Instant, index: u32) {
        let phase = &mut self.phases[index as usize];
        if std::mem::replace(&mut phase.ended, true) {
            return;
        }
        if self.phases.get(index as usize + 1).is_some_and(|next| next.start.is_none()) {
            self.begin(now, index + 1);
        }
    }

    fn schedule_arrival(&mut self, index: u32) {
        let phase = &mut self.phases[index as usize];
        if let Some(at) = phase.next_arrival() {
            self.heap.push(at, Turn::Want, Event::Arrive(index));
        }
    }

    fn send(&mut self, now: Instant, index: u32) {
        let user = &mut self.users[index as usize];
        let phase_index = user.phase;
        if now >= self.phases[phase_index as usize].stop {
            return;
        }
        user.left -= 1;
        if let Some(answered) = self.request(now, phase_index, Some(index)) {
            self.after_answer(now, index, answered);
        }
    }

    /// The user has the answer, or waits no longer, at `answered`: it thinks and sends again, or leaves.
    fn after_answer(&mut self, sent: Instant, index: u32, answered: Instant) {
        let User { phase, left } = self.users[index as usize];
        if left == 0 {
            return self.heap.push(answered, Turn::Phase, Event::Leaves(phase));
        }
        let mut next = answered + self.phases[phase as usize].think();
        if next <= sent {
            next = sent + TURNAROUND_MIN;
            self.record.turnaround_used = true;
        }
        self.heap.push(next, Turn::Want, Event::Send(index));
    }
}

/// Where the steps of one function lead.
struct FunctionWays<'plan> {
    index: usize,
    input: &'plan PlanInput,
    options: &'plan Options,
    streams: &'plan StreamFigures,
    network: &'plan mut NetworkRun,
    calls: &'plan mut Vec<CallRun>,
    queries: &'plan mut Queries,
}

impl Ways for FunctionWays<'_> {
    fn connect(&mut self, step: &ConnectStep) -> u32 {
        self.network.add(self.index, step)
    }

    fn call(&mut self, function: &str, retry: Mode) -> u32 {
        let function = self.input.find(function).expect("the names of a load were checked");
        self.calls.push(CallRun { caller: self.index, function, retry });
        (self.calls.len() - 1) as u32
    }

    fn query(&mut self, step: &QueryStep) -> u32 {
        let port = self.input.network.database_port(&step.database.text);
        self.queries.add(self.index, step, port.expect("the names of a load were checked"))
    }

    fn streams(&self) -> &StreamFigures {
        self.streams
    }

    fn region(&self) -> &str {
        &self.options.region
    }
}

fn reached(phases: &[PhaseRun], asked: &[AuthorizerRun], calls: &[CallRun], functions: usize) -> Vec<bool> {
    let mut reached = vec![false; functions];
    phases.iter().for_each(|phase| reached[phase.target.function] = true);
    asked.iter().for_each(|authorizer| reached[authorizer.function] = true);
    // Each round goes one call further.
    while let Some(call) = calls.iter().find(|call| reached[call.caller] && !reached[call.function]) {
        reached[call.function] = true;
    }
    reached
}

/// How many of `total` requests the user sends: evenly, the first users one more where it does not divide.
fn share(total: u64, users: u32, user: u32) -> u64 {
    total / u64::from(users) + u64::from(u64::from(user) < total % u64::from(users))
}

/// The user's time-out for every function, if there is one.
fn time_limit(options: &Options) -> Result<Option<Duration>, PlanError> {
    let limit = LimitId::FunctionTimeout;
    let Some(value) = options.overrides.get(limit) else { return Ok(None) };
    let timeout = Duration::from_secs(value);
    if timeout > DURATION_MAX {
        return Err(PlanError::TooLarge { limit, value });
    }
    Ok(Some(timeout))
}

#[cfg(test)]
mod attach_tests;
#[cfg(test)]
mod authorizer_tests;
#[cfg(test)]
mod call_tests;
#[cfg(test)]
mod connect_tests;
#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod front_tests;
#[cfg(test)]
mod provisioned_tests;
#[cfg(test)]
mod query_tests;
#[cfg(test)]
mod stack_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traffic_tests;
#[cfg(test)]
mod workload_tests;
