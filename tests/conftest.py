"""The end-to-end suite: real clients against real platforms.

    scripts/test end-to-end                     builds what is needed and runs all of it
    target/venv/bin/pytest tests/sdk            a part, with what is built
    ONRUSH_BINARY=target/release/onrush …       another binary (default: target/debug/onrush)

Each module has one platform of its own, started on a free port with a data folder below /tmp, and stopped with
Ctrl-C; a platform that leaves a process, mount, loop device, network or control group behind fails its module. No
test asserts on a duration: waits are bounded only so that a broken build ends.
"""

import signal
import sys

import pytest

from support.paths import BINARY, BUILT
from support.platform import Platform

# More than the longest test takes on a busy machine; the first Python function of a fresh clone installs its runtime.
TEST_S = 120
sys.dont_write_bytecode = True


def pytest_sessionstart(session):
    # Whoever started us in the background may have us ignore Ctrl-C; what we start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not BINARY.is_file():
        pytest.exit(f"{BINARY} is not built: cargo build -p onrush, or set ONRUSH_BINARY", returncode=2)
    if not (BUILT / "echo/bootstrap").is_file():
        pytest.exit("the test functions are not built: scripts/build-test-functions", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Nothing waits for ever: a test with its fixtures gets two minutes (`@pytest.mark.patience(seconds)` for more)."""
    mark = item.get_closest_marker("patience")
    seconds = mark.args[0] if mark else TEST_S

    def too_long(*_):
        # Not a TimeoutError: a test may expect one of those.
        pytest.fail(f"{item.nodeid} took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pytest_configure(config):
    config.addinivalue_line("markers", "patience(seconds): how long a test may take with its fixtures")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the platform said belongs to the report of a failed test."""
    report = yield
    platforms = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Platform)]
    if report.failed:
        for platform in platforms:
            report.sections.append((f"platform on port {platform.port}", platform.stderr()[-4000:]))
    return report


@pytest.fixture(scope="module")
def platform(request):
    """The module's own platform; a module-level `ARGUMENTS` holds more of its command line."""
    with Platform(*getattr(request.module, "ARGUMENTS", ())) as platform:
        yield platform


@pytest.fixture
def start():
    """Starts platforms as a test needs them, with `Platform`'s arguments; ends them with the test."""
    started = []

    def begin(*arguments, **options):
        started.append(Platform(*arguments, **options))
        return started[-1]

    yield begin
    failures = []
    for platform in reversed(started):
        try:
            platform.close()
        except AssertionError as failure:
            failures.append(failure)
    assert not failures, failures
