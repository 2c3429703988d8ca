"""Real packets of real functions: through the shared interface and the NAT gateway into a world of the test's own."""

import socket
import threading
import time

import pytest

from support import network, puppet
from support.network import CONNECT
from support.world import OTHER, PORT, SERVER, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))


@pytest.fixture
def up(up):
    """The same, with limits given as words."""
    return lambda *limits, **settings: up(*(word for limit in limits for word in ("--limit", limit)), **settings)


def connect(platform, name="Red", host=SERVER, port=PORT, **more):
    return puppet.inside(platform, CONNECT, name, host=host, port=port, **more)


def test_tcp_udp_and_ping_go_there_and_back(device, up):
    platform = up()
    assert (", packet sockets in place of TUN devices;" in platform.summary["network"]) == (device == "pair")
    assert connect(platform, count=3) == ["hello"] * 3
    udp = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(b"x" * 1400, (event["host"], event["port"])); answer = len(s.recv(2000))"""
    assert puppet.inside(platform, udp, host=SERVER, port=PORT) == 1400
    # Larger than any packet of the way: it goes in pieces, and comes back so.
    assert puppet.inside(platform, udp.replace("1400", "40_000").replace("2000", "65_536"), host=SERVER, port=PORT) == 40_000
    # A million bytes each way: offloaded frames pass whole.
    many = """
import socket, threading
s = socket.create_connection((event["host"], event["port"]), 10)
sent = os.urandom(1 << 20)
threading.Thread(target=s.sendall, args=(sent,)).start()
heard = b""
while len(heard) < len(sent): heard += s.recv(1 << 16)
answer = heard == sent"""
    assert puppet.inside(platform, many, host=SERVER, port=PORT) is True
    ping = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
s.settimeout(5); s.connect((event["host"], 0))
s.send(bytes([8, 0, 0, 0, 0, 0, 0, 1]) + b"ping"); answer = s.recv(100)[-4:].decode()"""
    assert puppet.inside(platform, ping, host=SERVER) == "ping"


@pytest.mark.parametrize("limits", [(), ("nat.addresses=3",)])
def test_more_addresses_than_aws_gives_unasked_serve_and_are_told_of(start, world, tmp_path, limits):
    words = [word for limit in limits for word in ("--limit", limit)]
    platform = start("--world", f"netns:{world.name}", *words, template=network.template(tmp_path, addresses=3))
    assert connect(platform, count=3) == ["hello"] * 3
    told = "addresses, which all serve; AWS gives 2 until it is asked for more (nat.addresses)"
    assert (told in platform.stderr()) == (not limits)


def test_ports_of_a_masquerade_that_there_is_not_are_told_of(up, world):
    platform = up("host.ports=2")
    assert platform.tells(f"--limit host.ports has no effect with --world netns:{world.name}: only --world host goes through")
    assert connect(platform, count=3, keep=True) == ["hello"] * 3


def test_a_function_without_a_vpc_goes_straight_to_the_world(up):
    platform = up("nat.ports=1", "eni.connections=1", outside=["Free"])
    assert connect(platform, "Free", count=5, keep=True) == ["hello"] * 5
    assert platform.limit("nat.ports", "Nat")["used"] == 0


def test_nat_ports_of_one_destination_run_out_and_the_time_out_names_them(up):
    platform = up("nat.ports=50", timeout=6)
    assert connect(platform, count=50, keep=True) == ["hello"] * 50
    assert connect(platform, count=1, timeout=0.5) == ["TimeoutError"], "the 51st: silence"
    assert connect(platform, host=OTHER) == ["hello"], "another destination has ports of its own"
    row = platform.limit("nat.ports", "Nat")
    assert (row["max"], row["peak"]) == (50, 50) and row["refused"] >= 1
    hangs = platform.invoke("Red", {"python": CONNECT, "host": SERVER, "port": PORT, "timeout": 60})
    assert hangs.error == "Unhandled" and "Task timed out" in hangs.json()["errorMessage"]
    assert hangs.headers["x-onrush-limit"] == "nat.ports; resource=Nat; used=50; max=50"
    line = hangs.log.split("Task timed out")[1].split("\n")[0]
    assert f"nat.ports of Nat to {SERVER}:{PORT}: 50 of 50 connections" in line
    assert platform.tells("dropped SYN") and platform.tells("limit=nat.ports")
    metrics = platform.request("GET", "/_onrush/metrics").body.decode()
    metric = lambda name: int(metrics.split(f'onrush_natgateway_{name}{{NatGatewayId="Nat"}} ')[1].split()[0])
    assert metric("ErrorPortAllocation") == platform.limit("nat.ports", "Nat")["refused"]
    assert metric("ConnectionEstablishedCount") >= 51


def test_another_address_gives_as_many_ports_again_until_the_interface_is_full(device, up):
    platform = up("nat.ports=20", "eni.connections=30", addresses=2)
    assert connect(platform, count=30, keep=True) == ["hello"] * 30
    assert connect(platform, timeout=0.5) == ["TimeoutError"]
    row = platform.limit("eni.connections", "eni-Private0-Group")
    assert (row["used"], row["max"]) == (30, 30) and row["refused"] >= 1
    assert platform.limit("nat.ports", "Nat")["refused"] == 0, "no metric of AWS's shows this"


@pytest.mark.parametrize(("limit", "resource"), [("nat.bandwidth", "Nat"), ("environment.bandwidth", "environment")])
def test_a_bandwidth_that_is_given_drops_what_is_above_and_tcp_finds_its_pace(up, limit, resource):
    platform = up(f"{limit}=16")
    many = """
import socket, threading
s = socket.create_connection((event["host"], event["port"]), 10)
sent = os.urandom(2 << 20)
threading.Thread(target=s.sendall, args=(sent,)).start()
heard = b""
while len(heard) < len(sent): heard += s.recv(1 << 16)
answer = heard == sent"""
    assert puppet.inside(platform, many, host=SERVER, port=PORT) is True
    row = platform.limit(limit, resource)
    assert (row["max"], row["peak"]) == (16, 16) and row["refused"] > 0
    assert platform.tells("dropped packet") and platform.tells(f"limit={limit} resource={resource}")


def test_functions_of_one_subnet_and_group_share_the_interface_and_the_board_says_so(up):
    platform = up("eni.connections=10", functions=("Red", "Blue"))
    assert connect(platform, "Red", count=10, keep=True) == ["hello"] * 10
    assert connect(platform, "Blue", timeout=0.5) == ["TimeoutError"], "its neighbour took all"
    board = platform.request("GET", "/_onrush/limits").json()
    assert board["interfaces"] == [
        {"name": "eni-Private0-Group", "connections": 10, "environments": {"Blue": 1, "Red": 1}}
    ]


def test_a_security_group_without_a_rule_is_silent(up):
    platform = up(egress=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}], timeout=3)
    hangs = platform.invoke("Red", {"python": CONNECT, "host": SERVER, "port": PORT, "timeout": 60})
    assert hangs.headers["x-onrush-limit"].startswith("sg.no-rule; ")


def test_a_route_to_an_internet_gateway_is_the_famous_mistake(up):
    platform = up(gateway="internet", timeout=3)
    hangs = platform.invoke("Red", {"python": CONNECT, "host": SERVER, "port": PORT, "timeout": 60})
    assert hangs.headers["x-onrush-limit"].startswith("route.none; ")


def test_neither_loopback_nor_metadata_nor_the_hosts_network_is_reached(up):
    platform = up(outside=["Free"])
    listeners, ports = [], []
    own = [socket.gethostbyname(socket.gethostname()), "127.0.0.1"]
    for address in own:
        listener = socket.socket()
        listener.bind((address, 0))
        listener.listen()
        listeners.append(listener)
        ports.append((address, listener.getsockname()[1]))
    ports += [("169.254.169.254", 80), ("169.254.0.1", 22), ("224.0.0.1", 80), ("255.255.255.255", 80)]
    for name in ("Red", "Free"):
        for host, port in ports:
            assert connect(platform, name, host=host, port=port, timeout=0.4) != ["hello"], (name, host)
    for listener in listeners:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()


def test_nothing_is_left_in_the_world_after_an_end_and_after_a_kill(device, up, world, start, tmp_path):
    platform = up()
    assert connect(platform) == ["hello"] and "onrush0" in world.devices()
    platform.stop()
    assert world.wait_without_device()
    again = start("--world", f"netns:{world.name}", template=tmp_path / "app.json")
    assert connect(again) == ["hello"]
    belongings = again.kill()
    assert world.wait_without_device()
    assert not belongings.wait_gone(10)


def test_a_world_that_goes_away_is_opened_again(device, up, world):
    platform = up()
    assert connect(platform) == ["hello"]
    world.reopen()
    deadline = time.monotonic() + 30
    while connect(platform, timeout=1) != ["hello"]:
        assert time.monotonic() < deadline, "the world did not come back:\n" + platform.stderr()
        time.sleep(0.1)


def test_a_capture_has_every_packet_and_ends_with_the_viewer(up):
    platform = up()
    connect(platform)
    path = "/_onrush/capture/eni-Private0-Group?session=7&wait="
    assert platform.request("GET", path + "0").body == b""
    viewer = threading.Thread(target=connect, args=(platform,))
    viewer.start()
    records = b""
    while b"hello" not in records:
        answer = platform.request("GET", path + "2")
        assert answer.status == 200
        records += answer.body
    viewer.join()
    assert socket.inet_aton(SERVER) in records
    unknown = platform.request("GET", "/_onrush/capture/eni-x?session=7")
    assert unknown.status == 404 and "eni-Private0-Group" in unknown.json()["message"]


def test_a_world_that_is_none_is_silent_and_a_wrong_one_is_refused(start, tmp_path):
    from support.platform import NotReady

    template = network.template(tmp_path)
    platform = start(template=template)
    assert platform.summary["network"].endswith("world: none")
    assert connect(platform, timeout=0.5) == ["TimeoutError"]
    for world, said in (("moon", "netns:NAME"), ("netns:onrush-no-such", "ip netns")):
        with pytest.raises(NotReady, match=said):
            start("--world", world)
