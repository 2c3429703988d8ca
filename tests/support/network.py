"""Small templates with a VPC, and what functions do in it."""

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

ANYWHERE = [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}]


def ref(name):
    return {"Ref": name}


def resources(addresses=1, egress=None, gateway="nat", subnets=1):
    """A VPC; its private subnets lead to a NAT gateway with so many addresses, or to the internet gateway."""
    found = {
        "Vpc": ("VPC", {"CidrBlock": "10.0.0.0/16"}),
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
