//! The dispatcher's part in provisioned concurrency: pools come and go, requests run on them or spill over.

use super::Dispatcher;
use crate::decision::{Decision, Effect, InvocationType, Outcome, ProvisionedError};
use crate::environments::{EnvironmentId, Phase};
use crate::functions::FunctionId;
use crate::provisioned::{ALLOCATION_INTERVAL, Pool, ProvisionedCounts, ProvisionedId, ProvisionedStatus};
use model::Instant;

impl Dispatcher {
    /// Asks for provisioned concurrency of a version or alias: `advance` allocates its environments from now on, at most
    /// one each 10 ms, and none serves before all are there. They take no token of a scaling limit.
    ///
    /// # Errors
    /// [`ProvisionedError`] when the reservation or the account has no room for so many; nothing changes then.
    pub fn provision(
        &mut self,
        now: Instant,
        function: FunctionId,
        qualifier: &str,
        requested: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<ProvisionedId, ProvisionedError> {
        let now = self.clock(now);
        let id = self.add_pool(now, function, qualifier, requested)?;
        self.request_provisioned(now, id, requested, effects);
        Ok(id)
    }

    /// The same with environments that were allocated and initialised before: those of a scenario's begin. They are
    /// added to `ready`.
    ///
    /// # Errors
    /// As [`Self::provision`].
    pub fn preprovision(
        &mut self,
        now: Instant,
        function: FunctionId,
        qualifier: &str,
        requested: u32,
        ready: &mut Vec<EnvironmentId>,
    ) -> Result<ProvisionedId, ProvisionedError> {
        let now = self.clock(now);
        let id = self.add_pool(now, function, qualifier, requested)?;
        let mut effects = Vec::new();
        self.request_provisioned(now, id, requested, &mut effects);
        while self.pools.get(id).is_some_and(|pool| pool.missing > 0) {
            self.allocate_one(now, now, id.slot(), &mut effects);
        }
        for effect in effects {
            if let Effect::Provision(environment) = effect {
                self.provisioned_started(now, environment);
                ready.push(environment);
            }
        }
        Ok(id)
    }

    fn add_pool(
        &mut self,
        now: Instant,
        function: FunctionId,
        qualifier: &str,
        requested: u32,
    ) -> Result<ProvisionedId, ProvisionedError> {
        self.check_provisioned(function, 0, requested)?;
        let owner = self.functions.get(function).ok_or(ProvisionedError::NoFunction)?;
        let resource = format!("{}:{qualifier}", owner.resource).into();
        Ok(self.pools.add(Pool::new(now, function.slot(), resource)))
    }

    /// Asks for another number of environments. Too many end: first those that start, then idle ones, busy ones when
    /// they finish.
    ///
    /// # Errors
    /// As [`Self::provision`].
    pub fn set_provisioned(
        &mut self,
        now: Instant,
        id: ProvisionedId,
        requested: u32,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ProvisionedError> {
        let now = self.clock(now);
        let pool = self.pools.get(id).ok_or(ProvisionedError::NoFunction)?;
        let (function, current) = (self.functions.id(pool.function), pool.requested);
        self.check_provisioned(function, current, requested)?;
        self.request_provisioned(now, id, requested, effects);
        Ok(())
    }

    /// The version or alias has no provisioned concurrency any more. Its environments end as with
    /// [`Self::set_provisioned`]. Whether it had any.
    pub fn remove_provisioned(&mut self, now: Instant, id: ProvisionedId, effects: &mut Vec<Effect>) -> bool {
        let now = self.clock(now);
        if self.pools.get(id).is_none() {
            return self.stale();
        }
        self.request_provisioned(now, id, 0, effects);
        self.pools.remove(id);
        true
    }

    /// How a version's or alias's provisioned concurrency fares; `None` if it has none.
    pub fn provisioned(&self, id: ProvisionedId) -> Option<ProvisionedCounts> {
        self.pools.get(id).map(Pool::counts)
    }

    /// The version or alias that an environment is provisioned for, if it exists and is.
    pub fn provisioned_for(&self, id: EnvironmentId) -> Option<ProvisionedId> {
        self.environments.get(id)?.provisioned()
    }

    /// Whether an environment waits for work.
    pub fn is_idle(&self, id: EnvironmentId) -> bool {
        self.environments.get(id).is_some_and(|found| found.phase == Phase::Idle)
    }

    fn check_provisioned(
        &self,
        function: FunctionId,
        current: u32,
        requested: u32,
    ) -> Result<(), ProvisionedError> {
        let limits = self.functions.get(function).ok_or(ProvisionedError::NoFunction)?.limits;
        let share = &self.functions.function_in(limits).ok_or(ProvisionedError::NoFunction)?.share;
        let requested = (share.provisioned() - current).saturating_add(requested);
        match share.reserved() {
            Some(reserved) if requested > reserved => {
                Err(ProvisionedError::AboveReserved { requested, reserved })
            }
            Some(_) => Ok(()),
            None => self
                .concurrency
                .check_allocation(share, Some(requested))
                .map_err(ProvisionedError::BelowUnreserved),
        }
    }

    /// Sets the number, takes it out of concurrency, and ends what is too many.
    fn request_provisioned(
        &mut self,
        now: Instant,
        id: ProvisionedId,
        requested: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pool) = self.pools.get_mut(id) else { return };
        let limits = self.functions.limits_of(pool.function);
        let share = &mut self.functions.owner(limits).share;
        let whole = (share.provisioned() - pool.requested).saturating_add(requested);
        self.concurrency.provision(share, whole);
        pool.next_at = pool.next_at.max(now);
        pool.request(now, requested);
        while let Some(pool) = self.pools.get_mut(id).filter(|pool| pool.environments > requested) {
            let starting = self.environments.top(&pool.starting);
            let Some(environment) = starting.or_else(|| self.environments.top(&pool.idle)) else { break };
            self.remove_provisioned_environment(environment, id, starting.is_some());
            effects.push(Effect::Reap(environment));
        }
        if let Some(pool) = self.pools.get_mut(id) {
            pool.excess = pool.environments.saturating_sub(requested);
            pool.settle();
        }
        self.pools.note(id.slot());
        self.allocate(now, effects);
    }

    /// Where an invocation of a version or alias with provisioned concurrency runs.
    pub(super) fn invoke_provisioned(
        &mut self,
        now: Instant,
        id: ProvisionedId,
        kind: InvocationType,
    ) -> Decision {
        let counts = kind == InvocationType::RequestResponse;
        let Some(pool) = self.pools.get_mut(id) else {
            self.stale();
            return Decision::NoFunction;
        };
        if !pool.has_room(now, counts) {
            let function = self.functions.id(pool.function);
            let decision = self.invoke_on_demand(now, function, kind);
            if let (Decision::Run(_) | Decision::Start(_) | Decision::Reset(_), Some(pool)) =
                (&decision, self.pools.get_mut(id))
            {
                pool.spill(now);
            }
            return decision;
        }
        let limits = self.functions.limits_of(pool.function);
        let function = self.functions.owner(limits);
        let (share, resource) = (&mut function.share, &function.resource);
        if let Err(refusal) = self.concurrency.check_provisioned(now, share, resource, &self.account) {
            return Decision::Refuse(refusal);
        }
        let taken = self.environments.take_idle(now, &mut pool.idle);
        let (environment, needs_reset) = taken.expect("a pool with room has an idle environment");
        if counts {
            pool.request_rate.spend(now);
        }
        pool.enter();
        self.concurrency.enter(share, true);
        if needs_reset { Decision::Reset(environment) } else { Decision::Run(environment) }
    }

    /// The INIT of an environment that is provisioned is done.
    pub(super) fn provisioned_started(&mut self, now: Instant, id: EnvironmentId) {
        let pool = self.environments.get(id).and_then(|found| found.provisioned());
        if let Some(pool) = pool.and_then(|pool| self.pools.get_mut(pool)) {
            self.environments.initialised(now, id, &mut pool.starting, &mut pool.idle);
            pool.settle();
        }
    }

    /// An invocation on a provisioned environment has ended; its concurrency is free already.
    pub(super) fn provisioned_finished(
        &mut self,
        now: Instant,
        id: EnvironmentId,
        pool_id: ProvisionedId,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let born = self.environments.get(id).map_or(now, |found| found.born);
        let too_old = now.since(born) >= self.settings.environment_lifetime;
        let Some(pool) = self.pools.get_mut(pool_id) else {
            self.remove_provisioned_environment(id, pool_id, false);
            return effects.push(Effect::Reap(id));
        };
        pool.in_use -= 1;
        if pool.excess > 0 || (too_old && pool.is_renewed()) {
            pool.excess = pool.excess.saturating_sub(1);
            self.remove_provisioned_environment(id, pool_id, false);
            return effects.push(Effect::Reap(id));
        }
        self.environments.put_idle(now, id, outcome != Outcome::Done, &mut pool.idle);
        if too_old && pool.may_renew() {
            pool.missing += 1;
            pool.next_at = pool.next_at.max(now);
            self.pools.note(pool_id.slot());
            self.allocate(now, effects);
        }
    }

    /// A provisioned environment is gone, from that phase; its concurrency is free already. An INIT that ran ahead and
    /// failed stops the allocation, as it would fail again; others are replaced.
    pub(super) fn provisioned_lost(
        &mut self,
        now: Instant,
        id: EnvironmentId,
        pool_id: ProvisionedId,
        phase: Phase,
    ) {
        if let Some(pool) = self.pools.get_mut(pool_id) {
            match phase {
                Phase::Starting | Phase::Busy => {
                    pool.in_use -= 1;
                    pool.excess = pool.excess.saturating_sub(1);
                }
                Phase::Provisioning => pool.status = ProvisionedStatus::Failed,
                Phase::Idle | Phase::Gone => {}
            }
        }
        self.remove_provisioned_environment(id, pool_id, phase == Phase::Provisioning);
        self.replace(now, pool_id);
    }

    /// Asks for what a pool lacks.
    fn replace(&mut self, now: Instant, id: ProvisionedId) {
        if let Some(pool) = self.pools.get_mut(id) {
            let failed = pool.status == ProvisionedStatus::Failed;
            let lacks = pool.requested.saturating_sub(pool.environments);
            pool.missing = if failed { 0 } else { pool.missing.max(lacks) };
            pool.next_at = pool.next_at.max(now);
            self.pools.note(id.slot());
        }
    }

    /// Allocates what is due, of all pools.
    pub(super) fn allocate(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some((at, slot)) = self.pools.next_allocation().filter(|(at, _)| *at <= now) {
            self.allocate_one(now, at + ALLOCATION_INTERVAL, slot, effects);
        }
    }

    fn allocate_one(&mut self, now: Instant, next_at: Instant, slot: u32, effects: &mut Vec<Effect>) {
        let id = self.pools.id(slot);
        let Some(pool) = self.pools.get_mut(id) else { return };
        pool.missing -= 1;
        pool.environments += 1;
        pool.next_at = next_at;
        self.functions.environment_added(pool.function);
        let environment = self.environments.start_ahead(now, pool.function, id, &mut pool.starting);
        effects.push(Effect::Provision(environment));
        if pool.missing == 0 {
            self.pools.note(slot);
        }
    }

    /// The function goes, and its pools with it.
    pub(super) fn remove_pools_of(&mut self, now: Instant, function: u32, effects: &mut Vec<Effect>) {
        let pools = self.pools.iter().filter(|(_, pool)| pool.function == function);
        let ids: Vec<ProvisionedId> = pools.map(|(slot, _)| self.pools.id(slot)).collect();
        for id in ids {
            self.remove_provisioned(now, id, effects);
        }
    }

    fn remove_provisioned_environment(&mut self, id: EnvironmentId, pool: ProvisionedId, starting: bool) {
        let Some(found) = self.environments.get(id) else { return };
        let slot = found.function;
        match self.pools.get_mut(pool) {
            Some(pool) => {
                pool.environments -= 1;
                let stack = if starting { &mut pool.starting } else { &mut pool.idle };
                self.environments.remove(id, stack);
            }
            // A pool that is gone has no idle environments left: this one was busy.
            None => self.environments.remove(id, &mut Default::default()),
        }
        self.functions.environment_removed(slot);
    }
}
