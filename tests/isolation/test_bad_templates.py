"""Templates that are broken, huge or hostile: every problem with its place, quickly, and nothing is started."""

import json
import re
import subprocess

import pytest

from support.paths import BINARY

HEAD = "AWSTemplateFormatVersion: '2010-09-09'\nTransform: AWS::Serverless-2016-10-31\nResources:\n"


@pytest.fixture
def up(tmp_path):
    """`up` with that text as its template; what it complained about. Fails when it starts."""

    def run(text, name="template.yaml", code=2, arguments=()):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        ran = subprocess.run(
            [BINARY, "up", name, "--port", "0", "--data-dir", tmp_path / "data", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={"NO_COLOR": "1", "PATH": "/usr/bin:/bin"},
        )
        assert ran.returncode == code, ran
        assert "panicked" not in ran.stderr and not ran.stdout, ran
        return ran.stderr

    return run


REFERENCE = """\
  A:
    Type: AWS::Lambda::Function
    Properties:
      Code: {ZipFile: x}
      Role: !Ref Nobody
"""
WRONG_TYPE = """\
  A:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: a.b
      CodeUri: nowhere/
      MemorySize: lots
"""
FUNCTION = """\
  A:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: a.b
      InlineCode: x = 1
      ReservedConcurrentExecutions: 5
"""
CYCLE = """\
  A:
    Type: AWS::SNS::Topic
    DependsOn: B
  B:
    Type: AWS::SNS::Topic
    DependsOn: A
"""


@pytest.mark.parametrize(
    "text, place, word",
    [
        ("Resources:\n  A: [1, 2\n", "template.yaml:", ""),
        (HEAD + REFERENCE, "template.yaml:8:", "Nobody"),
        (HEAD + WRONG_TYPE, "template.yaml:10:", "MemorySize"),
        (HEAD + CYCLE, "template.yaml:", "A"),
        (HEAD + "  A: &a\n    Type: *a\n", "template.yaml:", ""),
        ("Parameters: {Stage: {Type: String}}\nResources: {}\n", "[template.yaml:1:", "--parameter-overrides Stage="),
        ("Resources: 7\n", "template.yaml:1:", "Resources"),
        ("", "template.yaml", ""),
        (b"\xff\xfe\x00R", "template.yaml", "UTF-8"),
    ],
    ids=["syntax", "reference", "type", "cycle", "self-alias", "parameter", "resources", "empty", "not-utf-8"],
)
def test_a_broken_template_names_the_place(up, text, place, word):
    complaint = up(text)
    assert place in complaint and word in complaint, complaint


def test_all_problems_are_told_at_once(up):
    function = (
        REFERENCE.replace("  A:", "  F{n}:").replace("{ZipFile: x}", "{{ZipFile: x}}").replace("Nobody", "Missing{n}")
    )
    complaint = up(HEAD + "".join(function.format(n=n) for n in range(5)))
    assert all(f"Missing{n}" in complaint for n in range(5)), complaint


@pytest.mark.parametrize(
    "old, new, place, words",
    [
        ("python3.13", "python3.31", "template.yaml:7:16", ["`python3.31`", "did you mean `python3.13`?"]),
        ("python3.13", "python3.8", "template.yaml:7:16", ["python3.8 is not supported"]),
        ("Executions: 5", "Executions: 950", "template.yaml:10:37", ["UnreservedConcurrentExecution", "950"]),
        ("Handler: a.b", "Handler: a.b\n      Role: cart", "template.yaml:9:13", ["ARN of a role"]),
    ],
    ids=["typo", "old", "reserved", "role"],
)
def test_a_value_that_lambda_refuses_is_shown_in_its_place(up, old, new, place, words):
    complaint = up(HEAD + FUNCTION.replace(old, new))
    assert place in complaint and all(word in complaint for word in words), complaint


def test_versions_that_are_not_installed_are_all_refused_where_that_is_wanted(up):
    """Of Python 3.9 and 3.14 no host of ours has both; what is strict is said before anything is installed."""
    both = FUNCTION.replace("python3.13", "python3.14") + FUNCTION.replace("  A:", "  B:").replace("python3.13", "python3.9")
    complaint = up(HEAD + both, arguments=["--strict-runtimes"])
    words = " ".join(complaint.split())
    assert "(strict runtimes)" in words and "leave --strict-runtimes out" in words, complaint
    assert re.search(r"template.yaml:(7|14):16", complaint) and "installing" not in complaint, complaint


def test_a_bomb_of_aliases_is_refused(up):
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    complaint = up(text + "Resources: *i\n")
    assert "template.yaml:" in complaint and "alias" in complaint.lower(), complaint


def test_50_mb_and_endless_depth_are_refused(up):
    assert "template.yaml" in up(HEAD + "  # " + "x" * (50 << 20))
    assert "template.yaml" in up("[" * 100_000)
    assert "template.json" in up('{"Resources":' * 50_000, "template.json")


def test_code_that_is_not_there_is_named(up):
    complaint = up(HEAD + WRONG_TYPE.replace("lots", "256"))
    assert "nowhere" in complaint and "A" in complaint, complaint


def test_a_type_that_is_not_run_is_a_warning_and_with_strict_an_error(up, start, tmp_path):
    text = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    complaint = up(text, "template.json", arguments=["--strict"])
    assert "AWS::SNS::Topic" in complaint, complaint
    (tmp_path / "app.json").write_text(text)
    platform = start(template=tmp_path / "app.json")
    assert platform.stderr().count("AWS::SNS::Topic is not run") == 1, platform.stderr()
