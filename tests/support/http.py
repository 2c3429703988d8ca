"""HTTP without a client's good manners: whole answers with repeated headers, and raw bytes."""

import http.client
import json
import re
import socket

PATIENCE_S = 60


class Answer:
    """Status, headers (`headers["name"]`, `headers.get_all("name")`) and body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"HTTP {self.status} {dict(self.headers.items())} {self.body[:500]!r}"


def request(port, method, path, body=None, headers=None, timeout=PATIENCE_S):
    """One request on a connection of its own. A `Host` among the headers replaces the usual one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        try:
            connection.request(method, path, body, headers or {})
        except (BrokenPipeError, ConnectionResetError):
            # The other end may refuse a body before it has read all of it: its answer is what matters.
            pass
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def raw(port, *pieces, timeout=10, half_close=False):
    """Sends bytes as they are and reads until the other end closes or falls silent for `timeout`."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as stream:
        for piece in pieces:
            try:
                stream.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
        if half_close:
            stream.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := stream.recv(65536):
                received += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return received


def statuses(received):
    """The status of each answer in what `raw` received."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]
