//! Where the queues, topics, buses and buckets of dead letters and destinations are, and one request to them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;

/// Services that dead letters and destinations may live in.
const SERVICES: [&str; 4] = ["sqs", "sns", "events", "s3"];
/// How long a server may take for one message.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Most bytes read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Characters of an answer that an error repeats.
const SHOWN_MAX: usize = 200;

/// Servers, by AWS's short name of the service.
pub type Endpoints = BTreeMap<String, Endpoint>;

/// One server, spoken to by plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Why `--endpoint` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No `=`.
    #[error("`{0}` is not of the form SERVICE=http://HOST:PORT")]
    Form(String),
    /// A service that no dead letter or destination can live in.
    #[error("`{0}` is no service that events go to; there are sqs, sns, events and s3")]
    Service(String),
    /// TLS.
    #[error("`{0}`: only http:// is spoken to a server of yours")]
    Tls(String),
    /// No host, or no port.
    #[error("`{0}` is not of the form http://HOST:PORT")]
    Address(String),
}

impl Endpoint {
    /// A server on a host's port.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    /// Reads `SERVICE=http://HOST:PORT`; the scheme may be left out.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn parse(option: &str) -> Result<(String, Self), EndpointError> {
        let (service, address) =
            option.split_once('=').ok_or_else(|| EndpointError::Form(option.to_owned()))?;
        if !SERVICES.contains(&service) {
            return Err(EndpointError::Service(service.to_owned()));
        }
        if address.starts_with("https://") {
            return Err(EndpointError::Tls(address.to_owned()));
        }
        let bad = || EndpointError::Address(address.to_owned());
        let bare = address.strip_prefix("http://").unwrap_or(address);
        let (host, port) = bare.strip_suffix('/').unwrap_or(bare).rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(bad());
        }
        Ok((service.to_owned(), Self::new(host, port)))
    }

    /// `host:port`, as URLs and the Host header have it.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Sends one message and waits for the answer; anything but a 2xx is an error.
    pub(crate) async fn send(&self, message: Message) -> Result<Bytes, String> {
        match tokio::time::timeout(SEND_MAX, self.exchange(message)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{} gave no answer within {} s", self.authority(), SEND_MAX.as_secs())),
        }
    }

    async fn exchange(&self, message: Message) -> Result<Bytes, String> {
        let authority = self.authority();
        let failed = |what: &str, error: &dyn std::error::Error| format!("{authority}: {what}: {error}");
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| failed("cannot connect", &error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed("no HTTP", &error))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::new(Full::new(message.body));
        *request.method_mut() = message.method;
        *request.uri_mut() = message.path.parse().map_err(|error| failed("no path", &error))?;
        let headers = request.headers_mut();
        headers.extend(message.headers);
        if let Ok(host) = HeaderValue::from_str(&authority) {
            headers.insert(http::header::HOST, host);
        }
        let answer = sender.send_request(request).await.map_err(|error| failed("no answer", &error));
        let read = match answer {
            Ok(answer) => {
                let status = answer.status();
                let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
                body.map(|body| (status, body.to_bytes()))
                    .map_err(|error| format!("{authority}: the answer broke off: {error}"))
            }
            Err(error) => Err(error),
        };
        driver.abort();
        let (status, body) = read?;
        if status.is_success() { Ok(body) } else { Err(refusal(&authority, status, &body)) }
    }
}

fn refusal(authority: &str, status: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(SHOWN_MAX).collect();
    format!("{authority} answered {}: {}", status.as_u16(), text.escape_debug())
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_with_and_without_a_scheme() {
        let read = |text| Endpoint::parse(text).map(|(service, server)| (service, server.authority()));
        assert_eq!(read("sqs=http://127.0.0.1:9324/").unwrap(), ("sqs".into(), "127.0.0.1:9324".into()));
        assert_eq!(read("sns=localhost:9911").unwrap(), ("sns".into(), "localhost:9911".into()));
        assert_eq!(read("events=http://[::1]:80").unwrap().1, "[::1]:80");
        assert_eq!(read("sqs").unwrap_err(), EndpointError::Form("sqs".into()));
        assert!(matches!(read("dynamodb=a:1").unwrap_err(), EndpointError::Service(_)));
        assert!(matches!(read("s3=https://a:1").unwrap_err(), EndpointError::Tls(_)));
        for bad in ["sqs=", "sqs=a", "sqs=a:0", "sqs=a:99999", "sqs=a b:1", "sqs=:1", "sqs=a\r\n:1"] {
            assert!(matches!(read(bad).unwrap_err(), EndpointError::Address(_)), "{bad}");
        }
    }
}
