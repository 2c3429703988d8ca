"""A real `onrush up` in a folder of its own, and the ways to talk to it."""

import base64
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

import boto3
import botocore.config

from support import http
from support.leftovers import Belongings
from support.paths import BINARY, BUILT, RUNTIMES

READY_S = 90
STOP_S = 10
GONE_S = 10
ROLE = "arn:aws:iam::000000000000:role/execution"


class NotReady(Exception):
    """`up` ended, or stayed silent; holds what it said."""


class Result:
    """What an Invoke came to."""

    def __init__(self, answer):
        self.status, self.headers, self.body = answer.status, answer.headers, answer.body
        self.error = answer.headers.get("X-Amz-Function-Error")
        self.request_id = answer.headers.get("x-amzn-RequestId")
        self.log = base64.b64decode(answer.headers.get("X-Amz-Log-Result", "")).decode(errors="replace")

    def json(self):
        return json.loads(self.body)

    def line(self, start):
        """The one line of the log that starts so."""
        lines = [line for line in self.log.split("\n") if line.startswith(start)]
        assert len(lines) == 1, f"{len(lines)} lines start with {start!r} in:\n{self.log}"
        return lines[0]

    def __repr__(self):
        return f"HTTP {self.status} error={self.error} body={self.body[:2000]!r} log:\n{self.log}"


class Platform:
    """One `onrush up`. Use it as a context, or call `stop` or `kill`."""

    def __init__(self, *arguments, home=None, template=None, user=None, open_files=None, binary=BINARY, port=0, command="up", errors=None, umask=-1):
        self.home = pathlib.Path(home or tempfile.mkdtemp(prefix="onrush-test-", dir="/tmp"))
        self.owns_home = home is None
        self.data_dir = self.home / "data"
        self.process = None
        try:
            self._start(arguments, template, user, open_files, [str(binary), command], port, errors, umask)
        except BaseException:
            self.close()
            raise

    def _start(self, arguments, template, user, open_files, program, port, errors, umask):
        self.home.chmod(0o755)
        self.data_dir.mkdir(exist_ok=True)
        if user is not None:
            os.chown(self.data_dir, user, user)
        elif BUILT.is_dir():
            RUNTIMES.mkdir(parents=True, exist_ok=True)
            if not (self.data_dir / "runtimes").exists():
                (self.data_dir / "runtimes").symlink_to(RUNTIMES)
        command = [*program, *([str(template)] if template else []), *arguments]
        if "--world" not in arguments:
            # Only one platform at a time can have the host's.
            command += ["--world", "none"]
        command += ["--port", str(port), "--output", "json", "--data-dir", str(self.data_dir)]
        if open_files is not None:
            command = ["prlimit", f"--nofile={open_files}", *command]
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        # Whoever runs the tests may have had it ignored, as `nohup` does.
        command = ["env", "--default-signal=HUP", *command]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ONRUSH_", "AWS_"))}
        if user is not None:
            environment |= {"HOME": "/nonexistent", "USER": "nobody"}
        self.errors = open(self.home / "stderr", "ab+")
        self.errors_from = self.errors.seek(0, os.SEEK_END)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors if errors is None else errors,
            cwd=self.home,
            env=environment,
            start_new_session=True,
            umask=umask,
        )
        self.summary = self._wait_ready()
        self.url = self.summary["ready"]
        self.port = int(self.url.rsplit(":", 1)[1])

    def _wait_ready(self):
        deadline, text = time.monotonic() + READY_S, b""
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([self.process.stdout], [], [], left)
            piece = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            text += piece
            for line in text.split(b"\n")[:-1]:
                if line.startswith(b"{") and b'"ready"' in line:
                    return json.loads(line)
            if readable and not piece:
                code = self.process.wait(STOP_S)
                raise NotReady(f"`up` ended with {code}:\n{self.stderr()}")
        raise NotReady(f"`up` was not ready in {READY_S} s:\n{self.stderr()}")

    # ---- Ends -----------------------------------------------------------------------------------------------------

    def belongings(self):
        return Belongings(self.process.pid, self.data_dir)

    def stop(self, how=signal.SIGINT):
        """Ctrl-C; the exit code. Fails when anything is left behind."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        belongings = self.belongings()
        self.process.send_signal(how)
        code = self.process.wait(STOP_S)
        # The kernel may still be at it: hundreds of file systems take their time on a busy machine.
        if found := belongings.wait_gone(GONE_S):
            belongings.clear()
            raise AssertionError("left behind:\n" + "\n".join(found) + "\n" + self.stderr())
        return code

    def kill(self):
        """kill -9; what belonged to it."""
        belongings = self.belongings()
        self.process.kill()
        self.process.wait(STOP_S)
        return belongings

    def close(self):
        """Stops it, whatever state it is in, and removes its folder."""
        try:
            if self.process is not None:
                try:
                    self.stop()
                finally:
                    if self.process.poll() is None:
                        belongings = self.kill()
                        belongings.wait_gone(GONE_S)
                        belongings.clear()
                    self.process.stdout.close()
                    self.errors.close()
        finally:
            if self.owns_home:
                shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def alive(self):
        """It runs, and says that it is well."""
        assert self.process.poll() is None, f"the platform ended with {self.process.returncode}:\n{self.stderr()}"
        answer = self.request("GET", "/_onrush/health")
        assert answer.status == 200 and answer.json()["status"] == "ok", answer
        return answer.json()

    # ---- Looks ----------------------------------------------------------------------------------------------------

    def stderr(self):
        path = self.home / "stderr"
        return path.read_bytes()[self.errors_from :].decode(errors="replace") if path.exists() else ""

    def tells(self, text, times=1, seconds=10):
        """Whether standard error has that, so often at least; a line of it may come after the answer that it is about."""
        deadline = time.monotonic() + seconds
        while self.stderr().count(text) < times and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.stderr().count(text) >= times

    def log(self, function):
        """The lines of a function's log that are still in memory."""
        answer = self.request("GET", f"/_onrush/logs/{function}")
        assert answer.status == 200, answer
        return [line["text"] for line in answer.json()["lines"]]

    def metric(self, name, function):
        """A counter: `throttles` for instance."""
        start = f'onrush_{name}_total{{function="{function}"}} '
        text = self.request("GET", "/_onrush/metrics").body.decode()
        values = [int(line[len(start) :]) for line in text.splitlines() if line.startswith(start)]
        assert len(values) == 1, text
        return values[0]

    def limit(self, limit, resource):
        """A row of the limits board."""
        rows = self.request("GET", "/_onrush/limits").json()["limits"]
        found = [row for row in rows if row["id"] == limit and row["resource"] == resource]
        assert len(found) == 1, rows
        return found[0]

    def wait_idle(self, seconds=30):
        """Waits until no invocation is in flight."""
        deadline = time.monotonic() + seconds
        while self.request("GET", "/_onrush/health").json()["in_flight"]:
            assert time.monotonic() < deadline, "invocations are still in flight"
            time.sleep(0.02)

    # ---- Clients --------------------------------------------------------------------------------------------------

    def request(self, method, path, body=None, headers=None, timeout=http.PATIENCE_S):
        return http.request(self.port, method, path, body, headers, timeout)

    def door(self, name, path="/", method="GET", body=None, headers=None, timeout=http.PATIENCE_S):
        """A door by the path that needs no name resolution."""
        return self.request(method, f"/_onrush/door/{name}{path}", body, headers, timeout)

    def client(self, region="us-east-1", timeout=http.PATIENCE_S):
        """boto3 without retries, so that a test sees each answer."""
        config = botocore.config.Config(
            retries={"total_max_attempts": 1}, read_timeout=timeout, max_pool_connections=64
        )
        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=config,
        )

    def create(self, name, code, runtime="provided.al2023", handler="bootstrap", variables=None, **settings):
        """A function, active when this returns; settings are those of CreateFunction."""
        if variables:
            settings["Environment"] = {"Variables": variables}
        client = self.client()
        client.create_function(
            FunctionName=name, Runtime=runtime, Role=ROLE, Handler=handler, Code={"ZipFile": code}, **settings
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
        client.close()
        return name

    def settled(self, name, seconds=http.PATIENCE_S):
        """A function's configuration once nothing of it is being made or changed: images are fetched in the background."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.request("GET", f"/2015-03-31/functions/{name}/configuration")
            assert answer.status == 200, answer
            shown = answer.json()
            if shown["State"] != "Pending" and shown.get("LastUpdateStatus") != "InProgress":
                return shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.02)

    def invoke(self, name, event=None, body=None, headers=None, query="", timeout=http.PATIENCE_S, whole=True):
        """Invoke with the log's tail. `body` is sent as it is, `event` as JSON.

        A runtime that is slow to ask for its next event is still busy when its caller has the answer: with `whole` this
        waits for the invocation's end, so that the next one finds the environment free, and the log complete.
        """
        if body is None and event is not None:
            body = json.dumps(event)
        path = f"/2015-03-31/functions/{name}/invocations{query}"
        answer = self.request("POST", path, body, {"X-Amz-Log-Type": "Tail"} | (headers or {}), timeout)
        result = Result(answer)
        if whole and result.log and f"REPORT RequestId: {result.request_id}" not in result.log:
            self._complete(name, result)
        return result

    def _complete(self, name, result):
        """Waits for the REPORT line and puts the invocation's whole log into the result."""
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            page = self.request("GET", f"/_onrush/logs/{name}")
            lines = [line["text"] for line in page.json()["lines"]] if page.status == 200 else []
            ends = [n for n, line in enumerate(lines) if line.startswith(f"REPORT RequestId: {result.request_id}")]
            if ends or page.status != 200:
                begins = [n for n, line in enumerate(lines) if line.startswith(f"START RequestId: {result.request_id}")]
                result.log = "".join(line + "\n" for line in lines[(begins or [0])[0] : (ends or [0])[0] + 1])
                return
            time.sleep(0.01)
