//! What a template says around a function: versions, aliases, provisioned concurrency, permissions, URLs of aliases and
//! layers; the same again after a restart, gone when the template has it no more.

use crate::bench::Bench;
use control::request::VpcSettings;
use control::{
    AddPermission, Around, AuthType, Control, Deploy, DeployAlias, DeployCode, DeployLayer, DeployVersion,
    Function, Settings, UpdateFunctionConfiguration, UrlSettings,
};
use std::path::Path;
use std::sync::Arc;

fn version(id: &str, follows: bool) -> DeployVersion {
    DeployVersion { id: id.to_owned(), follows, ..DeployVersion::default() }
}

fn alias(name: &str, version: &str) -> DeployAlias {
    DeployAlias { name: name.to_owned(), version: version.to_owned(), ..DeployAlias::default() }
}

/// An alias `live` that follows the function, as `AutoPublishAlias: live` makes it.
fn live() -> Around {
    Around {
        versions: vec![version("CartVersion", true)],
        aliases: vec![alias("live", "1")],
        ..Around::default()
    }
}

fn deploy(control: &Control, code: DeployCode, timeout: i64, around: &Around) -> Arc<Function> {
    let settings = Settings {
        runtime: Some("python3.13".to_owned()),
        handler: Some("index.handler".to_owned()),
        timeout: Some(timeout),
        ..Settings::default()
    };
    let request = Deploy {
        name: "cart".to_owned(),
        logical_id: Some("Cart".to_owned()),
        code,
        settings,
        around: around.clone(),
        ..Deploy::default()
    };
    control.deploy(request).unwrap()
}

fn inline(text: &str) -> DeployCode {
    DeployCode::Inline(text.to_owned())
}

fn folder(path: &Path) -> DeployCode {
    DeployCode::Folder(path.to_owned())
}

fn code_of(function: &Arc<Function>, qualifier: &str) -> String {
    let version = function.route(qualifier).unwrap().version;
    std::fs::read_to_string(version.code.join("index.py")).unwrap()
}

#[test]
fn an_alias_that_follows_gets_a_version_for_each_change_and_none_for_a_restart() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("index.py"), "one").unwrap();
    let bench = Bench::new();
    let first = deploy(&bench.control, folder(files.path()), 3, &live());
    assert_eq!((first.published.last_version, first.published.aliases["live"].version.as_str()), (1, "1"));
    assert_eq!(code_of(&first, "live"), "one");
    bench.heard();

    let bench = bench.again();
    let again = deploy(&bench.control, folder(files.path()), 3, &live());
    assert_eq!(again, first);
    assert!(bench.heard().is_empty(), "nothing was told, since nothing changed");

    // A changed setting is a new version, too, though the code is the same.
    let slower = deploy(&bench.control, folder(files.path()), 9, &live());
    assert_eq!((slower.published.last_version, slower.published.aliases["live"].version.as_str()), (2, "2"));
    assert_ne!(slower.published.aliases["live"].revision_id, first.published.aliases["live"].revision_id);
    assert_eq!(slower.route("1").unwrap().version.timeout.as_secs(), 3, "what is published stays");

    // An edit of the folder while it is served.
    std::fs::write(files.path().join("index.py"), "two, and longer").unwrap();
    assert!(bench.control.refresh_code("cart").unwrap());
    let edited = bench.control.function("cart").unwrap();
    assert_eq!((edited.published.last_version, code_of(&edited, "live").as_str()), (3, "two, and longer"));
    assert_eq!(code_of(&edited, "1"), "one");
    let bench = bench.again();
    let again = deploy(&bench.control, folder(files.path()), 9, &live());
    assert_eq!((again.published.last_version, again.revision_id.clone()), (3, edited.revision_id.clone()));

    // A day of saves: the last ten are kept, and nothing of the others after a restart.
    for save in 0..15 {
        std::fs::write(files.path().join("index.py"), format!("save {save}, {}", "x".repeat(save))).unwrap();
        assert!(bench.control.refresh_code("cart").unwrap());
    }
    let bench = bench.again();
    let kept: Vec<u64> = bench.control.function("cart").unwrap().published.versions.keys().copied().collect();
    assert_eq!(kept, (9..=18).collect::<Vec<u64>>());
    assert_eq!(bench.packages(), 10);
}

#[test]
fn a_version_of_the_template_is_published_once_and_weights_name_the_numbers_it_got() {
    let bench = Bench::new();
    let mut around = Around {
        versions: vec![version("One", false)],
        aliases: vec![alias("live", "1")],
        ..Around::default()
    };
    deploy(&bench.control, inline("one"), 3, &around);
    let changed = deploy(&bench.control, inline("two"), 3, &around);
    assert_eq!((changed.published.last_version, code_of(&changed, "live").as_str()), (1, "one"));

    around.versions.push(version("Two", false));
    around.aliases[0].routing = Some(("2".to_owned(), 0.25));
    let shared = deploy(&bench.control, inline("two"), 3, &around);
    assert_eq!(shared.published.aliases["live"].routing, Some(("2".to_owned(), 0.25)));
    assert_eq!(shared.route_by("live", || 0.1).unwrap().version.version, "2");

    // The first is gone from the template: the second is its first now, and keeps its number here.
    around.versions.remove(0);
    around.aliases[0].routing = None;
    let moved = deploy(&bench.control, inline("two"), 3, &around);
    assert_eq!(moved.published.aliases["live"].version, "2");
    assert!(moved.route("1").is_some(), "a version that the template drops is retained");

    around.aliases[0].version = "7".to_owned();
    let settings = Settings {
        runtime: Some("python3.13".to_owned()),
        handler: Some("i.h".to_owned()),
        ..Settings::default()
    };
    let request =
        Deploy { name: "cart".to_owned(), code: inline("two"), settings, around, ..Deploy::default() };
    assert!(bench.control.deploy(request).unwrap_err().message.ends_with("function:cart:7"));
}

#[test]
fn what_the_template_put_there_goes_with_it_and_what_the_api_put_there_stays() {
    let bench = Bench::new();
    let statement = |id: &str| AddPermission {
        statement_id: Some(id.to_owned()),
        action: Some("lambda:InvokeFunctionUrl".to_owned()),
        principal: Some("*".to_owned()),
        function_url_auth_type: Some("NONE".to_owned()),
        ..AddPermission::default()
    };
    let mut around = live();
    around.versions[0].provisioned = Some(1);
    around.aliases.push(alias("canary", "1"));
    around.permissions = vec![(None, statement("Own")), (Some("live".to_owned()), statement("Live"))];
    let url = UrlSettings { auth_type: Some(AuthType::None), ..UrlSettings::default() };
    around.urls.insert("live".to_owned(), url);
    let made = deploy(&bench.control, inline("one"), 3, &around);
    assert_eq!(made.published.provisioned["1"].requested, 1);
    assert_eq!(made.published.policies["live"][0].document["Resource"], format!("{}:live", made.arn));
    assert_eq!(made.published.urls["live"].id, control::url_id(&format!("{}:live", made.arn)));
    bench.control.add_permission("cart", None, &statement("FromOutside")).unwrap();

    let bench = bench.again();
    let before = bench.control.function("cart").unwrap();
    assert_eq!(deploy(&bench.control, inline("one"), 3, &around), before);

    let bare = deploy(&bench.control, inline("one"), 3, &live());
    assert!(bare.published.provisioned.is_empty() && bare.published.policies.is_empty());
    assert!(bare.published.urls.is_empty() && !bare.published.aliases.contains_key("canary"));
    let left: Vec<&str> = bare.policy.iter().map(|statement| statement.id.as_str()).collect();
    assert_eq!(left, ["FromOutside"]);
}

#[test]
fn more_provisioned_than_the_account_has_is_refused_in_awss_words() {
    let bench = Bench::new();
    let mut around = live();
    around.aliases[0].provisioned = Some(950);
    let settings = Settings {
        runtime: Some("python3.13".to_owned()),
        handler: Some("i.h".to_owned()),
        ..Settings::default()
    };
    let request =
        Deploy { name: "cart".to_owned(), code: inline("one"), settings, around, ..Deploy::default() };
    let error = bench.control.deploy(request).unwrap_err();
    assert!(error.message.contains("below its minimum value of [100]"), "{error}");
    assert!(bench.control.function("cart").is_none(), "nothing half-made");
}

#[test]
fn a_layer_is_published_when_it_changed_and_found_again_after_a_restart() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("data"), "one").unwrap();
    let layer =
        DeployLayer { name: "shared".to_owned(), code: folder(files.path()), ..DeployLayer::default() };
    let bench = Bench::new();
    let first = bench.control.deploy_layer(&layer).unwrap();
    assert!(first.arn.ends_with(":layer:shared:1"), "{}", first.arn);
    let bench = bench.again();
    assert_eq!(bench.control.deploy_layer(&layer).unwrap().arn, first.arn);
    assert_eq!(bench.control.layer_by_arn(&first.arn).unwrap().layer.path, first.path);
    std::fs::write(files.path().join("data"), "another").unwrap();
    let second = bench.control.deploy_layer(&layer).unwrap();
    assert!(second.arn.ends_with(":layer:shared:2"));
    assert!(bench.control.layer_by_arn(&first.arn).is_err(), "its files are no more");
}

#[test]
fn a_version_keeps_its_layers_as_they_were() {
    let files = tempfile::tempdir().unwrap();
    let data = files.path().join("data");
    std::fs::write(&data, "one").unwrap();
    let layer =
        DeployLayer { name: "shared".to_owned(), code: folder(files.path()), ..DeployLayer::default() };
    let bench = Bench::new();
    let deploy = |bench: &Bench| {
        let layers = vec![bench.control.deploy_layer(&layer).unwrap()];
        let settings = Settings {
            runtime: Some("python3.13".to_owned()),
            handler: Some("index.handler".to_owned()),
            ..Settings::default()
        };
        let request = Deploy {
            name: "cart".to_owned(),
            code: inline("code"),
            settings,
            layers,
            around: live(),
            ..Deploy::default()
        };
        bench.control.deploy(request).unwrap()
    };
    let read = |function: &Function| std::fs::read_to_string(function.layers[0].path.join("data")).unwrap();
    let first = deploy(&bench);
    assert_eq!(first.published.last_version, 1);
    let bench = bench.again();
    assert_eq!(deploy(&bench).published.last_version, 1, "nothing has changed");
    std::fs::write(&data, "another").unwrap();
    let second = deploy(&bench);
    assert_eq!(second.published.last_version, 2);
    let bench = bench.again();
    let third = bench.control.function("cart").unwrap();
    let version = |number: u64| read(&third.published.versions[&number]);
    assert_eq!((version(1), version(2), read(&third)), ("one".into(), "another".into(), "another".into()));
    let made = bench.control.publish("cart", control::PublishVersion::default()).unwrap();
    assert_eq!(made.version, "2", "what the template published is the same");
    std::fs::write(&data, "a third time").unwrap();
    assert_eq!((read(&made), read(&third)), ("another".into(), "a third time".into()));
    assert!(made.layers[0].arn.ends_with(":layer:shared:2"));
}

#[test]
fn to_learn_where_subnets_are_publishes_nothing_and_is_not_forgotten() {
    let bench = Bench::new();
    let control = &bench.control;
    let vpc = || VpcSettings {
        subnet_ids: Some(vec!["subnet-1".to_owned()]),
        security_group_ids: Some(vec!["sg-1".to_owned()]),
        ..VpcSettings::default()
    };
    let settings = || Settings {
        runtime: Some("python3.13".to_owned()),
        handler: Some("index.handler".to_owned()),
        vpc_config: Some(vpc()),
        ..Settings::default()
    };
    let request = || Deploy {
        name: "cart".to_owned(),
        code: inline("1"),
        settings: settings(),
        around: live(),
        ..Deploy::default()
    };
    let vpc_id = |function: &Function| function.vpc.as_ref().and_then(|vpc| vpc.vpc_id.clone());
    // As a data folder has it that is older than `VpcId`.
    let old = control.deploy(request()).unwrap();
    assert_eq!(vpc_id(&old), None);
    control.know_subnets([("subnet-1".to_owned(), "vpc-1".to_owned())].into());
    let new = control.deploy(request()).unwrap();
    assert_eq!(vpc_id(&new).as_deref(), Some("vpc-1"));
    assert_eq!(new.version_key, old.version_key, "its environments stay");
    assert_eq!(control.function("cart").unwrap().route("live").unwrap().version.version, "1");
    // A restart without the template knows no subnets.
    control.know_subnets([].into());
    for (described, subnet, known) in
        [("a", None, true), ("b", Some("subnet-1"), true), ("c", Some("subnet-2"), false)]
    {
        let subnet_ids = subnet.map(|id| vec![id.to_owned()]);
        let settings = Settings {
            description: Some(described.to_owned()),
            vpc_config: subnet_ids.map(|ids| VpcSettings { subnet_ids: Some(ids), ..vpc() }),
            ..Settings::default()
        };
        let request = UpdateFunctionConfiguration { settings, ..Default::default() };
        let now = control.update_configuration("cart", request).unwrap();
        assert_eq!(vpc_id(&now).is_some(), known, "{described}");
    }
}
