//! What the network shows of itself, seen from here: rows of the limits board, figures, copies of packets.

use model::{LimitRow, Refusal};
use serde_json::Value;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// An answer that takes its time.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A look at the network.
#[derive(Clone, Debug, Default)]
pub struct NetworkLook {
    /// Rows of the limits board.
    pub rows: Vec<LimitRow>,
    /// More of the board's page, by key: `interfaces`, `gateways`, `dropped`.
    pub more: serde_json::Map<String, Value>,
    /// Metrics in Prometheus' text format.
    pub prometheus: String,
}

/// Why a viewer gets no packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// A sentence: there is no such interface.
    NotThere(String),
    /// Others look already, as many as may.
    Refused(Refusal),
}

/// The network behind the doors.
pub trait NetworkPages: Debug + Send + Sync {
    /// A look now; `None`: it does not answer.
    fn look(&self) -> Later<'_, Option<NetworkLook>>;

    /// The next packets of an interface for a viewer's session, as records of a pcap file, after `wait` at most.
    ///
    /// # Errors
    /// There is no such interface, or no room.
    fn packets(&self, interface: String, session: u64, wait: Duration) -> Later<'_, Result<Vec<u8>, Unseen>>;
}
