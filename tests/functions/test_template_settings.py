"""What a template says around its functions takes effect: versions, aliases with weights, provisioned concurrency, layers,
permissions, destinations, URLs and HTTP APIs of aliases; a restart changes nothing, an edit moves the alias that follows."""

import collections
import json
import time

import pytest

from support.packages import answering
from support.platform import Platform

SAID = """{
        "text": "TEXT",
        "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
        "kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "arn": headers["Lambda-Runtime-Invoked-Function-Arn"],
        "layer": open("/opt/data").read() if os.path.exists("/opt/data") else None,
    }"""

TEMPLATE = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Transform": "AWS::Serverless-2016-10-31",
    "Resources": {
        "Cart": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "FunctionName": "cart",
                "CodeUri": "cart/",
                "Handler": "bootstrap",
                "Runtime": "provided.al2023",
                "AutoPublishAlias": "live",
                "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 1},
                "Layers": [{"Ref": "Shared"}],
                "FunctionUrlConfig": {"AuthType": "NONE"},
                "EventInvokeConfig": {
                    "MaximumRetryAttempts": 1,
                    "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:failed"}},
                },
                "Events": {"Root": {"Type": "HttpApi", "Properties": {"ApiId": {"Ref": "Api"}, "Path": "/", "Method": "GET"}}},
                "LoggingConfig": {"LogGroup": "/shop/cart"},
                "Tracing": "Active",
            },
        },
        "Shared": {"Type": "AWS::Serverless::LayerVersion", "Properties": {"LayerName": "shared", "ContentUri": "layer/"}},
        "Api": {"Type": "AWS::Serverless::HttpApi"},
        "Plain": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": "plain",
                "Code": "cart/",
                "Handler": "bootstrap",
                "Runtime": "provided.al2023",
                "Role": "arn:aws:iam::000000000000:role/plain",
            },
        },
        "PlainOne": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Plain"}, "Description": "first"}},
        "PlainShare": {
            "Type": "AWS::Lambda::Alias",
            "Properties": {
                "FunctionName": {"Ref": "Plain"},
                "Name": "share",
                "FunctionVersion": {"Fn::GetAtt": ["PlainOne", "Version"]},
            },
        },
        "PlainUrl": {
            "Type": "AWS::Lambda::Url",
            "Properties": {"TargetFunctionArn": {"Ref": "PlainShare"}, "AuthType": "NONE"},
        },
        "PlainAllowed": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "PlainShare"},
                "Action": "lambda:InvokeFunctionUrl",
                "Principal": "*",
                "FunctionUrlAuthType": "NONE",
            },
        },
    },
}


def place(home, text):
    folder = home / "cart"
    folder.mkdir(exist_ok=True)
    file = folder / "bootstrap"
    fresh = folder / ".new"
    fresh.write_text(answering(SAID.replace("TEXT", text)))
    fresh.chmod(0o755)
    fresh.rename(file)


@pytest.fixture
def home(tmp_path):
    place(tmp_path, "one")
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer/data").write_text("from the layer")
    return tmp_path


def template(home, change=lambda resources: None):
    whole = json.loads(json.dumps(TEMPLATE))
    change(whole["Resources"])
    path = home / "app.json"
    path.write_text(json.dumps(whole))
    return path


def wait_for(what, is_right):
    deadline = time.monotonic() + 30
    while not is_right(found := what()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_settings_of_a_template_take_effect_and_survive_a_restart(home, start):
    platform = start(home=home, template=template(home))
    client = platform.client()

    def state(client):
        answers = [
            client.list_versions_by_function(FunctionName="cart")["Versions"],
            client.list_aliases(FunctionName="cart")["Aliases"],
            client.list_aliases(FunctionName="plain")["Aliases"],
            client.get_policy(FunctionName="cart", Qualifier="live")["Policy"],
            client.list_function_event_invoke_configs(FunctionName="cart")["FunctionEventInvokeConfigs"],
            client.list_layers()["Layers"],
            [url["FunctionArn"] for url in client.list_function_url_configs(FunctionName="cart")["FunctionUrlConfigs"]],
        ]
        return json.loads(json.dumps(answers, default=str))

    versions, aliases, plain, policy, events, layers, urls = before = state(client)
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]
    assert (aliases[0]["Name"], aliases[0]["FunctionVersion"]) == ("live", "1")
    assert (plain[0]["Name"], plain[0]["FunctionVersion"]) == ("share", "1")
    said = {(statement["Action"], json.dumps(statement["Principal"])) for statement in json.loads(policy)["Statement"]}
    service = json.dumps({"Service": "apigateway.amazonaws.com"})
    assert {("lambda:InvokeFunctionUrl", '"*"'), ("lambda:InvokeFunction", service)} <= said, said
    assert events[0]["FunctionArn"].endswith(":cart:live")
    assert events[0]["DestinationConfig"]["OnFailure"]["Destination"].endswith(":failed")
    assert layers[0]["LatestMatchingVersion"]["LayerVersionArn"].endswith(":layer:shared:1")
    assert [url.rsplit(":", 1)[1] for url in urls] == ["live"]
    shown = client.get_function_configuration(FunctionName="cart")
    assert shown["Layers"][0]["Arn"].endswith(":layer:shared:1")
    assert (shown["LoggingConfig"]["LogGroup"], shown["TracingConfig"]["Mode"]) == ("/shop/cart", "Active")
    assert "Environment" not in shown, "no variables are in the template"

    def provisioned(client):
        return client.get_provisioned_concurrency_config(FunctionName="cart", Qualifier="live")

    wait_for(lambda: provisioned(client)["Status"], lambda status: status == "READY")
    for answer in [platform.door("Cart"), platform.door("Api")]:
        seen = answer.json()
        assert (seen["version"], seen["kind"]) == ("1", "provisioned-concurrency"), seen
        assert seen["arn"].endswith(":function:cart:live") and seen["layer"] == "from the layer"
    assert platform.door("PlainUrl").json()["arn"].endswith(":function:plain:share")
    assert platform.invoke("cart").json()["version"] == "$LATEST"

    platform.stop()
    platform = start(home=home, template=home / "app.json")
    client = platform.client()
    assert state(client) == before
    wait_for(lambda: provisioned(client)["Status"], lambda status: status == "READY")
    assert platform.door("Cart").json()["kind"] == "provisioned-concurrency"


def test_an_edit_moves_the_alias_that_follows_and_no_other(home, start):
    platform = start(home=home, template=template(home))
    assert platform.door("Cart").json()["text"] == "one"
    place(home, "the second")
    seen = wait_for(lambda: platform.door("Cart").json(), lambda seen: seen["text"] == "the second")
    assert seen["version"] == "2"
    assert platform.door("PlainUrl").json()["text"] == "one", "a version is published once"
    assert platform.invoke("plain").json()["text"] == "the second"


def test_a_version_keeps_its_layer_as_it_was(home, start):
    platform = start("--watch", home=home, template=template(home))
    assert platform.door("Cart").json()["layer"] == "from the layer"
    (home / "layer/data").write_text("edited in place")
    seen = wait_for(lambda: platform.door("Cart").json(), lambda seen: seen["layer"] == "edited in place")
    assert seen["version"] == "2"
    client = platform.client()
    client.delete_provisioned_concurrency_config(FunctionName="cart", Qualifier="live")
    old = platform.invoke("cart", query="?Qualifier=1").json()
    assert (old["version"], old["layer"]) == ("1", "from the layer")
    (home / "layer/data").write_text("and once more")
    wait_for(lambda: platform.invoke("cart").json(), lambda seen: seen["layer"] == "and once more")
    assert [platform.invoke("cart", query=f"?Qualifier={n}").json()["layer"] for n in (1, 2)] == [
        "from the layer", "edited in place",
    ]


def test_a_second_version_takes_its_share(home, start):
    platform = start(home=home, template=template(home))
    platform.stop()
    place(home, "the second")

    def share(resources):
        resources["PlainTwo"] = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Plain"}}}
        resources["PlainShare"]["Properties"]["RoutingConfig"] = {
            "AdditionalVersionWeights": [
                {"FunctionVersion": {"Fn::GetAtt": ["PlainTwo", "Version"]}, "FunctionWeight": 0.5}
            ]
        }
        del resources["Cart"]["Properties"]["AutoPublishAlias"]
        del resources["Cart"]["Properties"]["ProvisionedConcurrencyConfig"]

    platform = start(home=home, template=template(home, share))
    texts = collections.Counter(platform.door("PlainUrl").json()["text"] for _ in range(60))
    # 30 each expected, standard deviation 3.9.
    assert set(texts) == {"one", "the second"} and min(texts.values()) >= 5, texts
    # What the template has no more is gone, the alias's provisioned concurrency with it; its version stays.
    client = platform.client()
    assert client.list_aliases(FunctionName="cart")["Aliases"] == []
    assert client.list_provisioned_concurrency_configs(FunctionName="cart")["ProvisionedConcurrencyConfigs"] == []
    assert [one["Version"] for one in client.list_versions_by_function(FunctionName="cart")["Versions"]] == ["$LATEST", "1"]


def test_a_wrong_setting_is_shown_in_its_place(home, start):
    def too_much(resources):
        resources["Cart"]["Properties"]["ProvisionedConcurrencyConfig"] = {"ProvisionedConcurrentExecutions": 100_000}

    with pytest.raises(Exception, match="Cart: Specified ConcurrentExecutions for function is greater than"):
        Platform(home=home, template=template(home, too_much))


def test_runtimes_that_are_not_run_are_left_out_with_the_way_out(start, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/app.py").write_text("handler = lambda *_: 1")
    runtimes = {"Java": "java21", "Go": "go1.x", "Python": "python3.13"}
    resources = {
        id: {
            "Type": "AWS::Serverless::Function",
            "Properties": {"CodeUri": "code", "Handler": "app.handler", "Runtime": runtime, "FunctionName": id},
        }
        for id, runtime in runtimes.items()
    }
    path = tmp_path / "template.json"
    path.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    platform = start(template=path)
    assert platform.invoke("Python").json() == 1
    assert [one["FunctionName"] for one in platform.client().list_functions()["Functions"]] == ["Python"]
    said = platform.stderr()
    assert "java21 is not supported by Onrush: build the function as a container image" in said
    assert "go1.x is not supported by Onrush: compile the function as `bootstrap` for provided.al2023" in said
    assert said.count("The function is left out") == 2
