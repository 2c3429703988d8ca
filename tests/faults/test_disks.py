"""Disks that are full or fail, for each thing that is written: small file systems of the test's own."""

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
import time
import urllib.request

import pytest

from support import packages, templates
from support.crowd import crowd
from support.listener import Listener, account_arn
from support.platform import Platform

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")

EVENT = {"X-Amz-Invocation-Type": "Event"}


@contextlib.contextmanager
def small(folder, size):
    """A file system in memory of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "onrush-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def failing(tmp_path):
    """A disk whose writes fail as soon as `filler` fills what it lies on: ext4 over a loop device over a small file system."""
    with small(tmp_path / "below", "40m") as below:
        image = below / "disk"
        with open(image, "wb") as file:
            file.truncate(96 << 20)
        made = ["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1", "-O", "^has_journal", image]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        top = tmp_path / "top"
        top.mkdir()
        subprocess.run(["mount", "-o", "loop,errors=continue", image, top], check=True)
        try:
            yield below, top
        finally:
            subprocess.run(["umount", "-l", top], check=True)


@contextlib.contextmanager
def mounted(image, folder, kind="ext4"):
    """An image on a loop device; made first, of its size, where there is none."""
    if not image.exists():
        with open(image, "wb") as file:
            file.truncate(SIZES[kind])
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True, stdout=subprocess.DEVNULL)
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


SIZES = {"ext4": 200 << 20, "xfs": 1 << 30}


def fill(path):
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while os.write(descriptor, b"x" * 65536):
            pass
    except OSError:
        pass
    finally:
        os.close(descriptor)


def writable(platform):
    """What the metrics page says of each store."""
    text = platform.request("GET", "/_onrush/metrics").body.decode()
    words = ("functions", "events")
    return [int(text.split(f'onrush_store_writable{{store="{word}"}} ')[1].split("\n")[0]) for word in words]


def refusal(call):
    """What a change came to; `None` when it was taken."""
    try:
        call()
    except Exception as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Message"]
    return None


@pytest.mark.skipif(not os.path.exists("/sbin/mkfs.ext4") and not os.path.exists("/usr/sbin/mkfs.ext4"), reason="no ext4")
def test_a_disk_that_fails_makes_it_read_only_until_a_restart(tmp_path):
    with failing(tmp_path) as (below, top):
        platform = Platform(home=top)
        try:
            platform.create("echo", packages.built("echo"))
            client = platform.client()
            assert platform.invoke("echo", {"n": 1}).json() == {"n": 1}
            path = "/2015-03-31/functions/echo/invocations"
            assert platform.request("POST", path, "{}", EVENT).status == 202
            assert writable(platform) == [1, 1] and platform.alive()["trouble"] == []
            fill(below / "filler")
            # Rows of many pages, until one does not reach the disk.
            first, taken, deadline = None, [], time.monotonic() + 60
            while first is None:
                assert time.monotonic() < deadline, "the disk does not fail"
                text = os.urandom(80).hex()
                first = refusal(lambda: client.update_function_configuration(FunctionName="echo", Description=text))
                if first is None:
                    taken.append(text)
            assert first[0] == 500, first
            os.unlink(below / "filler")
            # Not a full disk: what had been written before is lost, although the disk is well again.
            assert "read-only until Onrush is started again" in first[1], first
            again = refusal(lambda: client.update_function_configuration(FunctionName="echo", Description="after"))
            assert again is not None and "read-only until Onrush is started again" in again[1], again
            health = platform.request("GET", "/_onrush/health").json()
            assert health["status"] == "read-only" and "store.redb" in health["trouble"][0], health
            assert writable(platform)[0] == 0
            assert platform.invoke("echo", {"n": 2}).json() == {"n": 2}, "who needs no disk goes on"
            platform.kill().wait_gone(20)
            with Platform(home=top) as restarted:
                description = restarted.client().get_function_configuration(FunctionName="echo")["Description"]
                assert description in [taken[-1] if taken else "", text], "what was acknowledged is there"
                assert restarted.invoke("echo", {"n": 3}).json() == {"n": 3}
                assert refusal(lambda: restarted.client().update_function_configuration(FunctionName="echo", Description="x")) is None
        finally:
            platform.close()


# Copies of a disk that are taken while it is written.
COPIES = 50 if "ONRUSH_LONG" in os.environ else 3


@pytest.mark.patience(1_800)
@pytest.mark.skipif(not all(map(shutil.which, ("mkfs.ext4", "mkfs.xfs"))), reason="no ext4, or no xfs to copy it on")
def test_a_copy_of_the_disk_taken_amid_holds_what_was_answered(tmp_path):
    """Power cuts of a real file system: its image is copied in one moment (a reflink) while events and changes are answered, and
    a platform of its own opens each copy. Then the kernel makes the file system read-only under the first one."""
    with contextlib.ExitStack() as stack:
        outer = stack.enter_context(mounted(tmp_path / "outer", tmp_path / "below", "xfs"))
        disk = stack.enter_context(mounted(outer / "disk", tmp_path / "disk"))
        listener, copies_listener = stack.enter_context(Listener()), stack.enter_context(Listener())
        (disk / "home").mkdir()
        dead = account_arn("sqs", "dead")
        settings = {"DeadLetterQueue": {"Type": "SQS", "TargetArn": dead}, "EventInvokeConfig": {"MaximumRetryAttempts": 0}}
        templates.write(disk / "home", {"Red": ("rogue", settings)})
        # Letters stay owed until a copy's platform sends them.
        listener.is_down.set()

        def up(home, url):
            return stack.enter_context(Platform("--endpoint", f"sqs={url}", home=home, template=home / "app.json"))

        platform = up(disk / "home", listener.url)
        assert platform.invoke("Red", {}).error is None
        # The template, and what the first platform notes to be removed after it: the copies' leave that alone.
        os.sync()
        taken, functions, is_over = [], {}, threading.Event()

        def send(_):
            while not is_over.wait(0.02):
                event = json.dumps({"do": "error", "n": len(taken)})
                assert platform.request("POST", "/2015-03-31/functions/Red/invocations", event, EVENT).status == 202
                taken.append(len(taken))

        def change(_):
            while not is_over.wait(0.02):
                name, code = f"f{len(functions)}", packages.package({"bootstrap": os.urandom(random.choice([100, 50_000]))})
                platform.create(name, code)
                functions[name] = base64.b64encode(hashlib.sha256(code).digest()).decode()

        def copy(number):
            threading.Event().wait(random.uniform(0.1, 0.5))
            events, there = set(taken), dict(functions)
            image = outer / f"copy{number}"
            subprocess.run(["cp", "--reflink=always", outer / "disk", image], check=True)
            with mounted(image, tmp_path / "copy") as folder:
                copied = up(folder / "home", copies_listener.url)
                try:
                    for name, sha in there.items():
                        function = copied.client().get_function(FunctionName=name)
                        assert function["Configuration"]["CodeSha256"] == sha
                        with urllib.request.urlopen(function["Code"]["Location"]) as answer:
                            assert base64.b64encode(hashlib.sha256(answer.read()).digest()).decode() == sha
                    deadline = time.monotonic() + 120
                    while missing := events - {letter.json()["n"] for letter in copies_listener.letters[dead]}:
                        assert time.monotonic() < deadline, missing
                        time.sleep(0.05)
                finally:
                    copied.close()
            copies_listener.letters.clear()
            image.unlink()

        def copies(_):
            try:
                for number in range(COPIES):
                    copy(number)
            finally:
                is_over.set()

        crowd(lambda work: work(None), [send, change, copies])
        subprocess.run(["mount", "-o", "remount,abort", disk], check=True)
        tag = {"Resource": account_arn("lambda", "function:Red"), "Tags": {"a": "b"}}
        assert "read-only until Onrush is started again" in refusal(lambda: platform.client().tag_resource(**tag))[1]
        assert platform.request("POST", "/2015-03-31/functions/Red/invocations", "{}", EVENT).status == 500
        assert platform.invoke("Red", {}).error is None, "who needs no disk goes on"
        assert platform.request("GET", "/_onrush/health").json()["status"] == "read-only"


def test_full_disks_of_logs_and_boxes_stop_nobody(tmp_path):
    """The folders of logs, sandboxes, layers and images lie on full disks of their own."""
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        areas = {name: stack.enter_context(small(tmp_path / name, "2m")) for name in ("logs", "run", "layers", "images")}
        for name, folder in areas.items():
            (home / "data" / name).symlink_to(folder)
        with Platform(home=home) as platform:
            platform.create("warm", packages.built("rogue"))
            assert platform.invoke("warm", {}).json()["count"] == 1
            for folder in areas.values():
                fill(folder / "filler")
            platform.create("cold", packages.built("rogue"))
            for name, count in (("warm", 2), ("cold", 1)):
                answer = platform.invoke(name, {"do": "log", "bytes": 100_000})
                assert answer.error is None and answer.json()["count"] == count, answer
            platform.alive()
            for folder in areas.values():
                os.unlink(folder / "filler")
            # The log's lines come once there is room again.
            deadline = time.monotonic() + 30
            while not (home / "data/logs/cold.log").exists() or b"REPORT" not in (home / "data/logs/cold.log").read_bytes():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert platform.invoke("cold", {}).json()["count"] == 2


def test_a_full_disk_refuses_each_kind_of_change_and_recovers(tmp_path):
    """Functions, versions, layers, URLs and events: each is refused whole, and taken when there is room again."""
    with small(tmp_path / "home", "64m") as home, Platform(home=home) as platform:
        client = platform.client()
        platform.create("echo", packages.built("echo"))
        assert platform.invoke("echo", 1).json() == 1
        fill(home / "filler")
        layer = packages.package({"x": os.urandom(200_000)})
        ballast = '{"b": "' + "x" * 900_000 + '"}'

        def event():
            answer = platform.request("POST", "/2015-03-31/functions/echo/invocations", ballast, EVENT)
            return None if answer.status == 202 else (answer.status, answer.body.decode())

        def create():
            client.create_function(
                FunctionName="new", Runtime="provided.al2023", Role="arn:aws:iam::000000000000:role/r",
                Handler="bootstrap", Code={"ZipFile": packages.built("rogue")},
            )

        changes = {
            "a function": lambda: refusal(create),
            "a layer": lambda: refusal(lambda: client.publish_layer_version(LayerName="l", Content={"ZipFile": layer})),
            "an event": event,
        }
        for what, change in changes.items():
            # A little may still fit into what the stores have already.
            for _ in range(40):
                if (refused := change()) is not None:
                    break
            assert refused is not None and refused[0] == 500, (what, refused)
            assert "o space" in refused[1], (what, refused)
        assert platform.invoke("echo", 2).json() == 2
        names = [function["FunctionName"] for function in client.list_functions()["Functions"]]
        assert names == ["echo"] and client.list_layers()["Layers"] == []
        os.unlink(home / "filler")
        for what, change in changes.items():
            assert change() is None, what
        assert platform.alive()["status"] == "ok" and writable(platform) == [1, 1]
