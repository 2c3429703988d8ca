//! What the caller of a plan chooses, and why a plan cannot be made.

use crate::load::Load;
use limits::{ProvisionedError, SettingsError};
use model::{Era, LimitId, Overrides, era};
use std::time::Duration;
use template::yaml::Problem;
use thiserror::Error;

/// The limits that the planner simulates, whose figures may therefore be overridden.
pub const SIMULATED: &[LimitId] = &[
    LimitId::AccountConcurrency,
    LimitId::Burst,
    LimitId::BurstRefill,
    LimitId::ScalingRate,
    LimitId::RequestRate,
    LimitId::AsyncQueueAge,
    LimitId::EnvironmentIdleTimeout,
    LimitId::EnvironmentLifetime,
    LimitId::FunctionTimeout,
    LimitId::ResponseStreamSize,
    LimitId::ResponseStreamBurst,
    LimitId::ResponseStreamRate,
    LimitId::IntegrationTimeout,
    LimitId::ApiKeyMethodRate,
    LimitId::ApiKeyMethodBurst,
    LimitId::ApiKeyRate,
    LimitId::ApiKeyBurst,
    LimitId::ApiStageRate,
    LimitId::ApiStageBurst,
    LimitId::ApiAccountRate,
    LimitId::ApiAccountBurst,
    LimitId::ApiKeyQuota,
    LimitId::EniConnections,
    LimitId::EniGrowthAfter,
    LimitId::EniIdleTimeout,
    LimitId::EniPerVpc,
    LimitId::EniPerRegion,
    LimitId::EniCreateRate,
    LimitId::SubnetAddresses,
    LimitId::EnvironmentBandwidth,
    LimitId::EniBandwidth,
    LimitId::NatBandwidth,
    LimitId::NatPackets,
    LimitId::DnsPackets,
    LimitId::NatPorts,
    LimitId::NatIdleTimeout,
    LimitId::NatPortCooldown,
    LimitId::NatAddresses,
    LimitId::DbMaxConnections,
    LimitId::DbPoolConnections,
    LimitId::DbBorrowTimeout,
    LimitId::DbIdleClientTimeout,
];

/// The caller's choices.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which figures hold.
    pub era: Era,
    /// The Region.
    pub region: String,
    /// Figures instead of the era's. `function.timeout` replaces that of every function.
    pub overrides: Overrides,
    /// The seed instead of the load's.
    pub seed: Option<u64>,
    /// Stop at this moment, whatever is still in flight.
    pub until: Option<Duration>,
    /// Virtual time between two rows of the timeline; a second unless given.
    pub step: Option<Duration>,
    /// Keep the decisions one by one in the report, to compare them with another driver's.
    pub trace: bool,
    /// Leave out the hash of the decisions, to measure what it costs.
    pub unhashed: bool,
}

impl Options {
    /// The era's own figures in the default Region.
    pub fn new(era: Era) -> Self {
        Self {
            era,
            region: era::DEFAULT_REGION.to_owned(),
            overrides: Overrides::default(),
            seed: None,
            until: None,
            step: None,
            trace: false,
            unhashed: false,
        }
    }
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PlanError {
    /// The load names what the stack does not have.
    #[error("the load does not fit the stack: {} problems", .0.len())]
    Load(Vec<Problem>),
    /// The era and the overrides make no settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A figure was given for a limit that is not simulated.
    #[error(
        "{0} has no figure of the account's that could be changed: it is said by the template, or plan does not simulate it"
    )]
    NotSimulated(LimitId),
    /// A figure is too large for a duration in seconds.
    #[error("{limit}={value} is too large")]
    TooLarge {
        /// The limit.
        limit: LimitId,
        /// The figure.
        value: u64,
    },
    /// More environments are busy at t = 0 than concurrency allows.
    #[error("{function} cannot have {wanted} environments at t = 0: its limits leave room for {room}")]
    Initial {
        /// The function's logical id.
        function: String,
        /// Busy environments that the load asks for.
        wanted: u32,
        /// How many fit.
        room: u32,
        /// The function, as the load names it.
        name: String,
    },
    /// Environments at t = 0 have no room for their network interfaces.
    #[error("the environments at t = 0 need more network interfaces than there can be: {0}")]
    InitialInterface(model::Refusal),
    /// More is provisioned than AWS would allow.
    #[error("{resource} cannot have its provisioned concurrency: {error}; see lambda.account-concurrency")]
    Provisioned {
        /// `Function:qualifier`.
        resource: String,
        /// Why not.
        error: ProvisionedError,
    },
    /// The timeline's step is zero.
    #[error("the timeline's step must be longer than zero")]
    ZeroStep,
}

impl PlanError {
    /// The problem at its place in the load, where it has one and is not told as one already.
    pub fn problem(&self, load: &Load) -> Option<Problem> {
        let Self::Initial { name, .. } = self else { return None };
        let initial = load.initial.iter().find(|initial| initial.function.text == *name)?;
        let problem = Problem::at(initial.function.span, self.to_string());
        Some(problem.help("give less, or raise the limit with --limit"))
    }
}
