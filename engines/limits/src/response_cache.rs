//! The cache of a REST API's stage: a hit is answered by the gateway and costs no invocation.
//!
//! Source: API Gateway Developer Guide, "Cache settings for REST APIs": sizes from 0.5 to 237 GB, entries live for 0 to 3,600 s
//! (300 s by default, 0 means none), responses up to 1,048,576 bytes; published. What makes room in a full cache is not:
//! the entry that was asked for longest ago goes (assumed). Nor is what an entry takes besides its response: nothing here.
//! The cache is asked after the throttles, so hits count against them.
//!
//! Entries are known by a method and a 64-bit word that stands for its declared cache key parameters; parameters that are
//! not declared do not tell entries apart. Whoever takes the word from clients must hash with a secret.
//!
//! Looking up is O(1); storing is O(log n).

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow};
use std::collections::BTreeSet;
// The map is only asked for single keys, never walked, and its hasher is fixed: its order cannot be seen.
#[allow(clippy::disallowed_types)]
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// How long an entry lives where the template does not say.
pub const TTL_DEFAULT: Duration = Duration::from_secs(300);
/// The longest that an entry may live.
pub const TTL_MAX: Duration = Duration::from_secs(3600);
/// The largest response that is kept.
pub const RESPONSE_MAX: u64 = 1_048_576;
/// The most entries, whatever the size: what this machine can hold, not a limit of AWS.
pub const ENTRIES_MAX: usize = 4_000_000;

const GIB: u64 = 1 << 30;

/// What templates call the sizes, with their bytes. They are those of the cache nodes of ElastiCache, which count in GiB.
const SIZES: [(&str, u64); 8] = [
    ("0.5", GIB / 2),
    ("1.6", GIB * 16 / 10),
    ("6.1", GIB * 61 / 10),
    ("13.5", GIB * 135 / 10),
    ("28.4", GIB * 284 / 10),
    ("58.2", GIB * 582 / 10),
    ("118", GIB * 118),
    ("237", GIB * 237),
];

/// Bytes of a `CacheClusterSize`; `None` for a size that does not exist.
pub fn size(word: &str) -> Option<u64> {
    SIZES.iter().find(|(known, _)| *known == word).map(|(_, bytes)| *bytes)
}

/// The sizes that exist, smallest first.
pub fn sizes() -> impl Iterator<Item = &'static str> {
    SIZES.iter().map(|(word, _)| *word)
}

/// What happens to a request that wants an entry made anew (`Cache-Control: max-age=0`) and may not ask for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unauthorised {
    /// It is refused with 403.
    Fail,
    /// It is answered as if it had not asked, with a `Warning` header.
    #[default]
    SucceedWithHeader,
    /// It is answered as if it had not asked.
    SucceedWithoutHeader,
}

impl Unauthorised {
    /// The strategy of AWS's word.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "FAIL_WITH_403" => Some(Self::Fail),
            "SUCCEED_WITH_RESPONSE_HEADER" => Some(Self::SucceedWithHeader),
            "SUCCEED_WITHOUT_RESPONSE_HEADER" => Some(Self::SucceedWithoutHeader),
            _ => None,
        }
    }
}

/// Who may have an entry made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// Only who may `execute-api:InvalidateCache`; otherwise anybody.
    pub authorisation_required: bool,
    /// What happens to the others.
    pub unauthorised: Unauthorised,
}

impl Default for Invalidation {
    /// As a new stage has it (API Gateway API reference, MethodSetting).
    fn default() -> Self {
        Self { authorisation_required: true, unauthorised: Unauthorised::SucceedWithHeader }
    }
}

/// What a request that wants an entry made anew gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidated {
    /// The entry is gone; the integration answers.
    Anew,
    /// 403.
    Forbidden,
    /// The request is looked up like any other; `warning` says whether its answer has the header.
    AsUsual {
        /// Whether the answer has a `Warning` header.
        warning: bool,
    },
}

/// What an entry is known by: a method of the API (or what its `cacheNamespace` stands for), and its parameters' word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    /// The method.
    pub method: u32,
    /// The parameters.
    pub word: u64,
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Entry<V> {
    key: CacheKey,
    /// None in a slot that is free.
    value: Option<V>,
    bytes: u64,
    expires: Instant,
    /// Neighbours by the moment of the last use.
    newer: u32,
    older: u32,
}

/// What a cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Requests that it answered.
    pub hits: u64,
    /// Requests that it did not.
    pub misses: u64,
    /// Entries that made room for others before their time.
    pub evicted: u64,
    /// Responses that were too large.
    pub too_large: u64,
}

/// The cache of one stage; the planner needs no values, the live gateway keeps responses.
#[derive(Clone, Debug)]
pub struct ResponseCache<V = ()> {
    resource: Arc<str>,
    source: Arc<str>,
    capacity: u64,
    entries_max: usize,
    used: u64,
    #[allow(clippy::disallowed_types)]
    index: HashMap<CacheKey, u32, BuildHasherDefault<KeyHasher>>,
    entries: Vec<Entry<V>>,
    free: Vec<u32>,
    expiries: BTreeSet<(Instant, u32)>,
    newest: u32,
    oldest: u32,
    counts: CacheCounts,
    tally: Tally,
}

impl ResponseCache {
    /// Keeps that there is a response of so many bytes; see [`ResponseCache::put`].
    pub fn store(&mut self, now: Instant, key: CacheKey, bytes: u64, ttl: Duration) -> bool {
        self.put(now, key, bytes, ttl, ())
    }
}

impl<V> ResponseCache<V> {
    /// An empty cache of so many bytes, called `Api/prod` in messages.
    pub fn new(resource: Arc<str>, capacity: u64, source: Arc<str>) -> Self {
        Self {
            resource,
            source,
            capacity,
            entries_max: ENTRIES_MAX,
            used: 0,
            index: Default::default(),
            entries: Vec::new(),
            free: Vec::new(),
            expiries: BTreeSet::new(),
            newest: NONE,
            oldest: NONE,
            counts: CacheCounts::default(),
            tally: Tally::default(),
        }
    }

    /// Whether the cache answers.
    #[inline]
    pub fn lookup(&mut self, now: Instant, key: CacheKey) -> bool {
        self.get(now, key).is_some()
    }

    /// The response that the cache answers with.
    #[inline]
    pub fn get(&mut self, now: Instant, key: CacheKey) -> Option<&V> {
        let slot = self.index.get(&key).copied();
        let hit = slot.filter(|slot| self.entries[*slot as usize].expires > now);
        let Some(slot) = hit else {
            self.counts.misses += 1;
            return None;
        };
        self.counts.hits += 1;
        self.unlink(slot);
        self.link(slot);
        self.entries[slot as usize].value.as_ref()
    }

    /// Keeps a response of so many bytes for `ttl`, in place of what was there. Whether it did: what is too large, or lives
    /// for no time, is not kept.
    pub fn put(&mut self, now: Instant, key: CacheKey, bytes: u64, ttl: Duration, value: V) -> bool {
        let ttl = ttl.min(TTL_MAX);
        if bytes > RESPONSE_MAX || bytes > self.capacity {
            self.counts.too_large += 1;
            return false;
        }
        if ttl.is_zero() || self.entries_max == 0 {
            return false;
        }
        self.advance(now);
        self.remove(key);
        while self.used + bytes > self.capacity || self.index.len() >= self.entries_max {
            let oldest = self.entries[self.oldest as usize].key;
            self.remove(oldest);
            self.counts.evicted += 1;
        }
        let entry = Entry { key, value: Some(value), bytes, expires: now + ttl, newer: NONE, older: NONE };
        let expires = entry.expires;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.index.insert(key, slot);
        self.expiries.insert((expires, slot));
        self.link(slot);
        self.used += bytes;
        self.tally.reach(self.used);
        true
    }

    /// A request wants its entry made anew.
    pub fn invalidate(&mut self, key: CacheKey, rule: Invalidation, authorised: bool) -> Invalidated {
        if authorised || !rule.authorisation_required {
            self.remove(key);
            return Invalidated::Anew;
        }
        match rule.unauthorised {
            Unauthorised::Fail => Invalidated::Forbidden,
            Unauthorised::SucceedWithHeader => Invalidated::AsUsual { warning: true },
            Unauthorised::SucceedWithoutHeader => Invalidated::AsUsual { warning: false },
        }
    }

    /// Empties it, as `FlushStageCache` and a change of size do.
    pub fn flush(&mut self) {
        self.index.clear();
        self.entries.clear();
        self.free.clear();
        self.expiries.clear();
        (self.newest, self.oldest, self.used) = (NONE, NONE, 0);
    }

    /// When `advance` has something to do next: the next entry expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Drops entries that have expired.
    pub fn advance(&mut self, now: Instant) {
        while let Some((at, slot)) = self.expiries.first().copied() {
            if at > now {
                break;
            }
            self.remove(self.entries[slot as usize].key);
        }
    }

    /// What it has done.
    pub fn counts(&self) -> CacheCounts {
        self.counts
    }

    /// The name it has in messages.
    pub fn resource(&self) -> &Arc<str> {
        &self.resource
    }

    /// Bytes that it may hold.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Entries that it holds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The board's row. A cache refuses nobody: what does not fit is made again.
    pub fn row(&self) -> LimitRow {
        self.tally.row(LimitId::ApiCacheSize, &self.resource, self.used, self.capacity, &self.source)
    }

    fn remove(&mut self, key: CacheKey) {
        let Some(slot) = self.index.remove(&key) else { return };
        self.unlink(slot);
        let entry = &mut self.entries[slot as usize];
        entry.value = None;
        let (bytes, expires) = (entry.bytes, entry.expires);
        self.expiries.remove(&(expires, slot));
        self.used -= bytes;
        self.free.push(slot);
    }

    fn link(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        self.entries[slot as usize].older = before;
        self.entries[slot as usize].newer = NONE;
        match before {
            NONE => self.oldest = slot,
            before => self.entries[before as usize].newer = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { newer, older, .. } = self.entries[slot as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }
}

/// Multiplies and folds each word, as in wyhash; the constant is odd and random.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xe703_7ed1_a0b4_28db_u128;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests;
