"""Small templates with a VPC, and what functions do in it."""

import contextlib
import http.client
import json
import threading
import time

from support import templates

# What a puppet runs: so many connections, each a word there and back; kept when asked for.
CONNECT = """
import socket
answer = []
for number in range(event.get("count", 1)):
    connection = socket.socket()
    connection.settimeout(event.get("timeout", 5))
    try:
        connection.connect((event["host"], event["port"]))
        connection.sendall(b"hello")
        answer.append(connection.recv(16).decode())
        if event.get("keep"):
            kept.setdefault("all", []).append(connection)
    except OSError as error:
        answer.append(type(error).__name__)
"""

# The same bytes there and back, for as long as it runs.
STREAM = """
import socket
stream = socket.create_connection((event["host"], event["port"]), 10)
while True:
    stream.sendall(bytes(32768))
    left = 32768
    while left:
        piece = stream.recv(65536)
        if not piece: raise EOFError
        left -= len(piece)
"""

# A question over TCP, as resolvers ask again when an answer was cut: the code of each server's answer, and its last address.
ASK_OVER_TCP = """
import socket, struct
def ask(server):
    name = b"".join(bytes([len(label)]) + label.encode() for label in event["host"].split("."))
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + name + b"\\0" + struct.pack(">HH", event.get("kind", 1), 1)
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET) as connection:
        connection.settimeout(5)
        try:
            connection.connect((server, 53))
            connection.sendall(struct.pack(">H", len(query)) + query)
            said = connection.recv(2, socket.MSG_WAITALL)
            said = connection.recv(struct.unpack(">H", said)[0], socket.MSG_WAITALL) if said else b""
        except OSError as error:
            return type(error).__name__
    if not said: return "closed"
    wide = event.get("kind", 1) == 28
    address = socket.inet_ntop(*((socket.AF_INET6, said[-16:]) if wide else (socket.AF_INET, said[-4:])))
    return [said[3] & 15, address if struct.unpack(">H", said[6:8])[0] else None]
answer = [ask(server) for server in event["servers"]]
"""

ANYWHERE = [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}]


def ref(name):
    return {"Ref": name}


def resources(addresses=1, egress=None, gateway="nat", subnets=1):
    """A VPC; its private subnets lead to a NAT gateway with so many addresses, to the internet gateway, or nowhere."""
    found = {
        "Vpc": ("VPC", {"CidrBlock": "10.0.0.0/16", "EnableDnsHostnames": True}),
        "Igw": ("InternetGateway", {}),
        "Attached": ("VPCGatewayAttachment", {"VpcId": ref("Vpc"), "InternetGatewayId": ref("Igw")}),
        "Public": ("Subnet", {"VpcId": ref("Vpc"), "CidrBlock": "10.0.100.0/24"}),
        "PublicTable": ("RouteTable", {"VpcId": ref("Vpc")}),
        "PublicRoute": (
            "Route",
            {"RouteTableId": ref("PublicTable"), "DestinationCidrBlock": "0.0.0.0/0", "GatewayId": ref("Igw")},
        ),
        "PublicHas": ("SubnetRouteTableAssociation", {"SubnetId": ref("Public"), "RouteTableId": ref("PublicTable")}),
        "Group": (
            "SecurityGroup",
            {"GroupDescription": "functions", "VpcId": ref("Vpc"), "SecurityGroupEgress": egress or ANYWHERE},
        ),
        "Table": ("RouteTable", {"VpcId": ref("Vpc")}),
    }
    allocation = lambda number: {"Fn::GetAtt": [f"Eip{number}", "AllocationId"]}
    for number in range(addresses):
        found[f"Eip{number}"] = ("EIP", {"Domain": "vpc"})
    found["Nat"] = (
        "NatGateway",
        {
            "SubnetId": ref("Public"),
            "AllocationId": allocation(0),
            "SecondaryAllocationIds": [allocation(number) for number in range(1, addresses)],
        },
    )
    target = {"NatGatewayId": ref("Nat")} if gateway == "nat" else {"GatewayId": ref("Igw")}
    if gateway != "none":
        found["Default"] = ("Route", {"RouteTableId": ref("Table"), "DestinationCidrBlock": "0.0.0.0/0"} | target)
    for number in range(subnets):
        found[f"Private{number}"] = ("Subnet", {"VpcId": ref("Vpc"), "CidrBlock": f"10.0.{number}.0/24"})
        association = {"SubnetId": ref(f"Private{number}"), "RouteTableId": ref("Table")}
        found[f"Private{number}Has"] = ("SubnetRouteTableAssociation", association)
    return {name: {"Type": f"AWS::EC2::{kind}", "Properties": settings} for name, (kind, settings) in found.items()}


def template(home, functions=("Red",), timeout=30, subnets=1, outside=(), **network):
    """Puppets in a VPC, and puppets `outside` of it; answers the template's path."""
    config = {
        "SubnetIds": [ref(f"Private{number}") for number in range(subnets)],
        "SecurityGroupIds": [ref("Group")],
    }
    settings = {"Timeout": timeout, "MemorySize": 256}
    everyone = {name: ("puppet", settings | {"VpcConfig": config}) for name in functions}
    everyone |= {name: ("puppet", settings) for name in outside}
    return templates.write(home, everyone, resources(subnets=subnets, **network))


class Streams:
    """Puppets that send and hear without a pause until they, or the platform, are ended."""

    def __init__(self, platform, name, host, port, count=4):
        self.platform = platform
        event = {"python": STREAM, "host": host, "port": port}
        self.threads = [threading.Thread(target=self.stream, args=(name, event)) for _ in range(count)]
        self.count = count

    def stream(self, name, event):
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.platform.request("POST", f"/2015-03-31/functions/{name}/invocations", json.dumps(event))

    def gateway(self):
        return self.platform.request("GET", "/_onrush/limits").json()["gateways"][0]["metrics"]

    def __enter__(self):
        """All have a connection, and it flows."""
        for thread in self.threads:
            thread.start()
        deadline, enough = time.monotonic() + 60, self.gateway()["BytesInFromDestination"] + (4 << 20)
        while (found := self.gateway())["ActiveConnectionCount"] < self.count or found["BytesInFromDestination"] < enough:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive()
