"""`--world host` on a host of the test's own: what is reached, what never is, and that nothing is left behind."""

import pathlib
import socket
import time

import pytest

from support import network, puppet
from support.host import LAN, ROUTER, UPLINK, Host, every_name_is
from support.network import CONNECT
from support.world import OTHER, PORT, SERVER, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))


@pytest.fixture
def host():
    with Host() as host:
        with host.inside():
            yield host


def connect(platform, name="Red", host=SERVER, port=PORT, **more):
    return puppet.inside(platform, CONNECT, name, host=host, port=port, **more)


def begin(start, home, **settings):
    return start("--world", "host", template=network.template(home, outside=["Free"], **settings))


def test_functions_reach_what_the_host_reaches_but_not_the_host(start, host, tmp_path):
    platform = begin(start, tmp_path)
    assert platform.summary["network"].endswith("world: host")
    for name in ("Red", "Free"):
        assert connect(platform, name, count=2) == ["hello"] * 2
    listeners = []
    # The host's uplink, its LANs, one of them joined just now, and its loopback; the router is of a connected network, too.
    for address in (UPLINK, LAN, host.join(), "127.0.0.1", "0.0.0.0"):
        listener = socket.create_server((address, 0))
        listener.setblocking(False)
        listeners.append((address, listener, listener.getsockname()[1]))
    forbidden = [(address, port) for address, _, port in listeners]
    forbidden += [(ROUTER, PORT), ("169.254.169.254", 80), ("198.18.0.1", platform.port), (UPLINK, platform.port)]
    for name in ("Red", "Free"):
        for address, port in forbidden:
            said = connect(platform, name, host=address, port=port, timeout=0.5)
            assert said in (["TimeoutError"], ["ConnectionRefusedError"], ["OSError"]), (name, address, said)
    for address, listener, _ in listeners:
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_of_the_hosts_network_stays_changed(device, start, host, tmp_path, end):
    """The end comes while connections are full of bytes."""
    before = host.state()
    platform = begin(start, tmp_path)
    assert connect(platform) == ["hello"]
    during = host.state()
    assert "onrush0" in during and during != before
    with network.Streams(platform, "Red", SERVER, PORT):
        if end == "stop":
            platform.stop()
            assert host.wait_state(before) == before
            return
        belongings = platform.kill()
        assert belongings.wait_gone(10) == []
    # The kernel takes back the device, its routes and the table; forwarding of the uplink is for the next start.
    left = host.wait_state(before.replace("up0/forwarding: 0", "up0/forwarding: 1"))
    assert left == before.replace("up0/forwarding: 0", "up0/forwarding: 1")
    start("--world", "none", home=platform.home).stop()
    assert host.wait_state(before) == before
    # Peers out there still remember the streams, and the same ports are given again: it delays nobody for long.
    again = start("--world", "host", template=tmp_path / "app.json", home=platform.home)
    assert connect(again, count=4, keep=True, timeout=20) == ["hello"] * 4
    assert again.limit("nat.ports", "Nat")["used"] == 4


def test_each_way_of_a_default_route_is_forwarded_for_and_a_host_that_forwards_for_all_goes_on(start, host, tmp_path):
    from support.world import ip

    way = ("nexthop", "via", ROUTER, "dev", "up0")
    ip("-n", host.host, "route", "replace", "default", *way, "nexthop", "dev", "lan0")
    platform = begin(start, tmp_path)
    assert all(f"{name}/forwarding: 1" in host.state() for name in ("up0", "lan0"))
    platform.stop()
    assert all(f"{name}/forwarding: 0" in host.state() for name in ("up0", "lan0"))
    platform = start("--world", "host", template=tmp_path / "app.json", home=platform.home)
    # As Docker does when it is started.
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    platform.stop()
    assert all(f"{name}/forwarding: 1" in host.state() for name in ("up0", "lan0"))
    # Of two devices, one that the host forwards for and one that it does not.
    pathlib.Path("/proc/sys/net/ipv4/conf/up0/forwarding").write_text("0")
    before = host.state()
    start("--world", "host", template=tmp_path / "app.json", home=platform.home).stop()
    assert host.wait_state(before) == before


def test_a_masquerade_without_a_port_is_the_hosts_limit_and_never_awss(start, host, tmp_path):
    """Of one destination alone, for functions in a VPC and without one together; what is open goes on, and a closed one makes room."""
    template = network.template(tmp_path, outside=["Free"])
    platform = start("--world", "host", "--limit", "host.ports=5", template=template)
    assert connect(platform, "Free", count=2, keep=True) == ["hello"] * 2
    assert connect(platform, count=4, keep=True, timeout=0.5) == ["hello"] * 3 + ["TimeoutError"]
    assert connect(platform, "Free", timeout=0.5) == ["TimeoutError"]
    assert connect(platform, host=OTHER) == ["hello"]
    rows = [row for row in platform.request("GET", "/_onrush/limits").json()["limits"] if row["refused"]]
    found = [(row["id"], row["resource"], row["used"], row["max"], row["peak"]) for row in rows]
    assert found == [("host.ports", f"masquerade to {SERVER}:{PORT}", 5, 5, 5)]
    assert platform.tells(f"-> {SERVER}:{PORT} limit=host.ports resource=masquerade used=5 max=5")
    said = f"packets were dropped by host.ports of masquerade to {SERVER}:{PORT}: 5 of 5 ports"
    for name in ("Red", "Free"):
        assert said in "\n".join(platform.log(name))
    again = "s = kept['all'][0]; s.sendall(b'again'); answer = s.recv(16).decode()"
    assert puppet.inside(platform, again) == puppet.inside(platform, again, "Free") == "again"
    assert puppet.inside(platform, "kept['all'].pop().close(); answer = 1", "Free") == 1
    assert connect(platform, keep=True) == ["hello"]
    assert connect(platform, "Free", timeout=0.5) == ["TimeoutError"]


def test_only_one_platform_has_the_hosts_world_and_the_other_says_so(start, host, tmp_path):
    from support.platform import NotReady

    begin(start, tmp_path)
    with pytest.raises(NotReady, match="another Onrush has the world of this host"):
        start("--world", "host")


def test_a_world_whose_uplink_goes_away_comes_back_with_it_or_with_another(start, host, tmp_path):
    from support.world import ip

    def comes_back():
        deadline = time.monotonic() + 30
        while connect(platform, timeout=1) != ["hello"]:
            assert time.monotonic() < deadline, platform.stderr()

    platform = begin(start, tmp_path)
    assert connect(platform) == ["hello"]
    ip("-n", host.host, "link", "set", "up0", "down")
    assert connect(platform, timeout=0.5) != ["hello"]
    ip("-n", host.host, "link", "set", "up0", "up")
    ip("-n", host.host, "route", "add", "default", "via", ROUTER)
    comes_back()
    # A VPN's rule leads all answers elsewhere for a while.
    ip("-n", host.host, "route", "add", "default", "dev", "lan0", "table", "52")
    ip("-n", host.host, "rule", "add", "pref", "5000", "table", "52")
    assert platform.tells("the world is back")
    ip("-n", host.host, "rule", "del", "pref", "5000")
    comes_back()
    host.move()
    comes_back()
    # Another VPN, with routes of its own before the default route.
    host.move("up2", "192.168.80", ("0.0.0.0/1", "128.0.0.0/1"))
    comes_back()
    # Somebody flushes routes that are not his.
    ip("-n", host.host, "route", "del", "198.18.0.0/15")
    comes_back()
    platform.stop()
    assert all(f"up{number}/forwarding: 0" in host.state() for number in range(3))


def test_with_passthrough_names_of_awss_lead_to_the_world_but_for_those_that_are_served_here(start, host, tmp_path):
    look_up = "import socket\nanswer = socket.gethostbyname(event['host'])"
    sqs, ssm = "sqs.us-east-1.amazonaws.com", "ssm.us-east-1.amazonaws.com"
    with every_name_is(SERVER, tmp_path) as asked:
        platform = start("--world", "host", "--aws-passthrough", template=network.template(tmp_path, outside=["Free"]))
        for name in ("Red", "Free"):
            assert connect(platform, name, host=sqs) == ["hello"]
            assert puppet.inside(platform, look_up, name, host=sqs) == SERVER
            assert puppet.inside(platform, look_up, name, host=ssm).startswith("198.19.")
        assert platform.limit("nat.ports", "Nat")["peak"] >= 1
        # A name of the VPC's own is nobody else's business.
        assert puppet.inside(platform, look_up, "Red", host="ip-10-0-3-4.ec2.internal") == "10.0.3.4"
        assert sqs in asked and not [name for name in asked if "ssm" in name or "internal" in name], asked
