//! What the tests share: starting the probe, reading it, judging it, and counting what is left on the host.

mod companions;
mod life;
mod limits;
mod walls;

use std::fs;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Exit, Isolation, Sandbox, Sandboxes, Spec, StartError};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

pub use life::victim;

/// No program of the suite needs longer; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many times slower than usual the host is: an emulated processor's tests say so.
const SLOWNESS: &str = "SANDBOX_TEST_SLOWNESS";

/// A bound on time, longer on a slow host.
pub fn allow(time: Duration) -> Duration {
    time * std::env::var(SLOWNESS).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Why a test did not pass.
pub enum Outcome {
    Skipped(String),
    Failed(String),
}

impl<E: std::error::Error> From<E> for Outcome {
    fn from(error: E) -> Outcome {
        Outcome::Failed(error.to_string())
    }
}

pub type Test = Result<(), Outcome>;
type Running = Pin<Box<dyn Future<Output = Test> + Send>>;

macro_rules! tests {
    ($($room:ident::$name:ident),* $(,)?) => {
        pub const TESTS: &[(&str, fn(Bench) -> Running)] =
            &[$((stringify!($name), |bench| Box::pin($room::$name(bench)))),*];
    };
}

tests![
    walls::every_move_out_is_refused,
    walls::a_program_sees_what_lambda_shows_and_nothing_else,
    walls::all_are_walled_alike_whether_blanks_or_made_from_nothing,
    walls::lives_of_a_version_have_a_user_in_turn_and_never_at_once,
    walls::nothing_is_carried_to_the_next_environment,
    walls::only_the_runtime_api_answers_inside,
    walls::the_interface_carries_what_is_sent_and_keeps_nothing_for_the_next,
    walls::binds_are_read_only_and_bad_ones_are_refused,
    walls::interpreters_run_under_the_filter,
    limits::a_memory_hog_is_ended_and_the_reason_known,
    limits::a_hogs_child_takes_the_environment_along,
    limits::tmp_holds_more_than_memory,
    limits::a_full_tmp_answers_no_space,
    limits::tmp_has_an_inode_limit,
    limits::a_fork_bomb_meets_the_limit_and_hurts_nobody,
    limits::a_crowd_with_little_cpu_is_gone_within_a_second,
    limits::the_cpu_quota_applies_after_init,
    limits::memory_peak_leaves_tmp_out_and_starts_anew,
    life::ends_are_told_apart,
    life::a_program_that_cannot_run_is_an_error,
    life::variables_arrive_however_large_they_are,
    life::freezing_stops_timers_and_thawing_resumes_them,
    life::a_frozen_environment_can_be_killed,
    life::a_double_forked_child_dies_with_the_environment,
    life::restart_keeps_tmp_and_ends_everything_else,
    life::two_hundred_starts_at_once,
    life::a_supervisor_holds_hardly_any_memory,
    life::an_abandoned_start_leaves_nothing,
    companions::they_start_first_and_each_end_is_told,
    companions::the_program_is_asked_to_end_alone,
    companions::a_companion_that_cannot_run_is_told,
    companions::a_restart_starts_them_anew,
    companions::a_socket_reaches_what_listens_inside,
    life::two_platforms_share_no_user,
    life::nothing_survives_a_killed_platform,
    life::groups_that_are_empty_late_go_too,
    life::loop_devices_vanish_though_the_mountpoint_of_the_folder_was_removed,
];

/// What each test is given.
#[derive(Clone)]
pub struct Bench {
    pub sandboxes: Sandboxes,
    /// Folder of the probe.
    pub task: PathBuf,
    pub isolation: Isolation,
    /// A folder of this run.
    pub folder: PathBuf,
}

static VERSIONS: AtomicU64 = AtomicU64::new(1);

impl Bench {
    /// A spec of a version of its own that runs the probe with `words`.
    pub fn spec(&self, words: &[&str]) -> Spec {
        let program = ["/var/task/probe"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        Spec {
            hostname: "onrush-test".into(),
            version_key: VERSIONS.fetch_add(1, Ordering::Relaxed),
            image: Vec::new(),
            task: self.task.clone(),
            opt: None,
            binds: Vec::new(),
            program,
            environment: vec![("ONE".into(), "1".into())],
            working_directory: "/var/task".into(),
            memory_mb: 128,
            tmp_mb: 512,
            dual_stack: false,
            companions: Default::default(),
        }
    }

    pub async fn start(&self, words: &[&str]) -> Result<Sandbox, StartError> {
        self.sandboxes.start(Arc::new(self.spec(words))).await
    }

    /// Runs the probe to its end.
    pub async fn run(&self, words: &[&str]) -> Result<(String, Exit), Outcome> {
        run_spec(&self.sandboxes, self.spec(words)).await
    }

    /// Skips unless this host enforces `ability`.
    pub fn needs(&self, ability: &str) -> Test {
        if self.sandboxes.abilities().enforced(ability) {
            return Ok(());
        }
        let found = self.sandboxes.abilities().get(ability);
        let detail = found.map_or("unknown".to_owned(), |found| found.detail.clone());
        Err(Outcome::Skipped(format!("{ability}: {detail}")))
    }

    pub fn needs_walls(&self) -> Test {
        match self.isolation {
            Isolation::Namespaces => Ok(()),
            Isolation::Process => Err(Outcome::Skipped("no namespaces".into())),
        }
    }
}

pub async fn run_spec(sandboxes: &Sandboxes, spec: Spec) -> Result<(String, Exit), Outcome> {
    let mut sandbox = sandboxes.start(Arc::new(spec)).await?;
    let mut output = Output::of(&mut sandbox)?;
    let text = output.rest().await?;
    Ok((text, within(sandbox.exited()).await?))
}

/// Waits, but not forever.
pub async fn within<T>(future: impl Future<Output = T>) -> Result<T, Outcome> {
    tokio::time::timeout(allow(PATIENCE), future).await.map_err(|_| Outcome::Failed("took too long".into()))
}

/// A program's output, as it comes.
pub struct Output {
    pipe: pipe::Receiver,
    text: String,
}

impl Output {
    pub fn of(sandbox: &mut Sandbox) -> Result<Output, Outcome> {
        let descriptor: OwnedFd = sandbox.take_output();
        Ok(Output { pipe: pipe::Receiver::from_owned_fd(descriptor)?, text: String::new() })
    }

    /// Reads once; `false` at the end.
    async fn more(&mut self) -> Result<bool, Outcome> {
        let mut bytes = vec![0; 65_536];
        let count = within(self.pipe.read(&mut bytes)).await??;
        self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        Ok(count > 0)
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Result<String, Outcome> {
        while self.more().await? {}
        Ok(std::mem::take(&mut self.text))
    }

    /// Waits until `wanted` has been said, and forgets what was said so far.
    pub async fn until(&mut self, wanted: &str) -> Test {
        while !self.text.contains(wanted) {
            if !self.more().await? {
                return Err(Outcome::Failed(format!("ended before {wanted:?}: {:?}", self.text)));
            }
        }
        self.text.clear();
        Ok(())
    }

    /// How many bytes come within `time`.
    pub async fn bytes_within(&mut self, time: Duration) -> usize {
        let mut count = 0;
        let mut bytes = vec![0; 65_536];
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(Ok(read)) = tokio::time::timeout_at(deadline, self.pipe.read(&mut bytes)).await {
            if read == 0 {
                break;
            }
            count += read;
        }
        count
    }
}

/// Lets the probe's `await` go on: accepts one connection on the listener inside and sends a byte.
pub async fn signal(listener: std::net::TcpListener) -> Result<tokio::net::TcpListener, Outcome> {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (mut stream, _) = within(listener.accept()).await??;
    stream.write_all(b"1").await?;
    Ok(listener)
}

pub fn check(condition: bool, words: impl Into<String>) -> Test {
    if condition { Ok(()) } else { Err(Outcome::Failed(words.into())) }
}

/// Polls for something that becomes true soon.
pub async fn soon(what: &str, mut condition: impl FnMut() -> bool) -> Test {
    let deadline = Instant::now() + allow(PATIENCE);
    while !condition() {
        check(Instant::now() < deadline, what)?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// What a platform can leave on a host. Others may be at work here at the same time, so only what is known to
/// belong to it counts: groups with its pid in the name, mounts and loop devices below its folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    groups: usize,
    mounts: usize,
    loops: usize,
}

impl Leftovers {
    pub fn of(folder: &Path, platform: u32) -> Leftovers {
        let below = |path: &str| Path::new(path).starts_with(folder);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(below)).count();
        let loops = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let files = loops.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
        let loops = files.filter(|file| below(file.trim_end())).count();
        let groups = groups_named(Path::new("/sys/fs/cgroup"), &format!("onrush-{platform}")).len();
        Leftovers { groups, mounts, loops }
    }

    /// Nothing, within a moment: the kernel frees loop devices in the background.
    pub async fn must_vanish(folder: &Path, platform: u32) -> Test {
        let gone =
            soon("something is left", || Leftovers::of(folder, platform) == Leftovers::default()).await;
        gone.map_err(|_| Outcome::Failed(format!("left: {:?}", Leftovers::of(folder, platform))))
    }
}

/// The folders of that name below `folder`, at any depth.
pub fn groups_named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend((entry.file_name() == name).then(|| entry.path()));
            found.extend(groups_named(&entry.path(), name));
        }
    }
    found
}

/// How many processes are below this one.
pub fn children() -> usize {
    descendants(std::process::id()).len()
}

/// Every process below `pid`, at any depth.
pub fn descendants(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let mut found = Vec::new();
    for text in texts {
        for child in text.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}
