//! Numbered places that are used again, with ids that go stale, and lists through them.
//!
//! A thing may be in several lists at once, each with a pair of links of its own, so that whatever is done to one is O(1).
//! Nothing is allocated once the places have grown to their peak.

use std::num::NonZeroU32;

pub(super) const NONE: u32 = u32::MAX;

/// Places for things of one kind.
#[derive(Clone, Debug)]
pub(super) struct Slots<T> {
    slots: Vec<(NonZeroU32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Puts a thing into a place.
    pub(super) fn add(&mut self, value: T) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE);
            self.slots.push((NonZeroU32::MIN, None));
            slot.expect("2^32 connections need more memory than a machine has")
        });
        self.slots[slot as usize].1 = Some(value);
        slot
    }

    /// Which of the place's things is in it.
    pub(super) fn generation(&self, slot: u32) -> NonZeroU32 {
        self.slots[slot as usize].0
    }

    /// Whether the place still holds the thing of that generation.
    pub(super) fn holds(&self, slot: u32, generation: NonZeroU32) -> bool {
        self.slots.get(slot as usize).is_some_and(|found| found.0 == generation && found.1.is_some())
    }

    /// Empties a place. Its ids are stale from now on.
    pub(super) fn remove(&mut self, slot: u32) {
        let found = &mut self.slots[slot as usize];
        // The generation wraps after 2^32 things in one place, past zero.
        found.0 = found.0.checked_add(1).unwrap_or(NonZeroU32::MIN);
        found.1 = None;
        self.free.push(slot);
    }
}

impl<T> std::ops::Index<u32> for Slots<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        self.slots[slot as usize].1.as_ref().expect("links and ids that were checked lead to things")
    }
}

impl<T> std::ops::IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.slots[slot as usize].1.as_mut().expect("links and ids that were checked lead to things")
    }
}

/// A thing's neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    before: u32,
    after: u32,
}

impl Link {
    pub(super) const NOWHERE: Self = Self { before: NONE, after: NONE };
}

/// A thing that can stand in lists.
pub(super) trait Linked {
    /// Its links of one kind.
    fn link(&mut self, kind: usize) -> &mut Link;
}

/// A list of things, through their links of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<const KIND: usize> {
    first: u32,
    last: u32,
    len: u32,
}

impl<const KIND: usize> Default for List<KIND> {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

impl<const KIND: usize> List<KIND> {
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }

    /// Puts a thing that stands in no list of this kind at the end.
    pub(super) fn push<T: Linked>(&mut self, slots: &mut Slots<T>, slot: u32) {
        *slots[slot].link(KIND) = Link { before: self.last, after: NONE };
        match self.last {
            NONE => self.first = slot,
            last => slots[last].link(KIND).after = slot,
        }
        self.last = slot;
        self.len += 1;
    }

    /// Takes a thing out of this list, in which it must stand.
    pub(super) fn remove<T: Linked>(&mut self, slots: &mut Slots<T>, slot: u32) {
        let Link { before, after } = std::mem::replace(slots[slot].link(KIND), Link::NOWHERE);
        match before {
            NONE => self.first = after,
            before => slots[before].link(KIND).after = after,
        }
        match after {
            NONE => self.last = before,
            after => slots[after].link(KIND).before = before,
        }
        self.len -= 1;
    }
}
