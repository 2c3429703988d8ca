//! The end of `up`: what it is waiting for, and the longest that it may wait for anything.

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the end may take from Ctrl-C on, whatever it waits for: all the bounds of its steps, and as long again for
/// what has none (a file system that hangs, the kernel that takes networks apart).
pub const LONGEST: Duration = Duration::from_secs(30);

/// What asks for the end: Ctrl-C, SIGTERM, and SIGHUP as a terminal closes, unless `nohup` has it ignored.
#[derive(Debug)]
pub struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Asked {
    /// Listens from now on, whichever runtime hears it later: what came before there was one is not lost. Starts no thread.
    ///
    /// # Errors
    /// The system lets no signal be handled.
    pub fn listen() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangs_up = !ignores_hangup(&status);
        // Signals are handled for the whole process; a runtime is only what they are registered in.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _entered = runtime.enter();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: hangs_up.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for one of them; what a process that it ended early ends with.
    pub async fn recv(&mut self) -> ExitCode {
        let Self { interrupt, terminate, hangup } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => ExitCode::from(130),
            _ = terminate.recv() => ExitCode::from(143),
            () = hung_up => ExitCode::from(143),
        }
    }
}

/// Whether the process of a `/proc/PID/status` ignores SIGHUP, the first bit of its mask.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

/// The step that the end is at.
#[derive(Debug)]
pub struct Farewell(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    step: Mutex<&'static str>,
    /// Never rung: the thread that waits at it wakes when the time is over.
    never: Condvar,
}

impl Farewell {
    /// An end whose first step this is.
    pub fn at(step: &'static str) -> Self {
        Self(Arc::new(Shared { step: Mutex::new(step), never: Condvar::new() }))
    }

    /// Unless the process is gone by then, calls `late` after `longest` with the step that the end is at, on a thread of its
    /// own: no runtime of the platform's is in its way.
    pub fn watch(&self, longest: Duration, late: impl FnOnce(&'static str) + Send + 'static) {
        let shared = self.0.clone();
        let watch = move || {
            let step = shared.step.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = shared.never.wait_timeout_while(step, longest, |_| true);
            let step = *waited.unwrap_or_else(PoisonError::into_inner).0;
            late(step);
        };
        // Without a thread the end has no bound but those of its steps.
        if let Err(error) = std::thread::Builder::new().name("farewell".into()).spawn(watch) {
            tracing::debug!(%error, "nobody watches over the end");
        }
    }

    /// What is waited for from now on, for people.
    pub fn waits_for(&self, step: &'static str) {
        *self.0.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn an_end_that_takes_too_long_says_what_it_waits_for() {
        let (said, heard) = channel();
        let farewell = Farewell::at("extensions");
        farewell.waits_for("the network");
        farewell.watch(Duration::ZERO, move |step| {
            let _ = said.send(step);
        });
        assert_eq!(heard.recv(), Ok("the network"));
    }

    #[test]
    fn what_is_asked_before_there_is_a_runtime_is_heard_in_it() {
        let mut asked = Asked::listen().unwrap();
        // Of all tests of this process none else hears it.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let heard = async { tokio::time::timeout(Duration::from_secs(10), asked.recv()).await };
        assert!(runtime.block_on(heard).is_ok());
    }

    #[test]
    fn nohup_is_heeded() {
        assert!(ignores_hangup("Name:\tonrush\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }

    #[test]
    fn an_end_in_time_is_not_disturbed() {
        let (said, heard) = channel();
        let farewell = Farewell::at("extensions");
        farewell.watch(LONGEST, move |step| {
            let _ = said.send(step);
        });
        farewell.waits_for("the logs");
        assert!(heard.try_recv().is_err());
    }
}
