//! Which door a request is for.

use crate::arrival::Destination;
use crate::body::Incoming;
use crate::body::{self, BodyError, Wire};
use crate::clients::Clients;
use crate::gateway::{ApiParts, Apis, GatewaySettings, Reached};
use crate::guard::{Permissions, SIGNED_BYTES_MAX, Warned};
use crate::network_pages::NetworkPages;
use crate::orders::Ordered;
use crate::realms::{Opens, Others, Realm};
use crate::signature::Keys;
use crate::streaming::Outgoing;
use crate::urls::Urls;
use crate::{Answer, admin, downloads, function_url, http_api, lambda_rest, rest_api};
use bytes::Bytes;
use control::{Change, Control, Function};
use events::Events;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::Full;
use invoke::{InvokeError, Invoker};
use model::error::{ApiError, ErrorCode};
use model::{LimitId, Refusal};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use telemetry::{Counters, Logs};
use tokio::sync::mpsc;

/// Header that names the limit behind a refusal: `lambda.reserved-concurrency; resource=cart; used=5; max=5`.
pub const LIMIT_HEADER: HeaderName = HeaderName::from_static("x-onrush-limit");

/// Largest request to a service beside Lambda, in bytes: Secrets Manager's values have 64 KiB at most.
const SERVICE_BYTES_MAX: usize = 1 << 20;

/// What load balancers and scripts ask without keys.
const HEALTH: &str = "/_onrush/health";

const NO_HOST: &str = "{\"message\":\"Bad Request: no Host\"}";
const TWO_HOSTS: &str = "{\"message\":\"Bad Request: more than one Host\"}";
const FOREIGN: &str = "{\"message\":\"Onrush serves its API to programs on this machine, not to web pages or under foreign host names; use http://127.0.0.1\"}";

/// What the doors are told at start.
pub struct Options {
    /// Account of every function.
    pub account_id: String,
    /// Region of every function.
    pub region: String,
    /// The account of keys that name none.
    pub home_account_id: String,
    /// Who opens other accounts and Regions; without it there are no others.
    pub opens: Option<Arc<dyn Opens>>,
    /// APIs of the template.
    pub apis: ApiParts,
    /// What holds for them.
    pub gateway: GatewaySettings,
    /// Whether only this machine can reach the doors.
    pub loopback: bool,
    /// The network, where there is one.
    pub network: Option<Arc<dyn NetworkPages>>,
    /// Services beside Lambda that answer on the same port.
    pub services: Option<Arc<dyn OtherServices>>,
    /// Who takes orders for the whole platform.
    pub orders: Option<mpsc::Sender<Ordered>>,
    /// Access keys that are taken; none verifies nothing.
    pub keys: Keys,
    /// What becomes of requests without permission.
    pub permissions: Permissions,
    /// Who may be connected, and how slow they may be.
    pub clients: Clients,
    /// Whether a path that is no operation's belongs to the APIs, as `sam local start-api` has it.
    pub front: bool,
}

/// Services of AWS's beside Lambda, told apart by what an SDK signs and names and not by host.
pub trait OtherServices: Send + Sync {
    /// The service that a request is for, if it is one of these.
    fn takes(&self, headers: &HeaderMap) -> Option<&'static str>;

    /// Its answer to a caller of that account and Region. May wait for the disk.
    fn answer(&self, service: &'static str, head: &Parts, body: &Bytes, caller: &Realm) -> Response<Bytes>;

    /// A refusal, of a signature for instance, in that service's shape.
    fn refuse(&self, service: &'static str, error: &ApiError) -> Response<Bytes>;
}

/// All doors.
pub struct Doors {
    pub(crate) account_id: String,
    pub(crate) region: String,
    pub(crate) home_account_id: String,
    pub(crate) control: Arc<Control>,
    pub(crate) invoker: Invoker,
    pub(crate) events: Events,
    pub(crate) logs: Logs,
    pub(crate) counters: Arc<Counters>,
    apis: RwLock<Arc<Apis>>,
    gateway: GatewaySettings,
    urls: RwLock<Urls>,
    loopback: bool,
    services: Option<Arc<dyn OtherServices>>,
    pub(crate) network: Option<Arc<dyn NetworkPages>>,
    pub(crate) orders: Option<mpsc::Sender<Ordered>>,
    pub(crate) keys: Keys,
    pub(crate) permissions: Permissions,
    pub(crate) warned: Warned,
    pub(crate) others: Others,
    pub(crate) clients: Arc<Clients>,
    front: bool,
}

/// A request that was told apart, with its path as the door sees it.
enum Target {
    /// A function URL; of other doors than these if they are named.
    Url(Option<Arc<Doors>>, Destination, String),
    HttpApi(Reached<http_api::Api>),
    RestApi(Reached<rest_api::Api>),
    Admin,
    /// Code, by a location that was given out.
    Download,
    Rest,
    Service(&'static str),
    Unknown(&'static str),
    /// `/_onrush/door/` with a word that no door has.
    NoDoor(String),
    /// A web page of somebody else's drives a browser on this machine.
    Foreign,
    /// HTTP/1.1 asks for one (RFC 9112, 3.2).
    NoHost,
    /// Which of them is meant, another server may see otherwise.
    TwoHosts,
}

impl Doors {
    /// Doors in front of `control` and `invoker`. They know of no URL before [`Doors::look`], and each change is to be
    /// told to [`Doors::apply`] from then on.
    pub fn new(
        options: Options,
        control: Arc<Control>,
        invoker: Invoker,
        events: Events,
        logs: Logs,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            account_id: options.account_id,
            region: options.region,
            home_account_id: options.home_account_id,
            control,
            events,
            logs,
            counters,
            apis: RwLock::new(Apis::new(invoker.now(), options.apis, &options.gateway)),
            gateway: options.gateway,
            invoker,
            urls: RwLock::default(),
            loopback: options.loopback,
            services: options.services,
            network: options.network,
            keys: options.keys,
            permissions: options.permissions,
            warned: Warned::default(),
            others: Others::new(options.opens),
            orders: options.orders,
            clients: Arc::new(options.clients),
            front: options.front,
        }
    }

    /// Other APIs: those of a template that was changed. Their limits begin anew.
    pub fn set_apis(&self, parts: ApiParts) {
        let apis = Apis::new(self.invoker.now(), parts, &self.gateway);
        *self.apis.write().unwrap_or_else(PoisonError::into_inner) = apis;
    }

    /// The same APIs, with limits, caches and authorizers' answers that begin anew; a request that runs keeps the old ones.
    pub(crate) fn reset_apis(&self) {
        let mut apis = self.apis.write().unwrap_or_else(PoisonError::into_inner);
        *apis = apis.anew(self.invoker.now(), &self.gateway);
    }

    pub(crate) fn apis(&self) -> Arc<Apis> {
        self.apis.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at all functions' URLs and names in the template; plain ones have neither.
    pub fn look(&self) {
        // Locked before the functions are listed, so that no change comes between.
        let mut urls = self.urls.write().unwrap_or_else(PoisonError::into_inner);
        for function in self.control.known_functions() {
            urls.put(&function);
        }
    }

    /// Takes over what changed in the control room.
    pub fn apply(&self, change: &Change) {
        let mut urls = self.urls.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Put(function) => urls.put(function),
            Change::Removed { name } => urls.remove(name),
            // A destination's function says where the code is; its reservation is the dispatcher's.
            Change::Reserved { .. } => {}
        }
    }

    /// Answers one request; whatever goes wrong is an answer, too.
    ///
    /// # Errors
    /// None.
    pub async fn answer(
        self: &Arc<Self>,
        request: Request<hyper::body::Incoming>,
        peer: IpAddr,
        port: u16,
    ) -> Result<Response<Outgoing>, Infallible> {
        let target = self.target(&request);
        let (mut head, incoming) = request.into_parts();
        let incoming = Incoming::Wire(Wire::new(&head, incoming, self.clients.clone()));
        // A template's parameters and secrets are in one Region; who one is, and functions, are in any.
        let (region, service) = match target {
            Target::Rest => (None, Some("lambda")),
            Target::Service("sts") | Target::Admin => (None, None),
            _ => (Some(self.region.as_str()), None),
        };
        let guarded = matches!(target, Target::Rest | Target::Service(_))
            || (matches!(target, Target::Admin) && head.uri.path() != HEALTH);
        let mut signer = None;
        let incoming = match guarded && self.verifies() {
            true => match self.authenticate(&head, incoming, (region, service), SIGNED_BYTES_MAX).await {
                Ok((found, incoming)) => {
                    signer = Some(found);
                    incoming
                }
                Err(failure) => return Ok(self.turned_away(&target, &failure).map(Outgoing::from)),
            },
            false => incoming,
        };
        let realm = guarded.then(|| self.realm_of(&head, signer.as_ref())).flatten();
        let other = match (&target, &realm) {
            (Target::Rest | Target::Admin, Some(realm)) => match self.of(realm.clone()).await {
                Ok(doors) => Some(doors),
                Err(failure) => return Ok(lambda_rest::error(&failure).map(Outgoing::from)),
            },
            _ => None,
        };
        let doors = other.as_ref().unwrap_or(self);
        let whole = match target {
            Target::Url(of, destination, path) => {
                let doors = of.as_ref().unwrap_or(self);
                return Ok(
                    function_url::answer(doors, &destination, &path, &head, incoming, peer, port).await
                );
            }
            Target::Rest => {
                if let Some(signer) = signer {
                    head.extensions.insert(signer);
                }
                return Ok(lambda_rest::answer(doors, head, incoming).await);
            }
            Target::HttpApi(reached) => http_api::answer(self, &reached, &head, incoming, peer, port).await,
            Target::RestApi(reached) => {
                return Ok(rest_api::answer(self, &reached, &head, incoming, peer, port).await);
            }
            Target::Admin => admin::answer(doors, &head, incoming).await,
            Target::Download => return Ok(downloads::answer(self, &head).await),
            Target::Service(service) => {
                let caller = realm.unwrap_or_else(|| self.realm());
                self.other_service(service, head, incoming, caller).await
            }
            Target::Unknown(body) => json(StatusCode::FORBIDDEN, body),
            Target::NoDoor(word) => self.no_door(&word),
            Target::Foreign => json(StatusCode::FORBIDDEN, FOREIGN),
            Target::NoHost => json(StatusCode::BAD_REQUEST, NO_HOST),
            Target::TwoHosts => json(StatusCode::BAD_REQUEST, TWO_HOSTS),
        };
        Ok(whole.map(Outgoing::from))
    }

    fn turned_away(&self, target: &Target, failure: &ApiError) -> Answer {
        match (target, &self.services) {
            (Target::Service(service), Some(services)) => services.refuse(service, failure).map(Full::new),
            _ => lambda_rest::error(failure),
        }
    }

    async fn other_service(
        &self,
        service: &'static str,
        head: Parts,
        incoming: Incoming,
        caller: Realm,
    ) -> Answer {
        let Some(services) = self.services.clone() else { return json(StatusCode::NOT_FOUND, "{}") };
        let too_large = || {
            let message = format!("A request is at most {SERVICE_BYTES_MAX} bytes here.");
            let error = ApiError::new(ErrorCode::RequestEntityTooLarge, message);
            services.refuse(service, &error).map(Full::new)
        };
        let body = match read_body_or(incoming, SERVICE_BYTES_MAX, too_large).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let answered =
            tokio::task::spawn_blocking(move || services.answer(service, &head, &body, &caller)).await;
        answered
            .map_or_else(|_| json(StatusCode::INTERNAL_SERVER_ERROR, "{}"), |answer| answer.map(Full::new))
    }

    fn no_door(&self, word: &str) -> Answer {
        let mut doors: Vec<_> = self.list(0).into_iter().map(|(id, _)| id).collect();
        doors.dedup();
        let there = if doors.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there is {}", doors.join(", "))
        };
        let message = format!("no door has the logical id {word}; {there}");
        json(StatusCode::NOT_FOUND, serde_json::json!({ "message": message }).to_string())
    }

    fn target(&self, request: &Request<hyper::body::Incoming>) -> Target {
        let path = request.uri().path();
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = hosts.next();
        if host.is_none() && request.version() > Version::HTTP_10 {
            return Target::NoHost;
        }
        if hosts.next().is_some() {
            return Target::TwoHosts;
        }
        let host = host.and_then(|host| host.to_str().ok());
        // A target with a name of its own is for that name, whatever the header says (RFC 9112, 3.2.2).
        let named = request.uri().authority().map(http::uri::Authority::as_str);
        let host = named.or(host).unwrap_or("");
        let mut labels = host.split('.');
        let (first, second) = (labels.next().unwrap_or(""), labels.next().unwrap_or(""));
        match second {
            "lambda-url" => {
                let at = |doors: &Doors| {
                    doors.urls.read().unwrap_or_else(PoisonError::into_inner).by_id(first).cloned()
                };
                let found = at(self).map(|destination| (None, destination));
                let found = found
                    .or_else(|| self.others.look(at).map(|(doors, destination)| (Some(doors), destination)));
                match found {
                    Some((of, destination)) => Target::Url(of, destination, path.to_owned()),
                    // As AWS answers for a host name that belongs to no function.
                    None => Target::Unknown("{\"Message\":null}"),
                }
            }
            "execute-api" => {
                let found = self.api(|http| http.api_id() == first, |rest| rest.api_id() == first, path);
                found.unwrap_or(Target::Unknown("{\"message\":\"Forbidden\"}"))
            }
            _ => match self.target_by_path(path) {
                Target::Rest if self.front && !is_operation(path) => self.front(request.method(), path),
                // Function URLs and HTTP APIs are made for browsers; the control plane is not.
                Target::Rest | Target::Admin | Target::Download
                    if !self.is_local(host, request.headers()) =>
                {
                    Target::Foreign
                }
                Target::Rest if path == "/" => {
                    let service =
                        self.services.as_ref().and_then(|services| services.takes(request.headers()));
                    service.map_or(Target::Rest, Target::Service)
                }
                target => target,
            },
        }
    }

    /// The first API that one of the two is for.
    fn api(
        &self,
        http: impl Fn(&http_api::Api) -> bool,
        rest: impl Fn(&rest_api::Api) -> bool,
        path: &str,
    ) -> Option<Target> {
        let apis = self.apis();
        if let Some(api) = apis.http.iter().find(|api| http(api)).cloned() {
            return Some(Target::HttpApi(Reached { apis, api, path: path.to_owned() }));
        }
        let api = apis.rest.iter().find(|api| rest(api)).cloned()?;
        Some(Target::RestApi(Reached { apis, api, path: path.to_owned() }))
    }

    /// The API that serves a path, or else the first one, which answers as APIs do. A REST API is served without its
    /// first stage's name before the path.
    fn front(&self, method: &http::Method, path: &str) -> Target {
        let method = method.as_str();
        let serves = self.api(|http| http.serves(method, path), |rest| rest.serves(method, path), path);
        match serves.or_else(|| self.api(|_| true, |_| true, path)) {
            Some(Target::RestApi(reached)) => {
                let path = match reached.api.first_stage() {
                    "" => reached.path,
                    stage => format!("/{stage}{}", reached.path),
                };
                Target::RestApi(Reached { path, ..reached })
            }
            found => found.unwrap_or(Target::Rest),
        }
    }

    /// Whether a request for the API comes from a client on purpose, and not from a web page through somebody's browser
    /// (a cross-site request, or a name of the page's own that was rebound to this address).
    fn is_local(&self, host: &str, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(origin) = text("origin") {
            let origin_host = origin.split_once("://").map_or("", |(_, host)| host);
            if !is_own_name(origin_host) {
                return false;
            }
        } else if text("sec-fetch-site") == Some("cross-site") {
            return false;
        }
        !self.loopback || is_own_name(host) || host.is_empty()
    }

    fn target_by_path(&self, path: &str) -> Target {
        if path.starts_with(downloads::PATH) {
            return Target::Download;
        }
        let Some(own) = path.strip_prefix("/_onrush/") else { return Target::Rest };
        let Some(door) = own.strip_prefix("door/") else { return Target::Admin };
        let (word, rest) = door.split_once('/').unwrap_or((door, ""));
        let rest = format!("/{rest}");
        let api = self.api(|http| http.logical_id() == word, |rest| rest.logical_id() == word, &rest);
        if let Some(api) = api {
            return api;
        }
        let urls = self.urls.read().unwrap_or_else(PoisonError::into_inner);
        match urls.by_word(word) {
            Some(destination) => Target::Url(None, destination.clone(), rest),
            None => Target::NoDoor(word.to_owned()),
        }
    }

    pub(crate) fn function_by_logical_id(&self, id: &str) -> Option<Arc<Function>> {
        self.urls.read().unwrap_or_else(PoisonError::into_inner).by_logical_id(id).cloned()
    }

    /// URLs of the doors, for people: logical id or function name, and where it answers.
    pub fn list(&self, port: u16) -> Vec<(String, String)> {
        let region = &self.region;
        let urls = self.urls.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = urls
            .iter()
            .map(|(id, Destination { function, qualifier, .. })| {
                let word = function.logical_id.as_ref().unwrap_or(&function.name);
                let word = match qualifier {
                    // Only where the function itself has a URL, too, the word alone is not enough.
                    Some(alias) if function.url.is_some() => format!("{word}:{alias}"),
                    _ => word.clone(),
                };
                (word, format!("http://{id}.lambda-url.{region}.localhost:{port}/"))
            })
            .collect();
        let apis = self.apis();
        let door = |logical_id: &str, api_id: &str, stage: &str| {
            (logical_id.to_owned(), format!("http://{api_id}.execute-api.{region}.localhost:{port}/{stage}"))
        };
        all.extend(apis.http.iter().map(|api| door(api.logical_id(), api.api_id(), "")));
        all.extend(apis.rest.iter().map(|api| door(api.logical_id(), api.api_id(), api.first_stage())));
        all.sort();
        all
    }
}

/// Whether a path may be one of the Lambda API's: all of them begin with a date.
fn is_operation(path: &str) -> bool {
    let date = path.as_bytes().get(1..11).unwrap_or_default();
    date.len() == 10
        && date
            .iter()
            .enumerate()
            .all(|(n, byte)| if n == 4 || n == 7 { *byte == b'-' } else { byte.is_ascii_digit() })
}

/// Whether a host is a loopback name, an address, or one of AWS's own names that an SDK was told to send here.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => return rest.split(']').next().is_some_and(|address| address.parse::<IpAddr>().is_ok()),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok()
        // A name without a dot is no domain of anybody's; a container or a hosts file gave it.
        || (!name.is_empty() && !name.contains('.'))
        || [".localhost", ".docker.internal"].iter().any(|suffix| name.ends_with(suffix))
        // Below on.aws are function URLs, which are anybody's.
        || (model::aws_name::is_aws(name) && !name.ends_with(".on.aws"))
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Names the limit on an answer.
pub(crate) fn name_limit(answer: &mut Answer, refusal: &Refusal) {
    if let Ok(value) = HeaderValue::from_str(&limit_text(refusal)) {
        answer.headers_mut().insert(LIMIT_HEADER, value);
    }
}

/// An answer to a request that a limit refused.
pub(crate) fn with_limit(mut answer: Answer, refusal: &Refusal) -> Answer {
    name_limit(&mut answer, refusal);
    answer
}

/// An answer to a request whose function could not be run, with the limit behind that.
pub(crate) fn with_cause(mut answer: Answer, error: &InvokeError) -> Answer {
    match error {
        InvokeError::Refused(refusal) => name_limit(&mut answer, refusal),
        InvokeError::NoFunction(_) | InvokeError::NotReady(_) | InvokeError::Restore(_) => {}
        InvokeError::Host(_) => name_limit_id(&mut answer, LimitId::HostSandboxes),
    }
    answer
}

/// What [`LIMIT_HEADER`] says.
pub(crate) fn limit_text(refusal: &Refusal) -> String {
    let Refusal { limit, resource, used, max, .. } = refusal;
    format!("{limit}; resource={resource}; used={used}; max={max}")
}

/// The body, or the event that it became, is larger than a function may be given.
pub(crate) fn too_large() -> Answer {
    let mut answer = json(StatusCode::PAYLOAD_TOO_LARGE, "{\"message\":\"Request Entity Too Large\"}");
    name_limit_id(&mut answer, LimitId::PayloadSize);
    answer
}

/// Names a limit on an answer where no figures are at hand.
pub(crate) fn name_limit_id(answer: &mut Answer, limit: LimitId) {
    answer.headers_mut().insert(LIMIT_HEADER, HeaderValue::from_static(limit.as_str()));
}

/// Reads a door's body, or says in AWS's words why not.
pub(crate) async fn read_body(
    incoming: Incoming,
    limit: usize,
    too_large: &'static str,
) -> Result<Bytes, Answer> {
    read_body_or(incoming, limit, || json(StatusCode::PAYLOAD_TOO_LARGE, too_large)).await
}

/// The same, in the words of `too_large` where it is that.
async fn read_body_or(
    incoming: Incoming,
    limit: usize,
    too_large: impl FnOnce() -> Answer,
) -> Result<Bytes, Answer> {
    body::read(incoming, limit).await.map_err(|error| match error {
        BodyError::TooLarge => {
            let mut answer = too_large();
            name_limit_id(&mut answer, LimitId::PayloadSize);
            answer.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            answer
        }
        BodyError::TooSlow => {
            let mut answer = json(StatusCode::REQUEST_TIMEOUT, "{\"message\":\"Request Timeout\"}");
            name_limit_id(&mut answer, LimitId::HostClientTimeout);
            answer
        }
        BodyError::Broken => json(StatusCode::BAD_REQUEST, "{\"message\":\"Bad Request\"}"),
    })
}

/// Why a door could not run its function, for its log.
pub(crate) fn log_failure(door: &str, error: &InvokeError) {
    match error {
        InvokeError::Refused(_) => {}
        InvokeError::NoFunction(name) => {
            tracing::warn!(door, function = %name, "a door leads to no function");
        }
        InvokeError::NotReady(_) => tracing::warn!(door, "{error}"),
        InvokeError::Restore(failure) => tracing::warn!(door, "{failure}"),
        InvokeError::Host(cause) => tracing::error!(door, %cause, "this host could not run a function"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_and_aws_own_reach_the_api() {
        for host in [
            "127.0.0.1:4566",
            "localhost:4566",
            "[::1]:4566",
            "10.0.0.7",
            "lambda.us-east-1.amazonaws.com",
            "lambda.eusc-de-east-1.amazonaws.eu",
            "lambda.us-east-1.api.aws",
            "lambda.cn-north-1.api.amazonwebservices.com.cn",
            "host.docker.internal:4566",
            "onrush:4566",
            "x.localhost",
        ] {
            assert!(is_own_name(host), "{host}");
        }
        for host in [
            "evil.example.com:4566",
            "localhost.evil.example.com",
            "127.0.0.1.nip.example",
            "evil.lambda-url.us-east-1.on.aws",
            "",
            "[evil]",
        ] {
            assert!(!is_own_name(host), "{host}");
        }
    }
}
