//! Where packets may go: routes, NAT gateways, VPC endpoints.

use super::{Builder, Item, choice, span};
use crate::problem::{Problem, quoted};
use crate::yaml::Node;
use model::stack::{Cidr, Destination, EndpointKind, Link, NatGateway, Route, RouteTarget, Vpc, VpcEndpoint};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Addresses of one NAT gateway: one primary and seven secondary ones (VPC User Guide, "NAT gateway basics").
const MAX_NAT_ADDRESSES: usize = 8;

/// Services that have gateway endpoints (AWS PrivateLink Guide, "Gateway endpoints").
const WITH_GATEWAYS: [&str; 3] = ["s3", "dynamodb", "s3express"];

/// What EC2 says of a gateway endpoint's SubnetIds, and of an interface endpoint's RouteTableIds.
const SUBNETS_REFUSED: &str =
    "Subnet IDs are only supported for Interface and GatewayLoadBalancer type VPC Endpoints.";
const ROUTE_TABLES_REFUSED: &str = "Route table IDs are only supported for Gateway type VPC Endpoint.";

/// Characters of an endpoint's policy (AWS PrivateLink Guide, "AWS PrivateLink quotas").
const MAX_POLICY_CHARS: usize = 20_480;

impl Builder<'_, '_> {
    pub(super) fn route(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let Some(route_table) = self.link(fields, "RouteTableId", "AWS::EC2::RouteTable", true) else {
            return;
        };
        let destination = if let Some(node) = fields.get("DestinationCidrBlock") {
            self.range(node).map(Destination::Ipv4)
        } else if let Some(node) = fields.get("DestinationIpv6CidrBlock") {
            self.range6(node).map(Destination::Ipv6)
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
            ("CoreNetworkArn", "AWS::NetworkManager::CoreNetwork", RouteTarget::OtherGateway),
            ("OdbNetworkArn", "AWS::ODB::OdbNetwork", RouteTarget::OtherGateway),
        ];
        let mut target = None;
        // Empty text, as of an `Fn::If`, is no target.
        let is_given = |link: &Link| !link.as_str().is_empty();
        let gateway = self.link(fields, "GatewayId", "AWS::EC2::InternetGateway", false);
        if let Some(gateway) = gateway.filter(is_given) {
            let is_endpoint = matches!(&gateway, Link::Literal(id) if id.starts_with("vgw-"));
            target = Some(if is_endpoint {
                RouteTarget::OtherGateway(gateway)
            } else {
                RouteTarget::InternetGateway(gateway)
            });
        }
        for (key, kind, make) in TARGETS {
            let Some(link) = self.link(fields, key, kind, false).filter(is_given) else { continue };
            if target.is_some() {
                let message = format!("the route {} leads to two places", quoted(item.id));
                self.problems.push(Problem::at(item.span, message).help("a route has one target"));
            }
            target.get_or_insert_with(|| make(link));
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

    pub(super) fn nat_gateway(&mut self, item: &Item<'_>) {
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
        if let Some(node) = fields.get("AllocationId")
            && node.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok())
        {
            let problem = Problem::at(node.span, "this is the address itself, and not its allocation id");
            self.problems.push(problem.help("give !GetAtt ADDRESS.AllocationId"));
        }
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

    /// A table has one route for a range, and a subnet one table.
    pub(super) fn check_routes(&mut self) {
        let mut seen: BTreeMap<(&str, String), &str> = BTreeMap::new();
        let mut problems = Vec::new();
        for route in &self.stack.routes {
            let Some(table) = route.route_table.logical() else { continue };
            let destination = match &route.destination {
                Destination::Ipv4(range) => range.to_string(),
                Destination::Ipv6(range) => range.to_string(),
                Destination::PrefixList(list) => list.clone(),
            };
            let vpc = self.stack.route_tables.iter().find(|found| found.id == table).map(|found| &found.vpc);
            let vpc =
                vpc.and_then(|vpc| self.stack.vpcs.iter().find(|found| Some(&*found.id) == vpc.logical()));
            let is_local = vpc.is_some_and(|vpc| Destination::Ipv4(vpc.cidr) == route.destination);
            let before = seen.insert((table, destination.clone()), &route.id);
            let Some(before) = before.or(is_local.then_some("local")) else { continue };
            let message =
                format!("The route identified by {destination} already exists: {before} in {table}");
            problems.push(Problem::at(span(route.place), message));
        }
        let mut tables: BTreeMap<&str, &str> = BTreeMap::new();
        for association in &self.stack.route_table_associations {
            let Some(subnet) = association.subnet.logical() else { continue };
            if let Some(before) = tables.insert(subnet, &association.id) {
                let message = format!("{subnet} has a route table already, by {before}");
                let help = "AWS says: the specified association for route table conflicts with an existing association";
                problems.push(Problem::at(span(association.place), message).help(help));
            }
        }
        problems.into_iter().for_each(|problem| self.problems.push(problem));
    }

    /// An internet gateway to which routes lead is attached. It may have been so without the template.
    pub(super) fn check_internet_gateways(&mut self) {
        for gateway in self.stack.internet_gateways.iter().filter(|gateway| gateway.vpc.is_none()) {
            let leads = |route: &&Route| matches!(&route.target, RouteTarget::InternetGateway(link) if link.logical() == Some(&gateway.id));
            let Some(route) = self.stack.routes.iter().find(leads) else { continue };
            let message =
                format!("{} leads to {}, which is attached to no VPC", quoted(&route.id), gateway.id);
            let help = "AWS says: route table and network gateway belong to different networks; give an \
                        AWS::EC2::VPCGatewayAttachment";
            self.warnings.push(Problem::at(span(route.place), message).help(help));
        }
    }

    /// Private DNS of an endpoint needs both DNS attributes of its VPC, which may have been set without the template.
    pub(super) fn check_private_dns(&mut self) {
        for endpoint in self.stack.vpc_endpoints.iter().filter(|found| found.private_dns) {
            let is_off = |vpc: &&Vpc| {
                Some(&*vpc.id) == endpoint.vpc.logical() && !(vpc.dns_support && vpc.dns_hostnames)
            };
            let Some(vpc) = self.stack.vpcs.iter().find(is_off) else { continue };
            let message = format!(
                "{} has private DNS, for which {} needs EnableDnsSupport and EnableDnsHostnames",
                quoted(&endpoint.id),
                vpc.id
            );
            let help = "AWS says: Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC \
                        attributes set to true";
            self.warnings.push(Problem::at(span(endpoint.place), message).help(help));
        }
    }

    /// A public NAT gateway stands in a subnet that itself reaches the internet: a common slip. An elastic IP is of one gateway.
    pub(super) fn check_nat_gateways(&mut self) {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for nat in &self.stack.nat_gateways {
            for address in nat.addresses.iter().filter_map(Link::logical) {
                let Some(before) = owners.insert(address, &nat.id) else { continue };
                let message = format!("{} has {address}, which {before} has already", quoted(&nat.id));
                let help = "AWS says: Elastic IP address is already associated (Resource.AlreadyAssociated)";
                self.problems.push(Problem::at(span(nat.place), message).help(help));
            }
        }
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
                let span = span(nat.place);
                let help = format!("give {subnet} a route of 0.0.0.0/0 to an internet gateway");
                self.warnings.push(Problem::at(span, message).help(help));
            }
        }
    }

    pub(super) fn vpc_endpoint(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let vpc = self.link(fields, "VpcId", "AWS::EC2::VPC", true);
        const KINDS: &[(&str, EndpointKind)] = &[
            ("Gateway", EndpointKind::Gateway),
            ("Interface", EndpointKind::Interface),
            ("GatewayLoadBalancer", EndpointKind::Other),
            ("Resource", EndpointKind::Other),
            ("ServiceNetwork", EndpointKind::Other),
        ];
        let kind = fields.get("VpcEndpointType").and_then(|node| choice(node, KINDS, &mut self.problems));
        let of_service = kind != Some(EndpointKind::Other);
        let service = match fields.get("ServiceName") {
            None if !of_service => Some(String::new()),
            _ => fields
                .require("ServiceName", &mut self.problems)
                .and_then(|node| node.string(&mut self.problems).map(str::to_owned)),
        };
        let policy = fields.get("PolicyDocument").and_then(|node| self.endpoint_policy(node));
        let subnets = self.links_to(fields, "SubnetIds", "AWS::EC2::Subnet");
        let security_groups = self.links_to(fields, "SecurityGroupIds", "AWS::EC2::SecurityGroup");
        let route_tables = self.links_to(fields, "RouteTableIds", "AWS::EC2::RouteTable");
        let private_dns = fields.boolean("PrivateDnsEnabled", false, &mut self.problems);
        if let Some(service) = &service {
            self.check_service(item, kind.unwrap_or(EndpointKind::Gateway), service);
        }
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
            dns_name: self.resolver.identity(item.index).endpoint_name(),
            private_dns,
            policy,
        }));
    }

    /// A service has endpoints of its own kind, in its own Region, and each kind its own properties.
    fn check_service(&mut self, item: &Item<'_>, kind: EndpointKind, service: &str) {
        let refused: &[(&str, Option<&str>)] = match kind {
            EndpointKind::Gateway => &[("SubnetIds", Some(SUBNETS_REFUSED)), ("SecurityGroupIds", None)],
            EndpointKind::Interface => &[("RouteTableIds", Some(ROUTE_TABLES_REFUSED))],
            EndpointKind::Other => return,
        };
        let short = service.strip_prefix("com.amazonaws.").and_then(|rest| rest.split_once('.'));
        if let Some((_, short)) = short
            && kind == EndpointKind::Gateway
            && !WITH_GATEWAYS.contains(&short)
        {
            let message =
                format!("{} has no gateway endpoints, and {} is one", quoted(short), quoted(item.id));
            let help = "give VpcEndpointType: Interface; AWS says: Endpoint type (Gateway) does not match available \
                        service types ([Interface])";
            self.problems.push(Problem::at(item.span, message).help(help));
            return;
        }
        let is_full = |node: &&Node| node.as_sequence().is_none_or(|all| !all.is_empty());
        for (key, said) in refused {
            let Some(node) = item.fields.get(key).filter(is_full) else { continue };
            let message = format!("{} is of type {kind:?}, which has no {key}", quoted(item.id));
            let problem = Problem::at(node.span, message);
            match said {
                Some(said) => self.problems.push(problem.help(format!("AWS says: {said}"))),
                None => self.warnings.push(problem.help("they count for nothing")),
            }
        }
        let there = short.filter(|(region, _)| model::name::is_region(region));
        let region = &self.stack.region;
        if let Some((other, _)) =
            there.filter(|(other, _)| other != region && item.fields.get("ServiceRegion").is_none())
        {
            let message =
                format!("the service of {} is of {other}, and the stack of {region}", quoted(item.id));
            let help = "AWS says: The Vpc Endpoint Service does not exist; write com.amazonaws.${AWS::Region} with !Sub, or give \
                        --region";
            self.warnings.push(Problem::at(item.span, message).help(help));
        }
    }

    /// An endpoint's policy as JSON, whether it was written as a document or as its text.
    fn endpoint_policy(&mut self, node: &Node) -> Option<String> {
        let (document, chars) = match node.as_str() {
            Some(text) => match serde_json::from_str::<serde_json::Value>(text) {
                Ok(document) => (document, text.chars().count()),
                Err(error) => {
                    let problem = Problem::at(node.span, format!("the policy is no JSON: {error}"));
                    self.problems.push(problem);
                    return None;
                }
            },
            None => {
                node.mapping(&mut self.problems)?;
                let document = crate::resolve::json(node);
                let chars = document.to_string().chars().count();
                (document, chars)
            }
        };
        if chars > MAX_POLICY_CHARS {
            let message = format!("the policy has {chars} characters, and {MAX_POLICY_CHARS} is the most");
            self.problems.push(Problem::at(node.span, message));
        }
        if !(document["Statement"].is_array() || document["Statement"].is_object()) {
            self.problems.push(Problem::at(node.span, "the policy has no Statement"));
            return None;
        }
        Some(document.to_string())
    }
}
