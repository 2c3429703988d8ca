"""Several destinations behind one address of a gateway, live and planned: each has ports of its own and is full for
itself, until the interface that all go through is full for everybody."""

import json
import subprocess

import pytest

from support import network, puppet
from support.network import CONNECT
from support.paths import BINARY
from support.world import OTHER, PORT, SERVER, THIRD, World, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

PORTS, INTERFACE = 55, 115
LIMITS = [word for limit in (f"nat.ports={PORTS}", f"eni.connections={INTERFACE}") for word in ("--limit", limit)]
# Who calls whom, how many connections are tried, how many open, and what refuses the rest.
CALLS = [
    ("Red", SERVER, 60, 55, "nat.ports of Nat: 55 of 55 connections"),
    ("Blue", OTHER, 60, 55, "nat.ports of Nat: 55 of 55 connections"),
    ("Pink", THIRD, 10, 5, "eni.connections of eni-Private0-Group: 115 of 115 connections"),
]
LOAD = """
version: 1
phases:
%s
behaviour:
%s
"""


def plan(home, template):
    phases = "\n".join(
        f"  - {{name: {name}, target: {name}, users: 1, requests: 1, spawn: 1/s, timeout: 20s}}" for name, *_ in CALLS
    )
    steps = "\n".join(
        f'  {name}:\n    steps: [{{connect: {{to: "{host}:{PORT}", count: {tried}, hold: environment, timeout: 500ms}}}}]'
        for name, host, tried, *_ in CALLS
    )
    load = home / "load.yaml"
    load.write_text(LOAD % (phases, steps))
    command = [BINARY, "plan", template, "--load", load, *LIMITS, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_each_destination_has_ports_of_its_own_until_the_interface_is_full_live_as_planned(start, tmp_path):
    template = network.template(tmp_path, functions=[name for name, *_ in CALLS], timeout=60)
    planned = plan(tmp_path, template)
    rows = {(row["id"], row["resource"]): row for row in planned["limits"]}
    causes = sorted((error["chain"][-1], error["chain"][-2]) for error in planned["summary"]["errors_by_cause"])
    expected = sorted((cause, f"connect to {host}:{PORT} waited 0.5 s") for _, host, _, _, cause in CALLS)
    assert causes == expected
    first = planned["first_limit"]
    assert (first["id"], first["destination"], first["used"]) == ("nat.ports", f"{SERVER}:{PORT}", PORTS)
    with World() as world:
        platform = start("--world", f"netns:{world.name}", *LIMITS, template=template)
        for name, host, tried, opens, cause in CALLS:
            said = puppet.inside(platform, CONNECT, name, host=host, port=PORT, count=tried, keep=True, timeout=0.5)
            assert said == ["hello"] * opens + ["TimeoutError"] * (tried - opens), (name, said)
            assert platform.tells(f"limit={cause.split()[0]}")
        board = platform.request("GET", "/_onrush/limits").json()
        live = {(row["id"], row["resource"]): row for row in board["limits"]}
        for key in (("nat.ports", "Nat"), ("eni.connections", "eni-Private0-Group")):
            assert [live[key][what] for what in ("max", "peak")] == [rows[key][what] for what in ("max", "peak")]
            assert live[key]["refused"] >= rows[key]["refused"] > 0
        towards = {row["destination"]: (row["used"], row["refused"] > 0) for row in board["gateways"][0]["destinations"]}
        assert towards == {f"{host}:{PORT}": (opens, "nat" in cause) for _, host, _, opens, cause in CALLS}
        # What is held goes on, to each of them.
        word = 'kept["all"][-1].sendall(b"again"); answer = kept["all"][-1].recv(16).decode()'
        assert [puppet.inside(platform, word, name) for name, *_ in CALLS] == ["again"] * 3
