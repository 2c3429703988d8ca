//! Any bytes as an HTTP request at a door: its signature is verified or refused by name, what we sign verifies, and the
//! events that its function would get are JSON that holds the same body.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use doors::signature::{self, Keys, Scope};
use doors::untrusted::Api;
use http::{HeaderName, HeaderValue, Request};
use serde_json::Value;
use std::sync::LazyLock;

const HEADERS_MAX: usize = 64;
const TIME: &str = "20260102T030405Z";
const TIME_S: u64 = 1_767_323_045;
const SCOPE: Scope<'static> = Scope { region: Some("us-east-1"), service: Some("lambda"), now_s: TIME_S };
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TEMPLATE: &str = r#"{"Transform": "AWS::Serverless-2016-10-31", "Resources": {"F": {"Type": "AWS::Serverless::Function", "Properties": {
    "Handler": "a.b", "Runtime": "python3.13", "InlineCode": "", "Events": {
        "A": {"Type": "HttpApi", "Properties": {"Method": "GET", "Path": "/cart/{id}"}},
        "B": {"Type": "HttpApi", "Properties": {"Method": "GET", "Path": "/cart/new"}},
        "C": {"Type": "HttpApi", "Properties": {"Method": "POST", "Path": "/a/{b}/c/{d+}"}},
        "D": {"Type": "HttpApi", "Properties": {"Method": "ANY", "Path": "/{proxy+}"}}}}}}}"#;
/// What says who signed, and what the body is.
const SIGNING: [&str; 3] = ["authorization", "x-amz-content-sha256", "x-amz-security-token"];

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut keys = Keys::default();
    // The word is the key itself: no file is opened.
    keys.add(&format!("AKIDEXAMPLE:{SECRET}"), |path| std::fs::File::open(path)).unwrap();
    keys
});
static API: LazyLock<Api> = LazyLock::new(|| {
    let inputs = template::Inputs { stack_name: "fuzz".to_owned(), ..template::Inputs::default() };
    let stack = template::read("template.yaml", TEMPLATE, &inputs).stack.unwrap();
    let routes: Vec<_> = stack.http_apis.iter().flat_map(|api| api.routes.clone()).collect();
    assert_eq!(routes.len(), 4);
    Api::new(&routes)
});

fn body_of(event: &Value) -> Vec<u8> {
    let text = event["body"].as_str().unwrap_or_default();
    match event["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(text).unwrap(),
        _ => text.as_bytes().to_vec(),
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = parsed.parse(bytes) else { return };
    let mut request = Request::builder().method(parsed.method.unwrap()).uri(parsed.path.unwrap());
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    let Ok(request) = request.body(()) else { return };
    let (mut head, ()) = request.into_parts();
    let body = Bytes::copy_from_slice(&bytes[length..]);

    let _ = (signature::region_of(&head), signature::access_key_id_of(&head));
    for scope in [SCOPE, Scope { region: None, service: None, ..SCOPE }] {
        if let Ok(pending) = signature::begin(&KEYS, &head, scope) {
            drop(pending.finish(&head, body.clone()));
        }
    }

    let seen = API.read(&head, &body);
    let events = seen.events.map(|event| serde_json::from_slice::<Value>(&event).unwrap());
    assert_eq!(body_of(&events[0]), body);
    assert_eq!(body_of(&events[1]), body);
    if events[2]["isBase64Encoded"] == true || std::str::from_utf8(&body).is_ok() {
        assert_eq!(body_of(&events[2]), body);
    }

    for name in SIGNING {
        head.headers.remove(name);
    }
    head.headers.insert("x-amz-date", HeaderValue::from_static(TIME));
    head.headers.entry("host").or_insert(HeaderValue::from_static("localhost:4566"));
    if let Some(signed) = signature::sign(&head, &body, "AKIDEXAMPLE", SECRET, "us-east-1", "lambda") {
        let value = HeaderValue::from_str(&signed.authorization).unwrap();
        head.headers.insert(HeaderName::from_static("authorization"), value);
        let pending = signature::begin(&KEYS, &head, SCOPE).unwrap();
        assert_eq!(pending.finish(&head, body.clone()).unwrap().1, body);
    }
});
