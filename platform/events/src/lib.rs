//! Asynchronous events: a durable queue, retries, dead letters and destinations.
//!
//! [`Events`] is the room's one value. What it accepts is on the disk first ([`writer`]: one commit for all that came
//! while the last one was under way), so that a `kill -9` loses none of it; each event is delivered at least once. When it
//! is delivered, tried again or given up is decided by `limits::async_queue`, the engine that the planner drives as well.
//! Settled events that somebody is to hear of wait beside the queue until the message has arrived ([`destination`]).

mod delivery;
pub mod destination;
mod endpoint;
mod events;
mod outbox;
mod record;
mod row;
mod run;
mod said;
mod writer;

pub use endpoint::{Endpoint, EndpointError, Endpoints};
pub use events::{Arrival, EventError, Events, Options};
pub use run::{Live, Payload, Refused, Run, Runs, Try};
