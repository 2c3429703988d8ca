//! When which limit refused how many: counts in buckets of virtual time.

use crate::report::{RefusalRow, Seconds};
use model::{Instant, LimitId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More rows than this are not kept: then the buckets become twice as wide.
const ROWS_MAX: usize = 100_000;
const WIDTH_NANOS: u64 = 1_000_000_000;
/// 34 years: by then each limit of each resource has one row.
const WIDTH_NANOS_MAX: u64 = WIDTH_NANOS << 30;

/// Refusals by bucket, limit and resource. Time must not run backwards.
#[derive(Debug)]
pub struct Refusals {
    width_nanos: u64,
    bucket: u64,
    counts: BTreeMap<(LimitId, Arc<str>), u64>,
    rows: Vec<RefusalRow>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { width_nanos: WIDTH_NANOS, bucket: 0, counts: BTreeMap::new(), rows: Vec::new() }
    }
}

impl Refusals {
    /// Counts one.
    pub fn add(&mut self, now: Instant, limit: LimitId, resource: &Arc<str>) {
        let bucket = now.as_nanos() / self.width_nanos;
        if bucket != self.bucket {
            self.flush();
            self.bucket = now.as_nanos() / self.width_nanos;
        }
        *self.counts.entry((limit, Arc::clone(resource))).or_default() += 1;
    }

    fn flush(&mut self) {
        let at_s = Seconds(self.bucket * self.width_nanos);
        let counts = std::mem::take(&mut self.counts).into_iter();
        self.rows.extend(counts.map(|((limit, resource), count)| RefusalRow {
            at_s,
            limit,
            resource,
            count,
        }));
        while self.rows.len() > ROWS_MAX && self.width_nanos < WIDTH_NANOS_MAX {
            self.width_nanos *= 2;
            self.rows = merged(&self.rows, self.width_nanos);
        }
    }

    /// All rows, by time.
    pub fn into_rows(mut self) -> Vec<RefusalRow> {
        self.flush();
        self.rows
    }
}

/// Whether a limit only ends what waits for something else: at one moment it stands below what made it wait.
pub fn is_symptom(limit: LimitId) -> bool {
    matches!(limit, LimitId::FunctionTimeout | LimitId::IntegrationTimeout)
}

/// The same counts in buckets of `width_nanos`; within a bucket causes before symptoms.
pub fn merged(rows: &[RefusalRow], width_nanos: u64) -> Vec<RefusalRow> {
    let mut sums: BTreeMap<(Seconds, bool, LimitId, Arc<str>), u64> = BTreeMap::new();
    for row in rows {
        let at_s = Seconds(row.at_s.0 / width_nanos * width_nanos);
        *sums.entry((at_s, is_symptom(row.limit), row.limit, Arc::clone(&row.resource))).or_default() +=
            row.count;
    }
    let rows = sums.into_iter();
    rows.map(|((at_s, _, limit, resource), count)| RefusalRow { at_s, limit, resource, count }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_falls_into_the_bucket_that_begins_with_it() {
        let mut refusals = Refusals::default();
        let account: Arc<str> = "account".into();
        for millis in [0, 999, 1000, 59_999, 60_000] {
            refusals.add(Instant::from_millis(millis), LimitId::Burst, &account);
        }
        let rows = refusals.into_rows();
        let seconds: Vec<(u64, u64)> = rows.iter().map(|row| (row.at_s.0 / WIDTH_NANOS, row.count)).collect();
        assert_eq!(seconds, [(0, 2), (1, 1), (59, 1), (60, 1)]);
        let minutes: Vec<u64> = merged(&rows, 60 * WIDTH_NANOS).iter().map(|row| row.count).collect();
        assert_eq!(minutes, [4, 1]);
    }

    #[test]
    fn rows_are_bounded_and_no_count_is_lost() {
        let mut refusals = Refusals::default();
        let account: Arc<str> = "account".into();
        for second in 0..=2 * ROWS_MAX as u64 {
            refusals.add(Instant::from_secs(second), LimitId::Burst, &account);
        }
        let rows = refusals.into_rows();
        assert!(rows.len() <= ROWS_MAX);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 2 * ROWS_MAX as u64 + 1);
    }
}
