"""Unmodified clients inside functions: curl, ping, dig, iperf3, psql, and Node's pg against a real PostgreSQL."""

import json
import os
import shutil
import subprocess
import time

import pytest

from support import network, postgres, puppet, templates
from support.network import ref
from support.paths import BUILT, FUNCTIONS
from support.world import OTHER, PORT, SERVER, World, refused

pytestmark = [pytest.mark.skipif(bool(refused()), reason=str(refused())), pytest.mark.patience(300)]

# A program inside the environment, as a function starts one.
RUN = """
import subprocess
import time
ran = subprocess.run(event["words"], capture_output=True, text=True, timeout=event.get("timeout", 20))
answer = [ran.returncode, ran.stdout, ran.stderr]
"""

DATABASE = {
    "DatabaseGroup": {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "database",
            "VpcId": ref("Vpc"),
            "SecurityGroupIngress": [
                {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "SourceSecurityGroupId": ref("Group")}
            ],
        },
    },
    "DatabaseSubnets": {
        "Type": "AWS::RDS::DBSubnetGroup",
        "Properties": {"DBSubnetGroupDescription": "private", "SubnetIds": [ref("Private0"), ref("Private1")]},
    },
    "Database": {
        "Type": "AWS::RDS::DBInstance",
        "Properties": {
            "Engine": "postgres",
            "DBInstanceClass": "db.t4g.micro",
            "AllocatedStorage": "20",
            "MasterUsername": "shop",
            "MasterUserPassword": "secret",
            "DBSubnetGroupName": ref("DatabaseSubnets"),
            "VPCSecurityGroups": [ref("DatabaseGroup")],
        },
    },
}


def needs(program):
    path = shutil.which(program)
    return path or pytest.skip(f"{program} is not installed")


def run(platform, *words, name="Red", **more):
    return puppet.inside(platform, RUN, name, words=[str(word) for word in words], **more)


@pytest.fixture
def platform(start, tmp_path):
    with World() as world:
        yield start("--world", f"netns:{world.name}", template=network.template(tmp_path))


def test_curl_speaks_to_the_world_and_fails_as_in_production(platform):
    curl = needs("curl")
    # The other end echoes: the request comes back as an answer of HTTP/0.9.
    code, out, _ = run(platform, curl, "-s", "--http0.9", "--max-time", "2", f"http://{SERVER}:{PORT}/path")
    assert "GET /path HTTP/1.1" in out and code in (0, 28)
    code, _, error = run(platform, curl, "-sS", "--connect-timeout", "1", "http://10.0.77.1:80/")
    assert code == 28 and "time" in error.lower(), "nobody has that address: silence"


def test_ping_is_answered_through_two_translations(platform):
    ping = needs("ping")
    code, out, error = run(platform, ping, "-n", "-c", "3", "-i", "0.2", "-W", "5", SERVER)
    assert code == 0 and "3 received, 0% packet loss" in out, (out, error)


def test_iperf3_measures_both_ways(device, start, tmp_path):
    iperf = needs("iperf3")
    with World() as world:
        platform = start("--world", f"netns:{world.name}", template=network.template(tmp_path))
        server = subprocess.Popen(["ip", "netns", "exec", world.name, iperf, "-s"], stdout=subprocess.DEVNULL)
        try:
            for way in ([], ["-R"], ["-u", "-b", "20M"]):
                for _ in range(50):
                    # The first may come before the server listens, or while it still sees the one before.
                    code, out, error = run(platform, iperf, "-c", SERVER, "-t", "1", "-J", *way)
                    # A client that was sent away may end well, without a result.
                    end = json.loads(out)["end"] if code == 0 else {}
                    total = end.get("sum_received", end.get("sum"))
                    if total is not None:
                        break
                    time.sleep(0.1)
                assert total is not None, (way, out, error)
                assert total["bytes"] > 1_000_000, (way, out, error)
        finally:
            server.kill()
            server.wait()


def test_dig_gets_the_vpcs_names(platform):
    dig = needs("dig")
    code, out, _ = run(platform, dig, "+short", "ssm.us-east-1.amazonaws.com")
    assert code == 0 and out.startswith("198.19.")
    code, out, _ = run(platform, dig, "+tcp", "@10.0.0.2", "+short", "ip-10-0-3-4.ec2.internal")
    assert (code, out) == (0, "10.0.3.4\n")


def test_awss_sdk_for_rust_calls_lambda_by_its_usual_name(start, tmp_path):
    """Out of a VPC, by TLS that the environment's own variables let it trust, signed with the environment's keys."""
    client = BUILT / "rust-client/bootstrap"
    if not client.is_file():
        pytest.skip("the client is not built: scripts/build-test-functions")
    inside = {"SubnetIds": [ref("Private0")], "SecurityGroupIds": [ref("Group")]}
    functions = {"Red": ("puppet", {"Timeout": 30, "MemorySize": 256, "VpcConfig": inside}), "Echo": ("echo", {})}
    template = templates.write(tmp_path, functions, network.resources())
    shutil.copy(client, tmp_path / "red/rust-client")
    platform = start("--world", "none", template=template)
    code, out, error = run(platform, "/var/task/rust-client", "inside", "Echo")
    assert (code, error) == (0, ""), error
    assert json.loads(out) == [200, '{"from":"inside"}']
    assert platform.limit("nat.ports", "Nat")["peak"] >= 1, "through the gateway, as any service without an endpoint"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    if why := postgres.refused():
        pytest.skip(why)
    with postgres.Postgres(tmp_path_factory.mktemp("database")) as server:
        server.query("CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL)")
        server.query("INSERT INTO orders SELECT n, 'item ' || n FROM generate_series(1, 5000) n")
        yield server


@pytest.fixture(scope="module")
def node_pg():
    """The function's folder with its package installed, once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node or npm is not installed")
    folder = BUILT / "node-pg"
    source = FUNCTIONS / "node-pg"
    if not (folder / "node_modules/pg").is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True)
        command = ["npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--silent"]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"the package pg cannot be installed: {(made.stderr or made.stdout)[-300:]}")
    shutil.copy(source / "app.js", folder / "app.js")
    return folder


def begin(start, home, database, functions, ingress=True):
    more = json.loads(json.dumps(DATABASE))
    if not ingress:
        more["DatabaseGroup"]["Properties"]["SecurityGroupIngress"] = []
    template = templates.write(home, functions, network.resources(subnets=2) | more)
    return start("--world", "none", "--attach", f"Database=127.0.0.1:{database.port}", template=template)


def settings(**more):
    config = {"SubnetIds": [ref("Private0"), ref("Private1")], "SecurityGroupIds": [ref("Group")]}
    host = {"Variables": {"DB_HOST": {"Fn::GetAtt": ["Database", "Endpoint.Address"]}}}
    return {"Timeout": 20, "MemorySize": 256, "VpcConfig": config, "Environment": host} | more


def major():
    said = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    return int(said.strip().lstrip("v").split(".")[0])


def node_function(home, node_pg):
    folder = home / "node"
    shutil.copytree(node_pg, folder)
    runtime = f"nodejs{min(max(major() // 2 * 2, 16), 24)}.x"
    return {"Runtime": runtime, "Handler": "app.handler", "CodeUri": "node/"}


def test_nodes_pg_reaches_the_database_at_its_name(start, tmp_path, database, node_pg):
    functions = {"Orders": ("puppet", settings(**node_function(tmp_path, node_pg)))}
    platform = begin(start, tmp_path, database, functions)
    ask = lambda query, *values: platform.invoke("Orders", {"query": query, "values": values}).json()
    assert ask("SELECT item FROM orders WHERE id = $1", 42) == {"rows": [{"item": "item 42"}]}
    # Many packets at once, in order.
    rows = ask("SELECT id, repeat(item, 20) AS text FROM orders ORDER BY id")["rows"]
    assert [row["id"] for row in rows] == list(range(1, 5001))
    assert rows[-1]["text"] == "item 5000" * 20
    # One environment, one connection, of the platform's own as the server sees it.
    assert database.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = '' AND datname = 'shop' AND pid <> pg_backend_pid() AND backend_type = 'client backend'") == ["1"]
    interfaces = {row["name"]: row["connections"] for row in platform.request("GET", "/_onrush/limits").json()["interfaces"]}
    assert sum(interfaces.values()) == 1 and platform.limit("nat.ports", "Nat")["peak"] == 0, "inside the VPC"


def test_a_database_whose_group_lets_nobody_in_is_silent_to_nodes_pg(start, tmp_path, database, node_pg):
    functions = {"Orders": ("puppet", settings(**node_function(tmp_path, node_pg)))}
    platform = begin(start, tmp_path, database, functions, ingress=False)
    result = platform.invoke("Orders", {"query": "SELECT 1"})
    assert "timeout" in result.json()["error"], result
    assert result.headers["x-onrush-limit"].startswith("sg.no-rule; resource=Database")
    assert "packets were dropped by sg.no-rule of Database" in result.log


def test_psql_runs_in_a_function(start, tmp_path, database):
    psql = f"{postgres.programs()}/psql"
    platform = begin(start, tmp_path, database, {"Red": ("puppet", settings())})
    code = f"import os\nos.environ['PGPASSWORD'] = 'secret'\n{RUN}"
    host = puppet.inside(platform, "answer = os.environ['DB_HOST']")
    words = [psql, "-XAt", "-h", host, "-U", "shop", "-d", "shop", "-c", "SELECT count(*) FROM orders"]
    code, out, error = puppet.inside(platform, code, words=words)
    assert (code, out) == (0, "5000\n"), error
