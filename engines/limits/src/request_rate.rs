//! `lambda.request-rate` and `lambda.reserved-request-rate`: synchronous requests per second, ten for each unit of
//! concurrency. Below 100 ms a request this binds before concurrency does.
//!
//! Source: AWS Lambda Developer Guide, "Lambda quotas" and "Understanding concurrency and requests per second":
//! 10 x the concurrency of the account, for all functions together, of a reservation, or of what is provisioned;
//! asynchronous invocations are not counted; published. The bucket's size is not: one second's worth is assumed.

use crate::tally::Tally;
use crate::token_bucket::{Refill, TokenBucket};
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// Requests per second that one unit of concurrency stands for.
pub const PER_CONCURRENCY: u32 = 10;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A bucket of requests: the account's, a reservation's or that of provisioned concurrency.
#[derive(Clone, Debug)]
pub struct RequestRate {
    limit: LimitId,
    bucket: TokenBucket,
    /// The second that is counted, from the start, and its requests so far.
    second: u64,
    in_second: u64,
    tally: Tally,
}

impl RequestRate {
    /// A full bucket of one second's worth of `per_second` requests.
    pub fn new(now: Instant, limit: LimitId, per_second: u32) -> Self {
        Self { limit, bucket: bucket(now, per_second), second: 0, in_second: 0, tally: Tally::default() }
    }

    /// Requests per second.
    pub const fn per_second(&self) -> u32 {
        self.bucket.capacity()
    }

    /// Changes the rate. What was taken from the bucket stays taken, so that changes make no tokens.
    pub fn set(&mut self, now: Instant, per_second: u32) {
        let spent = self.bucket.spent(now).min(per_second);
        self.bucket = bucket(now, per_second);
        self.bucket.take(now, spent);
    }

    /// Whether one more request may come. Changes nothing.
    #[inline]
    pub fn has_room(&self, now: Instant) -> bool {
        self.bucket.has(now, 1)
    }

    /// Whether one more request may come. Changes nothing but the count of refusals.
    ///
    /// # Errors
    /// The refusal names `resource` and says when the next token is there.
    #[inline]
    pub fn check(&mut self, now: Instant, resource: &Arc<str>) -> Result<(), Refusal> {
        if self.has_room(now) {
            return Ok(());
        }
        self.tally.refuse(now);
        Err(self.bucket.refusal(now, self.limit, resource))
    }

    /// Takes a token for one request, after a `check` at the same moment.
    #[inline]
    pub fn spend(&mut self, now: Instant) {
        self.bucket.take(now, 1);
        let second = now.as_nanos() / NANOS_PER_SECOND;
        if second != self.second {
            self.close_second();
            self.second = second;
        }
        self.in_second += 1;
    }

    /// The board's row. The peak is the most requests in one whole second of the clock, at most the maximum: a full
    /// bucket and its refill let more than that pass in the first second of a burst.
    pub fn row(&self, now: Instant, resource: &Arc<str>, source: &Arc<str>) -> LimitRow {
        let max = u64::from(self.bucket.capacity());
        let mut closed = self.clone();
        closed.close_second();
        let used = if now.as_nanos() / NANOS_PER_SECOND == self.second { self.in_second.min(max) } else { 0 };
        closed.tally.row(self.limit, resource, used, max, source)
    }

    fn close_second(&mut self) {
        self.tally.reach(self.in_second.min(u64::from(self.bucket.capacity())));
        self.in_second = 0;
    }
}

fn bucket(now: Instant, per_second: u32) -> TokenBucket {
    TokenBucket::new(now, per_second, Refill { tokens: per_second, period: Duration::from_secs(1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account() -> Arc<str> {
        "account".into()
    }

    fn ask(rate: &mut RequestRate, now: Instant) -> Result<(), Refusal> {
        rate.check(now, &account())?;
        rate.spend(now);
        Ok(())
    }

    #[test]
    fn fifty_milliseconds_at_twenty_thousand_a_second_pass_at_ten_thousand() {
        let mut rate = RequestRate::new(Instant::START, LimitId::RequestRate, 10_000);
        let passed = |rate: &mut RequestRate, second: u64| {
            let at = |index: u64| Instant::from_nanos(second * NANOS_PER_SECOND + index * 50_000);
            (0..20_000).filter(|index| ask(rate, at(*index)).is_ok()).count()
        };
        // The bucket's own second, and its refill while that is spent.
        assert_eq!(passed(&mut rate, 0), 19_999);
        for second in 1..10 {
            assert_eq!(passed(&mut rate, second), 10_000);
        }
        let row = rate.row(Instant::from_secs(10), &account(), &account());
        assert_eq!((row.max, row.peak, row.used, row.refused), (10_000, 10_000, 0, 90_001));
    }

    #[test]
    fn an_even_load_below_the_rate_shows_as_what_it_is() {
        let mut rate = RequestRate::new(Instant::START, LimitId::RequestRate, 100);
        for index in 0..140 {
            assert_eq!(ask(&mut rate, Instant::from_millis(index * 20)), Ok(()));
        }
        let row = rate.row(Instant::from_millis(2790), &account(), &account());
        assert_eq!((row.used, row.peak, row.refused), (40, 50, 0));
    }

    #[test]
    fn a_changed_rate_makes_no_tokens() {
        let mut rate = RequestRate::new(Instant::START, LimitId::ReservedRequestRate, 10);
        while ask(&mut rate, Instant::START).is_ok() {}
        rate.set(Instant::START, 5);
        rate.set(Instant::START, 10);
        assert_eq!((0..10).filter(|_| ask(&mut rate, Instant::START).is_ok()).count(), 5);
        rate.set(Instant::START, 0);
        let refusal = ask(&mut rate, Instant::from_secs(9)).unwrap_err();
        assert_eq!((refusal.used, refusal.max, refusal.retry_at), (0, 0, None));
    }

    proptest! {
        #[test]
        fn no_second_passes_more_than_twice_its_rate_and_the_peak_never_more_than_it(
            per_second in 1u32..50, times in prop::collection::vec(0u64..5_000_000_000, 1..400),
        ) {
            let mut times = times;
            times.sort_unstable();
            let mut rate = RequestRate::new(Instant::START, LimitId::RequestRate, per_second);
            let passed: Vec<u64> =
                times.into_iter().filter(|at| ask(&mut rate, Instant::from_nanos(*at)).is_ok()).collect();
            for start in &passed {
                let window = passed.iter().filter(|at| **at >= *start && **at < start + NANOS_PER_SECOND);
                prop_assert!(window.count() <= 2 * per_second as usize);
            }
            let row = rate.row(Instant::from_secs(5), &account(), &account());
            prop_assert!(row.peak <= u64::from(per_second));
        }
    }
}
