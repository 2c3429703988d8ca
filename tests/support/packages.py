"""Deployment packages, made in memory."""

import io
import pathlib
import stat
import zipfile

from support.paths import BUILT, FUNCTIONS


def package(files):
    """A zip of {name: text or bytes or (bytes, mode)}; modes are of regular files unless they say otherwise."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            content, mode = content if isinstance(content, tuple) else (content, 0o644)
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = (mode if stat.S_IFMT(mode) else stat.S_IFREG | mode) << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def folder(path):
    """A zip of a folder's files, with their modes."""
    path = pathlib.Path(path)
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    return package({str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mode) for file in files})


def built(name):
    """A compiled function: `echo` (the lambda_runtime crate) or `rogue` (misbehaves on request)."""
    return folder(BUILT / name)


def source(name):
    """A folder of tests/functions: `python`, `node`, `raw/NAME`."""
    return folder(FUNCTIONS / name)


# A runtime of its own, on the system's Python: each answer is what an expression says.
RUNTIME = """#!/usr/bin/python3 -IS
import json, os
from http.client import HTTPConnection

API = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    API.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = API.getresponse()
    answer.read()
    headers = answer.headers
    said = json.dumps(SAID)
    API.request("POST", f"/2018-06-01/runtime/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response", said)
    API.getresponse().read()
"""


def answering(expression):
    """A `bootstrap` that answers what a Python expression says of `os` and the event's `headers`."""
    return RUNTIME.replace("SAID", expression)
