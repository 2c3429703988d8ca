//! Network ACLs.

use super::{Builder, Item, choice};
use crate::problem::{Problem, quoted};
use model::stack::{
    AnyCidr, Cidr, Cidr6, NetworkAcl, NetworkAclAssociation, NetworkAclEntry, Place, TransportProtocol,
};

/// Entries of one direction: what an account has without asking, and at most (VPC User Guide, "Network ACL quotas").
const ENTRIES: usize = 20;
const MAX_ENTRIES: usize = 40;
/// Numbers that entries may have; 32,767 is that of the denial at the end.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=32_766;

impl Builder<'_, '_> {
    pub(super) fn network_acl(&mut self, item: &Item<'_>) {
        let vpc = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true);
        self.stack.network_acls.extend(vpc.map(|vpc| NetworkAcl {
            id: item.id.to_owned(),
            place: item.place(),
            network_acl_id: item.reference.to_owned(),
            vpc,
            entries: Vec::new(),
        }));
    }

    pub(super) fn network_acl_association(&mut self, item: &Item<'_>) {
        let subnet = self.link(&item.fields, "SubnetId", "AWS::EC2::Subnet", true);
        let acl = self.link(&item.fields, "NetworkAclId", "AWS::EC2::NetworkAcl", true);
        self.stack.network_acl_associations.extend(subnet.zip(acl).map(|(subnet, network_acl)| {
            NetworkAclAssociation { id: item.id.to_owned(), place: item.place(), subnet, network_acl }
        }));
    }

    /// Puts an entry into its ACL.
    pub(super) fn network_acl_entry(&mut self, item: &Item<'_>) {
        let Some(acl) = self.link(&item.fields, "NetworkAclId", "AWS::EC2::NetworkAcl", true) else { return };
        let Some(entry) = self.acl_entry(item) else { return };
        let Some(found) = self.stack.network_acls.iter_mut().find(|found| Some(&*found.id) == acl.logical())
        else {
            let message = format!("the network ACL {} is not of this template", quoted(acl.as_str()));
            self.warnings.push(Problem::at(item.span, message).help("the entry has no effect here"));
            return;
        };
        let same = |other: &&NetworkAclEntry| other.number == entry.number && other.egress == entry.egress;
        if let Some(other) = found.entries.iter().find(same) {
            let owner = if other.id.is_empty() { "the VPC's own" } else { &other.id };
            let message =
                format!("The network acl entry identified by {} already exists: {owner}", entry.number);
            self.problems.push(Problem::at(item.span, message).help("give it a RuleNumber of its own"));
            return;
        }
        found.entries.push(entry);
    }

    fn acl_entry(&mut self, item: &Item<'_>) -> Option<NetworkAclEntry> {
        let fields = &item.fields;
        fields.require("RuleNumber", &mut self.problems)?;
        let number = fields.number("RuleNumber", "", NUMBERS, &mut self.problems)?;
        const ACTIONS: &[(&str, bool)] = &[("allow", true), ("deny", false)];
        let allow = choice(fields.require("RuleAction", &mut self.problems)?, ACTIONS, &mut self.problems)?;
        let protocol = fields.require("Protocol", &mut self.problems)?;
        let protocol = match protocol.integer("Protocol", -1..=255, &mut self.problems)? {
            -1 => TransportProtocol::All,
            1 => TransportProtocol::Icmp,
            6 => TransportProtocol::Tcp,
            17 => TransportProtocol::Udp,
            58 => TransportProtocol::Icmpv6,
            other => TransportProtocol::Number(u8::try_from(other).ok()?),
        };
        let range = if let Some(node) = fields.get("Ipv6CidrBlock") {
            AnyCidr::Ipv6(self.range6(node)?)
        } else {
            let node = fields.require("CidrBlock", &mut self.problems)?;
            AnyCidr::Ipv4(self.range(node)?)
        };
        let is_icmp = matches!(protocol, TransportProtocol::Icmp | TransportProtocol::Icmpv6);
        let has_ports = matches!(protocol, TransportProtocol::Tcp | TransportProtocol::Udp);
        let (key, first, last) = if is_icmp { ("Icmp", "Type", "Code") } else { ("PortRange", "From", "To") };
        let inner = (is_icmp || has_ports).then(|| fields.inner(key, &mut self.problems)).flatten();
        if has_ports && inner.is_none() {
            fields.require(key, &mut self.problems)?;
        }
        let (mut from_port, mut to_port) = (-1, -1);
        if let Some(inner) = inner {
            let mut number = |name: &str| {
                let node = if has_ports { inner.require(name, &mut self.problems) } else { inner.get(name) };
                let range = if has_ports { 0..=65_535 } else { -1..=255 };
                node.and_then(|node| node.integer(name, range, &mut self.problems))
                    .and_then(|number| i32::try_from(number).ok())
            };
            (from_port, to_port) = (number(first).unwrap_or(-1), number(last).unwrap_or(-1));
            if has_ports && from_port > to_port {
                let message = format!("the ports run from {from_port} down to {to_port}");
                self.problems.push(Problem::at(inner.span, message));
            }
        }
        Some(NetworkAclEntry {
            id: item.id.to_owned(),
            place: item.place(),
            number: u16::try_from(number).ok()?,
            egress: fields.boolean("Egress", false, &mut self.problems),
            allow,
            protocol,
            range,
            from_port,
            to_port,
        })
    }

    /// No ACL has more entries than it may.
    pub(super) fn check_network_acls(&mut self) {
        for acl in &self.stack.network_acls {
            for (egress, way) in [(false, "inbound"), (true, "outbound")] {
                let count = acl.entries.iter().filter(|entry| entry.egress == egress).count();
                let message = format!("{} has {count} {way} entries", quoted(&acl.id));
                let problem = Problem::at(super::span(acl.place), message);
                if count > MAX_ENTRIES {
                    let help =
                        format!("The maximum number of network acl entries has been reached: {MAX_ENTRIES}");
                    self.problems.push(problem.help(help));
                } else if count > ENTRIES {
                    let help = format!("more than {ENTRIES} need a quota that AWS raised");
                    self.warnings.push(problem.help(help));
                }
            }
        }
    }
}

/// The network ACL that a VPC has by itself: it lets everything through.
pub(super) fn default_acl(vpc: &str, network_acl_id: String, place: Place) -> NetworkAcl {
    let entry = |number: u16, egress: bool, range: AnyCidr| NetworkAclEntry {
        id: String::new(),
        place,
        number,
        egress,
        allow: true,
        protocol: TransportProtocol::All,
        range,
        from_port: -1,
        to_port: -1,
    };
    let both = |egress: bool| {
        [entry(100, egress, AnyCidr::Ipv4(Cidr::ANY)), entry(101, egress, AnyCidr::Ipv6(Cidr6::ANY))]
    };
    NetworkAcl {
        id: default_acl_id(vpc),
        place,
        network_acl_id,
        vpc: model::stack::Link::Logical(vpc.to_owned()),
        entries: both(false).into_iter().chain(both(true)).collect(),
    }
}

/// The id of a VPC's own network ACL.
pub(super) fn default_acl_id(vpc: &str) -> String {
    format!("{vpc}.DefaultNetworkAcl")
}
