"""What the network's tests share: a world of the test's own, and platforms in it."""

import pytest

from support import network
from support.host import no_tun
from support.world import World


@pytest.fixture(params=["tun", "pair"])
def device(request):
    """What interfaces are made of: TUN devices, and pairs of devices where `/dev/net/tun` is closed. Who asks for it runs with both."""
    if request.param == "tun":
        yield request.param
    else:
        with no_tun():
            yield request.param


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
