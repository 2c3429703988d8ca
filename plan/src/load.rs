//! `load.yaml`: who sends what when, and what the functions do with it. Version 1.
//!
//! The whole schema is read; what cannot be used is a problem at the place where it stands, never skipped in silence.

mod asking;
mod behaviour;
mod call;
mod connect;
mod hosts;
mod initial;
mod phase;
mod query;
mod rate;
pub(crate) mod size;

pub use asking::{Asking, Callers, Fresh, KEYS_MAX, Keys};
pub(crate) use behaviour::check_streams;
pub use behaviour::{Action, Behaviour, Step};
pub use call::CallStep;
pub(crate) use call::service_connect;
pub use connect::{ConnectStep, Hold};
pub use hosts::Host;
pub use initial::Initial;
pub use phase::{Phase, Work};
pub use query::QueryStep;

use crate::recording::Recording;
use crate::retry::Mode;
use std::sync::Arc;
use template::yaml::{self, Mapping, Node, Problem, Problems, Span};

/// The most phases in one load.
pub const PHASES_MAX: usize = 1_000;
/// The most users of one phase.
pub const USERS_MAX: u64 = 10_000_000;

const KEYS: &[&str] = &["version", "seed", "retry", "month", "hosts", "initial", "phases", "behaviour"];

/// A word of the file with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The word.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A load: phases of requests, and how functions behave.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The seed of all randomness, unless the caller gives one.
    pub seed: u64,
    /// How often a month this load runs.
    pub repeat_per_month: u64,
    /// What host names stand for; those that are not here have one address.
    pub hosts: Vec<Host>,
    /// What there is at t = 0.
    pub initial: Vec<Initial>,
    /// The phases, in the order of the file.
    pub phases: Vec<Phase>,
    /// What functions do; those that are not here have a default.
    pub behaviour: Vec<Behaviour>,
    /// Keys that were read and have no effect yet.
    pub unused: Vec<&'static str>,
}

impl Load {
    /// Reads a load from the text of a file called `name`.
    ///
    /// # Errors
    /// Every problem with its place.
    pub fn read(name: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let document = yaml::parse(name, text)?;
        let mut problems = Problems::new();
        let load = Self::from_node(&document.root, &mut problems);
        match load {
            Some(load) if problems.is_empty() => Ok(load),
            _ => Err(problems.into_vec()),
        }
    }

    /// The files of recorded arrivals that the load names, each with its phase's index. They are relative to the load's
    /// own file; whoever can read files reads them, and [supplies](Self::supply) what is in them.
    pub fn replays(&self) -> impl Iterator<Item = (usize, &Name)> {
        self.phases.iter().enumerate().filter_map(|(index, phase)| match &phase.work {
            Work::Replay { file, .. } => Some((index, file)),
            Work::Users { .. } | Work::Rate { .. } => None,
        })
    }

    /// What stands in the file that the phase replays. Nothing happens for another kind of phase.
    pub fn supply(&mut self, phase: usize, found: Arc<Recording>) {
        if let Some(Phase { work: Work::Replay { recording, .. }, .. }) = self.phases.get_mut(phase) {
            *recording = Some(found);
        }
    }

    /// Reads a load from a part of a file. `None` or recorded problems mean that it cannot be used.
    pub fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let top = node.mapping(problems)?;
        top.only(KEYS, problems);
        let version = top.require("version", "a load", node.span, problems);
        version.and_then(|version| version.integer("the version of load.yaml", 1..=1, problems));
        let seed = top.get("seed").and_then(|seed| seed.unsigned(problems)).unwrap_or(0);
        let retry = top.get("retry").and_then(|retry| phase::read_retry(retry, problems)).unwrap_or_default();
        let repeat_per_month = top.get("month").map_or(Some(1), |month| repeat(month, problems));
        let hosts = top.get("hosts").map_or(Vec::new(), |node| hosts::read(node, problems));
        let initial = top.get("initial").map_or(Vec::new(), |node| initial::read(node, problems));
        let behaviour = top.get("behaviour").map_or(Vec::new(), |node| behaviour::read(node, problems));
        let phases = read_phases(top, node, retry, problems)?;
        let unused = unused(top);
        Some(Self { seed, repeat_per_month: repeat_per_month?, hosts, initial, phases, behaviour, unused })
    }
}

fn read_phases(top: &Mapping, node: &Node, retry: Mode, problems: &mut Problems) -> Option<Vec<Phase>> {
    let list = top.require("phases", "a load", node.span, problems)?;
    let items = list.sequence(problems)?;
    if items.is_empty() || items.len() > PHASES_MAX {
        let message = format!("a load has 1 to {PHASES_MAX} phases, and this one {}", items.len());
        problems.push(Problem::at(list.span, message));
        return None;
    }
    let phases: Vec<Option<Phase>> =
        items.iter().enumerate().map(|(index, item)| Phase::read(index, item, retry, problems)).collect();
    phases.into_iter().collect()
}

/// What is there and matters only to parts of the planner that are not built yet.
fn unused(top: &Mapping) -> Vec<&'static str> {
    let phases = top.get("phases").and_then(Node::as_sequence).unwrap_or_default();
    let has_bytes = phases.iter().any(|phase| phase.get("bytes").is_some());
    let found = [("phases.bytes", has_bytes)];
    found.into_iter().filter(|(_, there)| *there).map(|(key, _)| key).collect()
}

fn repeat(month: &Node, problems: &mut Problems) -> Option<u64> {
    let mapping = month.mapping(problems)?;
    mapping.only(&["repeat"], problems);
    mapping.require("repeat", "month", month.span, problems)?.unsigned(problems)
}

fn name_of(node: &Node, problems: &mut Problems) -> Option<Name> {
    Some(Name { text: node.string(problems)?.to_owned(), span: node.span })
}

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
