//! Changes of addresses, ports and hops in place, with every checksum that depends on them.
//!
//! A checksum that was right stays right and one that was wrong stays wrong, as only differences are added (RFC 1624).
//! Where the device left a checksum undone (a partial one), its field holds the folded sum of the pseudo header, which ports
//! are no part of.

use crate::packet::Offload;
use crate::wire::{ICMP, ICMPV6, TCP, UDP, View};
use std::net::IpAddr;

/// A one's complement difference: what to add to a sum for what was changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// Replaces the bytes at `at`, an even place and number of them.
    #[inline]
    pub fn put<const N: usize>(&mut self, bytes: &mut [u8], at: usize, new: [u8; N]) {
        let old = &mut bytes[at..at + N];
        for (old, new) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
            self.0 += u64::from(!u16::from_be_bytes([old[0], old[1]]));
            self.0 += u64::from(u16::from_be_bytes([new[0], new[1]]));
        }
        old.copy_from_slice(&new);
    }

    /// Both differences.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Corrects a complete checksum.
    #[inline]
    pub fn apply(self, bytes: &mut [u8], at: usize) {
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new = !fold(u64::from(!old) + self.0);
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }

    /// Corrects a partial checksum: a folded sum that nobody has complemented yet.
    #[inline]
    pub fn apply_partial(self, bytes: &mut [u8], at: usize) {
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new = fold(u64::from(old) + self.0);
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }
}

#[inline]
const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its source.
    Source,
    /// Its destination.
    Destination,
}

/// Gives one end of a packet another address and port (an echo's identifier, whichever end), and takes one hop away if
/// `hop`. The address must be of the packet's own version. A later fragment has no port.
#[inline]
pub fn translate(bytes: &mut [u8], view: &View, offload: &Offload, end: End, to: (IpAddr, u16), hop: bool) {
    let mut network = Delta::default();
    match to.0 {
        IpAddr::V4(address) => {
            let at = if end == End::Source { 12 } else { 16 };
            network.put(bytes, at, address.octets());
            let mut header = network;
            if hop {
                header.put(bytes, 8, [view.hops.saturating_sub(1), bytes[9]]);
            }
            header.apply(bytes, 10);
        }
        IpAddr::V6(address) => {
            let at = if end == End::Source { 8 } else { 24 };
            network.put(bytes, at, address.octets());
            if hop {
                bytes[7] = view.hops.saturating_sub(1);
            }
        }
    }
    if view.is_later_fragment() {
        return;
    }
    let mut ports = Delta::default();
    let port_at = match (view.protocol, end) {
        (TCP | UDP, End::Source) => view.transport,
        (TCP | UDP, End::Destination) => view.transport + 2,
        (ICMP | ICMPV6, _) if view.is_echo() => view.transport + 4,
        _ => return transport_checksum(bytes, view, offload, network, ports),
    };
    ports.put(bytes, port_at, to.1.to_be_bytes());
    transport_checksum(bytes, view, offload, network, ports);
}

#[inline]
fn transport_checksum(bytes: &mut [u8], view: &View, offload: &Offload, network: Delta, ports: Delta) {
    let at = view.transport
        + match view.protocol {
            TCP => 16,
            UDP => 6,
            ICMP | ICMPV6 => 2,
            _ => return,
        };
    // ICMP of IPv4 alone has no pseudo header.
    let network = if view.protocol == ICMP { Delta::default() } else { network };
    if offload.checksum.is_some() {
        return network.apply_partial(bytes, at);
    }
    // A UDP sender may leave its checksum out, which a zero says; a sum of zero is sent as its complement.
    if view.protocol == UDP && bytes[at..at + 2] == [0, 0] {
        return;
    }
    network.and(ports).apply(bytes, at);
    if view.protocol == UDP && bytes[at..at + 2] == [0, 0] {
        bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]);
    }
}
