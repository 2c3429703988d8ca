//! Cold start of the Rust function: many functions of the same code, each invoked once, one after another. Between
//! them the same program starts alone, without a sandbox, and is timed until it asks for its first event: the part
//! that is the function's own.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::platform::{Function, Site};
use crate::process::Running;
use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two first invocations; a real one does not follow another at once either.
const GAP: Duration = Duration::from_millis(15);
/// Longest wait for the program alone.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
const P50_MS: f64 = 4.0;
const P99_MS: f64 = 12.0;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let code = bench.echo_function()?;
    let functions: Vec<_> =
        (0..bench.pick(100, 200)).map(|number| Function::rust(format!("cold{number}"), &code)).collect();
    let site = Site::new(bench, &functions)?;
    let [mut p50, mut p99, mut alone_p50, mut alone_p99] = [const { Samples(Vec::new()) }; 4];
    let program = code.join("bootstrap");
    for _ in 0..bench.pick(2, 5) {
        let platform = site.start()?;
        thread::sleep(GAP * 10);
        let [mut times, mut alone] = [const { Samples(Vec::new()) }; 2];
        for function in &functions {
            alone.push(first_request(&program)?.as_secs_f64() * 1e3);
            thread::sleep(GAP);
            let answer = platform.invoke(&function.name, "{}")?;
            times.push(answer.first_byte.as_secs_f64() * 1e3);
            thread::sleep(GAP);
        }
        p50.push(times.median());
        p99.push(times.quantile(0.99));
        alone_p50.push(alone.median());
        alone_p99.push(alone.quantile(0.99));
    }
    for (what, ours, alone, goal) in [("p50", p50, alone_p50, P50_MS), ("p99", p99, alone_p99, P99_MS)] {
        let what = format!("cold start, Rust, request to first byte, {what}");
        board.add(Figure {
            what,
            unit: "ms",
            ours,
            other: Some(("the function alone", alone)),
            goal: Goal::AtMost(goal),
        });
    }
    Ok(())
}

/// From the start of the program to the first byte that it sends to a Runtime API.
fn first_request(program: &Path) -> Result<Duration> {
    let api = TcpListener::bind(("127.0.0.1", 0))?;
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", api.local_addr()?.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "alone")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "alone")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "alone")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let begun = Instant::now();
    let _running = Running::start(&mut command)?;
    let mut waiting = [PollFd::new(&api, PollFlags::IN)];
    ensure!(poll(&mut waiting, Some(&PATIENCE))? == 1, "the program asks for no event");
    let (mut stream, _) = api.accept()?;
    stream.read_exact(&mut [0]).context("the program closed its connection")?;
    Ok(begun.elapsed())
}
