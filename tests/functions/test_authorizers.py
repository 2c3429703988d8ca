"""Lambda authorizers of HTTP and REST APIs: what they are told, what they may answer, what is remembered, and which limits
they meet."""

import json

import pytest

from support import puppet, templates
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

REFLECT = {"x-puppet": "answer = {'statusCode': 200, 'body': __import__('json').dumps(event)}"}

# The token says what is answered; what was asked comes back in the context.
GUARD = """
import json
lower = {k.lower(): v for k, v in (event.get('headers') or {}).items()}
token = event.get('authorizationToken') or lower.get('x-token', '')
arn = event.get('methodArn') or event.get('routeArn')
every = '/'.join(arn.split('/')[:2]) + '/*'
effect, resource = {'deny': ('Deny', every), 'here': ('Allow', arn)}.get(token, ('Allow', every))
statement = {'Action': 'execute-api:Invoke', 'Effect': effect, 'Resource': resource}
answer = {
    'principalId': 'user', 'policyDocument': {'Version': '2012-10-17', 'Statement': [statement]},
    'isAuthorized': token != 'deny', 'usageIdentifierKey': token,
    'context': {'count': count, 'asked': json.dumps(event), 'true': True},
}
if token == 'none': answer.pop('context')
if token == 'malformed': answer = {'principalId': 'user'}
if token == 'list': answer['context'] = {'list': [1]}
if token in ('Unauthorized', 'broken'): fail = token
if token == 'slow': time.sleep(60)
"""


def method(path, api, authorizer=None, kind="Api", **properties):
    auth = {"Auth": {"Authorizer": authorizer}} if authorizer else {}
    named = {"RestApiId" if kind == "Api" else "ApiId": {"Ref": api}}
    return {"Type": kind, "Properties": named | {"Method": "GET", "Path": path} | auth | properties}


def guard(function="Guard", **settings):
    return {"FunctionArn": {"Fn::GetAtt": [function, "Arn"]}, **settings}


def may(function):
    source = {"Fn::Sub": "arn:aws:execute-api:${AWS::Region}:${AWS::AccountId}:${Direct}/*"}
    settings = {"Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com", "SourceArn": source}
    return {"Type": "AWS::Lambda::Permission", "Properties": settings | {"FunctionName": {"Ref": function}}}


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("authorizers")
    sources = {"Headers": ["X-Token"], "ReauthorizeEvery": 0}
    rest_auth = {
        "DefaultAuthorizer": "Token",
        "Authorizers": {
            "Token": guard(Identity={"Header": "X-Token", "ValidationExpression": "[a-zA-Z]+"}),
            "Request": guard(FunctionPayloadType="REQUEST", Identity={"QueryStrings": ["key"], "ReauthorizeEvery": 0}),
            "Kept": guard(FunctionPayloadType="REQUEST", Identity={"Headers": ["X-Token"], "QueryStrings": ["key"]}),
            "Stopped": guard("Stopped", Identity={"Header": "X-Token"}),
            "Hasty": guard("Hasty", Identity={"Header": "X-Token", "ReauthorizeEvery": 0}),
            "Pool": {"UserPoolArn": "arn:aws:cognito-idp:us-east-1:000000000000:userpool/us-east-1_x"},
        },
    }
    two, one = {"AuthorizerPayloadFormatVersion": "2.0"}, {"AuthorizerPayloadFormatVersion": "1.0"}
    allowed = {"EnableFunctionDefaultPermissions": True}
    http_auth = {
        "Authorizers": {
            "Simple": guard(**two, **allowed, EnableSimpleResponses=True, Identity=sources),
            "Policy": guard(**two, **allowed, Identity=sources | {"ReauthorizeEvery": 300}),
            "Unasked": guard("Unasked", **two, EnableSimpleResponses=True),
            "Old": guard(**one, **allowed, Identity={"Headers": ["X-Token"], "Context": ["routeKey"]}),
            "Jwt": {"JwtConfiguration": {"issuer": "https://example.com", "audience": ["a"]}, "IdentitySource": "$request.header.Authorization"},
        },
    }
    plain = {
        "Direct": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "direct", "ApiKeySourceType": "AUTHORIZER"}},
        "Asked": {"Type": "AWS::ApiGateway::Authorizer", "Properties": {
            "RestApiId": {"Ref": "Direct"}, "Type": "TOKEN", "Name": "asked", "IdentitySource": "method.request.header.X-Token",
            "AuthorizerResultTtlInSeconds": 0, "AuthorizerUri": {"Fn::Sub":
            "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Guard.Arn}/invocations"}}},
        "Paid": {"Type": "AWS::ApiGateway::Resource", "Properties": {
            "RestApiId": {"Ref": "Direct"}, "ParentId": {"Fn::GetAtt": ["Direct", "RootResourceId"]}, "PathPart": "paid"}},
        "GetPaid": {"Type": "AWS::ApiGateway::Method", "Properties": {
            "RestApiId": {"Ref": "Direct"}, "ResourceId": {"Ref": "Paid"}, "HttpMethod": "GET", "ApiKeyRequired": True,
            "AuthorizationType": "CUSTOM", "AuthorizerId": {"Ref": "Asked"}, "Integration": {
                "Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": {"Fn::Sub":
                "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Puppet.Arn}/invocations"}}}},
        "Deployed": {"Type": "AWS::ApiGateway::Deployment", "Properties": {"RestApiId": {"Ref": "Direct"}, "StageName": "live"}},
        "Plan": {"Type": "AWS::ApiGateway::UsagePlan", "Properties": {"ApiStages": [{"ApiId": {"Ref": "Direct"}, "Stage": "live"}]}},
        "Key": {"Type": "AWS::ApiGateway::ApiKey", "Properties": {"Enabled": True, "Value": "paying" + "x" * 20}},
        "MayAsk": may("Guard"),
        "MayInvoke": may("Puppet"),
        "Joined": {"Type": "AWS::ApiGateway::UsagePlanKey", "Properties": {
            "KeyType": "API_KEY", "KeyId": {"Ref": "Key"}, "UsagePlanId": {"Ref": "Plan"}}},
    }  # fmt: skip
    resources = plain | {
        "Rest": {"Type": "AWS::Serverless::Api", "Properties": {"StageName": "Prod", "Auth": rest_auth}},
        "Http": {"Type": "AWS::Serverless::HttpApi", "Properties": {"Auth": http_auth}},
    }
    events = {
        "Default": method("/default", "Rest"),
        "Item": method("/cart/{id}", "Rest"),
        "Free": method("/free", "Rest", "NONE"),
        "Signed": method("/signed", "Rest", "AWS_IAM"),
        "Request": method("/request", "Rest", "Request"),
        "Kept": method("/kept", "Rest", "Kept"),
        "Stopped": method("/stopped", "Rest", "Stopped"),
        "Hasty": method("/hasty", "Rest", "Hasty"),
        "Pool": method("/pool", "Rest", "Pool"),
        "Simple": method("/simple", "Http", "Simple", "HttpApi"),
        "Policy": method("/policy", "Http", "Policy", "HttpApi"),
        "Twin": method("/policy/twin", "Http", "Policy", "HttpApi"),
        "Old": method("/old", "Http", "Old", "HttpApi"),
        "OldEvent": method("/oldevent", "Http", "Simple", "HttpApi", PayloadFormatVersion="1.0"),
        "Unasked": method("/unasked", "Http", "Unasked", "HttpApi"),
        "Jwt": method("/jwt", "Http", "Jwt", "HttpApi"),
        "Open": method("/open", "Http", kind="HttpApi"),
    }
    guarding = {"Environment": {"Variables": {"PUPPET": GUARD}}, "MemorySize": 1024}
    functions = {
        "Puppet": ("puppet", {"Events": events, "MemorySize": 1024}),
        "Guard": ("puppet", guarding),
        "Stopped": ("puppet", guarding | {"ReservedConcurrentExecutions": 0}),
        "Hasty": ("puppet", guarding | {"Timeout": 1}),
        "Unasked": ("puppet", guarding),
    }
    template = templates.write(home, functions, resources)
    with Platform("--permissions", "enforce", home=home, template=template) as platform:
        yield platform


def ask(platform, door, path, token=None, **headers):
    headers = REFLECT | headers | ({"x-token": token} if token is not None else {})
    return platform.door(door, path, headers=headers)


def told(answer, *way):
    assert answer.status == 200, answer
    found = answer.json()["requestContext"]["authorizer"]
    for step in way:
        found = found[step]
    return found


def error(answer):
    return answer.status, answer.headers["x-amzn-errortype"], answer.json()


# ---- REST APIs ------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_to_the_function_and_its_context_to_the_next(platform):
    context = told(ask(platform, "Rest", "/Prod/cart/7", "first"))
    asked = json.loads(context["asked"])
    assert set(asked) == {"type", "methodArn", "authorizationToken"}
    assert (asked["type"], asked["authorizationToken"]) == ("TOKEN", "first")
    arn = asked["methodArn"].split(":")
    assert arn[:5] == ["arn", "aws", "execute-api", "us-east-1", "000000000000"]
    assert arn[5].split("/", 1)[1] == "Prod/GET/cart/7"
    assert (context["principalId"], context["true"]) == ("user", "true"), "values are texts"
    assert isinstance(context["integrationLatency"], int) and context["count"].isdigit()


def test_a_token_that_is_missing_or_malformed_asks_nobody(platform):
    before = platform.metric("invocations", "Guard")
    for token in (None, "", "not a token", "x1"):
        assert error(ask(platform, "Rest", "/Prod/default", token)) == (401, "UnauthorizedException", {"message": "Unauthorized"})
    assert platform.metric("invocations", "Guard") == before


def test_a_policy_is_remembered_for_all_methods_that_share_the_authorizer(platform):
    before = platform.metric("invocations", "Guard")
    counts = {told(ask(platform, "Rest", path, "shared"), "count") for path in ("/Prod/default", "/Prod/cart/1", "/Prod/cart/2")}
    assert len(counts) == 1 and platform.metric("invocations", "Guard") == before + 1
    # Kept for all methods, and meant for one alone: AWS's best known trap.
    assert ask(platform, "Rest", "/Prod/cart/1", "here").status == 200
    refused = {"Message": "User is not authorized to access this resource"}
    assert error(ask(platform, "Rest", "/Prod/cart/2", "here")) == (403, "AccessDeniedException", refused)


def test_a_statement_that_denies_says_so(platform):
    refused = {"Message": "User is not authorized to access this resource with an explicit deny"}
    assert error(ask(platform, "Rest", "/Prod/default", "deny")) == (403, "AccessDeniedException", refused)


def test_a_function_says_unauthorized_or_fails(platform):
    assert ask(platform, "Rest", "/Prod/default", "Unauthorized").status == 401
    for token in ("broken", "malformed", "list"):
        failed = error(ask(platform, "Rest", "/Prod/default", token))
        assert failed == (500, "AuthorizerConfigurationException", {"message": None}), token


def test_a_request_is_shown_without_its_body_and_asked_anew_each_time(platform):
    first, second = (told(ask(platform, "Rest", "/Prod/request?key=k&a=1", "x")) for _ in range(2))
    assert first["count"] != second["count"]
    asked = json.loads(first["asked"])
    assert (asked["type"], asked["resource"], asked["path"], asked["httpMethod"]) == ("REQUEST", "/request", "/request", "GET")
    assert asked["methodArn"].endswith("/Prod/GET/request") and asked["queryStringParameters"] == {"key": "k", "a": "1"}
    assert asked["headers"]["X-Token"] == "x" and asked["requestContext"]["stage"] == "Prod"
    assert not {"body", "isBase64Encoded", "version"} & set(asked)
    assert ask(platform, "Rest", "/Prod/request").status == 200, "where nothing is kept no source is needed"


def test_each_source_is_needed_and_tells_entries_apart_where_answers_are_kept(platform):
    assert ask(platform, "Rest", "/Prod/kept?key=k").status == 401
    assert ask(platform, "Rest", "/Prod/kept", "x").status == 401
    counts = [told(ask(platform, "Rest", f"/Prod/kept?key={key}", "x"), "count") for key in "aabb"]
    assert counts[0] == counts[1] != counts[2] == counts[3]


def test_a_route_may_ask_nobody_or_for_a_signature(platform):
    assert "authorizer" not in ask(platform, "Rest", "/Prod/free").json()["requestContext"]
    assert ask(platform, "Rest", "/Prod/signed").status == 403
    signed = "AWS4-HMAC-SHA256 Credential=AKIAME/20260101/us-east-1/execute-api/aws4_request, SignedHeaders=host, Signature=00"
    identity = ask(platform, "Rest", "/Prod/signed", Authorization=signed).json()["requestContext"]["identity"]
    assert (identity["accessKey"], identity["accountId"]) == ("AKIAME", "000000000000")
    assert identity["userArn"] == "arn:aws:iam::000000000000:root" and identity["caller"] == identity["user"] == "000000000000"


def test_an_authorizer_meets_the_limits_of_any_function(platform):
    answer = ask(platform, "Rest", "/Prod/stopped", "x")
    assert error(answer) == (500, "AuthorizerConfigurationException", {"message": None})
    assert answer.headers["x-onrush-limit"].startswith("lambda.reserved-concurrency; resource=Stopped;"), answer.headers
    assert platform.metric("throttles", "Stopped") == 1
    answer = ask(platform, "Rest", "/Prod/hasty", "slow")
    assert answer.status == 500 and answer.headers["x-onrush-limit"].startswith("function.timeout; resource=Hasty;"), answer.headers


def test_the_key_that_an_authorizer_names_counts(platform):
    answer = ask(platform, "Direct", "/live/paid", "paying" + "x" * 20)
    assert answer.json()["requestContext"]["identity"]["apiKey"] == "paying" + "x" * 20
    answer = ask(platform, "Direct", "/live/paid", "somebody", **{"x-api-key": "paying" + "x" * 20})
    assert error(answer) == (403, "ForbiddenException", {"message": "Forbidden"}), "the request's own does not"


# ---- HTTP APIs ------------------------------------------------------------------------------------------------------


def test_a_simple_response_says_yes_or_no(platform):
    context = told(ask(platform, "Http", "/simple?a=1", "x"), "lambda")
    asked = json.loads(context["asked"])
    assert (asked["version"], asked["type"], asked["identitySource"]) == ("2.0", "REQUEST", ["x"])
    assert asked["routeArn"].endswith("/$default/GET/simple") and asked["routeKey"] == "GET /simple"
    assert asked["requestContext"]["http"]["method"] == "GET" and asked["queryStringParameters"] == {"a": "1"}
    assert not {"body", "isBase64Encoded"} & set(asked)
    assert context["true"] is True, "values stay what they are"
    assert told(ask(platform, "Http", "/simple", "none"), "lambda") is None
    old = told(ask(platform, "Http", "/oldevent", "x"))
    assert old["true"] is True and "integrationLatency" in old
    answer = ask(platform, "Http", "/simple", "deny")
    assert (answer.status, answer.json()) == (403, {"message": "Forbidden"})
    answer = ask(platform, "Http", "/simple")
    assert (answer.status, answer.json()) == (401, {"message": "Unauthorized"})
    for token in ("broken", "Unauthorized", "malformed"):
        answer = ask(platform, "Http", "/simple", token)
        assert (answer.status, answer.json()) == (500, {"message": "Internal Server Error"}), token
    assert "authorizer" not in ask(platform, "Http", "/open").json()["requestContext"]


def test_answers_are_kept_where_the_template_says_so(platform):
    first, second = (told(ask(platform, "Http", "/simple", "x"), "lambda", "count") for _ in range(2))
    assert first != second
    counts = {told(ask(platform, "Http", path, "kept"), "lambda", "count") for path in ("/policy", "/policy", "/policy/twin")}
    assert len(counts) == 1
    assert ask(platform, "Http", "/policy", "deny").status == 403
    assert ask(platform, "Http", "/policy", "here").status == 200
    assert ask(platform, "Http", "/policy/twin", "here").status == 403


def test_an_api_that_may_not_ask_is_refused_as_on_aws(platform):
    answer = ask(platform, "Http", "/unasked", "x")
    assert (answer.status, answer.json()) == (500, {"message": "Internal Server Error"})
    assert platform.tells("/authorizers/")


def test_payload_format_1_0_has_the_old_members(platform):
    context = told(ask(platform, "Http", "/old", "x"), "lambda")
    asked = json.loads(context["asked"])
    assert (asked["version"], asked["type"], asked["identitySource"]) == ("1.0", "REQUEST", "x,GET /old")
    assert asked["authorizationToken"] == "x,GET /old" and asked["methodArn"].endswith("/$default/GET/old")


def test_other_authorizers_are_refused_by_name(platform):
    for door, path, kind in (("Http", "/jwt", "JWT"), ("Rest", "/Prod/pool", "COGNITO_USER_POOLS")):
        answer = ask(platform, door, path, Authorization="Bearer x.y.z")
        assert answer.status == 501 and kind in answer.json()["message"], answer
    assert "authorizers other than Lambda ones answer 501" in json.dumps(platform.summary) + platform.stderr()


def test_without_authorizers_whoever_comes_is_let_in(tmp_path):
    resources = {"Http": {"Type": "AWS::Serverless::HttpApi", "Properties": {"Auth": {"DefaultAuthorizer": "Jwt", "Authorizers": {
        "Jwt": {"JwtConfiguration": {"issuer": "https://example.com", "audience": ["a"]}, "IdentitySource": "$request.header.Authorization"}}}}}}  # fmt: skip
    functions = {"Puppet": ("puppet", {"Events": {"One": method("/x", "Http", kind="HttpApi")}})}
    template = templates.write(tmp_path, functions, resources)
    with Platform("--disable-authorizer", home=tmp_path, template=template, command="start-api") as platform:
        assert platform.request("GET", "/x", headers=REFLECT).status == 200
