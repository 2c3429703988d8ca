//! Authorizers before functions: what they cost, what is kept of their answers, and what their failures do.

use super::*;
use crate::report::{AuthorizerRow, Seconds};
use model::Era;

/// A REST API and an HTTP API whose routes ask one function, and routes that ask nobody.
const TEMPLATE: &str = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: Prod
      MethodSettings: [{ResourcePath: /cart, HttpMethod: GET, ThrottlingRateLimit: 1000, ThrottlingBurstLimit: 7}]
      Auth:
        DefaultAuthorizer: Token
        Authorizers: {Token: {FunctionArn: !GetAtt Guard.Arn, Identity: {ReauthorizeEvery: 10}}}
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefaultRouteSettings: {ThrottlingRateLimit: 1000, ThrottlingBurstLimit: 7}
      Auth:
        Authorizers:
          Forgets: {FunctionArn: !GetAtt Guard.Arn, AuthorizerPayloadFormatVersion: '2.0', Identity: {Headers: [Authorization]}}
  Guard:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.handler, Timeout: 20, InlineCode: 'def handler(event, context): return 1'}
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Timeout: 20
      InlineCode: 'def handler(event, context): return 1'
      Events:
        Get: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /cart, Method: get}}
        Put: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /cart, Method: put}}
        Free: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /free, Method: get, Auth: {Authorizer: NONE}}}
        Post: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /cart, Method: post, Auth: {Authorizer: Forgets}}}
";

fn plan_with(template: &str, phases: &str, guard: &str, cart: &str, limits: &[&str]) -> Report {
    let text = format!(
        "{{version: 1, phases: [{phases}], behaviour: {{Guard: {{init: 200ms, steps: [{guard}]}}, Cart: {{init: 0s, steps: [{cart}]}}}}}}"
    );
    let outcome = template::read("template.yaml", template, &template::Inputs::default());
    let input = PlanInput::from_stack(&outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems)));
    let mut options = Options::new(Era::named("today").unwrap());
    for limit in limits {
        options.overrides.read(limit).unwrap();
    }
    run(&input, &Load::read("load.yaml", &text).unwrap(), &options).unwrap()
}

fn plan(phases: &str) -> Report {
    plan_with(TEMPLATE, phases, "compute: 100ms", "compute: 100ms", &[])
}

fn row(report: &Report) -> (u64, u64, u64, u64) {
    let [AuthorizerRow { asked, kept, denied, failed, .. }] = report.authorizers[..] else {
        panic!("one authorizer: {:?}", report.authorizers)
    };
    (asked, kept, denied, failed)
}

fn function(report: &Report, name: &str) -> (u64, u64, u32) {
    let found = report.functions.iter().find(|function| function.name == name);
    found.map_or((0, 0, 0), |found| (found.invocations, found.cold_starts, found.peak_concurrency))
}

fn chains(report: &Report) -> Vec<(Vec<&str>, u64)> {
    let rows = report.summary.errors_by_cause.iter();
    rows.map(|row| (row.chain.iter().map(String::as_str).collect(), row.count)).collect()
}

const MS: u64 = 1_000_000;

#[test]
fn each_user_is_asked_about_once_in_the_time_that_an_answer_is_kept() {
    // An answer is there after 300 ms, or 100 ms when warm; from then on it holds for 10 s.
    let report = plan("{target: Rest, request: PUT /cart, users: 5, for: 25s, think: 900ms, latency: 5ms}");
    assert_eq!(function(&report, "Guard"), (15, 5, 5));
    let requests = report.summary.requests;
    assert_eq!((row(&report), report.summary.ok), ((15, requests - 15, 0, 0), requests));
    assert_eq!(function(&report, "Cart").0, requests);
    // Both come one after the other: 200 ms of INIT and 100 ms, then 100 ms and the network.
    assert_eq!(report.summary.slowest_s, Seconds(405 * MS));
    assert_eq!(report.summary.fastest_s, Seconds(105 * MS));
    let said = report
        .assumptions
        .iter()
        .any(|row| row.what == "callers of phase 1" && row.value == "each user is one");
    assert!(said, "{:?}", report.assumptions);
}

#[test]
fn routes_without_an_authorizer_ask_nobody() {
    let report = plan("{target: Rest, request: GET /free, users: 5, requests: 50, identities: 9, denied: 1}");
    assert!(report.authorizers.is_empty() && report.summary.ok == 50);
    assert_eq!(function(&report, "Guard"), (0, 0, 0));
    let mut rows = report.assumptions.iter().filter(|row| row.value == "without effect");
    assert_eq!(rows.next().unwrap().what, "`identities` of phase 1");
    assert_eq!(rows.next().unwrap().what, "`denied` of phase 1");
}

#[test]
fn new_callers_need_environments_of_both_functions() {
    let known = "{target: Rest, request: PUT /cart, rate: 100/s, for: 10s, identities: 1}";
    let report = plan(known);
    assert_eq!(function(&report, "Cart").0, 1000);
    // Until the first answer is there, 300 ms later, 30 more have asked.
    assert_eq!(row(&report), (30, 970, 0, 0));
    let report = plan(&known.replace("identities: 1", "identities: new"));
    assert_eq!(row(&report), (1000, 0, 0, 0));
    assert_eq!(function(&report, "Guard").0, 1000);
    let peak = report.timeline.iter().map(|row| row.concurrency).max().unwrap();
    let alone = plan("{target: Rest, request: GET /free, rate: 100/s, for: 10s}");
    let alone = alone.timeline.iter().map(|row| row.concurrency).max().unwrap();
    assert_eq!((alone, peak), (10, 20), "twice the concurrency");
    let unsaid = plan(&known.replace(", identities: 1", ""));
    assert_eq!(row(&unsaid), row(&report), "an open loop is asked about each time unless it says who comes");
}

#[test]
fn an_authorizer_that_keeps_nothing_is_asked_each_time() {
    let report = plan("{target: Http, users: 3, requests: 30, identities: 1}");
    assert_eq!(row(&report), (30, 0, 0, 0));
    let why = "the authorizer keeps no answers, so that each request asks anew";
    assert!(report.assumptions.iter().any(|row| row.what == "`identities` of phase 1" && row.why == why));
}

#[test]
fn http_apis_throttle_before_they_ask_and_rest_apis_after() {
    let http = plan("{target: Http, users: 20, requests: 20}");
    assert_eq!((row(&http).0, http.summary.throttled, function(&http, "Cart").0), (7, 13, 7));
    let rest = plan("{target: Rest, request: GET /cart, users: 20, requests: 20}");
    assert_eq!((row(&rest).0, rest.summary.throttled, function(&rest, "Cart").0), (20, 13, 7));
}

#[test]
fn who_is_denied_costs_an_invocation_once_and_none_of_the_route() {
    let phase =
        "{target: Rest, request: PUT /cart, users: 10, requests: 100, think: 1s, denied: 0.3, latency: 5ms}";
    let report = plan(phase);
    // Ten requests of each of three users, within 10 s of their first answer.
    assert_eq!(row(&report), (10, 90, 30, 0));
    assert_eq!((report.summary.ok, report.summary.errors), (70, 30));
    assert_eq!((report.summary.statuses[&200], report.summary.statuses[&403]), (70, 30));
    assert_eq!((function(&report, "Guard").0, function(&report, "Cart").0), (10, 70));
    assert_eq!(chains(&report), [(vec!["authorizer.denied"], 30)]);
    assert_eq!(report.summary.fastest_s, Seconds(5 * MS), "what is kept is answered by the door");
    assert_eq!(report.first_limit, None);
    // A client does not try a 403 again.
    let again = plan(&phase.replace("latency: 5ms", "latency: 5ms, retry: standard"));
    assert_eq!((again.summary.attempts, row(&again)), (100, row(&report)));
}

#[test]
fn an_authorizer_that_is_throttled_fails_the_request() {
    let template =
        TEMPLATE.replace("Timeout: 20, Inline", "Timeout: 20, ReservedConcurrentExecutions: 4, Inline");
    let phase = "{target: Rest, request: PUT /cart, users: 10, requests: 10}";
    let report = plan_with(&template, phase, "compute: 100ms", "compute: 100ms", &[]);
    assert_eq!((row(&report), report.summary.statuses[&500]), ((10, 0, 0, 6), 6));
    assert_eq!((function(&report, "Cart").0, report.summary.ok, report.summary.errors), (4, 4, 6));
    let full = "lambda.reserved-concurrency of Guard: 4 of 4 concurrent executions";
    assert_eq!(chains(&report), [(vec!["authorizer.error", "call of Guard waited 0 s", full], 6)]);
    let first = report.first_limit.unwrap();
    assert_eq!((first.id, &first.victims[..]), (LimitId::ReservedConcurrency, &["Guard".to_owned()][..]));
    // A client that tries 500 again is asked about again.
    let phase = phase.replace("requests: 10", "requests: 10, retry: standard");
    let again = plan_with(&template, &phase, "compute: 100ms", "compute: 100ms", &[]);
    assert!(
        again.summary.ok > 4 && again.summary.attempts == row(&again).0 + row(&again).1,
        "{:?}",
        again.summary
    );
}

#[test]
fn an_authorizer_that_takes_longer_than_ten_seconds_fails_the_request() {
    let phase = "{target: Rest, request: PUT /cart, users: 1, requests: 2, latency: 5ms}";
    let slow = |guard: &str| plan_with(TEMPLATE, phase, guard, "compute: 100ms", &[]);
    let report = slow("compute: 12s");
    assert_eq!((row(&report), report.summary.statuses[&500]), ((2, 0, 0, 2), 2));
    assert_eq!(report.summary.slowest_s, Seconds(10_005 * MS));
    let late = "apigw.integration-timeout of authorizer Token of Rest: 10,000 of 10,000 ms";
    assert_eq!(chains(&report), [(vec!["authorizer.error", "call of Guard waited 10 s", late], 2)]);
    // The function runs on, and its late answer is not kept.
    assert_eq!((function(&report, "Guard").0, function(&report, "Cart").0), (2, 0));
    assert_eq!(
        report.functions.iter().find(|row| row.name == "Guard").unwrap().billed_ms,
        24_400,
        "two cold starts"
    );
    // At the very moment it is in time, however the steps are simulated.
    for guard in ["compute: 9800ms", "{compute: 9700ms}, {call: {to: ssm, for: 100ms}}"] {
        let report = slow(guard);
        assert_eq!((report.summary.ok, row(&report)), (2, (1, 1, 0, 0)), "{guard}");
    }
    let report = slow("{compute: 11s}, {call: {to: ssm, for: 100ms}}");
    assert_eq!((row(&report), report.summary.statuses[&500]), ((2, 0, 0, 2), 2));
}

#[test]
fn an_authorizer_that_fails_or_runs_out_of_time_fails_the_request() {
    let phase = "{target: Rest, request: PUT /cart, users: 1, requests: 1}";
    let report = plan_with(TEMPLATE, phase, "compute: 9s", "compute: 1s", &["function.timeout=3"]);
    assert_eq!(
        chains(&report),
        [(vec!["authorizer.error", "call of Guard waited 3.2 s", "function.timeout"], 1)]
    );
    assert_eq!(report.summary.statuses[&500], 1);
}

#[test]
fn a_client_that_leaves_while_its_authorizer_is_asked_costs_no_invocation_of_the_route() {
    for (guard, retry) in [
        ("compute: 3s", "none"),
        ("{compute: 2s}, {call: {to: ssm, for: 1s}}", "none"),
        ("compute: 3s", "standard"),
    ] {
        let phase = format!(
            "{{target: Rest, request: PUT /cart, users: 1, requests: 1, timeout: 1s, retry: {retry}}}"
        );
        let report = plan_with(TEMPLATE, &phase, guard, "compute: 1s", &[]);
        let attempts = if retry == "none" { 1 } else { 3 };
        assert_eq!(
            (report.summary.requests, report.summary.attempts, report.summary.errors),
            (1, attempts, 1)
        );
        assert_eq!((function(&report, "Guard").0, function(&report, "Cart").0), (attempts, 0), "{guard}");
        assert_eq!(chains(&report), [(vec!["client.timeout"], 1)]);
    }
    // One that leaves later leaves the route's function running.
    let phase = "{target: Rest, request: PUT /cart, users: 1, requests: 1, timeout: 4s}";
    for cart in ["compute: 3s", "{compute: 2s}, {call: {to: ssm, for: 1s}}"] {
        let report = plan_with(TEMPLATE, phase, "compute: 2s", cart, &[]);
        assert_eq!((report.summary.errors, function(&report, "Cart").0), (1, 1), "{cart}");
        assert_eq!(report.summary.total_s, Seconds(4000 * MS), "{cart}");
    }
}

#[test]
fn the_time_of_an_authorizer_is_no_part_of_the_integrations() {
    // 9 s of the authorizer and 28 s of the function are more than the 29 s that a REST API waits for the latter alone.
    let phase = "{target: Rest, request: PUT /cart, users: 1, requests: 1}";
    for cart in ["compute: 28s", "{compute: 27s}, {call: {to: ssm, for: 1s}}"] {
        let report = plan_with(TEMPLATE, phase, "compute: 9s", cart, &["function.timeout=60"]);
        assert_eq!((report.summary.ok, report.summary.slowest_s), (1, Seconds(37_200 * MS)), "{cart}");
    }
    let report = plan_with(TEMPLATE, phase, "compute: 9s", "compute: 30s", &["function.timeout=60"]);
    assert_eq!((report.summary.statuses[&504], report.summary.slowest_s), (1, Seconds(38_200 * MS)));
}

#[test]
fn the_report_shows_the_authorizers() {
    let report = plan("{target: Rest, request: PUT /cart, users: 2, requests: 20, denied: 0.5}");
    let text = crate::render(&report, 110, false);
    assert!(text.contains("Authorizers") && text.contains("Token of Rest"), "{text}");
    assert_eq!(report, plan("{target: Rest, request: PUT /cart, users: 2, requests: 20, denied: 0.5}"));
}
