//! The names of a template's network, as each of its VPCs sees them.

use std::net::IpAddr;

use limits::Network;
use limits::network::{Host, HostKind, Zone};
use model::stack::Stack;

use super::book::VpcNames;
use super::name::Name;

/// Aliases and canonical names are followed so often.
const ALIASES_MAX: usize = 8;

impl VpcNames {
    /// The names that lead to the template's hosts from everywhere, for functions outside every VPC.
    pub fn outside(network: &Network) -> Self {
        let mut names = Self::new(true, Vec::new());
        for host in &network.hosts {
            for name in host.names.iter().filter_map(|pattern| named(pattern)) {
                names.add(name.clone(), host.address.into());
                share_out(host, &name, &mut names);
            }
        }
        names
    }

    /// The names of each VPC of a network, in its order.
    pub fn of_network(network: &Network, stack: &Stack) -> Vec<Self> {
        let mut all: Vec<Self> =
            network.vpcs.iter().map(|vpc| Self::new(vpc.dns_support, vpc.ranges.clone())).collect();
        for host in &network.hosts {
            for (index, names) in all.iter_mut().enumerate() {
                let own = host.private_names.iter().filter(|_| host.vpc == index);
                for pattern in host.names.iter().chain(own) {
                    let Some(name) = named(pattern) else { continue };
                    names.add(name.clone(), host.address.into());
                    share_out(host, &name, names);
                    if let Some(address6) = host.address6 {
                        names.add(name, address6.into());
                    }
                }
            }
            // With private DNS every form of the service's name leads there, buckets and dual-stack names too.
            if let HostKind::Endpoint(endpoint) = host.what
                && !host.private_names.is_empty()
                && let Some(endpoint) = stack.vpc_endpoints.get(endpoint)
                && let Some(names) = all.get_mut(host.vpc)
                && let Some(service) = endpoint.service_name.splitn(4, '.').nth(3)
            {
                // `ecr.api` answers below the same name as `ecr.dkr`: those keep to their exact names.
                if !service.contains('.') {
                    names.add_service(service, host.address.into());
                }
            }
        }
        for zone in &network.zones {
            for index in zone.vpcs.iter().filter(|index| **index < network.vpcs.len()) {
                add_zone(network, zone, *index, &mut all[*index]);
            }
        }
        all
    }
}

/// A cluster's reader endpoint leads to one of its readers with each answer (Aurora User Guide, "Reader endpoints", published:
/// each connection, not each query, goes to one; the turns assumed). Other names have all their addresses in each answer.
fn share_out(host: &Host, name: &Name, names: &mut VpcNames) {
    if matches!(host.what, HostKind::Database(_)) {
        names.take_turns(name);
    }
}

/// A name; a pattern that begins with a dot stands for every name that ends so.
fn named(pattern: &str) -> Option<Name> {
    match pattern.starts_with('.') {
        true => Name::new(&format!("*{pattern}")),
        // Ids, by which loads and `explain` call a host, are no names of the DNS.
        false => Name::new(pattern).filter(|_| pattern.contains('.')),
    }
}

fn add_zone(network: &Network, zone: &Zone, vpc: usize, names: &mut VpcNames) {
    if let Some(apex) = Name::new(&zone.name) {
        names.add_zone(apex);
    }
    for record in &zone.records {
        let Some(name) = Name::new(&record.name) else { continue };
        for value in record.alias.iter().chain(&record.values) {
            match (value.parse::<IpAddr>(), record.record_type.as_str()) {
                (Ok(address), "A" | "AAAA") => names.extend(&name, [address]),
                (Err(_), "A" | "AAAA" | "CNAME") => follow(network, vpc, &name, value, names),
                _ => {}
            }
            if record.record_type == "CNAME"
                && let Some(target) = Name::new(value.trim_end_matches('.'))
            {
                names.add_cname(name.clone(), target);
            }
        }
    }
}

/// What a name of the template stands for is known at once; anything else is asked for as it is needed.
fn follow(network: &Network, vpc: usize, name: &Name, target: &str, names: &mut VpcNames) {
    let mut target = target.trim_end_matches('.').to_ascii_lowercase();
    for _ in 0..ALIASES_MAX {
        let hosts: Vec<_> = network.hosts_named(vpc, &target).map(|(_, host)| host).collect();
        for host in &hosts {
            names.extend(name, [host.address.into()]);
            names.extend(name, host.address6.map(IpAddr::V6));
            share_out(host, name, names);
        }
        let records = match hosts.is_empty() {
            true => network.records(vpc, &target, "A").unwrap_or_default(),
            false => return,
        };
        let Some(record) = records.first() else { break };
        let literals = record.values.iter().filter_map(|value| value.parse::<IpAddr>().ok());
        let before = names.count(name);
        names.extend(name, literals);
        if names.count(name) > before {
            return;
        }
        let next = record.alias.as_deref().or_else(|| record.values.first().map(String::as_str));
        let Some(next) = next else { return };
        target = next.trim_end_matches('.').to_ascii_lowercase();
    }
    if let Some(target) = Name::new(&target) {
        names.add_alias(name.clone(), target);
    }
}
