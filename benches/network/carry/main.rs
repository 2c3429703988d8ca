//! The platform's network without the platform: the template beside this file, environments in named network namespaces,
//! `--world netns:NAME`, and the thread that carries packets between them.
//!
//! Prints `ready`; then each line of its input is a question: `board` is answered with a line `LIMIT USED PEAK REFUSED`
//! for each row, a line `ADDRESS USED PEAK REFUSED` for each destination of the NAT gateway and an empty one, `ready COUNT`
//! and `detach COUNT` with microseconds. It ends with its input.

#[path = "../device.rs"]
mod device;
mod environment;
#[path = "../namespace.rs"]
mod namespace;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use environment::Environment;
use limits::{Network, NetworkSettings};
use model::{Era, Overrides};
use netdev::tun::Life;
use network::fabric::{Blame, Fabric, FlowLogging, Hooks, Joining, Setup};
use network::world::World;
use packets::{PacketEngine, PacketSettings, Place};
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;
use template::Inputs;

const TEMPLATE: &str = include_str!("template.yaml");

/// The platform's network without the platform.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the world is.
    #[arg(long)]
    world: String,
    /// Where an environment is; once for each.
    #[arg(long)]
    inside: Vec<String>,
    /// So many environments more, in namespaces without a name.
    #[arg(long, default_value_t = 0)]
    idle: u32,
    /// Subnets that environments are in, two after two: one or two.
    #[arg(long, default_value_t = 1)]
    subnets: usize,
    /// Elastic IP addresses of the NAT gateway: one or eight.
    #[arg(long, default_value_t = 1)]
    addresses: u8,
    /// As `onrush up` has it.
    #[arg(long)]
    limit: Vec<String>,
    /// An empty folder.
    #[arg(long)]
    state: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let fabric = start(&arguments)?;
    for (index, name) in (0..).zip(&arguments.inside) {
        let device = namespace::within(name, || device::environment(index, Life::Descriptor))?;
        // Pairs, so that those who call one destination or another are in each subnet.
        attach(&fabric, device, index, index as usize / 2 % arguments.subnets);
    }
    let first = arguments.inside.len() as u32;
    let made = (first..first + arguments.idle).map(Environment::new).collect::<Result<Vec<_>>>()?;
    let mut idle: Vec<_> = made
        .into_iter()
        .map(|mut made| made.take().map(|device| attach(&fabric, device, made.index, 0)))
        .collect();
    println!("ready");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut next = first + arguments.idle;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (word, count) = line.split_once(' ').unwrap_or((&line, "0"));
        let count: u32 = count.parse()?;
        match word {
            "board" => {
                let board = runtime.block_on(fabric.board())?;
                for row in board.rows {
                    println!("{} {} {} {}", row.id, row.used, row.peak, row.refused);
                }
                for row in board.gateways.iter().flat_map(|gateway| &gateway.destinations) {
                    println!("{} {} {} {}", row.destination.address, row.used, row.peak, row.refused);
                }
            }
            "ready" => {
                let environments = (next..next + count).map(Environment::new).collect::<Result<Vec<_>>>()?;
                next += count;
                for mut environment in environments {
                    let begun = Instant::now();
                    let device = environment.take().context("it is new")?;
                    let attached = attach(&fabric, device, environment.index, 0);
                    environment.ask()?;
                    println!("{}", begun.elapsed().as_secs_f64() * 1e6);
                    idle.push(Some(attached));
                }
            }
            "detach" => {
                for attached in idle.drain(..).flatten().take(count as usize) {
                    let begun = Instant::now();
                    fabric.detach(attached);
                    println!("{}", begun.elapsed().as_secs_f64() * 1e6);
                }
            }
            _ => return Err(anyhow!("`{line}`?")),
        }
        println!();
    }
    fabric.end();
    Ok(())
}

fn start(arguments: &Arguments) -> Result<Fabric> {
    let inputs = Inputs {
        parameters: [("Addresses".to_owned(), arguments.addresses.to_string())].into(),
        ..Inputs::default()
    };
    let stack = template::read("template.yaml", TEMPLATE, &inputs).stack.context("the template is right")?;
    let network = Network::from_stack(&stack);
    let mut overrides = Overrides::default();
    for text in &arguments.limit {
        overrides.read(text).map_err(|error| anyhow!("--limit {text}: {error}"))?;
    }
    let era = Era::named("today").context("the era is built in")?;
    let settings = NetworkSettings::from_era(&era, "us-east-1", &overrides)?;
    let wired = network.wire(settings);
    let packets = PacketSettings { private_world: true, seed: [0x5eed, 42], ..PacketSettings::default() };
    let hooks = Hooks {
        // Whoever asks hears the question again, marked as an answer.
        resolve: Box::new(|question, reply| {
            let mut message = question.message;
            message[2] |= 0x80;
            reply.send(message);
        }),
        ask: Box::new(|_, reply| reply.refused()),
        notice: Box::new(|_| {}),
    };
    let world = World::Namespace(arguments.world.clone()).open(&arguments.state)?;
    Ok(Fabric::start(Setup {
        engine: PacketEngine::new(network, wired, packets),
        began: Instant::now(),
        flow_logs: FlowLogging::default(),
        world,
        relay: None,
        relayed: Default::default(),
        hooks,
        line: None,
    })?)
}

/// All are environments of the template's one function.
fn attach(fabric: &Fabric, device: OwnedFd, index: u32, choice: usize) -> network::fabric::Attached {
    fabric.attach(Joining {
        device,
        address: device::address(index),
        address6: None,
        place: Some(Place { function: 0, choice }),
        vpc: Some(0),
        resolver: Some(Ipv4Addr::new(10, 20, 0, 2)),
        function: "cart".into(),
        blame: std::sync::Arc::new(Blame::default()),
    })
}
