"""The example with a cache that answers, and its template with more room, as the incident's cure goes."""

import re
import socket
import subprocess
import sys
import threading
import time

from support.paths import STOREFRONT

CACHE = "203.0.113.10"
PORT = 443
# The launch of hundredth.yaml, and its limits.
LOAD = STOREFRONT / "hundredth.yaml"
LIMITS = {"nat.ports": 550, "eni.connections": 650, "nat.addresses": 8}
ENVIRONMENTS = 36
CONNECTIONS = 40


def template(home, addresses=1, subnets=2):
    """The example's template with so many addresses of its gateway and so many private subnets; answers its path."""
    text = (STOREFRONT / "template.yaml").read_text()

    def after(anchor, more):
        nonlocal text
        assert text.count(anchor) == 1, anchor
        text = text.replace(anchor, anchor + more)

    for folder in ("cart", "recommend"):
        text = text.replace(f"CodeUri: {folder}/", f"CodeUri: {STOREFRONT}/{folder}/")
    for number in range(2, addresses + 1):
        after("# One gateway, one address: 55,000 connections to any one destination.\n", eip(number))
    if addresses > 1:
        more = ", ".join(f"!GetAtt NatAddress{number}.AllocationId" for number in range(2, addresses + 1))
        after("AllocationId: !GetAtt NatAddress.AllocationId\n", f"      SecondaryAllocationIds: [{more}]\n")
    for letter, number in zip("CDEF", range(3, subnets + 1)):
        after("  InternetGateway:\n    Type: AWS::EC2::InternetGateway\n\n", subnet(letter, number, subnets))
        text = text.replace("!Ref PrivateSubnetB]", f"!Ref PrivateSubnetB, !Ref PrivateSubnet{letter}]")
    text = re.sub(r"!GetAtt Vpc.CidrBlock, 3, 8", f"!GetAtt Vpc.CidrBlock, {subnets + 1}, 8", text)
    home.chmod(0o755)
    path = home / f"storefront-{addresses}-{subnets}.yaml"
    path.write_text(text)
    return path


def eip(number):
    return f"  NatAddress{number}:\n    Type: AWS::EC2::EIP\n    Properties:\n      Domain: vpc\n\n"


def subnet(letter, number, subnets):
    return f"""\
  PrivateSubnet{letter}:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      AvailabilityZone: !Select [2, !GetAZs ""]
      CidrBlock: !Select [{number}, !Cidr [!GetAtt Vpc.CidrBlock, {subnets + 1}, 8]]

  PrivateSubnet{letter}Routes:
    Type: AWS::EC2::SubnetRouteTableAssociation
    Properties:
      SubnetId: !Ref PrivateSubnet{letter}
      RouteTableId: !Ref PrivateRouteTable

"""


def limits():
    """LIMITS as words of the command line."""
    return [word for limit, figure in LIMITS.items() for word in ("--limit", f"{limit}={figure}")]


class Cache:
    """The example's cache, in a network namespace, or on the host with a port of its own."""

    def __init__(self, namespace=None, address="127.0.0.1", port=0):
        before = ["ip", "netns", "exec", namespace] if namespace else []
        command = [*before, sys.executable, str(STOREFRONT / "cache.py"), address, str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.listening = self.process.stdout.readline().strip()
        assert self.listening.startswith("ready "), self.listening

    def port(self):
        """Where it listens."""
        return int(self.listening.rsplit(":", 1)[1])

    def ask(self, *words):
        """One command's answer, as a client on the host gets it."""
        with socket.create_connection(("127.0.0.1", self.port()), 10) as stream:
            stream.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            return stream.recv(65536)

    def clients(self):
        """How many are connected, beside the one who asks."""
        return int(self.ask(b"INFO").split(b"connected_clients:")[1].split()[0]) - 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Launch:
    """Everybody orders at once: one order after the other is sent, each as soon as the one before has its connections."""

    def __init__(self, platform, patience=90):
        self.platform, self.patience = platform, patience
        self.answers = [None] * ENVIRONMENTS

    def used(self):
        """Connections of the gateway and of each interface now."""
        board = self.platform.request("GET", "/_onrush/limits").json()
        rows = {(row["id"], row["resource"]): row for row in board["limits"]}
        interfaces = {key[1]: row["used"] for key, row in rows.items() if key[0] == "eni.connections"}
        return rows["nat.ports", "NatGateway"]["used"], interfaces, rows

    def run(self):
        """The answers in the orders' sequence, and the board at the end of the crowd, while all are held."""
        threads = []
        before = 0
        for number in range(ENVIRONMENTS):
            thread = threading.Thread(target=self.order, args=(number,))
            thread.start()
            threads.append(thread)
            before = self.settle(number + 1, before)
        board = self.used()
        for thread in threads:
            thread.join(self.patience)
        return self.answers, board

    def order(self, number):
        path = f"/order/person-{number}"
        self.answers[number] = self.platform.door("StorefrontApi", path, method="POST", timeout=self.patience)

    def settle(self, started, before):
        """Waits until that many environments have opened what they can: the count moves by a whole pool, or is refused."""
        deadline = time.monotonic() + self.patience
        while True:
            used, _, rows = self.used()
            refused = sum(row["refused"] for (limit, _), row in rows.items() if limit in ("nat.ports", "eni.connections"))
            if used + min(refused, started * CONNECTIONS - used) >= started * CONNECTIONS:
                return used
            assert time.monotonic() < deadline, (started, used, refused)
            time.sleep(0.01)
