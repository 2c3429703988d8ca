//! The packet engine alone: packets in memory, one core, the code that the platform runs.
//!
//! Packets go out through a shared interface and a NAT gateway and their answers come back, in random order over all flows.
//! Made once, they lie in memory one behind the other, as in a driver's ring; making them is not measured.

mod load;

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use anyhow::{Result, ensure};
use load::Load;
use std::time::Instant;

/// Packets of one measurement.
const PACKETS: u32 = 1_000_000;
/// Flows of eight addresses to one destination.
const GATEWAY_FLOWS: u32 = 8 * 55_000;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    for (flows, name, goal) in [(64_000, "64,000", 10e6), (1_000_000, "1,000,000", 5e6)] {
        let mut opened = Samples::default();
        let mut passed = Samples::default();
        let mut bytes = Samples::default();
        let mut load = Load::new(flows);
        for _ in 0..bench.rounds() {
            load = Load::new(flows);
            let mut syns = load.syns(0, flows);
            opened.push(rate(&mut load, &mut syns)?);
            bytes.push(load.engine.flow_bytes() as f64 / f64::from(flows));
            drop(syns);
            // Pages and caches as a platform has them that runs already.
            let mut first = load.traffic(PACKETS / 2);
            rate(&mut load, &mut first)?;
            let mut traffic = load.traffic(PACKETS);
            let out = rate(&mut load, &mut traffic)?;
            traffic.turn();
            let back = rate(&mut load, &mut traffic)?;
            passed.push(2.0 / (1.0 / out + 1.0 / back));
        }
        let figure = |what: &str, unit, ours, goal| Figure {
            what: format!("packet engine, {name} flows: {what}"),
            unit,
            ours,
            other: None,
            goal,
        };
        board.add(figure("packets", "/s", passed, Goal::AtLeast(goal)));
        board.add(figure("new flows", "/s", opened, Goal::AtLeast(500_000.0)));
        let lookups = lookups(bench, &load);
        board.add(figure("99 of 100 lookups within", "ns", lookups, Goal::AtMost(200.0)));
        board.add(figure("memory of one, index and limits included", "bytes", bytes, Goal::AtMost(128.0)));
    }
    wall(board)
}

/// Flows to one destination through a gateway of eight addresses: to the exact number.
fn wall(board: &mut Board) -> Result<()> {
    const TRIED: u32 = GATEWAY_FLOWS + 1_000;
    let mut load = Load::to(1, TRIED);
    let mut syns = load.syns(0, TRIED);
    let passed = load.send(&mut syns);
    ensure!(passed <= GATEWAY_FLOWS as usize, "{passed} flows passed {GATEWAY_FLOWS} ports");
    board.add(Figure {
        what: format!("packet engine: flows to one destination through 8 addresses, of {TRIED} tried"),
        unit: "flows",
        ours: Samples(vec![passed as f64]),
        other: None,
        goal: Goal::AtLeast(f64::from(GATEWAY_FLOWS)),
    });
    Ok(())
}

/// Packets a second, all of which must pass.
fn rate(load: &mut Load, packets: &mut load::Packets) -> Result<f64> {
    let begun = Instant::now();
    let passed = load.send(packets);
    let took = begun.elapsed();
    ensure!(passed == packets.len(), "{passed} of {} packets passed", packets.len());
    Ok(passed as f64 / took.as_secs_f64())
}

/// The time of one lookup that 99 of 100 stay below, for each round; batches of one clock reading each.
fn lookups(bench: &Bench, load: &Load) -> Samples {
    let packets = load.traffic(PACKETS / 4);
    (0..bench.rounds()).map(|_| load.time_lookups(&packets).quantile(0.99)).collect()
}
