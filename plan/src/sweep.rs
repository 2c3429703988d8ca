//! A sweep: the same plan at several strengths of one thing, and the knee beyond which it no longer survives.

use crate::case::{Case, CaseError, Variant, survives};
use crate::fix::{Edit, Sheet, patch};
use crate::quantity::{Rate, parse_rate};
use crate::report::{FirstLimit, Summary};
use model::{LimitId, limit::UnknownLimit};
use serde::Serialize;
use std::ops::ControlFlow;
use template::yaml::{Kind, Node};
use thiserror::Error;

/// Points of a sweep before it is refined.
const POINTS: u64 = 10;
/// Less than this part of the best is a fall.
const FALL: f64 = 0.95;
/// Points that are added around the knee.
const REFINEMENTS: usize = 5;

/// What is swept, and from where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    axis: Axis,
    from: u64,
    to: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// Requests per second at the peak of the fastest phase; the others alike.
    Rate,
    /// Users of the largest phase; the others alike.
    Users,
    /// Memory of every function, MB; compute steps shrink up to 1,769 MB.
    Memory,
    /// A limit's figure.
    Limit(LimitId),
}

/// One point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepRow {
    /// Where on the axis.
    pub x: u64,
    /// How the load fares there.
    pub summary: Summary,
    /// The first limit that refuses.
    pub first_limit: Option<FirstLimit>,
    /// Nothing refuses, and every promise is kept.
    pub survives: bool,
    /// The last point that survives before one that does not, or the first that does. Where all points fare alike, that at
    /// which most is answered well per second, if less is beyond it.
    pub knee: bool,
}

/// Why a sweep cannot be read or made.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SweepError {
    /// Not of the form.
    #[error("`{0}` is not of the form rate=1000..50000; users, memory and limits' ids can be swept as well")]
    Form(String),
    /// Not a name.
    #[error("{0}; there are rate, users, memory and the ids of limits")]
    Unknown(UnknownLimit),
    /// The range is empty.
    #[error("a sweep goes from a number above 0 to a larger one, not from {from} to {to}")]
    Range {
        /// The begin.
        from: u64,
        /// The end.
        to: u64,
    },
    /// Nothing to sweep.
    #[error("no phase of the load has `{0}`")]
    Nothing(&'static str),
    /// A plan failed.
    #[error(transparent)]
    Case(#[from] CaseError),
}

impl Sweep {
    /// Reads `rate=1000..50000`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, SweepError> {
        let form = || SweepError::Form(text.to_owned());
        let (name, range) = text.split_once('=').ok_or_else(form)?;
        let (from, to) = range.split_once("..").ok_or_else(form)?;
        let number = |text: &str| {
            let digits: String = text.trim().chars().filter(|c| *c != '_' && *c != ',').collect();
            digits.parse::<u64>().map_err(|_| form())
        };
        let (from, to) = (number(from)?, number(to)?);
        if from == 0 || from >= to {
            return Err(SweepError::Range { from, to });
        }
        let axis = match name.trim() {
            "rate" => Axis::Rate,
            "users" => Axis::Users,
            "memory" => Axis::Memory,
            id => Axis::Limit(id.parse().map_err(SweepError::Unknown)?),
        };
        Ok(Self { axis, from, to })
    }

    /// What is swept, with its unit.
    pub fn title(&self) -> String {
        match self.axis {
            Axis::Rate => "rate, requests/s".to_owned(),
            Axis::Users => "users".to_owned(),
            Axis::Memory => "memory, MB".to_owned(),
            Axis::Limit(id) => format!("{id}, {}", id.unit()),
        }
    }

    /// Plans the case at each point, in order of x; fewer points when it is interrupted.
    ///
    /// # Errors
    /// The load has nothing to sweep, or a plan fails.
    pub fn run(
        &self,
        case: &Case,
        hear: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<SweepRow>, SweepError> {
        let mut rows: Vec<SweepRow> = Vec::new();
        for x in self.points() {
            match self.point(case, x, rows.len(), hear)? {
                Some(row) => rows.push(row),
                None => return Ok(marked(rows)),
            }
        }
        for _ in 0..REFINEMENTS {
            let Some(flip) = flip(&rows) else { break };
            let middle = geometric(rows[flip].x, rows[flip + 1].x, 1, 2);
            if rows.iter().any(|row| row.x == middle) {
                break;
            }
            let Some(row) = self.point(case, middle, rows.len(), hear)? else { break };
            rows.insert(flip + 1, row);
        }
        Ok(marked(rows))
    }

    /// Points at equal ratios.
    fn points(&self) -> Vec<u64> {
        let mut points: Vec<u64> =
            (0..POINTS).map(|index| geometric(self.from, self.to, index, POINTS - 1)).collect();
        points.dedup();
        points
    }

    fn point(
        &self,
        case: &Case,
        x: u64,
        done: usize,
        hear: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<SweepRow>, SweepError> {
        let variant = self.variant(case, x)?;
        let mut cut = false;
        let report = case.run(&variant, &mut |_| {
            let answer = hear(done);
            cut |= answer.is_break();
            answer
        })?;
        if cut {
            return Ok(None);
        }
        let survives = survives(&report);
        Ok(Some(SweepRow {
            x,
            summary: report.summary,
            first_limit: report.first_limit,
            survives,
            knee: false,
        }))
    }

    fn variant(&self, case: &Case, x: u64) -> Result<Variant, SweepError> {
        let load = |edits: Option<Vec<Edit>>, what: &'static str| {
            let edits = edits.filter(|edits| !edits.is_empty()).ok_or(SweepError::Nothing(what))?;
            let text = patch(&case.load.text, &edits).ok_or(SweepError::Nothing(what))?;
            Ok(Variant { load: Some(text.into()), ..Variant::default() })
        };
        match self.axis {
            Axis::Rate => load(rates(&case.load.text, x), "rate"),
            Axis::Users => load(users(&case.load.text, x), "users"),
            Axis::Memory => crate::fix::with_memory(case, x).ok_or(SweepError::Nothing("memory")),
            Axis::Limit(limit) => {
                let mut overrides = case.options.overrides.clone();
                overrides.set(limit, x);
                Ok(Variant { overrides: Some(overrides), ..Variant::default() })
            }
        }
    }
}

/// `from` times the ratio of `to` to `from`, to the power of `part / parts`, rounded; exact at both ends.
fn geometric(from: u64, to: u64, part: u64, parts: u64) -> u64 {
    match part {
        0 => from,
        part if part == parts => to,
        part => {
            let (low, high) = (libm::log(from as f64), libm::log(to as f64));
            let x = libm::exp(low + (high - low) * part as f64 / parts as f64);
            (libm::round(x) as u64).clamp(from, to)
        }
    }
}

/// The first row whose fate differs from the next one's.
fn flip(rows: &[SweepRow]) -> Option<usize> {
    rows.windows(2).position(|pair| pair[0].survives != pair[1].survives)
}

fn marked(mut rows: Vec<SweepRow>) -> Vec<SweepRow> {
    let knee = match flip(&rows) {
        Some(flip) => Some(if rows[flip].survives { flip } else { flip + 1 }),
        None => {
            let rates: Vec<f64> = rows.iter().map(|row| row.summary.ok_per_s()).collect();
            let best = rates.iter().copied().fold(0.0, f64::max);
            rates.iter().position(|rate| *rate >= best).filter(|index| falls(&rates[*index..]))
        }
    };
    if let Some(row) = knee.and_then(|knee| rows.get_mut(knee)) {
        row.knee = true;
    }
    rows
}

/// Whether what begins with the best ends clearly below it.
fn falls(rates: &[f64]) -> bool {
    matches!(rates, [best, .., last] if *last < best * FALL)
}

fn phases<'sheet>(sheet: &'sheet Sheet<'_>) -> &'sheet [Node] {
    sheet.get(&["phases"]).and_then(Node::as_sequence).unwrap_or_default()
}

/// Every rate of every phase, so that the highest is `peak` a second.
fn rates(text: &str, peak: u64) -> Option<Vec<Edit>> {
    let sheet = Sheet::read(text)?;
    let mut found: Vec<(&Node, Rate)> = Vec::new();
    for rate in phases(&sheet).iter().filter_map(|phase| phase.get("rate")) {
        scalars(rate, &mut |node| {
            if let Some(rate) = node.as_str().and_then(parse_rate) {
                found.push((node, rate));
            }
        });
    }
    let nano = |rate: &Rate| u128::from(rate.events) * 1_000_000_000;
    // Compared crosswise: rates have at most 64 bits in both parts, nanoseconds a second 30.
    let highest = found.iter().map(|(_, rate)| *rate).reduce(|best, rate| {
        let higher = u128::from(rate.events) * u128::from(best.period_nanos)
            > u128::from(best.events) * u128::from(rate.period_nanos);
        if higher { rate } else { best }
    })?;
    if highest.events == 0 {
        return None;
    }
    let edits = found.iter().map(|(node, rate)| {
        // rate / highest * peak, in thousandths of a request per second.
        let thousandths =
            u128::from(peak) * 1000 * (nano(rate) / u128::from(rate.period_nanos.max(1)) * 1_000)
                / (nano(&highest) / u128::from(highest.period_nanos.max(1)) * 1_000).max(1);
        let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
        let text = format!("{}/s", text.trim_end_matches('0').trim_end_matches('.'));
        Some(Edit { at: sheet.scalar_range(node)?, text })
    });
    edits.collect()
}

/// The users of every phase, so that the largest has `most`.
fn users(text: &str, most: u64) -> Option<Vec<Edit>> {
    let sheet = Sheet::read(text)?;
    let found: Vec<(&Node, u64)> = phases(&sheet)
        .iter()
        .filter_map(|phase| phase.get("users"))
        .filter_map(|node| Some((node, node.as_str()?.parse().ok()?)))
        .collect();
    let largest = found.iter().map(|(_, users)| *users).max().filter(|users| *users > 0)?;
    let edits = found.iter().map(|(node, users)| {
        let users = (u128::from(*users) * u128::from(most) / u128::from(largest)).max(1);
        Some(Edit { at: sheet.scalar_range(node)?, text: users.to_string() })
    });
    edits.collect()
}

fn scalars<'node>(node: &'node Node, visit: &mut dyn FnMut(&'node Node)) {
    match &node.kind {
        Kind::Scalar(_) => visit(node),
        Kind::Sequence(items) => items.iter().for_each(|item| scalars(item, visit)),
        Kind::Mapping(entries) => entries.entries().iter().for_each(|entry| scalars(&entry.value, visit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sweep_is_said() {
        for (text, said) in [
            ("rate", "is not of the form"),
            ("rate=5", "is not of the form"),
            ("rate=a..5", "is not of the form"),
            ("rate=5..5", "from 5 to 5"),
            ("rate=0..5", "from 0 to 5"),
            ("rat=1..5", "no limit is called `rat`"),
        ] {
            let error = Sweep::read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert_eq!(Sweep::read("nat.ports=1_000..2,000").unwrap().title(), "nat.ports, connections");
    }

    #[test]
    fn points_have_equal_ratios_and_both_ends() {
        let points = Sweep::read("rate=1000..50000").unwrap().points();
        assert_eq!((points.len(), points[0], points[9]), (10, 1000, 50_000));
        assert!(points.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Sweep::read("users=1..3").unwrap().points(), [1, 2, 3]);
    }

    #[test]
    fn every_rate_keeps_its_share_of_the_peak() {
        let text = "phases:\n  - {target: A, rate: 50/s}\n  - target: A\n    rate: {from: 0/s, to: 200/s}\n  - {target: A, rate: {steps: [[0s, 6000/min]]}}\n  - {target: A, users: 5}\n";
        let patched = patch(text, &rates(text, 1000).unwrap()).unwrap();
        for wanted in ["rate: 250/s}", "{from: 0/s, to: 1000/s}", "[[0s, 500/s]]", "users: 5"] {
            assert!(patched.contains(wanted), "{wanted}: {patched}");
        }
        assert_eq!(rates("phases: [{target: A, users: 5}]", 10), None);
        let patched = patch(text, &users(text, 70).unwrap()).unwrap();
        assert!(patched.contains("users: 70"));
    }

    /// A function of which five run at once for a second, under so many users.
    fn swept(promise: &str) -> Vec<SweepRow> {
        let template = "Transform: AWS::Serverless-2016-10-31
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.handler, CodeUri: cart/, ReservedConcurrentExecutions: 5}
";
        let load = "version: 1
phases: [{target: Cart, users: 3, for: 20s, think: 100ms}]
behaviour: {Cart: {init: 0ms, steps: [{sleep: 1s}]}}
";
        let mut case = crate::fix::tests::case_of(template, load, &[]);
        case.promises = crate::promise::Promise::read_all(promise).unwrap();
        let sweep = Sweep::read("users=1..60").unwrap();
        sweep.run(&case, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn the_knee_is_where_it_breaks_and_where_nothing_survives_that_of_the_throughput() {
        let rows = swept("errors<1%");
        let knee = rows.iter().find(|row| row.knee).unwrap();
        assert_eq!((knee.x, knee.survives, knee.summary.throttled), (5, true, 0));
        // Nothing keeps this promise; five users or more all have five answers a second, so that nothing falls.
        let rows = swept("p50<1us");
        assert!(rows.iter().all(|row| !row.survives));
        assert!(rows.iter().filter(|row| row.x >= 5).all(|row| (4.0..5.5).contains(&row.summary.ok_per_s())));
        assert!(rows.iter().all(|row| !row.knee), "{rows:?}");
    }

    #[test]
    fn a_throughput_that_falls_has_a_knee_at_its_best() {
        assert!(falls(&[10.0, 9.9, 9.0]) && !falls(&[10.0, 9.0, 9.9]) && !falls(&[10.0]) && !falls(&[]));
    }
}
