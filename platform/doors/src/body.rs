//! Reading request bodies: bounded in size and in time.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use std::time::Duration;

/// Longest wait for the next piece of a body. A client that trickles slower is cut off.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// A request's body on its way in.
#[derive(Debug)]
pub enum Incoming {
    /// Still to come.
    Wire(hyper::body::Incoming),
    /// Here already: a signature was over it.
    Whole(Bytes),
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::Wire(body)
    }
}

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than the door allows.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The client hung up, or broke the framing.
    Broken,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// See [`BodyError`].
pub async fn read(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let mut body = match body {
        Incoming::Whole(whole) if whole.len() > limit => return Err(BodyError::TooLarge),
        Incoming::Whole(whole) => return Ok(whole),
        Incoming::Wire(body) => body,
    };
    let lower = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if lower > limit {
        return Err(BodyError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await {
            Err(_) => return Err(BodyError::TooSlow),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        // Most bodies are one piece, and are then not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
