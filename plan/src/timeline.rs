//! The timeline: one row per step of virtual time.

use crate::report::{PoolRow, Seconds, TimelineRow};
use model::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// More rows than this are not kept: then every second one is dropped and the step doubles.
const ROWS_MAX: usize = 100_000;

type Network = (BTreeMap<Arc<str>, u64>, Option<u64>, BTreeMap<Arc<str>, PoolRow>);

/// Rows so far, and what was counted since the last one.
#[derive(Debug)]
pub struct Timeline {
    step: Duration,
    next: Instant,
    rows: Vec<TimelineRow>,
    cold_starts: u64,
    throttled: u64,
}

impl Timeline {
    /// An empty timeline whose first row is that of t = 0.
    pub fn new(step: Duration) -> Self {
        Self { step, next: Instant::START, rows: Vec::new(), cold_starts: 0, throttled: 0 }
    }

    /// The moment of the next row. It shows the state after all that happens at that moment.
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Makes the next row one at `end`, off the steps; `false` if the last row was there already.
    pub fn end_at(&mut self, end: Instant) -> bool {
        let done = self.rows.last().is_some_and(|row| row.t_s >= Seconds::from(end));
        if !done {
            self.next = end;
        }
        !done
    }

    /// An environment was started.
    pub fn cold_start(&mut self) {
        self.cold_starts += 1;
    }

    /// A request was refused.
    pub fn throttle(&mut self) {
        self.throttled += 1;
    }

    /// Completes the next row. `network` are connections by resource, how many interfaces there are, and the pools of
    /// database proxies.
    pub fn push(&mut self, concurrency: u32, environments: u32, network: Network) {
        self.rows.push(TimelineRow {
            t_s: Seconds::from(self.next),
            concurrency,
            environments,
            cold_starts: std::mem::take(&mut self.cold_starts),
            throttled: std::mem::take(&mut self.throttled),
            connections: network.0,
            interfaces: network.1,
            pools: network.2,
        });
        self.next += self.step;
        if self.rows.len() > ROWS_MAX {
            self.thin();
        }
    }

    /// Keeps every second row, the one at t = 0 among them; its counts include those of the row before it. The number
    /// of rows is odd here, so the last one stays.
    fn thin(&mut self) {
        self.step = self.step.saturating_mul(2);
        let mut kept: Vec<TimelineRow> = Vec::with_capacity(self.rows.len() / 2 + 1);
        let mut dropped = (0, 0);
        for (index, mut row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            if index % 2 == 1 {
                dropped = (row.cold_starts, row.throttled);
            } else {
                row.cold_starts += dropped.0;
                row.throttled += dropped.1;
                kept.push(row);
            }
        }
        self.next = Instant::from_nanos(kept.last().map_or(0, |row| row.t_s.0)) + self.step;
        self.rows = kept;
    }

    /// All rows.
    pub fn into_rows(self) -> Vec<TimelineRow> {
        self.rows
    }
}

const _: () = assert!(ROWS_MAX.is_multiple_of(2), "thinning keeps the last of an odd number of rows");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fall_into_the_row_that_ends_after_them() {
        let mut timeline = Timeline::new(Duration::from_secs(1));
        timeline.throttle();
        timeline.push(1, 1, Network::default());
        timeline.cold_start();
        timeline.throttle();
        timeline.push(2, 3, Network::default());
        assert!(!timeline.end_at(Instant::from_secs(1)));
        assert!(timeline.end_at(Instant::from_millis(1500)));
        timeline.push(0, 3, Network::default());
        let rows = timeline.into_rows();
        let counts: Vec<(u64, u64, u64)> =
            rows.iter().map(|row| (row.t_s.0 / 1_000_000, row.throttled, row.cold_starts)).collect();
        assert_eq!(counts, [(0, 1, 0), (1000, 1, 1), (1500, 0, 0)]);
    }

    #[test]
    fn too_many_rows_are_thinned_without_losing_a_count() {
        let mut timeline = Timeline::new(Duration::from_secs(1));
        for _ in 0..=ROWS_MAX {
            timeline.throttle();
            timeline.push(1, 1, Network::default());
        }
        assert_eq!(timeline.next(), Instant::from_secs(ROWS_MAX as u64 + 2));
        let rows = timeline.into_rows();
        assert_eq!(rows.len(), ROWS_MAX / 2 + 1);
        assert_eq!((rows[0].throttled, rows[1].throttled, rows[1].t_s.0), (1, 2, 2_000_000_000));
        assert_eq!(rows.iter().map(|row| row.throttled).sum::<u64>(), ROWS_MAX as u64 + 1);
    }
}
