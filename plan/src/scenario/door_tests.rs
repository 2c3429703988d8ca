//! What stands before functions: the published rules come out, and what follows from them.

use super::*;
use model::{Era, LimitId};

fn report(name: &str) -> Report {
    Scenario::named(name).unwrap().run().unwrap()
}

fn refused(report: &Report, ids: [LimitId; 2]) -> u64 {
    report.limits.iter().filter(|row| ids.contains(&row.id)).map(|row| row.refused).sum()
}

#[test]
fn each_throttle_lets_its_bucket_pass_and_what_flows_in() {
    // Seed S1-16, in its order.
    let report = report("throttles-in-order");
    // Even arrivals: the last of n comes at (n - 1) / rate, when the bucket has given all and what flowed in until then.
    let passes = |rate: u64, seconds: u64, bucket: u64, refill: u64| {
        let sent = rate * seconds;
        (sent, bucket + refill * (sent - 1) / rate)
    };
    let mut passed = 0;
    for (ids, (sent, expected)) in [
        ([LimitId::ApiKeyMethodRate, LimitId::ApiKeyMethodBurst], passes(50, 10, 20, 10)),
        ([LimitId::ApiKeyRate, LimitId::ApiKeyBurst], passes(300, 10, 200, 100)),
        ([LimitId::ApiStageRate, LimitId::ApiStageBurst], passes(1000, 10, 300, 500)),
        ([LimitId::ApiAccountRate, LimitId::ApiAccountBurst], passes(15_000, 5, 5000, 10_000)),
    ] {
        assert_eq!(refused(&report, ids), sent - expected, "{}", ids[0]);
        passed += expected;
    }
    assert_eq!((report.summary.ok, report.functions[0].invocations), (passed, passed));
    assert_eq!(report.summary.statuses[&429], report.summary.throttled);
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, first.victims), (LimitId::ApiKeyMethodRate, vec!["ShopFunction".to_owned()]));
}

#[test]
fn a_cache_costs_what_its_entries_lifetimes_say() {
    // Seed S1-17. An item's k-th miss comes before T if at least k requests for it come in T - (k - 1) lifetimes.
    let report = report("cache-of-a-stage");
    let weights: Vec<f64> = (1..=10_000).map(|rank| libm::pow(f64::from(rank), -1.1)).collect();
    let sum: f64 = weights.iter().sum();
    let misses = |rate: f64| -> f64 {
        (1..=10).map(|miss: u32| at_least(miss, rate * (600.0 - 60.0 * f64::from(miss - 1)))).sum()
    };
    let expected: f64 = weights.iter().map(|weight| misses(500.0 * weight / sum)).sum();
    let cache = &report.caches[0];
    // A little more: until an answer is there, further requests for its item miss, too.
    let ratio = cache.misses as f64 / expected;
    assert!((0.99..1.02).contains(&ratio), "{} misses, {expected} expected", cache.misses);
    let items = report.functions.iter().find(|function| function.name == "ItemFunction").unwrap();
    let stock = report.functions.iter().find(|function| function.name == "StockFunction").unwrap();
    assert_eq!((items.invocations, stock.invocations), (cache.misses, 30_000), "the override is not cached");
    assert_eq!(cache.hits + cache.misses, report.summary.requests - 30_000);
}

/// How likely at least `count` arrivals of a Poisson process are where `mean` are expected.
fn at_least(count: u32, mean: f64) -> f64 {
    let mut term = libm::exp(-mean);
    let mut fewer = 0.0;
    for index in 0..count {
        fewer += term;
        term *= mean / f64::from(index + 1);
    }
    1.0 - fewer
}

#[test]
fn new_callers_need_what_known_ones_do_not() {
    let scenario = Scenario::named("new-callers").unwrap();
    let report = scenario.run().unwrap();
    let first = report.first_limit.clone().unwrap();
    assert_eq!((first.id, first.max), (LimitId::AccountConcurrency, 100));
    assert!(first.at_s.0 > 20_000_000_000, "not before the campaign: {first:?}");
    // The same requests by known callers find room.
    let mut known = scenario.clone();
    let callers = known.load.phases[0].asks.callers;
    known.load.phases.iter_mut().for_each(|phase| phase.asks.callers = callers);
    let known = known.run().unwrap();
    assert_eq!((&known.first_limit, known.summary.ok), (&None, report.summary.requests));
    let peak = |report: &Report| report.timeline.iter().map(|row| row.concurrency).max().unwrap();
    assert_eq!(peak(&report), 100);
    assert!((80..85).contains(&peak(&known)), "{}", peak(&known));
    let (new, old) = (&report.authorizers[0], &known.authorizers[0]);
    assert_eq!(old.asked + old.kept, known.summary.requests);
    assert!(new.asked > 15_000 && old.asked < 150, "{new:?} {old:?}");
    // Who is not asked about fails with 500; who passes is throttled by the function's own refusal, which is 500, too.
    assert!(new.failed > 0 && report.summary.statuses[&500] == new.failed + report.summary.throttled);
}

#[test]
fn a_parameter_in_a_global_is_asked_for_once_by_each_environment() {
    // Seed S1-18.
    let report = report("parameter-in-a-global");
    // The client keeps its connection open: a call opens one or uses it again.
    let calls = |name: &str| {
        let row = report.connects.iter().find(|row| row.function == name).unwrap();
        row.opened + row.reused
    };
    let function = |name: &str| report.functions.iter().find(|row| row.name == name).unwrap();
    assert_eq!(calls("KeepsIt"), function("KeepsIt").cold_starts);
    assert_eq!(calls("AsksEachTime"), function("AsksEachTime").invocations);
    assert_eq!((calls("KeepsIt"), calls("AsksEachTime")), (40, 4000));
}

#[test]
fn who_waits_how_long_for_a_slow_function() {
    // Seeds S4-5, S4-12, S4-14.
    let report = report("doors-that-wait");
    let statuses = [(200, 1), (500, 1), (503, 1), (504, 1)];
    assert_eq!(report.summary.statuses, statuses.into_iter().collect());
    let limits: Vec<(LimitId, u64)> =
        report.refusals.iter().map(|row| (row.limit, row.at_s.0 / 1_000_000_000)).collect();
    let expected = [
        (LimitId::FunctionTimeout, 25),
        (LimitId::IntegrationTimeout, 29),
        (LimitId::IntegrationTimeout, 30),
    ];
    assert_eq!(limits, expected);
    // The gateway's time-out includes the cold start; the functions run on for all of their 40 s.
    let slow = &report.functions[0];
    assert_eq!((slow.invocations, slow.timed_out, slow.duration_s["50"].0), (3, 0, 40_000_000_000));
    assert_eq!(report.summary.slowest_s.0, 40_500_000_000);
}

#[test]
fn a_cold_start_in_a_vpc_takes_274_ms_and_the_next_request_its_call() {
    // Seed S1-7. Put in: 274 ms with the cold start. Predicted: everything else.
    let report = report("parameter-in-274-ms");
    assert_eq!((report.summary.slowest_s.0, report.summary.fastest_s.0), (274_000_000, 24_000_000));
    assert_eq!((report.summary.cold_starts, report.connects[0].opened), (1, 1));
    // Half a year earlier the same cold start waits for an interface (S1-2, S3-9: 10 to 20 s).
    let mut before = Scenario::named("parameter-in-274-ms").unwrap();
    before.options.era = Era::named("2019-05").unwrap();
    let slowest = before.run().unwrap().summary.slowest_s.as_f64();
    assert!((9.0..20.5).contains(&slowest), "{slowest}");
}

#[test]
fn a_bucket_lets_a_burst_pass_and_then_its_refill() {
    // Seeds S2-2 and S2-3: 190 of 200 are refused without a bucket; 200 pass at once with one, then 10 or 50 a second.
    let report = report("tokens-and-buckets");
    let passed = |function: &str| {
        report.functions.iter().find(|row| row.name == function).map(|row| row.invocations).unwrap()
    };
    assert_eq!(passed("NoBucket"), 10);
    // The flood's last request comes at 9.99 s.
    assert_eq!((passed("SlowRefill"), passed("QuickRefill")), (200 + 99, 200 + 499));
}
