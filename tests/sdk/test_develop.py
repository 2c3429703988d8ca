"""What developers type beside `up`: events made, invocations by the words of `sam local`, and a clean table between tests."""

import io
import json
import os
import re
import subprocess
import threading
import time
import urllib.request
import zipfile

import botocore.exceptions
import pytest

from support import packages, puppet, templates
from support.paths import BINARY

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")
ARGUMENTS = ("--limit", "lambda.account-concurrency=4")


def onrush(*arguments, text=None, folder="/tmp", code=0):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONRUSH_")}
    command = [str(BINARY), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, cwd=folder, env=environment)
    assert done.returncode == code, done
    return done


def echo(platform, name):
    """A puppet that answers with its event."""
    return platform.create(name, packages.package(puppet.files()), Timeout=20)


@pytest.fixture(scope="module")
def two(platform):
    return [echo(platform, "first"), echo(platform, "second")]


def test_generated_events_are_invoked_through_a_pipe(platform, two):
    event = onrush("generate-event", "s3", "put", "--bucket", "photos", "--key", "a cat.jpg").stdout
    record = json.loads(event)["Records"][0]
    assert record["s3"]["bucket"]["name"] == "photos" and record["s3"]["object"]["key"] == "a+cat.jpg"
    wrapped = json.dumps({"python": "answer = event['given']['Records'][0]['s3']['bucket']['arn']", "given": json.loads(event)})
    done = onrush("invoke", "first", "-e", "-", "--endpoint", platform.url, text=wrapped)
    assert json.loads(done.stdout) == "arn:aws:s3:::photos"


def test_every_generated_event_is_json_and_helps(tmp_path):
    services = onrush("generate-event", "--help").stdout
    for service, event in [("alb", "request"), ("cognito", "pre-signup"), ("dynamodb", "update"), ("ses", "email-receiving")]:
        assert service in services
        json.loads(onrush("generate-event", service, event).stdout)
        assert "--region" in onrush("generate-event", service, event, "--help").stdout
    assert "s3" in onrush("generate-event", code=2).stderr
    assert "similar" in onrush("generate-event", "s3", "putt", code=2).stderr


def test_the_emulators_path_means_the_only_function(start, platform, two):
    alone = start()
    name = echo(alone, "alone")
    path = "/2015-03-31/functions/function/invocations"
    answer = alone.request("POST", path, json.dumps({"python": "answer = 7"}))
    assert (answer.status, answer.json()) == (200, 7), answer
    answer = platform.request("POST", path, "{}")
    assert answer.status == 404 and "first, second" in answer.json()["Message"], answer
    assert name == "alone"


def test_a_reset_leaves_functions_and_nothing_that_ran(platform, two):
    body = {"python": "answer = count"}
    assert [platform.invoke("first", body).json() for _ in range(2)][-1] > 1
    client = platform.client()
    client.put_function_concurrency(FunctionName="second", ReservedConcurrentExecutions=0)
    with pytest.raises(botocore.exceptions.ClientError, match="Rate Exceeded"):
        client.invoke(FunctionName="second")
    assert platform.metric("throttles", "second") == 1
    answer = platform.request("POST", "/_onrush/reset")
    assert answer.status == 200 and answer.json()["environments_ended"] >= 1, answer
    assert platform.request("GET", "/_onrush/health").json()["environments"] == 0
    assert platform.metric("throttles", "second") == 0 and platform.metric("invocations", "first") == 0
    assert platform.limit("lambda.reserved-concurrency", "second")["refused"] == 0
    # Functions and their settings stay, and the next invocation is a cold start.
    assert client.get_function_concurrency(FunctionName="second")["ReservedConcurrentExecutions"] == 0
    assert platform.invoke("first", body).json() == 1
    assert platform.request("GET", "/_onrush/reset").status == 405


def test_a_reset_drops_events_that_wait(platform, two):
    client = platform.client()
    # It fails, and would be tried again after a minute.
    client.invoke(FunctionName="first", InvocationType="Event", Payload=json.dumps({"python": "os._exit(1)"}))
    platform.wait_idle()
    assert platform.request("GET", "/_onrush/health").json()["events"] == 1
    assert platform.request("POST", "/_onrush/reset").json()["events_dropped"] == 1
    assert platform.request("GET", "/_onrush/health").json()["events"] == 0


def test_a_reset_under_load_fails_no_request(platform, two):
    failures, ended = [], threading.Event()

    def load():
        while not ended.is_set():
            answer = platform.invoke("first", {"python": "answer = 1"}, whole=False)
            if answer.status != 200 or answer.error:
                failures.append(answer)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert platform.request("POST", "/_onrush/reset").status == 200
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []



@pytest.fixture
def home(tmp_path):
    api = {"Events": {"Api": {"Type": "HttpApi", "Properties": {"Path": "/cart", "Method": "POST"}}}}
    templates.write(tmp_path, {"Cart": ("puppet", api | {"FunctionName": "shop-cart", "CodeUri": "cart/"})})
    return tmp_path


def test_start_api_has_the_routes_at_the_root(start, home):
    platform = start("-t", str(home / "app.json"), "--warm-containers", "EAGER", home=home, command="start-api")
    assert "--warm-containers means nothing here" in platform.stderr()
    body = json.dumps({"statusCode": 201, "body": "made"})
    answer = platform.request("POST", "/cart", body, {"Content-Type": "application/json"})
    assert (answer.status, answer.body) == (201, b"made"), answer
    answer = platform.request("GET", "/nothing")
    assert (answer.status, answer.json()) == (404, {"message": "Not Found"}), answer
    # The Lambda API is still there.
    assert platform.client().list_functions()["Functions"][0]["FunctionName"] == "shop-cart"


def test_start_lambda_takes_logical_ids(start, home):
    platform = start("--template-file", str(home / "app.json"), home=home, command="start-lambda")
    answer = platform.client().invoke(FunctionName="Cart", Payload=json.dumps({"python": "answer = 5"}))
    assert json.load(answer["Payload"]) == 5
    assert platform.request("POST", "/cart", "{}").status == 404


def test_the_ports_are_sams():
    assert "3000" in onrush("start-api", "--help").stdout
    assert "3001" in onrush("start-lambda", "--help").stdout


# ---- Settings that lie beside the template ------------------------------------------------------------------------


SHOP = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: none}
  Label: {Type: String, Default: none}
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: cart/
      Handler: bootstrap
      Runtime: provided.al2023
      Environment:
        Variables: {STAGE: !Ref Stage, LABEL: !Ref Label, TABLE: from-template, SECRET: from-template}
"""
SAMCONFIG = """
version = 0.1
[default.global.parameters]
stack_name = "shop"
region = "eu-central-1"
[default.local_start_lambda.parameters]
parameter_overrides = "Stage=\\"test one\\" Label=file"
env_vars = "local.json"
warm_containers = "EAGER"
[ci.local_start_lambda.parameters]
parameter_overrides = ["Stage=ci"]
[default.deploy.parameters]
parameter_overrides = ["Stage=deployed"]
capabilities = "CAPABILITY_IAM"
"""
LOOK = {"python": "answer = {name: os.environ.get(name) for name in ('STAGE', 'LABEL', 'TABLE', 'SECRET', 'OTHER', 'AWS_REGION')}"}


@pytest.fixture
def shop(tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "shop"
    folder.mkdir()
    puppet.place(folder / "cart")
    (folder / "template.yaml").write_text(SHOP)
    (folder / "samconfig.toml").write_text(SAMCONFIG)
    (folder / "local.json").write_text(json.dumps({"Cart": {"TABLE": "from-json"}, "Shelf": {}}))
    (folder / ".env").write_text("# local\nexport SECRET='from .env'\nTABLE=from-dotenv\nOTHER=1\n")
    return folder


def test_samconfig_env_vars_and_dotenv_are_found_beside_the_template(start, shop):
    platform = start("--parameter-overrides", "Label=line", home=shop.parent, template=shop / "template.yaml")
    assert platform.client("eu-central-1").list_functions()["Functions"][0]["FunctionName"].startswith("shop-Cart")
    seen = platform.invoke("Cart", LOOK).json()
    assert seen == {
        "STAGE": "test one",
        "LABEL": "line",
        "TABLE": "from-json",
        "SECRET": "from .env",
        "OTHER": None,
        "AWS_REGION": "eu-central-1",
    }
    assert "warm_containers means nothing here" in platform.stderr()
    assert "--env-vars: the template has no function Shelf; there is: Cart\n" in platform.stderr()
    done = onrush("deploy", "--endpoint", platform.url, folder=shop)
    assert done.stdout == "Cart updated: variables STAGE\n", done
    seen = platform.invoke("Cart", LOOK).json()
    assert (seen["STAGE"], seen["LABEL"]) == ("deployed", "line"), "what a deployment does not name keeps its value"


def test_a_deployment_keeps_what_was_given_as_long_as_the_template_asks_for_it(start, shop):
    (shop / "samconfig.toml").unlink()
    template = shop / "template.yaml"
    required = SHOP.replace("Stage: {Type: String, Default: none}", "Stage: {Type: String}")
    template.write_text(required)
    platform = start("--parameter-overrides", "Stage=a Label=b", "--watch=off", home=shop.parent, template=template)
    deploy = lambda **more: onrush("deploy", "--endpoint", platform.url, folder=shop, **more)
    assert deploy().stdout == "nothing changed\n"
    template.write_text(required.replace("  Label: {Type: String, Default: none}\n", "").replace("!Ref Label", "x"))
    assert deploy().stdout == "Cart updated: variables LABEL\n"
    template.write_text(required.replace("Label: {Type: String, Default: none}", "Label: {Type: String, Default: new}"))
    deploy()
    seen = platform.invoke("Cart", LOOK).json()
    assert (seen["STAGE"], seen["LABEL"]) == ("a", "new")
    template.write_text(required.replace("  Label:", "  Shelf: {Type: String}\n  Label:"))
    refused = deploy(code=2).stderr
    assert "the parameter `Shelf` has no value and no default" in refused
    assert "template.yaml:5:3]" in refused and "Shelf: {Type: String}" in refused, "shown with its line"


def test_the_platform_decides_what_is_wrong_with_a_template(start, shop):
    """Here the parameter has its default, there the value that was given before; and the platform is in another Region."""
    for name in ("samconfig.toml", ".env"):
        (shop / name).unlink()
    template = shop / "template.yaml"
    labels = "Mappings:\n  Labels:\n    a: {Label: of-a}\n    none: {Other: x}\n  Places:\n    eu-west-1: {Place: Dublin}\n"
    mapped = SHOP.replace("Resources:", labels + "Resources:").replace("!Ref Label", "!FindInMap [Labels, !Ref Stage, Label]")
    template.write_text(mapped.replace("TABLE: from-template", "TABLE: !FindInMap [Places, !Ref AWS::Region, Place]"))
    arguments = ("--parameter-overrides", "Stage=a", "--region", "eu-west-1", "--watch=off")
    platform = start(*arguments, home=shop.parent, template=template)
    assert onrush("deploy", "--endpoint", platform.url, folder=shop).stdout == "nothing changed\n"
    seen = platform.invoke("Cart", LOOK).json()
    assert (seen["LABEL"], seen["TABLE"]) == ("of-a", "Dublin")
    # The other way round: what is right for the default is not for what was given.
    template.write_text(template.read_text().replace("none: {Other: x}", "none: {Label: x}").replace("a: {Label", "a: {Other"))
    only_there = template.read_text()
    refused = onrush("deploy", "--endpoint", platform.url, folder=shop, code=2).stderr
    assert f"error: {template}:" in refused and "Label" in refused, refused
    # Beside it, what is wrong for both keeps its line.
    template.write_text(only_there.replace("Handler: bootstrap", "Handler: bootstrap\n      MemorySize: 1"))
    refused = onrush("deploy", "--endpoint", platform.url, folder=shop, code=2).stderr
    assert f"error: {template}:" in refused and "template.yaml:" in refused, refused
    assert re.search(r"│ +MemorySize: 1", refused), refused
    # What is wrong for both is shown with its line.
    template.write_text(SHOP.replace("Handler: bootstrap", "Handler: bootstrap\n      MemorySize: 1"))
    refused = onrush("deploy", "--endpoint", platform.url, folder=shop, code=2).stderr
    assert "MemorySize: 1" in refused and "template.yaml:" in refused, refused
    assert platform.invoke("Cart", LOOK).json()["LABEL"] == "of-a"


def test_a_strict_deployment_is_strict_for_itself(start, shop):
    (shop / "samconfig.toml").unlink()
    template = shop / "template.yaml"
    platform = start("--watch=off", home=shop.parent, template=template)
    deploy = lambda *more, code=0: onrush("deploy", *more, "--endpoint", platform.url, folder=shop, code=code)
    assert deploy("--strict").stdout == "nothing changed\n"
    template.write_text(SHOP + "  Orders: {Type: AWS::SQS::Queue}\n")
    refused = deploy("--strict", code=2).stderr
    assert "AWS::SQS::Queue is not run" in refused and "strict reading" in refused, refused
    # The one before, which was carried out, has left nothing.
    assert "AWS::SQS::Queue is not run" in deploy().stderr


def test_watch_off_serves_and_runs_what_was_deployed(start, shop):
    (shop / "samconfig.toml").unlink()
    platform = start("--watch=off", home=shop.parent, template=shop / "template.yaml")
    (function,) = platform.client().list_functions()["Functions"]
    location = lambda: platform.client().get_function(FunctionName=function["FunctionName"])["Code"]["Location"]
    before = location()

    def words(where):
        with urllib.request.urlopen(where, timeout=10) as answer, zipfile.ZipFile(io.BytesIO(answer.read())) as archive:
            return archive.read("words").decode() if "words" in archive.namelist() else None

    look = {"python": "answer = os.path.exists('/var/task/words')"}
    (shop / "cart/words").write_text("new")
    assert words(before) is None and words(location()) is None
    # In a new environment, too.
    assert platform.request("POST", "/_onrush/reset").status == 200
    assert platform.invoke("Cart", look).json() is False
    assert onrush("deploy", "--endpoint", platform.url, folder=shop).stdout == "Cart updated: code\n"
    assert words(location()) == "new" and platform.invoke("Cart", look).json() is True


def test_a_handlers_missing_module_is_told_by_the_folder_or_the_package(start, shop):
    """Of each function, and by no folder that is Onrush's own, as a build's is."""
    (shop / "samconfig.toml").unlink()
    python = SHOP.replace("provided.al2023", "python3.13").replace("bootstrap", "none.handler")
    built = python[python.index("  Cart:") :].replace("Cart:", "Built:").replace("cart/", "built/")
    # What is published of a folder is a copy of it, elsewhere.
    python = python.replace("      CodeUri", "      AutoPublishAlias: live\n      CodeUri")
    (shop / "template.yaml").write_text(python + built)
    (shop / "built").mkdir()
    (shop / "built/requirements.txt").write_text("--no-index\n")
    platform = start(home=shop.parent, template=shop / "template.yaml")
    package = packages.package({"app.py": "handler = 1"})
    for name in ("one", "other"):
        platform.create(name, package, "python3.13", "none.handler")

    def told(place):
        start = f"handler `none.handler`: there is no none.py in {place}; "
        names = re.findall(re.escape(start) + r".*function=\"?([^\s\"]+)", platform.stderr())
        # A function without a name is called STACK-ID-….
        return sorted(name.split("-")[1] if "-" in name else name for name in names)

    assert told(shop / "cart") == ["Cart"], platform.stderr()
    deadline = time.monotonic() + 10
    while len(told("the function's package")) < 3:
        assert time.monotonic() < deadline, platform.stderr()
        for name in ("one", "other"):
            platform.invoke(name)
    assert told("the function's package") == ["Built", "one", "other"]
    assert str(platform.data_dir) not in platform.stderr()


def test_explain_takes_parameters_imports_and_the_stacks_name(shop):
    imported = SHOP.replace("Default: none}", "AllowedPattern: .+}").replace("from-template", "!ImportValue table", 1)
    (shop / "template.yaml").write_text(imported)
    told = onrush("explain", "Cart", "--parameter-overrides", "Stage=a", "Label=b", "--import", "table=x", folder=shop)
    assert "Cart: a function" in told.stdout, told
    told = onrush(
        "explain", "other-Cart", "--stack-name", "other", "--import", "table=x", "--parameter-overrides",
        "ParameterKey=Stage,ParameterValue=a Label=b", folder=shop,
    )
    assert "Cart: a function" in told.stdout, told
    assert "Stage" in onrush("explain", "Cart", "--import", "table=x", folder=shop, code=2).stderr


def test_a_deployment_that_failed_leaves_no_subnets_known(start, shop):
    network = "  Net: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}\n" + (
        "  Inside: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Net, CidrBlock: 10.0.0.0/24}}\n"
    )
    (shop / "samconfig.toml").unlink()
    template = shop / "template.yaml"
    template.write_text(SHOP.replace("!Ref Stage", "!Ref Inside") + network)
    platform = start("--watch=off", home=shop.parent, template=template)
    subnet = platform.invoke("Cart", LOOK).json()["STAGE"]
    assert subnet.startswith("subnet-")
    vpc = {"SubnetIds": [subnet], "SecurityGroupIds": ["sg-0123456789abcdef0"]}
    vpc_of = lambda name: platform.client().create_function(
        FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role="arn:aws:iam::000000000000:role/r",
        Code={"ZipFile": packages.package(puppet.files())}, VpcConfig=vpc,
    )["VpcConfig"]["VpcId"]
    assert vpc_of("known").startswith("vpc-")
    template.write_text(SHOP)
    onrush("deploy", "--endpoint", platform.url, folder=shop)
    bad = SHOP[SHOP.index("  Cart:") :].replace("Cart:", "Bad:").replace("cart/", "nowhere/")
    template.write_text(SHOP + network + bad)
    assert "nowhere" in onrush("deploy", "--endpoint", platform.url, folder=shop, code=1).stderr
    assert vpc_of("unknown") == ""


def test_samconfig_says_where_sams_words_listen(start, shop):
    config = '[default.local_start_lambda.parameters]\nhost = "{}"\nparameter_overrides = "Stage=a"\n'
    (shop / "samconfig.toml").write_text(config.format("127.0.0.3"))
    platform = start(home=shop.parent, template=shop / "template.yaml", command="start-lambda")
    assert platform.url.startswith("http://127.0.0.3:")
    (shop.parent / "other").mkdir()
    named = start("--host", "localhost", home=shop.parent / "other", template=shop / "template.yaml", command="start-lambda")
    assert named.url.startswith("http://127.0.0.1:")
    (shop / "samconfig.toml").write_text(config.format("example.com"))
    assert "samconfig.toml: host: `example.com` is not an address" in onrush("start-lambda", folder=shop, code=2).stderr


def test_the_command_line_chooses_files_environment_and_region(start, shop):
    (shop.parent / "other.env").write_text("SECRET=other\n")
    arguments = ("--config-env", "ci", "--region", "us-east-1", "--env-file", str(shop.parent / "other.env"))
    platform = start(*arguments, home=shop.parent, template=shop / "template.yaml")
    seen = platform.invoke("Cart", LOOK).json()
    assert (seen["STAGE"], seen["SECRET"], seen["TABLE"], seen["AWS_REGION"]) == ("ci", "other", "from-template", "us-east-1")


def test_a_bad_file_of_settings_is_named(shop):
    done = onrush("up", "--config-env", "nowhere", folder=shop, code=2)
    assert "no environment nowhere; there is ci, default" in done.stderr
    (shop / "samconfig.toml").write_text("[default.global.parameters]\nregion = 7\n")
    done = onrush("up", folder=shop, code=2)
    assert "samconfig.toml: [default.global.parameters] region: `7`" in done.stderr
    (shop / "samconfig.toml").write_text('[default.local_start_api.parameters]\nparameter_overrides = "Stage=a Shelves=3"\n')
    done = onrush("up", folder=shop, code=2)
    assert "the parameter `Shelves` does not exist" in done.stderr
    assert "it is given in samconfig.toml" in done.stderr
    (shop / "samconfig.toml").unlink()
    (shop / ".env").write_text("A=1\nB\n")
    done = onrush("up", "--port", "0", "--world", "none", folder=shop, code=2)
    assert ".env:2: `B`" in done.stderr
