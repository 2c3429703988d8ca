"""What hostile code sees inside an environment: its own files, its own processes, and no right to anything."""

import os
import pathlib
import socket
import uuid

from support.paths import ROOT
from support.puppet import inside

# ---- Files --------------------------------------------------------------------------------------------------------


def test_no_file_of_the_host_is_visible(walls, tmp_path):
    mark = f"onrush-test-mark-{uuid.uuid4()}"
    places = [
        pathlib.Path(place) / mark
        for place in ("/tmp", "/var/tmp", "/dev/shm", pathlib.Path.home(), ROOT / "target", tmp_path, walls.data_dir)
    ]
    planted = []
    try:
        for place in places:
            if os.access(place.parent, os.W_OK):
                place.write_text("secret")
                planted.append(place)
        assert len(planted) >= 4
        found = inside(
            walls,
            """
answer = []
for folder, folders, files in os.walk('/', onerror=None):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in ('/proc', '/sys', '/usr')]
    answer += [os.path.join(folder, f) for f in files if f == event['mark']]
answer += [p for p in event['paths'] if os.path.exists(p)]
""",
            mark=mark,
            paths=[str(place) for place in planted],
        )
        assert found == []
    finally:
        for place in planted:
            place.unlink(missing_ok=True)


def test_folders_of_the_hosts_users_are_empty_or_absent(walls):
    seen = inside(
        walls,
        """
answer = {}
for folder in ('/root', '/home', '/srv', '/mnt', '/media', '/run', '/var/run', '/var/lib', '/var/log', '/boot', '/sys'):
    try:
        answer[folder] = os.listdir(folder)
    except OSError:
        answer[folder] = []
""",
    )
    assert not {folder: names for folder, names in seen.items() if names}, seen


def test_only_tmp_can_be_written(walls):
    written = inside(
        walls,
        """
answer = []
for folder, folders, files in os.walk('/'):
    folders[:] = [f for f in folders if folder.count('/') < 3 and os.path.join(folder, f) not in ('/proc', '/sys')]
    path = os.path.join(folder, 'probe')
    try:
        with open(path, 'w') as file:
            file.write('x')
        answer.append(folder)
        os.unlink(path)
    except OSError:
        pass
""",
    )
    assert "/tmp" in written and set(written) <= {"/tmp", "/dev/shm", "/dev/mqueue"}, written


def test_programs_of_the_host_cannot_be_changed(walls):
    seen = inside(
        walls,
        """
answer = {}
for path in ('/var/task/bootstrap', '/usr/bin/env', '/etc/passwd', '/bin/sh', '/proc/sys/kernel/hostname',
             '/proc/sysrq-trigger', '/proc/1/mem', '/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/loop0', '/dev/fuse',
             '/dev/kvm', '/dev/net/tun'):
    try:
        os.close(os.open(path, os.O_WRONLY))
        answer[path] = 'opened'
    except OSError as error:
        answer[path] = error.errno
""",
    )
    assert "opened" not in seen.values(), seen


def test_no_descriptor_is_inherited(walls):
    links = walls.invoke("Rogue", {"do": "fds"}).json()["seen"]
    # Its input, its output, its connection to the Runtime API, and the folder that it just read.
    unknown = {
        number: target
        for number, target in links.items()
        if int(number) > 2 and not target.startswith(("socket:", "/proc/"))
    }
    assert not unknown and len(links) <= 5, links
    assert all(
        target.startswith(("pipe:", "/dev/null", "socket:")) for number, target in links.items() if int(number) <= 2
    ), links


def test_limits_and_folders_are_lambdas(walls):
    """As read in Lambda with getrlimit and stat; core files, which would hold events and keys, are not written here."""
    limits, tmp, absent = inside(
        walls,
        """
import resource
names = ('NOFILE', 'NPROC', 'MEMLOCK', 'STACK', 'CORE')
limits = {name: resource.getrlimit(getattr(resource, 'RLIMIT_' + name)) for name in names}
answer = [limits, os.stat('/tmp').st_mode, [path for path in ('/dev/shm', '/dev/mqueue') if os.path.exists(path)]]
""",
    )
    # The control group holds the 1,024 processes; this limit is one above, for hosts without.
    exact = {"NOFILE": 1024, "NPROC": 1025, "MEMLOCK": 65536, "CORE": 1}
    assert limits == {name: [limit, limit] for name, limit in exact.items()} | {"STACK": [8 << 20, -1]}
    # Python's multiprocessing has no queues and pools there, as on AWS.
    assert (tmp & 0o7777, absent) == (0o1777, [])


# ---- Processes and rights -----------------------------------------------------------------------------------------


def test_a_function_is_nobody_and_can_do_nothing(walls):
    status = walls.invoke("Rogue", {"do": "whoami"}).json()["seen"]["text"]
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert all(int(uid) != 0 for uid in fields["Uid"].split()), fields["Uid"]
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
        assert int(fields[name], 16) == 0, (name, fields[name])
    assert (fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()) == ("1", "2")


def test_only_its_own_processes_exist_for_it(walls):
    # What the walls was started with may be a secret: --parameter-overrides, for instance.
    commands = inside(
        walls,
        """
answer = []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        answer.append(open('/proc/%s/cmdline' % pid, 'rb').read().decode(errors='replace'))
    except OSError:
        pass
""",
    )
    assert 1 <= len(commands) <= 4 and not [
        command for command in commands if "onrush" in command or "pytest" in command
    ], commands


def test_the_hosts_names_stay_outside(walls):
    node, groups, mounts = inside(
        walls,
        "answer = [os.uname().nodename, open('/proc/self/cgroup').read(), open('/proc/self/mountinfo').read()]",
    )
    assert node != socket.gethostname()
    assert not [line for line in groups.splitlines() if "onrush" in line], groups
    writable = [line.split()[4] for line in mounts.splitlines() if line.split()[5].startswith("rw")]
    assert set(writable) <= {"/tmp", "/dev/shm", "/proc"}, mounts


def test_killing_everything_kills_itself_alone(walls):
    inside(walls, "answer = 1", "Blue")
    result = walls.invoke("Red", {"python": "try: os.kill(-1, 9)\nexcept OSError: pass\nos.kill(os.getpid(), 9)"})
    assert result.error == "Unhandled" and result.json()["errorType"] == "Runtime.ExitError", result
    assert inside(walls, "answer = count", "Blue") >= 2
    assert inside(walls, "answer = count", "Red") == 1
