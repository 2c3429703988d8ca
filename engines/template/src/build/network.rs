//! The VPC types.

use super::acl::default_acl;
use super::links::default_group;
use super::security_group::allow_all;
use super::{Builder, Item};
use crate::identity::Attribute;
use crate::problem::{Problem, quoted};
use crate::yaml::Node;
use model::stack::{
    Address, BadRange, Cidr, Cidr6, ElasticIp, InternetGateway, Link, Peer, Range, RouteTable,
    RouteTableAssociation, SecurityGroup, Subnet, Vpc,
};
use std::collections::BTreeMap;

/// Prefix lengths that VPCs and subnets may have (VPC User Guide, "VPC CIDR blocks").
const VPC_PREFIXES: std::ops::RangeInclusive<u8> = 16..=28;

impl Builder<'_, '_> {
    /// Builds a resource of a network type; false when it is none.
    pub(super) fn network(&mut self, item: &Item<'_>) -> bool {
        match item.kind {
            "AWS::EC2::VPC" => self.vpc(item),
            "AWS::EC2::Subnet" => self.subnet(item),
            "AWS::EC2::RouteTable" => {
                let vpc = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true);
                self.stack.route_tables.extend(vpc.map(|vpc| RouteTable {
                    id: item.id.to_owned(),
                    place: item.place(),
                    route_table_id: item.reference.to_owned(),
                    vpc,
                }));
            }
            "AWS::EC2::Route" => self.route(item),
            "AWS::EC2::SubnetRouteTableAssociation" => {
                let subnet = self.link(&item.fields, "SubnetId", "AWS::EC2::Subnet", true);
                let table = self.link(&item.fields, "RouteTableId", "AWS::EC2::RouteTable", true);
                self.stack.route_table_associations.extend(subnet.zip(table).map(|(subnet, route_table)| {
                    RouteTableAssociation { id: item.id.to_owned(), place: item.place(), subnet, route_table }
                }));
            }
            "AWS::EC2::InternetGateway" => self.stack.internet_gateways.push(InternetGateway {
                id: item.id.to_owned(),
                place: item.place(),
                internet_gateway_id: item.reference.to_owned(),
                vpc: None,
                attachment: None,
            }),
            "AWS::EC2::NatGateway" => self.nat_gateway(item),
            "AWS::EC2::EIP" => {
                let identity = self.resolver.identity(item.index);
                self.stack.elastic_ips.push(ElasticIp {
                    id: item.id.to_owned(),
                    place: item.place(),
                    allocation_id: identity.allocation_id(),
                    public_ip: identity.public_ip(),
                });
            }
            "AWS::EC2::SecurityGroup" => self.security_group(item),
            "AWS::EC2::VPCEndpoint" => self.vpc_endpoint(item),
            "AWS::EC2::NetworkAcl" => self.network_acl(item),
            "AWS::EC2::SubnetNetworkAclAssociation" => self.network_acl_association(item),
            "AWS::EC2::EgressOnlyInternetGateway" => self.egress_only_gateway(item),
            "AWS::EC2::VPCPeeringConnection" => self.peering(item),
            "AWS::EC2::PrefixList" => self.prefix_list(item),
            "AWS::EC2::FlowLog" => self.flow_log(item),
            "AWS::Route53::HostedZone" => self.hosted_zone(item),
            // Joined to what they belong to once all are known.
            "AWS::EC2::VPCGatewayAttachment"
            | "AWS::EC2::VPCCidrBlock"
            | "AWS::EC2::NetworkAclEntry"
            | "AWS::EC2::SecurityGroupIngress"
            | "AWS::EC2::SecurityGroupEgress"
            | "AWS::Route53::RecordSet"
            | "AWS::Route53::RecordSetGroup" => {}
            _ => return false,
        }
        true
    }

    /// Joins attachments and standalone rules to what they are about.
    pub(super) fn join_network(&mut self, items: &[Item<'_>]) {
        let groups: BTreeMap<String, usize> =
            self.stack.security_groups.iter().enumerate().map(|(at, group)| (group.id.clone(), at)).collect();
        for item in items {
            match item.kind {
                "AWS::EC2::VPCCidrBlock" => self.vpc_cidr_block(item),
                "AWS::EC2::NetworkAclEntry" => self.network_acl_entry(item),
                "AWS::EC2::VPCGatewayAttachment" => {
                    let vpc = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true);
                    let gateway =
                        self.link(&item.fields, "InternetGatewayId", "AWS::EC2::InternetGateway", false);
                    let gateway = gateway.as_ref().and_then(Link::logical);
                    if let Some(found) =
                        self.stack.internet_gateways.iter_mut().find(|g| Some(g.id.as_str()) == gateway)
                    {
                        found.vpc = vpc;
                        found.attachment = Some(item.id.to_owned());
                    }
                }
                "AWS::EC2::SecurityGroupIngress" | "AWS::EC2::SecurityGroupEgress" => {
                    let ingress = item.kind.ends_with("Ingress");
                    let Some(group) = self.link(&item.fields, "GroupId", "AWS::EC2::SecurityGroup", true)
                    else {
                        continue;
                    };
                    let Some(rule) = self.rule(item.id, &item.fields, ingress) else { continue };
                    let Some(at) = group.logical().and_then(|id| groups.get(id)).copied() else {
                        let message =
                            format!("the security group {} is not of this template", quoted(group.as_str()));
                        self.warnings
                            .push(Problem::at(item.span, message).help("the rule has no effect here"));
                        continue;
                    };
                    let found = &mut self.stack.security_groups[at];
                    if ingress {
                        found.ingress.push(rule);
                    } else {
                        found.egress.push(rule);
                    }
                }
                _ => {}
            }
        }
        // EC2 lets a new group's members go anywhere, by IPv6, too, where its VPC has that; CloudFormation takes these rules away
        // when the template has egress rules of its own.
        let vpcs = &self.stack.vpcs;
        for group in self.stack.security_groups.iter_mut().filter(|group| group.egress.is_empty()) {
            group.egress.push(allow_all(Peer::Ipv4(Cidr::ANY), group.place));
            let own = group.vpc.as_ref().and_then(Link::logical);
            if vpcs.iter().any(|vpc| Some(&*vpc.id) == own && !vpc.ipv6_cidrs.is_empty()) {
                group.egress.push(allow_all(Peer::Ipv6(Cidr6::ANY), group.place));
            }
        }
        self.check_ranges(items);
        self.check_nat_gateways();
        self.check_internet_gateways();
        self.check_private_dns();
        self.check_network_acls();
        self.check_peerings();
        self.check_routes();
        self.check_rule_counts();
        self.check_rule_groups();
    }

    /// Subnets lie in their VPC and share no address.
    fn check_ranges(&mut self, items: &[Item<'_>]) {
        let vpcs: BTreeMap<&str, &Vpc> = self.stack.vpcs.iter().map(|vpc| (vpc.id.as_str(), vpc)).collect();
        let nodes: BTreeMap<&str, &Node> =
            items.iter().filter_map(|item| Some((item.id, item.fields.get("CidrBlock")?))).collect();
        let mut problems = Vec::new();
        let mut by_range: Vec<&Subnet> = self.stack.subnets.iter().collect();
        by_range.sort_by_key(|subnet| (subnet.vpc.as_str(), subnet.cidr));
        // Ranges are nested or apart, so in this order whatever overlaps one lies right before it or around that.
        let mut around: Option<&Subnet> = None;
        for subnet in by_range {
            let Some(span) = nodes.get(subnet.id.as_str()).map(|node| node.span) else { continue };
            let vpc = subnet.vpc.logical().and_then(|id| Some((id, vpcs.get(id)?)));
            let lies = |vpc: &Vpc| {
                vpc.cidr.covers(subnet.cidr) || vpc.more_cidrs.iter().any(|range| range.covers(subnet.cidr))
            };
            if let Some((id, vpc)) = vpc.filter(|(_, vpc)| !lies(vpc)) {
                let problem = Problem::at(
                    span,
                    format!("{} does not lie in {}, the range of {id}", subnet.cidr, vpc.cidr),
                );
                problems.push(problem.help(format!("AWS says: The CIDR '{}' is invalid.", subnet.cidr)));
            }
            match around.filter(|other| other.vpc == subnet.vpc && other.cidr.overlaps(subnet.cidr)) {
                Some(other) => {
                    let message =
                        format!("{} overlaps {}, the range of {}", subnet.cidr, other.cidr, other.id);
                    let help = format!("AWS says: The CIDR '{}' conflicts with another subnet", subnet.cidr);
                    problems.push(Problem::at(span, message).help(help));
                }
                None => around = Some(subnet),
            }
        }
        problems.into_iter().for_each(|problem| self.problems.push(problem));
    }

    fn vpc(&mut self, item: &Item<'_>) {
        let node = item.fields.get("CidrBlock");
        if node.is_none() && item.fields.get("Ipv4IpamPoolId").is_some() {
            let message = "addresses from an IPAM pool are not known here";
            self.problems.push(Problem::at(item.span, message).help("give CidrBlock"));
            return;
        }
        let Some(node) = item.fields.require("CidrBlock", &mut self.problems) else { return };
        let Some(cidr) = self.block(node) else { return };
        let place = item.place();
        self.stack.vpcs.push(Vpc {
            id: item.id.to_owned(),
            place,
            vpc_id: item.reference.to_owned(),
            cidr,
            more_cidrs: Vec::new(),
            ipv6_cidrs: Vec::new(),
            dns_support: item.fields.boolean("EnableDnsSupport", true, &mut self.problems),
            dns_hostnames: item.fields.boolean("EnableDnsHostnames", false, &mut self.problems),
        });
        let own_acl = self.resolver.identity(item.index).default_network_acl();
        self.stack.network_acls.push(default_acl(item.id, own_acl, place));
        let Attribute::Text(group_id) = self.resolver.identity(item.index).attribute("DefaultSecurityGroup")
        else {
            return;
        };
        let id = default_group(item.id);
        self.stack.security_groups.push(SecurityGroup {
            ingress: vec![allow_all(Peer::SecurityGroup(Link::Logical(id.clone())), place)],
            egress: Vec::new(),
            id,
            place,
            group_id,
            name: "default".into(),
            description: "default VPC security group".into(),
            vpc: Some(Link::Logical(item.id.to_owned())),
        });
    }

    fn subnet(&mut self, item: &Item<'_>) {
        let vpc = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true);
        let Some(node) = item.fields.require("CidrBlock", &mut self.problems) else { return };
        let (Some(vpc), Some(cidr)) = (vpc, self.block(node)) else { return };
        let ipv6_cidr = item.fields.get("Ipv6CidrBlock").and_then(|node| self.range6(node));
        self.stack.subnets.push(Subnet {
            id: item.id.to_owned(),
            place: item.place(),
            subnet_id: item.reference.to_owned(),
            vpc,
            cidr,
            ipv6_cidr,
            availability_zone: self.resolver.identity(item.index).zone(),
            map_public_ip: item.fields.boolean("MapPublicIpOnLaunch", false, &mut self.problems),
            dns64: item.fields.boolean("EnableDns64", false, &mut self.problems),
        });
    }

    /// The range of a VPC or subnet.
    pub(super) fn block(&mut self, node: &Node) -> Option<Cidr> {
        let cidr = self.range(node)?;
        if !VPC_PREFIXES.contains(&cidr.prefix()) {
            let message = format!("{cidr} is not a /16 to /28, which VPCs and subnets must be");
            self.problems.push(Problem::at(node.span, message));
            return None;
        }
        Some(cidr)
    }

    /// An IPv6 range.
    pub(super) fn range6(&mut self, node: &Node) -> Option<Cidr6> {
        self.canonical(node)
    }

    /// An IPv4 range.
    pub(super) fn range(&mut self, node: &Node) -> Option<Cidr> {
        self.canonical(node)
    }

    /// A range. Bits behind the prefix are left out, as by EC2 (API reference, "CreateVpc", `CidrBlock`: "We modify the
    /// specified CIDR block to its canonical form"), and said.
    fn canonical<A: Address>(&mut self, node: &Node) -> Option<Range<A>> {
        let text = node.string(&mut self.problems)?;
        match text.parse() {
            Ok(range) => Some(range),
            Err(BadRange::HostBits(meant)) => {
                let message = format!("{text} has bits behind its prefix: it is {meant}, as at AWS");
                self.warnings.push(Problem::at(node.span, message));
                Some(meant)
            }
            Err(bad) => {
                self.problems.push(Problem::at(node.span, bad.to_string()));
                None
            }
        }
    }
}
