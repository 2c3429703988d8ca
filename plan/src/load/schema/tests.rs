//! The schema and the loader say the same.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests read, and on demand write, files of the repository"
)]

use super::validator::{Met, json, validate};
use super::*;
use crate::load::Load;
use serde_json::Value;
use std::path::{Path, PathBuf};
use template::yaml::{self, Cause};

/// Every key that there is.
const EVERYTHING: &str = "
version: 1
seed: 7
retry: standard
month: {repeat: 30}
hosts: {cache.example.com: [203.0.113.10, 203.0.113.11]}
initial: {Cart: {busy: 10, for: 900s, idle: 3}}
phases:
  - {name: launch, target: Api, request: GET /cart, start: 1s, users: 5, requests: 10, spawn: 0.5/s,
     think: 0, timeout: 30s, latency: {uniform: [5ms, 12ms]}, bytes: {in: 1KB, out: 5B}, mode: sync,
     client: AppKey, keys: {zipf: {n: 1000, s: 1.1}}, fresh: signed, retry: adaptive, identities: 100, denied: 0.02}
  - {target: Api, users: 1, for: 3s, keys: 10, retry: none, identities: {zipf: {n: 10, s: 1}}}
  - {target: Cart, rate: 100/s, arrivals: even, for: 60s, identities: new}
  - {target: Cart, rate: {from: 0/s, to: 400/min}, arrivals: poisson, for: 1.5h}
  - {target: Cart, rate: {steps: [[0s, 100/s], [60s, 900/s]]}, for: 90s}
  - {target: Cart, rate: {spike: {base: 1/s, peak: 9/s, at: 1s, for: 1s}}, for: 90s}
  - {target: Cart, rate: {diurnal: {low: 1/s, high: 9/s, period: 1h}}, for: 3h}
  - {target: Cart, rate: {replay: arrivals.csv}}
behaviour:
  Cart:
    init: [{compute: {normal: {mean: 10ms, sd: 1ms}}, once: environment}, {sleep: {exponential: 3us}}]
    reuse_lag: {list: [1ms, 2ms]}
    on_shutdown: close
    steps:
      - {compute: {lognormal: {p50: 8ms, p99: 60ms}}}
      - {sleep: {percentiles: {min: 1ms, p50: 2ms, p99.9: 3ms, max: 9s}}, once: environment}
      - {connect: {to: 'cache.example.com:443', count: 2, hold: 5s, timeout: 30s,
          retry: {attempts: 10, delay: 3s}, bytes: 20KB}, once: environment}
      - {call: {function: Pay, retry: standard}, once: environment}
      - {call: {to: ssm, for: 20ms, hold: environment}}
      - {stream: 50MiB}
  Pay: {init: 450ms, on_shutdown: abandon}
";
/// The step `query`, which the loader may refuse as not simulated yet.
const QUERY: &str = "
version: 1
phases: [{target: Cart, users: 1, requests: 1}]
behaviour: {Cart: {steps: [{query: {database: Db, count: 3, for: 4ms, transaction: false, pins: true}, once: environment}]}}
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn met(text: &str, name: &str) -> Met {
    let document = yaml::parse(name, text).unwrap();
    let value = json(&document.root);
    // Scenarios have their load within.
    let value = value.get("load").cloned().unwrap_or(value);
    validate(&published(), &value).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_published_schema_is_this_one() {
    let text = format!("{}\n", serde_json::to_string_pretty(&published()).unwrap());
    let path = root().join("docs/load.schema.json");
    if std::env::var_os("ONRUSH_RECORD").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/load.schema.json is old: ONRUSH_RECORD=1 cargo test -p plan schema");
}

#[test]
fn every_scenario_and_example_fits_the_schema() {
    let mut seen = 0;
    let folders = [root().join("plan/scenarios"), root().join("examples/storefront")];
    for path in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let path = path.unwrap().path();
        let text = || std::fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "yaml") && text().contains("phases:") {
            met(&text(), &path.display().to_string());
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn the_loader_reads_every_key_of_the_schema() {
    Load::read("everything", EVERYTHING).unwrap_or_else(|problems| panic!("{problems:?}"));
    let mut all = met(EVERYTHING, "everything");
    all.extend(met(QUERY, "query"));
    let schema = published();
    let mut definitions: Vec<(&str, &Value)> =
        schema["$defs"].as_object().unwrap().iter().map(|(name, found)| (name.as_str(), found)).collect();
    definitions.push(("LoadFile", &schema));
    for (name, definition) in definitions {
        for key in
            definition.get("properties").and_then(Value::as_object).into_iter().flat_map(|keys| keys.keys())
        {
            assert!(all.contains(&(name.to_owned(), key.clone())), "no sample has `{key}` of {name}");
        }
    }
}

/// The keys that the loader says are known, where it meets one that is not.
fn known(text: &str) -> Option<Vec<String>> {
    let problems = Load::read("l", text).unwrap_err();
    let unknown = problems
        .iter()
        .find(|problem| matches!(&problem.cause, Cause::Unknown { name, .. } if name == "zzzzzzzz"));
    let Some(problem) = unknown else {
        assert!(
            problems.iter().any(|problem| problem.message().contains("not simulated yet")),
            "{problems:?}"
        );
        return None;
    };
    let help = problem.help.clone().unwrap();
    let list = help.strip_prefix("known here: ").or_else(|| help.strip_prefix("there are ")).unwrap();
    let mut keys: Vec<String> = list.split(", ").map(str::to_owned).collect();
    keys.sort();
    Some(keys)
}

#[test]
fn the_schema_has_every_key_of_the_loader() {
    let schema = published();
    let in_phase = |text: &str| format!("{{version: 1, phases: [{{target: A, for: 9s, {text}}}]}}");
    let in_step = |text: &str| {
        format!("{{version: 1, phases: [{{target: A, users: 1, for: 9s}}], behaviour: {{A: {{{text}}}}}}}")
    };
    let zzz = "{zzzzzzzz: 1}";
    let places: Vec<(&[&str], String)> = vec![
        (&["LoadFile"], "{version: 1, phases: [{target: A, users: 1, for: 1s}], zzzzzzzz: 1}".to_owned()),
        (&["Month"], format!("{{version: 1, phases: [{{target: A, users: 1, for: 1s}}], month: {zzz}}}")),
        (
            &["Initial"],
            format!("{{version: 1, phases: [{{target: A, users: 1, for: 1s}}], initial: {{A: {zzz}}}}}"),
        ),
        (&["Phase"], in_phase("users: 1, zzzzzzzz: 1")),
        (&["Bytes"], in_phase(&format!("users: 1, bytes: {zzz}"))),
        (&["SkewedKeys"], in_phase(&format!("users: 1, keys: {zzz}"))),
        (&["Zipf"], in_phase(&format!("users: 1, keys: {{zipf: {zzz}}}"))),
        (&["Ramp", "Steps", "SpikeRate", "DiurnalRate", "Replay"], in_phase(&format!("rate: {zzz}"))),
        (&["Spike"], in_phase(&format!("rate: {{spike: {zzz}}}"))),
        (&["Diurnal"], in_phase(&format!("rate: {{diurnal: {zzz}}}"))),
        (&["Behaviour"], in_step("zzzzzzzz: 1")),
        (&["Connect"], in_step(&format!("steps: [{{connect: {zzz}}}]"))),
        (&["ConnectRetry"], in_step(&format!("steps: [{{connect: {{to: 'a:1', retry: {zzz}}}}}]"))),
        (&["Query"], in_step(&format!("steps: [{{query: {zzz}}}]"))),
        (&["FunctionCall", "ServiceCall"], in_step(&format!("steps: [{{call: {zzz}}}]"))),
        (&["FunctionCall"], in_step("steps: [{call: {function: B, zzzzzzzz: 1}}]")),
        (&["ServiceCall"], in_step("steps: [{call: {to: ssm, zzzzzzzz: 1}}]")),
        (&["Normal"], in_step(&format!("reuse_lag: {{normal: {zzz}}}"))),
        (&["LogNormal"], in_step(&format!("reuse_lag: {{lognormal: {zzz}}}"))),
    ];
    let keys = |definition: &Value| -> Vec<String> {
        definition["properties"].as_object().unwrap().keys().cloned().collect()
    };
    for (definitions, text) in places {
        let of =
            |name: &&str| if *name == "LoadFile" { keys(&schema) } else { keys(&schema["$defs"][*name]) };
        let mut expected: Vec<String> = definitions.iter().flat_map(of).collect();
        expected.sort();
        if let Some(known) = known(&text) {
            assert_eq!(known, expected, "{definitions:?}");
        }
    }
    // One key says which: the forms of a distribution, and the steps.
    let forms = schema["$defs"]["Drawn"]["oneOf"].as_array().unwrap();
    let mut forms: Vec<String> = forms.iter().flat_map(keys).collect();
    forms.sort();
    assert_eq!(known(&in_step(&format!("reuse_lag: {zzz}"))), Some(forms));
    let steps = ["ComputeStep", "SleepStep", "ConnectStep", "QueryStep", "CallStep", "StreamStep"];
    let mut steps: Vec<String> =
        steps.iter().flat_map(|name| keys(&schema["$defs"][*name])).filter(|key| key != "once").collect();
    steps.sort();
    assert_eq!(known(&in_step(&format!("steps: [{zzz}]"))), Some(steps));
}

#[test]
fn the_schema_refuses_what_the_loader_refuses() {
    for text in [
        "{version: 2, phases: [{target: A, users: 1, for: 1s}]}",
        "{version: 1, phases: []}",
        "{version: 1, phases: [{target: A, for: 1s}]}",
        "{version: 1, phases: [{target: A, users: 1, rate: 1/s, for: 1s}]}",
        "{version: 1, phases: [{users: 1, for: 1s}]}",
        "{version: 1, phases: [{target: A, users: 0, for: 1s}]}",
        "{version: 1, phases: [{target: A, users: 1, for: 1}]}",
        "{version: 1, phases: [{target: A, users: 1, for: -1s}]}",
        "{version: 1, phases: [{target: A, users: 1, for: .nan}]}",
        "{version: 1, phases: [{target: A, rate: 5, for: 1s}]}",
        "{version: 1, phases: [{target: A, rate: {step: []}, for: 1s}]}",
        "{version: 1, phases: [{target: A, rate: {steps: []}, for: 1s}]}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s, request: cart}]}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s, retry: always}]}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s, latency: {uniform: [1s]}}]}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s, latency: {percentiles: {p50: 1s}}}]}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s}], behaviour: {A: {steps: [{compute: 1s, sleep: 1s}]}}}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s}], behaviour: {A: {steps: [{connect: {to: a}}]}}}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s}], behaviour: {A: {steps: [{call: {}}]}}}",
        "{version: 1, phases: [{target: A, users: 1, for: 1s}], hosts: {h: [x]}}",
    ] {
        assert!(Load::read("l", text).is_err(), "the loader takes {text}");
        let document = yaml::parse("l", text).unwrap();
        assert!(validate(&published(), &json(&document.root)).is_err(), "the schema takes {text}");
    }
}
