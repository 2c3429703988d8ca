//! One machine, two clocks: the same scenario on the virtual clock and on real sandboxes, and the dispatcher's
//! decisions agree one by one.
//!
//! The scenario is scaled down with `--limit`-like figures so that it takes fifteen seconds. Its steps lie far
//! enough apart that a busy machine does not change their order.

#![allow(clippy::unwrap_used, reason = "a test without the usual harness: a failure is a panic")]

mod bootstrap;

use control::{Change, Function};
use invoke::{Invoker, Options, Request};
use limits::Decision;
use model::{Era, LimitId, Overrides};
use plan::{Load, PlanInput};
use runtimes::Runtimes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use telemetry::{Counters, Logs};
use tokio::time::Instant;

/// Name, reserved concurrency, time-out in seconds, and how long its handler takes in milliseconds.
const FUNCTIONS: [(&str, Option<u32>, u64, u64); 4] = [
    ("Quick", None, 30, 300),
    ("Slow", None, 60, 40_000),
    ("Reserved", Some(2), 30, 1_000),
    ("Late", None, 1, 10_000),
];

/// When (in milliseconds) how many invocations of which function arrive at once.
const ARRIVALS: [(u64, &str, usize); 9] = [
    (0, "Quick", 5),
    (1_500, "Quick", 5),
    (3_000, "Quick", 8),
    (4_500, "Slow", 10),
    (6_500, "Reserved", 4),
    (9_000, "Reserved", 3),
    (10_500, "Quick", 12),
    (12_000, "Late", 1),
    (14_500, "Late", 1),
];

const FIGURES: [(LimitId, u64); 2] = [(LimitId::AccountConcurrency, 20), (LimitId::ScalingRate, 8)];

fn main() {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        // This very program is also the function: it is the `bootstrap` in the package.
        bootstrap::run();
        return;
    }
    // cargo passes filters and flags of the usual harness; listing must not run anything.
    if std::env::args().any(|argument| argument == "--list") {
        println!("the_two_clocks_decide_alike: test");
        return;
    }
    println!("\nrunning 1 test");
    let folder = tempfile::tempdir().unwrap();
    let live = live(folder.path());
    let planned = planned();
    assert_eq!(planned.len(), ARRIVALS.iter().map(|(_, _, count)| count).sum::<usize>());
    for (index, (planned, live)) in planned.iter().zip(&live).enumerate() {
        assert_eq!(planned, live, "decision {index} (left: planned; right: live)\n{live:#?}");
    }
    assert_eq!(planned.len(), live.len());
    // The scenario is worth something only if each kind of decision occurs in it.
    for kind in [
        "run",
        "start",
        "reset",
        "lambda.reserved-concurrency",
        "lambda.account-concurrency",
        "lambda.scaling-rate",
    ] {
        assert!(planned.iter().any(|(_, decision)| decision == kind), "no {kind} in {planned:?}");
    }
    println!("test the_two_clocks_decide_alike ... ok");
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// A decision without the environment's number, which the two drivers need not share.
fn kind(decision: &Decision) -> String {
    match decision {
        Decision::Run(_) => "run".to_owned(),
        Decision::Start(_) => "start".to_owned(),
        Decision::Reset(_) => "reset".to_owned(),
        Decision::Refuse(refusal) => refusal.limit.to_string(),
        Decision::NoFunction => "no function".to_owned(),
    }
}

fn overrides() -> Overrides {
    let mut overrides = Overrides::default();
    for (limit, figure) in FIGURES {
        overrides.set(limit, figure);
    }
    overrides
}

/// The decisions on the virtual clock.
fn planned() -> Vec<(String, String)> {
    use std::fmt::Write as _;
    let mut text = "version: 1\nphases:\n".to_owned();
    for (at, function, count) in ARRIVALS {
        let _ =
            writeln!(text, "  - {{target: {function}, start: {at}ms, users: {count}, requests: {count}}}");
    }
    text.push_str("behaviour:\n");
    for (function, _, _, takes) in FUNCTIONS {
        let _ = writeln!(text, "  {function}: {{init: 20ms, steps: [{{sleep: {takes}ms}}]}}");
    }
    let load = Load::read("load.yaml", &text).unwrap();
    let functions = FUNCTIONS.map(|(name, reserved, timeout, _)| plan::input::FunctionInput {
        id: name.to_owned(),
        name: name.to_owned(),
        reserved,
        timeout: Duration::from_secs(timeout),
        memory_mb: 128,
        init_always_billed: true,
    });
    let input = PlanInput { functions: functions.into(), ..PlanInput::default() };
    let mut options = plan::Options::new(Era::named("today").unwrap());
    options.overrides = overrides();
    options.trace = true;
    let report = plan::run(&input, &load, &options).unwrap();
    let name = |index: usize| FUNCTIONS[index].0.to_owned();
    report.decisions.iter().map(|decided| (name(decided.function), kind(&decided.decision))).collect()
}

/// The decisions on the machine's clock, with real sandboxes.
fn live(folder: &Path) -> Vec<(String, String)> {
    let jailer = sandbox::fork_jailer(sandbox::Options {
        state_dir: folder.join("run"),
        isolation: sandbox::Isolation::Namespaces,
        pool: sandbox::PoolSizes::default(),
        interfaces: false,
    })
    .unwrap();
    let code = folder.join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), code.join("bootstrap")).unwrap();
    // The sandbox's user is nobody we know: every folder on the way is opened to it.
    open_to_all(folder, 0o755);
    open_to_all(&code, 0o755);
    open_to_all(&code.join("bootstrap"), 0o755);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandboxes = jailer.into_sandboxes().unwrap();
        let era = Era::named("today").unwrap();
        let options = Options {
            settings: limits::Settings::from_era(&era, model::era::DEFAULT_REGION, &overrides()).unwrap(),
            streams: limits::StreamFigures::from_era(&era, model::era::DEFAULT_REGION, &overrides()),
            init_timeout: Duration::from_secs(10),
            init_billed: true,
            region: model::era::DEFAULT_REGION.into(),
            freeze_after: Duration::from_millis(5),
            layers_folder: folder.join("layers"),
            network: None,
            memory_max_mb: None,
            serving: tokio::sync::watch::channel(true).1,
            trace: true,
        };
        let runtimes = Arc::new(Runtimes::open(folder, false));
        let logs = Logs::open(None).unwrap();
        let invoker = Invoker::new(options, sandboxes.clone(), runtimes, logs, Arc::new(Counters::default()));
        for (index, (name, reserved, timeout, takes)) in FUNCTIONS.into_iter().enumerate() {
            let mut function = Function::new(name, code.clone());
            function.version_key = index as u64 + 1;
            function.runtime = Some("provided.al2023".to_owned());
            function.handler = Some("bootstrap".to_owned());
            function.reserved = reserved;
            function.timeout = Duration::from_secs(timeout);
            function.environment = [(bootstrap::TAKES_MS.to_owned(), takes.to_string())].into();
            invoker.apply(Change::Put(Arc::new(function)));
        }
        invoker.prepare().await.await;
        let begun = Instant::now();
        for (at, function, count) in ARRIVALS {
            tokio::time::sleep_until(begun + Duration::from_millis(at)).await;
            for _ in 0..count {
                let invoker = invoker.clone();
                let request = Request {
                    function: function.into(),
                    invoked_arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{function}").into(),
                    request_id: invoke::request_id(),
                    payload: bytes::Bytes::from_static(b"{}"),
                    tail: false,
                    client_context: None,
                    trace_id: None,
                };
                tokio::spawn(async move { invoker.invoke(request).await });
            }
        }
        tokio::time::sleep_until(begun + Duration::from_millis(15_500)).await;
        let decisions = invoker.decisions();
        sandboxes.shutdown().await;
        decisions.iter().map(|decided| (decided.function.to_string(), kind(&decided.decision))).collect()
    })
}

fn open_to_all(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
