//! Fragments of UDP follow their first one; nothing else that is cut passes.

use super::*;
use crate::checksum::Checksum;

/// Cuts a datagram: (offset, length) of each piece's payload.
fn cut(whole: &[u8], pieces: &[(usize, usize)]) -> Vec<Vec<u8>> {
    let end = whole.len() - 20;
    let piece = |&(offset, length): &(usize, usize)| {
        let mut bytes = whole[..20].to_vec();
        bytes.extend_from_slice(&whole[20 + offset..20 + offset + length]);
        let more = if offset + length < end { 0x2000 } else { 0 };
        bytes[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
        bytes[4..6].copy_from_slice(&77_u16.to_be_bytes());
        bytes[6..8].copy_from_slice(&(more | (offset / 8) as u16).to_be_bytes());
        bytes[10..12].copy_from_slice(&[0, 0]);
        let sum = Checksum::default().with(&bytes[..20]).finish();
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    pieces.iter().map(piece).collect()
}

/// Puts pieces together again, as the last one's receiver does.
fn join(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = pieces[0][..20].to_vec();
    for piece in pieces {
        let at = 20 + usize::from(u16::from_be_bytes([piece[6], piece[7]]) & 0x1fff) * 8;
        whole.resize(whole.len().max(at + piece.len() - 20), 0);
        whole[at..at + piece.len() - 20].copy_from_slice(&piece[20..]);
    }
    let length = whole.len() as u16;
    whole[2..4].copy_from_slice(&length.to_be_bytes());
    whole[6..8].copy_from_slice(&[0, 0]);
    whole[10..12].copy_from_slice(&[0, 0]);
    let sum = Checksum::default().with(&whole[..20]).finish();
    whole[10..12].copy_from_slice(&sum.to_be_bytes());
    whole
}

fn datagram() -> Vec<u8> {
    let payload: Vec<u8> = (0..3000_u32).map(|index| (index * 7) as u8).collect();
    craft::datagram((INSIDE, 5000).into(), "203.0.113.9:9999".parse().unwrap(), &payload).unwrap()
}

#[test]
fn a_datagram_in_pieces_arrives_whole_both_ways() {
    let mut rig = Rig::new(&[]);
    let mut pieces = cut(&datagram(), &[(0, 1480), (2960, 48), (1480, 1480)]);
    for piece in &mut pieces {
        assert_eq!(rig.send(Port::Environment(rig.inside), piece), Verdict::Forward(Port::World));
    }
    let whole = join(&pieces);
    let view = View::read(&whole, &Offload::default()).unwrap();
    assert_eq!((view.source, view.source_port, sums_are_right(&whole)), (ELASTIC.into(), 1024, true));
    assert!(rig.engine.fragments.len() == 0);

    let back =
        craft::datagram("203.0.113.9:9999".parse().unwrap(), (ELASTIC, 1024).into(), &[9; 3000]).unwrap();
    let mut pieces = cut(&back, &[(0, 1480), (1480, 1480), (2960, 48)]);
    for piece in &mut pieces {
        assert_eq!(rig.send(Port::World, piece), Verdict::Forward(Port::Environment(rig.inside)));
    }
    let whole = join(&pieces);
    let view = View::read(&whole, &Offload::default()).unwrap();
    assert_eq!((view.destination_port, sums_are_right(&whole)), (5000, true));
}

#[test]
fn pieces_that_overlap_or_cross_the_end_spoil_their_datagram() {
    let dropped = Verdict::Drop(Reason::Fragment);
    for bad in [(0, 1480), (1472, 16), (8, 8)] {
        let mut rig = Rig::new(&[]);
        let mut pieces = cut(&datagram(), &[(0, 1480), bad, (1480, 1480)]);
        let verdicts = pieces.iter_mut().map(|piece| rig.send(Port::Environment(rig.inside), piece));
        let verdicts: Vec<Verdict> = verdicts.collect();
        assert_eq!(verdicts, [Verdict::Forward(Port::World), dropped.clone(), dropped.clone()], "{bad:?}");
    }
    // One that lies behind the last.
    let mut rig = Rig::new(&[]);
    let mut pieces = cut(&datagram(), &[(0, 1480), (1480, 1480)]);
    let [first, second] = &mut pieces[..] else { panic!("two") };
    second[6] &= !0x20;
    let sum = u16::from_be_bytes([second[10], second[11]]);
    second[10..12].copy_from_slice(&crate::updated(sum, &[0x20, 0], &[0, 0]).to_be_bytes());
    let mut behind = cut(&datagram(), &[(2960, 48)]).remove(0);
    assert_eq!(rig.send(Port::Environment(rig.inside), first), Verdict::Forward(Port::World));
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut behind), Verdict::Forward(Port::World));
    assert_eq!(rig.send(Port::Environment(rig.inside), second), dropped);
}

#[test]
fn only_what_follows_a_first_fragment_passes_and_only_udp() {
    let mut rig = Rig::new(&[]);
    let dropped = Verdict::Drop(Reason::Fragment);
    let mut later = cut(&datagram(), &[(1480, 1480)]).remove(0);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut later), dropped);
    // Too short for its header: RFC 1858.
    let mut tiny = cut(&datagram(), &[(0, 8)]).remove(0);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut tiny), Verdict::Forward(Port::World));
    let mut tcp = Vec::new();
    let (from, to) = ((INSIDE, 40_000).into(), REMOTE.parse().unwrap());
    craft::segment(&mut tcp, from, to, Numbers { flags: flags::SYN, ..Numbers::default() }, &[0; 100]);
    for piece in &mut cut(&tcp, &[(0, 8), (0, 64), (64, 56)]) {
        assert_eq!(rig.send(Port::Environment(rig.inside), piece), dropped);
    }
    // A "ping of death": beyond what a datagram can be.
    let mut death = cut(&datagram(), &[(1480, 1480)]).remove(0);
    death[6..8].copy_from_slice(&0x1fff_u16.to_be_bytes());
    death[10..12].copy_from_slice(&[0, 0]);
    let sum = Checksum::default().with(&death[..20]).finish();
    death[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut death), dropped);
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten() {
    let mut rig = Rig::new(&[]);
    let mut first = cut(&datagram(), &[(0, 1480)]).remove(0);
    let original = first.clone();
    for id in 0..3000_u16 {
        first.copy_from_slice(&original);
        first[4..6].copy_from_slice(&id.to_be_bytes());
        let sum = u16::from_be_bytes([first[10], first[11]]);
        first[10..12].copy_from_slice(&crate::updated(sum, &[0, 77], &id.to_be_bytes()).to_be_bytes());
        assert_eq!(rig.send(Port::Environment(rig.inside), &mut first), Verdict::Forward(Port::World));
        assert!(rig.engine.fragments.len() <= fragments::DATAGRAMS_MAX);
    }
    rig.now += Duration::from_secs(31);
    let mut later = cut(&datagram(), &[(1480, 1480)]).remove(0);
    assert_eq!(rig.send(Port::Environment(rig.inside), &mut later), Verdict::Drop(Reason::Fragment));
    assert_eq!(rig.engine.fragments.len(), 0);
}
