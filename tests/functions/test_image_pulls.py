"""Images on their way: callers and other functions go on, States and waiters are AWS's, and neither a restart nor a deletion confuses."""

import io
import socket
import threading
import time
import zipfile

import botocore.exceptions
import pytest

from support import http, images
from support.images import Layer
from support.platform import ROLE
from support.registry import TokenRegistry

QUICK = {"Delay": 0.05, "MaxAttempts": 600}


@pytest.fixture
def image(request):
    """The base, which is there after the first test, and one layer of the test's own."""
    return images.puppet_image(Cmd=["pulled"]).on(Layer(compress=False).add("etc/own", request.node.name * 20_000))


@pytest.fixture
def registry(image):
    registry = TokenRegistry(image)
    registry.held.add(images.digest(image.layers[-1].bytes))
    yield registry
    registry.held.clear()
    registry.close()


def create(client, name, registry, **more):
    request = {"PackageType": "Image", "Role": ROLE, "Timeout": 20, "Code": {"ImageUri": uri(registry)}}
    return client.create_function(FunctionName=name, **request, **more)


def uri(registry):
    return f"{registry.host}/team/app:v1"


def answer_of(platform, name):
    answer = platform.invoke(name, {"python": "import sys\nanswer = sys.argv[1:]"})
    assert answer.status == 200 and answer.error is None, answer
    return answer.json()


def conflict(call):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == "ResourceConflictException", caught.value
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    return caught.value.response["Error"]["Message"]


def wait(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def asked_for_layer(registry):
    digest = next(iter(registry.held))
    return any(path.endswith(digest) for path, _ in registry.asked)


def test_a_new_function_is_pending_until_its_image_is_there(platform, registry, image):
    client = platform.client()
    made = create(client, "new", registry, Publish=True)
    assert (made["State"], made["StateReasonCode"], made["Version"]) == ("Pending", "Creating", "1"), made
    assert made["CodeSha256"] == images.digest(image.manifest).split(":")[1] and "LastUpdateStatus" not in made
    shown = client.get_function(FunctionName="new")
    assert shown["Configuration"]["State"] == "Pending"
    assert shown["Code"]["ResolvedImageUri"] == f"{registry.host}/team/app@{images.digest(image.manifest)}"
    state = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
    arn = made["FunctionArn"].removesuffix(":1")
    for call in (
        lambda: client.invoke(FunctionName="new"),
        lambda: client.invoke(FunctionName="new", InvocationType="Event"),
        lambda: client.invoke_with_response_stream(FunctionName="new"),
        lambda: client.update_function_configuration(FunctionName="new", Timeout=9),
        lambda: client.update_function_code(FunctionName="new", ImageUri=uri(registry)),
        lambda: client.publish_version(FunctionName="new"),
        lambda: client.tag_resource(Resource=arn, Tags={"a": "b"}),
    ):
        assert conflict(call) == state
    # Who has a function of the same image waits as well; another function does not.
    create(client, "second", registry)
    platform.create("other", zipped(), runtime="python3.13", handler="app.handler")
    assert platform.invoke("other", {}).json() == "other"
    registry.held.clear()
    client.get_waiter("function_active_v2").wait(FunctionName="new", WaiterConfig=QUICK)
    client.get_waiter("function_active_v2").wait(FunctionName="second", WaiterConfig=QUICK)
    assert answer_of(platform, "new") == answer_of(platform, "new:1") == answer_of(platform, "second") == ["pulled"]
    assert client.get_function_configuration(FunctionName="new")["LastUpdateStatus"] == "Successful"


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("app.py", "def handler(event, context):\n    return 'other'\n")
    return stream.getvalue()


def test_an_update_keeps_the_old_code_running_until_the_new_is_there(platform, registry, image, tmp_path):
    client = platform.client()
    old = images.puppet_image(Cmd=["old"]).layout(tmp_path / "old")
    client.create_function(FunctionName="updated", PackageType="Image", Role=ROLE, Code={"ImageUri": str(old)}, Timeout=20)
    client.get_waiter("function_active_v2").wait(FunctionName="updated", WaiterConfig=QUICK)
    assert answer_of(platform, "updated") == ["old"]
    said = client.update_function_code(FunctionName="updated", ImageUri=uri(registry), Publish=True)
    assert said["CodeSha256"] == images.digest(image.manifest).split(":")[1] and said["Version"] == "1"
    shown = client.get_function_configuration(FunctionName="updated")
    assert (shown["State"], shown["LastUpdateStatus"], shown["LastUpdateStatusReasonCode"]) == ("Active", "InProgress", "Creating")
    assert answer_of(platform, "updated") == ["old"]
    text = f"An update is in progress for resource: {shown['FunctionArn']}"
    for call in (
        lambda: client.update_function_configuration(FunctionName="updated", Timeout=9),
        lambda: client.update_function_code(FunctionName="updated", ImageUri=str(old)),
        lambda: client.publish_version(FunctionName="updated"),
    ):
        assert conflict(call).endswith(text)
    registry.held.clear()
    client.get_waiter("function_updated_v2").wait(FunctionName="updated", WaiterConfig=QUICK)
    assert answer_of(platform, "updated") == answer_of(platform, "updated:1") == ["pulled"]
    assert platform.metric("cold_starts", "updated") == 3


def test_an_update_that_fails_leaves_the_old_code(platform, registry, image, tmp_path):
    client = platform.client()
    old = images.puppet_image(Cmd=["old"]).layout(tmp_path / "old")
    client.create_function(FunctionName="fails", PackageType="Image", Role=ROLE, Code={"ImageUri": str(old)}, Timeout=20)
    client.get_waiter("function_active_v2").wait(FunctionName="fails", WaiterConfig=QUICK)
    registry.content[images.digest(image.layers[-1].bytes)] = Layer(compress=False).add("etc/own", "another").bytes
    client.update_function_code(FunctionName="fails", ImageUri=uri(registry))
    registry.held.clear()
    with pytest.raises(botocore.exceptions.WaiterError):
        client.get_waiter("function_updated_v2").wait(FunctionName="fails", WaiterConfig=QUICK)
    shown = client.get_function_configuration(FunctionName="fails")
    assert (shown["State"], shown["LastUpdateStatus"], shown["LastUpdateStatusReasonCode"]) == ("Active", "Failed", "InvalidImage")
    assert answer_of(platform, "fails") == ["old"]
    # And it can be changed again.
    client.update_function_configuration(FunctionName="fails", Timeout=9)
    assert platform.settled("fails")["LastUpdateStatus"] == "Successful"


def test_a_function_can_be_deleted_while_its_image_comes(platform, registry, image):
    client = platform.client()
    create(client, "deleted", registry)
    wait(lambda: asked_for_layer(registry))
    client.delete_function(FunctionName="deleted")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName="deleted")
    # The next bytes that come find that nobody wants them.
    digest = registry.held.pop()
    staging = platform.data_dir / "images/staging"
    wait(lambda: "is not wanted any more" in platform.stderr() and list(staging.iterdir()) == [])
    assert digest in {path.rsplit("/", 1)[1] for path, _ in registry.asked}
    create(client, "deleted", registry)
    client.get_waiter("function_active_v2").wait(FunctionName="deleted", WaiterConfig=QUICK)
    assert answer_of(platform, "deleted") == ["pulled"]


def test_kill_9_in_the_middle_of_a_pull_goes_on_after_the_restart(start, registry, image, tmp_path):
    first = start(home=tmp_path)
    old = images.puppet_image(Cmd=["old"]).layout(tmp_path / "old")
    client = first.client()
    client.create_function(FunctionName="updated", PackageType="Image", Role=ROLE, Code={"ImageUri": str(old)}, Timeout=20)
    client.get_waiter("function_active_v2").wait(FunctionName="updated", WaiterConfig=QUICK)
    create(client, "made", registry)
    client.update_function_code(FunctionName="updated", ImageUri=uri(registry))
    wait(lambda: asked_for_layer(registry))
    first.kill()
    registry.held.clear()
    second = start(home=tmp_path)
    assert second.settled("made")["State"] == "Active"
    assert second.settled("updated")["LastUpdateStatus"] == "Successful"
    assert answer_of(second, "made") == answer_of(second, "updated") == ["pulled"]


def test_a_template_starts_while_an_image_comes(start, registry, tmp_path):
    """Other functions answer, and the alias that SAM makes is there once the image is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    architecture = {"amd64": "x86_64"}.get(images.ARCHITECTURE, images.ARCHITECTURE)
    (tmp_path / "template.yaml").write_text(f"""
Transform: AWS::Serverless-2016-10-31
Resources:
  Slow:
    Type: AWS::Serverless::Function
    Properties:
      {{PackageType: Image, FunctionName: slow, ImageUri: "{uri(registry)}", Architectures: [{architecture}], Timeout: 20, AutoPublishAlias: live}}
  Quick:
    Type: AWS::Serverless::Function
    Properties: {{Runtime: python3.13, FunctionName: quick, Handler: index.handler, InlineCode: "handler = lambda *_: 1"}}
""")
    platforms = []
    starting = threading.Thread(target=lambda: platforms.append(start(template=tmp_path / "template.yaml", home=tmp_path, port=port)))
    starting.start()
    try:
        def quick():
            try:
                return http.request(port, "POST", "/2015-03-31/functions/quick/invocations", b"{}").body == b"1"
            except OSError:
                return False

        wait(quick, 60)
        answer = http.request(port, "POST", "/2015-03-31/functions/slow/invocations", b"{}")
        assert answer.status == 409 and b"following state: Pending" in answer.body, answer
    finally:
        registry.held.clear()
        starting.join()
    # The ready line waited for it.
    assert answer_of(platforms[0], "slow:live") == ["pulled"]
    assert "layer 3 of 3" in platforms[0].stderr()
