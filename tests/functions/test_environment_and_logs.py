"""What a function sees of its environment, and what becomes of what it prints."""

import pathlib
import re
import signal
import subprocess
import threading
import time

import pytest

from support import packages
from support.paths import BINARY, FUNCTIONS

FLOOD = 100_000_000
# Debug builds and two floods in flight included; the flood itself is 100 MB.
PLATFORM_MEMORY_MB = 200


@pytest.fixture(scope="module")
def variables(platform):
    platform.create(
        "sees",
        packages.built("rogue"),
        MemorySize=256,
        handler="some.handler",
        variables={"STAGE": "test", "LANG": "de_DE"},
    )
    return platform.invoke("sees", {"do": "env"}).json()["seen"]


@pytest.mark.parametrize(
    "name, value",
    [
        ("AWS_LAMBDA_FUNCTION_NAME", "sees"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/sees"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("_HANDLER", "some.handler"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("PWD", "/var/task"),
        ("TZ", ":UTC"),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
        ("_AWS_XRAY_DAEMON_PORT", "2000"),
        ("SHLVL", "0"),
        ("STAGE", "test"),
        ("LANG", "de_DE"),
    ],
)
def test_a_variable_has_lambdas_value(variables, name, value):
    assert variables.get(name) == value


def test_the_other_variables_have_lambdas_form(variables):
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", variables["AWS_LAMBDA_LOG_STREAM_NAME"])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_XRAY_DAEMON_ADDRESS"):
        assert variables[name]
    assert "/opt/bin" in variables["PATH"].split(":") and "/var/task/lib" in variables["LD_LIBRARY_PATH"].split(":")
    # Only managed runtimes have it.
    assert "AWS_EXECUTION_ENV" not in variables


def test_nothing_of_the_hosts_environment_is_inside(variables):
    assert not [name for name in variables if name.startswith(("CARGO", "ONRUSH", "PYTEST", "HOME", "USER", "SSH"))]


def test_log_lines_are_kept_in_order_and_control_characters_are_not(platform):
    script = (
        "#!/usr/bin/python3 -IS\nimport os, sys\nfrom http.client import HTTPConnection\n"
        "api = HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\nbase = '/2018-06-01/runtime/invocation/'\n"
        "while True:\n    api.request('GET', base + 'next')\n    got = api.getresponse()\n    got.read()\n"
        "    os.write(1, b'first\\nsecond ')\n    os.write(1, b'half\\r\\nREPORT forged\\x1b[2J\\x07\\n')\n"
        "    os.write(2, b'to stderr \\xff\\n')\n    os.write(1, b'no end of line')\n"
        "    api.request('POST', base + got.headers['Lambda-Runtime-Aws-Request-Id'] + '/response', b'1')\n"
        "    api.getresponse().read()\n"
    )
    name = platform.create("prints", packages.package({"bootstrap": (script, 0o755)}), Timeout=10)
    platform.invoke(name, {})
    platform.invoke(name, {})
    lines = platform.log(name)
    first = lines.index("first")
    assert lines[first + 1] == "second half"
    assert (
        lines[first + 2].startswith("REPORT forged")
        and "\x1b" not in lines[first + 2]
        and "\x07" not in lines[first + 2]
    )
    assert lines[first + 3].startswith("to stderr ")
    assert any(line.startswith("no end of line") for line in lines)


def test_a_flood_of_100_mb_is_bounded_and_hurts_nobody(platform):
    platform.create("floods", packages.built("rogue"), Timeout=100, MemorySize=1769)
    platform.create("neighbour", packages.built("echo"), Timeout=30)
    answers = []
    flood = threading.Thread(
        target=lambda: answers.append(platform.invoke("floods", {"do": "log", "bytes": FLOOD}, timeout=110))
    )
    flood.start()
    while flood.is_alive():
        assert platform.invoke("neighbour", {"n": 1}).json() == {"n": 1}
        time.sleep(0.1)
    flood.join()
    answer = answers[0]
    assert answer.error is None and answer.json()["seen"] == {"ok": FLOOD}, answer
    assert len(answer.log) <= 4096 and answer.log.rstrip().split("\n")[-1].startswith("REPORT RequestId: ")
    kept = platform.log("floods")
    assert sum(map(len, kept)) <= 2 << 20 and kept[-1].startswith("REPORT RequestId: ")
    files = list((platform.data_dir / "logs").glob("floods.log*"))
    assert sum(file.stat().st_size for file in files) < 64 << 20, files
    status = pathlib.Path(f"/proc/{platform.process.pid}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024
    assert peak < PLATFORM_MEMORY_MB, f"the platform's memory peaked at {peak} MB"


def test_an_idle_function_is_frozen(platform):
    """A background process makes no progress between invocations."""
    platform.create("idles", packages.built("rogue"), Timeout=10, MemorySize=512)
    platform.invoke("idles", {"do": "children"})
    before = heartbeat(platform, "idles")
    time.sleep(1.5)
    after = heartbeat(platform, "idles")
    # Awake it would beat 300 times; what it may do is beat until it is frozen, and until its count is read.
    assert after - before < 100, (before, after)
    # It goes on when thawed: a second of work lets it beat again.
    platform.invoke("idles", {"do": "sleep", "ms": 1000})
    assert heartbeat(platform, "idles") > after + 5


def heartbeat(platform, name):
    """The count of the background process, which may be caught while it writes."""
    for _ in range(20):
        if text := platform.invoke(name, {"do": "heartbeat"}).json()["seen"].get("text"):
            return int(text)
    raise AssertionError("there is no heartbeat")


def test_onrush_logs_shows_the_log(platform, variables):
    ran = subprocess.run(
        [BINARY, "logs", "sees", "--endpoint", platform.url], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0 and "START RequestId: " in ran.stdout and "REPORT RequestId: " in ran.stdout, ran


def test_onrush_logs_follows_until_ctrl_c(platform, variables):
    follower = subprocess.Popen(
        [BINARY, "logs", "sees", "--follow", "--endpoint", platform.url], stdout=subprocess.PIPE, text=True
    )
    try:
        # What was there is shown first, so the follower is there once it came.
        assert follower.stdout.readline()
        request_id = platform.invoke("sees", {}).request_id
        for line in follower.stdout:
            if f"REPORT RequestId: {request_id}" in line:
                break
        else:
            raise AssertionError("the follower ended")
        follower.send_signal(signal.SIGINT)
        follower.wait(10)
    finally:
        follower.kill()
        follower.wait(10)
        follower.stdout.close()


def test_a_follower_says_when_the_platform_stops(start):
    platform = start()
    platform.create("ends", packages.built("rogue"))
    platform.invoke("ends", {})
    follower = subprocess.Popen(
        [BINARY, "logs", "ends", "--follow", "--endpoint", platform.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout.readline()
        platform.stop()
        _, complaint = follower.communicate(timeout=30)
        assert (follower.returncode, complaint) == (1, f"error: {platform.url} has stopped; the log ends here\n")
    finally:
        follower.kill()


def test_onrush_invoke_takes_the_event_itself(platform, variables):
    def invoke(*arguments):
        command = [BINARY, "invoke", "sees", *arguments, "--endpoint", platform.url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=FUNCTIONS)

    assert invoke('{"do": "nothing"}').returncode == 0
    slip = invoke("hello")
    assert slip.returncode == 2 and "-e FILE" in slip.stderr, slip
    slip = invoke("README.md")
    assert slip.returncode == 2 and "did you mean `-e README.md`?" in slip.stderr, slip
