//! One file per limit, joined by the dispatcher.
//!
//! A limit is plain state: told the time and an event, it answers with a decision, and a refusal names
//! the limit with its figures. Nothing here reads a clock, opens anything or draws randomness, so the
//! live platform and the planner's virtual clock run the same code.
//!
//! Start with [`Dispatcher`], which decides for invocations, and [`Connections`], which decides for each SYN.

pub mod api_throttle;
pub mod async_queue;
pub mod authorizer;
pub mod bandwidth;
pub mod billing;
pub mod burst;
pub mod concurrency;
pub mod connect;
pub mod connections;
pub mod db_connections;
pub mod db_pool;
pub mod decision;
pub mod dispatcher;
pub mod dns;
pub mod eni;
pub mod eni_per_environment;
pub mod eni_room;
pub mod environments;
pub mod functions;
pub mod gateway;
pub mod integration_timeout;
pub mod leases;
pub mod nat;
pub mod network;
mod new_environments;
pub mod provisioned;
mod quiet;
pub mod request_rate;
pub mod response_cache;
pub mod response_stream;
pub mod scaling_rate;
pub mod settings;
pub mod tally;
pub mod token_bucket;
pub mod traffic;

pub use api_throttle::ApiThrottle;
pub use concurrency::Floor;
pub use connections::{Connection, Connections, Way};
pub use decision::{
    Callee, Counts, Decision, Effect, InvocationType, Outcome, ProvisionedError, ReservedError,
};
pub use dispatcher::Dispatcher;
pub use environments::EnvironmentId;
pub use functions::FunctionId;
pub use integration_timeout::IntegrationTimeout;
pub use network::Network;
pub use provisioned::{ProvisionedCounts, ProvisionedId, ProvisionedStatus};
pub use response_cache::ResponseCache;
pub use response_stream::{Passage, ResponseStreams, StreamFigures, StreamId};
pub use settings::{
    BurstFigures, FunctionLimits, NetworkSettings, PoolFigures, Scaling, Settings, SettingsError,
};
