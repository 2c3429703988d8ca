//! Cold starts that wait for a network interface, or get none.

use crate::{Report, Scenario};
use model::LimitId;

/// 50 users at once, one request each, in so many subnets of /28.
fn burst(limits: &str, subnets: u32, memory: u32, behaviour: &str) -> Report {
    let text = format!(
        "title: t\nsource: s\nera: 2019-05\nlimits: {{{limits}}}\n\
         network: {{subnets: {subnets}, addresses: 1, prefix: 28}}\n\
         functions: {{A: {{timeout: 30s, memory_mb: {memory}}}}}\n\
         load:\n  version: 1\n  phases: [{{target: A, users: 50, requests: 50}}]\n\
         \x20 behaviour: {{A: {{init: 0ms, steps: [{behaviour}]}}}}\n"
    );
    Scenario::read("s.yaml", &text).unwrap().run().unwrap()
}

#[test]
fn a_full_subnet_fails_invocations_after_every_other_subnet_is_full() {
    // Eleven addresses in each /28; two environments of 1.5 GB share an interface.
    for (subnets, ok) in [(1, 22), (2, 44), (3, 50)] {
        let report = burst("", subnets, 1536, "{sleep: 1s}");
        assert_eq!((report.summary.ok, report.summary.errors), (ok, 50 - ok), "{subnets} subnets");
        assert_eq!((report.summary.throttled, report.summary.cold_starts), (0, ok));
        if ok < 50 {
            let first = report.first_limit.unwrap();
            assert_eq!((first.id, first.used, first.max), (LimitId::SubnetAddresses, 11, 11));
            assert_eq!(report.summary.errors_by_cause[0].chain, ["subnet.addresses"]);
            assert_eq!(report.summary.statuses[&502], 50 - ok);
        }
    }
}

#[test]
fn the_rate_and_the_quota_fail_invocations_too() {
    for (limits, limit) in
        [("eni.create-rate: 5", LimitId::SubnetAddresses), ("eni.per-region: 3", LimitId::EniPerRegion)]
    {
        let report = burst(limits, 1, 3072, "{sleep: 1s}");
        assert_eq!(report.first_limit.unwrap().id, limit, "{limits}");
    }
    // A bucket of a hundred interfaces, and four for each environment.
    let report = burst("eni.per-region: 1000", 16, 10_240, "{sleep: 1s}");
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, &*first.resource), (LimitId::EniCreateRate, "account"));
    assert!((25..=30).contains(&report.summary.ok), "{}", report.summary.ok);
}

#[test]
fn a_deployment_without_room_for_its_interface_fails_every_request() {
    let text = "title: t\nsource: s\nlimits: {eni.per-vpc: 1}\nnetwork: {subnets: 2, addresses: 1}\n\
                functions: {A: {timeout: 3s}}\n\
                load: {version: 1, phases: [{target: A, users: 5, requests: 10}]}\n";
    let report = Scenario::read("s.yaml", text).unwrap().run().unwrap();
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, &*first.resource, first.used), (LimitId::EniPerVpc, "vpc", 1));
    assert_eq!((report.summary.errors, report.summary.cold_starts), (10, 0));
    assert_eq!(report.timeline[0].interfaces, Some(1));
}

#[test]
fn connects_wait_for_the_interface_and_go_through_the_subnet_that_has_one() {
    let connect = "{connect: {to: 'cache.example.com:443'}}, {sleep: 1s}";
    let report = burst("nat.ports: 30", 2, 1536, connect);
    assert_eq!((report.connects[0].opened, report.summary.errors), (44, 6));
    assert!(report.summary.fastest_s.as_f64() < 1.0, "who gets no interface hears of it at once");
    assert!(report.connects[0].waits_s.len() > 1, "and who gets one may still wait for a port");
    let report = burst("", 5, 1536, connect);
    assert!(report.summary.fastest_s.as_f64() > 9.6 && report.summary.slowest_s.as_f64() < 14.0);
    assert_eq!((report.summary.ok, report.functions[0].init_ms), (50, 0.0), "the wait is no INIT");
    assert_eq!(report.timeline.last().unwrap().interfaces, Some(25));
}
