//! The engines on a virtual clock: workloads, event heap, report.
//!
//! [`run`] takes a stack ([`PlanInput`]), a [`Load`] and [`Options`] and answers with a [`Report`]: which limit breaks
//! first, when and whom, by the very dispatcher that the live platform asks. No clock is read, no file opened; the
//! same arguments give the same report on every machine.

pub mod arrivals;
pub mod case;
pub mod cost;
pub mod distribution;
pub mod fix;
pub mod heap;
pub mod input;
pub mod load;
pub mod options;
pub mod promise;
pub mod quantity;
pub mod random;
pub mod recording;
pub mod refusals;
pub mod report;
pub mod retry;
pub mod samples;
pub mod scenario;
pub mod simulation;
pub mod sweep;
pub mod timeline;
pub mod watch;
pub mod zipf;

pub use input::PlanInput;
pub use load::Load;
pub use options::{Options, PlanError};
pub use report::{Report, render, render_html};
pub use scenario::Scenario;
pub use simulation::{run, run_watched};
pub use watch::Progress;
