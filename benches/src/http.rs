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

/// A connection that stays open from one request to the next.
#[derive(Debug)]
pub struct Kept {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Kept {
    pub fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self { stream: connect(address)?, bytes: Vec::new() })
    }

    /// One request, and its status and body.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.stream.write_all((head + body).as_bytes())?;
        loop {
            if let Some((status, start, length)) = whole(&self.bytes)? {
                let body = self.bytes[start..start + length].to_vec();
                self.bytes.drain(..start + length);
                return Ok((status, body));
            }
            let mut piece = [0; 65_536];
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                bail!("the connection was closed without an answer");
            }
            self.bytes.extend_from_slice(&piece[..read]);
        }
    }
}

/// The status of an answer, and where its body begins and how long it is, once all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.context("the answer has no status")?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some(header) => std::str::from_utf8(header.value)?.parse()?,
        // 204 has none.
        None => 0,
    };
    Ok((bytes.len() - start >= length).then_some((status, start, length)))
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
    fn an_answer_is_whole_once_its_body_is_there() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let head = text.len() - 5;
        assert!((0..text.len()).all(|cut| whole(&text[..cut]).unwrap().is_none()));
        assert_eq!(whole(text).unwrap(), Some((200, head, 5)));
        assert_eq!(whole(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some((204, 27, 0)));
    }

    #[test]
    fn half_a_head_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nX-").is_err());
        assert!(parse(b"garbage").is_err());
    }
}
