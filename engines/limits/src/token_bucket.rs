//! A token bucket in integer nanoseconds that keeps the fraction of a token between grants.
//!
//! With a refill of `tokens` per `period`, the level is kept in units of 1/period of a token: one
//! token is `period` units (in nanoseconds), and each nanosecond adds `tokens` units. Both are whole
//! numbers, so nothing is ever rounded: 500 tokens a minute are exactly 500 after a minute, however
//! often the bucket was asked in between.
//!
//! Overflow: a level is at most `capacity * period` < 2^32 * 2^64, a refill at most
//! `elapsed * tokens` < 2^64 * 2^32. Their sum is below 2^97 and fits a u128; no step can wrap.

use model::time::nanos;
use model::{Instant, LimitId, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// How fast a bucket refills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// Tokens gained in each period; 0 means that what is spent is gone.
    pub tokens: u32,
    /// The period; a zero period counts as 1 ns.
    pub period: Duration,
}

/// A bucket of tokens, refilled continuously up to its capacity. It starts full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    level: u128,
    full: u128,
    token: u64,
    gain: u32,
    capacity: u32,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(now: Instant, capacity: u32, refill: Refill) -> Self {
        let token = nanos(refill.period).max(1);
        let full = u128::from(capacity) * u128::from(token);
        Self { level: full, full, token, gain: refill.tokens, capacity, at: now }
    }

    /// The most tokens that it holds.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Takes `wanted` tokens, all or none; whether it did. A `now` before the last one counts as the last one.
    #[inline]
    pub fn take(&mut self, now: Instant, wanted: u32) -> bool {
        self.refill(now);
        let price = u128::from(wanted) * u128::from(self.token);
        if self.level < price {
            return false;
        }
        self.level -= price;
        true
    }

    /// Whether `take` would succeed.
    #[inline]
    pub fn has(&self, now: Instant, wanted: u32) -> bool {
        self.level_at(now) >= u128::from(wanted) * u128::from(self.token)
    }

    /// Takes up to `wanted` tokens and says how many.
    pub fn take_up_to(&mut self, now: Instant, wanted: u32) -> u32 {
        let granted = wanted.min(self.available(now));
        self.take(now, granted);
        granted
    }

    /// Whole tokens that could be taken at `now`.
    pub fn available(&self, now: Instant) -> u32 {
        let level = self.level_at(now);
        // Most levels fit 64 bits, whose division is many times as fast.
        let whole = match u64::try_from(level) {
            Ok(level) => u128::from(level / self.token),
            Err(_) => level / u128::from(self.token),
        };
        u32::try_from(whole).expect("a level never exceeds the capacity, a u32")
    }

    /// Whether not even a fraction of a token is missing.
    #[inline]
    pub fn is_full(&self, now: Instant) -> bool {
        self.level_at(now) == self.full
    }

    /// Tokens missing from a full bucket at `now`; a begun token counts as missing.
    pub fn spent(&self, now: Instant) -> u32 {
        self.capacity - self.available(now)
    }

    /// The first moment at which `wanted` tokens can be taken if nobody else takes any: `now` if they are
    /// there, `None` if they never will be.
    pub fn ready_at(&self, now: Instant, wanted: u32) -> Option<Instant> {
        let price = u128::from(wanted) * u128::from(self.token);
        let level = self.level_at(now);
        if level >= price {
            return Some(now.max(self.at));
        }
        if wanted > self.capacity || self.gain == 0 {
            return None;
        }
        // Rounded up: a nanosecond earlier a fraction would still be missing.
        let wait = (price - level).div_ceil(u128::from(self.gain));
        Some(now.max(self.at) + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// What is said when a token is wanted of `limit` and none is there: the tokens missing, and when the next one comes.
    pub(crate) fn refusal(&self, now: Instant, limit: LimitId, resource: &Arc<str>) -> Refusal {
        Refusal {
            limit,
            resource: Arc::clone(resource),
            destination: None,
            used: u64::from(self.spent(now)),
            max: u64::from(self.capacity),
            retry_at: self.ready_at(now, 1),
        }
    }

    #[inline]
    fn refill(&mut self, now: Instant) {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
    }

    #[inline]
    fn level_at(&self, now: Instant) -> u128 {
        let elapsed = now.as_nanos().saturating_sub(self.at.as_nanos());
        let gained = u128::from(elapsed) * u128::from(self.gain);
        (self.level + gained).min(self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn per_second(tokens: u32) -> Refill {
        Refill { tokens, period: Duration::from_secs(1) }
    }

    /// How many of `count` requests pass that come evenly over one second starting at `from_s`.
    fn passed(bucket: &mut TokenBucket, from_s: u64, count: u64) -> u64 {
        let at = |index: u64| Instant::from_nanos(from_s * 1_000_000_000 + index * 1_000_000_000 / count);
        (0..count).filter(|index| bucket.take(at(*index), 1)).count() as u64
    }

    #[test]
    fn without_a_bucket_ten_of_two_hundred_a_second_pass() {
        // Seed S2-2: quota 10 rps, a client sends 200 rps, 190 are throttled.
        let mut quota = TokenBucket::new(Instant::START, 1, per_second(10));
        for second in 0..60 {
            assert_eq!(passed(&mut quota, second, 200), 10);
        }
    }

    #[test]
    fn a_bucket_of_two_hundred_lets_a_burst_pass_and_then_its_refill() {
        // Seed S2-3: bucket 200, refill 10/s; then 50/s with the same burst.
        for refill in [10, 50] {
            let mut bucket = TokenBucket::new(Instant::START, 200, per_second(refill));
            assert_eq!((0..1000).filter(|_| bucket.take(Instant::START, 1)).count(), 200);
            // The first second's own refill starts at zero, so its first request finds nothing.
            assert_eq!(passed(&mut bucket, 0, 200), u64::from(refill) - 1);
            for second in 1..60 {
                assert_eq!(passed(&mut bucket, second, 200), u64::from(refill));
            }
        }
    }

    #[test]
    fn the_fraction_of_a_token_is_kept_between_requests() {
        // 500 a minute are one in 120 ms; asking every 7 ms must not lose any of it.
        let refill = Refill { tokens: 500, period: Duration::from_secs(60) };
        let mut bucket = TokenBucket::new(Instant::START, 1000, refill);
        assert!(bucket.take(Instant::START, 1000));
        let granted = (0..=60_000 / 7).filter(|step| bucket.take(Instant::from_millis(step * 7), 1)).count();
        assert_eq!(granted, 499);
        assert!(bucket.take(Instant::from_secs(60), 1));
    }

    #[test]
    fn the_largest_figures_do_not_overflow() {
        let refill = Refill { tokens: u32::MAX, period: Duration::MAX };
        let mut bucket = TokenBucket::new(Instant::START, u32::MAX, refill);
        assert!(bucket.take(Instant::START, u32::MAX));
        assert_eq!(bucket.ready_at(Instant::START, u32::MAX), Some(Instant::NEVER));
        assert!(bucket.take(Instant::NEVER, u32::MAX));
        assert!(!bucket.take(Instant::NEVER, 1));
    }

    #[test]
    fn a_bucket_that_never_refills_says_never() {
        let mut bucket = TokenBucket::new(Instant::START, 2, per_second(0));
        assert_eq!(bucket.take_up_to(Instant::START, 5), 2);
        assert_eq!(bucket.ready_at(Instant::from_secs(9), 1), None);
        let empty = TokenBucket::new(Instant::START, 0, per_second(5));
        assert_eq!(empty.ready_at(Instant::START, 1), None);
    }

    proptest! {
        #[test]
        fn tokens_are_neither_lost_nor_made(
            capacity in 0u32..2000, tokens in 0u32..2000, period in 1u64..100_000_000_000,
            steps in prop::collection::vec((0u64..50_000_000_000, 0u32..3000), 1..80),
        ) {
            let refill = Refill { tokens, period: Duration::from_nanos(period) };
            let mut bucket = TokenBucket::new(Instant::START, capacity, refill);
            // The reference keeps the level as one fraction with the period as its denominator.
            let (mut level, mut now) = (u128::from(capacity) * u128::from(period), 0u64);
            for (wait, wanted) in steps {
                now += wait;
                level = (level + u128::from(wait) * u128::from(tokens))
                    .min(u128::from(capacity) * u128::from(period));
                let expected = u128::from(wanted).min(level / u128::from(period));
                level -= expected * u128::from(period);
                prop_assert_eq!(u128::from(bucket.take_up_to(Instant::from_nanos(now), wanted)), expected);
            }
        }

        #[test]
        fn no_window_grants_more_than_capacity_and_refill(
            capacity in 1u32..500, tokens in 1u32..500,
            times in prop::collection::vec(0u64..20_000_000_000, 1..400),
        ) {
            let mut times = times;
            times.sort_unstable();
            let mut bucket = TokenBucket::new(Instant::START, capacity, per_second(tokens));
            let granted: Vec<u64> =
                times.into_iter().filter(|at| bucket.take(Instant::from_nanos(*at), 1)).collect();
            for (first, start) in granted.iter().enumerate() {
                for (last, end) in granted.iter().enumerate().skip(first) {
                    let most = u128::from(capacity)
                        + u128::from(end - start) * u128::from(tokens) / 1_000_000_000;
                    prop_assert!((last - first + 1) as u128 <= most);
                }
            }
        }

        #[test]
        fn it_is_ready_exactly_when_it_says(
            capacity in 1u32..500, tokens in 1u32..500, period in 1u64..100_000_000_000, wanted in 1u32..500,
        ) {
            let refill = Refill { tokens, period: Duration::from_nanos(period) };
            let mut bucket = TokenBucket::new(Instant::START, capacity, refill);
            bucket.take(Instant::START, capacity);
            match bucket.ready_at(Instant::START, wanted) {
                None => prop_assert!(wanted > capacity),
                Some(at) => {
                    let before = Instant::from_nanos(at.as_nanos() - 1);
                    prop_assert!(!bucket.clone().take(before, wanted));
                    prop_assert!(bucket.take(at, wanted));
                }
            }
        }

        #[test]
        fn asking_in_between_or_backwards_changes_nothing(
            times in prop::collection::vec(0u64..10_000_000_000, 1..50),
        ) {
            let mut asked = TokenBucket::new(Instant::START, 100, per_second(3));
            asked.take(Instant::START, 100);
            let quiet = asked.clone();
            for at in &times {
                asked.take(Instant::from_nanos(*at), 101);
            }
            let end = Instant::from_secs(11);
            prop_assert_eq!(asked.level_at(end), quiet.level_at(end));
        }
    }
}
