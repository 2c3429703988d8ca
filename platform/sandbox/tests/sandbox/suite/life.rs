//! Starts, ends, freezing, restarts, and the platform's own death.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::{Isolation, Options, PoolSizes, StartError, fork_jailer};

use super::{
    Bench, Leftovers, Outcome, Output, PATIENCE, Test, allow, check, children, descendants, groups_named,
    run_spec, signal, soon, within,
};

/// Where the host's user ids for environments begin, and how many of them one platform leases.
const FIRST_USER: u32 = 1_500_000_000;
const USERS: u32 = 65_536;

pub async fn ends_are_told_apart(bench: Bench) -> Test {
    for (words, code, signal) in [
        (vec!["exit", "0"], Some(0), None),
        (vec!["exit", "3"], Some(3), None),
        (vec!["signal", "9"], None, Some(9)),
        (vec!["signal", "15"], None, Some(15)),
        (vec!["abort"], None, Some(6)),
        (vec!["segv"], None, Some(11)),
    ] {
        let (_, exit) = bench.run(&words).await?;
        check(
            (exit.code, exit.signal, exit.out_of_memory) == (code, signal, None),
            format!("{words:?}: {exit:?}"),
        )?;
    }
    let sandbox = bench.start(&["pause"]).await?;
    sandbox.kill();
    let exit = within(sandbox.exited()).await?;
    check(exit.signal == Some(9) && exit.code.is_none(), format!("killed: {exit:?}"))
}

pub async fn a_program_that_cannot_run_is_an_error(bench: Bench) -> Test {
    for (program, errno) in
        [("/var/task/missing", libc::ENOENT), ("/var/task/text", libc::EACCES), ("/var/task", libc::EACCES)]
    {
        let mut spec = bench.spec(&[]);
        spec.program = vec![program.into()];
        match bench.sandboxes.start(Arc::new(spec)).await {
            Err(StartError::Program { program: named, error }) => {
                check(
                    named == program && error.raw_os_error() == Some(errno),
                    format!("{program}: {error}"),
                )?;
            }
            other => return Err(Outcome::Failed(format!("{program}: {other:?}"))),
        }
    }
    let mut spec = bench.spec(&["say", "x"]);
    spec.task = "/nonexistent/folder".into();
    let refused = bench.sandboxes.start(Arc::new(spec.clone())).await;
    check(refused.is_err(), "a missing task folder was accepted")?;
    spec.program.clear();
    let refused = bench.sandboxes.start(Arc::new(spec)).await;
    check(matches!(refused, Err(StartError::Spec { field: "program", .. })), format!("{refused:?}"))
}

pub async fn variables_arrive_however_large_they_are(bench: Bench) -> Test {
    bench.run(&["say", "hello"]).await?;
    // Blanks are made when starts have paused.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut spec = bench.spec(&["about"]);
    spec.environment = (0..110).map(|at| (format!("V{at}"), at.to_string().repeat(400))).collect();
    // Of a blank where there are any, and of what that one leaves.
    for life in 0..3 {
        let (text, _) = run_spec(&bench.sandboxes, spec.clone()).await?;
        for (name, value) in &spec.environment {
            check(text.contains(&format!("env={name}={value}\n")), format!("life {life} lacks {name}"))?;
        }
    }
    // More than a cloner lays out for its children.
    spec.program = vec!["x".repeat(100_000)];
    spec.environment = vec![("PATH".into(), "/var/task:".repeat(8))];
    for _ in 0..2 {
        match bench.sandboxes.start(Arc::new(spec.clone())).await {
            Err(StartError::Program { error, .. }) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {}
            other => return Err(Outcome::Failed(format!("a name that is too long: {other:?}"))),
        }
    }
    Ok(())
}

pub async fn freezing_stops_timers_and_thawing_resumes_them(bench: Bench) -> Test {
    let mut sandbox = bench.start(&["tick"]).await?;
    let mut output = Output::of(&mut sandbox)?;
    output.until("\n10\n").await?;
    sandbox.freeze()?;
    // What was in the pipe and, by signal, the moment until it arrives.
    output.bytes_within(Duration::from_millis(200)).await;
    let frozen = output.bytes_within(Duration::from_millis(100)).await;
    check(frozen == 0, format!("{frozen} bytes while frozen"))?;
    sandbox.thaw()?;
    let (began, mut thawed) = (Instant::now(), 0);
    while thawed <= 50 && began.elapsed() < allow(PATIENCE) {
        thawed += output.bytes_within(Duration::from_millis(100)).await;
    }
    check(thawed > 50, format!("{thawed} bytes after thawing"))
}

pub async fn a_frozen_environment_can_be_killed(bench: Bench) -> Test {
    let mut sandbox = bench.start(&["tick"]).await?;
    // Kept: without a reader the program would end by itself.
    let mut output = Output::of(&mut sandbox)?;
    output.until("\n3\n").await?;
    sandbox.freeze()?;
    sandbox.kill();
    let exit = within(sandbox.exited()).await?;
    check(exit.signal == Some(9), format!("{exit:?}"))
}

pub async fn a_double_forked_child_dies_with_the_environment(bench: Bench) -> Test {
    if bench.needs_walls().is_err() {
        // A plain process that left its session is caught by a control group alone.
        bench.needs("freezer")?;
    }
    let mut sandbox = bench.start(&["daemonize"]).await?;
    let mut output = Output::of(&mut sandbox)?;
    output.until("left").await?;
    sandbox.kill();
    // The pipe ends when the last one who could write to it is gone.
    within(output.rest()).await??;
    within(sandbox.exited()).await?;
    Ok(())
}

pub async fn restart_keeps_tmp_and_ends_everything_else(bench: Bench) -> Test {
    bench.needs_walls()?;
    let mut sandbox = bench.start(&["append", "show", "/tmp/kept", "await", "daemonize"]).await?;
    for life in 1..=5 {
        let mut output = Output::of(&mut sandbox)?;
        output.until(&format!("{}\n", "+".repeat(life))).await?;
        // The old listener is held on to, as a server that is still winding down would.
        let _listener = signal(sandbox.take_listener()).await?;
        output.until("left").await?;
        if life % 2 == 0 {
            sandbox.freeze()?;
        }
        let restarting = Instant::now();
        within(sandbox.restart()).await??;
        check(
            restarting.elapsed() < allow(Duration::from_secs(5)),
            format!("took {:?}", restarting.elapsed()),
        )?;
        within(output.rest()).await??;
    }
    Ok(())
}

pub async fn two_hundred_starts_at_once(bench: Bench) -> Test {
    let began = Instant::now();
    let mut starts = tokio::task::JoinSet::new();
    let mut spec = bench.spec(&["say", "here", "pause"]);
    if bench.needs_walls().is_ok() && bench.needs("tmp-size").is_err() {
        spec.tmp_mb = 64;
    }
    let spec = Arc::new(spec);
    for _ in 0..200 {
        let (sandboxes, spec) = (bench.sandboxes.clone(), spec.clone());
        starts.spawn(async move {
            let mut sandbox = sandboxes.start(spec).await?;
            Output::of(&mut sandbox)?.until("here").await?;
            Ok::<_, Outcome>(sandbox)
        });
    }
    let mut running = Vec::new();
    while let Some(started) = starts.join_next().await {
        running.push(started??);
    }
    let took = began.elapsed();
    check(running.len() == 200, format!("{} of 200", running.len()))?;
    let ids: std::collections::HashSet<u64> = running.iter().map(|sandbox| sandbox.id).collect();
    check(ids.len() == 200, "ids repeat")?;
    // That none hangs: how long it takes is a figure of its own.
    check(took < allow(Duration::from_secs(20)), format!("took {took:?}"))
}

/// What lives as long as each environment, and is not the function's.
pub async fn a_supervisor_holds_hardly_any_memory(bench: Bench) -> Test {
    if !cfg!(target_arch = "x86_64") {
        return Err(Outcome::Skipped("this machine's supervisors keep their memory".into()));
    }
    let before = descendants(std::process::id());
    let mut sandbox = bench.start(&["say", "here", "pause"]).await?;
    Output::of(&mut sandbox)?.until("here").await?;
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    // The program is new; its supervisor may have stood ready as a blank before.
    let held = |pid: u32| {
        let program = status(pid);
        let supervisor = program.starts_with("Name:\tprobe").then(|| field(&program, "PPid:"))??;
        let text = status(u32::try_from(supervisor).ok()?);
        Some((field(&text, "VmRSS:")?, field(&text, "VmPTE:")?))
    };
    let mut found = Vec::new();
    soon("the supervisor keeps its memory", || {
        let new = descendants(std::process::id()).into_iter().filter(|pid| !before.contains(pid));
        found = new.filter_map(held).collect();
        // Two pages, and at most three levels of tables for them and for what the kernel keeps there.
        found.len() == 1 && found.iter().all(|(resident, tables)| *resident <= 16 && *tables <= 24)
    })
    .await
    .map_err(|_| Outcome::Failed(format!("resident and page tables, KiB: {found:?}")))
}

pub async fn an_abandoned_start_leaves_nothing(bench: Bench) -> Test {
    let before = children();
    let spec = Arc::new(bench.spec(&["pause"]));
    for microseconds in 0..40 {
        let wait = Duration::from_micros(microseconds * 25);
        drop(tokio::time::timeout(wait, bench.sandboxes.start(spec.clone())).await);
    }
    // Restarts likewise: what the life before had says nothing of the one that begins.
    for microseconds in 0..40 {
        let mut sandbox = bench.sandboxes.start(spec.clone()).await?;
        drop(tokio::time::timeout(Duration::from_micros(microseconds * 50), sandbox.restart()).await);
    }
    // Parts may stay in stock; processes may not, but for the 16 blanks that so many starts may ask for.
    soon("abandoned environments stay", || children() <= before + 16).await?;
    // What is in stock is of use, however far those came that it is from: those of one version are used again.
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(bench.sandboxes.start(spec.clone()).await?);
    }
    Ok(())
}

/// A platform of its own that starts some environments, says so, and waits to be killed.
pub fn victim(folder: &Path) -> ExitCode {
    let isolation = if std::env::var_os("SANDBOX_TEST_PLAIN").is_some() {
        Isolation::Process
    } else {
        Isolation::Namespaces
    };
    let options =
        Options { state_dir: folder.join("victim"), isolation, pool: PoolSizes::default(), interfaces: true };
    let jailer = fork_jailer(options).expect("a jailer");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sandboxes = jailer.into_sandboxes().expect("sandboxes");
        let task = folder.parent().expect("the conductor's folder").join("task");
        let bench = Bench { sandboxes, task, isolation, folder: folder.to_path_buf() };
        let mut kept = Vec::new();
        for _ in 0..5 {
            let mut sandbox = bench.start(&["daemonize"]).await.expect("a start");
            let mut output = Output::of(&mut sandbox).ok().expect("output");
            output.until("left").await.ok().expect("a grandchild");
            kept.push((sandbox, output));
        }
        println!("ready");
        std::future::pending::<()>().await;
    });
    ExitCode::FAILURE
}

/// Starts a victim and waits until its environments run.
fn start_victim(command: &mut Command, bench: &Bench) -> Result<Child, Outcome> {
    command.env("SANDBOX_TEST_ROLE", "victim").stdout(Stdio::piped());
    if bench.isolation == Isolation::Process {
        command.env("SANDBOX_TEST_PLAIN", "1");
    }
    let mut platform = command.spawn()?;
    let mut line = String::new();
    let output = platform.stdout.take().ok_or_else(|| Outcome::Failed("no output".into()))?;
    BufReader::new(output).read_line(&mut line)?;
    if line == "ready\n" {
        return Ok(platform);
    }
    platform.kill()?;
    platform.wait()?;
    Err(Outcome::Failed(format!("the victim said {line:?}")))
}

/// The kernel counts processes per user.
pub async fn two_platforms_share_no_user(bench: Bench) -> Test {
    bench.needs("uid-per-environment")?;
    let own = bench.start(&["pause"]).await?;
    let mut platform = start_victim(&mut Command::new("/proc/self/exe"), &bench)?;
    let users = |pid| -> BTreeSet<u32> {
        let status = |pid| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let texts = descendants(pid).into_iter().map(status);
        let user = |text: String| text.split_once("Uid:")?.1.split_whitespace().next()?.parse().ok();
        texts
            .filter_map(user)
            .filter(|user| *user >= FIRST_USER)
            .map(|user: u32| (user - FIRST_USER) / USERS)
            .collect()
    };
    let theirs = users(platform.id());
    let ours: BTreeSet<_> = users(std::process::id()).difference(&theirs).copied().collect();
    platform.kill()?;
    platform.wait()?;
    drop(own);
    Leftovers::must_vanish(&bench.folder.join("victim"), platform.id()).await?;
    check(!theirs.is_empty() && !ours.is_empty(), format!("ranges {theirs:?} and {ours:?}"))
}

pub async fn nothing_survives_a_killed_platform(bench: Bench) -> Test {
    let folder = bench.folder.join("victim");
    let mut platforms = Vec::new();
    for round in 0..3 {
        let mut platform = start_victim(&mut Command::new("/proc/self/exe"), &bench)?;
        let environments = below(platform.id());
        check(environments.len() >= 10, format!("{} processes", environments.len()))?;
        if round == 1 {
            // The jailer too, so that nobody is left to clean up: the next start must.
            let jailer = jailer_of(platform.id()).and_then(rustix::process::Pid::from_raw);
            let jailer = jailer.ok_or_else(|| Outcome::Failed("no jailer found".into()))?;
            rustix::process::kill_process(jailer, rustix::process::Signal::STOP)?;
            platform.kill()?;
            rustix::process::kill_process(jailer, rustix::process::Signal::KILL)?;
        } else {
            platform.kill()?;
        }
        platform.wait()?;
        platforms.push(platform.id());
        soon("processes survive", || !environments.iter().any(|process| process.lives())).await?;
    }
    for platform in platforms {
        Leftovers::must_vanish(&folder, platform).await?;
    }
    Ok(())
}

/// The folder's file system is the victim's own, in a mount namespace of its own; the host removes the folder it is mounted on.
pub async fn loop_devices_vanish_though_the_mountpoint_of_the_folder_was_removed(bench: Bench) -> Test {
    if bench.isolation == Isolation::Process || !rustix::process::geteuid().is_root() {
        return Err(Outcome::Skipped("no loop devices".into()));
    }
    let folder = bench.folder.with_file_name("mountpoint");
    std::fs::create_dir_all(&folder)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount -t tmpfs tmpfs \"$SANDBOX_TEST_FOLDER\" && exec \"$0\"").arg(std::env::current_exe()?);
    let mut platform = start_victim(command.env("SANDBOX_TEST_FOLDER", &folder), &bench)?;
    let jailer = jailer_of(platform.id()).unwrap_or_default();
    let stage = folder.join("victim/stage");
    let mounts = std::fs::read_to_string(format!("/proc/{jailer}/mountinfo"))?;
    let devices: Vec<PathBuf> = (mounts.lines())
        .filter(|line| line.contains(&*stage.join("tmp").to_string_lossy()))
        .filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("/dev/loop")))
        .map(|number| PathBuf::from(format!("/sys/block/loop{number}/loop")))
        .collect();
    let escape = detached_copy(jailer, &stage);
    let removed = std::fs::remove_dir(&folder);
    platform.kill()?;
    platform.wait()?;
    let gone = soon("loop devices are left", || !devices.iter().any(|device| device.exists())).await;
    // Where they are left: the kernel lets go of what is mounted on a folder that is removed.
    if let Ok(stage) = escape {
        for number in 0..100 {
            let _ = rustix::fs::unlinkat(&stage, format!("tmp/{number}"), rustix::fs::AtFlags::REMOVEDIR);
        }
    }
    removed?;
    check(!devices.is_empty(), "no loop device in use")?;
    gone
}

/// What is mounted on `folder` for that process, mounted nowhere else.
fn detached_copy(pid: i32, folder: &Path) -> std::io::Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    let copied = || {
        // SAFETY: the thread gets a working directory of its own, which nobody shared on purpose.
        #[allow(unsafe_code)]
        unsafe { unshare_unsafe(UnshareFlags::FS) }?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(open_tree(
            rustix::fs::CWD,
            folder,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?)
    };
    std::thread::scope(|scope| scope.spawn(copied).join().expect("a thread"))
}

/// A process that dies slowly keeps its group; here it is one of the test's own. On version 2 the kernel would end it.
pub async fn groups_that_are_empty_late_go_too(bench: Bench) -> Test {
    let mut platform = start_victim(&mut Command::new("/proc/self/exe"), &bench)?;
    let Some((session, group)) = a_group_of(platform.id()) else {
        platform.kill()?;
        platform.wait()?;
        return Err(Outcome::Skipped("no control groups of version 1".into()));
    };
    let mut slow = Command::new("sleep").arg("600").spawn()?;
    let joined = std::fs::write(group.join("cgroup.procs"), slow.id().to_string());
    platform.kill()?;
    platform.wait()?;
    let alone =
        soon("it keeps the other groups", || folders_in(&session).iter().all(|other| *other == group)).await;
    slow.kill()?;
    slow.wait()?;
    joined?;
    alone?;
    Leftovers::must_vanish(&bench.folder.join("victim"), platform.id()).await
}

/// A folder of groups of a platform, and the group in it that is removed first.
fn a_group_of(platform: u32) -> Option<(PathBuf, PathBuf)> {
    let sessions = groups_named(Path::new("/sys/fs/cgroup"), &format!("onrush-{platform}"));
    let mut sessions = sessions.into_iter().filter(|session| !session.join("cgroup.kill").exists());
    sessions.find_map(|session| Some((session.clone(), folders_in(&session).into_iter().next()?)))
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// A process, told from a later one of the same number by its start.
#[derive(PartialEq, Eq)]
struct Process {
    pid: u32,
    started: String,
}

impl Process {
    fn of(pid: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // A zombie has ended; who reaps it is the host's affair.
        (fields.first()? != &"Z").then_some(())?;
        Some(Process { pid, started: (*fields.get(19)?).to_owned() })
    }

    fn lives(&self) -> bool {
        Process::of(self.pid).is_some_and(|now| now == *self)
    }
}

/// Every process below `pid`.
fn below(pid: u32) -> Vec<Process> {
    descendants(pid).into_iter().filter_map(Process::of).collect()
}

fn jailer_of(platform: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{platform}/task/{platform}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
