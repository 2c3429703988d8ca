//! What a person should know: which limit dropped whose SYN, at most once a second for each, and what an environment
//! was refused while an invocation ran.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Instant, LimitId, Refusal};

/// Time between two notices about the same limit of the same thing.
const PERIOD: Duration = Duration::from_secs(1);
/// Most limits remembered; beyond it the memory starts anew, and a notice may come early.
const REMEMBERED_MAX: usize = 4_096;

/// A dropped packet.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The limit with its figures.
    pub refusal: Refusal,
    /// The function's name.
    pub function: Arc<str>,
    /// `SYN`, or the protocol's name.
    pub what: &'static str,
    /// From where, inside the environment.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// How many drops it stands for.
    pub times: u64,
}

/// Tells which drops are told.
#[derive(Debug, Default)]
pub(super) struct Notices {
    said: BTreeMap<(LimitId, Arc<str>), (Instant, u64)>,
}

impl Notices {
    /// How many drops the notice that is due stands for; `None` while none is due.
    pub fn due(&mut self, now: Instant, refusal: &Refusal) -> Option<u64> {
        let key = (refusal.limit, refusal.resource.clone());
        if let Some((at, silent)) = self.said.get_mut(&key) {
            if now.since(*at) < PERIOD {
                *silent += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(silent) + 1);
        }
        if self.said.len() >= REMEMBERED_MAX {
            self.said.clear();
        }
        self.said.insert(key, (now, 0));
        Some(1)
    }
}

/// The last refusals of one environment's, kept for its invocation: that of a limit that says no, and that of one that only
/// slows down.
#[derive(Debug, Default)]
pub struct Blame(Mutex<[Option<(Instant, Refusal)>; 2]>);

impl Blame {
    pub(super) fn put(&self, now: Instant, refusal: &Refusal) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last[usize::from(refusal.limit.is_pace())] = Some((now, refusal.clone()));
    }

    /// The last refusal, if there was one at `since` or later: one that says no before one that slows down.
    pub fn since(&self, since: Instant) -> Option<Refusal> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent = last.iter().flatten().filter(|(at, _)| *at >= since);
        recent.next().map(|(_, refusal)| refusal.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Refusal {
        Refusal {
            limit: LimitId::NatPorts,
            resource: "NatGateway".into(),
            destination: None,
            used: 5,
            max: 5,
            retry_at: None,
        }
    }

    #[test]
    fn a_flood_is_told_once_a_second_with_its_count() {
        let (mut notices, refusal) = (Notices::default(), refusal());
        assert_eq!(notices.due(Instant::from_secs(1), &refusal), Some(1));
        for _ in 0..9 {
            assert_eq!(notices.due(Instant::from_millis(1_500), &refusal), None);
        }
        assert_eq!(notices.due(Instant::from_secs(2), &refusal), Some(10));
        let other = Refusal { resource: "Other".into(), ..refusal };
        assert_eq!(notices.due(Instant::from_secs(2), &other), Some(1));
    }

    #[test]
    fn blame_is_of_this_invocation_alone() {
        let blame = Blame::default();
        assert!(blame.since(Instant::START).is_none());
        blame.put(Instant::from_secs(3), &refusal());
        assert!(blame.since(Instant::from_secs(2)).is_some_and(|refusal| refusal.limit == LimitId::NatPorts));
        assert!(blame.since(Instant::from_secs(4)).is_none());
    }

    #[test]
    fn a_lost_segment_of_a_slow_link_is_not_blamed_before_a_connection_that_hangs() {
        let blame = Blame::default();
        let slow = Refusal { limit: LimitId::NatBandwidth, ..refusal() };
        blame.put(Instant::from_secs(3), &refusal());
        blame.put(Instant::from_secs(4), &slow);
        let at = |second| blame.since(Instant::from_secs(second)).map(|refusal| refusal.limit);
        assert_eq!((at(2), at(4), at(5)), (Some(LimitId::NatPorts), Some(LimitId::NatBandwidth), None));
    }
}
