"""A function that streams what the test says: a bootstrap of its own that runs Python from the event.

`{"python": SOURCE}` (or an HTTP event whose body is that) runs SOURCE with these at hand: `begin(type)` starts the
response, `write(bytes)` sends a chunk, `finish(error=None, type=None)` ends it, with trailers if there is an error;
`wait(name)` waits for a file in the function's folder, which is bound and not copied, and `tell(name, text)` leaves one
in its /tmp. `sock` is the connection. Needs the host's /usr/bin/python3 only.
"""

from support.puppet import PYTHON

BOOTSTRAP = f"""#!{PYTHON} -IS
import base64, json, os, socket, sys, time
from http.client import HTTPConnection

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
PRELUDE = "application/vnd.awslambda.http-integration-response"
count = 0
kept = {{}}


def wait(name):
    while not os.path.exists("/var/task/" + name):
        time.sleep(0.01)


while True:
    api = HTTPConnection(API)
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    event, id = json.loads(answer.read()), answer.headers["Lambda-Runtime-Aws-Request-Id"]
    api.close()
    count += 1
    if "requestContext" in event:
        text = event.get("body") or "{{}}"
        event = json.loads(base64.b64decode(text) if event["isBase64Encoded"] else text)
    host, port = API.split(":")
    sock = socket.create_connection((host, int(port)))
    begun = ended = False

    def begin(type=None, mode="streaming"):
        global begun
        begun = True
        head = ["POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1" % id, "Host: " + API]
        head += ["Lambda-Runtime-Function-Response-Mode: " + mode, "Transfer-Encoding: chunked"]
        head += ["Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"]
        head += ["Content-Type: " + type] if type else []
        sock.sendall("\\r\\n".join(head + ["", ""]).encode())

    def write(data):
        if not begun:
            begin()
        data = data.encode() if isinstance(data, str) else data
        sock.sendall(b"%x\\r\\n" % len(data) + data + b"\\r\\n")

    def finish(error=None, type=None):
        global ended
        if not begun:
            begin()
        ended = True
        trailers = ""
        if error is not None:
            body = base64.b64encode(json.dumps(error).encode()).decode()
            trailers = "Lambda-Runtime-Function-Error-Type: %s\\r\\n" % (type or error.get("errorType", ""))
            trailers += "Lambda-Runtime-Function-Error-Body: %s\\r\\n" % body
        sock.sendall(("0\\r\\n" + trailers + "\\r\\n").encode())
        return sock.recv(4096).decode()

    try:
        exec(event.get("python", ""), globals())
        if not ended:
            finish()
    except OSError as error:
        print("streamer:", type(error).__name__, flush=True)
    sock.close()
"""


def place(folder):
    """A template's folder with the streamer in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bootstrap"
    path.write_text(BOOTSTRAP)
    path.chmod(0o755)
    return folder
