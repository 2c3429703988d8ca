//! What a program can use up.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::OutOfMemory;

use super::{Bench, Outcome, Output, Test, allow, check, descendants, groups_named, signal, soon, within};

/// Other work on the host delays a neighbour now and then; a hostile function that gets through its walls delays all.
const NEIGHBOURS: usize = 8;

/// Neighbours still start, and soon.
async fn neighbour_is_well(bench: &Bench) -> Test {
    let mut took = Vec::new();
    while took.len() < NEIGHBOURS {
        let started = Instant::now();
        let (text, exit) = bench.run(&["say", "well"]).await?;
        check(text == "well\n" && exit.code == Some(0), format!("neighbour: {text} {exit:?}"))?;
        if started.elapsed() < allow(Duration::from_secs(2)) {
            return Ok(());
        }
        took.push(started.elapsed());
    }
    Err(Outcome::Failed(format!("neighbours took {took:?}")))
}

pub async fn a_memory_hog_is_ended_and_the_reason_known(bench: Bench) -> Test {
    bench.needs("memory-limit")?;
    let (text, exit) = bench.run(&["hog", "200"]).await?;
    check(!text.contains("got all") && text.contains("64 MB"), text)?;
    check(
        exit.out_of_memory == Some(OutOfMemory::Environment) && exit.signal == Some(9),
        format!("{exit:?}"),
    )?;
    neighbour_is_well(&bench).await
}

pub async fn a_hogs_child_takes_the_environment_along(bench: Bench) -> Test {
    bench.needs("memory-limit")?;
    let sandbox = bench.start(&["hog-child", "200"]).await?;
    let exit = within(sandbox.exited()).await?;
    check(exit.out_of_memory == Some(OutOfMemory::Environment), format!("{exit:?}"))
}

pub async fn tmp_holds_more_than_memory(bench: Bench) -> Test {
    bench.needs("tmp-size")?;
    bench.needs("memory-limit")?;
    let (text, exit) = bench.run(&["fill", "400", "say", "alive"]).await?;
    check(text == "wrote 400 MB\nalive\n" && exit.code == Some(0), format!("{text} {exit:?}"))
}

pub async fn a_full_tmp_answers_no_space(bench: Bench) -> Test {
    bench.needs_walls()?;
    let (text, exit) = bench.run(&["fill", "600", "say", "alive"]).await?;
    let stopped =
        text.strip_prefix("stopped after ").and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    check(text.contains("No space left on device\nalive"), format!("{text} {exit:?}"))?;
    // Lambda's 512 MB fit; a little more may.
    check(stopped.is_some_and(|megabytes| (512..=520).contains(&megabytes)), text)
}

pub async fn tmp_has_an_inode_limit(bench: Bench) -> Test {
    bench.needs("tmp-size")?;
    let (text, exit) = bench.run(&["inodes", "say", "alive"]).await?;
    check(text.contains("No space left on device\nalive"), format!("{text} {exit:?}"))
}

pub async fn a_fork_bomb_meets_the_limit_and_hurts_nobody(bench: Bench) -> Test {
    if bench.needs("pids-limit").is_err() && bench.needs_walls().is_err() {
        bench.needs("pids-limit")?;
    }
    let mut sandbox = bench.start(&["bomb", "pause"]).await?;
    let mut output = Output::of(&mut sandbox)?;
    output.until("Resource temporarily unavailable").await?;
    neighbour_is_well(&bench).await?;
    sandbox.kill();
    within(sandbox.exited()).await?;
    // Without walls they may end after it; as long as they last they count for their user id, whose next one is short of them.
    soon("its processes are left", || !descendants(std::process::id()).into_iter().any(is_probe)).await
}

fn is_probe(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "probe\n")
}

pub async fn a_crowd_with_little_cpu_is_gone_within_a_second(bench: Bench) -> Test {
    bench.needs("cpu-quota")?;
    bench.needs("pids-limit")?;
    let mut sandbox = bench.start(&["crowd", "16", "pause"]).await?;
    let mut output = Output::of(&mut sandbox)?;
    output.until("Resource temporarily unavailable").await?;
    sandbox.init_done();
    let started = Instant::now();
    sandbox.kill();
    within(sandbox.exited()).await?;
    let took = started.elapsed();
    check(took < allow(Duration::from_secs(1)), format!("a thousand processes took {took:?} to end"))
}

pub async fn the_cpu_quota_applies_after_init(bench: Bench) -> Test {
    bench.needs("cpu-quota")?;
    bench.needs_walls()?;
    let mut sandbox = bench.start(&["spin", "40", "await", "spin", "40", "pause"]).await?;
    let mut output = Output::of(&mut sandbox)?;
    output.until(" ms\n").await?;
    let of_init = throttled()?;
    check(of_init == 0, format!("INIT, 40 ms of work, was held back in {of_init} periods"))?;
    sandbox.init_done();
    let started = Instant::now();
    let _listener = signal(sandbox.take_listener()).await?;
    output.until(" ms\n").await?;
    // At 128 MB, 1.447 ms of each 20, the work spends the quota of 27 periods, however busy the host is.
    let (took, periods) = (started.elapsed(), throttled()?);
    check((15..=40).contains(&periods), format!("40 ms of work were held back in {periods} periods"))?;
    check(took >= Duration::from_millis(400), format!("40 ms of work at 128 MB took {took:?}"))
}

/// In how many periods the group of the probe that spins has spent its quota, as the kernel counts.
fn throttled() -> Result<u64, Outcome> {
    let spins = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.starts_with(b"/var/task/probe\0spin"))
    };
    let probe = descendants(std::process::id()).into_iter().find(spins);
    let probe = probe.ok_or_else(|| Outcome::Failed("no probe spins".into()))?;
    let session = format!("onrush-{}", std::process::id());
    let sessions = groups_named(Path::new("/sys/fs/cgroup"), &session);
    let groups = sessions.iter().filter_map(|session| fs::read_dir(session).ok()).flatten().flatten();
    for group in groups.map(|group| group.path()) {
        let text = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
        let count = |line: &str| line.strip_prefix("nr_throttled ")?.parse().ok();
        if text("cgroup.procs").lines().any(|pid| pid.parse() == Ok(probe))
            && let Some(count) = text("cpu.stat").lines().find_map(count)
        {
            return Ok(count);
        }
    }
    Err(Outcome::Failed("the probe's group does not count".into()))
}

pub async fn memory_peak_leaves_tmp_out_and_starts_anew(bench: Bench) -> Test {
    bench.needs("memory-limit")?;
    bench.needs("tmp-size")?;
    let mut sandbox = bench.start(&["fill", "300", "await", "hog", "64", "pause"]).await?;
    let mut output = Output::of(&mut sandbox)?;
    output.until("wrote 300 MB").await?;
    let after_tmp = sandbox.memory_peak_bytes(true) >> 20;
    check(after_tmp < 64, format!("{after_tmp} MB after filling /tmp"))?;
    signal(sandbox.take_listener()).await?;
    output.until("got all").await?;
    let after_hog = sandbox.memory_peak_bytes(true) >> 20;
    check((64..100).contains(&after_hog), format!("{after_hog} MB after using 64"))?;
    sandbox.reset_memory_peak();
    soon("the peak stays near what is used", || {
        let peak = sandbox.memory_peak_bytes(true) >> 20;
        (64..100).contains(&peak)
    })
    .await
}
