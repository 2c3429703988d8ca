//! Time, room, invalidation; and the cache against a slow list.

use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

fn cache(capacity: u64) -> ResponseCache {
    ResponseCache::new("Api/prod".into(), capacity, "the template".into())
}

fn key(word: u64) -> CacheKey {
    CacheKey { method: 0, word }
}

#[test]
fn an_entry_lives_for_its_time_and_not_a_nanosecond_longer() {
    let mut cache = cache(1000);
    assert!(!cache.lookup(Instant::START, key(1)));
    assert!(cache.store(Instant::START, key(1), 10, MINUTE));
    assert!(cache.lookup(Instant::from_nanos(59_999_999_999), key(1)));
    assert!(!cache.lookup(Instant::from_secs(60), key(1)), "reading does not lengthen its life");
    assert_eq!(cache.next_deadline(), Some(Instant::from_secs(60)));
    cache.advance(Instant::from_secs(60));
    assert_eq!((cache.len(), cache.next_deadline(), cache.row().used, cache.row().peak), (0, None, 0, 10));
    let counts = CacheCounts { hits: 1, misses: 2, ..CacheCounts::default() };
    assert_eq!(cache.counts(), counts);
}

#[test]
fn a_time_of_zero_keeps_nothing_and_an_hour_is_the_longest() {
    let mut cache = cache(1000);
    assert!(!cache.store(Instant::START, key(1), 10, Duration::ZERO));
    assert!(cache.store(Instant::START, key(1), 10, 9 * TTL_MAX));
    assert_eq!(cache.next_deadline(), Some(Instant::START + TTL_MAX));
}

#[test]
fn methods_do_not_share_entries() {
    let mut cache = cache(1000);
    cache.store(Instant::START, CacheKey { method: 1, word: 7 }, 10, MINUTE);
    assert!(!cache.lookup(Instant::START, CacheKey { method: 2, word: 7 }));
    assert!(cache.lookup(Instant::START, CacheKey { method: 1, word: 7 }));
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let mut cache = cache(30);
    for word in 1..=3 {
        cache.store(Instant::START, key(word), 10, MINUTE);
    }
    assert!(cache.lookup(Instant::START, key(1)));
    cache.store(Instant::START, key(4), 20, MINUTE);
    let there: Vec<u64> = (1..=4).filter(|word| cache.lookup(Instant::START, key(*word))).collect();
    assert_eq!((there, cache.counts().evicted), (vec![1, 4], 2));
}

#[test]
fn a_large_response_is_not_kept() {
    let mut whole = cache(size("0.5").unwrap());
    assert!(whole.store(Instant::START, key(1), RESPONSE_MAX, MINUTE));
    assert!(!whole.store(Instant::START, key(2), RESPONSE_MAX + 1, MINUTE));
    assert_eq!(whole.counts().too_large, 1);
    assert!(!cache(10).store(Instant::START, key(1), 11, MINUTE));
}

#[test]
fn entries_have_a_bound_of_their_own() {
    let mut cache = cache(1000);
    cache.entries_max = 2;
    for word in 0..5 {
        assert!(cache.store(Instant::START, key(word), 0, MINUTE));
    }
    assert_eq!((cache.len(), cache.counts().evicted), (2, 3));
}

#[test]
fn only_who_may_has_an_entry_made_anew() {
    let rule = |required, unauthorised| Invalidation { authorisation_required: required, unauthorised };
    for (rule, authorised, expected) in [
        (rule(false, Unauthorised::Fail), false, Invalidated::Anew),
        (rule(true, Unauthorised::Fail), true, Invalidated::Anew),
        (rule(true, Unauthorised::Fail), false, Invalidated::Forbidden),
        (rule(true, Unauthorised::SucceedWithHeader), false, Invalidated::AsUsual { warning: true }),
        (rule(true, Unauthorised::SucceedWithoutHeader), false, Invalidated::AsUsual { warning: false }),
    ] {
        let mut cache = cache(1000);
        cache.store(Instant::START, key(1), 10, MINUTE);
        assert_eq!(cache.invalidate(key(1), rule, authorised), expected);
        assert_eq!(cache.lookup(Instant::START, key(1)), expected != Invalidated::Anew);
    }
    for word in ["FAIL_WITH_403", "SUCCEED_WITH_RESPONSE_HEADER", "SUCCEED_WITHOUT_RESPONSE_HEADER"] {
        assert!(Unauthorised::named(word).is_some());
    }
    assert_eq!(Unauthorised::named("FAIL"), None);
}

#[test]
fn a_flush_empties_it() {
    let mut cache = cache(1000);
    cache.store(Instant::START, key(1), 10, MINUTE);
    cache.flush();
    assert!(cache.is_empty() && !cache.lookup(Instant::START, key(1)));
    assert!(cache.store(Instant::START, key(1), 1000, MINUTE));
}

#[test]
fn sizes_are_those_of_the_guide() {
    assert_eq!(sizes().count(), 8);
    assert_eq!((size("0.5"), size("237"), size("1")), (Some(536_870_912), Some(237 << 30), None));
}

/// A list of entries, the one used longest ago first.
#[derive(Default)]
struct NaiveCache(Vec<(CacheKey, u64, Instant)>);

impl NaiveCache {
    fn lookup(&mut self, now: Instant, key: CacheKey) -> bool {
        let found = self.0.iter().position(|(known, _, expires)| *known == key && *expires > now);
        if let Some(at) = found {
            let entry = self.0.remove(at);
            self.0.push(entry);
        }
        found.is_some()
    }

    fn store(&mut self, now: Instant, key: CacheKey, bytes: u64, ttl: Duration, capacity: u64) {
        if bytes > capacity || ttl.is_zero() {
            return;
        }
        self.0.retain(|(known, _, expires)| *expires > now && *known != key);
        while self.0.iter().map(|(_, bytes, _)| bytes).sum::<u64>() + bytes > capacity {
            self.0.remove(0);
        }
        self.0.push((key, bytes, now + ttl));
    }
}

proptest! {
    #[test]
    fn the_cache_agrees_with_a_slow_list(
        capacity in 1u64..200,
        steps in prop::collection::vec((0u64..30, 0u32..2, 0u64..12, 0u64..80, 0u64..100, 0u8..8), 1..300),
    ) {
        let (mut cache, mut naive) = (cache(capacity), NaiveCache::default());
        let mut now = Instant::START;
        for (wait, method, word, bytes, ttl, action) in steps {
            now += Duration::from_secs(wait);
            let key = CacheKey { method, word };
            match action {
                0..4 => prop_assert_eq!(cache.lookup(now, key), naive.lookup(now, key)),
                4..7 => {
                    cache.store(now, key, bytes, Duration::from_secs(ttl));
                    naive.store(now, key, bytes, Duration::from_secs(ttl), capacity);
                }
                _ => {
                    cache.advance(now);
                    naive.0.retain(|(_, _, expires)| *expires > now);
                    prop_assert_eq!(cache.len(), naive.0.len());
                    prop_assert_eq!(cache.row().used, naive.0.iter().map(|(_, bytes, _)| bytes).sum::<u64>());
                    prop_assert!(cache.next_deadline().is_none_or(|at| at > now));
                }
            }
            prop_assert!(cache.row().used <= capacity);
        }
    }
}
