//! Function result to HTTP response, payload format 1.0.
//!
//! Source: API Gateway Developer Guide, "Set up Lambda proxy integrations in API Gateway", output format: `statusCode` is
//! needed, `body` is a string, and of a header in both maps `multiValueHeaders` wins. What has another shape is malformed: 502
//! at a REST API, 500 at an HTTP API. "Return binary media from a Lambda proxy integration": a REST API decodes base64 when
//! the first type that the client accepts is one of its binary types.

use crate::Answer;
use crate::reply::{Malformed, header_text, status_code};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    status_code: Value,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    multi_value_headers: Option<BTreeMap<String, Vec<Value>>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Names that a REST API sends under another one, since they are its own (API Gateway Developer Guide, "Important notes").
const REMAPPED: [&str; 9] = [
    "authorization",
    "connection",
    "content-length",
    "content-md5",
    "date",
    "host",
    "server",
    "user-agent",
    "www-authenticate",
];

/// How a kind of API reads results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// REST: other members are malformed, and some headers are sent under another name.
    pub(crate) strict: bool,
    /// Whether a body that says that it is base64 is decoded.
    pub(crate) decodes: bool,
}

/// Makes the response that a result stands for.
pub(crate) fn decode(result: &Bytes, reading: Reading) -> Result<Answer, Malformed> {
    let value: Document = serde_json::from_slice(result).map_err(|_| {
        Malformed("the result is no JSON object with statusCode, headers and body of the right types")
    })?;
    if reading.strict && !value.others.is_empty() {
        return Err(Malformed(
            "the result has members beside statusCode, headers, multiValueHeaders, body and isBase64Encoded",
        ));
    }
    let status = status_code(&value.status_code).ok_or(Malformed("statusCode is no HTTP status"))?;
    let body: Bytes = match value.body {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) if value.is_base64_encoded == Some(true) && reading.decodes => {
            STANDARD.decode(text).map_err(|_| Malformed("body is no base64"))?.into()
        }
        Some(Value::String(text)) => text.into(),
        Some(_) => return Err(Malformed("body is no string")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in value.headers.unwrap_or_default() {
        let Some((name, value)) = header(&name, value, reading)? else { continue };
        headers.insert(name, value);
    }
    for (name, values) in value.multi_value_headers.unwrap_or_default() {
        let mut first = true;
        for value in values {
            let Some((name, value)) = header(&name, value, reading)? else { continue };
            if std::mem::take(&mut first) {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
    }
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}

fn header(
    name: &str,
    value: Value,
    reading: Reading,
) -> Result<Option<(HeaderName, HeaderValue)>, Malformed> {
    let Some(text) = header_text(value)? else { return Ok(None) };
    let lower = name.to_ascii_lowercase();
    let name = match REMAPPED.contains(&lower.as_str()) {
        true if reading.strict => format!("x-amzn-remapped-{lower}"),
        // The length is that of the body sent, whatever the function says.
        true if lower == "content-length" || lower == "connection" => return Ok(None),
        _ => lower,
    };
    let name: HeaderName = name.parse().map_err(|_| Malformed("a header's name cannot be sent"))?;
    let value = HeaderValue::from_str(&text).map_err(|_| Malformed("a header's value cannot be sent"))?;
    Ok(Some((name, value)).filter(|(name, _)| *name != TRANSFER_ENCODING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    const REST: Reading = Reading { strict: true, decodes: true };

    #[tokio::test]
    async fn a_result_is_obeyed() {
        let text = r#"{"statusCode":201,"headers":{"X-A":1,"X-B":"one","Server":"mine"},"multiValueHeaders":{"X-B":["two","three"],"Set-Cookie":["a=1","b=2"]},"isBase64Encoded":true,"body":"aGk="}"#;
        let answer = decode(&Bytes::from_static(text.as_bytes()), REST).unwrap();
        let all = |name: &str| {
            let values = answer.headers().get_all(name).iter();
            values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (answer.status().as_u16(), all("x-a"), all("x-b")),
            (201, vec!["1".to_owned()], vec!["two".to_owned(), "three".to_owned()])
        );
        assert_eq!((all("set-cookie").len(), all("server").len()), (2, 0));
        assert_eq!(all("x-amzn-remapped-server"), ["mine"]);
        assert_eq!(all("content-type"), ["application/json"]);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hi");
    }

    #[tokio::test]
    async fn base64_stays_where_the_client_accepts_no_binary_type() {
        let text = Bytes::from_static(br#"{"statusCode":200,"isBase64Encoded":true,"body":"aGk="}"#);
        let answer = decode(&text, Reading { decodes: false, ..REST }).unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "aGk=");
    }

    #[test]
    fn what_has_another_shape_is_malformed() {
        for text in [
            "\"hello\"",
            "{\"a\":1}",
            "{\"body\":\"x\"}",
            "{\"statusCode\":200,\"body\":{}}",
            "{\"statusCode\":200,\"headers\":[]}",
            "{\"statusCode\":200,\"headers\":{\"a\":[]}}",
            "{\"statusCode\":200,\"multiValueHeaders\":{\"a\":\"b\"}}",
            "{\"statusCode\":200,\"message\":\"x\"}",
            "{\"statusCode\":200,\"headers\":{\"a\":\"c\\r\\nx: y\"}}",
            "not json",
        ] {
            assert!(decode(&Bytes::from_static(text.as_bytes()), REST).is_err(), "{text}");
        }
        let lenient = Reading { strict: false, decodes: true };
        let text = Bytes::from_static(b"{\"statusCode\":200,\"message\":\"x\"}");
        assert!(decode(&text, lenient).is_ok());
    }
}
