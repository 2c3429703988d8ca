//! Network ACLs.

use super::{Cidr, Cidr6, Link, Place, TransportProtocol};
use serde::Serialize;

/// A network ACL with its entries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkAcl {
    /// Logical id; `{Vpc}.DefaultNetworkAcl` for a VPC's own.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `acl-…`.
    pub network_acl_id: String,
    /// Its VPC.
    pub vpc: Link,
    /// Its entries; what none of them speaks of is denied. A VPC's own lets everything through.
    pub entries: Vec<NetworkAclEntry>,
}

/// Addresses of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnyCidr {
    /// An IPv4 range.
    Ipv4(Cidr),
    /// An IPv6 range.
    Ipv6(Cidr6),
}

/// One entry of a network ACL.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkAclEntry {
    /// Logical id; empty for those that a VPC's own has from the start.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `RuleNumber`, 1 to 32,766: the lowest that fits decides.
    pub number: u16,
    /// `Egress`: about what leaves the subnet.
    pub egress: bool,
    /// `RuleAction` is `allow`.
    pub allow: bool,
    /// Which protocol.
    pub protocol: TransportProtocol,
    /// The other side.
    pub range: AnyCidr,
    /// First port, or ICMP type; -1 is any.
    pub from_port: i32,
    /// Last port, or ICMP code; -1 is any.
    pub to_port: i32,
}

/// Which network ACL a subnet has instead of its VPC's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkAclAssociation {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// The subnet.
    pub subnet: Link,
    /// Its network ACL.
    pub network_acl: Link,
}
