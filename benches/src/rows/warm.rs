//! Warm invocations of the Rust echo, through its function URL and the Invoke API.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::others;
use crate::platform::{Function, Site};
use crate::wrk::{self, Load, Outcome};
use anyhow::Result;

/// The event of every invocation, and of the peers'.
const EVENT: &str = r#"{"a":1}"#;
/// Source of the goals: the project's list of figures.
const MANY: u32 = 50;
const OF_BARE_HYPER: f64 = 0.15;
const OF_CARGO_LAMBDA: f64 = 5.0;
const P50_OF_BARE_HYPER: f64 = 4.0;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let site = Site::new(bench, &[Function::rust("echo", &bench.echo_function()?)])?;
    let ours = site.start()?;
    let floor = others::bare_hyper(bench)?;
    let peer = others::cargo_lambda(bench)?;
    if peer.is_none() {
        board.skip("cargo lambda watch", "not installed in target/peers; a full run installs it");
    }
    ours.invoke("echo", EVENT)?;
    let folder = bench.folder("wrk")?;
    let load = |url: &str, body: Option<&'static str>, connections: u32| -> Result<Outcome> {
        let length = bench.load_length();
        wrk::run(
            &folder,
            &Load { url: url.to_owned(), body, connections, length, refused: false, event: false },
        )
    };
    let (door, api) = (ours.door("echo"), ours.invocations("echo"));
    // Environments for everyone, before the first round.
    load(&door, None, MANY)?;

    let mut many = Rounds::default();
    let mut one = Rounds::default();
    for _ in 0..bench.rounds() {
        many.floor.push(load(&floor.url, None, MANY)?);
        many.door.push(load(&door, None, MANY)?);
        if let Some(peer) = &peer {
            many.peer.push(load(&peer.url, Some(EVENT), MANY)?);
        }
        many.api.push(load(&api, Some(EVENT), MANY)?);
        one.floor.push(load(&floor.url, None, 1)?);
        one.door.push(load(&door, None, 1)?);
        one.api.push(load(&api, Some(EVENT), 1)?);
    }

    let per_second = |rounds: &[Outcome]| rounds.iter().map(|round| round.per_second).collect::<Samples>();
    let p50 = |rounds: &[Outcome]| rounds.iter().map(|round| round.p50_us).collect::<Samples>();
    for (through, rounds) in [("function URL", &many.door), ("Invoke API", &many.api)] {
        let mut figure = Figure {
            what: format!("warm, Rust, {through}, {MANY} connections"),
            unit: "requests/s",
            ours: per_second(rounds),
            other: Some(("bare hyper", per_second(&many.floor))),
            goal: Goal::TimesAtLeast(OF_BARE_HYPER),
        };
        board.add(figure.clone());
        if peer.is_some() {
            figure.other = Some(("cargo lambda watch", per_second(&many.peer)));
            figure.goal = Goal::TimesAtLeast(OF_CARGO_LAMBDA);
            board.add(figure);
        }
    }
    for (through, rounds) in [("function URL", &one.door), ("Invoke API", &one.api)] {
        board.add(Figure {
            what: format!("warm, Rust, {through}, 1 connection, p50"),
            unit: "us",
            ours: p50(rounds),
            other: Some(("bare hyper", p50(&one.floor))),
            goal: Goal::TimesAtMost(P50_OF_BARE_HYPER),
        });
    }
    Ok(())
}

/// What came of the rounds, by server.
#[derive(Default)]
struct Rounds {
    floor: Vec<Outcome>,
    door: Vec<Outcome>,
    api: Vec<Outcome>,
    peer: Vec<Outcome>,
}
