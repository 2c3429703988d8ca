"""Requests with two meanings, through raw sockets, on every door that a stranger or a function can reach.

Onrush speaks HTTP/1.1 alone, so rapid resets, CONTINUATION floods and HPACK bombs find nobody: the preface is refused.
"""

import time

import pytest

from support import http, packages, puppet
from support.puppet import inside

ECHO = "smuggled"


@pytest.fixture(scope="module", autouse=True)
def functions(platform):
    if not puppet.here():
        pytest.skip(f"{puppet.PYTHON} is not installed")
    platform.create(ECHO, packages.built("echo"), Timeout=30)
    platform.client().create_function_url_config(FunctionName=ECHO, AuthType="NONE")
    platform.create("Red", packages.package(puppet.files()), Timeout=60, MemorySize=1769)


# What a second request would ask for, and the ways to hide it in a first one.
SECOND = "GET {health} HTTP/1.1\r\nHost: {host}\r\n\r\n"
WAYS = {
    "length-and-chunks": "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}",
    "chunks-and-length": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n{second}",
    "two-lengths": "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nContent-Length: 60\r\n\r\n{{}}{second}",
    "chunked-twice": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{second}",
    "odd-coding": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{second}",
    "coding-with-space": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{second}",
    "folded": "POST {path} HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n Content-Length: 60\r\nContent-Length: 2\r\n\r\n{{}}{second}",
    "folded-coding": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{second}",
    "carriage-return-alone": "POST {path} HTTP/1.1\r\nHost: {host}\r\nX-A: b\rContent-Length: 60\r\nContent-Length: 2\r\n\r\n{{}}{second}",
    "chunk-with-bare-feed": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\nxx\r\n{{}}\r\n0\r\n\r\n{second}",
    "chunk-size-overflows": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{{}}\r\n0\r\n\r\n{second}",
    "chunk-size-in-words": "POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{{}}\r\n0\r\n\r\n{second}",
    "http2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00{second}",
    "http09": "GET {path}\r\n{second}",
}


def request(way, path, host, health):
    return WAYS[way].format(path=path, host=host, second=SECOND.format(host=host, health=health), health=health).encode("latin-1")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "path", [f"/2015-03-31/functions/{ECHO}/invocations", f"/_onrush/door/{ECHO}/"], ids=["api", "function-url"]
)
def test_no_second_request_hides_in_a_first_one(platform, way, path):
    before = platform.metric("invocations", ECHO)
    statuses = http.statuses(http.raw(platform.port, request(way, path, "127.0.0.1", "/_onrush/health"), timeout=0.8))
    # Read by its chunks and then closed, as RFC 9112 (6.3) allows, or refused; in no case is the second one answered.
    assert len(statuses) <= 1, statuses
    if way in ("length-and-chunks", "chunks-and-length"):
        assert statuses in ([400], [200], []), statuses
    else:
        assert all(status in (400, 405, 413, 501, 505) for status in statuses), statuses
        assert platform.metric("invocations", ECHO) == before


@pytest.mark.parametrize("hosts", [["127.0.0.1", "evil.example"], ["evil.example", "127.0.0.1"], ["a", "b"], []], ids=len)
def test_a_request_without_one_host_reaches_nobody(platform, hosts):
    """Which of two another server takes is unknown; HTTP/1.1 asks for one (RFC 9112, 3.2)."""
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    text = f"POST /2015-03-31/functions/{ECHO}/invocations HTTP/1.1\r\n{lines}Content-Length: 2\r\n\r\n{{}}"
    before = platform.metric("invocations", ECHO)
    statuses = http.statuses(http.raw(platform.port, text.encode(), timeout=0.8))
    assert statuses and statuses[0] == 400, statuses
    assert platform.metric("invocations", ECHO) == before


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:22/", "http://evil.example/_onrush/limits", "//evil.example/", "file:///etc/passwd", "http://[::1]:1/x", "127.0.0.1:22"],
)
@pytest.mark.parametrize("method", ["GET", "CONNECT", "POST"])
def test_a_target_elsewhere_is_fetched_by_nobody(platform, method, target):
    """T12: the absolute form names another server. Nothing is forwarded, and its host is judged as the header is."""
    text = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
    statuses = http.statuses(http.raw(platform.port, text.encode(), timeout=0.8))
    assert all(status in (400, 403, 404, 405) for status in statuses), statuses


SEND = r"""
import socket
answer = {}
for name, text in event['requests'].items():
    host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
    with socket.create_connection((host, int(port)), 5) as stream:
        stream.settimeout(0.5)
        stream.sendall(text.encode('latin-1'))
        got = b''
        try:
            while piece := stream.recv(65536):
                got += piece
        except OSError:
            pass
    answer[name] = [int(line.split()[1]) for line in got.decode('latin-1').splitlines() if line.startswith('HTTP/1.')]
"""


def test_the_runtime_api_takes_no_request_with_two_meanings(platform):
    """From inside, while an invocation runs: an answer may not be put in anybody's place."""
    path = "/2018-06-01/runtime/invocation/00000000-0000-4000-8000-000000000000/response"
    requests = {way: request(way, path, "127.0.0.1:9001", "/2018-06-01/ping").decode("latin-1") for way in WAYS}
    seen = inside(platform, SEND, requests=requests)
    assert not {way: statuses for way, statuses in seen.items() if len(statuses) > 1 or 200 in statuses or 202 in statuses}, seen
    # Who sent that goes on working.
    assert inside(platform, "answer = count") == 2
    platform.alive()


FORGE = r"""
import socket
host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
def post(path, body, length=None, headers=''):
    with socket.create_connection((host, int(port)), 5) as stream:
        stream.settimeout(2)
        stream.sendall(f'POST /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) if length is None else length}\r\n{headers}\r\n'.encode() + body)
        try:
            return int(stream.recv(4096).split()[1])
        except (OSError, IndexError):
            return 0
answer = {
    'foreign': post(f"invocation/{event['foreign']}/response", b'"forged"'),
    'error of another': post(f"invocation/{event['foreign']}/error", b'{}'),
    'path': post('invocation/../../etc/passwd/response', b'x'),
    'late init error': post('init/error', b'{}'),
    'control bytes': post(f"invocation/{event['foreign']}\x0d/response", b'x'),
    'long id': post('invocation/' + 'a' * 100000 + '/response', b'x'),
}
"""


def test_no_result_is_forged_for_another(platform):
    """T5: the id of another function's running invocation is worth nothing here."""
    foreign = platform.invoke(ECHO, {}).request_id
    seen = inside(platform, FORGE, foreign=foreign)
    assert seen["foreign"] == seen["error of another"] == seen["long id"] == 400, seen
    assert seen["late init error"] == 403 and seen["path"] in (400, 404) and seen["control bytes"] in (400, 404), seen


HALF = r"""
import socket
host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
kept['open'] = []
for number in range(200):
    try:
        s = socket.create_connection((host, int(port)), 0.5)
        s.settimeout(0.2)
        s.sendall(b'POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nX-A: ' + b'a' * (1 << 20))
        kept['open'].append(s)
    except OSError:
        break
answer = len(kept['open'])
"""


def test_heads_that_never_end_are_few(platform):
    """A function holds its Runtime API's connections with heads of a megabyte: the platform's memory is bounded."""

    def memory_mb():
        text = open(f"/proc/{platform.process.pid}/status").read()
        return int(text.split("VmRSS:")[1].split()[0]) // 1024

    before = memory_mb()
    opened = platform.invoke("Red", {"python": HALF})
    assert opened.status == 200
    assert memory_mb() - before < 160, (before, memory_mb(), opened)
    platform.alive()


def test_control_bytes_from_a_function_stay_in_their_line(platform):
    """T11: terminals obey escapes, and a line feed would forge a record; names and types are cut to what may be shown."""
    source = r"""
import sys
from http.client import HTTPConnection
sys.stdout.write('a\x1b]0;pwned\x07\x1b[2Jb\r\nSTART RequestId: forged\n')
sys.stdout.flush()
answer = 1
"""
    assert inside(platform, source) == 1
    logged = platform.log("Red")
    assert not [line for line in logged if "\n" in line]
    # What `up` says of a failure is the function's own text, too.
    platform.create("Rogue", packages.built("rogue"), Timeout=10)
    assert platform.invoke("Rogue", {"do": "error", "message": "x\x1b[2J\n2026-01-01T00:00:00Z  WARN forged"}).error
    # Messages are written by a thread.
    deadline = time.monotonic() + 5
    while "WARN forged" not in platform.stderr() and time.monotonic() < deadline:
        time.sleep(0.02)
    raw = platform.stderr()
    assert "\x1b]0;pwned" not in raw and "\x1b[2J" not in raw, "a terminal would obey"
    assert "WARN forged" in raw and not [line for line in raw.split("\n") if line.startswith("2026-01-01")]
