"""`--world relay`, as root and as an ordinary user: functions reach the public world and never the host, its networks or private
ranges."""

import pathlib
import shutil
import socket
import tempfile

import pytest

from support import network, puppet
from support.host import JOINED, LAN, ROUTER, UPLINK, Host, no_tun, tun_for_everybody
from support.network import CONNECT
from support.paths import BINARY
from support.storefront import Cache
from support.world import PORT, SERVER, ip, refused

pytestmark = pytest.mark.skipif(bool(refused()), reason=str(refused()))

# Of the public internet, as far as the relay knows; ranges for documents (SERVER's) are not.
PUBLIC = "128.66.0.10"
NOBODY = 65534
PING = """
import socket
s = socket.socket(); s.settimeout(5)
s.connect(("cache.example.com", 6379)); s.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n"); answer = s.recv(64).decode()"""
UDP = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(b"x" * 1400, (event["host"], event["port"])); answer = len(s.recv(2000))"""


@pytest.fixture
def host():
    with Host() as host:
        ip("-n", host.name, "addr", "add", f"{PUBLIC}/32", "dev", "lo")
        with host.serve_in(host.name, PUBLIC), host.inside():
            yield host


@pytest.fixture
def home():
    """Where an ordinary user may look, too."""
    found = pathlib.Path(tempfile.mkdtemp(prefix="onrush-test-", dir="/tmp"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.mark.parametrize(
    ("user", "tun"), [(None, tun_for_everybody), (NOBODY, tun_for_everybody), (NOBODY, no_tun)], ids=["root", "nobody", "nobody-pair"]
)
def test_functions_reach_the_public_world_and_what_is_attached_but_not_the_host(start, host, home, user, tun):
    before = host.state()
    binary = shutil.copy(BINARY, home / "onrush")
    template = network.template(home, outside=["Free"])
    with Cache() as cache, tun():
        attach = ("--attach", f"cache.example.com:6379=127.0.0.1:{cache.port()}")
        platform = start("--world", "relay", "--limit", "nat.ports=3", *attach, template=template, user=user, binary=binary)
        if user is not None and platform.summary["network"] is None:
            pytest.skip(f"an ordinary user has no network here: {platform.summary['gaps']}")
        assert platform.summary["network"].endswith("world: relay"), platform.summary
        connect = lambda name, host, port=PORT, **more: puppet.inside(platform, CONNECT, name, host=host, port=port, **more)
        for name in ("Free", "Red"):
            assert connect(name, PUBLIC, count=2, keep=True) == ["hello"] * 2
            assert puppet.inside(platform, UDP, name, host=PUBLIC, port=PORT) == 1400
            assert puppet.inside(platform, PING, name) == "+PONG\r\n"
        listeners = [(address, socket.create_server((address, 0))) for address in (UPLINK, LAN, host.join(), "127.0.0.1")]
        forbidden = [(address, listener.getsockname()[1]) for address, listener in listeners]
        forbidden += [(ROUTER, PORT), (SERVER, PORT), ("169.254.169.254", 80), (UPLINK, platform.port)]
        for address, port in forbidden:
            assert connect("Free", address, port, timeout=0.4) != ["hello"], address
        for _, listener in listeners:
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
            listener.close()
        # The limits are those of every world.
        assert connect("Red", PUBLIC, count=2, keep=True, timeout=0.5) == ["hello", "TimeoutError"]
        assert platform.limit("nat.ports", "Nat")["used"] == 3
        platform.stop()
    ip("-n", host.host, "addr", "del", f"{JOINED}/24", "dev", "lan0")
    assert host.state() == before, "a relay changes nothing of the host's"
