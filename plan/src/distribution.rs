//! How long something takes: a constant, or drawn from a distribution. Never negative.

use crate::quantity::{DURATION_MAX, duration};
use crate::random::Stream;
use model::time::nanos;
use std::time::Duration;
use template::yaml::{Cause, Kind, Node, Problem, Problems};

/// The most durations in one `list`.
pub const LIST_MAX: usize = 100_000;

/// The normal distribution's 99th percentile.
const Z_99: f64 = 2.326_347_874_040_841;

const KINDS: &[&str] = &["uniform", "exponential", "normal", "lognormal", "list", "percentiles"];

/// A duration or a distribution of durations, in nanoseconds. Draws are cut at 0 and [`DURATION_MAX`].
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Always the same.
    Constant(u64),
    /// Anything from the first to the second, alike.
    Uniform(u64, u64),
    /// Exponential with this mean.
    Exponential(u64),
    /// Normal; what falls below zero counts as zero.
    Normal {
        /// Mean.
        mean: u64,
        /// Standard deviation.
        sd: u64,
    },
    /// The logarithm is normal.
    LogNormal {
        /// Natural logarithm of the median in nanoseconds.
        mu: f64,
        /// Deviation of the logarithm.
        sigma: f64,
    },
    /// One of these, each as likely.
    List(Vec<u64>),
    /// Straight lines between percentiles: shares of all draws, ascending from 0 to 1, and what they are below.
    Percentiles(Vec<(f64, u64)>),
}

impl Distribution {
    /// No time at all.
    pub const ZERO: Self = Self::Constant(0);

    /// Always `duration`.
    pub fn constant(duration: Duration) -> Self {
        Self::Constant(nanos(duration))
    }

    /// Lognormal by its median and 99th percentile.
    pub fn lognormal(p50: Duration, p99: Duration) -> Self {
        let (mu, high) = (libm::log(nanos(p50).max(1) as f64), libm::log(nanos(p99).max(1) as f64));
        Self::LogNormal { mu, sigma: (high - mu) / Z_99 }
    }

    /// One draw, in nanoseconds. A constant draws nothing from the stream.
    #[inline]
    pub fn sample(&self, stream: &mut Stream) -> u64 {
        match self {
            Self::Constant(nanos) => *nanos,
            Self::Uniform(from, to) => from + stream.below(to - from + 1),
            Self::Exponential(mean) => whole(*mean as f64 * stream.exponential()),
            Self::Normal { mean, sd } => whole(*mean as f64 + *sd as f64 * stream.normal()),
            Self::LogNormal { mu, sigma } => whole(libm::exp(mu + sigma * stream.normal())),
            Self::List(values) => values[stream.below(values.len() as u64) as usize],
            Self::Percentiles(points) => between(points, stream.unit()),
        }
    }

    /// Reads a duration or `{kind: figures}`.
    pub fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::Mapping(mapping) = &node.kind else {
            return duration(node, problems).map(Self::constant);
        };
        let [entry] = mapping.entries() else {
            problems.push(Problem::wrong_type(node, format!("a duration, or one of {}", KINDS.join(", "))));
            return None;
        };
        let value = &entry.value;
        match &*entry.key {
            "uniform" => {
                let [from, to] =
                    durations(value, problems)?.try_into().ok().or_else(|| pair(value, problems))?;
                (from <= to).then_some(Self::Uniform(from, to)).or_else(|| pair(value, problems))
            }
            "exponential" => duration(value, problems).map(|mean| Self::Exponential(nanos(mean))),
            "normal" => {
                let [mean, sd] = figures(value, ["mean", "sd"], problems)?;
                Some(Self::Normal { mean: nanos(mean), sd: nanos(sd) })
            }
            "lognormal" => {
                let [p50, p99] = figures(value, ["p50", "p99"], problems)?;
                if p50.is_zero() || p99 < p50 {
                    problems.push(Problem::at(value.span, "lognormal needs 0 < p50 <= p99"));
                    return None;
                }
                Some(Self::lognormal(p50, p99))
            }
            "list" => {
                let values = durations(value, problems)?;
                if values.is_empty() || values.len() > LIST_MAX {
                    let message =
                        format!("a list has 1 to {LIST_MAX} durations, and this one {}", values.len());
                    problems.push(Problem::at(value.span, message));
                    return None;
                }
                Some(Self::List(values))
            }
            "percentiles" => read_percentiles(value, problems).map(Self::Percentiles),
            other => {
                let cause = Cause::Unknown { what: "the distribution", name: other.to_owned() };
                let help = template::yaml::did_you_mean(other, KINDS.iter().copied());
                let help = help.unwrap_or_else(|| format!("there are {}", KINDS.join(", ")));
                problems.push(Problem::new(entry.key_span, cause).help(help));
                None
            }
        }
    }
}

fn whole(nanos: f64) -> u64 {
    // A float-to-integer cast saturates, and turns what is not a number into 0.
    (libm::round(nanos) as u64).min(DURATION_MAX.as_nanos() as u64)
}

/// The value at `share` of the line through `points`, which begin at 0 and end at 1.
fn between(points: &[(f64, u64)], share: f64) -> u64 {
    let after = points.partition_point(|(at, _)| *at <= share).clamp(1, points.len() - 1);
    let ((left, low), (right, high)) = (points[after - 1], points[after]);
    let part = if right > left { (share - left) / (right - left) } else { 0.0 };
    low + whole((high - low) as f64 * part)
}

/// `{min: 1ms, p50: 8ms, p99.9: 60ms, max: 2s}`: in any order, never falling; `min` is 0 unless given.
fn read_percentiles(node: &Node, problems: &mut Problems) -> Option<Vec<(f64, u64)>> {
    let mapping = node.mapping(problems)?;
    mapping.require("max", "`percentiles`", node.span, problems)?;
    let mut points = vec![(0.0, 0)];
    for entry in mapping.entries() {
        let share = match &*entry.key {
            "min" => Some(0.0),
            "max" => Some(1.0),
            key => key.strip_prefix('p').and_then(percent),
        };
        let Some(share) = share else {
            let cause = Cause::Unknown { what: "the percentile", name: entry.key.to_string() };
            let problem = Problem::new(entry.key_span, cause);
            problems.push(problem.help("there are min, max, and percentiles such as p50, p99 and p99.9"));
            return None;
        };
        let value = nanos(duration(&entry.value, problems)?);
        if share == 0.0 {
            points[0].1 = value;
        } else if points.iter().any(|(other, _)| *other == share) {
            problems.push(Problem::at(entry.key_span, "this percentile stands here a second time"));
            return None;
        } else {
            points.push((share, value));
        }
    }
    points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    if points.windows(2).any(|pair| pair[0].1 > pair[1].1) {
        problems.push(Problem::at(node.span, "a higher percentile must not be smaller than a lower one"));
        return None;
    }
    Some(points)
}

/// `99.9` as a share, if it is between 0 and 100.
fn percent(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = text.parse().ok().filter(|_| plain)?;
    (percent > 0.0 && percent < 100.0).then_some(percent / 100.0)
}

fn durations(node: &Node, problems: &mut Problems) -> Option<Vec<u64>> {
    let items = node.sequence(problems)?;
    items.iter().map(|item| duration(item, problems).map(nanos)).collect()
}

fn pair<T>(node: &Node, problems: &mut Problems) -> Option<T> {
    problems.push(Problem::at(node.span, "uniform needs two durations, the smaller one first: [5ms, 20ms]"));
    None
}

fn figures(node: &Node, keys: [&'static str; 2], problems: &mut Problems) -> Option<[Duration; 2]> {
    let mapping = node.mapping(problems)?;
    mapping.only(&keys, problems);
    let found = keys.map(|key| {
        let value = mapping.require(key, "this distribution", node.span, problems)?;
        duration(value, problems)
    });
    Some([found[0]?, found[1]?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use template::yaml;

    fn read(text: &str) -> Result<Distribution, String> {
        let document = yaml::parse("d", text).unwrap();
        let mut problems = Problems::new();
        let found = Distribution::read(&document.root, &mut problems);
        let said: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(found.is_none(), !said.is_empty());
        found.ok_or_else(|| said.join("; "))
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read("450ms"), Ok(Distribution::Constant(450_000_000)));
        assert_eq!(read("{uniform: [1ms, 2ms]}"), Ok(Distribution::Uniform(1_000_000, 2_000_000)));
        assert_eq!(read("{exponential: 3us}"), Ok(Distribution::Exponential(3000)));
        assert_eq!(read("{normal: {mean: 2us, sd: 1us}}"), Ok(Distribution::Normal { mean: 2000, sd: 1000 }));
        assert_eq!(read("{list: [1ns, 2ns]}"), Ok(Distribution::List(vec![1, 2])));
        assert!(matches!(read("{lognormal: {p50: 8ms, p99: 60ms}}"), Ok(Distribution::LogNormal { .. })));
    }

    #[test]
    fn wrong_figures_are_named() {
        for (text, said) in [
            ("fast", "expected a duration"),
            ("{uniform: [2ms, 1ms]}", "the smaller one first"),
            ("{uniform: [2ms]}", "two durations"),
            ("{lognormal: {p50: 0s, p99: 1s}}", "0 < p50"),
            ("{lognormal: {p50: 2s, p90: 1s}}", "`p90` does not exist"),
            ("{list: []}", "1 to 100000"),
            ("{unifrom: [1s, 2s]}", "the distribution `unifrom` does not exist"),
            ("{uniform: [1s, 2s], list: [1s]}", "expected a duration, or one of"),
            ("{percentiles: {p50: 1ms}}", "`percentiles` needs `max`"),
            ("{percentiles: {p50: 3ms, p90: 2ms, max: 4ms}}", "must not be smaller"),
            ("{percentiles: {p50: 3ms, max: 2ms}}", "must not be smaller"),
            ("{percentiles: {p100: 1ms, max: 2ms}}", "the percentile `p100` does not exist"),
            ("{percentiles: {p-1: 1ms, max: 2ms}}", "the percentile `p-1` does not exist"),
            ("{percentiles: {pNaN: 1ms, max: 2ms}}", "the percentile `pNaN` does not exist"),
            ("{percentiles: {p50: 1ms, p50.0: 1ms, max: 2ms}}", "a second time"),
            ("{percentiles: {p50: NaN, max: 2ms}}", "expected a duration"),
            ("{exponential: .inf}", "expected a duration"),
            ("{normal: {mean: -5ms, sd: 1ms}}", "expected a duration"),
            ("{lognormal: {p50: nan, p99: 1s}}", "expected a duration"),
            ("1e400s", "expected a duration"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn draws_have_the_percentiles_that_were_asked_for() {
        let mut stream = Stream::new(3, "draws", "test");
        let share_below = |distribution: &Distribution, stream: &mut Stream, bound: u64| {
            (0..20_000).filter(|_| distribution.sample(stream) <= bound).count() as f64 / 20_000.0
        };
        let lognormal = Distribution::lognormal(Duration::from_millis(8), Duration::from_millis(60));
        assert!((share_below(&lognormal, &mut stream, 8_000_000) - 0.5).abs() < 0.02);
        assert!((share_below(&lognormal, &mut stream, 60_000_000) - 0.99).abs() < 0.005);
        let uniform = Distribution::Uniform(10, 19);
        assert!((share_below(&uniform, &mut stream, 14) - 0.5).abs() < 0.02);
        assert_eq!(share_below(&uniform, &mut stream, 9), 0.0);
        assert_eq!(share_below(&uniform, &mut stream, 19), 1.0);
        let normal = Distribution::Normal { mean: 1000, sd: 1000 };
        assert!((share_below(&normal, &mut stream, 0) - 0.159).abs() < 0.02);
    }

    #[test]
    fn percentiles_are_met_and_run_straight_between() {
        let distribution = read("{percentiles: {max: 100ms, p50: 10ms, p90: 20ms, min: 2ms}}").unwrap();
        let Distribution::Percentiles(points) = &distribution else { panic!("percentiles") };
        for (share, millis) in [(0.0, 2), (0.25, 6), (0.5, 10), (0.7, 15), (0.9, 20), (0.95, 60), (1.0, 100)]
        {
            let found = between(points, share);
            assert!(found.abs_diff(millis * 1_000_000) <= 1, "{share}: {found}");
        }
        let mut stream = Stream::new(5, "draws", "test");
        let mut draws: Vec<u64> = (0..20_001).map(|_| distribution.sample(&mut stream)).collect();
        draws.sort_unstable();
        assert!(draws[10_000].abs_diff(10_000_000) < 300_000, "{}", draws[10_000]);
        assert!(draws[18_000].abs_diff(20_000_000) < 1_500_000, "{}", draws[18_000]);
        assert!(draws[0] >= 2_000_000 && draws[20_000] <= 100_000_000);
    }
}
