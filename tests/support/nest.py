"""examples/nest, built as its README says: by npm into target/, once, and into an image on Debian's own Node."""

import hashlib
import os
import shutil
import subprocess

import pytest

from support import images
from support.images import Image, Layer
from support.paths import BUILT, ROOT

EXAMPLE = ROOT / "examples/nest"
BUILD = BUILT / "nest"
# Made by scripts/build-test-functions, of the crate `lambda_web_adapter` as it is published.
ADAPTER = BUILT / "web-adapter/bin/lambda-adapter"
COMMANDS = (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"], ["npm", "prune", "--omit=dev"])


def app():
    """The application's folder with its packages and what the compiler made of it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    sources = [path for path in sorted((EXAMPLE / "app").rglob("*")) if path.is_file() and wanted(path)]
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    made = BUILD / "made"
    if made.is_file() and made.read_text() == stamp:
        return BUILD / "app"
    shutil.rmtree(BUILD, ignore_errors=True)
    for path in sources:
        target = BUILD / path.relative_to(EXAMPLE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for command in COMMANDS:
        ran = subprocess.run(command, cwd=BUILD / "app", capture_output=True, text=True)
        if ran.returncode != 0:
            pytest.skip(f"{' '.join(command)}: {(ran.stderr or ran.stdout)[-300:]}")
    made.write_text(stamp)
    return BUILD / "app"


def wanted(path):
    return not {"node_modules", "dist"} & set(path.relative_to(EXAMPLE).parts)


def image():
    """What the example's Dockerfile says, on the files of this machine's Node."""
    if not ADAPTER.is_file():
        pytest.skip("the web adapter is not built: scripts/build-test-functions")
    folder = app()
    base = Layer(compress=False)
    for name in ("app", "usr", "usr/bin", "usr/lib", "usr/lib64", "opt", "opt/extensions", "var", "var/task", "etc", "tmp"):
        base.folder(name)
    for name in ("bin", "lib", "lib64"):
        base.symlink(name, f"usr/{name}")
    node = os.path.realpath(shutil.which("node"))
    base.add("usr/bin/node", open(node, "rb").read(), 0o755)
    base.add("opt/extensions/lambda-adapter", ADAPTER.read_bytes(), 0o755)
    for path, target in images.libraries(node, str(ADAPTER)).items():
        base.add("usr" + path if not path.startswith("/usr") else path[1:], open(target, "rb").read(), 0o755)
    program = Layer(compress=False).host(str(folder / "package.json"), "app/package.json")
    for part in ("dist", "node_modules"):
        for path in [folder / part, *sorted((folder / part).rglob("*"))]:
            program.host(str(path), f"app/{path.relative_to(folder)}")
    return Image(
        base, program, Cmd=["node", "dist/main"], WorkingDir="/app",
        Env=["PORT=3000", "READINESS_CHECK_PATH=/health-check"],
    )
