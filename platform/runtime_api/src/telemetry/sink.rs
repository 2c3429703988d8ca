//! The way to one subscriber: batches over HTTP or TCP, on a connection that is kept as long as it works.

use super::subscription::Destination;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest answer to a batch, in bytes; nobody reads it.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

/// Reaches what listens on a port inside an environment, and nothing else.
pub trait Dial: Debug + Send + Sync {
    /// Connects.
    fn dial(&self, port: u16) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + '_>>;
}

#[derive(Debug)]
pub(super) struct Sink {
    dial: Arc<dyn Dial>,
    destination: Destination,
    stream: Option<TcpStream>,
}

impl Sink {
    pub(super) fn new(dial: Arc<dyn Dial>, destination: Destination) -> Self {
        Self { dial, destination, stream: None }
    }

    /// Delivers a batch. It may take as long as it takes: a frozen environment answers when it is thawed.
    ///
    /// # Errors
    /// Nobody listens, or does not take it.
    pub(super) async fn deliver(&mut self, batch: &[Arc<str>]) -> io::Result<()> {
        let is_kept = self.stream.is_some();
        let delivered = self.try_deliver(batch).await;
        if delivered.is_err() {
            self.stream = None;
            if is_kept {
                // A kept connection may have been closed meanwhile; a fresh one tells.
                let again = self.try_deliver(batch).await;
                if again.is_err() {
                    self.stream = None;
                }
                return again;
            }
        }
        delivered
    }

    async fn try_deliver(&mut self, batch: &[Arc<str>]) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.dial.dial(self.destination.port).await?,
        };
        let keep = if self.destination.is_http {
            post(&mut stream, &self.destination, batch).await?
        } else {
            let mut text = String::with_capacity(batch.iter().map(|event| event.len() + 1).sum());
            for event in batch {
                text.push_str(event);
                text.push('\n');
            }
            stream.write_all(text.as_bytes()).await?;
            true
        };
        self.stream = keep.then_some(stream);
        Ok(())
    }
}

/// One request; whether the connection can carry another.
async fn post(stream: &mut TcpStream, destination: &Destination, batch: &[Arc<str>]) -> io::Result<bool> {
    let length = batch.iter().map(|event| event.len()).sum::<usize>() + batch.len() + 1;
    let mut text = format!(
        "POST {} HTTP/1.1\r\nHost: sandbox.localdomain:{}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n[",
        destination.path, destination.port
    );
    text.reserve(length);
    for (index, event) in batch.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(event);
    }
    text.push(']');
    stream.write_all(text.as_bytes()).await?;
    answer(stream).await
}

/// Reads an answer's head, and its body if another request is to follow.
async fn answer(stream: &mut TcpStream) -> io::Result<bool> {
    let malformed = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head = match response.parse(&bytes) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) if bytes.len() < ANSWER_BYTES_MAX => continue,
            _ => return Err(malformed("no HTTP answer")),
        };
        let code = response.code.unwrap_or(0);
        if !(200..300).contains(&code) {
            return Err(io::Error::other(format!("the subscriber answered {code}")));
        }
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let length = match header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => Some(length),
            None if code == 204 => Some(0),
            _ => None,
        };
        let keeps = response.version == Some(1) && !closes && header("transfer-encoding").is_none();
        let Some(length) = length.filter(|length| keeps && *length <= ANSWER_BYTES_MAX) else {
            return Ok(false);
        };
        while bytes.len() < head + length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(false);
            }
        }
        return Ok(bytes.len() == head + length);
    }
}
