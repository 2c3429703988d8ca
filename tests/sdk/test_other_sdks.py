"""AWS's SDKs for Rust and for JavaScript, unmodified: they create, wait, invoke, stream, list, and are refused in types."""

import json
import shutil
import subprocess

import boto3
import pytest

from support import packages
from support.paths import BUILT, ROOT
from support.platform import ROLE

# The first run of a fresh clone installs the packages.
pytestmark = pytest.mark.patience(300)


def rust():
    program = BUILT / "rust-client/bootstrap"
    if not program.is_file():
        pytest.skip("the client is not built: scripts/build-test-functions")
    return [program]


def javascript():
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node or npm is not installed")
    source, folder = ROOT / "tests/sdk/js-client", BUILT / "js-client"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "client.js", "signed.js"):
        shutil.copy(source / name, folder)
    wanted = json.loads((source / "package.json").read_text())["dependencies"]
    if not all((folder / "node_modules" / name).is_dir() for name in wanted):
        command = ["npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--silent"]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"the SDK cannot be installed: {(made.stderr or made.stdout)[-300:]}")
    return ["node", folder / "client.js"]


# The clients' keys.
VERIFIED = ("--credentials", "test:test")


@pytest.mark.parametrize("arguments", [(), VERIFIED], ids=["anybody", "verified"])
@pytest.mark.parametrize(("language", "command"), [("rust", rust), ("js", javascript)])
def test_an_sdk_creates_waits_invokes_streams_lists_and_is_refused(start, tmp_path, language, command, arguments):
    platform = start(*arguments)
    zips = []
    for name in ("echo", "rogue", "streams"):
        zips.append(tmp_path / f"{name}.zip")
        zips[-1].write_bytes(packages.built(name))
    ran = subprocess.run([*command(), platform.url, ROLE, *zips], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    # What the Rust runtime puts before every stream.
    prelude, seen["streamed"] = seen["streamed"].split("\0" * 8)
    assert json.loads(prelude)["statusCode"] == 200
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{language}-cart"
    assert seen == {
        "made": [f"{language}-cart", "$LATEST", "Zip", 10],
        "invoked": [200, '{"hello":"w\u00f6rld"}', "$LATEST", None, True],
        "queued": 202,
        "failed": [200, "Unhandled", "Runtime.ExitError"],
        "streamed": "one,two,three",
        "complete": None,
        "listed": [f"{language}-cart", f"{language}-streams"],
        "throttled": [429, "ReservedFunctionConcurrentInvocationLimitExceeded"],
        "missing": [404, f"Function not found: {arn}"],
    }


def test_the_javascript_sdk_is_verified_by_header_and_by_url_and_by_its_clock(start):
    command = [*javascript()[:1], BUILT / "js-client/signed.js"]
    platform = start(*VERIFIED)
    client = boto3.client("lambda", "us-east-1", endpoint_url=platform.url, aws_access_key_id="test", aws_secret_access_key="test")
    code = {"ZipFile": packages.built("echo")}
    client.create_function(FunctionName="echo", Runtime="provided.al2023", Handler="bootstrap", Role=ROLE, Code=code)
    ran = subprocess.run([*command, platform.url, "test", "test", "echo"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "right": 200,
        "wrong": [403, "InvalidSignatureException"],
        "unknown": [403, "UnrecognizedClientException"],
        "late": [403, "InvalidSignatureException"],
        "early": [403, "InvalidSignatureException"],
        "set_right": 200,
        "presigned": [200, 403, 403],
        "who": ["000000000000", "arn:aws:iam::000000000000:root"],
        "nobody": [[403, "SignatureDoesNotMatch"], [403, "InvalidClientTokenId"]],
    }
