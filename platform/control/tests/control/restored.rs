//! After a deployment that failed everything is as it was: functions, their versions and layers, also after a restart.

use crate::bench::{Bench, create, options};
use crate::pack::Pack;
use control::package::{Unpacker, unpack};
use control::{
    Around, AuthType, Control, Deploy, DeployAlias, DeployCode, DeployLayer, DeployVersion, Deployment,
    Function, Settings, UpdateFunctionConfiguration, UrlSettings,
};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock, Weak};

fn deploy(control: &Control, name: &str, text: &str) -> Arc<Function> {
    control.deploy(request(name, text)).unwrap()
}

fn request(name: &str, text: &str) -> Deploy {
    let settings = Settings {
        runtime: Some("python3.13".to_owned()),
        handler: Some("index.handler".to_owned()),
        ..Settings::default()
    };
    // As `AutoPublishAlias: live` makes it.
    let version = DeployVersion { id: "Version".to_owned(), follows: true, ..DeployVersion::default() };
    let alias = DeployAlias { name: "live".to_owned(), version: "1".to_owned(), ..DeployAlias::default() };
    Deploy {
        name: name.to_owned(),
        logical_id: Some(name.to_owned()),
        code: DeployCode::Inline(text.to_owned()),
        settings,
        around: Around { versions: vec![version], aliases: vec![alias], ..Around::default() },
        ..Deploy::default()
    }
}

fn all_back(control: &Control, done: &Deployment) {
    let restored = control.restore(done);
    assert!(restored.left.is_empty() && restored.refused.is_empty(), "{restored:?}");
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
    let mut done = Deployment::default();
    for (name, text) in [("changed", "after"), ("made", "after"), ("untouched", "before")] {
        done.deploy(control, request(name, text)).unwrap();
    }
    control.create(create("by-api-too", "after")).unwrap();
    done.delete(control, "gone").unwrap();
    bench.heard();

    all_back(control, &done);
    let heard = bench.heard();
    assert_eq!(heard.len(), 3, "nobody hears of what was not touched: {heard:?}");
    let names: Vec<String> = control.functions().iter().map(|function| function.name.clone()).collect();
    assert_eq!(names, ["by-api", "by-api-too", "changed", "gone", "untouched"]);
    all_back(control, &Deployment::default());
    assert!(bench.heard().is_empty(), "there is nothing to put back");

    drop(done);
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
    let mut done = Deployment::default();
    std::fs::write(&data, "after, and longer").unwrap();
    let second = done.deploy_layer(control, &layer("shared")).unwrap();
    let made = done.deploy_layer(control, &layer("made")).unwrap();
    all_back(control, &done);
    let bench = bench.again();
    let there = [&first, &second, &made].map(|layer| bench.control.layer_by_arn(&layer.arn).is_ok());
    assert_eq!(there, [true, false, false]);
}

#[test]
fn what_gives_no_new_revision_comes_back_too() {
    let bench = Bench::new();
    let control = &bench.control;
    let url = |auth_type| {
        Some(UrlSettings { id: Some("url".to_owned()), auth_type: Some(auth_type), ..UrlSettings::default() })
    };
    for name in ["reserved", "made-public", "moved"] {
        control.deploy(Deploy { url: url(AuthType::AwsIam), ..request(name, "before") }).unwrap();
    }
    let before = control.functions();
    let mut done = Deployment::default();
    let throttled = Deploy { reserved: Some(0), url: url(AuthType::AwsIam), ..request("reserved", "before") };
    done.deploy(control, throttled).unwrap();
    done.deploy(control, Deploy { url: url(AuthType::None), ..request("made-public", "before") }).unwrap();
    let mut moved = Deploy { url: url(AuthType::AwsIam), ..request("moved", "before") };
    moved.around.aliases[0].description = "after".to_owned();
    done.deploy(control, moved).unwrap();
    let revisions = |all: &[Arc<Function>]| -> Vec<_> {
        all.iter().map(|function| function.revision_id.clone()).collect()
    };
    assert_eq!(revisions(&before), revisions(&control.functions()));
    assert!(before.iter().zip(control.functions()).all(|(before, after)| *before != after));
    bench.heard();
    all_back(control, &done);
    assert!(bench.heard().contains(&"reserved reserved None".to_owned()));
    assert_eq!(before, control.functions());
    assert_eq!(before, bench.again().control.functions());
}

#[test]
fn what_somebody_else_changed_meanwhile_is_left() {
    let bench = Bench::new();
    let control = &bench.control;
    for name in ["gone", "mine", "never", "removed"] {
        deploy(control, name, "before");
    }
    let describe = |name: &str| {
        let settings = Settings { description: Some("mine".to_owned()), ..Settings::default() };
        let wanted = UpdateFunctionConfiguration { settings, ..UpdateFunctionConfiguration::default() };
        control.update_configuration(name, wanted).unwrap();
    };
    let mut done = Deployment::default();
    for name in ["gone", "mine", "made", "made-and-gone"] {
        done.deploy(control, request(name, "after")).unwrap();
    }
    done.delete(control, "removed").unwrap();
    // Not touched by the deployment at all, and after it.
    ["never", "mine", "made"].iter().for_each(|name| describe(name));
    control.create(create("removed", "mine")).unwrap();
    for name in ["gone", "made-and-gone"] {
        control.delete(name, None).unwrap();
    }
    let before = control.functions();
    let restored = control.restore(&done);
    assert_eq!(restored.left, ["gone", "made", "mine", "removed"]);
    assert!(restored.refused.is_empty(), "{restored:?}");
    assert_eq!(before, control.functions());
}

#[test]
fn one_that_cannot_come_back_keeps_no_other_from_it() {
    let bench = Bench::new();
    let control = &bench.control;
    let reserving = |name: &str, reserved| Deploy { reserved, ..request(name, "before") };
    for (name, reserved) in [("a", 100), ("b", 300), ("c", 500)] {
        control.deploy(reserving(name, Some(reserved))).unwrap();
    }
    control.create(create("mine", "mine")).unwrap();
    let reservations =
        || -> Vec<_> { control.functions().iter().map(|function| function.reserved).collect() };
    let mut done = Deployment::default();
    // B can have its own again only once C gives back what it got.
    for (name, reserved) in [("a", None), ("b", Some(100)), ("c", Some(800))] {
        done.deploy(control, reserving(name, reserved)).unwrap_or_else(|_| panic!("{name}"));
    }
    control.deploy(reserving("unrelated", None)).unwrap();
    let restored = control.restore(&done);
    assert!(restored.refused.is_empty(), "{restored:?}");
    assert_eq!(reservations(), [Some(100), Some(300), Some(500), None, None]);

    let mut done = Deployment::default();
    for (name, reserved) in [("a", None), ("b", Some(299)), ("c", Some(400))] {
        done.deploy(control, reserving(name, reserved)).unwrap();
    }
    control.put_concurrency("mine", Some(100)).unwrap();
    let restored = control.restore(&done);
    let refused: Vec<_> = restored.refused.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(refused, ["c"]);
    assert_eq!(reservations(), [Some(100), Some(300), Some(400), Some(100), None]);
}

/// Unpacks, and gives the function `cart` settings through the API while it does.
pub struct Meanwhile {
    pub control: OnceLock<Weak<Control>>,
    settings: fn() -> Settings,
}

impl Meanwhile {
    pub fn giving(settings: fn() -> Settings) -> Arc<Self> {
        Arc::new(Self { control: OnceLock::new(), settings })
    }
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Meanwhile")
    }
}

impl Unpacker for Meanwhile {
    fn run(&self, order: &[u8], archive: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        if let Some(control) = self.control.get().and_then(Weak::upgrade) {
            let request = UpdateFunctionConfiguration { revision_id: None, settings: (self.settings)() };
            control.update_configuration("cart", request).unwrap();
        }
        Ok(unpack(order, archive.try_clone_to_owned()?, folder.try_clone_to_owned()?))
    }
}

#[test]
fn what_the_api_changed_while_a_deployment_was_on_its_way_comes_back_with_a_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let meanwhile = Meanwhile::giving(|| Settings { memory_size: Some(512), ..Settings::default() });
    let control = Control::open(options(folder.path()), Box::new(|_| {})).unwrap();
    let control = Arc::new(control.with_unpacker(Arc::clone(&meanwhile) as Arc<dyn Unpacker>));
    deploy(&control, "cart", "before");
    meanwhile.control.set(Arc::downgrade(&control)).unwrap();
    let mut done = Deployment::default();
    let code = DeployCode::Zip(Pack::of(&[("index.py", "after")]));
    let deployed = done.deploy(&control, Deploy { code, ..request("cart", "") }).unwrap();
    assert_eq!((deployed.memory_mb, code_of(&control, "cart", "$LATEST").as_str()), (128, "after"));
    all_back(&control, &done);
    let kept = control.function("cart").unwrap();
    assert_eq!((kept.memory_mb, code_of(&control, "cart", "$LATEST").as_str()), (512, "before"));
}
