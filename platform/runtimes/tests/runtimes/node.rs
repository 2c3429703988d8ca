//! Node: answers, errors and logs as AWS's runtime words them.

use runtimes::Runtimes;

use crate::{
    api::{Call, Outcome},
    data_dir, functions, inserting_wrapper, invoke,
};

const RUNTIME: &str = "nodejs20.x";

fn run(handler: &str, events: &[&str]) -> Outcome {
    run_as(RUNTIME, handler, &[], events)
}

/// The same for a function of that runtime, with variables of its own.
fn run_as(runtime: &str, handler: &str, user: &[(&str, &str)], events: &[&str]) -> Outcome {
    let runtimes = Runtimes::open(&data_dir(), false);
    invoke(&runtimes, runtime, (&functions("node"), handler), user, events)
}

/// Type, message and first line of the trace of an error body; the header must repeat the type.
fn error(call: &Call) -> (String, String, String) {
    let body: serde_json::Value = serde_json::from_str(&call.body).expect("JSON");
    let keys: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["errorType", "errorMessage", "trace"], "AWS's keys in AWS's order");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(call.headers["lambda-runtime-function-error-type"], text(&body["errorType"]));
    (text(&body["errorType"]), text(&body["errorMessage"]), text(&body["trace"][0]))
}

#[test]
fn every_style_of_handler_answers() {
    let cases = [
        ("app.echo", r#"{"a":[1,"é"]}"#, r#"{"a":[1,"é"]}"#),
        ("app.callsBack", "{}", r#"{"called":"back"}"#),
        ("app.says", r#"{"how":"succeed"}"#, r#""succeeded""#),
        ("app.says", r#"{"how":"done"}"#, r#""done""#),
        ("app.nothing", "{}", "null"),
        ("app.neither", "{}", "null"),
        ("module.handler", "1", r#"{"greeting":"hello from a module","event":1}"#),
        ("typed/index.handler", "{}", r#""typed module""#),
    ];
    for (handler, event, answer) in cases {
        assert_eq!(run(handler, &[event]).body_at("invocation/id-1/response"), answer, "{handler}");
    }
}

#[test]
fn an_exec_wrapper_may_insert_flags() {
    let scratch = tempfile::tempdir().expect("a folder");
    let wrapper = inserting_wrapper(scratch.path(), r#""--max-old-space-size=66""#);
    let heap =
        |user: &[(&str, &str)]| run_as(RUNTIME, "app.heap", user, &["{}"]).answer().as_f64().expect("MB");
    let (plain, wrapped) = (heap(&[]), heap(&[("AWS_LAMBDA_EXEC_WRAPPER", &wrapper)]));
    // 116 MB and 66, besides three semi-spaces.
    assert_eq!(plain - wrapped, 50.0, "{plain} MB");
}

#[test]
fn errors_of_the_function_are_worded_as_awss() {
    let cases = [
        ("app.fails", "StoreClosed", "the store is closed", "StoreClosed: the store is closed"),
        ("app.throws", "TypeError", "not a function", "TypeError: not a function"),
        ("app.rejectsText", "string", "just text", ""),
        ("app.callsBackError", "Error", "called back", "Error: called back"),
        (
            "app.circular",
            "Error",
            "Unable to stringify response body",
            "Error: Unable to stringify response body",
        ),
    ];
    for (handler, kind, message, trace) in cases {
        let outcome = run(handler, &["{}", "{}"]);
        assert_eq!(outcome.calls.len(), 2, "{handler}: the environment lives on");
        assert_eq!(outcome.calls[1].path, "invocation/id-2/error", "{handler}");
        let expected = (kind.to_owned(), message.to_owned(), trace.to_owned());
        assert_eq!(error(&outcome.calls[0]), expected, "{handler}");
        assert!(
            outcome.output.contains("\tid-1\tERROR\tInvoke Error \t{\"errorType\""),
            "{}",
            outcome.output
        );
    }
}

#[test]
fn errors_of_init_end_the_process() {
    let cases = [
        ("app.absent", "Runtime.HandlerNotFound", "app.absent is undefined or not exported"),
        (
            "absent.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'absent'\nRequire stack:\n- ",
        ),
        ("import_error.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'no-such-package'"),
        ("syntax_error.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: Unexpected token"),
        ("no_dot", "Runtime.MalformedHandlerName", "Bad handler"),
        ("../app.echo", "Runtime.MalformedHandlerName", "'../app.echo' is not a valid handler name."),
        ("raises_at_import.handler", "RangeError", "CACHE_HOST is not set"),
    ];
    for (handler, kind, message) in cases {
        let outcome = run(handler, &["{}"]);
        outcome.body_at("init/error");
        let (found_kind, found_message, _) = error(&outcome.calls[0]);
        assert_eq!(found_kind, kind, "{handler}");
        assert!(found_message.starts_with(message), "{handler}: {found_message}");
        assert_eq!(outcome.exit.and_then(|status| status.code()), Some(129), "{handler}");
        assert!(outcome.output.contains("\tundefined\tERROR\tUncaught Exception \t"), "{}", outcome.output);
    }
}

#[test]
fn what_nobody_caught_is_reported_before_the_process_ends() {
    for (handler, kind, status) in
        [("app.stray", "Runtime.UnhandledPromiseRejection", 128), ("app.late", "Error", 129)]
    {
        let outcome = run(handler, &["{}"]);
        outcome.body_at("invocation/id-1/error");
        assert_eq!(error(&outcome.calls[0]).0, kind);
        assert_eq!(outcome.exit.and_then(|it| it.code()), Some(status));
    }
    // A rejection while the answer is on its way: the answer goes first, then the process ends.
    let both = run("app.strayAfterAnswer", &["{}", "{}"]);
    let paths: Vec<&str> = both.calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths, ["invocation/id-1/response", "invocation/id-1/error"]);
    assert_eq!((both.calls[0].status, both.calls[1].status), (202, 400));
    assert_eq!(both.exit.and_then(|it| it.code()), Some(128));
    let left = run("app.exits", &[r#"{"status":7}"#]);
    assert!(left.calls.is_empty());
    assert_eq!(left.exit.and_then(|it| it.code()), Some(7));
}

#[test]
fn a_callback_waits_for_the_empty_event_loop_unless_told_not_to() {
    // The timer of 60 ms adds to the count that the next invocation sees.
    for (waits, counted) in [("true", 2), ("false", 1)] {
        let event = format!(r#"{{"waits":{waits}}}"#);
        let runtimes = Runtimes::open(&data_dir(), false);
        let folder = tempfile::tempdir().expect("a folder");
        let app = std::fs::read_to_string(functions("node").join("app.js")).expect("read");
        let both = "\nexports.both = (event, context, callback) =>\n  (event.waits === undefined ? exports.context(event, context).then((it) => callback(null, it)) : exports.lingers(event, context, callback));\n";
        std::fs::write(folder.path().join("app.js"), app + both).expect("written");
        let outcome = invoke(&runtimes, RUNTIME, (folder.path(), "app.both"), &[], &[&event, "{}"]);
        let answer: serde_json::Value = serde_json::from_str(&outcome.calls[1].body).expect("JSON");
        assert_eq!(answer["count"], counted, "waits: {waits}");
    }
}

#[test]
fn an_async_handler_that_never_settles_is_an_error_and_the_environment_lives_on() {
    let outcome = run("app.neverSettles", &["{}", "{}"]);
    let paths: Vec<&str> = outcome.calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths, ["invocation/id-1/error", "invocation/id-2/error"]);
    let (kind, message, _) = error(&outcome.calls[0]);
    assert_eq!(kind, "Runtime.NodeJsExit");
    assert!(message.contains("most commonly caused by a Promise that was never settled"), "{message}");
    assert!(outcome.output.contains("\tid-1\tERROR\tInvoke Error \t{\"errorType\":\"Runtime.NodeJsExit\""));
    // What is not marked async may wait for a callback.
    assert_eq!(run("app.neverSettlesPlain", &["{}"]).body_at("invocation/id-1/response"), "null");
}

#[test]
fn from_node_24_on_there_are_no_callbacks() {
    const NEW: &str = "nodejs24.x";
    let outcome = run_as(NEW, "app.callsBack", &[], &["{}"]);
    outcome.body_at("init/error");
    let (kind, message, _) = error(&outcome.calls[0]);
    assert_eq!(kind, "Runtime.CallbackHandlerDeprecated");
    assert!(message.starts_with("ERROR: AWS Lambda has removed support for callback-based"), "{message}");
    assert!(outcome.output.contains("\tundefined\tERROR\tInit Error \t"), "{}", outcome.output);
    for (handler, new, old) in [
        ("app.echo", "[1]", "[1]"),
        ("app.returns", "[1]", "null"),
        ("app.neither", "null", "null"),
        ("app.methods", "[]", r#"["done","succeed","fail","callbackWaitsForEmptyEventLoop"]"#),
    ] {
        for (runtime, answer) in [(NEW, new), (RUNTIME, old)] {
            let outcome = run_as(runtime, handler, &[], &["[1]"]);
            assert_eq!(outcome.body_at("invocation/id-1/response"), answer, "{runtime} {handler}");
        }
    }
    for (handler, kind) in [("app.neverSettlesPlain", "Runtime.NodeJsExit"), ("app.throws", "TypeError")] {
        let outcome = run_as(NEW, handler, &[], &["{}", "{}"]);
        assert_eq!((outcome.calls.len(), error(&outcome.calls[1]).0.as_str()), (2, kind), "{handler}");
    }
    assert_eq!(run_as(NEW, "app.streams", &[], &["{}", "{}"]).calls.len(), 2, "streams have more parameters");
}

#[test]
fn before_node_24_a_callback_is_warned_of() {
    let warned = |handler, user: &[_]| {
        let output = run_as(RUNTIME, handler, user, &["{}"]).output;
        output.contains("\tundefined\tWARN\tAWS Lambda plans to remove support for callback-based")
    };
    assert!(warned("app.callsBack", &[]));
    assert!(!warned("app.callsBack", &[("AWS_LAMBDA_NODEJS_DISABLE_CALLBACK_WARNING", "")]));
    assert!(!warned("app.echo", &[]) && !warned("app.says", &[]));
}

#[test]
fn a_function_is_started_with_awss_flags_and_its_own() {
    let require = |user: &[_]| run_as(RUNTIME, "app.requiresModule", user, &["{}"]);
    let refused = require(&[]);
    let (_, message, _) = error(&refused.calls[0]);
    assert!(message.contains("require() of ES Module"), "{message}");
    let wanted = [("NODE_OPTIONS", "--experimental-require-module")];
    assert!(require(&wanted).body_at("invocation/id-1/response").contains("typed module"));
    let heap = |user: &[_]| -> f64 { run_as(RUNTIME, "app.heap", user, &["{}"]).answer().as_f64().unwrap() };
    // The old generation's 116 MB and the young one's three semi-spaces.
    assert!((116.0..128.0).contains(&heap(&[])), "{}", heap(&[]));
    assert!(heap(&[("NODE_OPTIONS", "--max-old-space-size=500")]) > 490.0);
}

#[test]
fn the_context_tells_what_aws_tells() {
    let outcome = run("app.context", &["{}", "{}"]);
    for (index, call) in outcome.calls.iter().enumerate() {
        let answer: serde_json::Value = serde_json::from_str(&call.body).expect("JSON");
        let id = format!("id-{}", index + 1);
        assert_eq!(answer["count"], index + 1);
        assert_eq!(answer["requestId"], *id);
        assert_eq!(answer["trace"], format!("Root=1-{id}"));
        assert_eq!(answer["functionName"], "test");
        assert_eq!(answer["memory"], "128");
        assert_eq!(answer["client"], serde_json::json!({ "k": "v" }));
        assert!((1..=60_000).contains(&answer["remainingMs"].as_i64().expect("a number")));
    }
    assert_eq!(outcome.calls.len(), 2);
}

#[test]
fn console_lines_have_awss_form() {
    let outcome = run("app.logs", &["{}"]);
    let lines: Vec<Vec<&str>> = outcome.output.lines().map(|line| line.splitn(4, '\t').collect()).collect();
    let told: Vec<&[&str]> = lines.iter().map(|parts| &parts[1..]).collect();
    assert_eq!(
        told,
        [
            ["id-1", "INFO", "logged 2 things { a: 1 }"],
            ["id-1", "ERROR", "line one\rline two"],
            ["id-1", "DEBUG", "debugged"],
        ]
    );
    assert!(lines.iter().all(|parts| parts[0].len() == 24 && parts[0].ends_with('Z')), "{lines:?}");
}

#[test]
fn streamed_responses_carry_prelude_and_errors() {
    let outcome = run("app.streams", &["{}", "{}"]);
    assert_eq!(outcome.calls.len(), 2);
    let call = &outcome.calls[0];
    assert_eq!(call.headers["lambda-runtime-function-response-mode"], "streaming");
    assert_eq!(call.headers["content-type"], "application/vnd.awslambda.http-integration-response");
    assert_eq!(
        call.body,
        "{\"statusCode\":201,\"headers\":{\"x-kind\":\"streamed\"}}\0\0\0\0\0\0\0\0one,two"
    );
    let broken = run("app.streamBreaks", &["{}", "{}"]);
    assert_eq!(broken.calls.len(), 2);
    assert_eq!(broken.calls[0].body, "one,");
    assert_eq!(broken.calls[0].trailers["lambda-runtime-function-error-type"], "Error");
    assert!(!broken.calls[0].trailers["lambda-runtime-function-error-body"].is_empty());
}

#[test]
fn large_events_and_answers_pass_whole() {
    let event = format!(r#"{{"text":"{}"}}"#, "é".repeat(500_000));
    assert_eq!(run("app.echo", &[&event]).body_at("invocation/id-1/response"), event);
}
