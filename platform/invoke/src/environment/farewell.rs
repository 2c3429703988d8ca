//! The end of an environment: at once where nobody asked to be told, else with the time that Lambda gives.
//!
//! Source: Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle", Shutdown phase (no extension: no
//! time; an internal one: 500 ms; external ones: 2,000 ms), published. How much of it the runtime has: the public sample
//! graceful-shutdown-with-aws-lambda.

use super::Environment;
use crate::life::{Life, gone};
use runtime_api::ShutdownReason;
use sandbox::Programs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::unix_millis;

/// All that may be spent where there are external extensions, and where there are only internal ones.
const EXTERNAL: Duration = Duration::from_millis(2_000);
const INTERNAL: Duration = Duration::from_millis(500);
/// How much of it the runtime has after its SIGTERM, beside external extensions.
const RUNTIME_SHARE: Duration = Duration::from_millis(300);

impl Environment {
    /// Ends the environment for good. Extensions are told, in a task of its own.
    pub(crate) fn end(self: &Arc<Self>) {
        let mut idle = self.lock();
        idle.ended = true;
        let life = idle.life.take();
        drop(idle);
        let extended = life.filter(|life| life.session.has_extensions() && life.exit.borrow().is_none());
        match (extended, tokio::runtime::Handle::try_current()) {
            (Some(life), Ok(runtime)) => {
                // Whoever stops the platform waits for these.
                let under_way = self.version.farewells.clone().try_read_owned();
                let environment = self.clone();
                runtime.spawn(async move {
                    environment.say_farewell(&life, ShutdownReason::Spindown).await;
                    environment.leave();
                    drop(under_way);
                });
            }
            _ => self.leave(),
        }
    }

    /// Whether somebody has to be told of the end.
    pub(crate) fn is_extended(&self) -> bool {
        self.lock().life.as_ref().is_some_and(|life| life.session.has_extensions())
    }

    /// Ends all processes in Lambda's order: the runtime gets SIGTERM, then extensions their SHUTDOWN event, and what is
    /// left after its time is killed.
    pub(super) async fn say_farewell(&self, life: &Life, reason: ShutdownReason) {
        self.wake();
        let begun = Instant::now();
        let external = life.programs.clone();
        let (time, share) = if external.is_some() { (EXTERNAL, RUNTIME_SHARE) } else { (INTERNAL, INTERNAL) };
        self.with_sandbox(sandbox::Sandbox::terminate_program);
        match external {
            None => {
                let mut exit = life.exit.clone();
                let _ = tokio::time::timeout(share, gone(&mut exit)).await;
            }
            Some(mut programs) => {
                // One that has not been started yet has nothing to end.
                let has_ended = |programs: &Programs| programs.program.is_some();
                let was_started =
                    life.session.extension_statuses().iter().all(|status| status.state != "Started");
                let in_time =
                    !was_started || tokio::time::timeout(share, programs.wait_for(has_ended)).await.is_ok();
                if !in_time {
                    self.with_sandbox(sandbox::Sandbox::kill_program);
                }
                let left = time.saturating_sub(begun.elapsed());
                let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                let told = life.session.shut_down(reason, unix_millis().saturating_add(left_ms));
                life.drain();
                life.session.telemetry().hurry();
                let all_ended = |programs: &Programs| {
                    let ended = |name: &Arc<str>| {
                        let place = life.names.iter().position(|other| other == name);
                        place.is_none_or(|place| programs.companions.get(place).is_none_or(Option::is_some))
                    };
                    told.iter().all(ended)
                };
                let _ = tokio::time::timeout(left, programs.wait_for(all_ended)).await;
            }
        }
        self.kill();
        life.end_lines();
    }

    /// Lets a frozen environment go on.
    fn wake(&self) {
        let mut idle = self.lock();
        if std::mem::take(&mut idle.frozen) {
            self.with_sandbox(|sandbox| {
                if let Err(error) = sandbox.thaw() {
                    tracing::debug!(%error, "cannot thaw an environment that ends");
                }
            });
        }
    }
}
