//! IPv6: out through an egress-only gateway by the interface's own address, free of a NAT gateway's limits.

use super::*;
use crate::craft::icmp_sum;
use limits::network::{Hop, Route, To};
use model::stack::{AnyCidr, Cidr6};
use std::net::Ipv6Addr;

const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2600, 0x1f18, 0, 0, 0, 0, 0, 4);

fn dual_stack() -> Rig {
    let limits = NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &Overrides::default());
    let mut network = Network::simple(2, 1, 1);
    network.placements[1] = None;
    network.egress_gateways.push("Egress".to_owned());
    network.interfaces[0].address6 = Some(OUTSIDE6);
    let to = To::Range(AnyCidr::Ipv6(Cidr6::ANY));
    network.subnets[0].routes.push(Route { name: "Six".to_owned(), to, hop: Hop::Egress(0) });
    Rig::of(network, limits.unwrap(), Some(INSIDE6), PacketSettings::default())
}

fn syn(from: Ipv6Addr, to: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    let numbers = Numbers { flags: flags::SYN, ..Numbers::default() };
    craft::segment(&mut packet, (from, 40_000).into(), to.parse().unwrap(), numbers, b"");
    packet
}

#[test]
fn a_connection_leaves_by_the_interface_s_address_and_comes_back() {
    let mut rig = dual_stack();
    let mut sent = syn(INSIDE6, "[2606::9]:443");
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut sent), Verdict::Forward(Port::World));
    let view = View::read(&sent, &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port, view.hops), (OUTSIDE6.into(), 1024, 63));
    assert!(sums_are_right(&sent));
    let (verdict, back) = rig.answer(&sent, flags::SYN | flags::ACK);
    assert_eq!(verdict, Verdict::Forward(Port::Environment(rig.inside)));
    let view = View::read(&back, &Offload::default()).unwrap();
    assert_eq!((view.destination, view.destination_port), (INSIDE6.into(), 40_000));
    assert!(sums_are_right(&back));
    assert_eq!((rig.used(LimitId::EniConnections), rig.used(LimitId::NatPorts)), (1, 0));
}

/// Two pieces of a datagram, cut behind so many bytes of what follows its header.
fn cut(whole: &[u8], at: usize) -> [Vec<u8>; 2] {
    [(0, &whole[40..40 + at]), (at, &whole[40 + at..])].map(|(offset, payload)| {
        let more = u16::from(offset == 0);
        let place = (offset as u16 | more).to_be_bytes();
        let mut piece = [&whole[..40], &[17, 0, place[0], place[1], 0, 0, 0, 7], payload].concat();
        piece[4..6].copy_from_slice(&(payload.len() as u16 + 8).to_be_bytes());
        piece[6] = 44;
        piece
    })
}

fn join(pieces: &[Vec<u8>; 2]) -> Vec<u8> {
    let mut whole = [&pieces[0][..40], &pieces[0][48..], &pieces[1][48..]].concat();
    let length = (whole.len() - 40) as u16;
    whole[4..6].copy_from_slice(&length.to_be_bytes());
    whole[6] = 17;
    whole
}

#[test]
fn a_datagram_in_pieces_arrives_whole_both_ways() {
    let mut rig = dual_stack();
    let (inside, remote) = (Port::Environment(rig.inside), "[2606::9]:9999".parse::<SocketAddr>().unwrap());
    let whole = craft::datagram((INSIDE6, 5000).into(), remote, &[7; 3000]).unwrap();
    let mut pieces = cut(&whole, 1440);
    for piece in &mut pieces {
        assert_eq!(rig.send(inside, piece), Verdict::Forward(Port::World));
    }
    let view = View::read(&join(&pieces), &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port), (OUTSIDE6.into(), 1024));
    assert!(sums_are_right(&join(&pieces)));
    let back = craft::datagram(remote, (OUTSIDE6, 1024).into(), &[9; 3000]).unwrap();
    let mut pieces = cut(&back, 1440);
    for piece in &mut pieces {
        assert_eq!(rig.send(Port::World, piece), Verdict::Forward(inside));
    }
    let view = View::read(&join(&pieces), &Offload::default()).unwrap();
    assert_eq!((view.destination, view.destination_port), (INSIDE6.into(), 5000));
    assert!(sums_are_right(&join(&pieces)));
    // One that overlaps spoils it.
    let mut pieces = cut(&whole, 1440);
    assert_eq!(rig.send(inside, &mut pieces[0]), Verdict::Forward(Port::World));
    pieces[1][43] = (1432_u16 & 0xff) as u8;
    assert_eq!(rig.send(inside, &mut pieces[1]), Verdict::Drop(Reason::Fragment));
}

#[test]
fn packet_too_big_comes_back_with_what_was_sent() {
    let mut rig = dual_stack();
    let mut sent = syn(INSIDE6, "[2606::9]:443");
    rig.send(Port::Environment(rig.inside), &mut sent);
    let router: IpAddr = "2606::1".parse().unwrap();
    let mut error = Vec::new();
    craft::error(&mut error, router, OUTSIDE6.into(), 2, 0, 1280, &sent);
    assert_eq!(rig.send(Port::World, &mut error), Verdict::Forward(Port::Environment(rig.inside)));
    assert_eq!(icmp_sum(&error[40..], router, INSIDE6.into()), 0);
    assert_eq!(error[48 + 8..48 + 24], INSIDE6.octets());
    assert_eq!(error[48 + 40..48 + 42], 40_000_u16.to_be_bytes());
    assert!(sums_are_right(&error[48..]), "the quoted packet is right again");
}

#[test]
fn a_ping_is_translated_and_strangers_are_not() {
    let mut rig = dual_stack();
    let remote: IpAddr = "2606::9".parse().unwrap();
    let mut ping = Vec::new();
    craft::echo(&mut ping, INSIDE6.into(), remote, false, 7, 1);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut ping), Verdict::Forward(Port::World));
    assert!(sums_are_right(&ping));
    let mut reply = Vec::new();
    craft::echo(&mut reply, remote, OUTSIDE6.into(), true, 1024, 1);
    assert_eq!(rig.send(Port::World, &mut reply), Verdict::Forward(Port::Environment(rig.inside)));
    assert!(sums_are_right(&reply));
    // The kernel's own business, a neighbour's address, and a function without a VPC.
    for (source, reason) in
        [("fe80::1", Reason::Martian), ("::", Reason::Martian), ("fd00:0:2::2", Reason::Spoofed)]
    {
        let mut packet = syn(source.parse().unwrap(), "[2606::9]:443");
        assert_eq!(rig.send(Port::Environment(rig.inside), &mut packet), Verdict::Drop(reason));
    }
    let mut packet = syn(INSIDE6, "[2606::9]:443");
    let verdict = rig.send(Port::Environment(rig.free), &mut packet);
    assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NoRoute)));
    for to in ["[::1]:80", "[ff02::1]:80", "[fe80::1]:80", "[::ffff:10.0.0.1]:80"] {
        let mut packet = syn(INSIDE6, to);
        assert_eq!(
            rig.send(Port::Environment(rig.inside), &mut packet),
            Verdict::Drop(Reason::Martian),
            "{to}"
        );
    }
}
