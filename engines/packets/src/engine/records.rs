//! Records for the flow log: when a flow ends, and of those that go on, and of what got no flow, whenever the driver asks.
//!
//! Source: VPC User Guide, "Flow log records" (a record is of one 5-tuple of one interface in an aggregation interval; `REJECT` is
//! what security groups or network ACLs there did not permit) and "Flow log limitations" (nothing of what is asked of Amazon's
//! resolver), "Flow log record examples" (a NAT gateway's interface has each packet twice: as it comes and as it goes on);
//! published. That what a route or a full gateway drops was `ACCEPT`ed where it left: assumed, as an interface does not hear of
//! it.

use super::outbound::DNS;
use super::{PacketEngine, pass::logged_flags, pass::seconds};
use crate::environment::{Environment, EnvironmentId};
use crate::flow::{Flow, NO_GATEWAY, State, marks};
use crate::flow_log::{Action, FlowKey, FlowRecord};
use crate::table::Key;
use crate::wire::{ICMP, ICMPV6, View};
use limits::network::InterfaceOf;
use limits::network::nat64::synthesized;
use model::LimitId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

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
    skipped: BTreeSet<InterfaceOf>,
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
    pub fn take_skipped_interfaces(&mut self) -> BTreeSet<InterfaceOf> {
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
            for leg in self.legs(&flow, self.table.rest(slot).interface_port) {
                let out = FlowRecord {
                    packets: flow.packets_out,
                    bytes: flow.bytes_out,
                    start_s: flow.first_s,
                    end_s: seconds(flow.last),
                    tcp_flags: flow.flags_out,
                    ..leg.record(flow.protocol, true)
                };
                let back = FlowRecord {
                    packets: flow.packets_in,
                    bytes: flow.bytes_in,
                    start_s: flow.first_s,
                    end_s: seconds(flow.last),
                    tcp_flags: flow.flags_in,
                    ..leg.record(flow.protocol, false)
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

    /// The interfaces that a flow passes, at those of functions with that port.
    fn legs(&self, flow: &Flow, port: u16) -> Vec<Leg> {
        let remote = self.table.remote(flow);
        let environment = &self.environments[flow.environment as usize];
        if flow.remote_port == DNS && Self::is_resolver(environment, remote) {
            return Vec::new();
        }
        let end = match (flow.gateway, environment.interface) {
            _ if flow.has(marks::NOWHERE) => None,
            (NO_GATEWAY, Some(_)) => self.network.end_of(environment.subnet, remote),
            (NO_GATEWAY, None) => self.network.public_host(remote),
            (gateway, _) => self.network.end_behind(gateway.into(), remote),
        };
        let way = Way {
            port,
            remote: (remote, flow.remote_port),
            nat64: flow.has(marks::NAT64),
            gateway: Some(flow.gateway.into()).filter(|_| flow.gateway != NO_GATEWAY),
            outside: (self.table.outside(flow), flow.outside_port),
            end,
        };
        self.legs_of(environment, &way)
    }

    fn legs_of(&self, environment: &Environment, way: &Way) -> Vec<Leg> {
        let mut legs = Vec::new();
        let (address, port) = way.remote;
        let asked = match address {
            IpAddr::V4(four) if way.nat64 => synthesized(four).into(),
            asked => asked,
        };
        let source = environment.interface.and_then(|interface| {
            let found = self.layout.interfaces.get(interface.index())?;
            let address =
                if asked.is_ipv4() { found.address.map(Into::into) } else { found.address6.map(Into::into) };
            Some((interface, (address?, way.port)))
        });
        // What the far end takes for the sender.
        let mut near = way.outside;
        if let Some((interface, from)) = source {
            near = from;
            legs.push(Leg {
                interface: InterfaceOf::Functions(interface),
                near: from,
                far: (asked, port),
                packet: (from.0, asked),
                outbound: true,
                path: self.network.traffic_path(environment.subnet, asked),
            });
        }
        if let (Some(gateway), Some((_, from))) = (way.gateway, source)
            && let Some(own) = self.network.gateways.get(gateway).and_then(|found| found.address)
        {
            let interface = InterfaceOf::Gateway(gateway);
            let home = self.network.subnet_of_gateway(gateway);
            let path = |to| self.network.traffic_path(home?, to);
            // It is an interface of IPv4; to whom a NAT64 is asked by IPv6, it says no more than the packet does.
            let mine = if asked.is_ipv4() { own } else { asked };
            // A private gateway translates to addresses of its interface, of which lines have the first.
            let is_public = self.network.gateways[gateway].public;
            let bears = if is_public { own } else { way.outside.0 };
            legs.push(Leg {
                interface,
                near: from,
                far: (mine, port),
                packet: (from.0, asked),
                outbound: false,
                path: path(from.0),
            });
            legs.push(Leg {
                interface,
                near: (own, way.outside.1),
                far: way.remote,
                packet: (bears, address),
                outbound: true,
                path: path(address),
            });
            let stands_inside = self.network.host_behind(gateway, address).is_some();
            near = (if stands_inside { bears } else { way.outside.0 }, way.outside.1);
        }
        if let Some(host) = way.end.and_then(|end| self.network.hosts.get(end)) {
            legs.push(Leg {
                interface: InterfaceOf::Host(host.vpc, host.address),
                near,
                far: way.remote,
                packet: (near.0, address),
                outbound: false,
                path: host.subnet.and_then(|subnet| self.network.traffic_path(subnet, near.0)),
            });
        }
        legs
    }

    /// The records of a packet that got no flow: what rules reject, and what is dropped behind an interface.
    pub(super) fn record_refused(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        limit: LimitId,
        (view, bytes, weight): (&View, &[u8], (u32, u64)),
    ) {
        let environment = &self.environments[id.slot as usize];
        let Some(interface) = environment.interface.filter(|_| self.records.are_kept) else { return };
        if !matches!(
            limit,
            LimitId::NoRule
                | LimitId::NaclDeny
                | LimitId::NoRoute
                | LimitId::NatPorts
                | LimitId::DbMaxConnections
        ) {
            return;
        }
        let port = self.ports.get(interface.index()).and_then(|ports| ports.next());
        let flow = Self::flow_key(key, view, bytes, port.unwrap_or(key.near_port));
        let mut heard = self.network.heard(environment.subnet, self.groups_of(environment), &flow);
        if limit == LimitId::NatPorts {
            (heard.onward, heard.host) = (None, None);
        }
        let gateway = heard.gateway.map(|(gateway, _)| gateway);
        // It has no port of the gateway's, and any of its addresses.
        let outside = gateway.and_then(|gateway| self.layout.gateways.get(gateway)?.first().copied());
        let way = Way {
            port: key.near_port,
            remote: (key.remote, key.remote_port),
            nat64: key.is_nat64(),
            gateway,
            outside: (outside.unwrap_or(Ipv4Addr::UNSPECIFIED).into(), key.near_port),
            end: heard.host.map(|(host, _)| host),
        };
        let now = seconds(self.now);
        let tcp_flags = logged_flags(view);
        for leg in self.legs_of(environment, &way) {
            let lets = match (leg.interface, leg.outbound) {
                (InterfaceOf::Functions(_), _) => Some(heard.sender),
                (InterfaceOf::Gateway(_), false) => heard.gateway.map(|(_, lets)| lets),
                (InterfaceOf::Gateway(_), true) => heard.onward,
                (InterfaceOf::Host(..), _) => heard.host.map(|(_, lets)| lets),
            };
            let Some(lets) = lets else { continue };
            let record = leg.record(key.protocol, true);
            self.records.push_refused(FlowRecord {
                packets: weight.0,
                bytes: weight.1,
                start_s: now,
                end_s: now,
                tcp_flags,
                action: if lets { Action::Accept } else { Action::Reject },
                traffic_path: record.traffic_path.filter(|_| lets),
                ..record
            });
        }
    }
}

/// Which way packets take behind their environment.
struct Way {
    /// Their port at the interface.
    port: u16,
    /// Whom they are for, and by IPv6 through a NAT64?
    remote: (IpAddr, u16),
    nat64: bool,
    /// The NAT gateway on the way, and as what they leave it or, without one, the interface.
    gateway: Option<usize>,
    outside: (IpAddr, u16),
    /// The host at its end.
    end: Option<usize>,
}

/// An interface on the way, between the environment's side of it and the far one.
struct Leg {
    interface: InterfaceOf,
    near: (IpAddr, u16),
    far: (IpAddr, u16),
    /// The addresses in packets that go to the far side.
    packet: (IpAddr, IpAddr),
    /// Whether what goes to the far side leaves the interface; else it comes to it.
    outbound: bool,
    /// The way of what leaves it.
    path: Option<u8>,
}

impl Leg {
    /// A record of what goes to the far side (`out`) or comes from there, empty yet.
    fn record(&self, protocol: u8, out: bool) -> FlowRecord {
        let (from, to) = if out { (self.near, self.far) } else { (self.far, self.near) };
        let packet = if out { self.packet } else { (self.packet.1, self.packet.0) };
        let egress = out == self.outbound;
        // An echo's identifier is no port.
        let port = |end: (IpAddr, u16)| if matches!(protocol, ICMP | ICMPV6) { 0 } else { end.1 };
        FlowRecord {
            interface: self.interface,
            source: from.0,
            destination: to.0,
            packet,
            source_port: port(from),
            destination_port: port(to),
            protocol,
            packets: 0,
            bytes: 0,
            start_s: 0,
            end_s: 0,
            action: Action::Accept,
            tcp_flags: 0,
            egress,
            traffic_path: self.path.filter(|_| egress),
        }
    }
}
