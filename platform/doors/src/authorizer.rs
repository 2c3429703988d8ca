//! Lambda authorizers: a function that says whether a request may pass, asked before the one behind the route.
//!
//! Source: API Gateway Developer Guide, "Use API Gateway Lambda authorizers", "Working with AWS Lambda authorizers for HTTP
//! APIs", "Input to" and "Output from an Amazon API Gateway Lambda authorizer"; quotas: 10 s for an answer. The function is
//! an ordinary one: it meets the limits of concurrency and scaling like any other, and what refuses it fails the request.
//! A REST API answers 401 where the function fails with `Unauthorized`; an HTTP API has no such word.

mod answer;
mod identity;

pub(crate) use answer::{Passed, verdict};

use crate::arrival::{Arrival, Destination};
use crate::gateway::{Gateway, Making};
use crate::router::{Doors, json, log_failure};
use crate::routes;
use crate::{Answer, lambda_rest};
use answer::Decision;
use bytes::Bytes;
use http::StatusCode;
use invoke::{InvokeError, Invoked, Request, request_id};
use limits::authorizer::{PATIENCE, Verdicts};
use limits::response_cache::CacheKey;
use model::name::partition_of;
use model::stack::{ApiRoute, Authorizer, AuthorizerKind, Stage};
use model::{Instant, Refusal};
use regex_lite::Regex;
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes of answers that one authorizer's cache keeps on this machine.
const CACHE_BYTES_MAX: u64 = 16 << 20;
/// What an entry takes beside its answer and its key, roughly.
const ENTRY_BYTES: usize = 512;

/// The authorizers of an API, and which route has which.
#[derive(Debug)]
pub(crate) struct Authorizers {
    all: Vec<One>,
    /// By route, in the template's order.
    routes: Vec<Guard>,
}

/// What stands before a route.
#[derive(Clone, Copy, Debug)]
enum Guard {
    /// Nothing, or a signature.
    Nobody,
    /// One of the authorizers.
    Asked(usize),
    /// What is not run here.
    NotRun,
}

/// One authorizer with what it said before.
#[derive(Debug)]
struct One {
    authorizer: Authorizer,
    /// What a token has to look like; `Err` lets none in.
    validation: Option<Result<Regex, regex_lite::Error>>,
    timeout: usize,
    verdicts: Mutex<Verdicts<Entry>>,
    /// Words of cache keys come from clients.
    secret: RandomState,
}

/// What was said, and to whom: a word may stand for two identities.
#[derive(Clone, Debug)]
struct Entry {
    identity: Vec<String>,
    decision: Arc<Decision>,
}

/// What a request is to its authorizer.
pub(crate) struct Question<'a> {
    pub(crate) doors: &'a Doors,
    pub(crate) gateway: &'a Gateway,
    pub(crate) arrival: Arrival<'a>,
    /// Whether the API is a REST API.
    pub(crate) is_rest: bool,
    pub(crate) api_id: &'a str,
    pub(crate) stage: Option<&'a Stage>,
    pub(crate) stage_name: &'a str,
    pub(crate) route: &'a ApiRoute,
    /// Its place among the API's routes.
    pub(crate) index: usize,
    /// The path within the stage.
    pub(crate) path: &'a str,
}

/// Why a request does not pass.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// What tells who asks is missing or malformed, or the function said `Unauthorized`.
    Unauthorized,
    /// The function said no; whether in so many words.
    Denied {
        /// A statement denies it.
        explicit: bool,
    },
    /// The function could not be asked, or its answer is none.
    Failed(Option<Cause>),
    /// Onrush does not run this kind.
    NotRun,
}

/// What kept an authorizer from answering.
#[derive(Debug)]
pub(crate) enum Cause {
    /// A limit.
    Limit(Refusal),
    /// An invocation that did not run.
    Invocation(InvokeError),
}

impl Authorizers {
    /// Those of an API whose routes stand in the template's order; `off` lets everybody in.
    pub(crate) fn new(api: &str, all: &[Authorizer], routes: &[ApiRoute], making: &mut Making<'_>) -> Self {
        let off = making.lets_everybody_in();
        let guard = |route: &ApiRoute| match (&route.authorizer, route.authorization_type.as_str()) {
            _ if off => Guard::Nobody,
            (None, "" | "NONE" | "AWS_IAM") => Guard::Nobody,
            (Some(id), "CUSTOM") => {
                all.iter().position(|known| known.id == *id).map_or(Guard::NotRun, Guard::Asked)
            }
            _ => Guard::NotRun,
        };
        let routes = routes.iter().map(guard).collect();
        let all = all.iter().map(|authorizer| {
            let resource: Arc<str> = format!("authorizer {} of {api}", authorizer.name).into();
            let ttl = Duration::from_secs(authorizer.ttl_s.into());
            One {
                validation: authorizer.validation.as_deref().map(validation),
                timeout: making.authorizer_timeout(Arc::clone(&resource), PATIENCE),
                verdicts: Mutex::new(Verdicts::new(resource, ttl, CACHE_BYTES_MAX, "this host".into())),
                secret: RandomState::new(),
                authorizer: authorizer.clone(),
            }
        });
        Self { all: all.collect(), routes }
    }

    /// Asks the authorizer of a route, or remembers what it said. `event` makes the event that a route's function would
    /// get, of a payload format and an X-Ray header and without a body; `None` where there is nobody to ask.
    pub(crate) async fn ask(
        &self,
        question: &Question<'_>,
        event: impl FnOnce(&str, &str) -> Bytes,
    ) -> Result<Option<Passed>, Stopped> {
        let one = match self.routes.get(question.index) {
            Some(Guard::Asked(at)) => &self.all[*at],
            Some(Guard::NotRun) => {
                let kind = &question.route.authorization_type;
                tracing::info!(api = question.api_id, route = %question.route.route_key, authorizer = %kind, "refused: this kind of authorizer is not run");
                return Err(Stopped::NotRun);
            }
            Some(Guard::Nobody) | None => return Ok(None),
        };
        one.ask(question, event).await.map(Some)
    }
}

impl One {
    async fn ask(
        &self,
        question: &Question<'_>,
        event: impl FnOnce(&str, &str) -> Bytes,
    ) -> Result<Passed, Stopped> {
        let Authorizer { kind, ttl_s, identity_sources, .. } = &self.authorizer;
        let is_rest = question.is_rest;
        // REST APIs look at them only for the cache's sake; a token is always looked at.
        let needed = !is_rest || *kind == AuthorizerKind::Token || *ttl_s > 0;
        let identity: Option<Vec<String>> =
            identity_sources.iter().map(|source| identity::of(source, question)).collect();
        let identity = match identity {
            Some(identity) => identity,
            None if needed => return Err(Stopped::Unauthorized),
            None => Vec::new(),
        };
        if *kind == AuthorizerKind::Token {
            let token = identity.first().map_or("", String::as_str);
            if !fits(self.validation.as_ref(), token) {
                return Err(Stopped::Unauthorized);
            }
        }
        let now = question.doors.invoker.now();
        let key = self.key(question.stage_name, &identity);
        if let Some(decision) = self.remembered(now, key, &identity) {
            return decision.of(question);
        }
        let begun = now;
        let payload = self.event(question, &identity, event);
        let invoked = self.invoke(question, payload).await?;
        let latency = question.doors.invoker.now().since(begun);
        let decision = Decision::read(&invoked, &self.authorizer, is_rest, latency)?;
        let decision = Arc::new(decision);
        let length = invoked.payload.len() + identity.iter().map(String::len).sum::<usize>();
        let entry = Entry { identity, decision: Arc::clone(&decision) };
        let now = question.doors.invoker.now();
        self.verdicts().keep(now, key, (length + ENTRY_BYTES) as u64, entry);
        decision.of(question)
    }

    /// Stages have caches of their own.
    fn key(&self, stage: &str, identity: &[String]) -> CacheKey {
        CacheKey { method: 0, word: self.secret.hash_one((stage, identity)) }
    }

    fn remembered(&self, now: Instant, key: CacheKey, identity: &[String]) -> Option<Arc<Decision>> {
        let mut verdicts = self.verdicts();
        let entry = verdicts.recall(now, key).filter(|entry| entry.identity == identity)?;
        Some(Arc::clone(&entry.decision))
    }

    fn verdicts(&self) -> MutexGuard<'_, Verdicts<Entry>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the function gets: the token alone, or what the route's function would get, without its body.
    fn event(
        &self,
        question: &Question<'_>,
        identity: &[String],
        event: impl FnOnce(&str, &str) -> Bytes,
    ) -> Bytes {
        let arn = question.arn();
        if self.authorizer.kind == AuthorizerKind::Token {
            let token = identity.first().map_or("", String::as_str);
            let event = serde_json::json!({"type": "TOKEN", "methodArn": arn, "authorizationToken": token});
            return event.to_string().into();
        }
        let format = self.authorizer.payload_format_version.as_str();
        let trace_id = lambda_rest::trace_header(&question.arrival.head.headers);
        let mut event: Value = serde_json::from_slice(&event(format, &trace_id)).unwrap_or_default();
        if let Some(members) = event.as_object_mut() {
            members.remove("body");
            members.remove("isBase64Encoded");
        }
        event["type"] = "REQUEST".into();
        let sources = identity.join(",");
        match (question.is_rest, format) {
            (true, _) => event["methodArn"] = arn.into(),
            (false, "2.0") => {
                event["routeArn"] = arn.into();
                event["identitySource"] = identity.into();
            }
            (false, _) => {
                event["methodArn"] = arn.into();
                event["identitySource"] = sources.as_str().into();
                event["authorizationToken"] = sources.into();
            }
        }
        event.to_string().into()
    }

    async fn invoke(&self, question: &Question<'_>, payload: Bytes) -> Result<Invoked, Stopped> {
        let Question { doors, gateway, api_id, .. } = question;
        let function = self.authorizer.function.as_ref().and_then(|target| doors.destination(target));
        let Some(destination) = function else {
            tracing::info!(
                api = api_id,
                authorizer = self.authorizer.name,
                "the authorizer's function is not there"
            );
            return Err(Stopped::Failed(None));
        };
        if !self.authorizer.by_role
            && !doors.lets_authorizer(api_id, &self.authorizer.authorizer_id, &destination)
        {
            return Err(Stopped::Failed(None));
        }
        let begun = doors.invoker.now();
        let ran = tokio::time::timeout(PATIENCE, run(doors, &destination, question, payload)).await;
        let now = doors.invoker.now();
        match ran {
            Ok(Ok(invoked)) => {
                gateway.answered(self.timeout, now.since(begun));
                Ok(invoked)
            }
            Ok(Err(error)) => {
                log_failure("authorizer", &error);
                Err(Stopped::Failed(Some(Cause::Invocation(error))))
            }
            Err(_) => {
                let refusal = gateway.expired(self.timeout, now);
                tracing::info!(limit = %refusal.limit, resource = %refusal.resource, function = %destination.function.name, max_ms = refusal.max, "timed out");
                Err(Stopped::Failed(Some(Cause::Limit(refusal))))
            }
        }
    }
}

/// The pattern that a whole token has to fit. The text has to stand by itself, too: `a)|(b` is none.
fn validation(text: &str) -> Result<Regex, regex_lite::Error> {
    Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")))
}

/// The template's reader has refused what is no pattern; should one come through, nobody passes.
fn fits(validation: Option<&Result<Regex, regex_lite::Error>>, token: &str) -> bool {
    validation.is_none_or(|pattern| pattern.as_ref().is_ok_and(|pattern| pattern.is_match(token)))
}

async fn run(
    doors: &Doors,
    destination: &Destination,
    question: &Question<'_>,
    payload: Bytes,
) -> Result<Invoked, InvokeError> {
    let function = &destination.function;
    let Some((runs, invoked_arn)) = destination.route(&doors.control) else {
        let name = format!("{}:{}", function.name, destination.qualifier.as_deref().unwrap_or_default());
        return Err(InvokeError::NoFunction(name.into()));
    };
    let id = request_id();
    let admission = doors.invoker.admit(&runs, &id)?;
    let request = Request {
        function: function.name.as_str().into(),
        invoked_arn,
        request_id: id,
        payload,
        tail: false,
        client_context: None,
        trace_id: Some(lambda_rest::trace_header(&question.arrival.head.headers)),
    };
    admission.run(request).await
}

/// What a route answers whose authorizer is not run.
pub(crate) fn not_run(kind: &str) -> Answer {
    let message = format!(
        "Onrush runs Lambda authorizers, and not {kind} ones: with --disable-authorizer everybody may call"
    );
    json(StatusCode::NOT_IMPLEMENTED, serde_json::json!({ "message": message }).to_string())
}

impl Question<'_> {
    /// What a policy's statement is about: `arn:aws:execute-api:us-east-1:000000000000:abc/Prod/GET/cart/7`.
    fn arn(&self) -> String {
        self.arn_of(self.path)
    }

    /// The same however the path is spelled: the route's function sees no difference, and neither may a policy.
    fn canonical_arn(&self) -> String {
        self.arn_of(&routes::canonical(self.path))
    }

    fn arn_of(&self, path: &str) -> String {
        let Doors { region, account_id, .. } = self.doors;
        format!(
            "arn:{}:execute-api:{region}:{account_id}:{}/{}/{}{}",
            partition_of(region),
            self.api_id,
            self.stage_name,
            self.arrival.head.method,
            path
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validation_that_is_none_lets_no_token_in() {
        let fits = |text: &str, token: &str| fits(Some(&validation(text)), token);
        assert!(super::fits(None, "anything"));
        assert!(fits("a|b", "a") && fits("a|b", "b") && !fits("a|b", "ab"));
        for (text, token) in [("(", "("), ("a)|(b", "a"), ("(?x)a # b", "a")] {
            assert!(!fits(text, token), "{text}");
        }
    }
}
