//! Python: our bootstrap and AWS's client answer the same, byte for byte.

use std::{path::Path, process::Command};

use runtimes::Runtimes;

use crate::{data_dir, functions, inserting_wrapper, invoke};

const RUNTIME: &str = "python3.13";
const APP: &str = include_str!("../../../../tests/functions/python/app.py");

/// Ours, and AWS's where it can be installed.
fn clients() -> Vec<(&'static str, Runtimes)> {
    let aws = Runtimes::open(&data_dir(), false);
    let warnings = aws.prepare(RUNTIME, &|line| eprintln!("{line}")).expect("prepared");
    let mut clients = vec![("ours", Runtimes::open(&data_dir(), false).with_own_bootstrap())];
    match warnings.iter().find(|warning| warning.contains("pip")) {
        Some(warning) => eprintln!("skipped for AWS's client: {warning}"),
        None => clients.push(("AWS's", aws)),
    }
    clients
}

/// The line of a statement in app.py.
fn line_of(statement: &str) -> usize {
    APP.lines().position(|line| line.trim() == statement).expect("in app.py") + 1
}

fn file(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn answers_are_the_handlers_results() {
    let folder = functions("python");
    for (client, runtimes) in clients() {
        let said = |handler, event| {
            invoke(&runtimes, RUNTIME, (&folder, handler), &[], &[event])
                .body_at("invocation/id-1/response")
                .to_owned()
        };
        assert_eq!(said("app.echo", r#"{"a":[1,"é"]}"#), r#"{"a": [1, "é"]}"#, "{client}");
        assert_eq!(said("app.nothing", "{}"), "null", "{client}");
        assert_eq!(said("app.raw", "{}"), "plain bytes", "{client}");
        assert_eq!(said("app.numbers", "{}"), r#"{"whole": 12, "nan": NaN, "text": "é€"}"#, "{client}");
    }
}

#[test]
fn errors_are_worded_as_awss() {
    let folder = functions("python");
    let app = file(&folder, "app.py");
    let fails = line_of(r#"raise Exception("Handler fails")"#);
    let (outer, inner) = (line_of("inner()"), line_of(r#"raise StoreClosed("the store is closed: \u00e9")"#));
    let cases = [
        (
            "app.fails",
            "invocation/id-1/error",
            format!(
                r#"{{"errorMessage": "Handler fails", "errorType": "Exception", "requestId": "id-1", "stackTrace": ["  File \"{app}\", line {fails}, in fails\n    raise Exception(\"Handler fails\")\n"]}}"#
            ),
        ),
        (
            "app.fails_deep",
            "invocation/id-1/error",
            format!(
                r#"{{"errorMessage": "the store is closed: é", "errorType": "StoreClosed", "requestId": "id-1", "stackTrace": ["  File \"{app}\", line {outer}, in fails_deep\n    inner()\n", "  File \"{app}\", line {inner}, in inner\n    raise StoreClosed(\"the store is closed: \\u00e9\")\n"]}}"#
            ),
        ),
        (
            "app.unserialisable",
            "invocation/id-1/error",
            r#"{"errorMessage": "Unable to marshal response: Object of type datetime is not JSON serializable", "errorType": "Runtime.MarshalError", "requestId": "id-1", "stackTrace": []}"#.to_owned(),
        ),
        (
            "app.absent",
            "init/error",
            r#"{"errorMessage": "Handler 'absent' missing on module 'app'", "errorType": "Runtime.HandlerNotFound", "requestId": "", "stackTrace": []}"#.to_owned(),
        ),
        (
            "absent.handler",
            "init/error",
            r#"{"errorMessage": "Unable to import module 'absent': No module named 'absent'", "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []}"#.to_owned(),
        ),
        (
            "import_error.handler",
            "init/error",
            r#"{"errorMessage": "Unable to import module 'import_error': No module named 'boto9'", "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []}"#.to_owned(),
        ),
        (
            "no_dot",
            "init/error",
            r#"{"errorMessage": "Bad handler 'no_dot': not enough values to unpack (expected 2, got 1)", "errorType": "Runtime.MalformedHandlerName", "requestId": "", "stackTrace": []}"#.to_owned(),
        ),
        (
            "sys.exit",
            "init/error",
            r#"{"errorMessage": "Cannot use built-in module sys as a handler module", "errorType": "Runtime.BuiltInModuleConflict", "requestId": "", "stackTrace": []}"#.to_owned(),
        ),
        (
            "syntax_error.handler",
            "init/error",
            format!(
                r#"{{"errorMessage": "Syntax error in module 'syntax_error': expected ':' (syntax_error.py, line 1)", "errorType": "Runtime.UserCodeSyntaxError", "requestId": "", "stackTrace": ["  File \"{}\" Line 1\n    def handler(event, context)\n"]}}"#,
                file(&folder, "syntax_error.py")
            ),
        ),
    ];
    for (client, runtimes) in clients() {
        for (handler, path, body) in &cases {
            let outcome = invoke(&runtimes, RUNTIME, (&folder, handler), &[], &["{}"]);
            assert_eq!(outcome.body_at(path), body, "{client}: {handler}");
            // AWS's client leaves the header out of an invocation's error.
            let kind = outcome.calls[0].headers.get("lambda-runtime-function-error-type");
            let expected = |kind: &String| body.contains(&format!(r#""errorType": "{kind}""#));
            let may_lack = client == "AWS's" && *path != "init/error";
            assert!(kind.map_or(may_lack, expected), "{client}: {handler}: {kind:?}");
            let exit = (*path == "init/error").then_some(1);
            assert_eq!(outcome.exit.and_then(|status| status.code()), exit, "{client}: {handler}");
            assert!(outcome.output.contains("[ERROR] "), "{client}: {}", outcome.output);
        }
    }
}

#[test]
fn an_exception_during_import_carries_its_trace() {
    let folder = functions("python");
    for (client, runtimes) in clients() {
        let outcome = invoke(&runtimes, RUNTIME, (&folder, "raises_at_import.handler"), &[], &["{}"]);
        let body = outcome.body_at("init/error");
        let start = r#"{"errorMessage": "CACHE_HOST is not set", "errorType": "ValueError", "requestId": "", "stackTrace": ["#;
        let end = format!(
            r#""  File \"{}\", line 3, in <module>\n    raise ValueError(\"CACHE_HOST is not set\")\n"]}}"#,
            file(&folder, "raises_at_import.py")
        );
        assert!(body.starts_with(start) && body.ends_with(&end), "{client}: {body}");
    }
}

#[test]
fn leaving_ends_the_process_without_an_answer() {
    let folder = functions("python");
    for (client, runtimes) in clients() {
        let outcome = invoke(&runtimes, RUNTIME, (&folder, "app.exits"), &[], &[r#"{"status": 7}"#]);
        assert!(outcome.calls.is_empty(), "{client}: {outcome:?}");
        assert_eq!(outcome.exit.and_then(|status| status.code()), Some(7), "{client}");
        let outcome = invoke(&runtimes, RUNTIME, (&folder, "exits_at_import.handler"), &[], &["{}"]);
        assert!(outcome.calls.is_empty(), "{client}: {outcome:?}");
        assert_eq!(outcome.exit.and_then(|status| status.code()), Some(3), "{client}");
    }
}

#[test]
fn the_context_tells_what_aws_tells() {
    let folder = functions("python");
    for (client, runtimes) in clients() {
        let outcome = invoke(&runtimes, RUNTIME, (&folder, "app.context"), &[], &["{}", "{}"]);
        let answers: Vec<serde_json::Value> =
            outcome.calls.iter().map(|call| serde_json::from_str(&call.body).expect("JSON")).collect();
        assert_eq!(answers.len(), 2, "{client}");
        for (index, answer) in answers.iter().enumerate() {
            let id = format!("id-{}", index + 1);
            assert_eq!(answer["count"], index + 1, "{client}: globals live on");
            assert_eq!(answer["request_id"], *id, "{client}");
            assert_eq!(answer["trace"], format!("Root=1-{id}"), "{client}");
            assert_eq!(answer["function_name"], "test", "{client}");
            assert_eq!(answer["memory"], "128", "{client}");
            assert_eq!(answer["client"], serde_json::json!({ "k": "v" }), "{client}");
            assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:000000000000:function:test", "{client}");
            let remaining = answer["remaining_ms"].as_i64().expect("a number");
            assert!((1..=60_000).contains(&remaining), "{client}: {remaining}");
        }
    }
}

#[test]
fn log_lines_have_awss_form() {
    let folder = functions("python");
    for (client, runtimes) in clients() {
        let outcome = invoke(&runtimes, RUNTIME, (&folder, "app.logs"), &[], &["{}"]);
        let lines: Vec<&str> = outcome.output.lines().collect();
        assert_eq!(lines.len(), 5, "{client}: {lines:?}");
        assert_eq!((lines[0], lines[3]), ("printed", "to stderr"), "{client}");
        let stamped = |line: &str, level: &str, text: &str| {
            let parts: Vec<&str> = line.split('\t').collect();
            assert_eq!((parts[0], parts[2], parts[3]), (level, "id-1", text), "{client}: {line}");
            assert!(parts[1].len() == 24 && parts[1].ends_with('Z'), "{client}: {line}");
        };
        stamped(lines[1], "[WARNING]", "warned");
        stamped(lines[2], "[ERROR]", "failed at step 2");
    }
}

#[test]
fn an_exec_wrapper_starts_the_runtime_or_says_why_not() {
    let folder = functions("python");
    let scratch = tempfile::tempdir().expect("a folder");
    let wrapper = scratch.path().join("wrapper");
    // By another process: whatever a test beside this one starts holds our descriptors until it executes, and what is open for
    // writing cannot be executed.
    let write = r#"printf '#!/bin/sh\nexport WRAPPED=yes\nexec "$@"\n' > "$0""#;
    assert!(Command::new("sh").args(["-c", write]).arg(&wrapper).status().expect("a shell").success());
    let name = wrapper.display().to_string();
    for (client, runtimes) in clients() {
        let run = |wrapper: &str, events: &[&str]| {
            let user = [("AWS_LAMBDA_EXEC_WRAPPER", wrapper)];
            invoke(&runtimes, RUNTIME, (&folder, "app.environment"), &user, events)
        };
        std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("set");
        let refused = run(&name, &["{}"]);
        assert_eq!(refused.exit.and_then(|status| status.code()), Some(126), "{client}");
        std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        assert_eq!(run(&name, &["{}"]).answer()["WRAPPED"], "yes", "{client}");
        let absent = run("/no/such/wrapper", &["{}"]);
        assert_eq!(absent.exit.and_then(|status| status.code()), Some(127), "{client}");
        assert_eq!(absent.output, "/no/such/wrapper: does not exist\n", "{client}");
    }
}

#[test]
fn the_bootstrap_is_the_last_argument_of_an_exec_wrapper() {
    let scratch = tempfile::tempdir().expect("a folder");
    let wrapper = inserting_wrapper(scratch.path(), r#""-X" "importtime""#);
    for (client, runtimes) in clients() {
        let user = [("AWS_LAMBDA_EXEC_WRAPPER", wrapper.as_str())];
        let outcome = invoke(&runtimes, RUNTIME, (&functions("python"), "app.echo"), &user, &["1"]);
        assert_eq!(outcome.answer(), 1, "{client}");
        assert!(outcome.output.contains("import time:"), "{client}: {}", outcome.output);
    }
}

#[test]
fn a_strict_resolution_takes_only_the_exact_version() {
    let strict = Runtimes::open(&data_dir(), true);
    let folder = functions("python");
    // Nobody has Python 3.99, so the nearest would run, with a warning that names both.
    let request = runtimes::Request {
        runtime: "python3.99",
        handler: "app.echo",
        code: &folder,
        known_as: None,
        layers: None,
        memory_mb: 128,
        node_options: None,
        exec_wrapper: None,
    };
    let error = strict.resolve(&request).expect_err("strict").to_string();
    assert!(error.contains("python3.99") && error.contains("Python 3."), "{error}");
    let warnings = Runtimes::open(&data_dir(), false).resolve(&request).expect("nearest").warnings;
    assert!(
        warnings[0].contains("Python 3.99 is not installed") && warnings[0].contains("nearest, Python 3.")
    );
}

#[test]
fn concurrent_first_starts_get_the_same_launch() {
    let data = tempfile::tempdir().expect("a folder");
    let runtimes = Runtimes::open(data.path(), false);
    let folder = functions("python");
    let launches: Vec<runtimes::Launch> = std::thread::scope(|scope| {
        let resolve = || {
            let request = runtimes::Request {
                runtime: RUNTIME,
                handler: "app.echo",
                code: &folder,
                known_as: None,
                layers: None,
                memory_mb: 128,
                node_options: None,
                exec_wrapper: None,
            };
            runtimes.resolve(&request).expect("resolved")
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(resolve)).collect();
        threads.into_iter().map(|thread| thread.join().expect("joined")).collect()
    });
    assert!(launches.iter().all(|launch| *launch == launches[0]));
}
