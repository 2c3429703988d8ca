//! Bodies of answers: whole, or a function's response on its way to the client as it comes.
//!
//! hyper asks for a piece when it has room for one, so a client that reads slowly holds the function back. A function that
//! fails on its way cannot take back what was sent: over HTTP the connection ends without the last chunk, in an event stream
//! the last message says what happened.

use crate::event_stream::{PAYLOAD_MAX, around, message};
use crate::flushed::Flushes;
use crate::gateway::patience::Patience;
use crate::router::{LIMIT_HEADER, limit_text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use invoke::{InvokeError, Invoked, ResponseStream};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// A payload of at most this is copied into one piece with its message's head and checksum.
const COPIED_BYTES: usize = 16 * 1024;
/// A file is read in pieces of at most this.
const FILE_BYTES: usize = 256 * 1024;

/// What an answer is sent with.
#[derive(Debug)]
pub enum Outgoing {
    /// All of it is there.
    Whole(Full<Bytes>),
    /// It comes piece by piece.
    Flow(Box<Flow>),
    /// It is read from a file as the client takes it.
    File(FileBody),
}

/// A file on its way to a client.
#[derive(Debug)]
pub struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if self.at == self.end {
            return Poll::Ready(None);
        }
        let (file, at) = (&self.file, self.at);
        let length = usize::try_from(self.end - at).map_or(FILE_BYTES, |left| left.min(FILE_BYTES));
        let reading = self.reading.get_or_insert_with(|| {
            let file = file.clone();
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece.into())
            })
        });
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let Ok(Ok(piece)) = read else { return Poll::Ready(Some(Err(Cut))) };
        self.at += piece.len() as u64;
        Poll::Ready(Some(Ok(piece)))
    }
}

/// A response under way.
#[derive(Debug)]
pub struct Flow {
    stream: ResponseStream,
    /// What goes before the next piece of the stream.
    ready: VecDeque<Bytes>,
    framing: Framing,
    ended: bool,
    /// It failed, and the connection had been flushed so often.
    failed: Option<u64>,
    flushes: Option<Arc<Flushes>>,
    /// Of an API, which does not wait for ever.
    patience: Option<Patience>,
    function: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// The function's bytes as they are.
    Plain,
    /// Messages of an event stream.
    Messages,
}

/// What a function's stream says next.
enum Next {
    Piece(Bytes),
    End(Result<Invoked, InvokeError>),
}

/// The function, or the disk, failed after the head of its response was sent: the connection is to be cut.
#[derive(Debug, thiserror::Error)]
#[error("the response failed on its way")]
pub struct Cut;

impl From<Full<Bytes>> for Outgoing {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

impl Outgoing {
    /// A file, from its beginning to where it ends now.
    pub(crate) fn file(file: File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self::File(FileBody { file: Arc::new(file), at: 0, end, reading: None }))
    }

    /// The function's bytes as they are, after `first`.
    pub(crate) fn plain(function: Arc<str>, first: Bytes, stream: ResponseStream) -> Self {
        Self::flow(function, (!first.is_empty()).then_some(first), Framing::Plain, stream)
    }

    /// Messages of InvokeWithResponseStream.
    pub(crate) fn messages(function: Arc<str>, stream: ResponseStream) -> Self {
        Self::flow(function, None, Framing::Messages, stream)
    }

    fn flow(function: Arc<str>, first: Option<Bytes>, framing: Framing, stream: ResponseStream) -> Self {
        let ready = first.into_iter().collect();
        Self::Flow(Box::new(Flow {
            stream,
            ready,
            framing,
            ended: false,
            failed: None,
            flushes: None,
            patience: None,
            function,
        }))
    }

    /// The same, waited for no longer than an API does.
    pub(crate) fn patient(mut self, patience: Patience) -> Self {
        if let Self::Flow(flow) = &mut self {
            flow.patience = Some(patience);
        }
        self
    }

    /// The same over a connection that tells of its flushes.
    pub(crate) fn over(mut self, flushes: &Arc<Flushes>) -> Self {
        if let Self::Flow(flow) = &mut self {
            flushes.until(flow.patience.as_ref().map(Patience::end));
            flow.flushes = Some(flushes.clone());
        }
        self
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never: Infallible| match never {}))),
            Self::Flow(flow) => flow.poll(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
            Self::File(file) => file.poll(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            // Only the end of the invocation tells whether the last chunk may be sent.
            Self::Flow(_) => false,
            Self::File(file) => file.at == file.end,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Flow(_) => SizeHint::default(),
            Self::File(file) => SizeHint::with_exact(file.end - file.at),
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(flushes) = &self.flushes {
            flushes.until(None);
        }
    }
}

impl Flow {
    /// What was sent goes out, then the connection ends without its last chunk.
    fn cut(&mut self) {
        self.failed = Some(self.flushes.as_ref().map_or(0, |flushes| flushes.count()));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if let Some(before) = self.failed {
                if let Some(flushes) = &self.flushes {
                    ready!(flushes.poll_after(before, context));
                }
                self.ended = true;
                self.failed = None;
                return Poll::Ready(Some(Err(Cut)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let stream = &mut self.stream;
            let mut next = |context: &mut Context<'_>| match ready!(stream.poll_next(context)) {
                Some(piece) => Poll::Ready(Next::Piece(piece)),
                None => stream.poll_end(context).map(Next::End),
            };
            let next = match &mut self.patience {
                None => ready!(next(context)),
                Some(patience) => match ready!(patience.poll(context, next)) {
                    Ok(next) => next,
                    Err(refusal) => {
                        tracing::info!(function = %self.function, cause = %refusal, "a streamed response was cut off");
                        self.cut();
                        continue;
                    }
                },
            };
            match next {
                Next::Piece(piece) if self.framing == Framing::Plain => return Poll::Ready(Some(Ok(piece))),
                Next::Piece(piece) => self.ready.extend(payload_chunks(&piece)),
                Next::End(end) => {
                    if let (Framing::Messages, Ok(end)) = (self.framing, &end) {
                        self.ready.push_back(invoke_complete(end));
                        self.ended = true;
                    } else if let Some(cause) = failure(&end) {
                        tracing::info!(function = %self.function, cause, "a streamed response was cut off");
                        self.cut();
                    } else {
                        self.ended = true;
                    }
                }
            }
        }
    }
}

/// Why a stream did not end well, for the log.
fn failure(end: &Result<Invoked, InvokeError>) -> Option<String> {
    match end {
        Ok(end) if !end.failed => None,
        Ok(Invoked { limit: Some(limit), .. }) => Some(limit.to_string()),
        Ok(end) => Some(error_type(&end.payload)),
        Err(error) => Some(error.to_string()),
    }
}

fn error_type(document: &[u8]) -> String {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    document["errorType"].as_str().unwrap_or("Unhandled").to_owned()
}

/// The messages that carry a payload.
pub(crate) fn payload_chunks(payload: &Bytes) -> Vec<Bytes> {
    const HEADERS: [(&str, &str); 3] = [
        (":event-type", "PayloadChunk"),
        (":content-type", "application/octet-stream"),
        (":message-type", "event"),
    ];
    let mut pieces = Vec::new();
    let mut rest = payload.clone();
    while !rest.is_empty() {
        let payload = rest.split_to(rest.len().min(PAYLOAD_MAX));
        if payload.len() <= COPIED_BYTES {
            pieces.push(message(&HEADERS, &payload));
        } else {
            let (head, tail) = around(&HEADERS, &payload);
            pieces.extend([head, payload, tail]);
        }
    }
    pieces
}

/// The message that ends a stream.
///
/// Source: Lambda service model, `InvokeWithResponseStreamCompleteEvent`. That the code is the error's type and the details its
/// document is seen in clients' reports (`Runtime.TruncatedResponse`) and otherwise assumed. The limit behind a failure goes
/// into a header of the message, where SDKs do not look.
pub(crate) fn invoke_complete(end: &Invoked) -> Bytes {
    let mut members = Map::new();
    if end.failed {
        members.insert("ErrorCode".into(), error_type(&end.payload).into());
        members.insert("ErrorDetails".into(), String::from_utf8_lossy(&end.payload).into());
    }
    if let Some(log) = &end.log_tail {
        members.insert("LogResult".into(), STANDARD.encode(log).into());
    }
    let limit = end.limit.as_ref().map(|refusal| limit_text(refusal));
    let mut headers = vec![
        (":event-type", "InvokeComplete"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    let limit_header = LIMIT_HEADER;
    if let Some(limit) = &limit {
        headers.push((limit_header.as_str(), limit));
    }
    message(&headers, Value::Object(members).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{LimitId, Refusal};

    fn end(failed: bool, payload: &'static str) -> Invoked {
        Invoked {
            payload: Bytes::from_static(payload.as_bytes()),
            failed,
            log_tail: None,
            version: "1".to_owned(),
            limit: None,
            content_type: None,
        }
    }

    fn text(message: &Bytes) -> String {
        String::from_utf8_lossy(message).into_owned()
    }

    #[test]
    fn large_payloads_are_split_and_not_copied() {
        assert!(payload_chunks(&Bytes::new()).is_empty());
        assert_eq!(payload_chunks(&Bytes::from(vec![1; COPIED_BYTES])).len(), 1);
        let payload = Bytes::from(vec![1; 2 * PAYLOAD_MAX + 1]);
        let pieces = payload_chunks(&payload);
        assert_eq!(pieces.len(), 3 + 3 + 1);
        assert_eq!(pieces[1].as_ptr(), payload.as_ptr());
        let all: usize = pieces.iter().map(Bytes::len).sum();
        assert_eq!(all - payload.len(), 3 * (pieces[0].len() + 4));
    }

    #[test]
    fn the_last_message_says_how_it_ended() {
        let message = text(&invoke_complete(&end(false, "")));
        assert!(
            message.contains("InvokeComplete") && message.contains("{}") && !message.contains("Error"),
            "{message}"
        );
        let mut failed = end(true, r#"{"errorType":"Sandbox.Timedout","errorMessage":"m"}"#);
        failed.log_tail = Some(b"END".to_vec());
        failed.limit = Some(Arc::new(Refusal {
            limit: LimitId::FunctionTimeout,
            resource: "cart".into(),
            destination: None,
            used: 3,
            max: 3,
            retry_at: None,
        }));
        let message = text(&invoke_complete(&failed));
        let members = r#"{"ErrorCode":"Sandbox.Timedout","ErrorDetails":"{\"errorType\":\"Sandbox.Timedout\",\"errorMessage\":\"m\"}","LogResult":"RU5E"}"#;
        assert!(message.contains(members), "{message}");
        assert!(
            message.contains("x-onrush-limit") && message.contains("function.timeout; resource=cart"),
            "{message}"
        );
        // A document that is none still has a code.
        assert!(text(&invoke_complete(&end(true, "oh"))).contains(r#""ErrorCode":"Unhandled""#));
    }

    #[test]
    fn failures_are_told_to_the_log_by_limit_or_type() {
        assert_eq!(failure(&Ok(end(false, ""))), None);
        assert_eq!(failure(&Ok(end(true, r#"{"errorType":"E"}"#))).as_deref(), Some("E"));
        assert!(failure(&Err(InvokeError::Host("h".into()))).is_some());
    }
}
