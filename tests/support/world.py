"""A world of the test's own: a network namespace with servers that echo, for `--world netns:NAME`."""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time

SERVER = "203.0.113.10"
OTHER = "203.0.113.11"
THIRD = "203.0.113.12"
SERVER6 = "2620:0:1::10"
PORT = 7
NUMBERS = itertools.count()

SERVE = """
import socket, sys, threading
def serve(connection):
    try:
        while piece := connection.recv(65536):
            connection.sendall(piece)
    except ConnectionError:
        pass
def accept(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
port, *addresses = sys.argv[1:]
for address in addresses:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, int(port)))
    listener.listen(4096)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
datagrams = socket.socket(type=socket.SOCK_DGRAM)
datagrams.bind((addresses[0], int(port)))
print("ready", flush=True)
while True:
    text, peer = datagrams.recvfrom(65536)
    datagrams.sendto(text, peer)
"""


def refused():
    """Why no world can be made here, or None."""
    if os.geteuid() != 0:
        return "only root may make a world"
    if shutil.which("ip") is None:
        return "no `ip` here (iproute2)"
    made = subprocess.run(["ip", "netns", "list"], capture_output=True)
    return None if made.returncode == 0 else "no `ip netns` here"


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def serve(namespace, *addresses):
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", SERVE, str(PORT), *addresses]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "ready\n"
    return server


class World:
    """The namespace, with SERVER, OTHER and THIRD on its loopback, and SERVER6 where the kernel speaks IPv6; TCP echo on all, UDP echo on
    SERVER."""

    def __init__(self):
        self.name = f"onrush-test-{os.getpid()}-{next(NUMBERS)}"
        self.server = None
        ip("netns", "add", self.name)
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    def open(self):
        ip("-n", self.name, "link", "set", "lo", "up")
        for address in (SERVER, OTHER, THIRD):
            ip("-n", self.name, "addr", "add", f"{address}/32", "dev", "lo")
        addresses = [SERVER, OTHER, THIRD]
        if os.path.exists("/proc/sys/net/ipv6"):
            ip("-n", self.name, "-6", "addr", "add", f"{SERVER6}/128", "dev", "lo", "nodad")
            addresses.append(SERVER6)
        self.server = serve(self.name, *addresses)

    @contextlib.contextmanager
    def serve_in(self, namespace, address):
        """The same servers at another address of another namespace."""
        server = serve(namespace, address)
        try:
            yield
        finally:
            server.kill()
            server.wait()
            server.stdout.close()

    def devices(self):
        """Names of the devices in there."""
        return [line.split(":")[1].strip().split("@")[0] for line in ip("-n", self.name, "-o", "link").splitlines()]

    def wait_without_device(self, seconds=10):
        deadline = time.monotonic() + seconds
        while "onrush0" in self.devices() and time.monotonic() < deadline:
            time.sleep(0.05)
        return "onrush0" not in self.devices()

    def reopen(self):
        """The world goes away and comes back under the same name."""
        self.close()
        ip("netns", "add", self.name)
        self.open()

    def close(self):
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.server.stdout.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
