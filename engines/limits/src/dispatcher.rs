//! The dispatcher: joins the limits, and decides for each invocation where it runs or which limit refuses it.
//!
//! It is given the time and an event and answers with a decision; a live driver and a virtual clock use the same
//! one. The order of the questions is provisioned concurrency, then reserved or account concurrency, then requests per
//! second, then (only where a new environment is needed) burst and scaling rate. AWS publishes no order; this one is
//! assumed.
//!
//! Every call is O(1) but `advance`, `retire_version` and what provisions, which are O(environments that come or go), and
//! `board`. Nothing is allocated for an invocation, whether it runs or is refused, once the environments have reached
//! their peak.
//! A `now` earlier than that of the call before counts as that one.

use crate::burst::Burst;
use crate::concurrency::{Concurrency, Share};
use crate::decision::{Callee, Counts, Decision, Effect, InvocationType, Outcome, ReservedError};
use crate::environments::{Environment, EnvironmentId, Environments, Phase};
use crate::functions::{Function, FunctionId, Functions, OWN_LIMITS};
use crate::provisioned::Pools;
use crate::request_rate::RequestRate;
use crate::scaling_rate::ScalingRate;
use crate::settings::{FunctionLimits, Settings};
use crate::tally::Tally;
use model::limit::{LimitId, LimitRow, Refusal};
use model::time::{Instant, nanos};
use std::sync::Arc;
use std::time::Duration;

/// All limits of one account and Region, and the environments that they govern.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    settings: Settings,
    account: Arc<str>,
    from_function: Arc<str>,
    now: Instant,
    concurrency: Concurrency,
    burst: Option<Burst>,
    request_rate: RequestRate,
    functions: Functions,
    pools: Pools,
    environments: Environments,
    stale: u64,
}

impl Dispatcher {
    /// An account without functions, its buckets full.
    pub fn new(settings: Settings) -> Self {
        let burst = settings.scaling.burst;
        Self {
            account: "account".into(),
            from_function: "the function's configuration".into(),
            now: Instant::START,
            concurrency: Concurrency::new(settings.account_concurrency, settings.unreserved_minimum),
            burst: burst.map(|figures| Burst::new(Instant::START, figures.size, figures.refill_per_minute)),
            request_rate: RequestRate::new(Instant::START, LimitId::RequestRate, settings.request_rate),
            functions: Functions::default(),
            pools: Pools::default(),
            environments: Environments::default(),
            stale: 0,
            settings,
        }
    }

    /// Adds a function without environments, its scaling rate's bucket full.
    ///
    /// Its reservation is taken as given; ask `check_reserved` first where AWS would. Panics above
    /// [`FUNCTIONS_MAX`](crate::functions::FUNCTIONS_MAX) functions.
    pub fn add_function(&mut self, now: Instant, limits: FunctionLimits) -> FunctionId {
        let now = self.clock(now);
        let mut function = Function {
            resource: limits.resource.into(),
            timeout: limits.timeout,
            version: 0,
            share: Share::default(),
            scaling_rate: self.settings.scaling.environments_per_10s.map(|rate| ScalingRate::new(now, rate)),
            request_rate: None,
            idle: Default::default(),
            environments: 0,
            timeouts: Tally::default(),
            limits: OWN_LIMITS,
            removed: false,
        };
        reserve(now, &mut self.concurrency, &self.settings, &mut function, limits.reserved);
        self.functions.add(function)
    }

    /// Adds a published version of a function: environments of its own under the function's limits. `None` if there is
    /// no such function; a version of a version is one of its function.
    ///
    /// [`Self::remove_function`] takes it away again, and so does the end of its function.
    pub fn add_version(&mut self, now: Instant, of: FunctionId, timeout: Duration) -> Option<FunctionId> {
        self.clock(now);
        let function = self.functions.get(of)?;
        let version = Function {
            resource: function.resource.clone(),
            timeout,
            version: 0,
            share: Share::default(),
            scaling_rate: None,
            request_rate: None,
            idle: Default::default(),
            environments: 0,
            timeouts: Tally::default(),
            limits: function.limits,
            removed: false,
        };
        Some(self.functions.add(version))
    }

    /// Changes a function's name, reservation (taken as given) and time-out. Whether it exists.
    pub fn update_function(&mut self, now: Instant, id: FunctionId, limits: FunctionLimits) -> bool {
        let now = self.clock(now);
        let Some(function) = self.functions.get_mut(id) else { return self.stale() };
        function.resource = limits.resource.into();
        function.timeout = limits.timeout;
        reserve(now, &mut self.concurrency, &self.settings, function, limits.reserved);
        true
    }

    /// The function's code or configuration changed: its idle environments end now, the busy ones when they finish,
    /// and every invocation from now on starts a fresh one. Whether the function exists.
    pub fn retire_version(&mut self, now: Instant, id: FunctionId, effects: &mut Vec<Effect>) -> bool {
        self.clock(now);
        let Some(function) = self.functions.get_mut(id) else { return self.stale() };
        function.version = function.version.wrapping_add(1);
        self.reap_all_idle(id.slot(), effects);
        true
    }

    /// Everything as at the start, but for the functions and their settings: idle environments end now, busy ones when they
    /// finish, buckets are full, and the board remembers nothing. Provisioned ones stay; who wants them gone takes their number
    /// to zero and back. Cost: O(functions + environments).
    pub fn reset(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let now = self.clock(now);
        for slot in self.functions.taken() {
            let scaling_rate = self.settings.scaling.environments_per_10s;
            let function = self.functions.owner(slot);
            function.version = function.version.wrapping_add(1);
            function.timeouts = Tally::default();
            function.share.forget();
            if let Some(rate) = &mut function.scaling_rate {
                *rate = scaling_rate.map_or_else(|| rate.clone(), |figure| ScalingRate::new(now, figure));
            }
            if let Some(rate) = &mut function.request_rate {
                *rate = RequestRate::new(now, LimitId::ReservedRequestRate, rate.per_second());
            }
            self.reap_all_idle(slot, effects);
        }
        let burst = self.settings.scaling.burst;
        self.burst = burst.map(|figures| Burst::new(now, figures.size, figures.refill_per_minute));
        self.request_rate = RequestRate::new(now, LimitId::RequestRate, self.settings.request_rate);
        self.concurrency.forget();
    }

    /// The function is gone: it takes no more invocations and loses its reservation. Its idle environments end now,
    /// the busy ones when they finish. Whether it existed.
    pub fn remove_function(&mut self, now: Instant, id: FunctionId, effects: &mut Vec<Effect>) -> bool {
        let now = self.clock(now);
        if self.functions.get(id).is_none() {
            return self.stale();
        }
        for version in self.functions.versions_of(id.slot()) {
            self.remove_function(now, version, effects);
        }
        self.remove_pools_of(now, id.slot(), effects);
        let function = self.functions.owner(id.slot());
        function.version = function.version.wrapping_add(1);
        function.removed = true;
        if function.limits == id.slot() {
            reserve(now, &mut self.concurrency, &self.settings, function, None);
        }
        self.reap_all_idle(id.slot(), effects);
        self.functions.release(id.slot());
        true
    }

    /// Whether the function may reserve that much; `None` stands for one that is still to be added.
    ///
    /// # Errors
    /// [`ReservedError`] with the figures that AWS's message shows.
    pub fn check_reserved(&self, id: Option<FunctionId>, reserved: Option<u32>) -> Result<(), ReservedError> {
        let new = Share::default();
        let share = match id {
            Some(id) => &self.functions.get(id).ok_or(ReservedError::NoFunction)?.share,
            None => &new,
        };
        if let Some(reserved) = reserved.filter(|reserved| *reserved < share.provisioned()) {
            return Err(ReservedError::BelowProvisioned { reserved, provisioned: share.provisioned() });
        }
        self.concurrency.check_allocation(share, reserved).map_err(ReservedError::BelowUnreserved)
    }

    /// Sets or (with `None`) removes a function's reserved concurrency. Requests in flight are left alone.
    ///
    /// # Errors
    /// [`ReservedError`] when less than the minimum would stay unreserved; nothing changes then.
    pub fn set_reserved(
        &mut self,
        now: Instant,
        id: FunctionId,
        reserved: Option<u32>,
    ) -> Result<(), ReservedError> {
        let now = self.clock(now);
        self.check_reserved(Some(id), reserved)?;
        let function = self.functions.get_mut(id).ok_or(ReservedError::NoFunction)?;
        reserve(now, &mut self.concurrency, &self.settings, function, reserved);
        Ok(())
    }

    /// One synchronous invocation of a function, or of its version or alias with provisioned concurrency: where it runs,
    /// or which limit refuses it.
    ///
    /// Unless refused it is in flight until `finished` or `lost`. Its time limit is the driver's to watch: see
    /// [`Self::timeout`].
    #[inline]
    pub fn invoke(&mut self, now: Instant, callee: impl Into<Callee>) -> Decision {
        self.invoke_as(now, callee, InvocationType::RequestResponse)
    }

    /// The same for an invocation of that type.
    #[inline]
    pub fn invoke_as(&mut self, now: Instant, callee: impl Into<Callee>, kind: InvocationType) -> Decision {
        let now = self.clock(now);
        match callee.into() {
            Callee::Function(id) => self.invoke_on_demand(now, id, kind),
            Callee::Provisioned(id) => self.invoke_provisioned(now, id, kind),
        }
    }

    fn invoke_on_demand(&mut self, now: Instant, id: FunctionId, kind: InvocationType) -> Decision {
        let Some(limits) = self.functions.get(id).map(|function| function.limits) else {
            self.stale();
            return Decision::NoFunction;
        };
        let function = self.functions.owner(limits);
        let Function { share, resource, request_rate, .. } = function;
        if let Err(refusal) = self.concurrency.check(now, share, resource, &self.account) {
            return Decision::Refuse(refusal);
        }
        let counts = kind == InvocationType::RequestResponse;
        if counts {
            let checked = match request_rate {
                Some(rate) => rate.check(now, resource),
                None => self.request_rate.check(now, &self.account),
            };
            if let Err(refusal) = checked {
                return Decision::Refuse(refusal);
            }
        }
        let function = self.functions.owner(id.slot());
        if self.environments.top(&function.idle).is_some_and(|top| !self.is_due(now, top)) {
            let function = self.functions.owner(id.slot());
            let taken = self.environments.take_idle(now, &mut function.idle);
            let (environment, needs_reset) = taken.expect("the stack has a top");
            let function = self.functions.owner(limits);
            if counts {
                function.request_rate.as_mut().unwrap_or(&mut self.request_rate).spend(now);
            }
            self.concurrency.enter(&mut function.share, false);
            return if needs_reset { Decision::Reset(environment) } else { Decision::Run(environment) };
        }
        let function = self.functions.owner(limits);
        if let Err(refusal) = check_scaling(now, self.burst.as_mut(), function, &self.account) {
            return Decision::Refuse(refusal);
        }
        if let Some(burst) = &mut self.burst {
            burst.spend(now);
        }
        if let Some(scaling_rate) = &mut function.scaling_rate {
            scaling_rate.spend(now);
        }
        if counts {
            function.request_rate.as_mut().unwrap_or(&mut self.request_rate).spend(now);
        }
        self.concurrency.enter(&mut function.share, false);
        self.functions.environment_added(id.slot());
        let version = self.functions.owner(id.slot()).version;
        Decision::Start(self.environments.start(now, id.slot(), version))
    }

    /// An invocation that runs already when a scenario begins: it takes concurrency, but no token. `None` when the
    /// function does not exist or concurrency is used up. `finished` makes the environment idle.
    pub fn preload(&mut self, now: Instant, id: FunctionId) -> Option<EnvironmentId> {
        let now = self.clock(now);
        let function = self.functions.get_mut(id)?;
        if !self.concurrency.has_room(&function.share) {
            return None;
        }
        self.concurrency.enter(&mut function.share, false);
        function.environments += 1;
        let environment = self.environments.start(now, id.slot(), function.version);
        self.environments.set_phase(now, environment, Phase::Busy);
        Some(environment)
    }

    /// The environment's INIT is done and the handler begins, or it waits for work if its INIT ran ahead. Whether the
    /// environment was waiting for that.
    pub fn started(&mut self, now: Instant, id: EnvironmentId) -> bool {
        let now = self.clock(now);
        match self.environments.get(id).map(|found| found.phase) {
            Some(Phase::Starting) => self.environments.set_phase(now, id, Phase::Busy),
            Some(Phase::Provisioning) => self.provisioned_started(now, id),
            _ => return self.stale(),
        }
        true
    }

    /// The environment's invocation has ended. Frees its concurrency; the environment waits for the next one, or
    /// ends if its version was retired or its life is over: one that is idle then ends after one invocation more,
    /// unless its idle time-out comes first. Whether there was an invocation.
    pub fn finished(
        &mut self,
        now: Instant,
        id: EnvironmentId,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let now = self.clock(now);
        let in_flight = |found: &&Environment| matches!(found.phase, Phase::Starting | Phase::Busy);
        let Some(&environment) = self.environments.get(id).filter(in_flight) else {
            return self.stale();
        };
        let Environment { function: slot, version, since, born, .. } = environment;
        let provisioned = environment.provisioned();
        let &mut Function { version: current_version, limits, .. } = self.functions.owner(slot);
        let function = self.functions.owner(limits);
        self.concurrency.leave(&mut function.share, provisioned.is_some());
        function.timeouts.reach(now.since(since).as_secs());
        if outcome == Outcome::TimedOut {
            function.timeouts.refuse(now);
        }
        if let Some(pool) = provisioned {
            self.provisioned_finished(now, id, pool, outcome, effects);
        } else if version == current_version && now.since(born) < self.settings.environment_lifetime {
            let function = self.functions.owner(slot);
            self.environments.put_idle(now, id, outcome != Outcome::Done, &mut function.idle);
        } else {
            self.remove_environment(id, slot);
            effects.push(Effect::Reap(id));
        }
        true
    }

    /// The environment is gone: it could not start, or was killed. Frees all that it held, in whatever phase it was.
    /// Whether it existed.
    pub fn lost(&mut self, now: Instant, id: EnvironmentId) -> bool {
        let now = self.clock(now);
        let Some(&environment) = self.environments.get(id) else {
            return self.stale();
        };
        let Environment { function: slot, phase, .. } = environment;
        if matches!(phase, Phase::Starting | Phase::Busy) {
            let limits = self.functions.owner(slot).limits;
            let share = &mut self.functions.owner(limits).share;
            self.concurrency.leave(share, environment.provisioned().is_some());
        }
        match environment.provisioned() {
            Some(pool) => self.provisioned_lost(now, id, pool, phase),
            None => self.remove_environment(id, slot),
        }
        true
    }

    /// When `advance` has something to do next; `None` while nothing is idle or to be provisioned.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        let allocation = self.pools.next_allocation().map(|(at, _)| at);
        [self.idle_deadline(), allocation].into_iter().flatten().min()
    }

    #[inline]
    fn idle_deadline(&self) -> Option<Instant> {
        let (_, since) = self.environments.oldest_idle()?;
        Some(since + self.settings.idle_timeout)
    }

    /// Ends the environments that were idle for the idle time-out, and allocates those that are to be provisioned.
    pub fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let now = self.clock(now);
        while self.idle_deadline().is_some_and(|deadline| deadline <= now) {
            self.reap_oldest(now, effects);
        }
        self.allocate(now, effects);
    }

    /// Ends the environment on demand that is idle for longest, of whichever function: for a host that is full. Whether
    /// there was one.
    pub fn reap_oldest(&mut self, now: Instant, effects: &mut Vec<Effect>) -> bool {
        self.clock(now);
        let Some((id, _)) = self.environments.oldest_idle() else { return false };
        let slot = self.environments.get(id).expect("an idle environment exists").function;
        self.remove_environment(id, slot);
        effects.push(Effect::Reap(id));
        true
    }

    /// How long one invocation of the function may take; zero for a function that does not exist.
    pub fn timeout(&self, id: FunctionId) -> Duration {
        self.functions.get(id).map_or(Duration::ZERO, |function| function.timeout)
    }

    /// The function's reserved concurrency.
    pub fn reserved(&self, id: FunctionId) -> Option<u32> {
        self.functions.get(id)?.share.reserved()
    }

    /// The function of an environment that exists.
    pub fn function_of(&self, id: EnvironmentId) -> Option<FunctionId> {
        Some(self.functions.id(self.environments.get(id)?.function))
    }

    /// How many of the function's things there are; all zero for a function that does not exist.
    pub fn counts(&self, id: FunctionId) -> Counts {
        self.functions.get(id).map_or(Counts::default(), |function| Counts {
            in_flight: function.share.in_flight(),
            idle: function.idle.len(),
            environments: function.environments,
        })
    }

    /// Invocations in flight over all functions.
    pub fn in_flight(&self) -> u32 {
        self.concurrency.in_flight()
    }

    /// Environments of all functions.
    pub fn environments(&self) -> u32 {
        self.environments.count()
    }

    /// The account's figures.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How often a driver named a function or an environment that no longer exists, or was not in the phase for that
    /// call. Such a call changes nothing else.
    pub fn stale_calls(&self) -> u64 {
        self.stale
    }

    /// The limits board: the account's rows, then each function's. O(functions + environments).
    pub fn board(&self, now: Instant) -> Vec<LimitRow> {
        let now = now.max(self.now);
        let sources = &self.settings.sources;
        let mut rows = vec![self.concurrency.row(&self.account, &sources.account_concurrency)];
        if let Some(burst) = &self.burst {
            rows.push(burst.row(now, &self.account, &sources.burst));
            rows.push(burst.refill_row(now, &self.account, &sources.burst_refill));
        }
        rows.push(self.request_rate.row(now, &self.account, &sources.request_rate));
        let mut oldest = vec![Duration::ZERO; self.functions.slots()];
        for environment in self.environments.iter().filter(|environment| environment.phase == Phase::Busy) {
            let limits = self.functions.limits_of(environment.function);
            let age = &mut oldest[limits as usize];
            *age = now.since(environment.since).max(*age);
        }
        for (slot, function) in self.functions.iter().filter(|(slot, found)| found.limits as usize == *slot) {
            let resource = &function.resource;
            rows.extend(function.share.row(resource, &self.from_function));
            let request_rate = function.request_rate.as_ref();
            rows.extend(request_rate.map(|rate| rate.row(now, resource, &self.from_function)));
            if let Some(scaling_rate) = &function.scaling_rate {
                rows.push(scaling_rate.row(now, resource, &sources.scaling_rate));
            }
            // What was not reached is rounded down, the limit up.
            let (used, max) = (oldest[slot].as_secs(), nanos(function.timeout).div_ceil(1_000_000_000));
            rows.push(function.timeouts.row(
                LimitId::FunctionTimeout,
                resource,
                used,
                max,
                &self.from_function,
            ));
        }
        rows.extend(self.pools.iter().map(|(_, pool)| pool.row(&self.from_function)));
        rows
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn stale(&mut self) -> bool {
        self.stale = self.stale.saturating_add(1);
        false
    }

    /// Whether an idle environment should have been reaped by now, by a driver that is late. The one on top is the
    /// youngest, so where it is due, all are.
    fn is_due(&self, now: Instant, id: EnvironmentId) -> bool {
        let since = self.environments.get(id).map_or(Instant::NEVER, |found| found.since);
        since + self.settings.idle_timeout <= now
    }

    fn reap_all_idle(&mut self, slot: u32, effects: &mut Vec<Effect>) {
        while let Some(id) = self.environments.top(&self.functions.owner(slot).idle) {
            let function = self.functions.owner(slot);
            self.environments.remove(id, &mut function.idle);
            self.functions.uncount_environment(slot);
            effects.push(Effect::Reap(id));
        }
    }

    fn remove_environment(&mut self, id: EnvironmentId, slot: u32) {
        let function = self.functions.owner(slot);
        self.environments.remove(id, &mut function.idle);
        self.functions.environment_removed(slot);
    }
}

/// Sets a function's reservation, and the request rate that goes with it.
fn reserve(
    now: Instant,
    concurrency: &mut Concurrency,
    settings: &Settings,
    function: &mut Function,
    reserved: Option<u32>,
) {
    concurrency.reserve(&mut function.share, reserved);
    let per_second = reserved.map(|reserved| reserved.saturating_mul(settings.requests_per_concurrency));
    match (&mut function.request_rate, per_second) {
        (Some(rate), Some(per_second)) if rate.per_second() != per_second => rate.set(now, per_second),
        (Some(_), Some(_)) => {}
        (rate, per_second) => {
            *rate = per_second.map(|rate| RequestRate::new(now, LimitId::ReservedRequestRate, rate));
        }
    }
}

/// Asks every scaling limit before any token is taken, so that a refusal by one costs nothing of another.
fn check_scaling(
    now: Instant,
    burst: Option<&mut Burst>,
    function: &mut Function,
    account: &Arc<str>,
) -> Result<(), Refusal> {
    if let Some(burst) = burst {
        burst.check(now, account)?;
    }
    match &mut function.scaling_rate {
        Some(scaling_rate) => scaling_rate.check(now, &function.resource),
        None => Ok(()),
    }
}

mod provision;
#[cfg(test)]
mod provision_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod version_tests;
