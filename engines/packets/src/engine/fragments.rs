//! Fragments of UDP datagrams: the first one names the flow, the others follow it.
//!
//! Source: VPC User Guide, "NAT gateway basics": a NAT gateway forwards fragmented UDP and drops fragmented TCP and ICMP;
//! published, and taken here for every way. What is remembered of a datagram is bounded: its flow's key and which of its
//! bytes have passed. A later fragment that comes before the first is dropped, and so are all of a datagram of which two
//! overlap (RFC 5722, RFC 3128).

use super::{PacketEngine, Prepared};
use crate::flow::marks;
use crate::packet::{Offload, Port, Reason, Verdict};
use crate::table::Key;
use crate::wire::{Fragment, UDP, View};
use model::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Datagrams that are remembered at once; of more, the oldest is forgotten.
pub const DATAGRAMS_MAX: usize = 1024;
/// Pieces of one datagram.
const PIECES_MAX: usize = 64;
/// How long a datagram is remembered (RFC 4787 leaves it open; Linux has 30 s).
const PATIENCE: Duration = Duration::from_secs(30);

/// Datagrams of which some fragments have passed.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    datagrams: BTreeMap<Name, Datagram>,
    /// In the order in which they began.
    order: VecDeque<(Instant, Name)>,
}

/// What a datagram's fragments have in common (RFC 791, section 2.3).
type Name = (Port, IpAddr, IpAddr, u32);

#[derive(Debug)]
struct Datagram {
    began: Instant,
    key: Key,
    /// First and one behind the last byte of what has passed.
    pieces: Vec<(u32, u32)>,
    /// Where the last fragment ends.
    end: Option<u32>,
    /// Nothing of it passes any more.
    spoilt: bool,
}

impl Fragments {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.datagrams.len()
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((began, name)) = self.order.front().copied() {
            if began + PATIENCE > now && self.order.len() < DATAGRAMS_MAX {
                break;
            }
            self.order.pop_front();
            // It may have been completed, and another one begun under its name.
            if self.datagrams.get(&name).is_some_and(|found| found.began == began) {
                self.datagrams.remove(&name);
            }
        }
    }
}

impl Datagram {
    /// Whether one more fragment fits to those that have passed.
    fn takes(&mut self, fragment: Fragment, length: usize) -> bool {
        let first = u32::from(fragment.offset);
        let behind = first + length as u32;
        let overlaps = self.pieces.iter().any(|piece| first < piece.1 && piece.0 < behind);
        let beyond = self.end.is_some_and(|end| behind > end || !fragment.more);
        let short = !fragment.more && self.pieces.iter().any(|piece| piece.1 > behind);
        if self.spoilt || overlaps || beyond || short || self.pieces.len() >= PIECES_MAX {
            self.spoilt = true;
            return false;
        }
        self.pieces.push((first, behind));
        if !fragment.more {
            self.end = Some(behind);
        }
        true
    }

    fn is_complete(&self) -> bool {
        let passed: u32 = self.pieces.iter().map(|piece| piece.1 - piece.0).sum();
        self.end == Some(passed)
    }
}

impl PacketEngine {
    pub(super) fn fragment(&mut self, prepared: &Prepared, bytes: &mut [u8], offload: Offload) -> Verdict {
        let view = &prepared.view;
        let Some(fragment) = view.fragment.filter(|_| view.protocol == UDP && offload == Offload::default())
        else {
            return Verdict::Drop(Reason::Fragment);
        };
        let name = (prepared.from, view.source, view.destination, fragment.id);
        let length = bytes.len() - view.transport;
        self.fragments.forget_old(self.now);
        let key = match self.fragments.datagrams.get_mut(&name) {
            Some(datagram) => {
                if !datagram.takes(fragment, length) {
                    return Verdict::Drop(Reason::Fragment);
                }
                let key = datagram.key;
                if datagram.is_complete() {
                    self.fragments.datagrams.remove(&name);
                }
                key
            }
            None if view.is_later_fragment() => return Verdict::Drop(Reason::Fragment),
            None => {
                let piece = (0, length as u32);
                let (began, key) = (self.now, prepared.key);
                let datagram = Datagram { began, key, pieces: vec![piece], end: None, spoilt: false };
                self.fragments.datagrams.insert(name, datagram);
                self.fragments.order.push_back((began, name));
                key
            }
        };
        if !view.is_later_fragment() {
            return match prepared.from {
                Port::Environment(id) => self.outbound_of_flow(id, prepared, bytes, offload),
                Port::World | Port::Relay => self.inbound_of_flow(prepared, bytes, offload),
            };
        }
        self.later_fragment(prepared.from, &key, view, bytes, offload)
    }

    fn later_fragment(
        &mut self,
        from: Port,
        key: &Key,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let Some(slot) = self.table.find(key) else { return Verdict::Drop(Reason::NoFlow) };
        if self.table.flows()[slot as usize].has(marks::NAT64) {
            return Verdict::Drop(Reason::Fragment);
        }
        if view.hops <= 1 {
            return Verdict::Drop(Reason::Expired);
        }
        if matches!(from, Port::Environment(_)) {
            return self.pass_out(slot, view, bytes, offload);
        }
        match super::inbound::shut(&self.table.flows()[slot as usize], from == Port::Relay) {
            Some(reason) => Verdict::Drop(reason),
            None => self.pass_in(slot, view, bytes, offload),
        }
    }
}
