//! The function of this test: the smallest custom runtime, on `std` alone. It takes as long as it is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Variable with the handler's time in milliseconds.
pub const TAKES_MS: &str = "TAKES_MS";

pub fn run() {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let takes = std::env::var(TAKES_MS).unwrap().parse().unwrap();
    let mut stream = BufReader::new(TcpStream::connect(&api).unwrap());
    loop {
        let id = exchange(
            &mut stream,
            &format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {api}\r\n\r\n"),
        );
        std::thread::sleep(Duration::from_millis(takes));
        let path = format!("/2018-06-01/runtime/invocation/{}/response", id.unwrap());
        exchange(
            &mut stream,
            &format!("POST {path} HTTP/1.1\r\nHost: {api}\r\nContent-Length: 2\r\n\r\n{{}}"),
        );
    }
}

/// Sends a request, reads its whole answer, and returns the request id that it names.
fn exchange(stream: &mut BufReader<TcpStream>, request: &str) -> Option<String> {
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut id, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the Runtime API hung up");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "lambda-runtime-aws-request-id" => id = Some(value.to_owned()),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    id
}
