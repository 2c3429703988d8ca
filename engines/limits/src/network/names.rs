//! Names inside VPCs, and the addresses that AWS's services have here.
//!
//! Sources: VPC User Guide, "DNS attributes for your VPC"; AWS PrivateLink Guide, "Access AWS services" (with private DNS the
//! service's usual names lead to the endpoint's interfaces); Route 53 Developer Guide, "Working with private hosted zones"
//! (the most specific zone and record answer; `*` stands for a first label).

use super::{Hop, Network, Target, To};
use model::name::dns_suffix_of;
use std::net::{IpAddr, Ipv4Addr};

/// Where services of AWS have their addresses: a range that RFC 2544 keeps off the internet.
const SERVICES: u32 = u32::from_be_bytes([198, 19, 128, 0]);
/// How many addresses that are, less the first and the last.
const SERVICES_COUNT: u64 = (1 << 14) - 2;
/// Aliases and canonical names are followed so often.
const MAX_ALIASES: usize = 8;

/// Services whose endpoints are called by two labels: `api.ecr.us-east-1.amazonaws.com` is `ecr.api`.
const TWO_LABELS: [&str; 4] = ["ecr", "sagemaker", "iot", "elastic-inference"];
/// Below these names of services stand resources of customers, each somewhere else.
const RESOURCES: [&str; 9] = ["rds", "elb", "vpce", "cache", "es", "docdb", "neptune", "redshift", "compute"];
/// Services with names that bear no Region.
const GLOBAL: [&str; 7] = ["sts", "iam", "s3", "route53", "cloudfront", "organizations", "sqs"];

/// A private zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its logical id.
    pub id: String,
    /// Its domain, lower case, without a dot at its end.
    pub name: String,
    /// The VPCs that see it.
    pub vpcs: Vec<usize>,
    /// Its records.
    pub records: Vec<model::stack::RecordSet>,
}

/// The address that a service of AWS has here, the same always: `s3`, `ssm`, `ecr.api`.
pub fn service_address(service: &str) -> Ipv4Addr {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in service.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 31;
    // Below 2^14, so that it fits.
    (SERVICES + 1 + (hash % SERVICES_COUNT) as u32).into()
}

/// The service of AWS whose range has an address, as flow logs name it: `S3`, `DYNAMODB`, `API_GATEWAY`, and `AMAZON` for all
/// others. `None`: it is none of AWS's public addresses.
///
/// Source: VPC User Guide, "Flow log records", `pkt-dst-aws-service` (published).
pub fn range_of(address: IpAddr) -> Option<&'static str> {
    let IpAddr::V4(address) = address else { return None };
    const NAMED: [(&str, &str); 3] = [("s3", "S3"), ("dynamodb", "DYNAMODB"), ("execute-api", "API_GATEWAY")];
    let is_of = |(service, _): &&(&str, &str)| service_address(service) == address;
    let number = u32::from(address).wrapping_sub(SERVICES);
    let named = NAMED.iter().find(is_of).map(|(_, range)| *range);
    named.or_else(|| (1..=SERVICES_COUNT).contains(&u64::from(number)).then_some("AMAZON"))
}

/// The service that a host name of AWS stands for: `carts.s3.us-east-1.amazonaws.com` is `s3`. None for names of other
/// Regions and for resources such as databases, which stand somewhere of their own.
pub fn service_of(host: &str, region: &str) -> Option<String> {
    let rest = host.strip_suffix(dns_suffix_of(region))?.strip_suffix('.')?;
    let local = rest.strip_suffix(region).and_then(|rest| rest.strip_suffix('.'));
    let mut labels = local.unwrap_or(rest).rsplit('.');
    let last = labels.next().filter(|label| !label.is_empty())?;
    let before = labels.next();
    if local.is_none() && !GLOBAL.contains(&last) || before.is_some() && RESOURCES.contains(&last) {
        return None;
    }
    match before {
        Some(before) if TWO_LABELS.contains(&last) => Some(format!("{last}.{before}")),
        _ => Some(last.to_owned()),
    }
}

/// `s3` of `com.amazonaws.us-east-1.s3`.
pub(super) fn service_short(service_name: &str) -> &str {
    service_name.splitn(4, '.').nth(3).unwrap_or(service_name)
}

/// The usual host names of `com.amazonaws.REGION.SERVICE`: SERVICE.REGION.amazonaws.com, and all below it.
pub(super) fn service_hosts(service_name: &str) -> Vec<String> {
    let mut parts = service_name.splitn(4, '.').skip(2);
    let (Some(region), Some(service)) = (parts.next(), parts.next()) else { return Vec::new() };
    // `ecr.api` answers as api.ecr.REGION.
    let service: Vec<&str> = service.rsplit('.').collect();
    let host = format!("{}.{region}.{}", service.join("."), dns_suffix_of(region));
    vec![format!(".{host}"), host]
}

/// Whether a pattern (a name, or a dot and the end of names) means the host.
pub fn means(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('.') {
        Some(_) => host.len() > pattern.len() && host.ends_with(pattern),
        None => pattern == host,
    }
}

impl Network {
    /// The hosts that a name leads to, seen from a VPC; several where they stand in several subnets.
    pub fn hosts_named<'net>(
        &'net self,
        vpc: usize,
        name: &'net str,
    ) -> impl Iterator<Item = (usize, &'net super::Host)> {
        self.hosts.iter().enumerate().filter(move |(_, host)| {
            host.names.iter().any(|pattern| means(pattern, name))
                || host.vpc == vpc && host.private_names.iter().any(|pattern| means(pattern, name))
        })
    }

    /// The records that answer a name of this type in a VPC's private zones: those of the most specific zone, and none
    /// (`Some` and empty) where the zone has the domain but not the name. CNAMEs stand for every type.
    pub fn records(
        &self,
        vpc: usize,
        name: &str,
        record_type: &str,
    ) -> Option<Vec<&model::stack::RecordSet>> {
        let holds = |zone: &&Zone| {
            zone.vpcs.contains(&vpc)
                && name.strip_suffix(&*zone.name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let zone = self.zones.iter().filter(holds).max_by_key(|zone| zone.name.len())?;
        let of = |wanted: &str| -> Vec<&model::stack::RecordSet> {
            zone.records.iter().filter(|record| record.name == wanted).collect()
        };
        let mut found = of(name);
        // `*.example.com` answers names that are not there themselves.
        let mut rest = name;
        while found.is_empty()
            && rest.len() > zone.name.len()
            && let Some((_, parent)) = rest.split_once('.')
        {
            found = of(&format!("*.{parent}"));
            rest = parent;
        }
        found.retain(|record| record.record_type == record_type || record.record_type == "CNAME");
        Some(found)
    }

    /// The IPv4 address that a name has for a function in a subnet: by private zones, hosts and gateway endpoints; none
    /// for names of the outside. Where there are several, the one nearest by.
    pub fn resolve(&self, subnet: usize, name: &str) -> Option<Ipv4Addr> {
        let place = &self.subnets[subnet];
        let name = match self.followed(place.vpc, name)? {
            Ok(address) => return Some(address),
            Err(name) => name,
        };
        let near = |(_, host): &(usize, &super::Host)| {
            let zone = host.subnet.map(|subnet| &self.subnets[subnet].zone);
            (host.subnet != Some(subnet), zone != Some(&place.zone))
        };
        let host = self.hosts_named(place.vpc, &name).min_by_key(near);
        host.map(|(_, host)| host.address).or_else(|| {
            let service = self.gateway_service(subnet, &name)?;
            Some(service_address(&service))
        })
    }

    /// What a name comes to by a VPC's private zones: an address, else the last name. None where a zone has no such name.
    fn followed(&self, vpc: usize, name: &str) -> Option<Result<Ipv4Addr, String>> {
        let mut name = name.to_ascii_lowercase();
        for _ in 0..MAX_ALIASES {
            let Some(records) = self.records(vpc, &name, "A") else { break };
            let record = records.first()?;
            let next = record.alias.as_deref().or_else(|| record.values.first().map(String::as_str))?;
            if record.alias.is_none() && record.record_type == "A" {
                return next.parse().ok().map(Ok);
            }
            name = next.trim_end_matches('.').to_ascii_lowercase();
        }
        Some(Err(name))
    }

    /// The addresses that a function is told of a name one after the other, where there are several: those of a cluster's
    /// readers. Source: Aurora User Guide, "Reader endpoints" (published; the turns assumed).
    pub fn in_turn(&self, function: usize, name: &str) -> Vec<Ipv4Addr> {
        let placement = self.placements.get(function).and_then(Option::as_ref);
        let vpc = placement.and_then(|placement| Some(self.subnets.get(*placement.subnets.first()?)?.vpc));
        let name = match vpc.map(|vpc| self.followed(vpc, name)) {
            None => name.to_ascii_lowercase(),
            Some(Some(Err(name))) => name,
            Some(_) => return Vec::new(),
        };
        let is_of = |host: &&super::Host| {
            matches!(host.what, super::HostKind::Database(_))
                && host.names.iter().any(|pattern| means(pattern, &name))
        };
        let found: Vec<Ipv4Addr> = self.hosts.iter().filter(is_of).map(|host| host.address).collect();
        if found.len() > 1 { found } else { Vec::new() }
    }

    /// The service of a name to which a gateway endpoint leads from a subnet.
    fn gateway_service(&self, subnet: usize, name: &str) -> Option<String> {
        let routes = self.subnets[subnet].routes.iter();
        let endpoints = routes.filter_map(|route| match (&route.to, &route.hop) {
            (To::Service(_), Hop::Service(endpoint)) => self.endpoints.get(*endpoint),
            _ => None,
        });
        let mut found = endpoints.filter(|found| found.names.iter().any(|pattern| means(pattern, name)));
        found.next().map(|endpoint| endpoint.service.clone())
    }

    /// The address that a connection goes to.
    pub(super) fn address_of(&self, subnet: usize, to: &Target<'_>) -> IpAddr {
        if let Ok(literal) = to.host.parse() {
            return literal;
        }
        let by_id = self.hosts.iter().find(|host| host.name == to.host).map(|host| host.address);
        by_id.or_else(|| self.resolve(subnet, to.host)).unwrap_or(to.address).into()
    }

    /// Whether something in a VPC has this name or logical id.
    pub fn is_inside(&self, host: &str) -> bool {
        self.hosts.iter().any(|found| {
            found.name == host
                || found.names.iter().chain(&found.private_names).any(|pattern| means(pattern, host))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn names_of_services_are_told_from_names_of_resources() {
        for (host, service) in [
            ("s3.us-east-1.amazonaws.com", Some("s3")),
            ("carts.s3.us-east-1.amazonaws.com", Some("s3")),
            ("carts.s3.amazonaws.com", Some("s3")),
            ("sts.amazonaws.com", Some("sts")),
            ("api.ecr.us-east-1.amazonaws.com", Some("ecr.api")),
            ("1.dkr.ecr.us-east-1.amazonaws.com", Some("ecr.dkr")),
            ("abc.execute-api.us-east-1.amazonaws.com", Some("execute-api")),
            ("rds.us-east-1.amazonaws.com", Some("rds")),
            ("db.x1.us-east-1.rds.amazonaws.com", None),
            ("b-1.us-east-1.elb.amazonaws.com", None),
            ("net-1.elb.us-east-1.amazonaws.com", None),
            ("ssm.eu-west-1.amazonaws.com", None),
            (".us-east-1.amazonaws.com", None),
            ("example.com", None),
        ] {
            assert_eq!(service_of(host, "us-east-1").as_deref(), service, "{host}");
        }
        let of_china = |host| service_of(host, "cn-north-1");
        assert_eq!(of_china("s3.cn-north-1.amazonaws.com.cn").as_deref(), Some("s3"));
        assert_eq!(of_china("s3.cn-north-1.amazonaws.com"), None);
        assert!(
            service_hosts("com.amazonaws.cn-north-1.ssm").contains(&"ssm.cn-north-1.amazonaws.com.cn".into())
        );
    }

    #[test]
    fn services_in_use_have_addresses_of_their_own() {
        let services = [
            "s3",
            "dynamodb",
            "ssm",
            "ssmmessages",
            "secretsmanager",
            "sts",
            "lambda",
            "sqs",
            "sns",
            "kms",
            "logs",
            "monitoring",
            "events",
            "states",
            "execute-api",
            "ecr.api",
            "ecr.dkr",
            "kinesis",
            "firehose",
            "ec2",
            "rds",
            "rds-data",
            "elasticache",
            "athena",
            "glue",
            "xray",
            "iam",
            "cognito-idp",
            "appconfig",
            "bedrock",
            "bedrock-runtime",
            "email",
            "ses",
            "sagemaker.runtime",
            "cloudformation",
            "autoscaling",
            "ecs",
            "eks",
            "codeartifact.api",
            "es",
            "textract",
            "rekognition",
            "transcribe",
            "comprehend",
            "translate",
        ];
        let mut seen = BTreeMap::new();
        for service in services {
            let address = service_address(service);
            assert_eq!(seen.insert(address, service), None, "{service} at {address}");
            assert!((u32::from(address) - SERVICES) < (1 << 14));
        }
    }
}
