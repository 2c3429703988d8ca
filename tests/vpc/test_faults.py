"""Hostile functions, exhausted hosts, peers that vanish: what breaks is what would break in production, and nothing else."""

import signal
import threading
import time

import pytest

from support import hostile, network, puppet, templates
from support.network import CONNECT, ref
from support.world import OTHER, PORT, SERVER, ip, refused

pytestmark = [pytest.mark.skipif(bool(refused()), reason=str(refused())), pytest.mark.patience(240)]

# A word there and back on a connection that was kept, or why not.
AGAIN = """
connection = kept["all"][0]
connection.settimeout(event.get("timeout", 10))
try:
    connection.sendall(b"again")
    answer = connection.recv(16).decode()
except OSError as error:
    answer = type(error).__name__
"""

# Of two the first has keep-alive, every second; both are silent for so long, and speak.
KEEP_ALIVE = """
import socket, time
alive, silent = (socket.create_connection((event["host"], event["port"]), 10) for _ in range(2))
alive.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
    alive.setsockopt(socket.IPPROTO_TCP, option, 1)
time.sleep(event["seconds"])
answer = []
for connection in (alive, silent):
    connection.settimeout(10)
    try:
        connection.sendall(b"again")
        answer.append(connection.recv(16).decode())
    except OSError as error:
        answer.append(type(error).__name__)
"""


def connect(platform, name="Red", host=SERVER, port=PORT, **more):
    return puppet.inside(platform, CONNECT, name, host=host, port=port, **more)


def again(platform, name="Red", **more):
    return puppet.inside(platform, AGAIN, name, **more)


def board(platform):
    return platform.request("GET", "/_onrush/limits").json()


def arrived(world):
    """Packets that the world was given."""
    lines = ip("-n", world.name, "-s", "link", "show", "onrush0").splitlines()
    at = next(index for index, line in enumerate(lines) if line.split()[:1] == ["RX:"])
    return int(lines[at + 1].split()[1])


def test_spoofed_land_smurf_and_mutilated_packets_leave_no_trace(device, up, world):
    """T4: only the address that an environment was given may send, and only what can be read."""
    platform = up(functions=("Red", "Blue"))
    assert connect(platform, "Red", keep=True) == ["hello"] and connect(platform, "Blue") == ["hello"]
    pid, own = hostile.environment(platform, "Red")
    _, neighbour = hostile.environment(platform, "Blue")
    gateway = "198.18.0.0"
    spoofed = [neighbour, SERVER, gateway, "10.0.0.4", "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "8.8.8.8"]
    packets = [hostile.udp(source, SERVER, PORT) for source in spoofed]
    packets += [hostile.tcp(source, SERVER, PORT) for source in spoofed]
    # Land, smurf, and places where nothing of the kind goes.
    packets += [hostile.tcp(own, own, PORT, from_port=PORT), hostile.udp(own, own, PORT, from_port=PORT)]
    echo = b"\x08\0" + hostile.checksum(b"\x08\0\0\0\0\1\0\1").to_bytes(2, "big") + b"\0\1\0\1"
    for everybody in ("255.255.255.255", "10.0.0.255", "224.0.0.1", gateway):
        packets.append(hostile.ipv4(own, everybody, echo, 1))
    packets += [hostile.udp(own, to, PORT) for to in ("127.0.0.1", "169.254.169.254", "0.0.0.0", neighbour, "10.0.0.255")]
    # What cannot be: flags that begin and end at once, lengths and sums that lie, a TTL of none, other protocols.
    packets += [hostile.tcp(own, SERVER, PORT, flags) for flags in (0x03, 0x06)]
    plain = hostile.udp(own, SERVER, PORT)
    packets += [plain[:10], plain[:27], hostile.ipv4(own, SERVER, b"x" * 8, length=1000), hostile.ipv4(own, SERVER, b"x" * 8, length=10)]
    packets += [hostile.ipv4(own, SERVER, b"x" * 8, checksum_right=False), hostile.ipv4(own, SERVER, b"x" * 20, 47)]
    # Pieces of TCP, pieces that overlap, and one that crosses the longest packet's end.
    packets += [hostile.ipv4(own, SERVER, b"x" * 64, 6, 0x2000), hostile.ipv4(own, SERVER, b"x" * 64, 17, 0x2008)]
    packets.append(hostile.ipv4(own, SERVER, b"x" * 64, 17, 0x1FFE))
    before, dropped = arrived(world), sum(board(platform)["dropped"].values())
    # Flags that begin nothing, of no connection: the gateway refuses them as those of one that it forgot.
    strays = [hostile.tcp(own, SERVER, PORT, flags) for flags in (0x00, 0x29)]
    assert hostile.send(pid, strays * 10) >= len(strays) * 9
    assert hostile.send(pid, packets * 10) >= len(packets) * 9
    # One that may, to know that all others were looked at.
    assert again(platform) == "again"
    deadline = time.monotonic() + 20
    while (now := sum(board(platform)["dropped"].values())) < dropped + len(packets) * 9 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert now >= dropped + len(packets) * 9, board(platform)["dropped"]
    assert arrived(world) - before <= 4, "only the one word and its acknowledgement"
    assert connect(platform, "Blue") == ["hello"]


def test_a_flood_hurts_only_those_who_share_its_interface_and_memory_stays_bounded(start, world, tmp_path):
    """F17, F18: 200,000 flows of one function fill its interface (65,000), as in production."""
    inside = lambda group: {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref(group)]}
    settings = {"Timeout": 60, "MemorySize": 256}
    functions = {name: ("puppet", settings | {"VpcConfig": inside(group)}) for name, group in
                 (("Red", "Group"), ("Pink", "Group"), ("Blue", "OtherGroup"))}
    found = network.resources()
    other = {"OtherGroup": {"Type": "AWS::EC2::SecurityGroup", "Properties": {"GroupDescription": "other", "VpcId": ref("Vpc")}}}
    template = templates.write(tmp_path, functions, found | other)
    platform = start("--world", f"netns:{world.name}", template=template)
    for name in functions:
        assert connect(platform, name, keep=True) == ["hello"]
    pid, own = hostile.environment(platform, "Red")
    before = hostile.memory_bytes(platform.process.pid)
    interface = ("eni.connections", "eni-Private0-Group")

    def flood():
        """On a busy machine its own device loses many: the same again."""
        deadline = time.monotonic() + 60
        while not platform.limit(*interface)["refused"] and time.monotonic() < deadline:
            hostile.flood(pid, own, 200_000)

    flooding = threading.Thread(target=flood)
    flooding.start()
    meanwhile = []
    while flooding.is_alive():
        meanwhile.append((again(platform, "Blue"), connect(platform, "Blue")))
    flooding.join()
    assert meanwhile and set(map(str, meanwhile)) == {"('again', ['hello'])"}, "established and new: as if nothing were"
    row = platform.limit(*interface)
    assert row["used"] == row["max"] == 65_000 and row["refused"] > 0
    assert board(platform)["flows"] <= 65_000 + 1_000
    assert hostile.memory_bytes(platform.process.pid) - before < 128 << 20
    # Who shares the interface has no new connection, and keeps the old.
    assert connect(platform, "Pink", timeout=0.5) == ["TimeoutError"]
    assert [again(platform, name) for name in functions] == ["again"] * 3


def test_a_guard_of_the_hosts_stops_a_flood_before_awss_limits_do(up):
    """F18: with `host.new-flows` the neighbours keep their interface."""
    platform = up("--limit", "host.new-flows=200", "--limit", "eni.connections=5000", functions=("Red", "Pink"))
    assert connect(platform, "Red", keep=True) == ["hello"]
    pid, own = hostile.environment(platform, "Red")
    hostile.flood(pid, own, 20_000)
    assert platform.limit("host.new-flows", "environment")["refused"] > 0
    row = platform.limit("eni.connections", "eni-Private0-Group")
    assert row["used"] < row["max"] and row["refused"] == 0
    assert connect(platform, "Pink") == ["hello"] and again(platform) == "again"
    assert platform.tells("limit=host.new-flows")


def test_a_flood_that_the_guard_stops_takes_nothing_from_what_is_open(up):
    """F18: datagrams of one who shares the interface, one at a time: each of them is answered. The flooding function keeps its own."""
    platform = up("--limit", "host.new-flows=200", functions=("Red", "Pink"))
    assert connect(platform, "Red", keep=True) == ["hello"]
    open_one = """
import socket
kept["socket"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
kept["socket"].settimeout(10)
kept["socket"].connect((event["host"], event["port"]))"""
    puppet.inside(platform, open_one, "Pink", host=SERVER, port=PORT)
    ping = """
answer = 0
for number in range(event["count"]):
    word = str(number).encode()
    kept["socket"].send(word)
    answer += kept["socket"].recv(64) == word"""
    answered = lambda: puppet.inside(platform, ping, "Pink", count=500)
    assert answered() == 500
    pid, own = hostile.environment(platform, "Red")
    flooding = threading.Thread(target=hostile.flood, args=(pid, own, 50_000))
    flooding.start()
    rounds = []
    while flooding.is_alive():
        rounds.append(answered())
    flooding.join()
    assert platform.limit("host.new-flows", "environment")["refused"] > 1_000
    assert rounds and set(rounds) == {500}
    metrics = board(platform)["gateways"][0]["metrics"]
    assert metrics["PacketsInFromSource"] == metrics["PacketsOutToDestination"] > 500 * len(rounds)
    assert again(platform) == "again"


def test_a_port_scan_finds_nobody(up, tmp_path):
    """T3: other environments, their runtime APIs, the resolver's other ports, the gateway and the router."""
    platform = up(functions=("Red", "Blue"))
    listen = """
import socket
kept["listener"] = socket.create_server(("0.0.0.0", 8080))
kept["listener"].setblocking(False)
answer = [line.split()[1] for line in open("/proc/net/tcp").read().splitlines()[1:] if line.split()[3] == "0A"]"""
    assert len(puppet.inside(platform, listen, "Blue")) >= 1
    assert connect(platform, "Red") == ["hello"]
    _, neighbour = hostile.environment(platform, "Blue")
    _, own = hostile.environment(platform, "Red")
    scan = """
import selectors, socket
found, waiting = [], selectors.DefaultSelector()
for host in event["hosts"]:
    for port in event["ports"]:
        s = socket.socket(); s.setblocking(False)
        if s.connect_ex((host, port)) == 0: found.append([host, port])
        else: waiting.register(s, selectors.EVENT_WRITE, (host, port))
end = time.monotonic() + 3
while waiting.get_map() and time.monotonic() < end:
    for key, _ in waiting.select(0.5):
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: found.append(list(key.data))
        waiting.unregister(key.fileobj)
answer = found"""
    router = own.rsplit(".", 1)[0] + "." + str(int(own.rsplit(".", 1)[1]) ^ 3)
    hosts = [neighbour, router, "169.254.169.254", "10.0.0.1", "10.0.0.4", "198.18.0.0"]
    ports = [1, 22, 53, 80, 443, 5432, 8080, 9001, platform.port]
    assert puppet.inside(platform, scan, "Red", hosts=hosts, ports=ports) == []
    accepted = """
try: kept["listener"].accept(); answer = "somebody came"
except BlockingIOError: answer = "nobody"
"""
    assert puppet.inside(platform, accepted, "Blue") == "nobody"


def test_who_is_idle_for_too_long_is_forgotten_and_gets_a_reset(up):
    """F19: NAT gateways forget after 350 s; here after two."""
    platform = up("--limit", "nat.idle-timeout=2")
    assert connect(platform, keep=True) == ["hello"] and again(platform) == "again"
    deadline = time.monotonic() + 30
    while platform.limit("nat.ports", "Nat")["used"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert again(platform) == "ConnectionResetError"
    metrics = board(platform)["gateways"][0]["metrics"]
    assert (metrics["IdleTimeoutCount"], metrics["ActiveConnectionCount"]) == (1, 0)
    assert connect(platform) == ["hello"]


def test_keep_alive_keeps_a_connection_that_has_nothing_to_say(up):
    """F19: AWS's own cure for the 350 s (VPC User Guide, "Troubleshoot NAT gateways"); here for four."""
    platform = up("--limit", "nat.idle-timeout=4")
    told = puppet.inside(platform, KEEP_ALIVE, "Red", host=SERVER, port=PORT, seconds=10)
    assert told == ["again", "ConnectionResetError"]
    assert board(platform)["gateways"][0]["metrics"]["IdleTimeoutCount"] == 1


def test_a_peer_that_vanishes_frees_its_ports_in_time(up, world):
    """F19: no FIN, no RST: the connection is half open until it was silent for long enough."""
    platform = up("--limit", "nat.idle-timeout=2", "--limit", "nat.ports=3")
    assert connect(platform, count=3, keep=True) == ["hello"] * 3
    world.server.kill()
    world.server.wait()
    world.server.stdout.close()
    # The kernel of the world still speaks: take its addresses, too.
    for address in (SERVER, OTHER):
        ip("-n", world.name, "addr", "del", f"{address}/32", "dev", "lo")
    deadline = time.monotonic() + 30
    while platform.limit("nat.ports", "Nat")["used"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_pause_of_the_platform_loses_no_connection(up):
    """F16: stopped for some seconds, as a laptop's lid does."""
    platform = up()
    assert connect(platform, keep=True) == ["hello"]
    platform.process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    platform.process.send_signal(signal.SIGCONT)
    assert again(platform) == "again" and connect(platform) == ["hello"]
    assert platform.limit("nat.ports", "Nat")["refused"] == 0


def test_a_restart_under_load_forgets_all_connections_and_begins_anew(up, world, start, tmp_path):
    """What was open is gone, as the environments are; a peer that was told nothing does not stand in the way of new ones."""
    platform = up()
    with network.Streams(platform, "Red", SERVER, PORT):
        belongings = platform.kill()
        assert belongings.wait_gone(10) == []
    assert world.wait_without_device()
    again_up = start("--world", f"netns:{world.name}", template=tmp_path / "app.json", home=platform.home)
    # The peer sends what it has left to nobody: no environment hears any of it.
    assert connect(again_up, count=8, keep=True, timeout=20) == ["hello"] * 8
    assert again(again_up) == "again"
    row = again_up.limit("nat.ports", "Nat")
    assert (row["used"], row["refused"]) == (8, 0)
    # With load on it, a stop by Ctrl-C leaves nothing either: the fixture looks.
    with network.Streams(again_up, "Red", SERVER, PORT):
        again_up.stop()
    assert world.wait_without_device()


@pytest.mark.parametrize("gateway", ["none", "blackhole"])
def test_a_route_to_nothing_is_silence_and_says_so(start, world, tmp_path, gateway):
    """A table without a default route, and one whose default is a peering that is another network's."""
    found = network.resources(gateway="none")
    if gateway == "blackhole":
        other = {"Second": ("VPC", {"CidrBlock": "10.1.0.0/16"}), "Third": ("VPC", {"CidrBlock": "10.2.0.0/16"})}
        other["Peers"] = ("VPCPeeringConnection", {"VpcId": ref("Second"), "PeerVpcId": ref("Third")})
        target = {"VpcPeeringConnectionId": ref("Peers")}
        other["Default"] = ("Route", {"RouteTableId": ref("Table"), "DestinationCidrBlock": "0.0.0.0/0"} | target)
        found |= {name: {"Type": f"AWS::EC2::{kind}", "Properties": settings} for name, (kind, settings) in other.items()}
    inside = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    template = templates.write(tmp_path, {"Red": ("puppet", {"Timeout": 3, "MemorySize": 256, "VpcConfig": inside})}, found)
    platform = start("--world", f"netns:{world.name}", template=template)
    hangs = platform.invoke("Red", {"python": CONNECT, "host": SERVER, "port": PORT, "timeout": 60})
    assert hangs.headers["x-onrush-limit"].startswith("route.none; "), hangs
    assert "Task timed out" in hangs.json()["errorMessage"] and board(platform)["flows"] == 0


def test_a_narrow_hop_behind_the_world_is_told_and_obeyed(up, world):
    """F20: 'fragmentation needed' comes back through both translations, and the sender obeys."""
    far, server = world.name + "f", "192.0.2.10"
    ip("netns", "add", far)
    try:
        ip("-n", far, "link", "set", "lo", "up")
        ip("-n", world.name, "link", "add", "v0", "mtu", "576", "type", "veth", "peer", "name", "v1", "mtu", "576", "netns", far)
        for name, device, address in ((world.name, "v0", "192.0.2.1"), (far, "v1", server)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        # The far end says that it takes whole segments, as behind a hop that nobody told it of, and sends small ones.
        ip("-n", far, "route", "add", "default", "via", "192.0.2.1", "advmss", "1460")
        ip("netns", "exec", world.name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        with world.serve_in(far, server):
            platform = up()
            many = """
import socket, threading
s = socket.create_connection((event["host"], event["port"]), 10); s.settimeout(30)
sent = os.urandom(1 << 19)
threading.Thread(target=s.sendall, args=(sent,)).start()
heard = b""
while len(heard) < len(sent): heard += s.recv(1 << 16)
answer = [heard == sent, s.getsockopt(socket.IPPROTO_IP, 14)]"""
            whole, mtu = puppet.inside(platform, many, host=server, port=PORT)
            assert whole and mtu == 576
    finally:
        ip("netns", "del", far)


def test_two_networks_with_the_same_addresses_do_not_meet(start, world, tmp_path):
    """Overlapping CIDRs: each VPC is its own, however its addresses are called."""
    twice = network.resources()
    rename = lambda value: {k: rename(v) for k, v in value.items()} if isinstance(value, dict) else \
        [rename(v) for v in value] if isinstance(value, list) else f"Second{value}" if value in twice else value
    second = {f"Second{name}": rename(resource) for name, resource in twice.items()}
    inside = lambda prefix: {"SubnetIds": [ref(f"{prefix}Private0")], "SecurityGroupIds": [ref(f"{prefix}Group")]}
    functions = {name: ("puppet", {"Timeout": 30, "MemorySize": 256, "VpcConfig": inside(prefix)}) for name, prefix in (("Red", ""), ("Blue", "Second"))}
    template = templates.write(tmp_path, functions, twice | second)
    platform = start("--world", f"netns:{world.name}", "--limit", "nat.ports=2", template=template)
    assert connect(platform, "Red", count=2, keep=True) == ["hello"] * 2
    assert connect(platform, "Blue", count=2, keep=True) == ["hello"] * 2, "ports of its own"
    assert [platform.limit("nat.ports", name)["used"] for name in ("Nat", "SecondNat")] == [2, 2]
    names = [row["name"] for row in board(platform)["interfaces"]]
    assert names == ["eni-Private0-Group", "eni-SecondPrivate0-SecondGroup"]
    # Nothing of one gets into the other, by any address that the other has.
    listen = """
import socket
kept["listener"] = socket.create_server(("0.0.0.0", 8080))
kept["listener"].setblocking(False)
answer = 1"""
    assert puppet.inside(platform, listen, "Blue") == 1
    _, neighbour = hostile.environment(platform, "Blue")
    for address in (neighbour, "10.0.0.4", "10.0.0.5", "198.18.0.2"):
        assert connect(platform, "Red", host=address, port=8080, timeout=0.3) != ["hello"], address
    nobody = """
try: kept["listener"].accept(); answer = "somebody"
except BlockingIOError: answer = "nobody"
"""
    assert puppet.inside(platform, nobody, "Blue") == "nobody"


def test_sixty_rules_are_looked_at_and_the_sixty_first_destination_is_barred(up):
    rules = [{"IpProtocol": "tcp", "FromPort": 7, "ToPort": 7, "CidrIp": f"203.0.{113 if n == 59 else n}.10/32"} for n in range(60)]
    platform = up(egress=rules)
    assert connect(platform) == ["hello"]
    assert connect(platform, host=OTHER, timeout=0.5) == ["TimeoutError"]
    assert platform.tells("limit=sg.no-rule")


def test_a_full_flow_table_is_the_hosts_limit_and_what_is_open_goes_on(up):
    platform = up("--limit", "host.flows=40", functions=("Red", "Blue"))
    assert connect(platform, "Blue", keep=True) == ["hello"]
    said = connect(platform, "Red", count=40, keep=True, timeout=0.5)
    # The resolver's questions are flows, too: a few less than the bound are the function's own.
    opened = said.count("hello")
    assert 30 <= opened < 40 and set(said[opened:]) == {"TimeoutError"}, said
    assert connect(platform, "Blue", timeout=0.5) == ["TimeoutError"]
    assert again(platform, "Red") == again(platform, "Blue") == "again"
    assert {row["id"] for row in board(platform)["limits"] if row["refused"]} == {"host.flows"}
    assert platform.tells("limit=host.flows")


def test_no_descriptor_left_is_the_hosts_limit_and_never_awss(start, tmp_path):
    """F13: a relay needs two descriptors for each connection."""
    from support.storefront import Cache

    with Cache() as cache:
        template = network.template(tmp_path, timeout=60)
        attach = ("--attach", f"cache.example.com:6379=127.0.0.1:{cache.port()}")
        platform = start("--world", "none", *attach, template=template, open_files=512)
        hold = """
import socket
for _ in range(event["count"]):
    s = socket.socket(); s.settimeout(0.3)
    try: s.connect((event["host"], 6379)); kept.setdefault("all", []).append(s)
    except OSError as error: answer = type(error).__name__; break
"""
        assert puppet.inside(platform, hold, host="cache.example.com", count=400) == "TimeoutError"
        count = puppet.inside(platform, "answer = len(kept['all'])")
        assert 10 <= count < 400
        assert platform.tells("limit=host.descriptors")
        rows = board(platform)["limits"]
        assert [(row["id"], row["resource"]) for row in rows if row["refused"]] == [("host.descriptors", "relay")]
        # The function's own log has it, too.
        assert "packets were dropped by host.descriptors of relay to cache.example.com:6379" in "\n".join(platform.log("Red"))
        # What is open goes on, and room is used again.
        ping = "s = kept['all'][0]; s.settimeout(5); s.sendall(b'*1\\r\\n$4\\r\\nPING\\r\\n'); answer = s.recv(64).decode()"
        assert puppet.inside(platform, ping) == "+PONG\r\n"
        assert puppet.inside(platform, "[s.close() for s in kept.pop('all')]; answer = 1") == 1
        deadline = time.monotonic() + 30
        while puppet.inside(platform, hold + "else: answer = 'open'", host="cache.example.com", count=5) != "open":
            assert time.monotonic() < deadline, platform.stderr()[-2000:]
