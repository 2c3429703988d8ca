"""What can be seen of a running network: the board, the way to a destination, metrics, flow logs, packets."""

import contextlib
import json
import re
import shutil
import struct
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from support import network, puppet, templates
from support.network import CONNECT, ref
from support.paths import BINARY
from support.world import OTHER, PORT, SERVER, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

INTERFACE = "eni-Private0-Group"


def connect(platform, name="Red", host=SERVER, port=PORT, **more):
    return puppet.inside(platform, CONNECT, name, host=host, port=port, **more)


def onrush(*words, code=0):
    ran = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=60)
    assert ran.returncode == code, ran
    return ran.stdout


def columns(text, *start):
    """The words of the one line of a table that begins so."""
    lines = [line.split() for line in text.splitlines() if line.split()[: len(start)] == list(start)]
    assert len(lines) == 1, (start, text)
    return lines[0]


def test_the_board_has_each_gateway_towards_each_destination_and_each_interface_with_its_sharers(up):
    platform = up("--limit", "nat.ports=5", functions=("Red", "Blue"))
    assert connect(platform, "Red", count=3, keep=True) == ["hello"] * 3
    assert connect(platform, "Blue", count=2, keep=True) == ["hello"] * 2
    assert connect(platform, "Blue", timeout=0.5) == ["TimeoutError"]
    assert connect(platform, "Blue", host=OTHER, count=2, keep=True) == ["hello"] * 2
    text = onrush("limits", "--endpoint", platform.url)
    max, used, peak, dropped = map(int, columns(text, "Nat", f"{SERVER}:{PORT}")[2:])
    assert (max, used, peak) == (5, 5, 5) and dropped >= 1
    assert columns(text, "Nat", f"{OTHER}:{PORT}")[2:] == ["5", "2", "2", "0"]
    assert columns(text, INTERFACE)[1:] == ["7", "Blue", "(1),", "Red", "(1)"]
    board = json.loads(onrush("limits", "--json", "--endpoint", platform.url))
    assert {"schema", "limits"} <= board.keys()
    # The rows of one gateway add up to its connections.
    towards = board["gateways"][0]["destinations"]
    assert sum(row["used"] for row in towards) == board["gateways"][0]["metrics"]["ActiveConnectionCount"] == 7


def test_the_watched_board_goes_on_until_it_is_ended(up):
    platform = up()
    command = [BINARY, "limits", "--watch", "--json", "--endpoint", platform.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        try:
            before = json.loads(watch.stdout.readline())
            assert connect(platform, keep=True) == ["hello"]
            used = lambda board: sum(row["connections"] for row in board["interfaces"])
            assert used(before) == 0
            while used(json.loads(watch.stdout.readline())) != 1:
                pass
        finally:
            watch.kill()


def test_explain_tells_what_is_in_use_of_each_limit_on_the_way(up, tmp_path):
    platform = up("--limit", "nat.ports=5")
    assert connect(platform, count=5, keep=True) == ["hello"] * 5
    assert connect(platform, timeout=0.5) == ["TimeoutError"]
    way = ("explain", "Red", f"{SERVER}:{PORT}", "--template", tmp_path / "app.json")
    text = onrush(*way, "--endpoint", platform.url, code=1)
    assert "now 5 of 65,000 in use" in text and re.search(r"now 5 of 5 in use, at most 5, \d+ refused", text), text
    # The platform's own figures decide, and before them those of the question.
    most = "at most {} connections to it at once (nat.ports)"
    full = f"It does not reach {SERVER}:{PORT} now: all 5 connections of Nat to it are in use (nat.ports)."
    assert "x 5 connections to each destination = 5 (nat.ports)" in text and full in text, text
    other = onrush("explain", "Red", f"{SERVER}:{PORT + 1}", *way[3:], "--endpoint", platform.url)
    assert most.format(5) in other, other
    asked = onrush(*way, "--endpoint", platform.url, "--limit", "nat.ports=7")
    assert most.format(7) in asked and "now 5 of 5 in use" in asked, asked
    told = json.loads(onrush(*way, "--endpoint", platform.url, "--json", code=1))["ways"][0]
    assert (told["limit"], told["resource"], told["arrives"]) == ("nat.ports", "Nat", False), told
    steps = told["steps"]
    used = {step["what"]: step["now"]["used"] for step in steps if step["now"]}
    assert used == {"interface": 5, "NAT gateway": 5}
    # A resource alone has what is in use of its own limits.
    alone = lambda id: onrush("explain", id, *way[3:], "--endpoint", platform.url)
    told = re.search(rf"nat.ports to {SERVER}:{PORT}: now 5 of 5 in use, at most 5, \d+ refused", alone("Nat"))
    assert told, alone("Nat")
    for id, limit in ((INTERFACE, "eni.connections"), ("Red", f"eni.connections of {INTERFACE}")):
        assert f"{limit}: now 5 of 65,000 in use, at most 5\n" in alone(id), alone(id)
    # Who names a platform wants to hear of it; the template alone is enough otherwise.
    platform.stop()
    onrush(*way, "--endpoint", platform.url, code=1)


def test_a_destination_has_the_name_that_the_function_used(start, tmp_path):
    template = network.template(tmp_path)
    attach = ("--attach", "cache.example.com:443=127.0.0.1:9")
    platform = start("--world", "none", *attach, "--limit", "nat.ports=1", template=template)
    # The port discards: refused there, so the SYN held no port for long.
    connect(platform, host="cache.example.com", port=443, timeout=1)
    rows = platform.request("GET", "/_onrush/limits").json()["gateways"][0]["destinations"]
    assert [row["name"] for row in rows] == ["cache.example.com:443"], rows


METRICS = """ActiveConnectionCount ConnectionAttemptCount ConnectionEstablishedCount ErrorPortAllocation IdleTimeoutCount
PacketsDropCount BytesInFromSource BytesOutToDestination BytesInFromDestination BytesOutToSource PacketsInFromSource
PacketsOutToDestination PacketsInFromDestination PacketsOutToSource PeakBytesPerSecond PeakPacketsPerSecond""".split()


def test_metrics_have_cloudwatchs_names_and_count_as_it_does(up):
    platform = up("--limit", "nat.ports=2")
    assert connect(platform, count=2, keep=True) == ["hello"] * 2
    assert connect(platform, timeout=0.5) == ["TimeoutError"]
    text = platform.request("GET", "/_onrush/metrics").body.decode()
    found = {name: int(value) for name, value in re.findall(r'^onrush_natgateway_(\w+){NatGatewayId="Nat"} (\d+)$', text, re.M)}
    assert list(found) == METRICS
    assert (found["ActiveConnectionCount"], found["ConnectionEstablishedCount"]) == (2, 2)
    assert found["ErrorPortAllocation"] >= 1
    assert found["ConnectionAttemptCount"] == 2 + found["ErrorPortAllocation"]
    # Nothing is lost inside: what comes in goes out, save for what was dropped.
    assert found["PacketsInFromSource"] == found["PacketsOutToDestination"] + found["PacketsDropCount"]
    assert found["PacketsInFromDestination"] == found["PacketsOutToSource"] > 0
    assert found["BytesInFromDestination"] == found["BytesOutToSource"] > 0


FIELDS = "version account eni source destination source_port destination_port protocol packets bytes start end action status"


def test_flow_logs_are_lines_of_awss_format(start, world, tmp_path):
    log = tmp_path / "flows.log"
    rule = lambda port: {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "CidrIp": "0.0.0.0/0"}
    # One that lets nobody in: its rules are not those of the function's interface.
    shut = {
        "ShutGroup": {"Type": "AWS::EC2::SecurityGroup", "Properties": {"GroupDescription": "shut", "VpcId": ref("Vpc")}},
        "Shut": {
            "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
            "Properties": {"Scheme": "internal", "Subnets": [ref("Private0")], "SecurityGroups": [ref("ShutGroup")]},
        },
    }
    config = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    functions = {"Red": ("puppet", {"Timeout": 30, "MemorySize": 256, "VpcConfig": config})}
    template = templates.write(tmp_path, functions, network.resources(egress=[rule(7), rule(53)]) | shut)
    platform = start("--world", f"netns:{world.name}", "--flow-logs", log, template=template)
    begun = int(time.time())
    assert connect(platform, count=2) == ["hello"] * 2
    # The kernel sends its SYN a second time after a second.
    assert connect(platform, port=8, timeout=1.3) == ["TimeoutError"]
    assert connect(platform, host="10.0.0.4", timeout=0.3) == ["TimeoutError"]
    asked = puppet.inside(platform, network.ASK_OVER_TCP, servers=["169.254.169.253"], host="ssm.us-east-1.amazonaws.com")
    assert asked[0][0] == 0
    platform.stop()
    rows = [dict(zip(FIELDS.split(), line.split(), strict=True)) for line in log.read_text().splitlines()]
    assert {(row["version"], row["account"], row["status"]) for row in rows} == {("2", "000000000000", "OK")}
    everybodys, rows = rows, [row for row in rows if row["eni"] == INTERFACE]
    accepted = [row for row in rows if row["action"] == "ACCEPT"]
    out = [row for row in accepted if row["destination"] == SERVER]
    back = [row for row in accepted if row["source"] == SERVER]
    assert len(out) == len(back) == 2, rows
    for row in out:
        # The interface's own address, as AWS's log has it; SYN, ACK, data, FIN at least.
        assert row["source"].startswith("10.0.0.") and row["destination_port"] == str(PORT)
        assert row["protocol"] == "6" and int(row["packets"]) >= 4
        assert begun - 1 <= int(row["start"]) <= int(row["end"]) <= time.time() + 1
    # What the own rules bar is rejected, once for all that was sent again; what the other end's do was let out here.
    (rejected,) = [row for row in rows if row["action"] == "REJECT"]
    assert (rejected["destination_port"], rejected["packets"]) == ("8", "2") and rejected["start"] < rejected["end"], rows
    (unheard,) = [row for row in rows if row["destination"] == "10.0.0.4"]
    assert unheard["action"] == "ACCEPT" and unheard["packets"] == "1"
    # Nor does AWS log what its resolver is asked.
    assert "53" not in {row["destination_port"] for row in rows} and len(rows) == 6
    # The NAT gateway's own interface has each packet as it comes to its private address and as it goes on, and so the answers.
    gateways = [row for row in everybodys if row["eni"] == "eni-Public-Nat"]
    (private,) = {row["source"] for row in gateways} - {SERVER, out[0]["source"]}
    assert private.startswith("10.0.100.")
    inner, outer = out[0]["source"], SERVER
    ways = [(inner, private), (private, inner), (private, outer), (outer, private)]
    assert sorted((row["source"], row["destination"]) for row in gateways) == sorted(2 * ways)
    counts = lambda rows, *ends: sorted((row["packets"], row["bytes"]) for row in rows if (row["source"], row["destination"]) == ends)
    assert counts(gateways, *ways[0]) == counts(gateways, *ways[2]) == counts(out, inner, outer)
    assert {row["action"] for row in gateways} == {"ACCEPT"}
    # Whose rules did not let it in has the rejection.
    (shut,) = [row for row in everybodys if row["eni"] == "eni-Private0-Shut"]
    assert (shut["source"], shut["destination"], shut["action"]) == (inner, "10.0.0.4", "REJECT"), shut
    assert len(everybodys) == 6 + 8 + 1


def flow_log(of, kind, traffic, fields, seconds=60):
    properties = {"ResourceId": of, "ResourceType": kind, "TrafficType": traffic, "MaxAggregationInterval": seconds}
    return {
        "Type": "AWS::EC2::FlowLog",
        "Properties": properties | {"LogFormat": " ".join(f"${{{field}}}" for field in fields.split()), "LogGroupName": "x"},
    }


def test_flow_logs_of_a_template_have_their_traffic_and_their_fields_and_change_with_it(start, world, tmp_path):
    fields = "version vpc-id subnet-id dstport tcp-flags flow-direction traffic-path action az-id interface-id"
    logs = {
        "All": flow_log(ref("Vpc"), "VPC", "ALL", fields),
        "Slow": flow_log(ref("Private0"), "Subnet", "ACCEPT", "srcport dstport packets", 600),
        "Rejected": flow_log(ref("Private0"), "Subnet", "REJECT", "dstport action"),
        "Gateway": flow_log("eni-Public-Nat", "NetworkInterface", "ALL", "srcaddr dstaddr pkt-srcaddr pkt-dstaddr traffic-path"),
        "Elsewhere": flow_log(ref("Private1"), "Subnet", "ALL", "dstport"),
    }
    rule = {"IpProtocol": "tcp", "FromPort": 7, "ToPort": 7, "CidrIp": "0.0.0.0/0"}
    config = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    functions = {"Red": ("puppet", {"Timeout": 30, "MemorySize": 256, "VpcConfig": config})}
    written = lambda resources: templates.write(tmp_path, functions, network.resources(egress=[rule], subnets=2) | resources)
    folder = tmp_path / "flows"
    folder.mkdir()
    platform = start("--world", f"netns:{world.name}", "--flow-logs", folder, template=written(logs))
    told = onrush("explain", "Slow", "--template", tmp_path / "app.json")
    assert "Private0: ACCEPT traffic" in told and "600 s: ${srcport} ${dstport} ${packets}" in told, told
    connect(platform)
    connect(platform, port=8, timeout=0.3)
    # One comes with a deployment, in place of one that goes: what that one kept is written, and what was before is not the new one's.
    changed = {name: log for name, log in logs.items() if name != "Slow"} | {"Later": flow_log(ref("Vpc"), "VPC", "ALL", "dstport")}
    answer = platform.request("POST", "/_onrush/deploy", json.dumps({"template": str(written(changed))}))
    assert {"Later created", "Slow removed"} <= set(answer.json()["lines"]), answer
    connect(platform, port=9, timeout=0.3)
    platform.stop()
    lines = {path.stem: path.read_text().splitlines() for path in folder.iterdir()}
    assert lines.keys() == {"All", "Slow", "Rejected", "Gateway", "Elsewhere", "Later"}
    assert lines["Rejected"] == ["8 REJECT", "9 REJECT"] and lines["Elsewhere"] == [] and lines["Later"] == ["9"]
    rows = [line.split() for line in lines["All"]]
    assert {row[9] for row in rows} == {INTERFACE, "eni-Public-Nat"}
    rows = [row for row in rows if row[9] == INTERFACE]
    assert {(row[0], row[1][:4], row[2][:7], row[8]) for row in rows} == {("5", "vpc-", "subnet-", "use1-az2")}
    # Port, flags of all packets, direction, way, action: SYN and FIN go out, SYN, ACK and perhaps FIN come back, a SYN is rejected.
    ends = [tuple(row[3:8]) for row in rows]
    assert ("7", "3", "egress", "1", "ACCEPT") in ends and ("8", "2", "egress", "-", "REJECT") in ends, rows
    (back,) = [row[4:8] for row in rows if row[5] == "ingress"]
    assert back[0] in ("18", "19") and back[2:] == ["-", "ACCEPT"], rows
    # As the VPC User Guide's example of a NAT gateway has them.
    inner, private = lines["Gateway"][0].split()[:2]
    expected = [
        f"{inner} {private} {inner} {SERVER} -",
        f"{private} {inner} {SERVER} {inner} 1",
        f"{private} {SERVER} {private} {SERVER} 2",
        f"{SERVER} {private} {SERVER} {private} -",
    ]
    assert lines["Gateway"] == expected
    (out, back) = sorted((line.split() for line in lines["Slow"]), key=lambda row: row[1] != "7")
    assert out[1] == back[0] == "7" and int(out[2]) >= 4 and int(back[2]) >= 3, lines["Slow"]


def packets(file):
    """(packet, ...) of a pcap file, its head checked."""
    magic, major, minor, _, _, _, link = struct.unpack_from("<IHHiIII", file)
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 101)
    at, found = 24, []
    while at < len(file):
        _, _, kept, length = struct.unpack_from("<IIII", file, at)
        assert kept <= length
        found.append(file[at + 16 : at + 16 + kept])
        at += 16 + kept
    assert at == len(file)
    return found


def test_a_capture_is_read_by_others(up, tmp_path):
    platform = up()
    file = tmp_path / "red.pcap"
    command = [BINARY, "capture", INTERFACE, "-w", file, "--endpoint", platform.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as capture:
        try:
            assert capture.stderr.readline().startswith(f"looking at {INTERFACE}")
            assert connect(platform) == ["hello"]
            deadline = time.monotonic() + 30
            while b"hello" not in file.read_bytes():
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            capture.send_signal(2)
        assert re.fullmatch(r"\d+ packets, \d+ bytes\n", capture.stderr.read())
        assert capture.wait(10) == 0
    mine = [packet for packet in packets(file.read_bytes()) if packet[9] == 6]
    flags = [packet[packet[0] % 16 * 4 + 13] for packet in mine]
    assert flags[:2] == [0x02, 0x12], "SYN, SYN and ACK"
    assert {packet[12:16] for packet in mine} == {mine[0][12:16], bytes(map(int, SERVER.split(".")))}
    if tcpdump := shutil.which("tcpdump"):
        said = subprocess.run([tcpdump, "-nr", file], capture_output=True, text=True, check=True).stdout
        assert f"> {SERVER}.{PORT}: Flags [S]" in said and f"{SERVER}.{PORT} > " in said
        assert len(said.splitlines()) == len(packets(file.read_bytes()))


def test_who_asks_again_for_a_capture_that_found_no_room_gets_it_when_there_is_some(up):
    platform = up()

    def look(session, wait=0):
        url = f"{platform.url}/_onrush/capture/{INTERFACE}?session={session}&wait={wait}"
        try:
            return urllib.request.urlopen(url, timeout=10).status
        except urllib.error.HTTPError as error:
            assert "host.captures" in error.read().decode()
            assert error.headers["x-onrush-limit"] == "host.captures; resource=host; used=16; max=16"
            return error.code

    assert [look(session) for session in range(16)] == [200] * 16
    assert look(16, wait=1) == 429
    deadline = time.monotonic() + 30
    # The others ask no more, and are gone after five seconds.
    while look(16, wait=1) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_packets_are_seen_at_gateways_and_endpoints_as_these_have_them(start, world, tmp_path):
    endpoint = {
        "Ssm": {
            "Type": "AWS::EC2::VPCEndpoint",
            "Properties": {
                "VpcEndpointType": "Interface",
                "PrivateDnsEnabled": True,
                "ServiceName": "com.amazonaws.us-east-1.ssm",
                "VpcId": ref("Vpc"),
                "SubnetIds": [ref("Private0")],
                "SecurityGroupIds": [ref("EndpointGroup")],
            },
        },
        "EndpointGroup": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": "endpoint",
                "VpcId": ref("Vpc"),
                "SecurityGroupIngress": [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.0.0.0/16"}],
            },
        },
    }
    config = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    functions = {"Red": ("puppet", {"Timeout": 30, "MemorySize": 256, "VpcConfig": config})}
    template = templates.write(tmp_path, functions, network.resources() | endpoint)
    log = tmp_path / "flows.log"
    platform = start("--world", f"netns:{world.name}", "--flow-logs", log, template=template)
    refused = subprocess.run(
        [BINARY, "capture", "eni-none", "-w", "-", "--endpoint", platform.url], capture_output=True, text=True, timeout=30
    )
    assert refused.returncode != 0 and "eni-Private0-Ssm" in refused.stderr and "eni-Public-Nat" in refused.stderr
    captures = {}
    ends = lambda name: {(packet[12:16], packet[16:20]) for packet in packets((tmp_path / name).read_bytes())}
    for name in ("eni-Public-Nat", "eni-Private0-Ssm"):
        command = [BINARY, "capture", name, "-w", tmp_path / name, "--endpoint", platform.url]
        captures[name] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for capture in captures.values():
            assert capture.stderr.readline().startswith("looking at ")
        assert connect(platform) == ["hello"]
        connect(platform, host="ssm.us-east-1.amazonaws.com", port=443)
        deadline = time.monotonic() + 30
        for name in captures:
            # What is half written cannot be read yet.
            found = set()
            while len(found) < 2:
                assert time.monotonic() < deadline
                with contextlib.suppress(AssertionError, struct.error):
                    found = ends(name)
                time.sleep(0.05)
    finally:
        for capture in captures.values():
            capture.send_signal(2)
            capture.communicate(timeout=10)
    platform.stop()
    address = lambda text: bytes(map(int, text.split(".")))
    (nat,) = {source for source, _ in ends("eni-Public-Nat")} - {address(SERVER)}
    assert nat[:2] == bytes((198, 18)) and ends("eni-Public-Nat") == {(nat, address(SERVER)), (address(SERVER), nat)}
    rows = [dict(zip(FIELDS.split(), line.split(), strict=True)) for line in log.read_text().splitlines()]
    rows = [row for row in rows if row["eni"] == "eni-Private0-Ssm"]
    assert [row["action"] for row in rows] == ["ACCEPT", "ACCEPT"] and rows[0]["destination_port"] == "443"
    asked = (address(rows[0]["source"]), address(rows[0]["destination"]))
    assert ends("eni-Private0-Ssm") == {asked, asked[::-1]}
