//! The images of a Docker or Podman that runs here, by their own command lines.

use super::mortal::mortal;
use crate::ImageError;
use crate::digest::Digest;
use crate::place::Repository;
use crate::store::IMAGE_BYTES_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a question may take, and an end once all was said; a daemon that hangs is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer, and of what an engine says of a failure.
const ANSWER_MAX: usize = 4_096;
/// Bytes of an archive: an image's, and what stands around its files.
const SAVED_BYTES_MAX: u64 = IMAGE_BYTES_MAX + IMAGE_BYTES_MAX / 8;
const PIECE_BYTES: usize = 256 * 1024;
/// How long an engine may give nothing of an image: some write all of it for themselves first.
const STALLED: Duration = Duration::from_secs(600);
/// After so long it is asked whether the image is still wanted, and whether the engine still runs.
const WATCH: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The engines' command lines that run now. Each leads a process group of its own, because some start others.
#[derive(Debug, Default)]
pub(crate) struct Engines(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    running: Vec<Pid>,
}

/// One that runs; it ends with this, and so does what it started.
struct Running<'a> {
    engines: &'a Engines,
    child: Child,
    leader: Pid,
    ended: Option<ExitStatus>,
}

/// An image that an engine has.
#[derive(Debug)]
pub(crate) struct Held {
    engine: String,
    name: String,
    /// What the engine calls it, when that is a digest.
    pub id: Option<Digest>,
}

/// Why an engine was not heard to its end.
enum Deaf {
    /// Nobody wants to hear it any more.
    Unwanted,
    /// It said more than it may.
    TooMuch,
    /// What it said could not be written down.
    Unwritten(io::Error),
    /// It hangs.
    Hangs(Duration),
    /// The system refuses.
    Failed(io::Error),
}

impl Engines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills what runs, with all it started; nothing is run from now on.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        for leader in &state.running {
            let _ = kill_process_group(*leader, Signal::KILL);
        }
    }

    /// Looks whether an engine here has the image, by the names that people use for it.
    pub fn find(&self, repository: &Repository, written: &str) -> Option<Held> {
        let full = repository.to_string();
        ["docker", "podman"].into_iter().find_map(|engine| {
            [written, full.as_str()].into_iter().find_map(|name| {
                let id = self.ask(engine, &["image", "inspect", "--format", "{{.Id}}", name])?;
                let id = id.trim();
                let id = Digest::parse(id).or_else(|| Digest::from_hex(id));
                Some(Held { engine: engine.to_owned(), name: name.to_owned(), id })
            })
        })
    }

    /// An engine's answer; `None` when it is not there, fails or takes too long.
    fn ask(&self, engine: &str, words: &[&str]) -> Option<String> {
        let mut running = self.start(engine, words, Stdio::null()).ok()?;
        let begun = Instant::now();
        let mut answer = Vec::new();
        let is_awaited = || begun.elapsed() < PATIENCE;
        match running.hear(&mut answer, ANSWER_MAX as u64, &is_awaited) {
            Ok((status, _)) => status.success().then(|| String::from_utf8(answer).ok())?,
            Err(Deaf::Unwanted | Deaf::Hangs(_)) => {
                tracing::warn!("{engine} does not answer; its images are not looked at");
                None
            }
            Err(_) => None,
        }
    }

    /// Under the lock, so that nothing is started behind a stop's back.
    fn start(&self, engine: &str, words: &[&str], errors: Stdio) -> io::Result<Running<'_>> {
        let mut state = self.state();
        if state.stopped {
            return Err(io::Error::other("the platform is ending"));
        }
        let mut command = Command::new(engine);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let child = mortal(&mut command).spawn()?;
        let leader = Pid::from_child(&child);
        state.running.push(leader);
        Ok(Running { engines: self, child, leader, ended: None })
    }
}

impl Held {
    /// Writes the image as an archive, for as long as it is wanted and the engine goes on.
    pub fn save(&self, engines: &Engines, to: &Path, wanted: &dyn Fn() -> bool) -> Result<(), ImageError> {
        let mut file = File::create(to).map_err(|error| ImageError::file(to, error))?;
        // Its end finds nobody who reads, and so it ends, too, when this process does not live to see it.
        let mut running = engines
            .start(&self.engine, &["save", &self.name], Stdio::piped())
            .map_err(|error| self.failed(&format!("cannot be started: {error}")))?;
        match running.hear(&mut file, SAVED_BYTES_MAX, wanted) {
            Ok((status, _)) if status.success() => Ok(()),
            Ok((_, said)) => Err(self.failed(String::from_utf8_lossy(&said).trim())),
            Err(Deaf::Unwanted) => Err(ImageError::Unwanted),
            Err(Deaf::TooMuch) => Err(ImageError::TooLarge),
            Err(Deaf::Unwritten(error)) => Err(ImageError::file(to, error)),
            Err(Deaf::Hangs(long)) => Err(self.failed(&format!("nothing came for {} s", long.as_secs()))),
            Err(Deaf::Failed(error)) => Err(self.failed(&error.to_string())),
        }
    }

    fn failed(&self, why: &str) -> ImageError {
        let why = format!("{} save failed: {why}", self.engine);
        ImageError::Registry { reference: self.name.clone(), why }
    }
}

impl Running<'_> {
    /// Writes all that comes from an engine, at most `max` bytes, until it has ended; gives how, and the beginning of what it said
    /// besides. What it has left behind may hold its pipes for ever: that is not waited for.
    fn hear(
        &mut self,
        to: &mut dyn Write,
        max: u64,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(ExitStatus, Vec<u8>), Deaf> {
        let (mut output, mut errors) = (self.child.stdout.take(), self.child.stderr.take());
        let (mut said, mut buffer) = (Vec::new(), vec![0; PIECE_BYTES]);
        let (mut left, mut heard_of) = (max, Instant::now());
        loop {
            if !wanted() {
                return Err(Deaf::Unwanted);
            }
            // Asked first: what it wrote before its end is there to be read.
            let ended = self.ended().map_err(Deaf::Failed)?;
            if ended.is_some() && said.len() >= ANSWER_MAX {
                errors = None;
            }
            let output_first = output.is_some();
            let open = output.iter().map(AsFd::as_fd).chain(errors.iter().map(AsFd::as_fd));
            let mut waiting: Vec<_> = open.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)).collect();
            let patience = if ended.is_some() { AT_ONCE } else { WATCH };
            let ready = match poll(&mut waiting, Some(&patience)) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready.map_err(|error| Deaf::Failed(error.into()))?,
            };
            if ready == 0 {
                if let Some(status) = ended {
                    return Ok((status, said));
                }
                let long = if output.is_some() { STALLED } else { PATIENCE };
                if heard_of.elapsed() > long {
                    return Err(Deaf::Hangs(long));
                }
                continue;
            }
            heard_of = Instant::now();
            let is_ready = |at: usize| waiting.get(at).is_some_and(|end| !end.revents().is_empty());
            let (of_output, of_errors) = match output_first {
                true => (is_ready(0), is_ready(1)),
                false => (false, is_ready(0)),
            };
            if of_output {
                let count = read(&mut output, &mut buffer).map_err(Deaf::Failed)?;
                left = left.checked_sub(count as u64).ok_or(Deaf::TooMuch)?;
                to.write_all(&buffer[..count]).map_err(Deaf::Unwritten)?;
            }
            if of_errors {
                let count = read(&mut errors, &mut buffer).map_err(Deaf::Failed)?;
                said.extend_from_slice(&buffer[..count.min(ANSWER_MAX.saturating_sub(said.len()))]);
            }
        }
    }

    /// How it has ended; `None` while it runs.
    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            // Under the lock: a stop must not kill a group whose number is anybody's.
            let mut state = self.engines.state();
            self.ended = self.child.try_wait()?;
            if self.ended.is_some() {
                state.running.retain(|running| *running != self.leader);
            }
        }
        Ok(self.ended)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.engines.state();
        if self.ended.is_none() {
            let _ = kill_process_group(self.leader, Signal::KILL);
            let _ = self.child.wait();
            state.running.retain(|running| *running != self.leader);
        }
    }
}

/// Reads once; what has ended is gone.
fn read<R: io::Read>(from: &mut Option<R>, buffer: &mut [u8]) -> io::Result<usize> {
    let Some(reader) = from else { return Ok(0) };
    let count = match reader.read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
        count => count?,
    };
    if count == 0 {
        *from = None;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::thread;

    /// A script in an engine's place. Another process writes it: whatever a test beside this one starts holds our descriptors
    /// until it executes, and what is open for writing cannot be executed.
    fn engine(folder: &Path, script: &str) -> Held {
        let path = folder.join("engine");
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
        assert!(Command::new("sh").args(["-c", write]).arg(&path).arg(script).status().unwrap().success());
        Held { engine: path.display().to_string(), name: "cart:v1".to_owned(), id: None }
    }

    /// The path of a pipe's writing end, for scripts: who has it open is alive.
    fn path_of(pipe: &io::PipeWriter) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), pipe.as_raw_fd())
    }

    #[test]
    fn what_a_helper_keeps_open_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (to, pid) = (folder.path().join("cart.tar"), folder.path().join("pid"));
        let held = engine(
            folder.path(),
            &format!("sleep 600 & echo $! > {}; echo bytes; echo words >&2", pid.display()),
        );
        let begun = Instant::now();
        let saved = held.save(&Engines::default(), &to, &|| begun.elapsed() < PATIENCE * 4);
        let asked = Engines::default().ask(&held.engine, &[]);
        for helper in std::fs::read_to_string(&pid).unwrap().lines() {
            let helper = Pid::from_raw(helper.parse().unwrap()).unwrap();
            rustix::process::kill_process(helper, Signal::KILL).unwrap();
        }
        saved.unwrap();
        assert_eq!(std::fs::read_to_string(to).unwrap(), "bytes\n");
        assert_eq!(asked.as_deref(), Some("bytes\n"));
    }

    #[test]
    fn an_engine_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let held = engine(folder.path(), "echo no such image >&2; exit 1");
        let error = held.save(&Engines::default(), &folder.path().join("cart.tar"), &|| true).unwrap_err();
        assert!(error.to_string().ends_with("save failed: no such image"), "{error}");
    }

    #[test]
    fn an_engine_that_closes_its_pipes_and_hangs_is_ended_when_nobody_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut alive, pipe) = io::pipe().unwrap();
        let held = engine(folder.path(), &format!("exec >{} 2>&1; echo .; exec sleep 600", path_of(&pipe)));
        let wanted = std::sync::atomic::AtomicBool::new(true);
        let is_wanted = || wanted.load(std::sync::atomic::Ordering::Relaxed);
        let engines = Engines::default();
        thread::scope(|scope| {
            let saved = scope.spawn(|| held.save(&engines, &folder.path().join("cart.tar"), &is_wanted));
            alive.read_exact(&mut [0; 2]).unwrap();
            drop(pipe);
            wanted.store(false, std::sync::atomic::Ordering::Relaxed);
            assert!(matches!(saved.join().unwrap(), Err(ImageError::Unwanted)));
        });
        assert_eq!(alive.read(&mut [0]).unwrap(), 0, "it is gone");
    }

    #[test]
    fn a_stop_ends_an_engine_with_all_it_started_and_lets_none_begin() {
        let folder = tempfile::tempdir().unwrap();
        let (mut alive, pipe) = io::pipe().unwrap();
        let held = engine(folder.path(), &format!("exec 3>{}; sleep 600 & echo . >&3; wait", path_of(&pipe)));
        let (engines, to) = (Engines::default(), folder.path().join("cart.tar"));
        thread::scope(|scope| {
            let saved = scope.spawn(|| held.save(&engines, &to, &|| true));
            alive.read_exact(&mut [0; 2]).unwrap();
            drop(pipe);
            engines.stop();
            assert!(saved.join().unwrap().is_err());
        });
        assert_eq!(alive.read(&mut [0]).unwrap(), 0, "it is gone, and its child");
        let after = held.save(&engines, &to, &|| true).unwrap_err();
        assert!(after.to_string().contains("the platform is ending"), "{after}");
    }
}
