//! Requests carried on to another HTTP server as they are: the host name stays, since signatures are made over it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE};
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a server may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that are between neighbours only. `Transfer-Encoding` is kept: the library writes the body anew by it.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE];

/// A body that is carried on as it comes.
pub type Body = BoxBody<Bytes, hyper::Error>;

/// An HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// A name that the host resolves, or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS, with a certificate that the host trusts.
    pub tls: bool,
}

impl Upstream {
    /// Its host and port as a URL and `Host` have them.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// Connections of one client to whatever servers it is led to; one is kept for the next request.
#[derive(Default)]
pub(crate) struct Forwarder {
    kept: tokio::sync::Mutex<Option<(Upstream, SendRequest<Body>)>>,
}

impl Forwarder {
    /// Carries a request to the server, and its answer back.
    pub(crate) async fn forward(
        &self,
        upstream: &Upstream,
        roots: &Arc<ClientConfig>,
        request: Request<Body>,
    ) -> io::Result<Response<Body>> {
        let mut sender = self.sender(upstream, roots).await?;
        let (mut head, body) = request.into_parts();
        HOP_BY_HOP.iter().for_each(|name| drop(head.headers.remove(name)));
        // Over TLS or not, a client that was not told of a proxy sends a path; one that sends more is taken by its path.
        head.uri =
            head.uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(io::Error::other)?;
        head.version = http::Version::HTTP_11;
        let answer = sender.send_request(Request::from_parts(head, body)).await.map_err(io::Error::other)?;
        *self.kept.lock().await = Some((upstream.clone(), sender));
        let (mut head, body) = answer.into_parts();
        HOP_BY_HOP.iter().for_each(|name| drop(head.headers.remove(name)));
        Ok(Response::from_parts(head, body.boxed()))
    }

    async fn sender(&self, upstream: &Upstream, roots: &Arc<ClientConfig>) -> io::Result<SendRequest<Body>> {
        if let Some((server, mut sender)) = self.kept.lock().await.take()
            && server == *upstream
            && !sender.is_closed()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let connecting = TcpStream::connect((upstream.host.as_str(), upstream.port));
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        if !upstream.tls {
            return handshake(stream).await;
        }
        let name = ServerName::try_from(upstream.host.clone()).map_err(io::Error::other)?;
        let securing = TlsConnector::from(roots.clone()).connect(name, stream);
        handshake(timeout(CONNECT_TIMEOUT, securing).await.map_err(|_| io::ErrorKind::TimedOut)??).await
    }
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<Body>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Trust in the roots of a PEM bundle, for `https://` servers.
pub(crate) fn trust(bundle: &[u8]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok));
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
