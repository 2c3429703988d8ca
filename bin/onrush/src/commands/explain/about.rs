//! What a resource of the template has to do with the network.

mod rest;

use super::View;
use super::now::Use;
use crate::Stop;
use limits::network::{Hop, Host, To};
use model::stack::{AnyCidr, Link};
use plan::report::grouped;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;

impl View<'_> {
    /// A resource in words, or as JSON.
    pub(super) fn describe(&self, id: &str, as_json: bool) -> Result<String, Stop> {
        let (kind, lines) = self.about(id)?;
        let used = self.used_by(id);
        if as_json {
            let now = used.iter().map(|(limit, used)| {
                let mut row = used.json();
                row["limit"] = limit.as_str().into();
                row
            });
            let now: Vec<_> = now.collect();
            return Ok(format!("{:#}\n", json!({"resource": id, "is": kind, "about": lines, "now": now})));
        }
        let mut text = format!("{id}: {kind}\n");
        for line in lines {
            text.push_str("  ");
            text.push_str(&line);
            text.push('\n');
        }
        for (limit, used) in used {
            let _ = writeln!(text, "  {limit}: {used}");
        }
        Ok(text)
    }

    /// What the limits of a resource have in use now; a function's are those of its interfaces, too.
    fn used_by(&self, id: &str) -> Vec<(String, Use)> {
        let Some(now) = &self.now else { return Vec::new() };
        let mut all = now.about(id);
        let Some(index) = self.function(id) else { return all };
        let function = &self.stack.functions[index];
        if function.name != id {
            all.extend(now.about(&function.name));
        }
        if let Some(Some(place)) = self.network.placements.get(index) {
            for subnet in &place.subnets {
                let interface = self.network.interface_name(*subnet, &place.groups);
                let used = now.about(&interface).into_iter();
                all.extend(used.map(|(limit, used)| (format!("{limit} of {interface}"), used)));
            }
        }
        all
    }

    /// What kind of thing a resource is, and what there is to say of it.
    pub(super) fn about(&self, id: &str) -> Result<(String, Vec<String>), Stop> {
        let found = self
            .of_function(id)
            .or_else(|| self.of_subnet(id))
            .or_else(|| self.of_routes(id))
            .or_else(|| self.of_gateways(id))
            .or_else(|| self.of_rules(id))
            .or_else(|| self.of_hosts(id))
            .or_else(|| self.of_interface(id))
            .or_else(|| self.of_names(id))
            .or_else(|| self.of_others(id));
        found.ok_or_else(|| {
            let known = self.ids();
            let near = template::yaml::did_you_mean(id, known.iter().map(String::as_str));
            let near = near.map(|near| format!("; {near}")).unwrap_or_default();
            Stop::Usage(format!("nothing in the template is called `{id}`{near}"))
        })
    }

    /// The logical ids of everything that can be asked about.
    fn ids(&self) -> BTreeSet<String> {
        let stack = self.stack;
        let mut ids: BTreeSet<String> = stack.functions.iter().map(|found| found.id.clone()).collect();
        ids.extend(stack.vpcs.iter().map(|found| found.id.clone()));
        ids.extend(stack.subnets.iter().map(|found| found.id.clone()));
        ids.extend(stack.route_tables.iter().map(|found| found.id.clone()));
        ids.extend(stack.routes.iter().map(|found| found.id.clone()));
        ids.extend(stack.route_table_associations.iter().map(|found| found.id.clone()));
        ids.extend(stack.internet_gateways.iter().map(|found| found.id.clone()));
        ids.extend(stack.nat_gateways.iter().map(|found| found.id.clone()));
        ids.extend(stack.elastic_ips.iter().map(|found| found.id.clone()));
        ids.extend(stack.security_groups.iter().map(|found| found.id.clone()));
        ids.extend(stack.network_acls.iter().map(|found| found.id.clone()));
        ids.extend(stack.vpc_endpoints.iter().map(|found| found.id.clone()));
        ids.extend(stack.db_instances.iter().map(|found| found.id.clone()));
        ids.extend(stack.db_proxies.iter().map(|found| found.id.clone()));
        ids.extend(stack.caches.iter().map(|found| found.id.clone()));
        ids.extend(stack.load_balancers.iter().map(|found| found.id.clone()));
        ids.extend(stack.http_apis.iter().map(|found| found.id.clone()));
        ids.extend(stack.rest_apis.iter().map(|found| found.id.clone()));
        ids.extend(stack.hosted_zones.iter().map(|found| found.id.clone()));
        ids.extend(stack.types.keys().cloned());
        ids
    }

    fn of_function(&self, id: &str) -> Option<(String, Vec<String>)> {
        let index = self.function(id)?;
        let kind = "a function".to_owned();
        let Some(Some(place)) = self.network.placements.get(index) else {
            let line = "in no VPC: it goes straight to the world, past every limit of a VPC".to_owned();
            return Some((kind, vec![line]));
        };
        let groups: Vec<&str> = place.groups.iter().map(|group| &*self.network.groups[*group].name).collect();
        let mut lines = vec![format!("security groups: {}", groups.join(", "))];
        for subnet in &place.subnets {
            let sharers = self.sharers(*subnet, place).join(", ");
            let address = self.network.interface_address(*subnet, &place.groups);
            let address = address.map_or_else(|| "no address".to_owned(), |address| address.to_string());
            lines.push(format!(
                "in {}: interface {} ({address}), {} connections, shared by {sharers}",
                self.network.subnets[*subnet].name,
                self.network.interface_name(*subnet, &place.groups),
                grouped(u64::from(self.settings.interface.connections)),
            ));
        }
        Some((kind, lines))
    }

    /// A shared interface, as the board and the log call it.
    fn of_interface(&self, id: &str) -> Option<(String, Vec<String>)> {
        let places = self.network.placements.iter().flatten();
        let mut all = places.flat_map(|place| place.subnets.iter().map(move |subnet| (*subnet, place)));
        let (subnet, place) =
            all.find(|(subnet, place)| *self.network.interface_name(*subnet, &place.groups) == *id)?;
        let groups: Vec<&str> = place.groups.iter().map(|group| &*self.network.groups[*group].name).collect();
        let address = self.network.interface_address(subnet, &place.groups);
        let address = address.map_or_else(|| "no address".to_owned(), |address| address.to_string());
        let lines = vec![
            format!("{address} in {}, with {}", self.network.subnets[subnet].name, or_none(&groups)),
            format!(
                "at most {} connections (eni.connections)",
                grouped(self.settings.interface.connections.into())
            ),
            format!("shared by {}", self.sharers(subnet, place).join(", ")),
        ];
        Some(("a shared interface".to_owned(), lines))
    }

    fn of_subnet(&self, id: &str) -> Option<(String, Vec<String>)> {
        let stack = self.stack;
        if let Some(vpc) = stack.vpcs.iter().find(|found| found.id == id) {
            let of = |link: &Link| link.logical() == Some(id);
            let subnets: Vec<&str> =
                stack.subnets.iter().filter(|subnet| of(&subnet.vpc)).map(|subnet| &*subnet.id).collect();
            let mut lines = vec![format!("range: {}", vpc.cidr)];
            lines.extend(vpc.more_cidrs.iter().map(|range| format!("range: {range}")));
            lines.extend(vpc.ipv6_cidrs.iter().map(|range| format!("range: {range}")));
            lines.push(format!("subnets: {}", or_none(&subnets)));
            let resolver = u32::from(vpc.cidr.first()) + 2;
            lines.push(match vpc.dns_support {
                true => format!("resolver: {} and 169.254.169.253", std::net::Ipv4Addr::from(resolver)),
                false => "resolver: none (EnableDnsSupport is false)".to_owned(),
            });
            return Some(("a VPC".to_owned(), lines));
        }
        let index = self.network.subnets.iter().position(|subnet| subnet.name == id)?;
        let found = &self.network.subnets[index];
        let mut lines = Vec::new();
        if let Some(range) = found.cidr {
            lines.push(format!(
                "range: {range} in {}, {} addresses to give out",
                found.zone,
                grouped(range.usable())
            ));
        }
        lines.extend(found.cidr6.map(|range| format!("range: {range}")));
        lines.push(format!("route table: {}", found.table.as_deref().unwrap_or("the VPC's main one")));
        lines.extend(found.routes.iter().map(|route| format!("route: {}", self.network.route_text(route))));
        let acl = found.acl.map(|acl| &*self.network.acls[acl].name);
        lines.push(format!("network ACL: {}", acl.unwrap_or("the VPC's own, which lets everything through")));
        let functions: Vec<&str> = self
            .network
            .placements
            .iter()
            .zip(&self.stack.functions)
            .filter(|(place, _)| place.as_ref().is_some_and(|place| place.subnets.contains(&index)))
            .map(|(_, function)| &*function.id)
            .collect();
        lines.push(format!("functions: {}", or_none(&functions)));
        let hosts: Vec<String> = self
            .network
            .hosts
            .iter()
            .filter(|host| host.subnet == Some(index))
            .map(|host| format!("{} ({})", host.name, host.address))
            .collect();
        if !hosts.is_empty() {
            lines.push(format!("there: {}", hosts.join(", ")));
        }
        Some(("a subnet".to_owned(), lines))
    }

    fn of_routes(&self, id: &str) -> Option<(String, Vec<String>)> {
        let stack = self.stack;
        if stack.route_tables.iter().any(|found| found.id == id) {
            let using = |subnet: &&limits::network::Subnet| subnet.table.as_deref() == Some(id);
            let subnets: Vec<&str> =
                self.network.subnets.iter().filter(using).map(|subnet| &*subnet.name).collect();
            let mut lines = vec![format!("subnets: {}", or_none(&subnets))];
            match self.network.subnets.iter().find(using) {
                Some(subnet) => {
                    let routes = subnet
                        .routes
                        .iter()
                        .map(|route| format!("route: {}", self.network.route_text(route)));
                    lines.extend(routes);
                }
                None => lines.extend(stack.routes_of(id).map(|route| format!("route: {}", route.id))),
            }
            return Some(("a route table".to_owned(), lines));
        }
        if let Some(found) = stack.routes.iter().find(|found| found.id == id) {
            let route =
                self.network.subnets.iter().flat_map(|subnet| &subnet.routes).find(|route| route.name == id);
            let mut lines = vec![format!("of {}", found.route_table.as_str())];
            if let Some(route) = route {
                lines.push(self.network.route_text(route));
                if let Hop::InternetGateway(_) = route.hop {
                    lines.push(
                        "a function that goes this way is dropped: its interface has no public address"
                            .to_owned(),
                    );
                }
            } else {
                lines.push("no subnet uses its table".to_owned());
            }
            return Some(("a route".to_owned(), lines));
        }
        let found = stack.route_table_associations.iter().find(|found| found.id == id)?;
        let line = format!("{} uses {}", found.subnet.as_str(), found.route_table.as_str());
        Some(("which route table a subnet uses".to_owned(), vec![line]))
    }

    /// The subnets with a route for which `leads` holds.
    fn leading(&self, leads: impl Fn(&Hop) -> bool) -> String {
        let subnets = self.network.subnets.iter();
        let found = subnets.filter(|subnet| subnet.routes.iter().any(|route| leads(&route.hop)));
        or_none(&found.map(|subnet| &*subnet.name).collect::<Vec<_>>())
    }

    fn of_gateways(&self, id: &str) -> Option<(String, Vec<String>)> {
        let (stack, network) = (self.stack, &self.network);
        if let Some(gateway) = stack
            .internet_gateways
            .iter()
            .find(|found| found.id == id || found.attachment.as_deref() == Some(id))
        {
            let vpc = gateway.vpc.as_ref().map_or("no VPC", Link::as_str);
            if gateway.id != id {
                return Some((
                    "an attachment".to_owned(),
                    vec![format!("{} is attached to {vpc}", gateway.id)],
                ));
            }
            let leads = self.leading(|hop| matches!(hop, Hop::InternetGateway(name) if name == id));
            let lines = vec![
                format!("attached to {vpc}"),
                format!("subnets that lead to it: {leads}"),
                "NAT gateways in these subnets go out by it; what functions send by it is dropped, as their interfaces have \
                 no public address"
                    .to_owned(),
            ];
            return Some(("an internet gateway".to_owned(), lines));
        }
        if let Some(index) = network.gateways.iter().position(|found| found.name == id) {
            let found = &network.gateways[index];
            let ports = u64::from(self.settings.nat.ports);
            let addresses: Vec<String> = found.external.iter().map(ToString::to_string).collect();
            let stands =
                stack.nat_gateways.iter().find(|nat| nat.id == id).and_then(|nat| nat.subnet.as_ref());
            let lines = vec![
                format!("stands in {}", stands.map_or("every zone", Link::as_str)),
                format!("addresses: {}", addresses.join(", ")),
                format!(
                    "at most {} x {} = {} connections to each destination (nat.ports)",
                    found.addresses,
                    grouped(ports),
                    grouped(ports * u64::from(found.addresses))
                ),
                format!(
                    "subnets that lead to it: {}",
                    self.leading(|hop| matches!(hop, Hop::Nat(to) if *to == index))
                ),
            ];
            let kind = if found.public { "a NAT gateway" } else { "a private NAT gateway" };
            return Some((kind.to_owned(), lines));
        }
        if let Some(address) = stack.elastic_ips.iter().find(|found| found.id == id) {
            let owner = stack
                .nat_gateways
                .iter()
                .find(|nat| nat.addresses.iter().any(|link| link.logical() == Some(id)))
                .map_or_else(|| "nothing here".to_owned(), |nat| nat.id.clone());
            let lines = vec![
                format!("{} here", address.public_ip),
                format!("of {owner}: others see its connections come from it"),
            ];
            return Some(("an elastic IP address".to_owned(), lines));
        }
        if stack.egress_only_gateways.iter().any(|found| found.id == id) {
            let index = network.egress_gateways.iter().position(|name| name == id);
            let leads = self.leading(|hop| matches!(hop, Hop::Egress(to) if Some(*to) == index));
            return Some((
                "an egress-only internet gateway".to_owned(),
                vec![format!("subnets that lead to it: {leads}")],
            ));
        }
        let peering = stack.peerings.iter().find(|found| found.id == id)?;
        let leads =
            self.leading(|hop| matches!(hop, Hop::Peer { name, .. } | Hop::Elsewhere(name) if name == id));
        let lines = vec![
            format!("joins {} and {}", peering.vpc.as_str(), peering.peer_vpc.as_str()),
            format!("subnets that lead to it: {leads}"),
        ];
        Some(("a peering connection".to_owned(), lines))
    }

    fn of_rules(&self, id: &str) -> Option<(String, Vec<String>)> {
        let network = &self.network;
        if let Some(index) = network.groups.iter().position(|group| group.name == id) {
            let group = &network.groups[index];
            let mut lines: Vec<String> =
                group.egress.iter().map(|rule| format!("out: {}", network.rule_text(rule, true))).collect();
            lines.extend(group.ingress.iter().map(|rule| format!("in: {}", network.rule_text(rule, false))));
            if group.ingress.is_empty() {
                lines.push("in: nothing, which functions never need".to_owned());
            }
            let places = network.placements.iter().zip(&self.stack.functions);
            let mut members: BTreeSet<&str> = places
                .filter(|(place, _)| place.as_ref().is_some_and(|place| place.groups.contains(&index)))
                .map(|(_, function)| &*function.id)
                .collect();
            members.extend(
                network.hosts.iter().filter(|host| host.groups.contains(&index)).map(|host| &*host.name),
            );
            lines.push(format!("members: {}", or_none(&members.into_iter().collect::<Vec<_>>())));
            return Some(("a security group".to_owned(), lines));
        }
        for group in &self.stack.security_groups {
            if group.ingress.iter().chain(&group.egress).any(|rule| rule.id == id) {
                let line = format!("of {}", group.id);
                return Some(("a rule of a security group".to_owned(), vec![line]));
            }
        }
        if let Some(index) = network.acls.iter().position(|acl| acl.name == id) {
            let lines = network.acls[index].entries.iter().map(|entry| {
                let range = match entry.range {
                    AnyCidr::Ipv4(range) => range.to_string(),
                    AnyCidr::Ipv6(range) => range.to_string(),
                };
                let (way, side) = if entry.egress { ("out", "to") } else { ("in", "from") };
                let allow = if entry.allow { "allow" } else { "deny" };
                format!("{way} {}: {allow} {} {side} {range}", entry.number, entry.traffic)
            });
            let mut lines: Vec<String> = lines.collect();
            lines.push("in and out *: deny".to_owned());
            let subnets = network.subnets.iter().filter(|subnet| subnet.acl == Some(index));
            lines.push(format!(
                "subnets: {}",
                or_none(&subnets.map(|subnet| &*subnet.name).collect::<Vec<_>>())
            ));
            return Some(("a network ACL".to_owned(), lines));
        }
        if let Some(acl) =
            self.stack.network_acls.iter().find(|acl| acl.entries.iter().any(|entry| entry.id == id))
        {
            return Some(("an entry of a network ACL".to_owned(), vec![format!("of {}", acl.id)]));
        }
        if let Some(found) = self.stack.network_acl_associations.iter().find(|found| found.id == id) {
            let line = format!("{} has {}", found.subnet.as_str(), found.network_acl.as_str());
            return Some(("which network ACL a subnet has".to_owned(), vec![line]));
        }
        let list = network.lists.iter().find(|list| list.name == id)?;
        let ranges = list.entries.iter().map(|range| match range {
            AnyCidr::Ipv4(range) => range.to_string(),
            AnyCidr::Ipv6(range) => range.to_string(),
        });
        Some(("a prefix list".to_owned(), ranges.collect()))
    }

    fn of_hosts(&self, id: &str) -> Option<(String, Vec<String>)> {
        let network = &self.network;
        let hosts: Vec<&Host> = network.hosts.iter().filter(|host| host.name == id).collect();
        if let Some(first) = hosts.first() {
            let mut lines: Vec<String> = first.names.iter().map(|name| format!("name: {name}")).collect();
            lines.extend(first.private_names.iter().map(|name| format!("private name: {name}")));
            lines.extend(hosts.iter().map(|host| {
                let subnet = host.subnet.map_or("an unknown subnet", |subnet| &network.subnets[subnet].name);
                format!("address: {} in {subnet}", host.address)
            }));
            let groups: Vec<&str> = first.groups.iter().map(|group| &*network.groups[*group].name).collect();
            lines.push(format!("security groups: {}", or_none(&groups)));
            if matches!(first.what, limits::network::HostKind::Endpoint(_)) {
                lines.extend(self.policy_of(id));
            }
            let kind = match first.what {
                limits::network::HostKind::Database(_) => "a database instance",
                limits::network::HostKind::Proxy(_) => "a database proxy",
                limits::network::HostKind::Endpoint(_) => "an interface endpoint",
                limits::network::HostKind::LoadBalancer(_) => "a load balancer inside the VPC",
                limits::network::HostKind::Cache(_) => "a cache",
            };
            return Some((kind.to_owned(), lines));
        }
        let index = network.endpoints.iter().position(|found| found.name == id)?;
        let endpoint = &network.endpoints[index];
        let leads = network.subnets.iter().filter(|subnet| {
            subnet
                .routes
                .iter()
                .any(|route| matches!(route.to, To::Service(_)) && route.hop == Hop::Service(index))
        });
        let subnets: Vec<&str> = leads.map(|subnet| &*subnet.name).collect();
        let mut lines = vec![
            format!("leads to {} past the NAT gateways", endpoint.service),
            format!("subnets that lead to it: {}", or_none(&subnets)),
        ];
        lines.extend(self.policy_of(id));
        Some(("a gateway endpoint".to_owned(), lines))
    }

    /// What an endpoint lets through.
    fn policy_of(&self, id: &str) -> Vec<String> {
        let endpoint = self.stack.vpc_endpoints.iter().find(|found| found.id == id);
        super::policy::lines(endpoint.and_then(|found| found.policy.as_deref()))
    }
}

/// Names, or `none`.
fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
