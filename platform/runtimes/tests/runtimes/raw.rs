//! Bootstraps of provided runtimes: found, started, and the rules they break are seen as such.

use runtimes::{Request, RuntimeError, Runtimes};

use crate::{api::Outcome, data_dir, functions, invoke};

fn run(name: &str, events: &[&str]) -> Outcome {
    let runtimes = Runtimes::open(&data_dir(), true);
    let folder = functions("raw").join(name);
    invoke(&runtimes, "provided.al2023", (&folder, ""), &[], events)
}

#[test]
fn a_shell_script_is_a_runtime() {
    let outcome = run("speaks_shell", &[r#"{"a":1}"#, r#"{"b":"é"}"#]);
    let bodies: Vec<&str> = outcome.calls.iter().map(|call| call.body.as_str()).collect();
    assert_eq!(bodies, [r#"{"a":1}"#, r#"{"b":"é"}"#]);
}

#[test]
fn each_broken_rule_is_broken() {
    let statuses = |outcome: &Outcome| outcome.calls.iter().map(|call| call.status).collect::<Vec<_>>();
    let twice = run("answers_twice", &["{}", "{}"]);
    assert_eq!(statuses(&twice), [202, 400, 202, 400]);
    assert!(twice.output.contains("InvalidRequestID"), "{}", twice.output);
    assert_eq!(statuses(&run("answers_other", &["{}"])), [400, 202]);
    let large = run("too_large", &["{}"]);
    assert_eq!(statuses(&large), [413]);
    assert_eq!(large.calls[0].body.len(), 6 * 1024 * 1024 + 101);
    let failed = run("init_error", &[]);
    assert_eq!(
        failed.body_at("init/error"),
        r#"{"errorMessage":"no configuration","errorType":"Custom.Init","stackTrace":[]}"#
    );
    let left = run("exits_at_once", &[]);
    assert_eq!((left.calls.len(), left.exit.and_then(|it| it.code())), (0, Some(0)));
    assert_eq!(run("logs_then_exits", &[]).exit.and_then(|it| it.code()), Some(127));
}

#[test]
fn a_bootstrap_without_the_x_bit_is_refused_before_it_starts() {
    let runtimes = Runtimes::open(&data_dir(), false);
    let code = functions("raw/not_executable");
    let copy = tempfile::tempdir().expect("a folder");
    std::fs::copy(code.join("bootstrap"), copy.path().join("bootstrap")).expect("copied");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(copy.path().join("bootstrap"), mode).expect("set");
    let request = Request {
        runtime: "provided.al2",
        handler: "",
        code: copy.path(),
        known_as: None,
        layers: None,
        memory_mb: 128,
        node_options: None,
        exec_wrapper: None,
    };
    assert!(matches!(runtimes.resolve(&request), Err(RuntimeError::InvalidEntrypoint { .. })));
}
