//! What a program can use up.

use std::time::{Duration, Instant};

use sandbox::OutOfMemory;

use super::{Bench, Outcome, Output, Test, allow, check, signal, soon, within};

/// A neighbour still starts, and soon.
async fn neighbour_is_well(bench: &Bench) -> Test {
    let started = Instant::now();
    let (text, exit) = bench.run(&["say", "well"]).await?;
    check(text == "well\n" && exit.code == Some(0), format!("neighbour: {text} {exit:?}"))?;
    check(
        started.elapsed() < allow(Duration::from_secs(2)),
        format!("neighbour took {:?}", started.elapsed()),
    )
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
    Ok(())
}

pub async fn the_cpu_quota_applies_after_init(bench: Bench) -> Test {
    bench.needs("cpu-quota")?;
    bench.needs_walls()?;
    let mut sandbox = bench.start(&["spin", "40", "await", "spin", "40"]).await?;
    let mut output = Output::of(&mut sandbox)?;
    let listener = sandbox.take_listener();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (mut stream, _) = within(listener.accept()).await??;
    sandbox.init_done();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"1").await?;
    let text = output.rest().await?;
    let times: Vec<u64> = text.lines().filter_map(|line| line.strip_suffix(" ms")?.parse().ok()).collect();
    let &[free, limited] = times.as_slice() else { return Err(Outcome::Failed(text)) };
    // 40 ms at 0.072 of a core take 550 ms; the machine may be busy during the first.
    let most = |milliseconds| allow(Duration::from_millis(milliseconds)).as_millis() as u64;
    check(free < most(300), format!("INIT took {free} ms for 40 ms of work"))?;
    check((400..most(2_000)).contains(&limited), format!("{limited} ms for 40 ms of work at 128 MB"))
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
