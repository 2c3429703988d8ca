//! The task that delivers: what is due is offered to the limits, runs, and is settled or tried again.

use crate::events::{Core, Shared, Which};
use crate::row::{Ending, Response, Settlement, Target, event_key, payload_key, response_key};
use crate::run::{Payload, Refused, Run};
use bytes::Bytes;
use control::store::{StoreError, Write};
use invoke::Invoked;
use limits::async_queue::{Condition, Settled};
use model::{Instant, LimitId};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use telemetry::FunctionCounters;

/// Events offered to the limits before others get a turn on this thread.
const TURN_MAX: usize = 256;

/// A line for the log, written when no lock is held: a terminal that stands still must stop nothing.
pub(crate) struct Note {
    function: Arc<str>,
    request_id: Arc<str>,
    ending: Ending,
    invocations: u8,
    is_heard_of: bool,
}

/// Delivers until the queue is closed.
pub(crate) async fn work(shared: Arc<Shared>) {
    while !shared.is_closed.load(Ordering::Acquire) {
        let offered = shared.deliver_due();
        shared.send_due();
        if offered > 0 {
            tokio::task::yield_now().await;
            continue;
        }
        let deadline = shared.next_deadline();
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(deadline.since(shared.now())), if deadline < Instant::NEVER => {}
        }
    }
}

impl Shared {
    fn next_deadline(&self) -> Instant {
        let core = self.lock();
        let told = core.outbox.peek().filter(|_| self.sending.available_permits() > 0);
        let told = told.map_or(Instant::NEVER, |Reverse((at, _))| *at);
        core.queue.next_deadline().unwrap_or(Instant::NEVER).min(told)
    }

    /// Offers what is due to the limits; how many that were.
    fn deliver_due(self: &Arc<Self>) -> usize {
        let Some(runs) = self.runs.get() else { return 0 };
        let now = self.now();
        let (mut due, mut notes) = (Vec::new(), Vec::new());
        let mut core = self.lock();
        let inner = &mut *core;
        while due.len() < TURN_MAX {
            let Some(delivery) = inner.queue.due(now, &mut inner.settled) else { break };
            let which = Which { id: delivery.id, number: delivery.payload };
            if let Some(held) = inner.held.get(&which.number) {
                due.push((which, held.attempt(), held.payload.clone()));
            }
        }
        self.settle(inner, None, &mut notes);
        drop(core);
        self.say(notes);
        let offered = due.len();
        for (which, attempt, payload) in due {
            let function = attempt.function.clone();
            match runs.admit(attempt, self.clone().payload(which.number, payload)) {
                Ok(run) => drop(tokio::spawn(self.clone().run(which, run))),
                Err(refused) => self.refused(which, &function, refused),
            }
        }
        offered
    }

    /// An event's payload, from memory or the store.
    pub fn payload(self: Arc<Self>, number: u64, known: Option<Bytes>) -> Payload {
        Box::pin(async move {
            if let Some(known) = known {
                return Some(known);
            }
            let shared = self.clone();
            let read = tokio::task::spawn_blocking(move || shared.writer.get(&payload_key(number))).await;
            match read {
                Ok(Ok(Some(payload))) => Some(payload.into()),
                Ok(Ok(None) | Err(StoreError::Closed { .. })) => None,
                Ok(Err(error)) => {
                    tracing::error!(%error, "an event's payload cannot be read; it is tried again");
                    None
                }
                Err(_) => None,
            }
        })
    }

    async fn run(self: Arc<Self>, which: Which, run: Run) {
        match run.await {
            Ok(invoked) => self.ran(which, invoked),
            Err(refused) => {
                let function = self.lock().held.get(&which.number).map(|held| held.event.function.clone());
                if let Some(function) = function {
                    self.refused(which, &function, refused);
                }
            }
        }
        self.wake.notify_one();
    }

    /// The function answered, or failed.
    fn ran(self: &Arc<Self>, which: Which, invoked: Invoked) {
        let now = self.now();
        let mut notes = Vec::new();
        let mut core = self.lock();
        let inner = &mut *core;
        let response = Response { failed: invoked.failed, version: invoked.version };
        if !invoked.failed {
            inner.queue.succeeded(now, which.id, &mut inner.settled);
            self.settle(inner, Some((response, invoked.payload)), &mut notes);
        } else if inner.queue.failed(now, which.id, &mut inner.settled) {
            if inner.settled.is_empty() {
                self.is_tried_again(inner, which.number, (response, invoked.payload));
            } else {
                self.settle(inner, Some((response, invoked.payload)), &mut notes);
            }
        }
        drop(core);
        self.say(notes);
    }

    /// A failed event waits; how often it failed is to survive a restart.
    fn is_tried_again(&self, core: &mut Core, number: u64, (response, body): (Response, Bytes)) {
        let kept = core.keep(body);
        let Some(held) = core.held.get_mut(&number) else {
            core.in_memory -= kept.map_or(0, |body| body.len());
            return;
        };
        let before = match kept {
            Some(body) => held.response.replace((response, body)),
            None => held.response.take(),
        };
        core.in_memory -= before.map_or(0, |(_, body)| body.len());
        let event = &mut held.event;
        let delay = self.options.timing.retries.get(usize::from(event.failures)).copied().unwrap_or_default();
        event.failures = event.failures.saturating_add(1);
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        event.due_ms = telemetry::unix_millis().saturating_add(delay);
        self.writer.later([Write::Put(event_key(number), event.to_row())]);
    }

    /// The function did not run.
    fn refused(self: &Arc<Self>, which: Which, function: &Arc<str>, refused: Refused) {
        let refusal = match refused {
            Refused::Limit(refusal) => refusal,
            Refused::NoFunction => {
                let gone = self.runs.get().is_some_and(|runs| runs.function(function).is_none());
                if gone {
                    self.remove_function(function);
                }
                return self.wait(which);
            }
        };
        let mut notes = Vec::new();
        let now = self.now();
        let mut core = self.lock();
        let inner = &mut *core;
        inner.queue.throttled(now, which.id, &refusal, &mut inner.settled);
        self.settle(inner, None, &mut notes);
        drop(core);
        self.say(notes);
    }

    /// The function was not there for a moment, as between two steps of a change: the event waits like a throttled one.
    fn wait(self: &Arc<Self>, which: Which) {
        let now = self.now();
        let mut core = self.lock();
        let inner = &mut *core;
        let refusal = model::Refusal {
            limit: LimitId::HostSandboxes,
            resource: "host".into(),
            destination: None,
            used: 0,
            max: 0,
            retry_at: None,
        };
        inner.queue.throttled(now, which.id, &refusal, &mut inner.settled);
    }

    /// Writes down how events ended. Who is to hear of one is told after that is on the disk.
    fn settle(self: &Arc<Self>, core: &mut Core, mut said: Option<(Response, Bytes)>, notes: &mut Vec<Note>) {
        for end in std::mem::take(&mut core.settled) {
            let Settled { payload: number, condition, invocations, to_destination, to_dead_letters, .. } =
                end;
            let said = said.take();
            let Some(held) = core.held.get_mut(&number) else { continue };
            let event = &mut held.event;
            let succeeded = condition == Condition::Success;
            let lane = core.lanes.get(&(event.function.clone(), event.qualifier().into()));
            let mut targets = Vec::new();
            if let Some(lane) = lane {
                let heard = if succeeded { &lane.on_success } else { &lane.on_failure };
                let mut add = |arn: &Option<String>, dead_letter| {
                    targets.extend(arn.iter().map(|arn| Target { dead_letter, arn: arn.clone() }));
                };
                if to_dead_letters {
                    add(&lane.dead_letter, true);
                }
                if to_destination {
                    add(heard, false);
                }
            }
            if !succeeded {
                FunctionCounters::count(&self.counters.function(&event.function).async_events_dropped);
                notes.push(Note {
                    function: event.function.clone(),
                    request_id: event.request_id.clone(),
                    ending: condition.into(),
                    invocations,
                    is_heard_of: !targets.is_empty(),
                });
            }
            if targets.is_empty() {
                self.forget(core, number);
                continue;
            }
            let before = held.response.take();
            core.in_memory -= before.as_ref().map_or(0, |(_, body)| body.len());
            let said = said.or(before);
            event.settlement = Some(Settlement {
                at_ms: telemetry::unix_millis(),
                ending: condition.into(),
                invocations,
                response: said.as_ref().map(|(response, _)| response.clone()),
                targets,
            });
            let mut rows = vec![Write::Put(event_key(number), event.to_row())];
            held.told_since = self.now();
            if let Some((response, body)) = said {
                rows.push(Write::Put(response_key(number), body.to_vec()));
                held.bytes += body.len() as u64;
                core.bytes += body.len() as u64;
                // Kept whatever memory there is: it is read as soon as the row is on the disk.
                core.in_memory += body.len();
                held.response = Some((response, body));
            }
            let shared = self.clone();
            self.writer.commit(rows, move |committed| shared.is_to_be_told(number, committed.is_ok()));
        }
    }

    pub(crate) fn say(&self, notes: Vec<Note>) {
        for Note { function, request_id, ending, invocations, is_heard_of } in notes {
            let kind = ending.as_str();
            let Some(times) = self.said.due(kind, &function) else { continue };
            let to = if is_heard_of { "told as configured" } else { "nobody is configured to hear of it" };
            match ending {
                Ending::EventAgeExceeded => {
                    let limit = LimitId::AsyncQueueAge;
                    tracing::info!(%limit, %function, %request_id, invocations, times, "event dropped, too old; {to}");
                }
                _ => {
                    tracing::info!(%function, %request_id, invocations, times, "event dropped, {kind}; {to}");
                }
            }
        }
    }
}
