"""Provisioned concurrency, layers, policies, events' settings and what is stored only, through boto3."""

import json
import time

import pytest

from support import packages

NAME = "settings"


@pytest.fixture(scope="module")
def client(platform):
    return platform.client()


@pytest.fixture(scope="module")
def function(client, platform):
    """A function with version 1 and the alias `live` of it."""
    platform.create(NAME, packages.built("rogue"), variables={"WAVE": "one"}, Publish=True)
    client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1")
    return NAME


def refused(client, exception, call, /, **arguments):
    with pytest.raises(getattr(client.exceptions, exception)) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Message"]


def ready(client, qualifier):
    """The configuration once it is READY."""
    for _ in range(300):
        found = client.get_provisioned_concurrency_config(FunctionName=NAME, Qualifier=qualifier)
        assert found["Status"] != "FAILED", found
        if found["Status"] == "READY":
            return found
        time.sleep(0.05)
    pytest.fail(f"not ready: {found}")


def test_provisioned_environments_are_initialised_ahead_and_spill_over(client, platform, function):
    made = client.put_provisioned_concurrency_config(
        FunctionName=function, Qualifier="live", ProvisionedConcurrentExecutions=2
    )
    assert (made["ResponseMetadata"]["HTTPStatusCode"], made["Status"]) == (202, "IN_PROGRESS")
    assert made["AllocatedProvisionedConcurrentExecutions"] == 0
    found = ready(client, "live")
    assert (found["AllocatedProvisionedConcurrentExecutions"], found["AvailableProvisionedConcurrentExecutions"]) == (2, 2)
    colds = platform.metric("cold_starts", function)
    answer = client.invoke(FunctionName=function, Qualifier="live", Payload=b'{"do": "env"}')
    seen = json.loads(answer["Payload"].read())["seen"]
    assert seen["AWS_LAMBDA_INITIALIZATION_TYPE"] == "provisioned-concurrency"
    assert (answer["ExecutedVersion"], platform.metric("cold_starts", function)) == ("1", colds)
    # The version itself is not what was provisioned, and runs on demand.
    answer = client.invoke(FunctionName=function, Qualifier="1", Payload=b'{"do": "env"}')
    assert json.loads(answer["Payload"].read())["seen"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    row = platform.limit("lambda.provisioned-concurrency", "settings:live")
    assert (row["max"], row["peak"], row["refused"]) == (2, 1, 0)
    metrics = platform.request("GET", "/_onrush/metrics").body.decode()
    labels = f'{{function="{function}",qualifier="live"}}'
    assert f"onrush_provisioned_concurrency_invocations_total{labels} 1\n" in metrics, metrics
    assert f"onrush_provisioned_concurrency_spillover_invocations_total{labels} 0\n" in metrics
    assert f"onrush_provisioned_concurrency_utilization{labels} 0\n" in metrics
    listed = client.list_provisioned_concurrency_configs(FunctionName=function)["ProvisionedConcurrencyConfigs"]
    assert [one["FunctionArn"][-5:] for one in listed] == [":live"]


def test_provisioned_concurrency_is_refused_in_aws_words(client, function):
    put = client.put_provisioned_concurrency_config
    assert refused(
        client, "InvalidParameterValueException", put,
        FunctionName=function, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1,
    ) == "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    assert refused(
        client, "ResourceConflictException", put,
        FunctionName=function, Qualifier="1", ProvisionedConcurrentExecutions=1,
    ) == "Version is pointed by a Provisioned Concurrency alias"
    assert "below its minimum value of [100]" in refused(
        client, "InvalidParameterValueException", put,
        FunctionName=function, Qualifier="live", ProvisionedConcurrentExecutions=901,
    )
    assert refused(
        client, "InvalidParameterValueException", client.put_function_concurrency,
        FunctionName=function, ReservedConcurrentExecutions=1,
    ) == " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2]."
    assert refused(
        client, "ResourceNotFoundException", put,
        FunctionName=function, Qualifier="7", ProvisionedConcurrentExecutions=1,
    ).endswith(":settings:7")
    client.delete_provisioned_concurrency_config(FunctionName=function, Qualifier="live")
    assert refused(
        client, "ProvisionedConcurrencyConfigNotFoundException", client.get_provisioned_concurrency_config,
        FunctionName=function, Qualifier="live",
    ) == "No Provisioned Concurrency Config found for this function"
    answer = client.invoke(FunctionName=function, Qualifier="live", Payload=b'{"do": "env"}')
    assert json.loads(answer["Payload"].read())["seen"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"


def test_an_init_that_fails_makes_it_failed(client, platform):
    platform.create("broken", packages.package({"bootstrap": ("#!/bin/sh\nexit 1\n", 0o755)}), Publish=True)
    client.put_provisioned_concurrency_config(
        FunctionName="broken", Qualifier="1", ProvisionedConcurrentExecutions=1
    )
    for _ in range(300):
        found = client.get_provisioned_concurrency_config(FunctionName="broken", Qualifier="1")
        if found["Status"] != "IN_PROGRESS":
            break
        time.sleep(0.05)
    assert (found["Status"], found["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    client.delete_provisioned_concurrency_config(FunctionName="broken", Qualifier="1")


def test_a_layer_is_published_used_and_kept_by_its_users(client, platform):
    content = {"ZipFile": packages.package({"words.txt": ("from the layer", 0o644)})}
    made = client.publish_layer_version(
        LayerName="words", Content=content, CompatibleRuntimes=["provided.al2023"], Description="first"
    )
    assert (made["Version"], made["LayerVersionArn"]) == (1, made["LayerArn"] + ":1")
    assert client.publish_layer_version(LayerName="words", Content=content)["Version"] == 2
    platform.create("reader", packages.built("rogue"), Layers=[made["LayerVersionArn"]])
    answer = client.invoke(FunctionName="reader", Payload=b'{"do": "read", "path": "/opt/words.txt"}')
    assert "from the layer" in answer["Payload"].read().decode()
    found = client.get_layer_version_by_arn(Arn=made["LayerVersionArn"])
    assert (found["Content"]["CodeSha256"], found["Description"]) == (made["Content"]["CodeSha256"], "first")
    assert [layer["LatestMatchingVersion"]["Version"] for layer in client.list_layers()["Layers"]] == [2]
    matching = client.list_layers(CompatibleRuntime="provided.al2023")["Layers"]
    assert [layer["LatestMatchingVersion"]["Version"] for layer in matching] == [1]
    versions = client.list_layer_versions(LayerName="words")["LayerVersions"]
    assert [version["Version"] for version in versions] == [2, 1]
    added = client.add_layer_version_permission(
        LayerName="words", VersionNumber=1, StatementId="all", Action="lambda:GetLayerVersion", Principal="*"
    )
    policy = client.get_layer_version_policy(LayerName="words", VersionNumber=1)
    assert json.loads(policy["Policy"])["Statement"] == [json.loads(added["Statement"])]
    client.remove_layer_version_permission(LayerName="words", VersionNumber=1, StatementId="all")
    client.delete_layer_version(LayerName="words", VersionNumber=1)
    assert refused(
        client, "ResourceNotFoundException", client.get_layer_version, LayerName="words", VersionNumber=1
    ) == "The resource you requested does not exist."
    answer = client.invoke(FunctionName="reader", Payload=b'{"do": "read", "path": "/opt/words.txt"}')
    assert "from the layer" in answer["Payload"].read().decode()
    assert "does not exist" in refused(
        client, "InvalidParameterValueException", client.update_function_configuration,
        FunctionName="reader", Layers=[made["LayerVersionArn"]],
    )


def test_code_and_layers_are_not_too_large_together(client, platform):
    def zeros(megabytes):
        return packages.package({"zeros": bytes(megabytes << 20), "bootstrap": ("", 0o755)})

    hundred = {"ZipFile": zeros(100)}
    a, b, c = (client.publish_layer_version(LayerName=f"large-{n}", Content=hundred)["LayerVersionArn"] for n in "abc")
    platform.create("large", packages.built("echo"), Layers=[a, b])
    change, combined = client.update_function_configuration, "Function code combined with layers exceeds the maximum allowed size of "
    for call, arguments, words in [
        (client.update_function_code, {"ZipFile": zeros(70)}, combined),
        (change, {"Layers": [a, b, c]}, "Layers consume more than the available size of 262144000 bytes"),
    ]:
        assert refused(client, "InvalidParameterValueException", call, FunctionName="large", **arguments).startswith(words)
    change(FunctionName="large", Layers=[a])
    client.update_function_code(FunctionName="large", ZipFile=zeros(70))
    said = refused(client, "InvalidParameterValueException", change, FunctionName="large", Layers=[a, b])
    assert said == combined + f"262144000 bytes. The actual size is {270 << 20} bytes."
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=combined):
        platform.create("larger", zeros(70), Layers=[a, b])
    assert [layer["Arn"] for layer in client.get_function_configuration(FunctionName="large")["Layers"]] == [a]


def test_policies_belong_to_a_function_a_version_or_an_alias(client, function):
    asked = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    client.add_permission(FunctionName=function, Qualifier="live", **asked)
    policy = json.loads(client.get_policy(FunctionName=function, Qualifier="live")["Policy"])
    assert policy["Statement"][0]["Resource"].endswith(":settings:live")
    refused(client, "ResourceNotFoundException", client.get_policy, FunctionName=function)
    assert refused(
        client, "InvalidParameterValueException", client.add_permission,
        FunctionName=function, Qualifier="$LATEST", **asked,
    ) == "We currently do not support adding policies for $LATEST."
    client.remove_permission(FunctionName=function, Qualifier="live", StatementId="s")
    refused(client, "ResourceNotFoundException", client.get_policy, FunctionName=function, Qualifier="live")


def test_settings_of_events_are_kept_by_qualifier(client, function):
    put = client.put_function_event_invoke_config(FunctionName=function, Qualifier="live", MaximumRetryAttempts=0)
    assert put["FunctionArn"].endswith(":settings:live") and put["MaximumRetryAttempts"] == 0
    updated = client.update_function_event_invoke_config(
        FunctionName=function, Qualifier="live", MaximumEventAgeInSeconds=60
    )
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (0, 60)
    listed = client.list_function_event_invoke_configs(FunctionName=function)["FunctionEventInvokeConfigs"]
    assert len(listed) == 1
    client.delete_function_event_invoke_config(FunctionName=function, Qualifier="live")
    refused(
        client, "ResourceNotFoundException", client.get_function_event_invoke_config,
        FunctionName=function, Qualifier="live",
    )


def test_what_is_stored_only_comes_back(client, function):
    assert client.get_runtime_management_config(FunctionName=function)["UpdateRuntimeOn"] == "Auto"
    client.put_runtime_management_config(FunctionName=function, UpdateRuntimeOn="FunctionUpdate")
    assert client.get_runtime_management_config(FunctionName=function)["UpdateRuntimeOn"] == "FunctionUpdate"
    assert client.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == "Terminate"
    client.put_function_recursion_config(FunctionName=function, RecursiveLoop="Allow")
    assert client.get_function_recursion_config(FunctionName=function)["RecursiveLoop"] == "Allow"
    profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/cart/abcdefghij"
    made = client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [profile]})
    arn = made["CodeSigningConfig"]["CodeSigningConfigArn"]
    client.tag_resource(Resource=arn, Tags={"team": "cart", "left": "over"})
    client.untag_resource(Resource=arn, TagKeys=["left"])
    assert client.list_tags(Resource=arn)["Tags"] == {"team": "cart"}
    assert "Tags" not in client.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"]
    client.put_function_code_signing_config(FunctionName=function, CodeSigningConfigArn=arn)
    assert client.get_function_code_signing_config(FunctionName=function)["CodeSigningConfigArn"] == arn
    client.delete_function_code_signing_config(FunctionName=function)
    assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(FunctionName=function)
    for asked in ({}, {"FunctionName": function}, {"FunctionName": "nobody"}):
        assert client.list_event_source_mappings(**asked)["EventSourceMappings"] == []
