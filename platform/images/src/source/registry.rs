//! A registry: manifests and blobs by HTTP, with the token that it wants.
//!
//! Source: OCI distribution specification 1.1, "Pulling manifests" and "Pulling blobs"; Docker's "Token Authentication
//! Specification". A client of our own, because the crate for it brings a date library that is banned here and sixty others.

use super::credentials::Credentials;
use super::http::{Answer, Client, Failure};
use super::{Found, LayerAt, Part, Source, resolve};
use crate::ImageError;
use crate::digest::Digest;
use crate::manifest::{Architecture, DOCUMENT_BYTES_MAX, Document};
use crate::place::Repository;
use base64::Engine as _;
use serde::Deserialize;
use std::cell::RefCell;
use std::io::Read;

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Bytes of a token's answer.
const TOKEN_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of what a registry says when it fails that are shown.
const SHOWN_MAX: usize = 200;

/// One repository of a registry.
pub(crate) struct Registry {
    repository: Repository,
    client: Client,
    credentials: Option<Credentials>,
    /// What goes into `Authorization`, once it is known.
    authorization: RefCell<Option<String>>,
}

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Prepares to speak; nothing is sent yet.
    pub fn new(repository: &Repository) -> Result<Self, ImageError> {
        let client = Client::new().map_err(|failure| broken(repository, &failure))?;
        let credentials = Credentials::of_host(&repository.host);
        Ok(Self { repository: repository.clone(), client, credentials, authorization: RefCell::new(None) })
    }

    /// `https`, but for this machine, as Docker has it.
    fn base(&self) -> String {
        let host = match self.repository.host.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let here = name == "localhost"
            || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
        format!("{}://{host}", if here { "http" } else { "https" })
    }

    fn get(&self, path: &str, accept: &str) -> Result<Answer<'_>, ImageError> {
        let url = format!("{}/v2/{}/{path}", self.base(), self.repository.name);
        let ask = || {
            let authorization = self.authorization.borrow().clone();
            let answer = self.client.get(&url, accept, authorization.as_deref());
            answer.map_err(|failure| broken(&self.repository, &failure))
        };
        let mut answer = ask()?;
        if answer.status == 401 {
            let challenge = answer.header("www-authenticate").and_then(Challenge::parse);
            drop(answer);
            self.authorize(challenge)?;
            answer = ask()?;
        }
        match answer.status {
            200 => Ok(answer),
            status => Err(self.refused(status, answer)),
        }
    }

    /// Has something to show.
    fn authorize(&self, challenge: Option<Challenge>) -> Result<(), ImageError> {
        let named = self.credentials.as_ref().filter(|credentials| credentials.identity_token().is_none());
        let basic = named.map(|Credentials { user, password }| {
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {text}")
        });
        let authorization = match challenge {
            None => return Err(self.denied("it asks for credentials in a way that is not known here")),
            Some(Challenge::Basic) => basic.ok_or_else(|| self.denied("it asks for a password"))?,
            Some(Challenge::Bearer { realm, service, scope }) => {
                if self.base().starts_with("https:") && !realm.starts_with("https:") {
                    return Err(self.denied("it sends for tokens to where nothing is encrypted"));
                }
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository.name));
                let answer = match self.credentials.as_ref().and_then(Credentials::identity_token) {
                    Some(identity) => {
                        self.client.post(&realm, refresh_form(identity, &scope, service.as_deref()))
                    }
                    None => self.client.get(
                        &token_url(&realm, &scope, service.as_deref()),
                        "application/json",
                        basic.as_deref(),
                    ),
                };
                let answer = answer.map_err(|failure| broken(&self.repository, &failure))?;
                if answer.status != 200 {
                    let status = answer.status;
                    return Err(self.refused(if status == 400 { 401 } else { status }, answer));
                }
                let mut text = Vec::new();
                let read = answer.body.take(TOKEN_BYTES_MAX).read_to_end(&mut text);
                let token = read.ok().and_then(|_| serde_json::from_slice::<Token>(&text).ok());
                let token = token.and_then(|token| token.token.or(token.access_token));
                let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
                format!("Bearer {}", token.ok_or_else(|| self.denied("its token cannot be read"))?)
            }
        };
        *self.authorization.borrow_mut() = Some(authorization);
        Ok(())
    }

    fn refused(&self, status: u16, answer: Answer<'_>) -> ImageError {
        let mut said = Vec::new();
        let _ = answer.body.take(SHOWN_MAX as u64).read_to_end(&mut said);
        let said: String =
            String::from_utf8_lossy(&said).chars().filter(|letter| !letter.is_control()).collect();
        match status {
            401 | 403 => self.denied(&said),
            404 => ImageError::Missing {
                reference: self.repository.to_string(),
                why: format!("the registry does not have it ({said})"),
            },
            status => ImageError::Registry {
                reference: self.repository.to_string(),
                why: format!("the registry answered {status} ({said})"),
            },
        }
    }

    fn denied(&self, why: &str) -> ImageError {
        let host = &self.repository.host;
        ImageError::Denied {
            reference: self.repository.to_string(),
            why: format!(
                "{why}; docker login {host}, or podman login {host}, keeps credentials that are used here"
            ),
        }
    }

    fn document(&self, path: &str, accept: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let body = self.get(path, accept)?.body;
        let read = body.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| broken(&self.repository, &Failure(error.to_string())))?;
        Ok(bytes)
    }
}

impl Source for Registry {
    fn find(&self, architecture: Architecture) -> Result<Found, ImageError> {
        let wanted = self.repository.digest;
        let name = wanted.map_or_else(|| self.repository.tag.clone(), |digest| digest.to_string());
        let top = self.document(&format!("manifests/{name}"), MANIFESTS)?;
        let top = match wanted {
            Some(digest) => super::checked(digest, top)?,
            None => top,
        };
        let digest = Digest::of(&top);
        resolve(Document::parse(&top)?, Some(digest), architecture, &mut |digest, part| match part {
            Part::Manifest => self.document(&format!("manifests/{digest}"), MANIFESTS),
            Part::Configuration => self.document(&format!("blobs/{digest}"), "*/*"),
        })
    }

    fn open(&self, layer: &LayerAt) -> Result<Box<dyn Read + '_>, ImageError> {
        let LayerAt::Blob(digest) = layer else {
            return Err(broken(&self.repository, &Failure("a registry has blobs alone".to_owned())));
        };
        Ok(Box::new(self.get(&format!("blobs/{digest}"), "*/*")?.body))
    }
}

fn broken(repository: &Repository, failure: &Failure) -> ImageError {
    ImageError::Registry { reference: repository.to_string(), why: failure.0.clone() }
}

impl Challenge {
    /// Reads `WWW-Authenticate`. Source: RFC 9110, section 11.6.1; RFC 6750, section 3.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            let place = match key.trim_matches([' ', ',']) {
                "realm" => &mut realm,
                "service" => &mut service,
                "scope" => &mut scope,
                _ => &mut None,
            };
            *place = Some(value.to_owned());
            rest = after;
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// Where a token is fetched with a password, or without. Source: Docker's "Token Authentication Specification".
fn token_url(realm: &str, scope: &str, service: Option<&str>) -> String {
    let mut url = format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, escape(scope));
    if let Some(service) = service {
        url += &format!("&service={}", escape(service));
    }
    url
}

/// What is posted for a token where there is an identity token, which is none of the registry's business. Source: Docker's "OAuth2
/// Token Authentication", `grant_type=refresh_token`.
fn refresh_form(identity: &str, scope: &str, service: Option<&str>) -> String {
    let service = escape(service.unwrap_or_default());
    let (scope, identity) = (escape(scope), escape(identity));
    format!(
        "grant_type=refresh_token&service={service}&client_id=onrush&scope={scope}&refresh_token={identity}"
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("registry.example".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(text), Some(bearer));
        assert_eq!(Challenge::parse("basic realm=x"), Some(Challenge::Basic));
        for wrong in ["", "Bearer", "Bearer realm=\"x", "Digest realm=\"x\"", "Bearer service=x"] {
            assert_eq!(Challenge::parse(wrong), None, "{wrong}");
        }
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }

    #[test]
    fn an_identity_token_is_posted_and_nothing_in_it_is_more_than_text() {
        assert_eq!(
            refresh_form("a&b=c", "repository:a/b:pull", Some("r.example")),
            "grant_type=refresh_token&service=r.example&client_id=onrush&scope=repository%3Aa%2Fb%3Apull&refresh_token=a%26b%3Dc"
        );
        assert_eq!(token_url("https://a/t?x=1", "s", None), "https://a/t?x=1&scope=s");
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        let base = |host: &str| {
            let repository =
                Repository { host: host.into(), name: "a".into(), tag: "1".into(), digest: None };
            Registry::new(&repository).unwrap().base()
        };
        assert_eq!(base("localhost:5000"), "http://localhost:5000");
        assert_eq!(base("127.0.0.9:5000"), "http://127.0.0.9:5000");
        assert_eq!(base("localhost.evil.test"), "https://localhost.evil.test");
        assert_eq!(base("docker.io"), "https://registry-1.docker.io");
    }
}
