//! Promises that a plan must keep: `p99<500ms,errors<0.1%`.
//!
//! Compared exactly, in whole nanoseconds, counts and millionths of millionths of a dollar; a share is compared by
//! multiplying crosswise.

use crate::quantity::{number_and_unit, parse_duration, parse_rate};
use crate::report::{Report, Summary};
use crate::samples::PERCENTILES;
use model::price::Usd;
use model::time::nanos;
use serde::Serialize;
use template::yaml::did_you_mean;
use thiserror::Error;

/// The most promises of one plan.
const PROMISES_MAX: usize = 100;
/// What promises may be about, besides percentiles.
const MEASURES: &[&str] = &["average", "max", "errors", "throttled", "timeouts", "requests/s", "cost"];

/// A promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    text: String,
    measure: Measure,
    relation: Relation,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// Index into [`PERCENTILES`].
    Percentile(usize),
    Average,
    Max,
    Errors,
    Throttled,
    Timeouts,
    Rate,
    Cost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Nanos(u64),
    /// So many of `of` requests: 1 of 1,000 for 0.1 %.
    Share {
        of: u128,
        parts: u128,
    },
    Count(u64),
    /// So many in so many nanoseconds.
    Rate {
        events: u64,
        period_nanos: u64,
    },
    Cost(Usd),
}

/// A promise, and whether a plan keeps it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PromiseRow {
    /// As it was given.
    pub text: String,
    /// What came out: seconds, percent or a count, requests per second, or dollars; none where nothing was answered, or
    /// there is no bill.
    pub value: Option<f64>,
    /// What that counts.
    #[serde(skip)]
    pub unit: &'static str,
    /// Whether it is kept. One without a value is not.
    pub kept: bool,
}

/// Why a promise could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PromiseError {
    /// There is none.
    #[error("there is no promise in it; for example p99<500ms,errors<0.1%")]
    Empty,
    /// There are too many.
    #[error("there are {0} promises, and {PROMISES_MAX} is the most")]
    TooMany(usize),
    /// It compares nothing.
    #[error("`{0}` has none of <, <=, > and >=; for example p99<500ms")]
    NoRelation(String),
    /// Nothing is called so.
    #[error("`{name}` cannot be promised: {help}")]
    Unknown {
        /// The word.
        name: String,
        /// What was perhaps meant, or what there is.
        help: String,
    },
    /// The bound is none.
    #[error("`{text}` in `{promise}` is no {expected}")]
    BadBound {
        /// The whole promise.
        promise: String,
        /// The bound.
        text: String,
        /// What is wanted.
        expected: &'static str,
    },
}

impl Promise {
    /// Reads promises with commas between them.
    ///
    /// # Errors
    /// Which promise is wrong, and what is wanted.
    pub fn read_all(text: &str) -> Result<Vec<Self>, PromiseError> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        match parts.len() {
            0 => Err(PromiseError::Empty),
            count if count > PROMISES_MAX => Err(PromiseError::TooMany(count)),
            _ => parts.into_iter().map(Self::read).collect(),
        }
    }

    /// Reads `p99<500ms`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, PromiseError> {
        let at = text.find(['<', '>']).ok_or_else(|| PromiseError::NoRelation(text.to_owned()))?;
        let (name, rest) = text.split_at(at);
        let (relation, bound) = if let Some(bound) = rest.strip_prefix("<=") {
            (Relation::AtMost, bound)
        } else if let Some(bound) = rest.strip_prefix(">=") {
            (Relation::AtLeast, bound)
        } else if let Some(bound) = rest.strip_prefix('<') {
            (Relation::Below, bound)
        } else {
            (Relation::Above, &rest[1..])
        };
        let measure = Measure::read(name.trim())?;
        let (name, bound) = (measure, bound.trim());
        let bad =
            |expected| PromiseError::BadBound { promise: text.to_owned(), text: bound.to_owned(), expected };
        let bound = name.bound(bound).map_err(bad)?;
        Ok(Self { text: text.to_owned(), measure, relation, bound })
    }

    /// Whether a plan keeps it.
    pub fn check(&self, report: &Report) -> PromiseRow {
        let (value, unit, kept) = match self.measured(report) {
            Some((value, unit, order)) => {
                let kept = match self.relation {
                    Relation::Below => order.is_lt(),
                    Relation::AtMost => order.is_le(),
                    Relation::Above => order.is_gt(),
                    Relation::AtLeast => order.is_ge(),
                };
                (Some(value), unit, kept)
            }
            None => (None, "", false),
        };
        PromiseRow { text: self.text.clone(), value, unit, kept }
    }

    /// What came out, what it counts, and how it compares with the bound.
    fn measured(&self, report: &Report) -> Option<(f64, &'static str, std::cmp::Ordering)> {
        let summary = &report.summary;
        match (self.measure, self.bound) {
            (Measure::Cost, Bound::Cost(bound)) => {
                let cost = report.cost.as_ref()?.monthly_usd;
                Some((cost.as_f64(), "USD a month", cost.cmp(&bound)))
            }
            (Measure::Rate, Bound::Rate { events, period_nanos }) => {
                let answered = u128::from(answered(summary));
                let (time, events) = (u128::from(summary.total_s.0), u128::from(events));
                // u64 * u64 fits u128.
                let order = (answered * u128::from(period_nanos)).cmp(&(events * time));
                Some((summary.requests_per_s, "requests/s", order))
            }
            (measure, Bound::Nanos(bound)) => {
                let seconds = measure.seconds(summary).filter(|_| answered(summary) > 0)?;
                Some((seconds.as_f64(), "s", seconds.0.cmp(&bound)))
            }
            (measure, Bound::Share { of, parts }) => {
                let (count, all) = (u128::from(measure.count(summary)), u128::from(summary.requests));
                let percent = if all == 0 { 0.0 } else { count as f64 * 100.0 / all as f64 };
                Some((percent, "%", count.saturating_mul(of).cmp(&all.saturating_mul(parts))))
            }
            (measure, Bound::Count(bound)) => {
                let count = measure.count(summary);
                Some((count as f64, "requests", count.cmp(&bound)))
            }
            _ => None,
        }
    }
}

/// Requests that had an answer, or whose client waited no longer.
const fn answered(summary: &Summary) -> u64 {
    summary.ok + summary.throttled + summary.timed_out + summary.errors
}

impl Measure {
    fn read(name: &str) -> Result<Self, PromiseError> {
        if let Some(rank) = name.strip_prefix('p')
            && let Some(index) = PERCENTILES.iter().position(|(known, _)| *known == rank)
        {
            return Ok(Self::Percentile(index));
        }
        match name {
            "average" | "avg" | "mean" => Ok(Self::Average),
            "max" | "slowest" => Ok(Self::Max),
            "errors" => Ok(Self::Errors),
            "throttled" => Ok(Self::Throttled),
            "timeouts" => Ok(Self::Timeouts),
            "requests/s" | "rps" => Ok(Self::Rate),
            "cost" => Ok(Self::Cost),
            _ => {
                let ranks: Vec<String> = PERCENTILES.iter().map(|(rank, _)| format!("p{rank}")).collect();
                let known: Vec<&str> =
                    ranks.iter().map(String::as_str).chain(MEASURES.iter().copied()).collect();
                let near = did_you_mean(name, known.iter().copied());
                let help = near.unwrap_or_else(|| format!("there are {}", known.join(", ")));
                Err(PromiseError::Unknown { name: name.to_owned(), help })
            }
        }
    }

    /// Reads the bound; otherwise says what is wanted.
    fn bound(self, text: &str) -> Result<Bound, &'static str> {
        match self {
            Self::Percentile(_) | Self::Average | Self::Max => parse_duration(text)
                .map(|time| Bound::Nanos(nanos(time)))
                .ok_or("duration such as 500ms or 2s"),
            Self::Errors | Self::Throttled | Self::Timeouts => {
                count(text).ok_or("share such as 0.1%, up to 100%, or number of requests")
            }
            Self::Rate => {
                let rate = parse_rate(text).or_else(|| parse_rate(&format!("{text}/s")));
                let bound = |rate: crate::quantity::Rate| Bound::Rate {
                    events: rate.events,
                    period_nanos: rate.period_nanos,
                };
                rate.map(bound).ok_or("rate such as 1000/s")
            }
            Self::Cost => cost(text).map(Bound::Cost).ok_or("amount a month such as 100USD/month"),
        }
    }

    fn seconds(self, summary: &Summary) -> Option<crate::report::Seconds> {
        match self {
            Self::Percentile(index) => summary.percentiles_s.get(PERCENTILES.get(index)?.0).copied(),
            Self::Average => Some(summary.average_s),
            Self::Max => Some(summary.slowest_s),
            _ => None,
        }
    }

    /// Errors are all requests that were not answered well: refused and timed-out ones too.
    fn count(self, summary: &Summary) -> u64 {
        match self {
            Self::Errors => summary.throttled + summary.timed_out + summary.errors,
            Self::Throttled => summary.throttled,
            Self::Timeouts => summary.timed_out,
            _ => 0,
        }
    }
}

/// `0.1%`, or a whole number of requests.
fn count(text: &str) -> Option<Bound> {
    match number_and_unit(text)? {
        // At most 15 decimals, so that the product stays below 10^18; counts are u64.
        (digits, scale, "%") => {
            let (of, parts) = (100 * 10_u128.pow(scale), u128::from(digits));
            (parts <= of).then_some(Bound::Share { of, parts })
        }
        (digits, 0, "") => Some(Bound::Count(digits)),
        _ => None,
    }
}

/// `100USD/month`, `$100`, `100`.
fn cost(text: &str) -> Option<Usd> {
    let text = text.strip_suffix("/month").unwrap_or(text).trim();
    let text = text.strip_suffix("USD").unwrap_or(text).trim();
    Usd::read(text.strip_prefix('$').unwrap_or(text).trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Seconds;
    use crate::scenario::Scenario;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn report(summary: Summary) -> Report {
        let scenario = Scenario::named("bill-zip").unwrap();
        Report { summary, ..scenario.run().unwrap() }
    }

    fn summary() -> Summary {
        Summary {
            requests: 1000,
            ok: 998,
            throttled: 1,
            errors: 1,
            slowest_s: Seconds(2_000_000_000),
            average_s: Seconds(100_000_000),
            percentiles_s: BTreeMap::from([("50", Seconds(90_000_000)), ("99.9", Seconds(1_500_000_000))]),
            total_s: Seconds(10_000_000_000),
            requests_per_s: 100.0,
            ..Summary::default()
        }
    }

    #[test]
    fn promises_are_compared_exactly() {
        let report = report(summary());
        for (text, value, kept) in [
            ("errors<0.2%", Some(0.2), false),
            ("errors<=0.2%", Some(0.2), true),
            ("errors<100.0%", Some(0.2), true),
            ("errors < 0.200000000001 %", Some(0.2), true),
            ("throttled<2", Some(1.0), true),
            ("timeouts<=0", Some(0.0), true),
            ("p50<90ms", Some(0.09), false),
            ("p50<=90ms", Some(0.09), true),
            ("p99.9<2s", Some(1.5), true),
            ("max<=2s", Some(2.0), true),
            ("average<0.1s", Some(0.1), false),
            ("requests/s>=100", Some(100.0), true),
            ("requests/s>6000/min", Some(100.0), false),
            ("cost<100USD/month", None, false),
        ] {
            let row = Promise::read(text).unwrap().check(&report);
            assert_eq!((row.value, row.kept), (value, kept), "{text}");
        }
    }

    #[test]
    fn nothing_answered_keeps_no_promise_about_time() {
        let nothing = report(Summary::default());
        assert!(!Promise::read("p99<1s").unwrap().check(&nothing).kept);
        assert!(Promise::read("errors<1%").is_ok_and(|promise| !promise.check(&nothing).kept));
        assert!(Promise::read("errors<=1%").is_ok_and(|promise| promise.check(&nothing).kept));
    }

    #[test]
    fn what_is_no_promise_is_said() {
        for (text, said) in [
            ("", "there is no promise"),
            ("p99", "`p99` has none of"),
            ("p98<1s", "`p98` cannot be promised: did you mean"),
            ("colour<1", "there are p10, p25"),
            ("p99<500", "`500` in `p99<500` is no duration"),
            ("errors<0.1s", "is no share"),
            ("errors<200%", "up to 100%"),
            ("throttled<=100.000000000000001%", "is no share"),
            ("cost<cheap", "is no amount"),
            ("requests/s>1x", "is no rate"),
        ] {
            let error = Promise::read_all(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert_eq!(Promise::read_all("p99<500ms, errors<0.1%,").unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Promise::read_all(&text);
        }
    }
}
