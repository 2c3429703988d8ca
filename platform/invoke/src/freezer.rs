//! Freezes environments that have been idle for a while, as Lambda does at once.
//!
//! A back-to-back invocation finds its environment still running and pays neither freezing nor thawing. An
//! environment stands in the queue at most once, so the queue is no longer than the environments are many.

use crate::environment::Environment;
use crate::spare;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often to look at a runtime that has answered but not yet asked for its next event: soon at first, and ever more
/// seldom.
const SOON: Duration = Duration::from_millis(1);
const RELUCTANT: Duration = Duration::from_millis(50);
/// When nothing was to be frozen for this long, and so many environments were before, spare memory is given back.
const QUIET: Duration = Duration::from_secs(1);
const SPARE_AFTER: usize = 64;

/// Environments that are to be frozen, soonest first.
#[derive(Debug)]
pub(crate) struct Freezer {
    after: Duration,
    queue: Mutex<VecDeque<(Instant, Arc<Environment>)>>,
    wake: Notify,
}

impl Freezer {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, queue: Mutex::default(), wake: Notify::new() }
    }

    /// `environment` has become idle.
    pub(crate) fn idle(&self, environment: &Arc<Environment>) {
        if environment.queue_for_freezing() {
            self.push(Instant::now() + self.after, environment.clone());
        }
    }

    /// Freezes what is due, until cancelled.
    pub(crate) async fn run(self: Arc<Self>) {
        // What the start took, too.
        let mut frozen = SPARE_AFTER;
        let mut give_back: fn() = spare::give_back_start;
        loop {
            let next = self.lock().front().map(|(due, _)| *due);
            match next {
                None if frozen >= SPARE_AFTER => tokio::select! {
                    () = tokio::time::sleep(QUIET) => {
                        frozen = 0;
                        drop(tokio::task::spawn_blocking(give_back));
                        give_back = spare::give_back;
                    }
                    () = self.wake.notified() => {}
                },
                None => self.wake.notified().await,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.wake.notified() => {}
                },
            }
            let now = Instant::now();
            while let Some(environment) = self.pop_due(now) {
                // The time since the last use decides, not the time since it was queued.
                match environment.freeze_if_idle(self.after) {
                    Freezing::Over => frozen = frozen.saturating_add(1),
                    Freezing::NotYet(left) => {
                        self.push(now + left.max(Duration::from_millis(1)), environment);
                    }
                    Freezing::Reluctant(waited) => {
                        self.push(now + waited.clamp(SOON, RELUCTANT), environment);
                    }
                }
            }
        }
    }

    fn push(&self, due: Instant, environment: Arc<Environment>) {
        let mut queue = self.lock();
        let place = queue.partition_point(|(other, _)| *other <= due);
        queue.insert(place, (due, environment));
        drop(queue);
        if place == 0 {
            self.wake.notify_one();
        }
    }

    fn pop_due(&self, now: Instant) -> Option<Arc<Environment>> {
        let mut queue = self.lock();
        let (due, _) = queue.front()?;
        if *due > now {
            return None;
        }
        queue.pop_front().map(|(_, environment)| environment)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Arc<Environment>)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a try to freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freezing {
    /// It is frozen now, or busy, or gone: it comes back to the queue when it is idle again.
    Over,
    /// It was used in the meantime; to be frozen after this long.
    NotYet(Duration),
    /// The runtime has not yet asked for its next event, for this long.
    Reluctant(Duration),
}
