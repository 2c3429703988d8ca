//! Function URLs.
//!
//! Source: Lambda Developer Guide, "Lambda function URLs"; answers to failures as recorded on AWS where known.

use crate::event::{self, Door};
use crate::router::{Doors, json, log_failure, name_limit, name_limit_id, read_body, too_large};
use crate::{Answer, cors, lambda_rest, reply};
use control::{AuthType, Function};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use hyper::body::Incoming;
use invoke::{InvokeError, Request, request_id};
use model::LimitId;
use std::net::IpAddr;

/// Largest request body, in bytes. Source: Lambda quotas, 6 MB synchronous payload.
const BODY_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Source: recorded on AWS, 2025-11.
const FORBIDDEN: &str = r#"{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}"#;

pub(crate) async fn answer(
    doors: &Doors,
    function: &Function,
    path: &str,
    head: &Parts,
    incoming: Incoming,
    peer: IpAddr,
    port: u16,
) -> Answer {
    let Some(url) = &function.url else { return json(StatusCode::FORBIDDEN, "{\"Message\":null}") };
    let rules = url.cors.as_ref().map(cors::Rules::from);
    if let Some(preflight) = rules.as_ref().and_then(|rules| rules.preflight(&head.method, &head.headers)) {
        return preflight;
    }
    if url.auth_type == AuthType::AwsIam && !head.headers.contains_key(AUTHORIZATION) {
        return json(StatusCode::FORBIDDEN, FORBIDDEN);
    }
    let body = match read_body(incoming, BODY_BYTES_MAX, "{\"message\":\"Request Entity Too Large\"}").await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let id = request_id();
    let trace_id = lambda_rest::trace_header(&head.headers);
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
    let payload = event::encode(
        &door,
        &event::Incoming {
            method: head.method.as_str(),
            raw_path: path,
            raw_query: head.uri.query().unwrap_or(""),
            headers: &head.headers,
            source_ip: peer,
            port,
            request_id: &id,
            trace_id: &trace_id,
            now_ms: telemetry::unix_millis(),
            body: &body,
        },
    );
    if payload.len() > event::BYTES_MAX {
        return too_large();
    }
    let request = Request {
        function: function.name.as_str().into(),
        invoked_arn: function.arn.as_str().into(),
        request_id: id.clone(),
        payload,
        tail: false,
        client_context: None,
        trace_id: Some(trace_id),
    };
    let mut answer = match doors.invoker.invoke(request).await {
        Ok(invoked) if invoked.failed => failure(),
        Ok(invoked) => reply::decode(&invoked.payload).unwrap_or_else(|malformed| {
            tracing::info!(function = %function.name, reason = malformed.0, "the function's result is no HTTP response");
            failure()
        }),
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
