"""The incident live and planned: the same template, the same limits, and the same connection is refused.

The storefront's own functions open real connections to a cache behind the template's NAT gateway until they hang; then
addresses are added to the gateway, then a subnet, and `onrush plan` says the same of each template beforehand. The cache
stands in a network namespace as the world, or on the host, attached to the name that the template gives it.
"""

import collections
import json
import re
import subprocess

import pytest

from support import storefront
from support.paths import BINARY
from support.storefront import CACHE, CONNECTIONS, ENVIRONMENTS, LOAD, PORT, Cache, Launch
from support.world import World, refused

pytestmark = [pytest.mark.skipif(bool(refused()), reason=str(refused())), pytest.mark.patience(400)]

# Addresses of the gateway, private subnets, and what refuses first.
STAGES = [(1, 2, "nat.ports"), (3, 2, "eni.connections"), (3, 3, None)]


def plan(template):
    command = [BINARY, "plan", template, "--load", LOAD, *storefront.limits(), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def causes(report):
    """How many orders failed by which limit of what, as the plan says."""
    found = {}
    for error in report["summary"]["errors_by_cause"]:
        limit, resource = re.match(r"(\S+) of (\S+): ", error["chain"][-1]).groups()
        found[limit, resource] = error["count"]
    return found


def row(report, limit, resource):
    return next(row for row in report["limits"] if (row["id"], row["resource"]) == (limit, resource))


def compare(platform, template, expected):
    """Runs the launch and compares it with its plan; all answers, and those of who failed."""
    planned = plan(template)
    answers, (used, interfaces, rows) = Launch(platform).run()
    assert all(answer.status in (200, 504) for answer in answers), answers
    failed = [number for number, answer in enumerate(answers) if answer.status == 504]
    # Who was refused by what, as many of each.
    blamed = collections.Counter()
    for number in failed:
        limit, resource, *_ = answers[number].headers["x-onrush-limit"].split("; ")
        blamed[limit, resource.removeprefix("resource=")] += 1
    assert dict(blamed) == causes(planned)
    assert planned["summary"]["ok"] == ENVIRONMENTS - len(failed)
    # How many each holds.
    assert used == row(planned, "nat.ports", "NatGateway")["peak"]
    assert interfaces == {name: row(planned, "eni.connections", name)["peak"] for name in interfaces}
    first = planned["first_limit"]
    if expected is None:
        assert first is None and failed == [] and used == ENVIRONMENTS * CONNECTIONS
        return answers, []
    # The connection that is refused first, and whose it is.
    assert (first["id"], first["environments"]) == (expected, failed[0] + 1)
    header = f"{first['id']}; resource={first['resource']}; used={first['used']}; max={first['max']}"
    assert answers[failed[0]].headers["x-onrush-limit"] == header
    opened = [CONNECTIONS if answer.status == 200 else answer.json()["open"] for answer in answers]
    assert sum(opened) == used
    on_its_way = range(failed[0] % len(interfaces), failed[0] + 1, len(interfaces))
    everybody = range(failed[0] + 1)
    before = sum(opened[number] for number in (everybody if expected == "nat.ports" else on_its_way))
    assert before == first["used"], f"connection {before + 1} was refused, not {first['used'] + 1}"
    assert rows[first["id"], first["resource"]]["refused"] >= 1
    return answers, [answers[number] for number in failed]


@pytest.mark.parametrize("addresses,subnets,expected", STAGES)
def test_plan_and_live_refuse_the_same_connection(start, tmp_path, addresses, subnets, expected):
    template = storefront.template(tmp_path, addresses, subnets)
    overrides = ["--parameter-overrides", f"CacheHost={CACHE}", f"CacheConnections={CONNECTIONS}"]
    with World() as world, Cache(world.name, CACHE, PORT):
        arguments = ["--world", f"netns:{world.name}", *overrides, *storefront.limits()]
        platform = start(*arguments, template=template)
        _, failures = compare(platform, template, expected)
        log = "\n".join(platform.log("storefront-dev-cart"))
        if expected is None:
            assert "packets were dropped" not in log and "dropped SYN" not in platform.stderr()
            return
        # The function's own words, ours beside them, and the platform's.
        assert f"connections to {CACHE}:{PORT}: no answer within 10 s" in log
        assert f"packets were dropped by {expected} of " in log
        assert platform.tells(f"limit={expected}")
        assert {"nat.ports", "eni.connections"} - {expected} <= untouched(platform)
        assert failures[0].json()["message"].endswith("no answer within 10 s")
        gateway = platform.request("GET", "/_onrush/limits").json()["gateways"][0]["metrics"]
        assert (gateway["ErrorPortAllocation"] > 0) == (expected == "nat.ports"), "a full interface shows in no metric"


def untouched(platform):
    """Limits that refused nothing."""
    rows = platform.request("GET", "/_onrush/limits").json()["limits"]
    return {row["id"] for row in rows} - {row["id"] for row in rows if row["refused"]}


def test_an_attached_cache_by_its_name_meets_the_same_limit(start, tmp_path):
    """No root's namespace as world: the template as it is, the cache on the host under the name that functions use."""
    template = storefront.template(tmp_path)
    with Cache() as cache:
        port = cache.port()
        attach = ["--attach", f"cache.example.com:{PORT}=127.0.0.1:{port}"]
        arguments = ["--parameter-overrides", f"CacheConnections={CONNECTIONS}", *attach, *storefront.limits()]
        platform = start("--world", "none", *arguments, template=template)
        # What one environment puts into a cart, another one orders.
        cart = ('{"quantity": 2}', {"content-type": "application/json"})
        put = platform.door("StorefrontApi", "/cart/person-5/tea", "PUT", *cart)
        assert put.status == 200, put
        answers, failed = compare(platform, template, "nat.ports")
        assert answers[5].json() == {"order": "person-5", "items": {"tea": 2}}
        assert cache.clients() == 550 and len(failed) == 23
