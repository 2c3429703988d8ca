//! The planner under load: requests a second through the whole dispatcher, what a request in flight costs in memory, and
//! a day of traffic.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::process::Running;
use anyhow::{Context as _, Result, ensure};
use limits::token_bucket::{Refill, TokenBucket};
use model::{Era, Instant as Moment};
use plan::{Load, Options, PlanInput};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::fs;
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// An HTTP API before a function in a VPC, a NAT gateway and a database behind a proxy.
const TEMPLATE: &str = include_str!("simulator/template.yaml");
/// Far above what the loads reach: the figures are of the engines, not of refusals.
const LIMITS: &[&str] = &[
    "lambda.account-concurrency=2000000",
    "lambda.scaling-rate=2000000",
    "lambda.request-rate=20000000",
    "apigw.account-rate=4000000",
    "apigw.account-burst=4000000",
    "eni.connections=4000000",
    "db.max-connections=4000000",
];
/// Requests that SimFaaS simulates a second are few: its runs stop after this.
const PEER_PATIENCE: Duration = Duration::from_secs(120);
/// What the hash may leave of the speed.
const HASHED: f64 = 0.95;
/// Its cost is less than what two runs differ by; many short pairs show it.
const HASH_PAIRS: usize = 15;
const HASH_REQUESTS: u32 = 300_000;
const DAY_SECONDS: u32 = 86_400;
const DAY_RATE: u32 = 2000;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let folder = bench.folder("simulator")?;
    fs::write(folder.join("template.yaml"), TEMPLATE)?;
    let peer = simfaas(bench, board);
    let steps = "{connect: {to: 'ssm.us-east-1.amazonaws.com:443', hold: invocation}}, \
                 {query: {database: Proxy, for: 4ms}}, {sleep: 900ms}";
    // Each user sends for as long as it takes to make so many requests.
    let requests = bench.pick(1_000_000, 4_000_000);
    let load = users(10_000, requests, steps);
    let measured = repeat(bench, &folder, &load, requests)?;
    let other = peer.map(|samples| ("SimFaaS", samples));
    let what = |what: &str| format!("simulated requests, API to database, {what}");
    board.add(Figure {
        what: what("10,000 in flight"),
        unit: "/s",
        ours: measured.rate.clone(),
        other: other.clone(),
        goal: Goal::AtLeast(1_000_000.0),
    });
    if other.is_some() {
        let goal = Goal::TimesAtLeast(20.0);
        board.add(Figure { what: what("beside SimFaaS"), unit: "/s", ours: measured.rate, other, goal });
    }
    hash(board, &users(10_000, HASH_REQUESTS, steps))?;
    let steps = steps.replace("900ms", "20s");
    let requests = 2_000_000;
    let measured = repeat(bench, &folder, &users(1_000_000, requests, &steps), requests)?;
    board.add(Figure {
        what: what("1,000,000 in flight"),
        unit: "/s",
        ours: measured.rate,
        other: None,
        goal: Goal::AtLeast(500_000.0),
    });
    board.add(Figure {
        what: "memory of 1,000,000 requests in flight, each with its connection".to_owned(),
        unit: "MB",
        ours: measured.megabytes,
        other: None,
        goal: Goal::AtMost(1000.0),
    });
    if bench.is_short {
        board.skip("a day of 2,000 requests/s", "a full run plans it");
    } else {
        day(bench, board, &folder)?;
    }
    bucket(bench, board);
    Ok(())
}

/// The same with and without the hash of all decisions, in this thread and by its time on a processor: what else runs on the
/// machine is no part of it.
fn hash(board: &mut Board, load: &str) -> Result<()> {
    let outcome = template::read("template.yaml", TEMPLATE, &template::Inputs::default());
    let stack = outcome.stack.with_context(|| format!("{:?}", outcome.problems))?;
    let input = PlanInput::from_stack(&stack);
    let load = Load::read("load.yaml", load).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let mut options = Options::new(Era::named("today")?);
    options.step = Some(Duration::from_secs(60));
    for limit in LIMITS {
        options.overrides.read(limit).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let [mut with, mut without] = [const { Samples(Vec::new()) }; 2];
    for pair in 0..HASH_PAIRS {
        // Who comes second finds warmer caches: they take turns.
        for unhashed in [pair % 2 == 0, pair % 2 != 0] {
            options.unhashed = unhashed;
            let begun = own_time();
            let report = plan::run(&input, &load, &options)?;
            let took = own_time().saturating_sub(begun);
            ensure!(
                report.summary.ok == u64::from(HASH_REQUESTS),
                "not all was answered: {:?}",
                report.summary
            );
            let samples = if unhashed { &mut without } else { &mut with };
            samples.push(f64::from(HASH_REQUESTS) / took.as_secs_f64());
        }
    }
    board.add(Figure {
        what: "simulated requests a second of processor, with the hash of all decisions".to_owned(),
        unit: "/s",
        ours: with,
        other: Some(("without", without)),
        goal: Goal::TimesAtLeast(HASHED),
    });
    Ok(())
}

/// This thread's time on a processor.
fn own_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

struct Measured {
    rate: Samples,
    megabytes: Samples,
}

fn users(users: u32, requests: impl std::fmt::Display, steps: &str) -> String {
    format!(
        "{{version: 1, phases: [{{target: Api, request: GET /, users: {users}, requests: {requests}}}], \
         behaviour: {{Function: {{init: 100ms, steps: [{steps}]}}}}}}"
    )
}

/// Requests a second of the whole command, and its memory.
fn repeat(bench: &Bench, folder: &Path, load: &str, requests: u64) -> Result<Measured> {
    let mut measured = Measured { rate: Samples::default(), megabytes: Samples::default() };
    for _ in 0..bench.rounds() {
        let (took, megabytes, report) = plan(bench, folder, load)?;
        let ok = report["summary"]["ok"].as_u64();
        ensure!(ok == Some(requests), "not all was answered well: {}", report["summary"]);
        measured.rate.push(requests as f64 / took.as_secs_f64());
        measured.megabytes.push(megabytes);
    }
    Ok(measured)
}

/// Runs `onrush plan` as a user does. How long it took, the most memory it had in MB, and its report.
fn plan(bench: &Bench, folder: &Path, load: &str) -> Result<(Duration, f64, Value)> {
    fs::write(folder.join("load.yaml"), load)?;
    let mut command = Command::new(bench.program("onrush")?);
    command.arg("plan").arg(folder.join("template.yaml")).args(["--json", "--step", "60s"]);
    LIMITS.iter().for_each(|limit| {
        command.args(["--limit", limit]);
    });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut running = Running::start(&mut command)?;
    let id = running.child().id();
    let mut stdout = running.child().stdout.take().context("no standard output")?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let mut most = 0;
    while !reader.is_finished() {
        most = peak_kib(id).max(most);
        thread::sleep(Duration::from_millis(5));
    }
    let took = begun.elapsed();
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let report = serde_json::from_str(&text).context("onrush plan printed no report")?;
    Ok((took, most as f64 / 1024.0, report))
}

/// The most memory that a process had, in KiB.
fn peak_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn day(bench: &Bench, board: &mut Board, folder: &Path) -> Result<()> {
    let load = format!(
        "{{version: 1, phases: [{{target: Function, rate: {DAY_RATE}/s, arrivals: poisson, for: {DAY_SECONDS}s}}], \
         behaviour: {{Function: {{init: 100ms, steps: [{{compute: {{exponential: 100ms}}}}]}}}}}}"
    );
    let (took, megabytes, report) = plan(bench, folder, &load)?;
    let requests = report["summary"]["requests"].as_u64().unwrap_or(0);
    ensure!(requests > u64::from(DAY_RATE) * u64::from(DAY_SECONDS) * 99 / 100, "only {requests} requests");
    let mut figure = |what: &str, unit, value: f64, most| {
        let ours = Samples(vec![value]);
        let what = format!("a day of 2,000 requests/s, {what}");
        board.add(Figure { what, unit, ours, other: None, goal: Goal::AtMost(most) });
    };
    figure("time", "s", took.as_secs_f64(), 180.0);
    figure("memory", "MB", megabytes, 200.0);
    Ok(())
}

/// One decision of a token bucket, the time passed in: half of them are refusals.
fn bucket(bench: &Bench, board: &mut Board) {
    let decisions = bench.pick(20_000_000_u64, 100_000_000);
    let mut ours = Samples::default();
    for _ in 0..bench.rounds() {
        let refill = Refill { tokens: 1000, period: Duration::from_secs(10) };
        let mut bucket = TokenBucket::new(Moment::START, 1000, refill);
        let (begun, mut granted) = (Instant::now(), 0_u64);
        for decision in 0..decisions {
            granted += u64::from(bucket.take(Moment::from_nanos(black_box(decision * 5_000_000)), 1));
        }
        let took = begun.elapsed();
        black_box(granted);
        ours.push(took.as_secs_f64() * 1e9 / decisions as f64);
    }
    board.add(Figure {
        what: "one token-bucket decision".to_owned(),
        unit: "ns",
        ours,
        other: None,
        goal: Goal::AtMost(5.0),
    });
}

/// Requests a second of SimFaaS, where it is installed.
fn simfaas(bench: &Bench, board: &mut Board) -> Option<Samples> {
    let Some(python) = bench.peer("simfaas/bin/python") else {
        board.skip("SimFaaS", "not installed; a full run installs it");
        return None;
    };
    let mut samples = Samples::default();
    let begun = Instant::now();
    for _ in 0..bench.rounds() {
        let script = bench.root.join("benches/peers/simfaas_load.py");
        let output = Command::new(&python).arg(script).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(rate) = text.trim().parse().ok() else {
            board.skip("SimFaaS", &String::from_utf8_lossy(&output.stderr));
            return None;
        };
        samples.push(rate);
        if begun.elapsed() > PEER_PATIENCE {
            break;
        }
    }
    Some(samples)
}
