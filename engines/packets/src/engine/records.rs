//! Records for the flow log: when a flow ends, and of those that go on whenever the driver asks.

use super::{PacketEngine, pass::seconds};
use crate::environment::EnvironmentId;
use crate::flow::{Flow, State, marks};
use crate::flow_log::{Action, FlowRecord};
use crate::table::Key;
use limits::network::nat64::synthesized;
use model::LimitId;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Records that wait to be taken; what comes on top is counted and lost.
pub const RECORDS_MAX: usize = 65_536;

/// Records that wait.
#[derive(Debug, Default)]
pub(super) struct Records {
    are_kept: bool,
    waiting: VecDeque<FlowRecord>,
    lost: u64,
    /// How far [`PacketEngine::log_flows`] has come.
    next: u32,
}

impl Records {
    fn push(&mut self, record: FlowRecord) {
        if self.waiting.len() < RECORDS_MAX {
            self.waiting.push_back(record);
        } else {
            self.lost += 1;
        }
    }
}

impl PacketEngine {
    /// Whether flow records are kept; they are not at first.
    pub fn keep_flow_records(&mut self, keep: bool) {
        self.records.are_kept = keep;
    }

    /// The next record of the flow log.
    pub fn take_flow_record(&mut self) -> Option<FlowRecord> {
        self.records.waiting.pop_front()
    }

    /// Records that nobody took in time.
    pub const fn flow_records_lost(&self) -> u64 {
        self.records.lost
    }

    /// Makes records of what flows that go on have moved since their last ones, looking at `some` flows from where the last
    /// call ended. Whether that was all; a driver calls it until then each time that its aggregation interval is over (AWS: ten
    /// minutes, or one), with a few thousand so that packets do not wait.
    pub fn log_flows(&mut self, some: u32) -> bool {
        let all = self.table.flows().len() as u32;
        let (first, behind) = (self.records.next.min(all), self.records.next.saturating_add(some).min(all));
        for slot in first..behind {
            if self.table.flows()[slot as usize].state != State::Free {
                self.record(slot);
            }
        }
        self.records.next = if behind == all { 0 } else { behind };
        behind == all
    }

    /// Makes the records of a flow, whose counters begin anew.
    pub(super) fn record(&mut self, slot: u32) {
        let flow = self.table.flows()[slot as usize];
        if self.records.are_kept {
            let mut remote = self.table.remote(&flow);
            if let (IpAddr::V4(four), true) = (remote, flow.has(marks::NAT64)) {
                remote = synthesized(four).into();
            }
            let interface = self.environments[flow.environment as usize].interface;
            let address = interface.and_then(|interface| {
                let found = self.layout.interfaces.get(interface.index())?;
                if remote.is_ipv4() { found.address.map(Into::into) } else { found.address6.map(Into::into) }
            });
            if let (Some(interface), Some(address)) = (interface, address) {
                let out = FlowRecord {
                    interface,
                    source: address,
                    destination: remote,
                    source_port: flow.interface_port,
                    destination_port: flow.remote_port,
                    protocol: flow.protocol,
                    packets: flow.packets_out,
                    bytes: flow.bytes_out,
                    start_s: flow.first_s,
                    end_s: seconds(flow.last),
                    action: Action::Accept,
                };
                let back = FlowRecord {
                    source: remote,
                    destination: address,
                    source_port: flow.remote_port,
                    destination_port: flow.interface_port,
                    packets: flow.packets_in,
                    bytes: flow.bytes_in,
                    ..out
                };
                [out, back]
                    .into_iter()
                    .filter(|record| record.packets > 0)
                    .for_each(|record| self.records.push(record));
            }
        }
        let flow: &mut Flow = &mut self.table.flows_mut()[slot as usize];
        (flow.packets_out, flow.packets_in, flow.bytes_out, flow.bytes_in) = (0, 0, 0, 0);
    }

    /// The record of a packet that got no flow: what rules reject, and what a gateway drops behind the interface.
    pub(super) fn record_refused(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        limit: LimitId,
        weight: (u32, u64),
    ) {
        let action = match limit {
            LimitId::NoRule | LimitId::NaclDeny => Action::Reject,
            LimitId::NatPorts => Action::Accept,
            _ => return,
        };
        let Some(interface) = self.environments[id.slot as usize].interface.filter(|_| self.records.are_kept)
        else {
            return;
        };
        let Some(found) = self.layout.interfaces.get(interface.index()) else { return };
        let destination = match key.remote {
            IpAddr::V4(four) if key.is_nat64() => synthesized(four).into(),
            remote => remote,
        };
        let address = if destination.is_ipv4() {
            found.address.map(Into::into)
        } else {
            found.address6.map(Into::into)
        };
        let Some(source) = address else { return };
        let now = seconds(self.now);
        self.records.push(FlowRecord {
            interface,
            source,
            destination,
            source_port: key.near_port,
            destination_port: key.remote_port,
            protocol: key.protocol,
            packets: weight.0,
            bytes: weight.1,
            start_s: now,
            end_s: now,
            action,
        });
    }
}
