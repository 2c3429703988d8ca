//! Records for the flow log: when a flow ends, and of those that go on, and of what got no flow, whenever the driver asks.
//!
//! Source: VPC User Guide, "Flow log records" (a record is of one 5-tuple of one interface in an aggregation interval; `REJECT` is
//! what security groups or network ACLs there did not permit) and "Flow log limitations" (nothing of what is asked of Amazon's
//! resolver); published. That what a route, a gateway or the far end drops was `ACCEPT`ed where it left: assumed, as an
//! interface does not hear of it.

use super::outbound::DNS;
use super::{PacketEngine, pass::logged_flags, pass::seconds};
use crate::environment::EnvironmentId;
use crate::flow::{Flow, State, marks};
use crate::flow_log::{Action, FlowKey, FlowRecord};
use crate::table::Key;
use crate::wire::View;
use limits::eni::InterfaceId;
use limits::network::nat64::synthesized;
use model::LimitId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// Records that wait to be taken; what comes on top is counted and lost.
pub const RECORDS_MAX: usize = 65_536;

/// Refusals that wait to be told once each interval, each 5-tuple's together; at so many they are told at once.
pub const REFUSED_MAX: usize = 16_384;

/// Records that wait.
#[derive(Debug, Default)]
pub(super) struct Records {
    are_kept: bool,
    waiting: VecDeque<FlowRecord>,
    /// Of packets that got no flow, since the driver last asked.
    refused: BTreeMap<FlowKey, FlowRecord>,
    lost: u64,
    /// Interfaces of which records were lost, until somebody hears of it.
    skipped: BTreeSet<InterfaceId>,
    /// How far [`PacketEngine::log_flows`] has come.
    next: u32,
}

impl Records {
    fn push(&mut self, record: FlowRecord) {
        if self.waiting.len() < RECORDS_MAX {
            self.waiting.push_back(record);
        } else {
            self.lost += 1;
            self.skipped.insert(record.interface);
        }
    }

    /// A packet that got no flow: one record with those before it.
    fn push_refused(&mut self, record: FlowRecord) {
        if let Some(found) = self.refused.get_mut(&record.key()) {
            return found.add(&record);
        }
        if self.refused.len() >= REFUSED_MAX {
            self.tell_refused();
        }
        self.refused.insert(record.key(), record);
    }

    fn tell_refused(&mut self) {
        std::mem::take(&mut self.refused).into_values().for_each(|record| self.push(record));
    }
}

impl PacketEngine {
    /// Whether flow records are kept; they are not at first. Those that wait go when no more are.
    pub fn keep_flow_records(&mut self, keep: bool) {
        self.records.are_kept = keep;
        if !keep {
            self.records.waiting.clear();
            self.records.refused.clear();
        }
    }

    /// The next record of the flow log.
    pub fn take_flow_record(&mut self) -> Option<FlowRecord> {
        self.records.waiting.pop_front()
    }

    /// Records that nobody took in time.
    pub const fn flow_records_lost(&self) -> u64 {
        self.records.lost
    }

    /// The interfaces of which records were lost since this was asked last.
    pub fn take_skipped_interfaces(&mut self) -> BTreeSet<InterfaceId> {
        std::mem::take(&mut self.records.skipped)
    }

    /// Makes records of what flows that go on have moved since their last ones, looking at `some` flows from where the last
    /// call ended, and at the end of what was refused. Whether that was all; a driver calls it until then each time that its aggregation interval is over (AWS: ten
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
        if behind == all {
            self.records.tell_refused();
        }
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
            let environment = &self.environments[flow.environment as usize];
            let to_resolver = flow.remote_port == DNS && Self::is_resolver(environment, remote);
            let interface = environment.interface.filter(|_| !to_resolver);
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
                    tcp_flags: flow.flags_out,
                    egress: true,
                    traffic_path: self.network.traffic_path(environment.subnet, remote),
                };
                let back = FlowRecord {
                    source: remote,
                    destination: address,
                    source_port: flow.remote_port,
                    destination_port: flow.interface_port,
                    packets: flow.packets_in,
                    bytes: flow.bytes_in,
                    tcp_flags: flow.flags_in,
                    egress: false,
                    traffic_path: None,
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
        (flow.flags_out, flow.flags_in) = (0, 0);
    }

    /// The record of a packet that got no flow: what rules reject, and what is dropped behind the interface.
    pub(super) fn record_refused(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        limit: LimitId,
        (view, bytes, weight): (&View, &[u8], (u32, u64)),
    ) {
        let environment = &self.environments[id.slot as usize];
        let Some(interface) = environment.interface.filter(|_| self.records.are_kept) else { return };
        let action = match limit {
            LimitId::NoRule | LimitId::NaclDeny => {
                let port = self.ports.get(interface.index()).and_then(|ports| ports.next());
                let flow = Self::flow_key(key, view, bytes, port.unwrap_or(key.near_port));
                match self.network.leaves(environment.subnet, self.groups_of(environment), &flow) {
                    true => Action::Accept,
                    false => Action::Reject,
                }
            }
            LimitId::NatPorts | LimitId::NoRoute | LimitId::DbMaxConnections => Action::Accept,
            _ => return,
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
        self.records.push_refused(FlowRecord {
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
            tcp_flags: logged_flags(view),
            egress: true,
            traffic_path: match action {
                Action::Accept => self.network.traffic_path(environment.subnet, destination),
                Action::Reject => None,
            },
        });
    }
}
