//! A packet of a known flow passes: the flow's state and counters, and the translation.

use super::PacketEngine;
use crate::craft::pseudo_header;
use crate::flow::{Flow, NO_GATEWAY, State, marks};
use crate::packet::{Offload, Port, Reason, Verdict};
use crate::rewrite::{End, translate};
use crate::wire::{TCP, UDP, UDP_HEADER, View, flags};
use model::Instant;

/// What a TCP segment means for its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on.
    On,
    /// The handshake is complete.
    Established,
    /// Both sides have closed it.
    Closed,
    /// One side has cut it.
    Cut,
}

impl PacketEngine {
    /// A packet leaves: its source becomes the translated one.
    pub(super) fn pass_out(&mut self, slot: u32, view: &View, bytes: &mut [u8], offload: Offload) -> Verdict {
        let flow = &self.table.flows()[slot as usize];
        let (port, mtu) = match flow.has(marks::RELAY) {
            true => (Port::Relay, self.mtu.relay),
            false => (Port::World, self.mtu.world),
        };
        if is_too_big(view, bytes, offload, mtu) {
            return self.too_big(view, bytes, mtu);
        }
        if let Some(dropped) = self.police(slot, view, bytes, offload, true) {
            return dropped;
        }
        let turn = self.note(slot, view, bytes, offload, true);
        let flow = &self.table.flows()[slot as usize];
        if flow.has(marks::NOWHERE) {
            return Verdict::Drop(Reason::Nobody);
        }
        let outside = (self.table.outside(flow), flow.outside_port);
        translate(bytes, view, &offload, End::Source, outside, true);
        self.turn(slot, turn);
        Verdict::Forward(port)
    }

    /// A packet comes back: its destination becomes the environment's own.
    pub(super) fn pass_in(&mut self, slot: u32, view: &View, bytes: &mut [u8], offload: Offload) -> Verdict {
        let flow = &self.table.flows()[slot as usize];
        let Some((port, address)) = self.inside(flow, view.source.is_ipv4()) else {
            return Verdict::Drop(Reason::Detached);
        };
        if is_too_big(view, bytes, offload, self.mtu.environments) {
            return self.too_big(view, bytes, self.mtu.environments);
        }
        if let Some(dropped) = self.police(slot, view, bytes, offload, false) {
            return dropped;
        }
        let turn = self.note(slot, view, bytes, offload, false);
        let flow = &self.table.flows()[slot as usize];
        let inside = (address, flow.inside_port);
        translate(bytes, view, &offload, End::Destination, inside, true);
        self.turn(slot, turn);
        Verdict::Forward(port)
    }

    /// Writes into the flow's record what a packet says.
    #[inline]
    pub(super) fn note(&mut self, slot: u32, view: &View, bytes: &[u8], offload: Offload, out: bool) -> Turn {
        let (packets, size) = weigh(view, bytes, offload);
        let now = self.now;
        let flow = &mut self.table.flows_mut()[slot as usize];
        if flow.packets_out == 0 && flow.packets_in == 0 {
            flow.first_s = seconds(now);
        }
        if out {
            flow.packets_out = flow.packets_out.saturating_add(packets);
            flow.bytes_out += size;
        } else {
            flow.packets_in = flow.packets_in.saturating_add(packets);
            flow.bytes_in += size;
        }
        if flow.state != State::Lingering {
            flow.last = now;
        }
        let gateway = flow.gateway;
        let turn = match view.protocol {
            TCP if is_false_end(view, bytes, offload) => Turn::On,
            TCP => {
                *(if out { &mut flow.flags_out } else { &mut flow.flags_in }) |= logged_flags(view);
                follow(flow, view.detail, out)
            }
            _ => heard(flow, out),
        };
        if gateway != NO_GATEWAY
            && let Some(meter) = self.meters.get_mut(usize::from(gateway))
        {
            meter.pass(now, out, packets.into(), size);
            meter.metrics.connections_established += u64::from(turn == Turn::Established);
        }
        turn
    }

    fn turn(&mut self, slot: u32, turn: Turn) {
        match turn {
            Turn::On | Turn::Established => {}
            Turn::Closed => self.linger(slot),
            Turn::Cut => self.end(slot),
        }
    }
}

/// Seconds since the start, as flow records have them.
pub(super) fn seconds(now: Instant) -> u32 {
    u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX)
}

/// The flags of a TCP segment that flow logs have: an ACK beside a SYN alone (VPC User Guide, "Flow log records", `tcp-flags`).
#[inline]
pub(super) const fn logged_flags(view: &View) -> u8 {
    const ALWAYS: u8 = flags::FIN | flags::SYN | flags::RST;
    match view.protocol {
        TCP if view.detail & flags::SYN != 0 => view.detail & (ALWAYS | flags::ACK),
        TCP => view.detail & ALWAYS,
        _ => 0,
    }
}

/// Whether a segment says that its connection ends and has a wrong checksum: its receiver will not believe it either. Of
/// segments that say nothing of the kind nobody asks.
#[inline]
fn is_false_end(view: &View, bytes: &[u8], offload: Offload) -> bool {
    if view.detail & (flags::FIN | flags::RST) == 0 || offload.checksum.is_some() {
        return false;
    }
    let segment = &bytes[view.transport..];
    pseudo_header(view.source, view.destination, TCP, segment.len()).with(segment).finish() != 0
}

/// Whether a packet, or each of those that it stands for, is larger than `mtu`.
#[inline]
pub(super) fn is_too_big(view: &View, bytes: &[u8], offload: Offload, mtu: u16) -> bool {
    match offload.segment {
        None => bytes.len() > usize::from(mtu),
        Some(size) => header(view, bytes) + usize::from(size.get()) > usize::from(mtu),
    }
}

/// Bytes of the headers, of a packet that has its transport header.
fn header(view: &View, bytes: &[u8]) -> usize {
    view.transport
        + match view.protocol {
            TCP => usize::from(bytes[view.transport + 12] >> 4) * 4,
            _ => UDP_HEADER,
        }
}

/// How many packets of how many bytes it is: one that stands for several counts as they would on the wire.
#[inline]
pub(super) fn weigh(view: &View, bytes: &[u8], offload: Offload) -> (u32, u64) {
    let Some(size) = offload.segment.filter(|_| !view.is_later_fragment()) else {
        return (1, bytes.len() as u64);
    };
    let header = header(view, bytes);
    let payload = bytes.len().saturating_sub(header);
    let packets = payload.div_ceil(usize::from(size.get())).max(1);
    (packets as u32, (payload + packets * header) as u64)
}

/// Follows TCP as far as is needed to know when it is over (RFC 9293, figure 5; numbers are not followed: a closed flow
/// lingers, so that what was lost may be sent again).
#[inline]
fn follow(flow: &mut Flow, said: u8, out: bool) -> Turn {
    if said & flags::RST != 0 {
        // What came back was no answer to the SYN: the peer remembers an older connection under this port and acknowledged
        // that (RFC 9293, section 3.5.1, half-open connections). The reset ends the older one, and the SYN comes again.
        if out && flow.state == State::Open && !flow.has(marks::ESTABLISHED) {
            flow.state = State::Opening;
            // Nor was a FIN of the older one's.
            flow.marks &= !(marks::FIN_IN | marks::FIN_OUT | marks::LAST_FIN_OUT);
            return Turn::On;
        }
        return Turn::Cut;
    }
    let mut turn = Turn::On;
    if flow.state == State::Opening && !out {
        flow.state = State::Open;
    }
    // The older connection's answer may have come before.
    const ANSWER: u8 = flags::SYN | flags::ACK;
    if !out && flow.state == State::Open && said & ANSWER == ANSWER && !flow.has(marks::ESTABLISHED) {
        flow.marks |= marks::ESTABLISHED;
        turn = Turn::Established;
    }
    if flow.state == State::Lingering {
        return turn;
    }
    if said & flags::FIN != 0 {
        let other = if out { marks::FIN_IN } else { marks::FIN_OUT };
        let own = if out { marks::FIN_OUT } else { marks::FIN_IN };
        if !flow.has(own) && flow.has(other) && out {
            flow.marks |= marks::LAST_FIN_OUT;
        }
        flow.marks |= own;
    } else if flow.has(marks::FIN_OUT | marks::FIN_IN)
        && said & flags::ACK != 0
        && flow.has(marks::LAST_FIN_OUT) != out
    {
        return Turn::Closed;
    }
    turn
}

/// Both sides of a flow without connections were heard, or more than once.
#[inline]
fn heard(flow: &mut Flow, out: bool) -> Turn {
    match (flow.state, out) {
        (State::Opening, false) => flow.state = State::Open,
        (State::Open, true) if flow.protocol == UDP => flow.marks |= marks::STREAM,
        _ => {}
    }
    Turn::On
}
