"""Asynchronous invocation: 202 at once, retries, dead letters, destinations; nothing accepted is lost."""

import json
import os
import random
import signal
import subprocess
import threading
import time

import botocore.exceptions
import pytest

from support import packages, puppet, templates
from support.listener import Listener, account_arn
from support.paths import BINARY

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")

# A minute's wait is 60 ms.
SPEED = 1000
FAST = ("--event-speed", str(SPEED))
QUEUE = account_arn("sqs", "queue")
DEAD = account_arn("sqs", "dead")
# Kills in a row; the long checks ask for more.
KILLS = int(os.environ.get("ONRUSH_EVENT_KILLS", "10"))
FAILS = {"python": "os._exit(1)"}
HOLD = {"python": puppet.HOLD}


@pytest.fixture
def listener():
    with Listener() as listener:
        yield listener


def up(start, tmp_path, functions, listener, *arguments, speed=SPEED):
    template = templates.write(tmp_path, functions)
    endpoints = [
        word for service in ("sqs", "sns", "events", "s3") for word in ("--endpoint", f"{service}={listener.url}")
    ]
    return start("--event-speed", str(speed), *endpoints, *arguments, template=template)


def config(**settings):
    return {"EventInvokeConfig": settings}


def to(arn, kind="SQS"):
    return {"Type": kind, "Destination": arn}


def send(platform, name, event, **more):
    answer = platform.client().invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event), **more)
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b"" and "FunctionError" not in answer, answer
    return answer["ResponseMetadata"]["RequestId"]


def test_an_event_is_accepted_and_its_record_arrives(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnSuccess": to(QUEUE)})
    platform = up(start, tmp_path, {"Echo": ("echo", properties)}, listener)
    request_id = send(platform, "Echo", {"n": 1})
    record = listener.record(QUEUE)
    assert record["version"] == "1.0" and record["timestamp"].endswith("Z")
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:Echo:$LATEST",
        "condition": "Success",
        "approximateInvokeCount": 1,
    }
    assert record["requestPayload"] == {"n": 1} == record["responsePayload"]
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    metrics = platform.request("GET", "/_onrush/metrics").body.decode()
    assert 'onrush_async_events_received_total{function="Echo"} 1\n' in metrics
    assert 'onrush_async_events_dropped_total{function="Echo"} 0\n' in metrics


def log(platform, name):
    return [line["text"] for line in platform.request("GET", f"/_onrush/logs/{name}").json()["lines"]]


def wait_until(true, what):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def events(platform):
    health = platform.alive()
    return health["events"], health["events_to_tell"]


def row(platform, limit, resource):
    rows = platform.request("GET", "/_onrush/limits").json()["limits"]
    return next(row for row in rows if row["id"] == limit and row["resource"] == resource)


def metric(platform, name, function):
    text = platform.request("GET", "/_onrush/metrics").body.decode()
    return int(text.split(f'onrush_{name}_total{{function="{function}"}} ')[1].split("\n")[0])


def test_a_failing_function_runs_three_times_and_its_event_becomes_a_dead_letter(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnFailure": to(account_arn("lambda", "function:Other"), "Lambda")})
    properties["DeadLetterQueue"] = {"Type": "SQS", "TargetArn": DEAD}
    others = config(DestinationConfig={"OnSuccess": to(QUEUE)})
    platform = up(start, tmp_path, {"Red": ("puppet", properties), "Other": ("echo", others)}, listener)
    request_id = send(platform, "Red", FAILS)
    letter = listener.letter(DEAD)
    assert letter.json() == FAILS
    assert letter.attributes["RequestID"] == ("String", request_id)
    assert letter.attributes["ErrorCode"] == ("Number", "200")
    kind, message = letter.attributes["ErrorMessage"]
    assert kind == "String" and "Runtime exited with error: exit status 1" in message
    # The other function was invoked with the record, which its own destination repeats.
    record = listener.record(QUEUE)["requestPayload"]
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert record["responsePayload"]["errorType"] == "Runtime.ExitError"
    assert record["requestPayload"] == FAILS
    starts = [line for line in log(platform, "Red") if line.startswith(f"START RequestId: {request_id}")]
    assert len(starts) == 3
    assert metric(platform, "async_events_dropped", "Red") == 1


def test_a_function_that_recovers_has_its_event_delivered(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnSuccess": to(QUEUE)})
    platform = up(start, tmp_path, {"Red": ("puppet", properties)}, listener, speed=60)
    code = "os.path.exists('/var/task/gate') or os._exit(1)\nanswer = 'done'"
    request_id = send(platform, "Red", {"python": code})
    wait_until(lambda: any("exit status 1" in line for line in log(platform, "Red")), "the first try fails")
    (tmp_path / "red/gate").touch()
    record = listener.record(QUEUE)
    assert record["requestContext"]["requestId"] == request_id
    assert record["requestContext"]["approximateInvokeCount"] in (2, 3)
    assert record["responsePayload"] == "done"


@pytest.mark.parametrize("service", ["sns", "events", "s3"])
def test_records_go_to_topics_buses_and_buckets(start, tmp_path, listener, service):
    arn = {
        "sns": account_arn("sns", "topic"),
        "events": account_arn("events", "event-bus/default"),
        "s3": "arn:aws:s3:::failed",
    }[service]
    kind = {"sns": "SNS", "events": "EventBridge", "s3": "S3Bucket"}[service]
    properties = config(MaximumRetryAttempts=0, DestinationConfig={"OnFailure": to(arn, kind)})
    if service == "sns":
        properties["DeadLetterQueue"] = {"Type": "SNS", "TargetArn": account_arn("sns", "dead")}
    platform = up(start, tmp_path, {"Red": ("puppet", properties)}, listener)
    request_id = send(platform, "Red", FAILS)
    if service == "s3":
        wait_until(lambda: listener.letters, "an object")
        ((path, (letter,)),) = listener.letters.items()
        assert path.startswith("/failed/aws/lambda/async/Red/2") and path.endswith(request_id)
    else:
        letter = listener.letter(arn)
    assert letter.json()["requestContext"]["approximateInvokeCount"] == 1
    if service == "events":
        assert letter.attributes["DetailType"] == "Lambda Function Invocation Result \u2013 Failure"
        assert letter.attributes["Source"] == "lambda"
        assert letter.attributes["Resources"][1].endswith(":function:Red:$LATEST")
    if service == "sns":
        dead = listener.letter(account_arn("sns", "dead"))
        assert dead.json() == FAILS and dead.attributes["ErrorCode"] == ("Number", "200")


def test_a_reservation_of_nothing_sends_events_to_the_dead_letters_at_once(start, tmp_path, listener):
    properties = {"DeadLetterQueue": {"Type": "SQS", "TargetArn": DEAD}, "ReservedConcurrentExecutions": 0}
    template = templates.write(tmp_path, {"Echo": ("echo", properties)})
    # What is attached for functions takes letters as well.
    platform = start("--attach", f"sqs={listener.url.removeprefix('http://')}", template=template)
    send(platform, "Echo", {"n": 1})
    letter = listener.letter(DEAD)
    assert letter.attributes["ErrorCode"] == ("Number", "429") and letter.json() == {"n": 1}


def test_throttled_events_wait_and_none_is_lost(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnSuccess": to(QUEUE)}) | {"ReservedConcurrentExecutions": 1, "Timeout": 60}
    platform = up(start, tmp_path, {"Red": ("puppet", properties)}, listener)
    for number in range(8):
        send(platform, "Red", HOLD | {"n": number})
    wait_until(lambda: metric(platform, "throttles", "Red") > 0, "somebody is throttled")
    assert events(platform)[0] == 8
    (tmp_path / "red/gate").touch()
    letters = listener.wait(QUEUE, 8)
    assert sorted(letter.json()["responsePayload"] for letter in letters) == list(range(8))
    # Throttles are no invocations.
    assert {letter.json()["requestContext"]["approximateInvokeCount"] for letter in letters} == {1}
    wait_until(lambda: events(platform) == (0, 0), "the queue is empty")


def test_an_event_that_grows_too_old_is_dropped_and_names_its_limit(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnFailure": to(QUEUE)}) | {"ReservedConcurrentExecutions": 1, "Timeout": 60}
    arguments = ("--limit", "async.queue-age=1")
    platform = up(start, tmp_path, {"Red": ("puppet", properties)}, listener, *arguments)
    busy = threading.Thread(target=platform.invoke, args=("Red", HOLD))
    busy.start()
    wait_until(lambda: platform.alive()["in_flight"] == 1, "somebody runs")
    send(platform, "Red", HOLD)
    record = listener.record(QUEUE)
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 0 and "responsePayload" not in record
    assert row(platform, "async.queue-age", "Red")["refused"] == 1
    assert platform.tells("async.queue-age")
    (tmp_path / "red/gate").touch()
    busy.join(60)


def test_what_is_too_large_or_no_json_or_for_nobody_is_refused_as_lambda_does(platform):
    platform.create("echo", packages.built("echo"))
    client = platform.client()

    def refusal(name, payload):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            client.invoke(FunctionName=name, InvocationType="Event", Payload=payload)
        answer = error.value.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]

    fits = json.dumps("x" * (1_048_576 - 2))
    assert client.invoke(FunctionName="echo", InvocationType="Event", Payload=fits)["StatusCode"] == 202
    text = "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    assert refusal("echo", fits + " ") == (413, "RequestEntityTooLargeException", text)
    assert refusal("echo", "{")[:2] == (400, "InvalidRequestContentException")
    assert refusal("nobody", "{}")[:2] == (404, "ResourceNotFoundException")
    assert refusal("echo:7", "{}")[:2] == (404, "ResourceNotFoundException")
    # Nothing but the first was taken in.
    assert metric(platform, "async_events_received", "echo") == 1
    assert client.invoke_async(FunctionName="echo", InvokeArgs=b'{"old": 1}')["Status"] == 202
    wait_until(lambda: metric(platform, "invocations", "echo") == 2, "both ran")


def test_events_that_wait_meet_the_new_code(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnSuccess": to(QUEUE)}) | {"ReservedConcurrentExecutions": 1, "Timeout": 60}
    platform = up(start, tmp_path, {"Red": ("puppet", properties)}, listener)
    send(platform, "Red", HOLD | {"n": "old"})
    wait_until(lambda: platform.alive()["in_flight"] == 1, "the first runs")
    send(platform, "Red", HOLD | {"n": "new"})
    platform.client().update_function_code(FunctionName="Red", ZipFile=packages.built("echo"))
    (tmp_path / "red/gate").touch()
    answers = [letter.json()["responsePayload"] for letter in listener.wait(QUEUE, 2)]
    assert answers == ["old", HOLD | {"n": "new"}]


def test_an_event_for_an_alias_runs_its_version(platform):
    platform.create("versions", packages.built("echo"))
    client = platform.client()
    version = client.publish_version(FunctionName="versions")["Version"]
    client.create_alias(FunctionName="versions", Name="live", FunctionVersion=version)
    latest, alias = send(platform, "versions", {}), send(platform, "versions", {}, Qualifier="live")
    wait_until(lambda: metric(platform, "invocations", "versions") == 2, "both ran")
    lines = log(platform, "versions")
    assert f"START RequestId: {latest} Version: $LATEST" in lines
    assert f"START RequestId: {alias} Version: {version}" in lines


def test_a_deleted_function_takes_its_events_along(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnSuccess": to(QUEUE)}) | {"ReservedConcurrentExecutions": 1, "Timeout": 60}
    platform = up(start, tmp_path, {"Red": ("puppet", properties), "Echo": ("echo", {})}, listener)
    for number in range(5):
        send(platform, "Red", HOLD | {"n": number})
    wait_until(lambda: platform.alive()["in_flight"] == 1, "one runs")
    platform.client().delete_function(FunctionName="Red")
    assert events(platform) == (0, 0)
    (tmp_path / "red/gate").touch()
    assert platform.invoke("Echo", {"a": 1}).json() == {"a": 1}
    assert not listener.letters
    assert platform.tells("the function is gone, and its events with it")


def test_dead_letters_wait_until_somebody_takes_them(start, tmp_path, listener):
    properties = {"DeadLetterQueue": {"Type": "SQS", "TargetArn": DEAD}} | config(MaximumRetryAttempts=0)
    platform = up(start, tmp_path, {"Red": ("puppet", properties)}, listener)
    listener.is_down.set()
    for number in range(20):
        send(platform, "Red", FAILS | {"n": number})
    wait_until(lambda: listener.refusals >= 40, "letters are sent again")
    assert metric(platform, "dead_letter_errors", "Red") >= 20
    wait_until(lambda: events(platform) == (0, 20), "all are settled")
    # They also outlive the platform.
    home, data = platform.home, platform.data_dir
    old = platform.kill()
    listener.is_down.clear()
    endpoint = ("--endpoint", f"sqs={listener.url}")
    again = start(*FAST, *endpoint, template=tmp_path / "app.json", home=home)
    assert data == again.data_dir and not (left := old.wait_gone(20, successor=True)), left
    letters = listener.wait(DEAD, 20)
    assert {letter.json()["n"] for letter in letters} == set(range(20))
    wait_until(lambda: events(again) == (0, 0), "all is told")


def test_a_wrong_endpoint_or_speed_is_a_usage_error(tmp_path):
    for words in (["--endpoint", "sqs"], ["--endpoint", "kinesis=a:1"], ["--endpoint", "sqs=https://a:1"], ["--event-speed", "0"]):
        ran = subprocess.run(
            [BINARY, "up", "--port", "0", "--data-dir", tmp_path / "data", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == 2 and words[0] in ran.stderr, ran


class Sender(threading.Thread):
    """Sends numbered events until it is told to stop or its platform is gone; remembers what was accepted."""

    def __init__(self, platform, name, numbers, accepted, pause=0.0):
        super().__init__(daemon=True)
        self.platform, self.name_, self.numbers, self.accepted, self.pause = platform, name, numbers, accepted, pause
        self.is_over = threading.Event()
        self.has_begun = threading.Event()
        self.start()

    def run(self):
        path = f"/2015-03-31/functions/{self.name_}/invocations"
        while not self.is_over.wait(self.pause):
            number = next(self.numbers)
            try:
                answer = self.platform.request("POST", path, json.dumps({"n": number}), {"X-Amz-Invocation-Type": "Event"})
            except Exception:
                return
            if answer.status == 202:
                self.accepted.add(number)
                self.has_begun.set()

    def stop(self):
        self.is_over.set()
        self.join(60)
        assert not self.is_alive()


class Numbers:
    """Each number once, whoever asks."""

    def __init__(self):
        self.last, self.lock = 0, threading.Lock()

    def __next__(self):
        with self.lock:
            self.last += 1
            return self.last


def heard(listener):
    with listener.changed:
        return [letter.json()["requestPayload"]["n"] for letter in listener.letters[QUEUE]]


@pytest.mark.patience(120 + 20 * KILLS)
def test_no_accepted_event_is_lost_to_kill_9(start, tmp_path, listener):
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    properties = config(DestinationConfig={"OnSuccess": to(QUEUE)})
    template = templates.write(tmp_path, {"Echo": ("echo", properties)})
    arguments = (*FAST, "--endpoint", f"sqs={listener.url}")
    accepted, numbers, old = set(), Numbers(), None
    for number in range(KILLS):
        platform = start(*arguments, template=template, home=tmp_path)
        if old is not None:
            assert not (left := old.wait_gone(20, successor=True)), left
        senders = [Sender(platform, "Echo", numbers, accepted, pause=0.01) for _ in range(4)]
        assert senders[0].has_begun.wait(30)
        # Not a wait for anything: the moment of death is what varies.
        threading.Event().wait(dice.uniform(0.0, 0.4))
        old = platform.kill()
        for sender in senders:
            sender.stop()
        if number % 3 == 1:
            # Once more, while it recovers.
            words = ["up", str(template), *arguments, "--port", "0", "--data-dir", platform.data_dir]
            again = subprocess.Popen(
                [BINARY, *words], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            threading.Event().wait(dice.uniform(0.0, 0.3))
            again.kill()
            again.wait(10)
    last = start(*arguments, template=template, home=tmp_path)
    assert not (left := old.wait_gone(20, successor=True)), left
    wait_until(lambda: accepted <= set(heard(listener)), f"seed {seed}: lost {len(accepted - set(heard(listener)))}")
    wait_until(lambda: events(last) == (0, 0), "all is told")
    every = heard(listener)
    print(f"{KILLS} kills: {len(accepted)} accepted, {len(every)} records, {len(every) - len(set(every))} more than once")
    assert len(accepted) >= KILLS


@pytest.mark.patience(240)
def test_a_platform_that_stood_still_goes_on_where_it_was(start, tmp_path, listener):
    properties = config(DestinationConfig={"OnSuccess": to(QUEUE)}) | {"ReservedConcurrentExecutions": 2}
    platform = up(start, tmp_path, {"Echo": ("echo", properties)}, listener)
    accepted = set()
    sender = Sender(platform, "Echo", Numbers(), accepted)
    assert sender.has_begun.wait(30)
    platform.process.send_signal(signal.SIGSTOP)
    threading.Event().wait(30 if KILLS > 10 else 2)
    platform.process.send_signal(signal.SIGCONT)
    before = len(accepted)
    wait_until(lambda: len(accepted) > before, "events are accepted again")
    sender.stop()
    wait_until(lambda: accepted <= set(heard(listener)), "all ran")
    assert row(platform, "lambda.reserved-concurrency", "Echo")["peak"] <= 2
    wait_until(lambda: events(platform) == (0, 0), "the queue is empty")
    assert sorted(set(heard(listener))) == sorted(heard(listener)), "none ran twice"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_refuses_events_and_loses_none(start, tmp_path, listener):
    home = tmp_path / "small"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "onrush-test", home], check=True)
    try:
        properties = config(DestinationConfig={"OnSuccess": to(QUEUE)})
        template = templates.write(tmp_path, {"Echo": ("echo", properties)})
        arguments = (*FAST, "--endpoint", f"sqs={listener.url}")
        platform = start(*arguments, template=template, home=home)
        accepted, refused, number = set(), 0, 0
        ballast = "x" * 500_000
        filler = open(home / "filler", "wb")
        while refused < 3:
            number += 1
            answer = platform.request(
                "POST",
                "/2015-03-31/functions/Echo/invocations",
                json.dumps({"n": number, "ballast": ballast}),
                {"X-Amz-Invocation-Type": "Event"},
            )
            if answer.status == 202:
                accepted.add(number)
            else:
                assert answer.status == 500 and answer.headers["x-amzn-ErrorType"] == "ServiceException", answer
                assert "no space left" in answer.body.decode(), answer.body
                refused += 1
            try:
                filler.write(b"x" * 2_000_000)
                filler.flush()
            except OSError:
                pass
        assert platform.invoke("Echo", {"sync": 1}).json() == {"sync": 1}, "who needs no disk goes on"
        old = platform.kill()
        filler.truncate(0)
        filler.close()
        again = start(*arguments, template=template, home=home)
        assert not (left := old.wait_gone(20, successor=True)), left
        wait_until(lambda: accepted <= set(heard(listener)), "every accepted event ran")
        number += 1
        send(again, "Echo", {"n": number})
        wait_until(lambda: number in heard(listener), "events are accepted again")
        again.stop()
    finally:
        subprocess.run(["umount", "-l", home], check=True)
