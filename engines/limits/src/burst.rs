//! `lambda.burst`: how fast the account gained environments until November 2023.
//!
//! Source: AWS Lambda Developer Guide (June 2022), "Lambda function scaling": an initial burst per
//! Region, then 500 more environments each minute, shared by all functions of the account and
//! Region; published. The algorithm never was; a token bucket with one token per new environment and a
//! continuous refill matches outside observation and is assumed.

use crate::new_environments::NewEnvironments;
use crate::tally::Tally;
use crate::token_bucket::Refill;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

const REFILL_PERIOD: Duration = Duration::from_secs(60);

/// The account's bucket of new environments.
#[derive(Clone, Debug)]
pub struct Burst {
    environments: NewEnvironments,
    refill_per_minute: u32,
    refill_tally: Tally,
}

impl Burst {
    /// A full bucket of `size` environments that gains `refill_per_minute`.
    pub fn new(now: Instant, size: u32, refill_per_minute: u32) -> Self {
        let refill = Refill { tokens: refill_per_minute, period: REFILL_PERIOD };
        Self {
            environments: NewEnvironments::new(LimitId::Burst, now, size, refill),
            refill_per_minute,
            refill_tally: Tally::default(),
        }
    }

    /// Whether one new environment may start. Changes nothing but the count of refusals.
    ///
    /// # Errors
    /// The refusal names `account` and says when the next token is there.
    pub fn check(&mut self, now: Instant, account: &Arc<str>) -> Result<(), Refusal> {
        self.environments.check(now, account)
    }

    /// Takes a token for one new environment, after a `check` at the same moment.
    pub fn spend(&mut self, now: Instant) {
        self.environments.spend(now);
        self.refill_tally.reach(u64::from(self.refill_per_minute));
    }

    /// The board's row for the bucket; `used` are the tokens that are missing.
    pub fn row(&self, now: Instant, account: &Arc<str>, source: &Arc<str>) -> LimitRow {
        self.environments.row(now, account, source)
    }

    /// The board's row for the refill, which runs at full speed while the bucket is not full. What the
    /// bucket refuses is counted there, not here.
    pub fn refill_row(&self, now: Instant, account: &Arc<str>, source: &Arc<str>) -> LimitRow {
        let max = u64::from(self.refill_per_minute);
        let used = if self.environments.spent(now) > 0 { max } else { 0 };
        self.refill_tally.row(LimitId::BurstRefill, account, used, max, source)
    }
}
