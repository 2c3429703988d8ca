//! Waiting for a function's deadline, when the platform itself may have stood still (SIGSTOP, a debugger, a snapshot of the
//! machine) while the function went on.

use std::time::{Duration, Instant};

/// A deadline that is noticed later than this was missed because the platform did not run.
const STOOD_STILL: Duration = Duration::from_millis(200);
/// How long what happened meanwhile may take to be read: answers lie in sockets, ends of processes in pipes.
const CATCH_UP: Duration = Duration::from_millis(500);

/// What remains to be waited for at `now`, past `deadline`, before its time is up: nothing, unless it was missed.
pub(crate) fn reprieve(deadline: Instant, now: Instant) -> Option<Instant> {
    let late = now.saturating_duration_since(deadline);
    (late > STOOD_STILL).then(|| now + CATCH_UP)
}

/// Waits until `deadline`; if that was missed, until what happened meanwhile is known.
pub(crate) async fn until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
    if let Some(later) = reprieve(deadline, Instant::now()) {
        tokio::time::sleep_until(later.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_deadline_that_was_missed_is_put_off() {
        let deadline = Instant::now();
        assert_eq!(reprieve(deadline, deadline), None);
        assert_eq!(reprieve(deadline, deadline + STOOD_STILL), None);
        let woken = deadline + Duration::from_secs(30);
        assert_eq!(reprieve(deadline, woken), Some(woken + CATCH_UP));
    }
}
