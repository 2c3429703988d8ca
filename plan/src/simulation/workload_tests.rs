//! Loads as they come: spikes, days, recordings; and loads that are too large.

use super::tests::{FAST, options, plan, stack};
use super::*;
use crate::recording::Recording;
use crate::report::Seconds;

fn per_second(report: &Report) -> Vec<u64> {
    // Rows show the state after each second; each request of `Pay` beyond its five environments is refused.
    report.timeline.iter().map(|row| row.throttled).collect()
}

#[test]
fn a_spike_stands_on_its_base() {
    let rate = "rate: {spike: {base: 5/s, peak: 50/s, at: 3s, for: 2s}}";
    let report = plan(&format!("phases: [{{target: Pay, {rate}, for: 8s}}]\n{FAST}"));
    assert_eq!(report.summary.requests, 6 * 5 + 2 * 50);
    assert_eq!(
        per_second(&report)[..9],
        [0, 0, 0, 0, 45, 45, 0, 0, 0],
        "five at once fit: {:?}",
        per_second(&report)
    );
}

#[test]
fn days_and_nights_repeat() {
    let rate = "rate: {diurnal: {low: 0/s, high: 20/s, period: 10s}}";
    let report = plan(&format!("phases: [{{target: Cart, {rate}, for: 30s}}]\n{FAST}"));
    // The mean is 10 a second; each half wave begins anew.
    assert!((297..=303).contains(&report.summary.requests), "{}", report.summary.requests);
    let poisson = plan(&format!("phases: [{{target: Cart, {rate}, arrivals: poisson, for: 30s}}]\n{FAST}"));
    assert!((200..=400).contains(&poisson.summary.requests), "{}", poisson.summary.requests);
    assert_ne!(poisson.summary.requests, report.summary.requests);
}

fn replay(text: &str, recording: &str) -> Report {
    let text = format!("version: 1\nphases: [{{target: Cart, {text}}}]\n{FAST}");
    let mut load = Load::read("load.yaml", &text).unwrap();
    load.supply(0, Recording::read(recording).unwrap().into());
    run(&stack(), &load, &options(&[])).unwrap()
}

#[test]
fn a_recording_is_replayed_moment_by_moment() {
    let recording = "time\n0.5\n0.5\n0.75\n9\n";
    let report = replay("rate: {replay: a.csv}, start: 1s", recording);
    assert_eq!((report.summary.requests, report.summary.cold_starts), (4, 3));
    assert_eq!(report.summary.total_s, Seconds(9_500_000_000), "from 1.5 s until one second after 10 s");
    let cut = replay("rate: {replay: a.csv}, for: 9s", recording);
    assert_eq!(cut.summary.requests, 3, "at the very end nothing new is sent");
}

#[test]
fn a_recording_that_nobody_read_is_a_problem() {
    let load = Load::read("l", "{version: 1, phases: [{target: Cart, rate: {replay: a.csv}}]}").unwrap();
    let Err(PlanError::Load(problems)) = run(&stack(), &load, &options(&[])) else { panic!("no problem") };
    assert_eq!(problems[0].one_line("l"), "l:1:53: `a.csv` was not read");
}

#[test]
fn what_no_plan_can_take_is_said_at_once() {
    let said = |phase: &str, until: Option<u64>| {
        let load = Load::read("l", &format!("{{version: 1, phases: [{{target: Cart, {phase}}}]}}")).unwrap();
        let mut options = options(&[]);
        options.until = until.map(Duration::from_millis);
        match run(&stack(), &load, &options) {
            Err(PlanError::Load(problems)) => problems[0].one_line("l"),
            other => panic!("{:?}", other.map(|report| report.summary.requests)),
        }
    };
    assert_eq!(
        said("rate: 1000000000/s, for: 60s", None),
        "l:1:44: this sends 60,000,000,000 requests, and a plan takes at most 200,000,000 \
         (plan a shorter time, a lower rate, or a scaled-down load)"
    );
    assert!(said("rate: {from: 0/s, to: 1000000000/s}, for: 60s", Some(30_000)).contains("7,500,000,000"));
    assert!(said("rate: {diurnal: {low: 0/s, high: 10000/s}}, for: 24h", None).contains("432,000,000"));
    assert!(said("users: 7, requests: 18446744073709551615", None).contains("this sends"));
    let few = Load::read("l", "{version: 1, phases: [{target: Pay, rate: 1000000000/s, for: 60s}]}").unwrap();
    let mut options = options(&[]);
    options.until = Some(Duration::from_nanos(1000));
    assert_eq!(run(&stack(), &few, &options).unwrap().summary.requests, 1001, "the end is part of the plan");
}

#[test]
fn a_streamed_response_is_no_larger_than_the_quota_and_as_quick_as_the_rate() {
    let run_with = |bytes: &str, limit: &str| {
        let behaviour = format!("behaviour: {{Cart: {{init: 0s, steps: [{{stream: {bytes}}}]}}}}");
        let text = format!("version: 1\nphases: [{{target: Cart, users: 1, requests: 1}}]\n{behaviour}");
        run(&stack(), &Load::read("load.yaml", &text).unwrap(), &options(&[limit]))
    };
    let Err(PlanError::Load(problems)) = run_with("201MiB", "lambda.account-concurrency=9") else {
        panic!("it is larger than a response may be");
    };
    let line = problems[0].one_line("load.yaml");
    assert!(line.contains("lambda.response-stream-size cuts a response after 209,715,200 bytes"), "{line}");
    // The function's own time-out is 3 s: 6 MiB go at once, and 6 in three seconds.
    let fares = |bytes, limit| {
        let report = run_with(bytes, limit).unwrap();
        (report.summary.timed_out, report.summary.total_s)
    };
    assert_eq!(fares("12MiB", "lambda.account-concurrency=9"), (0, Seconds(3_000_000_000)));
    assert_eq!(fares("13MiB", "lambda.account-concurrency=9"), (1, Seconds(3_000_000_000)));
    assert_eq!(fares("201MiB", "lambda.response-stream-size=300000000").0, 1);
    assert_eq!(fares("13MiB", "lambda.response-stream-rate=4194304"), (0, Seconds(1_750_000_000)));
}

#[test]
fn a_load_without_a_request_is_no_good_news() {
    let report = plan(&format!("phases: [{{target: Cart, rate: 0/s, for: 9s}}]\n{FAST}"));
    let text = crate::render(&report, 100, false);
    assert!(text.starts_with("Nothing was sent: the load has no request"), "{text}");
}
