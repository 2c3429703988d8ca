//! Which network interfaces of a VPC see a packet: those of functions, of NAT gateways, and of hosts.
//!
//! Source: VPC User Guide, "Flow log records" (a rejected packet is one that the security groups of the interface or the ACL of
//! its subnet do not permit) and "NAT gateway basics" (a NAT gateway has an interface in its subnet, and no security
//! group); published.

use super::path::Check;
use super::{FlowKey, Hop, Network, Path, nat64};
use crate::eni::InterfaceId;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Whose network interface it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InterfaceOf {
    /// Of functions, who share it.
    Functions(InterfaceId),
    /// Of the NAT gateway with this index.
    Gateway(usize),
    /// Of the host with this address in the VPC with this index: its own index changes with the template.
    Host(usize, Ipv4Addr),
}

/// What an interface is called, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePlace {
    /// `eni-SUBNET-GROUP`, `eni-SUBNET-NATGATEWAY`, `eni-SUBNET-ENDPOINT`.
    pub name: Arc<str>,
    /// Index of its VPC.
    pub vpc: usize,
    /// Index of its subnet, where that is known.
    pub subnet: Option<usize>,
}

/// What interfaces say of a packet that is barred somewhere on its way; `None`: it does not come there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whether the sender's lets it out.
    pub sender: bool,
    /// Whether the interface of the NAT gateway with that index lets it in.
    pub gateway: Option<(usize, bool)>,
    /// Whether it lets it out again.
    pub onward: Option<bool>,
    /// Whether that of the host with that index lets it in.
    pub host: Option<(usize, bool)>,
}

impl Network {
    /// The interface of a NAT gateway or host; `None`: there is none, or not any more. Those of functions the limits name.
    pub fn interface_place(&self, of: InterfaceOf) -> Option<InterfacePlace> {
        let (what, vpc, subnet) = match of {
            InterfaceOf::Functions(_) => return None,
            InterfaceOf::Gateway(index) => {
                let gateway = self.gateways.get(index).filter(|gateway| gateway.address.is_some())?;
                let subnet = self.subnet_of_gateway(index)?;
                (&gateway.name, self.subnets[subnet].vpc, Some(subnet))
            }
            InterfaceOf::Host(vpc, address) => {
                let host = &self.hosts[self.host_at(vpc, address.into())?];
                (&host.name, vpc, host.subnet)
            }
        };
        let name = match subnet {
            Some(subnet) => format!("eni-{}-{what}", self.subnets[subnet].name),
            None => format!("eni-{what}"),
        };
        Some(InterfacePlace { name: name.into(), vpc, subnet })
    }

    /// The interfaces of NAT gateways and hosts that there are now.
    pub fn interfaces_of_others(&self) -> impl Iterator<Item = InterfaceOf> {
        let gateways = self.gateways.iter().enumerate().filter(|(_, gateway)| !gateway.gone);
        let gateways = gateways.map(|(index, _)| InterfaceOf::Gateway(index));
        gateways.chain(self.hosts.iter().map(|host| InterfaceOf::Host(host.vpc, host.address)))
    }

    /// The addresses of packets behind the interfaces of NAT gateways and hosts that are called so: a gateway's are those that it
    /// translates to.
    pub fn addresses_behind(&self, interface: &str) -> BTreeSet<IpAddr> {
        let is = |of: &InterfaceOf| self.interface_place(*of).is_some_and(|place| *place.name == *interface);
        let addresses = |of| match of {
            InterfaceOf::Functions(_) => Vec::new(),
            InterfaceOf::Gateway(index) => self.gateways[index].external.clone(),
            InterfaceOf::Host(vpc, address) => {
                let host = self.host_at(vpc, address.into()).map(|host| &self.hosts[host]);
                let six = host.and_then(|host| host.address6).map(IpAddr::V6);
                std::iter::once(address.into()).chain(six).collect()
            }
        };
        self.interfaces_of_others().filter(is).flat_map(addresses).collect()
    }

    /// The subnet in which a NAT gateway's interface is.
    pub fn subnet_of_gateway(&self, gateway: usize) -> Option<usize> {
        let found = &self.gateways[gateway];
        let IpAddr::V4(address) = found.address? else { return None };
        found.subnet.or_else(|| {
            let owner = format!("nat {} 0", found.name);
            let stands = |subnet: &super::Subnet| subnet.cidr.is_some_and(|range| range.contains(address));
            self.subnets.iter().position(|subnet| subnet.holders.contains_key(&owner) && stands(subnet))
        })
    }

    /// Who has the address that a packet out of a subnet is for, where its route leads there. O(routes + hosts).
    pub fn end_of(&self, subnet: usize, to: IpAddr) -> Option<usize> {
        let hop = &self.subnets[subnet].routes[self.route(subnet, to)?].hop;
        match hop {
            Hop::Inside | Hop::Peer { .. } => self.there(subnet, Some(hop), to).0,
            Hop::Nat(gateway) => self.end_behind(*gateway, nat64::embedded(to).map_or(to, IpAddr::V4)),
            Hop::Elsewhere(_) => self.host_beyond(subnet, to),
            Hop::InternetGateway(_) | Hop::Egress(_) | Hop::Service(_) | Hop::Blackhole(_) => None,
        }
    }

    /// What interfaces say of a packet out of a subnet with these security groups. Answers that an ACL would not let back are not
    /// looked at, as nobody sends them.
    pub fn heard(&self, subnet: usize, groups: &[usize], flow: &FlowKey) -> Heard {
        let end = self.end_of(subnet, flow.to);
        let mut heard = Heard { sender: true, ..Heard::default() };
        let mut goes_on = false;
        self.walk(subnet, groups, flow, &mut |check| match *check {
            Check::LetsOut(None) => heard.sender = false,
            Check::Nat(gateway) => heard.gateway = Some((gateway, true)),
            Check::Acl { subnet: at, egress, answer: false, allows, .. } => match (heard.gateway, egress) {
                (None, true) => heard.sender = allows,
                (Some(_), true) => heard.onward = Some(allows),
                (Some((gateway, _)), false) if self.gateways[gateway].subnet == Some(at) => {
                    heard.gateway = Some((gateway, allows));
                }
                (_, false) => {
                    goes_on = true;
                    heard.host = end.map(|host| (host, allows));
                }
            },
            Check::LetsIn { host, rule, .. } => {
                goes_on = true;
                heard.host = Some((host, rule.is_some() || self.hosts[host].groups.is_empty()));
            }
            Check::Acl { answer: true, .. } | Check::End(Path::Nat(_)) => goes_on = true,
            Check::LetsOut(_) | Check::Route { .. } | Check::Hidden { .. } | Check::End(_) => {}
        });
        if goes_on && matches!(heard.gateway, Some((_, true))) {
            heard.onward = heard.onward.or(Some(true));
        }
        heard
    }
}
