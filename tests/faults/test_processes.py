"""Processes that do all they can to outlive their time, and a host that has no room for more of them."""

import os
import pathlib
import time

import pytest

from support import extensions, packages, puppet
from support.crowd import crowd
from support.groups import group_under
from support.leftovers import tree
from support.platform import Platform

# Environments that are asked for at once, and processes that there is still room for.
ASKED, ROOM = 24, 16

# Children of children in sessions of their own, deaf to what can be ignored; then it hangs itself.
CLINGS = """
import signal
for number in range(1, 65):
    if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33): signal.signal(number, signal.SIG_IGN)
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)
time.sleep(600)
"""

# Two kinds of extensions: one waits for events, the other takes every process that its environment may have, then waits.
GREEDY = """
while True:
    try:
        if os.fork() == 0:
            while True: time.sleep(1000)
    except OSError:
        break
""" + extensions.WAITS


def of_functions(platform):
    found = []
    for pid, _ in tree(platform.process.pid):
        try:
            if b"/var/task/bootstrap" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            pass
    return found


@pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")
def test_deaf_processes_in_sessions_of_their_own_end_with_the_time_out(platform):
    name = platform.create("clings", packages.package(puppet.files()), Timeout=2, MemorySize=512)
    answer = platform.invoke(name, {"python": CLINGS})
    assert "Task timed out after 2.00 seconds" in answer.json()["errorMessage"], answer
    deadline = time.monotonic() + 20
    while of_functions(platform):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.02)
    assert platform.invoke(name, {"python": "answer = count"}).json() == 1


def hierarchy():
    """The folder of the controller of processes, on either version; `None` where there is none."""
    one, two = pathlib.Path("/sys/fs/cgroup/pids"), pathlib.Path("/sys/fs/cgroup")
    if (one / "tasks").exists():
        return one
    return two if (two / "cgroup.controllers").exists() and "pids" in (two / "cgroup.subtree_control").read_text() else None


@pytest.mark.skipif(os.geteuid() != 0 or hierarchy() is None, reason="no control group for processes to make")
@pytest.mark.parametrize("beside", [0, 2], ids=["alone", "with-extensions"])
def test_a_host_with_few_processes_refuses_what_does_not_fit_and_recovers(tmp_path, beside):
    """A container's or a service's limit on processes (F14): here a control group of the test's own. Extensions have
    processes of their own, which start before the function's: whichever of them finds no room, it is the host's fault."""
    with group_under(hierarchy(), tmp_path) as (group, wrapper):
        with Platform(binary=wrapper) as platform:
            scripts = {f"extension-{number}": extensions.WAITS for number in range(beside)}
            layers = [extensions.publish(platform, "beside", extensions.layer(**scripts))] if scripts else []
            platform.create("rogue", packages.built("rogue"), Timeout=60, Layers=layers)
            assert platform.invoke("rogue", {}).json()["count"] == 1
            held = int((group / "pids.current").read_text())
            (group / "pids.max").write_text(str(held + ROOM))
            answers = crowd(lambda _: platform.invoke("rogue", {"do": "sleep", "ms": 700}, whole=False), range(ASKED))
            taken = [answer for answer in answers if answer.status == 200]
            assert taken and not (failed := [answer for answer in taken if answer.error]), failed
            turned_away = [answer for answer in answers if answer.status != 200]
            assert turned_away and {answer.status for answer in turned_away} <= {429, 500, 503}, turned_away
            assert all(answer.headers["x-onrush-limit"].startswith("host.") for answer in turned_away), turned_away
            assert platform.alive()["in_flight"] == 0
            # With room again, as many as asked.
            (group / "pids.max").write_text("max")
            again = crowd(lambda _: platform.invoke("rogue", {"do": "sleep", "ms": 300}), range(ASKED))
            assert [(answer.status, answer.error) for answer in again] == [(200, None)] * ASKED, again


@pytest.mark.skipif(os.geteuid() != 0 or hierarchy() is None, reason="no control group limits an environment's processes")
def test_an_extension_that_takes_all_processes_of_its_environment_blames_nobody_else(platform):
    """Its own 1,024 are the function's to spend: then its runtime cannot start, and the host is not said to be full."""
    arn = extensions.publish(platform, "greedy", extensions.layer(greedy=GREEDY))
    platform.create("greedy", packages.built("rogue"), Timeout=20, MemorySize=3008, Layers=[arn])
    answer = platform.invoke("greedy", {}, whole=False)
    assert (answer.status, answer.error) == (200, "Unhandled"), answer
    assert answer.json()["errorType"] == "Runtime.InvalidEntrypoint", answer
    assert "resource temporarily unavailable" in answer.json()["errorMessage"].lower(), answer
