//! Function URLs.
//!
//! Source: Lambda Developer Guide, "Lambda function URLs"; answers to failures as recorded on AWS where known.

use crate::arrival::{Arrival, Destination, NotAdmitted, answer_of};
use crate::event::Door;
use crate::router::{Doors, json, log_failure, name_limit, name_limit_id};
use crate::{Answer, cors, lambda_rest};
use bytes::Bytes;
use control::AuthType;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use hyper::body::Incoming;
use invoke::{InvokeError, request_id};
use model::LimitId;
use std::net::IpAddr;

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
) -> Answer {
    let function = &destination.function;
    let Some(url) = function.url_of(destination.qualifier.as_deref()) else {
        return json(StatusCode::FORBIDDEN, "{\"Message\":null}");
    };
    let rules = url.cors.as_ref().map(cors::Rules::from);
    if let Some(preflight) = rules.as_ref().and_then(|rules| rules.preflight(&head.method, &head.headers)) {
        return preflight;
    }
    if url.auth_type == AuthType::AwsIam && !head.headers.contains_key(AUTHORIZATION) {
        return json(StatusCode::FORBIDDEN, FORBIDDEN);
    }
    let id = request_id();
    let arrival = Arrival { path, head, peer, port, id: &id };
    let event = |body: &Bytes, trace_id: &str| {
        let domain = format!("{}.lambda-url.{}.on.aws", url.id, doors.region);
        let door = Door {
            account_id: "anonymous",
            api_id: &url.id,
            domain_name: &domain,
            route_key: "$default",
            stage: "$default",
            path_parameters: None,
            stage_variables: None,
            nulls: true,
        };
        arrival.event(&door, body, trace_id)
    };
    let result = match arrival.admit(doors, destination, id.clone(), incoming, event).await {
        Ok((admission, request)) => admission.run(request).await,
        Err(NotAdmitted::Failed(error)) => Err(error),
        Err(NotAdmitted::Answered(answer)) => return *answer,
    };
    let mut answer = match result {
        Ok(invoked) => answer_of(function, &invoked, failure),
        Err(error) => {
            log_failure("function URL", &error);
            match &error {
                InvokeError::Refused(refusal) => {
                    let mut answer = lambda_rest::throttled(refusal);
                    name_limit(&mut answer, refusal);
                    answer
                }
                InvokeError::NoFunction(_) => json(StatusCode::FORBIDDEN, "{\"Message\":null}"),
                InvokeError::Host(_) => {
                    let mut answer = failure();
                    name_limit_id(&mut answer, LimitId::HostSandboxes);
                    answer
                }
            }
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert("x-amzn-requestid", value);
    }
    if let Some(rules) = rules {
        rules.decorate(&head.headers, &mut answer);
    }
    answer
}

fn failure() -> Answer {
    json(StatusCode::BAD_GATEWAY, "Internal Server Error")
}
