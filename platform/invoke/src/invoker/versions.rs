//! Published versions and aliases: environments of their own under their function's limits, and environments that are
//! initialised ahead of the invocations that want them (provisioned concurrency).

use super::shelf::{Blank, SNAP_START};
use super::{Core, Invoker, Known, Named};
use crate::environment::{Environment, ON_DEMAND, Stop, Version};
use crate::output::LogStyle;
use control::{Function, SnapStart};
use limits::{Callee, Effect, EnvironmentId, FunctionId, ProvisionedCounts, ProvisionedId};
use model::Instant;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// Least time that an INIT which runs ahead may take; the function's timeout if that is longer.
///
/// Source: Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle", Init phase, published.
const INIT_AHEAD: Duration = Duration::from_secs(130);
/// What a function's environment says of how it was initialised. Source: Lambda Developer Guide, "Defined runtime
/// environment variables", published.
const PROVISIONED: &str = "provisioned-concurrency";

/// Environments that are initialised ahead, as the invoker knows them.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// What its environments run.
    version: Arc<Version>,
    requested: u32,
}

/// What effects ask for, taken out of the core: to be carried out without its lock.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) ended: Vec<Arc<Environment>>,
    begun: Vec<(EnvironmentId, Arc<Environment>)>,
    pub(super) blanks: Vec<Blank>,
}

/// Where what is known of a function's versions comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// They were there when the platform started.
    Store,
    /// The API or a template put them there just now.
    Change,
}

impl Invoker {
    /// Makes what is known of a function's versions and aliases be as the control room says.
    pub(super) fn sync_versions(
        &self,
        core: &mut Core,
        now: Instant,
        function: &Arc<Function>,
        origin: Origin,
        effects: &mut Vec<Effect>,
    ) {
        let name = function.name.as_str();
        // So it is with nearly all of thousands.
        if function.published.versions.is_empty() && !core.keys.contains_key(name) {
            return;
        }
        let Some(root) = core.functions.get(name).map(|known| known.id) else { return };
        let mut wanted: HashSet<Arc<str>> = HashSet::new();
        for (number, version) in &function.published.versions {
            let key: Arc<str> = format!("{name}:{}", version.version).into();
            let known = core.functions.get(&key).map(|known| known.version.function.version_key);
            if known != Some(version.version_key) {
                self.drop_key(core, now, &key, effects);
                let Some(id) = core.dispatcher.add_version(now, root, version.timeout) else { continue };
                let known =
                    Known { id, callee: Callee::Function(id), version: self.version(version.clone(), false) };
                // As at AWS; only that CloudFormation waits for its versions, and a restart is none of AWS's.
                let refuses = origin == Origin::Change && !function.published.template.made(*number);
                core.set_up_shelf(id, &known.version, refuses);
                core.functions.insert(key.clone(), known);
            }
            self.provision(core, now, function, &key, &version.version, effects);
            wanted.insert(key);
        }
        for alias in function.published.aliases.values() {
            if !function.published.provisioned.contains_key(&alias.name) {
                continue;
            }
            let Some(base) = core.functions.get(format!("{name}:{}", alias.version).as_str()).cloned() else {
                continue;
            };
            let key: Arc<str> = format!("{name}:{}", alias.name).into();
            let moved = core
                .functions
                .get(&key)
                .is_some_and(|known| known.version.function.version_key != base.version.function.version_key);
            if moved {
                self.drop_key(core, now, &key, effects);
            }
            if !core.functions.contains_key(&key) {
                let known = Known { callee: Callee::Function(base.id), ..base };
                core.functions.insert(key.clone(), known);
            }
            self.provision(core, now, function, &key, &alias.name, effects);
            wanted.insert(key);
        }
        let before = core.keys.remove(name).unwrap_or_default();
        for key in before.iter().filter(|key| !wanted.contains(*key)) {
            self.drop_key(core, now, key, effects);
        }
        if !wanted.is_empty() {
            core.keys.insert(name.into(), wanted.into_iter().collect());
        }
    }

    /// Forgets all versions and aliases of a function that goes; its end in the dispatcher takes their environments.
    pub(super) fn forget_versions(core: &mut Core, name: &str) {
        for key in core.keys.remove(name).unwrap_or_default() {
            let Some(known) = core.functions.remove(&key) else { continue };
            core.forget_shelf(known.id);
            if let Callee::Provisioned(pool) = known.callee {
                core.pools.remove(&pool);
            }
        }
    }

    /// Gives a version or alias the provisioned concurrency that is asked for, or takes it away.
    fn provision(
        &self,
        core: &mut Core,
        now: Instant,
        function: &Arc<Function>,
        key: &Arc<str>,
        qualifier: &str,
        effects: &mut Vec<Effect>,
    ) {
        let asked = function.published.provisioned.get(qualifier).map(|provisioned| provisioned.requested);
        let Some(known) = core.functions.get(key).cloned() else { return };
        let done = match (asked, known.callee) {
            (None, Callee::Function(_)) => Ok(()),
            (None, Callee::Provisioned(pool)) => {
                self.drop_pool(core, now, key, pool, effects);
                Ok(())
            }
            (Some(requested), Callee::Provisioned(pool)) => match core.pools.get_mut(&pool) {
                Some(found) if found.requested != requested => {
                    found.requested = requested;
                    core.dispatcher.set_provisioned(now, pool, requested, effects)
                }
                _ => Ok(()),
            },
            (Some(requested), Callee::Function(id)) => {
                // Its first environment is due at once, but its version must be known before.
                match core.dispatcher.provision(now, id, qualifier, 0, effects) {
                    Ok(pool) => {
                        let version = self.version(known.version.function.clone(), true);
                        core.pools.insert(pool, Pool { version, requested });
                        if let Some(known) = core.functions.get_mut(key) {
                            known.callee = Callee::Provisioned(pool);
                        }
                        core.dispatcher.set_provisioned(now, pool, requested, effects)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        if let Err(error) = done {
            // The control room has checked it already.
            tracing::error!(%error, key = &**key, "provisioned concurrency could not be set");
        }
    }

    /// Provisioned environments are given up and initialised anew.
    pub(super) fn renew_pools(&self, core: &mut Core, now: Instant, effects: &mut Vec<Effect>) {
        let pools: Vec<_> = core.pools.iter().map(|(id, pool)| (*id, pool.requested)).collect();
        for (id, requested) in pools {
            let none = core.dispatcher.set_provisioned(now, id, 0, effects);
            if let Err(error) =
                none.and_then(|()| core.dispatcher.set_provisioned(now, id, requested, effects))
            {
                tracing::error!(%error, "provisioned concurrency could not be set again");
            }
        }
    }

    fn drop_pool(
        &self,
        core: &mut Core,
        now: Instant,
        key: &Arc<str>,
        pool: ProvisionedId,
        effects: &mut Vec<Effect>,
    ) {
        core.dispatcher.remove_provisioned(now, pool, effects);
        core.pools.remove(&pool);
        if let Some(known) = core.functions.get_mut(key) {
            known.callee = Callee::Function(known.id);
        }
    }

    /// Takes a version or alias away: no invocation comes to it any more.
    fn drop_key(&self, core: &mut Core, now: Instant, key: &Arc<str>, effects: &mut Vec<Effect>) {
        let Some(known) = core.functions.get(key).cloned() else { return };
        if let Callee::Provisioned(pool) = known.callee {
            self.drop_pool(core, now, key, pool, effects);
        }
        core.functions.remove(key);
        // The environments of an alias are its version's, which stays.
        let is_version = key.rsplit(':').next() == Some(known.version.function.version.as_str());
        if is_version {
            core.forget_shelf(known.id);
            core.dispatcher.remove_function(now, known.id, effects);
        }
    }

    /// What it takes to run a function at one version.
    pub(super) fn version(&self, function: Arc<Function>, ahead: bool) -> Arc<Version> {
        let is_snap_start =
            function.snap_start == SnapStart::PublishedVersions && function.version != "$LATEST" && !ahead;
        let initialization_type = match (ahead, is_snap_start) {
            (true, _) => PROVISIONED,
            (false, true) => SNAP_START,
            (false, false) => ON_DEMAND,
        };
        let init_timeout =
            if ahead || is_snap_start { INIT_AHEAD.max(function.timeout) } else { self.0.init_timeout };
        Arc::new(Version {
            log: self.0.logs.function(&function.name),
            log_style: LogStyle::of(&function.logging),
            facts: OnceLock::new(),
            farewells: self.0.farewells.clone(),
            counters: self.0.counters.function(&function.name),
            region: self.0.region.clone(),
            init_timeout,
            init_billed: self.0.init_billed || ahead || is_init_always_billed(&function),
            network: self.0.network.clone(),
            streams: self.0.streams.clone(),
            initialization_type,
            prepared: tokio::sync::OnceCell::new(),
            gates: OnceLock::new(),
            heritage: self.0.sandboxes.heritage(),
            function,
        })
    }

    /// How the provisioned concurrency of `cart:live` or `cart:3` fares; `None` if it has none.
    pub fn provisioned(&self, key: &str) -> Option<ProvisionedCounts> {
        let core = self.lock();
        match core.functions.get(key)?.callee {
            Callee::Provisioned(pool) => core.dispatcher.provisioned(pool),
            Callee::Function(_) => None,
        }
    }

    /// How all provisioned concurrency fares, by `cart:live`.
    pub fn all_provisioned(&self) -> Vec<(Arc<str>, ProvisionedCounts)> {
        let core = self.lock();
        let counts = |(key, known): (&Arc<str>, &Known)| match known.callee {
            Callee::Provisioned(pool) => Some((Arc::clone(key), core.dispatcher.provisioned(pool)?)),
            Callee::Function(_) => None,
        };
        let mut all: Vec<_> = core.functions.iter().filter_map(counts).collect();
        all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Ends and begins what was taken out of the core.
    pub(super) fn carry_out(&self, taken: Taken) {
        super::end_all(taken.ended);
        for (id, environment) in taken.begun {
            tokio::spawn(self.clone().initialise_ahead(id, environment));
        }
        for blank in taken.blanks {
            tokio::spawn(self.clone().stock(blank));
        }
    }

    /// Waits until the doors serve; false if the platform ends before they do.
    pub(super) async fn doors_serve(&self) -> bool {
        serves(self.0.serving.clone()).await
    }

    /// Runs the INIT of an environment that nobody waits for.
    async fn initialise_ahead(self, id: EnvironmentId, environment: Arc<Environment>) {
        if !self.doors_serve().await || !self.lock().environments.contains_key(&id) {
            return;
        }
        let version = environment.version.clone();
        let done = match self.prepared(&version).await {
            Ok(prepared) => {
                let done = environment.initialise_ahead(&self.0.sandboxes, &prepared, Stop::Never).await;
                done.is_ok()
            }
            Err(error) => {
                version.log.write(&error.to_string());
                false
            }
        };
        let now = self.now();
        let mut effects = Vec::new();
        let mut core = self.lock();
        // It may have been given up meanwhile.
        let wanted = core.environments.contains_key(&id);
        if wanted && done {
            environment.release();
            core.dispatcher.started(now, id);
        } else if wanted {
            core.dispatcher.lost(now, id);
            effects.push(Effect::Reap(id));
        }
        let taken = core.take_out(&effects);
        drop(core);
        self.carry_out(taken);
        if wanted && done {
            self.0.freezer.idle(&environment);
        } else {
            environment.end();
        }
        self.0.deadlines.notify_one();
    }
}

impl Core {
    /// Takes out what effects end, and puts in what they begin.
    pub(super) fn take_out(&mut self, effects: &[Effect]) -> Taken {
        let mut taken = Taken::default();
        taken.ended.append(&mut self.forgotten);
        for effect in effects {
            match effect {
                Effect::Reap(id) => {
                    taken.ended.extend(self.environments.remove(id).map(|named| named.environment));
                }
                Effect::Provision(id) => {
                    let pool = self.dispatcher.provisioned_for(*id).and_then(|pool| self.pools.get(&pool));
                    // One that was reaped by a later effect of the same list is not begun.
                    let Some(pool) = pool else { continue };
                    let environment = Environment::new(pool.version.clone());
                    self.environments.insert(*id, Named { environment: environment.clone(), in_use: false });
                    taken.begun.push((*id, environment));
                }
            }
        }
        taken
    }
}

/// Whether INIT was billed before August 2025, too: of images and of runtimes that the function brings along.
///
/// Source: AWS Compute Blog, "AWS Lambda standardizes billing for INIT Phase", published.
fn is_init_always_billed(function: &Function) -> bool {
    let brings_its_own = function.runtime.as_deref().is_some_and(|runtime| runtime.starts_with("provided"));
    function.image.is_some() || brings_its_own
}

pub(super) async fn serves(mut serving: watch::Receiver<bool>) -> bool {
    // Without a sender nothing will serve any more.
    serving.wait_for(|serving| *serving).await.is_ok()
}

/// The function that a key belongs to.
pub(super) fn is_function(key: &str) -> bool {
    !key.contains(':')
}

/// A function that is known, under its own limits.
pub(super) fn whole(id: FunctionId, version: Arc<Version>) -> Known {
    Known { id, callee: Callee::Function(id), version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_begins_on_a_platform_that_ends_before_it_serves() {
        let (sender, receiver) = watch::channel(false);
        drop(sender);
        assert!(!serves(receiver).await);
        let sender = watch::Sender::new(false);
        let waiting = serves(sender.subscribe());
        sender.send_replace(true);
        drop(sender);
        assert!(waiting.await);
    }
}
