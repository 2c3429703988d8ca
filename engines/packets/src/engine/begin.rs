//! A new flow: which way it takes, what the limits say, and its record.

use super::{PacketEngine, pass};
use crate::environment::{Environment, EnvironmentId};
use crate::event::Event;
use crate::flow::{Flow, NO_GATEWAY, Rest, State, marks};
use crate::martian::{is_given_out, is_private};
use crate::packet::{Offload, Reason, Verdict};
use crate::table::{Key, Near};
use crate::wire::{ICMP, ICMPV6, TCP, View, word};
use limits::connections::Taken;
use limits::db_connections::DatabaseId;
use limits::eni::InterfaceId;
use limits::nat::GatewayId;
use limits::network::nat64::synthesized;
use limits::network::{FlowKey, HostKind, Path};
use model::{LimitId, Refusal};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Type and code of an echo request.
const ECHO_REQUEST: u16 = 8 << 8;
/// The same of IPv6.
const ECHO_REQUEST6: u16 = 128 << 8;
/// Ports that are tried for a flow whose interface has none left of its own (with a raised limit alone).
const SHARED_PORTS_TRIED: u16 = 64;

/// What a new flow gets.
#[derive(Clone, Copy, Debug)]
struct Granted {
    outside: IpAddr,
    outside_port: u16,
    marks: u16,
    pool: u32,
    gateway: u16,
    gateway_address: u16,
    /// The database that counts it, behind a gateway or on the internet.
    behind: Option<DatabaseId>,
}

impl PacketEngine {
    pub(super) fn begin(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
        to_resolver: bool,
    ) -> Verdict {
        match self.grant(id, key, view, bytes, to_resolver) {
            Ok(granted) => self.enter(id, key, view, bytes, offload, granted),
            Err(refusal) => self.refuse(id, key, view, bytes, offload, refusal),
        }
    }

    fn grant(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        view: &View,
        bytes: &[u8],
        to_resolver: bool,
    ) -> Result<Granted, Refusal> {
        self.guard(id)?;
        let environment = &self.environments[id.slot as usize];
        let (own, own_max) = (environment.flows, self.settings.environment_flows_max);
        if self.table.len() >= self.table.max() {
            let max = self.table.max().into();
            return Err(self.refuse_full(max, max));
        }
        if own >= own_max {
            return Err(self.refuse_full(own.into(), own_max.into()));
        }
        let is_own = matches!(key.remote, IpAddr::V4(address) if is_given_out(address));
        let leads = if to_resolver || self.is_relayed(key.remote, key.remote_port) {
            marks::RELAY
        } else if !is_private(key.remote) || self.settings.private_world && !is_own {
            0
        } else {
            marks::NOWHERE
        };
        match environment.interface {
            // The resolver stands on Lambda's side of the interface, and takes nothing of it.
            Some(interface) if !to_resolver => self.grant_in_vpc(id, interface, key, view, bytes, leads),
            _ => self.grant_free(id, key, leads, to_resolver),
        }
    }

    /// Without a VPC the network limits nothing, and each environment has an address of its own.
    fn grant_free(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        leads: u16,
        to_resolver: bool,
    ) -> Result<Granted, Refusal> {
        let environment = &self.environments[id.slot as usize];
        let own6 = environment.attachment.address6.filter(|_| to_resolver).map(IpAddr::V6);
        let outside = match key.remote {
            IpAddr::V4(_) if !key.is_nat64() => Some(environment.public().into()),
            // The resolver's own address of IPv6 is asked from the environment's, which nobody else has.
            IpAddr::V6(_) => own6,
            IpAddr::V4(_) => None,
        };
        let Some(outside) = outside else {
            return Err(self.barred(LimitId::NoRoute, "a function without a VPC"));
        };
        let port = if key.protocol == ICMP { ECHO_REQUEST } else { key.remote_port };
        if let Some((limit, who)) = self.network.bars_without_vpc(key.remote, key.protocol, port) {
            return Err(self.barred(limit, &who));
        }
        // An environment before this one had the same address; what is left of its flow gives way.
        let other = Key { near: Near::Address(outside), ..*key };
        if let Some(slot) = self.table.find(&other) {
            self.end(slot);
        }
        // A database that is publicly accessible counts whoever comes.
        let behind = self.database_at(self.network.public_host(key.remote), key);
        if let Some(database) = behind {
            self.wired.connections.take_database_freely(self.now, database)?;
        }
        Ok(Granted {
            outside,
            outside_port: key.near_port,
            marks: leads | if behind.is_some() { marks::DATABASE } else { 0 },
            pool: 0,
            gateway: NO_GATEWAY,
            gateway_address: 0,
            behind,
        })
    }

    fn grant_in_vpc(
        &mut self,
        id: EnvironmentId,
        interface: InterfaceId,
        key: &Key,
        view: &View,
        bytes: &[u8],
        leads: u16,
    ) -> Result<Granted, Refusal> {
        let environment = &self.environments[id.slot as usize];
        let own_port = self.ports.get(interface.index()).and_then(|ports| ports.next());
        let from_port = own_port.unwrap_or(key.near_port);
        let flow = Self::flow_key(key, view, bytes, from_port);
        let subnet = environment.subnet;
        let path = self.network.path(subnet, self.groups_of(environment), &flow);
        let public = environment.public();
        let now = self.now;
        let mut granted = Granted {
            outside: key.remote,
            outside_port: from_port,
            marks: marks::INTERFACE | leads | if key.is_nat64() { marks::NAT64 } else { 0 },
            pool: 0,
            gateway: NO_GATEWAY,
            gateway_address: 0,
            behind: None,
        };
        let addresses = self.layout.interfaces.get(interface.index()).copied().unwrap_or_default();
        let own = match key.remote {
            IpAddr::V4(_) => addresses.address.map(IpAddr::V4),
            IpAddr::V6(_) => addresses.address6.map(IpAddr::V6),
        };
        match path {
            Path::Barred(limit, resource) => return Err(self.barred(limit, &resource)),
            path if key.is_nat64() && !matches!(path, Path::Nat(_)) => {
                let name = self.network.subnets.get(subnet).map_or("", |subnet| &subnet.name);
                let who = format!("{name} (its route for 64:ff9b::/96 leads to no NAT gateway)");
                return Err(self.barred(LimitId::NoRoute, &who));
            }
            Path::Nat(index) => {
                self.look_behind(index, key, &mut granted);
                self.take_gateway(interface, index, key, &mut granted)?;
                self.come_by_address((id, interface), index, key, &mut granted);
            }
            _ if own.is_none() => {
                let name = Arc::clone(self.wired.connections.interface_name(interface));
                return Err(self.barred(LimitId::NoRoute, &format!("{name} (it has no address)")));
            }
            Path::Host(index) => {
                granted.marks = granted.marks & !marks::NOWHERE | marks::RELAY;
                self.take_host(interface, index, key, &mut granted)?;
            }
            Path::Nothing => {
                // Whatever is attached at the address may stand there, but for what is of another VPC.
                let is_attached = leads == marks::RELAY && self.network.owners(key.remote).next().is_none();
                if !is_attached {
                    granted.marks = granted.marks & !marks::RELAY | marks::NOWHERE;
                }
                self.wired.connections.take_interface(now, interface)?;
            }
            Path::Service(_) | Path::Egress(_) | Path::World => {
                self.wired.connections.take_interface(now, interface)?;
            }
        }
        if granted.gateway == NO_GATEWAY {
            granted.outside = own.unwrap_or(IpAddr::V4(public));
        }
        if own_port.is_some() {
            granted.marks |= marks::INTERFACE_PORT;
        } else if granted.gateway == NO_GATEWAY && !self.share_port(key, &mut granted) {
            self.give_host_back(interface, &granted);
            let max = self.table.max().into();
            return Err(self.refuse_full(self.table.len().into(), max));
        }
        Ok(granted)
    }

    /// A packet as rules and routes speak of it.
    pub(super) fn flow_key(key: &Key, view: &View, bytes: &[u8], from_port: u16) -> FlowKey {
        let port = match key.protocol {
            ICMP | ICMPV6 => word(bytes, view.transport),
            _ => key.remote_port,
        };
        let mut flow = FlowKey { protocol: key.protocol, to: key.remote, port, from_port };
        if let (IpAddr::V4(four), true) = (key.remote, key.is_nat64()) {
            flow.to = synthesized(four).into();
            if key.protocol == ICMP {
                (flow.protocol, flow.port) = (ICMPV6, ECHO_REQUEST6);
            }
        }
        flow
    }

    /// The security groups of an environment's interface.
    pub(super) fn groups_of(&self, environment: &Environment) -> &[usize] {
        let function = environment.attachment.place.map_or(0, |place| place.function);
        match self.network.placements.get(function) {
            Some(Some(placement)) => &placement.groups,
            _ => &[],
        }
    }

    /// The database of a host.
    fn database_of(&self, host: usize) -> Option<(usize, DatabaseId)> {
        let HostKind::Database(index) = self.network.hosts.get(host)?.what else { return None };
        Some((index, self.wired.databases.get(index).copied().flatten()?))
    }

    /// On the internet something of the template sees the one address that a gateway has just given. Where that is not let in,
    /// while another one of the gateway's would be, the gateway does not hear of it, and keeps the port.
    fn come_by_address(
        &mut self,
        (id, interface): (EnvironmentId, InterfaceId),
        gateway: usize,
        key: &Key,
        granted: &mut Granted,
    ) {
        let host = match self.network.host_behind(gateway, key.remote) {
            Some(_) => None,
            None => self.network.public_host(key.remote),
        };
        let Some(host) = host else { return };
        let port = if key.protocol == ICMP { ECHO_REQUEST } else { key.remote_port };
        let flow = FlowKey { protocol: key.protocol, to: key.remote, port, from_port: granted.outside_port };
        let Some((limit, who)) = self.network.barred_publicly(host, granted.outside, &flow) else { return };
        granted.marks = granted.marks & !(marks::RELAY | marks::DATABASE) | marks::NOWHERE;
        if let Some(database) = granted.behind.take() {
            self.wired.connections.give_taken_back(self.now, Taken::Database(database), false);
        }
        let refusal = self.barred(limit, &who);
        let source = self.environments[id.slot as usize].attachment.address;
        self.tell(Event::Refused {
            environment: id,
            interface: Some(interface),
            protocol: key.protocol,
            source: SocketAddr::new(source.into(), key.near_port),
            destination: SocketAddr::new(key.remote, key.remote_port),
            refusal,
        });
    }

    /// Something of the template may stand behind a NAT gateway; a database there may refuse a flow that has all else.
    fn look_behind(&self, gateway: usize, key: &Key, granted: &mut Granted) {
        if self.network.host_behind(gateway, key.remote).is_some() {
            granted.marks = granted.marks & !marks::NOWHERE | marks::RELAY;
        }
        granted.behind = self.database_at(self.network.end_behind(gateway, key.remote), key);
        granted.marks |= if granted.behind.is_some() { marks::DATABASE } else { 0 };
    }

    /// The database that counts a flow to a host.
    fn database_at(&self, host: Option<usize>, key: &Key) -> Option<DatabaseId> {
        self.database_of(host?).filter(|_| key.protocol == TCP).map(|(_, database)| database)
    }

    fn take_host(
        &mut self,
        interface: InterfaceId,
        index: usize,
        key: &Key,
        granted: &mut Granted,
    ) -> Result<(), Refusal> {
        let Some((database, id)) = self.database_of(index).filter(|_| key.protocol == TCP) else {
            return self.wired.connections.take_interface(self.now, interface);
        };
        self.wired.connections.take_database(self.now, interface, id)?;
        granted.marks |= marks::DATABASE;
        granted.pool = database as u32;
        Ok(())
    }

    fn give_host_back(&mut self, interface: InterfaceId, granted: &Granted) {
        let connections = &mut self.wired.connections;
        connections.give_interface_back(self.now, interface);
        let database = self.wired.databases.get(granted.pool as usize).copied().flatten();
        if let Some(database) = database.filter(|_| granted.marks & marks::DATABASE != 0) {
            connections.give_taken_back(self.now, Taken::Database(database), false);
        }
    }

    fn take_gateway(
        &mut self,
        interface: InterfaceId,
        index: usize,
        key: &Key,
        granted: &mut Granted,
    ) -> Result<(), Refusal> {
        let destination = key.destination();
        // The limits count gateways in the network's order.
        let gateway = GatewayId::of(index as u32);
        if let Some(meter) = self.meters.get_mut(index) {
            meter.metrics.connection_attempts += u64::from(key.protocol == TCP);
        }
        let behind = granted.behind;
        let taken = self.wired.connections.take_port(self.now, interface, gateway, destination, behind)?;
        let address = self.layout.gateways.get(index).and_then(|all| all.get(usize::from(taken.address)));
        let Some(address) = address else {
            self.wired.connections.give_taken_back(self.now, Taken::Port(taken), false);
            if let Some(database) = behind {
                self.wired.connections.give_taken_back(self.now, Taken::Database(database), false);
            }
            self.wired.connections.give_interface_back(self.now, interface);
            let who = format!("{} (it has no address)", self.network.gateways[index].name);
            return Err(self.barred(LimitId::NoRoute, &who));
        };
        granted.outside = IpAddr::V4(*address);
        granted.outside_port = taken.port;
        granted.marks |= marks::GATEWAY;
        granted.pool = taken.pool().index();
        granted.gateway_address = taken.address;
        granted.gateway = u16::try_from(index).unwrap_or(NO_GATEWAY);
        if let Some(meter) = self.meters.get_mut(index) {
            meter.metrics.active_connections += u64::from(key.protocol == TCP);
        }
        Ok(())
    }

    /// Looks for a port of the interface that no other flow has towards the same destination.
    fn share_port(&self, key: &Key, granted: &mut Granted) -> bool {
        (0..SHARED_PORTS_TRIED).any(|step| {
            let port = key.near_port.wrapping_add(step.wrapping_mul(1021)).max(1024);
            granted.outside_port = port;
            let near = Near::Address(granted.outside);
            self.table.find(&Key { near, near_port: port, ..*key }).is_none()
        })
    }

    fn enter(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        view: &View,
        bytes: &mut [u8],
        offload: Offload,
        granted: Granted,
    ) -> Verdict {
        // A flow that lingers under the same translation gives way; nobody holds its port any more.
        let near = Near::Address(granted.outside);
        if let Some(slot) = self.table.find(&Key { near, near_port: granted.outside_port, ..*key }) {
            self.end(slot);
        }
        let marks = granted.marks;
        let interface_port = match self.environments[id.slot as usize].interface {
            Some(interface) if marks & marks::INTERFACE_PORT != 0 => {
                self.ports[interface.index()].take().unwrap_or(granted.outside_port)
            }
            _ => granted.outside_port,
        };
        let flow = Flow {
            last: self.now,
            environment: id.slot,
            first_s: pass::seconds(self.now),
            inside_port: key.near_port,
            remote_port: key.remote_port,
            outside_port: granted.outside_port,
            gateway: granted.gateway,
            marks,
            protocol: key.protocol,
            state: State::Opening,
            ..Flow::default()
        };
        let Granted { pool, gateway_address, outside, .. } = granted;
        let rest = Rest { pool, interface_port, gateway_address, ..Rest::default() };
        let slot =
            self.table.insert(flow, rest, key.remote, outside).expect("there was room, and one version");
        if let Some(database) = granted.behind {
            self.behind.insert(slot, database);
        }
        self.environments[id.slot as usize].flows += 1;
        self.full.reach(self.table.len().into());
        self.schedule(slot);
        if let Err(refusal) = self.take_masquerade(slot, key) {
            self.end(slot);
            return self.refuse(id, key, view, bytes, offload, refusal);
        }
        match key.protocol {
            TCP if marks & marks::RELAY != 0 => self.ask(slot, id, view, bytes, offload),
            ICMP | ICMPV6 if marks & marks::RELAY != 0 => self.echo_back(slot, view, bytes, offload),
            _ => self.pass_out(slot, view, bytes, offload),
        }
    }

    /// The last of all: what a limit of AWS's refuses is told as that, whatever the world has left.
    fn take_masquerade(&mut self, slot: u32, key: &Key) -> Result<(), Refusal> {
        let Some(masquerade) = &mut self.masquerade else { return Ok(()) };
        let flow = &self.table.flows()[slot as usize];
        if flow.marks & (marks::RELAY | marks::NOWHERE) == 0
            && masquerade.take(self.now, key.destination(), flow.outside_port)?
        {
            self.table.flows_mut()[slot as usize].marks |= marks::MASQUERADE;
        }
        Ok(())
    }

    fn refuse(
        &mut self,
        id: EnvironmentId,
        key: &Key,
        view: &View,
        bytes: &[u8],
        offload: Offload,
        refusal: Refusal,
    ) -> Verdict {
        let limit = refusal.limit;
        self.record_refused(id, key, limit, (view, bytes, pass::weigh(view, bytes, offload)));
        if limit == LimitId::NatPorts {
            let is = |gateway: &limits::network::Gateway| *gateway.name == *refusal.resource;
            let index = self.network.gateways.iter().position(is);
            if let Some(meter) = index.and_then(|index| self.meters.get_mut(index)) {
                let (packets, size) = pass::weigh(view, bytes, offload);
                meter.drop(true, packets.into(), size);
                meter.metrics.port_allocation_errors += 1;
            }
        }
        self.tell(Event::Refused {
            environment: id,
            interface: self.environments[id.slot as usize].interface,
            protocol: key.protocol,
            source: SocketAddr::new(view.source, key.near_port),
            destination: SocketAddr::new(key.remote, key.remote_port),
            refusal,
        });
        if key.protocol == TCP && limits::Connections::is_told(limit) {
            return self.reset(key, view, bytes);
        }
        Verdict::Drop(Reason::Refused(limit))
    }

    /// A rule or a route refuses. Resources are the template's, so there are only so many.
    fn barred(&mut self, limit: LimitId, resource: &str) -> Refusal {
        let resource: Arc<str> = resource.into();
        self.bars.entry((limit, Arc::clone(&resource))).or_default().refuse(self.now);
        Refusal { limit, resource, destination: None, used: 0, max: 0, retry_at: None }
    }
}
