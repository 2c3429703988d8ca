"""Stores that an earlier Onrush left, in good order or killed, and stores with damage.

`stores/*.tar.gz` are data folders that the commit before that day's end made: two functions, one with a URL, tags and a
reservation, and five asynchronous events that wait. Never make them anew: they are what users have.
"""

import json
import os
import pathlib
import random
import re
import subprocess
import tarfile
import threading

import pytest

from support import packages, puppet, templates
from support.paths import BINARY
from support.platform import NotReady

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")

STORES = sorted(pathlib.Path(__file__).parent.joinpath("stores").glob("*.tar.gz"))
# Events that have waited for years are to run all the same.
OLD = ("--limit", "async.queue-age=4000000000", "--event-speed", "1000")
# An event that ran may have left no line: its log is written a moment later, and a kill comes before that.
NONE_RUNS = ("--limit", "lambda.account-concurrency=0")


def unpack(store, home):
    data = home / "data"
    data.mkdir()
    with tarfile.open(store) as archive:
        archive.extractall(data, filter="data")
    data.chmod(0o755)
    return data


def kill_amid_start(home, data, dice):
    ran = subprocess.Popen(
        [BINARY, "up", "--port", "0", "--world", "none", "--data-dir", data, *OLD, *NONE_RUNS],
        cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    # The moment of death is what varies.
    threading.Event().wait(dice.uniform(0.0, 0.25))
    ran.kill()
    ran.wait(10)


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name.split(".")[0])
def test_a_store_of_an_earlier_onrush_opens_with_all_that_is_in_it(start, tmp_path, store):
    seed = random.randrange(2**32)
    print("seed", seed)
    data = unpack(store, tmp_path)
    dice = random.Random(seed)
    for _ in range(3):
        kill_amid_start(tmp_path, data, dice)
    platform = start(*OLD, home=tmp_path)
    client = platform.client()
    kept = client.get_function(FunctionName="kept")
    settings = kept["Configuration"]
    assert (settings["Timeout"], settings["MemorySize"], settings["Description"]) == (17, 256, "of an earlier release")
    assert (kept["Tags"], kept["Concurrency"]) == ({"team": "store"}, {"ReservedConcurrentExecutions": 3})
    assert settings["State"] == "Active" and client.get_function_url_config(FunctionName="kept")["AuthType"] == "NONE"
    assert puppet.inside(platform, "answer = os.environ['STAGE']", name="kept") == "old"
    if (store.name).startswith("2026-11-22"):
        deadline = threading.Event()
        for _ in range(600):
            said = " ".join(platform.log("waits"))
            if len(numbers := set(re.findall(r"event (\d)", said))) == 5:
                break
            deadline.wait(0.1)
        assert numbers == set("01234"), said
    # What it is now, it is after another restart.
    client.publish_version(FunctionName="kept")
    assert platform.stop() == 0
    again = start(*OLD, home=tmp_path)
    versions = again.client().list_versions_by_function(FunctionName="kept")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]
    assert again.alive()["events"] == 0


@pytest.mark.parametrize("name", ["store.redb", "events.redb"])
def test_a_damaged_store_is_refused_by_name_and_a_copy_from_before_works(start, tmp_path, name):
    data = unpack(STORES[-1], tmp_path)
    whole = (data / name).read_bytes()
    damaged = bytearray(whole)
    # In every copy of one row: pages that are free lie about, too.
    word, at = (b"of an earlier release" if name == "store.redb" else b'"request_id"'), -1
    while (at := damaged.find(word, at + 1)) >= 0:
        damaged[at + 3] ^= 0x10
    assert damaged != whole
    (data / name).write_bytes(damaged)
    with pytest.raises(NotReady) as refusal:
        start(*OLD, home=tmp_path)
    text = str(refusal.value)
    assert "ended with 1" in text and "damaged" in text and name in text and "panicked" not in text, text
    assert text.count("is damaged") == 1 and "--data-dir" in text, "once, with the way out: " + text
    assert (data / name).read_bytes() == bytes(damaged), "nothing was repaired by guess"
    (data / name).write_bytes(whole)
    platform = start(*OLD, home=tmp_path)
    assert puppet.inside(platform, "answer = count", name="kept") == 1


@pytest.mark.parametrize("name", ["store.redb", "events.redb"])
def test_what_a_stop_left_loses_no_row_to_damage(start, tmp_path, name):
    """Amid the last commit nothing can have died: what is damaged there is damaged, and not taken back in silence."""
    platform = start(*NONE_RUNS, home=tmp_path)
    platform.create("cart", packages.built("echo"), Description="the last change but one")
    for number in range(3):
        event = json.dumps({"marker": f"event number {number}"})
        platform.client().invoke(FunctionName="cart", InvocationType="Event", Payload=event)
    platform.client().update_function_configuration(FunctionName="cart", Description="the very last change")
    data = platform.data_dir
    assert platform.stop() == 0
    damaged = bytearray((data / name).read_bytes())
    word, at = (b"the very last change" if name == "store.redb" else b"event number 2"), -1
    while (at := damaged.find(word, at + 1)) >= 0:
        damaged[at + 3] ^= 0x10
    (data / name).write_bytes(damaged)
    with pytest.raises(NotReady) as refusal:
        start(*NONE_RUNS, home=tmp_path)
    assert "damaged" in str(refusal.value) and name in str(refusal.value), refusal.value
