//! What theory says of the same systems. Seeds are fixed, so that a bound is either always kept or never.

use model::{Era, LimitId};
use plan::{Load, Options, PlanInput, Report};

const TEMPLATE: &str = "
Resources:
  Role: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Statement: []}}}
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  Private: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: g, VpcId: !Ref Vpc}}
  Function:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Code: {ZipFile: 'def handler(event, context): return 1'}
      Role: !GetAtt Role.Arn
      Timeout: 30
      VpcConfig: {SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref Group]}
";

/// Mean handler time, in seconds.
const MEAN_S: f64 = 0.1;
/// The same mean, in different shapes: theory says that losses do not feel them.
const SHAPES: [(&str, &str); 4] = [
    ("constant", "100ms"),
    ("exponential", "{exponential: 100ms}"),
    ("uniform", "{uniform: [0ms, 200ms]}"),
    // Its mean is p50 * exp(sigma^2 / 2), with sigma = ln(p99 / p50) / 2.326: 100 ms.
    ("lognormal", "{lognormal: {p50: 60.653ms, p99: 621.1ms}}"),
];

fn plan(load: &str, limits: &[&str]) -> Report {
    let outcome = template::read("template.yaml", TEMPLATE, &template::Inputs::default());
    let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
    let mut options = Options::new(Era::named("today").unwrap());
    // Only what the formula knows may bind.
    for limit in ["lambda.scaling-rate=1000000", "lambda.request-rate=1000000"].iter().chain(limits) {
        options.overrides.read(limit).unwrap();
    }
    let load = Load::read("load.yaml", load).unwrap_or_else(|problems| panic!("{problems:?}"));
    plan::run(&PlanInput::from_stack(&stack), &load, &options).unwrap()
}

/// `steps` at `rate` a second for `seconds`, as a Poisson process.
fn poisson(rate: u32, seconds: u32, steps: &str, limits: &[&str]) -> Report {
    let load = format!(
        "{{version: 1, seed: 11, phases: [{{target: Function, rate: {rate}/s, arrivals: poisson, for: {seconds}s}}], \
         behaviour: {{Function: {{init: 0s, steps: [{steps}]}}}}}}"
    );
    plan(&load, limits)
}

/// Erlang's loss formula: the part of calls that find all `lines` busy under `offered` erlangs (A. K. Erlang, 1917).
fn erlang_b(lines: u32, offered: f64) -> f64 {
    (1..=lines).fold(1.0, |loss, line| offered * loss / (f64::from(line) + offered * loss))
}

fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found:.4}, not {expected:.4} +- {tolerance}");
}

#[test]
fn concurrency_loses_what_erlang_says_whatever_the_shape_of_handler_times() {
    for (shape, time) in SHAPES {
        let report = poisson(100, 500, &format!("{{compute: {time}}}"), &["lambda.account-concurrency=10"]);
        let summary = &report.summary;
        let lost = summary.throttled as f64 / summary.requests as f64;
        // 50,000 requests, neighbours correlated: four standard errors are below 0.012.
        assert_near(shape, lost, erlang_b(10, 100.0 * MEAN_S), 0.012);
    }
}

#[test]
fn an_interface_loses_what_erlang_says() {
    for (shape, time) in SHAPES {
        let connect = "{connect: {to: '10.0.1.9:443', timeout: 1ms}}";
        let steps = format!("{connect}, {{sleep: {time}}}");
        let report = poisson(100, 500, &steps, &["eni.connections=12"]);
        let summary = &report.summary;
        let row = report.limits.iter().find(|row| row.id == LimitId::EniConnections).unwrap();
        assert_eq!((row.peak, row.refused), (12, summary.errors), "{shape}");
        let lost = summary.errors as f64 / summary.requests as f64;
        assert_near(shape, lost, erlang_b(12, 100.0 * MEAN_S), 0.012);
    }
}

#[test]
fn without_limits_concurrency_is_little_s_law_and_spreads_like_poisson() {
    for (shape, time) in SHAPES {
        let steps = format!("{{compute: {time}}}");
        let report = poisson(200, 600, &steps, &["lambda.account-concurrency=100000"]);
        // The first rows are left out: the system fills.
        let rows: Vec<f64> = report.timeline[5..600].iter().map(|row| f64::from(row.concurrency)).collect();
        let mean = rows.iter().sum::<f64>() / rows.len() as f64;
        let variance = rows.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / rows.len() as f64;
        assert_near(shape, mean, 200.0 * MEAN_S, 0.8);
        assert_near(shape, variance / mean, 1.0, 0.25);
    }
}

#[test]
fn a_closed_loop_is_as_fast_as_its_users_are_round() {
    let load = "{version: 1, phases: [{target: Function, users: 30, think: 50ms, latency: 10ms, for: 160s}], \
                behaviour: {Function: {init: 0s, steps: [{compute: 100ms}]}}}";
    let report = plan(load, &[]);
    // 30 users, each 160 ms round.
    assert_eq!(report.summary.ok, 30 * 1000);
}
