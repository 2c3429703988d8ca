//! What the runtime inside one execution environment talks to: the Lambda Runtime API, 2018-06-01.
//!
//! A [`Session`] belongs to one life of one environment's runtime process. The owner gives it an
//! [`Invocation`] and awaits the [`Reply`]; the runtime asks for `next` and posts `response` or
//! `error`. The listener is bound inside the environment's own network namespace, so nobody else can
//! reach it, and a request id that is not the current one is refused.
//!
//! Source: AWS Lambda Developer Guide, "Using the Lambda runtime API"; error bodies as the public Runtime
//! Interface Emulator words them.

mod chunks;
mod connection;
mod extension_api;
mod extensions;
mod http;
mod session;
mod streaming;
pub mod telemetry;
pub mod untrusted;

pub use extensions::{EXTENSIONS_MAX, ExtensionFailure, ExtensionStage, ExtensionStatus, ShutdownReason};
pub use session::{Answer, Facts, Initialisation, Invocation, Reply, RestoreError, Session};
pub use streaming::{Incoming, Piece};

/// Largest result a runtime may post, in bytes. Source: Developer Guide, "Lambda quotas" (6 MB), exact
/// figure as recorded on AWS.
pub const RESPONSE_BYTES_MAX: usize = 6_291_556;
