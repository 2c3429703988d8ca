//! The API Gateway types: APIs first, then what points at them: routes, methods, stages, usage plans.

use super::{Builder, Fields, Item, choice, span};
use crate::problem::{Problem, Problems, quoted};
use crate::sam::{CORS, INTEGRATION, MERGE, PATH};
use crate::suggest::did_you_mean;
use crate::yaml::Node;
use model::stack::{
    ApiKey, ApiRoute, Cors, EndpointType, HttpApi, Integration, IntegrationKind, Link, Protocol, RestApi,
    Stage, StageCache, Throttle,
};
use std::collections::{BTreeMap, BTreeSet};

/// How long the gateway waits at most (API Gateway Developer Guide, "Quotas"): HTTP APIs 30 s, REST APIs 29 s unless
/// raised, to 300 s at the most.
pub(super) const HTTP_TIMEOUT_MS: u32 = 30_000;
const REST_TIMEOUT_MS: u32 = 29_000;
const REST_TIMEOUT_MAX_MS: u32 = 300_000;
const TIMEOUT_MIN_MS: u32 = 50;

/// A REST API has at most this many resources, so a path at most this many parts.
const MAX_PATH_PARTS: usize = 300;

/// Longest wait for an integration that streams. Source: API Gateway Developer Guide, "Set up an HTTP proxy integration with payload
/// response streaming in API Gateway", published: 15 minutes.
const STREAM_TIMEOUT_MAX_MS: u32 = 900_000;
/// Whether a response goes on piece by piece.
const TRANSFER_MODES: &[(&str, bool)] = &[("BUFFERED", false), ("STREAM", true)];
/// Integrations whose responses can. Source: API Gateway Developer Guide, "Stream the integration response for your proxy
/// integrations in API Gateway", published.
const PROXIES: [IntegrationKind; 2] = [IntegrationKind::AwsProxy, IntegrationKind::HttpProxy];
const INTEGRATION_KINDS: &[(&str, IntegrationKind)] = &[
    ("AWS_PROXY", IntegrationKind::AwsProxy),
    ("AWS", IntegrationKind::Aws),
    ("HTTP", IntegrationKind::Http),
    ("HTTP_PROXY", IntegrationKind::HttpProxy),
    ("MOCK", IntegrationKind::Mock),
];

impl Builder<'_, '_> {
    /// Builds a resource of an API Gateway type; false when it is none.
    pub(super) fn api(&mut self, item: &Item<'_>) -> bool {
        match item.kind {
            "AWS::ApiGatewayV2::Api" => self.http_api(item),
            "AWS::ApiGateway::RestApi" => self.rest_api(item),
            "AWS::ApiGateway::ApiKey" => {
                let identity = self.resolver.identity(item.index);
                let (name, made) = (identity.name(), identity.letters("key", 40));
                let key = ApiKey {
                    id: item.id.to_owned(),
                    place: item.place(),
                    name,
                    key_id: item.reference.to_owned(),
                    value: item.fields.string("Value", &mut self.problems).unwrap_or(made),
                    enabled: item.fields.boolean("Enabled", false, &mut self.problems),
                };
                self.stack.api_keys.push(key);
            }
            "AWS::ApiGateway::UsagePlan" => self.usage_plan(item),
            // Joined to their API or plan once all are known.
            "AWS::ApiGatewayV2::Integration"
            | "AWS::ApiGatewayV2::Authorizer"
            | "AWS::ApiGatewayV2::Route"
            | "AWS::ApiGatewayV2::Stage"
            | "AWS::ApiGateway::Authorizer"
            | "AWS::ApiGateway::Resource"
            | "AWS::ApiGateway::Method"
            | "AWS::ApiGateway::Stage"
            | "AWS::ApiGateway::UsagePlanKey" => {}
            _ => return false,
        }
        true
    }

    /// Joins routes, methods, stages and keys to their APIs and plans.
    pub(super) fn join_apis(&mut self, items: &[Item<'_>]) {
        let mut integrations = BTreeMap::new();
        let mut parents = BTreeMap::new();
        let mut whole = BTreeSet::new();
        for item in items {
            match item.kind {
                "AWS::ApiGateway::RestApi" if item.fields.get("Body").is_some() => {
                    let merges = item.fields.boolean(MERGE, false, &mut self.problems);
                    whole.extend((!merges).then_some(item.id));
                }
                "AWS::ApiGatewayV2::Integration" => {
                    if let Some(integration) = self.integration(&item.fields, HTTP_TIMEOUT_MS) {
                        integrations.insert(item.reference, integration);
                    }
                }
                "AWS::ApiGateway::Resource" => {
                    let parent = item.fields.require("ParentId", &mut self.problems).and_then(Node::as_str);
                    let part = item.fields.require("PathPart", &mut self.problems).and_then(Node::as_str);
                    if let (Some(parent), Some(part)) = (parent, part) {
                        parents.insert(item.reference, (parent, part));
                    }
                }
                _ => {}
            }
        }
        for item in items {
            match item.kind {
                "AWS::ApiGatewayV2::Authorizer" => self.http_authorizer(item),
                "AWS::ApiGateway::Authorizer" => self.rest_authorizer(item),
                "AWS::ApiGatewayV2::Route" => self.route_of_api(item, &integrations),
                "AWS::ApiGateway::Method" => self.method(item, &parents, &whole),
                "AWS::ApiGatewayV2::Stage" => self.http_stage(item),
                "AWS::ApiGateway::Stage" => self.rest_stage(item),
                // A deployment may bring its stage along.
                "AWS::ApiGateway::Deployment" if item.fields.get("StageName").is_some() => {
                    self.rest_stage(item);
                }
                "AWS::ApiGateway::UsagePlanKey" => {
                    let plan = self.link(&item.fields, "UsagePlanId", "AWS::ApiGateway::UsagePlan", true);
                    let key = self.link(&item.fields, "KeyId", "AWS::ApiGateway::ApiKey", true);
                    let plan = plan.as_ref().and_then(Link::logical);
                    let found =
                        self.stack.usage_plans.iter_mut().find(|known| Some(known.id.as_str()) == plan);
                    if let (Some(found), Some(key)) = (found, key) {
                        found.keys.push(key);
                    }
                }
                _ => {}
            }
        }
        self.settle_authorizers(items);
        self.report_double_routes();
    }

    /// Takes WebSocket APIs, which have no door, out of the stack; their logical ids.
    pub(super) fn set_aside_web_sockets(&mut self) -> Vec<String> {
        let apis = std::mem::take(&mut self.stack.http_apis);
        let (sockets, others) = apis.into_iter().partition(|api| api.protocol == Protocol::WebSocket);
        self.stack.http_apis = others;
        let sockets: Vec<HttpApi> = sockets;
        sockets.into_iter().map(|api| api.id).collect()
    }

    fn report_double_routes(&mut self) {
        let http = self.stack.http_apis.iter().map(|api| (&api.id, &api.routes));
        let rest = self.stack.rest_apis.iter().map(|api| (&api.id, &api.routes));
        for (id, routes) in http.chain(rest) {
            let mut first: BTreeMap<&str, &ApiRoute> = BTreeMap::new();
            for route in routes {
                if let Some(before) = first.insert(&route.route_key, route) {
                    let message = format!("{id} has the route {} twice", quoted(&route.route_key));
                    let problem = Problem::at(span(route.place), message);
                    self.problems.push(problem.related(span(before.place), "first here"));
                }
            }
        }
    }

    fn http_api(&mut self, item: &Item<'_>) {
        const PROTOCOLS: &[(&str, Protocol)] =
            &[("HTTP", Protocol::Http), ("WEBSOCKET", Protocol::WebSocket)];
        let fields = &item.fields;
        let protocol =
            fields.get("ProtocolType").and_then(|node| choice(node, PROTOCOLS, &mut self.problems));
        let cors = fields.inner("CorsConfiguration", &mut self.problems);
        let cors = cors.filter(|cors| !cors.mapping().is_empty()).map(|cors| self.cors(&cors));
        let body = fields.inner("Body", &mut self.problems);
        let body = body.map(|body| self.open_api(item.id, &body, HTTP_TIMEOUT_MS));
        let (mut routes, authorizers) = body.unwrap_or_default();
        let mut stages = Vec::new();
        // "Quick create": a target makes a catch-all route, an integration and a stage.
        if let Some(target) = fields.string("Target", &mut self.problems) {
            let key = fields.string("RouteKey", &mut self.problems).unwrap_or_else(|| "$default".into());
            let function = self.links.function(&target);
            let is_function = function.function.logical().is_some() || target.contains(":function:");
            let integration = Integration {
                kind: if is_function { IntegrationKind::AwsProxy } else { IntegrationKind::HttpProxy },
                function: is_function.then_some(function),
                uri: (!is_function).then_some(target),
                payload_format_version: if is_function { "2.0" } else { "1.0" }.into(),
                timeout_ms: HTTP_TIMEOUT_MS,
                streams: false,
                cache_key_parameters: Vec::new(),
                cache_namespace: None,
                mock: None,
            };
            routes.push(route(item, &key, Some(integration)));
            stages.push(Stage {
                id: format!("{}.Stage", item.id),
                place: item.place(),
                name: "$default".into(),
                default_throttle: Throttle::default(),
                route_throttles: BTreeMap::new(),
                cache: StageCache::default(),
                variables: BTreeMap::new(),
            });
        }
        let identity = self.resolver.identity(item.index);
        self.stack.http_apis.push(HttpApi {
            id: item.id.to_owned(),
            place: item.place(),
            name: identity.name(),
            api_id: item.reference.to_owned(),
            protocol: protocol.unwrap_or_default(),
            url: identity.api_url(),
            routes,
            stages,
            cors,
            authorizers,
        });
    }

    fn rest_api(&mut self, item: &Item<'_>) {
        const TYPES: &[(&str, EndpointType)] = &[
            ("EDGE", EndpointType::Edge),
            ("REGIONAL", EndpointType::Regional),
            ("PRIVATE", EndpointType::Private),
        ];
        let fields = &item.fields;
        let endpoint = fields.inner("EndpointConfiguration", &mut self.problems);
        let endpoint =
            endpoint.and_then(|endpoint| endpoint.items("Types", &mut self.problems).first().copied());
        let endpoint = endpoint.and_then(|node| choice(node, TYPES, &mut self.problems));
        let cors = fields.get(CORS).map(|node| rest_cors(node, &mut self.problems));
        let body = fields.inner("Body", &mut self.problems);
        let body = body.map(|body| self.open_api(item.id, &body, REST_TIMEOUT_MS));
        let (routes, authorizers) = body.unwrap_or_default();
        let binary = fields.strings("BinaryMediaTypes", &mut self.problems);
        let key_source = fields.string("ApiKeySourceType", &mut self.problems);
        let identity = self.resolver.identity(item.index);
        self.stack.rest_apis.push(RestApi {
            id: item.id.to_owned(),
            place: item.place(),
            name: identity.name(),
            api_id: item.reference.to_owned(),
            endpoint_type: endpoint.unwrap_or_default(),
            url: identity.api_url(),
            routes,
            stages: Vec::new(),
            api_key_source: key_source.unwrap_or_else(|| "HEADER".into()),
            // In templates of SAM the slash is written `~1`.
            binary_media_types: binary.into_iter().map(|kind| kind.replace("~1", "/")).collect(),
            cors,
            authorizers,
        });
    }

    fn route_of_api(&mut self, item: &Item<'_>, integrations: &BTreeMap<&str, Integration>) {
        let fields = &item.fields;
        let api = self.link(fields, "ApiId", "AWS::ApiGatewayV2::Api", true);
        let key = fields.require("RouteKey", &mut self.problems);
        let (Some(api), Some(node)) = (api, key) else { return };
        let Some(key) = node.string(&mut self.problems) else { return };
        let integration = match fields.inner(INTEGRATION, &mut self.problems) {
            Some(inline) => self.integration(&inline, HTTP_TIMEOUT_MS),
            None => {
                let target = fields.string("Target", &mut self.problems).unwrap_or_default();
                integrations.get(target.strip_prefix("integrations/").unwrap_or(&target)).cloned()
            }
        };
        let Some(at) = self.stack.http_apis.iter().position(|known| Some(known.id.as_str()) == api.logical())
        else {
            let message = format!("the API {} is not of this template", quoted(api.as_str()));
            self.warnings.push(Problem::at(item.span, message).help("the route has no effect here"));
            return;
        };
        if self.stack.http_apis[at].protocol == Protocol::Http && key != "$default" && !is_route_key(key) {
            let problem = Problem::at(node.span, format!("{} is not a route key", quoted(key)));
            let method = key
                .split_once(' ')
                .filter(|(method, _)| !METHODS.contains(method))
                .and_then(|(method, _)| did_you_mean(method, METHODS.iter().copied()));
            let example = || "`GET /cart/{id}`, `ANY /{proxy+}` or `$default`".to_owned();
            self.problems.push(problem.help(method.unwrap_or_else(example)));
        }
        if integration.is_none() {
            let message = format!("the route {} leads to nothing that is known here", quoted(key));
            self.warnings.push(Problem::at(item.span, message));
        }
        let mut made = route(item, key, integration);
        self.authorization(fields, &mut made);
        let routes = &mut self.stack.http_apis[at].routes;
        match written(routes, &made).filter(|_| is_of_event(fields)) {
            Some(written) if written.integration.is_some() => {}
            Some(written) => *written = made,
            None => routes.push(made),
        }
    }

    /// `whole`: REST APIs that have the routes of their bodies alone.
    fn method(&mut self, item: &Item<'_>, parents: &BTreeMap<&str, (&str, &str)>, whole: &BTreeSet<&str>) {
        let fields = &item.fields;
        let Some(api) = self.link(fields, "RestApiId", "AWS::ApiGateway::RestApi", true) else { return };
        let Some(node) = fields.require("HttpMethod", &mut self.problems) else { return };
        let Some(method) = node.string(&mut self.problems) else { return };
        if !METHODS.contains(&&*method.to_ascii_uppercase()) {
            let problem = Problem::at(node.span, format!("{} is no HTTP method", quoted(method)));
            let near = did_you_mean(method, METHODS.iter().copied());
            self.problems
                .push(problem.help(near.unwrap_or_else(|| format!("one of {}", METHODS.join(", ")))));
        }
        let path = match fields.string(PATH, &mut self.problems) {
            Some(path) => path,
            None => {
                let Some(resource) = fields.require("ResourceId", &mut self.problems).and_then(Node::as_str)
                else {
                    return;
                };
                path_of(resource, parents)
            }
        };
        let key = if fields.get(INTEGRATION).is_some() { INTEGRATION } else { "Integration" };
        let integration = fields.inner(key, &mut self.problems);
        let integration = integration.and_then(|inner| self.integration(&inner, REST_TIMEOUT_MS));
        let Some(at) = self.stack.rest_apis.iter().position(|known| Some(known.id.as_str()) == api.logical())
        else {
            let message = format!("the API {} is not of this template", quoted(api.as_str()));
            self.warnings.push(Problem::at(item.span, message).help("the method has no effect here"));
            return;
        };
        let mut made = route(item, &format!("{} {path}", method.to_ascii_uppercase()), integration);
        made.api_key_required = fields.boolean("ApiKeyRequired", false, &mut self.problems);
        self.authorization(fields, &mut made);
        let of_event = is_of_event(fields);
        let api = &mut self.stack.rest_apis[at];
        match written(&mut api.routes, &made).filter(|_| of_event) {
            Some(_) if whole.contains(api.id.as_str()) => {}
            Some(written) => *written = made,
            None if of_event && whole.contains(api.id.as_str()) => {
                let message = format!(
                    "this event adds no route: SAM takes those of {} from its definition alone",
                    api.id
                );
                let key = &made.route_key;
                let help =
                    format!("write {key} into the definition, or give the API `MergeDefinitions: true`");
                self.warnings.push(Problem::at(item.span, message).help(help));
            }
            None => api.routes.push(made),
        }
    }

    /// An integration, by the spellings of v2 (`IntegrationUri`), v1 (`Uri`) and OpenAPI (`uri`).
    pub(super) fn integration(&mut self, fields: &Fields<'_>, default_ms: u32) -> Option<Integration> {
        let problems = &mut self.problems;
        let first = |keys: [&'static str; 3]| keys.into_iter().find(|key| fields.get(key).is_some());
        let kind = first(["IntegrationType", "Type", "type"]).and_then(|key| fields.get(key));
        let kind = kind.and_then(|node| {
            // OpenAPI bodies write it in lower case.
            let upper = Node::text(node.as_str()?.to_ascii_uppercase(), node.span);
            choice(&upper, INTEGRATION_KINDS, problems)
        })?;
        let uri = first(["IntegrationUri", "Uri", "uri"]).and_then(|key| fields.string(key, problems));
        let version =
            first(["PayloadFormatVersion", "payloadFormatVersion", ""]).and_then(|key| fields.get(key));
        let version = version.and_then(|node| choice(node, &[("1.0", "1.0"), ("2.0", "2.0")], problems));
        let mode = first(["ResponseTransferMode", "responseTransferMode", ""]);
        let mode = mode.and_then(|key| fields.get(key)).filter(|_| default_ms != HTTP_TIMEOUT_MS);
        let streams = mode.and_then(|node| choice(node, TRANSFER_MODES, problems)) == Some(true);
        if let Some(node) = mode.filter(|_| streams && !PROXIES.contains(&kind)) {
            let message = "only proxy integrations stream their responses".to_owned();
            problems.push(
                Problem::at(node.span, message).help("Type: AWS_PROXY, or ResponseTransferMode: BUFFERED"),
            );
        }
        let longest = match (default_ms == HTTP_TIMEOUT_MS, streams) {
            (true, _) => HTTP_TIMEOUT_MS,
            (false, true) => STREAM_TIMEOUT_MAX_MS,
            (false, false) => REST_TIMEOUT_MAX_MS,
        };
        let timeout = first(["TimeoutInMillis", "timeoutInMillis", ""])
            .and_then(|key| fields.number(key, "", TIMEOUT_MIN_MS..=longest, problems));
        let parameters = first(["CacheKeyParameters", "cacheKeyParameters", ""]);
        let parameters = parameters.map(|key| cache_key_parameters(fields, key, problems));
        let namespace = first(["CacheNamespace", "cacheNamespace", ""]);
        let namespace = namespace.and_then(|key| fields.string(key, problems));
        let mock = (kind == IntegrationKind::Mock).then(|| super::mock::response(fields, problems)).flatten();
        let of_lambda = |uri: &str| uri.contains(":lambda:") || uri.contains(":function:");
        let function = uri.as_deref().map(|uri| (uri, self.links.function(uri)));
        let function = function.filter(|(uri, target)| target.function.logical().is_some() || of_lambda(uri));
        let function = function.map(|(_, target)| target);
        Some(Integration {
            kind,
            uri: if function.is_some() { None } else { uri },
            function,
            payload_format_version: version.unwrap_or("1.0").to_owned(),
            timeout_ms: timeout.unwrap_or(default_ms),
            streams,
            cache_key_parameters: parameters.unwrap_or_default(),
            cache_namespace: namespace,
            mock,
        })
    }
}

/// Parts of the request that tell entries of a cache apart: `method.request.querystring.page`.
fn cache_key_parameters(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Vec<String> {
    const PARTS: [&str; 3] = [".request.path.", ".request.querystring.", ".request.header."];
    let mut read = Vec::new();
    for node in fields.items(key, problems) {
        let Some(parameter) = node.string(problems) else { continue };
        let rest = parameter.strip_prefix("method").or_else(|| parameter.strip_prefix("integration"));
        if rest.is_some_and(|rest| PARTS.iter().any(|part| rest.starts_with(part) && rest != *part)) {
            read.push(parameter.to_owned());
        } else {
            let message = format!("{} is no parameter that a cache can tell apart", quoted(parameter));
            let help =
                "method.request.path.id, method.request.querystring.page or method.request.header.Accept";
            problems.push(Problem::at(node.span, message).help(help));
        }
    }
    read
}

/// A route whose id and place are the resource's.
fn route(item: &Item<'_>, key: &str, integration: Option<Integration>) -> ApiRoute {
    keyed_route(item.id, item.place(), key, integration)
}

/// A route by its key: `GET /cart`, `$default`, or a WebSocket's word; who may call it is settled last.
pub(super) fn keyed_route(
    id: &str,
    place: model::stack::Place,
    key: &str,
    integration: Option<Integration>,
) -> ApiRoute {
    let (method, path) = key.split_once(' ').unwrap_or((key, ""));
    ApiRoute {
        id: id.to_owned(),
        place,
        method: method.to_owned(),
        path: path.to_owned(),
        route_key: key.to_owned(),
        integration,
        authorization_type: String::new(),
        authorizer: None,
        api_key_required: false,
    }
}

/// Whether an event of SAM's made this route or method.
fn is_of_event(fields: &Fields<'_>) -> bool {
    fields.get(INTEGRATION).is_some()
}

/// The route of an API's body that an event names, too. Of an HTTP API, SAM leaves it as it is where it has an integration; of a
/// REST API always, or with `MergeDefinitions` never. Source: `HttpApi._add_openapi_integration` and `Api.to_cloudformation` in
/// AWS's SAM translator (1.170 of its command line), run.
fn written<'a>(routes: &'a mut [ApiRoute], made: &ApiRoute) -> Option<&'a mut ApiRoute> {
    routes.iter_mut().find(|route| route.id.is_empty() && route.route_key == made.route_key)
}

/// Methods that a route or a resource may have.
const METHODS: &[&str] = &["ANY", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

fn is_route_key(key: &str) -> bool {
    key.split_once(' ').is_some_and(|(method, path)| METHODS.contains(&method) && path.starts_with('/'))
}

/// The path of a resource, from its parents. The API's root is no resource, and ends the walk.
fn path_of(resource: &str, parents: &BTreeMap<&str, (&str, &str)>) -> String {
    let mut parts = Vec::new();
    let mut at = resource;
    while let Some((parent, part)) = parents.get(at).filter(|_| parts.len() < MAX_PATH_PARTS) {
        parts.push(*part);
        at = parent;
    }
    parts.reverse();
    format!("/{}", parts.join("/"))
}

/// SAM's `Cors` of a REST API: texts in quotes within quotes, comma separated.
fn rest_cors(node: &Node, problems: &mut Problems) -> Cors {
    let list = |node: Option<&Node>| -> Vec<String> {
        let text = node.and_then(Node::as_str).unwrap_or_default().trim_matches('\'').to_owned();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    if node.as_mapping().is_none() {
        return Cors { allow_origins: list(Some(node)), ..Cors::default() };
    }
    let age = list(node.get("MaxAge"));
    Cors {
        allow_origins: list(node.get("AllowOrigin")),
        allow_methods: list(node.get("AllowMethods")),
        allow_headers: list(node.get("AllowHeaders")),
        expose_headers: Vec::new(),
        max_age_s: age.first().and_then(|age| age.parse().ok()),
        allow_credentials: node
            .get("AllowCredentials")
            .and_then(|node| node.boolean(problems))
            .unwrap_or(false),
    }
}
