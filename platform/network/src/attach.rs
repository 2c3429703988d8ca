//! `--attach`: which real servers stand at the addresses and names that a template gives.
//!
//! | form | meaning |
//! |---|---|
//! | `OrdersDatabase=localhost:5432` | the resource with this logical id, at its own address and port |
//! | `cache.example.com:443=localhost:6379` | this name (or address) and port |
//! | `s3=localhost:9000`, `s3=https://…` | every name of an AWS service of the Region |

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use model::stack::{DbClusterPart, EndpointKind, Stack};
use template::yaml::did_you_mean;

use crate::names::Name;

/// Most `--attach` options. Each name needs an address of 198.19.192.0/18.
pub const ATTACHMENTS_MAX: usize = 4_096;
/// Longest text of one option, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Services that can be attached by their short name, as in their host names; `dynamodb` in
/// `dynamodb.us-east-1.amazonaws.com`.
pub const ATTACHABLE_SERVICES: [&str; 27] = [
    "athena",
    "bedrock-runtime",
    "cloudformation",
    "cognito-idp",
    "dynamodb",
    "ec2",
    "ecr",
    "email",
    "events",
    "firehose",
    "glue",
    "iam",
    "kinesis",
    "kms",
    "lambda",
    "logs",
    "monitoring",
    "rds",
    "s3",
    "scheduler",
    "secretsmanager",
    "sns",
    "sqs",
    "ssm",
    "states",
    "sts",
    "xray",
];

/// Where a real server listens, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name that the host resolves, or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS; only AWS services can be told so (`https://`).
    pub tls: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https://" } else { "" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}{}:{}", self.host, self.port),
        }
    }
}

/// What a name is: a host name, or an address as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A host name.
    Name(Name),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// All that is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// By logical id: the ports there (none: every port), and the server.
    pub resources: BTreeMap<String, (Vec<u16>, Server)>,
    /// By name or address, and port.
    pub places: BTreeMap<(Place, u16), Server>,
    /// By an AWS service's short name.
    pub services: BTreeMap<String, Server>,
}

/// Why an option cannot be read. Every text says which option and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--attach {option}: {problem}")]
pub struct AttachError {
    /// The option as it was given, shortened.
    pub option: String,
    /// What is wrong.
    pub problem: AttachProblem,
}

/// What is wrong with an option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachProblem {
    /// No `=`, or nothing on one of its sides.
    #[error("expected LOGICAL_ID=HOST:PORT, NAME:PORT=HOST:PORT or SERVICE=HOST:PORT")]
    Form,
    /// The right side has no port.
    #[error("`{0}` has no port; write HOST:PORT")]
    NoPort(String),
    /// A port that is none.
    #[error("`{0}` is no port; it must be a number from 1 to 65535")]
    Port(String),
    /// A host name that is none.
    #[error("`{0}` is no host name or address")]
    Host(String),
    /// A place for which no packet leaves an environment.
    #[error("no packet leaves an environment for {0}; give the server a name")]
    Inside(String),
    /// A name that stands for many.
    #[error("`{0}` is a pattern; attach each name")]
    Pattern(String),
    /// `https://` for something else than an AWS service.
    #[error("`https://` is for AWS services; here the bytes pass as they are, TLS included: write HOST:PORT")]
    Scheme,
    /// A word that is neither in the template nor a service.
    #[error("`{word}` is neither a resource of the template that can be attached nor an AWS service{hint}")]
    Unknown {
        /// The word.
        word: String,
        /// What is near or there.
        hint: String,
    },
    /// A resource without an address in a VPC.
    #[error("{id} is {kind}, which has no address of its own in a VPC here; {hint}")]
    NoAddress {
        /// Its logical id.
        id: String,
        /// Its type.
        kind: String,
        /// What to write instead.
        hint: String,
    },
    /// The same place twice.
    #[error("{0} is attached already, to {1}")]
    Twice(String, Server),
    /// Too many.
    #[error("more than {ATTACHMENTS_MAX} attachments")]
    TooMany,
}

impl Attachments {
    /// Reads the options in their order. Without a template there are no logical ids.
    ///
    /// # Errors
    /// The first option that cannot be read.
    pub fn parse(options: &[String], stack: Option<&Stack>) -> Result<Self, AttachError> {
        let mut all = Self::default();
        for (index, option) in options.iter().enumerate() {
            let added =
                if index < ATTACHMENTS_MAX { all.add(option, stack) } else { Err(AttachProblem::TooMany) };
            added.map_err(|problem| AttachError { option: option.chars().take(200).collect(), problem })?;
        }
        Ok(all)
    }

    /// Whether nothing is attached.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.places.is_empty() && self.services.is_empty()
    }

    fn add(&mut self, option: &str, stack: Option<&Stack>) -> Result<(), AttachProblem> {
        let (left, right) = option.split_once('=').ok_or(AttachProblem::Form)?;
        let (left, right) = (left.trim(), right.trim());
        if left.is_empty() || right.is_empty() || option.len() > TEXT_BYTES_MAX {
            return Err(AttachProblem::Form);
        }
        if left.contains(':') {
            let server = server(right, false)?;
            let (host, port) = host_and_port(left)?;
            let place = match host.parse() {
                Ok(address) if packets::is_martian(address) => return Err(AttachProblem::Inside(host)),
                Ok(address) => Place::Address(address),
                Err(_) => Place::Name(outer_name(host)?),
            };
            return put(&mut self.places, (place.clone(), port), server, || format!("{place}:{port}"));
        }
        // What is attached to a database cluster is attached to its writer.
        let left = stack.and_then(|stack| writer_of(stack, left)).unwrap_or(left);
        if let Some(ports) = stack.and_then(|stack| ports_of(stack, left)) {
            let server = server(right, false)?;
            if let Some((_, there)) = self.resources.get(left) {
                return Err(AttachProblem::Twice(left.to_owned(), there.clone()));
            }
            self.resources.insert(left.to_owned(), (ports, server));
            return Ok(());
        }
        if ATTACHABLE_SERVICES.contains(&left) {
            let server = server(right, true)?;
            return put(&mut self.services, left.to_owned(), server, || left.to_owned());
        }
        Err(unknown(left, stack))
    }
}

fn put<K: Ord>(
    map: &mut BTreeMap<K, Server>,
    key: K,
    server: Server,
    name: impl FnOnce() -> String,
) -> Result<(), AttachProblem> {
    if let Some(there) = map.get(&key) {
        return Err(AttachProblem::Twice(name(), there.clone()));
    }
    map.insert(key, server);
    Ok(())
}

/// A name that functions ask the resolver for.
fn outer_name(host: String) -> Result<Name, AttachProblem> {
    match Name::new(&host) {
        None => Err(AttachProblem::Host(host)),
        Some(name) if name.as_str().starts_with('*') => Err(AttachProblem::Pattern(host)),
        Some(name) if name.as_str().rsplit('.').next() == Some("localhost") => {
            Err(AttachProblem::Inside(host))
        }
        Some(name) => Ok(name),
    }
}

/// The instance to which a database cluster's endpoint leads.
fn writer_of<'a>(stack: &'a Stack, cluster: &str) -> Option<&'a str> {
    let is_writer = |part: &DbClusterPart| part.writer && part.id == cluster;
    let writer = stack.db_instances.iter().find(|found| found.cluster.as_ref().is_some_and(is_writer))?;
    Some(&writer.id)
}

/// The ports at which a resource of the template answers, none for every port; `None` when it is no such resource.
pub(crate) fn ports_of(stack: &Stack, id: &str) -> Option<Vec<u16>> {
    if let Some(instance) = stack.db_instances.iter().find(|instance| instance.id == id) {
        return Some(vec![instance.port]);
    }
    if let Some(cache) = stack.caches.iter().find(|cache| cache.id == id) {
        return Some(cache.ports.clone());
    }
    let endpoint = stack
        .vpc_endpoints
        .iter()
        .any(|endpoint| endpoint.id == id && endpoint.kind == EndpointKind::Interface);
    if endpoint || stack.load_balancers.iter().any(|balancer| balancer.id == id) {
        return Some(Vec::new());
    }
    let proxy = stack.db_proxies.iter().find(|proxy| proxy.id == id)?;
    Some(vec![match proxy.engine_family.as_str() {
        "MYSQL" => 3306,
        "SQLSERVER" => 1433,
        _ => 5432,
    }])
}

fn unknown(word: &str, stack: Option<&Stack>) -> AttachProblem {
    let other = stack.and_then(|stack| stack.others.iter().find(|other| other.id == word));
    if let Some(other) = other {
        let service = other.resource_type.split("::").nth(1).unwrap_or_default().to_ascii_lowercase();
        let hint = match ATTACHABLE_SERVICES.contains(&service.as_str()) {
            true => format!("attach its service: {service}=HOST:PORT"),
            false => "attach the name that functions use: NAME:PORT=HOST:PORT".to_owned(),
        };
        return AttachProblem::NoAddress { id: word.to_owned(), kind: other.resource_type.clone(), hint };
    }
    let attachable = || {
        let databases =
            stack.into_iter().flat_map(|stack| stack.db_instances.iter().map(|it| it.id.as_str()));
        let proxies = stack.into_iter().flat_map(|stack| stack.db_proxies.iter().map(|it| it.id.as_str()));
        let balancers =
            stack.into_iter().flat_map(|stack| stack.load_balancers.iter().map(|it| it.id.as_str()));
        let endpoints = stack.into_iter().flat_map(|stack| &stack.vpc_endpoints);
        let endpoints = endpoints.filter(|it| it.kind == EndpointKind::Interface).map(|it| it.id.as_str());
        let caches = stack.into_iter().flat_map(|stack| stack.caches.iter().map(|it| it.id.as_str()));
        databases.chain(proxies).chain(caches).chain(balancers).chain(endpoints)
    };
    let near = did_you_mean(word, attachable().chain(ATTACHABLE_SERVICES));
    let hint = match near {
        Some(near) => format!("; {near}"),
        None if word.contains('.') => format!("; a name needs its port: {word}:PORT=HOST:PORT"),
        None => match attachable().collect::<Vec<_>>() {
            there if there.is_empty() => String::new(),
            there => format!("; there is {}", there.join(", ")),
        },
    };
    AttachProblem::Unknown { word: word.to_owned(), hint }
}

fn server(text: &str, service: bool) -> Result<Server, AttachProblem> {
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) if service => (false, rest),
        Some(("https", rest)) if service => (true, rest),
        Some(_) => return Err(AttachProblem::Scheme),
        None => (false, text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match host_and_port(rest) {
        // A URL has a port of its own.
        Err(AttachProblem::NoPort(host)) if text.contains("://") => {
            (checked_host(&host)?, if tls { 443 } else { 80 })
        }
        found => found?,
    };
    Ok(Server { host, port, tls })
}

fn host_and_port(text: &str) -> Result<(String, u16), AttachProblem> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| AttachProblem::Host(text.to_owned()))?;
            (host, rest.strip_prefix(':').ok_or_else(|| AttachProblem::NoPort(text.to_owned()))?)
        }
        None => text.rsplit_once(':').ok_or_else(|| AttachProblem::NoPort(text.to_owned()))?,
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|number| digits && *number > 0);
    let number = number.ok_or_else(|| AttachProblem::Port(port.to_owned()))?;
    Ok((checked_host(host)?, number))
}

fn checked_host(host: &str) -> Result<String, AttachProblem> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    Name::new(host).map(|name| name.to_string()).ok_or_else(|| AttachProblem::Host(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::stack::{DbInstance, OtherResource, Place as TextPlace};

    fn stack() -> Stack {
        let database = DbInstance {
            id: "OrdersDatabase".into(),
            place: TextPlace::default(),
            identifier: "orders".into(),
            class: "db.t4g.micro".into(),
            engine: "postgres".into(),
            engine_version: None,
            allocated_storage_gb: None,
            username: None,
            password: None,
            managed_password: false,
            database: None,
            port: 5433,
            address: "orders.x.us-east-1.rds.amazonaws.com".into(),
            subnet_group: None,
            security_groups: vec![],
            parameter_group: None,
            multi_az: false,
            publicly_accessible: false,
            cluster: Some(DbClusterPart { id: "Aurora".into(), writer: true, ..DbClusterPart::default() }),
        };
        let table = OtherResource {
            id: "Carts".into(),
            resource_type: "AWS::DynamoDB::Table".into(),
            physical_id: "carts".into(),
            place: TextPlace::default(),
        };
        Stack { db_instances: vec![database], others: vec![table], ..Stack::default() }
    }

    fn parse(options: &[&str]) -> Result<Attachments, String> {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        Attachments::parse(&options, Some(&stack())).map_err(|error| error.to_string())
    }

    #[test]
    fn resources_names_addresses_and_services_are_told_apart() {
        let all = parse(&[
            "OrdersDatabase=localhost:5432",
            "Cache.Example.com.:443=[::1]:6379",
            "10.0.0.7:80=127.0.0.1:8080",
            "s3=https://minio.test",
            "dynamodb=http://localhost:8000/",
        ])
        .unwrap();
        assert_eq!(all.resources["OrdersDatabase"].0, [5433]);
        let of_cluster = parse(&["Aurora=localhost:5432"]).unwrap();
        assert_eq!(of_cluster.resources["OrdersDatabase"].0, [5433], "a cluster's server is its writer's");
        let cache = &all.places[&(Place::Name(Name::new("cache.example.com").unwrap()), 443)];
        assert_eq!(
            (cache.host.as_str(), cache.port, cache.to_string().as_str()),
            ("::1", 6379, "[::1]:6379")
        );
        assert!(all.places.contains_key(&(Place::Address("10.0.0.7".parse().unwrap()), 80)));
        assert_eq!(all.services["s3"], Server { host: "minio.test".into(), port: 443, tls: true });
        assert_eq!(all.services["dynamodb"].to_string(), "localhost:8000");
    }

    #[test]
    fn mistakes_are_named_with_their_cure() {
        for (option, expected) in [
            ("OrdersDatabas=localhost:1", "did you mean `OrdersDatabase`?"),
            ("OrdersDatabase", "expected LOGICAL_ID=HOST:PORT"),
            ("OrdersDatabase=", "expected LOGICAL_ID=HOST:PORT"),
            ("OrdersDatabase=localhost", "`localhost` has no port"),
            ("OrdersDatabase=localhost:0", "`0` is no port"),
            ("OrdersDatabase=localhost:+80", "`+80` is no port"),
            ("OrdersDatabase=localhost:65536", "`65536` is no port"),
            ("OrdersDatabase=https://localhost:1", "`https://` is for AWS services"),
            ("OrdersDatabase=a b:1", "`a b` is no host name"),
            ("cache.example.com=localhost:1", "a name needs its port: cache.example.com:PORT"),
            ("Carts=localhost:8000", "attach its service: dynamodb=HOST:PORT"),
            ("*.example.com:443=localhost:1", "`*.example.com` is a pattern"),
            ("localhost:5432=localhost:5432", "no packet leaves an environment for localhost"),
            ("db.localhost:5432=localhost:5432", "for db.localhost"),
            ("127.0.0.1:80=localhost:1", "give the server a name"),
            ("[::1]:80=localhost:1", "give the server a name"),
            ("169.254.169.254:80=localhost:1", "for 169.254.169.254"),
            ("dynamobd=localhost:8000", "did you mean `dynamodb`?"),
        ] {
            let error = parse(&[option]).unwrap_err();
            assert!(error.contains(expected), "{option}: {error}");
        }
        let error = parse(&["a.test:1=localhost:1", "A.test:1=localhost:2"]).unwrap_err();
        assert!(error.contains("a.test:1 is attached already, to localhost:1"), "{error}");
        let error = parse(&["s3=localhost:1", "s3=localhost:2"]).unwrap_err();
        assert!(error.contains("s3 is attached already"), "{error}");
    }
}
