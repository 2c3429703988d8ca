//! Reading request bodies: bounded in size and in time.

use crate::clients::{self, Clients};
use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// A request's body on its way in.
#[derive(Debug)]
pub enum Incoming {
    /// Still to come.
    Wire(Wire),
    /// Here already: a signature was over it.
    Whole(Bytes),
}

/// A body that is still to come, from one of these clients.
#[derive(Debug)]
pub struct Wire {
    body: Option<hyper::body::Incoming>,
    clients: Arc<Clients>,
    lingers: bool,
}

impl Wire {
    /// One that waits to be told to go on (`Expect`) may never send it: what such a client does not send is not awaited.
    pub fn new(head: &Parts, body: hyper::body::Incoming, clients: Arc<Clients>) -> Self {
        Self { body: Some(body), clients, lingers: !head.headers.contains_key(EXPECT) }
    }
}

impl Drop for Wire {
    /// A request may be refused before its body is here. Hyper would close the connection then, unannounced, and the client's
    /// next request be lost: the rest is read and thrown away.
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| self.lingers && !body.is_end_stream()) else {
            return;
        };
        if body.size_hint().lower() > LINGERING_BYTES_MAX as u64 {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let rest = Self { body: Some(body), clients: self.clients.clone(), lingers: false };
            runtime.spawn(async move {
                // Who is too slow or sends too much is cut off.
                drop(each(rest, LINGERING_BYTES_MAX, |_| {}).await);
            });
        }
    }
}

/// Most that is read of a body that nobody wants, in bytes: more than the largest payload of an invocation.
const LINGERING_BYTES_MAX: usize = 8 << 20;

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
    let wire = match body {
        Incoming::Whole(whole) if whole.len() > limit => return Err(BodyError::TooLarge),
        Incoming::Whole(whole) => return Ok(whole),
        Incoming::Wire(wire) => wire,
    };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    each(wire, limit, |data| {
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
    })
    .await?;
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Hands on the pieces of at most `limit` bytes.
async fn each(mut wire: Wire, limit: usize, mut take: impl FnMut(Bytes)) -> Result<(), BodyError> {
    let Some(body) = &mut wire.body else { return Ok(()) };
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let begun = Instant::now();
    let (mut last, mut count) = (begun, 0);
    loop {
        let due = clients::due(wire.clients.timeout(), begun, last, count as u64);
        let frame = match timeout_at(due, body.frame()).await {
            Err(_) => {
                wire.clients.was_slow("request body");
                wire.lingers = false;
                return Err(BodyError::TooSlow);
            }
            Ok(None) => return Ok(()),
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        last = Instant::now();
        count += data.len();
        if count > limit {
            return Err(BodyError::TooLarge);
        }
        take(data);
    }
}
