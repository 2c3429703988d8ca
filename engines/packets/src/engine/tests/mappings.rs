//! How long mappings live, and whom they let in: RFC 4787, RFC 5382 and RFC 5508, as docs/nat.md answers them.

use super::*;

const PEER: &str = "203.0.113.9:9999";

/// The environment sends a datagram; what becomes of it, and the packet after.
fn ask(rig: &mut Rig) -> (Verdict, Vec<u8>) {
    let mut packet = craft::datagram((INSIDE, 5000).into(), PEER.parse().unwrap(), b"word").unwrap();
    (rig.send(Port::Environment(rig.inside), &mut packet), packet)
}

/// The other side answers a datagram that went out.
fn hear(rig: &mut Rig, sent: &[u8]) -> Verdict {
    let view = View::read(sent, &Offload::default()).unwrap();
    let to = SocketAddr::new(view.source, view.source_port);
    let mut packet = craft::datagram(PEER.parse().unwrap(), to, b"word").unwrap();
    rig.send(Port::World, &mut packet)
}

/// Ports of the gateway that are taken so many seconds later.
fn after(rig: &mut Rig, seconds: u64) -> u64 {
    rig.now += Duration::from_secs(seconds);
    rig.engine.advance(rig.now);
    rig.used(LimitId::NatPorts)
}

#[test]
fn a_datagram_holds_its_port_for_30_s_and_a_stream_of_them_for_180() {
    let mut rig = Rig::new(&[]);
    ask(&mut rig);
    assert_eq!((after(&mut rig, 29), after(&mut rig, 1)), (1, 0), "nobody answers");
    let (_, sent) = ask(&mut rig);
    for _ in 0..3 {
        assert_eq!(hear(&mut rig, &sent), Verdict::Forward(Port::Environment(rig.inside)));
        assert_eq!(after(&mut rig, 29), 1, "what comes refreshes it");
    }
    assert_eq!(after(&mut rig, 1), 0);
    assert_eq!(hear(&mut rig, &sent), Verdict::Drop(Reason::NoFlow));
    let (_, sent) = ask(&mut rig);
    hear(&mut rig, &sent);
    for _ in 0..3 {
        assert_eq!(ask(&mut rig).0, Verdict::Forward(Port::World));
        assert_eq!(after(&mut rig, 179), 1);
    }
    assert_eq!(after(&mut rig, 1), 0);
    let mut rig = Rig::new(&["nat.idle-timeout=10"]);
    let (_, sent) = ask(&mut rig);
    hear(&mut rig, &sent);
    ask(&mut rig);
    assert_eq!((after(&mut rig, 9), after(&mut rig, 1)), (1, 0), "never above the gateway's own");
}

#[test]
fn one_port_serves_many_destinations_and_lets_in_those_alone() {
    let mut rig = Rig::new(&["nat.ports=1"]);
    let port = |sent: &[u8]| View::read(sent, &Offload::default()).unwrap().source_port;
    let opened = ["203.0.113.9:443", "203.0.113.9:80", "203.0.113.10:443"].map(|to| rig.connect(40_000, to));
    assert!(opened.iter().all(|sent| port(sent) == port(&opened[0])));
    let own = format!("{ELASTIC}:{}", port(&opened[0]));
    for (from, at) in [([203, 0, 113, 9], 444), ([203, 0, 113, 10], 80), ([203, 0, 113, 8], 443)] {
        let mut strange = segment((from.into(), at), &own, flags::ACK);
        assert_eq!(rig.send(Port::World, &mut strange), Verdict::Drop(Reason::NoFlow), "{from:?}:{at}");
    }
    let mut datagram = craft::datagram(REMOTE.parse().unwrap(), own.parse().unwrap(), b"word").unwrap();
    assert_eq!(rig.send(Port::World, &mut datagram), Verdict::Drop(Reason::NoFlow), "another protocol");
}

#[test]
fn a_connection_that_both_sides_open_is_one() {
    let mut rig = Rig::new(&[]);
    let (_, sent) = rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(rig.answer(&sent, flags::SYN).0, Verdict::Forward(Port::Environment(rig.inside)));
    let both = flags::SYN | flags::ACK;
    assert_eq!(rig.leave(40_000, REMOTE, both).0, Verdict::Forward(Port::World));
    assert_eq!(rig.answer(&sent, both).0, Verdict::Forward(Port::Environment(rig.inside)));
    let metrics = rig.engine.metrics(rig.now, 0).unwrap();
    assert_eq!((metrics.connections_established, metrics.active_connections), (1, 1));
}

#[test]
fn a_syn_that_nobody_answers_holds_its_port_until_the_idle_time_out() {
    let mut rig = Rig::new(&["nat.ports=1"]);
    rig.leave(40_000, REMOTE, flags::SYN);
    assert_eq!(after(&mut rig, 349), 1);
    assert_eq!(rig.leave(40_001, REMOTE, flags::SYN).0, Verdict::Drop(Reason::Refused(LimitId::NatPorts)));
    assert_eq!(after(&mut rig, 1), 0);
    assert_eq!(rig.leave(40_001, REMOTE, flags::SYN).0, Verdict::Forward(Port::World));
}

#[test]
fn an_error_neither_ends_nor_refreshes_a_flow() {
    let mut rig = Rig::new(&[]);
    let (_, sent) = rig.leave(40_000, REMOTE, flags::SYN);
    rig.now += Duration::from_secs(349);
    for code in [0, 1, 3, 4] {
        let mut error = Vec::new();
        craft::error(&mut error, "192.0.2.1".parse().unwrap(), ELASTIC.into(), 3, code, 1400, &sent);
        assert_eq!(rig.send(Port::World, &mut error), Verdict::Forward(Port::Environment(rig.inside)));
    }
    assert_eq!((after(&mut rig, 0), after(&mut rig, 1)), (1, 0));
}
