//! What one invocation is billed, and what a function's invocations add up to.
//!
//! Sources: AWS Lambda pricing page (a request, and GB-seconds rounded up to 1 ms since 2020-12-01, to 100 ms before);
//! AWS Compute Blog, "AWS Lambda standardizes billing for INIT Phase" (until 2025-07-31 INIT of zip packages with managed
//! runtimes on demand was free, since then it is always billed); Lambda Developer Guide, "Lambda execution environment",
//! examples of REPORT lines: Duration 133.61 + Init 80.00 are billed as 214; published.

use std::fmt;
use std::time::Duration;

const NANOS_PER_MS: u64 = 1_000_000;
/// Memory of one GB, in MB: a function of 1,024 MB uses one GB-second a second.
pub const MB_PER_GB: u64 = 1_024;

/// How durations become Billed Duration, at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillingRules {
    /// INIT of zip packages with managed runtimes is billed; that of images and custom runtimes always is.
    pub init_billed: bool,
    /// Billed Duration is a whole number of these, ms: 1, or 100 until 2020-11. Never 0.
    pub step_ms: u64,
}

/// The times of one invocation that are billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The invocation, a suppressed INIT included.
    pub duration: Duration,
    /// INIT before it; zero on a warm environment.
    pub init: Duration,
    /// The package is an image or has a custom runtime.
    pub init_always_billed: bool,
}

impl BillingRules {
    /// Billed Duration in ms: the sum rounded up once, not each part.
    ///
    /// Overflow: durations of up to 584 years fit the u64 nanoseconds; sums saturate.
    pub fn billed_ms(&self, times: &Times) -> u64 {
        let init = if self.init_billed || times.init_always_billed { times.init } else { Duration::ZERO };
        let nanos = u64::try_from(times.duration.saturating_add(init).as_nanos()).unwrap_or(u64::MAX);
        let step = self.step_ms.max(1);
        nanos.div_ceil(NANOS_PER_MS).div_ceil(step).saturating_mul(step)
    }
}

/// What a function's invocations add up to. Counters saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Invocations, failed and timed-out ones included; refused ones are free.
    pub requests: u64,
    /// Billed Duration of all, ms.
    pub billed_ms: u64,
}

impl Usage {
    /// One more invocation.
    pub fn add(&mut self, billed_ms: u64) {
        self.requests = self.requests.saturating_add(1);
        self.billed_ms = self.billed_ms.saturating_add(billed_ms);
    }

    /// Memory times billed time, exactly: 1,024,000 MB-milliseconds are a GB-second. u64 * u32 fits u128.
    pub fn mb_ms(&self, memory_mb: u32) -> u128 {
        u128::from(self.billed_ms) * u128::from(memory_mb)
    }
}

/// Milliseconds as a REPORT line has them: two decimals, halves up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub Duration);

impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.0.as_nanos() + 5_000) / 10_000;
        write!(formatter, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEFORE: BillingRules = BillingRules { init_billed: false, step_ms: 1 };
    const TODAY: BillingRules = BillingRules { init_billed: true, step_ms: 1 };
    const IN_2019: BillingRules = BillingRules { init_billed: false, step_ms: 100 };

    fn times(duration_us: u64, init_us: u64, init_always_billed: bool) -> Times {
        let [duration, init] = [duration_us, init_us].map(Duration::from_micros);
        Times { duration, init, init_always_billed }
    }

    #[test]
    fn report_lines_of_the_field_come_out() {
        // Seed S4-15: an image pays for its INIT at any time.
        let image = times(3_510, 9_249_760, true);
        assert_eq!([BEFORE, TODAY].map(|rules| rules.billed_ms(&image)), [9254, 9254]);
        assert_eq!(Millis(image.init).to_string(), "9249.76");
        // Seed S4-17: a zip package with a managed runtime did not, and does today.
        let zip = times(409_460, 2_397_350, false);
        assert_eq!([BEFORE, TODAY].map(|rules| rules.billed_ms(&zip)), [410, 2807]);
        assert_eq!(Millis(zip.duration).to_string(), "409.46");
        // Lambda Developer Guide's examples, the second one a time-out.
        assert_eq!(TODAY.billed_ms(&times(133_610, 80_000, false)), 214);
        assert_eq!(TODAY.billed_ms(&times(3_016_780, 84_000, false)), 3101);
    }

    #[test]
    fn a_hundred_milliseconds_were_the_unit() {
        for (duration_us, billed) in [(1, 100), (100_000, 100), (100_001, 200), (0, 0)] {
            assert_eq!(IN_2019.billed_ms(&times(duration_us, 500_000, false)), billed, "{duration_us}");
        }
    }

    proptest! {
        #[test]
        fn billed_is_never_less_than_the_time_and_at_most_one_step_more(
            duration in 0..u64::MAX / 2_000, init in 0..u64::MAX / 2_000, step in 1..1000_u64, billed in any::<bool>(),
        ) {
            let rules = BillingRules { init_billed: billed, step_ms: step };
            let (times, free) = (times(duration, init, false), if billed { 0 } else { init });
            let us = duration + init - free;
            let found = rules.billed_ms(&times);
            prop_assert!(found.is_multiple_of(step) && found * 1000 >= us && found.saturating_sub(step) * 1000 <= us);
        }

        #[test]
        fn usage_adds_up(billed in prop::collection::vec(0..1_000_000_u64, 0..50), memory in 128..10_240_u32) {
            let mut usage = Usage::default();
            billed.iter().for_each(|ms| usage.add(*ms));
            prop_assert_eq!(usage.requests, billed.len() as u64);
            prop_assert_eq!(usage.mb_ms(memory), billed.iter().map(|ms| u128::from(*ms) * u128::from(memory)).sum());
        }
    }
}
