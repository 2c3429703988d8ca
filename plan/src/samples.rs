//! Durations of many requests, and what a report says of them. Exact up to a bound, then within 0.1 %.

use crate::report::{HistogramRow, Seconds};
use std::collections::BTreeMap;

/// So many durations are kept one by one: 2 MB.
const EXACT_MAX: usize = 1 << 18;
/// Beyond that, durations are counted in classes of 2^11 per power of two: 0.05 % wide.
const CLASS_BITS: u32 = 11;
/// Classes of all durations: 2^12 of one nanosecond, then 2^11 for each of the 52 doublings up to 2^64.
const CLASSES: usize = (64 - CLASS_BITS as usize - 1 + 2) << CLASS_BITS;
/// Bars of the histogram between the fastest and the slowest, as `hey` prints them.
const BARS: u64 = 10;

/// The percentiles that reports show, in tenths of a percent.
pub const PERCENTILES: &[(&str, u64)] = &[
    ("10", 100),
    ("25", 250),
    ("50", 500),
    ("75", 750),
    ("90", 900),
    ("95", 950),
    ("99", 990),
    ("99.9", 999),
];

/// Durations in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    exact: Vec<u64>,
    /// Counts by class; empty while samples are exact.
    classes: Vec<u64>,
    count: u64,
    sum: u128,
    most: u64,
    least: Option<u64>,
}

impl Samples {
    /// Adds one.
    #[inline]
    pub fn push(&mut self, nanos: u64) {
        self.count += 1;
        self.sum += u128::from(nanos);
        self.most = self.most.max(nanos);
        self.least = Some(self.least.map_or(nanos, |least| least.min(nanos)));
        if self.classes.is_empty() && self.exact.len() < EXACT_MAX {
            self.exact.push(nanos);
        } else {
            self.classify();
            self.classes[class(nanos)] += 1;
        }
    }

    #[cold]
    fn allocate_classes(&mut self) {
        self.classes = vec![0; CLASSES];
        for exact in std::mem::take(&mut self.exact) {
            self.classes[class(exact)] += 1;
        }
    }

    fn classify(&mut self) {
        if self.classes.is_empty() {
            self.allocate_classes();
        }
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The smallest, 0 if there is none.
    pub fn fastest(&self) -> u64 {
        self.least.unwrap_or(0)
    }

    /// The largest, 0 if there is none.
    pub const fn slowest(&self) -> u64 {
        self.most
    }

    /// The mean, rounded down, 0 if there is none.
    pub fn average(&self) -> u64 {
        (self.sum / u128::from(self.count.max(1))) as u64
    }

    /// Values with their counts, ascending. O(n log n) where they are exact.
    pub fn sorted(&self) -> Sorted {
        let classes = self.classes.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut runs: Vec<(u64, u64)> =
            classes.map(|(class, count)| (upper_edge(class).min(self.most), *count)).collect();
        let mut values = self.exact.clone();
        values.sort_unstable();
        for value in values {
            match runs.last_mut() {
                Some((last, count)) if *last == value => *count += 1,
                _ => runs.push((value, 1)),
            }
        }
        Sorted { runs, count: self.count }
    }
}

/// Samples in order.
#[derive(Clone, Debug)]
pub struct Sorted {
    /// Values with their counts, ascending.
    runs: Vec<(u64, u64)>,
    count: u64,
}

impl Sorted {
    /// The percentiles by nearest rank; empty without samples.
    pub fn percentiles(&self) -> BTreeMap<&'static str, Seconds> {
        let sorted = &self.runs;
        let mut found = BTreeMap::new();
        let (mut seen, mut index) = (0, 0);
        for (name, per_mille) in PERCENTILES {
            let rank = (u128::from(self.count) * u128::from(*per_mille)).div_ceil(1000).max(1) as u64;
            while index < sorted.len() && seen + sorted[index].1 < rank {
                seen += sorted[index].1;
                index += 1;
            }
            if let Some((value, _)) = sorted.get(index) {
                found.insert(*name, Seconds(*value));
            }
        }
        found
    }

    /// Counts by whole seconds, each value rounded to the nearest.
    pub fn by_second(&self) -> BTreeMap<u64, u64> {
        let mut seconds = BTreeMap::new();
        for (value, count) in &self.runs {
            *seconds.entry(value.saturating_add(500_000_000) / 1_000_000_000).or_default() += count;
        }
        seconds
    }

    /// The histogram as `hey` has it: the fastest, then ten bars of one width up to the slowest. Empty without
    /// samples, one row if all are alike.
    pub fn histogram(&self) -> Vec<HistogramRow> {
        let (Some((least, _)), Some((most, _))) = (self.runs.first(), self.runs.last()) else {
            return Vec::new();
        };
        let (least, most) = (*least, *most);
        let mark = |bar: u64| least + (u128::from(most - least) * u128::from(bar) / u128::from(BARS)) as u64;
        let bars = if least == most { 0..=0 } else { 0..=BARS };
        let mut rows: Vec<HistogramRow> =
            bars.map(|bar| HistogramRow { up_to_s: Seconds(mark(bar)), count: 0 }).collect();
        let mut row = 0;
        for (value, count) in &self.runs {
            while rows[row].up_to_s.0 < *value && row + 1 < rows.len() {
                row += 1;
            }
            rows[row].count += count;
        }
        rows
    }
}

/// The value's class. Below 2^12 each value is a class; above, `shift` low bits are dropped:
///
/// ```text
///   value = 1mmmmmmmmmmm|ssss...   (11 bits m, `shift` bits s)     class = shift * 2^11 + 1mmmmmmmmmmm
/// ```
fn class(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(CLASS_BITS + 1);
    ((shift as usize) << CLASS_BITS) + (value >> shift) as usize
}

/// The largest value of a class.
fn upper_edge(class: usize) -> u64 {
    let shift = (class >> CLASS_BITS).saturating_sub(1);
    let kept = (class - (shift << CLASS_BITS)) as u64;
    // (kept << shift) has `shift` zeros at its end.
    (kept << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(values: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let found = samples((1..=1000).rev()).sorted().percentiles();
        let values: Vec<u64> = PERCENTILES.iter().map(|(name, _)| found[name].0).collect();
        assert_eq!(values, [100, 250, 500, 750, 900, 950, 990, 999]);
        assert_eq!(samples([7]).sorted().percentiles()["99"], Seconds(7));
        assert!(samples([]).sorted().percentiles().is_empty());
    }

    #[test]
    fn the_histogram_holds_every_sample_once() {
        let rows = samples((0..=100).chain([0, 0])).sorted().histogram();
        assert_eq!(rows.len(), 11);
        assert_eq!((rows[0].count, rows[0].up_to_s.0, rows[10].up_to_s.0), (3, 0, 100));
        assert!(rows[1..].iter().all(|row| row.count == 10));
        assert_eq!(samples([5, 5]).sorted().histogram(), [HistogramRow { up_to_s: Seconds(5), count: 2 }]);
        assert!(samples([]).sorted().histogram().is_empty());
    }

    #[test]
    fn an_average_of_huge_values_does_not_overflow() {
        let found = samples([u64::MAX; 3]);
        assert_eq!((found.average(), found.slowest(), found.count()), (u64::MAX, u64::MAX, 3));
    }

    proptest! {
        #[test]
        fn classes_are_close_and_never_below(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let edge = upper_edge(class(value));
            prop_assert!(class(value) < CLASSES);
            prop_assert!(edge >= value && edge - value <= value / 2000);
            prop_assert_eq!(class(edge), class(value));
            prop_assert!(edge == u64::MAX || class(edge + 1) == class(edge) + 1);
        }

        #[test]
        fn classed_percentiles_are_within_a_thousandth(values in prop::collection::vec(1u64..1 << 40, 1..200)) {
            let exact = samples(values);
            let mut classed = exact.clone();
            classed.classify();
            for (name, value) in exact.sorted().percentiles() {
                let found = classed.sorted().percentiles()[name].0;
                prop_assert!(found >= value.0 && found - value.0 <= value.0 / 1000);
            }
        }
    }
}
