//! How invocations fare that query databases.

use super::*;
use crate::input::FunctionInput;
use crate::report::{PoolReport, PoolRow, QueryRow, Seconds};
use limits::Network;
use limits::network::Proxy;
use model::Era;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// Two functions in one subnet with a db.t4g.small (181 connections), and a proxy with 80 % of them (144).
fn stack() -> PlanInput {
    let function = |id: &str| FunctionInput {
        id: id.into(),
        name: id.into(),
        reserved: None,
        timeout: Duration::from_secs(25),
        memory_mb: 128,
        init_always_billed: false,
    };
    let proxy = Proxy {
        name: "OrdersProxy".into(),
        port: 5432,
        database: None,
        connections_percent: 80,
        idle_connections_percent: 40,
        borrow_timeout: Duration::from_secs(120),
        idle_client_timeout: Duration::from_secs(1800),
    };
    let network = Network::simple(2, 1, 1).with_database("db.t4g.small").with_proxy(proxy);
    PlanInput { functions: vec![function("Cart"), function("Pay")], network, ..PlanInput::default() }
}

fn plan(text: &str, overrides: &[&str]) -> Report {
    let mut options = Options::new(Era::named("today").unwrap());
    overrides.iter().for_each(|text| options.overrides.read(text).unwrap());
    let load = Load::read("load.yaml", &format!("version: 1\n{text}"));
    run(&stack(), &load.unwrap_or_else(|problems| panic!("{problems:?}")), &options).unwrap()
}

/// So many users who each send so many requests of one query, without INIT.
fn queries(users: u32, each: u32, think: &str, query: &str, overrides: &[&str]) -> Report {
    let requests = users * each;
    plan(
        &format!(
            "phases: [{{target: Cart, users: {users}, requests: {requests}, think: {think}}}]
behaviour: {{Cart: {{init: 0s, steps: [{{query: {query}}}]}}}}"
        ),
        overrides,
    )
}

fn row(report: &Report, limit: LimitId) -> (u64, u64, u64) {
    let row = report.limits.iter().find(|row| row.id == limit).unwrap();
    (row.max, row.peak, row.refused)
}

fn query(report: &Report) -> &QueryRow {
    &report.queries[0]
}

fn pool(report: &Report) -> &PoolReport {
    &report.pools[0]
}

#[test]
fn many_clients_share_few_connections() {
    // Facts, acceptance: 200 clients with one query of 50 ms a second each keep 10 connections busy.
    let text = "phases: [{target: Cart, users: 200, requests: 4000, spawn: 200/s, think: 950ms}]
behaviour: {Cart: {init: 0s, steps: [{query: {database: OrdersProxy, for: 50ms}}]}}";
    let report = plan(text, &[]);
    assert_eq!((report.summary.ok, query(&report).asked, query(&report).waited), (4000, 4000, 0));
    assert_eq!(row(&report, LimitId::DbPoolConnections), (144, 10, 0));
    assert_eq!((pool(&report).opened, pool(&report).lent), (10, 4000));
    assert!(pool(&report).clients_peak >= 10, "each environment is one");
    let busy = PoolRow { clients: pool(&report).clients_peak, in_use: 10, waiting: 0 };
    assert_eq!(report.timeline[5].pools["OrdersProxy"], busy);
}

#[test]
fn a_transaction_that_waits_for_too_long_is_an_error_of_the_function() {
    // Facts, acceptance: 200 clients in transactions of 10 s, 144 connections, a borrow time-out of 5 s.
    let report = queries(
        200,
        1,
        "0s",
        "{database: OrdersProxy, for: 1s, count: 10, transaction: true}",
        &["db.borrow-timeout=5"],
    );
    assert_eq!((report.summary.ok, report.summary.errors), (144, 56));
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "function.error",
            "query on OrdersProxy waited 5 s",
            "db.borrow-timeout of OrdersProxy: 5 of 5 s",
            "db.pool-connections of OrdersProxy: 144 of 144 connections"
        ]
    );
    let first = report.first_limit.as_ref().unwrap();
    assert_eq!((first.id, first.at_s, first.used), (LimitId::DbPoolConnections, Seconds(5 * SECOND), 144));
    assert_eq!(row(&report, LimitId::DbBorrowTimeout), (5, 5, 56));
    assert_eq!(row(&report, LimitId::DbPoolConnections), (144, 144, 56));
    assert_eq!(row(&report, LimitId::DbMaxConnections), (181, 144, 0));
    assert_eq!((query(&report).asked, query(&report).failed), (144, 56));
}

#[test]
fn statements_of_their_own_take_turns_and_those_of_a_transaction_do_not() {
    let waits = |transaction: bool| {
        let text = format!("{{database: OrdersProxy, for: 1s, count: 3, transaction: {transaction}}}");
        let report = queries(2, 1, "0s", &text, &["db.pool-connections=1"]);
        (query(&report).asked, query(&report).longest_s.0 / SECOND, report.summary.fastest_s.0 / SECOND)
    };
    // Statements: a1 b1 a2 b2 a3 b3. Transactions: a1 a2 a3 b1 b2 b3.
    assert_eq!((waits(false), waits(true)), ((6, 1, 5), (2, 3, 3)));
}

#[test]
fn the_functions_time_out_ends_the_wait_and_the_chain_says_why() {
    let report = queries(3, 1, "0s", "{database: OrdersProxy, for: 20s}", &["db.pool-connections=1"]);
    assert_eq!((report.summary.ok, report.summary.timed_out), (1, 2));
    let chains: Vec<&[String]> =
        report.summary.errors_by_cause.iter().map(|cause| &cause.chain[..]).collect();
    let full = "db.pool-connections of OrdersProxy: 1 of 1 connections";
    // The second had the connection after 20 s, too late to end; the third waited for all of its time.
    assert_eq!(chains, [["function.timeout", "query on OrdersProxy waited 20 to 25 s", full]]);
    assert_eq!(row(&report, LimitId::DbPoolConnections).2, 1);
    assert_eq!(query(&report).failed, 1);
    // Both broke at the same moment: the cause stands above what it led to.
    let text = crate::render(&report, 200, false);
    for heading in ["\nWhen which limit refused how many\n", "\nLimits\n"] {
        let table = text.split(heading).nth(1).unwrap_or_else(|| panic!("{text}"));
        let place = |limit: LimitId| table.find(limit.as_str()).unwrap();
        assert!(place(LimitId::DbPoolConnections) < place(LimitId::FunctionTimeout), "{table}");
    }
}

#[test]
fn clients_who_wait_no_longer_learn_what_was_full() {
    let report = plan(
        "phases: [{target: Cart, users: 2, requests: 2, timeout: 5s}]
behaviour: {Cart: {init: 0s, steps: [{query: {database: OrdersProxy, for: 20s}}]}}",
        &["db.pool-connections=1"],
    );
    let chains: Vec<Vec<&str>> = report
        .summary
        .errors_by_cause
        .iter()
        .map(|cause| cause.chain.iter().map(String::as_str).collect())
        .collect();
    let full = "db.pool-connections of OrdersProxy: 1 of 1 connections";
    assert_eq!(
        chains,
        [vec!["client.timeout"], vec!["client.timeout", "query on OrdersProxy waited 5 s", full]]
    );
}

#[test]
fn sessions_that_pin_use_up_the_pool() {
    // Facts, acceptance: each client sets a search path first, and the cap is reached at 144 clients.
    let report = queries(200, 2, "0s", "{database: OrdersProxy, for: 10ms, pins: true}", &[]);
    assert_eq!((pool(&report).pinned, row(&report, LimitId::DbPoolConnections).1), (144, 144));
    assert_eq!(report.summary.timed_out, 56 * 2, "the others wait for as long as they run");
    let unpinned = queries(200, 2, "0s", "{database: OrdersProxy, for: 10ms}", &[]);
    assert_eq!((unpinned.summary.ok, pool(&unpinned).pinned), (400, 0));
}

#[test]
fn a_proxy_closes_idle_clients_and_the_next_query_finds_a_reset_connection() {
    let report = queries(1, 3, "1500ms", "{database: OrdersProxy, for: 10ms}", &["db.idle-client-timeout=1"]);
    let connect = &report.connects[0];
    assert_eq!((&*connect.destination, connect.opened, connect.resets), ("OrdersProxy:5432", 3, 2));
    assert_eq!((pool(&report).idle_closed, report.summary.ok), (2, 3));
    let report = queries(1, 3, "1500ms", "{database: OrdersProxy, for: 10ms}", &["db.idle-client-timeout=0"]);
    assert_eq!(report.summary.ok, 3, "a second at least");
}

#[test]
fn without_a_proxy_each_environment_needs_a_connection_of_its_own() {
    let report = queries(4, 2, "0s", "{database: Database, for: 1s}", &["db.max-connections=3"]);
    assert_eq!((report.summary.ok, report.summary.errors), (6, 2));
    assert_eq!(
        report.summary.errors_by_cause[0].chain,
        [
            "function.error",
            "connect to Database:5432 waited 0 s",
            "db.max-connections of Database: 3 of 3 connections"
        ]
    );
    assert_eq!((report.connects[0].opened, report.connects[0].reused), (3, 3));
    assert_eq!((query(&report).asked, row(&report, LimitId::DbPoolConnections).1), (6, 0));
}

#[test]
fn a_query_uses_the_connection_that_its_behaviour_opens() {
    let report = plan(
        "phases: [{target: Cart, users: 2, requests: 2}]
behaviour: {Cart: {init: 0s, steps: [{query: {database: Database, for: 2s}},
  {connect: {to: 'Database:5432', hold: environment, retry: {attempts: 3, delay: 1s}}}]}}",
        &["db.max-connections=1"],
    );
    // The second is refused three times within 2 s: at 0, 1 and 2 s.
    assert_eq!((report.summary.ok, report.summary.errors, report.connects.len()), (1, 1, 1));
    assert_eq!((report.connects[0].dropped, report.connects[0].failed), (3, 1));
}

#[test]
fn a_database_that_others_fill_makes_the_pool_wait() {
    let report = plan(
        "phases: [{target: Cart, users: 2, requests: 2}, {target: Pay, start: 1s, users: 1, requests: 1}]
behaviour:
  Cart: {init: 0s, steps: [{query: {database: Database, for: 4500ms}}], on_shutdown: close}
  Pay: {init: 0s, steps: [{query: {database: OrdersProxy, for: 1s}}]}",
        &["db.max-connections=2", "function.timeout=7"],
    );
    assert_eq!((report.summary.ok, report.summary.timed_out), (2, 1));
    let chain = &report.summary.errors_by_cause[0].chain;
    assert_eq!(
        chain[1..],
        ["query on OrdersProxy waited 7 s", "db.max-connections of Database: 2 of 2 connections"]
    );
    assert_eq!(row(&report, LimitId::DbPoolConnections), (1, 0, 0), "the pool itself has room");
}

#[test]
fn a_query_in_init_waits_for_as_long_as_init_may() {
    let text = |init: &str| {
        format!(
            "phases: [{{target: Cart, users: 2, requests: 2}}]
behaviour: {{Cart: {{init: [{init}], steps: [{{compute: 1s}}]}}}}"
        )
    };
    let report = plan(&text("{query: {database: OrdersProxy, for: 8s}}"), &["db.pool-connections=1"]);
    // The second has it after 8 s, is ended after 10 s, and begins anew within the invocation.
    assert_eq!((report.summary.ok, report.summary.slowest_s.0 / SECOND), (2, 10 + 8 + 1));
    let report = plan(&text("{query: {database: OrdersProxy, for: 4s}}"), &["db.pool-connections=1"]);
    assert_eq!((report.summary.ok, report.summary.slowest_s.0 / SECOND), (2, 4 + 4 + 1));
}

#[test]
fn unknown_databases_are_named_with_the_nearest() {
    let load = |database: &str| {
        let text = format!(
            "version: 1\nphases: [{{target: Cart, users: 1, requests: 1}}]\n\
             behaviour: {{Cart: {{steps: [{{query: {{database: {database}, for: 1s}}}}]}}}}"
        );
        Load::read("load.yaml", &text).unwrap()
    };
    let said = |input: &PlanInput, database: &str| {
        let PlanError::Load(problems) =
            run(input, &load(database), &Options::new(Era::named("today").unwrap())).unwrap_err()
        else {
            panic!("a problem of the load")
        };
        problems.iter().map(|problem| problem.one_line("load.yaml")).collect::<Vec<_>>()
    };
    assert_eq!(
        said(&stack(), "OrderProxy"),
        [
            "load.yaml:3:47: the database or database proxy `OrderProxy` does not exist (did you mean `OrdersProxy`?)"
        ]
    );
    let without = PlanInput { network: Network::simple(2, 1, 1), ..stack() };
    assert!(said(&without, "Orders")[0].contains("neither an AWS::RDS::DBInstance nor an AWS::RDS::DBProxy"));
}

#[test]
fn a_template_says_how_large_the_pool_is() {
    let template = "
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  One: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}}
  Two: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24}}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: g, VpcId: !Ref Vpc}}
  Pool:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: the proxy
      VpcId: !Ref Vpc
      SecurityGroupIngress: [{IpProtocol: tcp, FromPort: 5432, ToPort: 5432, SourceSecurityGroupId: !Ref Group}]
  Role: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Statement: []}}}
  Secret: {Type: AWS::SecretsManager::Secret, Properties: {SecretString: '{\"username\":\"u\",\"password\":\"p\"}'}}
  Orders:
    Type: AWS::RDS::DBInstance
    Properties: {DBInstanceClass: db.t4g.micro, Engine: postgres, AllocatedStorage: 20, MasterUsername: u,
      MasterUserPassword: a-long-password}
  OrdersProxy:
    Type: AWS::RDS::DBProxy
    Properties: {DBProxyName: orders, EngineFamily: POSTGRESQL, RoleArn: !GetAtt Role.Arn, IdleClientTimeout: 60,
      VpcSubnetIds: [!Ref One, !Ref Two], VpcSecurityGroupIds: [!Ref Pool], Auth: [{AuthScheme: SECRETS, SecretArn: !Ref Secret}]}
  Targets:
    Type: AWS::RDS::DBProxyTargetGroup
    Properties:
      DBProxyName: !Ref OrdersProxy
      TargetGroupName: default
      DBInstanceIdentifiers: [!Ref Orders]
      ConnectionPoolConfigurationInfo: {MaxConnectionsPercent: 80, ConnectionBorrowTimeout: 3}
  Cart:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Code: {ZipFile: 'def handler(event, context): return 1'}
      Role: !GetAtt Role.Arn
      Timeout: 30
      VpcConfig: {SubnetIds: [!Ref One], SecurityGroupIds: [!Ref Group]}
";
    let outcome = template::read("template.yaml", template, &template::Inputs::default());
    let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
    let text = "{version: 1, phases: [{target: Cart, users: 60, requests: 60}], behaviour: {Cart: {init: 0s, \
                on_shutdown: abandon, steps: [{query: {database: OrdersProxy, for: 5s}}]}}}";
    let options = Options::new(Era::named("today").unwrap());
    let report =
        run(&PlanInput::from_stack(&stack), &Load::read("load.yaml", text).unwrap(), &options).unwrap();
    // 80 % of 72 are 57; the other three wait for 3 s.
    assert_eq!((report.summary.ok, report.summary.errors), (57, 3));
    let row = report.limits.iter().find(|row| row.id == LimitId::DbPoolConnections).unwrap();
    assert_eq!((&*row.resource, row.max), ("OrdersProxy", 57));
    assert_eq!(&*row.source, "80 % of max_connections (72) of Orders");
    let outside =
        template.replace("      VpcConfig: {SubnetIds: [!Ref One], SecurityGroupIds: [!Ref Group]}\n", "");
    let outcome = template::read("template.yaml", &outside, &template::Inputs::default());
    let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
    let report =
        run(&PlanInput::from_stack(&stack), &Load::read("load.yaml", text).unwrap(), &options).unwrap();
    assert_eq!(report.first_limit.unwrap().id, LimitId::NoRoute, "a proxy is never outside of its VPC");
}

/// `P(wait)` of M/M/c by Erlang's C formula: B / (1 - a / c (1 - B)), B by recursion.
fn erlang_c(servers: u32, load: f64) -> f64 {
    let blocked = (1..=servers).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
    blocked / (1.0 - load / f64::from(servers) * (1.0 - blocked))
}

#[test]
fn waits_follow_erlang_c_and_little() {
    // Poisson arrivals, exponential transactions of 1 s, c connections, load a: P(wait) = C(c, a), and those who wait do
    // so for 1 / (c - a) s on average. The queue's length is the rate times the mean wait of all. None was put in.
    // Waits of one busy time are alike, so the bounds are wider than those of independent ones.
    for (connections, load, seconds) in [(10_u32, 8.0, 16_000_usize), (30, 26.0, 8_000), (4, 2.0, 20_000)] {
        let report = plan(
            &format!(
                "phases: [{{target: Cart, rate: {load}/s, arrivals: poisson, for: {seconds}s}}]
behaviour: {{Cart: {{init: 0s, steps: [{{query: {{database: OrdersProxy, for: {{exponential: 1s}}}}}}]}}}}"
            ),
            &[&format!("db.pool-connections={connections}"), "function.timeout=900"],
        );
        let found = query(&report);
        let share = found.waited as f64 / found.asked as f64;
        let expected = erlang_c(connections, load);
        assert!((share - expected).abs() < 0.08 * expected, "{connections}: {share} for {expected}");
        // Waits of those who wait are exponential: half of them are below ln 2 of the mean.
        let mean = 1.0 / (f64::from(connections) - load);
        let median = found.waits_s["50"].as_f64();
        let expected = mean * std::f64::consts::LN_2;
        assert!((median - expected).abs() < 0.12 * expected, "{connections}: {median} for {expected}");
        let rows = &report.timeline[..seconds];
        let queue: f64 = rows.iter().map(|row| f64::from(row.pools["OrdersProxy"].waiting)).sum();
        let length = queue / rows.len() as f64;
        let expected = load * erlang_c(connections, load) * mean;
        assert!((length - expected).abs() < 0.15 * expected, "{connections}: {length} for {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A queue of a few lines, which shares nothing with the pool: users come one by one, each with one query.
    #[test]
    fn waits_agree_with_a_slow_queue(
        users in 1u64..200, rate in prop::sample::select(&[1u64, 2, 5, 8, 20, 40, 100][..]), connections in 1usize..6,
        takes_ms in 1u64..3000, borrow in 0u64..6, timeout in 1u64..8,
    ) {
        let nanos = |ms: u64| ms * 1_000_000;
        let mut free_at = vec![0_u64; connections];
        let (mut waits, mut ok, mut refused, mut late) = (Vec::new(), 0, 0, 0);
        for user in 0..users {
            let comes = user * (SECOND / rate);
            let first = free_at.iter_mut().min().unwrap();
            let wait = first.saturating_sub(comes);
            // What is over in one instant with a connection that comes free comes first.
            if wait > 0 && wait >= borrow.min(timeout) * SECOND {
                *if borrow <= timeout { &mut refused } else { &mut late } += 1;
                continue;
            }
            if wait > 0 {
                waits.push(wait);
            }
            // A query that outlasts the function is ended with it, and its connection is free then.
            let ends = (comes + wait + nanos(takes_ms)).min(comes + timeout * SECOND);
            if ends < comes + wait + nanos(takes_ms) { late += 1 } else { ok += 1 }
            *first = ends;
        }
        let report = plan(
            &format!("phases: [{{target: Cart, users: {users}, requests: {users}, spawn: {rate}/s}}]
behaviour: {{Cart: {{init: 0s, steps: [{{query: {{database: OrdersProxy, for: {takes_ms}ms}}}}]}}}}"),
            &[
                &format!("db.pool-connections={connections}"), &format!("db.borrow-timeout={borrow}"),
                &format!("function.timeout={timeout}"),
            ],
        );
        let found = query(&report);
        prop_assert_eq!((report.summary.ok, report.summary.errors, report.summary.timed_out), (ok, refused, late));
        prop_assert_eq!((found.waited, found.longest_s.0), (waits.len() as u64, waits.iter().copied().max().unwrap_or(0)));
        prop_assert_eq!(found.asked + found.failed, users);
    }

    #[test]
    fn every_report_with_queries_adds_up(
        users in 1u32..30, requests in 0u64..120, pool in 1u64..12, all in 0u64..16, count in 1u32..4,
        transaction in any::<bool>(), pins in any::<bool>(), borrow in 0u64..12, idle in 1u64..20, timeout in 1u64..30,
        patience in 1u64..30, in_init in any::<bool>(), close in any::<bool>(), seed in any::<u64>(),
        until in prop::option::of(1u64..40),
    ) {
        let query = format!("{{query: {{database: OrdersProxy, count: {count}, for: {{exponential: 700ms}}, \
            transaction: {transaction}, pins: {pins}}}}}");
        let (first, second) = if in_init { (&*query, "{compute: 1s}") } else { ("{compute: 1s}", &*query) };
        let shutdown = if close { "close" } else { "abandon" };
        let text = format!("phases:
  - {{target: Cart, users: {users}, requests: {requests}, think: {{exponential: 1s}}, timeout: {patience}s}}
  - {{target: Pay, start: 1s, rate: 3/s, arrivals: poisson, for: 10s}}
behaviour:
  Cart: {{init: [{first}], on_shutdown: {shutdown}, steps: [{second}, {{compute: {{exponential: 1s}}}}]}}
  Pay: {{init: 1s, steps: [{query}, {{query: {{database: Database, for: {{uniform: [0s, 2s]}}}}}}]}}");
        let mut options = Options::new(Era::named("today").unwrap());
        for (limit, value) in [
            ("db.pool-connections", pool), ("db.max-connections", all), ("db.borrow-timeout", borrow),
            ("db.idle-client-timeout", idle), ("function.timeout", timeout),
        ] {
            options.overrides.read(&format!("{limit}={value}")).unwrap();
        }
        options.seed = Some(seed);
        options.until = until.map(Duration::from_secs);
        let load = Load::read("load.yaml", &format!("version: 1\n{text}")).unwrap();
        let report = run(&stack(), &load, &options).unwrap();
        let again = run(&stack(), &load, &options).unwrap();
        prop_assert_eq!(serde_json::to_string(&report).unwrap(), serde_json::to_string(&again).unwrap());
        let summary = &report.summary;
        let answered = summary.ok + summary.throttled + summary.timed_out + summary.errors;
        prop_assert_eq!(answered + report.unanswered, summary.requests);
        let causes: u64 = summary.errors_by_cause.iter().map(|cause| cause.count).sum();
        prop_assert_eq!(causes, answered - summary.ok);
        for row in &report.limits {
            prop_assert!(row.used <= row.peak, "{row:?}");
            prop_assert!(row.peak <= row.max || row.id == LimitId::FunctionTimeout, "{row:?}");
        }
        for at in &report.timeline {
            let row = at.pools["OrdersProxy"];
            prop_assert!(u64::from(row.in_use) <= pool.min(all) && row.in_use + row.waiting <= row.clients);
            prop_assert!(at.connections["Database"] <= all);
        }
        if until.is_none() {
            prop_assert_eq!(report.unanswered, 0);
            let last = &report.timeline.last().unwrap();
            prop_assert_eq!((last.concurrency, last.pools["OrdersProxy"].waiting), (0, 0));
            let lent: u64 = report.queries.iter().filter(|row| &*row.database == "OrdersProxy").map(|row| row.asked).sum();
            prop_assert_eq!(lent, report.pools[0].lent);
        }
        prop_assert!(!crate::render(&report, 80, true).is_empty());
    }
}
