"""Python handlers on AWS's own runtime interface client: results, errors and contexts as on Lambda."""

import base64
import json
import re
import sys
import time

import pytest

from support import packages
from support.report import report

# The platform takes the nearest interpreter; asking for one that is there keeps warnings out of the way.
RUNTIME = f"python3.{min(max(sys.version_info.minor, 9), 14)}"
# The first function of a fresh clone installs the client and boto3 from the package index.
pytestmark = pytest.mark.patience(400)


@pytest.fixture(scope="module")
def python(platform):
    """A function with that handler of tests/functions/python."""
    code = packages.source("python")

    def make(handler, **settings):
        name = handler.replace(".", "-").replace("_", "-")
        platform.create(name, code, RUNTIME, handler, **({"Timeout": 10, "MemorySize": 512} | settings))
        return name

    # The first one may take long, so it has all the time.
    platform.create("first", code, RUNTIME, "app.echo", Timeout=60, MemorySize=1769)
    assert platform.invoke("first", {"ready": True}, timeout=330).json() == {"ready": True}
    return make


def error_of(answer):
    assert (answer.status, answer.error) == (200, "Unhandled"), answer
    return answer.json()


def test_a_handlers_result_comes_back(platform, python):
    name = python("app.echo")
    for event in [{"k": [1, "\u00e9", None, 1.5]}, "text", [], 0]:
        assert platform.invoke(name, event).json() == event
    assert report(platform.invoke(name, {}))["Max Memory Used"] > 5


def test_nothing_is_null(platform, python):
    assert platform.invoke(python("app.nothing"), {}).body == b"null"


def test_the_context_is_lambdas(platform, python):
    name = python("app.context", Timeout=20)
    custom = base64.b64encode(json.dumps({"custom": {"cart": "7"}}).encode()).decode()
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    answer = platform.invoke(name, {}, headers={"X-Amz-Client-Context": custom, "X-Amzn-Trace-Id": trace})
    seen = answer.json()
    assert (seen["request_id"], seen["function_name"], seen["function_version"]) == (answer.request_id, name, "$LATEST")
    assert (int(seen["memory"]), seen["log_group"]) == (512, f"/aws/lambda/{name}")
    assert seen["arn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert 0 < seen["remaining_ms"] <= 20_000
    # Lambda adds how often each function stands in the chain of requests.
    assert answer.headers["X-Amzn-Trace-Id"] == seen["trace"]
    assert seen["client"] == {"cart": "7"} and re.fullmatch(trace + ";Lineage=1:[0-9a-f]{8}:1", seen["trace"])
    assert (seen["count"], platform.invoke(name, {}).json()["count"]) == (1, 2)
    by_qualifier = platform.invoke(name, {}, query="?Qualifier=$LATEST").json()
    assert by_qualifier["arn"].endswith(f":function:{name}:$LATEST")


def test_an_exception_has_its_type_message_and_stack(platform, python):
    answer = platform.invoke(python("app.fails"), {})
    error = error_of(answer)
    assert (error["errorType"], error["errorMessage"], error["requestId"]) == (
        "Exception",
        "Handler fails",
        answer.request_id,
    )
    assert len(error["stackTrace"]) == 1 and 'File "/var/task/app.py"' in error["stackTrace"][0]
    assert "[ERROR] Exception: Handler fails" in answer.log


def test_an_exception_of_the_functions_own_keeps_its_name(platform, python):
    error = error_of(platform.invoke(python("app.fails_deep"), {}))
    assert (error["errorType"], error["errorMessage"]) == ("StoreClosed", "the store is closed: \u00e9")
    assert len(error["stackTrace"]) == 2


def test_what_json_cannot_say_is_a_marshal_error(platform, python):
    error = error_of(platform.invoke(python("app.unserialisable"), {}))
    assert error["errorType"] == "Runtime.MarshalError"
    assert error["errorMessage"] == "Unable to marshal response: Object of type datetime is not JSON serializable"


@pytest.mark.parametrize(
    "handler, kind, text",
    [
        ("app.absent", "Runtime.HandlerNotFound", "Handler 'absent' missing on module 'app'"),
        ("absent.handler", "Runtime.ImportModuleError", "Unable to import module 'absent': No module named 'absent'"),
        (
            "import_error.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'import_error': No module named 'boto9'",
        ),
        ("syntax_error.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'syntax_error'"),
        ("raises_at_import.handler", "ValueError", "CACHE_HOST is not set"),
    ],
)
def test_a_handler_that_cannot_be_loaded_says_why(platform, python, handler, kind, text):
    name = python(handler)
    answer = platform.invoke(name, {})
    error = error_of(answer)
    assert error["errorType"] == kind and error["errorMessage"].startswith(text) and error["requestId"] == "", error


def test_a_module_that_exits_is_an_exit_error(platform, python):
    error = error_of(platform.invoke(python("exits_at_import.handler"), {}))
    assert error["errorType"] == "Runtime.ExitError" and error["errorMessage"].endswith("exit status 3")


def test_a_handler_that_exits_or_dies_is_an_exit_error(platform, python):
    exits = python("app.exits")
    assert error_of(platform.invoke(exits, {"status": 0}))["errorMessage"].endswith(
        "Runtime exited without providing a reason"
    )
    assert error_of(platform.invoke(exits, {"status": 4}))["errorMessage"].endswith(
        "Runtime exited with error: exit status 4"
    )
    dies = error_of(platform.invoke(python("app.dies"), {}))
    assert dies["errorType"] == "Runtime.ExitError" and dies["errorMessage"].endswith("signal: killed")


def test_a_handler_that_sleeps_too_long_times_out(platform, python):
    name = python("app.sleeps", Timeout=1)
    answer = platform.invoke(name, {"seconds": 60})
    assert (
        error_of(answer)["errorMessage"] == f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds"
    )
    # Python needs longer than that to start on a busy machine: the reset's init is part of the invocation.
    platform.client().update_function_configuration(FunctionName=name, Timeout=30)
    assert platform.invoke(name, {"seconds": 0}).json() == "woke up"


def test_a_result_over_6_mb_is_an_error(platform, python):
    name = python("app.large", Timeout=30)
    assert len(platform.invoke(name, {"bytes": 6_000_000}).body) == 6_000_000
    assert error_of(platform.invoke(name, {"bytes": 6_291_557}))["errorType"] == "Function.ResponseSizeTooLarge"


def test_prints_and_loggers_are_in_the_log(platform, python):
    name = python("app.logs")
    answer = platform.invoke(name, {})
    for text in (
        "printed\n",
        "[WARNING]\t",
        f"\t{answer.request_id}\twarned",
        "[ERROR]\t",
        "failed at step 2",
        "to stderr\n",
    ):
        assert text in answer.log, (text, answer.log)


def test_the_runtime_brings_boto3_and_the_host_brings_nothing(platform, python):
    found = platform.invoke(
        python("app.imports", Timeout=60, MemorySize=1769), {"modules": ["boto3", "botocore", "pytest", "pip"]}
    ).json()
    assert found["boto3"].startswith("/var/runtime/") and found["botocore"].startswith("/var/runtime/"), found
    assert found["pytest"].startswith("ImportError: "), found


def test_a_managed_runtime_names_itself(platform, python):
    seen = platform.invoke(python("app.environment"), {}).json()
    assert seen["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{RUNTIME}" and seen["_HANDLER"] == "app.environment"
    assert seen["_X_AMZN_TRACE_ID"].startswith("Root=1-")


def test_a_background_thread_makes_no_progress_while_nothing_is_invoked(platform, python):
    name = python("app.background", MemorySize=1769)
    platform.invoke(name, {})
    before = platform.invoke(name, {}).json()
    time.sleep(1.5)
    after = platform.invoke(name, {}).json()
    assert after - before < 100, (before, after)
