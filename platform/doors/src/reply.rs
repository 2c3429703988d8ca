//! Function result to HTTP response, payload format 2.0.
//!
//! Source: API Gateway Developer Guide, "Lambda function response for format 2.0"; function URLs follow it.

use crate::Answer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The result cannot be made an HTTP response: the caller gets a 5xx.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Structured {
    status_code: Value,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// Makes the response that a result stands for. JSON without `statusCode` is a 200 whose body is that JSON.
///
/// # Errors
/// [`Malformed`] says what is wrong with it.
pub fn decode(result: &Bytes) -> Result<Answer, Malformed> {
    if !looks_structured(result) {
        return plain(result);
    }
    let structured: Structured = match serde_json::from_slice(result) {
        Ok(structured) => structured,
        Err(_) => {
            return match serde_json::from_slice::<Map<String, Value>>(result) {
                Ok(map) if !map.contains_key("statusCode") => plain(result),
                Ok(_) => Err(Malformed("a member has the wrong type")),
                Err(_) => plain(result),
            };
        }
    };
    let status = status_code(&structured.status_code).ok_or(Malformed("statusCode is no HTTP status"))?;
    let body = match structured.body {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) if structured.is_base64_encoded == Some(true) => {
            STANDARD.decode(text).map_err(|_| Malformed("body is no base64"))?.into()
        }
        Some(Value::String(text)) => text.into(),
        Some(_) => return Err(Malformed("body is no string")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in structured.headers.unwrap_or_default() {
        let Some(text) = header_text(value)? else { continue };
        let name: HeaderName = name.parse().map_err(|_| Malformed("a header's name cannot be sent"))?;
        let value = HeaderValue::from_str(&text).map_err(|_| Malformed("a header's value cannot be sent"))?;
        // The length is that of the body sent, whatever the function says.
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            headers.insert(name, value);
        }
    }
    for cookie in structured.cookies.unwrap_or_default() {
        let value = HeaderValue::from_str(&cookie).map_err(|_| Malformed("a cookie cannot be sent"))?;
        headers.append(SET_COOKIE, value);
    }
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}

/// Whether the first look says "object with a statusCode", so that plain results are not parsed twice.
pub(crate) fn looks_structured(result: &[u8]) -> bool {
    let start = result.iter().position(|byte| !byte.is_ascii_whitespace());
    start.is_some_and(|start| result[start] == b'{')
        && result.windows(b"\"statusCode\"".len()).any(|window| window == b"\"statusCode\"")
}

fn plain(result: &Bytes) -> Result<Answer, Malformed> {
    if serde_json::from_slice::<serde::de::IgnoredAny>(result).is_err() {
        return Err(Malformed("the result is no JSON"));
    }
    let mut response = Response::new(Full::new(result.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A header's value as text; none for `null`.
pub(crate) fn header_text(value: Value) -> Result<Option<String>, Malformed> {
    match value {
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Null => Ok(None),
        Value::Array(_) | Value::Object(_) => Err(Malformed("a header's value is no string")),
    }
}

pub(crate) fn status_code(value: &Value) -> Option<StatusCode> {
    let code = match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    // 1xx would leave the client waiting for the real answer.
    StatusCode::from_u16(code).ok().filter(|status| (200..600).contains(&status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn reply(text: &'static str) -> Result<(u16, Vec<(String, String)>, String), Malformed> {
        let response = decode(&Bytes::from_static(text.as_bytes()))?;
        let status = response.status().as_u16();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok((status, headers, String::from_utf8(body.to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn json_without_a_status_is_the_body() {
        for text in ["\"hello\"", "{\"a\":1}", "[1,2]", "null", "{\"body\":{\"statusCode\":1}}"] {
            let (status, headers, body) = reply(text).await.unwrap();
            assert_eq!((status, body.as_str()), (200, text));
            assert_eq!(headers, [("content-type".to_owned(), "application/json".to_owned())]);
        }
    }

    #[tokio::test]
    async fn a_structured_result_is_obeyed() {
        let text = r#"{"statusCode":"201","headers":{"X-A":1,"Content-Type":"text/plain","Content-Length":"99"},"cookies":["a=1; Secure","b=2"],"isBase64Encoded":true,"body":"aGk="}"#;
        let (status, headers, body) = reply(text).await.unwrap();
        assert_eq!((status, body.as_str()), (201, "hi"));
        let of = |name: &str| {
            headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(
            (of("x-a"), of("content-type"), of("set-cookie")),
            (vec!["1"], vec!["text/plain"], vec!["a=1; Secure", "b=2"])
        );
        assert!(of("content-length").is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_malformed() {
        for text in [
            "{\"statusCode\":99}",
            "{\"statusCode\":100}",
            "{\"statusCode\":\"many\"}",
            "{\"statusCode\":200,\"body\":{}}",
            "{\"statusCode\":200,\"isBase64Encoded\":true,\"body\":\"*\"}",
            "{\"statusCode\":200,\"headers\":{\"a b\":\"c\"}}",
            "{\"statusCode\":200,\"headers\":{\"a\":\"c\\r\\nx: y\"}}",
            "not json",
        ] {
            assert!(reply(text).await.is_err(), "{text}");
        }
    }
}
