"""Extensions in Python, as layers: what each does is a piece of code in its place."""

from support import packages

PYTHON = "/usr/bin/python3"

# It waits for events, and does nothing.
WAITS = """
register("INVOKE")
while True: next()
"""

# `register`, `next` and `fail` speak the Extensions API; `note` writes where the function can read it.
BEGINNING = f"""#!{PYTHON} -ISu
import json, os, socket, sys, threading, time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer

NAME = os.path.basename(sys.argv[0])
identity = None


def call(method, path, headers=(), body=None):
    api = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request(method, path, body, dict(headers))
    answer = api.getresponse()
    return answer.status, answer.headers, json.loads(answer.read() or b"null")


def register(*events, name=NAME, **headers):
    global identity
    headers = {{"Lambda-Extension-Name": name, **headers}}
    status, headers, body = call("POST", "/2020-01-01/extension/register", headers.items(), json.dumps({{"events": events}}))
    identity = headers["Lambda-Extension-Identifier"]
    return status, body


def next():
    return call("GET", "/2020-01-01/extension/event/next", [("Lambda-Extension-Identifier", identity)])[2]


def fail(stage, kind):
    headers = [("Lambda-Extension-Identifier", identity), ("Lambda-Extension-Function-Error-Type", kind)]
    return call("POST", f"/2020-01-01/extension/{{stage}}/error", headers, "{{}}")


def subscribe(path, **wanted):
    return call("PUT", path, [("Lambda-Extension-Identifier", identity)], json.dumps(wanted))


def note(text):
    with open("/tmp/" + NAME, "a") as file:
        file.write(text + "\\n")

"""


def script(code):
    return BEGINNING + code


def layer(**scripts):
    """The zip of a layer with extensions of these names; the values are code, or bytes of a program."""
    contents = {name: text if isinstance(text, bytes) else script(text).encode() for name, text in scripts.items()}
    return packages.package({f"extensions/{name}": (content, 0o755) for name, content in contents.items()})


def publish(platform, name, content):
    """Publishes a layer; its version's ARN."""
    client = platform.client()
    made = client.publish_layer_version(LayerName=name, Content={"ZipFile": content})
    client.close()
    return made["LayerVersionArn"]
