//! From a stack to its network.

use super::names::{Zone, service_hosts, service_short};
use super::{
    Acl, AclEntry, Database, Endpoint, Gateway, Group, Hop, Host, HostKind, Network, Note, Placement,
    Prefixes, Proxy, Route, Rule, RulePeer, Space, Subnet, To, Vpc,
};
use model::stack::{
    AnyCidr, Cidr, Destination, EndpointKind, Link, NatGateway, Peer, RouteTarget, SecurityGroupRule, Stack,
    VpcConfig,
};
use std::net::{IpAddr, Ipv4Addr};

/// Addresses that a regional NAT gateway takes in a zone by itself as it needs them.
///
/// Source: VPC User Guide, "Regional NAT gateways": up to 32 in a zone; published.
const REGIONAL_ADDRESSES: u16 = 32;
/// Where gateways have addresses that the template does not give, behind those of its elastic IPs.
const MADE_UP: u32 = u32::from_be_bytes([198, 18, 128, 1]);
/// Where subnets from outside the template have their addresses: as those of default VPCs.
const ELSEWHERE: u32 = u32::from_be_bytes([172, 31, 0, 0]);
const ELSEWHERE_PREFIX: u8 = 20;
/// So many such subnets have ranges of their own.
const ELSEWHERE_MAX: u32 = 16;

const NOT_HERE: &str = "it is not in the template";

impl Network {
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
        network.add_databases(stack);
        network.add_vpcs(stack);
        network.lists = stack.prefix_lists.iter().map(prefixes).collect();
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

        let mut placements: Vec<Option<Placement>> = stack
            .functions
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
        network.stand_gateways(stack);
        network.add_hosts(stack);
        network.add_zones(stack);
        for subnet in &mut network.subnets {
            subnet.space.taken = subnet.given;
        }
        for placement in placements.iter_mut().flatten() {
            network.add_interfaces(placement);
        }
        network.placements = placements;
        network
    }

    /// Adds a function that is made later, as `CreateFunction` does, with subnets and groups of the stack or of outside. The
    /// index of its placement; [`Network::wire_function`] then makes its interfaces.
    pub fn add_function(&mut self, stack: &Stack, config: Option<&VpcConfig>) -> usize {
        let placement = config.filter(|config| !config.subnets.is_empty()).map(|config| {
            let placement = self.place(stack, config);
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
        self.databases = stack.db_instances.iter().map(|found| Database::of(stack, found)).collect();
        let unknown = self.databases.iter().filter(|found| found.connections.is_none());
        for name in unknown.map(|found| found.name.clone()).collect::<Vec<_>>() {
            self.note(&name, "without a limit of connections".to_owned(), "its class or engine is not known");
        }
        self.proxies = stack.db_proxies.iter().map(|found| Proxy::of(stack, found)).collect();
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
        self.vpcs = stack
            .vpcs
            .iter()
            .map(|vpc| Vpc {
                name: vpc.id.clone(),
                ranges: std::iter::once(vpc.cidr).chain(vpc.more_cidrs.iter().copied()).collect(),
                ranges6: vpc.ipv6_cidrs.clone(),
                dns_support: vpc.dns_support,
                dns_hostnames: vpc.dns_hostnames,
            })
            .collect();
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
            return index;
        }
        let subnet = match found {
            Some(found) => self.subnet_of_stack(stack, found),
            None => self.subnet_elsewhere(name),
        };
        self.subnets.push(subnet);
        self.subnets.len() - 1
    }

    fn subnet_of_stack(&mut self, stack: &Stack, subnet: &model::stack::Subnet) -> Subnet {
        let vpc = self.vpc(&subnet.vpc);
        if !stack.vpcs.iter().any(|found| found.id == self.vpcs[vpc].name) {
            // Of a VPC from outside nothing is known but what its subnets have.
            self.vpcs[vpc].ranges.push(subnet.cidr);
            self.vpcs[vpc].ranges6.extend(subnet.ipv6_cidr);
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
            acl,
            given: 0,
            space: Space { vpc: subnet.vpc.as_str().to_owned(), size: Some(subnet.cidr.usable()), taken: 0 },
        }
    }

    fn route_of(&mut self, stack: &Stack, vpc: usize, route: &model::stack::Route) -> Route {
        let to = match &route.destination {
            Destination::Ipv4(range) => To::Range(AnyCidr::Ipv4(*range)),
            Destination::Ipv6(range) => To::Range(AnyCidr::Ipv6(*range)),
            Destination::PrefixList(list) => {
                let known = stack.prefix_lists.iter().position(|found| is_list(found, list));
                // A list of AWS's that is not spelt out is nobody's address here.
                To::List(known.unwrap_or(usize::MAX))
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
        let vpc = self.vpc(&Link::Literal("vpc-elsewhere".to_owned()));
        let number = self.subnets.iter().filter(|subnet| subnet.vpc == vpc).count() as u32;
        let first = Ipv4Addr::from(ELSEWHERE + (number << (32 - ELSEWHERE_PREFIX)));
        Subnet {
            name: name.to_owned(),
            vpc,
            cidr: Cidr::around(first, ELSEWHERE_PREFIX).filter(|_| number < ELSEWHERE_MAX),
            routes: vec![Route::any("nat-elsewhere", Hop::Nat(gateway))],
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
        if let Some(index) = self.groups.iter().position(|group| group.name == name) {
            return index;
        }
        // First the name, as rules may speak of their own group.
        let index = self.groups.len();
        self.groups.push(Group { name: name.to_owned(), ..Group::default() });
        self.groups[index] = match found {
            Some(group) => Group {
                name: group.id.clone(),
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
            Peer::PrefixList(list) => {
                let known = stack.prefix_lists.iter().position(|found| is_list(found, list));
                known.map_or(RulePeer::Services, RulePeer::List)
            }
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

    /// Gives NAT gateways their places and addresses.
    fn stand_gateways(&mut self, stack: &Stack) {
        let mut made_up = MADE_UP;
        for index in 0..self.gateways.len() {
            let found = stack.nat_gateways.get(index);
            let subnet = found.and_then(|nat| stack.subnet(nat.subnet.as_ref()?.logical()?));
            let subnet = subnet.and_then(|subnet| self.subnets.iter().position(|one| one.name == subnet.id));
            let wanted = usize::from(self.gateways[index].addresses);
            // In its subnet it has an address for each of its public ones.
            let own: Vec<IpAddr> = match subnet {
                Some(subnet) => {
                    (0..wanted).map_while(|_| Some(IpAddr::V4(self.next_address(subnet)?.0))).collect()
                }
                None => Vec::new(),
            };
            let listed = found.iter().flat_map(|nat| &nat.addresses).map(|link| {
                let known = stack.elastic_ips.iter().find(|ip| Some(&*ip.id) == link.logical());
                known.map(|ip| IpAddr::V4(ip.public_ip))
            });
            let mut external: Vec<IpAddr> = if self.gateways[index].public {
                listed.flatten().take(wanted).collect()
            } else {
                own.clone()
            };
            while external.len() < wanted {
                external.push(Ipv4Addr::from(made_up).into());
                made_up += 1;
            }
            let has_table = subnet.is_some_and(|subnet| self.subnets[subnet].table.is_some());
            let gateway = &mut self.gateways[index];
            gateway.external = external;
            gateway.address = own.first().copied();
            gateway.subnet = subnet.filter(|_| has_table);
        }
    }

    fn add_hosts(&mut self, stack: &Stack) {
        for (index, found) in stack.db_instances.iter().enumerate() {
            let group = found.subnet_group.as_ref().and_then(Link::logical);
            let group = stack.db_subnet_groups.iter().find(|one| Some(&*one.id) == group);
            let subnets: Vec<Link> = group.iter().flat_map(|group| group.subnets.first().cloned()).collect();
            let draft = Draft::new(&found.id, &found.address, HostKind::Database(index));
            self.stand(stack, &subnets, &found.security_groups, &draft);
        }
        for (index, proxy) in stack.db_proxies.iter().enumerate() {
            let draft = Draft::new(&proxy.id, &proxy.endpoint, HostKind::Proxy(index));
            self.stand(stack, &proxy.subnets, &proxy.security_groups, &draft);
        }
        for (index, found) in stack.vpc_endpoints.iter().enumerate() {
            if found.kind == EndpointKind::Gateway {
                continue;
            }
            let mut draft = Draft::new(&found.id, &found.dns_name, HostKind::Endpoint(index));
            draft.names.push(found.vpc_endpoint_id.clone());
            draft.zonal = true;
            draft.vpc = Some(found.vpc.clone());
            if found.private_dns {
                draft.private_names = service_hosts(&found.service_name);
            }
            self.stand(stack, &found.subnets, &found.security_groups, &draft);
        }
        for (index, balancer) in stack.load_balancers.iter().enumerate().filter(|(_, found)| found.internal) {
            let mut draft = Draft::new(&balancer.id, &balancer.dns_name, HostKind::LoadBalancer(index));
            // Without groups a network load balancer lets everybody in (ELB User Guide).
            draft.guarded = balancer.kind == model::stack::BalancerKind::Application;
            self.stand(stack, &balancer.subnets, &balancer.security_groups, &draft);
        }
    }

    /// Gives something an address in each of its subnets.
    fn stand(&mut self, stack: &Stack, subnets: &[Link], groups: &[Link], draft: &Draft) {
        let own = self.group_set(stack, groups);
        let found: Vec<usize> = subnets.iter().map(|link| self.subnet(stack, link)).collect();
        if found.is_empty() {
            // Somewhere: in its groups' VPC, else in the only one there is.
            let group = groups.first().and_then(|link| stack.security_group(link.logical()?));
            let vpc = draft.vpc.clone().or_else(|| group.and_then(|group| group.vpc.clone()));
            let vpc = vpc.or_else(|| Some(Link::Logical(stack.vpcs.first()?.id.clone())));
            let vpc = self.vpc(&vpc.unwrap_or_else(|| Link::Literal("vpc-elsewhere".to_owned())));
            let subnet = self.subnets.iter().position(|subnet| subnet.vpc == vpc);
            let address = subnet.and_then(|subnet| self.next_address(subnet));
            let address = address.map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| address);
            self.hosts.push(draft.host(address, vpc, subnet, own));
            return;
        }
        for subnet in found {
            let Some((address, _)) = self.next_address(subnet) else {
                let what = format!("no address in {}", self.subnets[subnet].name);
                self.note(&draft.name, what, "the subnet has no more of them");
                continue;
            };
            let vpc = self.subnets[subnet].vpc;
            let mut groups = own.clone();
            if groups.is_empty() && draft.guarded {
                // Without one of its own, it has its VPC's.
                let id = format!("{}.DefaultSecurityGroup", self.vpcs[vpc].name);
                groups.extend(self.groups.iter().position(|group| group.name == id));
            }
            let mut host = draft.host(address, vpc, Some(subnet), groups);
            if draft.zonal
                && let Some((first, rest)) = draft.names[0].split_once('.')
            {
                host.names.push(format!("{first}-{}.{rest}", self.subnets[subnet].zone));
            }
            self.hosts.push(host);
        }
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

/// A host before it has its addresses.
struct Draft {
    name: String,
    names: Vec<String>,
    private_names: Vec<String>,
    /// It has a name for each zone, too.
    zonal: bool,
    /// Without groups of its own it has its VPC's.
    guarded: bool,
    vpc: Option<Link>,
    what: HostKind,
}

impl Draft {
    fn new(name: &str, host: &str, what: HostKind) -> Self {
        Self {
            name: name.to_owned(),
            names: vec![host.to_ascii_lowercase()],
            private_names: Vec::new(),
            zonal: false,
            guarded: true,
            vpc: None,
            what,
        }
    }

    fn host(&self, address: Ipv4Addr, vpc: usize, subnet: Option<usize>, groups: Vec<usize>) -> Host {
        Host {
            name: self.name.clone(),
            address,
            address6: None,
            names: self.names.clone(),
            private_names: self.private_names.clone(),
            groups,
            vpc,
            subnet,
            what: self.what,
        }
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
    Gateway { name: gateway.id.clone(), addresses, public: gateway.public, ..Gateway::default() }
}

fn prefixes(list: &model::stack::PrefixList) -> Prefixes {
    Prefixes { name: list.id.clone(), entries: list.entries.clone() }
}

fn is_list(list: &model::stack::PrefixList, text: &str) -> bool {
    list.prefix_list_id == text || list.id == text
}
