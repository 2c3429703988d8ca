//! Real interpreters, real bootstraps, and AWS's own Python client, against a tiny Runtime API on loopback.

mod api;
mod node;
mod offline;
mod python;
mod raw;
mod relocated;
mod rust;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use api::Outcome;
use runtimes::{FunctionFacts, Launch, Request, Runtimes, base_environment};

/// The folder of functions that all suites share.
fn functions(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/functions")
        .join(name)
        .canonicalize()
        .expect("there")
}

/// Kept between runs, so that packages are installed once.
fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("runtimes")
}

/// The variables of a function, as a sandbox would set them.
fn variables(launch: &Launch, handler: &str, user: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut user: BTreeMap<String, String> =
        user.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    // A sandbox's /var/task is read-only; here the functions' folder is not, and must stay clean.
    user.insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
    base_environment(&FunctionFacts {
        name: "test",
        version: "$LATEST",
        memory_mb: 128,
        log_group: "/aws/lambda/test",
        log_stream: "2026/01/01/[$LATEST]0",
        json_log_level: None,
        region: "us-east-1",
        account_id: "000000000000",
        handler,
        initialization_type: "on-demand",
        runtime_api: "{api}",
        image: false,
        launch: &launch.environment,
        user: &user,
    })
}

/// Runs a function without a sandbox and gives it the events.
fn invoke(
    runtimes: &Runtimes,
    runtime: &str,
    (code, handler): (&Path, &str),
    user: &[(&str, &str)],
    events: &[&str],
) -> Outcome {
    let of_user = |wanted: &str| user.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let launch = runtimes
        .resolve(&Request {
            runtime,
            handler,
            code,
            known_as: None,
            layers: None,
            memory_mb: 128,
            node_options: of_user("NODE_OPTIONS"),
            exec_wrapper: of_user("AWS_LAMBDA_EXEC_WRAPPER"),
        })
        .expect("resolved");
    let mut environment = variables(&launch, handler, user);
    let program = on_host(&launch, code, &mut environment);
    api::run(&program, &environment, code, events)
}

/// As AWS's documentation has it: inserts the interpreter's further flags before the last argument, the bootstrap.
fn inserting_wrapper(folder: &Path, flags: &str) -> String {
    let script = format!(
        "#!/bin/bash\nargs=(\"$@\")\nextra_args=({flags})\n\
         args=(\"${{args[@]:0:$#-1}}\" \"${{extra_args[@]}}\" \"${{args[@]: -1}}\")\n\
         exec \"${{args[@]}}\"\n"
    );
    let wrapper = folder.join("wrapper").display().to_string();
    // By another process: whatever a test beside this one starts holds our descriptors until it executes, and what is open for
    // writing cannot be executed.
    let write = r#"printf %s "$1" > "$0" && chmod 755 "$0""#;
    let written = Command::new("sh").args(["-c", write, &wrapper, &script]).status().expect("a shell");
    assert!(written.success());
    wrapper
}

/// The same launch without a sandbox: the argument vector and the variables with the host's paths.
fn on_host(launch: &Launch, code: &Path, environment: &mut [(String, String)]) -> Vec<String> {
    let mut places: Vec<(&str, &Path)> =
        launch.binds.iter().map(|(host, inside)| (inside.as_str(), host.as_path())).collect();
    places.push(("/var/task", code));
    for (_, value) in environment {
        *value = value.split(':').map(|path| host_path(path, &places)).collect::<Vec<_>>().join(":");
    }
    launch.program.iter().map(|argument| host_path(argument, &places)).collect()
}

/// The host's path of a path inside, by the longest bind that it lies below; unchanged when there is none.
fn host_path(inside: &str, places: &[(&str, &Path)]) -> String {
    let below =
        |place: &str| inside.strip_prefix(place).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    places
        .iter()
        .filter_map(|(place, host)| Some((place.len(), host, below(place)?)))
        .max_by_key(|(length, _, _)| *length)
        .map_or_else(|| inside.to_owned(), |(_, host, rest)| format!("{}{rest}", host.display()))
}
