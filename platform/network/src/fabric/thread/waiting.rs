//! How the thread waits: awake while packets come quickly, asleep otherwise.

use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use super::super::patience::{CROWDED, POLL};
use super::{BELL, EVENTS_MAX, Thread, since};

/// Whether to sleep until there is something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Now,
    Sleep,
}

impl Thread {
    /// Waits for packets, commands or the next deadline; polls first while packets come quickly.
    pub(super) fn wait(&mut self) {
        let began = Instant::now();
        if self.patience.polls() && self.poll(began) {
            return self.patience.waited(began.elapsed());
        }
        let deadlines = [self.engine.next_deadline(), self.flow_logs.next_deadline()];
        if let Some(deadline) = deadlines.into_iter().flatten().min() {
            self.alarm.wake_by(since(self.began), deadline);
        }
        if self.look(Look::Sleep) {
            self.patience.waited(began.elapsed());
        }
    }

    /// Looks again and again for a moment. Whether there was something.
    fn poll(&mut self, began: Instant) -> bool {
        let mut looked = began;
        loop {
            if self.look(Look::Now) {
                return true;
            }
            let now = Instant::now();
            if now - looked > CROWDED {
                self.patience.crowded();
                return false;
            }
            if now - began >= POLL {
                self.patience.missed();
                return false;
            }
            looked = now;
            thread::yield_now();
        }
    }

    /// Whether something is ready.
    fn look(&mut self, look: Look) -> bool {
        self.ready.clear();
        let timeout = (look == Look::Now).then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
        let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(BELL) };
        let mut events = [nothing; EVENTS_MAX];
        // Interrupted is as good as nothing.
        let count = epoll::wait(&self.epoll, &mut events, timeout.as_ref()).unwrap_or(0);
        self.ready.extend(events[..count].iter().map(|event| event.data.u64()));
        count > 0
    }

    pub(super) fn watch(&self, descriptor: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(token), EventFlags::IN)?)
    }
}
