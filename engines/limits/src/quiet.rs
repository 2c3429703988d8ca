//! A time before which an engine has nothing to do: most calls need not look at what it holds.

use model::Instant;
use std::time::Duration;

/// Nothing is due before a moment, whatever is taken or given back until then.
///
/// Each thing that an engine holds is due some fixed time after it was taken or last used. So what is due first now, and
/// what could be due first of all that comes later, bound the next deadline from below; between, it need not be found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet {
    until: Instant,
}

impl Quiet {
    /// Whether nothing is due at `now`.
    #[inline]
    pub fn holds(self, now: Instant) -> bool {
        now < self.until
    }

    /// Of what is held at `now` nothing is due before `next`, and nothing that comes later before `soonest` has passed.
    #[inline]
    pub fn renew(&mut self, now: Instant, next: Option<Instant>, soonest: Duration) {
        let later = now + soonest;
        self.until = next.map_or(later, |next| next.min(later));
    }

    /// Something is due that does not keep to this.
    #[inline]
    pub fn end(&mut self) {
        self.until = Instant::START;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_what_is_held_or_with_what_may_come() {
        let mut quiet = Quiet::default();
        assert!(!quiet.holds(Instant::START), "at first nothing is known");
        let (now, soonest) = (Instant::from_secs(5), Duration::from_secs(10));
        quiet.renew(now, Some(Instant::from_secs(8)), soonest);
        assert!(quiet.holds(Instant::from_millis(7_999)) && !quiet.holds(Instant::from_secs(8)));
        for next in [None, Some(Instant::from_secs(90))] {
            quiet.renew(now, next, soonest);
            assert!(quiet.holds(Instant::from_millis(14_999)) && !quiet.holds(Instant::from_secs(15)));
        }
        quiet.end();
        assert!(!quiet.holds(now));
        quiet.renew(now, None, Duration::ZERO);
        assert!(!quiet.holds(now), "without such a time every call looks");
    }
}
