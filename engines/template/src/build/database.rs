//! Databases, proxies, SSM parameters and secrets.

use super::{Builder, Item};
use crate::problem::Problem;
use model::stack::{
    DbClusterPart, DbInstance, DbParameterGroup, DbProxy, DbProxyAuth, DbProxyTargetGroup, DbSubnetGroup,
    GenerateSecret, Link, Secret, SsmParameter,
};

/// Defaults and ranges of a proxy's pool (RDS User Guide, "Managing an RDS Proxy").
const IDLE_CLIENT_TIMEOUT_S: u32 = 1800;
const BORROW_TIMEOUT_S: u32 = 120;
/// The type of clusters.
const CLUSTER: &str = "AWS::RDS::DBCluster";
/// The most ACUs that a cluster scales to (Aurora User Guide, "ServerlessV2ScalingConfiguration").
const CAPACITY_MAX: f64 = 256.0;
/// The class of instances that a cluster scales by itself (Aurora Serverless v2).
const SERVERLESS: &str = "db.serverless";

impl Builder<'_, '_> {
    /// Builds a resource of one of these types; false when it is none.
    pub(super) fn database(&mut self, item: &Item<'_>) -> bool {
        match item.kind {
            "AWS::RDS::DBInstance" => self.db_instance(item),
            // Its instances run, with what they have of it.
            CLUSTER => {}
            "AWS::RDS::DBSubnetGroup" => {
                let subnets = self.links_to(&item.fields, "SubnetIds", "AWS::EC2::Subnet");
                if subnets.len() < 2 {
                    let message =
                        format!("{} needs subnets in two zones, and has {}", item.id, subnets.len());
                    self.problems.push(Problem::at(item.span, message));
                }
                let name = self.resolver.identity(item.index).name();
                let group = DbSubnetGroup { id: item.id.to_owned(), place: item.place(), name, subnets };
                self.stack.db_subnet_groups.push(group);
            }
            "AWS::RDS::DBParameterGroup" => {
                let group = DbParameterGroup {
                    id: item.id.to_owned(),
                    place: item.place(),
                    name: self.resolver.identity(item.index).name(),
                    family: item.fields.string("Family", &mut self.problems).unwrap_or_default(),
                    parameters: item.fields.string_map("Parameters", &mut self.problems),
                };
                self.stack.db_parameter_groups.push(group);
            }
            "AWS::RDS::DBProxy" => self.db_proxy(item),
            "AWS::RDS::DBProxyTargetGroup" => self.db_proxy_target_group(item),
            "AWS::SSM::Parameter" => {
                let fields = &item.fields;
                let kind = fields.require("Type", &mut self.problems);
                let kind = kind.and_then(|node| {
                    node.one_of(&["String", "StringList", "SecureString"], &mut self.problems)
                });
                let value = fields.require("Value", &mut self.problems);
                let value = value.and_then(|node| node.string(&mut self.problems));
                let (Some(kind), Some(value)) = (kind, value) else { return true };
                self.stack.ssm_parameters.push(SsmParameter {
                    id: item.id.to_owned(),
                    place: item.place(),
                    name: self.resolver.identity(item.index).name(),
                    parameter_type: kind.to_owned(),
                    value: value.to_owned(),
                });
            }
            "AWS::SecretsManager::Secret" => self.secret(item),
            _ => return false,
        }
        true
    }

    fn db_instance(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let class = fields.require("DBInstanceClass", &mut self.problems);
        let class = class.and_then(|node| {
            let class = node.string(&mut self.problems)?;
            if class == SERVERLESS || class.starts_with("db.") && class.split('.').count() == 3 {
                return Some(class.to_owned());
            }
            self.problems.push(Problem::wrong_type(node, "an instance class such as db.t4g.micro"));
            None
        });
        let engine = fields.require("Engine", &mut self.problems);
        let engine = engine.and_then(|node| node.string(&mut self.problems).map(str::to_owned));
        let port = fields.number("Port", "", 1..=65_535, &mut self.problems);
        let storage = fields.number("AllocatedStorage", "GiB", 5..=65_536, &mut self.problems);
        let [username, password, database, version] =
            ["MasterUsername", "MasterUserPassword", "DBName", "EngineVersion"]
                .map(|key| fields.string(key, &mut self.problems));
        let subnet_group = self.link(fields, "DBSubnetGroupName", "AWS::RDS::DBSubnetGroup", false);
        let parameter_group = self.link(fields, "DBParameterGroupName", "AWS::RDS::DBParameterGroup", false);
        let security_groups = self.links_to(fields, "VPCSecurityGroups", "AWS::EC2::SecurityGroup");
        let cluster = self.link(fields, "DBClusterIdentifier", CLUSTER, false);
        let cluster = cluster.as_ref().and_then(Link::logical);
        let (Some(class), Some(engine)) = (class, engine) else { return };
        let identity = self.resolver.identity(item.index);
        let default_port = identity.db_port();
        let instance = DbInstance {
            id: item.id.to_owned(),
            place: item.place(),
            identifier: identity.name(),
            class,
            engine,
            engine_version: version,
            allocated_storage_gb: storage,
            username,
            password,
            managed_password: fields.boolean("ManageMasterUserPassword", false, &mut self.problems),
            database,
            port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default_port),
            address: identity.db_address(),
            subnet_group,
            security_groups,
            parameter_group,
            multi_az: fields.boolean("MultiAZ", false, &mut self.problems),
            publicly_accessible: fields.boolean("PubliclyAccessible", false, &mut self.problems),
            cluster: cluster.map(|id| DbClusterPart { id: id.to_owned(), ..DbClusterPart::default() }),
        };
        self.stack.db_instances.push(instance);
    }

    /// Gives the instances of each cluster what they have of it; indices of clusters without any, where nothing runs.
    pub(super) fn join_clusters(&mut self, items: &[Item<'_>]) -> Vec<usize> {
        let mut empty = Vec::new();
        for item in items.iter().filter(|item| item.kind == CLUSTER) {
            if !self.join_cluster(item) {
                empty.push(item.index);
            }
        }
        empty
    }

    fn join_cluster(&mut self, item: &Item<'_>) -> bool {
        let fields = &item.fields;
        let subnet_group = self.link(fields, "DBSubnetGroupName", "AWS::RDS::DBSubnetGroup", false);
        let security_groups = self.links_to(fields, "VpcSecurityGroupIds", "AWS::EC2::SecurityGroup");
        let [username, password, database] = ["MasterUsername", "MasterUserPassword", "DatabaseName"]
            .map(|key| fields.string(key, &mut self.problems));
        let managed = fields.boolean("ManageMasterUserPassword", false, &mut self.problems);
        let scaling = fields.inner("ServerlessV2ScalingConfiguration", &mut self.problems);
        let mut acus = |key: &str| {
            let node = scaling.as_ref()?.get(key)?;
            let value = node.number(&mut self.problems)?;
            if (0.0..=CAPACITY_MAX).contains(&value) {
                return Some(value);
            }
            self.problems.push(Problem::wrong_type(node, format!("{key} from 0 to {CAPACITY_MAX} ACUs")));
            None
        };
        let capacity = (acus("MinCapacity"), acus("MaxCapacity"));
        let capacity = capacity.1.map(|most| (capacity.0.unwrap_or(0.0), most));
        let identity = self.resolver.identity(item.index);
        let (writer_name, reader_name, port) =
            (identity.cluster_address(false), identity.cluster_address(true), identity.db_port());
        let members = || {
            let all = self.stack.db_instances.iter().enumerate();
            all.filter(|(_, one)| one.cluster.as_ref().is_some_and(|part| part.id == item.id))
                .map(|(at, _)| at)
        };
        let members: Vec<usize> = members().collect();
        for (place, index) in members.iter().enumerate() {
            let instance = &mut self.stack.db_instances[*index];
            // Readers answer at the reader endpoint; where there are none the writer does.
            let reads = place > 0 || members.len() == 1;
            let names = [(place == 0, &writer_name), (reads, &reader_name)];
            instance.cluster = Some(DbClusterPart {
                id: item.id.to_owned(),
                writer: place == 0,
                names: names.into_iter().filter(|(is, _)| *is).map(|(_, name)| name.clone()).collect(),
                capacity: capacity.filter(|_| instance.class == SERVERLESS),
            });
            instance.port = port;
            instance.subnet_group = subnet_group.clone();
            instance.security_groups.clone_from(&security_groups);
            instance.managed_password |= managed;
            instance.username = username.clone();
            instance.password = password.clone();
            instance.database = database.clone();
        }
        !members.is_empty()
    }

    fn db_proxy(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let family = fields.require("EngineFamily", &mut self.problems);
        let family =
            family.and_then(|node| node.one_of(&["POSTGRESQL", "MYSQL", "SQLSERVER"], &mut self.problems));
        fields.require("VpcSubnetIds", &mut self.problems);
        let subnets = self.links_to(fields, "VpcSubnetIds", "AWS::EC2::Subnet");
        let security_groups = self.links_to(fields, "VpcSecurityGroupIds", "AWS::EC2::SecurityGroup");
        let mut auth = Vec::new();
        for one in fields.inners("Auth", &mut self.problems) {
            let secret = self.link(&one, "SecretArn", "AWS::SecretsManager::Secret", false);
            let mut text = |key: &str| one.string(key, &mut self.problems);
            auth.push(DbProxyAuth {
                scheme: text("AuthScheme").unwrap_or_else(|| "SECRETS".into()),
                secret,
                iam_auth: text("IAMAuth").unwrap_or_else(|| "DISABLED".into()),
                client_password_auth_type: text("ClientPasswordAuthType"),
            });
        }
        let idle = fields.number("IdleClientTimeout", "seconds", 1..=28_800, &mut self.problems);
        let require_tls = fields.boolean("RequireTLS", false, &mut self.problems);
        let Some(family) = family else { return };
        let identity = self.resolver.identity(item.index);
        self.stack.db_proxies.push(DbProxy {
            id: item.id.to_owned(),
            place: item.place(),
            name: identity.name(),
            endpoint: identity.db_address(),
            engine_family: family.to_owned(),
            idle_client_timeout_s: idle.unwrap_or(IDLE_CLIENT_TIMEOUT_S),
            require_tls,
            subnets,
            security_groups,
            auth,
        });
    }

    fn db_proxy_target_group(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let Some(proxy) = self.link(fields, "DBProxyName", "AWS::RDS::DBProxy", true) else { return };
        let instances = self.links_to(fields, "DBInstanceIdentifiers", "AWS::RDS::DBInstance");
        let clusters = self.links_to(fields, "DBClusterIdentifiers", "AWS::RDS::DBCluster");
        // CloudFormation writes the pool's settings with or without an `Info` about them.
        let key = "ConnectionPoolConfigurationInfo";
        let key = if fields.get(key).is_some() { key } else { "ConnectionPoolConfig" };
        let pool = fields.inner(key, &mut self.problems);
        let mut number = |key: &str, unit: &str, range| {
            pool.as_ref().and_then(|pool| pool.number(key, unit, range, &mut self.problems))
        };
        let most = number("MaxConnectionsPercent", "", 1..=100).unwrap_or(100);
        let idle = number("MaxIdleConnectionsPercent", "", 0..=most).unwrap_or(most / 2);
        let borrow = number("ConnectionBorrowTimeout", "seconds", 0..=300).unwrap_or(BORROW_TIMEOUT_S);
        let group = DbProxyTargetGroup {
            id: item.id.to_owned(),
            place: item.place(),
            proxy,
            instances,
            clusters,
            max_connections_percent: most,
            max_idle_connections_percent: idle,
            borrow_timeout_s: borrow,
            init_query: pool.as_ref().and_then(|pool| pool.string("InitQuery", &mut self.problems)),
            session_pinning_filters: pool
                .as_ref()
                .map(|pool| pool.strings("SessionPinningFilters", &mut self.problems))
                .unwrap_or_default(),
        };
        self.stack.db_proxy_target_groups.push(group);
    }

    fn secret(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let generate = fields.inner("GenerateSecretString", &mut self.problems);
        let generate = generate.map(|generate| GenerateSecret {
            length: generate.number("PasswordLength", "", 1..=4096, &mut self.problems).unwrap_or(32),
            exclude_characters: generate.string("ExcludeCharacters", &mut self.problems).unwrap_or_default(),
            exclude_punctuation: generate.boolean("ExcludePunctuation", false, &mut self.problems),
            template: generate.string("SecretStringTemplate", &mut self.problems),
            key: generate.string("GenerateStringKey", &mut self.problems),
        });
        let identity = self.resolver.identity(item.index);
        let secret = Secret {
            id: item.id.to_owned(),
            place: item.place(),
            name: identity.name(),
            arn: identity.arn(),
            value: fields.string("SecretString", &mut self.problems),
            generate,
        };
        self.stack.secrets.push(secret);
    }
}
