//! SYNs to what is attached: kept until the relay has reached it, so that a refused connection looks refused and a dead
//! one dead, although the relay's own kernel would accept both.

use super::PacketEngine;
use crate::craft::{self, Heard};
use crate::environment::EnvironmentId;
use crate::flow::marks;
use crate::packet::{HeldId, Offload, Port, Reason, Verdict};
use crate::rewrite::{End, translate};
use crate::wire::View;
use model::LimitId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// SYNs that are held at once.
pub const HELD_MAX: usize = 8192;
/// Bytes of one.
const HELD_BYTES_MAX: usize = 2048;

/// All that are held, by their flow.
#[derive(Debug, Default)]
pub(super) struct HeldSyns {
    by_flow: BTreeMap<u32, Held>,
    next: u64,
}

#[derive(Debug)]
struct Held {
    id: HeldId,
    bytes: Vec<u8>,
    offload: Offload,
    heard: Heard,
}

impl HeldSyns {
    pub(super) fn remove(&mut self, slot: u32) {
        self.by_flow.remove(&slot);
    }

    fn take(&mut self, id: HeldId) -> Option<(u32, Held)> {
        let slot = id.0 as u32;
        let held = self.by_flow.remove(&slot)?;
        if held.id == id {
            return Some((slot, held));
        }
        self.by_flow.insert(slot, held);
        None
    }
}

impl PacketEngine {
    /// Holds the SYN of a flow and asks about it.
    pub(super) fn ask(
        &mut self,
        slot: u32,
        id: EnvironmentId,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        if bytes.len() > HELD_BYTES_MAX {
            return Verdict::Drop(Reason::TooBig);
        }
        if self.held.by_flow.len() >= HELD_MAX {
            self.refuse_full(HELD_MAX as u64, HELD_MAX as u64);
            return Verdict::Drop(Reason::Refused(LimitId::HostFlows));
        }
        debug_assert_eq!(self.table.flows()[slot as usize].environment, id.slot);
        let heard = Heard::read(&bytes[view.transport..]);
        self.note(slot, view, bytes, offload, true);
        let flow = &mut self.table.flows_mut()[slot as usize];
        flow.marks |= marks::HELD;
        let flow = *flow;
        let source = SocketAddr::new(self.table.outside(&flow), flow.outside_port);
        translate(bytes, view, &offload, End::Source, (source.ip(), source.port()), true);
        // The slot's number makes it quick to find, the rest unlike any other.
        self.held.next += 1;
        let held = HeldId(self.held.next << 32 | u64::from(slot));
        self.held.by_flow.insert(slot, Held { id: held, bytes: bytes.to_vec(), offload, heard });
        Verdict::Ask { held, source, destination: SocketAddr::new(view.destination, view.destination_port) }
    }

    /// A packet of a flow whose destination was not reached yet: another SYN is asked about, unless one is held.
    pub(super) fn ask_again(
        &mut self,
        slot: u32,
        id: EnvironmentId,
        begins: bool,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let is_held = self.table.flows()[slot as usize].has(marks::HELD);
        if view.detail & crate::wire::flags::RST != 0 {
            self.end(slot);
            return Verdict::Drop(Reason::Held);
        }
        if !begins || is_held {
            return Verdict::Drop(Reason::Held);
        }
        self.ask(slot, id, view, bytes, offload)
    }

    pub(super) fn release_held(&mut self, id: HeldId) -> Option<(Port, Offload)> {
        let (slot, held) = self.held.take(id)?;
        let flow = &mut self.table.flows_mut()[slot as usize];
        flow.marks = flow.marks & !marks::HELD | marks::REACHED;
        self.answer = held.bytes;
        Some((Port::Relay, held.offload))
    }

    pub(super) fn refuse_held(&mut self, id: HeldId) -> Option<Port> {
        let (slot, held) = self.held.take(id)?;
        self.table.flows_mut()[slot as usize].marks &= !marks::HELD;
        let flow = self.table.flows()[slot as usize];
        let remote = self.table.remote(&flow);
        let (inside, six) = (self.inside(&flow, remote.is_ipv4()), self.six_of(&flow));
        self.end(slot);
        let (port, address) = inside?;
        let from = SocketAddr::new(remote, flow.remote_port);
        let to = SocketAddr::new(address, flow.inside_port);
        craft::reset(&mut self.answer, from, to, held.heard);
        if let Some(six) = six {
            self.answer_in_six(six);
        }
        Some(port)
    }

    pub(super) fn forget_held(&mut self, id: HeldId) {
        if let Some((slot, _)) = self.held.take(id) {
            self.table.flows_mut()[slot as usize].marks &= !marks::HELD;
        }
    }
}
