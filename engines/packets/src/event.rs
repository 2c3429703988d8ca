//! What the engine has to tell beside verdicts.

use crate::environment::EnvironmentId;
use limits::eni::InterfaceId;
use model::Refusal;
use std::net::SocketAddr;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A limit refused a flow. Every SYN that is sent again is told again.
    Refused {
        /// Whose it is.
        environment: EnvironmentId,
        /// The shared interface that it goes through, if any.
        interface: Option<InterfaceId>,
        /// The IP protocol's number.
        protocol: u8,
        /// From where, inside the environment.
        source: SocketAddr,
        /// Where to.
        destination: SocketAddr,
        /// The limit with its figures.
        refusal: Refusal,
    },
}
