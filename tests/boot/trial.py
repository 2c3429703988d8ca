"""What the two boots try with a real `onrush`, on a kernel that has control groups version 2 alone.

    trial.py root       as root, wherever this process sits among the groups
    trial.py visitor    as an ordinary user with a service manager of its own

Prints a line per test, and ends with 1 when one failed. Needs nothing but Python: under emulation every import counts.
No test asserts on how long something took; shares of a processor are measured by the kernel's own counters.
"""

import base64
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support import templates  # noqa: E402

ONRUSH = "/usr/local/bin/onrush"
GROUPS = pathlib.Path("/sys/fs/cgroup")
PATIENCE_S = 300
TMP_MB = 512
# Functions, all of the same program.
MEMORY_MB = {"small": 128, "filler": 256, "idler": 1769}
ROLE = sys.argv[1]


def session_folders():
    """Every folder of a platform's, anywhere in the tree."""
    return sorted(folder for folder in GROUPS.rglob("onrush-*") if folder.is_dir())


def until(condition, what, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


class Up:
    """One `onrush up`, and the answers it gives."""

    def __init__(self, home, template):
        self.home, data = home, home / "data"
        data.mkdir(exist_ok=True)
        runtimes = ROOT / "target/test-functions/runtimes"
        # Of root's own making: others could not add to it, and make theirs.
        if ROLE == "root" and runtimes.exists() and not (data / "runtimes").exists():
            (data / "runtimes").symlink_to(runtimes)
        self.errors = open(home / "errors", "ab+")
        command = [ONRUSH, "up", template, "--world", "none", "--port", "0", "--output", "json", "--data-dir", data]
        # A session of its own, as a shell's job has: no signal of ours reaches it by the way.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, cwd=home, start_new_session=True
        )
        self.summary = self.ready()
        self.port = int(self.summary["ready"].rsplit(":", 1)[1])

    def ready(self):
        for line in self.process.stdout:
            if b'"ready"' in line:
                return json.loads(line)
        raise AssertionError(f"up ended with {self.process.wait()}: {self.said()}")

    def said(self):
        return (self.home / "errors").read_text()[-2000:]

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def invoke(self, name, **event):
        """The answer as JSON, and the log's tail with the REPORT line."""
        path = f"/2015-03-31/functions/{name}/invocations"
        answer, text = self.request("POST", path, json.dumps(event), {"X-Amz-Log-Type": "Tail"})
        assert answer.status == 200, (answer.status, text, self.said())
        return json.loads(text), base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode()

    def session(self):
        """The folder in which this platform's groups are."""
        found = [folder for folder in session_folders() if folder.name == f"onrush-{self.process.pid}"]
        assert len(found) == 1, (session_folders(), self.process.pid)
        return found[0]

    def groups(self):
        """The groups of environments in which a function's program runs; others stand ready for one."""
        return [group for group in self.session().iterdir() if group.is_dir() and any(map(is_program, processes(group)))]


def processes(group):
    try:
        return (group / "cgroup.procs").read_text().split()
    except OSError:
        return []


def is_program(pid):
    """Whether it is a function's program: a bootstrap, or an interpreter."""
    try:
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"/bootstrap" in line or b"python" in line


def number(group, file, key=None):
    text = (group / file).read_text()
    return int(text if key is None else re.search(rf"^{key} (\d+)$", text, re.M)[1])


def doctor(command, home):
    """What `doctor` says, by capability."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
    assert ran.returncode == 0, ran
    return {item["capability"]: item["state"] for item in json.loads(ran.stdout)["capabilities"]}


def enforced(command, home):
    return {name for name, state in doctor(command, home).items() if state == "enforced"}


def used_mb(log):
    return int(re.search(r"Max Memory Used: (\d+) MB", log)[1])


# ---- The tests, in this order: each goes on with the platform that the one before has left ------------------------------


def doctor_tells_what_holds(trial):
    states = doctor([ONRUSH, "doctor", "--json", "--data-dir", trial.home / "data"], trial.home)
    held = {"control-groups", "cpu-quota", "pids-limit", "freezer", "user-namespaces", "pid-namespace", "seccomp"}
    if ROLE == "root":
        held |= {"memory-limit", "tmp-size", "uid-per-environment", "network-interface"}
    lacking = {name: states[name] for name in held if states[name] != "enforced"}
    assert not lacking, lacking
    if ROLE != "root":
        # tmpfs is the group's memory.
        assert states["memory-limit"] == states["tmp-size"] == "loose", states
    assert not session_folders(), session_folders()


def a_container_has_groups_of_its_own(trial):
    """A control group namespace whose top is a group with processes, as container engines make it."""
    if ROLE != "root":
        return "skipped: an ordinary user's containers are made by root"
    box = GROUPS / "box"
    box.mkdir()
    (GROUPS / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    view = "mount --make-rprivate / && umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
    limits = {"cpu-quota", "memory-limit", "pids-limit"}

    def run(what):
        # `unshare` and the shell are one process throughout.
        inside = f"{view} && {what}"
        enter = f'echo $$ >{box}/cgroup.procs && exec unshare --cgroup --mount bash -c "$0"'
        return enforced(["bash", "-c", enter, inside], trial.home)

    try:
        ask = f"{ONRUSH} doctor --json --data-dir {trial.home}/data"
        alone = run(f"exec {ask}")
        assert limits <= alone, limits - alone
        assert not [folder for folder in box.iterdir() if folder.is_dir()], list(box.iterdir())
        (box / "cgroup.subtree_control").write_text("-cpu -memory -pids")
        # The shell is another process in the group; doctor says what to do, and what it says helps.
        crowded = run(f"{ask} >{trial.home}/crowded; cat {trial.home}/crowded")
        assert not limits & crowded, crowded
        said = json.loads((trial.home / "crowded").read_text())["capabilities"]
        cure = next(item["cure"] for item in said if item["capability"] == "memory-limit").removeprefix("move them: ")
        moved = run(f"({cure}) 2>{trial.home}/moving; {ask}")
        assert limits <= moved, (limits - moved, cure, (trial.home / "moving").read_text())
    finally:
        for folder in sorted(box.rglob("*"), reverse=True):
            folder.is_dir() and folder.rmdir()
        box.rmdir()


def limits_stand_in_the_groups_files(trial):
    functions = {name: ("rogue", {"MemorySize": mb, "Timeout": 600}) for name, mb in MEMORY_MB.items()}
    trial.up = Up(trial.home, templates.write(trial.home, functions))
    group = trial.group("small")
    names = ("cpu.max", "pids.max", "memory.oom.group", "memory.swap.max", "memory.max")
    files = {name: (group / name).read_text().strip() for name in names if (group / name).exists()}
    memory = (MEMORY_MB["small"] + (0 if ROLE == "root" else TMP_MB)) << 20
    quota_us = 20_000 * MEMORY_MB["small"] // 1769
    assert files == {
        "cpu.max": f"{quota_us} 20000",
        "pids.max": "1025",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "memory.max": str(memory),
    }, files


def used_memory_is_told(trial):
    _, log = trial.up.invoke("small")
    assert used_mb(log) < 40, log
    _, log = trial.up.invoke("small", do="allocate", mb=64)
    assert 64 <= used_mb(log) < 110, log


def a_memory_hog_ends_as_lambda_says(trial):
    # Where /tmp is memory, the limit is higher by its size.
    mb = MEMORY_MB["small"] * 2 + (0 if ROLE == "root" else TMP_MB)
    answer, log = trial.up.invoke("small", do="allocate", mb=mb)
    assert answer["errorType"] == "Runtime.OutOfMemory", (answer, log)
    assert used_mb(log) == MEMORY_MB["small"] and "Error Type: Runtime.OutOfMemory" in log, log
    assert trial.up.invoke("small")[0]["count"] == 1


def tmp_holds_more_than_memory(trial):
    answer, log = trial.up.invoke("filler", do="tmp", mb=300)
    assert answer["seen"] == {"ok": 300 << 20}, (answer, log)
    assert ROLE != "root" or used_mb(log) < 64, log
    assert trial.up.invoke("filler")[0]["count"] == 2


def a_spinner_gets_its_share(trial):
    group = trial.group("small")
    used, throttled = number(group, "cpu.stat", "usage_usec"), number(group, "cpu.stat", "nr_throttled")
    began = time.monotonic()
    trial.up.invoke("small", do="spin", ms=3_000)
    took_us = (time.monotonic() - began) * 1_000_000
    share, wanted = (number(group, "cpu.stat", "usage_usec") - used) / took_us, MEMORY_MB["small"] / 1769
    # A period may be overdrawn by a tick; the next ones pay it back.
    assert share < wanted * 1.5 and number(group, "cpu.stat", "nr_throttled") > throttled, share
    return f"{share:.3f} of a processor for {wanted:.3f}"


def a_frozen_environment_makes_no_progress(trial):
    trial.up.invoke("idler", do="children")
    group = trial.group("idler")
    until(lambda: number(group, "cgroup.events", "frozen") == 1, "it is not frozen")
    before = number(group, "cpu.stat", "usage_usec")
    time.sleep(1)
    assert number(group, "cpu.stat", "usage_usec") == before
    trial.up.invoke("idler", do="sleep", ms=200)
    assert number(group, "cpu.stat", "usage_usec") > before


def the_service_manager_takes_nothing_away(trial):
    """systemd owns the tree; what it does to it later must not lift our limits."""
    if not pathlib.Path("/run/systemd/system").exists():
        return "skipped: no systemd here"
    group = trial.group("small")
    before = (group / "cpu.max").read_text()
    user = ["--user"] if ROLE != "root" else []
    subprocess.run(["systemd-run", *user, "--quiet", "--wait", "--collect", "-p", "CPUQuota=50%", "true"], check=True)
    subprocess.run(["systemctl", *user, "daemon-reload"], check=True)
    subprocess.run(["systemd-run", *user, "--quiet", "--wait", "--collect", "true"], check=True)
    assert (group / "cpu.max").read_text() == before and number(group, "memory.max") > 0
    assert trial.up.invoke("small")[0]["count"] > 1
    if ROLE == "root":
        # A service without `Delegate=yes` has no cpu controller to hand down; the top of the tree has.
        service = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", ONRUSH, "doctor", "--json"]
        lacking = {"cpu-quota", "memory-limit", "pids-limit"} - enforced(service, trial.home)
        assert not lacking, lacking


def kill_9_leaves_no_process(trial):
    trial.up.invoke("small")
    trial.up.invoke("idler", do="children")
    groups = trial.up.groups()
    pids = [pid for group in groups for pid in (group / "cgroup.procs").read_text().split()]
    assert len(groups) >= 2 and len(pids) >= 5, (groups, pids)
    trial.up.process.kill()
    trial.up.process.wait()
    trial.old = groups
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "processes are left")


def the_example_answers_in_rust_and_python(trial):
    # A copy, with what cargo made outside in the place where `up` looks for it.
    ignored = shutil.ignore_patterns("target")
    example = shutil.copytree(ROOT / "examples/storefront", trial.home / "storefront", ignore=ignored)
    built = example / "cart/target/onrush/cart"
    built.mkdir(parents=True)
    shutil.copyfile(ROOT / "examples/storefront/cart/target/release/cart", built / "bootstrap")
    (built.parent / ".only").write_text(built.name)
    (built / "bootstrap").chmod(0o755)
    (built / "sources").touch()
    trial.up = up = Up(trial.home, example / "template.yaml")
    left = [group for group in trial.old if group.exists()]
    assert not left, left
    path, headers = "/_onrush/door/StorefrontApi", {"Content-Type": "application/json"}
    answer, text = up.request("PUT", f"{path}/cart/ada/tea", '{"quantity": 2}', headers)
    assert (answer.status, json.loads(text)) == (200, {"cart": "ada", "items": {"tea": 2}}), (text, up.said())
    answer, text = up.request("GET", f"{path}/recommendations?items=tea")
    assert answer.status == 200, (answer.status, text, up.said())
    assert len(up.groups()) == 2, up.groups()


def ctrl_c_leaves_no_group(trial):
    trial.up.process.send_signal(signal.SIGINT)
    code = trial.up.process.wait(PATIENCE_S)
    assert code == 0, (code, trial.up.said())
    time.sleep(1)
    if session_folders():
        # Two seconds may be too short here for the kernel to end everything. Then it is said, and the next start does it.
        assert "the next start removes them" in trial.up.said(), (session_folders(), trial.up.said())
        doctor([ONRUSH, "doctor", "--json", "--data-dir", trial.home / "data"], trial.home)
        until(lambda: not session_folders(), f"groups are left: {session_folders()}", 10)


TESTS = [
    doctor_tells_what_holds,
    a_container_has_groups_of_its_own,
    limits_stand_in_the_groups_files,
    used_memory_is_told,
    a_memory_hog_ends_as_lambda_says,
    tmp_holds_more_than_memory,
    a_spinner_gets_its_share,
    a_frozen_environment_makes_no_progress,
    the_service_manager_takes_nothing_away,
    kill_9_leaves_no_process,
    the_example_answers_in_rust_and_python,
    ctrl_c_leaves_no_group,
]


class Trial:
    """What the tests hand on: a folder, the platform that runs, the groups of the one before it."""

    def __init__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="trial-", dir="/tmp"))
        self.up, self.old = None, []

    def group(self, function):
        """The group of that function's one environment, which has answered."""
        before = {group: number(group, "cpu.stat", "usage_usec") for group in self.up.groups()}
        self.up.invoke(function, do="spin", ms=1)
        grown = [group for group in self.up.groups() if number(group, "cpu.stat", "usage_usec") != before.get(group)]
        assert len(grown) == 1, (grown, before)
        return grown[0]


def main():
    passed, failed, skipped, trial = 0, 0, 0, Trial()
    for test in TESTS:
        if test.__name__ in sys.argv[2:]:
            continue
        began, detail = time.monotonic(), ""
        try:
            detail = test(trial) or "ok"
            skipped += detail.startswith("skipped")
            passed += not detail.startswith("skipped")
        except Exception as error:
            failed += 1
            line = error.__traceback__
            while line.tb_next:
                line = line.tb_next
            detail = f"FAILED: {type(error).__name__} in line {line.tb_lineno}: {error}"
        print(f"{ROLE}: {test.__name__} ... {detail} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"test result: {ROLE}: {passed} passed; {failed} failed; {skipped} ignored")
    if trial.up is not None and trial.up.process.poll() is None:
        trial.up.process.kill()
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
