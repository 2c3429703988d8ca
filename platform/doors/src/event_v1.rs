//! HTTP request to event, payload format 1.0: REST APIs, and HTTP APIs whose integration asks for it.
//!
//! Source: API Gateway Developer Guide, "Set up Lambda proxy integrations in API Gateway", input format; "Create AWS Lambda
//! proxy integrations for HTTP APIs", payload format 1.0. Of single values the last one stands; names of headers are written
//! as an edge-optimized API's arrive (`User-Agent`), whatever the client wrote.

use crate::event::{self, IamCaller, Incoming};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT};
use serde::Serialize;
use std::collections::BTreeMap;

/// What an API knows about a request beyond its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api<'a> {
    /// Account of the function.
    pub(crate) account_id: &'a str,
    pub(crate) api_id: &'a str,
    /// Host name under which AWS would serve the API.
    pub(crate) domain_name: &'a str,
    /// `/cart/{id}`, or the route's key of an HTTP API.
    pub(crate) resource: &'a str,
    /// Id of the resource; none at HTTP APIs.
    pub(crate) resource_id: Option<&'a str>,
    pub(crate) deployment_id: Option<&'a str>,
    pub(crate) extended_request_id: &'a str,
    pub(crate) stage: &'a str,
    /// The path with the stage before it.
    pub(crate) whole_path: &'a str,
    pub(crate) path_parameters: &'a BTreeMap<String, String>,
    pub(crate) stage_variables: Option<&'a BTreeMap<String, String>>,
    /// Value and id of the API key.
    pub(crate) api_key: Option<(&'a str, &'a str)>,
    /// Types whose bodies are base64; none at HTTP APIs, which tell text by its type.
    pub(crate) binary_media_types: Option<&'a [String]>,
    /// HTTP APIs write it, REST APIs do not.
    pub(crate) version: Option<&'static str>,
    /// Who signed the request, where the method asks for `AWS_IAM`.
    pub(crate) signer: Option<IamCaller<'a>>,
    /// What a Lambda authorizer handed on.
    pub(crate) authorizer: Option<&'a serde_json::Value>,
}

type Map = BTreeMap<String, String>;
type MultiMap = BTreeMap<String, Vec<String>>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    resource: &'a str,
    path: &'a str,
    http_method: &'a str,
    headers: Option<Map>,
    multi_value_headers: Option<MultiMap>,
    query_string_parameters: Option<Map>,
    multi_value_query_string_parameters: Option<MultiMap>,
    path_parameters: Option<&'a Map>,
    stage_variables: Option<&'a Map>,
    request_context: Context<'a>,
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<&'a str>,
    resource_path: &'a str,
    http_method: &'a str,
    extended_request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<&'a serde_json::Value>,
    request_time: String,
    path: &'a str,
    account_id: &'a str,
    protocol: &'static str,
    stage: &'a str,
    domain_prefix: &'a str,
    request_time_epoch: u64,
    request_id: &'a str,
    identity: Identity<'a>,
    domain_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_id: Option<&'a str>,
    api_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    cognito_identity_pool_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'a str>,
    account_id: Option<&'a str>,
    cognito_identity_id: Option<&'a str>,
    caller: Option<&'a str>,
    source_ip: String,
    principal_org_id: Option<&'a str>,
    access_key: Option<&'a str>,
    cognito_authentication_type: Option<&'a str>,
    cognito_authentication_provider: Option<&'a str>,
    user_arn: Option<String>,
    user_agent: Option<&'a str>,
    user: Option<&'a str>,
}

/// The event for a request whose path, within the stage, is `incoming.raw_path`; as JSON.
pub(crate) fn encode(api: &Api<'_>, incoming: &Incoming<'_>) -> Bytes {
    let text = |name| incoming.headers.get(name).and_then(|value| value.to_str().ok());
    let (body, is_base64_encoded) = body(api, text(CONTENT_TYPE), incoming);
    let headers = headers(api, incoming);
    let query = query(incoming.raw_query);
    let event = Event {
        version: api.version,
        resource: api.resource,
        path: incoming.raw_path,
        http_method: incoming.method,
        headers: last(&headers),
        multi_value_headers: some(headers),
        query_string_parameters: last(&query),
        multi_value_query_string_parameters: some(query),
        path_parameters: Some(api.path_parameters).filter(|map| !map.is_empty()),
        stage_variables: api.stage_variables.filter(|map| !map.is_empty()),
        request_context: Context {
            resource_id: api.resource_id,
            resource_path: api.resource,
            http_method: incoming.method,
            extended_request_id: api.extended_request_id,
            authorizer: api.authorizer,
            request_time: telemetry::apache_time(incoming.now_ms),
            path: api.whole_path,
            account_id: api.account_id,
            protocol: "HTTP/1.1",
            stage: api.stage,
            domain_prefix: api.domain_name.split('.').next().unwrap_or(api.domain_name),
            request_time_epoch: incoming.now_ms,
            request_id: incoming.request_id,
            identity: Identity {
                cognito_identity_pool_id: None,
                api_key_id: api.api_key.map(|(_, id)| id),
                api_key: api.api_key.map(|(value, _)| value),
                account_id: api.signer.map(|signer| signer.account_id),
                cognito_identity_id: None,
                caller: api.signer.map(|signer| signer.account_id),
                source_ip: incoming.source_ip.to_string(),
                principal_org_id: None,
                access_key: api.signer.map(|signer| signer.access_key_id),
                cognito_authentication_type: None,
                cognito_authentication_provider: None,
                user_arn: api.signer.map(|signer| {
                    let IamCaller { partition, account_id, .. } = signer;
                    format!("arn:{partition}:iam::{account_id}:root")
                }),
                user_agent: text(USER_AGENT),
                user: api.signer.map(|signer| signer.account_id),
            },
            domain_name: api.domain_name,
            deployment_id: api.deployment_id,
            api_id: api.api_id,
        },
        body,
        is_base64_encoded,
    };
    // Strings and maps of strings: nothing here can fail to become JSON.
    serde_json::to_vec(&event).unwrap_or_default().into()
}

fn last(all: &MultiMap) -> Option<Map> {
    let last = all.iter().map(|(name, values)| (name.clone(), values.last().cloned().unwrap_or_default()));
    Some(last.collect()).filter(|map: &Map| !map.is_empty())
}

fn some(all: MultiMap) -> Option<MultiMap> {
    Some(all).filter(|map| !map.is_empty())
}

/// With what a gateway in front adds.
fn headers(api: &Api<'_>, incoming: &Incoming<'_>) -> MultiMap {
    let mut all = MultiMap::new();
    for (name, value) in incoming.headers {
        if name != CONNECTION && name != TRANSFER_ENCODING {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            all.entry(capitalised(name.as_str())).or_default().push(value);
        }
    }
    let mut default = |name: &str, value: String| {
        all.entry(name.to_owned()).or_insert_with(|| vec![value]);
    };
    default("X-Forwarded-For", incoming.source_ip.to_string());
    default("X-Forwarded-Port", incoming.port.to_string());
    default("X-Forwarded-Proto", "http".to_owned());
    default(&capitalised(HOST.as_str()), api.domain_name.to_owned());
    all.insert("X-Amzn-Trace-Id".to_owned(), vec![incoming.trace_id.to_owned()]);
    all
}

/// `user-agent` as `User-Agent`.
fn capitalised(name: &str) -> String {
    let mut start = true;
    let letters = name.chars().map(|letter| {
        let letter = if start { letter.to_ascii_uppercase() } else { letter };
        start = letter == '-';
        letter
    });
    letters.collect()
}

/// Decoded names and values.
pub(crate) fn query(raw: &str) -> MultiMap {
    let mut all = MultiMap::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.entry(event::decode(name, true)).or_default().push(event::decode(value, true));
    }
    all
}

fn body(api: &Api<'_>, content_type: Option<&str>, incoming: &Incoming<'_>) -> (Option<String>, bool) {
    let Some(types) = api.binary_media_types else {
        return event::encode_body(incoming.headers, incoming.body);
    };
    if incoming.body.is_empty() {
        return (None, false);
    }
    if is_binary(types, content_type.unwrap_or("application/json")) {
        return (Some(STANDARD.encode(incoming.body)), true);
    }
    (Some(String::from_utf8_lossy(incoming.body).into_owned()), false)
}

/// Whether a media type is among those that are binary: `image/png`, `image/*` or `*/*`.
pub(crate) fn is_binary(types: &[String], media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    types.iter().any(|known| {
        let known = known.to_ascii_lowercase();
        known == "*/*"
            || known == essence
            || known.strip_suffix('*').is_some_and(|start| start.ends_with('/') && essence.starts_with(start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use serde_json::{Value, json};

    fn event(content_type: &str, query: &str, body: &[u8], binary: Option<&[String]>) -> Value {
        let mut headers = HeaderMap::new();
        headers.append("content-type", content_type.parse().unwrap());
        headers.append("header1", "v1".parse().unwrap());
        headers.append("header1", "v2".parse().unwrap());
        headers.append("user-agent", "agent".parse().unwrap());
        headers.append("connection", "close".parse().unwrap());
        let body = Bytes::copy_from_slice(body);
        let incoming = Incoming {
            method: "POST",
            raw_path: "/cart/7",
            raw_query: query,
            headers: &headers,
            source_ip: [192, 0, 2, 1].into(),
            port: 4566,
            request_id: "rid",
            trace_id: "Root=1",
            now_ms: 1_583_349_317_135,
            body: &body,
        };
        let parameters = Map::from([("id".to_owned(), "7".to_owned())]);
        let api = Api {
            account_id: "000000000000",
            api_id: "abc",
            domain_name: "abc.execute-api.us-east-1.amazonaws.com",
            resource: "/cart/{id}",
            resource_id: Some("r"),
            deployment_id: Some("d"),
            extended_request_id: "x=",
            stage: "Prod",
            whole_path: "/Prod/cart/7",
            path_parameters: &parameters,
            stage_variables: None,
            api_key: None,
            binary_media_types: binary,
            version: binary.is_none().then_some("1.0"),
            signer: None,
            authorizer: None,
        };
        serde_json::from_slice(&encode(&api, &incoming)).unwrap()
    }

    #[test]
    fn the_developer_guides_shape_is_built() {
        let event = event("application/json", "a=1&a=2&b=%41+x", b"{}", Some(&[]));
        assert!(event.get("version").is_none());
        assert_eq!(
            (&event["resource"], &event["path"], &event["httpMethod"]),
            (&json!("/cart/{id}"), &json!("/cart/7"), &json!("POST"))
        );
        assert_eq!(event["headers"]["Header1"], "v2");
        assert_eq!(event["multiValueHeaders"]["Header1"], json!(["v1", "v2"]));
        assert_eq!(event["headers"]["X-Amzn-Trace-Id"], "Root=1");
        assert!(event["headers"].get("Connection").is_none());
        assert_eq!(event["queryStringParameters"], json!({"a": "2", "b": "A x"}));
        assert_eq!(event["multiValueQueryStringParameters"], json!({"a": ["1", "2"], "b": ["A x"]}));
        assert_eq!(event["pathParameters"], json!({"id": "7"}));
        assert_eq!(event.get("stageVariables"), Some(&Value::Null));
        let context = &event["requestContext"];
        assert_eq!((&context["path"], &context["stage"]), (&json!("/Prod/cart/7"), &json!("Prod")));
        assert_eq!(context["requestTime"], "04/Mar/2020:19:15:17 +0000");
        assert_eq!(context["identity"]["sourceIp"], "192.0.2.1");
        assert_eq!(context["identity"].get("userArn"), Some(&Value::Null));
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{}"), &json!(false)));
    }

    #[test]
    fn absent_maps_are_null() {
        let event = event("text/plain", "", b"", Some(&[]));
        for member in ["queryStringParameters", "multiValueQueryStringParameters", "body"] {
            assert_eq!(event.get(member), Some(&Value::Null), "{member}");
        }
    }

    #[test]
    fn only_the_apis_binary_types_become_base64() {
        let types = ["image/*".to_owned(), "application/octet-stream".to_owned()];
        for (content_type, encoded) in [
            ("image/png", true),
            ("application/octet-stream; a=b", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let event = event(content_type, "", b"a\xff", Some(&types));
            assert_eq!(event["isBase64Encoded"], encoded, "{content_type}");
        }
        let all = ["*/*".to_owned()];
        assert_eq!(event("text/plain", "", b"a", Some(&all))["body"], "YQ==");
    }

    #[test]
    fn an_http_api_writes_its_version() {
        let event = event("application/octet-stream", "", b"a", None);
        assert_eq!((&event["version"], &event["isBase64Encoded"]), (&json!("1.0"), &json!(true)));
    }
}
