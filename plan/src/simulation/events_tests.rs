//! Asynchronous invocations on the virtual clock.

use super::run;
use crate::input::{EventInput, FunctionInput, PlanInput};
use crate::load::Load;
use crate::options::Options;
use crate::report::{EventRow, Report};
use model::{Era, LimitId};
use std::time::Duration;

fn input(reserved: Option<u32>) -> PlanInput {
    let function = FunctionInput {
        id: "Cart".into(),
        name: "cart".into(),
        reserved,
        timeout: Duration::from_secs(3),
        memory_mb: 1769,
        init_always_billed: false,
    };
    PlanInput { functions: vec![function], dead_letters: vec![0], ..PlanInput::default() }
}

fn plan(input: &PlanInput, load: &str, limits: &[&str]) -> Report {
    let mut options = Options::new(Era::named("today").unwrap());
    for limit in limits {
        options.overrides.read(limit).unwrap();
    }
    let load = Load::read("load.yaml", &format!("version: 1\n{load}")).unwrap();
    run(input, &load, &options).unwrap()
}

const FLOOD: &str = "phases: [{target: Cart, mode: event, users: 100, requests: 100, latency: 10ms}]
behaviour: {Cart: {init: 0ms, steps: [{compute: 1s}]}}";

fn counts(row: &EventRow) -> (u64, u64, u64, u64, u64) {
    (row.accepted, row.delivered, row.retried, row.dropped, row.pending)
}

#[test]
fn events_are_accepted_at_once_and_run_when_there_is_room() {
    let report = plan(&input(Some(10)), FLOOD, &[]);
    // Clients hear 202 at once, whatever their function has room for.
    assert_eq!((report.summary.ok, report.summary.throttled, report.summary.statuses[&202]), (100, 0, 100));
    assert_eq!(report.summary.slowest_s.0, 10_000_000);
    let row = &report.events[0];
    assert_eq!(counts(row), (100, 100, 0, 0, 0));
    assert_eq!((&*row.function, report.functions[0].invocations), ("Cart", 100));
    assert!(row.throttled > 90, "{row:?}");
    assert_eq!(report.functions[0].peak_concurrency, 10);
    // Ten a second at best; the back-off of those that come late leaves gaps.
    assert!(row.age_s["99"].0 > 9_000_000_000, "{row:?}");
    assert_eq!(report.first_limit.unwrap().id, LimitId::ReservedConcurrency);
}

#[test]
fn no_request_rate_holds_events_back() {
    let limits = ["lambda.request-rate=5"];
    let report = plan(&input(None), FLOOD, &limits);
    assert_eq!((report.events[0].delivered, report.events[0].throttled), (100, 0));
    let direct = FLOOD.replace("mode: event, ", "");
    assert_eq!(plan(&input(None), &direct, &limits).summary.ok, 5);
}

#[test]
fn a_function_that_fails_is_tried_three_times_and_then_there_are_dead_letters() {
    let load = "phases: [{target: Cart, mode: event, users: 2, requests: 2}]
behaviour: {Cart: {init: 0ms, steps: [{compute: 5s}]}}";
    let report = plan(&input(None), load, &[]);
    let row = &report.events[0];
    assert_eq!(counts(row), (2, 0, 4, 2, 0));
    assert_eq!(
        (row.dead_lettered, report.functions[0].invocations, report.functions[0].timed_out),
        (2, 6, 6)
    );
    // One minute after the first time-out of 3 s, two after the second.
    assert_eq!(
        (row.age_s["10"].0, row.age_s["50"].0, row.age_s["99"].0),
        (0, 63_000_000_000, 186_000_000_000)
    );
    let mut once = input(None);
    once.events.push(EventInput {
        function: 0,
        qualifier: "$LATEST".into(),
        maximum_age: Duration::from_secs(60),
        maximum_retries: 0,
        on_success: false,
        on_failure: true,
    });
    let report = plan(&once, load, &[]);
    assert_eq!((report.functions[0].invocations, report.events[0].to_destinations), (2, 2));
}

#[test]
fn events_that_grow_too_old_are_dropped_and_name_their_limit() {
    let load = "initial: {Cart: {busy: 1, for: 300s}}
phases: [{target: Cart, mode: event, users: 5, requests: 5}]";
    let report = plan(&input(Some(1)), load, &["async.queue-age=60s"]);
    let row = &report.events[0];
    assert_eq!(counts(row), (5, 0, 0, 5, 0));
    let board = report.limits.iter().find(|row| row.id == LimitId::AsyncQueueAge).unwrap();
    assert_eq!((&*board.resource, board.max, board.refused), ("Cart", 60, 5));
    assert_eq!(board.first_refused_at.unwrap().as_secs_f64(), 60.0);
    assert!(crate::render(&report, 100, false).contains("Asynchronous events"));
}

#[test]
fn a_reservation_of_zero_drops_events_at_once() {
    let report = plan(&input(Some(0)), FLOOD, &[]);
    assert_eq!(counts(&report.events[0]), (100, 0, 0, 100, 0));
    assert_eq!((report.summary.ok, report.events[0].dead_lettered), (100, 100));
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let json = || serde_json::to_string(&plan(&input(Some(7)), FLOOD, &[])).unwrap();
    assert_eq!(json(), json());
}
