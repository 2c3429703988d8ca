"""Functions from container images: from a layout folder, an archive and a template; their root and their program."""

import gzip
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import time

import botocore.exceptions
import pytest

from support import images
from support.images import Image, Layer
from support.platform import ROLE, NotReady


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture
def make(platform, layouts, request):
    """Creates a function from an image; its name comes back."""

    def create(image, name=None, **options):
        name = name or request.node.name.split("[")[0][-60:]
        folder = image.layout(layouts / name)
        options = {"Timeout": 20, "MemorySize": 256} | options
        platform.client().create_function(
            FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": str(folder)}, **options
        )
        assert platform.settled(name)["State"] == "Active"
        return name

    return create


def run(platform, name, source, **event):
    answer = platform.invoke(name, {"python": source, **event})
    assert answer.status == 200 and answer.error is None, answer
    return answer.json()


def wait(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def refused(call, code="InvalidParameterValueException"):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def fails(platform, uri, name="hostile"):
    """The reason of a function whose image is seen and then cannot be had."""
    client = platform.client()
    client.create_function(FunctionName=name, PackageType="Image", Role=ROLE, Code={"ImageUri": str(uri)})
    shown = platform.settled(name)
    assert shown["State"] == "Failed" and shown["LastUpdateStatus"] == "Failed", shown
    client.delete_function(FunctionName=name)
    return shown["StateReasonCode"], shown["StateReason"]


def test_an_image_runs_and_is_shown_as_aws_shows_it(platform, make, layouts):
    image = images.puppet_image(Cmd=["x"], WorkingDir="/app", Env=["GREETING=hello", "PATH=/usr/bin"])
    name = make(image)
    seen = run(platform, name, "import sys\nanswer = [os.environ['GREETING'], os.getcwd(), sys.argv]")
    assert seen == ["hello", "/app", ["/app/puppet", "x"]]
    client = platform.client()
    shown = client.get_function(FunctionName=name)
    digest = images.digest(image.manifest)
    uri = str(layouts / name)
    assert shown["Code"] == {"RepositoryType": "ECR", "ImageUri": uri, "ResolvedImageUri": f"{uri}@{digest}"}
    configuration = shown["Configuration"]
    assert configuration["PackageType"] == "Image" and configuration["CodeSize"] == 0
    assert configuration["CodeSha256"] == digest.split(":")[1]
    assert "Runtime" not in configuration and "Handler" not in configuration


def test_layers_hide_each_other_as_whiteouts_say(platform, make):
    low = Layer().folder("data").folder("data/kept").folder("data/emptied")
    for path in ("data/kept/a", "data/kept/b", "data/emptied/x", "data/gone", "data/replaced"):
        low.add(path, "low")
    low.folder("data/folder").add("data/folder/file", "low")
    high = Layer(compress=False).add("data/.wh.gone").folder("data/emptied").add("data/emptied/.wh..wh..opq")
    high.add("data/emptied/y", "high").add("data/replaced", "high").add("data/kept/.wh.b").add("data/.wh.folder")
    name = make(images.puppet_image().on(low, high))
    found = run(platform, name, """
answer = {}
for folder, _, names in os.walk('/data'):
    for one in names:
        path = os.path.join(folder, one)
        answer[path[6:]] = open(path).read()
""")
    assert found == {"kept/a": "low", "emptied/y": "high", "replaced": "high"}


def test_the_root_is_the_images_own_and_only_tmp_can_be_written(platform, make):
    name = make(images.puppet_image(User="root"))
    seen = run(platform, name, """
def attempt(path):
    try:
        open(path, 'w').close()
    except OSError as error:
        return error.errno
def lines(path):
    return open(path).read().split('\\n')
answer = {
    'root': sorted(os.listdir('/')), 'bin': sorted(os.listdir('/usr/bin'))[:1], 'uid': os.getuid(),
    'writes': [attempt(path) for path in ('/app/x', '/var/task/x', '/home.x', '/etc/x', '/tmp/x')],
    'base': lines('/etc/base'), 'passwd': lines('/etc/passwd')[1].split(':')[0], 'names': lines('/etc/resolv.conf'),
    'hosts': lines('/etc/hosts')[0], 'dev': sorted(os.listdir('/dev')), 'random': len(open('/dev/urandom', 'rb').read(9)),
    'trust': os.path.getsize(os.environ['SSL_CERT_FILE']) > 1000, 'libraries': os.environ.get('LD_LIBRARY_PATH'),
    'handler': os.environ.get('_HANDLER'), 'execution': os.environ.get('AWS_EXECUTION_ENV'),
    'region': os.environ['AWS_REGION'], 'name': os.environ['AWS_LAMBDA_FUNCTION_NAME'],
}
""")
    assert seen["root"] == ["app", "bin", "dev", "etc", "lib", "lib64", "proc", "tmp", "usr", "var"]
    # Nothing of the host's: it has hundreds of programs.
    assert seen["bin"] == ["python3"] and seen["base"] == ["base"]
    assert seen["uid"] == 993 and seen["passwd"] == "sbx_user1051"
    assert seen["writes"] == [30, 30, 30, 30, None]
    assert seen["names"][0] == "nameserver 169.254.169.253" and seen["hosts"].startswith("127.0.0.1")
    assert {"null", "urandom", "zero"} <= set(seen["dev"]) and seen["random"] == 9 and seen["trust"]
    assert seen["libraries"] is seen["handler"] is seen["execution"] is None
    assert (seen["region"], seen["name"]) == ("us-east-1", name)


def test_a_program_that_writes_its_home_fails_until_home_is_tmp(platform, make):
    # What npm does at its start: https://docs.npmjs.com/cli, "logs-dir".
    source = """
import pathlib
folder = pathlib.Path.home() / '.npm/_logs'
try:
    folder.mkdir(parents=True)
    answer = str(folder)
except OSError as error:
    answer = f'{error.strerror}: {error.filename}'
"""
    name = make(images.puppet_image())
    said = run(platform, name, source)
    assert said.startswith("Read-only file system: /home"), said
    platform.client().update_function_configuration(FunctionName=name, Environment={"Variables": {"HOME": "/tmp"}})
    assert run(platform, name, source) == "/tmp/.npm/_logs"


def test_image_config_takes_the_place_of_what_it_names(platform, make):
    image = images.puppet_image(Entrypoint=["/nowhere"], Cmd=["one"], WorkingDir="/nowhere")
    config = {"EntryPoint": ["python3", "/app/puppet"], "Command": ["two"], "WorkingDirectory": "/var"}
    name = make(image, ImageConfig=config)
    assert run(platform, name, "import sys\nanswer = [sys.argv[1:], os.getcwd()]") == [["two"], "/var"]
    client = platform.client()
    assert client.get_function_configuration(FunctionName=name)["ImageConfigResponse"]["ImageConfig"] == config
    client.update_function_configuration(FunctionName=name, ImageConfig={})
    answer = platform.invoke(name, {})
    assert answer.error == "Unhandled" and answer.json()["errorType"] == "Runtime.InvalidWorkingDir", answer
    assert answer.json()["errorMessage"].endswith("Error: chdir /nowhere: no such file or directory")
    assert "ImageConfigResponse" not in client.get_function_configuration(FunctionName=name)


@pytest.mark.parametrize(
    "config, cause",
    [
        ({"Entrypoint": ["/nowhere"]}, "fork/exec /nowhere: no such file or directory"),
        ({"Entrypoint": ["nothing"]}, "fork/exec nothing: no such file or directory"),
        ({"Entrypoint": ["/etc/base"]}, "fork/exec /etc/base: permission denied"),
        ({"Entrypoint": None}, "Couldn't find valid bootstrap(s): []"),
    ],
    ids=["absent", "not-in-path", "not-executable", "none"],
)
def test_an_entry_point_that_cannot_run_is_the_functions_error(platform, make, config, cause, request):
    name = make(images.puppet_image(**config), name="entry-" + request.node.callspec.id)
    answer = platform.invoke(name, {})
    assert answer.error == "Unhandled" and answer.json()["errorType"] == "Runtime.InvalidEntrypoint", answer
    assert answer.json()["errorMessage"].endswith(f"Error: {cause}"), answer


def test_members_that_do_not_fit_the_package_are_refused(platform, make, layouts):
    client = platform.client()
    name = make(images.puppet_image())
    make_image = lambda **more: client.create_function(  # noqa: E731
        FunctionName="refused", Role=ROLE, PackageType="Image", **{"Code": {"ImageUri": str(layouts / name)}, **more}
    )
    assert "provide ImageUri" in refused(lambda: make_image(Code={"ZipFile": b"x"}))
    assert "Handler" in refused(lambda: make_image(Handler="a.b"))
    assert "Runtime" in refused(lambda: make_image(Runtime="python3.13"))
    assert "1500" in refused(lambda: make_image(ImageConfig={"Command": ["x"] * 1501}), "ValidationException")
    assert "does not exist" in refused(lambda: make_image(Code={"ImageUri": "/nowhere/at/all"}))
    assert "not supported" in refused(lambda: make_image(Code={"ImageUri": "Not A Name"}))
    assert "packageType Image" in refused(lambda: client.update_function_code(FunctionName=name, ZipFile=b"x"))
    zipped = {"Runtime": "python3.13", "Handler": "a.b", "Role": ROLE}
    bad = lambda: client.create_function(FunctionName="refused", Code={"ImageUri": "/x"}, **zipped)  # noqa: E731
    assert "packageType Zip" in refused(bad)


def test_new_code_runs_and_old_versions_keep_theirs(platform, make, layouts):
    base = images.puppet_image()
    name = make(base.on(Layer().add("etc/version", "one")))
    client = platform.client()
    source = "answer = open('/etc/version').read()"
    assert run(platform, name, source) == "one"
    client.publish_version(FunctionName=name)
    second = base.on(Layer().add("etc/version", "two")).layout(layouts / "second")
    client.update_function_code(FunctionName=name, ImageUri=str(second))
    platform.settled(name)
    assert run(platform, name, source) == "two"
    old = platform.invoke(name + ":1", {"python": source})
    assert old.error is None and old.json() == "one", old


def test_an_archive_of_docker_save_runs(platform, tmp_path):
    archive = images.puppet_image().archive(tmp_path / "app.tar")
    client = platform.client()
    # Behind the path a tag, or as skopeo and Podman write it, the name with its tag.
    uris = [str(archive), f"docker-archive:{archive}:latest", f"docker-archive:{archive}:app:latest"]
    for name, uri in zip(("saved", "saved-tag", "saved-name"), uris):
        client.create_function(FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": uri}, Timeout=20)
        platform.settled(name)
        assert run(platform, name, "answer = 1") == 1
    for other in ("other", "other:latest"):
        wrong = {"PackageType": "Image", "Code": {"ImageUri": f"docker-archive:{archive}:{other}"}, "Role": ROLE}
        told = refused(lambda: client.create_function(FunctionName="saved-other", **wrong))
        assert f"no image `{other}`; there is: app:latest" in told


SAVED_TREE = """
answer = {}
for folder, _, names in os.walk('/data'):
    for one in names:
        answer[one] = open(os.path.join(folder, one)).read()
"""


def with_repeats():
    """Two of its layers come twice, as `RUN true` and a file that is put back make them."""
    empty, low = Layer().folder("data"), Layer().folder("data").add("data/a", "low")
    return images.puppet_image().on(low, empty, Layer().add("data/a", "high").add("data/b", "high"), empty, low)


def runs_saved(platform, name, uri):
    client = platform.client()
    client.create_function(FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": uri}, Timeout=20)
    shown = platform.settled(name)
    assert shown["State"] == "Active", shown
    assert run(platform, name, SAVED_TREE) == {"a": "low", "b": "high"}
    client.delete_function(FunctionName=name)


@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
def test_what_podman_saves_runs_in_each_of_its_formats(platform, tmp_path, request):
    # Podman takes no longer name for where it runs.
    short = tempfile.mkdtemp(prefix="podman-", dir="/tmp")
    request.addfinalizer(lambda: shutil.rmtree(short, ignore_errors=True))
    store = ["podman", "--storage-driver=overlay", f"--root={short}/root", f"--runroot={short}/run"]
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    layout = with_repeats().layout(tmp_path / "layout", "v1")

    def podman(*words):
        done = subprocess.run([*store, *words], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            pytest.skip(f"podman does not work here: {done.stderr[-300:]}")
        return done.stdout.split()[-1:]

    (identity,) = podman("pull", "-q", f"--signature-policy={policy}", f"oci:{layout}:v1")
    for tag in ("v1", "v2"):
        podman("tag", identity, f"localhost/saved:{tag}")
    podman("save", "-m", "-o", str(tmp_path / "several.tar"), "localhost/saved:v1", "localhost/saved:v2")
    for form, what in {"docker-archive": "localhost/saved:v1", "oci-archive": "localhost/saved:v1", "oci-dir": identity, "docker-dir": identity}.items():
        podman("save", "-q", "--format", form, "-o", str(tmp_path / form), what)
        runs_saved(platform, f"podman-{form}", str(tmp_path / form))
    runs_saved(platform, "podman-several", f"docker-archive:{tmp_path}/several.tar:v2")


@pytest.mark.parametrize("form", ["1.10", "25", "containerd", "twice"])
def test_what_docker_saves_runs_whatever_its_age(platform, tmp_path, form):
    """Docker to 24: a folder of each layer, one that comes again a link. From 25: an OCI layout with a manifest.json; with the
    containerd store its layers are compressed. Some tools write a layer that comes again a second time, under the same name."""
    image, path = with_repeats(), tmp_path / "saved.tar"
    with tarfile.open(path, "w") as tar:

        def add(name, content, link=None):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            info.size = 0 if link else len(content)
            tar.addfile(info, io.BytesIO(b"" if link else content))

        def blob(content):
            name = "blobs/sha256/" + images.digest(content).split(":")[1]
            add(name, content)
            return name

        names, seen = [], {}
        if form in ("1.10", "twice"):
            for number, layer in enumerate(image.layers):
                # An id of its own even for what comes again.
                folder = "ab%062d" % (number if form == "1.10" else list(seen).index(layer.diff_id) if layer.diff_id in seen else number)
                names.append(f"{folder}/layer.tar")
                if form == "1.10":
                    add(f"{folder}/VERSION", b"1.0")
                again = seen.setdefault(layer.diff_id, folder)
                add(names[-1], layer.archive, link=f"../{again}/layer.tar" if form == "1.10" and again != folder else None)
            config = images.digest(image.configuration).split(":")[1] + ".json"
            add(config, image.configuration)
            add("repositories", b'{"saved":{"v1":"' + b"0" * 64 + b'"}}')
        else:
            add("oci-layout", images.as_json({"imageLayoutVersion": "1.0.0"}))
            names = [blob(layer.archive if form == "25" else layer.bytes) for layer in image.layers]
            config = blob(image.configuration)
            blob(image.manifest)
            entry = images.descriptor(f"{images.TYPE}.manifest.v1+json", image.manifest)
            add("index.json", images.as_json({"schemaVersion": 2, "manifests": [entry]}))
        add("manifest.json", images.as_json([{"Config": config, "RepoTags": ["saved:v1"], "Layers": names}]))
    runs_saved(platform, f"docker-{form.replace('.', '-')}", str(path))


def test_hostile_images_are_refused_by_name_and_leave_nothing(platform, layouts, tmp_path):
    marker = tmp_path / "outside"
    marker.mkdir()
    hard = tarfile.LNKTYPE

    def sparse(layer):
        layer.tar.close()
        info = tarfile.TarInfo("huge")
        info.size = 100 << 30
        layer.stream.seek(0)
        layer.stream.truncate()
        layer.stream.write(info.tobuf(tarfile.PAX_FORMAT))
        return layer

    hostile = {
        "parent": (Layer().add("../../outside/PWNED", "x"), "leads out"),
        "through": (Layer().add("a/../../PWNED", "x"), "leads out"),
        "link-out": (Layer().add("etc/shadow2", kind=hard, link="/etc/shadow"), "hard link"),
        "link-parent": (Layer().add("up", kind=hard, link="../../../etc/shadow"), "leads out"),
        "circle": (Layer().symlink("a", "b").symlink("b", "a").add("a/x", "x"), "circle"),
        "whiteout-all": (Layer().add(".wh."), "names nothing"),
        "whiteout-up": (Layer().add("etc/.wh..."), "names nothing"),
        "huge": (sparse(Layer(compress=False)), "10 GB"),
        "cut": (Layer(compress=False), "ends within"),
        "nul": (Layer().add("x" * 300, "x"), "too long"),
        "kind": (Layer().add("odd", kind=b"Z"), "of a kind"),
    }
    hostile["cut"][0].add("a", b"x" * 2000).archive
    hostile["cut"][0].__dict__["archive"] = hostile["cut"][0].archive[:1000]
    client = platform.client()
    for name, (layer, words) in hostile.items():
        folder = images.puppet_image().on(layer).layout(layouts / f"hostile-{name}")
        code, message = fails(platform, folder)
        assert code == "InvalidImage" and words in message, (name, code, message)
    many = images.puppet_image()
    many.layers += [Layer()] * 10_000
    folder = many.layout(layouts / "many")
    request = {"PackageType": "Image", "Role": ROLE, "Code": {"ImageUri": str(folder)}}
    assert "10002 layers" in refused(lambda: client.create_function(FunctionName="hostile", **request))
    assert list(marker.iterdir()) == []
    assert list((platform.data_dir / "images/staging").iterdir()) == []


def test_what_is_odd_but_harmless_runs_without_its_teeth(platform, make):
    odd = Layer().add("app/set", "x", 0o6755).add("dev/sda", kind=tarfile.BLKTYPE).add("pipe", kind=tarfile.FIFOTYPE)
    odd.symlink("out", "/../../../../etc/base").symlink("tmp", "/etc").symlink("etc/resolv.conf", "/etc/base")
    odd.add("twice", "one").add("twice", "two").add("/absolute", "in").symlink("loop", "loop")
    odd.folder("deep").symlink("deep/up", "../..").add("deep/up/etc/through", "in")
    name = make(images.puppet_image().on(odd))
    seen = run(platform, name, """
answer = [os.stat('/app/set').st_mode & 0o7777, os.path.exists('/dev/sda'), os.path.exists('/pipe'), open('/out').read(),
    open('/twice').read(), open('/absolute').read(), open('/etc/through').read(), os.path.islink('/tmp'),
    open('/etc/resolv.conf').read()[:10]]
""")
    assert seen == [0o755, False, False, "base", "two", "in", "in", False, "nameserver"]


def test_damaged_content_is_not_believed(platform, layouts):
    image = images.puppet_image().on(Layer().add("etc/precious", "x" * 100))
    folder = image.layout(layouts / "damaged")
    blob = folder / "blobs/sha256" / images.digest(image.layers[-1].bytes).split(":")[1]
    good = blob.read_bytes()
    blob.write_bytes(Layer().add("etc/precious", "y" * 100).bytes)
    code, message = fails(platform, folder)
    assert code == "InvalidImage" and "it is damaged" in message, (code, message)
    blob.unlink()
    assert fails(platform, folder)[0] == "ImageDeleted"
    blob.write_bytes(good)
    request = {"PackageType": "Image", "Role": ROLE, "Code": {"ImageUri": str(folder)}}
    assert platform.client().create_function(FunctionName="damaged", **request)["State"] == "Pending"
    assert platform.settled("damaged")["State"] == "Active"


def test_an_image_for_another_processor_is_refused_with_the_cure(platform, layouts):
    other = {"amd64": "arm64", "arm64": "amd64"}[images.ARCHITECTURE]
    image = Image(*images.puppet_image().layers, architecture=other, Entrypoint=["/app/puppet"])
    folder = image.layout(layouts / "other")
    request = {"PackageType": "Image", "Role": ROLE, "Code": {"ImageUri": str(folder)}}
    request["Architectures"] = ["arm64" if other == "amd64" else "x86_64"]
    message = refused(lambda: platform.client().create_function(FunctionName="other", **request))
    assert f"is for linux/{other}" in message and "--platform" in message


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      PackageType: Image
      ImageUri: URI
      ImageConfig: {Command: [from-template]}
      Timeout: 20
      Architectures: [ARCHITECTURE]
    Metadata: {Dockerfile: Dockerfile, DockerContext: ./cart, DockerTag: v1}
"""


def template(folder, uri):
    text = TEMPLATE.replace("ARCHITECTURE", {"amd64": "x86_64"}.get(images.ARCHITECTURE, images.ARCHITECTURE))
    text = text.replace("      ImageUri: URI\n", f"      ImageUri: {uri}\n" if uri else "")
    path = folder / "template.yaml"
    path.write_text(text)
    return path


def test_a_template_names_a_layout_beside_it_and_restarts_keep_it(start, tmp_path):
    images.puppet_image().layout(tmp_path / "cart-image")
    path = template(tmp_path, "./cart-image")
    source = "import sys\nanswer = sys.argv[1:]"
    first = start(template=path, home=tmp_path)
    name = first.client().list_functions()["Functions"][0]["FunctionName"]
    assert run(first, name, source) == ["from-template"]
    before = first.client().get_function(FunctionName=name)
    first.kill()
    second = start(template=path, home=tmp_path)
    assert run(second, name, source) == ["from-template"]
    after = second.client().get_function(FunctionName=name)
    assert (after["Configuration"], after["Code"]) == (before["Configuration"], before["Code"])


def test_another_image_takes_the_place_of_the_templates(start, tmp_path):
    archive = images.puppet_image().archive(tmp_path / "cart.tar")
    path = template(tmp_path, "123456789012.dkr.ecr.us-east-1.amazonaws.com/cart:1")
    platform = start("--image", f"Cart={archive}", template=path)
    shown = platform.client().list_functions()["Functions"][0]
    assert run(platform, shown["FunctionName"], "import sys\nanswer = sys.argv[1:]") == ["from-template"]
    code = platform.client().get_function(FunctionName=shown["FunctionName"])["Code"]
    assert code["ImageUri"] == "123456789012.dkr.ecr.us-east-1.amazonaws.com/cart:1"


def test_what_has_to_be_built_is_said_with_the_commands(start, tmp_path):
    with pytest.raises(NotReady) as caught:
        start(template=template(tmp_path, None))
    for words in ("docker build --platform linux/", "-t cart:v1", "docker save cart:v1", "onrush up --image Cart="):
        assert words in str(caught.value)
    with pytest.raises(NotReady, match="has no function Carts"):
        start("--image", "Carts=/x", template=template(tmp_path, None))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"hello", "is no archive of an image"),
        (b"", "has neither manifest.json nor index.json"),
        (gzip.compress(b"tar"), "is compressed: decompress it first"),
    ],
    ids=["text", "empty", "gzip"],
)
def test_a_file_that_is_no_archive_is_the_callers_mistake(platform, tmp_path, content, words):
    path = tmp_path / "cart.tar"
    path.write_bytes(content)
    create = platform.client().create_function
    message = refused(
        lambda: create(FunctionName="no-archive", PackageType="Image", Role=ROLE, Code={"ImageUri": str(path)})
    )
    assert str(path) in message and words in message, message


@pytest.mark.parametrize("told_by", ["metadata", "assets"])
def test_what_cdk_synth_leaves_to_be_built_is_said_with_the_commands(start, tmp_path, told_by):
    out = tmp_path / "cdk.out"
    (out / "asset.4f0c").mkdir(parents=True)
    # A registry that is not there: nothing leaves this machine.
    uri = "localhost:1/cdk-hnb659fds-container-assets-${AWS::AccountId}-${AWS::Region}:4f0c"
    metadata = {"aws:asset:path": "asset.4f0c", "aws:asset:dockerfile-path": "Dockerfile", "aws:asset:docker-build-args": {"V": "1"}}
    cart = {
        "Type": "AWS::Lambda::Function",
        "Properties": {"PackageType": "Image", "Code": {"ImageUri": {"Fn::Sub": uri}}, "Role": "arn:aws:iam::000000000000:role/r"},
        "Metadata": metadata if told_by == "metadata" else {},
    }
    (out / "App.template.json").write_text(json.dumps({"Resources": {"Cart": cart}}, indent=1))
    source = {"directory": "asset.4f0c", "dockerFile": "Dockerfile", "dockerBuildArgs": {"V": "1"}, "platform": "linux/amd64"}
    image = {"source": source, "destinations": {"current_account-current_region": {"repositoryName": "r", "imageTag": "4f0c"}}}
    (out / "App.assets.json").write_text(json.dumps({"version": "36.0.0", "files": {}, "dockerImages": {"4f0c": image}}))
    with pytest.raises(NotReady) as caught:
        start(template=out)
    said = str(caught.value)
    assert f"--build-arg V=1 -t cart:latest -f {out}/asset.4f0c/Dockerfile {out}/asset.4f0c\n" in said, said
    assert f"onrush up --image Cart=cart.tar {out}/App.template.json" in said, said
    archive = images.puppet_image().archive(tmp_path / "cart.tar")
    platform = start("--image", f"Cart={archive}", template=out)
    name = platform.client().list_functions()["Functions"][0]["FunctionName"]
    assert run(platform, name, "answer = 1") == 1


def test_images_survive_kill_9_and_unused_ones_go(start, tmp_path):
    (tmp_path / "home").mkdir()
    first = start(home=tmp_path / "home")
    shared = images.puppet_image()
    for name in ("kept", "gone"):
        folder = shared.on(Layer().add("etc/which", name)).layout(tmp_path / name)
        first.client().create_function(
            FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": str(folder)}, Timeout=20
        )
        first.settled(name)
    layers = first.data_dir / "images/layers"
    # Both have the two layers of the base.
    assert len(list(layers.iterdir())) == 4
    first.client().delete_function(FunctionName="gone")
    # What a crash left half-made.
    (first.data_dir / "images/staging/0").mkdir()
    first.kill()
    second = start(home=tmp_path / "home")
    assert run(second, "kept", "answer = open('/etc/which').read()") == "kept"
    wait(lambda: len(list(layers.iterdir())) == 3)
    assert list((first.data_dir / "images/staging").iterdir()) == []
