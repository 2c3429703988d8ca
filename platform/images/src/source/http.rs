//! HTTP as pulling needs it: GET, redirects, a form for tokens, TLS, proxies, bodies as plain readers. For threads that may
//! block.

use super::proxy::Proxy;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// How long a connection, an answer or a piece of a body may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a body that must come in that time of waiting for them: about a kilobyte a second. A server that says a byte now
/// and then would be waited for without end.
const PROGRESS_BYTES: usize = 64 * 1024;
/// Redirects that are followed one after another.
const REDIRECTS_MAX: usize = 5;
/// Where systems keep the roots that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there was no answer.
#[derive(Debug)]
pub(crate) struct Failure(pub String);

/// Asks servers.
pub(crate) struct Client {
    runtime: Runtime,
    tls: Arc<rustls::ClientConfig>,
}

/// An answer whose body has not been read yet.
pub(crate) struct Answer<'a> {
    pub status: u16,
    headers: hyper::HeaderMap,
    pub body: Body<'a>,
}

/// A body, piece by piece.
pub(crate) struct Body<'a> {
    runtime: &'a Runtime,
    incoming: Incoming,
    piece: Bytes,
    progress: Progress,
}

/// How fast a body comes. Only time that its reader waits for it counts.
#[derive(Debug, Default)]
struct Progress {
    waited: Duration,
    bytes: usize,
}

impl Progress {
    /// How long the next piece may take.
    fn patience(&self) -> Duration {
        PATIENCE.saturating_sub(self.waited)
    }

    /// A piece has come after so long; whether the body comes fast enough.
    fn came(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.bytes >= PROGRESS_BYTES {
            *self = Self::default();
        }
        self.waited < PATIENCE
    }
}

impl Answer<'_> {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// With the roots that this system trusts, or those that `SSL_CERT_FILE` names.
    pub fn new() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut roots = rustls::RootCertStore::empty();
        let own = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
        let files = own.into_iter().chain(BUNDLES.map(std::path::PathBuf::from));
        if let Some(file) = files.into_iter().find(|file| file.is_file()) {
            roots.add_parsable_certificates(certificates(&file));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls
            .map_err(|error| Failure(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { runtime: runtime.map_err(|error| Failure(error.to_string()))?, tls: Arc::new(tls) })
    }

    /// Asks, redirects followed. `authorization` goes to the first server alone.
    pub fn get(&self, url: &str, accept: &str, authorization: Option<&str>) -> Result<Answer<'_>, Failure> {
        let mut url = parsed(url)?;
        let first = url.authority().cloned();
        for _ in 0..=REDIRECTS_MAX {
            let authorization = authorization.filter(|_| url.authority() == first.as_ref());
            let answer =
                self.runtime.block_on(self.ask(&url, Question { accept, authorization, form: None }))?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let to = answer.header("location").unwrap_or_default().to_owned();
            let next = if to.starts_with('/') {
                format!(
                    "{}://{}{to}",
                    url.scheme_str().unwrap_or("https"),
                    url.authority().map_or("", |at| at.as_str())
                )
            } else {
                to
            };
            let next: Uri = next.parse().map_err(|_| Failure(format!("{url} redirects to nowhere")))?;
            if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(Failure(format!("{url} redirects to where nothing is encrypted")));
            }
            url = next;
        }
        Err(Failure(format!("{url}: more than {REDIRECTS_MAX} redirects")))
    }

    /// Sends a form, whose answer is JSON. It goes to this server alone: a redirect is the answer.
    pub fn post(&self, url: &str, form: String) -> Result<Answer<'_>, Failure> {
        let question = Question { accept: "application/json", authorization: None, form: Some(form) };
        self.runtime.block_on(self.ask(&parsed(url)?, question))
    }

    async fn ask(&self, url: &Uri, question: Question<'_>) -> Result<Answer<'_>, Failure> {
        let fail = |error: &dyn std::fmt::Display| {
            Failure(format!("{}: {error}", url.authority().map_or("", |at| at.as_str())))
        };
        let host = url.host().ok_or_else(|| fail(&"there is no host"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let encrypted = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(fail(&"neither http nor https")),
        };
        let port = url.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let late = |_| fail(&format!("no answer within {} s", PATIENCE.as_secs()));
        let variable = |name: &str| std::env::var(name).ok();
        let proxy = Proxy::on_the_way_to(url, &variable).map_err(|error| fail(&error))?;
        let (first, first_port) =
            proxy.as_ref().map_or((bare, port), |proxy| (proxy.host.as_str(), proxy.port));
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect((first, first_port)));
        let by = |error: io::Error| match &proxy {
            Some(Proxy { host, port, .. }) => fail(&format!("the proxy {host}:{port}: {error}")),
            None => fail(&error),
        };
        let stream = stream.await.map_err(late)?.map_err(by)?;
        let exchange = async {
            if encrypted {
                let name = ServerName::try_from(bare.to_owned()).map_err(|error| fail(&error))?;
                let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
                if let Some(proxy) = &proxy {
                    let stream = self.tunnel(stream, proxy, &format!("{host}:{port}")).await;
                    let stream = stream.map_err(|error| fail(&error))?;
                    let stream = connector.connect(name, stream).await.map_err(|error| fail(&error))?;
                    self.exchange(TokioIo::new(stream), url, question, None).await
                } else {
                    let stream = connector.connect(name, stream).await.map_err(|error| fail(&error))?;
                    self.exchange(TokioIo::new(stream), url, question, None).await
                }
            } else {
                self.exchange(TokioIo::new(stream), url, question, proxy.as_ref()).await
            }
            .map_err(|error| fail(&error))
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?
    }

    /// Has a proxy lead to a server, for TLS to go through. Source: RFC 9110, section 9.3.6.
    async fn tunnel(
        &self,
        stream: TcpStream,
        proxy: &Proxy,
        to: &str,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, String> {
        let handshake = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        self.runtime.spawn(connection.with_upgrades());
        let mut request = Request::builder().method(Method::CONNECT).uri(to).header(HOST, to);
        if let Some(authorization) = &proxy.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("the proxy {}:{} answered {}", proxy.host, proxy.port, answer.status()));
        }
        hyper::upgrade::on(answer).await.map(TokioIo::new).map_err(|error| error.to_string())
    }

    /// One question on a connection. A proxy that is not tunnelled through wants the whole address.
    async fn exchange<S>(
        &self,
        stream: S,
        url: &Uri,
        question: Question<'_>,
        proxy: Option<&Proxy>,
    ) -> Result<Answer<'_>, String>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
        // Ends with the body.
        self.runtime.spawn(connection);
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .uri(if proxy.is_some() { url.to_string() } else { path.to_owned() })
            .header(HOST, authority)
            .header(USER_AGENT, concat!("onrush/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, question.accept);
        if let Some(authorization) = question.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        if question.form.is_some() {
            request = request.method(Method::POST).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = Full::new(Bytes::from(question.form.unwrap_or_default()));
        let request = request.body(body).map_err(|error| error.to_string())?;
        let (head, incoming) =
            sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        let body =
            Body { runtime: &self.runtime, incoming, piece: Bytes::new(), progress: Progress::default() };
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// What is asked of a server.
struct Question<'a> {
    accept: &'a str,
    authorization: Option<&'a str>,
    /// What a POST carries; a GET without.
    form: Option<String>,
}

fn parsed(url: &str) -> Result<Uri, Failure> {
    url.parse().map_err(|error| Failure(format!("`{url}`: {error}")))
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let begun = Instant::now();
            let patience = self.progress.patience();
            let frame = async { tokio::time::timeout(patience, self.incoming.frame()).await };
            match self.runtime.block_on(frame) {
                Err(_) => return Err(too_slow()),
                Ok(None) => return Ok(0),
                Ok(Some(Err(error))) => return Err(io::Error::other(error)),
                Ok(Some(Ok(frame))) => {
                    self.piece = frame.into_data().unwrap_or_default();
                    if !self.progress.came(begun.elapsed(), self.piece.len()) {
                        return Err(too_slow());
                    }
                }
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

fn too_slow() -> io::Error {
    let seconds = PATIENCE.as_secs();
    let why = format!("too slow: less than {PROGRESS_BYTES} bytes came within {seconds} s");
    io::Error::new(io::ErrorKind::TimedOut, why)
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(file).into_iter().flatten();
    read.filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_trickles_is_given_up_and_a_slow_one_is_not() {
        let second = Duration::from_secs(1);
        let mut trickle = Progress::default();
        let patient = (0..200).take_while(|_| trickle.came(second, 1)).count();
        assert_eq!(patient, 59);
        let mut slow = Progress::default();
        assert!((0..10_000).all(|_| slow.came(second, 1_200)));
        // What is left for the next piece is what is left of the time.
        let mut late = Progress::default();
        assert!(late.came(PATIENCE - second, 10));
        assert_eq!(late.patience(), second);
        assert!(late.came(Duration::ZERO, PROGRESS_BYTES));
        assert_eq!(late.patience(), PATIENCE);
    }
}
