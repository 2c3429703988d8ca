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
fn a_streamed_answer_holds_its_environment_until_it_has_gone() {
    let report = report("streamed-export");
    let first = report.first_limit.unwrap();
    // The 1,001st comes when the first is still under way.
    assert_eq!((first.id, first.at_s.0), (LimitId::AccountConcurrency, 20_000_000_000));
    let function = &report.functions[0];
    assert_eq!((function.peak_concurrency, function.billed_ms), (1000, function.invocations * 22_100));
    assert!(report.assumptions.iter().any(|row| row.value == "52,428,800 bytes in 22 s"));
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

/// The board's row: maximum, peak and refused.
fn row(report: &Report, id: LimitId) -> (u64, u64, u64) {
    let row = report.limits.iter().filter(|row| row.id == id).max_by_key(|row| row.peak).unwrap();
    (row.max, row.peak, row.refused)
}

#[test]
fn one_address_carries_fifty_five_thousand_connections() {
    // Seed S0-15, first step; and ErrorPortAllocation counts each SYN.
    let report = report("connections-one-address");
    assert_eq!((report.summary.ok, report.summary.errors, report.summary.timed_out), (55_000, 5000, 0));
    assert_eq!(row(&report, LimitId::NatPorts), (55_000, 55_000, 5 * 5000));
    assert_eq!(row(&report, LimitId::EniConnections), (65_000, 55_000, 0));
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, &*first.resource, first.used), (LimitId::NatPorts, "NatGateway", 55_000));
    assert_eq!(first.destination.as_deref(), Some("cache.example.com:443"));
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "function.error",
            "connect to cache.example.com:443 waited 30 s",
            "nat.ports of NatGateway: 55,000 of 55,000 connections"
        ]
    );
}

#[test]
fn one_interface_carries_sixty_five_thousand_while_names_still_resolve() {
    // Seed S0-15, second step, and S0-9.
    let report = report("connections-two-addresses");
    assert_eq!((report.summary.ok, report.summary.errors), (65_000, 5000));
    assert_eq!(row(&report, LimitId::EniConnections), (65_000, 65_000, 5 * 5000));
    assert_eq!(row(&report, LimitId::NatPorts), (110_000, 65_000, 0), "no NAT error");
    assert_eq!(report.first_limit.unwrap().id, LimitId::EniConnections);
    assert_eq!(
        (report.timeline[0].interfaces, report.timeline[0].connections["eni-Subnet1-Group"]),
        (Some(1), 65_000)
    );
    assert!(
        report.assumptions.iter().any(|row| row.what == "DNS" && row.value.contains("take no connection"))
    );
}

#[test]
fn each_subnet_adds_an_interface() {
    // Seed S0-15, third step, and S0-11.
    let report_of = report;
    for (name, connections, subnets) in
        [("connections-two-subnets", 130_000, 2), ("connections-four-subnets", 260_000, 4)]
    {
        let report = report_of(name);
        assert_eq!(report.connects[0].opened, connections, "{name}");
        assert_eq!(report.timeline[0].interfaces, Some(subnets));
        assert_eq!(report.timeline[0].connections["NatGateway"], connections);
        assert_eq!(row(&report, LimitId::EniConnections).1, 65_000);
        assert_eq!(report.first_limit.unwrap().id, LimitId::EniConnections);
    }
}

#[test]
fn eight_addresses_are_the_ceiling() {
    // Seed S0-10.
    let report = report("connections-eight-addresses");
    assert_eq!(report.connects[0].opened, 440_000);
    assert_eq!(row(&report, LimitId::NatPorts).1, 440_000);
    assert_eq!(row(&report, LimitId::EniConnections), (65_000, 55_000, 0));
    assert!(report.assumptions.iter().any(|row| row.why.contains("higher quota")));
}

#[test]
fn limits_scale_a_scenario_down() {
    let mut scenario = Scenario::named("connections-one-address").unwrap();
    scenario.options.overrides.read("nat.ports=550").unwrap();
    assert_eq!(scenario.run().unwrap().summary.ok, 550);
}

#[test]
fn connect_times_cluster_where_room_comes_free() {
    let report = report("connections-late-room");
    let waits: Vec<u64> = report.connects[0].waits_s.keys().copied().collect();
    assert_eq!(waits, [0, 1, 3, 7, 15, 31, 63]);
    assert_eq!((report.summary.ok, report.connects[0].waits_s[&0]), (2500, 1000));
}

#[test]
fn a_micro_database_is_full_before_eighty_functions_run() {
    // Seed S4-8: a little over 70 connections; the other functions run to their time-out of 25 s.
    let report = report("database-micro");
    assert_eq!((report.summary.ok, report.summary.timed_out), (72, 8));
    assert_eq!(row(&report, LimitId::DbMaxConnections), (72, 72, 88));
    assert_eq!(report.functions[0].duration_s["99"].0, 25_000_000_000);
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "function.timeout",
            "connect to Database:5432 waited 23 s",
            "db.max-connections of Database: 72 of 72 connections"
        ]
    );
    let mut small = Scenario::named("database-micro").unwrap();
    small.options.overrides.read("db.max-connections=181").unwrap();
    assert_eq!(small.run().unwrap().summary.ok, 80, "a db.t4g.small has room");
}

#[test]
fn what_is_provisioned_absorbs_a_burst_of_its_own_size() {
    // Seed S2-9.
    for (name, burst) in [("provisioned-5000", 5000), ("provisioned-10000", 10_000)] {
        let report = report(name);
        let [warm, cold] = &report.functions[..] else { panic!("two functions") };
        assert_eq!((warm.invocations, warm.cold_starts, warm.throttled), (burst, 0, 0), "{name}");
        assert_eq!((cold.invocations, cold.cold_starts, cold.throttled), (1000, 1000, burst - 1000));
        let row = &report.provisioned[0];
        assert_eq!((&*row.function, &*row.qualifier, row.spillover), ("WarmFunction", "live", 0));
        assert_eq!((u64::from(row.peak), row.invocations, row.billed_ms), (burst, burst, burst * 1000));
    }
}

#[test]
fn five_thousand_short_requests_a_second_need_five_hundred_environments() {
    // Seeds S2-10 and S2-11.
    let report = report("short-handlers");
    let [quick, slow] = &report.functions[..] else { panic!("two functions") };
    assert_eq!((quick.invocations, quick.throttled), (300_000, 0));
    assert_eq!((quick.peak_concurrency, quick.cold_starts), (500, 500));
    assert_eq!(slow.invocations + slow.throttled, 5000);
    // What is left of the bucket of 1,000 after ten seconds of refill and 500 environments, and a second's refill.
    assert_eq!(slow.invocations, 1000 - 500 + 10 * 500 / 60 + 500 / 60);
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, &first.victims[..]), (LimitId::Burst, &["SlowFunction".to_owned()][..]));
}

#[test]
fn eleven_hundred_users_find_a_thousand_environments_and_nobody_waits_for_long() {
    // Seed S3-E3.
    let report = report("locust-2019");
    assert_eq!(row(&report, LimitId::AccountConcurrency).1, 1000);
    let full = totals(&report, &(12..120).collect::<Vec<u64>>());
    assert!(full.iter().all(|running| *running >= 995), "flat at 1,000: {full:?}");
    // By Little's law: throttles a second x their time are the users who are throttled at any time.
    let rows: Vec<_> =
        report.timeline.iter().filter(|row| (12..119).contains(&(row.t_s.0 / 1_000_000_000))).collect();
    let throttled: u64 = rows.iter().map(|row| row.throttled).sum();
    let users = throttled as f64 / rows.len() as f64 * 0.023;
    assert!((90.0..105.0).contains(&users), "{users} users are throttled at any time");
    assert!(report.summary.slowest_s.0 < 3_600_000_000, "{:?}", report.summary.slowest_s);
    assert_eq!(report.summary.cold_starts, 1000);
}

#[test]
fn a_reservation_that_is_used_up_answers_at_once() {
    // Seed S4-12.
    let report = report("reserved-at-once");
    assert_eq!((report.summary.ok, report.summary.throttled), (70, 30));
    assert_eq!(report.summary.fastest_s.0, 23_000_000);
    assert_eq!(report.summary.statuses[&429], 30);
    assert_eq!(report.first_limit.unwrap().id, LimitId::ReservedConcurrency);
}

#[test]
fn a_proxy_lets_eighty_functions_share_its_connections() {
    // Seed S4-9: 80 % of 181 are 144, and three short queries of each function do not even meet.
    let report = report("database-proxy-small");
    assert_eq!((report.summary.ok, &report.first_limit), (80, &None));
    assert_eq!(row(&report, LimitId::DbPoolConnections), (144, 80, 0));
    let mut few = Scenario::named("database-proxy-small").unwrap();
    few.options.overrides.read("db.pool-connections=8").unwrap();
    let report = few.run().unwrap();
    assert_eq!((report.summary.ok, report.pools[0].waiting_peak), (80, 72), "ten times fewer suffice");
    assert_eq!(report.functions[0].duration_s["99"].0, (280 + 30 * 40) * 1_000_000);
}

#[test]
fn a_full_pool_runs_functions_into_their_time_out_without_an_error_of_the_database() {
    // Seed S4-10: clients wait at the proxy, and functions end after 25 s.
    let report = report("database-proxy-full");
    assert_eq!((report.summary.ok, report.summary.timed_out, report.summary.errors), (5 * 144, 280, 0));
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "function.timeout",
            "query on Proxy waited 25 s",
            "db.pool-connections of Proxy: 144 of 144 connections"
        ]
    );
    assert_eq!(row(&report, LimitId::DbBorrowTimeout), (120, 25, 0));
    assert_eq!(
        row(&report, LimitId::DbMaxConnections),
        (181, 144, 0),
        "the database sees no more than its share"
    );
    let waits: Vec<u32> =
        [2, 7, 12, 17, 22].map(|second| report.timeline[second].pools["Proxy"].waiting).into();
    assert_eq!(waits, [856, 712, 568, 424, 280]);
}

#[test]
fn shutdown_hooks_free_the_clients_of_a_proxy() {
    // Seed S4-13: ClientConnections stays high, and becomes lively with peaks of 180 when shutdown closes them.
    let clients = |name: &str| {
        let report = report(name);
        let at = |minute: usize| report.timeline[minute * 60].pools["Proxy"].clients;
        // After each burst, and before the next; environments end after ten minutes, clients are idle for thirty.
        [1, 14, 16, 29, 31, 44, 46, 74].map(at)
    };
    assert_eq!(clients("database-clients-abandoned"), [180, 180, 360, 360, 360, 360, 180, 0]);
    assert_eq!(clients("database-clients-closed"), [180, 0, 180, 0, 180, 0, 0, 0]);
}

#[test]
fn problems_of_a_network_have_a_place() {
    let text = "title: t\nsource: s\nfunctions: {A: {timeout: 3s}}\nnetwork: {subnets: 17, adresses: 1}\n\
                load: {version: 1, phases: [{target: A, users: 1, for: 1s}]}\n";
    let problems = Scenario::read("s.yaml", text).unwrap_err();
    let said: Vec<String> = problems.iter().map(|problem| problem.one_line("s.yaml")).collect();
    assert!(said.iter().any(|line| line.contains("did you mean `addresses`?")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("subnets is 17")), "{said:?}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "this test reads what is recorded beside the scenarios")]
fn the_text_of_every_scenario_is_as_recorded() {
    for name in Scenario::names() {
        let path = format!("{}/scenarios/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let recorded = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(crate::render(&report(name), 100, false), recorded, "the golden file {path}");
    }
}

#[test]
fn billed_durations_of_the_field_come_out_to_the_digit() {
    // Seeds S4-15 and S4-17.
    for (name, line) in [
        (
            "bill-image",
            "Duration: 3.51 ms\tBilled Duration: 9254 ms\tMemory Size: 1769 MB\tInit Duration: 9249.76 ms\t",
        ),
        (
            "bill-zip",
            "Duration: 409.46 ms\tBilled Duration: 410 ms\tMemory Size: 1769 MB\tInit Duration: 2397.35 ms\t",
        ),
    ] {
        let report = report(name);
        assert!(
            report.functions[0].report_lines[0].ends_with(line),
            "{:?}",
            report.functions[0].report_lines
        );
        assert_eq!(report.cost, None, "no template, no bill");
    }
    let mut today = Scenario::named("bill-zip").unwrap();
    today.options.era = Era::named("today").unwrap();
    assert_eq!(today.run().unwrap().functions[0].billed_ms, 2807);
}

#[test]
fn the_move_to_lambda_costs_what_the_seed_says() {
    use model::price::{Item, Prices, Usd};
    // Seed S4-19: RDS Proxy about 26, the database about 19 more, the load balancer about 18 less.
    let bill = report("bill-of-a-move").cost.unwrap();
    let fixed: Vec<(&str, String)> =
        bill.fixed.iter().map(|line| (&*line.item, line.usd.rounded(2))).collect();
    let line = |item, usd: &str| (item, usd.to_owned());
    assert_eq!(
        fixed,
        [line("db.hours", "37.23"), line("db.storage", "2.76"), line("proxy.vcpu-hours", "26.28")]
    );
    let usage: Vec<(&str, f64, String)> =
        bill.usage.iter().map(|line| (&*line.item, line.quantity.as_f64(), line.usd.rounded(2))).collect();
    // 43,200 a day for 30 days; the function URL costs nothing.
    assert_eq!((usage[0].0, usage[0].1, &*usage[0].2), ("lambda.requests", 1_296_000.0, "0.06"));
    assert_eq!((usage[1].0, &*usage[1].2), ("lambda.duration", "8.64"));
    assert_eq!(bill.price_date.len(), 10);
    let prices = Prices::of("ap-northeast-1");
    let hours = |class| prices.database(class).unwrap().charge(730, 1, 0, 1);
    let larger = hours("db.t4g.small") - hours("db.t4g.micro");
    let balancer = prices.get(Item::AlbHours).charge(730, 1, 0, 1);
    assert_eq!((larger.rounded(2), balancer.rounded(2)), ("18.98".to_owned(), "17.74".to_owned()));
    let proxy = bill.fixed[2].usd;
    assert!(proxy + larger > balancer + Usd::read("10").unwrap(), "with the container's 10 as well");
}
