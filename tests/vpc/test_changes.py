"""Networks that change while they are used: what a deployment brings is there for the next connection, what was open stays open."""

import json
import time

import pytest

from support import network, puppet, templates
from support.network import CONNECT, ref
from support.storefront import Cache
from support.world import OTHER, PORT, SERVER, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

# What was kept still carries bytes.
ALIVE = """
answer = []
for connection in kept.get("all", []):
    try:
        connection.sendall(b"again")
        answer.append(connection.recv(16).decode())
    except OSError as error:
        answer.append(type(error).__name__)
"""
CUT = """
import socket, struct
for connection in kept.pop("all"):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
"""
LOOK_UP = """
import socket
try: answer = socket.gethostbyname(event["host"])
except OSError: answer = None"""
# Seconds that somebody waits for what must not come.
IN_VAIN = 0.7
SETTINGS = {"Timeout": 30, "MemorySize": 256}


def at(*subnets, group="Group"):
    return SETTINGS | {"VpcConfig": {"SubnetIds": [ref(name) for name in subnets], "SecurityGroupIds": [ref(group)]}}


def connect(platform, name="Red", **more):
    return puppet.inside(platform, CONNECT, name, **({"host": SERVER, "port": PORT} | more))


def deploy(platform, home, resources, functions=None):
    """Writes the template anew and deploys it; answers the lines that say what changed."""
    template = templates.write(home, functions or {"Red": ("puppet", at("Private0"))}, resources)
    answer = platform.request("POST", "/_onrush/deploy", json.dumps({"template": str(template)}))
    assert answer.status == 200, answer
    assert answer.json()["waits"] is None, answer
    return answer.json()["lines"]


def entry(kind, **settings):
    return {"Type": f"AWS::EC2::{kind}", "Properties": settings}


def test_a_gateway_gains_and_loses_addresses_under_open_connections(up, tmp_path):
    platform = up("--limit", "nat.ports=2")
    row = lambda: {key: platform.limit("nat.ports", "Nat")[key] for key in ("used", "max")}
    assert connect(platform, count=2, keep=True) == ["hello"] * 2
    assert connect(platform, timeout=IN_VAIN) == ["TimeoutError"]
    lines = deploy(platform, tmp_path, network.resources(addresses=2))
    assert "Eip1 created" in lines and "Nat updated: addresses" in lines
    assert row() == {"used": 2, "max": 4}
    assert connect(platform, count=2, keep=True) == ["hello"] * 2
    assert connect(platform, timeout=IN_VAIN) == ["TimeoutError"]
    # The address that goes drains: what has its ports keeps them, and nobody else gets them.
    assert deploy(platform, tmp_path, network.resources(addresses=1)) == ["Nat updated: addresses", "Eip1 removed"]
    assert row() == {"used": 4, "max": 2}
    assert puppet.inside(platform, ALIVE) == ["again"] * 4
    assert connect(platform, timeout=IN_VAIN) == ["TimeoutError"]
    assert connect(platform, host=OTHER, count=3) == ["hello", "hello", "hello"]
    deploy(platform, tmp_path, network.resources(addresses=2))
    assert row() == {"used": 4, "max": 4} and puppet.inside(platform, ALIVE) == ["again"] * 4


def test_rules_and_routes_change_for_new_connections_alone(up, tmp_path):
    platform = up()
    assert connect(platform, keep=True) == ["hello"]
    narrow = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}]
    assert deploy(platform, tmp_path, network.resources(egress=narrow)) == ["Group updated: egress"]
    assert connect(platform, timeout=IN_VAIN) == ["TimeoutError"] and platform.limit("sg.no-rule", "Group")["refused"] >= 1
    assert puppet.inside(platform, ALIVE) == ["again"]
    assert "Default removed" in deploy(platform, tmp_path, network.resources(gateway="none"))
    assert connect(platform, timeout=IN_VAIN) == ["TimeoutError"] and platform.limit("route.none", "Private0")["refused"] >= 1
    # The gateway goes, and with it its row once nobody is left behind it.
    without = {name: found for name, found in network.resources(gateway="none").items() if name not in ("Nat", "Eip0")}
    assert "Nat removed" in deploy(platform, tmp_path, without)
    gateways = lambda: [gateway["name"] for gateway in platform.request("GET", "/_onrush/limits").json()["gateways"]]
    assert gateways() == ["Nat"] and puppet.inside(platform, ALIVE) == ["again"]
    puppet.inside(platform, CUT)
    deadline = time.monotonic() + 10
    while gateways() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gateways() == []
    deploy(platform, tmp_path, network.resources())
    assert connect(platform, keep=True) == ["hello"] and gateways() == ["Nat"]


def test_a_shared_interface_goes_with_its_last_function_and_its_last_connection(up, tmp_path):
    platform = up("--limit", "eni.idle-timeout=1", "--limit", "nat.idle-timeout=1", functions=("Red", "Blue"))
    board = lambda: {(row["id"], row["resource"]) for row in platform.request("GET", "/_onrush/limits").json()["limits"]}
    row, room = ("eni.connections", "eni-Private0-Group"), ("eni.per-vpc", "Vpc")
    assert connect(platform, keep=True) == ["hello"] and {row, room} <= board()
    for name in ("Blue", "Red"):
        assert {row, room} <= board(), "the other one has it"
        assert platform.request("DELETE", f"/2015-03-31/functions/{name}").status < 300
    # What it left open may have to be forgotten in silence; until then somebody is behind the interface, which has its room.
    assert room in board()
    deadline = time.monotonic() + 10
    while row in board():
        assert time.monotonic() < deadline, board()
        time.sleep(0.05)
    assert room not in board()
    deploy(platform, tmp_path, network.resources())
    assert connect(platform) == ["hello"] and {row, room} <= board()


def test_what_a_failed_deployment_did_to_the_network_is_undone(up, tmp_path):
    platform = up()
    assert connect(platform) == ["hello"]
    before = network.resources()
    narrow = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}]
    # Red moves where nothing leaves; then there is no code for Zed.
    missing = {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "missing/", "Handler": "bootstrap", "Runtime": "provided.al2023"}}
    functions = {"Red": ("puppet", at("Private1"))}
    template = templates.write(tmp_path, functions, network.resources(egress=narrow, subnets=2))
    text = json.loads(template.read_text())
    text["Resources"]["Zed"] = missing
    template.write_text(json.dumps(text))
    answer = platform.request("POST", "/_onrush/deploy", json.dumps({"template": str(template)}))
    assert answer.status != 200 and "missing/" in answer.json()["message"], answer
    undone = "rolled back: Red updated: VPC; the network is again as it was before that deployment"
    assert undone in answer.json()["message"], answer
    # Where it was, with the rules that were.
    assert connect(platform, host=OTHER) == ["hello"]
    assert deploy(platform, tmp_path, before) == []
    # An address keeps who has it: another comes before it in the template.
    more = {"Another": entry("EIP", Domain="vpc")} | before
    assert deploy(platform, tmp_path, more) == ["Another created"]


def test_subnets_endpoints_and_whole_vpcs_come_and_go(start, world, tmp_path):
    template = network.template(tmp_path)
    interfaces = lambda: {
        found["name"]: found["connections"] for found in platform.request("GET", "/_onrush/limits").json()["interfaces"]
    }
    with Cache() as cache:
        attach = ("--attach", f"cache.shop.test:{PORT}=127.0.0.1:{cache.port()}")
        platform = start("--world", f"netns:{world.name}", "--limit", "eni.connections=2", *attach, template=template)
        assert connect(platform, count=2, keep=True) == ["hello"] * 2
        assert connect(platform, timeout=IN_VAIN) == ["TimeoutError"], "the shared interface is full"
        more = network.resources(subnets=2)
        # A second subnet: a second interface, so room for two more, in a new environment.
        lines = deploy(platform, tmp_path, more, {"Red": ("puppet", at("Private1"))})
        assert "Private1 created" in lines and "Red updated: VPC" in lines, lines
        assert connect(platform, count=2, keep=True) == ["hello"] * 2
        assert connect(platform, timeout=IN_VAIN) == ["TimeoutError"]
        assert interfaces()["eni-Private1-Group"] == 2
        # Another VPC with the same addresses as the first, an interface endpoint and a private zone: names and ways are there.
        more |= {
            "Other": entry("VPC", CidrBlock="10.0.0.0/16", EnableDnsHostnames=True),
            "Far": entry("Subnet", VpcId=ref("Other"), CidrBlock="10.0.7.0/24"),
            "FarGroup": entry("SecurityGroup", GroupDescription="far", VpcId=ref("Other")),
            "Ssm": entry(
                "VPCEndpoint",
                VpcId=ref("Other"),
                VpcEndpointType="Interface",
                ServiceName="com.amazonaws.us-east-1.ssm",
                SubnetIds=[ref("Far")],
                SecurityGroupIds=[ref("FarGroup")],
                PrivateDnsEnabled=True,
            ),
            "Https": entry("SecurityGroupIngress", GroupId=ref("FarGroup"), IpProtocol="tcp", FromPort=443, ToPort=443, CidrIp="10.0.0.0/16"),
            "Zone": {
                "Type": "AWS::Route53::HostedZone",
                "Properties": {"Name": "shop.test", "VPCs": [{"VPCId": ref("Other"), "VPCRegion": "us-east-1"}]},
            },
            "Record": {
                "Type": "AWS::Route53::RecordSet",
                "Properties": {"HostedZoneId": ref("Zone"), "Name": "here.shop.test", "Type": "A", "TTL": "9", "ResourceRecords": ["10.0.7.99"]},
            },
        }
        functions = {"Red": ("puppet", at("Private1")), "Blue": ("puppet", at("Far", group="FarGroup"))}
        deploy(platform, tmp_path, more, functions)
        ssm = "ssm.us-east-1.amazonaws.com"
        assert puppet.inside(platform, LOOK_UP, "Blue", host=ssm) == "10.0.7.4"
        assert puppet.inside(platform, LOOK_UP, "Blue", host="here.shop.test") == "10.0.7.99"
        assert puppet.inside(platform, LOOK_UP, "Red", host="here.shop.test") is None
        reach = "import socket\nsocket.create_connection((event['host'], 443), 5).close()\nanswer = 'open'"
        assert puppet.inside(platform, reach, "Blue", host=ssm) == "open"
        # The first interface's environment is gone, its subnet goes too; what is in use stays.
        del more["Private0"], more["Private0Has"], more["Ssm"]
        deploy(platform, tmp_path, more, functions)
        assert "eni-Private0-Group" not in {name for name, count in interfaces().items() if count == 0}
        assert not puppet.inside(platform, LOOK_UP, "Blue", host=ssm).startswith("10.0.")
        assert puppet.inside(platform, ALIVE) == ["again"] * 2
