//! HTTP APIs (API Gateway v2): routes to functions, payload formats 2.0 and 1.0.
//!
//! Source: API Gateway Developer Guide, "Working with routes for HTTP APIs" (route selection: full match, then
//! greedy path variable, then `$default`), "HTTP API quotas" (30 s integration time-out, 10 MB payload; Lambda's own 6 MB
//! binds first).

use crate::arrival::{Arrival, BODY_BYTES_MAX, Format, answer_of};
use crate::authorizer::{Authorizers, Cause, Passed, Question, Stopped};
use crate::body::Incoming;
use crate::event::Door;
use crate::gateway::{Asked, Gateway, Making, Reached, Spots};
use crate::router::{Doors, json, with_cause, with_limit};
use crate::routes::{Found, Routes};
use crate::{Answer, authorizer, cors, event_v1, reply_v1};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use invoke::{InvokeError, interface_error, request_id};
use model::stack::{HttpApi, IntegrationKind, Stage};
use std::net::IpAddr;

/// An HTTP API with its routes in the order in which they are tried.
#[derive(Debug)]
pub struct Api {
    api: HttpApi,
    routes: Routes,
    /// Where each route stands among the limits, by stage.
    spots: Spots,
    authorizers: Authorizers,
    cors: Option<cors::Rules>,
}

impl Api {
    /// Sorts the routes: the most specific first.
    pub(crate) fn new(api: HttpApi, making: &mut Making<'_>) -> Self {
        let routes = Routes::of_http(&api.routes);
        let spots = making.http(&api);
        let cors = api.cors.as_ref().map(cors::Rules::from);
        let authorizers = Authorizers::new(&api.id, &api.authorizers, &api.routes, making);
        Self { routes, spots, authorizers, cors, api }
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
    let spot = api.spots.of(&api.api.stages, stage, found.index);
    if let Err(refusal) = gateway.admit(doors.invoker.now(), spot, None) {
        tracing::info!(limit = %refusal.limit, resource = %refusal.resource, max = refusal.max, "refused");
        return with_limit(
            json(StatusCode::TOO_MANY_REQUESTS, "{\"message\":\"Too Many Requests\"}"),
            &refusal,
        );
    }
    let Some(integration) = &route.integration else { return internal_error() };
    let (IntegrationKind::AwsProxy, Some(target)) = (integration.kind, &integration.function) else {
        let kind = integration.kind.as_str();
        tracing::warn!(api = api.logical_id(), route = %route.route_key, kind, "this kind of integration is not run");
        let message = format!("Onrush runs Lambda proxy integrations, and no {kind} that leads elsewhere");
        return json(StatusCode::NOT_IMPLEMENTED, serde_json::json!({ "message": message }).to_string());
    };
    let stage_name = stage.map_or("$default", |stage| &stage.name);
    let domain = doors.gateway_name(api.api_id());
    let door = Door {
        account_id: &doors.account_id,
        api_id: api.api_id(),
        domain_name: &domain,
        route_key: &route.route_key,
        stage: stage_name,
        path_parameters: Some(parameters),
        stage_variables: stage.map(|stage| &stage.variables),
        signer: None,
        authorizer: None,
        nulls: false,
    };
    let described = event_v1::Api {
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
        signer: None,
        authorizer: None,
    };
    let question = Question {
        doors,
        gateway,
        arrival,
        is_rest: false,
        api_id: api.api_id(),
        stage,
        stage_name,
        route,
        index: found.index,
        path: inner,
    };
    let passed = api.authorizers.ask(&question, |format, trace_id| match format {
        "2.0" => arrival.event(&door, &Bytes::new(), trace_id),
        _ => arrival.event_v1(&described, arrival.path, &Bytes::new(), trace_id),
    });
    let passed = match passed.await {
        Ok(passed) => passed,
        Err(stopped) => return refusal(&stopped, &route.authorization_type),
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
    if !doors.lets_api(api.api_id(), stage_name, route, head.method.as_str(), &destination) {
        return internal_error();
    }
    let signer = signer.as_ref().map(|signer| doors.caller(signer));
    let is_v1 = integration.payload_format_version == "1.0";
    let told = passed.as_ref().map(if is_v1 { Passed::v1 } else { Passed::v2 });
    let authorizer = told.as_ref();
    let event = |body: &Bytes, trace_id: &str| match is_v1 {
        true => {
            let described = event_v1::Api { signer, authorizer, ..described };
            arrival.event_v1(&described, arrival.path, body, trace_id)
        }
        false => arrival.event(&Door { signer, authorizer, ..door }, body, trace_id),
    };
    match gateway.ask(doors, ("HTTP API", spot), arrival, &destination, incoming, event).await {
        Asked::Invoked(invoked) => {
            let format = if is_v1 {
                Format::One(reply_v1::Reading { strict: false, decodes: true })
            } else {
                Format::Two
            };
            answer_of(function, &invoked, format, internal_error)
        }
        Asked::Answered(answer) => *answer,
        Asked::Slow(refusal) => with_limit(unavailable(), &refusal),
        // AWS shows a throttled integration as 500 or 503 (unconfirmed which): 503, since trying again helps.
        Asked::Failed(InvokeError::Refused(refusal)) if interface_error(refusal.limit).is_none() => {
            with_limit(unavailable(), &refusal)
        }
        Asked::Failed(error) => with_cause(internal_error(), &error),
    }
}

/// What a client hears whom an authorizer stops.
fn refusal(stopped: &Stopped, kind: &str) -> Answer {
    match stopped {
        Stopped::Unauthorized => json(StatusCode::UNAUTHORIZED, "{\"message\":\"Unauthorized\"}"),
        Stopped::Denied { .. } => json(StatusCode::FORBIDDEN, "{\"message\":\"Forbidden\"}"),
        Stopped::Failed(None) => internal_error(),
        Stopped::Failed(Some(Cause::Limit(refusal))) => with_limit(internal_error(), refusal),
        Stopped::Failed(Some(Cause::Invocation(error))) => with_cause(internal_error(), error),
        Stopped::NotRun => authorizer::not_run(kind),
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
    use crate::gateway::{ApiParts, samples};
    use model::stack::{Place, Protocol};
    use std::sync::Arc;

    fn api(routes: &[&str], stages: &[&str]) -> Arc<Api> {
        let api = HttpApi {
            id: "Api".into(),
            place: Place::default(),
            name: "api".into(),
            api_id: "abc".into(),
            protocol: Protocol::Http,
            url: String::new(),
            routes: samples::routes(routes),
            stages: samples::stages(stages),
            cors: None,
            authorizers: Vec::new(),
        };
        samples::apis(ApiParts { http_apis: vec![api], ..ApiParts::default() }).http[0].clone()
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
