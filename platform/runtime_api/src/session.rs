//! The state of one runtime process: initialising, idle in `next`, or busy with one invocation.

mod restore;

use crate::connection;
use crate::extensions::ShutdownReason;
use crate::extensions::{
    self, Event, ExtensionFailure, ExtensionStage, ExtensionStatus, Extensions, Forbidden,
};
use crate::streaming::Incoming;
use crate::telemetry::Telemetry;
use bytes::Bytes;
use restore::Restore;
pub use restore::RestoreError;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Wakes extensions parked in their `next`.
    events: Notify,
    /// Whether there is any extension; few environments have one, and most need not look further.
    extended: AtomicBool,
    /// Held while a result is read.
    pub(crate) reading: tokio::sync::Mutex<()>,
    facts: Arc<Facts>,
    telemetry: Arc<Telemetry>,
}

/// What the Extensions API tells of the function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The function's name.
    pub function_name: String,
    /// `$LATEST` or a number.
    pub function_version: String,
    /// The handler; empty for functions without one.
    pub handler: String,
    /// The account's id, for those who ask for it.
    pub account_id: String,
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
    /// The runtime has asked for its first event; INIT may still wait for extensions.
    runtime_ready: bool,
    extensions: Extensions,
    /// The pending invocation was announced to the extensions.
    announced: bool,
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
        Self::with_extensions(Arc::default(), &[], Arc::default())
    }

    /// A session that expects `external` extensions to register before the runtime starts. `telemetry` gets to know
    /// its subscribers.
    pub fn with_extensions(facts: Arc<Facts>, external: &[Arc<str>], telemetry: Arc<Telemetry>) -> Arc<Self> {
        let state = State { extensions: Extensions::expecting(external), ..State::default() };
        Arc::new(Self {
            extended: AtomicBool::new(!external.is_empty()),
            state: Mutex::new(state),
            events: Notify::new(),
            facts,
            telemetry,
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
        let announced = state.announce();
        drop(state);
        self.work.notify_one();
        if announced {
            self.events.notify_waiters();
        }
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

    /// Since when the runtime waits in `next` with nothing to do; `None` while it, or an extension, works.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        if state.is_runtime_idle() && !state.extensions.is_busy() { state.idle_since } else { None }
    }

    /// Whether there is any extension, registered or expected.
    pub fn has_extensions(&self) -> bool {
        self.extended.load(Ordering::Relaxed)
    }

    /// Whether there is an external one.
    pub fn has_external_extensions(&self) -> bool {
        self.has_extensions() && self.lock().extensions.has_external()
    }

    /// Waits until the runtime asks for its next event, whatever extensions do.
    pub async fn runtime_idle(&self) {
        loop {
            let mut notified = std::pin::pin!(self.idle.notified());
            notified.as_mut().enable();
            if self.lock().is_runtime_idle() {
                return;
            }
            notified.await;
        }
    }

    /// Waits until every external extension has registered: then the runtime may start.
    pub async fn extensions_registered(&self) {
        loop {
            let mut notified = std::pin::pin!(self.initialised.notified());
            notified.as_mut().enable();
            if self.lock().extensions.all_registered() {
                return;
            }
            notified.await;
        }
    }

    /// Waits until an extension has failed, as it said itself.
    pub async fn extension_failed(&self) -> ExtensionFailure {
        loop {
            let mut notified = std::pin::pin!(self.initialised.notified());
            notified.as_mut().enable();
            if let Some(failure) = self.lock().extensions.failure() {
                return failure.clone();
            }
            notified.await;
        }
    }

    /// What extension failed first, if one did.
    pub fn extension_failure(&self) -> Option<ExtensionFailure> {
        if self.has_extensions() { self.lock().extensions.failure().cloned() } else { None }
    }

    /// An external extension could not be started.
    pub fn extension_not_launched(&self, name: &Arc<str>, error_type: &str) {
        self.lock().extensions.fail_to_launch(name, error_type);
        self.initialised.notify_waiters();
    }

    /// The extensions, as the log tells of them at the end of INIT.
    pub fn extension_statuses(&self) -> Vec<ExtensionStatus> {
        if self.has_extensions() { self.lock().extensions.statuses() } else { Vec::new() }
    }

    /// Tells external extensions that registered for it that the environment ends at `deadline_ms` of Unix time; their
    /// names.
    pub fn shut_down(&self, reason: ShutdownReason, deadline_ms: u64) -> Vec<Arc<str>> {
        let told = self.lock().extensions.shut_down(reason, deadline_ms);
        self.events.notify_waiters();
        told
    }

    /// What the platform and its programs say, on its way to subscribers.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn register(&self, name: &str, events: &[String]) -> Result<Arc<str>, Forbidden> {
        let id: Arc<str> = extensions::uuid().into();
        self.lock().extensions.register(&id, name, events)?;
        self.extended.store(true, Ordering::Relaxed);
        self.initialised.notify_waiters();
        Ok(id)
    }

    pub(crate) fn extension_ready(&self, id: &str) -> Result<(), Forbidden> {
        let mut state = self.lock();
        state.extensions.ready(id)?;
        let announced = self.settle_initialisation(&mut state);
        if !state.extensions.is_busy() {
            self.idle.notify_waiters();
        }
        drop(state);
        if announced {
            self.events.notify_waiters();
        }
        Ok(())
    }

    /// The next event of an extension that is ready.
    pub(crate) async fn extension_event(&self, id: &str) -> Event {
        loop {
            let mut notified = std::pin::pin!(self.events.notified());
            notified.as_mut().enable();
            if let Some(event) = self.lock().extensions.take(id) {
                return event;
            }
            notified.await;
        }
    }

    pub(crate) fn extension_fails(
        &self,
        id: &str,
        stage: ExtensionStage,
        error_type: &str,
    ) -> Result<(), Forbidden> {
        self.lock().extensions.fail(id, stage, error_type)?;
        self.initialised.notify_waiters();
        Ok(())
    }

    pub(crate) fn extension_name(&self, id: &str) -> Result<Arc<str>, Forbidden> {
        self.lock().extensions.name_of(id)
    }

    /// INIT ends when the runtime and all extensions have asked for an event. True if an invocation waited for that and
    /// is now due to extensions.
    fn settle_initialisation(&self, state: &mut State) -> bool {
        if state.initialisation.is_some() || !state.runtime_ready || !state.extensions.all_ready() {
            return false;
        }
        state.initialisation = Some(Initialisation::Ready);
        self.initialised.notify_waiters();
        self.telemetry.close_subscriptions();
        let announced = state.announce();
        if state.pending.is_some() {
            self.work.notify_one();
        }
        announced
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
        let mut announced = false;
        if state.initialisation.is_none() {
            state.runtime_ready = true;
            state.extensions.close();
            announced = self.settle_initialisation(&mut state);
        }
        state.parked += 1;
        let invocation = state.start();
        if invocation.is_none() {
            state.idle_since = Some(Instant::now());
            self.idle.notify_waiters();
        }
        drop(state);
        if announced {
            self.events.notify_waiters();
        }
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
    fn is_runtime_idle(&self) -> bool {
        self.pending.is_none() && self.current.is_none() && self.idle_since.is_some()
    }

    /// Makes the pending invocation due to extensions, once INIT is over; true if somebody has to hear of it.
    fn announce(&mut self) -> bool {
        if !self.extensions.any()
            || self.announced
            || !matches!(self.initialisation, Some(Initialisation::Ready))
        {
            return false;
        }
        let Some(invocation) = &self.pending else { return false };
        self.announced = true;
        let Invocation { request_id, deadline_ms, function_arn, trace_id, .. } = invocation;
        let body = || extensions::invoke_body(*deadline_ms, request_id, function_arn, trace_id);
        self.extensions.invoke(body)
    }

    fn start(&mut self) -> Option<Invocation> {
        // The runtime is ready, an extension is not: INIT goes on.
        self.initialisation.as_ref()?;
        self.announced = false;
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
