"""Functions that need a build: what pip, npm and make bring is there when they run, and the user's tree is left alone."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

from support.platform import NotReady

RUNTIME = f"python3.{min(max(sys.version_info.minor, 9), 14)}"
# The first function of a fresh clone installs its runtime.
pytestmark = pytest.mark.patience(400)


def wheel(folder, text):
    """A package `greet` that pip takes without a network."""
    name = "greet-1.0-py3-none-any.whl"
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("greet.py", f"TEXT = {text!r}\n")
        archive.writestr("greet-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n")
        archive.writestr("greet-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("greet-1.0.dist-info/RECORD", "")
    return name


def template(home, **functions):
    path = home / "template.json"
    resources = {}
    for name, properties in functions.items():
        metadata = properties.pop("Metadata", None)
        resources[name] = {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": f"{name.lower()}/", "FunctionName": name} | properties}
        if metadata:
            resources[name]["Metadata"] = metadata
    path.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    return path


def tree(folder):
    """Every file's name and content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def until(check, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@pytest.fixture
def home(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


def test_python_packages_are_installed_beside_the_code_and_not_into_it(start, home):
    folder = home / "cart"
    folder.mkdir()
    (folder / "requirements.txt").write_text(f"# ours\n./{wheel(folder, 'from the wheel')}\n")
    (folder / "app.py").write_text("import greet\ndef handler(event, context): return [1, greet.TEXT]\n")
    before = tree(folder)
    path = template(home, Cart={"Handler": "app.handler", "Runtime": RUNTIME})
    platform = start(home=home, template=path)
    assert platform.stderr().count("Cart: pip install -r requirements.txt") == 1
    assert platform.invoke("Cart").json() == [1, "from the wheel"]
    assert tree(folder) == before
    # An edit is seen without another installation.
    (folder / "app.py").write_text("import greet\ndef handler(event, context): return [2, greet.TEXT]\n")
    until(lambda: platform.invoke("Cart").json()[0] == 2)
    assert platform.stderr().count("pip install") == 1
    platform.stop()
    again = start(home=home, template=path)
    assert again.invoke("Cart").json() == [2, "from the wheel"]
    assert "pip install" not in again.stderr()


def test_a_package_that_cannot_be_installed_is_said_and_the_function_still_runs(start, home):
    folder = home / "cart"
    folder.mkdir()
    (folder / "requirements.txt").write_text("./not-there.whl\n")
    (folder / "app.py").write_text("def handler(event, context): return 1\n")
    path = template(home, Cart={"Handler": "app.handler", "Runtime": RUNTIME})
    platform = start("--watch", home=home, template=path)
    assert platform.tells("pip could not build") and platform.tells("not-there.whl")
    assert platform.invoke("Cart").json() == 1
    # While it runs, a list of packages that cannot be had changes nothing, and a good one does.
    (folder / "requirements.txt").write_text("./neither.whl\n")
    until(lambda: "what ran before goes on running" in platform.stderr())
    assert platform.invoke("Cart").json() == 1
    (folder / "requirements.txt").write_text(f"./{wheel(folder, 'now')}\n")
    (folder / "app.py").write_text("import greet\ndef handler(event, context): return greet.TEXT\n")
    until(lambda: platform.invoke("Cart").json() == "now")


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_node_packages_are_installed_beside_the_code_and_not_into_it(start, home):
    folder = home / "cart"
    folder.mkdir()
    with tarfile.open(folder / "greet-1.0.0.tgz", "w:gz") as archive:
        for name, text in [("package.json", '{"name": "greet", "version": "1.0.0"}'), ("index.js", "module.exports = 'from the tarball';")]:
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    (folder / "package.json").write_text(json.dumps({"name": "cart", "dependencies": {"greet": "file:greet-1.0.0.tgz"}}))
    (folder / "app.js").write_text("exports.handler = async () => [require('greet'), require('fs').existsSync('.npmrc')];")
    (folder / ".npmrc").write_text("//registry.example.com/:_authToken=a-secret\n")
    before = tree(folder)
    version = subprocess.run(["node", "-p", "process.versions.node.split('.')[0]"], capture_output=True, text=True).stdout.strip()
    path = template(home, Cart={"Handler": "app.handler", "Runtime": f"nodejs{version}.x", "Timeout": 20})
    platform = start(home=home, template=path)
    assert platform.tells("Cart: npm install")
    assert platform.invoke("Cart").json() == ["from the tarball", False], "npm's settings are not deployed"
    assert tree(folder) == before


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_a_makefile_is_run_and_esbuild_refused_with_the_way_out(start, home):
    folder = home / "cart"
    folder.mkdir()
    (folder / "app.txt").write_text("def handler(event, context): return 1\n")
    (folder / "Makefile").write_text("build-Cart:\n\tcp app.txt $(ARTIFACTS_DIR)/app.py\n\ttouch beside\n")
    before = tree(folder)
    python = {"Handler": "app.handler", "Runtime": RUNTIME}
    platform = start(home=home, template=template(home, Cart=python | {"Metadata": {"BuildMethod": "makefile"}}))
    assert platform.tells("Cart: make build-Cart")
    assert platform.invoke("Cart").json() == 1
    assert tree(folder) == before
    (folder / "app.txt").write_text("def handler(event, context): return 2\n")
    until(lambda: platform.invoke("Cart").json() == 2)
    platform.stop()
    node = {"Handler": "app.handler", "Runtime": "nodejs22.x", "Metadata": {"BuildMethod": "esbuild"}}
    with pytest.raises(NotReady, match=r"template.json:1:\d+: Cart: BuildMethod esbuild .*sam build"):
        start(home=home, template=template(home, Cart=node))


def test_what_sam_build_left_runs_as_it_is(start, home):
    """`sam build` leaves the methods in its template, esbuild and makefile among them, beside what it has built."""
    functions = {}
    for name, method, runtime in [("Made", "makefile", RUNTIME), ("Bundled", "esbuild", "nodejs22.x")]:
        (home / name.lower()).mkdir()
        functions[name] = {"Handler": "app.handler", "Runtime": runtime, "Metadata": {"BuildMethod": method, "SamResourceId": name}}
    (home / "made" / "app.py").write_text("def handler(event, context): return 'made'\n")
    (home / "bundled" / "app.js").write_text("exports.handler = async () => 'bundled'\n")
    platform = start(home=home, template=template(home, **functions))
    assert platform.invoke("Made").json() == "made"
    assert platform.invoke("Bundled").json() == "bundled"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("arguments", [(), ("--watch",)], ids=["up", "watch"])
def test_layers_are_built_into_the_folders_of_their_runtimes(start, home, arguments):
    """SAM's BuildMethod of a layer: a runtime's files and packages in its own folder below /opt, a makefile's as it puts them."""
    for folder in ("shared", "made", "cart"):
        (home / folder).mkdir()
    (home / "shared/requirements.txt").write_text(f"./{wheel(home / 'shared', 'from the wheel')}\n")
    (home / "shared/helper.py").write_text("TEXT = 'beside it'\n")
    (home / "made/Makefile").write_text("build-Made:\n\tmkdir $(ARTIFACTS_DIR)/data\n\techo made > $(ARTIFACTS_DIR)/data/text\n")
    app = "import greet, helper\ndef handler(event, context): return [greet.TEXT, helper.TEXT, open('/opt/data/text').read()]\n"
    (home / "cart/app.py").write_text(app)
    before = tree(home / "shared")
    layers = {
        name: {"Type": "AWS::Serverless::LayerVersion", "Metadata": {"BuildMethod": method}, "Properties": {"ContentUri": f"{name.lower()}/"}}
        for name, method in [("Shared", RUNTIME), ("Made", "makefile")]
    }
    cart = {"CodeUri": "cart/", "Handler": "app.handler", "Runtime": RUNTIME, "FunctionName": "Cart", "Layers": [{"Ref": "Shared"}, {"Ref": "Made"}]}
    path = home / "template.json"
    resources = layers | {"Cart": {"Type": "AWS::Serverless::Function", "Properties": cart}}
    path.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    platform = start(*arguments, home=home, template=path)
    assert platform.tells("Shared: pip install -r requirements.txt") and platform.tells("Made: make build-Made")
    assert platform.invoke("Cart").json() == ["from the wheel", "beside it", "made\n"]
    assert tree(home / "shared") == before
    (home / "shared/helper.py").write_text("TEXT = 'saved'\n")
    until(lambda: platform.invoke("Cart").json()[1] == "saved")


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_a_layer_for_node_needs_no_packages_to_be_built(start, home):
    (home / "shared").mkdir()
    (home / "shared/helper.js").write_text("module.exports = 'of the layer';")
    (home / "cart").mkdir()
    (home / "cart/app.js").write_text("exports.handler = async () => require('/opt/nodejs/helper');")
    version = subprocess.run(["node", "-p", "process.versions.node.split('.')[0]"], capture_output=True, text=True).stdout.strip()
    cart = {"CodeUri": "cart/", "Handler": "app.handler", "Runtime": f"nodejs{version}.x", "FunctionName": "Cart", "Layers": [{"Ref": "Shared"}]}
    shared = {"Type": "AWS::Serverless::LayerVersion", "Metadata": {"BuildMethod": f"nodejs{version}.x"}, "Properties": {"ContentUri": "shared/"}}
    path = home / "template.json"
    resources = {"Shared": shared, "Cart": {"Type": "AWS::Serverless::Function", "Properties": cart}}
    path.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    platform = start(home=home, template=path)
    assert platform.invoke("Cart").json() == "of the layer"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("method", [RUNTIME, "makefile"])
def test_a_layer_that_cannot_be_built_holds_up_no_edit(start, home, method):
    for folder in ("shared", "cart"):
        (home / folder).mkdir()
    (home / "shared/requirements.txt").write_text("./not-there.whl\n")
    (home / "shared/Makefile").write_text("build-Shared:\n\tfalse\n")
    (home / "shared/python").mkdir()
    (home / "shared/python/helper.py").write_text("TEXT = 'as it lies'\n")
    app = "import helper\ndef handler(event, context): return [{}, helper.TEXT]\n"
    (home / "cart/app.py").write_text(app.format(1))
    shared = {"Type": "AWS::Serverless::LayerVersion", "Metadata": {"BuildMethod": method}, "Properties": {"ContentUri": "shared/"}}
    cart = {"CodeUri": "cart/", "Handler": "app.handler", "Runtime": RUNTIME, "FunctionName": "Cart", "Layers": [{"Ref": "Shared"}]}
    path = home / "template.json"
    resources = {"Shared": shared, "Cart": {"Type": "AWS::Serverless::Function", "Properties": cart}}
    path.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    platform = start("--watch", home=home, template=path)
    assert platform.tells("the layer's folder is taken as it is")
    assert platform.invoke("Cart").json() == [1, "as it lies"]
    (home / "cart/app.py").write_text(app.format(2))
    until(lambda: platform.invoke("Cart").json() == [2, "as it lies"])
    assert platform.tells("the layer stays as it was")
