//! What has an address in a stack's VPCs, put into its subnets.

use super::super::names::service_hosts;
use super::super::{Host, HostKind, Network};
use model::stack::{EndpointKind, Link, Stack};
use std::net::{IpAddr, Ipv4Addr};

/// Where gateways have addresses that the template does not give, behind those of its elastic IPs.
const MADE_UP: u32 = u32::from_be_bytes([198, 18, 128, 1]);

impl Network {
    /// Gives places and addresses to the NAT gateways from the `first` on.
    pub(super) fn stand_gateways(&mut self, stack: &Stack, first: usize) {
        for index in first..self.gateways.len() {
            let name = self.gateways[index].name.clone();
            let found = stack.nat_gateways.iter().find(|nat| nat.id == name);
            // What stood before and is of no template, or of that one no more, stays where it is.
            if found.is_none() && !self.gateways[index].external.is_empty() {
                continue;
            }
            let subnet = found.and_then(|nat| stack.subnet(nat.subnet.as_ref()?.logical()?));
            let subnet = subnet.and_then(|subnet| self.subnets.iter().position(|one| one.name == subnet.id));
            let wanted = usize::from(self.gateways[index].addresses);
            // In its subnet it has an address for each of its public ones.
            let mut own: Vec<IpAddr> = Vec::new();
            while let Some(subnet) = subnet.filter(|_| own.len() < wanted) {
                let Some((address, _)) = self.next_address(subnet, &format!("nat {name} {}", own.len()))
                else {
                    break;
                };
                own.push(address.into());
            }
            let listed = found.iter().flat_map(|nat| &nat.addresses).map(|link| {
                let known = stack.elastic_ips.iter().find(|ip| Some(&*ip.id) == link.logical());
                known.map(|ip| IpAddr::V4(ip.public_ip))
            });
            let mut external: Vec<IpAddr> = if self.gateways[index].public {
                listed.flatten().take(wanted).collect()
            } else {
                own.clone()
            };
            let mut made_up = self.made_up_before(index).into_iter();
            while external.len() < wanted {
                let address = made_up.next().unwrap_or_else(|| {
                    self.made_up += 1;
                    Ipv4Addr::from(MADE_UP.wrapping_add(self.made_up - 1)).into()
                });
                external.push(address);
            }
            let has_table = subnet.is_some_and(|subnet| self.subnets[subnet].table.is_some());
            let gateway = &mut self.gateways[index];
            gateway.take_addresses(external);
            gateway.address = own.first().copied();
            gateway.subnet = subnet.filter(|_| has_table);
        }
    }

    /// The addresses that a gateway had which no template gave it.
    fn made_up_before(&self, gateway: usize) -> Vec<IpAddr> {
        let is_made_up = |address: &&IpAddr| matches!(address, IpAddr::V4(four) if u32::from(*four) >= MADE_UP && four.octets()[0] == 198);
        self.gateways[gateway].external.iter().filter(is_made_up).copied().collect()
    }

    pub(super) fn add_hosts(&mut self, stack: &Stack) {
        for found in &stack.db_instances {
            let Some(index) = self.database_named(&found.id) else { continue };
            let group = found.subnet_group.as_ref().and_then(Link::logical);
            let group = stack.db_subnet_groups.iter().find(|one| Some(&*one.id) == group);
            let subnets: Vec<Link> = group.iter().flat_map(|group| group.subnets.first().cloned()).collect();
            let mut draft = Draft::new(&found.id, &found.address, HostKind::Database(index));
            draft.public = found.publicly_accessible;
            if let Some(part) = &found.cluster {
                draft.names.extend(part.names.iter().map(|name| name.to_ascii_lowercase()));
                // By its logical id, too: what is said of the cluster is meant for its writer.
                draft.names.extend(part.writer.then(|| part.id.clone()));
            }
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
        self.add_caches(stack);
    }

    /// Caches: one address each, in the first of its subnets.
    fn add_caches(&mut self, stack: &Stack) {
        for (index, cache) in stack.caches.iter().enumerate() {
            let Some((first, others)) = cache.names.split_first() else { continue };
            let mut draft = Draft::new(&cache.id, first, HostKind::Cache(index));
            draft.names.extend(others.iter().map(|name| name.to_ascii_lowercase()));
            let subnets: Vec<Link> = cache.subnets.first().cloned().into_iter().collect();
            self.stand(stack, &subnets, &cache.security_groups, &draft);
        }
    }

    /// An address at the end of a VPC's range, for what is in none of its subnets that are known.
    fn last_address(&self, vpc: usize) -> Ipv4Addr {
        let there = self.hosts.iter().filter(|host| host.vpc == vpc).count() as u32;
        let last = self.vpcs[vpc].ranges.first().map_or(u32::MAX, |range| u32::from(range.last()));
        let mut address = last.saturating_sub(there + 1);
        while self.hosts.iter().any(|host| u32::from(host.address) == address) {
            address = address.saturating_sub(1);
        }
        address.into()
    }

    /// Gives something an address in each of its subnets.
    fn stand(&mut self, stack: &Stack, subnets: &[Link], groups: &[Link], draft: &Draft) {
        let own = self.group_set(stack, groups);
        let found: Vec<usize> = subnets.iter().map(|link| self.subnet(stack, link)).collect();
        if found.is_empty() {
            // Somewhere: in its groups' VPC, else where the first function is, else in the first VPC.
            let group = groups.first().and_then(|link| stack.security_group(link.logical()?));
            let known = draft.vpc.clone().or_else(|| group.and_then(|group| group.vpc.clone()));
            let first = || self.subnets.first().map(|subnet| subnet.vpc);
            let vpc = match known {
                Some(link) => self.vpc(&link),
                None => match first() {
                    Some(vpc) => vpc,
                    None if self.vpcs.is_empty() => self.vpc(&Link::Literal(super::VPC_ELSEWHERE.to_owned())),
                    None => 0,
                },
            };
            let subnet = self.subnets.iter().position(|subnet| subnet.vpc == vpc);
            let owner = format!("host {}", draft.name);
            let address =
                subnet.and_then(|subnet| self.next_address(subnet, &owner)).map(|(address, _)| address);
            let address = address.unwrap_or_else(|| self.last_address(vpc));
            let guessed = draft.host(address, vpc, subnet, own);
            self.hosts.push(Host { placed: false, ..guessed });
            return;
        }
        for subnet in found {
            let Some((address, _)) = self.next_address(subnet, &format!("host {}", draft.name)) else {
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
    public: bool,
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
            public: false,
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
            placed: true,
            public: self.public,
            what: self.what,
        }
    }
}
