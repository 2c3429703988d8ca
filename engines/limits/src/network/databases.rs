//! Databases and their proxies: how many connections a stack gives them.

use super::{Host, HostKind, Network};
use crate::db_connections::{max_connections, serverless_connections};
use crate::db_pool::{PoolSettings, share};
use crate::settings::NetworkSettings;
use model::stack::{DbInstance, DbProxy, Link, Stack};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The port of PostgreSQL, and of proxies for it.
const POSTGRES: u16 = 5432;

const FROM_CLASS: &str = "RDS User Guide, maximum number of database connections, by the class's memory; what the system \
                          takes of it is assumed";
const FROM_CAPACITY: &str = "Aurora User Guide, maximum connections for Aurora Serverless v2, by the cluster's MaxCapacity; \
                             what lies between the table's rows is assumed";
const FROM_PARAMETERS: &str = "max_connections of the database's parameter group";
/// The shortest IdleClientTimeout that AWS takes; a shorter one would close clients before their first request.
const SHORTEST: Duration = Duration::from_secs(1);
const BORROW_TIMEOUT: &str = "ConnectionBorrowTimeout of the proxy's target group";
const GIVEN: &str = "given with --limit";

/// A database instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its logical id.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its `max_connections`; `None` where that is not known.
    pub connections: Option<u32>,
    /// Where the figure comes from.
    pub source: &'static str,
}

/// A database proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its logical id.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Index of the database that it leads to; `None` where that is not known.
    pub database: Option<usize>,
    /// `MaxConnectionsPercent`.
    pub connections_percent: u32,
    /// `MaxIdleConnectionsPercent`.
    pub idle_connections_percent: u32,
    /// `ConnectionBorrowTimeout`.
    pub borrow_timeout: Duration,
    /// `IdleClientTimeout`.
    pub idle_client_timeout: Duration,
}

impl Network {
    /// The same with a PostgreSQL instance of that class, called `Database`.
    pub fn with_database(mut self, class: &str) -> Self {
        let (name, index) = ("Database".to_owned(), self.databases.len());
        self.add_host(&name, HostKind::Database(index));
        let connections = max_connections("postgres", class);
        self.databases.push(Database { name, port: POSTGRES, connections, source: FROM_CLASS });
        self
    }

    /// The same with a proxy before the last database.
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        let index = self.proxies.len();
        self.add_host(&proxy.name, HostKind::Proxy(index));
        let database = self.databases.len().checked_sub(1);
        self.proxies.push(Proxy { database, ..proxy });
        self
    }

    /// Something in the first subnet that takes everything.
    fn add_host(&mut self, name: &str, what: HostKind) {
        let address = (!self.subnets.is_empty()).then(|| self.next_address(0, name)).flatten();
        let host = Host {
            name: name.to_owned(),
            address: address.map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| address),
            address6: None,
            names: Vec::new(),
            private_names: Vec::new(),
            groups: Vec::new(),
            vpc: 0,
            subnet: Some(0),
            placed: false,
            public: false,
            what,
        };
        self.hosts.push(host);
    }

    /// The index of the database instance of that name.
    pub(super) fn database_named(&self, name: &str) -> Option<usize> {
        self.databases.iter().position(|database| database.name == name)
    }

    /// The port of the database or database proxy of that name.
    pub fn database_port(&self, name: &str) -> Option<u16> {
        self.database_ports().find(|(found, _)| *found == name).map(|(_, port)| port)
    }

    /// The names of all database proxies and databases.
    pub fn database_names(&self) -> impl Iterator<Item = &str> {
        self.database_ports().map(|(name, _)| name)
    }

    fn database_ports(&self) -> impl Iterator<Item = (&str, u16)> {
        let proxies = self.proxies.iter().map(|proxy| (&*proxy.name, proxy.port));
        proxies.chain(self.databases.iter().map(|database| (&*database.name, database.port)))
    }

    /// A proxy's pool, with the user's own figures where given; `None` where the database's connections are not known.
    /// A pool has room for one connection at least, as it would serve nobody otherwise (assumed).
    pub(super) fn pool_settings(&self, proxy: &Proxy, settings: &NetworkSettings) -> Option<PoolSettings> {
        let database = &self.databases[proxy.database?];
        let all = settings.database.or(database.connections)?;
        let percent = proxy.connections_percent;
        let of_database = format!("{percent} % of max_connections ({all}) of {}", database.name);
        let given = &settings.pool;
        let idle_client_timeout = given.idle_client_timeout.unwrap_or(proxy.idle_client_timeout);
        Some(PoolSettings {
            connections: given.connections.unwrap_or(share(all, percent).max(1)),
            idle_connections: share(all, proxy.idle_connections_percent),
            borrow_timeout: given.borrow_timeout.unwrap_or(proxy.borrow_timeout),
            idle_client_timeout: idle_client_timeout.max(SHORTEST),
            source: given.connections.map_or_else(|| of_database.into(), |_| GIVEN.into()),
            borrow_source: given.borrow_timeout.map_or(BORROW_TIMEOUT, |_| GIVEN).into(),
        })
    }
}

impl Database {
    /// What a stack says of an instance.
    pub(super) fn of(stack: &Stack, found: &DbInstance) -> Self {
        let group = found.parameter_group.as_ref().and_then(Link::logical);
        let group = stack.db_parameter_groups.iter().find(|one| Some(one.id.as_str()) == group);
        let given = group.and_then(|group| group.parameters.get("max_connections")?.parse().ok());
        let capacity = found.cluster.as_ref().and_then(|part| part.capacity);
        let scaled = capacity.and_then(|capacity| serverless_connections(&found.engine, capacity));
        let connections = given.or(scaled).or_else(|| max_connections(&found.engine, &found.class));
        let source = match (given, scaled) {
            (Some(_), _) => FROM_PARAMETERS,
            (None, Some(_)) => FROM_CAPACITY,
            (None, None) => FROM_CLASS,
        };
        Self { name: found.id.clone(), port: found.port, connections, source }
    }
}

impl Proxy {
    /// What a stack says of a proxy, with the first of its target groups and the first database of that.
    pub(super) fn of(stack: &Stack, found: &DbProxy) -> Self {
        let groups = &stack.db_proxy_target_groups;
        let group = groups.iter().find(|group| group.proxy.logical() == Some(&found.id));
        let target = group.and_then(|group| group.instances.first()?.logical());
        let cluster = group.and_then(|group| group.clusters.first()?.logical());
        let leads_to = |instance: &DbInstance| {
            let part = instance.cluster.as_ref().filter(|part| part.writer);
            Some(instance.id.as_str()) == target || part.is_some_and(|part| Some(part.id.as_str()) == cluster)
        };
        let database = stack.db_instances.iter().position(leads_to);
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        Self {
            name: found.id.clone(),
            port: match &*found.engine_family {
                "MYSQL" => 3306,
                "SQLSERVER" => 1433,
                _ => POSTGRES,
            },
            database,
            // Without a group there is no database behind the proxy, and no pool that these could size.
            connections_percent: group.map_or(100, |group| group.max_connections_percent),
            idle_connections_percent: group.map_or(50, |group| group.max_idle_connections_percent),
            borrow_timeout: seconds(group.map_or(120, |group| group.borrow_timeout_s)),
            idle_client_timeout: seconds(found.idle_client_timeout_s),
        }
    }
}
