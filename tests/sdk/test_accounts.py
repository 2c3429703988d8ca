"""Accounts and Regions: a request goes where its signature says, and nobody touches what is another's."""

import json
import re
import time

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.session
import pytest

from support import http, packages, puppet, templates
from support.platform import ROLE, Platform

HOME, OTHER = "000000000000", "123456789012"
NAME = "cart"
MODEL = botocore.session.get_session().get_service_model("lambda")
SOURCE = """
import os

def handler(event, context):
    keys = [os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    return [os.environ["AWS_REGION"], context.invoked_function_arn, *keys]
"""


def client(platform, account, region="us-east-1", service="lambda"):
    key = {HOME: "AKIAHOME", OTHER: "AKIAOTHER"}[account]
    return boto3.client(
        service,
        endpoint_url=platform.url,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key="secret",
        config=botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


def create(client, name=NAME, **settings):
    code = {"ZipFile": packages.package({"index.py": SOURCE})}
    made = client.create_function(
        FunctionName=name, Runtime="python3.13", Handler="index.handler", Role=ROLE, Code=code, **settings
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    return made


def answer(client, name=NAME, **more):
    return json.loads(client.invoke(FunctionName=name, **more)["Payload"].read())


def names(client):
    return [function["FunctionName"] for function in client.list_functions()["Functions"]]


# ---- Regions ----------------------------------------------------------------------------------------------------------


def test_each_region_has_its_own_functions_limits_and_partition(platform):
    """Without `--credentials` the Region of the signature counts all the same."""
    regions = {"us-east-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eu-west-1": "aws"}
    clients = {region: platform.client(region) for region in regions}
    for region, partition in regions.items():
        arn = f"arn:{partition}:lambda:{region}:{HOME}:function:{NAME}"
        assert names(clients[region]) == []
        assert create(clients[region])["FunctionArn"] == arn
        assert answer(clients[region])[:2] == [region, arn]
        assert names(clients[region]) == [NAME]
    clients["eu-west-1"].put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=900)
    left = {r: c.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] for r, c in clients.items()}
    assert left == {"us-east-1": 1000, "cn-north-1": 1000, "us-gov-west-1": 1000, "eu-west-1": 100}
    clients["us-east-1"].put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=0)
    with pytest.raises(clients["us-east-1"].exceptions.TooManyRequestsException):
        clients["us-east-1"].invoke(FunctionName=NAME)
    assert answer(clients["cn-north-1"])[0] == "cn-north-1"
    # A full ARN is of the Region that it names.
    with pytest.raises(clients["cn-north-1"].exceptions.ResourceNotFoundException) as refused:
        clients["cn-north-1"].get_function(FunctionName=f"arn:aws:lambda:eu-west-1:{HOME}:function:{NAME}")
    message = "Functions from 'eu-west-1' are not reachable in this region ('cn-north-1')"
    assert refused.value.response["Error"]["Message"] == message
    for region in ["us-east-1", "eu-west-1"]:
        clients[region].delete_function(FunctionName=NAME)
    assert [names(clients[region]) for region in regions] == [[], [NAME], [NAME], []]


def test_a_function_url_answers_in_its_region(platform):
    far = platform.client("sa-east-1")
    create(far, "door")
    url = far.create_function_url_config(FunctionName="door", AuthType="NONE")["FunctionUrl"]
    host = re.match(r"http://([^/:]+)", url)[1]
    assert ".lambda-url.sa-east-1." in host
    assert http.request(platform.port, "GET", "/", headers={"Host": host}).json()[0] == "sa-east-1"
    far.delete_function(FunctionName="door")
    assert http.request(platform.port, "GET", "/", headers={"Host": host}).status == 403


def test_what_is_no_region_and_what_is_not_signed_is_at_home(platform):
    create(platform.client(), "home")
    words = "AWS4-HMAC-SHA256 Credential=x/20260101/{}/lambda/aws4_request, SignedHeaders=host, Signature=00"
    for region in ["local", "us-east-1", "", "../../etc", "us-east-99"]:
        answer = platform.request("GET", "/2015-03-31/functions/home", headers={"Authorization": words.format(region)})
        assert answer.status == 200, (region, answer)
    assert platform.request("GET", "/2015-03-31/functions/home").status == 200
    elsewhere = platform.request("GET", "/2015-03-31/functions/home", headers={"Authorization": words.format("eu-north-1")})
    assert elsewhere.status == 404
    assert not list(platform.data_dir.glob("accounts/*/local")) and list(platform.data_dir.glob("accounts/*/eu-north-1"))


def test_regions_are_bounded(platform):
    """A caller cannot open stores without end."""
    words = "AWS4-HMAC-SHA256 Credential=x/20260101/{}/lambda/aws4_request, SignedHeaders=host, Signature=00"
    statuses = [
        platform.request("GET", "/2015-03-31/functions", headers={"Authorization": words.format(f"zz-test{letter}-{n}")}).status
        for letter in "abcdefg"
        for n in range(10)
    ]
    assert statuses[0] == 200 and statuses[-1] == 500
    assert platform.client().list_functions()


# ---- Accounts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    home = tmp_path_factory.mktemp("accounts")
    template = templates.write(home, {"Template": ("echo", {"FunctionUrlConfig": {"AuthType": "AWS_IAM"}})})
    keys = ("--credentials", "AKIAHOME:secret", "--credentials", f"AKIAOTHER:secret@{OTHER}")
    with Platform(*keys, home=home, template=template) as platform:
        create(client(platform, HOME), Publish=True, Description="mine", Tags={"a": "b"})
        client(platform, HOME).create_alias(FunctionName=NAME, Name="live", FunctionVersion="1")
        yield platform


def test_an_account_follows_its_key(signed):
    mine, yours = client(signed, HOME), client(signed, OTHER)
    assert names(yours) == [] and NAME in names(mine)
    made = create(yours, "shelf")
    assert made["FunctionArn"] == f"arn:aws:lambda:us-east-1:{OTHER}:function:shelf"
    region, arn, *keys = answer(yours, "shelf")
    assert (region, arn) == ("us-east-1", made["FunctionArn"])
    # A function of the account calls within the account, whatever its token says.
    inside = boto3.client(
        "lambda", endpoint_url=signed.url, region_name="us-east-1",
        aws_access_key_id=keys[0], aws_secret_access_key=keys[1], aws_session_token=keys[2],
    )  # fmt: skip
    assert names(inside) == ["shelf"]
    assert answer(mine)[2] != keys[0] and answer(mine)[3] != keys[1]
    assert NAME in names(mine) and "shelf" not in names(mine)
    yours.delete_function(FunctionName="shelf")


def test_callers_are_told_who_they_are(signed):
    for account in [HOME, OTHER]:
        for region, partition in [("us-east-1", "aws"), ("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn")]:
            found = client(signed, account, region, "sts").get_caller_identity()
            assert (found["Account"], found["Arn"]) == (account, f"arn:{partition}:iam::{account}:root")


def test_a_url_with_aws_iam_tells_its_function_who_signed_and_refuses_other_accounts(signed):
    def call(key):
        request = botocore.awsrequest.AWSRequest("GET", signed.url + "/_onrush/door/Template/")
        credentials = botocore.credentials.Credentials(key, "secret")
        botocore.auth.SigV4Auth(credentials, "lambda", "us-east-1").add_auth(request)
        return http.request(signed.port, "GET", "/_onrush/door/Template/", headers=dict(request.prepare().headers))

    context = call("AKIAHOME").json()["requestContext"]
    assert context["accountId"] == HOME
    assert context["authorizer"]["iam"] == {
        "accessKey": "AKIAHOME", "accountId": HOME, "callerId": HOME, "cognitoIdentity": None,
        "principalOrgId": None, "userArn": f"arn:aws:iam::{HOME}:root", "userId": HOME,
    }  # fmt: skip
    assert call("AKIAOTHER").status == 403
    mine = client(signed, HOME)
    name = next(name for name in names(mine) if name != NAME)
    for statement, action, condition in [
        ("url", "lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "AWS_IAM"}),
        ("run", "lambda:InvokeFunction", {"InvokedViaFunctionUrl": True}),
    ]:
        assert call("AKIAOTHER").status == 403
        mine.add_permission(FunctionName=name, StatementId=statement, Action=action, Principal=OTHER, **condition)
    assert call("AKIAOTHER").json()["requestContext"]["authorizer"]["iam"]["accountId"] == OTHER


REQUIRED = {
    "Name": "live", "FunctionVersion": "1", "ReservedConcurrentExecutions": 1, "ProvisionedConcurrentExecutions": 1,
    "Qualifier": "live", "AuthType": "NONE", "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*",
    "UpdateRuntimeOn": "Auto", "RecursiveLoop": "Allow", "InvokeArgs": b"{}",
    "CodeSigningConfigArn": f"arn:aws:lambda:us-east-1:{OTHER}:code-signing-config:csc-0123456789abcdef0",
}  # fmt: skip
# Made, listed or refused without looking at a function of that name.
APART = {"CreateFunction", "CreateEventSourceMapping", "UpdateEventSourceMapping", "ListEventSourceMappings"}


def operations():
    for name in MODEL.operation_names:
        members = MODEL.operation_model(name).input_shape
        if members is not None and "FunctionName" in members.required_members and name not in APART:
            yield name


def ask(client, operation, function):
    """The answer, or status, code and message of the error, as if the function were `NAME`."""
    shape = MODEL.operation_model(operation).input_shape
    required = {name: REQUIRED[name] for name in shape.required_members if name != "FunctionName"}
    if operation == "UpdateFunctionCode":
        required["ZipFile"] = packages.package({"index.py": ""})
    call = getattr(client, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower())
    try:
        return call(FunctionName=function, **required)
    except botocore.exceptions.ClientError as error:
        found = error.response
        message = found["Error"]["Message"].replace("nowhere", NAME)
        return found["ResponseMetadata"]["HTTPStatusCode"], found["Error"]["Code"], message


@pytest.mark.parametrize("operation", list(operations()))
def test_another_accounts_function_is_as_good_as_missing(signed, operation):
    """T9: with D's keys on C's function, in every form of its name, each answer is that for a function that is not there."""
    mine, yours = client(signed, HOME), client(signed, OTHER)
    before = mine.get_function(FunctionName=NAME), mine.list_aliases(FunctionName=NAME)["Aliases"]
    for form in ["{}", "{}:live", f"{HOME}:function:{{}}", f"arn:aws:lambda:us-east-1:{HOME}:function:{{}}",
                 f"arn:aws:lambda:us-east-1:{HOME}:function:{{}}:live", f"{HOME}:function:{{}}:1"]:  # fmt: skip
        theirs, missing = (ask(yours, operation, form.format(name)) for name in (NAME, "nowhere"))
        assert theirs == missing and theirs[0] in (400, 404, 501), (form, theirs, missing)
    after = mine.get_function(FunctionName=NAME), mine.list_aliases(FunctionName=NAME)["Aliases"]
    assert [a["Configuration"]["RevisionId"] for a in (before[0], after[0])] == [before[0]["Configuration"]["RevisionId"]] * 2
    assert before[1] == after[1]


@pytest.mark.parametrize("operation", list(operations()))
def test_a_name_in_another_account_is_not_the_function_of_that_name_here(signed, operation):
    mine = client(signed, HOME)
    before = mine.get_function(FunctionName=NAME)["Configuration"]
    for form in [f"{OTHER}:function:{{}}", f"arn:aws:lambda:us-east-1:{OTHER}:function:{{}}"]:
        found, missing = (ask(mine, operation, form.format(name)) for name in (NAME, "nowhere"))
        assert found == missing and found[0] in (400, 404, 501), (form, found, missing)
    assert mine.get_function(FunctionName=NAME)["Configuration"] == before


def test_other_resources_and_markers_are_bound_to_their_account(signed):
    mine, yours = client(signed, HOME), client(signed, OTHER)
    zip_file = packages.package({"python/shared.py": ""})
    layer = mine.publish_layer_version(LayerName="shared", Content={"ZipFile": zip_file})
    profile = f"arn:aws:signer:us-east-1:{HOME}:/signing-profiles/p/abc"
    config = mine.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [profile]})
    config = config["CodeSigningConfig"]["CodeSigningConfigArn"]
    arn = f"arn:aws:lambda:us-east-1:{HOME}:function:{NAME}"
    page = mine.list_functions(MaxItems=1)
    for call, arguments in [
        (yours.get_layer_version_by_arn, {"Arn": layer["LayerVersionArn"]}),
        (yours.get_layer_version, {"LayerName": layer["LayerArn"], "VersionNumber": 1}),
        (yours.delete_layer_version, {"LayerName": "shared", "VersionNumber": 1}),
        (yours.get_code_signing_config, {"CodeSigningConfigArn": config}),
        (yours.delete_code_signing_config, {"CodeSigningConfigArn": config}),
        (yours.list_tags, {"Resource": arn}),
        (yours.tag_resource, {"Resource": arn, "Tags": {"mine": "now"}}),
        (yours.untag_resource, {"Resource": arn, "TagKeys": ["a"]}),
        (yours.list_functions, {"Marker": page["NextMarker"]}),
        (client(signed, HOME, "eu-west-1").list_functions, {"Marker": page["NextMarker"]}),
    ]:
        try:
            call(**arguments)
            done = True
        except botocore.exceptions.ClientError as error:
            done = error.response["ResponseMetadata"]["HTTPStatusCode"] not in (400, 404)
        # Deleting what is not there is no error of AWS's.
        assert not done or call == yours.delete_layer_version, (call, arguments)
    assert mine.get_layer_version(LayerName="shared", VersionNumber=1) and mine.list_functions(Marker=page["NextMarker"])
    assert mine.list_tags(Resource=arn)["Tags"] == {"a": "b"}


def test_what_is_elsewhere_survives_kill_and_answers_at_once(tmp_path):
    with Platform(home=tmp_path) as platform:
        far = platform.client("ap-south-1")
        create(far, "kept")
        host = re.match(r"http://([^/:]+)", far.create_function_url_config(FunctionName="kept", AuthType="NONE")["FunctionUrl"])[1]
        platform.kill().wait_gone(30)
    with Platform(home=tmp_path) as platform:
        assert http.request(platform.port, "GET", "/", headers={"Host": host}).json()[0] == "ap-south-1"
        assert names(platform.client("ap-south-1")) == ["kept"] and names(platform.client()) == []


@pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")
def test_what_an_account_leaves_is_taken_by_no_other(start):
    """Networks, groups and file systems go round within one version: the first of each account's own function is no other's."""
    keys = ("--credentials", "AKIAHOME:secret", "--credentials", f"AKIAOTHER:secret@{OTHER}")
    platform = start(*keys, "--limit", "environment.idle-timeout=1")
    mine, yours = client(platform, HOME), client(platform, OTHER)
    for account in (mine, yours):
        code = {"ZipFile": packages.package(puppet.files())}
        account.create_function(FunctionName="same", Runtime="provided.al2023", Handler="bootstrap", Role=ROLE, Code=code)
        account.get_waiter("function_active_v2").wait(FunctionName="same", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})

    def network(account):
        """Which network an environment runs in, once it has gone again and left it."""
        found = answer(account, "same", Payload=json.dumps({"python": "answer = os.stat('/proc/self/ns/net').st_ino"}))
        deadline = time.monotonic() + 20
        while platform.request("GET", "/_onrush/health").json()["environments"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found

    first = network(mine)
    theirs = network(yours)
    assert network(mine) == first, "it was left, and there to be taken"
    assert theirs != first
