//! Code from S3: objects of the server that is attached as S3, asked for in path style and signed as an SDK does it.

use anyhow::anyhow;
use bytes::Bytes;
use control::{Object, ObjectError};
use doors::Realm;
use doors::signature::{self, Keys};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use services::{Body, Services, Upstream};
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How long an object may take, all of it: clients wait a minute for the answer.
const PATIENCE: Duration = Duration::from_secs(50);
/// Objects that are on their way at once, of all accounts and Regions: each is a file in full. Others wait.
const FETCHES_MAX: usize = 4;
static FETCHES: Semaphore = Semaphore::const_new(FETCHES_MAX);
/// Requests for objects that are under way or wait: each holds a thread of those that all other changes need, too.
const REQUESTS_MAX: usize = 64;
static REQUESTS: Semaphore = Semaphore::const_new(REQUESTS_MAX);
/// Bytes of what S3 says when it refuses.
const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// The SHA-256 of a request without a body.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Fetches objects for the [`control`] of one account in one Region.
#[derive(Debug)]
pub struct Objects {
    services: Arc<Services>,
    realm: Realm,
    /// What signs, but for sessions.
    lasting: Option<Key>,
    runtime: Handle,
}

/// The id of an access key, and its secret.
struct Key(String, String);

impl std::fmt::Debug for Key {
    /// The id alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Objects {
    /// Those of the server that is attached as S3, if one is. What is asked is signed with the account's first lasting key
    /// of `--credentials`; without one, and where a session asks, with that of its functions.
    pub fn of(services: Arc<Services>, realm: Realm, keys: &Keys, runtime: Handle) -> Arc<Self> {
        let key = keys.lasting(&realm.account_id, model::name::DEFAULT_ACCOUNT);
        let lasting = key.map(|key| Key(key.id.clone(), key.secret.clone()));
        Arc::new(Self { services, realm, lasting, runtime })
    }

    fn head(&self, server: &Upstream, object: Object<'_>) -> anyhow::Result<Parts> {
        let request = Request::get(path(&object))
            .header("host", server.authority())
            .header("x-amz-content-sha256", NOTHING)
            .header("x-amz-date", signature::time_now());
        let mut head = request.body(())?.into_parts().0;
        let (id, secret) = match &self.lasting {
            Some(Key(id, secret)) if !object.in_session => (id.clone(), secret.clone()),
            _ => runtimes::credentials(&self.realm.account_id),
        };
        let signed = signature::sign(&head, b"", &id, &secret, &self.realm.region, "s3");
        let signed = signed.ok_or_else(|| anyhow!("the request cannot be signed"))?;
        head.headers.insert("authorization", signed.authorization.parse()?);
        Ok(head)
    }

    async fn carry(
        &self,
        server: &Upstream,
        head: Parts,
        bytes_max: u64,
        into: &mut File,
    ) -> Result<(), ObjectError> {
        let broken = |error: &dyn std::fmt::Display| {
            ObjectError::Unreachable(format!("S3 at {server} cannot be read: {error}"))
        };
        let answer = self.services.ask(server, head).await.map_err(|error| broken(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await);
        }
        let length =
            answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > bytes_max) {
            return Err(ObjectError::TooLarge);
        }
        let mut body = answer.into_body();
        let mut left = bytes_max;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            left = left.checked_sub(piece.len() as u64).ok_or(ObjectError::TooLarge)?;
            into.write_all(&piece)?;
        }
        Ok(())
    }
}

impl control::Objects for Objects {
    fn fetch(&self, object: Object<'_>, bytes_max: u64, into: &mut File) -> Result<(), ObjectError> {
        let Some(server) = self.services.attached("s3") else { return Err(ObjectError::NoServer) };
        let Ok(_place) = REQUESTS.try_acquire() else {
            let busy = format!("{REQUESTS_MAX} objects of S3 at {server} are waited for already");
            return Err(ObjectError::Unreachable(busy));
        };
        let head = self.head(server, object).map_err(|error| ObjectError::Unreachable(error.to_string()))?;
        let fetched = async {
            let _turn = FETCHES.acquire().await;
            self.carry(server, head, bytes_max, into).await
        };
        let fetched = async { tokio::time::timeout(PATIENCE, fetched).await };
        self.runtime.block_on(fetched).unwrap_or_else(|_| {
            let patience_s = PATIENCE.as_secs();
            Err(ObjectError::Unreachable(format!(
                "S3 at {server} did not send the object within {patience_s} s, at most {FETCHES_MAX} at once"
            )))
        })
    }
}

/// What S3 says when it refuses, from its document; servers that send none have their status, which says enough where it is 403.
async fn refusal(answer: Response<Body>) -> ObjectError {
    let status = answer.status();
    let mut said = Vec::new();
    let mut body = answer.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        said.extend_from_slice(&frame.into_data().unwrap_or_else(|_| Bytes::new()));
        if said.len() > REFUSAL_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&said);
    let element = |name: &str| {
        let rest = text.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let code_of_status = || match status {
        StatusCode::FORBIDDEN => "AccessDenied".to_owned(),
        other => other.as_u16().to_string(),
    };
    ObjectError::Refused {
        code: element("Code").unwrap_or_else(code_of_status),
        message: element("Message")
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("it did not say why").to_owned()),
    }
}

/// Where an object is, in path style: a key keeps its slashes.
fn path(object: &Object<'_>) -> String {
    let encode = |text: &str| signature::encode(text.as_bytes());
    let key = object.key.split('/').map(encode).collect::<Vec<_>>().join("/");
    let version =
        object.version.map_or_else(String::new, |version| format!("?versionId={}", encode(version)));
    format!("/{}/{key}{version}", object.bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_slashes_and_versions_do_not() {
        let object = |key, version| Object { bucket: "b", key, version, in_session: false };
        assert_eq!(path(&object("a/b c+d/\u{e9}.zip", None)), "/b/a/b%20c%2Bd/%C3%A9.zip");
        assert_eq!(path(&object("a", Some("a/b="))), "/b/a?versionId=a%2Fb%3D");
    }
}
