//! Logs and counters: what happened, in AWS's words.
//!
//! A function's log is kept in memory for readers that follow it and written behind to one file per
//! function, so that an invocation never waits for a disk. Whatever outruns the writer is dropped and
//! counted; so is what the platform says on standard error.

mod counters;
mod logs;
mod messages;
mod platform_event;
mod report;
mod time;

pub use counters::{Counters, FunctionCounters};
pub use logs::{FunctionLog, Line, Logs};
pub use messages::{Messages, messages};
pub use platform_event::{Init, Level, PlatformEvent, SubscriptionKind};
pub use report::{Report, Status, init_report, restore_report};
pub use time::{apache_time, iso_time, set_wall_clock_ahead, unix_millis};
