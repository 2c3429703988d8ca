"""boto3 sees Lambda: results, waiters, forms of names, and its exception classes with AWS's texts."""

import base64
import json
import re

import boto3
import botocore.config
import botocore.exceptions
import pytest

from support import packages
from support.platform import ROLE

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


@pytest.fixture(scope="module")
def client(platform):
    return platform.client()


@pytest.fixture(scope="module")
def echo(platform):
    return platform.create("echo", packages.built("echo"), Timeout=30)


def create(client, name, **changes):
    request = {
        "FunctionName": name,
        "Runtime": "provided.al2023",
        "Role": ROLE,
        "Handler": "bootstrap",
        "Code": {"ZipFile": packages.package({"bootstrap": ("#!/bin/sh\nexit 0\n", 0o755)})},
    }
    return client.create_function(**(request | changes))


def refused(client, exception, call, /, **arguments):
    """The refusal of one call, of that class."""
    with pytest.raises(getattr(client.exceptions, exception)) as caught:
        call(**arguments)
    return caught.value.response


# ---- Invoke -------------------------------------------------------------------------------------------------------


def test_invoke_answers_with_payload_version_and_log(client, echo):
    answer = client.invoke(FunctionName=echo, Payload=b'{"n": 1}', LogType="Tail")
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    assert json.loads(answer["Payload"].read()) == {"n": 1}
    trace = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"]
    assert re.match("Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", trace)
    log = base64.b64decode(answer["LogResult"]).decode()
    assert f"START RequestId: {answer['ResponseMetadata']['RequestId']} Version: $LATEST" in log


def test_an_empty_payload_is_an_empty_object(client, echo):
    answer = client.invoke(FunctionName=echo)
    assert json.loads(answer["Payload"].read()) == {}


def test_a_dry_run_answers_204_and_runs_nothing(client, platform, echo):
    client.invoke(FunctionName=echo)
    before = platform.metric("invocations", echo)
    answer = client.invoke(FunctionName=echo, InvocationType="DryRun", Payload=b"{}")
    assert answer["StatusCode"] == 204 and answer["Payload"].read() == b""
    assert platform.metric("invocations", echo) == before


@pytest.mark.parametrize(
    "form", ["echo", "echo:$LATEST", "function:echo", "000000000000:function:echo", ARN + "echo", ARN + "echo:$LATEST"]
)
def test_every_form_of_a_name_reaches_the_function(client, echo, form):
    assert client.invoke(FunctionName=form, Payload=b"1")["Payload"].read() == b"1"
    if "$LATEST" not in form:
        assert client.get_function(FunctionName=form)["Configuration"]["FunctionName"] == "echo"


def test_the_qualifier_latest_reaches_the_function_and_shows_in_its_arn(client, echo):
    answer = client.invoke(FunctionName=echo, Qualifier="$LATEST", Payload=b"2")
    assert answer["Payload"].read() == b"2"
    shown = client.get_function(FunctionName=echo, Qualifier="$LATEST")["Configuration"]
    assert shown["FunctionArn"] == ARN + "echo:$LATEST"


def test_a_stroke_at_the_end_of_the_path_does_not_matter(platform, echo):
    assert platform.request("POST", f"/2015-03-31/functions/{echo}/invocations/", "4").body == b"4"


@pytest.mark.parametrize("qualifier", ["a%20b", "", "a/b", "x" * 129])
@pytest.mark.parametrize(
    "path", ["2015-03-31/functions/{}/invocations", "2021-11-15/functions/{}/response-streaming-invocations"]
)
def test_a_qualifier_that_fits_no_pattern_is_no_missing_function(platform, echo, path, qualifier):
    answer = platform.request("POST", f"/{path.format(echo)}?Qualifier={qualifier}", "{}")
    assert answer.status == 400 and b"at 'qualifier' failed to satisfy constraint" in answer.body, answer.body


def test_an_unknown_qualifier_and_a_contradiction_are_refused(client, echo):
    missing = refused(client, "ResourceNotFoundException", client.invoke, FunctionName=echo, Qualifier="7")
    assert missing["Error"]["Message"] == f"Function not found: {ARN}echo:7"
    contradiction = refused(
        client, "InvalidParameterValueException", client.invoke, FunctionName="echo:$LATEST", Qualifier="prod"
    )
    assert contradiction["Error"]["Message"] == (
        "The derived qualifier from the function name does not match the specified qualifier."
    )


def test_a_client_context_reaches_the_function_and_a_bad_one_is_refused(client, platform):
    # The Python handler of tests/functions shows it decoded; here it is enough that both sides accept it.
    name = platform.create("context", packages.built("echo"))
    context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
    assert client.invoke(FunctionName=name, ClientContext=context)["StatusCode"] == 200
    refused(client, "InvalidRequestContentException", client.invoke, FunctionName=name, ClientContext="***")


def test_a_function_error_is_an_answer_not_an_exception(client, platform):
    name = platform.create("rogue-error", packages.built("rogue"))
    event = json.dumps({"do": "error", "type": "Store.Closed", "message": "it is closed"}).encode()
    answer = client.invoke(FunctionName=name, Payload=event)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"].read()) == {
        "errorMessage": "it is closed",
        "errorType": "Store.Closed",
        "stackTrace": [],
    }


@pytest.mark.parametrize("payload", [b"{broken", b'{"name": "\xff"}', b"\xef\xbb\xbf{}", b"{} {}"], ids=repr)
@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_a_payload_that_is_no_json_is_refused(client, echo, payload, kind):
    arguments = {"FunctionName": echo, "Payload": payload, "InvocationType": kind}
    refusal = refused(client, "InvalidRequestContentException", client.invoke, **arguments)
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refusal["Error"]["Message"].startswith("Could not parse request body into json: ")


@pytest.mark.parametrize("path", ["2015-03-31/functions/echo/invocations/", "2015-03-31/functions/echo%3A%24LATEST/invocations"])
def test_a_path_by_hand_reaches_the_function(platform, echo, path):
    answer = platform.request("POST", "/" + path, '{"by": "hand"}')
    assert answer.status == 200 and answer.json() == {"by": "hand"}, answer


def test_a_payload_of_6_mb_passes_and_one_byte_more_is_refused(client, echo):
    largest = b'"' + b"x" * (6_291_456 - 2) + b'"'
    assert client.invoke(FunctionName=echo, Payload=largest)["Payload"].read() == largest
    refusal = refused(client, "RequestTooLargeException", client.invoke, FunctionName=echo, Payload=largest + b" ")
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert "6291456 bytes for the InvokeFunction operation" in refusal["Error"]["Message"]


def test_an_event_is_accepted_without_an_answer(client, echo):
    answer = client.invoke(FunctionName=echo, InvocationType="Event", Payload=b"{}")
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b"" and "FunctionError" not in answer


def test_a_throttle_is_too_many_requests_with_its_reason(client, platform):
    name = platform.create("stopped", packages.built("echo"))
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    refusal = refused(client, "TooManyRequestsException", client.invoke, FunctionName=name)
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert refusal["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert refusal["Error"]["Message"] == "Rate Exceeded."
    client.delete_function_concurrency(FunctionName=name)
    assert client.invoke(FunctionName=name, Payload=b"3")["Payload"].read() == b"3"


# ---- Functions ----------------------------------------------------------------------------------------------------


def test_a_new_function_has_lambdas_defaults(client):
    made = create(client, "defaults")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    client.get_waiter("function_active_v2").wait(
        FunctionName="defaults", WaiterConfig={"Delay": 0.1, "MaxAttempts": 50}
    )
    shown = client.get_function_configuration(FunctionName="defaults")
    assert (shown["Timeout"], shown["MemorySize"], shown["EphemeralStorage"]["Size"]) == (3, 128, 512)
    assert (shown["Architectures"], shown["PackageType"], shown["Description"]) == (["x86_64"], "Zip", "")
    assert shown["TracingConfig"] == {"Mode": "PassThrough"}
    assert shown["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/defaults"}


def test_waiters_see_updates_end(client):
    create(client, "waited")
    zip_file = packages.built("echo")
    client.update_function_code(FunctionName="waited", ZipFile=zip_file)
    client.get_waiter("function_updated_v2").wait(FunctionName="waited", WaiterConfig={"Delay": 0.1, "MaxAttempts": 50})
    assert client.invoke(FunctionName="waited", Payload=b'"new"')["Payload"].read() == b'"new"'
    client.delete_function(FunctionName="waited")
    with pytest.raises(botocore.exceptions.WaiterError):
        client.get_waiter("function_active_v2").wait(
            FunctionName="waited", WaiterConfig={"Delay": 0.1, "MaxAttempts": 1}
        )


def test_a_changed_function_never_runs_on_an_old_environment(client, platform):
    name = platform.create("versions", packages.built("rogue"), variables={"WAVE": "one"})
    for wave in ["two", "three", "four"]:
        client.invoke(FunctionName=name, Payload=b"{}")
        client.update_function_configuration(FunctionName=name, Environment={"Variables": {"WAVE": wave}})
        answer = json.loads(client.invoke(FunctionName=name, Payload=b'{"do": "env"}')["Payload"].read())
        assert (answer["count"], answer["seen"]["WAVE"]) == (1, wave)


def test_lists_are_paged(client):
    for number in range(3):
        create(client, f"page-{number}")
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    names = [function["FunctionName"] for page in pages for function in page["Functions"]]
    assert {"page-0", "page-1", "page-2"} <= set(names) and len(names) == len(set(names))


def test_a_taken_name_is_a_conflict(client):
    create(client, "taken")
    refusal = refused(client, "ResourceConflictException", create, client=client, name="taken")
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert refusal["Error"]["Message"] == "Function already exist: taken"


def test_a_missing_function_is_not_found_by_every_operation(client):
    calls = [
        (client.get_function, {}),
        (client.get_function_configuration, {}),
        (client.invoke, {}),
        (client.delete_function, {}),
        (client.update_function_configuration, {"Timeout": 5}),
        (client.update_function_code, {"ZipFile": packages.built("echo")}),
        (client.get_function_concurrency, {}),
        (client.delete_function_concurrency, {}),
    ]
    for call, more in calls:
        refusal = refused(client, "ResourceNotFoundException", call, FunctionName="nobody", **more)
        assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 404
        assert refusal["Error"]["Message"] == f"Function not found: {ARN}nobody", call.__name__


def test_a_function_of_another_region_is_named_so(client):
    refusal = refused(
        client,
        "ResourceNotFoundException",
        client.invoke,
        FunctionName="arn:aws:lambda:eu-west-1:000000000000:function:echo",
    )
    assert refusal["Error"]["Message"] == "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"


def test_a_stale_revision_is_refused(client):
    """Also the one that a creation or a change answers: on AWS it passes as that is done."""

    def current():
        return client.get_function_configuration(FunctionName="revised")["RevisionId"]

    made = create(client, "revised")["RevisionId"]
    stands = current()
    changed = client.update_function_configuration(FunctionName="revised", Timeout=5, RevisionId=stands)["RevisionId"]
    code = client.update_function_code(FunctionName="revised", ZipFile=packages.built("echo"), RevisionId=current())["RevisionId"]
    for stale in (made, stands, changed, code):
        lock = {"FunctionName": "revised", "Timeout": 6, "RevisionId": stale}
        refusal = refused(client, "PreconditionFailedException", client.update_function_configuration, **lock)
        assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert client.get_function_configuration(FunctionName="revised")["Timeout"] == 5
    version = client.publish_version(FunctionName="revised", RevisionId=current())
    shown = client.get_function_configuration(FunctionName="revised", Qualifier=version["Version"])
    assert version["RevisionId"] == shown["RevisionId"], "a version's stays"


@pytest.mark.parametrize(
    "changes, text",
    [
        (
            {"FunctionName": "a" * 65},
            "at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64",
        ),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "Reserved keys used in this request: AWS_REGION"),
        ({"Environment": {"Variables": {"LONG": "x" * 4096}}}, "exceeded the 4KB limit. String measured: {"),
        ({"Code": {}}, "Please provide a source for function code."),
        ({"Runtime": "java21"}, "container image"),
        (
            {"Code": {"ZipFile": b"not a zip"}},
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
    ],
)
def test_what_lambda_refuses_is_refused_in_its_words(client, changes, text):
    refusal = refused(
        client, "InvalidParameterValueException", create, client=client, **({"name": "refused"} | rename(changes))
    )
    assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert text in refusal["Error"]["Message"]
    refused(client, "ResourceNotFoundException", client.get_function, FunctionName="refused")


@pytest.mark.parametrize(
    "changes, text",
    [
        (
            {"MemorySize": 127},
            "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
        ),
        (
            {"Timeout": 901},
            "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
        ),
        (
            {"Handler": "two words"},
            "at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+",
        ),
        ({"Handler": "app\0.handler"}, "Value 'app\\0.handler' at 'handler' failed to satisfy constraint"),
        ({"Role": "nobody"}, "at 'role' failed to satisfy constraint"),
        ({"Environment": {"Variables": {"1X": "x"}}}, "[a-zA-Z]([a-zA-Z0-9_])+"),
        (
            {"VpcConfig": {"SubnetIds": ["net-1"], "SecurityGroupIds": ["sg-1"]}},
            "regular expression pattern: subnet-[0-9a-z]*",
        ),
    ],
)
def test_what_the_service_model_forbids_is_a_validation_error(platform, changes, text):
    # Over plain boto3 with its own checks off, so that the platform has to find it.
    unchecked = boto3.client(
        "lambda",
        endpoint_url=platform.url,
        region_name="us-east-1",
        aws_access_key_id="t",
        aws_secret_access_key="t",
        config=botocore.config.Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        create(unchecked, "refused", **changes)
    error = caught.value.response
    assert (error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]) == (400, "ValidationException")
    assert text in error["Error"]["Message"] and error["Error"]["Message"].startswith("1 validation error detected: ")


def test_reserving_what_others_need_is_refused(client, echo):
    refusal = refused(
        client,
        "InvalidParameterValueException",
        client.put_function_concurrency,
        FunctionName=echo,
        ReservedConcurrentExecutions=901,
    )
    assert refusal["Error"]["Message"] == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100]."
    )


def test_what_is_not_run_yet_is_refused_by_name(client, echo):
    for call, more in [(client.list_capacity_providers, None)]:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            call(**({} if more is None else {"FunctionName": echo} | more))
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 501
        assert response["Error"]["Code"] == "NotImplementedException" and "Onrush" in response["Error"]["Message"]


def test_account_settings_tell_the_limits(client):
    settings = client.get_account_settings()
    assert settings["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert settings["AccountLimit"]["CodeSizeUnzipped"] == 262_144_000
    assert settings["AccountUsage"]["FunctionCount"] >= 1


def test_a_function_url_made_by_the_sdk_answers(client, platform):
    name = platform.create("with-url", packages.built("echo"))
    made = client.create_function_url_config(FunctionName=name, AuthType="NONE")
    host = made["FunctionUrl"].split("/")[2]
    answer = platform.request("GET", "/a/b?c=d", headers={"Host": host})
    assert answer.status == 200 and answer.json()["rawPath"] == "/a/b", answer
    client.delete_function_url_config(FunctionName=name)
    assert platform.request("GET", "/", headers={"Host": host}).status == 403


def rename(changes):
    """`create` calls the function's name `name`."""
    return {("name" if key == "FunctionName" else key): value for key, value in changes.items()}
