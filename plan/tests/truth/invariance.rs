//! Changes that must make no difference: of scale, of place in time, of order, and of what nobody asks for.

use crate::case::{Case, Dice, Work};
use crate::reference::Fate;
use limits::Decision;
use std::collections::BTreeMap;

const CASES: u64 = 300;

/// Moment, function, and what became of the request; environments by the order in which the function's were made.
fn decisions(case: &Case) -> Vec<(u64, usize, Fate)> {
    let mut names: BTreeMap<usize, BTreeMap<(u32, u32), usize>> = BTreeMap::new();
    let report = case.plan();
    let decided = report.decisions.iter().map(|decided| {
        let names = names.entry(decided.function).or_default();
        let mut name = |id: limits::EnvironmentId| {
            let next = names.len();
            *names.entry((id.slot(), id.generation())).or_insert(next)
        };
        let fate = match &decided.decision {
            Decision::Run(id) => Fate::Warm(name(*id)),
            Decision::Reset(id) => Fate::Reset(name(*id)),
            Decision::Start(id) => Fate::Cold(name(*id)),
            Decision::Refuse(refusal) => Fate::Refused(refusal.limit),
            other => panic!("{other:?}"),
        };
        (decided.at.as_nanos(), decided.function, fate)
    });
    decided.collect()
}

#[test]
fn twice_as_slow_in_everything_decides_the_same() {
    for seed in 1..=CASES {
        let case = |times: u64| {
            let mut case = Case::random(&mut Dice::new(seed), false);
            // What AWS gives in real time must not bind: buckets (a reservation has one of its own), the limit of INIT, and the least time
            // from one request of a user to the next.
            case.burst = Some((100_000, 0));
            case.request_rate = Some(100_000);
            case.idle_timeout_s *= times;
            case.lifetime_s *= times;
            for function in &mut case.functions {
                function.reserved = None;
                function.init_ms = function.init_ms.min(4000) * times;
                function.handler_ms *= times;
                function.lag_ms *= times;
                function.timeout_ms *= times;
            }
            for phase in &mut case.phases {
                phase.start_ms *= times;
                phase.latency_ms = phase.latency_ms.max(1) * times;
                match &mut phase.work {
                    Work::Users { think_ms, .. } => *think_ms *= times,
                    Work::Rate { per_s, for_ms } => {
                        // Intervals without fractions of a nanosecond.
                        *per_s = if *per_s == 3 { 4 } else { *per_s } * (2 / times);
                        *for_ms *= times;
                    }
                }
            }
            case
        };
        let fast = decisions(&case(1)).into_iter();
        let fast: Vec<_> = fast.map(|(at, function, fate)| (2 * at, function, fate)).collect();
        assert_eq!(decisions(&case(2)), fast, "case {seed}");
    }
}

#[test]
fn a_later_begin_moves_every_decision_and_changes_none() {
    const LATER_MS: u64 = 777_777;
    for seed in 1..=CASES {
        let case = |later_ms: u64| {
            let mut case = Case::random(&mut Dice::new(seed), true);
            case.phases.iter_mut().for_each(|phase| phase.start_ms += later_ms);
            case
        };
        let moved = decisions(&case(0)).into_iter();
        let moved: Vec<_> = moved.map(|(at, what, fate)| (at + LATER_MS * 1_000_000, what, fate)).collect();
        assert_eq!(decisions(&case(LATER_MS)), moved, "case {seed}");
    }
}

#[test]
fn functions_with_reservations_do_not_feel_each_other() {
    for seed in 1..=CASES {
        let case = |only: Option<usize>| {
            let mut case = Case::random(&mut Dice::new(seed), false);
            case.burst = None;
            case.account = 100;
            for (index, function) in case.functions.iter_mut().enumerate() {
                function.reserved = Some(1 + index as u64);
            }
            case.phases.retain(|phase| only.is_none_or(|only| phase.function == only));
            case
        };
        let together = decisions(&case(None));
        for only in 0..case(None).functions.len() {
            if case(Some(only)).phases.is_empty() {
                continue;
            }
            let mine: Vec<_> =
                together.iter().copied().filter(|(_, function, _)| *function == only).collect();
            assert_eq!(decisions(&case(Some(only))), mine, "case {seed}, function {only}");
        }
    }
}
