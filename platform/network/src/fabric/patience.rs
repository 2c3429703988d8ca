//! Whether to stay awake for the next packet, or to sleep until the kernel wakes us.
//!
//! Waking a sleeping thread costs more than a packet does, so while packets come in quick succession the thread polls
//! for a moment before it sleeps. Whether that pays is learnt: sleeps that were so short that polling would have spared
//! them speak for it, polls that found nothing speak against. Where others want the core they get it: a thread that sleeps
//! is woken before them, one that polls waits for its turn. A thread that is at rest sleeps.

use std::time::Duration;

/// How long one poll lasts at most: about as long as it takes until a sleeping core has woken and answered.
pub(super) const POLL: Duration = Duration::from_micros(50);
/// A look that takes so long was interrupted by somebody who wants the core for himself.
pub(super) const CROWDED: Duration = Duration::from_micros(300);
/// A sleep that takes so long was rest.
const REST: Duration = Duration::from_millis(1);
/// From here on polling pays: a few packets in a row are one exchange, which is over before a poll can help.
const TRUSTED: i32 = 16;
/// Highest trust: so many misses in a row, less `TRUSTED`, end the polling.
const TRUST_MAX: i32 = 32;
/// Trust on a crowded core: so many quick packets, and `TRUSTED`, until polling is tried again.
const DISTRUST: i32 = -1_000;

#[derive(Debug, Default)]
pub(super) struct Patience {
    trust: i32,
}

impl Patience {
    /// Whether to poll before sleeping.
    pub fn polls(&self) -> bool {
        self.trust >= TRUSTED
    }

    /// A sleep, or a poll, ended after that time with something to do.
    pub fn waited(&mut self, time: Duration) {
        if time <= POLL {
            self.trust = (self.trust + 1).min(TRUST_MAX);
        } else if time >= REST {
            self.trust = self.trust.min(0);
        } else {
            self.missed();
        }
    }

    /// A poll found nothing.
    pub fn missed(&mut self) {
        if self.trust > 0 {
            self.trust -= 1;
        }
    }

    /// A poll was interrupted.
    pub fn crowded(&mut self) {
        self.trust = DISTRUST;
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
    }

    #[test]
    fn an_exchange_now_and_then_is_slept_for() {
        let mut patience = Patience::default();
        for packet in 0..1_000 {
            patience.waited(if packet % 4 == 0 { REST } else { POLL / 2 });
            assert!(!patience.polls());
        }
    }

    #[test]
    fn a_crowded_core_is_left_to_others_for_a_while() {
        let mut patience = Patience { trust: TRUST_MAX };
        patience.crowded();
        for _ in 0..TRUSTED - DISTRUST {
            assert!(!patience.polls());
            patience.waited(POLL / 2);
        }
        assert!(patience.polls());
        patience.crowded();
        patience.waited(REST);
        assert_eq!(patience.trust, DISTRUST, "rest says nothing of the crowd");
    }
}
