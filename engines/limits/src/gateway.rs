//! What a template says of its APIs' methods and usage plans, as figures for the throttles and caches before functions.
//!
//! Source: API Gateway API reference, "Stage", "MethodSetting", "UsagePlan"; Developer Guide, "Cache settings for REST APIs".

use crate::api_throttle::{QuotaFigures, QuotaPeriod, Rate, Throttle};
use crate::response_cache;
use model::stack::{ApiKey, ApiRoute, CacheSettings, EndpointType, Link, PlanStage, Quota, Stage, UsagePlan};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is cached of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodCache {
    /// For how long.
    pub ttl: Duration,
    /// Whose entries they are: the resource's path, or the template's own word.
    pub namespace: String,
    /// Whether some parameter of the request tells entries apart; otherwise there is one for all requests.
    pub has_parameters: bool,
}

/// The settings that hold for a method of a REST API's stage: each field from the most exact place that gives it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MethodSettings {
    /// The stage's throttle for it.
    pub throttle: Throttle,
    cached: CacheSettings,
    /// Whether the method has a setting of its own that speaks of caching.
    own: bool,
}

impl MethodSettings {
    /// Of a method in a stage.
    pub fn of(stage: &Stage, route: &ApiRoute) -> Self {
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

    /// What is cached, if the stage has a cache. Of all methods only GET is, of a method by its own setting every one is (API
    /// Gateway Developer Guide, "Cache settings for REST APIs").
    pub fn cache(&self, route: &ApiRoute) -> Option<MethodCache> {
        let wanted = self.cached.enabled == Some(true) && (self.own || route.method == "GET");
        let ttl =
            self.cached.ttl_s.map_or(response_cache::TTL_DEFAULT, |ttl| Duration::from_secs(ttl.into()));
        let integration = route.integration.as_ref();
        let namespace = integration.and_then(|integration| integration.cache_namespace.clone());
        (wanted && !ttl.is_zero()).then(|| MethodCache {
            ttl,
            namespace: namespace.unwrap_or_else(|| route.path.clone()),
            has_parameters: integration.is_some_and(|found| !found.cache_key_parameters.is_empty()),
        })
    }
}

/// Bytes of a stage's cache, if it has one.
pub fn cache_bytes(stage: &Stage) -> Option<u64> {
    stage.cache.size_gb.as_deref().and_then(response_cache::size)
}

/// The throttle of a route of an HTTP API's stage.
pub fn route_throttle(stage: &Stage, route: &ApiRoute) -> Throttle {
    throttle(stage.route_throttles.get(&route.route_key)).or(throttle(Some(&stage.default_throttle)))
}

/// How long an API waits for what a route leads to, as the template has it.
pub fn integration_timeout(route: &ApiRoute) -> Option<Duration> {
    route.integration.as_ref().map(|integration| Duration::from_millis(integration.timeout_ms.into()))
}

/// How long a response that streams may send nothing, by the kind of the API's endpoint. Source: API Gateway Developer Guide,
/// "Stream the integration response for your proxy integrations in API Gateway"; published.
pub fn stream_idle_timeout(endpoint: EndpointType) -> Duration {
    match endpoint {
        EndpointType::Edge => Duration::from_secs(30),
        EndpointType::Regional | EndpointType::Private => Duration::from_secs(300),
    }
}

/// An API key in a usage plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanKey {
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

impl PlanKey {
    /// The key's own throttle for a method, where the plan holds there; `None` where it does not.
    pub fn at(&self, api: &str, stage: &str, path: &str, method: &str) -> Option<Throttle> {
        let (_, _, methods) = self.stages.iter().find(|(at, name, _)| at == api && name == stage)?;
        Some(methods.get(&setting_key(path, method)).copied().unwrap_or_default())
    }

    /// The name it has in messages.
    pub fn resource(&self) -> String {
        format!("{} of {}", self.key, self.plan)
    }
}

/// Every key of every usage plan.
pub fn plan_keys(plans: &[UsagePlan], keys: &[ApiKey]) -> Vec<PlanKey> {
    let of_plan = |plan: &UsagePlan| {
        let of_key = |key: &Link| {
            let key = keys.iter().find(|known| Some(known.id.as_str()) == key.logical())?;
            Some(PlanKey {
                key: key.id.clone(),
                plan: plan.id.clone(),
                enabled: key.enabled,
                throttle: throttle(plan.throttle.as_ref()),
                quota: plan.quota.as_ref().and_then(quota),
                stages: plan.stages.iter().map(plan_stage).collect(),
            })
        };
        plan.keys.iter().filter_map(of_key).collect::<Vec<_>>()
    };
    plans.iter().flat_map(of_plan).collect()
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

fn throttle(given: Option<&model::stack::Throttle>) -> Throttle {
    given.map_or(Throttle::default(), |given| Throttle {
        rate: given.rate_limit.and_then(Rate::from_f64),
        burst: given.burst_limit,
    })
}

fn plan_stage(stage: &PlanStage) -> (String, String, BTreeMap<String, Throttle>) {
    let methods = stage.throttles.iter().map(|(key, given)| (key.clone(), throttle(Some(given))));
    (stage.api.as_str().to_owned(), stage.stage.clone(), methods.collect())
}

fn quota(quota: &Quota) -> Option<QuotaFigures> {
    let period = QuotaPeriod::named(&quota.period)?;
    Some(QuotaFigures { limit: quota.limit, offset: quota.offset, period })
}
