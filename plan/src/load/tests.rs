//! What is read, and what is said of what cannot be.

use super::*;
use crate::distribution::Distribution;
use crate::quantity::parse_rate;
use proptest::prelude::*;
use std::time::Duration;

const WHOLE: &str = "
version: 1
seed: 7
retry: none
month: {repeat: 30}
hosts: {cache.example.com: [203.0.113.10, 203.0.113.11]}
initial: {CartFunction: {busy: 1000, for: 900s}, PayFunction: {idle: 200}}
phases:
  - name: launch
    target: StorefrontApi
    request: GET /cart
    users: 500
    requests: 10000
    spawn: 100/s
    think: 0s
    timeout: 30s
    latency: {uniform: [5ms, 12ms]}
    bytes: {in: 1KB, out: 5B}
    mode: sync
    retry: none
  - target: CartFunction
    start: 10s
    rate: {from: 0/s, to: 4000/s}
    arrivals: poisson
    for: 60s
  - target: CartFunction
    rate: {steps: [[0s, 100/s], [60s, 900/s], [2m, 1/s]]}
    for: 90s
behaviour:
  CartFunction:
    init: 450ms
    reuse_lag: 1ms
    on_shutdown: abandon
    steps:
      - compute: {lognormal: {p50: 8ms, p99: 60ms}}
      - {sleep: 2s, once: environment}
      - connect: {to: \"cache.example.com:443\", count: 2, hold: environment, timeout: 30s,
          retry: {attempts: 10, delay: 3s}, bytes: 20KB}
      - query: {database: OrdersProxy, count: 3, for: 4ms, transaction: true, pins: false}
  PayFunction:
    on_shutdown: close
    init: [{compute: 10ms}, {connect: {to: 10.0.0.7:5432, hold: 5s}}]
";

#[test]
fn the_whole_schema_is_read() {
    let load = Load::read("load.yaml", WHOLE).unwrap();
    assert_eq!((load.seed, load.repeat_per_month, load.phases.len()), (7, 30, 3));
    assert_eq!((load.initial[0].busy, load.initial[0].busy_for), (1000, Duration::from_secs(900)));
    assert_eq!((load.initial[1].busy, load.initial[1].idle), (0, 200));
    let launch = &load.phases[0];
    assert_eq!((&*launch.name, &*launch.target.text), ("launch", "StorefrontApi"));
    assert_eq!(launch.request.as_ref().unwrap().text, "GET /cart");
    let Work::Users { users, requests, length, spawn, think } = &launch.work else { panic!("users") };
    assert_eq!((*users, *requests, *length, *spawn), (500, Some(10_000), None, parse_rate("100/s")));
    assert_eq!(*think, Distribution::ZERO);
    assert_eq!((&*load.phases[1].name, load.phases[1].start), ("phase 2", Some(Duration::from_secs(10))));
    let Work::Rate { pieces, length, .. } = &load.phases[2].work else { panic!("rate") };
    assert_eq!((pieces.len(), pieces[1].to_nanos, *length), (2, 90_000_000_000, Duration::from_secs(90)));
    assert_eq!(load.behaviour[0].steps.as_ref().unwrap().len(), 4);
    assert!(load.behaviour[0].steps.as_ref().unwrap()[1].once);
    assert_eq!(load.behaviour[1].init.as_ref().unwrap().len(), 2);
    assert_eq!(load.behaviour[1].steps, None);
    assert_eq!(load.unused, ["phases.bytes"]);
    assert_eq!((load.hosts.len(), load.hosts[0].addresses.len()), (1, 2));
    assert_eq!(load.behaviour.iter().map(|one| one.closes_on_shutdown).collect::<Vec<_>>(), [false, true]);
    let connects: Vec<_> = load.behaviour.iter().flat_map(Behaviour::connects).collect();
    assert_eq!((connects[0].destination(), connects[0].count), ("cache.example.com:443".to_owned(), 2));
    assert_eq!((connects[0].hold, connects[0].bytes), (Hold::Environment, Some(20_000)));
    assert_eq!(
        (connects[0].patience.timeout, connects[0].patience.attempts),
        (Some(Duration::from_secs(30)), 10)
    );
    assert_eq!(
        (connects[1].hold, connects[1].patience),
        (Hold::For(Duration::from_secs(5)), Default::default())
    );
}

#[test]
fn spikes_days_and_recordings_are_read() {
    let text = "
version: 1
phases:
  - {target: A, rate: {spike: {base: 1/s, peak: 9/s, at: 10s, for: 5s}}, for: 12s}
  - {target: A, rate: {diurnal: {low: 1/s, high: 9/s}}, for: 30h}
  - {target: A, rate: {replay: arrivals.csv}}
  - {target: A, rate: {replay: other.csv}, for: 9s}
";
    let mut load = Load::read("load.yaml", text).unwrap();
    let Work::Rate { pieces, .. } = &load.phases[0].work else { panic!("spike") };
    let bounds: Vec<_> =
        pieces.iter().map(|piece| (piece.from_nanos, piece.to_nanos, piece.begin.events)).collect();
    assert_eq!(bounds, [(0, 10_000_000_000, 1), (10_000_000_000, 12_000_000_000, 9)]);
    let Work::Rate { pieces, .. } = &load.phases[1].work else { panic!("diurnal") };
    let begins: Vec<_> =
        pieces.iter().map(|piece| (piece.from_nanos / 3_600_000_000_000, piece.begin.events)).collect();
    assert_eq!(begins, [(0, 1), (12, 9), (24, 1)]);
    let names: Vec<_> = load.replays().map(|(index, name)| (index, name.text.clone())).collect();
    assert_eq!(names, [(2, "arrivals.csv".to_owned()), (3, "other.csv".to_owned())]);
    load.supply(2, Recording::read("1\n2\n").unwrap().into());
    let Work::Replay { recording, length: None, .. } = &load.phases[2].work else { panic!("replay") };
    assert_eq!(recording.as_ref().unwrap().count(), 2);
}

#[test]
fn wrong_rates_are_named_at_their_place() {
    for (rate, expected) in [
        ("{spike: {base: 1/s, peak: 9/s, at: 60s, for: 1s}}", "3:46: the spike begins only when"),
        ("{spike: {base: 1/s, peak: 9/s, at: 6s, for: 0s}}", "3:55: a spike of no length"),
        ("{spike: {base: 1/s, at: 6s, for: 1s}}", "3:19: a spike needs `peak`"),
        (
            "{spike: {base: 1/s, peek: 2/s, at: 6s, for: 1s}}",
            "3:31: the key `peek` does not exist (did you mean `peak`?)",
        ),
        ("{diurnal: {low: 9/s, high: 1/s}}", "3:21: `low` is above `high`"),
        ("{diurnal: {low: 1/s, high: 9/s, period: 100ns}}", "3:51: a phase has at most 50000 periods"),
        ("{diurnal: {low: -1/s, high: 9/s}}", "3:27: expected a rate with its unit"),
        ("{replay: ''}", "3:20: the name of the file is empty"),
        ("{replay: a.csv, for: 3s}", "3:27: the key `for` does not exist"),
        ("{replay: a.csv}\n    arrivals: even", "4:5: `arrivals` does not go with `replay`"),
        ("2000000000/s", "3:11: expected a rate with its unit"),
        ("nan/s", "3:11: expected a rate with its unit"),
        ("{spkie: {}}", "3:12: the form of rate `spkie` does not exist (did you mean `spike`?)"),
    ] {
        let said = said(&format!("phases:\n  - target: A\n    rate: {rate}\n    for: 60s\nversion: 1\n"));
        assert!(said.iter().any(|line| line.contains(expected)), "{rate}: {said:?}");
    }
    let zero =
        said("version: 1\nphases:\n  - {target: A, rate: 1/s, for: 0s}\n  - {target: A, users: 1, for: 0}\n");
    assert_eq!(
        zero,
        [
            "load.yaml:3:33: a phase of no length sends nothing",
            "load.yaml:4:32: a phase of no length sends nothing"
        ]
    );
    let patience = said("version: 1\nphases:\n  - {target: A, users: 1, requests: 1, timeout: 0s}\n");
    assert!(
        patience[0].starts_with("load.yaml:3:49: a client that waits for no time has no answer"),
        "{patience:?}"
    );
}

fn said(text: &str) -> Vec<String> {
    let problems = Load::read("load.yaml", text).unwrap_err();
    problems.iter().map(|problem| problem.one_line("load.yaml")).collect()
}

#[test]
fn unknown_keys_are_named_with_the_nearest_one_and_their_place() {
    let text = "version: 1\nphases:\n  - target: A\n    usres: 5\n    for: 3s\nphase: 2\n";
    let said = said(text);
    assert_eq!(said[1], "load.yaml:4:5: the key `usres` does not exist (did you mean `users`?)");
    assert_eq!(said[2], "load.yaml:6:1: the key `phase` does not exist (did you mean `phases`?)");
    assert!(said[0].contains("needs `users` (closed loop) or `rate`"), "{}", said[0]);
}

#[test]
fn a_mode_is_sync_or_event() {
    let mode = said("phases:\n  - target: A\n    users: 1\n    for: 1s\n    mode: evnet\nversion: 1\n");
    assert!(mode[0].starts_with("load.yaml:5:11:") && mode[0].contains("event"), "{mode:?}");
    let load = |mode: &str| {
        let text = format!("version: 1\nphases: [{{target: A, users: 1, for: 1s{mode}}}]\n");
        Load::read("load.yaml", &text).unwrap().phases[0].event
    };
    assert_eq!([load(""), load(", mode: sync"), load(", mode: event")], [false, false, true]);
}

#[test]
fn wrong_values_are_named() {
    for (text, expected) in [
        ("{}", "a load needs `version`"),
        ("{version: 2, phases: [{target: A, users: 1, for: 1s}]}", "the version of load.yaml is 2"),
        ("{version: 1, phases: []}", "1 to 1000 phases"),
        ("{version: 1, phases: [{target: A, users: 1}]}", "needs `requests` (a total) or `for`"),
        ("{version: 1, phases: [{target: A, users: 0, for: 1s}]}", "the number of users is 0"),
        ("{version: 1, phases: [{target: A, users: 1, rate: 1/s, for: 1s}]}", "not both"),
        ("{version: 1, phases: [{target: A, rate: 1/s}]}", "a phase with `rate` needs `for`"),
        ("{version: 1, phases: [{target: A, rate: 5, for: 1s}]}", "expected a rate with its unit"),
        ("{version: 1, phases: [{target: A, rate: 1/s, think: 1s, for: 1s}]}", "`think` belongs to `users`"),
        ("{version: 1, phases: [{target: A, users: 1, spawn: 0/s, for: 1s}]}", "no user would ever appear"),
        ("{version: 1, phases: [{target: A, request: cart, users: 1, for: 1s}]}", "a method and a path"),
        ("{version: 1, phases: [{target: A, rate: {steps: [[1s, 1/s], [1s, 2/s]]}, for: 9s}]}", "later than"),
        ("{version: 1, phases: [{target: A, rate: {step: []}, for: 9s}]}", "did you mean `steps`?"),
        (
            "{version: 1, initial: {A: {busy: 1}}, phases: [{target: A, users: 1, for: 1s}]}",
            "`busy` needs `for`",
        ),
        (
            "{version: 1, hosts: {h: [x]}, phases: [{target: A, users: 1, for: 1s}]}",
            "expected an IPv4 address",
        ),
        ("{version: 1, hosts: {h: []}, phases: [{target: A, users: 1, for: 1s}]}", "1 to 1000 addresses"),
        (
            "{version: 1, behaviour: {A: {steps: [{compte: 1s}]}}, phases: [{target: A, users: 1, for: 1s}]}",
            "did you mean `compute`?",
        ),
        (
            "{version: 1, behaviour: {A: {steps: [{compute: 1s, sleep: 1s}]}}, phases: [{target: A, users: 1, for: 1s}]}",
            "one step does one thing",
        ),
    ] {
        let said = said(text);
        assert!(said.iter().any(|line| line.contains(expected)), "{text}: {said:?}");
    }
}

proptest! {
    #[test]
    fn no_change_of_a_load_panics(from in 0usize..1200, length in 0usize..40, text in "[ -~\n]{0,12}") {
        let mut changed = WHOLE.to_owned();
        let from = from.min(changed.len());
        let to = (from + length).min(changed.len());
        changed.replace_range(from..to, &text);
        let _ = Load::read("load.yaml", &changed);
    }
}

#[test]
fn queries_are_read_and_wrong_ones_named() {
    let load = Load::read("load.yaml", WHOLE).unwrap();
    let query = load.behaviour[0].queries().next().unwrap();
    assert_eq!(
        (&*query.database.text, query.count, query.transaction, query.pins),
        ("OrdersProxy", 3, true, false)
    );
    for (query, expected) in [
        ("{}", "`query` needs `database`"),
        ("{database: Orders}", "`query` needs `for`"),
        ("{database: Orders, for: 4}", "expected a duration"),
        ("{database: Orders, for: 4ms, count: 0}", "the number of statements is 0"),
        ("{database: Orders, for: 4ms, pins: perhaps}", "expected true or false"),
        ("{database: Orders, for: 4ms, pin: true}", "did you mean `pins`?"),
    ] {
        let said = said(&format!(
            "{{version: 1, behaviour: {{A: {{steps: [{{query: {query}}}]}}}}, \
             phases: [{{target: A, users: 1, for: 1s}}]}}"
        ));
        assert!(said.iter().any(|line| line.contains(expected)), "{query}: {said:?}");
    }
}

#[test]
fn a_function_streams_one_response_from_its_handler() {
    let load = |steps: &str| {
        format!("{{version: 1, behaviour: {{A: {{{steps}}}}}, phases: [{{target: A, users: 1, for: 1s}}]}}")
    };
    let whole = Load::read("load.yaml", &load("steps: [{compute: 1s}, {stream: 50MiB}]")).unwrap();
    assert_eq!(whole.behaviour[0].stream().unwrap().bytes, 50 << 20);
    for (steps, expected) in [
        ("steps: [{stream: 50}]", "expected a size with its unit"),
        ("steps: [{stream: 1MB}, {stream: 2MB}]", "an invocation has one response"),
        ("init: [{stream: 1MB}]", "INIT sends no response"),
        ("steps: [{stream: 1MB, once: environment}]", "a `stream` has no `once`"),
        ("steps: [{stream: 1MB, sleep: 1s}]", "one step does one thing"),
    ] {
        let said = said(&load(steps));
        assert!(said.iter().any(|line| line.contains(expected)), "{steps}: {said:?}");
    }
}

#[test]
fn wrong_connects_are_named() {
    for (connect, expected) in [
        ("{}", "`connect` needs `to`"),
        ("cache", "expected a mapping"),
        ("{to: cache}", "`cache` names no port"),
        ("{to: 'cache:0'}", "names no port"),
        ("{to: 'cache:65536'}", "names no port"),
        ("{to: ':443'}", "names no port"),
        ("{to: '[2001:db8::1]:443'}", "no host name or IPv4 address"),
        ("{to: 'https://cache:443'}", "no host name or IPv4 address"),
        ("{to: 'cache:443', count: 0}", "the number of connections is 0"),
        ("{to: 'cache:443', count: 10001}", "the number of connections is 10001"),
        ("{to: 'cache:443', hold: forever}", "expected invocation, environment, or a duration"),
        ("{to: 'cache:443', timeout: 5}", "expected a duration"),
        ("{to: 'cache:443', retry: {delay: 3s}}", "`retry` needs `attempts`"),
        ("{to: 'cache:443', retry: {attempts: 0}}", "the number of attempts is 0"),
        ("{to: 'cache:443', bytes: many}", "expected a size"),
        ("{to: 'cache:443', holds: environment}", "did you mean `hold`?"),
    ] {
        let said = said(&format!(
            "{{version: 1, behaviour: {{A: {{steps: [{{connect: {connect}}}]}}}}, \
             phases: [{{target: A, users: 1, for: 1s}}]}}"
        ));
        assert!(said.iter().any(|line| line.contains(expected)), "{connect}: {said:?}");
    }
}

#[test]
fn wrong_calls_and_retries_are_named() {
    for (call, expected) in [
        ("{}", "a call needs either `function` (one of the template) or `to` (a service of AWS)"),
        ("{function: B, to: ssm}", "a call needs either"),
        ("{functoin: B}", "did you mean `function`?"),
        ("{function: B, retry: adaptive}", "expected one of none, standard"),
        ("{function: B, for: 3s}", "the key `for` does not exist"),
        ("{function: [B]}", "expected text"),
        ("{to: 'https://ssm'}", "a service of AWS as its host name begins"),
        ("{to: ''}", "a service of AWS as its host name begins"),
        ("{to: ssm, for: NaN}", "expected a duration"),
        ("{to: ssm, hold: ever}", "expected invocation, environment"),
        ("{to: ssm, retry: none}", "the key `retry` does not exist"),
    ] {
        let said = said(&format!(
            "{{version: 1, behaviour: {{A: {{steps: [{{call: {call}}}]}}}}, \
             phases: [{{target: A, users: 1, for: 1s}}]}}"
        ));
        assert!(said.iter().any(|line| line.contains(expected)), "{call}: {said:?}");
    }
    let said = said("version: 1\nretry: standart\nphases: [{target: A, users: 1, for: 1s, retry: always}]\n");
    assert!(said[0].ends_with("(did you mean `standard`?)"), "{said:?}");
    assert!(said[1].starts_with("load.yaml:3:48: expected one of none, standard, adaptive"), "{said:?}");
}
