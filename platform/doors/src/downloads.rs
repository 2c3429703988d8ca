//! Where code can be fetched: `Code.Location` of GetFunction and `Content.Location` of GetLayerVersion.
//!
//! AWS answers a presigned URL of S3 that is good for ten minutes; here it leads back to the very host that was asked, and
//! needs no other signature. Source: Lambda API reference, FunctionCodeLocation and LayerVersionContentOutput, published.

use crate::router::Doors;
use crate::streaming::Outgoing;
use control::{ApiError, Control};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use model::name::LATEST;
use ring::hmac;
use ring::rand::SystemRandom;
use std::fs::File;
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// Where all of it lies.
pub(crate) const PATH: &str = "/_onrush/code/";
/// How long a location is good. Source as above.
const VALID_S: u64 = 600;

/// What locations are signed with, until the platform ends.
static SECRET: LazyLock<hmac::Key> = LazyLock::new(|| {
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("the system has random bytes")
});

/// One archive is read or made at a time, however many are asked for: it may take some 250 MB of the disk.
static TURN: Semaphore = Semaphore::const_new(1);

/// Something that has an archive.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// A function's version: its name, and its number or `$LATEST`.
    Function(&'a str, &'a str),
    /// A layer's version: its name and number.
    Layer(&'a str, u64),
}

/// The location of an archive for whoever asked at `host`, from now on. `sha256` is of the code that is meant: of a function
/// that was changed since, it is not the new one.
pub fn location(control: &Control, host: &str, of: Of<'_>, sha256: &str) -> String {
    let now_s = telemetry::unix_millis() / 1_000;
    location_until(control, host, of, sha256, now_s + VALID_S)
}

fn location_until(control: &Control, host: &str, of: Of<'_>, sha256: &str, expires_s: u64) -> String {
    let options = control.options();
    let (kind, name, version) = match of {
        // Shells would take the `$` for theirs.
        Of::Function(name, LATEST) => ("function", name, "LATEST".to_owned()),
        Of::Function(name, version) => ("function", name, version.to_owned()),
        Of::Layer(name, version) => ("layer", name, version.to_string()),
    };
    let (account, region) = (&options.account_id, &options.region);
    let path = format!("{PATH}{account}/{region}/{kind}/{name}/{version}/{}.zip", word(sha256));
    let signature = hmac::sign(&SECRET, &signed(&path, expires_s));
    let signature: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // What comes under AWS's own names came over TLS, and the same way leads back.
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let scheme = if model::aws_name::is_aws(name) { "https" } else { "http" };
    format!("{scheme}://{host}{path}?Expires={expires_s}&Signature={signature}")
}

/// A checksum as a part of a path.
fn word(sha256: &str) -> String {
    sha256.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn signed(path: &str, expires_s: u64) -> Vec<u8> {
    format!("{path}?Expires={expires_s}").into_bytes()
}

/// Why nothing is handed out, in S3's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    NotGet,
    Signature,
    Expired,
    Gone,
}

impl Denied {
    fn answer(self) -> Response<Outgoing> {
        let (status, code, message) = match self {
            Self::NotGet => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "GET only"),
            Self::Signature => (
                StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "This location was not given out since the platform started",
            ),
            Self::Expired => (StatusCode::FORBIDDEN, "AccessDenied", "Request has expired"),
            Self::Gone => (
                StatusCode::NOT_FOUND,
                "NoSuchKey",
                "The function or layer was changed or deleted since this location was given out",
            ),
        };
        failure(status, code, message)
    }
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response<Outgoing> {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut answer = Response::new(Outgoing::Whole(body.into_bytes().into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// What a request asks for, if it may have it: account and Region, and what is in them.
fn read(head: &Parts, now_s: u64) -> Result<[&str; 6], Denied> {
    if head.method != Method::GET {
        return Err(Denied::NotGet);
    }
    let path = head.uri.path();
    let query = head.uri.query().and_then(|query| query.strip_prefix("Expires="));
    let (expires, signature) =
        query.and_then(|query| query.split_once("&Signature=")).ok_or(Denied::Signature)?;
    let expires_s: u64 = expires.parse().map_err(|_| Denied::Signature)?;
    let bytes: Option<Vec<u8>> = (0..signature.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(signature.get(at..at + 2)?, 16).ok())
        .collect();
    let given = bytes.ok_or(Denied::Signature)?;
    hmac::verify(&SECRET, &signed(path, expires_s), &given).map_err(|_| Denied::Signature)?;
    if now_s >= expires_s {
        return Err(Denied::Expired);
    }
    let parts = path.strip_prefix(PATH).unwrap_or_default().splitn(6, '/');
    parts.collect::<Vec<_>>().try_into().map_err(|_| Denied::Signature)
}

/// Hands out an archive, piece by piece.
pub(crate) async fn answer(doors: &Arc<Doors>, head: &Parts) -> Response<Outgoing> {
    let [account, region, kind, name, version, file] = match read(head, telemetry::unix_millis() / 1_000) {
        Ok(parts) => parts.map(str::to_owned),
        Err(denied) => return denied.answer(),
    };
    let Some(doors) = doors.opened(&account, &region) else { return Denied::Gone.answer() };
    let turn = TURN.acquire().await;
    let opened = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        open(&doors.control, &kind, &name, &version, &file)
    });
    let file = match opened.await {
        Ok(Ok(Some(file))) => file,
        Ok(Ok(None)) => return Denied::Gone.answer(),
        Ok(Err(error)) => {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &error.message);
        }
        Err(_) => {
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "the platform's log has the cause",
            );
        }
    };
    match Outgoing::file(file) {
        Ok(body) => {
            let mut answer = Response::new(body);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
            answer
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &error.to_string()),
    }
}

/// The archive, if the code is still the one that was meant.
fn open(
    control: &Control,
    kind: &str,
    name: &str,
    version: &str,
    file: &str,
) -> Result<Option<File>, ApiError> {
    let is_meant = |sha256: &str| file.strip_suffix(".zip") == Some(&word(sha256));
    if kind == "layer" {
        let found = control.layer_version(name, version).ok().filter(|found| is_meant(&found.layer.sha256));
        let Some(layer) = found.map(|found| found.layer) else { return Ok(None) };
        return control.archive(&layer.location, &layer.path, &layer.sha256);
    }
    let version = if version == "LATEST" { LATEST } else { version };
    let found = control.resolve(name, Some(version)).ok().filter(|found| is_meant(&found.code_sha256));
    let Some(found) = found else { return Ok(None) };
    control.archive(&found.location, &found.code, &found.code_sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn read_at(location: &str, now_s: u64) -> Result<Vec<String>, Denied> {
        let head = Request::get(location).body(()).unwrap().into_parts().0;
        read(&head, now_s).map(|parts| parts.map(str::to_owned).to_vec())
    }

    #[test]
    fn a_location_is_good_until_it_expires_and_no_other_is() {
        let folder = tempfile::tempdir().unwrap();
        let options = control::Options {
            data_dir: folder.path().to_owned(),
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            account_concurrency: 1_000,
            unreserved_minimum: 100,
            experimental_snap_start: false,
            passable: false,
        };
        let control = Control::open(options, Box::new(|_| {})).unwrap();
        let of = Of::Function("cart", LATEST);
        let good = location_until(&control, "localhost:4566", of, "a+b/c=", 1_000);
        let (start, signature) = good.split_once("&Signature=").unwrap();
        assert_eq!(
            start,
            "http://localhost:4566/_onrush/code/000000000000/us-east-1/function/cart/LATEST/a-b_c.zip?Expires=1000"
        );
        let wanted = ["000000000000", "us-east-1", "function", "cart", "LATEST", "a-b_c.zip"];
        assert_eq!(read_at(&good, 999).unwrap(), wanted);
        assert_eq!(read_at(&good, 1_000), Err(Denied::Expired));
        for bad in [
            good.replace("cart", "user"),
            good.replace("Expires=1000", "Expires=9000"),
            format!("{start}&Signature="),
            format!("{start}&Signature={}", signature.replace(|_| true, "0")),
            format!("{start}&Signature=é"),
            good.replace("&Signature=", "&signature="),
            start.to_owned(),
        ] {
            if let Ok(uri) = bad.parse::<http::Uri>() {
                assert_eq!(read_at(&uri.to_string(), 999), Err(Denied::Signature), "{bad}");
            }
        }
        let aws = location_until(&control, "lambda.us-east-1.amazonaws.com", of, "x", 1_000);
        assert!(aws.starts_with("https://lambda.us-east-1.amazonaws.com/_onrush/code/"), "{aws}");
    }
}
