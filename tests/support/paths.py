"""Where things lie."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("ONRUSH_BINARY", ROOT / "target/debug/onrush")).resolve()
FUNCTIONS = ROOT / "tests/functions"
# Made by scripts/build-test-functions.
BUILT = ROOT / "target/test-functions"
# What /var/runtime shows is installed once for all platforms of all runs: it is 40 MB from a package index.
RUNTIMES = BUILT / "runtimes"
STOREFRONT = ROOT / "examples/storefront"
