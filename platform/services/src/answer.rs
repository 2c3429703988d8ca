//! Answers in the shapes that AWS's SDKs read: JSON 1.1, and XML of the query protocol.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use model::error::ApiError;
use serde_json::{Value, json};

const JSON: &str = "application/x-amz-json-1.1";

/// An answer that is whole.
pub(crate) type Answer = Response<Bytes>;

/// A refusal in a service's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub code: &'static str,
    pub message: String,
}

impl Refused {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The operation is AWS's and not ours, or nobody's.
    pub(crate) fn unknown_operation(service: &str, operation: &str) -> Self {
        let operation: String = operation.chars().take(100).collect();
        Self::new(
            "UnknownOperationException",
            format!("Onrush's {service} does not have the operation {operation}"),
        )
    }
}

/// A result of an operation of a JSON protocol.
pub(crate) fn of_json(result: Result<Value, Refused>) -> Answer {
    let (status, value) = match result {
        Ok(value) => (StatusCode::OK, value),
        Err(Refused { code, message }) => {
            let status = match code {
                "InternalServiceError" => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            };
            (status, in_json(code, &message))
        }
    };
    with(status, JSON, value.to_string())
}

/// A request that does not get so far, in the JSON protocol's words for it: with 400 where Lambda says 403.
///
/// Source: such refusals by SSM and Secrets Manager, as SDKs report them.
pub(crate) fn refuse(error: &ApiError) -> Answer {
    let status = match StatusCode::from_u16(error.status()) {
        Ok(StatusCode::FORBIDDEN) => StatusCode::BAD_REQUEST,
        Ok(other) => other,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    with(status, JSON, in_json(error.code.as_str(), &error.message).to_string())
}

fn in_json(code: &str, message: &str) -> Value {
    json!({ "__type": code, "message": message, "Message": message })
}

/// An answer with a request id, as each of AWS's has.
pub(crate) fn with(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        answer.headers_mut().insert("x-amzn-requestid", id);
    }
    answer
}

/// A random id in the form of a UUID.
pub(crate) fn request_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness ids are equal; nothing hangs on them.
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A time as AWS's JSON has it: seconds since 1970, with milliseconds.
pub(crate) fn seconds(unix_ms: u64) -> Value {
    json!(unix_ms as f64 / 1_000.0)
}

/// A text field of a request; absent and null are alike.
pub(crate) fn text<'a>(request: &'a Value, name: &str) -> Result<Option<&'a str>, Refused> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refused::new("SerializationException", format!("{name} must be a string"))),
    }
}

/// A switch of a request.
pub(crate) fn switch(request: &Value, name: &str) -> Result<bool, Refused> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(switch)) => Ok(*switch),
        Some(_) => Err(Refused::new("SerializationException", format!("{name} must be a boolean"))),
    }
}

/// A page of a listing: what `MaxResults` and `NextToken` select of `all`, and the token of the next page.
pub(crate) fn page<T>(
    request: &Value,
    all: Vec<T>,
    most: usize,
) -> Result<(Vec<T>, Option<String>), Refused> {
    let size = match request.get("MaxResults") {
        None | Some(Value::Null) => most,
        Some(number) => {
            let size = number.as_u64().and_then(|number| usize::try_from(number).ok());
            size.filter(|size| (1..=most).contains(size)).ok_or_else(|| {
                Refused::new(
                    "ValidationException",
                    format!(
                        "1 validation error detected: Value '{number}' at 'maxResults' failed to satisfy constraint: \
                         Member must have value less than or equal to {most}"
                    ),
                )
            })?
        }
    };
    let first = match text(request, "NextToken")? {
        None => 0,
        Some(token) => token
            .parse::<usize>()
            .map_err(|_| Refused::new("InvalidNextToken", "The specified token is not valid."))?,
    };
    let total = all.len();
    let rows: Vec<T> = all.into_iter().skip(first).take(size).collect();
    let next = first.saturating_add(rows.len());
    Ok((rows, (next < total).then(|| next.to_string())))
}
