"""Extensions that others have published, unmodified: `@serverless/aws-lambda-otel-extension-dist` (external, with a wrapper of the
runtime; the Logs API) and `lambda-sigterm` (internal, so that a Python function hears of its end)."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from support import extensions, packages
from support.paths import BUILT

# The first run of a fresh clone installs them.
pytestmark = pytest.mark.patience(400)
OTEL = "@serverless/aws-lambda-otel-extension-dist"
OTEL_VERSION, SIGTERM_VERSION = "0.1.11", "0.1.2"
# From Python 3.12 on AWS's runtime client waits in a thread of its own, so that a signal's handler can run.
PYTHON = f"python3.{max(sys.version_info.minor, 12)}"


def log_until(platform, name, wanted, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        lines = platform.log(name)
        if found := [line for line in lines if wanted in line]:
            return lines, found
        assert time.monotonic() < deadline, lines
        time.sleep(0.05)


def test_an_external_extension_from_npm_gets_reports_and_traces(platform):
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = BUILT / "otel-extension"
    archive = folder / "node_modules" / OTEL / "extension.zip"
    if not archive.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--silent", "--prefix", folder]
        made = subprocess.run([*command, f"{OTEL}@{OTEL_VERSION}"], capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"{OTEL} cannot be installed: {(made.stderr or made.stdout)[-300:]}")
    layer = extensions.publish(platform, "otel", archive.read_bytes())
    major = int(subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.lstrip("v").split(".")[0])
    code = packages.package({"app.js": "exports.handler = async (event) => ({ got: event.n });"})
    variables = {
        "AWS_LAMBDA_EXEC_WRAPPER": "/opt/otel-extension/otel-handler",
        # To the log, in place of a server.
        "SLS_OTEL_REPORT_TYPE": "json",
    }
    platform.create(
        "traced", code, f"nodejs{min(max(major // 2 * 2, 16), 24)}.x", "app.handler", variables, Timeout=30, MemorySize=1024,
        Layers=[layer],
    )
    answer = platform.invoke("traced", {"n": 1})
    assert (answer.error, answer.json()) == (None, {"got": 1}), answer
    lines, found = log_until(platform, "traced", '[{"resourceSpans"')
    assert "EXTENSION\tName: otel-extension\tState: Ready\tEvents: [INVOKE,SHUTDOWN]" in lines, lines
    assert any(line.startswith("LOGS\tName: otel-extension\tState: Subscribed") for line in lines), lines
    spans = json.dumps(json.loads(found[0]))
    assert answer.request_id in spans and "arn:aws:lambda:us-east-1:000000000000:function:traced" in spans


def test_an_internal_extension_from_pypi_lets_python_hear_of_its_end(platform):
    folder = BUILT / "lambda-sigterm"
    if not (folder / "lambda_sigterm").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", folder]
        made = subprocess.run([*command, f"lambda-sigterm=={SIGTERM_VERSION}"], capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"lambda-sigterm cannot be installed: {made.stderr[-300:]}")
    app = """
import os, signal, sys

if os.environ["REGISTER"] == "1":
    import lambda_sigterm
    lambda_sigterm.register()

def end(*_):
    print("the pool is closed", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, end)

def handler(event, context):
    return event
"""
    module = (folder / "lambda_sigterm/__init__.py").read_bytes()
    code = packages.package({"app.py": app, "lambda_sigterm/__init__.py": module})
    client = platform.client()
    for name, register in (("told", "1"), ("untold", "0")):
        platform.create(name, code, PYTHON, "app.handler", {"REGISTER": register}, Timeout=20, MemorySize=512)
    # An end has half a second, as at AWS: on a busy machine that is over before the handler had its turn, now and then.
    for turn in reversed(range(6)):
        for name in ("told", "untold"):
            answer = platform.invoke(name, {"n": turn})
            assert answer.json() == {"n": turn}, answer
            client.update_function_configuration(FunctionName=name, Description=f"new environments from now on: {turn}")
        try:
            lines, _ = log_until(platform, "told", "the pool is closed", 5)
            break
        except AssertionError:
            if turn == 0:
                raise
    assert any(line.startswith("EXTENSION\tName: lambda-sigterm\tState: Ready\tEvents: []") for line in lines), lines
    # Its end came no later.
    assert not any("the pool is closed" in line for line in platform.log("untold"))
