//! The event heap: what happens next in virtual time.
//!
//! It is a hierarchical timing wheel with exact times (G. Varghese and A. Lauck, "Hashed and Hierarchical Timing
//! Wheels", SOSP 1987, scheme 6; the digits are taken as a radix heap does, so that empty time costs nothing). An event
//! waits in the slot of the highest digit in which its time differs from the wheel's, and moves to lower digits as the
//! wheel comes nearer: once per digit at most, each time by an append, so that neither depends on how many events there
//! are, and memory is read in order.

use model::Instant;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

/// Which events of one instant come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// What frees something. It comes first, so that one environment serves requests that follow one another
    /// without a gap.
    Free,
    /// What begins or ends a part of the load.
    Phase,
    /// What wants something.
    Want,
}

const TURNS: usize = 3;
/// Bits of a digit: as many slots as a word of `occupied` has bits.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// Digits of a time: 64 bits in groups of six.
const DIGITS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// The memory of a slot with room for more events than this is given back when the slot is emptied.
const KEPT_CAPACITY_MAX: usize = 4096;
/// The memory of so many empty slots is kept for others.
const KEPT_SLOTS_MAX: usize = SLOTS;

/// Events by time, then turn, then the order in which they were put in. O(1), amortised.
#[derive(Debug)]
pub struct EventHeap<E> {
    /// The wheel's time, in nanoseconds: that of the events in `current`.
    time: u64,
    /// Events at `time`, by turn.
    current: [VecDeque<E>; TURNS],
    /// How many events are in `current`.
    waiting: usize,
    /// Later events. Slot `digit * SLOTS + value` holds those whose times have that value of that digit, and the
    /// wheel's own higher digits.
    slots: Vec<Vec<Entry<E>>>,
    /// Which slots of each digit are not empty.
    occupied: [u64; DIGITS],
    /// Which digits have slots that are not empty.
    digits: u16,
    /// Events before `time`: put in after somebody asked when the next one is.
    early: BinaryHeap<Reverse<Early<E>>>,
    sequence: u64,
    spare: Vec<Vec<Entry<E>>>,
    len: usize,
}

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    turn: Turn,
    event: E,
}

#[derive(Debug)]
struct Early<E> {
    key: (u64, Turn, u64),
    event: E,
}

impl<E> Default for EventHeap<E> {
    fn default() -> Self {
        Self {
            time: 0,
            current: Default::default(),
            waiting: 0,
            slots: std::iter::repeat_with(Vec::new).take(DIGITS * SLOTS).collect(),
            occupied: [0; DIGITS],
            digits: 0,
            early: BinaryHeap::new(),
            sequence: 0,
            spare: Vec::new(),
            len: 0,
        }
    }
}

impl<E> EventHeap<E> {
    /// Puts an event in.
    #[inline]
    pub fn push(&mut self, at: Instant, turn: Turn, event: E) {
        let at = at.as_nanos();
        self.len += 1;
        if at > self.time {
            self.put(Entry { at, turn, event });
        } else if at == self.time {
            self.waiting += 1;
            self.current[turn as usize].push_back(event);
        } else {
            self.sequence += 1;
            self.early.push(Reverse(Early { key: (at, turn, self.sequence), event }));
        }
    }

    /// When the next event is.
    #[inline]
    pub fn next_at(&mut self) -> Option<Instant> {
        if let Some(Reverse(early)) = self.early.peek() {
            return Some(Instant::from_nanos(early.key.0));
        }
        if self.len == 0 {
            return None;
        }
        if self.waiting == 0 {
            self.turn();
        }
        Some(Instant::from_nanos(self.time))
    }

    /// Takes the next event out.
    #[inline]
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        let at = self.next_at()?;
        self.len -= 1;
        if let Some(Reverse(early)) = self.early.pop() {
            return Some((at, early.event));
        }
        self.waiting -= 1;
        let event = self.current.iter_mut().find_map(VecDeque::pop_front);
        Some((at, event.expect("the wheel stands where an event is")))
    }

    /// How many events are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing more happens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an entry that is later than the wheel's time into its slot.
    #[inline]
    fn put(&mut self, entry: Entry<E>) {
        let digit = (u64::BITS - 1 - (entry.at ^ self.time).leading_zeros()) / DIGIT_BITS;
        let value = entry.at >> (digit * DIGIT_BITS) & (SLOTS as u64 - 1);
        let slot = &mut self.slots[digit as usize * SLOTS + value as usize];
        if slot.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            *slot = spare;
        }
        slot.push(entry);
        self.occupied[digit as usize] |= 1 << value;
        self.digits |= 1 << digit;
    }

    /// Turns the wheel to the next event. Some slot is not empty.
    fn turn(&mut self) {
        let digit = self.digits.trailing_zeros() as usize;
        let value = self.occupied[digit].trailing_zeros() as usize;
        self.occupied[digit] &= self.occupied[digit] - 1;
        if self.occupied[digit] == 0 {
            self.digits &= !(1 << digit);
        }
        let slot = &mut self.slots[digit * SLOTS + value];
        if slot.len() == 1
            && let Some(entry) = slot.pop()
        {
            self.time = entry.at;
            self.waiting = 1;
            self.current[entry.turn as usize].push_back(entry.event);
            return;
        }
        let mut entries = std::mem::take(slot);
        self.time = entries.iter().map(|entry| entry.at).min().expect("a slot that is marked is not empty");
        // Those of one time stay in the order in which they came: they always share a slot.
        for entry in entries.drain(..) {
            if entry.at == self.time {
                self.waiting += 1;
                self.current[entry.turn as usize].push_back(entry.event);
            } else {
                self.put(entry);
            }
        }
        if entries.capacity() <= KEPT_CAPACITY_MAX && self.spare.len() < KEPT_SLOTS_MAX {
            self.spare.push(entries);
        }
    }
}

impl<E> Ord for Early<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl<E> PartialOrd for Early<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Early<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Early<E> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn events_come_by_time_then_turn_then_arrival() {
        let mut heap = EventHeap::default();
        for (secs, turn, name) in [
            (2, Turn::Free, "g"),
            (1, Turn::Want, "e"),
            (1, Turn::Phase, "d"),
            (1, Turn::Want, "f"),
            (1, Turn::Free, "b"),
            (1, Turn::Free, "c"),
            (0, Turn::Want, "a"),
        ] {
            heap.push(Instant::from_secs(secs), turn, name);
        }
        assert_eq!((heap.len(), heap.next_at()), (7, Some(Instant::START)));
        let order: String = std::iter::from_fn(|| heap.pop()).map(|(_, name)| name).collect();
        assert_eq!(order, "abcdefg");
        assert!(heap.is_empty());
    }

    #[test]
    fn an_event_before_the_next_one_may_still_be_put_in() {
        let mut heap = EventHeap::default();
        heap.push(Instant::from_secs(9), Turn::Want, "c");
        assert_eq!(heap.next_at(), Some(Instant::from_secs(9)));
        heap.push(Instant::from_secs(5), Turn::Want, "b");
        heap.push(Instant::from_secs(5), Turn::Free, "a");
        heap.push(Instant::NEVER, Turn::Free, "d");
        let order: String = std::iter::from_fn(|| heap.pop()).map(|(_, name)| name).collect();
        assert_eq!(order, "abcd");
    }

    /// Steps of a run: events to put in, by how long after the last one that was taken out, then one is taken out.
    fn steps() -> impl Strategy<Value = Vec<Vec<(u64, usize)>>> {
        let after = prop_oneof![0u64..3, 0u64..200, 0u64..1 << 20, 0u64..1 << 40, Just(u64::MAX)];
        proptest::collection::vec(proptest::collection::vec((after, 0usize..TURNS), 0..6), 1..120)
    }

    proptest! {
        #[test]
        fn it_agrees_with_an_ordered_map(steps in steps(), peeks in any::<u64>()) {
            let (mut heap, mut map) = (EventHeap::default(), BTreeMap::new());
            let (mut now, mut number) = (0u64, 0u64);
            let mut step = 0;
            while step < steps.len() || !map.is_empty() {
                for &(after, turn) in steps.get(step).into_iter().flatten() {
                    let at = now.saturating_add(after);
                    let turn = [Turn::Free, Turn::Phase, Turn::Want][turn];
                    heap.push(Instant::from_nanos(at), turn, number);
                    map.insert((at, turn, number), ());
                    number += 1;
                }
                if peeks >> (step % 64) & 1 == 1 {
                    prop_assert_eq!(heap.next_at().map(Instant::as_nanos), map.keys().next().map(|key| key.0));
                }
                let expected = map.pop_first().map(|((at, _, number), ())| (at, number));
                let popped = heap.pop().map(|(at, number)| (at.as_nanos(), number));
                prop_assert_eq!(popped, expected);
                prop_assert_eq!(heap.len(), map.len());
                now = expected.map_or(now, |(at, _)| at);
                step += 1;
            }
        }
    }
}
