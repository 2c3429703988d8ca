//! Connections: joins the shared interfaces, the NAT gateways and what stands in the way, for each SYN.
//!
//! This stands beside the [`Dispatcher`](crate::Dispatcher) rather than within it, and is asked in the same way. The
//! two have nothing in common but the clock: the dispatcher decides once for each invocation and thinks in
//! environments, this decides for each SYN and thinks in packets' ways. A live driver that moves packets has a SYN in its
//! hand and no invocation, under another owner than whoever invokes; with one engine for both, each would wait for the
//! other's lock. What joins them (which environment holds which connection) is the driver's, which knows when a process
//! ends.
//!
//! A refusal of the network is not told to the client: its SYN is dropped without a word, and [`connect`](crate::connect)
//! says how it fares. Only a full database answers; a proxy takes every client, and lets its transactions wait for
//! connections of its pool ([`db_pool`](crate::db_pool)). Names are resolved beside the interface, so DNS takes no connection here and works while connects hang
//! (S0: queries were answered on Lambda's side of the interface).

mod taken;

pub use taken::Taken;

use crate::db_connections::{DatabaseId, Databases};
use crate::db_pool::{Borrow, ClientId, LoginId, PoolCounts, PoolEffect, PoolSettings, PoolTotals, Pools};
use crate::eni::{InterfaceId, Interfaces};
use crate::eni_room::{InterfaceRoom, SubnetId};
use crate::leases::LeaseId;
use crate::nat::{Destination, GatewayId, NatGateways, PoolId, Towards};
use crate::settings::NetworkSettings;
use crate::tally::Tally;
use crate::traffic::{Traffic, Transfer};
use model::{Instant, LimitId, LimitRow, Refusal};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The way of a SYN, found once for a function's subnet and a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Past every limit of the network: functions without a VPC.
    Free(End),
    /// Through a shared interface to something in the VPC, or to an endpoint of the VPC.
    Interface(InterfaceId, End),
    /// Through a shared interface and a NAT gateway's ports.
    Nat(InterfaceId, PoolId, End),
    /// Nowhere: dropped without a word.
    Barred(BarId),
}

/// What stands at the end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Something that takes every connection.
    Open,
    /// A database, which may refuse.
    Database(DatabaseId),
    /// A database proxy.
    Proxy(LoginId),
}

/// What stands in a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BarId(u32);

/// An open connection: 28 bytes. Who holds it gives it back with `close`; when that is forgotten, silence ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    interface: Option<LeaseId>,
    /// Of a NAT gateway.
    port: Option<LeaseId>,
    end: Ended,
}

/// What a connection takes at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Open,
    Database(LeaseId),
    /// Of a proxy.
    Client(ClientId),
}

impl Connection {
    /// One that takes nothing of anybody.
    const FREE: Self = Self { interface: None, port: None, end: Ended::Open };

    /// The client of a proxy that it is, if it is one.
    pub const fn client(&self) -> Option<ClientId> {
        match self.end {
            Ended::Client(client) => Some(client),
            Ended::Open | Ended::Database(_) => None,
        }
    }
}

/// Everything that a connection meets on its way.
#[derive(Clone, Debug)]
pub struct Connections {
    /// The shared interfaces.
    interfaces: Interfaces,
    /// The NAT gateways.
    gateways: NatGateways,
    databases: Databases,
    pools: Pools,
    bars: Vec<Bar>,
    traffic: Traffic,
    settings: NetworkSettings,
}

#[derive(Clone, Debug)]
struct Bar {
    limit: LimitId,
    resource: Arc<str>,
    destination: Arc<str>,
    tally: Tally,
}

impl Connections {
    /// A network without anything in it.
    pub fn new(settings: NetworkSettings) -> Self {
        Self {
            interfaces: Interfaces::new(settings.interface),
            gateways: NatGateways::new(settings.nat),
            databases: Databases::new(settings.interface.idle_timeout),
            pools: Pools::default(),
            bars: Vec::new(),
            traffic: Traffic::new(settings.traffic.clone()),
            settings,
        }
    }

    /// Adds the shared interface of a subnet and a set of security groups.
    pub fn add_interface(&mut self, name: Arc<str>) -> InterfaceId {
        self.traffic.add_interface(Arc::clone(&name));
        self.interfaces.add(name)
    }

    /// The same with shared interfaces only as far as there is room.
    pub fn within(self, room: InterfaceRoom) -> Self {
        Self { interfaces: self.interfaces.within(room), ..self }
    }

    /// A deployment makes a shared interface in `subnet`: see [`Interfaces::create`].
    pub fn create_interface(
        &mut self,
        now: Instant,
        name: Arc<str>,
        subnet: SubnetId,
        takes: Duration,
    ) -> (InterfaceId, Option<Refusal>) {
        self.traffic.add_interface(Arc::clone(&name));
        self.interfaces.create(now, name, subnet, takes)
    }

    /// Where interfaces need room.
    pub const fn room_mut(&mut self) -> &mut InterfaceRoom {
        self.interfaces.room_mut()
    }

    /// Adds a NAT gateway with so many addresses.
    pub fn add_gateway(&mut self, name: Arc<str>, addresses: u16) -> GatewayId {
        self.traffic.add_gateway(Arc::clone(&name));
        self.gateways.add(name, addresses)
    }

    /// A gateway has other addresses: see [`NatGateways::set`].
    pub fn set_gateway(&mut self, gateway: GatewayId, slots: u16, withdrawn: &BTreeSet<u16>, gone: bool) {
        self.gateways.set(gateway, slots, withdrawn, gone);
    }

    /// Whether a gateway is of a template, or still has connections.
    pub fn is_shown(&self, gateway: GatewayId) -> bool {
        self.gateways.is_shown(gateway)
    }

    /// Whether a shared interface is still wanted: see [`Interfaces::keep`]. Where environments have their own, nothing
    /// changes.
    pub fn keep_interface(
        &mut self,
        now: Instant,
        id: InterfaceId,
        subnet: SubnetId,
        wanted: bool,
    ) -> Option<Refusal> {
        self.interfaces.keep(now, id, subnet, wanted)
    }

    /// An environment is behind a shared interface from now on: see [`Interfaces::enter`].
    pub fn enter_interface(&mut self, id: InterfaceId) {
        self.interfaces.enter(id);
    }

    /// It is gone: see [`Interfaces::exit`].
    pub fn exit_interface(&mut self, id: InterfaceId) {
        self.interfaces.exit(id);
    }

    /// Whether somebody is behind a shared interface: see [`Interfaces::is_in_use`].
    pub fn is_interface_in_use(&self, id: InterfaceId) -> bool {
        self.interfaces.is_in_use(id)
    }

    /// A database has room for another number of connections, unless the settings have a figure for all of them.
    pub fn set_database(&mut self, id: DatabaseId, connections: u32, source: Arc<str>) {
        if self.settings.database.is_none() {
            self.databases.set(id, connections, source);
        }
    }

    /// Adds a database with so many connections, unless the settings have a figure for all of them.
    pub fn add_database(&mut self, name: Arc<str>, connections: u32, source: Arc<str>) -> DatabaseId {
        match self.settings.database {
            Some(given) => self.databases.add(name, given, "given with --limit".into()),
            None => self.databases.add(name, connections, source),
        }
    }

    /// Adds a proxy with its pool of connections to a database, and the one login that all its clients have.
    pub fn add_proxy(&mut self, name: Arc<str>, database: DatabaseId, settings: PoolSettings) -> LoginId {
        let pool = self.pools.add(name, database, settings);
        self.pools.add_login(pool)
    }

    /// Whether the client is told of a refusal by this limit, rather than left without an answer.
    pub const fn is_told(limit: LimitId) -> bool {
        matches!(limit, LimitId::DbMaxConnections)
    }

    /// The way through an interface and a gateway to a destination, where something of the template may stand. O(log
    /// destinations).
    pub fn through(
        &mut self,
        interface: InterfaceId,
        gateway: GatewayId,
        destination: Destination,
        end: End,
    ) -> Way {
        Way::Nat(interface, self.gateways.pool(gateway, destination), end)
    }

    /// One SYN to a destination that a stranger chose: as [`Self::open`] by [`Self::through`], but the destination is
    /// forgotten some time after its last connection. O(log destinations).
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_through(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        gateway: GatewayId,
        destination: Destination,
    ) -> Result<Connection, Refusal> {
        self.interfaces.check(now, interface)?;
        let port = self.gateways.open_to(now, gateway, destination)?;
        let interface = self.interfaces.open(now, interface)?;
        Ok(Connection { interface: Some(interface), port: Some(port), end: Ended::Open })
    }

    /// A way that leads nowhere. O(bars); the same one for the same reason.
    pub fn barred(&mut self, limit: LimitId, resource: &str, destination: &str) -> Way {
        let same =
            |bar: &Bar| bar.limit == limit && &*bar.resource == resource && &*bar.destination == destination;
        let index = self.bars.iter().position(same).unwrap_or_else(|| {
            let tally = Tally::default();
            self.bars.push(Bar { limit, resource: resource.into(), destination: destination.into(), tally });
            self.bars.len() - 1
        });
        Way::Barred(BarId(u32::try_from(index).expect("fewer bars than 2^32")))
    }

    /// One SYN: opens a connection, or drops it.
    ///
    /// The interface is asked first, as the packet meets it first; what a gateway drops leaves nothing on the interface
    /// (AWS does not say; assumed).
    ///
    /// # Errors
    /// The refusal names the limit, its resource and the figures.
    #[inline]
    pub fn open(&mut self, now: Instant, way: Way) -> Result<Connection, Refusal> {
        match way {
            Way::Free(end) => Ok(Connection { end: self.reach(now, end)?, ..Connection::FREE }),
            Way::Interface(interface, End::Open) => {
                Ok(Connection { interface: Some(self.interfaces.open(now, interface)?), ..Connection::FREE })
            }
            Way::Interface(interface, end) => {
                self.interfaces.check(now, interface)?;
                let end = self.reach(now, end)?;
                Ok(Connection { interface: Some(self.interfaces.open(now, interface)?), port: None, end })
            }
            Way::Nat(interface, pool, end) => {
                self.interfaces.check(now, interface)?;
                let port = self.gateways.open(now, pool)?;
                let end = self.reach(now, end).inspect_err(|_| {
                    self.gateways.close(now, port);
                })?;
                let interface = self.interfaces.open(now, interface)?;
                Ok(Connection { interface: Some(interface), port: Some(port), end })
            }
            Way::Barred(bar) => {
                let bar = &mut self.bars[bar.0 as usize];
                bar.tally.refuse(now);
                Err(Refusal {
                    limit: bar.limit,
                    resource: Arc::clone(&bar.resource),
                    destination: Some(Arc::clone(&bar.destination)),
                    used: 0,
                    max: 0,
                    retry_at: None,
                })
            }
        }
    }

    /// The end of a way is asked, after everything before it.
    fn reach(&mut self, now: Instant, end: End) -> Result<Ended, Refusal> {
        Ok(match end {
            End::Open => Ended::Open,
            End::Database(database) => Ended::Database(self.databases.open(now, database)?),
            End::Proxy(login) => Ended::Client(self.pools.connect(now, login, &mut self.databases)),
        })
    }

    /// An environment moves so many bytes that way.
    pub fn transfer(&mut self, now: Instant, way: Way, bytes: u64) -> Transfer {
        let (interface, gateway) = match way {
            Way::Free(_) | Way::Barred(_) => (None, None),
            Way::Nat(interface, pool, _) => (Some(interface), Some(self.gateways.gateway_of(pool).index())),
            Way::Interface(interface, _) => (Some(interface), None),
        };
        self.traffic.transfer(now, interface.map(InterfaceId::index), gateway, bytes)
    }

    /// Links and the resolver.
    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Links and the resolver, to use.
    pub const fn traffic_mut(&mut self) -> &mut Traffic {
        &mut self.traffic
    }

    /// Every NAT gateway with the bytes that went through it.
    pub fn gateway_bytes(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.gateways.connections().zip(self.traffic.gateway_bytes()).map(|((name, _), bytes)| (name, bytes))
    }

    /// A packet of the connection passes. `false`: somebody on the way has forgotten it, the client gets a reset, and the
    /// connection is closed.
    #[inline]
    pub fn touch(&mut self, now: Instant, connection: Connection) -> bool {
        let interface = connection.interface.is_none_or(|lease| self.interfaces.touch(now, lease));
        let port = connection.port.is_none_or(|lease| self.gateways.touch(now, lease));
        let end = match connection.end {
            Ended::Open => true,
            Ended::Database(lease) => self.databases.touch(now, lease),
            Ended::Client(client) => self.pools.is_connected(now, client, &mut self.databases),
        };
        if interface && port && end {
            return true;
        }
        self.close(now, connection);
        false
    }

    /// The connection is closed. Closing it again, or one that was forgotten, changes nothing.
    #[inline]
    pub fn close(&mut self, now: Instant, connection: Connection) {
        if let Some(lease) = connection.interface {
            self.interfaces.close(now, lease);
        }
        if let Some(lease) = connection.port {
            self.gateways.close(now, lease);
        }
        match connection.end {
            Ended::Open => {}
            Ended::Database(lease) => {
                self.databases.close(now, lease);
            }
            Ended::Client(client) => {
                self.pools.disconnect(now, client, &mut self.databases);
            }
        }
    }

    /// A client of a proxy begins a transaction, or a statement of its own.
    #[inline]
    pub fn borrow(&mut self, now: Instant, client: ClientId) -> Borrow {
        self.pools.borrow(now, client, &mut self.databases)
    }

    /// A client waits no longer for a server connection, and stays connected.
    pub fn leave_pool(&mut self, now: Instant, client: ClientId) {
        self.pools.leave(now, client, &mut self.databases);
    }

    /// A client keeps the server connection that it has borrowed until it disconnects.
    pub fn pin(&mut self, now: Instant, client: ClientId) {
        self.pools.pin(now, client, &mut self.databases);
    }

    /// A client's transaction has ended.
    #[inline]
    pub fn give_back(&mut self, now: Instant, client: ClientId) {
        self.pools.give_back(now, client, &mut self.databases);
    }

    /// The next thing that came of what the pools did: ask after each call that takes a time.
    #[inline]
    pub fn take_pool_effect(&mut self) -> Option<PoolEffect> {
        self.pools.take_effect()
    }

    /// When somebody who waits for a connection of a pool hears of it, at the latest.
    #[inline]
    pub fn next_pool_answer(&self) -> Option<Instant> {
        self.pools.next_answer()
    }

    /// Every proxy's pool: its name, what it has now, and what it has done.
    pub fn pools(&self) -> impl Iterator<Item = (&Arc<str>, PoolCounts, PoolTotals)> {
        let both = self.pools.counts().zip(self.pools.totals());
        both.map(|((name, counts), (_, totals))| (name, counts, totals))
    }

    /// When `advance` has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.interfaces.next_deadline(),
            self.gateways.next_deadline(),
            self.databases.next_deadline(),
            self.pools.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Forgets what was silent for too long, and adds interfaces that are due. O(1) where nothing is due.
    #[inline]
    pub fn advance(&mut self, now: Instant) {
        self.interfaces.advance(now);
        self.gateways.advance(now);
        self.databases.advance(now);
        self.pools.advance(now, &mut self.databases);
    }

    /// How many shared interfaces there are; `None` without any, or where they belong to environments.
    pub fn interfaces(&self) -> Option<u64> {
        let shared = self.settings.environment_interfaces.is_none();
        Some(self.interfaces.count()).filter(|count| *count > 0 && shared)
    }

    /// Every shared interface that is wanted or in use, with its connections now.
    pub fn shared(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.interfaces.in_use()
    }

    /// Every interface, gateway and database with its connections now.
    pub fn counts(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let interfaces = self.interfaces.ids();
        let interfaces = interfaces.map(|id| (self.interfaces.name(id), u64::from(self.interfaces.used(id))));
        let ends = self.gateways.connections().chain(self.databases.connections());
        interfaces.chain(ends.map(|(name, count)| (name, u64::from(count))))
    }

    /// The destinations of a gateway with the most connections, at most so many. O(destinations).
    pub fn busiest(&self, gateway: GatewayId, most: usize) -> Vec<Towards> {
        self.gateways.busiest(gateway, most)
    }

    /// The account's figures.
    pub fn settings(&self) -> &NetworkSettings {
        &self.settings
    }

    /// The board's rows: interfaces, gateways, databases, pools, then what bars a way.
    pub fn board(&self) -> Vec<LimitRow> {
        let sources = &self.settings.sources;
        let mut rows = self.interfaces.rows(&sources.interface);
        // Where the era has no bound, there is no limit to show.
        rows.retain(|row| row.max < u64::from(u32::MAX));
        rows.extend(self.interfaces.room_rows().into_iter().filter(|row| row.used > 0 || row.refused > 0));
        rows.extend(self.gateways.rows(&sources.nat));
        rows.extend(self.databases.rows());
        rows.extend(self.pools.rows());
        let bars = self.bars.iter().map(|bar| {
            let resource = format!("{} to {}", bar.resource, bar.destination).into();
            bar.tally.row(bar.limit, &resource, 0, 0, &sources.template)
        });
        rows.extend(bars);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Protocol;
    use model::{Era, Overrides};
    use std::time::Duration;

    fn network(overrides: &[&str], subnets: usize, addresses: u16) -> (Connections, Vec<Way>) {
        let mut given = Overrides::default();
        overrides.iter().for_each(|text| given.read(text).unwrap());
        let era = Era::named("today").unwrap();
        let mut all = Connections::new(NetworkSettings::from_era(&era, "us-east-1", &given).unwrap());
        let gateway = all.add_gateway("nat-a".into(), addresses);
        let to = Destination { address: [203, 0, 113, 1].into(), port: 443, protocol: Protocol::Tcp };
        let ways = (0..subnets).map(|index| {
            let interface = all.add_interface(format!("eni-{index}").into());
            all.through(interface, gateway, to, End::Open)
        });
        let ways = ways.collect();
        (all, ways)
    }

    fn flood(all: &mut Connections, ways: &[Way], wanted: usize) -> usize {
        (0..wanted).filter(|index| all.open(Instant::START, ways[index % ways.len()]).is_ok()).count()
    }

    #[test]
    fn the_narrower_of_interfaces_and_ports_decides() {
        // S0-15 in three steps, S0-10, S0-11: (subnets, addresses, wanted) -> opened.
        for (subnets, addresses, wanted, opened) in [
            (1, 1, 70_000, 55_000),
            (1, 2, 70_000, 65_000),
            (2, 3, 140_000, 130_000),
            (8, 8, 500_000, 440_000),
            (4, 8, 500_000, 260_000),
        ] {
            let (mut all, ways) = network(&[], subnets, addresses);
            assert_eq!(flood(&mut all, &ways, wanted), opened, "{subnets} subnets, {addresses} addresses");
        }
    }

    #[test]
    fn what_the_gateway_drops_leaves_nothing_on_the_interface() {
        let (mut all, ways) = network(&["nat.ports=5"], 1, 1);
        assert_eq!(flood(&mut all, &ways, 9), 5);
        assert_eq!(all.counts().map(|(_, count)| count).collect::<Vec<_>>(), [5, 5]);
        let rows = all.board();
        assert_eq!(rows.iter().map(|row| row.refused).collect::<Vec<_>>(), [0, 4]);
        assert_eq!(rows.iter().map(|row| row.peak).collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn endpoints_pass_the_gateway_and_functions_without_a_vpc_pass_everything() {
        let (mut all, ways) = network(&["nat.ports=5", "eni.connections=8"], 1, 1);
        flood(&mut all, &ways, 9);
        let Way::Nat(interface, ..) = ways[0] else { unreachable!("through a gateway") };
        assert_eq!(
            flood(&mut all, &[Way::Interface(interface, End::Open)], 9),
            3,
            "it still uses the interface"
        );
        assert_eq!(flood(&mut all, &[Way::Free(End::Open)], 9), 9);
    }

    #[test]
    fn a_way_that_leads_nowhere_drops_and_says_why() {
        let (mut all, _) = network(&[], 1, 1);
        let way = all.barred(LimitId::NoRoute, "SubnetA", "cache:443");
        assert_eq!(way, all.barred(LimitId::NoRoute, "SubnetA", "cache:443"));
        let refusal = all.open(Instant::from_secs(2), way).unwrap_err();
        assert_eq!(refusal.to_string(), "route.none of SubnetA to cache:443");
        let row = all.board().pop().unwrap();
        assert_eq!((row.refused, row.first_refused_at), (1, Some(Instant::from_secs(2))));
    }

    #[test]
    fn a_full_database_takes_nothing_of_the_interface() {
        let (mut all, ways) = network(&[], 1, 1);
        let Way::Nat(interface, ..) = ways[0] else { unreachable!("through a gateway") };
        let way =
            Way::Interface(interface, End::Database(all.add_database("Orders".into(), 3, "test".into())));
        assert_eq!(flood(&mut all, &[way], 5), 3);
        assert_eq!(all.counts().map(|(_, count)| count).collect::<Vec<_>>(), [3, 0, 3]);
        let refusal = all.open(Instant::START, way).unwrap_err();
        assert!(Connections::is_told(refusal.limit) && !Connections::is_told(LimitId::NatPorts));
        let (mut all, ways) = network(&["db.max-connections=2"], 1, 1);
        let Way::Nat(interface, ..) = ways[0] else { unreachable!("through a gateway") };
        let way =
            Way::Interface(interface, End::Database(all.add_database("Orders".into(), 3, "test".into())));
        assert_eq!(flood(&mut all, &[way], 5), 2);
    }

    #[test]
    fn a_full_database_behind_a_gateway_gives_its_port_back() {
        let (mut all, ways) = network(&["nat.ports=4"], 1, 1);
        let Way::Nat(interface, pool, _) = ways[0] else { unreachable!("through a gateway") };
        let database = all.add_database("Orders".into(), 3, "test".into());
        let way = Way::Nat(interface, pool, End::Database(database));
        let first = all.open(Instant::START, way).unwrap();
        assert_eq!(flood(&mut all, &[way], 5), 2);
        assert_eq!(all.open(Instant::START, way).unwrap_err().limit, LimitId::DbMaxConnections);
        assert_eq!(all.counts().map(|(_, count)| count).collect::<Vec<_>>(), [3, 3, 3]);
        assert!(all.touch(Instant::from_secs(9), first));
        all.close(Instant::from_secs(9), first);
        assert_eq!(all.counts().map(|(_, count)| count).collect::<Vec<_>>(), [2, 2, 2]);
        let others = all.open(Instant::from_secs(9), ways[0]).is_ok()
            && all.open(Instant::from_secs(9), ways[0]).is_ok();
        assert!(others, "what is not for the database shares its ports");
        assert_eq!(all.open(Instant::from_secs(9), way).unwrap_err().limit, LimitId::NatPorts);
        let free = Way::Free(End::Database(database));
        assert_eq!(flood(&mut all, &[free], 5), 1, "over the internet, too");
    }

    #[test]
    fn a_proxy_takes_every_client_and_shares_the_database_with_others() {
        let (mut all, ways) = network(&["eni.connections=9"], 1, 1);
        let Way::Nat(interface, ..) = ways[0] else { unreachable!("through a gateway") };
        let database = all.add_database("Orders".into(), 3, "test".into());
        let settings = PoolSettings {
            connections: 2,
            idle_connections: 1,
            borrow_timeout: Duration::from_secs(120),
            idle_client_timeout: Duration::from_secs(60),
            source: "test".into(),
            borrow_source: "test".into(),
        };
        let proxy = all.add_proxy("OrdersProxy".into(), database, settings);
        let proxy = Way::Interface(interface, End::Proxy(proxy));
        let open: Vec<Connection> = (0..9).map(|_| all.open(Instant::START, proxy).unwrap()).collect();
        assert!(all.open(Instant::START, proxy).is_err(), "clients use the interface");
        let client = |index: usize| open[index].client().unwrap();
        assert!((0..2).all(|index| matches!(all.borrow(Instant::START, client(index)), Borrow::Lent { .. })));
        assert!(matches!(all.borrow(Instant::START, client(2)), Borrow::Waits(_)));
        let direct = Way::Interface(interface, End::Database(database));
        all.close(Instant::START, open[8]);
        assert!(all.open(Instant::START, direct).is_ok(), "one is left beside the pool");
        all.close(Instant::START, open[7]);
        assert_eq!(all.open(Instant::START, direct).unwrap_err().limit, LimitId::DbMaxConnections);
        all.close(Instant::from_secs(1), open[0]);
        assert!(
            matches!(all.take_pool_effect(), Some(PoolEffect::Lent { client: lent, .. }) if lent == client(2))
        );
        all.give_back(Instant::from_secs(1), client(1));
        assert_eq!(all.next_deadline(), Some(Instant::from_secs(60)));
        assert!(!all.touch(Instant::from_secs(61), open[1]), "the proxy closed it");
        assert!(all.touch(Instant::from_secs(61), open[2]), "it is in a transaction");
        let (name, counts, totals) = all.pools().next().unwrap();
        assert_eq!((&**name, counts.clients, counts.borrowed, totals.clients_peak), ("OrdersProxy", 1, 1, 9));
    }

    #[test]
    fn a_connection_that_was_silent_is_reset_everywhere() {
        let (mut all, ways) = network(&["nat.idle-timeout=100"], 1, 1);
        let connection = all.open(Instant::START, ways[0]).unwrap();
        assert_eq!(all.next_deadline(), Some(Instant::from_secs(100)));
        assert!(all.touch(Instant::from_secs(99), connection));
        assert!(!all.touch(Instant::from_secs(199), connection), "the gateway has forgotten it");
        assert!(all.counts().all(|(_, count)| count == 0), "so the client closes it");
        all.close(Instant::from_secs(200), connection);
        assert_eq!(all.next_deadline(), None);
        assert_eq!(size_of::<Connection>(), 28);
    }
}
