"""Answers that were recorded on AWS, word for word: tags, layers, policies, settings of events, lists, revisions."""

import json

import boto3
import botocore.config
import pytest

from support import packages
from support.platform import ROLE

NAME = "recorded"
ARN = f"arn:aws:lambda:us-east-1:000000000000:function:{NAME}"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer"


@pytest.fixture(scope="module")
def client(platform):
    """boto3 without its own checks: what is wrong is to be found by the platform."""
    config = botocore.config.Config(parameter_validation=False, retries={"total_max_attempts": 1})
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("lambda", endpoint_url=platform.url, region_name="us-east-1", config=config, **keys)


@pytest.fixture(scope="module")
def function(platform, client):
    platform.create(NAME, packages.built("echo"), Publish=True)
    platform.create("other", packages.built("echo"))
    client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1")
    for layer in ("words", "signs"):
        for _ in range(2):
            client.publish_layer_version(LayerName=layer, Content={"ZipFile": packages.package({"a": "a"})})
    return NAME


def refused(client, exception, call, /, **arguments):
    with pytest.raises(client.exceptions.ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    assert response["Error"]["Code"] == exception, response
    return response["Error"]["Message"]


# ---- Tags ---------------------------------------------------------------------------------------------------------

INVALID, MISSING, MODEL = "InvalidParameterValueException", "ResourceNotFoundException", "ValidationException"
TOO_MANY = "Number of tags exceeds resource tag limit."


def test_tags_are_refused_in_lambdas_words(client, function):
    tag = client.tag_resource
    assert refused(client, INVALID, tag, Resource=ARN, Tags={str(n): "" for n in range(51)}) == TOO_MANY
    assert refused(client, INVALID, tag, Resource=ARN, Tags={}) == "An error occurred and the request cannot be processed."
    assert refused(client, INVALID, tag, Resource=f"{ARN}:live", Tags={"a": "b"}) == (
        "Tags on function aliases and versions are not supported. Please specify a function ARN."
    )
    assert refused(client, MISSING, tag, Resource=f"{ARN}-none", Tags={"a": "b"}) == f"Function not found: {ARN}-none"
    assert refused(client, MODEL, client.untag_resource, Resource=ARN, TagKeys=[]) == (
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"
    )
    assert refused(client, MODEL, tag, Resource=ARN, Tags={"Creator": "9,X"}) == (
        "1 validation error detected: Value '{Creator=9,X}' at 'tags' failed to satisfy constraint: Map value must satisfy "
        "constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to 0, "
        r"Member must satisfy regular expression pattern: ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$]"
    )
    for bad in ("arn:aws:something", NAME, "arn:aws:sqs:us-east-1:000000000000:queue"):
        assert refused(client, MODEL, tag, Resource=bad, Tags={"a": "b"}).startswith(
            f"1 validation error detected: Value '{bad}' at 'resource' failed to satisfy constraint: Member must satisfy regular "
        )
    assert client.list_tags(Resource=ARN)["Tags"] == {}
    good = {"Käse und Brot": "_.:/=+-@ 7 ½", "aw": "aws:"}
    client.tag_resource(Resource=ARN, Tags=good)
    assert client.list_tags(Resource=ARN)["Tags"] == good
    client.untag_resource(Resource=ARN, TagKeys=[*good])


@pytest.mark.parametrize("key", ["aws:cloudformation:stack-name", "AWS:x", "aWs:"])
def test_the_prefix_of_awss_own_tags_is_refused_wherever_tags_are_given(client, function, key):
    words = "aws: prefixed tag key names are not allowed for external use."
    tags = {"Tags": {key: "x"}}
    assert refused(client, INVALID, client.tag_resource, Resource=ARN, **tags) == words
    made = {"Runtime": "provided.al2023", "Role": ROLE, "Handler": "bootstrap", "Code": {"ZipFile": packages.built("echo")}}
    assert refused(client, INVALID, client.create_function, FunctionName="tagged", **made, **tags) == words
    refused(client, MISSING, client.get_function, FunctionName="tagged")
    publishers = {"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/a/abcdefghij"]}
    assert refused(client, INVALID, client.create_code_signing_config, AllowedPublishers=publishers, **tags) == words
    assert client.list_tags(Resource=ARN)["Tags"] == {}


# ---- Layers -------------------------------------------------------------------------------------------------------


def layers(client, *arns):
    return refused(client, INVALID, client.update_function_configuration, FunctionName=NAME, Layers=list(arns))


def test_a_layer_counts_once_and_comes_from_the_functions_own_region(client, function):
    for second in (f"{LAYER}:words:2", f"{LAYER}:words:1"):
        assert layers(client, f"{LAYER}:words:1", f"{LAYER}:signs:1", second) == (
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{LAYER}:words:1 and {second} are versions of the same layer."
        )
    far = LAYER.replace("us-east-1", "eu-west-1")
    assert layers(client, f"{far}:words:1") == (
        "Layers are not in the same region as the function. Layers are expected to be in region us-east-1."
    )
    assert layers(client, f"{LAYER}:words:9") == f"Layer version {LAYER}:words:9 does not exist."
    awss = "arn:aws:lambda:::awslayer:AmazonLinux1803"
    assert layers(client, awss) == f"Layer version {awss} does not exist."
    assert layers(client, *[f"{LAYER}:l{n}:1" for n in range(6)]) == "Cannot reference more than 5 layers."
    unnumbered = refused(client, MODEL, client.update_function_configuration, FunctionName=NAME, Layers=[f"{LAYER}:words"])
    assert f"Value '[{LAYER}:words]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: [" in unnumbered
    client.update_function_configuration(FunctionName=NAME, Layers=[f"{LAYER}:words:1", f"{LAYER}:signs:2"])
    client.update_function_configuration(FunctionName=NAME, Layers=[])


def test_layer_versions_and_their_policies_are_missed_in_words_of_their_own(client, function):
    version = {"LayerName": "words", "VersionNumber": 1}
    for number in (0, -1):
        for call in (client.get_layer_version, client.delete_layer_version):
            assert refused(client, INVALID, call, **version | {"VersionNumber": number}) == "Layer Version Cannot be less than 1"
    assert refused(client, MISSING, client.get_layer_version, **version | {"VersionNumber": 7}) == (
        "The resource you requested does not exist."
    )
    statement = {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}
    for missing in ({"LayerName": "none"}, {"VersionNumber": 7}):
        asked = version | missing
        said = f"Layer version {LAYER}:{asked['LayerName']}:{asked['VersionNumber']} does not exist."
        assert refused(client, MISSING, client.get_layer_version_policy, **asked) == said
        assert refused(client, MISSING, client.add_layer_version_permission, **asked, **statement) == said
        assert refused(client, MISSING, client.remove_layer_version_permission, **asked, StatementId="s") == said
    assert refused(client, MISSING, client.get_layer_version_policy, **version) == (
        "No policy is associated with the given resource."
    )


# ---- Policies and revisions ---------------------------------------------------------------------------------------

STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)


def test_a_policy_goes_by_the_revision_of_what_it_is_for(client, function):
    said = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    latest = client.get_function_configuration(FunctionName=NAME)["RevisionId"]
    alias = client.get_alias(FunctionName=NAME, Name="live")["RevisionId"]
    assert refused(client, MISSING, client.get_policy, FunctionName=NAME) == "The resource you requested does not exist."
    assert refused(client, MISSING, client.remove_permission, FunctionName=NAME, StatementId="s3") == (
        "No policy is associated with the given resource."
    )
    none = ARN[: -len(NAME)] + "none"
    assert refused(client, MISSING, client.get_policy, FunctionName="none") == f"Function not found: {none}"
    assert refused(client, MISSING, client.remove_permission, FunctionName="none", StatementId="s3") == (
        f"No policy found for: {none}"
    )
    for qualifier in ("42", "none"):
        asked = {"FunctionName": NAME, "Qualifier": qualifier}
        assert refused(client, MISSING, client.get_policy, **asked) == "The resource you requested does not exist."
        words = f"Function not found: {ARN}:42" if qualifier == "42" else f"Cannot find alias arn: {ARN}:none"
        assert refused(client, MISSING, client.add_permission, **asked, **said) == words
        assert refused(client, MISSING, client.remove_permission, **asked, StatementId="s3") == words
    for nobody in ("invalid.nonaws.com", "cart", "two words", ""):
        assert refused(client, INVALID, client.add_permission, FunctionName=NAME, **said | {"Principal": nobody}) == (
            "The provided principal was invalid. Please check the principal and try again."
        )
    stale = {"FunctionName": NAME, "RevisionId": "stale"}
    assert refused(client, "PreconditionFailedException", client.add_permission, **stale, **said) == STALE
    live = {"FunctionName": NAME, "Qualifier": "live"}
    assert refused(client, "PreconditionFailedException", client.add_permission, **live, RevisionId=latest, **said) == STALE
    client.add_permission(FunctionName=NAME, RevisionId=latest, **said)
    client.add_permission(**live, RevisionId=alias, **said)
    one = {"FunctionName": NAME, "Qualifier": "1"}
    version = client.get_function_configuration(**one)["RevisionId"]
    client.add_permission(**one, RevisionId=version, **said)
    assert client.get_policy(**one)["RevisionId"] == client.get_function_configuration(**one)["RevisionId"] != version
    late = {"StatementId": "s3", "RevisionId": version}
    assert refused(client, "PreconditionFailedException", client.remove_permission, **one, **late) == STALE
    client.remove_permission(**one, StatementId="s3")
    policy = client.get_policy(FunctionName=NAME)
    assert policy["RevisionId"] == client.get_function_configuration(FunctionName=NAME)["RevisionId"] != latest
    of_alias = client.get_policy(**live)
    assert of_alias["RevisionId"] == client.get_alias(FunctionName=NAME, Name="live")["RevisionId"] != alias
    assert client.get_policy(FunctionName=NAME)["RevisionId"] == policy["RevisionId"], "the function's is its own"
    assert json.loads(of_alias["Policy"])["Statement"][0]["Resource"] == f"{ARN}:live"
    assert refused(client, MISSING, client.remove_permission, FunctionName=NAME, StatementId="non-existent") == (
        "Statement non-existent is not found in resource policy."
    )
    assert refused(client, "PreconditionFailedException", client.remove_permission, **stale, StatementId="s3") == STALE
    client.remove_permission(**live, StatementId="s3", RevisionId=of_alias["RevisionId"])
    assert client.get_alias(FunctionName=NAME, Name="live")["RevisionId"] != of_alias["RevisionId"]
    client.remove_permission(FunctionName=NAME, StatementId="s3")
    assert refused(client, MISSING, client.get_policy, FunctionName=NAME) == "The resource you requested does not exist."


def test_what_changes_a_function_changes_its_revision(client, function):
    def revision():
        return client.get_function_configuration(FunctionName=NAME)["RevisionId"]

    before = revision()
    client.tag_resource(Resource=ARN, Tags={"team": "cart"})
    tagged = revision()
    client.untag_resource(Resource=ARN, TagKeys=["team"])
    untagged = revision()
    client.update_function_configuration(FunctionName=NAME, Description="second")
    changed = revision()
    version = client.publish_version(FunctionName=NAME)
    published = revision()
    client.create_alias(FunctionName=NAME, Name="beside", FunctionVersion="1")
    client.update_alias(FunctionName=NAME, Name="beside", FunctionVersion="2")
    client.put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=5)
    client.put_function_event_invoke_config(FunctionName=NAME, MaximumRetryAttempts=0)
    assert revision() == published, "what stands beside a function does not disturb who locks it"
    for call in (client.delete_function_concurrency, client.delete_function_event_invoke_config):
        call(FunctionName=NAME)
    client.delete_alias(FunctionName=NAME, Name="beside")
    assert len({before, tagged, untagged, changed, version["RevisionId"], published}) == 6
    assert client.get_function_configuration(FunctionName=NAME, Qualifier="2")["RevisionId"] == version["RevisionId"]


# ---- Provisioned concurrency --------------------------------------------------------------------------------------


def test_an_alias_stays_where_its_provisioned_concurrency_can_be_had(client, function):
    """It would be in progress for ever."""
    client.create_alias(FunctionName=NAME, Name="ready", FunctionVersion="1")
    client.put_provisioned_concurrency_config(FunctionName=NAME, Qualifier="ready", ProvisionedConcurrentExecutions=1)
    assert refused(client, INVALID, client.update_alias, FunctionName=NAME, Name="ready", FunctionVersion="$LATEST") == (
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    )
    client.update_function_configuration(FunctionName=NAME, Description="provisioned")
    version = client.publish_version(FunctionName=NAME)["Version"]
    client.put_provisioned_concurrency_config(FunctionName=NAME, Qualifier=version, ProvisionedConcurrentExecutions=1)
    assert refused(
        client, "ResourceConflictException", client.update_alias, FunctionName=NAME, Name="ready", FunctionVersion=version
    ) == "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
    assert client.get_alias(FunctionName=NAME, Name="ready")["FunctionVersion"] == "1"
    client.delete_provisioned_concurrency_config(FunctionName=NAME, Qualifier=version)
    client.update_alias(FunctionName=NAME, Name="ready", FunctionVersion=version)
    client.delete_alias(FunctionName=NAME, Name="ready")


# ---- Function URLs ------------------------------------------------------------------------------------------------


def test_urls_of_what_is_not_there_are_missed_in_words_of_their_own(client, function):
    no_function, no_resource = "Function does not exist", "The resource you requested does not exist."
    for missing in ({"FunctionName": "none"}, {"FunctionName": NAME, "Qualifier": "none"}):
        assert refused(client, MISSING, client.create_function_url_config, AuthType="NONE", **missing) == no_function
        assert refused(client, MISSING, client.update_function_url_config, AuthType="NONE", **missing) == no_function
        assert refused(client, MISSING, client.get_function_url_config, **missing) == no_resource
        assert refused(client, MISSING, client.delete_function_url_config, **missing) == no_resource
    assert refused(client, MISSING, client.list_function_url_configs, FunctionName="none") == no_function
    assert refused(client, MISSING, client.update_function_url_config, FunctionName=NAME, AuthType="NONE") == no_resource
    for member, words in (("AuthType", "NONE, AWS_IAM"), ("InvokeMode", "BUFFERED, RESPONSE_STREAM")):
        asked = {"FunctionName": NAME, "AuthType": "NONE"} | {member: "Nope"}
        assert refused(client, MODEL, client.create_function_url_config, **asked) == (
            f"1 validation error detected: Value 'Nope' at '{member[0].lower()}{member[1:]}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{words}]"
        )
    for version in ("1", "$LATEST"):
        said = refused(client, MODEL, client.create_function_url_config, FunctionName=NAME, Qualifier=version, AuthType="NONE")
        assert said == (
            f"1 validation error detected: Value '{version}' at 'qualifier' failed to satisfy constraint: Member must satisfy "
            r"regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)"
        )


# ---- Settings of events -------------------------------------------------------------------------------------------


def test_settings_of_events_are_refused_in_lambdas_words(client, function):
    put, update = client.put_function_event_invoke_config, client.update_function_event_invoke_config
    for call in (put, update):
        gone = refused(client, MISSING, call, FunctionName="none", MaximumRetryAttempts=0)
        assert gone == "The function doesn't exist.", call
        gone = refused(client, MISSING, call, FunctionName=NAME, Qualifier="none", MaximumRetryAttempts=0)
        assert gone == "The function doesn't exist.", call
    assert refused(client, MISSING, client.list_function_event_invoke_configs, FunctionName="none") == (
        "The function doesn't exist."
    )
    elsewhere = f"{ARN[: -len(NAME)]}none"
    for call in (client.get_function_event_invoke_config, client.delete_function_event_invoke_config):
        assert refused(client, MISSING, call, FunctionName="none") == (
            f"The function {elsewhere}:$LATEST doesn't have an EventInvokeConfig"
        )
        assert refused(client, MISSING, call, FunctionName=NAME, Qualifier="none") == (
            f"The function {ARN}:none doesn't have an EventInvokeConfig"
        )
    assert refused(client, MISSING, update, FunctionName=NAME, MaximumRetryAttempts=0) == (
        f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig"
    )
    assert refused(client, INVALID, put, FunctionName=NAME) == (
        "You must specify at least one of error handling or destination setting."
    )

    def destination(side, arn):
        return refused(client, INVALID, put, FunctionName=NAME, DestinationConfig={side: {"Destination": arn}})

    assert destination("OnSuccess", elsewhere) == f"The destination ARN {elsewhere} is invalid."
    # The whole ARN counts: what is here in another version, Region or account is not what it names.
    there = f"{ARN[: -len(NAME)]}other"
    for gone in (f"{there}:nope", there.replace("us-east-1", "eu-west-1"), ARN.replace(":000000000000:", ":999999999999:")):
        assert destination("OnSuccess", gone) == f"The destination ARN {gone} is invalid."
    for own in (ARN, f"{ARN}:live"):
        assert destination("OnFailure", own) == "You can't specify the function as a destination for itself."
    role = "arn:aws:iam:us-east-1:000000000000:function:x"
    assert destination("OnSuccess", role) == (
        f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={role}), onFailure=null) is invalid."
    )
    assert "onSuccess=OnSuccess(destination=arn:aws:s3:::done)" in destination("OnSuccess", "arn:aws:s3:::done")
    for service in ("sqs", "sns"):
        fifo = f"arn:aws:{service}:us-east-1:000000000000:letters.fifo"
        assert f"onFailure=OnFailure(destination={fifo})) is invalid." in destination("OnFailure", fifo)
        for letters in (fifo, elsewhere, "arn:aws:s3:::letters"):
            said = refused(
                client, INVALID, client.update_function_configuration, FunctionName=NAME, DeadLetterConfig={"TargetArn": letters}
            )
            assert said.startswith(f"The provided dead letter target {letters} is invalid: "), said
    other = f"{ARN[: -len(NAME)]}other"
    both = {"OnSuccess": {"Destination": other}, "OnFailure": {"Destination": "arn:aws:s3:::failed"}}
    assert put(FunctionName=NAME, DestinationConfig=both)["DestinationConfig"] == both
    client.delete_function_event_invoke_config(FunctionName=NAME)


# ---- Shapes -------------------------------------------------------------------------------------------------------


def test_lists_say_nothing_of_how_functions_fare(client, function):
    """A test that looks for `State` in a list would pass here and fail on AWS."""
    lists = [
        *client.list_functions(FunctionVersion="ALL")["Functions"],
        *client.list_functions()["Functions"],
        *client.list_versions_by_function(FunctionName=NAME)["Versions"],
    ]
    for shown in lists:
        left_out = ("State", "LastUpdateStatus", "RuntimeVersionConfig")
        assert not [member for member in shown if member.startswith(left_out)], shown
        assert shown["FunctionName"] and shown["LoggingConfig"]


def test_a_function_that_is_made_with_a_version_answers_under_its_own_arn(client, function):
    made = client.create_function(
        FunctionName="at-once", Runtime="provided.al2023", Role=ROLE, Handler="bootstrap", Publish=True,
        Code={"ZipFile": packages.built("echo")},
    )
    assert (made["Version"], made["FunctionArn"]) == ("1", f"{ARN[: -len(NAME)]}at-once")


def test_architectures_and_reservations_are_refused_in_lambdas_words(client, function):
    code = packages.built("echo")
    start = "1 validation error detected: Value '%s' at 'architectures' failed to satisfy constraint: "
    for asked, words in (
        (["x86_64", "arm64"], "Member must have length less than or equal to 1"),
        (
            ["X86_64"],
            "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
    ):
        said = refused(client, MODEL, client.update_function_code, FunctionName=NAME, ZipFile=code, Architectures=asked)
        assert said == start % f"[{', '.join(asked)}]" + words
    assert refused(client, MISSING, client.put_function_concurrency, FunctionName="none", ReservedConcurrentExecutions=1) == (
        f"Function not found: {ARN[: -len(NAME)]}none:$LATEST"
    )


def test_no_variables_are_shown_where_somebody_said_so(client, function):
    def shown():
        return client.get_function_configuration(FunctionName=NAME).get("Environment")

    assert shown() is None
    client.update_function_configuration(FunctionName=NAME, Environment={"Variables": {"STAGE": "test"}})
    assert shown() == {"Variables": {"STAGE": "test"}}
    client.update_function_configuration(FunctionName=NAME, Environment={"Variables": {}})
    assert shown() == {"Variables": {}}
    client.update_function_configuration(FunctionName=NAME, Description="no word of variables")
    assert shown() == {"Variables": {}}


def test_a_service_that_is_not_here_is_named(platform):
    keys = {"region_name": "us-east-1", "aws_access_key_id": "t", "aws_secret_access_key": "t"}
    config = botocore.config.Config(retries={"total_max_attempts": 1})
    logs = boto3.client("logs", endpoint_url=platform.url, config=config, **keys)
    with pytest.raises(logs.exceptions.ClientError, match="CloudWatch Logs is not run here: `onrush logs FUNCTION -f`"):
        logs.describe_log_groups()
    queues = boto3.client("sqs", endpoint_url=platform.url, config=config, **keys)
    with pytest.raises(queues.exceptions.ClientError, match="the service sqs is not run here"):
        queues.list_queues()


def test_the_auth_type_of_a_url_goes_with_the_permission_to_call_urls_alone(client, function):
    public = {"FunctionName": NAME, "Principal": "*", "FunctionUrlAuthType": "NONE"}
    invoke = {"StatementId": "invoke", "Action": "lambda:InvokeFunction"}
    words = "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"
    assert refused(client, INVALID, client.add_permission, **public, **invoke) == words
    client.add_permission(**public, StatementId="url", Action="lambda:InvokeFunctionUrl")
    client.remove_permission(FunctionName=NAME, StatementId="url")
