//! How fast the planner is, against a naive event loop without engines in the same run.
//!
//! `cargo run --release -p plan --example throughput`
//!
//! Both simulate the same closed loop: 1,000 users, exponential handler times of 50 ms, no think time. The naive
//! loop is a binary heap of arrivals and completions with a counter of free environments; the planner asks the
//! dispatcher, keeps the limits board, the timeline and every latency.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this program measures real time")]

use limits::api_throttle::{QuotaFigures, QuotaPeriod, Rate, Throttle};
use limits::gateway::PlanKey;
use limits::{Decision, Dispatcher, FunctionLimits, Outcome, Settings};
use model::{Era, Instant, LimitId, Overrides};
use plan::input::{DoorInput, DoorKind, FunctionInput, RouteInput};
use plan::random::Stream;
use plan::{Load, Options, PlanInput, Scenario};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::Duration;

const USERS: u64 = 1000;
const REQUESTS: u64 = 2_000_000;
const HANDLER_NANOS: f64 = 50e6;
const ROUNDS: usize = 5;

fn main() {
    let naive = best(|| naive_loop(USERS, REQUESTS));
    let planned = best(|| {
        let report = plan::run(&stack(), &load(), &options()).expect("the load fits the stack");
        assert_eq!(report.summary.ok, REQUESTS);
        report.summary.requests
    });
    let connecting = |hold: &str| {
        best(|| {
            let report =
                plan::run(&stack(), &load_with(&connect(hold)), &options()).expect("the load fits the stack");
            assert_eq!(report.summary.ok, REQUESTS);
            report.summary.requests
        })
    };
    let through_api = best(|| {
        let report = plan::run(&api(), &api_load(), &options()).expect("the load fits the stack");
        assert_eq!(report.summary.ok, REQUESTS);
        report.summary.requests
    });
    let times = [naive, planned, through_api, connecting("environment"), connecting("invocation")];
    let [naive, planned, through_api, kept, anew] = times.map(|time| REQUESTS as f64 / time.as_secs_f64());
    println!("naive heap loop        {:>12.0} requests/s", naive);
    println!("planner                {:>12.0} requests/s  = {:.2} x naive", planned, planned / naive);
    println!("key, API and function  {:>12.0} requests/s  = {:.2} x naive", through_api, through_api / naive);
    println!("one connect, kept      {:>12.0} requests/s  = {:.2} x naive", kept, kept / naive);
    println!("one connect, anew      {:>12.0} requests/s  = {:.2} x naive", anew, anew / naive);
    for (name, connections, users) in [("one query, proxy", 2000, USERS), ("one query, waits", 40, 100)] {
        let time = best(|| queries(users, connections));
        let rate = REQUESTS as f64 / time.as_secs_f64();
        println!("{name:<22} {rate:>12.0} requests/s  = {:.2} x naive", rate / naive);
    }
    a_million_connections();
    let scenario = Scenario::named("burst-2022").expect("built in");
    let whole =
        best(|| Scenario::named("burst-2022").expect("built in").run().expect("it runs").summary.requests);
    let requests = scenario.run().expect("it runs").summary.requests;
    println!("burst-2022 in all      {:>12.1} ms ({requests} requests)", whole.as_secs_f64() * 1e3);
    let (warm, refusal) = (dispatcher_warm(), dispatcher_refusal());
    println!("warm invoke + finish   {warm:>12.1} ns");
    println!("refusal                {refusal:>12.1} ns");
    println!("token bucket take      {:>12.1} ns", bucket_take());
}

/// The shortest of some rounds.
fn best(mut work: impl FnMut() -> u64) -> Duration {
    let rounds = (0..ROUNDS).map(|_| {
        let begin = std::time::Instant::now();
        black_box(work());
        begin.elapsed()
    });
    rounds.min().unwrap_or_default()
}

fn naive_loop(users: u64, requests: u64) -> u64 {
    let mut heap = BinaryHeap::new();
    let mut stream = Stream::new(0, "handler", "naive");
    let (mut sequence, mut sent, mut done, mut free, mut environments) = (0_u64, 0, 0, 0_u64, 0_u64);
    for _ in 0..users {
        heap.push(Reverse((0_u64, sequence, true)));
        sequence += 1;
    }
    while let Some(Reverse((now, _, arrival))) = heap.pop() {
        if arrival {
            if sent == requests {
                continue;
            }
            sent += 1;
            if free > 0 {
                free -= 1;
            } else {
                environments += 1;
            }
            let end = now + (HANDLER_NANOS * stream.exponential()) as u64;
            heap.push(Reverse((end, sequence, false)));
            heap.push(Reverse((end, sequence + 1, true)));
            sequence += 2;
        } else {
            free += 1;
            done += 1;
        }
    }
    black_box(environments);
    done
}

fn stack() -> PlanInput {
    let function = FunctionInput {
        id: "CartFunction".into(),
        name: "cart".into(),
        reserved: None,
        timeout: Duration::from_secs(30),
        memory_mb: 128,
        init_always_billed: false,
    };
    let network = limits::Network::simple(1, 16, 32);
    PlanInput { functions: vec![function], network, ..PlanInput::default() }
}

/// The function behind a REST API: a quota and four levels of throttles on the way, none of which refuses.
fn api() -> PlanInput {
    let throttle = Throttle { rate: Some(Rate::per_second(1_000_000)), burst: Some(1_000_000) };
    let route = RouteInput {
        method: "GET".into(),
        path: "/cart".into(),
        timeout: Some(Duration::from_secs(29)),
        throttle,
        key_required: true,
        ..RouteInput::default()
    };
    let door = DoorInput {
        id: "Api".into(),
        kind: DoorKind::RestApi,
        api: "Api".into(),
        stage: "prod".into(),
        cache_size: None,
        routes: vec![route],
    };
    let methods = [("/cart/GET".to_owned(), throttle)].into();
    let client = PlanKey {
        key: "AppKey".into(),
        plan: "Basic".into(),
        enabled: true,
        throttle,
        quota: Some(QuotaFigures { limit: u64::MAX, offset: 0, period: QuotaPeriod::Day }),
        stages: vec![("Api".into(), "prod".into(), methods)],
    };
    PlanInput { doors: vec![door], clients: vec![client], ..stack() }
}

fn api_load() -> Load {
    let text = format!(
        "{{version: 1, phases: [{{target: Api, request: GET /cart, client: AppKey, users: {USERS}, requests: {REQUESTS}}}], \
         behaviour: {{CartFunction: {{init: 100ms, steps: [{{compute: {{exponential: 50ms}}}}]}}}}}}"
    );
    Load::read("load.yaml", &text).expect("the load is well formed")
}

fn load() -> Load {
    load_with("")
}

fn connect(hold: &str) -> String {
    format!("{{connect: {{to: 'cache.example.com:443', hold: {hold}}}}}, ")
}

/// The load, with these steps before the handler's own.
fn load_with(steps: &str) -> Load {
    let text = format!(
        "{{version: 1, phases: [{{target: CartFunction, users: {USERS}, requests: {REQUESTS}}}], behaviour: \
         {{CartFunction: {{init: 100ms, steps: [{steps}{{compute: {{exponential: 50ms}}}}]}}}}}}"
    );
    Load::read("load.yaml", &text).expect("the load is well formed")
}

/// Requests with one query each of 20 ms through a proxy's pool of so many connections; their environments keep theirs.
fn queries(users: u64, connections: u64) -> u64 {
    let text = format!(
        "{{version: 1, phases: [{{target: CartFunction, users: {users}, requests: {REQUESTS}}}], behaviour: \
         {{CartFunction: {{init: 100ms, steps: [{{compute: {{exponential: 30ms}}}}, {{query: {{database: Proxy, \
         for: {{exponential: 20ms}}}}}}]}}}}}}"
    );
    let load = Load::read("load.yaml", &text).expect("the load is well formed");
    let proxy = limits::network::Proxy {
        name: "Proxy".into(),
        port: 5432,
        database: None,
        connections_percent: 100,
        idle_connections_percent: 50,
        borrow_timeout: Duration::from_secs(120),
        idle_client_timeout: Duration::from_secs(1800),
    };
    let network = stack().network.with_database("db.r7g.4xlarge").with_proxy(proxy);
    let mut options = options();
    options.overrides.set(LimitId::DbPoolConnections, connections);
    let report =
        plan::run(&PlanInput { network, ..stack() }, &load, &options).expect("the load fits the stack");
    assert_eq!((report.summary.ok, report.queries[0].asked), (REQUESTS, REQUESTS));
    assert_eq!(report.queries[0].waited > 0, connections < users);
    report.summary.requests
}

/// A million invocations at once, each with a connection: the time, and the most memory that this process ever had.
fn a_million_connections() {
    let text = "{version: 1, phases: [{target: CartFunction, users: 1000000, requests: 1000000}], behaviour: \
                {CartFunction: {init: 0s, steps: [{connect: {to: 'cache.example.com:443'}}, {sleep: 20s}]}}}";
    let load = Load::read("load.yaml", text).expect("the load is well formed");
    let mut options = options();
    for limit in ["lambda.account-concurrency=1000000", "lambda.scaling-rate=1000000"] {
        options.overrides.read(limit).expect("a limit and its figure");
    }
    let before = peak_kilobytes();
    let begin = std::time::Instant::now();
    let report = plan::run(&stack(), &load, &options).expect("the load fits the stack");
    assert_eq!((report.summary.ok, report.connects[0].opened), (1_000_000, 1_000_000));
    let time = begin.elapsed().as_secs_f64();
    let bytes = peak_kilobytes().saturating_sub(before) * 1024;
    println!(
        "a million at once      {:>12.0} requests/s, {} bytes each at the peak",
        1e6 / time,
        bytes / 1_000_000
    );
}

/// The most memory that this process ever had; 0 where the system does not say.
fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The era's figures, save for request rates: 1,000 users and 50 ms make 20,000 requests a second.
fn options() -> Options {
    let mut options = Options::new(Era::named("today").expect("the era exists"));
    options.overrides = unthrottled();
    options
}

fn unthrottled() -> Overrides {
    let mut overrides = Overrides::default();
    for limit in [LimitId::RequestRate, LimitId::ApiAccountRate, LimitId::ApiAccountBurst] {
        overrides.set(limit, u64::from(u32::MAX));
    }
    overrides
}

fn dispatcher() -> (Dispatcher, limits::FunctionId) {
    let era = Era::named("2022-12").expect("the era exists");
    let settings = Settings::from_era(&era, "us-east-1", &unthrottled()).expect("the era is whole");
    let mut dispatcher = Dispatcher::new(settings);
    let limits = FunctionLimits { resource: "cart".into(), reserved: None, timeout: Duration::from_secs(3) };
    let function = dispatcher.add_function(Instant::START, limits);
    (dispatcher, function)
}

fn dispatcher_warm() -> f64 {
    let (mut dispatcher, function) = dispatcher();
    let mut effects = Vec::new();
    let count = 10_000_000;
    let time = best(|| {
        for step in 0..count {
            let now = Instant::from_nanos(step * 1000);
            if let Decision::Run(id) | Decision::Start(id) = dispatcher.invoke(now, function) {
                dispatcher.finished(now, id, Outcome::Done, &mut effects);
            }
        }
        count
    });
    time.as_secs_f64() * 1e9 / count as f64
}

fn dispatcher_refusal() -> f64 {
    let (mut dispatcher, function) = dispatcher();
    while !matches!(dispatcher.invoke(Instant::START, function), Decision::Refuse(_)) {}
    let count = 10_000_000;
    let time = best(|| {
        for _ in 0..count {
            black_box(dispatcher.invoke(Instant::START, function));
        }
        count
    });
    time.as_secs_f64() * 1e9 / count as f64
}

fn bucket_take() -> f64 {
    let refill = limits::token_bucket::Refill { tokens: 500, period: Duration::from_secs(60) };
    let mut bucket = limits::token_bucket::TokenBucket::new(Instant::START, 1000, refill);
    let count = 50_000_000;
    let time = best(|| {
        let mut granted = 0;
        for step in 0..count {
            granted += u64::from(bucket.take(Instant::from_nanos(black_box(step * 10_000_000)), 1));
        }
        granted
    });
    time.as_secs_f64() * 1e9 / count as f64
}
