//! What a REST API answers by itself.
//!
//! Source: API Gateway Developer Guide, "Gateway response types"; bodies as its default templates make them.

use crate::Answer;
use crate::router::json;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::Full;
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
    };
    typed(
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        error,
        message.to_owned(),
    )
}

/// The function could not be asked.
pub(super) fn internal_error() -> Answer {
    let message = "{\"message\": \"Internal server error\"}";
    typed(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerErrorException", message.to_owned())
}

/// The function failed, or its result has no shape of a response.
pub(super) fn bad_gateway() -> Answer {
    let message = "{\"message\": \"Internal server error\"}";
    typed(StatusCode::BAD_GATEWAY, "InternalServerErrorException", message.to_owned())
}

/// An integration that is not run here.
pub(super) fn not_run() -> Answer {
    let message =
        "{\"message\":\"Onrush runs Lambda proxy integrations, and MOCK ones without expressions\"}";
    json(StatusCode::NOT_IMPLEMENTED, message)
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
