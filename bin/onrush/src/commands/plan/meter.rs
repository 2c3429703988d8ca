//! How far a plan is, on one line of a terminal, and Ctrl-C, which ends it so that it says what is known.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Ctrl-C was pressed.
static STOPPED: AtomicBool = AtomicBool::new(false);
/// Plans that are quicker than this show no line.
const PATIENCE: Duration = Duration::from_millis(400);
const EVERY: Duration = Duration::from_millis(100);
const BAR: u32 = 30;

/// The line.
pub struct Meter {
    began: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Meter {
    /// From now on Ctrl-C ends the plan; a second one ends the program.
    pub fn new() -> Self {
        listen();
        Self { began: Instant::now(), shown: None, terminal: std::io::stderr().is_terminal() }
    }

    /// Shows a line now and then: a bar where it is known how much of the work is done.
    pub fn tell(&mut self, permille: Option<u32>, words: impl FnOnce() -> String) -> ControlFlow<()> {
        if STOPPED.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        let now = Instant::now();
        let due = match self.shown {
            None => now.duration_since(self.began) >= PATIENCE,
            Some(shown) => now.duration_since(shown) >= EVERY,
        };
        if self.terminal && due {
            self.shown = Some(now);
            let mut line = String::from("\r\x1b[K");
            if let Some(permille) = permille {
                let full = (permille * BAR / 1000).min(BAR);
                let bar = |part: &str, times: u32| part.repeat(times as usize);
                let _ = write!(line, "[{}{}] {:>3} %  ", bar("■", full), bar("·", BAR - full), permille / 10);
            }
            line += &words();
            let mut error = std::io::stderr().lock();
            let _ = error.write_all(line.as_bytes()).and_then(|()| error.flush());
        }
        ControlFlow::Continue(())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(target_os = "linux")]
fn listen() {
    let wait = || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if STOPPED.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    };
    let _ = std::thread::Builder::new().name("ctrl-c".to_owned()).spawn(wait);
}

/// Elsewhere Ctrl-C ends the program as it always does.
#[cfg(not(target_os = "linux"))]
fn listen() {}
