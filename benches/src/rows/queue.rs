//! The planner's event queue beside a binary heap: the hold model, where each event that is taken out puts one in.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use anyhow::Result;
use model::Instant as Moment;
use plan::heap::{EventHeap, Turn};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::Instant;

/// How far ahead events are put in, evenly: a tenth of a second.
const AHEAD_NANOS: u64 = 100_000_000;
/// What a plan's event carries: 12 bytes.
type Load = [u32; 3];

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    for (pending, times) in [(10_000, 1.2), (1_000_000, 5.0)] {
        let events = bench.pick(2_000_000, 5_000_000);
        let [mut ours, mut floor] = [const { Samples(Vec::new()) }; 2];
        for _ in 0..bench.rounds() {
            ours.push(hold(pending, events, EventHeap::default()));
            floor.push(hold(pending, events, Binary::default()));
        }
        board.add(Figure {
            what: format!("event queue, {pending} pending"),
            unit: "events/s",
            ours,
            other: Some(("binary heap", floor)),
            goal: Goal::TimesAtLeast(times),
        });
    }
    Ok(())
}

trait Queue {
    fn put(&mut self, at: u64, load: Load);
    fn take(&mut self) -> Option<(u64, Load)>;
}

impl Queue for EventHeap<Load> {
    fn put(&mut self, at: u64, load: Load) {
        self.push(Moment::from_nanos(at), Turn::Want, load);
    }

    fn take(&mut self) -> Option<(u64, Load)> {
        self.pop().map(|(at, load)| (at.as_nanos(), load))
    }
}

/// The usual heap, with the number that keeps events of one time in order.
#[derive(Default)]
struct Binary {
    heap: BinaryHeap<Reverse<(u64, u64, Load)>>,
    sequence: u64,
}

impl Queue for Binary {
    fn put(&mut self, at: u64, load: Load) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, load)));
    }

    fn take(&mut self) -> Option<(u64, Load)> {
        self.heap.pop().map(|Reverse((at, _, load))| (at, load))
    }
}

/// Events a second with so many pending.
fn hold(pending: u32, events: u64, mut queue: impl Queue) -> f64 {
    let mut random = 88_172_645_463_325_252_u64;
    let mut ahead = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        1 + random % AHEAD_NANOS
    };
    for number in 0..pending {
        queue.put(ahead(), [number; 3]);
    }
    let begun = Instant::now();
    for _ in 0..events {
        let Some((at, load)) = queue.take() else { break };
        queue.put(at + ahead(), load);
    }
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    black_box(queue.take());
    rate
}
