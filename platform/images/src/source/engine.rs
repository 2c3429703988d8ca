//! The images of a Docker or Podman that runs here, by their own command lines.

use crate::ImageError;
use crate::digest::Digest;
use crate::place::Repository;
use crate::store::IMAGE_BYTES_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a question may take; a daemon that hangs is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of an answer, and of what an engine says of a failure.
const ANSWER_MAX: u64 = 4_096;
/// Bytes of an archive: an image's, and what stands around its files.
const SAVED_BYTES_MAX: u64 = IMAGE_BYTES_MAX + IMAGE_BYTES_MAX / 8;
const PIECE_BYTES: usize = 256 * 1024;
/// How long an engine may give nothing of an image: some write all of it for themselves first.
const STALLED: Duration = Duration::from_secs(600);
/// After so long it is asked whether the image is still wanted.
const WATCH: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// An image that an engine has.
#[derive(Debug)]
pub(crate) struct Held {
    engine: &'static str,
    name: String,
    /// What the engine calls it, when that is a digest.
    pub id: Option<Digest>,
}

/// Looks whether an engine here has the image, by the names that people use for it.
pub(crate) fn find(repository: &Repository, written: &str) -> Option<Held> {
    let full = repository.to_string();
    ["docker", "podman"].into_iter().find_map(|engine| {
        [written, full.as_str()].into_iter().find_map(|name| {
            let id = ask(engine, &["image", "inspect", "--format", "{{.Id}}", name])?;
            let id = id.trim();
            let id = Digest::parse(id).or_else(|| Digest::from_hex(id));
            Some(Held { engine, name: name.to_owned(), id })
        })
    })
}

impl Held {
    /// Writes the image as an archive, for as long as it is wanted and the engine goes on.
    pub fn save(&self, to: &Path, wanted: &dyn Fn() -> bool) -> Result<(), ImageError> {
        let mut file = File::create(to).map_err(|error| ImageError::file(to, error))?;
        // Its end finds nobody who reads, and so it ends, too, when this process does not live to see it.
        let child = Command::new(self.engine)
            .args(["save", &self.name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.failed(&format!("cannot be started: {error}")))?;
        let mut child = Ended(child);
        let ends = child.0.stdout.take().zip(child.0.stderr.take());
        let (output, errors) = ends.ok_or_else(|| self.failed("says nothing"))?;
        let said = self.copy(output, errors, &mut file, to, wanted)?;
        match child.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(self.failed(String::from_utf8_lossy(&said).trim())),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    fn failed(&self, why: &str) -> ImageError {
        let why = format!("{} save failed: {why}", self.engine);
        ImageError::Registry { reference: self.name.clone(), why }
    }

    /// All that comes from an engine into a file; what it said besides, the beginning of it.
    fn copy(
        &self,
        output: ChildStdout,
        errors: ChildStderr,
        file: &mut File,
        to: &Path,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>, ImageError> {
        let (mut output, mut errors) = (Some(output), Some(errors));
        let (mut said, mut buffer) = (Vec::new(), vec![0; PIECE_BYTES]);
        let (mut left, mut heard_of) = (SAVED_BYTES_MAX, Instant::now());
        while output.is_some() || errors.is_some() {
            if !wanted() {
                return Err(ImageError::Unwanted);
            }
            let output_first = output.is_some();
            let open = output.iter().map(AsFd::as_fd).chain(errors.iter().map(AsFd::as_fd));
            let mut waiting: Vec<_> = open.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)).collect();
            let ready = match poll(&mut waiting, Some(&WATCH)) {
                Err(rustix::io::Errno::INTR) => 0,
                ready => ready.map_err(|error| self.failed(&io::Error::from(error).to_string()))?,
            };
            if ready == 0 {
                if heard_of.elapsed() > STALLED {
                    return Err(self.failed(&format!("nothing came for {} s", STALLED.as_secs())));
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
                let count =
                    read(&mut output, &mut buffer).map_err(|error| self.failed(&error.to_string()))?;
                left = left.checked_sub(count as u64).ok_or(ImageError::TooLarge)?;
                file.write_all(&buffer[..count]).map_err(|error| ImageError::file(to, error))?;
            }
            if of_errors {
                let count =
                    read(&mut errors, &mut buffer).map_err(|error| self.failed(&error.to_string()))?;
                let room = usize::try_from(ANSWER_MAX).unwrap_or(0).saturating_sub(said.len());
                said.extend_from_slice(&buffer[..count.min(room)]);
            }
        }
        Ok(said)
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

/// A process that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An engine's answer; `None` when it is not there, fails or takes too long.
fn ask(engine: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new(engine);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            _ => {
                drop(child.kill());
                drop(child.wait());
                tracing::warn!("{engine} does not answer; its images are not looked at");
                return None;
            }
        }
    };
    let mut text = String::new();
    child.stdout.take()?.take(ANSWER_MAX).read_to_string(&mut text).ok()?;
    status.success().then_some(text)
}
