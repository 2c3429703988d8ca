//! Packets in, packets out: flows, address translation, security groups, routes.
//!
//! Pure: bytes and the time are handed in, and what is to be done with the bytes is handed out. Connections are opened,
//! refused and closed by [`limits::Connections`] alone, the planner's engines.
//!
//! Begin with [`PacketEngine`]: a driver attaches devices to it and hands it every [`Packet`]; a [`Verdict`] comes back.

mod checksum;
pub mod craft;
mod engine;
mod environment;
mod event;
mod faults;
mod flow;
mod flow_log;
mod martian;
mod masquerade;
mod metrics;
mod nat64;
mod packet;
mod ports;
mod rewrite;
mod settings;
mod table;
mod timers;
pub mod wire;

pub use checksum::{Checksum, updated};
pub use engine::{Bandwidth, EVENTS_MAX, Mtu, PacketEngine, Prepared};
pub use environment::{Attachment, EnvironmentId, Place};
pub use event::Event;
pub use faults::{BadLine, Fates, LineFaults};
pub use flow_log::{Action, FlowKey, FlowRecord, Origin, Status};
pub use martian::{RESOLVER, RESOLVER6, is_martian, is_private};
pub use metrics::NatMetrics;
pub use packet::{HeldId, Offload, Packet, Partial, Port, Reason, Verdict};
pub use settings::{InterfaceAddress, Layout, PacketSettings};
