"""Nobody reads what the platform and its functions say: a full pipe, a stopped terminal, a log folder that hangs."""

import fcntl
import os
import signal
import subprocess
import time

import pytest

from support import packages, puppet, templates
from support.crowd import crowd
from support.paths import BINARY

F_SETPIPE_SZ = 1031
# Messages of one line each, several times what a small pipe holds.
FUNCTIONS = 40


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)


@pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")
def test_a_full_pipe_at_standard_error_stops_neither_invocations_nor_the_end(start, tmp_path, pipe):
    reader, writer = pipe
    functions = {f"Red{n}": ("puppet", {"ReservedConcurrentExecutions": 1}) for n in range(FUNCTIONS)}
    functions["Echo"] = ("echo", {})
    template = templates.write(tmp_path, functions)
    platform = start(template=template, errors=writer)
    os.close(writer)
    failed = crowd(lambda n: platform.invoke(f"Red{n}", {"python": "os._exit(1)"}), range(FUNCTIONS), most=8)
    assert all("exit status 1" in answer.json()["errorMessage"] for answer in failed)
    held = len(os.read(reader, 1 << 20))
    assert held >= 2048, "the pipe was full"
    assert platform.invoke("Echo", {"n": 1}).json() == {"n": 1}
    platform.alive()
    # What waited comes once somebody reads, whole and in its order.
    text, deadline = b"", time.monotonic() + 30
    while (count := text.count(b"exit status 1")) < 5:
        assert time.monotonic() < deadline, (count, text)
        text += os.read(reader, 1 << 20)
    assert b"\nonrush_messages_lost_total 0\n" in platform.request("GET", "/_onrush/metrics").body
    crowd(lambda n: platform.invoke(f"Red{n}", {"python": "os._exit(1)"}), range(FUNCTIONS), most=8)
    assert platform.stop() == 0


def test_a_follower_that_stands_still_holds_nobody_up(platform):
    platform.create("noisy", packages.built("rogue"), Timeout=60)
    platform.invoke("noisy", {})
    words = [BINARY, "logs", "noisy", "-f", "--endpoint", platform.url]
    follower = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        assert follower.stdout.readline()
        follower.send_signal(signal.SIGSTOP)
        for _ in range(3):
            answer = platform.invoke("noisy", {"do": "log", "bytes": 8 << 20})
            assert answer.status == 200 and answer.error is None, answer
        assert platform.invoke("noisy", {}).error is None
    finally:
        follower.kill()
        follower.wait(10)
        follower.stdout.close()


def test_a_log_file_that_hangs_stops_neither_invocations_nor_the_end(start, tmp_path):
    """A file server that is gone looks like this; here it is a pipe that nobody opens."""
    logs = tmp_path / "data/logs"
    logs.mkdir(parents=True)
    os.mkfifo(logs / "noisy.log")
    platform = start(home=tmp_path)
    platform.create("noisy", packages.built("rogue"), Timeout=60)
    for _ in range(4):
        answer = platform.invoke("noisy", {"do": "log", "bytes": 1 << 20})
        assert answer.status == 200 and answer.error is None, answer
    text = platform.request("GET", "/_onrush/metrics").body.decode()
    lost = int(text.split('onrush_log_lines_dropped_total{function="noisy"} ')[1].split("\n")[0])
    assert lost > 0
    platform.alive()
    assert platform.stop() == 0
