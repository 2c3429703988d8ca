"""Known ways out of containers: none leads out, whoever runs the platform, and the host is afterwards what it was."""

import ctypes
import hashlib
import os
import pathlib
import platform as machine
import shutil
import socket
import tempfile
import uuid

import pytest

from support import packages, puppet
from support.escapes import MOVES, RUN
from support.paths import BINARY

NOBODY = 65534
pytestmark = pytest.mark.skipif(machine.machine() != "x86_64", reason="system call numbers are those of x86_64")


def host():
    """What a way out would have changed."""
    names = "core_pattern modprobe sysrq hostname domainname poweroff_cmd panic".split()
    files = [pathlib.Path("/proc/sys/kernel", name) for name in names] + [pathlib.Path("/proc/swaps")]
    found = {str(file): file.read_text() for file in files if file.exists()}
    mounts = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    # Tests that run beside this one mount below these.
    found["mounts"] = sorted(place for place in mounts if not place.startswith(("/tmp/", "/run/")))
    modules = pathlib.Path("/proc/modules")
    found["modules"] = sorted(line.split()[0] for line in modules.read_text().splitlines()) if modules.exists() else []
    for folder in ("/", "/proc/sys/fs/binfmt_misc"):
        found[folder] = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found["/etc"] = digest("/etc")
    return found


def digest(folder):
    """Every inode of a folder: names, rights, owners, contents."""
    total = hashlib.sha256()
    for path in sorted(pathlib.Path(folder).rglob("*")):
        found = path.lstat()
        total.update(f"{path} {found.st_mode} {found.st_uid} {found.st_gid} {found.st_size} {found.st_mtime_ns}".encode())
        if path.is_file() and not path.is_symlink():
            total.update(path.read_bytes())
    return total.hexdigest()


@pytest.fixture(params=["root", "nobody"])
def runs(request, start):
    """A platform of root's, and one of an ordinary user's, with a puppet each."""
    if request.param == "root":
        platform = start()
    else:
        if os.geteuid() != 0:
            pytest.skip("only root may become another user")
        home = tempfile.mkdtemp(prefix="onrush-test-", dir="/tmp")
        request.addfinalizer(lambda: shutil.rmtree(home, ignore_errors=True))
        binary = pathlib.Path(shutil.copy(BINARY, home))
        binary.chmod(0o755)
        platform = start(home=home, user=NOBODY, binary=binary)
    lacking = {item["capability"] for item in platform.summary["not_enforced"]}
    if lacking & {"mount-namespace", "pid-namespace"}:
        pytest.skip(f"this host has no walls: {platform.summary['not_enforced']}")
    platform.create("Red", packages.package(puppet.files()), MemorySize=1769, Timeout=90)
    return platform


@pytest.fixture
def planted():
    """What the host has that a function might find: an abstract socket and shared memory."""
    name = f"onrush-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        libc = ctypes.CDLL(None)
        key = int(name[-7:], 16) + 1
        shared = libc.shmget(key, 4096, 0o1666)
        assert shared != -1
        try:
            yield {"abstract": name, "shared": key}
        finally:
            libc.shmctl(shared, 0, None)


def setuid_program():
    """A program of this host that runs as root and waits for input."""
    for path in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/chsh", "/usr/bin/newgrp"):
        if os.path.exists(path) and os.stat(path).st_mode & 0o4000:
            return path
    return None


def test_no_known_move_leads_out(runs, planted):
    assert len(MOVES) >= 60 and len({move.name for move in MOVES}) == len(MOVES)
    before = host()
    moves = {move.name: move.source for move in MOVES}
    seen = puppet.inside(runs, RUN, moves=moves, port=runs.port, setuid=setuid_program(), **planted)
    assert set(seen) == set(moves)
    known_from = {move.name: move.known_from for move in MOVES}
    escaped = {name: (known_from[name], said) for name, said in seen.items() if "ESCAPED" in said}
    assert not escaped, escaped
    after = host()
    assert {name: after[name] for name in after if after[name] != before[name]} == {}
    # Who tried goes on working, and so does the platform.
    assert puppet.inside(runs, "answer = count") == 2
    runs.alive()
