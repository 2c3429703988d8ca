"""Takes `INIT_SECONDS` to start."""

import os
import time

time.sleep(float(os.environ.get("INIT_SECONDS", "0.2")))


def handler(event, context):
    return "started"
