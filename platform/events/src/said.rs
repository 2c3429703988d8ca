//! Lines of the log that a flood must not multiply: each at once, then once a second with a count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of the same kind about the same function.
const PERIOD: Duration = Duration::from_secs(1);
/// Most pairs remembered; beyond it the memory starts anew, and a line may come early.
const REMEMBERED_MAX: usize = 4_096;

/// When a line was last written, and how many were left out since.
type Lines = BTreeMap<(&'static str, Arc<str>), (Instant, u64)>;

#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<Lines>);

impl Said {
    /// How many events the line that is due stands for; `None` while none is due.
    pub fn due(&self, kind: &'static str, function: &Arc<str>) -> Option<u64> {
        let now = Instant::now();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, silent)) = lines.get_mut(&(kind, function.clone())) {
            if now.duration_since(*at) < PERIOD {
                *silent += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(silent) + 1);
        }
        if lines.len() >= REMEMBERED_MAX {
            lines.clear();
        }
        lines.insert((kind, function.clone()), (now, 0));
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_next_is_counted() {
        let (said, cart) = (Said::default(), Arc::from("cart"));
        assert_eq!(said.due("dropped", &cart), Some(1));
        assert_eq!(said.due("dropped", &cart), None);
        assert_eq!(said.due("late", &cart), Some(1));
    }
}
