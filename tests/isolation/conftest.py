"""A platform whose functions do what the test says, for the tests that look at walls from the inside."""

import pytest

from support import puppet, templates
from support.platform import Platform

BIG = {"MemorySize": 1769, "Timeout": 60}


@pytest.fixture(scope="module")
def walls_home(tmp_path_factory):
    """Holds the folders `red` and `blue` of the two puppets."""
    return tmp_path_factory.mktemp("walls")


@pytest.fixture(scope="module")
def walls(walls_home):
    """Two puppets, Red and Blue, and a Rogue, on a host that has walls."""
    if not puppet.here():
        pytest.skip(f"{puppet.PYTHON} is not installed")
    functions = {"Red": ("puppet", BIG), "Blue": ("puppet", BIG), "Rogue": ("rogue", BIG)}
    with Platform(home=walls_home, template=templates.write(walls_home, functions)) as platform:
        lacking = {item["capability"] for item in platform.summary["not_enforced"]}
        if lacking & {"mount-namespace", "pid-namespace"}:
            pytest.skip(f"this host has no walls: {platform.summary['not_enforced']}")
        yield platform
