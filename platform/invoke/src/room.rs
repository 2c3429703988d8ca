//! Whether this host has memory for one more environment.
//!
//! A host that runs out of memory kills, and may kill the wrong process. So a new environment is refused before that, by a
//! limit of this host's and not of AWS's, and idle environments are given up first.

use model::{Instant, LimitId, LimitRow, Refusal};
use sandbox::{HostMemory, Memory};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is left for everything else: a twentieth of the host's memory, within these bounds, in MB.
const RESERVE_PART: u64 = 20;
const RESERVE_MB_MIN: u64 = 64;
const RESERVE_MB_MAX: u64 = 1_024;
/// What an environment whose INIT runs is yet to take, in MB: some 2 for a compiled function. One that takes more shows in
/// the next reading.
const STARTING_MB: u64 = 2;
/// How long a reading is believed at least.
const READING_LASTS: Duration = Duration::from_millis(10);
/// The same at most, where there is plenty. A reading takes 0.3 ms where a thousand environments have had their disks: the
/// kernel looks at every block device there is (measured).
const READING_LASTS_MAX: Duration = Duration::from_secs(1);
/// What can be gone meanwhile, in MB a millisecond for each processor, whoever takes it: more than one fills pages, as the
/// kernel clears each of them and takes a fault for it.
const TAKEN_PER_MS_MB: u64 = 2;
/// So many processors are counted at least.
const PROCESSORS_MIN: u64 = 8;

/// The host's memory, as far as new environments need it.
#[derive(Debug)]
pub(crate) struct Room {
    memory: HostMemory,
    /// Most that may be in use when one more is started, in MB, if the user said so.
    max_mb: Option<u64>,
    /// What can be gone in a millisecond, in MB.
    taken_per_ms_mb: u64,
    starting: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    read_at: Option<Instant>,
    used_mb: u64,
    max_mb: u64,
    peak_mb: u64,
    refused: u64,
    first_refused_at: Option<Instant>,
}

impl State {
    /// How long the last reading is believed: until all that was left can have been taken.
    fn lasts(&self, taken_per_ms_mb: u64) -> Duration {
        let left_mb = self.max_mb.saturating_sub(self.used_mb);
        Duration::from_millis(left_mb / taken_per_ms_mb).clamp(READING_LASTS, READING_LASTS_MAX)
    }
}

/// An environment whose INIT has not ended yet.
#[derive(Debug)]
pub(crate) struct Starting(Arc<AtomicU64>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    pub(crate) fn new(memory: HostMemory, max_mb: Option<u64>) -> Self {
        let processors = std::thread::available_parallelism().map_or(0, |count| count.get() as u64);
        let taken_per_ms_mb = taken_per_ms_mb(processors);
        Self { memory, max_mb, taken_per_ms_mb, starting: Arc::default(), state: Mutex::default() }
    }

    /// Room for one more, or what there is. Reads the host's memory once what was there at the last reading can be gone, at
    /// most once in 10 ms.
    pub(crate) fn take(&self, now: Instant) -> Result<Starting, Refusal> {
        let state = self.look(now, |state| state.lasts(self.taken_per_ms_mb));
        let before = self.starting.fetch_add(1, Ordering::Relaxed);
        let starting = Starting(self.starting.clone());
        let (used, max) = (state.used_mb + before * STARTING_MB, state.max_mb);
        if used + STARTING_MB <= max {
            return Ok(starting);
        }
        Err(Refusal {
            limit: LimitId::HostMemory,
            resource: "host".into(),
            destination: None,
            used,
            max,
            retry_at: None,
        })
    }

    /// The same after others made room for it.
    pub(crate) fn take_anyway(&self) -> Starting {
        self.starting.fetch_add(1, Ordering::Relaxed);
        Starting(self.starting.clone())
    }

    /// A refusal was given out.
    pub(crate) fn refused(&self, now: Instant) {
        let mut state = self.lock();
        state.refused += 1;
        state.first_refused_at.get_or_insert(now);
    }

    /// Its row of the limits board.
    pub(crate) fn row(&self, now: Instant) -> LimitRow {
        let state = self.look(now, |_| READING_LASTS);
        LimitRow {
            id: LimitId::HostMemory,
            resource: "host".into(),
            max: state.max_mb,
            used: state.used_mb,
            peak: state.peak_mb,
            refused: state.refused,
            first_refused_at: state.first_refused_at,
            source: if self.max_mb.is_some() { "--limit" } else { "this host, but for a reserve" }.into(),
            raisable: LimitId::HostMemory.raisable(),
        }
    }

    fn look(&self, now: Instant, lasts: impl Fn(&State) -> Duration) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.read_at.is_none_or(|at| now.since(at) >= lasts(&state)) {
            state.read_at = Some(now);
            let memory = self.memory.read();
            // What cannot be read refuses nobody.
            state.max_mb = self.max_mb.unwrap_or_else(|| memory.map_or(u64::MAX, most));
            state.used_mb = memory.map_or(0, Memory::used_mb);
            state.peak_mb = state.peak_mb.max(state.used_mb);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What so many processors can take in a millisecond, in MB.
fn taken_per_ms_mb(processors: u64) -> u64 {
    processors.max(PROCESSORS_MIN) * TAKEN_PER_MS_MB
}

/// Most that may be in use when one more is started, in MB.
fn most(memory: Memory) -> u64 {
    let total = memory.total_mb();
    total.saturating_sub((total / RESERVE_PART).clamp(RESERVE_MB_MIN, RESERVE_MB_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left_and_it_is_bounded() {
        let of = |mb: u64| most(Memory { total: mb << 20, available: 0 });
        assert_eq!(of(512), 512 - 64);
        assert_eq!(of(10_000), 10_000 - 500);
        assert_eq!(of(1 << 20), (1 << 20) - 1_024);
        assert_eq!(of(10), 0);
    }

    #[test]
    fn a_reading_is_believed_for_as_long_as_what_was_left_must_last() {
        let of = |processors, max_mb, used_mb| {
            State { max_mb, used_mb, ..State::default() }.lasts(taken_per_ms_mb(processors))
        };
        let lasts = |max_mb, used_mb| of(2, max_mb, used_mb);
        assert_eq!(lasts(1_000, 2_000), READING_LASTS);
        assert_eq!(lasts(1_000, 900), READING_LASTS);
        assert_eq!(lasts(2_000, 400), Duration::from_millis(100));
        assert_eq!(lasts(u64::MAX, 0), READING_LASTS_MAX);
        // Four times as many processors take four times as much.
        assert_eq!(of(8, 66_000, 2_000), READING_LASTS_MAX);
        assert_eq!(of(32, 34_000, 2_000), Duration::from_millis(500));
        assert_eq!(of(64, 34_000, 2_000), Duration::from_millis(250));
    }

    #[test]
    fn what_starts_is_counted_until_it_has_started() {
        let memory = HostMemory::of_this_process();
        let used = memory.read().map_or(0, Memory::used_mb);
        let room = Room::new(memory, Some(used + 4_096));
        let now = Instant::from_nanos(1);
        let mut taken: Vec<_> = std::iter::from_fn(|| room.take(now).ok()).take(10_000).collect();
        assert!((1..10_000).contains(&taken.len()), "{}", taken.len());
        let refusal = room.take(now).unwrap_err();
        assert_eq!((refusal.limit, refusal.max), (LimitId::HostMemory, used + 4_096));
        taken.pop();
        let again = room.take(now).unwrap();
        drop((taken, again));
        assert!(room.take(now).is_ok());
    }
}
