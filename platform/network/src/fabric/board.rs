//! What can be seen of the network while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use limits::nat::Towards;
use model::LimitRow;
use packets::NatMetrics;

/// Destinations of one gateway that are shown.
pub const DESTINATIONS_MAX: usize = 64;

/// A look at the whole.
#[derive(Clone, Debug)]
pub struct Board {
    /// The limits.
    pub rows: Vec<LimitRow>,
    /// Every interface with its connections now and the functions that share it: what AWS does not publish.
    pub interfaces: Vec<Sharing>,
    /// The names of the interfaces of NAT gateways, endpoints and whatever else has one.
    pub others: Vec<Arc<str>>,
    /// Every NAT gateway.
    pub gateways: Vec<Gateway>,
    /// Environments whose packets are carried.
    pub environments: usize,
    /// Flows in the engine's table.
    pub flows: u32,
    /// Dropped packets by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// Who shares an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The interface's name.
    pub interface: Arc<str>,
    /// Connections through it now.
    pub connections: u64,
    /// Functions with an environment behind it now, and how many.
    pub functions: BTreeMap<Arc<str>, u32>,
}

/// A NAT gateway's metrics, under CloudWatch's names.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The gateway's name.
    pub name: Arc<str>,
    /// Since the start; peaks since the last look.
    pub metrics: NatMetrics,
    /// Its destinations with the most connections, at most [`DESTINATIONS_MAX`]: what CloudWatch does not tell apart.
    pub destinations: Vec<Towards>,
}
