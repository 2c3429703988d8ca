"""Every operation of Lambda's service model, as it ships inside botocore, through boto3 and over raw HTTP: what is valid
works or is among the refused; each required member left out, of the wrong type, too long or against its pattern, and each
name of nothing, is refused with an error of the model's; every answer has the shape that the model says."""

import contextlib
import json
import re
import urllib.parse

import botocore.exceptions
import botocore.session
import botocore.validate
import pytest

from support import packages
from support.platform import ROLE

MODEL = botocore.session.get_session().get_service_model("lambda")
WAIT = {"Delay": 0.1, "MaxAttempts": 50}
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abc"
NOWHERE = "arn:aws:sqs:us-east-1:000000000000:nowhere"

# What docs/api.md calls refused: Onrush has nothing that could run it.
REFUSED = {
    "CheckpointDurableExecution", "CreateCapacityProvider", "CreateEventSourceMapping", "DeleteCapacityProvider",
    "DeleteDurableExecution", "DeleteEventSourceMapping", "DeleteResourcePolicy", "GetCapacityProvider",
    "GetDurableExecution", "GetDurableExecutionHistory", "GetDurableExecutionState", "GetEventSourceMapping",
    "GetFunctionScalingConfig", "GetResourcePolicy", "ListCapacityProviders", "ListDurableExecutionsByFunction",
    "ListFunctionVersionsByCapacityProvider", "PauseDurableExecution", "PutFunctionScalingConfig", "PutResourcePolicy",
    "ResumeDurableExecution", "SendDurableExecutionCallbackFailure", "SendDurableExecutionCallbackHeartbeat",
    "SendDurableExecutionCallbackSuccess", "StopDurableExecution", "UpdateCapacityProvider", "UpdateEventSourceMapping",
}  # fmt: skip


# The status is a member of these answers, and the model's code is one of several.
MORE_CODES = {"Invoke": {202, 204}, "DeleteFunction": {204}}


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@pytest.fixture(scope="module")
def client(platform):
    return platform.client()


@pytest.fixture(scope="module")
def valid(platform, client):
    """One valid call of every operation that works, in an order in which each finds what it needs."""
    code = packages.built("echo")
    arn = "arn:aws:lambda:us-east-1:000000000000:function:model"
    name = {"FunctionName": "model"}
    layer = {"LayerName": "shared", "VersionNumber": 1}
    signing = client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [PROFILE]})
    signing = {"CodeSigningConfigArn": signing["CodeSigningConfig"]["CodeSigningConfigArn"]}
    other = client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [PROFILE]})
    other = {"CodeSigningConfigArn": other["CodeSigningConfig"]["CodeSigningConfigArn"]}
    made = {"Runtime": "provided.al2023", "Handler": "bootstrap", "Role": ROLE, "Code": {"ZipFile": code}}
    return [
        ("CreateFunction", name | made),
        ("GetFunction", name),
        ("GetFunctionConfiguration", name),
        ("ListFunctions", {"MaxItems": 10}),
        ("UpdateFunctionConfiguration", name | {"Timeout": 5, "Environment": {"Variables": {"AB": "c"}}}),
        ("UpdateFunctionCode", name | {"ZipFile": code}),
        ("PublishVersion", name | {"Description": "first"}),
        ("ListVersionsByFunction", name),
        ("CreateAlias", name | {"Name": "live", "FunctionVersion": "1"}),
        ("GetAlias", name | {"Name": "live"}),
        ("UpdateAlias", name | {"Name": "live", "Description": "changed"}),
        ("ListAliases", name),
        ("Invoke", name | {"Payload": b"{}"}),
        ("InvokeAsync", name | {"InvokeArgs": b"{}"}),
        ("InvokeWithResponseStream", name | {"Payload": b"{}"}),
        ("PutFunctionConcurrency", name | {"ReservedConcurrentExecutions": 5}),
        ("GetFunctionConcurrency", name),
        ("DeleteFunctionConcurrency", name),
        ("PutProvisionedConcurrencyConfig", name | {"Qualifier": "1", "ProvisionedConcurrentExecutions": 1}),
        ("GetProvisionedConcurrencyConfig", name | {"Qualifier": "1"}),
        ("ListProvisionedConcurrencyConfigs", name),
        ("DeleteProvisionedConcurrencyConfig", name | {"Qualifier": "1"}),
        ("PutFunctionEventInvokeConfig", name | {"MaximumRetryAttempts": 1}),
        ("UpdateFunctionEventInvokeConfig", name | {"DestinationConfig": {"OnFailure": {"Destination": NOWHERE}}}),
        ("GetFunctionEventInvokeConfig", name),
        ("ListFunctionEventInvokeConfigs", name),
        ("DeleteFunctionEventInvokeConfig", name),
        ("CreateFunctionUrlConfig", name | {"Qualifier": "live", "AuthType": "NONE", "Cors": {"AllowOrigins": ["*"]}}),
        ("GetFunctionUrlConfig", name | {"Qualifier": "live"}),
        ("UpdateFunctionUrlConfig", name | {"Qualifier": "live", "InvokeMode": "RESPONSE_STREAM"}),
        ("ListFunctionUrlConfigs", name),
        ("DeleteFunctionUrlConfig", name | {"Qualifier": "live"}),
        ("AddPermission", name | {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}),
        ("GetPolicy", name),
        ("RemovePermission", name | {"StatementId": "s"}),
        ("TagResource", {"Resource": arn, "Tags": {"team": "shop"}}),
        ("ListTags", {"Resource": arn}),
        ("UntagResource", {"Resource": arn, "TagKeys": ["team"]}),
        ("GetAccountSettings", {}),
        ("PutRuntimeManagementConfig", name | {"UpdateRuntimeOn": "FunctionUpdate"}),
        ("GetRuntimeManagementConfig", name),
        ("PutFunctionRecursionConfig", name | {"RecursiveLoop": "Allow"}),
        ("GetFunctionRecursionConfig", name),
        ("CreateCodeSigningConfig", {"AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]}}),
        ("GetCodeSigningConfig", signing),
        ("UpdateCodeSigningConfig", signing | {"Description": "changed"}),
        ("ListCodeSigningConfigs", {}),
        ("PutFunctionCodeSigningConfig", name | signing),
        ("GetFunctionCodeSigningConfig", name),
        ("ListFunctionsByCodeSigningConfig", signing),
        ("DeleteFunctionCodeSigningConfig", name),
        ("DeleteCodeSigningConfig", other),
        ("PublishLayerVersion", {"LayerName": "shared", "Content": {"ZipFile": code}}),
        ("GetLayerVersion", layer),
        ("GetLayerVersionByArn", {"Arn": "arn:aws:lambda:us-east-1:000000000000:layer:shared:1"}),
        ("ListLayers", {}),
        ("ListLayerVersions", {"LayerName": "shared"}),
        (
            "AddLayerVersionPermission",
            layer | {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"},
        ),
        ("GetLayerVersionPolicy", layer),
        ("RemoveLayerVersionPermission", layer | {"StatementId": "s"}),
        ("DeleteLayerVersion", layer),
        ("ListEventSourceMappings", {}),
        ("DeleteAlias", name | {"Name": "live"}),
        ("DeleteFunction", name),
    ]


def check_shape(shape, value, where):
    """A value of an answer against its shape: types, required members, enumerations, patterns of names."""
    kind = shape.type_name
    if kind == "structure":
        assert isinstance(value, dict), where
        for member in getattr(shape, "required_members", []):
            assert member in value, f"{where} lacks {member}"
        for member, inner in value.items():
            if member in shape.members:
                check_shape(shape.members[member], inner, f"{where}.{member}")
            else:
                assert member == "ResponseMetadata", f"{where} has {member}, which the model does not know"
    elif kind == "list":
        assert isinstance(value, list), where
        for item in value:
            check_shape(shape.member, item, where + "[]")
    elif kind == "map":
        for key, item in value.items():
            check_shape(shape.value, item, f"{where}[{key}]")
    elif kind == "string":
        assert isinstance(value, str), where
        # AWS says this of an update, too, though its model does not know it.
        if shape.enum and (shape.name, value) != ("LastUpdateStatusReasonCode", "Creating"):
            assert value in shape.enum, f"{where}: {value}"
        pattern = shape.metadata.get("pattern")
        if pattern and value and "arn" in shape.name.lower():
            assert re.fullmatch(pattern, value), f"{where}: {value} is not of {pattern}"
    elif kind in ("integer", "long"):
        assert isinstance(value, int), where
    elif kind == "boolean":
        assert isinstance(value, bool), where


def test_every_operation_is_known_and_works_or_is_refused(valid):
    assert {name for name, _ in valid} | REFUSED == set(MODEL.operation_names)
    assert not {name for name, _ in valid} & REFUSED


def test_valid_calls_are_answered_in_the_models_shapes(client, valid):
    for name, arguments in valid:
        answer = getattr(client, snake(name))(**arguments)
        operation = MODEL.operation_model(name)
        said = answer["ResponseMetadata"]
        allowed = {operation.http.get("responseCode", 200)} | MORE_CODES.get(name, set())
        assert said["HTTPStatusCode"] in allowed, (name, said)
        assert re.fullmatch(r"[0-9a-f-]{36}", said["RequestId"]), (name, said)
        if operation.output_shape and name not in ("Invoke", "InvokeWithResponseStream"):
            check_shape(operation.output_shape, answer, name)
        if name == "InvokeWithResponseStream":
            assert any("InvokeComplete" in event for event in answer["EventStream"])
        if name in ("CreateFunction", "PublishVersion"):
            waiters = {
                "CreateFunction": ["function_exists", "function_active", "function_active_v2", "function_updated", "function_updated_v2"],
                "PublishVersion": ["published_version_active"],
            }[name]
            for waiter in waiters:
                qualifier = {"Qualifier": "1"} if name == "PublishVersion" else {}
                client.get_waiter(waiter).wait(FunctionName="model", **qualifier, WaiterConfig=WAIT)


def placed(operation, arguments):
    """A call as raw HTTP, so that boto3's own checks are out of the way: method, path, headers, body."""
    shape = operation.input_shape
    path, body, headers, query = operation.http["requestUri"], {}, {}, []
    path, _, fixed = path.partition("?")
    query += [tuple(pair.partition("=")[::2]) for pair in fixed.split("&") if pair]
    payload = None
    for member, value in arguments.items():
        inner = shape.members[member]
        location, wire = inner.serialization.get("location"), inner.serialization.get("name", member)
        text = value if isinstance(value, (str, bytes)) else json.dumps(value)
        if location == "uri":
            path = path.replace("{%s}" % wire, urllib.parse.quote(text, safe=""))
        elif location == "querystring":
            query += [(wire, one) for one in value] if isinstance(value, list) else [(wire, text)]
        elif location == "header":
            headers[wire] = text
        elif member == shape.serialization.get("payload"):
            payload = value
        else:
            body[wire] = value
    if query:
        path += "?" + urllib.parse.urlencode(query)
    whole = payload if payload is not None else json.dumps(body)
    return operation.http["method"], path, headers, None if operation.http["method"] == "GET" else whole


def plain(value):
    """Bytes as the wire has them in JSON."""
    import base64

    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return value


def attempt(platform, name, arguments):
    """What a call over raw HTTP answers: an error has the wire form of AWS's."""
    operation = MODEL.operation_model(name)
    streams = {"Payload", "InvokeArgs"}
    arguments = {key: value if key in streams else plain(value) for key, value in arguments.items()}
    method, path, headers, body = placed(operation, arguments)
    answer = platform.request(method, path, body, headers)
    if answer.status >= 400:
        kind = answer.headers.get("x-amzn-ErrorType")
        assert kind and kind.endswith("Exception"), (name, path, answer)
        said = answer.json()
        assert isinstance(said.get("message", said.get("Message")), str), (name, path, answer)
        assert answer.status < 500 or kind in ("NotImplementedException", "ServiceException"), (name, path, answer)
    return answer


WORST = "x" * 5_000


def bad_calls(name, arguments):
    """What is wrong, and the call: one thing at a time."""
    shape = MODEL.operation_model(name).input_shape
    for member in shape.required_members:
        inner = shape.members[member]
        # A body that is not there is an empty event.
        if inner.serialization.get("location") != "uri" and member != "InvokeArgs":
            yield f"without {member}", {key: value for key, value in arguments.items() if key != member}
    for member in arguments:
        inner = shape.members[member]
        location = inner.serialization.get("location")
        if member in ("Payload", "InvokeArgs"):
            yield f"{member} is no JSON", arguments | {member: b"{nonsense"}
            continue
        if location is None:
            wrong = {"string": {"an": "object"}, "blob": 7}.get(inner.type_name, "a text")
            yield f"{member} of the wrong type", arguments | {member: wrong}
        if inner.type_name == "string" and (inner.metadata.get("max") or inner.metadata.get("pattern") or inner.enum):
            if inner.metadata.get("max", 10_000) < len(WORST) or inner.enum:
                yield f"{member} too long", arguments | {member: WORST}
            if inner.enum or inner.metadata.get("pattern") not in (None, ".*", "\\d+|\\*|arn:.*"):
                if not re.fullmatch(inner.metadata.get("pattern") or "x^", "!! §"):
                    yield f"{member} against its pattern", arguments | {member: "!! §"}
        if inner.type_name in ("integer", "long") and inner.metadata.get("min") is not None:
            yield f"{member} too small", arguments | {member: inner.metadata["min"] - 1}
    if "FunctionName" in arguments and name != "CreateFunction":
        yield "of a function that is not there", arguments | {"FunctionName": "nobody"}
    for member in ("Resource", "CodeSigningConfigArn", "Arn"):
        if member in arguments:
            other = re.sub(r"(model|csc-.{17}|shared:1)$", lambda m: {"m": "nobody", "c": "csc-" + "0" * 17, "s": "none:7"}[m[0][0]], arguments[member])
            yield f"with an ARN of nothing as {member}", arguments | {member: other}
    if "RevisionId" in shape.members:
        yield "at a stale revision", arguments | {"RevisionId": "00000000-0000-4000-8000-000000000000"}


def sample(shape):
    """A value of a shape with its required members and no others."""
    kind = shape.type_name
    if kind == "structure":
        return {member: sample(shape.members[member]) for member in getattr(shape, "required_members", [])}
    if kind == "list":
        return [sample(shape.member)]
    if kind == "string" and shape.enum:
        return shape.enum[0]
    number = max(shape.metadata.get("min", 1), 1)
    return {"map": {"AB": "v"}, "string": "x", "integer": number, "long": number, "boolean": True}.get(kind, "eA==")


def refuses(pattern, text):
    with contextlib.suppress(re.error):
        return not re.fullmatch(pattern, text)
    return False


def bad_values(shape):
    """What is wrong, where below a value, and the value: the constraints of a shape and of all that it holds. A place is a
    chain of members, `[]` and `{}`; what is to be left out is no value."""
    kind, rules = shape.type_name, shape.metadata
    yield "of the wrong type", (), 7 if kind in ("string", "blob") else "a text"
    if kind == "string":
        if shape.enum:
            yield "out of its set", (), "nonsense"
        if rules.get("max", 9_999) < 9_999:
            yield "too long", (), "x" * (rules["max"] + 1)
        if rules.get("min"):
            yield "too short", (), ""
        if refuses(rules.get("pattern", ".*"), "!! §"):
            yield "against its pattern", (), "!! §"
    elif kind in ("integer", "long"):
        yield "a fraction", (), 1.5
        for edge, beyond in (("min", -1), ("max", 1)):
            if edge in rules:
                yield f"beyond its {edge}", (), rules[edge] + beyond
    elif kind == "list":
        if rules.get("max", 999) < 999:
            yield "too many", (), [sample(shape.member)] * (rules["max"] + 1)
        yield from ((what, ("[]", *place), value) for what, place, value in bad_values(shape.member))
    elif kind == "map":
        yield from ((what, ("{}", *place), value) for what, place, value in bad_values(shape.value))
    elif kind == "structure":
        for member, inner in shape.members.items():
            if member in getattr(shape, "required_members", []):
                yield "left out", (member,), None
            yield from ((what, (member, *place), value) for what, place, value in bad_values(inner))


def with_value(shape, current, place, value):
    """`current` with another value at a place; what is on the way there is made."""
    if not place:
        return value
    first, *rest = place
    if first == "[]":
        return [with_value(shape.member, None, rest, value)]
    if first == "{}":
        return {"AB": with_value(shape.value, None, rest, value)}
    members = dict(current) if isinstance(current, dict) else sample(shape)
    if value is None and not rest:
        members.pop(first, None)
    else:
        members[first] = with_value(shape.members[first], members.get(first), rest, value)
    return members


def deep_calls(name, arguments):
    """A valid call with one constraint broken anywhere, in members that it does not have, too."""
    shape = MODEL.operation_model(name).input_shape
    for member, inner in shape.members.items():
        location = inner.serialization.get("location")
        if member == shape.serialization.get("payload"):
            continue
        for what, place, value in bad_values(inner):
            # On the wire of a path, a query and a header all is text, and a path has no empty part.
            if location and inner.type_name in ("string", "boolean") and what == "of the wrong type":
                continue
            if location == "uri" and value == "" or location == "querystring" and inner.type_name == "list":
                continue
            where = ".".join((member, *place))
            yield f"{where} {what}", with_value(shape, arguments, (member, *place), value)


# Deleting what is not there is no error, as on AWS; listing the versions of no layer neither.
IDEMPOTENT = {"DeleteLayerVersion", "ListLayerVersions"}


def test_bad_calls_are_refused_with_an_error_of_the_models(platform, client, valid):
    failures = []
    for name, arguments in valid:
        for what, bad in bad_calls(name, arguments):
            if name in IDEMPOTENT and "pattern" not in what:
                continue
            answer = attempt(platform, name, bad)
            if not 400 <= answer.status < 500:
                failures.append(f"{name} {what}: {answer.status} {answer.body[:120]!r}")
        # What follows finds what the valid call leaves behind.
        if name in ("CreateFunction", "PublishVersion", "CreateAlias", "AddPermission", "PublishLayerVersion"):
            with contextlib.suppress(client.exceptions.ResourceConflictException):
                getattr(client, snake(name))(**arguments)
    assert not failures, "\n".join(failures)


def test_each_constraint_of_each_member_is_checked(platform, client, valid):
    """Members that are not run may be refused by name before anything else is said of them."""
    failures, tried = [], 0
    for name, arguments in valid:
        for what, bad in deep_calls(name, arguments):
            tried += 1
            answer = attempt(platform, name, bad)
            if not (400 <= answer.status < 500 or answer.status == 501):
                failures.append(f"{name} {what}: {answer.status} {answer.body[:120]!r}")
        # The call itself again, for what follows; what is there already is as good.
        with contextlib.suppress(client.exceptions.ResourceConflictException, client.exceptions.ResourceNotFoundException):
            getattr(client, snake(name))(**arguments)
    assert tried > 700 and not failures, "\n".join(failures)


def test_refused_operations_say_so(platform, client):
    for name in sorted(REFUSED):
        shape = MODEL.operation_model(name).input_shape
        arguments = {member: "x" for member in shape.members if shape.members[member].serialization.get("location") == "uri"}
        answer = attempt(platform, name, arguments)
        assert answer.status in (404, 501), (name, answer)
    for member in ({"AcceleratorConfig": {"AcceleratorMemorySize": 1}}, {"PublishTo": "LATEST_PUBLISHED"}):
        body = {"Runtime": "provided.al2023", "Handler": "bootstrap", "Role": ROLE, "Code": {"ZipFile": "UEsFBg=="}}
        answer = platform.request("POST", "/2015-03-31/functions", json.dumps({"FunctionName": "new"} | body | member))
        assert answer.status == 501 and next(iter(member)) in answer.json()["message"], answer
    with pytest.raises(botocore.exceptions.ClientError) as failure:
        client.create_event_source_mapping(FunctionName="model", EventSourceArn=NOWHERE)
    assert "not run here" in failure.value.response["Error"]["Message"]


def test_the_documented_table_says_of_each_operation_what_it_is(valid):
    """docs/api.md: what is refused, and nothing else, is called so."""
    from support.paths import ROOT

    rows = [line for line in (ROOT / "docs/api.md").read_text().splitlines() if line.startswith("| ")]
    text = "\n".join(row for row in rows if not row.split("|")[2].strip().startswith("refused"))
    prefixes = {"Update…": "Update", "Get…": "Get", "List…": "List", "Delete…": "Delete"}
    named = set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+s?\b", text))
    for row in rows:
        first = re.match(r"\| (?:Put|Create)(\w+)", row)
        if first:
            named |= {prefix + first[1] for word, prefix in prefixes.items() if word in row.split("|")[1]}
            named |= {prefix + first[1] + "s" for word, prefix in prefixes.items() if word in row.split("|")[1]}
    missing = [name for name, _ in valid if name not in named and name != "Invoke"]
    assert not missing, missing


def test_the_readmes_table_has_every_operation_and_setting(valid):
    """README.md: each operation of the model once, by what becomes of it, and each setting of CreateFunction."""
    from support.paths import ROOT

    section = (ROOT / "README.md").read_text().split("## The Lambda API")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| ")]
    said = [(word, what.strip()) for names, what in rows for word in re.findall(r"`(\w+)`", names)]
    operations = [(word, what) for word, what in said if word in MODEL.operation_names]
    assert len(operations) == len(dict(operations))
    works = {name for name, _ in valid}
    assert {word for word, what in operations if what in ("works", "stored")} == works
    refused = {word for word, what in operations if what == "refused"}
    in_words = ("CapacityProvider", "ScalingConfig", "DurableExecution", "ResourcePolicy")
    assert refused == {name for name in REFUSED if not any(word in name for word in in_words)}
    settings = set(MODEL.operation_model("CreateFunction").input_shape.members) - {"FunctionName"}
    assert settings <= {word for word, _ in said}, settings - {word for word, _ in said}
