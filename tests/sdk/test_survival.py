"""What was acknowledged is still there after a restart and after kill -9; and one data folder has one master."""

import os
import pathlib
import random
import subprocess
import tempfile
import threading

import pytest

from support import packages
from support.paths import BINARY
from support.platform import ROLE, NotReady

# Kills in a row; the long checks ask for more.
ROUNDS = int(os.environ.get("ONRUSH_KILLS", "3"))


def echoes(platform, name):
    """The function is whole: it answers."""
    answer = platform.invoke(name, {"to": name})
    assert answer.status == 200 and answer.error is None and answer.json() == {"to": name}, answer


def test_health_tells_what_runs(platform):
    platform.create("healthy", packages.built("echo"))
    echoes(platform, "healthy")
    health = platform.alive()
    assert health["functions"] == 1 and health["environments"] == 1 and health["in_flight"] == 0 and health["version"]
    # As those ask who wait for a server to be there.
    head = platform.request("HEAD", "/_onrush/health")
    assert (head.status, head.body) == (200, b""), head


def test_functions_and_settings_survive_a_restart(start, tmp_path):
    first = start(home=tmp_path)
    first.create("kept", packages.built("echo"), Timeout=17, variables={"STAGE": "test"}, Tags={"team": "store"})
    client = first.client()
    client.put_function_concurrency(FunctionName="kept", ReservedConcurrentExecutions=3)
    url = client.create_function_url_config(FunctionName="kept", AuthType="NONE")["FunctionUrl"].split(".")[0]
    before = client.get_function(FunctionName="kept")
    first.create("deleted", packages.built("echo"))
    client.delete_function(FunctionName="deleted")
    assert first.stop() == 0

    second = start(home=tmp_path)
    client = second.client()
    after = client.get_function(FunctionName="kept")
    assert after["Configuration"] == before["Configuration"]
    assert (after["Tags"], after["Concurrency"]) == ({"team": "store"}, {"ReservedConcurrentExecutions": 3})
    assert client.get_function_url_config(FunctionName="kept")["FunctionUrl"].split(".")[0] == url
    assert [function["FunctionName"] for function in client.list_functions()["Functions"]] == ["kept"]
    echoes(second, "kept")


@pytest.mark.parametrize("killed", [False, True])
def test_of_many_functions_each_is_whole_when_it_is_first_asked_for(start, tmp_path, killed):
    """Most of very many are not taken over before the ready line: nobody can tell."""
    first = start(home=tmp_path)
    names = [f"many-{number:03}" for number in range(130)]
    for name in names:
        first.create(name, packages.built("echo"), Timeout=17)
    first.client().put_function_concurrency(FunctionName=names[0], ReservedConcurrentExecutions=0)
    before = first.client().get_function(FunctionName=names[77])["Configuration"]
    old = first.kill() if killed else first.stop()

    second = start(home=tmp_path)
    assert not (left := old.wait_gone(20, successor=True) if killed else old), left
    client = second.client()
    assert second.metric("invocations", names[129]) == 0 and second.log(names[128]) == []
    board = second.request("GET", "/_onrush/limits").json()["limits"]
    assert {row["resource"] for row in board if row["id"] == "function.timeout"} == set(names)
    assert second.alive()["functions"] == len(names)
    assert second.invoke(names[0]).status == 429
    echoes(second, names[1])
    assert client.get_function(FunctionName=names[77])["Configuration"] == before
    client.update_function_configuration(FunctionName=names[78], Timeout=18)
    client.publish_version(FunctionName=names[79])
    client.put_function_concurrency(FunctionName=names[80], ReservedConcurrentExecutions=0)
    client.delete_function(FunctionName=names[81])
    echoes(second, names[78])
    echoes(second, f"{names[79]}:1")
    assert (second.invoke(names[80]).status, second.invoke(names[81]).status) == (429, 404)
    listed = client.get_paginator("list_functions").paginate().build_full_result()["Functions"]
    assert [function["FunctionName"] for function in listed] == [name for name in names if name != names[81]]


@pytest.mark.patience(120 + 20 * ROUNDS)
def test_acknowledged_functions_survive_kill_9_at_any_time(start, tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    code = packages.built("echo")
    acknowledged, deleted, old = set(), set(), None
    for number in range(ROUNDS):
        platform = start(home=tmp_path)
        if old is not None:
            assert not (left := old.wait_gone(20, successor=True)), left
        client = platform.client()
        asked = threading.Event()

        def create(number=number, client=client, asked=asked):
            """Creates, and now and then deletes, until the platform is gone."""
            for count in range(1000):
                name = f"f{number}-{count}"
                try:
                    client.create_function(
                        FunctionName=name,
                        Runtime="provided.al2023",
                        Role=ROLE,
                        Handler="bootstrap",
                        Code={
                            "ZipFile": packages.package({"bootstrap": (f"#!/bin/sh\nexit {count % 250}\n", 0o755)})
                            if count % 2
                            else code
                        },
                    )
                    acknowledged.add(name)
                    asked.set()
                    if count % 5 == 4:
                        attempted = f"f{number}-{count - 1}"
                        # From here on it may be there or not, until the answer says that it is not.
                        acknowledged.discard(attempted)
                        client.delete_function(FunctionName=attempted)
                        deleted.add(attempted)
                except Exception:
                    return

        creator = threading.Thread(target=create, daemon=True)
        creator.start()
        assert asked.wait(30)
        # Not a wait for anything: the moment of death is what varies.
        threading.Event().wait(dice.uniform(0.0, 0.6))
        old = platform.kill()
        creator.join(30)
        assert not creator.is_alive()
        # Once more, while it recovers.
        again = subprocess.Popen(
            [BINARY, "up", "--port", "0", "--data-dir", platform.data_dir],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        threading.Event().wait(dice.uniform(0.0, 0.3))
        again.kill()
        again.wait(10)

    last = start(home=tmp_path)
    assert not (left := old.wait_gone(20, successor=True)), left
    client = last.client()
    pages = client.get_paginator("list_functions").paginate()
    there = {function["FunctionName"]: function for page in pages for function in page["Functions"]}
    assert acknowledged <= set(there), (seed, acknowledged - set(there))
    assert not deleted & set(there), seed
    for function in there.values():
        assert function["CodeSize"] > 0, (seed, function)
    # Those with the echo as their code answer; also what was made but not acknowledged is whole.
    for name in [name for name in there if int(name.split("-")[1]) % 2 == 0][:40]:
        echoes(last, name)


def test_what_kill_9_leaves_behind_is_gone_after_the_next_start(start, tmp_path):
    first = start(home=tmp_path)
    first.create("busy", packages.built("rogue"), Timeout=60)
    sleeper = threading.Thread(target=lambda: ignore(lambda: first.invoke("busy", {"do": "sleep"})), daemon=True)
    first.invoke("busy", {"do": "children"})
    sleeper.start()
    old = first.kill()
    sleeper.join(30)
    assert len(old.processes) > 3
    second = start(home=tmp_path)
    assert not (left := old.wait_gone(20, successor=True)), left
    assert second.invoke("busy", {}).json()["count"] == 1


def test_a_port_that_is_taken_says_who_holds_it(platform, tmp_path):
    ran = subprocess.run(
        [BINARY, "up", "--port", str(platform.port), "--data-dir", tmp_path / "data"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 1, ran
    assert f"port {platform.port} is held by process {platform.process.pid} ({BINARY.name[:15]})" in ran.stderr
    assert "--port 0" in ran.stderr
    platform.alive()


def test_a_data_folder_that_is_in_use_is_refused_by_name(start, platform):
    with pytest.raises(NotReady) as refusal:
        start(home=platform.home)
    text = str(refusal.value)
    assert "in use" in text or "another run" in text, text
    assert str(platform.data_dir) in text, text
    platform.alive()


@pytest.fixture
def common():
    """A folder that any user comes through to."""
    with tempfile.TemporaryDirectory(prefix="onrush-test-", dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        yield folder


def test_a_data_folder_that_cannot_be_used_is_named_with_the_cure(common):
    (common / "file").write_text("")
    (common / "link").symlink_to(common / "nowhere")
    closed = common / "closed"
    closed.mkdir(mode=0o555)
    for folder, why in {"file": "it is no folder", "file/below": "Not a directory", "link": "it is no folder", "closed": "denied"}.items():
        command = [BINARY, "up", "--port", "0", "--data-dir", common / folder]
        if os.geteuid() == 0 and folder == "closed":
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        ran = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert ran.returncode == 1 and len(ran.stderr.splitlines()) == 1, ran
        assert f"the data folder {common / folder} cannot be used: " in ran.stderr and why in ran.stderr, ran.stderr
        assert "--data-dir" in ran.stderr and "doctor" not in ran.stderr, ran.stderr


def test_an_unknown_limit_era_or_flag_is_a_usage_error(tmp_path):
    for words in [["--limit", "lambda.brust=5"], ["--limit", "lambda.burst"], ["--era", "1999"], ["--no-such-flag"]]:
        ran = subprocess.run(
            [BINARY, "up", "--port", "0", "--data-dir", tmp_path / "data", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == 2, (words, ran)
        assert words[-1].split("=")[0] in ran.stderr, (words, ran.stderr)


def ignore(call):
    try:
        call()
    except Exception:
        pass
