//! The way of a packet out of a subnet, and who decides about it: security groups, network ACLs, routes.
//!
//! One walk serves everybody who asks: the packet engine ([`Network::path`]), the planner ([`Network::verdict`]) and
//! whoever wants to know why ([`Network::explain`](super::Network::explain)).
//!
//! Sources: VPC User Guide, "Configure route tables" (the longest prefix wins; `local` is always there; a range wins over a
//! prefix list), "Control subnet traffic with network ACLs" (looked at only where a subnet is left or entered, in both
//! directions), "How VPC peering connections work" (no way through to the peer's gateways), AWS Lambda Developer Guide,
//! "Internet access for VPC-connected functions" (an internet gateway drops what a function sends, as its interface never
//! has a public address); published.

use super::rules::{answer_port, within};
use super::{Gateway, Hop, Network, RulePeer, To};
use model::LimitId;
use model::stack::AnyCidr;
use std::net::{IpAddr, Ipv4Addr};

/// The port of a sender whose own is not known: in the middle of those that functions use (1024 to 65535).
pub const EPHEMERAL: u16 = 49_152;

/// Whom a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The IP protocol's number.
    pub protocol: u8,
    /// The destination.
    pub to: IpAddr,
    /// Its port; of ICMP, type << 8 | code.
    pub port: u16,
    /// The port it comes from, behind the first translation; [`EPHEMERAL`] where that is not known.
    pub from_port: u16,
}

/// Which way a packet takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// To the host with this index, through the interface only.
    Host(usize),
    /// To an address of a VPC that nobody has: there is no answer.
    Nothing,
    /// Through the NAT gateway with this index.
    Nat(usize),
    /// By IPv6 through the gateway with this index: an egress-only one, or an internet gateway, which lets IPv6 out just so
    /// (assumed of functions' interfaces).
    Egress(usize),
    /// To another network that no limit here stands before: a transit gateway, a VPN, an instance.
    World,
    /// To a service of AWS through the gateway endpoint with this index.
    Service(usize),
    /// Nowhere, by this limit of this resource. The sender hears nothing.
    Barred(LimitId, String),
}

/// Something that was looked at on the way; indices are the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check<'walk> {
    /// What lets the packet out: a group and the index of its egress rule.
    LetsOut(Option<(usize, usize)>),
    /// A subnet's ACL.
    Acl { subnet: usize, egress: bool, answer: bool, other: IpAddr, port: u16, allows: bool },
    /// A subnet's route, by its index.
    Route { subnet: usize, route: Option<usize>, towards: IpAddr },
    /// The NAT gateway through which it goes.
    Nat(usize),
    /// What lets the packet in: a group and the index of its ingress rule. A host without groups takes everything. Behind a
    /// NAT gateway (by its index) that is who asks.
    LetsIn { host: usize, rule: Option<(usize, usize)>, gateway: Option<usize> },
    /// The end.
    End(&'walk Path),
}

impl Network {
    /// Which way a packet takes out of a subnet with these security groups. O(rules + hosts).
    pub fn path(&self, subnet: usize, groups: &[usize], flow: &FlowKey) -> Path {
        self.walk(subnet, groups, flow, &mut |_| {})
    }

    pub(super) fn walk(
        &self,
        subnet: usize,
        groups: &[usize],
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Path {
        let path = self.decide(subnet, groups, flow, see).unwrap_or_else(|barred| barred);
        see(&Check::End(&path));
        path
    }

    fn decide(
        &self,
        subnet: usize,
        groups: &[usize],
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<Path, Path> {
        let (place, to) = (&self.subnets[subnet], flow.to);
        let route = self.route(subnet, to);
        let hop = route.map(|index| &place.routes[index].hop);
        // Whose address it is, where it is one of a VPC that the route leads to.
        let vpc = match hop {
            Some(Hop::Inside) => Some(place.vpc),
            Some(Hop::Peer { vpc, .. }) => Some(*vpc),
            _ => None,
        };
        let host = vpc.and_then(|vpc| self.host_at(vpc, to));
        let far = host.and_then(|host| self.hosts[host].subnet).or_else(|| self.subnet_at(vpc?, to));

        self.leave(groups, flow, host, see)?;
        let crosses = far != Some(subnet);
        if crosses {
            self.acl(subnet, true, false, to, flow.protocol, flow.port, see)?;
        }
        see(&Check::Route { subnet, route, towards: to });
        let source = self.source(subnet, groups, to);
        let path = match hop {
            None => return Err(Path::Barred(LimitId::NoRoute, place.name.clone())),
            Some(Hop::Inside | Hop::Peer { .. }) => {
                if let Some(Hop::Peer { vpc, name }) = hop {
                    if !self.vpcs[*vpc].holds(to) {
                        let who = format!(
                            "{} (its route leads to {name}, and {to} is no address of {}: peering is not transitive)",
                            place.name, self.vpcs[*vpc].name
                        );
                        return Err(Path::Barred(LimitId::NoRoute, who));
                    }
                    self.way_back(far, *vpc, place.vpc, source, see)?;
                }
                if let Some(far) = far.filter(|_| crosses) {
                    self.acl(far, false, false, source, flow.protocol, flow.port, see)?;
                }
                if let Some(host) = host {
                    self.enter(host, groups, source, flow, None, see)?;
                }
                if let Some(far) = far.filter(|_| crosses) {
                    self.acl(far, true, true, source, flow.protocol, answer_port(flow), see)?;
                }
                host.map_or(Path::Nothing, Path::Host)
            }
            Some(Hop::Nat(gateway)) => {
                self.through(*gateway, subnet, source, flow, see)?;
                self.find_behind(*gateway, super::nat64::embedded(to).map_or(to, IpAddr::V4))?;
                self.enter_behind(*gateway, flow, see)?;
                Path::Nat(*gateway)
            }
            Some(Hop::Service(endpoint)) => Path::Service(*endpoint),
            Some(Hop::Egress(gateway)) => Path::Egress(*gateway),
            Some(Hop::Elsewhere(_)) => Path::World,
            Some(Hop::InternetGateway(name)) => {
                let who =
                    format!("{} (its route leads to {name}, which drops what functions send)", place.name);
                return Err(Path::Barred(LimitId::NoRoute, who));
            }
            Some(Hop::Blackhole(why)) => {
                return Err(Path::Barred(LimitId::NoRoute, format!("{} ({why})", place.name)));
            }
        };
        if crosses {
            self.acl(subnet, false, true, to, flow.protocol, answer_port(flow), see)?;
        }
        Ok(path)
    }

    /// The route that decides, as an index: the longest prefix; of equals a range before a list, then the first. AWS refuses
    /// two routes for one range.
    pub(super) fn route(&self, subnet: usize, to: IpAddr) -> Option<usize> {
        let fits = self.subnets[subnet].routes.iter().enumerate().filter_map(|(index, route)| {
            let (prefix, is_list) = self.fit(&route.to, to)?;
            Some((index, (prefix, !is_list)))
        });
        let best = fits.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(index, _)| index)
    }

    /// How closely a destination fits an address, in bits, and whether it is a list.
    fn fit(&self, destination: &To, to: IpAddr) -> Option<(u8, bool)> {
        let bits = |range: &AnyCidr| match range {
            AnyCidr::Ipv4(range) => range.prefix(),
            AnyCidr::Ipv6(range) => range.prefix(),
        };
        match destination {
            To::Range(range) => within(range, to).then(|| (bits(range), false)),
            To::List(list) => {
                let list = self.lists.get(*list)?;
                let fits = list.entries.iter().filter(|range| within(range, to)).map(bits);
                fits.max().map(|bits| (bits, true))
            }
            To::Service(service) => self.is_of_service(to, service).then_some((u32::BITS as u8, true)),
        }
    }

    fn subnet_at(&self, vpc: usize, to: IpAddr) -> Option<usize> {
        self.subnets.iter().position(|subnet| subnet.vpc == vpc && subnet.holds(to))
    }

    /// Who has an address of a VPC.
    pub(super) fn host_at(&self, vpc: usize, to: IpAddr) -> Option<usize> {
        let is = |address: IpAddr, address6: Option<std::net::Ipv6Addr>| {
            address == to || address6.is_some_and(|found| IpAddr::V6(found) == to)
        };
        self.hosts.iter().position(|host| host.vpc == vpc && is(IpAddr::V4(host.address), host.address6))
    }

    /// The address that the other side sees, before any gateway.
    fn source(&self, subnet: usize, groups: &[usize], to: IpAddr) -> IpAddr {
        let interface = self.interfaces.iter().find(|found| found.subnet == subnet && found.groups == groups);
        let place = &self.subnets[subnet];
        if to.is_ipv6() {
            let known = interface.and_then(|found| found.address6);
            return known
                .or_else(|| Some(place.cidr6?.first()))
                .map_or(Ipv4Addr::UNSPECIFIED.into(), IpAddr::V6);
        }
        let known = interface.and_then(|found| found.address);
        known.or_else(|| Some(place.cidr?.first())).unwrap_or(Ipv4Addr::UNSPECIFIED).into()
    }

    fn leave(
        &self,
        groups: &[usize],
        flow: &FlowKey,
        host: Option<usize>,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let members: &[usize] = host.map_or(&[], |host| &self.hosts[host].groups);
        let found = groups.iter().find_map(|group| {
            let rules = self.groups[*group].egress.iter();
            let lets = |rule: &super::Rule| {
                rule.traffic.covers(flow.protocol, flow.port) && self.is_peer(&rule.peer, flow.to, members)
            };
            Some((*group, rules.map(lets).position(|lets| lets)?))
        });
        see(&Check::LetsOut(found));
        if found.is_none() {
            return Err(Path::Barred(LimitId::NoRule, self.group_names(groups)));
        }
        Ok(())
    }

    fn enter(
        &self,
        host: usize,
        from: &[usize],
        source: IpAddr,
        flow: &FlowKey,
        gateway: Option<usize>,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let found = &self.hosts[host];
        let rule = found.groups.iter().find_map(|group| {
            let rules = self.groups[*group].ingress.iter();
            let lets = |rule: &super::Rule| {
                rule.traffic.covers(flow.protocol, flow.port) && self.is_peer(&rule.peer, source, from)
            };
            Some((*group, rules.map(lets).position(|lets| lets)?))
        });
        see(&Check::LetsIn { host, rule, gateway });
        if rule.is_none() && !found.groups.is_empty() {
            let who = format!("{} (what may come to {})", self.group_names(&found.groups), found.name);
            return Err(Path::Barred(LimitId::NoRule, who));
        }
        Ok(())
    }

    /// Whether a rule's peer means an address whose owner is a member of these groups.
    fn is_peer(&self, peer: &RulePeer, address: IpAddr, members: &[usize]) -> bool {
        match (peer, address) {
            (RulePeer::Range(range), IpAddr::V4(address)) => range.contains(address),
            (RulePeer::Range6(range), IpAddr::V6(address)) => range.contains(address),
            (RulePeer::Range(_) | RulePeer::Range6(_), _) => false,
            (RulePeer::Group(group), _) => members.contains(group),
            (RulePeer::List(list), _) => self
                .lists
                .get(*list)
                .is_some_and(|list| list.entries.iter().any(|range| within(range, address))),
            (RulePeer::Services, _) => {
                self.endpoints.iter().any(|endpoint| self.is_of_service(address, &endpoint.service))
            }
        }
    }

    fn is_of_service(&self, address: IpAddr, service: &str) -> bool {
        address == super::names::service_address(service)
            || self.service_names.get(&address).is_some_and(|found| found == service)
    }

    /// Asks the ACL of a subnet; one without lets everything through.
    #[expect(clippy::too_many_arguments, reason = "each is one field of what an entry speaks of")]
    fn acl(
        &self,
        subnet: usize,
        egress: bool,
        answer: bool,
        other: IpAddr,
        protocol: u8,
        port: u16,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let place = &self.subnets[subnet];
        let Some(acl) = place.acl.and_then(|acl| self.acls.get(acl)) else { return Ok(()) };
        let entry = acl.decides(egress, other, protocol, port);
        let allows = entry.is_some_and(|entry| entry.allow);
        see(&Check::Acl { subnet, egress, answer, other, port, allows });
        if allows {
            return Ok(());
        }
        let number = entry.map_or_else(|| "*".to_owned(), |entry| entry.number.to_string());
        let what = match (egress, answer) {
            (true, false) => "what leaves",
            (false, false) => "what enters",
            (true, true) => "answers that leave",
            (false, true) => "answers that enter",
        };
        let who = format!("{} ({what} {}, rule {number})", acl.name, place.name);
        Err(Path::Barred(LimitId::NaclDeny, who))
    }

    /// Over a peering connection the answer needs a route as well.
    fn way_back(
        &self,
        far: Option<usize>,
        vpc: usize,
        home: usize,
        source: IpAddr,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let Some(far) = far else { return Ok(()) };
        debug_assert_eq!(self.subnets[far].vpc, vpc);
        let route = self.route(far, source);
        see(&Check::Route { subnet: far, route, towards: source });
        match route.map(|index| &self.subnets[far].routes[index].hop) {
            Some(Hop::Peer { vpc, .. }) if *vpc == home => Ok(()),
            _ => {
                let who = format!("{} (no route leads its answers back)", self.subnets[far].name);
                Err(Path::Barred(LimitId::NoRoute, who))
            }
        }
    }

    /// Through a NAT gateway: into its subnet and out again, and the answers back.
    fn through(
        &self,
        gateway: usize,
        from: usize,
        source: IpAddr,
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let found = &self.gateways[gateway];
        see(&Check::Nat(gateway));
        let four = super::nat64::embedded(flow.to);
        if flow.to.is_ipv6() && four.is_none() {
            let who = format!("{} (of IPv6 it takes 64:ff9b::/96 alone)", found.name);
            return Err(Path::Barred(LimitId::NoRoute, who));
        }
        // One from outside the template, and a regional one, have their way out.
        let Some(subnet) = found.subnet else { return Ok(()) };
        // Behind it everything is IPv4.
        let behind = match four {
            Some(four) => super::rules::as_ipv4(&FlowKey { to: four.into(), ..*flow }),
            None => *flow,
        };
        let (protocol, to) = (behind.protocol, behind.to);
        let answer = if protocol == super::rules::ICMP { answer_port(&behind) } else { EPHEMERAL };
        let crosses = subnet != from;
        if crosses {
            self.acl(subnet, false, false, source, flow.protocol, flow.port, see)?;
        }
        let route = self.route(subnet, to);
        see(&Check::Route { subnet, route, towards: to });
        let hop = route.map(|index| &self.subnets[subnet].routes[index].hop);
        let why = match (hop, found.public) {
            (Some(Hop::InternetGateway(_)), true) => None,
            (Some(Hop::Inside | Hop::Peer { .. } | Hop::Elsewhere(_) | Hop::Service(_)), _) => None,
            (Some(Hop::InternetGateway(name)), false) => {
                Some(format!("a private NAT gateway, and the route of its subnet leads to {name}"))
            }
            (Some(Hop::Nat(_)), _) => Some("the route of its subnet leads to a NAT gateway".to_owned()),
            (Some(Hop::Blackhole(why)), _) => Some(why.clone()),
            (Some(Hop::Egress(_)) | None, _) => {
                Some(format!("its subnet {} has no route there", self.subnets[subnet].name))
            }
        };
        if let Some(why) = why {
            return Err(Path::Barred(LimitId::NoRoute, format!("{} ({why})", found.name)));
        }
        if !self.subnets[subnet].holds(to) {
            self.acl(subnet, true, false, to, protocol, behind.port, see)?;
            self.acl(subnet, false, true, to, protocol, answer, see)?;
        }
        if crosses {
            self.acl(subnet, true, true, source, flow.protocol, answer_port(flow), see)?;
        }
        Ok(())
    }

    /// What has an address in a VPC is found behind a NAT gateway only where a route leads from there into that VPC.
    fn find_behind(&self, gateway: usize, to: IpAddr) -> Result<(), Path> {
        let found = &self.gateways[gateway];
        if matches!(self.hop_behind(gateway, to), Some((_, Hop::Elsewhere(_)))) {
            return Ok(());
        }
        let vpc = self.vpc_behind(gateway, to);
        match self.owners(to).find(|host| !host.public) {
            Some(host) if !self.owners(to).any(|host| host.public || Some(host.vpc) == vpc) => {
                let who = format!(
                    "{} ({} is in {}, and no route leads there)",
                    found.name, host.name, self.vpcs[host.vpc].name
                );
                Err(Path::Barred(LimitId::NoRoute, who))
            }
            _ => Ok(()),
        }
    }

    /// What stands behind a NAT gateway in a VPC is asked as everywhere, but about the gateway's own address, which is a member
    /// of no group (VPC User Guide, "NAT gateway basics": the source is the gateway's private address).
    fn enter_behind(
        &self,
        gateway: usize,
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let to = super::nat64::embedded(flow.to).map_or(flow.to, IpAddr::V4);
        let Gateway { subnet: Some(home), address: Some(source), .. } = self.gateways[gateway] else {
            return Ok(());
        };
        let Some(host) = self.host_behind(gateway, to) else { return Ok(()) };
        let flow = super::rules::as_ipv4(&FlowKey { to, from_port: EPHEMERAL, ..*flow });
        let (own, vpc) = (self.subnets[home].vpc, self.hosts[host].vpc);
        let far = self.hosts[host].subnet.or_else(|| self.subnet_at(vpc, to)).filter(|far| *far != home);
        if own != vpc {
            self.way_back(far, vpc, own, source, see)?;
        }
        if let Some(far) = far {
            self.acl(far, false, false, source, flow.protocol, flow.port, see)?;
        }
        self.enter(host, &[], source, &flow, Some(gateway), see)?;
        if let Some(far) = far {
            self.acl(far, true, true, source, flow.protocol, answer_port(&flow), see)?;
        }
        Ok(())
    }

    /// Who has an address of the VPC that is reached behind a NAT gateway.
    pub fn host_behind(&self, gateway: usize, to: IpAddr) -> Option<usize> {
        self.host_at(self.vpc_behind(gateway, to)?, to)
    }

    /// Who counts the connections to an address behind a NAT gateway: what stands there, or over the internet what is
    /// publicly accessible.
    pub fn end_behind(&self, gateway: usize, to: IpAddr) -> Option<usize> {
        self.host_behind(gateway, to).or_else(|| self.public_host(to))
    }

    /// The publicly accessible host that an address stands for.
    pub fn public_host(&self, to: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.public && IpAddr::V4(host.address) == to)
    }

    /// The VPC into which the route of a NAT gateway's subnet leads.
    fn vpc_behind(&self, gateway: usize, to: IpAddr) -> Option<usize> {
        match self.hop_behind(gateway, to)? {
            (own, Hop::Inside) => Some(own),
            (_, Hop::Peer { vpc, .. }) => Some(*vpc),
            _ => None,
        }
    }

    /// A NAT gateway's VPC, and where the route of its subnet leads.
    fn hop_behind(&self, gateway: usize, to: IpAddr) -> Option<(usize, &Hop)> {
        let subnet = self.gateways[gateway].subnet?;
        let place = &self.subnets[subnet];
        Some((place.vpc, &place.routes[self.route(subnet, to)?].hop))
    }

    /// Everything that has an address, in whichever VPC.
    pub fn owners(&self, address: IpAddr) -> impl Iterator<Item = &super::Host> {
        let is = move |host: &&super::Host| {
            IpAddr::V4(host.address) == address || host.address6.map(IpAddr::V6) == Some(address)
        };
        self.hosts.iter().filter(is)
    }

    /// Names of groups, as resources are called.
    pub(super) fn group_names(&self, groups: &[usize]) -> String {
        let names: Vec<&str> = groups.iter().map(|group| &*self.groups[*group].name).collect();
        names.join("+")
    }
}
