//! Load for comparing networks: TCP clients and their server, and the floor, a loop that copies packets between two
//! devices. Each subcommand runs in the network namespace that it was started in and prints one line of figures.

mod connect;
mod copy;
#[path = "../device.rs"]
mod device;
mod dial;
mod hold;
#[path = "../namespace.rs"]
mod namespace;
mod ping;
mod server;
mod stream;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Load for comparing networks.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Echoes on PORT, swallows on PORT + 1, pours on PORT + 2; prints `ready`.
    Serve {
        port: u16,
        /// Only echoes, and shares the port with other servers.
        #[arg(long)]
        shared: bool,
    },
    /// Connects, sends a byte, awaits it, cuts; so many at once. Prints connections a second.
    Connect { first: Ipv4Addr, addresses: u32, port: u16, seconds: f64, at_once: usize },
    /// One byte there and back on one connection. Prints the 50th and 99th percentile in microseconds.
    Ping { address: Ipv4Addr, port: u16, times: usize, pause_us: u64 },
    /// One stream away from here. Prints Gbit/s.
    Up { address: Ipv4Addr, port: u16, seconds: f64 },
    /// One stream to here. Prints Gbit/s.
    Down { address: Ipv4Addr, port: u16, seconds: f64 },
    /// Opens connections and holds them until its input ends; prints how many were answered, and at the end how many
    /// still are.
    Hold { first: Ipv4Addr, addresses: u32, port: u16, connections: usize, patience_ms: u64 },
    /// Copies packets between `eth0` of one named namespace and `onrush0` of another, and looks at none of them; prints `ready`.
    Copy { inside: String, outside: String },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Serve { port, shared } => server::run(port, shared),
        Task::Connect { first, addresses, port, seconds, at_once } => {
            connect::run(&dial::Targets { first, addresses, port }, Duration::from_secs_f64(seconds), at_once)
        }
        Task::Ping { address, port, times, pause_us } => {
            ping::run(address, port, times, Duration::from_micros(pause_us))
        }
        Task::Up { address, port, seconds } => stream::up(address, port, Duration::from_secs_f64(seconds)),
        Task::Down { address, port, seconds } => {
            stream::down(address, port, Duration::from_secs_f64(seconds))
        }
        Task::Hold { first, addresses, port, connections, patience_ms } => hold::run(
            &dial::Targets { first, addresses, port },
            connections,
            Duration::from_millis(patience_ms),
        ),
        Task::Copy { inside, outside } => copy::run(&inside, &outside),
    }
}
