//! NAT64: what an environment sends to 64:ff9b::/96 goes on as IPv4, through the NAT gateway as everything of IPv4 does, and
//! comes back as IPv6.
//!
//! Source: VPC User Guide, "DNS64 and NAT64"; published. Pieces of datagrams and an environment's own ICMP errors do not
//! pass (AWS does not say; assumed).

use super::pass::is_too_big;
use super::{PacketEngine, Prepared};
use crate::environment::EnvironmentId;
use crate::flow::{Flow, marks};
use crate::martian::is_martian;
use crate::nat64::{LONGER, to_four, to_six};
use crate::packet::{Offload, Reason, Verdict};
use crate::wire::View;
use limits::network::nat64::{embedded, synthesized};
use std::net::{IpAddr, Ipv6Addr};

impl PacketEngine {
    /// A packet of IPv6 to an address that stands for one of IPv4.
    pub(super) fn out_of_six(
        &mut self,
        id: EnvironmentId,
        prepared: &Prepared,
        bytes: &[u8],
        offload: Offload,
    ) -> Verdict {
        let view = &prepared.view;
        if view.fragment.is_some() {
            return Verdict::Drop(Reason::Fragment);
        }
        if !prepared.has_key {
            return Verdict::Drop(Reason::Protocol);
        }
        let environment = &self.environments[id.slot as usize];
        let Some(to) = embedded(view.destination) else { return Verdict::Drop(Reason::Protocol) };
        if is_martian(to.into()) || Self::is_resolver(environment, to.into()) {
            return Verdict::Drop(Reason::Martian);
        }
        let (from, asker) = (environment.attachment.address, environment.attachment.address6);
        let mut four = std::mem::take(&mut self.four);
        let Some(behind) = to_four(&mut four, bytes, view, offload, (from, to)) else {
            self.four = four;
            return Verdict::Drop(Reason::Protocol);
        };
        let verdict = match View::read(&four, &behind) {
            Ok(view) => {
                let prepared = Prepared { view, ..*prepared };
                self.outbound_of_flow(id, &prepared, &mut four, behind)
            }
            Err(reason) => Verdict::Drop(reason),
        };
        let verdict = match (verdict, asker) {
            (Verdict::Forward(port), _) => {
                std::mem::swap(&mut self.answer, &mut four);
                Verdict::Carry(port, behind)
            }
            (Verdict::Answer, Some(asker)) => self.answer_in_six(asker),
            (other, _) => other,
        };
        self.four = four;
        verdict
    }

    /// Makes the answer, a packet of IPv4, one of IPv6 for an environment.
    pub(super) fn answer_in_six(&mut self, to: Ipv6Addr) -> Verdict {
        let four = std::mem::take(&mut self.answer);
        let verdict = match self.put_in_six(&four, Offload::default(), to) {
            Some(_) => Verdict::Answer,
            None => Verdict::Drop(Reason::Protocol),
        };
        self.four = four;
        verdict
    }

    /// What a packet becomes that came for a flow; `to`: where it is of IPv6, behind a NAT64.
    pub(super) fn carry_in_six(
        &mut self,
        verdict: Verdict,
        bytes: &[u8],
        offload: Offload,
        to: Option<Ipv6Addr>,
    ) -> Verdict {
        match (verdict, to) {
            (Verdict::Forward(port), Some(to)) => match self.put_in_six(bytes, offload, to) {
                Some(behind) => Verdict::Carry(port, behind),
                None => Verdict::Drop(Reason::Protocol),
            },
            (other, _) => other,
        }
    }

    /// The IPv6 address of the environment that a flow behind a NAT64 is of; `None`: it is not behind one.
    pub(super) fn six_of(&self, flow: &Flow) -> Option<Ipv6Addr> {
        let environment = &self.environments[flow.environment as usize];
        environment.attachment.address6.filter(|_| flow.has(marks::NAT64))
    }

    /// The largest packet that becomes one of IPv6 which an environment takes, where this one is larger.
    pub(super) fn too_big_in_six(&self, view: &View, bytes: &[u8], offload: Offload) -> Option<u16> {
        let mtu = self.mtu.environments.saturating_sub(LONGER as u16);
        is_too_big(view, bytes, offload, mtu).then_some(mtu)
    }

    fn put_in_six(&mut self, bytes: &[u8], offload: Offload, to: Ipv6Addr) -> Option<Offload> {
        let view = View::read(bytes, &offload).ok()?;
        let IpAddr::V4(from) = view.source else { return None };
        to_six(&mut self.answer, bytes, &view, offload, (synthesized(from), to))
    }
}
