//! The platform at rest with ten functions: memory, processor, and how soon it is ready.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::platform::{Function, Site};
use crate::process::{cpu_time, resident_kib};
use anyhow::Result;
use std::thread;
use std::time::{Duration, Instant};

const FUNCTIONS: usize = 10;
const RESIDENT_MIB: f64 = 30.0;
const CPU_PERCENT: f64 = 0.1;
const READY_MS: f64 = 300.0;
/// Pools are filled after the start; that is no rest yet.
const SETTLE: Duration = Duration::from_secs(1);

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let code = bench.echo_function()?;
    let functions: Vec<_> =
        (0..FUNCTIONS).map(|number| Function::rust(format!("rest{number}"), &code)).collect();
    let site = Site::new(bench, &functions)?;
    // The first start deploys; the figure is of the later ones.
    drop(site.start()?);
    let [mut resident, mut percent, mut ready] = [const { Samples(Vec::new()) }; 3];
    for round in 0..bench.rounds() {
        let platform = site.start()?;
        ready.push(platform.ready_after.as_secs_f64() * 1e3);
        // The rest needs time, and differs less from round to round.
        if round >= bench.pick(1, 3) {
            continue;
        }
        thread::sleep(SETTLE);
        let family = platform.running.family();
        let busy = || family.iter().map(|id| cpu_time(*id)).sum::<Duration>();
        let (before, begun) = (busy(), Instant::now());
        thread::sleep(Duration::from_secs(bench.pick(4, 10)));
        let used = busy().saturating_sub(before);
        percent.push(used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0);
        resident.push(family.iter().map(|id| resident_kib(*id)).sum::<u64>() as f64 / 1024.0);
    }
    for (what, unit, ours, goal) in [
        ("resident memory, jailer included", "MiB", resident, RESIDENT_MIB),
        ("processor", "%", percent, CPU_PERCENT),
        ("ready after the start", "ms", ready, READY_MS),
    ] {
        let what = format!("at rest, {FUNCTIONS} functions: {what}");
        board.add(Figure { what, unit, ours, other: None, goal: Goal::AtMost(goal) });
    }
    Ok(())
}
