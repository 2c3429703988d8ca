//! The dispatcher's rules, and its agreement with the reference.

use super::reference::Reference;
use super::*;
use crate::concurrency::Floor;
use crate::settings::{BurstFigures, Scaling, Sources};
use proptest::prelude::*;

fn settings(account_concurrency: u32, scaling: Scaling) -> Settings {
    Settings {
        account_concurrency,
        unreserved_minimum: 100,
        scaling,
        request_rate: account_concurrency.saturating_mul(10),
        requests_per_concurrency: 10,
        idle_timeout: Duration::from_secs(600),
        environment_lifetime: Duration::from_secs(14 * 3600),
        sources: Sources::default(),
    }
}

fn per_function(environments: u32) -> Scaling {
    Scaling { burst: None, environments_per_10s: Some(environments) }
}

fn of_account(size: u32, refill_per_minute: u32) -> Scaling {
    Scaling { burst: Some(BurstFigures { size, refill_per_minute }), environments_per_10s: None }
}

fn limits(name: &str, reserved: Option<u32>) -> FunctionLimits {
    FunctionLimits { resource: name.to_owned(), reserved, timeout: Duration::from_secs(3) }
}

/// Invokes until refused; how many ran, and the refusal.
fn flood(dispatcher: &mut Dispatcher, now: Instant, function: FunctionId) -> (u32, Refusal) {
    let mut ran = 0;
    loop {
        match dispatcher.invoke(now, function) {
            Decision::Refuse(refusal) => return (ran, refusal),
            Decision::NoFunction => panic!("the function exists"),
            _ => ran += 1,
        }
    }
}

fn start(dispatcher: &mut Dispatcher, now: Instant, function: FunctionId) -> EnvironmentId {
    match dispatcher.invoke(now, function) {
        Decision::Start(id) => id,
        other => panic!("expected a new environment, not {other:?}"),
    }
}

#[test]
fn the_account_gains_five_hundred_a_minute_after_its_burst() {
    // Seed S2-8: limit 5,000, bucket 1,000, 1,000 running already, nothing is used twice.
    let mut dispatcher = Dispatcher::new(settings(5000, of_account(1000, 500)));
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    for _ in 0..1000 {
        dispatcher.preload(Instant::START, function).unwrap();
    }
    let mut totals = Vec::new();
    for minute in 0..=7 {
        let (_, refusal) = flood(&mut dispatcher, Instant::from_secs(minute * 60), function);
        let expected = if minute < 6 { LimitId::Burst } else { LimitId::AccountConcurrency };
        assert_eq!((refusal.limit, &*refusal.resource), (expected, "account"));
        totals.push(dispatcher.in_flight());
    }
    assert_eq!(totals, [2000, 2500, 3000, 3500, 4000, 4500, 5000, 5000]);
}

#[test]
fn each_function_gains_a_thousand_in_ten_seconds_today() {
    let mut dispatcher = Dispatcher::new(settings(5000, per_function(1000)));
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    let totals = [0, 10, 20, 30, 40, 50].map(|secs| {
        flood(&mut dispatcher, Instant::from_secs(secs), function);
        dispatcher.in_flight()
    });
    assert_eq!(totals, [1000, 2000, 3000, 4000, 5000, 5000]);
}

#[test]
fn functions_have_scaling_rates_of_their_own_but_one_burst_together() {
    let run = |scaling| {
        let mut dispatcher = Dispatcher::new(settings(5000, scaling));
        let names = ["cart", "pay"].map(|name| dispatcher.add_function(Instant::START, limits(name, None)));
        names.map(|function| flood(&mut dispatcher, Instant::START, function).0)
    };
    assert_eq!(run(per_function(1000)), [1000, 1000]);
    assert_eq!(run(of_account(1000, 500)), [1000, 0]);
    let both = Scaling { environments_per_10s: Some(700), ..of_account(1000, 500) };
    assert_eq!(run(both), [700, 300]);
}

#[test]
fn a_refusal_says_when_the_next_environment_may_start() {
    let mut dispatcher = Dispatcher::new(settings(5000, per_function(1000)));
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    let (_, refusal) = flood(&mut dispatcher, Instant::START, function);
    assert_eq!((refusal.used, refusal.max, &*refusal.resource), (1000, 1000, "cart"));
    assert_eq!(refusal.retry_at, Some(Instant::from_millis(10)));
    assert_eq!(flood(&mut dispatcher, Instant::from_millis(10), function).0, 1);
}

#[test]
fn a_timed_out_environment_is_reset_and_takes_no_scaling_token() {
    let mut dispatcher = Dispatcher::new(settings(1000, of_account(1, 0)));
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    let environment = start(&mut dispatcher, Instant::START, function);
    let mut effects = Vec::new();
    for (second, outcome) in (3..).zip([Outcome::TimedOut, Outcome::Crashed, Outcome::TimedOut]) {
        let now = Instant::from_secs(second);
        assert!(dispatcher.finished(now, environment, outcome, &mut effects));
        assert_eq!(dispatcher.invoke(now, function), Decision::Reset(environment));
        assert!(dispatcher.started(now, environment));
        assert!(!dispatcher.started(now, environment));
    }
    dispatcher.finished(Instant::from_secs(9), environment, Outcome::Done, &mut effects);
    assert_eq!(dispatcher.invoke(Instant::from_secs(9), function), Decision::Run(environment));
    assert!(effects.is_empty());
    let board = dispatcher.board(Instant::from_secs(11));
    let row = board.iter().find(|row| row.id == LimitId::FunctionTimeout).unwrap();
    assert_eq!((row.refused, row.max, row.used, row.peak), (2, 3, 2, 4));
    assert_eq!((row.first_refused_at, &*row.resource), (Some(Instant::from_secs(3)), "cart"));
}

#[test]
fn idle_environments_end_after_the_idle_time_out_oldest_first() {
    let mut dispatcher = Dispatcher::new(settings(1000, per_function(1000)));
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    let mut effects = Vec::new();
    let ids = [0, 0, 0].map(|_| start(&mut dispatcher, Instant::START, function));
    for (second, id) in (1..).zip(ids) {
        dispatcher.finished(Instant::from_secs(second), id, Outcome::Done, &mut effects);
    }
    assert_eq!(dispatcher.next_deadline(), Some(Instant::from_secs(601)));
    dispatcher.advance(Instant::from_nanos(600_999_999_999), &mut effects);
    assert!(effects.is_empty());
    dispatcher.advance(Instant::from_secs(602), &mut effects);
    assert_eq!(effects, [Effect::Reap(ids[0]), Effect::Reap(ids[1])]);
    // The last one is due as well at 603 s: even a driver that is late does not run on it.
    assert!(matches!(dispatcher.invoke(Instant::from_secs(603), function), Decision::Start(_)));
    assert_eq!(dispatcher.counts(function), Counts { in_flight: 1, idle: 1, environments: 2 });
}

#[test]
fn a_new_version_starts_fresh_and_ends_the_old_environments() {
    let mut dispatcher = Dispatcher::new(settings(1000, per_function(1000)));
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    let mut effects = Vec::new();
    let [idle, busy] = [0, 0].map(|_| start(&mut dispatcher, Instant::START, function));
    dispatcher.finished(Instant::START, idle, Outcome::Done, &mut effects);
    dispatcher.retire_version(Instant::START, function, &mut effects);
    assert_eq!(effects, [Effect::Reap(idle)]);
    let fresh = start(&mut dispatcher, Instant::START, function);
    dispatcher.finished(Instant::START, busy, Outcome::Done, &mut effects);
    assert_eq!(effects, [Effect::Reap(idle), Effect::Reap(busy)]);
    dispatcher.finished(Instant::START, fresh, Outcome::Done, &mut effects);
    assert_eq!(dispatcher.invoke(Instant::START, function), Decision::Run(fresh));
    assert_eq!(dispatcher.environments(), 1);
}

#[test]
fn a_removed_function_gives_back_all_it_held() {
    let mut dispatcher = Dispatcher::new(settings(1000, per_function(1000)));
    let function = dispatcher.add_function(Instant::START, limits("cart", Some(900)));
    let other = dispatcher.add_function(Instant::START, limits("pay", None));
    let busy = start(&mut dispatcher, Instant::START, function);
    let mut effects = Vec::new();
    assert!(dispatcher.remove_function(Instant::START, function, &mut effects));
    assert_eq!(dispatcher.invoke(Instant::START, function), Decision::NoFunction);
    assert!(!dispatcher.remove_function(Instant::START, function, &mut effects));
    assert_eq!(flood(&mut dispatcher, Instant::START, other).0, 999);
    assert!(dispatcher.finished(Instant::START, busy, Outcome::Done, &mut effects));
    assert_eq!(effects, [Effect::Reap(busy)]);
    assert_eq!(flood(&mut dispatcher, Instant::START, other).0, 1);
    let next = dispatcher.add_function(Instant::START, limits("next", None));
    assert_eq!(next.slot(), function.slot());
    assert_eq!(dispatcher.invoke(Instant::START, function), Decision::NoFunction);
    assert_eq!(
        (dispatcher.timeout(function), dispatcher.timeout(next)),
        (Duration::ZERO, Duration::from_secs(3))
    );
}

#[test]
fn stale_ids_are_counted_and_change_nothing() {
    let mut dispatcher = Dispatcher::new(settings(1000, per_function(1000)));
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    let gone = start(&mut dispatcher, Instant::START, function);
    let mut effects = Vec::new();
    assert!(dispatcher.lost(Instant::START, gone));
    let reused = start(&mut dispatcher, Instant::START, function);
    assert_eq!(gone.slot(), reused.slot());
    assert!(!dispatcher.started(Instant::START, gone));
    assert!(!dispatcher.finished(Instant::START, gone, Outcome::Done, &mut effects));
    assert!(!dispatcher.lost(Instant::START, gone));
    assert_eq!(dispatcher.stale_calls(), 3);
    assert!(dispatcher.finished(Instant::START, reused, Outcome::Done, &mut effects));
    assert!(!dispatcher.finished(Instant::START, reused, Outcome::Done, &mut effects));
    assert_eq!((dispatcher.in_flight(), dispatcher.stale_calls()), (0, 4));
}

#[test]
fn a_full_host_reaps_the_oldest_of_any_function() {
    let mut dispatcher = Dispatcher::new(settings(1000, per_function(1000)));
    let functions = ["cart", "pay"].map(|name| dispatcher.add_function(Instant::START, limits(name, None)));
    let mut effects = Vec::new();
    let ids = functions.map(|function| start(&mut dispatcher, Instant::START, function));
    dispatcher.finished(Instant::from_secs(1), ids[1], Outcome::Done, &mut effects);
    dispatcher.finished(Instant::from_secs(2), ids[0], Outcome::Done, &mut effects);
    assert!(dispatcher.reap_oldest(Instant::from_secs(2), &mut effects));
    assert!(dispatcher.reap_oldest(Instant::from_secs(2), &mut effects));
    assert!(!dispatcher.reap_oldest(Instant::from_secs(2), &mut effects));
    assert_eq!(effects, [Effect::Reap(ids[1]), Effect::Reap(ids[0])]);
}

#[test]
fn a_reservation_below_the_floor_is_refused_and_changes_nothing() {
    let mut dispatcher = Dispatcher::new(settings(1000, per_function(1000)));
    let function = dispatcher.add_function(Instant::START, limits("cart", Some(5)));
    let floor = Floor { requested: 901, most: 900, minimum: 100 };
    let answer = dispatcher.set_reserved(Instant::START, function, Some(901));
    assert_eq!(answer, Err(ReservedError::BelowUnreserved(floor)));
    assert_eq!(dispatcher.reserved(function), Some(5));
    assert_eq!(dispatcher.set_reserved(Instant::START, function, Some(900)), Ok(()));
    assert_eq!(dispatcher.set_reserved(Instant::START, function, None), Ok(()));
}

/// Invokes and finishes at once until refused; how many ran, and the refusal.
fn hammer(dispatcher: &mut Dispatcher, now: Instant, function: FunctionId) -> (u32, Refusal) {
    let (mut ran, mut effects) = (0, Vec::new());
    loop {
        match dispatcher.invoke(now, function) {
            Decision::Refuse(refusal) => return (ran, refusal),
            Decision::NoFunction => panic!("the function exists"),
            Decision::Run(id) | Decision::Start(id) | Decision::Reset(id) => {
                dispatcher.finished(now, id, Outcome::Done, &mut effects);
            }
        }
        ran += 1;
    }
}

#[test]
fn quick_requests_meet_the_request_rate_before_concurrency() {
    let mut dispatcher = Dispatcher::new(settings(1000, per_function(1000)));
    let [cart, pay] = [("cart", None), ("pay", Some(5))]
        .map(|(name, reserved)| dispatcher.add_function(Instant::START, limits(name, reserved)));
    let (ran, refusal) = hammer(&mut dispatcher, Instant::START, cart);
    assert_eq!((ran, refusal.limit, &*refusal.resource), (10_000, LimitId::RequestRate, "account"));
    assert_eq!((refusal.used, refusal.max), (10_000, 10_000));
    assert_eq!(refusal.retry_at, Some(Instant::from_nanos(100_000)));
    // A reservation has a rate of its own, which the others cannot use up.
    let (ran, refusal) = hammer(&mut dispatcher, Instant::START, pay);
    assert_eq!((ran, refusal.limit, &*refusal.resource), (50, LimitId::ReservedRequestRate, "pay"));
    assert_eq!(hammer(&mut dispatcher, Instant::from_secs(1), cart).0, 10_000);
    assert_eq!(dispatcher.set_reserved(Instant::from_secs(1), pay, None), Ok(()));
    assert_eq!(hammer(&mut dispatcher, Instant::from_secs(1), pay).1.limit, LimitId::RequestRate);
    assert_eq!(dispatcher.environments(), 2, "one environment of each did it all");
}

#[test]
fn an_environment_ends_after_its_life_but_never_while_it_is_busy() {
    let mut settings = settings(1000, per_function(1000));
    settings.environment_lifetime = Duration::from_secs(3600);
    let mut dispatcher = Dispatcher::new(settings);
    let function = dispatcher.add_function(Instant::START, limits("cart", None));
    let environment = start(&mut dispatcher, Instant::START, function);
    let mut effects = Vec::new();
    // In use every minute: the idle time-out never comes.
    for minute in 1..=60 {
        assert!(effects.is_empty());
        let now = Instant::from_secs(minute * 60);
        dispatcher.advance(now, &mut effects);
        dispatcher.finished(now, environment, Outcome::Done, &mut effects);
        if minute < 60 {
            assert_eq!(dispatcher.invoke(now, function), Decision::Run(environment));
        }
    }
    assert_eq!(effects, [Effect::Reap(environment)]);
    assert!(matches!(dispatcher.invoke(Instant::from_secs(3600), function), Decision::Start(_)));
}

#[derive(Clone, Debug)]
enum Step {
    Invoke(usize),
    Started(usize),
    Finish(usize, Outcome),
    Lose(usize),
    Reserve(usize, Option<u32>),
    Retire(usize),
    Remove(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome =
        prop_oneof![4 => Just(Outcome::Done), 1 => Just(Outcome::TimedOut), 1 => Just(Outcome::Crashed)];
    prop_oneof![
        12 => (0..FUNCTIONS).prop_map(Step::Invoke),
        2 => any::<usize>().prop_map(Step::Started),
        7 => (any::<usize>(), outcome).prop_map(|(index, outcome)| Step::Finish(index, outcome)),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => (0..FUNCTIONS, prop::option::of(0u32..8)).prop_map(|(index, reserved)| Step::Reserve(index, reserved)),
        1 => (0..FUNCTIONS).prop_map(Step::Retire),
        1 => (0..FUNCTIONS).prop_map(Step::Remove),
        4 => (0u64..4_000_000_000).prop_map(Step::Wait),
    ]
}

const FUNCTIONS: usize = 3;

fn any_scaling() -> impl Strategy<Value = Scaling> {
    let burst =
        (0u32..12, 0u32..60).prop_map(|(size, refill_per_minute)| BurstFigures { size, refill_per_minute });
    (prop::option::of(burst), prop::option::of(0u32..12))
        .prop_map(|(burst, environments_per_10s)| Scaling { burst, environments_per_10s })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_agrees_with_the_reference(
        account in 0u32..14, minimum in 0u32..4, scaling in any_scaling(), idle_ns in 1u64..8_000_000_000,
        request_rate in 0u32..40, per_concurrency in 0u32..4, life_ns in 1u64..40_000_000_000,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut settings = settings(account, scaling);
        settings.unreserved_minimum = minimum;
        settings.idle_timeout = Duration::from_nanos(idle_ns);
        settings.environment_lifetime = Duration::from_nanos(life_ns);
        settings.request_rate = request_rate;
        settings.requests_per_concurrency = per_concurrency;
        let mut reference = Reference::new(settings.clone());
        let mut dispatcher = Dispatcher::new(settings);
        let mut now = Instant::START;
        let mut ids = Vec::new();
        for index in 0..FUNCTIONS {
            let name = format!("function-{index}");
            reference.add(&name, None);
            ids.push((index, dispatcher.add_function(now, limits(&name, None))));
        }
        for step in steps {
            let mut effects = Vec::new();
            match step {
                Step::Invoke(index) => {
                    let (index, id) = ids[index];
                    let expected = reference.invoke(index);
                    let decision = dispatcher.invoke(now, id);
                    prop_assert!(expected.matches(&decision), "{expected:?} but {decision:?}");
                    reference.follow(index, &decision);
                }
                Step::Started(index) => {
                    let busy = reference.busy_ids();
                    if !busy.is_empty() {
                        dispatcher.started(now, busy[index % busy.len()]);
                    }
                }
                Step::Finish(index, outcome) => {
                    let busy = reference.busy_ids();
                    if !busy.is_empty() {
                        let id = busy[index % busy.len()];
                        prop_assert!(dispatcher.finished(now, id, outcome, &mut effects));
                        prop_assert_eq!(&effects, &reference.finish(id, outcome));
                    }
                }
                Step::Lose(index) => {
                    let all = reference.ids();
                    if !all.is_empty() {
                        let id = all[index % all.len()];
                        prop_assert!(dispatcher.lost(now, id));
                        prop_assert!(!dispatcher.lost(now, id));
                        reference.lose(id);
                    }
                }
                Step::Reserve(index, reserved) => {
                    let (index, id) = ids[index];
                    let fits = u64::from(reserved.unwrap_or(0)) <= reference.reservable(index);
                    prop_assert_eq!(dispatcher.set_reserved(now, id, reserved).is_ok(), fits);
                    if fits {
                        reference.reserve(index, reserved);
                    }
                }
                Step::Retire(index) => {
                    let (index, id) = ids[index];
                    prop_assert!(dispatcher.retire_version(now, id, &mut effects));
                    prop_assert_eq!(&effects, &reference.retire(index, false));
                }
                Step::Remove(slot) => {
                    let (index, id) = ids[slot];
                    prop_assert!(dispatcher.remove_function(now, id, &mut effects));
                    prop_assert_eq!(&effects, &reference.retire(index, true));
                    prop_assert_eq!(dispatcher.invoke(now, id), Decision::NoFunction);
                    let index = reference.functions.len();
                    let name = format!("function-{index}");
                    reference.add(&name, None);
                    // A reference bucket is full at the start, as one that is new now.
                    ids[slot] = (index, dispatcher.add_function(now, limits(&name, None)));
                }
                Step::Wait(nanos) => {
                    now += Duration::from_nanos(nanos);
                    reference.set_now(now);
                    // Every second wait leaves the due environments for later, as a late driver does.
                    if nanos % 2 == 0 {
                        dispatcher.advance(now, &mut effects);
                        prop_assert_eq!(&effects, &reference.advance());
                    }
                }
            }
            prop_assert!(dispatcher.in_flight() <= account);
            prop_assert_eq!(u64::from(dispatcher.in_flight()), reference.in_flight_of_all());
            prop_assert_eq!(dispatcher.environments() as usize, reference.ids().len());
            for (index, id) in &ids {
                prop_assert_eq!(u64::from(dispatcher.counts(*id).in_flight), reference.in_flight(*index));
            }
        }
    }

    #[test]
    fn reservations_are_always_there_for_their_function(
        account in 10u32..200, reserved in prop::collection::vec(0u32..60, 1..4), greedy_first in any::<bool>(),
    ) {
        let mut dispatcher = Dispatcher::new(settings(account, per_function(1000)));
        let greedy = dispatcher.add_function(Instant::START, limits("greedy", None));
        let mut granted = Vec::new();
        for (index, wanted) in reserved.into_iter().enumerate() {
            let id = dispatcher.add_function(Instant::START, limits(&index.to_string(), None));
            if dispatcher.set_reserved(Instant::START, id, Some(wanted)).is_ok() {
                granted.push((id, wanted));
            }
        }
        let sum: u32 = granted.iter().map(|(_, wanted)| wanted).sum();
        if greedy_first {
            prop_assert_eq!(flood(&mut dispatcher, Instant::START, greedy).0, account - sum);
        }
        for (id, wanted) in granted {
            prop_assert_eq!(flood(&mut dispatcher, Instant::START, id).0, wanted);
        }
        if !greedy_first {
            prop_assert_eq!(flood(&mut dispatcher, Instant::START, greedy).0, account - sum);
        }
        prop_assert_eq!(dispatcher.in_flight(), account);
    }

    #[test]
    fn the_order_within_an_instant_changes_who_but_not_how_many(
        order in prop::collection::vec(0usize..3, 1..200).prop_shuffle(), account in 1u32..150,
        scaling in any_scaling(),
    ) {
        let run = |order: &[usize]| {
            let mut dispatcher = Dispatcher::new(settings(account, scaling));
            let ids = ["a", "b", "c"].map(|name| dispatcher.add_function(Instant::START, limits(name, None)));
            for index in order {
                dispatcher.invoke(Instant::START, ids[*index]);
            }
            dispatcher.in_flight()
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(run(&order), run(&sorted));
    }
}

#[test]
fn a_reset_leaves_functions_and_settings_and_nothing_else() {
    let mut dispatcher = Dispatcher::new(settings(200, of_account(5, 1)));
    let kept = dispatcher.add_function(Instant::START, limits("kept", Some(0)));
    let cart = dispatcher.add_function(Instant::START, limits("cart", None));
    let now = Instant::from_secs(1);
    assert_eq!(flood(&mut dispatcher, now, cart).0, 5);
    assert_eq!(flood(&mut dispatcher, now, kept).0, 0);
    let busy = dispatcher.environments();
    let mut effects = Vec::new();
    dispatcher.reset(now, &mut effects);
    assert_eq!((effects.as_slice(), busy), (&[][..], 5), "busy ones finish");
    for row in dispatcher.board(now) {
        assert_eq!((row.peak, row.refused, row.first_refused_at), (row.used, 0, None), "{row:?}");
    }
    assert_eq!((dispatcher.reserved(kept), dispatcher.in_flight()), (Some(0), 5));
    // The bucket is full; what comes home from before is not used again, what is idle ends.
    let fresh = start(&mut dispatcher, now, cart);
    assert!(dispatcher.started(now, fresh));
    dispatcher.finished(now, fresh, Outcome::Done, &mut effects);
    dispatcher.reset(now, &mut effects);
    assert_eq!(effects, [Effect::Reap(fresh)]);
    assert_eq!(flood(&mut dispatcher, now, cart).0, 5);
}
