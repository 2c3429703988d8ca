"""Code in the template itself: the module that CloudFormation gives it to answer custom resources, and what its handler must be."""

import json

import pytest

from support.platform import Platform

# Each handler takes the answer itself, on its own loopback, and logs what came.
PYTHON = """
import http.server
import json
import threading
import cfnresponse

class Taker(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        print("took", json.dumps([self.path, self.headers["content-type"], json.loads(body)]))
        self.send_response(event_status)
        self.end_headers()

    def log_message(self, *_):
        pass

def handler(event, context):
    global event_status
    event_status = event["answer"]
    server = http.server.HTTPServer(("127.0.0.1", 0), Taker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port if event["answer"] else 1
    event["ResponseURL"] = f"http://127.0.0.1:{port}/answer?X-Amz-Signature=s"
    cfnresponse.send(event, context, cfnresponse.SUCCESS, {"Name": "K\\u00f6ln"}, *event["more"])
    server.shutdown()
    return context.log_stream_name
"""
NODE = """
const response = require("cfn-response");
const http = require("node:http");

exports.handler = ASYNC (event, context) => {
  const server = http.createServer(async (request, answer) => {
    let body = "";
    for await (const piece of request) body += piece;
    console.log("took " + JSON.stringify([request.url, request.headers["content-type"], JSON.parse(body)]));
    answer.writeHead(event.answer).end();
  });
  console.log("stream " + context.logStreamName);
  const send = () => {
    const port = event.answer ? server.address().port : 1;
    event.ResponseURL = `http://127.0.0.1:${port}/answer?X-Amz-Signature=s`;
    return response.send(event, context, response.SUCCESS, { Name: "K\\u00f6ln" }, ...event.more);
  };
  WAIT
};
"""
LATER = 'server.listen(0, "127.0.0.1", send);'
AWAITED = 'await new Promise((go) => server.listen(0, "127.0.0.1", go));\n  await send();'
REQUEST = {"StackId": "stack", "RequestId": "request", "LogicalResourceId": "Thing", "answer": 200, "more": []}


def function(text, runtime, handler="index.handler"):
    properties = {"Code": {"ZipFile": text}, "Handler": handler, "Runtime": runtime, "Timeout": 10}
    return {"Type": "AWS::Lambda::Function", "Properties": {"Role": "arn:aws:iam::000000000000:role/r", **properties}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inline")
    functions = {
        "Python": function(PYTHON, "python3.13"),
        "Callback": function(NODE.replace("ASYNC", "").replace("WAIT", LATER), "nodejs22.x"),
        "Async": function(NODE.replace("ASYNC", "async").replace("WAIT", AWAITED), "nodejs22.x"),
        "Plain": function("def handler(event, context):\n    from cfnresponse import send", "python3.13"),
        "Astray": function("def handler(event, context): pass", "python3.13", "app.handler"),
    }
    (folder / "template.json").write_text(json.dumps({"Resources": functions}))
    return folder


@pytest.fixture(scope="module")
def platform(home):
    with Platform(template=home / "template.json") as platform:
        yield platform


def taken(result):
    """What the handler's own server was sent: path, content type, document."""
    [line] = [line for line in result.log.split("\n") if "took [" in line]
    return json.loads(line.partition("took ")[2])


@pytest.mark.parametrize("name", ["Python", "Callback", "Async"])
def test_a_custom_resources_answer_is_put_to_its_url(platform, name):
    result = platform.invoke(name, REQUEST)
    assert result.error is None and "Status code: 200" in result.log, result
    path, content_type, document = taken(result)
    stream = document["PhysicalResourceId"]
    assert (path, content_type) == ("/answer?X-Amz-Signature=s", "") and "[$LATEST]" in stream
    assert document == {
        "Status": "SUCCESS",
        "Reason": f"See the details in CloudWatch Log Stream: {stream}",
        "PhysicalResourceId": stream,
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "Thing",
        "NoEcho": False,
        "Data": {"Name": "Köln"},
    }


@pytest.mark.parametrize("name", ["Python", "Callback", "Async"])
def test_its_name_and_whether_it_is_shown_are_the_handlers(platform, name):
    more = ["thing-1", True] + (["no room"] if name == "Python" else [])
    document = taken(platform.invoke(name, REQUEST | {"more": more}))[2]
    assert (document["PhysicalResourceId"], document["NoEcho"]) == ("thing-1", True)
    assert document["Reason"].startswith("no room" if name == "Python" else "See the details"), document


@pytest.mark.parametrize("name", ["Python", "Callback", "Async"])
def test_an_answer_that_is_refused_is_told(platform, name):
    result = platform.invoke(name, REQUEST | {"answer": 403})
    assert result.error is None and "Status code: 403" in result.log, result


@pytest.mark.parametrize("name, error", [("Python", None), ("Callback", "Unhandled"), ("Async", "Unhandled")])
def test_an_answer_that_nobody_takes_is_told(platform, name, error):
    result = platform.invoke(name, REQUEST | {"answer": 0})
    assert result.error == error and "send(..) failed executing http" in result.log, result


def test_the_module_comes_with_the_import_that_loads_it_alone(platform):
    result = platform.invoke("Plain", {})
    assert result.json()["errorMessage"] == "No module named 'cfnresponse'", result


def test_a_handler_elsewhere_than_in_index_is_named(platform):
    [line] = [line for line in platform.stderr().splitlines() if "Astray" in line]
    assert "there is no app.py" in line and "but index.py" in line, line
