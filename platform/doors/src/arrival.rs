//! An HTTP request on its way to a function: what function URLs and APIs do alike.

use crate::body::Incoming;
use crate::event::{self, Door};
use crate::reply::{self, Malformed};
use crate::router::{Doors, name_limit, read_body, too_large};
use crate::{Answer, event_v1, lambda_rest, prelude, reply_v1, server};
use bytes::Bytes;
use control::{Control, Function};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::Full;
use invoke::{Admission, InvokeError, Invoked, Request};
use model::name::{FunctionReference, LATEST, qualified_arn};
use model::stack::{FunctionTarget, Link};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// Largest request body, in bytes. Source: Lambda quotas, 6 MB synchronous payload.
pub(crate) const BODY_BYTES_MAX: usize = 6 * 1024 * 1024;
/// A body of no more than this makes an event of at most [`event::BYTES_MAX`]: each byte becomes six at worst, and a
/// request's head of 1 MiB two.
const SURE_BODY_BYTES: usize = 512 * 1024;
const _: () = assert!(6 * SURE_BODY_BYTES + 2 * server::HEAD_BYTES_MAX < event::BYTES_MAX);

/// A request as it stands at a door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// The path as the door sees it.
    pub(crate) path: &'a str,
    pub(crate) head: &'a Parts,
    /// Who called.
    pub(crate) peer: IpAddr,
    /// The port that was called.
    pub(crate) port: u16,
    /// The door's request id.
    pub(crate) id: &'a Arc<str>,
}

/// What a door leads to: a function, perhaps by an alias or at a version.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) function: Arc<Function>,
    pub(crate) qualifier: Option<Arc<str>>,
    /// Whether its policy lets anybody call its URL.
    pub(crate) is_public: bool,
}

impl Destination {
    /// What the invoker knows it as, and the ARN that the function is told; an alias with weights draws lots. `None` if
    /// there is no such alias or version.
    pub(crate) fn route(&self, control: &Control) -> Option<(Cow<'_, str>, Arc<str>)> {
        let function = &self.function;
        let Some(qualifier) = self.qualifier.as_deref() else {
            return Some((function.name.as_str().into(), function.arn.as_str().into()));
        };
        // As it is now: an alias may have moved since the doors were told of the function.
        let route = control.function(&function.name)?.route(qualifier)?;
        Some((route.key.into(), qualified_arn(&function.arn, qualifier).into()))
    }
}

impl Doors {
    /// Where an API's integration leads; `None` to no function that there is.
    pub(crate) fn destination(&self, target: &FunctionTarget) -> Option<Destination> {
        let (function, qualifier) = match &target.function {
            Link::Logical(id) => (self.function_by_logical_id(id)?, target.qualifier.clone()),
            Link::Literal(word) => {
                let reference = FunctionReference::parse(word).ok()?;
                (self.control.function(&reference.name)?, target.qualifier.clone().or(reference.qualifier))
            }
        };
        let qualifier = qualifier.filter(|qualifier| qualifier != LATEST);
        Some(Destination { function, qualifier: qualifier.map(Into::into), is_public: false })
    }
}

/// Why a request at a door is not run.
pub(crate) enum NotAdmitted {
    /// The request itself is at fault: its answer.
    Answered(Box<Answer>),
    /// A limit, or there is nothing to run it.
    Failed(InvokeError),
}

impl Arrival<'_> {
    /// Reads the body, asks the limits, and makes the event that `encode` makes of a body and an X-Ray header; in this
    /// order, so that a flood of refusals costs no events.
    pub(crate) async fn admit(
        &self,
        doors: &Doors,
        destination: &Destination,
        invocation_id: Arc<str>,
        incoming: Incoming,
        encode: impl FnOnce(&Bytes, &str) -> Bytes,
    ) -> Result<(Admission, Request), NotAdmitted> {
        let body = read_body(incoming, BODY_BYTES_MAX, "{\"message\":\"Request Entity Too Large\"}");
        let body = body.await.map_err(|answer| NotAdmitted::Answered(answer.into()))?;
        let function = &destination.function;
        let Some((runs, invoked_arn)) = destination.route(&doors.control) else {
            let name = format!("{}:{}", function.name, destination.qualifier.as_deref().unwrap_or_default());
            return Err(NotAdmitted::Failed(InvokeError::NoFunction(name.into())));
        };
        let admit = || doors.invoker.admit(&runs, &invocation_id).map_err(NotAdmitted::Failed);
        // What is too large must not be admitted first.
        let early = if body.len() <= SURE_BODY_BYTES { Some(admit()?) } else { None };
        let trace_id = lambda_rest::trace_header(&self.head.headers);
        let payload = encode(&body, &trace_id);
        if payload.len() > event::BYTES_MAX {
            return Err(NotAdmitted::Answered(too_large().into()));
        }
        let admission = match early {
            Some(admission) => admission,
            None => admit()?,
        };
        let request = Request {
            function: function.name.as_str().into(),
            invoked_arn,
            request_id: invocation_id,
            payload,
            tail: false,
            client_context: None,
            trace_id: Some(trace_id),
        };
        Ok((admission, request))
    }

    /// The event, format 2.0.
    pub(crate) fn event(&self, door: &Door<'_>, body: &Bytes, trace_id: &str) -> Bytes {
        event::encode(door, &self.incoming(self.path, body, trace_id))
    }

    /// The event, format 1.0, of a path within its stage.
    pub(crate) fn event_v1(
        &self,
        api: &event_v1::Api<'_>,
        path: &str,
        body: &Bytes,
        trace_id: &str,
    ) -> Bytes {
        event_v1::encode(api, &self.incoming(path, body, trace_id))
    }

    fn incoming<'a>(&'a self, path: &'a str, body: &'a Bytes, trace_id: &'a str) -> event::Incoming<'a> {
        event::Incoming {
            method: self.head.method.as_str(),
            raw_path: path,
            raw_query: self.head.uri.query().unwrap_or(""),
            headers: &self.head.headers,
            source_ip: self.peer,
            port: self.port,
            request_id: self.id,
            trace_id,
            now_ms: telemetry::unix_millis(),
            body,
        }
    }
}

/// How a function's result is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Payload format 2.0.
    Two,
    /// Payload format 1.0.
    One(reply_v1::Reading),
}

impl Format {
    fn decode(self, payload: &Bytes) -> Result<Answer, Malformed> {
        match self {
            Self::Two => reply::decode(payload),
            Self::One(reading) => reply_v1::decode(payload, reading),
        }
    }
}

/// The HTTP response that a result stands for; `failure`, with the limit behind it, when the function failed or its result
/// is no HTTP response.
pub(crate) fn answer_of(
    function: &Function,
    invoked: &Invoked,
    format: Format,
    failure: impl FnOnce() -> Answer,
) -> Answer {
    let mut answer = decoded(function, invoked, format).unwrap_or_else(failure);
    if let Some(limit) = &invoked.limit {
        name_limit(&mut answer, limit);
    }
    answer
}

fn decoded(function: &Function, invoked: &Invoked, format: Format) -> Option<Answer> {
    if invoked.failed {
        return None;
    }
    let decoded = match &invoked.content_type {
        Some(content_type) => decoded_stream(content_type, &invoked.payload, format),
        None => format.decode(&invoked.payload),
    };
    decoded
        .inspect_err(|malformed| {
            tracing::info!(function = %function.name, reason = malformed.0, "the function's result is no HTTP response");
        })
        .ok()
}

/// The response that a gathered stream stands for: its prelude is obeyed, and what is no result is a body as it is (assumed:
/// no page of AWS's says what doors make of streams that they have gathered).
fn decoded_stream(content_type: &str, payload: &Bytes, format: Format) -> Result<Answer, Malformed> {
    if prelude::Reader::applies(Some(content_type)) {
        let read = prelude::Reader::default().push(payload)?;
        let (head, body) = read.ok_or(Malformed("the prelude has no end"))?;
        return Ok(head.map(|()| Full::new(body)));
    }
    Ok(format.decode(payload).unwrap_or_else(|_| {
        let mut answer = Answer::new(Full::new(payload.clone()));
        let value = HeaderValue::from_str(content_type).unwrap_or(prelude::OCTETS);
        answer.headers_mut().insert(CONTENT_TYPE, value);
        answer
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(content_type: &str, payload: &'static [u8]) -> Invoked {
        Invoked {
            payload: Bytes::from_static(payload),
            failed: false,
            log_tail: None,
            version: "1".to_owned(),
            limit: None,
            content_type: Some(content_type.into()),
        }
    }

    #[test]
    fn a_gathered_stream_is_read_by_its_type() {
        let function = Function::new("cart", std::path::PathBuf::new());
        let decoded = |invoked| decoded(&function, &invoked, Format::Two).map(|answer| answer.into_parts().0);
        let with_prelude = stream(prelude::CONTENT_TYPE, b"{\"statusCode\":201}\0\0\0\0\0\0\0\0body");
        assert_eq!(decoded(with_prelude).unwrap().status, 201);
        assert!(decoded(stream(prelude::CONTENT_TYPE, b"{\"statusCode\":201}")).is_none());
        let text = decoded(stream("text/plain", b"hello")).unwrap();
        assert!(text.status == 200 && text.headers[CONTENT_TYPE] == "text/plain");
        assert_eq!(decoded(stream("application/json", b"{\"statusCode\":404}")).unwrap().status, 404);
    }
}
