//! The functions that the dispatcher knows, in a slab with ids that go stale.

use crate::concurrency::Share;
use crate::environments::IdleStack;
use crate::request_rate::RequestRate;
use crate::scaling_rate::ScalingRate;
use crate::tally::Tally;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const SLOT_BITS: u32 = 20;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// The most functions at once.
pub const FUNCTIONS_MAX: usize = 1 << SLOT_BITS;

/// In place of a slot: the function's limits are its own.
pub(crate) const OWN_LIMITS: u32 = u32::MAX;

/// One function: a slot in the low 20 bits, above them which of the slot's functions it is, modulo 4,096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(u32);

impl FunctionId {
    /// The slot: small, and used again once the function is gone. Good for an array.
    pub const fn slot(self) -> u32 {
        self.0 & SLOT_MASK
    }

    const fn new(slot: u32, generation: u32) -> Self {
        Self(slot | generation << SLOT_BITS)
    }
}

/// What the dispatcher keeps for a function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub resource: Arc<str>,
    pub timeout: Duration,
    /// Counts changes of code or configuration; environments of older ones are not used again.
    pub version: u32,
    pub share: Share,
    pub scaling_rate: Option<ScalingRate>,
    /// Of its reservation; without one it shares the account's.
    pub request_rate: Option<RequestRate>,
    pub idle: IdleStack,
    /// All of its environments, those of older versions included.
    pub environments: u32,
    pub timeouts: Tally,
    /// The slot of the function whose limits count: its own, unless it is a published version of another.
    pub limits: u32,
    /// It takes no more invocations, and its slot is free once its last environment is gone.
    pub removed: bool,
}

/// All functions. Slots of removed functions are used again, longest free first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Functions {
    slots: Vec<Slot>,
    free: VecDeque<u32>,
}

#[derive(Clone, Debug)]
struct Slot {
    generation: u32,
    function: Option<Function>,
}

impl Functions {
    /// Adds a function, with limits of its own if it has [`OWN_LIMITS`]. Panics above [`FUNCTIONS_MAX`].
    pub fn add(&mut self, mut function: Function) -> FunctionId {
        let slot = self.free.front().copied().unwrap_or(self.slots.len() as u32);
        if function.limits == OWN_LIMITS {
            function.limits = slot;
        }
        if let Some(slot) = self.free.pop_front() {
            let reused = &mut self.slots[slot as usize];
            reused.function = Some(function);
            return FunctionId::new(slot, reused.generation);
        }
        assert!(self.slots.len() < FUNCTIONS_MAX, "more than {FUNCTIONS_MAX} functions at once");
        let slot = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, function: Some(function) });
        FunctionId::new(slot, 0)
    }

    /// The function of that id, unless it was removed.
    #[inline]
    pub fn get(&self, id: FunctionId) -> Option<&Function> {
        let slot = self.slots.get(id.slot() as usize)?;
        if FunctionId::new(id.slot(), slot.generation) != id {
            return None;
        }
        slot.function.as_ref().filter(|function| !function.removed)
    }

    /// The function of that id, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, id: FunctionId) -> Option<&mut Function> {
        let slot = self.slots.get_mut(id.slot() as usize)?;
        if FunctionId::new(id.slot(), slot.generation) != id {
            return None;
        }
        slot.function.as_mut().filter(|function| !function.removed)
    }

    /// The function in the slot of an environment that exists, removed or not.
    #[inline]
    pub fn owner(&mut self, slot: u32) -> &mut Function {
        let function = self.slots[slot as usize].function.as_mut();
        function.expect("a function outlives its environments")
    }

    /// The slot of the function whose limits count for the one in this slot.
    #[inline]
    pub fn limits_of(&self, slot: u32) -> u32 {
        self.slots[slot as usize].function.as_ref().map_or(slot, |function| function.limits)
    }

    /// The function in a slot, if it holds one, removed or not.
    pub fn function_in(&self, slot: u32) -> Option<&Function> {
        self.slots.get(slot as usize)?.function.as_ref()
    }

    /// Counts one environment more of a function, and of the function whose version it is.
    #[inline]
    pub fn environment_added(&mut self, slot: u32) {
        let function = self.owner(slot);
        function.environments += 1;
        let limits = function.limits;
        if limits != slot {
            self.owner(limits).environments += 1;
        }
    }

    /// Counts one environment less; the slots stay.
    #[inline]
    pub fn uncount_environment(&mut self, slot: u32) -> u32 {
        let function = self.owner(slot);
        function.environments -= 1;
        let limits = function.limits;
        if limits != slot {
            self.owner(limits).environments -= 1;
        }
        limits
    }

    /// Counts one environment less, and empties the slots that were kept for it alone.
    #[inline]
    pub fn environment_removed(&mut self, slot: u32) {
        let limits = self.uncount_environment(slot);
        self.release(slot);
        if limits != slot {
            self.release(limits);
        }
    }

    /// The slots that hold a function, removed or not.
    pub fn taken(&self) -> Vec<u32> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.function.is_some());
        slots.map(|(slot, _)| slot as u32).collect()
    }

    /// The ids of a function's published versions that were not removed. O(functions).
    pub fn versions_of(&self, slot: u32) -> Vec<FunctionId> {
        let versions =
            self.iter().filter(|(other, function)| function.limits == slot && *other != slot as usize);
        versions.map(|(other, _)| self.id(other as u32)).collect()
    }

    /// The id of the function in a slot that holds one.
    pub fn id(&self, slot: u32) -> FunctionId {
        FunctionId::new(slot, self.slots[slot as usize].generation)
    }

    /// Empties a slot if its function was removed and has no environment left.
    pub fn release(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        if entry.function.as_ref().is_some_and(|function| function.removed && function.environments == 0) {
            entry.function = None;
            entry.generation = entry.generation.wrapping_add(1) & (u32::MAX >> SLOT_BITS);
            self.free.push_back(slot);
        }
    }

    /// How many slots there are, used or free.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Every function that was not removed, with its slot.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Function)> {
        let functions = self.slots.iter().map(|slot| slot.function.as_ref()).enumerate();
        functions.filter_map(|(slot, function)| Some((slot, function.filter(|function| !function.removed)?)))
    }
}
