use crate::extensions::ShutdownReason;
use crate::{Answer as Answered, Facts, Initialisation, Invocation, Reply, Session};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A session with external extensions, and who can talk to it.
struct House {
    session: Arc<Session>,
    address: std::net::SocketAddr,
}

/// One connection.
struct Line(TcpStream);

struct Answer {
    status: u16,
    identifier: String,
    body: Value,
}

impl House {
    async fn with(external: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names: Vec<Arc<str>> = external.iter().map(|name| (*name).into()).collect();
        let facts = Facts {
            function_name: "cart".into(),
            function_version: "$LATEST".into(),
            handler: "app.handler".into(),
            account_id: "123456789012".into(),
        };
        let session = Session::with_extensions(Arc::new(facts), &names, Arc::default());
        tokio::spawn(session.clone().serve(listener));
        Self { session, address }
    }

    async fn line(&self) -> Line {
        Line(TcpStream::connect(self.address).await.unwrap())
    }

    fn give(&self, id: &str) -> oneshot::Receiver<Answered> {
        let (reply, answer) = oneshot::channel();
        self.session
            .give(Invocation {
                request_id: id.into(),
                payload: Bytes::from_static(b"{}"),
                deadline_ms: 676_051,
                function_arn: "arn:aws:lambda:us-east-1:123456789012:function:cart".into(),
                trace_id: "Root=1-2-3".into(),
                client_context: None,
                reply,
            })
            .unwrap();
        answer
    }
}

impl Line {
    async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        self.0.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").to_owned();
        let mut body = vec![0; header("Content-Length: ").parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            identifier: header("Lambda-Extension-Identifier: "),
            body: serde_json::from_slice(&body).unwrap(),
        }
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(method, path, headers, body).await;
        self.read().await
    }

    async fn register(&mut self, name: &str, events: &[&str]) -> Answer {
        let body = json!({"events": events}).to_string();
        self.ask("POST", "/2020-01-01/extension/register", &[("Lambda-Extension-Name", name)], &body).await
    }

    async fn send_next(&mut self, id: &str) {
        self.send("GET", "/2020-01-01/extension/event/next", &[("lambda-extension-identifier", id)], "")
            .await;
    }

    async fn send_runtime_next(&mut self) {
        self.send("GET", "/2018-06-01/runtime/invocation/next", &[], "").await;
    }
}

/// Lets everything that can run do so.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn registration_tells_of_the_function_and_the_account_when_asked() {
    let house = House::with(&["agent"]).await;
    let mut line = house.line().await;
    let answer = line.register("agent", &["INVOKE", "SHUTDOWN"]).await;
    assert_eq!((answer.status, answer.identifier.len()), (200, 36));
    let facts = json!({"functionName": "cart", "functionVersion": "$LATEST", "handler": "app.handler"});
    assert_eq!(answer.body, facts);
    let headers = [("Lambda-Extension-Name", "inside"), ("Lambda-Extension-Accept-Feature", "x, accountId")];
    let answer = line.ask("POST", "/2020-01-01/extension/register", &headers, "{\"events\":[]}").await;
    assert_eq!(answer.body["accountId"], "123456789012");
}

#[tokio::test]
async fn init_and_invocations_wait_for_extensions_and_answers_do_not() {
    let house = House::with(&["agent"]).await;
    let (mut agent, mut runtime) = (house.line().await, house.line().await);
    let id = agent.register("agent", &["INVOKE"]).await.identifier;
    house.session.extensions_registered().await;
    runtime.send_runtime_next().await;
    settle().await;
    // As in a suppressed INIT: the invocation waits for it.
    let answer = house.give("id-1");
    settle().await;
    assert!(house.session.idle_since().is_none());
    agent.send_next(&id).await;
    assert_eq!(house.session.initialised().await, Initialisation::Ready);
    let event = agent.read().await.body;
    assert_eq!(
        event,
        json!({"eventType": "INVOKE", "deadlineMs": 676_051, "requestId": "id-1",
            "invokedFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:cart",
            "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3"}})
    );
    runtime.read().await;
    runtime.ask("POST", "/2018-06-01/runtime/invocation/id-1/response", &[], "[1]").await;
    let Ok(Answered::Whole(reply)) = answer.await else { panic!("no whole answer") };
    assert_eq!(reply, Reply::Response(Bytes::from_static(b"[1]")));
    runtime.send_runtime_next().await;
    house.session.runtime_idle().await;
    assert!(house.session.idle_since().is_none(), "the extension has not come back");
    agent.send_next(&id).await;
    house.session.idle().await;
    let told = house.session.shut_down(ShutdownReason::Spindown, 5);
    assert!(told.is_empty(), "it did not register for that");
}

#[tokio::test]
async fn the_end_reaches_who_waits_for_it() {
    let house = House::with(&["agent"]).await;
    let mut agent = house.line().await;
    let id = agent.register("agent", &["SHUTDOWN"]).await.identifier;
    agent.send_next(&id).await;
    settle().await;
    assert_eq!(house.session.shut_down(ShutdownReason::Failure, 5), ["agent".into()]);
    let body = json!({"eventType": "SHUTDOWN", "shutdownReason": "failure", "deadlineMs": 5});
    assert_eq!(agent.read().await.body, body);
}

#[tokio::test]
async fn errors_end_the_environment() {
    let house = House::with(&["agent"]).await;
    let mut agent = house.line().await;
    let id = agent.register("agent", &[]).await.identifier;
    let path = "/2020-01-01/extension/init/error";
    let unnamed = agent.ask("POST", path, &[("Lambda-Extension-Identifier", &id)], "{}").await;
    assert_eq!((unnamed.status, &unnamed.body["errorType"]), (403, &json!("Extension.MissingHeader")));
    let headers = [
        ("Lambda-Extension-Identifier", id.as_str()),
        ("Lambda-Extension-Function-Error-Type", "Agent.NoKey"),
    ];
    let answer = agent.ask("POST", path, &headers, "{}").await;
    assert_eq!((answer.status, answer.body), (202, json!({"status": "OK"})));
    let failure = house.session.extension_failed().await;
    assert_eq!((&*failure.name, failure.error_type.as_str()), ("agent", "Agent.NoKey"));
}

#[tokio::test]
async fn calls_without_a_right_identifier_are_refused() {
    let house = House::with(&[]).await;
    let mut line = house.line().await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (method, path) in [
        ("GET", "/2020-01-01/extension/event/next"),
        ("POST", "/2020-01-01/extension/init/error"),
        ("POST", "/2020-01-01/extension/exit/error"),
        ("PUT", "/2022-07-01/telemetry"),
        ("PUT", "/2020-08-15/logs/"),
    ] {
        for (identifier, kind) in [
            ("", "Extension.MissingExtensionIdentifier"),
            ("abc", "Extension.InvalidExtensionIdentifier"),
            (unknown, "Extension.UnknownExtensionIdentifier"),
        ] {
            let headers =
                [("Lambda-Extension-Identifier", identifier), ("Lambda-Extension-Function-Error-Type", "X")];
            let answer = line.ask(method, path, &headers, "").await;
            assert_eq!(
                (answer.status, &answer.body["errorType"]),
                (403, &json!(kind)),
                "{path} {identifier}"
            );
        }
    }
    for (path, body) in
        [("register", "["), ("register", "{\"events\":5}"), ("register", "{\"configurationKeys\":[\"a\"]}")]
    {
        let path = format!("/2020-01-01/extension/{path}");
        let answer = line.ask("POST", &path, &[("Lambda-Extension-Name", "x")], body).await;
        assert_eq!(
            (answer.status, &answer.body["errorType"]),
            (403, &json!("InvalidRequestFormat")),
            "{body}"
        );
    }
    let missing = line.ask("POST", "/2020-01-01/extension/other", &[], "").await;
    assert_eq!(missing.status, 404);
    let large = "x".repeat(70_000);
    assert_eq!(line.register(&large[..10], &[&large]).await.status, 413);
}

#[tokio::test]
async fn a_lost_connection_in_next_loses_no_event() {
    let house = House::with(&["agent"]).await;
    let (mut agent, mut runtime) = (house.line().await, house.line().await);
    let id = agent.register("agent", &["INVOKE"]).await.identifier;
    agent.send_next(&id).await;
    runtime.send_runtime_next().await;
    house.session.initialised().await;
    drop(agent);
    settle().await;
    let _answer = house.give("id-1");
    let mut agent = house.line().await;
    agent.send_next(&id).await;
    assert_eq!(agent.read().await.body["requestId"], "id-1");
}
