//! When flows fall silent: a wheel of lists through the flows' records, and a heap for what is due soon.
//!
//! A packet only writes the time into its flow's record; nothing moves. A flow whose turn comes is looked at again, and goes
//! to where its deadline has moved meanwhile. So a flow costs one look in each of its time-outs, however many packets it
//! has, and yet ends to the nanosecond, in the order of deadlines.
//!
//! Scheduling and removal are O(1); a flow that falls due is O(log flows due within a second).

use crate::flow::{Flow, NONE, Rest, State};
use model::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A list's span: 2^30 ns, about a second.
const TICK_BITS: u32 = 30;
/// Lists, a power of two: nine minutes. What is due later is looked at once on the way.
const LISTS: u64 = 512;
/// In `previous`: the record stands in the heap.
const IN_HEAP: u32 = u32::MAX - 1;
/// In `previous`, this and the list's number: the record is the first of that list.
const FIRST: u32 = u32::MAX - 2 - LISTS as u32;

/// The wheel.
#[derive(Clone, Debug)]
pub struct Timers {
    lists: Box<[u32]>,
    /// Which lists have a record: a bit each.
    filled: [u64; LISTS as usize / 64],
    /// Everything up to this tick stands in the heap or is gone.
    tick: u64,
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Default for Timers {
    fn default() -> Self {
        let lists = vec![NONE; LISTS as usize].into();
        Self { lists, filled: [0; LISTS as usize / 64], tick: 0, heap: BinaryHeap::new() }
    }
}

impl Timers {
    /// Remembers to look at a flow at `deadline`. It must not stand here yet.
    pub fn schedule(&mut self, rests: &mut [Rest], slot: u32, deadline: Instant) {
        let tick = (deadline.as_nanos() >> TICK_BITS).min(self.tick + LISTS - 1);
        if tick <= self.tick {
            rests[slot as usize].previous = IN_HEAP;
            self.heap.push(Reverse((deadline, slot)));
            return;
        }
        let list = (tick % LISTS) as usize;
        let next = self.lists[list];
        if next != NONE {
            rests[next as usize].previous = slot;
        }
        self.lists[list] = slot;
        self.filled[list / 64] |= 1 << (list % 64);
        let rest = &mut rests[slot as usize];
        (rest.previous, rest.next) = (FIRST + list as u32, next);
    }

    /// Forgets a flow.
    pub fn remove(&mut self, rests: &mut [Rest], slot: u32) {
        let Rest { previous, next, .. } = rests[slot as usize];
        // What the heap has of it is stale then, and skipped when its turn comes.
        if previous == IN_HEAP {
            return;
        }
        if next != NONE {
            rests[next as usize].previous = previous;
        }
        if previous < FIRST {
            rests[previous as usize].next = next;
            return;
        }
        let list = (previous - FIRST) as usize;
        self.lists[list] = next;
        if next == NONE {
            self.filled[list / 64] &= !(1 << (list % 64));
        }
    }

    /// When to look again, at the latest: nothing falls due before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let soon = self.heap.peek().map(|Reverse((at, _))| *at);
        let later = self.next_list().map(|tick| Instant::from_nanos(tick << TICK_BITS));
        soon.into_iter().chain(later).min()
    }

    /// The next flow that has been silent for long enough at `now`, and since when it is due; it stands here no more.
    pub fn pop(
        &mut self,
        (flows, rests): (&[Flow], &mut [Rest]),
        now: Instant,
        deadline: impl Fn(&Flow) -> Instant,
    ) -> Option<(u32, Instant)> {
        loop {
            if let Some(Reverse((at, slot))) = self.heap.peek().copied().filter(|entry| entry.0.0 <= now) {
                self.heap.pop();
                let Some(flow) = flows.get(slot as usize) else { continue };
                if flow.state == State::Free || rests[slot as usize].previous != IN_HEAP {
                    continue;
                }
                let due = deadline(flow);
                if due <= at {
                    return Some((slot, due));
                }
                self.schedule(rests, slot, due);
                continue;
            }
            let last = now.as_nanos() >> TICK_BITS;
            match self.next_list().filter(|tick| *tick <= last) {
                Some(tick) => {
                    self.tick = tick;
                    self.open((flows, rests), (tick % LISTS) as usize, &deadline);
                }
                None => {
                    self.tick = self.tick.max(last);
                    return None;
                }
            }
        }
    }

    /// Looks at everything in a list whose time has come.
    fn open(
        &mut self,
        (flows, rests): (&[Flow], &mut [Rest]),
        list: usize,
        deadline: &impl Fn(&Flow) -> Instant,
    ) {
        let mut slot = std::mem::replace(&mut self.lists[list], NONE);
        self.filled[list / 64] &= !(1 << (list % 64));
        while slot != NONE {
            let (next, due) = (rests[slot as usize].next, deadline(&flows[slot as usize]));
            self.schedule(rests, slot, due);
            slot = next;
        }
    }

    /// The first tick after this one whose list has a record.
    fn next_list(&self) -> Option<u64> {
        let begin = ((self.tick + 1) % LISTS) as usize;
        let words = self.filled.len();
        for step in 0..=words {
            let index = (begin / 64 + step) % words;
            let mut word = self.filled[index];
            if step == 0 {
                word &= u64::MAX << (begin % 64);
            } else if step == words {
                word &= !(u64::MAX << (begin % 64));
            }
            if word != 0 {
                let list = (index * 64) as u64 + u64::from(word.trailing_zeros());
                let distance = (list + LISTS - begin as u64) % LISTS;
                return Some(self.tick + 1 + distance);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn deadline(flow: &Flow) -> Instant {
        // Each flow has its own patience, in seconds.
        Instant::from_nanos(flow.last.as_nanos() + u64::from(flow.environment) * 1_000_000_000)
    }

    proptest! {
        #[test]
        fn flows_end_at_their_deadlines_in_order(
            steps in prop::collection::vec((0u8..3, 0usize..12, 0u64..200_000_000_000, 1u32..900), 1..200),
        ) {
            let (mut flows, mut rests) = (vec![Flow::default(); 12], vec![Rest::default(); 12]);
            let (mut timers, mut now, mut due) = (Timers::default(), 0, BTreeMap::new());
            for (what, slot, wait, patience) in steps {
                now += wait;
                let at = Instant::from_nanos(now);
                let mut last = Instant::START;
                if let Some(next) = timers.next_deadline() {
                    let soonest = due.values().min().copied();
                    prop_assert!(soonest.is_none_or(|soonest: Instant| next <= soonest), "never too late");
                }
                while let Some((slot, ended)) = timers.pop((&flows, &mut rests), at, deadline) {
                    prop_assert_eq!(due.remove(&(slot as usize)), Some(ended));
                    prop_assert!(last <= ended && ended <= at);
                    last = ended;
                    flows[slot as usize].state = State::Free;
                }
                prop_assert!(due.values().all(|due| *due > at), "whatever was due has ended");
                let flow = &mut flows[slot];
                match (what, flow.state) {
                    (0, State::Free) => {
                        *flow = Flow { last: at, environment: patience, state: State::Open, ..Flow::default() };
                        let ends = deadline(flow);
                        due.insert(slot, ends);
                        timers.schedule(&mut rests, slot as u32, ends);
                    }
                    (1, State::Open) => {
                        flow.last = at;
                        due.insert(slot, deadline(flow));
                    }
                    (2, State::Open) => {
                        timers.remove(&mut rests, slot as u32);
                        flows[slot].state = State::Free;
                        due.remove(&slot);
                    }
                    _ => {}
                }
            }
        }
    }
}
