//! HTTP APIs (API Gateway v2): routes to functions, payload formats 2.0 and 1.0.
//!
//! Source: API Gateway Developer Guide, "Working with routes for HTTP APIs" (route selection: full match, then
//! greedy path variable, then `$default`), "HTTP API quotas" (30 s integration time-out, 10 MB payload; Lambda's own 6 MB
//! binds first).

use crate::arrival::{Arrival, BODY_BYTES_MAX, Format, NotAdmitted, answer_of};
use crate::body::Incoming;
use crate::event::Door;
use crate::gateway::{Gateway, Making, Reached, Spot};
use crate::router::{Doors, json, log_failure, name_limit, name_limit_id};
use crate::routes::{Found, Routes};
use crate::{Answer, cors, event_v1, reply_v1};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use invoke::{InvokeError, interface_error, request_id};
use model::LimitId;
use model::stack::{HttpApi, IntegrationKind, Stage};
use std::net::IpAddr;

/// An HTTP API with its routes in the order in which they are tried.
#[derive(Debug)]
pub struct Api {
    api: HttpApi,
    routes: Routes,
    /// Where each route stands among the limits, by stage.
    spots: Vec<Vec<Spot>>,
    cors: Option<cors::Rules>,
}

impl Api {
    /// Sorts the routes: the most specific first.
    pub(crate) fn new(api: HttpApi, making: &mut Making<'_>) -> Self {
        let routes = Routes::of_http(&api.routes);
        let spots = making.http(&api);
        let cors = api.cors.as_ref().map(cors::Rules::from);
        Self { routes, spots, cors, api }
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

    fn find(&self, method: &str, path: &str) -> Option<Found<'_>> {
        self.routes.find(method, path)
    }

    fn spot(&self, stage: Option<&Stage>, route: usize) -> Spot {
        let stage = stage.and_then(|stage| self.api.stages.iter().position(|known| known.name == stage.name));
        self.spots[stage.unwrap_or(0)][route]
    }
}

pub(crate) async fn answer(
    doors: &Doors,
    reached: &Reached<Api>,
    head: &Parts,
    incoming: Incoming,
    peer: IpAddr,
    port: u16,
) -> Answer {
    let Reached { apis, api, path } = reached;
    let gateway = &apis.gateway;
    if let Some(preflight) = api.cors.as_ref().and_then(|rules| rules.preflight(&head.method, &head.headers))
    {
        return preflight;
    }
    let id = request_id();
    let arrival = Arrival { path, head, peer, port, id: &id };
    let mut answer = run(doors, gateway, api, arrival, incoming).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert("apigw-requestid", value);
    }
    if let Some(rules) = &api.cors {
        rules.decorate(&head.headers, &mut answer);
    }
    answer
}

async fn run(
    doors: &Doors,
    gateway: &Gateway,
    api: &Api,
    arrival: Arrival<'_>,
    incoming: Incoming,
) -> Answer {
    let head = arrival.head;
    let not_found = || json(StatusCode::NOT_FOUND, "{\"message\":\"Not Found\"}");
    let Some((stage, inner)) = api.stage(arrival.path) else { return not_found() };
    let Some(found) = api.find(head.method.as_str(), inner) else { return not_found() };
    let Found { route, parameters, .. } = &found;
    let spot = api.spot(stage, found.index);
    if let Err(refusal) = gateway.admit(doors.invoker.now(), spot, None) {
        tracing::info!(limit = %refusal.limit, resource = %refusal.resource, max = refusal.max, "refused");
        let mut answer = json(StatusCode::TOO_MANY_REQUESTS, "{\"message\":\"Too Many Requests\"}");
        name_limit(&mut answer, &refusal);
        return answer;
    }
    let Some(integration) = &route.integration else { return internal_error() };
    let (IntegrationKind::AwsProxy, Some(target)) = (integration.kind, &integration.function) else {
        tracing::warn!(api = api.logical_id(), route = %route.route_key, "this kind of integration is not run");
        return json(
            StatusCode::NOT_IMPLEMENTED,
            "{\"message\":\"Onrush runs Lambda proxy integrations only\"}",
        );
    };
    let (mut incoming, mut signer) = (incoming, None);
    if route.authorization_type == "AWS_IAM" {
        match doors.authenticate_door(head, incoming, "execute-api", BODY_BYTES_MAX).await {
            // HTTP APIs have no policy that could name another account.
            Ok((found, _)) if doors.caller(&found).account_id != doors.account_id => {
                return json(StatusCode::FORBIDDEN, "{\"message\":\"Forbidden\"}");
            }
            Ok((found, body)) => (signer, incoming) = (Some(found), body),
            Err(failure) => {
                tracing::info!(api = api.logical_id(), code = %failure.code, message = failure.message, "the signature was refused");
                return json(StatusCode::FORBIDDEN, "{\"message\":\"Forbidden\"}");
            }
        }
    }
    let Some(destination) = doors.destination(target) else { return internal_error() };
    let function = &destination.function;
    let stage_name = stage.map_or("$default", |stage| &stage.name);
    if !doors.lets_api(api.api_id(), stage_name, route, head.method.as_str(), &destination) {
        return internal_error();
    }
    let domain = format!("{}.execute-api.{}.amazonaws.com", api.api_id(), doors.region);
    let door = Door {
        account_id: &doors.account_id,
        api_id: api.api_id(),
        domain_name: &domain,
        route_key: &route.route_key,
        stage: stage_name,
        path_parameters: Some(parameters),
        stage_variables: stage.map(|stage| &stage.variables),
        signer: signer.as_ref().map(|signer| doors.caller(signer)),
        nulls: false,
    };
    let is_v1 = integration.payload_format_version == "1.0";
    let event = |body: &Bytes, trace_id: &str| {
        if !is_v1 {
            return arrival.event(&door, body, trace_id);
        }
        let api = event_v1::Api {
            account_id: door.account_id,
            api_id: door.api_id,
            domain_name: door.domain_name,
            resource: if route.path.is_empty() { &route.route_key } else { &route.path },
            resource_id: None,
            deployment_id: None,
            extended_request_id: arrival.id,
            stage: stage_name,
            whole_path: arrival.path,
            path_parameters: parameters,
            stage_variables: door.stage_variables,
            api_key: None,
            binary_media_types: None,
            version: Some("1.0"),
        };
        arrival.event_v1(&api, arrival.path, body, trace_id)
    };
    let begun = doors.invoker.now();
    let result = match arrival.admit(doors, &destination, request_id(), incoming, event).await {
        Ok((admission, request)) => {
            tokio::time::timeout(gateway.patience(spot), admission.run(request)).await
        }
        Err(NotAdmitted::Failed(error)) => Ok(Err(error)),
        Err(NotAdmitted::Answered(answer)) => return *answer,
    };
    match result {
        Err(_) => {
            let refusal = gateway.expired(doors.invoker.now(), spot);
            tracing::info!(limit = %refusal.limit, api = api.logical_id(), function = %function.name, max_ms = refusal.max, "timed out");
            let mut answer = unavailable();
            name_limit(&mut answer, &refusal);
            answer
        }
        Ok(Ok(invoked)) => {
            gateway.answered(spot, doors.invoker.now().since(begun));
            let format = if is_v1 {
                Format::One(reply_v1::Reading { strict: false, decodes: true })
            } else {
                Format::Two
            };
            answer_of(function, &invoked, format, internal_error)
        }
        Ok(Err(error)) => {
            log_failure("HTTP API", &error);
            match &error {
                // AWS shows a throttled integration as 500 or 503 (unconfirmed which): 503, since trying again helps.
                InvokeError::Refused(refusal) => {
                    let is_throttled = interface_error(refusal.limit).is_none();
                    let mut answer = if is_throttled { unavailable() } else { internal_error() };
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

fn internal_error() -> Answer {
    json(StatusCode::INTERNAL_SERVER_ERROR, "{\"message\":\"Internal Server Error\"}")
}

fn unavailable() -> Answer {
    json(StatusCode::SERVICE_UNAVAILABLE, "{\"message\":\"Service Unavailable\"}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{ApiParts, Apis, GatewaySettings};
    use model::Instant;
    use model::stack::{ApiRoute, Place, Protocol};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn api(routes: &[&str], stages: &[&str]) -> Arc<Api> {
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
        let parts = ApiParts {
            http_apis: vec![HttpApi {
                id: "Api".into(),
                place: Place::default(),
                name: "api".into(),
                api_id: "abc".into(),
                protocol: Protocol::Http,
                url: String::new(),
                routes: routes.iter().map(route).collect(),
                stages: stages.iter().map(stage).collect(),
                cors: None,
            }],
            ..ApiParts::default()
        };
        let apis = Apis::new(Instant::START, parts, &GatewaySettings::for_tests());
        apis.http[0].clone()
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
