//! API Gateway: HTTP APIs (v2), REST APIs (v1), their routes, stages, usage plans and keys.

use super::{FunctionTarget, Link, Place};
use serde::Serialize;
use std::collections::BTreeMap;

/// Cross-origin rules, of an HTTP API or a function URL. Empty lists were not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// `AllowOrigins`.
    pub allow_origins: Vec<String>,
    /// `AllowMethods`.
    pub allow_methods: Vec<String>,
    /// `AllowHeaders`.
    pub allow_headers: Vec<String>,
    /// `ExposeHeaders`.
    pub expose_headers: Vec<String>,
    /// `MaxAge`, seconds.
    pub max_age_s: Option<u32>,
    /// `AllowCredentials`.
    pub allow_credentials: bool,
}

/// Requests per second and bucket size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Throttle {
    /// Tokens a second.
    pub rate_limit: Option<f64>,
    /// Bucket size.
    pub burst_limit: Option<u32>,
}

/// What the API speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// HTTP.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// WebSocket.
    #[serde(rename = "WEBSOCKET")]
    WebSocket,
}

/// What stands behind a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IntegrationKind {
    /// A function that gets the whole request.
    AwsProxy,
    /// An AWS action, with mapping templates.
    Aws,
    /// A server, with mapping templates.
    Http,
    /// A server that gets the whole request.
    HttpProxy,
    /// An answer from templates.
    Mock,
}

impl IntegrationKind {
    /// As templates write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwsProxy => "AWS_PROXY",
            Self::Aws => "AWS",
            Self::Http => "HTTP",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Mock => "MOCK",
        }
    }
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Integration {
    /// Its kind.
    pub kind: IntegrationKind,
    /// The function, if it is one.
    pub function: Option<FunctionTarget>,
    /// The address as written, if it is no function.
    pub uri: Option<String>,
    /// `1.0` or `2.0`.
    pub payload_format_version: String,
    /// How long the gateway waits, ms: 50 to 30,000 (HTTP APIs), 50 to 29,000 by default (REST APIs).
    pub timeout_ms: u32,
    /// Whether its response goes on piece by piece: `ResponseTransferMode: STREAM` (REST).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub streams: bool,
    /// What tells entries of the stage's cache apart, `method.request.path.id` (REST).
    pub cache_key_parameters: Vec<String>,
    /// Whose entries they are, if not the resource's own (REST).
    pub cache_namespace: Option<String>,
    /// What a `MOCK` answers; none where its templates have expressions.
    pub mock: Option<MockResponse>,
}

/// The answer of a `MOCK` integration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MockResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers with static values.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// A method and path, and what they lead to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApiRoute {
    /// Logical id of the route, method or event; empty when it stands in an OpenAPI body.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `GET`, `ANY`, …; `$default` for the catch-all of an HTTP API.
    pub method: String,
    /// `/cart/{id}`, `/{proxy+}`; empty for `$default` and for WebSocket routes.
    pub path: String,
    /// As API Gateway writes it: `GET /cart/{id}` or `$default`.
    pub route_key: String,
    /// Where it leads; none when the template names none that is known.
    pub integration: Option<Integration>,
    /// `NONE`, `AWS_IAM`, `JWT`, `CUSTOM`, `COGNITO_USER_POOLS`.
    pub authorization_type: String,
    /// The id of the API's authorizer that is asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<String>,
    /// Whether an API key is needed (REST).
    pub api_key_required: bool,
}

/// What an authorizer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthorizerKind {
    /// A function that is asked about a header (REST).
    Token,
    /// A function that is asked about a request.
    Request,
    /// A token's signature and claims (HTTP APIs).
    Jwt,
    /// A user pool's tokens (REST).
    CognitoUserPools,
}

/// Where a part of a request stands that tells who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentitySource {
    /// A header.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// A variable of the stage.
    Stage(String),
    /// What the API knows of the request: `routeKey`, `identity.sourceIp`.
    Context(String),
}

/// Who says whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authorizer {
    /// Logical id; `Api.Name` where SAM or an OpenAPI body has it.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// What the template calls it.
    pub name: String,
    /// Its id at API Gateway, in the ARN that a permission names.
    pub authorizer_id: String,
    /// Its kind.
    pub kind: AuthorizerKind,
    /// The function that is asked.
    pub function: Option<FunctionTarget>,
    /// What must be there, and what tells entries of its cache apart.
    pub identity_sources: Vec<IdentitySource>,
    /// What a token must look like, a regular expression.
    pub validation: Option<String>,
    /// How long an answer is kept, 0 to 3,600 s.
    pub ttl_s: u32,
    /// The function says yes or no, and gives no policy (HTTP APIs).
    pub simple_responses: bool,
    /// `1.0` or `2.0`.
    pub payload_format_version: String,
    /// It is invoked as a role, so that the function's policy does not count.
    pub by_role: bool,
}

/// What is cached of a method, or of all methods of a stage; what is not given is the stage's, or API Gateway's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheSettings {
    /// Whether responses are kept.
    pub enabled: Option<bool>,
    /// For how long, seconds.
    pub ttl_s: Option<u32>,
    /// Whether they are encrypted.
    pub encrypted: Option<bool>,
}

/// The cache of a stage (REST).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StageCache {
    /// `0.5` to `237`; none when the stage has no cache.
    pub size_gb: Option<String>,
    /// Of all methods.
    pub default: CacheSettings,
    /// By method setting (`/cart/GET`).
    pub methods: BTreeMap<String, CacheSettings>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Logical id; made up when the stage comes with the API.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `$default`, `Prod`, …
    pub name: String,
    /// Throttle of all routes.
    pub default_throttle: Throttle,
    /// Throttles by route key (`GET /cart`) or method setting (`/cart/GET`).
    pub route_throttles: BTreeMap<String, Throttle>,
    /// Its cache.
    pub cache: StageCache,
    /// Stage variables.
    pub variables: BTreeMap<String, String>,
}

/// An API Gateway v2 API.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpApi {
    /// Logical id; `ServerlessHttpApi` for SAM's implicit one.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Ten letters and digits.
    pub api_id: String,
    /// HTTP or WebSocket.
    pub protocol: Protocol,
    /// Where it answers here, without stage.
    pub url: String,
    /// Its routes.
    pub routes: Vec<ApiRoute>,
    /// Its stages.
    pub stages: Vec<Stage>,
    /// Cross-origin rules.
    pub cors: Option<Cors>,
    /// Its authorizers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorizers: Vec<Authorizer>,
}

/// How a REST API is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EndpointType {
    /// Through CloudFront.
    #[default]
    Edge,
    /// In the Region.
    Regional,
    /// From a VPC only.
    Private,
}

/// An API Gateway v1 API, its resources and methods flattened to routes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RestApi {
    /// Logical id; `ServerlessRestApi` for SAM's implicit one.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Ten letters and digits.
    pub api_id: String,
    /// How it is reached.
    pub endpoint_type: EndpointType,
    /// Where it answers here, without stage.
    pub url: String,
    /// Its routes.
    pub routes: Vec<ApiRoute>,
    /// Its stages.
    pub stages: Vec<Stage>,
    /// `HEADER` or `AUTHORIZER`.
    pub api_key_source: String,
    /// Types whose bodies are base64 in the event.
    pub binary_media_types: Vec<String>,
    /// SAM's `Cors`.
    pub cors: Option<Cors>,
    /// Its authorizers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorizers: Vec<Authorizer>,
}

/// A path of a load balancer that leads to a function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadBalancerRoute {
    /// The path pattern, `/cart/*`; none for everything else.
    pub path: Option<String>,
    /// The function.
    pub target: FunctionTarget,
}

/// Kinds of load balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BalancerKind {
    /// HTTP.
    Application,
    /// TCP and UDP.
    Network,
    /// Appliances.
    Gateway,
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadBalancer {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its kind.
    pub kind: BalancerKind,
    /// `Scheme` is `internal`: its name leads to addresses of its subnets.
    pub internal: bool,
    /// Host name.
    pub dns_name: String,
    /// Where it stands.
    pub subnets: Vec<Link>,
    /// Its security groups.
    pub security_groups: Vec<Link>,
    /// The ports of its listeners.
    pub ports: Vec<u16>,
    /// Where its listeners and their rules lead.
    pub routes: Vec<LoadBalancerRoute>,
}

/// Requests per period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// How many.
    pub limit: u64,
    /// Taken off in the first period.
    pub offset: u64,
    /// `DAY`, `WEEK` or `MONTH`.
    pub period: String,
}

/// A stage within a usage plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanStage {
    /// The API.
    pub api: Link,
    /// The stage's name.
    pub stage: String,
    /// Throttles by `/path/METHOD`.
    pub throttles: BTreeMap<String, Throttle>,
}

/// A usage plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsagePlan {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its id at API Gateway.
    pub plan_id: String,
    /// Throttle of each key.
    pub throttle: Option<Throttle>,
    /// Quota of each key.
    pub quota: Option<Quota>,
    /// Where it holds.
    pub stages: Vec<PlanStage>,
    /// Whose it is.
    pub keys: Vec<Link>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApiKey {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its id at API Gateway.
    pub key_id: String,
    /// What clients send in `x-api-key`.
    pub value: String,
    /// Whether it is accepted.
    pub enabled: bool,
}
