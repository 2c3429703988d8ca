"""Streamed responses: InvokeWithResponseStream and function URLs, what flows, what holds it back, and how it ends."""

import base64
import http.client
import json
import socket
import struct
import time

import pytest

from support import puppet, templates
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

STREAM = {"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
PRELUDE = "application/vnd.awslambda.http-integration-response"
MB = 1 << 20
# What is in flight between a function and its client: four socket buffers, two queues and hyper's own.
IN_FLIGHT_MAX = 24 * MB


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def platform(home):
    shop = {"AllowOrigins": ["https://shop.example.com"], "AllowMethods": ["GET"]}
    slow = {"Timeout": 60, "MemorySize": 1769}
    template = templates.write(
        home,
        {
            "Streamer": ("streamer", {"FunctionUrlConfig": STREAM, **slow}),
            "Shop": ("streamer", {"FunctionUrlConfig": STREAM | {"Cors": shop}, **slow}),
            "Gathers": ("streamer", {"FunctionUrlConfig": {"AuthType": "NONE"}, **slow}),
            "Hasty": ("streamer", {"FunctionUrlConfig": STREAM, "Timeout": 2, "MemorySize": 1769}),
            "Rust": ("streams", {"FunctionUrlConfig": STREAM, **slow}),
            "Echo": ("echo", {"FunctionUrlConfig": STREAM}),
        },
    )
    # 2 MB a second would make these tests long; `test_a_long_response_flows_at_the_rate` has its own.
    with Platform("--limit", "lambda.response-stream-rate=4294967295", home=home, template=template) as platform:
        yield platform


@pytest.fixture
def client(platform):
    client = platform.client()
    yield client
    client.close()


@pytest.fixture
def gate(home):
    """Opens gates for the streamers, which see the files of their folders; shut again after the test."""
    opened = []

    def open_gate(function, name="gate"):
        path = home / function.lower() / name
        path.touch()
        opened.append(path)

    yield open_gate
    for path in opened:
        path.unlink()


def events(client, name, event, **arguments):
    """What InvokeWithResponseStream gives: the payload, the last event, and the answer."""
    answer = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **arguments)
    payload, complete = [], []
    for message in answer["EventStream"]:
        if "PayloadChunk" in message:
            payload.append(message["PayloadChunk"]["Payload"])
        else:
            complete.append(message["InvokeComplete"])
    assert len(complete) == 1, complete
    return b"".join(payload), complete[0], answer


class Stream:
    """A GET-like request to a door whose answer is read as it comes."""

    def __init__(self, platform, door, python, receive_buffer=None, **event):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(30)
        self.sock.connect(("127.0.0.1", platform.port))
        body = json.dumps({"python": python} | event)
        self.sock.sendall(
            f"POST /_onrush/door/{door}/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        self.response = http.client.HTTPResponse(self.sock)

    def begin(self):
        self.response.begin()
        return self.response

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.response.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def memory_kb(platform):
    text = open(f"/proc/{platform.process.pid}/status").read()
    return int(text.split("VmRSS:")[1].split()[0])


def in_flight(platform):
    return platform.request("GET", "/_onrush/health").json()["in_flight"]


def until(true, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# ---- InvokeWithResponseStream -------------------------------------------------------------------------------------


def test_boto3_reads_a_stream_with_its_end(client):
    python = "[write(text) for text in ('one,', 'two,', 'three')]"
    payload, complete, answer = events(client, "Streamer", {"python": python})
    assert (payload, complete) == (b"one,two,three", {})
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"


def test_the_first_piece_is_there_before_the_function_ends(client, gate):
    answer = client.invoke_with_response_stream(
        FunctionName="Streamer", Payload=json.dumps({"python": "write('first'); wait('gate'); write('last')"})
    )
    stream = iter(answer["EventStream"])
    assert next(stream) == {"PayloadChunk": {"Payload": b"first"}}
    gate("Streamer")
    assert next(stream) == {"PayloadChunk": {"Payload": b"last"}}
    assert next(stream) == {"InvokeComplete": {}}


def test_a_function_that_does_not_stream_is_answered_in_the_same_form(client):
    event = {"text": "x" * (3 * MB)}
    payload, complete, _ = events(client, "Echo", event)
    assert (json.loads(payload), complete) == (event, {})


def test_the_tail_of_the_log_comes_with_the_end(client):
    python = "print('said it', flush=True); write('x')"
    _, complete, _ = events(client, "Streamer", {"python": python}, LogType="Tail")
    log = base64.b64decode(complete["LogResult"]).decode()
    assert "said it" in log and "END RequestId" in log and "REPORT RequestId" in log


def test_an_error_on_the_way_ends_the_stream_with_its_type_and_document(client):
    python = "write('some'); finish({'errorType': 'Oh.No', 'errorMessage': 'broke'}, 'Oh.No')"
    payload, complete, _ = events(client, "Streamer", {"python": python})
    assert payload == b"some"
    assert complete["ErrorCode"] == "Oh.No"
    assert json.loads(complete["ErrorDetails"]) == {"errorType": "Oh.No", "errorMessage": "broke"}


def test_a_crash_on_the_way_is_told(platform, client):
    payload, complete, _ = events(client, "Streamer", {"python": "write('some'); os._exit(7)"}, LogType="Tail")
    assert payload == b"some"
    assert complete["ErrorCode"] == "Runtime.ExitError"
    assert "exit status 7" in json.loads(complete["ErrorDetails"])["errorMessage"]
    assert "Status: error\tError Type: Runtime.ExitError" in base64.b64decode(complete["LogResult"]).decode()
    # The next one finds a new process.
    assert events(client, "Streamer", {"python": "write('fine')"})[0] == b"fine"


def test_a_connection_that_breaks_is_a_truncated_response(client):
    payload, complete, _ = events(client, "Streamer", {"python": "write('some'); ended = True"})
    assert (payload, complete["ErrorCode"]) == (b"some", "Runtime.TruncatedResponse")


def test_a_time_out_on_the_way_names_its_limit(platform, client):
    payload, complete, _ = events(client, "Hasty", {"python": "write('some'); time.sleep(60)"})
    assert (payload, complete["ErrorCode"]) == (b"some", "Sandbox.Timedout")
    assert "timed out after 2.00 seconds" in json.loads(complete["ErrorDetails"])["errorMessage"]
    assert "limit function.timeout" in "\n".join(platform.log("Hasty"))


def test_bad_calls_are_refused_as_aws_does(platform, client):
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke_with_response_stream(FunctionName="nobody")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke_with_response_stream(FunctionName="Streamer", Qualifier="7")
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke_with_response_stream(FunctionName="Streamer", Payload=b"no json")
    path = "/2021-11-15/functions/Streamer/response-streaming-invocations"
    answer = platform.request("POST", path, "{}", {"X-Amz-Invocation-Type": "Event"})
    assert answer.status == 400 and "[RequestResponse, DryRun]" in answer.json()["message"], answer
    assert platform.request("POST", path, "{}", {"X-Amz-Invocation-Type": "DryRun"}).status == 204
    for name in ("X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Client-Context"):
        assert platform.request("POST", path, "{}", {name: "§"}).status == 400, f"{name}: what is no ASCII is no absence"


def test_a_refused_stream_names_its_limit(platform, client):
    client.put_function_concurrency(FunctionName="Streamer", ReservedConcurrentExecutions=0)
    try:
        with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
            client.invoke_with_response_stream(FunctionName="Streamer")
        headers = refused.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert headers["x-onrush-limit"].startswith("lambda.reserved-concurrency; resource=Streamer")
    finally:
        client.delete_function_concurrency(FunctionName="Streamer")


def test_versions_and_aliases_stream(client):
    version = client.publish_version(FunctionName="Streamer")["Version"]
    client.create_alias(FunctionName="Streamer", Name="live", FunctionVersion=version)
    _, _, answer = events(client, "Streamer", {"python": "write('x')"}, Qualifier="live")
    assert answer["ExecutedVersion"] == version
    client.delete_alias(FunctionName="Streamer", Name="live")


def test_a_caller_who_wants_it_whole_gets_it_whole(platform):
    answer = platform.invoke("Streamer", {"python": f"begin({PRELUDE!r}); write('{{}}' + chr(0) * 8); write('body')"})
    assert (answer.status, answer.error, answer.body) == (200, None, b"{}" + bytes(8) + b"body")
    answer = platform.invoke("Streamer", {"python": f"[write(b'x' * {MB}) for _ in range(7)]"})
    assert answer.error == "Unhandled" and answer.json()["errorType"] == "Function.ResponseSizeTooLarge"
    assert answer.headers["x-onrush-limit"].startswith("lambda.payload-size")
    answer = platform.invoke("Streamer", {"python": "finish({'errorType': 'E', 'errorMessage': 'm'})"})
    assert (answer.error, answer.json()) == ("Unhandled", {"errorType": "E", "errorMessage": "m"})


def test_tiny_chunks_and_endless_trailers(platform, client):
    """A million chunks of one byte are a megabyte; trailers larger than any error document break the response."""
    payload, complete, _ = events(client, "Streamer", {"python": "begin(); sock.sendall(b'1\\r\\nx\\r\\n' * 1_000_000)"})
    assert (payload, complete) == (b"x" * 1_000_000, {})
    python = "write('some'); sock.sendall(b'0\\r\\nX: '); sock.sendall(b'y' * (4 << 20)); ended = True"
    payload, complete, _ = events(client, "Streamer", {"python": python})
    assert (payload, complete["ErrorCode"]) == (b"some", "Runtime.TruncatedResponse")
    platform.alive()


# ---- Function URLs ------------------------------------------------------------------------------------------------


def test_a_prelude_becomes_status_headers_and_cookies(platform):
    prelude = {"statusCode": 418, "headers": {"x-kind": "tea", "Content-Type": "text/html"}, "cookies": ["a=1", "b=2"]}
    python = f"begin({PRELUDE!r}); write({json.dumps(prelude)!r} + chr(0) * 8 + 'bo'); write('dy')"
    with Stream(platform, "Streamer", python) as stream:
        answer = stream.begin()
        assert (answer.status, answer.headers["x-kind"], answer.headers["content-type"]) == (418, "tea", "text/html")
        assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
        assert answer.headers["transfer-encoding"] == "chunked" and answer.headers["x-amzn-requestid"]
        assert answer.read() == b"body"


@pytest.mark.parametrize("type, seen", [(None, "application/octet-stream"), ("text/plain", "text/plain")])
def test_a_stream_without_a_prelude_is_the_body(platform, type, seen):
    with Stream(platform, "Streamer", f"begin({type!r}); write('just'); write(' this')") as stream:
        answer = stream.begin()
        assert (answer.status, answer.headers["content-type"], answer.read()) == (200, seen, b"just this")


def test_headers_and_each_piece_arrive_while_the_function_works(platform, gate):
    python = f"begin({PRELUDE!r}); write('{{}}' + chr(0) * 8); wait('head'); write('one'); wait('one'); write('two')"
    with Stream(platform, "Streamer", python) as stream:
        answer = stream.begin()
        assert answer.status == 200
        gate("Streamer", "head")
        assert answer.read1(100) == b"one"
        assert in_flight(platform) == 1, "it is in flight until its stream ends"
        gate("Streamer", "one")
        assert answer.read() == b"two"
    platform.wait_idle()


@pytest.mark.parametrize("end", ["os._exit(1)", "finish({'errorType': 'E', 'errorMessage': 'm'})", "ended = True"])
def test_what_fails_on_the_way_ends_without_the_last_chunk(platform, end):
    with Stream(platform, "Streamer", f"write('some'); {end}") as stream:
        answer = stream.begin()
        with pytest.raises(http.client.IncompleteRead) as broken:
            answer.read()
        assert answer.status == 200 and broken.value.partial == b"some"
    until(lambda: "a streamed response was cut off" in platform.stderr(), "no line of it in the log")


@pytest.mark.parametrize(
    "python",
    [
        "finish({'errorType': 'E', 'errorMessage': 'm'})",
        "os._exit(1)",
        f"begin({PRELUDE!r}); os._exit(1)",
        f"begin({PRELUDE!r}); write('{{}}')",
        f"begin({PRELUDE!r}); write('no json' + chr(0) * 8)",
        f"begin({PRELUDE!r}); write('x' * 100_000)",
        f"begin({PRELUDE!r}); write(json.dumps(dict(statusCode=99)) + chr(0) * 8)",
    ],
)
def test_what_fails_before_anything_was_sent_is_a_502(platform, python):
    with Stream(platform, "Streamer", python) as stream:
        assert stream.begin().status == 502


def test_a_url_that_streams_time_outs_too(platform):
    with Stream(platform, "Hasty", "write('some'); time.sleep(60)") as stream:
        with pytest.raises(http.client.IncompleteRead) as broken:
            stream.begin().read()
        assert broken.value.partial == b"some"
    with Stream(platform, "Hasty", "time.sleep(60)") as stream:
        answer = stream.begin()
        assert answer.status == 502 and answer.headers["x-onrush-limit"].startswith("function.timeout"), answer.headers


def test_cross_origin_rules_hold_for_streams(platform):
    body = json.dumps({"python": "write('x')"})
    headers = {"Origin": "https://shop.example.com", "Content-Type": "application/json"}
    answer = platform.door("Shop", method="POST", body=body, headers=headers)
    assert answer.status == 200 and answer.headers["access-control-allow-origin"] == "https://shop.example.com"


def test_a_url_that_gathers_obeys_the_prelude(platform):
    prelude = json.dumps({"statusCode": 201, "headers": {"x-kind": "tea"}})
    python = f"begin({PRELUDE!r}); write({prelude!r} + chr(0) * 8); write('body')"
    answer = platform.door("Gathers", method="POST", body=json.dumps({"python": python}))
    assert (answer.status, answer.headers["x-kind"], answer.body) == (201, "tea", b"body")
    assert answer.headers["content-length"] == "4"
    answer = platform.door("Gathers", method="POST", body=json.dumps({"python": f"[write(b'x' * {MB}) for _ in range(7)]"}))
    assert answer.status == 502 and answer.headers["x-onrush-limit"].startswith("lambda.payload-size"), answer


def test_a_function_that_does_not_stream_behind_a_url_that_does(platform):
    answer = platform.door("Echo", method="POST", body="x")
    assert answer.status == 200 and answer.json()["rawPath"] == "/", "its result is the body"


# ---- Runtimes -----------------------------------------------------------------------------------------------------


def test_the_rust_runtime_streams_unmodified(platform, client):
    order = {"pieces": ["one,", "two,"], "bytes": 100_000, "status": 201}
    answer = platform.door("Rust", method="POST", body=json.dumps(order), headers={"Content-Type": "application/json"})
    assert (answer.status, answer.headers["x-kind"], answer.headers["set-cookie"]) == (201, "streamed", "a=1")
    assert answer.body == b"one,two," + b"x" * 100_000
    payload, complete, _ = events(client, "Rust", {"pieces": ["one"], "status": 201})
    prelude, body = payload.split(bytes(8))
    assert (json.loads(prelude)["statusCode"], body, complete) == (201, b"one", {})


# ---- What holds it back -------------------------------------------------------------------------------------------


def test_a_slow_client_holds_the_function_back(platform, home):
    """The function counts what it could write; the platform's memory does not grow with it."""
    python = """
begin(); sent = 0
for _ in range(200):
    write(bytes(1 << 20)); sent += 1
    print('wrote', sent, flush=True)
"""
    platform.wait_idle()
    before = memory_kb(platform)

    def wrote():
        return max([int(line.split()[1]) for line in platform.log("Streamer") if line.startswith("wrote ")], default=0)

    with Stream(platform, "Streamer", python, receive_buffer=65536) as stream:
        answer = stream.begin()
        answer.read(10)
        last = -1
        while last != (last := wrote()):
            time.sleep(0.3)
        assert last * MB < IN_FLIGHT_MAX, f"it wrote {last} MB although nobody read"
        assert memory_kb(platform) - before < 16 * 1024, "the platform holds the stream"
        assert 10 + len(answer.read()) == 200 * MB
    assert memory_kb(platform) - before < 24 * 1024


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away_changes_nothing(platform, gate, reset):
    """The function runs on, writes to nobody, and is billed to its end."""
    platform.wait_idle()
    python = f"write('first'); wait('gone-{reset}'); [write(bytes(1 << 20)) for _ in range(30)]; print('wrote-all-{reset}', flush=True)"
    stream = Stream(platform, "Streamer", python)
    assert stream.begin().read1(100) == b"first"
    stream.close(reset)
    assert in_flight(platform) == 1
    gate("Streamer", f"gone-{reset}")
    platform.wait_idle()
    until(lambda: f"wrote-all-{reset}" in platform.log("Streamer"), "it did not write all")
    report = [line for line in platform.log("Streamer") if line.startswith("REPORT")][-1]
    assert "Status" not in report, report
    platform.alive()


@pytest.mark.parametrize("by", ["url", "event stream"])
def test_two_hundred_megabytes_pass_and_one_byte_more_does_not(platform, client, by):
    def stream(extra):
        python = f"piece = bytes(1 << 20); [write(piece) for _ in range(200)]; {'write(b' + repr('x') + ')' if extra else ''}"
        if by == "event stream":
            payload, complete, _ = events(client, "Streamer", {"python": python})
            return len(payload), complete.get("ErrorCode")
        with Stream(platform, "Streamer", python) as stream:
            try:
                return len(stream.begin().read()), None
            except http.client.IncompleteRead as broken:
                return len(broken.partial), "cut"

    assert stream(False) == (200 * MB, None)
    failed = "Function.ResponseSizeTooLarge" if by == "event stream" else "cut"
    refused = platform.limit("lambda.response-stream-size", "Streamer")["refused"]
    assert stream(True) == (200 * MB, failed)
    platform.wait_idle()
    row = platform.limit("lambda.response-stream-size", "Streamer")
    assert (row["refused"] - refused, row["max"], row["peak"]) == (1, 200 * MB, 200 * MB)
    assert "limit lambda.response-stream-size of Streamer: 209715201 of 209715200 bytes" in "\n".join(platform.log("Streamer"))


def alone(tmp_path):
    """A template with one streamer for a platform of a test's own."""
    return templates.write(tmp_path, {"Streamer": ("streamer", {"FunctionUrlConfig": STREAM, "Timeout": 60})})


def test_a_long_response_flows_at_the_rate(start, tmp_path):
    """Ten times the burst, scaled down; what was held back is on the board, nothing is lost."""
    limits = ["lambda.response-stream-burst=65536", "lambda.response-stream-rate=1048576"]
    arguments = [word for limit in limits for word in ("--limit", limit)]
    platform = start(*arguments, template=alone(tmp_path))
    began = time.monotonic()
    with Stream(platform, "Streamer", "write(bytes(65536)); write(bytes(589824))") as stream:
        assert len(stream.begin().read()) == 655_360
    # Not a figure of speed: the rate allows no less.
    assert time.monotonic() - began > 589_824 / 1_048_576
    platform.wait_idle()
    row = platform.limit("lambda.response-stream-rate", "Streamer")
    assert (row["max"], row["refused"]) == (1_048_576, 1)
    assert platform.limit("lambda.response-stream-burst", "Streamer")["refused"] == 1


def test_kill_and_stop_amid_streams_leave_nothing(start, tmp_path):
    """`kill -9` and Ctrl-C while streams flow: nothing hangs, nothing is left behind."""
    template = alone(tmp_path)
    platform = start(template=template)
    streams = [Stream(platform, "Streamer", "begin()\nwhile True: write(bytes(1 << 16))") for _ in range(4)]
    for stream in streams:
        assert stream.begin().status == 200
    belongings = platform.kill()
    assert not belongings.wait_gone(10)
    for stream in streams:
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            stream.response.read()
        stream.close()
    again = start(template=template)
    with Stream(again, "Streamer", "begin()\nwhile True: write(bytes(1 << 16))") as stream:
        assert stream.begin().status == 200
        # Fails if anything is left behind.
        again.stop()
