"""REST APIs that stream: `ResponseTransferMode: STREAM`, in a method and in an OpenAPI body, and how long they wait."""

import http.client
import json
import time

import pytest

from support import puppet, templates
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

STREAMS = "arn:aws:apigateway:${AWS::Region}:lambda:path/2021-11-15/functions/${Streamer.Arn}/response-streaming-invocations"
METADATA = {
    "statusCode": 201,
    "headers": {"x-one": "1", "x-both": "lost"},
    "multiValueHeaders": {"X-Both": ["a", "b"], "content-type": ["text/event-stream"]},
    "cookies": ["k=v"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def platform(home):
    integration = {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": {"Fn::Sub": STREAMS}}
    body = {"openapi": "3.0.1", "info": {"title": "t", "version": "1"}, "paths": {"/open": {"post": {
        "responses": {}, "x-amazon-apigateway-integration": {
            "type": "aws_proxy", "httpMethod": "POST", "uri": {"Fn::Sub": STREAMS}, "responseTransferMode": "STREAM",
        }}}}}  # fmt: skip
    stage = {"Type": "AWS::ApiGateway::Stage", "Properties": {"StageName": "live", "DeploymentId": "d"}}
    resources = {
        "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "api"}},
        "Open": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "open", "Body": body}},
        "Part": {"Type": "AWS::ApiGateway::Resource", "Properties": {
            "RestApiId": {"Ref": "Api"}, "ParentId": {"Fn::GetAtt": ["Api", "RootResourceId"]}, "PathPart": "flow"}},
        "Flow": {"Type": "AWS::ApiGateway::Method", "Properties": {
            "RestApiId": {"Ref": "Api"}, "ResourceId": {"Ref": "Part"}, "HttpMethod": "POST", "AuthorizationType": "NONE",
            "Integration": integration | {"ResponseTransferMode": "STREAM", "TimeoutInMillis": 900000}}},
        "ShortPart": {"Type": "AWS::ApiGateway::Resource", "Properties": {
            "RestApiId": {"Ref": "Api"}, "ParentId": {"Fn::GetAtt": ["Api", "RootResourceId"]}, "PathPart": "short"}},
        "Short": {"Type": "AWS::ApiGateway::Method", "Properties": {
            "RestApiId": {"Ref": "Api"}, "ResourceId": {"Ref": "ShortPart"}, "HttpMethod": "POST", "AuthorizationType": "NONE",
            "Integration": integration | {"ResponseTransferMode": "STREAM", "TimeoutInMillis": 2000}}},
        "Live": stage | {"Properties": stage["Properties"] | {"RestApiId": {"Ref": "Api"}}},
        "OpenLive": stage | {"Properties": stage["Properties"] | {"RestApiId": {"Ref": "Open"}}},
        "Lets": {"Type": "AWS::Lambda::Permission", "Properties": {
            "FunctionName": {"Ref": "Streamer"}, "Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com"}},
    }  # fmt: skip
    functions = {"Streamer": ("streamer", {"Timeout": 30, "MemorySize": 1769})}
    # AWS's silence of 30 s or 5 minutes would be a long test.
    limit = ("--limit", "apigw.stream-idle-timeout=3s")
    with Platform(*limit, home=home, template=templates.write(home, functions, resources)) as platform:
        yield platform


def ask(platform, source, path="/_onrush/door/Api/live/flow"):
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
    connection.request("POST", path, json.dumps({"python": source}))
    return connection.getresponse()


def head(metadata):
    return f"write({json.dumps(metadata).encode()!r} + bytes(8) + b'first'); "


@pytest.mark.parametrize("path", ["/_onrush/door/Api/live/flow", "/_onrush/door/Open/live/open"], ids=["method", "openapi"])
def test_the_head_and_the_first_piece_come_before_the_end(platform, home, path):
    (home / "streamer/go").unlink(missing_ok=True)
    answer = ask(platform, f"{head(METADATA)}wait('go'); write('second')", path)
    assert answer.status == 201 and answer.headers["x-one"] == "1" and answer.headers["Set-Cookie"] == "k=v"
    assert answer.headers.get_all("x-both") == ["a", "b"] and answer.headers["x-amzn-RequestId"]
    assert answer.headers.get_all("content-type") == ["text/event-stream"]
    assert answer.read(5) == b"first"
    (home / "streamer/go").touch()
    assert answer.read() == b"second"


@pytest.mark.parametrize(
    "source",
    ["write('no metadata')", "write('{')", "write(b'x' * 20000 + bytes(8))", "write(b'[1]' + bytes(8))",
     "os._exit(1)", "begin('application/vnd.awslambda.http-integration-response'); os._exit(1)"],
    ids=["none", "half", "beyond-16-kb", "no-object", "exit", "exit-in-stream"],
)  # fmt: skip
def test_what_is_no_streamed_response_is_502(platform, source):
    answer = ask(platform, source)
    assert (answer.status, answer.read()) == (502, b'{"message": "Internal server error"}')


def test_a_failure_after_the_head_cuts_the_connection(platform):
    answer = ask(platform, f"{head({'statusCode': 200})}os._exit(1)")
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.partial in (b"first", b"")


def cut(platform, source, path):
    """What came of a response before its connection was cut."""
    answer = ask(platform, source, path)
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead) as caught:
        while answer.read1(65536):
            pass
    return caught.value


def test_a_silent_stream_is_cut_and_its_function_runs_on(platform, home):
    (home / "streamer/go").unlink(missing_ok=True)
    before = platform.limit("apigw.stream-idle-timeout", "Api/live POST /flow")["refused"]
    # What comes in time begins the silence anew.
    source = f"{head({'statusCode': 200})}time.sleep(1.8); write('second'); wait('go'); print('went on', flush=True)"
    cut(platform, source, "/_onrush/door/Api/live/flow")
    assert platform.limit("apigw.stream-idle-timeout", "Api/live POST /flow")["refused"] == before + 1
    (home / "streamer/go").touch()
    platform.wait_idle()
    # Messages are written by a thread.
    logged = lambda: "apigw.stream-idle-timeout of Api/live POST /flow: 3000 of 3000 ms" in platform.stderr()
    deadline = time.monotonic() + 5
    while not logged() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert logged()
    assert any("went on" in line for line in platform.log("Streamer"))


def test_silence_before_the_head_is_504(platform, home):
    (home / "streamer/go").unlink(missing_ok=True)
    answer = ask(platform, "wait('go')")
    assert answer.status == 504 and answer.headers["x-onrush-limit"].startswith("apigw.stream-idle-timeout; ")
    assert json.loads(answer.read()) == {"message": "Endpoint request timed out"}
    (home / "streamer/go").touch()
    # Who comes next must not need another environment.
    platform.wait_idle()


def test_the_integration_time_out_holds_for_the_whole_stream(platform):
    source = f"{head({'statusCode': 200})}[(time.sleep(0.2), write('x')) for _ in range(20)]"
    cut(platform, source, "/_onrush/door/Api/live/short")
    assert platform.limit("apigw.integration-timeout", "Api/live POST /short")["refused"] == 1


def test_a_client_that_stops_reading_is_cut_soon_after_the_integration_time_out(platform):
    """Not when `host.client-timeout` (30 s) is over: that is the host's patience, and not the API's."""
    before = platform.limit("apigw.integration-timeout", "Api/live POST /short")["refused"]
    slow = platform.limit("host.client-timeout", "host")["refused"]
    answer = ask(platform, f"{head({'statusCode': 200})}[write(bytes(1 << 20)) for _ in range(20)]", "/_onrush/door/Api/live/short")
    assert answer.status == 200
    begun = time.monotonic()
    while platform.limit("apigw.integration-timeout", "Api/live POST /short")["refused"] == before:
        assert time.monotonic() < begun + 20
        time.sleep(0.05)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        while answer.read1(1 << 20):
            pass
    assert platform.limit("host.client-timeout", "host")["refused"] == slow
    platform.wait_idle()
