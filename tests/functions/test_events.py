"""Asynchronous invocation: 202 at once, retries, dead letters, destinations; nothing accepted is lost."""

import json

import botocore.exceptions
import pytest

from support import puppet, templates
from support.listener import Listener, account_arn

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")

# A minute's wait is 60 ms.
FAST = ("--event-speed", "1000")
QUEUE = account_arn("sqs", "queue")
DEAD = account_arn("sqs", "dead")
# The n-th of an event's tries succeeds.
FAILS = "import sys; print('try', event['n'], flush=True)\nos._exit(1)"


@pytest.fixture
def listener():
    with Listener() as listener:
        yield listener


def up(start, tmp_path, functions, listener=None, *arguments, resources=None, **options):
    template = templates.write(tmp_path, functions, resources)
    endpoints = [] if listener is None else [
        word for service in ("sqs", "sns", "events", "s3") for word in ("--endpoint", f"{service}={listener.url}")
    ]
    return start(*FAST, *endpoints, *arguments, template=template, **options)


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
