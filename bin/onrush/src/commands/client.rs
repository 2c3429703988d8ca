//! A small HTTP client for a running Onrush.

use crate::Stop;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Runs one future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// One request to `endpoint`, for instance `http://127.0.0.1:4566`.
pub async fn send(
    endpoint: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, Stop> {
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    if authority.is_empty() || authority.contains('/') {
        return Err(Stop::Usage(format!("`{endpoint}` is no endpoint such as http://127.0.0.1:4566")));
    }
    let stream = TcpStream::connect(authority)
        .await
        .with_context(|| format!("no Onrush answers at {endpoint}; start one with `onrush up`"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", authority);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request
        .body(Full::new(body.clone()))
        .map_err(|error| anyhow!("cannot ask {endpoint}{path}: {error}"))?;
    if let Some((id, secret)) = keys() {
        let region = match region() {
            Some(region) => region,
            // Where the template's functions are.
            None => home(&mut sender, authority).await?,
        };
        sign(&mut request, &body, (&id, &secret), &region);
    }
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The keys that AWS's tools take from the environment, if there are any: an Onrush with `--credentials` asks for them.
fn keys() -> Option<(String, String)> {
    variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"))
}

fn region() -> Option<String> {
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"))
}

/// The Region that the platform was started for, which it tells anybody.
async fn home(sender: &mut SendRequest<Full<Bytes>>, authority: &str) -> Result<String, Stop> {
    let request = Request::builder().uri("/_onrush/health").header("host", authority);
    let request =
        request.body(Full::default()).map_err(|error| anyhow!("cannot ask {authority}: {error}"))?;
    let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    let page: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(page["region"].as_str().unwrap_or(model::era::DEFAULT_REGION).to_owned())
}

/// Signs as AWS's tools do.
fn sign(request: &mut Request<Full<Bytes>>, body: &[u8], (id, secret): (&str, &str), region: &str) {
    let mut insert = |name: &'static str, value: &str| {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            request.headers_mut().insert(name, value);
        }
    };
    insert("x-amz-date", &doors::signature::time_now());
    if let Some(token) = variable("AWS_SESSION_TOKEN") {
        insert("x-amz-security-token", &token);
    }
    let (head, whole) = std::mem::take(request).into_parts();
    let signed = doors::signature::sign(&head, body, id, secret, region, "lambda");
    *request = Request::from_parts(head, whole);
    if let Some(value) = signed.and_then(|signed| http::HeaderValue::from_str(&signed.authorization).ok()) {
        request.headers_mut().insert(http::header::AUTHORIZATION, value);
    }
}

/// A page of Onrush's own, as JSON.
pub async fn page(endpoint: &str, path: &str) -> Result<serde_json::Value, Stop> {
    let answer = send(endpoint, Method::GET, path, &[], Bytes::new()).await?;
    let value: serde_json::Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{endpoint}{path} is no page of Onrush's"))?;
    if !answer.status.is_success() {
        let message = value["message"].as_str().unwrap_or("it did not say why").to_owned();
        return Err(Stop::Failed(anyhow!("{endpoint}: {message}")));
    }
    Ok(value)
}

/// The name of the function that `word` means: a logical id becomes its function's name.
pub async fn function_name(endpoint: &str, word: &str) -> Result<String, Stop> {
    if word.contains(':') {
        return Ok(word.to_owned());
    }
    let value = page(endpoint, "/_onrush/functions").await?;
    let all = value["functions"].as_array().cloned().unwrap_or_default();
    let is = |key: &str| all.iter().find(|function| function[key] == *word).cloned();
    match is("name").or_else(|| is("logical_id")) {
        Some(function) => Ok(function["name"].as_str().unwrap_or(word).to_owned()),
        None => {
            let names: Vec<_> =
                all.iter().filter_map(|f| f["logical_id"].as_str().or(f["name"].as_str())).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(Stop::Usage(format!("no function is called {word}; there is: {there}")))
        }
    }
}
