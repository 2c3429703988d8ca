"""Peering on real packets: two VPCs that know each other, a third that only one of them knows, and groups of the other side."""

import json

import pytest

from support import network, puppet, templates
from support.network import ref
from support.platform import Platform
from support.storefront import Cache
from support.world import SERVER, World, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

PING = """
import socket
s = socket.socket(); s.settimeout(event.get("timeout", 5))
try:
    s.connect((os.environ.get(event["host"], event["host"]), event.get("port", 80)))
    s.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n"); answer = s.recv(64).decode()
except OSError as error:
    answer = type(error).__name__
"""
PONG = "+PONG\r\n"
# The first address of each that is not AWS's.
MIDDLE, FAR, DEAF = "10.9.0.4", "10.7.0.4", "10.8.0.4"


def entry(kind, **settings):
    return {"Type": f"AWS::{kind}", "Properties": settings}


def vpc(name, net):
    """A VPC with a subnet, a table, and a balancer that lets in members of its own group, and of those that are told."""
    return {
        name: entry("EC2::VPC", CidrBlock=f"{net}.0.0/16"),
        f"{name}Subnet": entry("EC2::Subnet", VpcId=ref(name), CidrBlock=f"{net}.0.0/24"),
        f"{name}Table": entry("EC2::RouteTable", VpcId=ref(name)),
        f"{name}Uses": entry("EC2::SubnetRouteTableAssociation", SubnetId=ref(f"{name}Subnet"), RouteTableId=ref(f"{name}Table")),
        f"{name}Group": entry("EC2::SecurityGroup", GroupDescription=name, VpcId=ref(name)),
        f"{name}Balancer": entry(
            "ElasticLoadBalancingV2::LoadBalancer", Scheme="internal", Subnets=[ref(f"{name}Subnet")], SecurityGroups=[ref(f"{name}Group")]
        ),
    }


def route(table, net, peering):
    return entry("EC2::Route", RouteTableId=ref(table), DestinationCidrBlock=f"{net}.0.0/16", VpcPeeringConnectionId=ref(peering))


def lets_in(group, source):
    return entry("EC2::SecurityGroupIngress", GroupId=ref(group), IpProtocol="tcp", FromPort=80, ToPort=80, SourceSecurityGroupId=ref(source))


def resources():
    """Vpc - Middle - Far, and Vpc - Deaf, whose answers find no way back."""
    found = network.resources() | vpc("Middle", "10.9") | vpc("Far", "10.7") | vpc("Deaf", "10.8")
    return found | {
        "Stranger": entry("EC2::SecurityGroup", GroupDescription="stranger", VpcId=ref("Vpc")),
        "VpcMiddle": entry("EC2::VPCPeeringConnection", VpcId=ref("Vpc"), PeerVpcId=ref("Middle")),
        "MiddleFar": entry("EC2::VPCPeeringConnection", VpcId=ref("Middle"), PeerVpcId=ref("Far")),
        "VpcDeaf": entry("EC2::VPCPeeringConnection", VpcId=ref("Vpc"), PeerVpcId=ref("Deaf")),
        "ToMiddle": route("Table", "10.9", "VpcMiddle"),
        "Back": route("MiddleTable", "10.0", "VpcMiddle"),
        "MiddleToFar": route("MiddleTable", "10.7", "MiddleFar"),
        "FarBack": route("FarTable", "10.9", "MiddleFar"),
        # Peering is not transitive, whatever a route says.
        "ThroughMiddle": route("Table", "10.7", "VpcMiddle"),
        "FarThroughMiddle": route("FarTable", "10.0", "MiddleFar"),
        "ToDeaf": route("Table", "10.8", "VpcDeaf"),
        "MiddleLetsIn": lets_in("MiddleGroup", "Group"),
        "FarLetsIn": lets_in("FarGroup", "MiddleGroup"),
        "DeafLetsIn": lets_in("DeafGroup", "Group"),
    }


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    inside = lambda subnet, group: {"Timeout": 30, "MemorySize": 256, "VpcConfig": {"SubnetIds": [ref(subnet)], "SecurityGroupIds": [ref(group)]}}
    functions = {
        "Near": ("puppet", inside("Private0", "Group")),
        "Other": ("puppet", inside("Private0", "Stranger")),
        "Between": ("puppet", inside("MiddleSubnet", "MiddleGroup")),
    }
    template = templates.write(tmp_path_factory.mktemp("peering"), functions, resources())
    with World() as world, Cache() as cache:
        attach = [word for name in ("Middle", "Far", "Deaf") for word in ("--attach", f"{name}Balancer=127.0.0.1:{cache.port()}")]
        with Platform("--world", f"netns:{world.name}", *attach, template=template) as platform:
            yield platform


def ping(platform, name, host, **more):
    return puppet.inside(platform, PING, name, host=host, **more)


def test_a_peer_is_reached_by_members_of_the_group_that_its_rule_names(platform):
    assert ping(platform, "Near", MIDDLE) == PONG
    ports = platform.request("GET", "/_onrush/limits").json()["gateways"][0]["metrics"]["ConnectionAttemptCount"]
    assert ports == 0, "no NAT gateway stands between peers"
    assert ping(platform, "Other", MIDDLE, timeout=0.5) == "TimeoutError"
    assert platform.limit("sg.no-rule", f"MiddleGroup (what may come to MiddleBalancer)")["refused"] >= 1
    assert ping(platform, "Near", MIDDLE, port=81, timeout=0.5) == "TimeoutError"


def test_peering_is_not_transitive(platform):
    assert ping(platform, "Between", FAR) == PONG
    assert ping(platform, "Near", FAR, timeout=0.5) == "TimeoutError"
    assert platform.tells("route.none") and platform.tells("VpcMiddle")
    # Nor does a peer's NAT gateway serve others: Middle has no way out of its own.
    assert ping(platform, "Between", SERVER, port=7, timeout=0.5) == "TimeoutError"


def test_answers_need_a_route_back(platform):
    assert ping(platform, "Near", DEAF, timeout=0.5) == "TimeoutError"
    assert platform.limit("route.none", "DeafSubnet (no route leads its answers back)")["refused"] >= 1


def test_a_vpc_that_is_no_peer_is_out_of_reach_by_address_too(start, tmp_path):
    """Not by a NAT gateway, not from outside every VPC, and not where both have the same addresses."""
    inside = lambda subnet, group: {"Timeout": 30, "MemorySize": 256, "VpcConfig": {"SubnetIds": [ref(subnet)], "SecurityGroupIds": [ref(group)]}}
    found = network.resources() | vpc("Other", "10.9") | vpc("Twin", "10.0")
    for name in ("Other", "Twin"):
        found[f"{name}In"] = entry("EC2::SecurityGroupIngress", GroupId=ref(f"{name}Group"), IpProtocol="-1", CidrIp="0.0.0.0/0")
    functions = {
        "Near": ("puppet", inside("Private0", "Group")),
        "Beside": ("puppet", inside("OtherSubnet", "OtherGroup")),
        "Within": ("puppet", inside("TwinSubnet", "TwinGroup")),
        "Free": ("puppet", {"Timeout": 30, "MemorySize": 256}),
    }
    with World() as world, Cache() as cache:
        attach = [word for name in ("Other", "Twin") for word in ("--attach", f"{name}Balancer=127.0.0.1:{cache.port()}")]
        platform = start("--world", f"netns:{world.name}", *attach, template=templates.write(tmp_path, functions, found))
        assert ping(platform, "Beside", MIDDLE) == PONG
        twin = next(host for host in (f"10.0.0.{last}" for last in range(4, 9)) if ping(platform, "Within", host, timeout=0.3) == PONG)
        for name, host in (("Near", MIDDLE), ("Near", twin), ("Beside", twin), ("Within", MIDDLE), ("Free", MIDDLE), ("Free", twin)):
            assert ping(platform, name, host, timeout=0.5) == "TimeoutError", (name, host)


def test_a_public_database_lets_in_those_that_its_groups_and_routes_do(start, tmp_path):
    """From another VPC by its NAT gateway's two addresses, of which one is let in; from outside; and over a transit gateway."""
    inside = lambda subnet, group: {"VpcConfig": {"SubnetIds": [ref(subnet)], "SecurityGroupIds": [ref(group)]}}
    found = network.resources(addresses=2) | vpc("Other", "10.9")
    found |= {
        "OtherOut": entry("EC2::InternetGateway"),
        "OtherAttached": entry("EC2::VPCGatewayAttachment", VpcId=ref("Other"), InternetGatewayId=ref("OtherOut")),
        "OtherDefault": entry("EC2::Route", RouteTableId=ref("OtherTable"), DestinationCidrBlock="0.0.0.0/0", GatewayId=ref("OtherOut")),
        "Hub": entry("EC2::TransitGateway"),
        "Hidden": entry("EC2::Subnet", VpcId=ref("Other"), CidrBlock="10.9.1.0/24"),
        "Routed": entry("EC2::Subnet", VpcId=ref("Vpc"), CidrBlock="10.0.50.0/24"),
        "RoutedTable": entry("EC2::RouteTable", VpcId=ref("Vpc")),
        "RoutedUses": entry("EC2::SubnetRouteTableAssociation", SubnetId=ref("Routed"), RouteTableId=ref("RoutedTable")),
        "ByHub": entry("EC2::Route", RouteTableId=ref("RoutedTable"), DestinationCidrBlock="10.9.0.0/16", TransitGatewayId=ref("Hub")),
        "BackByHub": entry("EC2::Route", RouteTableId=ref("OtherTable"), DestinationCidrBlock="10.0.50.0/24", TransitGatewayId=ref("Hub")),
        "OneAddress": entry(
            "EC2::SecurityGroupIngress",
            GroupId=ref("OtherGroup"), IpProtocol="tcp", FromPort=5432, ToPort=5432, CidrIp={"Fn::Sub": "${Eip1.PublicIp}/32"},
        ),
    }  # fmt: skip
    settings = {"Engine": "postgres", "DBInstanceClass": "db.t4g.micro", "AllocatedStorage": "20", "PubliclyAccessible": True}
    for name, first, second in (("Shown", "OtherSubnet", "Hidden"), ("Buried", "Hidden", "OtherSubnet")):
        found[f"{name}Places"] = entry("RDS::DBSubnetGroup", DBSubnetGroupDescription="d", SubnetIds=[ref(first), ref(second)])
        found[name] = entry("RDS::DBInstance", DBSubnetGroupName=ref(f"{name}Places"), VPCSecurityGroups=[ref("OtherGroup")], **settings)
    variables = {name: {"Fn::GetAtt": [name, "Endpoint.Address"]} for name in ("Shown", "Buried")}
    common = {"Timeout": 30, "MemorySize": 256, "Environment": {"Variables": variables}}
    functions = {
        "Near": ("puppet", common | inside("Private0", "Group")),
        "Transit": ("puppet", common | inside("Routed", "Group")),
        "Free": ("puppet", common),
    }
    with Cache() as cache:
        attach = [word for name in ("Shown", "Buried") for word in ("--attach", f"{name}=127.0.0.1:{cache.port()}")]
        file = templates.write(tmp_path, functions, found)
        platform = start("--world", "none", "--limit", "db.max-connections=4", *attach, template=file)
        ask = lambda name, host, **more: ping(platform, name, host, port=5432, **more)
        # The gateway gives its addresses in turn, and a SYN that is sent again has the port that it had.
        assert sorted(ask("Near", "Shown", timeout=1.3) for _ in range(2)) == [PONG, "TimeoutError"]
        silent = lambda name, host: ask(name, host, timeout=0.4) == "TimeoutError"
        assert silent("Free", "Shown"), "no rule for all addresses"
        assert silent("Transit", "Shown"), "nor for its own"
        refused = {row["resource"] for row in platform.request("GET", "/_onrush/limits").json()["limits"] if row["id"] == "sg.no-rule"}
        assert refused == {"OtherGroup (what may come to Shown)"}
        assert silent("Near", "Buried") and silent("Free", "Buried")
        hidden = "Hidden (the internet does not lead there, where Buried is)"
        assert platform.limit("route.none", hidden)["refused"] >= 2

        found["ForAll"] = entry("EC2::SecurityGroupIngress", GroupId=ref("OtherGroup"), IpProtocol="tcp", FromPort=5432, ToPort=5432, CidrIp="0.0.0.0/0")
        templates.write(tmp_path, functions, found)
        deployed = platform.request("POST", "/_onrush/deploy", json.dumps({"template": str(file)}))
        assert deployed.status == 200, deployed
        assert [ask(name, "Shown") for name in ("Near", "Transit", "Free")] == [PONG] * 3
        assert silent("Free", "Buried")
        # A database is full for all of them, and says so.
        keep = {"python": PING.replace("s = socket", "kept[count] = s = socket"), "host": "Shown", "port": 5432}
        said = [puppet.inside(platform, **keep, name=name) for name in ("Near", "Transit", "Near", "Transit", "Near")]
        assert said[0] == PONG and said[-1] == "ConnectionRefusedError", said
        row = platform.limit("db.max-connections", "Shown")
        assert (row["used"], row["max"]) == (4, 4) and row["refused"] >= 1
