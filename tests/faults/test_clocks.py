"""Clocks that jump: the wall clock by hours and years while functions run, and a monotonic clock that is years old."""

import datetime
import json
import os
import subprocess
import threading
import time

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from support import packages, templates
from support.listener import Listener, account_arn
from support.paths import BINARY

HOUR = 3_600
JUMPS = {"an hour back": -HOUR, "ten years ahead": 10 * 365 * 24 * HOUR}
if "ONRUSH_LONG" in os.environ:
    JUMPS |= {"an hour ahead": HOUR, "ten years back": -10 * 365 * 24 * HOUR}
DEAD = account_arn("sqs", "dead")
KEY = ("AKIATEST", "secret")


class Clock:
    def __init__(self, path):
        self.path = path
        self.set(0)

    def set(self, seconds):
        new = self.path.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.path)


def signed_headers(platform, method, path, body, seconds):
    """Signed at the time that the wall clock shows after a jump of so many seconds."""
    now = datetime.datetime.fromtimestamp(time.time() + seconds, datetime.timezone.utc).replace(tzinfo=None)
    request = botocore.awsrequest.AWSRequest(method, f"{platform.url}{path}", data=body)
    signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(*KEY), "lambda", "us-east-1")
    patched = {name: getattr(botocore.auth, name) for name in ("get_current_datetime", "_get_current_datetime") if hasattr(botocore.auth, name)}
    try:
        for name in patched:
            setattr(botocore.auth, name, lambda *_, **__: now)
        signer.add_auth(request)
    finally:
        for name, own in patched.items():
            setattr(botocore.auth, name, own)
    return dict(request.prepare().headers)


def ask(platform, method, path, seconds, body=None, **headers):
    """A request of a client whose clock is so many seconds ahead."""
    own = signed_headers(platform, method, path, body, seconds)
    return platform.request(method, path, body, own | headers, timeout=60)


def invoke(platform, name, event, seconds, **headers):
    return ask(platform, "POST", f"/2015-03-31/functions/{name}/invocations", seconds, json.dumps(event), **headers)


@pytest.mark.parametrize("jump", JUMPS, ids=lambda name: name.replace(" ", "-"))
def test_only_signatures_are_judged_by_the_wall_clock(start, tmp_path, jump):
    clock = Clock(tmp_path / "clock")
    functions = {
        "Clocked": ("rogue", {"Timeout": 4}),
        "Red": ("rogue", {"DeadLetterQueue": {"Type": "SQS", "TargetArn": DEAD}, "ReservedConcurrentExecutions": 1}),
    }
    with Listener() as listener:
        template = templates.write(tmp_path, functions)
        arguments = ("--wall-clock", str(clock.path), "--credentials", ":".join(KEY), "--event-speed", "60")
        platform = start(*arguments, "--limit", "lambda.scaling-rate=5", "--endpoint", f"sqs={listener.url}", template=template)
        assert invoke(platform, "Clocked", {}, 0).json()["count"] == 1
        # One that runs, one that hangs, and an event whose next try is a second away.
        results = {}

        def during(word, event):
            results[word] = invoke(platform, "Clocked", event, 0), time.monotonic()

        began = time.monotonic()
        threads = [
            threading.Thread(target=during, args=("runs", {"do": "sleep", "ms": 2_000}), daemon=True),
            threading.Thread(target=during, args=("hangs", {"do": "sleep"}), daemon=True),
        ]
        for thread in threads:
            thread.start()
        failing = {"do": "error", "message": "no"}
        assert invoke(platform, "Red", failing, 0, **{"X-Amz-Invocation-Type": "Event"}).status == 202
        while platform.alive()["in_flight"] < 2:
            time.sleep(0.01)

        clock.set(JUMPS[jump])
        # Whoever signs by the old clock is turned away once the new one holds, and whoever signs by the new one is not.
        while invoke(platform, "Clocked", {}, 0).status != 403:
            assert time.monotonic() < began + 30, "the wall clock was not set"
        assert invoke(platform, "Clocked", {}, JUMPS[jump]).status == 200
        for thread in threads:
            thread.join(60)
        runs, hangs = results["runs"][0], results["hangs"][0]
        assert runs.status == 200 and "X-Amz-Function-Error" not in runs.headers, runs
        assert "Task timed out after 4.00 seconds" in hangs.json()["errorMessage"]
        assert 4 <= results["hangs"][1] - began
        # The event is tried three times, neither at once nor never, and is not too old.
        assert listener.letter(DEAD).json() == failing
        metrics = ask(platform, "GET", "/_onrush/metrics", JUMPS[jump]).body.decode()
        assert 'onrush_errors_total{function="Red"} 3\n' in metrics
        assert platform.alive()["events"] == 0
        # Idle environments are still there: whoever comes now needs no new one.
        assert platform.alive()["environments"] >= 3
        assert invoke(platform, "Clocked", {}, JUMPS[jump]).status == 200
        assert ask(platform, "GET", "/_onrush/metrics", JUMPS[jump]).body.decode().count('onrush_cold_starts_total{function="Clocked"} 3\n')
        board = ask(platform, "GET", "/_onrush/limits", JUMPS[jump]).json()["limits"]
        ages = [row["refused"] for row in board if row["id"] == "async.queue-age"]
        assert ages and not any(ages)


def new_time():
    return subprocess.run(["unshare", "--time", "--monotonic", "1", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not new_time(), reason="no time namespace can be made")
def test_a_machine_that_is_up_for_years_runs_functions(start, tmp_path):
    wrapper = tmp_path / "years"
    years = str(20 * 365 * 24 * HOUR)
    wrapper.write_text(f'#!/bin/sh\nexec unshare --time --monotonic {years} --boottime {years} {BINARY} "$@"\n')
    wrapper.chmod(0o755)
    platform = start(binary=wrapper)
    platform.create("rogue", packages.built("rogue"), Timeout=1)
    assert [platform.invoke("rogue", {}).json()["count"] for _ in range(2)] == [1, 2]
    assert platform.invoke("rogue", {"do": "sleep"}).json()["errorType"] == "Sandbox.Timedout"
    assert platform.invoke("rogue", {}).json()["count"] == 1
