//! `lambda.scaling-rate`: how fast one function may gain execution environments since November 2023.
//!
//! Source: AWS Lambda Developer Guide, "Lambda scaling behavior", section "Concurrency scaling rate":
//! 1,000 environments every 10 s per function, refilled continuously at best effort; published. Unused
//! rate does not build up beyond the capacity.

use crate::new_environments::NewEnvironments;
use crate::token_bucket::Refill;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

const REFILL_PERIOD: Duration = Duration::from_secs(10);

/// One function's bucket of new environments.
#[derive(Clone, Debug)]
pub struct ScalingRate {
    environments: NewEnvironments,
}

impl ScalingRate {
    /// A full bucket that grants `environments` every 10 s.
    pub fn new(now: Instant, environments: u32) -> Self {
        let refill = Refill { tokens: environments, period: REFILL_PERIOD };
        Self { environments: NewEnvironments::new(LimitId::ScalingRate, now, environments, refill) }
    }

    /// Whether one new environment may start. Changes nothing but the count of refusals.
    ///
    /// # Errors
    /// The refusal names the function and says when the next token is there.
    pub fn check(&mut self, now: Instant, function: &Arc<str>) -> Result<(), Refusal> {
        self.environments.check(now, function)
    }

    /// Takes a token for one new environment, after a `check` at the same moment.
    pub fn spend(&mut self, now: Instant) {
        self.environments.spend(now);
    }

    /// The board's row; `used` are the tokens that are missing.
    pub fn row(&self, now: Instant, function: &Arc<str>, source: &Arc<str>) -> LimitRow {
        self.environments.row(now, function, source)
    }
}
