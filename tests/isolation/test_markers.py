"""A mark that one function plants wherever it can is found by no other function, no other version, and not after its release.

`ONRUSH_MARKER_ROUNDS=1000` for the long run (.ci/long); a round is one plant and three searches.
"""

import os
import uuid

import pytest

from support import packages, puppet
from support.puppet import inside

ROUNDS = int(os.environ.get("ONRUSH_MARKER_ROUNDS", "5"))

PLANT = r"""
import ctypes, socket, sys
libc = ctypes.CDLL(None)
mark = event['mark']
def attempt(what):
    try:
        what()
    except OSError:
        pass
for folder in ('/tmp', '/dev/shm', '/var/tmp', '/opt', '/var/task', '/run', '/dev/mqueue'):
    attempt(lambda: open(f'{folder}/{mark}', 'w').write(mark * 100))
kept['memory'] = bytearray((mark * 20000).encode())
kept['abstract'] = socket.socket(socket.AF_UNIX)
attempt(lambda: (kept['abstract'].bind(chr(0) + mark), kept['abstract'].listen()))
kept['port'] = socket.socket()
attempt(lambda: (kept['port'].bind(('127.0.0.1', event['port'])), kept['port'].listen()))
libc.shmget(event['key'], 4096, 0o1666)
libc.semget(event['key'], 1, 0o1666)
libc.msgget(event['key'], 0o1666)
libc.syscall(248, b'user', mark.encode(), mark.encode(), len(mark), -4)
kept['memfd'] = os.memfd_create(mark)
os.write(kept['memfd'], (mark * 100).encode())
os.environ['MARK'] = mark
libc.setenv(b'MARK', mark.encode(), 1)
attempt(lambda: open('/proc/self/comm', 'w').write(mark[:15]))
attempt(lambda: os.symlink(mark, '/tmp/link'))
answer = count
"""
SEARCH = r"""
import ctypes, socket
libc = ctypes.CDLL(None)
mark, key = event['mark'], event['key']
answer = []
for folder, folders, files in os.walk('/', followlinks=False):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in ('/proc', '/usr', '/sys')]
    answer += [os.path.join(folder, f) for f in folders + files if mark in f or f == 'link']
for name in ('environ', 'maps', 'comm', 'cmdline', 'mountinfo', 'net/unix', 'net/tcp'):
    text = open(f'/proc/self/{name}', 'rb').read()
    if mark.encode() in text or (name == 'net/tcp' and b':%04X' % event['port'] in text) or mark[:15].encode() in text:
        answer.append(name)
# Pages that are given anew.
if bytearray(8 << 20).count(mark[:16].encode()):
    answer.append('fresh memory')
for what in (lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + mark), lambda: socket.create_connection(('127.0.0.1', event['port']), 0.2).close()):
    try:
        what()
        answer.append('socket')
    except OSError:
        pass
for name in ('shmget', 'semget', 'msgget'):
    arguments = {'shmget': (key, 4096, 0), 'semget': (key, 1, 0), 'msgget': (key, 0)}[name]
    if getattr(libc, name)(*arguments) != -1:
        answer.append(name)
for files in ('/proc/keys', '/proc/sysvipc/shm', '/proc/sysvipc/msg'):
    if os.path.exists(files) and (mark in open(files).read() or str(key) in open(files).read()):
        answer.append(files)
if 'MARK' in os.environ or mark in str(dict(os.environ)) or 'memory' in kept:
    answer.append('process')
"""


@pytest.mark.patience(120 + 4 * ROUNDS)
def test_a_mark_is_found_nowhere_else(platform):
    if not puppet.here():
        pytest.skip(f"{puppet.PYTHON} is not installed")
    settings = {"MemorySize": 1769, "Timeout": 60}
    for name in ("One", "Two"):
        platform.create(name, packages.package(puppet.files()), **settings)
    client = platform.client()
    found = {}
    for turn in range(ROUNDS):
        mark = uuid.uuid4().hex
        facts = {"mark": mark, "key": int(mark[:7], 16) | 1, "port": 20000 + turn % 20000}
        inside(platform, PLANT, "One", **facts)
        if turn == 0:
            # Who planted it finds it: what is looked for can be found.
            own = inside(platform, SEARCH, "One", **facts)
            assert {f"/tmp/{mark}", "net/unix", "net/tcp", "socket", "shmget", "process"} <= set(own), own
        seen = inside(platform, SEARCH, "Two", **facts)
        # Another version: its environment may get what the first one's left.
        client.update_function_configuration(FunctionName="One", Description=f"turn {turn}")
        seen += inside(platform, SEARCH, "One", **facts)
        # Two is let go of as well, so that both got what others had.
        client.update_function_configuration(FunctionName="Two", Description=f"turn {turn}")
        seen += inside(platform, SEARCH, "Two", **facts)
        if seen:
            found[turn] = seen
    assert not found, found
