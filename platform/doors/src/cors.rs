//! Cross-origin answers: preflights, and the headers on every other answer.
//!
//! Source: API Gateway Developer Guide, "Configure CORS for HTTP APIs"; Lambda API reference, `Cors`. A configured
//! door answers preflights itself and overrides what the function says.

use crate::Answer;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

/// A door's cross-origin rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Origins; `*` allows all.
    pub origins: Vec<String>,
    /// Methods; `*` allows all.
    pub methods: Vec<String>,
    /// Request headers; `*` allows all.
    pub headers: Vec<String>,
    /// Response headers that a page may read.
    pub expose: Vec<String>,
    /// Whether cookies may come along.
    pub credentials: bool,
    /// How long a browser may remember the preflight, in seconds.
    pub max_age_s: Option<u32>,
}

impl From<&control::Cors> for Rules {
    fn from(cors: &control::Cors) -> Self {
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        Self {
            origins: list(&cors.allow_origins),
            methods: list(&cors.allow_methods),
            headers: list(&cors.allow_headers),
            expose: list(&cors.expose_headers),
            credentials: cors.allow_credentials == Some(true),
            max_age_s: cors.max_age,
        }
    }
}

impl From<&model::stack::Cors> for Rules {
    fn from(cors: &model::stack::Cors) -> Self {
        Self {
            origins: cors.allow_origins.clone(),
            methods: cors.allow_methods.clone(),
            headers: cors.allow_headers.clone(),
            expose: cors.expose_headers.clone(),
            credentials: cors.allow_credentials,
            max_age_s: cors.max_age_s,
        }
    }
}

impl Rules {
    /// The answer to a preflight; `None` when the request is none.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Answer> {
        let is_preflight = method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        let mut answer = Response::new(Full::new(Bytes::new()));
        *answer.status_mut() = StatusCode::NO_CONTENT;
        if self.allow(headers, answer.headers_mut()) {
            let target = answer.headers_mut();
            put(target, ACCESS_CONTROL_ALLOW_METHODS, &self.methods.join(","));
            put(target, ACCESS_CONTROL_ALLOW_HEADERS, &self.headers.join(","));
            if let Some(seconds) = self.max_age_s {
                put(target, ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
            }
        }
        Some(answer)
    }

    /// Puts the rules' headers onto an answer, replacing the function's own.
    pub fn decorate<B>(&self, request: &HeaderMap, answer: &mut Response<B>) {
        let target = answer.headers_mut();
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            target.remove(name);
        }
        if self.allow(request, target) {
            put(target, ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose.join(","));
        }
    }

    fn allow(&self, request: &HeaderMap, target: &mut HeaderMap) -> bool {
        let Some(origin) = request.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else { return false };
        let any = self.origins.iter().any(|allowed| allowed == "*");
        if !any && !self.origins.iter().any(|allowed| matches(allowed, origin)) {
            return false;
        }
        if any && !self.credentials {
            put(target, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        } else {
            put(target, ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            target.append(VARY, HeaderValue::from_static("Origin"));
        }
        if self.credentials {
            put(target, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        true
    }
}

/// `https://*.example.com` and `http://*` are allowed forms.
fn matches(allowed: &str, origin: &str) -> bool {
    match allowed.split_once('*') {
        None => allowed.eq_ignore_ascii_case(origin),
        Some((before, after)) => {
            origin.len() > before.len() + after.len() && origin.starts_with(before) && origin.ends_with(after)
        }
    }
}

fn put(target: &mut HeaderMap, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        target.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            origins: vec!["https://*.example.com".into()],
            methods: vec!["GET".into(), "POST".into()],
            headers: vec!["content-type".into()],
            expose: vec!["x-id".into()],
            credentials: true,
            max_age_s: Some(60),
        }
    }

    fn request(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        headers
    }

    #[test]
    fn a_preflight_is_answered_by_the_door() {
        let answer = rules().preflight(&Method::OPTIONS, &request("https://shop.example.com")).unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let header = |name| answer.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap());
        assert_eq!(header(ACCESS_CONTROL_ALLOW_ORIGIN), Some("https://shop.example.com"));
        assert_eq!(header(ACCESS_CONTROL_ALLOW_METHODS), Some("GET,POST"));
        assert_eq!(header(ACCESS_CONTROL_MAX_AGE), Some("60"));
    }

    #[test]
    fn a_foreign_origin_gets_no_permission() {
        let answer = rules().preflight(&Method::OPTIONS, &request("https://example.org")).unwrap();
        assert!(answer.headers().is_empty());
        assert!(rules().preflight(&Method::GET, &request("https://shop.example.com")).is_none());
    }

    #[test]
    fn the_function_cannot_widen_the_rules() {
        let mut answer = Response::new(Full::new(Bytes::new()));
        answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        rules().decorate(&request("https://evil.example.org"), &mut answer);
        assert!(!answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }
}
