"""SnapStart: versions whose environments have run INIT ahead, with AWS's hooks, log lines and billing."""

import json
import math
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import botocore.exceptions
import pytest

from support import extensions, packages
from support.report import report

RUNTIME = f"python3.{max(sys.version_info.minor, 12)}"
WAIT = {"Delay": 0.1, "MaxAttempts": 1200}
# The first function of a fresh clone installs the client and boto3 from the package index.
pytestmark = pytest.mark.patience(400)

CODE = """
import os, time, uuid
from snapshot_restore_py import register_before_snapshot, register_after_restore

time.sleep(float(os.environ.get("INIT_S", "0")))
gate = os.environ.get("GATE")
if gate and not os.path.exists(gate + "/open"):
    print("waits at the gate", flush=True)
    while not os.path.exists(gate + "/left"):
        time.sleep(0.02)
born = time.time()
identity = str(uuid.uuid4())
hooks = []

@register_before_snapshot
def first():
    hooks.append("before-1")

@register_before_snapshot
def second():
    hooks.append("before-2")

@register_after_restore
def third():
    hooks.append("after-1")
    if os.environ.get("HOOK") == "fail":
        raise ValueError("no connection")
    if os.environ.get("HOOK") == "slow":
        time.sleep(20)

@register_after_restore
def fourth():
    hooks.append("after-2")

def handler(event, context):
    return {"hooks": hooks, "identity": identity, "age": time.time() - born, "random": os.urandom(8).hex(),
            "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "event": event}
"""


@pytest.fixture(scope="module")
def client(platform):
    return platform.client()


@pytest.fixture(scope="module")
def publish(platform, client):
    """A version with SnapStart that is active, by its number."""

    def make(name, variables=None, **settings):
        code = packages.package({"app.py": CODE})
        platform.create(name, code, RUNTIME, "app.handler", variables, **({"Timeout": 20, "MemorySize": 512} | settings))
        client.update_function_configuration(FunctionName=name, SnapStart={"ApplyOn": "PublishedVersions"})
        client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=WAIT)
        made = client.publish_version(FunctionName=name)
        assert made["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
        assert made["State"] == "Pending"
        client.get_waiter("published_version_active").wait(
            FunctionName=name, Qualifier=made["Version"], WaiterConfig=WAIT
        )
        return made["Version"]

    return make


def test_a_version_is_restored_with_its_hooks_in_order(platform, publish):
    version = publish("restored", {"INIT_S": "1"})
    answer = platform.invoke("restored", {"n": 1}, query=f"?Qualifier={version}")
    seen = answer.json()
    assert seen["hooks"] == ["before-2", "before-1", "after-1", "after-2"]
    assert (seen["type"], seen["event"]) == ("snap-start", {"n": 1})
    log = platform.log("restored")
    assert f"RESTORE_START Runtime Version: {RUNTIME}.onrush (initialised ahead)" in log
    told = next(line for line in log if line.startswith("RESTORE_REPORT Restore Duration: "))
    assert told.endswith(" ms\tRestored From: initialised ahead")
    init = next(line for line in log if line.startswith("INIT_REPORT Init Duration: "))
    assert init.endswith("\tPhase: init\tStatus: success")
    values = report(answer)
    assert "Init Duration" not in values
    restore = values["Restore Duration"]
    assert math.ceil(restore - 0.0101) <= values["Billed Restore Duration"] <= math.ceil(restore + 0.0101)
    ran = values["Duration"]
    handler = values["Billed Duration"] - values["Billed Restore Duration"]
    assert max(1, math.ceil(ran - 0.0101)) <= handler <= math.ceil(ran + 0.0101)
    # The same environment is warm now.
    again = platform.invoke("restored", {"n": 2}, query=f"?Qualifier={version}")
    assert again.json()["identity"] == seen["identity"]
    assert "Restore Duration" not in report(again)


def test_latest_starts_as_ever(platform, publish):
    publish("plain")
    seen = platform.invoke("plain", {})
    assert seen.json()["type"] == "on-demand"
    assert "Init Duration" in report(seen)


def test_environments_share_nothing(platform, client, publish):
    version = publish("apart", {"INIT_S": "0.2"})
    names = set()
    for _ in range(3):
        # A new version value of the code: each has environments of its own.
        names.add(platform.invoke("apart", {}, query=f"?Qualifier={version}").json()["identity"])
        client.update_function_configuration(FunctionName="apart", Description=str(len(names)))
        client.get_waiter("function_updated_v2").wait(FunctionName="apart", WaiterConfig=WAIT)
        version = client.publish_version(FunctionName="apart")["Version"]
        client.get_waiter("published_version_active").wait(
            FunctionName="apart", Qualifier=version, WaiterConfig=WAIT
        )
    assert len(names) == 3


def test_hooks_that_fail_are_told(platform, client, publish):
    version = publish("fails", {"HOOK": "fail"})
    with pytest.raises(botocore.exceptions.ClientError) as failure:
        client.invoke(FunctionName="fails", Qualifier=version, Payload=b"{}")
    assert failure.value.response["Error"]["Code"] == "SnapStartException"
    assert any("Status: error" in line for line in platform.log("fails") if line.startswith("RESTORE_REPORT"))


@pytest.mark.parametrize(
    "code, reason",
    [
        ("raise ValueError('no connection')", "FunctionError"),
        ("import os\nos._exit(3)", "FunctionError.RuntimeInitError"),
        ("hoard = bytearray(1 << 30)\nhoard[:] = b'x' * len(hoard)", "FunctionError.InitResourceExhausted"),
    ],
    ids=["raises", "exits", "hoards"],
)
def test_a_version_whose_init_fails_is_in_state_failed(platform, client, code, reason):
    name = "unready-" + reason.replace(".", "-")
    snap_start = {"ApplyOn": "PublishedVersions"}
    platform.create(name, packages.package({"app.py": code}), RUNTIME, "app.handler", SnapStart=snap_start)
    made = client.publish_version(FunctionName=name)["Version"]
    with pytest.raises(botocore.exceptions.WaiterError, match='"Failed"'):
        client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=made, WaiterConfig=WAIT)
    shown = client.get_function_configuration(FunctionName=name, Qualifier=made)
    assert (shown["State"], shown["StateReasonCode"]) == ("Failed", reason)
    assert shown["StateReason"].startswith("INIT failed with ")
    with pytest.raises(client.exceptions.ResourceConflictException, match="in the following state: Failed"):
        client.invoke(FunctionName=name, Qualifier=made)
    for kind in ["Event", "DryRun"]:
        with pytest.raises(client.exceptions.ResourceConflictException, match="in the following state: Failed"):
            client.invoke(FunctionName=name, Qualifier=made, InvocationType=kind)
    with pytest.raises(client.exceptions.ResourceConflictException, match="in the following state: Failed"):
        client.invoke_async(FunctionName=f"{name}:{made}", InvokeArgs=b"{}")
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    of_alias = {"FunctionName": name, "FunctionVersion": made}
    for change, arguments in [
        (client.update_alias, of_alias | {"Name": "live"}),
        (client.create_alias, of_alias | {"Name": "other"}),
        (client.update_alias, {"FunctionName": name, "Name": "live", "RoutingConfig": {"AdditionalVersionWeights": {made: 0.1}}}),
    ]:
        with pytest.raises(client.exceptions.ResourceConflictException, match="in the following state: Failed"):
            change(**arguments)
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "$LATEST"
    # A change of anything else does not try again; the function itself is as it was, and another version may be well.
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
    assert client.get_function_configuration(FunctionName=name, Qualifier=made)["State"] == "Failed"
    assert client.get_function_configuration(FunctionName=name)["State"] == "Active"
    assert client.invoke(FunctionName=name)["FunctionError"] == "Unhandled"
    client.update_function_code(FunctionName=name, ZipFile=packages.package({"app.py": "handler = lambda *_: 1"}))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=WAIT)
    made = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=made, WaiterConfig=WAIT)
    assert client.invoke(FunctionName=name, Qualifier=made)["Payload"].read() == b"1"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP], ids=["ctrl-c", "terminal-closes"])
def test_a_version_that_is_prepared_while_the_platform_stops_is_not_called_failed(start, how):
    platform = start("--experimental-snapstart")
    client = platform.client()
    code = packages.package({"bootstrap": ("#!/bin/sh\necho preparing\nsleep 60 & wait\n", 0o755)})
    platform.create("stopped", code, SnapStart={"ApplyOn": "PublishedVersions"})
    client.publish_version(FunctionName="stopped")
    deadline = time.monotonic() + 30
    while "preparing" not in platform.log("stopped"):
        assert time.monotonic() < deadline, platform.stderr()
        time.sleep(0.05)
    assert platform.stop(how) == 0
    assert "State Failed" not in platform.stderr()


def wait_at_the_gate(platform, name, count):
    """Waits until so many environments run INIT and wait for the test."""
    deadline = time.monotonic() + 30
    while sum(line == "waits at the gate" for line in platform.log(name)) < count:
        assert time.monotonic() < deadline, (platform.log(name), platform.stderr())
        time.sleep(0.05)


PENDING = "The operation cannot be performed at this time. The function is currently in the following state: Pending"


def test_a_version_that_the_api_published_is_refused_until_its_snapshot_is_there(start):
    # Without namespaces: a function's INIT sees this host's files.
    platform = start("--isolation", "process")
    client = platform.client()
    gate = platform.home / "gate"
    code = packages.package({"app.py": CODE})
    snap_start = {"ApplyOn": "PublishedVersions"}
    platform.create("early", code, RUNTIME, "app.handler", {"GATE": str(gate)}, SnapStart=snap_start, Timeout=20)
    made = client.publish_version(FunctionName="early")["Version"]
    named = {"FunctionName": "early", "Qualifier": made}
    for operation, words in [
        *[("invoke", named | {"InvocationType": kind}) for kind in ["RequestResponse", "Event", "DryRun"]],
        ("invoke_async", {"FunctionName": f"early:{made}", "InvokeArgs": b"{}"}),
        ("invoke_with_response_stream", named),
    ]:
        with pytest.raises(client.exceptions.ResourceConflictException) as refused:
            getattr(client, operation)(**words)
        assert refused.value.response["Error"]["Message"] == PENDING, operation
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert client.get_function_configuration(**named)["State"] == "Pending", "refused for as long as it says so"
    gate.mkdir()
    (gate / "open").touch()
    (gate / "left").touch()
    client.get_waiter("published_version_active").wait(WaiterConfig=WAIT, **named)
    answer = platform.invoke("early", {}, query=f"?Qualifier={made}")
    assert answer.json()["type"] == "snap-start" and "Restore Duration" in report(answer)


def test_a_reset_prepares_versions_again_those_that_failed_too(start, tmp_path):
    platform = start("--isolation", "process")
    client = platform.client()
    flag = platform.home / "ready"
    code = f"import os\nif not os.path.exists({str(flag)!r}): raise ValueError('not ready')\n" + CODE
    snap_start = {"ApplyOn": "PublishedVersions"}
    platform.create("again", packages.package({"app.py": code}), RUNTIME, "app.handler", SnapStart=snap_start, Timeout=20)
    made = client.publish_version(FunctionName="again")["Version"]
    with pytest.raises(botocore.exceptions.WaiterError, match='"Failed"'):
        client.get_waiter("published_version_active").wait(FunctionName="again", Qualifier=made, WaiterConfig=WAIT)
    flag.touch()
    identities = set()
    for _ in range(2):
        assert platform.request("POST", "/_onrush/reset").status == 200
        client.get_waiter("published_version_active").wait(FunctionName="again", Qualifier=made, WaiterConfig=WAIT)
        answer = platform.invoke("again", {}, query=f"?Qualifier={made}")
        assert "Restore Duration" in report(answer), answer
        identities.add(answer.json()["identity"])
    assert len(identities) == 2, "nothing of before is used again"


def test_hooks_that_take_too_long_are_told(platform, client, publish):
    version = publish("slow", {"HOOK": "slow"})
    with pytest.raises(botocore.exceptions.ClientError) as failure:
        client.invoke(FunctionName="slow", Qualifier=version, Payload=b"{}")
    assert failure.value.response["Error"]["Code"] == "SnapStartTimeoutException"
    assert any("Status: timeout" in line for line in platform.log("slow") if line.startswith("RESTORE_REPORT"))


LISTENER = """
register("INVOKE")
from http.server import BaseHTTPRequestHandler, HTTPServer

class Sink(BaseHTTPRequestHandler):
    def do_POST(self):
        for event in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            note(json.dumps(event))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_): pass

server = HTTPServer(("0.0.0.0", 4243), Sink)
threading.Thread(target=server.serve_forever, daemon=True).start()
subscribe("/2022-07-01/telemetry", schemaVersion="2022-12-13", types=["platform"], buffering={"timeoutMs": 25},
          destination={"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243"})
time.sleep(1)
note("ready")
while True: next()
"""

READER = """
import os, time
from snapshot_restore_py import register_after_restore
register_after_restore(lambda: None)

def handler(event, context):
    return open("/tmp/listener").read().splitlines()
"""


def test_init_waits_for_extensions_which_hear_of_the_restore(platform, client):
    layer = extensions.publish(platform, "listener", extensions.layer(listener=LISTENER))
    code = packages.package({"app.py": READER})
    logging = {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}
    platform.create(
        "listened", code, RUNTIME, "app.handler", Timeout=20, MemorySize=512, Layers=[layer], LoggingConfig=logging,
        SnapStart={"ApplyOn": "PublishedVersions"},
    )
    made = client.publish_version(FunctionName="listened")["Version"]
    client.get_waiter("published_version_active").wait(FunctionName="listened", Qualifier=made, WaiterConfig=WAIT)
    deadline = time.monotonic() + 20
    lines = []
    while not any("platform.report" in line for line in lines):
        assert time.monotonic() < deadline, lines
        lines = platform.invoke("listened", {}, query=f"?Qualifier={made}", whole=False).json()
    assert "ready" in lines, "its second of INIT was waited for"
    heard = [json.loads(line) for line in lines if line.startswith("{")]
    kinds = [event["type"].removeprefix("platform.") for event in heard]
    order = ["initStart", "initReport", "restoreStart", "restoreRuntimeDone", "restoreReport", "start", "report"]
    assert [kind for kind in kinds if kind in order][: len(order)] == order
    records = {event["type"].removeprefix("platform."): event["record"] for event in reversed(heard)}
    assert records["initStart"]["initializationType"] == "snap-start"
    assert records["initReport"]["metrics"]["durationMs"] >= 1000
    assert records["restoreStart"] == {
        "runtimeVersion": f"{RUNTIME}.onrush (initialised ahead)", "functionName": "listened", "functionVersion": made,
    }
    assert records["restoreRuntimeDone"] == {"status": "success"}
    took = records["restoreReport"]["metrics"]["durationMs"]
    assert records["restoreReport"]["status"] == "success" and 0 < took < 1000
    assert records["report"]["metrics"]["restoreDurationMs"] == took
    # The function's log has the same objects.
    logged = [json.loads(line) for line in platform.log("listened") if line.startswith('{"time"')]
    told = [event for event in logged if event["type"].startswith("platform.restore")]
    assert [event["record"] for event in told][:3] == [records[f"restore{name}"] for name in ("Start", "RuntimeDone", "Report")]


def test_other_runtimes_are_marked(start):
    platform = start("--experimental-snapstart")
    client = platform.client()
    platform.create("other", packages.built("echo"), SnapStart={"ApplyOn": "PublishedVersions"})
    made = client.publish_version(FunctionName="other")["Version"]
    client.get_waiter("published_version_active").wait(FunctionName="other", Qualifier=made, WaiterConfig=WAIT)
    assert "Restore Duration" in report(platform.invoke("other", {}, query=f"?Qualifier={made}"))
    mark = "provided.al2023.onrush (initialised ahead; experimental: AWS has no SnapStart for it)"
    assert f"RESTORE_START Runtime Version: {mark}" in platform.log("other")


def test_what_aws_refuses_is_refused(platform, client, publish):
    code = packages.package({"app.py": CODE})
    arguments = {"Role": "arn:aws:iam::000000000000:role/r", "Handler": "app.handler", "Code": {"ZipFile": code}}
    snap_start = {"SnapStart": {"ApplyOn": "PublishedVersions"}}
    for settings, words in [
        ({"Runtime": "nodejs22.x"}, "nodejs22.x is not supported for SnapStart enabled functions"),
        ({"Runtime": "python3.11"}, "python3.11 is not supported"),
        ({"Runtime": RUNTIME, "EphemeralStorage": {"Size": 1024}}, "ephemeral storage"),
    ]:
        with pytest.raises(client.exceptions.InvalidParameterValueException, match=words):
            client.create_function(FunctionName="refused", **arguments, **settings, **snap_start)
    version = publish("provisioned")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Provisioned Concurrency"):
        client.put_provisioned_concurrency_config(
            FunctionName="provisioned", Qualifier=version, ProvisionedConcurrentExecutions=1
        )


def test_a_template_asks_for_it_and_a_restart_prepares_again(start, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/app.py").write_text(CODE)
    template = tmp_path / "template.yaml"
    template.write_text(f"""
Transform: AWS::Serverless-2016-10-31
Resources:
  Fast:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: fast
      CodeUri: code
      Runtime: {RUNTIME}
      Handler: app.handler
      Timeout: 20
      AutoPublishAlias: live
      SnapStart:
        ApplyOn: PublishedVersions
""")
    home = tmp_path / "home"
    home.mkdir()
    for _ in range(2):
        platform = start(home=home, template=template)
        client = platform.client()
        client.get_waiter("published_version_active").wait(FunctionName="fast", Qualifier="1", WaiterConfig=WAIT)
        answer = platform.invoke("fast", {}, query="?Qualifier=live")
        assert answer.json()["hooks"][-1] == "after-2"
        assert "Restore Duration" in report(answer)
        platform.close()


def fast(home, code, variables=None, more=None):
    """A template with a function `fast` whose alias `live` follows it, with SnapStart."""
    (home / "code").mkdir()
    (home / "code/app.py").write_text(code)
    properties = {"FunctionName": "fast", "CodeUri": "code", "Runtime": RUNTIME, "Handler": "app.handler", "Timeout": 20}
    properties |= {"AutoPublishAlias": "live", "SnapStart": {"ApplyOn": "PublishedVersions"}}
    properties["Environment"] = {"Variables": variables or {}}
    template = home / "template.json"
    functions = {"Fast": {"Type": "AWS::Serverless::Function", "Properties": properties}} | (more or {})
    template.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": functions}))
    return template


@pytest.fixture
def shared():
    """A folder that functions of `--isolation process` may read, too."""
    with tempfile.TemporaryDirectory(prefix="onrush-test-", dir="/tmp") as folder:
        pathlib.Path(folder).chmod(0o755)
        yield pathlib.Path(folder)


# The folder goes after the platforms.
def test_a_version_of_a_template_or_of_an_earlier_run_starts_cold_meanwhile(shared, start):
    gate = shared / "gate"
    gate.mkdir()
    template = fast(shared, CODE, {"GATE": str(gate)})
    for _ in range(2):
        platform = start("--isolation", "process", home=shared, template=template)
        wait_at_the_gate(platform, "fast", 2)
        # Those that wait go on waiting; who comes now does not.
        (gate / "open").touch()
        answer = platform.invoke("fast", {}, query="?Qualifier=live")
        assert answer.status == 200 and "Init Duration" in report(answer), answer
        platform.close()
        (gate / "open").unlink()


ASKS = """
import json, os, time, urllib.request
began = time.time()
with urllib.request.urlopen("https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/", timeout=30) as answer:
    there = sorted(function["FunctionName"] for function in json.load(answer)["Functions"])

def handler(event, context):
    return [os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], began, *there]
"""


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_init_ahead_reaches_the_platforms_own_api(start, tmp_path):
    (tmp_path / "later").mkdir()
    built = tmp_path / "built"
    make = ["sleep 1", "echo 'handler = lambda *_: 1' > $(ARTIFACTS_DIR)/app.py", f"date +%s.%N > {built}"]
    (tmp_path / "later/Makefile").write_text("\n\t".join(["build-Later:", *make]) + "\n")
    later = {"FunctionName": "later", "CodeUri": "later", "Runtime": RUNTIME, "Handler": "app.handler"}
    more = {"Type": "AWS::Serverless::Function", "Metadata": {"BuildMethod": "makefile"}, "Properties": later}
    held = {"FunctionName": "held", "CodeUri": "code", "Runtime": RUNTIME, "Handler": "app.handler", "AutoPublishAlias": "live"}
    held["ProvisionedConcurrencyConfig"] = {"ProvisionedConcurrentExecutions": 1}
    # Two runs: the second one has the versions from its store.
    template = fast(tmp_path, ASKS, more={"Later": more, "Held": {"Type": "AWS::Serverless::Function", "Properties": held}})
    for _ in range(2):
        platform = start(home=tmp_path, template=template)
        client = platform.client()
        client.get_waiter("published_version_active").wait(FunctionName="fast", Qualifier="1", WaiterConfig=WAIT)
        answer = platform.invoke("fast", {}, query="?Qualifier=live")
        kind, began, *there = answer.json()
        assert (kind, there) == ("snap-start", ["fast", "held", "later"]) and "Restore Duration" in report(answer), answer
        # Before the doors serve, INIT would wait for itself.
        ready = float(built.read_text())
        assert began > ready
        shown = lambda: client.get_provisioned_concurrency_config(FunctionName="held", Qualifier="live")
        deadline = time.monotonic() + 30
        while shown()["Status"] != "READY":
            assert time.monotonic() < deadline, (shown(), platform.log("held"))
            time.sleep(0.1)
        answer = platform.invoke("held", {}, query="?Qualifier=live")
        kind, began, *there = answer.json()
        assert (kind, there) == ("provisioned-concurrency", ["fast", "held", "later"]) and began > ready, answer
        platform.close()
        (tmp_path / "later/Makefile").touch()
