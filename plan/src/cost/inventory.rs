//! What of a stack costs by the hour, whether anybody uses it or not.

use super::Quantity;
use crate::report::Assumption;
use model::price::{HOURS_PER_MONTH, Item};
use model::stack::{Architecture, DbInstance, EndpointKind, Link, NatGateway, Stack};
use std::collections::BTreeSet;

const SECONDS_PER_MONTH: u128 = 3600 * HOURS_PER_MONTH as u128;
/// A proxy is billed for at least so many vCPUs (RDS Proxy pricing).
const PROXY_VCPUS_MIN: u64 = 2;
/// … and of an Aurora instance that scales by itself, for at least so many capacity units (the same).
const PROXY_ACUS_MIN: u64 = 8;
/// The class of Aurora's instances that scale by themselves.
const SERVERLESS: &str = "db.serverless";
/// Capacity units come in steps of a half (Aurora User Guide, "Aurora Serverless v2 capacity").
const ACU_PARTS: u64 = 2;
/// `/tmp` of this size is free (Lambda pricing), MB.
const STORAGE_FREE_MB: u32 = 512;
/// What a database has when the template does not say, GB (RDS User Guide: the least for general purpose storage).
const DB_STORAGE_GB: u32 = 20;

/// What of a stack costs something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// Of each function, in the stack's order, what its time costs by.
    pub functions: Vec<Shape>,
    /// What stands there all month.
    pub standing: Vec<Standing>,
    /// Host names of databases' proxies: no data price.
    pub proxies: Vec<String>,
    /// What was assumed.
    pub notes: Vec<Assumption>,
}

/// What a function's price depends on, besides memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// On arm64.
    pub arm: bool,
    /// `/tmp` beyond what is free, MB.
    pub storage_mb: u32,
}

/// Something that stands there all month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which price it has.
    pub what: Priced,
    /// Its logical id.
    pub resource: String,
    /// How much of it, for the month.
    pub quantity: Quantity,
}

/// Which price something has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Priced {
    /// That of an item.
    Item(Item),
    /// That of a database instance of this class.
    Database(String),
    /// That of a REST API's cache of so many GB.
    Cache(String),
}

impl Inventory {
    /// What of a stack costs something.
    pub fn of(stack: &Stack) -> Self {
        let mut inventory = Self::default();
        inventory.functions.extend(stack.functions.iter().map(|function| Shape {
            arm: function.architecture == Architecture::Arm64,
            storage_mb: function.ephemeral_storage_mb.saturating_sub(STORAGE_FREE_MB),
        }));
        inventory.provisioned(stack);
        inventory.gateways(stack);
        inventory.endpoints(stack);
        inventory.databases(stack);
        inventory.caches(stack);
        inventory.others(stack);
        inventory
    }

    fn stands(&mut self, what: Priced, resource: &str, quantity: Quantity) {
        self.standing.push(Standing { what, resource: resource.to_owned(), quantity });
    }

    /// `count` of an item, all month.
    fn hours(&mut self, item: Item, resource: &str, count: u64) {
        if count > 0 {
            let hours = u128::from(count) * u128::from(HOURS_PER_MONTH);
            self.stands(Priced::Item(item), resource, Quantity::whole(hours));
        }
    }

    fn note(&mut self, what: &str, value: &str, why: &str) {
        self.notes.push(Assumption::new(format!("{what} in the bill"), value, why));
    }

    fn provisioned(&mut self, stack: &Stack) {
        let versions =
            stack.versions.iter().map(|version| (&version.function, version.provisioned_concurrency));
        let aliases = stack.aliases.iter().map(|alias| (&alias.function, alias.provisioned_concurrency));
        for (link, count) in versions.chain(aliases) {
            let (Some(count), Some(function)) = (count, stack.find_function(link.as_str())) else { continue };
            let item = match function.architecture {
                Architecture::X86_64 => Item::LambdaProvisioned,
                Architecture::Arm64 => Item::LambdaProvisionedArm,
            };
            let mb_s = u128::from(count) * u128::from(function.memory_mb) * SECONDS_PER_MONTH;
            let quantity = Quantity { amount: mb_s, parts: limits::billing::MB_PER_GB };
            self.stands(Priced::Item(item), &function.id, quantity);
        }
    }

    /// NAT gateways, and every public address: each elastic one, whether it is used or not.
    fn gateways(&mut self, stack: &Stack) {
        for gateway in &stack.nat_gateways {
            let zones = if gateway.regional { zones(stack, gateway) } else { 1 };
            self.hours(Item::NatHours, &gateway.id, zones);
            let elsewhere = gateway.addresses.iter().filter(|link| link.logical().is_none()).count();
            let automatic = if gateway.regional && gateway.addresses.is_empty() { zones } else { 0 };
            self.hours(Item::PublicIpv4Hours, &gateway.id, elsewhere as u64 + automatic);
            if gateway.regional {
                let why =
                    "the price of regional NAT gateways is not confirmed, nor how many addresses they hold";
                self.note(
                    &gateway.id,
                    &format!("{zones} zones at the price of a gateway each, an address each"),
                    why,
                );
            }
        }
        for address in &stack.elastic_ips {
            self.hours(Item::PublicIpv4Hours, &address.id, 1);
        }
    }

    fn endpoints(&mut self, stack: &Stack) {
        for endpoint in stack.vpc_endpoints.iter().filter(|found| found.kind == EndpointKind::Interface) {
            self.hours(Item::EndpointHours, &endpoint.id, endpoint.subnets.len().max(1) as u64);
        }
    }

    fn databases(&mut self, stack: &Stack) {
        for database in &stack.db_instances {
            if database.class == SERVERLESS {
                self.scales_by_itself(database);
                continue;
            }
            let copies = if database.multi_az { 2 } else { 1 };
            let hours = u128::from(HOURS_PER_MONTH) * copies;
            self.stands(Priced::Database(database.class.clone()), &database.id, Quantity::whole(hours));
            if database.cluster.is_some() {
                continue;
            }
            let storage = database.allocated_storage_gb.unwrap_or(DB_STORAGE_GB);
            let storage = Quantity::whole(u128::from(storage) * copies);
            self.stands(Priced::Item(Item::DbStorage), &database.id, storage);
        }
        let clusters: BTreeSet<&str> =
            stack.db_instances.iter().filter_map(|found| Some(&*found.cluster.as_ref()?.id)).collect();
        for cluster in clusters {
            let why = "a cluster's storage grows with what is in it, which a template does not say";
            self.note(cluster, "without storage, its I/O and backups", why);
        }
        for proxy in &stack.db_proxies {
            self.proxies.extend([proxy.id.clone(), proxy.endpoint.clone()]);
            // Every instance behind it counts (RDS Proxy pricing): a cluster's all.
            let groups = || {
                stack.db_proxy_target_groups.iter().filter(|group| group.proxy.logical() == Some(&proxy.id))
            };
            let is_behind = |database: &&DbInstance| {
                let cluster = database.cluster.as_ref().map(|cluster| &*cluster.id);
                groups().any(|group| {
                    group.instances.iter().any(|link| link.logical() == Some(&database.id))
                        || group.clusters.iter().any(|link| cluster.is_some() && link.logical() == cluster)
                })
            };
            let behind = stack.db_instances.iter().filter(is_behind);
            let (serverless, classes): (Vec<_>, Vec<_>) =
                behind.partition(|database| database.class == SERVERLESS);
            let vcpus: u64 = classes.iter().map(|database| vcpus(&database.class)).sum();
            if serverless.is_empty() || vcpus > 0 {
                self.hours(Item::ProxyHours, &proxy.id, vcpus.max(PROXY_VCPUS_MIN));
            }
            if !serverless.is_empty() {
                let halves: u128 = serverless.iter().map(|database| least_halves(database)).sum();
                let least = halves.max(u128::from(PROXY_ACUS_MIN * ACU_PARTS));
                self.capacity(Item::ProxyAcuHours, &proxy.id, least);
            }
        }
        for secret in &stack.secrets {
            self.stands(Priced::Item(Item::Secrets), &secret.id, Quantity::whole(1));
        }
    }

    /// An instance that is billed by the capacity units that it takes: its least, as a plan does not know how far it scales.
    fn scales_by_itself(&mut self, database: &DbInstance) {
        let halves = least_halves(database);
        self.capacity(Item::DbAcuHours, &database.id, halves);
        let value = format!("at its MinCapacity, {} ACUs all month", halves as f64 / ACU_PARTS as f64);
        let why = "how many capacity units (ACUs) it takes beyond that a plan does not know; prices of Aurora Standard";
        self.note(&database.id, &value, why);
    }

    /// So many halves of a capacity unit, all month.
    fn capacity(&mut self, item: Item, resource: &str, halves: u128) {
        if halves > 0 {
            let amount = halves.saturating_mul(u128::from(HOURS_PER_MONTH));
            self.stands(Priced::Item(item), resource, Quantity { amount, parts: ACU_PARTS });
        }
    }

    fn caches(&mut self, stack: &Stack) {
        for (api, stage) in
            stack.rest_apis.iter().flat_map(|api| api.stages.iter().map(move |stage| (api, stage)))
        {
            if let Some(size) = &stage.cache.size_gb {
                let hours = Quantity::whole(u128::from(HOURS_PER_MONTH));
                self.stands(Priced::Cache(size.clone()), &format!("{}/{}", api.id, stage.name), hours);
            }
        }
    }

    /// What Onrush does not run but knows a price of.
    fn others(&mut self, stack: &Stack) {
        for cache in &stack.caches {
            self.note(&cache.id, "left out", "what caches cost is not reckoned");
        }
        for other in &stack.others {
            match &*other.resource_type {
                "AWS::ElasticLoadBalancingV2::LoadBalancer" => {
                    self.hours(Item::AlbHours, &other.id, 1);
                    self.note(&other.id, "its hours, without capacity units", "its load is not simulated");
                }
                kind if HAS_PRICE.iter().any(|prefix| kind.starts_with(prefix)) => {
                    self.note(&other.id, "left out", &format!("{kind} is not simulated"));
                }
                _ => {}
            }
        }
    }
}

/// Types that cost something and are not priced here; most other types (roles, permissions, policies) are free.
const HAS_PRICE: &[&str] = &[
    "AWS::ECS::Service",
    "AWS::EC2::Instance",
    "AWS::DynamoDB::Table",
    "AWS::RDS::DBCluster",
    "AWS::SQS::Queue",
    "AWS::SNS::Topic",
    "AWS::S3::Bucket",
    "AWS::CloudFront::Distribution",
    "AWS::StepFunctions::StateMachine",
    "AWS::Kinesis::Stream",
    "AWS::OpenSearchService::Domain",
    "AWS::EFS::FileSystem",
];

/// Zones of the VPC of a regional NAT gateway that have a subnet.
fn zones(stack: &Stack, gateway: &NatGateway) -> u64 {
    let vpc = gateway.vpc.as_ref().and_then(Link::logical);
    let subnets = stack.subnets.iter().filter(|subnet| subnet.vpc.logical() == vpc);
    let zones: BTreeSet<&str> = subnets.map(|subnet| &*subnet.availability_zone).collect();
    zones.len().max(1) as u64
}

/// `MinCapacity` of an instance's cluster in halves of a capacity unit, rounded up; templates bound it at some hundreds.
fn least_halves(database: &DbInstance) -> u128 {
    let least =
        database.cluster.as_ref().and_then(|cluster| cluster.capacity).map_or(0.0, |(least, _)| least);
    (least * ACU_PARTS as f64).ceil() as u128
}

/// vCPUs of `db.FAMILY.SIZE`: two up to `large`, four in an `xlarge`, four times N in an `Nxlarge`.
///
/// Source: RDS User Guide, hardware specifications of the current burstable, general and memory classes; published.
fn vcpus(class: &str) -> u64 {
    let size = class.rsplit('.').next().unwrap_or_default();
    match size.strip_suffix("xlarge") {
        Some("") => 4,
        Some(times) => times.parse::<u64>().map_or(PROXY_VCPUS_MIN, |times| times.saturating_mul(4)),
        None => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_as_many_processors_as_the_guide_says() {
        for (class, count) in [
            ("db.t4g.micro", 2),
            ("db.m6g.large", 2),
            ("db.t4g.xlarge", 4),
            ("db.r6g.16xlarge", 64),
            ("?", 2),
        ] {
            assert_eq!(vcpus(class), count, "{class}");
        }
    }
}
