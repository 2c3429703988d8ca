//! The ways out of a stack's subnets: which interface, which NAT gateway, or why none.
//!
//! [`Network::path`] says which way one packet takes, and [`Network::wire`] makes the engines that count connections on
//! it. Dropped connects get no answer at all.

mod build;
mod databases;
mod explain;
mod hosts;
mod names;
mod path;
mod rules;
mod space;

pub use databases::{Database, Proxy};
pub use explain::{Explanation, Step, StepKind};
pub use hosts::{Host, HostKind, Interface};
pub use names::{Zone, means, service_address, service_of};
pub use path::{EPHEMERAL, FlowKey, Path};
pub use rules::{Acl, AclEntry, Group, ICMP, ICMPV6, Rule, RulePeer, TCP, Traffic, UDP};
pub use space::{Attachments, Space};

use crate::connections::{Connections, Way};
use crate::db_connections::DatabaseId;
use crate::db_pool::LoginId;
use crate::eni::InterfaceId;
use crate::eni_room::SubnetId;
use crate::nat::{Destination as NatDestination, GatewayId, Protocol};
use crate::settings::NetworkSettings;
use model::stack::{AnyCidr, Cidr, Cidr6};
use model::{Instant, LimitId, Refusal};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// What a stack has of a network. Indices are those of the vectors here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// VPCs.
    pub vpcs: Vec<Vpc>,
    /// Subnets with their ways.
    pub subnets: Vec<Subnet>,
    /// NAT gateways.
    pub gateways: Vec<Gateway>,
    /// Gateways by which IPv6 leaves, by name.
    pub egress_gateways: Vec<String>,
    /// Gateway endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Security groups.
    pub groups: Vec<Group>,
    /// Network ACLs.
    pub acls: Vec<Acl>,
    /// Prefix lists.
    pub lists: Vec<Prefixes>,
    /// Of each function, in the stack's order, where it is; none without a VPC. Functions beyond its end have none.
    pub placements: Vec<Option<Placement>>,
    /// The shared interfaces of functions, with their addresses.
    pub interfaces: Vec<Interface>,
    /// What else has an address in a VPC.
    pub hosts: Vec<Host>,
    /// Private zones.
    pub zones: Vec<Zone>,
    /// Database instances.
    pub databases: Vec<Database>,
    /// Database proxies.
    pub proxies: Vec<Proxy>,
    /// What was assumed of things outside the template.
    pub notes: Vec<Note>,
}

/// A VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vpc {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// Its ranges, the primary one first.
    pub ranges: Vec<Cidr>,
    /// Its IPv6 ranges.
    pub ranges6: Vec<Cidr6>,
    /// Whether its resolver answers.
    pub dns_support: bool,
    /// `EnableDnsHostnames`.
    pub dns_hostnames: bool,
}

/// A subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subnet {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// Index of its VPC.
    pub vpc: usize,
    /// Its range, where that is known.
    pub cidr: Option<Cidr>,
    /// Its IPv6 range.
    pub cidr6: Option<Cidr6>,
    /// Its zone.
    pub zone: String,
    /// The route table that decides for it; none where it has its VPC's main one.
    pub table: Option<String>,
    /// Its routes, in any order.
    pub routes: Vec<Route>,
    /// Index of its network ACL; without, everything passes.
    pub acl: Option<usize>,
    /// How many addresses were given out.
    given: u64,
    /// Its addresses and its VPC, as the engines count them.
    pub space: Space,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its logical id; `local` for those of the VPC itself.
    pub name: String,
    /// What it is for.
    pub to: To,
    /// Where it leads.
    pub hop: Hop,
}

/// What a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A range.
    Range(AnyCidr),
    /// The prefix list with this index; one that is not known has nobody's addresses.
    List(usize),
    /// A service of AWS, by a gateway endpoint: `s3`.
    Service(String),
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Into the VPC.
    Inside,
    /// To another network that no limit here stands before.
    Elsewhere(String),
    /// Into another VPC of the template.
    Peer {
        /// Its index.
        vpc: usize,
        /// The peering connection.
        name: String,
    },
    /// Through the NAT gateway with this index.
    Nat(usize),
    /// To an internet gateway, which drops what functions send.
    InternetGateway(String),
    /// By IPv6 through the gateway with this index.
    Egress(usize),
    /// To the gateway endpoint with this index.
    Service(usize),
    /// Nowhere, and why.
    Blackhole(String),
}

/// A NAT gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// How many addresses it has.
    pub addresses: u16,
    /// These addresses: elastic IPs, or those of its subnet where it is private; made up where the template says nothing.
    pub external: Vec<IpAddr>,
    /// Whether it leads to the internet.
    pub public: bool,
    /// Its (first) address in its subnet.
    pub address: Option<IpAddr>,
    /// Index of its subnet, where that has a route table of the template's.
    pub subnet: Option<usize>,
}

/// A gateway endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its logical id.
    pub name: String,
    /// The service: `s3`.
    pub service: String,
    /// The service's names. One that begins with a dot stands for all names that end so.
    pub names: Vec<String>,
}

/// A prefix list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Its logical id.
    pub name: String,
    /// Its ranges.
    pub entries: Vec<AnyCidr>,
}

/// Where a function is: each of its environments in one of the subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Indices of its subnets.
    pub subnets: Vec<usize>,
    /// Indices of its security groups, ascending.
    pub groups: Vec<usize>,
    /// Whether its environments have IPv6 addresses, too.
    pub ipv6: bool,
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
    /// Of each NAT gateway its engine.
    pub gateways: Vec<GatewayId>,
    /// Of each database its engine; none where its connections are not known.
    pub databases: Vec<Option<DatabaseId>>,
    /// Of each proxy the login of its pool; none where the database's connections are not known.
    pub proxies: Vec<Option<LoginId>>,
    shared: BTreeMap<(usize, Vec<usize>), (InterfaceId, Option<Refusal>)>,
    places: Vec<SubnetId>,
}

impl Network {
    /// So many subnets behind one NAT gateway, for all of `functions` functions.
    pub fn simple(functions: usize, subnets: usize, addresses: u16) -> Self {
        let vpc: Cidr = Cidr::around(Ipv4Addr::new(10, 0, 0, 0), 8).expect("a prefix below 33");
        let routes = vec![Route::local(vpc), Route::any("Default", Hop::Nat(0))];
        let subnet = |index: usize| Subnet {
            name: format!("Subnet{}", index + 1),
            cidr: Cidr::around(Ipv4Addr::from(u32::from(vpc.first()).wrapping_add((index as u32) << 16)), 16),
            routes: routes.clone(),
            ..Subnet::default()
        };
        let placement = Placement { subnets: (0..subnets).collect(), groups: vec![0], ipv6: false };
        let external = (1..=u32::from(addresses)).map(|number| Ipv4Addr::from(0xc612_0000 + number).into());
        let mut network = Self {
            vpcs: vec![Vpc {
                name: "Vpc".to_owned(),
                ranges: vec![vpc],
                dns_support: true,
                ..Vpc::default()
            }],
            subnets: (0..subnets).map(subnet).collect(),
            gateways: vec![Gateway {
                name: "NatGateway".to_owned(),
                addresses,
                external: external.collect(),
                public: true,
                ..Gateway::default()
            }],
            groups: vec![Group::open("Group")],
            placements: vec![Some(placement); functions],
            ..Self::default()
        };
        for subnet in 0..subnets {
            network.interface(subnet, &[0]);
        }
        network
    }

    /// Which way a TCP connection takes out of a subnet: [`Network::path`], with names and without packets. What nobody of the
    /// template has the address of is taken to be there.
    pub fn verdict(&self, subnet: usize, groups: &[usize], to: &Target<'_>) -> Verdict {
        let address = self.address_of(subnet, to);
        let flow = FlowKey { protocol: TCP, to: address, port: to.port, from_port: EPHEMERAL };
        match self.path(subnet, groups, &flow) {
            Path::Host(host) => match self.hosts[host].what {
                HostKind::Database(index) => Verdict::Database(index),
                HostKind::Proxy(index) => Verdict::Proxy(index),
                HostKind::Endpoint(_) | HostKind::LoadBalancer(_) => Verdict::Inside,
            },
            Path::Nothing | Path::World | Path::Service(_) | Path::Egress(_) => Verdict::Inside,
            Path::Nat(gateway) => Verdict::Nat(gateway),
            Path::Barred(limit, resource) => Verdict::Barred(limit, resource),
        }
    }

    /// Makes the engines: one interface for each subnet and set of security groups, shared by the functions.
    pub fn wire(&self, settings: NetworkSettings) -> Wired {
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
        let mut wired = Wired {
            connections: engine,
            interfaces: Vec::new(),
            undeployed: Vec::new(),
            gateways,
            databases,
            proxies,
            shared: BTreeMap::new(),
            places,
        };
        for function in 0..self.placements.len() {
            self.wire_function(&mut wired, Instant::START, function);
        }
        wired
    }

    /// Makes the interfaces of the next function, as its deployment does at `now`: as many were wired before it as it has
    /// index.
    pub fn wire_function(&self, wired: &mut Wired, now: Instant, function: usize) {
        debug_assert_eq!(wired.interfaces.len(), function);
        let belong_to_environments = wired.connections.settings().environment_interfaces.is_some();
        let (mut ids, mut undeployed) = (Vec::new(), None);
        if let Some(Some(Placement { subnets, groups, .. })) = self.placements.get(function) {
            for subnet in subnets {
                let Wired { connections, shared, places, .. } = wired;
                let (id, refused) = shared.entry((*subnet, groups.clone())).or_insert_with(|| {
                    let name = self.interface_name(*subnet, groups);
                    match places.get(*subnet) {
                        Some(place) if !belong_to_environments => {
                            connections.create_interface(now, name, *place, Duration::ZERO)
                        }
                        // A subnet that was not known when the others were wired has any number of addresses.
                        _ => (connections.add_interface(name), None),
                    }
                });
                undeployed = refused.clone().or(undeployed);
                ids.push(*id);
            }
        }
        wired.interfaces.push(ids);
        wired.undeployed.push(undeployed);
    }

    /// What the shared interface of a subnet and a set of groups is called on the board: `eni-SUBNET-GROUP+GROUP`.
    pub fn interface_name(&self, subnet: usize, groups: &[usize]) -> Arc<str> {
        let groups: Vec<&str> = groups.iter().map(|group| &*self.groups[*group].name).collect();
        format!("eni-{}-{}", self.subnets[subnet].name, groups.join("+")).into()
    }

    /// The way of a function's connections from the `choice`th of its subnets.
    pub fn way(&self, wired: &mut Wired, function: usize, choice: usize, to: &Target<'_>) -> Way {
        let Some(Some(placement)) = self.placements.get(function) else {
            let is_database = |host: &&Host| matches!(host.what, HostKind::Database(_) | HostKind::Proxy(_));
            let named = |host: &&Host| host.name == to.host || host.names.iter().any(|name| name == to.host);
            let database = self.hosts.iter().filter(is_database).find(named);
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

impl Route {
    /// The route of every route table into its VPC.
    pub fn local(range: Cidr) -> Self {
        Self { name: "local".to_owned(), to: To::Range(AnyCidr::Ipv4(range)), hop: Hop::Inside }
    }

    /// One for all of IPv4.
    pub fn any(name: &str, hop: Hop) -> Self {
        Self { name: name.to_owned(), to: To::Range(AnyCidr::Ipv4(Cidr::ANY)), hop }
    }
}

impl Subnet {
    /// Whether an address is of its range.
    pub fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.cidr.is_some_and(|range| range.contains(address)),
            IpAddr::V6(address) => self.cidr6.is_some_and(|range| range.contains(address)),
        }
    }
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
            Route::local("192.168.0.0/16".parse().unwrap()),
            Route {
                name: String::new(),
                to: To::Range(AnyCidr::Ipv4("198.51.100.0/24".parse().unwrap())),
                hop: Hop::InternetGateway("Igw".into()),
            },
        ]);
        let verdict = |host: &str| network.verdict(0, &[0], &to(host, 443));
        assert_eq!(verdict("cache.example.com"), Verdict::Nat(0));
        assert_eq!(verdict("192.168.200.9"), Verdict::Inside);
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
        let s3 = "com.amazonaws.us-east-1.s3";
        network.endpoints =
            vec![Endpoint { name: "S3".into(), service: "s3".into(), names: names::service_hosts(s3) }];
        let service = To::Service("s3".into());
        network.subnets[0].routes.push(Route { name: "S3".into(), to: service, hop: Hop::Service(0) });
        network.groups.push(Group::open("Ends"));
        network.hosts.push(Host {
            name: "Ssm".into(),
            address: Ipv4Addr::new(10, 0, 0, 9),
            address6: None,
            names: Vec::new(),
            private_names: names::service_hosts("com.amazonaws.us-east-1.ssm"),
            groups: vec![1],
            vpc: 0,
            subnet: Some(0),
            what: HostKind::Endpoint(0),
        });
        let verdict = |network: &Network, host: &str| network.verdict(0, &[0], &to(host, 443));
        for host in
            ["s3.us-east-1.amazonaws.com", "carts.s3.us-east-1.amazonaws.com", "ssm.us-east-1.amazonaws.com"]
        {
            assert_eq!(verdict(&network, host), Verdict::Inside, "{host}");
        }
        assert_eq!(verdict(&network, "dynamodb.us-east-1.amazonaws.com"), Verdict::Nat(0));
        assert_eq!(
            names::service_hosts("com.amazonaws.us-east-1.ecr.api")[1],
            "api.ecr.us-east-1.amazonaws.com"
        );
        assert!(names::service_hosts("nonsense").is_empty());
        network.groups[0].egress =
            vec![Rule { name: String::new(), traffic: Traffic::tcp(443, 443), peer: RulePeer::Group(1) }];
        assert_eq!(verdict(&network, "ssm.us-east-1.amazonaws.com"), Verdict::Inside);
        let barred = Verdict::Barred(LimitId::NoRule, "Group".into());
        assert_eq!(verdict(&network, "s3.us-east-1.amazonaws.com"), barred);
    }

    #[test]
    fn a_port_without_a_rule_is_barred() {
        let mut network = Network::simple(1, 1, 1);
        network.groups[0].egress = vec![Rule { traffic: Traffic::tcp(443, 443), ..Rule::everything() }];
        assert_eq!(network.verdict(0, &[0], &to("a.example", 443)), Verdict::Nat(0));
        let barred = Verdict::Barred(LimitId::NoRule, "Group".into());
        assert_eq!(network.verdict(0, &[0], &to("a.example", 6379)), barred);
        network.groups.push(Group::open("Wide"));
        assert_eq!(network.verdict(0, &[0, 1], &to("a.example", 6379)), Verdict::Nat(0), "a union of groups");
    }

    #[test]
    fn a_function_whose_interfaces_find_no_room_is_not_deployed() {
        let mut network = Network::simple(2, 2, 1);
        network.placements[1] = Some(Placement { subnets: vec![1], groups: vec![0], ipv6: false });
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
        network.groups.push(Group::open("Other"));
        network.placements[1] = Some(Placement { subnets: vec![1], groups: vec![0], ipv6: false });
        network.placements[2] = Some(Placement { subnets: vec![1], groups: vec![0, 1], ipv6: false });
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
