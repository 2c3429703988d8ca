//! What a pool is made of, and how server connections move between clients and idleness.

use super::slots::{Link, Linked, List, NONE, Slots};
use super::{ASK_AGAIN, IDLE_AFTER, LIFE, PoolCounts, PoolEffect, PoolSettings, PoolTotals, Pools};
use crate::db_connections::{DatabaseId, Databases};
use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;

/// Kinds of a server connection's links: by when it was opened, by when it was returned, and of its login.
const BORN: usize = 0;
const RETURNED: usize = 1;
const OF_LOGIN: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    /// In the list of idle clients, pinned or not.
    Idle,
    /// In the queue.
    Waiting,
    /// In a transaction, and in no list.
    Busy,
}

/// A client: 40 bytes with its generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) login: u32,
    /// The server connection that it has.
    pub(super) server: u32,
    pub(super) state: ClientState,
    pub(super) pinned: bool,
    /// Since when it is idle, or waits.
    pub(super) since: Instant,
    link: Link,
}

impl Client {
    pub(super) const fn new(login: u32, now: Instant) -> Self {
        let state = ClientState::Idle;
        Self { login, server: NONE, state, pinned: false, since: now, link: Link::NOWHERE }
    }

    pub(super) const fn rest(&mut self, now: Instant) {
        self.state = ClientState::Idle;
        self.since = now;
    }
}

impl Linked for Client {
    fn link(&mut self, _: usize) -> &mut Link {
        &mut self.link
    }
}

/// A server connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) login: u32,
    /// Who has borrowed it.
    pub(super) client: u32,
    born: Instant,
    /// When it was returned.
    since: Instant,
    /// Its life is over: it is closed when it is returned.
    old: bool,
    /// It counts as idle.
    settled: bool,
    links: [Link; 3],
}

impl Linked for Server {
    fn link(&mut self, kind: usize) -> &mut Link {
        &mut self.links[kind]
    }
}

/// A kind of clients.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) pool: u32,
    /// Its server connections that nobody has, the one returned last at the end.
    idle: List<OF_LOGIN>,
}

impl Login {
    pub(super) fn new(pool: u32) -> Self {
        Self { pool, idle: List::default() }
    }
}

/// What a pool has to do at its next deadline.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    TimeOut(u32),
    CloseClient(u32),
    Settle(u32),
    Retire(u32),
    Ask,
}

#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) name: Arc<str>,
    database: DatabaseId,
    pub(super) settings: PoolSettings,
    pub(super) counts: PoolCounts,
    pub(super) totals: PoolTotals,
    pub(super) idle_clients: List<0>,
    pub(super) waiting: List<0>,
    /// Server connections whose life is not over.
    born: List<BORN>,
    /// Those that nobody has and that do not count as idle yet, then those that do.
    returned: List<RETURNED>,
    settled: List<RETURNED>,
    /// The database has refused a server connection; when it is asked again.
    refused: Option<(Refusal, Instant)>,
    connections: Tally,
    borrows: Tally,
}

impl Pool {
    pub(super) fn new(name: Arc<str>, database: DatabaseId, settings: PoolSettings) -> Self {
        Self {
            name,
            database,
            settings,
            counts: PoolCounts::default(),
            totals: PoolTotals::default(),
            idle_clients: List::default(),
            waiting: List::default(),
            born: List::default(),
            returned: List::default(),
            settled: List::default(),
            refused: None,
            connections: Tally::default(),
            borrows: Tally::default(),
        }
    }

    pub(super) fn counts(&self) -> PoolCounts {
        PoolCounts { waiting: self.waiting.len(), ..self.counts }
    }

    /// What stands in the way of one more transaction.
    pub(super) fn what_is_full(&self) -> Refusal {
        match &self.refused {
            Some((refusal, _)) if self.counts.open < self.settings.connections => refusal.clone(),
            _ => Refusal {
                limit: LimitId::DbPoolConnections,
                resource: Arc::clone(&self.name),
                destination: None,
                used: u64::from(self.counts.borrowed),
                max: u64::from(self.settings.connections),
                retry_at: None,
            },
        }
    }

    /// A client has waited for as long as it may.
    pub(super) fn timed_out(&mut self, now: Instant) -> Refusal {
        self.borrows.refuse(now);
        let seconds = self.settings.borrow_timeout.as_secs();
        self.borrows.reach(seconds);
        Refusal {
            limit: LimitId::DbBorrowTimeout,
            resource: Arc::clone(&self.name),
            destination: None,
            used: seconds,
            max: seconds,
            retry_at: None,
        }
    }

    /// What there is to do next, and when. Of equals the first: a wait ends before a client is closed.
    pub(super) fn deadline(
        &self,
        clients: &Slots<Client>,
        servers: &Slots<Server>,
    ) -> Option<(Instant, Due)> {
        let settings = &self.settings;
        let waits = self.waiting.first();
        let ask = self.refused.as_ref().filter(|_| waits.is_some()).map(|(_, at)| (*at, Due::Ask));
        let due = [
            ask,
            waits.map(|slot| (clients[slot].since + settings.borrow_timeout, Due::TimeOut(slot))),
            self.idle_clients
                .first()
                .map(|slot| (clients[slot].since + settings.idle_client_timeout, Due::CloseClient(slot))),
            self.returned.first().map(|slot| (servers[slot].since + IDLE_AFTER, Due::Settle(slot))),
            self.born.first().map(|slot| (servers[slot].born + LIFE, Due::Retire(slot))),
        ];
        due.into_iter().flatten().reduce(|best, next| if next.0 < best.0 { next } else { best })
    }

    /// Somebody went without a server connection because of this.
    fn refuse(&mut self, now: Instant, full: &Refusal) {
        // The database counts its own refusals.
        if full.limit == LimitId::DbPoolConnections {
            self.connections.refuse(now);
        }
    }

    /// A wait that began at `since` has ended.
    fn reach_wait(&mut self, now: Instant, since: Instant) {
        self.borrows.reach(now.since(since).as_secs());
    }

    pub(super) fn rows(&self) -> [LimitRow; 2] {
        let PoolSettings { connections, borrow_timeout, source, borrow_source, .. } = &self.settings;
        let used = u64::from(self.counts.borrowed);
        let max = u64::from(*connections);
        [
            self.connections.row(LimitId::DbPoolConnections, &self.name, used, max, source),
            self.borrows.row(
                LimitId::DbBorrowTimeout,
                &self.name,
                0,
                borrow_timeout.as_secs(),
                borrow_source,
            ),
        ]
    }
}

impl Pools {
    /// Moves time on: whatever is due up to `now`, each at its own moment and in their order.
    #[inline]
    pub(super) fn clock(&mut self, now: Instant, databases: &mut Databases) -> Instant {
        let now = self.now.max(now);
        if !self.quiet.holds(now) {
            self.settle(now, databases);
        }
        self.now = now;
        now
    }

    fn settle(&mut self, now: Instant, databases: &mut Databases) {
        loop {
            let pools = self.pools.iter().enumerate();
            let due = pools.filter_map(|(index, pool)| {
                let (at, due) = pool.deadline(&self.clients, &self.servers)?;
                (at <= now).then_some((at, index, due))
            });
            let Some((at, index, due)) = due.min_by_key(|(at, index, _)| (*at, *index)) else { break };
            self.now = self.now.max(at);
            self.meet(self.now, index as u32, due, databases);
        }
        let soonest = self.pools.iter().map(|pool| pool.settings.soonest()).min().unwrap_or(ASK_AGAIN);
        self.quiet.renew(now, self.next_deadline(), soonest);
    }

    fn meet(&mut self, now: Instant, index: u32, due: Due, databases: &mut Databases) {
        let pool = &mut self.pools[index as usize];
        match due {
            Due::TimeOut(slot) => {
                let behind = pool.what_is_full();
                pool.waiting.remove(&mut self.clients, slot);
                self.clients[slot].rest(now);
                pool.idle_clients.push(&mut self.clients, slot);
                let refusal = pool.timed_out(now);
                pool.refuse(now, &behind);
                let client = self.client_id(slot);
                self.effects.push_back(PoolEffect::TimedOut { client, refusal, behind });
            }
            Due::CloseClient(slot) => {
                pool.totals.idle_closed += 1;
                let client = self.client_id(slot);
                self.effects.push_back(PoolEffect::CloseClient(client));
                self.end_client(now, slot, databases);
            }
            Due::Settle(slot) => {
                pool.returned.remove(&mut self.servers, slot);
                pool.settled.push(&mut self.servers, slot);
                self.servers[slot].settled = true;
                if pool.settled.len() > pool.settings.idle_connections {
                    self.unlink_idle(slot);
                    self.close_server(now, slot, databases, true);
                }
            }
            Due::Retire(slot) => {
                pool.born.remove(&mut self.servers, slot);
                self.servers[slot].old = true;
                if self.servers[slot].client == NONE {
                    self.unlink_idle(slot);
                    self.close_server(now, slot, databases, true);
                }
            }
            Due::Ask => {
                pool.refused = None;
                self.serve(now, index, databases);
            }
        }
    }

    /// A client leaves the queue without a server connection.
    pub(super) fn stop_waiting(&mut self, now: Instant, slot: u32) {
        let Client { login, since, .. } = self.clients[slot];
        let pool = &mut self.pools[self.logins[login as usize].pool as usize];
        let full = pool.what_is_full();
        pool.waiting.remove(&mut self.clients, slot);
        pool.reach_wait(now, since);
        pool.refuse(now, &full);
    }

    /// Ends a client in whatever state it is.
    pub(super) fn end_client(&mut self, now: Instant, slot: u32, databases: &mut Databases) {
        let Client { login, server, state, pinned, .. } = self.clients[slot];
        let index = self.logins[login as usize].pool;
        let pool = &mut self.pools[index as usize];
        match state {
            ClientState::Idle => pool.idle_clients.remove(&mut self.clients, slot),
            ClientState::Waiting => self.stop_waiting(now, slot),
            ClientState::Busy => {}
        }
        let pool = &mut self.pools[index as usize];
        pool.counts.clients -= 1;
        pool.counts.pinned -= u32::from(pinned);
        self.clients.remove(slot);
        if server == NONE {
            return;
        }
        if pinned {
            self.pools[index as usize].counts.borrowed -= 1;
            self.close_server(now, server, databases, true);
        } else {
            self.take_back(now, server, databases);
        }
        self.serve(now, index, databases);
    }

    /// A server connection is lent no longer: it is idle, or closed where its life is over.
    pub(super) fn take_back(&mut self, now: Instant, slot: u32, databases: &mut Databases) {
        let Server { login, old, .. } = self.servers[slot];
        let entry = &mut self.logins[login as usize];
        let pool = &mut self.pools[entry.pool as usize];
        pool.counts.borrowed -= 1;
        if old {
            return self.close_server(now, slot, databases, true);
        }
        let server = &mut self.servers[slot];
        (server.client, server.since, server.settled) = (NONE, now, false);
        pool.returned.push(&mut self.servers, slot);
        entry.idle.push(&mut self.servers, slot);
    }

    /// Lends server connections to those who wait, as long as there are some.
    pub(super) fn serve(&mut self, now: Instant, index: u32, databases: &mut Databases) {
        while let Some(slot) = self.pools[index as usize].waiting.first() {
            let Client { login, since, .. } = self.clients[slot];
            let Some((server, fresh)) = self.find_server(now, login, databases) else { break };
            let pool = &mut self.pools[index as usize];
            pool.waiting.remove(&mut self.clients, slot);
            pool.reach_wait(now, since);
            self.clients[slot].state = ClientState::Busy;
            self.lend(slot, server);
            let client = self.client_id(slot);
            let server = self.server_id(server);
            self.effects.push_back(PoolEffect::Lent { client, server, fresh });
        }
    }

    pub(super) fn lend(&mut self, client: u32, server: u32) {
        self.clients[client].server = server;
        self.servers[server].client = client;
        let pool = &mut self.pools[self.logins[self.clients[client].login as usize].pool as usize];
        pool.counts.borrowed += 1;
        pool.totals.lent += 1;
        pool.connections.reach(u64::from(pool.counts.borrowed));
    }

    /// A server connection for a client of that login: an idle one of its own, or a new one. One of another login makes
    /// room where there is none. Whether it is new.
    pub(super) fn find_server(
        &mut self,
        now: Instant,
        login: u32,
        databases: &mut Databases,
    ) -> Option<(u32, bool)> {
        if let Some(slot) = self.logins[login as usize].idle.last() {
            self.unlink_idle(slot);
            return Some((slot, false));
        }
        let pool = &mut self.pools[self.logins[login as usize].pool as usize];
        let database = pool.database;
        let asked_lately = pool.refused.as_ref().is_some_and(|(_, again)| *again > now);
        if pool.counts.open < pool.settings.connections && !asked_lately {
            match databases.take(now, database) {
                Ok(()) => return Some((self.open_server(now, login), true)),
                Err(refusal) => pool.refused = Some((refusal, now + ASK_AGAIN)),
            }
        }
        let other = pool.settled.first().or(pool.returned.first())?;
        self.unlink_idle(other);
        self.close_server(now, other, databases, true);
        databases.take(now, database).ok()?;
        Some((self.open_server(now, login), true))
    }

    fn open_server(&mut self, now: Instant, login: u32) -> u32 {
        let pool = &mut self.pools[self.logins[login as usize].pool as usize];
        pool.counts.open += 1;
        pool.totals.opened += 1;
        let links = [Link::NOWHERE; 3];
        let server = Server { login, client: NONE, born: now, since: now, old: false, settled: false, links };
        let slot = self.servers.add(server);
        pool.born.push(&mut self.servers, slot);
        slot
    }

    /// Takes a server connection that nobody has out of the lists of those.
    pub(super) fn unlink_idle(&mut self, slot: u32) {
        let Server { login, settled, .. } = self.servers[slot];
        let entry = &mut self.logins[login as usize];
        let pool = &mut self.pools[entry.pool as usize];
        entry.idle.remove(&mut self.servers, slot);
        let list = if settled { &mut pool.settled } else { &mut pool.returned };
        list.remove(&mut self.servers, slot);
    }

    /// Closes a server connection that stands in no list of idle ones; `tell` the driver unless it knows.
    pub(super) fn close_server(&mut self, now: Instant, slot: u32, databases: &mut Databases, tell: bool) {
        let Server { login, old, .. } = self.servers[slot];
        let pool = &mut self.pools[self.logins[login as usize].pool as usize];
        pool.counts.open -= 1;
        if !old {
            pool.born.remove(&mut self.servers, slot);
        }
        databases.give_back(now, pool.database);
        if tell {
            self.effects.push_back(PoolEffect::CloseServer(self.server_id(slot)));
        }
        self.servers.remove(slot);
    }
}
