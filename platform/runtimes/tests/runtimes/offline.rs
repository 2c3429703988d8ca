//! Without a network the packages are missing, the warning says which, and functions still run.

use std::process::Command;

use runtimes::Runtimes;

use crate::{functions, invoke};

/// Nothing listens on the discard port of loopback.
const DEAD: &str = "http://127.0.0.1:9/";

/// The variables must be set before the process starts: the other half runs as a child of this test.
#[test]
fn a_dead_index_costs_imports_but_not_the_function() {
    let home = tempfile::tempdir().expect("a folder");
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "offline::with_a_dead_index", "--ignored", "--nocapture"])
        .envs([("PIP_INDEX_URL", DEAD), ("PIP_FIND_LINKS", ""), ("PIP_EXTRA_INDEX_URL", "")])
        .envs([("PIP_CONFIG_FILE", "/dev/null"), ("npm_config_registry", DEAD), ("UV_INDEX_URL", DEAD)])
        .env("PIP_NO_INDEX", "")
        // What this user installed before would do without any index.
        .env("XDG_CACHE_HOME", home.path().join("cache"))
        .env("npm_config_cache", home.path())
        .output()
        .expect("started");
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && output.contains("1 passed"),
        "{output}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

#[test]
#[ignore = "run by a_dead_index_costs_imports_but_not_the_function"]
fn with_a_dead_index() {
    let data = tempfile::tempdir().expect("a folder");
    let runtimes = Runtimes::open(data.path(), false);
    let cases = [
        ("python3.13", "python", "app.imports", "boto3", "ImportError: No module named 'boto3'"),
        ("nodejs20.x", "node", "app.imports", "@aws-sdk/client-s3", "MODULE_NOT_FOUND"),
    ];
    for (runtime, code, handler, package, missing) in cases {
        let warnings = runtimes.prepare(runtime, &|_| ()).expect("prepared");
        assert!(warnings.iter().any(|it| it.contains(package) && it.contains("will fail")), "{warnings:?}");
        let event = format!(r#"{{"modules":["{package}"]}}"#);
        let outcome = invoke(&runtimes, runtime, (&functions(code), handler), &[], &[&event]);
        assert_eq!(outcome.answer()[package], missing);
    }
    let left: Vec<_> = std::fs::read_dir(data.path().join("runtimes")).expect("there").flatten().collect();
    assert!(left.iter().all(|it| !it.file_name().to_string_lossy().starts_with(".staging")), "{left:?}");
}
