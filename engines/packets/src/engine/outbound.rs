//! Packets from environments: who may send what, and which flow it is of.

use super::{PacketEngine, Prepared};
use crate::craft::{self, Heard};
use crate::environment::EnvironmentId;
use crate::flow::{State, marks};
use crate::martian::is_martian;
use crate::packet::{Offload, Reason, Verdict};
use crate::table::Key;
use crate::wire::{ICMP, ICMPV6, TCP, UDP, UDP_HEADER, View, flags};
use std::net::{IpAddr, SocketAddr};

/// DNS's port.
pub(super) const DNS: u16 = 53;

impl PacketEngine {
    #[inline]
    pub(super) fn outbound(
        &mut self,
        id: EnvironmentId,
        prepared: &Prepared,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let view = &prepared.view;
        let Some(environment) = self.environment(id) else { return Verdict::Drop(Reason::Detached) };
        let own = match view.source {
            IpAddr::V4(address) => address == environment.attachment.address,
            IpAddr::V6(address) => Some(address) == environment.attachment.address6,
        };
        if !own {
            // Kernels speak of themselves by IPv6's link-local addresses; that is no attempt at anything.
            let own_affairs = view.source.is_ipv6() && is_martian(view.source);
            let reason = if own_affairs { Reason::Martian } else { Reason::Spoofed };
            return Verdict::Drop(reason);
        }
        if prepared.key.is_nat64() {
            return self.out_of_six(id, prepared, bytes, offload);
        }
        if view.fragment.is_some() {
            return self.fragment(prepared, bytes, offload);
        }
        if !prepared.has_key {
            return match view.protocol {
                _ if view.is_error() => self.error_out(id, view, bytes, offload),
                ICMP | ICMPV6 if view.is_echo() => Verdict::Drop(Reason::NoFlow),
                _ => Verdict::Drop(Reason::Protocol),
            };
        }
        self.outbound_of_flow(id, prepared, bytes, offload)
    }

    #[inline]
    pub(super) fn outbound_of_flow(
        &mut self,
        id: EnvironmentId,
        prepared: &Prepared,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        match self.table.find_hashed(&prepared.key, prepared.hash) {
            Some(slot) => self.outbound_known(slot, id, prepared, bytes, offload),
            None => self.outbound_new(id, &prepared.key, &prepared.view, bytes, offload),
        }
    }

    #[inline]
    fn outbound_known(
        &mut self,
        slot: u32,
        id: EnvironmentId,
        prepared: &Prepared,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let Prepared { view, key, .. } = prepared;
        let flow = &self.table.flows()[slot as usize];
        let begins = view.protocol == TCP && view.detail & (flags::SYN | flags::ACK) == flags::SYN;
        // One part of a way that has forgotten a flow answers for the other, which forgets it as well.
        if flow.state == State::Forgotten || flow.state == State::Lingering && begins {
            self.end(slot);
            return self.outbound_new(id, key, view, bytes, offload);
        }
        if view.hops <= 1 {
            return self.hops_used_up(id, view, bytes);
        }
        if flow.has(marks::RELAY) {
            match view.protocol {
                TCP if flow.state == State::Opening && !flow.has(marks::REACHED) => {
                    return self.ask_again(slot, id, begins, view, bytes, offload);
                }
                ICMP | ICMPV6 => return self.echo_back(slot, view, bytes, offload),
                _ => {}
            }
        }
        self.pass_out(slot, view, bytes, offload)
    }

    fn outbound_new(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let to_resolver = self.asks_resolver(id, SocketAddr::new(key.remote, key.remote_port));
        if to_resolver && view.protocol == UDP {
            if view.fragment.is_some() {
                return Verdict::Drop(Reason::Fragment);
            }
            return Verdict::Resolve { payload: view.transport + UDP_HEADER..bytes.len() };
        }
        if key.remote == view.source || is_martian(key.remote) && !to_resolver {
            return Verdict::Drop(Reason::Martian);
        }
        if view.protocol == TCP {
            let said = view.detail & (flags::SYN | flags::ACK | flags::RST | flags::FIN);
            match said {
                flags::SYN => {}
                _ if said & flags::RST != 0 => return Verdict::Drop(Reason::NoFlow),
                _ if said & flags::SYN != 0 && said & flags::ACK == 0 => {
                    return Verdict::Drop(Reason::Malformed);
                }
                // What a gateway does not know it resets (VPC User Guide, "Troubleshoot NAT gateways").
                _ => return self.reset(key, view, bytes),
            }
        }
        if view.hops <= 1 {
            return self.hops_used_up(id, view, bytes);
        }
        self.begin(id, key, view, bytes, offload, to_resolver)
    }

    /// Whether what an environment sends there is for its VPC's resolver. Who asks is its device's to say: the connection's
    /// source, as the relay has it, is of no VPC.
    pub fn asks_resolver(&self, id: EnvironmentId, to: SocketAddr) -> bool {
        let environment = self.environments.get(id.slot as usize);
        to.port() == DNS && environment.is_some_and(|found| Self::is_resolver(found, to.ip()))
    }

    /// Answers a segment with a reset.
    pub(super) fn reset(&mut self, key: &Key, view: &View, bytes: &[u8]) -> Verdict {
        let from = SocketAddr::new(key.remote, key.remote_port);
        let to = SocketAddr::new(view.source, key.near_port);
        craft::reset(&mut self.answer, from, to, Heard::read(&bytes[view.transport..]));
        Verdict::Answer
    }

    /// Answers an echo request for what is attached: the relay's own kernel would answer for everybody.
    pub(super) fn echo_back(&mut self, slot: u32, view: &View, bytes: &[u8], offload: Offload) -> Verdict {
        self.note(slot, view, bytes, offload, true);
        self.note(slot, view, bytes, offload, false);
        craft::echo_back(&mut self.answer, view, bytes);
        Verdict::Answer
    }

    /// Tells an environment that its packet has met too many routers, of which the first is here.
    fn hops_used_up(&mut self, id: EnvironmentId, view: &View, bytes: &[u8]) -> Verdict {
        let (from, kind) = match view.source {
            IpAddr::V4(_) => (self.environments[id.slot as usize].router().into(), 11),
            // The router of IPv6 has no address of its own here; it speaks for the destination.
            IpAddr::V6(_) => (view.destination, 3),
        };
        craft::error(&mut self.answer, from, view.source, kind, 0, 0, bytes);
        Verdict::Answer
    }
}
