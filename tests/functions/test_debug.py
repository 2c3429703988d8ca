"""`--debug-port`: a debugger on the host reaches the runtime inside its environment."""

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request

import pytest

from support.paths import BINARY

PYTHON = f"python3.{min(max(sys.version_info.minor, 9), 14)}"
pytestmark = [
    pytest.mark.patience(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="entering an environment's network takes root"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def template(home, runtime, files):
    home.chmod(0o755)
    (home / "cart").mkdir()
    for name, text in files.items():
        (home / "cart" / name).write_text(text)
    properties = {"CodeUri": "cart/", "Handler": "app.handler", "Runtime": runtime, "FunctionName": "cart"}
    cart = {"Type": "AWS::Serverless::Function", "Properties": properties}
    path = home / "template.json"
    path.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Cart": cart}}))
    return path


class Inspector:
    """A WebSocket client that is just enough for Node's inspector."""

    def __init__(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            (target,) = json.load(answer)
        path = target["webSocketDebuggerUrl"].split("/", 3)[3]
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.socket.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        assert b" 101 " in self.file.readline()
        while self.file.readline().strip():
            pass

    def send(self, number, method, **parameters):
        data = json.dumps({"id": number, "method": method, "params": parameters}).encode()
        size = struct.pack("!BB", 0x81, 0x80 | len(data)) if len(data) < 126 else struct.pack("!BBH", 0x81, 0xFE, len(data))
        self.socket.sendall(size + bytes(4) + data)

    def until(self, wanted):
        while True:
            _, size = self.file.read(2)
            size = struct.unpack("!H", self.file.read(2))[0] if size == 126 else size
            message = json.loads(self.file.read(size))
            if wanted(message):
                return message

    def call(self, number, method, **parameters):
        self.send(number, method, **parameters)
        return self.until(lambda message: message.get("id") == number)


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_nodes_inspector_is_reached_and_the_idle_environment_answers(start, tmp_path):
    version = subprocess.run(["node", "-p", "process.versions.node.split('.')[0]"], capture_output=True, text=True).stdout.strip()
    path = template(tmp_path, f"nodejs{version}.x", {"app.js": "exports.handler = async (event) => event.n + 1;"})
    port = free_port()
    platform = start("--debug-port", str(port), home=tmp_path, template=path)
    assert platform.invoke("cart", {"n": 1}).json() == 2
    inspector = Inspector(port)
    look = inspector.call(1, "Runtime.evaluate", expression="process.env.AWS_LAMBDA_FUNCTION_NAME")
    assert look["result"]["result"]["value"] == "cart", look
    # Its invocations go on, with the debugger attached.
    assert platform.invoke("cart", {"n": 2}).json() == 3
    assert platform.client().get_function_configuration(FunctionName="cart")["Timeout"] == 900


def test_debugpy_listens_when_the_function_brings_it(start, tmp_path):
    module = """
import socket, threading
def listen(address):
    server = socket.create_server(address)
    def serve():
        while True:
            connection, _ = server.accept()
            connection.sendall(b"debugpy of " + __file__.encode())
            connection.close()
    threading.Thread(target=serve, daemon=True).start()
"""
    path = template(tmp_path, PYTHON, {"app.py": "def handler(event, context): return 1\n", "debugpy.py": module})
    port = free_port()
    platform = start("--debug-port", str(port), "--debug-function", "Cart", home=tmp_path, template=path)
    # A debugger that comes first waits for the environment.
    early = socket.create_connection(("127.0.0.1", port), 60)
    time.sleep(0.2)
    assert platform.invoke("cart").json() == 1
    assert early.makefile("rb").read() == b"debugpy of /var/task/debugpy.py"


def test_a_function_without_debugpy_says_so_and_runs(start, tmp_path):
    path = template(tmp_path, PYTHON, {"app.py": "def handler(event, context): return 1\n"})
    platform = start("--debug-port", str(free_port()), home=tmp_path, template=path)
    result = platform.invoke("cart")
    assert result.json() == 1
    assert any("debugpy cannot be imported" in line for line in platform.log("cart"))


def test_what_cannot_be_debugged_is_refused(tmp_path):
    path = template(tmp_path, "provided.al2023", {"bootstrap": "#!/bin/sh\n"})

    def refused(*arguments):
        command = [str(BINARY), "up", str(path), "--port", "0", "--world", "none", "--data-dir", str(tmp_path / "data"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 2, done
        return done.stderr

    assert "Cart runs provided.al2023" in refused("--debug-port", "5858")
    assert "no function Card; there is Cart" in refused("-d", "5858", "--debug-function", "Card")
    assert "--debug-port" in refused("--debug-function", "Cart")
