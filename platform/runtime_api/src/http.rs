//! The little HTTP/1.1 that the Runtime API needs, on borrowed buffers: requests in, one write out.
//!
//! A runtime is untrusted: heads and bodies are bounded, a message with both `Content-Length` and
//! `Transfer-Encoding` is refused, and whatever cannot be parsed closes the connection.

use crate::RESPONSE_BYTES_MAX;
use crate::chunks::{Chunks, Taken};
use crate::streaming::{Mode, PIECE_BYTES_MAX};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest request head, in bytes: AWS's Python client puts the X-Ray cause of an error, up to 1 MiB, into a header.
const HEAD_BYTES_MAX: usize = (1 << 20) + 64 * 1024;
/// Most headers in one request.
const HEADERS_MAX: usize = 100;
/// Largest body that is still worth reading to its end in order to refuse it politely.
const DRAIN_BYTES_MAX: usize = 4 * RESPONSE_BYTES_MAX;
/// A read of no more than this may be all that the peer may send before it is told that it came.
const SMALL_READ: usize = 32 * 1024;
/// First size of a connection's buffer: an event's answer of the usual size fits.
const BUFFER_BYTES: usize = 8 * 1024;

/// A parsed request head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) error_type: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) mode: Mode,
    /// Only extensions send these.
    pub(crate) extension: Option<Box<ExtensionHeaders>>,
    pub(crate) framing: Framing,
    expects_continue: bool,
    pub(crate) keep_alive: bool,
}

/// The headers of the Extensions API, `Lambda-Extension-…`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtensionHeaders {
    pub(crate) name: String,
    pub(crate) identifier: String,
    pub(crate) accept_feature: String,
    pub(crate) error_type: String,
}

const EXTENSION_HEADER: &str = "lambda-extension-";

impl ExtensionHeaders {
    /// `name` is what stands behind the common prefix.
    fn take(&mut self, name: &str, value: &[u8]) {
        let slot = match name.to_ascii_lowercase().as_str() {
            "name" => &mut self.name,
            "identifier" => &mut self.identifier,
            "accept-feature" => &mut self.accept_feature,
            "function-error-type" => &mut self.error_type,
            _ => return,
        };
        *slot = String::from_utf8_lossy(value).trim().to_owned();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Head,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The peer closed it between two requests.
    Closed,
    /// The bytes are no request that this server takes.
    Malformed(&'static str),
    /// The socket failed.
    Io(std::io::Error),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A body, or the news that it was too large.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Whole(Bytes),
    TooLarge,
}

/// One connection: a socket and what was read ahead of it.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    out: Vec<u8>,
    /// How far the buffer was searched for the end of a head or of trailers.
    scanned: usize,
    /// A refused body was left unread: no further request can follow on this connection.
    pub(crate) spent: bool,
    /// The request asked for the connection's end, and its answer says so: Node's agent keeps a connection otherwise, and its
    /// next request would find it closed. Source: RFC 9112, section 9.6.
    pub(crate) closes: bool,
    /// What is answered is a `HEAD`.
    pub(crate) is_head: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Answers are one write each; waiting for more to send would only add latency.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            out: Vec::with_capacity(1024),
            scanned: 0,
            spent: false,
            closes: false,
            is_head: false,
        }
    }

    pub(crate) async fn head(&mut self) -> Result<Head, Broken> {
        loop {
            // Parsed only when an end has come, or a sender of single bytes would have the head parsed at each.
            if self.found_end()
                && let Some((head, length)) = parse_head(&self.buffer)?
            {
                self.buffer.advance(length);
                self.scanned = 0;
                return Ok(head);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Broken::Malformed("head too large"));
            }
            if self.fill().await? == 0 {
                return Err(if self.buffer.is_empty() {
                    Broken::Closed
                } else {
                    Broken::Malformed("truncated head")
                });
            }
        }
    }

    /// Reads the body that belongs to `head`, whole, up to `limit` bytes.
    pub(crate) async fn body(&mut self, head: &Head, limit: usize) -> Result<Body, Broken> {
        match head.framing {
            Framing::Length(0) => Ok(Body::Whole(Bytes::new())),
            Framing::Length(length) => {
                if length > limit {
                    return self.refuse_body(length, head.expects_continue).await;
                }
                if head.expects_continue && self.buffer.len() < length {
                    self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                self.fill_to(length).await?;
                Ok(Body::Whole(self.buffer.split_to(length).freeze()))
            }
            Framing::Chunked => {
                if head.expects_continue && self.buffer.is_empty() {
                    self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                self.chunked(limit).await
            }
        }
    }

    /// Begins to read the body that belongs to `head`, to be gone on with by [`Wire::take`] and [`Wire::fill_for_stream`].
    pub(crate) async fn body_as_it_comes(&mut self, head: &Head) -> Result<Chunks, Broken> {
        if head.expects_continue && self.buffer.is_empty() && head.framing != Framing::Length(0) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        self.acknowledge();
        Ok(match head.framing {
            Framing::Length(length) => Chunks::Plain(length as u64),
            Framing::Chunked => Chunks::Size,
        })
    }

    /// Takes what has been read of a body.
    pub(crate) fn take(&mut self, chunks: &mut Chunks) -> Result<Taken, Broken> {
        chunks.take(&mut self.buffer).map_err(Broken::Malformed)
    }

    /// Waits for more of a body.
    pub(crate) async fn fill_for_stream(&mut self) -> Result<(), Broken> {
        // What went before may still be on its way: then this is another buffer, else the same one again.
        if self.buffer.capacity() - self.buffer.len() < BUFFER_BYTES / 2 {
            self.buffer.reserve(PIECE_BYTES_MAX);
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(Broken::Malformed("truncated body")),
            count => {
                if count <= SMALL_READ {
                    self.acknowledge();
                }
                Ok(())
            }
        }
    }

    /// Tells the peer at once what has come. Most runtimes leave Nagle's algorithm on, and then a small piece waits until the
    /// one before it is acknowledged: 40 ms, since nothing is sent back with which that could go.
    fn acknowledge(&self) {
        // Where the host cannot, small pieces are late.
        let _ = self.stream.set_quickack(true);
    }

    async fn refuse_body(&mut self, length: usize, expects_continue: bool) -> Result<Body, Broken> {
        if expects_continue || length > DRAIN_BYTES_MAX {
            self.spent = true;
            return Ok(Body::TooLarge);
        }
        self.skip(length).await?;
        Ok(Body::TooLarge)
    }

    async fn skip(&mut self, length: usize) -> Result<(), Broken> {
        let mut left = length;
        loop {
            let skipped = left.min(self.buffer.len());
            self.buffer.advance(skipped);
            left -= skipped;
            if left == 0 {
                return Ok(());
            }
            if self.fill().await? == 0 {
                return Err(Broken::Malformed("truncated body"));
            }
        }
    }

    /// Whether an empty line stands in what came since the last look.
    fn found_end(&mut self) -> bool {
        let fresh = &self.buffer[self.scanned.saturating_sub(3).min(self.buffer.len())..];
        // A head without a body ends what was read, and needs no search.
        let found = fresh.ends_with(b"\r\n\r\n") || {
            let ends = fresh.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
            ends.map(|at| &fresh[at + 1..]).any(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
        };
        if !found {
            self.scanned = self.buffer.len();
        }
        found
    }

    async fn chunked(&mut self, limit: usize) -> Result<Body, Broken> {
        let mut body = BytesMut::new();
        let mut too_large = false;
        let mut seen = 0_usize;
        loop {
            let (after_size, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((after, size))) => break (after, size),
                    Ok(httparse::Status::Partial) if self.buffer.len() < 1024 => {
                        if self.fill().await? == 0 {
                            return Err(Broken::Malformed("truncated chunk"));
                        }
                    }
                    _ => return Err(Broken::Malformed("bad chunk size")),
                }
            };
            self.buffer.advance(after_size);
            if size == 0 {
                self.trailers().await?;
                return Ok(if too_large { Body::TooLarge } else { Body::Whole(body.freeze()) });
            }
            let size = usize::try_from(size).map_err(|_| Broken::Malformed("chunk too large"))?;
            seen = seen.saturating_add(size);
            if seen > DRAIN_BYTES_MAX {
                return Err(Broken::Malformed("body too large"));
            }
            too_large |= seen > limit;
            if too_large {
                // Passed over, never held.
                body = BytesMut::new();
                self.skip(size).await?;
                self.fill_to(2).await?;
            } else {
                self.fill_to(size + 2).await?;
                body.extend_from_slice(&self.buffer.split_to(size));
            }
            if &self.buffer[..2] != b"\r\n" {
                return Err(Broken::Malformed("chunk without its end"));
            }
            self.buffer.advance(2);
        }
    }

    async fn trailers(&mut self) -> Result<(), Broken> {
        loop {
            if self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
                return Ok(());
            }
            if self.found_end()
                && let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n")
            {
                self.buffer.advance(end + 4);
                self.scanned = 0;
                return Ok(());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Broken::Malformed("trailers too large"));
            }
            if self.fill().await? == 0 {
                return Err(Broken::Malformed("truncated trailers"));
            }
        }
    }

    async fn fill_to(&mut self, length: usize) -> Result<(), Broken> {
        while self.buffer.len() < length {
            // Grows with what really arrives, so that a lying Content-Length costs nothing.
            if self.fill().await? == 0 {
                return Err(Broken::Malformed("truncated body"));
            }
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<usize, Broken> {
        if self.buffer.capacity() - self.buffer.len() < BUFFER_BYTES / 2 {
            self.buffer.reserve(self.buffer.len().clamp(BUFFER_BYTES, 1 << 20));
        }
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }

    /// Resolves when the peer hangs up or sends something it should not while it waits for `next`.
    pub(crate) async fn disturbed(&mut self) -> Broken {
        if self.buffer.is_empty() {
            // An environment that waits, perhaps for minutes, holds no buffer for what will come.
            self.buffer = BytesMut::new();
        }
        let mut byte = [0];
        loop {
            if let Err(error) = self.stream.readable().await {
                return error.into();
            }
            match self.stream.try_read(&mut byte) {
                Ok(0) => return Broken::Closed,
                Ok(_) => return Broken::Malformed("a request before the last one was answered"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return error.into(),
            }
        }
    }

    /// Sends an answer in one write.
    pub(crate) async fn send(
        &mut self,
        status: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(), Broken> {
        let out = &mut self.out;
        out.clear();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: application/json\r\n");
        if self.closes {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        for (name, value) in headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            // Values come from callers (trace ids, client contexts): a line break must never split the head.
            out.extend(value.bytes().filter(|byte| *byte >= b' ' && *byte != 0x7f));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        // Whose answer has the length of a body, and none (RFC 9110, section 9.3.2): it would be read as the next answer.
        let body = if self.is_head { &[] } else { body };
        if body.len() <= BUFFER_BYTES {
            out.extend_from_slice(body);
            self.stream.write_all(out).await?;
        } else {
            self.stream.write_all(out).await?;
            self.stream.write_all(body).await?;
        }
        Ok(())
    }
}

pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Broken> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Complete(_)) => return Err(Broken::Malformed("head too large")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Broken::Malformed("not HTTP")),
    };
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some("PUT") => Method::Put,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    let mut head = Head {
        method,
        path: request.path.unwrap_or("/").to_owned(),
        error_type: None,
        content_type: None,
        mode: Mode::Buffered,
        extension: None,
        framing: Framing::Length(0),
        expects_continue: false,
        keep_alive: request.version == Some(1),
    };
    let mut length_seen = None;
    for header in request.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(header.value).ok().map(str::trim);
            let digits = value.filter(|value| !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()));
            let value = digits.and_then(|value| value.parse::<usize>().ok());
            let value = value.ok_or(Broken::Malformed("bad Content-Length"))?;
            if length_seen.replace(value).is_some_and(|earlier| earlier != value) {
                return Err(Broken::Malformed("two lengths"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Broken::Malformed("unknown Transfer-Encoding"));
            }
            head.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("expect") {
            head.expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
        } else if name.eq_ignore_ascii_case("connection") {
            let value = String::from_utf8_lossy(header.value).to_ascii_lowercase();
            if value.contains("close") {
                head.keep_alive = false;
            } else if value.contains("keep-alive") {
                head.keep_alive = true;
            }
        } else if name.eq_ignore_ascii_case("lambda-runtime-function-error-type") {
            head.error_type = Some(String::from_utf8_lossy(header.value).into_owned());
        } else if name.eq_ignore_ascii_case("content-type") {
            head.content_type = std::str::from_utf8(header.value).ok().map(str::to_owned);
        } else if name.eq_ignore_ascii_case("lambda-runtime-function-response-mode") {
            head.mode = Mode::read(header.value);
        } else if let Some((prefix, rest)) = name.split_at_checked(EXTENSION_HEADER.len())
            && prefix.eq_ignore_ascii_case(EXTENSION_HEADER)
        {
            head.extension.get_or_insert_default().take(rest, header.value);
        }
    }
    match (head.framing, length_seen) {
        (Framing::Chunked, Some(_)) => return Err(Broken::Malformed("both a length and chunks")),
        (Framing::Length(_), Some(length)) => head.framing = Framing::Length(length),
        _ => {}
    }
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<(Head, usize)>, Broken> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn a_head_is_taken_whole_or_not_at_all() {
        let text = "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 1..text.find("hello").unwrap() {
            assert!(head(&text[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let (parsed, length) = head(text).unwrap().unwrap();
        assert_eq!((parsed.framing, length, parsed.keep_alive), (Framing::Length(5), text.len() - 5, true));
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Transfer-Encoding: gzip\r\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\n{headers}\r\n");
            assert!(matches!(head(&text), Err(Broken::Malformed(_))), "{headers}");
        }
    }

    #[test]
    fn connections_close_when_asked_to() {
        assert!(!head("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.keep_alive);
        assert!(!head("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap().unwrap().0.keep_alive);
    }
}
