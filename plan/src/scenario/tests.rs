//! The published figures come out, exactly.

use super::*;
use model::LimitId;

fn report(name: &str) -> Report {
    Scenario::named(name).unwrap().run().unwrap()
}

/// Requests in flight at each of these seconds.
fn totals(report: &Report, seconds: &[u64]) -> Vec<u32> {
    let at = |second: &u64| {
        let row = report.timeline.iter().find(|row| row.t_s.0 == second * 1_000_000_000);
        row.unwrap().concurrency
    };
    seconds.iter().map(at).collect()
}

/// Of each minute: served and throttled, by the timeline's rows.
fn minutes(report: &Report) -> Vec<(u64, u64)> {
    let mut minutes: Vec<(u64, u64)> = Vec::new();
    for (index, row) in report.timeline.iter().enumerate() {
        minutes.resize(index / 60 + 1, (0, 0));
        let minute = minutes.last_mut().unwrap();
        minute.0 += row.cold_starts;
        minute.1 += row.throttled;
    }
    minutes
}

#[test]
fn every_built_in_scenario_reads_and_runs() {
    for name in Scenario::names() {
        let report = report(name);
        assert!(report.summary.requests > 0, "{name}");
        let summary = &report.summary;
        let answered = summary.ok + summary.throttled + summary.timed_out + summary.errors;
        assert_eq!((answered, report.unanswered), (summary.requests, 0), "{name}");
    }
    assert_eq!(Scenario::named("nothing"), None);
}

#[test]
fn tokyo_in_2022_grows_by_five_hundred_a_minute() {
    // Seed S2-8 and vector A.
    let report = report("burst-2022");
    let minutes: Vec<u64> = (0..=6).map(|minute| minute * 60).collect();
    assert_eq!(totals(&report, &minutes), [2000, 2500, 3000, 3500, 4000, 4500, 5000]);
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, &*first.resource, first.at_s.0), (LimitId::Burst, "account", 0));
    assert_eq!((first.used, first.max, first.environments), (1000, 1000, 2000));
    assert_eq!(first.victims, ["CartFunction"]);
    assert_eq!(report.functions[0].peak_concurrency, 5000);
}

#[test]
fn a_function_gains_a_thousand_every_ten_seconds_today() {
    // Vector C.
    let report = report("scaling-today");
    assert_eq!(totals(&report, &[0, 10, 20, 30, 40, 50]), [1000, 2000, 3000, 4000, 5000, 5000]);
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, &*first.resource), (LimitId::ScalingRate, "CartFunction"));
}

#[test]
fn the_default_account_limit_holds_a_thousand() {
    let report = report("scaling-today-1000");
    assert_eq!(totals(&report, &[0, 1, 10, 30, 50]), [1000; 5]);
    assert_eq!(report.first_limit.unwrap().id, LimitId::AccountConcurrency);
}

#[test]
fn ten_thousand_requests_fare_as_the_operator_guide_says() {
    // Vectors B: requests, served, throttled, environments started in each minute.
    for (name, parts) in [
        ("ten-thousand-in-1-minute", &[(10_000, 3000, 7000, 3000)][..]),
        ("ten-thousand-in-2-minutes", &[(5000, 3000, 2000, 3000), (5000, 3500, 1500, 500)]),
        ("ten-thousand-in-3-minutes", &[(3333, 3000, 333, 3000), (3333, 3333, 0, 333), (3334, 3334, 0, 1)]),
        (
            "ten-thousand-in-4-minutes",
            &[(2500, 2500, 0, 2500), (2500, 2500, 0, 0), (2500, 2500, 0, 0), (2500, 2500, 0, 0)],
        ),
    ] {
        let report = report(name);
        let summary = &report.summary;
        assert_eq!(summary.ok, parts.iter().map(|part| part.1).sum::<u64>(), "{name}");
        assert_eq!(summary.throttled, parts.iter().map(|part| part.2).sum::<u64>(), "{name}");
        for (minute, (sent, served, throttled, started)) in parts.iter().enumerate() {
            let found = minutes(&report)[minute];
            assert_eq!(found, (*started, *throttled), "{name}, minute {minute}");
            assert_eq!(sent, &(served + throttled));
        }
    }
}

#[test]
fn problems_of_a_scenario_have_a_place() {
    let text = "title: t\nsource: s\nera: 1999\nlimits: {lambda.brust: 1}\nfunctions: {A: {timeout: 3s}}\nload: {}\n";
    let problems = Scenario::read("s.yaml", text).unwrap_err();
    let said: Vec<String> = problems.iter().map(|problem| problem.one_line("s.yaml")).collect();
    assert!(said[0].starts_with("s.yaml:3:6: no era is called `1999`"), "{said:?}");
    let fits = text
        .replace("1999", "today")
        .replace("load: {}", "load: {version: 1, phases: [{target: B, users: 1, for: 1s}]}");
    let problems = Scenario::read("s.yaml", &fits.replace("lambda.brust: 1", "")).unwrap_err();
    assert_eq!(
        problems[0].one_line("s.yaml"),
        "s.yaml:6:38: the target `B` does not exist (did you mean `A`?)"
    );
    let problems = Scenario::read("s.yaml", &fits).unwrap_err();
    assert_eq!(problems[0].one_line("s.yaml"), "s.yaml:4:10: no limit is called `lambda.brust`");
}

#[test]
fn the_text_says_what_breaks_first_and_when() {
    let text = crate::render(&report("burst-2022"), 100, false);
    assert_eq!(
        text,
        include_str!("../../scenarios/burst-2022.txt"),
        "the golden file scenarios/burst-2022.txt"
    );
}
