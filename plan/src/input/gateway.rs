//! What the planner needs to know of API Gateway: stages with their throttles and caches, usage plans with their keys.

use super::{DoorInput, DoorKind, RouteInput};
use limits::api_throttle::{QuotaFigures, QuotaPeriod, Rate, Throttle};
use limits::response_cache;
use model::stack::{
    ApiRoute, CacheSettings, HttpApi, Link, PlanStage, Quota, RestApi, Stack, Stage, UsagePlan,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is cached of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteCache {
    /// For how long.
    pub ttl: Duration,
    /// Whose entries they are: the resource's path, or the template's own word.
    pub namespace: String,
    /// Whether some parameter of the request tells entries apart; otherwise there is one for all requests.
    pub has_parameters: bool,
}

/// An API key in a usage plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInput {
    /// The key's logical id.
    pub key: String,
    /// The plan's logical id.
    pub plan: String,
    /// Whether API Gateway takes the key.
    pub enabled: bool,
    /// The key's throttle over all stages of the plan.
    pub throttle: Throttle,
    /// The key's quota.
    pub quota: Option<QuotaFigures>,
    /// Where the plan holds: an API's logical id, a stage's name, and throttles by `/path/METHOD`.
    pub stages: Vec<(String, String, BTreeMap<String, Throttle>)>,
}

impl ClientInput {
    /// The key's own throttle for a method, where the plan holds there; `None` where it does not.
    pub fn at(&self, door: &DoorInput, route: &RouteInput) -> Option<Throttle> {
        let (_, _, methods) =
            self.stages.iter().find(|(api, stage, _)| *api == door.api && *stage == door.stage)?;
        Some(methods.get(&setting_key(&route.path, &route.method)).copied().unwrap_or_default())
    }
}

/// The doors of all APIs: one for each stage. The first stage of an API goes by the API's logical id, the others by their own.
pub(super) fn doors(
    stack: &Stack,
    function: impl Fn(&ApiRoute) -> Option<(usize, Option<usize>)>,
) -> Vec<DoorInput> {
    let http = stack.http_apis.iter().flat_map(|api| http_doors(api, &function));
    let rest = stack.rest_apis.iter().flat_map(|api| rest_doors(api, &function));
    http.chain(rest).collect()
}

/// Stages to plan with; an API without one is planned as if it had one without settings.
fn stages(stages: &[Stage]) -> Vec<Option<&Stage>> {
    if stages.is_empty() { vec![None] } else { stages.iter().map(Some).collect() }
}

fn door_id(api: &str, index: usize, stage: Option<&Stage>) -> String {
    stage.filter(|_| index > 0).map_or(api, |stage| &stage.id).to_owned()
}

fn http_doors(
    api: &HttpApi,
    function: &impl Fn(&ApiRoute) -> Option<(usize, Option<usize>)>,
) -> Vec<DoorInput> {
    let door = |(index, stage): (usize, Option<&Stage>)| {
        let route = |route: &ApiRoute| {
            let own = stage.and_then(|stage| stage.route_throttles.get(&route.route_key));
            let default = stage.map(|stage| &stage.default_throttle);
            let (function, provisioned) = function(route)?;
            Some(RouteInput {
                method: route.method.clone(),
                path: route.path.clone(),
                function,
                provisioned,
                timeout: timeout(route),
                throttle: throttle(own).or(throttle(default)),
                key_required: false,
                cache: None,
            })
        };
        DoorInput {
            id: door_id(&api.id, index, stage),
            kind: DoorKind::HttpApi,
            api: api.id.clone(),
            stage: stage.map_or_else(|| "$default".to_owned(), |stage| stage.name.clone()),
            cache_size: None,
            routes: api.routes.iter().filter_map(route).collect(),
        }
    };
    stages(&api.stages).into_iter().enumerate().map(door).collect()
}

fn rest_doors(
    api: &RestApi,
    function: &impl Fn(&ApiRoute) -> Option<(usize, Option<usize>)>,
) -> Vec<DoorInput> {
    let door = |(index, stage): (usize, Option<&Stage>)| {
        let size = stage.and_then(|stage| stage.cache.size_gb.as_deref()).and_then(response_cache::size);
        let route = |route: &ApiRoute| {
            let settings = stage.map(|stage| Settings::of(stage, route)).unwrap_or_default();
            let (function, provisioned) = function(route)?;
            Some(RouteInput {
                method: route.method.clone(),
                path: route.path.clone(),
                function,
                provisioned,
                timeout: timeout(route),
                throttle: settings.throttle,
                key_required: route.api_key_required,
                cache: size.and_then(|_| settings.cache(route)),
            })
        };
        DoorInput {
            id: door_id(&api.id, index, stage),
            kind: DoorKind::RestApi,
            api: api.id.clone(),
            stage: stage.map(|stage| stage.name.clone()).unwrap_or_default(),
            cache_size: size,
            routes: api.routes.iter().filter_map(route).collect(),
        }
    };
    stages(&api.stages).into_iter().enumerate().map(door).collect()
}

/// The settings that hold for a method: each field from the most exact place that gives it.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    throttle: Throttle,
    cached: CacheSettings,
    /// Whether the method has a setting of its own that speaks of caching.
    own: bool,
}

impl Settings {
    fn of(stage: &Stage, route: &ApiRoute) -> Self {
        let keys = [
            setting_key(&route.path, &route.method),
            setting_key(&route.path, "*"),
            setting_key("/*", &route.method),
        ];
        let mut settings = Self::default();
        for key in &keys {
            settings.throttle = settings.throttle.or(throttle(stage.route_throttles.get(key)));
            if let Some(cached) = stage.cache.methods.get(key) {
                settings.cached = or(settings.cached, *cached);
            }
        }
        settings.own = settings.cached.enabled.is_some();
        settings.throttle = settings.throttle.or(throttle(Some(&stage.default_throttle)));
        settings.cached = or(settings.cached, stage.cache.default);
        settings
    }

    /// Of all methods only GET is cached, of a method by its own setting every one is (API Gateway Developer Guide, "Cache
    /// settings for REST APIs").
    fn cache(&self, route: &ApiRoute) -> Option<RouteCache> {
        let wanted = self.cached.enabled == Some(true) && (self.own || route.method == "GET");
        let ttl =
            self.cached.ttl_s.map_or(response_cache::TTL_DEFAULT, |ttl| Duration::from_secs(ttl.into()));
        let integration = route.integration.as_ref();
        let namespace = integration.and_then(|integration| integration.cache_namespace.clone());
        (wanted && !ttl.is_zero()).then(|| RouteCache {
            ttl,
            namespace: namespace.unwrap_or_else(|| route.path.clone()),
            has_parameters: integration.is_some_and(|found| !found.cache_key_parameters.is_empty()),
        })
    }
}

fn or(first: CacheSettings, then: CacheSettings) -> CacheSettings {
    CacheSettings {
        enabled: first.enabled.or(then.enabled),
        ttl_s: first.ttl_s.or(then.ttl_s),
        encrypted: first.encrypted.or(then.encrypted),
    }
}

/// `/cart/GET`.
fn setting_key(path: &str, method: &str) -> String {
    format!("{path}/{method}")
}

fn timeout(route: &ApiRoute) -> Option<Duration> {
    route.integration.as_ref().map(|integration| Duration::from_millis(integration.timeout_ms.into()))
}

fn throttle(given: Option<&model::stack::Throttle>) -> Throttle {
    given.map_or(Throttle::default(), |given| Throttle {
        rate: given.rate_limit.and_then(Rate::from_f64),
        burst: given.burst_limit,
    })
}

/// Every key of every usage plan.
pub(super) fn clients(stack: &Stack) -> Vec<ClientInput> {
    let of_plan = |plan: &UsagePlan| {
        let client = |key: &Link| {
            let key = stack.api_keys.iter().find(|known| Some(known.id.as_str()) == key.logical())?;
            Some(ClientInput {
                key: key.id.clone(),
                plan: plan.id.clone(),
                enabled: key.enabled,
                throttle: throttle(plan.throttle.as_ref()),
                quota: plan.quota.as_ref().and_then(quota),
                stages: plan.stages.iter().map(plan_stage).collect(),
            })
        };
        plan.keys.iter().filter_map(client).collect::<Vec<_>>()
    };
    stack.usage_plans.iter().flat_map(of_plan).collect()
}

fn plan_stage(stage: &PlanStage) -> (String, String, BTreeMap<String, Throttle>) {
    let methods = stage.throttles.iter().map(|(key, given)| (key.clone(), throttle(Some(given))));
    (stage.api.as_str().to_owned(), stage.stage.clone(), methods.collect())
}

fn quota(quota: &Quota) -> Option<QuotaFigures> {
    let period = QuotaPeriod::named(&quota.period)?;
    Some(QuotaFigures { limit: quota.limit, offset: quota.offset, period })
}
