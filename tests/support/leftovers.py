"""What a platform is made of on this host, and what of it is still there."""

import os
import pathlib
import signal
import time


def processes():
    """Every process: {pid: (parent, start time)}."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = pathlib.Path("/proc", name, "stat").read_text().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            found[int(name)] = (int(fields[1]), fields[19])
    return found


def tree(root):
    """A process and everything below it: {(pid, start time)}."""
    everyone = processes()
    family, grown = {root}, True
    while grown:
        more = {pid for pid, (parent, _) in everyone.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return {(pid, everyone[pid][1]) for pid in family if pid in everyone}


def link(pid, name):
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}")
    except OSError:
        return None


class Belongings:
    """What one platform has: to be asked for while it runs, and looked at once it ended."""

    def __init__(self, pid, data_dir):
        self.data_dir = str(data_dir)
        self.processes = tree(pid)
        own = link("self", "net")
        self.networks = {link(pid, "net") for pid, _ in self.processes} - {own, None}
        record = pathlib.Path(data_dir, "run", "leftovers")
        self.groups = record.read_text().split("\n") if record.exists() else []

    def left(self, successor=False):
        """What is still there, as lines for people; nothing is an empty list.

        With a successor that runs in the same data folder, what is known by that folder may be the successor's.
        """
        alive = {(pid, started) for pid, (_, started) in processes().items()}
        found = [f"process {pid}: {command(pid)}" for pid, started in self.processes & alive]
        mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        # A network namespace outlives its processes only by a mount; its number alone says nothing: it is used again.
        found += [f"network namespace {line}" for line in mounts if any(network in line for network in self.networks)]
        found += [f"control group {group}" for group in self.groups if group and os.path.exists(group)]
        if successor:
            return sorted(set(found))
        found += [f"process {pid}: {command(pid)}" for pid, _ in alive if self.data_dir in command(pid)]
        found += [f"mount {line}" for line in mounts if self.data_dir in line]
        for backing in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                text = backing.read_text().strip()
            except OSError:
                continue
            if text.startswith(self.data_dir):
                found.append(f"loop device {backing.parts[3]}: {text}")
        return sorted(set(found))

    def clear(self):
        """Ends and removes what should not have been left, so that one failure is not many."""
        for pid, started in self.processes:
            if processes().get(pid, (0, None))[1] == started:
                os.kill(pid, signal.SIGKILL)
        for group in filter(None, self.groups):
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass

    def wait_gone(self, seconds, successor=False):
        """Waits until nothing is left; what is left then."""
        deadline = time.monotonic() + seconds
        while (found := self.left(successor)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


def command(pid):
    """The command line; of a process that is ending, its name, its state and where it is in the kernel."""
    try:
        text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        if text:
            return text
        name, state = pathlib.Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(") ", 1)
        return f"({name}) in state {state[0]} at {pathlib.Path(f'/proc/{pid}/wchan').read_text()}, parent {state.split()[1]}"
    except OSError:
        return ""
