//! One connection of a runtime: routes of the Runtime API, one request after another.

use crate::RESPONSE_BYTES_MAX;
use crate::extension_api;
use crate::http::{Body, Broken, Head, Method, Wire};
use crate::session::{Invocation, Reply, Session};
use crate::streaming::{self, Mode, Received};
use std::sync::Arc;
use tokio::net::TcpStream;

/// Largest error document a runtime may post, in bytes: a stack trace fits many times over.
const ERROR_BYTES_MAX: usize = 1024 * 1024;
const PREFIX: &str = "/2018-06-01/runtime/";

const OK: &[u8] = b"{\"status\":\"OK\"}";
const INVALID_REQUEST_ID: &[u8] = br#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#;
const TOO_LARGE: &[u8] = br#"{"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).","errorType":"RequestEntityTooLarge"}"#;
const INVALID_MODE: &[u8] =
    br#"{"errorMessage":"Invalid function response mode","errorType":"InvalidFunctionResponseMode"}"#;
const BUSY: &[u8] = br#"{"errorMessage":"State transition from Running to Ready failed for runtime. Error: the current invocation has no response yet","errorType":"InvalidStateTransition"}"#;
const INITIALISED: &[u8] = br#"{"errorMessage":"State transition from Ready to InitError failed for runtime. Error: initialization is over","errorType":"InvalidStateTransition"}"#;
const NOT_RESTORING: &[u8] = br#"{"errorMessage":"State transition to RestoreError failed for runtime. Error: nothing is being restored","errorType":"InvalidStateTransition"}"#;
const NOT_FOUND: &[u8] = br#"{"errorMessage":"No such path in the Runtime API","errorType":"NotFound"}"#;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Route<'path> {
    Next,
    Response(&'path str),
    Error(&'path str),
    InitError,
    RestoreNext,
    RestoreError,
    Ping,
    Unknown,
}

/// Serves `stream` until the runtime hangs up or misbehaves.
pub(crate) async fn serve(session: Arc<Session>, stream: TcpStream) {
    let mut wire = Wire::new(stream);
    loop {
        match exchange(&session, &mut wire).await {
            Ok(true) if !wire.spent => {}
            Ok(_) | Err(Broken::Closed) => return,
            Err(Broken::Malformed(why)) => {
                tracing::debug!(why, "runtime API: connection closed");
                let body = br#"{"errorMessage":"HTTP request detected as truncated or malformed","errorType":"TruncatedHTTPRequest"}"#;
                let _ = wire.send("400 Bad Request", &[("Connection", "close")], body).await;
                return;
            }
            Err(Broken::Io(error)) => {
                tracing::debug!(%error, "runtime API: connection lost");
                return;
            }
        }
    }
}

/// One request and its answer; false when the connection is to be closed.
async fn exchange(session: &Session, wire: &mut Wire) -> Result<bool, Broken> {
    wire.is_head = false;
    let head = wire.head().await?;
    wire.is_head = head.method == Method::Head;
    let keep = head.keep_alive;
    wire.closes = !keep;
    match route(head.method, &head.path) {
        Route::Next => {
            wire.body(&head, 0).await?;
            next(session, wire).await?;
        }
        Route::Response(id) => {
            if !session.is_current(id) {
                // Refused before its body is read: an answer to nothing may be any size.
                return refuse_id(wire, &head).await;
            }
            match head.mode {
                Mode::Buffered => {}
                Mode::Streaming => {
                    return match streaming::receive(session, wire, &head, id).await? {
                        Received::Whole => wire.send("202 Accepted", &[], OK).await.map(|()| keep),
                        Received::UnknownRequest => refuse_id(wire, &head).await,
                        Received::Unwanted => {
                            wire.send("413 Payload Too Large", &[("Connection", "close")], TOO_LARGE).await?;
                            Ok(false)
                        }
                    };
                }
                Mode::Unknown => {
                    wire.body(&head, 0).await?;
                    wire.send("400 Bad Request", &[], INVALID_MODE).await?;
                    return Ok(keep);
                }
            }
            // One at a time: many connections must not make the platform hold many results.
            let _turn = session.reading.lock().await;
            match wire.body(&head, RESPONSE_BYTES_MAX).await? {
                Body::Whole(body) => match session.answer(id, Reply::Response(body)) {
                    Ok(()) => wire.send("202 Accepted", &[], OK).await?,
                    Err(_) => wire.send("400 Bad Request", &[], INVALID_REQUEST_ID).await?,
                },
                Body::TooLarge => {
                    let _ = session.answer(id, Reply::TooLarge);
                    wire.send("413 Payload Too Large", &[], TOO_LARGE).await?;
                }
            }
        }
        Route::Error(id) => {
            if !session.is_current(id) {
                return refuse_id(wire, &head).await;
            }
            let _turn = session.reading.lock().await;
            let Body::Whole(body) = wire.body(&head, ERROR_BYTES_MAX).await? else {
                wire.send("413 Payload Too Large", &[], TOO_LARGE).await?;
                return Ok(keep);
            };
            let reply = Reply::Error { body, error_type: head.error_type.clone() };
            match session.answer(id, reply) {
                Ok(()) => wire.send("202 Accepted", &[], OK).await?,
                Err(_) => wire.send("400 Bad Request", &[], INVALID_REQUEST_ID).await?,
            }
        }
        Route::InitError => {
            let Body::Whole(body) = wire.body(&head, ERROR_BYTES_MAX).await? else {
                wire.send("413 Payload Too Large", &[], TOO_LARGE).await?;
                return Ok(keep);
            };
            match session.fail_initialisation(body, head.error_type.clone()) {
                Ok(()) => wire.send("202 Accepted", &[], OK).await?,
                Err(_) => wire.send("403 Forbidden", &[], INITIALISED).await?,
            }
        }
        Route::RestoreNext => {
            wire.body(&head, 0).await?;
            match session.restore_next() {
                Ok(true) => {}
                Ok(false) => tokio::select! {
                    biased;
                    () = session.released() => {}
                    broken = wire.disturbed() => return Err(broken),
                },
                Err(_) => {
                    wire.send("403 Forbidden", &[], INITIALISED).await?;
                    return Ok(keep);
                }
            }
            wire.send("200 OK", &[], b"").await?;
        }
        Route::RestoreError => {
            let Body::Whole(body) = wire.body(&head, ERROR_BYTES_MAX).await? else {
                wire.send("413 Payload Too Large", &[], TOO_LARGE).await?;
                return Ok(keep);
            };
            match session.fail_restore(body, head.error_type.clone()) {
                Ok(()) => wire.send("202 Accepted", &[], OK).await?,
                Err(_) => wire.send("403 Forbidden", &[], NOT_RESTORING).await?,
            }
        }
        Route::Ping => {
            wire.body(&head, 0).await?;
            wire.send("200 OK", &[], b"\"pong\"").await?;
        }
        Route::Unknown if extension_api::owns(&head.path) => {
            extension_api::exchange(session, wire, &head).await?;
        }
        Route::Unknown => {
            wire.body(&head, 0).await?;
            wire.send("404 Not Found", &[], NOT_FOUND).await?;
        }
    }
    Ok(keep)
}

async fn refuse_id(wire: &mut Wire, head: &Head) -> Result<bool, Broken> {
    wire.body(head, 0).await?;
    wire.send("400 Bad Request", &[], INVALID_REQUEST_ID).await?;
    Ok(head.keep_alive)
}

async fn next(session: &Session, wire: &mut Wire) -> Result<(), Broken> {
    let Ok((parked, ready)) = session.next().await else {
        return wire.send("403 Forbidden", &[], BUSY).await;
    };
    let invocation = match ready {
        Some(invocation) => invocation,
        None => tokio::select! {
            biased;
            invocation = parked.wait() => invocation,
            broken = wire.disturbed() => return Err(broken),
        },
    };
    drop(parked);
    send_event(wire, &invocation).await
}

async fn send_event(wire: &mut Wire, invocation: &Invocation) -> Result<(), Broken> {
    let deadline = invocation.deadline_ms.to_string();
    let mut headers: [(&str, &str); 5] = [
        ("Lambda-Runtime-Aws-Request-Id", &invocation.request_id),
        ("Lambda-Runtime-Deadline-Ms", &deadline),
        ("Lambda-Runtime-Invoked-Function-Arn", &invocation.function_arn),
        ("Lambda-Runtime-Trace-Id", &invocation.trace_id),
        ("", ""),
    ];
    let mut count = 4;
    if let Some(context) = &invocation.client_context {
        headers[4] = ("Lambda-Runtime-Client-Context", context);
        count = 5;
    }
    wire.send("200 OK", &headers[..count], &invocation.payload).await
}

fn route(method: Method, path: &str) -> Route<'_> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let Some(rest) = path.strip_prefix(PREFIX) else {
        return if path == "/2018-06-01/ping" && method == Method::Get {
            Route::Ping
        } else {
            Route::Unknown
        };
    };
    match (method, rest) {
        (Method::Get, "invocation/next") => Route::Next,
        (Method::Post, "init/error") => Route::InitError,
        (Method::Get, "restore/next") => Route::RestoreNext,
        (Method::Post, "restore/error") => Route::RestoreError,
        (Method::Post, rest) => {
            let id_and_verb = rest.strip_prefix("invocation/").and_then(|rest| rest.split_once('/'));
            match id_and_verb {
                Some((id, "response")) => Route::Response(id),
                Some((id, "error")) => Route::Error(id),
                _ => Route::Unknown,
            }
        }
        _ => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Initialisation};
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    async fn runtime() -> (Arc<Session>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let session = Session::new();
        tokio::spawn(session.clone().serve(listener));
        (session, TcpStream::connect(address).await.unwrap())
    }

    fn invocation(id: &str, payload: &'static str) -> (Invocation, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let invocation = Invocation {
            request_id: id.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            deadline_ms: 1_700_000_000_000,
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
            trace_id: "Root=1-2-3".into(),
            client_context: None,
            reply,
        };
        (invocation, answer)
    }

    async fn read_answer(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") {
            assert_eq!(
                stream.read(&mut byte).await.unwrap(),
                1,
                "closed after {:?}",
                String::from_utf8_lossy(&text)
            );
            text.push(byte[0]);
        }
        let head = String::from_utf8(text).unwrap();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    async fn ask(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(stream).await
    }

    fn post(path: &str, body: &str) -> String {
        format!("POST {PREFIX}{path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    async fn whole(answer: oneshot::Receiver<Answer>) -> Reply {
        match answer.await.unwrap() {
            Answer::Whole(reply) => reply,
            Answer::Stream(_) => panic!("it was streamed"),
        }
    }

    const NEXT: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn an_event_goes_in_and_its_answer_comes_out() {
        let (session, mut stream) = runtime().await;
        stream.write_all(NEXT.as_bytes()).await.unwrap();
        assert_eq!(session.initialised().await, Initialisation::Ready);
        let (job, answer) = invocation("id-1", "{\"a\":1}");
        session.give(job).unwrap();
        let event = read_answer(&mut stream).await;
        assert!(event.contains("Lambda-Runtime-Aws-Request-Id: id-1\r\n"), "{event}");
        assert!(event.contains("Lambda-Runtime-Deadline-Ms: 1700000000000\r\n"), "{event}");
        assert!(event.ends_with("{\"a\":1}"), "{event}");
        let accepted = ask(&mut stream, &post("invocation/id-1/response", "[2]")).await;
        assert!(
            accepted.starts_with("HTTP/1.1 202") && accepted.ends_with("{\"status\":\"OK\"}"),
            "{accepted}"
        );
        assert_eq!(whole(answer).await, Reply::Response(Bytes::from_static(b"[2]")));
    }

    #[tokio::test]
    async fn an_answer_to_head_has_no_body() {
        let (_session, mut stream) = runtime().await;
        let asked = format!(
            "HEAD {PREFIX}invocation/next HTTP/1.1\r\n\r\nGET /2018-06-01/ping HTTP/1.1\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        let (first, second) = answers.split_once("\r\n\r\n").unwrap();
        assert!(first.starts_with("HTTP/1.1 404") && second.starts_with("HTTP/1.1 200"), "{answers}");
    }

    #[tokio::test]
    async fn a_second_answer_and_another_id_are_refused() {
        let (session, mut stream) = runtime().await;
        let (job, answer) = invocation("id-1", "{}");
        session.give(job).unwrap();
        ask(&mut stream, NEXT).await;
        let other = ask(&mut stream, &post("invocation/id-2/response", "1")).await;
        assert!(other.starts_with("HTTP/1.1 400") && other.contains("InvalidRequestID"), "{other}");
        ask(&mut stream, &post("invocation/id-1/response", "1")).await;
        assert_eq!(whole(answer).await, Reply::Response(Bytes::from_static(b"1")));
        let again = ask(&mut stream, &post("invocation/id-1/response", "2")).await;
        assert!(again.contains("InvalidRequestID"), "{again}");
    }

    #[tokio::test]
    async fn next_before_the_answer_is_a_bad_transition() {
        let (session, mut stream) = runtime().await;
        let (job, _answer) = invocation("id-1", "{}");
        session.give(job).unwrap();
        ask(&mut stream, NEXT).await;
        let refused = ask(&mut stream, NEXT).await;
        assert!(
            refused.starts_with("HTTP/1.1 403") && refused.contains("InvalidStateTransition"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn chunked_answers_and_expectations_are_understood() {
        let (session, mut stream) = runtime().await;
        let (job, answer) = invocation("id-1", "{}");
        session.give(job).unwrap();
        ask(&mut stream, NEXT).await;
        let head = format!(
            "POST {PREFIX}invocation/id-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go = [0; 25];
        stream.read_exact(&mut go).await.unwrap();
        assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
        let accepted = ask(&mut stream, "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n").await;
        assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
        assert_eq!(whole(answer).await, Reply::Response(Bytes::from_static(b"abcde")));
    }

    #[tokio::test]
    async fn one_byte_too_many_is_too_large() {
        for (extra, status) in [(0, "202"), (1, "413")] {
            let (session, mut stream) = runtime().await;
            let (job, answer) = invocation("id-1", "{}");
            session.give(job).unwrap();
            ask(&mut stream, NEXT).await;
            let body = "x".repeat(RESPONSE_BYTES_MAX + extra);
            let accepted = ask(&mut stream, &post("invocation/id-1/response", &body)).await;
            assert!(accepted.starts_with(&format!("HTTP/1.1 {status}")), "{accepted}");
            assert_eq!(matches!(whole(answer).await, Reply::TooLarge), extra == 1);
        }
    }

    #[tokio::test]
    async fn initialisation_may_fail_once_and_only_before_next() {
        let (session, mut stream) = runtime().await;
        let request = format!(
            "POST {PREFIX}init/error HTTP/1.1\r\nLambda-Runtime-Function-Error-Type: Runtime.ImportModuleError\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        assert!(ask(&mut stream, &request).await.starts_with("HTTP/1.1 202"));
        let failed = Initialisation::Failed {
            body: Bytes::from_static(b"{}"),
            error_type: Some("Runtime.ImportModuleError".into()),
        };
        assert_eq!(session.initialised().await, failed);
        assert!(ask(&mut stream, &request).await.starts_with("HTTP/1.1 403"));
    }

    #[tokio::test]
    async fn who_asks_for_the_connections_end_is_told_of_it() {
        let (_session, mut stream) = runtime().await;
        let ping = |more: &str| format!("GET /2018-06-01/ping HTTP/1.1\r\n{more}\r\n");
        assert!(!ask(&mut stream, &ping("")).await.contains("Connection"));
        assert!(ask(&mut stream, &ping("Connection: close\r\n")).await.contains("\r\nConnection: close\r\n"));
    }

    const RESTORE_NEXT: &str = "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n";

    #[tokio::test]
    async fn a_runtime_waits_after_its_initialisation_until_it_is_restored() {
        let (session, mut stream) = runtime().await;
        stream.write_all(RESTORE_NEXT.as_bytes()).await.unwrap();
        assert_eq!(session.initialised().await, Initialisation::Ready);
        assert!(session.idle_since().is_some(), "it may be frozen");
        session.restore();
        assert!(session.idle_since().is_none(), "its hooks run");
        assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        let (job, _answer) = invocation("id-1", "{}");
        stream.write_all(NEXT.as_bytes()).await.unwrap();
        session.restored().await.unwrap();
        session.give(job).unwrap();
        assert!(read_answer(&mut stream).await.contains("id-1"));
    }

    #[tokio::test]
    async fn a_runtime_that_waits_for_its_restore_ends_initialisation_with_its_extensions() {
        let (session, mut stream) = runtime().await;
        let id = session.register("agent", &["INVOKE".to_owned()]).unwrap();
        stream.write_all(RESTORE_NEXT.as_bytes()).await.unwrap();
        while session.idle_since().is_none() {
            tokio::task::yield_now().await;
        }
        tokio::select! {
            biased;
            _ = session.initialised() => panic!("the extension is not ready"),
            () = std::future::ready(()) => {}
        }
        session.extension_ready(&id).unwrap();
        assert_eq!(session.initialised().await, Initialisation::Ready);
        session.restore();
        assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        let (job, _answer) = invocation("id-1", "{}");
        stream.write_all(NEXT.as_bytes()).await.unwrap();
        session.restored().await.unwrap();
        session.give(job).unwrap();
        assert!(read_answer(&mut stream).await.contains("id-1"));
    }

    #[tokio::test]
    async fn a_runtime_restored_ahead_does_not_stop() {
        let (session, mut stream) = runtime().await;
        session.restore();
        assert!(ask(&mut stream, RESTORE_NEXT).await.starts_with("HTTP/1.1 200"));
        stream.write_all(NEXT.as_bytes()).await.unwrap();
        assert_eq!(session.initialised().await, Initialisation::Ready);
        session.restored().await.unwrap();
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_told_once_and_only_while_restoring() {
        let (session, mut stream) = runtime().await;
        let request = post("restore/error", "{}");
        assert!(ask(&mut stream, &request).await.starts_with("HTTP/1.1 403"), "nothing is restored");
        stream.write_all(RESTORE_NEXT.as_bytes()).await.unwrap();
        session.initialised().await;
        session.restore();
        read_answer(&mut stream).await;
        assert!(ask(&mut stream, &request).await.starts_with("HTTP/1.1 202"));
        assert_eq!(session.restored().await.unwrap_err().body, Bytes::from_static(b"{}"));
        assert!(ask(&mut stream, &request).await.starts_with("HTTP/1.1 403"));
    }

    #[tokio::test]
    async fn a_cancelled_invocation_takes_no_answer() {
        let (session, mut stream) = runtime().await;
        let (job, _answer) = invocation("id-1", "{}");
        session.give(job).unwrap();
        ask(&mut stream, NEXT).await;
        assert!(session.cancel().is_some());
        assert!(ask(&mut stream, &post("invocation/id-1/response", "1")).await.contains("InvalidRequestID"));
    }

    #[tokio::test]
    async fn garbage_closes_the_connection_with_an_error() {
        let (_session, mut stream) = runtime().await;
        let answer = ask(&mut stream, "GARBAGE\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}
