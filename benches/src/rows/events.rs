//! Asynchronous events: how many are accepted a second, each on the disk before its 202.
//!
//! The floor is one writer that appends a record of the same size to a file and waits for the disk each time: what a queue
//! without group commit could reach at best.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::platform::{Function, Platform, Site};
use crate::wrk::{self, Load};
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 64;
const PER_SECOND: f64 = 5_000.0;
/// The event, and about what a row about it adds.
const EVENT: &str =
    r#"{"order":"2f1c8a34-0000-4000-8000-000000000000","items":[1,2,3,4,5,6,7,8],"note":"a small event"}"#;
const RECORD_BYTES: usize = 512;
/// Longest wait for what was accepted to be delivered.
const DRAIN_MAX: Duration = Duration::from_secs(60);

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let code = bench.echo_function()?;
    let stopped = Function { reserved: Some(0), ..Function::rust("stopped", &code) };
    let ours = Site::new(bench, &[Function::rust("echo", &code), stopped])?.start()?;
    ours.invoke("echo", EVENT)?;
    let folder = bench.folder("wrk")?;
    let load = |function: &str| -> Result<f64> {
        let (url, length) = (ours.invocations(function), bench.load_length());
        let load =
            Load { url, body: Some(EVENT), connections: CONNECTIONS, length, refused: false, event: true };
        let outcome = wrk::run(&folder, &load)?;
        drain(&ours)?;
        Ok(outcome.per_second)
    };
    let [mut floor, mut queued, mut delivered] = [const { Samples(Vec::new()) }; 3];
    for _ in 0..bench.rounds() {
        floor.push(synced_appends(&folder.join("floor"), bench.load_length())?);
        queued.push(load("stopped")?);
        delivered.push(load("echo")?);
    }
    for (what, rate) in [("and settled", queued), ("while the Rust function runs for them", delivered)] {
        board.add(Figure {
            what: format!("events accepted {what}, {CONNECTIONS} connections"),
            unit: "events/s",
            ours: rate,
            other: Some(("an fsync for each", floor.clone())),
            goal: Goal::AtLeast(PER_SECOND),
        });
    }
    Ok(())
}

fn drain(ours: &Platform) -> Result<()> {
    let begun = Instant::now();
    while ours.health("events")? > 0 {
        if begun.elapsed() > DRAIN_MAX {
            bail!("events are still waiting after {DRAIN_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Records appended a second, each on the disk before the next.
fn synced_appends(path: &Path, length: Duration) -> Result<f64> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let record = [7; RECORD_BYTES];
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < length {
        file.write_all(&record)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
