//! Published versions: environments of their own under the limits of their function.

use super::Dispatcher;
use crate::decision::{Decision, Effect, Outcome};
use crate::environments::EnvironmentId;
use crate::functions::FunctionId;
use crate::settings::{FunctionLimits, Scaling, Settings, Sources};
use model::{Instant, LimitId};
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(1);

fn settings() -> Settings {
    Settings {
        account_concurrency: 10,
        unreserved_minimum: 0,
        scaling: Scaling { burst: None, environments_per_10s: Some(1_000) },
        request_rate: u32::MAX,
        requests_per_concurrency: 10,
        idle_timeout: Duration::from_secs(600),
        environment_lifetime: Duration::from_secs(14 * 3600),
        sources: Sources::default(),
    }
}

fn bench(reserved: Option<u32>) -> (Dispatcher, FunctionId, FunctionId) {
    let mut dispatcher = Dispatcher::new(settings());
    let timeout = Duration::from_secs(3);
    let function =
        dispatcher.add_function(NOW, FunctionLimits { resource: "cart".into(), reserved, timeout });
    let version = dispatcher.add_version(NOW, function, timeout).unwrap();
    (dispatcher, function, version)
}

fn start(dispatcher: &mut Dispatcher, id: FunctionId) -> EnvironmentId {
    match dispatcher.invoke(NOW, id) {
        Decision::Start(environment) => {
            dispatcher.started(NOW, environment);
            environment
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_has_environments_of_its_own() {
    let (mut dispatcher, function, version) = bench(None);
    let one = start(&mut dispatcher, function);
    dispatcher.finished(NOW, one, Outcome::Done, &mut Vec::new());
    let two = start(&mut dispatcher, version);
    dispatcher.finished(NOW, two, Outcome::Done, &mut Vec::new());
    assert_eq!(dispatcher.invoke(NOW, version), Decision::Run(two));
    assert_eq!(dispatcher.invoke(NOW, function), Decision::Run(one));
    assert_eq!((dispatcher.counts(function).environments, dispatcher.counts(version).environments), (2, 1));
    let mut effects = Vec::new();
    dispatcher.finished(NOW, one, Outcome::Done, &mut effects);
    assert!(dispatcher.retire_version(NOW, function, &mut effects));
    assert_eq!(effects, [Effect::Reap(one)], "the published version stays");
}

#[test]
fn a_version_counts_in_its_functions_reservation() {
    let (mut dispatcher, function, version) = bench(Some(1));
    let busy = start(&mut dispatcher, version);
    for id in [function, version] {
        let Decision::Refuse(refusal) = dispatcher.invoke(NOW, id) else { panic!("not refused") };
        assert_eq!((refusal.limit, &*refusal.resource), (LimitId::ReservedConcurrency, "cart"));
    }
    dispatcher.finished(NOW, busy, Outcome::Done, &mut Vec::new());
    start(&mut dispatcher, function);
    let rows = dispatcher.board(NOW);
    assert_eq!(rows.iter().filter(|row| row.id == LimitId::ReservedConcurrency).count(), 1);
}

#[test]
fn provisioned_concurrency_of_a_version_is_taken_from_its_function_and_spills_to_the_version() {
    let (mut dispatcher, function, version) = bench(Some(3));
    let mut effects = Vec::new();
    let pool = dispatcher.provision(NOW, version, "1", 1, &mut effects).unwrap();
    assert!(dispatcher.provision(NOW, version, "2", 3, &mut effects).is_err(), "3 are reserved");
    let [Effect::Provision(ready)] = effects[..] else { panic!("{effects:?}") };
    assert!(dispatcher.started(NOW, ready) && dispatcher.is_idle(ready));
    assert_eq!(dispatcher.invoke(NOW, pool), Decision::Run(ready));
    let Decision::Start(spilled) = dispatcher.invoke(NOW, pool) else { panic!("not started") };
    assert_eq!(dispatcher.function_of(spilled), Some(version));
    assert_eq!(dispatcher.counts(function).environments, 2);
    let mut effects = Vec::new();
    dispatcher.finished(NOW, ready, Outcome::Done, &mut effects);
    assert!(dispatcher.remove_function(NOW, function, &mut effects));
    assert_eq!(effects, [Effect::Reap(ready)]);
    assert_eq!(dispatcher.invoke(NOW, version), Decision::NoFunction);
    dispatcher.finished(NOW, spilled, Outcome::Done, &mut effects);
    assert_eq!((dispatcher.environments(), dispatcher.in_flight(), dispatcher.stale_calls()), (0, 0, 1));
    // Both slots are free again, and nothing of the old ones is left in them.
    let again = dispatcher.add_function(
        NOW,
        FunctionLimits { resource: "new".into(), reserved: None, timeout: Duration::from_secs(1) },
    );
    assert_eq!(dispatcher.counts(again).environments, 0);
    start(&mut dispatcher, again);
}
