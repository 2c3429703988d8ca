//! Packets of IPv6 as packets of IPv4 and back: the half of NAT64 that remembers nothing.
//!
//! Source: RFC 7915, sections 4 and 5, of which this is left out: pieces of datagrams, extension headers, and errors that an
//! environment sends. A packet of IPv4 made here may not be cut. Checksums change by what changed of the pseudo header, so
//! that a wrong one stays wrong; partial ones stay partial.

use crate::checksum::Checksum;
use crate::craft::{pseudo_header, seal_icmp};
use crate::packet::{Offload, Partial};
use crate::rewrite::Delta;
use crate::wire::{ICMP, ICMP_HEADER, ICMPV6, IPV4_HEADER, IPV6_HEADER, TCP, UDP, View, ipv4_at, word};
use limits::network::nat64::synthesized;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How much longer a packet of IPv6 is.
pub const LONGER: usize = IPV6_HEADER - IPV4_HEADER;
/// The least that IPv6 lets a way take (RFC 8200, section 5).
const MTU_MIN: u32 = 1280;

/// Makes a packet of IPv4 out of one of IPv6, whole and without extension headers but those before its transport. `None`: it
/// has no like.
pub fn to_four(
    into: &mut Vec<u8>,
    bytes: &[u8],
    view: &View,
    offload: Offload,
    (from, to): (Ipv4Addr, Ipv4Addr),
) -> Option<Offload> {
    let transport = bytes.get(view.transport..)?;
    let total = u16::try_from(IPV4_HEADER + transport.len()).ok()?;
    let protocol = if view.protocol == ICMPV6 { ICMP } else { view.protocol };
    into.clear();
    into.resize(IPV4_HEADER, 0);
    (into[0], into[1]) = (0x45, bytes[0] << 4 | bytes[1] >> 4);
    into[2..4].copy_from_slice(&total.to_be_bytes());
    into[6] = 0x40;
    (into[8], into[9]) = (view.hops, protocol);
    into[12..16].copy_from_slice(&from.octets());
    into[16..20].copy_from_slice(&to.octets());
    let sum = Checksum::default().with(into).finish();
    into[10..12].copy_from_slice(&sum.to_be_bytes());
    into.extend_from_slice(transport);
    if protocol == ICMP {
        let message = &mut into[IPV4_HEADER..];
        message[0] = match view.detail {
            128 => 8,
            129 => 0,
            _ => return None,
        };
        seal_icmp(message, from.into(), to.into());
        return Some(Offload::default());
    }
    let mut four = [0; 32];
    four[..4].copy_from_slice(&from.octets());
    four[4..8].copy_from_slice(&to.octets());
    let six = *bytes.get(8..40)?.first_chunk::<32>()?;
    change(into, IPV4_HEADER, protocol, (six, four), offload)?;
    Some(moved(offload, IPV4_HEADER))
}

/// Makes a packet of IPv6 out of one of IPv4 that is whole; of an error, also of what it quotes, which the receiver sent.
/// `None`: it has no like.
pub fn to_six(
    into: &mut Vec<u8>,
    bytes: &[u8],
    view: &View,
    offload: Offload,
    (from, to): (Ipv6Addr, Ipv6Addr),
) -> Option<Offload> {
    let transport = bytes.get(view.transport..)?;
    let protocol = if view.protocol == ICMP { ICMPV6 } else { view.protocol };
    begin_six(into, bytes[1], view.hops, protocol, (from, to));
    if view.is_error() && view.protocol == ICMP {
        error_to_six(into, transport, to)?;
    } else {
        into.extend_from_slice(transport);
    }
    let length = u16::try_from(into.len() - IPV6_HEADER).ok()?;
    into[4..6].copy_from_slice(&length.to_be_bytes());
    if protocol == ICMPV6 {
        let message = &mut into[IPV6_HEADER..];
        if !view.is_error() {
            message[0] = match view.detail {
                8 => 128,
                0 => 129,
                _ => return None,
            };
        }
        seal_icmp(message, from.into(), to.into());
        return Some(Offload::default());
    }
    // A datagram without a checksum gets one: IPv6 has none without.
    if protocol == UDP && offload.checksum.is_none() && transport.get(6..8)? == [0, 0] {
        let sum = pseudo_header(from.into(), to.into(), UDP, transport.len()).with(transport).finish();
        let sum = if sum == 0 { u16::MAX } else { sum };
        into[IPV6_HEADER + 6..IPV6_HEADER + 8].copy_from_slice(&sum.to_be_bytes());
        return Some(moved(offload, IPV6_HEADER));
    }
    let mut four = [0; 32];
    four[..8].copy_from_slice(bytes.get(12..20)?);
    let six = *into.get(8..40)?.first_chunk::<32>()?;
    change(into, IPV6_HEADER, protocol, (four, six), offload)?;
    Some(moved(offload, IPV6_HEADER))
}

fn begin_six(into: &mut Vec<u8>, class: u8, hops: u8, protocol: u8, (from, to): (Ipv6Addr, Ipv6Addr)) {
    into.clear();
    into.resize(IPV6_HEADER, 0);
    (into[0], into[1]) = (0x60 | class >> 4, class << 4);
    (into[6], into[7]) = (protocol, hops);
    into[8..24].copy_from_slice(&from.octets());
    into[24..40].copy_from_slice(&to.octets());
}

/// Corrects the checksum behind a header of `at` bytes for another pseudo header.
fn change(
    into: &mut [u8],
    at: usize,
    protocol: u8,
    (old, new): ([u8; 32], [u8; 32]),
    offload: Offload,
) -> Option<()> {
    let field = at
        + match protocol {
            TCP => 16,
            UDP => 6,
            _ => return None,
        };
    let mut addresses = old;
    let mut delta = Delta::default();
    delta.put(&mut addresses, 0, new);
    if offload.checksum.is_some() {
        delta.apply_partial(into, field);
        return Some(());
    }
    if protocol == UDP && into.get(field..field + 2)? == [0, 0] {
        return Some(());
    }
    delta.apply(into, field);
    if protocol == UDP && into[field..field + 2] == [0, 0] {
        into[field..field + 2].copy_from_slice(&[0xff, 0xff]);
    }
    Some(())
}

/// The same left undone behind a header of another length.
fn moved(offload: Offload, header: usize) -> Offload {
    let checksum = offload.checksum.map(|partial| Partial { start: header as u16, ..partial });
    Offload { checksum, ..offload }
}

/// Appends an ICMP error of IPv4 as one of IPv6 (RFC 7915, section 4.2), without its checksum.
fn error_to_six(into: &mut Vec<u8>, message: &[u8], receiver: Ipv6Addr) -> Option<()> {
    const NO_ROUTE: (u8, u8) = (1, 0);
    const FORBIDDEN: (u8, u8) = (1, 1);
    let header = message.first_chunk::<ICMP_HEADER>()?;
    let (mut kind, mut rest) = (NO_ROUTE, 0);
    match (header[0], header[1]) {
        (3, 0 | 1 | 5..=8 | 11 | 12) => {}
        (3, 2) => (kind, rest) = ((4, 1), 6),
        (3, 3) => kind = (1, 4),
        (3, 4) => (kind, rest) = ((2, 0), (u32::from(word(header, 6)) + LONGER as u32).max(MTU_MIN)),
        (3, 9 | 10 | 13 | 15) => kind = FORBIDDEN,
        (11, code) => kind = (3, code),
        _ => return None,
    }
    into.extend_from_slice(&[kind.0, kind.1, 0, 0]);
    into.extend_from_slice(&rest.to_be_bytes());
    let quote = &message[ICMP_HEADER..];
    let old = quote.first_chunk::<IPV4_HEADER>()?;
    let behind = quote.get(usize::from(old[0] & 15) * 4..)?;
    let protocol = if old[9] == ICMP { ICMPV6 } else { old[9] };
    let mut six = Vec::with_capacity(IPV6_HEADER);
    begin_six(&mut six, old[1], old[8], protocol, (receiver, synthesized(ipv4_at(old, 16))));
    let length = word(old, 2).saturating_sub(u16::from(old[0] & 15) * 4);
    six[4..6].copy_from_slice(&length.to_be_bytes());
    six.extend_from_slice(behind);
    if protocol == ICMPV6 {
        let kind = six.get_mut(IPV6_HEADER)?;
        *kind = if *kind == 8 { 128 } else { 129 };
    } else {
        let mut four = [0; 32];
        four[..8].copy_from_slice(&old[12..20]);
        let addresses = *six.get(8..40)?.first_chunk::<32>()?;
        // What was quoted may end before the checksum.
        let field = if protocol == TCP { 16 } else { 6 };
        if six.len() >= IPV6_HEADER + field + 2 {
            change(&mut six, IPV6_HEADER, protocol, (four, addresses), Offload::default())?;
        }
    }
    into.extend_from_slice(&six);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::{self, Numbers};
    use crate::wire::flags;
    use limits::network::nat64::embedded;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn view(bytes: &[u8], offload: Offload) -> View {
        View::read(bytes, &offload).unwrap()
    }

    proptest! {
        #[test]
        fn what_goes_there_and_back_is_what_it_was(
            inside: u128, four: [u8; 4], there: [u8; 4], ports: (u16, u16), payload: Vec<u8>,
            kind in 0u8..3, partial: bool, class: u8,
        ) {
            let (inside, four, there) = (Ipv6Addr::from(inside), Ipv4Addr::from(four), Ipv4Addr::from(there));
            let there6 = synthesized(there);
            let (from, to) = (SocketAddr::new(inside.into(), ports.0), SocketAddr::new(there6.into(), ports.1));
            let mut sent = Vec::new();
            match kind {
                0 => craft::segment(&mut sent, from, to, Numbers { flags: flags::ACK, ..Numbers::default() }, &payload),
                1 => sent = craft::datagram(from, to, &payload).unwrap(),
                _ => craft::echo(&mut sent, inside.into(), there6.into(), false, ports.0, ports.1),
            }
            (sent[0], sent[1]) = (0x60 | class >> 4, class << 4);
            let mut offload = Offload::default();
            if partial && kind < 2 {
                let offset = if kind == 0 { 16 } else { 6 };
                let sum = pseudo_header(inside.into(), there6.into(), sent[6], sent.len() - 40).finish();
                let at = 40 + usize::from(offset);
                sent[at..at + 2].copy_from_slice(&(!sum).to_be_bytes());
                offload.checksum = Some(Partial { start: 40, offset });
            }
            let (mut over, mut back) = (Vec::new(), Vec::new());
            let behind = to_four(&mut over, &sent, &view(&sent, offload), offload, (four, there)).unwrap();
            let seen = view(&over, behind);
            prop_assert_eq!((seen.source, seen.destination), (four.into(), there.into()));
            prop_assert_eq!((over.len() + LONGER, over[1]), (sent.len(), class));
            if offload.checksum.is_none() {
                let start = if kind == 2 { Checksum::default() } else { pseudo_header(four.into(), there.into(), over[9], over.len() - 20) };
                prop_assert_eq!(start.with(&over[20..]).finish(), 0, "the sum is right by itself");
            }
            let last = to_six(&mut back, &over, &seen, behind, (inside, there6)).unwrap();
            prop_assert_eq!(last, if kind == 2 { Offload::default() } else { offload });
            // Zero and its complement are one number.
            let same = back == sent || back.len() == sent.len() && kind == 1;
            prop_assert!(same, "{:02x?}\n{:02x?}", back, sent);
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, inside: u128) {
            let inside = Ipv6Addr::from(inside);
            if let Ok(view) = View::read(&bytes, &Offload::default()) {
                let mut into = Vec::new();
                match view.source {
                    std::net::IpAddr::V4(_) => {
                        to_six(&mut into, &bytes, &view, Offload::default(), (inside, inside));
                    }
                    std::net::IpAddr::V6(_) => {
                        let four = Ipv4Addr::LOCALHOST;
                        to_four(&mut into, &bytes, &view, Offload::default(), (four, four));
                    }
                }
            }
        }

        #[test]
        fn an_error_is_translated_with_what_it_quotes(
            inside: u128, ports: (u16, u16), mtu in 0u16..9000, code in 0u8..16, kind in prop::sample::select(vec![3u8, 11, 12, 4]),
            quoted in 0usize..60,
        ) {
            let (inside, four) = (Ipv6Addr::from(inside), Ipv4Addr::new(169, 254, 0, 2));
            let there = Ipv4Addr::new(203, 0, 113, 9);
            let (mut sent, mut error, mut six) = (Vec::new(), Vec::new(), Vec::new());
            let numbers = Numbers { flags: flags::SYN, ..Numbers::default() };
            craft::segment(&mut sent, (four, ports.0).into(), (there, ports.1).into(), numbers, b"x");
            let router = Ipv4Addr::new(198, 51, 100, 1);
            craft::error(&mut error, router.into(), four.into(), kind, code, mtu.into(), &sent[..quoted.min(sent.len())]);
            let seen = view(&error, Offload::default());
            let done = to_six(&mut six, &error, &seen, Offload::default(), (synthesized(router), inside));
            if quoted < 20 || done.is_none() {
                return Ok(());
            }
            let read = view(&six, Offload::default());
            prop_assert!(read.is_error() && embedded(read.source) == Some(router));
            prop_assert_eq!(craft::icmp_sum(&six[40..], read.source, read.destination), 0);
            prop_assert_eq!(&six[48 + 8..48 + 24], &inside.octets()[..], "the quoted sender");
            if quoted >= sent.len() {
                let whole = &six[48..];
                let quote = view(whole, Offload::default());
                prop_assert_eq!((quote.source_port, quote.destination_port), ports);
                prop_assert_eq!(pseudo_header(quote.source, quote.destination, TCP, whole.len() - 40).with(&whole[40..]).finish(), 0);
            }
            if (kind, code) == (3, 4) {
                prop_assert_eq!(u32::from_be_bytes(*six[44..].first_chunk().unwrap()), (u32::from(mtu) + 20).max(1280));
            }
        }
    }
}
