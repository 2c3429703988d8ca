"""The REPORT line, taken apart."""

import math


def report(result):
    """{"Duration": 3.51, "Billed Duration": 4, …, "Status": "timeout"} of the one REPORT line of an invocation."""
    first, *fields = result.line("REPORT RequestId: ").split("\t")
    assert first == f"REPORT RequestId: {result.request_id}"
    values = {}
    for field in filter(None, fields):
        name, value = field.split(": ", 1)
        number, _, unit = value.partition(" ")
        values[name] = (float(number) if "." in number else int(number)) if unit in ("ms", "MB") else value
    return values


def is_billed_rightly(values):
    """Billed is what ran, INIT included, rounded up to whole milliseconds; what is printed is rounded to 0.01 ms."""
    ran = values["Duration"] + values.get("Init Duration", 0)
    return math.ceil(ran - 0.0101) <= values["Billed Duration"] <= max(1, math.ceil(ran + 0.0101))
