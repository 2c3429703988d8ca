"""`up --watch`: a save answers within a second, no request fails meanwhile, and a broken template changes nothing."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from support import puppet
from support.paths import BINARY, BUILT
from support.platform import NotReady

pytestmark = pytest.mark.skipif(not puppet.here(), reason=f"{puppet.PYTHON} is not installed")

# The puppet's runtime with a handler of ours: what it says and its module say must be of one save.
BOOTSTRAP = f"""#!{puppet.PYTHON} -IS
import json, os, sys
sys.path.insert(0, "/var/task")
from http.client import HTTPConnection
from part import VERSION as part
VERSION = %d
api = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    answer.read()
    text = json.dumps({{"version": VERSION, "part": part, "stage": os.environ.get("STAGE")}})
    api.request("POST", "/2018-06-01/runtime/invocation/%%s/response" %% answer.headers["Lambda-Runtime-Aws-Request-Id"], text)
    api.getresponse().read()
"""


def save(folder, version, pause_s=0):
    """Two files, in place, as an editor does: emptied first, and written when the disk has time."""
    with open(folder / "part.py", "w") as part, open(folder / "bootstrap", "w") as bootstrap:
        time.sleep(pause_s)
        part.write(f"VERSION = {version}\n")
        bootstrap.write(BOOTSTRAP % version)


def template_of(home, functions, text=None):
    template = home / "app.json"
    resources = {
        name: {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "CodeUri": f"{name.lower()}/",
                "Handler": "bootstrap",
                "Runtime": "provided.al2023",
                "FunctionName": name,
                "Environment": {"Variables": {"STAGE": "one"}},
            }
            | properties,
        }
        for name, properties in functions.items()
    }
    text = text or json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources})
    # As editors do that write beside and rename.
    beside = home / "app.json.new"
    beside.write_text(text)
    beside.rename(template)
    return template


@pytest.fixture
def home(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "cart").mkdir()
    save(tmp_path / "cart", 1)
    (tmp_path / "cart/bootstrap").chmod(0o755)
    template_of(tmp_path, {"Cart": {}})
    return tmp_path


def answers(platform, wanted, seconds=60):
    """Waits until `wanted` of an answer is true; how long it took."""
    begun = time.monotonic()
    while not wanted(answer := platform.invoke("Cart", whole=False)):
        assert time.monotonic() < begun + seconds, f"{answer}\n{platform.stderr()}"
        time.sleep(0.005)
    return time.monotonic() - begun


def says(platform, text, seconds=60):
    deadline = time.monotonic() + seconds
    while text not in platform.stderr():
        assert time.monotonic() < deadline, platform.stderr()
        time.sleep(0.02)


class Load:
    """Clients that never stop; what was not a good answer is kept."""

    def __init__(self, platform, clients=4):
        self.platform, self.ended, self.failures, self.count = platform, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def run(self):
        while not self.ended.is_set():
            answer = self.platform.invoke("Cart", whole=False)
            good = answer.status == 200 and answer.error is None
            if not good or answer.json()["version"] != answer.json()["part"]:
                self.failures.append(repr(answer))
            self.count += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def test_each_save_answers_and_no_request_fails_under_load(start, home):
    platform = start("--watch", home=home, template=home / "app.json")
    took = []
    with Load(platform) as load:
        for version in range(2, 14):
            # A pause is longer than the quiet that ends a save, and shorter than what an emptied file is waited for.
            save(home / "cart", version, pause_s=0.2 if version % 4 == 0 else 0)
            took.append(answers(platform, lambda answer: answer.json()["version"] == version))
    print(f"{load.count} requests, saved to answering: " + " ".join(f"{t:.2f}" for t in sorted(took)), file=sys.stderr)
    assert load.failures == []
    assert load.count > len(took)
    assert platform.stderr().count("Cart updated: code") >= 12


def test_a_changed_template_is_deployed_and_a_broken_one_changes_nothing(start, home):
    platform = start("--watch", home=home, template=home / "app.json")
    shutil.copytree(BUILT / "echo", home / "echo")
    with Load(platform) as load:
        template_of(home, {"Cart": {"Environment": {"Variables": {"STAGE": "two"}}, "Timeout": 9}, "Echo": {}})
        answers(platform, lambda answer: answer.json()["stage"] == "two")
        says(platform, "Echo created")
        assert platform.invoke("Echo", {"a": 1}).status == 200
        template_of(home, {}, text='{"Resources": {"Cart": {"Type": "AWS::Serverless::Function", "Properties": {')
        says(platform, "what ran before goes on running")
        assert platform.invoke("Cart").json()["stage"] == "two"
        template_of(home, {"Cart": {"Environment": {"Variables": {"STAGE": "three"}}}})
        answers(platform, lambda answer: answer.json()["stage"] == "three")
        says(platform, "Echo removed")
    assert load.failures == []
    text = platform.stderr()
    assert "Cart updated: timeout 3 -> 9 s, variables STAGE" in text, text


def test_a_deployment_that_fails_halfway_leaves_everything_as_it_was(start, home):
    """Cart has new code and settings, and Echo is there, when Zed turns out to have no code."""
    platform = start("--watch", home=home, template=home / "app.json")
    shutil.copytree(BUILT / "echo", home / "echo")
    with Load(platform) as load:
        shutil.copytree(home / "cart", home / "other")
        save(home / "other", 2)
        template_of(home, {"Cart": {"CodeUri": "other/", "Timeout": 9}, "Echo": {}, "Zed": {}})
        says(platform, "rolled back: Cart updated: code, timeout 9 -> 3 s; Echo removed")
        says(platform, "what ran before goes on running")
        answers(platform, lambda answer: answer.json()["version"] == 1)
        assert platform.invoke("Echo", whole=False).status == 404
        command = [str(BINARY), "deploy", "app.json", "--endpoint", platform.url]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "`zed/`" in done.stderr, done
        assert "rolled back: Cart updated: code, timeout 9 -> 3 s; Echo removed" in done.stderr, done
        template_of(home, {"Cart": {"CodeUri": "other/"}, "Echo": {}})
        answers(platform, lambda answer: answer.json()["version"] == 2)
        says(platform, "Echo created")
    assert load.failures == []


def test_http_routes_follow_the_template(start, home):
    api = {"Api": {"Type": "HttpApi", "Properties": {"Path": "/cart", "Method": "GET"}}}
    template_of(home, {"Cart": {"Events": api}})
    platform = start("--watch", home=home, template=home / "app.json")
    (door,) = [door["id"] for door in platform.summary["doors"]]
    assert platform.door(door, "/cart").status == 200
    api["Api"]["Properties"]["Path"] = "/basket"
    template_of(home, {"Cart": {"Events": api}})
    says(platform, f"{door} updated: routes")
    assert platform.door(door, "/basket").status == 200
    assert platform.door(door, "/cart").status == 404


def test_deploy_brings_in_what_watch_off_left_out(start, home):
    platform = start("--watch=off", home=home, template=home / "app.json")
    assert platform.invoke("Cart").json() == {"version": 1, "part": 1, "stage": "one"}
    save(home / "cart", 2)

    def deploy(*arguments):
        command = [str(BINARY), "deploy", *arguments, "--endpoint", platform.url]
        return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60)

    assert platform.invoke("Cart").json()["version"] == 1
    done = deploy()
    assert (done.returncode, done.stdout) == (0, "Cart updated: code\n"), done
    assert platform.invoke("Cart").json()["version"] == 2
    template_of(home, {"Cart": {"MemorySize": 256}})
    done = deploy("app.json", "--output", "json")
    (change,) = json.loads(done.stdout)["changes"]
    assert change == {"id": "Cart", "change": "updated", "what": ["memory 128 -> 256 MB"]}, done
    assert deploy("app.json").stdout == "nothing changed\n"
    template_of(home, {"Cart": {"MemorySize": 1}})
    done = deploy("app.json")
    assert done.returncode == 2 and "MemorySize" in done.stderr, done
    assert platform.invoke("Cart").status == 200


def test_the_platform_without_a_template_takes_one(start, home):
    (home / "app.json").rename(home / "later.json")
    platform = start(home=home)
    answer = platform.request("POST", "/_onrush/deploy", "{}")
    assert answer.status == 400 and "runs no template" in answer.json()["message"], answer
    for body, why in [("[]", "JSON object"), ("{", "no JSON"), ('{"template": "later.json"}', "absolute")]:
        answer = platform.request("POST", "/_onrush/deploy", body)
        assert answer.status == 400 and why in answer.json()["message"], answer
    assert platform.request("GET", "/_onrush/deploy").status == 405
    body = json.dumps({"template": str(home / "later.json")})
    answer = platform.request("POST", "/_onrush/deploy", body)
    assert answer.status == 200 and answer.json()["lines"] == ["Cart created"], answer
    assert platform.invoke("Cart").json()["version"] == 1


RUST = """
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

fn call(head: &str, body: &str) -> String {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let mut stream = TcpStream::connect(&api).unwrap();
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\\r\\nHost: {api}\\r\\nContent-Length: {length}\\r\\nConnection: close\\r\\n\\r\\n{body}").unwrap();
    let (mut id, mut line, mut reader) = (String::new(), String::new(), BufReader::new(stream));
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some((_, value)) = line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("lambda-runtime-aws-request-id")) {
            id = value.trim().to_owned();
        }
        line.clear();
    }
    let _ = reader.read_to_end(&mut Vec::new());
    id
}

fn main() {
    loop {
        let id = call("GET /2018-06-01/runtime/invocation/next", "");
        call(&format!("POST /2018-06-01/runtime/invocation/{id}/response"), "{\\"version\\": VERSION}");
    }
}
"""


@pytest.mark.skipif(not shutil.which("cargo"), reason="cargo is not installed")
def test_a_rust_function_is_built_when_it_is_saved_and_a_failed_build_changes_nothing(start, home):
    folder = home / "cart"
    (folder / "bootstrap").unlink()
    (folder / "src").mkdir()
    (folder / "Cargo.toml").write_text('[package]\nname = "cart"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n')
    (folder / "src/main.rs").write_text(RUST.replace("VERSION", "1"))
    platform = start("--watch", home=home, template=home / "app.json")
    assert platform.invoke("Cart").json() == {"version": 1}
    (folder / "src/main.rs").write_text("fn main() { nonsense }")
    says(platform, "what ran before goes on running", 60)
    assert platform.invoke("Cart").json() == {"version": 1}
    (folder / "src/main.rs").write_text(RUST.replace("VERSION", "2"))
    answers(platform, lambda answer: answer.json()["version"] == 2, 60)


def test_parts_of_a_template_are_read_from_their_files_and_followed(start, home):
    def definition(path, name="api.json"):
        integration = {"type": "aws_proxy", "httpMethod": "POST", "payloadFormatVersion": "2.0", "uri": {"Fn::GetAtt": ["Cart", "Arn"]}}
        (home / "parts").mkdir(exist_ok=True)
        paths = {path: {"get": {"x-amazon-apigateway-integration": integration}}}
        (home / "parts" / name).write_text(json.dumps({"openapi": "3.0.1", "paths": paths}))

    definition("/one")
    (home / "functions").mkdir()
    template = template_of(home, {"Cart": {"CodeUri": "../cart"}})
    text = json.loads(template.read_text())
    include = {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {"Location": "../parts/api.json"}}}
    text["Resources"]["Api"] = {"Type": "AWS::Serverless::HttpApi", "Properties": {"DefinitionBody": include}}
    template = home / "functions" / "app.json"
    template.write_text(json.dumps(text))
    platform = start("--watch", home=home, template=template)
    assert platform.door("Api", "/one").status == 200
    assert platform.door("Api", "/two").status == 404
    definition("/two")
    deadline = time.monotonic() + 20
    while platform.door("Api", "/two").status != 200:
        assert time.monotonic() < deadline, platform.stderr()
        time.sleep(0.05)
    assert platform.door("Api", "/one").status == 404
    # A part that is named before it is written.
    template.write_text(json.dumps(text).replace("parts/api.json", "parts/late.json"))
    assert platform.tells("late.json")
    definition("/three", "late.json")
    deadline = time.monotonic() + 20
    while platform.door("Api", "/three").status != 200:
        assert time.monotonic() < deadline, platform.stderr()
        time.sleep(0.05)
    template.write_text(json.dumps(text))
    platform.stop()
    (home / "parts" / "api.json").unlink()
    os.mkfifo(home / "parts" / "api.json")
    with pytest.raises(NotReady, match=r"api.json is no file"):
        start(home=home, template=template)
