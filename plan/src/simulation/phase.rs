//! A phase in its course: how much of it is left, and its random streams.

use crate::arrivals::Arrivals;
use crate::distribution::Distribution;
use crate::input::Target;
use crate::load::{Phase, Work};
use crate::random::Stream;
use crate::retry::{Client, Mode};
use model::Instant;
use std::time::Duration;

/// A user of a closed loop.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The user's phase.
    pub phase: u32,
    /// Requests that the user still sends.
    pub left: u64,
}

/// How users come and how many requests there are.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub users: u32,
    pub requests: Option<u64>,
    pub spawn: Option<crate::quantity::Rate>,
}

/// A phase.
#[derive(Debug)]
pub struct PhaseRun {
    pub start: Option<Duration>,
    pub target: Target,
    /// How long clients wait.
    pub timeout: Option<Duration>,
    /// After this long nothing new is sent.
    pub length: Option<Duration>,
    /// The users of a closed loop.
    pub crowd: Option<Crowd>,
    pub began: Instant,
    /// From then on nothing new is sent.
    pub stop: Instant,
    pub ended: bool,
    /// Requests sent.
    pub sent: u64,
    /// Users who have a request to send or an answer to get, where requests are counted.
    pub users_left: u32,
    /// What clients do after a failure.
    pub retry: Mode,
    /// Of the phase's users the first, among all users.
    first_user: u32,
    /// With retries: one for each user; one for all requests of an open loop.
    clients: Vec<Client>,
    think: Distribution,
    latency: Distribution,
    arrivals: Option<Arrivals>,
    think_stream: Stream,
    latency_stream: Stream,
    arrivals_stream: Stream,
    retry_stream: Stream,
}

impl PhaseRun {
    /// The phase before its begin. `namesakes` phases before it have the same name; its streams differ from theirs.
    pub fn new(phase: &Phase, namesakes: usize, target: Target, seed: u64) -> Self {
        let name = if namesakes == 0 { phase.name.clone() } else { format!("{}\n{namesakes}", phase.name) };
        let stream = |purpose| Stream::new(seed, purpose, &name);
        let (length, crowd, think, arrivals) = match &phase.work {
            Work::Users { users, requests, length, spawn, think } => {
                let crowd = Crowd { users: *users, requests: *requests, spawn: *spawn };
                (*length, Some(crowd), think.clone(), None)
            }
            Work::Rate { pieces, spacing, length } => {
                (Some(*length), None, Distribution::ZERO, Some(Arrivals::new(pieces.clone(), *spacing)))
            }
            Work::Replay { recording, length, .. } => {
                let recording = recording.clone().unwrap_or_default();
                // Without `for` the phase is over when the last has come: at its moment the phase's end comes first.
                let last = Duration::from_nanos(recording.last() + 1);
                let length = length.unwrap_or(last);
                (Some(length), None, Distribution::ZERO, Some(Arrivals::replay(recording)))
            }
        };
        Self {
            start: phase.start,
            target,
            timeout: phase.timeout,
            length,
            crowd,
            began: Instant::START,
            stop: Instant::NEVER,
            ended: false,
            sent: 0,
            users_left: 0,
            retry: phase.retry,
            first_user: 0,
            clients: Vec::new(),
            think,
            latency: phase.latency.clone(),
            arrivals,
            think_stream: stream("think"),
            latency_stream: stream("latency"),
            arrivals_stream: stream("arrivals"),
            retry_stream: stream("retry"),
        }
    }

    /// The phase begins: its users, if it has any, come after so many others.
    pub fn begins(&mut self, now: Instant, users_before: usize) {
        self.began = now;
        self.first_user = users_before as u32;
        if self.retry != Mode::None {
            let clients = self.crowd.map_or(1, |crowd| crowd.users as usize);
            self.clients = vec![Client::new(self.retry); clients];
        }
    }

    /// The client that sends for a user, or for an open loop; only where there are retries.
    pub fn client(&mut self, user: Option<u32>) -> &mut Client {
        self.client_and_stream(user).0
    }

    /// The client, and what its back-offs are drawn from.
    pub fn client_and_stream(&mut self, user: Option<u32>) -> (&mut Client, &mut Stream) {
        let index = user.map_or(0, |user| user - self.first_user);
        (&mut self.clients[index as usize], &mut self.retry_stream)
    }

    /// How long a user thinks.
    #[inline]
    pub fn think(&mut self) -> Duration {
        Duration::from_nanos(self.think.sample(&mut self.think_stream))
    }

    /// What network and door add to an answer.
    #[inline]
    pub fn latency(&mut self) -> Duration {
        Duration::from_nanos(self.latency.sample(&mut self.latency_stream))
    }

    /// When the next request of an open loop comes.
    #[inline]
    pub fn next_arrival(&mut self) -> Option<Instant> {
        let nanos = self.arrivals.as_mut()?.next(&mut self.arrivals_stream)?;
        // Only a recording may go on beyond the phase's end.
        Some(self.began + Duration::from_nanos(nanos)).filter(|at| *at < self.stop)
    }
}
