//! What stands before the functions of APIs: throttles, usage plans, stages' caches and integration time-outs, by the
//! planner's engines on real time.

pub(crate) mod patience;

use crate::arrival::{Arrival, Destination, NotAdmitted};
use crate::body::Incoming;
use crate::router::{Doors, log_failure};
use crate::{Answer, http_api, rest_api};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use invoke::{Answered, InvokeError, Invoked, ResponseStream, request_id};
use limits::api_throttle::{ApiSettings, ApiThrottle, Calendar, ClientId, MethodId, Throttle};
use limits::gateway::{self, MethodCache, MethodSettings, PlanKey};
use limits::response_cache::{CacheKey, Invalidated, Invalidation};
use limits::{IntegrationTimeout, ResponseCache};
use model::stack::{ApiKey, ApiRoute, EndpointType, HttpApi, RestApi, Stack, Stage, UsagePlan};
use model::{Instant, LimitRow, Refusal};
use patience::Patience;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes that this machine keeps of one stage's responses, whatever the size of its cache: those of AWS have up to
/// 237 GB. What does not fit is made again.
const CACHE_BYTES_MAX: u64 = 256 << 20;

/// What a template says of API Gateway.
#[derive(Clone, Debug, Default)]
pub struct ApiParts {
    /// HTTP APIs.
    pub http_apis: Vec<HttpApi>,
    /// REST APIs.
    pub rest_apis: Vec<RestApi>,
    /// Usage plans.
    pub usage_plans: Vec<UsagePlan>,
    /// API keys.
    pub api_keys: Vec<ApiKey>,
}

impl From<&Stack> for ApiParts {
    fn from(stack: &Stack) -> Self {
        Self {
            http_apis: stack.http_apis.clone(),
            rest_apis: stack.rest_apis.clone(),
            usage_plans: stack.usage_plans.clone(),
            api_keys: stack.api_keys.clone(),
        }
    }
}

/// The figures of API Gateway.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// The account's, and what the user gives.
    pub throttle: ApiSettings,
    /// The user's own integration time-out for every route.
    pub integration_timeout: Option<Duration>,
    /// The user's own time-out for silences of responses that stream.
    pub stream_idle_timeout: Option<Duration>,
    /// Authorizers of any kind are not asked.
    pub disable_authorizers: bool,
}

/// All APIs with the limits before them.
#[derive(Debug)]
pub(crate) struct Apis {
    pub(crate) http: Vec<Arc<http_api::Api>>,
    pub(crate) rest: Vec<Arc<rest_api::Api>>,
    pub(crate) gateway: Gateway,
    /// What they were made of, for a reset.
    parts: ApiParts,
}

impl Apis {
    /// Full buckets and empty caches.
    pub(crate) fn new(now: Instant, parts: ApiParts, settings: &GatewaySettings) -> Arc<Self> {
        let calendar = Calendar(telemetry::unix_millis() / 1_000);
        let mut making = Making {
            now,
            settings,
            engines: Engines {
                throttle: ApiThrottle::new(now, ApiSettings { calendar, ..settings.throttle.clone() }),
                timeouts: Vec::new(),
                caches: Vec::new(),
                namespaces: HashMap::new(),
            },
            clients: Vec::new(),
        };
        making.keys(&parts);
        let kept = parts.clone();
        let http = parts.http_apis.into_iter().map(|api| Arc::new(http_api::Api::new(api, &mut making)));
        let http = http.collect();
        let rest = parts.rest_apis.into_iter().map(|api| Arc::new(rest_api::Api::new(api, &mut making)));
        let rest = rest.collect();
        let gateway = Gateway {
            engines: Mutex::new(making.engines),
            clients: making.clients,
            secret: RandomState::new(),
        };
        Arc::new(Self { http, rest, gateway, parts: kept })
    }

    /// The same APIs as at the start: full buckets and quotas, empty caches, no authorizer's answer.
    pub(crate) fn anew(&self, now: Instant, settings: &GatewaySettings) -> Arc<Self> {
        Self::new(now, self.parts.clone(), settings)
    }

    /// Asks a function whose response may begin before it ends, and waits until then, but no longer than the response may take
    /// or be silent. With it what is left of its time.
    pub(crate) async fn ask_for_stream(
        self: &Arc<Self>,
        doors: &Doors,
        (kind, spot): (&str, Spot),
        arrival: Arrival<'_>,
        destination: &Destination,
        incoming: Incoming,
        event: impl FnOnce(&Bytes, &str) -> Bytes,
    ) -> Result<(ResponseStream, Patience), Asked> {
        let (admission, request) =
            match arrival.admit(doors, destination, request_id(), incoming, event).await {
                Ok(admitted) => admitted,
                Err(NotAdmitted::Failed(error)) => return Err(failed(kind, error)),
                Err(NotAdmitted::Answered(answer)) => return Err(Asked::Answered(answer)),
            };
        let mut patience = Patience::new(self, &doors.invoker, spot);
        match patience.over(admission.run_streaming(request)).await {
            Ok(Ok(Answered::Stream(stream))) => Ok((stream, patience)),
            Ok(Ok(Answered::Whole(invoked))) => Err(Asked::Invoked(invoked)),
            Ok(Err(error)) => Err(failed(kind, error)),
            Err(refusal) => {
                tracing::info!(limit = %refusal.limit, resource = %refusal.resource, function = %destination.function.name, max_ms = refusal.max, "timed out");
                Err(Asked::Slow(refusal))
            }
        }
    }
}

/// An API that a request is for, with the path as the API sees it.
#[derive(Debug)]
pub(crate) struct Reached<A> {
    pub(crate) apis: Arc<Apis>,
    pub(crate) api: Arc<A>,
    pub(crate) path: String,
}

/// Where a route of a stage stands among the limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    method: MethodId,
    timeout: usize,
    /// Of a route that streams.
    idle: Option<usize>,
    cached: Option<Cached>,
}

/// Where the routes of an API stand, by stage and in the template's order.
#[derive(Debug)]
pub(crate) struct Spots(Vec<Vec<Spot>>);

impl Spots {
    /// Of a route in one of the API's stages; an API without stages has one set of spots.
    pub(crate) fn of(&self, stages: &[Stage], stage: Option<&Stage>, route: usize) -> Spot {
        let stage = stage.and_then(|stage| stages.iter().position(|known| known.name == stage.name));
        self.0[stage.unwrap_or(0)][route]
    }
}

/// What became of a request at the function behind a route.
pub(crate) enum Asked {
    /// The function's result.
    Invoked(Invoked),
    /// The gateway waits no longer.
    Slow(Refusal),
    /// A limit, or nothing that could run it.
    Failed(InvokeError),
    /// The request itself is at fault: its answer.
    Answered(Box<Answer>),
}

/// How a route meets its stage's cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cached {
    cache: usize,
    namespace: u32,
    ttl: Duration,
}

/// An API key that a request came with.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    id: ClientId,
    key: ApiKey,
    plan: PlanKey,
}

impl Client {
    pub(crate) fn value(&self) -> &str {
        &self.key.value
    }

    pub(crate) fn key_id(&self) -> &str {
        &self.key.key_id
    }
}

/// A response of a stage's cache.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What the cache says to a request.
pub(crate) enum Looked {
    /// It answers.
    Hit(Kept),
    /// It does not; the answer may be kept there.
    Miss(CacheKey),
}

/// The limits before all APIs.
#[derive(Debug)]
pub(crate) struct Gateway {
    engines: Mutex<Engines>,
    clients: Vec<Client>,
    /// Words of cache keys come from clients.
    secret: RandomState,
}

#[derive(Debug)]
struct Engines {
    throttle: ApiThrottle,
    timeouts: Vec<IntegrationTimeout>,
    caches: Vec<ResponseCache<Kept>>,
    namespaces: HashMap<(usize, String), u32>,
}

impl Gateway {
    fn engines(&self) -> MutexGuard<'_, Engines> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client whose API key this is, if API Gateway takes the key for a method of a stage.
    pub(crate) fn client(&self, value: &str, api: &str, stage: &str) -> Option<&Client> {
        let takes = |client: &&Client| {
            client.key.value == value
                && client.plan.enabled
                && client.plan.stages.iter().any(|(at, name, _)| at == api && name == stage)
        };
        self.clients.iter().find(takes)
    }

    /// Lets one request pass, or names the first limit that is used up.
    pub(crate) fn admit(&self, now: Instant, spot: Spot, client: Option<&Client>) -> Result<(), Refusal> {
        let mut engines = self.engines();
        let way = engines.throttle.way(spot.method, client.map(|client| client.id));
        engines.throttle.admit(now, &way)
    }

    /// Asks a function, and waits as long as a route's integration may take. `kind` is the API's, for the log.
    pub(crate) async fn ask(
        &self,
        doors: &Doors,
        (kind, spot): (&str, Spot),
        arrival: Arrival<'_>,
        destination: &Destination,
        incoming: Incoming,
        event: impl FnOnce(&Bytes, &str) -> Bytes,
    ) -> Asked {
        let begun = doors.invoker.now();
        let (admission, request) =
            match arrival.admit(doors, destination, request_id(), incoming, event).await {
                Ok(admitted) => admitted,
                Err(NotAdmitted::Failed(error)) => return failed(kind, error),
                Err(NotAdmitted::Answered(answer)) => return Asked::Answered(answer),
            };
        let patience = self.engines().timeouts[spot.timeout].timeout();
        let ran = tokio::time::timeout(patience, admission.run(request)).await;
        let now = doors.invoker.now();
        let timeout = &mut self.engines().timeouts[spot.timeout];
        match ran {
            Ok(Ok(ran)) => {
                timeout.answered(now.since(begun));
                Asked::Invoked(ran)
            }
            Ok(Err(error)) => failed(kind, error),
            Err(_) => {
                let refusal = timeout.expired(now);
                tracing::info!(limit = %refusal.limit, resource = %refusal.resource, function = %destination.function.name, max_ms = refusal.max, "timed out");
                Asked::Slow(refusal)
            }
        }
    }

    /// How long a response that streams may take, and how long it may be silent.
    fn stream_times(&self, spot: Spot) -> (Duration, Duration) {
        let timeouts = &self.engines().timeouts;
        let total = timeouts[spot.timeout].timeout();
        (total, spot.idle.map_or(total, |idle| timeouts[idle].timeout()))
    }

    /// A response that streams is waited for no longer; whether for its silence.
    fn stream_expired(&self, now: Instant, spot: Spot, silent: bool) -> Refusal {
        self.expired(spot.idle.filter(|_| silent).unwrap_or(spot.timeout), now)
    }

    /// A response that streams has ended in time.
    fn streamed(&self, spot: Spot, took: Duration, longest_gap: Duration) {
        self.answered(spot.timeout, took);
        if let Some(idle) = spot.idle {
            self.answered(idle, longest_gap);
        }
    }

    /// An authorizer's function has answered in time.
    pub(crate) fn answered(&self, timeout: usize, took: Duration) {
        self.engines().timeouts[timeout].answered(took);
    }

    /// An authorizer is waited for no longer.
    pub(crate) fn expired(&self, timeout: usize, now: Instant) -> Refusal {
        self.engines().timeouts[timeout].expired(now)
    }

    /// The word that stands for a request's cache key parameters.
    pub(crate) fn cache_word(&self, values: &[Option<String>]) -> u64 {
        if values.is_empty() { 0 } else { self.secret.hash_one(values) }
    }

    /// Asks a stage's cache; `anew`: the request wants its entry made anew, and whether it may. The second value says
    /// whether the answer has a `Warning` header.
    pub(crate) fn look(&self, now: Instant, cached: Cached, word: u64, anew: Option<bool>) -> (Looked, bool) {
        let mut engines = self.engines();
        let cache = &mut engines.caches[cached.cache];
        let key = CacheKey { method: cached.namespace, word };
        // CloudFormation knows no other rule than that of a new stage.
        let warning = anew.is_some_and(|authorised| {
            cache.invalidate(key, Invalidation::default(), authorised)
                == Invalidated::AsUsual { warning: true }
        });
        match cache.get(now, key) {
            Some(kept) => (Looked::Hit(kept.clone()), warning),
            None => (Looked::Miss(key), warning),
        }
    }

    /// Keeps a response.
    pub(crate) fn keep(&self, now: Instant, cached: Cached, key: CacheKey, kept: Kept) {
        let of_headers = kept.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let bytes = kept.body.len() + of_headers.sum::<usize>();
        self.engines().caches[cached.cache].put(now, key, bytes as u64, cached.ttl, kept);
    }

    /// The board's rows; of time-outs those that something waited for.
    pub(crate) fn board(&self, now: Instant) -> Vec<LimitRow> {
        let engines = self.engines();
        let mut rows = engines.throttle.board(now);
        let timeouts = engines.timeouts.iter().map(IntegrationTimeout::row);
        rows.extend(timeouts.filter(|row| row.peak > 0 || row.refused > 0));
        rows.extend(engines.caches.iter().map(ResponseCache::row));
        rows
    }
}

fn failed(kind: &str, error: InvokeError) -> Asked {
    log_failure(kind, &error);
    Asked::Failed(error)
}

/// Limits while the APIs are made.
pub(crate) struct Making<'a> {
    now: Instant,
    settings: &'a GatewaySettings,
    engines: Engines,
    clients: Vec<Client>,
}

impl Making<'_> {
    fn keys(&mut self, parts: &ApiParts) {
        for plan in gateway::plan_keys(&parts.usage_plans, &parts.api_keys) {
            let Some(key) = parts.api_keys.iter().find(|key| key.id == plan.key) else { continue };
            let throttle = &mut self.engines.throttle;
            let id = throttle.add_client(self.now, plan.resource().into(), plan.throttle, plan.quota);
            self.clients.push(Client { id, key: key.clone(), plan });
        }
    }

    /// The routes of an HTTP API, for each of its stages.
    pub(crate) fn http(&mut self, api: &HttpApi) -> Spots {
        let stages = stages(&api.stages);
        let of_stage = stages.into_iter().map(|stage| {
            let name = stage.map_or("$default", |stage| &stage.name);
            let spot = |route: &ApiRoute| {
                let throttle = stage.map(|stage| gateway::route_throttle(stage, route));
                self.spot((&api.id, name, None), route, throttle.unwrap_or_default())
            };
            api.routes.iter().map(spot).collect()
        });
        Spots(of_stage.collect())
    }

    /// The methods of a REST API, for each of its stages.
    pub(crate) fn rest(&mut self, api: &RestApi) -> Spots {
        let stages = stages(&api.stages);
        let of_stage = stages.into_iter().map(|stage| {
            let name = stage.map_or("", |stage| &stage.name);
            let cache = stage.and_then(gateway::cache_bytes).map(|bytes| self.cache(&api.id, name, bytes));
            let spot = |route: &ApiRoute| {
                let settings = stage.map(|stage| MethodSettings::of(stage, route)).unwrap_or_default();
                let mut spot = self.spot((&api.id, name, Some(api.endpoint_type)), route, settings.throttle);
                let kept = cache.and_then(|cache| Some((cache, settings.cache(route)?)));
                spot.cached = kept.map(|(cache, method)| self.cached(cache, &method));
                spot
            };
            api.routes.iter().map(spot).collect()
        });
        Spots(of_stage.collect())
    }

    fn spot(
        &mut self,
        (api, stage, endpoint): (&str, &str, Option<EndpointType>),
        route: &ApiRoute,
        own: Throttle,
    ) -> Spot {
        let at = match stage {
            "" | "$default" => api.to_owned(),
            stage => format!("{api}/{stage}"),
        };
        let resource: Arc<str> = format!("{at} {}", route.route_key).into();
        let engines = &mut self.engines;
        let method = engines.throttle.add_method(self.now, Arc::clone(&resource), own);
        for client in self.clients.iter().filter(|_| route.api_key_required) {
            if let Some(own) = client.plan.at(api, stage, &route.path, &route.method) {
                engines.throttle.add_client_method(self.now, client.id, method, own);
            }
        }
        let (timeout, source) = match self.settings.integration_timeout {
            Some(given) => (given, "given with --limit"),
            None => (
                gateway::integration_timeout(route).unwrap_or_default(),
                "the template; API Gateway Developer Guide, Quotas: HTTP APIs 30 s, REST APIs 29 s by default",
            ),
        };
        engines.timeouts.push(IntegrationTimeout::new(Arc::clone(&resource), timeout, source.into()));
        let timeout = engines.timeouts.len() - 1;
        let streams = route.integration.as_ref().is_some_and(|integration| integration.streams);
        let idle = endpoint.filter(|_| streams).map(|endpoint| {
            let (idle, source) = match self.settings.stream_idle_timeout {
                Some(given) => (given, "given with --limit"),
                None => (
                    gateway::stream_idle_timeout(endpoint),
                    "API Gateway Developer Guide, Stream the integration response: 30 s at edge-optimised endpoints, else 5 minutes",
                ),
            };
            engines.timeouts.push(IntegrationTimeout::idle(resource, idle, source.into()));
            engines.timeouts.len() - 1
        });
        Spot { method, timeout, idle, cached: None }
    }

    /// Whether authorizers are not asked.
    pub(crate) fn lets_everybody_in(&self) -> bool {
        self.settings.disable_authorizers
    }

    /// How long an authorizer is waited for.
    pub(crate) fn authorizer_timeout(&mut self, resource: Arc<str>, timeout: Duration) -> usize {
        let source = "API Gateway Developer Guide, Quotas: a Lambda authorizer answers within 10 s";
        self.engines.timeouts.push(IntegrationTimeout::new(resource, timeout, source.into()));
        self.engines.timeouts.len() - 1
    }

    fn cache(&mut self, api: &str, stage: &str, bytes: u64) -> usize {
        let (bytes, source) = match bytes > CACHE_BYTES_MAX {
            true => (CACHE_BYTES_MAX, "what this host keeps of the template's cache"),
            false => (bytes, "the template"),
        };
        self.engines.caches.push(ResponseCache::new(format!("{api}/{stage}").into(), bytes, source.into()));
        self.engines.caches.len() - 1
    }

    fn cached(&mut self, cache: usize, method: &MethodCache) -> Cached {
        let namespaces = &mut self.engines.namespaces;
        let next = u32::try_from(namespaces.len()).expect("templates have fewer methods than 2^32");
        let namespace = *namespaces.entry((cache, method.namespace.clone())).or_insert(next);
        Cached { cache, namespace, ttl: method.ttl }
    }
}

/// Stages to serve; an API without one is served as if it had one without settings.
fn stages(stages: &[Stage]) -> Vec<Option<&Stage>> {
    if stages.is_empty() { vec![None] } else { stages.iter().map(Some).collect() }
}

impl Spot {
    pub(crate) fn cached(&self) -> Option<Cached> {
        self.cached
    }
}

/// What tests of APIs are made of.
#[cfg(test)]
pub(crate) mod samples {
    use super::{ApiParts, Apis, GatewaySettings};
    use limits::api_throttle::ApiSettings;
    use model::stack::{ApiRoute, Place, Stage};
    use model::{Era, Instant, Overrides};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Served, by the figures of today.
    pub(crate) fn apis(parts: ApiParts) -> Arc<Apis> {
        let era = Era::named("today").unwrap();
        let throttle = ApiSettings::from_era(&era, "us-east-1", &Overrides::default()).unwrap();
        Apis::new(
            Instant::START,
            parts,
            &GatewaySettings {
                throttle,
                integration_timeout: None,
                stream_idle_timeout: None,
                disable_authorizers: false,
            },
        )
    }

    /// Routes by their keys, that lead nowhere.
    pub(crate) fn routes(keys: &[&str]) -> Vec<ApiRoute> {
        let route = |key: &&str| {
            let (method, path) = key.split_once(' ').unwrap_or((key, ""));
            ApiRoute {
                id: String::new(),
                place: Place::default(),
                method: method.to_owned(),
                path: path.to_owned(),
                route_key: (*key).to_owned(),
                integration: None,
                authorization_type: "NONE".to_owned(),
                authorizer: None,
                api_key_required: false,
            }
        };
        keys.iter().map(route).collect()
    }

    /// Stages without settings.
    pub(crate) fn stages(names: &[&str]) -> Vec<Stage> {
        let stage = |name: &&str| Stage {
            id: String::new(),
            place: Place::default(),
            name: (*name).to_owned(),
            default_throttle: Default::default(),
            route_throttles: BTreeMap::new(),
            cache: Default::default(),
            variables: BTreeMap::new(),
        };
        names.iter().map(stage).collect()
    }
}
