//! INIT of an environment, at once or ahead of its first invocation, and the restoring of one that was initialised ahead.

use super::{Environment, HostError, ON_DEMAND, Prepared, reason_of};
use crate::life::{Gone, Life, gone};
use crate::standstill;
use control::Function;
use runtime_api::Initialisation;
use sandbox::{Sandboxes, StartError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::{Init, PlatformEvent, Status};

/// How long after-restore hooks may take. Source: Developer Guide, "Lambda SnapStart runtime hooks".
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);

/// An environment of a SnapStart version could not be restored: the function's fault, not this host's.
///
/// Source: Lambda API reference, Invoke: SnapStartException (400), SnapStartTimeoutException (408).
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// Its after-restore hooks took too long.
    #[error("the after-restore hooks took longer than {} s", RESTORE_TIMEOUT.as_secs())]
    TimedOut,
    /// One of them failed, or the runtime ended.
    #[error("the after-restore hooks failed: {0}")]
    Failed(String),
}

impl Environment {
    /// INIT of a new environment that nobody waits for; what fails was logged.
    pub(crate) async fn initialise_ahead(
        self: &Arc<Self>,
        sandboxes: &Sandboxes,
        prepared: &Prepared,
        stop: Stop,
    ) -> Result<(), Unready> {
        match self.initialise(sandboxes, prepared, stop).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Failed { status, is_the_hosts })) => {
                self.end_process().await;
                Err(if is_the_hosts { Unready::Host } else { Unready::Function(status) })
            }
            // The package is at fault, not this host.
            Err(HostError::Start(
                error @ (StartError::Program { .. } | StartError::WorkingDirectory { .. }),
            )) => {
                self.version.log.write(&error.to_string());
                let is_program = matches!(error, StartError::Program { .. });
                let kind = if is_program { "Runtime.InvalidEntrypoint" } else { "Runtime.InvalidWorkingDir" };
                Err(Unready::Function(Status::Error(kind.to_owned())))
            }
            Err(_) if sandboxes.is_shut_down() => Err(Unready::Host),
            Err(error) => {
                tracing::error!(limit = "host.sandboxes", function = %self.version.function.name, %error, "this host cannot initialise an environment ahead");
                Err(Unready::Host)
            }
        }
    }

    /// In eras that made network interfaces at cold starts, one is waited for: before INIT, and outside its time limit.
    async fn wait_for_interface(&self) -> Result<(), HostError> {
        let Some(network) = &self.version.network else { return Ok(()) };
        let reserved = network.reserve(&self.version.function).map_err(HostError::NoInterface)?;
        let Some(reserved) = reserved else { return Ok(()) };
        let ready = reserved.ready();
        *self.reservation() = Some(reserved);
        tokio::time::sleep_until(ready.into()).await;
        Ok(())
    }

    /// INIT of a new environment: the inner error says that it failed, and was logged.
    pub(super) async fn initialise(
        self: &Arc<Self>,
        sandboxes: &Sandboxes,
        prepared: &Prepared,
        stop: Stop,
    ) -> Result<Result<(Arc<Life>, Duration), Failed>, HostError> {
        self.wait_for_interface().await?;
        let begun = Instant::now();
        let life = self.begin_life(sandboxes, prepared, "init").await?;
        if stop == Stop::Never {
            life.session.restore();
        }
        let mut exit = life.exit.clone();
        let mut is_the_hosts = false;
        let status = tokio::select! {
            biased;
            end = life.session.initialised() => match end {
                Initialisation::Ready => Status::Success,
                Initialisation::Failed { error_type, .. } => {
                    Status::Error(error_type.unwrap_or_else(|| "Runtime.Unknown".to_owned()))
                }
            },
            gone = gone(&mut exit) => match gone {
                Gone::NoRoom(errno) => return Err(HostError::no_room(errno)),
                gone => {
                    is_the_hosts = gone.is_the_hosts();
                    Status::Error(gone.kind().to_owned())
                }
            },
            () = standstill::until(begun + self.version.init_timeout) => Status::Timeout,
        };
        let duration = begun.elapsed();
        if status == Status::Success {
            self.with_sandbox(|sandbox| sandbox.init_done());
        }
        self.tell_initialised(&life, "init", &status, duration);
        if status == Status::Success {
            return Ok(Ok((life, duration)));
        }
        if life.session.has_extensions() {
            self.say_farewell(&life, reason_of(&status)).await;
        }
        Ok(Err(Failed { status, is_the_hosts }))
    }

    /// Lets the runtime of an environment that was initialised ahead go on, and waits until its after-restore hooks have run.
    pub(super) async fn restore(&self, life: &Life) -> Result<Duration, RestoreFailure> {
        let function = &self.version.function;
        life.output.platform(&[PlatformEvent::RestoreStart {
            runtime_version: restored_runtime(function),
            function_name: &function.name,
            function_version: &function.version,
        }]);
        let begun = Instant::now();
        life.session.restore();
        let mut exit = life.exit.clone();
        let failure = tokio::select! {
            biased;
            restored = life.session.restored() => match restored {
                Ok(()) => None,
                Err(error) => {
                    let kind = error.error_type.unwrap_or_else(|| "Runtime.AfterRestoreError".to_owned());
                    Some((Status::Error(kind.clone()), RestoreFailure::Failed(kind)))
                }
            },
            _ = gone(&mut exit) => {
                let kind = "Runtime.ExitError".to_owned();
                Some((Status::Error(kind.clone()), RestoreFailure::Failed(kind)))
            }
            () = standstill::until(begun + RESTORE_TIMEOUT) => Some((Status::Timeout, RestoreFailure::TimedOut)),
        };
        let duration = begun.elapsed();
        let status = failure.as_ref().map_or(&Status::Success, |(status, _)| status);
        life.drain();
        life.output.platform(&[
            PlatformEvent::RestoreRuntimeDone { status },
            PlatformEvent::RestoreReport { status, duration },
        ]);
        match failure {
            None => Ok(duration),
            Some((_, failure)) => {
                self.end_process().await;
                Err(failure)
            }
        }
    }

    /// INIT has ended: the log tells what became of extensions, and of a failure.
    pub(super) fn tell_initialised(&self, life: &Life, phase: &str, status: &Status, duration: Duration) {
        let extensions = life.session.extension_statuses();
        let is_ahead = self.version.initialization_type != ON_DEMAND;
        if *status == Status::Success && extensions.is_empty() && !is_ahead && !life.output.is_detailed() {
            return;
        }
        life.drain();
        let init = Init { initialization_type: self.version.initialization_type, phase };
        let mut events = vec![PlatformEvent::InitRuntimeDone { init, status }];
        events.extend(extensions.iter().map(|extension| PlatformEvent::Extension {
            name: &extension.name,
            state: extension.state,
            events: &extension.events,
            error_type: extension.error_type.as_deref(),
        }));
        events.push(PlatformEvent::InitReport { init, status, duration });
        life.output.platform(&events);
    }
}

/// How the log calls a restored runtime: no memory was loaded, so it says what was done instead, and whether AWS would
/// have taken the runtime.
fn restored_runtime(function: &Function) -> String {
    let runtime = function.runtime.as_deref().unwrap_or("provided");
    let known = function.runtime.as_deref().is_some_and(control::validate::snap_start::is_restored);
    let mark = if known { "" } else { "; experimental: AWS has no SnapStart for it" };
    format!("{runtime}.onrush (initialised ahead{mark})")
}

/// INIT failed; the log says how.
#[derive(Debug)]
pub(super) struct Failed {
    status: Status,
    is_the_hosts: bool,
}

/// Why an environment could not be initialised ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    /// Its INIT failed, or its program cannot be run.
    Function(Status),
    /// This host failed, or ended it.
    Host,
}

/// Where a SnapStart runtime stops on its way to its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nowhere: an invocation waits for it.
    Never,
    /// After its INIT, until its environment is taken.
    AfterInit,
}
