"""The host has no memory left: here a control group of the test's own, since it is what containers have, too."""

import os
import pathlib
import re
import subprocess
import threading

import pytest

from support import extensions, packages, puppet
from support.crowd import crowd
from support.groups import group_under
from support.leftovers import processes, tree
from support.platform import Platform

MEGABYTE = 1 << 20
# What the platform may have in all.
HOST_MB = 400
# What an environment then keeps for as long as it lives.
FILL = "kept['all'] = b'x' * (event['mb'] << 20)"


def hierarchy():
    """The memory controller's folder and its file for a limit, on either version; `None` where there is none."""
    one = pathlib.Path("/sys/fs/cgroup/memory")
    if (one / "memory.limit_in_bytes").exists():
        return one, "memory.limit_in_bytes"
    two = pathlib.Path("/sys/fs/cgroup")
    if (two / "cgroup.controllers").exists() and "memory" in (two / "cgroup.subtree_control").read_text():
        return two, "memory.max"
    return None


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or hierarchy() is None or not puppet.here(), reason="no control group for memory to make"
)


@pytest.fixture
def small_host(tmp_path):
    """A platform in a control group of `HOST_MB`."""
    top, limit = hierarchy()
    with group_under(top, tmp_path) as (group, wrapper):
        (group / limit).write_text(str(HOST_MB * MEGABYTE))
        with Platform(binary=wrapper) as platform:
            yield platform


def may_be_protected():
    tried = subprocess.run(["sh", "-c", "echo -500 > /proc/self/oom_score_adj"], stderr=subprocess.DEVNULL, check=False)
    return tried.returncode == 0


def refused(answers):
    return [answer for answer in answers if answer.status == 429]


def test_new_environments_are_refused_before_anything_is_killed(small_host):
    platform = small_host
    platform.create("fat", packages.package(puppet.files()), MemorySize=256, Timeout=60)
    event = {"python": f"{FILL}\ntime.sleep(5)", "mb": 20}

    def call(number):
        # One after the other, as memory fills; all of them hold what they have to the end.
        threading.Event().wait(number * 0.25)
        return platform.invoke("fat", event, whole=False)

    answers = crowd(call, range(16))
    kept, turned_away = [a for a in answers if a.status == 200], refused(answers)
    assert len(kept) + len(turned_away) == len(answers), answers
    assert all(answer.error is None for answer in kept), kept
    assert turned_away and {a.headers["x-onrush-limit"].split(";")[0] for a in turned_away} == {"host.memory"}
    assert "This host has no memory for another environment" in turned_away[0].json()["message"]
    row = platform.limit("host.memory", "host")
    assert row["refused"] == len(turned_away) and 0 < row["max"] < HOST_MB and row["peak"] >= row["max"] - 60, row
    assert platform.alive()


def test_idle_environments_make_room_oldest_first(small_host):
    platform = small_host
    for name in ("old", "middle", "new", "next"):
        platform.create(name, packages.package(puppet.files()), MemorySize=512, Timeout=60)

    def count(name, mb=0):
        answer = platform.invoke(name, {"python": f"{FILL}\nanswer = count", "mb": mb})
        assert answer.status == 200 and answer.error is None, answer
        return answer.json()

    # Idle, and full of memory.
    assert [count("old", 110), count("middle", 110), count("new", 110)] == [1, 1, 1]
    # Two go for one that comes.
    assert count("next") == 1
    assert [count("new"), count("next")] == [2, 2]
    assert count("old") == 1
    assert platform.limit("host.memory", "host")["refused"] == 0
    assert platform.alive()


@pytest.mark.parametrize("beside", [0, 1], ids=["alone", "with-an-extension"])
def test_a_kill_for_the_hosts_memory_is_not_called_the_functions(small_host, beside):
    """A function of 1,024 MB takes more than the host has left, so the kernel kills in its environment."""
    platform = small_host
    layers = [extensions.publish(platform, "beside", extensions.layer(waits=extensions.WAITS))] * beside
    platform.create("fat", packages.package(puppet.files()), MemorySize=1024, Timeout=60, Layers=layers)
    for name in ("own", "next"):
        platform.create(name, packages.package(puppet.files()), MemorySize=128, Timeout=60, Layers=layers)
    # Cached files counted as this one's memory until they were needed no more.
    fill = "with open('/tmp/big', 'wb') as file:\n  for _ in range(200): file.write(b'x' * (1 << 20))\nanswer = count"
    assert platform.invoke("next", {"python": fill}).json() == 1
    answer = platform.invoke("fat", {"python": FILL, "mb": HOST_MB + 100})
    assert answer.error == "Unhandled" and answer.json()["errorType"] == "Runtime.ExitError", answer
    assert answer.headers["x-onrush-limit"].startswith("host.memory;"), answer
    # The kernel tells every group in the one that was full; what one function took is not another's fault.
    assert platform.invoke("next", {"python": "answer = count"}).json() == 2 and platform.alive()
    # Nor is any of it, later, the reason for another end.
    answer = platform.invoke("next", {"python": "import os; os._exit(1)"})
    assert answer.json()["errorType"] == "Runtime.ExitError" and "x-onrush-limit" not in answer.headers, answer
    answer = platform.invoke("own", {"python": FILL, "mb": 200})
    assert answer.json()["errorType"] == "Runtime.OutOfMemory", answer
    assert answer.headers["x-onrush-limit"].startswith("function.memory;"), answer


def test_the_kernel_would_take_environments_first(platform):
    platform.create("rogue", packages.built("rogue"))
    platform.invoke("rogue", {})
    score = lambda pid: int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text())
    family = [pid for pid, _ in tree(platform.process.pid)]
    of_functions = [pid for pid in family if b"/var/task/bootstrap" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert of_functions and all(score(pid) == 500 for pid in of_functions)
    # Only root with all its capabilities may go below 0.
    ours = score(platform.process.pid)
    assert ours == (-500 if may_be_protected() else 0)
    children = [pid for pid, (parent, _) in processes().items() if parent == platform.process.pid]
    jailer = [pid for pid in children if re.search(r"^NSpid:.*\t1$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)]
    assert jailer and all(score(pid) == ours for pid in jailer)
