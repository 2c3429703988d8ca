"""The smallest handler; `where` says which interpreter runs it."""

import sys


def handler(event, context):
    where = [sys.executable, sys.version] if event.get("where") else None
    return {"ok": True, "where": where}
