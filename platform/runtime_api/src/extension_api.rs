//! The paths that extensions speak: registration, events, errors, and subscriptions to telemetry.
//!
//! Source: AWS Lambda Developer Guide, "Using the Lambda Extensions API", "Telemetry API reference"; error bodies as the
//! public Runtime Interface Emulator words them.

use crate::extensions::{ExtensionStage, Forbidden, is_uuid};
use crate::http::{Body, Broken, ExtensionHeaders, Head, Method, Wire};
use crate::session::Session;
use crate::telemetry::{Api, SubscribeError};
use serde::Deserialize;
use serde_json::json;

/// Largest body of a registration or subscription, in bytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Largest error document, as for the runtime's.
const ERROR_BYTES_MAX: usize = 1024 * 1024;
const EXTENSION: &str = "/2020-01-01/extension/";
const LOGS: &str = "/2020-08-15/logs";
const TELEMETRY: &str = "/2022-07-01/telemetry";

const ACCEPTED: &[u8] = b"{\"status\":\"OK\"}";
const NOT_FOUND: &[u8] = br#"{"errorMessage":"No such path in the Extensions API","errorType":"NotFound"}"#;
const TOO_LARGE: &[u8] = br#"{"errorMessage":"Exceeded maximum allowed payload size (65536 bytes).","errorType":"RequestEntityTooLarge"}"#;

/// Whether a path is one of these APIs'.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with(EXTENSION) || path.starts_with(LOGS) || path.starts_with(TELEMETRY)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    configuration_keys: Vec<String>,
}

/// One request and its answer.
pub(crate) async fn exchange(session: &Session, wire: &mut Wire, head: &Head) -> Result<(), Broken> {
    let path = head.path.split_once('?').map_or(head.path.as_str(), |(path, _)| path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let none = ExtensionHeaders::default();
    let headers = head.extension.as_deref().unwrap_or(&none);
    let answered = match (head.method, path.strip_prefix(EXTENSION).unwrap_or(path)) {
        (Method::Post, "register") => register(session, wire, head, headers).await,
        (Method::Get, "event/next") => {
            wire.body(head, 0).await?;
            next(session, wire, headers).await
        }
        (Method::Post, "init/error") => fail(session, wire, head, headers, ExtensionStage::Init).await,
        (Method::Post, "exit/error") => fail(session, wire, head, headers, ExtensionStage::Exit).await,
        (Method::Put, LOGS) => subscribe(session, wire, head, headers, Api::Logs).await,
        (Method::Put, TELEMETRY) => subscribe(session, wire, head, headers, Api::Telemetry).await,
        _ => {
            wire.body(head, 0).await?;
            return wire.send("404 Not Found", &[], NOT_FOUND).await;
        }
    };
    match answered {
        Ok(()) => Ok(()),
        Err(Refused::Broken(broken)) => Err(broken),
        Err(Refused::TooLarge) => wire.send("413 Payload Too Large", &[], TOO_LARGE).await,
        Err(Refused::Forbidden(Forbidden { error_type, message })) => {
            let body = json!({"errorMessage": message, "errorType": error_type}).to_string();
            wire.send("403 Forbidden", &[], body.as_bytes()).await
        }
    }
}

/// Why a request has no good answer.
enum Refused {
    Forbidden(Forbidden),
    TooLarge,
    Broken(Broken),
}

impl From<Forbidden> for Refused {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden)
    }
}

impl From<Broken> for Refused {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

async fn whole(wire: &mut Wire, head: &Head, limit: usize) -> Result<bytes::Bytes, Refused> {
    match wire.body(head, limit).await? {
        Body::Whole(body) => Ok(body),
        Body::TooLarge => Err(Refused::TooLarge),
    }
}

fn identified(headers: &ExtensionHeaders) -> Result<&str, Forbidden> {
    if headers.identifier.is_empty() {
        let message = "Missing Lambda-Extension-Identifier header";
        return Err(Forbidden::new("Extension.MissingExtensionIdentifier", message));
    }
    if !is_uuid(&headers.identifier) {
        let message = "Invalid Lambda-Extension-Identifier";
        return Err(Forbidden::new("Extension.InvalidExtensionIdentifier", message));
    }
    Ok(&headers.identifier)
}

async fn register(
    session: &Session,
    wire: &mut Wire,
    head: &Head,
    headers: &ExtensionHeaders,
) -> Result<(), Refused> {
    let body = whole(wire, head, REQUEST_BYTES_MAX).await?;
    if headers.name.is_empty() {
        return Err(Forbidden::new("Extension.InvalidExtensionName", "Empty extension name").into());
    }
    let invalid = |message: String| Forbidden::new("InvalidRequestFormat", message);
    let wanted: Registration = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    if !wanted.configuration_keys.is_empty() {
        let message = "configurationKeys are deprecated; use environment variables instead";
        return Err(invalid(message.to_owned()).into());
    }
    let id = session.register(&headers.name, &wanted.events)?;
    let facts = session.facts();
    let mut answer = json!({
        "functionName": facts.function_name,
        "functionVersion": facts.function_version,
        "handler": facts.handler,
    });
    if headers.accept_feature.split(',').any(|feature| feature.trim() == "accountId") {
        answer["accountId"] = json!(facts.account_id);
    }
    let answer = answer.to_string();
    Ok(wire.send("200 OK", &[("Lambda-Extension-Identifier", &id)], answer.as_bytes()).await?)
}

async fn next(session: &Session, wire: &mut Wire, headers: &ExtensionHeaders) -> Result<(), Refused> {
    let id = identified(headers)?;
    session.extension_ready(id)?;
    let event = tokio::select! {
        biased;
        event = session.extension_event(id) => event,
        broken = wire.disturbed() => return Err(broken.into()),
    };
    let headers = [("Lambda-Extension-Event-Identifier", event.id.as_str())];
    Ok(wire.send("200 OK", &headers, event.body.as_bytes()).await?)
}

async fn fail(
    session: &Session,
    wire: &mut Wire,
    head: &Head,
    headers: &ExtensionHeaders,
    stage: ExtensionStage,
) -> Result<(), Refused> {
    // What it says in the body is for its own log; AWS shows no more than the header.
    whole(wire, head, ERROR_BYTES_MAX).await?;
    let id = identified(headers)?;
    if headers.error_type.is_empty() {
        let message = "Lambda-Extension-Function-Error-Type not found";
        return Err(Forbidden::new("Extension.MissingHeader", message).into());
    }
    session.extension_fails(id, stage, &headers.error_type)?;
    Ok(wire.send("202 Accepted", &[], ACCEPTED).await?)
}

async fn subscribe(
    session: &Session,
    wire: &mut Wire,
    head: &Head,
    headers: &ExtensionHeaders,
    api: Api,
) -> Result<(), Refused> {
    let body = whole(wire, head, REQUEST_BYTES_MAX).await?;
    let id = identified(headers)?;
    let name = session.extension_name(id)?;
    match session.telemetry().subscribe(api, &name, &body) {
        Ok(()) => Ok(wire.send("200 OK", &[], b"\"OK\"").await?),
        Err(SubscribeError::Closed) => {
            let (error_type, message) = match api {
                Api::Telemetry => {
                    ("Telemetry.SubscriptionClosed", "Telemetry API subscription is closed already")
                }
                Api::Logs => ("Logs.SubscriptionClosed", "Logs API subscription is closed already"),
            };
            Err(Forbidden::new(error_type, message).into())
        }
        Err(SubscribeError::Invalid(message)) => {
            let body = json!({"errorType": "ValidationError", "errorMessage": message}).to_string();
            Ok(wire.send("400 Bad Request", &[], body.as_bytes()).await?)
        }
    }
}

#[cfg(test)]
mod tests;
