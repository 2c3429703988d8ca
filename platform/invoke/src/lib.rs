//! The asynchronous shell around `limits::dispatcher`: a request comes in, the dispatcher decides, and an
//! execution environment does the work.
//!
//! One [`Invoker`] holds the dispatcher and the environments that it governs. The dispatcher is asked under
//! a short lock and never while something is awaited; everything slow (starting a sandbox, waiting for a
//! handler) happens in a task of its own, so that a caller who hangs up changes nothing.

mod conclusion;
mod environment;
mod extensions;
mod failure;
mod freezer;
mod gate;
mod id;
mod invoker;
mod layers;
mod life;
mod network;
mod output;
mod reactors;
mod refusals;
mod room;
mod spare;
mod standstill;
mod streaming;

pub use environment::RestoreFailure;
pub use id::{request_id, trace_header};
pub use invoker::{
    Admission, Decided, Figures, InvokeError, Invoked, Invoker, Options, Preparation, Request,
};
pub use limits::{ProvisionedCounts, ProvisionedStatus, StreamFigures};
pub use network::{Attachment, Network, Reservation, interface_error};
pub use reactors::Reactors;
pub use streaming::{Answered, ResponseStream};
