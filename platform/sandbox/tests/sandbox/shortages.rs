//! The host's limits lowered one by one, each in a user namespace of the test's own: the error names the limit and its
//! cure, nothing half-made stays, and what fits goes on.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use sandbox::{AbilityState, Isolation, JailerError, Options, PoolSizes, Sandboxes, Spec, fork_jailer};

/// Kinds of namespaces whose number a user namespace limits and every environment needs.
const KINDS: [&str; 6] = ["user", "pid", "mnt", "net", "ipc", "uts"];
/// Enough for a jailer and a few environments, not for all that are asked for.
const FEW: &str = "14";
const ASKED: usize = 40;

/// Lowers each limit in turn and runs the suite under it, as `user`.
pub fn conduct(program: &Path, folder: &Path, role: &str, folder_name: &str, user: Option<u32>) -> bool {
    let mut failed = false;
    let mut run = |case: &str, command: &mut Command| {
        let folder = folder.join(case);
        std::fs::create_dir_all(&folder).expect("a folder per case");
        if let Some(user) = user {
            std::os::unix::fs::chown(&folder, Some(user), Some(user)).expect("chown");
            command.uid(user).gid(user);
        }
        command.env(role, format!("shortage:{case}")).env(folder_name, &folder);
        failed |= !command.status().expect("run the suite").success();
    };
    let mut supported = Command::new("unshare");
    supported.args(["--user", "--map-current-user", "--keep-caps", "true"]).stderr(Stdio::null());
    if let Some(user) = user {
        supported.uid(user).gid(user);
    }
    if !supported.status().is_ok_and(|status| status.success()) {
        println!("shortage: skipped: unshare cannot keep capabilities, or user namespaces are refused");
    } else {
        let lowered = |kind: &str, value: &str| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-c"]);
            command.arg(format!("echo {value} >/proc/sys/user/max_{kind}_namespaces && exec \"$0\""));
            command.arg(program);
            command
        };
        for kind in KINDS {
            run(&format!("none-{kind}"), &mut lowered(kind, "0"));
        }
        run("few-net", &mut lowered("net", FEW));
        run("few-pid", &mut lowered("pid", FEW));
    }
    let mut files = Command::new("sh");
    files.args(["-c", "ulimit -n 160 && exec \"$0\""]).arg(program);
    run("few-files", &mut files);
    failed
}

/// One case, in its process.
pub fn run(case: &str, folder: &Path, task: &Path) -> ExitCode {
    let pool = PoolSizes { networks: 2, groups: 2, temporaries: 2, blanks: 1 };
    let options =
        Options { state_dir: folder.join("run"), isolation: Isolation::Namespaces, pool, interfaces: true };
    let result = match (case.split_once('-'), fork_jailer(options)) {
        (Some(("none", kind)), Err(error @ JailerError::Refused { .. })) => named(
            &error.to_string(),
            &format!("user.max_{kind}_namespaces is 0: sysctl -w user.max_{kind}_namespaces="),
        ),
        (Some(("few", what)), Ok(jailer)) => {
            let abilities = jailer.abilities().clone();
            let low = if what == "files" { "open-files" } else { "kernel-limits" };
            let told = abilities.get(low).is_some_and(|ability| ability.state == AbilityState::Loose);
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let ran = runtime.block_on(async {
                let sandboxes = jailer.into_sandboxes().map_err(|error| error.to_string())?;
                let ran = few(&sandboxes, what, task).await;
                sandboxes.shutdown().await;
                ran
            });
            if told { ran } else { Err(format!("the abilities do not tell of {low}")) }
        }
        (_, Ok(_)) => Err("the jailer started".into()),
        (_, Err(error)) => Err(error.to_string()),
    };
    match result {
        Ok(()) => {
            println!("shortage: {case} ... ok");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("shortage: {case} ... FAILED: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn named(error: &str, expected: &str) -> Result<(), String> {
    if error.contains(expected) { Ok(()) } else { Err(format!("{error:?} lacks {expected:?}")) }
}

/// Asks for more than fit, at once; then, with all of them gone, for one.
async fn few(sandboxes: &Sandboxes, what: &str, task: &Path) -> Result<(), String> {
    let spec = |words: &[&str]| {
        let program = ["/var/task/probe"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        Arc::new(Spec {
            hostname: "shortage".into(),
            version_key: 1,
            image: Vec::new(),
            task: task.to_path_buf(),
            opt: None,
            binds: Vec::new(),
            program,
            environment: Vec::new(),
            working_directory: "/var/task".into(),
            memory_mb: 128,
            tmp_mb: 16,
            dual_stack: false,
            companions: Default::default(),
        })
    };
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..ASKED {
        let (sandboxes, spec) = (sandboxes.clone(), spec(&["plant", "x"]));
        starts.spawn(async move { sandboxes.start(spec).await.map_err(|error| error.to_string()) });
    }
    let (alive, errors): (Vec<_>, Vec<_>) = starts.join_all().await.into_iter().partition(Result::is_ok);
    let expected = match what {
        "files" => "ulimit -n".to_owned(),
        kind => format!("user.max_{kind}_namespaces is {FEW}: sysctl -w"),
    };
    if alive.is_empty() || errors.is_empty() {
        return Err(format!("{} started, {} were refused", alive.len(), errors.len()));
    }
    for error in errors.iter().filter_map(|error| error.as_ref().err()) {
        named(error, &expected)?;
    }
    drop(alive);
    // The kernel destroys namespaces in its own time.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match sandboxes.start(spec(&["say", "fits"])).await {
            Ok(sandbox) => {
                let exit = sandbox.exited().await;
                return if exit.code == Some(0) { Ok(()) } else { Err(format!("{exit:?}")) };
            }
            Err(error) if std::time::Instant::now() > deadline => return Err(format!("and then: {error}")),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}
