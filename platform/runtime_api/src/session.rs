//! The state of one runtime process: initialising, idle in `next`, or busy with one invocation.

mod restore;

use crate::connection;
use crate::streaming::Incoming;
use bytes::Bytes;
use restore::Restore;
pub use restore::RestoreError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// Connections that one environment may hold open to its Runtime API. A runtime needs one, its extensions a
/// few; more is a mistake or an attack, and the next one waits in the backlog.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// One event on its way to a runtime.
#[derive(Debug)]
pub struct Invocation {
    /// The request id: unguessable, used once.
    pub request_id: Arc<str>,
    /// The event.
    pub payload: Bytes,
    /// When the function's timeout strikes, in milliseconds of Unix time.
    pub deadline_ms: u64,
    /// The ARN as the caller named it.
    pub function_arn: Arc<str>,
    /// X-Ray trace header.
    pub trace_id: Arc<str>,
    /// The caller's `X-Amz-Client-Context`, decoded.
    pub client_context: Option<Arc<str>>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// What a runtime answers with.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(Reply),
    /// The beginning of a response that comes piece by piece.
    Stream(Incoming),
}

/// What a runtime made of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The handler's result.
    Response(Bytes),
    /// The runtime's own error document, to be forwarded byte for byte.
    Error {
        /// The posted body.
        body: Bytes,
        /// Header `Lambda-Runtime-Function-Error-Type`.
        error_type: Option<String>,
    },
    /// The result was larger than [`crate::RESPONSE_BYTES_MAX`].
    TooLarge,
}

/// How INIT ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Initialisation {
    /// The runtime asked for its first event.
    Ready,
    /// The runtime posted to `/runtime/init/error`.
    Failed {
        /// The posted body.
        body: Bytes,
        /// Header `Lambda-Runtime-Function-Error-Type`.
        error_type: Option<String>,
    },
}

/// One life of one environment's runtime process.
#[derive(Debug)]
pub struct Session {
    state: Mutex<State>,
    /// Wakes connections parked in `next`.
    work: Notify,
    /// Wakes the owner waiting for INIT.
    initialised: Notify,
    /// Wakes the owner waiting for the runtime to come back for its next event.
    idle: Notify,
    /// Wakes connections parked in `restore/next`.
    released: Notify,
    /// Held while a result is read.
    pub(crate) reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    initialisation: Option<Initialisation>,
    restore: Restore,
    pending: Option<Invocation>,
    current: Option<Current>,
    /// Connections parked in `next`.
    parked: usize,
    idle_since: Option<Instant>,
}

#[derive(Debug)]
struct Current {
    request_id: Arc<str>,
    /// Taken once a streamed response has begun.
    reply: Option<oneshot::Sender<Answer>>,
}

impl Current {
    fn wants_reply(&self, request_id: &str) -> bool {
        &*self.request_id == request_id && self.reply.is_some()
    }
}

/// Why a `next` got no event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoEvent {
    /// An invocation is being worked on: it must be answered first.
    Busy,
}

/// The posted request id is not the current one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownRequest;

impl Session {
    /// A session whose runtime has not called yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            work: Notify::new(),
            initialised: Notify::new(),
            idle: Notify::new(),
            released: Notify::new(),
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// Answers the runtime on `listener` until dropped or aborted.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(connection::serve(self.clone(), stream));
                }
                Err(error) => {
                    // Out of descriptors, most likely: the environment's own limit or the host's. Back off, not spin.
                    tracing::warn!(%error, "runtime API: cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Hands over an event; the runtime gets it at its present or next `next`.
    ///
    /// # Errors
    /// Gives the invocation back when another is still waiting or running: the owner's mistake.
    pub fn give(&self, invocation: Invocation) -> Result<(), Box<Invocation>> {
        let mut state = self.lock();
        if state.pending.is_some() || state.current.is_some() {
            return Err(Box::new(invocation));
        }
        state.pending = Some(invocation);
        state.idle_since = None;
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Takes the unfinished invocation back, when the runtime died or its time is over. What the runtime posts
    /// for it later is refused.
    pub fn cancel(&self) -> Option<oneshot::Sender<Answer>> {
        let mut state = self.lock();
        let pending = state.pending.take().map(|invocation| invocation.reply);
        state.current.take().and_then(|current| current.reply).or(pending)
    }

    /// Takes back an invocation that the runtime has not yet received.
    pub fn take_unstarted(&self) -> Option<Invocation> {
        self.lock().pending.take()
    }

    /// Waits for the end of INIT.
    pub async fn initialised(&self) -> Initialisation {
        loop {
            let mut notified = std::pin::pin!(self.initialised.notified());
            notified.as_mut().enable();
            if let Some(outcome) = self.lock().initialisation.clone() {
                return outcome;
            }
            notified.await;
        }
    }

    /// Since when the runtime waits in `next` with nothing to do; `None` while it works.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        if state.pending.is_none() && state.current.is_none() { state.idle_since } else { None }
    }

    /// Waits until the runtime asks for its next event: only then is an invocation over.
    pub async fn idle(&self) {
        loop {
            let mut notified = std::pin::pin!(self.idle.notified());
            notified.as_mut().enable();
            if self.idle_since().is_some() {
                return;
            }
            notified.await;
        }
    }

    pub(crate) async fn next(&self) -> Result<(Parked<'_>, Option<Invocation>), NoEvent> {
        let mut state = self.lock();
        if state.current.is_some() {
            return Err(NoEvent::Busy);
        }
        if state.initialisation.is_none() {
            state.initialisation = Some(Initialisation::Ready);
            self.initialised.notify_waiters();
        }
        state.parked += 1;
        let invocation = state.start();
        if invocation.is_none() {
            state.idle_since = Some(Instant::now());
            self.idle.notify_waiters();
        }
        drop(state);
        Ok((Parked(self), invocation))
    }

    pub(crate) fn answer(&self, request_id: &str, reply: Reply) -> Result<(), UnknownRequest> {
        let mut state = self.lock();
        match state.current.take_if(|current| current.wants_reply(request_id)) {
            Some(Current { reply: Some(sender), .. }) => {
                drop(state);
                // The caller may be gone (its client hung up): the work is done all the same.
                let _ = sender.send(Answer::Whole(reply));
                Ok(())
            }
            _ => Err(UnknownRequest),
        }
    }

    /// A streamed response begins; the invocation goes on until [`Session::end_stream`].
    pub(crate) fn begin_stream(&self, request_id: &str, incoming: Incoming) -> Result<(), UnknownRequest> {
        let mut state = self.lock();
        let current = state.current.as_mut().filter(|current| current.wants_reply(request_id));
        let sender = current.and_then(|current| current.reply.take()).ok_or(UnknownRequest)?;
        drop(state);
        let _ = sender.send(Answer::Stream(incoming));
        Ok(())
    }

    /// A streamed response has ended, one way or another.
    pub(crate) fn end_stream(&self, request_id: &str) {
        // Another one may have begun after this one was cancelled.
        self.lock().current.take_if(|current| &*current.request_id == request_id);
    }

    pub(crate) fn is_current(&self, request_id: &str) -> bool {
        self.lock().current.as_ref().is_some_and(|current| current.wants_reply(request_id))
    }

    pub(crate) fn fail_initialisation(&self, body: Bytes, error_type: Option<String>) -> Result<(), NoEvent> {
        let mut state = self.lock();
        if state.initialisation.is_some() {
            return Err(NoEvent::Busy);
        }
        state.initialisation = Some(Initialisation::Failed { body, error_type });
        self.initialised.notify_waiters();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn start(&mut self) -> Option<Invocation> {
        let mut invocation = self.pending.take()?;
        // The sender moves into `current`; the connection needs everything else.
        let (placeholder, _) = oneshot::channel();
        let reply = std::mem::replace(&mut invocation.reply, placeholder);
        self.current = Some(Current { request_id: invocation.request_id.clone(), reply: Some(reply) });
        self.idle_since = None;
        Some(invocation)
    }
}

/// A connection waiting in `next`; counts itself out when it goes.
pub(crate) struct Parked<'session>(&'session Session);

impl Parked<'_> {
    pub(crate) async fn wait(&self) -> Invocation {
        loop {
            let notified = self.0.work.notified();
            if let Some(invocation) = self.0.lock().start() {
                return invocation;
            }
            notified.await;
        }
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.parked -= 1;
        if state.parked > 0 && state.pending.is_some() {
            // This connection may have swallowed the wake-up on its way out.
            self.0.work.notify_one();
        }
    }
}
