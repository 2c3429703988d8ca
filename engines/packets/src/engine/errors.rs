//! ICMP errors: only about packets of known flows, translated with the packet that they quote.
//!
//! Sources: RFC 5508, sections 4 and 7 (an error neither refreshes nor ends a flow; its checksum is looked at first; the
//! quoted packet gets back the addresses that its sender knows), RFC 1812, section 4.3.2.3 (what is quoted).

use super::{PacketEngine, inbound};
use crate::craft::{self, icmp_sum, seal_icmp};
use crate::environment::EnvironmentId;
use crate::flow::{State, marks};
use crate::packet::{Offload, Port, Reason, Verdict};
use crate::rewrite::{Delta, End, translate};
use crate::table::{Key, Near};
use crate::wire::{
    ICMP, ICMP_HEADER, ICMPV6, IPV4_HEADER, IPV6_HEADER, TCP, UDP, View, ipv4_at, ipv6_at, word,
};
use std::net::IpAddr;

/// What an error quotes of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quote {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Where its transport header begins, in bytes from the quote's first.
    transport: usize,
    /// Of an echo, its identifier in both.
    source_port: u16,
    destination_port: u16,
}

impl Quote {
    /// Reads a quote, of which only the IP header and eight bytes behind it must be there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (source, destination, protocol, transport): (IpAddr, IpAddr, u8, usize) =
            match bytes.first()? >> 4 {
                4 => {
                    let header: &[u8; IPV4_HEADER] = bytes.first_chunk()?;
                    let length = usize::from(header[0] & 15) * 4;
                    // A later fragment has no ports.
                    if length < IPV4_HEADER || word(header, 6) & 0x1fff != 0 {
                        return None;
                    }
                    (ipv4_at(header, 12).into(), ipv4_at(header, 16).into(), header[9], length)
                }
                6 => {
                    let header: &[u8; IPV6_HEADER] = bytes.first_chunk()?;
                    (ipv6_at(header, 8).into(), ipv6_at(header, 24).into(), header[6], IPV6_HEADER)
                }
                _ => return None,
            };
        let start: &[u8; 8] = bytes.get(transport..)?.first_chunk()?;
        let (source_port, destination_port) = match protocol {
            TCP | UDP => (word(start, 0), word(start, 2)),
            // Echoes alone have flows.
            ICMP if matches!(start[0], 0 | 8) => (word(start, 4), word(start, 4)),
            ICMPV6 if matches!(start[0], 128 | 129) => (word(start, 4), word(start, 4)),
            _ => return None,
        };
        Some(Self { source, destination, protocol, transport, source_port, destination_port })
    }

    /// Gives one end of the quoted packet another address and port.
    fn translate(&self, bytes: &mut [u8], end: End, to: (IpAddr, u16)) {
        let mut network = Delta::default();
        match to.0 {
            IpAddr::V4(address) => {
                network.put(bytes, if end == End::Source { 12 } else { 16 }, address.octets());
                network.apply(bytes, 10);
            }
            IpAddr::V6(address) => {
                network.put(bytes, if end == End::Source { 8 } else { 24 }, address.octets());
            }
        }
        let mut ports = Delta::default();
        let (port_at, checksum_at) = match self.protocol {
            TCP => (if end == End::Source { 0 } else { 2 }, 16),
            UDP => (if end == End::Source { 0 } else { 2 }, 6),
            _ => (4, 2),
        };
        ports.put(bytes, self.transport + port_at, to.1.to_be_bytes());
        let at = self.transport + checksum_at;
        // What was quoted may end before the checksum; a UDP datagram may have none.
        let there = bytes.get(at..at + 2).is_some_and(|sum| self.protocol != UDP || sum != [0, 0]);
        if there {
            let network = if self.protocol == ICMP { Delta::default() } else { network };
            network.and(ports).apply(bytes, at);
        }
    }
}

impl PacketEngine {
    /// An error from outside about a packet that went out.
    pub(super) fn error_in(
        &mut self,
        relay: bool,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let quote = match quoted(view, bytes, offload) {
            Ok(quote) => quote,
            Err(reason) => return Verdict::Drop(reason),
        };
        let echo = !matches!(quote.protocol, TCP | UDP);
        let key = Key {
            near: Near::Address(quote.source),
            near_port: quote.source_port,
            remote: quote.destination,
            remote_port: if echo { 0 } else { quote.destination_port },
            protocol: quote.protocol,
        };
        let Some(slot) = self.table.find(&key).filter(|_| quote.source == view.destination) else {
            return Verdict::Drop(Reason::NoFlow);
        };
        let flow = self.table.flows()[slot as usize];
        if let Some(reason) = inbound::shut(&flow, relay) {
            return Verdict::Drop(reason);
        }
        let Some((port, address)) = self.inside(&flow, view.source.is_ipv4()) else {
            return Verdict::Drop(Reason::Detached);
        };
        if view.hops <= 1 {
            return Verdict::Drop(Reason::Expired);
        }
        quote.translate(&mut bytes[view.transport + ICMP_HEADER..], End::Source, (address, flow.inside_port));
        translate(bytes, view, &offload, End::Destination, (address, 0), true);
        seal_icmp(&mut bytes[view.transport..], view.source, address);
        self.carry_in_six(Verdict::Forward(port), bytes, offload, self.six_of(&flow))
    }

    /// An environment's error about a packet that came in.
    pub(super) fn error_out(
        &mut self,
        id: EnvironmentId,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let quote = match quoted(view, bytes, offload) {
            Ok(quote) => quote,
            Err(reason) => return Verdict::Drop(reason),
        };
        let echo = !matches!(quote.protocol, TCP | UDP);
        let key = Key {
            near: Near::Environment(id.slot),
            near_port: quote.destination_port,
            remote: quote.source,
            remote_port: if echo { 0 } else { quote.source_port },
            protocol: quote.protocol,
        };
        let known = quote.source == view.destination && quote.destination == view.source;
        let Some(slot) = self.table.find(&key).filter(|_| known) else {
            return Verdict::Drop(Reason::NoFlow);
        };
        let flow = self.table.flows()[slot as usize];
        if flow.has(marks::NOWHERE) || flow.has(marks::HELD) || flow.state == State::Forgotten {
            return Verdict::Drop(Reason::NoFlow);
        }
        if view.hops <= 1 {
            return Verdict::Drop(Reason::Expired);
        }
        let outside = self.table.outside(&flow);
        let to = (outside, flow.outside_port);
        quote.translate(&mut bytes[view.transport + ICMP_HEADER..], End::Destination, to);
        translate(bytes, view, &offload, End::Source, (outside, 0), true);
        seal_icmp(&mut bytes[view.transport..], outside, view.destination);
        Verdict::Forward(if flow.has(marks::RELAY) { Port::Relay } else { Port::World })
    }

    /// Says that a packet is larger than its way takes (RFC 1191, RFC 8201), where it may not be cut.
    pub(super) fn too_big(&mut self, view: &View, bytes: &[u8], mtu: u16) -> Verdict {
        let (kind, code) = match view.source {
            // "Don't fragment" is not set: it would have to be cut, which is never done here.
            IpAddr::V4(_) if bytes[6] & 0x40 == 0 => return Verdict::Drop(Reason::TooBig),
            IpAddr::V4(_) => (3, 4),
            IpAddr::V6(_) => (2, 0),
        };
        craft::error(&mut self.answer, view.destination, view.source, kind, code, mtu.into(), bytes);
        Verdict::Answer
    }
}

/// What an error quotes, if it is a right one. Devices never leave an error's checksum undone.
fn quoted(view: &View, bytes: &[u8], offload: Offload) -> Result<Quote, Reason> {
    let message = &bytes[view.transport..];
    if offload.checksum.is_some() || icmp_sum(message, view.source, view.destination) != 0 {
        return Err(Reason::Malformed);
    }
    let quote = Quote::read(&message[ICMP_HEADER..]).ok_or(Reason::NoFlow)?;
    let same = quote.source.is_ipv4() == view.source.is_ipv4();
    if same { Ok(quote) } else { Err(Reason::Malformed) }
}
