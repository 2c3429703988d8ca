//! The members of a request: from its path, its query, and its JSON body.

use crate::signature::Signer;
use http::header::HOST;
use http::request::Parts;
use model::error::{ApiError, ErrorCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

/// Pairs of one query string.
const QUERY_PAIRS_MAX: usize = 256;

/// One request, taken apart.
pub struct Input<'a> {
    labels: Vec<String>,
    query: Vec<(String, String)>,
    body: &'a [u8],
    host: &'a str,
    port: Option<u16>,
    list: String,
    in_session: bool,
}

impl<'a> Input<'a> {
    /// Takes a request apart that is for the account and Region in `scope`.
    ///
    /// # Errors
    /// The query is not percent-encoded UTF-8, or has too many members.
    pub fn read(head: &'a Parts, scope: &str, labels: Vec<String>, body: &'a [u8]) -> Result<Self, ApiError> {
        let mut query = Vec::new();
        for pair in head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let pair = decode(key, true).zip(decode(value, true));
            query.push(pair.ok_or_else(|| {
                ApiError::new(ErrorCode::Validation, "The query string is not valid UTF-8.")
            })?);
            if query.len() > QUERY_PAIRS_MAX {
                let message = format!("The query string has more than {QUERY_PAIRS_MAX} members.");
                return Err(ApiError::new(ErrorCode::Validation, message));
            }
        }
        let host = head.uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| head.headers.get(HOST).and_then(|host| host.to_str().ok()));
        let host = host.unwrap_or_default();
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let list = format!("{scope}{}", head.uri.path());
        let in_session = head.extensions.get::<Signer>().is_some_and(|signer| signer.in_session);
        Ok(Self { labels, query, body, host, port, list, in_session })
    }

    /// What a list is told apart by: whose it is, and its path.
    pub fn list(&self) -> &str {
        &self.list
    }

    /// What stood for the path's part of that number; the table guarantees that it is there.
    pub fn label(&self, index: usize) -> &str {
        self.labels.get(index).map_or("", String::as_str)
    }

    /// A member of the query.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// All values of a member of the query that may occur several times.
    pub fn queries(&self, key: &str) -> Vec<String> {
        self.query.iter().filter(|(found, _)| found == key).map(|(_, value)| value.clone()).collect()
    }

    /// The host that the caller reached us by, with its port; empty when an old client did not say.
    pub fn host(&self) -> &str {
        self.host
    }

    /// The port that the caller reached us by.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether a verified signature is by the key of a session, as functions have.
    pub fn in_session(&self) -> bool {
        self.in_session
    }

    /// The body's members; an empty body has none.
    ///
    /// # Errors
    /// The body is no JSON object, or a member has the wrong type: the error names it.
    pub fn body<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.body.is_empty() {
            return Ok(T::default());
        }
        serde_json::from_slice(self.body).map_err(|error| match error.classify() {
            Category::Data => wrong_type::<T>(self.body, &error),
            Category::Syntax | Category::Eof | Category::Io => ApiError::new(
                ErrorCode::InvalidRequestContent,
                format!("Could not parse request body into json: {error}"),
            ),
        })
    }
}

/// Finds the member that cannot be read, by trying each alone: all are optional by themselves.
fn wrong_type<T: DeserializeOwned>(body: &[u8], whole: &serde_json::Error) -> ApiError {
    let found = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => members.into_iter().find_map(|(key, value)| {
            let alone = Value::Object([(key.clone(), value)].into_iter().collect());
            serde_json::from_value::<T>(alone).err().map(|error| (key, error))
        }),
        _ => None,
    };
    let message = match found {
        Some((key, error)) => format!("Could not read the member {}: {error}", key.escape_debug()),
        None => format!("Could not read the request body: {whole}"),
    };
    ApiError::new(ErrorCode::Serialization, message)
}

/// Decodes percent-encoding, and `+` where it means a space; `None` if it is broken or no UTF-8.
pub fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_decoded_or_refused() {
        assert_eq!(decode("a%3Ab+c", true).as_deref(), Some("a:b c"));
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
        assert_eq!(decode("%C3%A4", false).as_deref(), Some("ä"));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(broken, false), None, "{broken}");
        }
    }
}
