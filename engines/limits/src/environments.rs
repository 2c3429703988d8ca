//! Execution environments: starting, busy, idle; each belongs to one version of one function.
//!
//! All live in one slab and are linked through it, so nothing is allocated once the slab has grown to
//! the peak. An idle environment stands in two lists: its function's stack, of which the most recently
//! used runs next (so that the others can grow old), and the list of all by age, of which the oldest is
//! reaped first. Every environment has the same idle time-out, so the list by age needs no sorting. One that is
//! provisioned is never reaped for its age: it stands in its pool's stack alone.
//!
//! ```text
//!   by age:   oldest <-> ... <-> newest            function's stack:   top -> below -> ... -> bottom
//! ```
//!
//! The number of environments has no limit of its own: AWS bounds those that are busy (concurrency) and
//! how fast they come (burst, scaling rate). A driver that is bound by its host reaps the oldest.

use crate::provisioned::ProvisionedId;
use model::Instant;

const NONE: u32 = u32::MAX;

/// One execution environment: its slot, and which of the slot's environments it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentId {
    slot: u32,
    generation: u32,
}

impl EnvironmentId {
    /// The slot: small, and used again once the environment is gone. Good for an array.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which environment of the slot it is; wraps after 2^32.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl std::fmt::Display for EnvironmentId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.slot, self.generation)
    }
}

/// What an environment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its INIT runs ahead: nobody waits for it.
    Provisioning,
    /// Its INIT runs, for an invocation that waits.
    Starting,
    /// Its handler runs.
    Busy,
    /// It waits for work.
    Idle,
    /// The slot holds no environment.
    Gone,
}

/// What the pool knows of an environment.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// The slot of its function.
    pub function: u32,
    /// The function's version that it was started for; if it is provisioned, which of the place's pools it is of.
    pub version: u32,
    /// The place of its pool, or [`ON_DEMAND`].
    pub pool: u32,
    /// What it does.
    pub phase: Phase,
    /// Its runtime was stopped: the next invocation starts with a suppressed INIT.
    pub needs_reset: bool,
    /// Since when it is in this phase.
    pub since: Instant,
    /// When it was started.
    pub born: Instant,
}

/// In place of a pool: the environment is not provisioned.
pub const ON_DEMAND: u32 = NONE;

impl Environment {
    /// The pool that it is provisioned for, if it is.
    #[inline]
    pub const fn provisioned(&self) -> Option<ProvisionedId> {
        if self.pool == ON_DEMAND { None } else { Some(ProvisionedId::new(self.pool, self.version)) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    environment: Environment,
    generation: u32,
    older: u32,
    newer: u32,
    above: u32,
    /// The next in the function's stack, or the next free slot.
    below: u32,
}

/// One function's idle environments.
#[derive(Clone, Copy, Debug)]
pub struct IdleStack {
    top: u32,
    len: u32,
}

impl Default for IdleStack {
    fn default() -> Self {
        Self { top: NONE, len: 0 }
    }
}

impl IdleStack {
    /// How many are idle.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is idle.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// All environments of the account.
#[derive(Clone, Debug)]
pub struct Environments {
    slots: Vec<Slot>,
    free: u32,
    len: u32,
    oldest: u32,
    newest: u32,
}

impl Default for Environments {
    fn default() -> Self {
        Self { slots: Vec::new(), free: NONE, len: 0, oldest: NONE, newest: NONE }
    }
}

impl Environments {
    /// How many exist.
    pub const fn count(&self) -> u32 {
        self.len
    }

    /// The environment of that id, unless it is gone.
    #[inline]
    pub fn get(&self, id: EnvironmentId) -> Option<&Environment> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.generation == id.generation && slot.environment.phase != Phase::Gone)
            .then_some(&slot.environment)
    }

    /// Every environment that exists.
    pub fn iter(&self) -> impl Iterator<Item = &Environment> {
        self.slots.iter().map(|slot| &slot.environment).filter(|environment| environment.phase != Phase::Gone)
    }

    /// A new environment of the function, starting. Allocates only above the peak so far.
    pub fn start(&mut self, now: Instant, function: u32, version: u32) -> EnvironmentId {
        self.add(Environment {
            function,
            version,
            pool: ON_DEMAND,
            phase: Phase::Starting,
            needs_reset: false,
            since: now,
            born: now,
        })
    }

    /// A new environment whose INIT runs ahead, on top of its pool's starting ones.
    pub fn start_ahead(
        &mut self,
        now: Instant,
        function: u32,
        pool: ProvisionedId,
        starting: &mut IdleStack,
    ) -> EnvironmentId {
        let id = self.add(Environment {
            function,
            version: pool.generation(),
            pool: pool.slot(),
            phase: Phase::Provisioning,
            needs_reset: false,
            since: now,
            born: now,
        });
        self.stack(id, starting);
        id
    }

    /// The INIT that ran ahead is done: from the starting ones of its pool to the idle ones.
    pub fn initialised(
        &mut self,
        now: Instant,
        id: EnvironmentId,
        starting: &mut IdleStack,
        idle: &mut IdleStack,
    ) {
        self.unlink(id, starting);
        self.put_idle(now, id, false, idle);
    }

    fn add(&mut self, environment: Environment) -> EnvironmentId {
        self.len += 1;
        if self.free == NONE {
            let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE);
            let slot = slot.expect("2^32 environments need more memory than a machine has");
            let links =
                Slot { environment, generation: 0, older: NONE, newer: NONE, above: NONE, below: NONE };
            self.slots.push(links);
            return EnvironmentId { slot, generation: 0 };
        }
        let slot = self.free;
        let reused = &mut self.slots[slot as usize];
        self.free = reused.below;
        reused.environment = environment;
        reused.below = NONE;
        EnvironmentId { slot, generation: reused.generation }
    }

    /// Moves an environment that is not idle to `phase`, another that is not idle.
    #[inline]
    pub fn set_phase(&mut self, now: Instant, id: EnvironmentId, phase: Phase) {
        let environment = &mut self.slots[id.slot as usize].environment;
        environment.phase = phase;
        environment.since = now;
    }

    /// An environment that is not idle becomes the newest idle one, on top of its function's stack.
    #[inline]
    pub fn put_idle(&mut self, now: Instant, id: EnvironmentId, needs_reset: bool, stack: &mut IdleStack) {
        let slot = &mut self.slots[id.slot as usize];
        slot.environment.phase = Phase::Idle;
        slot.environment.needs_reset = needs_reset;
        slot.environment.since = now;
        if slot.environment.pool == ON_DEMAND {
            slot.older = self.newest;
            slot.newer = NONE;
            if self.newest == NONE {
                self.oldest = id.slot;
            } else {
                self.slots[self.newest as usize].newer = id.slot;
            }
            self.newest = id.slot;
        }
        self.stack(id, stack);
    }

    /// Puts an environment on top of a stack.
    #[inline]
    fn stack(&mut self, id: EnvironmentId, stack: &mut IdleStack) {
        if stack.top != NONE {
            self.slots[stack.top as usize].above = id.slot;
        }
        let slot = &mut self.slots[id.slot as usize];
        slot.above = NONE;
        slot.below = stack.top;
        stack.top = id.slot;
        stack.len += 1;
    }

    /// The most recently used idle environment of the function, taken out of the idle ones into `Busy`, or
    /// `Starting` where it needs a reset; and whether it does.
    #[inline]
    pub fn take_idle(&mut self, now: Instant, stack: &mut IdleStack) -> Option<(EnvironmentId, bool)> {
        let id = self.top(stack)?;
        self.unlink(id, stack);
        let environment = &mut self.slots[id.slot as usize].environment;
        let needs_reset = std::mem::take(&mut environment.needs_reset);
        environment.phase = if needs_reset { Phase::Starting } else { Phase::Busy };
        environment.since = now;
        Some((id, needs_reset))
    }

    /// The function's most recently used idle environment.
    pub fn top(&self, stack: &IdleStack) -> Option<EnvironmentId> {
        (stack.top != NONE).then(|| self.id(stack.top))
    }

    /// The environment that is idle for longest, and since when.
    #[inline]
    pub fn oldest_idle(&self) -> Option<(EnvironmentId, Instant)> {
        let slot = self.slots.get(self.oldest as usize)?;
        Some((self.id(self.oldest), slot.environment.since))
    }

    /// The environment is gone; its id is stale from now on. `stack` is the one that it is in, if it is in one: idle,
    /// or starting ahead.
    pub fn remove(&mut self, id: EnvironmentId, stack: &mut IdleStack) {
        if matches!(self.slots[id.slot as usize].environment.phase, Phase::Idle | Phase::Provisioning) {
            self.unlink(id, stack);
        }
        let slot = &mut self.slots[id.slot as usize];
        slot.environment.phase = Phase::Gone;
        slot.generation = slot.generation.wrapping_add(1);
        slot.below = self.free;
        self.free = id.slot;
        self.len -= 1;
    }

    fn id(&self, slot: u32) -> EnvironmentId {
        EnvironmentId { slot, generation: self.slots[slot as usize].generation }
    }

    #[inline]
    fn unlink(&mut self, id: EnvironmentId, stack: &mut IdleStack) {
        let Slot { older, newer, above, below, environment, .. } = self.slots[id.slot as usize];
        if environment.pool == ON_DEMAND {
            match self.slots.get_mut(older as usize) {
                Some(slot) => slot.newer = newer,
                None => self.oldest = newer,
            }
            match self.slots.get_mut(newer as usize) {
                Some(slot) => slot.older = older,
                None => self.newest = older,
            }
        }
        match self.slots.get_mut(above as usize) {
            Some(slot) => slot.below = below,
            None => stack.top = below,
        }
        if let Some(slot) = self.slots.get_mut(below as usize) {
            slot.above = above;
        }
        stack.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(pool: &mut Environments, stack: &mut IdleStack, secs: u64) -> EnvironmentId {
        let id = pool.start(Instant::from_secs(secs), 0, 0);
        pool.put_idle(Instant::from_secs(secs), id, false, stack);
        id
    }

    #[test]
    fn the_most_recently_used_runs_and_the_oldest_is_reaped() {
        let (mut pool, mut stack) = (Environments::default(), IdleStack::default());
        let [first, second, third] = [0, 1, 2].map(|secs| idle(&mut pool, &mut stack, secs));
        assert_eq!(pool.oldest_idle(), Some((first, Instant::from_secs(0))));
        assert_eq!(pool.take_idle(Instant::from_secs(3), &mut stack), Some((third, false)));
        pool.remove(first, &mut stack);
        assert_eq!(pool.oldest_idle(), Some((second, Instant::from_secs(1))));
        assert_eq!(pool.take_idle(Instant::from_secs(3), &mut stack), Some((second, false)));
        assert_eq!((pool.take_idle(Instant::from_secs(3), &mut stack), stack.len()), (None, 0));
        assert_eq!(pool.oldest_idle(), None);
    }

    #[test]
    fn a_used_slot_makes_old_ids_stale() {
        let (mut pool, mut stack) = (Environments::default(), IdleStack::default());
        let old = idle(&mut pool, &mut stack, 0);
        pool.remove(old, &mut stack);
        assert!(pool.get(old).is_none());
        let new = idle(&mut pool, &mut stack, 1);
        assert_eq!(new.slot(), old.slot());
        assert!(pool.get(old).is_none() && pool.get(new).is_some());
    }

    #[test]
    fn removing_from_the_middle_keeps_both_lists_whole() {
        let (mut pool, mut stack) = (Environments::default(), IdleStack::default());
        let ids = [0, 1, 2, 3, 4].map(|secs| idle(&mut pool, &mut stack, secs));
        pool.remove(ids[2], &mut stack);
        pool.remove(ids[4], &mut stack);
        let mut taken = Vec::new();
        while let Some((id, _)) = pool.take_idle(Instant::from_secs(9), &mut stack) {
            taken.push(id);
        }
        assert_eq!(taken, [ids[3], ids[1], ids[0]]);
        assert_eq!((pool.count(), pool.oldest_idle()), (3, None));
    }
}
