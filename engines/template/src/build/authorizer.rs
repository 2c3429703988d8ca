//! Authorizers of APIs, by the spellings of v2 (`AuthorizerType`), v1 (`Type`) and OpenAPI (`type`), and which route has which.
//!
//! Source: CloudFormation, AWS::ApiGatewayV2::Authorizer and AWS::ApiGateway::Authorizer; API Gateway Developer Guide,
//! "x-amazon-apigateway-authorizer object": answers of REST APIs' authorizers are kept for 300 s unless the template says
//! otherwise, those of HTTP APIs where it says so and there are identity sources.

use super::{Builder, Fields, Item, choice, place};
use crate::problem::{Problem, quoted};
use crate::sam::{AUTHORIZER, DEFAULT_AUTHORIZER};
use crate::yaml::{Node, Span};
use model::stack::{ApiRoute, Authorizer, AuthorizerKind, IdentitySource, Place};
use regex_lite::Regex;
use std::collections::BTreeMap;

/// How long answers are kept at REST APIs, and at most (API Gateway Developer Guide, "Quotas").
const TTL_S: u32 = 300;
const TTL_MAX_S: u32 = 3_600;
/// Authorizers of one API (the same page).
const AUTHORIZERS_MAX: usize = 10;

const KINDS: &[(&str, AuthorizerKind)] = &[
    ("TOKEN", AuthorizerKind::Token),
    ("REQUEST", AuthorizerKind::Request),
    ("JWT", AuthorizerKind::Jwt),
    ("COGNITO_USER_POOLS", AuthorizerKind::CognitoUserPools),
];

/// What the doors know of `$context`; anything else is missing in every request.
const CONTEXT: &[&str] = &[
    "accountId",
    "apiId",
    "domainName",
    "domainPrefix",
    "extendedRequestId",
    "http.method",
    "http.path",
    "http.protocol",
    "http.sourceIp",
    "http.userAgent",
    "httpMethod",
    "identity.apiKey",
    "identity.sourceIp",
    "identity.userAgent",
    "path",
    "protocol",
    "requestId",
    "resourcePath",
    "routeKey",
    "stage",
];

/// Who an authorizer is.
struct Named<'a> {
    id: String,
    name: String,
    authorizer_id: String,
    place: Place,
    span: Span,
    is_rest: bool,
    /// Where the token is, when the authorizer does not say.
    header: Option<&'a str>,
}

impl Builder<'_, '_> {
    pub(super) fn http_authorizer(&mut self, item: &Item<'_>) {
        let Some(api) = self.link(&item.fields, "ApiId", "AWS::ApiGatewayV2::Api", true) else { return };
        let found = self.authorizer(&item.fields, Named::of(item, false));
        let apis = &mut self.stack.http_apis;
        if let Some(api) = apis.iter_mut().find(|known| Some(known.id.as_str()) == api.logical()) {
            api.authorizers.extend(found);
        }
    }

    pub(super) fn rest_authorizer(&mut self, item: &Item<'_>) {
        let Some(api) = self.link(&item.fields, "RestApiId", "AWS::ApiGateway::RestApi", true) else {
            return;
        };
        let found = self.authorizer(&item.fields, Named::of(item, true));
        let apis = &mut self.stack.rest_apis;
        if let Some(api) = apis.iter_mut().find(|known| Some(known.id.as_str()) == api.logical()) {
            api.authorizers.extend(found);
        }
    }

    /// One of an OpenAPI body: its scheme's name is its own.
    pub(super) fn body_authorizer(
        &mut self,
        (api, name): (&str, &str),
        fields: &Fields<'_>,
        header: Option<&str>,
        timeout_ms: u32,
    ) -> Option<Authorizer> {
        let id = format!("{api}.{name}");
        let named = Named {
            // Letters that depend on the name alone: nobody chooses them.
            authorizer_id: format!("{:08x}", crc32(id.as_bytes())),
            id,
            name: name.to_owned(),
            place: place(fields.span),
            span: fields.span,
            is_rest: timeout_ms != super::api::HTTP_TIMEOUT_MS,
            header,
        };
        self.authorizer(fields, named)
    }

    fn authorizer(&mut self, fields: &Fields<'_>, named: Named<'_>) -> Option<Authorizer> {
        let problems = &mut self.problems;
        let first = |keys: [&'static str; 3]| keys.into_iter().find(|key| fields.get(key).is_some());
        let kind = first(["AuthorizerType", "Type", "type"]).and_then(|key| fields.get(key))?;
        let upper = Node::text(kind.as_str()?.to_ascii_uppercase(), kind.span);
        let kind = choice(&upper, KINDS, problems)?;
        let uri = first(["AuthorizerUri", "authorizerUri", ""]).and_then(|key| fields.string(key, problems));
        let function = uri.as_deref().map(|uri| self.links.function(uri));
        let key = first(["IdentitySource", "identitySource", ""]);
        let sources = key.map(|key| fields.items(key, problems)).unwrap_or_default();
        let mut identity_sources = Vec::new();
        for node in sources {
            let Some(text) = node.string(problems) else { continue };
            for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                match source(word) {
                    Some(source) => {
                        if let IdentitySource::Context(name) = &source
                            && !CONTEXT.contains(&name.as_str())
                        {
                            let message = format!("{} is not known here", quoted(word));
                            let help = "requests are refused as if it were missing";
                            self.warnings.push(Problem::at(node.span, message).help(help));
                        }
                        identity_sources.push(source);
                    }
                    None => {
                        let message = format!("{} is no identity source", quoted(word));
                        let help = if named.is_rest {
                            "method.request.header.Authorization, method.request.querystring.key, stageVariables.name or context.identity.sourceIp"
                        } else {
                            "$request.header.Authorization, $request.querystring.key, $stageVariables.name or $context.routeKey"
                        };
                        problems.push(Problem::at(node.span, message).help(help));
                    }
                }
            }
        }
        if identity_sources.is_empty() && kind == AuthorizerKind::Token {
            let header = named.header.filter(|name| *name != "Unused").unwrap_or("Authorization");
            identity_sources.push(IdentitySource::Header(header.to_owned()));
        }
        let key = first(["IdentityValidationExpression", "identityValidationExpression", ""]);
        let validation = key.and_then(|key| Some((fields.string(key, problems)?, fields.get(key)?.span)));
        if let Some((text, span)) = &validation
            // The door matches whole tokens; both have to be patterns, or a bracket too many would go unseen.
            && let Err(cause) = Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")))
        {
            let message = format!("{} is no regular expression: {cause}", quoted(text));
            problems.push(Problem::at(*span, message));
        }
        let key = first(["AuthorizerResultTtlInSeconds", "authorizerResultTtlInSeconds", ""]);
        let ttl = key.and_then(|key| fields.number(key, "seconds", 0..=TTL_MAX_S, problems));
        let simple = first(["EnableSimpleResponses", "enableSimpleResponses", ""]);
        let simple_responses = simple.is_some_and(|key| fields.boolean(key, false, problems));
        let key = first(["AuthorizerPayloadFormatVersion", "authorizerPayloadFormatVersion", ""]);
        let version = key.and_then(|key| fields.get(key));
        let version = version.and_then(|node| choice(node, &[("1.0", "1.0"), ("2.0", "2.0")], problems));
        let is_function = matches!(kind, AuthorizerKind::Token | AuthorizerKind::Request);
        if is_function && function.is_none() {
            let message = format!("the authorizer {} has no AuthorizerUri", quoted(&named.name));
            problems.push(Problem::at(named.span, message).help("the ARN of a function"));
        }
        if simple_responses && version == Some("1.0") {
            let message = "simple responses need the payload format 2.0";
            problems.push(Problem::at(named.span, message).help("AuthorizerPayloadFormatVersion: '2.0'"));
        }
        let ttl_s = ttl.unwrap_or(if named.is_rest { TTL_S } else { 0 });
        let credentials =
            first(["AuthorizerCredentials", "AuthorizerCredentialsArn", "authorizerCredentials"]);
        Some(Authorizer {
            id: named.id,
            place: named.place,
            name: named.name,
            authorizer_id: named.authorizer_id,
            kind,
            function,
            // Without any there is nothing to tell entries apart.
            ttl_s: if identity_sources.is_empty() { 0 } else { ttl_s },
            identity_sources,
            validation: validation.map(|(text, _)| text),
            simple_responses,
            payload_format_version: version.unwrap_or("1.0").to_owned(),
            by_role: credentials.is_some(),
        })
    }

    /// Who may call a route: an authorizer's name or id here, settled at the end.
    pub(super) fn authorization(&mut self, fields: &Fields<'_>, route: &mut ApiRoute) {
        let problems = &mut self.problems;
        route.authorization_type = fields.string("AuthorizationType", problems).unwrap_or_default();
        let named = fields.string(AUTHORIZER, problems).or_else(|| fields.string("AuthorizerId", problems));
        route.authorizer = named.filter(|_| !matches!(&*route.authorization_type, "NONE" | "AWS_IAM"));
    }

    /// Gives each route its authorizer, that of its API if it says nothing.
    pub(super) fn settle_authorizers(&mut self, items: &[Item<'_>]) {
        let mut defaults = BTreeMap::new();
        for item in items {
            if let Some(name) = item.fields.string(DEFAULT_AUTHORIZER, &mut self.problems) {
                defaults.insert(item.id, name);
            }
        }
        let (http, rest) = (&mut self.stack.http_apis, &mut self.stack.rest_apis);
        let http = http.iter_mut().map(|api| (&api.id, api.place, &api.authorizers, &mut api.routes));
        let rest = rest.iter_mut().map(|api| (&api.id, api.place, &api.authorizers, &mut api.routes));
        for (id, at, authorizers, routes) in http.chain(rest) {
            if authorizers.len() > AUTHORIZERS_MAX {
                let message = format!("{id} has more than {AUTHORIZERS_MAX} authorizers");
                self.problems.push(Problem::at(super::span(at), message));
            }
            for route in routes {
                if route.authorization_type.is_empty() && route.authorizer.is_none() {
                    match defaults.get(id.as_str()).map(String::as_str) {
                        Some(kind @ ("AWS_IAM" | "NONE")) => route.authorization_type = kind.to_owned(),
                        other => route.authorizer = other.map(str::to_owned),
                    }
                }
                let Some(named) = route.authorizer.take() else {
                    if route.authorization_type.is_empty() {
                        route.authorization_type = "NONE".to_owned();
                    }
                    continue;
                };
                let is_named = |known: &&Authorizer| known.name == named || known.authorizer_id == named;
                match authorizers.iter().find(is_named) {
                    Some(found) => {
                        let kind = match found.kind {
                            AuthorizerKind::Token | AuthorizerKind::Request => "CUSTOM",
                            AuthorizerKind::Jwt => "JWT",
                            AuthorizerKind::CognitoUserPools => "COGNITO_USER_POOLS",
                        };
                        route.authorization_type = kind.to_owned();
                        route.authorizer = Some(found.id.clone());
                    }
                    None => {
                        if route.authorization_type.is_empty() {
                            route.authorization_type = "CUSTOM".to_owned();
                        }
                        let message = format!("{id} has no authorizer {}", quoted(&named));
                        let key = &route.route_key;
                        let help = format!("nobody may call {key}");
                        self.warnings.push(Problem::at(super::span(route.place), message).help(help));
                    }
                }
            }
        }
    }
}

impl Named<'_> {
    fn of(item: &Item<'_>, is_rest: bool) -> Self {
        let name = item.fields.get("Name").and_then(Node::as_str).unwrap_or(item.id);
        Self {
            id: item.id.to_owned(),
            name: name.to_owned(),
            authorizer_id: item.reference.to_owned(),
            place: item.place(),
            span: item.span,
            is_rest,
            header: None,
        }
    }
}

/// `$request.header.Name` of HTTP APIs, `method.request.header.Name` of REST APIs.
fn source(word: &str) -> Option<IdentitySource> {
    let word = word.strip_prefix('$').unwrap_or(word);
    let word = word.strip_prefix("method.").unwrap_or(word);
    type Make = fn(String) -> IdentitySource;
    let kinds: [(&str, Make); 4] = [
        ("request.header.", IdentitySource::Header),
        ("request.querystring.", IdentitySource::Query),
        ("stageVariables.", IdentitySource::Stage),
        ("context.", IdentitySource::Context),
    ];
    kinds.into_iter().find_map(|(start, kind)| {
        let name = word.strip_prefix(start).filter(|name| !name.is_empty())?;
        Some(kind(name.to_owned()))
    })
}

/// The checksum of Ethernet and zip, bit by bit: it names a handful of authorizers.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
    })
}
