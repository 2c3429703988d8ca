"""What a function would send that has every right inside its environment: raw packets on its own device.

No function has these rights here (no raw sockets, no capability): root on the host goes in and sends in its place. So what
is shown is the network's own wall, with the sandbox's gone.
"""

import os
import pathlib
import struct
import subprocess
import sys

# Reads lines of hex, sends each as a packet on eth0 as often as asked; tells how many the device took.
SEND = """
import socket, struct, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
taken = 0
for line in sys.stdin:
    protocol, packet = line.split()
    try:
        out.sendto(bytes.fromhex(packet), ("eth0", int(protocol, 16)))
        taken += 1
    except OSError:
        pass
print(taken)
"""
# SYNs to many ports of many addresses, as fast as they go.
FLOOD = """
import socket, struct, sys
source, count = socket.inet_aton(sys.argv[1]), int(sys.argv[2])
out = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
def sum16(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 65535)
    return 65535 ^ ((total >> 16) + total & 65535)
for number in range(count):
    target = bytes([203, 0, 114 + number // 50000, 1 + number % 200])
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, number & 65535, 0x4000, 64, 6, 0, source, target)
    ip = ip[:10] + struct.pack(">H", sum16(ip)) + ip[12:]
    tcp = struct.pack(">HHIIBBHHH", 1024 + number % 60000, 80 + number // 60000, number, 0, 0x50, 2, 64240, 0, 0)
    tcp = tcp[:16] + struct.pack(">H", sum16(source + target + struct.pack(">BBH", 0, 6, 20) + tcp)) + tcp[18:]
    while True:
        try:
            out.sendto(ip + tcp, ("eth0", 0x800))
            break
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != 105: raise
print(count)
"""


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return 0xFFFF ^ total


def octets(address):
    return bytes(map(int, address.split(".")))


def ipv4(source, destination, payload, protocol=17, flags=0x4000, ttl=64, length=None, checksum_right=True):
    """An IPv4 packet; `flags` are the flags and the fragment's offset."""
    length = 20 + len(payload) if length is None else length
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 1, flags, ttl, protocol, 0, octets(source), octets(destination))
    total = checksum(head) if checksum_right else 0x1234
    return head[:10] + struct.pack(">H", total) + head[12:] + payload


def udp(source, destination, port, data=b"hello", from_port=4000):
    head = struct.pack(">HHHH", from_port, port, 8 + len(data), 0)
    pseudo = octets(source) + octets(destination) + struct.pack(">BBH", 0, 17, 8 + len(data))
    total = checksum(pseudo + head + data) or 0xFFFF
    return ipv4(source, destination, head[:6] + struct.pack(">H", total) + data)


def tcp(source, destination, port, flags=2, from_port=4000):
    head = struct.pack(">HHIIBBHHH", from_port, port, 1, 0, 0x50, flags, 64240, 0, 0)
    pseudo = octets(source) + octets(destination) + struct.pack(">BBH", 0, 6, 20)
    return ipv4(source, destination, head[:16] + struct.pack(">H", checksum(pseudo + head)) + head[18:], 6)


def environment(platform, name):
    """(process, address) of a puppet's only environment."""
    for pid, _ in platform.belongings().processes:
        try:
            words = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"AWS_LAMBDA_FUNCTION_NAME={name}".encode() in words:
            shown = inside(pid, "ip", "-4", "-o", "addr", "show", "eth0")
            return pid, shown.split("inet ")[1].split("/")[0]
    raise AssertionError(f"{name} has no environment")


def inside(pid, *command, text=None):
    """Root, in the environment's network."""
    words = ["nsenter", f"--net=/proc/{pid}/ns/net", *command]
    return subprocess.run(words, input=text, check=True, capture_output=True, text=True, timeout=100).stdout


def send(pid, packets, protocol="800"):
    """Sends each packet on the environment's device; answers how many it took."""
    lines = "".join(f"{protocol} {packet.hex()}\n" for packet in packets)
    return int(inside(pid, sys.executable, "-c", SEND, text=lines))


def flood(pid, address, count):
    """That many SYNs, each of another flow, to addresses where nobody answers."""
    return int(inside(pid, sys.executable, "-c", FLOOD, address, str(count)))


def memory_bytes(pid):
    """What a process holds of memory."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
