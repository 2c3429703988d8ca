//! Creating, changing, deploying and deleting functions.

use crate::bench::{Bench, code, create};
use control::*;
use std::sync::Arc;

#[test]
fn changes_are_told_in_order_with_new_version_keys() {
    let bench = Bench::new();
    let control = &bench.control;
    control.create(create("cart", "one")).unwrap();
    control.update_code("cart", UpdateFunctionCode { code: code("two"), ..Default::default() }).unwrap();
    let settings = Settings { memory_size: Some(256), ..Default::default() };
    control
        .update_configuration("cart", UpdateFunctionConfiguration { settings, ..Default::default() })
        .unwrap();
    control.put_concurrency("cart", Some(5)).unwrap();
    control.put_concurrency("cart", Some(5)).unwrap();
    control
        .tag("arn:aws:lambda:us-east-1:000000000000:function:cart", Some([("a".into(), "b".into())].into()))
        .unwrap();
    control.delete_concurrency("cart").unwrap();
    control.delete("cart", None).unwrap();
    control.create(create("cart", "one")).unwrap();
    let wanted = [
        "put cart 1",
        "put cart 2",
        "put cart 3",
        "reserved cart Some(5)",
        "put cart 3",
        "reserved cart None",
        "removed cart",
        "put cart 4",
    ];
    assert_eq!(bench.heard(), wanted);
    let bench = bench.again();
    bench.control.delete("cart", None).unwrap();
    let bench = bench.again();
    assert_eq!(bench.control.create(create("cart", "one")).unwrap().version_key, 5);
}

#[test]
fn of_many_creators_of_one_name_one_wins() {
    let bench = Bench::new();
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|index| {
                let control = &bench.control;
                scope.spawn(move || control.create(create("cart", &index.to_string())).is_ok())
            })
            .collect();
        threads.into_iter().filter(|_| true).map(|thread| thread.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    assert_eq!(bench.packages(), 1);
}

#[test]
fn an_update_of_another_revision_is_refused() {
    let bench = Bench::new();
    let one = bench.control.create(create("cart", "one")).unwrap();
    let update = |revision: &str| {
        let request = UpdateFunctionCode {
            revision_id: Some(revision.to_owned()),
            code: code("two"),
            ..Default::default()
        };
        bench.control.update_code("cart", request)
    };
    let two = update(&one.revision_id).unwrap();
    assert_ne!(one.revision_id, two.revision_id);
    assert_eq!(update(&one.revision_id).unwrap_err().code, ErrorCode::PreconditionFailed);
}

#[test]
fn a_dry_run_changes_nothing() {
    let bench = Bench::new();
    let before = bench.control.create(create("cart", "one")).unwrap();
    let request = UpdateFunctionCode { dry_run: Some(true), code: code("two"), ..Default::default() };
    let answer = bench.control.update_code("cart", request).unwrap();
    assert_ne!(answer.code_sha256, before.code_sha256);
    drop(answer);
    assert_eq!(*bench.control.function("cart").unwrap(), *before);
    assert_eq!(bench.packages(), 1);
}

#[test]
fn settings_out_of_range_are_all_named() {
    let bench = Bench::new();
    let mut request = create("cart", "one");
    request.settings.timeout = Some(901);
    request.settings.memory_size = Some(127);
    request.settings.ephemeral_storage = Some(EphemeralStorage { size: Some(10_241) });
    request.settings.handler = Some("has space".to_owned());
    let error = bench.control.create(request).unwrap_err();
    assert_eq!(error.code, ErrorCode::Validation);
    assert!(error.message.starts_with("4 validation errors detected: "), "{error}");
    for text in [
        "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
        "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
        "Value '10241' at 'ephemeralStorage.size'",
        "Value 'has space' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+",
    ] {
        assert!(error.message.contains(text), "{error}");
    }
}

#[test]
fn reservations_leave_the_floor_alone() {
    let bench = Bench::new();
    for name in ["a", "b"] {
        bench.control.create(create(name, "x")).unwrap();
    }
    bench.control.put_concurrency("a", Some(500)).unwrap();
    bench.control.put_concurrency("b", Some(400)).unwrap();
    let error = bench.control.put_concurrency("b", Some(401)).unwrap_err();
    assert_eq!(
        error.message,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
    );
    assert_eq!(bench.control.unreserved_concurrency(), 100);
    bench.control.put_concurrency("a", Some(0)).unwrap();
    bench.control.put_concurrency("b", Some(900)).unwrap();
    assert!(bench.control.put_concurrency("a", Some(-1)).is_err());
    assert!(bench.control.put_concurrency("a", Some(i64::MAX)).is_err());
    assert!(bench.control.put_concurrency("none", Some(1)).is_err());
}

fn deploy(name: &str, folder: &std::path::Path) -> Deploy {
    Deploy {
        name: name.to_owned(),
        logical_id: Some("CartFunction".to_owned()),
        code: DeployCode::Folder(folder.to_owned()),
        settings: Settings {
            runtime: Some("python3.13".to_owned()),
            handler: Some("index.handler".to_owned()),
            ..Settings::default()
        },
        url: Some(UrlSettings { auth_type: Some(AuthType::None), ..UrlSettings::default() }),
        ..Deploy::default()
    }
}

#[test]
fn deploying_twice_keeps_environments_and_deploying_a_change_does_not() {
    let bench = Bench::new();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("index.py"), "one").unwrap();
    let request = deploy("cart", source.path());
    let one = bench.control.deploy(request.clone()).unwrap();
    assert_eq!(one.code, source.path().canonicalize().unwrap());
    let bench = bench.again();
    let again = bench.control.deploy(request.clone()).unwrap();
    assert_eq!(
        (one.version_key, &one.url, &one.revision_id),
        (again.version_key, &again.url, &again.revision_id)
    );
    assert!(bench.heard().is_empty());

    bench.control.deploy(Deploy { reserved: Some(3), ..request.clone() }).unwrap();
    assert_eq!(bench.heard(), ["reserved cart Some(3)"]);
    bench.control.deploy(Deploy { url: None, reserved: Some(3), ..request.clone() }).unwrap();
    assert_eq!(bench.heard(), ["put cart 1"]);
    std::fs::write(source.path().join("more.py"), "two").unwrap();
    bench.control.deploy(request.clone()).unwrap();
    assert_eq!(bench.heard(), ["put cart 2"]);
    let mut request = request;
    request.settings.timeout = Some(7);
    bench.control.deploy(request.clone()).unwrap();
    assert_eq!(bench.heard(), ["put cart 3"]);
    request.settings.timeout = None;
    assert_eq!(bench.control.deploy(request).unwrap().timeout.as_secs(), 3);
    assert_eq!(bench.packages(), 0);
}

#[test]
fn names_in_every_form_find_the_function() {
    let bench = Bench::new();
    let cart = bench.control.create(create("cart", "one")).unwrap();
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:cart";
    for text in ["cart", "cart:$LATEST", "function:cart", "000000000000:function:cart", arn] {
        assert!(Arc::ptr_eq(&bench.control.resolve(text, None).unwrap(), &cart), "{text}");
        assert!(bench.control.resolve(text, Some("$LATEST")).is_ok(), "{text}");
    }
    let message = |text: &str, qualifier| bench.control.resolve(text, qualifier).unwrap_err().message;
    assert_eq!(message("cart", Some("live")), format!("Function not found: {arn}:live"));
    assert_eq!(
        message("arn:aws:lambda:eu-west-1:000000000000:function:cart", None),
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
    );
    assert_eq!(
        message("cart:live", Some("$LATEST")),
        "The derived qualifier from the function name does not match the specified qualifier."
    );
    // Another account's function is no different from none.
    assert_eq!(
        message("arn:aws:lambda:us-east-1:111111111111:function:cart", None),
        "Function not found: arn:aws:lambda:us-east-1:111111111111:function:cart"
    );
}

#[test]
fn runtimes_that_cannot_run_name_the_way_out() {
    let bench = Bench::new();
    for runtime in ["java21", "dotnet8", "ruby3.4"] {
        let mut request = create("cart", "one");
        request.settings.runtime = Some(runtime.to_owned());
        let error = bench.control.create(request).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidParameterValue);
        assert!(error.message.contains("container image"), "{error}");
    }
    assert_eq!(bench.packages(), 0);
}

#[test]
fn what_becomes_of_events_is_kept_by_qualifier() {
    let bench = Bench::new();
    bench.control.create(create("cart", "one")).unwrap();
    assert_eq!(
        bench.control.get_event_invoke("cart", None).unwrap_err().message,
        "The function arn:aws:lambda:us-east-1:000000000000:function:cart:$LATEST doesn't have an EventInvokeConfig"
    );
    let queue = Some("arn:aws:sqs:us-east-1:000000000000:failed".to_owned());
    let config = EventInvokeConfig { on_failure: queue, maximum_event_age: Some(60), ..Default::default() };
    bench.control.put_event_invoke("cart", None, config.clone()).unwrap();
    assert_eq!(bench.heard(), ["put cart 1", "put cart 1"], "environments stay");
    let bench = bench.again();
    let (_, kept) = bench.control.get_event_invoke("cart", Some("$LATEST")).unwrap();
    assert!(kept.last_modified_ms > 0);
    assert_eq!(EventInvokeConfig { last_modified_ms: 0, ..kept }, config);
    let wrong = EventInvokeConfig { maximum_retry_attempts: Some(3), ..Default::default() };
    assert_eq!(bench.control.put_event_invoke("cart", None, wrong).unwrap_err().code, ErrorCode::Validation);
    bench.control.delete_event_invoke("cart", None).unwrap();
    assert!(bench.control.delete_event_invoke("cart", None).is_err());
}
