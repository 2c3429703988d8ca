//! What carries the packets of environments, seen from here.

use control::Function;
use limits::eni_room;
use model::error::ApiError;
use model::{LimitId, Refusal};
use sandbox::Interface;
use std::fmt::Debug;
use std::time::Instant;

/// A network for environments.
pub trait Network: Debug + Send + Sync {
    /// Room for a new environment of the function, in eras that made network interfaces at cold starts: it goes on once its
    /// interface is ready. `None`: nothing to wait for.
    ///
    /// # Errors
    /// The limit that leaves no room; [`interface_error`] says what the caller gets.
    fn reserve(&self, function: &Function) -> Result<Option<Box<dyn Reservation>>, Refusal>;

    /// The function with that ARN is this one from now on, with its published versions, or gone: nobody starts environments of
    /// what it was before.
    fn deployed(&self, arn: &str, function: Option<&Function>) {
        let _ = (arn, function);
    }

    /// Carries an environment's packets until the result is dropped, and keeps its room until then. Cheap; whatever takes
    /// time happens elsewhere.
    fn attach(
        &self,
        function: &Function,
        interface: Interface,
        reservation: Option<Box<dyn Reservation>>,
    ) -> Box<dyn Attachment>;
}

/// What AWS answers where an environment has no room for its interface; `None` of limits of something else.
pub fn interface_error(limit: LimitId) -> Option<ApiError> {
    let message = eni_room::error_message(limit)?;
    Some(ApiError::new(eni_room::error_code(limit)?, message.to_owned()))
}

/// An environment's part of an interface; given back when dropped.
pub trait Reservation: Debug + Send + Sync {
    /// When the interface is ready.
    fn ready(&self) -> Instant;

    /// Which of the function's subnets it is in.
    fn choice(&self) -> usize;
}

/// An environment's hold on its network.
pub trait Attachment: Debug + Send + Sync {
    /// The last limit that dropped a packet of the environment's, if one did at `since` or later.
    fn refused_since(&self, since: Instant) -> Option<Refusal>;
}
