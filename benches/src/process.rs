//! Programs that a figure needs running: started, asked about, and gone with everything they started.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take to stop before it is killed.
const FAREWELL: Duration = Duration::from_secs(4);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(2);

/// A command whose process ends with this one, also when this one is killed.
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// A program that stops when this value goes.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// It and everything that it started, by process id.
    pub fn family(&self) -> Vec<u32> {
        family(self.child.id())
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Interrupts it and waits; kills what is still there after [`FAREWELL`]. How long it took to end.
    pub fn stop(&mut self) -> Duration {
        if self.ended().is_some() {
            return Duration::ZERO;
        }
        // Whoever is orphaned below is still the same process only if it began at the same time: ids are used again.
        let family: Vec<_> = self.family().into_iter().filter_map(|id| Some((id, began(id)?))).collect();
        let begun = Instant::now();
        send(self.child.id(), Signal::INT);
        while self.ended().is_none() && begun.elapsed() < FAREWELL {
            thread::sleep(POLL);
        }
        let took = begun.elapsed();
        let rest = family.into_iter().filter(|(id, at)| *id != self.child.id() && began(*id) == Some(*at));
        rest.for_each(|(id, _)| send(id, Signal::KILL));
        let _ = self.child.kill();
        let _ = self.child.wait();
        took
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Resident memory of a process in KiB, as `/proc` says.
pub fn resident_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Time on a processor of all threads of a process.
pub fn cpu_time(id: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// A process and its descendants, parents first.
fn family(root: u32) -> Vec<u32> {
    let processes: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some((id, parent(id)?))
        })
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while next < family.len() {
        let of = family[next];
        family.extend(processes.iter().filter(|(_, parent)| *parent == of).map(|(id, _)| *id));
        next += 1;
    }
    family
}

fn parent(id: u32) -> Option<u32> {
    stat(id, 4)?.try_into().ok()
}

/// When a process began, in clock ticks since boot.
fn began(id: u32) -> Option<u64> {
    stat(id, 22)
}

/// A numeric field of `/proc/ID/stat`, counted from one as in proc(5), beyond the name.
fn stat(id: u32, field: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses, the second field, may hold anything, blanks and parentheses included.
    stat.rsplit_once(')')?.1.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

fn send(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    #[test]
    fn what_a_program_started_ends_with_it() {
        let mut command = Command::new("sh");
        // What a shell starts in the background ignores the interrupt that ends the shell.
        command.args(["-c", "sleep 300 & echo $!; wait"]).stdout(Stdio::piped());
        let mut running = Running::start(&mut command).unwrap();
        let mut line = String::new();
        BufReader::new(running.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        assert_eq!(running.family(), [running.child.id(), grandchild]);
        assert!(resident_kib(running.child.id()) > 0);
        drop(running);
        // It may still have to be reaped by whoever adopted it.
        let is_alive =
            || fs::read_to_string(format!("/proc/{grandchild}/cmdline")).is_ok_and(|it| !it.is_empty());
        while is_alive() {
            thread::yield_now();
        }
    }

    #[test]
    fn time_on_a_processor_is_counted() {
        let before = cpu_time(std::process::id());
        while cpu_time(std::process::id()) == before {
            std::hint::black_box(family(1));
        }
    }
}
