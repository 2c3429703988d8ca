//! One level of API Gateway's throttles: a token bucket that remembers why it ran dry.

use super::figures::{ApiFigures, ApiSettings, Rate};
use crate::tally::Tally;
use crate::token_bucket::TokenBucket;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;

/// The levels in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An API key at one method, by a usage plan.
    KeyMethod,
    /// An API key, by a usage plan.
    Key,
    /// A method of a stage.
    Stage,
    /// All APIs of the account in the Region.
    Account,
}

impl Level {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::KeyMethod, Self::Key, Self::Stage, Self::Account];

    /// The limit of its rate.
    pub const fn rate_id(self) -> LimitId {
        match self {
            Self::KeyMethod => LimitId::ApiKeyMethodRate,
            Self::Key => LimitId::ApiKeyRate,
            Self::Stage => LimitId::ApiStageRate,
            Self::Account => LimitId::ApiAccountRate,
        }
    }

    /// The limit of its burst.
    pub const fn burst_id(self) -> LimitId {
        match self {
            Self::KeyMethod => LimitId::ApiKeyMethodBurst,
            Self::Key => LimitId::ApiKeyBurst,
            Self::Stage => LimitId::ApiStageBurst,
            Self::Account => LimitId::ApiAccountBurst,
        }
    }
}

/// A bucket of one level.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    level: Level,
    resource: Arc<str>,
    rate: Rate,
    tokens: TokenBucket,
    sources: [Arc<str>; 2],
    /// When it was last found full, and how many asked since.
    full_at: Instant,
    asked: u64,
    /// The begun second, and how many passed in it.
    second: u64,
    passed: u64,
    rate_tally: Tally,
    burst_tally: Tally,
}

impl Bucket {
    pub(super) fn new(
        now: Instant,
        level: Level,
        resource: Arc<str>,
        figures: ApiFigures,
        settings: &ApiSettings,
    ) -> Self {
        Self {
            level,
            resource,
            rate: figures.rate,
            tokens: TokenBucket::new(now, figures.burst, figures.rate.refill()),
            sources: settings.sources(level).map(Arc::clone),
            full_at: now,
            asked: 0,
            second: 0,
            passed: 0,
            rate_tally: Tally::default(),
            burst_tally: Tally::default(),
        }
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Whether a token is there; takes none.
    #[inline]
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Refusal> {
        // A bucket that holds nothing is never full of anything.
        if self.tokens.capacity() > 0 && self.tokens.is_full(now) {
            (self.full_at, self.asked) = (now, 0);
        }
        self.asked = self.asked.saturating_add(1);
        if self.tokens.has(now, 1) { Ok(()) } else { Err(self.refuse(now)) }
    }

    /// Takes the token that `check` has seen.
    #[inline]
    pub(super) fn spend(&mut self, now: Instant) {
        self.tokens.take(now, 1);
        self.burst_tally.reach(u64::from(self.tokens.spent(now)));
        let second = now.as_nanos() / SECOND;
        if second > self.second {
            (self.second, self.passed) = (second, 0);
        }
        self.passed += 1;
        self.rate_tally.reach(self.passed);
    }

    /// The burst is to blame where the rate alone, for a second or for as long as the bucket is not full, would have
    /// sufficed; else the rate. Overflow: 2^64 requests * 10^12 and 2^42 thousandths * 2^64 ns fit u128.
    #[cold]
    fn refuse(&mut self, now: Instant) -> Refusal {
        let elapsed = u128::from(now.as_nanos().saturating_sub(self.full_at.as_nanos()).max(SECOND));
        let asked = u128::from(self.asked) * 1000 * u128::from(SECOND);
        let retry_at = self.tokens.ready_at(now, 1);
        let (limit, used, max) = if asked <= u128::from(self.rate.thousandths()) * elapsed {
            self.burst_tally.refuse(now);
            let capacity = u64::from(self.tokens.capacity());
            (self.level.burst_id(), u64::from(self.tokens.spent(now)), capacity)
        } else {
            self.rate_tally.refuse(now);
            let per_second = (u128::from(self.asked) * u128::from(SECOND)).div_ceil(elapsed);
            let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
            (self.level.rate_id(), per_second, self.rate.whole())
        };
        Refusal { limit, resource: Arc::clone(&self.resource), destination: None, used, max, retry_at }
    }

    /// The rows of its rate (requests that passed in the begun second) and of its burst (tokens that are missing).
    pub(super) fn rows(&self, now: Instant) -> [LimitRow; 2] {
        let Self { level, resource, sources: [rate_source, burst_source], .. } = self;
        let passed = if now.as_nanos() / SECOND == self.second { self.passed } else { 0 };
        let (spent, burst) = (u64::from(self.tokens.spent(now)), u64::from(self.tokens.capacity()));
        [
            self.rate_tally.row(level.rate_id(), resource, passed, self.rate.whole(), rate_source),
            self.burst_tally.row(level.burst_id(), resource, spent, burst, burst_source),
        ]
    }
}
