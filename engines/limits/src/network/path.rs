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

/// Where functions without a VPC come from: no address that a rule could name (198.19.0.0/17).
pub const WITHOUT_VPC: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1));
/// A public address that is not known: rules for all addresses alone mean it.
pub(super) const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
    /// What lets the packet in: a group and the index of its ingress rule. A host without groups takes everything. A stranger's
    /// address is a member of no group.
    LetsIn { host: usize, rule: Option<(usize, usize)>, stranger: Option<IpAddr> },
    /// A host that is to be reached from the internet stands in a subnet that it does not lead to.
    Hidden { host: usize, subnet: usize },
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
        let (host, far) = self.there(subnet, hop, to);
        let crosses = far != Some(subnet);
        self.begin(subnet, groups, flow, (host, crosses), see)?;
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
            Some(Hop::Elsewhere(_)) => match self.host_beyond(subnet, to) {
                Some(host) => {
                    self.enter_beyond(host, source, flow, see)?;
                    Path::Host(host)
                }
                None => Path::World,
            },
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

    /// The way of a packet out of a subnet as flow logs number it (VPC User Guide, "Flow log records", `traffic-path`): 1 by another
    /// resource of the VPC, 2 by an internet gateway or a gateway endpoint, 4 by a peering connection. The numbers 7 and 8 that
    /// instances on Nitro have in place of 2 are none of functions' (assumed). `None`: AWS has no number, or it is not known.
    pub fn traffic_path(&self, subnet: usize, to: IpAddr) -> Option<u8> {
        match self.subnets[subnet].routes[self.route(subnet, to)?].hop {
            Hop::Inside | Hop::Nat(_) => Some(1),
            Hop::InternetGateway(_) | Hop::Egress(_) | Hop::Service(_) => Some(2),
            Hop::Peer { .. } => Some(4),
            Hop::Elsewhere(_) | Hop::Blackhole(_) => None,
        }
    }

    /// Whose address it is, where it is one of a VPC that the route leads to, and in which subnet.
    pub(super) fn there(
        &self,
        subnet: usize,
        hop: Option<&Hop>,
        to: IpAddr,
    ) -> (Option<usize>, Option<usize>) {
        let vpc = match hop {
            Some(Hop::Inside) => Some(self.subnets[subnet].vpc),
            Some(Hop::Peer { vpc, .. }) => Some(*vpc),
            _ => None,
        };
        let host = vpc.and_then(|vpc| self.host_at(vpc, to));
        let far = host.and_then(|host| self.hosts[host].subnet).or_else(|| self.subnet_at(vpc?, to));
        (host, far)
    }

    /// The first to be asked: the sender's groups, and its subnet's ACL where the packet `crosses` its border.
    fn begin(
        &self,
        subnet: usize,
        groups: &[usize],
        flow: &FlowKey,
        (host, crosses): (Option<usize>, bool),
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        self.leave(groups, flow, host, see)?;
        if crosses {
            self.acl(subnet, true, false, flow.to, flow.protocol, flow.port, see)?;
        }
        Ok(())
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
        stranger: Option<IpAddr>,
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
        see(&Check::LetsIn { host, rule, stranger });
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
        let flow = super::rules::as_ipv4(&FlowKey { to, from_port: EPHEMERAL, ..*flow });
        if let (None, Some(host)) = (self.vpc_behind(gateway, to), self.public_host(to)) {
            return self.enter_by_addresses(gateway, host, &flow, see);
        }
        let Gateway { subnet: Some(home), address: Some(source), .. } = self.gateways[gateway] else {
            return Ok(());
        };
        let Some(host) = self.host_behind(gateway, to) else { return Ok(()) };
        let (own, vpc) = (self.subnets[home].vpc, self.hosts[host].vpc);
        let far = self.hosts[host].subnet.or_else(|| self.subnet_at(vpc, to)).filter(|far| *far != home);
        if own != vpc {
            self.way_back(far, vpc, own, source, see)?;
        }
        self.enter_from(host, far, source, &flow, see)
    }

    /// A packet from an address that is a member of no group: the ACL of the host's subnet, if that is asked, decides on it, the
    /// host's groups, and the ACL on its answer.
    fn enter_from(
        &self,
        host: usize,
        far: Option<usize>,
        source: IpAddr,
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        if let Some(far) = far {
            self.acl(far, false, false, source, flow.protocol, flow.port, see)?;
        }
        self.enter(host, &[], source, flow, Some(source), see)?;
        match far {
            Some(far) => self.acl(far, true, true, source, flow.protocol, answer_port(flow), see),
            None => Ok(()),
        }
    }

    /// What stands on the internet, too, sees one of a NAT gateway's public addresses: which, the gateway says when it gives a
    /// port, so that it is enough here when one of them is let in.
    fn enter_by_addresses(
        &self,
        gateway: usize,
        host: usize,
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let found = &self.gateways[gateway];
        let all = found.external.iter().enumerate().map(|(place, address)| (place as u16, *address));
        let mut all = all.filter(|(place, _)| !found.withdrawn.contains(place)).map(|(_, address)| address);
        let first = all.next().unwrap_or(UNKNOWN);
        let is_let_in = |address: &IpAddr| self.enter_publicly(host, *address, flow, &mut |_| {}).is_ok();
        let source = std::iter::once(first).chain(all).find(is_let_in).unwrap_or(first);
        self.enter_publicly(host, source, flow, see)
    }

    /// A packet from the internet for something that stands there, too. An internet gateway must lead to its subnet, as both
    /// ways lead through it (RDS User Guide, "Troubleshooting for Amazon RDS": a DB instance that is publicly accessible in
    /// private subnets is not reached); its ACL and groups are asked about the public address.
    fn enter_publicly(
        &self,
        host: usize,
        source: IpAddr,
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let found = &self.hosts[host];
        let far = found.subnet.filter(|_| found.placed);
        if let Some(far) = far {
            let route = self.route(far, source);
            see(&Check::Route { subnet: far, route, towards: source });
            let hop = route.map(|index| &self.subnets[far].routes[index].hop);
            if !matches!(hop, Some(Hop::InternetGateway(_))) {
                see(&Check::Hidden { host, subnet: far });
                let who = format!(
                    "{} (the internet does not lead there, where {} is)",
                    self.subnets[far].name, found.name
                );
                return Err(Path::Barred(LimitId::NoRoute, who));
            }
        }
        self.enter_from(host, far, source, flow, see)
    }

    /// Who bars a packet from this public address to something that stands on the internet, too; nobody, where it arrives.
    pub fn barred_publicly(&self, host: usize, source: IpAddr, flow: &FlowKey) -> Option<(LimitId, String)> {
        match self.enter_publicly(host, source, flow, &mut |_| {}) {
            Err(Path::Barred(limit, resource)) => Some((limit, resource)),
            _ => None,
        }
    }

    /// Who bars functions without a VPC from an address: what stands in a VPC is out of their reach, unless it stands on the
    /// internet, too, and takes them.
    pub fn bars_without_vpc(&self, to: IpAddr, protocol: u8, port: u16) -> Option<(LimitId, String)> {
        self.owners(to).next()?;
        let Some(host) = self.public_host(to) else {
            return Some((LimitId::NoRoute, "a function without a VPC".to_owned()));
        };
        self.barred_publicly(host, WITHOUT_VPC, &FlowKey { protocol, to, port, from_port: EPHEMERAL })
    }

    /// Who has an address in another VPC, which a transit gateway, a VPN or an instance leads to; nobody, where several have it.
    pub(super) fn host_beyond(&self, subnet: usize, to: IpAddr) -> Option<usize> {
        let own = self.subnets[subnet].vpc;
        let mut there =
            (0..self.vpcs.len()).filter(|vpc| *vpc != own).filter_map(|vpc| self.host_at(vpc, to));
        let found = there.next()?;
        there.next().is_none().then_some(found)
    }

    /// A packet that comes to another VPC by what is not known here. It comes as it is, so that answers need a way back of the
    /// same kind, and rules are asked about its address: those that name groups do not mean it (VPC User Guide, "Security group
    /// referencing": over transit gateways only where that was turned on).
    fn enter_beyond(
        &self,
        host: usize,
        source: IpAddr,
        flow: &FlowKey,
        see: &mut dyn FnMut(&Check<'_>),
    ) -> Result<(), Path> {
        let found = &self.hosts[host];
        let far = found.subnet.filter(|_| found.placed);
        let hop = |far: usize| self.route(far, source).map(|index| &self.subnets[far].routes[index].hop);
        let leads_back = far.is_none_or(|far| matches!(hop(far), Some(Hop::Elsewhere(_))));
        if found.public && !leads_back {
            return self.enter_publicly(host, UNKNOWN, flow, see);
        }
        if let Some(far) = far {
            see(&Check::Route { subnet: far, route: self.route(far, source), towards: source });
            if !leads_back {
                let who = format!("{} (no route leads its answers back)", self.subnets[far].name);
                return Err(Path::Barred(LimitId::NoRoute, who));
            }
        }
        self.enter_from(host, far, source, flow, see)
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
