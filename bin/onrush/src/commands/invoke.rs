//! `onrush invoke`.

use super::client::{block_on, function_name, send};
use crate::Stop;
use crate::arguments::{Invoke, Output};
use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

/// Most bytes read of an event: the API refuses less, with AWS's message.
const EVENT_BYTES_MAX: u64 = 64 << 20;

pub fn run(arguments: &Invoke) -> Result<ExitCode, Stop> {
    let event = match &arguments.payload {
        Some(payload) => check_payload(payload)?,
        None => read_event(arguments.event.as_deref())?,
    };
    block_on(invoke(arguments, event))
}

async fn invoke(arguments: &Invoke, event: Vec<u8>) -> Result<ExitCode, Stop> {
    let endpoint = &arguments.endpoint.endpoint;
    let name = function_name(endpoint, &arguments.function).await?;
    let path = format!("/2015-03-31/functions/{name}/invocations");
    let headers = [("x-amz-log-type", "Tail"), ("content-type", "application/json")];
    let answer = send(endpoint, Method::POST, &path, &headers, event.into()).await?;
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let log = header("x-amz-log-result").and_then(decode).unwrap_or_default();
    let failed = header("x-amz-function-error").is_some() || !answer.status.is_success();
    match arguments.output {
        Output::Json => {
            let payload: Value = serde_json::from_slice(&answer.body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer.body).into_owned()));
            let page = json!({
                "status": answer.status.as_u16(), "function_error": header("x-amz-function-error"),
                "limit": header("x-onrush-limit"), "payload": payload, "log": log,
            });
            super::print(&format!("{page}\n"))?;
        }
        Output::Text => {
            if !arguments.quiet {
                eprint!("{log}");
            }
            if let Some(limit) = header("x-onrush-limit") {
                eprintln!("limit: {limit}");
            }
            if !answer.status.is_success() {
                eprintln!("HTTP {}", answer.status);
            }
            super::print(&format!("{}\n", String::from_utf8_lossy(&answer.body)))?;
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// An event on the command line; the name of a file is a likely slip.
fn check_payload(text: &str) -> Result<Vec<u8>, Stop> {
    match serde_json::from_str::<Value>(text) {
        Ok(_) => Ok(text.as_bytes().to_vec()),
        Err(_) if Path::new(text).is_file() => {
            Err(Stop::Usage(format!("`{text}` is a file; did you mean `-e {text}`?")))
        }
        Err(error) => Err(Stop::Usage(format!(
            "the event `{text}` is no JSON: {error}; a text is written '\"like this\"', a file is given with -e FILE"
        ))),
    }
}

fn read_event(path: Option<&Path>) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    match path {
        None => bytes.extend_from_slice(b"{}"),
        Some(path) if path == Path::new("-") => {
            std::io::stdin()
                .take(EVENT_BYTES_MAX)
                .read_to_end(&mut bytes)
                .context("cannot read the event")?;
        }
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| {
                let text = path.to_string_lossy();
                let slip = serde_json::from_str::<Value>(&text).is_ok_and(|event| event.is_object());
                let cure = if slip { "; the event itself is given without -e" } else { "" };
                Stop::Usage(format!("cannot open the event {text}: {error}{cure}"))
            })?;
            file.take(EVENT_BYTES_MAX).read_to_end(&mut bytes).context("cannot read the event")?;
        }
    }
    Ok(bytes)
}

fn decode(text: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    Some(String::from_utf8_lossy(&Bytes::from(bytes)).into_owned())
}
