//! Who holds which connection: joins the environments of the dispatcher with the connections engine.

use super::{HELD_MAX, PACKETS_MAX};
use crate::input::PlanInput;
use crate::load::{ConnectStep, Hold, Load};
use crate::report::PoolRow;
use crate::samples::Samples;
use limits::connect::Patience;
use limits::db_pool::{ClientId, PoolCounts};
use limits::network::{Target, Wired};
use limits::traffic::Transfer;
use limits::{Connection, Connections, EnvironmentId, Network, NetworkSettings, Way};
use model::{Instant, LimitRow, Refusal};
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

const NONE: u32 = u32::MAX;
/// Names without addresses get one each from here on, in a range that nobody has (RFC 1112, class E), so that none falls
/// together with an address that a load gives.
const NAMES_FROM: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);

/// Connections of a plan in its course.
#[derive(Debug)]
pub struct NetworkRun {
    network: Network,
    wired: Wired,
    pub hosts: Vec<HostRun>,
    pub connects: Vec<ConnectRun>,
    environments: Vec<Place>,
    /// Which of its subnets each function's next environment is in.
    turns: Vec<u16>,
    held: Vec<Held>,
    free: u32,
    /// SYNs, and reuses of connections.
    packets: u64,
}

/// A host name.
#[derive(Debug)]
pub struct HostRun {
    pub name: String,
    addresses: Vec<Ipv4Addr>,
    /// The address whose turn is next.
    turn: u32,
    /// The load gives no address.
    pub made_up: bool,
}

/// One `connect` of a function.
#[derive(Debug)]
pub struct ConnectRun {
    pub function: usize,
    /// `cache.example.com:443`.
    pub destination: Arc<str>,
    pub count: u32,
    /// Bytes that go through each connection whenever it is used.
    pub bytes: Option<u64>,
    /// Whether each new connection looks a name up at the VPC's resolver.
    pub looks_up: bool,
    pub patience: Patience,
    pub hold: Hold,
    host: u32,
    /// By the function's subnet, then by the host's address.
    ways: Vec<Vec<Way>>,
    /// What closes by time, in that order.
    closing: VecDeque<Connection>,
    /// How long invocations waited until their connections were open.
    pub waits: Samples,
    pub opened: u64,
    pub reused: u64,
    /// SYNs that nobody answered, or that a full database refused.
    pub dropped: u64,
    /// Connects that failed for good.
    pub failed: u64,
    /// Connections that were forgotten on the way and opened anew.
    pub resets: u64,
}

/// Where an environment is, and the first of the connections it holds.
#[derive(Clone, Copy, Debug)]
struct Place {
    generation: u32,
    subnet: u16,
    known: bool,
    first: u32,
}

/// A connection that an environment holds: 36 bytes.
#[derive(Clone, Copy, Debug)]
struct Held {
    connection: Connection,
    connect: u32,
    next: u32,
}

impl NetworkRun {
    pub fn new(input: &PlanInput, settings: NetworkSettings, load: &Load) -> Self {
        let wired = input.network.wire(settings);
        let hosts = load.hosts.iter().map(|host| HostRun {
            name: host.name.clone(),
            addresses: host.addresses.clone(),
            turn: 0,
            made_up: false,
        });
        Self {
            network: input.network.clone(),
            wired,
            hosts: hosts.collect(),
            connects: Vec::new(),
            environments: Vec::new(),
            turns: vec![0; input.functions.len()],
            held: Vec::new(),
            free: NONE,
            packets: 0,
        }
    }

    /// Whether a bound of the planner is reached.
    pub fn is_too_much(&self) -> bool {
        self.packets >= PACKETS_MAX || self.held.len() >= HELD_MAX
    }

    /// What the function's deployment found no room for an interface in, if so.
    pub fn undeployed(&self, function: usize) -> Option<Refusal> {
        self.wired.undeployed.get(function)?.clone()
    }

    /// The engine.
    pub fn engine(&mut self) -> &mut Connections {
        &mut self.wired.connections
    }

    /// The engine, to look at.
    pub fn connections(&self) -> &Connections {
        &self.wired.connections
    }

    /// Adds a function's connect and finds its ways.
    pub fn add(&mut self, function: usize, step: &ConnectStep) -> u32 {
        let in_turn = self.network.in_turn(function, &step.host);
        let host = self.host(&step.host, &in_turn);
        let addresses = self.hosts[host].addresses.clone();
        let choices = self.wired.interfaces.get(function).map_or(0, Vec::len).max(1);
        let ways = (0..choices).map(|choice| {
            let way = |address: &Ipv4Addr| {
                // A name stands for the nearest of what has it; here each has its turn.
                let literal = in_turn.contains(address).then(|| address.to_string());
                let host = literal.as_deref().unwrap_or(&step.host);
                let to = Target { host, address: *address, port: step.port };
                self.network.way(&mut self.wired, function, choice, &to)
            };
            addresses.iter().map(way).collect()
        });
        let ways = ways.collect();
        self.connects.push(ConnectRun {
            function,
            destination: step.destination().into(),
            count: step.count,
            bytes: step.bytes,
            looks_up: self.wired.interfaces.get(function).is_some_and(|ids| !ids.is_empty())
                && step.host.parse::<Ipv4Addr>().is_err(),
            patience: step.patience,
            hold: step.hold,
            host: host as u32,
            ways,
            closing: VecDeque::new(),
            waits: Samples::default(),
            opened: 0,
            reused: 0,
            dropped: 0,
            failed: 0,
            resets: 0,
        });
        (self.connects.len() - 1) as u32
    }

    /// The connect by which environments of the function keep a connection to there: one that its behaviour has, else a
    /// new one.
    pub fn connect_of_environment(&mut self, function: usize, host: &str, port: u16) -> u32 {
        let step = ConnectStep::for_queries(host, port);
        let destination = step.destination();
        let found = self.connects.iter().position(|connect| {
            connect.function == function
                && connect.hold == Hold::Environment
                && *connect.destination == *destination
        });
        found.map_or_else(|| self.add(function, &step), |index| index as u32)
    }

    /// The client of a proxy that the environment is by a connection of this connect.
    pub fn client(&self, environment: EnvironmentId, connect: u32) -> Option<ClientId> {
        let mut at = self.environments[self.known(environment)?].first;
        while let Some(entry) = self.held.get(at as usize) {
            if entry.connect == connect {
                return entry.connection.client();
            }
            at = entry.next;
        }
        None
    }

    /// The host of that name, of which answers have these addresses `in_turn`, if they have.
    fn host(&mut self, name: &str, in_turn: &[Ipv4Addr]) -> usize {
        let is_it = |host: &HostRun| host.name == name && (in_turn.is_empty() || host.addresses == in_turn);
        if let Some(index) = self.hosts.iter().position(is_it) {
            return index;
        }
        let literal: Option<Ipv4Addr> = name.parse().ok();
        let made_up = self.hosts.len() as u32;
        let address = literal.unwrap_or_else(|| Ipv4Addr::from(u32::from(NAMES_FROM).wrapping_add(made_up)));
        self.hosts.push(HostRun {
            name: name.to_owned(),
            addresses: if in_turn.is_empty() { vec![address] } else { in_turn.to_vec() },
            turn: 0,
            made_up: literal.is_none() && !self.network.is_inside(name),
        });
        self.hosts.len() - 1
    }

    /// How many connections of this connect the environment holds. Those that were forgotten on the way are reset, and
    /// it no longer holds them; the others have just been used.
    pub fn hold(&mut self, now: Instant, environment: EnvironmentId, connect: u32) -> u32 {
        if self.connects[connect as usize].hold != Hold::Environment {
            return 0;
        }
        let slot = environment.slot() as usize;
        let (mut count, mut resets) = (0, 0);
        let Self { wired, environments, held, free, .. } = self;
        retain(held, free, &mut environments[slot].first, |entry| {
            if entry.connect != connect {
                return true;
            }
            let alive = wired.connections.touch(now, entry.connection);
            if alive {
                count += 1;
            } else {
                resets += 1;
            }
            alive
        });
        let run = &mut self.connects[connect as usize];
        run.resets += resets;
        self.packets += u64::from(count);
        run.reused += u64::from(count);
        count
    }

    /// Sends `wanted` SYNs and keeps what they open. How many opened, and whether what opened closes by time.
    pub fn syn(
        &mut self,
        now: Instant,
        environment: EnvironmentId,
        connect: u32,
        wanted: u32,
        mut refused: impl FnMut(Refusal),
    ) -> u32 {
        let slot = environment.slot() as usize;
        let run = &mut self.connects[connect as usize];
        let host = &mut self.hosts[run.host as usize];
        let place = &mut self.environments[slot];
        let ways = &run.ways[usize::from(place.subnet)];
        let mut opened = 0;
        for _ in 0..wanted {
            let way = ways[host.turn as usize];
            host.turn = if host.turn as usize + 1 == host.addresses.len() { 0 } else { host.turn + 1 };
            match self.wired.connections.open(now, way) {
                Ok(connection) => {
                    opened += 1;
                    if let Hold::For(_) = run.hold {
                        run.closing.push_back(connection);
                    } else {
                        let entry = Held { connection, connect, next: place.first };
                        place.first = put(&mut self.held, &mut self.free, entry);
                    }
                }
                Err(refusal) => {
                    run.dropped += 1;
                    refused(refusal);
                }
            }
        }
        run.opened += u64::from(opened);
        self.packets += u64::from(wanted);
        opened
    }

    /// The environment looks up so many names. How many are answered, and why not the others.
    pub fn look_up(
        &mut self,
        now: Instant,
        environment: EnvironmentId,
        wanted: u32,
    ) -> (u32, Option<Refusal>) {
        self.wired.connections.traffic_mut().lookup(now, environment.slot(), wanted)
    }

    /// The environment moves the bytes of a connect, all by the way of its first address; `None` if it has none to move.
    pub fn transfer(&mut self, now: Instant, environment: EnvironmentId, connect: u32) -> Option<Transfer> {
        let run = &self.connects[connect as usize];
        let bytes = run.bytes.filter(|bytes| *bytes > 0)?.saturating_mul(u64::from(run.count));
        let subnet = self.environments[environment.slot() as usize].subnet;
        let way = *run.ways[usize::from(subnet)].first()?;
        Some(self.wired.connections.transfer(now, way, bytes))
    }

    /// After which time the connections of this connect close by themselves.
    pub fn closes_after(&self, connect: u32) -> Option<std::time::Duration> {
        match self.connects[connect as usize].hold {
            Hold::For(time) => Some(time),
            Hold::Invocation | Hold::Environment => None,
        }
    }

    /// The oldest connection of this connect closes.
    pub fn close_oldest(&mut self, now: Instant, connect: u32) {
        if let Some(connection) = self.connects[connect as usize].closing.pop_front() {
            self.wired.connections.close(now, connection);
        }
    }

    /// The environment's invocation has ended.
    pub fn end_invocation(&mut self, now: Instant, environment: EnvironmentId) {
        let Some(slot) = self.known(environment) else { return };
        let Self { wired, environments, connects, held, free, .. } = self;
        retain(held, free, &mut environments[slot].first, |entry| {
            let stays = connects[entry.connect as usize].hold == Hold::Environment;
            if !stays {
                wired.connections.close(now, entry.connection);
            }
            stays
        });
    }

    /// The environment's process has ended. Its connections are closed, or left to be forgotten.
    pub fn end_process(&mut self, now: Instant, environment: EnvironmentId, closes: bool) {
        let Some(slot) = self.known(environment) else { return };
        let Self { wired, environments, held, free, .. } = self;
        retain(held, free, &mut environments[slot].first, |entry| {
            if closes {
                wired.connections.close(now, entry.connection);
            }
            false
        });
    }

    /// The function of an environment that holds connections.
    pub fn function_of(&self, environment: EnvironmentId) -> Option<usize> {
        let first = self.environments[self.known(environment)?].first;
        self.held.get(first as usize).map(|entry| self.connects[entry.connect as usize].function)
    }

    fn known(&self, environment: EnvironmentId) -> Option<usize> {
        let slot = environment.slot() as usize;
        let place = self.environments.get(slot)?;
        (place.known && place.generation == environment.generation()).then_some(slot)
    }

    /// A new environment of the function takes its place, in the next of the function's subnets.
    pub fn begin(&mut self, function: usize, environment: EnvironmentId) {
        let slot = environment.slot() as usize;
        if slot >= self.environments.len() {
            let nowhere = Place { generation: 0, subnet: 0, known: false, first: NONE };
            self.environments.resize(slot + 1, nowhere);
        }
        let turn = &mut self.turns[function];
        let subnets = self.wired.interfaces.get(function).map_or(1, |ids| ids.len().max(1));
        let subnet = *turn;
        *turn = if usize::from(subnet) + 1 >= subnets { 0 } else { subnet + 1 };
        self.wired.connections.traffic_mut().reset(environment.slot());
        self.environments[slot] =
            Place { generation: environment.generation(), subnet, known: true, first: NONE };
    }

    /// The new environment is in that one of its function's subnets instead.
    pub fn put_in(&mut self, environment: EnvironmentId, choice: u16) {
        if let Some(slot) = self.known(environment) {
            self.environments[slot].subnet = choice;
        }
    }

    /// How many shared interfaces there are; `None` where no function is in a VPC.
    pub fn interfaces(&self) -> Option<u64> {
        self.connections().interfaces()
    }

    /// Every proxy's pool; none where nobody connects.
    pub fn pools(&self) -> BTreeMap<Arc<str>, PoolRow> {
        if self.connects.is_empty() {
            return BTreeMap::new();
        }
        let row = |counts: PoolCounts| PoolRow {
            clients: counts.clients,
            in_use: counts.borrowed,
            waiting: counts.waiting,
        };
        self.connections().pools().map(|(name, counts, _)| (Arc::clone(name), row(counts))).collect()
    }

    /// The board's rows of links and of the resolver, as far as they were used.
    pub fn traffic_rows(&self, now: Instant) -> impl Iterator<Item = LimitRow> {
        self.connections().traffic().rows(now).into_iter().filter(|row| row.peak > 0)
    }

    /// Whether anybody moves bytes.
    pub fn moves_bytes(&self) -> bool {
        self.connects.iter().any(|connect| connect.bytes.is_some_and(|bytes| bytes > 0))
    }

    /// Connections by resource; empty where nobody connects.
    pub fn counts(&self) -> BTreeMap<Arc<str>, u64> {
        if self.connects.is_empty() {
            return BTreeMap::new();
        }
        self.connections().counts().map(|(name, count)| (Arc::clone(name), count)).collect()
    }
}

/// Puts an entry into the slab. Its index.
fn put(held: &mut Vec<Held>, free: &mut u32, entry: Held) -> u32 {
    match held.get_mut(*free as usize) {
        Some(slot) => {
            let index = *free;
            *free = slot.next;
            *slot = entry;
            index
        }
        None => {
            held.push(entry);
            (held.len() - 1) as u32
        }
    }
}

/// Takes the entries out of a list that are not kept.
fn retain(held: &mut [Held], free: &mut u32, first: &mut u32, mut keep: impl FnMut(&Held) -> bool) {
    let (mut at, mut before) = (*first, NONE);
    while at != NONE {
        let entry = held[at as usize];
        if keep(&entry) {
            before = at;
        } else {
            match before {
                NONE => *first = entry.next,
                before => held[before as usize].next = entry.next,
            }
            held[at as usize].next = *free;
            *free = at;
        }
        at = entry.next;
    }
}
