"""Functions change while they run: new code, shifted aliases, deleted versions and functions, under load."""

import json
import os
import threading
import time

import pytest

from support import packages, puppet, templates
from support.crowd import crowd

LONG = "ONRUSH_LONG" in os.environ
# Invocations in flight at once during an update, and versions published under load.
IN_FLIGHT = 500 if LONG else 40
VERSIONS = 60 if LONG else 10
CALLERS = 8


def code(mark):
    """The rogue function, with a file that says which one it is."""
    return packages.package({"bootstrap": (ROGUE, 0o755), "mark": str(mark)})


ROGUE = (packages.BUILT / "rogue/bootstrap").read_bytes()
READ = {"do": "read", "path": "/var/task/mark"}


def call(platform, name, qualifier=None, event=READ):
    path = f"/2015-03-31/functions/{name}/invocations" + (f"?Qualifier={qualifier}" if qualifier else "")
    return platform.request("POST", path, json.dumps(event))


class History:
    """What was true when: values with the times from which and until which they may be seen."""

    def __init__(self):
        self.spans, self.lock = {}, threading.Lock()

    def begin(self, value):
        with self.lock:
            self.spans[value] = [time.monotonic(), float("inf")]

    def end(self, value):
        with self.lock:
            self.spans[value][1] = time.monotonic()

    def overlaps(self, value, began, ended):
        with self.lock:
            first, last = self.spans.get(value, (float("inf"), 0))
        return first <= ended and began <= last


def test_each_request_is_served_by_one_published_version_and_none_by_a_deleted_one(platform):
    client = platform.client()
    platform.create("moving", code(1), Timeout=30)
    assert client.publish_version(FunctionName="moving")["Version"] == "1"
    client.create_alias(FunctionName="moving", Name="live", FunctionVersion="1")
    latest, live, there = History(), History(), History()
    for history in (latest, live, there):
        history.begin(1)
    is_over, counts, wrong = threading.Event(), {}, []
    # When a version's publication was answered, and when its deletion was asked for.
    published, deleting = {1: 0.0}, {}

    def caller(number):
        ways = [None, "live", "version"]
        while not is_over.is_set():
            way = ways[number % 3]
            number += 1
            qualifier = str(max(list(there.spans)) - number % 3) if way == "version" else way
            if qualifier == "0":
                continue
            began = time.monotonic()
            answer = call(platform, "moving", qualifier)
            ended = time.monotonic()
            version = answer.headers.get("X-Amz-Executed-Version")
            if answer.status == 404 and way == "version":
                # Only one that was deleted, or is not published yet.
                good = began < published.get(int(qualifier), ended) or ended > deleting.get(int(qualifier), ended)
                counts["gone"] = counts.get("gone", 0) + 1
            elif answer.status != 200 or "X-Amz-Function-Error" in answer.headers:
                good = False
            else:
                mark = int(answer.json()["seen"]["text"])
                history = {None: latest, "live": live, "version": there}[way]
                good = history.overlaps(mark, began, ended) and (version == "$LATEST") == (way is None)
                good = good and (way is None or version == str(mark)) and (way != "version" or qualifier == version)
                counts[way] = counts.get(way, 0) + 1
            if not good:
                wrong.append((way, qualifier, began, ended, answer))

    def changer():
        try:
            for mark in range(2, VERSIONS + 2):
                # From the moment that it is asked for it may be seen, and the one before until the answer is here.
                latest.begin(mark)
                there.begin(mark)
                client.update_function_code(FunctionName="moving", ZipFile=code(mark), Publish=True)
                published[mark] = time.monotonic()
                latest.end(mark - 1)
                live.begin(mark)
                weights = {"AdditionalVersionWeights": {str(mark - 1): 0.5}}
                client.update_alias(FunctionName="moving", Name="live", FunctionVersion=str(mark), RoutingConfig=weights)
                threading.Event().wait(0.1)
                client.update_alias(FunctionName="moving", Name="live", FunctionVersion=str(mark), RoutingConfig={"AdditionalVersionWeights": {}})
                live.end(mark - 1)
                if mark > 2:
                    deleting[mark - 2] = time.monotonic()
                    client.delete_function(FunctionName="moving", Qualifier=str(mark - 2))
                    there.end(mark - 2)
        finally:
            is_over.set()

    crowd(lambda number: changer() if number == 0 else caller(number), range(CALLERS + 1))
    print(counts)
    assert not wrong, (wrong[:5], latest.spans, live.spans, there.spans)
    assert min(counts.get(way, 0) for way in (None, "live", "version")) > 0, counts


def test_a_function_deleted_under_load_answers_nobody_who_asks_later(platform):
    client = platform.client()
    for turn in range(4):
        platform.create("fleeting", code(turn), Timeout=30)
        gone_at, wrong, seen = [float("inf")], [], set()
        is_over = threading.Event()

        def caller(_, turn=turn, gone_at=gone_at, wrong=wrong, seen=seen, is_over=is_over):
            while not is_over.is_set():
                began = time.monotonic()
                answer = call(platform, "fleeting")
                seen.add(answer.status)
                good = answer.status == 404 or (
                    answer.status == 200 and began < gone_at[0] and answer.json().get("seen") == {"text": str(turn)}
                )
                if not good:
                    wrong.append((began, gone_at[0], answer))

        def deleter(gone_at=gone_at, is_over=is_over):
            threading.Event().wait(0.3)
            client.delete_function(FunctionName="fleeting")
            gone_at[0] = time.monotonic()
            threading.Event().wait(0.2)
            is_over.set()

        crowd(lambda number: deleter() if number == 0 else caller(number), range(CALLERS + 1))
        assert not wrong, wrong[:5]
        assert seen == {200, 404}
    platform.alive()


@pytest.mark.patience(300)
@pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")
def test_an_update_lets_what_runs_end_on_the_old_code(start, tmp_path):
    platform = start(template=templates.write(tmp_path, {"Busy": ("puppet", {"Timeout": 120})}))
    hold = {"python": puppet.HOLD, "n": "old"}
    done = []
    runs = threading.Thread(target=lambda: done.extend(crowd(lambda _: call(platform, "Busy", event=hold), range(IN_FLIGHT))))
    runs.start()
    deadline = time.monotonic() + 120
    while platform.alive()["in_flight"] < IN_FLIGHT:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    platform.client().update_function_code(FunctionName="Busy", ZipFile=code("new"))
    assert platform.alive()["in_flight"] == IN_FLIGHT, "nobody was interrupted"
    answers = crowd(lambda _: call(platform, "Busy"), range(10))
    assert [answer.json()["seen"]["text"] for answer in answers] == ["new"] * 10
    (tmp_path / "busy/gate").touch()
    runs.join(120)
    assert len(done) == IN_FLIGHT and all(answer.status == 200 and answer.json() == "old" for answer in done)
    # The old environments are gone.
    deadline = time.monotonic() + 60
    while platform.alive()["environments"] > 10:
        assert time.monotonic() < deadline, platform.alive()
        time.sleep(0.05)
