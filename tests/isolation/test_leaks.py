"""What one environment leaves behind, no other finds."""

import pathlib
import uuid

import pytest

from support import packages, puppet
from support.crowd import Held
from support.leftovers import tree
from support.puppet import inside

PLANT = """
import ctypes, socket
for path in ('/tmp/' + event['mark'], '/dev/shm/' + event['mark']):
    try:
        open(path, 'w').write(event['mark'])
    except OSError:
        pass
kept[event['mark']] = event['mark'] * 1000
s = socket.socket(socket.AF_UNIX)
s.bind(chr(0) + event['mark'])
s.listen()
kept['socket'] = s
ctypes.CDLL(None).shmget(int(event['mark'][-7:], 16), 4096, 0o1666)
answer = count
"""
SEARCH = """
import ctypes, socket
answer = [path for path in ('/tmp/' + event['mark'], '/dev/shm/' + event['mark']) if os.path.exists(path)]
answer += [name for folder in ('/tmp', '/dev/shm') if os.path.isdir(folder) for name in os.listdir(folder)]
if event['mark'] in kept:
    answer.append('memory')
try:
    socket.socket(socket.AF_UNIX).connect(chr(0) + event['mark'])
    answer.append('socket')
except OSError:
    pass
if ctypes.CDLL(None).shmget(int(event['mark'][-7:], 16), 4096, 0) != -1:
    answer.append('shared memory')
"""


def test_what_one_function_leaves_no_other_finds(walls):
    for _ in range(3):
        mark = uuid.uuid4().hex
        inside(walls, PLANT, "Red", mark=mark)
        assert inside(walls, SEARCH, "Blue", mark=mark) == []


def test_what_one_environment_leaves_no_other_of_the_same_function_finds(walls, walls_home):
    mark = uuid.uuid4().hex
    with Held(walls, walls_home / "red") as held:
        inside(walls, PLANT, "Red", mark=mark)
        # Its environment is busy now, so the next one runs elsewhere.
        held.start("Red", 1)
        held.wait_in_flight(1)
        assert inside(walls, SEARCH, "Red", mark=mark) == []
        held.open()


def test_what_one_version_leaves_the_next_does_not_find(walls):
    """Parts are recycled: never across versions."""
    name = walls.create("versions", packages.package(puppet.files()), Timeout=30, MemorySize=1024)
    client = walls.client()
    for turn in range(5):
        mark = uuid.uuid4().hex
        inside(walls, PLANT, name, mark=mark)
        client.update_function_configuration(FunctionName=name, Description=f"turn {turn}")
        assert inside(walls, SEARCH, name, mark=mark) == []


def test_environments_run_as_users_of_their_own(walls, walls_home):
    if any(item["capability"] == "uid-per-environment" for item in walls.summary["not_enforced"]):
        pytest.skip("this host gives one user to all environments")
    uids = []
    with Held(walls, walls_home / "blue") as held:
        held.start("Blue", 3)
        held.wait_started("Blue", 3)
        for pid in children(walls.process.pid):
            try:
                text = pathlib.Path(f"/proc/{pid}/status").read_text()
                if b"/var/task/bootstrap" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    uids.append(int(text.split("\nUid:\t")[1].split()[0]))
            except OSError:
                pass
        held.open()
    assert len(uids) >= 3 and len(set(uids)) == len(uids) and 0 not in uids, uids


def children(pid):
    return [pid for pid, _ in tree(pid)]
