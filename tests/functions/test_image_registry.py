"""Images that are pulled: by tag and digest, with passwords and tokens; and those that an engine of this machine has."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

import botocore.exceptions
import pytest

from support import images
from support.images import Layer
from support.leftovers import command
from support.platform import ROLE
from support.registry import PASSWORD, USER, Proxy, Registry, TokenRegistry, certificate


@pytest.fixture(scope="module")
def image():
    return images.puppet_image(Cmd=["pulled"])


@pytest.fixture
def serve(request):
    def begin(registry):
        request.addfinalizer(registry.close)
        return registry

    return begin


def create(platform, name, uri):
    platform.client(timeout=60).create_function(
        FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": uri}, Timeout=20, MemorySize=256
    )
    platform.client().get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    return answers(platform, name)


def answers(platform, name):
    answer = platform.invoke(name, {"python": "import sys\nanswer = sys.argv[1:]"})
    assert answer.error is None, answer
    return answer.json()


def refused(platform, uri):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        create(platform, "refused", uri)
    error = caught.value.response["Error"]
    return error["Code"], error.get("Message") or caught.value.response.get("message")


def test_images_are_pulled_by_tag_and_by_digest(platform, serve, image, tmp_path):
    registry = serve(Registry(tmp_path))
    digest = registry.push(image, "team/app", "v1")
    assert create(platform, "tagged", f"{registry.host}/team/app:v1") == ["pulled"]
    code = platform.client().get_function(FunctionName="tagged")["Code"]
    assert code["ResolvedImageUri"] == f"{registry.host}/team/app@{digest}"
    assert create(platform, "pinned", f"{registry.host}/team/app@{digest}") == ["pulled"]
    other = image.on(Layer().add("etc/more", "x"), Cmd=["newer"])
    registry.push(other, "team/app", "v1")
    platform.client().update_function_code(FunctionName="tagged", ImageUri=f"{registry.host}/team/app:v1")
    waiter = platform.client().get_waiter("function_updated_v2")
    waiter.wait(FunctionName="tagged", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    assert answers(platform, "tagged") == ["newer"] and answers(platform, "pinned") == ["pulled"]
    code, message = refused(platform, f"{registry.host}/team/app:absent")
    assert code == "InvalidParameterValueException" and "does not exist" in message, message
    code, message = refused(platform, f"{registry.host}/team/app@{images.digest(b'nothing')}")
    assert "does not exist" in message, message


def test_a_password_comes_from_the_docker_configuration(start, serve, image, tmp_path, monkeypatch):
    registry = serve(Registry(tmp_path, password=True))
    registry.push(image, "private", "v1")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    platform = start()
    uri = f"{registry.host}/private:v1"
    code, message = refused(platform, uri)
    assert code == "AccessDeniedException" and f"docker login {registry.host}" in message, message
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    assert create(platform, "private", uri) == ["pulled"]
    # And from a helper, as ECR's and the desktop's are.
    helper = tmp_path / "docker-credential-tests"
    helper.write_text(f"""#!/bin/sh
read host; test "$host" = "{registry.host}" && echo '{{"Username": "{USER}", "Secret": "{PASSWORD}"}}'
""")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "tests"}}))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    second = start()
    assert create(second, "private", uri) == ["pulled"]


def test_tokens_are_fetched_and_not_shown_to_others(platform, serve, image):
    registry = serve(TokenRegistry(image))
    assert create(platform, "token", f"{registry.host}/team/app:v1") == ["pulled"]
    elsewhere = [authorization for path, authorization in registry.asked if path.startswith("/elsewhere/")]
    assert elsewhere and set(elsewhere) == {None}
    assert [path for path, _ in registry.asked if path.startswith("/token?")] == [
        "/token?scope=repository%3Ateam%2Fapp%3Apull&service=tests"
    ]


def test_a_token_that_runs_out_is_fetched_again(platform, serve, image):
    registry = serve(TokenRegistry(image, uses=2))
    own = image.on(Layer().add("etc/again", "again"))
    registry.content.update({images.digest(blob): blob for blob in [own.manifest, *own.blobs()]})
    assert create(platform, "refreshed", f"{registry.host}/team/app:v1") == ["pulled"]
    pinned = f"{registry.host}/team/app@{images.digest(own.manifest)}"
    assert create(platform, "again", pinned) == ["pulled"]
    assert registry.tokens > 2, registry.asked


def test_an_identity_token_fetches_tokens_in_place_of_a_password(start, serve, image, tmp_path, monkeypatch):
    registry = serve(TokenRegistry(image))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    entry = {"auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode(), "identitytoken": "long&lived"}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: entry}}))
    platform = start()
    assert create(platform, "identity", f"{registry.host}/team/app:v1") == ["pulled"]
    posted = [form for path, form in registry.asked if path == "/token"]
    expected = {
        "grant_type": "refresh_token", "service": "tests", "client_id": "onrush", "scope": "repository:team/app:pull",
        "refresh_token": "long&lived",
    }
    # One for the look, one for the pull.
    assert posted == [expected] * 2
    assert all(seen is None or seen.startswith("Bearer ") for path, seen in registry.asked if path != "/token")


def test_a_proxy_leads_to_registries_elsewhere(start, serve, image, tmp_path, monkeypatch):
    tls = certificate(tmp_path)
    registry = serve(TokenRegistry(image, tls=tls))
    proxy = serve(Proxy(registry.port))
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[0]))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
    uri = f"{registry.host}/team/app:v1"
    platform = start()
    assert create(platform, "proxied", uri) == ["pulled"]
    authorization = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert set(proxy.asked) == {(registry.host, authorization)}
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    code, message = refused(start(), uri)
    assert code == "ServiceException" and "the proxy 127.0.0.1" in message and "407" in message, (code, message)
    monkeypatch.setenv("NO_PROXY", "registry.test")
    asked = len(proxy.asked)
    code, message = refused(start(), uri)
    assert code == "ServiceException" and len(proxy.asked) == asked, (code, message)


def test_content_that_lies_is_not_believed(platform, serve, image):
    own = image.on(Layer().add("etc/own", "own"))
    registry = serve(TokenRegistry(own))
    layer = images.digest(own.layers[-1].bytes)
    registry.content[layer] = Layer().add("etc/own", "other").bytes
    platform.client().create_function(
        FunctionName="lie", Role=ROLE, PackageType="Image", Code={"ImageUri": f"{registry.host}/team/app:v1"}
    )
    shown = platform.settled("lie")
    assert (shown["State"], shown["StateReasonCode"]) == ("Failed", "InvalidImage"), shown
    assert "it is damaged" in shown["StateReason"] and own.layers[-1].diff_id in shown["StateReason"], shown
    with pytest.raises(botocore.exceptions.ClientError, match="in the following state: Failed"):
        platform.client().invoke(FunctionName="lie")


def test_nobody_there_is_said_and_an_earlier_pull_runs_on(start, serve, image, tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    registry = Registry(folder)
    registry.push(image, "app", "v1")
    template = tmp_path / "template.yaml"
    architecture = {"amd64": "x86_64"}.get(images.ARCHITECTURE, images.ARCHITECTURE)
    template.write_text(f"""
Transform: AWS::Serverless-2016-10-31
Resources:
  App:
    Type: AWS::Serverless::Function
    Properties: {{PackageType: Image, ImageUri: "{registry.host}/app:v1", Architectures: [{architecture}], Timeout: 20}}
""")
    first = start(template=template, home=tmp_path)
    name = first.client().list_functions()["Functions"][0]["FunctionName"]
    assert answers(first, name) == ["pulled"]
    first.stop()
    registry.close()
    second = start(template=template, home=tmp_path)
    assert answers(second, name) == ["pulled"]
    assert "pulled before is run" in second.stderr()
    code, message = refused(second, f"{registry.host}/other:v1")
    assert code == "ServiceException" and "Connection refused" in message, (code, message)


def test_an_image_of_the_local_engine_is_taken_from_there(start, image, tmp_path, monkeypatch):
    image.archive(tmp_path / "held.tar", tag="held:v1")
    engine = tmp_path / "podman"
    identity = images.digest(image.configuration)
    engine.write_text(f"""#!/bin/sh
echo "$*" >> {tmp_path}/asked
case "$1 $2" in
    "image inspect") test "$5" = held:v1 && echo {identity} ;;
    "save held:v1") cat {tmp_path}/held.tar ;;
    *) exit 1 ;;
esac
""")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    platform = start()
    assert create(platform, "held", "held:v1") == ["pulled"]
    assert create(platform, "again", "held:v1") == ["pulled"]
    asked = (tmp_path / "asked").read_text().splitlines()
    # The second time it was there already.
    assert sum(line.startswith("save") for line in asked) == 1, asked
    assert list((platform.data_dir / "images/staging").iterdir()) == []


def test_an_engine_that_hangs_is_ended_with_the_function_that_wanted_its_image(start, tmp_path, monkeypatch):
    engine = tmp_path / "podman"
    engine.write_text(f"""#!/bin/sh
case "$1 $2" in
    "image inspect") echo sha256:{"0" * 64} ;;
    "save hangs:v1") echo $$ > {tmp_path}/saves; head -c 1000000 /dev/zero; exec sleep 1000 ;;
    "save broken:v1") echo "it is broken" >&2; exit 125 ;;
esac
""")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    platform = start()
    client = platform.client()
    for name in ("hangs", "broken"):
        client.create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": f"{name}:v1"}, Role=ROLE)
    assert platform.settled("broken")["StateReason"].endswith("save failed: it is broken")
    deadline = time.monotonic() + 20
    while not (text := (tmp_path / "saves").read_text() if (tmp_path / "saves").exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.delete_function(FunctionName="hangs")
    while os.path.exists(f"/proc/{int(text)}") or os.listdir(platform.data_dir / "images/staging"):
        assert time.monotonic() < deadline, "it still saves"
        time.sleep(0.01)


def test_an_engine_and_a_helper_that_hang_end_with_a_platform_that_is_killed(start, serve, image, tmp_path, monkeypatch):
    def program(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    hang = f"echo $$ >> {tmp_path}/hang; exec sleep 1000"
    program("podman", f'case "$1 $2 $5" in "image inspect hangs:v1") echo sha256:{"0" * 64} ;; "save hangs:v1 ") {hang} ;; *) exit 1 ;; esac')
    program("docker", "exit 1")
    program("docker-credential-tests", hang)
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "tests"}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    registry = serve(TokenRegistry(image))
    platform = start()

    def ask(name, uri):
        try:
            platform.client().create_function(FunctionName=name, PackageType="Image", Code={"ImageUri": uri}, Role=ROLE)
        except Exception:
            pass

    wanted = {"held": "hangs:v1", "asked": f"{registry.host}/team/app:v1"}
    asking = [threading.Thread(target=ask, args=one, daemon=True) for one in wanted.items()]
    for thread in asking:
        thread.start()

    def hanging():
        text = (tmp_path / "hang").read_text() if (tmp_path / "hang").exists() else ""
        return [pid for pid in text.split() if command(pid) == "sleep 1000"]

    deadline = time.monotonic() + 20
    while len(hanging()) < 2:
        assert time.monotonic() < deadline, hanging()
        time.sleep(0.01)
    platform.kill()
    while left := hanging():
        assert time.monotonic() < deadline, f"{left} live on"
        time.sleep(0.01)
    for thread in asking:
        thread.join(20)


@pytest.mark.skipif(shutil.which("podman") is None, reason="no podman")
def test_an_image_is_taken_from_a_real_podman(start, image, tmp_path, monkeypatch, request):
    # Podman takes short paths alone for what it notes of a run.
    short = tempfile.mkdtemp(prefix="onrush-", dir="/tmp")
    request.addfinalizer(lambda: shutil.rmtree(short))
    store = ["--root", f"{short}/store", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
    image.archive(tmp_path / "held.tar", tag="localhost/onrush-held:v1")
    loaded = subprocess.run(["podman", *store, "load", "-i", f"{tmp_path}/held.tar"], capture_output=True, text=True)
    if loaded.returncode != 0:
        pytest.skip(f"podman cannot hold images here: {loaded.stderr}")
    engine = tmp_path / "bin/podman"
    engine.parent.mkdir()
    engine.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} {" ".join(store)} "$@"\n')
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{engine.parent}:{os.environ['PATH']}")
    platform = start()
    assert create(platform, "held", "localhost/onrush-held:v1") == ["pulled"]
