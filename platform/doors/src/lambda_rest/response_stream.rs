//! `POST /2021-11-15/functions/{F}/response-streaming-invocations`: InvokeWithResponseStream.
//!
//! Source: Lambda API reference, InvokeWithResponseStream. A function that does not stream is answered in the same form: its
//! result as one payload.

use super::invocations::{self, Call, EXECUTED_VERSION, Kind};
use crate::Answer;
use crate::body::Incoming;
use crate::router::{Doors, name_limit};
use crate::streaming::{Outgoing, invoke_complete, payload_chunks};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use invoke::{Answered, Invoked, request_id};
use model::error::ApiError;
use std::sync::Arc;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");

/// The function that the path invokes; `None` when it is another operation.
pub(crate) fn function_of(head: &Parts) -> Option<String> {
    invocations::function_between(head, "/2021-11-15/functions/", "/response-streaming-invocations")
}

pub(crate) async fn answer(
    doors: &Doors,
    reference: &str,
    head: &Parts,
    incoming: Incoming,
) -> Response<Outgoing> {
    let id = request_id();
    let mut answer = match run(doors, reference, head, incoming, &id).await {
        Ok(answer) => answer,
        Err(failure) => super::error(&failure).map(Outgoing::from),
    };
    invocations::name_request(answer.headers_mut(), &id);
    answer
}

async fn run(
    doors: &Doors,
    reference: &str,
    head: &Parts,
    incoming: Incoming,
    id: &Arc<str>,
) -> Result<Response<Outgoing>, ApiError> {
    let call = Call::read(doors, reference, head, "[RequestResponse, DryRun]")?;
    let payload = invocations::read_payload(incoming).await?;
    if call.kind == Kind::DryRun {
        let mut answer = Answer::default();
        *answer.status_mut() = StatusCode::NO_CONTENT;
        return Ok(answer.map(Outgoing::from));
    }
    let answered = match doors.invoker.admit(call.runs(), id) {
        Ok(admission) => admission.run_streaming(call.request(id, payload)).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(Answered::Whole(invoked)) => Ok(whole(&invoked).map(Outgoing::from)),
        Ok(Answered::Stream(stream)) => {
            let version = stream.version.clone();
            let function = call.function.name.as_str().into();
            Ok(begun(Response::new(Outgoing::messages(function, stream)), &version))
        }
        Err(error) => call.refused(doors, error).map(|answer| answer.map(Outgoing::from)),
    }
}

/// A result, or an error document, with the message that ends the stream.
fn whole(invoked: &Invoked) -> Answer {
    let mut messages = payload_chunks(&invoked.payload);
    messages.push(invoke_complete(invoked));
    let mut answer = begun(Response::new(Full::new(messages.concat().into())), &invoked.version);
    if let Some(refusal) = &invoked.limit {
        name_limit(&mut answer, refusal);
    }
    answer
}

fn begun<B>(mut answer: Response<B>, version: &str) -> Response<B> {
    answer.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
    if let Ok(version) = HeaderValue::from_str(version) {
        answer.headers_mut().insert(EXECUTED_VERSION, version);
    }
    answer
}
