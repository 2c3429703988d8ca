//! One phase: requests to one target, from users who wait for their answers (closed loop) or at a rate (open loop).

use super::asking::Asking;
use super::rate::{UNKNOWN_LENGTH, read_rate, read_replay};
use super::{Name, USERS_MAX, name_of};
use crate::arrivals::{Piece, Spacing};
use crate::distribution::Distribution;
use crate::quantity::{self, Rate};
use crate::recording::Recording;
use crate::retry::{MODES, Mode};
use model::time::nanos;
use std::sync::Arc;
use std::time::Duration;
use template::yaml::{Mapping, Node, Problem, Problems, Span};

const KEYS: &[&str] = &[
    "name",
    "target",
    "request",
    "start",
    "users",
    "requests",
    "spawn",
    "think",
    "rate",
    "arrivals",
    "for",
    "timeout",
    "latency",
    "bytes",
    "mode",
    "client",
    "identities",
    "denied",
    "keys",
    "fresh",
    "retry",
];

/// A phase of the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its name: given, or `phase N`.
    pub name: String,
    /// Logical id of a door or a function.
    pub target: Name,
    /// `GET /cart`: which of a door's routes.
    pub request: Option<Name>,
    /// When it begins; `None`: when the phase before it in the file has ended, the first at once.
    pub start: Option<Duration>,
    /// Who sends.
    pub work: Work,
    /// Where the file says who sends: at `users` or `rate`.
    pub place: Span,
    /// How long a client waits for its answer; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Time that the network and the door add to each answer.
    pub latency: Distribution,
    /// What requests bring along for the door.
    pub asks: Asking,
    /// What clients do after a failure.
    pub retry: Mode,
    /// Requests are events: they are accepted at once, and their function runs when the queue delivers them.
    pub event: bool,
}

/// Who sends a phase's requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Users who send, wait for the answer, think, and send again.
    Users {
        /// How many.
        users: u32,
        /// Requests in all, split evenly; `None`: until the time is over.
        requests: Option<u64>,
        /// After this nothing new is sent; `None`: until all requests are answered.
        length: Option<Duration>,
        /// How fast users appear; `None`: all at once.
        spawn: Option<Rate>,
        /// Between an answer and the next request.
        think: Distribution,
    },
    /// Requests that come at a rate, answered or not.
    Rate {
        /// Its course.
        pieces: Vec<Piece>,
        /// How arrivals are spread along it.
        spacing: Spacing,
        /// After this nothing new is sent.
        length: Duration,
    },
    /// Requests that come when others came before.
    Replay {
        /// The file with their moments, as the load names it.
        file: Name,
        /// What stands in it, once it was [supplied](super::Load::supply).
        recording: Option<Arc<Recording>>,
        /// After this nothing new is sent; `None`: after the last.
        length: Option<Duration>,
    },
}

impl Phase {
    /// The `index`th phase of the file (from 0), whose clients retry as the load says unless the phase does.
    pub(super) fn read(index: usize, node: &Node, retry: Mode, problems: &mut Problems) -> Option<Self> {
        let keys = node.mapping(problems)?;
        keys.only(KEYS, problems);
        let name = keys.get("name").and_then(|name| name.string(problems));
        let name = name.map_or_else(|| format!("phase {}", index + 1), str::to_owned);
        let target = keys.require("target", "a phase", node.span, problems);
        let target = target.and_then(|target| name_of(target, problems));
        let request = keys.get("request").and_then(|request| read_request(request, problems));
        let event = match keys.get("mode").map(|mode| mode.one_of(&["sync", "event"], problems)) {
            Some(None) => None,
            mode => Some(mode == Some(Some("event"))),
        };
        let duration = |key, problems: &mut Problems| {
            keys.get(key).and_then(|value| quantity::duration(value, problems))
        };
        let start = duration("start", problems);
        let timeout = keys.get("timeout").and_then(|timeout| patience_of(timeout, problems));
        let latency = optional_distribution(keys, "latency", problems);
        let asks = Asking::read(keys, problems);
        let work = read_work(keys, node, problems);
        let retry = keys.get("retry").map_or(Some(retry), |retry| read_retry(retry, problems));
        let place = keys.get("rate").or_else(|| keys.get("users")).map_or(node.span, |work| work.span);
        Some(Self {
            name,
            target: target?,
            request,
            start,
            work: work?,
            place,
            timeout,
            latency: latency?,
            asks: asks?,
            retry: retry?,
            event: event?,
        })
    }
}

fn read_work(keys: &Mapping, node: &Node, problems: &mut Problems) -> Option<Work> {
    match (keys.get("users"), keys.get("rate")) {
        (Some(users), None) => {
            forbid(keys, &["arrivals"], "belongs to `rate`", problems);
            read_users(users, keys, node, problems)
        }
        (None, Some(rate)) => {
            forbid(keys, &["requests", "spawn", "think"], "belongs to `users`", problems);
            read_rate_work(rate, keys, node, problems)
        }
        (Some(_), Some(_)) => {
            let both = keys.entry("rate").map_or(node.span, |entry| entry.key_span);
            problems.push(Problem::at(both, "a phase has either `users` or `rate`, not both"));
            None
        }
        (None, None) => {
            let problem = Problem::at(node.span, "a phase needs `users` (closed loop) or `rate` (open loop)");
            problems.push(problem);
            None
        }
    }
}

fn read_users(users: &Node, keys: &Mapping, node: &Node, problems: &mut Problems) -> Option<Work> {
    let count = users.integer("the number of users", 1..=USERS_MAX as i64, problems);
    let requests = keys.get("requests").map(|requests| requests.unsigned(problems));
    let length = keys.get("for").map(|length| length_of(length, problems));
    let spawn = keys.get("spawn").map(|spawn| read_spawn(spawn, problems));
    let think = optional_distribution(keys, "think", problems);
    if requests.is_none() && length.is_none() {
        let problem =
            Problem::at(node.span, "a phase with `users` needs `requests` (a total) or `for` (a duration)");
        problems.push(problem);
        return None;
    }
    Some(Work::Users {
        users: u32::try_from(count?).ok()?,
        requests: optional(requests)?,
        length: optional(length)?,
        spawn: optional(spawn)?,
        think: think?,
    })
}

/// How long a client waits: longer than nothing, which some tools take for as long as it lasts.
fn patience_of(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let timeout = quantity::duration(node, problems)?;
    if timeout.is_zero() {
        let problem = Problem::at(node.span, "a client that waits for no time has no answer");
        problems.push(problem.help("leave `timeout` out: it waits as long as it takes"));
        return None;
    }
    Some(timeout)
}

/// How long a phase is: longer than nothing.
fn length_of(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let length = quantity::duration(node, problems)?;
    if length.is_zero() {
        problems.push(Problem::at(node.span, "a phase of no length sends nothing"));
        return None;
    }
    Some(length)
}

fn read_spawn(node: &Node, problems: &mut Problems) -> Option<Rate> {
    let rate = quantity::rate(node, problems)?;
    if rate.events == 0 {
        problems.push(Problem::at(node.span, "at a rate of 0 no user would ever appear"));
        return None;
    }
    Some(rate)
}

fn read_rate_work(rate: &Node, keys: &Mapping, node: &Node, problems: &mut Problems) -> Option<Work> {
    if let Some(file) = read_replay(rate, problems) {
        forbid(keys, &["arrivals"], "does not go with `replay`, which has its own moments", problems);
        let length = keys.get("for").map(|length| length_of(length, problems));
        return Some(Work::Replay { file: file?, recording: None, length: optional(length)? });
    }
    let length = keys.require("for", "a phase with `rate`", node.span, problems);
    let length = length.and_then(|length| length_of(length, problems));
    let spacing = match keys.get("arrivals").map(|node| node.one_of(&["even", "poisson"], problems)) {
        Some(None) => None,
        Some(Some("poisson")) => Some(Spacing::Poisson),
        _ => Some(Spacing::Even),
    };
    // Where `for` is wrong, that is said already, and the rest is still looked at.
    let pieces = read_rate(rate, length.map_or(UNKNOWN_LENGTH, nanos), problems);
    Some(Work::Rate { pieces: pieces?, spacing: spacing?, length: length? })
}

/// `GET /cart`: a method and a path.
fn read_request(node: &Node, problems: &mut Problems) -> Option<Name> {
    let name = name_of(node, problems)?;
    let well_formed = name.text.split_once(' ').is_some_and(|(method, path)| {
        !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase()) && path.starts_with('/')
    });
    if !well_formed {
        problems.push(Problem::wrong_type(node, "a method and a path, such as GET /cart"));
        return None;
    }
    Some(name)
}

/// What clients do after a failure.
pub(super) fn read_retry(node: &Node, problems: &mut Problems) -> Option<Mode> {
    Mode::named(node.one_of(MODES, problems)?)
}

fn forbid(keys: &Mapping, forbidden: &[&str], why: &str, problems: &mut Problems) {
    for key in forbidden {
        if let Some(entry) = keys.entry(key) {
            problems.push(Problem::at(entry.key_span, format!("`{key}` {why}")));
        }
    }
}

fn optional_distribution(keys: &Mapping, key: &str, problems: &mut Problems) -> Option<Distribution> {
    keys.get(key).map_or(Some(Distribution::ZERO), |node| Distribution::read(node, problems))
}

/// What was absent is fine; what was there and could not be read is not.
fn optional<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(None) => None,
        Some(found) => Some(found),
    }
}
