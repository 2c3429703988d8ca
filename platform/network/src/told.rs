//! What is said once in a while, however often it happens.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same is said so often at most.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Things whose last mention is remembered; beyond them all are forgotten, and said anew.
const TOLD_MAX: usize = 256;

/// When each thing was said last.
pub(crate) struct Told<K>(Mutex<BTreeMap<K, Instant>>);

impl<K> Default for Told<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> Told<K> {
    /// Whether it is time to say something of this; who asks then says it.
    pub fn is_due(&self, of: K) -> bool {
        self.is_due_at(of, Instant::now())
    }

    fn is_due_at(&self, of: K, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&of).is_some_and(|last| now.saturating_duration_since(*last) < TELL_EVERY) {
            return false;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(of, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_a_minute() {
        let (told, start) = (Told::default(), Instant::now());
        let at = |of: usize, second| told.is_due_at(of, start + Duration::from_secs(second));
        assert!(at(0, 0) && !at(0, 59) && at(1, 59) && at(0, 60) && !at(0, 61));
        // Many things are no reason to remember them all.
        assert!((2..2 + TOLD_MAX).all(|of| at(of, 61)));
        assert!(told.0.lock().unwrap().len() <= TOLD_MAX);
    }
}
