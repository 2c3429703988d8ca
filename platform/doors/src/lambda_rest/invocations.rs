//! `POST /2015-03-31/functions/{F}/invocations`.
//!
//! Source: Lambda API reference, Invoke; headers and bodies as recorded on AWS.

use super::{TRACE_ID, asynchronous, error, given_trace_header, lineage, throttled};
use crate::Answer;
use crate::body::Incoming;
use crate::body::{self, BodyError};
use crate::router::{Doors, name_limit, name_limit_id};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use control::{Function, State};
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use invoke::{InvokeError, Request, RestoreFailure, request_id};
use model::LimitId;
use model::error::{ApiError, ErrorCode};
use model::name::{FunctionReference, LATEST, qualified_arn};
use std::sync::Arc;

/// Largest event, in bytes. Source: Lambda quotas, 6 MB.
const PAYLOAD_BYTES_MAX: usize = 6_291_456;
/// Longest client context, base64. Source: Lambda API reference, Invoke.
const CLIENT_CONTEXT_MAX: usize = 3_583;

/// The one function's name in the runtime interface emulator of AWS's images, `aws-lambda-rie`.
const EMULATOR_NAME: &str = "function";

/// Headers that ask for what no function here is, and what AWS answers for such a function (the second text is ours).
const UNKNOWN_HERE: [(&str, &str); 2] = [
    (
        "x-amz-tenant-id",
        "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.",
    ),
    (
        "x-amz-durable-execution-name",
        "The invoked function is not a durable function. Remove the durable execution name from your request and try again.",
    ),
];

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
pub(super) const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");

/// The function that the path invokes; `None` when it is not an invocation.
pub(crate) fn function_of(head: &Parts) -> Option<String> {
    function_between(head, "/2015-03-31/functions/", "/invocations")
}

/// The function that stands in a path between these, decoded.
pub(super) fn function_between(head: &Parts, before: &str, after: &str) -> Option<String> {
    if head.method != Method::POST {
        return None;
    }
    let path = head.uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let reference = path.strip_prefix(before)?.strip_suffix(after)?;
    if reference.contains('%') {
        Some(crate::event::decode(reference, false))
    } else {
        Some(reference.to_owned())
    }
}

pub(crate) async fn answer(doors: &Doors, reference: &str, head: &Parts, incoming: Incoming) -> Answer {
    let id = request_id();
    let mut answer = match run(doors, reference, head, incoming, &id).await {
        Ok(answer) => answer,
        Err(failure) => error(&failure),
    };
    name_request(answer.headers_mut(), &id);
    answer
}

/// Puts the request's id onto its answer.
pub(super) fn name_request(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// What is to be done with an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    RequestResponse,
    DryRun,
    Event,
}

/// An invocation as its head says.
pub(super) struct Call {
    pub(super) function: Arc<Function>,
    qualifier: Option<String>,
    /// The key of the version or alias that runs; none for what is not published.
    key: Option<String>,
    pub(super) kind: Kind,
    tail: bool,
    client_context: Option<Arc<str>>,
    trace_id: Option<Arc<str>>,
}

impl Call {
    /// Reads a head; `kinds` are the types of invocation that its operation has, as an error lists them.
    pub(super) fn read(doors: &Doors, reference: &str, head: &Parts, kinds: &str) -> Result<Self, ApiError> {
        let (name, qualifier) = target(doors, reference, head)?;
        let missing = |qualifier: Option<&str>| missing(doors, &name, qualifier);
        let function = doors.control.function(&name).or_else(|| meant(doors, &name));
        let function = function.ok_or_else(|| missing(qualifier.as_deref()))?;
        let key = match qualifier.as_deref() {
            None | Some(LATEST) if function.state != State::Active => return Err(not_ready(function.state)),
            None | Some(LATEST) => None,
            Some(other) => Some(function.route(other).ok_or_else(|| missing(Some(other)))?.key),
        };
        // Bytes that are no ASCII are a wrong value, not a header that is not there.
        let header =
            |name: &str| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let kind = match header("x-amz-invocation-type").as_deref().unwrap_or("RequestResponse") {
            "RequestResponse" => Kind::RequestResponse,
            "DryRun" => Kind::DryRun,
            "Event" if kinds.contains("Event") => Kind::Event,
            other => {
                let message = format!("Member must satisfy enum value set: {kinds}");
                return Err(ApiError::validation(other, "invocationType", &message));
            }
        };
        // What runs at once is refused as it begins.
        if let Some(key) = key.as_deref().filter(|_| kind != Kind::RequestResponse) {
            check_ready(doors, key)?;
        }
        let tail = match header("x-amz-log-type").as_deref().unwrap_or("None") {
            "None" => false,
            "Tail" => true,
            other => {
                return Err(ApiError::validation(
                    other,
                    "logType",
                    "Member must satisfy enum value set: [None, Tail]",
                ));
            }
        };
        let client_context = client_context(header("x-amz-client-context").as_deref())?;
        for (name, advice) in UNKNOWN_HERE {
            if head.headers.contains_key(name) {
                return Err(ApiError::invalid(advice));
            }
        }
        let trace_id = lineage::next(doors, given_trace_header(&head.headers), &function)?;
        Ok(Self { function, qualifier, key, kind, tail, client_context, trace_id })
    }

    /// What the limits are asked for.
    pub(super) fn runs(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.function.name)
    }

    pub(super) fn request(&self, id: &Arc<str>, payload: Bytes) -> Request {
        Request {
            function: self.function.name.as_str().into(),
            invoked_arn: match &self.qualifier {
                Some(qualifier) => qualified_arn(&self.function.arn, qualifier).into(),
                None => self.function.arn.as_str().into(),
            },
            request_id: id.clone(),
            payload,
            tail: self.tail,
            client_context: self.client_context.clone(),
            trace_id: self.trace_id.clone(),
        }
    }

    /// The answer to a call that did not run.
    pub(super) fn refused(&self, doors: &Doors, error: InvokeError) -> Result<Answer, ApiError> {
        match error {
            InvokeError::Refused(refusal) => {
                let mut answer = throttled(&refusal);
                name_limit(&mut answer, &refusal);
                Ok(answer)
            }
            InvokeError::NoFunction(_) => Err(missing(doors, &self.function.name, self.qualifier.as_deref())),
            InvokeError::NotReady(state) => Err(not_ready(state)),
            InvokeError::Restore(failure) => {
                let code = match failure {
                    RestoreFailure::TimedOut => ErrorCode::SnapStartTimeout,
                    RestoreFailure::Failed(_) => ErrorCode::SnapStart,
                };
                Err(ApiError::new(code, failure.to_string()))
            }
            InvokeError::Host(cause) => {
                let message = format!(
                    "This host could not run the function: {cause}. `onrush doctor` says what is missing."
                );
                let mut answer = super::error(&ApiError::new(ErrorCode::Service, message));
                name_limit_id(&mut answer, LimitId::HostSandboxes);
                Ok(answer)
            }
        }
    }
}

/// The answer to a call of a function or version that is not there yet, or could not be had.
pub(super) fn not_ready(state: State) -> ApiError {
    ApiError::new(ErrorCode::ResourceConflict, control::not_ready(state))
}

/// Refuses what SnapStart prepares still, or could not; `key` as [`control::Route`] has it.
pub(super) fn check_ready(doors: &Doors, key: &str) -> Result<(), ApiError> {
    doors.invoker.unready(key).map_or(Ok(()), |state| Err(not_ready(state)))
}

fn missing(doors: &Doors, name: &str, qualifier: Option<&str>) -> ApiError {
    let mut arn = model::name::function_arn(&doors.region, &doors.account_id, name);
    if let Some(qualifier) = qualifier {
        arn = qualified_arn(&arn, qualifier);
    }
    let mut message = format!("Function not found: {arn}");
    if name == EMULATOR_NAME {
        let names: Vec<_> = doors.control.functions().iter().map(|function| function.name.clone()).collect();
        message.push_str(&format!(
            ". This path means the only function, as in the runtime interface emulator, but there are {} here: {}",
            names.len(),
            names.join(", ")
        ));
    }
    ApiError::new(ErrorCode::ResourceNotFound, message)
}

async fn run(
    doors: &Doors,
    reference: &str,
    head: &Parts,
    incoming: Incoming,
    id: &Arc<str>,
) -> Result<Answer, ApiError> {
    let mut call = Call::read(doors, reference, head, "[Event, RequestResponse, DryRun]")?;
    let payload = read_payload(incoming).await?;
    match call.kind {
        Kind::RequestResponse => {}
        Kind::DryRun => {
            let mut answer = Response::new(Full::new(Bytes::new()));
            *answer.status_mut() = StatusCode::NO_CONTENT;
            return Ok(answer);
        }
        Kind::Event => {
            let arrival = events::Arrival {
                function: call.function,
                qualifier: call.qualifier.map(Into::into),
                request_id: id.clone(),
                payload,
                client_context: call.client_context,
                trace_id: call.trace_id,
            };
            return asynchronous::accept(doors, arrival).await;
        }
    }
    // The caller hears of the trace that the function is part of, as on AWS.
    let trace_id = call.trace_id.get_or_insert_with(|| invoke::trace_header().into());
    let traced = HeaderValue::from_str(trace_id);
    let result = match doors.invoker.admit(call.runs(), id) {
        Ok(admission) => admission.run(call.request(id, payload)).await,
        Err(error) => Err(error),
    };
    let invoked = match result {
        Ok(invoked) => invoked,
        Err(error) => return call.refused(doors, error),
    };
    let mut answer = Response::new(Full::new(invoked.payload));
    if let Some(refusal) = &invoked.limit {
        name_limit(&mut answer, refusal);
    }
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(version) = HeaderValue::from_str(&invoked.version) {
        headers.insert(EXECUTED_VERSION, version);
    }
    if let Ok(traced) = traced {
        headers.insert(TRACE_ID, traced);
    }
    if invoked.failed {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if let Some(log) = invoked.log_tail
        && let Ok(log) = HeaderValue::from_str(&STANDARD.encode(log))
    {
        headers.insert(LOG_RESULT, log);
    }
    Ok(answer)
}

/// What a name means that no function has: a logical id, as `sam local start-lambda` takes it, or the only function, which the
/// runtime interface emulator calls `function`.
fn meant(doors: &Doors, name: &str) -> Option<Arc<Function>> {
    if let Some(function) = doors.function_by_logical_id(name) {
        return Some(function);
    }
    let functions = doors.control.functions_from("", 2);
    match functions.as_slice() {
        [only] if name == EMULATOR_NAME => Some(only.clone()),
        _ => None,
    }
}

/// Name and qualifier from path and query, which must agree.
pub(super) fn target(
    doors: &Doors,
    reference: &str,
    head: &Parts,
) -> Result<(String, Option<String>), ApiError> {
    let query = head.uri.query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    let mut qualifiers = query.filter(|(name, _)| *name == "Qualifier");
    let qualifier = qualifiers.next().map(|(_, value)| crate::event::decode(value, true));
    qualifier.as_deref().map_or(Ok(()), control::check_qualifier)?;
    if qualifier.is_none() && model::name::is_function_name(reference) {
        return Ok((reference.to_owned(), None));
    }
    let parsed = FunctionReference::parse(reference).map_err(|_| {
        let pattern = model::name::FUNCTION_NAME_PATTERN;
        ApiError::validation(
            reference,
            "functionName",
            &format!("Member must satisfy regular expression pattern: {pattern}"),
        )
    })?;
    if let Some(region) = parsed.region.as_deref().filter(|region| *region != doors.region) {
        let here = &doors.region;
        let message = format!("Functions from '{region}' are not reachable in this region ('{here}')");
        return Err(ApiError::new(ErrorCode::ResourceNotFound, message));
    }
    if let Some(account) = parsed.account.as_deref().filter(|account| *account != doors.account_id) {
        let arn = model::name::function_arn(&doors.region, account, &parsed.name);
        return Err(ApiError::new(ErrorCode::ResourceNotFound, format!("Function not found: {arn}")));
    }
    match (parsed.qualifier, qualifier) {
        (Some(inner), Some(outer)) if inner != outer => Err(ApiError::invalid(
            "The derived qualifier from the function name does not match the specified qualifier.",
        )),
        (inner, outer) => Ok((parsed.name, outer.or(inner))),
    }
}

fn client_context(text: Option<&str>) -> Result<Option<Arc<str>>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let bad = || {
        ApiError::new(
            ErrorCode::InvalidRequestContent,
            "Client context must be a valid Base64-encoded JSON object.",
        )
    };
    if text.len() > CLIENT_CONTEXT_MAX {
        return Err(bad());
    }
    let bytes = STANDARD.decode(text).map_err(|_| bad())?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    // Written anew: on one line, and safe as a header.
    Ok(Some(value.to_string().into()))
}

pub(super) async fn read_payload(incoming: Incoming) -> Result<Bytes, ApiError> {
    let payload = body::read(incoming, PAYLOAD_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge => {
            let message = format!(
                "Request must be smaller than {PAYLOAD_BYTES_MAX} bytes for the InvokeFunction operation"
            );
            ApiError::new(ErrorCode::RequestTooLarge, message)
        }
        BodyError::TooSlow => super::too_slow(),
        BodyError::Broken => ApiError::new(
            ErrorCode::InvalidRequestContent,
            "Could not parse request body into json: it did not arrive",
        ),
    })?;
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match check_json(&payload) {
        Ok(()) => Ok(payload),
        Err(cause) => {
            let message = format!("Could not parse request body into json: {cause}");
            Err(ApiError::new(ErrorCode::InvalidRequestContent, message))
        }
    }
}

/// Whether a runtime can read it. What is skipped over instead of kept would not be looked at for UTF-8.
fn check_json(payload: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(payload)
        .map_err(|error| format!("Invalid UTF-8 at byte {}", error.valid_up_to()))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}
