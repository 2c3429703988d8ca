//! Security groups and their rules.

use super::{Builder, Fields, Item, place};
use crate::problem::Problem;
use model::stack::{Peer, Place, SecurityGroup, SecurityGroupRule, TransportProtocol};

/// Rules of a group in one direction and for one kind of addresses (VPC User Guide, "Security groups" quotas).
const RULES: u32 = 60;

impl Builder<'_, '_> {
    pub(super) fn security_group(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        fields.require("GroupDescription", &mut self.problems);
        let mut sides = [Vec::new(), Vec::new()];
        for (side, key) in sides.iter_mut().zip(["SecurityGroupIngress", "SecurityGroupEgress"]) {
            // A single rule may stand without a list.
            let rules = match fields.get(key) {
                Some(node) if node.as_mapping().is_some() => {
                    fields.inner(key, &mut self.problems).into_iter().collect()
                }
                _ => fields.inners(key, &mut self.problems),
            };
            for rule in rules {
                side.extend(self.rule("", &rule, key.ends_with("Ingress")));
            }
        }
        let [ingress, egress] = sides;
        let vpc = self.link(fields, "VpcId", "AWS::EC2::VPC", false);
        self.stack.security_groups.push(SecurityGroup {
            id: item.id.to_owned(),
            place: item.place(),
            group_id: item.reference.to_owned(),
            name: self.resolver.identity(item.index).name(),
            description: fields.string("GroupDescription", &mut self.problems).unwrap_or_default(),
            vpc,
            ingress,
            egress,
        });
    }

    /// A group has no more rules of a direction and kind of address than accounts have without asking.
    pub(super) fn check_rule_counts(&mut self) {
        let lists = &self.stack.prefix_lists;
        let weight = |rule: &SecurityGroupRule, ipv6: bool| match &rule.peer {
            Peer::Ipv4(_) => u32::from(!ipv6),
            Peer::Ipv6(_) => u32::from(ipv6),
            // Counts as what it may come to hold.
            Peer::PrefixList(id) => {
                lists.iter().find(|list| list.prefix_list_id == *id).map_or(1, |list| list.max_entries)
            }
            Peer::SecurityGroup(_) => 1,
        };
        for group in &self.stack.security_groups {
            for (rules, way) in [(&group.ingress, "inbound"), (&group.egress, "outbound")] {
                for (index, rule) in rules.iter().enumerate().take(RULES as usize) {
                    let same = |other: &SecurityGroupRule| {
                        (other.protocol, other.from_port, other.to_port)
                            == (rule.protocol, rule.from_port, rule.to_port)
                            && other.peer == rule.peer
                    };
                    if rules[..index].iter().any(same) {
                        let message = format!("{} has the same {way} rule twice", group.id);
                        let help =
                            "AWS says: the specified rule already exists (InvalidPermission.Duplicate)";
                        self.warnings.push(Problem::at(super::span(rule.place), message).help(help));
                    }
                }
                let count = |ipv6: bool| rules.iter().map(|rule| weight(rule, ipv6)).sum::<u32>();
                let most = count(false).max(count(true));
                if most > RULES {
                    let message = format!("{} has {most} {way} rules", group.id);
                    let help = format!(
                        "The maximum number of rules per security group has been reached: {RULES}, unless AWS raised it"
                    );
                    self.warnings.push(Problem::at(super::span(group.place), message).help(help));
                }
            }
        }
    }

    /// A group is known in its own VPC and that one's peers alone. Where the template has transit gateways, these may carry
    /// groups, too.
    pub(super) fn check_rule_groups(&mut self) {
        let stack = &self.stack;
        if stack.types.values().any(|kind| kind.starts_with("AWS::EC2::TransitGateway")) {
            return;
        }
        let is_peering = |one: &str, other: &str| {
            stack.peerings.iter().any(|found| {
                let ends = (found.vpc.logical(), found.peer_vpc.logical());
                ends == (Some(one), Some(other)) || ends == (Some(other), Some(one))
            })
        };
        let vpc_of = |group: &SecurityGroup| group.vpc.as_ref()?.logical().map(str::to_owned);
        let mut warnings = Vec::new();
        for group in &stack.security_groups {
            let Some(own) = vpc_of(group) else { continue };
            for rule in group.ingress.iter().chain(&group.egress) {
                let Peer::SecurityGroup(link) = &rule.peer else { continue };
                let Some(other) = link.logical().and_then(|id| stack.security_group(id)) else { continue };
                let Some(theirs) = vpc_of(other).filter(|theirs| *theirs != own) else { continue };
                if !is_peering(&own, &theirs) {
                    let message = format!(
                        "a rule of {} in {own} names {}, a group of {theirs}, and no peering connection joins the two",
                        group.id, other.id
                    );
                    let help = "AWS says: You have specified two resources that belong to different networks \
                                (InvalidGroup.NotFound)";
                    warnings.push(Problem::at(super::span(rule.place), message).help(help));
                }
            }
        }
        warnings.into_iter().for_each(|warning| self.warnings.push(warning));
    }

    pub(super) fn rule(&mut self, id: &str, fields: &Fields<'_>, ingress: bool) -> Option<SecurityGroupRule> {
        let node = fields.require("IpProtocol", &mut self.problems)?;
        let protocol = match node.string(&mut self.problems)?.to_ascii_lowercase().as_str() {
            "-1" | "all" => TransportProtocol::All,
            "tcp" | "6" => TransportProtocol::Tcp,
            "udp" | "17" => TransportProtocol::Udp,
            "icmp" | "1" => TransportProtocol::Icmp,
            "icmpv6" | "58" => TransportProtocol::Icmpv6,
            other => match other.parse() {
                Ok(number) => TransportProtocol::Number(number),
                Err(_) => {
                    self.problems.push(Problem::wrong_type(
                        node,
                        "a protocol: tcp, udp, icmp, a number, or -1 for all",
                    ));
                    return None;
                }
            },
        };
        let has_ports = matches!(protocol, TransportProtocol::Tcp | TransportProtocol::Udp);
        let mut port = |key: &str| {
            let node = if has_ports { fields.require(key, &mut self.problems) } else { fields.get(key) };
            node.and_then(|node| node.integer(key, -1..=65535, &mut self.problems))
                .and_then(|port| i32::try_from(port).ok())
        };
        let (from, to) = (port("FromPort"), port("ToPort"));
        let (from_port, to_port) = match (from, to) {
            (Some(from), Some(to)) => (from, to),
            _ if has_ports => return None,
            (from, to) => (from.unwrap_or(-1), to.unwrap_or(-1)),
        };
        if has_ports && from_port > to_port {
            let message = format!("the ports run from {from_port} down to {to_port}");
            self.problems.push(Problem::at(fields.span, message));
        }
        let (group, name, list) = if ingress {
            ("SourceSecurityGroupId", "SourceSecurityGroupName", "SourcePrefixListId")
        } else {
            ("DestinationSecurityGroupId", "DestinationSecurityGroupName", "DestinationPrefixListId")
        };
        let peers = ["CidrIp", "CidrIpv6", group, name, list];
        let mut given = peers.iter().filter(|key| fields.get(key).is_some());
        if let (Some(counts), Some(other)) = (given.next(), given.next()) {
            let message = format!("the rule names two peers, of which {counts} counts and {other} does not");
            self.warnings
                .push(Problem::at(fields.span, message).help("AWS takes exactly one: make it two rules"));
        }
        let peer = if let Some(node) = fields.get("CidrIp") {
            Peer::Ipv4(self.range(node)?)
        } else if let Some(node) = fields.get("CidrIpv6") {
            Peer::Ipv6(self.range6(node)?)
        } else if let Some(link) = self.link(fields, group, "AWS::EC2::SecurityGroup", false) {
            Peer::SecurityGroup(link)
        } else if let Some(link) = self.link(fields, name, "AWS::EC2::SecurityGroup", false) {
            Peer::SecurityGroup(link)
        } else if let Some(list) = fields.string(list, &mut self.problems) {
            Peer::PrefixList(list)
        } else {
            let problem = Problem::at(fields.span, "the rule lets nobody through: it names no peer");
            self.problems.push(problem.help(format!("give CidrIp or {group}")));
            return None;
        };
        Some(SecurityGroupRule {
            id: id.to_owned(),
            place: place(fields.span),
            protocol,
            from_port,
            to_port,
            peer,
            description: fields.string("Description", &mut self.problems).unwrap_or_default(),
        })
    }
}

/// A rule for every protocol and port.
pub(super) fn allow_all(peer: Peer, place: Place) -> SecurityGroupRule {
    SecurityGroupRule {
        id: String::new(),
        place,
        protocol: TransportProtocol::All,
        from_port: -1,
        to_port: -1,
        peer,
        description: String::new(),
    }
}
