"""Loads that are wrong, huge or hostile, through the real binary: what is wrong, where, and the nearest valid name; or a
bounded, honest answer. Never a hang, never a panic."""

import json
import os
import re
import subprocess

import pytest

from support.paths import BINARY

TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  CartFunction:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: a.b, InlineCode: x, Timeout: 3}
  PayFunction:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: a.b, InlineCode: x, Timeout: 3, ReservedConcurrentExecutions: 5}
"""
VPC = """\
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  Subnet: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24}}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {VpcId: !Ref Vpc, GroupDescription: g}}
  CartFunction:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: a.b
      Code: {ZipFile: x}
      Role: arn:aws:iam::123456789012:role/r
      VpcConfig: {SubnetIds: [!Ref Subnet], SecurityGroupIds: [!Ref Group]}
"""
ONE = "version: 1\nphases:\n  - {target: CartFunction, users: 1, requests: 1}\n"


@pytest.fixture
def plan(tmp_path):
    """`plan` with that text as its load; the run. It takes a minute at most and never panics."""

    def run(load, *arguments, template=TEMPLATE, code=2, seconds=60):
        (tmp_path / "template.yaml").write_text(template)
        (tmp_path / "load.yaml").write_bytes(load if isinstance(load, bytes) else load.encode())
        ran = subprocess.run(
            [BINARY, "plan", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env={"NO_COLOR": "1", "COLUMNS": "200", "PATH": "/usr/bin:/bin"},
        )
        assert ran.returncode == code, ran
        assert "panicked" not in ran.stderr, ran
        return ran

    return run


def phase(text):
    return f"version: 1\nphases:\n  - target: CartFunction\n    {text}\n"


@pytest.mark.parametrize(
    ("load", "place", "said"),
    [
        (phase("usres: 5\n    for: 3s"), "4:5", "did you mean `users`?"),
        (phase("rate: -5/s\n    for: 3s"), "4:11", "expected a rate with its unit"),
        (phase("rate: 5/s\n    for: 0s"), "5:10", "a phase of no length sends nothing"),
        (phase("users: 5\n    for: 0s"), "5:10", "a phase of no length sends nothing"),
        (phase("rate: 1000000000/s\n    for: 60s"), "4:11", "this sends 60,000,000,000 requests"),
        (phase("rate: 1000000001/s\n    for: 60s"), "4:11", "expected a rate with its unit"),
        (phase("users: 5\n    requests: 99999999999"), "4:12", "a plan takes at most 200,000,000"),
        (phase("users: 99999999999\n    for: 3s"), "4:12", "must be 1 to 10000000"),
        (phase("rate: 5/s\n    for: 99999999h"), "5:10", "at most 366d"),
        (phase("users: 5\n    for: 3s\n    latency: NaN"), "6:14", "expected a duration"),
        (phase("users: 5\n    for: 3s\n    latency: {exponential: .inf}"), "6:28", "expected a duration"),
        (phase("users: 5\n    for: 3s\n    latency: {normal: {mean: 5ms, sd: nan}}"), "6:39", "expected a duration"),
        (phase("users: 5\n    for: 3s\n    latency: {lognormal: {p50: 0s, p99: 1s}}"), "6:26", "0 < p50"),
        (phase("users: 5\n    rate: 3/s\n    for: 3s"), "5:5", "not both"),
        (phase("rate: {spkie: {}}\n    for: 3s"), "4:12", "did you mean `spike`?"),
        (phase("rate: {replay: nowhere.csv}"), "4:20", "No such file"),
        (phase("rate: {replay: .}"), "4:20", "cannot read"),
        ("version: 1\nphases:\n  - {target: CratFunction, users: 1, requests: 1}\n", "3:14", "`CartFunction`"),
        (ONE + "behaviour: {PayFunctoin: {init: 1s}}\n", "4:13", "did you mean `PayFunction`?"),
        (ONE + "behaviour: {CartFunction: {steps: [{call: {function: Cart}}]}}\n", "4:54", "CartFunction"),
        (
            ONE + "behaviour: {CartFunction: {steps: [{call: {function: CartFunction}}]}}\n",
            "4:54",
            "this call comes round and would never end: CartFunction calls CartFunction",
        ),
        (ONE + "initial: {PayFunction: {busy: 6, for: 1s}}\n", "4:11", "its limits leave room for 5"),
        (ONE + "retry: standart\n", "4:8", "did you mean `standard`?"),
        ("version: 1\nphases: [\n", "3:1", "not valid YAML"),
        ("", "1:1", "the file is empty"),
        ("\0", "1:1", "not a text file"),
        ("version: 1\nphases: &a [*a]\n", "2:", "alias"),
        ("[" * 5000, "1:", "nested more than 100 deep"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(plan, load, place, said):
    # Long messages are wrapped.
    told = re.sub(r"\s*\n[\s│]*", " ", plan(load).stderr)
    assert f"load.yaml:{place}" in told and said in told, told


def test_a_template_without_functions_has_nothing_to_send_to(plan):
    told = plan(ONE, template="Resources:\n  Topic: {Type: AWS::SNS::Topic}\n").stderr
    assert "load.yaml:3:14" in told and "the template has no function" in told, told
    # A line for a type that is not run, not a page.
    assert told.count("AWS::SNS::Topic") == 1, told


def test_a_destination_without_route_is_the_first_limit(plan):
    connect = "{connect: {to: 'far.example.com:443', timeout: 1s}}"
    load = ONE + f"behaviour: {{CartFunction: {{steps: [{connect}]}}}}\n"
    report = json.loads(plan(load, "--json", template=VPC, code=0).stdout)
    assert report["first_limit"]["id"] == "route.none" and report["summary"]["errors"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--until", "99999999999999h"], "--until: `99999999999999h` is no duration such as 500ms, 30s or 10m, at most 366d"),
        (["--until", "367d"], "at most 366d"),
        (["--until=-1s"], "--until"),
        (["--step", "0s"], "--step"),
        (["--limit", "nat.port=5"], "did you mean `nat.ports`?"),
        (["--limit", "nat.ports=5", "--limit", "nat.ports=6"], "nat.ports is given twice, as 5 and 6"),
        (["--limit", "nat.ports=lots"], "--limit"),
        (["--limit", "nat.ports=99999999999999999999"], "--limit"),
        (["--limit", "function.timeout=18446744073709551615"], "too large"),
        (["--era", "yesterday"], "today"),
        (["--load", "nowhere.yaml"], "nowhere.yaml"),
        (["--seed=-1"], "--seed"),
    ],
)
def test_wrong_arguments_are_named(plan, arguments, said):
    assert said in plan(ONE, *arguments).stderr


def test_the_end_of_time_is_as_good_as_none(plan):
    report = json.loads(plan(ONE, "--json", "--until", "366d", "--step", "1ns", code=0).stdout)
    assert report["summary"]["ok"] == 1 and len(report["timeline"]) <= 100_001


def test_limits_that_contradict_the_template_are_told(plan):
    report = json.loads(plan(ONE, "--json", "--limit", "lambda.account-concurrency=1", code=0).stdout)
    assert any(row["what"] == "reserved concurrency" for row in report["assumptions"]), report["assumptions"]


def test_an_enormous_rate_is_planned_up_to_the_moment_that_is_asked_for(plan):
    load = phase("rate: 1000000000/s\n    for: 60s")
    report = json.loads(plan(load, "--json", "--until", "100us", code=0).stdout)
    assert report["summary"]["requests"] == 100_001
    assert report["first_limit"]["id"] == "lambda.account-concurrency" or report["summary"]["throttled"] > 0


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("1\n2\nnoon\n", "arrivals.csv:3: `noon` is no moment"),
        ("2\n1\n", "arrivals.csv:2: this moment is before the one above it"),
        ("1\nNaN\n", "arrivals.csv:2: `NaN` is no moment"),
        ("1\n-1\n", "arrivals.csv:2: `-1` is no moment"),
        ("", "arrivals.csv:1: there is no moment"),
        ("1\n2024-01-01T00:00:00Z\n", "arrivals.csv:2: this moment is a date"),
        ("9" * 100_000, "arrivals.csv:1: the line has more than 4096 bytes"),
    ],
)
def test_a_wrong_recording_is_named_with_its_line(plan, tmp_path, lines, said):
    (tmp_path / "arrivals.csv").write_text(lines)
    assert said in plan(phase("rate: {replay: arrivals.csv}")).stderr


def test_a_recording_without_end_is_refused(plan):
    assert "/dev/zero:1: the line has more than 4096 bytes" in plan(phase("rate: {replay: /dev/zero}")).stderr


def test_a_recording_is_replayed(plan, tmp_path):
    (tmp_path / "arrivals.csv").write_text("time,path\n2026-11-21T10:15:00Z,/\n2026-11-21T10:15:01.5Z,/cart\n")
    report = json.loads(plan(phase("rate: {replay: arrivals.csv}"), "--json", code=0).stdout)
    assert report["summary"]["requests"] == 2 and report["summary"]["total_s"] == pytest.approx(1.6)


@pytest.mark.skipif(not os.environ.get("ONRUSH_LONG"), reason="takes minutes and 600 MB of disk: ONRUSH_LONG=1")
@pytest.mark.patience(2000)
def test_fifty_million_lines_are_taken(plan, tmp_path):
    with open(tmp_path / "arrivals.csv", "w") as file:
        for second in range(50_000):
            file.write("".join(f"{second}.{milli:03}\n" for milli in range(1000)))
    load = phase("rate: {replay: arrivals.csv}") + "behaviour: {CartFunction: {init: 0s, steps: [{compute: 1ms}]}}\n"
    report = json.loads(plan(load, "--json", code=0, seconds=1800).stdout)
    assert report["summary"]["requests"] == 50_000_000


def test_a_report_that_does_not_fit_is_no_success(tmp_path):
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    (tmp_path / "load.yaml").write_text(ONE)
    with open("/dev/full", "w") as full:
        ran = subprocess.run([BINARY, "plan", "--json"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 1 and "cannot write to standard output: No space left" in ran.stderr, ran
    # Whoever has read enough is no error.
    ran = subprocess.run(f"{BINARY} plan --json | head -c 1", cwd=tmp_path, shell=True, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("{", ""), ran
