"""Images that nobody should build: a clear refusal or a harmless root, nothing outside the data folder, and nothing stays."""

import io
import json
import os
import pathlib
import stat
import tarfile
import time

import botocore.exceptions
import pytest

from support import images
from support.images import Image, Layer
from support.platform import ROLE

MARK = "PWNED-by-onrush-test"
# Bytes of memory that the platform may gain over all of these.
MEMORY_MAX = 64 << 20


def memory(platform):
    status = pathlib.Path(f"/proc/{platform.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


@pytest.fixture(scope="module", autouse=True)
def unharmed(platform):
    """The host is what it was; nothing half-made stays; memory is bounded."""
    before = {path: os.lstat(path).st_mtime_ns for path in ("/", "/etc", "/usr", "/root")}
    held = memory(platform)
    yield
    assert {path: os.lstat(path).st_mtime_ns for path in before} == before
    for folder in ("/", "/tmp", "/etc", "/var", "/usr", "/root", platform.home, platform.data_dir, platform.data_dir / "images"):
        assert not os.path.lexists(os.path.join(folder, MARK)), folder
    assert os.listdir(platform.data_dir / "images/staging") == []
    assert memory(platform) - held < MEMORY_MAX
    platform.alive()


@pytest.fixture(scope="module", autouse=True)
def base(platform, tmp_path_factory):
    """Keeps the lower layers there."""
    folder = images.puppet_image().layout(tmp_path_factory.mktemp("base") / "layout")
    platform.client().create_function(FunctionName="base", Role=ROLE, PackageType="Image", Code={"ImageUri": str(folder)})
    assert platform.settled("base")["State"] == "Active"


@pytest.fixture
def create(platform, tmp_path, request):
    """Creates a function from a layout folder; None, or why it was refused."""
    tmp_path.chmod(0o755)

    def make(image, change=lambda folder: None):
        folder = image if isinstance(image, pathlib.Path) else image.layout(tmp_path / "layout")
        change(folder)
        begun = time.monotonic()
        try:
            platform.client().create_function(
                FunctionName="hostile", Role=ROLE, PackageType="Image", Code={"ImageUri": str(folder)}, Timeout=20
            )
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidParameterValueException", error
            print(f"refused after {time.monotonic() - begun:.3f} s: {error.response['Error']['Message']}")
            return error.response["Error"]["Message"]
        request.addfinalizer(lambda: platform.client().delete_function(FunctionName="hostile"))
        shown = platform.settled("hostile")
        if shown["State"] == "Active":
            return None
        assert (shown["State"], shown["StateReasonCode"]) == ("Failed", "InvalidImage"), shown
        print(f"failed after {time.monotonic() - begun:.3f} s: {shown['StateReason']}")
        return shown["StateReason"]

    return make


def on_top(layer):
    return images.puppet_image().on(layer)


def alone(layer):
    """For what is refused before anything of it runs."""
    return Image(layer, Entrypoint=["/app/puppet"])


def inside(platform, source):
    answer = platform.invoke("hostile", {"python": source})
    assert answer.status == 200 and answer.error is None, answer
    return answer.json()


@pytest.mark.parametrize("name", [f"../{MARK}", f"../../../../../../tmp/{MARK}", f"a/../../{MARK}", f"./a/./../../{MARK}", ".."])
def test_an_entry_that_leads_out_is_refused(create, name):
    assert "leads out of the image" in create(alone(Layer().add(name, "x")))


def test_an_absolute_name_stays_inside(create, platform):
    assert create(on_top(Layer().add(f"/tmp2/{MARK}", "x"))) is None
    assert inside(platform, f"answer = os.path.exists('/tmp2/{MARK}')")


@pytest.mark.parametrize("target", ["/", "/tmp", "../../../../../..", "/proc/self/root", "/proc/self/cwd/../../.."])
def test_a_file_written_through_a_link_stays_inside(create, platform, target):
    """Links lead where they would inside: the layer is the world."""
    said = create(alone(Layer().symlink("door", target).add(f"door/{MARK}", "x")))
    assert said is None or "links that lead in a circle" in said, said


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../../../../etc/passwd", "/proc/1/environ", "nowhere", ""])
def test_a_hard_link_to_the_host_is_refused(create, target):
    said = create(alone(Layer().add("stolen", kind=tarfile.LNKTYPE, link=target)))
    assert said and ("hard link to nothing" in said or "leads out" in said), said


@pytest.mark.parametrize("place", ["opt", "opt/extensions"])
def test_a_folder_of_the_hosts_in_place_of_extensions_is_none(create, platform, tmp_path, place):
    """What lies in `/opt/extensions` is looked up before an environment starts, from outside."""
    host = tmp_path / "of-the-host"
    for folder in (host, host / "extensions"):
        folder.mkdir()
        (folder / "secret-name").write_text("x")
    assert create(on_top(Layer().symlink(place, str(host)))) is None
    assert inside(platform, "answer = 1") == 1
    assert not any("secret-name" in line for line in platform.log("hostile"))


def test_a_hard_link_through_a_link_stays_inside(create):
    said = create(alone(Layer().symlink("door", "/etc").add("stolen", kind=tarfile.LNKTYPE, link="door/shadow")))
    assert said and "hard link to nothing" in said, said


def test_devices_and_pipes_are_left_out(create, platform):
    layer = Layer()
    for name, kind in (("mem", tarfile.CHRTYPE), ("disk", tarfile.BLKTYPE), ("pipe", tarfile.FIFOTYPE)):
        info = tarfile.TarInfo(name)
        info.type, info.devmajor, info.devminor, info.mode = kind, 1, 1, 0o666
        layer.tar.addfile(info)
    assert create(on_top(layer)) is None
    assert inside(platform, "answer = [n for n in ('mem', 'disk', 'pipe') if os.path.lexists('/' + n)]") == []


def test_rights_that_programs_give_do_not_survive(create, platform):
    layer = Layer().add("app/root", "#!/bin/sh\n", 0o6755).folder("app/sticky", 0o7777)
    info = tarfile.TarInfo("app/capable")
    info.pax_headers = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\xff\xff\xff\xff", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    layer.tar.addfile(info)
    assert create(on_top(layer)) is None
    names = "'/app/root', '/app/sticky', '/app/capable'"
    seen = inside(platform, f"answer = [[os.stat(n).st_mode & 0o7000, os.listxattr(n)] for n in ({names})]")
    assert seen == [[0, []]] * 3
    for folder, folders, files in os.walk(platform.data_dir / "images/layers"):
        for path in (os.path.join(folder, name) for name in folders + files):
            found = os.lstat(path)
            assert not found.st_mode & 0o6000, path
            # What an archive says is never written by root.
            if f"{os.sep}root{os.sep}" in path and os.geteuid() == 0:
                assert found.st_uid != 0, path


def test_ten_thousand_layers_are_refused_at_once(create):
    def multiply(folder):
        def blob(document):
            content = images.as_json(document)
            (folder / "blobs/sha256" / images.digest(content).split(":")[1]).write_bytes(content)
            return {"digest": images.digest(content), "size": len(content)}

        def read(descriptor):
            return json.loads((folder / "blobs/sha256" / descriptor["digest"].split(":")[1]).read_bytes())

        index = json.loads((folder / "index.json").read_bytes())
        manifest = read(index["manifests"][0])
        config = read(manifest["config"])
        config["rootfs"]["diff_ids"] *= 10_000
        manifest["config"] |= blob(config)
        manifest["layers"] *= 10_000
        index["manifests"][0] |= blob(manifest)
        (folder / "index.json").write_bytes(images.as_json(index))

    said = create(alone(Layer().add("x", "x")), multiply)
    assert "10000 layers, at most 127" in said, said


@pytest.mark.parametrize("gnu", [False, True], ids=["header", "sparse"])
def test_a_hundred_gigabytes_are_refused_before_they_are_written(create, platform, tmp_path, gnu):
    layer = Layer(compress=False)
    layer.archive  # closes it
    info = tarfile.TarInfo("sparse")
    info.size = 100 << 30
    if gnu:
        info.size, info.pax_headers = 0, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(100 << 30), "GNU.sparse.name": "sparse"}
    head = info.tobuf(tarfile.PAX_FORMAT if gnu else tarfile.GNU_FORMAT)
    layer.__dict__["archive"] = head + bytes(10240)
    said = create(alone(layer))
    if gnu:
        # Sparse records are not read: the file is what lies in the archive, nothing.
        assert said is None or "sparse" in said, said
    else:
        assert "10 GB that Lambda allows" in said, said
    used = sum(os.lstat(os.path.join(f, n)).st_blocks * 512 for f, _, names in os.walk(platform.data_dir) for n in names)
    assert used < 1 << 30


@pytest.mark.parametrize("name", [".wh.", "./.wh..", "/.wh...", "a/.wh.."])
def test_a_whiteout_that_names_nothing_is_refused(create, name):
    assert "whiteout that names nothing" in create(alone(Layer().add(name)))


def test_an_opaque_top_leaves_nothing_below(create, platform):
    assert create(on_top(Layer().add(".wh..wh..opq"))) is None
    answer = platform.invoke("hostile", {"python": "answer = 1"})
    assert answer.error == "Unhandled" and answer.json()["errorType"] == "Runtime.InvalidEntrypoint", answer


def test_links_in_a_circle_harm_nobody(create, platform):
    circle = Layer().symlink("a", "b").symlink("b", "a").symlink("self", "self").symlink("up", "up/..")
    assert create(on_top(circle)) is None
    assert inside(platform, "answer = [os.path.exists('/' + n) for n in ('a', 'b', 'self')]") == [False] * 3


def test_a_file_behind_a_circle_is_refused(create):
    assert "in a circle" in create(alone(Layer().symlink("a", "b").symlink("b", "a").add("a/x", "x")))


@pytest.mark.parametrize("name", ["/".join(["d"] * 1000) + "/x", "n" * 300, "/".join(["d" * 200] * 30)], ids=["deep", "long", "path"])
def test_names_past_what_linux_has_are_refused(create, name):
    said = create(alone(Layer().add(name, "x")))
    assert "too deeply" in said or "too long" in said, said


def test_a_layer_that_is_another_is_refused(create):
    image = alone(Layer().add("x", "x"))
    liar = image.layers[-1]
    liar.__dict__["bytes"] = Layer().add("x", "something else").bytes
    assert "damaged" in create(image)


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "sha256:" + "0" * 63, "md5:" + "0" * 32, "sha256:" + "A" * 64, 7, None])
def test_a_digest_that_is_none_is_refused(create, digest):
    def change(folder):
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [{"digest": digest, "size": 7, "mediaType": f"{images.TYPE}.manifest.v1+json"}]}))

    assert create(alone(Layer().add("x", "x")), change)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "{}", "null", '{"manifests": 7}', '{"a":' * 5000 + "1" + "}" * 5000, "\ufeff{}"], ids=["empty", "deep-open", "object", "null", "number", "deep", "mark"])
def test_an_index_that_is_none_is_refused(create, text):
    assert create(alone(Layer().add("x", "x")), lambda folder: (folder / "index.json").write_text(text))


@pytest.mark.parametrize("cut", [1, 5, 100, 512, 700])
def test_a_layer_that_ends_early_is_refused(create, cut):
    image = alone(Layer(compress=False).add("x", "x" * 1000))
    layer = image.layers[-1]
    layer.__dict__["archive"] = layer.archive[:cut]
    assert create(image)


def test_an_archive_of_docker_with_names_that_lead_out_is_refused(create, tmp_path):
    path = tmp_path / "saved.tar"
    with tarfile.open(path, "w") as tar:
        manifest = json.dumps([{"Config": "../../../../etc/passwd", "RepoTags": ["a:b"], "Layers": ["/etc/shadow"]}]).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(manifest)
        tar.addfile(info, io.BytesIO(manifest))
        link = tarfile.TarInfo("x/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(link)
    assert create(path)
    assert stat.S_ISREG(os.stat("/etc/shadow").st_mode)
