"""The example of examples/nest: one NestJS application with TypeORM as an image behind the Lambda Web Adapter and as a zip
behind @h4ad/serverless-adapter, against a real PostgreSQL in their VPC. Source: seeds.md, S4."""

import concurrent.futures
import math
import re
import shutil
import subprocess
import time

import pytest

from support import nest, postgres

# The first run of a fresh clone installs the packages.
pytestmark = pytest.mark.patience(600)
NAMES = {"shop-image": "ShopImage", "shop-zip": "ShopZip"}
ENVIRONMENTS = 3


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    if why := postgres.refused():
        pytest.skip(why)
    with postgres.Postgres(tmp_path_factory.mktemp("database")) as server:
        server.query("CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL)")
        yield server


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example's folder with its application built, and its image's layout beside."""
    home = tmp_path_factory.mktemp("nest")
    home.chmod(0o755)
    shutil.copy(nest.EXAMPLE / "template.yaml", home)
    (home / "app").symlink_to(nest.app())
    nest.image().layout(home / "image")
    yield home
    shutil.rmtree(home / "image")


@pytest.fixture
def begin(start, database, example):
    major = int(subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.lstrip("v").split(".")[0])

    def up(*more):
        return start(
            "--world", "none", "--attach", f"Database=127.0.0.1:{database.port}", "--image", f"ShopImage={example}/image",
            "--parameter-overrides", f"NodeRuntime=nodejs{min(max(major // 2 * 2, 16), 24)}.x", *more,
            template=example / "template.yaml", home=example,
        )

    return up


def reports(platform, name, count=1):
    """The figures of the REPORT lines so far, once there are so many."""
    deadline = time.monotonic() + 30
    while True:
        lines = [line for line in platform.log(name) if line.startswith("REPORT")]
        if len(lines) >= count:
            fields = [dict(re.findall(r"([A-Z][A-Za-z ]+): ([\d.]+) ms", line)) for line in lines]
            return [{name: float(value) for name, value in found.items()} for found in fields]
        assert time.monotonic() < deadline, lines
        time.sleep(0.05)


def cold(platform):
    """The first request to each; its figures."""
    for name in NAMES:
        answer = platform.door(NAMES[name], "/items")
        assert answer.status == 200, (answer, platform.log(name))
    return [reports(platform, name)[0] for name in NAMES]


def billed(figures, init):
    total = figures["Duration"] + (figures["Init Duration"] if init else 0)
    # The line's figures are rounded to hundredths.
    assert math.ceil(total - 0.0101) <= figures["Billed Duration"] <= math.ceil(total + 0.0101), figures


def test_both_serve_the_same_items_and_differ_in_their_cold_starts(begin):
    platform = begin()
    image, zipped = cold(platform)
    # The image's server has started, and has its database, before INIT is over; the zip does that in its first request.
    for name, is_ahead in [("shop-image", True), ("shop-zip", False)]:
        log = platform.log(name)
        connected = next(number for number, line in enumerate(log) if "connected to the database" in line)
        started = next(number for number, line in enumerate(log) if line.startswith("START"))
        assert (connected < started) == is_ahead, log
    billed(image, init=True)
    billed(zipped, init=True)
    for name, item in [("ShopImage", "tea"), ("ShopZip", "bread")]:
        headers = {"content-type": "application/json"}
        made = platform.door(name, "/items", "POST", f'{{"name": "{item}"}}', headers=headers)
        assert made.status == 201 and made.json()["name"] == item, made
    for name in NAMES.values():
        assert [item["name"] for item in platform.door(name, "/items").json()] == ["tea", "bread"]
        assert platform.door(name, "/nothing").status == 404


def test_sigterm_reaches_the_application_in_the_image_alone(begin, database):
    platform = begin()

    def connections(name):
        return int(database.query(f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'")[0])

    def until(name, wanted):
        deadline = time.monotonic() + 30
        while (found := connections(name)) != wanted:
            assert time.monotonic() < deadline, (name, found, platform.log(name))
            time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor(ENVIRONMENTS) as pool:
        for name, door in NAMES.items():
            # Each finds the others cold.
            answers = list(pool.map(lambda _: platform.door(door, "/items"), range(ENVIRONMENTS)))
            assert {answer.status for answer in answers} == {200}, answers
    environments = {name: platform.metric("cold_starts", name) for name in NAMES}
    assert all(count >= 2 for count in environments.values()), environments
    for name, count in environments.items():
        until(name, count)
    client = platform.client()
    for name in NAMES:
        client.update_function_configuration(FunctionName=name, Description="new environments from now on")
        client.get_waiter("function_updated_v2").wait(FunctionName=name)
    until("shop-image", 0)
    said = [line for line in platform.log("shop-image") if "SIGTERM: the application shuts down" in line]
    assert len(said) == environments["shop-image"]
    # The zip's environments are gone likewise, killed at once: the database goes on waiting for every one of them.
    assert connections("shop-zip") == environments["shop-zip"]
    assert not any("shuts down" in line for line in platform.log("shop-zip"))
    platform.door("ShopZip", "/items")
    assert platform.metric("cold_starts", "shop-zip") == environments["shop-zip"] + 1
    assert connections("shop-zip") == environments["shop-zip"] + 1


def test_until_august_2025_the_init_of_a_zip_was_free(begin):
    image, zipped = cold(begin("--era", "2022-12"))
    billed(image, init=True)
    billed(zipped, init=False)
    assert image["Billed Duration"] > zipped["Billed Duration"]
