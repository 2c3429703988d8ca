//! The map is true: ARCHITECTURE.md names every room, and the arrows between rooms point one way.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a panic")]

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rooms of the platform that others of the platform may know.
const SHARED_PLATFORM: [&str; 3] = ["telemetry", "control", "netdev"];
/// Rooms that `invoke` drives: it is their one customer besides the binary.
const DRIVEN_BY_INVOKE: [&str; 3] = ["sandbox", "runtime_api", "runtimes"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    metadata.packages
}

/// `engines/model`, `platform/doors`, `plan`, …
fn room(package: &Package) -> String {
    let folder = package.manifest_path.parent().unwrap();
    folder.strip_prefix(root().to_str().unwrap()).unwrap().to_string()
}

/// The rooms that a package depends on, dev-dependencies left out.
fn arrows<'a>(package: &Package, all: &'a [Package]) -> Vec<&'a Package> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    normal.filter_map(|dependency| all.iter().find(|other| *other.name == dependency.name)).collect()
}

#[test]
fn architecture_names_every_room_and_no_other() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once("/` |"))
        .map(|(room, _)| room.to_owned())
        .collect();
    let there: BTreeSet<String> = packages().iter().map(room).collect();
    assert_eq!(named, there, "left: ARCHITECTURE.md's table of rooms; right: the folders with a manifest");
}

#[test]
fn the_documentation_names_every_limit() {
    let text = std::fs::read_to_string(root().join("docs/limits.md")).unwrap();
    for limit in model::LimitId::ALL {
        assert!(text.contains(&format!("`{limit}`")), "docs/limits.md does not name {limit}");
    }
}

#[test]
fn arrows_point_one_way() {
    let all = packages();
    for package in &all {
        let from = room(package);
        for target in arrows(package, &all) {
            let to = room(target);
            let name = target.name.as_str();
            let allowed = match from.split('/').next().unwrap() {
                "engines" => to.starts_with("engines/") && (name == "model" || from != "engines/model"),
                "plan" => to.starts_with("engines/"),
                "platform" => {
                    to.starts_with("engines/")
                        || SHARED_PLATFORM.contains(&name)
                        || (*package.name == "invoke" && DRIVEN_BY_INVOKE.contains(&name))
                        || (*package.name == "doors" && ["invoke", "events"].contains(&name))
                        || (*package.name == "events" && name == "invoke")
                }
                "bin" | "tests" | "benches" => true,
                other => panic!("{other} is no layer"),
            };
            assert!(allowed, "{from} must not know {to}");
        }
    }
}

#[test]
fn the_planner_needs_no_socket_and_no_runtime() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap();
    let resolve = metadata.resolve.as_ref().unwrap();
    let id = &metadata.packages.iter().find(|package| *package.name == "plan").unwrap().id;
    let mut seen = BTreeSet::new();
    let mut open = vec![id.clone()];
    while let Some(id) = open.pop() {
        let node = resolve.nodes.iter().find(|node| node.id == id).unwrap();
        let normal = |dependency: &&cargo_metadata::NodeDep| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        };
        for dependency in node.deps.iter().filter(normal) {
            let package = metadata.packages.iter().find(|package| package.id == dependency.pkg).unwrap();
            if seen.insert(package.name.to_string()) {
                open.push(dependency.pkg.clone());
            }
        }
    }
    for banned in ["tokio", "hyper", "rustix", "socket2", "mio", "sandbox", "control", "redb"] {
        assert!(!seen.contains(banned), "plan must build anywhere, and {banned} is in its tree");
    }
}
