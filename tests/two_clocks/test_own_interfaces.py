"""Era 2019-05: interfaces are made at cold starts, and where a subnet has no address left the same environment is refused,
live and planned."""

import concurrent.futures
import json
import subprocess
import time

import pytest

from support import network, packages, puppet, templates
from support.network import ref
from support.paths import BINARY

pytestmark = pytest.mark.skipif(not puppet.here(), reason="no /usr/bin/python3")

# Environments of so much have an interface each (3 GB), and the subnet has room for three.
MEMORY_MB, ENVIRONMENTS, FIT = 3008, 5, 3
LIMITS = ["--limit", f"subnet.addresses={FIT}"]
LOAD = """
version: 1
phases:
  - {name: all, target: Red, users: 5, requests: 5, spawn: 10/s, timeout: 60s}
behaviour:
  Red:
    init: 5ms
    steps: [{sleep: 20s}]
"""


def test_plan_and_live_refuse_the_same_environment_an_interface(start, tmp_path):
    inside = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    settings = {"Timeout": 60, "MemorySize": MEMORY_MB, "VpcConfig": inside}
    template = templates.write(tmp_path, {"Red": ("puppet", settings)}, network.resources())
    load = tmp_path / "load.yaml"
    load.write_text(LOAD)
    command = [BINARY, "plan", template, "--load", load, "--era", "2019-05", *LIMITS, "--json"]
    planned = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    first = planned["first_limit"]
    # Those that are there beside the one that is refused.
    assert (first["id"], first["resource"], first["environments"] - 1) == ("subnet.addresses", "Private0", FIT)
    assert planned["summary"]["ok"] == FIT

    platform = start("--era", "2019-05", *LIMITS, template=template)
    # A function that comes later, into a subnet that nobody has spoken of, waits and counts just so.
    elsewhere = {"SubnetIds": ["subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}
    platform.create("Late", packages.package(puppet.files()), Timeout=60, MemorySize=MEMORY_MB, VpcConfig=elsewhere)
    gate = tmp_path / "red/gate"
    with concurrent.futures.ThreadPoolExecutor(ENVIRONMENTS + 1) as crowd:
        order = lambda: crowd.submit(platform.invoke, "Red", {"python": puppet.HOLD})
        waiting = [order() for _ in range(FIT)]
        late = crowd.submit(platform.invoke, "Late", {"python": "answer = 1"})
        used = {}
        while used != {"Private0": FIT, elsewhere["SubnetIds"][0]: 1}:
            time.sleep(0.05)
            rows = platform.request("GET", "/_onrush/limits").json()["limits"]
            used = {row["resource"]: row["used"] for row in rows if row["id"] == "subnet.addresses"}
        # Nobody waits for what there is no room for.
        for _ in range(ENVIRONMENTS - FIT):
            answer = platform.request("POST", "/2015-03-31/functions/Red/invocations", "{}")
            assert answer.status == 502 and answer.headers["x-amzn-errortype"] == "SubnetIPAddressLimitReachedException"
            assert answer.headers["x-onrush-limit"] == f"subnet.addresses; resource=Private0; used={FIT}; max={FIT}"
        assert not any(order.done() for order in [*waiting, late]), "their interfaces take some ten seconds"
        row = platform.limit("subnet.addresses", "Private0")
        assert (row["used"], row["refused"]) == (FIT, ENVIRONMENTS - FIT)
        gate.touch()
        assert [order.result().status for order in [*waiting, late]] == [200] * (FIT + 1)
    # What AWS bills and times out is the function's own time, not its interface's.
    report = waiting[0].result().line("REPORT")
    assert float(report.split("Init Duration: ")[1].split(" ms")[0]) < 9_000
