//! A plain process with a function's share of this machine, and nothing else of the platform: what a bad neighbour
//! costs by itself.

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::bound;

const CGROUPS: &str = "/sys/fs/cgroup";
/// As the platform's; a function has a processor at 1,769 MB.
const CPU_PERIOD_US: u32 = 20_000;
const MEMORY_OF_A_PROCESSOR_MB: u32 = 1_769;
const PROCESSES_MAX: u32 = 1_024;
/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(2);
/// Longest wait for the end of who was killed.
const FAREWELL: Duration = Duration::from_secs(4);
/// Its folder is its `/tmp`, holds its program, and tells that it came so far.
const SCRIPT: &str = r#"mount --bind "$1" /tmp && shift || exit
for group; do echo $$ > "$group/cgroup.procs" || exit; done
: > /tmp/begun; exec /tmp/bootstrap"#;

/// Control groups with a function's quota, memory and number of processes; they go with this value.
#[derive(Debug)]
pub struct Share {
    /// One in each hierarchy of version 1, or one of version 2.
    groups: Vec<PathBuf>,
}

impl Share {
    /// `None` where this process may not make such groups, or has no such controllers.
    pub fn new(memory_mb: u32) -> Option<Self> {
        let name = format!("plain-{}", std::process::id());
        let quota = CPU_PERIOD_US * memory_mb / MEMORY_OF_A_PROCESSOR_MB;
        let (memory, processes) = (u64::from(memory_mb) << 20, PROCESSES_MAX.to_string());
        let is_second = Path::new(CGROUPS).join("cgroup.controllers").exists();
        let settings = if is_second {
            vec![
                ("", "cpu.max", format!("{quota} {CPU_PERIOD_US}")),
                ("", "memory.max", memory.to_string()),
                ("", "pids.max", processes),
            ]
        } else {
            vec![
                ("cpu", "cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                ("cpu", "cpu.cfs_quota_us", quota.to_string()),
                ("memory", "memory.limit_in_bytes", memory.to_string()),
                ("pids", "pids.max", processes),
            ]
        };
        let mut share = Self { groups: Vec::new() };
        for (controller, file, value) in settings {
            let group = Path::new(CGROUPS).join(controller).join(&name);
            if !share.groups.contains(&group) {
                fs::create_dir(&group).ok()?;
                share.groups.push(group.clone());
            }
            fs::write(group.join(file), value).ok()?;
        }
        // For a `/tmp` of its own.
        geteuid().is_root().then_some(share)
    }

    /// Runs the `rogue` in `folder` with `event` until it ends, but no longer than `length`; nothing of it is left
    /// then. Fails when it did not begin.
    pub fn run(&self, folder: &Path, event: &str, length: Duration) -> Result<()> {
        let mark = folder.join("begun");
        if mark.exists() {
            fs::remove_file(&mark)?;
        }
        let mut command = bound("unshare");
        command.args(["--mount", "--", "sh", "-c", SCRIPT, "sh"]).arg(folder).args(&self.groups);
        command.env("ROGUE_INIT", event).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(fs::File::create(folder.join("log"))?).spawn().context("unshare")?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() && begun.elapsed() < length {
            thread::sleep(POLL);
        }
        let _ = child.kill();
        let status = child.wait()?;
        self.end()?;
        ensure!(mark.exists() && status.code() != Some(127), "a plain process: {status}");
        Ok(())
    }

    fn end(&self) -> Result<()> {
        let Some(group) = self.groups.last() else { return Ok(()) };
        let begun = Instant::now();
        loop {
            let inside = fs::read_to_string(group.join("cgroup.procs"))?;
            if inside.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < FAREWELL, "{} does not empty", group.display());
            let ids = inside.lines().filter_map(|id| Pid::from_raw(id.parse().ok()?));
            ids.for_each(|id| {
                let _ = kill_process(id, Signal::KILL);
            });
            thread::sleep(POLL);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.end();
        self.groups.iter().for_each(|group| {
            let _ = fs::remove_dir(group);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_a_plain_process_started_ends_with_it() {
        let Some(share) = Share::new(128) else { return };
        let groups = share.groups.clone();
        let folder = std::env::temp_dir().join(format!("plain-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("bootstrap");
        // Its child outlives it, in a session of its own.
        fs::write(
            &program,
            "#!/bin/sh\nsetsid sleep 300 &\necho $! > /tmp/child\ncat /proc/self/cgroup > /tmp/groups\n",
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        share.run(&folder, "", Duration::from_secs(10)).unwrap();
        let child: u32 = fs::read_to_string(folder.join("child")).unwrap().trim().parse().unwrap();
        let inside = fs::read_to_string(folder.join("groups")).unwrap();
        fs::remove_file(&program).unwrap();
        assert!(share.run(&folder, "", Duration::from_secs(10)).is_err());
        fs::remove_dir_all(&folder).unwrap();
        assert!(inside.contains(&format!("/plain-{}", std::process::id())), "{inside}");
        let left = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        assert_eq!(left, "");
        drop(share);
        assert!(groups.iter().all(|group| !group.exists()));
    }
}
