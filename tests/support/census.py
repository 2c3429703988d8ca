"""What a platform holds on this host at a moment, in numbers: what grows from one to the next is a leak."""

import os
import pathlib
import time
import typing

from support.leftovers import tree

MIB = 1 << 20
# Of `kinds`: those that are counted, and those that are weighed.
COUNTED = ("processes", "threads", "descriptors", "mounts", "networks", "groups", "files")


def read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def kib(text, name):
    """`Name:   12 kB` of a file of /proc."""
    lines = [line for line in text.splitlines() if line.startswith(name + ":")]
    return int(lines[0].split()[1]) if lines else 0


def below(folder):
    """Files and folders below a folder, and their bytes. Logs are people's to remove: theirs do not count."""
    files, size = 0, 0
    for path, folders, names in os.walk(folder):
        if path == str(folder) and "logs" in folders:
            folders.remove("logs")
        files += len(names) + len(folders)
        for name in names:
            try:
                size += os.lstat(os.path.join(path, name)).st_blocks * 512
            except OSError:
                pass
    return files, size


def take(platform):
    """One census: {kind: number}. Memory in MiB: of `up` itself, and of all processes with what they share counted once."""
    pids = [pid for pid, _ in tree(platform.process.pid)]
    found = dict.fromkeys(COUNTED, 0) | {"processes": len(pids)}
    places, networks, shared = {}, set(), 0
    for pid in pids:
        status = read(f"/proc/{pid}/status")
        found["threads"] += int(status.split("\nThreads:")[1].split()[0]) if status else 0
        shared += kib(read(f"/proc/{pid}/smaps_rollup"), "Pss")
        try:
            found["descriptors"] += len(os.listdir(f"/proc/{pid}/fd"))
            places[os.readlink(f"/proc/{pid}/ns/mnt")] = pid
            networks.add(os.readlink(f"/proc/{pid}/ns/net"))
            # A namespace lives on in whoever holds it open.
            links = (os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd"))
            networks |= {link for link in links if link.startswith("net:[")}
        except OSError:
            pass
    found["networks"] = len(networks)
    found["mounts"] = sum(len(read(f"/proc/{pid}/mountinfo").splitlines()) for pid in places.values())
    for group in filter(None, read(platform.data_dir / "run/leftovers").split("\n")):
        found["groups"] += sum(1 for _ in os.walk(group))
    found["files"], data = below(platform.data_dir)
    found["up_mib"] = kib(read(f"/proc/{platform.process.pid}/status"), "VmRSS") / 1024
    return found | {"all_mib": shared / 1024, "data_mib": data / MIB}


def settle(platform, seconds=20, still=0.4):
    """Ends what is idle, waits until nothing comes and goes any more, and takes a census."""
    platform.wait_idle(60)
    platform.request("POST", "/_onrush/reset")
    before, deadline = None, time.monotonic() + seconds
    while True:
        now = take(platform)
        counts = {kind: now[kind] for kind in COUNTED}
        if counts == before or time.monotonic() > deadline:
            return now
        before = counts
        time.sleep(still)


class Trend(typing.NamedTuple):
    """A straight line through what censuses counted: what it gained from the first to the last, and how sure that is."""

    gained: float
    # Of `gained`, a standard deviation: what the numbers jump about their line says how much of a slope is chance.
    unsure: float
    hourly: float

    def is_growth(self, allowed, sigmas=4):
        """More than may be, and too much for chance: with four deviations, once in some thousand censuses of twenty."""
        return self.gained > allowed and self.gained > sigmas * self.unsure


def trend(taken, kind):
    """By least squares, over at least three censuses: [(seconds, census)]."""
    count = len(taken)
    middle = sum(at for at, _ in taken) / count
    mean = sum(found[kind] for _, found in taken) / count
    spread = sum((at - middle) ** 2 for at, _ in taken)
    slope = sum((at - middle) * (found[kind] - mean) for at, found in taken) / spread
    off = sum((found[kind] - mean - slope * (at - middle)) ** 2 for at, found in taken)
    span = taken[-1][0] - taken[0][0]
    return Trend(slope * span, (off / (count - 2) / spread) ** 0.5 * span, slope * 3600)
