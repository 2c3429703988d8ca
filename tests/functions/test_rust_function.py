"""A function on the unmodified `lambda_runtime` crate, by Invoke."""

import json

import pytest

from support import packages
from support.report import is_billed_rightly, report


@pytest.fixture(scope="module")
def echo(platform):
    return platform.create("echo", packages.built("echo"), Timeout=30)


@pytest.mark.parametrize(
    "event",
    [{}, None, 0, -1.5e300, "", 'text \u00e9 \U0001f600 \\ " \u0000', [], [[[]]], {"a": {"b": [True, False, None]}}],
    ids=repr,
)
def test_every_kind_of_json_comes_back(platform, echo, event):
    answer = platform.invoke(echo, body=json.dumps(event))
    assert answer.status == 200 and answer.error is None and answer.json() == event, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amz-executed-version"] == "$LATEST"


def test_the_first_invocation_has_an_init_and_the_next_has_none(platform):
    name = platform.create("fresh", packages.built("echo"))
    first, second = platform.invoke(name, {}), platform.invoke(name, {})
    assert "Init Duration" in report(first) and "Init Duration" not in report(second)
    for answer in (first, second):
        values = report(answer)
        assert is_billed_rightly(values), values
        assert values["Memory Size"] == 128 and 0 < values["Max Memory Used"] <= 128
        assert "Status" not in values
    assert platform.metric("cold_starts", name) == 1 and platform.metric("invocations", name) == 2


def test_the_log_reads_as_lambdas_does(platform, echo):
    answer = platform.invoke(echo, {})
    lines = answer.log.rstrip("\n").split("\n")
    assert lines[0] == f"START RequestId: {answer.request_id} Version: $LATEST"
    assert lines[-2] == f"END RequestId: {answer.request_id}"
    assert lines[-1].startswith(f"REPORT RequestId: {answer.request_id}\tDuration: ")


def test_every_request_has_an_id_of_its_own(platform, echo):
    ids = {platform.invoke(echo, {}).request_id for _ in range(20)}
    assert len(ids) == 20 and all(len(id) == 36 and id.count("-") == 4 for id in ids)
