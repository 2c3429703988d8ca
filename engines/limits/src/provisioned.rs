//! `lambda.provisioned-concurrency`: environments that are initialised ahead for a version or an alias.
//!
//! Source: AWS Lambda Developer Guide, "Configuring provisioned concurrency" and "Understanding concurrency and requests
//! per second": they are used first; beyond their number, or beyond ten requests a second for each, requests spill over
//! to on-demand concurrency; they take no token of the scaling rate; up to 6,000 a minute are allocated for a
//! function, and none serves before all are there; published (the last two second-hand).
//!
//! ```text
//!   allocated, at most one each 10 ms -> initialised ahead -> idle <-> busy       one that is lost is replaced
//! ```
//!
//! One whose life is over serves on until another has been initialised in its place, a tenth of them at a time; how AWS
//! does that is not published.

use crate::environments::IdleStack;
use crate::request_rate::{PER_CONCURRENCY, RequestRate};
use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow};
use std::sync::Arc;
use std::time::Duration;

/// Time between two environments that are allocated for a version or alias: 6,000 a minute. AWS counts by function.
pub const ALLOCATION_INTERVAL: Duration = Duration::from_millis(10);

/// One part in so many is renewed at once.
const RENEWED_AT_ONCE: u32 = 10;

/// The most versions and aliases with provisioned concurrency at once.
pub const POOLS_MAX: usize = 1 << 20;

/// The provisioned concurrency of one version or alias: its place, and which of the place's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProvisionedId {
    slot: u32,
    generation: u32,
}

impl ProvisionedId {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    pub(crate) const fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

/// How far a version's or alias's provisioned concurrency is (`Status` of its configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisionedStatus {
    /// Environments are allocated and initialised; none serves yet.
    InProgress,
    /// All are there.
    Ready,
    /// An INIT failed. Nothing more is allocated; what is there serves nothing.
    Failed,
}

/// How a version's or alias's provisioned concurrency fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvisionedCounts {
    /// How many are asked for.
    pub requested: u32,
    /// How many environments there are, initialised or not, busy or idle.
    pub allocated: u32,
    /// How many of them are initialised.
    pub available: u32,
    /// Requests that run on them.
    pub in_use: u32,
    /// The most of these at once.
    pub peak: u32,
    /// How far it is.
    pub status: ProvisionedStatus,
    /// Requests that ran on them so far (ProvisionedConcurrencyInvocations).
    pub invocations: u64,
    /// Requests that ran on demand since they were busy, or over their rate
    /// (ProvisionedConcurrencySpilloverInvocations).
    pub spillover: u64,
}

/// The environments of one version or alias.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    /// Slot of its function.
    pub function: u32,
    /// `name:qualifier`, for the board.
    pub resource: Arc<str>,
    pub requested: u32,
    /// All of its environments.
    pub environments: u32,
    /// Still to be allocated.
    pub missing: u32,
    /// Busy ones that are too many, and end when they finish.
    pub excess: u32,
    /// When the next one may be.
    pub next_at: Instant,
    pub starting: IdleStack,
    pub idle: IdleStack,
    pub in_use: u32,
    pub peak: u32,
    pub status: ProvisionedStatus,
    pub request_rate: RequestRate,
    pub invocations: u64,
    pub spillover: u64,
    pub tally: Tally,
}

impl Pool {
    pub fn new(now: Instant, function: u32, resource: Arc<str>) -> Self {
        Self {
            function,
            resource,
            requested: 0,
            environments: 0,
            missing: 0,
            excess: 0,
            next_at: now,
            starting: IdleStack::default(),
            idle: IdleStack::default(),
            in_use: 0,
            peak: 0,
            status: ProvisionedStatus::InProgress,
            request_rate: RequestRate::new(now, LimitId::RequestRate, 0),
            invocations: 0,
            spillover: 0,
            tally: Tally::default(),
        }
    }

    /// Asks for another number of environments; those that are too many are for the caller to end.
    pub fn request(&mut self, now: Instant, requested: u32) {
        self.requested = requested;
        self.missing = requested.saturating_sub(self.environments);
        self.excess = 0;
        self.request_rate.set(now, requested.saturating_mul(PER_CONCURRENCY));
        self.status = ProvisionedStatus::InProgress;
        self.settle();
    }

    /// Ready once all are there and initialised.
    pub fn settle(&mut self) {
        let whole = self.missing == 0 && self.starting.is_empty();
        if whole && self.status == ProvisionedStatus::InProgress {
            self.status = ProvisionedStatus::Ready;
        }
    }

    /// Whether one whose life is over may end: another is there in its place.
    pub fn is_renewed(&self) -> bool {
        self.environments - self.starting.len() > self.requested
    }

    /// Whether one more may be allocated in the place of one whose life is over.
    pub fn may_renew(&self) -> bool {
        let ahead = (self.environments + self.missing).saturating_sub(self.requested);
        self.status == ProvisionedStatus::Ready && ahead < (self.requested / RENEWED_AT_ONCE).max(1)
    }

    /// Whether a request, which `counts` in the request rate or does not, may run on an environment of the pool now.
    #[inline]
    pub fn has_room(&self, now: Instant, counts: bool) -> bool {
        let ready = self.status == ProvisionedStatus::Ready && !self.idle.is_empty();
        ready && (!counts || self.request_rate.has_room(now))
    }

    /// When the next environment is to be allocated.
    pub fn next_allocation(&self) -> Option<Instant> {
        (self.missing > 0).then_some(self.next_at)
    }

    /// A request runs on one of its environments.
    #[inline]
    pub fn enter(&mut self) {
        self.invocations += 1;
        self.in_use += 1;
        self.peak = self.peak.max(self.in_use);
    }

    /// A request ran on demand instead.
    #[inline]
    pub fn spill(&mut self, now: Instant) {
        // While they are allocated nothing spills: there is nothing to spill from.
        if self.status == ProvisionedStatus::Ready {
            self.spillover += 1;
            self.tally.refuse(now);
        }
    }

    pub fn counts(&self) -> ProvisionedCounts {
        ProvisionedCounts {
            requested: self.requested,
            allocated: self.environments,
            available: self.environments - self.starting.len(),
            in_use: self.in_use,
            peak: self.peak,
            status: self.status,
            invocations: self.invocations,
            spillover: self.spillover,
        }
    }

    /// The board's row. What spilled over stands as refused: the limit said no, and the request ran all the same.
    pub fn row(&self, source: &Arc<str>) -> LimitRow {
        let (used, max) = (u64::from(self.in_use), u64::from(self.requested));
        let mut tally = self.tally.clone();
        tally.reach(u64::from(self.peak));
        tally.row(LimitId::ProvisionedConcurrency, &self.resource, used, max, source)
    }
}

/// All pools, in places that are used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools {
    slots: Vec<(u32, Option<Pool>)>,
    /// Those with environments still to be allocated; few, and none in the long run.
    allocating: Vec<u32>,
}

impl Pools {
    /// Adds a pool. Panics above [`POOLS_MAX`].
    pub fn add(&mut self, pool: Pool) -> ProvisionedId {
        let free = self.slots.iter().position(|(_, pool)| pool.is_none());
        let slot = free.unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            assert!(
                slot < POOLS_MAX,
                "more than {POOLS_MAX} versions and aliases with provisioned concurrency"
            );
            self.slots.push((0, None));
        }
        let (generation, place) = &mut self.slots[slot];
        *place = Some(pool);
        ProvisionedId { slot: slot as u32, generation: *generation }
    }

    #[inline]
    pub fn get(&self, id: ProvisionedId) -> Option<&Pool> {
        self.slots.get(id.slot as usize).filter(|(generation, _)| *generation == id.generation)?.1.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: ProvisionedId) -> Option<&mut Pool> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|(generation, _)| *generation == id.generation)?
            .1
            .as_mut()
    }

    /// The id of the pool in a place that holds one.
    pub fn id(&self, slot: u32) -> ProvisionedId {
        ProvisionedId { slot, generation: self.slots[slot as usize].0 }
    }

    /// Every pool with its place.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Pool)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, (_, pool))| Some((slot as u32, pool.as_ref()?)))
    }

    /// Takes a pool out; its id is stale from now on.
    pub fn remove(&mut self, id: ProvisionedId) -> Option<Pool> {
        self.get(id)?;
        self.allocating.retain(|slot| *slot != id.slot);
        let (generation, place) = &mut self.slots[id.slot as usize];
        *generation = generation.wrapping_add(1);
        place.take()
    }

    /// Notes whether the pool has environments to be allocated.
    pub fn note(&mut self, slot: u32) {
        let missing = self.slots[slot as usize].1.as_ref().is_some_and(|pool| pool.missing > 0);
        self.allocating.retain(|other| *other != slot);
        if missing {
            self.allocating.push(slot);
        }
    }

    /// When the next environment is to be allocated, and for which pool. O(pools that wait for one).
    #[inline]
    pub fn next_allocation(&self) -> Option<(Instant, u32)> {
        let pools = self.allocating.iter().filter_map(|slot| {
            let at = self.slots[*slot as usize].1.as_ref()?.next_allocation()?;
            Some((at, *slot))
        });
        pools.min()
    }
}
