//! Databases, their proxies, and stored parameters and secrets.

use super::{Link, Place};
use serde::Serialize;
use std::collections::BTreeMap;

/// A database instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DbInstance {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `DBInstanceIdentifier`.
    pub identifier: String,
    /// `db.t4g.micro` and the like; decides memory and so the connections.
    pub class: String,
    /// `postgres` and the like.
    pub engine: String,
    /// `EngineVersion`.
    pub engine_version: Option<String>,
    /// `AllocatedStorage`, GiB.
    pub allocated_storage_gb: Option<u32>,
    /// `MasterUsername`; may be a dynamic reference.
    pub username: Option<String>,
    /// `MasterUserPassword`; may be a dynamic reference.
    pub password: Option<String>,
    /// `ManageMasterUserPassword`: the password is in a secret that RDS makes.
    pub managed_password: bool,
    /// `DBName`.
    pub database: Option<String>,
    /// `Port`, or the engine's own.
    pub port: u16,
    /// Host name.
    pub address: String,
    /// Its subnet group.
    pub subnet_group: Option<Link>,
    /// Its security groups.
    pub security_groups: Vec<Link>,
    /// Its parameter group.
    pub parameter_group: Option<Link>,
    /// `MultiAZ`.
    pub multi_az: bool,
    /// `PubliclyAccessible`.
    pub publicly_accessible: bool,
    /// What it has of its cluster (Aurora).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<DbClusterPart>,
}

/// What an instance has of the cluster that it is in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DbClusterPart {
    /// The cluster's logical id.
    pub id: String,
    /// Whether it is the cluster's first instance: the writer, to which proxies of the cluster lead.
    pub writer: bool,
    /// Host names of the cluster that lead to this instance: its endpoint, its reader endpoint, both or none.
    pub names: Vec<String>,
    /// `MinCapacity` and `MaxCapacity` of `ServerlessV2ScalingConfiguration`, in ACUs.
    pub capacity: Option<(f64, f64)>,
}

/// A database subnet group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DbSubnetGroup {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<Link>,
}

/// A database parameter group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DbParameterGroup {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// `postgres16` and the like.
    pub family: String,
    /// Settings such as `max_connections`.
    pub parameters: BTreeMap<String, String>,
}

/// A cache of ElastiCache: a cluster, a replication group or a serverless cache. What stands at its address is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Host names of its endpoints, the first of which writes.
    pub names: Vec<String>,
    /// Ports at which it answers; the first is that of the first name.
    pub ports: Vec<u16>,
    /// Its subnet group's subnets, or its own.
    pub subnets: Vec<Link>,
    /// Its security groups.
    pub security_groups: Vec<Link>,
}

/// How clients of a proxy log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DbProxyAuth {
    /// `SECRETS`.
    pub scheme: String,
    /// The secret with user name and password.
    pub secret: Option<Link>,
    /// `DISABLED`, `REQUIRED` or `ENABLED`.
    pub iam_auth: String,
    /// `POSTGRES_SCRAM_SHA_256` and the like.
    pub client_password_auth_type: Option<String>,
}

/// A database proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DbProxy {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `DBProxyName`.
    pub name: String,
    /// Host name.
    pub endpoint: String,
    /// `POSTGRESQL`, `MYSQL` or `SQLSERVER`.
    pub engine_family: String,
    /// `IdleClientTimeout`, seconds; default 1,800.
    pub idle_client_timeout_s: u32,
    /// `RequireTLS`.
    pub require_tls: bool,
    /// Where it stands.
    pub subnets: Vec<Link>,
    /// Its security groups.
    pub security_groups: Vec<Link>,
    /// How clients log in.
    pub auth: Vec<DbProxyAuth>,
}

/// What a proxy leads to, and its pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DbProxyTargetGroup {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// The proxy.
    pub proxy: Link,
    /// Database instances.
    pub instances: Vec<Link>,
    /// Database clusters.
    pub clusters: Vec<Link>,
    /// `MaxConnectionsPercent` of the database's connections, 1 to 100; default 100.
    pub max_connections_percent: u32,
    /// `MaxIdleConnectionsPercent`; default half of the above.
    pub max_idle_connections_percent: u32,
    /// `ConnectionBorrowTimeout`, 0 to 300 s; default 120.
    pub borrow_timeout_s: u32,
    /// `InitQuery`.
    pub init_query: Option<String>,
    /// `SessionPinningFilters`.
    pub session_pinning_filters: Vec<String>,
}

/// An SSM parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SsmParameter {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// `String`, `StringList` or `SecureString`.
    pub parameter_type: String,
    /// Its value.
    pub value: String,
}

/// How a secret's value is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GenerateSecret {
    /// `PasswordLength`; default 32.
    pub length: u32,
    /// `ExcludeCharacters`.
    pub exclude_characters: String,
    /// `ExcludePunctuation`.
    pub exclude_punctuation: bool,
    /// `SecretStringTemplate`: JSON that gets the password.
    pub template: Option<String>,
    /// `GenerateStringKey`: the key it gets.
    pub key: Option<String>,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Secret {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `SecretString`.
    pub value: Option<String>,
    /// Or how it is made.
    pub generate: Option<GenerateSecret>,
}
