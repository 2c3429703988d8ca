//! Further ranges of VPCs, what joins VPCs, and prefix lists.

use super::{Builder, Item};
use crate::problem::Problem;
use crate::yaml::Node;
use model::stack::{AnyCidr, Cidr, EgressOnlyInternetGateway, Link, PrefixList, VpcPeeringConnection};

/// Entries of a prefix list at most (VPC User Guide, "Managed prefix lists quotas").
const MAX_PREFIXES: u32 = 1_000;

impl Builder<'_, '_> {
    /// Puts a further range into its VPC.
    pub(super) fn vpc_cidr_block(&mut self, item: &Item<'_>) {
        let Some(vpc) = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true) else { return };
        let fields = &item.fields;
        let provided = fields.boolean("AmazonProvidedIpv6CidrBlock", false, &mut self.problems);
        let range = if let Some(node) = fields.get("CidrBlock") {
            self.block(node).map(AnyCidr::Ipv4)
        } else if let Some(node) = fields.get("Ipv6CidrBlock") {
            self.range6(node).map(AnyCidr::Ipv6)
        } else if provided {
            self.provided_block(&vpc).map(AnyCidr::Ipv6)
        } else {
            fields.require("CidrBlock", &mut self.problems);
            None
        };
        let Some(range) = range else { return };
        let clash = match range {
            AnyCidr::Ipv4(range) => self.stack.vpcs.iter().find_map(|other| {
                let mut ranges = std::iter::once(&other.cidr).chain(&other.more_cidrs);
                ranges.find(|known| Some(&*other.id) == vpc.logical() && known.overlaps(range)).copied()
            }),
            AnyCidr::Ipv6(_) => None,
        };
        if let (Some(known), AnyCidr::Ipv4(range)) = (clash, range) {
            let message = format!("the range {range} overlaps {known}, which the VPC has already");
            self.problems.push(Problem::at(item.span, message));
            return;
        }
        if let Some(found) = self.stack.vpcs.iter_mut().find(|found| Some(&*found.id) == vpc.logical()) {
            match range {
                AnyCidr::Ipv4(range) => found.more_cidrs.push(range),
                AnyCidr::Ipv6(range) => found.ipv6_cidrs.push(range),
            }
        }
    }

    /// The IPv6 range that Amazon provides for a VPC of the template.
    fn provided_block(&self, vpc: &Link) -> Option<model::stack::Cidr6> {
        let id = vpc.logical()?;
        let index = self.resolver.resources.iter().position(|resource| resource.id == id)?;
        Some(self.resolver.identity(index).ipv6_block())
    }

    pub(super) fn egress_only_gateway(&mut self, item: &Item<'_>) {
        let vpc = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true);
        self.stack.egress_only_gateways.extend(vpc.map(|vpc| EgressOnlyInternetGateway {
            id: item.id.to_owned(),
            place: item.place(),
            gateway_id: item.reference.to_owned(),
            vpc,
        }));
    }

    pub(super) fn peering(&mut self, item: &Item<'_>) {
        let vpc = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true);
        let peer = self.link(&item.fields, "PeerVpcId", "AWS::EC2::VPC", true);
        let peer_region = item.fields.string("PeerRegion", &mut self.problems);
        self.stack.peerings.extend(vpc.zip(peer).map(|(vpc, peer_vpc)| VpcPeeringConnection {
            id: item.id.to_owned(),
            place: item.place(),
            peering_id: item.reference.to_owned(),
            vpc,
            peer_vpc,
            peer_region: peer_region.filter(|region| *region != self.stack.region),
        }));
    }

    pub(super) fn prefix_list(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let family = fields.require("AddressFamily", &mut self.problems);
        let family = family.and_then(|node| node.one_of(&["IPv4", "IPv6"], &mut self.problems));
        fields.require("MaxEntries", &mut self.problems);
        let max = fields.number("MaxEntries", "", 1..=MAX_PREFIXES, &mut self.problems);
        let name = fields.string("PrefixListName", &mut self.problems).unwrap_or_default();
        let Some(family) = family else { return };
        let mut entries = Vec::new();
        for entry in fields.inners("Entries", &mut self.problems) {
            let Some(node) = entry.require("Cidr", &mut self.problems) else { continue };
            entries.extend(self.any_range(node, family == "IPv6"));
        }
        let max_entries = max.unwrap_or(MAX_PREFIXES);
        if entries.len() > max_entries as usize {
            let message =
                format!("the prefix list has {} entries, and MaxEntries is {max_entries}", entries.len());
            self.problems.push(Problem::at(item.span, message));
        }
        self.stack.prefix_lists.push(PrefixList {
            id: item.id.to_owned(),
            place: item.place(),
            prefix_list_id: item.reference.to_owned(),
            name,
            max_entries,
            entries,
        });
    }

    fn any_range(&mut self, node: &Node, ipv6: bool) -> Option<AnyCidr> {
        if ipv6 { self.range6(node).map(AnyCidr::Ipv6) } else { self.range(node).map(AnyCidr::Ipv4) }
    }

    /// Peers share no address.
    pub(super) fn check_peerings(&mut self) {
        let vpcs = &self.stack.vpcs;
        let ranges = |link: &Link| -> Vec<Cidr> {
            let found = vpcs.iter().find(|vpc| Some(&*vpc.id) == link.logical());
            found
                .iter()
                .flat_map(|vpc| std::iter::once(vpc.cidr).chain(vpc.more_cidrs.iter().copied()))
                .collect()
        };
        for peering in &self.stack.peerings {
            let theirs = ranges(&peering.peer_vpc);
            let both = ranges(&peering.vpc).into_iter();
            let clash = both.flat_map(|own| theirs.iter().map(move |other| (own, *other)));
            let clash = clash.into_iter().find(|(own, other)| own.overlaps(*other));
            if let Some((own, other)) = clash {
                let message = format!(
                    "{} of {} and {other} of {} overlap",
                    own,
                    peering.vpc.as_str(),
                    peering.peer_vpc.as_str()
                );
                let help = "the connection would fail at AWS: incorrect VPC-ID, Account ID, or overlapping CIDR range";
                self.problems.push(Problem::at(super::span(peering.place), message).help(help));
            }
        }
    }
}
