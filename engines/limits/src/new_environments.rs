//! A bucket with one token for each new execution environment: the mechanism of `lambda.burst` and
//! `lambda.scaling-rate`.

use crate::tally::Tally;
use crate::token_bucket::{Refill, TokenBucket};
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;

/// The bucket behind one limit.
#[derive(Clone, Debug)]
pub(crate) struct NewEnvironments {
    limit: LimitId,
    bucket: TokenBucket,
    tally: Tally,
}

impl NewEnvironments {
    /// A full bucket of `size` environments.
    pub(crate) fn new(limit: LimitId, now: Instant, size: u32, refill: Refill) -> Self {
        Self { limit, bucket: TokenBucket::new(now, size, refill), tally: Tally::default() }
    }

    /// Whether one new environment may start. Changes nothing but the count of refusals.
    ///
    /// # Errors
    /// The refusal names `resource` and says when the next token is there.
    pub(crate) fn check(&mut self, now: Instant, resource: &Arc<str>) -> Result<(), Refusal> {
        if self.bucket.has(now, 1) {
            return Ok(());
        }
        self.tally.refuse(now);
        Err(self.bucket.refusal(now, self.limit, resource))
    }

    /// Takes a token for one new environment, after a `check` at the same moment.
    pub(crate) fn spend(&mut self, now: Instant) {
        self.bucket.take(now, 1);
        self.tally.reach(u64::from(self.bucket.spent(now)));
    }

    /// Tokens that are missing.
    pub(crate) fn spent(&self, now: Instant) -> u32 {
        self.bucket.spent(now)
    }

    /// The board's row; `used` are the tokens that are missing.
    pub(crate) fn row(&self, now: Instant, resource: &Arc<str>, source: &Arc<str>) -> LimitRow {
        let (used, max) = (self.bucket.spent(now), self.bucket.capacity());
        self.tally.row(self.limit, resource, u64::from(used), u64::from(max), source)
    }
}
