"""Too many at once: thousands of first invocations, storms of retries, and more connections than descriptors."""

import asyncio
import collections
import json
import os
import pathlib
import socket
import threading
import time

import pytest

from support import packages, templates
from support.listener import Listener, account_arn
from support.platform import ROLE

LONG = "ONRUSH_LONG" in os.environ
# Requests at once, and environments that may start at once.
HERD, BUCKET = (5_000, 200) if LONG else (1_000, 40)
# Asynchronous events of which half fail every time.
EVENTS = 10_000 if LONG else 200
DEAD = account_arn("sqs", "dead")


async def ask(port, path, body, start):
    """One request on a connection of its own; its status and headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await start.wait()
        writer.write(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        payload = await reader.readexactly(int(headers["content-length"]))
        return int(lines[0].split()[1]), headers, payload
    finally:
        writer.close()


async def herd(port, path, body, count):
    start = asyncio.Event()
    asked = [asyncio.ensure_future(ask(port, path, body, start)) for _ in range(count)]
    # All connections first.
    await asyncio.sleep(0.5 + count / 2_000)
    began = time.monotonic()
    start.set()
    answers = await asyncio.gather(*asked)
    return answers, time.monotonic() - began


@pytest.mark.patience(300)
def test_of_a_herd_the_bucket_lets_in_what_it_holds_and_names_itself_to_the_rest(start):
    platform = start("--limit", f"lambda.scaling-rate={BUCKET}")
    # All of them are busy for as long as requests come, so that each that is let in is an environment.
    platform.create("herd", packages.built("rogue"), Timeout=120)
    body = json.dumps({"do": "sleep", "ms": 20_000 if LONG else 5_000})
    path = "/2015-03-31/functions/herd/invocations"
    answers, took = asyncio.run(herd(platform.port, path, body, HERD))
    by_status = collections.Counter(status for status, _, _ in answers)
    refused = [(headers, json.loads(payload)) for status, headers, payload in answers if status == 429]
    assert set(by_status) == {200, 429}, by_status
    # The bucket, and what it gains while the requests come in: a tenth of it each second.
    assert BUCKET <= by_status[200] <= BUCKET + int(took * BUCKET / 10) + 1, (by_status, took)
    assert platform.metric("cold_starts", "herd") == by_status[200]
    assert {headers["x-onrush-limit"].split(";")[0] for headers, _ in refused} == {"lambda.scaling-rate"}
    assert {body["Reason"] for _, body in refused} == {"ConcurrentInvocationLimitExceeded"}
    assert platform.metric("throttles", "herd") == by_status[429]
    platform.alive()


@pytest.mark.patience(600)
def test_a_storm_of_retries_obeys_the_back_off_and_leaves_others_alone(start, tmp_path):
    functions = {
        "Red": ("rogue", {"DeadLetterQueue": {"Type": "SQS", "TargetArn": DEAD}, "ReservedConcurrentExecutions": 20}),
        "Blue": ("echo", {}),
    }
    with Listener() as listener:
        template = templates.write(tmp_path, functions)
        # A minute's wait is 0.6 s.
        arguments = ("--event-speed", "100", "--endpoint", f"sqs={listener.url}")
        platform = start(*arguments, template=template)
        client = platform.client()
        for number in range(EVENTS):
            event = {"do": "error" if number % 2 else "nothing", "message": "no", "n": number}
            answer = client.invoke(FunctionName="Red", InvocationType="Event", Payload=json.dumps(event))
            assert answer["StatusCode"] == 202
        turns, deadline = 0, time.monotonic() + 500
        while (health := platform.alive())["events"] or health["events_to_tell"]:
            assert time.monotonic() < deadline, health
            turns += 1
            answer = platform.invoke("Blue", {"turn": turns}, whole=False)
            assert answer.status == 200 and answer.json() == {"turn": turns}
            time.sleep(0.01)
        dead = [letter.json()["n"] for letter in listener.letters[DEAD]]
        assert set(dead) == set(range(1, EVENTS, 2)), "exactly those that failed"
        # Once each; again only where a try was counted as failed, as when the queue's own process stands still.
        assert len(dead) - len(set(dead)) <= platform.metric("dead_letter_errors", "Red"), len(dead)
        # Every failing event ran three times, no more, and the others once.
        assert platform.metric("errors", "Red") == 3 * (EVENTS // 2)
        assert platform.metric("invocations", "Red") == 3 * (EVENTS // 2) + (EVENTS + 1) // 2
        assert platform.limit("lambda.reserved-concurrency", "Red")["peak"] <= 20
        row = platform.limit("async.queue-age", "Red")
        assert row["used"] == 0 and row["refused"] == 0, row


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_more_connections_than_descriptors_stop_no_invocation_and_spin_no_core(start):
    platform = start("--limit", "host.client-timeout=300", open_files="512:512")
    platform.create("rogue", packages.built("rogue"), Timeout=60)
    # Its one connection is there before the others, and stays.
    early = platform.client(timeout=10)
    early.list_functions()
    platform.invoke("rogue", {})
    done = []
    slow = threading.Thread(target=lambda: done.append(platform.invoke("rogue", {"do": "sleep", "ms": 8000}, whole=False)))
    slow.start()
    while platform.alive()["in_flight"] < 1:
        time.sleep(0.01)
    streams = []
    try:
        for _ in range(900):
            stream = socket.socket()
            stream.settimeout(5)
            stream.connect(("127.0.0.1", platform.port))
            streams.append(stream)
        # What new connections leave free is for what runs: a change is stored and its code unpacked, environments start, and log.
        late = {"FunctionName": "late", "Handler": "bootstrap", "Role": ROLE, "Runtime": "provided.al2023"}
        early.create_function(Code={"ZipFile": packages.built("rogue")}, **late)
        early.get_waiter("function_active_v2").wait(FunctionName="late", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
        for _ in range(3):
            answer = early.invoke(FunctionName="late", Payload=b"{}")
            assert answer["Payload"].read() and "FunctionError" not in answer, answer
        file, deadline = platform.data_dir / "logs/late.log", time.monotonic() + 10
        while not file.exists() or file.read_text().count("REPORT RequestId") < 3:
            assert time.monotonic() < deadline, "its log is not written"
            time.sleep(0.1)
        before, began = cpu_s(platform.process.pid), time.monotonic()
        slow.join(60)
        # A busy host may have taken all of its time above.
        time.sleep(max(0.0, began + 2 - time.monotonic()))
        spent = (cpu_s(platform.process.pid) - before) / (time.monotonic() - began)
        assert done[0].status == 200 and done[0].error is None, done
        assert spent < 0.5, f"{spent:.2f} of a core for nothing"
        # Said once, not with each of them.
        assert platform.stderr().count("new connections wait for a descriptor") == 1, platform.stderr()[-2000:]
        # Nor do they seep in where others leave one by one.
        for stream in streams[:150]:
            stream.close()
            time.sleep(0.05)
        taken = len(os.listdir(f"/proc/{platform.process.pid}/fd"))
        assert taken < 512 - 128 + 32, f"{taken} of 512 descriptors are taken"
    finally:
        early.close()
        for stream in streams:
            stream.close()
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = platform.invoke("rogue", {}, timeout=5)
            if answer.status == 200 and answer.error is None:
                break
        except OSError:
            pass
        assert time.monotonic() < deadline, "it does not recover"
        time.sleep(0.1)
    platform.alive()
