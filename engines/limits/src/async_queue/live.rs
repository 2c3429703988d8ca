//! What only a live driver needs of the queue: figures that change, functions that go, events of an earlier run.

use super::{AsyncQueue, Event, EventFigures, EventId, QueueId, Timing};
use model::Instant;
use std::time::Duration;

/// What an event of an earlier run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How old it is.
    pub age: Duration,
    /// How often its function failed for it.
    pub failures: u8,
    /// How long it still has to wait.
    pub wait: Duration,
}

impl<T: Copy> AsyncQueue<T> {
    /// A queue with other waits than Lambda's.
    pub fn with_timing(timing: Timing) -> Self {
        Self { timing, ..Self::default() }
    }

    /// Changes what becomes of a function's events, of those that wait as well. An event that waits for longer than the new
    /// age allows is settled when its wait is over.
    pub fn set_figures(&mut self, queue: QueueId, figures: EventFigures) {
        self.queues[queue.0 as usize].figures = figures;
    }

    /// Takes in an event that an earlier run accepted. Its age counts from `now`, so the driver's clock must not start at
    /// zero: an age that reaches beyond the start is cut off there. `None` when the queue is full.
    pub fn restore(&mut self, now: Instant, queue: QueueId, payload: T, past: Past) -> Option<EventId> {
        let now = self.clock(now);
        let accepted = Instant::from_nanos(now.since(Instant::START + past.age).as_nanos() as u64);
        let Past { failures, wait, .. } = past;
        let event = Event { queue: queue.0, accepted, failures, throttles: 0, running: false, payload };
        let id = self.enter(event)?;
        let expiry = accepted + self.queues[queue.0 as usize].figures.maximum_age;
        self.schedule((now + wait).min(expiry), id);
        Some(id)
    }

    /// Drops all events of a function that is gone, those that run included, and forgets the queue. Nobody hears of them
    /// but the caller. O(events).
    pub fn remove(&mut self, queue: QueueId, dropped: &mut Vec<T>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(event) = slot.event.take_if(|event| event.queue == queue.0) {
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index as u32);
                dropped.push(event.payload);
            }
        }
        self.queues[queue.0 as usize].counts.pending = 0;
        self.queues[queue.0 as usize].is_gone = true;
        self.free_queues.push(queue.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Condition, Delivery, Settled};
    use super::*;

    /// Everything that is due, one after the other.
    fn drain(queue: &mut AsyncQueue<u32>, now: Instant) -> (Vec<Delivery<u32>>, Vec<Settled<u32>>) {
        let (mut due, mut settled) = (Vec::new(), Vec::new());
        while let Some(delivery) = queue.due(now, &mut settled) {
            due.push(delivery);
        }
        (due, settled)
    }

    #[test]
    fn an_event_of_an_earlier_run_goes_on_where_it_was() {
        let mut queue = AsyncQueue::default();
        let cart = queue.add(EventFigures::new("cart".into()));
        let day = Instant::from_secs(86_400);
        let past = Past { age: Duration::from_secs(100), failures: 2, wait: Duration::from_secs(20) };
        queue.restore(day, cart, 7, past).unwrap();
        assert_eq!(queue.next_deadline(), Some(Instant::from_secs(86_420)));
        let (due, _) = drain(&mut queue, Instant::from_secs(86_420));
        assert_eq!((due.len(), due[0].age), (1, Duration::from_secs(120)));
        let mut settled = Vec::new();
        queue.failed(Instant::from_secs(86_421), due[0].id, &mut settled);
        assert_eq!((settled[0].condition, settled[0].invocations), (Condition::RetriesExhausted, 3));
        assert_eq!(queue.counts(cart).accepted, 0, "it was accepted before");
    }

    #[test]
    fn an_event_that_grew_too_old_while_nothing_ran_is_settled_at_once() {
        let mut queue = AsyncQueue::default();
        let cart = queue.add(EventFigures { on_failure: true, ..EventFigures::new("cart".into()) });
        let day = Instant::from_secs(86_400);
        let past = Past { age: Duration::from_secs(21_600), ..Past::default() };
        queue.restore(day, cart, 7, past).unwrap();
        let (due, settled) = drain(&mut queue, day);
        assert_eq!((due.len(), settled[0].condition), (0, Condition::EventAgeExceeded));
    }

    #[test]
    fn figures_that_change_hold_for_events_that_wait() {
        let mut queue = AsyncQueue::default();
        let cart = queue.add(EventFigures::new("cart".into()));
        queue.accept(Instant::START, cart, 7).unwrap();
        let (due, _) = drain(&mut queue, Instant::START);
        queue.set_figures(cart, EventFigures { maximum_retries: 0, ..EventFigures::new("cart".into()) });
        let mut settled = Vec::new();
        queue.failed(Instant::START, due[0].id, &mut settled);
        assert_eq!(settled[0].condition, Condition::RetriesExhausted);
    }

    #[test]
    fn events_of_a_function_that_is_gone_are_dropped_and_their_place_is_used_again() {
        let mut queue = AsyncQueue::default();
        let (cart, other) =
            (queue.add(EventFigures::new("cart".into())), queue.add(EventFigures::new("other".into())));
        queue.accept(Instant::START, cart, 1).unwrap();
        queue.accept(Instant::START, other, 2).unwrap();
        queue.accept(Instant::START, cart, 3).unwrap();
        let mut settled = Vec::new();
        let running = queue.due(Instant::START, &mut settled).unwrap();
        let mut dropped = Vec::new();
        queue.remove(cart, &mut dropped);
        assert_eq!((dropped, queue.pending()), (vec![1, 3], 1));
        assert!(!queue.succeeded(Instant::START, running.id, &mut settled), "it is nobody's");
        assert_eq!(queue.board(Instant::START).len(), 1);
        assert_eq!(queue.add(EventFigures::new("new".into())), cart);
        let (due, _) = drain(&mut queue, Instant::START);
        assert_eq!(due.iter().map(|delivery| delivery.payload).collect::<Vec<_>>(), [2]);
        assert_eq!(queue.board(Instant::START).len(), 2);
    }

    #[test]
    fn waits_can_be_made_shorter() {
        let mut queue = AsyncQueue::with_timing(Timing::default().faster(600));
        let cart = queue.add(EventFigures::new("cart".into()));
        queue.accept(Instant::START, cart, 7).unwrap();
        let (due, _) = drain(&mut queue, Instant::START);
        queue.failed(Instant::START, due[0].id, &mut Vec::new());
        assert_eq!(queue.next_deadline(), Some(Instant::from_millis(100)));
        assert_eq!(Timing::default().backoff(255), Duration::from_secs(300));
    }
}
