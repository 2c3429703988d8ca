//! Provisioned concurrency in a plan: there from the start, initialised ahead, replaced after its life.

use super::{Event, Simulation};
use crate::heap::Turn;
use crate::input::PlanInput;
use crate::load::Hold;
use crate::options::PlanError;
use crate::report::ProvisionedRow;
use limits::EnvironmentId;
use model::Instant;
use std::time::Duration;

impl Simulation {
    /// The environments of all provisioned concurrency are there at t = 0, their INIT done.
    pub(super) fn place_provisioned(&mut self, input: &PlanInput) -> Result<(), PlanError> {
        let mut ready = Vec::new();
        for wanted in &input.provisioned {
            let id = self.functions[wanted.function].id;
            let (now, qualifier, environments) = (Instant::START, &wanted.qualifier, wanted.environments);
            let pool = self.dispatcher.preprovision(now, id, qualifier, environments, &mut ready);
            let resource = || format!("{}:{qualifier}", input.functions[wanted.function].id);
            let pool = pool.map_err(|error| PlanError::Provisioned { resource: resource(), error })?;
            self.pools.push(pool);
            for environment in ready.drain(..) {
                self.network.begin(wanted.function, environment);
                self.initialised(now, environment);
            }
        }
        Ok(())
    }

    /// An environment that replaces another initialises ahead.
    pub(super) fn provision(&mut self, now: Instant, environment: EnvironmentId) {
        let Some(id) = self.dispatcher.function_of(environment) else { return };
        // Functions were added in order and none was removed, so slots are indices.
        let function = &mut self.functions[id.slot() as usize];
        let init = Duration::from_nanos(function.init_time());
        self.network.begin(function.index, environment);
        self.heap.push(now + init, Turn::Free, Event::Started(environment));
    }

    /// INIT is done, or has just begun the handler of an invocation that waited.
    pub(super) fn started(&mut self, now: Instant, environment: EnvironmentId) {
        if self.dispatcher.started(now, environment) && self.dispatcher.is_idle(environment) {
            self.initialised(now, environment);
        }
    }

    /// The connections that INIT opens for good are there. What is refused is dropped, and not tried again.
    fn initialised(&mut self, now: Instant, environment: EnvironmentId) {
        let Some(id) = self.dispatcher.function_of(environment) else { return };
        let function = &self.functions[id.slot() as usize];
        if function.has_once {
            self.unused.insert(environment);
        }
        let (index, environments) = (function.index, self.dispatcher.environments());
        for connect in function.init_connects(|query| self.queries.connect_of(query)) {
            let run = &self.network.connects[connect as usize];
            let (wanted, destination) = (run.count, run.destination.clone());
            if run.hold != Hold::Environment {
                continue;
            }
            let record = &mut self.record;
            let opened = self.network.syn(now, environment, connect, wanted, |refusal| {
                record.dropped(now, &refusal, &destination, environments, index);
            });
            self.record.decisions.syns(now, connect, wanted, opened);
        }
    }

    /// How each version or alias fared.
    pub(super) fn provisioned_rows(&self, input: &PlanInput) -> Vec<ProvisionedRow> {
        let rows = input.provisioned.iter().zip(&self.pools).filter_map(|(wanted, pool)| {
            let counts = self.dispatcher.provisioned(*pool)?;
            Some(ProvisionedRow {
                function: input.functions[wanted.function].id.clone(),
                qualifier: wanted.qualifier.clone(),
                environments: counts.requested,
                peak: counts.peak,
                invocations: counts.invocations,
                spillover: counts.spillover,
                billed_ms: self.record.provisioned_ms.get(pool).copied().unwrap_or(0),
            })
        });
        rows.collect()
    }
}
