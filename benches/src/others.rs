//! The others: the floor and the peers, each a server on loopback.

use crate::bench::Bench;
use crate::http::{self, Request};
use crate::process::{Running, bound};
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest start of a peer until its first good answer; cargo-lambda builds the function first.
const START_MAX: Duration = Duration::from_secs(240);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);

/// A server that is compared with ours; stops when dropped.
#[derive(Debug)]
pub struct Other {
    _running: Running,
    /// Where its loads go.
    pub url: String,
}

/// The floor: hyper that answers `hello`.
pub fn bare_hyper(bench: &Bench) -> Result<Other> {
    let mut command = bound(bench.program("bare-hyper")?);
    let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = running.child().stdout.take().context("its output is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("bare-hyper prints its port")?;
    Ok(Other { _running: running, url: format!("http://127.0.0.1:{port}/") })
}

/// The floor of streaming: a hyper server that streams, and the same behind a program that copies.
pub fn stream_floor(bench: &Bench) -> Result<(Other, Other)> {
    let start = |target: Option<u16>| -> Result<(Other, u16)> {
        let mut command = bound(bench.program("stream-floor")?);
        command.args(target.map(|port| port.to_string()));
        let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let output = running.child().stdout.take().context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port: u16 = line.trim().parse().context("stream-floor prints its port")?;
        Ok((Other { _running: running, url: format!("127.0.0.1:{port}") }, port))
    };
    let (server, port) = start(None)?;
    let (copied, _) = start(Some(port))?;
    Ok((server, copied))
}

/// `cargo lambda watch` with the echo function; `None` if it is not installed.
pub fn cargo_lambda(bench: &Bench) -> Result<Option<Other>> {
    let Some(program) = bench.peer("cargo-lambda/bin/cargo-lambda") else { return Ok(None) };
    let port = free_port()?.to_string();
    let mut command = bound(program);
    command
        .args(["lambda", "watch", "--ignore-changes", "--release", "--invoke-port", &port])
        .current_dir(bench.root.join("tests/functions/echo"))
        .env("CARGO_TARGET_DIR", bench.root.join("target/test-functions/build"));
    start(bench, &mut command, &port, "/2015-03-31/functions/echo/invocations").map(Some)
}

/// serverless-offline with the Node handler; `None` if it is not installed.
pub fn serverless_offline(bench: &Bench) -> Result<Option<Other>> {
    let Some(modules) = bench.peer("serverless/node_modules") else { return Ok(None) };
    let folder = bench.handler("node")?;
    fs::copy(bench.root.join("benches/peers/serverless/serverless.yml"), folder.join("serverless.yml"))?;
    std::os::unix::fs::symlink(&modules, folder.join("node_modules"))?;
    let (http_port, port) = (free_port()?.to_string(), free_port()?.to_string());
    let mut command = bound("node");
    command
        .arg(modules.join("serverless/bin/serverless.js"))
        .args(["offline", "--noPrependStageInUrl", "--httpPort", &http_port, "--lambdaPort", &port])
        .current_dir(&folder)
        .env("SLS_TELEMETRY_DISABLED", "1")
        .env("SLS_NOTIFICATIONS_MODE", "off")
        .env("SLS_INTERACTIVE_SETUP_ENABLE", "0");
    start(bench, &mut command, &port, "/2015-03-31/functions/peer-dev-hello/invocations").map(Some)
}

/// Starts a peer and invokes its function until that succeeds.
fn start(bench: &Bench, command: &mut Command, port: &str, path: &str) -> Result<Other> {
    let log = bench.folder("peer")?.join("log");
    command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
    let mut running = Running::start(command)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    let request = Request::new("POST", path, "{}");
    let begun = Instant::now();
    while !http::fetch(address, &request).is_ok_and(|answer| answer.status == 200) {
        if let Some(status) = running.ended() {
            bail!("{command:?} ended with {status}: {}", last_lines(&log));
        }
        if begun.elapsed() > START_MAX {
            bail!("{command:?} does not answer: {}", last_lines(&log));
        }
        thread::sleep(POLL);
    }
    Ok(Other { _running: running, url: format!("http://{address}{path}") })
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<_> = text.lines().rev().take(5).collect();
    last.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// A port that was free a moment ago; for peers that cannot take one themselves.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
