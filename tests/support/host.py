"""A host of the test's own: a network namespace with a default route to an "internet" that has SERVER and OTHER.

A platform that is started inside has this host's network for its world (`--world host`), so a test may look at all that it
changes there, whatever else runs on the machine. Threads enter it one by one, and the processes that they start.
"""

import contextlib
import ctypes
import os
import pathlib
import subprocess
import time

from support.world import World, ip

CLONE_NEWNET = 0x40000000
# The network between the host and its router, and the host's other network, where nobody is asked for anything.
UPLINK, ROUTER, LAN = "192.168.77.2", "192.168.77.1", "192.168.88.1"


def enter(file):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(file, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


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
