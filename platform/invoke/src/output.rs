//! What a function and its extensions print, and what the platform says between: read from pipes, cut into lines, kept in
//! the function's log, and given to those who subscribed to it.

use control::{LogFormat, Logging};
use runtime_api::telemetry::Telemetry;
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use telemetry::{FunctionLog, Level, PlatformEvent, unix_millis};
use tokio::net::unix::pipe::Receiver;

/// Longest line before it is cut. Source: CloudWatch Logs quotas, event size 256 KB.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Most bytes followed in one go before others get their turn: a function that floods its log is one of many, and shares
/// its reactor with invocations that take less than a millisecond.
const FOLLOW_BYTES_MAX: usize = 2 * READ_BYTES;
/// Most bytes read before an invocation's log is read: a pipe holds at most this much (Linux, /proc/sys/fs/pipe-max-size),
/// and whoever fills it meanwhile is not waited for.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// What `LogType: Tail` returns. Source: Lambda API reference, Invoke, LogResult: the last 4 KB.
const TAIL_BYTES: usize = 4 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The form of a function's log. Source: Lambda Developer Guide, "Configuring advanced logging controls", published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogStyle {
    /// Plain lines, all of them.
    Text,
    /// JSON objects of the platform's, and lines of the function's, both from a level on.
    Json {
        /// Of the function's lines.
        application: Level,
        /// Of the platform's.
        system: Level,
    },
}

impl LogStyle {
    pub(crate) fn of(logging: &Logging) -> Self {
        let level = |name: &Option<String>| name.as_deref().and_then(Level::parse).unwrap_or(Level::Info);
        match logging.format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json {
                application: level(&logging.application_level),
                system: level(&logging.system_level),
            },
        }
    }

    /// What the runtime is told, to filter by itself; `None` for plain text.
    pub(crate) fn level_name(self) -> Option<&'static str> {
        let Self::Json { application, .. } = self else { return None };
        Some(match application {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        })
    }

    /// The lines of the log for what the platform says.
    pub(crate) fn lines(self, events: &[PlatformEvent<'_>]) -> Vec<String> {
        match self {
            Self::Text => events.iter().filter_map(PlatformEvent::line).collect(),
            Self::Json { system, .. } => {
                let now = unix_millis();
                let wanted = events.iter().filter(|event| event.level() >= system);
                wanted.filter_map(|event| event.json_line(now)).collect()
            }
        }
    }

    /// Whether a line that the function printed is kept.
    fn keeps(self, line: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Json { application, .. } => Level::of_line(line) >= application,
        }
    }
}

/// Who says a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Platform,
    Function,
    Extension,
}

/// One process life's output.
#[derive(Debug)]
pub(crate) struct Output {
    pipe: Receiver,
    log: Arc<FunctionLog>,
    style: LogStyle,
    telemetry: Arc<Telemetry>,
    /// The function's, beside whose lines those of this pipe, an extension's, stand.
    beside: Option<Arc<Output>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The line that has no end yet.
    partial: Vec<u8>,
    /// The last bytes of this invocation's log, if they are wanted.
    tail: Option<Vec<u8>>,
    closed: bool,
}

impl Output {
    /// Reads from the pipe into `log`.
    pub(crate) fn new(
        pipe: OwnedFd,
        log: Arc<FunctionLog>,
        style: LogStyle,
        telemetry: Arc<Telemetry>,
    ) -> io::Result<Arc<Self>> {
        let pipe = Receiver::from_owned_fd(pipe)?;
        Ok(Arc::new(Self { pipe, log, style, telemetry, beside: None, state: Mutex::default() }))
    }

    /// The same for the pipe of an extension beside the function.
    pub(crate) fn beside(self: &Arc<Self>, pipe: OwnedFd) -> io::Result<Arc<Self>> {
        let pipe = Receiver::from_owned_fd(pipe)?;
        let (log, telemetry) = (self.log.clone(), self.telemetry.clone());
        let beside = Some(self.clone());
        Ok(Arc::new(Self { pipe, log, style: self.style, telemetry, beside, state: Mutex::default() }))
    }

    /// Who listens to what is said.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Whether anybody wants more than the lines of a plain log.
    pub(crate) fn is_detailed(&self) -> bool {
        self.style != LogStyle::Text || self.telemetry.is_listening()
    }

    /// Reads until the other end is closed.
    pub(crate) async fn follow(self: Arc<Self>) {
        while self.pipe.readable().await.is_ok() {
            // `try_read` also tells the reactor when the pipe is empty.
            match self.read(FOLLOW_BYTES_MAX, |buffer| self.pipe.try_read(buffer)) {
                Drained::Empty => {}
                Drained::More => tokio::task::yield_now().await,
                Drained::Closed => return,
            }
        }
    }

    /// Reads what is there now, without waiting: called before an invocation's log is read.
    pub(crate) fn drain(&self) -> Drained {
        // Past the reactor, which may not yet have heard of the last bytes.
        self.read(DRAIN_BYTES_MAX, |buffer| rustix::io::read(&self.pipe, buffer).map_err(io::Error::from))
    }

    fn read(&self, limit: usize, mut read_some: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Drained {
        let mut state = self.lock();
        if state.closed {
            return Drained::Closed;
        }
        BUFFER.with_borrow_mut(|buffer| self.read_into(limit, buffer, &mut state, &mut read_some))
    }

    fn read_into(
        &self,
        limit: usize,
        buffer: &mut [u8],
        state: &mut State,
        read_some: &mut impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Drained {
        let mut read = 0;
        while read < limit {
            match read_some(buffer) {
                Ok(0) => {
                    state.closed = true;
                    let rest = std::mem::take(&mut state.partial);
                    if !rest.is_empty() {
                        self.keep(state, &[&rest]);
                    }
                    return Drained::Closed;
                }
                Ok(count) => {
                    read += count;
                    self.take(state, &buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Drained::Empty,
                Err(error) => {
                    tracing::warn!(%error, "cannot read a function's output");
                    state.closed = true;
                    return Drained::Closed;
                }
            }
        }
        Drained::More
    }

    /// Says what the platform has to, such as START and REPORT, in its place among the function's lines.
    pub(crate) fn platform(&self, events: &[PlatformEvent<'_>]) {
        let lines = self.style.lines(events);
        let mut state = self.lock();
        let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        self.write(&mut state, &bytes, Source::Platform);
        // Inside the lock, so that subscribers get all in the log's order.
        self.telemetry.platform(events);
    }

    /// An invocation is over: what it printed without a line end is a line all the same, and its own.
    pub(crate) fn end_line(&self) {
        let mut state = self.lock();
        let rest = std::mem::take(&mut state.partial);
        if !rest.is_empty() {
            self.keep(&mut state, &[&rest]);
        }
    }

    /// A new invocation begins, and somebody wants the end of its log, or nobody does.
    pub(crate) fn begin(&self, tail: bool) {
        self.lock().tail = tail.then(Vec::new);
    }

    /// The end of this invocation's log.
    pub(crate) fn tail(&self) -> Vec<u8> {
        let tail = self.lock().tail.clone().unwrap_or_default();
        tail[tail.len().saturating_sub(TAIL_BYTES)..].to_vec()
    }

    fn take(&self, state: &mut State, bytes: &[u8]) {
        let mut rest = bytes;
        let mut partial = std::mem::take(&mut state.partial);
        let mut lines = Vec::new();
        let mut first = None;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if first.is_none() && !partial.is_empty() {
                partial.extend_from_slice(line);
                first = Some(std::mem::take(&mut partial));
            } else {
                lines.push(line);
            }
        }
        if let Some(first) = &first {
            lines.insert(0, first);
        }
        self.keep(state, &lines);
        partial.extend_from_slice(rest);
        if partial.len() > LINE_BYTES_MAX {
            self.keep(state, &[&partial]);
            partial.clear();
        }
        state.partial = partial;
    }

    /// Lines from this pipe.
    fn keep(&self, state: &mut State, lines: &[&[u8]]) {
        match &self.beside {
            None => self.write(state, lines, Source::Function),
            Some(function) => function.write(&mut function.lock(), lines, Source::Extension),
        }
    }

    fn write(&self, state: &mut State, lines: &[&[u8]], source: Source) {
        if lines.is_empty() {
            return;
        }
        // A carriage return is a line end, too: Python's client puts them between the lines of a traceback.
        let lines = lines
            .iter()
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .flat_map(|line| line.split(|byte| *byte == b'\r'));
        if source != Source::Platform && self.is_detailed() {
            return self.write_heard(state, lines, source);
        }
        self.write_plain(state, lines);
    }

    /// Lines that may be filtered, and that somebody may listen to.
    fn write_heard<'line>(
        &self,
        state: &mut State,
        lines: impl Iterator<Item = &'line [u8]>,
        source: Source,
    ) {
        let mut texts: Vec<_> = lines.map(String::from_utf8_lossy).collect();
        if source == Source::Function {
            texts.retain(|text| self.style.keeps(text));
            self.telemetry.function(texts.iter().map(AsRef::as_ref), self.style != LogStyle::Text);
        } else {
            self.telemetry.extension(texts.iter().map(AsRef::as_ref));
        }
        self.write_plain(state, texts.iter().map(|text| text.as_bytes()));
    }

    fn write_plain<'line>(&self, state: &mut State, lines: impl Iterator<Item = &'line [u8]> + Clone) {
        if let Some(tail) = &mut state.tail {
            for line in lines.clone() {
                tail.extend_from_slice(&line[line.len().saturating_sub(TAIL_BYTES)..]);
                tail.push(b'\n');
            }
            if tail.len() > 4 * TAIL_BYTES {
                let surplus = tail.len() - TAIL_BYTES;
                tail.drain(..surplus);
            }
        }
        let texts: Vec<_> = lines.map(String::from_utf8_lossy).collect();
        self.log.write_all(texts.iter().map(AsRef::as_ref));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the pipe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Nothing is left for now.
    Empty,
    /// There may be more; others first.
    More,
    /// The writers are gone.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use telemetry::Logs;

    fn pipe() -> (OwnedFd, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        (reader.into(), writer)
    }

    #[tokio::test]
    async fn lines_are_joined_over_reads_and_the_rest_comes_at_the_end() {
        let log = Logs::open(None).unwrap().function("f");
        let (reader, mut writer) = pipe();
        let output = Output::new(reader, log.clone(), LogStyle::Text, Arc::default()).unwrap();
        writer.write_all(b"one\ntw").unwrap();
        assert_eq!(output.drain(), Drained::Empty);
        writer.write_all(b"o\r\nunended").unwrap();
        assert_eq!(output.drain(), Drained::Empty);
        output.end_line();
        output.end_line();
        writer.write_all(b"three\rfour").unwrap();
        assert_eq!(output.drain(), Drained::Empty);
        drop(writer);
        assert_eq!(output.drain(), Drained::Closed);
        let texts: Vec<_> = log.after(0).iter().map(|line| line.text.to_string()).collect();
        assert_eq!(texts, ["one", "two", "unended", "three", "four"]);
    }

    #[tokio::test]
    async fn the_tail_holds_the_last_four_kilobytes() {
        let log = Logs::open(None).unwrap().function("f");
        let (reader, _writer) = pipe();
        let output = Output::new(reader, log, LogStyle::Text, Arc::default()).unwrap();
        output.platform(&[PlatformEvent::Fault("before")]);
        output.begin(true);
        let line = "x".repeat(1_000);
        for _ in 0..50 {
            output.platform(&[PlatformEvent::Fault(&line)]);
        }
        output.platform(&[PlatformEvent::Fault("REPORT")]);
        let tail = String::from_utf8(output.tail()).unwrap();
        assert_eq!(tail.len(), TAIL_BYTES);
        assert!(tail.ends_with("REPORT\n") && !tail.contains("before"));
    }

    #[tokio::test]
    async fn lines_of_extensions_come_whole_however_they_are_written() {
        let log = Logs::open(None).unwrap().function("f");
        let ((reader, _writer), (one, mut first), (other, mut second)) = (pipe(), pipe(), pipe());
        let output = Output::new(reader, log.clone(), LogStyle::Text, Arc::default()).unwrap();
        let outputs = [output.beside(one).unwrap(), output.beside(other).unwrap()];
        for (piece, end) in [("first ", "second "), ("goes ", "goes "), ("on\n", "on")] {
            first.write_all(piece.as_bytes()).unwrap();
            second.write_all(end.as_bytes()).unwrap();
            assert!(outputs.iter().all(|output| output.drain() == Drained::Empty));
        }
        outputs.iter().for_each(|output| output.end_line());
        let texts: Vec<_> = log.after(0).iter().map(|line| line.text.to_string()).collect();
        assert_eq!(texts, ["first goes on", "second goes on"]);
    }

    #[tokio::test]
    async fn a_log_in_json_is_filtered_by_level_and_extensions_are_not() {
        let log = Logs::open(None).unwrap().function("f");
        let style = LogStyle::Json { application: Level::Warn, system: Level::Info };
        let ((reader, mut writer), (beside, mut extension)) = (pipe(), pipe());
        let output = Output::new(reader, log.clone(), style, Arc::default()).unwrap();
        let extensions = output.beside(beside).unwrap();
        output.platform(&[
            PlatformEvent::Start { request_id: "id", version: "1", trace_id: None },
            PlatformEvent::End { request_id: "id" },
        ]);
        writer.write_all(b"{\"level\":\"ERROR\"}\n{\"level\":\"INFO\"}\nplain\n").unwrap();
        extension.write_all(b"watching\n").unwrap();
        output.drain();
        extensions.drain();
        let texts: Vec<_> = log.after(0).iter().map(|line| line.text.to_string()).collect();
        assert_eq!(texts[1..], ["{\"level\":\"ERROR\"}", "watching"]);
        assert!(texts[0].contains(r#""type":"platform.start""#), "{texts:?}");
    }

    #[test]
    fn levels_of_the_configuration_have_their_defaults() {
        let mut logging = Logging { format: LogFormat::Json, ..Logging::default() };
        assert_eq!(LogStyle::of(&logging).level_name(), Some("INFO"));
        logging.application_level = Some("TRACE".into());
        logging.system_level = Some("WARN".into());
        assert_eq!(LogStyle::of(&logging), LogStyle::Json { application: Level::Trace, system: Level::Warn });
        assert_eq!(LogStyle::of(&Logging::default()).level_name(), None);
    }
}
