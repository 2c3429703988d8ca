//! iperf3, unmodified, through each way of carrying packets: what a user would measure with.

use super::site::{Kind, Site, WORLD};
use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use anyhow::Result;

/// Rounds at most: each of iperf3's runs takes a second and more.
const ROUNDS_MAX: usize = 3;

/// A stream each way; nothing where iperf3 is not installed.
pub fn run(bench: &Bench, board: &mut Board, sites: &[(Kind, &Site)]) -> Result<()> {
    if !super::site::installed("iperf3") {
        board.skip("iperf3", "it is not installed");
        return Ok(());
    }
    let seconds = bench.pick("1", "3");
    for (what, back) in [("to", false), ("from", true)] {
        let mut found: Vec<(Kind, Samples)> =
            sites.iter().map(|(kind, _)| (*kind, Samples::default())).collect();
        for _ in 0..bench.rounds().min(ROUNDS_MAX) {
            for ((_, site), (_, samples)) in sites.iter().zip(&mut found) {
                samples.push(site.iperf(WORLD, seconds, back)?);
            }
        }
        let of =
            |wanted: Kind| found.iter().find(|(kind, _)| *kind == wanted).map(|(_, samples)| samples.clone());
        let Some(ours) = of(Kind::Ours) else { return Ok(()) };
        for (kind, times) in [(Kind::Copy, 0.8), (Kind::Kernel, 0.7)] {
            if let Some(other) = of(kind) {
                board.add(Figure {
                    what: format!("network: iperf3, one stream {what} the world"),
                    unit: "Gbit/s",
                    ours: ours.clone(),
                    other: Some((kind.name(), other)),
                    goal: Goal::TimesAtLeast(times),
                });
            }
        }
    }
    Ok(())
}
