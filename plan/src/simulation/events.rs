//! Asynchronous invocations: accepted at once, delivered by the queue, tried again.

use super::phase::PhaseRun;
use super::record::Answer;
use super::request::{Ask, Caller};
use super::{Event, Simulation};
use crate::heap::Turn;
use crate::input::PlanInput;
use crate::load::Load;
use crate::options::Options;
use crate::report::EventRow;
use crate::samples::Samples;
use limits::async_queue::{AsyncQueue, Condition, EventFigures, EventId, QueueId, Settled};
use model::time::nanos;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// The queue of a plan in its course. The payload of an event is its phase.
#[derive(Debug)]
pub struct EventsRun {
    queue: AsyncQueue<u32>,
    lanes: Vec<Lane>,
    /// By phase; `None` for synchronous ones.
    phases: Vec<Option<usize>>,
    settled: Vec<Settled<u32>>,
    /// When the heap wakes the queue next.
    wake: Instant,
    /// Some events found the queue full.
    pub overflowed: bool,
}

/// The events of one function, version or alias.
#[derive(Debug)]
struct Lane {
    id: QueueId,
    function: usize,
    figures: EventFigures,
    /// From acceptance to each start of the function.
    ages: Samples,
    to_destinations: u64,
}

impl EventsRun {
    /// The queue, if some phase sends events.
    pub fn new(input: &PlanInput, load: &Load, phases: &[PhaseRun], options: &Options) -> Option<Box<Self>> {
        if !load.phases.iter().any(|phase| phase.event) {
            return None;
        }
        let (mut queue, mut lanes): (AsyncQueue<u32>, Vec<Lane>) = Default::default();
        let phases = load.phases.iter().zip(phases).map(|(phase, run)| {
            if !phase.event {
                return None;
            }
            let function = run.target.function;
            let mut figures = input.events_of(function, &phase.target.text);
            if let Some(age) = options.overrides.get(LimitId::AsyncQueueAge) {
                figures.maximum_age = Duration::from_secs(age);
            }
            let known = lanes.iter().position(|lane| lane.figures.resource == figures.resource);
            Some(known.unwrap_or_else(|| {
                let (id, ages) = (queue.add(figures.clone()), Samples::default());
                lanes.push(Lane { id, function, figures, ages, to_destinations: 0 });
                lanes.len() - 1
            }))
        });
        let phases = phases.collect();
        let (settled, wake) = (Vec::new(), Instant::NEVER);
        Some(Box::new(Self { queue, lanes, phases, settled, wake, overflowed: false }))
    }

    /// The board's rows.
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        self.queue.board(now)
    }

    /// How each function's events fared.
    pub fn rows(&self) -> Vec<EventRow> {
        let row = |lane: &Lane| {
            let counts = self.queue.counts(lane.id);
            EventRow {
                function: Arc::clone(&lane.figures.resource),
                accepted: counts.accepted,
                delivered: counts.delivered,
                retried: counts.retried,
                throttled: counts.throttled,
                dropped: counts.dropped,
                dead_lettered: counts.dead_lettered,
                to_destinations: lane.to_destinations,
                pending: counts.pending,
                age_s: lane.ages.sorted().percentiles(),
            }
        };
        self.lanes.iter().map(row).collect()
    }
}

impl Simulation {
    /// Takes an event of the phase in, if it sends events; its client has the answer at once. `None`: it does not.
    #[inline]
    pub(super) fn accept_event(&mut self, now: Instant, ask: &Ask) -> Option<Option<Instant>> {
        let events = self.events.as_mut()?;
        let lane = events.phases[ask.phase as usize]?;
        if events.queue.accept(now, events.lanes[lane].id, ask.phase).is_none() {
            events.overflowed = true;
        }
        self.wake_queue(now);
        Some(self.answer(now + ask.latency, ask, Answer::Accepted))
    }

    /// Has the heap wake the queue when it has something to deliver.
    fn wake_queue(&mut self, now: Instant) {
        let Some(events) = self.events.as_mut() else { return };
        let Some(at) = events.queue.next_deadline().map(|at| at.max(now)) else { return };
        if at < events.wake {
            events.wake = at;
            self.heap.push(at, Turn::Want, Event::Queue);
        }
    }

    /// The queue delivers what is due.
    pub(super) fn deliver(&mut self, now: Instant) {
        if let Some(events) = self.events.as_mut().filter(|events| events.wake <= now) {
            events.wake = Instant::NEVER;
        }
        while let Some(events) = self.events.as_mut() {
            let Some(delivery) = events.queue.due(now, &mut events.settled) else { break };
            let target = self.phases[delivery.payload as usize].target;
            let caller = Caller::Event(delivery.id);
            let ask = Ask { provisioned: target.provisioned, ..Ask::of_call(now, target.function, caller) };
            self.invoke(now, &Ask { phase: delivery.payload, ..ask });
        }
        self.settle_events(now);
        self.wake_queue(now);
    }

    /// A function runs for an event.
    pub(super) fn event_runs(&mut self, now: Instant, id: EventId) {
        let Some(events) = self.events.as_mut() else { return };
        let age = events.queue.age(now, id).unwrap_or_default();
        let queue = events.queue.queue_of(id);
        if let Some(lane) = events.lanes.iter_mut().find(|lane| Some(lane.id) == queue) {
            lane.ages.push(nanos(age));
        }
    }

    /// A limit refused to run a function for an event.
    pub(super) fn event_throttled(&mut self, now: Instant, id: EventId, refusal: &Refusal) {
        if let Some(events) = self.events.as_mut() {
            events.queue.throttled(now, id, refusal, &mut events.settled);
        }
    }

    /// The function has answered, or failed.
    pub(super) fn event_done(&mut self, now: Instant, id: EventId, succeeded: bool) {
        if let Some(events) = self.events.as_mut() {
            match succeeded {
                true => events.queue.succeeded(now, id, &mut events.settled),
                false => events.queue.failed(now, id, &mut events.settled),
            };
        }
        self.settle_events(now);
        self.wake_queue(now);
    }

    /// Destinations hear of events that are settled; those that grew too old met a limit.
    fn settle_events(&mut self, now: Instant) {
        let Some(events) = self.events.as_mut() else { return };
        let mut settled = std::mem::take(&mut events.settled);
        for end in settled.drain(..) {
            let Some(lane) = events.lanes.iter_mut().find(|lane| lane.id == end.queue) else { continue };
            lane.to_destinations += u64::from(end.to_destination);
            if end.condition == Condition::EventAgeExceeded {
                let age = lane.figures.maximum_age.as_secs();
                let refusal = Refusal {
                    limit: LimitId::AsyncQueueAge,
                    resource: Arc::clone(&lane.figures.resource),
                    destination: None,
                    used: age,
                    max: age,
                    retry_at: None,
                };
                self.record.unplaced(now, &refusal, self.dispatcher.environments(), lane.function);
            }
        }
        events.settled = settled;
    }

    /// Whether a bound of the planner is reached.
    pub(super) fn queue_is_full(&self) -> bool {
        self.events.as_ref().is_some_and(|events| events.overflowed)
    }
}
