//! The ways out of a stack's subnets: which interface, which NAT gateway, or why none.
//!
//! [`Network::path`] says which way one packet takes, and [`Network::wire`] makes the engines that count connections on
//! it. Dropped connects get no answer at all.

mod build;
mod databases;
mod explain;
mod hosts;
mod names;
pub mod nat64;
mod path;
mod renew;
mod rules;
mod seen;
mod space;
mod wire;

pub use build::VPC_ELSEWHERE;
pub use databases::{Database, Proxy};
pub use explain::{Explanation, Step, StepKind};
pub use hosts::{Host, HostKind, Interface};
pub use names::{Zone, means, range_of, service_address, service_of};
pub use path::{EPHEMERAL, FlowKey, Path, WITHOUT_VPC};
pub use renew::TooMuchGone;
pub use rules::{Acl, AclEntry, Group, ICMP, ICMPV6, Rule, RulePeer, TCP, Traffic, UDP};
pub use seen::{Heard, InterfaceOf, InterfacePlace};
pub use space::{Attachments, Space};
pub use wire::Wired;

use model::LimitId;
use model::stack::{AnyCidr, Cidr, Cidr6};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

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
    /// Those of them whose functions are gone.
    left: BTreeSet<usize>,
    /// Shared interfaces, by subnet and groups, whose addresses nobody else gets though no function may have them.
    held: BTreeSet<(usize, Vec<usize>)>,
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
    /// Addresses that single names of AWS's services have for themselves, as those of attached servers, with the service: what
    /// leads to the service leads there, too.
    pub service_names: BTreeMap<IpAddr, String>,
    /// What was assumed of things outside the template.
    pub notes: Vec<Note>,
    /// How many addresses were made up for gateways.
    made_up: u32,
    /// While it is read again: what was there before.
    renewal: Option<Box<renew::Renewal>>,
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
    /// `EnableDns64`: names without IPv6 have addresses of 64:ff9b::/96 here.
    pub dns64: bool,
    /// Index of its network ACL; without, everything passes.
    pub acl: Option<usize>,
    /// It is, or was, of the template.
    pub listed: bool,
    /// It is of the template no more; who is in it keeps its ways.
    pub gone: bool,
    /// Behind which of its addresses nobody was looked for one yet.
    given: u64,
    /// Who has which of its addresses, counted from the first.
    holders: BTreeMap<String, u64>,
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

/// Most addresses of a NAT gateway that stands in one subnet.
const ZONAL_ADDRESSES_MAX: u16 = 8;

/// A NAT gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// How many addresses it has.
    pub addresses: u16,
    /// These addresses: elastic IPs, or those of its subnet where it is private; made up where the template says nothing. Those
    /// that it lost stay in their places.
    pub external: Vec<IpAddr>,
    /// Places in `external` of addresses that take no new connections.
    pub withdrawn: BTreeSet<u16>,
    /// Whether it leads to the internet.
    pub public: bool,
    /// Its (first) address in its subnet.
    pub address: Option<IpAddr>,
    /// Index of its subnet, where that has a route table of the template's.
    pub subnet: Option<usize>,
    /// It is, or was, of the template.
    pub listed: bool,
    /// It is of the template no more; what goes through it may end.
    pub gone: bool,
}

impl Gateway {
    /// Whether AWS has to be asked for so many addresses: the quota is of elastic IPs of a public gateway. Private ones have
    /// eight without it, and those that have more are regional and take theirs as they need them.
    ///
    /// Source: VPC User Guide, "Amazon VPC quotas" (Elastic IP addresses per public NAT gateway); published.
    pub fn is_beyond(&self, quota: u32) -> bool {
        self.public && u32::from(self.addresses) > quota && self.addresses <= ZONAL_ADDRESSES_MAX
    }
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
    /// Through the NAT gateway with this index, to the host with that index where one counts the connections.
    Nat(usize, Option<usize>),
    /// Through the interface to the database with this index.
    Database(usize),
    /// Through the interface to the database proxy with this index.
    Proxy(usize),
    /// Nowhere, by this limit of this resource.
    Barred(LimitId, String),
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

    /// Whether a function's `choice`th subnet has `EnableDns64`.
    pub fn has_dns64(&self, function: usize, choice: usize) -> bool {
        let placement = self.placements.get(function).and_then(Option::as_ref);
        let subnet = placement.and_then(|placement| self.subnets.get(*placement.subnets.get(choice)?));
        subnet.is_some_and(|subnet| subnet.dns64)
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
                HostKind::Endpoint(_) | HostKind::LoadBalancer(_) | HostKind::Cache(_) => Verdict::Inside,
            },
            Path::Nothing | Path::World | Path::Service(_) | Path::Egress(_) => Verdict::Inside,
            Path::Nat(gateway) => Verdict::Nat(gateway, self.end_behind(gateway, address)),
            Path::Barred(limit, resource) => Verdict::Barred(limit, resource),
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

impl Vpc {
    /// Whether an address is of its ranges.
    pub fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ranges.iter().any(|range| range.contains(address)),
            IpAddr::V6(address) => self.ranges6.iter().any(|range| range.contains(address)),
        }
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
mod tests;
