//! What the dispatcher is told and what it answers.

use crate::concurrency::Floor;
use crate::environments::EnvironmentId;
use crate::functions::FunctionId;
use crate::provisioned::ProvisionedId;
use model::Refusal;
use thiserror::Error;

/// What becomes of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It runs at once on this warm environment.
    Run(EnvironmentId),
    /// It waits for the INIT of this new environment; the driver says `started` when that is done.
    Start(EnvironmentId),
    /// It runs on this environment, whose runtime must start anew first (a suppressed INIT, after a time-out or a
    /// crash); the driver says `started` when that is done. No token of a scaling limit was taken.
    Reset(EnvironmentId),
    /// A limit refuses it.
    Refuse(Refusal),
    /// The function does not exist or was removed.
    NoFunction,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler answered, with a result or an error of its own.
    Done,
    /// It ran into the function's time-out.
    TimedOut,
    /// The runtime exited or broke the protocol.
    Crashed,
}

/// How a function is invoked (`X-Amz-Invocation-Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvocationType {
    /// Synchronously: the caller waits for the answer, and the request counts in the request rate.
    RequestResponse,
    /// From the asynchronous queue, which no request rate limits.
    Event,
}

/// What an invocation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A function, or a version or alias of it without provisioned concurrency.
    Function(FunctionId),
    /// A version or alias with provisioned concurrency.
    Provisioned(ProvisionedId),
}

impl From<FunctionId> for Callee {
    fn from(id: FunctionId) -> Self {
        Self::Function(id)
    }
}

impl From<ProvisionedId> for Callee {
    fn from(id: ProvisionedId) -> Self {
        Self::Provisioned(id)
    }
}

/// What the driver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End this environment. Its id is stale already.
    Reap(EnvironmentId),
    /// Start this environment of provisioned concurrency and run its INIT; say `started` when that is done, or `lost`.
    Provision(EnvironmentId),
}

/// How many of a function's things there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Invocations in flight.
    pub in_flight: u32,
    /// Environments that wait for work.
    pub idle: u32,
    /// All environments.
    pub environments: u32,
}

/// Why a reservation was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReservedError {
    /// Less than the minimum would stay unreserved.
    #[error("{} reserved would leave less than {} unreserved; at most {} can be reserved", .0.requested, .0.minimum, .0.most)]
    BelowUnreserved(Floor),
    /// Less than what is provisioned for the function.
    #[error("{reserved} reserved are less than the function's {provisioned} of provisioned concurrency")]
    BelowProvisioned {
        /// What was to be reserved.
        reserved: u32,
        /// What is provisioned.
        provisioned: u32,
    },
    /// The function does not exist or was removed.
    #[error("the function was removed")]
    NoFunction,
}

/// Why provisioned concurrency was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProvisionedError {
    /// The function's reservation has less.
    #[error("{requested} provisioned for all versions and aliases, and {reserved} reserved")]
    AboveReserved {
        /// What would be provisioned for the whole function.
        requested: u32,
        /// What it reserves.
        reserved: u32,
    },
    /// Less than the minimum would stay unreserved.
    #[error("{} provisioned would leave less than {} unreserved; at most {} can be provisioned", .0.requested, .0.minimum, .0.most)]
    BelowUnreserved(Floor),
    /// The function, version or alias does not exist or was removed.
    #[error("the function, version or alias was removed")]
    NoFunction,
}
