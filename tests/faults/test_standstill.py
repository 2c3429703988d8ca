"""The platform stands still for a while: SIGSTOP, as a debugger, a snapshot of the machine or a stopped terminal does."""

import json
import os
import signal
import threading
import time

import pytest

from support import packages, puppet, templates
from support.crowd import crowd

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")

# Seconds that the platform stands still; the long checks ask for more.
PAUSE_S = float(os.environ.get("ONRUSH_PAUSE", "2.5"))
CALLS = 12


@pytest.fixture
def paused():
    """Stops platforms for `PAUSE_S`, while `meanwhile` runs."""
    stopped = []

    def pause(platform, meanwhile=lambda: None):
        stopped.append(platform.process)
        platform.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        meanwhile()
        # The pause itself is what is tested.
        threading.Event().wait(max(0.0, PAUSE_S - (time.monotonic() - began)))
        platform.process.send_signal(signal.SIGCONT)

    yield pause
    for process in stopped:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)


def in_background(call):
    done = []
    thread = threading.Thread(target=lambda: done.append(call()), daemon=True)
    thread.start()
    return thread, done


def test_what_ended_during_a_pause_has_ended_in_time(start, tmp_path, paused):
    """Answers that lie in a socket when the platform goes on are read before their time is found to be up."""
    template = templates.write(tmp_path, {"Red": ("puppet", {"Timeout": 2})})
    platform = start(template=template)
    event = {"python": "print('began', flush=True)\ntime.sleep(1)\nanswer = event['n']"}

    def calls():
        return crowd(lambda n: platform.invoke("Red", event | {"n": n}, timeout=120), range(CALLS))

    assert [answer.json() for answer in calls()] == list(range(CALLS))
    for before in (1, 2):
        thread, done = in_background(calls)
        deadline = time.monotonic() + 60
        # An event that the pause keeps from its function is another matter.
        while platform.log("Red").count("began") < (before + 1) * CALLS:
            assert time.monotonic() < deadline
        paused(platform)
        thread.join(120)
        assert [(answer.error, answer.json()) for answer in done[0]] == [(None, n) for n in range(CALLS)], done
    assert platform.metric("errors", "Red") == 0


def test_a_function_that_hangs_is_ended_after_a_pause(start, tmp_path, paused):
    platform = start(template=templates.write(tmp_path, {"Red": ("puppet", {"Timeout": 1})}))
    thread, done = in_background(lambda: platform.invoke("Red", {"python": "time.sleep(600)"}, timeout=120))
    while platform.alive()["in_flight"] < 1:
        time.sleep(0.01)
    paused(platform)
    thread.join(60)
    assert done[0].error == "Unhandled" and "Task timed out after 1.00 seconds" in done[0].json()["errorMessage"]


def test_requests_that_came_meanwhile_meet_the_same_limits(start, tmp_path, paused):
    """No herd: the pause fills no bucket beyond its size, and nobody is let in twice."""
    functions = {"Red": ("puppet", {"Timeout": 60}), "Blue": ("puppet", {"ReservedConcurrentExecutions": 3})}
    template = templates.write(tmp_path, functions)
    platform = start("--limit", "lambda.scaling-rate=5", template=template)
    event = json.dumps({"python": "time.sleep(1)"})
    answers = []

    def one(name):
        path = f"/2015-03-31/functions/{name}/invocations"
        answers.append((name, platform.request("POST", path, event, timeout=120)))

    threads = [threading.Thread(target=one, args=(name,), daemon=True) for name in ["Red"] * 30 + ["Blue"] * 10]

    def herd():
        for thread in threads:
            thread.start()

    paused(platform, herd)
    for thread in threads:
        thread.join(120)
    took = {name: [a for of, a in answers if of == name] for name in ("Red", "Blue")}
    assert len(answers) == 40
    for name, limit in (("Red", "lambda.scaling-rate"), ("Blue", "lambda.reserved-concurrency")):
        refused = [answer for answer in took[name] if answer.status == 429]
        assert {answer.headers["x-onrush-limit"].split(";")[0] for answer in refused} <= {limit}, refused
        assert len(refused) + sum(answer.status == 200 for answer in took[name]) == len(took[name]), took
    # Five of the bucket, and what half a second or so on a busy machine adds.
    assert 5 <= sum(answer.status == 200 for answer in took["Red"]) <= 8, took["Red"]
    assert platform.limit("lambda.reserved-concurrency", "Blue")["peak"] <= 3


def test_environments_are_idle_for_as_long_as_before(start, paused):
    """Whoever is idle is neither ended early nor twice: the next invocation finds the same process."""
    platform = start()
    platform.create("rogue", packages.built("rogue"), Timeout=30)
    assert platform.invoke("rogue", {}).json()["count"] == 1
    paused(platform)
    assert platform.invoke("rogue", {}).json()["count"] == 2
    assert platform.alive()["environments"] == 1
