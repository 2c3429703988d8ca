//! Reading request bodies: bounded in size and in time.

use crate::clients::{self, Clients};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// A request's body on its way in.
#[derive(Debug)]
pub enum Incoming {
    /// Still to come, from one of these clients.
    Wire(hyper::body::Incoming, Arc<Clients>),
    /// Here already: a signature was over it.
    Whole(Bytes),
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
    let (mut body, clients) = match body {
        Incoming::Whole(whole) if whole.len() > limit => return Err(BodyError::TooLarge),
        Incoming::Whole(whole) => return Ok(whole),
        Incoming::Wire(body, clients) => (body, clients),
    };
    let lower = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if lower > limit {
        return Err(BodyError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let begun = Instant::now();
    let mut last = begun;
    loop {
        let count = first.len() + rest.len();
        let due = clients::due(clients.timeout(), begun, last, count as u64);
        let frame = match timeout_at(due, body.frame()).await {
            Err(_) => {
                clients.was_slow("request body");
                return Err(BodyError::TooSlow);
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        last = Instant::now();
        if count + data.len() > limit {
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
