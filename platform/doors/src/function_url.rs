//! Function URLs.
//!
//! Source: Lambda Developer Guide, "Lambda function URLs"; answers to failures as recorded on AWS where known.

use crate::arrival::{Arrival, BODY_BYTES_MAX, Destination, Format, NotAdmitted, answer_of};
use crate::body::Incoming;
use crate::event::Door;
use crate::lambda_rest::TRACE_ID;
use crate::prelude::{OCTETS, Reader};
use crate::router::{Doors, json, log_failure, name_limit, with_cause};
use crate::streaming::Outgoing;
use crate::{Answer, cors, lambda_rest, reply};
use bytes::Bytes;
use control::{AuthType, Function, InvokeMode};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use invoke::{Answered, InvokeError, Invoked, ResponseStream, request_id};
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;

/// Source: recorded on AWS, 2025-11.
const FORBIDDEN: &str = r#"{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}"#;

pub(crate) async fn answer(
    doors: &Doors,
    destination: &Destination,
    path: &str,
    head: &Parts,
    incoming: Incoming,
    peer: IpAddr,
    port: u16,
) -> Response<Outgoing> {
    let function = &destination.function;
    let Some(url) = function.url_of(destination.qualifier.as_deref()) else {
        return json(StatusCode::FORBIDDEN, "{\"Message\":null}").map(Outgoing::from);
    };
    let rules = url.cors.as_ref().map(cors::Rules::from);
    if let Some(preflight) = rules.as_ref().and_then(|rules| rules.preflight(&head.method, &head.headers)) {
        return preflight.map(Outgoing::from);
    }
    if !doors.lets_in(destination, url) {
        return json(StatusCode::FORBIDDEN, FORBIDDEN).map(Outgoing::from);
    }
    let (signer, incoming) = match url.auth_type {
        AuthType::None => (None, incoming),
        AuthType::AwsIam => match doors.authenticate_door(head, incoming, "lambda", BODY_BYTES_MAX).await {
            Ok((signer, incoming)) if doors.lets_signer(destination, &signer) => (Some(signer), incoming),
            Ok((signer, _)) => {
                let key = signer.access_key_id;
                tracing::info!(function = %function.name, key, "refused: no permission lets this account call the function URL");
                return json(StatusCode::FORBIDDEN, FORBIDDEN).map(Outgoing::from);
            }
            Err(failure) => {
                tracing::info!(function = %function.name, code = %failure.code, message = failure.message, "the signature was refused");
                return json(StatusCode::FORBIDDEN, FORBIDDEN).map(Outgoing::from);
            }
        },
    };
    let id = request_id();
    let arrival = Arrival { path, head, peer, port, id: &id };
    let caller = signer.as_ref().map(|signer| doors.caller(signer));
    let mut trace = None;
    let event = |body: &Bytes, trace_id: &str| {
        trace = HeaderValue::from_str(trace_id).ok();
        let domain = format!("{}.lambda-url.{}.on.aws", url.id, doors.region);
        let door = Door {
            account_id: caller.map_or("anonymous", |caller| caller.account_id),
            api_id: &url.id,
            domain_name: &domain,
            route_key: "$default",
            stage: "$default",
            path_parameters: None,
            stage_variables: None,
            signer: caller,
            authorizer: None,
            nulls: true,
        };
        arrival.event(&door, body, trace_id)
    };
    let streams = url.invoke_mode == InvokeMode::ResponseStream;
    let result = match arrival.admit(doors, destination, id.clone(), incoming, event).await {
        Ok((admission, request)) if streams => match admission.run_streaming(request).await {
            Ok(Answered::Stream(stream)) => Ok(flowing(function, stream).await),
            Ok(Answered::Whole(invoked)) => Ok(unread(function, &invoked).map(Outgoing::from)),
            Err(error) => Err(error),
        },
        Ok((admission, request)) => match admission.run(request).await {
            Ok(invoked) => Ok(answer_of(function, &invoked, Format::Two, failure).map(Outgoing::from)),
            Err(error) => Err(error),
        },
        Err(NotAdmitted::Failed(error)) => Err(error),
        Err(NotAdmitted::Answered(answer)) => return answer.map(Outgoing::from),
    };
    let mut answer = result.unwrap_or_else(|error| refused(&error).map(Outgoing::from));
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert("x-amzn-requestid", value);
    }
    if let Some(trace) = trace {
        answer.headers_mut().insert(TRACE_ID, trace);
    }
    if let Some(rules) = rules {
        rules.decorate(&head.headers, &mut answer);
    }
    answer
}

/// The answer to a request that did not run.
fn refused(error: &InvokeError) -> Answer {
    log_failure("function URL", error);
    let answer = match error {
        InvokeError::Refused(refusal) => lambda_rest::throttled(refusal),
        InvokeError::NoFunction(_) => json(StatusCode::FORBIDDEN, "{\"Message\":null}"),
        InvokeError::NotReady(_) | InvokeError::Restore(_) | InvokeError::Host(_) => failure(),
    };
    with_cause(answer, error)
}

/// A response that begins with what the function says of it: its prelude, or its content type. Its head goes to the client
/// once that is there, and the first byte of a body without a prelude.
async fn flowing(function: &Function, mut stream: ResponseStream) -> Response<Outgoing> {
    let name: Arc<str> = function.name.as_str().into();
    let mut prelude = Reader::applies(stream.content_type.as_deref()).then(Reader::default);
    loop {
        let Some(piece) = poll_fn(|context| stream.poll_next(context)).await else {
            return ended_early(function, prelude.is_some(), stream).await.map(Outgoing::from);
        };
        let Some(reader) = &mut prelude else {
            let content_type =
                stream.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
            let mut answer = Response::new(Outgoing::plain(name, piece, stream));
            answer.headers_mut().insert(CONTENT_TYPE, content_type.unwrap_or(OCTETS));
            return answer;
        };
        match reader.push(&piece) {
            Ok(Some((head, body))) => return head.map(|()| Outgoing::plain(name, body, stream)),
            Ok(None) => {}
            Err(malformed) => {
                tracing::info!(function = %function.name, reason = malformed.0, "the function's stream is no HTTP response");
                return failure().map(Outgoing::from);
            }
        }
    }
}

/// The answer to a stream that ended before there was anything to answer with.
async fn ended_early(function: &Function, wants_prelude: bool, mut stream: ResponseStream) -> Answer {
    let content_type = stream.content_type.take();
    match poll_fn(|context| stream.poll_end(context)).await {
        Ok(end) if !end.failed && !wants_prelude => {
            let mut answer = Answer::default();
            let value = content_type.and_then(|text| HeaderValue::from_str(&text).ok());
            answer.headers_mut().insert(CONTENT_TYPE, value.unwrap_or(OCTETS));
            answer
        }
        Ok(end) => {
            if !end.failed {
                tracing::info!(function = %function.name, "the function's stream ended within its prelude");
            }
            let mut answer = failure();
            if let Some(limit) = &end.limit {
                name_limit(&mut answer, limit);
            }
            answer
        }
        Err(error) => refused(&error),
    }
}

/// A result of a function that does not stream, behind a URL that does: its bytes are the body, unread.
///
/// Source: Lambda Developer Guide, "Invoking a response streaming enabled function using Lambda function URLs" (all payloads are
/// streamed); that `statusCode` is not looked for is assumed.
fn unread(function: &Function, invoked: &Invoked) -> Answer {
    let mut answer = if invoked.failed {
        failure()
    } else {
        if reply::looks_structured(&invoked.payload) {
            tracing::warn!(function = %function.name, "its URL streams (InvokeMode: RESPONSE_STREAM) but the function does not: its result, statusCode and all, is the body");
        }
        json(StatusCode::OK, invoked.payload.clone())
    };
    if let Some(limit) = &invoked.limit {
        name_limit(&mut answer, limit);
    }
    answer
}

fn failure() -> Answer {
    json(StatusCode::BAD_GATEWAY, "Internal Server Error")
}
