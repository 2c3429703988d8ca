//! ICMP: echoes are translated by their identifiers, errors by the packets that they quote.

use super::*;
use crate::craft::icmp_sum;

fn ping(rig: &mut Rig, id: u16) -> (Verdict, Vec<u8>) {
    let mut ping = Vec::new();
    craft::echo(&mut ping, INSIDE.into(), "203.0.113.9".parse().unwrap(), false, id, 1);
    (rig.send(Port::Environment(rig.inside), &mut ping), ping)
}

#[test]
fn an_echo_gets_an_identifier_of_its_own() {
    let mut rig = Rig::new(&["nat.ports=2"]);
    let (verdict, sent) = ping(&mut rig, 9);
    assert_eq!((verdict, sums_are_right(&sent)), (Verdict::Forward(Port::World), true));
    let mut reply = Vec::new();
    craft::echo(&mut reply, "203.0.113.9".parse().unwrap(), ELASTIC.into(), true, 1024, 1);
    assert_eq!(rig.send(Port::World, &mut reply), Verdict::Forward(Port::Environment(rig.inside)));
    let mut expected = Vec::new();
    craft::echo(&mut expected, "203.0.113.9".parse().unwrap(), INSIDE.into(), true, 9, 1);
    assert_eq!((&reply[24..26], sums_are_right(&reply)), (&expected[24..26], true));
    assert_eq!(ping(&mut rig, 10).0, Verdict::Forward(Port::World));
    assert_eq!(ping(&mut rig, 11).0, Verdict::Drop(Reason::Refused(LimitId::NatPorts)));
    rig.now += Duration::from_secs(60);
    assert_eq!(ping(&mut rig, 11).0, Verdict::Forward(Port::World), "a minute of silence is enough");
    // Nobody pings a function.
    craft::echo(&mut reply, "203.0.113.9".parse().unwrap(), ELASTIC.into(), false, 1024, 1);
    assert_eq!(rig.send(Port::World, &mut reply), Verdict::Drop(Reason::NoFlow));
}

#[test]
fn fragmentation_needed_comes_back_with_the_packet_that_was_sent() {
    let mut rig = Rig::new(&[]);
    let original = segment((INSIDE, 40_000), REMOTE, flags::SYN);
    let (_, sent) = rig.leave(40_000, REMOTE, flags::SYN);
    for quoted in [28, 40] {
        let mut error = Vec::new();
        let router: IpAddr = "192.0.2.1".parse().unwrap();
        craft::error(&mut error, router, ELASTIC.into(), 3, 4, 1400, &sent[..quoted]);
        assert_eq!(rig.send(Port::World, &mut error), Verdict::Forward(Port::Environment(rig.inside)));
        let view = View::read(&error, &Offload::default()).unwrap();
        assert_eq!((view.source, view.destination), (router, INSIDE.into()));
        assert_eq!(icmp_sum(&error[20..], router, INSIDE.into()), 0);
        assert_eq!(&error[24..28], 1400_u32.to_be_bytes());
        // But for the hop that it had taken, it is the packet that the environment sent.
        let mut expected = original.clone();
        expected[8] -= 1;
        let sum = u16::from_be_bytes([expected[10], expected[11]]);
        expected[10..12].copy_from_slice(&crate::updated(sum, &[64, 6], &[63, 6]).to_be_bytes());
        assert_eq!(error[28..], expected[..quoted]);
    }
    assert_eq!(rig.engine.metrics(rig.now, 0).unwrap().packets_in_from_destination, 0, "no flow's packets");
}

#[test]
fn forged_errors_find_no_flow() {
    let mut rig = Rig::new(&[]);
    let (_, sent) = rig.leave(40_000, REMOTE, flags::SYN);
    let router: IpAddr = "192.0.2.1".parse().unwrap();
    let mut error = Vec::new();
    let mut strange = sent.clone();
    strange[22..24].copy_from_slice(&80_u16.to_be_bytes());
    craft::error(&mut error, router, ELASTIC.into(), 3, 4, 1400, &strange);
    assert_eq!(rig.send(Port::World, &mut error), Verdict::Drop(Reason::NoFlow));
    craft::error(&mut error, router, ELASTIC.into(), 3, 4, 1400, &sent);
    assert_eq!(rig.send(Port::Relay, &mut error.clone()), Verdict::Drop(Reason::Spoofed));
    error[30] ^= 1;
    assert_eq!(rig.send(Port::World, &mut error), Verdict::Drop(Reason::Malformed), "its checksum is wrong");
    craft::error(&mut error, "127.0.0.1".parse().unwrap(), ELASTIC.into(), 3, 4, 1400, &sent);
    assert_eq!(rig.send(Port::World, &mut error), Verdict::Drop(Reason::Martian));
}

#[test]
fn an_environment_refuses_a_datagram_that_came_too_late() {
    let mut rig = Rig::new(&[]);
    let remote: SocketAddr = "203.0.113.9:9999".parse().unwrap();
    let mut out = craft::datagram((INSIDE, 5000).into(), remote, b"hello").unwrap();
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut out), Verdict::Forward(Port::World));
    let mut back = craft::datagram(remote, (ELASTIC, 1024).into(), b"world").unwrap();
    let sent_back = back.clone();
    assert_eq!(rig.send(Port::World, &mut back), Verdict::Forward(Port::Environment(rig.inside)));
    let mut error = Vec::new();
    craft::error(&mut error, INSIDE.into(), remote.ip(), 3, 3, 0, &back);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut error), Verdict::Forward(Port::World));
    let view = View::read(&error, &Offload::default()).unwrap();
    assert_eq!((view.source, view.destination), (ELASTIC.into(), remote.ip()));
    assert_eq!(icmp_sum(&error[20..], ELASTIC.into(), remote.ip()), 0);
    assert_eq!(error[28 + 12..], sent_back[12..], "what the other side had sent");
}

#[test]
fn a_traced_route_begins_here() {
    let mut rig = Rig::new(&[]);
    let mut packet = segment((INSIDE, 40_000), REMOTE, flags::SYN);
    packet[8] = 1;
    let sum = u16::from_be_bytes([packet[10], packet[11]]);
    packet[10..12].copy_from_slice(&crate::updated(sum, &[64, 6], &[1, 6]).to_be_bytes());
    let before = packet.clone();
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut packet), Verdict::Answer);
    let error = rig.engine.answer();
    let view = View::read(error, &Offload::default()).unwrap();
    assert_eq!((view.source, view.detail), (Ipv4Addr::new(169, 254, 0, 1).into(), 11));
    assert_eq!((&error[28..], rig.engine.flows()), (&before[..], 0));
}

#[test]
fn what_is_too_large_is_said_so() {
    let mut rig = Rig::new(&[]);
    rig.engine.set_mtu(Mtu { world: 1500, ..Mtu::default() });
    let mut packet = Vec::new();
    let (from, to) = ((INSIDE, 40_000).into(), REMOTE.parse().unwrap());
    rig.leave(40_000, REMOTE, flags::SYN);
    let numbers = Numbers { flags: flags::ACK, ..Numbers::default() };
    craft::segment(&mut packet, from, to, numbers, &[7; 1461]);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut packet), Verdict::Answer);
    let error = rig.engine.answer();
    assert_eq!((error[20], error[21], &error[24..28]), (3, 4, &1500_u32.to_be_bytes()[..]));
    // A large one that stands for many small ones passes.
    craft::segment(&mut packet, from, to, numbers, &[7; 14_600]);
    let offload = Offload { checksum: None, segment: std::num::NonZeroU16::new(1460) };
    let packet = Packet { bytes: &mut packet, offload };
    let verdict = rig.engine.receive(rig.now, Port::Environment(rig.inside), packet);
    assert_eq!(verdict, Verdict::Forward(Port::World));
    let metrics = rig.engine.metrics(rig.now, 0).unwrap();
    assert_eq!((metrics.packets_out_to_destination, metrics.bytes_out_to_destination), (11, 40 + 10 * 1500));
}
