//! Streamed answers of a REST API: `responseTransferMode: STREAM`.
//!
//! Source: API Gateway Developer Guide, "Set up a Lambda proxy integration with payload response streaming in API Gateway":
//! metadata as JSON, eight zero bytes within the first 16 KB, then the body as it comes; whatever the stream's content type.

use super::answers;
use crate::Answer;
use crate::gateway::patience::Patience;
use crate::prelude::Reader;
use crate::router::{log_failure, name_limit, with_cause};
use crate::streaming::Outgoing;
use control::Function;
use http::Response;
use invoke::{Invoked, ResponseStream};
use std::future::poll_fn;
use std::sync::Arc;

/// A response whose head is what the function says first. It goes to the client once that is there.
pub(super) async fn flowing(
    function: &Function,
    mut stream: ResponseStream,
    mut patience: Patience,
) -> Response<Outgoing> {
    let mut reader = Reader::of_rest();
    loop {
        let next = poll_fn(|context| patience.poll(context, |context| stream.poll_next(context)));
        let piece = match next.await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(refusal) => {
                tracing::info!(limit = %refusal.limit, resource = %refusal.resource, function = %function.name, max_ms = refusal.max, "timed out");
                return answers::too_slow(&refusal).map(Outgoing::from);
            }
        };
        match reader.push(&piece) {
            Ok(Some((head, body))) => {
                let name: Arc<str> = function.name.as_str().into();
                return head.map(|()| Outgoing::plain(name, body, stream).patient(patience));
            }
            Ok(None) => {}
            Err(malformed) => return headless(function, malformed.0).map(Outgoing::from),
        }
    }
    let answer = match poll_fn(|context| stream.poll_end(context)).await {
        Ok(end) => {
            let mut answer = match end.failed {
                true => answers::bad_gateway(),
                false => headless(function, "it ended before its metadata did"),
            };
            if let Some(limit) = &end.limit {
                name_limit(&mut answer, limit);
            }
            answer
        }
        Err(error) => {
            log_failure("REST API", &error);
            with_cause(answers::internal_error(), &error)
        }
    };
    answer.map(Outgoing::from)
}

/// The answer to a result that came whole: its metadata must stand before it all the same.
pub(super) fn whole(function: &Function, invoked: &Invoked) -> Answer {
    let mut answer = if invoked.failed {
        answers::bad_gateway()
    } else {
        match Reader::of_rest().push(&invoked.payload) {
            Ok(Some((head, body))) => head.map(|()| body.into()),
            Ok(None) => headless(function, "it has no metadata before its body"),
            Err(malformed) => headless(function, malformed.0),
        }
    };
    if let Some(limit) = &invoked.limit {
        name_limit(&mut answer, limit);
    }
    answer
}

fn headless(function: &Function, reason: &str) -> Answer {
    tracing::warn!(function = %function.name, reason, "its API streams (ResponseTransferMode: STREAM), and its result is no streamed response");
    answers::bad_gateway()
}
