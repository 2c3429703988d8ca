//! What the queue needs of the rest: functions, and somebody who runs them.

use bytes::Bytes;
use control::{Control, Function, State};
use invoke::{InvokeError, Invoked, Invoker, Request};
use limits::InvocationType;
use model::{LimitId, Refusal};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// An invocation that was let in, on its way to its answer. `Err`: this host could not run it.
pub type Run = Pin<Box<dyn Future<Output = Result<Invoked, Refused>> + Send>>;

/// Why a function did not run for an event.
#[derive(Clone, Debug)]
pub enum Refused {
    /// There is no such function (any more).
    NoFunction,
    /// A limit, of Lambda's or of this host's.
    Limit(Refusal),
}

/// One try to deliver an event.
#[derive(Clone, Debug)]
pub struct Try {
    /// The function's name.
    pub function: Arc<str>,
    /// The version or alias that the caller named.
    pub qualifier: Option<Arc<str>>,
    /// The function's unqualified ARN.
    pub arn: Arc<str>,
    /// The event's request id, the same for each try.
    pub request_id: Arc<str>,
    /// The caller's client context, decoded.
    pub client_context: Option<Arc<str>>,
    /// The caller's X-Ray header.
    pub trace_id: Option<Arc<str>>,
}

/// A payload on its way from the store; `None` when it cannot be read now.
pub type Payload = Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>;

/// Functions, and who runs them.
pub trait Runs: Send + Sync {
    /// The function of that name.
    fn function(&self, name: &str) -> Option<Arc<Function>>;

    /// Asks the limits; what they let in is in flight until the future has ended or is dropped. The payload is fetched by
    /// then only, so that a refusal costs no reading.
    ///
    /// # Errors
    /// See [`Refused`].
    fn admit(&self, attempt: Try, payload: Payload) -> Result<Run, Refused>;
}

/// The live platform.
pub struct Live {
    /// Functions.
    pub control: Arc<Control>,
    /// Their environments.
    pub invoker: Invoker,
}

impl Live {
    /// What the invoker calls the version or alias that an event is for; a weighted alias draws anew for each try.
    fn key(&self, attempt: &Try) -> Option<Arc<str>> {
        match attempt.qualifier.as_deref() {
            None | Some(model::name::LATEST) => Some(attempt.function.clone()),
            Some(other) => Some(self.control.function(&attempt.function)?.route(other)?.key.into()),
        }
    }
}

impl Runs for Live {
    fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.control.function(name)
    }

    fn admit(&self, attempt: Try, payload: Payload) -> Result<Run, Refused> {
        let runs = self.key(&attempt).ok_or(Refused::NoFunction)?;
        let admission = match self.invoker.admit_as(&runs, &attempt.request_id, InvocationType::Event) {
            Ok(admission) => admission,
            Err(error) => return Ok(Box::pin(std::future::ready(Ok(unable(error)?)))),
        };
        Ok(Box::pin(async move {
            let Some(payload) = payload.await else { return Err(host("host")) };
            let Try { function, qualifier, arn, request_id, client_context, trace_id } = attempt;
            let invoked_arn = match qualifier {
                Some(qualifier) => model::name::qualified_arn(&arn, &qualifier).into(),
                None => arn,
            };
            let request =
                Request { function, invoked_arn, request_id, payload, tail: false, client_context, trace_id };
            admission.run(request).await.or_else(unable)
        }))
    }
}

/// What did not run through a fault of the function's own is as when it fails: tried again, then a dead letter.
fn unable(error: InvokeError) -> Result<Invoked, Refused> {
    let code = match &error {
        InvokeError::Restore(_) => "SnapStartException",
        InvokeError::NotReady(State::Failed) => "ResourceConflictException",
        _ => return Err(refused(error)),
    };
    let document = serde_json::json!({"errorType": code, "errorMessage": error.to_string()});
    Ok(Invoked {
        payload: document.to_string().into(),
        content_type: None,
        failed: true,
        log_tail: None,
        version: model::name::LATEST.to_owned(),
        limit: None,
    })
}

fn refused(error: InvokeError) -> Refused {
    match error {
        InvokeError::NoFunction(_) => Refused::NoFunction,
        InvokeError::Refused(refusal) => Refused::Limit(refusal),
        // No room is lacking: what tells of the event says why it waits.
        InvokeError::NotReady(state) => host(&format!("host, for a function in state {state:?}")),
        InvokeError::Restore(_) | InvokeError::Host(_) => host("host"),
    }
}

/// This host is at fault: tried again like what was throttled, as Lambda does after errors of its own.
fn host(resource: &str) -> Refused {
    Refused::Limit(Refusal {
        limit: LimitId::HostSandboxes,
        resource: resource.into(),
        destination: None,
        used: 0,
        max: 0,
        retry_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_is_not_ready_is_not_said_to_lack_room() {
        let Refused::Limit(refusal) = refused(InvokeError::NotReady(State::Pending)) else {
            panic!("tried again like what was throttled")
        };
        assert_eq!(&*refusal.resource, "host, for a function in state Pending");
    }

    #[test]
    fn a_version_in_state_failed_fails_and_does_not_wait_for_this_host() {
        let Ok(invoked) = unable(InvokeError::NotReady(State::Failed)) else {
            panic!("nothing that this host lacks would change it")
        };
        assert!(invoked.failed);
        let document: serde_json::Value = serde_json::from_slice(&invoked.payload).unwrap();
        assert_eq!(document["errorType"], "ResourceConflictException");
        assert!(matches!(unable(InvokeError::NotReady(State::Pending)), Err(Refused::Limit(_))));
    }
}
