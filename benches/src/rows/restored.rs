//! SnapStart: the first invocation of versions whose INIT takes two seconds, each once.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::http::{self, Request};
use crate::platform::{Function, Platform, Site};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};

const P50_MS: f64 = 15.0;
/// Longest wait until all versions are prepared.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
const GAP: Duration = Duration::from_millis(50);

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let code = bench.handler("restored")?;
    let make = |number| Function {
        runtime: "python3.12",
        handler: "app.handler",
        is_restored: true,
        ..Function::rust(format!("restored{number}"), &code)
    };
    let functions: Vec<_> = (0..bench.pick(8, 20)).map(make).collect();
    let site = Site::new(bench, &functions)?;
    let [mut restored, mut whole] = [const { Samples(Vec::new()) }; 2];
    for _ in 0..bench.pick(1, 5) {
        let platform = site.start()?;
        let [mut first, mut cold] = [const { Samples(Vec::new()) }; 2];
        for function in &functions {
            wait_until_active(&platform, &function.name)?;
        }
        for (number, function) in functions.iter().enumerate() {
            thread::sleep(GAP);
            let answer = platform.invoke(&format!("{}:live", function.name), "{}")?;
            ensure!(answer.body == b"\"snap-start\"", "the version was not restored");
            first.push(answer.first_byte.as_secs_f64() * 1e3);
            // $LATEST starts as ever; two show how long that takes.
            if number < 2 {
                let answer = platform.invoke(&function.name, "{}")?;
                cold.push(answer.first_byte.as_secs_f64() * 1e3);
            }
        }
        restored.push(first.median());
        whole.push(cold.median());
    }
    board.add(Figure {
        what: "SnapStart, Python, INIT of 2 s: restored, request to first byte, p50".to_owned(),
        unit: "ms",
        ours: restored,
        other: Some(("its own cold start", whole)),
        goal: Goal::AtMost(P50_MS),
    });
    Ok(())
}

fn wait_until_active(platform: &Platform, function: &str) -> Result<()> {
    let path = format!("/2015-03-31/functions/{function}/configuration?Qualifier=live");
    let begun = Instant::now();
    loop {
        let answer = http::fetch(platform.address, &Request::new("GET", &path, ""))?.expect_success()?;
        let shape: Value = serde_json::from_slice(&answer.body)?;
        if shape["State"] == "Active" {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{function} is not prepared: {shape}");
        thread::sleep(POLL);
    }
}
