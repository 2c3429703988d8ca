"""Registries on loopback: Debian's `docker-registry`, and one of ours that wants tokens and sends elsewhere for blobs."""

import base64
import crypt
import http.client
import http.server
import json
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest

from support import images

USER, PASSWORD = "puller", "secret"


class Registry:
    """`docker-registry serve`, with a password if asked for."""

    def __init__(self, folder, password=False):
        program = shutil.which("docker-registry")
        if program is None:
            pytest.skip("docker-registry is not installed: apt-get install docker-registry")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        lines = [
            "version: 0.1", "log: {level: error}", f"storage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}",
            f"http: {{addr: '{self.host}'}}",
        ]
        self.headers = {}
        if password:
            users = folder / "users"
            users.write_text(f"{USER}:{crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n")
            lines.append(f"auth: {{htpasswd: {{realm: tests, path: {users}}}}}")
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (folder / "config.yml").write_text("\n".join(lines))
        self.process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, "docker-registry did not start"
                time.sleep(0.02)

    def close(self):
        self.process.kill()
        self.process.wait()

    def _call(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {**self.headers, **headers})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 300, (answer.status, text)
        return answer

    def push(self, image, name, tag):
        """Puts an image there; the digest of its manifest."""
        for blob in image.blobs():
            place = self._call("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
            path = place.split(self.host, 1)[-1]
            self._call("PUT", f"{path}&digest={images.digest(blob)}", blob)
        kind = {"Content-Type": f"{images.TYPE}.manifest.v1+json"}
        self._call("PUT", f"/v2/{name}/manifests/{tag}", image.manifest, **kind)
        return images.digest(image.manifest)


class TokenRegistry:
    """A registry that wants a token from elsewhere, offers two platforms, and keeps its blobs at another address. With a
    certificate of `certificate` it speaks TLS, under the name `registry.test`; a token is good for `uses` answers. Of the blobs
    in `held` it gives half, and the rest when they are there no more; who left before is in `left_early`."""

    def __init__(self, image, tls=None, uses=1_000_000):
        manifest = images.descriptor(f"{images.TYPE}.manifest.v1+json", image.manifest)
        other = {**manifest, "digest": images.digest(b"other"), "platform": {"os": "linux", "architecture": "s390x"}}
        mine = {**manifest, "platform": {"os": "linux", "architecture": images.ARCHITECTURE}}
        self.index = images.as_json({"schemaVersion": 2, "manifests": [other, mine]})
        self.content = {images.digest(blob): blob for blob in [image.manifest, *image.blobs()]}
        self.asked = []
        self.held, self.left_early = set(), []
        self.uses, self.left, self.tokens = uses, {}, 0
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def token(self):
                registry.tokens += 1
                registry.left[f"Bearer t0ken-{registry.tokens}"] = registry.uses
                return self.answer(200, json.dumps({"access_token": f"t0ken-{registry.tokens}"}).encode())

            def hold(self, digest):
                content = registry.content[digest]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                while digest in registry.held:
                    time.sleep(0.02)
                    # Nobody sends anything here: what can be read is the end.
                    if select.select([self.connection], [], [], 0)[0]:
                        registry.left_early.append(digest)
                        self.close_connection = True
                        return
                self.wfile.write(registry.content[digest][len(content) // 2 :])

            def do_POST(self):
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                registry.asked.append((self.path, dict(urllib.parse.parse_qsl(form))))
                self.token()

            def do_GET(self):
                base = f"{'https' if tls else 'http'}://{registry.host if tls else f'127.0.0.1:{registry.port}'}"
                registry.asked.append((self.path, self.headers.get("Authorization")))
                digest = self.path.split("/")[-1]
                if self.path.startswith("/token?"):
                    return self.token()
                if self.path.startswith("/elsewhere/"):
                    return self.hold(digest) if digest in registry.held else self.answer(200, registry.content[digest])
                token = self.headers.get("Authorization")
                registry.left[token] = registry.left.get(token, 0) - 1
                if registry.left[token] < 0:
                    challenge = f'Bearer realm="{base}/token",service="tests",scope="repository:team/app:pull"'
                    return self.answer(401, WWW_Authenticate=challenge)
                if self.path == "/v2/team/app/manifests/v1":
                    return self.answer(200, registry.index)
                if "/manifests/" in self.path and digest in registry.content:
                    return self.answer(200, registry.content[digest])
                if "/blobs/" in self.path:
                    to = base if tls else f"http://localhost:{registry.port}"
                    return self.answer(307, Location=f"{to}/elsewhere/{digest}")
                self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.host = f"{'registry.test' if tls else '127.0.0.1'}:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def certificate(folder):
    """A certificate for `registry.test` that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    made = folder / "certificate.pem", folder / "key.pem"
    words = ["-subj", "/CN=registry.test", "-addext", "subjectAltName=DNS:registry.test", "-addext", "basicConstraints=critical,CA:FALSE"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([openssl, "req", "-x509", *key, "-out", made[0], "-keyout", made[1], "-days", "2", *words], check=True, capture_output=True)
    return made


class Proxy:
    """An HTTP proxy that wants a password and leads every CONNECT to one port of this machine."""

    def __init__(self, port):
        self.asked = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_CONNECT(self):
                proxy.asked.append((self.path, self.headers.get("Proxy-Authorization")))
                if not self.headers.get("Proxy-Authorization"):
                    return self.send_error(407)
                with socket.create_connection(("127.0.0.1", port)) as server:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=pass_on, args=(server, self.connection), daemon=True)
                    back.start()
                    pass_on(self.connection, server)
                    back.join(20)
                self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    close = TokenRegistry.close


def pass_on(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
