"""The unmodified Lambda Web Adapter in an image, before an ordinary web server that knows nothing of Lambda."""

import http.client
import json
import re
import shutil
import sys

import pytest

from support import images
from support.images import Image, Layer
from support.paths import BUILT
from support.platform import ROLE, NotReady

# Made by scripts/build-test-functions, of the crate `lambda_web_adapter` as it is published.
ADAPTER = BUILT / "web-adapter/bin/lambda-adapter"
RUNTIME = f"python3.{min(max(sys.version_info.minor, 9), 14)}"
# The first Python function of a fresh clone installs its runtime.
pytestmark = pytest.mark.patience(400)

SERVER = """
import http.server, os, time

time.sleep(float(os.environ.get("STARTS_AFTER", 0.3)))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slowly":
            return self.slowly()
        body = f"{self.command} {self.path} {self.headers.get('x-one')} {self.rfile.read(self.length()).decode()}".encode()
        self.send_response(200 if self.path != "/tea" else 418)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        self.send_header("X-Has-Context", str("x-amzn-request-context" in self.headers))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def slowly(self):
        # The second piece comes long after whoever reads had the first.
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        for piece in (b"first", b"second"):
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(3)
        self.wfile.write(b"0\\r\\n\\r\\n")

    def length(self):
        return int(self.headers.get("Content-Length", 0))

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The image's layout."""
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
    return image.layout(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def serve(platform, folder):
    """A function of the image with variables of its own, and its URL; its name."""

    def make(name, mode="BUFFERED", **variables):
        client = platform.client()
        client.create_function(
            FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": str(folder)}, Timeout=20, MemorySize=512,
            Environment={"Variables": variables},
        )
        platform.settled(name)
        client.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode=mode)
        for action, condition in (("InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}), ("InvokeFunction", {})):
            client.add_permission(
                FunctionName=name, StatementId=action, Action=f"lambda:{action}", Principal="*", **condition
            )
        return name

    return make


def test_requests_reach_the_server_once_it_is_ready(platform, serve):
    web = serve("web")
    answer = platform.door(web, "/hello?a=b", headers={"x-one": "1"})
    assert (answer.status, answer.body) == (200, b"GET /hello?a=b 1 "), answer
    assert answer.headers["x-has-context"] == "True"
    answer = platform.door(web, "/post", "POST", b"body")
    assert (answer.status, answer.body) == (200, b"POST /post None body"), answer
    assert platform.door(web, "/tea").status == 418
    assert platform.metric("cold_starts", web) == 1


def test_a_server_that_starts_for_longer_than_init_is_waited_for_with_async_init(platform, serve):
    """The adapter asks for the first event before INIT's ten seconds are over, and holds it until the server is ready."""
    web = serve("late", AWS_LWA_ASYNC_INIT="true", STARTS_AFTER="11")
    answer = platform.door(web, "/hello")
    assert (answer.status, answer.body) == (200, b"GET /hello None "), (answer, platform.log(web))
    assert platform.metric("cold_starts", web) == 1
    (report,) = [line for line in platform.log(web) if line.startswith("REPORT")]
    assert 9_000 < float(re.search(r"Init Duration: ([\d.]+) ms", report)[1]) < 10_000, report


def test_a_stream_of_the_servers_passes_piece_by_piece(platform, serve):
    web = serve("streams", "RESPONSE_STREAM", AWS_LWA_INVOKE_MODE="response_stream")
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=60)
    try:
        connection.request("GET", f"/_onrush/door/{web}/slowly")
        answer = connection.getresponse()
        assert (answer.status, answer.headers.get_all("set-cookie")) == (200, ["a=1", "b=2"]), answer.headers
        assert answer.read1() == b"first"
        assert platform.alive()["in_flight"] == 1, "the first piece did not wait for the second"
        assert answer.read() == b"second"
    finally:
        connection.close()


def test_a_zip_runs_behind_the_layer_that_its_template_names(start, tmp_path):
    """As the adapter's own examples have it: the layer is of another account, and its script takes the runtime's place."""
    if not ADAPTER.is_file():
        pytest.skip("the web adapter is not built: scripts/build-test-functions")
    home = tmp_path / "web"
    home.mkdir()
    (home / "server.py").write_text(SERVER.replace("3000", "8080"))
    (home / "run.sh").write_text("#!/bin/sh\nexec python3 server.py\n")
    (home / "run.sh").chmod(0o755)
    layer = tmp_path / "layer/extensions"
    layer.mkdir(parents=True)
    shutil.copy(ADAPTER, layer / "lambda-adapter")
    (tmp_path / "layer/bootstrap").write_text('#!/bin/sh\nexec "$LAMBDA_TASK_ROOT/$_HANDLER"\n')
    (tmp_path / "layer/bootstrap").chmod(0o755)
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", "AWS_LWA_READINESS_CHECK_PATH": "/health-check"}
    arn = {"Fn::Sub": "arn:aws:lambda:${AWS::Region}:753240598075:layer:LambdaAdapterLayerX86:25"}
    events = {"Any": {"Type": "Api", "Properties": {"Path": "/{proxy+}", "Method": "ANY"}}}
    web = {"CodeUri": "web/", "Handler": "run.sh", "Runtime": RUNTIME, "Timeout": 20, "MemorySize": 512, "Layers": [arn]}
    resources = {"Web": {"Type": "AWS::Serverless::Function", "Properties": web | {"Events": events, "Environment": {"Variables": variables}}}}
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    platform = start("--layer", f"LambdaAdapterLayerX86={tmp_path}/layer", home=tmp_path, template=template)
    (door,) = [door["id"] for door in platform.summary["doors"]]
    answer = platform.door(door, "/Prod/hello")
    assert (answer.status, answer.body) == (200, b"GET /hello None "), (answer, platform.stderr())
    assert "run.py" not in platform.stderr(), "the handler is no module here"
    platform.stop()
    bare = start(home=tmp_path, template=template)
    assert bare.tells("runs without this layer") and bare.tells("--layer LambdaAdapterLayerX86=PATH"), bare.stderr()
    bare.stop()
    with pytest.raises(NotReady, match="there is no folder or zip `nowhere.zip`"):
        start("--layer", "LambdaAdapterLayerX86=nowhere.zip", home=tmp_path, template=template)
