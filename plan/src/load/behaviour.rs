//! What functions do: how long INIT takes, and the steps of the handler.

use super::Name;
use super::call::CallStep;
use super::connect::ConnectStep;
use super::query::QueryStep;
use crate::distribution::Distribution;
use crate::quantity;
use crate::report::grouped;
use limits::StreamFigures;
use model::LimitId;
use template::yaml::{Cause, Kind, Mapping, Node, Problem, Problems, Span};

/// The most steps of one function.
const STEPS_MAX: usize = 1_000;

const KEYS: &[&str] = &["init", "reuse_lag", "on_shutdown", "steps"];
const STEPS: &[&str] = &["compute", "sleep", "connect", "query", "call", "stream"];

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
    /// Whether an environment that ends closes its connections, rather than leaving them to be forgotten.
    pub closes_on_shutdown: bool,
}

impl Behaviour {
    /// Every step of INIT and of the handler.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.init.iter().chain(&self.steps).flatten()
    }

    /// Every connect of INIT and of the handler.
    pub fn connects(&self) -> impl Iterator<Item = &ConnectStep> {
        self.all_steps().filter_map(|step| match &step.action {
            Action::Connect(connect) => Some(connect),
            Action::Take(_) | Action::Stream(_) | Action::Call(_) | Action::Query(_) => None,
        })
    }

    /// Every query of INIT and of the handler.
    pub fn queries(&self) -> impl Iterator<Item = &QueryStep> {
        self.all_steps().filter_map(|step| match &step.action {
            Action::Query(query) => Some(query),
            Action::Take(_) | Action::Stream(_) | Action::Connect(_) | Action::Call(_) => None,
        })
    }

    /// The functions that INIT and the handler call.
    pub fn calls(&self) -> impl Iterator<Item = &Name> {
        self.all_steps().filter_map(|step| match &step.action {
            Action::Call(CallStep::Function { function, .. }) => Some(function),
            Action::Take(_) | Action::Stream(_) | Action::Connect(_) | Action::Call(_) | Action::Query(_) => {
                None
            }
        })
    }

    /// The response that it streams, if it does.
    pub fn stream(&self) -> Option<StreamStep> {
        self.all_steps().find_map(|step| match step.action {
            Action::Stream(stream) => Some(stream),
            _ => None,
        })
    }
}

/// A response that flows while the function runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStep {
    /// How large it is.
    pub bytes: u64,
    /// Where that stands.
    pub span: Span,
}

/// A problem for each stream that is larger than a response may be.
pub(crate) fn check_streams(load: &super::Load, figures: &StreamFigures) -> Vec<Problem> {
    let all = load.behaviour.iter().filter_map(Behaviour::stream);
    let too_large = all.filter(|stream| stream.bytes > figures.size).map(|stream| {
        let limit = LimitId::ResponseStreamSize;
        let message = format!(
            "{limit} cuts a response after {} bytes, and this has {}",
            grouped(figures.size),
            grouped(stream.bytes)
        );
        Problem::at(stream.span, message).help("stream less, or raise the limit with --limit")
    });
    too_large.collect()
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Only in the first invocation of an environment, or the first after its reset.
    pub once: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It takes time.
    Take(Distribution),
    /// It sends its response, piece by piece.
    Stream(StreamStep),
    /// It needs connections, and waits until they are open.
    Connect(ConnectStep),
    /// It calls a function or a service, and waits for the answer.
    Call(CallStep),
    /// It asks a database, and waits for the answers.
    Query(QueryStep),
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
        Kind::Sequence(_) => {
            let steps = read_steps(init, problems);
            refuse_streams(&steps, 0, "INIT sends no response: `stream` is a step of the handler", problems);
            steps
        }
        _ => Distribution::read(init, problems)
            .map_or(Vec::new(), |time| vec![Step { action: Action::Take(time), once: false }]),
    });
    let steps = keys.get("steps").map(|steps| read_steps(steps, problems));
    let once = "an invocation has one response: give its whole size to one `stream`";
    refuse_streams(steps.as_deref().unwrap_or_default(), 1, once, problems);
    let lag = keys.get("reuse_lag").and_then(|lag| Distribution::read(lag, problems));
    let shutdown =
        keys.get("on_shutdown").and_then(|shutdown| shutdown.one_of(&["close", "abandon"], problems));
    Some(Behaviour {
        function,
        init,
        steps,
        reuse_lag: lag.unwrap_or(Distribution::ZERO),
        closes_on_shutdown: shutdown == Some("close"),
    })
}

fn read_steps(node: &Node, problems: &mut Problems) -> Vec<Step> {
    let items = node.sequence(problems).unwrap_or_default();
    if items.len() > STEPS_MAX {
        problems
            .push(Problem::at(node.span, format!("at most {STEPS_MAX} steps, and here are {}", items.len())));
    }
    items.iter().take(STEPS_MAX).filter_map(|item| read_step(item, problems)).collect()
}

/// Records a problem at each stream after the first `allowed` ones.
fn refuse_streams(steps: &[Step], allowed: usize, why: &str, problems: &mut Problems) {
    let streams = steps.iter().filter_map(|step| match step.action {
        Action::Stream(stream) => Some(stream.span),
        _ => None,
    });
    streams.skip(allowed).for_each(|span| problems.push(Problem::at(span, why.to_owned())));
}

fn read_step(node: &Node, problems: &mut Problems) -> Option<Step> {
    let keys = node.mapping(problems)?;
    let mut step = None;
    let mut once = false;
    for entry in keys.entries() {
        match &*entry.key {
            "once" => once = entry.value.one_of(&["environment"], problems).is_some(),
            "compute" | "sleep" if step.is_none() => {
                step = Some(Action::Take(Distribution::read(&entry.value, problems)?));
            }
            "connect" if step.is_none() => {
                step = Some(Action::Connect(ConnectStep::read(&entry.value, problems)?));
            }
            "call" if step.is_none() => {
                step = Some(Action::Call(CallStep::read(&entry.value, problems)?));
            }
            "query" if step.is_none() => {
                step = Some(Action::Query(QueryStep::read(&entry.value, problems)?));
            }
            "stream" if step.is_none() => {
                let bytes = quantity::size(&entry.value, problems)?;
                step = Some(Action::Stream(StreamStep { bytes, span: entry.value.span }));
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
    if once && matches!(step, Some(Action::Stream(_))) {
        let why = "each invocation has a response: a `stream` has no `once`";
        problems.push(Problem::at(node.span, why.to_owned()));
    }
    if step.is_none() {
        problems.push(Problem::at(node.span, format!("a step needs one of {}", STEPS.join(", "))));
    }
    Some(Step { action: step?, once })
}
