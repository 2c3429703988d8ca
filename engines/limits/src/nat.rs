//! `nat.ports`: connections to one destination through a NAT gateway.
//!
//! Source: VPC User Guide, "NAT gateway basics": each address carries 55,000 simultaneous connections to each unique
//! destination, which is an address, a port and a protocol; up to eight addresses (32 in a zone of a regional gateway);
//! source ports 1024 to 65535. "Troubleshoot NAT gateways": what is silent for 350 s is forgotten, and answered with RST
//! when it speaks again; without a free port the SYN is dropped and `ErrorPortAllocation` counts it. All published. Not
//! published: which address takes a connection (here each in turn that has room), which port (here one that was never
//! used, then the one that is free for longest), and how long a port rests after its connection (here a setting).
//!
//! A connection is O(addresses) to open, of which there are few, and O(1) for everything else.

use crate::leases::{LeaseId, Leases};
use crate::quiet::Quiet;
use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The lowest source port.
pub const PORT_MIN: u16 = 1024;
/// The most ports that one address can have.
pub const PORTS_MAX: u32 = u16::MAX as u32 - PORT_MIN as u32 + 1;

/// Destinations without a connection that are remembered for [`NatGateways::open_to`], so that one that is used again
/// soon costs nothing. Others are forgotten, the longest idle first, once their ports have rested.
pub const IDLE_DESTINATIONS_MAX: usize = 4096;

/// What holds for every gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatFigures {
    /// Ports of one address towards one destination, at most [`PORTS_MAX`].
    pub ports: u32,
    /// Silence after which a connection is forgotten.
    pub idle_timeout: Duration,
    /// How long a port rests after its connection ended.
    pub port_cooldown: Duration,
    /// How far above [`PORT_MIN`] the first port lies that an address gives out; from the highest it goes on at the lowest.
    /// A driver draws it, so that peers that remember connections of its last run are not met under their ports.
    pub first_port: u16,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo requests, whose identifiers are translated like ports; the destination's port is 0.
    Icmp,
}

/// What counts as one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Destination {
    /// The one before all others.
    const FIRST: Self =
        Self { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), port: 0, protocol: Protocol::Tcp };
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = std::net::SocketAddr::new(self.address, self.port);
        match self.protocol {
            Protocol::Tcp => write!(formatter, "{address}"),
            Protocol::Udp => write!(formatter, "{address}/udp"),
            Protocol::Icmp => write!(formatter, "{}/icmp", self.address),
        }
    }
}

/// One NAT gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(u32);

impl GatewayId {
    /// Its place in the order in which they were added.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The one with that place.
    pub const fn of(index: u32) -> Self {
        Self(index)
    }
}

/// A gateway's ports towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(u32);

impl PoolId {
    /// Its number, for holders that keep it apart.
    pub const fn index(self) -> u32 {
        self.0
    }

    /// The one with that number.
    pub const fn of(index: u32) -> Self {
        Self(index)
    }
}

/// Where a connection leaves a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Translation {
    pool: u32,
    /// Index of the gateway's address.
    pub address: u16,
    /// The source port.
    pub port: u16,
}

impl Translation {
    /// The ports it is of.
    pub const fn pool(&self) -> PoolId {
        PoolId(self.pool)
    }

    /// The one of that port; for holders that keep its parts apart.
    pub const fn of(pool: PoolId, address: u16, port: u16) -> Self {
        Self { pool: pool.0, address, port }
    }
}

/// What a gateway has towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Towards {
    /// The destination.
    pub destination: Destination,
    /// Connections now.
    pub used: u32,
    /// Connections that there can be.
    pub max: u64,
    /// The most that there were at once, while it was remembered.
    pub peak: u64,
    /// How many were refused meanwhile.
    pub refused: u64,
}

/// All NAT gateways.
#[derive(Clone, Debug)]
pub struct NatGateways {
    figures: NatFigures,
    now: Instant,
    gateways: Vec<Gateway>,
    pools: Vec<Pool>,
    by_destination: BTreeMap<(GatewayId, Destination), PoolId>,
    /// Pools that were forgotten.
    free: Vec<PoolId>,
    /// Pools that may be forgotten, about in the order in which they became idle; each at most once.
    idle: VecDeque<PoolId>,
    idle_max: usize,
    leases: Leases<Translation>,
    quiet: Quiet,
}

#[derive(Clone, Debug)]
struct Gateway {
    name: Arc<str>,
    /// Places of addresses, those of withdrawn ones among them.
    slots: u16,
    /// Addresses that are given up: what has a port of theirs keeps it.
    withdrawn: BTreeSet<u16>,
    /// Of no template any more: it has a row only while it has connections.
    gone: bool,
    /// Connections to all destinations.
    connections: u32,
    tally: Tally,
    idle_timeouts: u64,
}

impl Gateway {
    /// Addresses that take connections.
    fn addresses(&self) -> u64 {
        u64::from(self.slots).saturating_sub(self.withdrawn.len() as u64)
    }
}

#[derive(Clone, Debug)]
struct Pool {
    gateway: u32,
    destination: Arc<str>,
    used: u32,
    peak: u32,
    refused: u32,
    /// The address whose turn is next.
    turn: u16,
    addresses: Box<[Ports]>,
    towards: Destination,
    /// Somebody keeps its id.
    kept: bool,
    /// It stands among the idle ones, whether it still is or not.
    listed: bool,
    idle_since: Instant,
}

/// One address's ports towards one destination.
#[derive(Clone, Debug, Default)]
struct Ports {
    /// How many were ever used: these are the first.
    touched: u32,
    /// Those that were given back, with the moment from which each may be used again; in that order.
    returned: VecDeque<(Instant, u16)>,
}

impl Ports {
    fn take(&mut self, now: Instant, figures: &NatFigures) -> Option<u16> {
        if self.touched < figures.ports.min(PORTS_MAX) {
            // PORTS_MAX keeps the sum within 16 bits.
            let port = u32::from(PORT_MIN) + (u32::from(figures.first_port) + self.touched) % PORTS_MAX;
            self.touched += 1;
            return u16::try_from(port).ok();
        }
        let (ready, _) = self.returned.front()?;
        if *ready > now { None } else { self.returned.pop_front().map(|(_, port)| port) }
    }
}

impl NatGateways {
    /// No gateway yet.
    pub fn new(figures: NatFigures) -> Self {
        Self {
            figures,
            now: Instant::START,
            gateways: Vec::new(),
            pools: Vec::new(),
            by_destination: BTreeMap::new(),
            free: Vec::new(),
            idle: VecDeque::new(),
            idle_max: IDLE_DESTINATIONS_MAX,
            leases: Leases::default(),
            quiet: Quiet::default(),
        }
    }

    /// Adds a gateway with so many addresses.
    pub fn add(&mut self, name: Arc<str>, addresses: u16) -> GatewayId {
        let id = u32::try_from(self.gateways.len()).expect("fewer gateways than 2^32");
        let tally = Tally::default();
        self.gateways.push(Gateway {
            name,
            slots: addresses,
            withdrawn: BTreeSet::new(),
            gone: false,
            connections: 0,
            tally,
            idle_timeouts: 0,
        });
        GatewayId(id)
    }

    /// A gateway has `slots` places of addresses from now on, never fewer than before; those of withdrawn ones take no
    /// new connections (VPC User Guide, "Edit your NAT gateway's secondary IP address associations": what is there drains).
    /// `gone`: it is of no template any more. O(destinations).
    pub fn set(&mut self, gateway: GatewayId, slots: u16, withdrawn: &BTreeSet<u16>, gone: bool) {
        let found = &mut self.gateways[gateway.0 as usize];
        found.slots = found.slots.max(slots);
        (found.withdrawn, found.gone) = (withdrawn.clone(), gone);
        let slots = usize::from(found.slots);
        let here = self
            .by_destination
            .range((gateway, Destination::FIRST)..)
            .map_while(|((of, _), id)| (*of == gateway).then_some(id));
        for id in here {
            let pool = &mut self.pools[id.0 as usize];
            if pool.addresses.len() < slots {
                let mut addresses = std::mem::take(&mut pool.addresses).into_vec();
                addresses.resize_with(slots, Ports::default);
                pool.addresses = addresses.into();
            }
        }
    }

    /// Whether a gateway is of a template, or still has connections.
    pub fn is_shown(&self, gateway: GatewayId) -> bool {
        self.gateways.get(gateway.index()).is_none_or(|gateway| !gateway.gone || gateway.connections > 0)
    }

    /// The gateway's ports towards a destination. O(log destinations); ask once for many connections: the id is good for
    /// ever, so for destinations that strangers choose use [`Self::open_to`].
    pub fn pool(&mut self, gateway: GatewayId, destination: Destination) -> PoolId {
        let id = self.find(gateway, destination);
        self.pools[id.0 as usize].kept = true;
        id
    }

    /// Opens a connection to a destination that is forgotten some time after its last connection. O(log destinations).
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_to(
        &mut self,
        now: Instant,
        gateway: GatewayId,
        destination: Destination,
    ) -> Result<LeaseId, Refusal> {
        self.clock(now);
        let id = self.find(gateway, destination);
        let opened = self.open(now, id);
        self.list(id);
        opened
    }

    /// As [`Self::open_to`], but without a lease: who took the port keeps its time, and gives it back with
    /// [`Self::return_port`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn take_port(
        &mut self,
        now: Instant,
        gateway: GatewayId,
        destination: Destination,
    ) -> Result<Translation, Refusal> {
        let now = self.clock(now);
        let id = self.find(gateway, destination);
        let taken = self.take(now, id);
        self.list(id);
        taken
    }

    /// Ends what [`Self::take_port`] began; `silent`: because nothing was heard of it for the idle time-out.
    pub fn return_port(&mut self, now: Instant, translation: Translation, silent: bool) {
        let now = self.clock(now);
        let gateway = self.pools[translation.pool as usize].gateway;
        self.gateways[gateway as usize].idle_timeouts += u64::from(silent);
        self.give_back(now, translation);
    }

    /// The gateway of those ports.
    pub fn gateway_of(&self, id: PoolId) -> GatewayId {
        GatewayId(self.pools[id.0 as usize].gateway)
    }

    /// How many destinations are remembered, those that are kept among them.
    pub fn destinations(&self) -> usize {
        self.by_destination.len()
    }

    fn find(&mut self, gateway: GatewayId, destination: Destination) -> PoolId {
        let (pools, free) = (&mut self.pools, &mut self.free);
        let addresses = self.gateways[gateway.0 as usize].slots;
        let idle_since = self.now;
        *self.by_destination.entry((gateway, destination)).or_insert_with(|| {
            let pool = Pool {
                gateway: gateway.0,
                destination: destination.to_string().into(),
                used: 0,
                peak: 0,
                refused: 0,
                turn: 0,
                addresses: vec![Ports::default(); usize::from(addresses)].into(),
                towards: destination,
                kept: false,
                listed: false,
                idle_since,
            };
            if let Some(id) = free.pop() {
                pools[id.0 as usize] = pool;
                return id;
            }
            pools.push(pool);
            PoolId(u32::try_from(pools.len() - 1).expect("fewer destinations than 2^32"))
        })
    }

    /// Puts a pool that may be forgotten among the idle ones, and forgets what is too much there.
    fn list(&mut self, id: PoolId) {
        let pool = &mut self.pools[id.0 as usize];
        if pool.kept || pool.listed || pool.used > 0 {
            return;
        }
        pool.listed = true;
        self.idle.push_back(id);
        // Two for each one that comes, so that the list shrinks and no call is long.
        for _ in 0..2 {
            if self.idle.len() > self.idle_max {
                self.forget_oldest();
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some(id) = self.idle.pop_front() else { return };
        let pool = &mut self.pools[id.0 as usize];
        pool.listed = false;
        if pool.kept || pool.used > 0 {
            return;
        }
        if pool.idle_since + self.figures.port_cooldown > self.now {
            // Its ports still rest, and whoever comes again must find them resting.
            pool.listed = true;
            return self.idle.push_back(id);
        }
        pool.addresses = Box::default();
        self.by_destination.remove(&(GatewayId(pool.gateway), pool.towards));
        self.free.push(id);
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// The refusal names the gateway, the destination and the ports in use towards it. It counts as one
    /// `ErrorPortAllocation`.
    #[inline]
    pub fn open(&mut self, now: Instant, id: PoolId) -> Result<LeaseId, Refusal> {
        let now = self.clock(now);
        let translation = self.take(now, id)?;
        Ok(self.leases.open(now, translation))
    }

    #[inline]
    fn take(&mut self, now: Instant, id: PoolId) -> Result<Translation, Refusal> {
        let pool = &mut self.pools[id.0 as usize];
        let gateway = &mut self.gateways[pool.gateway as usize];
        for _ in 0..pool.addresses.len() {
            let address = pool.turn;
            pool.turn = if usize::from(address) + 1 == pool.addresses.len() { 0 } else { address + 1 };
            if gateway.withdrawn.contains(&address) {
                continue;
            }
            if let Some(port) = pool.addresses[usize::from(address)].take(now, &self.figures) {
                pool.used += 1;
                pool.peak = pool.peak.max(pool.used);
                gateway.connections += 1;
                gateway.tally.reach(u64::from(pool.used));
                return Ok(Translation { pool: id.0, address, port });
            }
        }
        gateway.tally.refuse(now);
        pool.refused = pool.refused.saturating_add(1);
        let max = u64::from(self.figures.ports) * gateway.addresses();
        let returned = pool.addresses.iter().filter_map(|ports| ports.returned.front());
        Err(Refusal {
            limit: LimitId::NatPorts,
            resource: Arc::clone(&gateway.name),
            destination: Some(Arc::clone(&pool.destination)),
            // Ports that rest are not to be had either.
            used: max,
            max,
            retry_at: returned.map(|(ready, _)| *ready).min(),
        })
    }

    /// Where a connection leaves its gateway, while the gateway knows it.
    pub fn translation(&self, lease: LeaseId) -> Option<Translation> {
        self.leases.get(lease)
    }

    /// A packet of the connection passes. `false`: it was silent for too long, and the gateway answers with RST.
    #[inline]
    pub fn touch(&mut self, now: Instant, lease: LeaseId) -> bool {
        let now = self.clock(now);
        self.leases.touch(now, lease)
    }

    /// The connection is closed. Whether the gateway still knew it.
    #[inline]
    pub fn close(&mut self, now: Instant, lease: LeaseId) -> bool {
        let now = self.clock(now);
        let Some(translation) = self.leases.close(lease) else { return false };
        self.give_back(now, translation);
        true
    }

    fn give_back(&mut self, now: Instant, translation: Translation) {
        let pool = &mut self.pools[translation.pool as usize];
        pool.used -= 1;
        self.gateways[pool.gateway as usize].connections -= 1;
        let ready = now + self.figures.port_cooldown;
        pool.addresses[usize::from(translation.address)].returned.push_back((ready, translation.port));
        if pool.used == 0 {
            pool.idle_since = now;
            self.list(PoolId(translation.pool));
        }
    }

    /// When `advance` has something to do next.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        Some(self.leases.oldest_since()? + self.figures.idle_timeout)
    }

    /// Forgets connections that were silent for too long.
    #[inline]
    pub fn advance(&mut self, now: Instant) {
        self.clock(now);
    }

    /// Every gateway: its name and its connections (`ActiveConnectionCount`).
    pub fn connections(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.gateways.iter().map(|gateway| (&gateway.name, gateway.connections))
    }

    /// Connections of a gateway that ended in silence (`IdleTimeoutCount`).
    pub fn idle_timeouts(&self, gateway: GatewayId) -> u64 {
        self.gateways[gateway.0 as usize].idle_timeouts
    }

    /// The board's rows, one for each gateway: used and peak are those of its busiest destination. O(destinations).
    pub fn rows(&self, source: &Arc<str>) -> Vec<LimitRow> {
        let mut used = vec![0; self.gateways.len()];
        for pool in &self.pools {
            let most: &mut u32 = &mut used[pool.gateway as usize];
            *most = pool.used.max(*most);
        }
        let shown =
            self.gateways.iter().zip(used).filter(|(gateway, _)| !gateway.gone || gateway.connections > 0);
        let rows = shown.map(|(gateway, used)| {
            let max = u64::from(self.figures.ports) * gateway.addresses();
            gateway.tally.row(LimitId::NatPorts, &gateway.name, u64::from(used), max, source)
        });
        rows.collect()
    }

    /// The destinations of a gateway that have, or had, the most connections: at most so many, the busiest first.
    /// O(destinations).
    pub fn busiest(&self, gateway: GatewayId, most: usize) -> Vec<Towards> {
        let of =
            |pool: &&Pool| pool.gateway == gateway.0 && (pool.used > 0 || pool.peak > 0 || pool.refused > 0);
        let addresses = self.gateways.get(gateway.index()).map_or(0, Gateway::addresses);
        let max = u64::from(self.figures.ports) * addresses;
        let mut found: Vec<Towards> = self
            .by_destination
            .values()
            .map(|id| &self.pools[id.0 as usize])
            .filter(of)
            .map(|pool| {
                let (peak, refused) = (u64::from(pool.peak), u64::from(pool.refused));
                Towards { destination: pool.towards, used: pool.used, max, peak, refused }
            })
            .collect();
        let order = |it: &Towards| (std::cmp::Reverse((it.used, it.refused, it.peak)), it.destination);
        if found.len() > most {
            found.select_nth_unstable_by_key(most, order);
            found.truncate(most);
        }
        found.sort_unstable_by_key(order);
        found
    }

    /// What is due by `now` happens first, so that a late driver decides as a punctual one.
    #[inline]
    fn clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        if !self.quiet.holds(self.now) {
            self.settle();
            self.quiet.renew(self.now, self.next_deadline(), self.figures.idle_timeout);
        }
        self.now
    }

    fn settle(&mut self) {
        while self.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            let due = self.next_deadline().unwrap_or(self.now);
            let Some(translation) = self.leases.expire(self.now) else { break };
            let gateway = self.pools[translation.pool as usize].gateway;
            self.gateways[gateway as usize].idle_timeouts += 1;
            self.give_back(due, translation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIGURES: NatFigures = NatFigures {
        ports: 55_000,
        idle_timeout: Duration::from_secs(350),
        port_cooldown: Duration::ZERO,
        first_port: 0,
    };

    fn destination(last: u8) -> Destination {
        Destination { address: [203, 0, 113, last].into(), port: 443, protocol: Protocol::Tcp }
    }

    fn open(gateways: &mut NatGateways, pool: PoolId, wanted: u32) -> usize {
        (0..wanted).filter(|_| gateways.open(Instant::START, pool).is_ok()).count()
    }

    #[test]
    fn each_address_carries_fifty_five_thousand_to_one_destination() {
        for (addresses, wanted, opened) in
            [(1, 60_000, 55_000), (2, 60_000, 60_000), (8, 500_000, 440_000), (0, 5, 0)]
        {
            let mut gateways = NatGateways::new(FIGURES);
            let gateway = gateways.add("nat-a".into(), addresses);
            let pool = gateways.pool(gateway, destination(1));
            assert_eq!(open(&mut gateways, pool, wanted), opened);
            let row = &gateways.rows(&"test".into())[0];
            assert_eq!(row.max, 55_000 * u64::from(addresses));
            assert_eq!((row.peak, row.refused), (opened as u64, u64::from(wanted) - opened as u64));
        }
    }

    #[test]
    fn an_address_that_is_withdrawn_drains_and_one_that_comes_is_there_at_once() {
        let mut gateways = NatGateways::new(NatFigures { ports: 2, ..FIGURES });
        let (gateway, now) = (gateways.add("nat-a".into(), 1), Instant::START);
        let towards = |gateways: &mut NatGateways| gateways.take_port(now, gateway, destination(1));
        let first: Vec<Translation> = (0..2).map(|_| towards(&mut gateways).unwrap()).collect();
        assert!(towards(&mut gateways).is_err());
        gateways.set(gateway, 2, &BTreeSet::new(), false);
        let second = towards(&mut gateways).unwrap();
        assert_eq!((second.address, gateways.rows(&"test".into())[0].max), (1, 4));
        // The first one goes: its connections keep their ports, which nobody else gets when they are given back.
        gateways.set(gateway, 2, &[0].into(), false);
        gateways.return_port(now, first[0], false);
        assert_eq!(towards(&mut gateways).unwrap().address, 1);
        assert_eq!(towards(&mut gateways).unwrap_err().max, 2);
        gateways.set(gateway, 2, &BTreeSet::new(), false);
        assert_eq!(towards(&mut gateways).unwrap(), first[0], "and back again");
        // The gateway itself goes, and is shown as long as somebody is behind it.
        gateways.set(gateway, 2, &BTreeSet::new(), true);
        let all = [first[0], first[1], second, Translation { port: second.port + 1, ..second }];
        for (number, translation) in all.into_iter().enumerate() {
            assert_eq!(gateways.rows(&"test".into()).len(), 1, "{number}");
            gateways.return_port(now, translation, false);
        }
        assert!(gateways.rows(&"test".into()).is_empty() && !gateways.is_shown(gateway));
    }

    #[test]
    fn the_busiest_destinations_are_told_with_what_they_were_refused() {
        let mut gateways = NatGateways::new(NatFigures { ports: 3, ..FIGURES });
        let (other, gateway) = (gateways.add("other".into(), 1), gateways.add("nat-a".into(), 2));
        for (last, wanted) in [(1, 2), (2, 9), (3, 4), (4, 6)] {
            let pool = gateways.pool(gateway, destination(last));
            open(&mut gateways, pool, wanted);
        }
        gateways.pool(gateway, destination(9));
        let told = |found: Vec<Towards>| {
            found
                .iter()
                .map(|it| (it.destination.address, it.used, it.peak, it.refused, it.max))
                .collect::<Vec<_>>()
        };
        let at = |last| destination(last).address;
        let all = [(at(2), 6, 6, 3, 6), (at(4), 6, 6, 0, 6), (at(3), 4, 4, 0, 6), (at(1), 2, 2, 0, 6)];
        assert_eq!(told(gateways.busiest(gateway, 64)), all);
        assert_eq!(told(gateways.busiest(gateway, 2)), all[..2]);
        assert!(gateways.busiest(other, 64).is_empty());
    }

    #[test]
    fn ports_begin_anywhere_and_go_on_at_the_lowest() {
        for (first_port, first, last) in
            [(0, 1_024, 56_023), (60_000, 61_024, 51_511), (u16::MAX, 2_047, 57_046)]
        {
            let mut gateways = NatGateways::new(NatFigures { first_port, ..FIGURES });
            let gateway = gateways.add("nat-a".into(), 1);
            let pool = gateways.pool(gateway, destination(1));
            let mut ports = Vec::new();
            while let Ok(lease) = gateways.open(Instant::START, pool) {
                ports.push(gateways.translation(lease).unwrap().port);
            }
            assert_eq!((ports[0], ports[54_999]), (first, last));
            ports.sort_unstable();
            ports.dedup();
            assert!(ports.len() == 55_000 && ports[0] >= PORT_MIN);
        }
    }

    #[test]
    fn destinations_do_not_share_ports() {
        // 110,000 connects split over two destinations, one address: all fit.
        let mut gateways = NatGateways::new(FIGURES);
        let gateway = gateways.add("nat-a".into(), 1);
        let mut udp = destination(1);
        udp.protocol = Protocol::Udp;
        for towards in [destination(1), destination(2), udp] {
            let pool = gateways.pool(gateway, towards);
            assert_eq!(gateways.pool(gateway, towards), pool);
            assert_eq!(open(&mut gateways, pool, 55_001), 55_000);
        }
        assert_eq!(gateways.connections().next(), Some((&"nat-a".into(), 165_000)));
        let pool = gateways.pool(gateway, destination(1));
        assert_eq!(
            gateways.open(Instant::START, pool).unwrap_err().to_string(),
            "nat.ports of nat-a to 203.0.113.1:443: 55000 of 55000 connections"
        );
    }

    #[test]
    fn silence_of_350_s_is_answered_with_a_reset() {
        let mut gateways = NatGateways::new(FIGURES);
        let gateway = gateways.add("nat-a".into(), 1);
        let pool = gateways.pool(gateway, destination(1));
        let [first, second] = [(); 2].map(|()| gateways.open(Instant::START, pool).unwrap());
        assert!(gateways.touch(Instant::from_secs(349), first));
        assert!(!gateways.touch(Instant::from_secs(351), second));
        assert!(gateways.touch(Instant::from_secs(351), first));
        assert_eq!((gateways.idle_timeouts(gateway), gateways.translation(second)), (1, None));
    }

    #[test]
    fn a_port_rests_for_the_cool_down() {
        let mut gateways =
            NatGateways::new(NatFigures { ports: 1, port_cooldown: Duration::from_secs(60), ..FIGURES });
        let gateway = gateways.add("nat-a".into(), 1);
        let pool = gateways.pool(gateway, destination(1));
        let lease = gateways.open(Instant::START, pool).unwrap();
        assert_eq!(gateways.open(Instant::START, pool).unwrap_err().retry_at, None);
        assert!(gateways.close(Instant::from_secs(1), lease));
        let refusal = gateways.open(Instant::from_secs(60), pool).unwrap_err();
        assert_eq!(refusal.retry_at, Some(Instant::from_secs(61)));
        assert!(gateways.open(Instant::from_secs(61), pool).is_ok());
    }

    #[test]
    fn idle_destinations_are_forgotten_and_busy_or_resting_ones_are_not() {
        let mut gateways = NatGateways::new(NatFigures { port_cooldown: Duration::from_secs(5), ..FIGURES });
        gateways.idle_max = 2;
        let gateway = gateways.add("nat-a".into(), 1);
        let kept = gateways.pool(gateway, destination(0));
        let busy = gateways.open_to(Instant::START, gateway, destination(1)).unwrap();
        for last in 2..100 {
            let lease = gateways.open_to(Instant::from_secs(1), gateway, destination(last)).unwrap();
            assert!(gateways.close(Instant::from_secs(1), lease));
        }
        assert_eq!(gateways.destinations(), 100, "their ports rest");
        for last in 100..200 {
            let lease = gateways.open_to(Instant::from_secs(6), gateway, destination(last)).unwrap();
            assert!(gateways.close(Instant::from_secs(6), lease));
        }
        assert_eq!(gateways.destinations(), 102, "the last hundred rest, one is busy, one is kept");
        assert!(gateways.touch(Instant::from_secs(6), busy));
        assert_eq!(gateways.pool(gateway, destination(0)), kept);
        for last in 100..200 {
            let lease = gateways.open_to(Instant::from_secs(20), gateway, destination(last)).unwrap();
            assert!(gateways.close(Instant::from_secs(20), lease));
        }
        assert!(gateways.destinations() < 110, "{}", gateways.destinations());
        assert_eq!(gateways.free.len() + gateways.destinations(), gateways.pools.len());
        assert!(gateways.pools.len() <= 203, "places are used again");
    }

    #[test]
    fn a_destination_that_never_had_a_port_is_forgotten_too() {
        let mut gateways = NatGateways::new(NatFigures { ports: 0, ..FIGURES });
        gateways.idle_max = 3;
        let gateway = gateways.add("nat-a".into(), 1);
        for port in 0..1000 {
            let towards = Destination { port, ..destination(1) };
            assert!(gateways.open_to(Instant::START, gateway, towards).is_err());
        }
        assert_eq!((gateways.destinations(), gateways.pools.len()), (3, 4));
    }

    proptest! {
        #[test]
        fn forgetting_destinations_changes_no_decision(
            ports in 0u32..3, cooldown in 0u64..50, idle_max in 0usize..4,
            steps in prop::collection::vec((0u8..3, 0u8..9, any::<usize>(), 0u64..60), 1..300),
        ) {
            let port_cooldown = Duration::from_secs(cooldown);
            let figures = NatFigures { ports, port_cooldown, ..FIGURES };
            let [mut forgets, mut remembers] = [(); 2].map(|()| NatGateways::new(figures));
            forgets.idle_max = idle_max;
            let gateway = [&mut forgets, &mut remembers].map(|all| all.add("nat-a".into(), 2))[0];
            let mut open: Vec<[LeaseId; 2]> = Vec::new();
            let mut now = 0;
            for (kind, last, index, wait) in steps {
                now += wait;
                let at = Instant::from_secs(now);
                if kind < 2 {
                    let pool = remembers.pool(gateway, destination(last));
                    match (forgets.open_to(at, gateway, destination(last)), remembers.open(at, pool)) {
                        (Ok(one), Ok(other)) => open.push([one, other]),
                        (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
                    }
                } else if !open.is_empty() {
                    let [one, other] = open.swap_remove(index % open.len());
                    prop_assert_eq!(forgets.close(at, one), remembers.close(at, other));
                }
                let busy = forgets.pools.iter().filter(|pool| pool.used > 0).count();
                let resting = forgets.pools.iter().filter(|pool| {
                    pool.used == 0 && pool.idle_since + port_cooldown > at && !pool.addresses.is_empty()
                });
                // What came idle while others rested in front of it waits for its turn.
                let bound = busy + resting.count() + idle_max;
                prop_assert!(cooldown > 0 || forgets.destinations() <= bound + 1);
                prop_assert!(forgets.pools.len() <= 9 && forgets.idle.len() <= 9);
                let used = |all: &NatGateways| all.rows(&"test".into())[0].used;
                prop_assert_eq!(used(&forgets), used(&remembers));
            }
        }

        #[test]
        fn ports_are_unique_per_destination_and_come_back_once(
            ports in 0u32..5, addresses in 0u16..3, cooldown in 0u64..100,
            steps in prop::collection::vec((0u8..4, any::<usize>(), 0u64..120), 1..200),
        ) {
            let port_cooldown = Duration::from_secs(cooldown);
            let mut gateways = NatGateways::new(NatFigures { ports, port_cooldown, ..FIGURES });
            let gateway = gateways.add("nat-a".into(), addresses);
            let pools = [1, 2].map(|last| gateways.pool(gateway, destination(last)));
            // The reference: last heard, lease, translation; and when each translation came back.
            let mut open: Vec<(u64, LeaseId, Translation)> = Vec::new();
            let mut returned: BTreeMap<Translation, u64> = BTreeMap::new();
            let mut now = 0;
            for (kind, index, wait) in steps {
                let at = Instant::from_secs(now);
                match kind {
                    0 | 1 => {
                        let pool = pools[index % 2];
                        let all = u32::from(addresses) * ports;
                        let busy = open.iter().filter(|(.., held)| held.pool == pool.0).count();
                        let resting = returned.iter().filter(|(held, came)| {
                            held.pool == pool.0 && *came + cooldown > now
                                && !open.iter().any(|(.., other)| other == *held)
                        });
                        let room = busy + resting.count() < all as usize;
                        match gateways.open(at, pool) {
                            Ok(lease) => {
                                prop_assert!(room);
                                let held = gateways.translation(lease).unwrap();
                                prop_assert!(open.iter().all(|(.., other)| *other != held), "unique");
                                prop_assert!(held.address < addresses && held.port >= PORT_MIN);
                                let came = returned.remove(&held);
                                prop_assert!(came.is_none_or(|came| came + cooldown <= now));
                                open.push((now, lease, held));
                            }
                            Err(_) => prop_assert!(!room),
                        }
                    }
                    2 if !open.is_empty() => {
                        let (_, lease, held) = open.remove(index % open.len());
                        prop_assert!(gateways.close(at, lease));
                        prop_assert!(!gateways.close(at, lease));
                        returned.insert(held, now);
                    }
                    3 if !open.is_empty() => {
                        let index = index % open.len();
                        prop_assert!(gateways.touch(at, open[index].1));
                        open[index].0 = now;
                    }
                    _ => {}
                }
                now += wait;
                gateways.advance(Instant::from_secs(now));
                for (heard, _, held) in open.iter().filter(|(heard, ..)| heard + 350 <= now) {
                    returned.insert(*held, heard + 350);
                }
                open.retain(|(heard, ..)| heard + 350 > now);
                prop_assert_eq!(gateways.connections().next().unwrap().1 as usize, open.len());
                let row = &gateways.rows(&"test".into())[0];
                prop_assert!(row.used <= row.peak && row.peak <= row.max);
            }
        }
    }
}
