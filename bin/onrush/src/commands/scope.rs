//! An ordinary user's way to control groups: a scope of the user's own service manager, delegated to us.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the scope, so that it is entered once.
const ENTERED: &str = "ONRUSH_SCOPE";
/// Where a user's service manager listens.
const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// How long the service manager may take to answer a trial: seconds on a machine that has just begun, or is busy. Where there
/// is none, it is told at once.
const TRIAL: Duration = Duration::from_secs(10);

/// Starts this program again inside a delegated scope, when it runs as an ordinary user and the user's service manager
/// grants one. Returns when it does not; what then cannot be enforced is said with everything else.
pub fn enter() {
    let root = std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if root || std::env::var_os(ENTERED).is_some() || !granted() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let error = scope().arg(program).args(std::env::args_os().skip(1)).env(ENTERED, "1").exec();
    eprintln!("a delegated scope was granted but not entered: {error}");
}

fn scope() -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]);
    // After `su`, and in jobs, nothing says where the user's service manager listens, though it may run.
    let folder = format!("/run/user/{}", rustix::process::geteuid().as_raw());
    if std::env::var_os(RUNTIME_DIR).is_none() && Path::new(&folder).is_dir() {
        command.env(RUNTIME_DIR, folder);
    }
    command
}

/// Whether a scope can be had: tried with a program that does nothing.
fn granted() -> bool {
    let null = Stdio::null;
    let Ok(mut child) = scope().arg("true").stdin(null()).stdout(null()).stderr(null()).spawn() else {
        return false;
    };
    let begun = Instant::now();
    while begun.elapsed() < TRIAL {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
