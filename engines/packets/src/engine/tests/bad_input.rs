//! What no honest sender sends: never forwarded, never a panic, never more than a bound of memory.

use super::*;
use crate::packet::Partial;
use limits::nat::{Destination, Protocol};
use proptest::prelude::*;

#[test]
fn a_function_sends_from_its_own_address_only() {
    let mut rig = Rig::new(&[]);
    // Its neighbour's, one of the VPC, the gateway's, and none at all.
    for source in [[169, 254, 0, 6], [10, 0, 0, 4], [198, 18, 0, 1], [127, 0, 0, 1], [0, 0, 0, 0]] {
        let mut packet = segment((source.into(), 40_000), REMOTE, flags::SYN);
        let verdict = rig.send(Port::Environment(rig.inside), &mut packet);
        assert_eq!(verdict, Verdict::Drop(Reason::Spoofed), "{source:?}");
    }
}

#[test]
fn nothing_leaves_for_addresses_that_are_never_routed() {
    let mut rig = Rig::new(&[]);
    for to in [
        "127.0.0.1:80",
        "0.0.0.0:80",
        "169.254.169.254:80",
        "169.254.0.6:80",
        "169.254.0.3:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "169.254.0.2:40000",
    ] {
        assert_eq!(rig.leave(40_000, to, flags::SYN).0, Verdict::Drop(Reason::Martian), "{to}");
    }
    assert_eq!((rig.engine.flows(), rig.used(LimitId::EniConnections)), (0, 0));
}

#[test]
fn private_addresses_of_the_host_are_not_the_world() {
    let mut rig = Rig::new(&[]);
    let free = |rig: &mut Rig, to: &str| {
        let mut packet = segment(([169, 254, 0, 6].into(), 40_000), to, flags::SYN);
        rig.send(Port::Environment(rig.free), &mut packet)
    };
    for to in ["192.168.1.1:80", "10.20.0.1:22", "172.17.0.1:2375", "100.64.0.1:80", "198.18.0.1:80"] {
        assert_eq!(free(&mut rig, to), Verdict::Drop(Reason::Nobody), "{to}");
        assert_eq!(rig.leave(40_000, to, flags::SYN).0, Verdict::Drop(Reason::Nobody), "{to}");
    }
    let settings = PacketSettings { private_world: true, ..PacketSettings::default() };
    let mut rig = Rig::with(&[], 1, settings);
    assert_eq!(free(&mut rig, "192.168.1.1:80"), Verdict::Forward(Port::World));
    for to in ["198.18.0.1:80", "198.19.0.9:80"] {
        assert_eq!(
            free(&mut rig, to),
            Verdict::Drop(Reason::Nobody),
            "a gateway's own address, a function's: {to}"
        );
    }
    assert_eq!(rig.leave(1, "10.20.0.1:22", flags::SYN).0, Verdict::Drop(Reason::Nobody), "it is the VPC's");
}

#[test]
fn strange_segments_open_nothing() {
    let mut rig = Rig::new(&[]);
    for (said, verdict) in [
        (flags::SYN | flags::FIN, Verdict::Drop(Reason::Malformed)),
        (flags::SYN | flags::RST, Verdict::Drop(Reason::NoFlow)),
        (flags::RST, Verdict::Drop(Reason::NoFlow)),
        (0, Verdict::Answer),
        (flags::SYN | flags::ACK, Verdict::Answer),
        (flags::FIN | flags::ACK, Verdict::Answer),
    ] {
        assert_eq!(rig.leave(40_000, REMOTE, said).0, verdict, "{said:#x}");
    }
    assert_eq!(rig.engine.flows(), 0);
    let mut scan = segment(([203, 0, 113, 9].into(), 443), "198.18.0.1:1024", flags::SYN);
    assert_eq!(rig.send(Port::World, &mut scan), Verdict::Drop(Reason::NoFlow), "and without an answer");
}

#[test]
fn one_environment_does_not_fill_the_table() {
    let settings = PacketSettings { environment_flows_max: 10, ..PacketSettings::default() };
    let mut rig = Rig::with(&[], 1, settings);
    for port in 1..12 {
        let mut packet = segment(([169, 254, 0, 6].into(), port), REMOTE, flags::SYN);
        let verdict = rig.send(Port::Environment(rig.free), &mut packet);
        let refused = Verdict::Drop(Reason::Refused(LimitId::HostFlows));
        assert_eq!(verdict, if port < 11 { Verdict::Forward(Port::World) } else { refused });
    }
    assert_eq!(rig.leave(1, REMOTE, flags::SYN).0, Verdict::Forward(Port::World), "others go on");
}

#[test]
fn a_guard_bounds_new_flows_of_each_environment_and_touches_no_known_one() {
    let settings = PacketSettings { new_flows_max: Some(10), ..PacketSettings::default() };
    let mut rig = Rig::with(&[], 1, settings);
    for port in 1..=20 {
        let (verdict, _) = rig.leave(port, REMOTE, flags::SYN);
        let refused = Verdict::Drop(Reason::Refused(LimitId::HostNewFlows));
        assert_eq!(verdict, if port <= 10 { Verdict::Forward(Port::World) } else { refused });
    }
    assert_eq!((rig.used(LimitId::EniConnections), rig.used(LimitId::HostNewFlows)), (10, 10));
    // What is known goes on, and so do others.
    for _ in 0..100 {
        assert_eq!(rig.leave(1, REMOTE, flags::ACK).0, Verdict::Forward(Port::World));
    }
    let mut packet = segment(([169, 254, 0, 6].into(), 1), REMOTE, flags::SYN);
    assert_eq!(rig.send(Port::Environment(rig.free), &mut packet), Verdict::Forward(Port::World));
    // A tenth of a second later there is room for one.
    rig.now += Duration::from_millis(100);
    assert_eq!(rig.leave(11, REMOTE, flags::SYN).0, Verdict::Forward(Port::World));
    assert_eq!(rig.leave(12, REMOTE, flags::SYN).0, Verdict::Drop(Reason::Refused(LimitId::HostNewFlows)));
}

#[test]
fn a_flood_takes_no_packet_of_what_is_open() {
    // F18, a million SYNs a second: with the guard, and with the interface's own limit alone.
    for (guard, most) in [(Some(100), 110), (None, 600)] {
        let settings = PacketSettings { new_flows_max: guard, ..PacketSettings::default() };
        let mut rig = Rig::with(&["eni.connections=600"], 1, settings);
        let open: Vec<Vec<u8>> = (1..=50).map(|port| rig.connect(port, REMOTE)).collect();
        let before = rig.engine.metrics(rig.now, 0).unwrap();
        let (mut admitted, floods) = (0, 100_000_u32);
        for number in 0..floods {
            rig.now += Duration::from_micros(1);
            let to = SocketAddr::from(([203, 0, (number >> 8) as u8, number as u8], 80)).to_string();
            admitted += u64::from(
                rig.leave(1_000 + (number >> 16) as u16, &to, flags::SYN).0 == Verdict::Forward(Port::World),
            );
            let port = (number % 50) as u16 + 1;
            assert_eq!(rig.leave(port, REMOTE, flags::ACK).0, Verdict::Forward(Port::World), "{number}");
            let back = rig.answer(&open[usize::from(port) - 1], flags::ACK).0;
            assert_eq!(back, Verdict::Forward(Port::Environment(rig.inside)), "{number}");
        }
        let after = rig.engine.metrics(rig.now, 0).unwrap();
        let out = after.packets_out_to_destination - before.packets_out_to_destination;
        let back = after.packets_out_to_source - before.packets_out_to_source;
        assert_eq!((out, back, after.packets_dropped), (u64::from(floods) + admitted, floods.into(), 0));
        assert_eq!((u64::from(rig.engine.flows()), admitted), (50 + admitted, most - 50));
    }
}

#[test]
fn headers_that_lie_are_dropped() {
    let mut rig = Rig::new(&[]);
    let good = segment((INSIDE, 40_000), REMOTE, flags::SYN);
    let seal = |packet: &mut Vec<u8>| {
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = Checksum::default().with(&packet[..20]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    };
    let mut bad = Vec::new();
    for (at, value) in
        [(10, good[10] ^ 1), (0, 0x46), (0, 0x44), (0, 0x55), (3, 39), (3, 41), (32, 0x40), (32, 0xf0)]
    {
        let mut packet = good.clone();
        packet[at] = value;
        if at != 10 && at != 0 {
            seal(&mut packet);
        }
        bad.push(packet);
    }
    bad.extend((0..good.len()).map(|length| good[..length].to_vec()));
    for mut packet in bad {
        let verdict = rig.send(Port::Environment(rig.inside), &mut packet);
        assert_eq!(verdict, Verdict::Drop(Reason::Malformed), "{packet:02x?}");
    }
}

#[test]
fn no_sender_chooses_the_way() {
    let mut rig = Rig::new(&[]);
    let good = segment((INSIDE, 40_000), REMOTE, flags::SYN);
    let with = |options: [u8; 8]| {
        let mut packet = [&good[..20], &options, &good[20..]].concat();
        packet[0] = 0x47;
        packet[3] += 8;
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = Checksum::default().with(&packet[..28]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let (protocol, malformed) = (Verdict::Drop(Reason::Protocol), Verdict::Drop(Reason::Malformed));
    for (options, verdict) in [
        // Loose and strict, also behind others; then lengths that lie.
        ([131, 7, 4, 192, 0, 2, 1, 0], protocol.clone()),
        ([137, 7, 4, 192, 0, 2, 1, 0], protocol.clone()),
        ([1, 131, 7, 4, 192, 0, 2, 1], protocol.clone()),
        ([148, 4, 0, 0, 131, 3, 4, 0], protocol),
        ([148, 9, 0, 0, 0, 0, 0, 0], malformed.clone()),
        ([148, 0, 0, 0, 0, 0, 0, 0], malformed.clone()),
        ([1, 1, 1, 1, 1, 1, 1, 148], malformed),
        // A router alert, and what stands behind the end.
        ([148, 4, 0, 0, 0, 131, 3, 4], Verdict::Forward(Port::World)),
    ] {
        let mut packet = with(options);
        assert_eq!(rig.send(Port::Environment(rig.inside), &mut packet), verdict, "{options:?}");
    }
    let mut six = Vec::new();
    let (from, to) = ((INSIDE6, 40_000).into(), "[2606::9]:443".parse().unwrap());
    craft::segment(&mut six, from, to, Numbers { flags: flags::SYN, ..Numbers::default() }, b"");
    let mut routed = [&six[..40], &[6, 0, 0, 1, 0, 0, 0, 0], &six[40..]].concat();
    (routed[5], routed[6]) = (routed[5] + 8, 43);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut routed), Verdict::Drop(Reason::Protocol));
}

/// Packets of every kind, of flows that are there.
fn kinds(rig: &mut Rig) -> Vec<(Port, Vec<u8>)> {
    let remote: SocketAddr = "203.0.113.9:9999".parse().unwrap();
    let inside = Port::Environment(rig.inside);
    let syn = rig.connect(40_000, REMOTE);
    let mut all = vec![
        (inside, segment((INSIDE, 40_000), REMOTE, flags::ACK)),
        (inside, craft::datagram((INSIDE, 5000).into(), remote, &[1; 64]).unwrap()),
        (Port::World, segment(([203, 0, 113, 9].into(), 443), "198.18.0.1:1024", flags::ACK)),
        (inside, craft::datagram((INSIDE, 5000).into(), "10.0.0.2:53".parse().unwrap(), b"name").unwrap()),
    ];
    let mut packet = Vec::new();
    craft::echo(&mut packet, INSIDE.into(), remote.ip(), false, 7, 1);
    all.push((inside, packet.clone()));
    craft::error(&mut packet, "192.0.2.1".parse().unwrap(), ELASTIC.into(), 3, 4, 1400, &syn);
    all.push((Port::World, packet.clone()));
    let six = |text: &str| text.parse::<SocketAddr>().unwrap();
    craft::segment(&mut packet, six("[fd00::2]:4000"), six("[2600::1]:443"), Numbers::default(), b"abc");
    all.push((inside, packet));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutilated_packets_never_panic(
        kind in 0usize..7, cut in 0usize..120, changes in prop::collection::vec((0usize..120, any::<u8>()), 0..6),
        partial in prop::option::of((0u16..80, 0u16..40)), segment in 0u16..2000, seal: bool,
    ) {
        let mut rig = Rig::new(&["nat.ports=9"]);
        let (from, mut packet) = kinds(&mut rig).swap_remove(kind);
        for (at, value) in changes {
            if let Some(byte) = packet.get_mut(at) { *byte = value; }
        }
        packet.truncate(packet.len().saturating_sub(cut.saturating_sub(60)));
        if seal && packet.len() >= 20 && packet[0] == 0x45 {
            // So that what lies behind the header is looked at as well.
            let length = (packet.len() as u16).to_be_bytes();
            packet[2..4].copy_from_slice(&length);
            packet[10..12].copy_from_slice(&[0, 0]);
            let sum = Checksum::default().with(&packet[..20]).finish();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let checksum = partial.map(|(start, offset)| Partial { start, offset });
        let offload = Offload { checksum, segment: std::num::NonZeroU16::new(segment) };
        for _ in 0..3 {
            let mut bytes = packet.clone();
            let verdict = rig.engine.receive(rig.now, from, Packet { bytes: &mut bytes, offload });
            if let Verdict::Forward(_) = verdict {
                prop_assert!(View::read(&bytes, &offload).is_ok(), "what goes on can be read");
            }
            rig.now += Duration::from_secs(45);
        }
        rig.now += Duration::from_secs(400);
        rig.engine.advance(rig.now);
        prop_assert_eq!((rig.engine.flows(), rig.used(LimitId::EniConnections)), (0, 0));
    }

    #[test]
    fn the_table_agrees_with_the_limits_whatever_happens(
        steps in prop::collection::vec((0u8..12, 0u16..6, 0u64..120), 1..80), seed: [u64; 2],
        masquerade_ports in prop::option::of(1u32..7), idle in 50u64..400,
    ) {
        let settings = PacketSettings { seed, masquerade_ports, ..PacketSettings::default() };
        let idle = format!("eni.idle-timeout={idle}");
        let mut rig = Rig::with(&["nat.ports=4", "eni.connections=5", &idle], 1, settings);
        let remote = Destination { address: [203, 0, 113, 9].into(), port: 443, protocol: Protocol::Tcp };
        for (what, port, wait) in steps {
            rig.now += Duration::from_secs(wait);
            let said = [flags::SYN, flags::ACK, flags::FIN | flags::ACK, flags::RST][usize::from(what % 4)];
            if what < 4 {
                rig.leave(40_000 + port, REMOTE, said);
            } else if what >= 8 {
                let mut packet = segment(([169, 254, 0, 6].into(), 40_000 + port), REMOTE, said);
                rig.send(Port::Environment(rig.free), &mut packet);
            } else {
                let mut packet = segment(([203, 0, 113, 9].into(), 443), &format!("198.18.0.1:{}", 1024 + port), said);
                rig.send(Port::World, &mut packet);
            }
            let active = rig.engine.metrics(rig.now, 0).unwrap().active_connections;
            let flows = rig.engine.table.flows();
            let holding = |mark: u16| {
                flows.iter().filter(|flow| flow.state != State::Free && flow.has(mark)).count() as u64
            };
            prop_assert_eq!(rig.used(LimitId::NatPorts), holding(marks::GATEWAY));
            prop_assert_eq!(rig.used(LimitId::EniConnections), holding(marks::INTERFACE));
            prop_assert_eq!(active, holding(marks::GATEWAY));
            let masqueraded = rig.engine.masquerade.as_ref().map_or(0, |ports| ports.used(&remote));
            prop_assert_eq!(u64::from(masqueraded), holding(marks::MASQUERADE));
            if masquerade_ports.is_some() {
                // Whatever may still send to the world has one; who has closed has none.
                let sends = |flow: &&Flow| !matches!(flow.state, State::Free | State::Lingering | State::Forgotten);
                prop_assert!(flows.iter().filter(sends).all(|flow| flow.has(marks::MASQUERADE)));
            }
        }
    }
}
