"""An extension that others have published, unmodified: `lambda-sigterm`, an internal one with which a Python function hears of
its end."""

import subprocess
import sys
import time

import pytest

from support import packages
from support.paths import BUILT

# The first run of a fresh clone installs it.
pytestmark = pytest.mark.patience(400)
VERSION = "0.1.2"
# From Python 3.12 on AWS's runtime client waits in a thread of its own, so that a signal's handler can run.
PYTHON = f"python3.{max(sys.version_info.minor, 12)}"


def log_until(platform, name, wanted):
    deadline = time.monotonic() + 30
    while True:
        lines = platform.log(name)
        if found := [line for line in lines if wanted in line]:
            return lines, found
        assert time.monotonic() < deadline, lines
        time.sleep(0.05)


def test_an_internal_extension_from_pypi_lets_python_hear_of_its_end(platform):
    folder = BUILT / "lambda-sigterm"
    if not (folder / "lambda_sigterm").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", folder]
        made = subprocess.run([*command, f"lambda-sigterm=={VERSION}"], capture_output=True, text=True)
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
        answer = platform.invoke(name, {"n": 1})
        assert answer.json() == {"n": 1}, answer
        client.update_function_configuration(FunctionName=name, Description="new environments from now on")
    lines, _ = log_until(platform, "told", "the pool is closed")
    assert any(line.startswith("EXTENSION\tName: lambda-sigterm\tState: Ready\tEvents: []") for line in lines), lines
    # Its end came no later.
    assert not any("the pool is closed" in line for line in platform.log("untold"))
