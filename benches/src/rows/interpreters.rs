//! Cold start of Python and Node, beside the interpreter's own bare start.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::platform::{Function, Platform, Site};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two first invocations.
const GAP: Duration = Duration::from_millis(50);
const GOAL: Goal = Goal::AtMostTimesPlus { times: 1.25, plus: 10.0 };
/// Where sandboxes see an interpreter that the host has elsewhere.
const LANGUAGE_ROOT: &str = "/var/lang/";

struct Language {
    name: &'static str,
    folder: &'static str,
    runtime: &'static str,
    handler: &'static str,
    program: &'static str,
    /// Bare start: an option and a program that does nothing.
    nothing: [&'static str; 2],
    /// Prints the installation's folder.
    prefix: [&'static str; 2],
}

const PYTHON: Language = Language {
    name: "Python",
    folder: "python",
    runtime: "python3.11",
    handler: "app.handler",
    program: "python3",
    nothing: ["-c", "0"],
    prefix: ["-c", "import sys; print(sys.base_prefix)"],
};

const NODE: Language = Language {
    name: "Node",
    folder: "node",
    runtime: "nodejs20.x",
    handler: "index.handler",
    program: "node",
    nothing: ["-e", "0"],
    prefix: ["-p", "require('path').resolve(process.execPath, '../..')"],
};

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    for language in [&PYTHON, &NODE] {
        if Command::new(language.program).arg("--version").stdout(Stdio::null()).status().is_err() {
            board.skip(language.name, "no interpreter on this machine");
            continue;
        }
        measure(bench, board, language).with_context(|| language.name)?;
    }
    Ok(())
}

fn measure(bench: &Bench, board: &mut Board, language: &Language) -> Result<()> {
    let code = bench.handler(language.folder)?;
    let make = |name: String| Function {
        runtime: language.runtime,
        handler: language.handler,
        ..Function::rust(name, &code)
    };
    let functions: Vec<_> = (0..bench.pick(8, 20)).map(|number| make(format!("cold{number}"))).collect();
    let mut all = functions.clone();
    all.push(make("where".to_owned()));
    let site = Site::new(bench, &all)?;
    let [mut ours, mut bare] = [const { Samples(Vec::new()) }; 2];
    for _ in 0..bench.pick(2, 5) {
        let platform = site.start()?;
        let program = interpreter(&platform, language)?;
        let [mut cold, mut alone] = [const { Samples(Vec::new()) }; 2];
        for function in &functions {
            alone.push(bare_start(&program, language)?.as_secs_f64() * 1e3);
            thread::sleep(GAP);
            cold.push(platform.invoke(&function.name, "{}")?.first_byte.as_secs_f64() * 1e3);
            thread::sleep(GAP);
        }
        ours.push(cold.median());
        bare.push(alone.median());
    }
    board.add(Figure {
        what: format!("cold start, {}, request to first byte, p50", language.name),
        unit: "ms",
        ours,
        other: Some(("bare start", bare)),
        goal: GOAL,
    });
    Ok(())
}

/// The very program on the host that the platform chose.
fn interpreter(platform: &Platform, language: &Language) -> Result<PathBuf> {
    let answer = platform.invoke("where", r#"{"where":true}"#)?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    let place = match &answer["body"] {
        Value::String(body) => serde_json::from_str(body)?,
        _ => answer["where"].clone(),
    };
    let inside = place[0].as_str().with_context(|| format!("no interpreter in {answer}"))?;
    let Some(below) = inside.strip_prefix(LANGUAGE_ROOT) else { return Ok(inside.into()) };
    let output = Command::new(language.program).args(language.prefix).output()?;
    let prefix = String::from_utf8(output.stdout)?;
    let program = Path::new(prefix.trim()).join(below);
    if !program.is_file() {
        bail!("{inside} is not {} on the host", program.display());
    }
    Ok(program)
}

/// From the start of the interpreter to its end, with nothing in its environment.
fn bare_start(program: &Path, language: &Language) -> Result<Duration> {
    let begun = Instant::now();
    let status = Command::new(program)
        .args(language.nothing)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| program.display().to_string())?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    Ok(begun.elapsed())
}
