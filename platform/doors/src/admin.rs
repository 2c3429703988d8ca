//! Onrush's own pages: health, the limits board, metrics, logs.

use crate::Answer;
use crate::router::{Doors, json};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json as value};
use std::time::Duration;

/// Longest wait of a log follower for news.
const FOLLOW_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn answer(doors: &Doors, head: &Parts) -> Answer {
    let path = head.uri.path();
    if head.method != Method::GET {
        return json(StatusCode::METHOD_NOT_ALLOWED, "{\"message\":\"GET only\"}");
    }
    match path.strip_prefix("/_onrush/").unwrap_or("") {
        "health" => page(&health(doors)),
        "limits" => page(&limits(doors)),
        "functions" => page(&functions(doors)),
        "metrics" => {
            let mut answer = json(StatusCode::OK, doors.counters.prometheus(&doors.logs.dropped()));
            let text = http::HeaderValue::from_static("text/plain; version=0.0.4");
            answer.headers_mut().insert(http::header::CONTENT_TYPE, text);
            answer
        }
        other => match other.strip_prefix("logs/") {
            Some(function) => logs(doors, function, head.uri.query().unwrap_or("")).await,
            None => json(
                StatusCode::NOT_FOUND,
                "{\"message\":\"there are /_onrush/health, functions, limits, metrics, logs/FUNCTION and door/LOGICAL-ID\"}",
            ),
        },
    }
}

fn page(value: &Value) -> Answer {
    json(StatusCode::OK, value.to_string())
}

fn health(doors: &Doors) -> Value {
    let figures = doors.invoker.figures();
    let (waiting, to_tell) = doors.events.pending();
    value!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "functions": figures.functions,
        "environments": figures.environments,
        "in_flight": figures.in_flight,
        "events": waiting,
        "events_to_tell": to_tell,
    })
}

fn limits(doors: &Doors) -> Value {
    let mut board = doors.invoker.board();
    board.extend(doors.events.board());
    value!({
        "schema": 1,
        "at": doors.invoker.now().as_secs_f64(),
        "limits": board,
    })
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
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    let function = doors.control.function(word).or_else(|| doors.function_by_logical_id(word));
    let Some(function) = function else {
        return json(
            StatusCode::NOT_FOUND,
            value!({ "message": format!("no function is called {word}") }).to_string(),
        );
    };
    let log = doors.logs.function(&function.name);
    let after = parameter("after").unwrap_or(0);
    let wait = Duration::from_secs(parameter("wait").unwrap_or(0)).min(FOLLOW_MAX);
    let lines = log.wait(after, wait).await;
    let last = lines.last().map_or(after, |line| line.sequence);
    let lines: Vec<_> = lines
        .iter()
        .map(|line| value!({ "sequence": line.sequence, "time": telemetry::iso_time(line.at_ms), "text": &*line.text }))
        .collect();
    page(&value!({ "function": function.name, "last": last, "dropped": log.dropped(), "lines": lines }))
}
