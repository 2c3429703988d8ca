"""What hostile code reaches over sockets: its own loopback and its own Runtime API."""

import socket
import uuid

import pytest

from support.crowd import Held
from support.puppet import inside


def test_the_network_is_loopback_and_one_interface(walls):
    """The interface's packets go to the packet engine and nowhere else."""
    seen = inside(walls, "answer = [line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]")
    assert seen == ["lo", "eth0"]


def test_nothing_of_the_host_can_be_reached(walls):
    """Neither its loopback, nor its addresses, nor the metadata address, nor its sockets without a network."""
    with socket.create_server(("0.0.0.0", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        name = f"onrush-test-{uuid.uuid4()}"
        unix.bind("\0" + name)
        unix.listen()
        port = server.getsockname()[1]
        addresses = {"127.0.0.1"} | {
            info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        }
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
                addresses.add(probe.getsockname()[0])
            except OSError:
                pass
        targets = [(address, number) for address in addresses for number in (port, walls.port)]
        targets += [("169.254.169.254", 80), ("10.0.0.1", 80), ("8.8.8.8", 53)]
        seen = inside(
            walls,
            """
import os
import socket
answer = []
for address, port in event['targets']:
    try:
        socket.create_connection((address, port), timeout=2).close()
        answer.append([address, port])
    except OSError:
        pass
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(chr(0) + event['abstract'])
    answer.append('abstract')
except OSError:
    pass
""",
            targets=targets,
            abstract=name,
        )
        assert seen == []


def test_a_function_speaks_to_its_own_runtime_api_alone(walls, walls_home):
    """The id of another function's invocation is refused, and that invocation gets its own answer."""
    with Held(walls, walls_home / "blue") as held:
        held.start("Blue", 1)
        (id,) = held.wait_started("Blue", 1)
        refused = inside(
            walls,
            """
import json
from http.client import HTTPConnection
answer = []
for way in ('response', 'error'):
    api = HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
    api.request('POST', '/2018-06-01/runtime/invocation/%s/%s' % (event['id'], way), '"stolen"')
    got = api.getresponse()
    answer.append([got.status, json.loads(got.read())['errorType']])
""",
            id=id,
        )
        assert refused == [[400, "InvalidRequestID"]] * 2
        assert [answer.json() for answer in held.open()] == [0]


@pytest.mark.parametrize(
    "request_text",
    [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n",
        "garbage\r\n\r\n",
        "\x00" * 100,
        "POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /" + "a" * 100_000 + " HTTP/1.1\r\n\r\n",
        "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        "DELETE /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n",
        "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=[
        "root",
        "next-while-busy",
        "garbage",
        "nul",
        "huge-length",
        "bad-chunk",
        "long-path",
        "init-error",
        "method",
        "negative",
    ],
)
def test_nonsense_to_the_runtime_api_hurts_nobody(walls, request_text):
    seen = inside(
        walls,
        """
import os
import socket
host, port = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
s = socket.create_connection((host, int(port)), timeout=5)
s.settimeout(0.3)
answer = ''
try:
    s.sendall(event['text'].encode())
    answer = s.recv(65536).decode(errors='replace')
except OSError:
    pass
""",
        text=request_text,
    )
    if seen:
        assert seen.startswith("HTTP/1.1 4"), seen
    assert inside(walls, "answer = 7") == 7
    assert inside(walls, "answer = 8", "Blue") == 8
