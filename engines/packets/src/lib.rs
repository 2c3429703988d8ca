//! Packets in, packets out: flows, address translation, security groups, routes.
//!
//! Pure: bytes and the time are handed in, and what is to be done with the bytes is handed out. Connections are opened,
//! refused and closed by [`limits::Connections`] alone, the planner's engines.

mod checksum;

pub use checksum::{Checksum, updated};
