//! The smallest client that a figure needs: one request, one connection, the time to the first byte.

use anyhow::{Context as _, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for any answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Most headers of an answer.
const HEADERS_MAX: usize = 64;

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// With `Connection: close`, so that the answer ends where the stream ends.
    pub fn new(method: &str, path: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        Self { bytes: (head + body).into_bytes() }
    }

    /// What is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `POST` to the Invoke API.
    pub fn invoke(function: &str, event: &str) -> Self {
        Self::new("POST", &format!("/2015-03-31/functions/{function}/invocations"), event)
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// From before the connect to the first byte of the answer.
    pub first_byte: Duration,
}

impl Answer {
    /// Fails unless the function answered without an error.
    pub fn expect_success(self) -> Result<Self> {
        let failed = self.headers.iter().any(|(name, _)| name == "x-amz-function-error");
        if self.status != 200 || failed {
            bail!("status {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(self)
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Pending {
    stream: TcpStream,
    begun: Instant,
}

/// Connects and sends.
pub fn send(address: SocketAddr, request: &Request) -> Result<Pending> {
    let begun = Instant::now();
    let stream = connect(address)?;
    send_on(stream, begun, request)
}

/// An idle connection.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends on a connection made before; the clock started at `begun`.
pub fn send_on(mut stream: TcpStream, begun: Instant, request: &Request) -> Result<Pending> {
    stream.write_all(&request.bytes)?;
    Ok(Pending { stream, begun })
}

impl Pending {
    /// Waits for the whole answer.
    pub fn answer(mut self) -> Result<Answer> {
        let mut first = [0; 1];
        if self.stream.read(&mut first)? == 0 {
            bail!("the connection was closed without an answer");
        }
        let first_byte = self.begun.elapsed();
        let mut bytes = first.to_vec();
        self.stream.read_to_end(&mut bytes)?;
        let (status, headers, body) = parse(&bytes)?;
        Ok(Answer { status, headers, body, first_byte })
    }
}

/// One request and its answer.
pub fn fetch(address: SocketAddr, request: &Request) -> Result<Answer> {
    send(address, request)?.answer()
}

type Parsed = (u16, Vec<(String, String)>, Vec<u8>);

fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else {
        bail!("the answer's head is cut off")
    };
    let status = response.code.context("the answer has no status")?;
    let headers = response
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    Ok((status, headers, bytes[length..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_function_is_no_success() {
        let answer = |bytes: &[u8]| {
            let (status, headers, body) = parse(bytes).unwrap();
            Answer { status, headers, body, first_byte: Duration::ZERO }
        };
        let fine = answer(b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nhello");
        assert_eq!((fine.headers[0].0.as_str(), fine.body.as_slice()), ("x-a", &b"hello"[..]));
        assert!(fine.expect_success().is_ok());
        assert!(
            answer(b"HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\n\r\n").expect_success().is_err()
        );
        assert!(answer(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").expect_success().is_err());
    }

    #[test]
    fn half_a_head_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nX-").is_err());
        assert!(parse(b"garbage").is_err());
    }
}
