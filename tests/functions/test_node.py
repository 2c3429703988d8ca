"""Node handlers: results, errors and contexts as on Lambda."""

import base64
import json
import os
import shutil
import subprocess

import pytest

from support import packages
from support.paths import RUNTIMES

pytestmark = [
    pytest.mark.patience(400),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]


def major():
    text = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60).stdout
    return int(text.lstrip("v").split(".")[0])


@pytest.fixture(scope="module")
def node(platform):
    """A function with that handler of tests/functions/node."""
    code = packages.source("node")
    # From nodejs24.x on there are no callbacks.
    runtime = f"nodejs{min(max(major() // 2 * 2, 16), 22)}.x"

    def make(handler, **settings):
        name = handler.replace(".", "-").replace("_", "-").replace("/", "-")
        platform.create(name, code, runtime, handler, **({"Timeout": 10, "MemorySize": 1024} | settings))
        return name

    make.runtime = runtime
    # The first one may have to install the SDK, so it has all the time.
    platform.create("first", code, runtime, "app.echo", Timeout=60, MemorySize=1769)
    assert platform.invoke("first", {"ready": True}, timeout=330).json() == {"ready": True}
    return make


def error_of(answer):
    assert (answer.status, answer.error) == (200, "Unhandled"), answer
    return answer.json()


def test_a_handlers_result_comes_back(platform, node):
    name = node("app.echo")
    for event in [{"k": [1, "\u00e9", None, 1.5]}, "text", [], 0]:
        assert platform.invoke(name, event).json() == event


@pytest.mark.parametrize("handler", ["app.nothing", "app.neither"])
def test_nothing_is_null(platform, node, handler):
    assert platform.invoke(node(handler), {}).body == b"null"


@pytest.mark.parametrize(
    "handler, result",
    [
        ("app.callsBack", {"called": "back"}),
        ("module.handler", {"greeting": "hello from a module", "event": {}}),
        ("typed/index.handler", "typed module"),
    ],
)
def test_callbacks_and_modules_work(platform, node, handler, result):
    assert platform.invoke(node(handler), {}).json() == result


def test_the_context_is_lambdas(platform, node):
    name = node("app.context", Timeout=20)
    custom = base64.b64encode(json.dumps({"custom": {"cart": "7"}}).encode()).decode()
    answer = platform.invoke(name, {}, headers={"X-Amz-Client-Context": custom})
    seen = answer.json()
    assert (seen["requestId"], seen["functionName"], seen["functionVersion"]) == (answer.request_id, name, "$LATEST")
    assert int(seen["memory"]) == 1024 and 0 < seen["remainingMs"] <= 20_000
    assert seen["client"] == {"cart": "7"} and seen["trace"].startswith("Root=1-")
    assert (seen["count"], platform.invoke(name, {}).json()["count"]) == (1, 2)


@pytest.mark.parametrize(
    "handler, kind, text",
    [
        ("app.fails", "StoreClosed", "the store is closed"),
        ("app.throws", "TypeError", "not a function"),
        ("app.neverSettles", "Runtime.NodeJsExit", "The Lambda runtime client detected an unexpected Node.js exit code"),
        ("app.rejectsText", "string", "just text"),
        ("app.callsBackError", "Error", "called back"),
        ("app.absent", "Runtime.HandlerNotFound", "app.absent is undefined or not exported"),
        ("import_error.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'no-such-package'"),
        ("syntax_error.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: Unexpected token"),
        ("raises_at_import.handler", "RangeError", "CACHE_HOST is not set"),
    ],
)
def test_what_goes_wrong_has_its_type_and_message(platform, node, handler, kind, text):
    error = error_of(platform.invoke(node(handler), {}))
    assert error["errorType"] == kind and error["errorMessage"].startswith(text), error


def test_from_node_24_on_a_handler_with_a_callback_is_refused(platform, node):
    code = packages.source("node")
    platform.create("callback-24", code, "nodejs24.x", "app.callsBack", Timeout=10, MemorySize=1024)
    answer = platform.invoke("callback-24", {})
    assert error_of(answer)["errorType"] == "Runtime.CallbackHandlerDeprecated", answer
    platform.create("promise-24", code, "nodejs24.x", "app.echo", Timeout=10, MemorySize=1024)
    assert platform.invoke("promise-24", {"n": 1}).json() == {"n": 1}


def test_what_a_function_throws_away_is_collected_in_time(platform, node):
    """V8 goes by the function's memory and not by the host's: 120 MB of garbage pass through 128 MB."""
    name = node("app.wastes", MemorySize=128, Timeout=60)
    assert platform.invoke(name, {"rounds": 20}).json() == 20


def test_a_circular_result_is_an_error(platform, node):
    error = error_of(platform.invoke(node("app.circular"), {}))
    assert error["errorMessage"] == "Unable to stringify response body", error


@pytest.mark.parametrize("handler", ["app.stray", "app.late"])
def test_stray_rejections_and_late_throws_end_the_invocation(platform, node, handler):
    name = node(handler)
    error = error_of(platform.invoke(name, {}))
    assert error["errorType"] in ("Runtime.UnhandledPromiseRejection", "Error", "Runtime.ExitError"), error
    assert "stray" in json.dumps(error) or "late" in json.dumps(error) or "exit status 12" in error["errorMessage"], (
        error
    )


def test_a_handler_that_exits_is_an_exit_error(platform, node):
    error = error_of(platform.invoke(node("app.exits"), {"status": 5}))
    assert error["errorType"] == "Runtime.ExitError" and error["errorMessage"].endswith("exit status 5")


def test_a_handler_that_sleeps_too_long_times_out(platform, node):
    answer = platform.invoke(node("app.sleeps", Timeout=2), {"seconds": 60})
    assert (
        error_of(answer)["errorMessage"] == f"RequestId: {answer.request_id} Error: Task timed out after 2.00 seconds"
    )


def test_a_result_over_6_mb_is_an_error(platform, node):
    name = node("app.large", Timeout=30)
    assert len(platform.invoke(name, {"bytes": 6_000_000}).body) == 6_000_000
    assert error_of(platform.invoke(name, {"bytes": 6_291_557}))["errorType"] == "Function.ResponseSizeTooLarge"


def test_console_lines_are_in_the_log(platform, node):
    answer = platform.invoke(node("app.logs"), {})
    for text in ("logged 2 things { a: 1 }", "line one", "debugged"):
        assert text in answer.log, answer.log
    assert f"\t{answer.request_id}\tINFO\tlogged" in answer.log


def test_a_managed_runtime_names_itself(platform, node):
    seen = platform.invoke(node("app.environment"), {}).json()
    assert seen["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{node.runtime}"


# ---- Streaming ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream(platform):
    """Invokes a function with a stream: the pieces, and the message that ends it."""
    client = platform.client()

    def invoke(name, event=None):
        answer = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event or {}))
        pieces, ends = [], []
        for message in answer["EventStream"]:
            if "PayloadChunk" in message:
                pieces.append(message["PayloadChunk"]["Payload"])
            else:
                ends.append(message["InvokeComplete"])
        assert len(ends) == 1, ends
        return pieces, ends[0]

    yield invoke
    client.close()


def test_a_handler_streams_with_a_prelude(platform, node, stream):
    name = node("app.streams")
    pieces, end = stream(name)
    prelude, body = b"".join(pieces).split(bytes(8))
    assert (json.loads(prelude), body, end) == ({"statusCode": 201, "headers": {"x-kind": "streamed"}}, b"one,two", {})
    client = platform.client()
    client.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    client.close()
    answer = platform.door(name)
    assert (answer.status, answer.headers["x-kind"], answer.body) == (201, "streamed", b"one,two")


def test_what_is_written_is_there_at_once(node, stream):
    assert stream(node("app.streamPauses")) == ([b"one,", b"two"], {})


def test_a_pipeline_streams_as_much_as_it_likes(platform, node, stream):
    name = node("app.streamPipes")
    pieces, end = stream(name, {"pieces": 80})
    assert (sum(map(len, pieces)), end) == (80 * 65536, {})
    # Gathered, it is cut at 6 MB; the next invocation finds the function well.
    assert error_of(platform.invoke(name, {"pieces": 200}))["errorType"] == "Function.ResponseSizeTooLarge"
    assert platform.invoke(name, {"pieces": 1}).body == b"a" * 65536


@pytest.mark.parametrize(
    "handler, kind, message",
    [
        ("streamBreaks", "Error", "broke"),
        ("streamForgets", "string", "Response stream is not finished."),
        ("streamSync", "string", "Streaming does not support non-async handlers."),
    ],
)
def test_a_stream_that_fails_says_how(platform, node, stream, handler, kind, message):
    pieces, end = stream(node(f"app.{handler}"))
    assert (pieces, end["ErrorCode"]) == ([b"one,"], kind)
    assert json.loads(end["ErrorDetails"])["errorMessage"] == message


SDK_CLIENT = """
const { LambdaClient, InvokeWithResponseStreamCommand } = require("@aws-sdk/client-lambda");
const [endpoint, name] = process.argv.slice(2);
const client = new LambdaClient({ endpoint, region: "us-east-1", credentials: { accessKeyId: "a", secretAccessKey: "b" } });
(async () => {
  const answer = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: name, LogType: "Tail", Payload: "{}" }));
  let text = "", end;
  for await (const event of answer.EventStream) {
    if (event.PayloadChunk) text += Buffer.from(event.PayloadChunk.Payload).toString();
    if (event.InvokeComplete) end = event.InvokeComplete;
  }
  console.log(JSON.stringify({ version: answer.ExecutedVersion, type: answer.ResponseStreamContentType, text, end }));
})();
"""


def test_the_sdk_for_javascript_reads_our_streams(platform, node, tmp_path):
    modules = sorted(RUNTIMES.glob("nodejs*/node_modules/@aws-sdk/client-lambda"))
    if not modules:
        pytest.skip("this host's Node functions have no SDK")
    script = tmp_path / "client.cjs"
    script.write_text(SDK_CLIENT)
    environment = os.environ | {"NODE_PATH": str(modules[-1].parents[1])}
    command = ["node", str(script), platform.url, node("app.streamRaises")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert (seen["version"], seen["type"]) == ("$LATEST", "application/vnd.amazon.eventstream")
    assert (seen["text"], seen["end"]["ErrorCode"]) == ("one,", "RangeError")
    assert json.loads(seen["end"]["ErrorDetails"])["errorMessage"] == "too far"
    assert "REPORT RequestId" in base64.b64decode(seen["end"]["LogResult"]).decode()
