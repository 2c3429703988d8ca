//! Responses that flow: from a runtime to its caller piece by piece, under the limits for streams; or gathered, for callers
//! that want them whole.
//!
//! A caller who reads slowly holds the function back; one who hangs up changes nothing: the function runs on and is billed,
//! its bytes go nowhere. Source: Lambda Developer Guide, "Response streaming for Lambda functions".

use crate::invoker::{InvokeError, Invoked};
use bytes::{Bytes, BytesMut};
use limits::{Passage, ResponseStreams, StreamFigures, StreamId};
use model::{LimitRow, Refusal};
use runtime_api::{Incoming, Piece, RESPONSE_BYTES_MAX, Reply};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait for a caller; a piece is what one read of the runtime's socket gave.
const PIECES_MAX: usize = 4;

/// What came of a request that may be answered piece by piece.
#[derive(Debug)]
pub enum Answered {
    /// All of it at once: the function does not stream, or failed before it did.
    Whole(Invoked),
    /// The beginning of a stream.
    Stream(ResponseStream),
}

/// A response on its way. Dropping it changes nothing for the function.
#[derive(Debug)]
pub struct ResponseStream {
    /// What the runtime says that it sends.
    pub content_type: Option<Arc<str>>,
    /// The version that runs.
    pub version: String,
    pieces: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<Invoked>,
}

impl ResponseStream {
    /// The next piece, never empty; `None` once all of them have come.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.pieces.poll_recv(context)
    }

    /// How it ended; to be asked once no piece is left. The payload is an error document if it failed, else empty.
    ///
    /// # Errors
    /// The invocation's task failed.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Invoked, InvokeError>> {
        use std::future::Future as _;
        std::pin::Pin::new(&mut self.end)
            .poll(context)
            .map(|end| end.map_err(|_| InvokeError::Host("the invocation's task failed".into())))
    }
}

/// Whoever waits for an invocation's answer; it is sent once.
#[derive(Debug)]
pub(crate) struct Caller(Option<Waits>);

#[derive(Debug)]
enum Waits {
    /// For all of it.
    Whole(oneshot::Sender<Result<Invoked, InvokeError>>),
    /// For all of it, or for the beginning of a stream.
    Either(oneshot::Sender<Result<Answered, InvokeError>>),
    /// For a stream's end.
    End(oneshot::Sender<Invoked>),
}

impl Caller {
    pub(crate) const fn whole(sender: oneshot::Sender<Result<Invoked, InvokeError>>) -> Self {
        Self(Some(Waits::Whole(sender)))
    }

    pub(crate) const fn either(sender: oneshot::Sender<Result<Answered, InvokeError>>) -> Self {
        Self(Some(Waits::Either(sender)))
    }

    /// Sends the answer, or the end of one, unless it was sent. The caller may be gone; the work is done all the same.
    pub(crate) fn answer(&mut self, answer: Result<Invoked, InvokeError>) {
        match (self.0.take(), answer) {
            (Some(Waits::Whole(caller)), answer) => drop(caller.send(answer)),
            (Some(Waits::Either(caller)), answer) => drop(caller.send(answer.map(Answered::Whole))),
            (Some(Waits::End(caller)), Ok(end)) => drop(caller.send(end)),
            (Some(Waits::End(_)) | None, _) => {}
        }
    }

    /// Sends the beginning of a stream, if the caller takes one: where its pieces go.
    pub(crate) fn begin(
        &mut self,
        content_type: Option<Arc<str>>,
        version: &str,
    ) -> Option<mpsc::Sender<Bytes>> {
        let Some(Waits::Either(caller)) = self.0.take_if(|waits| matches!(waits, Waits::Either(_))) else {
            return None;
        };
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let (end_sender, end) = oneshot::channel();
        let stream = ResponseStream { content_type, version: version.to_owned(), pieces, end };
        let _ = caller.send(Ok(Answered::Stream(stream)));
        self.0 = Some(Waits::End(end_sender));
        Some(sender)
    }
}

/// The limits for streams, with the platform's clock.
#[derive(Debug)]
pub(crate) struct Streams {
    engine: Mutex<ResponseStreams>,
    started: Instant,
}

impl Streams {
    pub(crate) fn new(figures: StreamFigures, started: Instant) -> Arc<Self> {
        Arc::new(Self { engine: Mutex::new(ResponseStreams::new(figures)), started })
    }

    pub(crate) fn board(&self) -> Vec<LimitRow> {
        let now = self.now();
        self.lock().board(now)
    }

    pub(crate) fn open(self: &Arc<Self>, resource: &str) -> Meter {
        let now = self.now();
        let id = self.lock().open(now, &resource.into());
        Meter { streams: self.clone(), id }
    }

    fn now(&self) -> model::Instant {
        model::Instant::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, ResponseStreams> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream under the limits.
#[derive(Debug)]
pub(crate) struct Meter {
    streams: Arc<Streams>,
    id: StreamId,
}

impl Meter {
    /// Waits until some of `wanted` bytes may go; how many.
    async fn pass(&self, wanted: usize) -> Result<usize, Refusal> {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        loop {
            let passage = self.streams.lock().send(self.streams.now(), self.id, wanted);
            match passage {
                Passage::Go(bytes) => return Ok(bytes as usize),
                Passage::Full(refusal) => return Err(refusal),
                Passage::Wait(Some(until)) => {
                    let until = self.streams.started + std::time::Duration::from_nanos(until.as_nanos());
                    tokio::time::sleep_until(until.into()).await;
                }
                Passage::Wait(None) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.streams.lock().close(self.id);
    }
}

/// How a stream ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// As the runtime says.
    Replied(Reply),
    /// The limit cut it.
    TooLarge(Refusal),
    /// The runtime's connection broke.
    Broken,
}

/// The way from a runtime to its caller.
#[derive(Debug)]
pub(crate) struct Flow {
    caller: mpsc::Sender<Bytes>,
    meter: Meter,
    /// What was taken and not yet passed on.
    at_hand: Bytes,
}

impl Flow {
    pub(crate) const fn new(caller: mpsc::Sender<Bytes>, meter: Meter) -> Self {
        Self { caller, meter, at_hand: Bytes::new() }
    }

    /// Passes pieces on until the stream ends. Nothing is lost when this is given up and called again.
    pub(crate) async fn run(&mut self, incoming: &mut Incoming) -> Ending {
        loop {
            if self.at_hand.is_empty() {
                match incoming.next().await {
                    Piece::Data(bytes) => self.at_hand = bytes,
                    Piece::Complete => return Ending::Replied(Reply::Response(Bytes::new())),
                    Piece::Failed { body, error_type } => {
                        return Ending::Replied(Reply::Error { body, error_type });
                    }
                    Piece::Broken => return Ending::Broken,
                }
            }
            // Its place first: what was passed must not be asked for twice. Nobody there: it goes nowhere, as fast as ever.
            let place = self.caller.reserve().await.ok();
            let bytes = match self.meter.pass(self.at_hand.len()).await {
                Ok(bytes) => self.at_hand.split_to(bytes),
                Err(refusal) => return Ending::TooLarge(refusal),
            };
            if let Some(place) = place {
                place.send(bytes);
            }
        }
    }
}

/// All of a stream, for a caller who wants it whole.
pub(crate) async fn gather(incoming: &mut Incoming) -> Ending {
    let mut body = BytesMut::new();
    loop {
        match incoming.next().await {
            Piece::Data(bytes) if body.len() + bytes.len() > RESPONSE_BYTES_MAX => {
                return Ending::Replied(Reply::TooLarge);
            }
            Piece::Data(bytes) => body.extend_from_slice(&bytes),
            Piece::Complete => return Ending::Replied(Reply::Response(body.freeze())),
            Piece::Failed { body, error_type } => return Ending::Replied(Reply::Error { body, error_type }),
            Piece::Broken => return Ending::Broken,
        }
    }
}
