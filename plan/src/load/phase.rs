//! One phase: requests to one target, from users who wait for their answers (closed loop) or at a rate (open loop).

use super::{Name, USERS_MAX, name_of, not_yet};
use crate::arrivals::{Piece, Spacing};
use crate::distribution::Distribution;
use crate::quantity::{self, Rate};
use model::time::nanos;
use std::time::Duration;
use template::yaml::{Cause, Kind, Mapping, Node, Problem, Problems};

/// The most steps of one rate.
const STEPS_MAX: usize = 100_000;

const KEYS: &[&str] = &[
    "name", "target", "request", "start", "users", "requests", "spawn", "think", "rate", "arrivals", "for",
    "timeout", "latency", "bytes", "mode", "client", "keys", "retry",
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
    /// How long a client waits for its answer; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Time that the network and the door add to each answer.
    pub latency: Distribution,
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
}

impl Phase {
    /// The `index`th phase of the file (from 0).
    pub(super) fn read(index: usize, node: &Node, problems: &mut Problems) -> Option<Self> {
        let keys = node.mapping(problems)?;
        keys.only(KEYS, problems);
        let name = keys.get("name").and_then(|name| name.string(problems));
        let name = name.map_or_else(|| format!("phase {}", index + 1), str::to_owned);
        let target = keys.require("target", "a phase", node.span, problems);
        let target = target.and_then(|target| name_of(target, problems));
        let request = keys.get("request").and_then(|request| read_request(request, problems));
        refuse_what_is_not_simulated(keys, problems);
        let duration = |key, problems: &mut Problems| {
            keys.get(key).and_then(|value| quantity::duration(value, problems))
        };
        let start = duration("start", problems);
        let timeout = duration("timeout", problems);
        let latency = optional_distribution(keys, "latency", problems);
        let work = read_work(keys, node, problems);
        Some(Self { name, target: target?, request, start, work: work?, timeout, latency: latency? })
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
    let length = keys.get("for").map(|length| quantity::duration(length, problems));
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

fn read_spawn(node: &Node, problems: &mut Problems) -> Option<Rate> {
    let rate = quantity::rate(node, problems)?;
    if rate.events == 0 {
        problems.push(Problem::at(node.span, "at a rate of 0 no user would ever appear"));
        return None;
    }
    Some(rate)
}

fn read_rate_work(rate: &Node, keys: &Mapping, node: &Node, problems: &mut Problems) -> Option<Work> {
    let length = keys.require("for", "a phase with `rate`", node.span, problems);
    let length = length.and_then(|length| quantity::duration(length, problems));
    let spacing = match keys.get("arrivals").map(|node| node.one_of(&["even", "poisson"], problems)) {
        Some(None) => None,
        Some(Some("poisson")) => Some(Spacing::Poisson),
        _ => Some(Spacing::Even),
    };
    let pieces = read_rate(rate, nanos(length.unwrap_or_default()), problems);
    Some(Work::Rate { pieces: pieces?, spacing: spacing?, length: length? })
}

/// The course of a rate over `length` nanoseconds.
fn read_rate(node: &Node, length: u64, problems: &mut Problems) -> Option<Vec<Piece>> {
    let Kind::Mapping(mapping) = &node.kind else {
        let rate = quantity::rate(node, problems)?;
        return Some(vec![Piece { from_nanos: 0, to_nanos: length, begin: rate, end: rate }]);
    };
    let [first, ..] = mapping.entries() else {
        problems.push(Problem::wrong_type(node, "a rate, {from, to} or {steps}"));
        return None;
    };
    match &*first.key {
        "from" | "to" => {
            mapping.only(&["from", "to"], problems);
            let [begin, end] = ["from", "to"].map(|key| {
                let value = mapping.require(key, "a ramp", node.span, problems)?;
                quantity::rate(value, problems)
            });
            Some(vec![Piece { from_nanos: 0, to_nanos: length, begin: begin?, end: end? }])
        }
        "steps" => {
            mapping.only(&["steps"], problems);
            read_steps(&first.value, length, problems)
        }
        kind @ ("spike" | "diurnal" | "replay") => {
            let problem = not_yet(first.key_span, &format!("a rate of the form `{kind}`"));
            problems.push(problem.help("write it as {steps: [[0s, 100/s], …]} or {from, to} for now"));
            None
        }
        other => {
            let cause = Cause::Unknown { what: "the form of rate", name: other.to_owned() };
            let forms = ["from", "to", "steps", "spike", "diurnal", "replay"];
            let help = template::yaml::did_you_mean(other, forms);
            let help = help.unwrap_or_else(|| format!("there are {}", forms.join(", ")));
            problems.push(Problem::new(first.key_span, cause).help(help));
            None
        }
    }
}

fn read_steps(node: &Node, length: u64, problems: &mut Problems) -> Option<Vec<Piece>> {
    let items = node.sequence(problems)?;
    if items.is_empty() || items.len() > STEPS_MAX {
        let message = format!("a rate has 1 to {STEPS_MAX} steps, and this one {}", items.len());
        problems.push(Problem::at(node.span, message));
        return None;
    }
    let mut steps: Vec<(u64, Rate)> = Vec::with_capacity(items.len());
    for item in items {
        let Some([at, rate]) = item.as_sequence() else {
            problems.push(Problem::wrong_type(item, "a step of the form [60s, 900/s]"));
            return None;
        };
        let (offset, rate) = (nanos(quantity::duration(at, problems)?), quantity::rate(rate, problems)?);
        if steps.last().is_some_and(|(before, _)| *before >= offset) {
            problems.push(Problem::at(at.span, "each step must begin later than the one before it"));
            return None;
        }
        steps.push((offset, rate));
    }
    let ends = steps.iter().skip(1).map(|(offset, _)| *offset).chain([length]);
    let pieces = steps.iter().zip(ends).map(|((from_nanos, rate), to_nanos)| Piece {
        from_nanos: *from_nanos,
        to_nanos: to_nanos.min(length),
        begin: *rate,
        end: *rate,
    });
    Some(pieces.filter(|piece| piece.from_nanos < piece.to_nanos).collect())
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

/// `retry: none` is simulated, the others are not yet.
pub(super) fn only_no_retry(node: &Node, problems: &mut Problems) {
    if let Some(word @ ("standard" | "adaptive")) = node.one_of(&["none", "standard", "adaptive"], problems) {
        problems.push(not_yet(node.span, &format!("`retry: {word}`")));
    }
}

fn refuse_what_is_not_simulated(keys: &Mapping, problems: &mut Problems) {
    if let Some(retry) = keys.get("retry") {
        only_no_retry(retry, problems);
    }
    if let Some(mode) = keys.get("mode")
        && mode.one_of(&["sync", "event"], problems) == Some("event")
    {
        problems.push(not_yet(mode.span, "`mode: event` (asynchronous invocation)"));
    }
    for key in ["client", "keys"] {
        if let Some(entry) = keys.entry(key) {
            problems.push(not_yet(entry.key_span, &format!("`{key}`")));
        }
    }
    if let Some(bytes) = keys.get("bytes").and_then(|bytes| bytes.mapping(problems)) {
        bytes.only(&["in", "out"], problems);
        for entry in bytes.entries() {
            quantity::size(&entry.value, problems);
        }
    }
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
