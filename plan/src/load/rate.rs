//! The course of a rate: constant, a ramp, steps, a spike, days and nights, or arrivals as they were recorded.

use super::{Name, name_of};
use crate::arrivals::{Bend, Piece};
use crate::quantity::{self, Rate};
use model::time::nanos;
use template::yaml::{Cause, Kind, Mapping, Node, Problem, Problems};

/// The most steps of one rate, and half waves of a day's course.
const STEPS_MAX: usize = 100_000;
/// A day, where `diurnal` does not say.
const DAY_NANOS: u64 = 86_400_000_000_000;

/// In place of a phase's length that could not be read.
pub(super) const UNKNOWN_LENGTH: u64 = u64::MAX;

const FORMS: &[&str] = &["from", "to", "steps", "spike", "diurnal", "replay"];

/// The course of a rate over `length` nanoseconds.
pub(super) fn read_rate(node: &Node, length: u64, problems: &mut Problems) -> Option<Vec<Piece>> {
    let Kind::Mapping(mapping) = &node.kind else {
        let rate = quantity::rate(node, problems)?;
        return Some(vec![straight(0, length, rate, rate)]);
    };
    let [first, ..] = mapping.entries() else {
        problems.push(Problem::wrong_type(node, format!("a rate, or one of {}", FORMS.join(", "))));
        return None;
    };
    match &*first.key {
        "from" | "to" => {
            let [begin, end] = rates(mapping, ["from", "to"], "a ramp", node, problems)?;
            Some(vec![straight(0, length, begin, end)])
        }
        "steps" => {
            mapping.only(&["steps"], problems);
            read_steps(&first.value, length, problems)
        }
        "spike" => {
            mapping.only(&["spike"], problems);
            read_spike(&first.value, length, problems)
        }
        "diurnal" => {
            mapping.only(&["diurnal"], problems);
            read_diurnal(&first.value, length, problems)
        }
        other => {
            let cause = Cause::Unknown { what: "the form of rate", name: other.to_owned() };
            let help = template::yaml::did_you_mean(other, FORMS.iter().copied());
            let help = help.unwrap_or_else(|| format!("there are {}", FORMS.join(", ")));
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
    let pieces =
        steps.iter().zip(ends).map(|((from, rate), to)| straight(*from, to.min(length), *rate, *rate));
    Some(pieces.filter(|piece| piece.from_nanos < piece.to_nanos).collect())
}

/// `{base: 100/s, peak: 5000/s, at: 60s, for: 10s}`.
fn read_spike(node: &Node, length: u64, problems: &mut Problems) -> Option<Vec<Piece>> {
    let keys = node.mapping(problems)?;
    keys.only(&["base", "peak", "at", "for"], problems);
    let found = ["base", "peak"].map(|key| {
        let value = keys.require(key, "a spike", node.span, problems)?;
        quantity::rate(value, problems)
    });
    let [at, lasting] = ["at", "for"].map(|key| {
        let value = keys.require(key, "a spike", node.span, problems)?;
        quantity::duration(value, problems).map(nanos)
    });
    let (base, peak, at, lasting) = (found[0]?, found[1]?, at?, lasting?);
    if lasting == 0 || at >= length {
        let message = if lasting == 0 {
            "a spike of no length is none"
        } else {
            "the spike begins only when the phase is over"
        };
        let place = keys.get(if lasting == 0 { "for" } else { "at" }).map_or(node.span, |value| value.span);
        problems.push(Problem::at(place, message));
        return None;
    }
    let over = at.saturating_add(lasting).min(length);
    let pieces =
        [straight(0, at, base, base), straight(at, over, peak, peak), straight(over, length, base, base)];
    Some(pieces.into_iter().filter(|piece| piece.from_nanos < piece.to_nanos).collect())
}

/// `{low: 50/s, high: 900/s, period: 24h}`: a cosine from the low to the high, half a period later, and back.
fn read_diurnal(node: &Node, length: u64, problems: &mut Problems) -> Option<Vec<Piece>> {
    let keys = node.mapping(problems)?;
    keys.only(&["low", "high", "period"], problems);
    let found = ["low", "high"].map(|key| {
        let value = keys.require(key, "a day's course", node.span, problems)?;
        quantity::rate(value, problems)
    });
    let period = match keys.get("period") {
        Some(period) => nanos(quantity::duration(period, problems)?),
        None => DAY_NANOS,
    };
    let (low, high) = (found[0]?, found[1]?);
    // u64 * u64 fits u128.
    let compare = |rate: Rate, other: Rate| u128::from(rate.events) * u128::from(other.period_nanos);
    if compare(low, high) > compare(high, low) {
        problems.push(Problem::at(node.span, "`low` is above `high`"));
        return None;
    }
    if length == UNKNOWN_LENGTH {
        return None;
    }
    let half = period / 2;
    if half == 0 || length / half >= STEPS_MAX as u64 {
        let place = keys.get("period").map_or(node.span, |value| value.span);
        let message = format!("a phase has at most {} periods, and this one would have more", STEPS_MAX / 2);
        problems.push(Problem::at(place, message));
        return None;
    }
    let halves = 0..length.div_ceil(half);
    let pieces = halves.map(|index| {
        let (begin, end) = if index % 2 == 0 { (low, high) } else { (high, low) };
        let (from, to) = (index * half, (index + 1).saturating_mul(half).min(length));
        Piece { bend: Bend::Wave(half), ..straight(from, to, begin, end) }
    });
    Some(pieces.collect())
}

/// The file of `{replay: arrivals.csv}`; `None` where the rate has another form, and `Some(None)` after a problem.
pub(super) fn read_replay(node: &Node, problems: &mut Problems) -> Option<Option<Name>> {
    let mapping = node.as_mapping()?;
    let entry = mapping.entry("replay")?;
    mapping.only(&["replay"], problems);
    let file = name_of(&entry.value, problems);
    if let Some(file) = &file
        && file.text.is_empty()
    {
        problems.push(Problem::at(file.span, "the name of the file is empty"));
        return Some(None);
    }
    Some(file)
}

fn straight(from_nanos: u64, to_nanos: u64, begin: Rate, end: Rate) -> Piece {
    Piece { from_nanos, to_nanos, begin, end, bend: Bend::Straight }
}

fn rates(
    mapping: &Mapping,
    keys: [&'static str; 2],
    owner: &str,
    node: &Node,
    problems: &mut Problems,
) -> Option<[Rate; 2]> {
    mapping.only(&keys, problems);
    let found = keys.map(|key| {
        let value = mapping.require(key, owner, node.span, problems)?;
        quantity::rate(value, problems)
    });
    Some([found[0]?, found[1]?])
}
