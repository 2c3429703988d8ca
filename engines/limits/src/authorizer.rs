//! What an API keeps of its authorizer's answers, and how long it waits for one.
//!
//! Source: API Gateway Developer Guide, "Use API Gateway Lambda authorizers" and "Working with AWS Lambda authorizers for HTTP
//! APIs": an answer is kept by its identity sources for 0 to 3,600 s (a REST API's for 300 s by default, an HTTP API's for 0);
//! "Quotas": 10 s for an answer; published. How much is kept is not: whoever makes the [`Verdicts`] gives the room.
//!
//! Requests that come at once for an identity that is not there each ask the function (assumed: AWS does not say).

use crate::response_cache::{CacheCounts, CacheKey, ResponseCache};
use model::Instant;
use std::sync::Arc;
use std::time::Duration;

/// How long an authorizer may take; then the request fails, and its function runs on.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What one authorizer said, by who asked; the planner keeps yes or no, the live gateway the whole answer.
#[derive(Clone, Debug)]
pub struct Verdicts<V> {
    ttl: Duration,
    cache: ResponseCache<V>,
}

impl<V> Verdicts<V> {
    /// Nothing was said yet. Answers are kept for `ttl`, none for zero, as long as `capacity` bytes have room for them.
    pub fn new(resource: Arc<str>, ttl: Duration, capacity: u64, source: Arc<str>) -> Self {
        Self { ttl, cache: ResponseCache::new(resource, capacity, source) }
    }

    /// Whether answers are kept at all.
    #[inline]
    pub fn are_kept(&self) -> bool {
        !self.ttl.is_zero()
    }

    /// What was said to those who are known by `key`, as long as it holds.
    #[inline]
    pub fn recall(&mut self, now: Instant, key: CacheKey) -> Option<&V> {
        if self.are_kept() { self.cache.get(now, key) } else { None }
    }

    /// Keeps an answer of so many bytes, in place of what was there; nothing happens where none is kept.
    pub fn keep(&mut self, now: Instant, key: CacheKey, bytes: u64, verdict: V) {
        if self.are_kept() {
            self.cache.put(now, key, bytes, self.ttl, verdict);
        }
    }

    /// How often an answer was there, and how often not.
    pub fn counts(&self) -> CacheCounts {
        self.cache.counts()
    }

    /// Answers that are kept.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// The authorizer's name in messages.
    pub fn resource(&self) -> &Arc<str> {
        self.cache.resource()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(ttl_s: u64) -> Verdicts<bool> {
        Verdicts::new("authorizer Token of Api".into(), Duration::from_secs(ttl_s), 100, "s".into())
    }

    fn key(word: u64) -> CacheKey {
        CacheKey { method: 0, word }
    }

    #[test]
    fn an_answer_holds_for_its_time_and_for_whom_it_was_given() {
        let mut verdicts = verdicts(300);
        let at = Instant::from_secs;
        assert_eq!(verdicts.recall(at(0), key(1)), None);
        verdicts.keep(at(1), key(1), 10, false);
        assert_eq!(verdicts.recall(at(300), key(1)), Some(&false), "no is kept as well");
        assert_eq!(verdicts.recall(at(300), key(2)), None);
        assert_eq!(verdicts.recall(at(301), key(1)), None);
        verdicts.keep(at(302), key(1), 10, true);
        assert_eq!(verdicts.recall(at(302), key(1)), Some(&true));
        let counts = verdicts.counts();
        assert_eq!((counts.hits, counts.misses, verdicts.len()), (2, 3, 1));
    }

    #[test]
    fn without_a_time_nothing_is_kept_or_counted() {
        let mut verdicts = verdicts(0);
        verdicts.keep(Instant::START, key(1), 10, true);
        assert_eq!(verdicts.recall(Instant::START, key(1)), None);
        assert!(verdicts.is_empty());
        assert_eq!(verdicts.counts(), CacheCounts::default());
    }

    #[test]
    fn a_new_answer_stands_in_the_place_of_the_old() {
        let mut verdicts = verdicts(300);
        verdicts.keep(Instant::START, key(1), 60, true);
        verdicts.keep(Instant::from_secs(200), key(1), 60, false);
        assert_eq!(verdicts.recall(Instant::from_secs(400), key(1)), Some(&false));
        verdicts.keep(Instant::from_secs(400), key(2), 60, true);
        assert_eq!(verdicts.recall(Instant::from_secs(400), key(1)), None, "the oldest makes room");
    }
}
