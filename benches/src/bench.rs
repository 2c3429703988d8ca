//! What every row needs: where things are, how long to measure, what was found.

use crate::figure::Figure;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// One run of the benches.
#[derive(Debug)]
pub struct Bench {
    /// The repository.
    pub root: PathBuf,
    /// Scratch; the caller removes it.
    work: PathBuf,
    /// Whether the whole run should take minutes rather than a quarter of an hour.
    pub is_short: bool,
    folders: AtomicU32,
}

impl Bench {
    pub fn new(root: &Path, work: &Path, is_short: bool) -> Result<Self> {
        let root = fs::canonicalize(root).with_context(|| root.display().to_string())?;
        let work = fs::canonicalize(work).with_context(|| work.display().to_string())?;
        Ok(Self { root, work, is_short, folders: AtomicU32::new(0) })
    }

    /// How often each measurement is made; ours and the other's take turns.
    pub fn rounds(&self) -> usize {
        if self.is_short { 3 } else { 7 }
    }

    /// How long one load lasts.
    pub fn load_length(&self) -> Duration {
        Duration::from_secs(if self.is_short { 1 } else { 3 })
    }

    /// The first in a short run, the second otherwise.
    pub fn pick<T>(&self, short: T, full: T) -> T {
        if self.is_short { short } else { full }
    }

    /// A new empty folder.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        let folder = self.work.join(format!("{number}-{name}"));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    /// A release build of ours: `onrush`, `bare-hyper`.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        existing(&self.root.join("target/release").join(name), "scripts/figures builds it")
    }

    /// A release build of an example of one of our crates.
    pub fn example(&self, name: &str) -> Result<PathBuf> {
        self.program(&format!("examples/{name}"))
    }

    /// A folder with the Rust echo function, built, as `bootstrap`.
    pub fn echo_function(&self) -> Result<PathBuf> {
        self.built_function("echo")
    }

    /// A folder with one of the tests' Rust functions, built, as `bootstrap`: `echo`, `streams`, `rogue`.
    pub fn built_function(&self, name: &str) -> Result<PathBuf> {
        let built = self.root.join("target/test-functions/build/release").join(name);
        let folder = self.folder(name)?;
        fs::copy(existing(&built, "scripts/figures builds it")?, folder.join("bootstrap"))?;
        Ok(folder)
    }

    /// A folder with a copy of one of the handlers, so that nothing is written beside the original.
    pub fn handler(&self, language: &str) -> Result<PathBuf> {
        let folder = self.folder(language)?;
        let source = self.root.join("benches/handlers").join(language);
        for entry in fs::read_dir(&source).with_context(|| source.display().to_string())? {
            let entry = entry?;
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        Ok(folder)
    }

    /// What a peer's installation holds, if it was installed.
    pub fn peer(&self, path: &str) -> Option<PathBuf> {
        let path = self.root.join("target/peers").join(path);
        path.exists().then_some(path)
    }
}

fn existing(path: &Path, hint: &str) -> Result<PathBuf> {
    if !path.exists() {
        bail!("{} is not there; {hint}", path.display());
    }
    Ok(path.to_owned())
}

/// What has been found so far; each figure is printed as soon as it is there.
#[derive(Debug, Default)]
pub struct Board {
    pub figures: Vec<Figure>,
    /// Rows that did not work at all.
    pub broken: usize,
}

impl Board {
    pub fn add(&mut self, figure: Figure) {
        println!("{figure}");
        self.figures.push(figure);
    }

    /// Something is not there on this machine; no failure.
    pub fn skip(&self, name: &str, reason: &str) {
        println!("SKIPPED {name}: {reason}");
    }

    pub fn broke(&mut self, name: &str, error: &anyhow::Error) {
        println!("BROKEN   {name}: {error:#}");
        self.broken += 1;
    }
}

/// How busy the machine is, for the reader: `0.35 0.34 0.28`.
pub fn machine_load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
