//! Runs pip and npm, bounded in time and with their complaint, and cargo: none of them past the end of who asked.

use std::{
    io::{self, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long one pip or npm may take before it is killed: a slow line and 40 MB.
const INSTALL_MAX: Duration = Duration::from_secs(300);
/// How often it is said that one still runs.
const STILL_RUNS: Duration = Duration::from_secs(30);
/// How often a running installer is looked at.
const INSTALL_POLL: Duration = Duration::from_millis(20);
/// What is kept of an installer's complaints.
const COMPLAINT_BYTES_MAX: u64 = 64 * 1024;
/// Characters of an installer's reason that are passed on: pip lists every file that it could not copy on one line.
const REASON_CHARACTERS_MAX: usize = 400;
/// What a full disk is called by the system, in whatever pip, npm and uv say around it.
const DISK_FULL: [&str; 4] =
    ["No space left on device", "no space left on device", "ENOSPC", "Disk quota exceeded"];
/// What follows the data directory in the path of a package that is being installed.
const STAGED: &str = "/runtimes/.staging-";

/// The installers that run now. Each leads a process group of its own, because pip and npm start others.
#[derive(Debug, Default)]
pub(crate) struct Installers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    running: Vec<Pid>,
}

impl Installers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the end was announced.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Kills what runs, with all it started; nothing is run from now on.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for leader in state.running.drain(..) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    /// Runs an installer to its end or to [`INSTALL_MAX`]; the error is its complaint in one line.
    pub(crate) fn run(&self, command: &mut Command, progress: &dyn Fn(&str)) -> Result<(), String> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let (mut child, leader) = self.start(command).map_err(|error| format!("{program}: {error}"))?;
        let complaints = child.stderr.take().map(|stderr| {
            thread::spawn(move || {
                let mut text = Vec::new();
                let mut stderr = stderr;
                // Beyond the bound the rest is drained, so that the installer never blocks on a full pipe.
                let kept = stderr.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut text);
                let drained = io::copy(&mut stderr, &mut io::sink());
                if kept.is_ok() && drained.is_ok() { text } else { Vec::new() }
            })
        });
        let still_runs = |so_far: Duration| {
            let (so_far, most) = (so_far.as_secs(), INSTALL_MAX.as_secs());
            progress(&format!("{program} still runs after {so_far} s; it has {most} s"));
        };
        let status = wait_at_most(&mut child, leader, (INSTALL_MAX, STILL_RUNS), &still_runs);
        self.ended(leader);
        let status = status.map_err(|error| format!("{program}: {error}"))?;
        let complaints = complaints.and_then(|thread| thread.join().ok()).unwrap_or_default();
        match status {
            None => Err(format!("{program} took longer than {} s", INSTALL_MAX.as_secs())),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(reason(&String::from_utf8_lossy(&complaints))
                .unwrap_or_else(|| format!("{program} ended with {status}"))),
        }
    }

    /// Starts a program that a stop kills with all it started, until it is said to have ended. Under the lock, so that none is
    /// started behind a stop's back.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<(Child, Pid)> {
        let mut state = self.state();
        if state.stopped {
            return Err(io::Error::other("not started: the platform is ending"));
        }
        // The terminal is not its group's: a question there, git's for a password or ssh's for a passphrase or whether a host
        // is known, would stop it for ever. ssh asks a program in its place, which says no unless the user has one.
        command.process_group(0).env("GIT_TERMINAL_PROMPT", "0").env("SSH_ASKPASS_REQUIRE", "force");
        if std::env::var_os("SSH_ASKPASS").is_none() {
            command.env("SSH_ASKPASS", "false");
        }
        let child = command.spawn()?;
        let leader = Pid::from_child(&child);
        state.running.push(leader);
        Ok((child, leader))
    }

    /// What was started was waited for.
    pub(crate) fn ended(&self, leader: Pid) {
        self.state().running.retain(|running| *running != leader);
    }
}

/// Waits until `limit`, and tells every so often how long it has been.
fn wait_at_most(
    child: &mut Child,
    leader: Pid,
    (limit, every): (Duration, Duration),
    still_runs: &dyn Fn(Duration),
) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    let mut told = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            let _ = kill_process_group(leader, Signal::KILL);
            child.wait()?;
            return Ok(None);
        }
        if started.elapsed() >= told + every {
            told += every;
            still_runs(told);
        }
        thread::sleep(INSTALL_POLL);
    }
}

/// Why an installer failed, in one line of bounded length; a full disk is told before all else, wherever it is said.
fn reason(text: &str) -> Option<String> {
    if DISK_FULL.iter().any(|words| text.contains(words)) {
        return Some(disk_full(text));
    }
    complaint(text).map(|line| bounded(&line))
}

/// Packages are made in the data directory's shelf, after installers had them in `TMPDIR`: the file that did not fit tells
/// which of both was full.
fn disk_full(text: &str) -> String {
    let place = text.split_once(STAGED).and_then(|(before, _)| before.rsplit(['\'', '"', '`', ' ']).next());
    match place {
        Some(data_dir) => {
            format!(
                "no space left in the data directory {data_dir}: free some, or name another with --data-dir"
            )
        }
        None => "no space left in the data directory or in TMPDIR: free some, or name others".to_owned(),
    }
}

fn bounded(line: &str) -> String {
    match line.char_indices().nth(REASON_CHARACTERS_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

/// npm's sentence, the first of its lines that is none of its figures; else the last line that says `error` (pip prefixes
/// its own), else the last line at all.
fn complaint(text: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.to_ascii_lowercase().contains("error");
    let of_npm = lines().find(|line| npm_says(line).is_some_and(|words| !words.is_empty()));
    of_npm.or_else(|| lines().rfind(is_error)).or_else(|| lines().next_back()).map(str::to_owned)
}

/// What npm says in one of its lines; nothing where it is a code, a place, or where to read on.
fn npm_says(line: &str) -> Option<&str> {
    const ASIDE: [&str; 12] = [
        "code ",
        "errno ",
        "syscall ",
        "path ",
        "dest ",
        "signal ",
        "command ",
        "cwd ",
        "at ",
        "A complete log",
        "Log files were not",
        "You can rerun",
    ];
    let words = ["npm error", "npm ERR!"].iter().find_map(|mark| line.strip_prefix(mark))?.trim();
    Some(if ASIDE.iter().any(|aside| words.starts_with(aside)) { "" } else { words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_npm_says_is_the_reason_not_how_it_ends() {
        let npm = "npm error code EACCES\nnpm error syscall mkdir\nnpm error path /nowhere\nnpm error errno EACCES\n\
                   npm error\nnpm error EACCES: permission denied, mkdir '/nowhere'\nnpm error     at async x.js:1\n\
                   npm error Log files were not written due to an error writing to the directory: /nowhere/_logs\n\
                   npm error You can rerun the command with `--loglevel=verbose` to see the logs\n";
        let reason = complaint(npm).unwrap();
        assert_eq!(reason, "npm error EACCES: permission denied, mkdir '/nowhere'");
        let older = "npm ERR! code ETARGET\nnpm ERR! notarget No matching version found for x@9.\nnpm ERR! A complete log \
                     of this run can be found in: /x\n";
        assert_eq!(complaint(older).unwrap(), "npm ERR! notarget No matching version found for x@9.");
        assert_eq!(complaint("npm error code E404\n").unwrap(), "npm error code E404");
    }

    #[test]
    fn a_full_disk_is_told_in_a_line_however_many_files_did_not_fit() {
        let file = "('/tmp/pip-target-x/boto3', '/var/shop/.onrush/runtimes/.staging-python3.12/boto3', \"[Errno 28] No \
                    space left on device: '/tmp/pip-target-x/boto3'\"), ";
        let pip = format!("Traceback:\nshutil.Error: [{}]\n", file.repeat(500));
        let said = "no space left in the data directory /var/shop/.onrush: free some, or name another with --data-dir";
        assert_eq!(reason(&pip).unwrap(), said);
        let npm = "npm error code ENOSPC\nnpm error syscall write\nnpm error nospc ENOSPC: no space left on device, write\n";
        assert!(reason(npm).unwrap().starts_with("no space left in the data directory or in TMPDIR: "));
    }

    #[test]
    fn a_reason_is_of_bounded_length() {
        let long = format!("ERROR: {}\n", "ä".repeat(5000));
        let said = reason(&long).unwrap();
        assert_eq!((said.chars().count(), said.ends_with(" …")), (REASON_CHARACTERS_MAX + 2, true));
        assert_eq!(reason("ERROR: short\n").as_deref(), Some("ERROR: short"));
    }

    #[test]
    fn an_installers_last_error_is_the_reason() {
        let noisy = "WARNING: x\nERROR: Could not find a version\nnotice: y\n";
        assert_eq!(complaint(noisy).as_deref(), Some("ERROR: Could not find a version"));
        assert_eq!(complaint("a\nb\n\n").as_deref(), Some("b"));
        assert_eq!(complaint(""), None);
        let installers = Installers::default();
        let failed =
            installers.run(Command::new("sh").args(["-c", "echo 'npm error dead' >&2; exit 3"]), &|_| {});
        assert_eq!(failed, Err("npm error dead".to_owned()));
        assert_eq!(
            installers.run(Command::new("sh").args(["-c", "head -c 300000 /dev/zero >&2"]), &|_| {}),
            Ok(())
        );
        let asks = installers.run(
            Command::new("sh").args([
                "-c",
                "echo \"asks $GIT_TERMINAL_PROMPT $SSH_ASKPASS_REQUIRE ${SSH_ASKPASS:?}\" >&2; exit 1",
            ]),
            &|_| {},
        );
        assert!(
            asks.is_err_and(|said| said.starts_with("asks 0 force ")),
            "neither git nor ssh asks at the terminal"
        );
    }

    #[test]
    fn what_takes_long_is_said_to_run_until_it_has_no_more_time() {
        let installers = Installers::default();
        let (mut child, leader) = installers.start(Command::new("sleep").arg("60")).unwrap();
        let said = std::cell::RefCell::new(Vec::new());
        let [limit, every] = [400, 80].map(Duration::from_millis);
        let ended =
            wait_at_most(&mut child, leader, (limit, every), &|so_far| said.borrow_mut().push(so_far));
        assert!(ended.unwrap().is_none());
        // However late it is looked: each is told once, in order.
        let said = said.into_inner();
        let in_turn = said.iter().zip(1_u32..).all(|(told, turn)| *told == every * turn);
        assert!(in_turn && !said.is_empty() && said.len() < 5, "{said:?}");
    }

    #[test]
    fn a_stop_ends_an_installer_with_all_it_started_and_lets_none_begin() {
        let installers = Installers::default();
        let (began, begun) = mpsc::channel();
        thread::scope(|scope| {
            let running = scope.spawn(|| {
                // The child of the shell holds standard error too: were it left alive, this would wait for it.
                let (read, write) = io::pipe().unwrap();
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(&write);
                let script =
                    format!("sleep 600 & echo x >/proc/{}/fd/{descriptor}; wait", std::process::id());
                let mut shell = Command::new("sh");
                shell.args(["-c", &script]);
                began.send(read).unwrap();
                let ended = installers.run(&mut shell, &|_| {});
                drop(write);
                ended
            });
            let mut read = begun.recv().unwrap();
            read.read_exact(&mut [0]).unwrap();
            installers.stop();
            assert!(running.join().unwrap().is_err());
        });
        let after = installers.run(&mut Command::new("true"), &|_| {});
        assert!(after.is_err_and(|reason| reason.contains("ending")));
    }
}
