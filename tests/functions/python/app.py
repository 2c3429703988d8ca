"""Handlers for the kinds of answers and errors that AWS's Python runtime has."""

import datetime
import decimal
import json
import logging
import os
import sys
import time

START = time.time()
COUNT = 0


def echo(event, context):
    return event


def context(event, context):
    """What the context and the variables say."""
    global COUNT
    COUNT += 1
    return {
        "count": COUNT,
        "request_id": context.aws_request_id,
        "function_name": context.function_name,
        "function_version": context.function_version,
        "memory": context.memory_limit_in_mb,
        "arn": context.invoked_function_arn,
        "log_group": context.log_group_name,
        "log_stream": context.log_stream_name,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "client": context.client_context.custom if context.client_context else None,
        "identity": context.identity.cognito_identity_id,
    }


def environment(event, context):
    return dict(os.environ)


def paths(event, context):
    return {"path": sys.path, "prefix": sys.prefix, "executable": sys.executable, "version": sys.version}


def imports(event, context):
    """Which of the event's modules can be imported, and from where."""
    import importlib

    found = {}
    for name in event["modules"]:
        try:
            found[name] = getattr(importlib.import_module(name), "__file__", None)
        except ImportError as error:
            found[name] = "ImportError: " + str(error)
    return found


def fails(event, context):
    raise Exception("Handler fails")


class StoreClosed(Exception):
    pass


def fails_deep(event, context):
    def inner():
        raise StoreClosed("the store is closed: \u00e9")

    inner()


def unserialisable(event, context):
    return {"at": datetime.datetime(2026, 1, 1)}


def numbers(event, context):
    return {"whole": decimal.Decimal("12"), "nan": float("nan"), "text": "\u00e9\u20ac"}


def nothing(event, context):
    return None


def raw(event, context):
    return b"plain bytes"


def exits(event, context):
    sys.exit(event.get("status", 0))


def dies(event, context):
    os.kill(os.getpid(), 9)


def sleeps(event, context):
    time.sleep(event["seconds"])
    return "woke up"


def large(event, context):
    """A JSON string of `bytes` bytes in all."""
    return "a" * (event["bytes"] - 2)


def logs(event, context):
    print("printed")
    logging.getLogger().warning("warned")
    logging.getLogger("store").error("failed at %s", "step 2")
    sys.stderr.write("to stderr\n")
    print(json.dumps({"lines": "one\ntwo"}))
    return "logged"


def background(event, context):
    """A timer that makes progress only while the environment is not frozen."""
    import threading

    def beat():
        global COUNT
        while True:
            COUNT += 1
            time.sleep(0.005)

    if not any(thread.name == "beat" for thread in threading.enumerate()):
        threading.Thread(target=beat, name="beat", daemon=True).start()
    return COUNT
