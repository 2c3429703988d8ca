//! What an extension asks for: read from the request's body, every problem named.

use super::Api;
use super::buffer::Limits;
use serde::Deserialize;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The Runtime API's own port, which nobody else can have.
const RESERVED_PORT: u16 = 9001;
/// Longest path of a destination, in bytes.
const PATH_BYTES_MAX: usize = 1_024;
/// Names under which an environment finds itself.
const HOSTS: [&str; 2] = ["sandbox.localdomain", "sandbox"];

const ITEMS: RangeInclusive<u64> = 1_000..=10_000;
const BYTES: RangeInclusive<u64> = 262_144..=1_048_576;
const TIMEOUT_MS: RangeInclusive<u64> = 25..=30_000;

/// What an event tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Platform,
    Function,
    Extension,
}

const KINDS: [(&str, Kind); 3] =
    [("platform", Kind::Platform), ("function", Kind::Function), ("extension", Kind::Extension)];

/// The shapes that events come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// 2022-07-01: lines are strings.
    Telemetry,
    /// 2022-12-13 and 2025-01-29: a function's lines that are JSON objects stay so.
    StructuredTelemetry,
    /// 2020-08-15.
    Logs,
    /// 2021-03-18, which adds `platform.runtimeDone`.
    LaterLogs,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) is_http: bool,
    pub(super) port: u16,
    /// With its leading slash.
    pub(super) path: String,
}

/// A subscription that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) schema: Schema,
    pub(super) types: Vec<Kind>,
    pub(super) destination: Destination,
    pub(super) limits: Limits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    schema_version: Option<String>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    buffering: Buffering,
    destination: Option<Place>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Buffering {
    max_items: Option<u64>,
    max_bytes: Option<u64>,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Place {
    protocol: Option<String>,
    #[serde(rename = "URI", alias = "uri")]
    uri: Option<String>,
    /// Of TCP, instead of an URI.
    port: Option<u64>,
}

impl Wanted {
    /// Reads the request's body.
    ///
    /// # Errors
    /// Every problem, joined by `; `.
    pub(super) fn parse(api: Api, body: &[u8]) -> Result<Self, String> {
        let request: Request = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let mut problems = Vec::new();
        let schema = match (api, request.schema_version.as_deref()) {
            (Api::Telemetry, Some("2022-07-01")) => Schema::Telemetry,
            (Api::Telemetry, Some("2022-12-13" | "2025-01-29")) => Schema::StructuredTelemetry,
            (Api::Logs, None | Some("2020-08-15")) => Schema::Logs,
            (Api::Logs, Some("2021-03-18")) => Schema::LaterLogs,
            (_, given) => {
                problems.push(match given {
                    Some(given) => format!("schemaVersion {given:?} is not supported"),
                    None => "schemaVersion is not provided".to_owned(),
                });
                Schema::Telemetry
            }
        };
        let destination = request.destination.map(|place| place.check(&mut problems));
        if destination.is_none() {
            problems.push("destination is not provided".to_owned());
        }
        let types = kinds(&request.types, &mut problems);
        let Buffering { max_items, max_bytes, timeout_ms } = request.buffering;
        let mut within = |name: &str, value: Option<u64>, range: RangeInclusive<u64>| {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                let (least, most) = (range.start(), range.end());
                problems.push(format!("buffering.{name} {value} is not between {least} and {most}"));
            }
            value.and_then(|value| usize::try_from(value).ok())
        };
        let usual = Limits::default();
        let limits = Limits {
            items: within("maxItems", max_items, ITEMS).unwrap_or(usual.items),
            bytes: within("maxBytes", max_bytes, BYTES).unwrap_or(usual.bytes),
            timeout: within("timeoutMs", timeout_ms, TIMEOUT_MS)
                .map_or(usual.timeout, |milliseconds| Duration::from_millis(milliseconds as u64)),
        };
        match destination.flatten() {
            Some(destination) if problems.is_empty() => Ok(Self { schema, types, destination, limits }),
            _ => Err(problems.join("; ")),
        }
    }

    /// The types by name, in the order asked for.
    pub(super) fn type_names(&self) -> Vec<&'static str> {
        let name = |kind: &Kind| KINDS.iter().find(|(_, known)| known == kind).map(|(name, _)| *name);
        self.types.iter().filter_map(name).collect()
    }
}

fn kinds(types: &[String], problems: &mut Vec<String>) -> Vec<Kind> {
    if types.is_empty() {
        problems.push("types should not be empty".to_owned());
    }
    let mut kinds = Vec::new();
    for name in types {
        match KINDS.iter().find(|(known, _)| known == name) {
            Some((_, kind)) if kinds.contains(kind) => {}
            Some((_, kind)) => kinds.push(*kind),
            None => {
                problems
                    .push(format!("types holds {name:?}, which is none of platform, function, extension"));
            }
        }
    }
    kinds
}

impl Place {
    fn check(self, problems: &mut Vec<String>) -> Option<Destination> {
        let before = problems.len();
        let is_http = match self.protocol.as_deref() {
            Some("HTTP") => true,
            Some("TCP") => false,
            other => {
                problems.push(format!("protocol {:?} is neither HTTP nor TCP", other.unwrap_or("")));
                false
            }
        };
        let (port, path) = match (self.uri.as_deref(), self.port) {
            (Some(uri), _) => split(uri, is_http, problems),
            (None, Some(port)) if !is_http => (u16::try_from(port).ok(), "/".to_owned()),
            (None, _) => {
                problems.push("URI is not provided".to_owned());
                return None;
            }
        };
        match port {
            None | Some(0) => problems.push("URI port is not provided".to_owned()),
            Some(RESERVED_PORT) => problems.push(format!("URI port {RESERVED_PORT} is reserved")),
            Some(_) => {}
        }
        let port = port?;
        (problems.len() == before).then_some(Destination { is_http, port, path })
    }
}

/// Port and path of `http://sandbox.localdomain:PORT/PATH` or `tcp://sandbox.localdomain:PORT`.
fn split(uri: &str, is_http: bool, problems: &mut Vec<String>) -> (Option<u16>, String) {
    let scheme = if is_http { "http://" } else { "tcp://" };
    let rest = uri.strip_prefix(scheme).or_else(|| uri.strip_prefix("http://").filter(|_| !is_http));
    let Some(rest) = rest else {
        problems.push(format!("URI does not begin with {scheme}"));
        return (Some(1), String::new());
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    if !HOSTS.contains(&host) {
        problems.push(format!("URI host should be {}", HOSTS[0]));
    }
    // It becomes part of a request's first line.
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || path.len() > PATH_BYTES_MAX {
        problems.push("URI path is not valid".to_owned());
    }
    let digits = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    (digits.and_then(|port| port.parse().ok()), path.to_owned())
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "what `json!` makes is handed on as it is")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(api: Api, body: Value) -> Result<Wanted, String> {
        Wanted::parse(api, body.to_string().as_bytes())
    }

    fn with(destination: Value) -> Value {
        json!({"schemaVersion": "2022-07-01", "types": ["platform"], "destination": destination})
    }

    #[test]
    fn a_whole_subscription_is_understood() {
        let wanted = parse(
            Api::Telemetry,
            json!({
                "schemaVersion": "2022-12-13",
                "types": ["platform", "function", "extension", "function"],
                "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
                "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/in?x=1"},
            }),
        )
        .unwrap();
        assert_eq!(wanted.type_names(), ["platform", "function", "extension"]);
        assert_eq!(wanted.schema, Schema::StructuredTelemetry);
        assert_eq!((wanted.limits.items, wanted.limits.timeout), (1_000, Duration::from_millis(25)));
        let destination = Destination { is_http: true, port: 4243, path: "/in?x=1".into() };
        assert_eq!(wanted.destination, destination);
    }

    #[test]
    fn the_logs_api_has_versions_of_its_own_and_ports_for_tcp() {
        let logs = |version: Value| json!({"schemaVersion": version, "types": ["function"], "destination": {"protocol": "TCP", "port": 1701}});
        let found =
            |version| parse(Api::Logs, logs(version)).map(|wanted| (wanted.schema, wanted.destination.port));
        assert_eq!(found(Value::Null), Ok((Schema::Logs, 1701)));
        assert_eq!(found("2021-03-18".into()), Ok((Schema::LaterLogs, 1701)));
        assert!(found("2022-07-01".into()).is_err());
        let tcp = with(json!({"protocol": "TCP", "URI": "tcp://sandbox.localdomain:1701"}));
        assert_eq!(parse(Api::Telemetry, tcp).unwrap().destination.port, 1701);
    }

    #[test]
    fn every_problem_is_named() {
        let nothing = json!({"schemaVersion": "2022-07-01", "types": [], "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain"}});
        assert_eq!(
            parse(Api::Telemetry, nothing).unwrap_err(),
            "URI port is not provided; types should not be empty"
        );
        let limits = json!({"schemaVersion": "x", "types": ["all"], "buffering": {"maxItems": 1, "maxBytes": 1, "timeoutMs": 1}});
        let problems = parse(Api::Telemetry, limits).unwrap_err();
        for word in [
            "schemaVersion \"x\"",
            "destination is not",
            "\"all\"",
            "maxItems 1",
            "maxBytes 1",
            "timeoutMs 1",
        ] {
            assert!(problems.contains(word), "{word}: {problems}");
        }
        assert!(Wanted::parse(Api::Telemetry, b"[").is_err());
    }

    #[test]
    fn nothing_outside_the_environment_is_a_destination() {
        for uri in [
            "http://127.0.0.1:80/",
            "http://example.com:80/",
            "http://sandbox.localdomain@example.com:80/",
            "http://sandbox.localdomain:80:80/",
            "http://sandbox.localdomain:+80/",
            "http://sandbox.localdomain:99999/",
            "http://sandbox.localdomain:0/",
            "http://sandbox.localdomain:9001/2018-06-01",
            "http://sandbox.localdomain:80/a\r\nHost: x",
            "https://sandbox.localdomain:80/",
            "sandbox.localdomain:80",
            "",
        ] {
            let destination = json!({"protocol": "HTTP", "URI": uri});
            assert!(parse(Api::Telemetry, with(destination)).is_err(), "{uri}");
        }
        assert!(parse(Api::Telemetry, with(json!({"protocol": "UDP", "port": 5}))).is_err());
    }
}
