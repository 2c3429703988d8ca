//! The Lambda REST API: invocations here, functions and their settings in [`control_plane`].

mod asynchronous;
pub mod control_plane;
mod invocations;
mod lineage;
mod response_stream;

use crate::Answer;
use crate::body::Incoming;
use crate::body::{self, BodyError};
use crate::router::{Doors, json, name_limit_id};
use crate::streaming::Outgoing;
use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use model::error::{ApiError, ErrorCode, ThrottleReason};
use model::{LimitId, Refusal};
use std::sync::{Arc, LazyLock};

/// Largest request of the control plane, in bytes: a 50 MB zip in base64 and its settings. Source: recorded on AWS.
const CONTROL_BYTES_MAX: usize = 70_167_211;

/// Characters of a service's name in a signature.
const SERVICE_MAX: usize = 64;
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
/// X-Ray's header: of a request, and of its answer the trace that the function was part of.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

pub(crate) async fn answer(doors: &Arc<Doors>, head: Parts, incoming: Incoming) -> Response<Outgoing> {
    if let Some(reference) = response_stream::function_of(&head) {
        return response_stream::answer(doors, &reference, &head, incoming).await;
    }
    whole(doors, head, incoming).await.map(Outgoing::from)
}

async fn whole(doors: &Arc<Doors>, head: Parts, incoming: Incoming) -> Answer {
    if let Some(reference) = invocations::function_of(&head) {
        return invocations::answer(doors, &reference, &head, incoming).await;
    }
    if let Some(reference) = asynchronous::function_of(&head) {
        return asynchronous::answer(doors, &reference, &head, incoming).await;
    }
    let body = match body::read(incoming, CONTROL_BYTES_MAX).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => {
            let message = format!(
                "Request must be smaller than {CONTROL_BYTES_MAX} bytes for the CreateFunction operation"
            );
            let mut answer = error(&ApiError::new(ErrorCode::RequestEntityTooLarge, message));
            answer.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        Err(BodyError::TooSlow) => return error(&too_slow()),
        Err(BodyError::Broken) => {
            return json(StatusCode::BAD_REQUEST, "{\"message\":\"the request's body did not arrive\"}");
        }
    };
    let (control, invoker) = (doors.control.clone(), doors.invoker.clone());
    let other = other_service(&head.headers);
    // Zips are unpacked and the store is synced here: not on a thread that serves others.
    let handled =
        tokio::task::spawn_blocking(move || control_plane::handle(&control, &invoker, &head, &body));
    match handled.await {
        Ok(Some(response)) => response.map(http_body_util::Full::new),
        Ok(None) => error(&ApiError::new(ErrorCode::UnknownOperation, no_operation(other.as_deref()))),
        Err(failure) => {
            tracing::error!(%failure, "a control plane request failed");
            error(&ApiError::new(ErrorCode::Service, "internal failure; the platform's log has the cause"))
        }
    }
}

/// The service that a request is signed for, where that is not Lambda.
fn other_service(headers: &HeaderMap) -> Option<String> {
    let signed = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let scope = signed.split("Credential=").nth(1)?.split([',', ' ']).next()?;
    let service = scope.split('/').nth(3)?;
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = !service.is_empty() && service.len() <= SERVICE_MAX && service.bytes().all(is_word);
    (fits && service != "lambda").then(|| service.to_owned())
}

/// What whoever asks for what is not here can do instead.
fn no_operation(service: Option<&str>) -> String {
    match service {
        None => "this path belongs to no operation".to_owned(),
        Some("logs") => {
            "CloudWatch Logs is not run here: `onrush logs FUNCTION -f` shows a function's log, and so does /_onrush/logs/FUNCTION"
                .to_owned()
        }
        Some(service) => format!(
            "the service {service} is not run here: there are Lambda, Systems Manager's parameters, Secrets Manager and STS"
        ),
    }
}

/// The error for a request that did not come in its time.
pub(crate) fn too_slow() -> ApiError {
    ApiError::new(ErrorCode::RequestTimeout, "The request's body did not arrive in time.")
}

/// An AWS error as HTTP.
pub(crate) fn error(error: &ApiError) -> Answer {
    let body = serde_json::to_vec(error).unwrap_or_default();
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(status, Bytes::from(body));
    answer.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error.code.as_str()));
    if error.code == ErrorCode::RequestTimeout {
        name_limit_id(&mut answer, LimitId::HostClientTimeout);
    }
    if error.code == ErrorCode::RequestTooLarge || error.code == ErrorCode::RequestEntityTooLarge {
        name_limit_id(&mut answer, LimitId::PayloadSize);
    }
    answer
}

/// The 429 for a refusal; for one of an environment's network interface the 502 with EC2's error.
///
/// Source: the closed enumeration of reasons in the Lambda service model. That the scaling rate shows as
/// `ConcurrentInvocationLimitExceeded` is unconfirmed; no other member fits.
pub(crate) fn throttled(refusal: &Refusal) -> Answer {
    use ThrottleReason::{
        ConcurrentInvocation, FunctionInvocationRate, ReservedFunctionConcurrentInvocation,
        ReservedFunctionInvocationRate,
    };
    // Written once: a flood of refusals costs little more than copies.
    static CONCURRENT: LazyLock<Answer> = LazyLock::new(|| error(&ApiError::throttled(ConcurrentInvocation)));
    static RATE: LazyLock<Answer> = LazyLock::new(|| error(&ApiError::throttled(FunctionInvocationRate)));
    static RESERVED: LazyLock<Answer> =
        LazyLock::new(|| error(&ApiError::throttled(ReservedFunctionConcurrentInvocation)));
    static RESERVED_RATE: LazyLock<Answer> =
        LazyLock::new(|| error(&ApiError::throttled(ReservedFunctionInvocationRate)));
    if let Some(found) = invoke::interface_error(refusal.limit) {
        return error(&found);
    }
    match refusal.limit {
        LimitId::ReservedConcurrency => RESERVED.clone(),
        LimitId::ReservedRequestRate => RESERVED_RATE.clone(),
        LimitId::RequestRate => RATE.clone(),
        LimitId::HostMemory => error(&no_memory(refusal)),
        _ => CONCURRENT.clone(),
    }
}

/// This host is at fault, and the message says so; clients try again as after any throttle.
fn no_memory(refusal: &Refusal) -> ApiError {
    let mut error = ApiError::throttled(ThrottleReason::ConcurrentInvocation);
    error.message = format!(
        "This host has no memory for another environment ({refusal} in use); no limit of AWS's was reached."
    );
    error
}

/// The caller's X-Ray header, or a new one.
pub(crate) fn trace_header(headers: &HeaderMap) -> Arc<str> {
    given_trace_header(headers).unwrap_or_else(|| invoke::trace_header().into())
}

/// The caller's X-Ray header, unless it is longer than any of AWS's.
pub(crate) fn given_trace_header(headers: &HeaderMap) -> Option<Arc<str>> {
    let given = headers.get(TRACE_ID).and_then(|value| value.to_str().ok());
    given.filter(|given| given.len() <= 512).map(Into::into)
}
