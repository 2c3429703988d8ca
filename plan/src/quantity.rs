//! Durations, rates and sizes as people write them: `450ms`, `100/s`, `1KB`. Exact: no float is involved.

use std::time::Duration;
use template::yaml::{Node, Problem, Problems};

/// The longest duration that is read. Sums of a few of them stay far below the engines' 584 years.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The highest rate that is read, in events per nanosecond.
const RATE_MAX_PER_NANO: u128 = 1;
/// More digits than this after the point are below a nanosecond of the largest unit.
const FRACTION_DIGITS_MAX: usize = 15;

const TIME_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1_024),
    ("MB", 1_000_000),
    ("MiB", 1_048_576),
    ("GB", 1_000_000_000),
    ("GiB", 1_073_741_824),
];

/// So many events per period, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events in each period.
    pub events: u64,
    /// The period in nanoseconds; never 0.
    pub period_nanos: u64,
}

impl Rate {
    /// Events per nanosecond, for curves that have no exact form.
    pub fn per_nano(self) -> f64 {
        self.events as f64 / self.period_nanos as f64
    }

    /// When event `index` (from 0) happens, in nanoseconds after the first; rounded up, so that never more
    /// events have happened than the rate says. `None` when the rate is 0.
    pub fn nanos_of(self, index: u64) -> Option<u64> {
        if self.events == 0 {
            return None;
        }
        // u64 * u64 fits u128.
        let nanos = (u128::from(index) * u128::from(self.period_nanos)).div_ceil(u128::from(self.events));
        Some(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A decimal number as digits / 10^scale, and the unit after it. `None` when it does not begin with a number.
pub(crate) fn number_and_unit(text: &str) -> Option<(u64, u32, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let digits: String = [whole, fraction].concat().chars().filter(|c| *c != '_').collect();
    let scale = fraction.chars().filter(|c| *c != '_').count() as u32;
    Some((digits.parse().ok()?, scale, unit.trim()))
}

/// `digits / 10^scale * unit`, rounded to the nearest, halves up.
fn scaled(digits: u64, scale: u32, unit: u64) -> Option<u64> {
    // u64 * u64 fits u128, and 10^15 is far below its end.
    let divisor = 10_u128.pow(scale);
    u64::try_from((u128::from(digits) * u128::from(unit) + divisor / 2) / divisor).ok()
}

/// Reads `450ms`; `None` if it is no duration or longer than [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (digits, scale, unit) = number_and_unit(text)?;
    if unit.is_empty() && digits == 0 {
        return Some(Duration::ZERO);
    }
    let (_, nanos) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    scaled(digits, scale, *nanos).map(Duration::from_nanos).filter(|duration| *duration <= DURATION_MAX)
}

/// Reads `100/s`, `0.5/s`, `500/min`.
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (number, unit) = text.split_once('/')?;
    let (digits, scale, "") = number_and_unit(number)? else { return None };
    let (_, nanos) = TIME_UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    let period_nanos = 10_u64.checked_pow(scale)?.checked_mul(*nanos)?;
    (u128::from(digits) <= RATE_MAX_PER_NANO * u128::from(period_nanos))
        .then_some(Rate { events: digits, period_nanos })
}

/// Reads `1KB` (1,000 bytes) or `1KiB` (1,024).
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, scale, unit) = number_and_unit(text)?;
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    scaled(digits, scale, *bytes)
}

fn read<T>(
    node: &Node,
    wanted: &str,
    parse: impl Fn(&str) -> Option<T>,
    problems: &mut Problems,
) -> Option<T> {
    let value = node.as_str().and_then(parse);
    if value.is_none() {
        problems.push(Problem::wrong_type(node, wanted));
    }
    value
}

/// A duration, or a problem at its place.
pub fn duration(node: &Node, problems: &mut Problems) -> Option<Duration> {
    read(node, "a duration with its unit, such as 450ms or 30s, at most 366d", parse_duration, problems)
}

/// A rate, or a problem at its place.
pub fn rate(node: &Node, problems: &mut Problems) -> Option<Rate> {
    read(node, "a rate with its unit, such as 100/s or 500/min", parse_rate, problems)
}

/// A size in bytes, or a problem at its place.
pub fn size(node: &Node, problems: &mut Problems) -> Option<u64> {
    read(node, "a size with its unit, such as 5B or 1KB", parse_size, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_exactly() {
        for (text, nanos) in [
            ("450ms", 450_000_000),
            ("0.0235s", 23_500_000),
            ("1.5 min", 90_000_000_000),
            ("2m", 120_000_000_000),
            ("24h", 86_400_000_000_000),
            ("1_000us", 1_000_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "s", "5", "5x", "-5s", "1e3s", ".", "400d", "99999999999999999999s", "1.2.3s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn rates_and_sizes_are_read_exactly() {
        assert_eq!(parse_rate("0.5/s"), Some(Rate { events: 5, period_nanos: 10_000_000_000 }));
        assert_eq!(parse_rate("500/min").unwrap().nanos_of(500), Some(60_000_000_000));
        assert_eq!(parse_rate("3/s").unwrap().nanos_of(1), Some(333_333_334));
        assert_eq!(parse_rate("0/s").unwrap().nanos_of(0), None);
        for text in ["100", "100/x", "1s/s", "/s", "2000000000/s"] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
        assert_eq!(
            (parse_size("1KB"), parse_size("1.5KiB"), parse_size("5")),
            (Some(1000), Some(1536), None)
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,30}") {
            let _ = (parse_duration(&text), parse_rate(&text), parse_size(&text));
        }
    }
}
