//! What a function that takes all it can get costs the one beside it: the slowest hundredth of its invocations. On few
//! processors some of that is no platform's to prevent: a bare server beside a plain process that does the same, with
//! the same share, tells how much.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::http::{self, Request};
use crate::others;
use crate::plain::Share;
use crate::platform::{Function, Platform, Site};
use crate::wrk::{self, Load};
use anyhow::Result;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Source of the goal: the project's list of threats, exhaustion.
const P99_TIMES: f64 = 1.2;
/// Each takes half a minute.
const SHORT_ROUNDS: usize = 2;
/// So that a bad one has its share of a processor, and no more.
const MEMORY_MB: u32 = 128;
/// So that nobody waits long for its end.
const TIMEOUT_S: u32 = 1;
/// From a bad one's first deed to the first figure beside it, and from its last until nobody is measured in its wake.
const SETTLE: Duration = Duration::from_millis(200);

/// What a bad one does again and again.
struct Deed {
    name: &'static str,
    does: &'static str,
    event: &'static str,
}

const DEEDS: [Deed; 6] = [
    Deed { name: "spinner", does: "spins", event: r#"{"do":"spin","ms":200}"# },
    Deed { name: "hog", does: "takes memory", event: r#"{"do":"allocate","mb":2000}"# },
    Deed { name: "filler", does: "fills /tmp", event: r#"{"do":"tmp","mb":600}"# },
    Deed { name: "maker", does: "makes a million files", event: r#"{"do":"files","count":1000000}"# },
    Deed { name: "forker", does: "forks without end", event: r#"{"do":"fork_bomb"}"# },
    Deed { name: "talker", does: "logs 20 MB", event: r#"{"do":"log","bytes":20000000}"# },
];

impl Deed {
    /// The name of who does it in a round.
    fn function(&self, round: usize) -> String {
        format!("{}{round}", self.name)
    }
}

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let rogue = bench.built_function("rogue")?;
    let mut functions = vec![Function::rust("good", &bench.built_function("echo")?)];
    let rounds = bench.pick(SHORT_ROUNDS, bench.rounds());
    for round in 0..rounds {
        // A function of its own for each: a full `/tmp` stays full.
        functions.extend(DEEDS.iter().map(|deed| Function {
            memory_mb: MEMORY_MB,
            timeout_s: TIMEOUT_S,
            ..Function::rust(deed.function(round), &rogue)
        }));
    }
    let platform = Site::new(bench, &functions)?.start()?;
    let scratch = bench.folder("wrk")?;
    let load = || {
        let (url, length) = (platform.invocations("good"), bench.load_length());
        let load = Load { url, body: Some("{}"), connections: 1, length, refused: false, event: false };
        wrk::run(&scratch, &load)
    };
    load()?;
    let floor = others::bare_hyper(bench)?;
    let share = Share::new(MEMORY_MB);
    if share.is_none() {
        board.skip("a bare hyper beside plain processes", "needs root and control groups");
    }
    let of_floor = || {
        let (url, length) = (floor.url.clone(), bench.load_length());
        let load = Load { url, body: None, connections: 1, length, refused: false, event: false };
        wrk::run(&scratch, &load)
    };
    let (mut alone, mut beside) = (DEEDS.map(|_| Samples::default()), DEEDS.map(|_| Samples::default()));
    let (mut growths, mut growths_of_floor) =
        (DEEDS.map(|_| Samples::default()), DEEDS.map(|_| Samples::default()));
    for round in 0..rounds {
        for (index, deed) in DEEDS.iter().enumerate() {
            // Each beside its own: a p99 alone differs by more between one minute and the next than by any neighbour.
            let ours = load()?.p99_us;
            let found = beside_function(&platform, deed, round, load)??.p99_us;
            alone[index].push(ours);
            beside[index].push(found);
            growths[index].push(found / ours);
            if let Some(share) = &share {
                thread::sleep(SETTLE);
                let floors = of_floor()?.p99_us;
                let folder = bench.built_function("rogue")?;
                let run = || share.run(&folder, deed.event, Duration::from_secs(TIMEOUT_S.into())).is_ok();
                let found = meanwhile(deed, run, of_floor)??.p99_us;
                fs::remove_dir_all(&folder)?;
                growths_of_floor[index].push(found / floors);
            }
            thread::sleep(SETTLE);
        }
    }
    for (index, deed) in DEEDS.iter().enumerate() {
        let what =
            format!("warm, Rust, 1 connection, p99, beside a function of {MEMORY_MB} MB that {}", deed.does);
        board.add(Figure {
            what: what.clone(),
            unit: "us",
            ours: beside[index].clone(),
            other: Some(("alone", alone[index].clone())),
            goal: Goal::TimesAtMost(P99_TIMES),
        });
        board.add(Figure {
            what: format!("{what}, growth"),
            unit: "x",
            ours: growths[index].clone(),
            other: share
                .is_some()
                .then(|| ("a bare hyper's beside a plain process", growths_of_floor[index].clone())),
            goal: Goal::TimesAtMost(P99_TIMES),
        });
    }
    Ok(())
}

/// Measures while a bad function has its event again and again, whatever becomes of it.
fn beside_function<T>(
    platform: &Platform,
    deed: &Deed,
    round: usize,
    measure: impl FnOnce() -> T,
) -> Result<T> {
    let request = Request::invoke(&deed.function(round), deed.event);
    let invoke = || http::fetch(platform.address, &request).is_ok_and(|it| it.status == 200);
    meanwhile(deed, invoke, measure)
}

/// Measures while a deed is done again and again. Fails when that never succeeded.
fn meanwhile<T>(deed: &Deed, again: impl Fn() -> bool + Sync, measure: impl FnOnce() -> T) -> Result<T> {
    let (is_over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if again() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        thread::sleep(SETTLE);
        let found = measure();
        is_over.store(true, Ordering::Relaxed);
        found
    });
    anyhow::ensure!(done.into_inner() > 0, "nobody {} beside", deed.does);
    Ok(found)
}
