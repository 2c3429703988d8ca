"""The aws CLI v2, unmodified, creates, shows, invokes, changes and deletes functions."""

import base64
import json
import os
import shutil
import subprocess
import sys

import pytest

from support import packages
from support.paths import BINARY
from support.platform import ROLE



def second_version():
    """The aws CLI v2; what comes first on the PATH may be v1."""
    for program in (shutil.which("aws"), "/usr/bin/aws"):
        if program and os.path.exists(program):
            said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            if said.startswith("aws-cli/2."):
                return program
    return None


AWS = second_version()
pytestmark = pytest.mark.skipif(AWS is None, reason="the aws CLI v2 is not installed")


@pytest.fixture(scope="module")
def aws(platform, tmp_path_factory):
    """Runs `aws lambda …`; answers what it printed as JSON, or what it complained about."""
    folder = tmp_path_factory.mktemp("aws")
    (folder / "echo.zip").write_bytes(packages.built("echo"))
    (folder / "rogue.zip").write_bytes(packages.built("rogue"))
    (folder / "event.json").write_text('{"hello": ["w\u00f6rld", 1]}')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": platform.url,
        "AWS_PAGER": "",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }

    def run(*words, fails=False):
        ran = subprocess.run(
            [AWS, "lambda", *words, "--endpoint-url", platform.url, "--output", "json"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert (ran.returncode != 0) == fails, ran
        return ran.stderr if fails else json.loads(ran.stdout or "null")

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def cart(aws):
    made = aws(
        "create-function",
        "--function-name",
        "cart",
        "--runtime",
        "provided.al2023",
        "--handler",
        "bootstrap",
        "--role",
        ROLE,
        "--zip-file",
        "fileb://echo.zip",
        "--timeout",
        "10",
        "--description",
        "from the command line",
    )
    assert (made["FunctionName"], made["Version"]) == ("cart", "$LATEST")
    aws("wait", "function-active-v2", "--function-name", "cart")
    return "cart"


def test_a_created_function_is_listed_and_shown(aws, cart):
    assert cart in [function["FunctionName"] for function in aws("list-functions")["Functions"]]
    shown = aws("get-function", "--function-name", cart)["Configuration"]
    assert shown["State"] == "Active" and shown["LastUpdateStatus"] == "Successful"
    assert (shown["Timeout"], shown["MemorySize"], shown["Runtime"]) == (10, 128, "provided.al2023")
    assert shown["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:cart"
    assert shown["CodeSize"] == (aws.folder / "echo.zip").stat().st_size


def test_invoke_answers_with_the_result_and_the_tail_of_the_log(aws, cart):
    answer = aws(
        "invoke", "--function-name", cart, "--payload", "fileb://event.json", "--log-type", "Tail", "answer.json"
    )
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    assert json.loads((aws.folder / "answer.json").read_text()) == {"hello": ["w\u00f6rld", 1]}
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "START RequestId: " in log and "END RequestId: " in log and "REPORT RequestId: " in log


def test_new_code_and_new_settings_are_used(aws, cart):
    updated = aws("update-function-code", "--function-name", cart, "--zip-file", "fileb://rogue.zip")
    aws("wait", "function-updated-v2", "--function-name", cart)
    variables = "Variables={STAGE=test,GREETING=hello}"
    changed = aws(
        "update-function-configuration", "--function-name", cart, "--memory-size", "256", "--environment", variables
    )
    aws("wait", "function-updated-v2", "--function-name", cart)
    assert changed["MemorySize"] == 256 and changed["Timeout"] == 10
    assert changed["CodeSha256"] == updated["CodeSha256"] and changed["RevisionId"] != updated["RevisionId"]
    (aws.folder / "env.json").write_text('{"do": "env"}')
    aws("invoke", "--function-name", cart, "--payload", "fileb://env.json", "answer.json")
    seen = json.loads((aws.folder / "answer.json").read_text())["seen"]
    assert (seen["GREETING"], seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) == ("hello", "256")


def test_reserved_concurrency_is_put_shown_and_taken_back(aws, cart):
    assert aws("get-function-concurrency", "--function-name", cart) in (None, {})
    put = aws("put-function-concurrency", "--function-name", cart, "--reserved-concurrent-executions", "7")
    assert put == {"ReservedConcurrentExecutions": 7}
    assert aws("get-function-concurrency", "--function-name", cart) == {"ReservedConcurrentExecutions": 7}
    aws("delete-function-concurrency", "--function-name", cart)
    assert aws("get-function-concurrency", "--function-name", cart) in (None, {})


def test_a_deleted_function_is_gone(aws):
    aws(
        "create-function",
        "--function-name",
        "brief",
        "--runtime",
        "provided.al2023",
        "--handler",
        "bootstrap",
        "--role",
        ROLE,
        "--zip-file",
        "fileb://echo.zip",
    )
    aws("delete-function", "--function-name", "brief")
    complaint = aws("get-function", "--function-name", "brief", fails=True)
    assert "ResourceNotFoundException" in complaint
    assert "Function not found: arn:aws:lambda:us-east-1:000000000000:function:brief" in complaint


def test_onrush_invoke_runs_a_function_and_shows_its_log(platform, cart):
    ran = subprocess.run(
        [BINARY, "invoke", cart, "--event", "-", "--endpoint", platform.url],
        input='{"by": "onrush"}',
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran
    assert "onrush" in ran.stdout and "REPORT RequestId: " in ran.stderr


def test_onrush_invoke_exits_with_1_when_the_function_fails(platform, cart):
    platform.create("fails", packages.built("rogue"))
    ran = subprocess.run(
        [BINARY, "invoke", "fails", "--event", "-", "--endpoint", platform.url, "--output", "json"],
        input='{"do": "exit1"}',
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1, ran
    page = json.loads(ran.stdout)
    assert page["function_error"] == "Unhandled" and page["payload"]["errorType"] == "Runtime.ExitError"


@pytest.mark.patience(400)
def test_a_version_with_snapstart_runs_once_the_waiter_lets_go(aws):
    code = "import time\ntime.sleep(2)\nhandler = lambda *_: 'restored'\n"
    (aws.folder / "early.zip").write_bytes(packages.package({"app.py": code}))
    runtime = f"python3.{max(sys.version_info.minor, 12)}"
    aws("create-function", "--function-name", "early", "--runtime", runtime, "--handler", "app.handler", "--role", ROLE,
        "--zip-file", "fileb://early.zip", "--snap-start", "ApplyOn=PublishedVersions")
    made = aws("publish-version", "--function-name", "early")["Version"]
    named = ["--function-name", "early", "--qualifier", made]
    aws("wait", "published-version-active", *named)
    assert aws("invoke", *named, "answer.json")["ExecutedVersion"] == made
    assert json.loads((aws.folder / "answer.json").read_text()) == "restored"
