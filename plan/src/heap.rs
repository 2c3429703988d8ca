//! The event heap: what happens next in virtual time.

use model::Instant;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

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

/// Events by time, then turn, then the order in which they were put in. O(log n).
#[derive(Debug)]
pub struct EventHeap<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    /// The turn in the two highest bits, below it the sequence: 2^62 events are more than any plan has.
    order: u64,
    event: E,
}

const TURN_SHIFT: u32 = 62;

impl<E> Default for EventHeap<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E> EventHeap<E> {
    /// Puts an event in.
    #[inline]
    pub fn push(&mut self, at: Instant, turn: Turn, event: E) {
        let order = (turn as u64) << TURN_SHIFT | self.sequence;
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, order, event }));
    }

    /// When the next event is.
    #[inline]
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next event out.
    #[inline]
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    /// How many events are in it.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing more happens.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<E> Ord for Entry<E> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> PartialOrd for Entry<E> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

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
}
