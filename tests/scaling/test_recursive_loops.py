"""Recursive loops: what an SDK hands on from invocation to invocation ends after 16 of one function."""

import json
import urllib.parse

import pytest

from support import puppet, templates
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("loops")
    functions = {name: ("puppet", {"FunctionName": name}) for name in ("Ping", "Pong", "Free")}
    with Platform(home=home, template=templates.write(home, functions)) as platform:
        yield platform


def call(platform, name, trace, kind="RequestResponse"):
    """As boto3 does inside a function: its own trace header, percent-encoded."""
    headers = {"X-Amzn-Trace-Id": urllib.parse.quote(trace, safe="-=;:+&[]{}\"',")} if trace else {}
    path = f"/2015-03-31/functions/{name}/invocations"
    return platform.request("POST", path, json.dumps({"python": "answer = trace"}), headers | {"X-Amz-Invocation-Type": kind})


def test_a_chain_ends_where_a_function_would_run_for_the_17th_time(platform):
    trace = call(platform, "Ping", None).json()
    assert trace.startswith("Root=1-") and "Lineage" not in trace
    for number in range(1, 17):
        for name in ("Ping", "Pong"):
            answer = call(platform, name, trace)
            assert answer.status == 200, (number, answer)
            trace = answer.json()
            assert f":{number}" in trace.split("Lineage=")[1]
    for kind in ("RequestResponse", "Event"):
        answer = call(platform, "Ping", trace, kind)
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "RecursiveInvocationException"), answer
    assert platform.metric("recursive_invocations_dropped", "Ping") == 2
    assert call(platform, "Free", trace).status == 200, "another function is no part of the loop"
    assert call(platform, "Ping", trace.split(";Lineage")[0]).status == 200, "another chain begins anew"


def test_a_function_that_may_loop_goes_on(platform):
    client = platform.client()
    client.put_function_recursion_config(FunctionName="Free", RecursiveLoop="Allow")
    trace = call(platform, "Free", None).json()
    for _ in range(20):
        trace = call(platform, "Free", trace).json()
    assert trace.endswith(":20")
    client.put_function_recursion_config(FunctionName="Free", RecursiveLoop="Terminate")
    assert call(platform, "Free", trace).status == 400
