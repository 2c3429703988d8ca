//! HTTP request to event, payload format 2.0.
//!
//! Source: API Gateway Developer Guide, "Create AWS Lambda proxy integrations for HTTP APIs", payload format 2.0;
//! Lambda Developer Guide, "Invoking Lambda function URLs", request payload format.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Largest event, in bytes. Source: Lambda quotas, 6 MB synchronous payload; a body that is sent as base64 reaches it at about
/// 4.5 MB.
pub const BYTES_MAX: usize = 6_291_456;

/// What a door knows about a request beyond its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    /// Account of the function.
    pub account_id: &'a str,
    /// API id, or id of the function URL.
    pub api_id: &'a str,
    /// Host name under which AWS would serve the door.
    pub domain_name: &'a str,
    /// `$default`, or the route's key.
    pub route_key: &'a str,
    /// The stage's name.
    pub stage: &'a str,
    /// Path parameters that the route's template captured.
    pub path_parameters: Option<&'a BTreeMap<String, String>>,
    /// Variables of the stage.
    pub stage_variables: Option<&'a BTreeMap<String, String>>,
    /// Who signed the request, where the door asks for `AWS_IAM`.
    pub signer: Option<IamCaller<'a>>,
    /// What a Lambda authorizer handed on; `null` where it handed on nothing.
    pub authorizer: Option<&'a serde_json::Value>,
    /// Function URLs write absent members as `null`, HTTP APIs leave them out.
    pub nulls: bool,
}

/// Who signed a request: an account's access key.
#[derive(Clone, Copy, Debug)]
pub struct IamCaller<'a> {
    /// The key's id.
    pub access_key_id: &'a str,
    /// The account that the key is of.
    pub account_id: &'a str,
    /// The partition of the door's Region.
    pub partition: &'a str,
}

/// The request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// `GET`.
    pub method: &'a str,
    /// Path, still percent-encoded, with the stage prefix of a named stage.
    pub raw_path: &'a str,
    /// Query, without its question mark.
    pub raw_query: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Who called.
    pub source_ip: IpAddr,
    /// The port that was called.
    pub port: u16,
    /// The door's request id.
    pub request_id: &'a str,
    /// X-Ray header.
    pub trace_id: &'a str,
    /// Milliseconds of Unix time.
    pub now_ms: u64,
    /// The body.
    pub body: &'a Bytes,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'a str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<&'a str>,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    path_parameters: Maybe<&'a BTreeMap<String, String>>,
    is_base64_encoded: bool,
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    stage_variables: Maybe<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Maybe::is_absent")]
    authentication: Maybe<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'a str,
    stage: &'a str,
    time: String,
    time_epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: String,
    user_agent: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Authorizer<'a> {
    Iam(Iam<'a>),
    Lambda(&'a serde_json::Value),
}

/// Source: Lambda Developer Guide, "Invoking Lambda function URLs", request payload format, `requestContext.authorizer`;
/// the caller is an account's root, as GetCallerIdentity says here, so no organisation and no user pool is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Iam<'a> {
    access_key: &'a str,
    account_id: &'a str,
    caller_id: &'a str,
    cognito_identity: (),
    principal_org_id: (),
    user_arn: String,
    user_id: &'a str,
}

/// A member that is there, is `null`, or is left out.
enum Maybe<T> {
    Value(T),
    Null,
    Absent,
}

impl<T> Maybe<T> {
    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    fn of(value: Option<T>, nulls: bool) -> Self {
        match (value, nulls) {
            (Some(value), _) => Self::Value(value),
            (None, true) => Self::Null,
            (None, false) => Self::Absent,
        }
    }
}

impl<T: Serialize> Serialize for Maybe<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Null | Self::Absent => serializer.serialize_none(),
        }
    }
}

/// The event for a request, as JSON.
pub fn encode(door: &Door<'_>, incoming: &Incoming<'_>) -> Bytes {
    let (body, is_base64_encoded) = encode_body(incoming.headers, incoming.body);
    let parameters = door.path_parameters.filter(|parameters| !parameters.is_empty());
    let variables = door.stage_variables.filter(|variables| !variables.is_empty());
    let event = Event {
        version: "2.0",
        route_key: door.route_key,
        raw_path: incoming.raw_path,
        raw_query_string: incoming.raw_query,
        cookies: cookies(incoming.headers),
        headers: headers(door, incoming),
        query_string_parameters: query(incoming.raw_query),
        request_context: Context {
            account_id: door.account_id,
            api_id: door.api_id,
            authentication: Maybe::of(None, door.nulls),
            authorizer: door.signer.map(authorizer).or(door.authorizer.map(Authorizer::Lambda)),
            domain_name: door.domain_name,
            domain_prefix: door.domain_name.split('.').next().unwrap_or(door.domain_name),
            http: Http {
                method: incoming.method,
                path: incoming.raw_path,
                protocol: "HTTP/1.1",
                source_ip: incoming.source_ip.to_string(),
                user_agent: text(incoming.headers, &USER_AGENT),
            },
            request_id: incoming.request_id,
            route_key: door.route_key,
            stage: door.stage,
            time: telemetry::apache_time(incoming.now_ms),
            time_epoch: incoming.now_ms,
        },
        body,
        path_parameters: Maybe::of(parameters, door.nulls),
        is_base64_encoded,
        stage_variables: Maybe::of(variables, door.nulls),
    };
    // Strings and maps of strings: nothing here can fail to become JSON.
    serde_json::to_vec(&event).unwrap_or_default().into()
}

fn authorizer(caller: IamCaller<'_>) -> Authorizer<'_> {
    let IamCaller { access_key_id, account_id, partition } = caller;
    Authorizer::Iam(Iam {
        access_key: access_key_id,
        account_id,
        caller_id: account_id,
        cognito_identity: (),
        principal_org_id: (),
        user_arn: format!("arn:{partition}:iam::{account_id}:root"),
        user_id: account_id,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).map(str::trim).filter(|cookie| !cookie.is_empty()).collect()
}

/// Lower-case names, duplicates joined by a comma, cookies left out; with what a load balancer in front adds.
fn headers(door: &Door<'_>, incoming: &Incoming<'_>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in incoming.headers {
        if name == COOKIE || name == http::header::CONNECTION || name == http::header::TRANSFER_ENCODING {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        match all.get_mut(name.as_str()) {
            Some(earlier) => {
                earlier.push(',');
                earlier.push_str(&value);
            }
            None => drop(all.insert(name.as_str().to_owned(), value.into_owned())),
        }
    }
    let source_ip = incoming.source_ip.to_string();
    all.entry("x-forwarded-for".to_owned()).or_insert(source_ip);
    all.entry("x-forwarded-port".to_owned()).or_insert_with(|| incoming.port.to_string());
    all.entry("x-forwarded-proto".to_owned()).or_insert_with(|| "http".to_owned());
    all.insert("x-amzn-trace-id".to_owned(), incoming.trace_id.to_owned());
    if !all.contains_key(HOST.as_str()) {
        all.insert(HOST.as_str().to_owned(), door.domain_name.to_owned());
    }
    all
}

/// Decoded names and values; values of one name joined by a comma.
fn query(raw: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name, true), decode(value, true));
        match all.get_mut(&name) {
            Some(earlier) => {
                earlier.push(',');
                earlier.push_str(&value);
            }
            None => drop(all.insert(name, value)),
        }
    }
    all
}

/// Percent-decoding; malformed escapes stay as they are, bytes that are not UTF-8 are replaced.
pub fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |index: usize| bytes.get(index).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
                continue;
            }
            (b'+', _, _) if plus_is_space => decoded.push(b' '),
            (byte, _, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Text types go as they are, everything else as base64.
pub(crate) fn encode_body(headers: &HeaderMap, body: &Bytes) -> (Option<String>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    let encoded = headers.contains_key(http::header::CONTENT_ENCODING);
    if !encoded
        && is_text(text(headers, &CONTENT_TYPE))
        && let Ok(text) = std::str::from_utf8(body)
    {
        return (Some(text.to_owned()), false);
    }
    (Some(STANDARD.encode(body)), true)
}

fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || matches!(
            essence.as_str(),
            "application/json" | "application/javascript" | "application/xml" | "application/vnd.api+json"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(
        nulls: bool,
        headers: &[(&'static str, &'static str)],
        query: &str,
        body: &'static str,
    ) -> Value {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let door = Door {
            account_id: "000000000000",
            api_id: "id",
            domain_name: "id.execute-api.us-east-1.localhost",
            route_key: "$default",
            stage: "$default",
            path_parameters: None,
            stage_variables: None,
            signer: None,
            authorizer: None,
            nulls,
        };
        let body = Bytes::from_static(body.as_bytes());
        let incoming = Incoming {
            method: "POST",
            raw_path: "/my/path",
            raw_query: query,
            headers: &map,
            source_ip: [192, 0, 2, 1].into(),
            port: 4566,
            request_id: "rid",
            trace_id: "Root=1",
            now_ms: 1_584_039_838_390,
            body: &body,
        };
        serde_json::from_slice(&encode(&door, &incoming)).unwrap()
    }

    #[test]
    fn the_developer_guides_example_is_built() {
        let headers = [
            ("Header1", "v"),
            ("Header2", "v1"),
            ("Header2", "v2"),
            ("Cookie", "c1=1; c2=2"),
            ("User-Agent", "agent"),
        ];
        let event = event(false, &headers, "a=1&a=2&b=%41+x", "");
        assert_eq!(event["cookies"], json!(["c1=1", "c2=2"]));
        assert_eq!(event["headers"]["header2"], "v1,v2");
        assert!(event["headers"].get("cookie").is_none());
        assert_eq!(event["queryStringParameters"], json!({"a": "1,2", "b": "A x"}));
        assert_eq!(event["rawQueryString"], "a=1&a=2&b=%41+x");
        assert_eq!(event["requestContext"]["time"], "12/Mar/2020:19:03:58 +0000");
        assert_eq!(event["requestContext"]["http"]["userAgent"], "agent");
        assert_eq!(event["requestContext"]["domainPrefix"], "id");
        assert!(event.get("body").is_none() && event.get("pathParameters").is_none());
    }

    #[test]
    fn function_urls_write_nulls() {
        let event = event(true, &[], "", "");
        for member in ["pathParameters", "stageVariables"] {
            assert_eq!(event.get(member), Some(&Value::Null), "{member}");
        }
        assert_eq!(event["requestContext"].get("authentication"), Some(&Value::Null));
    }

    #[test]
    fn a_signer_is_told_to_the_function() {
        let signer = IamCaller { access_key_id: "AKIA1", account_id: "123456789012", partition: "aws-cn" };
        let iam = serde_json::to_value(authorizer(signer)).unwrap();
        let expected = json!({ "iam": {
            "accessKey": "AKIA1", "accountId": "123456789012", "callerId": "123456789012", "cognitoIdentity": null,
            "principalOrgId": null, "userArn": "arn:aws-cn:iam::123456789012:root", "userId": "123456789012",
        } });
        assert_eq!(iam, expected);
    }

    #[test]
    fn text_stays_text_and_the_rest_is_base64() {
        for (content_type, encoded) in [
            ("application/json; charset=utf-8", false),
            ("text/csv", false),
            ("application/x-www-form-urlencoded", true),
            ("application/octet-stream", true),
        ] {
            let event = event(false, &[("content-type", content_type)], "", "a=1");
            assert_eq!(event["isBase64Encoded"], encoded, "{content_type}");
            assert_eq!(event["body"], if encoded { "YT0x" } else { "a=1" }, "{content_type}");
        }
    }

    #[test]
    fn malformed_escapes_stay() {
        assert_eq!(decode("a%2", true), "a%2");
        assert_eq!(decode("%zz%41%", false), "%zzA%");
        assert_eq!(decode("%ff", false), "\u{fffd}");
    }
}
