"""Secrets are planted wherever a team puts them, and searched for wherever somebody might look: messages, logs, pages, command
lines, files that others may read, and what a crash leaves (threat T11)."""

import base64
import json
import os
import pathlib
import re
import signal
import stat
import subprocess

import boto3
import pytest

from support import puppet, templates
from support.leftovers import tree
from support.paths import BINARY
from support.platform import Platform

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

KINDS = [
    "variable", "env-vars file", "parameter of the template", "secret of the template", "secure parameter", "stored secret",
    "event", "event of a queue", "result", "error's event", "event that times out", "client context", "query", "path",
    "header", "cookie", "body at a door", "tag", "signing key", "session token",
]  # fmt: skip
SECRETS = {kind: f"planted-{number:02}-{os.urandom(12).hex()}" for number, kind in enumerate(KINDS)}
PAGES = ["health", "limits", "functions", "metrics", "logs/Puppet", "logs/Slow"]


def encoded(secret):
    """As it stands, and as base64 would have it at each offset."""
    plain = secret.encode()
    forms = [base64.b64encode(b"x" * shift + plain)[(4 if shift else 0) : -4] for shift in range(3)]
    return [plain, *forms]


def finds(text):
    return sorted(kind for kind, secret in SECRETS.items() if any(form in text for form in encoded(secret)))


def open_to_others(path, root):
    """Whether somebody else may read that file: it and every folder above it let them."""
    if not path.stat().st_mode & (stat.S_IROTH | stat.S_IRGRP):
        return False
    above = [folder for folder in path.parents if folder.is_relative_to(root)]
    return all(folder.stat().st_mode & (stat.S_IXOTH | stat.S_IXGRP) for folder in above)


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("secrets")
    (home / "vars.json").write_text(json.dumps({"Puppet": {"GIVEN": SECRETS["env-vars file"]}}))
    (home / "vars.json").chmod(0o600)
    variables = {"Variables": {"TOKEN": SECRETS["variable"], "GIVEN": "", "NAMED": {"Ref": "Named"}}}
    functions = {
        "Puppet": ("puppet", {"Environment": variables, "FunctionUrlConfig": {"AuthType": "NONE"}, "Tags": {"t": SECRETS["tag"]}}),
        "Slow": ("puppet", {"Timeout": 1}),
    }
    resources = {
        "Login": {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": "login", "SecretString": SECRETS["secret of the template"]}},
    }  # fmt: skip
    template = templates.write(home, functions, resources)
    document = json.loads(template.read_text())
    document["Parameters"] = {"Named": {"Type": "String", "NoEcho": True, "Default": SECRETS["parameter of the template"]}}
    template.write_text(json.dumps(document))
    template.chmod(0o600)
    # Whoever starts it may have core files of other programs.
    wrapper = home / "with-cores"
    wrapper.write_text(f'#!/bin/sh\nulimit -c unlimited\nexec {BINARY} "$@"\n')
    wrapper.chmod(0o755)
    with Platform("--env-vars", str(home / "vars.json"), home=home, template=template, binary=wrapper) as platform:
        use(platform)
        yield platform


def use(platform):
    """A day in the life of every secret."""
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": SECRETS["signing key"], "aws_session_token": SECRETS["session token"]}
    client = {
        name: boto3.client(name, endpoint_url=platform.url, region_name="us-east-1", **keys)
        for name in ("lambda", "ssm", "secretsmanager")
    }
    client["ssm"].put_parameter(Name="/p", Type="SecureString", Value=SECRETS["secure parameter"])
    assert client["ssm"].get_parameter(Name="/p", WithDecryption=True)["Parameter"]["Value"] == SECRETS["secure parameter"]
    assert client["secretsmanager"].get_secret_value(SecretId="login")["SecretString"] == SECRETS["secret of the template"]
    client["secretsmanager"].put_secret_value(SecretId="login", SecretString=SECRETS["stored secret"])

    def invoke(source, secret, name="Puppet", **more):
        event = {"python": source, "secret": SECRETS[secret]}
        return client["lambda"].invoke(FunctionName=name, Payload=json.dumps(event), **more)

    seen = json.loads(invoke("answer = dict(os.environ)", "event")["Payload"].read())
    assert (seen["TOKEN"], seen["GIVEN"]) == (SECRETS["variable"], SECRETS["env-vars file"])
    assert seen["NAMED"] == SECRETS["parameter of the template"]
    invoke(f"answer = {SECRETS['result']!r}", "event")
    assert "FunctionError" in invoke("os._exit(3)", "error's event")
    assert "FunctionError" in invoke("time.sleep(9)", "event that times out", name="Slow")
    invoke("os._exit(3)", "event of a queue", InvocationType="Event")
    invoke("pass", "event", ClientContext=base64.b64encode(json.dumps({"custom": {"s": SECRETS["client context"]}}).encode()).decode())
    platform.door(
        "Puppet", f"/{SECRETS['path']}?q={SECRETS['query']}", method="POST",
        body=json.dumps({"statusCode": "none", "secret": SECRETS["body at a door"]}),
        headers={"Authorization": f"Bearer {SECRETS['header']}", "Cookie": f"c={SECRETS['cookie']}", "Content-Type": "application/json"},
    )  # fmt: skip
    platform.wait_idle()


def test_no_message_log_or_page_says_a_secret(platform):
    assert finds(platform.stderr().encode()) == []
    for page in PAGES:
        answer = platform.request("GET", f"/_onrush/{page}")
        assert (answer.status, finds(answer.body)) == (200, []), page


def test_no_command_line_says_a_secret(platform):
    lines = b"".join(read(path / "cmdline") for path in pathlib.Path("/proc").iterdir() if path.name.isdigit())
    assert finds(lines) == []


def core_files(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith("core")]


def test_a_crash_leaves_no_core_file_and_no_file_that_others_may_read_a_secret(platform, tmp_path):
    limits = [read(pathlib.Path(f"/proc/{pid}/limits")).decode() for pid, _ in tree(platform.process.pid)]
    soft = {line.split()[4] for text in limits for line in text.splitlines() if line.startswith("Max core file size")}
    assert soft and soft <= {"0", "1"}, soft
    subprocess.run(["sh", "-c", "ulimit -c unlimited; kill -ABRT $$"], cwd=tmp_path, stderr=subprocess.DEVNULL, check=False)
    platform.process.send_signal(signal.SIGABRT)
    assert platform.process.wait(30) == -signal.SIGABRT
    if core_files(tmp_path):
        assert core_files(platform.home) == [], "where other programs leave one"
    held = set()
    for path in platform.data_dir.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 28 and "runtimes" not in path.parts:
            found = finds(path.read_bytes())
            held.update(found)
            assert not found or not open_to_others(path, platform.data_dir), (path, found)
    assert {"variable", "secure parameter", "stored secret"} <= held, "the search finds what is stored"
    log = b"".join(path.read_bytes() for path in platform.data_dir.rglob("*.log"))
    assert re.search(rb"START RequestId", log) and finds(log) == []


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
