//! A burst: many first invocations at the same moment, each of which needs an environment of its own.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::http::{self, Request};
use crate::platform::{Function, Site};
use anyhow::{Context as _, Result, bail};
use std::thread;
use std::time::{Duration, Instant};

const REQUESTS: usize = 200;
const WITHIN_MS: f64 = 1_000.0;
/// The platform fills its pools after it is ready; a burst does not usually come that soon.
const SETTLE: Duration = Duration::from_millis(500);

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let site = Site::new(bench, &[Function::rust("burst", &bench.echo_function()?)])?;
    let request = Request::invoke("burst", "{}");
    let mut whole = Samples::default();
    let mut fewest = u64::MAX;
    for _ in 0..bench.rounds() {
        let platform = site.start()?;
        thread::sleep(SETTLE);
        // All connections first, so that all requests arrive before the first environment is there.
        let connections =
            (0..REQUESTS).map(|_| http::connect(platform.address)).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        let pending = connections.into_iter().map(|stream| http::send_on(stream, begun, &request));
        let pending = pending.collect::<Result<Vec<_>>>()?;
        for (number, pending) in pending.into_iter().enumerate() {
            pending.answer()?.expect_success().with_context(|| format!("request {number} of {REQUESTS}"))?;
        }
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        fewest = fewest.min(platform.health("environments")?);
    }
    if fewest < REQUESTS as u64 / 2 {
        bail!("only {fewest} environments were started: that was no burst");
    }
    board.add(Figure {
        what: format!("burst of {REQUESTS} first invocations, all answered ({fewest} environments or more)"),
        unit: "ms",
        ours: whole,
        other: None,
        goal: Goal::AtMost(WITHIN_MS),
    });
    Ok(())
}
