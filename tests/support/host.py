"""A host of the test's own: a network namespace with a default route to an "internet" that has SERVER and OTHER.

A platform that is started inside has this host's network for its world (`--world host`), so a test may look at all that it
changes there, whatever else runs on the machine. Threads enter it one by one, and the processes that they start.
"""

import contextlib
import ctypes
import os
import pathlib
import socket
import stat
import subprocess
import threading
import time

from support.world import World, ip

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
# The network between the host and its router, and the host's other network, where nobody is asked for anything.
UPLINK, ROUTER, LAN = "192.168.77.2", "192.168.77.1", "192.168.88.1"
# A network of the public internet that the host joins later.
JOINED = "128.67.0.1"


def enter(file):
    call("setns", file, CLONE_NEWNET)


def call(name, *arguments):
    """A function of the C library that answers 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


@contextlib.contextmanager
def own_mounts():
    """What the calling thread mounts is there for it alone, and for what it starts."""
    before, here = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY), os.getcwd()
    try:
        call("unshare", CLONE_NEWNS)
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        yield
    finally:
        call("setns", before, CLONE_NEWNS)
        os.close(before)
        os.chdir(here)


@contextlib.contextmanager
def tun_for_everybody():
    """A /dev/net/tun that ordinary users may open, as most hosts have."""
    with own_mounts():
        call("mount", b"tmpfs", b"/dev/net", b"tmpfs", 0, b"mode=755")
        os.mknod("/dev/net/tun", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
        os.chmod("/dev/net/tun", 0o666)
        yield


@contextlib.contextmanager
def no_tun():
    """There is no /dev/net/tun, as in many a container."""
    with own_mounts():
        call("mount", b"tmpfs", b"/dev/net", b"tmpfs", 0, b"mode=755")
        yield


@contextlib.contextmanager
def every_name_is(address, folder):
    """The host's resolver says that every name is `address`; yields the names that it was asked for. Call it `inside` a host."""
    answers = socket.socket(type=socket.SOCK_DGRAM)
    answers.bind(("127.0.0.1", 53))
    asked = []

    def serve():
        while True:
            query, peer = answers.recvfrom(4096)
            if not query:
                return
            name, at = [], 12
            while length := query[at]:
                name.append(query[at + 1 : at + 1 + length].decode())
                at += 1 + length
            asked.append(".".join(name).lower())
            question = query[12 : at + 5]
            is_a = question[-4:-2] == b"\0\1"
            head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
            record = b"\xc0\x0c\0\1\0\1" + (60).to_bytes(4, "big") + b"\0\4" + socket.inet_aton(address)
            answers.sendto(head + question + (record if is_a else b""), peer)

    settings = folder / "resolv.conf"
    settings.write_text("nameserver 127.0.0.1\n")
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with own_mounts():
            call("mount", str(settings).encode(), os.path.realpath("/etc/resolv.conf").encode(), None, MS_BIND, None)
            yield asked
    finally:
        # Nothing is a question; it ends the serving.
        answers.sendto(b"", answers.getsockname())
        thread.join(5)
        answers.close()


class Host(World):
    """The host's namespace is `host`, the internet's `name`, the world's servers in the latter."""

    def open(self):
        super().open()
        self.host = self.name + "h"
        ip("netns", "add", self.host)
        ip("-n", self.host, "link", "set", "lo", "up")
        ip("-n", self.host, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", self.name)
        for namespace, device, address in ((self.host, "up0", UPLINK), (self.name, "down0", ROUTER)):
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", self.host, "route", "add", "default", "via", ROUTER)
        ip("-n", self.host, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
        ip("-n", self.host, "addr", "add", f"{LAN}/24", "dev", "lan0")
        for device in ("lan0", "lan1"):
            ip("-n", self.host, "link", "set", device, "up")
        # The kernel tells devices that their peers are up in its own time, up to a second when other devices come and go.
        deadline = time.monotonic() + 10
        while "NO-CARRIER" in (links := ip("-n", self.host, "-o", "link")) or "DOWN" in links:
            assert time.monotonic() < deadline, links
            time.sleep(0.01)

    def close(self):
        super().close()
        subprocess.run(["ip", "netns", "del", self.host], capture_output=True)

    @contextlib.contextmanager
    def inside(self):
        """The calling thread, and what it starts, is on that host."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.host}", os.O_RDONLY)
        try:
            enter(there)
            yield
        finally:
            enter(before)
            os.close(before)
            os.close(there)

    def join(self):
        """The host joins another network, as with another Wi-Fi or a VPN: its address there."""
        ip("-n", self.host, "addr", "add", f"{JOINED}/24", "dev", "lan0")
        return JOINED

    def move(self, name="up1", network="192.168.79", routes=("default",)):
        """Another device has the way out, as when a cable is plugged in."""
        other = name.replace("up", "down")
        ip("-n", self.host, "link", "add", name, "type", "veth", "peer", "name", other, "netns", self.name)
        for namespace, device, last in ((self.host, name, 2), (self.name, other, 1)):
            ip("-n", namespace, "addr", "add", f"{network}.{last}/24", "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", self.host, "link", "set", "up0", "down")
        for route in routes:
            ip("-n", self.host, "route", "add", route, "via", f"{network}.1")

    def state(self):
        """Devices, and IPv4's addresses, routes, rules, packet filters and forwarding, as text to compare."""
        with self.inside():
            found = [ip(*words.split()) for words in ("-o link", "-4 -o addr", "-4 route show table all", "-4 rule")]
            if subprocess.run(["which", "nft"], capture_output=True).returncode == 0:
                found.append(subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout)
            settings = sorted(pathlib.Path("/proc/sys/net/ipv4/conf").glob("*/forwarding"))
            found += [f"{file}: {file.read_text()}" for file in settings]
        return "\n".join(found)

    def wait_state(self, expected, seconds=15):
        """Waits until the host is as expected; what it is then."""
        deadline = time.monotonic() + seconds
        while (now := self.state()) != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        return now
