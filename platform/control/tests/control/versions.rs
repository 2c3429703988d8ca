//! Versions and aliases: numbers, what makes a new one, weights, and that all of it is still there after a restart.

use crate::bench::{Bench, code, create};
use control::{
    AliasSettings, Control, Deploy, DeployCode, ErrorCode, Function, PublishVersion, RoutingSettings,
    Settings, UpdateFunctionCode, UpdateFunctionConfiguration,
};
use std::sync::Arc;

fn publish(control: &Control, name: &str) -> Arc<Function> {
    control.publish(name, PublishVersion::default()).unwrap()
}

fn update(control: &Control, name: &str, text: &str) -> Arc<Function> {
    let request = UpdateFunctionCode { code: code(text), ..UpdateFunctionCode::default() };
    control.update_code(name, request).unwrap()
}

fn alias(name: &str, version: &str, weights: &[(&str, f64)]) -> AliasSettings {
    let weights = weights.iter().map(|(version, weight)| ((*version).to_owned(), *weight)).collect();
    AliasSettings {
        name: Some(name.to_owned()),
        function_version: Some(version.to_owned()),
        routing_config: Some(RoutingSettings { additional_version_weights: Some(weights) }),
        ..AliasSettings::default()
    }
}

#[test]
fn numbers_go_up_and_nothing_new_makes_no_new_version() {
    let bench = Bench::new();
    let control = &bench.control;
    control.create(create("cart", "one")).unwrap();
    let first = publish(control, "cart");
    assert_eq!((first.version.as_str(), first.published.last_version), ("1", 0));
    assert_eq!(publish(control, "cart").version, "1");
    // Changed and changed back: the content counts.
    update(control, "cart", "two");
    update(control, "cart", "one");
    assert_eq!(publish(control, "cart").version, "1");
    update(control, "cart", "two");
    assert_eq!(publish(control, "cart").version, "2");
    control.delete("cart", Some("2")).unwrap();
    assert_eq!(publish(control, "cart").version, "3", "a number is never used twice");
    let shown: Vec<String> =
        control.versions("cart").unwrap().iter().map(|version| version.version.clone()).collect();
    assert_eq!(shown, ["$LATEST", "1", "3"]);
}

#[test]
fn a_version_keeps_its_code_and_settings_and_survives_a_restart() {
    let bench = Bench::new();
    bench.control.create(create("cart", "one")).unwrap();
    let first = publish(&bench.control, "cart");
    update(&bench.control, "cart", "two");
    let settings = Settings { timeout: Some(77), ..Settings::default() };
    let request = UpdateFunctionConfiguration { settings, ..UpdateFunctionConfiguration::default() };
    bench.control.update_configuration("cart", request).unwrap();
    publish(&bench.control, "cart");
    bench.control.create_alias("cart", alias("live", "2", &[("1", 0.5)])).unwrap();
    let before = bench.control.function("cart").unwrap();
    assert_eq!(bench.packages(), 2);
    let bench = bench.again();
    let after = bench.control.function("cart").unwrap();
    assert_eq!(after.published, before.published);
    assert_eq!(*after.published.versions[&1], *first);
    assert_eq!(std::fs::read_to_string(after.published.versions[&1].code.join("index.py")).unwrap(), "one");
    assert_eq!(bench.control.resolve("cart:live", None).unwrap().timeout.as_secs(), 77);
    assert_eq!(bench.control.resolve("cart", Some("1")).unwrap().timeout.as_secs(), 3);
    bench.control.delete("cart", None).unwrap();
    let bench = bench.again();
    assert!(bench.control.functions().is_empty());
    assert_eq!(bench.packages(), 0, "the versions' code went with the function");
}

#[test]
fn a_version_of_a_folder_does_not_follow_it() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index.py");
    std::fs::write(&file, "one").unwrap();
    std::os::unix::fs::symlink("index.py", folder.path().join("inside")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("outside")).unwrap();
    let settings = Settings {
        runtime: Some("python3.13".to_owned()),
        handler: Some("index.handler".to_owned()),
        ..Settings::default()
    };
    let code = DeployCode::Folder(folder.path().to_owned());
    bench.control.deploy(Deploy { name: "cart".to_owned(), code, settings, ..Deploy::default() }).unwrap();
    let version = publish(&bench.control, "cart");
    assert_eq!(publish(&bench.control, "cart").version, "1");
    std::fs::write(&file, "two, and longer").unwrap();
    let read = |name: &str| std::fs::read_to_string(version.code.join(name)).ok();
    assert_eq!((read("index.py"), read("inside")), (Some("one".to_owned()), Some("one".to_owned())));
    assert!(std::fs::symlink_metadata(version.code.join("outside")).is_err());
}

#[test]
fn only_the_expected_revision_and_code_are_published() {
    let bench = Bench::new();
    let made = bench.control.create(create("cart", "one")).unwrap();
    let ask = |sha: Option<&str>, revision: Option<&str>| {
        let request = PublishVersion {
            code_sha256: sha.map(str::to_owned),
            revision_id: revision.map(str::to_owned),
            ..PublishVersion::default()
        };
        bench
            .control
            .publish("cart", request)
            .map(|version| version.version.clone())
            .map_err(|error| error.code)
    };
    assert_eq!(ask(Some("other"), None), Err(ErrorCode::InvalidParameterValue));
    assert_eq!(ask(None, Some("other")), Err(ErrorCode::PreconditionFailed));
    assert_eq!(ask(Some(&made.code_sha256), Some(&made.revision_id)), Ok("1".to_owned()));
}

#[test]
fn aliases_stand_only_for_what_is_there() {
    let bench = Bench::new();
    let control = &bench.control;
    control.create(create("cart", "one")).unwrap();
    publish(control, "cart");
    update(control, "cart", "two");
    publish(control, "cart");
    let refused = |settings| control.create_alias("cart", settings).unwrap_err().message;
    assert!(refused(alias("live", "9", &[])).ends_with(":cart:9"));
    assert_eq!(
        refused(alias("live", "$LATEST", &[("1", 0.1)])),
        "$LATEST is not supported for an alias pointing to more than 1 version"
    );
    assert_eq!(
        refused(alias("live", "1", &[("1", 0.1)])),
        "Invalid function version 1. Function version 1 is already included in routing configuration."
    );
    assert!(refused(alias("live", "1", &[("2", 1.5)])).contains("less than or equal to 1.0"));
    assert!(refused(alias("7", "1", &[])).contains("'name' failed to satisfy constraint"));
    control.create_alias("cart", alias("live", "1", &[("2", 0.1)])).unwrap();
    assert_eq!(
        control.create_alias("cart", alias("live", "1", &[])).unwrap_err().code,
        ErrorCode::ResourceConflict
    );
    control.create_alias("cart", alias("next", "2", &[])).unwrap();
    let error = control.delete("cart", Some("2")).unwrap_err();
    let words = "Unable to delete version because the following aliases reference it: [live, next]";
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::ResourceConflict, words));
    control.delete_alias("cart", "next").unwrap();
    let (_, live) = control.update_alias("cart", "live", alias("live", "2", &[])).unwrap();
    assert_eq!((live.version.as_str(), &live.routing), ("2", &None));
    let stale = AliasSettings { revision_id: Some("other".to_owned()), ..AliasSettings::default() };
    assert_eq!(control.update_alias("cart", "live", stale).unwrap_err().code, ErrorCode::PreconditionFailed);
    for _ in 0..2 {
        assert!(control.delete("cart", Some("1")).unwrap().is_none(), "the second finds nothing, as on AWS");
    }
    control.delete_alias("cart", "live").unwrap();
    control.delete_alias("cart", "live").unwrap();
    assert!(control.alias("cart", "live").unwrap_err().message.starts_with("Cannot find alias arn: "));
}
