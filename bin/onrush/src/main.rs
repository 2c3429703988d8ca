//! `onrush`: wiring and command line. The only place with a real clock and a real seed.

mod arguments;
mod commands;
mod problems;
#[cfg(target_os = "linux")]
mod samconfig;
mod stack;

use arguments::{Arguments, Command};
use std::process::ExitCode;

/// Something failed while it ran, or a promise is broken.
const FAILED: u8 = 1;
/// The command line or an input file is wrong.
const USAGE: u8 = 2;
/// How long the last words wait for whoever reads them.
#[cfg(target_os = "linux")]
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let code = match run(arguments) {
        Ok(code) => code,
        Err(Stop::Usage(message)) => {
            say(&format!("error: {message}"));
            ExitCode::from(USAGE)
        }
        Err(Stop::Problems(lines)) => {
            lines.iter().for_each(|line| say(&format!("error: {line}")));
            ExitCode::from(USAGE)
        }
        Err(Stop::Reported) => ExitCode::from(USAGE),
        Err(Stop::Failed(error)) => {
            say(&format!("error: {}", with_causes(&error)));
            ExitCode::from(FAILED)
        }
    };
    #[cfg(target_os = "linux")]
    telemetry::messages().flush(LAST_WORDS);
    code
}

/// An error and what caused it, each once: some name their cause themselves.
fn with_causes(error: &anyhow::Error) -> String {
    let join = |said: String, cause: String| {
        if said.contains(&cause) { said } else { format!("{said}: {cause}") }
    };
    error.chain().map(ToString::to_string).reduce(join).unwrap_or_default()
}

/// Says a line, or several, on standard error. `up` does not wait for whoever reads it.
fn say(text: &str) {
    #[cfg(target_os = "linux")]
    telemetry::messages().say(format!("{text}\n").as_bytes());
    #[cfg(not(target_os = "linux"))]
    eprintln!("{text}");
}

fn run(arguments: Arguments) -> Result<ExitCode, Stop> {
    match arguments.command {
        Command::Plan(plan) => commands::plan::run(&plan),
        Command::Explain(explain) => commands::explain::run(&explain),
        Command::GenerateEvent(event) => commands::generate_event::run(&event.words),
        #[cfg(target_os = "linux")]
        Command::Up(up) => commands::up::run(up),
        #[cfg(target_os = "linux")]
        Command::StartApi(start) => commands::up::run(start.up()),
        #[cfg(target_os = "linux")]
        Command::StartLambda(start) => commands::up::run(start.up()),
        #[cfg(target_os = "linux")]
        Command::Deploy(deploy) => commands::deploy::run(&deploy),
        #[cfg(target_os = "linux")]
        Command::Invoke(invoke) => commands::invoke::run(&invoke),
        #[cfg(target_os = "linux")]
        Command::Logs(logs) => commands::logs::run(&logs),
        #[cfg(target_os = "linux")]
        Command::Limits(limits) => commands::limits::run(&limits),
        #[cfg(target_os = "linux")]
        Command::Capture(capture) => commands::capture::run(&capture),
        #[cfg(target_os = "linux")]
        Command::Doctor(doctor) => commands::doctor::run(&doctor),
        #[cfg(not(target_os = "linux"))]
        _ => {
            Err(Stop::Usage("live runs need Linux; `onrush plan` and `onrush explain` work here".to_owned()))
        }
    }
}

/// Why a command ends early.
#[derive(Debug)]
enum Stop {
    /// The user asked for something impossible.
    Usage(String),
    /// The template has these problems, a line each, which are not printed yet.
    Problems(Vec<String>),
    /// As [`Stop::Usage`], and the problems are printed already.
    Reported,
    /// It did not work.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
