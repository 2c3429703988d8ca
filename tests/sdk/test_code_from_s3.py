"""Code that lies in S3: fetched from the server that the user has attached, with bounds."""

import http.server
import json
import threading
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from support import packages
from support.platform import ROLE

KEY = "code/b c+d/é.zip"
ARGUMENTS = {"Runtime": "provided.al2023", "Role": ROLE, "Handler": "bootstrap"}
NO_SUCH_KEY = "<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
UNZIPPED_MAX = 262_144_000


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
        auth = botocore.auth.S3SigV4Auth(credentials, "s3", "us-east-1")
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
    server.asked, server.objects = [], {}
    server.keys = {"ASIAONRUSHLOCAL00000": "onrush-local-secret-opens-nothing-elsewhere"}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def attached(s3):
    return "--attach", f"s3=127.0.0.1:{s3.server_address[1]}"


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
    client = platform.client()
    client._request_signer._credentials = botocore.credentials.Credentials("AKIAOWN", "own-secret")
    assert client.create_function(FunctionName="cart", **code, **ARGUMENTS)["State"] == "Pending"


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

    def broken(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"PK")
        handler.close_connection = True

    s3.objects = {
        ("/assets/text.zip", "latest"): b"no archive",
        ("/assets/endless.zip", "latest"): endless,
        ("/assets/broken.zip", "latest"): broken,
        ("/assets/plain.zip", "latest"): lambda handler: handler.answer(500, "what?"),
    }
    no_key = "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
    for key, words in [
        ("none.zip", no_key),
        ("text.zip", "Could not unzip uploaded file."),
        ("endless.zip", f"Unzipped size must be smaller than {UNZIPPED_MAX} bytes"),
        ("broken.zip", "Error occurred while GetObject. S3 at http://127.0.0.1:"),
        ("plain.zip", "Error occurred while GetObject. S3 Error Code: 500. S3 Error Message: Internal Server Error"),
    ]:
        with pytest.raises(client.exceptions.InvalidParameterValueException) as refused:
            client.update_function_code(FunctionName="cart", S3Bucket="assets", S3Key=key)
        assert refused.value.response["Error"]["Message"].startswith(words), refused.value
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
