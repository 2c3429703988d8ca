//! Provisioned concurrency: used first, outside the scaling limits, inside the account's.

use super::*;
use crate::decision::ProvisionedError;
use crate::provisioned::{ProvisionedId, ProvisionedStatus};
use crate::settings::{Scaling, Sources};
use proptest::prelude::*;

fn settings(account_concurrency: u32, environments_per_10s: u32) -> Settings {
    Settings {
        account_concurrency,
        unreserved_minimum: 0,
        scaling: Scaling { burst: None, environments_per_10s: Some(environments_per_10s) },
        request_rate: u32::MAX,
        requests_per_concurrency: 10,
        idle_timeout: Duration::from_secs(600),
        environment_lifetime: Duration::from_secs(14 * 3600),
        sources: Sources::default(),
    }
}

fn limits(reserved: Option<u32>) -> FunctionLimits {
    FunctionLimits { resource: "cart".into(), reserved, timeout: Duration::from_secs(900) }
}

/// A function with so many environments ready.
fn ready(
    settings: Settings,
    reserved: Option<u32>,
    requested: u32,
) -> (Dispatcher, FunctionId, ProvisionedId) {
    let mut dispatcher = Dispatcher::new(settings);
    let function = dispatcher.add_function(Instant::START, limits(reserved));
    let mut environments = Vec::new();
    let pool = dispatcher.preprovision(Instant::START, function, "live", requested, &mut environments);
    assert_eq!(environments.len(), requested as usize);
    (dispatcher, function, pool.unwrap())
}

/// Invokes until refused: how many ran on provisioned environments, and on others.
fn flood(dispatcher: &mut Dispatcher, now: Instant, callee: impl Into<Callee>) -> (u32, u32, Refusal) {
    let (callee, mut ran) = (callee.into(), (0, 0));
    loop {
        match dispatcher.invoke(now, callee) {
            Decision::Refuse(refusal) => return (ran.0, ran.1, refusal),
            Decision::NoFunction => panic!("the function exists"),
            Decision::Run(id) | Decision::Start(id) | Decision::Reset(id) => {
                if dispatcher.provisioned_for(id).is_some() { ran.0 += 1 } else { ran.1 += 1 }
            }
        }
    }
}

#[test]
fn five_thousand_that_are_warm_absorb_a_burst_of_five_thousand() {
    // Seed S2-9. The scaling rate would have let 1,000 through.
    let (mut dispatcher, _, pool) = ready(settings(10_000, 1000), None, 5000);
    let (provisioned, on_demand, refusal) = flood(&mut dispatcher, Instant::START, pool);
    assert_eq!((provisioned, on_demand, refusal.limit), (5000, 1000, LimitId::ScalingRate));
    let counts = dispatcher.provisioned(pool).unwrap();
    assert_eq!((counts.in_use, counts.invocations, counts.spillover), (5000, 5000, 1000));
    let board = dispatcher.board(Instant::START);
    let row = board.iter().find(|row| row.id == LimitId::ProvisionedConcurrency).unwrap();
    assert_eq!((&*row.resource, row.max, row.used, row.refused), ("cart:live", 5000, 5000, 1000));
}

#[test]
fn what_is_provisioned_is_taken_from_the_account_even_when_unused() {
    let (mut dispatcher, _, pool) = ready(settings(1000, 10_000), None, 300);
    let other = dispatcher.add_function(Instant::START, limits(None));
    let (_, on_demand, refusal) = flood(&mut dispatcher, Instant::START, other);
    assert_eq!((on_demand, refusal.limit, refusal.used), (700, LimitId::AccountConcurrency, 1000));
    assert_eq!(flood(&mut dispatcher, Instant::START, pool).0, 300, "its part is free all the same");
}

#[test]
fn a_reservation_that_is_provisioned_whole_stops_the_other_versions() {
    let (mut dispatcher, function, pool) = ready(settings(1000, 1000), Some(50), 50);
    let (_, on_demand, refusal) = flood(&mut dispatcher, Instant::START, function);
    assert_eq!((on_demand, refusal.limit, refusal.max), (0, LimitId::ReservedConcurrency, 50));
    assert_eq!(flood(&mut dispatcher, Instant::START, pool).0, 50);
    let below = ReservedError::BelowProvisioned { reserved: 49, provisioned: 50 };
    assert_eq!(dispatcher.set_reserved(Instant::START, function, Some(49)), Err(below));
}

#[test]
fn more_than_ten_requests_a_second_for_each_spill_over() {
    // The guide: provisioned 10, spills over after 10 concurrency or 100 requests per second.
    let (mut dispatcher, _, pool) = ready(settings(1000, 1000), None, 10);
    let mut effects = Vec::new();
    for _ in 0..120 {
        let (Decision::Run(id) | Decision::Start(id)) = dispatcher.invoke(Instant::START, pool) else {
            panic!("nothing refuses");
        };
        dispatcher.finished(Instant::START, id, Outcome::Done, &mut effects);
    }
    let counts = dispatcher.provisioned(pool).unwrap();
    assert_eq!((counts.invocations, counts.spillover), (100, 20));
    // Events are not counted.
    let decision = dispatcher.invoke_as(Instant::START, pool, InvocationType::Event);
    assert!(matches!(decision, Decision::Run(id) if dispatcher.provisioned_for(id).is_some()));
}

#[test]
fn six_thousand_a_minute_are_allocated_and_none_serves_before_all_do() {
    let mut dispatcher = Dispatcher::new(settings(10_000, 1));
    let function = dispatcher.add_function(Instant::START, limits(None));
    let mut effects = Vec::new();
    let pool = dispatcher.provision(Instant::START, function, "live", 6000, &mut effects).unwrap();
    let mut now = Instant::START;
    while let Some(deadline) = dispatcher.next_deadline() {
        now = deadline;
        dispatcher.advance(now, &mut effects);
        assert_eq!(dispatcher.provisioned(pool).unwrap().status, ProvisionedStatus::InProgress);
    }
    assert_eq!((effects.len(), now), (6000, Instant::from_millis(59_990)));
    for (index, effect) in effects.drain(..).enumerate() {
        let Effect::Provision(id) = effect else { panic!("nothing ends") };
        if index == 5999 {
            let Decision::Start(spilled) = dispatcher.invoke(now, pool) else { panic!("none serves yet") };
            dispatcher.lost(now, spilled);
        }
        assert!(dispatcher.started(now, id) && !dispatcher.started(now, id));
    }
    let counts = dispatcher.provisioned(pool).unwrap();
    assert_eq!((counts.status, counts.available, counts.spillover), (ProvisionedStatus::Ready, 6000, 0));
    assert!(matches!(dispatcher.invoke(now, pool), Decision::Run(_)));
}

#[test]
fn it_outlives_the_idle_time_out_and_is_replaced_after_its_life() {
    let (mut dispatcher, _, pool) = ready(settings(100, 1), None, 1);
    let mut effects = Vec::new();
    assert_eq!(dispatcher.next_deadline(), None);
    let late = Instant::from_secs(14 * 3600 - 1);
    dispatcher.advance(late, &mut effects);
    let Decision::Run(id) = dispatcher.invoke(late, pool) else { panic!("it is there") };
    assert!(effects.is_empty());
    let at = |seconds| late + Duration::from_secs(seconds);
    dispatcher.finished(at(1), id, Outcome::Done, &mut effects);
    let [Effect::Provision(next)] = effects[..] else { panic!("{effects:?}") };
    // The old one serves until the new one is there; nothing spills over.
    assert_eq!(dispatcher.invoke(at(1), pool), Decision::Run(id));
    assert!(dispatcher.started(at(2), next));
    effects.clear();
    dispatcher.finished(at(2), id, Outcome::Done, &mut effects);
    assert_eq!(effects, [Effect::Reap(id)]);
    assert_eq!(dispatcher.invoke(at(3), pool), Decision::Run(next));
    assert_eq!((dispatcher.provisioned(pool).unwrap().spillover, dispatcher.environments()), (0, 1));
}

#[test]
fn a_failed_init_stops_the_allocation() {
    let mut dispatcher = Dispatcher::new(settings(100, 1));
    let function = dispatcher.add_function(Instant::START, limits(None));
    let mut effects = Vec::new();
    let pool = dispatcher.provision(Instant::START, function, "live", 3, &mut effects).unwrap();
    let [Effect::Provision(first)] = effects[..] else { panic!("{effects:?}") };
    assert!(dispatcher.lost(Instant::START, first));
    assert_eq!(dispatcher.provisioned(pool).unwrap().status, ProvisionedStatus::Failed);
    assert_eq!((dispatcher.next_deadline(), dispatcher.environments()), (None, 0));
    assert_eq!(dispatcher.set_provisioned(Instant::START, pool, 2, &mut effects), Ok(()));
    assert_eq!(dispatcher.provisioned(pool).unwrap().status, ProvisionedStatus::InProgress);
}

#[test]
fn too_many_end_and_a_removed_function_takes_its_pools_along() {
    let (mut dispatcher, function, pool) = ready(settings(100, 10), None, 10);
    let Decision::Run(busy) = dispatcher.invoke(Instant::START, pool) else { panic!("it is there") };
    let mut effects = Vec::new();
    dispatcher.set_provisioned(Instant::START, pool, 4, &mut effects).unwrap();
    assert_eq!((effects.len(), dispatcher.environments()), (6, 4));
    let above = ProvisionedError::BelowUnreserved(crate::concurrency::Floor {
        requested: 101,
        most: 100,
        minimum: 0,
    });
    assert_eq!(dispatcher.set_provisioned(Instant::START, pool, 101, &mut effects), Err(above));
    dispatcher.set_provisioned(Instant::START, pool, 0, &mut effects).unwrap();
    assert_eq!(dispatcher.environments(), 1, "the busy one finishes");
    dispatcher.remove_function(Instant::START, function, &mut effects);
    assert_eq!(dispatcher.invoke(Instant::START, pool), Decision::NoFunction);
    effects.clear();
    dispatcher.finished(Instant::START, busy, Outcome::Done, &mut effects);
    assert_eq!(effects, [Effect::Reap(busy)]);
    assert_eq!((dispatcher.environments(), dispatcher.in_flight()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Invoke(usize, bool),
    Finish(usize, Outcome),
    Started(usize),
    Lose(usize),
    Provision(usize, u32),
    Reserve(usize, Option<u32>),
    Remove(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![3 => Just(Outcome::Done), 1 => Just(Outcome::TimedOut)];
    prop_oneof![
        10 => (0..2usize, any::<bool>()).prop_map(|(index, on_pool)| Step::Invoke(index, on_pool)),
        6 => (any::<usize>(), outcome).prop_map(|(index, outcome)| Step::Finish(index, outcome)),
        6 => any::<usize>().prop_map(Step::Started),
        1 => any::<usize>().prop_map(Step::Lose),
        2 => (0..2usize, 0u32..6).prop_map(|(index, count)| Step::Provision(index, count)),
        1 => (0..2usize, prop::option::of(0u32..8)).prop_map(|(index, count)| Step::Reserve(index, count)),
        1 => (0..2usize).prop_map(Step::Remove),
        3 => (0u64..60_000_000).prop_map(Step::Wait),
    ]
}

/// What the driver knows of an environment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Starting,
    Idle,
    Busy,
}

/// A driver that keeps its own list, and checks each decision and count against it.
struct Driver {
    dispatcher: Dispatcher,
    functions: [FunctionId; 2],
    pools: [Option<ProvisionedId>; 2],
    /// Environment, the function, whether it is provisioned, what it does.
    environments: Vec<(EnvironmentId, usize, bool, Known)>,
    account: u32,
}

impl Driver {
    fn follow(&mut self, effects: &mut Vec<Effect>) -> Result<(), TestCaseError> {
        for effect in effects.drain(..) {
            match effect {
                Effect::Reap(id) => {
                    let place = self.environments.iter().position(|entry| entry.0 == id);
                    let entry = self.environments.remove(place.expect("what ends is known"));
                    prop_assert!(entry.3 != Known::Busy, "busy ones never end");
                }
                Effect::Provision(id) => {
                    let owner = self.dispatcher.function_of(id);
                    let function = self.functions.iter().position(|id| Some(*id) == owner);
                    self.environments.push((id, function.expect("it is"), true, Known::Starting));
                }
            }
        }
        Ok(())
    }

    fn count(&self, function: usize, provisioned: bool, known: Known) -> u32 {
        let entries = self.environments.iter();
        entries.filter(|entry| (entry.1, entry.2, entry.3) == (function, provisioned, known)).count() as u32
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let busy = self.environments.iter().filter(|entry| entry.3 == Known::Busy).count() as u32;
        prop_assert_eq!(self.dispatcher.in_flight(), busy);
        prop_assert!(busy <= self.account);
        prop_assert_eq!(self.dispatcher.environments() as usize, self.environments.len());
        for (index, pool) in self.pools.iter().enumerate() {
            let Some(counts) = pool.and_then(|pool| self.dispatcher.provisioned(pool)) else { continue };
            prop_assert!(counts.available <= counts.allocated && counts.in_use <= counts.available);
            prop_assert!(counts.allocated - counts.in_use <= counts.requested);
            prop_assert!(counts.in_use <= self.count(index, true, Known::Busy));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn provisioned_environments_are_used_first_never_twice_and_never_lost(
        account in 1u32..14, steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut dispatcher = Dispatcher::new(settings(account, 4));
        let functions = [(); 2].map(|()| dispatcher.add_function(Instant::START, limits(None)));
        let mut driver = Driver { dispatcher, functions, pools: [None; 2], environments: Vec::new(), account };
        let (mut now, mut effects) = (Instant::START, Vec::new());
        for step in steps {
            match step {
                Step::Invoke(index, on_pool) => {
                    let pool = driver.pools[index].filter(|_| on_pool);
                    let callee = pool.map_or(Callee::Function(driver.functions[index]), Callee::Provisioned);
                    let free = pool.is_some_and(|pool| {
                        let counts = driver.dispatcher.provisioned(pool).unwrap();
                        let idle = driver.environments.iter().any(|entry| {
                            (entry.1, entry.2, entry.3) == (index, true, Known::Idle)
                        });
                        counts.status == ProvisionedStatus::Ready && idle
                    });
                    match driver.dispatcher.invoke_as(now, callee, InvocationType::Event) {
                        Decision::Start(id) => {
                            prop_assert!(!free, "a free provisioned environment is used first");
                            driver.environments.push((id, index, false, Known::Busy));
                            driver.dispatcher.started(now, id);
                        }
                        Decision::Run(id) | Decision::Reset(id) => {
                            let entry = driver.environments.iter_mut().find(|entry| entry.0 == id).unwrap();
                            prop_assert_eq!((entry.1, entry.2, entry.3), (index, free, Known::Idle));
                            entry.3 = Known::Busy;
                            driver.dispatcher.started(now, id);
                        }
                        Decision::Refuse(refusal) => prop_assert!(refusal.used >= refusal.max.min(1) || refusal.max == 0),
                        Decision::NoFunction => prop_assert!(false, "it exists"),
                    }
                }
                Step::Finish(choice, outcome) => {
                    let busy: Vec<_> = driver.environments.iter().filter(|entry| entry.3 == Known::Busy).copied().collect();
                    if let Some(entry) = busy.get(choice % busy.len().max(1)) {
                        prop_assert!(driver.dispatcher.finished(now, entry.0, outcome, &mut effects));
                        let found = driver.environments.iter_mut().find(|other| other.0 == entry.0).unwrap();
                        found.3 = Known::Idle;
                        driver.follow(&mut effects)?;
                    }
                }
                Step::Started(choice) => {
                    let waiting = driver.environments.iter_mut().filter(|entry| entry.3 == Known::Starting);
                    let mut waiting: Vec<_> = waiting.collect();
                    let many = waiting.len().max(1);
                    if let Some(entry) = waiting.get_mut(choice % many) {
                        entry.3 = Known::Idle;
                        prop_assert!(driver.dispatcher.started(now, entry.0));
                    }
                }
                Step::Lose(choice) => {
                    if !driver.environments.is_empty() {
                        let entry = driver.environments.remove(choice % driver.environments.len());
                        prop_assert!(driver.dispatcher.lost(now, entry.0));
                        prop_assert!(!driver.dispatcher.lost(now, entry.0));
                    }
                }
                Step::Provision(index, requested) => {
                    match driver.pools[index] {
                        Some(pool) => {
                            let _ = driver.dispatcher.set_provisioned(now, pool, requested, &mut effects);
                        }
                        None => {
                            let function = driver.functions[index];
                            let made = driver.dispatcher.provision(now, function, "live", requested, &mut effects);
                            driver.pools[index] = made.ok();
                        }
                    }
                    driver.follow(&mut effects)?;
                }
                Step::Reserve(index, reserved) => {
                    let _ = driver.dispatcher.set_reserved(now, driver.functions[index], reserved);
                }
                Step::Remove(index) => {
                    if let Some(pool) = driver.pools[index].take() {
                        prop_assert!(driver.dispatcher.remove_provisioned(now, pool, &mut effects));
                        driver.follow(&mut effects)?;
                    }
                }
                Step::Wait(nanos) => {
                    now += Duration::from_nanos(nanos);
                    driver.dispatcher.advance(now, &mut effects);
                    driver.follow(&mut effects)?;
                }
            }
            driver.check()?;
        }
        for entry in driver.environments.clone() {
            prop_assert!(driver.dispatcher.lost(now, entry.0));
        }
        prop_assert_eq!((driver.dispatcher.in_flight(), driver.dispatcher.environments()), (0, 0));
        for pool in driver.pools.into_iter().flatten() {
            prop_assert!(driver.dispatcher.remove_provisioned(now, pool, &mut effects));
        }
        for id in driver.functions {
            prop_assert_eq!(driver.dispatcher.set_reserved(now, id, None), Ok(()));
        }
        let later = now + Duration::from_secs(10);
        let ran = driver.functions.map(|id| flood(&mut driver.dispatcher, later, id).1);
        prop_assert_eq!(ran[0] + ran[1], account.min(8), "all concurrency is free again");
    }
}
