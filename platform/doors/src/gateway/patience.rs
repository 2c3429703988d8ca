//! How long an API waits for a response that streams: for all of it, and for each next piece.
//!
//! Source: API Gateway Developer Guide, "Stream the integration response for your proxy integrations in API Gateway" (a stream
//! lasts up to 15 minutes; without a byte for 30 s at edge-optimised endpoints, 5 minutes at Regional and private ones, it is
//! closed) and "Troubleshoot issues with response streaming in API Gateway" (the integration's time-out cuts a response under
//! way); read on 2026-11-22. The function runs on.

use super::{Apis, Spot};
use invoke::Invoker;
use model::Refusal;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The time that is left to one response. Dropping it tells the limits how long the response took.
#[derive(Debug)]
pub(crate) struct Patience {
    apis: Arc<Apis>,
    invoker: Invoker,
    spot: Spot,
    watch: Watch,
    expired: bool,
}

/// Why something is waited for no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expired {
    /// All of it took too long.
    Total,
    /// Nothing came for too long.
    Silence,
}

/// How long one response has taken, and how long it has been silent.
#[derive(Debug)]
struct Watch {
    begun: Instant,
    total: Duration,
    idle: Duration,
    /// Since when nothing is there though somebody asks. A client's own pauses are not the function's silence.
    silent: Option<Instant>,
    longest_gap: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Begins to wait.
    pub(super) fn new(apis: &Arc<Apis>, invoker: &Invoker, spot: Spot) -> Self {
        let (total, idle) = apis.gateway.stream_times(spot);
        let watch = Watch::new(Instant::now(), total, idle);
        Self { apis: Arc::clone(apis), invoker: invoker.clone(), spot, watch, expired: false }
    }

    /// When all of it has to be there.
    pub(crate) fn end(&self) -> Instant {
        self.watch.begun + self.watch.total
    }

    /// What comes next, while the API waits for it.
    pub(crate) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        next: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Refusal>> {
        self.watch.poll(context, next).map_err(|expired| {
            self.expired = true;
            let silent = expired == Expired::Silence;
            self.apis.gateway.stream_expired(self.invoker.now(), self.spot, silent)
        })
    }

    /// The same for what is waited for before there are pieces.
    pub(super) async fn over<T>(&mut self, running: impl Future<Output = T>) -> Result<T, Refusal> {
        let mut running = pin!(running);
        poll_fn(|context| self.poll(context, |context| running.as_mut().poll(context))).await
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if !self.expired {
            let now = Instant::now();
            if self.end() <= now {
                // Its client took nothing more, and was cut off.
                let cause = self.apis.gateway.stream_expired(self.invoker.now(), self.spot, false);
                tracing::info!(%cause, "a streamed response was cut off");
                return;
            }
            self.watch.came(now);
            self.apis.gateway.streamed(self.spot, now - self.watch.begun, self.watch.longest_gap);
        }
    }
}

impl Watch {
    fn new(begun: Instant, total: Duration, idle: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(begun + total.min(idle)));
        Self { begun, total, idle, silent: Some(begun), longest_gap: Duration::ZERO, timer }
    }

    /// The clock is looked at first: a client that reads more slowly than its function writes finds something each time.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        next: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Expired>> {
        let now = Instant::now();
        if self.begun + self.total <= now {
            return Poll::Ready(Err(Expired::Total));
        }
        if let Poll::Ready(next) = next(context) {
            self.came(now);
            return Poll::Ready(Ok(next));
        }
        let silent = *self.silent.get_or_insert(now) + self.idle;
        let end = self.begun + self.total;
        loop {
            ready!(self.timer.as_mut().poll(context));
            // Setting the timer with each piece would cost more than looking at the clock when it rings.
            let until = end.min(silent);
            if until > Instant::now() {
                self.timer.as_mut().reset(until);
                continue;
            }
            return Poll::Ready(Err(if silent < end { Expired::Silence } else { Expired::Total }));
        }
    }

    /// Something has come.
    fn came(&mut self, now: Instant) {
        if let Some(silent) = self.silent.take() {
            self.longest_gap = self.longest_gap.max(now - silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);

    /// A response that began so long ago.
    fn watch(ago: Duration, total: Duration, idle: Duration) -> Watch {
        Watch::new(Instant::now() - ago, total, idle)
    }

    fn poll<T>(watch: &mut Watch, next: Poll<T>) -> Poll<Result<T, Expired>> {
        watch.poll(&mut Context::from_waker(std::task::Waker::noop()), |_| next)
    }

    #[tokio::test]
    async fn the_whole_is_over_though_there_is_always_a_piece() {
        let mut early = watch(SECOND, HOUR, HOUR);
        assert_eq!(poll(&mut early, Poll::Ready(1)), Poll::Ready(Ok(1)));
        let mut late = watch(2 * SECOND, SECOND, HOUR);
        assert_eq!(poll(&mut late, Poll::Ready(1)), Poll::Ready(Err(Expired::Total)));
    }

    #[tokio::test]
    async fn silence_is_what_the_function_lets_somebody_wait() {
        let mut watch = watch(5 * SECOND, HOUR, HOUR);
        assert_eq!(poll(&mut watch, Poll::Ready(1)), Poll::Ready(Ok(1)));
        let before = watch.longest_gap;
        assert!(before >= 5 * SECOND, "the head was waited for");
        // Nobody asks for an hour, then a piece is there; then there is none.
        watch.came(Instant::now() + HOUR);
        assert_eq!(watch.longest_gap, before);
        assert_eq!(poll::<()>(&mut watch, Poll::Pending), Poll::Pending);
        watch.came(Instant::now() + HOUR);
        assert!(watch.longest_gap > HOUR / 2);
    }

    #[tokio::test]
    async fn what_ends_first_is_named() {
        let ended = |total, idle| {
            let mut watch = watch(SECOND, total, idle);
            // A timer is not asked before its time comes round: one that rang long ago is.
            watch.timer = Box::pin(tokio::time::sleep_until(watch.begun));
            poll::<()>(&mut watch, Poll::Pending)
        };
        assert_eq!(ended(HOUR, SECOND / 2), Poll::Ready(Err(Expired::Silence)));
        assert_eq!(ended(SECOND / 2, HOUR), Poll::Ready(Err(Expired::Total)));
        assert_eq!(ended(HOUR, HOUR), Poll::Pending);
    }
}
