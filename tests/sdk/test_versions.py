"""Versions and aliases through boto3: what is published never changes, weights share, waiters pass, kill -9 loses nothing."""

import collections
import json

import botocore.exceptions
import pytest

from support import packages

WAIT = {"Delay": 0.1, "MaxAttempts": 50}


@pytest.fixture(scope="module")
def client(platform):
    return platform.client()


def wave(client, **arguments):
    """Which wave of the function answers, and as which version it was run."""
    answer = client.invoke(FunctionName="waves", Payload=b'{"do": "env"}', **arguments)
    return json.loads(answer["Payload"].read())["seen"]["WAVE"], answer["ExecutedVersion"]


@pytest.fixture(scope="module")
def waves(client, platform):
    """A function with versions 1 (one), 2 (two) and $LATEST (three)."""
    platform.create("waves", packages.built("rogue"), variables={"WAVE": "one"})
    for name in ["two", "three"]:
        made = client.publish_version(FunctionName="waves")
        client.get_waiter("published_version_active").wait(
            FunctionName="waves", Qualifier=made["Version"], WaiterConfig=WAIT
        )
        client.update_function_configuration(FunctionName="waves", Environment={"Variables": {"WAVE": name}})
        client.get_waiter("function_updated_v2").wait(FunctionName="waves", WaiterConfig=WAIT)
    return "waves"


def test_each_version_runs_what_was_published(client, waves):
    assert wave(client) == ("three", "$LATEST")
    assert wave(client, Qualifier="1") == ("one", "1")
    assert wave(client, Qualifier="2") == ("two", "2")
    # Each had a warm environment of its own to come back to.
    answer = client.invoke(FunctionName="waves:1", Payload=b'{"do": "env"}')
    assert json.loads(answer["Payload"].read())["count"] == 2


def test_an_alias_follows_its_version(client, waves):
    client.create_alias(FunctionName=waves, Name="prod", FunctionVersion="1")
    assert wave(client, Qualifier="prod") == ("one", "1")
    client.update_alias(FunctionName=waves, Name="prod", FunctionVersion="2")
    assert wave(client, Qualifier="prod") == ("two", "2")
    shown = client.get_function(FunctionName=waves, Qualifier="prod")["Configuration"]
    assert shown["FunctionArn"].endswith(":waves:prod") and shown["Version"] == "2"
    client.delete_alias(FunctionName=waves, Name="prod")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        wave(client, Qualifier="prod")


def test_weights_share_invocations(client, waves):
    routing = {"AdditionalVersionWeights": {"2": 0.25}}
    client.create_alias(FunctionName=waves, Name="canary", FunctionVersion="1", RoutingConfig=routing)
    ran = collections.Counter(wave(client, Qualifier="canary")[1] for _ in range(200))
    # 50 expected, standard deviation 6.1: outside this once in 10^12 runs.
    assert 7 <= ran["2"] <= 93 and ran["1"] == 200 - ran["2"]
    client.update_alias(FunctionName=waves, Name="canary", RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}})
    assert {wave(client, Qualifier="canary")[1] for _ in range(20)} == {"2"}


def test_a_version_counts_in_the_functions_reservation(client, platform, waves):
    client.put_function_concurrency(FunctionName=waves, ReservedConcurrentExecutions=0)
    for qualifier in ["$LATEST", "1", "canary"]:
        with pytest.raises(client.exceptions.TooManyRequestsException):
            wave(client, Qualifier=qualifier)
    client.delete_function_concurrency(FunctionName=waves)
    assert wave(client, Qualifier="1") == ("one", "1")


def test_publishing_with_the_code_answers_the_version(client, platform):
    platform.create("at-once", packages.built("echo"), Publish=True)
    made = client.update_function_code(FunctionName="at-once", ZipFile=packages.built("rogue"), Publish=True)
    assert (made["Version"], made["FunctionArn"][-2:]) == ("2", ":2")
    listed = client.list_versions_by_function(FunctionName="at-once")["Versions"]
    assert [version["Version"] for version in listed] == ["$LATEST", "1", "2"]
    assert listed[0]["CodeSha256"] == listed[2]["CodeSha256"] != listed[1]["CodeSha256"]
    dry = client.update_function_code(FunctionName="at-once", ZipFile=packages.built("echo"), DryRun=True)
    assert dry["CodeSha256"] == listed[1]["CodeSha256"]
    assert client.get_function_configuration(FunctionName="at-once")["CodeSha256"] == listed[2]["CodeSha256"]


def test_a_version_that_an_alias_stands_for_stays(client, waves):
    with pytest.raises(client.exceptions.ResourceConflictException) as caught:
        client.delete_function(FunctionName=waves, Qualifier="1")
    words = "Unable to delete version because the following aliases reference it: [canary]"
    assert caught.value.response["Error"]["Message"] == words
    # One that is not there is deleted already.
    assert client.delete_function(FunctionName=waves, Qualifier="99")["StatusCode"] == 204
    with pytest.raises(client.exceptions.InvalidParameterValueException) as caught:
        client.delete_function(FunctionName=waves, Qualifier="$LATEST")
    message = "$LATEST version cannot be deleted without deleting the function."
    assert caught.value.response["Error"]["Message"] == message
    with pytest.raises(botocore.exceptions.ClientError):
        client.publish_version(FunctionName=waves, RevisionId="stale")


def test_versions_and_aliases_survive_being_killed(start, tmp_path):
    platform = start(home=tmp_path)
    platform.create("kept", packages.built("rogue"), variables={"WAVE": "one"})
    client = platform.client()
    client.publish_version(FunctionName="kept", Description="first")
    client.create_alias(FunctionName="kept", Name="live", FunctionVersion="1", Description="as announced")
    client.update_function_configuration(FunctionName="kept", Environment={"Variables": {"WAVE": "two"}})
    before = client.get_alias(FunctionName="kept", Name="live")
    old = platform.kill()
    client = start(home=tmp_path).client()
    assert not (left := old.wait_gone(5, successor=True)), left
    after = client.get_alias(FunctionName="kept", Name="live")
    assert {**after, "ResponseMetadata": None} == {**before, "ResponseMetadata": None}
    answer = client.invoke(FunctionName="kept", Qualifier="live", Payload=b'{"do": "env"}')
    assert (json.loads(answer["Payload"].read())["seen"]["WAVE"], answer["ExecutedVersion"]) == ("one", "1")
