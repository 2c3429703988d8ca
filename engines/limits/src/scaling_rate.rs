//! `lambda.scaling-rate`: how fast one function may gain execution environments since November 2023.
//!
//! Source: AWS Lambda Developer Guide, "Lambda scaling behavior", section "Concurrency scaling rate":
//! 1,000 environments every 10 s per function, refilled continuously at best effort; published. Unused
//! rate does not build up beyond the capacity.

use crate::tally::Tally;
use crate::token_bucket::{Refill, TokenBucket};
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

const REFILL_PERIOD: Duration = Duration::from_secs(10);

/// One function's bucket of new environments.
#[derive(Clone, Debug)]
pub struct ScalingRate {
    bucket: TokenBucket,
    tally: Tally,
}

impl ScalingRate {
    /// A full bucket that grants `environments` every 10 s.
    pub fn new(now: Instant, environments: u32) -> Self {
        let refill = Refill { tokens: environments, period: REFILL_PERIOD };
        Self { bucket: TokenBucket::new(now, environments, refill), tally: Tally::default() }
    }

    /// Whether one new environment may start. Changes nothing but the count of refusals.
    ///
    /// # Errors
    /// The refusal names the function and says when the next token is there.
    pub fn check(&mut self, now: Instant, function: &Arc<str>) -> Result<(), Refusal> {
        if self.bucket.has(now, 1) {
            return Ok(());
        }
        self.tally.refuse(now);
        Err(Refusal {
            limit: LimitId::ScalingRate,
            resource: Arc::clone(function),
            destination: None,
            used: u64::from(self.bucket.spent(now)),
            max: u64::from(self.bucket.capacity()),
            retry_at: self.bucket.ready_at(now, 1),
        })
    }

    /// Takes a token for one new environment, after a `check` at the same moment.
    pub fn spend(&mut self, now: Instant) {
        self.bucket.take(now, 1);
        self.tally.reach(u64::from(self.bucket.spent(now)));
    }

    /// The board's row; `used` are the tokens that are missing.
    pub fn row(&self, now: Instant, function: &Arc<str>, source: &Arc<str>) -> LimitRow {
        let (used, max) = (self.bucket.spent(now), self.bucket.capacity());
        self.tally.row(LimitId::ScalingRate, function, u64::from(used), u64::from(max), source)
    }
}
