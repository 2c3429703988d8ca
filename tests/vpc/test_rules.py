"""Network ACLs, prefix lists, private zones, gateway endpoints and peering of a template, on real packets."""

import pytest

from support import network, puppet, templates
from support.network import CONNECT, ref
from support.storefront import Cache
from support.world import OTHER, PORT, SERVER, World, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

ALL = {"CidrBlock": "0.0.0.0/0"}
HIGH = {"From": 1024, "To": 65535}


def resources():
    """Five private subnets behind one gateway: Plain, NoOut and NoBack have ACLs or none, Listed has a group with a prefix list."""
    found = network.resources(subnets=3)
    entry = lambda acl, number, **more: ("NetworkAclEntry", {"NetworkAclId": ref(acl), "RuleNumber": number, "RuleAction": "allow"} | ALL | more)
    more = {
        # Out to everything but port 7; answers may come in.
        "NoOut": ("NetworkAcl", {"VpcId": ref("Vpc")}),
        "NoOut1": entry("NoOut", 10, Egress=True, RuleAction="deny", Protocol=6, PortRange={"From": PORT, "To": PORT}),
        "NoOut2": entry("NoOut", 20, Egress=True, Protocol=-1),
        "NoOut3": entry("NoOut", 10, Protocol=-1),
        "NoOutHas": ("SubnetNetworkAclAssociation", {"SubnetId": ref("Private1"), "NetworkAclId": ref("NoOut")}),
        # Everything out, and nothing that answers: ACLs do not remember.
        "NoBack": ("NetworkAcl", {"VpcId": ref("Vpc")}),
        "NoBack1": entry("NoBack", 10, Egress=True, Protocol=-1),
        "NoBack2": entry("NoBack", 10, RuleAction="deny", Protocol=6, PortRange=HIGH),
        "NoBackHas": ("SubnetNetworkAclAssociation", {"SubnetId": ref("Private2"), "NetworkAclId": ref("NoBack")}),
        "List": ("PrefixList", {"PrefixListName": "l", "AddressFamily": "IPv4", "MaxEntries": 2, "Entries": [{"Cidr": f"{SERVER}/32"}]}),
        "Listed": (
            "SecurityGroup",
            {
                "GroupDescription": "to the list alone",
                "VpcId": ref("Vpc"),
                "SecurityGroupEgress": [
                    {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "DestinationPrefixListId": ref("List")}
                ],
            },
        ),
        "Bucket": (
            "VPCEndpoint",
            {"VpcId": ref("Vpc"), "ServiceName": "com.amazonaws.us-east-1.s3", "RouteTableIds": [ref("Table")]},
        ),
    }
    found |= {name: {"Type": f"AWS::EC2::{kind}", "Properties": settings} for name, (kind, settings) in more.items()}
    found["Zone"] = {"Type": "AWS::Route53::HostedZone", "Properties": {"Name": "shop.test", "VPCs": [{"VPCId": ref("Vpc"), "VPCRegion": "us-east-1"}]}}
    for name, kind, value in (("server", "A", SERVER), ("alias", "CNAME", "server.shop.test"), ("*.any", "A", OTHER)):
        record = {"HostedZoneId": ref("Zone"), "Name": f"{name}.shop.test", "Type": kind, "TTL": "60", "ResourceRecords": [value]}
        found[f"Record{kind}{len(name)}"] = {"Type": "AWS::Route53::RecordSet", "Properties": record}
    return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    from support.platform import Platform

    home = tmp_path_factory.mktemp("rules")
    inside = lambda subnet, group: {"VpcConfig": {"SubnetIds": [ref(subnet)], "SecurityGroupIds": [ref(group)]}}
    common = {"Timeout": 30, "MemorySize": 256}
    places = {
        "Plain": ("Private0", "Group"),
        "NoOutFunction": ("Private1", "Group"),
        "NoBackFunction": ("Private2", "Group"),
        "ListedFunction": ("Private0", "Listed"),
    }
    functions = {name: ("puppet", common | inside(*place)) for name, place in places.items()}
    functions["Free"] = ("puppet", common)
    template = templates.write(home, functions, resources())
    with World() as world, Cache() as cache:
        attach = ("--attach", f"s3.us-east-1.amazonaws.com:6379=127.0.0.1:{cache.port()}")
        with Platform("--world", f"netns:{world.name}", *attach, template=template) as platform:
            yield platform


def connect(platform, name, host=SERVER, port=PORT, **more):
    return puppet.inside(platform, CONNECT, name, host=host, port=port, **more)


def test_an_acl_stands_in_the_way_out_and_of_the_answers(platform):
    assert connect(platform, "Plain") == ["hello"]
    for name, acl in (("NoOutFunction", "NoOut (what leaves Private1, rule 10)"), ("NoBackFunction", "NoBack (answers that enter Private2, rule 10)")):
        assert connect(platform, name, timeout=0.5) == ["TimeoutError"]
        assert platform.limit("nacl.deny", acl)["refused"] >= 1


def test_a_prefix_list_of_a_rule_means_its_entries_alone(platform):
    assert connect(platform, "ListedFunction") == ["hello"]
    assert connect(platform, "ListedFunction", host=OTHER, timeout=0.5) == ["TimeoutError"]


def test_a_private_zone_answers_in_its_vpc_alone(platform):
    look_up = """
import socket
try: answer = socket.gethostbyname(event["host"])
except OSError: answer = None"""
    for name, address in (("server", SERVER), ("alias", SERVER), ("what.any", OTHER)):
        assert connect(platform, "Plain", host=f"{name}.shop.test") == ["hello"]
        assert puppet.inside(platform, look_up, "Plain", host=f"{name}.shop.test") == address
    assert puppet.inside(platform, look_up, "Plain", host="nobody.shop.test") is None
    assert puppet.inside(platform, look_up, "Free", host="server.shop.test") is None


def test_a_gateway_endpoint_leads_past_the_nat_gateway_and_takes_the_interface(platform):
    ports = platform.limit("nat.ports", "Nat")["used"]
    used = platform.limit("eni.connections", "eni-Private0-Group")["used"]
    hold = """
import socket
s = socket.create_connection(("s3.us-east-1.amazonaws.com", 6379), 5)
s.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n"); kept["s3"] = s; answer = s.recv(64).decode()"""
    assert puppet.inside(platform, hold, "Plain") == "+PONG\r\n"
    assert platform.limit("eni.connections", "eni-Private0-Group")["used"] > used
    assert platform.limit("nat.ports", "Nat")["used"] == ports
