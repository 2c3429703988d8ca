//! The ways out of a stack's subnets: which interface, which NAT gateway, or why none.
//!
//! Sources: VPC User Guide, "Configure route tables" (the longest prefix wins, `local` is always there), "Gateway
//! endpoints" (a route to S3 or DynamoDB that passes the NAT gateway), AWS PrivateLink Guide, "Access AWS services" (with
//! private DNS the service's usual name leads to an interface in the VPC), AWS Lambda Developer Guide, "Internet access
//! for VPC-connected functions" (an internet gateway drops what a function sends, as its interface never has a public
//! address); published. Dropped connects get no answer at all.
//!
//! Looked at are routes, endpoints and the egress rules of the function's security groups; network ACLs and the rules of
//! the other side are not.

mod databases;
mod space;

pub use databases::{Database, Proxy};
pub use space::{Attachments, Space};

use crate::connections::{Connections, Way};
use crate::db_connections::DatabaseId;
use crate::db_pool::LoginId;
use crate::eni::InterfaceId;
use crate::nat::{Destination as NatDestination, GatewayId, Protocol};
use crate::settings::NetworkSettings;
use model::stack::{
    Cidr, Destination, EndpointKind, Link, NatGateway, Peer, Route, RouteTarget, SecurityGroup, Stack,
    TransportProtocol, VpcConfig, VpcEndpoint,
};
use model::{Instant, LimitId, Refusal};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Addresses that a regional NAT gateway takes in a zone by itself as it needs them.
///
/// Source: VPC User Guide, "Regional NAT gateways": up to 32 in a zone; published.
const REGIONAL_ADDRESSES: u16 = 32;

/// What a stack has of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Subnets with their ways.
    pub subnets: Vec<Subnet>,
    /// NAT gateways.
    pub gateways: Vec<Gateway>,
    /// Security groups.
    pub groups: Vec<Group>,
    /// Of each function, in the stack's order, where it is; none without a VPC. Functions beyond its end have none.
    pub placements: Vec<Option<Placement>>,
    /// What is inside the VPC, by name.
    pub inside: Vec<Inside>,
    /// Database instances.
    pub databases: Vec<Database>,
    /// Database proxies.
    pub proxies: Vec<Proxy>,
    /// What was assumed of things outside the template.
    pub notes: Vec<Note>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// Its routes, in any order.
    pub routes: Vec<(Cidr, Hop)>,
    /// Services that a gateway endpoint of its route table leads to, as host names.
    pub services: Vec<String>,
    /// Its addresses and its VPC.
    pub space: Space,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Into the VPC, or to another network that no limit here stands before.
    Inside,
    /// Through the NAT gateway with this index.
    Nat(usize),
    /// To an internet gateway, which drops what functions send.
    InternetGateway(String),
}

/// A NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// Its addresses.
    pub addresses: u16,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// Where its members may go.
    pub rules: Vec<Rule>,
}

/// One egress rule for TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// First and last port.
    pub ports: (u16, u16),
    /// Whom it lets through.
    pub peer: RulePeer,
}

/// Whom a rule lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulePeer {
    /// Addresses.
    Range(Cidr),
    /// Members of a group, by its name.
    Group(String),
    /// What gateway endpoints lead to.
    Services,
}

/// Where a function is: each of its environments in one of the subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Indices of its subnets.
    pub subnets: Vec<usize>,
    /// Indices of its security groups, ascending.
    pub groups: Vec<usize>,
}

/// Something inside the VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The host name that leads to it. One that begins with a dot stands for all names that end so.
    pub host: String,
    /// Names of its security groups.
    pub groups: Vec<String>,
    /// An address that stands for its own, of its VPC.
    pub address: Ipv4Addr,
    /// Index of the database that it is, if it is one.
    pub database: Option<usize>,
    /// Index of the database proxy that it is, if it is one.
    pub proxy: Option<usize>,
}

/// Something that was assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub what: String,
    /// The value that was used.
    pub value: String,
    /// Why that one.
    pub why: &'static str,
}

/// Where a connection is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'name> {
    /// The name, or the address as text.
    pub host: &'name str,
    /// The address that the name stands for.
    pub address: Ipv4Addr,
    /// The TCP port.
    pub port: u16,
}

/// Which way a connection takes out of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Through the interface only.
    Inside,
    /// Through the NAT gateway with this index.
    Nat(usize),
    /// Through the interface to the database with this index.
    Database(usize),
    /// Through the interface to the database proxy with this index.
    Proxy(usize),
    /// Nowhere, by this limit of this resource.
    Barred(LimitId, String),
}

/// A network whose limits are engines.
#[derive(Clone, Debug)]
pub struct Wired {
    /// The engines.
    pub connections: Connections,
    /// Of each function its interfaces, one for each of its subnets; none without a VPC.
    pub interfaces: Vec<Vec<InterfaceId>>,
    /// Of each function what its deployment found no room in, if so.
    pub undeployed: Vec<Option<Refusal>>,
    gateways: Vec<GatewayId>,
    databases: Vec<Option<DatabaseId>>,
    proxies: Vec<Option<LoginId>>,
}

impl Network {
    /// So many subnets behind one NAT gateway, for all of `functions` functions.
    pub fn simple(functions: usize, subnets: usize, addresses: u16) -> Self {
        let routes = vec![(Cidr::ANY, Hop::Nat(0))];
        let subnet = |index: usize| Subnet {
            name: format!("Subnet{}", index + 1),
            routes: routes.clone(),
            services: Vec::new(),
            space: Space::default(),
        };
        let placement = Placement { subnets: (0..subnets).collect(), groups: vec![0] };
        Self {
            subnets: (0..subnets).map(subnet).collect(),
            gateways: vec![Gateway { name: "NatGateway".to_owned(), addresses }],
            groups: vec![Group { name: "Group".to_owned(), rules: vec![Rule::everything()] }],
            placements: vec![Some(placement); functions],
            ..Self::default()
        }
    }

    /// What a stack has of a network.
    pub fn from_stack(stack: &Stack) -> Self {
        let mut network = Self::default();
        network.gateways.extend(stack.nat_gateways.iter().map(gateway));
        for gateway in
            stack.nat_gateways.iter().filter(|gateway| gateway.regional && gateway.addresses.is_empty())
        {
            network.note(
                &gateway.id,
                format!("{REGIONAL_ADDRESSES} addresses at once"),
                "a regional NAT gateway takes addresses as it needs them; how fast is not published",
            );
        }
        network.inside = inside(stack);
        network.databases = stack.db_instances.iter().map(|found| Database::of(stack, found)).collect();
        let unknown = network.databases.iter().filter(|found| found.connections.is_none());
        for name in unknown.map(|found| found.name.clone()).collect::<Vec<_>>() {
            network.note(
                &name,
                "without a limit of connections".to_owned(),
                "its class or engine is not known",
            );
        }
        network.proxies = stack.db_proxies.iter().map(|found| Proxy::of(stack, found)).collect();
        let known = |proxy: &&Proxy| {
            proxy.database.is_some_and(|index| network.databases[index].connections.is_some())
        };
        let unknown: Vec<String> =
            network.proxies.iter().filter(|proxy| !known(proxy)).map(|proxy| proxy.name.clone()).collect();
        for name in unknown {
            let why = "the connections of the database behind it are not known";
            network.note(&name, "lets no query wait".to_owned(), why);
        }
        let placements = stack.functions.iter().map(|function| {
            let config = function.vpc.as_ref().filter(|config| !config.subnets.is_empty())?;
            Some(network.place(stack, config))
        });
        network.placements = placements.collect();
        network
    }

    fn place(&mut self, stack: &Stack, config: &VpcConfig) -> Placement {
        let subnets = config.subnets.iter().map(|link| self.subnet(stack, link)).collect();
        let mut groups: Vec<usize> =
            config.security_groups.iter().map(|link| self.group(stack, link)).collect();
        groups.sort_unstable();
        groups.dedup();
        Placement { subnets, groups }
    }

    fn subnet(&mut self, stack: &Stack, link: &Link) -> usize {
        let name = link.as_str();
        if let Some(index) = self.subnets.iter().position(|subnet| subnet.name == name) {
            return index;
        }
        let subnet = match link.logical().and_then(|id| stack.subnet(id)) {
            Some(found) => self.subnet_of_stack(stack, found),
            None => self.subnet_elsewhere(name),
        };
        self.subnets.push(subnet);
        self.subnets.len() - 1
    }

    fn subnet_of_stack(&mut self, stack: &Stack, subnet: &model::stack::Subnet) -> Subnet {
        let vpc = stack.vpcs.iter().find(|vpc| Some(vpc.id.as_str()) == subnet.vpc.logical());
        let mut routes = vec![(vpc.map_or(subnet.cidr, |vpc| vpc.cidr), Hop::Inside)];
        let mut services = Vec::new();
        if let Some(table) = stack.route_table_of(&subnet.id) {
            routes.extend(stack.routes_of(&table.id).filter_map(|route| self.route(route)));
            let to_table = |endpoint: &&VpcEndpoint| {
                endpoint.route_tables.iter().any(|link| link.logical() == Some(&table.id))
            };
            let endpoints = stack.vpc_endpoints.iter().filter(|found| found.kind == EndpointKind::Gateway);
            services.extend(endpoints.filter(to_table).flat_map(|found| service_hosts(&found.service_name)));
        }
        Subnet { name: subnet.id.clone(), routes, services, space: Space::of_stack(stack, subnet) }
    }

    /// A route for IPv4 addresses.
    fn route(&mut self, route: &Route) -> Option<(Cidr, Hop)> {
        let Destination::Ipv4(range) = route.destination else { return None };
        let hop = match &route.target {
            RouteTarget::NatGateway(link) => Hop::Nat(self.gateway(link)),
            RouteTarget::InternetGateway(link) => Hop::InternetGateway(link.as_str().to_owned()),
            _ => Hop::Inside,
        };
        Some((range, hop))
    }

    fn gateway(&mut self, link: &Link) -> usize {
        let name = link.as_str();
        if let Some(index) = self.gateways.iter().position(|gateway| gateway.name == name) {
            return index;
        }
        self.note(name, "a NAT gateway with one address".to_owned(), "it is not in the template");
        self.gateways.push(Gateway { name: name.to_owned(), addresses: 1 });
        self.gateways.len() - 1
    }

    fn subnet_elsewhere(&mut self, name: &str) -> Subnet {
        let gateway = self.gateway(&Link::Literal("nat-elsewhere".to_owned()));
        let why = "it is not in the template";
        self.note(name, "its default route leads to nat-elsewhere".to_owned(), why);
        let routes = vec![(Cidr::ANY, Hop::Nat(gateway))];
        Subnet { name: name.to_owned(), routes, services: Vec::new(), space: Space::default() }
    }

    fn group(&mut self, stack: &Stack, link: &Link) -> usize {
        let name = link.as_str();
        if let Some(index) = self.groups.iter().position(|group| group.name == name) {
            return index;
        }
        let rules = match link.logical().and_then(|id| stack.security_group(id)) {
            Some(group) => rules(group),
            None => {
                self.note(name, "it lets everything out".to_owned(), "it is not in the template");
                vec![Rule::everything()]
            }
        };
        self.groups.push(Group { name: name.to_owned(), rules });
        self.groups.len() - 1
    }

    fn note(&mut self, what: &str, value: String, why: &'static str) {
        self.notes.push(Note { what: what.to_owned(), value, why });
    }

    /// Which way a connection takes out of a subnet, by routes, endpoints and rules.
    pub fn verdict(&self, subnet: usize, groups: &[usize], to: &Target<'_>) -> Verdict {
        let found = &self.subnets[subnet];
        let within = self.inside.iter().find(|inside| names(&inside.host, to.host));
        let service = found.services.iter().any(|service| names(service, to.host));
        let address = within.map_or(to.address, |within| within.address);
        let lets = |rule: &Rule| {
            (rule.ports.0..=rule.ports.1).contains(&to.port)
                && match &rule.peer {
                    RulePeer::Range(range) => range.contains(address),
                    RulePeer::Group(name) => within.is_some_and(|within| within.groups.contains(name)),
                    RulePeer::Services => service,
                }
        };
        if !groups.iter().any(|group| self.groups[*group].rules.iter().any(lets)) {
            let names: Vec<&str> = groups.iter().map(|group| &*self.groups[*group].name).collect();
            return Verdict::Barred(LimitId::NoRule, names.join("+"));
        }
        if let Some(database) = within.and_then(|within| within.database) {
            return Verdict::Database(database);
        }
        if let Some(proxy) = within.and_then(|within| within.proxy) {
            return Verdict::Proxy(proxy);
        }
        if within.is_some() || service {
            return Verdict::Inside;
        }
        // The first of equals stays; AWS refuses two routes for one range.
        let fits = found.routes.iter().filter(|(range, _)| range.contains(address));
        let best = fits.reduce(|best, next| if next.0.prefix() > best.0.prefix() { next } else { best });
        match best {
            Some((_, Hop::Inside)) => Verdict::Inside,
            Some((_, Hop::Nat(gateway))) => Verdict::Nat(*gateway),
            Some((_, Hop::InternetGateway(name))) => {
                let who =
                    format!("{} (its route leads to {name}, which drops what functions send)", found.name);
                Verdict::Barred(LimitId::NoRoute, who)
            }
            None => Verdict::Barred(LimitId::NoRoute, found.name.clone()),
        }
    }

    /// Makes the engines: one interface for each subnet and set of security groups, shared by the functions.
    pub fn wire(&self, settings: NetworkSettings) -> Wired {
        let belong_to_environments = settings.environment_interfaces.is_some();
        let (room, places) = self.room(settings.quotas.clone());
        let mut engine = Connections::new(settings).within(room);
        let gateways = self.gateways.iter();
        let gateways =
            gateways.map(|gateway| engine.add_gateway(gateway.name.as_str().into(), gateway.addresses));
        let gateways = gateways.collect();
        let databases = self.databases.iter().map(|database| {
            let Database { name, connections, source, .. } = database;
            Some(engine.add_database(name.as_str().into(), (*connections)?, (*source).into()))
        });
        let databases: Vec<Option<DatabaseId>> = databases.collect();
        let proxies = self.proxies.iter().map(|proxy| {
            let settings = self.pool_settings(proxy, engine.settings())?;
            let database = databases[proxy.database?]?;
            Some(engine.add_proxy(proxy.name.as_str().into(), database, settings))
        });
        let proxies = proxies.collect();
        let mut shared: BTreeMap<(usize, Vec<usize>), (InterfaceId, Option<Refusal>)> = BTreeMap::new();
        let mut undeployed = Vec::new();
        let interfaces = self.placements.iter().map(|placement| {
            undeployed.push(None);
            let Some(Placement { subnets, groups }) = placement else { return Vec::new() };
            let ids = subnets.iter().map(|subnet| {
                let (id, refused) = shared.entry((*subnet, groups.clone())).or_insert_with(|| {
                    let name = self.interface_name(*subnet, groups);
                    if belong_to_environments {
                        return (engine.add_interface(name), None);
                    }
                    engine.create_interface(Instant::START, name, places[*subnet], Duration::ZERO)
                });
                if let (Some(failed), Some(refusal)) = (undeployed.last_mut(), &*refused) {
                    *failed = Some(refusal.clone());
                }
                *id
            });
            ids.collect()
        });
        let interfaces = interfaces.collect();
        Wired { connections: engine, interfaces, undeployed, gateways, databases, proxies }
    }

    fn interface_name(&self, subnet: usize, groups: &[usize]) -> Arc<str> {
        let groups: Vec<&str> = groups.iter().map(|group| &*self.groups[*group].name).collect();
        format!("eni-{}-{}", self.subnets[subnet].name, groups.join("+")).into()
    }

    /// The way of a function's connections from the `choice`th of its subnets.
    pub fn way(&self, wired: &mut Wired, function: usize, choice: usize, to: &Target<'_>) -> Way {
        let Some(Some(placement)) = self.placements.get(function) else {
            let is_database = |inside: &&Inside| inside.database.is_some() || inside.proxy.is_some();
            let database = self.inside.iter().filter(is_database).find(|inside| inside.host == to.host);
            return match database {
                Some(_) => wired.connections.barred(
                    LimitId::NoRoute,
                    "a function without a VPC",
                    &format!("{}:{}", to.host, to.port),
                ),
                None => Way::Free,
            };
        };
        let interface = wired.interfaces[function][choice];
        match self.verdict(placement.subnets[choice], &placement.groups, to) {
            Verdict::Inside => Way::Interface(interface),
            Verdict::Database(index) => match wired.databases[index] {
                Some(database) => Way::Database(interface, database),
                None => Way::Interface(interface),
            },
            Verdict::Proxy(index) => match wired.proxies[index] {
                Some(login) => Way::Proxy(interface, login),
                None => Way::Interface(interface),
            },
            Verdict::Nat(gateway) => {
                let (address, port) = (IpAddr::V4(to.address), to.port);
                let destination = NatDestination { address, port, protocol: Protocol::Tcp };
                wired.connections.through(interface, wired.gateways[gateway], destination)
            }
            Verdict::Barred(limit, resource) => {
                let destination = format!("{}:{}", to.host, to.port);
                wired.connections.barred(limit, &resource, &destination)
            }
        }
    }
}

impl Rule {
    /// Every port of everyone.
    pub const fn everything() -> Self {
        Self { ports: (0, u16::MAX), peer: RulePeer::Range(Cidr::ANY) }
    }
}

/// Whether a pattern (a name, or a dot and the end of names) means the host.
fn names(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('.') {
        Some(_) => host.len() > pattern.len() && host.ends_with(pattern),
        None => pattern == host,
    }
}

fn gateway(gateway: &NatGateway) -> Gateway {
    let listed = u16::try_from(gateway.addresses.len()).unwrap_or(u16::MAX);
    let addresses = match (gateway.regional, gateway.public) {
        (true, _) if listed == 0 => REGIONAL_ADDRESSES,
        (_, true) => listed.max(1),
        (_, false) => {
            u16::try_from(gateway.secondary_private_addresses).unwrap_or(u16::MAX).saturating_add(1)
        }
    };
    Gateway { name: gateway.id.clone(), addresses }
}

fn rules(group: &SecurityGroup) -> Vec<Rule> {
    let rules = group.egress.iter().filter_map(|rule| {
        let ports = match rule.protocol {
            TransportProtocol::All => (0, u16::MAX),
            TransportProtocol::Tcp if rule.from_port < 0 => (0, u16::MAX),
            TransportProtocol::Tcp => {
                (u16::try_from(rule.from_port).ok()?, u16::try_from(rule.to_port).ok()?)
            }
            _ => return None,
        };
        let peer = match &rule.peer {
            Peer::Ipv4(range) => RulePeer::Range(*range),
            Peer::SecurityGroup(link) => RulePeer::Group(link.as_str().to_owned()),
            Peer::PrefixList(_) => RulePeer::Services,
            Peer::Ipv6(_) => return None,
        };
        Some(Rule { ports, peer })
    });
    rules.collect()
}

/// Databases, proxies and interface endpoints.
fn inside(stack: &Stack) -> Vec<Inside> {
    let somewhere = |vpc: Option<&Link>| {
        let vpc = vpc.and_then(Link::logical);
        let found = stack.vpcs.iter().find(|found| vpc.is_none_or(|id| found.id == id));
        found.map_or(Ipv4Addr::UNSPECIFIED, |found| found.cidr.first())
    };
    let names = |groups: &[Link]| groups.iter().map(|group| group.as_str().to_owned()).collect();
    let mut found = Vec::new();
    let mut add =
        |hosts: Vec<String>, groups: &[Link], vpc: Option<&Link>, is: (Option<usize>, Option<usize>)| {
            let address = somewhere(vpc);
            let entry = |host| Inside { host, groups: names(groups), address, database: is.0, proxy: is.1 };
            found.extend(hosts.into_iter().map(entry));
        };
    for (index, found) in stack.db_instances.iter().enumerate() {
        add(vec![found.id.clone(), found.address.clone()], &found.security_groups, None, (Some(index), None));
    }
    for (index, proxy) in stack.db_proxies.iter().enumerate() {
        let hosts = vec![proxy.id.clone(), proxy.endpoint.clone()];
        add(hosts, &proxy.security_groups, None, (None, Some(index)));
    }
    for endpoint in stack.vpc_endpoints.iter().filter(|found| found.kind == EndpointKind::Interface) {
        // vpce-ID-SUFFIX.SERVICE.REGION.vpce.amazonaws.com, by its id here.
        let mut hosts = vec![endpoint.id.clone(), endpoint.vpc_endpoint_id.clone()];
        if endpoint.private_dns {
            hosts.extend(service_hosts(&endpoint.service_name));
        }
        add(hosts, &endpoint.security_groups, Some(&endpoint.vpc), (None, None));
    }
    found
}

/// The usual host names of `com.amazonaws.REGION.SERVICE`: SERVICE.REGION.amazonaws.com, and all below it.
fn service_hosts(service_name: &str) -> Vec<String> {
    let mut parts = service_name.splitn(4, '.').skip(2);
    let (Some(region), Some(service)) = (parts.next(), parts.next()) else { return Vec::new() };
    // `ecr.api` answers as api.ecr.REGION.
    let service: Vec<&str> = service.rsplit('.').collect();
    let host = format!("{}.{region}.amazonaws.com", service.join("."));
    vec![format!(".{host}"), host]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    fn to(host: &str, port: u16) -> Target<'_> {
        Target { host, address: host.parse().unwrap_or(PUBLIC), port }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let mut network = Network::simple(1, 1, 1);
        network.subnets[0].routes.extend([
            ("10.0.0.0/16".parse().unwrap(), Hop::Inside),
            ("198.51.100.0/24".parse().unwrap(), Hop::InternetGateway("Igw".into())),
        ]);
        let verdict = |host: &str| network.verdict(0, &[0], &to(host, 443));
        assert_eq!(verdict("cache.example.com"), Verdict::Nat(0));
        assert_eq!(verdict("10.0.200.9"), Verdict::Inside);
        let Verdict::Barred(LimitId::NoRoute, who) = verdict("198.51.100.7") else {
            panic!("an internet gateway drops it")
        };
        assert!(who.contains("Igw"));
        network.subnets[0].routes.clear();
        let nowhere = Verdict::Barred(LimitId::NoRoute, "Subnet1".into());
        assert_eq!(network.verdict(0, &[0], &to("cache.example.com", 443)), nowhere);
    }

    #[test]
    fn endpoints_stand_before_routes() {
        let mut network = Network::simple(1, 1, 1);
        network.subnets[0].services = service_hosts("com.amazonaws.us-east-1.s3");
        let address = Ipv4Addr::new(10, 0, 0, 0);
        network.inside = service_hosts("com.amazonaws.us-east-1.ssm")
            .into_iter()
            .map(|host| Inside { host, groups: vec!["Ends".into()], address, database: None, proxy: None })
            .collect();
        let verdict = |host: &str| network.verdict(0, &[0], &to(host, 443));
        for host in
            ["s3.us-east-1.amazonaws.com", "carts.s3.us-east-1.amazonaws.com", "ssm.us-east-1.amazonaws.com"]
        {
            assert_eq!(verdict(host), Verdict::Inside, "{host}");
        }
        assert_eq!(verdict("dynamodb.us-east-1.amazonaws.com"), Verdict::Nat(0));
        assert_eq!(service_hosts("com.amazonaws.us-east-1.ecr.api")[1], "api.ecr.us-east-1.amazonaws.com");
        assert!(service_hosts("nonsense").is_empty());
        network.groups[0].rules = vec![Rule { ports: (443, 443), peer: RulePeer::Group("Ends".into()) }];
        assert_eq!(network.verdict(0, &[0], &to("ssm.us-east-1.amazonaws.com", 443)), Verdict::Inside);
        let barred = Verdict::Barred(LimitId::NoRule, "Group".into());
        assert_eq!(network.verdict(0, &[0], &to("s3.us-east-1.amazonaws.com", 443)), barred);
    }

    #[test]
    fn a_port_without_a_rule_is_barred() {
        let mut network = Network::simple(1, 1, 1);
        network.groups[0].rules = vec![Rule { ports: (443, 443), peer: RulePeer::Range(Cidr::ANY) }];
        assert_eq!(network.verdict(0, &[0], &to("a.example", 443)), Verdict::Nat(0));
        let barred = Verdict::Barred(LimitId::NoRule, "Group".into());
        assert_eq!(network.verdict(0, &[0], &to("a.example", 6379)), barred);
        network.groups.push(Group { name: "Wide".into(), rules: vec![Rule::everything()] });
        assert_eq!(network.verdict(0, &[0, 1], &to("a.example", 6379)), Verdict::Nat(0), "a union of groups");
    }

    #[test]
    fn a_function_whose_interfaces_find_no_room_is_not_deployed() {
        let mut network = Network::simple(2, 2, 1);
        network.placements[1] = Some(Placement { subnets: vec![1], groups: vec![0] });
        let mut given = model::Overrides::default();
        given.read("eni.per-vpc=1").unwrap();
        let era = model::Era::named("today").unwrap();
        let wired = network.wire(NetworkSettings::from_era(&era, "us-east-1", &given).unwrap());
        let refused: Vec<_> = wired.undeployed.iter().flatten().map(|refusal| refusal.limit).collect();
        assert_eq!((refused, wired.connections.interfaces()), (vec![LimitId::EniPerVpc; 2], Some(1)));
    }

    #[test]
    fn functions_share_the_interface_of_a_subnet_and_its_groups() {
        let mut network = Network::simple(3, 2, 1);
        network.groups.push(Group { name: "Other".into(), rules: vec![Rule::everything()] });
        network.placements[1] = Some(Placement { subnets: vec![1], groups: vec![0] });
        network.placements[2] = Some(Placement { subnets: vec![1], groups: vec![0, 1] });
        let settings = NetworkSettings::from_era(
            &model::Era::named("today").unwrap(),
            "us-east-1",
            &model::Overrides::default(),
        );
        let mut wired = network.wire(settings.unwrap());
        assert_eq!(wired.interfaces[0][1], wired.interfaces[1][0]);
        assert_ne!(wired.interfaces[1][0], wired.interfaces[2][0]);
        assert_eq!(wired.connections.interfaces(), Some(3));
        let names: Vec<String> = wired.connections.counts().map(|(name, _)| name.to_string()).collect();
        assert_eq!(
            names,
            ["eni-Subnet1-Group", "eni-Subnet2-Group", "eni-Subnet2-Group+Other", "NatGateway"]
        );
        assert_eq!(network.way(&mut wired, 9, 0, &to("a.example", 443)), Way::Free, "no VPC");
        assert!(matches!(network.way(&mut wired, 0, 0, &to("a.example", 443)), Way::Nat(..)));
    }
}
