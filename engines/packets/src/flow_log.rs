//! VPC flow-log records in AWS's default format (version 2).
//!
//! Source: VPC User Guide, "Flow log records": `version account-id interface-id srcaddr dstaddr srcport dstport protocol
//! packets bytes start end action log-status`; published. Each direction of a flow has a record of its own. What a full
//! gateway drops, a route, or the rules of who is asked, was accepted at the interface; what a full interface drops never comes
//! to it, and has no record.

use limits::eni::InterfaceId;
use std::fmt;
use std::net::IpAddr;

/// What the rules said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Status {
    /// The line that says so of the interval between two Unix times, without an end of line.
    pub fn line(self, account: &str, interface_id: &str, (start, end): (u64, u64)) -> String {
        let status = match self {
            Self::NoData => "NODATA",
            Self::SkipData => "SKIPDATA",
        };
        format!("2 {account} {interface_id} - - - - - - - {start} {end} - {status}")
    }
}

/// One direction of a flow, as it passed an interface in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// The shared interface.
    pub interface: InterfaceId,
    /// Who sent.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
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
}

impl FlowRecord {
    /// The record as a line, without an end of line. `epoch_s` is the Unix time of the engine's start.
    pub fn line(&self, account: &str, interface_id: &str, epoch_s: u64) -> String {
        let Self {
            source, destination, source_port, destination_port, protocol, packets, bytes, action, ..
        } = self;
        let (start, end) = (epoch_s + u64::from(self.start_s), epoch_s + u64::from(self.end_s));
        format!(
            "2 {account} {interface_id} {source} {destination} {source_port} {destination_port} {protocol} \
             {packets} {bytes} {start} {end} {action} OK"
        )
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
