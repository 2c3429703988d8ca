//! The room's promises: what is acknowledged survives, hostile packages harm nobody, changes are told in order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "control/bench.rs"]
mod bench;
#[path = "control/code.rs"]
mod code;
#[path = "control/deployed.rs"]
mod deployed;
#[path = "control/durability.rs"]
mod durability;
#[path = "control/functions.rs"]
mod functions;
#[path = "control/hostile.rs"]
mod hostile;
#[path = "control/pack.rs"]
mod pack;
#[path = "control/pulls.rs"]
mod pulls;
#[path = "control/restored.rs"]
mod restored;
#[path = "control/versions.rs"]
mod versions;
