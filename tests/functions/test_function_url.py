"""Function URLs: the request becomes an event of payload format 2.0, the result becomes the response."""

import base64
import http.client
import json
import shutil
import subprocess

import pytest

from support import packages, puppet, templates
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

CORS = {
    "AllowOrigins": ["https://shop.example.com"],
    "AllowMethods": ["GET", "PUT"],
    "AllowHeaders": ["content-type"],
    "ExposeHeaders": ["x-cart"],
    "AllowCredentials": True,
    "MaxAge": 300,
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("urls")
    template = templates.write(
        home,
        {
            "Echo": ("echo", {"FunctionUrlConfig": {"AuthType": "NONE"}}),
            "Puppet": ("puppet", {"FunctionUrlConfig": {"AuthType": "NONE"}, "MemorySize": 1024}),
            "Shop": ("puppet", {"FunctionUrlConfig": {"AuthType": "NONE", "Cors": CORS}, "MemorySize": 1024}),
            "Closed": ("echo", {"FunctionUrlConfig": {"AuthType": "AWS_IAM"}}),
        },
    )
    with Platform(home=home, template=template) as platform:
        yield platform


@pytest.fixture(scope="module")
def hosts(platform):
    """Host names of the doors, by logical id."""
    return {door["id"]: door["url"].split("/")[2] for door in platform.summary["doors"]}


def respond(platform, result, door="Puppet", headers=None):
    """The response that a function's result becomes."""
    text = result if isinstance(result, str) else json.dumps(result)
    return platform.door(door, method="POST", body=text, headers={"Content-Type": "application/json"} | (headers or {}))


# ---- The event ----------------------------------------------------------------------------------------------------


def test_a_request_becomes_an_event_of_format_2_0(platform, hosts):
    answer = platform.request(
        "POST",
        "/a%20b/c?x=1&x=2&y=%41+z&empty=",
        '{"k": "\u00e9"}'.encode(),
        {
            "Host": hosts["Echo"],
            "Content-Type": "application/json",
            "Cookie": "a=1; b=2",
            "X-Many": "v",
            "User-Agent": "test",
        },
    )
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer
    event = answer.json()
    url_id = hosts["Echo"].split(".")[0]
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a%20b/c")
    assert event["rawQueryString"] == "x=1&x=2&y=%41+z&empty="
    assert event["queryStringParameters"] == {"x": "1,2", "y": "A z", "empty": ""}
    assert event["cookies"] == ["a=1", "b=2"] and "cookie" not in event["headers"]
    assert event["headers"]["x-many"] == "v" and event["headers"]["content-type"] == "application/json"
    assert (event["body"], event["isBase64Encoded"]) == ('{"k": "\u00e9"}', False)
    context = event["requestContext"]
    assert (context["accountId"], context["apiId"], context["stage"]) == ("anonymous", url_id, "$default")
    assert context["domainName"] == f"{url_id}.lambda-url.us-east-1.on.aws" and context["domainPrefix"] == url_id
    request = context["http"]
    assert (request["method"], request["path"], request["protocol"]) == ("POST", "/a%20b/c", "HTTP/1.1")
    assert (request["sourceIp"], request["userAgent"]) == ("127.0.0.1", "test")
    assert context["requestId"] == answer.headers["x-amzn-RequestId"]
    assert event["headers"]["x-amzn-trace-id"] == answer.headers["X-Amzn-Trace-Id"]
    assert context["timeEpoch"] > 1_600_000_000_000 and context["time"].endswith(" +0000")


def test_a_binary_body_is_base64(platform):
    body = bytes(range(256))
    event = platform.door("Echo", method="PUT", body=body, headers={"Content-Type": "application/octet-stream"}).json()
    assert event["isBase64Encoded"] and base64.b64decode(event["body"]) == body


def test_repeated_headers_are_joined_by_a_comma(platform):
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=60)
    connection.putrequest("GET", "/_onrush/door/Echo/")
    for value in ("one", "two"):
        connection.putheader("X-Twice", value)
    connection.endheaders()
    event = json.loads(connection.getresponse().read())
    connection.close()
    assert event["headers"]["x-twice"] == "one,two"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_reaches_the_function(platform, method):
    answer = platform.door("Echo", "/m", method=method)
    assert answer.status == 200
    assert answer.body == b"" if method == "HEAD" else answer.json()["requestContext"]["http"]["method"] == method


def test_a_body_of_6_mb_passes_and_more_is_413(platform):
    event = platform.door("Echo", method="POST", body=b"x" * 4_000_000, headers={"Content-Type": "text/plain"}).json()
    assert len(event["body"]) == 4_000_000
    answer = platform.door("Echo", method="POST", body=b"x" * (6 * 1024 * 1024 + 1))
    assert (answer.status, answer.headers["x-onrush-limit"]) == (413, "lambda.payload-size"), answer


# ---- The response -------------------------------------------------------------------------------------------------


def test_a_structured_result_is_the_response(platform):
    answer = respond(
        platform,
        {
            "statusCode": 201,
            "headers": {"Content-Type": "text/plain", "X-Cart": "7"},
            "body": "h\u00e9llo",
            "cookies": ["a=1; Secure", "b=2; HttpOnly"],
        },
    )
    assert (answer.status, answer.body.decode()) == (201, "h\u00e9llo")
    assert (answer.headers["content-type"], answer.headers["x-cart"]) == ("text/plain", "7")
    assert answer.headers.get_all("set-cookie") == ["a=1; Secure", "b=2; HttpOnly"]


def test_a_base64_result_is_sent_as_bytes(platform):
    body = bytes(range(256)) * 4
    answer = respond(
        platform,
        {
            "statusCode": 200,
            "headers": {"content-type": "image/png"},
            "isBase64Encoded": True,
            "body": base64.b64encode(body).decode(),
        },
    )
    assert answer.body == body and answer.headers["content-type"] == "image/png"


@pytest.mark.parametrize("text", ['{"any": "thing"}', '"text"', "[1, 2]", "null", "7"])
def test_json_without_a_status_is_a_200_with_that_json(platform, text):
    answer = respond(platform, text)
    assert (answer.status, answer.headers["content-type"], answer.body.decode()) == (200, "application/json", text)


@pytest.mark.parametrize(
    "result",
    [
        {"statusCode": 99},
        {"statusCode": "many"},
        {"statusCode": 200, "body": {"no": "text"}},
        {"statusCode": 200, "isBase64Encoded": True, "body": "***"},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"x": "a\r\nset-cookie: stolen=1"}},
        "no json at all",
    ],
    ids=["status", "status-word", "body", "base64", "header-name", "header-splitting", "no-json"],
)
def test_a_malformed_result_is_a_502(platform, result):
    answer = respond(platform, result)
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    assert answer.headers["set-cookie"] is None


def test_a_function_that_fails_is_a_502_without_its_secrets(platform):
    platform.create("fails", packages.package({"bootstrap": ("#!/bin/sh\necho secret >&2\nexit 3\n", 0o755)}))
    platform.client().create_function_url_config(FunctionName="fails", AuthType="NONE")
    answer = platform.door("fails")
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


# ---- Who may call -------------------------------------------------------------------------------------------------


def test_a_preflight_is_answered_by_the_door(platform):
    before = platform.metric("invocations", "Shop")
    answer = platform.door(
        "Shop",
        method="OPTIONS",
        headers={
            "Origin": "https://shop.example.com",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert answer.status in (200, 204) and answer.body == b""
    assert answer.headers["access-control-allow-origin"] == "https://shop.example.com"
    assert answer.headers["access-control-allow-methods"] == "GET,PUT"
    assert answer.headers["access-control-allow-headers"] == "content-type"
    assert answer.headers["access-control-max-age"] == "300"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert platform.metric("invocations", "Shop") == before


def test_a_preflight_from_elsewhere_is_allowed_nothing(platform):
    answer = platform.door(
        "Shop",
        method="OPTIONS",
        headers={
            "Origin": "https://evil.example.com",
            "Access-Control-Request-Method": "PUT",
        },
    )
    assert (
        answer.headers["access-control-allow-origin"] is None and answer.headers["access-control-allow-methods"] is None
    )


def test_configured_cross_origin_headers_replace_the_functions_own(platform):
    result = {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*", "x-cart": "1"}, "body": "ok"}
    answer = respond(platform, result, "Shop", {"Origin": "https://shop.example.com"})
    assert answer.headers.get_all("access-control-allow-origin") == ["https://shop.example.com"]
    assert answer.headers["access-control-expose-headers"] == "x-cart"
    assert respond(platform, result, "Shop").headers["access-control-allow-origin"] is None
    assert respond(platform, result, "Puppet").headers["access-control-allow-origin"] == "*"


def test_an_iam_url_refuses_the_unsigned(platform):
    answer = platform.door("Closed")
    assert answer.status == 403
    assert answer.json()["Message"].startswith("Forbidden. For troubleshooting Function URL authorization issues")


def test_an_unknown_host_is_403(platform):
    host = f"nosuchurl.lambda-url.us-east-1.localhost:{platform.port}"
    answer = platform.request("GET", "/", headers={"Host": host})
    assert (answer.status, answer.json()) == (403, {"Message": None})
    assert platform.door("NoSuchDoor").status == 404


def test_curl_reaches_a_url_by_its_name(platform, hosts):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    ran = subprocess.run(
        ["curl", "-sS", "--max-time", "60", f"http://{hosts['Echo']}/by/name"],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ran.returncode == 0 and json.loads(ran.stdout)["rawPath"] == "/by/name", ran
