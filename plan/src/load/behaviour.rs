//! What functions do: how long INIT takes, and the steps of the handler.

use super::{Name, not_yet};
use crate::distribution::Distribution;
use template::yaml::{Cause, Kind, Mapping, Node, Problem, Problems};

/// The most steps of one function.
const STEPS_MAX: usize = 1_000;

const KEYS: &[&str] = &["init", "reuse_lag", "on_shutdown", "steps"];
const STEPS: &[&str] = &["compute", "sleep", "connect", "query", "call"];

/// One function's behaviour.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// The function's logical id.
    pub function: Name,
    /// INIT; `None`: the default.
    pub init: Option<Vec<Step>>,
    /// The handler; `None`: the default.
    pub steps: Option<Vec<Step>>,
    /// From the answer until the environment takes another request.
    pub reuse_lag: Distribution,
}

/// Something that takes time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How long.
    pub time: Distribution,
    /// Only in the first invocation of an environment, or the first after its reset.
    pub once: bool,
}

/// Reads `behaviour`; what could not be read is recorded and left out.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Vec<Behaviour> {
    let entries = node.mapping(problems).map_or(&[][..], Mapping::entries);
    let read = entries.iter().filter_map(|entry| {
        let function = Name { text: entry.key.to_string(), span: entry.key_span };
        read_one(function, &entry.value, problems)
    });
    read.collect()
}

fn read_one(function: Name, node: &Node, problems: &mut Problems) -> Option<Behaviour> {
    let keys = node.mapping(problems)?;
    keys.only(KEYS, problems);
    let init = keys.get("init").map(|init| match init.kind {
        Kind::Sequence(_) => read_steps(init, problems),
        _ => Distribution::read(init, problems).map_or(Vec::new(), |time| vec![Step { time, once: false }]),
    });
    let steps = keys.get("steps").map(|steps| read_steps(steps, problems));
    let lag = keys.get("reuse_lag").and_then(|lag| Distribution::read(lag, problems));
    if let Some(shutdown) = keys.get("on_shutdown") {
        // Says what becomes of connections; without any it changes nothing.
        shutdown.one_of(&["close", "abandon"], problems);
    }
    Some(Behaviour { function, init, steps, reuse_lag: lag.unwrap_or(Distribution::ZERO) })
}

fn read_steps(node: &Node, problems: &mut Problems) -> Vec<Step> {
    let items = node.sequence(problems).unwrap_or_default();
    if items.len() > STEPS_MAX {
        problems
            .push(Problem::at(node.span, format!("at most {STEPS_MAX} steps, and here are {}", items.len())));
    }
    items.iter().take(STEPS_MAX).filter_map(|item| read_step(item, problems)).collect()
}

fn read_step(node: &Node, problems: &mut Problems) -> Option<Step> {
    let keys = node.mapping(problems)?;
    let mut step = None;
    let mut once = false;
    for entry in keys.entries() {
        match &*entry.key {
            "once" => once = entry.value.one_of(&["environment"], problems).is_some(),
            "compute" | "sleep" if step.is_none() => step = Some(Distribution::read(&entry.value, problems)?),
            key @ ("connect" | "query" | "call") => {
                problems.push(not_yet(entry.key_span, &format!("the step `{key}`")));
                return None;
            }
            key if STEPS.contains(&key) => {
                problems
                    .push(Problem::at(entry.key_span, "one step does one thing: begin the next with a dash"));
            }
            key => {
                let cause = Cause::Unknown { what: "the step", name: key.to_owned() };
                let help = template::yaml::did_you_mean(key, STEPS.iter().copied());
                let help = help.unwrap_or_else(|| format!("there are {}", STEPS.join(", ")));
                problems.push(Problem::new(entry.key_span, cause).help(help));
                return None;
            }
        }
    }
    if step.is_none() {
        problems.push(Problem::at(node.span, format!("a step needs one of {}", STEPS.join(", "))));
    }
    Some(Step { time: step?, once })
}
