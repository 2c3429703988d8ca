//! What there is at t = 0: environments that are busy or idle already. They took no token; buckets start full.

use super::Name;
use crate::quantity;
use std::time::Duration;
use template::yaml::{Mapping, Node, Problem, Problems};

/// The most environments of one function at t = 0.
const ENVIRONMENTS_MAX: i64 = 10_000_000;

/// One function's environments at t = 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initial {
    /// The function's logical id.
    pub function: Name,
    /// How many run an invocation.
    pub busy: u32,
    /// For how long those still do.
    pub busy_for: Duration,
    /// How many wait for work.
    pub idle: u32,
}

/// Reads `initial`; what could not be read is recorded and left out.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Vec<Initial> {
    let entries = node.mapping(problems).map_or(&[][..], Mapping::entries);
    let read = entries.iter().filter_map(|entry| {
        let function = Name { text: entry.key.to_string(), span: entry.key_span };
        read_one(function, &entry.value, problems)
    });
    read.collect()
}

fn read_one(function: Name, node: &Node, problems: &mut Problems) -> Option<Initial> {
    let keys = node.mapping(problems)?;
    keys.only(&["busy", "for", "idle"], problems);
    let mut count = |key: &str| {
        let value = keys.get(key)?.integer("the number of environments", 0..=ENVIRONMENTS_MAX, problems)?;
        u32::try_from(value).ok()
    };
    let (busy, idle) = (count("busy"), count("idle"));
    let busy_for = match (keys.get("busy"), keys.get("for")) {
        (Some(_), _) => {
            let length = keys.require("for", "`busy`", node.span, problems)?;
            quantity::duration(length, problems)?
        }
        (None, Some(_)) => {
            problems.push(Problem::at(node.span, "`for` says how long `busy` lasts, and there is no `busy`"));
            return None;
        }
        (None, None) => Duration::ZERO,
    };
    Some(Initial { function, busy: busy.unwrap_or(0), busy_for, idle: idle.unwrap_or(0) })
}
