//! What is attached: SYNs wait until it is reached, and the engine answers pings in its stead.

use super::*;

const ATTACHED: &str = "198.19.192.7:5432";

fn ask(rig: &mut Rig, port: u16) -> HeldId {
    match rig.leave(port, ATTACHED, flags::SYN).0 {
        Verdict::Ask { held, source, destination } => {
            assert_eq!((source.ip(), destination), (ELASTIC.into(), ATTACHED.parse().unwrap()));
            held
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_syn_goes_on_once_its_destination_is_reached() {
    let mut rig = Rig::new(&[]);
    let held = ask(&mut rig, 40_000);
    assert_eq!(rig.leave(40_000, ATTACHED, flags::SYN).0, Verdict::Drop(Reason::Held));
    assert_eq!(rig.engine.held_opened(rig.now, held), Some((Port::Relay, Offload::default())));
    let syn = rig.engine.answer().to_vec();
    let view = View::read(&syn, &Offload::default()).unwrap();
    assert_eq!((view.source, view.detail), (ELASTIC.into(), flags::SYN));
    assert!(sums_are_right(&syn));
    assert_eq!(rig.answer(&syn, flags::SYN | flags::ACK).0, Verdict::Drop(Reason::Spoofed), "from the world");
    assert_eq!(rig.leave(40_000, ATTACHED, flags::ACK).0, Verdict::Forward(Port::Relay));
    assert_eq!(rig.engine.held_opened(rig.now, held), None, "once");
}

#[test]
fn what_refuses_looks_refused_and_holds_nothing() {
    let mut rig = Rig::new(&[]);
    let held = ask(&mut rig, 40_000);
    assert_eq!(rig.used(LimitId::NatPorts), 1);
    assert_eq!(rig.engine.held_refused(rig.now, held), Some(Port::Environment(rig.inside)));
    let reset = rig.engine.answer().to_vec();
    let view = View::read(&reset, &Offload::default()).unwrap();
    assert_eq!((view.destination, view.destination_port), (INSIDE.into(), 40_000));
    assert_eq!(view.detail, flags::RST | flags::ACK);
    assert_eq!(&reset[28..32], 101_u32.to_be_bytes(), "it acknowledges the SYN");
    assert!(sums_are_right(&reset));
    assert_eq!((rig.used(LimitId::NatPorts), rig.engine.flows()), (0, 0));
}

#[test]
fn what_cannot_be_reached_is_asked_about_again() {
    let mut rig = Rig::new(&[]);
    let first = ask(&mut rig, 40_000);
    rig.engine.held_failed(rig.now, first);
    let second = ask(&mut rig, 40_000);
    assert_ne!(first, second);
    assert_eq!(rig.used(LimitId::NatPorts), 1, "one connection, tried twice");
    assert_eq!(rig.engine.held_refused(rig.now, first), None);
    rig.now += Duration::from_secs(350);
    rig.engine.advance(rig.now);
    assert_eq!(rig.engine.held_opened(rig.now, second), None, "it was given up in silence");
}

#[test]
fn held_syns_are_bounded() {
    let mut rig = Rig::new(&[]);
    for port in 0..held::HELD_MAX {
        ask(&mut rig, port as u16 + 1);
    }
    let refused = Verdict::Drop(Reason::Refused(LimitId::HostFlows));
    assert_eq!(rig.leave(60_000, ATTACHED, flags::SYN).0, refused);
}

#[test]
fn a_ping_is_answered_by_the_engine() {
    let mut rig = Rig::new(&[]);
    let (inside, attached) = (INSIDE.into(), "198.19.192.7".parse().unwrap());
    let mut ping = Vec::new();
    for number in 0..2 {
        craft::echo(&mut ping, inside, attached, false, 77, number);
        assert_eq!(rig.send(Port::Environment(rig.inside), &mut ping.clone()), Verdict::Answer);
        let mut expected = Vec::new();
        craft::echo(&mut expected, attached, inside, true, 77, number);
        assert_eq!(rig.engine.answer(), expected);
    }
    assert_eq!(rig.used(LimitId::NatPorts), 1);
}

#[test]
fn the_resolver_takes_no_connection() {
    let mut rig = Rig::new(&["eni.connections=0"]);
    for resolver in ["10.0.0.2:53", "169.254.169.253:53"] {
        let to: SocketAddr = resolver.parse().unwrap();
        let mut question = craft::datagram((INSIDE, 5000).into(), to, b"question").unwrap();
        let verdict = rig.send(Port::Environment(rig.inside), &mut question);
        assert_eq!(verdict, Verdict::Resolve { payload: 28..36 });
        assert!(
            matches!(rig.leave(40_000, resolver, flags::SYN).0, Verdict::Ask { .. }),
            "long answers need TCP"
        );
    }
    let refused = Verdict::Drop(Reason::Refused(LimitId::EniConnections));
    assert_eq!(rig.leave(40_000, REMOTE, flags::SYN).0, refused);
    assert_eq!(rig.leave(40_000, "169.254.169.254:80", flags::SYN).0, Verdict::Drop(Reason::Martian));
    assert_eq!(rig.leave(40_000, "169.254.169.253:80", flags::SYN).0, Verdict::Drop(Reason::Martian));
}

#[test]
fn a_full_database_says_so() {
    let limits = {
        let mut given = Overrides::default();
        given.read("db.max-connections=1").unwrap();
        NetworkSettings::from_era(&Era::named("today").unwrap(), "us-east-1", &given).unwrap()
    };
    let network = Network::simple(1, 1, 1).with_database("db.t4g.micro");
    let (address, port) = (network.hosts[0].address, 5432);
    let wired = network.wire(limits);
    let mut engine = PacketEngine::new(network, wired, PacketSettings::default());
    let place = Some(Place { function: 0, choice: 0 });
    let attachment = Attachment { address: INSIDE, address6: None, place, resolver: None };
    let id = engine.attach(Instant::START, attachment).unwrap();
    let to = SocketAddr::from((address, port)).to_string();
    let mut send = |from: u16, said: u8| {
        let mut bytes = segment((INSIDE, from), &to, said);
        let packet = Packet { bytes: &mut bytes, offload: Offload::default() };
        (engine.receive(Instant::START, Port::Environment(id), packet), engine.answer().to_vec())
    };
    assert!(matches!(send(1, flags::SYN).0, Verdict::Ask { .. }));
    let (verdict, reset) = send(2, flags::SYN);
    assert_eq!(verdict, Verdict::Answer);
    assert_eq!(View::read(&reset, &Offload::default()).unwrap().detail, flags::RST | flags::ACK);
    assert_eq!(send(1, flags::RST).0, Verdict::Drop(Reason::Held));
    assert!(matches!(send(2, flags::SYN).0, Verdict::Ask { .. }), "the first has given it back");
}
