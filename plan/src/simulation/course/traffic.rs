//! What an invocation waits for besides its SYNs: names that resolve, and bytes that move.

use super::{Connect, Reached, Running, Waiting};
use crate::heap::Turn;
use crate::simulation::Simulation;
use limits::dns::{LOOKUP_ATTEMPTS, LOOKUP_TIMEOUT};
use model::Instant;
use std::num::NonZeroU32;
use std::time::Duration;

/// A transfer that takes as long as this is waited for, so that a client who gives up meanwhile is told why.
const LONG_TRANSFER: Duration = Duration::from_secs(1);

impl Simulation {
    /// Asks the resolver for the names of the connect that waits. `None` to go on: with its SYNs, or with what follows
    /// on its failure.
    pub(super) fn look_up(&mut self, now: Instant, running: &mut Running) -> Option<Reached> {
        let waiting = running.connect.as_mut()?;
        let index = waiting.index;
        let (answered, refusal) = self.network.look_up(now, running.environment, waiting.unresolved);
        waiting.unresolved -= answered;
        let Some(refusal) = refusal else {
            waiting.connect.resolved(now);
            return None;
        };
        let destination = self.network.connects[index as usize].destination.clone();
        let (environments, function) = (self.dispatcher.environments(), running.function as usize);
        let trouble = self.record.dropped(now, &refusal, &destination, environments, function);
        running.trouble = running.trouble.or(Some(trouble));
        waiting.asked += 1;
        let at = now + LOOKUP_TIMEOUT;
        if waiting.asked < LOOKUP_ATTEMPTS {
            return Self::wait_until(running, at);
        }
        let next = waiting.connect.refused(at, &self.network.connects[index as usize].patience);
        self.after_refusal(running, next)
    }

    /// The connections of a connect are open: moves its bytes. `None` to go on with what follows.
    pub(super) fn move_bytes(&mut self, now: Instant, running: &mut Running, index: u32) -> Option<Reached> {
        // A query goes on with its connection.
        running.step += u32::from(running.query.is_none());
        running.connect = None;
        running.trouble = None;
        let transfer = self.network.transfer(now, running.environment, index)?;
        let bottleneck = transfer.bottleneck?;
        running.clock = transfer.done;
        let in_time = transfer.done <= running.deadline;
        if in_time && transfer.done.since(now) < LONG_TRANSFER {
            return None;
        }
        let function = running.function as usize;
        let refusal = self.network.connections().traffic().slow(bottleneck, &self.functions[function].name);
        let run = &self.network.connects[index as usize];
        let destination = run.destination.clone();
        let (connect, wanted) = (Connect::begin(now, &run.patience), NonZeroU32::MIN);
        running.connect = Some(Waiting { connect, index, wanted, unresolved: 0, asked: 0, moves: true });
        if in_time {
            running.trouble = Some(self.record.trouble(&refusal, &destination));
            return Some(Reached::Park(transfer.done, Turn::Want));
        }
        let environments = self.dispatcher.environments();
        running.trouble = Some(self.record.dropped(now, &refusal, &destination, environments, function));
        self.network.engine().traffic_mut().gives_up(now, bottleneck);
        Self::run_out(running)
    }

    /// Parks the invocation until then, unless its time is over before.
    pub(super) fn wait_until(running: &mut Running, at: Instant) -> Option<Reached> {
        if at < running.deadline {
            running.clock = at;
            return Some(Reached::Park(at, Turn::Want));
        }
        Self::run_out(running)
    }
}
