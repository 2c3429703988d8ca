//! What a REST API answers by itself.
//!
//! Source: API Gateway Developer Guide, "Gateway response types"; bodies as its default templates make them.

use crate::authorizer::{Cause, Stopped};
use crate::router::{json, with_cause, with_limit};
use crate::{Answer, authorizer};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::Full;
use model::Refusal;
use model::error::{ApiError, ErrorCode};
use model::stack::MockResponse;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Types of gateway responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// There is no such stage.
    Forbidden,
    /// `INVALID_API_KEY`.
    InvalidApiKey,
    /// `MISSING_AUTHENTICATION_TOKEN`.
    MissingAuthenticationToken,
    /// `QUOTA_EXCEEDED`.
    QuotaExceeded,
    /// `THROTTLED`.
    Throttled,
    /// `INTEGRATION_TIMEOUT`.
    IntegrationTimeout,
    /// `UNAUTHORIZED`.
    Unauthorized,
    /// `ACCESS_DENIED` by a statement that says so.
    Denied,
    /// `ACCESS_DENIED` for want of a statement that allows it.
    NotAllowed,
    /// `AUTHORIZER_FAILURE`, `AUTHORIZER_CONFIGURATION_ERROR`.
    AuthorizerFailure,
}

pub(super) fn gateway_response(kind: Type) -> Answer {
    let (status, error, message) = match kind {
        Type::Forbidden | Type::InvalidApiKey => (403, "ForbiddenException", "{\"message\":\"Forbidden\"}"),
        Type::MissingAuthenticationToken => {
            (403, "MissingAuthenticationTokenException", "{\"message\":\"Missing Authentication Token\"}")
        }
        Type::QuotaExceeded => (429, "LimitExceededException", "{\"message\":\"Limit Exceeded\"}"),
        Type::Throttled => (429, "TooManyRequestsException", "{\"message\":\"Too Many Requests\"}"),
        Type::IntegrationTimeout => {
            (504, "InternalServerErrorException", "{\"message\": \"Endpoint request timed out\"}")
        }
        Type::Unauthorized => (401, "UnauthorizedException", "{\"message\":\"Unauthorized\"}"),
        Type::Denied => (
            403,
            "AccessDeniedException",
            "{\"Message\":\"User is not authorized to access this resource with an explicit deny\"}",
        ),
        Type::NotAllowed => {
            (403, "AccessDeniedException", "{\"Message\":\"User is not authorized to access this resource\"}")
        }
        Type::AuthorizerFailure => (500, "AuthorizerConfigurationException", "{\"message\":null}"),
    };
    typed(
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        error,
        message.to_owned(),
    )
}

/// Whom an authorizer stops.
pub(super) fn stopped(stopped: &Stopped, kind: &str) -> Answer {
    let failure = || gateway_response(Type::AuthorizerFailure);
    match stopped {
        Stopped::Unauthorized => gateway_response(Type::Unauthorized),
        Stopped::Denied { explicit: true } => gateway_response(Type::Denied),
        Stopped::Denied { explicit: false } => gateway_response(Type::NotAllowed),
        Stopped::Failed(None) => failure(),
        Stopped::Failed(Some(Cause::Limit(refusal))) => with_limit(failure(), refusal),
        Stopped::Failed(Some(Cause::Invocation(error))) => with_cause(failure(), error),
        Stopped::NotRun => authorizer::not_run(kind),
    }
}

/// The function could not be asked.
pub(super) fn internal_error() -> Answer {
    let message = "{\"message\": \"Internal server error\"}";
    typed(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerErrorException", message.to_owned())
}

/// The function is waited for no longer.
pub(super) fn too_slow(refusal: &Refusal) -> Answer {
    with_limit(gateway_response(Type::IntegrationTimeout), refusal)
}

/// The function failed, or its result has no shape of a response.
pub(super) fn bad_gateway() -> Answer {
    let message = "{\"message\": \"Internal server error\"}";
    typed(StatusCode::BAD_GATEWAY, "InternalServerErrorException", message.to_owned())
}

/// An integration that is not run here.
pub(super) fn not_run(kind: &str) -> Answer {
    let message = format!(
        "Onrush runs Lambda proxy integrations and MOCK ones without expressions, and no {kind} like this"
    );
    json(StatusCode::NOT_IMPLEMENTED, serde_json::json!({ "message": message }).to_string())
}

/// A signature that is missing or refused.
pub(super) fn unsigned(failure: &ApiError) -> Answer {
    if failure.code == ErrorCode::MissingAuthenticationToken {
        return gateway_response(Type::MissingAuthenticationToken);
    }
    let body = serde_json::json!({ "message": failure.message }).to_string();
    typed(StatusCode::FORBIDDEN, failure.code.as_str(), body)
}

/// What a `MOCK` integration answers.
pub(super) fn of_mock(mock: &MockResponse) -> Answer {
    let mut answer = Answer::new(Full::new(mock.body.clone().into()));
    *answer.status_mut() = StatusCode::from_u16(mock.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &mock.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    answer
}

fn typed(status: StatusCode, error: &'static str, body: String) -> Answer {
    let mut answer = json(status, body);
    answer.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error));
    answer
}
