//! How loads run: loops, phases, time-outs, ends, and what must hold of every report.

use super::*;
use crate::input::{DoorInput, DoorKind, FunctionInput, RouteInput};
use crate::report::Seconds;
use limits::Decision;
use model::Era;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn function(id: &str, reserved: Option<u32>, timeout_s: u64) -> FunctionInput {
    FunctionInput {
        id: id.into(),
        name: format!("stack-{id}"),
        reserved,
        timeout: Duration::from_secs(timeout_s),
        memory_mb: 1769,
        init_always_billed: false,
    }
}

pub(super) fn stack() -> PlanInput {
    let all = RouteInput { method: "$default".into(), ..RouteInput::default() };
    let door = |id: &str, kind| DoorInput {
        id: id.into(),
        kind,
        api: String::new(),
        stage: String::new(),
        cache_size: None,
        routes: vec![all.clone()],
    };
    PlanInput {
        functions: vec![function("Cart", None, 3), function("Pay", Some(5), 3)],
        doors: vec![door("Url", DoorKind::FunctionUrl), door("Api", DoorKind::HttpApi)],
        ..PlanInput::default()
    }
}

pub(super) fn options(overrides: &[&str]) -> Options {
    let mut options = Options::new(Era::named("today").unwrap());
    overrides.iter().for_each(|text| options.overrides.read(text).unwrap());
    options
}

pub(super) fn plan_with(text: &str, options: &Options) -> Report {
    let text = format!("version: 1\n{text}");
    let load = Load::read("load.yaml", &text).unwrap_or_else(|problems| panic!("{problems:?}"));
    run(&stack(), &load, options).unwrap()
}

pub(super) fn plan(text: &str) -> Report {
    plan_with(text, &options(&[]))
}

pub(super) const FAST: &str =
    "behaviour: {Cart: {init: 1s, steps: [{compute: 1s}]}, Pay: {init: 0s, steps: [{compute: 1s}]}}";

#[test]
fn users_share_the_requests_and_wait_for_their_answers() {
    let report = plan(&format!("phases: [{{target: Cart, users: 3, requests: 10, think: 1s}}]\n{FAST}"));
    let summary = &report.summary;
    assert_eq!((summary.requests, summary.ok, summary.cold_starts), (10, 10, 3));
    // The first user sends four: one cold in 2 s, three warm in 1 s each, and thinks in between.
    assert_eq!(summary.total_s, Seconds(8 * SECOND));
    assert_eq!((summary.slowest_s, summary.fastest_s), (Seconds(2 * SECOND), Seconds(SECOND)));
    assert_eq!(report.functions[0].peak_concurrency, 3);
    assert_eq!(report.first_limit, None);
    assert!(report.functions[0].report_lines[0].ends_with(
        "\tDuration: 1000.00 ms\tBilled Duration: 2000 ms\tMemory Size: 1769 MB\tInit Duration: 1000.00 ms\t"
    ));
    assert_eq!((report.functions[0].billed_ms, report.functions[0].init_ms), (13_000, 3000.0));
}

#[test]
fn users_appear_at_their_rate() {
    let report = plan(&format!("phases: [{{target: Cart, users: 5, spawn: 1/s, requests: 5}}]\n{FAST}"));
    let started: Vec<u64> = report.timeline.iter().map(|row| row.cold_starts).collect();
    assert_eq!(started[..5], [1, 1, 0, 0, 0], "the first environment is free after 2 s, for the third user");
    assert_eq!(report.summary.total_s, Seconds(5 * SECOND));
}

#[test]
fn a_refused_user_thinks_and_sends_its_next_request() {
    let text = format!("phases: [{{target: Pay, users: 6, for: 2500ms, think: 500ms}}]\n{FAST}");
    let report = plan(&text);
    // Five run until 1.0; the sixth is refused at 0 and 0.5 and runs until 2.0, so one of the five is refused at 1.5.
    let first = report.first_limit.unwrap();
    assert_eq!(
        (first.id, &*first.resource, first.used, first.max),
        (LimitId::ReservedConcurrency, "Pay", 5, 5)
    );
    assert_eq!((first.at_s, first.environments, first.victims), (Seconds(0), 5, vec!["Pay".to_owned()]));
    assert_eq!((report.summary.throttled, report.summary.ok), (3, 11));
    assert_eq!(report.summary.statuses[&429], 3);
}

#[test]
fn nobody_sends_twice_in_one_instant() {
    let mut wanted = options(&[]);
    wanted.trace = true;
    let report = plan_with(&format!("phases: [{{target: Pay, users: 6, for: 10ms}}]\n{FAST}"), &wanted);
    assert_eq!(report.summary.throttled, 10, "one user is refused each millisecond");
    let times: Vec<u64> = report.decisions.iter().map(|decided| decided.at.as_nanos() / 1_000_000).collect();
    assert_eq!(times, [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(matches!(report.decisions[5].decision, Decision::Refuse(_)));
    assert!(report.assumptions.iter().any(|row| row.why == "nobody sends twice in one instant"));
}

#[test]
fn phases_follow_one_another_unless_they_have_a_start() {
    let text = "phases:
  - {target: Cart, users: 1, requests: 2}
  - {target: Cart, rate: 1/s, for: 2s}
  - {target: Pay, start: 1s, users: 1, requests: 1}
  - {target: Cart, users: 1, requests: 1}\n";
    let mut wanted = options(&[]);
    wanted.trace = true;
    let report = plan_with(&format!("{text}{FAST}"), &wanted);
    let sent: Vec<(u64, usize)> =
        report.decisions.iter().map(|decided| (decided.at.as_nanos() / SECOND, decided.function)).collect();
    // Phase 1: 0 s and 2 s, answered at 3 s. Phase 2: 3 s to 5 s. Phase 3: 1 s. Phase 4 follows phase 3, at 2 s.
    assert_eq!(sent, [(0, 0), (1, 1), (2, 0), (2, 0), (3, 0), (4, 0)]);
}

#[test]
fn a_timed_out_environment_is_reset_within_the_next_invocation() {
    let text = "phases: [{target: Cart, users: 1, requests: 3, think: 1s}]
behaviour: {Cart: {init: 2s, steps: [{compute: {list: [2500ms]}}]}}";
    let report = plan_with(text, &options(&["lambda.scaling-rate=1", "function.timeout=4"]));
    // The first is cold and takes 2.5 s of its 4; nothing is reset.
    assert_eq!((report.summary.ok, report.summary.timed_out), (3, 0));
    let report = plan_with(text, &options(&["lambda.scaling-rate=1", "function.timeout=2"]));
    assert_eq!((report.summary.ok, report.summary.timed_out, report.summary.cold_starts), (0, 3, 1));
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, first.at_s, first.max), (LimitId::FunctionTimeout, Seconds(4 * SECOND), 2));
    assert_eq!(report.summary.statuses[&200], 3, "a direct invocation answers 200 with a function error");
    assert_eq!(report.functions[0].report_lines[1].matches("Init Duration").count(), 0);
    assert!(report.functions[0].report_lines[1].ends_with("Status: timeout\t"));
    let row = report.limits.iter().find(|row| row.id == LimitId::FunctionTimeout).unwrap();
    assert_eq!((row.refused, row.max, row.peak), (3, 2, 2));
}

#[test]
fn a_suppressed_init_counts_within_the_invocation() {
    let text = "seed: 2\nphases: [{target: Cart, users: 1, requests: 10}]
behaviour: {Cart: {init: 2s, steps: [{compute: {list: [1s, 1s, 5s]}}]}}";
    let report = plan_with(text, &options(&["function.timeout=4"]));
    let duration =
        |line: &str| line.split("Duration: ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let mut seen = BTreeSet::new();
    let mut after_time_out = false;
    for line in &report.functions[0].report_lines {
        seen.insert((after_time_out, duration(line)));
        after_time_out = line.contains("Status: timeout");
    }
    let expected = [(false, "1000.00"), (false, "4000.00"), (true, "3000.00"), (true, "4000.00")];
    assert_eq!(seen, expected.map(|(after, duration)| (after, duration.to_owned())).into());
}

#[test]
fn init_was_billed_only_for_custom_runtimes_and_images_before_2025() {
    let text = format!("version: 1\nphases: [{{target: Cart, users: 1, requests: 2}}]\n{FAST}");
    let billed = |era: &str, init_always_billed| {
        let mut stack = stack();
        stack.functions[0].init_always_billed = init_always_billed;
        let load = Load::read("load.yaml", &text).unwrap();
        let report = run(&stack, &load, &Options::new(Era::named(era).unwrap())).unwrap();
        report.functions[0].billed_ms
    };
    assert_eq!(
        (billed("today", false), billed("2022-12", false), billed("2022-12", true)),
        (3000, 2000, 3000)
    );
}

#[test]
fn an_init_beyond_ten_seconds_is_done_again_within_the_invocation() {
    let text = "phases: [{target: Cart, users: 1, requests: 1}]
behaviour: {Cart: {init: 11s, steps: [{compute: 1s}]}}";
    let report = plan_with(text, &options(&["function.timeout=30"]));
    assert_eq!(report.summary.slowest_s, Seconds(22 * SECOND));
    let report = plan_with(text, &options(&["function.timeout=5"]));
    assert_eq!((report.summary.slowest_s, report.summary.timed_out), (Seconds(15 * SECOND), 1));
    assert!(report.assumptions.iter().any(|row| row.what.contains("INIT that runs")));
}

#[test]
fn steps_of_an_environment_happen_once_in_it() {
    let text = "phases: [{target: Cart, users: 1, requests: 3}]
behaviour: {Cart: {init: [{compute: 1s}, {sleep: 1s}], steps: [{sleep: 1s, once: environment}, {compute: 500ms}]}}";
    let report = plan(text);
    assert_eq!(report.summary.total_s, Seconds(2 * SECOND + SECOND + 3 * SECOND / 2));
}

#[test]
fn reuse_lag_keeps_an_environment_from_the_next_request() {
    let text = "phases: [{target: Cart, users: 1, requests: 2}]
behaviour: {Cart: {init: 0s, reuse_lag: 1ms, steps: [{compute: 1s}]}}";
    assert_eq!(plan(text).summary.cold_starts, 2);
    assert_eq!(plan(&text.replace("reuse_lag: 1ms, ", "")).summary.cold_starts, 1);
}

#[test]
fn clients_wait_no_longer_than_their_own_time_out() {
    let text =
        format!("phases: [{{target: Cart, users: 1, requests: 2, timeout: 1500ms, latency: 100ms}}]\n{FAST}");
    let report = plan(&text);
    // The cold one takes 2.1 s, so at 1.5 s the user sends again; the first environment is still busy, so the
    // second is cold too.
    let summary = &report.summary;
    assert_eq!((summary.ok, summary.errors, summary.cold_starts), (0, 2, 2));
    assert_eq!(summary.errors_by_cause[0].chain, ["client.timeout"]);
    assert_eq!((summary.total_s, report.functions[0].invocations), (Seconds(3 * SECOND), 2));
}

#[test]
fn doors_have_their_own_statuses() {
    for (door, status) in [("Url", 429), ("Api", 503), ("stack-Cart", 429)] {
        let text = format!("phases: [{{target: {door}, users: 3, requests: 3}}]\n{FAST}");
        let report = plan_with(&text, &options(&["lambda.account-concurrency=7"]));
        assert_eq!(report.summary.statuses, [(200, 2), (status, 1)].into(), "two of seven are not reserved");
    }
}

#[test]
fn idle_environments_at_the_start_are_warm() {
    let text =
        format!("initial: {{Cart: {{idle: 2}}}}\nphases: [{{target: Cart, users: 3, requests: 3}}]\n{FAST}");
    let report = plan(&text);
    assert_eq!((report.summary.cold_starts, report.timeline[0].environments), (1, 3));
    let text = format!(
        "initial: {{Cart: {{idle: 2}}}}\nphases: [{{target: Cart, start: 600s, users: 3, requests: 3}}]\n{FAST}"
    );
    let report = plan(&text);
    assert_eq!(report.summary.cold_starts, 3, "they are gone after the idle time-out");
    assert_eq!((report.timeline[599].environments, report.timeline[600].environments), (2, 3));
}

#[test]
fn where_nothing_breaks_the_first_line_says_how_near_it_is() {
    let load = |steps: &str| {
        format!(
            "phases: [{{target: Cart, users: 40, requests: 40}}]\nbehaviour: {{Cart: {{init: 0s, steps: [{{compute: {steps}}}]}}}}"
        )
    };
    let line = |report: &Report| crate::render(report, 80, false).lines().next().unwrap().to_owned();
    let wanted = options(&["lambda.account-concurrency=50"]);
    assert_eq!(
        line(&plan_with(&load("100ms"), &wanted)),
        "Nothing breaks. The nearest limit is lambda.account-concurrency of account: peak 45 of 50 concurrent \
         executions, 10 % left."
    );
    assert_eq!(
        line(&plan_with(&load("2940ms"), &wanted)),
        "Nothing breaks. The nearest limit is function.timeout of Cart: peak 2.94 of 3 s, 2 % left."
    );
}

#[test]
fn what_has_no_effect_yet_is_said() {
    let text =
        "month: {repeat: 3}\nphases: [{target: Url, users: 1, requests: 1, bytes: {in: 1KB, out: 5B}}]";
    let report = plan_with(text, &options(&["lambda.account-concurrency=50"]));
    let what: Vec<&str> = report.assumptions.iter().map(|row| &*row.what).collect();
    for expected in ["`phases.bytes` of the load", "init of Cart", "steps of Cart"] {
        assert!(what.contains(&expected), "{expected}: {what:?}");
    }
    assert!(!what.contains(&"init of Pay"), "no phase reaches it");
    assert!(what.contains(&"reserved concurrency"), "5 of 50 leave less than 100");
}

#[test]
fn a_plan_can_end_early() {
    let mut wanted = options(&[]);
    wanted.until = Some(Duration::from_millis(2500));
    let report = plan_with(&format!("phases: [{{target: Cart, rate: 1/s, for: 60s}}]\n{FAST}"), &wanted);
    assert_eq!((report.summary.requests, report.summary.ok, report.unanswered), (3, 1, 2));
    let times: Vec<u64> = report.timeline.iter().map(|row| row.t_s.0 / 1_000_000).collect();
    assert_eq!(times, [0, 1000, 2000, 2500]);
    assert_eq!(report.timeline[3].concurrency, 2);
}

#[test]
fn what_cannot_be_planned_says_why() {
    let load = |text: &str| Load::read("l", &format!("version: 1\n{text}")).unwrap();
    let simple = load("phases: [{target: Cart, users: 1, requests: 1}]");
    let error = |load: &Load, options: &Options| run(&stack(), load, options).unwrap_err();
    assert_eq!(
        error(&simple, &options(&["lambda.payload-size=5"])),
        PlanError::NotSimulated(LimitId::PayloadSize)
    );
    assert!(matches!(error(&simple, &options(&["lambda.burst=5"])), PlanError::Settings(_)));
    let too_large = PlanError::TooLarge { limit: LimitId::FunctionTimeout, value: u64::MAX };
    assert_eq!(error(&simple, &options(&["function.timeout=18446744073709551615"])), too_large);
    let mut no_step = options(&[]);
    no_step.step = Some(Duration::ZERO);
    assert_eq!(error(&simple, &no_step), PlanError::ZeroStep);
    let busy = load("initial: {Pay: {busy: 6, for: 1s}}\nphases: [{target: Cart, users: 1, requests: 1}]");
    let full = PlanError::Initial { function: "Pay".into(), wanted: 6, room: 5, name: "Pay".into() };
    let place = full.problem(&busy).unwrap().one_line("l");
    assert!(
        place.starts_with("l:2:11: Pay cannot have 6 environments at t = 0: its limits leave room for 5")
    );
    assert_eq!(error(&busy, &options(&[])), full);
    let typo = load("phases: [{target: Crat, users: 1, requests: 1}]\nbehaviour: {Pya: {}}");
    let PlanError::Load(problems) = error(&typo, &options(&[])) else { panic!("a problem of the load") };
    let said: Vec<String> = problems.iter().map(|problem| problem.one_line("l")).collect();
    assert_eq!(said[0], "l:2:19: the target `Crat` does not exist (did you mean `Cart`?)");
    assert_eq!(said[1], "l:3:13: the function `Pya` does not exist (did you mean `Pay`?)");
}

const RANDOM: &str = "phases: [{target: Cart, rate: 50/s, arrivals: poisson, for: 20s, latency: {exponential: 5ms}}]
behaviour: {Cart: {init: {uniform: [100ms, 900ms]}, steps: [{compute: {lognormal: {p50: 80ms, p99: 900ms}}}]}}";

#[test]
fn one_seed_gives_one_report_byte_by_byte() {
    let json = |seed| {
        let mut wanted = options(&[]);
        wanted.seed = Some(seed);
        serde_json::to_string(&plan_with(RANDOM, &wanted)).unwrap()
    };
    assert_eq!(json(1), json(1));
    assert_ne!(json(1), json(2));
    // Pinned: the same on every machine and until the engine means to decide otherwise.
    assert_eq!(plan(RANDOM).engine.decisions_hash, "84600741df617873");
}

#[test]
fn the_json_has_the_keys_of_the_contract() {
    let report = serde_json::to_value(plan(RANDOM)).unwrap();
    let keys =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&report),
        "schema first_limit summary limits timeline functions cost assumptions promises fixes sweep engine"
    );
    assert_eq!(
        keys(&report["summary"]),
        "requests attempts ok throttled timed_out errors cold_starts statuses errors_by_cause total_s fastest_s slowest_s \
         average_s requests_per_s percentiles_s histogram"
    );
    assert_eq!(
        keys(&report["limits"][0]),
        "id resource max used peak refused first_refused_at_s source raisable"
    );
    assert_eq!(
        keys(&report["timeline"][0]),
        "t_s concurrency environments cold_starts throttled connections pools interfaces"
    );
    assert_eq!(
        keys(&report["functions"][0]),
        "name invocations cold_starts throttled timed_out peak_concurrency duration_s billed_ms init_ms report_lines"
    );
    assert_eq!(keys(&report["engine"]), "version era region seed decisions_hash");
    assert_eq!(
        (&report["first_limit"], &report["cost"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert_eq!((&report["fixes"], &report["sweep"]), (&serde_json::json!([]), &serde_json::json!([])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_report_adds_up(
        users in 1u32..40, requests in 0u64..200, rate in 0u64..60, think_ms in 0u64..800, seed in any::<u64>(),
        account in 5u64..40, scaling in 0u64..20, until_ms in prop::option::of(1u64..30_000),
    ) {
        let text = format!("phases:
  - {{target: Cart, users: {users}, requests: {requests}, think: {{exponential: {think_ms}ms}}, timeout: 2s}}
  - {{target: Pay, start: 1s, rate: {{from: {rate}/s, to: 3/s}}, arrivals: poisson, for: 10s}}
behaviour:
  Cart: {{init: {{exponential: 2s}}, steps: [{{compute: {{normal: {{mean: 800ms, sd: 1s}}}}}}]}}
  Pay: {{steps: [{{compute: {{uniform: [0s, 4s]}}}}]}}");
        let limits = [format!("lambda.account-concurrency={account}"), format!("lambda.scaling-rate={scaling}")];
        let mut wanted = options(&[&limits[0], &limits[1]]);
        wanted.seed = Some(seed);
        wanted.until = until_ms.map(Duration::from_millis);
        let report = plan_with(&text, &wanted);
        let summary = &report.summary;
        let answered = summary.ok + summary.throttled + summary.timed_out + summary.errors;
        prop_assert_eq!(answered + report.unanswered, summary.requests);
        if until_ms.is_none() {
            prop_assert_eq!(report.unanswered, 0);
            let last = report.timeline.last().unwrap();
            prop_assert_eq!(last.concurrency, 0);
        }
        let refused: u64 = report.functions.iter().map(|function| function.throttled).sum();
        prop_assert_eq!(report.timeline.iter().map(|row| row.throttled).sum::<u64>(), refused);
        let of_limits = report.limits.iter().filter(|row| row.id != LimitId::FunctionTimeout);
        prop_assert_eq!(of_limits.map(|row| row.refused).sum::<u64>(), refused);
        let started: u64 = report.timeline.iter().map(|row| row.cold_starts).sum();
        prop_assert_eq!(started, summary.cold_starts);
        prop_assert!(report.timeline.iter().all(|row| u64::from(row.concurrency) <= account));
        prop_assert!(report.timeline.is_sorted_by_key(|row| row.t_s));
        let ran: u64 = report.functions.iter().map(|function| function.invocations).sum();
        prop_assert_eq!(ran + refused, summary.requests);
        let in_rows: u64 = summary.histogram.iter().map(|row| row.count).sum();
        prop_assert_eq!(in_rows, answered - summary.errors);
        let by_limit: u64 = report.refusals.iter().map(|row| row.count).sum();
        prop_assert_eq!(by_limit, report.limits.iter().map(|row| row.refused).sum::<u64>());
        prop_assert!(!crate::render(&report, 80, true).is_empty());
    }
}

#[test]
fn the_second_form_of_the_scaling_rate_is_named_where_it_could_bind() {
    let said = |compute: &str| {
        let text = format!(
            "phases: [{{target: Cart, users: 12000, requests: 12000}}]
behaviour: {{Cart: {{init: 0s, steps: [{{compute: {compute}}}]}}}}"
        );
        let limits = ["lambda.account-concurrency=20000", "lambda.scaling-rate=20000"];
        let report = plan_with(&text, &options(&limits));
        assert_eq!(report.summary.ok, 12_000);
        report.assumptions.iter().any(|row| row.what == "lambda.scaling-rate")
    };
    assert!(said("10ms"), "more than 10,000 requests a second of a function below 100 ms");
    assert!(!said("100ms"), "a thousand environments serve no more than that");
}
