"""Everything at once for a while, then the same again: what the platform holds afterwards does not grow.

    ONRUSH_SOAK=1200 nice target/venv/bin/pytest -s tests/faults/test_soak.py

runs for 20 minutes, prints a census after each round, and for each kind the line through the last two thirds of them: what
it gains, how sure that is, and how much that were in an hour; judged from a quarter of an hour on. The suite's own run takes
seconds and has no such line.
"""

import contextlib
import json
import os
import random
import socket
import statistics
import threading
import time

import pytest

from support import census, network, packages, puppet, streamer, templates
from support.platform import Platform
from support.world import PORT, SERVER, World, refused

pytestmark = [
    pytest.mark.skipif(not puppet.here(), reason=f"no {puppet.PYTHON}"),
    pytest.mark.skipif(bool(refused()), reason=refused() or ""),
]

SECONDS = float(os.environ.get("ONRUSH_SOAK", "9"))
SEED = int(os.environ.get("ONRUSH_SEED", "7"))
# The first third of the rounds, these at least, fills pools and caches: the middle of the last third is compared with the
# fullest of it. How many parts a version has kept depends on how many of its environments ever ran at once.
WARM_ROUNDS = 2
# Twenty censuses behind the warm third are enough to tell a slope from chance.
ROUND_S = min(30, SECONDS / (WARM_ROUNDS + 1))
# Censuses that a line is drawn through, at least; and when it may begin to be judged: memory comes to rest after some five minutes.
LINE, REST_S = 8, 250
CLIENTS = 6
GUESTS = 3
# What may be more in a settled platform than in another: a pool that is being filled, a connection that is being closed.
SLACK = {"processes": 4, "threads": 8, "descriptors": 150, "mounts": 90, "networks": 10, "groups": 50, "files": 40, "up_mib": 24}
# What a line through the last two thirds may gain, however sure: less says nothing in a run of a quarter of an hour. Kept parts,
# of which networks are one, become more while versions find their fullest moments; and pages of the program count for more when
# another Onrush on this machine ends.
GAIN = {"processes": 1, "threads": 2, "descriptors": 12, "mounts": 12, "networks": 12, "groups": 5, "files": 10, "up_mib": 3, "all_mib": 16, "data_mib": 2}
# What each network that is kept has beside it, which is taken off: a leak of these alone is then not hidden by its coming and going.
BESIDE_A_NETWORK = {"descriptors": 11, "mounts": 1, "groups": 5}


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    home = tmp_path_factory.mktemp("soak")
    config = {"SubnetIds": [network.ref("Private0")], "SecurityGroupIds": [network.ref("Group")]}
    api = {"Get": {"Type": "Api", "Properties": {"Method": "any", "Path": "/cart/{id}"}}}
    url = {"AuthType": "NONE"}
    functions = {
        "Echo": ("echo", {"FunctionUrlConfig": url}),
        "Red": ("puppet", {"Events": api, "Timeout": 1}),
        "Blue": ("puppet", {"VpcConfig": config, "Timeout": 10}),
        "Flow": ("streamer", {"FunctionUrlConfig": url | {"InvokeMode": "RESPONSE_STREAM"}, "Timeout": 10}),
        "Turn": ("puppet", {"ReservedConcurrentExecutions": 3}),
    }
    with World() as world:
        template = templates.write(home, functions, network.resources())
        limits = ["--limit", "lambda.account-concurrency=200"]
        with Platform("--world", f"netns:{world.name}", *limits, home=home, template=template) as platform:
            yield platform


class Pulse(threading.Thread):
    """Notices when this process itself stands still, as on a machine that is paused: the platform then cuts its requests off."""

    LONG_S = 5

    def __init__(self):
        super().__init__(daemon=True)
        # The end of the last standstill.
        self.at = float("-inf")

    def run(self):
        before = time.monotonic()
        while True:
            time.sleep(0.2)
            now = time.monotonic()
            if now - before > self.LONG_S:
                self.at = now
            before = now


class Client(threading.Thread):
    """Does one thing after another, by lot, until the round is over."""

    def __init__(self, platform, number, turn, over, pulse):
        super().__init__()
        self.platform, self.number, self.over, self.pulse = platform, number, over, pulse
        self.lots = random.Random(f"{SEED} {number} {turn}")
        self.done, self.wrong = 0, []

    def run(self):
        acts = [self.call, self.call, self.fail, self.later, self.flow, self.leave, self.url, self.api, self.network]
        acts += [self.update] if self.number == 0 else [self.guest] if self.number == 1 else []
        while not self.over.is_set():
            act, began = self.lots.choice(acts), time.monotonic()
            try:
                act()
                self.done += 1
            except Exception as error:
                # The pulse may go on after us.
                time.sleep(0.5)
                if isinstance(error, AssertionError) or self.pulse.at < began:
                    self.wrong.append(f"{act.__name__}: {type(error).__name__}: {error}")

    def invoke(self, name, event, kind="RequestResponse", expected=(200, 202, 429)):
        headers = {"X-Amz-Invocation-Type": kind}
        path = f"/2015-03-31/functions/{name}/invocations"
        answer = self.platform.request("POST", path, json.dumps(event), headers)
        assert answer.status in expected, answer
        return answer

    def call(self):
        event = {"n": self.lots.randrange(1 << 30), "pad": "x" * self.lots.choice((0, 100, 100_000))}
        answer = self.invoke("Echo", event)
        assert answer.status == 429 or answer.json() == event

    def fail(self):
        # The last is over after a second, at the function's time-out.
        sources = ["os._exit(1)", "raise KeyError", "kept['all'] = [b'x'] * 1000", "time.sleep(2)"]
        self.invoke("Red", {"python": self.lots.choices(sources, [4, 4, 4, 1])[0]})

    def later(self):
        source = self.lots.choice(["answer = 1", "answer = 2", "os._exit(1)"])
        self.invoke("Turn", {"python": source}, "Event")

    def flow(self):
        source = f"for n in range({self.lots.randrange(20)}): write(b'x' * 10_000)"
        answer = self.platform.door("Flow", "/", "POST", json.dumps({"python": source}))
        assert answer.status in (200, 429), answer

    def leave(self):
        """A client that goes amid a stream, or amid a call."""
        body = json.dumps({"python": "for n in range(20): write(b'x' * 1000); time.sleep(0.01)"}).encode()
        head = f"POST /_onrush/door/Flow/ HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.platform.port), 10) as connection:
            connection.sendall(head + body)
            connection.recv(self.lots.choice((1, 1000)))

    def url(self):
        answer = self.platform.door("Echo", "/a?b=1", "PUT", b"c" * self.lots.randrange(1000))
        assert answer.status in (200, 429), answer

    def api(self):
        answer = self.platform.door("ServerlessRestApi", "/Prod/cart/7", headers={"x-puppet": "answer = {'statusCode': 201}"})
        assert answer.status in (201, 429, 500, 502), answer

    def network(self):
        event = {"python": network.CONNECT, "host": SERVER, "port": PORT, "keep": self.lots.random() < 0.3}
        answer = self.invoke("Blue", event)
        assert answer.status == 429 or answer.json() == ["hello"], answer

    def update(self):
        lambda_ = self.platform.client()
        with contextlib.closing(lambda_):
            match self.lots.randrange(4):
                case 0:
                    lambda_.update_function_configuration(FunctionName="Red", Description=str(self.lots.random()))
                case 1:
                    code = puppet.files() | {"note": str(self.lots.random())}
                    lambda_.update_function_code(FunctionName="Turn", ZipFile=packages.package(code))
                case 2:
                    lambda_.update_function_code(FunctionName="Turn", ZipFile=packages.package(puppet.files() | {"v": str(self.lots.random())}))
                    version = lambda_.publish_version(FunctionName="Turn")["Version"]
                    self.invoke(f"Turn:{version}", {"python": "answer = 1"})
                    lambda_.delete_function(FunctionName="Turn", Qualifier=version)
                case 3:
                    layer = lambda_.publish_layer_version(
                        LayerName="notes", Content={"ZipFile": packages.package({"note": str(self.lots.random())})}
                    )
                    lambda_.delete_layer_version(LayerName="notes", VersionNumber=layer["Version"])

    def guest(self):
        """A function that comes and goes."""
        name = f"guest-{self.lots.randrange(GUESTS)}"
        self.platform.create(name, packages.package(puppet.files()))
        self.invoke(name, {"python": "answer = 1"})
        self.invoke(name, {"python": "answer = 1"}, "Event")
        with contextlib.closing(self.platform.client()) as lambda_:
            lambda_.delete_function(FunctionName=name)


def test_a_line_tells_a_slow_leak_from_what_comes_and_goes():
    lots = random.Random(SEED)
    noise = [lots.gauss(0, 30) for _ in range(20)]
    flat, leaks = ([(30.0 * n, {"descriptors": 1300 + off + each * n}) for n, off in enumerate(noise)] for each in (0, 8))
    assert not census.trend(flat, "descriptors").is_growth(GAIN["descriptors"]), census.trend(flat, "descriptors")
    # Eight in half a minute, which jumps by thirty.
    assert census.trend(leaks, "descriptors").is_growth(GAIN["descriptors"]), census.trend(leaks, "descriptors")
    exact = census.trend([(60.0 * n, {"files": 5 + n}) for n in range(11)], "files")
    assert (round(exact.gained, 6), round(exact.unsure, 6), round(exact.hourly, 6)) == (10, 0, 60)


@pytest.mark.patience(int(SECONDS) * 2 + 120)
def test_what_is_held_does_not_grow(platform):
    taken, begun, turns, done = [], time.monotonic(), 0, 0
    print(f"seed {SEED}")
    pulse = Pulse()
    pulse.start()
    while time.monotonic() - begun < SECONDS or len(taken) <= WARM_ROUNDS:
        over = threading.Event()
        clients = [Client(platform, number, turns, over, pulse) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            over.wait(ROUND_S)
        finally:
            over.set()
        for client in clients:
            client.join()
        wrong = [line for client in clients for line in client.wrong]
        done += sum(client.done for client in clients)
        assert not wrong, (SEED, turns, wrong[:5])
        turns += 1
        found = census.settle(platform)
        taken.append((time.monotonic() - begun, found))
        print(f"{taken[-1][0]:6.0f} s {done:7} acts", "  ".join(f"{kind} {number:.4g}" for kind, number in found.items()), flush=True)
    platform.alive()
    third = len(taken) // 3
    warm, late = taken[: max(third, WARM_ROUNDS)], taken[-third:]
    more = {kind: (max(found[kind] for _, found in warm), statistics.median(found[kind] for _, found in late)) for kind in SLACK}
    grown = {kind: pair for kind, pair in more.items() if pair[1] > pair[0] + SLACK[kind]}
    line = taken[third:]
    if len(line) >= LINE:
        beside = lambda found: {kind: number - BESIDE_A_NETWORK.get(kind, 0) * found["networks"] for kind, number in found.items()}
        apart = [(at, beside(found)) for at, found in line]
        trends = {kind: census.trend(apart, kind) for kind in GAIN}
        print(f"the line through the last {len(line)} censuses, {line[-1][0] - line[0][0]:.0f} s:")
        for kind, found in trends.items():
            print(f"  {kind:12} {found.gained:+8.2f} +- {found.unsure:5.2f}, may be {GAIN[kind]:2}; in an hour {found.hourly:+8.1f}")
        if line[0][0] >= REST_S:
            grown |= {kind: found for kind, found in trends.items() if found.is_growth(GAIN[kind])}
    assert not grown, f"seed {SEED}: more than before: {grown}"
