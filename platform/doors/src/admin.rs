//! Onrush's own pages: health, the limits board, metrics, logs.

use crate::Answer;
use crate::body::Incoming;
use crate::network_pages::{NetworkLook, Unseen};
use crate::orders::{Order, Ordered, Refusal};
use crate::router::{Doors, json, read_body, with_limit};
use control::Change;
use http::request::Parts;
use http::{Method, StatusCode};
use limits::ProvisionedCounts;
use serde_json::{Value, json as value};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest body of an order, in bytes.
const ORDER_BYTES_MAX: usize = 1 << 20;
/// Longest wait of a log follower for news.
const FOLLOW_MAX: Duration = Duration::from_secs(30);
/// Longest wait of a viewer for packets.
const CAPTURE_WAIT_MAX: Duration = Duration::from_secs(2);

pub(crate) async fn answer(doors: &Doors, head: &Parts, incoming: Incoming) -> Answer {
    let path = head.uri.path();
    if path == "/_onrush/deploy" {
        return order(doors, head, incoming).await;
    }
    if path == "/_onrush/reset" {
        return reset(doors, head).await;
    }
    // Those who wait for a server often ask with HEAD; a page without its body.
    if head.method != Method::GET && head.method != Method::HEAD {
        return json(StatusCode::METHOD_NOT_ALLOWED, "{\"message\":\"GET only\"}");
    }
    match path.strip_prefix("/_onrush/").unwrap_or("") {
        "health" => page(&health(doors)),
        "limits" => page(&limits(doors).await),
        "functions" => page(&functions(doors)),
        "metrics" => {
            doors.invoker.complete().await;
            let mut text = doors.counters.prometheus(&doors.logs.dropped());
            text.push_str(&provisioned(doors));
            text.push_str(&look(doors).await.prometheus);
            text.push_str(&writable(doors));
            let mut answer = json(StatusCode::OK, text);
            let text = http::HeaderValue::from_static("text/plain; version=0.0.4");
            answer.headers_mut().insert(http::header::CONTENT_TYPE, text);
            answer
        }
        other => {
            let query = head.uri.query().unwrap_or("");
            match (other.strip_prefix("logs/"), other.strip_prefix("capture/")) {
                (Some(function), _) => logs(doors, function, query).await,
                (_, Some(interface)) => capture(doors, interface, query).await,
                _ => json(
                    StatusCode::NOT_FOUND,
                    "{\"message\":\"there are /_onrush/health, functions, limits, metrics, logs/FUNCTION, capture/INTERFACE, door/LOGICAL-ID, and POST /_onrush/deploy and reset\"}",
                ),
            }
        }
    }
}

/// Everything as at the start but functions, settings and what services store: for the next test.
async fn reset(doors: &Doors, head: &Parts) -> Answer {
    if head.method != Method::POST {
        return json(StatusCode::METHOD_NOT_ALLOWED, "{\"message\":\"POST only\"}");
    }
    // Events first, so that none starts an environment afterwards.
    let (waiting, to_tell) = doors.events.pending();
    let (control, events) = (doors.control.clone(), doors.events.clone());
    let dropped = tokio::task::spawn_blocking(move || {
        for function in control.functions() {
            events.apply(&Change::Removed { name: function.name.clone() });
            events.apply(&Change::Put(function));
        }
    });
    if dropped.await.is_err() {
        return json(StatusCode::INTERNAL_SERVER_ERROR, "{\"message\":\"events could not be dropped\"}");
    }
    let environments = doors.invoker.figures().environments;
    doors.invoker.reset();
    doors.reset_apis();
    page(&value!({ "environments_ended": environments, "events_dropped": waiting + to_tell }))
}

/// Something for whoever keeps the platform as its template says; answers when it is done.
async fn order(doors: &Doors, head: &Parts, incoming: Incoming) -> Answer {
    let said = |status, message: &str| json(status, value!({ "message": message }).to_string());
    if head.method != Method::POST {
        return said(StatusCode::METHOD_NOT_ALLOWED, "POST only");
    }
    let body = match read_body(incoming, ORDER_BYTES_MAX, "{\"message\":\"too large\"}").await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let wanted = if body.is_empty() { Ok(value!({})) } else { serde_json::from_slice::<Value>(&body) };
    let wanted = match wanted {
        Ok(wanted) if wanted.is_object() => wanted,
        Ok(_) => return said(StatusCode::BAD_REQUEST, "the body must be a JSON object"),
        Err(error) => return said(StatusCode::BAD_REQUEST, &format!("the body is no JSON: {error}")),
    };
    let (reply, outcome) = oneshot::channel();
    let ordered = Ordered { order: Order::Deploy(wanted), reply };
    let Some(Ok(())) = doors.orders.as_ref().map(|orders| orders.try_send(ordered)) else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "too many deployments wait, or the platform is ending");
    };
    match outcome.await {
        Ok(Ok(done)) => page(&done),
        Ok(Err(refusal)) if refusal.problems.is_empty() => said(StatusCode::BAD_REQUEST, &refusal.message),
        Ok(Err(Refusal { message, problems })) => {
            json(StatusCode::BAD_REQUEST, value!({ "message": message, "problems": problems }).to_string())
        }
        Err(_) => said(StatusCode::SERVICE_UNAVAILABLE, "the platform is ending"),
    }
}

fn page(value: &Value) -> Answer {
    json(StatusCode::OK, value.to_string())
}

/// For alarms: whether the last write reached the disk.
fn writable(doors: &Doors) -> String {
    let name = "onrush_store_writable";
    let stores = [("functions", doors.control.trouble()), ("events", doors.events.trouble())];
    let rows = stores
        .map(|(store, trouble)| format!("{name}{{store=\"{store}\"}} {}\n", u8::from(trouble.is_none())));
    let help = "Whether the last write reached the disk.";
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n{}", rows.concat())
}

fn health(doors: &Doors) -> Value {
    let figures = doors.invoker.figures();
    let (waiting, to_tell) = doors.events.pending();
    let trouble: Vec<String> =
        [doors.control.trouble(), doors.events.trouble()].into_iter().flatten().collect();
    value!({
        "status": if trouble.is_empty() { "ok" } else { "read-only" },
        "trouble": trouble,
        "version": env!("CARGO_PKG_VERSION"),
        "account_id": doors.account_id,
        "region": doors.region,
        "functions": doors.control.count(),
        "environments": figures.environments,
        "in_flight": figures.in_flight,
        "events": waiting,
        "events_to_tell": to_tell,
    })
}

async fn limits(doors: &Doors) -> Value {
    let look = look(doors).await;
    doors.invoker.complete().await;
    let mut rows = doors.invoker.board();
    rows.extend(doors.events.board());
    rows.extend(doors.clients.board());
    let apis = doors.apis();
    if !(apis.http.is_empty() && apis.rest.is_empty()) {
        rows.extend(apis.gateway.board(doors.invoker.now()));
    }
    rows.extend(look.rows);
    let mut board = value!({ "schema": 1, "at": doors.invoker.now().as_secs_f64(), "limits": rows });
    if let Value::Object(board) = &mut board {
        board.extend(look.more);
    }
    board
}

/// Provisioned concurrency under CloudWatch's names, in Prometheus' text format; nothing where there is none.
///
/// Source: Lambda Developer Guide, "Types of metrics for Lambda functions".
fn provisioned(doors: &Doors) -> String {
    type Value = fn(&ProvisionedCounts) -> f64;
    const METRICS: [(&str, &str, &str, Value); 4] = [
        ("provisioned_concurrent_executions", "gauge", "Requests that run on it.", |counts| {
            f64::from(counts.in_use)
        }),
        ("provisioned_concurrency_invocations_total", "counter", "Requests that ran on it.", |counts| {
            counts.invocations as f64
        }),
        (
            "provisioned_concurrency_spillover_invocations_total",
            "counter",
            "Requests that ran on demand instead.",
            |counts| counts.spillover as f64,
        ),
        ("provisioned_concurrency_utilization", "gauge", "The part of it that is in use.", |counts| {
            f64::from(counts.in_use) / f64::from(counts.allocated.max(1))
        }),
    ];
    let all = doors.invoker.all_provisioned();
    let mut text = String::new();
    for (name, kind, help, value) in METRICS.iter().filter(|_| !all.is_empty()) {
        let _ = writeln!(text, "# HELP onrush_{name} {help}\n# TYPE onrush_{name} {kind}");
        for (key, counts) in &all {
            let (function, qualifier) = key.split_once(':').unwrap_or((key, ""));
            let value = value(counts);
            let _ =
                writeln!(text, "onrush_{name}{{function=\"{function}\",qualifier=\"{qualifier}\"}} {value}");
        }
    }
    text
}

/// The network's part; empty where there is none.
async fn look(doors: &Doors) -> NetworkLook {
    match &doors.network {
        Some(network) => network.look().await.unwrap_or_default(),
        None => NetworkLook::default(),
    }
}

/// The next packets behind an interface, for the session that the query names.
async fn capture(doors: &Doors, interface: &str, query: &str) -> Answer {
    let refused = |status, message: &str| json(status, value!({ "message": message }).to_string());
    let Some(network) = &doors.network else {
        return refused(StatusCode::NOT_FOUND, "environments have no network here; `onrush doctor` says why");
    };
    let Some(session) = parameter(query, "session") else {
        return refused(StatusCode::BAD_REQUEST, "a capture needs a session, any number");
    };
    let wait = Duration::from_secs(parameter(query, "wait").unwrap_or(0)).min(CAPTURE_WAIT_MAX);
    let interface = crate::event::decode(interface, false);
    match network.packets(interface, session, wait).await {
        Ok(records) => {
            let mut answer = json(StatusCode::OK, records);
            let kind = http::HeaderValue::from_static("application/octet-stream");
            answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            answer
        }
        Err(Unseen::NotThere(message)) => refused(StatusCode::NOT_FOUND, &message),
        Err(Unseen::Refused(refusal)) => {
            let message = format!("{refusal}: end a capture that is under way");
            with_limit(refused(StatusCode::TOO_MANY_REQUESTS, &message), &refusal)
        }
    }
}

fn parameter(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
}

fn functions(doors: &Doors) -> Value {
    let list: Vec<_> = doors
        .control
        .functions()
        .iter()
        .map(|function| {
            value!({
                "name": function.name, "logical_id": function.logical_id, "arn": function.arn,
                "runtime": function.runtime, "handler": function.handler, "memory_mb": function.memory_mb,
                "timeout_s": function.timeout.as_secs_f64(), "reserved": function.reserved,
                "url_id": function.url.as_ref().map(|url| &url.id),
            })
        })
        .collect();
    value!({ "functions": list })
}

/// Lines after number `after`; with `wait` (seconds) and nothing new, waits for news that long.
async fn logs(doors: &Doors, word: &str, query: &str) -> Answer {
    let function = doors.control.function(word).or_else(|| doors.function_by_logical_id(word));
    let Some(function) = function else {
        return json(
            StatusCode::NOT_FOUND,
            value!({ "message": format!("no function is called {word}") }).to_string(),
        );
    };
    let log = doors.logs.function(&function.name);
    let after = parameter(query, "after").unwrap_or(0);
    let wait = Duration::from_secs(parameter(query, "wait").unwrap_or(0)).min(FOLLOW_MAX);
    let lines = log.wait(after, wait).await;
    let last = lines.last().map_or(after, |line| line.sequence);
    let lines: Vec<_> = lines
        .iter()
        .map(|line| value!({ "sequence": line.sequence, "time": telemetry::iso_time(line.at_ms), "text": &*line.text }))
        .collect();
    page(&value!({ "function": function.name, "last": last, "dropped": log.dropped(), "lines": lines }))
}
