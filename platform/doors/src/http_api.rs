//! HTTP APIs (API Gateway v2): routes to functions, payload format 2.0.
//!
//! Source: API Gateway Developer Guide, "Working with routes for HTTP APIs" (route selection: full match, then
//! greedy path variable, then `$default`), "HTTP API quotas" (30 s integration time-out, 10 MB payload; Lambda's own 6 MB
//! binds first).

use crate::arrival::{Arrival, BODY_BYTES_MAX, Destination, NotAdmitted, answer_of};
use crate::body::Incoming;
use crate::event::{self, Door};
use crate::router::{Doors, json, log_failure, name_limit, name_limit_id};
use crate::{Answer, cors};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use invoke::{InvokeError, request_id};
use model::LimitId;
use model::name::{FunctionReference, LATEST};
use model::stack::{ApiRoute, FunctionTarget, HttpApi, IntegrationKind, Link, Stage};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// An HTTP API with its routes in the order in which they are tried.
#[derive(Debug)]
pub struct Api {
    api: HttpApi,
    routes: Vec<Pattern>,
    cors: Option<cors::Rules>,
}

/// A route, taken apart.
#[derive(Debug)]
struct Pattern {
    segments: Vec<Segment>,
    route: ApiRoute,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Word(String),
    Variable(String),
    Greedy(String),
}

impl Api {
    /// Sorts the routes: the most specific first.
    pub fn new(api: HttpApi) -> Self {
        let mut routes: Vec<_> = api.routes.iter().cloned().map(Pattern::new).collect();
        routes.sort_by_key(Pattern::rank);
        let cors = api.cors.as_ref().map(cors::Rules::from);
        Self { routes, cors, api }
    }

    pub(crate) fn api_id(&self) -> &str {
        &self.api.api_id
    }

    pub(crate) fn logical_id(&self) -> &str {
        &self.api.id
    }

    /// The stage that a path is for, and the path within it.
    fn stage<'a>(&'a self, path: &'a str) -> Option<(Option<&'a Stage>, &'a str)> {
        let trimmed = path.trim_start_matches('/');
        let first = trimmed.split('/').next().unwrap_or("");
        if let Some(stage) = self.api.stages.iter().find(|stage| stage.name == first && !first.is_empty()) {
            let rest = &trimmed[first.len()..];
            return Some((Some(stage), if rest.is_empty() { "/" } else { rest }));
        }
        let default = self.api.stages.iter().find(|stage| stage.name == "$default");
        // An API without any stage is served as if it had `$default`, which SAM always makes.
        (default.is_some() || self.api.stages.is_empty()).then_some((default, path))
    }

    /// Whether one of the routes is for that request.
    pub(crate) fn serves(&self, method: &str, path: &str) -> bool {
        self.stage(path).is_some_and(|(_, rest)| self.find(method, rest).is_some())
    }

    fn find(&self, method: &str, path: &str) -> Option<(&ApiRoute, BTreeMap<String, String>)> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').filter(|s| !s.is_empty()).collect();
        self.routes.iter().find_map(|pattern| {
            let parameters = pattern.matches(method, &segments)?;
            Some((&pattern.route, parameters))
        })
    }
}

impl Pattern {
    fn new(route: ApiRoute) -> Self {
        let words = route.path.split('/').filter(|word| !word.is_empty());
        let segments = words.map(|word| {
            let name = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
            match name {
                Some(name) => match name.strip_suffix('+') {
                    Some(name) => Segment::Greedy(name.to_owned()),
                    None => Segment::Variable(name.to_owned()),
                },
                None => Segment::Word(word.to_owned()),
            }
        });
        Self { segments: segments.collect(), route }
    }

    /// Lower is tried first: full matches before greedy ones, literal words before variables, a method before `ANY`,
    /// `$default` last.
    fn rank(&self) -> (bool, bool, Vec<u8>, bool) {
        let kinds = self.segments.iter().map(|segment| match segment {
            Segment::Word(_) => 0,
            Segment::Variable(_) => 1,
            Segment::Greedy(_) => 2,
        });
        let greedy = self.segments.iter().any(|segment| matches!(segment, Segment::Greedy(_)));
        (self.is_default(), greedy, kinds.collect(), self.route.method == "ANY")
    }

    fn is_default(&self) -> bool {
        self.route.route_key == "$default"
    }

    fn matches(&self, method: &str, path: &[&str]) -> Option<BTreeMap<String, String>> {
        if self.is_default() {
            return Some(BTreeMap::new());
        }
        if self.route.method != "ANY" && self.route.method != method {
            return None;
        }
        let mut parameters = BTreeMap::new();
        let mut rest = path;
        for segment in &self.segments {
            let (first, after) = match rest.split_first() {
                Some((first, after)) => (*first, after),
                None => return None,
            };
            match segment {
                Segment::Word(word) if word == first => {}
                Segment::Word(_) => return None,
                Segment::Variable(name) => {
                    parameters.insert(name.clone(), event::decode(first, false));
                }
                Segment::Greedy(name) => {
                    parameters.insert(name.clone(), event::decode(&rest.join("/"), false));
                    return Some(parameters);
                }
            }
            rest = after;
        }
        rest.is_empty().then_some(parameters)
    }
}

pub(crate) async fn answer(
    doors: &Doors,
    api: &Api,
    path: &str,
    head: &Parts,
    incoming: Incoming,
    peer: IpAddr,
    port: u16,
) -> Answer {
    if let Some(preflight) = api.cors.as_ref().and_then(|rules| rules.preflight(&head.method, &head.headers))
    {
        return preflight;
    }
    let id = request_id();
    let arrival = Arrival { path, head, peer, port, id: &id };
    let mut answer = run(doors, api, arrival, incoming).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert("apigw-requestid", value);
    }
    if let Some(rules) = &api.cors {
        rules.decorate(&head.headers, &mut answer);
    }
    answer
}

async fn run(doors: &Doors, api: &Api, arrival: Arrival<'_>, incoming: Incoming) -> Answer {
    let head = arrival.head;
    let not_found = || json(StatusCode::NOT_FOUND, "{\"message\":\"Not Found\"}");
    let Some((stage, inner)) = api.stage(arrival.path) else { return not_found() };
    let Some((route, parameters)) = api.find(head.method.as_str(), inner) else { return not_found() };
    let Some(integration) = &route.integration else { return internal_error() };
    let (IntegrationKind::AwsProxy, Some(target)) = (integration.kind, &integration.function) else {
        tracing::warn!(api = api.logical_id(), route = %route.route_key, "this kind of integration is not run");
        return json(
            StatusCode::NOT_IMPLEMENTED,
            "{\"message\":\"Onrush runs Lambda proxy integrations only\"}",
        );
    };
    if integration.payload_format_version == "1.0" {
        tracing::warn!(api = api.logical_id(), route = %route.route_key, "payload format 1.0 is not run yet");
        return json(
            StatusCode::NOT_IMPLEMENTED,
            "{\"message\":\"Onrush does not run payload format 1.0 yet\"}",
        );
    }
    let mut incoming = incoming;
    if route.authorization_type == "AWS_IAM" {
        match doors.authenticate_door(head, incoming, "execute-api", BODY_BYTES_MAX).await {
            Ok(body) => incoming = body,
            Err(failure) => {
                tracing::info!(api = api.logical_id(), code = %failure.code, message = failure.message, "the signature was refused");
                return json(StatusCode::FORBIDDEN, "{\"message\":\"Forbidden\"}");
            }
        }
    }
    let Some(destination) = destination(doors, target) else { return internal_error() };
    let function = &destination.function;
    let stage_name = stage.map_or("$default", |stage| &stage.name);
    if !doors.lets_api(api, stage_name, route, head.method.as_str(), &destination) {
        return internal_error();
    }
    let domain = format!("{}.execute-api.{}.amazonaws.com", api.api_id(), doors.region);
    let door = Door {
        account_id: &doors.account_id,
        api_id: api.api_id(),
        domain_name: &domain,
        route_key: &route.route_key,
        stage: stage_name,
        path_parameters: Some(&parameters),
        stage_variables: stage.map(|stage| &stage.variables),
        nulls: false,
    };
    let event = |body: &Bytes, trace_id: &str| arrival.event(&door, body, trace_id);
    let patience = Duration::from_millis(u64::from(integration.timeout_ms));
    let result = match arrival.admit(doors, &destination, request_id(), incoming, event).await {
        Ok((admission, request)) => tokio::time::timeout(patience, admission.run(request)).await,
        Err(NotAdmitted::Failed(error)) => Ok(Err(error)),
        Err(NotAdmitted::Answered(answer)) => return *answer,
    };
    match result {
        Err(_) => {
            let limit = LimitId::IntegrationTimeout;
            tracing::info!(%limit, api = api.logical_id(), function = %function.name, max_ms = integration.timeout_ms, "timed out");
            let mut answer = unavailable();
            name_limit_id(&mut answer, limit);
            answer
        }
        Ok(Ok(invoked)) => answer_of(function, &invoked, internal_error),
        Ok(Err(error)) => {
            log_failure("HTTP API", &error);
            match &error {
                // AWS shows a throttled integration as 500 or 503 (unconfirmed which): 503, since trying again helps.
                InvokeError::Refused(refusal) => {
                    let mut answer = unavailable();
                    name_limit(&mut answer, refusal);
                    answer
                }
                InvokeError::NoFunction(_) | InvokeError::Restore(_) => internal_error(),
                InvokeError::Host(_) => {
                    let mut answer = internal_error();
                    name_limit_id(&mut answer, LimitId::HostSandboxes);
                    answer
                }
            }
        }
    }
}

fn destination(doors: &Doors, target: &FunctionTarget) -> Option<Destination> {
    let (function, qualifier) = match &target.function {
        Link::Logical(id) => (doors.function_by_logical_id(id)?, target.qualifier.clone()),
        Link::Literal(word) => {
            let reference = FunctionReference::parse(word).ok()?;
            (doors.control.function(&reference.name)?, target.qualifier.clone().or(reference.qualifier))
        }
    };
    let qualifier = qualifier.filter(|qualifier| qualifier != LATEST);
    Some(Destination { function, qualifier: qualifier.map(Into::into), is_public: false })
}

fn internal_error() -> Answer {
    json(StatusCode::INTERNAL_SERVER_ERROR, "{\"message\":\"Internal Server Error\"}")
}

fn unavailable() -> Answer {
    json(StatusCode::SERVICE_UNAVAILABLE, "{\"message\":\"Service Unavailable\"}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::stack::{Place, Protocol};

    fn api(routes: &[&str], stages: &[&str]) -> Api {
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
                api_key_required: false,
            }
        };
        let stage = |name: &&str| Stage {
            id: String::new(),
            place: Place::default(),
            name: (*name).to_owned(),
            default_throttle: Default::default(),
            route_throttles: BTreeMap::new(),
            cache: Default::default(),
            variables: BTreeMap::new(),
        };
        Api::new(HttpApi {
            id: "Api".into(),
            place: Place::default(),
            name: "api".into(),
            api_id: "abc".into(),
            protocol: Protocol::Http,
            url: String::new(),
            routes: routes.iter().map(route).collect(),
            stages: stages.iter().map(stage).collect(),
            cors: None,
        })
    }

    #[test]
    fn the_most_specific_route_wins() {
        let api = api(
            &[
                "$default",
                "ANY /{proxy+}",
                "GET /cart/{id}",
                "ANY /cart/{id}",
                "GET /cart/new",
                "GET /",
                "ANY /x/{proxy+}",
                "GET /{a}/{b}",
            ],
            &["$default"],
        );
        for (method, path, key) in [
            ("GET", "/cart/new", "GET /cart/new"),
            ("GET", "/cart/7", "GET /cart/{id}"),
            ("PUT", "/cart/7", "ANY /cart/{id}"),
            ("PUT", "/a/b", "ANY /{proxy+}"),
            ("GET", "/x/y", "GET /{a}/{b}"),
            ("GET", "/", "GET /"),
            ("PUT", "/", "$default"),
        ] {
            assert_eq!(api.find(method, path).unwrap().0.route_key, key, "{method} {path}");
        }
        assert_eq!(api.find("GET", "/cart/a%20b").unwrap().1["id"], "a b");
        assert_eq!(api.find("GET", "/q/y/z").unwrap().1["proxy"], "q/y/z");
    }

    #[test]
    fn a_named_stage_is_the_first_segment() {
        let named = api(&["GET /x"], &["prod"]);
        assert_eq!(
            named.stage("/prod/x").map(|(stage, path)| (stage.unwrap().name.as_str(), path)),
            Some(("prod", "/x"))
        );
        assert!(named.stage("/x").is_none());
        let both = api(&["GET /x"], &["$default", "prod"]);
        assert_eq!(both.stage("/x").unwrap().1, "/x");
        assert_eq!(both.stage("/prod").unwrap().1, "/");
    }
}
