//! NAT64: an environment that speaks IPv6 with somebody who speaks IPv4, under the NAT gateway's limits.

use super::*;
use crate::craft::icmp_sum;
use limits::network::nat64::synthesized;
use limits::network::{Hop, Route, To};
use model::stack::{AnyCidr, Cidr6};

const THERE: &str = "[64:ff9b::203.0.113.9]:443";

fn rig(overrides: &[&str], hop: Hop) -> Rig {
    let mut given = Overrides::default();
    overrides.iter().for_each(|text| given.read(text).unwrap());
    let limits = NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &given).unwrap();
    let mut network = Network::simple(2, 1, 1);
    network.placements[1] = None;
    let range = Cidr6::around("64:ff9b::".parse().unwrap(), 96).unwrap();
    network.subnets[0].routes.push(Route {
        name: "Six".to_owned(),
        to: To::Range(AnyCidr::Ipv6(range)),
        hop,
    });
    Rig::of(network, limits, Some(INSIDE6), PacketSettings::default())
}

/// The environment sends by IPv6; what becomes of it, and the packet that goes on.
fn leave(rig: &mut Rig, port: u16, to: &str, said: u8) -> (Verdict, Vec<u8>) {
    let mut packet = Vec::new();
    let numbers = Numbers { sequence: 100, acknowledgement: 8, flags: said };
    craft::segment(&mut packet, (INSIDE6, port).into(), to.parse().unwrap(), numbers, b"");
    let verdict = rig.send(Port::Environment(rig.inside), &mut packet);
    (verdict, rig.engine.answer().to_vec())
}

fn carried(port: Port) -> Verdict {
    Verdict::Carry(port, Offload::default())
}

#[test]
fn a_connection_goes_out_as_ipv4_and_comes_back_as_ipv6() {
    let mut rig = rig(&[], Hop::Nat(0));
    let (verdict, sent) = leave(&mut rig, 40_000, THERE, flags::SYN);
    assert_eq!(verdict, carried(Port::World));
    let view = View::read(&sent, &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port, view.hops), (ELASTIC.into(), 1024, 63));
    assert_eq!(SocketAddr::new(view.destination, view.destination_port), REMOTE.parse().unwrap());
    assert!(sums_are_right(&sent));
    let (verdict, _) = rig.answer(&sent, flags::SYN | flags::ACK);
    assert_eq!(verdict, carried(Port::Environment(rig.inside)));
    let back = rig.engine.answer().to_vec();
    let view = View::read(&back, &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port), (synthesized([203, 0, 113, 9].into()).into(), 443));
    assert_eq!((view.destination, view.destination_port), (INSIDE6.into(), 40_000));
    assert!(sums_are_right(&back));
    let metrics = rig.engine.metrics(rig.now, 0).unwrap();
    assert_eq!((metrics.connections_established, metrics.active_connections), (1, 1));
    // By IPv4 from the same port to the same server: another connection.
    let (verdict, other) = rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(verdict, Verdict::Forward(Port::World));
    assert_eq!(View::read(&other, &Offload::default()).unwrap().source_port, 1025);
    assert_eq!((rig.used(LimitId::EniConnections), rig.used(LimitId::NatPorts)), (2, 2));
    let (verdict, _) = rig.answer(&other, flags::RST | flags::ACK);
    assert_eq!(verdict, Verdict::Forward(Port::Environment(rig.inside)));
    assert_eq!(leave(&mut rig, 40_000, THERE, flags::RST | flags::ACK).0, carried(Port::World));
    assert_eq!((rig.used(LimitId::EniConnections), rig.engine.flows()), (0, 0));
}

#[test]
fn its_connections_are_those_of_the_gateway() {
    let mut rig = rig(&["nat.ports=2"], Hop::Nat(0));
    assert_eq!(leave(&mut rig, 1, THERE, flags::SYN).0, carried(Port::World));
    assert_eq!(rig.leave(2, REMOTE, flags::SYN).0, Verdict::Forward(Port::World));
    let full = Verdict::Drop(Reason::Refused(LimitId::NatPorts));
    assert_eq!(leave(&mut rig, 3, THERE, flags::SYN).0, full);
    assert_eq!(rig.leave(4, REMOTE, flags::SYN).0, full);
    assert_eq!(leave(&mut rig, 3, "[64:ff9b::203.0.113.8]:443", flags::SYN).0, carried(Port::World));
    // What nobody knows is reset by IPv6, too.
    let (verdict, reset) = leave(&mut rig, 9, THERE, flags::ACK);
    assert_eq!(verdict, Verdict::Answer);
    let view = View::read(&reset, &Offload::default()).unwrap();
    assert_eq!((view.destination, view.detail & flags::RST), (INSIDE6.into(), flags::RST));
    assert!(sums_are_right(&reset));
}

#[test]
fn pings_and_errors_cross_it() {
    let mut rig = rig(&[], Hop::Nat(0));
    let there = synthesized([203, 0, 113, 9].into());
    let mut ping = Vec::new();
    craft::echo(&mut ping, INSIDE6.into(), there.into(), false, 7, 1);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut ping), carried(Port::World));
    let sent = rig.engine.answer().to_vec();
    assert!(sums_are_right(&sent) && sent[9] == crate::wire::ICMP);
    let id = View::read(&sent, &Offload::default()).unwrap().source_port;
    let mut reply = Vec::new();
    craft::echo(&mut reply, [203, 0, 113, 9].into(), ELASTIC.into(), true, id, 1);
    assert_eq!(rig.send(Port::World, &mut reply), carried(Port::Environment(rig.inside)));
    let back = rig.engine.answer().to_vec();
    let view = View::read(&back, &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port, view.detail), (there.into(), 7, 129));
    assert!(sums_are_right(&back));
    // A router says that a segment is too long for its link.
    let (_, sent) = leave(&mut rig, 40_000, THERE, flags::SYN);
    let (router, mut error) = (IpAddr::from([198, 51, 100, 1]), Vec::new());
    craft::error(&mut error, router, ELASTIC.into(), 3, 4, 1400, &sent);
    assert_eq!(rig.send(Port::World, &mut error), carried(Port::Environment(rig.inside)));
    let error = rig.engine.answer();
    let from = synthesized([198, 51, 100, 1].into());
    assert_eq!((error[40], error[41], icmp_sum(&error[40..], from.into(), INSIDE6.into())), (2, 0, 0));
    assert_eq!(error[44..48], 1420_u32.to_be_bytes());
    assert_eq!((&error[56..72], &error[88..90]), (&INSIDE6.octets()[..], &40_000_u16.to_be_bytes()[..]));
}

#[test]
fn only_a_nat_gateway_translates_and_nothing_of_ours_is_behind_it() {
    for hop in [Hop::Egress(0), Hop::Elsewhere("Tgw".into()), Hop::InternetGateway("Igw".into())] {
        let verdict = leave(&mut rig(&[], hop), 1, THERE, flags::SYN).0;
        assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NoRoute)));
    }
    let mut rig = rig(&[], Hop::Nat(0));
    for to in ["127.0.0.1", "169.254.169.254", "169.254.169.253", "10.0.0.2", "224.0.0.1", "0.0.0.0"] {
        let verdict = leave(&mut rig, 1, &format!("[64:ff9b::{to}]:53"), flags::SYN).0;
        assert_eq!(verdict, Verdict::Drop(Reason::Martian), "{to}");
    }
    // Nobody of the world has a private address, and a function without a VPC has no IPv6.
    assert_eq!(leave(&mut rig, 1, "[64:ff9b::192.168.0.1]:80", flags::SYN).0, Verdict::Drop(Reason::Nobody));
    let mut packet = Vec::new();
    let numbers = Numbers { flags: flags::SYN, ..Numbers::default() };
    craft::segment(&mut packet, (INSIDE6, 1).into(), THERE.parse().unwrap(), numbers, b"");
    let verdict = rig.send(Port::Environment(rig.free), &mut packet);
    assert_eq!(verdict, Verdict::Drop(Reason::Refused(LimitId::NoRoute)));
}

#[test]
fn a_database_behind_the_gateway_counts_its_connections_and_has_its_groups_asked() {
    let mut given = Overrides::default();
    given.read("db.max-connections=1").unwrap();
    let limits = NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &given).unwrap();
    let mut network = Network::simple(2, 2, 1).with_database("db.t4g.micro");
    network.placements[1] = None;
    let range = Cidr6::around("64:ff9b::".parse().unwrap(), 96).unwrap();
    network.subnets[0].routes.push(Route {
        name: "Six".to_owned(),
        to: To::Range(AnyCidr::Ipv6(range)),
        hop: Hop::Nat(0),
    });
    (network.gateways[0].subnet, network.gateways[0].address) = (Some(1), Some([10, 1, 0, 250].into()));
    let there = format!("[64:ff9b::{}]:5432", network.hosts[0].address);
    let mut guarded = network.clone();
    guarded.groups.push(limits::network::Group { name: "Guard".to_owned(), ..Default::default() });
    guarded.hosts[0].groups = vec![1];
    let rig = |network| Rig::of(network, limits.clone(), Some(INSIDE6), PacketSettings::default());
    let mut barred = rig(guarded);
    let refused = Verdict::Drop(Reason::Refused(LimitId::NoRule));
    assert_eq!(leave(&mut barred, 1, &there, flags::SYN).0, refused);
    let mut rig = rig(network);
    let used = |rig: &Rig| {
        [LimitId::DbMaxConnections, LimitId::NatPorts, LimitId::EniConnections].map(|limit| rig.used(limit))
    };
    assert!(matches!(leave(&mut rig, 1, &there, flags::SYN).0, Verdict::Ask { .. }));
    assert_eq!(used(&rig), [1, 1, 1]);
    assert_eq!(leave(&mut rig, 2, &there, flags::SYN).0, Verdict::Answer, "it says no");
    assert_eq!(used(&rig), [1, 1, 1], "and leaves nothing behind");
    let metrics = rig.engine.metrics(rig.now, 0).unwrap();
    assert_eq!(metrics.active_connections, 1);
    leave(&mut rig, 1, &there, flags::RST | flags::ACK);
    assert_eq!((used(&rig), rig.engine.flows()), ([0, 0, 0], 0));
    leave(&mut rig, 3, &there, flags::SYN);
    assert_eq!(used(&rig), [1, 1, 1]);
}
