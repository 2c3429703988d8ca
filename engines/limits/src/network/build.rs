//! From a stack to its network.

mod hosts;

use super::names::{Zone, service_hosts, service_short};
use super::renew::Kind;
use super::{
    Acl, AclEntry, Database, Endpoint, Gateway, Group, Hop, Network, Note, Placement, Prefixes, Proxy, Route,
    Rule, RulePeer, Space, Subnet, To, Vpc,
};
use model::stack::{
    AnyCidr, Cidr, Destination, EndpointKind, Link, NatGateway, Peer, RouteTarget, SecurityGroupRule, Stack,
    VpcConfig,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Addresses that a regional NAT gateway takes in a zone by itself as it needs them.
///
/// Source: VPC User Guide, "Regional NAT gateways": up to 32 in a zone; published.
const REGIONAL_ADDRESSES: u16 = 32;
/// Where subnets from outside the template have their addresses: as those of default VPCs.
const ELSEWHERE: u32 = u32::from_be_bytes([172, 31, 0, 0]);
const ELSEWHERE_VPC: u8 = 16;
const ELSEWHERE_PREFIX: u8 = 20;
/// So many such subnets have ranges of their own.
const ELSEWHERE_MAX: u32 = 16;
/// The VPC of all subnets from outside the template.
pub const VPC_ELSEWHERE: &str = "vpc-elsewhere";

const NOT_HERE: &str = "it is not in the template";

impl Network {
    /// What a stack has of a network.
    pub fn from_stack(stack: &Stack) -> Self {
        Self::default().built(stack)
    }

    /// Reads a stack into a network that is empty, or holds what was there before (see [`Network::renewed`]).
    pub(super) fn built(self, stack: &Stack) -> Self {
        let mut network = self;
        let is_new = !network.is_renewed();
        for found in &stack.nat_gateways {
            network.put_gateway(gateway(found));
        }
        for gateway in
            stack.nat_gateways.iter().filter(|gateway| gateway.regional && gateway.addresses.is_empty())
        {
            network.note(
                &gateway.id,
                format!("{REGIONAL_ADDRESSES} addresses at once"),
                "a regional NAT gateway takes addresses as it needs them; how fast is not published",
            );
        }
        network.add_databases(stack);
        network.add_vpcs(stack);
        for list in stack.prefix_lists.iter().map(prefixes) {
            match network.lists.iter().position(|known| known.name == list.name) {
                Some(index) => network.lists[index] = list,
                None => network.lists.push(list),
            }
        }
        let endpoints = stack.vpc_endpoints.iter().filter(|found| found.kind == EndpointKind::Gateway);
        network.endpoints = endpoints
            .map(|found| Endpoint {
                name: found.id.clone(),
                service: service_short(&found.service_name).to_owned(),
                names: service_hosts(&found.service_name),
            })
            .collect();
        let entries = |acl: &model::stack::NetworkAcl| {
            let mut entries: Vec<AclEntry> = acl.entries.iter().map(AclEntry::of).collect();
            entries.sort_by_key(|entry| entry.number);
            entries
        };
        network.acls = stack
            .network_acls
            .iter()
            .map(|acl| Acl { name: acl.id.clone(), entries: entries(acl) })
            .collect();

        // Of a network that runs already, whoever drives it adds the functions as they come.
        let functions = if is_new { &*stack.functions } else { &[] };
        let placements: Vec<Option<Placement>> = functions
            .iter()
            .map(|function| {
                let config = function.vpc.as_ref().filter(|config| !config.subnets.is_empty())?;
                Some(network.place(stack, config))
            })
            .collect();
        for subnet in &stack.subnets {
            network.subnet(stack, &Link::Logical(subnet.id.clone()));
        }
        for group in &stack.security_groups {
            network.group(stack, &Link::Logical(group.id.clone()));
        }
        network.stand_gateways(stack, 0);
        network.add_hosts(stack);
        network.add_zones(stack);
        for subnet in &mut network.subnets {
            subnet.space.taken = subnet.held_by_others();
        }
        // Whoever comes first keeps its address in a subnet that is full: all are wanted.
        network.placements.extend(placements.iter().cloned());
        for placement in placements.iter().flatten() {
            network.add_interfaces(placement);
        }
        network.finish();
        network
    }

    /// Adds a function that is made later, as `CreateFunction` does, with subnets and groups of the stack or of outside. The
    /// index of its placement; [`Network::wire_function`] then makes its interfaces.
    pub fn add_function(&mut self, stack: &Stack, config: Option<&VpcConfig>) -> usize {
        let gateways = self.gateways.len();
        let placement = config.filter(|config| !config.subnets.is_empty()).map(|config| {
            let placement = self.place(stack, config);
            // A subnet from outside may be the first, and then the gateway that it leads to is new, too.
            self.stand_gateways(stack, gateways);
            self.add_interfaces(&placement);
            placement
        });
        self.placements.push(placement);
        self.placements.len() - 1
    }

    fn add_interfaces(&mut self, placement: &Placement) {
        for subnet in &placement.subnets {
            self.interface(*subnet, &placement.groups);
        }
    }

    fn add_databases(&mut self, stack: &Stack) {
        for database in stack.db_instances.iter().map(|found| Database::of(stack, found)) {
            match self.databases.iter().position(|known| known.name == database.name) {
                Some(index) => self.databases[index] = database,
                None => self.databases.push(database),
            }
        }
        let unknown = self.databases.iter().filter(|found| found.connections.is_none());
        for name in unknown.map(|found| found.name.clone()).collect::<Vec<_>>() {
            self.note(&name, "without a limit of connections".to_owned(), "its class or engine is not known");
        }
        let proxies = stack.db_proxies.iter().map(|found| {
            let proxy = Proxy::of(stack, found);
            let database = proxy.database.and_then(|index| stack.db_instances.get(index));
            let database = database.and_then(|found| self.database_named(&found.id));
            Proxy { database, ..proxy }
        });
        self.proxies = proxies.collect();
        let known =
            |proxy: &&Proxy| proxy.database.is_some_and(|index| self.databases[index].connections.is_some());
        let unknown: Vec<String> =
            self.proxies.iter().filter(|proxy| !known(proxy)).map(|proxy| proxy.name.clone()).collect();
        for name in unknown {
            let why = "the connections of the database behind it are not known";
            self.note(&name, "lets no query wait".to_owned(), why);
        }
    }

    fn add_vpcs(&mut self, stack: &Stack) {
        for vpc in &stack.vpcs {
            let index = self.vpc(&Link::Logical(vpc.id.clone()));
            self.vpcs[index] = Vpc {
                name: vpc.id.clone(),
                ranges: std::iter::once(vpc.cidr).chain(vpc.more_cidrs.iter().copied()).collect(),
                ranges6: vpc.ipv6_cidrs.clone(),
                dns_support: vpc.dns_support,
                dns_hostnames: vpc.dns_hostnames,
            };
        }
    }

    /// The index of a VPC, also of one from outside the template.
    fn vpc(&mut self, link: &Link) -> usize {
        let name = link.as_str();
        if let Some(index) = self.vpcs.iter().position(|vpc| vpc.name == name) {
            return index;
        }
        let vpc = Vpc { name: name.to_owned(), dns_support: true, ..Vpc::default() };
        self.vpcs.push(vpc);
        self.vpcs.len() - 1
    }

    fn place(&mut self, stack: &Stack, config: &VpcConfig) -> Placement {
        let subnets = config.subnets.iter().map(|link| self.subnet(stack, link)).collect();
        let groups = self.group_set(stack, &config.security_groups);
        Placement { subnets, groups, ipv6: config.ipv6 }
    }

    fn group_set(&mut self, stack: &Stack, links: &[Link]) -> Vec<usize> {
        let mut groups: Vec<usize> = links.iter().map(|link| self.group(stack, link)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The index of a subnet, by its logical id or its id.
    fn subnet(&mut self, stack: &Stack, link: &Link) -> usize {
        let name = link.as_str();
        let found = stack.subnets.iter().find(|subnet| match link {
            Link::Logical(id) => subnet.id == *id,
            Link::Literal(id) => subnet.subnet_id == *id,
        });
        let name = found.map_or(name, |found| &found.id);
        if let Some(index) = self.subnets.iter().position(|subnet| subnet.name == name) {
            if let Some(found) = found.filter(|_| self.is_due(Kind::Subnet, index)) {
                self.subnets[index] = self.subnet_of_stack(stack, found);
            }
            return index;
        }
        let subnet = match found {
            Some(found) => self.subnet_of_stack(stack, found),
            None => self.subnet_elsewhere(name),
        };
        self.subnets.push(subnet);
        self.is_due(Kind::Subnet, self.subnets.len() - 1);
        self.subnets.len() - 1
    }

    fn subnet_of_stack(&mut self, stack: &Stack, subnet: &model::stack::Subnet) -> Subnet {
        let vpc = self.vpc(&subnet.vpc);
        if !stack.vpcs.iter().any(|found| found.id == self.vpcs[vpc].name) {
            // Of a VPC from outside nothing is known but what its subnets have.
            let Vpc { ranges, ranges6, .. } = &mut self.vpcs[vpc];
            ranges.extend(Some(subnet.cidr).filter(|range| !ranges.contains(range)));
            ranges6.extend(subnet.ipv6_cidr.filter(|range| !ranges6.contains(range)));
        }
        let local = |range| Route { name: "local".to_owned(), to: To::Range(range), hop: Hop::Inside };
        let found = &self.vpcs[vpc];
        let mut routes: Vec<Route> = if subnet.vpc.logical().is_some() {
            let ranges = found.ranges.iter().copied().map(AnyCidr::Ipv4);
            ranges.chain(found.ranges6.iter().copied().map(AnyCidr::Ipv6)).map(local).collect()
        } else {
            vec![local(AnyCidr::Ipv4(subnet.cidr))]
        };
        let table = stack.route_table_of(&subnet.id);
        if let Some(table) = table {
            routes.extend(stack.routes_of(&table.id).map(|route| self.route_of(stack, vpc, route)));
            let endpoints = stack.vpc_endpoints.iter().filter(|found| found.kind == EndpointKind::Gateway);
            let here = endpoints.enumerate().filter(|(_, endpoint)| {
                endpoint.route_tables.iter().any(|link| link.logical() == Some(&table.id))
            });
            routes.extend(here.map(|(index, endpoint)| Route {
                name: endpoint.id.clone(),
                to: To::Service(service_short(&endpoint.service_name).to_owned()),
                hop: Hop::Service(index),
            }));
        }
        let own = stack.network_acl_associations.iter();
        let own = own.filter(|found| found.subnet.logical() == Some(&subnet.id));
        let own = own.filter_map(|found| found.network_acl.logical()).next_back();
        let default = format!("{}.DefaultNetworkAcl", subnet.vpc.as_str());
        // A VPC's own lets everything through, unless the template adds to it.
        let is_touched =
            |acl: &&model::stack::NetworkAcl| acl.entries.iter().any(|entry| !entry.id.is_empty());
        let decides = stack.network_acls.iter().filter(|acl| acl.id != default || is_touched(acl));
        let name = decides.map(|acl| &*acl.id).find(|id| *id == own.unwrap_or(&default));
        let acl = self.acls.iter().position(|acl| Some(&*acl.name) == name);
        Subnet {
            name: subnet.id.clone(),
            vpc,
            cidr: Some(subnet.cidr),
            cidr6: subnet.ipv6_cidr,
            zone: subnet.availability_zone.clone(),
            table: table.map(|table| table.id.clone()),
            routes,
            dns64: subnet.dns64,
            acl,
            listed: true,
            gone: false,
            given: 0,
            holders: BTreeMap::new(),
            space: Space { vpc: subnet.vpc.as_str().to_owned(), size: Some(subnet.cidr.usable()), taken: 0 },
        }
    }

    fn route_of(&mut self, stack: &Stack, vpc: usize, route: &model::stack::Route) -> Route {
        let to = match &route.destination {
            Destination::Ipv4(range) => To::Range(AnyCidr::Ipv4(*range)),
            Destination::Ipv6(range) => To::Range(AnyCidr::Ipv6(*range)),
            Destination::PrefixList(list) => {
                // A list of AWS's that is not spelt out is nobody's address here.
                To::List(self.list(stack, list).unwrap_or(usize::MAX))
            }
        };
        let by_ipv6 = matches!(to, To::Range(AnyCidr::Ipv6(_)));
        let other = |name: &str, owner: &str| {
            Hop::Blackhole(format!("its route leads to {name}, which belongs to {owner}"))
        };
        let here = self.vpcs[vpc].name.clone();
        let belongs = |owner: Option<&str>| owner.is_none_or(|owner| owner == here);
        let hop = match &route.target {
            RouteTarget::NatGateway(link) => {
                let nat = stack.nat_gateways.iter().find(|nat| Some(&*nat.id) == link.logical());
                let subnet = nat.and_then(|nat| stack.subnet(nat.subnet.as_ref()?.logical()?));
                match subnet.and_then(|subnet| subnet.vpc.logical()).filter(|owner| !belongs(Some(owner))) {
                    Some(owner) => other(link.as_str(), owner),
                    None => Hop::Nat(self.gateway(link)),
                }
            }
            RouteTarget::InternetGateway(link) if link.as_str() == "local" => Hop::Inside,
            RouteTarget::InternetGateway(link) => {
                let gateway = stack.internet_gateways.iter().find(|one| Some(&*one.id) == link.logical());
                match gateway
                    .and_then(|one| one.vpc.as_ref()?.logical())
                    .filter(|owner| !belongs(Some(owner)))
                {
                    Some(owner) => other(link.as_str(), owner),
                    None if by_ipv6 => Hop::Egress(self.egress(link.as_str())),
                    None => Hop::InternetGateway(link.as_str().to_owned()),
                }
            }
            RouteTarget::EgressOnlyInternetGateway(link) => {
                let gateway = stack.egress_only_gateways.iter().find(|one| Some(&*one.id) == link.logical());
                match gateway.and_then(|one| one.vpc.logical()).filter(|owner| !belongs(Some(owner))) {
                    Some(owner) => other(link.as_str(), owner),
                    None => Hop::Egress(self.egress(link.as_str())),
                }
            }
            RouteTarget::VpcPeering(link) => self.peering(stack, &here, link),
            RouteTarget::VpcEndpoint(link)
            | RouteTarget::NetworkInterface(link)
            | RouteTarget::Instance(link)
            | RouteTarget::TransitGateway(link)
            | RouteTarget::OtherGateway(link) => Hop::Elsewhere(link.as_str().to_owned()),
        };
        Route { name: route.id.clone(), to, hop }
    }

    fn peering(&mut self, stack: &Stack, here: &str, link: &Link) -> Hop {
        let name = link.as_str().to_owned();
        let Some(found) = stack.peerings.iter().find(|found| Some(&*found.id) == link.logical()) else {
            return Hop::Elsewhere(name);
        };
        let (asks, other) = (found.vpc.as_str(), found.peer_vpc.as_str());
        let peer = match here {
            _ if here == asks => &found.peer_vpc,
            _ if here == other => &found.vpc,
            _ => {
                return Hop::Blackhole(format!("its route leads to {name}, which joins {asks} and {other}"));
            }
        };
        match stack.vpcs.iter().any(|vpc| Some(&*vpc.id) == peer.logical()) {
            true => Hop::Peer { vpc: self.vpc(peer), name },
            false => Hop::Elsewhere(name),
        }
    }

    /// The index of a prefix list, by its id or its logical id.
    fn list(&self, stack: &Stack, text: &str) -> Option<usize> {
        let found = stack.prefix_lists.iter().find(|found| is_list(found, text))?;
        self.lists.iter().position(|list| list.name == found.id)
    }

    fn egress(&mut self, name: &str) -> usize {
        if let Some(index) = self.egress_gateways.iter().position(|found| found == name) {
            return index;
        }
        self.egress_gateways.push(name.to_owned());
        self.egress_gateways.len() - 1
    }

    fn gateway(&mut self, link: &Link) -> usize {
        let name = link.as_str();
        if let Some(index) = self.gateways.iter().position(|gateway| gateway.name == name) {
            return index;
        }
        self.note(name, "a NAT gateway with one address".to_owned(), NOT_HERE);
        self.gateways.push(Gateway {
            name: name.to_owned(),
            addresses: 1,
            public: true,
            ..Gateway::default()
        });
        self.gateways.len() - 1
    }

    fn subnet_elsewhere(&mut self, name: &str) -> Subnet {
        let gateway = self.gateway(&Link::Literal("nat-elsewhere".to_owned()));
        self.note(name, "its default route leads to nat-elsewhere".to_owned(), NOT_HERE);
        let vpc = self.vpc(&Link::Literal(VPC_ELSEWHERE.to_owned()));
        let number = self.subnets.iter().filter(|subnet| subnet.vpc == vpc).count() as u32;
        let local = Cidr::around(ELSEWHERE.into(), ELSEWHERE_VPC).map(Route::local);
        let first = Ipv4Addr::from(ELSEWHERE + (number << (32 - ELSEWHERE_PREFIX)));
        Subnet {
            name: name.to_owned(),
            vpc,
            cidr: Cidr::around(first, ELSEWHERE_PREFIX).filter(|_| number < ELSEWHERE_MAX),
            routes: local.into_iter().chain([Route::any("nat-elsewhere", Hop::Nat(gateway))]).collect(),
            ..Subnet::default()
        }
    }

    /// The index of a security group, by its logical id or its id.
    fn group(&mut self, stack: &Stack, link: &Link) -> usize {
        let found = stack.security_groups.iter().find(|group| match link {
            Link::Logical(id) => group.id == *id,
            Link::Literal(id) => group.group_id == *id,
        });
        let name = found.map_or(link.as_str(), |found| &found.id);
        let index = match self.groups.iter().position(|group| group.name == name) {
            Some(index) if found.is_none() || !self.is_due(Kind::Group, index) => return index,
            Some(index) => index,
            // First the name, as rules may speak of their own group.
            None => {
                self.groups.push(Group { name: name.to_owned(), ..Group::default() });
                self.is_due(Kind::Group, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        self.groups[index] = match found {
            Some(group) => Group {
                name: group.id.clone(),
                listed: true,
                gone: false,
                egress: group.egress.iter().map(|rule| self.rule(stack, rule)).collect(),
                ingress: group.ingress.iter().map(|rule| self.rule(stack, rule)).collect(),
            },
            None => {
                self.note(name, "it lets everything out".to_owned(), NOT_HERE);
                Group::open(name)
            }
        };
        index
    }

    fn rule(&mut self, stack: &Stack, rule: &SecurityGroupRule) -> Rule {
        let peer = match &rule.peer {
            Peer::Ipv4(range) => RulePeer::Range(*range),
            Peer::Ipv6(range) => RulePeer::Range6(*range),
            Peer::SecurityGroup(link) => RulePeer::Group(self.peer_group(stack, link)),
            Peer::PrefixList(list) => self.list(stack, list).map_or(RulePeer::Services, RulePeer::List),
        };
        Rule::of(rule, peer)
    }

    /// A group that a rule speaks of: of one from outside only its name matters.
    fn peer_group(&mut self, stack: &Stack, link: &Link) -> usize {
        if link.logical().is_some() {
            return self.group(stack, link);
        }
        let name = link.as_str();
        if let Some(index) = self.groups.iter().position(|group| group.name == name) {
            return index;
        }
        self.groups.push(Group::open(name));
        self.groups.len() - 1
    }

    fn add_zones(&mut self, stack: &Stack) {
        let private = stack.hosted_zones.iter().filter(|zone| !zone.vpcs.is_empty());
        let zones: Vec<Zone> = private
            .map(|zone| Zone {
                id: zone.id.clone(),
                name: zone.name.clone(),
                vpcs: zone.vpcs.iter().map(|link| self.vpc(link)).collect(),
                records: zone.records.clone(),
            })
            .collect();
        self.zones = zones;
    }

    fn note(&mut self, what: &str, value: String, why: &'static str) {
        self.notes.push(Note { what: what.to_owned(), value, why });
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
    Gateway {
        name: gateway.id.clone(),
        addresses,
        public: gateway.public,
        listed: true,
        ..Gateway::default()
    }
}

fn prefixes(list: &model::stack::PrefixList) -> Prefixes {
    Prefixes { name: list.id.clone(), entries: list.entries.clone() }
}

fn is_list(list: &model::stack::PrefixList, text: &str) -> bool {
    list.prefix_list_id == text || list.id == text
}
