"""Platforms in control groups of a test's own."""

import contextlib
import os
import time

from support.paths import BINARY


@contextlib.contextmanager
def group_under(top, tmp_path):
    """A new control group below `top`, and a program that joins it before it becomes the platform; both end with all below it."""
    group = top / f"onrush-test-{os.getpid()}"
    group.mkdir()
    try:
        wrapper = tmp_path / "inside"
        wrapper.write_text(f'#!/bin/sh\necho $$ > {group}/cgroup.procs\nexec {BINARY} "$@"\n')
        wrapper.chmod(0o755)
        yield group, wrapper
    finally:
        deadline = time.monotonic() + 10
        for folder, _, _ in list(os.walk(group, topdown=False)):
            while os.path.exists(folder):
                try:
                    os.rmdir(folder)
                except OSError:
                    assert time.monotonic() < deadline, folder
                    time.sleep(0.05)
