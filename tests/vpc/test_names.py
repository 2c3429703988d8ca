"""Names, attached servers and AWS's endpoints, as functions in a VPC and outside of it see them."""

import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from support import network, puppet, templates
from support.network import ASK_OVER_TCP, CONNECT, ref
from support.paths import BINARY
from support.world import refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

ENDPOINT = {
    "EndpointGroup": {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "endpoints",
            "VpcId": ref("Vpc"),
            "SecurityGroupIngress": [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.0.0.0/16"}],
        },
    },
    "SsmEndpoint": {
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {
            "VpcEndpointType": "Interface",
            "ServiceName": "com.amazonaws.us-east-1.ssm",
            "VpcId": ref("Vpc"),
            "SubnetIds": [ref("Private0")],
            "SecurityGroupIds": [ref("EndpointGroup")],
            "PrivateDnsEnabled": True,
        },
    },
    "Host": {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "/shop/host", "Type": "String", "Value": "db.test"}},
}

# A request to one of AWS's endpoints by its usual name; trust comes from SSL_CERT_FILE, as every client's does.
ASK = """
import http.client, socket, ssl
host = event["host"]
connection = http.client.HTTPSConnection(host, timeout=5, context=ssl.create_default_context())
headers = {"X-Amz-Target": event.get("target", ""), "X-Amz-Security-Token": os.environ["AWS_SESSION_TOKEN"]}
try:
    connection.request("POST", "/", event["body"], headers)
    response = connection.getresponse()
    answer = [socket.gethostbyname(host), response.status, response.read().decode()]
except OSError as error:
    answer = type(error).__name__
"""
PARAMETER = {
    "host": "ssm.us-east-1.amazonaws.com",
    "target": "AmazonSSM.GetParameter",
    "body": json.dumps({"Name": "/shop/host"}),
}


class Echo:
    """A server on the host."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def serve(connection):
        while piece := connection.recv(65536):
            connection.sendall(piece)
        connection.close()

    def close(self):
        # The blocked accept holds the socket; only a shutdown ends its listening.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def echo():
    echo = Echo()
    yield echo
    echo.listener.close()


def begin(start, home, *arguments, more=None, egress=None, variables=None):
    config = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    settings = {"Timeout": 30, "MemorySize": 256, "Environment": {"Variables": variables or {}}}
    functions = {"Red": ("puppet", settings | {"VpcConfig": config}), "Free": ("puppet", settings)}
    template = templates.write(home, functions, network.resources(egress=egress) | (more or {}))
    return start("--world", "none", *arguments, template=template)


def test_a_function_reads_a_parameter_through_an_interface_endpoint(start, tmp_path):
    platform = begin(start, tmp_path, more=ENDPOINT)
    address, status, text = puppet.inside(platform, ASK, "Red", **PARAMETER)
    assert address.startswith("10.0.0.") and status == 200
    assert json.loads(text)["Parameter"]["Value"] == "db.test"
    # Outside every VPC the same name leads to the service's own address.
    address, status, text = puppet.inside(platform, ASK, "Free", **PARAMETER)
    assert address.startswith("198.19.") and status == 200 and "db.test" in text
    identity = {"host": "sts.us-east-1.amazonaws.com", "body": "Action=GetCallerIdentity&Version=2011-06-15"}
    _, status, text = puppet.inside(platform, ASK, "Red", **identity)
    assert status == 200 and "/Red</Arn>" in text


NODE = """
const https = require("https");
exports.handler = event => new Promise((done, failed) => {
  const headers = {"X-Amz-Target": event.target, "X-Amz-Security-Token": process.env.AWS_SESSION_TOKEN};
  const request = https.request({host: event.host, method: "POST", headers}, answer => {
    let text = "";
    answer.on("data", piece => text += piece).on("end", () => done([answer.statusCode, text]));
  });
  request.on("error", failed).end(event.body);
});
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_trusts_awss_endpoints_by_its_own_means(start, tmp_path):
    major = int(subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.lstrip("v").split(".")[0])
    config = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    code = {"Runtime": f"nodejs{min(max(major // 2 * 2, 16), 24)}.x", "Handler": "index.handler", "InlineCode": NODE}
    settings = {"Timeout": 30, "MemorySize": 512, "VpcConfig": config} | code
    web = {"Web": {"Type": "AWS::Serverless::Function", "Properties": settings | {"FunctionName": "Web"}}}
    platform = begin(start, tmp_path, more=ENDPOINT | web)
    status, text = platform.invoke("Web", PARAMETER).json()
    assert (status, json.loads(text)["Parameter"]["Value"]) == (200, "db.test")


def test_an_attached_service_hears_plain_http_with_the_name_that_was_asked_for(start, tmp_path):
    heard = []

    class Bucket(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, self.headers["Host"], self.headers["X-Amz-Security-Token"] is not None, body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"kept")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            platform = begin(start, tmp_path, "--attach", f"s3=127.0.0.1:{server.server_address[1]}")
            names = ["s3.us-east-1.amazonaws.com", "carts.s3.us-east-1.amazonaws.com", "carts.s3.dualstack.us-east-1.amazonaws.com"]
            for function in ("Red", "Free"):
                for name in names:
                    _, status, text = puppet.inside(platform, ASK, function, host=name, body="object")
                    assert (status, text) == (200, "kept"), (function, name)
            assert heard == [("/", name, True, b"object") for name in names] * 2
        finally:
            server.shutdown()


def test_an_endpoint_whose_group_lets_nobody_in_is_silent(start, tmp_path):
    closed = json.loads(json.dumps(ENDPOINT))
    closed["EndpointGroup"]["Properties"]["SecurityGroupIngress"][0]["CidrIp"] = "10.9.0.0/16"
    platform = begin(start, tmp_path, more=closed)
    assert puppet.inside(platform, ASK, "Red", **PARAMETER) == "TimeoutError"
    assert platform.tells("sg.no-rule")


def test_an_attached_server_answers_at_its_name_and_is_refused_when_it_is_gone(start, tmp_path, echo):
    platform = begin(start, tmp_path, "--attach", f"cache.example.com:443=127.0.0.1:{echo.port}")
    for function in ("Red", "Free"):
        assert puppet.inside(platform, CONNECT, function, host="cache.example.com", port=443, count=3) == ["hello"] * 3
    # Half-close and a large stream.
    whole = """
import socket, threading
connection = socket.create_connection((event["host"], event["port"]), 10)
sent = os.urandom(3 << 20)
def send():
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
heard = b""
while piece := connection.recv(1 << 16): heard += piece
answer = heard == sent"""
    assert puppet.inside(platform, whole, "Red", host="cache.example.com", port=443) is True
    assert platform.limit("nat.ports", "Nat")["peak"] >= 1, "the name is of the world, and reached as such"
    echo.close()
    refused = puppet.inside(platform, CONNECT, "Red", host="cache.example.com", port=443)
    assert refused == ["ConnectionRefusedError"]
    elsewhere = puppet.inside(platform, CONNECT, "Red", host="cache.example.com", port=444)
    assert elsewhere == ["ConnectionRefusedError"]


def test_the_end_of_the_relays_process_is_told_of(start, tmp_path, echo):
    platform = begin(start, tmp_path, "--attach", f"cache.example.com:443=127.0.0.1:{echo.port}")
    own = pathlib.Path(f"/proc/{platform.process.pid}")
    children = (own / "task" / own.name / "children").read_text().split()
    # Of those with a network of their own the one with the relay's device.
    apart = [child for child in children if os.readlink(f"/proc/{child}/ns/net") != os.readlink(own / "ns/net")]
    (relay,) = [child for child in apart if "r0:" in pathlib.Path(f"/proc/{child}/net/dev").read_text()]
    assert "the relay's process" not in platform.stderr()
    os.kill(int(relay), signal.SIGKILL)
    assert platform.tells("the relay's process has ended")
    assert platform.stop() == 0


def test_an_attached_server_that_is_not_found_is_told_of(start, tmp_path):
    platform = begin(start, tmp_path, "--attach", "cache.example.com:443=nowhere.invalid:6379")
    for _ in range(2):
        assert puppet.inside(platform, CONNECT, "Red", host="cache.example.com", port=443, timeout=1) == ["TimeoutError"]
    assert platform.tells(":443 hang: nowhere.invalid:6379, which is attached there: ")
    assert platform.stderr().count("nowhere.invalid") == 1, "once, not with each connect"


def test_a_name_of_awss_that_nobody_answers_is_refused_with_a_hint(start, tmp_path):
    platform = begin(start, tmp_path)
    refused = puppet.inside(platform, CONNECT, "Red", host="sqs.us-east-1.amazonaws.com", port=443)
    assert refused == ["ConnectionRefusedError"]
    assert platform.tells("--attach sqs=HOST:PORT") and platform.tells("--aws-passthrough")


def test_names_resolve_while_connects_are_dropped(start, tmp_path, echo):
    nowhere = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}]
    platform = begin(start, tmp_path, "--attach", f"cache.example.com:443=127.0.0.1:{echo.port}", egress=nowhere)
    look_up = "import socket\nanswer = socket.gethostbyname(event['host'])"
    assert puppet.inside(platform, look_up, "Red", host="cache.example.com").startswith("198.19.")
    assert puppet.inside(platform, look_up, "Red", host="ip-10-0-3-4.ec2.internal") == "10.0.3.4"
    silent = puppet.inside(platform, CONNECT, "Red", host="cache.example.com", port=443, timeout=1)
    assert silent == ["TimeoutError"]


def test_over_tcp_too_the_resolver_answers_for_the_vpc_of_who_asks(start, tmp_path):
    """Two VPCs have the same range and a zone of the same name each; one has no resolver's support of its own."""
    found, functions = network.resources(), {"Free": ("puppet", {"Timeout": 30, "MemorySize": 256})}
    for name, address in (("Vpc", "10.0.77.1"), ("Twin", "10.0.77.2"), ("Deaf", "10.0.77.3")):
        kind = lambda word, **settings: {"Type": f"AWS::{word}", "Properties": settings}
        if name != "Vpc":
            found[name] = kind("EC2::VPC", CidrBlock="10.0.0.0/16", EnableDnsSupport=name != "Deaf")
            found[f"{name}Subnet"] = kind("EC2::Subnet", VpcId=ref(name), CidrBlock="10.0.0.0/24")
        zone, record = f"{name}Zone", {"Name": "db.shop.test", "Type": "A", "TTL": "60", "ResourceRecords": [address]}
        found[zone] = kind("Route53::HostedZone", Name="shop.test", VPCs=[{"VPCId": ref(name), "VPCRegion": "us-east-1"}])
        found[f"{name}Record"] = kind("Route53::RecordSet", HostedZoneId=ref(zone), **record)
        found[f"{name}Own"] = kind("EC2::SecurityGroup", GroupDescription=name, VpcId=ref(name))
        config = {"SubnetIds": [ref("Private0" if name == "Vpc" else f"{name}Subnet")], "SecurityGroupIds": [ref(f"{name}Own")]}
        functions[f"In{name}"] = ("puppet", {"Timeout": 30, "MemorySize": 256, "VpcConfig": config})
    platform = start("--world", "none", template=templates.write(tmp_path, functions, found))
    ask = lambda name, *servers, host="db.shop.test": puppet.inside(platform, ASK_OVER_TCP, name, servers=servers, host=host)
    both = ("10.0.0.2", "169.254.169.253")
    assert ask("InVpc", *both) == [[0, "10.0.77.1"]] * 2
    assert ask("InTwin", *both) == [[0, "10.0.77.2"]] * 2
    assert ask("InDeaf", *both) == ["closed"] * 2
    assert ask("Free", "169.254.169.253", host="ssm.us-east-1.amazonaws.com")[0][0] == 0
    assert ask("Free", "169.254.169.253", host="ip-10-0-3-4.ec2.internal") == [[3, None]], "of no VPC"
    # Others' resolvers are nobody's.
    assert ask("InVpc", "10.0.0.3") == ["TimeoutError"]


def test_nothing_is_left_of_the_relay_after_a_kill(start, tmp_path, echo):
    platform = begin(start, tmp_path, "--attach", f"cache.example.com:443=127.0.0.1:{echo.port}")
    assert puppet.inside(platform, CONNECT, "Red", host="cache.example.com", port=443, keep=True) == ["hello"]
    assert platform.kill().wait_gone(10) == []


AURORA = {
    "DbGroup": {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "databases",
            "VpcId": ref("Vpc"),
            "SecurityGroupIngress": [{"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "CidrIp": "10.0.0.0/16"}],
        },
    },
    "DbSubnets": {
        "Type": "AWS::RDS::DBSubnetGroup",
        "Properties": {"DBSubnetGroupDescription": "x", "SubnetIds": [ref("Private0"), ref("Public")]},
    },
    "Cluster": {
        "Type": "AWS::RDS::DBCluster",
        "Properties": {
            "Engine": "aurora-postgresql",
            "DBSubnetGroupName": ref("DbSubnets"),
            "VpcSecurityGroupIds": [ref("DbGroup")],
        },
    },
} | {
    name: {
        "Type": "AWS::RDS::DBInstance",
        "Properties": {"DBClusterIdentifier": ref("Cluster"), "DBInstanceClass": "db.r6g.large", "Engine": "aurora-postgresql"},
    }
    for name in ("Writer", "Reader1", "Reader2")
}
TWICE_EACH = """
import socket
answer = []
for _ in range(4):
    with socket.create_connection((event["host"], 5432), 5) as connection:
        connection.sendall(b"who?")
        answer.append([connection.getpeername()[0], connection.recv(16).decode()])
"""


def test_connections_to_a_reader_endpoint_go_to_each_reader_in_turn(start, tmp_path):
    servers = {"Writer": Echo(), "Reader1": Echo(), "Reader2": Echo()}
    try:
        attached = [word for name, server in servers.items() for word in ("--attach", f"{name}=127.0.0.1:{server.port}")]
        platform = begin(start, tmp_path, *attached, more=AURORA)
        explained = json.loads(
            subprocess.run(
                [BINARY, "explain", "Reader1", "--template", tmp_path / "app.json", "--json"],
                capture_output=True, text=True, timeout=60, check=True,
            ).stdout
        )
        (name,) = set(re.findall(r"[a-z0-9-]+\.cluster-ro-[a-z0-9.-]+\.com", json.dumps(explained)))
        heard = puppet.inside(platform, TWICE_EACH, "Red", host=name)
        assert [word for _, word in heard] == ["who?"] * 4
        first, second = heard[0][0], heard[1][0]
        assert first != second and [address for address, _ in heard] == [first, second] * 2, heard
    finally:
        for server in servers.values():
            server.close()


def cache(**rule):
    """A replication group whose security group has that rule."""
    kind = lambda word, **properties: {"Type": f"AWS::{word}", "Properties": properties}
    rule = {"IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379} | rule
    own = {"CacheSubnetGroupName": ref("CacheSubnets"), "SecurityGroupIds": [ref("CacheGroup")]}
    return {
        "CacheGroup": kind("EC2::SecurityGroup", GroupDescription="x", VpcId=ref("Vpc"), SecurityGroupIngress=[rule]),
        "CacheSubnets": kind("ElastiCache::SubnetGroup", Description="x", SubnetIds=[ref("Public"), ref("Private0")]),
        "Cache": kind("ElastiCache::ReplicationGroup", ReplicationGroupDescription="x", **own),
    }


CACHE_ENDPOINT = {name: {"Fn::GetAtt": ["Cache", f"PrimaryEndPoint.{name.title()}"]} for name in ("ADDRESS", "PORT")}
AT_THE_CACHE = "event |= {'host': os.environ['ADDRESS'], 'port': int(os.environ['PORT'])}\n" + CONNECT


def test_a_cache_of_the_template_answers_at_its_endpoint_within_its_groups_rules(start, tmp_path, echo):
    attached = ("--attach", f"Cache=127.0.0.1:{echo.port}")
    group = cache(SourceSecurityGroupId=ref("Group"))
    platform = begin(start, tmp_path, *attached, more=group, variables=CACHE_ENDPOINT)
    assert puppet.inside(platform, AT_THE_CACHE, "Red") == ["hello"]
    address = puppet.inside(platform, "import socket; answer = socket.gethostbyname(os.environ['ADDRESS'])", "Red")
    assert address.startswith("10.0.100."), "the first of its subnets"
    # Outside the VPC its name leads to the same address, and nobody is let in.
    assert puppet.inside(platform, AT_THE_CACHE, "Free", timeout=0.5) == ["TimeoutError"]
    platform.stop()
    platform = begin(start, tmp_path, *attached, more=cache(CidrIp="10.9.0.0/16"), variables=CACHE_ENDPOINT)
    assert puppet.inside(platform, AT_THE_CACHE, "Red", timeout=0.5) == ["TimeoutError"]
    assert platform.tells("limit=sg.no-rule resource=Cache")


def test_two_servers_for_one_place_are_refused_at_the_start(start, tmp_path):
    attached = ("--attach", "Reader1=127.0.0.1:1", "--attach", "10.0.0.5:5432=127.0.0.1:2")
    with pytest.raises(Exception, match="both lead to 10.0.0.5:5432"):
        begin(start, tmp_path, *attached, more=AURORA)


def test_a_wrong_option_is_told_at_once(start, tmp_path):
    with pytest.raises(Exception, match="did you mean `dynamodb`"):
        begin(start, tmp_path, "--attach", "dynamobd=localhost:8000")
