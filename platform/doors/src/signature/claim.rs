//! What a request says of its signature: in `Authorization`, or in the query of a presigned URL.

use super::{chunks, shown, time};
use crate::event::decode;
use http::request::Parts;
use model::error::{ApiError, ErrorCode};
use std::borrow::Cow;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Names of headers that one signature covers.
const SIGNED_HEADERS_MAX: usize = 200;

/// What the signature says of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// Nothing: its hash is what it is.
    Body,
    /// Its hash, in lower-case hexadecimal.
    Said(String),
    /// That it is not signed.
    Unsigned,
    /// That it comes in chunks, each with a signature.
    Chunks,
}

/// A signature, taken apart and complete; nothing of it is checked.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `20150830T123600Z`; at least eight ASCII letters.
    pub(super) time: Cow<'a, str>,
    /// Only of presigned URLs.
    pub(super) expires_s: Option<u64>,
    /// Lower-case, in the order in which they are signed.
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: &'a str,
    pub(super) session_token: Option<Cow<'a, str>>,
    pub(super) payload: Payload,
    pub(super) is_presigned: bool,
}

impl<'a> Claim<'a> {
    /// Takes a request's signature apart.
    ///
    /// # Errors
    /// There is none, or it lacks something.
    pub(super) fn read(head: &'a Parts) -> Result<Self, ApiError> {
        let query = head.uri.query().unwrap_or_default();
        match text(head, "authorization") {
            Some(authorization) => Self::of_header(head, authorization),
            None if find(query, "X-Amz-Signature").is_some() || find(query, "X-Amz-Algorithm").is_some() => {
                Self::of_query(head, query)
            }
            None => {
                let message = "Missing Authentication Token";
                Err(ApiError::new(ErrorCode::MissingAuthenticationToken, message))
            }
        }
    }

    fn of_header(head: &'a Parts, authorization: &'a str) -> Result<Self, ApiError> {
        let Some(rest) = authorization.strip_prefix(ALGORITHM) else {
            return Err(incomplete(format!(
                "Unsupported AWS 'algorithm': '{}'.",
                shown(authorization.split(' ').next().unwrap_or_default())
            )));
        };
        let part = |name: &str| {
            rest.split([',', ' '])
                .filter_map(|pair| pair.trim().split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let time = text(head, "x-amz-date").or_else(|| text(head, "date"));
        let (credential, signature, headers) = (part("Credential"), part("Signature"), part("SignedHeaders"));
        let (Some(credential), Some(signature), Some(headers), Some(time)) =
            (credential, signature, headers, time)
        else {
            let mut lacks = String::new();
            for (name, value) in
                [("Credential", credential), ("Signature", signature), ("SignedHeaders", headers)]
            {
                if value.is_none() {
                    lacks += &format!("Authorization header requires '{name}' parameter. ");
                }
            }
            if time.is_none() {
                lacks +=
                    "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
            }
            return Err(incomplete(lacks));
        };
        let claim = Self::of(head, credential, signature, headers, time.into(), None, false)?;
        Ok(Self { session_token: text(head, "x-amz-security-token").map(Into::into), ..claim })
    }

    fn of_query(head: &'a Parts, query: &'a str) -> Result<Self, ApiError> {
        let member = |name: &str| find(query, name).filter(|value| !value.is_empty());
        let names = [
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Signature",
            "X-Amz-SignedHeaders",
            "X-Amz-Date",
            "X-Amz-Expires",
        ];
        let lacks: String = names
            .iter()
            .filter(|name| member(name).is_none())
            .map(|name| format!("AWS query-string parameters must include '{name}'. "))
            .collect();
        let [Some(algorithm), Some(credential), Some(signature), Some(headers), Some(time), Some(expires)] =
            names.map(member)
        else {
            return Err(incomplete(format!("{lacks}Re-examine the query-string parameters.")));
        };
        if algorithm != ALGORITHM {
            return Err(incomplete(format!("Unsupported AWS 'algorithm': '{}'.", shown(algorithm))));
        }
        let expires_s = expires
            .parse()
            .map_err(|_| incomplete("X-Amz-Expires must be a number of seconds.".to_owned()))?;
        let claim = Self::of(head, credential, signature, headers, time.into(), Some(expires_s), true)?;
        Ok(Self {
            session_token: member("X-Amz-Security-Token").map(|token| decode(token, false).into()),
            ..claim
        })
    }

    fn of(
        head: &'a Parts,
        credential: &'a str,
        signature: &'a str,
        headers: &'a str,
        time: Cow<'a, str>,
        expires_s: Option<u64>,
        is_presigned: bool,
    ) -> Result<Self, ApiError> {
        let parts = split(credential);
        let [access_key_id, date, region, service, terminator] = parts[..] else {
            return Err(incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
                shown(credential)
            )));
        };
        let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidSignature, message));
        if terminator != "aws4_request" {
            return invalid(format!(
                "Credential should be scoped with a valid terminator: 'aws4_request', not '{}'. ",
                shown(terminator)
            ));
        }
        if time::seconds(&time).is_none() {
            return Err(incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                shown(&time)
            )));
        }
        // In a header nothing is escaped, and a percent sign may stand in a header's name.
        let headers = if is_presigned { decode(headers, false) } else { headers.to_owned() };
        let signed_headers: Vec<String> =
            headers.split(';').take(SIGNED_HEADERS_MAX).map(str::to_ascii_lowercase).collect();
        if !signed_headers.iter().any(|name| name == "host") {
            return invalid(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
            );
        }
        let payload = match text(head, "x-amz-content-sha256") {
            None => Payload::Body,
            Some("UNSIGNED-PAYLOAD") => Payload::Unsigned,
            Some(chunks::SEED) => Payload::Chunks,
            Some(said) => Payload::Said(said.to_ascii_lowercase()),
        };
        Ok(Self {
            access_key_id,
            date,
            region,
            service,
            time,
            expires_s,
            signed_headers,
            signature,
            session_token: None,
            payload,
            is_presigned,
        })
    }
}

/// The parts of a credential; one more than there should be if there are too many.
fn split(credential: &str) -> Vec<&str> {
    // A slash is a slash or `%2F`: no part of a credential holds one.
    let (mut parts, mut rest) = (Vec::with_capacity(6), credential);
    loop {
        let at = rest.char_indices().find_map(|(at, _)| {
            ["/", "%2F", "%2f"]
                .iter()
                .find(|mark| rest[at..].starts_with(**mark))
                .map(|mark| (at, mark.len()))
        });
        let Some((at, length)) = at.filter(|_| parts.len() < 5) else { break };
        parts.push(&rest[..at]);
        rest = &rest[at + length..];
    }
    parts.push(rest);
    parts
}

/// The access key's id and the Region that a request names, whatever else it lacks.
pub(super) fn scope_of(head: &Parts) -> Option<[&str; 2]> {
    let credential = match text(head, "authorization") {
        Some(authorization) => authorization.split_once("Credential=")?.1.split([',', ' ']).next()?,
        None => find(head.uri.query().unwrap_or_default(), "X-Amz-Credential")?,
    };
    match split(credential)[..] {
        [id, _, region, _, _] => Some([id, region]),
        _ => None,
    }
}

fn text<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name)?.to_str().ok()
}

/// A member of the query, still encoded.
fn find<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn incomplete(message: String) -> ApiError {
    ApiError::new(ErrorCode::IncompleteSignature, message)
}
