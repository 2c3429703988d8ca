"""boto3 sees Parameter Store, Secrets Manager and STS: the template's values, and AWS's words for what goes wrong."""

import json

import boto3
import botocore.config
import botocore.exceptions
import pytest

from support import templates
from support.platform import Platform

RESOURCES = {
    "Host": {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "/shop/db/host", "Type": "String", "Value": "db.test"}},
    "Zones": {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "/shop/zones", "Type": "StringList", "Value": "a,b"}},
    "Login": {
        "Type": "AWS::SecretsManager::Secret",
        "Properties": {
            "Name": "shop/login",
            "GenerateSecretString": {
                "SecretStringTemplate": '{"username": "shop"}',
                "GenerateStringKey": "password",
                "ExcludePunctuation": True,
            },
        },
    },
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return templates.write(tmp_path_factory.mktemp("services"), {}, RESOURCES)


@pytest.fixture(scope="module")
def platform(template):
    with Platform(template=template) as running:
        yield running


def client(platform, service):
    return boto3.client(
        service,
        endpoint_url=platform.url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


def test_parameters_of_the_template_are_read(platform):
    ssm = client(platform, "ssm")
    parameter = ssm.get_parameter(Name="/shop/db/host")["Parameter"]
    assert (parameter["Value"], parameter["Type"], parameter["Version"]) == ("db.test", "String", 1)
    assert parameter["ARN"] == "arn:aws:ssm:us-east-1:000000000000:parameter/shop/db/host"
    pages = ssm.get_paginator("get_parameters_by_path").paginate(
        Path="/shop", Recursive=True, PaginationConfig={"PageSize": 1}
    )
    assert [row["Name"] for page in pages for row in page["Parameters"]] == ["/shop/db/host", "/shop/zones"]
    several = ssm.get_parameters(Names=["/shop/zones", "/none"])
    assert several["Parameters"][0]["Value"] == "a,b" and several["InvalidParameters"] == ["/none"]


def test_refusals_have_awss_classes(platform):
    ssm, secrets = client(platform, "ssm"), client(platform, "secretsmanager")
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name="/none")
    with pytest.raises(ssm.exceptions.ParameterAlreadyExists):
        ssm.put_parameter(Name="/shop/zones", Value="c", Type="StringList")
    with pytest.raises(secrets.exceptions.ResourceNotFoundException) as caught:
        secrets.get_secret_value(SecretId="none")
    assert caught.value.response["Error"]["Message"] == "Secrets Manager can't find the specified secret."


def test_a_caller_has_an_identity(platform):
    assert client(platform, "sts").get_caller_identity()["Account"] == "000000000000"


@pytest.mark.parametrize(
    ("service", "ask", "code"),
    [
        ("sts", lambda sts, long: sts.assume_role(RoleArn="a" * 20, RoleSessionName="session", Policy=long), "RequestEntityTooLarge"),
        ("ssm", lambda ssm, long: ssm.get_parameter(Name=long), "RequestEntityTooLargeException"),
    ],
)
def test_a_request_that_is_too_large_is_refused_in_the_services_protocol(platform, service, ask, code):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        ask(client(platform, service), "a" * (1 << 20))
    response = refused.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == (413, code)


def test_a_secret_is_made_once_and_what_was_put_stays(template, tmp_path):
    with Platform(template=template, home=tmp_path) as first:
        secrets, ssm = client(first, "secretsmanager"), client(first, "ssm")
        made = secrets.get_secret_value(SecretId="shop/login")
        login = json.loads(made["SecretString"])
        assert login["username"] == "shop" and len(login["password"]) == 32 and login["password"].isalnum()
        assert ssm.put_parameter(Name="/own", Value="1", Type="String")["Version"] == 1
        assert ssm.put_parameter(Name="/own", Value="2", Type="String", Overwrite=True)["Version"] == 2
        first.kill()
    with Platform(template=template, home=tmp_path) as second:
        again = client(second, "secretsmanager").get_secret_value(SecretId=made["ARN"])
        assert (again["SecretString"], again["VersionId"]) == (made["SecretString"], made["VersionId"])
        assert client(second, "ssm").get_parameter(Name="/own")["Parameter"]["Value"] == "2"
        private = [second.data_dir / "services" / name for name in ("authority-key.pem", "values.json")]
        assert all(path.stat().st_mode & 0o77 == 0 for path in private)
