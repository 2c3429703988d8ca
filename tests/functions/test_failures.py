"""Functions that fail in every way: the caller gets Lambda's own answer, the log says why, and the next call works."""

import json
import threading

import pytest

from support import packages
from support.platform import Platform
from support.report import is_billed_rightly, report

LIMIT = 6_291_556


@pytest.fixture(scope="module")
def rogue(platform):
    """A function that misbehaves on request; a fresh one for each name."""

    def make(name, **settings):
        return platform.create(name, packages.built("rogue"), **settings)

    return make


@pytest.fixture(scope="module")
def slow(platform):
    """Invocations whose INIT outlasts its 10 seconds, run beside the other tests."""
    functions = {
        "slow-init": (
            packages.package(
                {
                    "bootstrap": ("#!/bin/sh\nsleep 11\nexec /var/task/rogue\n", 0o755),
                    "rogue": (packages.BUILT.joinpath("rogue/bootstrap").read_bytes(), 0o755),
                }
            ),
            30,
        ),
        "never-next": (packages.source("raw/never_next"), 1),
    }
    answers, threads = {}, []
    for name, (code, timeout) in functions.items():
        platform.create(name, code, Timeout=timeout)
        thread = threading.Thread(
            target=lambda name=name: answers.update({name: platform.invoke(name, {}, timeout=100)})
        )
        thread.start()
        threads.append(thread)

    def wait(name):
        for thread in threads:
            thread.join(100)
        return answers[name]

    return wait


@pytest.fixture(scope="module", autouse=True)
def begin_slow(slow):
    """They begin with the module."""


def error_of(answer):
    assert (answer.status, answer.error) == (200, "Unhandled"), answer
    return answer.json()


# ---- Time-outs ----------------------------------------------------------------------------------------------------


def test_a_time_out_has_lambdas_body_and_names_the_limit(platform, rogue):
    name = rogue("times-out", Timeout=1)
    answer = platform.invoke(name, {"do": "sleep"})
    text = f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds"
    assert answer.error == "Unhandled"
    assert answer.body.decode() == f'{{"errorType":"Sandbox.Timedout","errorMessage":"{text}"}}'
    lines = [line for line in answer.log.split("\n") if "Task timed out after 1.00 seconds" in line]
    assert len(lines) == 1 and answer.request_id in lines[0] and "function.timeout" in lines[0], answer
    assert answer.headers["x-onrush-limit"] == f"function.timeout; resource={name}; used=1; max=1"
    values = report(answer)
    assert (values["Status"], values["Duration"]) == ("timeout", 1000.0) and is_billed_rightly(values)
    assert platform.metric("errors", name) == 1


def test_after_a_time_out_globals_are_lost_tmp_is_kept_and_init_is_suppressed(platform, rogue):
    name = rogue("is-reset", Timeout=1)
    assert platform.invoke(name, {"do": "write", "path": "/tmp/mark", "text": "kept"}).json()["count"] == 1
    assert platform.invoke(name, {}).json()["count"] == 2
    error_of(platform.invoke(name, {"do": "sleep"}))
    after = platform.invoke(name, {"do": "read", "path": "/tmp/mark"})
    assert (after.json()["count"], after.json()["seen"]) == (1, {"text": "kept"})
    assert "Init Duration" not in report(after)
    assert platform.metric("cold_starts", name) == 1
    assert platform.invoke(name, {}).json()["count"] == 2


def test_what_a_timed_out_function_left_running_is_gone(platform, rogue):
    name = rogue("leaves-children", Timeout=1, MemorySize=512)
    assert platform.invoke(name, {"do": "children"}).json()["seen"] == {"left": 1}
    error_of(platform.invoke(name, {"do": "spin"}))
    first = platform.invoke(name, {"do": "heartbeat"}).json()["seen"]
    platform.invoke(name, {"do": "sleep", "ms": 200})
    assert platform.invoke(name, {"do": "heartbeat"}).json()["seen"] == first


# ---- The process ends ---------------------------------------------------------------------------------------------

EXITS = [
    ("exit0", "Runtime exited without providing a reason"),
    ("exit1", "Runtime exited with error: exit status 1"),
    ("panic", "Runtime exited with error: exit status 101"),
    ("segv", "Runtime exited with error: signal: segmentation fault"),
    ("kill", "Runtime exited with error: signal: killed"),
]


@pytest.mark.parametrize("how, reason", EXITS)
def test_a_runtime_that_ends_is_an_exit_error(platform, rogue, how, reason):
    name = rogue(f"ends-by-{how}")
    platform.invoke(name, {"do": "write", "path": "/tmp/mark", "text": "kept"})
    answer = platform.invoke(name, {"do": how})
    assert error_of(answer) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: {reason}",
    }
    assert f"RequestId: {answer.request_id} Error: {reason}\n" in answer.log
    values = report(answer)
    assert (values["Status"], values["Error Type"]) == ("error", "Runtime.ExitError")
    after = platform.invoke(name, {"do": "read", "path": "/tmp/mark"})
    assert (after.json()["count"], after.json()["seen"]) == (1, {"text": "kept"})
    assert "Init Duration" not in report(after)


def test_what_a_dying_function_printed_is_in_its_log(platform, rogue):
    answer = platform.invoke(rogue("panics"), {"do": "panic"})
    assert "told to panic" in answer.log


@pytest.mark.parametrize(
    "kind, variables, reason",
    [
        ("exits_at_once", None, "Runtime exited without providing a reason"),
        ("exits_at_once", {"ROGUE_STATUS": "7"}, "Runtime exited with error: exit status 7"),
        ("logs_then_exits", None, "Runtime exited with error: exit status 127"),
    ],
)
def test_a_runtime_that_ends_in_init_is_tried_again_and_reported(platform, kind, variables, reason):
    name = platform.create(
        f"{kind}-{len(reason)}".replace("_", "-"), packages.source(f"raw/{kind}"), variables=variables
    )
    answer = platform.invoke(name, {})
    assert error_of(answer) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: {reason}",
    }
    log = platform.log(name)
    assert any(
        line.startswith("INIT_REPORT Init Duration: ")
        and "Phase: init\tStatus: error\tError Type: Runtime.ExitError" in line
        for line in log
    ), log
    if kind == "logs_then_exits":
        assert any("error while loading shared libraries: libstore.so.3" in line for line in log), log


def test_an_init_error_of_the_runtime_is_forwarded_byte_for_byte(platform):
    name = platform.create("init-error", packages.source("raw/init_error"))
    answer = platform.invoke(name, {})
    assert answer.error == "Unhandled"
    assert answer.body == b'{"errorMessage":"no configuration","errorType":"Custom.Init","stackTrace":[]}'
    assert any(line.startswith("INIT_REPORT ") and "Status: error" in line for line in platform.log(name))


# ---- INIT is too slow ---------------------------------------------------------------------------------------------


def test_an_init_over_10_s_runs_again_within_the_invocation(platform, slow):
    answer = slow("slow-init")
    assert answer.error is None and answer.json()["count"] == 1, answer
    reports = [line for line in platform.log("slow-init") if line.startswith("INIT_REPORT ")]
    assert len(reports) == 1 and reports[0].endswith("Phase: init\tStatus: timeout"), reports
    values = report(answer)
    # Suppressed: the second init is part of the invocation.
    assert "Init Duration" not in values and values["Duration"] >= 11_000, values


def test_a_runtime_that_never_asks_times_out(platform, slow):
    answer = slow("never-next")
    assert error_of(answer)["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in error_of(answer)["errorMessage"]
    reports = [line for line in platform.log("never-next") if line.startswith("INIT_REPORT ")]
    assert reports and reports[0].endswith("Phase: init\tStatus: timeout"), reports


# ---- Memory and disk ----------------------------------------------------------------------------------------------


def test_a_function_over_its_memory_is_out_of_memory(platform, rogue):
    name = rogue("hog", Timeout=30)
    assert platform.invoke(name, {"do": "allocate", "mb": 64}).json()["seen"] == {"mb": 64}
    answer = platform.invoke(name, {"do": "allocate", "mb": 200})
    error = error_of(answer)
    assert error["errorType"] == "Runtime.OutOfMemory", error
    assert error["errorMessage"] == f"RequestId: {answer.request_id} Error: Runtime exited with error: signal: killed"
    values = report(answer)
    assert (values["Status"], values["Error Type"]) == ("error", "Runtime.OutOfMemory")
    assert values["Max Memory Used"] == values["Memory Size"] == 128
    assert platform.invoke(name, {}).json()["count"] == 1


def test_max_memory_used_is_what_was_used(platform, rogue):
    name = rogue("measured", MemorySize=512, Timeout=30)
    assert report(platform.invoke(name, {}))["Max Memory Used"] < 64
    assert 200 <= report(platform.invoke(name, {"do": "allocate", "mb": 200}))["Max Memory Used"] < 264


def test_400_mb_in_tmp_are_not_memory(platform, rogue):
    name = rogue("writes-tmp", Timeout=60)
    answer = platform.invoke(name, {"do": "tmp", "mb": 400})
    assert answer.error is None and answer.json()["seen"] == {"ok": 400 << 20}, answer
    assert platform.invoke(name, {}).json()["count"] == 2


def test_tmp_is_as_large_as_configured_and_no_larger(platform, rogue):
    name = rogue("fills-tmp", Timeout=60, MemorySize=256)
    filled = platform.invoke(name, {"do": "tmp", "mb": 600}).json()["seen"]
    assert filled["errno"] == 28, filled
    assert platform.invoke(name, {}).json()["count"] == 2


def test_inodes_of_tmp_are_limited(platform, rogue):
    name = rogue("many-files", Timeout=60, MemorySize=1769)
    made = platform.invoke(name, {"do": "files", "count": 300_000}).json()["seen"]
    assert made["errno"] == 28, made


# ---- Sizes and the Runtime API's rules -----------------------------------------------------------------------------


def test_a_response_of_the_limit_passes_and_one_byte_more_is_an_error(platform, rogue):
    name = rogue("large", Timeout=30, MemorySize=512)
    answer = platform.invoke(name, {"do": "respond", "bytes": LIMIT})
    assert answer.error is None and len(answer.body) == LIMIT
    answer = platform.invoke(name, {"do": "respond", "bytes": LIMIT + 1})
    assert error_of(answer) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    told = platform.invoke(name, {}).json()["told"]
    assert told["status"] == 413 and json.loads(told["body"])["errorType"] == "RequestEntityTooLarge", told


def test_a_second_answer_is_refused_and_reaches_nobody(platform, rogue):
    name = rogue("twice", Timeout=10)
    assert platform.invoke(name, {"do": "answer_twice"}).body == b'"first"'
    after = platform.invoke(name, {"n": 1}).json()
    assert after["event"] == {"n": 1}
    assert after["told"]["status"] == 400 and json.loads(after["told"]["body"])["errorType"] == "InvalidRequestID"


def test_an_answer_to_a_foreign_id_is_refused(platform, rogue):
    told = platform.invoke(rogue("other", Timeout=10), {"do": "answer_other"}).json()
    assert told["status"] == 400 and json.loads(told["body"])["errorType"] == "InvalidRequestID"


@pytest.mark.parametrize("kind, expected", [("answers_twice", "first"), ("answers_other", "mine")])
def test_the_same_from_a_runtime_on_a_library(platform, kind, expected):
    name = platform.create(kind.replace("_", "-"), packages.source(f"raw/{kind}"), Timeout=10)
    for _ in range(2):
        assert platform.invoke(name, {}).json() == expected
    assert any(line.startswith("400 ") and "InvalidRequestID" in line for line in platform.log(name))


def test_a_runtime_in_plain_shell_works(platform):
    name = platform.create("shell", packages.source("raw/speaks_shell"), Timeout=10, MemorySize=512)
    for number in range(3):
        assert platform.invoke(name, {"n": number}).json() == {"n": number}


def test_a_runtime_that_answers_and_never_asks_again_costs_nobody_an_answer(platform, rogue):
    """Its environment stays busy until its time is out; the next caller gets another one."""
    name = rogue("never-asks-again", Timeout=2)
    assert platform.invoke(name, {"do": "never_next"}, whole=False).body == b'"the last"'
    after = platform.invoke(name, {"n": 1})
    assert after.error is None and (after.json()["count"], after.json()["event"]) == (1, {"n": 1}), after


def test_an_error_body_is_forwarded_byte_for_byte(platform):
    body = '{ "errorType" : "Odd",\\n "errorMessage":"sp  aces \u00e9", "more": [1 ] }'.replace("\\n", "\n")
    script = (
        "#!/usr/bin/python3 -IS\nimport os\nfrom http.client import HTTPConnection\n"
        "api = HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\nbase = '/2018-06-01/runtime/invocation/'\n"
        "while True:\n    api.request('GET', base + 'next')\n    got = api.getresponse()\n    got.read()\n"
        f"    api.request('POST', base + got.headers['Lambda-Runtime-Aws-Request-Id'] + '/error', {body!r}.encode())\n"
        "    api.getresponse().read()\n"
    )
    name = platform.create("odd-error", packages.package({"bootstrap": (script, 0o755)}), Timeout=10)
    answer = platform.invoke(name, {})
    assert answer.error == "Unhandled" and answer.body.decode() == body


# ---- Programs that the kernel does not execute ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, bootstrap, cause, cure",
    [
        ("crlf", "#!/bin/sh\r\nexit 0\r\n", "no such file or directory", "has the line ends of Windows"),
        ("no-ruby", "#!/opt/ruby/bin/ruby\n", "no such file or directory", "begins with `#!/opt/ruby/bin/ruby`"),
        ("no-shebang", "echo hello\n", "exec format error", "is neither a Linux program nor a script"),
        ("other-processor", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\xf3\0" + bytes(44), "exec format error", "is a program for riscv64"),
    ],
    ids=["crlf", "no-ruby", "no-shebang", "other-processor"],
)
def test_a_bootstrap_that_cannot_be_executed_is_told_with_its_cure(platform, name, bootstrap, cause, cure):
    name = f"not-executed-{name}"
    platform.create(name, packages.package({"bootstrap": (bootstrap, 0o755)}))
    answer = platform.invoke(name, {})
    text = f"RequestId: {answer.request_id} Error: fork/exec /var/task/bootstrap: {cause}"
    assert error_of(answer) == {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": text}
    assert platform.tells(f"`onrush logs {name}` has all of it")
    told = [line for line in platform.stderr().splitlines() if name in line]
    assert [cure in line for line in told] == [True, False], told
    assert f"`onrush logs {name}` has all of it" in told[1]


def test_functions_beyond_those_that_the_start_waits_for_are_looked_at_too(tmp_path):
    """What will fail is said of each, however much was put off until the ready line."""
    empty = tmp_path / "empty"
    empty.mkdir()
    settings = {"CodeUri": str(empty), "Handler": "bootstrap", "Runtime": "provided.al2023"}
    names = [f"Empty{number:03}" for number in range(120)]
    resources = {name: {"Type": "AWS::Serverless::Function", "Properties": settings} for name in names}
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    with Platform(home=tmp_path, template=template) as platform:
        assert platform.tells("this function will fail", len(names)), platform.stderr()
