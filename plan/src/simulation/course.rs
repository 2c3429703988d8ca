//! The course of an invocation that needs connections: step by step, as what a SYN meets depends on its moment.
//!
//! ```text
//!   Init --done--> Handler --done--> ended
//!    | killed at its time limit, or failed        a killed process closes its connections
//!    `--> Killed --> Again --done--> Handler
//! ```
//!
//! An invocation runs ahead of the clock as long as it only takes time. It is parked where a SYN is to be sent in the
//! future; at most one event on the heap belongs to it, besides that of a client who will wait no longer.

mod calls;
mod traffic;

pub use calls::{CallClients, CallRun};

use super::attempts::Fate;
use super::front::{Missed, door_timed_out};
use super::function::{Course, Doing, Warmth};
use super::network::ConnectRun;
use super::query::Querying;
use super::record::{Answer, Cause, Outer};
use super::request::{Ask, Caller};
use super::{Event, REQUESTS_MAX, Simulation};
use crate::heap::Turn;
use crate::load::PHASES_MAX;
use calls::Calling;
use limits::connect::{Connect, Next};
use limits::db_pool::ClientId;
use limits::{Connections, EnvironmentId, Outcome};
use model::time::nanos;
use model::{Instant, LimitId};
use std::num::NonZeroU32;
use std::time::Duration;

/// Which part of an invocation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// INIT before the invocation.
    Init,
    /// That INIT is ended at `clock`.
    Killed,
    /// INIT within the invocation.
    Again,
    /// The handler.
    Handler,
}

/// An invocation in its course.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub environment: EnvironmentId,
    pub function: u32,
    /// Index of the phase: a load has few.
    phase: u16,
    caller: Caller,
    /// Which request of all it is; there are fewer than 2^32.
    request: u32,
    sent: Instant,
    /// When its client sent the request: before `sent` if an authorizer was asked.
    wished: Instant,
    /// What network and door add to the answer.
    latency_nanos: u64,
    warmth: Warmth,
    missed: Missed,
    stage: Stage,
    /// The next step of the stage.
    pub step: u32,
    /// When that begins.
    pub clock: Instant,
    /// When the handler, or the second INIT before it, began.
    began: Instant,
    /// When the stage is ended.
    pub deadline: Instant,
    init_timed_out: bool,
    connect: Option<Waiting>,
    /// The call that has begun; never beside a connect.
    call: Option<Calling>,
    /// The query that runs, or waits for its connection.
    pub query: Option<Querying>,
    /// What first refused a SYN of the connect that waits or failed, or made a query wait.
    pub trouble: Option<u32>,
    /// An event at the deadline is on the heap.
    pub is_timed: bool,
    /// The client has been told, or waits no longer.
    answered: bool,
}

impl Running {
    /// As it was wanted.
    fn ask(&self) -> Ask {
        let Self { function, phase, caller, missed, wished: sent, .. } = *self;
        let (function, phase, latency) = (function as usize, u32::from(phase), self.latency());
        Ask { function, provisioned: None, phase, caller, sent, latency, missed }
    }

    fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency_nanos)
    }

    /// Its steps are those of INIT.
    pub fn is_in_init(&self) -> bool {
        self.stage != Stage::Handler
    }

    /// How long it has waited for the connect, the query or the call that it is at by `now`; zero if it is at none.
    fn waited(&self, now: Instant) -> Duration {
        let connect = self.connect.map(|waiting| now.since(waiting.connect.began()));
        let query = || Some(self.query?.waited(now));
        let call = || self.call.map(|calling| now.since(calling.began));
        connect.or_else(query).or_else(call).unwrap_or_default()
    }
}

/// A connect without its connections.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    connect: Connect,
    /// Which connect of all functions it is.
    index: u32,
    wanted: NonZeroU32,
    /// Names that are still to be looked up.
    unresolved: u32,
    /// How often the resolver was asked in this attempt.
    asked: u8,
    /// Its connections are open, and its bytes move until the running's clock.
    moves: bool,
}

impl Waiting {
    fn begin(now: Instant, index: u32, wanted: NonZeroU32, run: &ConnectRun) -> Self {
        let unresolved = if run.looks_up { wanted.get() } else { 0 };
        let connect = Connect::begin(now, &run.patience);
        Self { connect, index, wanted, unresolved, asked: 0, moves: false }
    }
}

/// Invocations that are parked.
#[derive(Debug, Default)]
pub struct Parked {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    running: Option<Running>,
}

/// A parked invocation's place, and which of the place's invocations it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedId {
    slot: u32,
    generation: u32,
}

impl Parked {
    fn reserve(&mut self) -> ParkedId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        ParkedId { slot, generation: self.slots[slot as usize].generation }
    }

    pub fn put(&mut self, id: ParkedId, running: Running) {
        self.slots[id.slot as usize].running = Some(running);
    }

    fn take(&mut self, id: ParkedId) -> Option<Running> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?.running.take()
    }

    pub fn get(&self, id: ParkedId) -> Option<&Running> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.running.as_ref()
    }

    fn get_mut(&mut self, id: ParkedId) -> Option<&mut Running> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.running.as_mut()
    }

    fn release(&mut self, id: ParkedId) {
        let slot = &mut self.slots[id.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
    }
}

/// An invocation that begins.
pub struct Begin {
    pub environment: EnvironmentId,
    pub function: usize,
    pub phase: u32,
    pub caller: Caller,
    /// When its client sent the request.
    pub sent: Instant,
    pub latency: Duration,
    pub warmth: Warmth,
    /// How long INIT waits for the environment's interface.
    pub attached: Duration,
    pub missed: Missed,
}

/// What came of running ahead.
pub enum Reached {
    /// A SYN is to be sent, a statement is done, or a process to be ended, at that moment.
    Park(Instant, Turn),
    /// The call that has begun is to be made now.
    Call,
    /// It waits in a pool's queue as this client.
    Queue(ClientId),
    /// The invocation ends, in this way at that moment.
    End(Outcome, Answer, Instant),
}

impl Simulation {
    /// An invocation of a function with connects begins. When the client has its answer or waits no longer, if that is
    /// known already.
    pub(super) fn launch(&mut self, now: Instant, begin: &Begin) -> Option<Instant> {
        let Begin { environment, function, phase, caller, latency, warmth, attached, missed, .. } = *begin;
        let init_timeout = Duration::from_nanos(self.init_timeout_nanos);
        let (stage, limit) = match warmth {
            Warmth::Cold => (Stage::Init, init_timeout),
            Warmth::Reset => (Stage::Again, self.functions[function].timeout),
            Warmth::Warm | Warmth::First => (Stage::Handler, self.functions[function].timeout),
        };
        match warmth {
            Warmth::Cold => {
                self.network.begin(function, environment);
                let choice = self.attach.as_ref().and_then(|attach| attach.choice(environment));
                if let Some(choice) = choice {
                    self.network.put_in(environment, choice);
                }
            }
            // A suppressed INIT is part of the invocation.
            Warmth::Reset => {
                self.dispatcher.started(now, environment);
            }
            Warmth::Warm | Warmth::First => {}
        }
        self.record.starts(function, warmth);
        let running = Running {
            environment,
            function: function as u32,
            phase: phase as u16,
            caller,
            request: self.record.asked as u32,
            sent: now,
            wished: begin.sent,
            latency_nanos: nanos(latency),
            warmth,
            missed,
            stage,
            step: 0,
            clock: now + attached,
            began: now + attached,
            deadline: now + attached + limit,
            init_timed_out: false,
            connect: None,
            call: None,
            query: None,
            trouble: None,
            is_timed: false,
            answered: false,
        };
        self.go_on(now, running, None)
    }

    /// The moment has come for which an invocation was parked.
    pub(super) fn resume(&mut self, now: Instant, id: ParkedId) {
        // A call that was answered has left the event of its deadline behind.
        if self.parked.get_mut(id).is_none_or(|running| running.clock != now) {
            return;
        }
        let Some(running) = self.parked.take(id) else { return };
        let (sent, caller) = (running.sent, running.caller);
        if let (Some(answered), Caller::User(user)) = (self.go_on(now, running, Some(id)), caller) {
            self.after_answer(sent, user, answered);
        }
    }

    /// A client, or the door before the function, waits no longer for an invocation that still runs.
    pub(super) fn give_up(&mut self, now: Instant, id: ParkedId) {
        let Some(running) = self.parked.get_mut(id) else { return };
        running.answered = true;
        let waited = running.waited(now);
        let (sent, caller, trouble) = (running.sent, running.caller, running.trouble);
        let ask = running.ask();
        let door = self.fronts.as_ref().and_then(|fronts| fronts.waits_until(ask.phase, sent));
        let answered = if door.is_some_and(|door| door <= now) {
            self.door_over(now, ask.phase);
            self.answer(now + ask.latency, &ask, door_timed_out(trouble, waited))
        } else if let Caller::Attempt(attempt) = caller {
            return self.fate(now, attempt, Fate::GivenUp(trouble, waited));
        } else {
            self.record.gives_up(now, trouble, waited);
            Some(now)
        };
        if let (Some(answered), Caller::User(user)) = (answered, caller) {
            self.after_answer(sent, user, answered);
        }
    }

    fn go_on(&mut self, now: Instant, mut running: Running, id: Option<ParkedId>) -> Option<Instant> {
        match self.run_ahead(now, &mut running) {
            Reached::Park(until, turn) => {
                let id = id.unwrap_or_else(|| self.place(&running));
                self.parked.put(id, running);
                self.heap.push(until, turn, Event::Resume(id));
                None
            }
            Reached::Queue(client) => {
                let id = id.unwrap_or_else(|| self.place(&running));
                self.queue(id, client, &mut running);
                self.parked.put(id, running);
                None
            }
            Reached::Call => {
                let id = id.unwrap_or_else(|| self.place(&running));
                self.call(now, running, id);
                None
            }
            Reached::End(outcome, answer, ended) => {
                if let Some(id) = id {
                    self.parked.release(id);
                }
                self.finish(&running, outcome, answer, ended)
            }
        }
    }

    /// A place for an invocation that is parked for the first time. Its client, or the door, may wait no longer before it
    /// ends; a caller waits as long as it runs.
    fn place(&mut self, running: &Running) -> ParkedId {
        let id = self.parked.reserve();
        let patience = match running.caller.is_client() {
            false => None,
            true => {
                let timeout = self.phases[running.phase as usize].timeout;
                let client = timeout.map(|timeout| running.wished + timeout);
                let fronts = self.fronts.as_ref();
                let door = fronts.and_then(|fronts| fronts.waits_until(running.phase.into(), running.sent));
                client.into_iter().chain(door).min()
            }
        };
        if let Some(patience) = patience.filter(|patience| *patience < self.latest_answer(running)) {
            self.heap.push(patience, Turn::Phase, Event::GiveUp(id));
        }
        id
    }

    /// When the client has its answer at the latest.
    fn latest_answer(&self, running: &Running) -> Instant {
        let after_init = match running.stage {
            Stage::Init | Stage::Killed => self.functions[running.function as usize].timeout,
            Stage::Again | Stage::Handler => Duration::ZERO,
        };
        running.deadline + after_init + running.latency()
    }

    fn run_ahead(&mut self, now: Instant, running: &mut Running) -> Reached {
        loop {
            match running.stage {
                Stage::Killed if running.clock > now => return Reached::Park(running.clock, Turn::Want),
                Stage::Killed => {
                    self.network.end_process(now, running.environment, true);
                    running.init_timed_out = true;
                    self.enter(now, running, Stage::Again);
                }
                _ => {}
            }
            if let Some(waiting) = running.connect {
                if waiting.moves && running.clock > now {
                    return Reached::Park(running.clock, Turn::Want);
                }
                if waiting.moves {
                    (running.connect, running.trouble) = (None, None);
                    continue;
                }
                if let Some(reached) = self.send_syns(now, running) {
                    return reached;
                }
                continue;
            }
            if running.query.is_some() {
                if let Some(reached) = self.query(now, running) {
                    return reached;
                }
                continue;
            }
            if let Some(calling) = running.call {
                if let Some(reached) = self.go_on_calling(now, running, calling) {
                    return reached;
                }
                continue;
            }
            let in_init = running.is_in_init();
            let function = &mut self.functions[running.function as usize];
            let fresh = running.warmth != Warmth::Warm;
            match function.doing(in_init, fresh, &mut running.step) {
                Doing::Take(time) => {
                    running.step += 1;
                    running.clock += Duration::from_nanos(time);
                    if running.clock > running.deadline
                        && let Some(reached) = Self::run_out(running)
                    {
                        return reached;
                    }
                }
                Doing::Stream(time) => {
                    running.step += 1;
                    let streamed = function.streamed_beyond_free(running.deadline.since(running.clock));
                    running.clock += Duration::from_nanos(time);
                    if running.clock.min(running.deadline) <= self.horizon {
                        self.record.streams(running.function as usize, streamed);
                    }
                    if running.clock > running.deadline
                        && let Some(reached) = Self::run_out(running)
                    {
                        return reached;
                    }
                }
                Doing::Call(index) => running.call = Some(Calling::begin(running.clock, index)),
                Doing::Connect(_) | Doing::Query(_) if running.clock > now => {
                    return Reached::Park(running.clock, Turn::Want);
                }
                Doing::Connect(index) => {
                    let held = self.network.hold(now, running.environment, index);
                    let connect = &mut self.network.connects[index as usize];
                    match NonZeroU32::new(connect.count.saturating_sub(held)) {
                        None => {
                            if let Some(reached) = self.move_bytes(now, running, index) {
                                return reached;
                            }
                        }
                        Some(wanted) => {
                            running.connect = Some(Waiting::begin(now, index, wanted, connect));
                        }
                    }
                }
                Doing::Query(index) => {
                    if let Some((index, wanted)) = self.begin_query(now, running, index) {
                        let connect = &self.network.connects[index as usize];
                        running.connect =
                            NonZeroU32::new(wanted).map(|wanted| Waiting::begin(now, index, wanted, connect));
                    }
                }
                Doing::Nothing if running.stage == Stage::Init => self.enter(now, running, Stage::Handler),
                Doing::Nothing if running.stage == Stage::Again => {
                    running.stage = Stage::Handler;
                    running.step = 0;
                }
                Doing::Nothing => return Reached::End(Outcome::Done, Answer::Ok, running.clock),
            }
        }
    }

    /// The INIT before the invocation is over, and the invocation's own time begins.
    fn enter(&mut self, now: Instant, running: &mut Running, stage: Stage) {
        if running.clock > now {
            self.heap.push(running.clock, Turn::Free, Event::Started(running.environment));
        } else {
            self.dispatcher.started(now, running.environment);
        }
        running.stage = stage;
        running.step = 0;
        running.began = running.clock;
        running.is_timed = false;
        running.deadline = running.clock + self.functions[running.function as usize].timeout;
    }

    /// The stage's time is over before its steps are.
    pub(super) fn run_out(running: &mut Running) -> Option<Reached> {
        running.clock = running.deadline;
        if running.stage == Stage::Init {
            running.stage = Stage::Killed;
            (running.connect, running.query, running.call) = (None, None, None);
            return None;
        }
        let waited = running.waited(running.clock);
        let cause = Cause { outer: Outer::Limit(LimitId::FunctionTimeout), trouble: running.trouble };
        let answer = Answer::TimedOut(cause, waited);
        Some(Reached::End(Outcome::TimedOut, answer, running.deadline))
    }

    /// Sends the SYNs that are due now; `None` to go on with what follows.
    fn send_syns(&mut self, now: Instant, running: &mut Running) -> Option<Reached> {
        if running.connect.is_some_and(|waiting| waiting.unresolved > 0) {
            let reached = self.look_up(now, running);
            if reached.is_some() || running.connect.is_none_or(|waiting| waiting.unresolved > 0) {
                return reached;
            }
        }
        let waiting = running.connect.as_mut()?;
        let index = waiting.index;
        let (record, environments) = (&mut self.record, self.dispatcher.environments());
        let destination = &self.network.connects[index as usize].destination.clone();
        let (mut trouble, mut told) = (None, false);
        let opened = self.network.syn(now, running.environment, index, waiting.wanted.get(), |refusal| {
            told |= Connections::is_told(refusal.limit);
            trouble =
                Some(record.dropped(now, &refusal, destination, environments, running.function as usize));
        });
        self.record.decisions.syns(now, index, waiting.wanted.get(), opened);
        if let Some(time) = self.network.closes_after(index) {
            for _ in 0..opened {
                self.heap.push(now + time, Turn::Free, Event::Close(index));
            }
        }
        let run = &mut self.network.connects[index as usize];
        let Some(wanted) = NonZeroU32::new(waiting.wanted.get() - opened) else {
            run.waits.push(nanos(now.since(waiting.connect.began())));
            return self.move_bytes(now, running, index);
        };
        waiting.wanted = wanted;
        running.trouble = running.trouble.or(trouble);
        let next = if told {
            waiting.connect.refused(now, &run.patience)
        } else {
            waiting.connect.dropped(&run.patience)
        };
        self.after_refusal(running, next)
    }

    /// A SYN or a lookup of the connect that waits came to nothing; `None` to go on with what follows.
    fn after_refusal(&mut self, running: &mut Running, next: Next) -> Option<Reached> {
        let waiting = running.connect.as_mut()?;
        let run = &mut self.network.connects[waiting.index as usize];
        match next {
            Next::Syn { at, anew } => {
                // What has resolved is not asked for again.
                waiting.asked = if anew { 0 } else { waiting.asked };
                Self::wait_until(running, at)
            }
            Next::Failed(at) if at <= running.deadline => {
                run.failed += 1;
                running.clock = at;
                let waited = at.since(waiting.connect.began());
                (running.connect, running.query) = (None, None);
                Self::fail(running, waited)
            }
            Next::Failed(_) => Self::run_out(running),
        }
    }

    /// A connect or a query failed for good, at the running's clock.
    pub(super) fn fail(running: &mut Running, waited: Duration) -> Option<Reached> {
        let cause = Cause { outer: Outer::FunctionError, trouble: running.trouble };
        let outcome = match running.stage {
            Stage::Init | Stage::Killed => {
                running.stage = Stage::Killed;
                return None;
            }
            Stage::Again => Outcome::Crashed,
            Stage::Handler => Outcome::Done,
        };
        Some(Reached::End(outcome, Answer::Failed(cause, waited), running.clock))
    }

    /// The invocation's end is known. When the client has its answer or waits no longer.
    fn finish(
        &mut self,
        running: &Running,
        outcome: Outcome,
        answer: Answer,
        ended: Instant,
    ) -> Option<Instant> {
        let function = &mut self.functions[running.function as usize];
        let lag = if outcome == Outcome::Done { function.lag() } else { 0 };
        let in_init = matches!(running.warmth, Warmth::Cold);
        let attached = self.attach.as_ref().map_or(0, |attach| attach.waited(running.environment));
        let course = Course {
            init: if in_init { nanos(running.began.since(running.sent)) - attached } else { 0 },
            init_timed_out: running.init_timed_out,
            handler: nanos(ended.since(running.began)),
            timed_out: outcome == Outcome::TimedOut,
            lag,
            // Written down when it began.
            streamed: 0,
        };
        let free_at = ended + Duration::from_nanos(lag);
        self.heap.push(free_at, Turn::Free, Event::Free { environment: running.environment, outcome });
        let (ends, request) = (ended <= self.horizon, u64::from(running.request));
        if let Some(pool) = self.dispatcher.provisioned_for(running.environment).filter(|_| ends) {
            self.record.runs_provisioned(pool, course.handler);
        }
        self.record.runs(function, &course, self.billing, ends, request);
        if running.answered {
            return None;
        }
        let ask = running.ask();
        let (ended, answer) = match ask.caller.is_client() {
            true => self.through_front(running.sent, ended, ask.phase, running.missed, answer),
            false => (ended, answer),
        };
        self.answer(ended + ask.latency, &ask, answer)
    }
}

const _: () = assert!(size_of::<Slot>() <= 200, "a million invocations may be parked at once");
const _: () =
    assert!(PHASES_MAX <= u16::MAX as usize && REQUESTS_MAX < u32::MAX as u64, "for the fields of `Running`");
