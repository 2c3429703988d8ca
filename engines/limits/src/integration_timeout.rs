//! `apigw.integration-timeout` and `apigw.stream-idle-timeout`: how long an API waits for its function.
//!
//! Source: API Gateway Developer Guide, "Quotas": HTTP APIs 30 s at most, REST APIs 29 s, since June 2024 more on request for
//! Regional and private ones; published. At its limit the gateway answers 504 (REST) or 503 (HTTP API), and the function
//! runs on: it keeps its environment and its concurrency, and nobody reads its answer. A function URL and a load balancer
//! wait as long as the function may run. Of a response that streams the time-out bounds the whole, and the idle time-out each
//! wait for its next piece: what expires after the head was sent cuts the connection.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// One route's or method's time-out.
#[derive(Clone, Debug)]
pub struct IntegrationTimeout {
    limit: LimitId,
    resource: Arc<str>,
    timeout: Duration,
    source: Arc<str>,
    tally: Tally,
}

impl IntegrationTimeout {
    /// A time-out, called `Api/prod GET /cart` in messages.
    pub fn new(resource: Arc<str>, timeout: Duration, source: Arc<str>) -> Self {
        Self { limit: LimitId::IntegrationTimeout, resource, timeout, source, tally: Tally::default() }
    }

    /// A time-out for each silence of a response that streams.
    pub fn idle(resource: Arc<str>, timeout: Duration, source: Arc<str>) -> Self {
        Self { limit: LimitId::StreamIdleTimeout, ..Self::new(resource, timeout, source) }
    }

    /// How long the gateway waits.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When the gateway waits no longer for an integration that is asked at `now`.
    #[inline]
    pub fn until(&self, now: Instant) -> Instant {
        now + self.timeout
    }

    /// The integration has answered, `took` after it was asked and in time.
    pub fn answered(&mut self, took: Duration) {
        self.tally.reach(millis(took));
    }

    /// The gateway waits no longer.
    pub fn expired(&mut self, now: Instant) -> Refusal {
        let max = millis(self.timeout);
        self.tally.reach(max);
        self.tally.refuse(now);
        Refusal {
            limit: self.limit,
            resource: Arc::clone(&self.resource),
            destination: None,
            used: max,
            max,
            retry_at: None,
        }
    }

    /// The board's row: the slowest answer against the time-out, in milliseconds.
    pub fn row(&self) -> LimitRow {
        self.tally.row(self.limit, &self.resource, 0, millis(self.timeout), &self.source)
    }
}

/// Whole milliseconds, rounded up: what took longer than a limit must not look as if it had met it.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_answer_and_the_expired_ones_are_remembered() {
        let mut timeout = IntegrationTimeout::new("Api".into(), Duration::from_secs(30), "s".into());
        assert_eq!(timeout.until(Instant::from_secs(5)), Instant::from_secs(35));
        timeout.answered(Duration::from_micros(1500));
        assert_eq!((timeout.row().peak, timeout.row().max, timeout.row().refused), (2, 30_000, 0));
        let refusal = timeout.expired(Instant::from_secs(36));
        assert_eq!(refusal.to_string(), "apigw.integration-timeout of Api: 30000 of 30000 ms");
        let row = timeout.row();
        assert_eq!((row.peak, row.refused, row.first_refused_at), (30_000, 1, Some(Instant::from_secs(36))));
    }

    #[test]
    fn silence_has_a_limit_of_its_own() {
        let mut idle = IntegrationTimeout::idle("Api".into(), Duration::from_secs(300), "s".into());
        assert_eq!(
            idle.expired(Instant::START).to_string(),
            "apigw.stream-idle-timeout of Api: 300000 of 300000 ms"
        );
        assert_eq!(idle.row().id, LimitId::StreamIdleTimeout);
    }
}
