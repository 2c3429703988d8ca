//! The images of a Docker or Podman that runs here, by their own command lines.

use crate::ImageError;
use crate::digest::Digest;
use crate::place::Repository;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a question may take; a daemon that hangs is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of an answer.
const ANSWER_MAX: u64 = 4_096;

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
    /// Writes the image as an archive.
    pub fn save(&self, to: &Path) -> Result<(), ImageError> {
        let failed = |why: String| ImageError::Registry { reference: self.name.clone(), why };
        let output = Command::new(self.engine)
            .arg("save")
            .arg("-o")
            .arg(to)
            .arg(&self.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|error| failed(format!("{} cannot be started: {error}", self.engine)))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(failed(format!("{} save failed: {said}", self.engine)))
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
