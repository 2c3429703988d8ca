//! What is lent out and forgotten when it is silent for too long: a slab with ids that go stale, linked by age.
//!
//! Everything in one slab has the same idle time-out, so a list from the longest silent to the last heard needs no
//! sorting: each call is O(1). Nothing is allocated once the slab has grown to its peak.
//!
//! ```text
//!   oldest <-> ... <-> newest            a touch moves an entry to the newest end
//! ```

use model::Instant;
use std::num::NonZeroU32;

const NONE: u32 = u32::MAX;

/// One lease: its slot, and which of the slot's leases it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId {
    slot: u32,
    generation: NonZeroU32,
}

/// A slab of leases.
#[derive(Clone, Debug)]
pub struct Leases<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    len: u32,
    oldest: u32,
    newest: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    since: Instant,
    generation: NonZeroU32,
    /// The next older one, or the next free slot.
    older: u32,
    newer: u32,
    /// `None` in a free slot.
    value: Option<T>,
}

impl<T> Default for Leases<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: NONE, len: 0, oldest: NONE, newest: NONE }
    }
}

impl<T: Copy> Leases<T> {
    /// How many are lent out.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lends one out. Time must not run backwards.
    #[inline]
    pub fn open(&mut self, now: Instant, value: T) -> LeaseId {
        self.len += 1;
        let slot = if self.free == NONE {
            let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE);
            let slot = slot.expect("2^32 leases need more memory than a machine has");
            let generation = NonZeroU32::MIN;
            self.slots.push(Slot { since: now, generation, older: NONE, newer: NONE, value: None });
            slot
        } else {
            let slot = self.free;
            self.free = self.slots[slot as usize].older;
            slot
        };
        self.slots[slot as usize].value = Some(value);
        self.put_newest(now, slot);
        LeaseId { slot, generation: self.slots[slot as usize].generation }
    }

    /// What was lent, unless the lease has ended.
    #[inline]
    pub fn get(&self, id: LeaseId) -> Option<T> {
        self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?.value
    }

    /// The lease was heard of at `now`. Whether it still is one.
    #[inline]
    pub fn touch(&mut self, now: Instant, id: LeaseId) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        self.unlink(id.slot);
        self.put_newest(now, id.slot);
        true
    }

    /// Ends a lease, unless it has ended already.
    #[inline]
    pub fn close(&mut self, id: LeaseId) -> Option<T> {
        self.get(id)?;
        self.release(id.slot)
    }

    /// Since when the one that is silent for longest is silent.
    #[inline]
    pub fn oldest_since(&self) -> Option<Instant> {
        self.slots.get(self.oldest as usize).map(|slot| slot.since)
    }

    /// Ends the one that is silent for longest, if nothing was heard of it after `before`.
    #[inline]
    pub fn expire(&mut self, before: Instant) -> Option<T> {
        let since = self.oldest_since()?;
        if since > before { None } else { self.release(self.oldest) }
    }

    fn release(&mut self, slot: u32) -> Option<T> {
        self.unlink(slot);
        self.len -= 1;
        let entry = &mut self.slots[slot as usize];
        // The generation wraps after 2^32 leases of one slot, past zero.
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.older = self.free;
        self.free = slot;
        entry.value.take()
    }

    fn put_newest(&mut self, now: Instant, slot: u32) {
        if self.newest == NONE {
            self.oldest = slot;
        } else {
            self.slots[self.newest as usize].newer = slot;
        }
        let entry = &mut self.slots[slot as usize];
        entry.since = now;
        entry.older = self.newest;
        entry.newer = NONE;
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Open,
        Touch(usize),
        Close(usize),
        Expire(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Open),
            2 => any::<usize>().prop_map(Step::Touch),
            2 => any::<usize>().prop_map(Step::Close),
            1 => (0u64..20).prop_map(Step::Expire),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_list(steps in prop::collection::vec(step(), 1..300)) {
            let mut leases = Leases::default();
            // The reference: (last heard, id, value), and the ids that have ended.
            let (mut open, mut ended): (Vec<(u64, LeaseId, u64)>, Vec<LeaseId>) = (Vec::new(), Vec::new());
            for (now, step) in steps.into_iter().enumerate() {
                let now = now as u64;
                match step {
                    Step::Open => open.push((now, leases.open(Instant::from_nanos(now), now), now)),
                    Step::Touch(index) if !open.is_empty() => {
                        let mut entry = open.remove(index % open.len());
                        prop_assert!(leases.touch(Instant::from_nanos(now), entry.1));
                        entry.0 = now;
                        open.push(entry);
                    }
                    Step::Close(index) if !open.is_empty() => {
                        let entry = open.remove(index % open.len());
                        prop_assert_eq!(leases.close(entry.1), Some(entry.2));
                        ended.push(entry.1);
                    }
                    Step::Expire(age) => {
                        let before = now.saturating_sub(age);
                        let expected = open.first().filter(|entry| entry.0 <= before).copied();
                        let found = leases.expire(Instant::from_nanos(before));
                        prop_assert_eq!(found, expected.map(|entry| entry.2));
                        if expected.is_some() {
                            ended.push(open.remove(0).1);
                        }
                    }
                    Step::Touch(_) | Step::Close(_) => {}
                }
                prop_assert_eq!(leases.len() as usize, open.len());
                prop_assert_eq!(leases.oldest_since().map(Instant::as_nanos), open.first().map(|entry| entry.0));
                prop_assert!(open.iter().all(|entry| leases.get(entry.1) == Some(entry.2)));
            }
            for id in ended {
                prop_assert_eq!((leases.get(id), leases.close(id)), (None, None), "a lease is returned once");
            }
        }
    }
}
