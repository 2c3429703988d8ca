//! The storefront's incident and small stacks: what survives, what it costs, and that the texts say so.

use super::*;
use crate::case::Source;
use crate::input::PlanInput;
use crate::load::Load;
use crate::options::Options;
use crate::promise::Promise;
use model::Era;

pub fn case_of(template: &str, load: &str, limits: &[&str]) -> Case {
    let mut options = Options::new(Era::named("today").unwrap());
    limits.iter().for_each(|limit| options.overrides.read(limit).unwrap());
    let inputs = template::Inputs::default();
    let outcome = template::read("template.yaml", template, &inputs);
    let stack = outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems));
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let read = Load::read("load.yaml", load).unwrap_or_else(|problems| panic!("{problems:?}"));
    let load = (source("load.yaml", load), read);
    Case::new(source("template.yaml", template), inputs, load, PlanInput::from_stack(&stack), options)
}

pub fn plan(case: &Case) -> Report {
    case.run(&Variant::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

pub fn fixes(case: &Case) -> Vec<Fix> {
    let found = search(case, &plan(case), &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(found.cut, None, "{} runs", found.runs);
    for fix in &found.fixes {
        let again = case.run(&fix.variant, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(survives(&again), "{}", fix.change);
        assert_eq!(again.summary, fix.verified, "{}", fix.change);
        assert!(!fix.diff.is_empty() && fix.size > 0 || fix.diff.starts_with("# asked"), "{}", fix.diff);
    }
    let costs: Vec<(Usd, usize)> = found.fixes.iter().map(|fix| (fix.usd_per_month, fix.size)).collect();
    assert!(costs.is_sorted(), "{costs:?}");
    found.fixes
}

pub fn said(fixes: &[Fix]) -> Vec<&str> {
    fixes.iter().map(|fix| &*fix.change).collect()
}

fn storefront() -> Case {
    let template = include_str!("../../../examples/storefront/template.yaml");
    let load = include_str!("../../../examples/storefront/incident.yaml");
    // A fortieth of everything, so that the test is quick.
    let load = load.replace("users: 960", "users: 24").replace("spawn: 20/s", "spawn: 0.5/s");
    case_of(template, &load, &["nat.ports=1375", "eni.connections=1625"])
}

#[test]
fn the_incident_survives_with_an_address_and_a_subnet_or_with_smaller_pools() {
    let case = storefront();
    assert!(!survives(&plan(&case)));
    let fixes = fixes(&case);
    let said = said(&fixes);
    let both = fixes
        .iter()
        .find(|fix| {
            fix.change.contains("1 more address, 2 in all, for NatGateway")
                && fix.change.contains("1 more subnet")
        })
        .unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(both.fixed_usd_per_month, Usd::read("3.65").unwrap());
    for wanted in [
        "\n+  NatAddress2:\n+    Type: AWS::EC2::EIP\n",
        "\n+      SecondaryAllocationIds: [!GetAtt NatAddress2.AllocationId]\n",
        "\n-      SubnetIds: [!Ref PrivateSubnetA, !Ref PrivateSubnetB]\n+      SubnetIds: [!Ref PrivateSubnetA, !Ref PrivateSubnetB, !Ref PrivateSubnetC]\n",
        "\n+      CidrBlock: !Select [3, !Cidr [!GetAtt Vpc.CidrBlock, 4, 8]]\n",
        "\n+  PrivateSubnetCRoutes:\n",
    ] {
        assert!(both.diff.contains(wanted), "{wanted}\n{}", both.diff);
    }
    let pools =
        fixes.iter().find(|fix| fix.change.contains("connections to cache.example.com:443, not 64")).unwrap();
    assert!(
        pools.diff.contains("\n-      - connect: {to: \"cache.example.com:443\", count: 64,"),
        "{}",
        pools.diff
    );
    assert_eq!(pools.fixed_usd_per_month, Usd::ZERO);
    assert!(said.contains(&"CartFunction outside the VPC"), "{said:?}");
    // Quicker handlers would make the same users send fifty times as much: that is another load.
    assert!(!said.iter().any(|change| change.contains("less time in its handler")), "{said:?}");
    assert!(pools.usd_per_month <= both.usd_per_month);
}

const SMALL: &str = "Transform: AWS::Serverless-2016-10-31
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.handler, CodeUri: cart/, MemorySize: 256, Timeout: 3}
";

#[test]
fn a_quota_is_asked_of_aws_and_a_quicker_handler_asks_for_nothing() {
    let load = "version: 1
phases: [{target: Cart, rate: 500/s, for: 20s}]
behaviour: {Cart: {init: 5ms, steps: [{compute: 400ms}]}}
";
    let fixes = fixes(&case_of(SMALL, load, &["lambda.account-concurrency=150"]));
    let said = said(&fixes);
    let quota =
        fixes.iter().find(|fix| fix.change.starts_with("AWS raises lambda.account-concurrency")).unwrap();
    assert!(
        quota.diff.starts_with("# asked of AWS, and here: --limit lambda.account-concurrency="),
        "{}",
        quota.diff
    );
    let quicker = fixes.iter().find(|fix| fix.change.contains("less time in its handler"));
    let quicker = quicker.unwrap_or_else(|| panic!("{said:?}"));
    assert!(quicker.diff.contains("+behaviour: {Cart: {init: 5ms, steps: [{compute: "), "{}", quicker.diff);
    assert!(said.iter().any(|change| change.starts_with("Cart with 512 MB, not 256 MB")), "{said:?}");
}

#[test]
fn a_longer_time_out_and_a_promise() {
    let load = "version: 1
phases: [{target: Cart, users: 2, for: 20s, think: 1s}]
behaviour: {Cart: {init: 5ms, steps: [{sleep: 3500ms}]}}
";
    let found = fixes(&case_of(SMALL, load, &[]));
    assert!(said(&found).contains(&"Cart may take 4 s, not 3 s"), "{:?}", said(&found));
    let mut promised = case_of(&SMALL.replace("Timeout: 3", "Timeout: 30"), load, &[]);
    promised.promises = Promise::read_all("p99<1s").unwrap();
    let found = fixes(&promised);
    assert_eq!(found.len(), 1, "{:?}", said(&found));
    assert!(found[0].change.contains("less time in its handler"), "{}", found[0].change);
}

#[test]
fn what_survives_needs_no_change_and_an_end_is_heard() {
    let load = "version: 1\nphases: [{target: Cart, users: 2, for: 1s}]\n";
    let case = case_of(SMALL, load, &[]);
    assert_eq!(search(&case, &plan(&case), &mut |_, _| ControlFlow::Continue(())).unwrap(), Found::default());
    let case = storefront();
    let found = search(&case, &plan(&case), &mut |_, _| ControlFlow::Break(())).unwrap();
    assert_eq!((found.cut, found.fixes.len()), (Some(Cut::Interrupted), 0));
}

#[test]
fn a_page_shows_causes_then_changes_with_their_diffs_folded_then_the_sweep() {
    let load = "version: 1\nphases: [{target: Cart, users: 20, requests: 40}]\nbehaviour: {Cart: {steps: [{sleep: 1s}]}}\n";
    let case =
        case_of(&SMALL.replace("Timeout: 3", "Timeout: 3, ReservedConcurrentExecutions: 5"), load, &[]);
    let mut report = plan(&case);
    let found = search(&case, &report, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let sweep = crate::sweep::Sweep::read("users=1..30").unwrap();
    report.searched =
        Some(crate::report::Searched { runs: found.runs, cut: Some(Cut::Plans), another_load: true });
    report.fixes = found.fixes;
    report.sweep = sweep.run(&case, &mut |_| ControlFlow::Continue(())).unwrap();
    report.swept = Some(sweep.title());
    let page = crate::render_html(&report, "cart");
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not on the page"));
    let order = [
        "<h2>Why requests fail",
        "<h2>Changes that survive",
        "cut short, as 400 plans are the most",
        "<details><summary>The change, 2 lines</summary><pre>",
        "<span class=\"add\">",
        "<h2>Sweep",
        "answered well per s",
    ];
    let places = order.map(place);
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains("knee at 5</text>"), "five are reserved");
    assert_eq!(page.matches("<details>").count(), page.matches("</details>").count());
}
