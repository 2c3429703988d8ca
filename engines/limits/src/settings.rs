//! What the dispatcher is told: the account's figures, and each function's.

use crate::eni::InterfaceFigures;
use crate::eni_per_environment::{AttachTimes, EnvironmentInterfaceFigures};
use crate::eni_room::Quotas;
use crate::nat::{NatFigures, PORTS_MAX};
use crate::request_rate::PER_CONCURRENCY;
use crate::traffic::TrafficFigures;
use model::era::{Era, Overrides};
use model::limit::LimitId;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// How the account's figures say that environments may grow. Both may be given; then both must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scaling {
    /// One bucket for the whole account (eras to 2022-12).
    pub burst: Option<BurstFigures>,
    /// New environments per 10 s of each function (era today).
    pub environments_per_10s: Option<u32>,
}

/// The account's burst bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurstFigures {
    /// Environments at once.
    pub size: u32,
    /// Environments gained in each minute.
    pub refill_per_minute: u32,
}

/// Where the figures come from, for the limits board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Of the account's concurrency.
    pub account_concurrency: Arc<str>,
    /// Of the burst's size.
    pub burst: Arc<str>,
    /// Of the burst's refill.
    pub burst_refill: Arc<str>,
    /// Of the scaling rate.
    pub scaling_rate: Arc<str>,
    /// Of the requests per second.
    pub request_rate: Arc<str>,
}

impl Default for Sources {
    fn default() -> Self {
        let given: Arc<str> = "given".into();
        Self {
            account_concurrency: Arc::clone(&given),
            burst: Arc::clone(&given),
            burst_refill: Arc::clone(&given),
            scaling_rate: Arc::clone(&given),
            request_rate: given,
        }
    }
}

/// Where the request rate comes from unless somebody gives one.
const REQUEST_RATE_SOURCE: &str = "AWS Lambda Developer Guide, Lambda quotas: 10 x the concurrency, each second; \
                                   published. A bucket of one second's worth is assumed";

/// The account's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests in flight over all functions.
    pub account_concurrency: u32,
    /// Concurrency that reservations may not touch.
    pub unreserved_minimum: u32,
    /// How fast environments may grow.
    pub scaling: Scaling,
    /// Synchronous requests per second of all functions without a reservation.
    pub request_rate: u32,
    /// The same of a function that reserves concurrency, for each unit of it.
    pub requests_per_concurrency: u32,
    /// How long an environment stays warm without work.
    pub idle_timeout: Duration,
    /// How long after its start an environment is used again. One that is busy then ends with its invocation.
    pub environment_lifetime: Duration,
    /// Where the figures come from.
    pub sources: Sources,
}

impl Settings {
    /// The figures of an era in a Region, with the user's own instead where given.
    ///
    /// # Errors
    /// A figure that is missing from the era and the overrides, or does not fit 32 bits.
    pub fn from_era(era: &Era, region: &str, overrides: &Overrides) -> Result<Self, SettingsError> {
        let figure = |limit| -> Result<Option<(u32, Arc<str>)>, SettingsError> {
            let Some(figure) = era.figure(limit, region, overrides) else { return Ok(None) };
            let value = u32::try_from(figure.value)
                .map_err(|_| SettingsError::TooLarge { limit, value: figure.value })?;
            Ok(Some((value, figure.source)))
        };
        let needed =
            |limit| figure(limit)?.ok_or_else(|| SettingsError::Missing { limit, era: era.name.clone() });
        let mut sources = Sources::default();
        let (account_concurrency, source) = needed(LimitId::AccountConcurrency)?;
        sources.account_concurrency = source;
        let mut scaling = Scaling::default();
        if figure(LimitId::Burst)?.is_some() || figure(LimitId::BurstRefill)?.is_some() {
            let (size, size_source) = needed(LimitId::Burst)?;
            let (refill_per_minute, refill_source) = needed(LimitId::BurstRefill)?;
            scaling.burst = Some(BurstFigures { size, refill_per_minute });
            (sources.burst, sources.burst_refill) = (size_source, refill_source);
        }
        if let Some((environments, source)) = figure(LimitId::ScalingRate)? {
            scaling.environments_per_10s = Some(environments);
            sources.scaling_rate = source;
        }
        let (request_rate, source) = match figure(LimitId::RequestRate)? {
            Some(given) => given,
            None => (account_concurrency.saturating_mul(PER_CONCURRENCY), REQUEST_RATE_SOURCE.into()),
        };
        sources.request_rate = source;
        let seconds = |limit, default| Duration::from_secs(overrides.get(limit).unwrap_or(default));
        Ok(Self {
            account_concurrency,
            unreserved_minimum: era.settings.unreserved_minimum,
            scaling,
            request_rate,
            requests_per_concurrency: PER_CONCURRENCY,
            idle_timeout: seconds(LimitId::EnvironmentIdleTimeout, era.settings.idle_timeout_s),
            environment_lifetime: seconds(LimitId::EnvironmentLifetime, era.settings.environment_lifetime_s),
            sources,
        })
    }
}

/// The figures of what connections meet on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Of shared interfaces.
    pub interface: InterfaceFigures,
    /// Of interfaces that are made at cold starts; `None` where they are shared.
    pub environment_interfaces: Option<EnvironmentInterfaceFigures>,
    /// How many interfaces there may be.
    pub quotas: Quotas,
    /// How long a deployment waits for a shared interface.
    pub interface_creation: Duration,
    /// Of NAT gateways.
    pub nat: NatFigures,
    /// Addresses that AWS lets a NAT gateway have without being asked.
    pub nat_addresses: u32,
    /// Connections of every database, if the user gives them.
    pub database: Option<u32>,
    /// Of every database proxy's pool, what the user gives.
    pub pool: PoolFigures,
    /// Of transfers and lookups.
    pub traffic: TrafficFigures,
    /// Where the figures come from.
    pub sources: NetworkSources,
}

/// What the user gives of every database proxy's pool, instead of the template's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// Connections to the database.
    pub connections: Option<u32>,
    /// How long a client waits for one.
    pub borrow_timeout: Option<Duration>,
    /// How long a client may go without a request.
    pub idle_client_timeout: Option<Duration>,
}

/// Where the network's figures come from, for the limits board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSources {
    /// Of an interface's connections.
    pub interface: Arc<str>,
    /// Of a NAT gateway's ports.
    pub nat: Arc<str>,
    /// Of routes and rules.
    pub template: Arc<str>,
}

impl NetworkSettings {
    /// The figures of an era in a Region, with the user's own instead where given.
    ///
    /// # Errors
    /// A figure that is missing from the era and the overrides, or is too large.
    pub fn from_era(era: &Era, region: &str, overrides: &Overrides) -> Result<Self, SettingsError> {
        let figure = |limit, max| -> Result<(u32, Arc<str>), SettingsError> {
            let figure = era.figure(limit, region, overrides);
            let figure = figure.ok_or_else(|| SettingsError::Missing { limit, era: era.name.clone() })?;
            if figure.value > u64::from(max) {
                return Err(SettingsError::Above { limit, value: figure.value, max });
            }
            Ok((figure.value as u32, figure.source))
        };
        let seconds = |limit| figure(limit, SECONDS_MAX).map(|(value, _)| Duration::from_secs(value.into()));
        let optional = |limit| match era.figure(limit, region, overrides) {
            Some(_) => figure(limit, u32::MAX).map(Some),
            None => Ok(None),
        };
        let environment_interfaces = match &era.settings.environment_interfaces {
            None => None,
            Some(found) => {
                let (create_rate, source) = figure(LimitId::EniCreateRate, u32::MAX)?;
                let millis = |&(share, millis): &(u32, u32)| (share, Duration::from_millis(millis.into()));
                let attach = AttachTimes::new(found.attach_ms.iter().map(millis).collect());
                Some(EnvironmentInterfaceFigures {
                    memory_mb: found.memory_mb,
                    create_rate,
                    create_burst: found.create_burst,
                    attach: attach.expect("era files are checked by a test"),
                    source,
                })
            }
        };
        // An interface of one worker's environments has no published bound of connections.
        let boundless = environment_interfaces.is_some() && optional(LimitId::EniConnections)?.is_none();
        let (connections, interface_source) = match boundless {
            true => (u32::MAX, "no bound is published".into()),
            false => figure(LimitId::EniConnections, u32::MAX)?,
        };
        let (ports, nat_source) = figure(LimitId::NatPorts, PORTS_MAX)?;
        let growth = overrides.get(LimitId::EniGrowthAfter);
        let database = overrides.get(LimitId::DbMaxConnections);
        let given = |limit| overrides.get(limit).map(|_| seconds(limit)).transpose();
        let pool = overrides.get(LimitId::DbPoolConnections);
        let pool = PoolFigures {
            connections: pool
                .map(|_| figure(LimitId::DbPoolConnections, u32::MAX))
                .transpose()?
                .map(|found| found.0),
            borrow_timeout: given(LimitId::DbBorrowTimeout)?,
            idle_client_timeout: given(LimitId::DbIdleClientTimeout)?,
        };
        Ok(Self {
            interface: InterfaceFigures {
                connections,
                growth_after: growth.map(|_| seconds(LimitId::EniGrowthAfter)).transpose()?,
                idle_timeout: seconds(LimitId::EniIdleTimeout)?,
            },
            environment_interfaces,
            interface_creation: Duration::from_secs(era.settings.interface_creation_s),
            quotas: Quotas {
                per_region: optional(LimitId::EniPerRegion)?,
                per_vpc: optional(LimitId::EniPerVpc)?,
                per_subnet: optional(LimitId::SubnetAddresses)?,
            },
            nat: NatFigures {
                ports,
                idle_timeout: seconds(LimitId::NatIdleTimeout)?,
                port_cooldown: seconds(LimitId::NatPortCooldown)?,
                first_port: 0,
            },
            nat_addresses: figure(LimitId::NatAddresses, u32::MAX)?.0,
            database: database
                .map(|_| figure(LimitId::DbMaxConnections, u32::MAX))
                .transpose()?
                .map(|found| found.0),
            pool,
            traffic: TrafficFigures {
                environment: optional(LimitId::EnvironmentBandwidth)?,
                interface: optional(LimitId::EniBandwidth)?,
                gateway: optional(LimitId::NatBandwidth)?,
                gateway_packets: optional(LimitId::NatPackets)?,
                resolver: optional(LimitId::DnsPackets)?,
            },
            sources: NetworkSources {
                interface: interface_source,
                nat: nat_source,
                template: "the template's routes and security groups".into(),
            },
        })
    }
}

/// The longest time that is read as a figure: a year.
const SECONDS_MAX: u32 = 366 * 86_400;

/// Why an era and its overrides make no settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Neither the era nor the user has the figure.
    #[error("era {era} has no {limit}; give one with --limit {limit}=N")]
    Missing {
        /// The limit without a figure.
        limit: LimitId,
        /// The era's name.
        era: String,
    },
    /// The figure is beyond what there can be.
    #[error("{limit}={value} is too large: at most {max}")]
    Above {
        /// The limit.
        limit: LimitId,
        /// Its figure.
        value: u64,
        /// The most.
        max: u32,
    },
    /// The figure does not fit 32 bits.
    #[error("{limit}={value} is too large: at most {}", u32::MAX)]
    TooLarge {
        /// The limit.
        limit: LimitId,
        /// Its figure.
        value: u64,
    },
}

/// One function's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionLimits {
    /// The name that refusals and the board show.
    pub resource: String,
    /// Its reserved concurrency; `None` shares the account's.
    pub reserved: Option<u32>,
    /// How long one invocation may take.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(era: &str, region: &str, overrides: &[&str]) -> Result<Settings, SettingsError> {
        let mut given = Overrides::default();
        for text in overrides {
            given.read(text).unwrap();
        }
        Settings::from_era(&Era::named(era).unwrap(), region, &given)
    }

    #[test]
    fn each_era_has_its_way_to_scale() {
        let old = settings("2022-12", "ap-northeast-1", &[]).unwrap();
        assert_eq!(old.scaling.burst, Some(BurstFigures { size: 1000, refill_per_minute: 500 }));
        assert_eq!(old.scaling.environments_per_10s, None);
        let today = settings("today", "ap-northeast-1", &["lambda.account-concurrency=5000"]).unwrap();
        assert_eq!(today.scaling, Scaling { burst: None, environments_per_10s: Some(1000) });
        assert_eq!((today.account_concurrency, today.unreserved_minimum), (5000, 100));
        assert_eq!(&*today.sources.account_concurrency, "given with --limit");
    }

    #[test]
    fn the_request_rate_follows_concurrency_unless_it_is_given() {
        let rate = |overrides: &[&str]| settings("today", "us-east-1", overrides).unwrap().request_rate;
        assert_eq!(rate(&[]), 10_000);
        assert_eq!(rate(&["lambda.account-concurrency=20"]), 200);
        assert_eq!(rate(&["lambda.account-concurrency=20", "lambda.request-rate=7"]), 7);
        let found = settings("2022-12", "us-east-1", &["environment.lifetime=2h"]).unwrap();
        assert_eq!((found.environment_lifetime.as_secs(), found.idle_timeout.as_secs()), (7200, 600));
    }

    #[test]
    fn every_era_has_its_network() {
        for (era, addresses) in [("2019-10", 1), ("2022-12", 1), ("today", 2)] {
            let mut given = Overrides::default();
            let network =
                |given: &Overrides| NetworkSettings::from_era(&Era::named(era).unwrap(), "us-east-1", given);
            let found = network(&given).unwrap();
            assert_eq!((found.interface.connections, found.nat.ports), (65_000, 55_000));
            assert_eq!((found.interface.growth_after, found.nat_addresses), (None, addresses));
            given.read("eni.growth-after=5m").unwrap();
            given.read("nat.ports=550").unwrap();
            let found = network(&given).unwrap();
            assert_eq!(found.interface.growth_after, Some(Duration::from_secs(300)));
            assert_eq!((found.nat.ports, &*found.sources.nat), (550, "given with --limit"));
            given.read("nat.ports=64513").unwrap();
            let above = SettingsError::Above { limit: LimitId::NatPorts, value: 64_513, max: 64_512 };
            assert_eq!(network(&given), Err(above));
        }
    }

    #[test]
    fn in_may_2019_interfaces_belong_to_environments() {
        let era = |name| Era::named(name).unwrap();
        let network = |name, given: &Overrides| NetworkSettings::from_era(&era(name), "us-east-1", given);
        let found = network("2019-05", &Overrides::default()).unwrap();
        let interfaces = found.environment_interfaces.unwrap();
        assert_eq!((interfaces.memory_mb, interfaces.create_rate), (3072, 5));
        assert_eq!(found.interface.connections, u32::MAX);
        assert_eq!((found.quotas.per_region.unwrap().0, found.quotas.per_vpc), (350, None));
        let mut given = Overrides::default();
        given.read("eni.connections=9").unwrap();
        assert_eq!(network("2019-05", &given).unwrap().interface.connections, 9);
        let quotas = |name| network(name, &Overrides::default()).unwrap().quotas.per_vpc.unwrap().0;
        assert_eq!(["2019-10", "2022-12", "today"].map(quotas), [250, 250, 500]);
    }

    #[test]
    fn a_burst_given_to_today_needs_its_refill() {
        let missing = SettingsError::Missing { limit: LimitId::BurstRefill, era: "today".into() };
        assert_eq!(settings("today", "us-east-1", &["lambda.burst=9"]), Err(missing));
        let both = settings("today", "us-east-1", &["lambda.burst=9", "lambda.burst-refill=3"]).unwrap();
        assert_eq!(both.scaling.burst, Some(BurstFigures { size: 9, refill_per_minute: 3 }));
        assert_eq!(both.scaling.environments_per_10s, Some(1000));
        let large = settings("today", "us-east-1", &["lambda.scaling-rate=5000000000"]);
        assert_eq!(large, Err(SettingsError::TooLarge { limit: LimitId::ScalingRate, value: 5_000_000_000 }));
    }
}
