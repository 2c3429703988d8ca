//! Functions that call others, services that are called, and clients that try again.

use super::tests::{options, plan, plan_with, stack};
use super::*;
use crate::report::Seconds;
use limits::Network;

const SECOND: u64 = 1_000_000_000;

fn chains(report: &Report) -> Vec<(Vec<String>, u64)> {
    report.summary.errors_by_cause.iter().map(|row| (row.chain.clone(), row.count)).collect()
}

#[test]
fn a_call_holds_both_functions_and_both_are_billed() {
    let report = plan(
        "phases: [{target: Cart, users: 2, requests: 4}]
behaviour:
  Cart: {init: 0s, steps: [{compute: 100ms}, {call: {function: Pay}}, {compute: 100ms}]}
  Pay: {init: 300ms, steps: [{compute: 500ms}]}",
    );
    assert_eq!((report.summary.requests, report.summary.attempts, report.summary.ok), (4, 4, 4));
    // Cold: 100 ms, Pay's INIT and handler, 100 ms; then warm.
    assert_eq!(report.summary.slowest_s, Seconds(SECOND));
    assert_eq!(report.summary.fastest_s, Seconds(7 * SECOND / 10));
    assert_eq!(report.summary.total_s, Seconds(17 * SECOND / 10));
    let [cart, pay] = &report.functions[..] else { panic!("two functions") };
    assert_eq!((cart.invocations, pay.invocations), (4, 4));
    assert_eq!((cart.peak_concurrency, pay.peak_concurrency), (2, 2));
    assert_eq!((cart.billed_ms, pay.billed_ms), (2 * 1000 + 2 * 700, 2 * 800 + 2 * 500));
}

#[test]
fn a_call_that_is_refused_is_an_error_with_its_cause() {
    let text = |retry: &str| {
        format!(
            "phases: [{{target: Cart, users: 8, requests: 8}}]
behaviour:
  Cart: {{init: 0s, steps: [{{call: {{function: Pay{retry}}}}}]}}
  Pay: {{init: 0s, steps: [{{compute: 600ms}}]}}"
        )
    };
    let report = plan(&text(""));
    assert_eq!((report.summary.ok, report.summary.errors), (5, 3));
    assert_eq!((report.functions[0].throttled, report.functions[1].throttled), (0, 3));
    let refused = "lambda.reserved-concurrency of Pay: 5 of 5 concurrent executions";
    let chain = ["function.error", "call of Pay waited 0 s", refused].map(str::to_owned).to_vec();
    assert_eq!(chains(&report), [(chain, 3)]);
    assert_eq!(report.first_limit.unwrap().victims, ["Pay"]);
    // After at most 1 s and 2 s some come when the first five are done.
    let patient = plan(&text(", retry: standard"));
    assert!(patient.summary.ok > 5, "{}", patient.summary.ok);
    assert_eq!(patient.summary.attempts, 8, "the client itself does not retry");
    assert!(patient.functions[1].throttled > 3);
}

#[test]
fn a_caller_waits_no_longer_than_its_own_time() {
    let report = plan_with(
        "phases: [{target: Cart, users: 1, requests: 1}]
behaviour:
  Cart: {init: 0s, steps: [{compute: 1s}, {call: {function: Pay}}]}
  Pay: {init: 0s, steps: [{compute: 2500ms}]}",
        &options(&[]),
    );
    assert_eq!((report.summary.timed_out, report.summary.slowest_s), (1, Seconds(3 * SECOND)));
    let chain = ["function.timeout", "call of Pay waited 2 s"].map(str::to_owned).to_vec();
    assert_eq!(chains(&report), [(chain, 1)]);
    // Pay runs on, and is billed to its end.
    assert_eq!((report.functions[1].billed_ms, report.functions[1].timed_out), (2500, 0));
}

#[test]
fn the_whole_chain_of_calls_is_told() {
    let mut input = stack();
    let mut third = input.functions[0].clone();
    (third.id, third.name) = ("Ship".into(), "stack-Ship".into());
    third.timeout = Duration::from_secs(1);
    input.functions.push(third);
    input.functions[0].timeout = Duration::from_secs(30);
    let text = "version: 1
phases: [{target: Cart, users: 1, requests: 3}]
behaviour:
  Cart: {init: 0s, steps: [{call: {function: Pay}}]}
  Pay: {init: 0s, steps: [{call: {function: Ship}}]}
  Ship: {init: 0s, steps: [{connect: {to: 'far.example.com:443'}}, {sleep: 9s}]}";
    let report = run(&input, &Load::read("l", text).unwrap(), &options(&[])).unwrap();
    assert_eq!(report.summary.errors, 3);
    let chain =
        ["function.error", "call of Pay waited 1 s", "function.error", "call of Ship", "function.timeout"];
    assert_eq!(chains(&report), [(chain.map(str::to_owned).to_vec(), 3)]);
    assert_eq!((report.functions[2].timed_out, report.functions[2].invocations), (3, 3));
}

#[test]
fn an_init_that_is_ended_in_its_call_calls_again() {
    // INIT may take 10 s. Its first call is answered after that, and must not be taken for the second one's answer.
    let text = "phases: [{target: Cart, users: 1, requests: 2}]
behaviour:
  Cart: {init: [{call: {function: Pay}}], steps: [{compute: 1s}]}
  Pay: {init: 0s, steps: [{compute: 12s, once: environment}, {compute: 100ms}]}";
    let report = plan_with(text, &options(&["function.timeout=30"]));
    // The second call comes at 10 s, while the first still runs: Pay starts another environment for 12.1 s.
    assert_eq!(report.summary.slowest_s, Seconds(231 * SECOND / 10));
    assert_eq!((report.functions[1].invocations, report.functions[1].cold_starts), (2, 2));
    assert_eq!((report.summary.ok, report.summary.timed_out), (2, 0));
}

#[test]
fn a_service_is_reached_as_a_connect_would_be() {
    let mut input = stack();
    input.network = Network::simple(2, 1, 1);
    let text = "version: 1
phases: [{target: Cart, users: 3, requests: 9}]
behaviour:
  Cart: {init: 0s, steps: [{call: {to: ssm, for: 50ms}, once: environment}, {compute: 10ms}]}";
    let load = Load::read("l", text).unwrap();
    let report = run(&input, &load, &options(&[])).unwrap();
    assert_eq!((report.summary.ok, report.summary.cold_starts), (9, 3));
    assert_eq!(
        (report.summary.slowest_s, report.summary.fastest_s),
        (Seconds(60_000_000), Seconds(10_000_000))
    );
    let connect = &report.connects[0];
    assert_eq!((&*connect.destination, connect.opened), ("ssm.us-east-1.amazonaws.com:443", 3));
    let full = run(&input, &load, &options(&["nat.ports=2"])).unwrap();
    assert_eq!(
        (full.summary.ok, full.summary.timed_out),
        (6, 3),
        "one environment in three never gets a port"
    );
    let first = full.first_limit.unwrap();
    assert_eq!(first.destination.as_deref(), Some("ssm.us-east-1.amazonaws.com:443"));
}

#[test]
fn a_request_that_is_tried_again_counts_once() {
    let text = |retry: &str| {
        format!(
            "retry: {retry}
phases: [{{target: Pay, users: 10, requests: 10, latency: 10ms}}]
behaviour: {{Pay: {{init: 0s, steps: [{{compute: 100ms}}]}}}}"
        )
    };
    let plain = plan(&text("none"));
    assert_eq!((plain.summary.requests, plain.summary.attempts, plain.summary.ok), (10, 10, 5));
    let patient = plan(&text("standard"));
    assert_eq!((patient.summary.requests, patient.summary.ok, patient.summary.throttled), (10, 10, 0));
    let throttled = patient.functions[0].throttled;
    assert!(throttled >= 5, "{throttled}");
    assert_eq!(patient.summary.attempts, 10 + throttled);
    assert_eq!(patient.summary.statuses.get(&200), Some(&10));
    // What waits for its retry has its answer late: the time counts from the first attempt.
    assert!(patient.summary.slowest_s > Seconds(120_000_000), "{:?}", patient.summary.slowest_s);
    assert!(patient.assumptions.iter().any(|row| row.what == "retries of clients"));
    assert!(crate::render(&patient, 110, false).contains(&format!("  {} attempts in all", 10 + throttled)));
    assert_eq!(patient, plan(&text("standard")), "the same seed gives the same back-offs");
}

#[test]
fn the_quota_of_an_open_loop_is_soon_spent() {
    let report = plan(
        "retry: standard
phases: [{target: Pay, rate: 1000/s, for: 1s, retry: standard}]
behaviour: {Pay: {init: 0s, steps: [{compute: 2900ms}]}}",
    );
    // Five are let in at once; the others retry until 100 times five tokens are spent.
    assert_eq!((report.summary.requests, report.summary.attempts), (1000, 1100));
    assert_eq!(report.summary.ok + report.summary.throttled, 1000);
    let fast = report.summary.percentiles_s["50"];
    assert_eq!(fast, Seconds(0), "then clients fail fast");
}

#[test]
fn who_waits_no_longer_tries_again_and_functions_run_on() {
    let report = plan(
        "retry: standard
phases: [{target: Cart, users: 1, requests: 1, timeout: 1s}]
behaviour: {Cart: {init: 0s, steps: [{compute: 2s, once: environment}, {compute: 10ms}]}}",
    );
    assert_eq!((report.summary.requests, report.summary.ok + report.summary.errors), (1, 1));
    assert!(report.summary.attempts >= 2);
    assert_eq!(report.functions[0].invocations, report.summary.attempts);
    // A function's own error has status 200 when it is invoked, and 500 or 502 behind a door.
    let failing = |target: &str| {
        let report = plan(&format!(
            "retry: standard
phases: [{{target: {target}, users: 1, requests: 1}}]
behaviour: {{Cart: {{init: 0s, steps: [{{sleep: 4s}}]}}}}"
        ));
        (report.summary.requests, report.summary.attempts, report.summary.timed_out)
    };
    assert_eq!(failing("Cart"), (1, 1, 1));
    assert_eq!(failing("Url"), (1, 3, 1));
    assert_eq!(failing("Api"), (1, 3, 1));
}

#[test]
fn adaptive_clients_come_slower_after_throttles() {
    let text = |retry: &str| {
        format!(
            "phases: [{{target: Pay, users: 20, for: 60s, think: 10ms, retry: {retry}}}]
behaviour: {{Pay: {{init: 0s, steps: [{{compute: 100ms}}]}}}}"
        )
    };
    let [standard, adaptive] = ["standard", "adaptive"].map(|retry| plan(&text(retry)));
    let refused = |report: &Report| report.functions[0].throttled as f64 / report.summary.attempts as f64;
    assert!(refused(&adaptive) < refused(&standard) * 0.6, "{} {}", refused(&adaptive), refused(&standard));
    assert!(adaptive.summary.ok * 2 > standard.summary.ok, "{} {}", adaptive.summary.ok, standard.summary.ok);
    let said = adaptive.summary.ok + adaptive.summary.throttled;
    assert_eq!((said, adaptive.unanswered), (adaptive.summary.requests, 0));
}

#[test]
fn a_phase_ends_when_its_last_request_has_its_last_answer() {
    let report = plan(
        "phases:
  - {target: Pay, users: 6, requests: 6, retry: standard}
  - {target: Cart, users: 1, requests: 1}
behaviour: {Pay: {init: 0s, steps: [{compute: 1ms}]}, Cart: {init: 0s, steps: [{compute: 1s}]}}",
    );
    assert_eq!(report.summary.ok, 7);
    assert!(report.summary.total_s > Seconds(SECOND), "{:?}", report.summary.total_s);
}

#[test]
fn the_client_of_an_environment_stops_retrying_when_its_quota_is_spent() {
    // Pay's five are busy throughout: each of a hundred retries takes 5 of 500, and none comes back.
    let text = |requests: u32, users: u32| {
        format!(
            "initial: {{Pay: {{busy: 5, for: 9000s}}}}
phases: [{{target: Cart, users: {users}, requests: {requests}}}]
behaviour:
  Cart: {{init: 0s, steps: [{{call: {{function: Pay, retry: standard}}}}]}}"
        )
    };
    let tries = |report: &Report| report.functions.iter().find(|row| row.name == "Pay").unwrap().throttled;
    assert_eq!(tries(&plan(&text(50, 1))), 50 + 100);
    assert_eq!(tries(&plan(&text(100, 1))), 100 + 100, "then failures go through at once");
    assert_eq!(tries(&plan(&text(100, 2))), 100 + 200, "two environments have two clients");
}
