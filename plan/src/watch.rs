//! What a caller hears of a plan while it runs, and how it stops one.

use crate::load::{Load, Work};
use model::{Instant, time};
use std::ops::ControlFlow;

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Virtual time.
    pub at: Instant,
    /// Requests sent.
    pub requests: u64,
    /// How much of the load has been sent, permille; `None` where the load does not say.
    pub permille: Option<u32>,
    /// A limit has refused something.
    pub refused: bool,
}

/// Told now and then how far a plan is; `Break` ends the plan there, and it reports what is known.
pub type Watch<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

/// After so many events the caller is told: about every millisecond.
pub(crate) const EVENTS_BETWEEN: u32 = 4_096;

/// How long a load is, as far as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    nanos: Option<u64>,
    requests: Option<u64>,
}

impl Extent {
    /// By the plan's end, the phases' lengths, or their requests.
    pub(crate) fn of(load: &Load, horizon: Instant) -> Self {
        let mut nanos = (horizon != Instant::NEVER).then(|| horizon.as_nanos());
        let mut requests = Some(0_u64);
        let (mut end, mut last) = (Some(0_u64), Some(0_u64));
        for phase in &load.phases {
            let length = match &phase.work {
                Work::Users { length, .. } | Work::Replay { length, .. } => *length,
                Work::Rate { length, .. } => Some(*length),
            };
            let total = match &phase.work {
                Work::Users { requests, .. } => *requests,
                Work::Rate { .. } | Work::Replay { .. } => None,
            };
            requests = requests.zip(total).map(|(sum, total)| sum.saturating_add(total));
            let begin = phase.start.map(time::nanos).or(last);
            last = begin.zip(length).map(|(begin, length)| begin.saturating_add(time::nanos(length)));
            end = end.zip(last).map(|(end, last)| end.max(last));
        }
        nanos = nanos.or(end);
        Self { nanos, requests }
    }

    /// How much of it is over.
    pub(crate) fn permille(&self, at: Instant, requests: u64) -> Option<u32> {
        let (done, all) = match (self.nanos, self.requests) {
            (Some(nanos), _) => (at.as_nanos(), nanos),
            (None, Some(total)) => (requests, total),
            (None, None) => return None,
        };
        // u64 * 1000 fits u128; the quotient is at most 1000.
        Some((u128::from(done) * 1000 / u128::from(all.max(1))).min(1000) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(phases: &str) -> Extent {
        let load = Load::read("load.yaml", &format!("version: 1\nphases: {phases}")).unwrap();
        Extent::of(&load, Instant::NEVER)
    }

    #[test]
    fn a_load_says_how_long_it_is_by_time_or_by_requests() {
        let follows = extent("[{target: A, rate: 1/s, for: 10s}, {target: A, users: 1, for: 30s}]");
        assert_eq!(follows.permille(Instant::from_secs(10), 0), Some(250));
        let beside = extent("[{target: A, rate: 1/s, for: 10s}, {target: A, start: 0s, users: 1, for: 5s}]");
        assert_eq!(beside.permille(Instant::from_secs(20), 0), Some(1000));
        let counted = extent("[{target: A, users: 1, requests: 200}]");
        assert_eq!(counted.permille(Instant::from_secs(1), 50), Some(250));
        let mixed = extent("[{target: A, users: 1, requests: 200}, {target: A, users: 1, for: 1s}]");
        assert_eq!(mixed.permille(Instant::from_secs(1), 50), None);
    }
}
