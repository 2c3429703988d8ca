"""REST APIs: stages, resources, payload format 1.0, keys and usage plans, throttles, the cache, and what fails."""

import base64
import json
import time

import pytest

from support import puppet, templates
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

REFLECT = {"x-puppet": "answer = {'statusCode': 200, 'body': __import__('json').dumps(event)}"}
COUNT = {"x-puppet": "answer = {'statusCode': 200, 'body': str(count)}"}


def answering(result):
    return {"x-puppet": f"answer = {result!r}"}


def method(path, verb="GET", api="Api", **properties):
    return {"Type": "Api", "Properties": {"RestApiId": {"Ref": api}, "Method": verb, "Path": path, **properties}}


def of_key(**settings):
    return {"Type": "AWS::ApiGateway::UsagePlanKey", "Properties": {"KeyType": "API_KEY", **settings}}


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("rest")
    plan = {"ApiStages": [{"ApiId": {"Ref": "Keyed"}, "Stage": {"Ref": "KeyedliveStage"}}]}
    events = {
        "Root": method("/"),
        "Item": method("/cart/{id}", "any"),
        "New": method("/cart/new", "post"),
        "Rest": method("/files/{path+}", "any"),
        "Picture": method("/picture", "any", api="Binary"),
        "Slow": method("/slow", TimeoutInMillis=300),
        "Kept": method("/kept", api="Cached"),
        "Page": method("/page", api="Cached"),
        "Narrow": method("/narrow", api="Cached"),
        "Keyed": method("/paid", api="Keyed", Auth={"ApiKeyRequired": True}),
        "Free": method("/free", api="Keyed"),
        "Implicit": {"Type": "Api", "Properties": {"Method": "get", "Path": "/implicit"}},
    }
    stage = {"StageName": "live"}
    cached = {
        "CacheClusterEnabled": True,
        "CacheClusterSize": "0.5",
        "MethodSettings": [
            {"ResourcePath": "/kept", "HttpMethod": "GET", "CachingEnabled": True, "CacheTtlInSeconds": 2},
            {"ResourcePath": "/narrow", "HttpMethod": "GET", "ThrottlingRateLimit": 0.1, "ThrottlingBurstLimit": 2},
        ],
    }
    resources = {
        "Api": {
            "Type": "AWS::Serverless::Api",
            "Properties": {
                "StageName": "Prod",
                "Variables": {"colour": "blue"},
                "Cors": {"AllowOrigin": "'https://shop.example'", "AllowHeaders": "'X-Mine'", "MaxAge": "'600'"},
            },
        },
        "Binary": {
            "Type": "AWS::Serverless::Api",
            "Properties": stage | {"BinaryMediaTypes": ["image~1png", "application/octet-stream"]},
        },
        "Cached": {"Type": "AWS::Serverless::Api", "Properties": stage | cached},
        "Keyed": {"Type": "AWS::Serverless::Api", "Properties": stage},
        "Gold": {"Type": "AWS::ApiGateway::UsagePlan", "Properties": plan | {"Throttle": {"RateLimit": 0.1, "BurstLimit": 3}}},
        "Small": {"Type": "AWS::ApiGateway::UsagePlan", "Properties": plan | {"Quota": {"Limit": 2, "Period": "MONTH"}}},
        "GoldKey": {"Type": "AWS::ApiGateway::ApiKey", "Properties": {"Enabled": True, "Value": "gold-" + "g" * 20}},
        "SmallKey": {"Type": "AWS::ApiGateway::ApiKey", "Properties": {"Enabled": True, "Value": "small-" + "s" * 20}},
        "Loose": {"Type": "AWS::ApiGateway::ApiKey", "Properties": {"Enabled": True, "Value": "loose-" + "l" * 20}},
        "Off": {"Type": "AWS::ApiGateway::ApiKey", "Properties": {"Enabled": False, "Value": "off-" + "o" * 20}},
        "GoldOne": of_key(KeyId={"Ref": "GoldKey"}, UsagePlanId={"Ref": "Gold"}),
        "SmallOne": of_key(KeyId={"Ref": "SmallKey"}, UsagePlanId={"Ref": "Small"}),
        "OffOne": of_key(KeyId={"Ref": "Off"}, UsagePlanId={"Ref": "Gold"}),
        # As CDK writes a preflight.
        "Plain": {"Type": "AWS::ApiGateway::Resource", "Properties": {
            "RestApiId": {"Ref": "Cached"}, "ParentId": {"Fn::GetAtt": ["Cached", "RootResourceId"]}, "PathPart": "plain"}},
        "Preflight": {"Type": "AWS::ApiGateway::Method", "Properties": {
            "RestApiId": {"Ref": "Cached"}, "ResourceId": {"Ref": "Plain"}, "HttpMethod": "OPTIONS",
            "AuthorizationType": "NONE", "Integration": {
                "Type": "MOCK", "RequestTemplates": {"application/json": "{ statusCode: 200 }"},
                "IntegrationResponses": [{"StatusCode": "204", "ResponseParameters": {
                    "method.response.header.Access-Control-Allow-Origin": "'*'"}}]}}},
    }  # fmt: skip
    functions = {
        "Puppet": ("puppet", {"Events": events, "MemorySize": 1024}),
        "Stopped": ("puppet", {"Events": {"One": method("/stopped")}, "ReservedConcurrentExecutions": 0}),
        "Rogue": (
            "rogue",
            {"Events": {"One": method("/fails")}, "Environment": {"Variables": {"ROGUE_INIT": "exit1"}}},
        ),
    }
    with Platform(home=home, template=templates.write(home, functions, resources)) as platform:
        yield platform


def event(platform, path, **request):
    answer = platform.door("Api", path, headers=REFLECT | request.pop("headers", {}), **request)
    assert answer.status == 200, answer
    return answer.json()


@pytest.mark.parametrize(
    "verb, path, resource, parameters",
    [
        ("GET", "/Prod", "/", None),
        ("GET", "/Prod/", "/", None),
        ("POST", "/Prod/cart/new", "/cart/new", None),
        ("PUT", "/Prod/cart/a%20b", "/cart/{id}", {"id": "a b"}),
        ("DELETE", "/Prod/files/a/b.txt", "/files/{path+}", {"path": "a/b.txt"}),
    ],
)
def test_a_resource_and_its_method_are_found(platform, verb, path, resource, parameters):
    seen = event(platform, path, method=verb)
    assert (seen["resource"], seen["httpMethod"], seen["pathParameters"]) == (resource, verb, parameters)


def test_the_event_is_that_of_payload_1_0(platform):
    seen = event(platform, "/Prod/cart/7?a=1&a=2&b=%41+x", headers={"X-Mine": "y", "Cookie": "k=v"})
    assert "version" not in seen and seen["path"] == "/cart/7"
    assert seen["queryStringParameters"] == {"a": "2", "b": "A x"}
    assert seen["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": ["A x"]}
    assert (seen["headers"]["X-Mine"], seen["multiValueHeaders"]["Cookie"]) == ("y", ["k=v"])
    assert seen["stageVariables"] == {"colour": "blue"} and seen["body"] is None
    context = seen["requestContext"]
    assert (context["stage"], context["path"], context["resourcePath"]) == ("Prod", "/Prod/cart/7", "/cart/{id}")
    assert context["domainName"].startswith(context["apiId"] + ".execute-api.us-east-1.")
    assert context["identity"]["sourceIp"] == "127.0.0.1" and context["identity"]["userArn"] is None


@pytest.mark.parametrize(
    "verb, path, message",
    [
        ("GET", "/", "Forbidden"),
        ("GET", "/prod/cart/7", "Forbidden"),
        ("GET", "/Prod/nowhere", "Missing Authentication Token"),
        ("GET", "/Prod/cart/new", "Missing Authentication Token"),
        ("GET", "/Prod/cart/7/x", "Missing Authentication Token"),
        ("GET", "/Prod/files", "Missing Authentication Token"),
    ],
)
def test_what_is_not_there_is_403_as_aws_words_it(platform, verb, path, message):
    answer = platform.door("Api", path, method=verb)
    assert (answer.status, answer.json()) == (403, {"message": message})
    assert answer.headers["x-amzn-errortype"] == message.replace(" ", "") + "Exception"
    assert answer.headers["x-amzn-requestid"] and len(answer.headers["x-amz-apigw-id"]) == 16


def test_the_host_name_reaches_it_and_the_implicit_api_too(platform):
    api = event(platform, "/Prod/")["requestContext"]["apiId"]
    host = {"Host": f"{api}.execute-api.us-east-1.localhost:{platform.port}"}
    assert platform.request("GET", "/Prod/", headers=REFLECT | host).status == 200
    assert platform.door("ServerlessRestApi", "/Prod/implicit", headers=REFLECT).status == 200


def test_an_answer_has_its_status_headers_and_body(platform):
    result = {
        "statusCode": 201,
        "headers": {"X-A": "1", "Content-Length": "99"},
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
        "body": "made",
    }
    answer = platform.door("Api", "/Prod/cart/new", method="POST", headers=answering(result))
    assert (answer.status, answer.body, answer.headers["x-a"]) == (201, b"made", "1")
    assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert answer.headers["x-amzn-remapped-content-length"] == "99"
    assert answer.headers["x-amzn-trace-id"].startswith("Root=")


@pytest.mark.parametrize("result", ["hello", {"a": 1}, {"statusCode": 200, "body": {}}, {"statusCode": 200, "x": 1}, {"statusCode": 200, "cookies": ["a=1"]}])
def test_a_malformed_result_is_502(platform, result):
    answer = platform.door("Api", "/Prod/cart/7", headers=answering(result))
    assert (answer.status, answer.json()) == (502, {"message": "Internal server error"})


def test_a_function_that_fails_is_502_and_one_that_is_throttled_500(platform):
    assert platform.door("Api", "/Prod/fails").status == 502
    answer = platform.door("Api", "/Prod/stopped")
    assert (answer.status, answer.json()) == (500, {"message": "Internal server error"})
    assert answer.headers["x-onrush-limit"].startswith("lambda.reserved-concurrency;")


def test_an_integration_that_takes_too_long_is_504_and_names_its_limit(platform):
    began = time.monotonic()
    slow = {"x-puppet": "time.sleep(1.5); answer = {'statusCode': 200}"}
    answer = platform.door("Api", "/Prod/slow", headers=slow)
    assert (answer.status, answer.json()) == (504, {"message": "Endpoint request timed out"})
    assert answer.headers["x-onrush-limit"] == "apigw.integration-timeout; resource=Api/Prod GET /slow; used=300; max=300"
    assert time.monotonic() - began < 1.4
    assert platform.limit("apigw.integration-timeout", "Api/Prod GET /slow")["refused"] == 1


def test_binary_bodies_are_those_of_the_apis_types(platform):
    def picture(verb, body, content_type, headers):
        return platform.door("Binary", "/live/picture", method=verb, body=body, headers={"Content-Type": content_type} | headers)

    seen = picture("POST", b"\x89PNG", "image/png", REFLECT).json()
    assert (seen["isBase64Encoded"], base64.b64decode(seen["body"])) == (True, b"\x89PNG")
    seen = picture("POST", b"a=1", "application/x-www-form-urlencoded", REFLECT).json()
    assert (seen["isBase64Encoded"], seen["body"]) == (False, "a=1")
    result = answering({"statusCode": 200, "isBase64Encoded": True, "body": "iVBORw=="})
    assert picture("GET", None, "text/plain", result | {"Accept": "image/png,*/*"}).body == b"\x89PNG"
    # The famous trap: the first accepted type decides.
    assert picture("GET", None, "text/plain", result | {"Accept": "*/*"}).body == b"iVBORw=="


def test_cross_origin_preflights_are_answered_without_the_function(platform):
    answer = platform.door("Api", "/Prod/cart/new", method="OPTIONS")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-methods"] == "OPTIONS,POST"
    assert (answer.headers["access-control-allow-headers"], answer.headers["access-control-max-age"]) == ("X-Mine", "600")
    answer = platform.door("Cached", "/live/plain", method="OPTIONS")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")


def test_a_key_is_asked_for_and_its_throttle_and_quota_hold(platform):
    def paid(key=None):
        return platform.door("Keyed", "/live/paid", headers=REFLECT | ({"x-api-key": key} if key else {}))

    for key in (None, "nobody", "loose-" + "l" * 20, "off-" + "o" * 20):
        answer = paid(key)
        assert (answer.status, answer.json()) == (403, {"message": "Forbidden"}), key
    assert platform.door("Keyed", "/live/free", headers=REFLECT).status == 200
    gold = [paid("gold-" + "g" * 20) for _ in range(5)]
    assert [answer.status for answer in gold] == [200] * 3 + [429] * 2
    assert gold[0].json()["requestContext"]["identity"]["apiKey"] == "gold-" + "g" * 20
    assert gold[3].json() == {"message": "Too Many Requests"}
    assert gold[3].headers["x-onrush-limit"].startswith("apigw.key-rate; resource=GoldKey of Gold;")
    small = [paid("small-" + "s" * 20) for _ in range(3)]
    assert [answer.status for answer in small] == [200, 200, 429]
    assert small[2].json() == {"message": "Limit Exceeded"}
    assert small[2].headers["x-onrush-limit"].startswith("apigw.key-quota; resource=SmallKey of Small;")
    assert platform.limit("apigw.key-rate", "GoldKey of Gold")["refused"] == 2


def test_a_methods_throttle_holds_and_names_itself(platform):
    answers = [platform.door("Cached", "/live/narrow", headers=REFLECT) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["x-onrush-limit"].startswith("apigw.stage-rate; resource=Cached/live GET /narrow;")


def test_a_reset_fills_throttles_and_quotas(platform):
    paid, key = ("Keyed", "/live/paid"), {"x-api-key": "small-" + "s" * 20}
    while platform.door(*paid, headers=REFLECT | key).status == 200:
        pass
    assert platform.request("POST", "/_onrush/reset").status == 200
    assert platform.limit("apigw.key-quota", "SmallKey of Small")["refused"] == 0
    assert platform.door(*paid, headers=REFLECT | key).status == 200


def test_the_cache_answers_until_its_time_is_over(platform):
    def kept(**headers):
        return platform.door("Cached", "/live/kept?page=1", headers=COUNT | headers)

    first = kept()
    assert kept().body == first.body, "without CacheKeyParameters all requests share one answer"
    assert platform.door("Cached", "/live/kept?page=2", headers=COUNT).body == first.body
    answer = kept(**{"Cache-Control": "max-age=0"})
    assert answer.body == first.body and answer.headers["warning"].startswith("199")
    deadline = time.monotonic() + 10
    while kept().body == first.body:
        assert time.monotonic() < deadline, "the entry does not end"
        time.sleep(0.1)
    page = [platform.door("Cached", "/live/page", headers=COUNT).body for _ in range(2)]
    assert page[0] != page[1], "a method without caching is asked each time"
    assert platform.limit("apigw.cache-size", "Cached/live")["peak"] > 0


def test_start_api_serves_it_at_the_root(tmp_path):
    functions = {"Puppet": ("puppet", {"Events": {"One": {"Type": "Api", "Properties": {"Method": "get", "Path": "/x"}}}})}
    with Platform(home=tmp_path, template=templates.write(tmp_path, functions), command="start-api") as platform:
        answer = platform.request("GET", "/x?a=1", headers=REFLECT)
        assert (answer.status, answer.json()["requestContext"]["stage"]) == (200, "Prod")
        assert platform.request("GET", "/nowhere").status == 403


def test_http_apis_are_throttled_and_speak_payload_1_0(tmp_path):
    route = {"Type": "HttpApi", "Properties": {"ApiId": {"Ref": "Http"}, "Method": "ANY", "Path": "/old/{id}", "PayloadFormatVersion": "1.0"}}
    functions = {"Puppet": ("puppet", {"Events": {"Old": route}})}
    resources = {
        "Http": {
            "Type": "AWS::Serverless::HttpApi",
            "Properties": {"DefaultRouteSettings": {"ThrottlingRateLimit": 0.1, "ThrottlingBurstLimit": 4}},
        }
    }
    with Platform(home=tmp_path, template=templates.write(tmp_path, functions, resources)) as platform:
        seen = platform.door("Http", "/old/7?a=1&a=2", headers=REFLECT).json()
        assert (seen["version"], seen["resource"], seen["pathParameters"]) == ("1.0", "/old/{id}", {"id": "7"})
        assert seen["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
        result = answering({"statusCode": 202, "multiValueHeaders": {"x-a": ["1", "2"]}, "body": "aGk=", "isBase64Encoded": True})
        answer = platform.door("Http", "/old/7", headers=result)
        assert (answer.status, answer.headers.get_all("x-a"), answer.body) == (202, ["1", "2"], b"hi")
        assert platform.door("Http", "/old/7", headers=answering("no response")).status == 500
        assert platform.door("Http", "/old/7", headers=REFLECT).status == 200
        answer = platform.door("Http", "/old/7", headers=REFLECT)
        assert (answer.status, answer.json()) == (429, {"message": "Too Many Requests"})
        assert answer.headers["x-onrush-limit"].startswith("apigw.stage-rate; resource=Http ANY /old/{id};")
