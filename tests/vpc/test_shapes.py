"""Networks of less common shapes: functions of the API, load balancers, groups that refer to themselves, a full subnet."""

import json
import threading
import time

import pytest

from support import network, packages, puppet, templates
from support.network import CONNECT, ref
from support.storefront import Cache
from support.world import PORT, SERVER, World, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

BALANCER = {
    "BalancerGroup": {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {"GroupDescription": "balancer", "VpcId": ref("Vpc")},
    },
    # A group that refers to itself: who has it may talk to others who have it.
    "Itself": {
        "Type": "AWS::EC2::SecurityGroupIngress",
        "Properties": {
            "GroupId": ref("BalancerGroup"),
            "IpProtocol": "tcp",
            "FromPort": 80,
            "ToPort": 80,
            "SourceSecurityGroupId": ref("BalancerGroup"),
        },
    },
    "Balancer": {
        "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "Properties": {
            "Scheme": "internal",
            "Subnets": [ref("Private0"), ref("Private1")],
            "SecurityGroups": [ref("BalancerGroup")],
        },
    },
    "Listener": {
        "Type": "AWS::ElasticLoadBalancingV2::Listener",
        "Properties": {
            "LoadBalancerArn": ref("Balancer"),
            "Port": 80,
            "Protocol": "HTTP",
            "DefaultActions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}],
        },
    },
}
# A connection that speaks for some seconds, then ends.
HOLD = """
import socket, time
with socket.create_connection((event["host"], event["port"]), 5) as connection:
    for _ in range(10 * event["for"]):
        connection.sendall(b"hello")
        connection.recv(16)
        time.sleep(0.1)
answer = None
"""
PING = """
import socket
s = socket.socket(); s.settimeout(event.get("timeout", 5))
try:
    s.connect((event.get("host") or os.environ["BALANCER"], 80))
    s.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n"); answer = s.recv(64).decode()
except OSError as error:
    answer = type(error).__name__
"""


def connect(platform, name, **more):
    return puppet.inside(platform, CONNECT, name, host=SERVER, port=PORT, **more)


def test_a_function_created_by_the_api_stands_where_its_configuration_says(start, tmp_path):
    with World() as world:
        template = network.template(tmp_path)
        platform = start("--world", f"netns:{world.name}", "--limit", "nat.ports=4", template=template)
        client = platform.client()
        config = client.get_function(FunctionName="Red")["Configuration"]["VpcConfig"]
        vpc_id = config["VpcId"]
        assert vpc_id.startswith("vpc-")
        config = {key: config[key] for key in ("SubnetIds", "SecurityGroupIds")}
        code = packages.package(puppet.files())
        platform.create("Late", code, VpcConfig=config, Timeout=30)
        late = client.get_function_configuration(FunctionName="Late")["VpcConfig"]
        assert late == config | {"VpcId": vpc_id, "Ipv6AllowedForDualStack": False}
        platform.create("Outside", code, Timeout=30)
        assert connect(platform, "Red", count=2, keep=True) == ["hello"] * 2
        assert connect(platform, "Late", count=2, keep=True) == ["hello"] * 2
        assert connect(platform, "Late", timeout=0.5) == ["TimeoutError"], "the gateway's ports are everybody's"
        assert connect(platform, "Outside") == ["hello"], "past every limit of a VPC"
        [interface] = platform.request("GET", "/_onrush/limits").json()["interfaces"]
        assert (interface["connections"], interface["environments"]) == (4, {"Late": 1, "Red": 1})
        look_up = "import socket\nanswer = socket.gethostbyname('ip-10-0-3-4.ec2.internal')"
        assert puppet.inside(platform, look_up, "Late") == "10.0.3.4"


@pytest.mark.parametrize("with_template", [True, False])
def test_a_function_in_a_subnet_that_no_template_knows_has_a_way_out(start, tmp_path, with_template):
    """As the plan takes it: a NAT gateway with one address, for all that is elsewhere."""
    with World() as world:
        template = network.template(tmp_path) if with_template else None
        platform = start("--world", f"netns:{world.name}", "--limit", "nat.ports=3", template=template)
        config = {"SubnetIds": ["subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}
        platform.create("Late", packages.package(puppet.files()), VpcConfig=config, Timeout=30)
        assert connect(platform, "Late", count=3, keep=True) == ["hello"] * 3
        assert connect(platform, "Late", timeout=0.5) == ["TimeoutError"]
        row = platform.limit("nat.ports", "nat-elsewhere")
        assert (row["used"], row["refused"] > 0) == (3, True)
        look_up = "import socket\nanswer = socket.gethostbyname('ssm.us-east-1.amazonaws.com')"
        assert puppet.inside(platform, look_up, "Late").startswith("198.19.")
        assert not with_template or connect(platform, "Red") == ["hello"]


def test_a_load_balancer_has_a_name_and_an_address_and_a_group_that_refers_to_itself(start, tmp_path):
    variables = {"Variables": {"BALANCER": {"Fn::GetAtt": ["Balancer", "DNSName"]}}}
    inside = lambda group: {
        "Timeout": 30,
        "MemorySize": 256,
        "Environment": variables,
        "VpcConfig": {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref(group)]},
    }
    functions = {"Member": ("puppet", inside("BalancerGroup")), "Stranger": ("puppet", inside("Group"))}
    template = templates.write(tmp_path, functions, network.resources(subnets=2) | BALANCER)
    with Cache() as cache:
        attach = ("--attach", f"Balancer=127.0.0.1:{cache.port()}")
        platform = start("--world", "none", *attach, template=template)
        look_up = "import socket\nanswer = sorted({a[4][0] for a in socket.getaddrinfo(os.environ['BALANCER'], 80)})"
        addresses = puppet.inside(platform, look_up, "Member")
        assert len(addresses) == 2 and all(address.startswith("10.0.") for address in addresses)
        for address in addresses:
            assert puppet.inside(platform, PING, "Member", host=address) == "+PONG\r\n"
        assert puppet.inside(platform, PING, "Member") == "+PONG\r\n"
        assert puppet.inside(platform, PING, "Stranger", timeout=0.5) == "TimeoutError"
        assert platform.tells("limit=sg.no-rule")


def test_a_subnet_without_an_address_left_refuses_the_next_interface_until_somebodys_last_connection_ends(start, tmp_path):
    """A /28 has eleven addresses to give; each set of groups takes one."""
    found = network.resources()
    found["Private0"]["Properties"]["CidrBlock"] = "10.0.0.0/28"
    functions = {}
    for number in range(12):
        group = {"GroupDescription": f"group {number}", "VpcId": ref("Vpc")}
        found[f"Group{number}"] = {"Type": "AWS::EC2::SecurityGroup", "Properties": group}
        config = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref(f"Group{number}")]}
        functions[f"F{number:02}"] = ("puppet", {"Timeout": 30, "MemorySize": 128, "VpcConfig": config})
    with World() as world:
        template = templates.write(tmp_path, functions, found)
        idle = [word for limit in ("eni", "nat") for word in ("--limit", f"{limit}.idle-timeout=3")]
        platform = start("--world", f"netns:{world.name}", *idle, template=template)
        said = {name: connect(platform, name, timeout=0.7) for name in functions}
        assert [name for name, answer in said.items() if answer != ["hello"]] == ["F11"], said
        row = platform.limit("subnet.addresses", "Private0")
        assert (row["max"], row["used"]) == (11, 11) and row["refused"] >= 1
        result = platform.invoke("F11", {"python": network.CONNECT, "host": SERVER, "port": PORT, "timeout": 0.3})
        assert result.headers["x-onrush-limit"] == "subnet.addresses; resource=Private0; used=11; max=11"
        assert "packets were dropped by subnet.addresses of Private0: 11 of 11 addresses" in result.log, result.log
        # One that no function has any more keeps its address while a connection goes through it.
        held = threading.Thread(target=puppet.inside, args=(platform, HOLD, "F00"), kwargs={"host": SERVER, "port": PORT, "for": 4})
        held.start()
        time.sleep(0.5)
        used = lambda: platform.limit("subnet.addresses", "Private0")["used"]
        del functions["F00"]
        template = templates.write(tmp_path, functions, found)
        answer = platform.request("POST", "/_onrush/deploy", json.dumps({"template": str(template)}))
        assert answer.status == 200, answer
        assert connect(platform, "F11", timeout=0.7) != ["hello"] and used() == 11
        assert platform.limit("eni.connections", "eni-Private0-Group0")["used"] >= 1
        held.join()
        # Its environment may go before the last answer comes: then silence ends the connection.
        waited = time.monotonic() + 20
        while (said := connect(platform, "F11", timeout=0.7)) != ["hello"]:
            assert time.monotonic() < waited, said
        assert used() == 11
