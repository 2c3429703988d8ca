//! Rules, routes and traffic in words.

use super::super::rules::{Rule, Traffic};
use super::super::{Hop, ICMP, ICMPV6, Network, Route, RulePeer, TCP, To, UDP};
use super::StepKind;
use model::stack::AnyCidr;
use std::fmt;

impl Network {
    /// A rule of a security group in words: `tcp 443 to 0.0.0.0/0`.
    pub fn rule_text(&self, rule: &Rule, egress: bool) -> String {
        let peer = match &rule.peer {
            RulePeer::Range(range) => range.to_string(),
            RulePeer::Range6(range) => range.to_string(),
            RulePeer::Group(group) => {
                self.groups.get(*group).map_or_else(String::new, |group| group.name.clone())
            }
            RulePeer::List(list) => self.lists.get(*list).map_or_else(String::new, |list| list.name.clone()),
            RulePeer::Services => "what gateway endpoints lead to".to_owned(),
        };
        format!("{} {} {peer}", rule.traffic, if egress { "to" } else { "from" })
    }

    /// A route in words: `0.0.0.0/0 -> NatGateway`.
    pub fn route_text(&self, route: &Route) -> String {
        let to = match &route.to {
            To::Range(range) => range_text(range),
            To::List(list) => {
                self.lists.get(*list).map_or_else(|| "a prefix list".to_owned(), |one| one.name.clone())
            }
            To::Service(service) => format!("addresses of {service}"),
        };
        let hop = match &route.hop {
            Hop::Inside => "the VPC itself",
            Hop::Elsewhere(name) | Hop::InternetGateway(name) | Hop::Peer { name, .. } => name,
            Hop::Nat(gateway) => &self.gateways[*gateway].name,
            Hop::Egress(gateway) => &self.egress_gateways[*gateway],
            Hop::Service(endpoint) => &self.endpoints[*endpoint].name,
            Hop::Blackhole(why) => why,
        };
        format!("{to} -> {hop}")
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Subnet => "subnet",
            Self::GroupOut => "security group",
            Self::Acl => "network ACL",
            Self::Route => "route table",
            Self::Interface => "interface",
            Self::Nat => "NAT gateway",
            Self::GroupIn => "security group",
            Self::End => "destination",
        })
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.ports;
        match self.protocol {
            None => formatter.write_str("all traffic"),
            Some(protocol) => {
                formatter.write_str(&protocol_text(protocol))?;
                match protocol {
                    TCP | UDP if first < 0 || (first, last) == (0, i32::from(u16::MAX)) => Ok(()),
                    TCP | UDP if first == last => write!(formatter, " {first}"),
                    TCP | UDP => write!(formatter, " {first}-{last}"),
                    ICMP | ICMPV6 if first >= 0 && last >= 0 => {
                        write!(formatter, " type {first} code {last}")
                    }
                    ICMP | ICMPV6 if first >= 0 => write!(formatter, " type {first}"),
                    _ => Ok(()),
                }
            }
        }
    }
}

pub(super) fn protocol_text(protocol: u8) -> String {
    match protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        ICMP => "icmp".to_owned(),
        ICMPV6 => "icmpv6".to_owned(),
        other => format!("protocol {other}"),
    }
}

pub(super) fn traffic_text(protocol: u8, port: u16) -> String {
    match protocol {
        TCP | UDP => format!("{} {port}", protocol_text(protocol)),
        ICMP | ICMPV6 => {
            let [kind, code] = port.to_be_bytes();
            format!("{} type {kind} code {code}", protocol_text(protocol))
        }
        _ => protocol_text(protocol),
    }
}

pub(super) fn range_text(range: &AnyCidr) -> String {
    match range {
        AnyCidr::Ipv4(range) => range.to_string(),
        AnyCidr::Ipv6(range) => range.to_string(),
    }
}
