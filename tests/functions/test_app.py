"""Stacks of one app run as one: what one exports another imports, the VPC of one holds functions of another, each function's
code lies beside its own template, and ids that both have are told apart."""

import json
import subprocess

import pytest

from support.packages import answering
from support.platform import BINARY, Platform

SAID = """{name: os.environ.get(name) for name in ("STACK", "SUBNET", "AWS_LAMBDA_FUNCTION_NAME")} | {"code": "CODE"}"""


def function(code, **settings):
    settings.setdefault("Environment", {"Variables": {"STACK": {"Ref": "AWS::StackName"}}})
    properties = {"Handler": "bootstrap", "Runtime": "provided.al2023", "Role": "arn:aws:iam::000000000000:role/r", "Timeout": 5}
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": properties | {"Code": {"S3Bucket": "assets", "S3Key": "a.zip"}} | settings,
        "Metadata": {"aws:asset:path": code},
    }


BASE = {
    "Resources": {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
        "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.1.0/24"}},
        "Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {"GroupDescription": "functions", "VpcId": {"Ref": "Vpc"}}},
    },
    "Outputs": {
        "Subnet": {"Value": {"Ref": "Subnet"}, "Export": {"Name": {"Fn::Sub": "${AWS::StackName}:Subnet"}}},
        "Group": {"Value": {"Fn::GetAtt": ["Group", "GroupId"]}, "Export": {"Name": "Base:Group"}},
    },
}
IN_THE_VPC = {
    "VpcConfig": {
        "SubnetIds": [{"Fn::ImportValue": "Base:Subnet"}],
        "SecurityGroupIds": [{"Fn::ImportValue": "Base:Group"}],
    },
    "Environment": {"Variables": {"STACK": {"Ref": "AWS::StackName"}, "SUBNET": {"Fn::ImportValue": "Base:Subnet"}}},
}


@pytest.fixture
def app(tmp_path):
    """What `cdk synth` leaves of two stacks, and of a third in a stage, which has a folder of its own."""
    tmp_path.chmod(0o755)
    out = tmp_path / "cdk.out"
    for folder, code in (("asset.1", "orders"), ("assembly-Prod/asset.2", "billing")):
        (out / folder).mkdir(parents=True)
        (out / folder / "bootstrap").write_text(answering(SAID.replace("CODE", code)))
        (out / folder / "bootstrap").chmod(0o755)

    def stack(file, **properties):
        return {"type": "aws:cloudformation:stack", "properties": {"templateFile": file, **properties}}

    stage = {"type": "cdk:cloud-assembly", "properties": {"directoryName": "assembly-Prod"}}
    artifacts = {"Base": stack("Base.template.json"), "App": stack("App.template.json", stackName="Orders"), "Prod": stage}
    (out / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
    (out / "assembly-Prod/manifest.json").write_text(json.dumps({"artifacts": {"Billing": stack("Billing.template.json")}}))
    (out / "Base.template.json").write_text(json.dumps(BASE))
    (out / "App.template.json").write_text(json.dumps({"Resources": {"Handler": function("asset.1", **IN_THE_VPC)}}))
    (out / "assembly-Prod/Billing.template.json").write_text(json.dumps({"Resources": {"Handler": function("asset.2")}}))
    return out


def onrush(*arguments, folder):
    return subprocess.run([str(BINARY), *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def test_all_stacks_of_a_cdk_app_run(app):
    with Platform(template=app) as platform:
        orders = platform.invoke("Orders-Handler").json()
        assert orders["STACK"] == "Orders" and orders["SUBNET"].startswith("subnet-"), orders
        assert orders["code"] == "orders", "the code of its own stack"
        billing = platform.invoke("Billing-Handler").json()
        assert (billing["STACK"], billing["SUBNET"], billing["code"]) == ("Billing", None, "billing")
        told = onrush("invoke", "OrdersHandler", "--endpoint", platform.url, folder=app)
        assert json.loads(told.stdout)["code"] == "orders", told
        # Templates by name are the same app; what is edited in one is deployed alone.
        edited = app / "assembly-Prod/Billing.template.json"
        edited.write_text(edited.read_text().replace('"Timeout": 5', '"Timeout": 6'))
        names = ["Base.template.json", "assembly-Prod/Billing.template.json", "manifest.json"]
        told = onrush("deploy", *names, "--endpoint", platform.url, folder=app)
        assert told.returncode == 2 and "are both of a stack Base" in told.stderr, told
        told = onrush("deploy", "manifest.json", "--endpoint", platform.url, folder=app)
        assert told.stdout == "BillingHandler updated: timeout 5 -> 6 s\n", told


def test_a_stack_that_is_left_alone_keeps_its_code(app):
    with Platform("--watch", template=app) as platform:
        (app / "assembly-Prod/manifest.json").unlink()
        manifest = json.loads((app / "manifest.json").read_text())
        del manifest["artifacts"]["Base"]
        manifest["artifacts"]["App"]["properties"].pop("stackName")
        template = {"Resources": {"Handler": function("asset.1", Timeout=6)}}
        (app / "App.template.json").write_text(json.dumps(template))
        (app / "manifest.json").write_text(json.dumps(manifest))
        (app / "Base.template.json").unlink()
        told = onrush("deploy", "--endpoint", platform.url, folder=app.parent)
        assert told.returncode == 0, told
        assert platform.invoke("App-Handler").json()["code"] == "orders"


def test_what_is_wrong_is_shown_in_its_own_file(app):
    template = app / "App.template.json"
    template.write_text(template.read_text().replace("Base:Group", "Base:Grupp"))
    told = onrush("explain", "-t", "Base.template.json", "-t", "App.template.json", "Handler", folder=app)
    assert told.returncode == 2
    assert "No export named Base:Grupp found" in told.stderr and "[App.template.json:1:" in told.stderr, told.stderr
    assert "`Base:Group`" in told.stderr


def test_a_function_of_one_stack_is_explained_in_the_vpc_of_another(app):
    told = onrush("explain", "-t", ".", "OrdersHandler", "10.0.1.9:443", folder=app)
    assert "Subnet" in told.stdout and "10.0.1.0/24" in told.stdout, told
    template = app / "App.template.json"
    template.write_text(template.read_text().replace('"Handler": {', '"Worker": {', 1))
    told = onrush("explain", "-t", "App.template.json", "-t", "Base.template.json", "Worker", "10.0.1.9:443", folder=app)
    assert "Group" in told.stdout, told


def test_the_stack_name_of_a_samconfig_is_for_one_template(app):
    (app / "samconfig.toml").write_text('version = 0.1\n[default.global.parameters]\nstack_name = "shop"\n')
    (app / "load.yaml").write_text("version: 1\nphases:\n  - {name: a, target: Orders, rate: 1/s, for: 1s}\n")
    (app / "App.template.json").rename(app / "Orders.template.json")
    told = onrush("plan", "Base.template.json", "Orders.template.json", folder=app)
    assert "--stack-name" not in told.stderr and "there are Handler" in told.stderr, told


def test_fix_says_that_it_takes_one_template(app):
    (app / "load.yaml").write_text("version: 1\nphases:\n  - {name: a, target: OrdersHandler, rate: 1/s, for: 1s}\n")
    assert "OrdersHandler" in onrush("plan", ".", folder=app).stdout
    told = onrush("plan", ".", "--fix", folder=app)
    assert told.returncode == 2 and "--fix changes one template" in told.stderr


def test_a_plan_and_an_explanation_are_of_the_apps_region(app):
    manifest = json.loads((app / "manifest.json").read_text())
    for artifact in manifest["artifacts"].values():
        artifact["environment"] = "aws://123456789012/eu-west-1"
    (app / "manifest.json").write_text(json.dumps(manifest))
    (app / "load.yaml").write_text("version: 1\nphases:\n  - {name: a, target: OrdersHandler, rate: 1/s, for: 1s}\n")
    for more, region in (((), "eu-west-1"), (("--region", "eu-central-1"), "eu-central-1")):
        assert f", region {region}," in onrush("plan", ".", *more, folder=app).stdout
        told = onrush("explain", "-t", ".", "OrdersHandler", "10.0.1.9:443", *more, folder=app)
        assert f"10.0.1.0/24 in {region}a" in told.stdout, told
