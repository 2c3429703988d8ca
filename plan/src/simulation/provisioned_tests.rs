//! Provisioned concurrency on the virtual clock.

use super::run;
use crate::input::{FunctionInput, PlanInput, ProvisionedInput};
use crate::load::Load;
use crate::options::{Options, PlanError};
use crate::report::Report;
use limits::Network;
use model::{Era, LimitId};
use std::time::Duration;

fn plan(environments: u32, load: &str, limits: &[&str]) -> Result<Report, PlanError> {
    let function = FunctionInput {
        id: "Cart".into(),
        name: "cart".into(),
        reserved: None,
        timeout: Duration::from_secs(30),
        memory_mb: 1769,
        init_always_billed: false,
    };
    let network = Network::simple(1, 1, 1);
    let input = PlanInput { functions: vec![function], network, ..PlanInput::default() };
    let provisioned = ProvisionedInput { function: 0, qualifier: "live".into(), environments };
    let mut options = Options::new(Era::named("today").unwrap());
    for limit in limits {
        options.overrides.read(limit).unwrap();
    }
    let load = Load::read("load.yaml", &format!("version: 1\n{load}")).unwrap();
    run(&input.with_provisioned(vec![provisioned]), &load, &options)
}

#[test]
fn what_is_beyond_spills_over_and_starts_cold() {
    let load = "phases: [{target: 'Cart:live', users: 10, requests: 10}]
behaviour: {Cart: {init: 2s, steps: [{compute: 1s}]}}";
    let report = plan(6, load, &[]).unwrap();
    assert_eq!((report.summary.ok, report.summary.cold_starts), (10, 4));
    let row = &report.provisioned[0];
    assert_eq!((row.invocations, row.spillover, row.peak, row.billed_ms), (6, 4, 6, 6000));
    // Spilling over is not breaking.
    assert_eq!(report.first_limit, None);
    let row = report.limits.iter().find(|row| row.id == LimitId::ProvisionedConcurrency).unwrap();
    assert_eq!((&*row.resource, row.max, row.peak, row.refused), ("Cart:live", 6, 6, 4));
    let text = crate::render(&report, 100, false);
    assert!(text.contains("Cart:live             6     6            6             4"), "{text}");
}

#[test]
fn time_on_provisioned_environments_has_its_own_price_and_what_spills_over_the_usual_one() {
    // 1,024 MB: ten invocations of a second on each side, GB-s for GB-s; the free tier is for those on demand alone.
    let template = "Transform: AWS::Serverless-2016-10-31
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.handler, CodeUri: cart/, MemorySize: 1024, AutoPublishAlias: live,
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 10}}
";
    let outcome = template::read("template.yaml", template, &template::Inputs::default());
    let input = PlanInput::from_stack(&outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems)));
    let load = "version: 1\nphases: [{target: 'Cart:live', users: 20, requests: 20}]\n\
                behaviour: {Cart: {init: 0ms, steps: [{compute: 1s}]}}";
    let options = Options::new(Era::named("today").unwrap());
    let report = run(&input, &Load::read("load.yaml", load).unwrap(), &options).unwrap();
    assert_eq!((report.provisioned[0].billed_ms, report.functions[0].billed_ms), (10_000, 20_000));
    let bill = report.cost.unwrap();
    let line = |item: &str| {
        let line = bill.usage.iter().find(|line| line.item == item).unwrap();
        (line.quantity.as_f64(), line.free.as_f64(), line.usd.to_string())
    };
    // facts: 0.0000097222 USD for each GB-s.
    assert_eq!(line("lambda.provisioned-duration"), (10.0, 0.0, "0.000097".to_owned()));
    assert_eq!((line("lambda.duration").0, line("lambda.duration").1), (10.0, 10.0));
}

#[test]
fn requests_without_a_qualifier_run_on_demand_and_the_report_says_so() {
    let load = "phases: [{target: Cart, users: 3, requests: 3}]";
    let report = plan(5, load, &[]).unwrap();
    assert_eq!((report.summary.cold_starts, report.provisioned[0].invocations), (3, 0));
    let said = |row: &&crate::report::Assumption| row.what == "requests to Cart without a qualifier";
    assert!(report.assumptions.iter().any(|row| said(&row) && row.why.contains("Cart:live")));
}

#[test]
fn steps_for_once_run_in_the_first_invocation_of_a_provisioned_environment_too() {
    let load = "phases: [{target: 'Cart:live', users: 1, requests: 3}]
behaviour: {Cart: {init: 2s, steps: [{compute: 500ms, once: environment}, {compute: 100ms}]}}";
    let report = plan(1, load, &[]).unwrap();
    let summary = &report.summary;
    assert_eq!((summary.slowest_s.0, summary.fastest_s.0), (600_000_000, 100_000_000));
    assert_eq!(summary.total_s.0, 800_000_000);
}

#[test]
fn connections_of_init_are_open_before_the_first_request() {
    let load = "phases: [{target: 'Cart:live', start: 10s, users: 2, requests: 4}]
behaviour:
  Cart:
    init: [{connect: {to: 'cache.example.com:443', count: 3, hold: environment}}]
    steps: [{compute: 1s}]";
    let report = plan(4, load, &[]).unwrap();
    assert_eq!((report.connects[0].opened, report.summary.cold_starts), (12, 0));
    assert_eq!(report.timeline[0].connections["NatGateway"], 12);
}

#[test]
fn an_environment_is_replaced_ahead_when_its_life_is_over() {
    let load = "phases: [{target: 'Cart:live', users: 1, for: 30s}]
behaviour: {Cart: {init: 3s, steps: [{compute: 1s}]}}";
    let report = plan(2, load, &["environment.lifetime=5s"]).unwrap();
    assert_eq!(report.summary.cold_starts, 0, "the other one serves while one is replaced");
    assert_eq!((report.summary.ok, report.provisioned[0].invocations), (30, 30));
    // On demand each end costs a cold start.
    let load = load.replace("'Cart:live'", "Cart");
    let report = plan(2, &load, &["environment.lifetime=5s"]).unwrap();
    assert_eq!(report.summary.cold_starts, 6, "3 s of INIT and 2 of work, in 30 s");
}

#[test]
fn more_than_the_account_has_is_an_error() {
    let load = "phases: [{target: 'Cart:live', users: 1, requests: 1}]";
    let error = plan(901, load, &[]).unwrap_err();
    assert!(matches!(error, PlanError::Provisioned { .. }));
    assert_eq!(
        error.to_string(),
        "Cart:live cannot have its provisioned concurrency: 901 provisioned would leave less than 100 unreserved; at \
         most 900 can be provisioned; see lambda.account-concurrency"
    );
    assert!(plan(900, load, &[]).is_ok());
}
