"""How fast environments are added: the scaling rate of today, the burst of 2022; and what a crowd of clients gets."""

import time

import pytest

from support import packages, puppet, templates
from support.crowd import Held, crowd

BIG = {"MemorySize": 512, "Timeout": 120}
needs_puppet = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")


def burst(platform, held, name, number):
    """That many first invocations at once: how many started, the refusals, and for how long decisions were made."""
    begun = time.monotonic()
    calls = held.start(name, number)
    deadline = begun + 60
    while True:
        refused = [call.result() for call in calls if call.done()]
        in_flight = platform.request("GET", "/_onrush/health").json()["in_flight"]
        if len(refused) + in_flight >= number:
            break
        assert time.monotonic() < deadline, (refused, in_flight)
        time.sleep(0.01)
    return in_flight, refused, time.monotonic() - begun


def check_refusals(refused, limit, resource, maximum):
    for answer in refused:
        assert answer.status == 429, answer
        assert answer.json() == {
            "Reason": "ConcurrentInvocationLimitExceeded",
            "Type": "User",
            "message": "Rate Exceeded.",
        }
        assert answer.headers["x-onrush-limit"].startswith(f"{limit}; resource={resource}; "), answer
        assert answer.headers["x-onrush-limit"].endswith(f"; max={maximum}"), answer


@needs_puppet
def test_a_function_starts_as_many_environments_as_its_scaling_rate_allows(start, tmp_path):
    functions = {"Cart": ("puppet", BIG), "Other": ("puppet", BIG)}
    platform = start("--limit", "lambda.scaling-rate=5", home=tmp_path, template=templates.write(tmp_path, functions))
    with Held(platform, tmp_path / "cart") as held:
        started, refused, took = burst(platform, held, "Cart", 12)
        # 5 at once; the bucket refills with 5 in 10 s, which a slow machine may live to see.
        assert 5 <= started <= 5 + int(took / 2) and started + len(refused) == 12, (started, took)
        check_refusals(refused, "lambda.scaling-rate", "Cart", 5)
        assert platform.metric("throttles", "Cart") == len(refused)
        assert any("lambda.scaling-rate" in line and "Cart" in line for line in platform.stderr().splitlines())
        # Each function has a rate of its own.
        assert platform.invoke("Other", {"python": "answer = 1"}).json() == 1
        answers = held.open()
    assert sum(answer.status == 200 for answer in answers) == started
    # Warm environments need no token: as many as there are run again at once.
    with Held(platform, tmp_path / "cart") as held:
        again, refused, took = burst(platform, held, "Cart", started)
        assert (again, refused) == (started, [])
    assert platform.metric("cold_starts", "Cart") == started


@needs_puppet
def test_in_2022_all_functions_shared_one_burst(start, tmp_path):
    functions = {"Cart": ("puppet", BIG), "Other": ("puppet", BIG)}
    platform = start(
        "--era",
        "2022-12",
        "--limit",
        "lambda.burst=4",
        "--limit",
        "lambda.burst-refill=1",
        home=tmp_path,
        template=templates.write(tmp_path, functions),
    )
    assert platform.summary["era"] == "2022-12"
    with Held(platform, tmp_path / "cart") as held:
        started, refused, took = burst(platform, held, "Cart", 10)
        assert 4 <= started <= 4 + int(took / 60) and started + len(refused) == 10, (started, took)
        check_refusals(refused, "lambda.burst", "account", 4)
        if took < 30:
            check_refusals([platform.invoke("Other", {})], "lambda.burst", "account", 4)
        held.open()


@needs_puppet
def test_a_time_out_takes_no_scaling_token(start, tmp_path):
    """Its environment is reset, not replaced."""
    functions = {"Cart": ("puppet", BIG | {"Timeout": 1})}
    platform = start("--limit", "lambda.scaling-rate=1", home=tmp_path, template=templates.write(tmp_path, functions))
    for _ in range(3):
        assert platform.invoke("Cart", {"python": "time.sleep(60)"}).json()["errorType"] == "Sandbox.Timedout"
    assert platform.metric("cold_starts", "Cart") == 1 and platform.metric("throttles", "Cart") == 0


def test_200_concurrent_first_invocations_are_all_answered(platform):
    platform.create("burst", packages.built("echo"), Timeout=30)
    answers = crowd(lambda n: platform.invoke("burst", {"n": n}), range(200))
    assert [answer.status for answer in answers] == [200] * 200
    assert [answer.json() for answer in answers] == [{"n": n} for n in range(200)]
    assert len({answer.request_id for answer in answers}) == 200
    assert platform.metric("invocations", "burst") == 200
    assert platform.metric("throttles", "burst") == platform.metric("errors", "burst") == 0
    assert 1 <= platform.metric("cold_starts", "burst") <= 200


def test_50_clients_get_their_own_answers(platform):
    """No answer, log or id of one reaches another."""
    for name in ("red", "blue"):
        platform.create(name, packages.built("echo"), Timeout=30)

    def client(number):
        for turn in range(10):
            name = ("red", "blue")[(number + turn) % 2]
            event = {
                "client": number,
                "turn": turn,
                "name": name,
                "noise": f"{number}-{turn} " * (1 + 400 * (turn % 3)),
            }
            answer = platform.invoke(name, event, whole=False)
            assert answer.status == 200 and answer.error is None and answer.json() == event, (event, answer)
            assert f"START RequestId: {answer.request_id} " in answer.log
            assert answer.log.count("START RequestId: ") == 1, answer.log
        return number

    assert crowd(client, range(50)) == list(range(50))
    assert platform.metric("invocations", "red") + platform.metric("invocations", "blue") == 500


def test_code_changed_under_load_is_served_by_one_version_each(platform):
    """Every answer comes from the old or the new, none from a mixture, and none is lost."""
    platform.create("moving", packages.built("rogue"), Timeout=30, variables={"WAVE": "0"})
    client = platform.client()

    def caller(number):
        seen = []
        for _ in range(8):
            answer = platform.invoke("moving", {"do": "env"})
            assert answer.status == 200 and answer.error is None, answer
            seen.append(int(answer.json()["seen"]["WAVE"]))
        return seen

    def changer():
        for wave in range(1, 6):
            client.update_function_configuration(FunctionName="moving", Environment={"Variables": {"WAVE": str(wave)}})

    results = crowd(lambda number: changer() if number == 0 else caller(number), range(9))
    for seen in results[1:]:
        assert seen == sorted(seen) and set(seen) <= set(range(6)), seen
    assert platform.invoke("moving", {"do": "env"}).json()["seen"]["WAVE"] == "5"
