"""HTTP APIs: the most specific route wins, and its function gets an event of payload format 2.0."""

import json

import pytest

from support import puppet, templates
from support.platform import Platform

ROUTES = [
    ("GET", "/cart/new"),
    ("GET", "/cart/{id}"),
    ("ANY", "/cart/{id}"),
    ("ANY", "/files/{path+}"),
    ("POST", "/"),
    ("GET", "/fails"),
]


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("api")

    def event(method, path, api="Api"):
        return {"Type": "HttpApi", "Properties": {"ApiId": {"Ref": api}, "Method": method, "Path": path}}

    functions = {
        "Echo": ("echo", {"Events": {f"R{n}": event(*route) for n, route in enumerate(ROUTES[:-1])}}),
        "Rogue": (
            "rogue",
            {"Events": {"Fails": event(*ROUTES[-1])}, "Environment": {"Variables": {"ROGUE_INIT": "exit1"}}},
        ),
        "Puppet": (
            "puppet",
            {"Events": {"All": {"Type": "HttpApi", "Properties": {"ApiId": {"Ref": "Named"}}}}, "MemorySize": 1024},
        ),
    }
    def door(function, path, **properties):
        named = {"ApiId": {"Ref": "Api"}, "Method": "GET", "Path": path}
        return {"Events": {function: {"Type": "HttpApi", "Properties": named | properties}}}

    functions |= {
        "Slow": ("rogue", door("Slow", "/slow", TimeoutInMillis=300) | {"Environment": {"Variables": {"ROGUE_INIT": "sleep"}}}),
        "Stopped": ("echo", door("Stopped", "/stopped") | {"ReservedConcurrentExecutions": 0}),
    }
    elsewhere = {"IntegrationType": "HTTP_PROXY", "IntegrationMethod": "GET", "IntegrationUri": "https://example.com"}
    apis = {
        "Elsewhere": {
            "Type": "AWS::ApiGatewayV2::Integration",
            "Properties": elsewhere | {"ApiId": {"Ref": "Api"}, "PayloadFormatVersion": "1.0"},
        },
        "ToElsewhere": {
            "Type": "AWS::ApiGatewayV2::Route",
            "Properties": {"ApiId": {"Ref": "Api"}, "RouteKey": "GET /away", "Target": {"Fn::Sub": "integrations/${Elsewhere}"}},
        },
        "Rest": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "rest"}},
        "Mapped": {
            "Type": "AWS::ApiGateway::Method",
            "Properties": {
                "RestApiId": {"Ref": "Rest"},
                "ResourceId": {"Fn::GetAtt": ["Rest", "RootResourceId"]},
                "HttpMethod": "GET",
                "AuthorizationType": "NONE",
                "Integration": {
                    "Type": "AWS",
                    "IntegrationHttpMethod": "POST",
                    "Uri": {"Fn::Sub": "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Echo.Arn}/invocations"},
                },
            },
        },
        "Api": {"Type": "AWS::Serverless::HttpApi"},
        "Named": {
            "Type": "AWS::Serverless::HttpApi",
            "Properties": {"StageName": "prod", "StageVariables": {"colour": "blue"}},
        },
    }
    with Platform(home=home, template=templates.write(home, functions, apis)) as platform:
        yield platform


@pytest.mark.parametrize(
    "method, path, key, parameters",
    [
        ("GET", "/cart/new", "GET /cart/new", None),
        ("GET", "/cart/7", "GET /cart/{id}", {"id": "7"}),
        ("GET", "/cart/a%20b", "GET /cart/{id}", {"id": "a b"}),
        ("PUT", "/cart/new", "ANY /cart/{id}", {"id": "new"}),
        ("DELETE", "/files/a/b/c.txt", "ANY /files/{path+}", {"path": "a/b/c.txt"}),
        ("POST", "/", "POST /", None),
    ],
)
def test_the_most_specific_route_wins(platform, method, path, key, parameters):
    event = platform.door("Api", path, method=method).json()
    assert (event["routeKey"], event.get("pathParameters")) == (key, parameters), event
    assert event["requestContext"]["routeKey"] == key and event["requestContext"]["http"]["method"] == method


@pytest.mark.parametrize(
    "method, path", [("GET", "/"), ("GET", "/nowhere"), ("GET", "/cart"), ("GET", "/cart/7/x"), ("GET", "/files")]
)
def test_a_path_without_a_route_is_404(platform, method, path):
    answer = platform.door("Api", path, method=method)
    assert (answer.status, answer.json()) == (404, {"message": "Not Found"})


def test_the_event_has_what_it_needs_and_no_nulls(platform):
    event = platform.door("Api", "/cart/7?a=1&a=2", headers={"Cookie": "k=v", "X-Header": "y"}).json()
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/cart/7", "a=1&a=2")
    assert (
        event["queryStringParameters"] == {"a": "1,2"}
        and event["cookies"] == ["k=v"]
        and event["headers"]["x-header"] == "y"
    )
    context = event["requestContext"]
    assert (context["accountId"], context["stage"]) == ("000000000000", "$default")
    assert context["domainName"].startswith(context["apiId"] + ".execute-api.us-east-1.")
    assert None not in event.values() and None not in context.values(), event
    assert "stageVariables" not in event and "body" not in event


def test_a_function_that_fails_is_a_500(platform):
    answer = platform.door("Api", "/fails")
    assert (answer.status, answer.json()) == (500, {"message": "Internal Server Error"})


@pytest.mark.parametrize(
    "path, limit",
    [
        ("/slow", "apigw.integration-timeout; resource=Api GET /slow; used=300; max=300"),
        ("/stopped", "lambda.reserved-concurrency; resource="),
    ],
)
def test_a_function_that_is_too_slow_or_throttled_is_a_503(platform, path, limit):
    answer = platform.door("Api", path)
    assert (answer.status, answer.json()) == (503, {"message": "Service Unavailable"})
    assert answer.headers["x-onrush-limit"].startswith(limit)


def test_integrations_that_are_not_run_answer_501_and_are_told(platform):
    away, mapped = platform.door("Api", "/away"), platform.door("Rest", "/")
    assert (away.status, mapped.status) == (501, 501), (away, mapped)
    assert "HTTP_PROXY" in away.json()["message"] and "no AWS like this" in mapped.json()["message"]
    told = json.dumps(platform.summary) + platform.stderr()
    assert "answer 501: Api GET /away (HTTP_PROXY), Rest GET / (AWS)" in told, told


@pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")
def test_a_named_stage_is_the_first_part_of_the_path(platform):
    result = '{"statusCode": 202, "headers": {"x-kind": "structured"}, "cookies": ["a=1"], "body": "fine"}'
    answer = platform.door(
        "Named", "/prod/any/thing", method="POST", body=result, headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.body, answer.headers["x-kind"], answer.headers["set-cookie"]) == (
        202,
        b"fine",
        "structured",
        "a=1",
    )
    assert platform.door("Named", "/any/thing").status == 404


def test_a_host_name_that_is_no_api_is_403(platform):
    answer = platform.request(
        "GET", "/", headers={"Host": f"nosuchapi.execute-api.us-east-1.localhost:{platform.port}"}
    )
    assert (answer.status, answer.json()) == (403, {"message": "Forbidden"})
