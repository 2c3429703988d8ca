//! Environments on this very host: walls, limits, freezing, restarts, and that nothing is left behind.
//!
//! Has a `main` of its own, because the jailer must be forked while the process has one thread. The suite
//! runs three times, each in a process of its own: as root, as an ordinary user, and without namespaces; then
//! `shortages` lowers the host's limits, and `workshop` gives orders. What a host cannot do is said: `skipped: reason`. Words on the command line choose tests by name. On a host that is
//! ten times slower, as an emulated one, SANDBOX_TEST_SLOWNESS=10 stretches every bound on time.

mod shortages;
mod suite;
mod workshop;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sandbox::{Isolation, Options, PoolSizes, fork_jailer};
use suite::{Bench, Outcome, TESTS};

const ROLE: &str = "SANDBOX_TEST_ROLE";
const FOLDER: &str = "SANDBOX_TEST_FOLDER";
/// The overflow user: nobody, everywhere.
const ORDINARY_USER: u32 = 65_534;

fn main() -> ExitCode {
    let role = std::env::var(ROLE).unwrap_or_default();
    match role.as_str() {
        "" => conduct(),
        "victim" => suite::victim(&folder()),
        "workshop" => workshop::run(&folder()),
        role => match role.strip_prefix("shortage:") {
            // The conductor's folder, the role's, the case's.
            Some(case) => shortages::run(case, &folder(), &folder().join("../../task")),
            None => run(role),
        },
    }
}

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).map(PathBuf::from).expect("the conductor sets the folder")
}

/// Runs the suite in each role.
fn conduct() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let top = std::env::temp_dir().join(format!("sandbox-test-{}", std::process::id()));
    fs::create_dir_all(&top).expect("a temporary folder");
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).expect("a folder for all");
    let task = top.join("task");
    if let Err(reason) = build_programs(&task) {
        println!("skipped: {reason}");
        drop(fs::remove_dir_all(top));
        return ExitCode::SUCCESS;
    }
    // A copy that an ordinary user may execute, wherever the build's folder is.
    let program = top.join("suite");
    fs::copy("/proc/self/exe", &program).expect("copy the suite");
    let root = rustix::process::geteuid().is_root();
    let mut failed = false;
    for role in ["root", "ordinary", "process"] {
        if role == "root" && !root {
            println!("{role}: skipped: not root");
            continue;
        }
        let folder = top.join(role);
        fs::create_dir_all(&folder).expect("a folder per role");
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).env(ROLE, role).env(FOLDER, &folder);
        if role == "ordinary" && root {
            std::os::unix::fs::chown(&folder, Some(ORDINARY_USER), Some(ORDINARY_USER)).expect("chown");
            command.uid(ORDINARY_USER).gid(ORDINARY_USER);
        }
        failed |= !command.status().expect("run the suite").success();
    }
    if std::env::args().skip(1).all(|word| word.starts_with('-') || "shortages".contains(word.as_str())) {
        let folder = top.join("shortages");
        fs::create_dir_all(&folder).expect("a folder for the shortages");
        failed |= shortages::conduct(&program, &folder, ROLE, FOLDER, root.then_some(ORDINARY_USER));
    }
    if std::env::args().skip(1).all(|word| word.starts_with('-') || "workshop".contains(word.as_str())) {
        for user in [None, Some(ORDINARY_USER)].into_iter().filter(|user| user.is_none() || root) {
            let folder = top.join(format!("workshop-{}", user.unwrap_or_default()));
            fs::create_dir_all(&folder).expect("a folder for the workshop");
            let mut command = Command::new(&program);
            command.env(ROLE, "workshop").env(FOLDER, &folder);
            if let Some(user) = user {
                std::os::unix::fs::chown(&folder, Some(user), Some(user)).expect("chown");
                command.uid(user).gid(user);
            }
            failed |= !command.status().expect("run the workshop").success();
        }
    }
    drop(fs::remove_dir_all(top));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn build_programs(task: &Path) -> Result<(), String> {
    fs::create_dir_all(task).map_err(|error| error.to_string())?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox/probe.c");
    let built = Command::new("cc")
        .args(["-O1", "-static", "-w", "-o"])
        .arg(task.join("probe"))
        .arg(source)
        .output()
        .map_err(|error| format!("no C compiler: {error}"))?;
    if !built.status.success() {
        return Err(format!("cc: {}", String::from_utf8_lossy(&built.stderr)));
    }
    fs::write(task.join("text"), "not a program").map_err(|error| error.to_string())?;
    let scripts = [
        ("watcher", "#!/bin/sh\necho watching $NAME\ntrap 'exit 9' TERM\nwhile true; do sleep 1; done\n"),
        ("quitter", "#!/bin/sh\necho leaving $NAME\nexit 3\n"),
        ("polite", "#!/bin/sh\ntrap 'echo bye; exit 4' TERM\necho ready\nwhile true; do sleep 0.01; done\n"),
    ];
    for (name, text) in scripts {
        fs::write(task.join(name), text).map_err(|error| error.to_string())?;
    }
    let programs =
        [("probe", 0o755), ("text", 0o644), ("watcher", 0o755), ("quitter", 0o755), ("polite", 0o755)];
    for (name, mode) in programs {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(task.join(name), mode).map_err(|error| error.to_string())?;
    }
    fs::set_permissions(task, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())
}

/// Runs the tests that fit this role.
fn run(role: &str) -> ExitCode {
    let folder = folder();
    let isolation = if role == "process" { Isolation::Process } else { Isolation::Namespaces };
    let options =
        Options { state_dir: folder.join("run"), isolation, pool: PoolSizes::default(), interfaces: true };
    let jailer = match fork_jailer(options) {
        Ok(jailer) => jailer,
        Err(error) if role == "ordinary" => {
            println!("{role}: skipped: {error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            println!("{role}: FAILED: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut failed = 0;
    runtime.block_on(async {
        let sandboxes = jailer.into_sandboxes().expect("sandboxes");
        let task = folder.parent().expect("the conductor's folder").join("task");
        let bench = Bench { sandboxes: sandboxes.clone(), task, isolation, folder: folder.clone() };
        for (name, test) in TESTS {
            if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
                continue;
            }
            let started = std::time::Instant::now();
            let outcome = match tokio::spawn(test(bench.clone())).await {
                Ok(outcome) => outcome,
                Err(panic) => Err(Outcome::Failed(panic.to_string())),
            };
            let took = started.elapsed().as_millis();
            match outcome {
                Ok(()) => println!("{role}: {name} ... ok ({took} ms)"),
                Err(Outcome::Skipped(reason)) => println!("{role}: {name} ... skipped: {reason}"),
                Err(Outcome::Failed(reason)) => {
                    failed += 1;
                    println!("{role}: {name} ... FAILED: {reason}");
                }
            }
        }
        drop(bench);
        let ending = std::time::Instant::now();
        sandboxes.shutdown().await;
        let took = ending.elapsed();
        let mut left = suite::Leftovers::must_vanish(&folder, std::process::id()).await;
        if left.is_ok() {
            left = suite::soon("processes are left", || suite::children() == 0).await;
        }
        match left {
            Ok(()) => println!("{role}: shutdown_leaves_nothing_behind ... ok ({} ms)", took.as_millis()),
            Err(Outcome::Skipped(reason) | Outcome::Failed(reason)) => {
                failed += 1;
                println!("{role}: shutdown_leaves_nothing_behind ... FAILED: {reason}");
            }
        }
    });
    println!("{role}: {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
