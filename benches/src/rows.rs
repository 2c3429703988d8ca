//! The rows of the table, one file a group.

mod burst;
mod cold;
mod control;
mod density;
mod events;
mod images;
mod interpreters;
mod neighbours;
mod network;
mod node;
mod packets;
mod plan;
mod queue;
mod refusal;
mod rest;
mod restored;
mod sandboxes;
mod simulator;
mod streaming;
mod template;
mod warm;

use crate::bench::{Bench, Board};
use anyhow::Result;

/// A group of rows that share their set-up.
#[derive(Debug)]
pub struct Group {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Bench, &mut Board) -> Result<()>,
}

/// All of them, in the order of the table.
pub const ALL: &[Group] = &[
    Group { name: "warm", about: "warm invocations of the Rust function", run: warm::run },
    Group { name: "node", about: "the same Node handler on both", run: node::run },
    Group { name: "refusal", about: "refusals (429)", run: refusal::run },
    Group { name: "queue-durable", about: "asynchronous events made durable", run: events::run },
    Group { name: "streaming", about: "streamed responses", run: streaming::run },
    Group { name: "cold", about: "cold start of the Rust function", run: cold::run },
    Group { name: "images", about: "cold start of the same function in an image", run: images::run },
    Group { name: "interpreters", about: "cold start of Python and Node", run: interpreters::run },
    Group { name: "restored", about: "versions with SnapStart", run: restored::run },
    Group { name: "sandboxes", about: "sandboxes made and reaped", run: sandboxes::run },
    Group { name: "burst", about: "a burst of first invocations", run: burst::run },
    Group { name: "density", about: "many environments at once", run: density::run },
    Group { name: "neighbours", about: "warm invocations beside a bad neighbour", run: neighbours::run },
    Group { name: "rest", about: "the platform at rest", run: rest::run },
    Group { name: "control", about: "operations with many functions deployed", run: control::run },
    Group { name: "plan", about: "plans on the virtual clock", run: plan::run },
    Group { name: "queue", about: "the planner's event queue", run: queue::run },
    Group { name: "simulator", about: "the planner under load", run: simulator::run },
    Group { name: "packets", about: "the packet engine alone", run: packets::run },
    Group { name: "network", about: "real packets through the network", run: network::run },
    Group { name: "template", about: "a large template", run: template::run },
];
