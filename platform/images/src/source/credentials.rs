//! Who one is to a registry, as Docker and Podman keep it: `auths`, `credHelpers` and `credsStore` of `config.json`.
//! A name and a password, or an identity token with which others are fetched.

use super::mortal::mortal;
use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Bytes of a configuration, and of what a helper says.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// How long a helper may take: some ask a person, or a service far away.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);
/// The name with which helpers say that a secret is an identity token. Source: docker/docker-credential-helpers, "Development".
const TOKEN_NAME: &str = "<token>";

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    /// Never the password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

impl Credentials {
    /// The identity token, with which tokens are fetched in place of a password; `docker login` keeps one where a registry
    /// gives it.
    pub fn identity_token(&self) -> Option<&str> {
        (self.user == TOKEN_NAME).then_some(self.password.as_str())
    }

    /// For a registry, from the first file that has some; `None` for anonymous use.
    pub fn of_host(host: &str) -> Option<Self> {
        files().into_iter().find_map(|path| {
            let mut text = Vec::new();
            File::open(&path).ok()?.take(CONFIG_BYTES_MAX).read_to_end(&mut text).ok()?;
            let config: Config = serde_json::from_slice(&text)
                .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the registry credentials cannot be read"))
                .ok()?;
            config.find(host, &helped)
        })
    }
}

/// Where the tools look, most particular first.
fn files() -> Vec<PathBuf> {
    let below = |variable: &str, path: &str| Some(PathBuf::from(std::env::var_os(variable)?).join(path));
    let docker = below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json"));
    let podman = below("XDG_RUNTIME_DIR", "containers/auth.json");
    docker.into_iter().chain(podman).chain(below("HOME", ".config/containers/auth.json")).collect()
}

impl Config {
    fn find(&self, host: &str, ask: &dyn Fn(&str, &str) -> Option<Credentials>) -> Option<Credentials> {
        // Docker's own registry is known by its first address.
        let names = match host {
            "docker.io" => vec!["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"],
            other => vec![other],
        };
        for name in &names {
            let helper = self.cred_helpers.get(*name);
            if let Some(found) = helper.and_then(|helper| ask(helper, name)) {
                return Some(found);
            }
        }
        for (key, entry) in &self.auths {
            let bare = key.trim_start_matches("https://").trim_start_matches("http://");
            let is_it = names.iter().any(|name| name == key || bare.split('/').next() == Some(name));
            if let Some(token) = entry.identitytoken.as_ref().filter(|token| is_it && !token.is_empty()) {
                return Some(Credentials { user: TOKEN_NAME.to_owned(), password: token.clone() });
            }
            if let Some(auth) = entry.auth.as_ref().filter(|auth| is_it && !auth.is_empty()) {
                let bytes = base64::engine::general_purpose::STANDARD.decode(auth).ok()?;
                let text = String::from_utf8(bytes).ok()?;
                let (user, password) = text.split_once(':')?;
                return Some(Credentials { user: user.to_owned(), password: password.to_owned() });
            }
        }
        let store = self.creds_store.as_ref()?;
        names.iter().find_map(|name| ask(store, name))
    }
}

/// Asks `docker-credential-HELPER`. Source: docker/docker-credential-helpers, "Development": the address on standard input, JSON out.
fn helped(helper: &str, name: &str) -> Option<Credentials> {
    let plain = helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !plain {
        return None;
    }
    let mut command = Command::new(format!("docker-credential-{helper}"));
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = mortal(&mut command)
        .spawn()
        .inspect_err(|error| tracing::warn!(helper, %error, "a credential helper cannot be started"))
        .ok()?;
    if let Some(mut input) = child.stdin.take() {
        drop(input.write_all(name.as_bytes()));
    }
    let output = child.stdout.take()?;
    let (said, heard) = std::sync::mpsc::channel();
    // Ends with the helper.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.take(CONFIG_BYTES_MAX).read_to_end(&mut text);
        let _ = said.send(read.ok().map(|_| text));
    });
    let Ok(text) = heard.recv_timeout(HELPER_PATIENCE) else {
        tracing::warn!(helper, "a credential helper does not answer; it is ended");
        drop(child.kill());
        drop(child.wait());
        return None;
    };
    let status = child.wait().ok()?;
    let text = text.filter(|_| status.success())?;
    let Helped { username, secret } = serde_json::from_slice(&text).ok()?;
    Some(Credentials { user: username, password: secret })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn entries_are_found_by_host_whatever_stands_around_it() {
        // user:pass:word
        let config = config(
            r#"{"auths": {"https://registry.example/v2/": {"auth": "dXNlcjpwYXNzOndvcmQ="}, "https://index.docker.io/v1/": {"auth": "dTpw"},
                "empty.example": {}, "broken.example": {"auth": "!"}}, "credHelpers": {"ecr.example": "ecr-login"}, "credsStore": "desktop"}"#,
        );
        let none = |_: &str, _: &str| None;
        let found = config.find("registry.example", &none).unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("user", "pass:word"));
        assert!(!format!("{found:?}").contains("word"));
        assert_eq!(config.find("docker.io", &none).unwrap().user, "u");
        for host in ["other.example", "empty.example", "broken.example", "registry.example.evil.test"] {
            assert_eq!(config.find(host, &none), None, "{host}");
        }
        let ask = |helper: &str, name: &str| {
            Some(Credentials { user: helper.to_owned(), password: name.to_owned() })
        };
        assert_eq!(config.find("ecr.example", &ask).unwrap().user, "ecr-login");
        assert_eq!(config.find("other.example", &ask).unwrap().user, "desktop");
    }

    #[test]
    fn an_identity_token_comes_before_a_password() {
        let config = config(
            r#"{"auths": {"r.example": {"auth": "dTpw", "identitytoken": "t"}, "s.example": {"identitytoken": ""}}}"#,
        );
        let none = |_: &str, _: &str| None;
        assert_eq!(config.find("r.example", &none).unwrap().identity_token(), Some("t"));
        assert_eq!(config.find("s.example", &none), None);
        let named = Credentials { user: "u".to_owned(), password: "p".to_owned() };
        assert_eq!(named.identity_token(), None);
    }

    #[test]
    fn a_helper_is_a_name_and_no_path() {
        assert_eq!(helped("../../bin/sh", "host"), None);
        assert_eq!(helped("x y", "host"), None);
    }
}
