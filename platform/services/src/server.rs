//! The endpoints: one connection at a time comes in, over TLS or plain, and each request goes to its service.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::aws_name::AwsName;
use model::stack::Stack;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::answer::{self, Answer, Refused};
use crate::authority::{self, Authority, AuthorityError};
use crate::forward::{self, Body, Forwarder, Upstream};
use crate::ssm::Ssm;
use crate::vault::{Vault, VaultError};
use crate::{REQUEST_BYTES_MAX, secrets_manager, sts};

/// How long a TLS handshake and a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the body of a request for a service of ours may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the endpoints are told at start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Region that is served.
    pub region: String,
    /// The account of everything.
    pub account_id: String,
    /// Where keys, certificates and values are kept.
    pub folder: PathBuf,
    /// Our own API and doors, for `lambda`, `execute-api` and `lambda-url`.
    pub api: Upstream,
    /// Attached servers by their service's name; they win over what is served here.
    pub attached: BTreeMap<String, Upstream>,
}

/// Whether a connection begins with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// It does, as on port 443.
    Tls,
    /// It is HTTP as it stands, as on port 80.
    Plain,
}

/// Why there are no endpoints.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Parameters and secrets.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// AWS's endpoints of one Region.
pub struct Services {
    options: Options,
    vault: Vault,
    authority: Arc<Authority>,
    acceptor: TlsAcceptor,
    trust: Arc<ClientConfig>,
    /// Role of each function, by its name.
    roles: BTreeMap<String, String>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Services {
    /// Opens the folder's authority and values, and takes the template's.
    ///
    /// # Errors
    /// When the folder cannot be written or what is in it is damaged.
    pub fn open(options: Options, stack: Option<&Stack>) -> Result<Arc<Self>, OpenError> {
        let authority = Arc::new(Authority::open(&options.folder)?);
        let vault = Vault::open(stack, Some(&options.folder.join("values.json")))?;
        let acceptor = TlsAcceptor::from(Arc::new(authority::server_config(authority.clone())?));
        let bundle = std::fs::read(authority.bundle()).unwrap_or_default();
        let trust = forward::trust(&bundle).map_err(AuthorityError::Tls)?;
        let functions = stack.into_iter().flat_map(|stack| &stack.functions);
        let roles =
            functions.filter_map(|function| Some((function.name.clone(), function.role.clone()?))).collect();
        Ok(Arc::new(Self { options, vault, authority, acceptor, trust, roles }))
    }

    /// The bundle of roots for sandboxes, PEM.
    pub fn bundle(&self) -> PathBuf {
        self.authority.bundle()
    }

    /// Where keys, certificates and values are kept.
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// Parameters and secrets.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The names of all services that are answered, attached ones among them.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let own = crate::SERVED.iter().map(|name| (*name).to_owned());
        own.chain(self.options.attached.keys().cloned())
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, security: Security) {
        if security == Security::Plain {
            return self.converse(stream).await;
        }
        match timeout(HEAD_TIMEOUT, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with an AWS endpoint failed"),
            Err(_) => {}
        }
    }

    async fn converse(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let forwarder = Arc::new(Forwarder::default());
        let service = service_fn(move |request| {
            let (services, forwarder) = (self.clone(), forwarder.clone());
            async move { Ok::<_, Infallible>(services.request(&forwarder, request).await) }
        });
        let mut builder = http1::Builder::new();
        let connection = builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an AWS endpoint ended early");
        }
    }

    async fn request(self: &Arc<Self>, forwarder: &Forwarder, request: Request<Incoming>) -> Response<Body> {
        let host = host_of(&request).unwrap_or_default();
        let Some(aws) = AwsName::read(&host) else {
            let message = format!("{host} is no name of AWS's");
            return whole(answer::of_json(Err(Refused::new("UnknownEndpoint", message))));
        };
        if let Some(upstream) = self.upstream(&aws.service) {
            return match forwarder.forward(upstream, &self.trust, request.map(|body| body.boxed())).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(service = %aws.service, server = %upstream, %error, "a request could not be carried on");
                    let message = format!("{} at {upstream} cannot be reached: {error}", aws.service);
                    whole(unavailable(&message))
                }
            };
        }
        let (head, body) = request.into_parts();
        let collected = timeout(BODY_TIMEOUT, Limited::new(body, REQUEST_BYTES_MAX).collect()).await;
        let Ok(Ok(body)) = collected else {
            let message = "The request's body is too large or did not come.";
            return whole(answer::of_json(Err(Refused::new("RequestEntityTooLargeException", message))));
        };
        // What is put is synced to the disk: not on a thread that serves others.
        let (services, body) = (self.clone(), body.to_bytes());
        let answered = tokio::task::spawn_blocking(move || {
            let region = aws.region.as_deref().unwrap_or(&services.options.region);
            let account_id = account_of(&head.headers).unwrap_or(&services.options.account_id);
            services.answer(&aws.service, &head, &body, (account_id, region))
        });
        let answered = answered.await;
        whole(answered.unwrap_or_else(|_| unavailable("internal failure; the platform's log has the cause")))
    }

    /// Whoever answers for a service instead of this room.
    fn upstream(&self, service: &str) -> Option<&Upstream> {
        let ours = ["lambda", "execute-api", "lambda-url"].contains(&service);
        self.options.attached.get(service).or_else(|| ours.then_some(&self.options.api))
    }

    /// The server that is attached as a service: `s3`.
    pub fn attached(&self, service: &str) -> Option<&Upstream> {
        self.options.attached.get(service)
    }

    /// Asks a server something without a body, on a connection of its own; the host's name is the caller's to say.
    ///
    /// # Errors
    /// It cannot be reached, or speaks no HTTP.
    pub async fn ask(
        &self,
        server: &Upstream,
        head: http::request::Parts,
    ) -> std::io::Result<Response<Body>> {
        let nothing = whole(Response::default()).into_body();
        Forwarder::default().forward(server, &self.trust, Request::from_parts(head, nothing)).await
    }

    /// The service that a request is for by its signature or target rather than its host name, if this room answers for
    /// it: for requests that come to another address, as to the port of the API.
    pub fn service_of(&self, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let by_target = text("x-amz-target").and_then(|target| match target.split_once('.')?.0 {
            "AmazonSSM" => Some("ssm"),
            "secretsmanager" => Some("secretsmanager"),
            _ => None,
        });
        let by_scope = || {
            let (_, credential) = text(AUTHORIZATION.as_str())?.split_once("Credential=")?;
            (credential.split([',', ' ']).next()?.split('/').nth(3)? == "sts").then_some("sts")
        };
        by_target.or_else(by_scope)
    }

    /// Answers a request to a service of this room; `caller` is the account and Region of who asks.
    pub fn answer(
        &self,
        service: &str,
        head: &http::request::Parts,
        body: &Bytes,
        caller: (&str, &str),
    ) -> Answer {
        let Options { region, account_id, .. } = &self.options;
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        if service == "sts" {
            let function =
                text("x-amz-security-token").and_then(|token| token.strip_prefix(sts::SESSION_TOKEN_PREFIX));
            let own = caller.0 == account_id;
            let role_arn = function.filter(|_| own).and_then(|function| self.roles.get(function));
            let role_arn = role_arn.map(String::as_str);
            let partition = model::name::partition_of(caller.1);
            let caller = sts::Caller { account_id: caller.0, partition, role_arn, function };
            let form = match head.method {
                Method::GET => head.uri.query().unwrap_or_default(),
                _ => std::str::from_utf8(body).unwrap_or_default(),
            };
            return sts::answer(&caller, form);
        }
        let operation =
            text("x-amz-target").and_then(|target| target.split_once('.')).map_or("", |(_, name)| name);
        of_operation(&self.vault, (region, account_id), service, operation, body)
    }

    /// Turns a request away that did not get as far as its service, in the shape that the service's clients read.
    pub fn refuse(service: &str, error: &model::error::ApiError) -> Answer {
        if service == "sts" { sts::refuse(error) } else { answer::refuse(error) }
    }
}

/// Answers an operation of a service whose requests are JSON; `home` is the Region and the account of what there is.
pub(crate) fn of_operation(
    vault: &Vault,
    (region, account_id): (&str, &str),
    service: &str,
    operation: &str,
    body: &[u8],
) -> Answer {
    let request: Value = match serde_json::from_slice(if body.is_empty() { b"{}" } else { body }) {
        Ok(request @ Value::Object(_)) => request,
        _ => {
            let refused = Refused::new("SerializationException", "The request's body is no JSON object.");
            return answer::of_json(Err(refused));
        }
    };
    answer::of_json(match service {
        "ssm" => Ssm { vault, region, account_id }.answer(operation, &request),
        "secretsmanager" => secrets_manager::answer(vault, operation, &request),
        other => Err(Refused::unknown_operation(other, operation)),
    })
}

/// The account of a function that signs with its own key, where that is not the platform's.
fn account_of(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let id = authorization.split_once("Credential=")?.1.split('/').next()?;
    id.strip_prefix("ASIAONRUSH").filter(|account| model::name::is_account(account))
}

fn host_of(request: &Request<Incoming>) -> Option<String> {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = header.or_else(|| request.uri().host())?;
    Some(host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase())
}

fn unavailable(message: &str) -> Answer {
    let text = serde_json::json!({ "__type": "ServiceUnavailable", "message": message });
    answer::with(StatusCode::SERVICE_UNAVAILABLE, "application/json", text.to_string())
}

fn whole(answer: Answer) -> Response<Body> {
    answer.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::stack;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    fn services(folder: &Path, attached: Option<u16>, api: u16) -> Arc<Services> {
        let upstream = |port| Upstream { host: "127.0.0.1".into(), port, tls: false };
        let options = Options {
            region: "us-east-1".into(),
            account_id: "000000000000".into(),
            folder: folder.to_owned(),
            api: upstream(api),
            attached: attached.map(|port| ("s3".to_owned(), upstream(port))).into_iter().collect(),
        };
        Services::open(options, Some(&stack("db.test"))).unwrap()
    }

    /// One request over TLS to a name, as a client that trusts the bundle sends it; the answer's text.
    async fn ask(services: &Arc<Services>, name: &str, request: &str) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (stream, _) = listener.accept().await?;
        tokio::spawn(services.clone().serve(stream, Security::Tls));
        let trust = forward::trust(&std::fs::read(services.bundle())?).unwrap();
        let server = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(trust).connect(server, client).await?;
        let request = request.replace("HOST", &format!("Host: {name}\r\nConnection: close"));
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A server that answers each request with what it got.
    async fn mirror() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = vec![0; 4_096];
                let length = stream.read(&mut bytes).await.unwrap();
                let head = format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\nX-Own: yes\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&bytes[..length]).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn a_parameter_is_read_over_tls_by_the_services_usual_name() {
        let folder = tempfile::tempdir().unwrap();
        let services = services(folder.path(), None, 1);
        let body = "{\"Name\":\"/shop/db/host\"}";
        let request = format!(
            "POST / HTTP/1.1\r\nHOST\r\nX-Amz-Target: AmazonSSM.GetParameter\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        for name in ["ssm.us-east-1.amazonaws.com", "vpce-1.ssm.us-east-1.vpce.amazonaws.com"] {
            let answer = ask(&services, name, &request).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"Value\":\"db.test\""),
                "{answer}"
            );
            assert!(
                answer.contains("application/x-amz-json-1.1") && answer.contains("x-amzn-requestid"),
                "{answer}"
            );
        }
        let answer =
            ask(&services, "sts.amazonaws.com", "GET /?Action=GetCallerIdentity HTTP/1.1\r\nHOST\r\n\r\n")
                .await;
        assert!(answer.unwrap().contains("<Arn>arn:aws:iam::000000000000:root</Arn>"));
        let error = ask(&services, "www.example.com", "GET / HTTP/1.1\r\nHOST\r\n\r\n").await;
        assert!(error.is_err(), "no certificate for others' names");
    }

    #[tokio::test]
    async fn attached_services_and_our_own_api_get_requests_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let services = services(folder.path(), Some(mirror().await), mirror().await);
        let request = "GET /key?list-type=2 HTTP/1.1\r\nHOST\r\nAuthorization: AWS4\r\nExpect: x\r\n\r\n";
        for name in [
            "carts.s3.us-east-1.amazonaws.com",
            "lambda.us-east-1.amazonaws.com",
            "x.lambda-url.us-east-1.on.aws",
        ] {
            let answer = ask(&services, name, request).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 201 Created") && answer.contains("x-own: yes"), "{answer}");
            assert!(answer.contains("GET /key?list-type=2 HTTP/1.1\r\n"), "{answer}");
            assert!(
                answer.contains(&format!("host: {name}\r\n")) && answer.contains("authorization: AWS4"),
                "{answer}"
            );
            assert!(!answer.contains("expect"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let services = services(folder.path(), None, 1);
        let answer =
            ask(&services, "lambda.us-east-1.amazonaws.com", "GET / HTTP/1.1\r\nHOST\r\n\r\n").await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("http://127.0.0.1:1 cannot be reached"),
            "{answer}"
        );
    }

    #[test]
    fn bodies_that_are_no_objects_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let services = services(folder.path(), None, 1);
        let head = Request::builder()
            .header("x-amz-target", "AmazonSSM.GetParameter")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        for body in ["[]", "{", "\u{0}"] {
            let answer = services.answer("ssm", &head, &Bytes::from(body), ("000000000000", "us-east-1"));
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert!(String::from_utf8_lossy(answer.body()).contains("SerializationException"));
        }
        assert_eq!(services.service_of(&head.headers), Some("ssm"));
    }
}
