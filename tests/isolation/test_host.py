"""What the host allows, what is said when it does not, and what is left on it afterwards: nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from support import packages, puppet, templates
from support.crowd import crowd
from support.images import Image, Layer
from support.leftovers import Belongings, processes
from support.paths import BINARY
from support.platform import ROLE, NotReady, Platform

NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user, or mount")


def busy(platform, name="busy", number=5):
    """Begins invocations that do not end by themselves, with children; their threads."""
    platform.create(name, packages.built("rogue"), Timeout=120, MemorySize=512)
    platform.invoke(name, {"do": "children"})

    def call():
        try:
            platform.invoke(name, {"do": "sleep"})
        except OSError:
            pass

    threads = [threading.Thread(target=call, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while sum(line.startswith("START ") for line in platform.log(name)) < number + 1:
        assert time.monotonic() < deadline, "they do not begin"
        time.sleep(0.02)
    return threads


@pytest.fixture
def open_folder():
    """A folder that plain processes of other users reach; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="onrush-test-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# ---- The end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_stops_everything_and_leaves_nothing(start, how):
    platform = start()
    threads = busy(platform)
    assert len(platform.belongings().processes) > 10
    # `stop` looks for processes, mounts, loop devices, network namespaces and control groups once it ended.
    assert platform.stop(how) == 0, platform.stderr()
    for thread in threads:
        thread.join(30)


def test_many_environments_stop_as_one(start):
    platform = start()
    busy(platform, number=40)
    assert platform.stop() == 0, platform.stderr()


def test_ctrl_c_twice_and_at_once_is_still_clean(start, tmp_path):
    platform = start()
    busy(platform, number=2)
    belongings = platform.belongings()
    for _ in range(3):
        platform.process.send_signal(signal.SIGINT)
    platform.process.wait(10)
    assert not (left := belongings.wait_gone(20)), left


def test_ctrl_c_before_it_is_ready_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [BINARY, "up", "--port", "0", "--data-dir", tmp_path / "data"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    belongings = Belongings(process.pid, tmp_path / "data")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert not (left := belongings.wait_gone(20)), left


def rising(folder, resource, path=os.environ["PATH"]):
    """`onrush up` of a template with this resource alone, which is not waited for; its data folder."""
    page = {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Slow": resource}}
    (folder / "template.json").write_text(json.dumps(page))
    data = folder / "data"
    with (folder / "said").open("w") as said:
        return data, subprocess.Popen(
            [BINARY, "up", "--port", "0", "--data-dir", data],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "PATH": path},
        )


def wait_for_stores(data):
    deadline = time.monotonic() + 30
    while not (data / "events.redb").exists():
        assert time.monotonic() < deadline, "it does not begin"
        time.sleep(0.01)


# In the header of redb's files: the god byte stands after nine of magic, this bit of it in a file that was not closed.
GOD_BYTE, NOT_CLOSED = 9, 2


@pytest.mark.parametrize("delay", [0.1, 0.3, 0.5, 0.8])
def test_whenever_ctrl_c_comes_the_stores_are_closed(tmp_path, delay):
    """A store that is not closed takes its last commit back when a bit of it flips, as if the power had gone amid it."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/index.py").write_text("def f(event, context): return 1")
    with (tmp_path / "code/much").open("wb") as much:
        much.truncate(240 << 20)
    slow = {"Runtime": "python3.13", "Handler": "index.f", "CodeUri": "code"}
    data, process = rising(tmp_path, {"Type": "AWS::Serverless::Function", "Properties": slow})
    try:
        wait_for_stores(data)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        # 0 if it was serving by then.
        assert process.wait(10) in (0, 130)
        for store in ("store.redb", "events.redb"):
            assert not (data / store).read_bytes()[GOD_BYTE] & NOT_CLOSED, store
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("words", [[], ["template.json", "--env-file"], ["template.json", "--env-vars"]], ids=["template", "env-file", "env-vars"])
def test_ctrl_c_while_a_file_is_still_coming_closes_the_store(tmp_path, words):
    data, (coming, writer) = tmp_path / "data", os.pipe()
    (tmp_path / "template.json").write_text('{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}')
    command = [BINARY, "up", *words, f"/dev/fd/{coming}", "--port", "0", "--data-dir", data]
    process = subprocess.Popen(command, cwd=tmp_path, pass_fds=[coming], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        os.close(coming)
        deadline = time.monotonic() + 30
        while not (data / "store.redb").exists():
            assert time.monotonic() < deadline, "it does not begin"
            time.sleep(0.01)
        time.sleep(0.8 if words else 0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert not (data / "store.redb").read_bytes()[GOD_BYTE] & NOT_CLOSED
    finally:
        os.close(writer)
        process.kill()
        process.wait()


def test_nothing_that_blocks_is_waited_for(tmp_path):
    """`/proc/kmsg` says that it is a file of no bytes, and waits for the kernel's next message."""
    os.mkfifo(tmp_path / "fifo")
    page = {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Slow": {"Type": "AWS::Serverless::Function"}}}
    page["Resources"]["Slow"]["Properties"] = {"Runtime": "python3.13", "Handler": "index.f", "CodeUri": "/proc/kmsg"}
    (tmp_path / "template.json").write_text(json.dumps(page))
    words = ["up", "--port", "0", "--data-dir", tmp_path / "data", "--world", "none"]
    for arguments, said in [
        (["plan", "fifo"], "cannot open fifo: it is a pipe that nobody writes to"),
        (["plan", "template.json", "--load", "fifo"], "cannot open fifo: it is a pipe that nobody writes to"),
        ([*words, "template.json", "--env-file", "fifo"], "cannot open fifo: it is a pipe that nobody writes to"),
        ([*words, "template.json", "--credentials", "fifo"], "the credentials file fifo: it is a pipe that nobody writes to"),
        ([*words, "template.json"], "/proc/kmsg"),
    ]:
        ran = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=20, cwd=tmp_path)
        assert ran.returncode in (1, 2) and said in ran.stderr, ran


@pytest.mark.parametrize("delay", [0.3, 0.6, 0.9])
def test_a_stop_amid_initialisations_is_no_fault_of_the_hosts(tmp_path, delay):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/index.py").write_text("import time\ntime.sleep(0.3)\ndef f(event, context): return 1")
    slow = {
        "Runtime": "python3.13",
        "Handler": "index.f",
        "CodeUri": "code",
        "AutoPublishAlias": "live",
        "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 30},
    }
    data, process = rising(tmp_path, {"Type": "AWS::Serverless::Function", "Properties": slow})
    try:
        wait_for_stores(data)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
        assert "ERROR" not in (said := (tmp_path / "said").read_text()), said
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_during_a_build_ends_it(tmp_path, how):
    (tmp_path / "code/src").mkdir(parents=True)
    (tmp_path / "code/Cargo.toml").write_text('[package]\nname = "slow"\nversion = "0.1.0"\n[workspace]\n')
    (tmp_path / "code/src/main.rs").write_text("fn main() {}")
    (tmp_path / "bin").mkdir()
    # It builds for ever, in a process of its own as cargo's compilers are.
    script(tmp_path / "bin/cargo", f"[ $1 = build ] || exec {shutil.which('cargo')} \"$@\"\nsleep 600 &\nwait")
    slow = {"Runtime": "provided.al2023", "Handler": "bootstrap", "CodeUri": "code"}
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    data, process = rising(tmp_path, {"Type": "AWS::Serverless::Function", "Properties": slow}, path)

    def builds():
        sleeps = (pid for pid in processes() if of_process(pid, "cmdline") == "sleep\x00600\x00")
        return [pid for pid in sleeps if f"{tmp_path}/bin" in of_process(pid, "environ")]

    def wait_for(wanted, seconds):
        deadline = time.monotonic() + seconds
        while bool(builds()) != wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        return bool(builds()) == wanted

    try:
        belongings = Belongings(process.pid, data)
        assert wait_for(True, 60), "it does not build"
        process.send_signal(how)
        assert process.wait(10) == 128 + how
        assert wait_for(False, 5), "it builds on"
        assert not (left := belongings.wait_gone(20)), left
    finally:
        process.kill()
        process.wait()
        for pid in builds():
            os.kill(pid, signal.SIGKILL)


def of_process(pid, file):
    """What the kernel says of it, if it is still there."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace")
    except OSError:
        return ""


def test_kill_9_and_a_new_start_leave_nothing(start, tmp_path):
    first = start(home=tmp_path)
    threads = busy(first)
    old = first.kill()
    for thread in threads:
        thread.join(30)
    second = start(home=tmp_path)
    assert not (left := old.wait_gone(20, successor=True)), left
    assert second.invoke("busy", {}).json()["count"] == 1
    assert second.stop() == 0


def test_the_jailer_killed_is_noticed_and_said(start):
    """Its death ends all environments at once; what is asked for then gets an answer."""
    platform = start()
    platform.create("echo", packages.built("echo"))
    platform.invoke("echo", {})
    # It is the first process of a pid namespace; the relay's is not.
    children = [pid for pid, (parent, _) in processes().items() if parent == platform.process.pid]
    jailers = [pid for pid in children if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{pid}/status").read_text(), re.M)]
    assert len(jailers) == 1, jailers
    os.kill(jailers[0], signal.SIGKILL)
    answer = platform.invoke("echo", {})
    assert answer.status in (200, 500, 503), answer
    if answer.status != 200:
        assert answer.headers["x-onrush-limit"] == "host.sandboxes" and "could not run" in answer.json()["Message"]


# ---- What is enforced ---------------------------------------------------------------------------------------------


def test_doctor_tells_each_capability_its_state_and_the_cure(tmp_path):
    ran = subprocess.run(
        [BINARY, "doctor", "--json", "--data-dir", tmp_path / "data"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran
    page = json.loads(ran.stdout)
    assert page["schema"] == 1
    found = {item["capability"]: item for item in page["capabilities"]}
    expected = {
        "user-namespaces",
        "mount-namespace",
        "pid-namespace",
        "network-namespace",
        "seccomp",
        "memory-limit",
        "cpu-quota",
        "pids-limit",
        "freezer",
        "tmp-size",
    }
    assert expected <= set(found), sorted(found)
    for item in page["capabilities"]:
        assert set(item) == {"capability", "state", "detail", "cure"}, item
        assert item["state"] in ("enforced", "loose", "missing") and item["detail"], item
        if item["state"] == "missing":
            assert item["cure"], item


def test_doctor_tells_of_a_folder_that_cannot_be_used_and_of_the_rest():
    def doctor(folder):
        command = [BINARY, "doctor", "--json", "--data-dir", folder]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return {item["capability"]: item for item in json.loads(ran.stdout)["capabilities"]}

    with tempfile.TemporaryDirectory() as folder:
        usual = doctor(folder)
    told = doctor("/proc/nowhere")
    folder = told.pop("data-folder")
    assert folder["state"] == "missing" and "/proc/nowhere" in folder["detail"] and "--data-dir" in folder["cure"], folder
    assert {name: item["state"] for name, item in told.items()} == {name: item["state"] for name, item in usual.items()}


def test_doctor_removes_no_folder_that_it_did_not_make(tmp_path):
    made = "mkdir onrush-doctor-$$ && touch onrush-doctor-$$/kept"
    command = f"{made} && exec {BINARY} doctor --json --data-dir /proc/nowhere"
    ran = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert "data-folder" in ran.stdout, ran
    assert [path.name for path in tmp_path.glob("onrush-doctor-*/*")] == ["kept"]


def test_doctor_leaves_nothing(tmp_path):
    subprocess.run([BINARY, "doctor", "--data-dir", tmp_path / "data"], capture_output=True, timeout=60, cwd=tmp_path)
    assert not (left := Belongings(2**22 + 1, tmp_path / "data").left()), left


def test_up_says_the_same_as_doctor(platform, tmp_path):
    ran = subprocess.run(
        [BINARY, "doctor", "--json", "--data-dir", tmp_path / "data"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    lacking = {item["capability"] for item in json.loads(ran.stdout)["capabilities"] if item["state"] != "enforced"}
    assert {item["capability"] for item in platform.summary["not_enforced"]} == lacking


def test_without_walls_functions_run_and_it_is_said_loudly(start, tmp_path):
    Image(Layer().add("main", "", 0o755), Entrypoint=["/main"]).layout(tmp_path / "boxed")
    boxed = {"PackageType": "Image", "Code": {"ImageUri": "./boxed"}, "Role": ROLE}
    template = templates.write(tmp_path, {}, {"Boxed": {"Type": "AWS::Lambda::Function", "Properties": boxed}})
    platform = start("--isolation", "process", template=template)
    assert "it cannot be invoked: container images run in namespaces alone" in platform.stderr()
    missing = {item["capability"] for item in platform.summary["not_enforced"] if item["state"] == "missing"}
    assert {"mount-namespace", "pid-namespace", "network-namespace"} <= missing, platform.summary["not_enforced"]
    platform.create("echo", packages.built("echo"))
    platform.create("rogue", packages.built("rogue"), Timeout=1)
    assert platform.invoke("echo", {"no": "walls"}).json() == {"no": "walls"}
    timed_out = platform.invoke("rogue", {"do": "sleep"})
    assert timed_out.json()["errorType"] == "Sandbox.Timedout"
    assert platform.invoke("rogue", {}).json()["count"] == 1
    exited = platform.invoke("rogue", {"do": "exit1"})
    assert exited.json()["errorMessage"].endswith("exit status 1")
    assert platform.invoke("rogue", {"do": "children"}).json()["seen"] == {"left": 1}
    assert platform.stop() == 0


@root_only
def test_an_ordinary_user_runs_functions(start):
    """With what the host gives an ordinary user; the rest is said."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    home = tempfile.mkdtemp(prefix="onrush-test-", dir="/tmp")
    try:
        # The built one may lie where only root can go.
        binary = shutil.copy(BINARY, os.path.join(home, "onrush"))
        platform = start(home=home, user=NOBODY, binary=binary)
        assert os.stat(f"/proc/{platform.process.pid}").st_uid == NOBODY
        platform.create("echo", packages.built("echo"))
        platform.create("rogue", packages.built("rogue"), Timeout=2)
        assert platform.invoke("echo", {"as": "nobody"}).json() == {"as": "nobody"}
        assert platform.invoke("rogue", {"do": "exit1"}).json()["errorMessage"].endswith("exit status 1")
        assert platform.invoke("rogue", {"do": "sleep"}).json()["errorType"] == "Sandbox.Timedout"
        answer = platform.invoke("rogue", {})
        assert answer.json()["count"] == 1
        used = re.search(r"Max Memory Used: (\d+) MB", answer.log)
        assert int(used[1]) > 0, "also without control groups"
        for item in platform.summary["not_enforced"]:
            assert item["detail"] and (item["cure"] or item["state"] == "loose"), item
        assert lacking(platform)["uid-per-environment"]["cure"] == "run as root", "whose jailer alone has a user namespace"
        assert platform.stop() == 0
    finally:
        shutil.rmtree(home, ignore_errors=True)


@root_only
def test_root_of_a_user_namespace_runs_functions_as_an_ordinary_user_does(open_folder, start):
    """As in a container without root: it is called root, and may become nobody else."""
    if subprocess.run(["unshare", "--map-root-user", "true"], capture_output=True).returncode:
        pytest.skip("unshare makes no user namespaces here")
    platform = start(home=open_folder, binary=script(open_folder / "mapped", f'exec unshare --map-root-user {BINARY} "$@"'))
    platform.create("echo", packages.built("echo"))
    assert platform.invoke("echo", {"as": "root of little"}).json() == {"as": "root of little"}
    lacks = lacking(platform)["uid-per-environment"]
    assert lacks["state"] == "loose" and lacks["cure"].endswith("outside of this user namespace"), lacks
    assert platform.stop() == 0


@root_only
def test_root_of_a_user_namespace_reaches_the_world_by_a_relay(tmp_path):
    """It may forward nothing for its functions, whatever it is called."""
    if subprocess.run(["unshare", "--map-root-user", "true"], capture_output=True).returncode:
        pytest.skip("unshare makes no user namespaces here")
    network = {"Network": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}}
    (tmp_path / "template.json").write_text(json.dumps({"Resources": network}))
    command = ["unshare", "--map-root-user", BINARY, "up", "--port", "0", "--data-dir", tmp_path / "data"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    hurry = threading.Timer(30, process.kill)
    hurry.start()
    try:
        said = next((line for line in process.stdout if "; world: " in line), "nothing")
        assert said.rstrip().endswith("; world: relay"), said
    finally:
        hurry.cancel()
        process.kill()
        process.wait()


def script(path, text):
    """A program in the platform's place, which becomes it."""
    path.write_text(f"#!/bin/sh\nset -e\n{text}\n")
    path.chmod(0o755)
    return path


def lacking(platform):
    return {item["capability"]: item for item in platform.summary["not_enforced"]}


def shut_in(open_folder, root="a folder", groups=True, user=0):
    """`onrush` in a chroot, as that user. Mounts are made in a namespace of the platform's own, and end with it."""
    inside = open_folder / "root"
    mounts = f"""
        {f"mount -t tmpfs tmpfs {inside}" if root == "a mount" else ""}
        mkdir -p {inside}/usr {inside}/etc {inside}/dev {inside}/proc {inside}/sys {inside}/tmp {inside}{open_folder}
        for name in bin sbin lib lib64; do [ ! -L /$name ] || ln -s usr/$name {inside}/$name; done
        mount --rbind /usr {inside}/usr
        mount --rbind /dev {inside}/dev
        mount -t proc proc {inside}/proc
        {f"mount --rbind /sys {inside}/sys" if groups else ""}
        mount --bind {open_folder} {inside}{open_folder}
        cp {BINARY} {inside}/onrush"""
    inside.mkdir()
    shut = f"exec chroot --userspec={user}:{user} {inside} /onrush \"$@\""
    return script(open_folder / "shut", f"exec unshare --mount sh -ec '{mounts}\n{shut}' sh \"$@\"")


@root_only
@pytest.mark.parametrize("root", ["a folder", "a mount"])
@pytest.mark.parametrize("groups", [True, False], ids=["groups", "no groups"])
def test_in_a_chroot_it_serves(start, open_folder, root, groups):
    platform = start(home=open_folder, binary=shut_in(open_folder, root, groups))
    assert os.path.samefile(f"/proc/{platform.process.pid}/root/onrush", f"/proc/{platform.process.pid}/exe")
    platform.create("echo", packages.built("echo"))
    assert platform.invoke("echo", {"as": "shut in"}).json() == {"as": "shut in"}
    missing = lacking(platform)
    assert "mount-namespace" not in missing and ("control-groups" in missing) == (not groups), missing
    if not groups:
        assert "for a chroot" in missing["control-groups"]["cure"], missing
    assert platform.stop() == 0


@root_only
def test_an_ordinary_user_in_a_chroot_is_told_the_way_out(open_folder):
    data = open_folder / "data"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    open_folder.chmod(0o755)
    command = [shut_in(open_folder, user=NOBODY), "doctor", "--json", "--data-dir", data]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = {item["capability"]: item for item in json.loads(ran.stdout)["capabilities"]}
    assert found["user-namespaces"]["detail"].endswith("this is a chroot, in which the kernel makes no user namespaces"), found
    for missing in ("user-namespaces", "mount-namespace", "tmp-size"):
        assert found[missing]["cure"].startswith("run as root there, or outside of it, or "), found[missing]


@root_only
def test_an_ordinary_users_port_and_world_are_refused_with_the_way_out(open_folder):
    binary = shutil.copy(BINARY, open_folder / "onrush")
    os.chown(open_folder, NOBODY, NOBODY)

    def refused(*arguments):
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", binary, "up", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=open_folder)
        assert ran.returncode == 1, ran
        return ran.stderr

    least = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if least > 80:
        assert f"ports below {least} are root's" in (said := refused("--port", "80")) and "--port" in said, said
    assert "take --world relay" in (said := refused("--port", "0", "--world", "host")), said


@root_only
@pytest.mark.skipif(shutil.which("ip") is None, reason="there is no ip here")
def test_control_groups_that_ip_netns_hides_are_told_with_the_other_way_in(tmp_path):
    name = f"shop-{os.getpid()}"

    def doctor(*before):
        command = [*before, BINARY, "doctor", "--json", "--data-dir", tmp_path / "data"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return {item["capability"]: item for item in json.loads(ran.stdout)["capabilities"]}

    subprocess.run(["ip", "netns", "add", name], check=True, timeout=60)
    try:
        hidden = doctor("ip", "netns", "exec", name)
        assert f"`ip netns exec {name}` shows" in hidden["control-groups"]["detail"], hidden
        way = f"nsenter --net=/run/netns/{name}"
        assert all(way in hidden[what]["cure"] for what in ("control-groups", "memory-limit", "freezer")), hidden
        assert doctor(*way.split())["control-groups"] == doctor()["control-groups"]
    finally:
        subprocess.run(["ip", "netns", "del", name], timeout=60, check=False)


@pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")
@pytest.mark.parametrize("isolation", ["namespaces", "process"])
def test_whatever_the_umask_functions_read_their_code(open_folder, start, isolation):
    """Folders that only their owner may read, as hardened hosts make them: code, a layer, and what is edited meanwhile."""
    layer = {"Type": "AWS::Serverless::LayerVersion", "Properties": {"ContentUri": "layer/", "LayerName": "shared"}}
    layers = {"Layers": [{"Ref": "Shared"}]} if isolation == "namespaces" else {}
    template = templates.write(open_folder, {"Red": ("puppet", layers), "Echo": ("echo", {})}, {"Shared": layer} if layers else {})
    (open_folder / "layer").mkdir()
    (open_folder / "layer/word").write_text("shared")
    (open_folder / "red/word").write_text("before")
    for path in [path for name in ("red", "echo", "layer") for path in (open_folder / name, *(open_folder / name).rglob("*"))]:
        path.chmod(path.stat().st_mode & 0o700)
    platform = start("--isolation", isolation, home=open_folder, template=template, umask=0o077)
    # Copies that sandboxes may read are shut away from others; without walls functions must get through to them.
    assert platform.data_dir.stat().st_mode & 0o777 == (0o700 if layers else 0o711)
    assert platform.invoke("Echo", {"as": "closed"}).json() == {"as": "closed"}
    read = "answer = open(os.environ['LAMBDA_TASK_ROOT'] + '/word').read()"
    assert puppet.inside(platform, read) == "before"
    if layers:
        assert puppet.inside(platform, "answer = open('/opt/word').read()") == "shared"
    (open_folder / "red/word").write_text("after it")
    deadline = time.monotonic() + 30
    while puppet.inside(platform, read) != "after it":
        assert time.monotonic() < deadline, "the edit is not seen"
        time.sleep(0.05)
    # What comes by the API is nobody's own, either.
    platform.create("made", packages.built("echo"))
    assert platform.invoke("made", 1).json() == 1


@pytest.mark.parametrize("limit", ["256:", "256:256"], ids=["soft", "hard"])
def test_with_256_descriptors_it_serves_or_says_what_it_lacks(start, limit):
    try:
        platform = start(open_files=limit)
    except NotReady as refusal:
        # A soft limit is the platform's own to raise.
        assert limit == "256:256", refusal
        assert "ulimit -n" in str(refusal), refusal
        return
    platform.create("rogue", packages.built("rogue"), Timeout=60)
    answers = crowd(lambda _: platform.invoke("rogue", {"do": "sleep", "ms": 1500}), range(40))
    for answer in answers:
        if answer.status != 200:
            assert answer.status in (500, 503) and answer.headers["x-onrush-limit"].startswith("host."), answer
            assert answer.json()["Message"], answer
    assert any(answer.status == 200 and answer.error is None for answer in answers)
    # It recovers by itself, for functions without an environment, too: what is idle is given up for them.
    assert platform.invoke("rogue", {}).error is None
    platform.create("other", packages.built("rogue"))
    deadline = time.monotonic() + 15
    while (answer := platform.invoke("other", {})).status != 200:
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    platform.alive()


@root_only
def test_a_full_disk_refuses_writes_and_goes_on_serving(tmp_path):
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", home], check=True, timeout=60)
    try:
        with Platform(home=home) as platform:
            client = platform.client()
            platform.create("echo", packages.built("echo"))
            assert platform.invoke("echo", 1).json() == 1
            noise = os.urandom(6 << 20)
            refusal = None
            for number in range(20):
                try:
                    code = packages.package({"bootstrap": ("#!/bin/sh\n", 0o755), "noise": noise + bytes([number])})
                    platform.create(f"fat-{number}", code)
                except client.exceptions.ClientError as error:
                    refusal = error.response
                    break
            assert refusal is not None and refusal["ResponseMetadata"]["HTTPStatusCode"] == 500, refusal
            assert "No space" in refusal["Error"]["Message"], refusal
            # What is there runs on, and what was refused is not there by half.
            assert platform.invoke("echo", 2).json() == 2
            names = {function["FunctionName"] for function in client.list_functions()["Functions"]}
            assert f"fat-{number}" not in names and "fat-0" in names
            # It recovers when there is room again.
            for name in names - {"echo"}:
                client.delete_function(FunctionName=name)
            platform.create("again", packages.built("echo"))
            assert platform.invoke("again", 3).json() == 3
    finally:
        subprocess.run(["umount", "-l", home], timeout=60, check=False)
