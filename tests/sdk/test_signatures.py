"""Signatures, verified with `--credentials`: botocore's own signers are the other side, over random requests."""

import datetime
import json
import random
import string
import urllib.parse

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions
import pytest

from support import http, packages, puppet, templates
from support.platform import Platform

ID, SECRET, TEMPORARY, TOKEN = "AKIDONRUSHTEST", "s3cr/et+with=signs", "ASIAONRUSHTEST", "a/token+of=some length"


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("signed")
    file = home / "credentials"
    file.write_text(
        f"[temporary]\naws_access_key_id = {TEMPORARY}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
        "[ended]\naws_access_key_id = ASIAENDED\naws_secret_access_key = x\naws_session_token = x\n"
        "x_security_token_expires = 2020-01-01T00:00:00Z\n"
    )
    functions = {
        "Signed": ("echo", {"FunctionUrlConfig": {"AuthType": "AWS_IAM"}}),
        "Open": ("echo", {"FunctionUrlConfig": {"AuthType": "NONE"}}),
        "Caller": ("puppet", {"MemorySize": 1024}),
    }
    template = templates.write(home, functions)
    with Platform("--credentials", f"{ID}:{SECRET}", "--credentials", str(file), home=home, template=template) as platform:
        yield platform


def client(platform, key=ID, secret=SECRET, token=None, region="us-east-1", service="lambda"):
    return boto3.client(
        service,
        endpoint_url=platform.url,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


def signed(platform, signer, method, path, body=b"", headers=None):
    """The request as a signer of botocore's leaves it, sent."""
    request = botocore.awsrequest.AWSRequest(method, platform.url + path, headers=headers or {}, data=body)
    signer.add_auth(request)
    made = request.prepare()
    parts = urllib.parse.urlsplit(made.url)
    path = parts.path + ("?" + parts.query if parts.query else "")
    return http.request(platform.port, method, path, body, dict(made.headers))


def header_signer(key=ID, secret=SECRET, token=None, service="lambda", region="us-east-1"):
    return botocore.auth.SigV4Auth(botocore.credentials.Credentials(key, secret, token), service, region)


def query_signer(key=ID, secret=SECRET, token=None, expires=60):
    return botocore.auth.SigV4QueryAuth(
        botocore.credentials.Credentials(key, secret, token), "lambda", "us-east-1", expires=expires
    )


def kind(answer):
    return answer.headers.get("x-amzn-ErrorType")


def test_boto3_with_the_right_keys_works_and_with_others_does_not(platform):
    for right in [client(platform), client(platform, TEMPORARY, token=TOKEN)]:
        assert {one["FunctionName"] for one in right.list_functions()["Functions"]} == {"Signed", "Open", "Caller"}
        right.invoke(FunctionName="Open", Payload=b"{}")
        right.get_function_configuration(FunctionName="Open:$LATEST")
    assert client(platform, region="eu-west-1").list_functions()["Functions"] == [], "another Region's"
    for wrong, code in [
        (client(platform, secret="other"), "InvalidSignatureException"),
        (client(platform, "AKIAOTHER"), "UnrecognizedClientException"),
        (client(platform, TEMPORARY), "UnrecognizedClientException"),
        (client(platform, TEMPORARY, token="other"), "UnrecognizedClientException"),
        (client(platform, "ASIAENDED", "x", "x"), "ExpiredTokenException"),
        (client(platform, region="nowhere"), "InvalidSignatureException"),
    ]:
        with pytest.raises(wrong.exceptions.ClientError) as failure:
            wrong.list_functions()
        assert failure.value.response["Error"]["Code"] == code
        assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("service", ["sts", "ssm", "secretsmanager"])
def test_services_beside_lambda_refuse_keys_in_the_shape_that_their_clients_read(platform, service):
    calls = {
        "sts": lambda sts: sts.get_caller_identity(),
        "ssm": lambda ssm: ssm.describe_parameters(),
        "secretsmanager": lambda secrets: secrets.list_secrets(),
    }
    calls[service](client(platform, service=service))
    for wrong, in_json, in_xml in [
        ({"secret": "other"}, "InvalidSignatureException", "SignatureDoesNotMatch"),
        ({"key": "AKIAOTHER"}, "UnrecognizedClientException", "InvalidClientTokenId"),
        ({"key": "ASIAENDED", "secret": "x", "token": "x"}, "ExpiredTokenException", "ExpiredToken"),
    ]:
        with pytest.raises(botocore.exceptions.ClientError) as failure:
            calls[service](client(platform, service=service, **wrong))
        error = failure.value.response["Error"]
        assert error["Code"] == (in_xml if service == "sts" else in_json) and error["Message"], failure.value.response
        assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == (403 if service == "sts" else 400)


def test_random_requests_are_verified_as_botocore_signs_them(platform):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    letters = string.ascii_letters + string.digits + "-._~ !$&'()*+,;=:@/?%#[]éß\u20ac\U0001f600"

    def word(most):
        return "".join(chance.choice(letters) for _ in range(chance.randrange(1, most)))

    for _ in range(150):
        path = "/2015-03-31/functions/" + urllib.parse.quote(word(12), safe="-._~")
        query = "&".join(
            f"{urllib.parse.quote(word(6), safe='-._~')}={urllib.parse.quote(word(9), safe='-._~')}"
            for _ in range(chance.randrange(4))
        )
        headers = {f"x-amz-meta-{n}": "  " + " ".join(["a", "b"][: n + 1]) + "   c " for n in range(chance.randrange(3))}
        body = bytes(chance.randrange(256) for _ in range(chance.randrange(64)))
        method = chance.choice(["GET", "PUT", "POST", "DELETE"])
        target = path + ("?" + query if query else "")
        # botocore would move the body of a presigned request into its query.
        for signer, carries in [
            (header_signer(), body),
            (header_signer(TEMPORARY, token=TOKEN), body),
            (query_signer(), b""),
            (query_signer(TEMPORARY, token=TOKEN), b""),
        ]:
            answer = signed(platform, signer, method, target, carries, headers)
            assert answer.status != 403, (target, headers, answer)
        answer = signed(platform, header_signer(secret="wrong"), method, target, body, headers)
        assert (answer.status, kind(answer)) == (403, "InvalidSignatureException"), (target, answer)


def test_what_is_not_signed_right_is_refused(platform):
    path = "/2015-03-31/functions"
    assert kind(platform.request("GET", path)) == "MissingAuthenticationTokenException"
    assert platform.request("GET", "/_onrush/health").status == 200
    assert platform.request("GET", "/_onrush/functions").status == 403
    assert signed(platform, header_signer(), "GET", "/_onrush/functions").status == 200
    half = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ID}/20150830/us-east-1/lambda/aws4_request"}
    assert kind(platform.request("GET", path, headers=half)) == "IncompleteSignatureException"
    assert kind(signed(platform, header_signer(service="s3"), "GET", path)) == "InvalidSignatureException"

    # The body is part of it, also when its hash is told.
    request = botocore.awsrequest.AWSRequest("POST", platform.url + path, data=b'{"a":1}')
    header_signer().add_auth(request)
    answer = http.request(platform.port, "POST", path, b'{"a":2}', dict(request.prepare().headers))
    assert kind(answer) == "InvalidSignatureException"
    hashed = {"x-amz-content-sha256": "0" * 64}
    assert kind(signed(platform, header_signer(), "GET", path, headers=hashed)) == "InvalidSignatureException"
    unsigned = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert signed(platform, header_signer(), "GET", path, headers=unsigned).status == 200


def test_clocks_may_be_off_by_five_minutes(platform, monkeypatch):
    now = datetime.datetime.now(datetime.timezone.utc)
    for minutes, status in [(-6, 403), (-4, 200), (4, 200), (6, 403)]:
        then = now + datetime.timedelta(minutes=minutes)
        with monkeypatch.context() as context:
            for name in ["get_current_datetime", "_get_current_datetime"]:
                if hasattr(botocore.auth, name):
                    context.setattr(botocore.auth, name, lambda *_, **__: then.replace(tzinfo=None))
            answer = signed(platform, header_signer(), "GET", "/2015-03-31/functions")
        assert answer.status == status, (minutes, answer)
        if status == 403:
            assert ("Signature expired" if minutes < 0 else "Signature not yet current") in answer.json()["message"]


def test_function_urls_with_aws_iam_take_signatures_and_nothing_else(platform):
    path = "/_onrush/door/Signed/some/path?b=2&a=1"
    refused = platform.request("GET", path)
    assert refused.status == 403 and refused.json()["Message"].startswith("Forbidden. For troubleshooting Function URL")
    assert platform.request("GET", path, headers={"Authorization": "Bearer x"}).status == 403
    text = {"Content-Type": "application/json"}
    event = signed(platform, header_signer(), "POST", path, b'{"n":1}', text).json()
    assert event["body"] == '{"n":1}' and event["rawPath"] == "/some/path"
    assert signed(platform, query_signer(), "GET", path).json()["rawPath"] == "/some/path"
    assert signed(platform, header_signer(secret="wrong"), "GET", path).status == 403
    assert platform.door("Open").status == 200, "NONE asks for no signature"


def test_functions_sign_with_keys_of_their_own(platform):
    source = "answer = {name: os.environ.get(name) for name in ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN']}"
    answer = client(platform).invoke(FunctionName="Caller", Payload=json.dumps({"python": source}))
    own = json.loads(answer["Payload"].read())
    inside = client(platform, own["AWS_ACCESS_KEY_ID"], own["AWS_SECRET_ACCESS_KEY"], own["AWS_SESSION_TOKEN"])
    assert inside.list_functions()["Functions"]
    # Not what every Onrush has.
    assert len(own["AWS_SECRET_ACCESS_KEY"]) == 40
