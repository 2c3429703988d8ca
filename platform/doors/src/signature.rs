//! Signature version 4: who signed a request, and whether the signature is right.
//!
//! Source: AWS General Reference, "Signature Version 4 signing process" (canonical request, string to sign, signing key;
//! presigned URLs), published; messages as AWS's services send them, widely seen in SDKs' issue threads.
//!
//! Without keys nothing is verified: whoever reaches the port is anonymous local use.

mod canonical;
mod chunks;
mod claim;
mod keys;
mod time;

pub use canonical::{Signed, encode, sign};
pub use keys::{Key, Keys, KeysError, SessionToken};

use bytes::Bytes;
use canonical::{hex_digest, string_to_sign};
use claim::{Claim, Payload};
use http::request::Parts;
use model::error::{ApiError, ErrorCode};
use ring::hmac;

/// How far a client's clock may be off, in seconds. Source: "Signature expired: … - 5 min.", as recorded from clients.
const SKEW_S: u64 = 300;
/// The same for the beginning of a presigned URL. Source: as recorded from clients, 15 min.
const PRESIGNED_SKEW_S: u64 = 900;
/// Longest life of a presigned URL, in seconds: a week. Source: "Presigned URLs", X-Amz-Expires, published.
const EXPIRES_MAX_S: u64 = 604_800;
/// Of a caller's words in an error.
const SHOWN_MAX: usize = 256;

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The access key's id.
    pub access_key_id: String,
    /// The account that the key is of; `None`: whichever the platform was started for.
    pub account_id: Option<String>,
    /// The Region that was signed for.
    pub region: String,
    /// Whether the key is a session's, as functions' own are.
    pub in_session: bool,
}

/// What a request must be signed for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The Region that is served here; `None`: any.
    pub region: Option<&'a str>,
    /// The service: `lambda`, `execute-api`, or whichever was named.
    pub service: Option<&'a str>,
    /// Seconds since 1970.
    pub now_s: u64,
}

/// A request whose head is in order: the key is known, the scope and the time are right. The signature itself is over the
/// body, too, and checked by [`Pending::finish`].
pub struct Pending<'a> {
    claim: Claim<'a>,
    key: &'a Key,
}

/// Reads the head of a request, before its body: most that is wrong shows here, and costs no body.
///
/// # Errors
/// There is no signature, it is incomplete, its key is unknown, or it is for another time, Region or service.
pub fn begin<'a>(keys: &'a Keys, head: &'a Parts, scope: Scope<'_>) -> Result<Pending<'a>, ApiError> {
    let claim = Claim::read(head)?;
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidSignature, message));
    let (date, given) = (&claim.time[..8], claim.date);
    if given != date {
        return invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{date}', from '{}'.",
            shown(given),
            claim.time
        ));
    }
    if scope.region.map_or(!model::name::is_region(claim.region), |region| region != claim.region) {
        return invalid(format!(
            "Credential should be scoped to a valid region, not '{}'. ",
            shown(claim.region)
        ));
    }
    if let Some(service) = scope.service.filter(|service| *service != claim.service) {
        return invalid(format!("Credential should be scoped to correct service: '{service}'. "));
    }
    let key = keys.find(claim.access_key_id, claim.session_token.as_deref()).ok_or_else(|| {
        let message = "The security token included in the request is invalid.";
        ApiError::new(ErrorCode::UnrecognizedClient, message)
    })?;
    check_time(&claim, scope.now_s)?;
    if key.expires_s.is_some_and(|expires_s| expires_s <= scope.now_s) {
        let message = "The security token included in the request is expired";
        return Err(ApiError::new(ErrorCode::ExpiredToken, message));
    }
    Ok(Pending { claim, key })
}

impl Pending<'_> {
    /// Checks the signature over head and body; the signer, and the body without the framing of signed chunks.
    ///
    /// # Errors
    /// The signature is not the one that the key makes.
    pub fn finish(self, head: &Parts, body: Bytes) -> Result<(Signer, Bytes), ApiError> {
        let Self { claim, key } = self;
        let payload = match &claim.payload {
            // A hash that the body does not have is a body that somebody changed.
            Payload::Said(said) if *said != hex_digest(&body) => return Err(mismatch()),
            Payload::Said(said) => said.clone(),
            Payload::Body => hex_digest(&body),
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Chunks => chunks::SEED.to_owned(),
        };
        let request =
            canonical::request(head, &claim.signed_headers, claim.is_presigned, &payload, claim.service)
                .ok_or_else(mismatch)?;
        let scope = format!("{}/{}/{}/aws4_request", claim.date, claim.region, claim.service);
        let text = string_to_sign(&claim.time, &scope, &request);
        let signing = canonical::signing_key(&key.secret, claim.date, claim.region, claim.service);
        let given = canonical::unhex(claim.signature).ok_or_else(mismatch)?;
        // In constant time: how much of a guess was right must not show.
        hmac::verify(&signing, text.as_bytes(), &given).map_err(|_| mismatch())?;
        let body = match claim.payload {
            Payload::Chunks => {
                let seed = claim.signature;
                chunks::decode(&signing, &claim.time, &scope, seed, &body).ok_or_else(mismatch)?
            }
            _ => body,
        };
        let signer = Signer {
            access_key_id: key.id.clone(),
            account_id: key.account_id.clone(),
            region: claim.region.to_owned(),
            in_session: key.session_token.is_some(),
        };
        Ok((signer, body))
    }
}

/// The Region in a request's credential scope, if it has the form of one. Nothing is verified.
pub fn region_of(head: &Parts) -> Option<&str> {
    claim::scope_of(head).map(|[_, region]| region).filter(|region| model::name::is_region(region))
}

/// The access key's id of a request. Nothing is verified.
pub fn access_key_id_of(head: &Parts) -> Option<&str> {
    claim::scope_of(head).map(|[id, _]| id)
}

/// The time of now as a signature writes it.
pub fn time_now() -> String {
    time::text(telemetry::unix_millis() / 1_000)
}

fn check_time(claim: &Claim<'_>, now_s: u64) -> Result<(), ApiError> {
    let Some(signed_s) = time::seconds(&claim.time) else {
        let message = format!(
            "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
            shown(&claim.time)
        );
        return Err(ApiError::new(ErrorCode::IncompleteSignature, message));
    };
    let (life_s, skew_s) = match claim.expires_s {
        Some(expires_s) => (expires_s.min(EXPIRES_MAX_S), PRESIGNED_SKEW_S),
        None => (SKEW_S, SKEW_S),
    };
    let (now, minutes) = (time::text(now_s), life_s / 60);
    let (earliest_s, latest_s) = (now_s.saturating_sub(life_s), now_s + skew_s);
    let message = if signed_s < earliest_s {
        format!(
            "Signature expired: {} is now earlier than {} ({now} - {minutes} min.)",
            claim.time,
            time::text(earliest_s)
        )
    } else if signed_s > latest_s {
        format!(
            "Signature not yet current: {} is still later than {} ({now} + {} min.)",
            claim.time,
            time::text(latest_s),
            skew_s / 60
        )
    } else {
        return Ok(());
    };
    Err(ApiError::new(ErrorCode::InvalidSignature, message))
}

fn mismatch() -> ApiError {
    ApiError::new(
        ErrorCode::InvalidSignature,
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
    )
}

/// A caller's text for an error: bounded, control characters escaped.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests;
