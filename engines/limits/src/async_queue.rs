//! `async.queue-age`: the queue of asynchronous invocations: retries, back-off, events that grow too old, dead letters.
//!
//! Source: AWS Lambda Developer Guide, "How Lambda handles errors and retries with asynchronous invocation": an event that
//! is throttled goes back for up to 6 h, 1 s to 5 min later; one whose function fails is tried twice more, after one
//! minute and after two; "Retaining records": with a reservation of 0, events go to the dead letters at once; published.
//! That the back-off doubles, and that each event has its own, is assumed.
//!
//! ```text
//!   accept -> due -> started -> succeeded ------------------------------> settled: Success
//!              ^        |`----> failed ----> due again, or ------------> settled: RetriesExhausted
//!              |        `-----> throttled -> due again
//!              `--- back-off / retry ---'  too old when it is due -----> settled: EventAgeExceeded
//! ```
//!
//! Each call is O(log events), save for `due`, which is that for each event that it answers with. A queue keeps about 64 bytes
//! for each event, beside its payload.

use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

/// The first back-off after a throttle.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest back-off after a throttle.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How long after its first and its second failure an event is tried again.
pub const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];
/// How long events wait. Lambda's own figures unless somebody is in a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long after its first and its second failure an event is tried again.
    pub retries: [Duration; 2],
    /// The first back-off after a throttle; each further one is twice as long.
    pub backoff_min: Duration,
    /// The longest back-off.
    pub backoff_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { retries: RETRY_DELAYS, backoff_min: BACKOFF_MIN, backoff_max: BACKOFF_MAX }
    }
}

impl Timing {
    /// The same, so many times as fast; 0 counts as 1.
    pub fn faster(self, times: u32) -> Self {
        let times = times.max(1);
        Self {
            retries: self.retries.map(|delay| delay / times),
            backoff_min: self.backoff_min / times,
            backoff_max: self.backoff_max / times,
        }
    }

    /// The wait after so many tries in a row that came to nothing.
    pub fn backoff(&self, tries: u8) -> Duration {
        self.backoff_min.saturating_mul(1 << tries.min(9)).min(self.backoff_max)
    }
}

/// How old an event may become unless its function says otherwise.
pub const AGE_DEFAULT: Duration = Duration::from_secs(21_600);
/// The most events at once; AWS names no bound.
pub const EVENTS_MAX: usize = 10_000_000;

/// What becomes of one function's (or its version's or alias's) events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFigures {
    /// The name that the board shows.
    pub resource: Arc<str>,
    /// How old an event may become (`MaximumEventAgeInSeconds`).
    pub maximum_age: Duration,
    /// How often a failed one is tried again, 0 to 2 (`MaximumRetryAttempts`).
    pub maximum_retries: u8,
    /// Whether somebody hears of successes (`OnSuccess`).
    pub on_success: bool,
    /// Whether somebody hears of failures (`OnFailure`).
    pub on_failure: bool,
    /// Whether there is a dead-letter queue or topic.
    pub dead_letter: bool,
}

impl EventFigures {
    /// The defaults: 6 h, two retries, nobody hears of it.
    pub fn new(resource: Arc<str>) -> Self {
        Self {
            resource,
            maximum_age: AGE_DEFAULT,
            maximum_retries: 2,
            on_success: false,
            on_failure: false,
            dead_letter: false,
        }
    }
}

/// One event: its slot, and which of the slot's events it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    slot: u32,
    generation: u32,
}

/// One function's place in the queue, by the order of [`AsyncQueue::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueId(u32);

/// An event that is to be delivered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// The event; its driver says `throttled`, `succeeded` or `failed`, once.
    pub id: EventId,
    /// Whose it is.
    pub queue: QueueId,
    /// What came with it.
    pub payload: T,
    /// Its age.
    pub age: Duration,
}

/// How an event ended (`condition` of an invocation record; the last two names are widely used, not published).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Its function answered.
    Success,
    /// Its function failed each time, or takes no events at all.
    RetriesExhausted,
    /// It grew too old.
    EventAgeExceeded,
}

/// An event that is settled, and who is to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled<T> {
    /// Whose it was.
    pub queue: QueueId,
    /// What came with it.
    pub payload: T,
    /// How it ended.
    pub condition: Condition,
    /// How often its function ran for it (`approximateInvokeCount`).
    pub invocations: u8,
    /// Send a record to the destination for successes, or for failures.
    pub to_destination: bool,
    /// Send the event to the dead letters.
    pub to_dead_letters: bool,
}

/// How one function's events fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Accepted (AsyncEventsReceived).
    pub accepted: u64,
    /// Settled with success.
    pub delivered: u64,
    /// Tried again after a failure.
    pub retried: u64,
    /// Sent back after a throttle.
    pub throttled: u64,
    /// Settled without success (AsyncEventsDropped).
    pub dropped: u64,
    /// Of those, sent to the dead letters.
    pub dead_lettered: u64,
    /// Waiting or running now.
    pub pending: u64,
}

#[derive(Clone, Debug)]
struct Queue {
    figures: EventFigures,
    counts: EventCounts,
    tally: Tally,
    /// Its function was removed; the next one takes the place.
    is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    generation: u32,
    event: Option<Event<T>>,
}

#[derive(Clone, Copy, Debug)]
struct Event<T> {
    queue: u32,
    accepted: Instant,
    failures: u8,
    /// Throttles since its last invocation.
    throttles: u8,
    running: bool,
    payload: T,
}

/// When an event is due, and which in the order of the calls that made it due.
type Due = Reverse<(Instant, u64, EventId)>;

/// All queues of an account and Region. `T` is what the driver needs to deliver an event.
#[derive(Clone, Debug)]
pub struct AsyncQueue<T> {
    queues: Vec<Queue>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    free_queues: Vec<u32>,
    due: BinaryHeap<Due>,
    sequence: u64,
    now: Instant,
    timing: Timing,
}

impl<T> Default for AsyncQueue<T> {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            free_queues: Vec::new(),
            due: BinaryHeap::new(),
            sequence: 0,
            now: Instant::START,
            timing: Timing::default(),
        }
    }
}

impl<T: Copy> AsyncQueue<T> {
    /// Adds a function, version or alias.
    pub fn add(&mut self, figures: EventFigures) -> QueueId {
        let queue =
            Queue { figures, counts: EventCounts::default(), tally: Tally::default(), is_gone: false };
        if let Some(free) = self.free_queues.pop() {
            self.queues[free as usize] = queue;
            return QueueId(free);
        }
        self.queues.push(queue);
        QueueId((self.queues.len() - 1) as u32)
    }

    /// Takes an event in (202); it is due at once. `None` when the queue holds [`EVENTS_MAX`].
    pub fn accept(&mut self, now: Instant, queue: QueueId, payload: T) -> Option<EventId> {
        let now = self.clock(now);
        let event =
            Event { queue: queue.0, accepted: now, failures: 0, throttles: 0, running: false, payload };
        let id = self.enter(event)?;
        self.queues[queue.0 as usize].counts.accepted += 1;
        self.schedule(now, id);
        Some(id)
    }

    fn enter(&mut self, event: Event<T>) -> Option<EventId> {
        if self.slots.len() - self.free.len() >= EVENTS_MAX {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, event: None });
            (self.slots.len() - 1) as u32
        });
        self.queues[event.queue as usize].counts.pending += 1;
        let entry = &mut self.slots[slot as usize];
        entry.event = Some(event);
        Some(EventId { slot, generation: entry.generation })
    }

    /// When `due` has something to say next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next event that is to be delivered by now. Those that have grown too old are settled on the way.
    pub fn due(&mut self, now: Instant, settled: &mut Vec<Settled<T>>) -> Option<Delivery<T>> {
        let now = self.clock(now);
        while let Some(Reverse((_, _, id))) = self.due.peek().filter(|Reverse((at, ..))| *at <= now).copied()
        {
            self.due.pop();
            let Some(event) = self.event_mut(id) else { continue };
            let (queue, age, payload) = (event.queue, now.since(event.accepted), event.payload);
            let figures = &self.queues[queue as usize].figures;
            if age >= figures.maximum_age {
                self.queues[queue as usize].tally.refuse(now);
                settled.extend(self.settle(id, Condition::EventAgeExceeded));
                continue;
            }
            self.queues[queue as usize].tally.reach(age.as_secs());
            if let Some(event) = self.event_mut(id) {
                event.running = true;
            }
            return Some(Delivery { id, queue: QueueId(queue), payload, age });
        }
        None
    }

    /// A limit refused the delivery: the event is due again after its back-off, or when it is too old. A function that
    /// reserves no concurrency at all takes no events, so that they are settled at once. Whether it was delivered.
    pub fn throttled(
        &mut self,
        now: Instant,
        id: EventId,
        refusal: &Refusal,
        settled: &mut Vec<Settled<T>>,
    ) -> bool {
        let now = self.clock(now);
        let Some(event) = self.event_mut(id).filter(|event| event.running) else { return false };
        event.running = false;
        if refusal.limit == LimitId::ReservedConcurrency && refusal.max == 0 {
            settled.extend(self.settle(id, Condition::RetriesExhausted));
            return true;
        }
        let throttles = event.throttles;
        event.throttles = event.throttles.saturating_add(1);
        let (queue, accepted) = (event.queue, event.accepted);
        let wait = self.timing.backoff(throttles);
        let queue = &mut self.queues[queue as usize];
        queue.counts.throttled += 1;
        let expiry = accepted + queue.figures.maximum_age;
        self.schedule((now + wait).min(expiry), id);
        true
    }

    /// The function answered. Whether the event was delivered.
    pub fn succeeded(&mut self, now: Instant, id: EventId, settled: &mut Vec<Settled<T>>) -> bool {
        self.clock(now);
        if self.event_mut(id).is_none_or(|event| !event.running) {
            return false;
        }
        settled.extend(self.settle(id, Condition::Success));
        true
    }

    /// The function failed or ran into its time-out: the event is tried again, unless it was too often. Whether it was
    /// delivered.
    pub fn failed(&mut self, now: Instant, id: EventId, settled: &mut Vec<Settled<T>>) -> bool {
        let now = self.clock(now);
        let Some(event) = self.event_mut(id).filter(|event| event.running) else { return false };
        (event.running, event.throttles) = (false, 0);
        event.failures += 1;
        let Event { failures, queue, accepted, .. } = *event;
        let queue = &mut self.queues[queue as usize];
        let delay = self.timing.retries.get(usize::from(failures) - 1);
        let delay = delay.filter(|_| failures <= queue.figures.maximum_retries);
        match delay {
            Some(delay) => {
                queue.counts.retried += 1;
                let expiry = accepted + queue.figures.maximum_age;
                self.schedule((now + *delay).min(expiry), id);
            }
            None => settled.extend(self.settle(id, Condition::RetriesExhausted)),
        }
        true
    }

    /// Whose event it is, unless it is settled.
    pub fn queue_of(&self, id: EventId) -> Option<QueueId> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.event.as_ref().map(|event| QueueId(event.queue))
    }

    /// How old an event is, unless it is settled.
    pub fn age(&self, now: Instant, id: EventId) -> Option<Duration> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.event.as_ref().map(|event| now.since(event.accepted))
    }

    /// How a function's events fare.
    pub fn counts(&self, queue: QueueId) -> EventCounts {
        self.queues[queue.0 as usize].counts
    }

    /// Events of all functions, waiting or running.
    pub fn pending(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The board's rows: the age of the oldest event that is not settled, in whole seconds, rounded down. O(events).
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        let now = now.max(self.now);
        let mut oldest: Vec<Option<Instant>> = vec![None; self.queues.len()];
        for event in self.slots.iter().filter_map(|slot| slot.event.as_ref()) {
            let first = &mut oldest[event.queue as usize];
            *first = Some(first.map_or(event.accepted, |first| first.min(event.accepted)));
        }
        let source: Arc<str> =
            "AWS Lambda Developer Guide, asynchronous invocation: 6 h unless the function says \
                                otherwise; published"
                .into();
        let there = self.queues.iter().zip(oldest).filter(|(queue, _)| !queue.is_gone);
        let rows = there.map(|(queue, oldest)| {
            let used = oldest.map_or(0, |accepted| now.since(accepted).as_secs());
            let max = queue.figures.maximum_age.as_secs();
            queue.tally.row(LimitId::AsyncQueueAge, &queue.figures.resource, used, max, &source)
        });
        rows.collect()
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn event_mut(&mut self, id: EventId) -> Option<&mut Event<T>> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?.event.as_mut()
    }

    fn schedule(&mut self, at: Instant, id: EventId) {
        self.due.push(Reverse((at, self.sequence, id)));
        self.sequence += 1;
    }

    fn settle(&mut self, id: EventId, condition: Condition) -> Option<Settled<T>> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let event = slot.event.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        let Queue { figures, counts, .. } = &mut self.queues[event.queue as usize];
        let success = condition == Condition::Success;
        let to_dead_letters = !success && figures.dead_letter;
        counts.pending -= 1;
        counts.delivered += u64::from(success);
        counts.dropped += u64::from(!success);
        counts.dead_lettered += u64::from(to_dead_letters);
        Some(Settled {
            queue: QueueId(event.queue),
            payload: event.payload,
            condition,
            invocations: event.failures + u8::from(success),
            to_destination: if success { figures.on_success } else { figures.on_failure },
            to_dead_letters,
        })
    }
}

mod live;

pub use live::Past;

#[cfg(test)]
mod tests;
