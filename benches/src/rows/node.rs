//! The same Node handler on Onrush and on serverless-offline.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::others;
use crate::platform::{Function, Site};
use crate::wrk::{self, Load};
use anyhow::Result;

const EVENT: &str = "{}";
const CONNECTIONS: u32 = 50;
const THROUGHPUT: f64 = 2.0;
const P99: f64 = 0.5;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let Some(peer) = others::serverless_offline(bench)? else {
        board.skip("serverless-offline", "not installed in target/peers; a full run installs it");
        return Ok(());
    };
    let code = bench.handler("node")?;
    let function =
        Function { runtime: "nodejs20.x", handler: "index.handler", ..Function::rust("hello", &code) };
    let ours = Site::new(bench, &[function])?.start()?;
    ours.invoke("hello", EVENT)?;
    let folder = bench.folder("wrk")?;
    let load = |url: &str| {
        let (url, length) = (url.to_owned(), bench.load_length());
        wrk::run(
            &folder,
            &Load { url, body: Some(EVENT), connections: CONNECTIONS, length, refused: false, event: false },
        )
    };
    let api = ours.invocations("hello");
    // Environments for everyone, and the peer's warm-up.
    load(&api)?;
    load(&peer.url)?;
    let [mut our_rate, mut our_p99, mut peer_rate, mut peer_p99] = [const { Samples(Vec::new()) }; 4];
    for _ in 0..bench.rounds() {
        let outcome = load(&api)?;
        our_rate.push(outcome.per_second);
        our_p99.push(outcome.p99_us / 1e3);
        let outcome = load(&peer.url)?;
        peer_rate.push(outcome.per_second);
        peer_p99.push(outcome.p99_us / 1e3);
    }
    board.add(Figure {
        what: format!("warm, Node, Invoke API, {CONNECTIONS} connections"),
        unit: "requests/s",
        ours: our_rate,
        other: Some(("serverless-offline", peer_rate)),
        goal: Goal::TimesAtLeast(THROUGHPUT),
    });
    board.add(Figure {
        what: format!("warm, Node, Invoke API, {CONNECTIONS} connections, p99"),
        unit: "ms",
        ours: our_p99,
        other: Some(("serverless-offline", peer_p99)),
        goal: Goal::TimesAtMost(P99),
    });
    Ok(())
}
