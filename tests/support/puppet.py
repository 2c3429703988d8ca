"""A function that does what the test says: a bootstrap of its own that runs Python from the event.

`{"python": SOURCE, …}` runs SOURCE with `event` at hand and answers with what it put into `answer`. An HTTP event
answers with its body, parsed: so a test chooses the door's response. With the variable PUPPET it runs that whatever the
event is; what it puts into `fail` is the message that it fails with. `count` is the number of invocations that this
process has had, `kept` a dictionary that lives as long as it does. Needs the host's /usr/bin/python3 only.
"""

import os

PYTHON = "/usr/bin/python3"

BOOTSTRAP = f"""#!{PYTHON} -IS
import base64, json, os, time
from http.client import HTTPConnection

API = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    API.request(method, "/2018-06-01/runtime/" + path, body)
    answer = API.getresponse()
    return answer.headers, answer.read()


count = 0
kept = {{}}
while True:
    headers, body = call("GET", "invocation/next")
    count += 1
    event = json.loads(body)
    answer = None
    try:
        told = [value for name, value in (event.get("headers") or {{}}).items() if name.lower() == "x-puppet"]
        told = [os.environ["PUPPET"]] if "PUPPET" in os.environ else told
        if "requestContext" in event and not told:
            text = event.get("body") or "null"
            text = base64.b64decode(text).decode() if event["isBase64Encoded"] else text
        else:
            scope = dict(os=os, time=time, event=event, count=count, kept=kept, answer=None, fail=None, trace=headers["Lambda-Runtime-Trace-Id"])
            exec(told[0] if told else event.get("python", ""), scope)
            text = json.dumps(scope["answer"])
            if scope["fail"]:
                text = json.dumps({{"errorType": "Error", "errorMessage": scope["fail"]}})
                call("POST", "invocation/%s/error" % headers["Lambda-Runtime-Aws-Request-Id"], text)
                continue
    except Exception as error:
        text = json.dumps({{"raised": type(error).__name__, "text": str(error)}})
    call("POST", "invocation/%s/response" % headers["Lambda-Runtime-Aws-Request-Id"], text)
"""

# Waits until the test opens the gate: a file in the function's folder, which is bound and not copied.
HOLD = "while not os.path.exists('/var/task/gate'): time.sleep(0.02)\nanswer = event.get('n')"


def files():
    return {"bootstrap": (BOOTSTRAP, 0o755)}


def place(folder):
    """A template's folder with the puppet in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bootstrap"
    # One that is there is no new code.
    if not path.exists() or path.read_text() != BOOTSTRAP:
        path.write_text(BOOTSTRAP)
    path.chmod(0o755)
    return folder


def here():
    return os.access(PYTHON, os.X_OK)


def inside(platform, python, name="Red", **event):
    """What that Python, run by that puppet, put into `answer`."""
    result = platform.invoke(name, {"python": python, **event})
    assert result.status == 200 and result.error is None, result
    return result.json()
