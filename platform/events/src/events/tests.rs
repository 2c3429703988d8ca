//! The queue with functions that do what a test says, over a store in memory.

use super::*;
use crate::endpoint::Endpoint;
use crate::run::{Payload, Refused, Run};
use crate::writer::tests::{Memory, Mood};
use control::EventInvokeConfig;
use invoke::Invoked;
use model::Refusal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What a function does with its next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Answer,
    Fail,
    Throttle,
    Stop,
    /// Never answers.
    Hang,
}

/// Functions whose doings come from a list; at its end they answer.
struct Script {
    functions: Mutex<HashMap<String, Arc<Function>>>,
    does: Mutex<Vec<Does>>,
    tries: AtomicUsize,
    ran: mpsc::UnboundedSender<(String, String, Value)>,
}

impl Runs for Arc<Script> {
    fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.functions.lock().unwrap().get(name).cloned()
    }

    fn admit(&self, attempt: Try, payload: Payload) -> Result<Run, Refused> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        let mut does = self.does.lock().unwrap();
        let does = if does.is_empty() { Does::Answer } else { does.remove(0) };
        let refusal = |max| {
            Refused::Limit(Refusal {
                limit: LimitId::ReservedConcurrency,
                resource: attempt.function.clone(),
                destination: None,
                used: 0,
                max,
                retry_at: None,
            })
        };
        if self.function(&attempt.function).is_none() {
            return Err(Refused::NoFunction);
        }
        match does {
            Does::Throttle => return Err(refusal(1)),
            Does::Stop => return Err(refusal(0)),
            _ => {}
        }
        let ran = self.ran.clone();
        Ok(Box::pin(async move {
            let payload = payload.await.expect("the payload is there");
            let event = serde_json::from_slice(&payload).unwrap();
            let _ = ran.send((attempt.function.to_string(), attempt.request_id.to_string(), event));
            if does == Does::Hang {
                std::future::pending::<()>().await;
            }
            let failed = does == Does::Fail;
            let payload = if failed { Bytes::from_static(br#"{"errorMessage":"no"}"#) } else { payload };
            Ok(Invoked {
                payload,
                failed,
                log_tail: None,
                version: "$LATEST".to_owned(),
                limit: None,
                content_type: None,
            })
        }))
    }
}

struct Bench {
    events: Events,
    script: Arc<Script>,
    memory: Memory,
    counters: Arc<Counters>,
    ran: mpsc::UnboundedReceiver<(String, String, Value)>,
}

fn fast() -> Options {
    Options { timing: Timing::default().faster(100_000), payload_bytes_max: 1_000, ..Options::default() }
}

fn function(name: &str, config: EventInvokeConfig) -> Arc<Function> {
    let mut function = Function::new(name, PathBuf::new());
    function.event_invoke.insert(LATEST.to_owned(), config);
    Arc::new(function)
}

impl Bench {
    fn new(functions: &[Arc<Function>], does: &[Does], options: Options) -> Self {
        Self::over(Memory::default(), functions, does, options)
    }

    fn over(memory: Memory, functions: &[Arc<Function>], does: &[Does], options: Options) -> Self {
        let counters = Arc::new(Counters::default());
        let events = Events::open(Box::new(memory.clone()), options, counters.clone()).unwrap();
        let (said, ran) = mpsc::unbounded_channel();
        let functions = functions.iter().map(|function| (function.name.clone(), function.clone())).collect();
        let script = Arc::new(Script {
            functions: Mutex::new(functions),
            does: Mutex::new(does.to_vec()),
            tries: AtomicUsize::new(0),
            ran: said,
        });
        events.start(script.clone());
        Self { events, script, memory, counters, ran }
    }

    async fn send(&self, name: &str, payload: &str) -> Result<(), EventError> {
        let function = self.script.function(name).unwrap();
        self.events.accept(arrival(function, payload)).await
    }

    /// Waits until nothing is to be done any more, then for the disk.
    async fn rest(&self) {
        while self.events.pending() != (0, 0) {
            tokio::task::yield_now().await;
        }
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || events.close()).await.unwrap();
    }

    fn rows(&self) -> Vec<String> {
        self.memory.rows.lock().unwrap().keys().cloned().collect()
    }
}

fn arrival(function: Arc<Function>, payload: &str) -> Arrival {
    Arrival {
        function,
        qualifier: None,
        request_id: "request".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        client_context: None,
        trace_id: None,
    }
}

/// A server that keeps bodies; the first `refused` requests are answered with 500.
async fn server(mut refused: usize) -> (Endpoint, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (said, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = Vec::new();
            let body = loop {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).await.unwrap();
                text.extend_from_slice(&piece[..count]);
                let head = text.windows(4).position(|window| window == b"\r\n\r\n");
                let Some(head) = head else { continue };
                let heads = String::from_utf8_lossy(&text[..head]).to_lowercase();
                let length = heads.split("content-length: ").nth(1).unwrap();
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if text.len() >= head + 4 + length {
                    break String::from_utf8(text[head + 4..].to_vec()).unwrap();
                }
            };
            let status = if refused > 0 { "500 No" } else { "200 OK" };
            if refused == 0 {
                let _ = said.send(body);
            }
            refused = refused.saturating_sub(1);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (Endpoint::new("127.0.0.1", port), heard)
}

fn to_queue() -> Option<String> {
    Some("arn:aws:sqs:us-east-1:000000000000:heard".to_owned())
}

#[tokio::test]
async fn an_event_is_on_the_disk_before_it_is_accepted_and_gone_after_it_ran() {
    let mut bench = Bench::new(&[function("cart", EventInvokeConfig::default())], &[Does::Hang], fast());
    bench.send("cart", "{\"n\":1}").await.unwrap();
    assert_eq!(bench.rows().len(), 2);
    assert_eq!(bench.ran.recv().await.unwrap().2, json!({"n": 1}));
    bench.send("cart", "{\"n\":2}").await.unwrap();
    assert_eq!(bench.ran.recv().await.unwrap().2, json!({"n": 2}));
    while bench.events.pending() != (1, 0) {
        tokio::task::yield_now().await;
    }
    bench.events.close();
    assert_eq!(bench.rows(), ["event/0000000000000000", "payload/0000000000000000"]);
}

#[tokio::test]
async fn a_failing_function_runs_three_times_for_one_request_id_and_its_event_is_a_dead_letter() {
    let (endpoint, mut heard) = server(2).await;
    let mut cart = Function::clone(&function(
        "cart",
        EventInvokeConfig { on_failure: to_queue(), ..Default::default() },
    ));
    cart.dead_letter_arn = Some("arn:aws:sqs:us-east-1:000000000000:dead".to_owned());
    let options = Options { endpoints: [("sqs".to_owned(), endpoint)].into(), ..fast() };
    let mut bench =
        Bench::new(&[Arc::new(cart)], &[Does::Throttle, Does::Fail, Does::Fail, Does::Fail], options);
    bench.send("cart", "{\"n\":1}").await.unwrap();
    let mut letters: Vec<Value> = Vec::new();
    while letters.len() < 2 {
        letters.push(serde_json::from_str(&heard.recv().await.unwrap()).unwrap());
    }
    letters.sort_by_key(|letter| letter["QueueUrl"].to_string());
    assert_eq!(letters[0]["MessageBody"], "{\"n\":1}");
    assert_eq!(letters[0]["MessageAttributes"]["ErrorMessage"]["StringValue"], "no");
    let record: Value = serde_json::from_str(letters[1]["MessageBody"].as_str().unwrap()).unwrap();
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(record["responsePayload"], json!({"errorMessage": "no"}));
    bench.rest().await;
    assert_eq!(bench.rows(), [""; 0]);
    for _ in 0..3 {
        assert_eq!(bench.ran.recv().await.unwrap().1, "request");
    }
    assert_eq!(bench.script.tries.load(Ordering::SeqCst), 4);
    let text = bench.counters.prometheus(&[]);
    let failures = ["dead_letter_errors", "destination_delivery_failures"].map(|name| {
        text.split(&format!("onrush_{name}_total{{function=\"cart\"}} ")).nth(1).unwrap().as_bytes()[0] - b'0'
    });
    assert_eq!(failures.iter().sum::<u8>(), 2, "{text}");
    assert!(text.contains("onrush_async_events_dropped_total{function=\"cart\"} 1\n"), "{text}");
}

#[tokio::test]
async fn a_reservation_of_nothing_settles_events_at_once() {
    let config = EventInvokeConfig {
        on_failure: Some("arn:aws:lambda:us-east-1:000000000000:function:other".to_owned()),
        ..Default::default()
    };
    let functions = [function("cart", config), function("other", EventInvokeConfig::default())];
    let mut bench = Bench::new(&functions, &[Does::Stop], fast());
    bench.send("cart", "[]").await.unwrap();
    let (function, request_id, record) = bench.ran.recv().await.unwrap();
    assert_eq!((&*function, record["requestContext"]["approximateInvokeCount"].as_u64()), ("other", Some(0)));
    assert_ne!(request_id, "request", "an invocation of its own");
    assert!(record.get("responsePayload").is_none());
    bench.rest().await;
}

#[tokio::test]
async fn what_an_earlier_run_accepted_goes_on_with_its_failures() {
    let memory = Memory::default();
    let cart = function("cart", EventInvokeConfig::default());
    let slow = Options { timing: Timing::default(), ..fast() };
    let mut first = Bench::over(memory.clone(), std::slice::from_ref(&cart), &[Does::Fail], slow);
    first.send("cart", "{\"n\":1}").await.unwrap();
    first.ran.recv().await.unwrap();
    let failed = || {
        let rows = memory.rows.lock().unwrap();
        let row: Value = serde_json::from_slice(&rows["event/0000000000000000"]).unwrap();
        row["failures"].as_u64()
    };
    while failed() != Some(1) {
        tokio::task::yield_now().await;
    }
    // Killed: nothing is closed.
    let mut second = Bench::over(
        memory.clone(),
        std::slice::from_ref(&cart),
        &[Does::Fail, Does::Fail, Does::Fail],
        fast(),
    );
    second.rest().await;
    second.ran.recv().await.unwrap();
    second.ran.recv().await.unwrap();
    assert_eq!(second.script.tries.load(Ordering::SeqCst), 2, "three in all");
    assert_eq!(second.rows(), [""; 0]);
    drop(first);
}

#[tokio::test]
async fn a_wall_clock_that_was_set_back_holds_no_event_up() {
    let memory = Memory::default();
    let cart = function("cart", EventInvokeConfig::default());
    let later = telemetry::unix_millis() + 10 * 365 * 86_400_000;
    let event = Event {
        function: "cart".into(),
        arn: "arn:aws:lambda:us-east-1:000000000000:function:cart".into(),
        qualifier: None,
        request_id: "request".into(),
        accepted_ms: later,
        bytes: 2,
        client_context: None,
        trace_id: None,
        failures: 1,
        due_ms: later,
        settlement: None,
    };
    memory.rows.lock().unwrap().extend([(event_key(5), event.to_row()), (payload_key(5), b"{}".to_vec())]);
    let mut bench = Bench::over(memory, &[cart], &[], fast());
    assert_eq!(bench.ran.recv().await.unwrap().2, json!({}));
    bench.rest().await;
}

#[tokio::test]
async fn a_settlement_of_an_earlier_run_is_told() {
    let memory = Memory::default();
    let cart = function("cart", EventInvokeConfig { on_success: to_queue(), ..Default::default() });
    let nobody = Options { timing: Timing::default(), ..fast() };
    let first = Bench::over(memory.clone(), std::slice::from_ref(&cart), &[], nobody);
    first.send("cart", "{\"n\":1}").await.unwrap();
    while !memory.rows.lock().unwrap().contains_key("response/0000000000000000") {
        tokio::task::yield_now().await;
    }
    let (endpoint, mut heard) = server(0).await;
    let options = Options { endpoints: [("sqs".to_owned(), endpoint)].into(), ..fast() };
    // The function is gone meanwhile, what it did is not.
    let second = Bench::over(memory.clone(), &[], &[], options);
    let letter: Value = serde_json::from_str(&heard.recv().await.unwrap()).unwrap();
    let record: Value = serde_json::from_str(letter["MessageBody"].as_str().unwrap()).unwrap();
    assert_eq!((&record["requestPayload"], &record["responsePayload"]), (&json!({"n": 1}), &json!({"n": 1})));
    second.rest().await;
    assert_eq!(second.rows(), [""; 0]);
}

#[tokio::test]
async fn an_event_that_waits_too_long_is_dropped_and_the_limit_says_so() {
    let options = Options { maximum_age: Some(Duration::ZERO), ..fast() };
    let bench = Bench::new(&[function("cart", EventInvokeConfig::default())], &[], options);
    bench.send("cart", "{}").await.unwrap();
    bench.rest().await;
    let board = bench.events.board();
    let row = board.iter().find(|row| row.id == LimitId::AsyncQueueAge).unwrap();
    assert_eq!((&*row.resource, row.refused), ("cart", 1));
    assert!(row.first_refused_at.unwrap() < Instant::from_secs(3_600), "on the platform's own clock");
    assert_eq!(bench.script.tries.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn events_of_a_function_that_is_removed_are_dropped_and_never_run_for_its_successor() {
    let cart = function("cart", EventInvokeConfig::default());
    let slow = Options { timing: Timing::default(), ..fast() };
    let mut bench = Bench::new(std::slice::from_ref(&cart), &[Does::Throttle, Does::Throttle], slow);
    bench.send("cart", "{\"n\":1}").await.unwrap();
    bench.send("cart", "{\"n\":2}").await.unwrap();
    while bench.script.tries.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    bench.events.apply(&Change::Removed { name: "cart".to_owned() });
    assert_eq!(bench.events.pending(), (0, 0));
    bench.send("cart", "{\"n\":3}").await.unwrap();
    assert_eq!(bench.ran.recv().await.unwrap().2, json!({"n": 3}));
    bench.rest().await;
    assert_eq!(bench.rows(), [""; 0]);
}

#[tokio::test]
async fn settings_that_change_hold_for_events_that_wait() {
    let cart = function("cart", EventInvokeConfig::default());
    let mut bench = Bench::new(std::slice::from_ref(&cart), &[Does::Fail, Does::Fail], fast());
    bench.events.apply(&Change::Put(function(
        "cart",
        EventInvokeConfig { maximum_retry_attempts: Some(0), ..Default::default() },
    )));
    bench.send("cart", "{}").await.unwrap();
    bench.ran.recv().await.unwrap();
    // No lane was there yet when it changed, so the function as it was at acceptance counts.
    bench.ran.recv().await.unwrap();
    bench.ran.recv().await.unwrap();
    bench.events.apply(&Change::Put(function(
        "cart",
        EventInvokeConfig { maximum_retry_attempts: Some(0), ..Default::default() },
    )));
    bench.script.does.lock().unwrap().push(Does::Fail);
    bench.send("cart", "{}").await.unwrap();
    bench.rest().await;
    assert_eq!(bench.script.tries.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_accepted_and_does_not_run() {
    let bench = Bench::new(&[function("cart", EventInvokeConfig::default())], &[], fast());
    *bench.memory.mood.lock().unwrap() = Mood::Full;
    assert!(matches!(bench.send("cart", "{}").await, Err(EventError::Store(_))));
    assert_eq!(bench.events.pending(), (0, 0));
    *bench.memory.mood.lock().unwrap() = Mood::Well;
    bench.send("cart", "{}").await.unwrap();
    *bench.memory.mood.lock().unwrap() = Mood::Broken;
    assert!(matches!(bench.send("cart", "{}").await, Err(EventError::Store(_))));
    bench.rest().await;
    assert_eq!(bench.script.tries.load(Ordering::SeqCst), 1);
    assert!(matches!(bench.send("cart", "{}").await, Err(EventError::Stopping)));
}

#[tokio::test]
async fn a_backlog_outruns_memory_and_is_read_from_the_store() {
    let cart = function("cart", EventInvokeConfig::default());
    let mut bench = Bench::new(std::slice::from_ref(&cart), &[], fast());
    bench.events.0.lock().in_memory = MEMORY_BYTES_MAX;
    bench.send("cart", "{\"n\":1}").await.unwrap();
    assert_eq!(bench.ran.recv().await.unwrap().2, json!({"n": 1}));
    bench.events.0.lock().in_memory -= MEMORY_BYTES_MAX;
    bench.rest().await;
    assert_eq!(bench.events.0.lock().in_memory, 0);
    assert_eq!(bench.events.0.lock().bytes, 0);
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let cart = function("cart", EventInvokeConfig::default());
    let bench = Bench::new(std::slice::from_ref(&cart), &[], fast());
    bench.events.0.lock().arriving = EVENTS_MAX;
    let refused = bench.send("cart", "{}").await.unwrap_err();
    assert!(matches!(refused, EventError::Full { unit: "events", .. }), "{refused}");
    bench.events.0.lock().arriving = 0;
    bench.events.0.lock().bytes = BYTES_MAX - 1;
    assert!(matches!(bench.send("cart", "{}").await, Err(EventError::Full { unit: "bytes", .. })));
    let row = bench.events.board().pop().unwrap();
    assert_eq!((row.id, row.refused, row.max), (LimitId::HostEvents, 2, EVENTS_MAX as u64));
}
