//! The limits' numbers, to the last connection.

use super::*;
use model::stack::Link;

const OTHER: &str = "203.0.113.10:443";

fn ports(count: u32) -> impl Iterator<Item = u16> {
    (0..count).map(|index| (index + 100) as u16)
}

#[test]
fn the_fifty_five_thousandth_passes_and_the_next_is_dropped() {
    let mut rig = Rig::new(&[]);
    for port in ports(55_000) {
        assert_eq!(rig.leave(port, REMOTE, flags::SYN).0, Verdict::Forward(Port::World));
    }
    let refused = Verdict::Drop(Reason::Refused(LimitId::NatPorts));
    assert_eq!(rig.leave(60_000, REMOTE, flags::SYN).0, refused);
    assert_eq!(rig.leave(60_000, OTHER, flags::SYN).0, Verdict::Forward(Port::World));
    let metrics = rig.engine.metrics(rig.now, 0).unwrap();
    assert_eq!((metrics.port_allocation_errors, metrics.connection_attempts), (1, 55_002));
    assert_eq!((metrics.active_connections, metrics.packets_dropped), (55_001, 1));
    let Some(Event::Refused { refusal, .. }) = rig.engine.take_event() else { panic!("it is told") };
    assert_eq!(refusal.to_string(), "nat.ports of NatGateway to 203.0.113.9:443: 55000 of 55000 connections");
    assert_eq!(rig.engine.take_event(), None);
}

#[test]
fn the_sixty_five_thousandth_passes_the_interface_and_the_next_does_not() {
    let settings = PacketSettings { seed: [3, 4], ..PacketSettings::default() };
    let mut rig = Rig::with(&[], 2, settings);
    let mut seen = BTreeSet::new();
    for port in ports(65_000) {
        let (verdict, sent) = rig.leave(port, REMOTE, flags::SYN);
        assert_eq!(verdict, Verdict::Forward(Port::World));
        let view = View::read(&sent, &Offload::default()).unwrap();
        assert!(seen.insert((view.source, view.source_port)), "no translation twice");
    }
    let refused = Verdict::Drop(Reason::Refused(LimitId::EniConnections));
    assert_eq!(rig.leave(65_500, OTHER, flags::SYN).0, refused);
    assert_eq!(rig.engine.metrics(rig.now, 0).unwrap().port_allocation_errors, 0);
    assert_eq!((rig.used(LimitId::EniConnections), rig.used(LimitId::HostFlows)), (65_000, 65_000));
}

#[test]
fn a_closed_connection_gives_its_port_to_the_next() {
    let mut rig = Rig::new(&["nat.ports=1"]);
    let sent = rig.connect(40_000, REMOTE);
    assert_eq!(rig.leave(40_001, REMOTE, flags::SYN).0, Verdict::Drop(Reason::Refused(LimitId::NatPorts)));
    let (fin, ack) = (flags::FIN | flags::ACK, flags::ACK);
    rig.leave(40_000, REMOTE, fin);
    rig.answer(&sent, ack);
    rig.answer(&sent, fin);
    assert_eq!(rig.used(LimitId::NatPorts), 1, "the last acknowledgement is still to come");
    assert_eq!(rig.leave(40_000, REMOTE, ack).0, Verdict::Forward(Port::World));
    assert_eq!((rig.used(LimitId::NatPorts), rig.used(LimitId::EniConnections)), (0, 0));
    // What was lost is sent again, and still finds its way for a moment.
    assert_eq!(rig.answer(&sent, fin).0, Verdict::Forward(Port::Environment(rig.inside)));
    assert_eq!(rig.leave(40_001, REMOTE, flags::SYN).0, Verdict::Forward(Port::World));
    assert_eq!(rig.leave(40_000, REMOTE, ack).0, Verdict::Answer, "its translation is another's now");
    assert_eq!(rig.engine.flows(), 1);
}

#[test]
fn a_reset_gives_the_port_back_at_once() {
    let mut rig = Rig::new(&["nat.ports=1"]);
    let sent = rig.connect(40_000, REMOTE);
    assert_eq!(rig.answer(&sent, flags::RST).0, Verdict::Forward(Port::Environment(rig.inside)));
    assert_eq!(rig.engine.flows(), 0);
    rig.connect(40_001, REMOTE);
    assert_eq!(rig.leave(40_001, REMOTE, flags::RST).0, Verdict::Forward(Port::World));
    assert_eq!((rig.engine.flows(), rig.used(LimitId::EniConnections)), (0, 0));
}

#[test]
fn an_end_with_a_wrong_checksum_is_passed_on_and_ends_nothing() {
    let mut rig = Rig::new(&["nat.ports=1"]);
    let sent = rig.connect(40_000, REMOTE);
    let port = View::read(&sent, &Offload::default()).unwrap().source_port;
    let (from, to) = (REMOTE.parse().unwrap(), SocketAddr::from((ELASTIC, port)));
    let hear = |rig: &mut Rig, said: u8, damage: u8| {
        let mut packet = Vec::new();
        let numbers = Numbers { sequence: 7, acknowledgement: 1, flags: said };
        craft::segment(&mut packet, from, to, numbers, b"word");
        *packet.last_mut().unwrap() ^= damage;
        let verdict = rig.send(Port::World, &mut packet);
        assert_eq!(verdict, Verdict::Forward(Port::Environment(rig.inside)), "its receiver judges it");
        assert_eq!(sums_are_right(&packet), damage == 0);
        rig.used(LimitId::NatPorts)
    };
    assert_eq!(hear(&mut rig, flags::RST, 0x55), 1);
    // Nor is it the first of two FINs.
    assert_eq!(hear(&mut rig, flags::FIN | flags::ACK, 0x55), 1);
    rig.leave(40_000, REMOTE, flags::FIN | flags::ACK);
    assert_eq!(hear(&mut rig, flags::ACK, 0), 1);
    assert_eq!(hear(&mut rig, flags::RST, 0), 0);
}

#[test]
fn a_peer_that_remembers_an_older_connection_is_reset_and_the_next_syn_has_the_same_port() {
    let mut rig = Rig::new(&["nat.ports=2"]);
    rig.connect(40_000, REMOTE);
    rig.connect(40_001, REMOTE);
    rig.now = Instant::from_secs(400);
    // Both are forgotten here, and not there.
    let (verdict, first) = rig.leave(40_002, REMOTE, flags::SYN);
    assert_eq!(verdict, Verdict::Forward(Port::World));
    assert_eq!(rig.answer(&first, flags::ACK).0, Verdict::Forward(Port::Environment(rig.inside)));
    assert_eq!(rig.leave(40_002, REMOTE, flags::RST).0, Verdict::Forward(Port::World));
    let (verdict, again) = rig.leave(40_002, REMOTE, flags::SYN);
    assert_eq!(verdict, Verdict::Forward(Port::World));
    let source = |packet: &[u8]| View::read(packet, &Offload::default()).unwrap().source_port;
    assert_eq!((source(&again), rig.used(LimitId::NatPorts)), (source(&first), 1));
    rig.answer(&again, flags::SYN | flags::ACK);
    assert_eq!(rig.engine.metrics(rig.now, 0).unwrap().connections_established, 3);
    assert_eq!(rig.leave(40_002, REMOTE, flags::RST).0, Verdict::Forward(Port::World));
    assert_eq!(rig.used(LimitId::NatPorts), 0, "once it is open, a reset ends it");
}

#[test]
fn what_an_older_connection_still_says_ends_nothing_of_the_new_one() {
    let mut rig = Rig::new(&["nat.ports=2"]);
    let (_, first) = rig.leave(40_000, REMOTE, flags::SYN);
    // The peer's older connection waits for the answer to its FIN.
    rig.answer(&first, flags::FIN | flags::ACK);
    assert_eq!(rig.leave(40_000, REMOTE, flags::RST).0, Verdict::Forward(Port::World));
    let again = rig.connect(40_000, REMOTE);
    assert_eq!(rig.engine.metrics(rig.now, 0).unwrap().connections_established, 1);
    // Closed by this side alone, it goes on for as long as the other one speaks.
    rig.leave(40_000, REMOTE, flags::FIN | flags::ACK);
    for _ in 0..5 {
        assert_eq!(rig.answer(&again, flags::ACK).0, Verdict::Forward(Port::Environment(rig.inside)));
        rig.now += Duration::from_secs(3);
        rig.engine.advance(rig.now);
    }
    assert_eq!(rig.engine.flows(), 1);
}

#[test]
fn a_connection_whose_answer_came_after_an_older_ones_is_established() {
    let mut rig = Rig::new(&["nat.ports=2"]);
    let (_, sent) = rig.leave(40_000, REMOTE, flags::SYN);
    rig.answer(&sent, flags::ACK);
    rig.answer(&sent, flags::SYN | flags::ACK);
    assert_eq!(rig.engine.metrics(rig.now, 0).unwrap().connections_established, 1);
    rig.leave(40_000, REMOTE, flags::RST);
    assert_eq!(rig.engine.flows(), 0, "a reset ends it");
}

#[test]
fn a_port_rests_for_its_cool_down() {
    let mut rig = Rig::new(&["nat.ports=1", "nat.port-cooldown=10"]);
    let sent = rig.connect(40_000, REMOTE);
    rig.answer(&sent, flags::RST);
    let refused = Verdict::Drop(Reason::Refused(LimitId::NatPorts));
    rig.now = Instant::from_millis(10_999);
    assert_eq!(rig.leave(40_001, REMOTE, flags::SYN).0, refused);
    rig.now = Instant::from_secs(11);
    assert_eq!(rig.leave(40_001, REMOTE, flags::SYN).0, Verdict::Forward(Port::World));
}

#[test]
fn after_350_s_of_silence_the_gateway_answers_with_a_reset() {
    let mut rig = Rig::new(&[]);
    rig.connect(40_000, REMOTE);
    rig.now = Instant::from_nanos(350_999_999_999);
    assert_eq!(rig.leave(40_000, REMOTE, flags::ACK).0, Verdict::Forward(Port::World));
    assert_eq!(rig.engine.next_deadline().map(|at| at <= rig.now + Duration::from_secs(350)), Some(true));
    rig.now += Duration::from_secs(350);
    assert_eq!(rig.leave(40_000, REMOTE, flags::ACK).0, Verdict::Answer);
    let reset = rig.engine.answer().to_vec();
    let view = View::read(&reset, &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port), (Ipv4Addr::new(203, 0, 113, 9).into(), 443));
    assert_eq!((view.destination, view.destination_port), (INSIDE.into(), 40_000));
    assert_eq!((view.detail, sums_are_right(&reset)), (flags::RST, true));
    let metrics = rig.engine.metrics(rig.now, 0).unwrap();
    assert_eq!((metrics.idle_timeouts, metrics.active_connections), (1, 0));
    assert_eq!(rig.used(LimitId::EniConnections), 0);
}

#[test]
fn each_part_of_the_way_has_its_own_patience() {
    let mut rig = Rig::new(&["nat.idle-timeout=10", "eni.idle-timeout=20"]);
    rig.connect(40_000, REMOTE);
    rig.now = Instant::from_secs(11);
    rig.engine.advance(rig.now);
    assert_eq!((rig.used(LimitId::NatPorts), rig.used(LimitId::EniConnections)), (0, 1));
    rig.now = Instant::from_secs(21);
    rig.engine.advance(rig.now);
    assert_eq!((rig.engine.flows(), rig.used(LimitId::EniConnections)), (0, 0));
}

#[test]
fn an_environment_that_is_gone_leaves_its_connections_behind() {
    let mut rig = Rig::new(&[]);
    let sent = rig.connect(40_000, REMOTE);
    rig.engine.detach(rig.now, rig.inside);
    assert_eq!(rig.leave(40_000, REMOTE, flags::ACK).0, Verdict::Drop(Reason::Detached));
    assert_eq!(rig.answer(&sent, flags::ACK).0, Verdict::Drop(Reason::Detached));
    assert_eq!(rig.used(LimitId::NatPorts), 1);
    assert_eq!(rig.engine.interfaces_in_use(rig.now), [(0, vec![0])].into());
    rig.now += Duration::from_secs(350);
    rig.engine.advance(rig.now);
    assert_eq!((rig.used(LimitId::NatPorts), rig.engine.flows()), (0, 0));
    assert_eq!(rig.engine.interfaces_in_use(rig.now), [].into());
}

#[test]
fn an_environment_is_behind_its_interface_also_without_connections() {
    let mut rig = Rig::new(&[]);
    assert_eq!(rig.engine.interfaces_in_use(rig.now).len(), 1);
    for _ in 0..2 {
        // Again is for nothing.
        rig.engine.detach(rig.now, rig.inside);
        assert_eq!(rig.engine.interfaces_in_use(rig.now).len(), 0);
    }
}

#[test]
fn a_full_table_refuses_in_its_own_name() {
    let mut rig = Rig::with(&[], 1, PacketSettings { flows_max: 3, ..PacketSettings::default() });
    (1..4).for_each(|port| drop(rig.connect(port, REMOTE)));
    assert_eq!(rig.leave(4, REMOTE, flags::SYN).0, Verdict::Drop(Reason::Refused(LimitId::HostFlows)));
    assert_eq!(rig.used(LimitId::NatPorts), 3);
    let row = rig.engine.board().pop().unwrap();
    assert_eq!((row.id, row.used, row.max, row.refused), (LimitId::HostFlows, 3, 3, 1));
}

#[test]
fn a_masquerade_without_a_port_refuses_in_the_hosts_name() {
    let settings = PacketSettings { masquerade_ports: Some(3), ..PacketSettings::default() };
    let mut rig = Rig::with(&[], 2, settings);
    let refused = Verdict::Drop(Reason::Refused(LimitId::HostPorts));
    let sent: Vec<_> = (1..3).map(|port| rig.connect(port, REMOTE)).collect();
    let mut free = segment(([169, 254, 0, 6].into(), 5000), REMOTE, flags::SYN);
    assert_eq!(rig.send(Port::Environment(rig.free), &mut free), Verdict::Forward(Port::World));
    for _ in 0..2 {
        // Every SYN of it, sent again, is told.
        assert_eq!(rig.leave(3, REMOTE, flags::SYN).0, refused);
        let Some(Event::Refused { refusal, .. }) = rig.engine.take_event() else { panic!("it is told") };
        assert_eq!(refusal.to_string(), format!("host.ports of masquerade to {REMOTE}: 3 of 3 ports"));
    }
    // It holds nothing of AWS's, and no other id is named.
    assert_eq!(
        (rig.used(LimitId::NatPorts), rig.used(LimitId::EniConnections), rig.engine.flows()),
        (2, 2, 3)
    );
    let rows: Vec<_> = rig.engine.board().into_iter().filter(|row| row.refused > 0).collect();
    let row = &rows[0];
    assert_eq!(
        (rows.len(), row.id, &*row.resource),
        (1, LimitId::HostPorts, "masquerade to 203.0.113.9:443")
    );
    assert_eq!((row.used, row.max, row.peak, row.refused), (3, 3, 3, 2));
    // Other destinations have ports of their own, and what is open goes on.
    rig.connect(3, "203.0.113.9:444");
    assert_eq!(rig.leave(1, REMOTE, flags::ACK).0, Verdict::Forward(Port::World));
    // Cut, closed, or silent: each makes room for one, once.
    rig.answer(&sent[0], flags::RST);
    rig.connect(4, REMOTE);
    assert_eq!(rig.leave(5, REMOTE, flags::SYN).0, refused);
    rig.leave(2, REMOTE, flags::FIN | flags::ACK);
    rig.answer(&sent[1], flags::FIN | flags::ACK);
    rig.leave(2, REMOTE, flags::ACK);
    rig.connect(5, REMOTE);
    assert_eq!(rig.leave(6, REMOTE, flags::SYN).0, refused);
    rig.now += Duration::from_secs(350);
    for port in 6..9 {
        rig.connect(port, REMOTE);
    }
    assert_eq!(rig.leave(9, REMOTE, flags::SYN).0, refused);
}

#[test]
fn what_a_limit_or_rule_refuses_is_not_put_on_the_masquerade() {
    let settings = PacketSettings { masquerade_ports: Some(1), ..PacketSettings::default() };
    let mut rig = Rig::with(&["nat.ports=1"], 1, settings);
    rig.connect(1, REMOTE);
    assert_eq!(rig.leave(2, REMOTE, flags::SYN).0, Verdict::Drop(Reason::Refused(LimitId::NatPorts)));
    // What never goes to the world needs none of its ports.
    rig.engine.set_relayed([("203.0.113.9".parse().unwrap(), Some(80))].into());
    for port in 3..5 {
        let relayed = segment(([169, 254, 0, 6].into(), port + 5000), "203.0.113.9:80", flags::SYN);
        let verdict = rig.send(Port::Environment(rig.free), &mut relayed.clone());
        assert!(matches!(verdict, Verdict::Ask { .. }), "{verdict:?}");
    }
    assert_eq!(rig.used(LimitId::HostPorts), 0);
}

#[test]
fn a_function_that_comes_later_brings_its_subnet_and_gateway_along() {
    let mut rig = Rig::new(&["nat.ports=1"]);
    rig.connect(1, REMOTE);
    let links = |id: &str| vec![Link::Literal(id.to_owned())];
    let config = VpcConfig { subnets: links("subnet-9"), security_groups: links("sg-9"), ipv6: false };
    for number in 0..2_u8 {
        let function = rig.engine.add_function(rig.now, &Stack::default(), Some(&config));
        let address = Ipv4Addr::new(169, 254, 1, 2 + 4 * number);
        let place = Some(Place { function, choice: 0 });
        let later = Attachment { address, address6: None, place, resolver: None };
        let later = rig.engine.attach(rig.now, later).unwrap();
        let mut packet = segment((address, 1), REMOTE, flags::SYN);
        let verdict = rig.send(Port::Environment(later), &mut packet);
        let ports = |rig: &Rig, name: &str| {
            let rows = rig.engine.board();
            rows.into_iter().find(|row| row.id == LimitId::NatPorts && &*row.resource == name).unwrap().used
        };
        assert_eq!((ports(&rig, "NatGateway"), ports(&rig, "nat-elsewhere")), (1, 1));
        // Both share the one gateway of all that is elsewhere, and it has room for one.
        assert_eq!(verdict == Verdict::Forward(Port::World), number == 0, "{verdict:?}");
        if number == 0 {
            let view = View::read(&packet, &Offload::default()).unwrap();
            assert_eq!(view.source, IpAddr::from([198, 18, 128, 1]));
        }
    }
}
