//! Real packets through the shared interface and the NAT gateway, in namespaces that are made here and removed, beside the
//! floor (a loop that copies packets between two devices) and the peers (the kernel's masquerade, slirp4netns); and once more
//! without TUN devices, as in containers that have none.

mod held;
mod iperf;
mod rest;
mod site;

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use anyhow::Result;
use site::{Kind, Site};

/// Connections that are opened at once.
const AT_ONCE: &str = "64";

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    if let Err(reason) = site::possible() {
        board.skip("network", &reason);
        return Ok(());
    }
    site::sweep();
    peers(bench, board)?;
    held::run(bench, board)?;
    rest::run(bench, board)
}

/// What one way of carrying packets did, a sample each round.
#[derive(Default)]
struct Ways {
    connects: Samples,
    up: Samples,
    down: Samples,
    asleep: Samples,
    busy: Samples,
}

fn peers(bench: &Bench, board: &mut Board) -> Result<()> {
    let mut sites = Vec::new();
    for kind in Kind::ALL {
        match Site::new(bench, kind)? {
            Some(site) => sites.push((kind, site, Ways::default())),
            None => board.skip(kind.name(), "it is not installed"),
        }
    }
    let seconds = bench.pick("0.3", "2");
    for _ in 0..bench.rounds() {
        for (_, site, ways) in &mut sites {
            ways.connects.push(site.load(&["connect", site::WORLD, "16", "7000", seconds, AT_ONCE])?[0]);
        }
        for (_, site, ways) in &mut sites {
            let times = bench.pick("1000", "10000");
            ways.busy.push(site.load(&["ping", site::WORLD, "7000", times, "0"])?[0]);
        }
        for (kind, site, ways) in &mut sites {
            // Slow enough that everybody sleeps in between.
            if matches!(kind, Kind::Ours | Kind::Copy) {
                let times = bench.pick("50", "300");
                ways.asleep.push(site.load_on_one_core(&["ping", site::WORLD, "7000", times, "3000"])?[0]);
            }
        }
        for (_, site, ways) in &mut sites {
            ways.up.push(site.load(&["up", site::WORLD, "7000", seconds])?[0]);
        }
        for (_, site, ways) in &mut sites {
            ways.down.push(site.load(&["down", site::WORLD, "7000", seconds])?[0]);
        }
    }
    let carried: Vec<(Kind, &Site)> = sites
        .iter()
        .filter(|(kind, ..)| !matches!(kind, Kind::Slirp | Kind::Pairs))
        .map(|(kind, site, _)| (*kind, site))
        .collect();
    iperf::run(bench, board, &carried)?;
    let find = |wanted: Kind| sites.iter().find(|(kind, ..)| *kind == wanted).map(|(_, _, ways)| ways);
    let Some(ours) = find(Kind::Ours) else { return Ok(()) };
    let mut row = |what: &str, unit, of: fn(&Ways) -> &Samples, goals: &[(Kind, Goal)]| {
        for (kind, goal) in goals {
            if let Some(other) = find(*kind) {
                let other = Some((kind.name(), of(other).clone()));
                let ours = of(ours).clone();
                board.add(Figure { what: format!("network: {what}"), unit, ours, other, goal: *goal });
            }
        }
    };
    use Goal::{TimesAtLeast, TimesAtMost};
    row(
        "connections through interface and NAT gateway",
        "/s",
        |ways| &ways.connects,
        &[
            (Kind::Copy, TimesAtLeast(0.85)),
            (Kind::Kernel, TimesAtLeast(1.5)),
            (Kind::Slirp, TimesAtLeast(4.0)),
        ],
    );
    row(
        "one TCP stream to the world",
        "Gbit/s",
        |ways| &ways.up,
        &[
            (Kind::Copy, TimesAtLeast(0.8)),
            (Kind::Kernel, TimesAtLeast(0.7)),
            (Kind::Slirp, TimesAtLeast(15.0)),
        ],
    );
    row(
        "one TCP stream from the world",
        "Gbit/s",
        |ways| &ways.down,
        &[
            (Kind::Copy, TimesAtLeast(0.8)),
            (Kind::Kernel, TimesAtLeast(0.7)),
            (Kind::Slirp, TimesAtLeast(2.2)),
        ],
    );
    row(
        "a byte there and back, all asleep before, on one core",
        "us",
        |ways| &ways.asleep,
        &[(Kind::Copy, TimesAtMost(1.1))],
    );
    row(
        "a byte there and back, one after the other",
        "us",
        |ways| &ways.busy,
        &[(Kind::Copy, TimesAtMost(1.1)), (Kind::Kernel, TimesAtMost(2.0)), (Kind::Slirp, TimesAtMost(1.0))],
    );
    if let (Some(pairs), Some(copy)) = (find(Kind::Pairs), find(Kind::Copy)) {
        let mut row = |what: &str, unit, of: fn(&Ways) -> &Samples, goal| {
            let other = Some((Kind::Copy.name(), of(copy).clone()));
            let what = format!("network without TUN devices: {what}");
            board.add(Figure { what, unit, ours: of(pairs).clone(), other, goal });
        };
        row("connections", "/s", |ways| &ways.connects, TimesAtLeast(0.85));
        row("one TCP stream to the world", "Gbit/s", |ways| &ways.up, TimesAtLeast(0.8));
        row("one TCP stream from the world", "Gbit/s", |ways| &ways.down, TimesAtLeast(0.8));
        row("a byte there and back, one after the other", "us", |ways| &ways.busy, TimesAtMost(1.1));
    }
    board.add(Figure {
        what: "network: a byte there and back, one after the other, median".to_owned(),
        unit: "us",
        ours: ours.busy.clone(),
        other: None,
        goal: Goal::AtMost(15.0),
    });
    Ok(())
}
