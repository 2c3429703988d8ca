//! One request: the dispatcher decides, and what follows from that goes on the heap.

use super::attempts::Fate;
use super::authorizer::Order;
use super::authorizer::QuestionId;
use super::course::{Begin, ParkedId};
use super::front::{Missed, Passed};
use super::function::Warmth;
use super::record::{Answer, Cause, Outer};
use super::{Event, Simulation};
use crate::heap::Turn;
use limits::async_queue::EventId;
use limits::{Decision, InvocationType, Outcome};
use model::{Instant, LimitId, Refusal};
use std::time::Duration;

/// Who waits for an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody who would do anything then: a request of an open loop.
    Nobody,
    /// A user, by its index.
    User(u32),
    /// A request that may be tried again, by its index.
    Attempt(u32),
    /// The queue of asynchronous events.
    Event(EventId),
    /// A step of another invocation, which is parked there; the number says which of its calls.
    Step(ParkedId, u32),
    /// An API that asks whether a request may pass.
    Authorizer(QuestionId),
}

impl Caller {
    /// Whether a client waits, with an API or a function URL before the function, or nothing.
    #[inline]
    pub const fn is_client(self) -> bool {
        matches!(self, Self::Nobody | Self::User(_) | Self::Attempt(_))
    }
}

/// An invocation that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Index of the function.
    pub function: usize,
    /// Index of its provisioned concurrency, for a version or alias that has some.
    pub provisioned: Option<usize>,
    /// Index of the phase; of no meaning for a call.
    pub phase: u32,
    pub caller: Caller,
    /// When the client sent it; an authorizer may have been asked since.
    pub sent: Instant,
    /// What network and door add to the answer.
    pub latency: Duration,
    /// The entry of the door's cache that the answer will fill.
    pub missed: Missed,
}

impl Ask {
    /// Not by a client: no door, and no time on the way.
    pub fn of_call(now: Instant, function: usize, caller: Caller) -> Self {
        Self {
            function,
            provisioned: None,
            phase: 0,
            caller,
            sent: now,
            latency: Duration::ZERO,
            missed: Missed::NOTHING,
        }
    }
}

impl Simulation {
    /// Sends a request of the phase once. When its client has the answer or waits no longer, if that is known already and
    /// nobody else will hear of it; otherwise it is told later.
    pub(super) fn attempt(&mut self, now: Instant, phase: u32, caller: Caller) -> Option<Instant> {
        self.record.sent(now);
        let run = &mut self.phases[phase as usize];
        run.sent += 1;
        let (function, latency) = (run.target.function, run.latency());
        let provisioned = run.target.provisioned;
        let ask = Ask { function, provisioned, phase, caller, sent: now, latency, missed: Missed::NOTHING };
        if let Some(answered) = self.accept_event(now, &ask) {
            return answered;
        }
        match self.asks_authorizer(phase) {
            None => self.pass(now, &ask),
            Some(Order::ThrottlesFirst) => match self.pass_front(now, phase) {
                Passed::On(missed) => self.authorize(now, &Ask { missed, ..ask }),
                Passed::Answered(answer) => self.answer(now + latency, &ask, answer),
            },
            Some(Order::AuthorizerFirst) => self.authorize(now, &ask),
        }
    }

    /// A request that may pass meets what stands before its function.
    pub(super) fn pass(&mut self, now: Instant, ask: &Ask) -> Option<Instant> {
        match self.pass_front(now, ask.phase) {
            Passed::On(missed) => self.invoke(now, &Ask { missed, ..*ask }),
            Passed::Answered(answer) => self.answer(now + ask.latency, ask, answer),
        }
    }

    /// Asks the dispatcher for an invocation; the answer is as for [`attempt`](Self::attempt).
    pub(super) fn invoke(&mut self, now: Instant, ask: &Ask) -> Option<Instant> {
        let Ask { phase, caller, latency, missed, .. } = *ask;
        let function = &mut self.functions[ask.function];
        if let Some(refusal) = function.undeployed.clone() {
            self.record.decided(now, function.index, &Decision::NoFunction);
            return self.unplaced(now, ask, &refusal);
        }
        let kind = match caller {
            Caller::Event(..) => InvocationType::Event,
            _ => InvocationType::RequestResponse,
        };
        let decision = match ask.provisioned {
            Some(pool) => self.dispatcher.invoke_as(now, self.pools[pool], kind),
            None => self.dispatcher.invoke_as(now, function.id, kind),
        };
        self.record.decided(now, function.index, &decision);
        let mut attached = Duration::ZERO;
        let (environment, warmth) = match decision {
            Decision::Run(environment) => {
                let first = !self.unused.is_empty() && self.unused.remove(&environment);
                (environment, if first { Warmth::First } else { Warmth::Warm })
            }
            Decision::Reset(environment) => (environment, Warmth::Reset),
            Decision::Start(environment) => {
                match self.attach.as_mut().map(|attach| attach.begin(now, function.index, environment)) {
                    None => {}
                    Some(Ok(wait)) => attached = wait,
                    Some(Err(refusal)) => {
                        let told = self.unplaced(now, ask, &refusal);
                        self.dispatcher.lost(now, environment);
                        return told;
                    }
                }
                (environment, Warmth::Cold)
            }
            Decision::Refuse(refusal) => {
                self.record.refused(now, &refusal, self.dispatcher.environments(), function.index);
                match caller {
                    Caller::Step(parked, number) => {
                        self.call_refused(now, parked, number, ask.function, &refusal);
                        return None;
                    }
                    Caller::Event(id) => {
                        self.event_throttled(now, id, &refusal);
                        return None;
                    }
                    Caller::Authorizer(id) => {
                        self.authorizer_refused(now, id, ask.function, &refusal);
                        return None;
                    }
                    Caller::Nobody | Caller::User(_) | Caller::Attempt(_) => {}
                }
                return self.answer(now + latency, ask, Answer::Refused(refusal.limit));
            }
            Decision::NoFunction => unreachable!("a plan never removes a function"),
        };
        let peak = &mut self.record.functions[function.index].peak_concurrency;
        *peak = self.dispatcher.counts(function.id).in_flight.max(*peak);
        if let Caller::Event(id) = caller {
            self.event_runs(now, id);
        }
        let function = &mut self.functions[ask.function];
        if function.waits {
            let function = function.index;
            let Ask { sent, .. } = *ask;
            let begin =
                Begin { environment, function, phase, caller, sent, latency, warmth, attached, missed };
            return self.launch(now, &begin);
        }
        self.record.starts(function.index, warmth);
        let course = function.course(warmth, self.init_timeout_nanos);
        let started = now + attached + Duration::from_nanos(course.init);
        let ended = started + Duration::from_nanos(course.handler);
        match warmth {
            Warmth::Cold if started > now => {
                self.heap.push(started, Turn::Free, Event::Started(environment));
            }
            // A suppressed INIT is part of the invocation.
            Warmth::Cold | Warmth::Reset => {
                self.dispatcher.started(now, environment);
            }
            Warmth::Warm | Warmth::First => {}
        }
        let outcome = if course.timed_out { Outcome::TimedOut } else { Outcome::Done };
        let free_at = ended + Duration::from_nanos(course.lag);
        self.heap.push(free_at, Turn::Free, Event::Free { environment, outcome });
        let request = self.record.asked;
        if ask.provisioned.is_some()
            && ended <= self.horizon
            && let Some(pool) = self.dispatcher.provisioned_for(environment)
        {
            self.record.runs_provisioned(pool, course.handler);
        }
        self.record.runs(function, &course, self.billing, ended <= self.horizon, request);
        let cause = Cause { outer: Outer::Limit(LimitId::FunctionTimeout), trouble: None };
        let answer = if course.timed_out { Answer::TimedOut(cause, Duration::ZERO) } else { Answer::Ok };
        let (ended, answer) = match caller.is_client() {
            true => self.through_front(now, ended, phase, missed, answer),
            false => (ended, answer),
        };
        self.answer(ended + latency, ask, answer)
    }

    /// The function has no interface in its VPC.
    fn unplaced(&mut self, now: Instant, ask: &Ask, refusal: &Refusal) -> Option<Instant> {
        self.record.unplaced(now, refusal, self.dispatcher.environments(), ask.function);
        if let Caller::Step(parked, number) = ask.caller {
            self.call_refused(now, parked, number, ask.function, refusal);
            return None;
        }
        if let Caller::Authorizer(id) = ask.caller {
            self.authorizer_refused(now, id, ask.function, refusal);
            return None;
        }
        self.answer(now + ask.latency, ask, Answer::Unplaced(refusal.limit))
    }

    /// Tells the caller of an answer at `answered`, or writes down how its client fares; it is not waited for beyond the
    /// client's own time-out. What lies beyond the plan's end is not written down.
    pub(super) fn answer(&mut self, answered: Instant, ask: &Ask, answer: Answer) -> Option<Instant> {
        if let Caller::Step(parked, number) = ask.caller {
            self.call_answered(answered, parked, number, ask.function, answer);
            return None;
        }
        if let Caller::Event(id) = ask.caller {
            let succeeded = answer == Answer::Ok;
            self.heap.push(answered, Turn::Free, Event::Replied { id, succeeded });
            return None;
        }
        if let Caller::Authorizer(id) = ask.caller {
            self.authorizer_answered(answered, id, ask.function, answer);
            return None;
        }
        let (phase, sent) = (&self.phases[ask.phase as usize], ask.sent);
        let patience = phase.timeout.map_or(Instant::NEVER, |timeout| sent + timeout);
        let until = answered.min(patience);
        if let Caller::Attempt(id) = ask.caller {
            let (trouble, waited) = answer.trouble();
            let given_up = Fate::GivenUp(trouble, waited.min(until.since(sent)));
            self.fate(until, id, if answered > patience { given_up } else { Fate::Answered(answer) });
            return None;
        }
        if until > self.horizon {
            return Some(until);
        }
        if answered > patience {
            let (trouble, waited) = answer.trouble();
            self.record.gives_up(until, trouble, waited.min(until.since(sent)));
        } else {
            self.record.answered(sent, answered, answer, phase.target.door);
        }
        Some(until)
    }
}
