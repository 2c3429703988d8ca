//! Whether what was handed to hyper has reached the socket.
//!
//! A body that fails makes hyper drop what it still holds, up to its whole buffer. What a function wrote before it failed is to
//! reach the client all the same, so such a body fails only when the buffer is empty: hyper flushes its connection then, and
//! only then.

use crate::clients::{self, Clients};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// What was sent by the end of a response's time may take so long to reach its client.
const GRACE: Duration = Duration::from_secs(1);

/// How often a connection had nothing left to send, and until when the response under way may take.
#[derive(Debug, Default)]
pub struct Flushes {
    count: AtomicU64,
    waiting: Mutex<Option<Waker>>,
    end: Mutex<Option<Instant>>,
}

impl Flushes {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Ready once the connection was flushed after `before` was counted.
    pub(crate) fn poll_after(&self, before: u64, context: &mut Context<'_>) -> Poll<()> {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        if self.count() > before { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Says when the response under way has to be over. A client that takes nothing more is not noticed by the body, which
    /// nobody asks for its next piece.
    pub(crate) fn until(&self, end: Option<Instant>) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end.map(|end| end + GRACE);
    }

    fn end(&self) -> Option<Instant> {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flushed(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        if let Some(waker) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}

/// A connection that tells of its flushes, and fails when its client takes nothing of what it is sent.
pub(crate) struct Watched {
    io: TokioIo<TcpStream>,
    flushes: Arc<Flushes>,
    clients: Arc<Clients>,
    /// Since a write had to wait for the first time, until all is sent.
    waits: Option<Waits>,
}

/// A client that is slower than what it is sent.
struct Waits {
    begun: Instant,
    last: Instant,
    bytes: u64,
    timer: Pin<Box<Sleep>>,
}

impl Watched {
    pub(crate) fn new(stream: TcpStream, clients: Arc<Clients>) -> (Self, Arc<Flushes>) {
        let flushes = Arc::new(Flushes::default());
        (Self { io: TokioIo::new(stream), flushes: flushes.clone(), clients, waits: None }, flushes)
    }

    /// Gives on what came of a write, unless the client has had its time.
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match (&written, &mut self.waits) {
            (Poll::Ready(Ok(count)), Some(waits)) => {
                waits.bytes += *count as u64;
                waits.last = Instant::now();
            }
            (Poll::Ready(_), _) => {}
            (Poll::Pending, waits) => {
                let now = Instant::now();
                let waits = waits.get_or_insert_with(|| Waits {
                    begun: now,
                    last: now,
                    bytes: 0,
                    timer: Box::pin(tokio::time::sleep_until(now)),
                });
                let due = clients::due(self.clients.timeout(), waits.begun, waits.last, waits.bytes);
                let end = self.flushes.end().filter(|end| *end < due);
                waits.timer.as_mut().reset(end.unwrap_or(due));
                if waits.timer.as_mut().poll(context).is_ready() {
                    // Past the end of an API's time the limit is the API's, who names it.
                    if end.is_none() {
                        self.clients.was_slow("answer");
                    }
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        written
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if flushed.is_ready() {
            self.waits = None;
            self.flushes.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
