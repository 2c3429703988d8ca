//! A bad line, for tests: packets that get lost, overtake each other, arrive twice or damaged, and hops that swallow what is
//! too large for them without a word.
//!
//! A driver that is given one hands it all that goes to the world and all that comes from there. Each way has random
//! numbers of its own: the same packets in the same order meet the same fate. What stands for several packets is cut into
//! them first, so that each has a fate of its own, and checksums are whole before anything is damaged.

use crate::checksum::Checksum;
use crate::craft::pseudo_header;
use crate::packet::Offload;
use crate::wire::{IPV4_HEADER, TCP, UDP, UDP_HEADER, View, flags, word};
use std::collections::VecDeque;

/// Packets of one way that are held back at once; others are not held.
const HELD_MAX: usize = 64;
/// A packet that is held back lets at most so many overtake it.
const OVERTAKEN_MAX: u64 = 4;
/// Chances are of so many.
const OF: u64 = 1_000_000;
const PUSH: u8 = 0x08;
const WINDOW_REDUCED: u8 = 0x80;

/// How bad the line is. Chances are of a million, and add up to no more than that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineFaults {
    /// That a packet is lost.
    pub loss: u32,
    /// That it arrives twice.
    pub duplicate: u32,
    /// That up to four others overtake it. The last of all stays away until something else is sent.
    pub reorder: u32,
    /// That one of its bits is turned.
    pub corrupt: u32,
    /// The largest packet in bytes that a hop lets through; of larger ones nobody hears again, as where "fragmentation
    /// needed" is filtered.
    pub hole_above: Option<u16>,
    /// For the random numbers.
    pub seed: u64,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// As they were, or as copies.
    pub passed: u64,
    /// Never seen again.
    pub lost: u64,
    /// Passed twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Damaged.
    pub corrupted: u64,
    /// Too large for a hop.
    pub swallowed: u64,
}

/// Both ways of a line.
#[derive(Debug)]
pub struct BadLine {
    faults: LineFaults,
    out: Way,
    back: Way,
}

impl BadLine {
    /// A line with nothing on it.
    pub const fn new(faults: LineFaults) -> Self {
        // Any two numbers that differ: the generator makes unlike streams of them.
        Self { faults, out: Way::new(faults.seed), back: Way::new(faults.seed ^ 0x6a09_e667_f3bc_c909) }
    }

    /// Puts a packet that goes to the world on the line; `leave` is called with each that leaves it now, whole and alone.
    pub fn to_world(&mut self, packet: &[u8], offload: Offload, leave: impl FnMut(&mut [u8])) {
        self.out.carry(&self.faults, packet, offload, leave);
    }

    /// The same of one that comes from there.
    pub fn from_world(&mut self, packet: &[u8], offload: Offload, leave: impl FnMut(&mut [u8])) {
        self.back.carry(&self.faults, packet, offload, leave);
    }

    /// What became of those to the world, and of those from it.
    pub const fn fates(&self) -> (Fates, Fates) {
        (self.out.fates, self.back.fates)
    }
}

/// One way.
#[derive(Debug)]
struct Way {
    random: u64,
    sent: u64,
    /// By what was sent when they leave.
    held: VecDeque<(u64, Vec<u8>)>,
    fates: Fates,
}

impl Way {
    const fn new(seed: u64) -> Self {
        Self {
            random: seed,
            sent: 0,
            held: VecDeque::new(),
            fates: Fates { passed: 0, lost: 0, duplicated: 0, reordered: 0, corrupted: 0, swallowed: 0 },
        }
    }

    fn carry(
        &mut self,
        faults: &LineFaults,
        packet: &[u8],
        offload: Offload,
        mut leave: impl FnMut(&mut [u8]),
    ) {
        each(packet, offload, |single| {
            self.sent += 1;
            self.meet(faults, single, &mut leave);
            while let Some(at) = self.held.iter().position(|(when, _)| *when <= self.sent) {
                if let Some((_, mut late)) = self.held.remove(at) {
                    self.fates.passed += 1;
                    leave(&mut late);
                }
            }
        });
    }

    fn meet(&mut self, faults: &LineFaults, packet: &mut Vec<u8>, leave: &mut impl FnMut(&mut [u8])) {
        if faults.hole_above.is_some_and(|most| packet.len() > usize::from(most)) {
            self.fates.swallowed += 1;
            return;
        }
        let mut lot = self.next() % OF;
        let mut falls = |chance: u32| {
            let falls = lot < u64::from(chance);
            // A lot falls once.
            lot = if falls { OF } else { lot - u64::from(chance) };
            falls
        };
        if falls(faults.loss) {
            self.fates.lost += 1;
            return;
        }
        if falls(faults.duplicate) {
            self.fates.duplicated += 1;
            self.fates.passed += 1;
            leave(&mut packet.clone());
        } else if falls(faults.reorder) && self.held.len() < HELD_MAX {
            self.fates.reordered += 1;
            let behind = 1 + self.next() % OVERTAKEN_MAX;
            self.held.push_back((self.sent + behind, std::mem::take(packet)));
            return;
        } else if falls(faults.corrupt) {
            self.fates.corrupted += 1;
            let bit = self.next() % (packet.len() as u64 * 8);
            packet[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        self.fates.passed += 1;
        leave(packet);
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    const fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Calls `with` with each packet that this one stands for, its checksums whole.
fn each(packet: &[u8], offload: Offload, mut with: impl FnMut(&mut Vec<u8>)) {
    let mut single = packet.to_vec();
    let Ok(view) = View::read(packet, &offload) else { return with(&mut single) };
    if !matches!(view.protocol, TCP | UDP) || view.is_later_fragment() {
        return with(&mut single);
    }
    let Some(size) = offload.segment.map(|size| usize::from(size.get())) else {
        if offload.checksum.is_some() {
            seal(&mut single, &view);
        }
        return with(&mut single);
    };
    let header = view.transport
        + match view.protocol {
            TCP => usize::from(packet[view.transport + 12] >> 4) * 4,
            _ => UDP_HEADER,
        };
    let pieces = packet.len().saturating_sub(header).div_ceil(size).max(1);
    for (number, payload) in (0..pieces).zip(packet[header..].chunks(size).chain(std::iter::once(&[][..]))) {
        single.clear();
        single.extend_from_slice(&packet[..header]);
        single.extend_from_slice(payload);
        place(&mut single, &view, number, number * size, number + 1 == pieces);
        with(&mut single);
    }
}

/// Makes a piece of a larger packet one that stands alone: the `number`th, so many bytes of payload behind the first.
fn place(piece: &mut [u8], view: &View, number: usize, behind: usize, is_last: bool) {
    let length = piece.len();
    if view.source.is_ipv4() {
        piece[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let id = word(piece, 4).wrapping_add(number as u16);
        piece[4..6].copy_from_slice(&id.to_be_bytes());
        piece[10..12].copy_from_slice(&[0, 0]);
        let sum = Checksum::default().with(&piece[..view.transport.max(IPV4_HEADER)]).finish();
        piece[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        piece[4..6].copy_from_slice(&((length - crate::wire::IPV6_HEADER) as u16).to_be_bytes());
    }
    let segment = &mut piece[view.transport..];
    if view.protocol == TCP {
        let at = u32::from(word(segment, 4)) << 16 | u32::from(word(segment, 6));
        segment[4..8].copy_from_slice(&at.wrapping_add(behind as u32).to_be_bytes());
        if !is_last {
            segment[13] &= !(flags::FIN | PUSH);
        }
        if number > 0 {
            segment[13] &= !WINDOW_REDUCED;
        }
    } else {
        let length = (segment.len() as u16).to_be_bytes();
        segment[4..6].copy_from_slice(&length);
    }
    seal(piece, view);
}

/// Computes a TCP or UDP checksum anew.
fn seal(packet: &mut [u8], view: &View) {
    let segment = &mut packet[view.transport..];
    let at = if view.protocol == TCP { 16 } else { 6 };
    segment[at..at + 2].copy_from_slice(&[0, 0]);
    let sum = pseudo_header(view.source, view.destination, view.protocol, segment.len());
    let sum = match sum.with(segment).finish() {
        0 if view.protocol == UDP => u16::MAX,
        sum => sum,
    };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft::{self, Numbers};
    use crate::packet::Partial;
    use proptest::prelude::*;
    use std::net::SocketAddr;
    use std::num::NonZeroU16;

    fn segment(six: bool, payload: &[u8]) -> Vec<u8> {
        let from: SocketAddr = if six { "[2001:db8::1]:4000" } else { "10.0.0.1:4000" }.parse().unwrap();
        let to: SocketAddr = if six { "[2001:db8::2]:443" } else { "203.0.113.9:443" }.parse().unwrap();
        let mut bytes = Vec::new();
        let numbers =
            Numbers { sequence: u32::MAX - 10, acknowledgement: 5, flags: flags::ACK | flags::FIN | PUSH };
        craft::segment(&mut bytes, from, to, numbers, payload);
        bytes
    }

    fn line(faults: LineFaults, packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, Fates) {
        let mut line = BadLine::new(faults);
        let mut left = Vec::new();
        packets.iter().for_each(|packet| {
            line.to_world(packet, Offload::default(), |packet| left.push(packet.to_vec()));
        });
        (left, line.fates().0)
    }

    fn numbered(count: u32) -> Vec<Vec<u8>> {
        (0..count).map(|number| segment(false, &number.to_be_bytes())).collect()
    }

    #[test]
    fn a_good_line_changes_nothing() {
        let packets = numbered(100);
        assert_eq!(line(LineFaults::default(), &packets).0, packets);
    }

    #[test]
    fn each_fate_is_met_as_often_as_asked_and_the_same_seed_meets_the_same() {
        let faults = LineFaults {
            loss: 100_000,
            duplicate: 100_000,
            reorder: 100_000,
            corrupt: 100_000,
            hole_above: None,
            seed: 7,
        };
        let packets = numbered(10_000);
        let (left, fates) = line(faults, &packets);
        for (what, met) in [
            ("lost", fates.lost),
            ("duplicated", fates.duplicated),
            ("reordered", fates.reordered),
            ("corrupted", fates.corrupted),
        ] {
            assert!((850..1_150).contains(&met), "{met} of 10,000 {what}");
        }
        assert_eq!((line(faults, &packets).0 == left, left.len() as u64), (true, fates.passed));
        assert_ne!(line(LineFaults { seed: 8, ..faults }, &packets).0, left);
        let waiting = 10_000 + fates.duplicated - fates.lost - fates.passed;
        assert!(waiting <= OVERTAKEN_MAX, "{waiting} are still held back");
    }

    #[test]
    fn who_is_overtaken_comes_at_most_four_later() {
        let packets = numbered(1_000);
        let (left, fates) = line(LineFaults { reorder: 200_000, ..LineFaults::default() }, &packets);
        let places: Vec<usize> =
            left.iter().map(|packet| packets.iter().position(|sent| sent == packet).unwrap()).collect();
        assert!(fates.reordered > 100 && !places.is_sorted());
        for (at, place) in places.iter().enumerate() {
            assert!(at.abs_diff(*place) <= 2 * OVERTAKEN_MAX as usize, "{place} came as number {at}");
        }
    }

    #[test]
    fn damage_is_one_bit() {
        let packets = numbered(50);
        let (left, _) = line(LineFaults { corrupt: 1_000_000, ..LineFaults::default() }, &packets);
        for (sent, left) in packets.iter().zip(&left) {
            let turned: u32 = sent.iter().zip(left).map(|(sent, left)| (sent ^ left).count_ones()).sum();
            assert_eq!(turned, 1);
        }
    }

    #[test]
    fn a_hole_swallows_what_is_too_large() {
        let packets = [segment(false, &[1; 536]), segment(false, &[1; 537])];
        let (left, fates) = line(LineFaults { hole_above: Some(576), ..LineFaults::default() }, &packets);
        assert_eq!((left.as_slice(), fates.swallowed), (&packets[..1], 1));
    }

    #[test]
    fn bytes_that_are_no_packet_pass_and_nothing_panics() {
        for bytes in [&[][..], &[0x45], &[0x60; 40], &[0x45; 20]] {
            let mut left = Vec::new();
            let offload =
                Offload { checksum: Some(Partial { start: 9, offset: 9 }), segment: NonZeroU16::new(1) };
            BadLine::new(LineFaults::default())
                .from_world(bytes, offload, |packet| left.push(packet.to_vec()));
            assert_eq!(left, [bytes]);
        }
    }

    proptest! {
        #[test]
        fn pieces_are_packets_of_their_own_and_add_up(
            six: bool, length in 0_usize..5_000, size in 1_u16..2_000,
        ) {
            let payload: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
            let whole = segment(six, &payload);
            let transport = if six { 40 } else { 20 };
            let checksum = Some(Partial { start: transport as u16, offset: 16 });
            let offload = Offload { checksum, segment: NonZeroU16::new(size) };
            let mut pieces = Vec::new();
            BadLine::new(LineFaults::default()).to_world(&whole, offload, |piece| pieces.push(piece.to_vec()));
            let mut heard = Vec::new();
            for (number, piece) in pieces.iter().enumerate() {
                let view = View::read(piece, &Offload::default()).unwrap();
                let body = &piece[view.transport..];
                prop_assert_eq!(
                    pseudo_header(view.source, view.destination, TCP, body.len()).with(body).finish(), 0
                );
                let at = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
                prop_assert_eq!(at.wrapping_sub(u32::MAX - 10) as usize, heard.len());
                prop_assert_eq!(body[13] & flags::FIN != 0, number + 1 == pieces.len());
                heard.extend_from_slice(&body[20..]);
            }
            prop_assert_eq!(heard, payload);
        }
    }
}
