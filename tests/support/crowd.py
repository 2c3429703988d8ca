"""Many clients at once."""

import concurrent.futures
import time

from support.puppet import HOLD


def crowd(call, items, most=None):
    """`call(item)` for all items at once, or at most `most`; the results in the items' order."""
    items = list(items)
    with concurrent.futures.ThreadPoolExecutor(most or len(items)) as pool:
        return list(pool.map(call, items))


class Held:
    """Invocations of puppets that run until the gate is opened: a file in their folder, which is bound, not copied."""

    def __init__(self, platform, folder):
        self.platform, self.gate = platform, folder / "gate"
        self.pool = concurrent.futures.ThreadPoolExecutor(64)
        self.calls = []

    def start(self, name, number=1):
        """Begins that many, and answers their futures."""
        calls = [self.pool.submit(self.platform.invoke, name, {"python": HOLD, "n": n}) for n in range(number)]
        self.calls += calls
        return calls

    def wait_in_flight(self, number, seconds=30):
        """Waits until that many invocations of all functions run."""
        deadline = time.monotonic() + seconds
        while (now := self.platform.request("GET", "/_onrush/health").json()["in_flight"]) != number:
            assert time.monotonic() < deadline, f"{now} in flight, not {number}"
            time.sleep(0.02)

    def wait_started(self, name, number, seconds=30):
        """Waits until that many invocations of a function have reached their runtimes; their ids."""
        deadline = time.monotonic() + seconds
        while len(ids := self.ids(name)) < number:
            assert time.monotonic() < deadline, f"{len(ids)} started, not {number}"
            time.sleep(0.02)
        return ids

    def ids(self, name):
        """Request ids of a function's invocations that began and did not end, by its log."""
        began = [line.split()[2] for line in self.platform.log(name) if line.startswith("START RequestId: ")]
        ended = {line.split()[2] for line in self.platform.log(name) if line.startswith("END RequestId: ")}
        return [id for id in began if id not in ended]

    def open(self):
        """Lets all of them end, and answers what they came to."""
        self.gate.touch()
        results = [call.result(90) for call in self.calls]
        self.gate.unlink()
        self.calls = []
        return results

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gate.touch()
        self.pool.shutdown(wait=True)
        self.gate.unlink(missing_ok=True)
