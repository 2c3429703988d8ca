//! How long an API waits for a response that streams: for all of it, and for each next piece.
//!
//! Source: API Gateway Developer Guide, "Stream the integration response for your proxy integrations in API Gateway" (a stream
//! lasts up to 15 minutes; without a byte for 30 s at edge-optimised endpoints, 5 minutes at Regional and private ones, it is
//! closed) and "Troubleshoot issues with response streaming in API Gateway" (the integration's time-out cuts a response under
//! way); read on 2026-11-22. The function runs on.

use super::{Apis, Spot};
use invoke::Invoker;
use model::Refusal;
use std::future::Future as _;
use std::pin::Pin;
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
    begun: Instant,
    total: Duration,
    idle: Duration,
    /// When the last piece came.
    last: Instant,
    longest_gap: Duration,
    expired: bool,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Begins to wait.
    pub(super) fn new(apis: &Arc<Apis>, invoker: &Invoker, spot: Spot) -> Self {
        let (total, idle) = apis.gateway.stream_times(spot);
        let now = Instant::now();
        Self {
            apis: Arc::clone(apis),
            invoker: invoker.clone(),
            spot,
            begun: now,
            total,
            idle,
            last: now,
            longest_gap: Duration::ZERO,
            expired: false,
            timer: Box::pin(tokio::time::sleep_until(now + total.min(idle))),
        }
    }

    /// A piece has come.
    pub(crate) fn moved(&mut self) {
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now - self.last);
        self.last = now;
    }

    /// Ready once the API waits no longer; to be asked while no piece is there.
    pub(crate) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let (end, silent) = (self.begun + self.total, self.last + self.idle);
            let until = end.min(silent);
            // Setting the timer with each piece would cost more than looking at the clock when it rings.
            if until > Instant::now() {
                self.timer.as_mut().reset(until);
                continue;
            }
            self.expired = true;
            return Poll::Ready(self.apis.gateway.stream_expired(
                self.invoker.now(),
                self.spot,
                silent < end,
            ));
        }
    }

    /// The same for what is waited for before there are pieces.
    pub(super) async fn over<T>(&mut self, running: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            ran = running => Ok(ran),
            refusal = std::future::poll_fn(|context| self.poll_expired(context)) => Err(refusal),
        }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if !self.expired {
            self.moved();
            self.apis.gateway.streamed(self.spot, self.begun.elapsed(), self.longest_gap);
        }
    }
}
