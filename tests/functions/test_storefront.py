"""The example, as its README says: a team's template, unmodified, served whole."""

import json
import re
import shutil
import subprocess

import pytest

from support.paths import BINARY, STOREFRONT
from support.platform import Platform


@pytest.fixture(scope="module")
def platform():
    # Builds the Rust function if its source is newer, and installs what the Python one needs, once.
    with Platform(template=STOREFRONT / "template.yaml") as platform:
        yield platform


@pytest.fixture(scope="module")
def hosts(platform):
    return {door["id"]: door["url"].split("/")[2] for door in platform.summary["doors"]}


def door(platform, hosts, way, id, path, **more):
    """The same request by host name and by path."""
    if way == "host":
        headers = {"Host": hosts[id]} | more.pop("headers", {})
        return platform.request(more.pop("method", "GET"), path, more.pop("body", None), headers, **more)
    return platform.door(id, path, **more)


@pytest.mark.patience(300)
def test_up_names_functions_doors_and_what_it_does_not_run(platform):
    assert {"CartFunction", "RecommendFunction"} == {
        function["logical_id"] for function in platform.summary["functions"]
    }
    assert {"StorefrontApi", "CartFunction"} <= {door["id"] for door in platform.summary["doors"]}
    assert "carries no packets" in str(platform.summary["gaps"]) or "1 NAT gateway;" in platform.summary["network"]


def test_explain_answers_for_every_resource(platform):
    template = STOREFRONT / "template.yaml"
    resources = template.read_text().split("\nResources:\n")[1].split("\nOutputs:\n")[0]
    ids = re.findall(r"^  (\w+):$", resources, re.M)
    assert len(ids) > 15
    beside = ["--template", template, "--endpoint", platform.url, "--json"]
    for id in ids:
        for words in ([id], ["CartFunction", id]):
            ran = subprocess.run([BINARY, "explain", *words, *beside], capture_output=True, text=True)
            assert ran.returncode == 0, (words, ran)
            told = json.loads(ran.stdout)
            assert (told["resource"], bool(told["about"])) == (id, True) if "about" in told else told["arrives"], told


def test_explain_names_a_door_as_the_platform_that_was_named_has_it(platform):
    beside = ["--template", STOREFRONT / "template.yaml", "--endpoint", platform.url]
    ran = subprocess.run([BINARY, "explain", "StorefrontApi", *beside], capture_output=True, text=True)
    (door,) = (door["url"] for door in platform.summary["doors"] if door["id"] == "StorefrontApi")
    assert door.rstrip("/") in ran.stdout, (door, ran)


@pytest.mark.parametrize("way", ["host", "path"])
def test_the_catch_all_route_reaches_the_rust_function(platform, hosts, way):
    put = door(
        platform,
        hosts,
        way,
        "StorefrontApi",
        f"/cart/ada-{way}/tea",
        method="PUT",
        body='{"quantity": 2}',
        headers={"Content-Type": "application/json"},
    )
    assert (put.status, put.json()) == (200, {"cart": f"ada-{way}", "items": {"tea": 2}}), put
    shown = door(platform, hosts, way, "StorefrontApi", f"/cart/ada-{way}")
    assert shown.json() == {"cart": f"ada-{way}", "items": {"tea": 2}}
    assert shown.headers["apigw-requestid"] and shown.headers["content-type"] == "application/json"
    missing = door(platform, hosts, way, "StorefrontApi", "/nowhere/at/all")
    assert (missing.status, missing.json()) == (404, {"message": "no GET /nowhere/at/all"})


@pytest.mark.parametrize("way", ["host", "path"])
@pytest.mark.patience(400)
def test_the_get_route_reaches_the_python_function(platform, hosts, way):
    answer = door(platform, hosts, way, "StorefrontApi", "/recommendations?item=tea", timeout=300)
    assert (answer.status, answer.json()) == (
        200,
        {"item": "tea", "recommendations": ["honey", "lemon", "biscuits"]},
    ), answer
    # The route is for GET; any other method is the catch-all's.
    other = door(platform, hosts, way, "StorefrontApi", "/recommendations", method="DELETE")
    assert (other.status, other.json()) == (404, {"message": "no DELETE /recommendations"})


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.patience(400)
def test_the_readmes_curl_commands_succeed(platform):
    commands = re.findall(r"^    (curl .*)$", (STOREFRONT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        command = command.replace("http://127.0.0.1:4566", platform.url)
        ran = subprocess.run(
            command + " --silent --show-error --fail-with-body --max-time 300",
            shell=True,
            capture_output=True,
            text=True,
            timeout=310,
        )
        assert ran.returncode == 0 and json.loads(ran.stdout), (command, ran)
    # The PUT among them was understood.
    assert platform.door("StorefrontApi", "/cart/ada").json() == {"cart": "ada", "items": {"tea": 2}}


@pytest.mark.parametrize("way", ["host", "path"])
def test_the_function_url_reaches_the_rust_function(platform, hosts, way):
    answer = door(platform, hosts, way, "CartFunction", "/")
    assert answer.status == 200 and answer.json()["service"] == "cart", answer


@pytest.mark.parametrize("id", ["StorefrontApi", "CartFunction"])
def test_the_templates_cross_origin_rules_hold(platform, id):
    answer = platform.door(
        id,
        "/cart",
        method="OPTIONS",
        headers={
            "Origin": "https://shop.example.com",
            "Access-Control-Request-Method": "PUT",
        },
    )
    assert answer.headers["access-control-allow-origin"] == "https://shop.example.com", answer
    assert answer.headers["access-control-allow-methods"] == "GET,PUT,DELETE"
    assert answer.headers["access-control-max-age"] == "300"


def test_an_sdk_finds_the_functions_as_the_template_says(platform):
    client = platform.client()
    cart = client.get_function(FunctionName="storefront-dev-cart")["Configuration"]
    assert (cart["Timeout"], cart["MemorySize"], cart["Runtime"]) == (30, 256, "provided.al2023")
    pool = {"CACHE_CONNECTIONS": "0", "CACHE_TIMEOUT": "10", "WAREHOUSE_SECONDS": "12"}
    assert cart["Environment"]["Variables"] == {"STAGE": "dev", "CACHE_HOST": "cache.example.com"} | pool
    assert len(cart["VpcConfig"]["SubnetIds"]) == 2 and len(cart["VpcConfig"]["SecurityGroupIds"]) == 1
    recommend = client.get_function_configuration(FunctionName="storefront-dev-recommend")
    assert (recommend["MemorySize"], recommend["Handler"]) == (512, "app.handler")
    answer = client.invoke(FunctionName="storefront-dev-cart", Payload=b'{"k": 1}')
    assert json.loads(answer["Payload"].read()) == {"echo": {"k": 1}}


def test_parameters_change_what_is_deployed(start):
    platform = start(
        "--parameter-overrides", "Stage=prod", "CacheHost=other.example.com", template=STOREFRONT / "template.yaml"
    )
    recommend = platform.client().get_function_configuration(FunctionName="storefront-prod-recommend")
    assert recommend["MemorySize"] == 1024
    assert recommend["Environment"]["Variables"] == {"STAGE": "prod", "CACHE_HOST": "other.example.com"}
