//! How invocations fare that need connections.

use super::*;
use crate::input::FunctionInput;
use crate::report::Seconds;
use limits::Network;
use model::Era;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SECOND: u64 = 1_000_000_000;

fn stack(network: Network) -> PlanInput {
    let function = |id: &str| FunctionInput {
        id: id.into(),
        name: id.into(),
        reserved: None,
        timeout: Duration::from_secs(30),
        memory_mb: 128,
        init_always_billed: false,
    };
    PlanInput { functions: vec![function("Cart"), function("Pay")], network, ..PlanInput::default() }
}

fn plan_in(network: Network, text: &str, overrides: &[&str]) -> Report {
    let mut options = Options::new(Era::named("today").unwrap());
    overrides.iter().for_each(|text| options.overrides.read(text).unwrap());
    let load = Load::read("load.yaml", &format!("version: 1\n{text}"));
    run(&stack(network), &load.unwrap_or_else(|problems| panic!("{problems:?}")), &options).unwrap()
}

/// Two functions in one subnet behind a NAT gateway with one address.
fn plan(text: &str, overrides: &[&str]) -> Report {
    plan_in(Network::simple(2, 1, 1), text, overrides)
}

fn row(report: &Report, limit: LimitId) -> (u64, u64, u64, u64) {
    let row = report.limits.iter().find(|row| row.id == limit).unwrap();
    (row.max, row.used, row.peak, row.refused)
}

#[test]
fn a_dropped_connect_runs_the_function_into_its_time_out_and_the_chain_says_why() {
    let report = plan(
        "phases: [{target: Cart, users: 7, requests: 7}]
behaviour: {Cart: {init: 0s, steps: [{compute: 5s}, {connect: {to: 'cache.example.com:443', timeout: 30s}}, {sleep: 24s}]}}",
        &["nat.ports=5"],
    );
    let summary = &report.summary;
    assert_eq!((summary.ok, summary.timed_out, summary.slowest_s), (5, 2, Seconds(30 * SECOND)));
    // SYNs at 5, 6, 8, 12 and 20 s, while the five hold all ports until 29 s.
    assert_eq!(summary.errors_by_cause.len(), 1);
    assert_eq!(
        summary.errors_by_cause[0].chain,
        [
            "function.timeout",
            "connect to cache.example.com:443 waited 25 s",
            "nat.ports of NatGateway: 5 of 5 connections"
        ]
    );
}

#[test]
fn a_later_syn_succeeds_where_room_came_free() {
    let report = plan(
        "phases: [{target: Cart, users: 3, requests: 3}]
behaviour: {Cart: {init: 0s, steps: [{connect: {to: 'cache.example.com:443'}}, {sleep: 4s}]}}",
        &["nat.ports=1"],
    );
    // The first ends at 4 s; the others' SYNs at 7 s find one port, which is free again at 11 s, for the SYN at 15 s.
    assert_eq!((report.summary.ok, report.summary.slowest_s), (3, Seconds(19 * SECOND)));
    assert_eq!(report.connects[0].waits_s, [(0, 1), (7, 1), (15, 1)].into());
    assert_eq!((report.connects[0].opened, report.connects[0].dropped), (3, 2 + 2 + 2 + 1));
    assert_eq!(row(&report, LimitId::NatPorts), (1, 0, 1, 7));
}

#[test]
fn a_client_that_gives_up_has_an_error_of_the_function() {
    let report = plan(
        "phases: [{target: Cart, users: 2, requests: 2}]
behaviour: {Cart: {init: 0s, steps: [{connect: {to: 'cache.example.com:443', timeout: 2s, retry: {attempts: 2, delay: 3s}}},
  {sleep: 20s}]}}",
        &["nat.ports=1"],
    );
    assert_eq!((report.summary.ok, report.summary.errors, report.summary.timed_out), (1, 1, 0));
    assert_eq!(
        report.summary.errors_by_cause[0].chain[..2],
        ["function.error", "connect to cache.example.com:443 waited 7 s"]
    );
    assert_eq!((report.connects[0].dropped, report.connects[0].failed), (4, 1));
    assert_eq!(report.summary.statuses, [(200, 2)].into(), "Invoke answers 200 with the function's error");
}

#[test]
fn users_who_wait_no_longer_send_again_while_the_function_still_waits() {
    let report = plan(
        "phases: [{target: Cart, users: 1, requests: 2, timeout: 5s}]
initial: {Pay: {busy: 1, for: 1s}}
behaviour: {Cart: {init: 0s, steps: [{connect: {to: 'cache.example.com:443'}}]}}",
        &["nat.ports=0"],
    );
    assert_eq!((report.summary.errors, report.summary.total_s), (2, Seconds(10 * SECOND)));
    assert_eq!(report.summary.cold_starts, 2, "the first environment is still busy");
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "client.timeout",
            "connect to cache.example.com:443 waited 5 s",
            "nat.ports of NatGateway: 0 of 0 connections"
        ]
    );
    assert_eq!(report.functions[0].timed_out, 2, "both run into the function's time-out all the same");
}

#[test]
fn an_environment_keeps_its_connections_for_later_invocations() {
    let text = |hold: &str| {
        format!(
            "phases: [{{target: Cart, users: 1, requests: 3, think: 1s}}]
behaviour: {{Cart: {{init: 0s, steps: [{{connect: {{to: 'cache.example.com:443', count: 4, hold: {hold}}}}}, {{sleep: 1s}}]}}}}"
        )
    };
    let opened = |hold: &str| {
        let report = plan(&text(hold), &[]);
        let connections = report.timeline.iter().map(|row| row.connections["NatGateway"]).collect::<Vec<_>>();
        (report.connects[0].opened, report.connects[0].reused, connections)
    };
    assert_eq!(opened("environment"), (4, 8, vec![4, 4, 4, 4, 4, 4]));
    assert_eq!(opened("invocation"), (12, 0, vec![4, 0, 4, 0, 4, 0]));
    assert_eq!(opened("3s"), (12, 0, vec![4, 4, 8, 4, 8, 4, 4, 0]));
}

#[test]
fn a_connection_that_was_silent_for_350_s_is_reset_and_opened_anew() {
    let report = plan(
        "phases: [{target: Cart, users: 1, requests: 3, think: {list: [351s]}}]
behaviour: {Cart: {init: 0s, steps: [{connect: {to: 'cache.example.com:443', hold: environment}}]}}",
        &[],
    );
    let connect = &report.connects[0];
    assert_eq!((connect.opened, connect.reused, connect.resets), (3, 0, 2));
    assert_eq!(row(&report, LimitId::EniConnections), (65_000, 1, 1, 0));
}

#[test]
fn an_environment_that_ends_abandons_its_connections_unless_it_closes_them() {
    let used = |shutdown: &str| {
        let text = format!(
            "phases: [{{target: Cart, users: 2, requests: 2}}, {{target: Pay, start: 650s, users: 1, requests: 1}}]
behaviour: {{Cart: {{init: 0s, on_shutdown: {shutdown}, steps: [{{connect: {{to: 'cache.example.com:443', hold: environment}}}}, {{sleep: 1s}}]}}}}"
        );
        let report = plan(&text, &["eni.idle-timeout=700", "nat.idle-timeout=700"]);
        (row(&report, LimitId::NatPorts).1, row(&report, LimitId::EniConnections).1)
    };
    assert_eq!((used("close"), used("abandon")), ((0, 0), (2, 2)), "environments end after 600 s");
}

#[test]
fn a_time_out_closes_what_the_process_had_open() {
    let report = plan(
        "phases: [{target: Cart, users: 1, requests: 2}]
behaviour: {Cart: {init: 1s, steps: [{connect: {to: 'cache.example.com:443', hold: environment}}, {sleep: 60s}]}}",
        &[],
    );
    assert_eq!((report.summary.timed_out, report.connects[0].opened, report.connects[0].reused), (2, 2, 0));
    assert_eq!(row(&report, LimitId::NatPorts).1, 0);
}

#[test]
fn a_pool_that_init_cannot_open_is_tried_again_within_the_invocation() {
    let text = "phases: [{target: Cart, users: 1, requests: 1}]
behaviour: {Cart: {init: [{compute: 1s}, {connect: {to: 'db.example.com:5432', hold: environment, timeout: 60s}}], steps: [{sleep: 1s}]}}";
    let report = plan(text, &["nat.ports=0"]);
    // INIT is killed after 10 s; the second one runs into the function's 30 s.
    assert_eq!((report.summary.timed_out, report.summary.slowest_s), (1, Seconds(40 * SECOND)));
    assert_eq!(report.summary.errors_by_cause[0].chain[1], "connect to db.example.com:5432 waited 29 s");
    let report = plan(&text.replace("60s", "2s"), &["nat.ports=0"]);
    // INIT fails at 3 s, and again after 3 s of the invocation.
    assert_eq!((report.summary.errors, report.summary.slowest_s), (1, Seconds(6 * SECOND)));
    assert_eq!(report.summary.errors_by_cause[0].chain[0], "function.error");
    let report = plan(text, &[]);
    assert_eq!((report.summary.ok, report.summary.slowest_s), (1, Seconds(2 * SECOND)));
}

#[test]
fn functions_share_an_interface_and_its_room() {
    let report = plan(
        "phases: [{target: Cart, users: 6, requests: 6}, {target: Pay, start: 1s, users: 6, requests: 6}]
behaviour:
  Cart: {init: 0s, steps: [{connect: {to: 'cache.example.com:443'}}, {sleep: 9s}]}
  Pay: {init: 0s, steps: [{connect: {to: 'bank.example.com:443', timeout: 2s}}, {sleep: 500ms}]}",
        &["eni.connections=8"],
    );
    let first = report.first_limit.as_ref().unwrap();
    assert_eq!((first.id, &*first.resource), (LimitId::EniConnections, "eni-Subnet1-Group"));
    assert_eq!((first.used, first.max, first.at_s), (8, 8, Seconds(SECOND)));
    assert_eq!(
        (first.destination.as_deref(), &first.victims[..]),
        (Some("bank.example.com:443"), &["Pay".to_owned()][..])
    );
    // Two of Pay's at 1 s, two more at 2 s in the room that those left, and two give up at 3 s.
    assert_eq!((report.summary.ok, report.summary.errors), (6 + 4, 2));
    assert_eq!(report.timeline[0].interfaces, Some(1));
}

#[test]
fn each_address_of_a_name_is_a_destination_of_its_own() {
    let opened = |hosts: &str| {
        let text = format!(
            "{hosts}\nphases: [{{target: Cart, users: 9, requests: 9}}]
behaviour: {{Cart: {{init: 0s, steps: [{{connect: {{to: 'cache.example.com:443', timeout: 1s}}}}, {{sleep: 5s}}]}}}}"
        );
        plan(&text, &["nat.ports=3"]).connects[0].opened
    };
    assert_eq!(opened(""), 3);
    assert_eq!(opened("hosts: {cache.example.com: [203.0.113.10, 203.0.113.11]}"), 6);
}

#[test]
fn a_function_without_a_way_hangs_and_one_without_a_vpc_meets_no_limit() {
    let text = "phases: [{target: Cart, users: 1, requests: 1}]
behaviour: {Cart: {init: 0s, steps: [{connect: {to: 'cache.example.com:443'}}]}}";
    let mut network = Network::simple(2, 1, 1);
    network.subnets[0].routes.clear();
    let report = plan_in(network, text, &[]);
    assert_eq!(report.first_limit.as_ref().unwrap().id, LimitId::NoRoute);
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        ["function.timeout", "connect to cache.example.com:443 waited 30 s", "route.none of Subnet1"]
    );
    for told in [crate::report::render(&report, 100, false), crate::report::render_html(&report, "")] {
        assert!(told.contains("breaks first") && !told.contains("0 of 0"), "{told}");
    }
    let report = plan_in(Network::default(), text, &["nat.ports=0", "eni.connections=0"]);
    assert_eq!((report.summary.ok, report.timeline[0].interfaces), (1, None));
    assert!(report.assumptions.iter().any(|row| row.why == "no function is in a VPC"));
}

#[test]
fn an_interface_grows_only_where_a_delay_for_it_is_given() {
    let text = "phases: [{target: Cart, users: 9, requests: 9}]
behaviour: {Cart: {init: 0s, steps: [{connect: {to: 'cache.example.com:443'}}, {sleep: 25s}]}}";
    let fixed = plan(text, &["eni.connections=5"]);
    assert_eq!((fixed.summary.ok, fixed.summary.timed_out), (5, 4));
    let grown = plan(text, &["eni.connections=5", "eni.growth-after=3s"]);
    assert_eq!((grown.summary.ok, grown.connects[0].waits_s.clone()), (9, [(0, 5), (3, 4)].into()));
    assert_eq!(grown.timeline.last().unwrap().interfaces, Some(2));
}

#[test]
fn network_figures_that_cannot_be_are_refused() {
    let load = Load::read("l", "{version: 1, phases: [{target: Cart, users: 1, requests: 1}]}").unwrap();
    let mut options = Options::new(Era::named("today").unwrap());
    options.overrides.read("nat.ports=70000").unwrap();
    let error = run(&stack(Network::default()), &load, &options).unwrap_err();
    assert_eq!(error.to_string(), "nat.ports=70000 is too large: at most 64512");
}

#[test]
fn blocking_follows_erlang_b() {
    // Poisson arrivals, exponential holding, blocked connects cleared (one SYN each): with n ports and a load of a, the
    // share that is blocked is B(n, a) = a B(n-1, a) / (n + a B(n-1, a)), B(0, a) = 1. It was not put in.
    for (ports, load) in [(50_u32, 50.0), (60, 50.0), (10, 20.0)] {
        let blocked = (1..=ports).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
        let report = plan(
            &format!(
                "phases: [{{target: Cart, rate: {load}/s, arrivals: poisson, for: 2000s}}]
behaviour: {{Cart: {{init: 0s, steps: [{{connect: {{to: 'cache.example.com:443', timeout: 1s}}}}, {{sleep: {{exponential: 1s}}}}]}}}}"
            ),
            &[&format!("nat.ports={ports}")],
        );
        let share = report.summary.errors as f64 / report.summary.requests as f64;
        // Arrivals that are blocked come in clusters, so the bound is wider than that of independent ones.
        assert!(
            (share - blocked).abs() < 0.1 * blocked + 0.002,
            "{ports} ports, {load} erlangs: {share} for {blocked}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A model of a few lines, which shares nothing with the engines: everyone comes at once and holds for the same time.
    #[test]
    fn late_room_agrees_with_a_slow_model(
        users in 1u64..80, ports in 0u64..30, room in 0u64..30, hold_ms in 1u64..40_000, patience in 1u64..140,
    ) {
        let (mut waiting, mut ends, mut waits) = (users, Vec::new(), BTreeMap::new());
        for syn in [0, 1, 3, 7, 15, 31, 63].into_iter().filter(|syn| *syn == 0 || *syn < patience) {
            ends.retain(|end| *end > syn * 1000);
            let opened = waiting.min(ports.min(room) - ends.len() as u64);
            ends.extend((0..opened).map(|_| syn * 1000 + hold_ms));
            waiting -= opened;
            if opened > 0 {
                waits.insert(syn, opened);
            }
        }
        let text = format!("phases: [{{target: Cart, users: {users}, requests: {users}}}]
behaviour: {{Cart: {{init: 0s, steps: [{{connect: {{to: 'cache.example.com:443', timeout: {patience}s}}}}, {{sleep: {hold_ms}ms}}]}}}}");
        let limits = [format!("nat.ports={ports}"), format!("eni.connections={room}"), "function.timeout=900".into()];
        let report = plan(&text, &limits.each_ref().map(|limit: &String| &**limit));
        prop_assert_eq!(&report.connects[0].waits_s, &waits);
        prop_assert_eq!((report.summary.ok, report.summary.errors), (users - waiting, waiting));
        if waiting > 0 {
            let chain = &report.summary.errors_by_cause[0].chain;
            prop_assert_eq!(&chain[1], &format!("connect to cache.example.com:443 waited {} s", patience.min(127)));
        }
    }

    #[test]
    fn every_report_with_connections_adds_up(
        users in 1u32..40, requests in 0u64..150, ports in 0u64..30, room in 0u64..40, count in 1u32..4,
        hold in prop::sample::select(&["invocation", "environment", "2s"][..]), timeout in 1u64..40,
        attempts in 1u32..4, patience in 1u64..50, subnets in 1usize..4, addresses in 0u16..3, seed in any::<u64>(),
        until in prop::option::of(1u64..40), cooldown in 0u64..20, idle in 1u64..400,
        in_init in any::<bool>(), growth in prop::option::of(0u64..40),
    ) {
        let connect = format!("{{connect: {{to: 'cache.example.com:443', count: {count}, hold: {hold}, \
            timeout: {timeout}s, retry: {{attempts: {attempts}, delay: 500ms}}}}}}");
        let (first, second) = if in_init { (&*connect, "{compute: 1s}") } else { ("{compute: 1s}", &*connect) };
        let text = format!("phases:
  - {{target: Cart, users: {users}, requests: {requests}, think: {{exponential: 1s}}, timeout: {patience}s}}
  - {{target: Pay, start: 1s, rate: 3/s, arrivals: poisson, for: 10s}}
behaviour:
  Cart: {{init: [{first}], steps: [{second}, {{compute: {{exponential: 3s}}}}]}}
  Pay: {{init: 1s, steps: [{{compute: {{uniform: [0s, 9s]}}}}, {connect}, {{sleep: 1s}}]}}");
        let limits = [
            format!("nat.ports={ports}"), format!("eni.connections={room}"),
            format!("nat.port-cooldown={cooldown}"), format!("nat.idle-timeout={idle}"),
        ];
        let mut options = Options::new(Era::named("today").unwrap());
        limits.iter().for_each(|text| options.overrides.read(text).unwrap());
        if let Some(growth) = growth {
            options.overrides.set(LimitId::EniGrowthAfter, growth);
        }
        options.seed = Some(seed);
        options.until = until.map(Duration::from_secs);
        let input = stack(Network::simple(2, subnets, addresses));
        let load = Load::read("load.yaml", &format!("version: 1\n{text}")).unwrap();
        let report = run(&input, &load, &options).unwrap();
        let again = run(&input, &load, &options).unwrap();
        prop_assert_eq!(serde_json::to_string(&report).unwrap(), serde_json::to_string(&again).unwrap());
        let summary = &report.summary;
        let answered = summary.ok + summary.throttled + summary.timed_out + summary.errors;
        prop_assert_eq!(answered + report.unanswered, summary.requests);
        let causes: u64 = summary.errors_by_cause.iter().map(|cause| cause.count).sum();
        prop_assert_eq!(causes, answered - summary.ok);
        if until.is_none() {
            prop_assert_eq!(report.unanswered, 0);
            prop_assert_eq!(report.timeline.last().unwrap().concurrency, 0);
        }
        let dropped: u64 = report.connects.iter().map(|connect| connect.dropped).sum();
        let network = [LimitId::EniConnections, LimitId::NatPorts];
        let of_network = report.limits.iter().filter(|row| network.contains(&row.id));
        prop_assert_eq!(of_network.clone().map(|row| row.refused).sum::<u64>(), dropped);
        for row in of_network {
            let held = report.timeline.iter().map(|at| at.connections[&row.resource]).max().unwrap_or(0);
            prop_assert!(row.used <= row.peak && row.peak <= row.max && held <= row.peak);
        }
        prop_assert!(!crate::render(&report, 80, true).is_empty());
    }
}
