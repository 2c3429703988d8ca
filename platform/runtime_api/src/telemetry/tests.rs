use super::*;
use serde_json::json;
use std::future::Future;
use std::io;
use std::pin::Pin;
use telemetry::{Report, Status};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Loopback, where a port inside stands for one of the test's.
#[derive(Debug)]
struct Here(u16);

impl Dial for Here {
    fn dial(&self, _port: u16) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + '_>> {
        Box::pin(TcpStream::connect(("127.0.0.1", self.0)))
    }
}

fn request(protocol: &str, types: &[&str]) -> Vec<u8> {
    let uri = format!("{}://sandbox.localdomain:4243/in", protocol.to_lowercase());
    json!({
        "schemaVersion": "2022-12-13",
        "types": types,
        "buffering": {"timeoutMs": 25},
        "destination": {"protocol": protocol, "URI": uri},
    })
    .to_string()
    .into_bytes()
}

async fn opened() -> (Arc<Telemetry>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let telemetry = Arc::new(Telemetry::default());
    let weak = Arc::downgrade(&telemetry);
    telemetry.open(Arc::new(Here(listener.local_addr().unwrap().port())), move |name, types, kind| {
        if let Some(telemetry) = weak.upgrade() {
            telemetry.platform(&[PlatformEvent::Subscription { name, types, kind }]);
        }
    });
    (telemetry, listener)
}

fn start(id: &str) -> PlatformEvent<'_> {
    PlatformEvent::Start { request_id: id, version: "$LATEST", trace_id: None }
}

/// Reads one batch and accepts it.
async fn batch(stream: &mut BufReader<TcpStream>) -> Vec<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn batches_come_over_one_connection_from_the_beginning_of_init() {
    let (telemetry, listener) = opened().await;
    telemetry.platform(&[start("before")]);
    telemetry
        .subscribe(Api::Telemetry, &"agent".into(), &request("HTTP", &["platform", "function"]))
        .unwrap();
    telemetry.function(["{\"level\":\"INFO\"}", "plain", "{broken"].into_iter(), true);
    telemetry.extension(["not asked for"].into_iter());
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let first = batch(&mut stream).await;
    assert_eq!(
        types(&first),
        ["platform.start", "platform.telemetrySubscription", "function", "function", "function"]
    );
    assert_eq!(
        first[1]["record"],
        json!({"name": "agent", "state": "Subscribed", "types": ["platform", "function"]})
    );
    let records: Vec<&Value> = first[2..].iter().map(|event| &event["record"]).collect();
    assert_eq!(records, [&json!({"level": "INFO"}), &json!("plain"), &json!("{broken")]);
    telemetry.platform(&[start("second")]);
    assert_eq!(batch(&mut stream).await[0]["record"]["requestId"], "second");
}

#[tokio::test]
async fn tcp_gets_a_line_per_event_in_the_shape_of_its_api() {
    let (telemetry, listener) = opened().await;
    let mut wanted: Value = serde_json::from_slice(&request("TCP", &["platform"])).unwrap();
    wanted["schemaVersion"] = json!("2021-03-18");
    telemetry.subscribe(Api::Logs, &"agent".into(), wanted.to_string().as_bytes()).unwrap();
    let report = Report {
        request_id: "id",
        duration: Duration::ZERO,
        init: None,
        restore: None,
        init_billed: true,
        memory_mb: 128,
        memory_peak_bytes: 0,
        status: Status::Success,
    };
    telemetry.platform(&[PlatformEvent::End { request_id: "id" }, PlatformEvent::Report(&report)]);
    let (stream, _) = listener.accept().await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut found = Vec::new();
    for _ in 0..3 {
        let line = lines.next_line().await.unwrap().unwrap();
        found.push(serde_json::from_str::<Value>(&line).unwrap()["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(found, ["platform.logsSubscription", "platform.end", "platform.report"]);
}

#[tokio::test]
async fn whoever_is_slow_loses_events_and_is_told_how_many() {
    let (telemetry, listener) = opened().await;
    telemetry.subscribe(Api::Telemetry, &"agent".into(), &request("HTTP", &["function"])).unwrap();
    // One batch may be on its way, two may wait.
    let line = "x".repeat(1_000);
    for _ in 0..1_100 {
        telemetry.function([line.as_str()].into_iter(), false);
    }
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let (mut got, mut dropped) = (0, 0);
    while got + dropped < 1_100 {
        for event in batch(&mut stream).await {
            match event["type"].as_str().unwrap() {
                "function" => got += 1,
                "platform.logsDropped" => dropped += event["record"]["droppedRecords"].as_u64().unwrap(),
                other => panic!("{other}"),
            }
        }
    }
    assert!(dropped > 0 && got > 200, "{got} came, {dropped} were dropped");
    assert_eq!(got + dropped, 1_100);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew_and_nothing_is_lost() {
    let (telemetry, listener) = opened().await;
    telemetry.subscribe(Api::Telemetry, &"agent".into(), &request("HTTP", &["platform"])).unwrap();
    for number in 0..3 {
        telemetry.platform(&[start(&number.to_string())]);
        let (mut stream, _) = listener.accept().await.unwrap();
        if number == 0 {
            // Read by nobody, answered with an error: it is sent again.
            stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            drop(stream);
            (stream, _) = listener.accept().await.unwrap();
        }
        let found = batch(&mut BufReader::new(stream)).await;
        assert_eq!(found.last().unwrap()["record"]["requestId"], number.to_string());
    }
}

#[tokio::test]
async fn subscriptions_end_with_init_and_the_latest_of_an_extension_holds() {
    let (telemetry, listener) = opened().await;
    let agent: Arc<str> = "agent".into();
    telemetry.subscribe(Api::Telemetry, &agent, &request("HTTP", &["extension"])).unwrap();
    telemetry.subscribe(Api::Telemetry, &agent, &request("HTTP", &["function"])).unwrap();
    telemetry.close_subscriptions();
    assert!(telemetry.is_listening());
    let refused = telemetry.subscribe(Api::Telemetry, &agent, &request("HTTP", &["function"]));
    assert_eq!(refused, Err(SubscribeError::Closed));
    telemetry.extension(["a"].into_iter());
    telemetry.function(["b"].into_iter(), false);
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(types(&batch(&mut BufReader::new(stream)).await), ["function"]);
    telemetry.end();
    assert!(!telemetry.is_listening());
}

#[tokio::test]
async fn without_subscribers_nothing_is_kept() {
    let (telemetry, _listener) = opened().await;
    telemetry.platform(&[start("a")]);
    assert!(telemetry.is_listening());
    telemetry.close_subscriptions();
    assert!(!telemetry.is_listening() && telemetry.lock().early.is_empty());
    let never_opened = Telemetry::default();
    never_opened.platform(&[start("a")]);
    let refused = never_opened.subscribe(Api::Logs, &"a".into(), &request("HTTP", &["function"]));
    assert!(matches!(refused, Err(SubscribeError::Invalid(_) | SubscribeError::Closed)));
}
