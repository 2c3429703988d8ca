//! A thousand idle environments: what they cost, how soon a new one's network is ready, and that teardown waits for nobody.

use super::site;
use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::process::cpu_time;
use anyhow::Result;
use std::thread;
use std::time::{Duration, Instant};

const CPU_PERCENT: f64 = 1.0;
const READY_US: f64 = 1_000.0;
/// What a detach may take whoever asks for it.
const DETACH_US: f64 = 100.0;
/// Devices are made at the start; that is no rest yet.
const SETTLE: Duration = Duration::from_millis(500);

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let environments = bench.pick("200", "1000");
    let world = site::world("rest-world")?;
    let mut carrier = site::carry(bench, &world, &[], &["--idle", environments])?;
    thread::sleep(SETTLE);
    let id = carrier.id();
    let (before, begun) = (cpu_time(id), Instant::now());
    thread::sleep(Duration::from_secs(bench.pick(1, 10)));
    let used = cpu_time(id).saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let numbers = |lines: Vec<String>| lines.iter().filter_map(|line| line.parse().ok()).collect::<Samples>();
    let ready = numbers(carrier.ask(bench.pick("ready 50", "ready 200"))?);
    let detach = numbers(carrier.ask(bench.pick("detach 200", "detach 1000"))?);
    let mut row = |what: String, unit, ours, goal| {
        board.add(Figure {
            what: format!("network: {what}"),
            unit,
            ours,
            other: None,
            goal: Goal::AtMost(goal),
        });
    };
    let percent = Samples(vec![used]);
    row(format!("{environments} idle environments, processor"), "%", percent, CPU_PERCENT);
    row(format!("a new one beside {environments}: attached, asked, answered"), "us", ready, READY_US);
    row("letting go of one, on the path".to_owned(), "us", detach, DETACH_US);
    Ok(())
}
