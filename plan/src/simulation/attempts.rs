//! Requests of clients that try again: one request, several attempts.
//!
//! A user of a closed loop is a client of its own, with its own quota; all requests of an open loop come from one client.
//! A request's time is that from its client's wish to the last answer, waits and back-offs included. A retry belongs to a
//! request in flight, so that it may come after the phase's end.

use super::record::Answer;
use super::{Caller, Event, Simulation};
use crate::heap::Turn;
use crate::input::DoorKind;
use crate::retry::{Failure, Mode};
use model::Instant;
use std::time::Duration;

/// Requests that may be tried again.
#[derive(Debug, Default)]
pub struct Attempts {
    requests: Vec<Request>,
    free: Vec<u32>,
}

/// A request in flight, or between two attempts.
#[derive(Clone, Copy, Debug)]
struct Request {
    phase: u32,
    user: Option<u32>,
    /// When its client wished for it.
    began: Instant,
    /// When its last attempt was sent.
    sent: Instant,
    attempts: u8,
    /// What its last retry took of the quota.
    cost: u16,
    fate: Fate,
    /// Who it is to an authorizer, once that was drawn: the same in every attempt.
    identity: Option<u64>,
}

/// What has become of the last attempt.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Not known.
    Open,
    /// It was answered.
    Answered(Answer),
    /// The client waited no longer: the trouble behind it, and how long a connect had waited then.
    GivenUp(Option<u32>, Duration),
}

impl Fate {
    /// Why it is worth another attempt. A function's own error comes with status 200 to whom invoked it, and is none.
    fn failure(self, door: Option<DoorKind>) -> Option<Failure> {
        match self {
            Self::Answered(answer) => match answer.status(door) {
                429 => Some(Failure::Throttled),
                500.. => Some(Failure::Server),
                _ => None,
            },
            Self::GivenUp(..) => Some(Failure::Timeout),
            Self::Open => None,
        }
    }
}

impl Attempts {
    /// Who a request is to an authorizer.
    pub fn identity(&mut self, id: u32) -> &mut Option<u64> {
        &mut self.requests[id as usize].identity
    }

    /// The user whose request it is; none in an open loop.
    pub fn user(&self, id: u32) -> Option<u32> {
        self.requests[id as usize].user
    }

    fn put(&mut self, request: Request) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.requests[id as usize] = request;
                id
            }
            None => {
                self.requests.push(request);
                (self.requests.len() - 1) as u32
            }
        }
    }
}

impl Simulation {
    /// A client wishes for an answer. When it has one or waits no longer, if that is known already.
    pub(super) fn request(&mut self, now: Instant, phase: u32, user: Option<u32>) -> Option<Instant> {
        self.record.requests += 1;
        if self.phases[phase as usize].retry == Mode::None {
            let caller = user.map_or(Caller::Nobody, Caller::User);
            return self.attempt(now, phase, caller);
        }
        let request = Request {
            phase,
            user,
            began: now,
            sent: now,
            attempts: 0,
            cost: 0,
            fate: Fate::Open,
            identity: None,
        };
        let id = self.attempts.put(request);
        self.wish(now, id);
        None
    }

    /// The next attempt of a request is wanted: it is sent as soon as the client may.
    pub(super) fn wish(&mut self, now: Instant, id: u32) {
        let Request { phase, user, .. } = self.attempts.requests[id as usize];
        let at = self.phases[phase as usize].client(user).sends_at(now);
        if at > now {
            self.heap.push(at, Turn::Want, Event::Dispatch(id));
        } else {
            self.dispatch(now, id);
        }
    }

    /// An attempt of a request is sent.
    pub(super) fn dispatch(&mut self, now: Instant, id: u32) {
        let request = &mut self.attempts.requests[id as usize];
        request.sent = now;
        request.attempts += 1;
        request.fate = Fate::Open;
        let phase = request.phase;
        self.attempt(now, phase, Caller::Attempt(id));
    }

    /// What becomes of an attempt is known, and when.
    pub(super) fn fate(&mut self, at: Instant, id: u32, fate: Fate) {
        self.attempts.requests[id as usize].fate = fate;
        self.heap.push(at, Turn::Phase, Event::Settle(id));
    }

    /// The moment of that has come: another attempt, or the request is done.
    pub(super) fn settle(&mut self, now: Instant, id: u32) {
        let request = self.attempts.requests[id as usize];
        let phase = &mut self.phases[request.phase as usize];
        let door = phase.target.door;
        let failure = request.fate.failure(door);
        let (client, stream) = phase.client_and_stream(request.user);
        client.hears(now, failure);
        match failure {
            None => client.succeeded(request.cost),
            Some(failure) => {
                if let Some((delay, cost)) = client.retry(failure, request.attempts, stream) {
                    self.attempts.requests[id as usize].cost = cost;
                    return self.heap.push(now + delay, Turn::Want, Event::Wish(id));
                }
            }
        }
        match request.fate {
            Fate::Answered(answer) => self.record.answered(request.began, now, answer, door),
            Fate::GivenUp(trouble, waited) => self.record.gives_up(now, trouble, waited),
            Fate::Open => {}
        }
        self.attempts.free.push(id);
        if let Some(user) = request.user {
            self.after_answer(request.sent, user, now);
        }
    }
}
