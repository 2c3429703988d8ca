//! The client's side of a connection that nobody answers: when the next SYN goes out, and when the caller gives up.
//!
//! Source: Linux kernel documentation, `networking/ip-sysctl.rst`, `tcp_syn_retries` (6) with an initial time-out of 1 s
//! that doubles: SYNs at 0, 1, 3, 7, 15, 31 and 63 s, `ETIMEDOUT` at 127 s; published. Kernels from 6.5 on begin with
//! four linear time-outs; that Lambda's are older is assumed. A SYN that is dropped is no error to the client, so a later
//! one may succeed where room came free: connect times then cluster at 1, 3, 7, 15 and 31 s.

use model::Instant;
use std::time::Duration;

/// SYNs of one attempt: the first, and six more.
const SYNS: u8 = 7;

/// How long a caller waits, and how often it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The caller's own time-out of one attempt; without one, the kernel's 127 s.
    pub timeout: Option<Duration>,
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// From one failed attempt to the next.
    pub delay: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: None, attempts: 1, delay: Duration::ZERO }
    }
}

impl Patience {
    /// How long one attempt lasts when nobody answers.
    fn attempt(&self) -> Duration {
        self.timeout.map_or(since_first(SYNS), |timeout| timeout.min(since_first(SYNS)))
    }
}

/// One connect that waits for an answer: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    began: Instant,
    attempt_began: Instant,
    attempts_left: u32,
    /// SYNs of this attempt that went out.
    syns: u8,
}

/// What follows on a SYN that nobody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another SYN at this moment, which is of a new attempt if that is said.
    Syn {
        /// When.
        at: Instant,
        /// The attempt before it has failed.
        anew: bool,
    },
    /// No other; the caller learns at this moment that it failed.
    Failed(Instant),
}

impl Connect {
    /// A connect whose first SYN goes out at `now`.
    pub fn begin(now: Instant, patience: &Patience) -> Self {
        Self { began: now, attempt_began: now, attempts_left: patience.attempts.saturating_sub(1), syns: 1 }
    }

    /// When it began.
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// The name has resolved at `now`: the first SYN of this attempt goes out, and its time begins.
    pub fn resolved(&mut self, now: Instant) {
        self.attempt_began = now;
    }

    /// The last SYN got no answer. What comes next; a SYN at the very end of an attempt is not sent.
    pub fn dropped(&mut self, patience: &Patience) -> Next {
        let next = self.attempt_began + since_first(self.syns);
        let end = self.attempt_began + patience.attempt();
        if self.syns < SYNS && next < end {
            self.syns += 1;
            return Next::Syn { at: next, anew: false };
        }
        self.attempt_failed(end, patience)
    }

    /// The last SYN was answered at `now`, with a refusal: the attempt has failed. What comes next.
    pub fn refused(&mut self, now: Instant, patience: &Patience) -> Next {
        self.attempt_failed(now, patience)
    }

    fn attempt_failed(&mut self, at: Instant, patience: &Patience) -> Next {
        if self.attempts_left == 0 {
            return Next::Failed(at);
        }
        self.attempts_left -= 1;
        self.attempt_began = at + patience.delay;
        self.syns = 1;
        Next::Syn { at: self.attempt_began, anew: true }
    }
}

/// From the first SYN to the one after `syns` of them: 2^syns - 1 seconds.
const fn since_first(syns: u8) -> Duration {
    Duration::from_secs((1 << syns) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(patience: &Patience) -> (Vec<u64>, u64) {
        let mut connect = Connect::begin(Instant::START, patience);
        let mut syns = vec![0];
        loop {
            match connect.dropped(patience) {
                Next::Syn { at, .. } => syns.push(at.as_nanos() / 1_000_000_000),
                Next::Failed(at) => return (syns, at.as_nanos() / 1_000_000_000),
            }
        }
    }

    #[test]
    fn the_kernel_sends_seven_syns_and_gives_up_after_127_s() {
        assert_eq!(seconds(&Patience::default()), (vec![0, 1, 3, 7, 15, 31, 63], 127));
        let longer = Patience { timeout: Some(Duration::from_secs(500)), ..Patience::default() };
        assert_eq!(seconds(&longer).1, 127);
        assert_eq!(size_of::<Connect>(), 24);
    }

    #[test]
    fn the_callers_time_out_ends_it_earlier() {
        let patience = Patience { timeout: Some(Duration::from_secs(30)), ..Patience::default() };
        assert_eq!(seconds(&patience), (vec![0, 1, 3, 7, 15], 30));
        let patience = Patience { timeout: Some(Duration::from_secs(3)), ..Patience::default() };
        assert_eq!(seconds(&patience), (vec![0, 1], 3));
    }

    #[test]
    fn a_caller_that_tries_again_begins_anew() {
        let patience =
            Patience { timeout: Some(Duration::from_secs(2)), attempts: 3, delay: Duration::from_secs(3) };
        assert_eq!(seconds(&patience), (vec![0, 1, 5, 6, 10, 11], 12));
    }

    #[test]
    fn a_refusal_that_is_told_ends_the_attempt_at_once() {
        let patience = Patience { timeout: None, attempts: 2, delay: Duration::from_secs(3) };
        let mut connect = Connect::begin(Instant::START, &patience);
        let again = Next::Syn { at: Instant::from_secs(3), anew: true };
        assert_eq!(connect.refused(Instant::START, &patience), again);
        let failed = Next::Failed(Instant::from_secs(3));
        assert_eq!(connect.refused(Instant::from_secs(3), &patience), failed);
    }

    proptest! {
        #[test]
        fn time_goes_on_and_every_connect_ends(
            timeout in prop::option::of(0u64..200_000), attempts in 0u32..20, delay in 0u64..10_000,
        ) {
            let patience = Patience {
                timeout: timeout.map(Duration::from_millis), attempts, delay: Duration::from_millis(delay),
            };
            let mut connect = Connect::begin(Instant::from_secs(5), &patience);
            let (mut last, mut count) = (connect.began(), 1);
            loop {
                match connect.dropped(&patience) {
                    Next::Syn { at, .. } => {
                        prop_assert!(at >= last);
                        (last, count) = (at, count + 1);
                    }
                    Next::Failed(at) => {
                        prop_assert!(at >= last && count <= 7 * attempts.max(1));
                        let most = (patience.attempt() + patience.delay) * attempts.max(1);
                        prop_assert!(at <= connect.began() + most);
                        break;
                    }
                }
            }
        }
    }
}
