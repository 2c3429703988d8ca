//! The VPC: subnets, routes, gateways, security groups, endpoints.

use super::{AnyCidr, Cidr, Cidr6, Link, Place};
use serde::Serialize;
use std::net::Ipv4Addr;

/// A VPC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vpc {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `vpc-…`.
    pub vpc_id: String,
    /// Its range, /16 to /28.
    pub cidr: Cidr,
    /// Further ranges, of `AWS::EC2::VPCCidrBlock`.
    pub more_cidrs: Vec<Cidr>,
    /// Its IPv6 ranges.
    pub ipv6_cidrs: Vec<Cidr6>,
    /// `EnableDnsSupport`, default true.
    pub dns_support: bool,
    /// `EnableDnsHostnames`, default false.
    pub dns_hostnames: bool,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subnet {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `subnet-…`.
    pub subnet_id: String,
    /// Its VPC.
    pub vpc: Link,
    /// Its range.
    pub cidr: Cidr,
    /// Its IPv6 range, a /64.
    pub ipv6_cidr: Option<Cidr6>,
    /// `us-east-1a` and the like.
    pub availability_zone: String,
    /// `MapPublicIpOnLaunch`.
    pub map_public_ip: bool,
    /// `EnableDns64`: names without IPv6 have addresses of 64:ff9b::/96 in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dns64: bool,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteTable {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `rtb-…`.
    pub route_table_id: String,
    /// Its VPC.
    pub vpc: Link,
}

/// What a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// An IPv4 range.
    Ipv4(Cidr),
    /// An IPv6 range.
    Ipv6(Cidr6),
    /// `pl-…`.
    PrefixList(String),
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteTarget {
    /// The internet, for addresses of its own.
    InternetGateway(Link),
    /// The internet, through a shared address.
    NatGateway(Link),
    /// The internet, IPv6, outbound.
    EgressOnlyInternetGateway(Link),
    /// A VPC endpoint.
    VpcEndpoint(Link),
    /// A network interface.
    NetworkInterface(Link),
    /// An instance.
    Instance(Link),
    /// Another VPC.
    VpcPeering(Link),
    /// A transit gateway.
    TransitGateway(Link),
    /// A local, carrier or virtual private gateway.
    OtherGateway(Link),
}

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its table.
    pub route_table: Link,
    /// What it is for.
    pub destination: Destination,
    /// Where it leads.
    pub target: RouteTarget,
}

/// Which route table a subnet uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteTableAssociation {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// The subnet.
    pub subnet: Link,
    /// Its table.
    pub route_table: Link,
}

/// An internet gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InternetGateway {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `igw-…`.
    pub internet_gateway_id: String,
    /// The VPC it is attached to.
    pub vpc: Option<Link>,
    /// Logical id of what attaches it.
    pub attachment: Option<String>,
}

/// A NAT gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NatGateway {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `nat-…`.
    pub nat_gateway_id: String,
    /// Where it stands; none for a regional one.
    pub subnet: Option<Link>,
    /// The VPC of a regional one.
    pub vpc: Option<Link>,
    /// `ConnectivityType` is `public`.
    pub public: bool,
    /// `AvailabilityMode` is `regional`.
    pub regional: bool,
    /// Its elastic IPs, the primary first; each adds ports.
    pub addresses: Vec<Link>,
    /// Further private addresses (private NAT), each adds ports.
    pub secondary_private_addresses: u32,
}

/// A gateway that lets IPv6 out and nothing in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EgressOnlyInternetGateway {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `eigw-…`.
    pub gateway_id: String,
    /// Its VPC.
    pub vpc: Link,
}

/// A connection between two VPCs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VpcPeeringConnection {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `pcx-…`.
    pub peering_id: String,
    /// The VPC that asked.
    pub vpc: Link,
    /// The other one.
    pub peer_vpc: Link,
    /// `PeerRegion`, where it is another one.
    pub peer_region: Option<String>,
}

/// A list of ranges of the customer's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrefixList {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `pl-…`.
    pub prefix_list_id: String,
    /// `PrefixListName`.
    pub name: String,
    /// `MaxEntries`: what it counts as among a security group's rules and a route table's routes.
    pub max_entries: u32,
    /// Its ranges.
    pub entries: Vec<AnyCidr>,
}

/// An elastic IP address.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ElasticIp {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `eipalloc-…`.
    pub allocation_id: String,
    /// The address it has here, of 198.18.0.0/15 (RFC 2544: never on the internet).
    pub public_ip: Ipv4Addr,
}

/// What a security group rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportProtocol {
    /// Every protocol (`-1`).
    All,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// By its number.
    Number(u8),
}

/// Whom a security group rule lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// An IPv4 range.
    Ipv4(Cidr),
    /// An IPv6 range.
    Ipv6(Cidr6),
    /// Members of a group.
    SecurityGroup(Link),
    /// `pl-…`.
    PrefixList(String),
}

/// One rule of a security group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SecurityGroupRule {
    /// Logical id; empty when it stands inside its group.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Which protocol.
    pub protocol: TransportProtocol,
    /// First port, or ICMP type; -1 is any.
    pub from_port: i32,
    /// Last port, or ICMP code; -1 is any.
    pub to_port: i32,
    /// Whom.
    pub peer: Peer,
    /// `Description`.
    pub description: String,
}

/// A security group with all its rules, inline and standalone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SecurityGroup {
    /// Logical id; `{Vpc}.DefaultSecurityGroup` for a VPC's own.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `sg-…`.
    pub group_id: String,
    /// `GroupName`.
    pub name: String,
    /// `GroupDescription`.
    pub description: String,
    /// Its VPC.
    pub vpc: Option<Link>,
    /// Who may come in; nobody by default.
    pub ingress: Vec<SecurityGroupRule>,
    /// Where members may go; everywhere when the template gives no egress rule.
    pub egress: Vec<SecurityGroupRule>,
}

/// Kinds of VPC endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EndpointKind {
    /// A route to S3 or DynamoDB.
    Gateway,
    /// A network interface.
    Interface,
    /// Of another type: before a gateway load balancer, of a resource, of a service network. It is not run.
    Other,
}

/// A VPC endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VpcEndpoint {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `vpce-…`.
    pub vpc_endpoint_id: String,
    /// Its VPC.
    pub vpc: Link,
    /// `com.amazonaws.us-east-1.s3` and the like.
    pub service_name: String,
    /// Its kind.
    pub kind: EndpointKind,
    /// Where its interfaces are.
    pub subnets: Vec<Link>,
    /// Who may use its interfaces.
    pub security_groups: Vec<Link>,
    /// Which tables get its route.
    pub route_tables: Vec<Link>,
    /// The name that leads to all its interfaces: `vpce-….SERVICE.REGION.vpce.amazonaws.com`.
    pub dns_name: String,
    /// Whether the service's usual names lead to it.
    pub private_dns: bool,
    /// Its policy, as JSON; without, everything is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}
