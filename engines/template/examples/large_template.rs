//! How long a template of 5,000 resources takes to read: `cargo run --release -p template --example large_template`.
//!
//! Prints the median of several runs for YAML, for the same as JSON, and for the same with a hundred mistakes.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement needs a clock; no engine does"
)]

#[path = "../tests/reading/large.rs"]
mod large;

use std::time::{Duration, Instant};
use template::Inputs;

/// Resources in the template.
const RESOURCES: usize = 5_000;
/// Runs of which the median is printed.
const RUNS: usize = 9;

fn main() {
    let yaml = large::template(RESOURCES, 0);
    let broken = large::template(RESOURCES, 100);
    let json = large::as_json(&yaml);
    for (name, text) in [("YAML", &yaml), ("JSON", &json), ("YAML with 100 mistakes", &broken)] {
        let mut times: Vec<(Duration, usize)> = (0..RUNS)
            .map(|_| {
                let start = Instant::now();
                let outcome = template::read("large", text, &Inputs::default());
                (start.elapsed(), outcome.problems.len())
            })
            .collect();
        let start = Instant::now();
        let tree = template::yaml::parse("large", text).is_ok();
        let alone = start.elapsed();
        times.sort_unstable();
        let (median, problems) = times[RUNS / 2];
        println!("{name}: {RESOURCES} resources, {} bytes, {problems} problems: {median:.1?}", text.len());
        println!("    of that the tree alone: {alone:.1?} ({tree})");
    }
}
