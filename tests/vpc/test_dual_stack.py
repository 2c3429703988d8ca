"""IPv6: out of dual-stack subnets through an egress-only gateway, for functions that are allowed to, and nowhere else."""

import os
import socket

import pytest

from support import network, puppet, templates
from support.host import ROUTER, Host
from support.network import ref
from support.world import OTHER, PORT, SERVER, SERVER6, ip, refused

pytestmark = [
    pytest.mark.skipif(bool(refused()), reason=str(refused())),
    pytest.mark.skipif(not os.path.exists("/proc/sys/net/ipv6"), reason="this kernel has no IPv6"),
]
# The host's own addresses between it and its router, and of another network.
UPLINK6, ROUTER6, LAN6 = "2620:0:2::2", "2620:0:2::1", "2620:0:3::1"
CONNECT = """
import socket
answer = []
for host in event["hosts"]:
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    connection.settimeout(event.get("timeout", 5))
    try:
        connection.connect((host, event["port"]))
        connection.sendall(b"x" * 100_000)
        left = 100_000
        while left: left -= len(connection.recv(65536)) or 1 << 30
        answer.append(connection.getsockname()[0] and left)
        if event.get("keep"): kept.setdefault("all", []).append(connection)
    except OSError as error:
        answer.append(type(error).__name__)
"""


def resources(egress="Out"):
    """The usual network, its private subnet dual-stack; a group without egress rules lets both versions out."""
    found = network.resources()
    del found["Group"]["Properties"]["SecurityGroupEgress"]
    more = {
        "Six": ("VPCCidrBlock", {"VpcId": ref("Vpc"), "AmazonProvidedIpv6CidrBlock": True}),
        "Out": ("EgressOnlyInternetGateway", {"VpcId": ref("Vpc")}),
        "Default6": (
            "Route",
            {"RouteTableId": ref("Table"), "DestinationIpv6CidrBlock": "::/0"}
            | ({"EgressOnlyInternetGatewayId": ref("Out")} if egress == "Out" else {"NatGatewayId": ref("Nat")}),
        ),
    }
    blocks = {"Fn::Select": [0, {"Fn::GetAtt": ["Vpc", "Ipv6CidrBlocks"]}]}
    found["Private0"]["Properties"]["Ipv6CidrBlock"] = {"Fn::Select": [0, {"Fn::Cidr": [blocks, 1, 64]}]}
    return found | {name: {"Type": f"AWS::EC2::{kind}", "Properties": settings} for name, (kind, settings) in more.items()}


def template(home, **settings):
    """Dual may speak IPv6, Four may not, Free has no VPC."""
    inside = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    common = {"Timeout": 30, "MemorySize": 256}
    functions = {
        "Dual": ("puppet", common | {"VpcConfig": inside | {"Ipv6AllowedForDualStack": True}}),
        "Four": ("puppet", common | {"VpcConfig": inside}),
        "Free": ("puppet", common),
    }
    return templates.write(home, functions, resources(**settings))


def connect(platform, name, *hosts, port=PORT, **more):
    return puppet.inside(platform, CONNECT, name, hosts=hosts, port=port, **more)


NAMES = """
import socket
def addresses(family):
    try: return sorted({found[4][0] for found in socket.getaddrinfo(event["host"], None, family)})
    except OSError: return []
answer = [addresses(socket.AF_INET), addresses(socket.AF_INET6)]"""
DATAGRAM = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(b"word", (event["host"], event["port"])); answer = s.recvfrom(99)[0].decode()"""


def test_nat64_and_dns64_lead_from_ipv6_to_ipv4_under_the_gateway_s_limits(start, world, tmp_path):
    found = resources()
    found["Private0"]["Properties"]["EnableDns64"] = True
    found["Plain"] = {"Type": "AWS::EC2::Subnet", "Properties": found["Private0"]["Properties"] | {"CidrBlock": "10.0.9.0/24", "EnableDns64": False}}
    del found["Plain"]["Properties"]["Ipv6CidrBlock"]
    route = {"RouteTableId": ref("Table"), "DestinationIpv6CidrBlock": "64:ff9b::/96", "NatGatewayId": ref("Nat")}
    found["Six64"] = {"Type": "AWS::EC2::Route", "Properties": route}
    found["Zone"] = {"Type": "AWS::Route53::HostedZone", "Properties": {"Name": "shop.test", "VPCs": [{"VPCId": ref("Vpc"), "VPCRegion": "us-east-1"}]}}
    for number, (name, kind, value) in enumerate((("four", "A", SERVER), ("both", "A", SERVER), ("both", "AAAA", SERVER6))):
        record = {"HostedZoneId": ref("Zone"), "Name": f"{name}.shop.test", "Type": kind, "TTL": "60", "ResourceRecords": [value]}
        found[f"Record{number}"] = {"Type": "AWS::Route53::RecordSet", "Properties": record}
    inside = lambda subnet: {"Timeout": 30, "MemorySize": 256, "VpcConfig": {"SubnetIds": [ref(subnet)], "SecurityGroupIds": [ref("Group")], "Ipv6AllowedForDualStack": True}}
    functions = {"Dual": ("puppet", inside("Private0")), "Other": ("puppet", inside("Plain"))}
    platform = start("--world", f"netns:{world.name}", "--limit", "nat.ports=3", template=templates.write(tmp_path, functions, found))
    assert "NAT64" not in platform.stderr() and "EnableDns64" not in platform.stderr()
    four, made_up = SERVER, f"64:ff9b::cb00:710a"
    assert puppet.inside(platform, NAMES, "Dual", host="four.shop.test") == [[four], [made_up]]
    assert puppet.inside(platform, NAMES, "Dual", host="both.shop.test") == [[four], [SERVER6]]
    assert puppet.inside(platform, NAMES, "Dual", host="nobody.shop.test") == [[], []]
    assert puppet.inside(platform, NAMES, "Other", host="four.shop.test") == [[four], []]
    # Over TCP, too, and by the resolver's address of IPv6.
    servers = ["169.254.169.253", "10.0.0.2", "fd00:ec2::253"]
    over_tcp = lambda name: puppet.inside(platform, network.ASK_OVER_TCP, name, servers=servers, host="four.shop.test", kind=28)
    assert over_tcp("Dual") == [[0, made_up]] * 3
    assert over_tcp("Other") == [[0, None]] * 3, "without EnableDns64"
    # Whole segments and acknowledgements both ways; ports of the one gateway, whichever version asked for them.
    assert connect(platform, "Dual", "four.shop.test", made_up, SERVER, keep=True) == [0, 0, 0]
    row = platform.limit("nat.ports", "Nat")
    assert (row["used"], row["max"]) == (3, 3)
    assert connect(platform, "Dual", made_up, SERVER, timeout=0.7) == ["TimeoutError"] * 2
    assert connect(platform, "Dual", "64:ff9b::cb00:710b") == [0], "another destination has ports of its own"
    # Refused, told so; datagrams pass; private addresses of the world lead nowhere.
    assert connect(platform, "Dual", made_up, port=9) == ["ConnectionRefusedError"]
    assert puppet.inside(platform, DATAGRAM, "Dual", host=made_up, port=PORT) == "word"
    assert connect(platform, "Dual", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", timeout=0.5) == ["TimeoutError"] * 2


def test_who_may_reaches_the_world_by_ipv6_and_takes_no_port_of_a_nat_gateway(device, start, world, tmp_path):
    platform = start("--world", f"netns:{world.name}", "--limit", "nat.ports=1", template=template(tmp_path))
    assert connect(platform, "Dual", *[SERVER6] * 5, SERVER, keep=True) == [0] * 6
    assert platform.limit("nat.ports", "Nat")["used"] == 1, "IPv4's alone"
    assert platform.limit("eni.connections", "eni-Private0-Group")["used"] == 6
    # Whom nobody answers to is told so at once by the function's own kernel, or by silence.
    for name in ("Four", "Free"):
        [said] = connect(platform, name, SERVER6, timeout=0.5)
        assert said in ("OSError", "TimeoutError"), (name, said)
    assert connect(platform, "Dual", "fe80::1", "::1", "fd00:ec2::254", timeout=0.4) != [0] * 3
    ping = """
import subprocess, socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
s.settimeout(5); s.connect((event["host"], 0))
s.send(bytes([128, 0, 0, 0, 0, 0, 0, 1]) + b"ping"); answer = s.recv(100)[-4:].decode()"""
    assert puppet.inside(platform, ping, "Dual", host=SERVER6) == "ping"


def test_the_interface_carries_both_versions_together(start, world, tmp_path):
    platform = start("--world", f"netns:{world.name}", "--limit", "eni.connections=4", template=template(tmp_path))
    assert connect(platform, "Dual", SERVER6, SERVER, SERVER6, OTHER, keep=True) == [0] * 4
    assert connect(platform, "Dual", SERVER6, timeout=0.5) == ["TimeoutError"]
    assert connect(platform, "Four", SERVER, timeout=0.5) == ["TimeoutError"]
    assert platform.tells("limit=eni.connections")


@pytest.fixture
def host():
    with Host() as host:
        for namespace, device, address in ((host.host, "up0", UPLINK6), (host.name, "down0", ROUTER6), (host.host, "lan0", LAN6)):
            ip("-n", namespace, "-6", "addr", "add", f"{address}/64", "dev", device, "nodad")
        ip("-n", host.host, "-6", "route", "add", "default", "via", ROUTER6)
        with host.inside():
            with open("/proc/sys/net/ipv6/conf/all/forwarding", "w") as setting:
                setting.write("1")
            yield host


def test_a_host_that_does_not_forward_ipv6_says_so(start, host, tmp_path):
    with open("/proc/sys/net/ipv6/conf/all/forwarding", "w") as setting:
        setting.write("0")
    platform = start("--world", "host", template=template(tmp_path))
    assert platform.tells("this host does not forward it; sysctl net.ipv6.conf.all.forwarding=1")
    assert connect(platform, "Dual", SERVER6, SERVER, timeout=0.5) == ["TimeoutError", 0]


def test_a_host_that_forwards_ipv6_lends_its_address_and_is_not_reached_itself(start, host, tmp_path):
    platform = start("--world", "host", template=template(tmp_path))
    assert connect(platform, "Dual", SERVER6, SERVER) == [0, 0]
    listeners = []
    for address in (UPLINK6, LAN6, "::1", "::"):
        listener = socket.create_server((address, 0), family=socket.AF_INET6)
        listener.setblocking(False)
        listeners.append((address, listener))
    for address, listener in listeners:
        said = connect(platform, "Dual", address, port=listener.getsockname()[1], timeout=0.5)
        assert said in (["TimeoutError"], ["ConnectionRefusedError"], ["OSError"]), (address, said)
    # The router is of a network that the host is connected to, by either version.
    assert connect(platform, "Dual", ROUTER6, ROUTER, timeout=0.5) == ["TimeoutError"] * 2
    for address, listener in listeners:
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()
    before_end = ip("-6", "route", "show", "2001:db8::/32")
    assert "onrush0" in before_end
    platform.stop()
    assert ip("-6", "route", "show", "2001:db8::/32") == ""
