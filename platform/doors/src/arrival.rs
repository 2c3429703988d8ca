//! An HTTP request on its way to a function: what function URLs and HTTP APIs do alike.

use crate::event::{self, Door};
use crate::router::{read_body, too_large};
use crate::{Answer, lambda_rest, reply};
use control::Function;
use http::request::Parts;
use hyper::body::Incoming;
use invoke::{Invoked, Request};
use std::net::IpAddr;
use std::sync::Arc;

/// Largest request body, in bytes. Source: Lambda quotas, 6 MB synchronous payload.
const BODY_BYTES_MAX: usize = 6 * 1024 * 1024;

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

impl Arrival<'_> {
    /// The invocation that this request asks for, or the answer to a body that is too large, too slow or broken.
    pub(crate) async fn request(
        &self,
        door: &Door<'_>,
        function: &Function,
        invocation_id: Arc<str>,
        incoming: Incoming,
    ) -> Result<Request, Answer> {
        let body = read_body(incoming, BODY_BYTES_MAX, "{\"message\":\"Request Entity Too Large\"}").await?;
        let trace_id = lambda_rest::trace_header(&self.head.headers);
        let payload = event::encode(
            door,
            &event::Incoming {
                method: self.head.method.as_str(),
                raw_path: self.path,
                raw_query: self.head.uri.query().unwrap_or(""),
                headers: &self.head.headers,
                source_ip: self.peer,
                port: self.port,
                request_id: self.id,
                trace_id: &trace_id,
                now_ms: telemetry::unix_millis(),
                body: &body,
            },
        );
        if payload.len() > event::BYTES_MAX {
            return Err(too_large());
        }
        Ok(Request {
            function: function.name.as_str().into(),
            invoked_arn: function.arn.as_str().into(),
            request_id: invocation_id,
            payload,
            tail: false,
            client_context: None,
            trace_id: Some(trace_id),
        })
    }
}

/// The HTTP response that a result stands for; `None` when the function failed or its result is no HTTP response.
pub(crate) fn answer_of(function: &Function, invoked: &Invoked) -> Option<Answer> {
    if invoked.failed {
        return None;
    }
    let decoded = reply::decode(&invoked.payload);
    decoded
        .inspect_err(|malformed| {
            tracing::info!(function = %function.name, reason = malformed.0, "the function's result is no HTTP response");
        })
        .ok()
}
