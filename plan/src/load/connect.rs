//! The step `connect`: to whom, how many connections, for how long, and how the client fares without an answer.

use crate::quantity;
use limits::connect::Patience;
use std::time::Duration;
use template::yaml::{Node, Problem, Problems, Span};

/// The most connections of one step.
const COUNT_MAX: i64 = 10_000;
/// The most attempts of one connect.
const ATTEMPTS_MAX: i64 = 1_000;

const KEYS: &[&str] = &["to", "count", "hold", "timeout", "retry", "bytes"];

/// Connections that a step needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectStep {
    /// Name or IPv4 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How many.
    pub count: u32,
    /// For how long they stay open.
    pub hold: Hold,
    /// How long the client waits, and how often it tries.
    pub patience: Patience,
    /// Bytes that go through each connection, both ways together, whenever it is used.
    pub bytes: Option<u64>,
}

/// For how long a connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Until the invocation ends.
    Invocation,
    /// As long as the environment lives; later invocations in it use it again.
    Environment,
    /// For so long.
    For(Duration),
}

impl ConnectStep {
    pub(super) fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let keys = node.mapping(problems)?;
        keys.only(KEYS, problems);
        let to = keys.require("to", "`connect`", node.span, problems)?;
        let (host, port) = destination(to.string(problems)?, to.span, problems)?;
        let count = match keys.get("count") {
            Some(count) => count.integer("the number of connections", 1..=COUNT_MAX, problems)?,
            None => 1,
        };
        let hold = match keys.get("hold") {
            Some(hold) => read_hold(hold, problems)?,
            None => Hold::Invocation,
        };
        let timeout = match keys.get("timeout") {
            Some(timeout) => Some(quantity::duration(timeout, problems)?),
            None => None,
        };
        let (attempts, delay) = match keys.get("retry") {
            Some(retry) => read_retry(retry, problems)?,
            None => (1, Duration::ZERO),
        };
        let bytes = match keys.get("bytes") {
            Some(bytes) => Some(quantity::size(bytes, problems)?),
            None => None,
        };
        Some(Self {
            host,
            port,
            count: u32::try_from(count).ok()?,
            hold,
            patience: Patience { timeout, attempts, delay },
            bytes,
        })
    }

    /// `cache.example.com:443`.
    pub fn destination(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// `host:port`.
fn destination(text: &str, span: Span, problems: &mut Problems) -> Option<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let found = parts.filter(|(host, port)| !host.is_empty() && *port > 0);
    match found {
        Some((host, _)) if host.contains([':', '/', ' ', '[']) => {
            let message = format!("`{text}` is no host name or IPv4 address with a port");
            problems.push(Problem::at(span, message).help("for example cache.example.com:443"));
            None
        }
        Some((host, port)) => Some((host.to_owned(), port)),
        None => {
            let message = format!("`{text}` names no port");
            problems.push(Problem::at(span, message).help("for example cache.example.com:443"));
            None
        }
    }
}

pub(super) fn read_hold(node: &Node, problems: &mut Problems) -> Option<Hold> {
    match node.as_str() {
        Some("invocation") => Some(Hold::Invocation),
        Some("environment") => Some(Hold::Environment),
        Some(text) if quantity::parse_duration(text).is_some() => {
            quantity::parse_duration(text).map(Hold::For)
        }
        _ => {
            problems.push(Problem::wrong_type(node, "invocation, environment, or a duration such as 5s"));
            None
        }
    }
}

fn read_retry(node: &Node, problems: &mut Problems) -> Option<(u32, Duration)> {
    let keys = node.mapping(problems)?;
    keys.only(&["attempts", "delay"], problems);
    let attempts = keys.require("attempts", "`retry`", node.span, problems)?;
    let attempts = attempts.integer("the number of attempts", 1..=ATTEMPTS_MAX, problems)?;
    let delay = match keys.get("delay") {
        Some(delay) => quantity::duration(delay, problems)?,
        None => Duration::ZERO,
    };
    Some((u32::try_from(attempts).ok()?, delay))
}
