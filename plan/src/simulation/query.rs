//! Queries of an invocation: through a proxy's pool, whose connections are few, or straight to a database.
//!
//! ```text
//!   Ready --borrow--> Lent --> Asking --time--> give back --> Ready ... until no statement is left
//!                 `--> Waiting --> Lent | Refused (borrow time-out) | the function's time is over
//! ```
//!
//! Who waits is parked without an event of its own: the pool wakes it. One event at the end of its stage's time, at most,
//! stays behind for each stage in which it waited.

use super::course::{ParkedId, Reached, Running};
use super::network::NetworkRun;
use super::record::Trouble;
use super::{Event, Simulation};
use crate::distribution::Distribution;
use crate::heap::Turn;
use crate::load::QueryStep;
use crate::samples::Samples;
use limits::db_pool::{Borrow, ClientId, PoolEffect};
use model::Refusal;
use model::time::{Instant, nanos};
use std::sync::Arc;
use std::time::Duration;

/// One `query` of a function.
#[derive(Debug)]
pub struct QueryRun {
    pub function: usize,
    /// The logical id of the database or proxy.
    pub database: Arc<str>,
    port: u16,
    /// The connect whose connection it uses.
    connect: u32,
    count: u32,
    time: Distribution,
    transaction: bool,
    pins: bool,
    /// Transactions, or statements of their own, that had a connection.
    pub asked: u64,
    /// How long those waited that did not get one at once.
    pub waits: Samples,
    /// Those that waited in vain.
    pub failed: u64,
}

/// All queries, and who waits.
#[derive(Debug, Default)]
pub struct Queries {
    pub runs: Vec<QueryRun>,
    /// By the client's place.
    waiters: Vec<Option<ParkedId>>,
}

impl Queries {
    /// Adds a function's query.
    pub fn add(&mut self, function: usize, step: &QueryStep, port: u16) -> u32 {
        self.runs.push(QueryRun {
            function,
            database: step.database.text.as_str().into(),
            port,
            connect: u32::MAX,
            count: step.count,
            time: step.time.clone(),
            transaction: step.transaction,
            pins: step.pins,
            asked: 0,
            waits: Samples::default(),
            failed: 0,
        });
        (self.runs.len() - 1) as u32
    }

    /// Finds the connection that each query uses, once all connects of the load are known.
    pub fn link(&mut self, network: &mut NetworkRun) {
        for run in &mut self.runs {
            run.connect = network.connect_of_environment(run.function, &run.database, run.port);
        }
    }

    /// The connect whose connection a query uses.
    pub fn connect_of(&self, query: u32) -> u32 {
        self.runs[query as usize].connect
    }
}

/// A query in its course: 24 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Querying {
    /// Which query of all functions it is.
    index: u32,
    /// Statements that are left, or one for a transaction.
    left: u32,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The next statement may begin.
    Ready,
    /// In the pool's queue, since then.
    Waiting(Instant),
    /// A connection of the pool was lent after a wait since then.
    Lent(Instant),
    /// The pool's borrow time-out is over, after a wait since then.
    Refused(Instant),
    /// The database is at work on a statement, whose connection was waited for so long.
    Asking(Duration),
}

impl Querying {
    /// How long it has waited by `now` for the connection of the pool that it needs or has.
    pub fn waited(&self, now: Instant) -> Duration {
        match self.standing {
            Standing::Waiting(since) | Standing::Lent(since) | Standing::Refused(since) => now.since(since),
            Standing::Asking(waited) => waited,
            Standing::Ready => Duration::ZERO,
        }
    }
}

impl Simulation {
    /// A query's turn has come. Which connections are to be opened first, if the environment has none.
    pub(super) fn begin_query(
        &mut self,
        now: Instant,
        running: &mut Running,
        index: u32,
    ) -> Option<(u32, u32)> {
        let QueryRun { connect, count, transaction, .. } = self.queries.runs[index as usize];
        let left = if transaction { 1 } else { count };
        running.query = Some(Querying { index, left, standing: Standing::Ready });
        let held = self.network.hold(now, running.environment, connect);
        (held == 0).then(|| (connect, self.network.connects[connect as usize].count))
    }

    /// Goes on with a query whose connection is open; `None` to go on with what follows.
    pub(super) fn query(&mut self, now: Instant, running: &mut Running) -> Option<Reached> {
        let query = running.query?;
        let run = &mut self.queries.runs[query.index as usize];
        let client = self.network.client(running.environment, run.connect);
        match (query.standing, client) {
            (Standing::Asking(_), _) if running.clock > now => {
                return Some(Reached::Park(running.clock, Turn::Free));
            }
            (Standing::Asking(_), client) => {
                if let Some(client) = client {
                    self.network.engine().give_back(now, client);
                }
                running.trouble = None;
                running.query = Some(Querying { standing: Standing::Ready, ..query });
            }
            (Standing::Ready, _) if query.left == 0 => {
                running.query = None;
                running.step += 1;
            }
            (Standing::Ready, None) => {
                run.asked += u64::from(query.left);
                return self.ask(running, query.left);
            }
            (Standing::Ready, Some(client)) => return self.borrow(now, running, client),
            (Standing::Lent(since), client) => {
                let waited = now.since(since);
                run.waits.push(nanos(waited));
                return self.lent(now, running, client, waited);
            }
            (Standing::Refused(since), _) => {
                run.failed += 1;
                running.query = None;
                return Self::fail(running, now.since(since));
            }
            // Something else woke it.
            (Standing::Waiting(_), Some(client)) if now < running.deadline => {
                return Some(Reached::Queue(client));
            }
            (Standing::Waiting(_), client) => {
                run.failed += 1;
                if let Some(client) = client {
                    self.network.engine().leave_pool(now, client);
                }
                let trouble = running.trouble.and_then(|index| self.record.troubles.get(index as usize));
                if let Some(Trouble::Query { refusal, .. }) = trouble {
                    let refusal = refusal.clone();
                    self.strike(now, &refusal, running);
                }
                return Self::run_out(running);
            }
        }
        None
    }

    fn borrow(&mut self, now: Instant, running: &mut Running, client: ClientId) -> Option<Reached> {
        let query = running.query?;
        let borrow = self.network.engine().borrow(now, client);
        self.record.decisions.borrow(now, query.index, matches!(borrow, Borrow::Lent { .. }));
        match borrow {
            Borrow::Lent { .. } => self.lent(now, running, Some(client), Duration::ZERO),
            Borrow::Waits(full) => {
                let database = &self.queries.runs[query.index as usize].database;
                running.trouble = Some(self.record.waits(database, &full, None));
                running.query = Some(Querying { standing: Standing::Waiting(now), ..query });
                Some(Reached::Queue(client))
            }
            Borrow::Refused(refusal) => {
                self.queries.runs[query.index as usize].failed += 1;
                self.refused(now, running, &refusal, None);
                running.query = None;
                Self::fail(running, Duration::ZERO)
            }
            // It went without a request for too long in this very moment: it connects anew.
            Borrow::Closed => {
                running.query = None;
                None
            }
        }
    }

    /// A connection of the pool was lent for the next transaction, after a wait.
    fn lent(
        &mut self,
        now: Instant,
        running: &mut Running,
        client: Option<ClientId>,
        waited: Duration,
    ) -> Option<Reached> {
        let query = running.query?;
        let run = &mut self.queries.runs[query.index as usize];
        run.asked += 1;
        let statements = if run.transaction { run.count } else { 1 };
        if let (true, Some(client)) = (run.pins, client) {
            self.network.engine().pin(now, client);
        }
        running.query = Some(Querying { standing: Standing::Asking(waited), ..query });
        self.take_time(running, statements, 1)
    }

    /// All statements that are left, without a pool.
    fn ask(&mut self, running: &mut Running, left: u32) -> Option<Reached> {
        let run = &self.queries.runs[running.query?.index as usize];
        let statements = if run.transaction { run.count } else { left };
        self.take_time(running, statements, left)
    }

    /// The database takes its time for so many statements; afterwards so many fewer are left.
    fn take_time(&mut self, running: &mut Running, statements: u32, done: u32) -> Option<Reached> {
        let query = running.query.as_mut()?;
        query.left -= done;
        let (function, time) =
            (&mut self.functions[running.function as usize], &self.queries.runs[query.index as usize].time);
        let in_init = running.is_in_init();
        let total =
            (0..statements).fold(0_u64, |sum, _| sum.saturating_add(function.statement(in_init, time)));
        running.clock += Duration::from_nanos(total);
        if running.clock > running.deadline { Self::run_out(running) } else { None }
    }

    /// A transaction may not wait, or no longer.
    fn refused(&mut self, now: Instant, running: &mut Running, refusal: &Refusal, behind: Option<&Refusal>) {
        let Some(query) = running.query else { return };
        self.strike(now, refusal, running);
        let database = &self.queries.runs[query.index as usize].database;
        running.trouble = Some(self.record.waits(database, refusal, behind));
    }

    fn strike(&mut self, now: Instant, refusal: &Refusal, running: &Running) {
        let environments = self.dispatcher.environments();
        self.record.unserved(now, refusal, environments, running.function as usize);
    }

    /// An invocation waits for a connection of the pool, parked there, until it hears of it or its stage is over.
    pub(super) fn queue(&mut self, id: ParkedId, client: ClientId, running: &mut Running) {
        let waiters = &mut self.queries.waiters;
        if waiters.len() <= client.slot() {
            waiters.resize(client.slot() + 1, None);
        }
        waiters[client.slot()] = Some(id);
        running.clock = running.deadline;
        if !std::mem::replace(&mut running.is_timed, true) {
            // Before what is freed in that instant: it comes too late.
            self.heap.push(running.deadline, Turn::Free, Event::Resume(id));
        }
    }

    /// Wakes those whom the pools have served, or told that they wait in vain.
    pub(super) fn hear_pools(&mut self, now: Instant) {
        while let Some(effect) = self.network.engine().take_pool_effect() {
            match effect {
                PoolEffect::Lent { client, .. } => self.wake(now, client, None),
                PoolEffect::TimedOut { client, refusal, behind } => {
                    self.wake(now, client, Some((refusal, behind)));
                }
                // Who is closed as idle finds out at its next query; server connections are the pool's own.
                PoolEffect::CloseClient(_) | PoolEffect::CloseServer(_) => {}
            }
        }
    }

    fn wake(&mut self, now: Instant, client: ClientId, refusals: Option<(Refusal, Refusal)>) {
        let Some(id) = self.queries.waiters.get_mut(client.slot()).and_then(Option::take) else { return };
        let Some(mut running) = self.parked.get(id).copied() else { return };
        // One whose time was over in this very instant waits no longer.
        let Some(query) = running.query.as_mut() else { return };
        let Standing::Waiting(since) = query.standing else { return };
        running.clock = now;
        match refusals {
            None => query.standing = Standing::Lent(since),
            Some((refusal, behind)) => {
                query.standing = Standing::Refused(since);
                self.strike(now, &behind, &running);
                self.refused(now, &mut running, &refusal, Some(&behind));
            }
        }
        self.parked.put(id, running);
        self.resume(now, id);
    }

    /// When the next event is, or somebody who waits for a pool hears of it before; and whether it is an event.
    pub(super) fn next_at(&mut self) -> Option<(Instant, bool)> {
        let event = self.heap.next_at();
        match self.network.engine().next_pool_answer() {
            Some(answer) if event.is_none_or(|event| answer < event) => Some((answer, false)),
            _ => event.map(|at| (at, true)),
        }
    }
}
