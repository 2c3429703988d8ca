//! Names that do not resolve in time, and bytes that take their time.

use crate::{Report, Scenario};
use model::LimitId;

/// So many users at once, one request each, of a function in a VPC.
fn burst(limits: &str, users: u32, phase: &str, steps: &str) -> Report {
    let text = format!(
        "title: t\nsource: s\nlimits: {{{limits}}}\nnetwork: {{subnets: 1, addresses: 1}}\n\
         functions: {{A: {{timeout: 60s}}}}\n\
         load:\n  version: 1\n  phases: [{{target: A, users: {users}, requests: {users}{phase}}}]\n\
         \x20 behaviour: {{A: {{init: 0ms, steps: [{steps}]}}}}\n"
    );
    Scenario::read("s.yaml", &text).unwrap().run().unwrap()
}

fn peak(report: &Report, id: LimitId) -> (u64, u64, u64) {
    let row = report.limits.iter().find(|row| row.id == id).unwrap();
    (row.max, row.peak, row.refused)
}

#[test]
fn names_beyond_a_second_s_packets_are_asked_for_again_after_5_s() {
    let connect =
        |count| format!("{{connect: {{to: 'cache.example.com:443', count: {count}}}}}, {{sleep: 1s}}");
    let report = burst("", 2, "", &connect(512));
    assert_eq!((report.summary.ok, peak(&report, LimitId::DnsPackets)), (2, (1024, 1024, 0)));
    let report = burst("", 2, "", &connect(600));
    assert_eq!(report.first_limit.as_ref().unwrap().id, LimitId::DnsPackets);
    assert_eq!((report.summary.ok, report.summary.slowest_s.0), (2, 6_000_000_000));
    assert_eq!(report.connects[0].waits_s[&5], 2, "and then they are open");
    let report = burst("", 1, "", "{connect: {to: '203.0.113.1:443', count: 600}}");
    assert_eq!(report.summary.slowest_s.0, 0, "an address needs no name");
}

#[test]
fn a_name_that_gets_no_answer_twice_is_an_error() {
    let report = burst("dns.packets: 100", 1, "", "{connect: {to: 'cache.example.com:443', count: 200}}");
    assert_eq!((report.summary.errors, report.summary.slowest_s.0), (1, 10_000_000_000));
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "function.error",
            "connect to cache.example.com:443 waited 10 s",
            "dns.packets of resolver: 100 of 100 packets/s"
        ]
    );
    let connect = "{connect: {to: 'cache.example.com:443', count: 200, retry: {attempts: 2, delay: 0s}}}";
    let report = burst("dns.packets: 100", 1, "", connect);
    assert_eq!((report.summary.ok, report.connects[0].waits_s[&15]), (1, 1), "fifty every 5 s");
    assert_eq!(report.connects[0].opened, 200);
}

#[test]
fn names_resolve_while_connects_hang() {
    let report = burst("eni.connections: 5", 8, "", "{connect: {to: 'cache.example.com:443'}}, {sleep: 59s}");
    assert_eq!(peak(&report, LimitId::DnsPackets), (1024, 2, 0));
    assert!(peak(&report, LimitId::EniConnections).2 > 0);
}

#[test]
fn each_environment_moves_625_megabits_a_second_and_a_gateway_5000() {
    let connect = "{connect: {to: '203.0.113.1:443', bytes: 100MB}}";
    let report = burst("", 1, "", connect);
    assert_eq!(report.summary.slowest_s.0, 1_280_000_000);
    assert_eq!(peak(&report, LimitId::EnvironmentBandwidth).1, 625);
    let report = burst("", 80, "", connect);
    assert_eq!((report.summary.ok, report.summary.slowest_s.0), (80, 12_800_000_000));
    assert_eq!(peak(&report, LimitId::NatBandwidth), (5000, 5000, 0));
    assert!(report.first_limit.is_none(), "slow is not refused");
    let report = burst("nat.bandwidth: 100", 1, "", connect);
    assert_eq!(report.summary.slowest_s.0, 8_000_000_000);
}

#[test]
fn a_time_out_during_a_transfer_names_the_link() {
    let connect = "{connect: {to: '203.0.113.1:443', bytes: 100MB}}";
    let report = burst("nat.bandwidth: 10", 1, "", connect);
    assert_eq!(report.summary.timed_out, 1);
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "function.timeout",
            "transfer with 203.0.113.1:443 waited 60 s",
            "nat.bandwidth of NatGateway: 10 of 10 Mbit/s"
        ]
    );
    let report = burst("nat.bandwidth: 100", 1, ", timeout: 3s", connect);
    assert_eq!(
        report.summary.errors_by_cause[0].chain[..2],
        ["client.timeout", "transfer with 203.0.113.1:443 waited 3 s"]
    );
    assert_eq!(report.functions[0].duration_s["50"].0, 8_000_000_000, "the function goes on");
}

#[test]
fn bytes_move_in_every_invocation_and_over_every_connection() {
    let connect = "{connect: {to: '203.0.113.1:443', count: 5, hold: environment, bytes: 20MB}}";
    let report = burst("", 1, "", connect);
    assert_eq!(report.summary.slowest_s.0, 1_280_000_000);
    let text = "title: t\nsource: s\nnetwork: {subnets: 1, addresses: 1}\nfunctions: {A: {timeout: 60s}}\n\
                load:\n  version: 1\n  phases: [{target: A, users: 1, requests: 3}]\n\
                \x20 behaviour: {A: {init: 0ms, steps: [{connect: {to: '203.0.113.1:443', hold: environment, bytes: 100MB}}]}}\n";
    let report = Scenario::read("s.yaml", text).unwrap().run().unwrap();
    assert_eq!((report.summary.ok, report.connects[0].reused), (3, 2));
    assert_eq!(report.summary.fastest_s.0, 1_280_000_000);
}
