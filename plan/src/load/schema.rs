//! The JSON Schema of `load.yaml`, for editors and for who writes loads with programs: `docs/load.schema.json`.
//!
//! The loader reads its own tree, to say where a problem stands; the types here say the same once more, as a schema. The
//! tests hold the two together: each key of the schema is read by the loader, and each key that the loader knows is in
//! the schema. `ONRUSH_RECORD=1 cargo test -p plan schema` writes the file anew.
#![expect(dead_code, reason = "of these types only the schema is used")]

mod tests;
mod validator;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What users expect: who sends what when, and how the functions behave.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "load.yaml of onrush plan")]
struct LoadFile {
    /// The version of this schema.
    #[schemars(range(min = 1, max = 1))]
    version: u64,
    /// Seed of all randomness; the same seed and input give the same output, byte for byte. Default: 0.
    seed: Option<u64>,
    /// What clients do after 429, a status from 500 on, or their own time-out. Default: none.
    retry: Option<Retry>,
    month: Option<Month>,
    /// What host names stand for. Default: one address for each name.
    hosts: Option<BTreeMap<String, Addresses>>,
    /// What there is at t = 0, by function.
    initial: Option<BTreeMap<String, Initial>>,
    /// One after another, unless `start` is given.
    #[schemars(length(min = 1, max = 1000))]
    phases: Vec<Phase>,
    /// How functions behave, by logical id.
    behaviour: Option<BTreeMap<String, Behaviour>>,
}

/// What clients do after a failure, as AWS's SDKs do it.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Retry {
    None,
    Standard,
    Adaptive,
}

/// For the monthly bill.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Month {
    /// How often a month this load runs.
    repeat: u64,
}

/// Addresses of one name, which connections take in turn.
#[derive(JsonSchema)]
struct Addresses(#[schemars(length(min = 1, max = 1000))] Vec<Address>);

/// Environments of one function at t = 0.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Initial {
    /// How many run an invocation.
    #[schemars(range(max = 10_000_000))]
    busy: Option<u64>,
    /// For how long those still do; needed with `busy`.
    r#for: Option<Duration>,
    /// How many wait for work.
    #[schemars(range(max = 10_000_000))]
    idle: Option<u64>,
}

/// Requests to one target: from users who wait for their answers, or at a rate.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["users"]}, {"required": ["rate"]}]))]
struct Phase {
    /// For the report. Default: phase N.
    name: Option<String>,
    /// Logical id of a door or a function.
    target: String,
    /// Which of a door's routes: `GET /cart`.
    #[schemars(regex(pattern = r"^[A-Z]+ /"))]
    request: Option<String>,
    /// When it begins. Default: when the phase before it has ended.
    start: Option<Duration>,
    /// Users who send, wait for the answer, think, and send again.
    #[schemars(range(min = 1, max = 10_000_000))]
    users: Option<u64>,
    /// Of all users together.
    requests: Option<u64>,
    /// How fast users appear. Default: all at once.
    spawn: Option<RateFigure>,
    /// Between an answer and the next request. Default: 0s.
    think: Option<Distribution>,
    /// Requests that come whether or not earlier ones were answered.
    rate: Option<Rate>,
    /// How they are spread along the rate. Default: even.
    arrivals: Option<Spacing>,
    /// After this nothing new is sent.
    r#for: Option<Duration>,
    /// How long clients wait. Default: for ever.
    timeout: Option<Duration>,
    /// What network and door add to each answer. Default: 0s.
    latency: Option<Distribution>,
    bytes: Option<Bytes>,
    /// Whether clients wait for the function. Default: sync.
    mode: Option<Mode>,
    /// Logical id of the API key that is sent.
    client: Option<String>,
    /// How many different callers there are, to an authorizer that keeps its answers; `new`: no caller comes twice. Default:
    /// each user is one, and each request of an open loop comes from another.
    identities: Option<Identities>,
    /// Which part of them the authorizer denies. Default: 0.
    #[schemars(range(min = 0, max = 1))]
    denied: Option<f64>,
    /// How many different requests there are, to a cache.
    keys: Option<Keys>,
    /// Whether clients ask a cache for an answer made anew (`Cache-Control: max-age=0`), without or with the permission to do
    /// so. Default: none.
    fresh: Option<Fresh>,
    /// Instead of the load's.
    retry: Option<Retry>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Spacing {
    Even,
    Poisson,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Mode {
    Sync,
    Event,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Fresh {
    None,
    Unsigned,
    Signed,
}

/// Of each request and of each answer.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Bytes {
    r#in: Option<Size>,
    out: Option<Size>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Identities {
    So(Keys),
    Word(New),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum New {
    New,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Keys {
    Alike(#[schemars(range(min = 1, max = 10_000_000))] u64),
    Skewed(SkewedKeys),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SkewedKeys {
    zipf: Zipf,
}

/// The second of `n` keys is asked for 2^s times less often than the first.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Zipf {
    #[schemars(range(min = 1, max = 10_000_000))]
    n: u64,
    #[schemars(range(min = 0, max = 20))]
    s: f64,
}

/// The course of a rate.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Rate {
    Constant(RateFigure),
    Ramp(Ramp),
    Steps(Steps),
    Spike(SpikeRate),
    Diurnal(DiurnalRate),
    Replay(Replay),
}

/// A straight line over the phase's `for`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Ramp {
    from: RateFigure,
    to: RateFigure,
}

/// From each moment on its rate.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Steps {
    #[schemars(length(min = 1, max = 100_000))]
    steps: Vec<(Duration, RateFigure)>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SpikeRate {
    spike: Spike,
}

/// A base, and for a while a peak.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Spike {
    base: RateFigure,
    peak: RateFigure,
    /// From the phase's begin.
    at: Duration,
    r#for: Duration,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DiurnalRate {
    diurnal: Diurnal,
}

/// A cosine from the low to the high, half a period later, and back.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Diurnal {
    low: RateFigure,
    high: RateFigure,
    /// Default: 24h.
    period: Option<Duration>,
}

/// Moments from a file, one on each line.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Replay {
    /// The file, relative to the load's folder.
    #[schemars(length(min = 1))]
    replay: String,
}

/// What one function does.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Behaviour {
    /// How long INIT takes, or its steps. Default: 250ms.
    init: Option<Init>,
    /// From the answer until the environment takes another request. Default: 0s.
    reuse_lag: Option<Distribution>,
    /// What an environment that ends does with its connections. Default: abandon.
    on_shutdown: Option<OnShutdown>,
    /// The handler. Default: 100ms.
    #[schemars(length(max = 1000))]
    steps: Option<Vec<Step>>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Init {
    Time(Distribution),
    Steps(#[schemars(length(max = 1000))] Vec<Step>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum OnShutdown {
    Close,
    Abandon,
}

/// One step does one thing.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Step {
    Compute(ComputeStep),
    Sleep(SleepStep),
    Connect(ConnectStep),
    Query(QueryStep),
    Call(CallStep),
    Stream(StreamStep),
}

/// When a step is due. Default: always.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Once {
    /// Only in the first invocation of an environment.
    Environment,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ComputeStep {
    compute: Distribution,
    once: Option<Once>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SleepStep {
    sleep: Distribution,
    once: Option<Once>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ConnectStep {
    connect: Connect,
    once: Option<Once>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct QueryStep {
    query: Query,
    once: Option<Once>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct CallStep {
    call: Call,
    once: Option<Once>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct StreamStep {
    /// How large the streamed response is: it holds the environment until it has gone. One for each function, in the handler.
    stream: Size,
}

/// Connections that the function needs, and waits for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Connect {
    /// `host:port`.
    #[schemars(regex(pattern = r"^[^:/ \[]+:[0-9]{1,5}$"))]
    to: String,
    /// Default: 1.
    #[schemars(range(min = 1, max = 10_000))]
    count: Option<u64>,
    hold: Option<Hold>,
    /// The client's own, of one attempt. Default: none; the kernel gives up after 127 s.
    timeout: Option<Duration>,
    retry: Option<ConnectRetry>,
    /// What is sent and received.
    bytes: Option<Size>,
}

/// What a client does when a connect failed.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ConnectRetry {
    /// In all.
    #[schemars(range(min = 1, max = 1000))]
    attempts: u64,
    /// From one failed attempt to the next. Default: 0s.
    delay: Option<Duration>,
}

/// Statements to a database.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Query {
    /// Logical id of a database instance or of a database proxy.
    database: String,
    /// How many statements. Default: 1.
    #[schemars(range(min = 1, max = 10_000))]
    count: Option<u64>,
    /// How long the database takes for each.
    r#for: Distribution,
    /// They are one transaction, rather than one each. Default: false.
    transaction: Option<bool>,
    /// They pin the session to its connection. Default: false.
    pins: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Call {
    Function(FunctionCall),
    Service(ServiceCall),
}

/// An invocation of another function, whose answer is waited for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FunctionCall {
    /// Its logical id.
    function: String,
    /// What the caller does after a throttle. Default: none.
    retry: Option<CallRetry>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum CallRetry {
    None,
    Standard,
}

/// A service of AWS.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ServiceCall {
    /// As its host name begins: ssm, secretsmanager, dynamodb.
    #[schemars(regex(pattern = r"^[a-z0-9.-]+$"))]
    to: String,
    /// How long it takes to answer. Default: 0s.
    r#for: Option<Distribution>,
    hold: Option<Hold>,
}

/// How long something takes.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Distribution {
    Constant(Duration),
    Drawn(Box<Drawn>),
}

/// Drawn anew each time; what falls below zero counts as zero.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Drawn {
    /// Anything between the two, alike.
    Uniform((Duration, Duration)),
    /// With this mean.
    Exponential(Duration),
    Normal(Normal),
    LogNormal(LogNormal),
    /// One of these, each as likely.
    List(#[schemars(length(min = 1, max = 100_000))] Vec<Duration>),
    Percentiles(Percentiles),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Normal {
    mean: Duration,
    /// Standard deviation.
    sd: Duration,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LogNormal {
    p50: Duration,
    p99: Duration,
}

/// Text that has a form of its own.
macro_rules! text {
    ($name:ident, $schema:tt) => {
        struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text!(Duration, {
    "description": "A duration with its unit, such as 450ms or 30s, at most 366d.",
    "anyOf": [
        {"type": "string", "pattern": r"^ *([0-9_]+\.?[0-9_]*|\.[0-9_]+) *(ns|us|µs|ms|s|min|m|h|d)$"},
        {"const": 0}
    ]
});
text!(RateFigure, {
    "description": "A rate with its unit, such as 100/s or 500/min.",
    "type": "string",
    "pattern": r"^ *([0-9_]+\.?[0-9_]*|\.[0-9_]+) */ *(ns|us|µs|ms|s|min|m|h|d)$"
});
text!(Size, {
    "description": "A size with its unit, such as 5B or 1KB.",
    "type": "string",
    "pattern": r"^ *([0-9_]+\.?[0-9_]*|\.[0-9_]+) *(B|KB|KiB|MB|MiB|GB|GiB)$"
});
text!(Hold, {
    "description": "For how long a connection stays open: invocation, environment, or a duration.",
    "anyOf": [
        {"enum": ["invocation", "environment"]},
        {"type": "string", "pattern": r"^ *([0-9_]+\.?[0-9_]*|\.[0-9_]+) *(ns|us|µs|ms|s|min|m|h|d)$"},
        {"const": 0}
    ]
});
text!(Address, {
    "description": "An IPv4 address.",
    "type": "string",
    "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"
});

/// Straight lines between percentiles.
struct Percentiles;

impl JsonSchema for Percentiles {
    fn schema_name() -> Cow<'static, str> {
        "Percentiles".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let duration = generator.subschema_for::<Duration>();
        json_schema!({
            "description": "Straight lines between percentiles: min (0 unless given), p50, p99.9, max.",
            "type": "object",
            "properties": {"min": duration, "max": duration},
            "patternProperties": {r"^p[0-9]{1,2}(\.[0-9]+)?$": duration},
            "required": ["max"],
            "additionalProperties": false
        })
    }
}

/// The schema as it is published.
fn published() -> serde_json::Value {
    let schema = schemars::schema_for!(LoadFile);
    serde_json::to_value(schema).expect("a schema is JSON")
}
