//! Where a connection is to go, as the user writes it.

use super::View;
use crate::Stop;
use crate::arguments::Transport;
use limits::network::{HostKind, service_address, service_of};
use model::name::dns_suffix_of;
use packets::{RESOLVER, RESOLVER6};
use std::net::{IpAddr, Ipv4Addr};

/// Stands for the address of a name of the outside, which is not asked for (RFC 5737: nobody's).
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(super) const LOOPBACK: &str =
    "that is the environment itself, where only what the function started listens";
const HTTPS: u16 = 443;
const HTTP: u16 = 80;
const DNS: u16 = 53;

/// A destination.
#[derive(Debug)]
pub(super) struct Destination {
    /// As it is called: with its port.
    pub(super) title: String,
    /// A name, or an address as text.
    pub(super) word: String,
    /// The host of a VPC that it is.
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) protocol: Transport,
    /// The ARN of the resource behind a service that was asked about.
    pub(super) resource: Option<String>,
}

/// What the user asks about.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Something to connect to.
    Place(Destination),
    /// A resource that nobody connects to.
    Resource(String),
}

impl Destination {
    pub(super) fn read(view: &View<'_>, text: &str, protocol: Transport) -> Result<Wanted, Stop> {
        let (text, scheme_port) = strip_scheme(text);
        let (word, port) = match view.called(text) {
            Some(id) => (id.to_owned(), None),
            None if text.starts_with("arn:") => {
                return Err(Stop::Usage(format!("no destination in the template has the ARN `{text}`")));
            }
            None => split_port(text)?,
        };
        if word.contains(|letter: char| letter.is_whitespace() || "/@?#[]\"".contains(letter)) {
            return Err(Stop::Usage(format!("`{word}` is no name, address or logical id")));
        }
        let last = word.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let is_address = word.parse::<IpAddr>().is_ok();
        // No domain ends in digits: whoever wrote them meant an address.
        if !is_address && (word.contains(':') || last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(Stop::Usage(format!("`{word}` is no address")));
        }
        // Names are the same in capitals, and with the root's dot.
        let word = match word.strip_suffix('.').unwrap_or(&word) {
            name if word.contains('.') && !view.stack.types.contains_key(&word) => name.to_ascii_lowercase(),
            _ => word,
        };
        if let Some((host, default)) = view.host_named(&word) {
            let port = port.or(scheme_port).unwrap_or(default);
            return Ok(Wanted::Place(Self::new(&word, Some(host), port, protocol)));
        }
        if let Some(service) = view.service_behind(&word) {
            let to = Self::new(&service, None, port.unwrap_or(HTTPS), protocol);
            return Ok(Wanted::Place(Self { resource: view.arn_of(&word), ..to }));
        }
        let is_id = view.stack.types.contains_key(&word) || !word.contains(['.', ':']);
        let is_resource = is_id && view.about(&word).is_ok();
        if is_resource {
            return Ok(Wanted::Resource(word));
        }
        if !word.contains(['.', ':']) && word != "localhost" {
            // An unknown word: most likely a slip in a logical id.
            view.about(&word)?;
        }
        let service_port = service_of(&word, &view.stack.region).map(|_| HTTPS);
        let port = match (port.or(scheme_port).or(service_port), protocol) {
            (Some(port), _) => port,
            (None, Transport::Icmp) => 0,
            (None, _) => {
                // With a port behind it, an address of IPv6 stands in brackets.
                let end = if word.parse::<std::net::Ipv6Addr>().is_ok() {
                    format!("[{word}]")
                } else {
                    word.clone()
                };
                return Err(Stop::Usage(format!("which port of {word}? Write {end}:443, for instance")));
            }
        };
        Ok(Wanted::Place(Self::new(&word, None, port, protocol)))
    }

    fn new(word: &str, host: Option<String>, port: u16, protocol: Transport) -> Self {
        let name = if word.contains(':') { format!("[{word}]") } else { word.to_owned() };
        let title = if protocol == Transport::Icmp { name } else { format!("{name}:{port}") };
        Self { title, word: word.to_owned(), host, port, protocol, resource: None }
    }

    /// The name that an address stands for, where the name's own is not asked for.
    pub(super) fn stands_for(&self, address: IpAddr) -> Option<&str> {
        let is_name = self.word.parse::<IpAddr>().is_err();
        (is_name && address == IpAddr::V4(SOMEWHERE)).then_some(&*self.word)
    }

    /// Why no packet ever leaves an environment for it, if so.
    pub(super) fn never_left(&self) -> Option<&'static str> {
        let is_named = self.word == "localhost" || self.word.ends_with(".localhost");
        match self.word.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() || address.is_unspecified() => Some(LOOPBACK),
            Ok(_) if self.asks_resolver(None) => None,
            Ok(address) if packets::is_martian(address) => Some(
                "nothing is routed there: not to link-local addresses (the metadata's among them), nor to many at once",
            ),
            Err(_) if is_named => Some(LOOPBACK),
            _ => None,
        }
    }

    /// The address as it was given, if the internet has nobody of that range.
    pub(super) fn private(&self) -> Option<IpAddr> {
        self.word.parse().ok().filter(|address| packets::is_private(*address))
    }

    /// Whether this is a question to the resolver of every VPC, or to that of one at its second address.
    pub(super) fn asks_resolver(&self, second: Option<Ipv4Addr>) -> bool {
        let is_resolver = match self.word.parse() {
            Ok(IpAddr::V4(address)) => address == RESOLVER || Some(address) == second,
            Ok(IpAddr::V6(address)) => address == RESOLVER6,
            Err(_) => false,
        };
        is_resolver && self.port == DNS && self.protocol != Transport::Icmp
    }

    /// Whether an address of IPv6 was given.
    pub(super) fn is_ipv6(&self) -> bool {
        self.word.parse::<std::net::Ipv6Addr>().is_ok()
    }

    /// Without its port.
    pub(super) fn name(&self) -> &str {
        self.title.strip_suffix(&format!(":{}", self.port)).unwrap_or(&self.title)
    }

    /// Its address for functions in a subnet, and how that was found.
    pub(super) fn seen_from(&self, view: &View<'_>, subnet: usize) -> (IpAddr, Option<String>) {
        let word = &*self.word;
        if let Ok(address) = word.parse() {
            return (address, None);
        }
        // A cluster's id is among the names of the instance that its endpoint leads to.
        let is_named = |host: &&limits::network::Host| host.names.iter().any(|name| name == word);
        let by_id = view.network.hosts.iter();
        let by_id = by_id.filter(|host| host.name == word || !word.contains('.') && is_named(host));
        let near = by_id.min_by_key(|host| host.subnet != Some(subnet));
        if let Some(host) = near {
            return (
                host.address.into(),
                host.names.first().map(|name| format!("{name} is {}", host.address)),
            );
        }
        let service = service_of(word, &view.stack.region);
        let public = service.as_deref().map(service_address);
        if let Some(address) = view.network.resolve(subnet, word).filter(|address| Some(*address) != public) {
            return (address.into(), Some(format!("{word} is {address}, inside the VPC")));
        }
        match service.zip(public) {
            Some((service, address)) => {
                (address.into(), Some(format!("{word} is the public {service} of AWS, here at {address}")))
            }
            None => (
                SOMEWHERE.into(),
                Some(format!("{word} is a name of the outside; its address is not asked for")),
            ),
        }
    }
}

impl View<'_> {
    /// The host of a VPC that a word means, by logical id or name, and its usual port.
    fn host_named(&self, word: &str) -> Option<(String, u16)> {
        let means = |host: &&limits::network::Host| {
            host.name == word
                || host.address.to_string() == word
                || host.names.iter().any(|name| name == word)
                || host.private_names.iter().any(|name| limits::network::means(name, word))
        };
        let host = self.network.hosts.iter().find(means)?;
        let port = match host.what {
            HostKind::Database(index) => self.network.databases.get(index).map(|found| found.port),
            HostKind::Proxy(index) => self.network.proxies.get(index).map(|found| found.port),
            HostKind::Endpoint(_) => Some(HTTPS),
            HostKind::Cache(index) => self.stack.caches.get(index)?.ports.first().copied(),
            HostKind::LoadBalancer(index) => self.stack.load_balancers.get(index)?.ports.first().copied(),
        };
        Some((host.name.clone(), port.unwrap_or(HTTPS)))
    }

    /// The logical id of what stands behind a service, by its name or ARN, of whichever account.
    fn called(&self, word: &str) -> Option<&str> {
        let stack = self.stack;
        // `cart:443` is a port.
        let word = if word.starts_with("arn:") { super::unqualified(word) } else { word };
        let function = stack.functions.iter().find(|found| found.name == word).map(|found| &found.id);
        let parameter = stack.ssm_parameters.iter().find(|found| found.name == word).map(|found| &found.id);
        let secret = stack.secrets.iter().find(|found| found.name == word).map(|found| &found.id);
        let other = stack.others.iter().find(|found| found.physical_id == word).map(|found| &found.id);
        let named = function.or(parameter).or(secret).or(other);
        let is_arn =
            |id: &&String| self.arn_of(id).is_some_and(|arn| without_account(&arn).eq(without_account(word)));
        let id = named.or_else(|| stack.types.keys().find(is_arn))?;
        self.service_behind(id).map(|_| &**id)
    }

    /// The ARN of a resource that stands behind a service, where it is known.
    fn arn_of(&self, id: &str) -> Option<String> {
        let stack = self.stack;
        if let Some(function) = stack.function(id) {
            return Some(function.arn.clone());
        }
        if let Some(secret) = stack.secrets.iter().find(|found| found.id == id) {
            return Some(secret.arn.clone());
        }
        let partition = model::name::partition_of(&stack.region);
        let of = |service: &str, rest: &str| {
            format!("arn:{partition}:{service}:{}:{}:{rest}", stack.region, stack.account_id)
        };
        if let Some(parameter) = stack.ssm_parameters.iter().find(|found| found.id == id) {
            return Some(of("ssm", &format!("parameter/{}", parameter.name.trim_start_matches('/'))));
        }
        let other = stack.others.iter().find(|found| found.id == id)?;
        match &*other.resource_type {
            "AWS::S3::Bucket" => Some(format!("arn:{partition}:s3:::{}", other.physical_id)),
            "AWS::DynamoDB::Table" => Some(of("dynamodb", &format!("table/{}", other.physical_id))),
            _ => None,
        }
    }

    /// The host name of AWS by which functions reach a resource that stands behind a service.
    pub(super) fn service_behind(&self, id: &str) -> Option<String> {
        let (stack, region) = (self.stack, &self.stack.region);
        let of = |service: &str| Some(format!("{service}.{region}.{}", dns_suffix_of(region)));
        if stack.function(id).is_some() {
            return of("lambda");
        }
        if stack.ssm_parameters.iter().any(|found| found.id == id) {
            return of("ssm");
        }
        if stack.secrets.iter().any(|found| found.id == id) {
            return of("secretsmanager");
        }
        let http = stack.http_apis.iter().find(|api| api.id == id).map(|api| &api.api_id);
        let rest = stack.rest_apis.iter().find(|api| api.id == id).map(|api| &api.api_id);
        if let Some(api) = http.or(rest) {
            return of(&format!("{api}.execute-api"));
        }
        let other = stack.others.iter().find(|found| found.id == id)?;
        match other.resource_type.split("::").nth(1)? {
            "S3" => of("s3"),
            "DynamoDB" => of("dynamodb"),
            "SQS" => of("sqs"),
            "SNS" => of("sns"),
            "Kinesis" => of("kinesis"),
            "KMS" => of("kms"),
            "StepFunctions" => of("states"),
            "Events" => of("events"),
            _ => None,
        }
    }
}

/// The parts of an ARN but for its account.
fn without_account(arn: &str) -> impl Iterator<Item = &str> {
    arn.splitn(6, ':').enumerate().filter(|(index, _)| *index != 4).map(|(_, part)| part)
}

/// Takes `https://` and a path off, as people copy them.
fn strip_scheme(text: &str) -> (&str, Option<u16>) {
    let Some((scheme, rest)) = text.split_once("://") else { return (text, None) };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    // Names and passwords are nobody's business.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let port = match scheme {
        "https" => Some(HTTPS),
        "http" => Some(HTTP),
        "postgres" | "postgresql" => Some(5432),
        "mysql" => Some(3306),
        "redis" => Some(6379),
        _ => None,
    };
    (rest, port)
}

/// `host:port`, `[v6]:port`, or one of them without a port.
fn split_port(text: &str) -> Result<(String, Option<u16>), Stop> {
    let port = |port: &str| match port.parse::<u16>() {
        Ok(0) | Err(_) => Err(Stop::Usage(format!("`{port}` is no port; ports are 1 to 65535"))),
        Ok(port) => Ok(Some(port)),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return Err(Stop::Usage(format!("`{text}` is not of the form [address]:port")));
        };
        return Ok((address.to_owned(), rest.strip_prefix(':').map(port).transpose()?.flatten()));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((text.to_owned(), None));
    }
    match text.rsplit_once(':') {
        Some((host, found)) if !host.is_empty() => Ok((host.to_owned(), port(found)?)),
        Some(_) => Err(Stop::Usage(format!("`{text}` names no host"))),
        None if text.is_empty() => Err(Stop::Usage("the destination is empty".to_owned())),
        None => Ok((text.to_owned(), None)),
    }
}
