//! The engine: attaches environments, keeps the clock, and says what becomes of each packet.

mod begin;
mod end;
mod errors;
mod fragments;
mod held;
mod inbound;
mod outbound;
mod pass;
mod police;
mod prepared;
mod records;
mod six_to_four;
#[cfg(test)]
mod tests;

pub use police::Bandwidth;

use crate::environment::{Attachment, Environment, EnvironmentId, Place};
use crate::event::Event;
use crate::flow::{Flow, State, marks};
use crate::martian::{RESOLVER, RESOLVER6, is_ours};
use crate::masquerade::Masquerade;
use crate::metrics::{Meter, NatMetrics};
use crate::packet::{HeldId, Offload, Packet, Port, Reason, Verdict};
use crate::ports::InterfacePorts;
use crate::settings::{Layout, PacketSettings};
use crate::table::Table;
use crate::timers::Timers;
use crate::wire::{TCP, UDP};
use limits::Network;
use limits::db_connections::DatabaseId;
use limits::nat::GatewayId;
use limits::network::{InterfaceOf, InterfacePlace, Wired};
use limits::tally::Tally;
use limits::token_bucket::{Refill, TokenBucket};
use model::stack::{Stack, VpcConfig};
use model::{Instant, LimitId, LimitRow, Refusal};
pub use prepared::Prepared;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Events that wait to be taken; what comes on top is counted and lost.
pub const EVENTS_MAX: usize = 4096;

/// Moves packets between environments, the world and the relay, and asks the limits about each new flow.
#[derive(Debug)]
pub struct PacketEngine {
    network: Network,
    wired: Wired,
    layout: Layout,
    settings: PacketSettings,
    now: Instant,
    /// Before this nothing falls due.
    wake: Instant,
    environments: Vec<Environment>,
    free_environments: Vec<u32>,
    table: Table,
    timers: Timers,
    /// Flows that linger.
    lingering: u32,
    /// By interface.
    ports: Vec<InterfacePorts>,
    /// By gateway.
    meters: Vec<Meter>,
    gateway_of: BTreeMap<Ipv4Addr, u16>,
    /// Of those flows that lead to a database through a gateway or over the internet, the database.
    behind: BTreeMap<u32, DatabaseId>,
    relayed: BTreeSet<(IpAddr, Option<u16>)>,
    held: held::HeldSyns,
    fragments: fragments::Fragments,
    records: records::Records,
    mtu: Mtu,
    answer: Vec<u8>,
    /// A packet on its way through a NAT64.
    four: Vec<u8>,
    events: VecDeque<Event>,
    events_lost: u64,
    dropped: BTreeMap<Reason, u64>,
    /// What bars a way, and how often it did.
    bars: BTreeMap<(LimitId, Arc<str>), Tally>,
    full: Tally,
    /// What links carry, where that is bounded.
    police: police::Police,
    /// Environments that open flows too fast.
    fast: Tally,
    /// The world's ports, where it masquerades.
    masquerade: Option<Masquerade>,
}

impl PacketEngine {
    /// An engine for a network whose limits are wired. Gateways and interfaces without an address let nothing through.
    pub fn new(network: Network, wired: Wired, settings: PacketSettings) -> Self {
        let table = Table::new(settings.flows_max, settings.seed);
        let mut engine = Self::empty(network, wired, settings, table);
        engine.lay_out();
        engine
    }

    fn empty(network: Network, wired: Wired, settings: PacketSettings, table: Table) -> Self {
        let police = police::Police::new(settings.bandwidth);
        let masquerade = settings.masquerade_ports.map(Masquerade::new);
        Self {
            gateway_of: BTreeMap::new(),
            behind: BTreeMap::new(),
            network,
            wired,
            layout: Layout::default(),
            settings,
            now: Instant::START,
            wake: Instant::NEVER,
            environments: Vec::new(),
            free_environments: Vec::new(),
            table,
            timers: Timers::default(),
            lingering: 0,
            ports: Vec::new(),
            meters: Vec::new(),
            relayed: BTreeSet::new(),
            held: held::HeldSyns::default(),
            fragments: fragments::Fragments::default(),
            records: records::Records::default(),
            mtu: Mtu::default(),
            answer: Vec::new(),
            four: Vec::new(),
            events: VecDeque::new(),
            events_lost: 0,
            dropped: BTreeMap::new(),
            bars: BTreeMap::new(),
            full: Tally::default(),
            police,
            fast: Tally::default(),
            masquerade,
        }
    }

    /// Takes the addresses of the network's interfaces and gateways, new ones among them.
    fn lay_out(&mut self) {
        self.layout = Layout::of(&self.network, &self.wired);
        self.ports.resize_with(self.layout.interfaces.len().max(self.ports.len()), InterfacePorts::default);
        self.meters.resize_with(self.network.gateways.len().max(self.meters.len()), Meter::default);
        let addresses = self.layout.gateways.iter().enumerate().flat_map(|(index, addresses)| {
            addresses.iter().map(move |address| (*address, u16::try_from(index).unwrap_or(u16::MAX)))
        });
        self.gateway_of = addresses.collect();
    }

    /// Adds a function that is made later, with subnets and groups of the stack or of outside: its index for [`Place`].
    pub fn add_function(&mut self, now: Instant, stack: &Stack, config: Option<&VpcConfig>) -> usize {
        self.advance(now);
        let index = self.network.add_function(stack, config);
        self.network.wire_function(&mut self.wired, self.now, index);
        self.lay_out();
        index
    }

    /// The functions with that index are gone (`left`), or there again: what only they used is given back, as soon as nobody is
    /// behind it. Answers what interfaces that are wanted again found no room in.
    pub fn set_left(&mut self, now: Instant, function: usize, left: bool) -> Vec<Refusal> {
        self.advance(now);
        self.network.set_left(function, left);
        let refused = self.network.rewire(&mut self.wired, self.now);
        self.lay_out();
        refused
    }

    /// The network is another, renewed from this one: for new flows, while those that are open go on. Answers what new
    /// interfaces found no room in.
    pub fn renew(&mut self, now: Instant, network: Network) -> Vec<Refusal> {
        self.advance(now);
        let refused = network.rewire(&mut self.wired, self.now);
        self.network = network;
        self.lay_out();
        refused
    }

    /// Which shared interfaces somebody is behind, by subnet and security groups: see [`Network::hold`].
    pub fn interfaces_in_use(&mut self, now: Instant) -> BTreeSet<(usize, Vec<usize>)> {
        self.advance(now);
        self.wired.interfaces_in_use()
    }

    /// Nobody else gets the addresses of these interfaces: see [`Network::hold`].
    pub fn hold(&mut self, held: BTreeSet<(usize, Vec<usize>)>) -> usize {
        self.network.hold(held)
    }

    /// The largest packets that the world, the relay and the environments take; without, any.
    pub fn set_mtu(&mut self, mtu: Mtu) {
        self.mtu = mtu;
    }

    /// An environment's device is there. `None`: its place is none of the network's.
    pub fn attach(&mut self, now: Instant, attachment: Attachment) -> Option<EnvironmentId> {
        self.advance(now);
        let (interface, subnet) = match attachment.place {
            None => (None, 0),
            Some(Place { function, choice }) => {
                let placement = self.network.placements.get(function)?.as_ref()?;
                let interface = self.wired.interfaces.get(function)?.get(choice)?;
                (Some(*interface), *placement.subnets.get(choice)?)
            }
        };
        let base = |vpc: &limits::network::Vpc| Some(u32::from(vpc.ranges.first()?.first()));
        let vpc = self.network.subnets.get(subnet).and_then(|found| self.network.vpcs.get(found.vpc));
        let resolver =
            interface.and(vpc).and_then(base).map(|base| Ipv4Addr::from_bits(base.saturating_add(2)));
        let attachment = Attachment { resolver: attachment.resolver.or(resolver), ..attachment };
        let refill = |tokens| Refill { tokens, period: Duration::from_secs(1) };
        let bucket = |most: u32| TokenBucket::new(self.now, most, refill(most));
        let new_flows = self.settings.new_flows_max.map(bucket);
        let environment =
            Environment { generation: 0, attachment, interface, subnet, flows: 0, attached: true, new_flows };
        let slot = match self.free_environments.pop() {
            Some(slot) => {
                let generation = self.environments[slot as usize].generation.wrapping_add(1);
                self.environments[slot as usize] = Environment { generation, ..environment };
                slot
            }
            None => {
                self.environments.push(environment);
                u32::try_from(self.environments.len() - 1).ok()?
            }
        };
        if let Some(interface) = interface {
            self.wired.connections.enter_interface(interface);
        }
        Some(EnvironmentId { slot, generation: self.environments[slot as usize].generation })
    }

    /// An environment's device is gone. Its flows stay until they fall silent, as in production: nobody tells a gateway that
    /// an environment ended.
    pub fn detach(&mut self, now: Instant, id: EnvironmentId) {
        self.advance(now);
        let Some(environment) = self.environment(id) else { return };
        let is_empty = environment.flows == 0;
        if let Some(interface) = environment.interface {
            self.wired.connections.exit_interface(interface);
        }
        self.environments[id.slot as usize].attached = false;
        self.police.forget(id.slot);
        if is_empty {
            self.free_environments.push(id.slot);
        }
    }

    /// Destinations that lead to the relay rather than to the world: an address with one port, or with all.
    pub fn set_relayed(&mut self, relayed: BTreeSet<(IpAddr, Option<u16>)>) {
        self.relayed = relayed;
    }

    /// Says what becomes of a packet, and rewrites it where it goes on. O(1) for a flow that is known; a new one asks the
    /// limits, and the rules. `now` never runs backwards; an earlier one counts as the last.
    #[inline]
    pub fn receive(&mut self, now: Instant, from: Port, packet: Packet<'_>) -> Verdict {
        let prepared = self.prepare(from, &packet);
        self.receive_prepared(now, packet, &prepared)
    }

    /// As [`Self::receive`], of a packet that was prepared and has not changed since.
    pub fn receive_prepared(&mut self, now: Instant, packet: Packet<'_>, prepared: &Prepared) -> Verdict {
        if now >= self.wake {
            self.advance(now);
        }
        self.now = self.now.max(now);
        let Packet { bytes, offload } = packet;
        let verdict = match prepared.from {
            _ if prepared.reason.is_some() => Verdict::Drop(prepared.reason.unwrap_or(Reason::Malformed)),
            Port::Environment(id) => self.outbound(id, prepared, bytes, offload),
            Port::World | Port::Relay => self.inbound(prepared, bytes, offload),
        };
        if let Verdict::Drop(reason) = verdict {
            *self.dropped.entry(reason).or_default() += 1;
        }
        verdict
    }

    /// After [`Verdict::Answer`], [`Verdict::Carry`] or a `held_` call: the packet to send.
    pub fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// The relay has reached what a SYN asked for: it goes on, as [`Self::answer`], there. `None`: it was given up meanwhile.
    pub fn held_opened(&mut self, now: Instant, id: HeldId) -> Option<(Port, Offload)> {
        self.advance(now);
        self.release_held(id)
    }

    /// What a SYN asked for refuses: [`Self::answer`] holds the reset for that environment.
    pub fn held_refused(&mut self, now: Instant, id: HeldId) -> Option<Port> {
        self.advance(now);
        self.refuse_held(id)
    }

    /// What a SYN asked for cannot be reached: nobody answers it. The next one is asked about again.
    pub fn held_failed(&mut self, now: Instant, id: HeldId) {
        self.advance(now);
        self.forget_held(id);
    }

    /// The next thing that happened.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Events that nobody took in time.
    pub const fn events_lost(&self) -> u64 {
        self.events_lost
    }

    /// Dropped packets by reason.
    pub const fn dropped(&self) -> &BTreeMap<Reason, u64> {
        &self.dropped
    }

    /// When [`Self::advance`] has something to do next, at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let limits = self.wired.connections.next_deadline();
        self.timers.next_deadline().into_iter().chain(limits).min()
    }

    /// Forgets flows that were silent for too long. Amortised O(log flows due within a second) for each.
    pub fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.wake <= self.now {
            self.settle();
        }
        self.wired.connections.advance(self.now);
    }

    fn settle(&mut self) {
        let (idle, settings) = (self.idle(), self.settings.clone());
        let deadline = |flow: &Flow| deadline(flow, idle, &settings);
        while let Some((slot, due)) = self.timers.pop(self.table.timed(), self.now, deadline) {
            self.fall_silent(slot, due);
        }
        self.wake = self.timers.next_deadline().unwrap_or(Instant::NEVER);
    }

    /// Schedules the end of a flow's silence.
    fn schedule(&mut self, slot: u32) {
        let due = deadline(&self.table.flows()[slot as usize], self.idle(), &self.settings);
        self.timers.schedule(self.table.timed().1, slot, due);
        self.wake = self.wake.min(self.timers.next_deadline().unwrap_or(Instant::NEVER));
    }

    /// Silence that interfaces and gateways bear.
    fn idle(&self) -> Idle {
        let settings = self.wired.connections.settings();
        Idle { interface: settings.interface.idle_timeout, gateway: settings.nat.idle_timeout }
    }

    /// Flows now, lingering ones among them.
    pub const fn flows(&self) -> u32 {
        self.table.len()
    }

    /// Bytes of memory that flows take: records, index and timers.
    pub fn flow_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// A gateway's metrics at `now`, by its index in the network.
    pub fn metrics(&mut self, now: Instant, gateway: usize) -> Option<NatMetrics> {
        self.advance(now);
        let meter = self.meters.get_mut(gateway)?;
        let idle_timeouts = self.wired.connections.idle_timeouts(GatewayId::of(gateway as u32));
        Some(NatMetrics { idle_timeouts, ..meter.read(self.now) })
    }

    /// The limits, to look at.
    pub const fn wired(&self) -> &Wired {
        &self.wired
    }

    /// What an interface is called, and where it is; `None`: it is not there any more.
    pub fn interface_place(&self, of: InterfaceOf) -> Option<InterfacePlace> {
        let InterfaceOf::Functions(id) = of else { return self.network.interface_place(of) };
        let subnet = self.layout.interfaces.get(id.index())?.subnet?;
        let name = Arc::clone(self.wired.connections.interface_name(id));
        Some(InterfacePlace { name, vpc: self.network.subnets.get(subnet)?.vpc, subnet: Some(subnet) })
    }

    /// The network, to look at.
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The board's rows: those of the limits, what bars ways, and the table's own.
    pub fn board(&self) -> Vec<LimitRow> {
        let mut rows = self.wired.connections.board();
        let source = &self.wired.connections.settings().sources.template;
        rows.extend(
            self.bars.iter().map(|((limit, resource), tally)| tally.row(*limit, resource, 0, 0, source)),
        );
        let resource = "flow table".into();
        let (used, max) = (self.table.len().into(), self.table.max().into());
        let setting = "this host's setting".into();
        rows.push(self.full.row(LimitId::HostFlows, &resource, used, max, &setting));
        if let Some(max) = self.settings.new_flows_max {
            let fastest =
                |environment: &Environment| Some(max - environment.new_flows.as_ref()?.available(self.now));
            let used = self.environments.iter().filter_map(fastest).max().unwrap_or(0);
            let resource = "environment".into();
            rows.push(self.fast.row(LimitId::HostNewFlows, &resource, used.into(), max.into(), &setting));
        }
        rows.extend(self.masquerade.iter().flat_map(|ports| ports.rows(&setting)));
        rows.extend(self.police.rows(self.now));
        rows
    }

    fn environment(&self, id: EnvironmentId) -> Option<&Environment> {
        let found = self.environments.get(id.slot as usize)?;
        (found.generation == id.generation && found.attached).then_some(found)
    }

    fn is_relayed(&self, address: IpAddr, port: u16) -> bool {
        is_ours(address)
            || !self.relayed.is_empty()
                && (self.relayed.contains(&(address, Some(port))) || self.relayed.contains(&(address, None)))
    }

    /// Whether the resolver of an environment's VPC answers there.
    fn is_resolver(environment: &Environment, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address == RESOLVER || environment.attachment.resolver == Some(address),
            IpAddr::V6(address) => address == RESOLVER6,
        }
    }

    /// Counts a new flow of an environment against its guard, if there is one.
    fn guard(&mut self, id: EnvironmentId) -> Result<(), Refusal> {
        let (Some(max), now) = (self.settings.new_flows_max, self.now) else { return Ok(()) };
        let Some(bucket) = &mut self.environments[id.slot as usize].new_flows else { return Ok(()) };
        let passes = bucket.take(now, 1);
        self.fast.reach((max - bucket.available(now)).into());
        if passes {
            return Ok(());
        }
        self.fast.refuse(now);
        let max = max.into();
        let resource = "environment".into();
        Err(Refusal {
            limit: LimitId::HostNewFlows,
            resource,
            destination: None,
            used: max,
            max,
            retry_at: None,
        })
    }

    /// Counts a refusal of the table itself.
    fn refuse_full(&mut self, used: u64, max: u64) -> Refusal {
        self.full.refuse(self.now);
        let resource = "flow table".into();
        Refusal { limit: LimitId::HostFlows, resource, destination: None, used, max, retry_at: None }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        } else {
            self.events_lost += 1;
        }
    }
}

/// The largest packets that each side takes, in bytes with the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// The outside.
    pub world: u16,
    /// What is attached.
    pub relay: u16,
    /// Devices of environments.
    pub environments: u16,
}

impl Default for Mtu {
    fn default() -> Self {
        Self { world: u16::MAX, relay: u16::MAX, environments: u16::MAX }
    }
}

/// Silence that the parts of a way bear.
#[derive(Clone, Copy, Debug)]
struct Idle {
    interface: Duration,
    gateway: Duration,
}

/// When a flow ends, unless a packet of it passes before.
fn deadline(flow: &Flow, idle: Idle, settings: &PacketSettings) -> Instant {
    let own = match (flow.protocol, flow.state) {
        (_, State::Lingering) => return flow.last + settings.linger,
        (_, State::Forgotten) => Duration::MAX,
        (TCP, _) => Duration::MAX,
        (UDP, _) if flow.has(marks::STREAM) => settings.udp_stream_timeout,
        (UDP, _) => settings.udp_timeout,
        _ => settings.icmp_timeout,
    };
    let gateway = if flow.has(marks::GATEWAY) { idle.gateway } else { Duration::MAX };
    let interface = if flow.has(marks::INTERFACE) { idle.interface } else { Duration::MAX };
    let way = gateway.min(interface);
    let way = if way == Duration::MAX { settings.tcp_idle_timeout } else { way };
    flow.last + own.min(way)
}
