//! Which traffic security groups and network ACLs speak of.
//!
//! Sources: VPC User Guide, "Security group rules" (allow-lists; all groups of an interface together; stateful, so that
//! answers need no rule) and "Network ACL rules" (stateless; the lowest number that fits decides, the rest is denied).

use super::path::FlowKey;
use model::stack::{AnyCidr, Cidr, Cidr6, NetworkAclEntry, SecurityGroupRule, TransportProtocol};
use std::net::IpAddr;

/// TCP's number among IP protocols.
pub const TCP: u8 = 6;
/// UDP's.
pub const UDP: u8 = 17;
/// ICMP's.
pub const ICMP: u8 = 1;
/// ICMP's for IPv6.
pub const ICMPV6: u8 = 58;

/// A security group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its logical id or, from outside the template, its id.
    pub name: String,
    /// Where its members may go.
    pub egress: Vec<Rule>,
    /// Who may come to its members.
    pub ingress: Vec<Rule>,
    /// It is, or was, of the template.
    pub listed: bool,
    /// It is of the template no more; who has it keeps its rules.
    pub gone: bool,
}

/// One rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its logical id; empty when it stands inside its group.
    pub name: String,
    /// What it speaks of.
    pub traffic: Traffic,
    /// Whom it lets through.
    pub peer: RulePeer,
}

/// A protocol and its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The IP protocol's number; all without.
    pub protocol: Option<u8>,
    /// First and last port, or ICMP type and code; -1 is any.
    pub ports: (i32, i32),
}

/// Whom a rule lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulePeer {
    /// IPv4 addresses.
    Range(Cidr),
    /// IPv6 addresses.
    Range6(Cidr6),
    /// Members of the group with this index.
    Group(usize),
    /// What the prefix list with this index names.
    List(usize),
    /// What gateway endpoints lead to: a prefix list of AWS that the template does not spell out.
    Services,
}

/// A network ACL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Its logical id.
    pub name: String,
    /// Its entries in the order of their numbers.
    pub entries: Vec<AclEntry>,
}

/// One entry of a network ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// Its number.
    pub number: u16,
    /// Whether it is about what leaves the subnet.
    pub egress: bool,
    /// Whether it lets through.
    pub allow: bool,
    /// What it speaks of.
    pub traffic: Traffic,
    /// The other side.
    pub range: AnyCidr,
}

impl Traffic {
    /// Everything.
    pub const ALL: Self = Self { protocol: None, ports: (-1, -1) };

    /// TCP to these ports.
    pub const fn tcp(first: u16, last: u16) -> Self {
        Self { protocol: Some(TCP), ports: (first as i32, last as i32) }
    }

    /// What a template says.
    pub fn of(protocol: TransportProtocol, from: i32, to: i32) -> Self {
        let protocol = match protocol {
            TransportProtocol::All => None,
            TransportProtocol::Tcp => Some(TCP),
            TransportProtocol::Udp => Some(UDP),
            TransportProtocol::Icmp => Some(ICMP),
            TransportProtocol::Icmpv6 => Some(ICMPV6),
            TransportProtocol::Number(number) => Some(number),
        };
        Self { protocol, ports: (from, to) }
    }

    /// Whether it speaks of a protocol and port; of ICMP, `port` is type << 8 | code. Ports count for TCP, UDP and ICMP only
    /// (EC2 API reference, IpPermission: other protocols are let through with all of theirs).
    pub fn covers(&self, protocol: u8, port: u16) -> bool {
        if self.protocol.is_some_and(|own| own != protocol) {
            return false;
        }
        let (first, last) = self.ports;
        match self.protocol {
            Some(TCP | UDP) => first < 0 || (first..=last).contains(&i32::from(port)),
            Some(ICMP | ICMPV6) => {
                let [kind, code] = port.to_be_bytes().map(i32::from);
                first < 0 || first == kind && (last < 0 || last == code)
            }
            _ => true,
        }
    }
}

impl Rule {
    /// Every port of everyone by IPv4.
    pub const fn everything() -> Self {
        Self { name: String::new(), traffic: Traffic::ALL, peer: RulePeer::Range(Cidr::ANY) }
    }

    /// What a template says; `peer` is already found.
    pub(super) fn of(rule: &SecurityGroupRule, peer: RulePeer) -> Self {
        let traffic = Traffic::of(rule.protocol, rule.from_port, rule.to_port);
        Self { name: rule.id.clone(), traffic, peer }
    }
}

impl Group {
    /// One that lets everything out and in.
    pub fn open(name: &str) -> Self {
        let both =
            || vec![Rule::everything(), Rule { peer: RulePeer::Range6(Cidr6::ANY), ..Rule::everything() }];
        Self { name: name.to_owned(), egress: both(), ingress: both(), ..Self::default() }
    }
}

impl AclEntry {
    /// What a template says.
    pub(super) fn of(entry: &NetworkAclEntry) -> Self {
        Self {
            number: entry.number,
            egress: entry.egress,
            allow: entry.allow,
            traffic: Traffic::of(entry.protocol, entry.from_port, entry.to_port),
            range: entry.range,
        }
    }
}

impl Acl {
    /// The entry that decides about traffic with `other`; none where what no entry speaks of is denied.
    pub fn decides(&self, egress: bool, other: IpAddr, protocol: u8, port: u16) -> Option<&AclEntry> {
        let speaks = |entry: &&AclEntry| {
            entry.egress == egress && within(&entry.range, other) && entry.traffic.covers(protocol, port)
        };
        self.entries.iter().find(speaks)
    }
}

/// Whether an address lies in a range.
pub(super) fn within(range: &AnyCidr, address: IpAddr) -> bool {
    match (range, address) {
        (AnyCidr::Ipv4(range), IpAddr::V4(address)) => range.contains(address),
        (AnyCidr::Ipv6(range), IpAddr::V6(address)) => range.contains(address),
        _ => false,
    }
}

/// What a flow of IPv6 is as one of IPv4; of ICMP, echo requests alone.
pub(super) fn as_ipv4(flow: &FlowKey) -> FlowKey {
    const ECHO: u16 = 8 << 8;
    match flow.protocol {
        ICMPV6 => FlowKey { protocol: ICMP, port: ECHO, ..*flow },
        _ => *flow,
    }
}

/// The port by which an answer comes back: the sender's own; of ICMP, the answer's type and code.
pub(super) fn answer_port(flow: &FlowKey) -> u16 {
    const ECHO_REPLY: u16 = 0;
    const ECHO_REPLY_V6: u16 = 129 << 8;
    match flow.protocol {
        ICMP => ECHO_REPLY,
        ICMPV6 => ECHO_REPLY_V6,
        _ => flow.from_port,
    }
}
