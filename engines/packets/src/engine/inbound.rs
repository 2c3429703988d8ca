//! Packets from the world and the relay: only those of known flows get in.

use super::{PacketEngine, Prepared};
use crate::environment::EnvironmentId;
use crate::flow::{Flow, State, marks};
use crate::martian::is_martian;
use crate::packet::{Offload, Port, Reason, Verdict};
use std::net::IpAddr;

impl PacketEngine {
    #[inline]
    pub(super) fn inbound(&mut self, prepared: &Prepared, bytes: &mut [u8], offload: Offload) -> Verdict {
        let verdict = self.inbound_or_drop(prepared, bytes, offload);
        if let (Verdict::Drop(_), IpAddr::V4(address)) = (&verdict, prepared.view.destination)
            && let Some(gateway) = self.gateway_of.get(&address)
            && let Some(meter) = self.meters.get_mut(usize::from(*gateway))
        {
            meter.drop(false, 1, bytes.len() as u64);
        }
        verdict
    }

    #[inline]
    fn inbound_or_drop(&mut self, prepared: &Prepared, bytes: &mut [u8], offload: Offload) -> Verdict {
        let view = &prepared.view;
        if view.fragment.is_some() {
            return self.fragment(prepared, bytes, offload);
        }
        if !prepared.has_key {
            return match (view.is_error(), view.is_echo()) {
                (true, _) if is_martian(view.source) => Verdict::Drop(Reason::Martian),
                (true, _) => self.error_in(prepared.from == Port::Relay, view, bytes, offload),
                (_, true) => Verdict::Drop(Reason::NoFlow),
                _ => Verdict::Drop(Reason::Protocol),
            };
        }
        self.inbound_of_flow(prepared, bytes, offload)
    }

    #[inline]
    pub(super) fn inbound_of_flow(
        &mut self,
        prepared: &Prepared,
        bytes: &mut [u8],
        offload: Offload,
    ) -> Verdict {
        let view = &prepared.view;
        let Some(slot) = self.table.find_hashed(&prepared.key, prepared.hash) else {
            return Verdict::Drop(Reason::NoFlow);
        };
        let flow = &self.table.flows()[slot as usize];
        if let Some(reason) = shut(flow, prepared.from == Port::Relay) {
            return Verdict::Drop(reason);
        }
        if view.hops <= 1 {
            return Verdict::Drop(Reason::Expired);
        }
        let six = self.six_of(flow);
        if six.is_some() {
            if view.fragment.is_some() {
                return Verdict::Drop(Reason::Fragment);
            }
            if let Some(mtu) = self.too_big_in_six(view, bytes, offload) {
                return self.too_big(view, bytes, mtu);
            }
        }
        let verdict = self.pass_in(slot, view, bytes, offload);
        self.carry_in_six(verdict, bytes, offload, six)
    }

    /// The device and the address behind a flow, while its environment is there.
    #[inline]
    pub(super) fn inside(&self, flow: &Flow, ipv4: bool) -> Option<(Port, IpAddr)> {
        let environment = &self.environments[flow.environment as usize];
        if !environment.attached {
            return None;
        }
        let attachment = &environment.attachment;
        let address = if ipv4 { attachment.address.into() } else { attachment.address6?.into() };
        let id = EnvironmentId { slot: flow.environment, generation: environment.generation };
        Some((Port::Environment(id), address))
    }
}

/// Why nothing comes back to a flow from the relay, or from the world.
#[inline]
pub(super) const fn shut(flow: &Flow, relay: bool) -> Option<Reason> {
    if flow.has(marks::RELAY) != relay || flow.has(marks::NOWHERE) || flow.has(marks::HELD) {
        return Some(Reason::Spoofed);
    }
    match flow.state {
        State::Forgotten => Some(Reason::Forgotten),
        _ => None,
    }
}
