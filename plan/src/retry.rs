//! What a client does after an answer that is worth another try: the retry modes of AWS's SDKs.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Retry behavior", read 2026-11-21 (published), as SDKs do it unless
//! `AWS_NEW_RETRIES_2026` is set: three attempts; before each retry a random share of 1 s, then of 2 s, at most 20 s; a
//! quota of 500 from which a retry takes 5, after a time-out 10, and to which a success gives what its last retry took,
//! or 1 without a retry. Adaptive mode also limits the rate at which a client sends, by the CUBIC formula, once it was
//! throttled; its figures are those that SDKs carry (botocore `retries/adaptive.py`, smithy-rs
//! `client_rate_limiter.rs`).

use crate::random::Stream;
use model::Instant;
use std::time::Duration;

/// Attempts of one request in all.
pub const ATTEMPTS_MAX: u8 = 3;
/// The longest back-off.
const BACKOFF_MAX_S: f64 = 20.0;

const QUOTA: u16 = 500;
const RETRY_COST: u16 = 5;
const TIMEOUT_COST: u16 = 10;
const NO_RETRY_INCREMENT: u16 = 1;

/// Share of the rate that is kept after a throttle.
const BETA: f64 = 0.7;
/// How fast the rate grows again.
const SCALE: f64 = 0.4;
/// Weight of the newest half second in the measured rate.
const SMOOTHING: f64 = 0.8;
/// The rate is measured over so many parts of a second.
const BUCKETS_PER_SECOND: f64 = 2.0;
const FILL_RATE_MIN: f64 = 0.5;
const CAPACITY_MIN: f64 = 1.0;
/// The rate grows at most to so many times what was measured.
const GROWTH_MAX: f64 = 2.0;
/// No wait is longer: at the lowest rate it is that of ten thousand requests before.
const WAIT_MAX_S: f64 = 20_000.0;

/// A retry mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whatever comes is the answer.
    #[default]
    None,
    /// Retries with back-off, within a quota.
    Standard,
    /// As standard, and throttles slow the client down.
    Adaptive,
}

/// The words for [`Mode`], in its order.
pub const MODES: &[&str] = &["none", "standard", "adaptive"];

impl Mode {
    /// The mode of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "standard" => Some(Self::Standard),
            "adaptive" => Some(Self::Adaptive),
            _ => None,
        }
    }
}

/// An answer that is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Status 429.
    Throttled,
    /// A status from 500 on.
    Server,
    /// The client waited no longer.
    Timeout,
}

/// One client with its quota: of a user, or of all requests of an open loop.
#[derive(Clone, Debug)]
pub struct Client {
    quota: u16,
    limiter: Option<Box<Limiter>>,
}

impl Client {
    /// A client that has sent nothing yet.
    pub fn new(mode: Mode) -> Self {
        let limiter = (mode == Mode::Adaptive).then(Box::default);
        Self { quota: QUOTA, limiter }
    }

    /// When an attempt that is wanted at `now` is sent. Its token is taken: the answer holds, and is not asked again.
    pub fn sends_at(&mut self, now: Instant) -> Instant {
        self.limiter.as_mut().map_or(now, |limiter| limiter.take(now))
    }

    /// An attempt was answered, or waited for no longer. Of each attempt once, before [`retry`](Self::retry).
    pub fn hears(&mut self, now: Instant, failure: Option<Failure>) {
        if let Some(limiter) = &mut self.limiter {
            limiter.update(now, failure == Some(Failure::Throttled));
        }
    }

    /// How long the client waits until its next attempt, after so many of them, and what that takes of its quota;
    /// `None` when it gives the failure back.
    pub fn retry(&mut self, failure: Failure, attempts: u8, stream: &mut Stream) -> Option<(Duration, u16)> {
        let cost = if failure == Failure::Timeout { TIMEOUT_COST } else { RETRY_COST };
        if attempts >= ATTEMPTS_MAX || self.quota < cost {
            return None;
        }
        self.quota -= cost;
        let most = libm::fmin(libm::exp2(f64::from(attempts) - 1.0), BACKOFF_MAX_S);
        Some((Duration::from_nanos((stream.unit() * most * 1e9) as u64), cost))
    }

    /// A request has succeeded, whose last retry took so much of the quota; 0 without one.
    pub fn succeeded(&mut self, cost: u16) {
        let back = if cost == 0 { NO_RETRY_INCREMENT } else { cost };
        self.quota = (self.quota + back).min(QUOTA);
    }
}

/// How fast a client sends in adaptive mode. Rates are requests per second; times are seconds from the plan's start.
#[derive(Clone, Debug, Default)]
struct Limiter {
    /// It was throttled once; before, nothing is held back.
    enabled: bool,
    fill_rate: f64,
    capacity_max: f64,
    /// Tokens; below 0 when some were promised.
    capacity: f64,
    filled_at: f64,
    measured: f64,
    /// Answers in the half second that is being measured, and when that began.
    count: f64,
    bucket: f64,
    /// The rate at the last throttle, when that was, and how long the curve takes back to it.
    rate_max: f64,
    throttled_at: f64,
    window: f64,
}

impl Limiter {
    fn take(&mut self, now: Instant) -> Instant {
        if !self.enabled {
            return now;
        }
        self.fill(seconds(now));
        self.capacity -= 1.0;
        if self.capacity >= 0.0 {
            return now;
        }
        let wait = libm::fmin(-self.capacity / self.fill_rate, WAIT_MAX_S);
        now + Duration::from_nanos(libm::ceil(wait * 1e9) as u64)
    }

    fn fill(&mut self, now: f64) {
        self.capacity = libm::fmin(
            self.capacity_max,
            self.capacity + libm::fmax(now - self.filled_at, 0.0) * self.fill_rate,
        );
        self.filled_at = now;
    }

    fn update(&mut self, now: Instant, throttled: bool) {
        let now = seconds(now);
        self.measure(now);
        let rate = if throttled {
            let rate = if self.enabled { libm::fmin(self.measured, self.fill_rate) } else { self.measured };
            self.rate_max = rate;
            self.throttled_at = now;
            self.window = libm::cbrt(rate * (1.0 - BETA) / SCALE);
            if !self.enabled {
                self.filled_at = now;
            }
            self.enabled = true;
            rate * BETA
        } else {
            self.curve(now)
        };
        let rate = libm::fmin(rate, GROWTH_MAX * self.measured);
        if self.enabled {
            self.fill(now);
        }
        self.fill_rate = libm::fmax(rate, FILL_RATE_MIN);
        self.capacity_max = libm::fmax(rate, CAPACITY_MIN);
        self.capacity = libm::fmin(self.capacity, self.capacity_max);
    }

    /// The rate that was throttled, reached again after the window: slowly around it, faster before and after.
    fn curve(&self, now: f64) -> f64 {
        let since = now - self.throttled_at - self.window;
        SCALE * since * since * since + self.rate_max
    }

    fn measure(&mut self, now: f64) {
        self.count += 1.0;
        let bucket = libm::floor(now * BUCKETS_PER_SECOND) / BUCKETS_PER_SECOND;
        if bucket > self.bucket {
            let rate = self.count / (bucket - self.bucket);
            self.measured = rate * SMOOTHING + self.measured * (1.0 - SMOOTHING);
            self.count = 0.0;
            self.bucket = bucket;
        }
    }
}

fn seconds(at: Instant) -> f64 {
    at.as_nanos() as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream() -> Stream {
        Stream::new(1, "retry", "test")
    }

    fn at(seconds: f64) -> Instant {
        Instant::from_nanos((seconds * 1e9) as u64)
    }

    #[test]
    fn three_attempts_with_a_jitter_that_doubles() {
        let mut stream = stream();
        let mut longest = [0.0_f64; 2];
        for _ in 0..1000 {
            let mut client = Client::new(Mode::Standard);
            for attempts in [1, 2] {
                let (delay, cost) = client.retry(Failure::Server, attempts, &mut stream).unwrap();
                assert_eq!(cost, 5);
                let most = &mut longest[usize::from(attempts) - 1];
                *most = most.max(delay.as_secs_f64());
            }
            assert_eq!(client.retry(Failure::Server, 3, &mut stream), None);
        }
        assert!(longest[0] < 1.0 && longest[0] > 0.99, "{longest:?}");
        assert!(longest[1] < 2.0 && longest[1] > 1.98, "{longest:?}");
    }

    #[test]
    fn the_quota_ends_retries_until_requests_succeed() {
        let mut client = Client::new(Mode::Standard);
        let mut stream = stream();
        let retries = std::iter::from_fn(|| client.retry(Failure::Throttled, 1, &mut stream)).count();
        assert_eq!(retries, 100);
        client.succeeded(0);
        assert_eq!(client.retry(Failure::Throttled, 1, &mut stream), None, "one token is not enough");
        (0..4).for_each(|_| client.succeeded(0));
        assert!(client.retry(Failure::Throttled, 1, &mut stream).is_some());
        client.succeeded(5);
        assert_eq!(client.retry(Failure::Timeout, 1, &mut stream), None, "a time-out takes ten");
        assert!(client.retry(Failure::Server, 1, &mut stream).is_some());
        (0..1000).for_each(|_| client.succeeded(0));
        assert_eq!(client.quota, QUOTA);
    }

    // The steps that the SDKs' own tests expect of the curve: botocore `tests/unit/retries/test_throttling.py`,
    // smithy-rs `client_rate_limiter.rs`.
    #[test]
    fn the_rate_falls_at_a_throttle_and_follows_the_curve_back() {
        let mut limiter = Limiter { rate_max: 10.0, throttled_at: 5.0, ..Limiter::default() };
        limiter.window = libm::cbrt(10.0 * (1.0 - BETA) / SCALE);
        let expected = [7.0, 9.648_936, 10.000_031, 10.453_285, 13.408_697, 21.266_268, 36.425_999];
        for (second, expected) in expected.into_iter().enumerate() {
            let rate = limiter.curve(5.0 + second as f64);
            assert!((rate - expected).abs() < 1e-5, "{second}: {rate}");
        }
    }

    #[test]
    fn nothing_is_held_back_before_the_first_throttle() {
        let mut client = Client::new(Mode::Adaptive);
        for index in 0..100 {
            let now = at(f64::from(index) * 0.01);
            assert_eq!(client.sends_at(now), now);
            client.hears(now, None);
        }
        client.hears(at(1.0), Some(Failure::Throttled));
        let waits: Vec<Instant> = (0..200).map(|_| client.sends_at(at(1.0))).collect();
        assert!(waits.is_sorted() && *waits.last().unwrap() > at(1.5), "{waits:?}");
    }

    #[test]
    fn a_throttled_client_settles_near_what_is_let_through() {
        // A service that takes 20 a second, and a client that would send 100.
        let mut client = Client::new(Mode::Adaptive);
        let (mut served_in, mut second, mut sent, mut throttled) = (0, 0, 0_u32, 0_u32);
        let mut now = Instant::START;
        while now < at(60.0) {
            now = client.sends_at(now + Duration::from_millis(10));
            let this = now.as_nanos() / 1_000_000_000;
            if this != second {
                (second, served_in) = (this, 0);
            }
            served_in += 1;
            let refused = served_in > 20;
            client.hears(now, refused.then_some(Failure::Throttled));
            if second >= 20 {
                sent += 1;
                throttled += u32::from(refused);
            }
        }
        assert!(sent > 300, "{sent} in 40 s");
        assert!(throttled * 4 < sent, "{throttled} of {sent}: without the limiter it is four of five");
    }

    proptest! {
        #[test]
        fn no_wait_is_negative_endless_or_out_of_order(
            events in prop::collection::vec((0u64..2_000_000_000, any::<bool>()), 1..300)
        ) {
            let mut client = Client::new(Mode::Adaptive);
            let mut now = Instant::START;
            for (step, throttled) in events {
                now += Duration::from_nanos(step);
                let sent = client.sends_at(now);
                prop_assert!(sent >= now && sent.since(now) <= Duration::from_secs(20_001));
                client.hears(now, throttled.then_some(Failure::Throttled));
                let limiter = client.limiter.as_ref().unwrap();
                prop_assert!(limiter.fill_rate.is_finite() && limiter.fill_rate >= FILL_RATE_MIN);
            }
        }
    }
}
