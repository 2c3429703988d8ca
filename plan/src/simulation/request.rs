//! One request: the dispatcher decides, and what follows from that goes on the heap.

use super::course::Begin;
use super::front::Passed;
use super::function::Warmth;
use super::record::{Answer, Cause, Outer};
use super::{Event, Simulation};
use crate::heap::Turn;
use limits::{Decision, Outcome};
use model::{Instant, LimitId};
use std::time::Duration;

impl Simulation {
    /// Sends one request of the phase, and says when the client has its answer or waits no longer. `None`: that is not
    /// known yet, and the user, if there is one, hears of it later.
    pub(super) fn request(&mut self, now: Instant, phase: u32, user: Option<u32>) -> Option<Instant> {
        let latency = self.phases[phase as usize].latency();
        let missed = match self.pass_front(now, phase) {
            Passed::On(missed) => missed,
            Passed::Answered(answer) => return Some(self.answer(now, now + latency, phase, answer)),
        };
        let run = &self.phases[phase as usize];
        let function = &mut self.functions[run.target.function];
        if let Some(refusal) = function.undeployed.clone() {
            self.record.decided(now, function.index, &Decision::NoFunction);
            self.record.unplaced(now, &refusal, self.dispatcher.environments(), function.index);
            return Some(self.answer(now, now + latency, phase, Answer::Unplaced(refusal.limit)));
        }
        let decision = self.dispatcher.invoke(now, function.id);
        self.record.decided(now, function.index, &decision);
        let mut attached = Duration::ZERO;
        let (environment, warmth) = match decision {
            Decision::Run(environment) => (environment, Warmth::Warm),
            Decision::Reset(environment) => (environment, Warmth::Reset),
            Decision::Start(environment) => {
                match self.attach.as_mut().map(|attach| attach.begin(now, function.index, environment)) {
                    None => {}
                    Some(Ok(wait)) => attached = wait,
                    Some(Err(refusal)) => {
                        let environments = self.dispatcher.environments();
                        self.record.unplaced(now, &refusal, environments, function.index);
                        self.dispatcher.lost(now, environment);
                        return Some(self.answer(now, now + latency, phase, Answer::Unplaced(refusal.limit)));
                    }
                }
                (environment, Warmth::Cold)
            }
            Decision::Refuse(refusal) => {
                self.record.refused(now, &refusal, self.dispatcher.environments(), function.index);
                return Some(self.answer(now, now + latency, phase, Answer::Refused(refusal.limit)));
            }
            Decision::NoFunction => unreachable!("a plan never removes a function"),
        };
        let peak = &mut self.record.functions[function.index].peak_concurrency;
        *peak = self.dispatcher.counts(function.id).in_flight.max(*peak);
        if function.connects {
            let function = function.index;
            let begin = Begin { environment, function, phase, user, latency, warmth, attached, missed };
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
            Warmth::Warm => {}
        }
        let outcome = if course.timed_out { Outcome::TimedOut } else { Outcome::Done };
        let free_at = ended + Duration::from_nanos(course.lag);
        self.heap.push(free_at, Turn::Free, Event::Free { environment, outcome });
        let request = self.record.requests;
        self.record.runs(function, &course, self.init_billed, ended <= self.horizon, request);
        let cause = Cause { outer: Outer::Limit(LimitId::FunctionTimeout), trouble: None };
        let answer = if course.timed_out { Answer::TimedOut(cause, Duration::ZERO) } else { Answer::Ok };
        let (ended, answer) = self.through_front(now, ended, phase, missed, answer);
        Some(self.answer(now, ended + latency, phase, answer))
    }

    /// Writes down how the client fares with an answer at `answered`; it is not waited for beyond the client's own
    /// time-out. What lies beyond the plan's end is not written down.
    pub(super) fn answer(&mut self, sent: Instant, answered: Instant, phase: u32, answer: Answer) -> Instant {
        let phase = &self.phases[phase as usize];
        let patience = phase.timeout.map_or(Instant::NEVER, |timeout| sent + timeout);
        let until = answered.min(patience);
        if until > self.horizon {
            return until;
        }
        if answered > patience {
            let (trouble, waited) = answer.trouble();
            self.record.gives_up(until, trouble, waited.min(until.since(sent)));
        } else {
            self.record.answered(sent, answered, answer, phase.target.door);
        }
        until
    }
}
