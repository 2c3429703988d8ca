//! Streamed responses over a real socket.

use super::*;
use crate::{Answer, Invocation};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const HEAD: &str = "POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nContent-Type: text/plain\r\n\
                    Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n";

/// A session whose runtime has its event.
async fn busy() -> (Arc<Session>, TcpStream, oneshot::Receiver<Answer>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let session = Session::new();
    tokio::spawn(session.clone().serve(listener));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (reply, answer) = oneshot::channel();
    session
        .give(Invocation {
            request_id: "id-1".into(),
            payload: Bytes::from_static(b"{}"),
            deadline_ms: 1,
            function_arn: "arn".into(),
            trace_id: "Root=1".into(),
            client_context: None,
            reply,
        })
        .unwrap();
    stream.write_all(NEXT.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    stream.read_exact(&mut [0; 2]).await.unwrap();
    (session, stream, answer)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

async fn begun(answer: oneshot::Receiver<Answer>) -> Incoming {
    match answer.await.unwrap() {
        Answer::Stream(incoming) => incoming,
        Answer::Whole(reply) => panic!("not streamed: {reply:?}"),
    }
}

async fn data(incoming: &mut Incoming) -> Vec<u8> {
    match incoming.next().await {
        Piece::Data(bytes) => bytes.to_vec(),
        other => panic!("no data: {other:?}"),
    }
}

#[tokio::test]
async fn a_piece_is_there_before_the_next_one_is_written() {
    let (session, mut stream, answer) = busy().await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let mut incoming = begun(answer).await;
    assert_eq!(incoming.content_type(), Some("text/plain"));
    for text in ["one", "two"] {
        stream.write_all(format!("3\r\n{text}\r\n").as_bytes()).await.unwrap();
        assert_eq!(data(&mut incoming).await, text.as_bytes());
    }
    assert!(session.idle_since().is_none(), "it is still being answered");
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(incoming.next().await, Piece::Complete);
    assert_eq!(incoming.next().await, Piece::Broken, "nothing follows");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 202"));
    stream.read_exact(&mut [0; 15]).await.unwrap();
    // The connection is good for more.
    stream.write_all(NEXT.as_bytes()).await.unwrap();
    session.idle().await;
}

#[tokio::test]
async fn next_and_a_second_response_wait_for_the_end() {
    let (session, mut stream, answer) = busy().await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let mut incoming = begun(answer).await;
    let address = stream.peer_addr().unwrap();
    for (request, refusal) in [(NEXT.to_owned(), "403"), (HEAD.replace("response HTTP", "error HTTP"), "400")]
    {
        let mut other = TcpStream::connect(address).await.unwrap();
        let body = if refusal == "400" { "0\r\n\r\n" } else { "" };
        other.write_all((request + body).as_bytes()).await.unwrap();
        assert!(head(&mut other).await.starts_with(&format!("HTTP/1.1 {refusal}")));
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(incoming.next().await, Piece::Complete);
    drop(session);
}

#[tokio::test]
async fn trailers_make_it_a_failure() {
    let (_session, mut stream, answer) = busy().await;
    let trailers = "1\r\na\r\n0\r\nLambda-Runtime-Function-Error-Type: Oh.No\r\n\
                    Lambda-Runtime-Function-Error-Body: e30=\r\n\r\n";
    stream.write_all((HEAD.to_owned() + trailers).as_bytes()).await.unwrap();
    let mut incoming = begun(answer).await;
    assert_eq!(data(&mut incoming).await, b"a");
    let failed = Piece::Failed { body: Bytes::from_static(b"{}"), error_type: Some("Oh.No".to_owned()) };
    assert_eq!(incoming.next().await, failed);
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 202"));
}

#[tokio::test]
async fn a_type_in_the_trailers_is_a_failure_of_that_type() {
    let (_session, mut stream, answer) = busy().await;
    let trailers = "1\r\na\r\n0\r\nLambda-Runtime-Function-Error-Type: Oh.No\r\n\r\n";
    stream.write_all((HEAD.to_owned() + trailers).as_bytes()).await.unwrap();
    let mut incoming = begun(answer).await;
    assert_eq!(data(&mut incoming).await, b"a");
    let body = Bytes::from_static(br#"{"errorType":"Oh.No"}"#);
    assert_eq!(incoming.next().await, Piece::Failed { body, error_type: Some("Oh.No".to_owned()) });
}

#[tokio::test]
async fn a_reader_that_waits_holds_the_runtime_back() {
    let (_session, mut stream, answer) = busy().await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let mut incoming = begun(answer).await;
    let total = 256_u64 << 20;
    stream.write_all(format!("{total:x}\r\n").as_bytes()).await.unwrap();
    // The queue fills, and then the socket does: nothing more is taken however often everybody has a turn.
    let (piece, mut sent, mut turns) = (vec![b'x'; 1 << 20], 0, 0);
    while turns < 1_000 && sent < total {
        match stream.try_write(&piece) {
            Ok(count) => (sent, turns) = (sent + count as u64, 0),
            Err(_) => {
                turns += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(sent < total / 4, "{sent} bytes were taken although nobody read");
    let writer = tokio::spawn(async move {
        while sent < total {
            let count = usize::try_from(total - sent).unwrap().min(piece.len());
            stream.write_all(&piece[..count]).await.unwrap();
            sent += count as u64;
        }
        stream.write_all(b"\r\n0\r\n\r\n").await.unwrap();
        stream
    });
    let mut read = 0;
    let last = loop {
        match incoming.next().await {
            Piece::Data(bytes) => {
                assert!(bytes.len() <= 2 * PIECE_BYTES_MAX && bytes.iter().all(|byte| *byte == b'x'));
                read += bytes.len() as u64;
            }
            last => break last,
        }
    };
    assert_eq!((last, read), (Piece::Complete, total));
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn who_hangs_up_on_the_way_leaves_a_broken_response() {
    for rest in ["", "5\r\nab", "2\r\nab\r\n", "2\r\nabcd", "0\r\n", "zz\r\n"] {
        let (_session, mut stream, answer) = busy().await;
        stream.write_all((HEAD.to_owned() + rest).as_bytes()).await.unwrap();
        drop(stream);
        let mut incoming = begun(answer).await;
        let last = loop {
            match incoming.next().await {
                Piece::Data(bytes) => assert!(b"ab".starts_with(&bytes)),
                last => break last,
            }
        };
        assert_eq!(last, Piece::Broken, "{rest:?}");
    }
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_answered_413_and_not_read() {
    let (session, mut stream, answer) = busy().await;
    stream.write_all((HEAD.to_owned() + "3\r\nabc\r\n").as_bytes()).await.unwrap();
    drop(begun(answer).await);
    let refused = head(&mut stream).await;
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains("Connection: close"), "{refused}");
    assert!(session.take_unstarted().is_none() && session.cancel().is_none());
}

#[tokio::test]
async fn modes_are_buffered_streaming_or_refused() {
    let (_session, mut stream, answer) = busy().await;
    let odd = HEAD.replace("streaming", "dreaming") + "0\r\n\r\n";
    stream.write_all(odd.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 400"));
    let mut rest = [0; 96];
    let length = stream.read(&mut rest).await.unwrap();
    let text = String::from_utf8_lossy(&rest[..length]);
    assert!(text.contains("\"InvalidFunctionResponseMode\""), "{text}");
    // It may try again.
    let buffered = HEAD.replace("streaming", "Buffered") + "2\r\nhi\r\n0\r\n\r\n";
    stream.write_all(buffered.as_bytes()).await.unwrap();
    let Answer::Whole(reply) = answer.await.unwrap() else { panic!("streamed") };
    assert_eq!(reply, crate::Reply::Response(Bytes::from_static(b"hi")));
}

#[tokio::test]
async fn a_length_instead_of_chunks_streams_too() {
    let (_session, mut stream, answer) = busy().await;
    let request = HEAD.replace("Transfer-Encoding: chunked", "Content-Length: 5") + "he";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut incoming = begun(answer).await;
    assert_eq!(data(&mut incoming).await, b"he");
    stream.write_all(b"llo").await.unwrap();
    assert_eq!(data(&mut incoming).await, b"llo");
    assert_eq!(incoming.next().await, Piece::Complete);
}
