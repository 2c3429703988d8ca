//! Held connections, to the exact number: what one interface carries, and what a NAT gateway's address carries to each
//! of its destinations.

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
    called: Called,
}

/// Whom the clients call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    /// All of the world's addresses, each client on a port of its own: no destination is a wall.
    Everybody,
    /// So many destinations, one port each: client after client takes the next. Several need a second interface.
    Destinations(u8),
}

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    // In a short run the same walls stand nearer.
    let walls = [
        Wall {
            what: "held through one interface",
            limit: "eni.connections",
            max: bench.pick(6_500, 65_000),
            beyond: bench.pick(100, 500),
            called: Called::Everybody,
        },
        Wall {
            what: "held to one destination by one address",
            limit: "nat.ports",
            max: bench.pick(5_500, 55_000),
            beyond: bench.pick(100, 500),
            called: Called::Destinations(1),
        },
        Wall {
            what: "held to two destinations by one address, through two interfaces",
            limit: "nat.ports",
            max: bench.pick(5_500, 55_000),
            beyond: bench.pick(100, 500),
            called: Called::Destinations(2),
        },
    ];
    for wall in walls {
        let (held, alive) = hold(bench, &wall)?;
        let max = wall.max * wall.walls();
        for (when, count) in [("", held), (", answered again in the end", alive)] {
            ensure!(count <= max, "{count} connections passed a limit of {max}");
            board.add(Figure {
                what: format!("network: {}, of {} sockets{when}", wall.what, wall.wanted()),
                unit: "connections",
                ours: Samples(vec![count as f64]),
                other: None,
                goal: Goal::AtLeast(max as f64),
            });
        }
    }
    Ok(())
}

impl Wall {
    /// How often the same limit stands there.
    fn walls(&self) -> usize {
        match self.called {
            Called::Everybody => 1,
            Called::Destinations(count) => count.into(),
        }
    }

    /// Connections that are tried.
    fn wanted(&self) -> usize {
        (self.max + self.beyond) * self.walls()
    }
}

/// Connections that were answered while all are held, and again afterwards.
fn hold(bench: &Bench, wall: &Wall) -> Result<(usize, usize)> {
    let (wanted, walls) = (wall.wanted(), wall.walls());
    // As many for each destination, and of each destination as many behind each interface.
    let clients = wanted.div_ceil(OF_ONE).max(2).next_multiple_of(walls * walls);
    let world = site::world("held-world")?;
    let load = bench.program("network-load")?;
    let inside =
        (0..clients).map(|index| Namespace::new(&format!("held{index}"))).collect::<Result<Vec<_>>>()?;
    // How long a client waits for progress before it takes what is left for hanging.
    let patience_ms = bench.pick("1500", "4000");
    let limit = format!("{}={}", wall.limit, wall.max);
    let all: Vec<&Namespace> = inside.iter().collect();
    let subnets = walls.to_string();
    let mut carrier = site::carry(bench, &world, &all, &["--limit", &limit, "--subnets", &subnets])?;
    // One server, port and processes of its own for each client: the sink and the spring take two ports more. All of a
    // gateway's connections count for one destination only with one port.
    let is_one = wall.called != Called::Everybody;
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
        let (first, addresses) = match wall.called {
            Called::Everybody => (site::address(0), site::ADDRESSES.to_string()),
            Called::Destinations(_) => (site::address(index % walls), "1".to_owned()),
        };
        let arguments =
            ["hold", &first, &addresses, port, &count.to_string(), patience_ms].map(str::to_owned);
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
    // The gateway's row is that of its busiest destination, so several are looked at one by one.
    let names: Vec<String> = match wall.called {
        Called::Destinations(_) => (0..walls).map(site::address).collect(),
        Called::Everybody => vec![wall.limit.to_owned()],
    };
    let mut used = 0;
    for name in names {
        let row = rows.iter().find(|row| row.starts_with(&format!("{name} ")));
        let row = row.with_context(|| format!("no row of {name} in {rows:?}"))?;
        let number = |column| row.split(' ').nth(column).and_then(|number| number.parse::<usize>().ok());
        let now = number(1).with_context(|| format!("no number in `{row}`"))?;
        ensure!(now <= wall.max, "more than {}: `{row}`", wall.max);
        ensure!(number(3).is_some_and(|refused| refused > 0), "nobody was refused: `{row}`");
        used += now;
    }
    ensure!(used == held, "{held} are held, the board says {used}: {rows:?}");
    talkers.iter_mut().for_each(Talker::close);
    let alive = count(&mut talkers)?;
    Ok((held, alive))
}
