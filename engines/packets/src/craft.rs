//! Packets made from nothing: resets, ICMP errors and echo replies of the engine's own, UDP answers for the driver, and what
//! tests and benches send.
//!
//! Both addresses of a packet are of one version of IP.

use crate::checksum::Checksum;
use crate::wire::View;
use crate::wire::{
    ICMP, ICMP_HEADER, ICMPV6, IPV4_HEADER, IPV6_HEADER, TCP, TCP_HEADER, UDP, UDP_HEADER, flags, word,
};
use std::net::{IpAddr, SocketAddr};

/// Hops of what begins here.
const HOPS: u8 = 64;

/// Begins a packet: its IP header for so many bytes behind it, which are zero.
fn begin(buffer: &mut Vec<u8>, from: IpAddr, to: IpAddr, protocol: u8, payload: usize) -> usize {
    buffer.clear();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            buffer.resize(IPV4_HEADER + payload, 0);
            buffer[0] = 0x45;
            buffer[2..4].copy_from_slice(&((IPV4_HEADER + payload) as u16).to_be_bytes());
            // May not be cut, so that it needs no identification.
            buffer[6] = 0x40;
            (buffer[8], buffer[9]) = (HOPS, protocol);
            buffer[12..16].copy_from_slice(&from.octets());
            buffer[16..20].copy_from_slice(&to.octets());
            let sum = Checksum::default().with(&buffer[..IPV4_HEADER]).finish();
            buffer[10..12].copy_from_slice(&sum.to_be_bytes());
            IPV4_HEADER
        }
        (from, to) => {
            buffer.resize(IPV6_HEADER + payload, 0);
            buffer[0] = 0x60;
            buffer[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
            (buffer[6], buffer[7]) = (protocol, HOPS);
            buffer[8..24].copy_from_slice(&octets6(from));
            buffer[24..40].copy_from_slice(&octets6(to));
            IPV6_HEADER
        }
    }
}

fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
pub fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Checksum {
    let sum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Checksum::default().with(&from.octets()).with(&to.octets()),
        (from, to) => Checksum::default().with(&octets6(from)).with(&octets6(to)),
    };
    sum.with(&(length as u32).to_be_bytes()).with(&[0, protocol])
}

/// A TCP segment without options.
pub fn segment(buffer: &mut Vec<u8>, from: SocketAddr, to: SocketAddr, numbers: Numbers, payload: &[u8]) {
    let at = begin(buffer, from.ip(), to.ip(), TCP, TCP_HEADER + payload.len());
    let header = &mut buffer[at..];
    header[0..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..8].copy_from_slice(&numbers.sequence.to_be_bytes());
    header[8..12].copy_from_slice(&numbers.acknowledgement.to_be_bytes());
    (header[12], header[13]) = (5 << 4, numbers.flags);
    header[TCP_HEADER..].copy_from_slice(payload);
    let sum = pseudo_header(from.ip(), to.ip(), TCP, header.len()).with(header).finish();
    header[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// The numbers and flags of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of its first byte.
    pub sequence: u32,
    /// Of the byte that is expected next.
    pub acknowledgement: u32,
    /// See [`flags`].
    pub flags: u8,
}

/// A TCP segment that cuts a connection, as an answer to what was heard (RFC 9293, section 3.10.7.1).
pub fn reset(buffer: &mut Vec<u8>, from: SocketAddr, to: SocketAddr, heard: Heard) {
    let numbers = if heard.flags & flags::ACK != 0 {
        Numbers { sequence: heard.acknowledgement, acknowledgement: 0, flags: flags::RST }
    } else {
        Numbers { sequence: 0, acknowledgement: heard.next, flags: flags::RST | flags::ACK }
    };
    segment(buffer, from, to, numbers, &[]);
}

/// An echo request or reply with an identifier and a number.
pub fn echo(buffer: &mut Vec<u8>, from: IpAddr, to: IpAddr, reply: bool, id: u16, number: u16) {
    let (protocol, kind) = match (to, reply) {
        (IpAddr::V4(_), false) => (ICMP, 8),
        (IpAddr::V4(_), true) => (ICMP, 0),
        (IpAddr::V6(_), false) => (ICMPV6, 128),
        (IpAddr::V6(_), true) => (ICMPV6, 129),
    };
    let at = begin(buffer, from, to, protocol, ICMP_HEADER);
    let message = &mut buffer[at..];
    message[0] = kind;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&number.to_be_bytes());
    seal_icmp(message, from, to);
}

/// What a reset must know of the segment that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its flags.
    pub flags: u8,
    /// The number behind its last byte.
    pub next: u32,
    /// Its acknowledgement number.
    pub acknowledgement: u32,
}

impl Heard {
    /// Reads it from a segment that has a whole header.
    pub fn read(segment: &[u8]) -> Self {
        let number = |at: usize| u32::from(word(segment, at)) << 16 | u32::from(word(segment, at + 2));
        let flags = segment[13];
        let length = segment.len() - usize::from(segment[12] >> 4) * 4;
        let marks = u32::from(flags & flags::SYN != 0) + u32::from(flags & flags::FIN != 0);
        let next = number(4).wrapping_add(length as u32).wrapping_add(marks);
        Self { flags, next, acknowledgement: number(8) }
    }
}

/// Bytes of a packet that an ICMP error quotes, its IP header included: RFC 792's eight behind the header are too few for
/// some, and RFC 1812 asks for no more than 576 in all.
const QUOTE_MAX: usize = 548;

/// An ICMP error about a packet: `kind` and `code` of its version of IP, and the last word of the ICMP header.
pub fn error(buffer: &mut Vec<u8>, from: IpAddr, to: IpAddr, kind: u8, code: u8, rest: u32, about: &[u8]) {
    let quote = &about[..about.len().min(QUOTE_MAX)];
    let protocol = if to.is_ipv4() { ICMP } else { ICMPV6 };
    let at = begin(buffer, from, to, protocol, 8 + quote.len());
    let message = &mut buffer[at..];
    (message[0], message[1]) = (kind, code);
    message[4..8].copy_from_slice(&rest.to_be_bytes());
    message[8..].copy_from_slice(quote);
    seal_icmp(message, from, to);
}

/// The reply to an echo request.
pub fn echo_back(buffer: &mut Vec<u8>, view: &View, request: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(request);
    let (from, to) = (view.destination, view.source);
    match to {
        IpAddr::V4(_) => {
            buffer[12..16].copy_from_slice(&request[16..20]);
            buffer[16..20].copy_from_slice(&request[12..16]);
        }
        IpAddr::V6(_) => {
            buffer[8..24].copy_from_slice(&request[24..40]);
            buffer[24..40].copy_from_slice(&request[8..24]);
        }
    }
    let message = &mut buffer[view.transport..];
    message[0] = if to.is_ipv4() { 0 } else { 129 };
    seal_icmp(message, from, to);
}

/// Puts the right checksum into an ICMP message.
pub fn seal_icmp(message: &mut [u8], from: IpAddr, to: IpAddr) {
    message[2..4].copy_from_slice(&[0, 0]);
    let sum = icmp_sum(message, from, to);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Zero for a message whose checksum is right.
pub fn icmp_sum(message: &[u8], from: IpAddr, to: IpAddr) -> u16 {
    let start = match to {
        IpAddr::V4(_) => Checksum::default(),
        IpAddr::V6(_) => pseudo_header(from, to, ICMPV6, message.len()),
    };
    start.with(message).finish()
}

/// A UDP datagram, such as the resolver's answer to a question; `None` when it is too long for one.
pub fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    if usize::from(length) + IPV4_HEADER > usize::from(u16::MAX) || from.is_ipv4() != to.is_ipv4() {
        return None;
    }
    let mut buffer = Vec::new();
    let at = begin(&mut buffer, from.ip(), to.ip(), UDP, length.into());
    let header = &mut buffer[at..];
    header[0..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[UDP_HEADER..].copy_from_slice(payload);
    let sum = pseudo_header(from.ip(), to.ip(), UDP, length.into()).with(header).finish();
    let sum = if sum == 0 { u16::MAX } else { sum };
    header[6..8].copy_from_slice(&sum.to_be_bytes());
    Some(buffer)
}
