//! What API Gateway answers itself, instead of the integration: status, message and error type.
//!
//! Source: API Gateway Developer Guide, "Gateway response types", and answers recorded by others; the status of an HTTP
//! API's time-out (503) was reported from the field, some saw 504: not confirmed.

use crate::limit::LimitId;

/// Which API answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKind {
    /// API Gateway v1.
    Rest,
    /// API Gateway v2.
    Http,
}

/// An answer of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayResponse {
    /// A throttle of any level.
    Throttled,
    /// The usage plan's quota is used up.
    QuotaExceeded,
    /// The method needs an API key, and none that is valid for the stage was sent.
    InvalidApiKey,
    /// A client may not have an entry of the cache made anew.
    CacheControlDenied,
    /// The integration took too long.
    IntegrationTimeout,
}

impl GatewayResponse {
    /// The answer to a refusal of `limit`; none where the limit is not the gateway's.
    pub const fn to(limit: LimitId) -> Option<Self> {
        match limit {
            LimitId::ApiKeyMethodRate
            | LimitId::ApiKeyMethodBurst
            | LimitId::ApiKeyRate
            | LimitId::ApiKeyBurst
            | LimitId::ApiStageRate
            | LimitId::ApiStageBurst
            | LimitId::ApiAccountRate
            | LimitId::ApiAccountBurst => Some(Self::Throttled),
            LimitId::ApiKeyQuota => Some(Self::QuotaExceeded),
            LimitId::IntegrationTimeout | LimitId::StreamIdleTimeout => Some(Self::IntegrationTimeout),
            _ => None,
        }
    }

    /// The HTTP status.
    pub const fn status(self, api: ApiKind) -> u16 {
        match (self, api) {
            (Self::Throttled | Self::QuotaExceeded, _) => 429,
            (Self::InvalidApiKey | Self::CacheControlDenied, _) => 403,
            (Self::IntegrationTimeout, ApiKind::Rest) => 504,
            (Self::IntegrationTimeout, ApiKind::Http) => 503,
        }
    }

    /// The text of the body's `message`.
    pub const fn message(self, api: ApiKind) -> &'static str {
        match (self, api) {
            (Self::Throttled, _) => "Too Many Requests",
            (Self::QuotaExceeded, _) => "Limit Exceeded",
            (Self::InvalidApiKey | Self::CacheControlDenied, _) => "Forbidden",
            (Self::IntegrationTimeout, ApiKind::Rest) => "Endpoint request timed out",
            (Self::IntegrationTimeout, ApiKind::Http) => "Service Unavailable",
        }
    }

    /// What `x-amzn-ErrorType` says; HTTP APIs do not send it.
    pub const fn error_type(self, api: ApiKind) -> Option<&'static str> {
        match (self, api) {
            (_, ApiKind::Http) => None,
            (Self::Throttled, _) => Some("TooManyRequestsException"),
            (Self::QuotaExceeded, _) => Some("LimitExceededException"),
            (Self::InvalidApiKey | Self::CacheControlDenied, _) => Some("ForbiddenException"),
            (Self::IntegrationTimeout, _) => Some("InternalServerErrorException"),
        }
    }

    /// The whole body.
    pub fn body(self, api: ApiKind) -> String {
        format!("{{\"message\":\"{}\"}}", self.message(api))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttles_of_all_levels_read_alike_and_a_quota_differs() {
        let said = |limit, api| {
            let response = GatewayResponse::to(limit).unwrap();
            (response.status(api), response.body(api), response.error_type(api))
        };
        let throttled = (429, "{\"message\":\"Too Many Requests\"}".to_owned());
        for limit in LimitId::ALL.iter().filter(|id| id.as_str().starts_with("apigw.")) {
            if limit.as_str().ends_with("-rate") || limit.as_str().ends_with("-burst") {
                let (status, body, kind) = said(*limit, ApiKind::Rest);
                assert_eq!((status, body), throttled.clone(), "{limit}");
                assert_eq!(kind, Some("TooManyRequestsException"));
                assert_eq!(said(*limit, ApiKind::Http).2, None);
            }
        }
        let quota = said(LimitId::ApiKeyQuota, ApiKind::Rest);
        assert_eq!(quota, (429, "{\"message\":\"Limit Exceeded\"}".into(), Some("LimitExceededException")));
        assert_eq!(said(LimitId::IntegrationTimeout, ApiKind::Rest).0, 504);
        assert_eq!(said(LimitId::IntegrationTimeout, ApiKind::Http).0, 503);
        assert_eq!(GatewayResponse::to(LimitId::ScalingRate), None);
    }
}
