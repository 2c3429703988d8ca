"""HTTP clients that are slow, half-closed, smuggling or just wrong: the right status for each, and good ones go on."""

import json
import pathlib
import re
import socket
import time

import pytest

from support import http, packages
from support.crowd import crowd

INVOKE = "/2015-03-31/functions/echo/invocations"
# How long a head may take before the platform gives up on it, and some grace.
HEAD_S = 45


@pytest.fixture(scope="module", autouse=True)
def echo(platform):
    platform.create("echo", packages.built("echo"), Timeout=30)
    platform.client().create_function_url_config(FunctionName="echo", AuthType="NONE")
    return "echo"


@pytest.fixture(scope="module", autouse=True)
def slow(platform, echo):
    """A connection that never finishes its head, opened when the module begins."""
    with socket.create_connection(("127.0.0.1", platform.port), timeout=HEAD_S) as stream:
        stream.sendall(b"GET /_onrush/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        yield stream


@pytest.fixture(autouse=True)
def good_clients_go_on(platform, slow):
    yield
    platform.alive()
    assert platform.invoke("echo", {"still": "there"}).json() == {"still": "there"}


def post(body, *headers, path=INVOKE):
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


# ---- Answers that are there before the body is -----------------------------------------------------------------------

EARLY = {
    "no-function": (404, INVOKE.replace("echo", "missing")),
    "no-type": (400, INVOKE),
    "no-door": (404, "/_onrush/door/Missing/"),
    "no-method": (405, "/_onrush/health"),
}


@pytest.mark.parametrize(("status", "path"), EARLY.values(), ids=EARLY)
def test_a_request_that_is_refused_before_its_body_is_here_leaves_the_connection_open(platform, status, path):
    """As urllib3 and others send: the head, then the body; here the second once the answer to the first has come."""
    body = json.dumps("x" * 100_000).encode()
    with socket.create_connection(("127.0.0.1", platform.port), timeout=10) as stream:
        for _ in range(3):
            stream.sendall(post(b"", f"Content-Length: {len(body)}", "X-Amz-Invocation-Type: Nonsense", path=path))
            assert stream.recv(65536).startswith(b"HTTP/1.1 %d " % status)
            stream.sendall(body)
        stream.sendall(HEALTH)
        assert stream.recv(65536).startswith(b"HTTP/1.1 200 "), "no byte of the bodies is taken for a request"


def test_a_client_that_waits_to_be_told_to_go_on_is_told_no_and_sends_nothing(platform):
    with socket.create_connection(("127.0.0.1", platform.port), timeout=10) as stream:
        stream.sendall(post(b"", "Content-Length: 100000", "Expect: 100-continue", path=EARLY["no-function"][1]))
        answer = b""
        while piece := stream.recv(65536):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 404 "), "and the connection ends: what comes next would be taken for the body"


# ---- Framing ------------------------------------------------------------------------------------------------------

HEALTH = b"GET /_onrush/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"{}" + HEALTH, "Content-Length: 2", "Content-Length: 50"),
        post(b"{}", "Content-Length: -2"),
        post(b"{}", "Content-Length: +2"),
        post(b"{}", "Content-Length: 2,2"),
        post(b"{}", "Content-Length: 0x2"),
        post(b"{}", "Content-Length: 99999999999999999999999"),
        post(b"0\r\n\r\n", "Transfer-Encoding: chunked, identity"),
        post(b"0\r\n\r\n", "Transfer-Encoding: xchunked"),
        post(b"zz\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"-1\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"fffffffffffffffffff\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"2\r\n{}XX0\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"{}", "Content-Length : 2"),
        post(b"{}", "X-Folded: a", " b", "Content-Length: 2"),
        post(b"{}", "X-Nul: a\x00b", "Content-Length: 2"),
        post(b"{}", "Bad Name: x", "Content-Length: 2"),
        b"GET /_onrush/health HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET  /_onrush/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"completely wrong\r\n\r\n",
    ],
    ids=[
        "two-lengths",
        "negative-length",
        "plus-length",
        "length-list",
        "hex-length",
        "huge-length",
        "chunked-identity",
        "xchunked",
        "bad-chunk",
        "negative-chunk",
        "huge-chunk",
        "chunk-without-end",
        "space-before-colon",
        "folded",
        "nul",
        "space-in-name",
        "version",
        "two-spaces",
        "tls",
        "http2",
        "garbage",
    ],
)
def test_broken_framing_is_refused_and_hides_no_second_request(platform, request_bytes):
    statuses = http.statuses(http.raw(platform.port, request_bytes, timeout=3))
    assert len(statuses) <= 1, statuses
    # Either one refusal, or the connection closed in its face.
    assert all(status in (400, 413, 501, 505) for status in statuses), statuses


@pytest.mark.parametrize(
    "headers",
    [("Content-Length: 6", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 6")],
    ids=["length-then-chunked", "chunked-then-length"],
)
def test_two_framings_at_once_smuggle_no_second_request(platform, headers):
    """RFC 9112, 6.3: refused, or read by its chunks; in either case the connection is closed after it."""
    statuses = http.statuses(http.raw(platform.port, post(b"0\r\n\r\n" + HEALTH, *headers), timeout=3))
    assert statuses in ([400], [200]), statuses


def test_a_half_closed_client_gets_its_answer(platform):
    received = http.raw(platform.port, post(b'{"half":"closed"}', "Content-Length: 17"), half_close=True, timeout=30)
    assert http.statuses(received) == [200] and received.endswith(b'{"half":"closed"}'), received


def test_a_body_that_ends_early_is_never_invoked(platform):
    before = platform.metric("invocations", "echo")
    received = http.raw(platform.port, post(b'{"half"', "Content-Length: 18"), half_close=True, timeout=10)
    assert all(status == 400 for status in http.statuses(received)), received
    assert platform.metric("invocations", "echo") == before


def test_pipelined_requests_are_answered_in_order(platform):
    first, second = b'"first"', b'"second"'
    received = http.raw(
        platform.port,
        post(first, "Content-Length: 7") + post(second, "Content-Length: 8", "Connection: close"),
        timeout=30,
    )
    assert http.statuses(received) == [200, 200] and received.index(first) < received.index(second)


def test_a_request_in_single_bytes_is_answered(platform):
    request = post(b'{"slow": 1}', "Content-Length: 11", "Connection: close")
    received = http.raw(platform.port, *[request[n : n + 1] for n in range(len(request))], timeout=30)
    assert http.statuses(received) == [200] and b'"slow"' in received


def test_clients_that_vanish_leave_nothing_in_flight(platform):
    def vanish(number):
        with socket.create_connection(("127.0.0.1", platform.port), timeout=30) as stream:
            body = b'{"n": %d}' % number
            stream.sendall(post(body, f"Content-Length: {len(body)}")[: 20 + number * 3])
            if number % 2:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    crowd(vanish, range(60), 20)
    platform.wait_idle()


def test_300_idle_connections_are_no_burden(platform):
    streams = [socket.create_connection(("127.0.0.1", platform.port), timeout=30) for _ in range(300)]
    try:
        for number in range(20):
            assert platform.invoke("echo", number).json() == number
    finally:
        for stream in streams:
            stream.close()


# ---- Sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [INVOKE, "/_onrush/door/echo/", "/2015-03-31/functions"], ids=["invoke", "function-url", "create-function"]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_100_mb_is_413(platform, path, chunked):
    received = b""
    with socket.create_connection(("127.0.0.1", platform.port), timeout=30) as stream:
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {100 << 20}"
        stream.sendall(post(b"", framing, "Content-Type: application/json", path=path))
        piece = b"x" * (1 << 20)
        piece = b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
        try:
            for _ in range(100):
                stream.sendall(piece)
        except OSError:
            pass
        try:
            while more := stream.recv(65536):
                received += more
        except OSError:
            pass
    assert http.statuses(received) == [413], received[:500]
    assert peak_mb(platform) < 400, "the platform keeps what it refuses"


def peak_mb(platform):
    status = pathlib.Path(f"/proc/{platform.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * (3 << 20) + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"a" * (3 << 20) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
    ],
    ids=["path", "header", "many-headers"],
)
def test_an_endless_head_is_refused(platform, head):
    statuses = http.statuses(http.raw(platform.port, head, timeout=5))
    assert statuses in ([], [400], [414], [431]), statuses


# ---- Meaning ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[1]",
        "null",
        '"x"',
        '{"FunctionName": 5}',
        '{"FunctionName": "x", "Timeout": "ten"}',
        '{"FunctionName": "x", "Code": []}',
        '{"FunctionName": "x", "Code": {"ZipFile": "***"}}',
        '{"FunctionName": "x", "Environment": {"Variables": {"AB": 1}}}',
        "{" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
    ids=[
        "empty",
        "open",
        "array",
        "null",
        "string",
        "number-as-name",
        "text-as-timeout",
        "array-as-code",
        "no-base64",
        "number-as-variable",
        "deep-open",
        "deep",
    ],
)
def test_bad_json_is_a_400_that_says_where(platform, body):
    answer = platform.request("POST", "/2015-03-31/functions", body, {"Content-Type": "application/json"})
    assert answer.status == 400, answer
    message = answer.json().get("message") or answer.json().get("Message")
    assert message and answer.headers["x-amzn-ErrorType"], answer
    named = re.match(r'\{"FunctionName": (?:5|"x", "(\w+)")', body)
    if named:
        assert (named[1] or "FunctionName").lower() in message.lower(), (body, message)


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a%20b",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff%fe",
        "a" * 200,
        "arn:aws:lambda",
        "arn:aws:s3:us-east-1:000000000000:function:echo",
        "arn:aws:lambda:us-east-1:12:function:echo",
        "arn:aws:lambda:us-east-1:000000000000:layer:echo",
        "echo:",
        ":echo",
        "echo:a:b",
        "*",
        "%F0%9F%98%80",
    ],
)
@pytest.mark.parametrize("operation", ["invocations", "configuration"])
def test_bad_names_are_refused_with_4xx(platform, name, operation):
    method = "POST" if operation == "invocations" else "GET"
    path = f"/2015-03-31/functions/{name}/{operation}".replace(" ", "%20")
    answer = platform.request(method, path, "{}" if method == "POST" else None)
    assert answer.status in (400, 404), answer
    assert answer.json() and answer.headers["x-amzn-ErrorType"], answer


def test_another_accounts_function_is_not_found_like_a_missing_one(platform):
    for name in ("echo", "nobody"):
        arn = f"arn:aws:lambda:us-east-1:111111111111:function:{name}"
        answer = platform.request("POST", f"/2015-03-31/functions/{arn}/invocations", "{}")
        assert answer.status == 404 and answer.json()["Message"] == f"Function not found: {arn}", answer


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/", 404),
        ("GET", "/nowhere", 404),
        ("PATCH", "/2015-03-31/functions", 404),
        ("POST", "/_onrush/health", 405),
        ("GET", "/_onrush/nothing", 404),
        ("GET", "/_onrush/logs/nobody", 404),
        ("GET", "/_onrush/door/nobody/", 404),
        ("GET", "//", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/2015-03-31/functions/echo/invocations", 404),
    ],
)
def test_paths_that_lead_nowhere_say_so(platform, method, path, status):
    answer = platform.request(method, path)
    assert answer.status in ({404, 405} if status in (404, 405) else {status}), answer
    assert json.loads(answer.body), answer


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "169.254.169.254",
        "127.0.0.1:22",
        "a" * 2000,
        "x.lambda-url",
        "..",
        "lambda-url.lambda-url.lambda-url",
        "[::1]:80",
    ],
)
def test_odd_hosts_reach_no_function_that_they_do_not_name(platform, host):
    before = platform.metric("invocations", "echo")
    answer = platform.request("GET", "/a/b", headers={"Host": host})
    assert answer.status in (400, 403, 404), answer
    assert platform.metric("invocations", "echo") == before


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example.com"}, {"Origin": "https://evil.example.com"}, {"Origin": "null"}],
    ids=["rebound-name", "page", "sandboxed-page"],
)
def test_a_web_page_elsewhere_cannot_use_the_api(platform, headers):
    """A browser on this machine would send such requests for any page that it shows."""
    before = platform.metric("invocations", "echo")
    answer = platform.request("POST", INVOKE, "{}", headers)
    assert answer.status == 403 and "foreign host names" in answer.json()["message"], answer
    assert platform.metric("invocations", "echo") == before


@pytest.mark.parametrize(
    "header, value, status",
    [
        ("X-Amz-Invocation-Type", "Sometimes", 400),
        ("X-Amz-Log-Type", "All", 400),
        ("X-Amz-Client-Context", "no base64", 400),
        ("X-Amz-Client-Context", "bm8ganNvbg==", 400),
        ("X-Amz-Client-Context", "e30=" * 1000, 400),
        ("X-Amz-Tenant-Id", "tenant", 400),
    ],
)
def test_bad_invoke_headers_are_refused(platform, header, value, status):
    answer = platform.request("POST", INVOKE, "{}", {header: value})
    assert answer.status == status and answer.headers["x-amzn-ErrorType"], answer


# ---- Time (last: it has been running since the module began) --------------------------------------------------------


def test_a_head_that_never_ends_is_given_up(slow):
    received = b""
    deadline = time.monotonic() + HEAD_S
    try:
        while time.monotonic() < deadline and (piece := slow.recv(65536)):
            received += piece
    except ConnectionResetError:
        pass
    except TimeoutError:
        pytest.fail("the connection is still open")
    assert http.statuses(received) in ([], [400], [408]), received
