"""What the network's tests share: a world of the test's own, and platforms in it."""

import pytest

from support import network
from support.world import World


@pytest.fixture
def world():
    with World() as world:
        yield world


@pytest.fixture
def up(start, world, tmp_path):
    """A platform in that world, with the network that `settings` ask for."""

    def begin(*arguments, open_files=None, **settings):
        template = network.template(tmp_path, **settings)
        return start("--world", f"netns:{world.name}", *arguments, template=template, open_files=open_files)

    return begin
