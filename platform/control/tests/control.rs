//! The room's promises: what is acknowledged survives, hostile packages harm nobody, changes are told in order.

#[path = "control/bench.rs"]
mod bench;
#[path = "control/code.rs"]
mod code;
#[path = "control/durability.rs"]
mod durability;
#[path = "control/functions.rs"]
mod functions;
#[path = "control/hostile.rs"]
mod hostile;
#[path = "control/pack.rs"]
mod pack;
