"""Account and reserved concurrency: what is over them is refused with AWS's reason and Onrush's limit, and counted."""

import json
import socket
import subprocess

import pytest

from support import puppet, templates
from support.crowd import Held
from support.paths import BINARY
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

ACCOUNT, RESERVED = "ConcurrentInvocationLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded"
BIG = {"MemorySize": 1024, "Timeout": 120}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("concurrency")


@pytest.fixture(scope="module")
def platform(home):
    functions = {
        "Cart": ("puppet", BIG | {"FunctionUrlConfig": {"AuthType": "NONE"}}),
        "Other": ("puppet", BIG),
        "Api": ("puppet", BIG | {"Events": {"All": {"Type": "HttpApi"}}}),
    }
    with Platform(
        "--limit", "lambda.account-concurrency=104", home=home, template=templates.write(home, functions)
    ) as platform:
        yield platform


@pytest.fixture
def held(platform, home):
    """Holds invocations of Cart."""
    with Held(platform, home / "cart") as held:
        yield held


@pytest.fixture
def reserve(platform):
    """Reserves concurrency for a function while the test runs."""
    client = platform.client()
    reserved = []

    def put(name, number):
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=number)
        reserved.append(name)

    yield put
    for name in reserved:
        client.delete_function_concurrency(FunctionName=name)


def refusal(answer, reason, limit, resource, used, maximum):
    """It is a 429 that says all of this."""
    assert answer.status == 429, answer
    assert answer.json() == {"Reason": reason, "Type": "User", "message": "Rate Exceeded."}
    assert answer.headers["x-amzn-ErrorType"] == "TooManyRequestsException"
    assert answer.headers["x-onrush-limit"] == f"{limit}; resource={resource}; used={used}; max={maximum}"


def test_reserved_concurrency_is_a_cap_and_its_refusal_says_so(platform, held, reserve):
    reserve("Cart", 2)
    throttles, refused = (
        platform.metric("throttles", "Cart"),
        platform.limit("lambda.reserved-concurrency", "Cart")["refused"],
    )
    held.start("Cart", 2)
    held.wait_in_flight(2)
    third = platform.invoke("Cart", {})
    refusal(third, RESERVED, "lambda.reserved-concurrency", "Cart", 2, 2)
    # Others do not notice.
    assert platform.invoke("Other", {"python": "answer = 1"}).json() == 1
    lines = [line for line in platform.stderr().splitlines() if third.request_id in line]
    assert len(lines) == 1 and "lambda.reserved-concurrency" in lines[0] and "Cart" in lines[0], lines
    assert platform.metric("throttles", "Cart") == throttles + 1
    row = platform.limit("lambda.reserved-concurrency", "Cart")
    assert (row["max"], row["used"], row["peak"], row["refused"]) == (2, 2, 2, refused + 1), row
    assert sorted(answer.json() for answer in held.open()) == [0, 1]
    assert platform.invoke("Cart", {"python": "answer = 2"}).json() == 2


def test_a_refused_invocation_is_no_invocation_and_no_error(platform, reserve):
    reserve("Cart", 0)
    before = [platform.metric(name, "Cart") for name in ("invocations", "errors", "cold_starts")]
    for _ in range(5):
        assert platform.invoke("Cart", {}).status == 429
    assert [platform.metric(name, "Cart") for name in ("invocations", "errors", "cold_starts")] == before


def test_reserving_nothing_stops_a_function(platform, reserve):
    reserve("Cart", 0)
    refusal(platform.invoke("Cart", {}), RESERVED, "lambda.reserved-concurrency", "Cart", 0, 0)
    url = platform.door("Cart")
    assert url.status == 429 and url.json()["Reason"] == RESERVED
    assert url.headers["x-onrush-limit"].startswith("lambda.reserved-concurrency; ")


def test_the_floor_of_100_stays_unreserved(platform):
    client = platform.client()
    with pytest.raises(client.exceptions.InvalidParameterValueException) as caught:
        client.put_function_concurrency(FunctionName="Cart", ReservedConcurrentExecutions=5)
    assert "below its minimum value of [100]" in str(caught.value)


def test_a_lowered_reservation_holds_at_once_and_a_lifted_one_too(platform, held, reserve):
    reserve("Cart", 3)
    held.start("Cart", 2)
    held.wait_in_flight(2)
    reserve("Cart", 1)
    refusal(platform.invoke("Cart", {}), RESERVED, "lambda.reserved-concurrency", "Cart", 2, 1)
    platform.client().delete_function_concurrency(FunctionName="Cart")
    assert platform.invoke("Cart", {"python": "answer = 3"}).json() == 3
    assert all(answer.status == 200 for answer in held.open())


def test_account_concurrency_is_shared_and_what_is_reserved_is_not(start, tmp_path):
    home = tmp_path
    functions = {
        "Cart": ("puppet", BIG),
        "Other": ("puppet", BIG),
        "Api": ("puppet", BIG | {"Events": {"All": {"Type": "HttpApi"}}}),
    }
    platform = start("--limit", "lambda.account-concurrency=3", home=home, template=templates.write(home, functions))
    with Held(platform, home / "cart") as held:
        held.start("Cart", 3)
        held.wait_in_flight(3)
        for name in ("Cart", "Other"):
            refusal(platform.invoke(name, {}), ACCOUNT, "lambda.account-concurrency", "account", 3, 3)
        # An HTTP API shows its own error, and names the limit all the same.
        answer = platform.door("ServerlessHttpApi")
        assert answer.status in (500, 503) and answer.headers["x-onrush-limit"].startswith(
            "lambda.account-concurrency; "
        ), answer
        row = platform.limit("lambda.account-concurrency", "account")
        assert (row["max"], row["used"], row["peak"], row["refused"]) == (3, 3, 3, 3), row
        assert sorted(answer.json() for answer in held.open()) == [0, 1, 2]
    assert platform.invoke("Other", {"python": "answer = 4"}).json() == 4


def test_a_client_that_hangs_up_frees_nothing_before_the_function_ends(platform, held):
    """As on AWS: the invocation goes on without its caller."""
    body = json.dumps({"python": puppet.HOLD}).encode()
    with socket.create_connection(("127.0.0.1", platform.port), timeout=30) as stream:
        stream.sendall(
            b"POST /2015-03-31/functions/Cart/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        held.wait_in_flight(1)
    before = platform.metric("invocations", "Cart")
    assert platform.alive()["in_flight"] == 1
    held.gate.touch()
    platform.wait_idle()
    assert platform.metric("invocations", "Cart") == before + 1


def test_onrush_limits_prints_the_board(platform):
    ran = subprocess.run(
        [BINARY, "limits", "--json", "--endpoint", platform.url], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran
    rows = {(row["id"], row["resource"]): row for row in json.loads(ran.stdout)["limits"]}
    row = rows["lambda.account-concurrency", "account"]
    assert row["max"] == 104 and row["source"] == "given with --limit" and row["raisable"] == "request"
