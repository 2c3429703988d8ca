//! `db.pool-connections`, `db.borrow-timeout`: the pool of a database proxy, as RDS Proxy keeps it.
//!
//! Source: RDS User Guide, "Managing an RDS Proxy" (MaxConnectionsPercent, MaxIdleConnectionsPercent,
//! ConnectionBorrowTimeout, IdleClientTimeout; a connection counts as idle after 5 minutes and lives for 24 hours) and
//! "RDS Proxy concepts", multiplexing and pinning; published. Not published, and therefore assumed: shares are rounded
//! down, who waits is served in the order of coming, the connection that was returned last is lent first, and a database
//! that is full is asked again each second.
//!
//! ```text
//!   client:  connect --> idle --borrow--> [waits] --> has a server connection --give back--> idle
//!                          |                |               `--pin: keeps it until it disconnects
//!                          |                `-- borrow time-out: told so, idle again
//!                          `-- idle client time-out: closed by the proxy
//!   server connection:  opened for who borrows --> borrowed <--> idle --> closed
//! ```
//!
//! So clients are many and transactions few: only `connections` can be borrowed at once, whoever comes later waits. Server
//! connections count against the database's own `db.max-connections`, beside those of clients without a proxy. A client's
//! statement outside a transaction is a transaction of its own.
//!
//! Every call is O(1), or amortised over what expires, times the number of pools for deadlines.

mod pool;
mod slots;

use crate::db_connections::{DatabaseId, Databases};
use crate::quiet::Quiet;
use model::{Instant, LimitRow, Refusal};
use pool::{Client, ClientState, Pool, Server};
use slots::{NONE, Slots};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A server connection that was not borrowed for so long counts as idle.
pub const IDLE_AFTER: Duration = Duration::from_secs(300);
/// A server connection is not kept for longer, unless it is borrowed then.
pub const LIFE: Duration = Duration::from_secs(86_400);
/// A database that refused a server connection is asked again after this while somebody waits. AWS publishes no figure.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What holds for one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Server connections at once.
    pub connections: u32,
    /// Server connections that may stay open though they are idle.
    pub idle_connections: u32,
    /// How long a client waits for a server connection.
    pub borrow_timeout: Duration,
    /// How long a client may go without a request.
    pub idle_client_timeout: Duration,
    /// Where the number of connections comes from, for the limits board.
    pub source: Arc<str>,
    /// Where the borrow time-out comes from.
    pub borrow_source: Arc<str>,
}

impl PoolSettings {
    /// How soon after it came something is due at the earliest.
    fn soonest(&self) -> Duration {
        // Nobody waits where the borrow time-out is zero.
        let borrow = Some(self.borrow_timeout).filter(|timeout| !timeout.is_zero()).unwrap_or(ASK_AGAIN);
        borrow.min(self.idle_client_timeout).min(ASK_AGAIN).min(IDLE_AFTER).min(LIFE)
    }
}

/// So many percent of a database's connections, rounded down. Overflow: the product is below 2^64.
pub fn share(connections: u32, percent: u32) -> u32 {
    let share = u64::from(connections) * u64::from(percent) / 100;
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// One pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(u32);

/// What a client and its server connection have in common: a user and a database, and settings that the proxy tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginId(u32);

/// A client's connection to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    slot: u32,
    generation: NonZeroU32,
}

impl ClientId {
    /// Its place. Clients that are there at the same time have different ones, as small as possible.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// A proxy's connection to its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    slot: u32,
    generation: NonZeroU32,
}

impl ServerId {
    /// Its place. Server connections that are there at the same time have different ones, as small as possible.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// What becomes of a client's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Borrow {
    /// It runs on this server connection.
    Lent {
        /// The server connection.
        server: ServerId,
        /// It is to be opened first.
        fresh: bool,
    },
    /// It waits; an effect tells how that ends. This is what is full.
    Waits(Refusal),
    /// It may not wait (a borrow time-out of zero).
    Refused(Refusal),
    /// The proxy has closed the client's connection.
    Closed,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolEffect {
    /// A client that waited has this server connection now.
    Lent {
        /// The client.
        client: ClientId,
        /// The server connection.
        server: ServerId,
        /// It is to be opened first.
        fresh: bool,
    },
    /// A client has waited for too long: it is told so, and stays connected.
    TimedOut {
        /// The client.
        client: ClientId,
        /// Names `db.borrow-timeout`.
        refusal: Refusal,
        /// What was full.
        behind: Refusal,
    },
    /// The client went without a request for too long: its connection is to be closed. Its id is stale already.
    CloseClient(ClientId),
    /// This server connection is to be closed. Its id is stale already.
    CloseServer(ServerId),
}

/// How many of a pool's things there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Clients that are connected (CloudWatch: ClientConnections).
    pub clients: u32,
    /// Server connections (DatabaseConnections).
    pub open: u32,
    /// Of those, borrowed (DatabaseConnectionsCurrentlyBorrowed).
    pub borrowed: u32,
    /// Of those, by clients that keep theirs (DatabaseConnectionsCurrentlySessionPinned).
    pub pinned: u32,
    /// Clients that wait.
    pub waiting: u32,
}

/// What a pool has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolTotals {
    /// Clients that connected (ClientConnectionsReceived).
    pub connected: u64,
    /// The most clients at once.
    pub clients_peak: u32,
    /// The most clients that waited at once.
    pub waiting_peak: u32,
    /// Server connections that were opened (DatabaseConnectionRequests).
    pub opened: u64,
    /// Times that a server connection was lent, whether at once or after a wait.
    pub lent: u64,
    /// Clients that had to wait.
    pub waited: u64,
    /// Clients that the proxy closed as they were idle.
    pub idle_closed: u64,
    /// Clients that pinned their server connection.
    pub pinned: u64,
}

/// The pools of all proxies. The driver hands in the databases, whose connections it may use otherwise, too, and asks for
/// effects after each call.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    now: Instant,
    pools: Vec<Pool>,
    logins: Vec<pool::Login>,
    clients: Slots<Client>,
    servers: Slots<Server>,
    effects: VecDeque<PoolEffect>,
    quiet: Quiet,
}

impl Pools {
    /// Adds the pool of a proxy to a database.
    pub fn add(&mut self, name: Arc<str>, database: DatabaseId, settings: PoolSettings) -> PoolId {
        let id = u32::try_from(self.pools.len()).expect("fewer pools than 2^32");
        self.pools.push(Pool::new(name, database, settings));
        self.quiet.end();
        PoolId(id)
    }

    /// Adds a kind of clients, whose server connections they do not share with others.
    pub fn add_login(&mut self, pool: PoolId) -> LoginId {
        let id = u32::try_from(self.logins.len()).expect("fewer logins than 2^32");
        self.logins.push(pool::Login::new(pool.0));
        LoginId(id)
    }

    /// A client connects. That takes no server connection.
    pub fn connect(&mut self, now: Instant, login: LoginId, databases: &mut Databases) -> ClientId {
        let now = self.clock(now, databases);
        let slot = self.clients.add(Client::new(login.0, now));
        let pool = &mut self.pools[self.logins[login.0 as usize].pool as usize];
        pool.idle_clients.push(&mut self.clients, slot);
        pool.counts.clients += 1;
        pool.totals.connected += 1;
        pool.totals.clients_peak = pool.totals.clients_peak.max(pool.counts.clients);
        self.client_id(slot)
    }

    /// Whether the client is still connected.
    pub fn is_connected(&mut self, now: Instant, client: ClientId, databases: &mut Databases) -> bool {
        self.clock(now, databases);
        self.clients.holds(client.slot, client.generation)
    }

    /// The client begins a transaction, or a statement of its own.
    pub fn borrow(&mut self, now: Instant, client: ClientId, databases: &mut Databases) -> Borrow {
        let now = self.clock(now, databases);
        if !self.clients.holds(client.slot, client.generation) {
            return Borrow::Closed;
        }
        let Client { login, server, state, .. } = self.clients[client.slot];
        let index = self.logins[login as usize].pool;
        match state {
            ClientState::Waiting => return Borrow::Waits(self.pools[index as usize].what_is_full()),
            ClientState::Idle => {
                self.pools[index as usize].idle_clients.remove(&mut self.clients, client.slot);
            }
            ClientState::Busy => return Borrow::Lent { server: self.server_id(server), fresh: false },
        }
        self.clients[client.slot].state = ClientState::Busy;
        if server != NONE {
            self.pools[index as usize].totals.lent += 1;
            return Borrow::Lent { server: self.server_id(server), fresh: false };
        }
        if self.pools[index as usize].waiting.len() == 0
            && let Some((server, fresh)) = self.find_server(now, login, databases)
        {
            self.lend(client.slot, server);
            return Borrow::Lent { server: self.server_id(server), fresh };
        }
        let pool = &mut self.pools[index as usize];
        let full = pool.what_is_full();
        if pool.settings.borrow_timeout.is_zero() {
            pool.idle_clients.push(&mut self.clients, client.slot);
            self.clients[client.slot].rest(now);
            return Borrow::Refused(pool.timed_out(now));
        }
        let entry = &mut self.clients[client.slot];
        (entry.state, entry.since) = (ClientState::Waiting, now);
        // A database that refused long ago is to be asked again at once.
        self.quiet.end();
        pool.waiting.push(&mut self.clients, client.slot);
        pool.totals.waited += 1;
        pool.totals.waiting_peak = pool.totals.waiting_peak.max(pool.waiting.len());
        Borrow::Waits(full)
    }

    /// The client keeps the server connection that it has until it disconnects, as its session has a state of its own.
    /// Whether it has one.
    pub fn pin(&mut self, now: Instant, client: ClientId, databases: &mut Databases) -> bool {
        self.clock(now, databases);
        if !self.clients.holds(client.slot, client.generation) {
            return false;
        }
        let entry = &mut self.clients[client.slot];
        if entry.server == NONE {
            return false;
        }
        if !std::mem::replace(&mut entry.pinned, true) {
            let pool = &mut self.pools[self.logins[entry.login as usize].pool as usize];
            pool.counts.pinned += 1;
            pool.totals.pinned += 1;
        }
        true
    }

    /// The client's transaction has ended. Its server connection goes to whoever waits longest, unless it is pinned.
    pub fn give_back(&mut self, now: Instant, client: ClientId, databases: &mut Databases) {
        let now = self.clock(now, databases);
        if !self.clients.holds(client.slot, client.generation)
            || self.clients[client.slot].state != ClientState::Busy
        {
            return;
        }
        let Client { login, server, pinned, .. } = self.clients[client.slot];
        self.clients[client.slot].rest(now);
        let index = self.logins[login as usize].pool;
        self.pools[index as usize].idle_clients.push(&mut self.clients, client.slot);
        if !pinned && server != NONE {
            self.clients[client.slot].server = NONE;
            self.take_back(now, server, databases);
            self.serve(now, index, databases);
        }
    }

    /// The client waits no longer, and stays connected.
    pub fn leave(&mut self, now: Instant, client: ClientId, databases: &mut Databases) {
        let now = self.clock(now, databases);
        if !self.clients.holds(client.slot, client.generation)
            || self.clients[client.slot].state != ClientState::Waiting
        {
            return;
        }
        self.stop_waiting(now, client.slot);
        let entry = &mut self.clients[client.slot];
        entry.rest(now);
        let pool = &mut self.pools[self.logins[entry.login as usize].pool as usize];
        pool.idle_clients.push(&mut self.clients, client.slot);
    }

    /// The client disconnects. Its transaction is rolled back; a pinned server connection is closed. One that waited
    /// goes without. Whether it was connected.
    pub fn disconnect(&mut self, now: Instant, client: ClientId, databases: &mut Databases) -> bool {
        let now = self.clock(now, databases);
        let connected = self.clients.holds(client.slot, client.generation);
        if connected {
            self.end_client(now, client.slot, databases);
        }
        connected
    }

    /// A server connection could not be opened, or was ended by the database. The client that has it, if one does, has it
    /// no longer, is not in a transaction, and is to be told.
    pub fn lose(&mut self, now: Instant, server: ServerId, databases: &mut Databases) {
        let now = self.clock(now, databases);
        if !self.servers.holds(server.slot, server.generation) {
            return;
        }
        let Server { login, client, .. } = self.servers[server.slot];
        let index = self.logins[login as usize].pool;
        if client != NONE {
            let entry = &mut self.clients[client];
            let pool = &mut self.pools[index as usize];
            entry.server = NONE;
            pool.counts.pinned -= u32::from(std::mem::take(&mut entry.pinned));
            pool.counts.borrowed -= 1;
            if entry.state == ClientState::Busy {
                entry.rest(now);
                pool.idle_clients.push(&mut self.clients, client);
            }
        } else {
            self.unlink_idle(server.slot);
        }
        self.close_server(now, server.slot, databases, false);
        self.serve(now, index, databases);
    }

    /// The next thing that the driver has to do.
    pub fn take_effect(&mut self) -> Option<PoolEffect> {
        self.effects.pop_front()
    }

    /// When `advance` has something to do next. O(pools).
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.pools.iter().filter_map(|pool| pool.deadline(&self.clients, &self.servers));
        deadlines.map(|(at, _)| at).min()
    }

    /// When `advance` has an answer for somebody who waits, at the latest. A driver for which nothing else happens need not
    /// come back before. O(pools).
    pub fn next_answer(&self) -> Option<Instant> {
        let waited_for = self.pools.iter().filter(|pool| pool.waiting.len() > 0);
        waited_for.filter_map(|pool| Some(pool.deadline(&self.clients, &self.servers)?.0)).min()
    }

    /// Ends waits and clients that take too long, and closes server connections that nobody needs.
    pub fn advance(&mut self, now: Instant, databases: &mut Databases) {
        self.clock(now, databases);
    }

    /// Every pool: its name, and how many things it has.
    pub fn counts(&self) -> impl Iterator<Item = (&Arc<str>, PoolCounts)> {
        self.pools.iter().map(|pool| (&pool.name, pool.counts()))
    }

    /// Every pool: its name, and what it has done.
    pub fn totals(&self) -> impl Iterator<Item = (&Arc<str>, PoolTotals)> {
        self.pools.iter().map(|pool| (&pool.name, pool.totals))
    }

    /// The settings of a login's pool.
    pub fn settings(&self, login: LoginId) -> &PoolSettings {
        &self.pools[self.logins[login.0 as usize].pool as usize].settings
    }

    /// The board's rows: of each pool its connections and its borrow time-out.
    pub fn rows(&self) -> Vec<LimitRow> {
        self.pools.iter().flat_map(Pool::rows).collect()
    }

    fn client_id(&self, slot: u32) -> ClientId {
        ClientId { slot, generation: self.clients.generation(slot) }
    }

    fn server_id(&self, slot: u32) -> ServerId {
        ServerId { slot, generation: self.servers.generation(slot) }
    }
}

#[cfg(test)]
mod tests;
