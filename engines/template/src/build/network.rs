//! The VPC types.

use super::links::default_group;
use super::{Builder, Fields, Item, choice, place};
use crate::identity::Attribute;
use crate::problem::{Problem, quoted};
use crate::yaml::Node;
use model::stack::{
    BadCidr, Cidr, Destination, ElasticIp, EndpointKind, InternetGateway, Link, NatGateway, Peer, Route,
    RouteTable, RouteTableAssociation, RouteTarget, SecurityGroup, SecurityGroupRule, Subnet,
    TransportProtocol, Vpc, VpcEndpoint,
};
use std::collections::BTreeMap;

/// Prefix lengths that VPCs and subnets may have (VPC User Guide, "VPC CIDR blocks").
const VPC_PREFIXES: std::ops::RangeInclusive<u8> = 16..=28;

/// Addresses of one NAT gateway: one primary and seven secondary ones (VPC User Guide, "NAT gateway basics").
const MAX_NAT_ADDRESSES: usize = 8;

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
            // Joined to their gateway or group once all are known.
            "AWS::EC2::VPCGatewayAttachment"
            | "AWS::EC2::SecurityGroupIngress"
            | "AWS::EC2::SecurityGroupEgress" => {}
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
                "AWS::EC2::VPCGatewayAttachment" => {
                    let vpc = self.link(&item.fields, "VpcId", "AWS::EC2::VPC", true);
                    let gateway =
                        self.link(&item.fields, "InternetGatewayId", "AWS::EC2::InternetGateway", false);
                    let gateway = gateway.as_ref().and_then(Link::logical);
                    if let Some(found) =
                        self.stack.internet_gateways.iter_mut().find(|g| Some(g.id.as_str()) == gateway)
                    {
                        found.vpc = vpc;
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
        // EC2 gives a new group one egress rule, all to anywhere; CloudFormation takes it away when the template has
        // egress rules of its own.
        for group in self.stack.security_groups.iter_mut().filter(|group| group.egress.is_empty()) {
            group.egress.push(allow_all(Peer::Ipv4(Cidr::ANY), group.place));
        }
        self.check_nat_gateways();
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
            dns_support: item.fields.boolean("EnableDnsSupport", true, &mut self.problems),
            dns_hostnames: item.fields.boolean("EnableDnsHostnames", false, &mut self.problems),
        });
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
        let around = self.stack.vpcs.iter().find(|known| Some(known.id.as_str()) == vpc.logical());
        if let Some(around) = around.filter(|around| !around.cidr.covers(cidr)) {
            let message = format!("{cidr} does not lie in {}, the range of {}", around.cidr, around.id);
            self.problems.push(Problem::at(node.span, message));
        }
        let taken = self.stack.subnets.iter().find(|known| known.cidr.overlaps(cidr) && known.vpc == vpc);
        if let Some(taken) = taken {
            let message = format!("{cidr} overlaps {}, the range of {}", taken.cidr, taken.id);
            self.problems.push(Problem::at(node.span, message));
        }
        self.stack.subnets.push(Subnet {
            id: item.id.to_owned(),
            place: item.place(),
            subnet_id: item.reference.to_owned(),
            vpc,
            cidr,
            availability_zone: self.resolver.identity(item.index).zone(),
            map_public_ip: item.fields.boolean("MapPublicIpOnLaunch", false, &mut self.problems),
        });
    }

    fn route(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let Some(route_table) = self.link(fields, "RouteTableId", "AWS::EC2::RouteTable", true) else {
            return;
        };
        let destination = if let Some(node) = fields.get("DestinationCidrBlock") {
            self.range(node).map(Destination::Ipv4)
        } else if let Some(range) = fields.string("DestinationIpv6CidrBlock", &mut self.problems) {
            Some(Destination::Ipv6(range))
        } else if let Some(list) = fields.string("DestinationPrefixListId", &mut self.problems) {
            Some(Destination::PrefixList(list))
        } else {
            fields.require("DestinationCidrBlock", &mut self.problems);
            None
        };
        type Make = fn(Link) -> RouteTarget;
        const TARGETS: &[(&str, &str, Make)] = &[
            ("NatGatewayId", "AWS::EC2::NatGateway", RouteTarget::NatGateway),
            ("VpcEndpointId", "AWS::EC2::VPCEndpoint", RouteTarget::VpcEndpoint),
            ("NetworkInterfaceId", "AWS::EC2::NetworkInterface", RouteTarget::NetworkInterface),
            ("InstanceId", "AWS::EC2::Instance", RouteTarget::Instance),
            ("VpcPeeringConnectionId", "AWS::EC2::VPCPeeringConnection", RouteTarget::VpcPeering),
            ("TransitGatewayId", "AWS::EC2::TransitGateway", RouteTarget::TransitGateway),
            (
                "EgressOnlyInternetGatewayId",
                "AWS::EC2::EgressOnlyInternetGateway",
                RouteTarget::EgressOnlyInternetGateway,
            ),
            ("LocalGatewayId", "AWS::EC2::LocalGateway", RouteTarget::OtherGateway),
            ("CarrierGatewayId", "AWS::EC2::CarrierGateway", RouteTarget::OtherGateway),
        ];
        let mut target = None;
        if let Some(gateway) = self.link(fields, "GatewayId", "AWS::EC2::InternetGateway", false) {
            let is_endpoint = matches!(&gateway, Link::Literal(id) if id.starts_with("vgw-"));
            target = Some(if is_endpoint {
                RouteTarget::OtherGateway(gateway)
            } else {
                RouteTarget::InternetGateway(gateway)
            });
        }
        for (key, kind, make) in TARGETS {
            if let Some(link) = self.link(fields, key, kind, false) {
                target.get_or_insert_with(|| make(link));
            }
        }
        if target.is_none() {
            let problem = Problem::at(item.span, format!("the route {} leads nowhere", quoted(item.id)));
            self.problems.push(problem.help("give NatGatewayId, GatewayId or another target"));
        }
        self.stack.routes.extend(destination.zip(target).map(|(destination, target)| Route {
            id: item.id.to_owned(),
            place: item.place(),
            route_table,
            destination,
            target,
        }));
    }

    fn nat_gateway(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let regional = fields
            .get("AvailabilityMode")
            .and_then(|node| choice(node, &[("zonal", false), ("regional", true)], &mut self.problems));
        let regional = regional.unwrap_or(false);
        let public = fields
            .get("ConnectivityType")
            .and_then(|node| choice(node, &[("public", true), ("private", false)], &mut self.problems));
        let public = public.unwrap_or(true);
        let subnet = self.link(fields, "SubnetId", "AWS::EC2::Subnet", !regional);
        let vpc = self.link(fields, "VpcId", "AWS::EC2::VPC", regional);
        let mut addresses: Vec<Link> = Vec::new();
        addresses.extend(self.link(fields, "AllocationId", "AWS::EC2::EIP", public && !regional));
        addresses.extend(self.links_to(fields, "SecondaryAllocationIds", "AWS::EC2::EIP"));
        for zone in fields.inners("AvailabilityZoneAddresses", &mut self.problems) {
            addresses.extend(self.links_to(&zone, "AllocationIds", "AWS::EC2::EIP"));
        }
        let counted =
            fields.number("SecondaryPrivateIpAddressCount", "", 0..=31, &mut self.problems).unwrap_or(0);
        let listed = fields.items("SecondaryPrivateIpAddresses", &mut self.problems).len() as u32;
        if !regional && addresses.len() > MAX_NAT_ADDRESSES {
            let message =
                format!("a NAT gateway has at most {MAX_NAT_ADDRESSES} addresses, not {}", addresses.len());
            self.problems.push(Problem::at(item.span, message));
        }
        self.stack.nat_gateways.push(NatGateway {
            id: item.id.to_owned(),
            place: item.place(),
            nat_gateway_id: item.reference.to_owned(),
            subnet,
            vpc,
            public,
            regional,
            addresses,
            secondary_private_addresses: if public { 0 } else { counted.max(listed) },
        });
    }

    /// A public NAT gateway stands in a subnet that itself reaches the internet: a common slip.
    fn check_nat_gateways(&mut self) {
        for nat in self.stack.nat_gateways.iter().filter(|nat| nat.public && !nat.regional) {
            let Some(subnet) = nat.subnet.as_ref().and_then(Link::logical) else { continue };
            let table = self.stack.route_table_of(subnet);
            let leads_out = table.is_some_and(|table| {
                self.stack.routes_of(&table.id).any(|route| {
                    route.destination == Destination::Ipv4(Cidr::ANY)
                        && matches!(route.target, RouteTarget::InternetGateway(_))
                })
            });
            if !leads_out {
                let message = format!(
                    "the NAT gateway {} stands in a subnet without a way to the internet",
                    quoted(&nat.id)
                );
                let span = super::function::span(nat.place);
                let help = format!("give {subnet} a route of 0.0.0.0/0 to an internet gateway");
                self.warnings.push(Problem::at(span, message).help(help));
            }
        }
    }

    fn security_group(&mut self, item: &Item<'_>) {
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

    fn rule(&mut self, id: &str, fields: &Fields<'_>, ingress: bool) -> Option<SecurityGroupRule> {
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
        let peer = if let Some(node) = fields.get("CidrIp") {
            Peer::Ipv4(self.range(node)?)
        } else if let Some(range) = fields.string("CidrIpv6", &mut self.problems) {
            Peer::Ipv6(range)
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

    fn vpc_endpoint(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let vpc = self.link(fields, "VpcId", "AWS::EC2::VPC", true);
        let service = fields.require("ServiceName", &mut self.problems);
        let service = service.and_then(|node| node.string(&mut self.problems).map(str::to_owned));
        const KINDS: &[(&str, EndpointKind)] = &[
            ("Gateway", EndpointKind::Gateway),
            ("Interface", EndpointKind::Interface),
            ("GatewayLoadBalancer", EndpointKind::GatewayLoadBalancer),
        ];
        let kind = fields.get("VpcEndpointType").and_then(|node| choice(node, KINDS, &mut self.problems));
        let subnets = self.links_to(fields, "SubnetIds", "AWS::EC2::Subnet");
        let security_groups = self.links_to(fields, "SecurityGroupIds", "AWS::EC2::SecurityGroup");
        let route_tables = self.links_to(fields, "RouteTableIds", "AWS::EC2::RouteTable");
        let private_dns = fields.boolean("PrivateDnsEnabled", false, &mut self.problems);
        self.stack.vpc_endpoints.extend(vpc.zip(service).map(|(vpc, service_name)| VpcEndpoint {
            id: item.id.to_owned(),
            place: item.place(),
            vpc_endpoint_id: item.reference.to_owned(),
            vpc,
            service_name,
            kind: kind.unwrap_or(EndpointKind::Gateway),
            subnets,
            security_groups,
            route_tables,
            private_dns,
        }));
    }

    /// The range of a VPC or subnet.
    fn block(&mut self, node: &Node) -> Option<Cidr> {
        let cidr = self.range(node)?;
        if !VPC_PREFIXES.contains(&cidr.prefix()) {
            let message = format!("{cidr} is not a /16 to /28, which VPCs and subnets must be");
            self.problems.push(Problem::at(node.span, message));
            return None;
        }
        Some(cidr)
    }

    /// An IPv4 range; a single address counts as /32.
    fn range(&mut self, node: &Node) -> Option<Cidr> {
        let text = node.string(&mut self.problems)?;
        match text.parse::<Cidr>() {
            Ok(cidr) => Some(cidr),
            Err(bad) => {
                let problem = Problem::at(node.span, bad.to_string());
                let help = match bad {
                    BadCidr::HostBits(meant) => Some(format!("write {meant}")),
                    BadCidr::Form(_) => None,
                };
                self.problems.push(problem.maybe_help(help));
                None
            }
        }
    }

    /// A property that points at a resource of `kind`.
    pub(super) fn link(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        kind: &'static str,
        required: bool,
    ) -> Option<Link> {
        let node = if required { fields.require(key, &mut self.problems)? } else { fields.get(key)? };
        self.link_of(node, kind)
    }

    /// A property that lists resources of `kind`.
    pub(super) fn links_to(&mut self, fields: &Fields<'_>, key: &str, kind: &'static str) -> Vec<Link> {
        let items = fields.items(key, &mut self.problems);
        items.into_iter().filter_map(|node| self.link_of(node, kind)).collect()
    }

    /// Where a value points; that it points at a resource of another type is a problem.
    pub(super) fn link_of(&mut self, node: &Node, kind: &'static str) -> Option<Link> {
        let text = node.string(&mut self.problems)?;
        let link = self.links.to(kind, text);
        if link.logical().is_none()
            && let Some(other) = self.links.other(kind, text)
        {
            let message = format!("expected {kind}, found {} ({})", other.1, other.0);
            self.problems.push(Problem::at(node.span, message));
            return None;
        }
        Some(link)
    }
}

fn allow_all(peer: Peer, place: model::stack::Place) -> SecurityGroupRule {
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
