//! The canonical request, the string to sign, the signing key; and signing itself.

use super::chunks;
use http::request::Parts;
use ring::{digest, hmac};
use std::fmt::Write as _;

/// A signature for a request of ours: what goes into `Authorization`.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The whole header.
    pub authorization: String,
}

/// Signs a request whose headers hold all that is to be signed, `host` and `x-amz-date` among them.
pub fn sign(
    head: &Parts,
    body: &[u8],
    key_id: &str,
    secret: &str,
    region: &str,
    service: &str,
) -> Option<Signed> {
    let time = head.headers.get("x-amz-date")?.to_str().ok()?;
    let date = time.get(..8)?;
    let mut names: Vec<String> = head.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    let request = request(head, &names, false, &hex_digest(body), service)?;
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let signature = hmac::sign(
        &signing_key(secret, date, region, service),
        string_to_sign(time, &scope, &request).as_bytes(),
    );
    Some(Signed {
        authorization: format!(
            "AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={}, Signature={}",
            names.join(";"),
            hex(signature.as_ref())
        ),
    })
}

/// The canonical request; `None` when a signed header is not there, or not text.
pub(super) fn request(
    head: &Parts,
    signed_headers: &[String],
    is_presigned: bool,
    payload: &str,
    service: &str,
) -> Option<String> {
    let sent = head.uri.path();
    let path = if service == "s3" { sent.to_owned() } else { path(sent) };
    let mut text = format!("{}\n{path}\n", head.method);
    text += &query(head.uri.query().unwrap_or_default(), is_presigned);
    text.push('\n');
    for name in signed_headers {
        let mut values: Vec<String> = head
            .headers
            .get_all(name)
            .iter()
            .map(|value| Some(folded(value.to_str().ok()?)))
            .collect::<Option<_>>()?;
        if values.is_empty() && name == "host" {
            values.extend(head.uri.authority().map(|authority| authority.as_str().to_owned()));
        }
        if values.is_empty() {
            return None;
        }
        let _ = writeln!(text, "{name}:{}", values.join(","));
    }
    let _ = write!(text, "\n{}\n{payload}", signed_headers.join(";"));
    Some(text)
}

pub(super) fn string_to_sign(time: &str, scope: &str, request: &str) -> String {
    format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex_digest(request.as_bytes()))
}

pub(super) fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> hmac::Key {
    let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    [date, region, service, "aws4_request"].iter().fold(first, |key, part| {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
    })
}

/// Without `.`, `..` and empty segments, and encoded once more: all services but S3 sign the path as it was sent, encoded.
fn path(sent: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in sent.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut text = String::from("/");
    text += &segments.iter().map(|segment| encode(segment.as_bytes())).collect::<Vec<_>>().join("/");
    if sent.ends_with('/') && text.len() > 1 {
        text.push('/');
    }
    text
}

/// Sorted by name and value, each encoded in the one way that signatures know.
fn query(sent: &str, is_presigned: bool) -> String {
    let once = |text: &str| encode(&decode(text));
    let mut pairs: Vec<(String, String)> = sent
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| !(is_presigned && *name == "X-Amz-Signature"))
        .map(|(name, value)| (once(name), once(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Runs of spaces are one, outer ones none.
fn folded(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Percent-decoding that leaves alone what is no escape; bytes, since they need not be UTF-8.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|pair| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()
        });
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    decoded
}

/// Percent-encoding of all but what is reserved for nothing.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

pub(super) fn hex_digest(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Lower-case hexadecimal of a whole signature.
pub(super) fn unhex(text: &str) -> Option<[u8; chunks::SIGNATURE_BYTES]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * chunks::SIGNATURE_BYTES {
        return None;
    }
    let mut signature = [0; chunks::SIGNATURE_BYTES];
    for (byte, pair) in signature.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(signature)
}
