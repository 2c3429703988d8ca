//! `db.max-connections`: connections to a database instance, each a process or thread of it.
//!
//! Source: RDS User Guide, "Quotas and constraints", maximum number of database connections: `max_connections` is
//! LEAST(DBInstanceClassMemory / 9531392, 5000) for PostgreSQL and DBInstanceClassMemory / 12582880 for MySQL and MariaDB,
//! where DBInstanceClassMemory is the class's memory less what the system takes; published. That part is not; 181 were
//! measured on a db.t4g.small, which gives 0.39 GiB, and "a little over 70" were seen on a db.t4g.micro (72 here, not
//! confirmed). Unlike the network, a full database says so at once (PostgreSQL 53300, MySQL 1040).
//!
//! Every call is O(1), or amortised over the connections that expire.

use crate::leases::{LeaseId, Leases};
use crate::quiet::Quiet;
use crate::tally::Tally;
use model::{Instant, LimitId, LimitRow, Refusal};
use std::sync::Arc;
use std::time::Duration;

/// What the system takes of a class's memory: 0.39 GiB.
const SYSTEM_BYTES: u64 = 418_759_312;
const GIB: u64 = 1 << 30;
/// ACUs of a cluster that scales down so far that its connections are capped.
const SMALL_CAPACITY: f64 = 0.5;
/// Connections of Aurora MySQL by the most ACUs of its cluster.
const SERVERLESS_MYSQL: [(f64, u32); 7] =
    [(1.0, 90), (4.0, 135), (8.0, 1000), (16.0, 2000), (32.0, 3000), (64.0, 4000), (128.0, 5000)];

/// `max_connections` by default of an instance class; `None` for classes and engines that are not known.
pub fn max_connections(engine: &str, class: &str) -> Option<u32> {
    let gibibytes = memory(class)?;
    let bytes = (gibibytes * GIB).saturating_sub(SYSTEM_BYTES);
    let connections = match engine {
        "postgres" if gibibytes == 1 => 72,
        "postgres" | "aurora-postgresql" => (bytes / 9_531_392).min(5000),
        "mysql" | "mariadb" => bytes / 12_582_880,
        _ => return None,
    };
    u32::try_from(connections).ok()
}

/// `max_connections` of an instance of Aurora Serverless v2 by its cluster's least and most ACUs; `None` for engines whose
/// figures are not known.
///
/// Source: Aurora User Guide, "Maximum connections for Aurora Serverless v2", the table by maximum ACUs, and at most 2,000 for
/// PostgreSQL that may scale down to 0.5 (re:Post: or to 0); published. PostgreSQL's rows lie on a line up to 5,000, which is
/// assumed between them. MySQL's go up by steps: the guide's example shows 4,000 for 80 ACUs, the row of 64.
pub fn serverless_connections(engine: &str, (least, most): (f64, f64)) -> Option<u32> {
    if engine.contains("mysql") {
        let row = SERVERLESS_MYSQL.iter().rfind(|(acus, _)| *acus <= most).unwrap_or(&SERVERLESS_MYSQL[0]);
        return Some(row.1);
    }
    if !engine.contains("postgres") {
        return None;
    }
    let cap = if least <= SMALL_CAPACITY { 2000.0 } else { 5000.0 };
    // Between zero and 5,000: no overflow.
    Some((most * 211.4 - 22.4).round().clamp(0.0, cap) as u32)
}

/// Memory of `db.FAMILY.SIZE` in GiB: burstable and general classes have 8 at `large`, those for memory 16, and each size has
/// twice that of the one before it.
fn memory(class: &str) -> Option<u64> {
    let (family, size) = class.strip_prefix("db.")?.split_once('.')?;
    let large = match family.chars().next()? {
        't' | 'm' => 8,
        'r' => 16,
        _ => return None,
    };
    match size {
        "micro" if large == 8 => Some(1),
        "small" if large == 8 => Some(2),
        "medium" if large == 8 => Some(4),
        "large" => Some(large),
        "xlarge" => Some(2 * large),
        _ => {
            let times: u64 = size.strip_suffix("xlarge")?.parse().ok().filter(|times| *times <= 48)?;
            Some(2 * large * times)
        }
    }
}

/// One database instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseId(u32);

/// All database instances.
#[derive(Clone, Debug)]
pub struct Databases {
    idle_timeout: Duration,
    now: Instant,
    databases: Vec<Database>,
    leases: Leases<u32>,
    quiet: Quiet,
}

#[derive(Clone, Debug)]
struct Database {
    name: Arc<str>,
    max: u32,
    source: Arc<str>,
    used: u32,
    tally: Tally,
}

impl Databases {
    /// No database yet. Clients that went without a word are noticed after `idle_timeout`.
    pub fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            now: Instant::START,
            databases: Vec::new(),
            leases: Leases::default(),
            quiet: Quiet::default(),
        }
    }

    /// Adds a database with room for `max` connections.
    pub fn add(&mut self, name: Arc<str>, max: u32, source: Arc<str>) -> DatabaseId {
        let id = u32::try_from(self.databases.len()).expect("fewer databases than 2^32");
        self.databases.push(Database { name, max, source, used: 0, tally: Tally::default() });
        DatabaseId(id)
    }

    /// A database has room for another number of connections; those that are open stay.
    pub fn set(&mut self, id: DatabaseId, max: u32, source: Arc<str>) {
        let found = &mut self.databases[id.0 as usize];
        (found.max, found.source) = (max, source);
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// The refusal names the database and its figures. The client is told at once.
    pub fn open(&mut self, now: Instant, id: DatabaseId) -> Result<LeaseId, Refusal> {
        self.take(now, id)?;
        Ok(self.leases.open(self.now, id.0))
    }

    /// Opens a connection that is never silent for too long and is ended with `give_back`: one of a proxy's pool.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn take(&mut self, now: Instant, id: DatabaseId) -> Result<(), Refusal> {
        let now = self.clock(now);
        let database = &mut self.databases[id.0 as usize];
        if database.used >= database.max {
            database.tally.refuse(now);
            return Err(Refusal {
                limit: LimitId::DbMaxConnections,
                resource: Arc::clone(&database.name),
                destination: None,
                used: u64::from(database.used),
                max: u64::from(database.max),
                retry_at: None,
            });
        }
        database.used += 1;
        database.tally.reach(u64::from(database.used));
        Ok(())
    }

    /// Ends a connection that `take` opened.
    pub fn give_back(&mut self, now: Instant, id: DatabaseId) {
        self.clock(now);
        self.databases[id.0 as usize].used -= 1;
    }

    /// A packet of the connection passes. Whether the database still knows it.
    pub fn touch(&mut self, now: Instant, lease: LeaseId) -> bool {
        let now = self.clock(now);
        self.leases.touch(now, lease)
    }

    /// The connection is closed. Whether the database still knew it.
    pub fn close(&mut self, now: Instant, lease: LeaseId) -> bool {
        self.clock(now);
        let Some(database) = self.leases.close(lease) else { return false };
        self.databases[database as usize].used -= 1;
        true
    }

    /// When `advance` has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        Some(self.leases.oldest_since()? + self.idle_timeout)
    }

    /// Ends connections whose clients went without a word.
    pub fn advance(&mut self, now: Instant) {
        self.clock(now);
    }

    /// Every database: its name and its connections.
    pub fn connections(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.databases.iter().map(|database| (&database.name, database.used))
    }

    /// The board's rows, one for each database.
    pub fn rows(&self) -> Vec<LimitRow> {
        let row = |database: &Database| {
            let Database { name, max, source, used, tally } = database;
            tally.row(LimitId::DbMaxConnections, name, u64::from(*used), u64::from(*max), source)
        };
        self.databases.iter().map(row).collect()
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        if !self.quiet.holds(self.now) {
            self.settle();
            self.quiet.renew(self.now, self.next_deadline(), self.idle_timeout);
        }
        self.now
    }

    fn settle(&mut self) {
        while self.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            let Some(database) = self.leases.expire(self.now) else { break };
            self.databases[database as usize].used -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_scales_by_itself_has_the_connections_of_its_most_capacity() {
        let published = [(1.0, 189), (4.0, 823), (8.0, 1669), (16.0, 3360), (32.0, 5000), (256.0, 5000)];
        for (most, connections) in published {
            assert_eq!(serverless_connections("aurora-postgresql", (1.0, most)), Some(connections), "{most}");
        }
        assert_eq!(serverless_connections("aurora-postgresql", (0.5, 1.0)), Some(189));
        assert_eq!(serverless_connections("aurora-postgresql", (0.5, 16.0)), Some(2000));
        for (most, connections) in [(0.5, 90), (1.0, 90), (8.0, 1000), (80.0, 4000), (256.0, 5000)] {
            assert_eq!(serverless_connections("aurora-mysql", (0.5, most)), Some(connections), "{most}");
        }
        assert_eq!(serverless_connections("docdb", (1.0, 16.0)), None);
        assert_eq!(max_connections("aurora-postgresql", "db.r6g.large"), Some(1758));
    }

    #[test]
    fn classes_have_their_connections() {
        for (engine, class, connections) in [
            ("postgres", "db.t4g.micro", Some(72)),
            ("postgres", "db.t4g.small", Some(181)),
            ("postgres", "db.t4g.medium", Some(406)),
            ("postgres", "db.m7g.large", Some(857)),
            ("postgres", "db.r7g.large", Some(1758)),
            ("postgres", "db.r7g.4xlarge", Some(5000)),
            ("mysql", "db.t4g.small", Some(137)),
            ("oracle-ee", "db.t4g.small", None),
            ("postgres", "db.x2g.large", None),
            ("postgres", "db.t4g.tiny", None),
            ("postgres", "db.t4g.99999999999xlarge", None),
            ("postgres", "small", None),
        ] {
            assert_eq!(max_connections(engine, class), connections, "{engine} {class}");
        }
    }

    #[test]
    fn a_full_database_refuses_until_one_closes_or_is_given_up() {
        let mut all = Databases::new(Duration::from_secs(350));
        let id = all.add("Orders".into(), 2, "test".into());
        let [first, _] = [(); 2].map(|()| all.open(Instant::START, id).unwrap());
        let refusal = all.open(Instant::START, id).unwrap_err();
        assert_eq!(refusal.to_string(), "db.max-connections of Orders: 2 of 2 connections");
        assert!(all.close(Instant::from_secs(1), first) && !all.close(Instant::from_secs(1), first));
        assert!(all.open(Instant::from_secs(1), id).is_ok());
        assert!(all.open(Instant::from_secs(349), id).is_err());
        assert!(all.open(Instant::from_secs(350), id).is_ok(), "the second went without a word");
    }

    proptest! {
        #[test]
        fn never_above_the_maximum_and_every_connection_is_returned_once(
            max in 0u32..6, steps in prop::collection::vec((0u8..4, any::<usize>(), 0u64..120), 1..200),
        ) {
            let mut all = Databases::new(Duration::from_secs(350));
            let id = all.add("Orders".into(), max, "test".into());
            let mut open: Vec<(u64, LeaseId)> = Vec::new();
            let mut now = 0;
            for (kind, index, wait) in steps {
                let at = Instant::from_secs(now);
                match kind {
                    0 | 1 => match all.open(at, id) {
                        Ok(lease) => open.push((now, lease)),
                        Err(_) => prop_assert_eq!(open.len(), max as usize),
                    },
                    2 if !open.is_empty() => {
                        let (_, lease) = open.remove(index % open.len());
                        prop_assert!(all.close(at, lease) && !all.close(at, lease));
                    }
                    3 if !open.is_empty() => {
                        let index = index % open.len();
                        prop_assert!(all.touch(at, open[index].1));
                        open[index].0 = now;
                    }
                    _ => {}
                }
                now += wait;
                all.advance(Instant::from_secs(now));
                open.retain(|(heard, _)| heard + 350 > now);
                let row = &all.rows()[0];
                prop_assert_eq!(row.used as usize, open.len());
                prop_assert!(row.used <= row.peak && row.peak <= u64::from(max));
            }
        }
    }
}
