//! How many short invocations of one version a reactor runs at a time, and who comes next.
//!
//! A core gains nothing by running fifty short invocations at once in fifty environments: each switch finds the caches
//! full of another's. So an invocation that was admitted, and that by its function's habit is over in microseconds,
//! waits until one of the few that run has ended, and takes over its environment, which is hot. The limits see none of
//! this: they have decided, the invocation is in flight while it waits, and what it waits for is the core, which it
//! would otherwise do inside an environment.
//!
//! Nobody waits behind a slow function. The gate is as wide as the shortest invocation of late is long; one that runs
//! for longer than a tick no longer counts, and a tick that finds such ones doubles the width; while others end, it adds a
//! single place.

use crate::environment::Environment;
use limits::EnvironmentId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Fewest that run at a time: one has its event while the other's answer is read.
const WIDTH_MIN: usize = 2;
/// Wide open.
const WIDTH_MAX: usize = 1 << 20;
/// One place for so much of the shortest invocation: each takes some 80 us of a core, platform and runtime together, so a
/// core has always something to do, whether the function computes or waits. With more places than that Node's invocations
/// get in each other's way (measured: 25 us cost 40 % of them a second, and 50 us 1.4 times the p99 of 80).
const SHARE: Duration = Duration::from_micros(80);
/// How often to look while somebody waits.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// How long a widened gate stays as wide as it is.
const STEP: Duration = Duration::from_millis(2);
/// How long the shortest duration is believed.
const MEMORY: Duration = Duration::from_secs(1);
/// An invocation that takes no more than this for each that runs beside it may be a short one that waits for the core;
/// one that takes more is slow by itself.
const CROWDED: Duration = Duration::from_micros(250);
/// Most idle environments remembered: a few hot ones matter.
const RECENT_MAX: usize = 32;

/// Who may run next, of one version on one reactor.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Who runs, by the parity of the tick they began in; who began before the last tick no longer counts.
    running: [usize; 2],
    tick: u64,
    /// Somebody calls [`Gate::tick`].
    is_ticking: bool,
    /// How many have left since the last tick.
    left: usize,
    width: usize,
    widened_at: Option<Instant>,
    /// The shortest invocation of this age. While it is not known the gate is narrow, and what runs is not crowded.
    shortest: Option<Duration>,
    age: u64,
    aged_at: Option<Instant>,
    waiting: VecDeque<Waiter>,
    /// Ids of environments that became idle on this reactor, the latest last; they may have been used since.
    recent: VecDeque<EnvironmentId>,
}

/// The environment that was handed over, or the word to use one's own.
pub(crate) type Turn = Option<Arc<Environment>>;

/// One that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// The environment that it was admitted to.
    pub(crate) id: EnvironmentId,
    turn: oneshot::Sender<Turn>,
}

impl Waiter {
    /// Lets it run.
    pub(crate) fn call(self, turn: Turn) {
        // One that is gone has left its place empty; the next tick forgets it.
        let _ = self.turn.send(turn);
    }
}

/// A place among those that run, to be given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    tick: u64,
    age: u64,
    since: Instant,
}

/// What an invocation is told at the gate.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// Run.
    Open,
    /// Wait for your turn.
    Wait {
        /// Where it is called.
        turn: oneshot::Receiver<Turn>,
        /// The caller has to see to it that [`Gate::tick`] is called from now on.
        is_first: bool,
    },
}

impl Default for State {
    fn default() -> Self {
        Self {
            running: [0; 2],
            tick: 0,
            is_ticking: false,
            left: 0,
            width: WIDTH_MIN,
            widened_at: None,
            shortest: None,
            age: 0,
            aged_at: None,
            waiting: VecDeque::new(),
            recent: VecDeque::new(),
        }
    }
}

impl Gate {
    /// Whether the invocation that was admitted to environment `id` may run now.
    pub(crate) fn enter(&self, id: EnvironmentId) -> Entrance {
        let mut state = self.lock();
        if state.waiting.is_empty() && state.has_room() {
            state.begin();
            return Entrance::Open;
        }
        let (sender, turn) = oneshot::channel();
        state.waiting.push_back(Waiter { id, turn: sender });
        let is_first = !std::mem::replace(&mut state.is_ticking, true);
        if is_first {
            state.left = 0;
        }
        Entrance::Wait { turn, is_first }
    }

    /// The place of one that was let in, as it begins.
    pub(crate) fn place(&self, now: Instant) -> Place {
        let state = self.lock();
        Place { tick: state.tick, age: state.age, since: now }
    }

    /// An invocation is over. The one whose turn it is, if any, is to be called.
    pub(crate) fn leave(&self, place: Place, now: Instant) -> Option<Waiter> {
        let mut state = self.lock();
        if state.tick - place.tick < 2 {
            let running = &mut state.running[(place.tick % 2) as usize];
            *running = running.saturating_sub(1);
        }
        state.left += 1;
        state.learn(place, now);
        state.narrow(now);
        state.next()
    }

    /// Time has passed: who began before the last tick no longer counts. Calls those whom that lets in; false when
    /// nobody waits any more and there is nothing to tick for.
    pub(crate) fn tick(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.tick += 1;
        let parity = (state.tick % 2) as usize;
        let overdue = std::mem::take(&mut state.running[parity]);
        let left = std::mem::take(&mut state.left);
        if overdue > 0 && !state.waiting.is_empty() {
            // While others end, the overdue ones compute, most likely, and many more beside them would only be slower.
            let more = if left > 0 { 1 } else { state.width };
            state.width = state.width.saturating_add(more).min(WIDTH_MAX);
            state.widened_at = Some(now);
        }
        let called: Vec<_> = std::iter::from_fn(|| state.next()).collect();
        state.is_ticking = !state.waiting.is_empty();
        let goes_on = state.is_ticking;
        drop(state);
        for waiter in called {
            waiter.call(None);
        }
        goes_on
    }

    /// The environment of this id has become idle here.
    pub(crate) fn idle(&self, id: EnvironmentId) {
        let mut state = self.lock();
        if state.recent.len() >= RECENT_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(id);
    }

    /// The latest of those that became idle here and still are, as `is_idle` knows.
    pub(crate) fn recent(&self, is_idle: impl Fn(&EnvironmentId) -> bool) -> Option<EnvironmentId> {
        let mut state = self.lock();
        std::iter::from_fn(|| state.recent.pop_back()).find(is_idle)
    }

    /// Whose environment the one whose turn it is runs in: that of the invocation that has `ended`, which is hot; but one that
    /// another reactor serves would have it woken for each step, and be handed on for ever. Then its own (`next`), or that of
    /// another that waits, which has a turn later.
    pub(crate) fn heir(
        &self,
        ended: EnvironmentId,
        next: EnvironmentId,
        is_here: impl Fn(&EnvironmentId) -> bool,
    ) -> EnvironmentId {
        if is_here(&ended) {
            return ended;
        }
        if is_here(&next) {
            return next;
        }
        self.lock().waiting.iter().map(|waiter| waiter.id).find(is_here).unwrap_or(ended)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.running[0] + self.running[1] < self.width.max(self.fair_width())
    }

    /// Wide enough that a function that waits more than it computes is not held up.
    fn fair_width(&self) -> usize {
        let Some(shortest) = self.shortest else { return WIDTH_MIN };
        usize::try_from(shortest.as_nanos() / SHARE.as_nanos()).unwrap_or(WIDTH_MAX)
    }

    fn begin(&mut self) {
        self.running[(self.tick % 2) as usize] += 1;
    }

    fn next(&mut self) -> Option<Waiter> {
        if self.waiting.is_empty() || !self.has_room() {
            return None;
        }
        self.begin();
        self.waiting.pop_front()
    }

    fn learn(&mut self, place: Place, now: Instant) {
        let took = now.saturating_duration_since(place.since);
        if place.age == self.age {
            self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
        }
        let is_old = self.aged_at.is_none_or(|at| now.saturating_duration_since(at) >= MEMORY);
        let Some(shortest) = self.shortest.filter(|_| is_old) else { return };
        self.aged_at = Some(now);
        let beside = u32::try_from(self.running[0] + self.running[1]).unwrap_or(u32::MAX);
        if shortest < CROWDED.saturating_mul(beside.saturating_add(1)) {
            // Even the shortest may have waited for the core: look again, at few that run. Who runs already says nothing.
            self.shortest = None;
            self.age += 1;
        } else {
            self.shortest = Some(took);
        }
    }

    /// What was widened becomes narrow again, step by step.
    fn narrow(&mut self, now: Instant) {
        let is_due = self.widened_at.is_none_or(|at| now.saturating_duration_since(at) >= STEP);
        if self.width > WIDTH_MIN && is_due {
            self.width = (self.width - self.width / 4 - 1).max(WIDTH_MIN);
            self.widened_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::{Decision, Dispatcher, FunctionLimits, Settings};

    /// Ids of that many environments.
    fn ids(count: usize) -> Vec<EnvironmentId> {
        let era = model::Era::named(model::era::DEFAULT_ERA).unwrap();
        let settings =
            Settings::from_era(&era, model::era::DEFAULT_REGION, &model::Overrides::default()).unwrap();
        let mut dispatcher = Dispatcher::new(settings);
        let now = model::Instant::from_nanos(0);
        let timeout = Duration::from_secs(3);
        let limits = FunctionLimits { resource: "f".into(), reserved: None, timeout };
        let function = dispatcher.add_function(now, limits);
        let start = |_| match dispatcher.invoke(now, function) {
            Decision::Start(id) => id,
            other => panic!("{other:?}"),
        };
        (0..count).map(start).collect()
    }

    fn turn(entrance: Entrance) -> oneshot::Receiver<Turn> {
        match entrance {
            Entrance::Wait { turn, .. } => turn,
            Entrance::Open => panic!("the gate was open"),
        }
    }

    fn is_called(turn: &mut oneshot::Receiver<Turn>) -> bool {
        turn.try_recv().is_ok()
    }

    const SHORT: Duration = Duration::from_micros(80);

    #[test]
    fn few_run_and_the_others_come_in_their_order() {
        let (gate, ids, now) = (Gate::default(), ids(4), Instant::now());
        assert!(matches!(gate.enter(ids[0]), Entrance::Open));
        let first = gate.place(now);
        assert!(matches!(gate.enter(ids[1]), Entrance::Open));
        assert!(matches!(gate.enter(ids[2]), Entrance::Wait { is_first: true, .. }));
        assert!(matches!(gate.enter(ids[3]), Entrance::Wait { is_first: false, .. }));
        let next = gate.leave(first, now + SHORT).unwrap();
        assert_eq!(next.id, ids[2]);
        let second = gate.place(now + SHORT);
        assert_eq!(gate.leave(second, now + 2 * SHORT).unwrap().id, ids[3]);
    }

    #[test]
    fn whoever_runs_for_long_does_not_count() {
        let (gate, ids, now) = (Gate::default(), ids(7), Instant::now());
        for id in &ids[..2] {
            assert!(matches!(gate.enter(*id), Entrance::Open));
        }
        let slow = gate.place(now);
        let mut turns: Vec<_> = ids[2..].iter().map(|id| turn(gate.enter(*id))).collect();
        assert!(gate.tick(now), "it may be over any moment");
        assert!(!turns.iter_mut().any(is_called));
        assert!(gate.tick(now + TICK), "the gate has doubled its width, and one more waits");
        assert_eq!(turns.iter_mut().filter_map(|turn| turn.try_recv().ok()).count(), 4);
        let last = gate.leave(slow, now + 2 * TICK);
        assert_eq!(last.unwrap().id, ids[6], "a place for so long an invocation is one of many");
    }

    #[test]
    fn while_others_end_the_gate_becomes_wider_by_one_place_a_tick() {
        let (gate, ids, now) = (Gate::default(), ids(12), Instant::now());
        let _turns: Vec<_> = ids.iter().map(|id| gate.enter(*id)).collect();
        for tick in 0..4 {
            // Those who run are overdue by the second tick, and then one of them ends.
            gate.lock().left = usize::from(tick % 2 == 1);
            assert!(gate.tick(now));
        }
        assert_eq!(gate.lock().width, WIDTH_MIN + 2);
    }

    #[test]
    fn a_function_that_waits_finds_the_gate_open() {
        let (gate, ids, now) = (Gate::default(), ids(60), Instant::now());
        assert!(matches!(gate.enter(ids[0]), Entrance::Open));
        assert!(gate.leave(gate.place(now), now + Duration::from_millis(5)).is_none());
        assert!(ids.iter().all(|id| matches!(gate.enter(*id), Entrance::Open)));
    }

    #[test]
    fn a_crowd_of_short_ones_is_found_out() {
        let (gate, ids, now) = (Gate::default(), ids(60), Instant::now());
        // Many run at once, as after a slow time, and each takes long because of the others.
        gate.lock().shortest = Some(Duration::from_millis(5));
        let places: Vec<_> = ids
            .iter()
            .map(|id| {
                assert!(matches!(gate.enter(*id), Entrance::Open));
                gate.place(now)
            })
            .collect();
        for place in places {
            gate.leave(place, now + Duration::from_millis(3));
        }
        assert!(matches!(gate.enter(ids[0]), Entrance::Open));
        assert!(matches!(gate.enter(ids[1]), Entrance::Open));
        assert!(matches!(gate.enter(ids[2]), Entrance::Wait { .. }));
    }

    #[test]
    fn what_was_widened_becomes_narrow() {
        let (gate, ids, now) = (Gate::default(), ids(1), Instant::now());
        gate.lock().width = 64;
        let mut at = now;
        for _ in 0..20 {
            at += STEP;
            assert!(matches!(gate.enter(ids[0]), Entrance::Open));
            gate.leave(gate.place(at), at + SHORT);
        }
        assert_eq!(gate.lock().width, WIDTH_MIN);
    }

    #[test]
    fn everybody_gets_a_turn_whatever_becomes_of_the_others() {
        let (gate, ids, now) = (Gate::default(), ids(500), Instant::now());
        let mut turns: Vec<_> = ids
            .iter()
            .filter_map(|id| match gate.enter(*id) {
                Entrance::Wait { turn, .. } => Some(turn),
                Entrance::Open => None,
            })
            .collect();
        // Nobody ever leaves.
        let ticks = (0..40).take_while(|_| gate.tick(now)).count();
        assert!(ticks < 20, "{ticks}");
        assert!(turns.iter_mut().all(is_called));
    }

    #[test]
    fn what_another_reactor_serves_is_not_handed_on_while_there_is_one_of_ours() {
        let (gate, ids) = (Gate::default(), ids(6));
        let _turns: Vec<_> = ids[1..].iter().map(|id| gate.enter(*id)).collect();
        // The first two of them run, three wait, and one of those is next.
        let heir = |ours: &[usize]| gate.heir(ids[0], ids[3], |id| ours.iter().any(|at| ids[*at] == *id));
        assert_eq!(heir(&[0, 3, 4]), ids[0], "it is hot");
        assert_eq!(heir(&[3, 4]), ids[3], "its own");
        assert_eq!(heir(&[1, 5]), ids[5], "one that waits, none that runs");
        assert_eq!(heir(&[1]), ids[0], "there is no better one");
    }

    #[test]
    fn the_latest_idle_environment_is_found_first() {
        let (gate, ids) = (Gate::default(), ids(RECENT_MAX + 1));
        for id in &ids {
            gate.idle(*id);
        }
        assert_eq!(gate.recent(|id| *id != ids[RECENT_MAX]), Some(ids[RECENT_MAX - 1]));
        assert_eq!(gate.recent(|id| *id == ids[0]), None, "the memory is bounded");
    }
}
