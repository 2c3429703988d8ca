//! Whether the planner tells the truth: against a slow reference that shares no code with the engines, against formulas
//! of queueing theory, and against itself where a change must make no difference.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "truth/case.rs"]
mod case;
#[path = "truth/invariance.rs"]
mod invariance;
#[path = "truth/queueing.rs"]
mod queueing;
#[path = "truth/reference.rs"]
mod reference;
