//! One figure: what we measured beside its floor or peer, the goal, and whether it is reached.

use std::fmt;

/// Measurements of one thing, one a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value below which `part` (0 to 1) of the samples lie; zero without samples.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let index = (sorted.len() as f64 * part) as usize;
        sorted.get(index.min(last)).copied().unwrap_or(0.0)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    fn most(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// `least / median / most`, as many digits as the size deserves.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {} / {}", number(self.least()), number(self.median()), number(self.most()))
    }
}

/// `1,234,567`, `123`, `12.3`, `1.23`, `0.0123`.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && &whole[..index] != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Ours is at least this many times the other.
    TimesAtLeast(f64),
    /// Ours is at most this many times the other.
    TimesAtMost(f64),
    /// Ours is at least this much.
    AtLeast(f64),
    /// Ours is at most this much.
    AtMost(f64),
    /// Ours is at most `times` the other `plus` this much.
    AtMostTimesPlus { times: f64, plus: f64 },
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured: `warm, function URL, 50 connections`.
    pub what: String,
    pub unit: &'static str,
    pub ours: Samples,
    /// The floor or the peer, by name.
    pub other: Option<(&'static str, Samples)>,
    pub goal: Goal,
}

impl Figure {
    /// Ours by the other. Rounds alternate, so each is compared with its own neighbour, and drift hits both.
    pub fn ratio(&self) -> Option<f64> {
        let (_, other) = self.other.as_ref()?;
        let is_paired = other.0.len() == self.ours.0.len();
        let paired =
            || self.ours.0.iter().zip(&other.0).map(|(ours, other)| ours / other).collect::<Samples>();
        let ratio = if is_paired { paired().median() } else { self.ours.median() / other.median() };
        ratio.is_finite().then_some(ratio)
    }

    pub fn is_reached(&self) -> bool {
        let ours = self.ours.median();
        let other = self.other.as_ref().map_or(0.0, |(_, other)| other.median());
        match self.goal {
            Goal::TimesAtLeast(times) => self.ratio().is_some_and(|ratio| ratio >= times),
            Goal::TimesAtMost(times) => self.ratio().is_some_and(|ratio| ratio <= times),
            Goal::AtLeast(value) => ours >= value,
            Goal::AtMost(value) => ours <= value,
            Goal::AtMostTimesPlus { times, plus } => ours <= other * times + plus,
        }
    }

    fn goal_text(&self) -> String {
        let (other, unit) = (self.other.as_ref().map_or("", |(name, _)| name), self.unit);
        match self.goal {
            Goal::TimesAtLeast(times) => format!(">= {times} x {other}"),
            Goal::TimesAtMost(times) => format!("<= {times} x {other}"),
            Goal::AtLeast(value) => format!(">= {} {unit}", number(value)),
            Goal::AtMost(value) => format!("<= {} {unit}", number(value)),
            Goal::AtMostTimesPlus { times, plus } => {
                format!("<= {times} x {other} + {} {unit}", number(plus))
            }
        }
    }
}

/// Three lines: ours with the verdict, the other with the ratio, the goal.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_reached() { "reached" } else { "missed" };
        let Self { what, unit, ours, .. } = self;
        writeln!(f, "{verdict:<8} {what}: {ours} {unit}")?;
        write!(f, "         goal {}", self.goal_text())?;
        if let Some((name, samples)) = &self.other {
            write!(f, "; {name}: {samples} {unit}")?;
        }
        if let Some(ratio) = self.ratio() {
            write!(f, "; ratio {}", number(ratio))?;
        }
        Ok(())
    }
}

/// The table's head, for [`Figure::table_row`].
pub const TABLE_HEAD: &str =
    "| what | ours (least / median / most) | floor or peer | ratio | goal | |\n|---|---|---|---|---|---|";

impl Figure {
    /// One row of the Markdown table.
    pub fn table_row(&self) -> String {
        let Self { what, unit, ours, .. } = self;
        let other =
            self.other.as_ref().map_or("-".to_owned(), |(name, samples)| format!("{name}: {samples}"));
        let ratio = self.ratio().map_or("-".to_owned(), number);
        let verdict = if self.is_reached() { "reached" } else { "missed" };
        format!("| {what} | {ours} {unit} | {other} | {ratio} | {} | {verdict} |", self.goal_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: &[f64], other: &[f64], goal: Goal) -> Figure {
        Figure {
            what: "warm".to_owned(),
            unit: "ms",
            ours: Samples(ours.to_vec()),
            other: Some(("floor", Samples(other.to_vec()))),
            goal,
        }
    }

    #[test]
    fn rounds_are_compared_with_their_neighbours() {
        // The machine was twice as fast in the last round, for both.
        let drifting = figure(&[10.0, 10.0, 20.0], &[20.0, 20.0, 40.0], Goal::TimesAtLeast(0.5));
        assert_eq!(drifting.ratio(), Some(0.5));
        assert!(drifting.is_reached());
        assert!(!figure(&[9.0], &[20.0], Goal::TimesAtLeast(0.5)).is_reached());
    }

    #[test]
    fn a_start_may_take_longer_than_the_interpreters_own() {
        let goal = Goal::AtMostTimesPlus { times: 1.25, plus: 10.0 };
        assert!(figure(&[60.0], &[40.0], goal).is_reached());
        assert!(!figure(&[60.1], &[40.0], goal).is_reached());
    }

    #[test]
    fn a_missing_other_reaches_no_ratio() {
        let lonely = Figure { other: None, ..figure(&[1.0], &[], Goal::TimesAtMost(4.0)) };
        assert_eq!(lonely.ratio(), None);
        assert!(!lonely.is_reached());
    }

    #[test]
    fn quantiles_are_taken_from_sorted_samples() {
        let samples: Samples = (0..100).rev().map(f64::from).collect();
        assert_eq!((samples.median(), samples.quantile(0.99), samples.quantile(1.0)), (50.0, 99.0, 99.0));
        assert_eq!(Samples::default().median(), 0.0);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(-123_456.0), "-123,456");
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(0.01234), "0.0123");
        assert_eq!(number(0.0), "0");
    }
}
