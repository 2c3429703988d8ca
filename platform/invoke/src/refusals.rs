//! Refusals in the platform's own log: each limit at once, then once a second with a count.
//!
//! A flood of refusals must neither fill a disk nor wait for a terminal; whoever wants every one of them has the
//! counters, the limits board and the answers themselves.

use model::{LimitId, Refusal};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines about the same limit of the same thing.
const PERIOD: Duration = Duration::from_secs(1);
/// Most of an error's message that is shown; the function's log has the rest.
const MESSAGE_CHARS_MAX: usize = 200;
/// Most limits remembered; beyond it the memory starts anew, and a line may come early.
const REMEMBERED_MAX: usize = 4_096;

/// When a limit's last line was, and how many refusals were silent since.
type Said = BTreeMap<(LimitId, Arc<str>), (Instant, u64)>;

#[derive(Debug, Default)]
pub(crate) struct Refusals {
    said: Mutex<Said>,
    failed: Mutex<BTreeMap<String, (Instant, u64)>>,
}

impl Refusals {
    /// Says that `function` was refused, unless the same was said a moment ago.
    pub(crate) fn say(&self, refusal: &Refusal, function: &str, request_id: &str) {
        let Some(times) = self.due(refusal, Instant::now()) else { return };
        let Refusal { limit, resource, used, max, .. } = refusal;
        tracing::info!(%limit, %resource, used, max, function, request_id, times, "throttled");
    }

    /// Says that a function failed, unless the same was said a moment ago.
    pub(crate) fn say_failed(&self, function: &str, request_id: &str, payload: &[u8]) {
        let failed = &mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = due(failed, function.to_owned(), Instant::now()) else { return };
        let document = serde_json::from_slice::<serde_json::Value>(payload).unwrap_or_default();
        let word = |key: &str| {
            document[key].as_str().unwrap_or("?").chars().take(MESSAGE_CHARS_MAX).collect::<String>()
        };
        // In quotes, as every text of a function's: a line feed of its own must not begin a line of ours. A field called
        // `message` would not be.
        let (error_type, error_message) = (word("errorType"), word("errorMessage"));
        tracing::info!(
            function,
            error_type,
            error_message,
            request_id,
            times,
            "failed; `onrush logs {function}` has all of it"
        );
    }

    fn due(&self, refusal: &Refusal, now: Instant) -> Option<u64> {
        let said = &mut *self.said.lock().unwrap_or_else(PoisonError::into_inner);
        due(said, (refusal.limit, refusal.resource.clone()), now)
    }
}

/// How many events the line that is due stands for; `None` while none is due.
fn due<K: Ord>(said: &mut BTreeMap<K, (Instant, u64)>, key: K, now: Instant) -> Option<u64> {
    if let Some((at, silent)) = said.get_mut(&key) {
        if now.duration_since(*at) < PERIOD {
            *silent += 1;
            return None;
        }
        *at = now;
        return Some(std::mem::take(silent) + 1);
    }
    if said.len() >= REMEMBERED_MAX {
        said.clear();
    }
    said.insert(key, (now, 0));
    Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_are_counted() {
        let refusal = |resource: &str| Refusal {
            limit: LimitId::ReservedConcurrency,
            resource: resource.into(),
            used: 1,
            max: 1,
            retry_at: None,
            destination: None,
        };
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.due(&refusal("cart"), start), Some(1));
        assert_eq!(refusals.due(&refusal("cart"), start), None);
        assert_eq!(refusals.due(&refusal("cart"), start + PERIOD / 2), None);
        assert_eq!(refusals.due(&refusal("other"), start), Some(1));
        assert_eq!(refusals.due(&refusal("cart"), start + PERIOD), Some(3));
    }
}
