"""Starts a Python function: AWS's paths, then AWS's own runtime interface client, or the loop below.

Run as `python -S [-X own-bootstrap] /var/runtime/bootstrap-*.pyc`. Every import here is paid by every cold start: what is
needed only now and then (`traceback`, `logging`, `decimal`) is imported only then.
"""

import gc
import os
import sys

gc.disable()  # until the function's own code runs: nothing here makes garbage, and looking for it takes 1 ms

TASK = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
RUNTIME = os.environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")


def set_up_paths():
    """The module paths in AWS's order; .pth files of the function and its layers are honoured, as there."""
    import site

    for give_builtins in (site.setquit, site.setcopyright, site.sethelper):
        give_builtins()
    layers = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python"
    has_path = "PYTHONPATH" in os.environ
    sys.path[:0] = [TASK] if has_path else [TASK, *layers]
    if has_path:
        site.execsitecustomize()
    for folder in [TASK] if has_path else [TASK, *layers]:
        if os.path.isdir(folder):
            site.addsitedir(folder)
    if not has_path:
        os.environ["PYTHONPATH"] = RUNTIME  # for processes that the function starts
    sys.argv = [RUNTIME + "/bootstrap.py"]


def open_debug_port(wanted):
    """`PORT` or `PORT wait`: debugpy, which the function brings, listens there."""
    port, _, wait = os.environ.pop(wanted).partition(" ")
    try:
        import debugpy
    except ImportError:
        sys.stderr.write("debugpy cannot be imported: put it into requirements.txt, or a layer, to debug this function\n")
        return
    debugpy.listen(("127.0.0.1", int(port)))
    if wait:
        debugpy.wait_for_client()


class RuntimeApi:
    """One kept connection to the Runtime API; blocking, because a function does one thing at a time."""

    def __init__(self, address):
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.connection, self.pending = None, b""

    def call(self, method, path, body=b"", headers=""):
        import _socket

        head = "%s /2018-06-01%s HTTP/1.1\r\nHost: %s:%d\r\nContent-Length: %d\r\n%s\r\n"
        request = (head % (method, path, self.host, self.port, len(body), headers)).encode("latin-1") + body
        if self.connection is None:
            self.connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            self.connection.connect((self.host, self.port))
            self.connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.connection.sendall(request)
        status, headers = self.read_head()
        body = self.read_body(headers)
        if headers.get("connection", "").lower() == "close":
            self.connection.close()
            self.connection, self.pending = None, b""
        if status >= 400:
            raise RuntimeError("Runtime API answered %s %s with %d: %s" % (method, path, status, body[:1000]))
        return headers, body

    def receive(self):
        got = self.connection.recv(262144)
        if not got:
            raise ConnectionError("the Runtime API closed the connection")
        return got

    def read_head(self):
        while b"\r\n\r\n" not in self.pending:
            self.pending += self.receive()
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def read_exactly(self, length):
        parts, have = [self.pending], len(self.pending)
        while have < length:
            parts.append(self.receive())
            have += len(parts[-1])
        whole = b"".join(parts)
        self.pending = whole[length:]
        return whole[:length]

    def read_body(self, headers):
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.read_exactly(int(headers.get("content-length", 0)))
        chunks = []
        while True:
            while b"\r\n" not in self.pending:
                self.pending += self.receive()
            size, self.pending = self.pending.split(b"\r\n", 1)
            chunk = self.read_exactly(int(size.split(b";")[0], 16) + 2)[:-2]
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)


class Fault(Exception):
    """What the runtime, not the function, has to complain about; the type is AWS's."""

    def __init__(self, kind, message, trace=None):
        self.kind, self.message, self.trace = "Runtime." + kind, message, trace


class Fields:
    """Names and values, as AWS's context objects show them."""

    def __init__(self, values):
        self.__dict__.update(values)

    def __repr__(self):
        return "%s([%s])" % (type(self).__name__, ",".join("%s=%s" % pair for pair in self.__dict__.items()))


class LambdaContext(Fields):
    def __init__(self, headers):
        environment, get = os.environ.get, headers.get
        client = parsed_header(get("lambda-runtime-client-context"), "Client Context")
        identity = parsed_header(get("lambda-runtime-cognito-identity"), "Cognito Identity") or {}
        self.aws_request_id = get("lambda-runtime-aws-request-id")
        self.log_group_name = environment("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environment("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = environment("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = environment("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = environment("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = get("lambda-runtime-invoked-function-arn")
        self.tenant_id = get("lambda-runtime-aws-tenant-id")
        self.client_context = client and Fields({
            "custom": client.get("custom"),
            "env": client.get("env"),
            "client": client.get("client") and Fields(client["client"]),
        })
        self.identity = Fields({
            "cognito_identity_id": identity.get("cognitoIdentityId"),
            "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId"),
        })
        self._epoch_deadline_time_in_ms = int(get("lambda-runtime-deadline-ms", 0))

    def get_remaining_time_in_millis(self):
        import time

        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))


def parsed_header(text, name):
    if not text:
        return None
    try:
        return json.loads(text)
    except Exception as error:
        raise Fault("LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, error))


def find_handler(handler):
    module_name, dot, function_name = handler.rpartition(".")
    if not dot:
        complaint = "Bad handler '%s': not enough values to unpack (expected 2, got 1)"
        raise Fault("MalformedHandlerName", complaint % handler)
    if module_name.split(".")[0] in sys.builtin_module_names:
        complaint = "Cannot use built-in module %s as a handler module"
        raise Fault("BuiltInModuleConflict", complaint % module_name)
    dotted = module_name.replace("/", ".")
    try:
        __import__(dotted)
    except ImportError as error:
        raise Fault("ImportModuleError", "Unable to import module '%s': %s" % (module_name, error))
    except SyntaxError as error:
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        raise Fault("UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, error), trace)
    try:
        return getattr(sys.modules[dotted], function_name)
    except AttributeError:
        complaint = "Handler '%s' missing on module '%s'"
        raise Fault("HandlerNotFound", complaint % (function_name, module_name))


def described(error, request_id=""):
    """The body of an error, byte for byte as AWS's client words it."""
    if isinstance(error, Fault):
        message, kind, trace = error.message, error.kind, error.trace
    else:
        import traceback

        frames = [frame for frame in traceback.extract_tb(error.__traceback__)]
        # Our own frames come first and are nobody's business.
        while len(frames) > 1 and "/bootstrap.py" in frames[0].filename:
            del frames[0]
        frames = [(frame.filename, frame.lineno, frame.name, frame.line) for frame in frames]
        message, kind, trace = str(error), type(error).__name__, traceback.format_list(frames)
    log_error(kind, message, trace or [])
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace or []}


def log_error(kind, message, trace):
    """One log event: carriage returns inside, indentation by no-break spaces, as CloudWatch shows it."""
    lines = ["[ERROR] %s: %s" % (kind, message) if message else "[ERROR] %s" % kind]
    lines.append("Traceback (most recent call last):")
    for line in (line for entry in trace for line in entry.splitlines()):
        indent = len(line) - len(line.lstrip(" "))
        lines.append("\u00a0" * indent + line[indent:])
    sys.stdout.write("\r".join(lines) + "\n")


class LoggingHook:
    """Gives `logging` AWS's handler the moment the function imports it; many never do."""

    request_id = ""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        spec = next(filter(None, (finder.find_spec(name, path) for finder in sys.meta_path)), None)
        execute = spec.loader.exec_module

        def execute_and_set_up(module):
            execute(module)
            self.set_up(module)

        spec.loader.exec_module = execute_and_set_up
        return spec

    def set_up(self, logging):
        import time

        class Handler(logging.Handler):
            def emit(handler, record):
                record.aws_request_id = self.request_id
                sys.stdout.write(handler.format(record))

        form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
        logging.Formatter.converter = time.gmtime
        handler = Handler()
        handler.setFormatter(logging.Formatter(form, "%Y-%m-%dT%H:%M:%S"))
        logging.getLogger().addHandler(handler)


def to_json(value):
    return json.dumps(value, ensure_ascii=ASCII, default=as_number)


def as_number(value):
    """boto3's numbers of DynamoDB are Decimals, and AWS's client can say them."""
    import decimal

    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def answer(handler, headers, body):
    """Runs the handler; answers with (path's end, body, headers)."""
    request_id = headers["lambda-runtime-aws-request-id"]
    try:
        context = LambdaContext(headers)
        try:
            event = json.loads(body)
        except Exception as error:
            raise Fault("UnmarshalError", "Unable to unmarshal input: %s" % error)
        result = handler(event, context)
        if isinstance(result, bytes):
            return "response", result, "Content-Type: application/unknown\r\n"
        try:
            return "response", to_json(result).encode("utf-8"), "Content-Type: application/json\r\n"
        except Exception as error:
            raise Fault("MarshalError", "Unable to marshal response: %s" % error)
    except Exception as error:
        return error_answer("error", described(error, request_id))


def error_answer(kind, body):
    header = "Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: %s\r\n"
    return kind, to_json(body).encode("utf-8", "surrogatepass"), header % body["errorType"]


def run():
    """Init, then one invocation after another."""
    sys.stdout.reconfigure(line_buffering=True)
    sys.stderr.reconfigure(line_buffering=True)
    hook, api = LoggingHook(), RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    sys.meta_path.insert(0, hook)
    gc.enable()
    try:
        handler = find_handler(os.environ["_HANDLER"])
    except Exception as error:
        kind, body, headers = error_answer("init", described(error))
        api.call("POST", "/runtime/init/error", body, headers)
        sys.exit(1)
    while True:
        sys.stdout.flush()
        headers, body = api.call("GET", "/runtime/invocation/next")
        hook.request_id = headers["lambda-runtime-aws-request-id"]
        trace = headers.get("lambda-runtime-trace-id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        kind, body, headers = answer(handler, headers, body)
        sys.stdout.flush()
        api.call("POST", "/runtime/invocation/%s/%s" % (hook.request_id, kind), body, headers)


class OneCall:
    """Runs one call in a thread, while the main thread can still answer signals.

    It stands in for the `ThreadPoolExecutor` that AWS's client makes for every invocation from Python 3.12 on:
    importing that takes about 1 ms of a cold start.
    """

    def __init__(self, max_workers=1):
        import _thread

        self.done, self.start = _thread.allocate_lock(), _thread.start_new_thread
        self.returned = self.raised = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def submit(self, call):
        def run():
            try:
                self.returned = call()
            except BaseException as error:
                self.raised = error
            self.done.release()

        self.done.acquire()
        self.start(run, ())
        return self

    def result(self):
        self.done.acquire()
        if self.raised is not None:
            raise self.raised
        return self.returned


def run_aws_client(handler):
    arguments = [RUNTIME + "/bootstrap.py", handler]
    try:
        from awslambdaric import bootstrap
        from awslambdaric.lambda_config import LambdaConfigProvider
        from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

        config = LambdaConfigProvider(arguments)
    except ImportError:  # older clients, for older Pythons, are put together otherwise
        config = None
    if config is None or config.is_multi_concurrent:
        from awslambdaric.__main__ import main

        gc.enable()
        return main(arguments)
    client = LambdaRuntimeClient(config.api_address, False)
    client.use_thread_for_polling_next = config.use_thread_polling
    client.ThreadPoolExecutor = OneCall
    gc.enable()
    bootstrap.run(handler, client)


own = "own-bootstrap" in sys._xoptions or not os.path.isdir(RUNTIME + "/awslambdaric")
set_up_paths()
if "ONRUSH_DEBUG" in os.environ:
    open_debug_port("ONRUSH_DEBUG")
if own:
    import json

    modern = tuple("AWS_Lambda_python3.%d" % minor for minor in range(12, 16))
    ASCII = os.environ.get("AWS_EXECUTION_ENV") not in modern
    run()
else:
    run_aws_client(os.environ["_HANDLER"])
