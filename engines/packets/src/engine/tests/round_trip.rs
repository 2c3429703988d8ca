//! Packets go out translated and come back as they were.

use super::*;

#[test]
fn a_connection_goes_through_interface_and_gateway_and_back() {
    let mut rig = Rig::new(&[]);
    let (verdict, sent) = rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(verdict, Verdict::Forward(Port::World));
    let view = View::read(&sent, &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port), (ELASTIC.into(), 1024));
    assert_eq!(SocketAddr::new(view.destination, view.destination_port), REMOTE.parse().unwrap());
    assert_eq!((view.hops, sums_are_right(&sent)), (63, true));

    let (verdict, back) = rig.answer(&sent, flags::SYN | flags::ACK);
    assert_eq!(verdict, Verdict::Forward(Port::Environment(rig.inside)));
    let view = View::read(&back, &Offload::default()).unwrap();
    assert_eq!((view.destination, view.destination_port), (INSIDE.into(), 40_000));
    assert!(sums_are_right(&back));
    let metrics = rig.engine.metrics(rig.now, 0).unwrap();
    assert_eq!((metrics.connection_attempts, metrics.connections_established), (1, 1));
    assert_eq!((metrics.active_connections, metrics.bytes_out_to_destination), (1, 40));
}

#[test]
fn without_a_vpc_no_limit_is_asked() {
    let mut rig = Rig::new(&["nat.ports=1", "eni.connections=1"]);
    for port in 40_000..40_010 {
        let mut packet = segment(([169, 254, 0, 6].into(), port), REMOTE, flags::SYN);
        assert_eq!(rig.send(Port::Environment(rig.free), &mut packet), Verdict::Forward(Port::World));
        let view = View::read(&packet, &Offload::default()).unwrap();
        assert_eq!((view.source, view.source_port), (Ipv4Addr::new(198, 19, 0, 3).into(), port));
        let (verdict, back) = rig.answer(&packet, flags::SYN | flags::ACK);
        assert_eq!(verdict, Verdict::Forward(Port::Environment(rig.free)));
        assert!(sums_are_right(&back));
    }
    assert_eq!((rig.used(LimitId::EniConnections), rig.used(LimitId::HostFlows)), (0, 10));
}

#[test]
fn nothing_gets_in_by_itself() {
    let mut rig = Rig::new(&[]);
    let sent = rig.connect(40_000, REMOTE);
    let mut strange = segment(([203, 0, 113, 10].into(), 443), "198.18.0.1:1024", flags::ACK);
    assert_eq!(rig.send(Port::World, &mut strange), Verdict::Drop(Reason::NoFlow));
    // The right addresses, but from the relay, where the flow does not lead.
    let mut packet = segment(([203, 0, 113, 9].into(), 443), "198.18.0.1:1024", flags::ACK);
    assert_eq!(rig.send(Port::Relay, &mut packet), Verdict::Drop(Reason::Spoofed));
    assert_eq!(rig.answer(&sent, flags::ACK).0, Verdict::Forward(Port::Environment(rig.inside)));
    assert_eq!(rig.engine.metrics(rig.now, 0).unwrap().packets_dropped, 2);
}
