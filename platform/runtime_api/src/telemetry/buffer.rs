//! What waits for one subscriber: bounded, with a count of what did not fit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How many batches' worth may wait while one is on its way: what exceeds that is dropped, and counted.
const BATCHES_MAX: usize = 2;

/// When a batch is sent. Source: Lambda Developer Guide, "Telemetry API", buffering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { items: 10_000, bytes: 262_144, timeout: Duration::from_millis(1_000) }
    }
}

/// Events that were not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Dropped {
    fn count(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

#[derive(Debug)]
pub(super) struct Buffer {
    limits: Limits,
    events: VecDeque<Arc<str>>,
    bytes: usize,
    dropped: Dropped,
}

impl Buffer {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, events: VecDeque::new(), bytes: 0, dropped: Dropped::default() }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether there is enough for a batch.
    pub(super) fn is_due(&self) -> bool {
        self.events.len() >= self.limits.items || self.bytes >= self.limits.bytes
    }

    pub(super) fn push(&mut self, event: Arc<str>) {
        let is_full = self.events.len() >= self.limits.items * BATCHES_MAX
            || self.bytes + event.len() > self.limits.bytes * BATCHES_MAX;
        if is_full {
            self.dropped.count(event.len());
        } else {
            self.bytes += event.len();
            self.events.push_back(event);
        }
    }

    /// A batch was not taken by anybody.
    pub(super) fn lose(&mut self, batch: &[Arc<str>]) {
        batch.iter().for_each(|event| self.dropped.count(event.len()));
    }

    /// The oldest events up to the limits, at least one; and what was dropped since the last batch.
    pub(super) fn take(&mut self) -> (Vec<Arc<str>>, Dropped) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(event) = self.events.front() {
            if batch.len() == self.limits.items
                || (!batch.is_empty() && bytes + event.len() > self.limits.bytes)
            {
                break;
            }
            bytes += event.len();
            batch.extend(self.events.pop_front());
        }
        self.bytes -= bytes;
        let dropped = if batch.is_empty() { Dropped::default() } else { std::mem::take(&mut self.dropped) };
        (batch, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(items: usize, bytes: usize) -> Buffer {
        Buffer::new(Limits { items, bytes, timeout: Duration::from_millis(25) })
    }

    #[test]
    fn a_batch_keeps_to_both_limits_and_to_the_order() {
        let mut buffer = buffer(3, 10);
        for event in ["aaaa", "bbbb", "cccc", "d"] {
            buffer.push(event.into());
        }
        assert!(buffer.is_due());
        let texts = |batch: Vec<Arc<str>>| batch.iter().map(|event| event.to_string()).collect::<Vec<_>>();
        assert_eq!(texts(buffer.take().0), ["aaaa", "bbbb"]);
        assert!(!buffer.is_due());
        assert_eq!(texts(buffer.take().0), ["cccc", "d"]);
        assert!(buffer.is_empty() && buffer.take().0.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_counted_once_and_told_with_the_next_batch() {
        let mut buffer = buffer(2, 1_000);
        (0..7).for_each(|_| buffer.push("xyz".into()));
        let (batch, dropped) = buffer.take();
        assert_eq!((batch.len(), dropped), (2, Dropped { records: 3, bytes: 9 }));
        assert_eq!(buffer.take().1, Dropped::default());
        buffer.lose(&batch);
        assert_eq!(buffer.take().1, Dropped::default(), "told with events, never alone");
        buffer.push("a".into());
        assert_eq!(buffer.take().1, Dropped { records: 2, bytes: 6 });
    }

    #[test]
    fn one_event_larger_than_the_limit_is_a_batch_of_its_own() {
        let mut buffer = buffer(10, 4);
        buffer.push("12345678".into());
        buffer.push("9".into());
        let (batch, dropped) = buffer.take();
        assert_eq!((batch.len(), dropped.records), (1, 1));
    }

    #[test]
    fn bytes_are_never_lost_from_the_count() {
        proptest::proptest!(|(lengths in proptest::collection::vec(0_usize..40, 0..200), take_every in 1_usize..9)| {
            let mut buffer = buffer(5, 60);
            let (mut sent, mut dropped, mut given) = (0, 0, 0);
            for (index, length) in lengths.iter().enumerate() {
                given += length;
                buffer.push("x".repeat(*length).into());
                if index % take_every == 0 {
                    let (batch, lost) = buffer.take();
                    sent += batch.iter().map(|event| event.len()).sum::<usize>();
                    dropped += lost.bytes as usize;
                }
                assert!(buffer.bytes <= 120 && buffer.events.len() <= 10);
            }
            buffer.push("x".into());
            given += 1;
            while !buffer.is_empty() {
                let (batch, lost) = buffer.take();
                sent += batch.iter().map(|event| event.len()).sum::<usize>();
                dropped += lost.bytes as usize;
            }
            dropped += buffer.dropped.bytes as usize;
            assert_eq!(sent + dropped, given);
        });
    }
}
