//! Whether to stay awake for the next packet, or to sleep until the kernel wakes us.
//!
//! Waking a sleeping thread costs more than a packet does, so while packets come in quick succession the thread polls
//! for a moment before it sleeps. Whether that pays is learnt: sleeps that were so short that polling would have spared
//! them speak for it, polls that found nothing speak against. A thread that is at rest sleeps.

use std::time::Duration;

/// How long one poll lasts at most.
pub(super) const POLL: Duration = Duration::from_micros(40);
/// From here on polling pays.
const TRUSTED: u8 = 4;
/// Highest trust: so many misses in a row, less `TRUSTED`, end the polling.
const TRUST_MAX: u8 = 8;

#[derive(Debug, Default)]
pub(super) struct Patience {
    trust: u8,
}

impl Patience {
    /// Whether to poll before sleeping.
    pub fn polls(&self) -> bool {
        self.trust >= TRUSTED
    }

    /// A sleep, or a poll, ended after that time with something to do.
    pub fn waited(&mut self, time: Duration) {
        self.trust =
            if time <= POLL { (self.trust + 1).min(TRUST_MAX) } else { self.trust.saturating_sub(1) };
    }

    /// A poll found nothing.
    pub fn missed(&mut self) {
        self.trust = self.trust.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_packets_are_waited_for_and_slow_ones_slept_for() {
        let mut patience = Patience::default();
        assert!(!patience.polls(), "at rest it sleeps");
        for _ in 0..TRUSTED {
            patience.waited(POLL / 2);
        }
        assert!(patience.polls());
        for _ in 0..100 {
            patience.waited(POLL / 2);
        }
        for _ in 0..=TRUST_MAX - TRUSTED {
            assert!(patience.polls());
            patience.missed();
        }
        assert!(!patience.polls());
        patience.waited(POLL * 2);
        assert!(!patience.polls());
    }
}
