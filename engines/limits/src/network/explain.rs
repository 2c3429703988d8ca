//! Why a packet arrives, or does not: every rule, route and gateway that was looked at on its way, and the cure.

mod words;

use super::path::{Check, UNKNOWN};
use super::{FlowKey, Hop, Network, Path, To};
use crate::settings::NetworkSettings;
use model::stack::AnyCidr;
use model::{LimitId, grouped};
use std::net::IpAddr;
use words::{protocol_text, range_text, traffic_text};

/// A cure names at most this many subnets.
const MAX_NAMED: usize = 4;

/// What a step looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// The subnet that the packet leaves from.
    Subnet,
    /// Security groups that let it out.
    GroupOut,
    /// A network ACL.
    Acl,
    /// A route table.
    Route,
    /// The shared interface.
    Interface,
    /// A NAT gateway.
    Nat,
    /// Security groups that let it in.
    GroupIn,
    /// Where it arrives.
    End,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at.
    pub what: StepKind,
    /// The resource: a logical id, or an id from outside the template.
    pub resource: String,
    /// The rule or route that decided, in words; for limits, their figure.
    pub rule: String,
    /// Whether it decides: something stands here that could have said no, or led elsewhere.
    pub decides: bool,
    /// Whether the packet passes.
    pub passes: bool,
}

/// The whole way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Step by step.
    pub steps: Vec<Step>,
    /// Where it ends.
    pub path: Path,
    /// What to change, where it does not arrive.
    pub cure: Option<String>,
}

impl Network {
    /// Why [`Network::path`] says what it says; and that nothing leaves an interface that has no address, which the path does
    /// not know.
    pub fn explain(
        &self,
        subnet: usize,
        groups: &[usize],
        flow: &FlowKey,
        settings: &NetworkSettings,
    ) -> Explanation {
        let mut teller =
            Teller { network: self, subnet, groups, flow, settings, steps: Vec::new(), cure: None };
        teller.begin();
        let path = self.walk(subnet, groups, flow, &mut |check| teller.tell(check));
        let Teller { mut steps, cure, .. } = teller;
        let is_end = |step: &Step| step.what == StepKind::Interface && !step.passes;
        let Some(end) = steps.iter().position(is_end) else { return Explanation { steps, path, cure } };
        steps.truncate(end + 1);
        let name = &self.subnets[subnet].name;
        let cure = format!("give {name} a larger range, or let fewer interfaces stand in it");
        Explanation { steps, path: Path::Barred(LimitId::SubnetAddresses, name.clone()), cure: Some(cure) }
    }

    /// The subnets whose way to an address leads through a NAT gateway.
    fn subnets_with_nat(&self, vpc: usize, flow: &FlowKey) -> Vec<&str> {
        let leads = |index: &usize| {
            let route = self.route(*index, flow.to);
            route.is_some_and(|route| matches!(self.subnets[*index].routes[route].hop, Hop::Nat(_)))
        };
        let all = (0..self.subnets.len()).filter(|index| self.subnets[*index].vpc == vpc).filter(leads);
        all.map(|index| &*self.subnets[index].name).take(MAX_NAMED).collect()
    }
}

/// Turns checks into steps.
struct Teller<'net> {
    network: &'net Network,
    subnet: usize,
    groups: &'net [usize],
    flow: &'net FlowKey,
    settings: &'net NetworkSettings,
    steps: Vec<Step>,
    cure: Option<String>,
}

impl Teller<'_> {
    fn begin(&mut self) {
        let place = &self.network.subnets[self.subnet];
        let mut rule =
            place.cidr.map_or_else(|| "its range is not known".to_owned(), |range| range.to_string());
        if let Some(range) = place.cidr6.filter(|_| self.flow.to.is_ipv6()) {
            rule = range.to_string();
        }
        if !place.zone.is_empty() {
            rule = format!("{rule} in {}", place.zone);
        }
        self.step(StepKind::Subnet, place.name.clone(), rule, false, true);
    }

    fn step(&mut self, what: StepKind, resource: String, rule: String, decides: bool, passes: bool) {
        self.steps.push(Step { what, resource, rule, decides, passes });
    }

    /// `tcp 443`.
    fn traffic(&self, port: u16) -> String {
        traffic_text(self.flow.protocol, port)
    }

    fn tell(&mut self, check: &Check<'_>) {
        match check {
            Check::LetsOut(found) => self.lets_out(*found),
            Check::LetsIn { host, rule, stranger } => self.lets_in(*host, *rule, *stranger),
            Check::Hidden { host, subnet } => self.hidden(*host, *subnet),
            Check::Acl { subnet, egress, answer, other, port, allows } => {
                self.acl(*subnet, *egress, *answer, *other, *port, *allows);
            }
            Check::Route { subnet, route, .. } => self.route(*subnet, *route),
            Check::Nat(gateway) => {
                let found = &self.network.gateways[*gateway];
                let ports = u64::from(self.settings.nat.ports);
                let all = ports * u64::from(found.addresses);
                let addresses = if found.addresses == 1 { "address" } else { "addresses" };
                let rule = format!(
                    "{} {addresses} x {} connections to each destination = {} (nat.ports)",
                    found.addresses,
                    grouped(ports),
                    grouped(all)
                );
                self.step(StepKind::Nat, found.name.clone(), rule, true, true);
            }
            Check::End(path) => self.end(path),
        }
    }

    fn lets_out(&mut self, found: Option<(usize, usize)>) {
        let wanted = format!("{} to {}", self.traffic(self.flow.port), self.flow.to);
        match found {
            Some((group, rule)) => {
                let group = &self.network.groups[group];
                let rule = self.network.rule_text(&group.egress[rule], true);
                self.step(StepKind::GroupOut, group.name.clone(), format!("out: {rule}"), true, true);
            }
            None => {
                let names = self.network.group_names(self.groups);
                let mut rule = format!("no rule lets {wanted} out");
                let has: Vec<String> = self
                    .groups
                    .iter()
                    .flat_map(|group| &self.network.groups[*group].egress)
                    .take(MAX_NAMED)
                    .map(|rule| self.network.rule_text(rule, true))
                    .collect();
                if !has.is_empty() {
                    rule = format!("{rule}; there is {}", has.join(", "));
                }
                self.step(StepKind::GroupOut, names.clone(), rule, true, false);
                self.cure = Some(format!("give {names} an egress rule for {wanted}/{}", self.width()));
            }
        }
    }

    fn hidden(&mut self, host: usize, subnet: usize) {
        let (host, place) = (&self.network.hosts[host].name, &self.network.subnets[subnet]);
        let table = place.table.as_ref().map_or_else(String::new, |table| format!(" ({table})"));
        self.cure = Some(format!(
            "the internet reaches {host} only in subnets whose default route leads to an internet gateway, and that of {}{table} does \
             not: give it one, or reach {host} from inside its VPC",
            place.name
        ));
        if let Some(step) = self.steps.last_mut() {
            step.passes = false;
        }
    }

    /// Who asks, as a rule would name it: behind gateways nobody's groups count.
    fn asker(&self, stranger: Option<IpAddr>) -> String {
        let Some(address) = stranger else { return self.network.group_names(self.groups) };
        let is = |gateway: &&super::Gateway| {
            gateway.address == Some(address) || gateway.external.contains(&address)
        };
        match self.network.gateways.iter().find(is) {
            Some(gateway) => format!("{address}/32 ({})", gateway.name),
            None if address == UNKNOWN => "0.0.0.0/0".to_owned(),
            None => format!("{address}/32"),
        }
    }

    fn lets_in(&mut self, host: usize, found: Option<(usize, usize)>, stranger: Option<IpAddr>) {
        let host = &self.network.hosts[host];
        let port = self.traffic(self.flow.port);
        match found {
            Some((group, rule)) => {
                let group = &self.network.groups[group];
                let rule = self.network.rule_text(&group.ingress[rule], false);
                self.step(StepKind::GroupIn, group.name.clone(), format!("in: {rule}"), true, true);
            }
            None if host.groups.is_empty() => {
                let rule = "it has no security group that the template knows: it takes everything".to_owned();
                self.step(StepKind::GroupIn, host.name.clone(), rule, false, true);
            }
            None => {
                let names = self.network.group_names(&host.groups);
                let own = self.asker(stranger);
                let rule = format!("no rule lets {port} from {own} in to {}", host.name);
                self.step(StepKind::GroupIn, names.clone(), rule, true, false);
                self.cure = Some(format!("give {names} an ingress rule for {port} from {own}"));
            }
        }
    }

    fn acl(&mut self, subnet: usize, egress: bool, answer: bool, other: IpAddr, port: u16, allows: bool) {
        let place = &self.network.subnets[subnet];
        let Some(acl) = place.acl.and_then(|acl| self.network.acls.get(acl)) else { return };
        let entry = acl.decides(egress, other, self.flow.protocol, port);
        let way = if egress { "out of" } else { "into" };
        let whose = if answer { "answers " } else { "" };
        let said = entry.map_or_else(
            || "rule *: deny".to_owned(),
            |entry| {
                let allow = if entry.allow { "allow" } else { "deny" };
                let side = if egress { "to" } else { "from" };
                format!(
                    "rule {}: {allow} {} {side} {}",
                    entry.number,
                    entry.traffic,
                    range_text(&entry.range)
                )
            },
        );
        let name = acl.name.clone();
        let rule = format!("{whose}{way} {}: {said}", place.name);
        if !allows {
            let (list, traffic) = (if egress { "outbound" } else { "inbound" }, self.traffic(port));
            let side = if egress { "to" } else { "from" };
            self.cure = Some(if answer {
                let protocol = protocol_text(self.flow.protocol);
                format!(
                    "network ACLs do not remember connections: give {name} an {list} entry for {protocol} 1024-65535 \
                     {side} {other}, where answers come back"
                )
            } else {
                let deciding = entry.map(|entry| format!(" with a number below {}", entry.number));
                format!(
                    "give {name} an {list} entry that allows {traffic} {side} {other}{}",
                    deciding.unwrap_or_default()
                )
            });
        }
        self.step(StepKind::Acl, name, rule, true, allows);
    }

    fn route(&mut self, subnet: usize, route: Option<usize>) {
        let network = self.network;
        let place = &network.subnets[subnet];
        let vpc = &network.vpcs.get(place.vpc).map_or("its VPC", |vpc| &*vpc.name);
        let table = place.table.clone().unwrap_or_else(|| format!("the main table of {vpc}"));
        let found = route.map(|index| &place.routes[index]);
        let leads =
            found.is_some_and(|route| !matches!(route.hop, Hop::InternetGateway(_) | Hop::Blackhole(_)));
        // An internet gateway is where the way of a NAT gateway leads on.
        let passes = leads || subnet != self.subnet && found.is_some();
        let text = match found {
            None => format!("no route to {}", self.flow.to),
            Some(route) if matches!(&*route.name, "" | "local") => network.route_text(route),
            Some(route) => format!("{} ({})", network.route_text(route), route.name),
        };
        self.step(StepKind::Route, table.clone(), text, true, passes);
        if subnet != self.subnet {
            if found.is_none() {
                self.cure =
                    Some(format!("give {table} a route that leads to where {} is asked from", self.flow.to));
            }
            return;
        }
        let others = network.subnets_with_nat(place.vpc, self.flow);
        let elsewhere = match others.as_slice() {
            [] => "put the function in a subnet whose route leads to a NAT gateway".to_owned(),
            names => format!(
                "put the function in a subnet whose route leads to a NAT gateway ({})",
                names.join(", ")
            ),
        };
        match found.map(|route| &route.hop) {
            None if self.flow.to.is_ipv6() => {
                self.cure = Some(format!("give {table} a route of ::/0 to an egress-only internet gateway"));
            }
            None if place.table.is_none() => {
                self.cure = Some(format!(
                    "{} has no route table of its own, and the VPC's main one leads nowhere else: {elsewhere}",
                    place.name
                ));
            }
            None => {
                self.cure =
                    Some(format!("give {table} a route of 0.0.0.0/0 to a NAT gateway, or {elsewhere}"));
            }
            Some(Hop::InternetGateway(_)) => {
                let is_default = found.is_some_and(|route| {
                    matches!(route.to, To::Range(AnyCidr::Ipv4(range)) if range == model::stack::Cidr::ANY)
                });
                let route = if is_default { "default route" } else { "route" };
                self.cure = Some(format!(
                    "the {route} of {table} leads to an internet gateway: a function's interface has no public address; \
                     {elsewhere}"
                ));
            }
            Some(Hop::Blackhole(why)) => {
                self.cure = Some(format!("{why}: let the route lead to one of {vpc}"));
            }
            Some(_) => {}
        }
        if leads {
            self.interface();
        }
    }

    fn interface(&mut self) {
        let network = self.network;
        let name = network.interface_name(self.subnet, self.groups);
        let own = |found: &&super::Interface| found.subnet == self.subnet && found.groups == self.groups;
        let found = network.interfaces.iter().find(own);
        // In a subnet whose range is not known, no address is known either.
        let is_without =
            found.is_some_and(|found| found.address.is_none()) && network.subnets[self.subnet].cidr.is_some();
        if is_without {
            let rule = "no address: its subnet has none left (subnet.addresses)".to_owned();
            self.step(StepKind::Interface, name.to_string(), rule, true, false);
            return;
        }
        let address = if self.flow.to.is_ipv6() {
            found.and_then(|found| found.address6).map(|address| address.to_string())
        } else {
            found.and_then(|found| found.address).map(|address| address.to_string())
        };
        let address = address.unwrap_or_else(|| "no address".to_owned());
        let all = u64::from(self.settings.interface.connections);
        let rule = match self.settings.interface.connections {
            u32::MAX => format!("{address}; one for each few environments"),
            _ => format!("{address}; {} connections (eni.connections)", grouped(all)),
        };
        self.step(StepKind::Interface, name.to_string(), rule, true, true);
    }

    /// What has the destination's address in the VPC that the route leads to and takes no connection, and why.
    fn deaf(&self) -> Option<(String, &'static str)> {
        let (network, to) = (self.network, self.flow.to);
        let hop = &network.subnets[self.subnet].routes[network.route(self.subnet, to)?].hop;
        let vpc = match hop {
            Hop::Peer { vpc, .. } => *vpc,
            _ => network.subnets[self.subnet].vpc,
        };
        let is_there = |subnet: usize| network.subnets[subnet].vpc == vpc;
        let has = |found: &&super::Interface| {
            is_there(found.subnet)
                && (found.address.map(Into::into) == Some(to) || found.address6.map(Into::into) == Some(to))
        };
        if let Some(found) = network.interfaces.iter().find(has) {
            let name = network.interface_name(found.subnet, &found.groups).to_string();
            return Some((name, "nothing begins a connection to a function"));
        }
        let mut gateways = network.gateways.iter();
        let gateway =
            gateways.find(|found| found.address == Some(to) && found.subnet.is_some_and(is_there))?;
        Some((gateway.name.clone(), "a NAT gateway's own address answers nobody"))
    }

    fn end(&mut self, path: &Path) {
        let network = self.network;
        let (resource, rule) = match path {
            Path::Host(host) => {
                let host = &network.hosts[*host];
                (host.name.clone(), host.address.to_string())
            }
            Path::Nothing => match self.deaf() {
                Some((name, what)) => (name, format!("{}: {what}", self.flow.to)),
                None => {
                    let what = "nobody of the template has this address: connects hang until something is attached there";
                    (self.flow.to.to_string(), what.to_owned())
                }
            },
            Path::Service(endpoint) => {
                let endpoint = &network.endpoints[*endpoint];
                (
                    endpoint.name.clone(),
                    format!("the gateway endpoint of {}: no NAT gateway, no charge", endpoint.service),
                )
            }
            Path::Egress(gateway) => {
                (network.egress_gateways[*gateway].clone(), "out by IPv6; no limit of ports".to_owned())
            }
            Path::Nat(_) => return,
            Path::World => {
                (self.flow.to.to_string(), "another network; what it lets through is not known".to_owned())
            }
            Path::Barred(limit, resource) => {
                if self.cure.is_none() && *limit == LimitId::NoRoute {
                    self.cure = Some(format!("change the way of {resource}"));
                }
                return;
            }
        };
        self.step(StepKind::End, resource, rule, false, *path != Path::Nothing);
    }

    fn width(&self) -> u8 {
        if self.flow.to.is_ipv6() { 128 } else { 32 }
    }
}
