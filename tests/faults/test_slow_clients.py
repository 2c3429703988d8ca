"""Clients that send a byte now and then, take nothing of what they are sent, or open all the connections there are: they are cut off
at `host.client-timeout` and `host.client-connections`, and everybody else is served meanwhile."""

import socket
import threading
import time

import pytest

from support import http, puppet, templates
from support.crowd import crowd
from support.platform import Platform

CONNECTIONS = 60
ARGUMENTS = ("--limit", "host.client-timeout=1", "--limit", f"host.client-connections={CONNECTIONS}")
INVOKE = "/2015-03-31/functions/echo/invocations"
# A byte each: well within the time-out, and never any progress.
TRICKLE_S = 0.3
# Far more than a cut takes.
CUT_S = 20


@pytest.fixture(scope="module")
def platform(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("slow")
    url = {"FunctionUrlConfig": {"AuthType": "NONE"}}
    events = {
        "Http": {"Type": "HttpApi", "Properties": {"Path": "/http", "Method": "post"}},
        "Rest": {"Type": "Api", "Properties": {"Path": "/rest", "Method": "post"}},
    }
    functions = {"Echo": ("echo", {"FunctionName": "echo", "Timeout": 20, "Events": events, **url})}
    if puppet.here():
        stream = {"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
        functions["Half"] = ("streamer", {"FunctionName": "half", "Timeout": 1})
        functions["Streamer"] = ("streamer", {"FunctionName": "streamer", "Timeout": 60, "FunctionUrlConfig": stream})
    with Platform(*ARGUMENTS, template=templates.write(home, functions)) as platform:
        platform.invoke("echo", {})
        yield platform


def connect(platform, source="127.0.0.1", buffer=None):
    stream = socket.socket()
    if buffer:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    stream.bind((source, 0))
    stream.settimeout(CUT_S)
    stream.connect(("127.0.0.1", platform.port))
    return stream


def trickled(platform, request):
    """What comes back while a request's end comes a byte at a time, until the other end closes."""
    received, begun = b"", time.monotonic()
    with connect(platform) as stream:
        stream.sendall(request)
        stream.settimeout(TRICKLE_S)
        while time.monotonic() - begun < CUT_S:
            try:
                piece = stream.recv(65536)
                received += piece
                if not piece:
                    return received
            except TimeoutError:
                pass
            except OSError:
                return received
            try:
                stream.sendall(b" ")
            except OSError:
                pass
    pytest.fail(f"the connection is still open; it said {received!r}")


def post(path, *headers):
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def refused(platform, limit):
    return platform.limit(limit, "host")["refused"]


@pytest.mark.parametrize(
    "path",
    [INVOKE, "/2015-03-31/functions", "/_onrush/door/Echo/", "/_onrush/door/ServerlessHttpApi/http",
     "/_onrush/door/ServerlessRestApi/Prod/rest", "/_onrush/deploy"],
    ids=["invoke", "control", "function-url", "http-api", "rest-api", "deploy"],
)
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"], ids=["length", "chunked"])
def test_a_body_that_trickles_is_408(platform, path, framing):
    before, cut = platform.metric("invocations", "echo"), refused(platform, "host.client-timeout")
    first = b"{" if "Length" in framing else b"186a0\r\n{"
    received = trickled(platform, post(path, framing) + first)
    assert http.statuses(received) == [408], received
    assert b"x-onrush-limit: host.client-timeout" in received, received
    assert platform.metric("invocations", "echo") == before
    assert refused(platform, "host.client-timeout") == cut + 1


def test_a_head_that_trickles_is_given_up(platform):
    assert http.statuses(trickled(platform, b"GET /_onrush/health HTTP/1.1\r\nX-Slow: ")) in ([], [400], [408])


def test_an_answer_that_nobody_takes_is_dropped(platform):
    cut = refused(platform, "host.client-timeout")
    body = b'"' + b"x" * (5 << 20) + b'"'
    with connect(platform, buffer=4096) as stream:
        stream.sendall(post(INVOKE, f"Content-Length: {len(body)}") + body)
        wait(lambda: refused(platform, "host.client-timeout") > cut)
        received = 0
        try:
            while piece := stream.recv(1 << 20):
                received += len(piece)
        except ConnectionResetError:
            pass
    assert received < len(body)
    platform.wait_idle()


@pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")
def test_a_stream_that_nobody_takes_lets_go_of_its_environment(platform):
    cut = refused(platform, "host.client-timeout")
    source = '{"python": "for _ in range(20): write(bytes(1 << 20))"}'.encode()
    with connect(platform, buffer=4096) as stream:
        stream.sendall(post("/_onrush/door/Streamer/", f"Content-Length: {len(source)}") + source)
        wait(lambda: refused(platform, "host.client-timeout") > cut)
        # The function writes on, to nobody, long before its own time-out.
        platform.wait_idle(20)
    answer = platform.invoke("streamer", {"python": "write('still there')"})
    assert answer.error is None and answer.body == b"still there", answer


@pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}")
@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"], ids=["length", "chunked"])
def test_half_a_response_of_a_runtime_holds_no_more_than_its_own_time(platform, framing):
    head = f"POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: x\\r\\n{framing}\\r\\n\\r\\n"
    answer = platform.invoke("half", {"python": f"sock.sendall(('{head}' % id).encode()); sock.sendall(b'5'); time.sleep(100)"})
    assert answer.json()["errorType"] == "Sandbox.Timedout", answer
    answer = platform.invoke("half", {"python": "write('fresh')"})
    assert answer.error is None and answer.body == b"fresh", answer


def test_good_clients_are_served_among_slow_ones(platform):
    done = threading.Event()
    slow = [connect(platform) for _ in range(CONNECTIONS // 2)]
    try:
        for number, stream in enumerate(slow):
            head = post(INVOKE, "Content-Length: 1000")
            stream.sendall(head + b"{" if number % 2 else head[:40])

        def trickle():
            while not done.wait(TRICKLE_S):
                for stream in slow:
                    try:
                        stream.sendall(b" ")
                    except OSError:
                        pass

        trickling = threading.Thread(target=trickle)
        trickling.start()
        answers = crowd(lambda n: platform.invoke("echo", n, whole=False), range(200), most=8)
        assert [answer.json() for answer in answers] == list(range(200))
    finally:
        done.set()
        trickling.join()
        for stream in slow:
            stream.close()


def test_one_address_leaves_room_for_others(platform):
    wait(lambda: platform.limit("host.client-connections", "host")["used"] <= 1)
    before = refused(platform, "host.client-connections")
    held = [connect(platform, "127.0.0.2") for _ in range(CONNECTIONS)]
    try:
        wait(lambda: platform.limit("host.client-connections", "host")["used"] == CONNECTIONS)
        with connect(platform, "127.0.0.2") as one_more:
            one_more.sendall(b"GET /_onrush/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            received = b""
            while piece := one_more.recv(65536):
                received += piece
        assert http.statuses(received) == [503], received
        expected = f"x-onrush-limit: host.client-connections; resource=127.0.0.2; used={CONNECTIONS}; max={CONNECTIONS}"
        assert expected.encode() in received, received
        # Another address has its own.
        assert platform.invoke("echo", 1).json() == 1
        row = platform.limit("host.client-connections", "host")
        assert (row["max"], row["peak"], row["refused"]) == (CONNECTIONS, CONNECTIONS, before + 1), row
    finally:
        for stream in held:
            stream.close()
    wait(lambda: platform.limit("host.client-connections", "host")["used"] <= 1)
    with connect(platform, "127.0.0.2") as stream:
        stream.sendall(b"GET /_onrush/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert stream.recv(65536).startswith(b"HTTP/1.1 200")


def wait(condition, seconds=CUT_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
