//! Cold start of the Rust function: many functions of the same code, each invoked once, one after another.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::platform::{Function, Site};
use anyhow::Result;
use std::thread;
use std::time::Duration;

/// Between two first invocations; a real one does not follow another at once either.
const GAP: Duration = Duration::from_millis(15);
const P50_MS: f64 = 4.0;
const P99_MS: f64 = 12.0;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let code = bench.echo_function()?;
    let functions: Vec<_> =
        (0..bench.pick(100, 200)).map(|number| Function::rust(format!("cold{number}"), &code)).collect();
    let site = Site::new(bench, &functions)?;
    let [mut p50, mut p99] = [const { Samples(Vec::new()) }; 2];
    for _ in 0..bench.pick(2, 5) {
        let platform = site.start()?;
        thread::sleep(GAP * 10);
        let mut times = Samples::default();
        for function in &functions {
            let answer = platform.invoke(&function.name, "{}")?;
            times.push(answer.first_byte.as_secs_f64() * 1e3);
            thread::sleep(GAP);
        }
        p50.push(times.median());
        p99.push(times.quantile(0.99));
    }
    for (what, ours, goal) in [("p50", p50, P50_MS), ("p99", p99, P99_MS)] {
        let what = format!("cold start, Rust, request to first byte, {what}");
        board.add(Figure { what, unit: "ms", ours, other: None, goal: Goal::AtMost(goal) });
    }
    Ok(())
}
