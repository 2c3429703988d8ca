//! Refusals: a function whose reserved concurrency is 0 answers nothing but 429.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::others;
use crate::platform::{Function, Site};
use crate::wrk::{self, Load};
use anyhow::Result;

const CONNECTIONS: u32 = 50;
const OF_BARE_HYPER: f64 = 0.85;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let function = Function { reserved: Some(0), ..Function::rust("refused", &bench.echo_function()?) };
    let ours = Site::new(bench, &[function])?.start()?;
    let floor = others::bare_hyper(bench)?;
    let folder = bench.folder("wrk")?;
    let load = |url: &str, body: Option<&'static str>, refused: bool| -> Result<f64> {
        let (url, length) = (url.to_owned(), bench.load_length());
        let outcome =
            wrk::run(&folder, &Load { url, body, connections: CONNECTIONS, length, refused, event: false })?;
        Ok(outcome.per_second)
    };
    let [mut floor_rate, mut door_rate, mut api_rate] = [const { Samples(Vec::new()) }; 3];
    for _ in 0..bench.rounds() {
        door_rate.push(load(&ours.door("refused"), None, true)?);
        floor_rate.push(load(&floor.url, None, false)?);
        api_rate.push(load(&ours.invocations("refused"), Some("{}"), true)?);
    }
    for (through, rate) in [("function URL", door_rate), ("Invoke API", api_rate)] {
        board.add(Figure {
            what: format!("refused (429), {through}, {CONNECTIONS} connections"),
            unit: "requests/s",
            ours: rate,
            other: Some(("bare hyper", floor_rate.clone())),
            goal: Goal::TimesAtLeast(OF_BARE_HYPER),
        });
    }
    Ok(())
}
