//! VPC flow-log records, and the lines that are made of them.
//!
//! Source: VPC User Guide, "Flow log records" and "Flow log record examples" (through a NAT gateway); published. Each direction of
//! a flow has a record of its own at each interface that it passes. What a full gateway drops, or a route, was accepted where it
//! left and where it came; what a full interface drops never comes to it, and has no record.

use limits::network::{InterfaceOf, range_of};
use model::stack::{Field, LogFormat};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// What the rules said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// They let it through.
    Accept,
    /// A security group of the interface or the network ACL of its subnet did not.
    Reject,
}

/// Why an interface has no records of an aggregation interval, or not all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing passed, or tried to.
    NoData,
    /// There was more than could be kept.
    SkipData,
}

/// What lines say of an interface itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Twelve digits.
    pub account: &'a str,
    /// The Region.
    pub region: &'a str,
    /// The interface's id.
    pub interface: &'a str,
    /// `vpc-…`.
    pub vpc: &'a str,
    /// `subnet-…`.
    pub subnet: &'a str,
    /// `use1-az1`.
    pub zone_id: &'a str,
}

impl Status {
    /// The line that says so of the interval between two Unix times, without an end of line. What is known of the interface is
    /// said (assumed: AWS shows lines of version 2 alone), the rest is `-`.
    pub fn line(self, format: &LogFormat, origin: &Origin<'_>, (start, end): (u64, u64)) -> String {
        let status = match self {
            Self::NoData => "NODATA",
            Self::SkipData => "SKIPDATA",
        };
        line(format, origin, (start, end), status, None)
    }
}

/// One direction of a flow, as it passed an interface in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Which one.
    pub interface: InterfaceOf,
    /// Who sent; of what leaves, the interface's own address.
    pub source: IpAddr,
    /// To whom; of what comes, the interface's own address.
    pub destination: IpAddr,
    /// Who sent and to whom, as the packet says: others than these where the interface passes it on.
    pub packet: (IpAddr, IpAddr),
    /// From which port; 0 where there is none.
    pub source_port: u16,
    /// To which port.
    pub destination_port: u16,
    /// The IP protocol's number.
    pub protocol: u8,
    /// Packets, as they would be on the wire.
    pub packets: u32,
    /// Their bytes, as IP counts them.
    pub bytes: u64,
    /// When the first of them passed, in seconds since the engine's start.
    pub start_s: u32,
    /// When the last did.
    pub end_s: u32,
    /// What the rules said.
    pub action: Action,
    /// FIN (1), SYN (2), RST (4) and the ACK beside a SYN (16) of all its packets; 0 where it is not TCP (assumed).
    pub tcp_flags: u8,
    /// Whether it left the interface rather than came to it.
    pub egress: bool,
    /// By which way it left, as AWS numbers them.
    pub traffic_path: Option<u8>,
}

/// What records have in common that are one within an aggregation interval.
pub type FlowKey = (InterfaceOf, (IpAddr, u16), (IpAddr, u16), (IpAddr, IpAddr), u8, Action);

impl FlowRecord {
    /// What it has in common with those that it is one with.
    pub const fn key(&self) -> FlowKey {
        let (from, to) = ((self.source, self.source_port), (self.destination, self.destination_port));
        (self.interface, from, to, self.packet, self.protocol, self.action)
    }

    /// Takes a later one of the same flow in.
    pub fn add(&mut self, other: &Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.start_s = self.start_s.min(other.start_s);
        self.end_s = self.end_s.max(other.end_s);
        self.tcp_flags |= other.tcp_flags;
        self.traffic_path = other.traffic_path;
    }

    /// The record as a line, without an end of line. `epoch_s` is the Unix time of the engine's start.
    pub fn line(&self, format: &LogFormat, origin: &Origin<'_>, epoch_s: u64) -> String {
        let between = (epoch_s + u64::from(self.start_s), epoch_s + u64::from(self.end_s));
        line(format, origin, between, "OK", Some(self))
    }
}

/// A line; without a record, what it would say is `-`.
fn line(
    format: &LogFormat,
    origin: &Origin<'_>,
    (start, end): (u64, u64),
    status: &str,
    record: Option<&FlowRecord>,
) -> String {
    let mut line = String::with_capacity(160);
    for (at, field) in format.fields().iter().enumerate() {
        if at > 0 {
            line.push(' ');
        }
        let before = line.len();
        // Writing to a text does not fail.
        let _ = match (field, record) {
            (Field::Version, _) => write!(line, "{}", format.version()),
            (Field::AccountId, _) => write!(line, "{}", origin.account),
            (Field::InterfaceId, _) => write!(line, "{}", origin.interface),
            (Field::VpcId, _) => write!(line, "{}", origin.vpc),
            (Field::SubnetId, _) => write!(line, "{}", origin.subnet),
            (Field::Region, _) => write!(line, "{}", origin.region),
            (Field::AzId, _) => write!(line, "{}", origin.zone_id),
            (Field::Start, _) => write!(line, "{start}"),
            (Field::End, _) => write!(line, "{end}"),
            (Field::LogStatus, _) => write!(line, "{status}"),
            (field, Some(record)) => record.write(*field, &mut line),
            (_, None) => Ok(()),
        };
        if line.len() == before {
            line.push('-');
        }
    }
    line
}

impl FlowRecord {
    /// Writes what it says of a field; nothing where it has no value.
    fn write(&self, field: Field, line: &mut String) -> fmt::Result {
        match field {
            Field::SrcAddr => write!(line, "{}", self.source),
            Field::DstAddr => write!(line, "{}", self.destination),
            Field::PktSrcAddr => write!(line, "{}", self.packet.0),
            Field::PktDstAddr => write!(line, "{}", self.packet.1),
            Field::SrcPort => write!(line, "{}", self.source_port),
            Field::DstPort => write!(line, "{}", self.destination_port),
            Field::Protocol => write!(line, "{}", self.protocol),
            Field::Packets => write!(line, "{}", self.packets),
            Field::Bytes => write!(line, "{}", self.bytes),
            Field::Action => write!(line, "{}", self.action),
            Field::TcpFlags => write!(line, "{}", self.tcp_flags),
            Field::Type => line.write_str(if self.source.is_ipv4() { "IPv4" } else { "IPv6" }),
            Field::PktSrcAwsService => line.write_str(range_of(self.packet.0).unwrap_or_default()),
            Field::PktDstAwsService => line.write_str(range_of(self.packet.1).unwrap_or_default()),
            Field::FlowDirection => line.write_str(if self.egress { "egress" } else { "ingress" }),
            Field::TrafficPath => self.traffic_path.map_or(Ok(()), |path| write!(line, "{path}")),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Accept => "ACCEPT",
            Self::Reject => "REJECT",
        })
    }
}
