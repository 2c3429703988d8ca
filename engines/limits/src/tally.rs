//! What a limit remembers about itself for the limits board: its peak, and how often it said no.

use model::{Instant, LimitId, LimitRow};
use std::sync::Arc;

/// A limit's history. Counters saturate, so a flood cannot wrap them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    peak: u64,
    refused: u64,
    first_refused_at: Option<Instant>,
}

impl Tally {
    /// Notes that `used` are in use now.
    pub fn reach(&mut self, used: u64) {
        self.peak = self.peak.max(used);
    }

    /// Notes a refusal at `now`.
    pub fn refuse(&mut self, now: Instant) {
        self.refused = self.refused.saturating_add(1);
        self.first_refused_at.get_or_insert(now);
    }

    /// The board's row for a limit with this history.
    pub fn row(&self, id: LimitId, resource: &Arc<str>, used: u64, max: u64, source: &Arc<str>) -> LimitRow {
        LimitRow {
            id,
            resource: Arc::clone(resource),
            max,
            used,
            peak: self.peak.max(used),
            refused: self.refused,
            first_refused_at: self.first_refused_at,
            source: Arc::clone(source),
            raisable: id.raisable(),
        }
    }
}
