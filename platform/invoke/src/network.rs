//! What carries the packets of environments, seen from here.

use control::Function;
use model::Refusal;
use sandbox::Interface;
use std::fmt::Debug;
use std::time::Instant;

/// A network for environments.
pub trait Network: Debug + Send + Sync {
    /// Carries an environment's packets until the result is dropped. Cheap; whatever takes time happens elsewhere.
    fn attach(&self, function: &Function, interface: Interface) -> Box<dyn Attachment>;
}

/// An environment's hold on its network.
pub trait Attachment: Debug + Send + Sync {
    /// The last limit that dropped a packet of the environment's, if one did at `since` or later.
    fn refused_since(&self, since: Instant) -> Option<Refusal>;
}
