"""Extensions beside functions: Rust on the public crate, Python scripts and internal ones; telemetry over HTTP and TCP;
logs in JSON; and extensions that misbehave in every way, which end their environment and never the platform."""

import json
import time

import pytest

from support import extensions, packages, puppet
from support.extensions import layer, publish
from support.report import report

READ = "answer = open('/tmp/%s').read()"
LOOP = "while True: next()\n"


@pytest.fixture
def function(platform, request):
    """A puppet under the test's name, with a layer of extensions."""
    made = []

    def make(content=None, suffix="", **settings):
        name = (request.node.name + suffix).replace("_", "-")[-60:].strip("-").replace("[", "-").replace("]", "")
        if content is not None:
            settings["Layers"] = [publish(platform, name, content)]
        made.append(name)
        settings.setdefault("Timeout", 20)
        return platform.create(name, packages.package(puppet.files()), **settings)

    yield make
    client = platform.client()
    for name in made:
        client.delete_function(FunctionName=name)
    client.close()


def run(platform, name, code):
    # A log in JSON has no line that says REPORT: it is not waited for.
    answer = platform.invoke(name, {"python": code}, whole=False)
    assert answer.error is None, answer
    return answer.json()


def soon(look, wanted, seconds=10):
    """Looks until what is wanted is there; what was seen."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)


def noted(platform, name, extension, wanted):
    """The lines that an extension has noted, once they are as wanted; each look is an invocation."""

    def look():
        lines = run(platform, name, READ % extension)
        # Before anything is noted there is no file.
        return [] if isinstance(lines, dict) else lines.splitlines()

    return soon(look, wanted)


def events_of(lines):
    return [json.loads(line) for line in lines if line.startswith("{")]


def types_of(lines):
    return [event["type"] for event in events_of(lines)]


def assert_told_in_order(lines):
    """What the platform tells of a first invocation, and what the extension wrote."""
    assert [event["record"] for event in events_of(lines) if event["type"] == "extension"][0] == "extension says"
    order = [kind.removeprefix("platform.") for kind in types_of(lines) if kind.startswith("platform.")]
    wanted = ["initStart", "telemetrySubscription", "initRuntimeDone", "extension", "initReport", "start"]
    assert order[:6] == wanted and order.index("runtimeDone") < order.index("report"), order


def log_until(platform, name, wanted):
    return soon(lambda: platform.log(name), lambda lines: any(wanted in line for line in lines))


# ---- The public crate ---------------------------------------------------------------------------------------------


def test_an_extension_on_the_public_crate_hears_of_everything(platform, function):
    binary = (packages.BUILT / "watcher/bootstrap").read_bytes()
    name = function(layer(watcher=binary))
    first = platform.invoke(name, {"python": "print('from the function', flush=True)"})
    assert first.error is None, first
    lines = noted(platform, name, "watcher", lambda lines: "platform.report" in types_of(lines))
    assert f"INVOKE {first.request_id} arn:aws:lambda:us-east-1:000000000000:function:{name}" in lines
    found = events_of(lines)
    kinds = [event["type"] for event in found]
    for kind in ["initStart", "telemetrySubscription", "initRuntimeDone", "extension", "initReport", "start"]:
        assert f"platform.{kind}" in kinds, kinds
    records = {event["type"]: event["record"] for event in reversed(found)}
    assert records["platform.extension"] == {
        "name": "watcher",
        "state": "Ready",
        "events": ["INVOKE", "SHUTDOWN"],
    }
    assert records["platform.runtimeDone"]["status"] == "success"
    assert records["function"] == "from the function"
    figures = records["platform.report"]["metrics"]
    assert figures["memorySizeMB"] == 128 and figures["billedDurationMs"] >= 1, figures
    log = platform.log(name)
    assert "EXTENSION\tName: watcher\tState: Ready\tEvents: [INVOKE,SHUTDOWN]" in log, log
    assert "TELEMETRY\tName: watcher\tState: Subscribed\tTypes: [Platform, Function]" in log, log
    assert f"watcher: INVOKE {first.request_id} arn:aws:lambda:us-east-1:000000000000:function:{name}" in log, log


# ---- Order, environment, answers ------------------------------------------------------------------------------------


def test_extensions_start_by_name_before_the_runtime_and_see_less(platform, function):
    code = """
note(json.dumps(dict(os.environ, cwd=os.getcwd())))
os.write(1, b"my own line\\n")
status, body = register("INVOKE", **{"Lambda-Extension-Accept-Feature": "accountId"})
note(json.dumps(body))
"""
    name = function(layer(**{"2-second": code + LOOP, "1-first": code + LOOP}), Environment={"Variables": {"MINE": "1"}})
    environment, body = map(json.loads, run(platform, name, READ % "1-first").splitlines())
    assert body == {
        "functionName": name,
        "functionVersion": "$LATEST",
        "handler": "bootstrap",
        "accountId": "000000000000",
    }
    assert environment["MINE"] == "1" and environment["AWS_LAMBDA_FUNCTION_NAME"] == name
    assert environment.pop("cwd") == "/"
    hidden = {"_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_EXECUTION_ENV"}
    hidden |= {"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "PWD"}
    hidden |= {"_AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_PORT"}
    assert not hidden & set(environment), environment
    log = platform.log(name)
    assert log.count("my own line") == 2, log
    ready = [line for line in log if line.startswith("EXTENSION")]
    assert sorted(ready) == [f"EXTENSION\tName: {n}\tState: Ready\tEvents: [INVOKE]" for n in ("1-first", "2-second")]
    seen = run(platform, name, "answer = sorted(os.listdir('/opt/extensions'))")
    assert seen == ["1-first", "2-second"]


def test_long_lines_of_two_extensions_do_not_mix(platform, function):
    # More than one write carries at once, and without a pause: in one pipe they would cut each other up. All of it is less than
    # the megabyte that is kept of a log.
    code = """
register("INVOKE", "SHUTDOWN")
next()
os.set_blocking(1, True)
for _ in range(20):
    text = b"<" + NAME.encode() * 20000 + b">\\n"
    while text: text = text[os.write(1, text[:5000]):]
note("done")
""" + LOOP
    name = function(layer(a=code, b=code), MemorySize=1769)
    run(platform, name, "answer = 1")
    for extension in "ab":
        noted(platform, name, extension, lambda lines: lines == ["done"])
    lines = [line for line in platform.log(name) if "<" in line or ">" in line]
    assert sorted(set(lines)) == [f"<{extension * 20000}>" for extension in "ab"], {line[:50] for line in lines}
    assert len(lines) == 40


def test_an_answer_does_not_wait_for_an_extension_but_the_report_does(platform, function):
    code = """
register("INVOKE")
next()
while True:
    time.sleep(1)
    next()
"""
    name = function(layer(slow=code))
    begun = time.monotonic()
    # Who wants the log waits for its end; this caller does not.
    answer = platform.request("POST", f"/2015-03-31/functions/{name}/invocations", json.dumps({"python": "answer = 5"}))
    took = time.monotonic() - begun
    assert (answer.status, answer.body) == (200, b"5")
    lines = log_until(platform, name, "REPORT RequestId")
    end = [line for line in lines if line.startswith("REPORT")][-1]
    duration = float(end.split("Duration: ")[1].split(" ms")[0])
    assert duration >= 1000, end
    assert took < 1 + float(end.split("Init Duration: ")[1].split(" ms")[0]) / 1000, (took, end)


def test_a_time_out_counts_extensions_and_tells_them(platform, function):
    code = """
register("INVOKE", "SHUTDOWN")
event = next()
note(event["eventType"])
time.sleep(1.5)
event = next()
note(event["eventType"] + " " + event["shutdownReason"] + " " + str(event["deadlineMs"] > time.time() * 1000))
"""
    name = function(layer(slow=code), Timeout=1)
    answer = platform.invoke(name, {"python": "answer = 1"})
    assert answer.json() == 1, answer
    values = report(answer)
    assert (values["Status"], values["Duration"]) == ("timeout", 1000.0), values
    # Once it has had its time, another life of the same environment: /tmp is what it was.
    platform.wait_idle()
    lines = run(platform, name, READ % "slow").splitlines()
    assert lines[:2] == ["INVOKE", "SHUTDOWN timeout True"], lines


def test_the_runtime_gets_sigterm_where_there_is_an_extension(platform, start):
    own = start()
    code = """
register("SHUTDOWN")
event = next()
print("told", event["eventType"], event["shutdownReason"])
"""
    trap = "import signal\nsignal.signal(15, lambda *_: (print('got SIGTERM', flush=True), os._exit(0)))"
    arn = publish(own, "told", layer(told=code))
    own.create("with", packages.package(puppet.files()), Layers=[arn])
    own.create("without", packages.package(puppet.files()))
    for name in ("with", "without"):
        run(own, name, trap)
    own.stop()
    text = {name: (own.data_dir / f"logs/{name}.log").read_text() for name in ("with", "without")}
    lines = [line.split("\t", 1)[1] for line in text["with"].splitlines()]
    assert lines[-2:] == ["got SIGTERM", "told SHUTDOWN spindown"], lines
    assert "SIGTERM" not in text["without"]


def test_an_update_tells_the_extensions_of_old_environments(platform, function):
    code = """
register("SHUTDOWN")
print("told", next()["shutdownReason"])
"""
    name = function(layer(told=code))
    run(platform, name, "answer = 1")
    client = platform.client()
    client.update_function_configuration(FunctionName=name, Description="new")
    client.close()
    log_until(platform, name, "told spindown")


def test_an_internal_extension_registers_from_the_runtime(platform, function):
    # The puppet's own connection, used before its first `next`.
    internal = puppet.BOOTSTRAP.replace(
        "count = 0\n",
        """
import threading
ext = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def extension(method, path, headers, body=None):
    ext.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = ext.getresponse()
    return answer.status, answer.headers, json.loads(answer.read())


refused = extension("POST", "register", {"Lambda-Extension-Name": "inside"}, '{"events":["SHUTDOWN"]}')[2]
status, headers, _ = extension("POST", "register", {"Lambda-Extension-Name": "inside"}, '{"events":["INVOKE"]}')
identity = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
heard = []


def listen():
    while True:
        heard.append(extension("GET", "event/next", identity)[2])


threading.Thread(target=listen, daemon=True).start()
count = 0
""",
        1,
    ).replace("count=count", "count=count, heard=heard, refused=refused")
    name = function()
    client = platform.client()
    client.update_function_code(FunctionName=name, ZipFile=packages.package({"bootstrap": (internal, 0o755)}))
    client.close()
    answer = platform.invoke(name, {"python": "time.sleep(0.2)\nanswer = [refused, [e['requestId'] for e in heard]]"})
    refused, heard = answer.json()
    assert refused["errorType"] == "Extension.InvalidEventType", refused
    assert "ShutdownEventNotSupportedForInternalExtension" in refused["errorMessage"]
    assert heard == [answer.request_id]
    assert "EXTENSION\tName: inside\tState: Ready\tEvents: [INVOKE]" in platform.log(name)


# ---- Telemetry ------------------------------------------------------------------------------------------------------

HTTP_SINK = """
class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        note(f"{self.path} {self.headers['Content-Type']}")
        for event in json.loads(body):
            note(json.dumps(event))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("sandbox.localdomain", 4243), Sink)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""

TCP_SINK = """
listener = socket.create_server(("0.0.0.0", 4243))


def serve():
    while True:
        connection, _ = listener.accept()
        for line in connection.makefile():
            note(line.rstrip())


threading.Thread(target=serve, daemon=True).start()
"""


def test_telemetry_comes_over_http_with_json_lines_whole(platform, function):
    code = (
        HTTP_SINK
        + """
register("INVOKE")
wanted = dict(schemaVersion="2022-12-13", types=["platform", "function", "extension"], buffering=dict(timeoutMs=25))
note("%s" % (subscribe("/2022-07-01/telemetry", **wanted, destination=dict(protocol="HTTP", URI="http://sandbox.localdomain"))[0],))
subscribe("/2022-07-01/telemetry", **wanted, destination=dict(protocol="HTTP", URI="http://sandbox.localdomain:4243/x"))
print("extension says")
"""
        + LOOP
    )
    name = function(layer(sink=code), LoggingConfig={"LogFormat": "JSON"})
    run(platform, name, "print(json_line := '{\"level\": \"ERROR\", \"n\": 1}', flush=True)\nprint('plain', flush=True)")
    lines = noted(platform, name, "sink", lambda lines: "platform.report" in types_of(lines))
    assert lines[0] == "400" and "/x application/json" in lines
    found = events_of(lines)
    records = [event["record"] for event in found if event["type"] == "function"]
    assert records[:2] == [{"level": "ERROR", "n": 1}, "plain"], records
    assert_told_in_order(lines)


def test_the_logs_api_comes_over_tcp_in_its_own_shapes(platform, function):
    code = (
        TCP_SINK
        + """
register("INVOKE")
wanted = dict(types=["platform", "function"], buffering=dict(timeoutMs=25), destination=dict(protocol="TCP", port=4243))
subscribe("/2020-08-15/logs", schemaVersion="2021-03-18", **wanted)
"""
        + LOOP
    )
    name = function(layer(sink=code))
    run(platform, name, "print('a line', flush=True)")
    lines = noted(platform, name, "sink", lambda lines: "platform.report" in types_of(lines))
    kinds = types_of(lines)
    wanted = ["logsSubscription", "extension", "start", "function", "runtimeDone", "end", "report"]
    assert [kind.removeprefix("platform.") for kind in kinds[:7]] == wanted, kinds
    assert "LOGS\tName: sink\tState: Subscribed\tTypes: [Platform, Function]" in platform.log(name)


def test_telemetry_comes_over_tcp_line_by_line(platform, function):
    code = (
        TCP_SINK
        + """
register("INVOKE")
wanted = dict(schemaVersion="2022-07-01", types=["platform", "function", "extension"], buffering=dict(timeoutMs=25))
for uri in ("http://sandbox.localdomain", "http://sandbox.localdomain:4243"):
    status, _, body = subscribe("/2022-07-01/telemetry", **wanted, destination=dict(protocol="TCP", URI=uri))
    note("%s %s" % (status, body))
print("extension says")
"""
        + LOOP
    )
    name = function(layer(sink=code), LoggingConfig={"LogFormat": "JSON"})
    run(platform, name, "print('{\"n\": 1}\\n' + 'long' * 50_000, flush=True)")
    lines = noted(platform, name, "sink", lambda lines: "platform.report" in types_of(lines))
    refused = "400 {'errorType': 'ValidationError', 'errorMessage': 'URI port is not provided'}"
    assert [line for line in lines if line[0] != "{"] == [refused, "200 OK"]
    found = events_of(lines)
    records = [event["record"] for event in found if event["type"] == "function"]
    # The first schema has no objects in place of lines.
    assert records[:2] == ['{"n": 1}', "long" * 50_000], [record[:80] for record in records]
    assert_told_in_order(lines)


def test_the_logs_api_comes_over_http_in_batches(platform, function):
    code = (
        HTTP_SINK
        + """
register("INVOKE")
wanted = dict(types=["platform", "function", "extension"], buffering=dict(timeoutMs=25))
for destination in (dict(protocol="HTTP", port=4243), dict(protocol="HTTP", URI="http://sandbox.localdomain:4243/a/path")):
    status, _, body = subscribe("/2020-08-15/logs", **wanted, destination=destination)
    note("%s %s" % (status, body))
print("extension says")
"""
        + LOOP
    )
    name = function(layer(sink=code))
    run(platform, name, "print('a line', flush=True)")
    lines = noted(platform, name, "sink", lambda lines: "platform.report" in types_of(lines))
    told = [line for line in lines if line[0] != "{"]
    refused = "400 {'errorType': 'ValidationError', 'errorMessage': 'URI is not provided'}"
    assert told[:2] == [refused, "200 OK"] and set(told[2:]) == {"/a/path application/json"}, told
    found = events_of(lines)
    assert [event["record"] for event in found if event["type"] == "function"][0] == "a line"
    assert [event["record"] for event in found if event["type"] == "extension"][0] == "extension says"
    # Without a schema it is the first, which knows no runtimeDone.
    kinds = [kind.removeprefix("platform.") for kind in types_of(lines) if kind.startswith("platform.")]
    assert kinds[:5] == ["logsSubscription", "extension", "start", "end", "report"], kinds


def test_subscriptions_are_over_with_init_and_reach_nothing_outside(platform, function):
    code = """
register("INVOKE")
wanted = dict(schemaVersion="2022-07-01", types=["platform"])
for uri in ("http://127.0.0.1:80", "http://example.com:80", "http://sandbox.localdomain:9001"):
    status, _, body = subscribe("/2022-07-01/telemetry", **wanted, destination=dict(protocol="HTTP", URI=uri))
    note("%s %s" % (status, body["errorType"]))
next()
status, _, body = subscribe("/2022-07-01/telemetry", **wanted, destination=dict(protocol="HTTP", URI="http://sandbox:80"))
note("%s %s" % (status, body["errorType"]))
status, _, body = call("POST", "/2020-01-01/extension/register", [("Lambda-Extension-Name", "later")], '{"events":[]}')
note("%s %s" % (status, body["errorType"]))
""" + LOOP
    name = function(layer(late=code))
    run(platform, name, "answer = 1")
    lines = noted(platform, name, "late", lambda lines: len(lines) == 5)
    assert lines == ["400 ValidationError"] * 3 + ["403 Telemetry.SubscriptionClosed", "403 Extension.RegistrationClosed"]


def test_a_flood_that_nobody_takes_costs_bounded_memory_and_is_counted(platform, function):
    # It takes the first batch and lets the rest wait, until the flood is over.
    sink = HTTP_SINK.replace(
        "        self.send_response(200)",
        "        while not os.path.exists('/tmp/go'): time.sleep(0.01)\n        self.send_response(200)",
    ).replace("note(json.dumps(event))", "event['type'] == 'platform.logsDropped' and note(json.dumps(event))")
    code = (
        sink
        + """
register("INVOKE")
subscribe("/2022-07-01/telemetry", schemaVersion="2022-07-01", types=["platform", "function"], buffering=dict(timeoutMs=25),
          destination=dict(protocol="HTTP", URI="http://sandbox.localdomain:4243"))
"""
        + LOOP
    )
    name = function(layer(sink=code), MemorySize=512)
    status = f"/proc/{platform.process.pid}/status"
    resident = lambda: int(open(status).read().split("VmRSS:")[1].split()[0])  # noqa: E731
    run(platform, name, "answer = 1")
    before = resident()
    flood = "line = 'x' * 1000\nfor _ in range(50): print('\\n'.join([line] * 1000), flush=True)"
    run(platform, name, flood)
    grown = resident() - before
    assert grown < 40_000, f"{grown} KiB for 50 MB of lines"
    run(platform, name, "open('/tmp/go', 'w').close()")
    lines = noted(platform, name, "sink", lambda lines: bool(lines)) if run(
        platform, name, "time.sleep(1)\nanswer = os.path.exists('/tmp/sink')"
    ) else []
    dropped = sum(event["record"]["droppedRecords"] for event in events_of(lines))
    assert dropped > 10_000, lines
    platform.alive()


# ---- Extensions that fail -------------------------------------------------------------------------------------------


def error_of(answer):
    assert (answer.status, answer.error) == (200, "Unhandled"), answer
    return answer.json()


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("sys.exit(0)", "Extension.Crash", "exit code 0"),
        ("sys.exit(3)", "Extension.Crash", "exit status 3"),
        ("register(); os.kill(os.getpid(), 9)", "Extension.Crash", "signal: killed"),
        ("register(); fail('init', 'Agent.NoKey'); sys.exit(1)", "Extension.InitError", "exit status 1"),
    ],
    ids=["exit", "status", "killed", "init-error"],
)
def test_an_extension_that_fails_at_init_fails_init_and_the_invocation(platform, function, code, kind, reason):
    name = function(layer(bad=code))
    answer = platform.invoke(name, {"python": "answer = 1"})
    assert error_of(answer) == {
        "errorType": kind,
        "errorMessage": f"RequestId: {answer.request_id} Error: {reason}",
    }
    values = report(answer)
    assert (values["Status"], values["Error Type"]) == ("error", kind), values
    reports = [line for line in platform.log(name) if line.startswith("INIT_REPORT")]
    assert [f"Phase: {phase}" in line for phase, line in zip(("init", "invoke"), reports, strict=True)] == [True, True]
    assert all(line.endswith(f"Status: error\tError Type: {kind}") for line in reports), reports


def test_a_file_that_is_no_program_is_a_launch_error(platform, function):
    content = packages.package({"extensions/readme.txt": "not a program"})
    name = function(content)
    answer = platform.invoke(name, {"python": "answer = 1"})
    error = error_of(answer)
    assert error["errorType"] == "Extension.LaunchError", error
    assert error["errorMessage"].endswith("fork/exec /opt/extensions/readme.txt: permission denied")
    assert "EXTENSION\tName: readme.txt\tState: LaunchError\tEvents: []\tError Type: PermissionDenied" in platform.log(name)


def test_ten_extensions_run_and_eleven_do_not(platform, function):
    code = "register('INVOKE', 'SHUTDOWN')\nwhile next()['eventType'] != 'SHUTDOWN': pass\n"
    ten = function(layer(**{f"e{number:02}": code for number in range(10)}), "-ten", MemorySize=1024)
    assert run(platform, ten, "answer = 10") == 10
    assert sum(line.startswith("EXTENSION") for line in platform.log(ten)) == 10
    eleven = function(layer(**{f"e{number:02}": code for number in range(11)}), "-eleven", MemorySize=1024)
    answer = platform.invoke(eleven, {"python": "answer = 1"})
    assert error_of(answer)["errorType"] == "Extension.LaunchError"
    assert any("Error Type: TooManyExtensions" in line for line in platform.log(eleven))


def test_a_crash_in_an_invocation_fails_it_and_the_next_one_works(platform, function):
    code = """
register("INVOKE", "SHUTDOWN")
next()
if next()["eventType"] == "INVOKE" and not os.path.exists("/tmp/bad"):
    note("crashed")
    os._exit(7)
while next()["eventType"] == "INVOKE": pass
"""
    other = """
register("SHUTDOWN")
note(next()["shutdownReason"])
"""
    name = function(layer(bad=code, good=other))
    run(platform, name, "answer = 1")
    answer = platform.invoke(name, {"python": "time.sleep(5)"})
    assert error_of(answer)["errorType"] == "Extension.Crash"
    assert error_of(answer)["errorMessage"].endswith("Error: exit status 7")
    platform.wait_idle()
    assert run(platform, name, READ % "good").splitlines() == ["failure"]
    assert report(platform.invoke(name, {}))["Duration"] < 5000


def test_an_extension_that_reports_its_exit_ends_the_environment(platform, function):
    code = "register('INVOKE')\nnext()\nfail('exit', 'Agent.Lost')\nsys.exit(9)\n"
    name = function(layer(bad=code))
    error = error_of(platform.invoke(name, {"python": "time.sleep(5)"}))
    assert (error["errorType"], error["errorMessage"].split("Error: ")[1]) == ("Extension.ExitError", "exit status 9")


@pytest.mark.patience(180)
def test_extensions_that_are_never_ready_time_init_out(platform, function):
    name = function(layer(never="register()\ntime.sleep(1000)\n"), Timeout=1)
    answer = platform.invoke(name, {"python": "answer = 1"}, timeout=100)
    assert error_of(answer)["errorType"] == "Sandbox.Timedout"
    reports = [line for line in platform.log(name) if line.startswith("INIT_REPORT")]
    assert len(reports) == 2 and all(line.endswith("Status: timeout") for line in reports), reports
    assert "Phase: init" in reports[0] and "Phase: invoke" in reports[1]


# ---- Logs in JSON ---------------------------------------------------------------------------------------------------


def test_a_log_in_json_has_objects_and_levels(platform, function):
    logging = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN", "SystemLogLevel": "INFO", "LogGroup": "/mine"}
    name = function(LoggingConfig=logging)
    client = platform.client()
    assert client.get_function_configuration(FunctionName=name)["LoggingConfig"] == logging
    seen = run(platform, name, "answer = {k: v for k, v in os.environ.items() if k.startswith('AWS_LAMBDA_LOG')}")
    assert (seen["AWS_LAMBDA_LOG_FORMAT"], seen["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "WARN")
    assert seen["AWS_LAMBDA_LOG_GROUP_NAME"] == "/mine"
    lines = ['{"level": "error", "n": 1}', '{"level": "INFO", "n": 2}', "plain"]
    run(platform, name, "".join(f"print({line!r}, flush=True)\n" for line in lines))
    log = [json.loads(line) for line in platform.log(name)]
    kinds = [entry.get("type", entry.get("level")) for entry in log]
    assert kinds == ["platform.initStart"] + ["platform.start", "platform.report"] + ["platform.start", "error", "platform.report"]
    record = log[-1]["record"]
    assert record["status"] == "success" and record["metrics"]["memorySizeMB"] == 128
    client.update_function_configuration(FunctionName=name, LoggingConfig={**logging, "SystemLogLevel": "WARN"})
    count = len(log)
    run(platform, name, "print('{\"level\": \"FATAL\"}', flush=True)")
    assert [json.loads(line) for line in platform.log(name)[count:]] == [{"level": "FATAL"}]
    client.close()


def test_a_template_sets_the_form_and_levels_of_logs(start, tmp_path):
    home = tmp_path
    home.chmod(0o755)
    puppet.place(home / "code")
    logging = {"LogFormat": "JSON", "ApplicationLogLevel": "ERROR", "SystemLogLevel": "DEBUG"}
    properties = {
        "CodeUri": "code/",
        "Handler": "bootstrap",
        "Runtime": "provided.al2023",
        "FunctionName": "logged",
        "LoggingConfig": logging,
    }
    resources = {"Logged": {"Type": "AWS::Serverless::Function", "Properties": properties}}
    template = {"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}
    (home / "app.json").write_text(json.dumps(template))
    platform = start(template=home / "app.json")
    client = platform.client()
    assert logging.items() <= client.get_function_configuration(FunctionName="logged")["LoggingConfig"].items()
    client.close()
    run(platform, "logged", "print('{\"level\": \"WARN\"}', flush=True)")
    kinds = [json.loads(line)["type"].removeprefix("platform.") for line in platform.log("logged")]
    assert kinds == ["initStart", "initRuntimeDone", "initReport", "start", "runtimeDone", "report"]
