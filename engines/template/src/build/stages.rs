//! Stages and usage plans, with their throttles.

use super::{Builder, Fields, Item};
use crate::problem::{Problem, Problems};
use model::stack::{CacheSettings, PlanStage, Quota, Stage, StageCache, Throttle, UsagePlan};
use std::collections::BTreeMap;

/// `CacheClusterSize` as AWS has them (API Gateway API reference, "Stage").
const CACHE_SIZES: [&str; 8] = ["0.5", "1.6", "6.1", "13.5", "28.4", "58.2", "118", "237"];
const CACHE_TTL_MAX_S: u32 = 3600;

impl Builder<'_, '_> {
    pub(super) fn http_stage(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let Some(api) = self.link(fields, "ApiId", "AWS::ApiGatewayV2::Api", true) else { return };
        let name =
            fields.require("StageName", &mut self.problems).and_then(|node| node.string(&mut self.problems));
        let Some(name) = name else { return };
        let default = fields.inner("DefaultRouteSettings", &mut self.problems);
        let routes = fields.inner("RouteSettings", &mut self.problems);
        let mut route_throttles = BTreeMap::new();
        for entry in routes.iter().flat_map(|routes| routes.mapping().entries()) {
            if let Some(mapping) = entry.value.mapping(&mut self.problems) {
                let settings =
                    Fields::new(mapping, format!("the settings of {}", entry.key), entry.value.span);
                route_throttles.insert(entry.key.to_string(), throttle(&settings, &mut self.problems));
            }
        }
        let stage = Stage {
            id: item.id.to_owned(),
            place: item.place(),
            name: name.to_owned(),
            default_throttle: default
                .map(|default| throttle(&default, &mut self.problems))
                .unwrap_or_default(),
            route_throttles,
            cache: StageCache::default(),
            variables: fields.string_map("StageVariables", &mut self.problems),
        };
        if let Some(api) =
            self.stack.http_apis.iter_mut().find(|known| Some(known.id.as_str()) == api.logical())
        {
            api.stages.push(stage);
        }
    }

    pub(super) fn rest_stage(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let Some(api) = self.link(fields, "RestApiId", "AWS::ApiGateway::RestApi", true) else { return };
        let name =
            fields.require("StageName", &mut self.problems).and_then(|node| node.string(&mut self.problems));
        let Some(name) = name else { return };
        // A deployment that brings its stage along describes it apart.
        let described = fields.inner("StageDescription", &mut self.problems);
        let fields = described.as_ref().unwrap_or(fields);
        let problems = &mut self.problems;
        let cache_default = cache_settings(fields, problems);
        let mut stage = Stage {
            id: item.id.to_owned(),
            place: item.place(),
            name: name.to_owned(),
            default_throttle: throttle(fields, problems),
            route_throttles: BTreeMap::new(),
            cache: StageCache {
                size_gb: cache_size(fields, problems),
                default: cache_default,
                methods: BTreeMap::new(),
            },
            variables: fields.string_map("Variables", problems),
        };
        for setting in fields.inners("MethodSettings", problems) {
            let path = setting.string("ResourcePath", problems).unwrap_or_else(|| "/*".into());
            let method = setting.string("HttpMethod", problems).unwrap_or_else(|| "*".into());
            let (limits, cached) = (throttle(&setting, problems), cache_settings(&setting, problems));
            if cached.enabled == Some(true) && stage.cache.size_gb.is_none() {
                let entry = setting.get("CachingEnabled").map_or(setting.span, |node| node.span);
                let message = "nothing is cached: the stage has no cache";
                self.warnings.push(Problem::at(entry, message).help("CacheClusterEnabled: true"));
            }
            if path == "/*" && method == "*" {
                stage.default_throttle = limits;
                stage.cache.default = cached;
            } else {
                // `/~1cart~1{id}` is the path /cart/{id}.
                let path =
                    if path.contains("~1") { path.trim_start_matches('/').replace("~1", "/") } else { path };
                let key = format!("{path}/{method}");
                stage.cache.methods.insert(key.clone(), cached);
                stage.route_throttles.insert(key, limits);
            }
        }
        if let Some(api) =
            self.stack.rest_apis.iter_mut().find(|known| Some(known.id.as_str()) == api.logical())
        {
            api.stages.push(stage);
        }
    }

    pub(super) fn usage_plan(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let mut stages = Vec::new();
        for stage in fields.inners("ApiStages", &mut self.problems) {
            let api = self.link(&stage, "ApiId", "AWS::ApiGateway::RestApi", true);
            let name =
                stage.require("Stage", &mut self.problems).and_then(|node| node.string(&mut self.problems));
            let (Some(api), Some(name)) = (api, name) else { continue };
            let mut throttles = BTreeMap::new();
            if let Some(methods) = stage.inner("Throttle", &mut self.problems) {
                for entry in methods.mapping().entries() {
                    if let Some(mapping) = entry.value.mapping(&mut self.problems) {
                        let limits =
                            Fields::new(mapping, format!("the throttle of {}", entry.key), entry.value.span);
                        throttles.insert(entry.key.to_string(), throttle(&limits, &mut self.problems));
                    }
                }
            }
            stages.push(PlanStage { api, stage: name.to_owned(), throttles });
        }
        let limits = fields.inner("Throttle", &mut self.problems);
        let quota = fields.inner("Quota", &mut self.problems);
        let quota = quota.and_then(|quota| {
            let limit = quota.require("Limit", &mut self.problems)?.unsigned(&mut self.problems)?;
            let offset = quota.get("Offset").and_then(|node| node.unsigned(&mut self.problems)).unwrap_or(0);
            let period = quota.require("Period", &mut self.problems)?;
            let period = period.one_of(&["DAY", "WEEK", "MONTH"], &mut self.problems)?.to_owned();
            Some(Quota { limit, offset, period })
        });
        self.stack.usage_plans.push(UsagePlan {
            id: item.id.to_owned(),
            place: item.place(),
            name: self.resolver.identity(item.index).name(),
            plan_id: item.reference.to_owned(),
            throttle: limits.map(|limits| throttle(&limits, &mut self.problems)),
            quota,
            stages,
            keys: Vec::new(),
        });
    }
}

/// `ThrottlingRateLimit` and `ThrottlingBurstLimit`, or a usage plan's `RateLimit` and `BurstLimit`.
fn throttle(fields: &Fields<'_>, problems: &mut Problems) -> Throttle {
    let either = |one: &'static str, other: &'static str| if fields.get(one).is_some() { one } else { other };
    let rate = fields.get(either("ThrottlingRateLimit", "RateLimit"));
    Throttle {
        rate_limit: rate.and_then(|node| node.number(problems)).filter(|rate| *rate >= 0.0),
        burst_limit: fields.number(
            either("ThrottlingBurstLimit", "BurstLimit"),
            "",
            0..=i32::MAX as u32,
            problems,
        ),
    }
}

/// `CachingEnabled` and what belongs to it, of a method setting or a deployment's stage.
fn cache_settings(fields: &Fields<'_>, problems: &mut Problems) -> CacheSettings {
    let mut yes = |key| fields.get(key).and_then(|node| node.boolean(problems));
    let (enabled, encrypted) = (yes("CachingEnabled"), yes("CacheDataEncrypted"));
    let ttl_s = fields.number("CacheTtlInSeconds", "", 0..=CACHE_TTL_MAX_S, problems);
    CacheSettings { enabled, ttl_s, encrypted }
}

/// The size of the stage's cache, if it has one; the smallest where the template does not say.
fn cache_size(fields: &Fields<'_>, problems: &mut Problems) -> Option<String> {
    let size = fields.get("CacheClusterSize").and_then(|node| node.one_of(&CACHE_SIZES, problems));
    let enabled = fields.boolean("CacheClusterEnabled", false, problems);
    enabled.then(|| size.unwrap_or(CACHE_SIZES[0]).to_owned())
}
