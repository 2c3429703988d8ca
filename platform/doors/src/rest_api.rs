//! REST APIs (API Gateway v1): stages, resources and methods that lead to functions, payload format 1.0.
//!
//! Source: API Gateway Developer Guide, "Gateway response types", "Set up Lambda proxy integrations in API Gateway", "Enabling
//! CORS for a REST API resource", "Set up API keys using the API Gateway console"; what is asked in which order:
//! the method, its authorization, the API key, throttles, the cache. What stands behind the first path segment that is
//! no stage is forbidden; a path or method that is not there asks for an authentication token, as AWS words it.

mod answers;
mod cross_origin;
mod flow;

use crate::Answer;
use crate::arrival::{Arrival, BODY_BYTES_MAX, Format, answer_of};
use crate::authorizer::{Authorizers, Passed, Question};
use crate::body::Incoming;
use crate::event_v1::{self, is_binary};
use crate::gateway::{Apis, Asked, Client, Gateway, Kept, Looked, Making, Reached, Spot, Spots};
use crate::lambda_rest::TRACE_ID;
use crate::reply_v1;
use crate::router::{Doors, with_cause, with_limit};
use crate::routes::{Found, Resource, Routes};
use crate::streaming::Outgoing;
use answers::{Type, gateway_response, of_mock};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use control::Function;
use http::header::{ACCEPT, CACHE_CONTROL, WARNING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use invoke::request_id;
use limits::response_cache::CacheKey;
use model::LimitId;
use model::stack::{ApiRoute, IntegrationKind, RestApi, Stage};
use std::net::IpAddr;
use std::sync::Arc;

/// Header with an API key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A REST API with its methods in the order in which they are tried.
#[derive(Debug)]
pub(crate) struct Api {
    api: RestApi,
    routes: Routes,
    /// Where each method stands among the limits, by stage.
    spots: Spots,
    authorizers: Authorizers,
    /// Made up as AWS's are: nobody chooses it.
    deployment_id: String,
}

/// What an event says that is made up for it.
struct Words {
    domain_name: String,
    resource_id: String,
    whole_path: String,
}

/// A request with what it met on its way.
struct Call<'a> {
    doors: &'a Doors,
    apis: &'a Arc<Apis>,
    gateway: &'a Gateway,
    api: &'a Api,
    arrival: Arrival<'a>,
    stage: Option<&'a Stage>,
    /// The path within the stage.
    path: &'a str,
    extended_id: &'a str,
}

impl Api {
    /// Sorts the methods: the most specific resource first.
    pub(crate) fn new(api: RestApi, making: &mut Making<'_>) -> Self {
        let deployment_id = short_id(&format!("{} deployment", api.api_id));
        let authorizers = Authorizers::new(&api.id, &api.authorizers, &api.routes, making);
        Self {
            routes: Routes::of_rest(&api.routes),
            spots: making.rest(&api),
            authorizers,
            deployment_id,
            api,
        }
    }

    pub(crate) fn api_id(&self) -> &str {
        &self.api.api_id
    }

    pub(crate) fn logical_id(&self) -> &str {
        &self.api.id
    }

    /// The first path segment that leads to something, `Prod`; empty without stages.
    pub(crate) fn first_stage(&self) -> &str {
        self.api.stages.first().map_or("", |stage| &stage.name)
    }

    /// The stage that a path is for, and the path within it.
    fn stage<'a>(&'a self, path: &'a str) -> Option<(Option<&'a Stage>, &'a str)> {
        if self.api.stages.is_empty() {
            return Some((None, path));
        }
        let trimmed = path.trim_start_matches('/');
        let first = trimmed.split('/').next().unwrap_or("");
        let stage = self.api.stages.iter().find(|stage| stage.name == first)?;
        let rest = &trimmed[first.len()..];
        Some((Some(stage), if rest.is_empty() { "/" } else { rest }))
    }

    /// Whether one of the methods is for a request to that path within the first stage.
    pub(crate) fn serves(&self, method: &str, path: &str) -> bool {
        match self.routes.resource(method, path) {
            Resource::Method(_) => true,
            Resource::Other(_) => method == "OPTIONS" && self.api.cors.is_some(),
            Resource::None => false,
        }
    }
}

/// The other id of a request. AWS's have sixteen letters, the last a sign of base64's.
pub(crate) fn extended_id(id: &str) -> String {
    STANDARD.encode(id.as_bytes().get(..11).unwrap_or_default())
}

pub(crate) async fn answer(
    doors: &Doors,
    reached: &Reached<Api>,
    head: &Parts,
    incoming: Incoming,
    peer: IpAddr,
    port: u16,
) -> Response<Outgoing> {
    let Reached { apis, api, path } = reached;
    let gateway = &apis.gateway;
    let id = request_id();
    let extended_id = extended_id(&id);
    let arrival = Arrival { path, head, peer, port, id: &id };
    let mut answer = match api.stage(path) {
        None => gateway_response(Type::Forbidden).map(Outgoing::from),
        Some((stage, path)) => {
            let call = Call { doors, apis, gateway, api, arrival, stage, path, extended_id: &extended_id };
            call.run(incoming).await
        }
    };
    let headers = answer.headers_mut();
    for (name, value) in [("x-amzn-requestid", &*id), ("x-amz-apigw-id", extended_id.as_str())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    answer
}

impl<'a> Call<'a> {
    async fn run(&self, incoming: Incoming) -> Response<Outgoing> {
        self.pass(incoming).await.unwrap_or_else(|answer| answer.map(Outgoing::from))
    }

    /// The integration's answer or the cache's; in place of an error what stopped the request before.
    async fn pass(&self, incoming: Incoming) -> Result<Response<Outgoing>, Answer> {
        let head = self.arrival.head;
        let found = match self.api.routes.resource(head.method.as_str(), self.path) {
            Resource::Method(found) => found,
            Resource::Other(methods) => {
                let rules = self.api.api.cors.as_ref().filter(|_| head.method == http::Method::OPTIONS);
                return Err(match rules {
                    Some(rules) => cross_origin::preflight(rules, &methods),
                    None => gateway_response(Type::MissingAuthenticationToken),
                });
            }
            Resource::None => return Err(gateway_response(Type::MissingAuthenticationToken)),
        };
        let route = found.route;
        let (mut incoming, mut signer) = (incoming, None);
        let signed = route.authorization_type == "AWS_IAM";
        if signed {
            match self.doors.authenticate_door(head, incoming, "execute-api", BODY_BYTES_MAX).await {
                // A resource policy could name another account; REST APIs have none here.
                Ok((signer, _)) if self.doors.caller(&signer).account_id != self.doors.account_id => {
                    return Err(gateway_response(Type::Forbidden));
                }
                Ok((found, body)) => (signer, incoming) = (Some(found), body),
                Err(failure) => {
                    tracing::info!(api = self.api.logical_id(), code = %failure.code, reason = failure.message, "the signature was refused");
                    return Err(answers::unsigned(&failure));
                }
            }
        }
        let words = self.words(&found);
        let described = self.described(&found, &words);
        let question = self.question(&found);
        let asked = self.api.authorizers.ask(&question, |_, trace_id| {
            self.arrival.event_v1(&described, self.path, &Bytes::new(), trace_id)
        });
        let passed = match asked.await {
            Ok(passed) => passed,
            Err(stopped) => return Err(answers::stopped(&stopped, &route.authorization_type)),
        };
        let told = passed.as_ref().map(Passed::v1);
        let signer = signer.as_ref().map(|signer| self.doors.caller(signer));
        let described = event_v1::Api { signer, authorizer: told.as_ref(), ..described };
        let client = match self.client(route, passed.as_ref()) {
            Ok(client) => client,
            Err(kind) => return Err(gateway_response(kind)),
        };
        let described =
            event_v1::Api { api_key: client.map(|client| (client.value(), client.key_id())), ..described };
        let spot = self.api.spots.of(&self.api.api.stages, self.stage, found.index);
        if let Err(refusal) = self.gateway.admit(self.doors.invoker.now(), spot, client) {
            tracing::info!(limit = %refusal.limit, resource = %refusal.resource, max = refusal.max, "refused");
            let quota = refusal.limit == LimitId::ApiKeyQuota;
            let kind = if quota { Type::QuotaExceeded } else { Type::Throttled };
            return Err(with_limit(gateway_response(kind), &refusal));
        }
        // What streams is not cached.
        let streams = route.integration.as_ref().is_some_and(|integration| integration.streams);
        let Some(cached) = spot.cached().filter(|_| !streams) else {
            return Ok(self.integrate(&found, spot, &described, incoming).await);
        };
        let word = self.gateway.cache_word(&self.cache_values(&found));
        let anew = wants_anew(head).then_some(signed);
        let (looked, warning) = self.gateway.look(self.doors.invoker.now(), cached, word, anew);
        let mut answer = match looked {
            Looked::Hit(kept) => {
                let mut answer = Answer::new(Full::new(kept.body));
                (*answer.status_mut(), *answer.headers_mut()) = (kept.status, kept.headers);
                answer.map(Outgoing::from)
            }
            Looked::Miss(key) => {
                let answer = self.integrate(&found, spot, &described, incoming).await;
                self.keep(cached, key, answer).await
            }
        };
        if warning {
            let text = HeaderValue::from_static("199 - \"cache invalidation is not authorized\"");
            answer.headers_mut().insert(WARNING, text);
        }
        Ok(answer)
    }

    fn question<'b>(&'b self, found: &Found<'b>) -> Question<'b> {
        Question {
            doors: self.doors,
            gateway: self.gateway,
            arrival: self.arrival,
            is_rest: true,
            api_id: self.api.api_id(),
            stage: self.stage,
            stage_name: self.stage.map_or("", |stage| stage.name.as_str()),
            route: found.route,
            index: found.index,
            path: self.path,
        }
    }

    fn words(&self, found: &Found<'_>) -> Words {
        let Call { doors, api, stage, path, .. } = self;
        Words {
            domain_name: doors.gateway_name(api.api_id()),
            resource_id: short_id(&format!("{}{}", api.api_id(), found.route.path)),
            whole_path: stage.map_or_else(|| (*path).to_owned(), |stage| format!("/{}{path}", stage.name)),
        }
    }

    /// What the API knows of the request as it comes in.
    fn described<'b>(&'b self, found: &'b Found<'_>, words: &'b Words) -> event_v1::Api<'b> {
        event_v1::Api {
            account_id: &self.doors.account_id,
            api_id: self.api.api_id(),
            domain_name: &words.domain_name,
            resource: &found.route.path,
            resource_id: Some(&words.resource_id),
            deployment_id: Some(&self.api.deployment_id),
            extended_request_id: self.extended_id,
            stage: self.stage.map_or("", |stage| stage.name.as_str()),
            whole_path: &words.whole_path,
            path_parameters: &found.parameters,
            stage_variables: self.stage.map(|stage| &stage.variables),
            api_key: None,
            binary_media_types: Some(&self.api.api.binary_media_types),
            version: None,
            signer: None,
            authorizer: None,
        }
    }

    /// The client of the API key that the method asks for: the request's, or that which the authorizer named.
    fn client(&self, route: &ApiRoute, passed: Option<&Passed>) -> Result<Option<&'a Client>, Type> {
        if !route.api_key_required {
            return Ok(None);
        }
        let value = match self.api.api.api_key_source.as_str() {
            "AUTHORIZER" => passed.and_then(|passed| passed.usage_identifier_key.as_deref()),
            _ => self.arrival.head.headers.get(API_KEY).and_then(|value| value.to_str().ok()),
        };
        let stage = self.stage.map_or("", |stage| stage.name.as_str());
        let client = value.and_then(|value| self.gateway.client(value, &self.api.api.id, stage));
        client.map(Some).ok_or(Type::InvalidApiKey)
    }

    /// Values of the declared parameters; what is not declared does not tell entries apart.
    fn cache_values(&self, found: &Found<'_>) -> Vec<Option<String>> {
        let head = self.arrival.head;
        let query = event_v1::query(head.uri.query().unwrap_or(""));
        let declared =
            found.route.integration.iter().flat_map(|integration| &integration.cache_key_parameters);
        let value = |parameter: &String| {
            let (_, rest) = parameter.split_once(".request.")?;
            match rest.split_once('.')? {
                ("path", name) => found.parameters.get(name).cloned(),
                ("querystring", name) => query.get(name)?.last().cloned(),
                ("header", name) => {
                    let value = head.headers.get_all(name).iter().next_back()?;
                    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
                }
                _ => None,
            }
        };
        declared.map(value).collect()
    }

    /// Keeps a good answer. AWS does not say which statuses are kept: those of success here.
    async fn keep(
        &self,
        cached: crate::gateway::Cached,
        key: CacheKey,
        answer: Response<Outgoing>,
    ) -> Response<Outgoing> {
        let (head, body) = answer.into_parts();
        let Outgoing::Whole(body) = body else { return Response::from_parts(head, body) };
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        if head.status.is_success() {
            let mut headers = head.headers.clone();
            // It is of this request alone.
            headers.remove(TRACE_ID);
            let kept = Kept { status: head.status, headers, body: body.clone() };
            self.gateway.keep(self.doors.invoker.now(), cached, key, kept);
        }
        Answer::from_parts(head, Full::new(body)).map(Outgoing::from)
    }

    async fn integrate(
        &self,
        found: &Found<'_>,
        spot: Spot,
        described: &event_v1::Api<'_>,
        incoming: Incoming,
    ) -> Response<Outgoing> {
        let route = found.route;
        let Some(integration) = &route.integration else {
            return answers::internal_error().map(Outgoing::from);
        };
        let answer = match (integration.kind, &integration.function, &integration.mock) {
            (IntegrationKind::AwsProxy, Some(target), _) => {
                return self.invoke(found, spot, described, incoming, target).await;
            }
            (IntegrationKind::Mock, _, Some(mock)) => of_mock(mock),
            _ => {
                let kind = integration.kind.as_str();
                tracing::warn!(api = self.api.logical_id(), method = %route.route_key, kind, "this kind of integration is not run");
                answers::not_run(kind)
            }
        };
        answer.map(Outgoing::from)
    }

    async fn invoke(
        &self,
        found: &Found<'_>,
        spot: Spot,
        described: &event_v1::Api<'_>,
        incoming: Incoming,
        target: &model::stack::FunctionTarget,
    ) -> Response<Outgoing> {
        let Call { doors, apis, gateway, api, arrival, path, .. } = self;
        let route = found.route;
        let Some(destination) = doors.destination(target) else {
            return answers::internal_error().map(Outgoing::from);
        };
        let function = &destination.function;
        let method = arrival.head.method.as_str();
        if !doors.lets_api(api.api_id(), described.stage, route, method, &destination) {
            return answers::internal_error().map(Outgoing::from);
        }
        let mut trace = None;
        let event = |body: &Bytes, trace_id: &str| {
            trace = HeaderValue::from_str(trace_id).ok();
            arrival.event_v1(described, path, body, trace_id)
        };
        let at = ("REST API", spot);
        let streams = route.integration.as_ref().is_some_and(|integration| integration.streams);
        let asked = if streams {
            apis.ask_for_stream(doors, at, *arrival, &destination, incoming, event).await
        } else {
            Err(gateway.ask(doors, at, *arrival, &destination, incoming, event).await)
        };
        let mut answer = match asked {
            Ok((stream, patience)) => flow::flowing(function, stream, patience).await,
            Err(asked) => self.answered(function, asked, streams).map(Outgoing::from),
        };
        if let Some(trace) = trace {
            answer.headers_mut().insert(TRACE_ID, trace);
        }
        answer
    }

    /// What the client hears of an invocation that did not stream.
    fn answered(&self, function: &Function, asked: Asked, streams: bool) -> Answer {
        match asked {
            Asked::Invoked(invoked) if streams => flow::whole(function, &invoked),
            Asked::Invoked(invoked) => {
                let reading = reply_v1::Reading { strict: true, decodes: self.accepts_binary() };
                answer_of(function, &invoked, Format::One(reading), answers::bad_gateway)
            }
            Asked::Answered(answer) => *answer,
            Asked::Slow(refusal) => answers::too_slow(&refusal),
            Asked::Failed(error) => with_cause(answers::internal_error(), &error),
        }
    }

    /// Whether the first type that the client accepts is one of the API's binary types.
    fn accepts_binary(&self) -> bool {
        let accept = self.arrival.head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let first = accept.unwrap_or("").split(',').next().unwrap_or("");
        is_binary(&self.api.api.binary_media_types, first)
    }
}

/// Whether a client wants its entry of the cache made anew.
fn wants_anew(head: &Parts) -> bool {
    let values = head.headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("max-age=0"))
}

/// Six letters and digits, always the same for the same word.
fn short_id(word: &str) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rest = crc32fast::hash(word.as_bytes());
    let letters = (0..6).map(|_| {
        let letter = LETTERS[(rest % 36) as usize];
        rest /= 36;
        char::from(letter)
    });
    letters.collect()
}

#[cfg(test)]
mod tests;
