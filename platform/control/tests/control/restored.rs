//! After a deployment that failed everything is as it was: functions, their versions and layers, also after a restart.

use crate::bench::{Bench, create};
use control::{
    Around, Control, Deploy, DeployAlias, DeployCode, DeployLayer, DeployVersion, Function, Settings,
};
use std::sync::Arc;

fn deploy(control: &Control, name: &str, text: &str) -> Arc<Function> {
    let settings = Settings {
        runtime: Some("python3.13".to_owned()),
        handler: Some("index.handler".to_owned()),
        ..Settings::default()
    };
    // As `AutoPublishAlias: live` makes it.
    let version = DeployVersion { id: "Version".to_owned(), follows: true, ..DeployVersion::default() };
    let alias = DeployAlias { name: "live".to_owned(), version: "1".to_owned(), ..DeployAlias::default() };
    let request = Deploy {
        name: name.to_owned(),
        logical_id: Some(name.to_owned()),
        code: DeployCode::Inline(text.to_owned()),
        settings,
        around: Around { versions: vec![version], aliases: vec![alias], ..Around::default() },
        ..Deploy::default()
    };
    control.deploy(request).unwrap()
}

fn code_of(control: &Control, name: &str, qualifier: &str) -> String {
    let version = control.function(name).unwrap().route(qualifier).unwrap().version;
    std::fs::read_to_string(version.code.join("index.py")).unwrap()
}

#[test]
fn what_came_goes_and_what_changed_or_went_comes_back_with_its_versions() {
    let bench = Bench::new();
    let control = &bench.control;
    for name in ["changed", "gone", "untouched"] {
        deploy(control, name, "before");
    }
    control.create(create("by-api", "before")).unwrap();
    let before = control.functions();
    deploy(control, "changed", "after");
    deploy(control, "made", "after");
    control.create(create("by-api-too", "after")).unwrap();
    control.delete("gone", None).unwrap();
    bench.heard();

    control.restore(&before).unwrap();
    let heard = bench.heard();
    assert_eq!(heard.len(), 3, "nobody hears of what was not touched: {heard:?}");
    let names: Vec<String> = control.functions().iter().map(|function| function.name.clone()).collect();
    assert_eq!(names, ["by-api", "by-api-too", "changed", "gone", "untouched"]);
    control.restore(&control.functions()).unwrap();
    assert!(bench.heard().is_empty(), "there is nothing to put back");

    drop(before);
    let bench = bench.again();
    let control = &bench.control;
    for name in ["changed", "gone", "untouched"] {
        assert_eq!([code_of(control, name, "$LATEST"), code_of(control, name, "live")], ["before", "before"]);
        let kept = control.function(name).unwrap();
        assert_eq!(kept.published.versions.keys().collect::<Vec<_>>(), [&1], "{name}");
        // The same template again changes nothing.
        assert_eq!(deploy(control, name, "before").revision_id, kept.revision_id, "{name}");
    }
    let next = deploy(control, "changed", "after");
    assert_eq!(next.published.last_version, 3, "a number is never used twice");
    let code: Vec<_> = ["changed", "gone"].iter().map(|name| code_of(control, name, "live")).collect();
    assert_eq!(code, ["after", "before"]);
}

#[test]
fn versions_of_layers_come_back_and_go_too() {
    let files = tempfile::tempdir().unwrap();
    let data = files.path().join("data");
    let layer = |name: &str| DeployLayer {
        name: name.to_owned(),
        code: DeployCode::Folder(files.path().to_owned()),
        ..DeployLayer::default()
    };
    let bench = Bench::new();
    let control = &bench.control;
    std::fs::write(&data, "before").unwrap();
    let first = control.deploy_layer(&layer("shared")).unwrap();
    let before = control.layers();
    std::fs::write(&data, "after, and longer").unwrap();
    let second = control.deploy_layer(&layer("shared")).unwrap();
    let made = control.deploy_layer(&layer("made")).unwrap();
    control.restore_layers(&before).unwrap();
    let bench = bench.again();
    let there = [&first, &second, &made].map(|layer| bench.control.layer_by_arn(&layer.arn).is_ok());
    assert_eq!(there, [true, false, false]);
}
