//! Held connections, to the exact number: what one interface carries, and what a NAT gateway's address carries to one
//! destination.

use super::site::{self, Namespace, Talker};
use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use anyhow::{Context as _, Result, ensure};

/// A process may hold 20,000 descriptors, so connections are spread over several clients and as many servers.
const OF_ONE: usize = 16_500;

/// One wall that is run into.
struct Wall {
    what: &'static str,
    limit: &'static str,
    max: usize,
    /// Connections that are tried on top.
    beyond: usize,
    /// Addresses of the world that are called.
    destinations: &'static str,
}

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    // In a short run the same walls stand nearer.
    let walls = [
        Wall {
            what: "held through one interface",
            limit: "eni.connections",
            max: bench.pick(6_500, 65_000),
            beyond: bench.pick(100, 500),
            destinations: "16",
        },
        Wall {
            what: "held to one destination by one address",
            limit: "nat.ports",
            max: bench.pick(5_500, 55_000),
            beyond: bench.pick(100, 500),
            destinations: "1",
        },
    ];
    for wall in walls {
        let (held, alive) = hold(bench, &wall)?;
        for (when, count) in [("", held), (", answered again in the end", alive)] {
            ensure!(count <= wall.max, "{count} connections passed a limit of {}", wall.max);
            board.add(Figure {
                what: format!("network: {}, of {} sockets{when}", wall.what, wall.max + wall.beyond),
                unit: "connections",
                ours: Samples(vec![count as f64]),
                other: None,
                goal: Goal::AtLeast(wall.max as f64),
            });
        }
    }
    Ok(())
}

/// Connections that were answered while all are held, and again afterwards.
fn hold(bench: &Bench, wall: &Wall) -> Result<(usize, usize)> {
    let wanted = wall.max + wall.beyond;
    let clients = wanted.div_ceil(OF_ONE).max(2);
    let world = site::world("held-world")?;
    let load = bench.program("network-load")?;
    let inside =
        (0..clients).map(|index| Namespace::new(&format!("held{index}"))).collect::<Result<Vec<_>>>()?;
    // How long a client waits for progress before it takes what is left for hanging.
    let patience_ms = bench.pick("1500", "4000");
    let limit = format!("{}={}", wall.limit, wall.max);
    let all: Vec<&Namespace> = inside.iter().collect();
    let mut carrier = site::carry(bench, &world, &all, &["--limit", &limit])?;
    // One server, port and processes of its own for each client: the sink and the spring take two ports more. All of a
    // gateway's connections count for one destination only with one port.
    let is_one = wall.destinations == "1";
    let ports: Vec<String> = (0..clients).map(|index| (7_000 + 10 * index).to_string()).collect();
    let mut servers = Vec::new();
    for port in &ports {
        let more: &[&str] = if is_one { &["--shared"] } else { &[] };
        let port = if is_one { &ports[0] } else { port };
        servers.push(Talker::ready(world.within(&load).args(["serve", port]).args(more))?);
    }
    let mut talkers = Vec::new();
    for (index, namespace) in inside.iter().enumerate() {
        let count = wanted / clients + usize::from(index < wanted % clients);
        let port = if is_one { &ports[0] } else { &ports[index] };
        let arguments = ["hold", site::WORLD, wall.destinations, port, &count.to_string(), patience_ms]
            .map(str::to_owned);
        talkers.push(Talker::start(namespace.within(&load).args(arguments))?);
    }
    let count = |talkers: &mut [Talker]| -> Result<usize> {
        let counts = talkers.iter_mut().map(|talker| {
            let line = talker.line()?;
            line.parse::<usize>().with_context(|| format!("`{line}` is no number"))
        });
        counts.sum()
    };
    let held = count(&mut talkers)?;
    let rows = carrier.ask("board")?;
    let row = rows.iter().find(|row| row.starts_with(&format!("{} ", wall.limit)));
    let row = row.with_context(|| format!("no row of {} in {rows:?}", wall.limit))?;
    let used = row.split(' ').nth(1).and_then(|used| used.parse::<usize>().ok());
    let refused = row.split(' ').nth(3).and_then(|refused| refused.parse::<usize>().ok());
    ensure!(used == Some(held), "{held} are held, the board says `{row}`");
    ensure!(refused.is_some_and(|refused| refused > 0), "nobody was refused: `{row}`");
    talkers.iter_mut().for_each(Talker::close);
    let alive = count(&mut talkers)?;
    Ok((held, alive))
}
