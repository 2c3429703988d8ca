//! A response that a runtime sends piece by piece: `Lambda-Runtime-Function-Response-Mode: streaming`.
//!
//! The pieces go to the invocation's owner through a short queue. While it is full the runtime's socket is not read, so a
//! slow client holds the function back, and no more of a response is in memory than the queue and one buffer.
//!
//! Source: Lambda Developer Guide, "Building a custom runtime", Response streaming; errors as the public Runtime Interface
//! Emulator words them.

use crate::chunks::{Chunks, Taken, Trailers};
use crate::http::{Broken, Head, Wire};
use crate::session::Session;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

/// Pieces that wait for their reader; the next one stays in the socket.
const PIECES_MAX: usize = 4;
/// Most bytes of one piece: the buffer that a socket is read into.
pub(crate) const PIECE_BYTES_MAX: usize = 128 * 1024;

/// Whether a runtime's response is to be passed on as it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Buffered,
    Streaming,
    /// Neither of these words.
    Unknown,
}

impl Mode {
    /// Case does not matter, as in the Runtime Interface Emulator.
    pub(crate) fn read(value: &[u8]) -> Self {
        if value.eq_ignore_ascii_case(b"streaming") {
            Self::Streaming
        } else if value.is_empty() || value.eq_ignore_ascii_case(b"buffered") {
            Self::Buffered
        } else {
            Self::Unknown
        }
    }
}

/// A response under way. Dropping it ends the runtime's connection.
#[derive(Debug)]
pub struct Incoming {
    content_type: Option<String>,
    pieces: mpsc::Receiver<Piece>,
}

/// What comes next of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes; never none.
    Data(Bytes),
    /// Nothing more: it is complete.
    Complete,
    /// The function failed on its way, as the trailers say.
    Failed {
        /// The error document.
        body: Bytes,
        /// Trailer `Lambda-Runtime-Function-Error-Type`.
        error_type: Option<String>,
    },
    /// The connection ended before the response did.
    Broken,
}

impl Incoming {
    /// What the runtime says that it sends.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The next piece; after the last one [`Piece::Broken`]. Nothing is lost when this is given up.
    pub async fn next(&mut self) -> Piece {
        self.pieces.recv().await.unwrap_or(Piece::Broken)
    }
}

/// How a streamed response came to its end, for the answer to the runtime.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// All of it was taken.
    Whole,
    /// There is no invocation of that id that wants a response.
    UnknownRequest,
    /// Its owner takes no more; the rest lies unread.
    Unwanted,
}

/// Receives the response to `id` that follows `head`.
pub(crate) async fn receive(
    session: &Session,
    wire: &mut Wire,
    head: &Head,
    id: &str,
) -> Result<Received, Broken> {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let incoming = Incoming { content_type: head.content_type.clone(), pieces };
    let mut chunks = wire.body_as_it_comes(head).await?;
    if session.begin_stream(id, incoming).is_err() {
        return Ok(Received::UnknownRequest);
    }
    let end = tokio::select! {
        end = pass_on(wire, &mut chunks, &sender) => end,
        () = sender.closed() => Ok(None),
    };
    match end {
        Ok(Some(trailers)) => {
            // Only then may the runtime ask for its next event.
            session.end_stream(id);
            let last = if trailers.is_failure() {
                let Trailers { error_type, error_body } = trailers;
                // Whoever reads the document finds the type, also where nothing else was said.
                let body =
                    error_body.unwrap_or_else(|| json!({ "errorType": error_type }).to_string().into());
                Piece::Failed { body, error_type }
            } else {
                Piece::Complete
            };
            let _ = sender.send(last).await;
            Ok(Received::Whole)
        }
        Ok(None) => {
            session.end_stream(id);
            wire.spent = true;
            Ok(Received::Unwanted)
        }
        Err(broken) => {
            session.end_stream(id);
            let _ = sender.send(Piece::Broken).await;
            Err(broken)
        }
    }
}

/// Passes pieces on until the body ends; `None` when nobody wants them any more.
async fn pass_on(
    wire: &mut Wire,
    chunks: &mut Chunks,
    sender: &mpsc::Sender<Piece>,
) -> Result<Option<Trailers>, Broken> {
    loop {
        match wire.take(chunks)? {
            Taken::Data(piece) => {
                if sender.send(Piece::Data(piece)).await.is_err() {
                    return Ok(None);
                }
            }
            Taken::More => wire.fill_for_stream().await?,
            Taken::End(trailers) => return Ok(Some(trailers)),
        }
    }
}

#[cfg(test)]
#[path = "streaming/tests.rs"]
mod tests;
