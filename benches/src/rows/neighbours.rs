//! What a function that takes all it can get costs the one beside it: the slowest hundredth of its invocations. On few
//! processors some of that is no platform's to prevent; a bare server beside the same function tells how much.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::http::{self, Request};
use crate::others;
use crate::platform::{Function, Platform, Site};
use crate::wrk::{self, Load};
use anyhow::Result;
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
            let (ours, floors) = (load()?.p99_us, of_floor()?.p99_us);
            let (found, of_floor) = meanwhile(&platform, deed, round, || (load(), of_floor()))?;
            let (found, of_floor) = (found?.p99_us, of_floor?.p99_us);
            alone[index].push(ours);
            beside[index].push(found);
            growths[index].push(found / ours);
            growths_of_floor[index].push(of_floor / floors);
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
            other: Some(("a bare hyper's growth", growths_of_floor[index].clone())),
            goal: Goal::TimesAtMost(P99_TIMES),
        });
    }
    Ok(())
}

/// Measures while a bad one has its event again and again, whatever becomes of it. Fails when it never had one.
fn meanwhile<T>(platform: &Platform, deed: &Deed, round: usize, measure: impl FnOnce() -> T) -> Result<T> {
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let request = Request::invoke(&deed.function(round), deed.event);
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if http::fetch(platform.address, &request).is_ok_and(|it| it.status == 200) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        thread::sleep(SETTLE);
        let found = measure();
        is_over.store(true, Ordering::Relaxed);
        found
    });
    anyhow::ensure!(answered.into_inner() > 0, "the function that {} was never invoked", deed.does);
    Ok(found)
}
