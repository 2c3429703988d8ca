//! SnapStart's part of a runtime's life: after INIT it asks for `restore/next`, and goes on only when its environment is
//! restored.
//!
//! Source: AWS Lambda Developer Guide, "Lambda SnapStart runtime hooks", and the requests of AWS's runtime interface clients,
//! which answer to `AWS_LAMBDA_INITIALIZATION_TYPE=snap-start`.

use super::{Initialisation, NoEvent, Session};
use bytes::Bytes;
use std::time::Instant;

/// How far a runtime is on its way from the end of INIT to its first event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Restore {
    /// It has not asked yet.
    #[default]
    NotAsked,
    /// It waits in `restore/next`.
    Parked,
    /// It may go on, or could if it asked.
    Released,
    /// An after-restore hook failed.
    Failed(RestoreError),
}

/// What a runtime posted to `/runtime/restore/error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreError {
    /// The posted body.
    pub body: Bytes,
    /// Header `Lambda-Runtime-Function-Error-Type`.
    pub error_type: Option<String>,
}

impl Session {
    /// Lets the runtime go on from `restore/next`, now or as soon as it asks. Called before INIT, INIT goes on to the first
    /// event without a stop.
    pub fn restore(&self) {
        let mut state = self.lock();
        match state.restore {
            Restore::Parked => state.idle_since = None,
            Restore::NotAsked => {}
            Restore::Released | Restore::Failed(_) => return,
        }
        state.restore = Restore::Released;
        drop(state);
        self.released.notify_waiters();
    }

    /// Waits until a restored runtime has run its hooks and asks for its first event.
    ///
    /// # Errors
    /// What the runtime posted when a hook failed.
    pub async fn restored(&self) -> Result<(), RestoreError> {
        loop {
            let mut notified = std::pin::pin!(self.idle.notified());
            notified.as_mut().enable();
            {
                let state = self.lock();
                match &state.restore {
                    Restore::Failed(error) => return Err(error.clone()),
                    Restore::Released if state.idle_since.is_some() => return Ok(()),
                    Restore::NotAsked | Restore::Parked | Restore::Released => {}
                }
            }
            notified.await;
        }
    }

    /// Whether the runtime may go on at once from `restore/next`, with which its part of INIT ends.
    pub(crate) fn restore_next(&self) -> Result<bool, NoEvent> {
        let mut state = self.lock();
        if state.initialisation.is_some() {
            return Err(NoEvent::Busy);
        }
        if state.restore == Restore::Released {
            return Ok(true);
        }
        if state.restore == Restore::Parked {
            return Err(NoEvent::Busy);
        }
        state.restore = Restore::Parked;
        state.runtime_ready = true;
        state.idle_since = Some(Instant::now());
        state.extensions.close();
        // INIT goes on until every extension has asked for its first event, too. No invocation is pending that could be
        // announced by this.
        self.settle_initialisation(&mut state);
        Ok(false)
    }

    pub(crate) async fn released(&self) {
        loop {
            let mut notified = std::pin::pin!(self.released.notified());
            notified.as_mut().enable();
            if self.lock().restore == Restore::Released {
                return;
            }
            notified.await;
        }
    }

    pub(crate) fn fail_restore(&self, body: Bytes, error_type: Option<String>) -> Result<(), NoEvent> {
        let mut state = self.lock();
        let is_restoring = state.restore == Restore::Released && state.idle_since.is_none();
        if !is_restoring || state.current.is_some() {
            return Err(NoEvent::Busy);
        }
        if state.initialisation.is_none() {
            // Nothing was kept for later: it is INIT that failed.
            let error_type = error_type.clone();
            state.initialisation = Some(Initialisation::Failed { body: body.clone(), error_type });
            self.initialised.notify_waiters();
        }
        state.restore = Restore::Failed(RestoreError { body, error_type });
        drop(state);
        self.idle.notify_waiters();
        Ok(())
    }
}
