"""One function misbehaves with all its might; the others, and the platform, go on."""

import concurrent.futures
import os
import pathlib
import signal
import threading
import time

import pytest

from support import packages
from support.leftovers import tree
from support.report import report


@pytest.fixture(scope="module")
def neighbour(platform):
    """A function that answers while `call` runs; gives what that came to."""
    platform.create("neighbour", packages.built("echo"), Timeout=60)

    def beside(call):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            result = pool.submit(call)
            turns = 0
            while not result.done() or turns == 0:
                turns += 1
                answer = platform.invoke("neighbour", {"turn": turns})
                assert answer.error is None and answer.json() == {"turn": turns}, answer
                time.sleep(0.02)
            platform.alive()
            return result.result()

    return beside


@pytest.fixture(scope="module")
def rogue(platform):
    def make(name, **settings):
        return platform.create(name, packages.built("rogue"), **({"Timeout": 60, "MemorySize": 1769} | settings))

    return make


def runtimes(platform):
    """Process ids, as the host sees them, of everything that runs as a function's bootstrap."""
    found = []
    for pid, _ in tree(platform.process.pid):
        try:
            if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/var/task/bootstrap\0"):
                found.append(pid)
        except OSError:
            pass
    return found


def wait_for(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_fork_bomb_stays_in_its_box_and_is_cleared_away(platform, rogue, neighbour):
    before = len(tree(platform.process.pid))
    name = rogue("bomb", MemorySize=512, Timeout=4)
    answer = neighbour(lambda: platform.invoke(name, {"do": "fork_bomb"}))
    if answer.error is None:
        seen = answer.json()["seen"]
        assert seen["stopped_by"]["errno"] == 11 and 0 < seen["made"] < 1024, seen
    else:
        # Its own memory is the other wall that it may meet first; and its children leave it little time to say so.
        assert answer.json()["errorType"] in ("Runtime.OutOfMemory", "Sandbox.Timedout"), answer
    platform.client().delete_function(FunctionName=name)
    # Sixteen environments may stand ready, of one process each, and others be in the making.
    wait_for(lambda: len(tree(platform.process.pid)) <= before + 24, "processes of the bomb are left")


def test_a_memory_hog_is_ended_alone(platform, rogue, neighbour):
    name = rogue("hog", MemorySize=256)
    answer = neighbour(lambda: platform.invoke(name, {"do": "allocate", "mb": 2000}))
    assert answer.error == "Unhandled" and answer.json()["errorType"] == "Runtime.OutOfMemory", answer
    assert report(answer)["Error Type"] == "Runtime.OutOfMemory"


def test_a_disk_filler_fills_its_own_tmp_alone(platform, rogue, neighbour):
    name = rogue("filler")
    answer = neighbour(lambda: platform.invoke(name, {"do": "tmp", "mb": 2000}))
    assert answer.json()["seen"]["errno"] == 28, answer
    other = platform.invoke(rogue("other-disk"), {"do": "tmp", "mb": 50})
    assert other.json()["seen"] == {"ok": 50 << 20}


def test_a_spinner_gets_its_share_of_a_processor_and_no_more(platform, rogue, neighbour):
    name = rogue("spinner", MemorySize=128, Timeout=2)
    answer = neighbour(lambda: platform.invoke(name, {"do": "spin"}))
    assert answer.json()["errorType"] == "Sandbox.Timedout"


def test_a_runtime_killed_from_outside_while_it_works_is_an_exit_error(platform, rogue, neighbour):
    name = rogue("victim")
    others = set(runtimes(platform))
    platform.invoke(name, {})
    (pid,) = set(runtimes(platform)) - others

    def kill_once_in_flight():
        call = []
        thread = threading.Thread(target=lambda: call.append(platform.invoke(name, {"do": "sleep"})))
        thread.start()
        wait_for(lambda: "START RequestId: " in platform.log(name)[-1], "it does not begin")
        os.kill(pid, signal.SIGKILL)
        thread.join(70)
        return call[0]

    answer = neighbour(kill_once_in_flight)
    assert answer.error == "Unhandled", answer
    assert answer.json() == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: Runtime exited with error: signal: killed",
    }
    assert platform.invoke(name, {}).json()["count"] == 1


def test_a_runtime_killed_while_it_waits_costs_nobody_an_answer(start):
    platform = start("--freeze-after", "600000")
    platform.create("waits", packages.built("rogue"), Timeout=10)
    assert [platform.invoke("waits", {}).json()["count"] for _ in range(2)] == [1, 2]
    (pid,) = runtimes(platform)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not runtimes(platform), "it does not die")
    answer = platform.invoke("waits", {})
    assert answer.error is None and answer.json()["count"] == 1, answer


def test_a_runtime_killed_while_frozen_is_replaced(platform, rogue, neighbour):
    name = rogue("frozen-victim")
    others = set(runtimes(platform))
    assert [platform.invoke(name, {}).json()["count"] for _ in range(2)] == [1, 2]
    (pid,) = set(runtimes(platform)) - others
    os.kill(pid, signal.SIGKILL)
    # A frozen process may die only once it is thawed for the next invocation, which then ends as on AWS.
    answer = neighbour(lambda: platform.invoke(name, {}))
    if answer.error is not None:
        assert answer.json()["errorType"] == "Runtime.ExitError", answer
        answer = platform.invoke(name, {})
    assert answer.error is None and answer.json()["count"] == 1, answer


def test_a_function_deleted_while_it_runs_ends_in_peace(platform, rogue):
    name = rogue("deleted")
    call = []
    thread = threading.Thread(target=lambda: call.append(platform.invoke(name, {"do": "sleep", "ms": 1500, "n": 1})))
    thread.start()
    wait_for(lambda: platform.alive()["in_flight"] == 1, "it does not begin")
    platform.client().delete_function(FunctionName=name)
    assert platform.invoke(name, {}).status == 404
    thread.join(70)
    assert call[0].status == 200 and call[0].error is None and call[0].json()["event"]["n"] == 1, call[0]


def test_what_a_deleted_function_had_is_gone(platform, rogue):
    before = len(tree(platform.process.pid))
    name = rogue("leaves-nothing")
    platform.invoke(name, {"do": "children"})
    assert len(tree(platform.process.pid)) > before
    platform.client().delete_function(FunctionName=name)
    wait_for(lambda: len(tree(platform.process.pid)) <= before, "processes are left")
    assert platform.request("GET", "/_onrush/logs/leaves-nothing").status == 404
