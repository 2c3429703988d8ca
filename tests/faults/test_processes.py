"""A function that does all it can to outlive its time."""

import pathlib
import time

import pytest

from support import packages, puppet
from support.leftovers import tree

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")

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


def of_functions(platform):
    found = []
    for pid, _ in tree(platform.process.pid):
        try:
            if b"/var/task/bootstrap" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            pass
    return found


def test_deaf_processes_in_sessions_of_their_own_end_with_the_time_out(platform):
    name = platform.create("clings", packages.package(puppet.files()), Timeout=2, MemorySize=512)
    answer = platform.invoke(name, {"python": CLINGS})
    assert "Task timed out after 2.00 seconds" in answer.json()["errorMessage"], answer
    deadline = time.monotonic() + 20
    while of_functions(platform):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.02)
    assert platform.invoke(name, {"python": "answer = count"}).json() == 1
