"""Resource policies: with `--permissions enforce` what AWS refuses is refused; without, it is named in the log."""

import json

import pytest

from support import packages, templates


def template(home, permissions):
    home.mkdir(exist_ok=True)
    path = templates.write(home, {"Sam": ("echo", {"FunctionUrlConfig": {"AuthType": "NONE"}, "Events": {
        "Get": {"Type": "HttpApi", "Properties": {"ApiId": {"Ref": "Api"}, "Path": "/sam/{id}", "Method": "GET"}},
    }})}, {
        "Api": {"Type": "AWS::Serverless::HttpApi"},
        "Own": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "own", "ProtocolType": "HTTP"}},
        "OwnIntegration": {"Type": "AWS::ApiGatewayV2::Integration", "Properties": {
            "ApiId": {"Ref": "Own"}, "IntegrationType": "AWS_PROXY", "PayloadFormatVersion": "2.0",
            "IntegrationUri": {"Fn::GetAtt": ["Sam", "Arn"]}}},
        "OwnRoute": {"Type": "AWS::ApiGatewayV2::Route", "Properties": {
            "ApiId": {"Ref": "Own"}, "RouteKey": "ANY /own/{id}", "Target": {"Fn::Sub": "integrations/${OwnIntegration}"}}},
        "OwnStage": {"Type": "AWS::ApiGatewayV2::Stage", "Properties": {"ApiId": {"Ref": "Own"}, "StageName": "$default"}},
    } | permissions)
    return path


def allowed(source):
    return {"OwnAllowed": {"Type": "AWS::Lambda::Permission", "Properties": {
        "FunctionName": {"Ref": "Sam"}, "Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com",
        "SourceArn": {"Fn::Sub": "arn:aws:execute-api:${AWS::Region}:${AWS::AccountId}:${Own}/" + source}}}}


@pytest.fixture
def client_and_platform(start, tmp_path):
    platform = start("--permissions", "enforce", home=tmp_path, template=template(tmp_path, allowed("*/GET/own/*")))
    return platform.client(), platform


def test_what_a_template_allows_works_and_nothing_else(client_and_platform):
    client, platform = client_and_platform
    assert platform.door("Sam").status == 200, "SAM adds the permissions of a public URL by itself"
    assert platform.door("Api", "/sam/7").status == 200
    assert platform.door("Own", "/own/7").status == 200
    refused = platform.door("Own", "/own/7", method="POST")
    assert (refused.status, refused.json()) == (500, {"message": "Internal Server Error"})

    # Through the API: refused until both statements are there, and again when one is gone.
    platform.create("bare", packages.built("echo"))
    client.create_function_url_config(FunctionName="bare", AuthType="NONE")

    def statement(id, action, **condition):
        client.add_permission(FunctionName="bare", StatementId=id, Action=action, Principal="*", **condition)

    assert platform.door("bare").status == 403
    statement("url", "lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE")
    refused = platform.door("bare")
    assert refused.status == 403 and refused.json()["Message"].startswith("Forbidden. For troubleshooting")
    statement("invoke", "lambda:InvokeFunction", InvokedViaFunctionUrl=True)
    assert platform.door("bare").status == 200
    client.remove_permission(FunctionName="bare", StatementId="url")
    assert platform.door("bare").status == 403
    assert json.loads(platform.invoke("bare", {"n": 1}).body)["n"] == 1, "the API itself is the owner's"


def test_without_the_switch_the_log_names_what_is_missing(start, tmp_path):
    platform = start(home=tmp_path, template=template(tmp_path, {}))
    assert platform.door("Own", "/own/7").status == 200
    assert platform.door("Own", "/own/8").status == 200
    said = [line for line in platform.stderr().splitlines() if "AWS would answer 500" in line]
    assert len(said) == 1 and "GET/own/{id}" in said[0], platform.stderr()
