"""Archives that nobody should send: a clear refusal, nothing outside the data folder, and the platform goes on."""

import io
import os
import stat
import struct
import zipfile

import botocore.exceptions
import pytest

from support import packages
from support.platform import ROLE

PROGRAM = ("#!/bin/sh\nexit 0\n", 0o755)
MARK = "PWNED-by-onrush-test"


@pytest.fixture
def upload(platform):
    """Uploads an archive; answers the refusal as (status, code, message), or None when it was taken."""
    client = platform.client()

    def run(name, code):
        try:
            client.create_function(
                FunctionName=name, Runtime="provided.al2023", Role=ROLE, Handler="bootstrap", Code={"ZipFile": code}
            )
            return None
        except botocore.exceptions.ClientError as error:
            response = error.response
            return (
                response["ResponseMetadata"]["HTTPStatusCode"],
                response["Error"]["Code"],
                response["Error"]["Message"],
            )

    yield run
    outside = [os.path.join(folder, MARK) for folder in ("/", "/tmp", "/etc", "/root", platform.home, "/var", "/usr")]
    assert not [path for path in outside if os.path.lexists(path)]
    platform.alive()


def unpacked(platform):
    """What of packages lies in the data folder."""
    return {
        os.path.join(folder, name)
        for part in ("code", "staging")
        for folder, folders, files in os.walk(platform.data_dir / part)
        for name in folders + files
    }


@pytest.mark.parametrize(
    "entry",
    [
        f"../{MARK}",
        f"../../../../../../../../tmp/{MARK}",
        f"/tmp/{MARK}",
        f"a/../../{MARK}",
        f"a/b/../../../{MARK}",
        f"./../{MARK}",
        "..",
        "a/..",
    ],
)
def test_an_entry_that_leads_out_is_refused(upload, platform, entry):
    before = unpacked(platform)
    refusal = upload("out", packages.package({"bootstrap": PROGRAM, entry: "x"}))
    assert refusal is not None and refusal[:2] == (400, "InvalidParameterValueException"), refusal
    assert "Could not unzip uploaded file" in refusal[2] and entry in refusal[2]
    assert unpacked(platform) <= before


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "/", "a/../../../x"])
def test_a_symbolic_link_that_leads_out_is_refused(upload, target):
    refusal = upload("link", packages.package({"bootstrap": PROGRAM, "link": (target, stat.S_IFLNK | 0o777)}))
    assert refusal is not None and refusal[0] == 400 and "symbolic link" in refusal[2] and "link" in refusal[2]


def test_a_file_written_through_a_link_is_refused(upload):
    refusal = upload(
        "through", packages.package({"door": ("/tmp", stat.S_IFLNK | 0o777), f"door/{MARK}": "x", "bootstrap": PROGRAM})
    )
    assert refusal is not None and refusal[0] == 400


def test_devices_pipes_and_setuid_do_not_survive(upload, platform):
    for kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
        refusal = upload("device", packages.package({"bootstrap": PROGRAM, "device": ("", kind | 0o666)}))
        assert refusal is not None and refusal[0] == 400, oct(kind)
    assert upload("setuid", packages.package({"bootstrap": ("#!/bin/sh\nexit 0 # setuid\n", 0o6755)})) is None
    for path in unpacked(platform):
        if os.path.isfile(path):
            assert not os.stat(path).st_mode & 0o6000, path


def test_a_bomb_is_refused_and_leaves_nothing(upload, platform):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("bootstrap", "#!/bin/sh\n")
        with archive.open("zeros", "w", force_zip64=True) as stream:
            for _ in range(300):
                stream.write(bytes(1 << 20))
    assert buffer.tell() < 4 << 20
    refusal = upload("bomb", buffer.getvalue())
    assert refusal == (400, "InvalidParameterValueException", "Unzipped size must be smaller than 262144000 bytes")
    assert sum(os.path.getsize(path) for path in unpacked(platform) if os.path.isfile(path)) < 64 << 20


def test_entries_that_overlap_are_refused(upload):
    """One piece of data, pointed at by many entries: the way to petabytes."""
    code = bytearray(packages.package({"bootstrap": PROGRAM, "b": "0" * 100_000}))
    directory = code.rindex(b"PK\x01\x02")
    first = code.index(b"PK\x01\x02")
    # The second entry's header is said to lie where the first one's is.
    code[directory + 42 : directory + 46] = code[first + 42 : first + 46]
    refusal = upload("overlap", bytes(code))
    assert refusal is not None and refusal[:2] == (400, "InvalidParameterValueException")


def test_a_lying_size_is_refused(upload, platform):
    code = bytearray(packages.package({"bootstrap": PROGRAM, "data": "0" * 100_000}))
    directory, local = code.rindex(b"PK\x01\x02"), code.rindex(b"PK\x03\x04")
    for place in (directory + 24, local + 22):
        code[place : place + 4] = struct.pack("<I", 100)
    refusal = upload("liar", bytes(code))
    assert refusal is not None and refusal[0] == 400 and "`data`" in refusal[2] and "100 bytes" in refusal[2], refusal


def test_a_wrong_checksum_is_refused(upload):
    code = bytearray(packages.package({"bootstrap": PROGRAM}))
    directory, local = code.rindex(b"PK\x01\x02"), code.rindex(b"PK\x03\x04")
    for place in (directory + 16, local + 14):
        code[place : place + 4] = struct.pack("<I", 0xDEADBEEF)
    refusal = upload("damaged", bytes(code))
    assert refusal is not None and refusal[0] == 400 and "`bootstrap` is damaged" in refusal[2], refusal


def test_truncated_archives_are_refused_at_every_length(upload):
    code = packages.package({"bootstrap": PROGRAM, "more": "x" * 500})
    for length in [1, 4, 21, len(code) // 3, len(code) // 2, len(code) - 23, len(code) - 22, len(code) - 1]:
        refusal = upload("short", code[:length])
        assert refusal is not None and refusal[:2] == (400, "InvalidParameterValueException"), length


def test_66_000_entries_are_unpacked_or_refused_but_never_half(upload, platform):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("bootstrap"), PROGRAM[0])
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"d{number % 100}/f{number}"), "")
    refusal = upload("many", buffer.getvalue())
    count = sum(1 for path in unpacked(platform) if os.path.basename(path).startswith("f"))
    if refusal is None:
        assert count >= 66_000
        platform.client().delete_function(FunctionName="many")
    else:
        assert refusal[0] == 400 and "66001 entries" in refusal[2] and count == 0, refusal


def test_more_than_50_mb_zipped_is_refused_with_413(upload):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("bootstrap", PROGRAM[0])
        archive.writestr("noise", os.urandom(1 << 20) * 50)
    refusal = upload("fat", buffer.getvalue())
    assert refusal is not None and refusal[0] == 413, refusal
    assert "52428800 bytes" in refusal[2]


@pytest.mark.parametrize(
    "files, hint",
    [
        ({"readme": "no bootstrap here"}, "does not exist"),
        ({"bootstrap": ("#!/bin/sh\nexit 0\n", 0o644)}, "not executable"),
        ({"bootstrap/x": "a folder"}, "not a file"),
    ],
    ids=["missing", "not-executable", "a-folder"],
)
def test_a_package_without_a_runnable_bootstrap_says_so_when_invoked(platform, files, hint):
    name = platform.create("no-bootstrap-" + hint.split()[-1], packages.package(files))
    answer = platform.invoke(name, {})
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert answer.json() == {
        "errorType": "Runtime.InvalidEntrypoint",
        "errorMessage": f"RequestId: {answer.request_id} Error: Couldn't find valid bootstrap(s): "
        "[/var/task/bootstrap /opt/bootstrap]",
    }
    # The log has the cure, which the caller's text has no room for.
    assert any(hint in line for line in platform.log(name)), platform.log(name)


@pytest.mark.parametrize(
    "kind, cause", [("not_a_program", "exec format error"), ("wrong_interpreter", "no such file or directory")]
)
def test_a_bootstrap_that_cannot_start_is_an_invalid_entrypoint(platform, kind, cause):
    """It is the function's fault, not the host's: AWS words it `fork/exec PATH: exec format error`."""
    name = platform.create(kind, packages.source(f"raw/{kind}"))
    answer = platform.invoke(name, {})
    assert (answer.status, answer.error) == (200, "Unhandled"), answer
    assert answer.json()["errorType"] == "Runtime.InvalidEntrypoint", answer
    assert cause in answer.json()["errorMessage"].lower(), answer
    platform.alive()


@pytest.mark.parametrize(
    "files, told",
    [
        ({"app.py": ("", 0o600)}, "`app.py` of an archive is not everybody's to read (mode 600)"),
        ({"lib/": ("", stat.S_IFDIR | 0o750), "lib/a.py": ""}, "`lib/` of an archive is not everybody's to read (mode 750)"),
        ({"app.py": ("", stat.S_IFREG), "bin/app": ("", 0o755), "data": ("", 0o444)}, None),
    ],
    ids=["file", "folder", "open"],
)
def test_what_aws_may_not_read_is_told(upload, platform, files, told):
    """Here it is read: `Permission denied` comes with the first invocation on AWS."""
    before = platform.stderr().count("of an archive is not everybody's")
    assert upload(f"closed-{len(files)}", packages.package({"bootstrap": PROGRAM} | files)) is None
    assert told is None or platform.tells(told), platform.stderr()
    assert platform.stderr().count("of an archive is not everybody's") == before + (told is not None)
