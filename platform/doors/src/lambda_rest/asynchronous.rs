//! `InvocationType: Event`, and the older `POST /2014-11-13/functions/{F}/invoke-async`: 202 once the event is on the disk.
//!
//! Source: Lambda API reference, Invoke and InvokeAsync; the text for an event that is too large as recorded on AWS.

use super::{error, given_trace_header, invocations, lineage};
use crate::Answer;
use crate::body::Incoming;
use crate::router::{Doors, json, name_limit_id};
use bytes::Bytes;
use control::State;
use events::{Arrival, EventError};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use model::LimitId;
use model::error::{ApiError, ErrorCode};

/// The function that an InvokeAsync path names, still encoded; `None` when it is none.
pub(super) fn function_of(head: &Parts) -> Option<String> {
    if head.method != Method::POST {
        return None;
    }
    let rest = head.uri.path().strip_prefix("/2014-11-13/functions/")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    Some(crate::event::decode(rest.strip_suffix("/invoke-async")?, false))
}

/// Answers InvokeAsync.
pub(super) async fn answer(doors: &Doors, reference: &str, head: &Parts, incoming: Incoming) -> Answer {
    let id = invoke::request_id();
    let mut answer = match invoke_async(doors, reference, head, incoming, &id).await {
        Ok(answer) => answer,
        Err(failure) => error(&failure),
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert("x-amzn-requestid", value);
    }
    answer
}

async fn invoke_async(
    doors: &Doors,
    reference: &str,
    head: &Parts,
    incoming: Incoming,
    id: &std::sync::Arc<str>,
) -> Result<Answer, ApiError> {
    let (name, qualifier) = invocations::target(doors, reference, head)?;
    let named = doors.control.resolve(&name, qualifier.as_deref())?;
    if named.state != State::Active {
        return Err(invocations::not_ready(named.state));
    }
    let function = doors.control.function(&name).unwrap_or(named);
    if let Some(route) = qualifier.as_deref().and_then(|qualifier| function.route(qualifier)) {
        invocations::check_ready(doors, &route.key)?;
    }
    let trace_id = lineage::next(doors, given_trace_header(&head.headers), &function)?;
    let arrival = Arrival {
        function,
        qualifier: qualifier.map(Into::into),
        request_id: id.clone(),
        payload: invocations::read_payload(incoming).await?,
        client_context: None,
        trace_id,
    };
    // The model binds the one member, `Status`, to the HTTP status; the body is empty.
    accept(doors, arrival).await
}

/// Takes an event in: 202 and nothing else.
///
/// # Errors
/// The event is too large, or it could not be made durable.
pub(super) async fn accept(doors: &Doors, arrival: Arrival) -> Result<Answer, ApiError> {
    let max = doors.events.payload_bytes_max();
    let size = arrival.payload.len();
    if size > max {
        let message =
            format!("{size} byte payload is too large for the Event invocation type (limit {max} bytes)");
        return Err(ApiError::new(ErrorCode::RequestEntityTooLarge, message));
    }
    match doors.events.accept(arrival).await {
        Ok(()) => {
            let mut answer = Response::new(Full::new(Bytes::new()));
            *answer.status_mut() = StatusCode::ACCEPTED;
            Ok(answer)
        }
        Err(failure) => {
            let message = format!("{failure}. Nothing of it was kept; try again.");
            let mut answer = error(&ApiError::new(ErrorCode::Service, message));
            if matches!(failure, EventError::Full { .. }) {
                name_limit_id(&mut answer, LimitId::HostEvents);
            } else if matches!(failure, EventError::Stopping) {
                answer = json(StatusCode::SERVICE_UNAVAILABLE, "{\"message\":\"the platform is stopping\"}");
            }
            Ok(answer)
        }
    }
}
