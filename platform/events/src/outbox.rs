//! Settled events that somebody is to hear of: sent until they have arrived, with a back-off in between.

use crate::destination::{Arn, Letter, message, taken};
use crate::events::{Arrival, Held, MEMORY_BYTES_MAX, Shared};
use crate::record::{attributes, invocation_record};
use crate::row::{Ending, Event, Settlement, Target, event_key, response_key};
use bytes::Bytes;
use control::store::Write;
use limits::async_queue::AGE_DEFAULT;
use model::name::qualified_arn;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use telemetry::FunctionCounters;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot;

/// How long one run of the platform tries to tell somebody.
const TELL_MAX: Duration = AGE_DEFAULT;

impl Shared {
    /// A settlement is on the disk, or will not be: its letters can go.
    pub fn is_to_be_told(&self, number: u64, is_stored: bool) {
        let now = self.now();
        let mut core = self.lock();
        let inner = &mut *core;
        if is_stored
            && inner.in_memory > MEMORY_BYTES_MAX
            && let Some(held) = inner.held.get_mut(&number)
        {
            inner.in_memory -= held.in_memory();
            (held.payload, held.response) = (None, None);
        }
        core.outbox.push(Reverse((now, number)));
        drop(core);
        self.wake.notify_one();
    }

    /// Sends what is due, as far as there are permits.
    pub fn send_due(self: &Arc<Self>) {
        let now = self.now();
        loop {
            let Ok(permit) = self.sending.clone().try_acquire_owned() else { return };
            let mut core = self.lock();
            let Some(Reverse((_, number))) =
                core.outbox.peek().filter(|Reverse((at, _))| *at <= now).copied()
            else {
                return;
            };
            core.outbox.pop();
            let Some(held) = core.held.get(&number) else { continue };
            let (event, payload) = (held.event.clone(), held.payload.clone());
            let response = held.response.as_ref().map(|(_, body)| body.clone());
            drop(core);
            tokio::spawn(self.clone().send(number, event, payload, response, permit));
        }
    }

    async fn send(
        self: Arc<Self>,
        number: u64,
        event: Event,
        payload: Option<Bytes>,
        response: Option<Bytes>,
        permit: OwnedSemaphorePermit,
    ) {
        let left = match (self.clone().contents(number, &event, payload, response).await, &event.settlement) {
            (Some((payload, response)), Some(settlement)) => {
                self.tell(&event, settlement, &payload, response.as_deref()).await
            }
            // The store cannot be read now.
            (None, Some(settlement)) => settlement.targets.clone(),
            (_, None) => Vec::new(),
        };
        self.is_told(number, left);
        drop(permit);
        self.wake.notify_one();
    }

    /// Payload and response, from memory or the store.
    async fn contents(
        self: Arc<Self>,
        number: u64,
        event: &Event,
        payload: Option<Bytes>,
        response: Option<Bytes>,
    ) -> Option<(Bytes, Option<Bytes>)> {
        let payload = self.clone().payload(number, payload).await?;
        let has_response = event.settlement.as_ref().is_some_and(|settlement| settlement.response.is_some());
        if response.is_some() || !has_response {
            return Some((payload, response));
        }
        let read = tokio::task::spawn_blocking(move || self.writer.get(&response_key(number))).await;
        match read {
            Ok(Ok(response)) => Some((payload, response.map(Bytes::from))),
            _ => None,
        }
    }

    /// Tells all who are to hear of an event; those who could not be told.
    async fn tell(
        self: &Arc<Self>,
        event: &Event,
        settlement: &Settlement,
        payload: &[u8],
        response: Option<&[u8]>,
    ) -> Vec<Target> {
        let mut left = Vec::new();
        for target in &settlement.targets {
            let Err(cause) = self.tell_one(event, settlement, target, payload, response).await else {
                continue;
            };
            let counters = self.counters.function(&event.function);
            let (counter, kind) = match target.dead_letter {
                true => (&counters.dead_letter_errors, "dead letter"),
                false => (&counters.destination_delivery_failures, "record"),
            };
            FunctionCounters::count(counter);
            if let Some(times) = self.said.due(kind, &event.function) {
                let (function, target, request_id) = (&event.function, &target.arn, &event.request_id);
                tracing::warn!(%function, target, %request_id, times, "a {kind} did not arrive and is sent again: {cause}");
            }
            left.push(target.clone());
        }
        left
    }

    async fn tell_one(
        self: &Arc<Self>,
        event: &Event,
        settlement: &Settlement,
        target: &Target,
        payload: &[u8],
        response: Option<&[u8]>,
    ) -> Result<(), String> {
        let record;
        let (body, attributes) = if target.dead_letter {
            let body = std::str::from_utf8(payload).map_err(|_| "the event is no text".to_owned())?;
            (body, Some(attributes(event, settlement, response)))
        } else {
            record = invocation_record(event, settlement, payload, response);
            (record.as_str(), None)
        };
        let arn = Arn::parse(&target.arn).ok_or_else(|| "it has no ARN".to_owned())?;
        if arn.service == "lambda" {
            return self.invoke(arn, body).await;
        }
        let service = arn.service;
        let endpoint = self.options.endpoints.get(service).ok_or_else(|| {
            format!("no server is known for {service}; start with --endpoint {service}=http://HOST:PORT")
        })?;
        let function_arn = qualified_arn(&event.arn, event.qualifier());
        let letter = Letter {
            body,
            attributes,
            function_arn: &function_arn,
            function: &event.function,
            succeeded: settlement.ending == Ending::Success,
            request_id: &event.request_id,
            at_ms: settlement.at_ms,
        };
        let message = message(&target.arn, &letter, &endpoint.authority());
        let message = message.ok_or_else(|| format!("{service} takes no records"))?;
        let answer = endpoint.send(message).await?;
        taken(service, &answer)
    }

    /// Invokes a function with a record, asynchronously as Lambda does.
    async fn invoke(self: &Arc<Self>, arn: Arn<'_>, record: &str) -> Result<(), String> {
        let mut words = arn.resource.split(':');
        let name = words.next().filter(|word| *word == "function").and_then(|_| words.next());
        let name = name.ok_or_else(|| "it is no function's ARN".to_owned())?;
        let function = self.runs.get().and_then(|runs| runs.function(name));
        let function = function.ok_or_else(|| format!("no function is called {name}"))?;
        let max = self.options.payload_bytes_max;
        if record.len() > max {
            return Err(format!("the record has {} bytes, an event {max} at most", record.len()));
        }
        let arrival = Arrival {
            function,
            qualifier: words.next().map(Into::into),
            request_id: invoke::request_id(),
            payload: Bytes::copy_from_slice(record.as_bytes()),
            client_context: None,
            trace_id: None,
        };
        let (said, heard) = oneshot::channel();
        let taken = self.clone().take_in(arrival, move |result| {
            let _ = said.send(result);
        });
        taken.map_err(|error| error.to_string())?;
        match heard.await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the platform is stopping".to_owned()),
        }
    }

    /// What was sent needs nothing more; the rest is sent again later, or given up.
    fn is_told(&self, number: u64, left: Vec<Target>) {
        let now = self.now();
        let mut core = self.lock();
        let Some(held) = core.held.get_mut(&number) else { return };
        let Held { event, tries, told_since, .. } = held;
        let is_over = now.since(*told_since) >= TELL_MAX;
        if left.is_empty() || is_over {
            let (function, request_id) = (event.function.clone(), event.request_id.clone());
            self.forget(&mut core, number);
            drop(core);
            for Target { arn, .. } in &left {
                tracing::error!(%function, %request_id, target = arn, "given up: it could not be told what became of an event");
            }
            return;
        }
        let settlement = event.settlement.as_mut().filter(|settlement| settlement.targets != left);
        if let Some(settlement) = settlement {
            settlement.targets = left;
            self.writer.later([Write::Put(event_key(number), event.to_row())]);
        }
        let wait = self.options.timing.backoff(*tries);
        *tries = tries.saturating_add(1);
        core.outbox.push(Reverse((now + wait, number)));
    }
}
