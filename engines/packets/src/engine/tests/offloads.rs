//! What a device left undone stays undone, and stays right.

use super::*;
use crate::craft::pseudo_header;
use crate::packet::Partial;
use proptest::prelude::*;

#[test]
fn a_partial_checksum_follows_the_addresses_alone() {
    let mut rig = Rig::new(&[]);
    rig.leave(40_000, REMOTE, flags::SYN);
    let mut packet = Vec::new();
    let numbers = Numbers { flags: flags::ACK, ..Numbers::default() };
    craft::segment(&mut packet, (INSIDE, 40_000).into(), REMOTE.parse().unwrap(), numbers, &[5; 60_000]);
    let length = packet.len() - 20;
    let partial = |from: IpAddr, to: IpAddr| !pseudo_header(from, to, TCP, length).finish();
    let sum = partial(INSIDE.into(), "203.0.113.9".parse().unwrap());
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    let offload = Offload {
        checksum: Some(Partial { start: 20, offset: 16 }),
        segment: std::num::NonZeroU16::new(1400),
    };
    let sent = Packet { bytes: &mut packet, offload };
    let verdict = rig.engine.receive(rig.now, Port::Environment(rig.inside), sent);
    assert_eq!(verdict, Verdict::Forward(Port::World));
    let expected = partial(ELASTIC.into(), "203.0.113.9".parse().unwrap());
    assert_eq!(u16::from_be_bytes([packet[36], packet[37]]), expected);
    // Whoever finishes it gets the right one.
    let finished = Checksum::default().with(&packet[20..]).finish();
    packet[36..38].copy_from_slice(&finished.to_be_bytes());
    assert!(sums_are_right(&packet));
}

#[test]
fn a_partial_checksum_elsewhere_is_no_honest_one() {
    let mut rig = Rig::new(&[]);
    for (start, offset) in [(0, 16), (20, 6), (20, 60_000), (65_535, 65_535), (21, 16)] {
        let mut bytes = segment((INSIDE, 40_000), REMOTE, flags::SYN);
        let offload = Offload { checksum: Some(Partial { start, offset }), segment: None };
        let packet = Packet { bytes: &mut bytes, offload };
        let verdict = rig.engine.receive(rig.now, Port::Environment(rig.inside), packet);
        assert_eq!(verdict, Verdict::Drop(Reason::Malformed), "{start}+{offset}");
    }
}

#[test]
fn a_datagram_without_a_checksum_keeps_none_and_a_wrong_one_stays_wrong() {
    let mut rig = Rig::new(&[]);
    let mut packet =
        craft::datagram((INSIDE, 5000).into(), "203.0.113.9:53".parse().unwrap(), b"abc").unwrap();
    let right = [packet[26], packet[27]];
    packet[26..28].copy_from_slice(&[0, 0]);
    let mut bare = packet.clone();
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut bare), Verdict::Forward(Port::World));
    assert_eq!(bare[26..28], [0, 0]);
    packet[26..28].copy_from_slice(&[right[0] ^ 0x55, right[1]]);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut packet), Verdict::Forward(Port::World));
    assert!(!sums_are_right(&packet));
}

proptest! {
    #[test]
    fn there_and_back_is_where_it_began(
        port in 1u16.., remote: [u8; 4], remote_port in 1u16.., udp: bool, free: bool,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let remote = SocketAddr::from((remote, remote_port));
        prop_assume!(!crate::martian::is_martian(remote.ip()) && !crate::martian::is_private(remote.ip()));
        let mut rig = Rig::new(&[]);
        let (who, own) = if free { (rig.free, [169, 254, 0, 6].into()) } else { (rig.inside, INSIDE) };
        let inside = SocketAddr::from((own, port));
        let make = |from, to, said| {
            if udp { return craft::datagram(from, to, &payload).unwrap(); }
            let mut packet = Vec::new();
            let numbers = Numbers { sequence: 1, acknowledgement: 2, flags: said };
            craft::segment(&mut packet, from, to, numbers, &payload);
            packet
        };
        let mut sent = make(inside, remote, flags::SYN);
        prop_assert_eq!(rig.send(Port::Environment(who), &mut sent), Verdict::Forward(Port::World));
        prop_assert!(sums_are_right(&sent));
        let view = View::read(&sent, &Offload::default()).unwrap();
        let outside = SocketAddr::new(view.source, view.source_port);
        let mut back = make(remote, outside, flags::SYN | flags::ACK);
        prop_assert_eq!(rig.send(Port::World, &mut back), Verdict::Forward(Port::Environment(who)));
        prop_assert!(sums_are_right(&back));
        let mut expected = make(remote, inside, flags::SYN | flags::ACK);
        // All but the hop that was taken, and the sum over it.
        expected[8] -= 1;
        expected[10..12].copy_from_slice(&back[10..12]);
        prop_assert_eq!(back, expected);
    }
}
