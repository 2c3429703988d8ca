//! What the platform says on standard error: written by a thread of its own, so that nobody waits for whoever reads it.
//!
//! A terminal that was stopped, or a pipe that nobody empties, must stop no invocation. What does not fit into the queue is
//! lost, and counted; the next message that is taken says how many were.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// What a message costs beyond its text.
const MESSAGE_OVERHEAD: usize = 64;

static MESSAGES: Messages = Messages::new();

/// The process's messages. Written at once, by whoever has one, until [`Messages::start`].
pub fn messages() -> &'static Messages {
    &MESSAGES
}

/// A queue before a writer that may stand still.
#[derive(Debug)]
pub struct Messages {
    state: Mutex<State>,
    /// There is something to write.
    news: Condvar,
    /// Everything is written.
    rest: Condvar,
}

#[derive(Debug)]
struct State {
    is_started: bool,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
    /// Messages lost since the last that was taken.
    lost_now: u64,
    lost: u64,
}

impl Messages {
    const fn new() -> Self {
        let state = State {
            is_started: false,
            waiting: VecDeque::new(),
            bytes: 0,
            is_writing: false,
            lost_now: 0,
            lost: 0,
        };
        Self { state: Mutex::new(state), news: Condvar::new(), rest: Condvar::new() }
    }

    /// From now on a thread writes. To be called after the last fork that is no exec: a child has no such thread. Where
    /// there can be no thread, everything stays as it is.
    pub fn start(&'static self) {
        // Not `std::io::stderr()`, whose lock would be held while the other end stands still.
        let Ok(own) = io::stderr().as_fd().try_clone_to_owned() else { return };
        let mut file = File::from(own);
        self.lock().is_started = true;
        let started =
            std::thread::Builder::new().name("messages".to_owned()).spawn(move || self.write(&mut file));
        if started.is_err() {
            self.lock().is_started = false;
        }
    }

    /// Says one message, whole or not at all; it ends its own line. Never waits once [`Messages::start`] was called.
    pub fn say(&self, message: &[u8]) {
        let mut state = self.lock();
        if !state.is_started {
            drop(state);
            let _ = io::stderr().write_all(message);
            return;
        }
        state.take(message);
        drop(state);
        self.news.notify_one();
    }

    /// How many messages were lost because nobody read them.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Waits until everything is written, at most so long.
    pub fn flush(&self, patience: Duration) {
        let state = self.lock();
        let busy = |state: &mut State| state.is_started && (state.is_writing || !state.waiting.is_empty());
        drop(self.rest.wait_timeout_while(state, patience, busy));
    }

    fn write(&self, to: &mut impl Write) {
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            self.rest.notify_all();
            let nothing = |state: &mut State| state.waiting.is_empty();
            state = self.news.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
            let Some(message) = state.waiting.pop_front() else { continue };
            state.bytes -= cost(&message);
            state.is_writing = true;
            drop(state);
            // A reader that is gone, or a full disk, stops nothing either.
            let _ = to.write_all(&message);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, message: &[u8]) {
        if self.bytes + cost(message) > WAITING_BYTES_MAX {
            self.lost += 1;
            self.lost_now += 1;
            return;
        }
        let lost = std::mem::take(&mut self.lost_now);
        if lost > 0 {
            self.push(format!("{lost} messages were lost here: nobody read them\n").into_bytes());
        }
        self.push(message.to_vec());
    }

    fn push(&mut self, message: Vec<u8>) {
        self.bytes += cost(&message);
        self.waiting.push_back(message);
    }
}

fn cost(message: &[u8]) -> usize {
    message.len() + MESSAGE_OVERHEAD
}

/// Each write is one message.
impl Write for &'static Messages {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.say(message);
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    /// A reader that takes a message only when it is let.
    struct Slow {
        asked: mpsc::Sender<Vec<u8>>,
        go_on: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.go_on.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_stops_nobody_and_hears_how_much_it_missed() {
        let messages = Arc::new(Messages::new());
        let ((asked, read), (go_on, gate)) = (mpsc::channel(), mpsc::channel());
        messages.lock().is_started = true;
        let own = messages.clone();
        std::thread::spawn(move || own.write(&mut Slow { asked, go_on: gate }));
        messages.say(b"first\n");
        assert_eq!(read.recv().unwrap(), b"first\n");
        let (text, count) = (vec![b'x'; 1_000], 1_000);
        for _ in 0..count {
            messages.say(&text);
        }
        let kept = WAITING_BYTES_MAX / cost(&text);
        assert_eq!(messages.lost(), count - kept as u64);
        // It wakes up.
        for _ in 0..=kept {
            go_on.send(()).unwrap();
        }
        assert!((0..kept).all(|_| read.recv().unwrap() == text));
        messages.flush(Duration::from_secs(60));
        messages.say(b"last\n");
        let note = format!("{} messages were lost here: nobody read them\n", count - kept as u64);
        assert_eq!(read.recv().unwrap(), note.as_bytes());
        go_on.send(()).unwrap();
        assert_eq!(read.recv().unwrap(), b"last\n");
        assert_eq!(messages.lost(), count - kept as u64);
    }

    #[test]
    fn waiting_for_a_reader_that_stands_still_has_an_end() {
        let messages = Messages::new();
        messages.lock().is_started = true;
        messages.say(b"nobody writes this\n");
        messages.flush(Duration::ZERO);
    }
}
