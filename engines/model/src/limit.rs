//! Limits: their stable ids, what a refusal says, and the rows of the limits board.

use crate::time::Instant;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Who may change a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Raisable {
    /// A setting of the template or of the function.
    Setting,
    /// AWS raises it on request.
    Request,
    /// Fixed.
    No,
}

macro_rules! limit_ids {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $unit:literal, $raisable:ident;)*) => {
        /// The stable id of one limit: one id, one number with a unit. The same word stands in log lines,
        /// metrics, the limits board, the plan and the documentation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum LimitId { $($(#[$doc])* $variant,)* }

        impl LimitId {
            /// Every id, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for people and scripts.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What the limit's number counts.
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)* }
            }

            /// Who may change it.
            pub const fn raisable(self) -> Raisable {
                match self { $(Self::$variant => Raisable::$raisable,)* }
            }
        }
    };
}

limit_ids! {
    /// Requests in flight over all functions of the account and Region.
    AccountConcurrency = "lambda.account-concurrency", "concurrent executions", Request;
    /// Requests in flight of one function that reserves concurrency; both a guarantee and a cap.
    ReservedConcurrency = "lambda.reserved-concurrency", "concurrent executions", Setting;
    /// Environments initialised ahead for a version or alias.
    ProvisionedConcurrency = "lambda.provisioned-concurrency", "environments", Setting;
    /// New environments the account may start at once (eras to 2022-12).
    Burst = "lambda.burst", "environments", No;
    /// How fast the account's burst refills (eras to 2022-12).
    BurstRefill = "lambda.burst-refill", "environments/min", No;
    /// New environments of one function per 10 s (era today).
    ScalingRate = "lambda.scaling-rate", "environments per 10 s", No;
    /// Synchronous requests per second of all functions without a reservation: ten per unit of concurrency.
    RequestRate = "lambda.request-rate", "requests/s", Request;
    /// Synchronous requests per second of one function that reserves concurrency: ten per unit of it.
    ReservedRequestRate = "lambda.reserved-request-rate", "requests/s", Setting;
    /// How long an environment stays warm without work.
    EnvironmentIdleTimeout = "environment.idle-timeout", "s", No;
    /// How long after its start an environment is used again.
    EnvironmentLifetime = "environment.lifetime", "s", No;
    /// How old an asynchronous event may become before it is dropped.
    AsyncQueueAge = "async.queue-age", "s", Setting;
    /// How long one invocation may take.
    FunctionTimeout = "function.timeout", "s", Setting;
    /// How long an API's integration may take.
    IntegrationTimeout = "apigw.integration-timeout", "ms", Setting;
    /// How long a streamed response of an API may send nothing.
    StreamIdleTimeout = "apigw.stream-idle-timeout", "ms", No;
    /// Requests per second of one API key to one method, by a usage plan.
    ApiKeyMethodRate = "apigw.key-method-rate", "requests/s", Setting;
    /// Requests that one API key may send to one method at once, by a usage plan.
    ApiKeyMethodBurst = "apigw.key-method-burst", "requests", Setting;
    /// Requests per second of one API key, by a usage plan.
    ApiKeyRate = "apigw.key-rate", "requests/s", Setting;
    /// Requests that one API key may send at once, by a usage plan.
    ApiKeyBurst = "apigw.key-burst", "requests", Setting;
    /// Requests per second to one method of a stage.
    ApiStageRate = "apigw.stage-rate", "requests/s", Setting;
    /// Requests to one method of a stage at once.
    ApiStageBurst = "apigw.stage-burst", "requests", Setting;
    /// Requests per second to all APIs of the account and Region.
    ApiAccountRate = "apigw.account-rate", "requests/s", Request;
    /// Requests to all APIs of the account and Region at once; AWS sets it by the rate.
    ApiAccountBurst = "apigw.account-burst", "requests", No;
    /// Requests of one API key in a day, a week or a month, by a usage plan.
    ApiKeyQuota = "apigw.key-quota", "requests", Setting;
    /// What the cache of a stage holds.
    ApiCacheSize = "apigw.cache-size", "bytes", Setting;
    /// Payload of a synchronous request or response.
    PayloadSize = "lambda.payload-size", "bytes", No;
    /// How large a streamed response may become.
    ResponseStreamSize = "lambda.response-stream-size", "bytes", Request;
    /// Bytes of a streamed response that are not held back.
    ResponseStreamBurst = "lambda.response-stream-burst", "bytes", No;
    /// How fast a streamed response flows after these.
    ResponseStreamRate = "lambda.response-stream-rate", "bytes/s", No;
    /// Network throughput of one execution environment.
    EnvironmentBandwidth = "environment.bandwidth", "Mbit/s", No;
    /// Connections through one shared network interface.
    EniConnections = "eni.connections", "connections", No;
    /// How long after a shared interface was first full another one stands beside it; without a figure, never.
    EniGrowthAfter = "eni.growth-after", "s", No;
    /// How long a connection may be silent before a shared interface forgets it.
    EniIdleTimeout = "eni.idle-timeout", "s", No;
    /// Network interfaces that Lambda may have in one VPC.
    EniPerVpc = "eni.per-vpc", "interfaces", Request;
    /// Network interfaces of the account in the Region.
    EniPerRegion = "eni.per-region", "interfaces", Request;
    /// How fast network interfaces are made at cold starts (era 2019-05).
    EniCreateRate = "eni.create-rate", "interfaces/s", Request;
    /// Addresses that a subnet can give out: all but five.
    SubnetAddresses = "subnet.addresses", "addresses", Setting;
    /// Connections to one destination through one address of a NAT gateway. The board shows the sum over the gateway's
    /// addresses.
    NatPorts = "nat.ports", "connections", No;
    /// How long a connection may be silent before a NAT gateway forgets it.
    NatIdleTimeout = "nat.idle-timeout", "s", No;
    /// How long a port of a NAT gateway rests after its connection ended.
    NatPortCooldown = "nat.port-cooldown", "s", No;
    /// Addresses of one NAT gateway.
    NatAddresses = "nat.addresses", "addresses", Request;
    /// Throughput of one shared network interface.
    EniBandwidth = "eni.bandwidth", "Mbit/s", No;
    /// Throughput of one NAT gateway.
    NatBandwidth = "nat.bandwidth", "Mbit/s", No;
    /// Packets through one NAT gateway.
    NatPackets = "nat.packets", "packets/s", No;
    /// Packets from one network interface to the VPC's resolver.
    DnsPackets = "dns.packets", "packets/s", No;
    /// No route leads to the destination, or one that drops what has no public address.
    NoRoute = "route.none", "routes", Setting;
    /// No rule of the security groups lets the connection out, or in at its destination.
    NoRule = "sg.no-rule", "rules", Setting;
    /// A network ACL denies the connection, or its answers.
    NaclDeny = "nacl.deny", "rules", Setting;
    /// Database connections of an instance.
    DbMaxConnections = "db.max-connections", "connections", Setting;
    /// Database connections that a proxy's pool may have lent at once.
    DbPoolConnections = "db.pool-connections", "connections", Setting;
    /// How long a proxy's client waits for a database connection.
    DbBorrowTimeout = "db.borrow-timeout", "s", Setting;
    /// How long a proxy's client may go without a request.
    DbIdleClientTimeout = "db.idle-client-timeout", "s", Setting;
    /// Memory of this host in use when an environment is started; never reported as AWS's.
    HostMemory = "host.memory", "MB", Setting;
    /// Sandboxes that this host could not make (descriptors, processes, namespaces); never reported as AWS's.
    HostSandboxes = "host.sandboxes", "sandboxes", Setting;
    /// Flows that the packet engine keeps, of all environments and of each; never reported as AWS's.
    HostFlows = "host.flows", "flows", Setting;
    /// New flows of one environment in a second, where somebody bounds them; never reported as AWS's.
    HostNewFlows = "host.new-flows", "flows/s", Setting;
    /// Connections to what is attached, or through a relay: two descriptors each of this process; never reported as AWS's.
    HostDescriptors = "host.descriptors", "connections", Setting;
    /// Ports that this host's own addresses have towards one server; never reported as AWS's.
    HostPorts = "host.ports", "ports", No;
    /// Connections of one client's address to the doors; never reported as AWS's.
    HostClientConnections = "host.client-connections", "connections", Setting;
    /// How long a client of the doors may stand still; never reported as AWS's.
    HostClientTimeout = "host.client-timeout", "s", Setting;
    /// Captures of packets at once; never reported as AWS's.
    HostCaptures = "host.captures", "captures", No;
    /// Asynchronous events that this host keeps, waiting or still to be heard of.
    HostEvents = "host.events", "events", No;
    /// Memory of one environment; the program that needs more is killed.
    FunctionMemory = "function.memory", "MB", Setting;
}

impl LimitId {
    /// Whether it has figures: nothing is counted where a rule is missing, or says no.
    pub const fn is_counted(self) -> bool {
        !matches!(self, Self::NoRoute | Self::NoRule | Self::NaclDeny)
    }

    /// Whether it slows down what goes on, packet by packet, and lets it go on.
    pub const fn is_pace(self) -> bool {
        matches!(
            self,
            Self::EnvironmentBandwidth | Self::EniBandwidth | Self::NatBandwidth | Self::NatPackets
        )
    }
}

impl fmt::Display for LimitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for LimitId {
    type Err = UnknownLimit;

    fn from_str(text: &str) -> Result<Self, UnknownLimit> {
        Self::ALL.iter().copied().find(|id| id.as_str() == text).ok_or_else(|| UnknownLimit(text.to_owned()))
    }
}

impl Serialize for LimitId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A word that is no limit's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLimit(pub String);

impl fmt::Display for UnknownLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no limit is called `{}`", self.0)
    }
}

impl std::error::Error for UnknownLimit {}

/// An engine's "no": an ordinary answer that names its limit and the figures it looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The limit that was hit.
    pub limit: LimitId,
    /// What was limited: a function's name, `account`, an interface.
    pub resource: Arc<str>,
    /// Whom it was limited towards, where the limit counts for each destination apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Arc<str>>,
    /// In use at that moment, in the limit's unit.
    pub used: u64,
    /// The limit's figure, in its unit.
    pub max: u64,
    /// When asking again could help, if the engine can tell.
    #[serde(skip)]
    pub retry_at: Option<Instant>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, resource, destination, used, max, .. } = self;
        write!(formatter, "{limit} of {resource}")?;
        if let Some(destination) = destination {
            write!(formatter, " to {destination}")?;
        }
        match limit.is_counted() {
            true => write!(formatter, ": {used} of {max} {}", limit.unit()),
            false => Ok(()),
        }
    }
}

/// One row of the limits board: the questions that every limit can answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitRow {
    /// The limit.
    pub id: LimitId,
    /// What it limits.
    pub resource: Arc<str>,
    /// Its figure, in its unit.
    pub max: u64,
    /// In use now.
    pub used: u64,
    /// The most that was in use at once.
    pub peak: u64,
    /// How often it said no.
    pub refused: u64,
    /// When it first said no.
    #[serde(rename = "first_refused_at_s", serialize_with = "seconds")]
    pub first_refused_at: Option<Instant>,
    /// Where the figure comes from.
    pub source: Arc<str>,
    /// Who may change it.
    pub raisable: Raisable,
}

fn seconds<S: Serializer>(at: &Option<Instant>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.serialize_f64(at.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_are_unique() {
        for (index, id) in LimitId::ALL.iter().enumerate() {
            assert_eq!(id.as_str().parse(), Ok(*id));
            assert!(LimitId::ALL[..index].iter().all(|other| other.as_str() != id.as_str()));
        }
        assert!("lambda.brust".parse::<LimitId>().is_err());
    }

    #[test]
    fn a_refusal_names_its_limit_and_figures() {
        let refusal = Refusal {
            limit: LimitId::ReservedConcurrency,
            resource: "cart".into(),
            destination: None,
            used: 5,
            max: 5,
            retry_at: None,
        };
        assert_eq!(refusal.to_string(), "lambda.reserved-concurrency of cart: 5 of 5 concurrent executions");
        let refusal = Refusal {
            limit: LimitId::NatPorts,
            resource: "NatGateway".into(),
            destination: Some("203.0.113.1:443".into()),
            ..refusal
        };
        assert_eq!(refusal.to_string(), "nat.ports of NatGateway to 203.0.113.1:443: 5 of 5 connections");
    }
}
