"""Code that lies in S3: fetched from the server that the user has attached, with bounds."""

import concurrent.futures
import http.server
import itertools
import json
import threading
import time
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import pytest

from support import packages
from support.platform import ROLE

KEY = "code/b c+d/é.zip"
ARGUMENTS = {"Runtime": "provided.al2023", "Role": ROLE, "Handler": "bootstrap"}
ACCESS_DENIED = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
NO_SUCH_KEY = "<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
UNZIPPED_MAX = 262_144_000
FETCHES_MAX = 4
REQUESTS_MAX = 64
KEYS_SHOWN = """
import os

def handler(event, context):
    return [os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
"""


class Bucket(http.server.BaseHTTPRequestHandler):
    """One bucket's objects, to whoever signs with a key of `server.keys`, as MinIO has it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        split = urllib.parse.urlsplit(self.path)
        version = urllib.parse.parse_qs(split.query).get("versionId", ["latest"])[0]
        if not self.is_signed():
            return self.answer(403, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>")
        found = self.server.objects.get((urllib.parse.unquote(split.path), version))
        if callable(found):
            return found(self)
        self.answer(404, NO_SUCH_KEY) if found is None else self.answer(200, found)

    def is_signed(self):
        given = self.headers["Authorization"]
        key_id = given.split("Credential=")[1].split("/")[0]
        request = botocore.awsrequest.AWSRequest(
            method="GET",
            url=f"http://{self.headers['Host']}{self.path}",
            headers={"Host": self.headers["Host"], "X-Amz-Content-SHA256": self.headers["x-amz-content-sha256"]},
        )
        request.context["timestamp"] = self.headers["x-amz-date"]
        request.headers["X-Amz-Date"] = self.headers["x-amz-date"]
        credentials = botocore.credentials.Credentials(key_id, self.server.keys.get(key_id, ""))
        region = given.split("Credential=")[1].split("/")[2]
        auth = botocore.auth.S3SigV4Auth(credentials, "s3", region)
        self.server.signers.append((key_id, region))
        canonical = auth.canonical_request(request)
        return given.endswith(auth.signature(auth.string_to_sign(request, canonical), request))

    def answer(self, status, body):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def s3():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.daemon_threads = True
    server.asked, server.signers, server.objects = [], [], {}
    server.keys = {"ASIAONRUSHLOCAL00000": "onrush-local-secret-opens-nothing-elsewhere"}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def attached(s3):
    return "--attach", f"s3=127.0.0.1:{s3.server_address[1]}"


def with_key(client, key, secret, token=None):
    client._request_signer._credentials = botocore.credentials.Credentials(key, secret, token)
    return client


def test_functions_and_layers_are_made_and_changed_from_it(start, s3):
    client = start(*attached(s3)).client()
    first, second = packages.built("echo"), packages.package({"bootstrap": ("#!/bin/sh\nexit 3\n", 0o755)})
    s3.objects = {(f"/assets/{KEY}", "latest"): first, (f"/assets/{KEY}", "v/2="): second}
    made = client.create_function(FunctionName="cart", Code={"S3Bucket": "assets", "S3Key": KEY}, **ARGUMENTS)
    assert made["CodeSize"] == len(first)
    assert client.invoke(FunctionName="cart", Payload=b"[1]")["Payload"].read() == b"[1]"
    changed = client.update_function_code(FunctionName="cart", S3Bucket="assets", S3Key=KEY, S3ObjectVersion="v/2=")
    assert changed["CodeSize"] == len(second) and changed["CodeSha256"] != made["CodeSha256"]
    assert client.invoke(FunctionName="cart")["FunctionError"] == "Unhandled"
    layer = client.publish_layer_version(LayerName="all", Content={"S3Bucket": "assets", "S3Key": KEY})
    assert layer["Content"]["CodeSha256"] == made["CodeSha256"]
    assert s3.asked[0] == "/assets/code/b%20c%2Bd/%C3%A9.zip"
    assert s3.asked[1] == s3.asked[0] + "?versionId=v%2F2%3D"


def test_it_is_signed_with_the_users_own_key(start, s3, monkeypatch):
    s3.keys = {"AKIAOWN": "own-secret"}
    s3.objects = {("/assets/a.zip", "latest"): packages.built("echo")}
    code = {"Code": {"S3Bucket": "assets", "S3Key": "a.zip"}}
    platform = start(*attached(s3))
    with pytest.raises(platform.client().exceptions.InvalidParameterValueException, match="SignatureDoesNotMatch"):
        platform.client().create_function(FunctionName="cart", **code, **ARGUMENTS)
    platform.close()
    platform = start(*attached(s3), "--credentials", "AKIAOWN:own-secret")
    client = with_key(platform.client(), "AKIAOWN", "own-secret")
    assert client.create_function(FunctionName="cart", **code, **ARGUMENTS)["State"] == "Pending"


def test_each_account_and_region_asks_with_its_own_key(start, s3):
    """The keys of one account open nothing to another, nor to a session of its own."""
    home, other = "000000000000", "222222222222"
    words = ["ZHOME:secret", "AHOME:secret", f"ZOTHER:secret@{other}", f"AOTHER:secret@{other}"]
    platform = start(*attached(s3), *(part for word in words for part in ("--credentials", word)))
    s3.keys = {key: "secret" for key in ("ZHOME", "ZOTHER")}
    s3.objects = {("/assets/a.zip", "latest"): packages.built("echo")}
    content = {"S3Bucket": "assets", "S3Key": "a.zip"}
    for key, region, signer in [
        ("AHOME", "us-east-1", "ZHOME"),
        ("ZHOME", "eu-west-1", "ZHOME"),
        ("AOTHER", "us-east-1", "ZOTHER"),
        ("ZOTHER", "eu-west-1", "ZOTHER"),
    ]:
        client = with_key(platform.client(region), key, "secret")
        made = client.publish_layer_version(LayerName="all", Content=content)
        assert f":{home if 'HOME' in key else other}:" in made["LayerArn"]
        assert s3.signers[-1] == (signer, region)


@pytest.mark.parametrize("account", ["", "@000000000000", "@222222222222"])
def test_a_functions_session_asks_with_the_functions_key(start, s3, account):
    platform = start(*attached(s3), "--credentials", f"AKIAOWN:secret{account}")
    s3.keys = {"AKIAOWN": "secret"}
    s3.objects = {("/assets/a.zip", "latest"): packages.built("echo")}
    own = with_key(platform.client(), "AKIAOWN", "secret")
    own.create_function(
        FunctionName="keys",
        Runtime="python3.13",
        Handler="index.handler",
        Role=ROLE,
        Code={"ZipFile": packages.package({"index.py": KEYS_SHOWN})},
    )
    own.get_waiter("function_active_v2").wait(FunctionName="keys", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100})
    key, secret, token = json.loads(own.invoke(FunctionName="keys")["Payload"].read())
    session = with_key(platform.client(), key, secret, token)
    code = {"S3Bucket": "assets", "S3Key": "a.zip"}
    for ask in [
        lambda client: client.publish_layer_version(LayerName="all", Content=code),
        lambda client: client.create_function(FunctionName="cart", Code=code, **ARGUMENTS),
        lambda client: client.update_function_code(FunctionName="keys", DryRun=True, **code),
    ]:
        with pytest.raises(own.exceptions.InvalidParameterValueException, match="SignatureDoesNotMatch"):
            ask(session)
        assert s3.signers[-1][0] == key
        ask(own)
        assert s3.signers[-1][0] == "AKIAOWN"
    # Known there, it opens what is let to functions.
    s3.keys[key] = secret
    assert session.publish_layer_version(LayerName="all", Content=code)["Version"] == 2


def test_few_objects_are_on_their_way_at_once(start, s3):
    platform = start(*attached(s3))
    client = platform.client()
    platform.create("cart", packages.built("echo"))
    lock, now, most = threading.Lock(), 0, 0

    def slow(handler):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.5)
        with lock:
            now -= 1
        handler.answer(200, packages.built("echo"))

    s3.objects = {("/assets/slow.zip", "latest"): slow}

    def ask(_):
        return client.update_function_code(FunctionName="cart", S3Bucket="assets", S3Key="slow.zip", DryRun=True)

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert len(list(pool.map(ask, range(10)))) == 10
    assert most == FETCHES_MAX


def test_an_s3_that_hangs_holds_up_nothing_else(start, s3):
    """Whoever waits for it holds a thread: more than may are refused, as SDKs ask again, and other operations go on."""
    platform = start(*attached(s3))
    platform.create("cart", packages.built("echo"))
    go_on = threading.Event()

    def hangs(handler):
        go_on.wait(60)
        handler.answer(404, NO_SUCH_KEY)

    s3.objects = {("/assets/hangs.zip", "latest"): hangs}
    path, body = "/2015-03-31/functions/cart/code", json.dumps({"S3Bucket": "assets", "S3Key": "hangs.zip", "DryRun": True})
    with concurrent.futures.ThreadPoolExecutor(REQUESTS_MAX + 10) as pool:
        asked = [pool.submit(platform.request, "PUT", path, body) for _ in range(REQUESTS_MAX + 10)]
        try:
            early = [answer.result() for answer in itertools.islice(concurrent.futures.as_completed(asked, 30), 10)]
            assert {(answer.status, answer.headers["x-amzn-ErrorType"]) for answer in early} == {(500, "ServiceException")}
            assert all(f"{REQUESTS_MAX} objects" in answer.json()["Message"] for answer in early), early
            platform.client().update_function_configuration(FunctionName="cart", Timeout=9)
        finally:
            go_on.set()
        assert [answer.result().status for answer in asked].count(400) == REQUESTS_MAX


def test_what_cannot_be_had_is_refused_and_changes_nothing(start, s3):
    platform = start(*attached(s3))
    client = platform.client()
    platform.create("cart", packages.built("echo"))
    before = client.get_function_configuration(FunctionName="cart")

    def endless(handler):
        """More than any package may have, and never said how much."""
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        piece = bytes(1 << 20)
        try:
            for _ in range(2 * UNZIPPED_MAX // len(piece)):
                handler.wfile.write(piece)
        except OSError:
            s3.stopped = True
        handler.close_connection = True

    def announced(handler):
        """As much, said beforehand, and then silence."""
        handler.send_response(200)
        handler.send_header("Content-Length", str(2 * UNZIPPED_MAX))
        handler.end_headers()
        handler.rfile.read(1)
        handler.close_connection = True

    def broken(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"PK")
        handler.close_connection = True

    s3.objects = {
        ("/assets/text.zip", "latest"): b"no archive",
        ("/assets/endless.zip", "latest"): endless,
        ("/assets/announced.zip", "latest"): announced,
        ("/assets/broken.zip", "latest"): broken,
        ("/assets/private.zip", "latest"): lambda handler: handler.answer(403, ACCESS_DENIED),
        ("/assets/bare.zip", "latest"): lambda handler: handler.answer(403, ""),
        ("/assets/plain.zip", "latest"): lambda handler: handler.answer(500, "what?"),
    }
    no_key = "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
    denied = "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for assets/private.zip. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
    invalid = "InvalidParameterValueException"
    for key, code, words in [
        ("none.zip", invalid, no_key),
        ("text.zip", invalid, "Could not unzip uploaded file."),
        ("private.zip", "AccessDeniedException", denied),
        ("bare.zip", "AccessDeniedException", denied.replace("private", "bare").replace("Access Denied", "Forbidden")),
        ("announced.zip", invalid, f"Unzipped size must be smaller than {UNZIPPED_MAX} bytes"),
        ("endless.zip", invalid, f"Unzipped size must be smaller than {UNZIPPED_MAX} bytes"),
        ("broken.zip", "ServiceException", "Error occurred while GetObject. S3 at http://127.0.0.1:"),
        ("plain.zip", invalid, "Error occurred while GetObject. S3 Error Code: 500. S3 Error Message: Internal Server Error"),
    ]:
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            client.update_function_code(FunctionName="cart", S3Bucket="assets", S3Key=key)
        error = refused.value.response["Error"]
        assert error["Code"] == code and error["Message"].startswith(words), refused.value
    assert s3.stopped
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="provide a source for function code"):
        client.update_function_code(FunctionName="cart", S3Bucket="assets")
    answer = platform.request("PUT", "/2015-03-31/functions/cart/code", json.dumps({"S3Bucket": "a.", "S3Key": ""}))
    assert answer.status == 400 and "3 validation errors detected" in answer.json()["message"], answer
    assert client.get_function_configuration(FunctionName="cart") | {"ResponseMetadata": 0} == before | {"ResponseMetadata": 0}
    assert not list((platform.data_dir / "staging").iterdir())


def test_without_an_s3_the_refusal_says_how_to_attach_one(start):
    platform = start()
    answer = platform.request(
        "POST",
        "/2015-03-31/functions",
        json.dumps({"FunctionName": "cart", "Code": {"S3Bucket": "assets", "S3Key": "a.zip"}} | ARGUMENTS),
    )
    assert answer.status == 501 and "onrush up --attach s3=HOST:PORT" in answer.body.decode(), answer
