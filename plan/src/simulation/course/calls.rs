//! A step that calls another function and waits for its answer.
//!
//! Both are in flight meanwhile, and both are billed. The caller is parked until the answer, or until its own time is over;
//! the function that was called runs on then, as nobody can take an invocation back. A throttle is the only failure that
//! the caller's SDK sees (a function's error and time-out come with status 200), so it alone is tried again, within the
//! quota of its environment's client.

use super::{ParkedId, Reached, Running};
use crate::heap::Turn;
use crate::retry::{Client, Failure, Mode};
use crate::simulation::record::{Answer, CallTrouble};
use crate::simulation::request::{Ask, Caller};
use crate::simulation::{Event, Simulation};
use limits::EnvironmentId;
use model::{Instant, Refusal};
use std::time::Duration;

/// One `call` of a function.
#[derive(Clone, Copy, Debug)]
pub struct CallRun {
    /// Index of the function that calls.
    pub caller: usize,
    /// Index of the one that is called.
    pub function: usize,
    /// What the caller does after a throttle.
    pub retry: Mode,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Calling {
    pub began: Instant,
    /// Which call of all functions it is.
    index: u32,
    /// Which invocation of all it waits for, so that no answer to an earlier one is taken for its own.
    number: u32,
    attempts: u8,
    state: State,
    /// What its last retry took of the quota.
    cost: u16,
}

/// The clients of environments, by their places.
#[derive(Debug, Default)]
pub struct CallClients {
    clients: Vec<(u32, Client)>,
}

impl CallClients {
    /// That of an environment, whose process makes it when it first calls.
    fn of(&mut self, environment: EnvironmentId) -> &mut Client {
        let (slot, generation) = (environment.slot() as usize, environment.generation());
        if self.clients.len() <= slot {
            self.clients.resize(slot + 1, (0, Client::new(Mode::Standard)));
        }
        let (known, client) = &mut self.clients[slot];
        if *known != generation {
            (*known, *client) = (generation, Client::new(Mode::Standard));
        }
        client
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is to be made at the running's clock.
    Due,
    /// It was made.
    Waiting,
    /// The answer comes at the running's clock.
    Answered,
    /// That is an error.
    Failed,
    /// That is a throttle.
    Throttled,
}

impl Calling {
    pub fn begin(now: Instant, index: u32) -> Self {
        Self { began: now, index, number: 0, attempts: 0, state: State::Due, cost: 0 }
    }
}

impl Simulation {
    /// What a call does at this moment; `None` to go on with what follows.
    pub(super) fn go_on_calling(
        &mut self,
        now: Instant,
        running: &mut Running,
        calling: Calling,
    ) -> Option<Reached> {
        if running.clock > now {
            return Some(Reached::Park(running.clock, Turn::Want));
        }
        match calling.state {
            State::Due => Some(Reached::Call),
            State::Waiting => {
                let callee = self.calls[calling.index as usize].function;
                let late = || self.record.call_trouble(callee, CallTrouble::Late);
                running.trouble = running.trouble.or_else(late);
                Self::run_out(running)
            }
            State::Answered => {
                if self.calls[calling.index as usize].retry != Mode::None {
                    self.call_clients.of(running.environment).succeeded(calling.cost);
                }
                running.call = None;
                running.trouble = None;
                running.step += 1;
                None
            }
            State::Failed => Self::call_failed(now, running, calling),
            State::Throttled => match self.back_off(running, calling) {
                Some((delay, cost)) => {
                    running.clock = now + delay;
                    running.call = Some(Calling { state: State::Due, cost, ..calling });
                    if running.clock > running.deadline { Self::run_out(running) } else { None }
                }
                None => Self::call_failed(now, running, calling),
            },
        }
    }

    fn call_failed(now: Instant, running: &mut Running, calling: Calling) -> Option<Reached> {
        running.call = None;
        Self::fail(running, now.since(calling.began))
    }

    fn back_off(&mut self, running: &Running, calling: Calling) -> Option<(Duration, u16)> {
        if self.calls[calling.index as usize].retry == Mode::None {
            return None;
        }
        let stream = self.functions[running.function as usize].retry_stream();
        self.call_clients.of(running.environment).retry(Failure::Throttled, calling.attempts, stream)
    }

    /// Makes the call that is due, for a running that has a place.
    pub(super) fn call(&mut self, now: Instant, mut running: Running, id: ParkedId) {
        let Some(calling) = &mut running.call else { return };
        calling.state = State::Waiting;
        calling.attempts += 1;
        calling.number = self.record.asked as u32;
        let CallRun { function, .. } = self.calls[calling.index as usize];
        let caller = Caller::Step(id, calling.number);
        let deadline = running.deadline;
        running.clock = deadline;
        self.parked.put(id, running);
        self.invoke(now, &Ask::of_call(now, function, caller));
        if self.waiting(id).is_some() {
            self.heap.push(deadline, Turn::Want, Event::Resume(id));
        }
    }

    /// The function that was called was refused.
    pub(in crate::simulation) fn call_refused(
        &mut self,
        now: Instant,
        id: ParkedId,
        number: u32,
        function: usize,
        refusal: &Refusal,
    ) {
        let trouble = self.record.call_trouble(function, CallTrouble::Refused(refusal.clone()));
        self.call_ends(now, id, number, State::Throttled, trouble);
    }

    /// The function that was called answers at that moment.
    pub(in crate::simulation) fn call_answered(
        &mut self,
        at: Instant,
        id: ParkedId,
        number: u32,
        function: usize,
        answer: Answer,
    ) {
        match answer {
            Answer::Ok | Answer::Accepted => self.call_ends(at, id, number, State::Answered, None),
            Answer::TimedOut(cause, _)
            | Answer::Failed(cause, _)
            | Answer::DoorTimedOut(cause, _)
            | Answer::Barred(cause, _) => {
                let trouble = self.record.call_trouble(function, CallTrouble::Failed(cause));
                self.call_ends(at, id, number, State::Failed, trouble);
            }
            Answer::Refused(_) | Answer::Unplaced(_) | Answer::Denied => {
                self.call_ends(at, id, number, State::Failed, None);
            }
        }
    }

    /// An answer beyond the caller's time is not waited for: the deadline's event ends the caller.
    fn call_ends(&mut self, at: Instant, id: ParkedId, number: u32, state: State, trouble: Option<u32>) {
        let Some(running) = self.waiting(id) else { return };
        let deadline = running.deadline;
        let Some(calling) = running.call.as_mut().filter(|calling| calling.number == number) else { return };
        if at > deadline {
            return;
        }
        calling.state = state;
        running.clock = at;
        running.trouble = trouble.or(running.trouble);
        self.heap.push(at, Turn::Want, Event::Resume(id));
    }

    fn waiting(&mut self, id: ParkedId) -> Option<&mut Running> {
        let running = self.parked.get_mut(id)?;
        let waits = running.call.is_some_and(|calling| calling.state == State::Waiting);
        waits.then_some(running)
    }
}
