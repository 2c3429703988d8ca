//! Views of packets: what the engine needs to know of IPv4, IPv6, TCP, UDP and ICMP headers, and nothing that is not there.
//!
//! Sources: RFC 791 and 8200 (IP), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP), 1858 and 3128 (tiny and overlapping
//! fragments).

use crate::packet::{Offload, Reason};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// ICMP's number among IP protocols.
pub const ICMP: u8 = 1;
/// TCP's.
pub const TCP: u8 = 6;
/// UDP's.
pub const UDP: u8 = 17;
/// ICMP's for IPv6.
pub const ICMPV6: u8 = 58;

/// TCP's flags.
pub mod flags {
    /// The sender has no more to say.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// A connection is cut.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// IPv4's header without options.
pub const IPV4_HEADER: usize = 20;
/// IPv6's header.
pub const IPV6_HEADER: usize = 40;
/// TCP's header without options.
pub const TCP_HEADER: usize = 20;
/// UDP's header.
pub const UDP_HEADER: usize = 8;
/// ICMP's header, with the four bytes that echoes use for identifier and number.
pub const ICMP_HEADER: usize = 8;
/// Extension headers of IPv6 that are looked at; more are no honest packet.
const EXTENSIONS_MAX: usize = 8;

/// A fragment's place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The datagram's identification.
    pub id: u32,
    /// Its first byte's place, in bytes.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
}

/// What the headers of a packet say. Offsets are bytes from its first; all lie inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Who sends it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// The transport protocol's number.
    pub protocol: u8,
    /// Where the transport header begins, or what follows it in a later fragment.
    pub transport: usize,
    /// How many routers it may still meet.
    pub hops: u8,
    /// Its place in a datagram that was cut.
    pub fragment: Option<Fragment>,
    /// The source port; ICMP's identifier; 0 where there is none.
    pub source_port: u16,
    /// The destination port; 0 of ICMP.
    pub destination_port: u16,
    /// TCP's flags; ICMP's type.
    pub detail: u8,
}

impl View {
    /// Reads a packet; the lengths of its headers agree with each other and with its bytes afterwards.
    ///
    /// # Errors
    /// The packet is [`Reason::Malformed`], a [`Reason::Fragment`] too small to be honest, or chooses its way itself:
    /// [`Reason::Protocol`].
    #[inline]
    pub fn read(bytes: &[u8], offload: &Offload) -> Result<Self, Reason> {
        let mut view = match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::ipv4(bytes)?,
            Some(6) => Self::ipv6(bytes)?,
            _ => return Err(Reason::Malformed),
        };
        if view.fragment.is_none_or(|fragment| fragment.offset == 0) {
            view.transport(bytes, offload)?;
        }
        Ok(view)
    }

    #[inline]
    fn ipv4(bytes: &[u8]) -> Result<Self, Reason> {
        let Some(header) = bytes.first_chunk::<IPV4_HEADER>() else { return Err(Reason::Malformed) };
        let length = usize::from(header[0] & 15) * 4;
        let total = usize::from(word(header, 2));
        if length < IPV4_HEADER || total < length || total != bytes.len() {
            return Err(Reason::Malformed);
        }
        if !sums_to_nothing(&bytes[..length]) {
            return Err(Reason::Malformed);
        }
        if length > IPV4_HEADER {
            options(&bytes[IPV4_HEADER..length])?;
        }
        let place = word(header, 6);
        let fragment =
            Fragment { id: word(header, 4).into(), offset: (place & 0x1fff) * 8, more: place & 0x2000 != 0 };
        let fragment = checked(fragment, total - length)?;
        Ok(Self {
            source: ipv4_at(header, 12).into(),
            destination: ipv4_at(header, 16).into(),
            protocol: header[9],
            transport: length,
            hops: header[8],
            fragment,
            source_port: 0,
            destination_port: 0,
            detail: 0,
        })
    }

    fn ipv6(bytes: &[u8]) -> Result<Self, Reason> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        let Some(header) = bytes.first_chunk::<IPV6_HEADER>() else { return Err(Reason::Malformed) };
        if IPV6_HEADER + usize::from(word(header, 4)) != bytes.len() {
            return Err(Reason::Malformed);
        }
        let (mut protocol, mut at, mut fragment) = (header[6], IPV6_HEADER, None);
        for _ in 0..EXTENSIONS_MAX {
            match protocol {
                FRAGMENT => {
                    let part: &[u8; 8] =
                        bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Reason::Malformed)?;
                    let place = word(part, 2);
                    let id = u32::from_be_bytes([part[4], part[5], part[6], part[7]]);
                    let found = Fragment { id, offset: place & 0xfff8, more: place & 1 != 0 };
                    if fragment.is_some() {
                        return Err(Reason::Malformed);
                    }
                    (protocol, at) = (part[0], at + 8);
                    fragment = checked(found, bytes.len() - at)?;
                    if found.offset > 0 {
                        break;
                    }
                }
                HOP_BY_HOP | ROUTING | DESTINATION => {
                    let part: &[u8; 8] =
                        bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Reason::Malformed)?;
                    // Source routing by the sender is not for functions, nor for the world.
                    if protocol == ROUTING {
                        return Err(Reason::Protocol);
                    }
                    (protocol, at) = (part[0], at + 8 + usize::from(part[1]) * 8);
                }
                _ => break,
            }
        }
        if at > bytes.len() {
            return Err(Reason::Malformed);
        }
        Ok(Self {
            source: ipv6_at(header, 8).into(),
            destination: ipv6_at(header, 24).into(),
            protocol,
            transport: at,
            hops: header[7],
            fragment,
            source_port: 0,
            destination_port: 0,
            detail: 0,
        })
    }

    #[inline]
    fn transport(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), Reason> {
        let whole = self.fragment.is_none();
        let short = if whole { Reason::Malformed } else { Reason::Fragment };
        let header = &bytes[self.transport..];
        let checksum_at = match self.protocol {
            TCP => {
                let header: &[u8; TCP_HEADER] = header.first_chunk().ok_or(short)?;
                let length = usize::from(header[12] >> 4) * 4;
                if length < TCP_HEADER || length > bytes.len() - self.transport {
                    return Err(short);
                }
                (self.source_port, self.destination_port) = (word(header, 0), word(header, 2));
                self.detail = header[13];
                16
            }
            UDP => {
                let part: &[u8; UDP_HEADER] = header.first_chunk().ok_or(short)?;
                let length = usize::from(word(part, 4));
                // Of a fragment, the length is that of the whole datagram.
                if length < UDP_HEADER || whole && length != header.len() {
                    return Err(Reason::Malformed);
                }
                (self.source_port, self.destination_port) = (word(part, 0), word(part, 2));
                6
            }
            ICMP | ICMPV6 => {
                let part: &[u8; ICMP_HEADER] = header.first_chunk().ok_or(short)?;
                self.detail = part[0];
                self.source_port = word(part, 4);
                2
            }
            _ => return Ok(()),
        };
        match offload.checksum {
            Some(partial)
                if (usize::from(partial.start), partial.offset) != (self.transport, checksum_at) =>
            {
                Err(Reason::Malformed)
            }
            _ => Ok(()),
        }
    }

    /// Whether it is an echo request or reply.
    pub const fn is_echo(&self) -> bool {
        matches!((self.protocol, self.detail), (ICMP, 8 | 0) | (ICMPV6, 128 | 129))
    }

    /// Whether it is an echo request.
    pub const fn is_echo_request(&self) -> bool {
        matches!((self.protocol, self.detail), (ICMP, 8) | (ICMPV6, 128))
    }

    /// Whether it is an ICMP error, which carries the packet that it is about.
    pub const fn is_error(&self) -> bool {
        matches!((self.protocol, self.detail), (ICMP, 3 | 4 | 11 | 12) | (ICMPV6, 1..=4))
    }

    /// Whether it is a later fragment, without a transport header.
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some(Fragment { offset: 1.., .. }))
    }
}

/// Reads the options of an IPv4 header (RFC 791, section 3.1). Source routing by the sender is not for functions, nor for the
/// world (RFC 7126, sections 4.3 and 4.4).
fn options(mut rest: &[u8]) -> Result<(), Reason> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let Some((kind, after)) = rest.split_first() {
        rest = match *kind {
            END => break,
            NO_OPERATION => after,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Reason::Protocol),
            _ => {
                let length = after.first().map_or(0, |length| usize::from(*length));
                rest.get(length..).filter(|_| length >= 2).ok_or(Reason::Malformed)?
            }
        };
    }
    Ok(())
}

/// Whether a header's checksum is right. A sum with carries does not mind the order of bytes (RFC 1071, section 2 B).
#[inline]
fn sums_to_nothing(header: &[u8]) -> bool {
    let words = header
        .chunks_exact(4)
        .map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])));
    let sum: u64 = words.sum();
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// How long the packet at the beginning of `bytes` says it is; for devices that pad.
pub fn length(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? >> 4 {
        4 => Some(word(bytes.first_chunk::<IPV4_HEADER>()?, 2).into()),
        6 => Some(IPV6_HEADER + usize::from(word(bytes.first_chunk::<IPV6_HEADER>()?, 4))),
        _ => None,
    }
}

/// A fragment that may be one; `None` of a datagram that was not cut.
#[inline]
fn checked(fragment: Fragment, payload: usize) -> Result<Option<Fragment>, Reason> {
    if fragment.offset == 0 && !fragment.more {
        return Ok(None);
    }
    let unaligned = fragment.more && !payload.is_multiple_of(8);
    let beyond = usize::from(fragment.offset) + payload > usize::from(u16::MAX);
    if payload == 0 || unaligned || beyond { Err(Reason::Fragment) } else { Ok(Some(fragment)) }
}

/// Two bytes, most significant first. The caller has looked at the length.
#[inline]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// An IPv4 address in a header.
#[inline]
pub fn ipv4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// An IPv6 address in a header.
pub fn ipv6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    octets.into()
}
