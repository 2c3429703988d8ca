//! Functions in a VPC: what was measured in 2019 comes out, and the guide's formula holds.

use super::*;
use model::LimitId;

fn report(name: &str) -> Report {
    Scenario::named(name).unwrap().run().unwrap()
}

/// The board's row: maximum, peak and refused.
fn row(report: &Report, id: LimitId) -> (u64, u64, u64) {
    let row = report.limits.iter().filter(|row| row.id == id).max_by_key(|row| row.peak).unwrap();
    (row.max, row.peak, row.refused)
}

/// Whether a figure is within so many percent of the measured one.
fn near(found: f64, measured: f64, percent: f64) -> bool {
    (found / measured - 1.0).abs() * 100.0 <= percent
}

/// Cold starts, total in seconds, average in seconds, requests a second.
fn figures(report: &Report) -> (u64, f64, f64, f64) {
    let summary = &report.summary;
    (summary.cold_starts, summary.total_s.as_f64(), summary.average_s.as_f64(), summary.requests_per_s)
}

#[test]
fn in_may_2019_fifty_users_pay_one_interface_each() {
    // Seed S3-E1, the old way: 450 fast, 50 cold.
    let mut scenario = Scenario::named("vpc-may-2019").unwrap();
    for seed in 0..20 {
        scenario.options.seed = Some(seed);
        let report = scenario.run().unwrap();
        let (cold, total, average, rate) = figures(&report);
        assert_eq!((cold, report.summary.ok), (50, 500));
        assert!(
            near(total, 13.4614, 5.0) && near(average, 1.2528, 5.0) && near(rate, 37.1433, 5.0),
            "seed {seed}"
        );
        let slow = report.summary.histogram.iter().filter(|row| row.up_to_s.as_f64() > 2.7);
        assert_eq!(slow.map(|row| row.count).sum::<u64>(), 50, "nothing lies between");
        // 50 environments of 128 MB: three interfaces of 3 GB.
        assert_eq!(report.timeline.iter().filter_map(|row| row.interfaces).max(), Some(3));
    }
}

#[test]
fn in_october_2019_the_total_follows_from_the_lag() {
    // Seed S3-E1, the new way: 62 cold is calibrated, the rest is not.
    let mut scenario = Scenario::named("vpc-october-2019").unwrap();
    let (cold, total, average, rate) = figures(&scenario.run().unwrap());
    assert_eq!(cold, 62);
    assert!(near(total, 1.3694, 5.0) && near(average, 0.0970, 5.0) && near(rate, 365.1342, 5.0));
    let mut found: Vec<(u64, f64)> = Vec::new();
    for seed in 0..101 {
        scenario.options.seed = Some(seed);
        let (cold, total, ..) = figures(&scenario.run().unwrap());
        found.push((cold, total));
    }
    found.sort_by_key(|(cold, _)| *cold);
    assert_eq!(found[50].0, 62, "the median of the seeds");
    found.sort_by(|one, other| one.1.total_cmp(&other.1));
    assert!(near(found[50].1, 1.3694, 3.0), "so does the median of the totals: {}", found[50].1);
    scenario.load.behaviour[0].reuse_lag = crate::distribution::Distribution::ZERO;
    for seed in 0..20 {
        scenario.options.seed = Some(seed);
        assert_eq!(figures(&scenario.run().unwrap()).0, 50);
    }
}

#[test]
fn a_thousand_users_need_no_further_interface() {
    // Seed S3-E2.
    let report = report("vpc-thousand-users");
    let (cold, total, average, rate) = figures(&report);
    assert_eq!((cold, report.summary.ok, report.summary.throttled), (1000, 10_000, 0));
    assert!(near(rate, 458.4892, 3.0) && near(total, 21.8108, 3.0) && near(average, 2.1532, 3.0));
    let slow = report.summary.histogram.iter().filter(|row| row.up_to_s.as_f64() > 2.75);
    assert_eq!(slow.map(|row| row.count).sum::<u64>(), 1000);
    assert!(report.timeline.iter().all(|row| row.interfaces == Some(1)));
}

#[test]
fn a_thousand_environments_need_five_hundred_interfaces_and_their_addresses() {
    // Seeds S3-3 and S3-4.
    let plan = |overrides: &[&str]| {
        let mut scenario = Scenario::named("vpc-interfaces-needed").unwrap();
        overrides.iter().for_each(|text| scenario.options.overrides.read(text).unwrap());
        scenario.run().unwrap()
    };
    let report = plan(&[]);
    assert_eq!((report.summary.ok, report.first_limit), (1000, None));
    assert_eq!(report.timeline.iter().filter_map(|row| row.interfaces).max(), Some(500));
    assert!(report.summary.fastest_s.as_f64() > 8.6, "every one of them waits");
    // Without room an environment in four fails, or all but what the burst of a hundred interfaces serves.
    for (limit, id, ok) in [
        ("eni.per-region=350", LimitId::EniPerRegion, 700),
        ("subnet.addresses=175", LimitId::SubnetAddresses, 700),
        ("eni.create-rate=5", LimitId::EniCreateRate, 200),
    ] {
        let report = plan(&[limit]);
        assert_eq!((report.first_limit.unwrap().id, report.summary.ok), (id, ok), "{limit}");
        assert_eq!((report.summary.errors, report.summary.throttled), (1000 - ok, 0));
    }
}

#[test]
fn payloads_pass_and_bulk_waits_for_the_interface() {
    // Seed S3-10.
    let report = report("vpc-bulk-transfer");
    let [payload, bulk] = &report.functions[..] else { panic!("two functions") };
    assert_eq!((payload.timed_out, bulk.timed_out), (0, 44));
    assert!(payload.duration_s["99.9"].as_f64() < 1.0, "{:?}", payload.duration_s);
    let first = report.first_limit.as_ref().unwrap();
    assert_eq!((first.id, first.used), (LimitId::EniBandwidth, 5000));
    assert_eq!(report.summary.errors_by_cause[0].chain[1], "transfer with store.example.com:443 waited 10 s");
    // 16 s for 10 GB: a gateway of the same rate is as much in use as the interface.
    assert_eq!(row(&report, LimitId::EniBandwidth), (5000, 5000, 44));
    assert_eq!(row(&report, LimitId::NatBandwidth), (5000, 5000, 0));
    assert!(row(&report, LimitId::NatPackets).1 < 450_000, "packets are full ones");
}
