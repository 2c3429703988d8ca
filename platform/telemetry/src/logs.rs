//! Function logs: in memory for those who follow, in one file per function for those who come later.

use crate::time::{iso_time, unix_millis};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Most bytes of one function's log kept in memory.
const MEMORY_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a log file before it becomes `NAME.log.1`, replacing the one before.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Longest line kept whole, in bytes. Source: CloudWatch Logs quotas, event size 256 KB.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// What one line costs in memory beyond its text; without it, empty lines would cost nothing and pile up.
const LINE_OVERHEAD: usize = 64;
/// How long a line may wait before it is written to its file.
const WRITE_BEHIND: Duration = Duration::from_millis(200);
/// Unwritten bytes of one function at which the writer does not wait: a function that floods its log.
const WRITE_SOON_BYTES: usize = MEMORY_BYTES_MAX / 4;
/// How long to wait before a file that could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The logs of all functions.
#[derive(Clone, Debug)]
pub struct Logs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: Option<PathBuf>,
    functions: RwLock<BTreeMap<Arc<str>, Arc<FunctionLog>>>,
    dirty: Arc<Dirty>,
}

#[derive(Debug, Default)]
struct Dirty {
    flag: AtomicBool,
    wake: Notify,
    /// A function floods its log.
    soon: Notify,
}

/// One function's log.
#[derive(Debug)]
pub struct FunctionLog {
    name: Arc<str>,
    ring: Mutex<Ring>,
    news: Notify,
    dirty: Arc<Dirty>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Bytes of lines that are not in the file yet.
    unwritten: usize,
    /// Sequence number of the next line; the first is 1.
    next: u64,
    /// Lines up to this number are in the file.
    written: u64,
    /// Lines that left memory before they were written.
    dropped: u64,
    /// The function was deleted; one of the same name takes the log over.
    gone: bool,
}

/// One line of a function's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number in this function's log, from 1 at each start.
    pub sequence: u64,
    /// When it was written, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The text, without its line end.
    pub text: Arc<str>,
}

impl Line {
    fn cost(&self) -> usize {
        self.text.len() + LINE_OVERHEAD
    }
}

impl Logs {
    /// Logs that live in memory and, with a directory, in files there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: Option<&Path>) -> io::Result<Self> {
        if let Some(directory) = directory {
            fs::create_dir_all(directory)?;
        }
        Ok(Self(Arc::new(Shared {
            directory: directory.map(Path::to_owned),
            functions: RwLock::default(),
            dirty: Arc::default(),
        })))
    }

    /// The log of `function`, made at first use.
    pub fn function(&self, function: &str) -> Arc<FunctionLog> {
        if let Some(log) = self.get(function) {
            log.lock().gone = false;
            return log;
        }
        let mut functions = self.0.functions.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let ring = Mutex::new(Ring { next: 1, ..Ring::default() });
            Arc::new(FunctionLog {
                name: function.into(),
                ring,
                news: Notify::new(),
                dirty: self.0.dirty.clone(),
            })
        };
        functions.entry(function.into()).or_insert_with(new).clone()
    }

    /// The log of `function`, if it ever wrote one.
    pub fn get(&self, function: &str) -> Option<Arc<FunctionLog>> {
        self.0.functions.read().unwrap_or_else(PoisonError::into_inner).get(function).cloned()
    }

    /// Writes behind until cancelled; a quiet platform sleeps here.
    pub async fn write_behind(self) {
        loop {
            self.0.dirty.wake.notified().await;
            tokio::select! {
                () = tokio::time::sleep(WRITE_BEHIND) => {}
                () = self.0.dirty.soon.notified() => {}
            }
            let logs = self.clone();
            // Blocking file writes stay off the runtime's threads.
            match tokio::task::spawn_blocking(move || logs.flush()).await {
                Ok(true) => {}
                Ok(false) => {
                    tokio::time::sleep(TRY_AGAIN).await;
                    self.0.dirty.mark();
                }
                Err(error) => tracing::error!(%error, "the log writer failed"),
            }
        }
    }

    /// Writes what is not yet in the files; called once more before the process ends. False when a file could not be
    /// written: its lines stay in memory, as long as there is room, and are tried again.
    pub fn flush(&self) -> bool {
        self.0.dirty.flag.store(false, Ordering::Release);
        let Some(directory) = &self.0.directory else { return true };
        let functions: Vec<_> =
            self.0.functions.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut all = true;
        for log in functions {
            let fresh = log.unwritten();
            let Some(last) = fresh.last() else {
                self.remove_gone(&log);
                continue;
            };
            match append(directory, &log.name, &fresh) {
                Ok(()) => {
                    log.written(last.sequence);
                    self.remove_gone(&log);
                }
                Err(error) => {
                    all = false;
                    tracing::warn!(function = %log.name, %error, "cannot write the log file; its lines are tried again");
                }
            }
        }
        all
    }

    /// Forgets a function that is gone once its lines are in its file.
    pub fn forget(&self, function: &str) {
        if let Some(log) = self.get(function) {
            log.lock().gone = true;
            log.dirty.mark();
        }
    }

    fn remove_gone(&self, log: &Arc<FunctionLog>) {
        if log.lock().gone {
            let mut functions = self.0.functions.write().unwrap_or_else(PoisonError::into_inner);
            functions.remove(&log.name);
        }
    }

    /// Lines that left memory before they were written, of all functions, by name.
    pub fn dropped(&self) -> Vec<(Arc<str>, u64)> {
        let functions = self.0.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.values().map(|log| (log.name.clone(), log.dropped())).collect()
    }
}

impl Dirty {
    fn mark(&self) {
        if !self.flag.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }
}

fn append(directory: &Path, name: &str, lines: &[Line]) -> io::Result<()> {
    let path = directory.join(format!("{name}.log"));
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > FILE_BYTES_MAX) {
        fs::rename(&path, directory.join(format!("{name}.log.1")))?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let before = file.metadata()?.len();
    let written = write_lines(&mut file, lines);
    if written.is_err() {
        // Half of it may be there: it would stand twice after the next try.
        let _ = file.set_len(before);
    }
    written
}

fn write_lines(file: &mut File, lines: &[Line]) -> io::Result<()> {
    let mut writer = io::BufWriter::new(file);
    // Lines come many to a millisecond.
    let (mut at_ms, mut time) = (0, iso_time(0));
    for line in lines {
        if line.at_ms != at_ms {
            (at_ms, time) = (line.at_ms, iso_time(line.at_ms));
        }
        writer.write_all(time.as_bytes())?;
        writer.write_all(b"\t")?;
        writer.write_all(line.text.as_bytes())?;
        writer.write_all(b"\n")?;
    }
    writer.flush()
}

impl FunctionLog {
    /// Adds one line; longer ones are cut at 256 KiB. Control characters other than tab become spaces, so that a
    /// function cannot forge a line or drive a terminal.
    pub fn write(&self, text: &str) {
        self.write_all([text]);
    }

    /// Adds lines with one lock and one wake-up.
    pub fn write_all<'text>(&self, texts: impl IntoIterator<Item = &'text str>) {
        let at_ms = unix_millis();
        let mut ring = self.lock();
        for text in texts {
            ring.push(at_ms, clean(text));
        }
        let flooded = ring.unwritten > WRITE_SOON_BYTES;
        drop(ring);
        self.news.notify_waiters();
        self.dirty.mark();
        if flooded {
            self.dirty.soon.notify_one();
        }
    }

    /// The lines in memory after number `after`, oldest first.
    pub fn after(&self, after: u64) -> Vec<Line> {
        let ring = self.lock();
        let first = ring.lines.partition_point(|line| line.sequence <= after);
        ring.lines.range(first..).cloned().collect()
    }

    /// Waits for a line after number `after`, at most `patience`.
    pub async fn wait(&self, after: u64, patience: Duration) -> Vec<Line> {
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let lines = self.after(after);
            if !lines.is_empty() {
                return lines;
            }
            tokio::select! {
                () = news => {}
                () = &mut deadline => return Vec::new(),
            }
        }
    }

    /// Lines that left memory before the writer saw them.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn unwritten(&self) -> Vec<Line> {
        let ring = self.lock();
        let first = ring.lines.partition_point(|line| line.sequence <= ring.written);
        ring.lines.range(first..).cloned().collect()
    }

    fn written(&self, last: u64) {
        let mut ring = self.lock();
        ring.written = last;
        let first = ring.lines.partition_point(|line| line.sequence <= last);
        ring.unwritten = ring.lines.range(first..).map(Line::cost).sum();
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, at_ms: u64, text: Arc<str>) {
        let line = Line { sequence: self.next, at_ms, text };
        self.bytes += line.cost();
        self.unwritten += line.cost();
        self.lines.push_back(line);
        self.next += 1;
        while self.bytes > MEMORY_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.cost();
            if oldest.sequence > self.written {
                self.unwritten -= oldest.cost();
                self.dropped += 1;
            }
        }
    }
}

fn clean(text: &str) -> Arc<str> {
    let mut end = text.len().min(LINE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    // Most lines are plain; bytes from 0x80 on can be part of a control character (U+0080 to U+009F).
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return text.into();
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    #[test]
    fn lines_come_back_in_order_after_a_number() {
        let logs = Logs::open(None).unwrap();
        let log = logs.function("f");
        log.write_all(["a", "b", "c"]);
        assert_eq!(texts(&log.after(0)), ["a", "b", "c"]);
        assert_eq!(texts(&log.after(2)), ["c"]);
        assert!(log.after(3).is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_was_never_written_is_counted() {
        let logs = Logs::open(None).unwrap();
        let log = logs.function("f");
        let long = "x".repeat(LINE_BYTES_MAX + 7);
        for _ in 0..8 {
            log.write(&long);
        }
        assert_eq!(log.after(0).len(), MEMORY_BYTES_MAX / (LINE_BYTES_MAX + LINE_OVERHEAD));
        assert_eq!(log.dropped(), 5);
        for _ in 0..100_000 {
            log.write("");
        }
        assert_eq!(log.after(0).len(), MEMORY_BYTES_MAX / LINE_OVERHEAD, "empty lines cost memory, too");
    }

    #[test]
    fn a_function_cannot_forge_a_line() {
        assert_eq!(&*clean("a\nREPORT\x1b[2J\tb"), "a REPORT [2J\tb");
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let directory = std::env::temp_dir().join(format!("onrush-logs-full-{}", std::process::id()));
        let logs = Logs::open(Some(&directory)).unwrap();
        // A folder stands where the file should be.
        fs::create_dir(directory.join("f.log")).unwrap();
        logs.function("f").write("kept");
        assert!(!logs.flush());
        fs::remove_dir(directory.join("f.log")).unwrap();
        assert!(logs.flush());
        let text = fs::read_to_string(directory.join("f.log")).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!(text.ends_with("\tkept\n"), "{text}");
    }

    #[test]
    fn files_hold_every_line_once() {
        let directory = std::env::temp_dir().join(format!("onrush-logs-{}", std::process::id()));
        let logs = Logs::open(Some(&directory)).unwrap();
        let log = logs.function("f");
        log.write("one");
        logs.flush();
        log.write("two");
        logs.flush();
        let text = fs::read_to_string(directory.join("f.log")).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let words: Vec<_> = text.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        assert_eq!(words, ["one", "two"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_is_woken_or_gives_up() {
        let logs = Logs::open(None).unwrap();
        let log = logs.function("f");
        assert!(log.wait(0, Duration::from_secs(5)).await.is_empty());
        let follower = {
            let log = log.clone();
            tokio::spawn(async move { log.wait(0, Duration::from_secs(5)).await })
        };
        tokio::task::yield_now().await;
        log.write("now");
        assert_eq!(texts(&follower.await.unwrap()), ["now"]);
    }
}
