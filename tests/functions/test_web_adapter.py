"""The unmodified Lambda Web Adapter in an image, before an ordinary web server that knows nothing of Lambda."""

import pytest

from support import images
from support.images import Image, Layer
from support.paths import BUILT
from support.platform import ROLE

# Made by scripts/build-test-functions, of the crate `lambda_web_adapter` as it is published.
ADAPTER = BUILT / "web-adapter/bin/lambda-adapter"

SERVER = """
import http.server, os, sys, time

time.sleep(0.3)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/boom":
            os._exit(3)
        body = f"{self.command} {self.path} {self.headers.get('x-one')} {self.rfile.read(self.length()).decode()}".encode()
        self.send_response(200 if self.path != "/tea" else 418)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.send_header("X-Has-Context", str("x-amzn-request-context" in self.headers))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def length(self):
        return int(self.headers.get("Content-Length", 0))

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def web(platform, tmp_path_factory):
    if not ADAPTER.is_file():
        pytest.skip("the web adapter is not built: scripts/build-test-functions")
    layer = Layer().folder("app").add("app/server.py", SERVER).folder("opt").folder("opt/extensions")
    layer.add("opt/extensions/lambda-adapter", ADAPTER.read_bytes(), 0o755)
    for path, target in images.libraries(str(ADAPTER)).items():
        layer.add("usr" + path if not path.startswith("/usr") else path[1:], open(target, "rb").read(), 0o755)
    image = Image(
        images.python_base(), layer, Cmd=["python3", "/app/server.py"], WorkingDir="/app",
        Env=["PORT=3000", "READINESS_CHECK_PATH=/health-check"],
    )
    folder = image.layout(tmp_path_factory.mktemp("adapter"))
    client = platform.client()
    client.create_function(
        FunctionName="web", Role=ROLE, PackageType="Image", Code={"ImageUri": str(folder)}, Timeout=20, MemorySize=512
    )
    platform.settled("web")
    client.create_function_url_config(FunctionName="web", AuthType="NONE")
    for action, condition in (("InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}), ("InvokeFunction", {})):
        client.add_permission(
            FunctionName="web", StatementId=action, Action=f"lambda:{action}", Principal="*", **condition
        )
    return "web"


def test_requests_reach_the_server_once_it_is_ready(platform, web):
    answer = platform.door(web, "/hello?a=b", headers={"x-one": "1"})
    assert (answer.status, answer.body) == (200, b"GET /hello?a=b 1 "), answer
    assert answer.headers["x-has-context"] == "True"
    answer = platform.door(web, "/post", "POST", b"body")
    assert (answer.status, answer.body) == (200, b"POST /post None body"), answer
    assert platform.door(web, "/tea").status == 418
    assert platform.metric("cold_starts", web) == 1
