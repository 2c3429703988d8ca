//! Many environments alive at once: a burst from zero, what an idle one costs, whether the others still answer, and how
//! soon all is given back. What limits it is this host, never Lambda.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::http::{self, Request};
use crate::memory::{self, Kernel};
use crate::platform::{Function, Platform, Site};
use crate::wrk::{self, Load};
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const BURST_MS: f64 = 3_000.0;
const IDLE_KIB: f64 = 200.0;
const RECLAIMED_MS: f64 = 2_000.0;
const COLD_P50_MS: f64 = 4.0;
/// What idle ones beside may take from the warm.
const WARM_TIMES: f64 = 0.9;
const WARM_P50_TIMES: f64 = 1.1;
/// Connections of the warm invocations beside the idle ones.
const WARM_CONNECTIONS: u32 = 50;
/// The platform fills its pools after it is ready, and freezes what is idle.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two cold starts beside the idle ones.
const GAP: Duration = Duration::from_millis(30);
/// MemorySize of the functions that live in great numbers, MiB.
const MEMORY_MB: u32 = 128;
/// Descriptors beside one connection for each environment.
const DESCRIPTORS_BESIDE: u64 = 200;

/// What one round found.
struct Round {
    burst_ms: f64,
    again_ms: f64,
    idle_kib: f64,
    cold_before_ms: f64,
    cold_beside_ms: f64,
    warm_before: Warm,
    warm_beside: Warm,
    reclaimed_ms: f64,
}

/// Warm invocations of one function.
#[derive(Clone, Copy)]
struct Warm {
    /// Through many connections.
    per_second: f64,
    /// Through one.
    p50_us: f64,
}

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let code = bench.echo_function()?;
    measure(bench, board, "Rust", bench.pick(250, 1_000), Function::rust("crowd", &code))?;
    let python = Function {
        runtime: "python3.11",
        handler: "app.handler",
        ..Function::rust("crowd", &bench.handler("python")?)
    };
    measure(bench, board, "Python", bench.pick(50, 200), python)
}

fn measure(bench: &Bench, board: &mut Board, language: &str, count: usize, crowd: Function) -> Result<()> {
    raise_open_files(count as u64 + DESCRIPTORS_BESIDE)?;
    let beside = bench.echo_function()?;
    let mut functions = vec![Function { memory_mb: MEMORY_MB, ..crowd }];
    let lone = |number| Function::rust(format!("lone{number}"), &beside);
    let lonely = bench.pick(10, 30);
    functions.extend((0..2 * lonely).map(lone));
    functions.push(Function::rust("warm", &beside));
    let site = Site::new(bench, &functions)?;
    let scratch = bench.folder("wrk")?;
    let mut rounds = Vec::new();
    for _ in 0..bench.pick(1, 5) {
        rounds.push(round(site.start()?, count, lonely, &scratch, bench.load_length())?);
    }
    let all = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Samples>();
    let mut add = |what: String, unit, ours, other, goal| board.add(Figure { what, unit, ours, other, goal });
    // The goals are those of the full number.
    add(
        format!("burst of {count} first invocations, {language}, all answered"),
        "ms",
        all(|round| round.burst_ms),
        Some(("the same again, all warm", all(|round| round.again_ms))),
        Goal::AtMost(BURST_MS),
    );
    add(
        format!("an idle environment of {count}, {language}, kernel and ours"),
        "KiB",
        all(|round| round.idle_kib),
        None,
        Goal::AtMost(IDLE_KIB),
    );
    add(
        format!("cold start, Rust, p50, {count} idle beside, {language}"),
        "ms",
        all(|round| round.cold_beside_ms),
        Some(("none beside", all(|round| round.cold_before_ms))),
        Goal::AtMost(COLD_P50_MS),
    );
    add(
        format!("warm, Rust, {WARM_CONNECTIONS} connections, {count} idle beside, {language}"),
        "requests/s",
        all(|round| round.warm_beside.per_second),
        Some(("none beside", all(|round| round.warm_before.per_second))),
        Goal::TimesAtLeast(WARM_TIMES),
    );
    add(
        format!("warm, Rust, 1 connection, p50, {count} idle beside, {language}"),
        "us",
        all(|round| round.warm_beside.p50_us),
        Some(("none beside", all(|round| round.warm_before.p50_us))),
        Goal::TimesAtMost(WARM_P50_TIMES),
    );
    add(
        format!("{count} environments reclaimed, {language}"),
        "ms",
        all(|round| round.reclaimed_ms),
        None,
        Goal::AtMost(RECLAIMED_MS),
    );
    Ok(())
}

fn round(platform: Platform, count: usize, lonely: usize, scratch: &Path, length: Duration) -> Result<Round> {
    thread::sleep(SETTLE);
    // Environments for everyone, before the first figure.
    warm(&platform, scratch, length)?;
    let warm_before = warm(&platform, scratch, length)?;
    let cold_before_ms = cold_starts(&platform, 0..lonely)?;
    thread::sleep(SETTLE);
    let (kernel, ours) = (Kernel::now()?, memory::of(&platform.running.family()));
    let before = platform.health("environments")?;
    let burst_ms = burst(&platform, count)?;
    let again_ms = burst(&platform, count)?;
    let living = platform.health("environments")?.saturating_sub(before);
    ensure!(living * 10 >= count as u64 * 9, "only {living} of {count} environments live: that was no burst");
    thread::sleep(SETTLE);
    let (kernel_now, now) = (Kernel::now()?, memory::of(&platform.running.family()));
    let functions = now.functions_kernel_kib.saturating_sub(ours.functions_kernel_kib);
    let grown = kernel_now.kib.saturating_sub(kernel.kib).saturating_sub(functions)
        + now.ours_kib.saturating_sub(ours.ours_kib);
    let cold_beside_ms = cold_starts(&platform, lonely..2 * lonely)?;
    let warm_beside = warm(&platform, scratch, length)?;
    let mut running = platform.running;
    let reclaimed_ms = running.stop().as_secs_f64() * 1e3;
    Ok(Round {
        burst_ms,
        again_ms,
        idle_kib: grown as f64 / living as f64,
        cold_before_ms,
        cold_beside_ms,
        warm_before,
        warm_beside,
        reclaimed_ms,
    })
}

/// All at once; how long until the last is answered.
fn burst(platform: &Platform, count: usize) -> Result<f64> {
    let request = Request::invoke("crowd", "{}");
    // All connections first, so that all requests arrive before the first environment is there.
    let connections = (0..count).map(|_| http::connect(platform.address)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let pending = connections.into_iter().map(|stream| http::send_on(stream, begun, &request));
    for (number, pending) in pending.collect::<Result<Vec<_>>>()?.into_iter().enumerate() {
        pending.answer()?.expect_success().with_context(|| format!("request {number} of {count}"))?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// One first invocation after the other; their median.
fn cold_starts(platform: &Platform, numbers: std::ops::Range<usize>) -> Result<f64> {
    let mut times = Samples::default();
    for number in numbers {
        times.push(platform.invoke(&format!("lone{number}"), "{}")?.first_byte.as_secs_f64() * 1e3);
        thread::sleep(GAP);
    }
    Ok(times.median())
}

/// Invocations of a function that is not one of the crowd, for as long.
fn warm(platform: &Platform, scratch: &Path, length: Duration) -> Result<Warm> {
    let load = |connections: u32| {
        let url = platform.invocations("warm");
        wrk::run(scratch, &Load { url, body: Some("{}"), connections, length, refused: false, event: false })
    };
    Ok(Warm { per_second: load(WARM_CONNECTIONS)?.per_second, p50_us: load(1)?.p50_us })
}

fn raise_open_files(wanted: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        bail!("this needs {wanted} descriptors: ulimit -n");
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}
