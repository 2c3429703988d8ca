//! Whether a phase is larger than a plan can be, said before it runs for minutes.

use super::{Load, Phase, Work};
use crate::report::grouped;
use crate::simulation::REQUESTS_MAX;
use model::time::nanos;
use std::time::Duration;
use template::yaml::Problem;

/// A problem for each phase that sends more than a plan takes, up to the moment where the plan stops if there is one.
/// What users send without a total depends on the answers; the plan stops by itself there.
pub(crate) fn check(load: &Load, until: Option<Duration>) -> Vec<Problem> {
    load.phases.iter().filter_map(|phase| check_phase(phase, until)).collect()
}

fn check_phase(phase: &Phase, until: Option<Duration>) -> Option<Problem> {
    let sent = match &phase.work {
        Work::Rate { pieces, .. } => {
            let until = until.map_or(u64::MAX, nanos).saturating_sub(phase.start.map_or(0, nanos));
            pieces.iter().map(|piece| piece.due(until)).sum()
        }
        Work::Users { requests: Some(requests), length: None, .. } if until.is_none() => *requests as f64,
        Work::Users { .. } | Work::Replay { .. } => 0.0,
    };
    (sent > REQUESTS_MAX as f64).then(|| {
        let message = format!(
            "this sends {} requests, and a plan takes at most {}",
            grouped(sent as u64),
            grouped(REQUESTS_MAX)
        );
        Problem::at(phase.place, message).help("plan a shorter time, a lower rate, or a scaled-down load")
    })
}
