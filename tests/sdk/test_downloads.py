"""Code comes back as it went in: `Code.Location` and `Content.Location`, by plain HTTP, until they expire."""

import base64
import hashlib
import io
import re
import urllib.error
import urllib.request
import zipfile

import boto3

from support import packages
from support.platform import ROLE


def fetch(location):
    """Body and type of a location; the code and text of its error."""
    try:
        with urllib.request.urlopen(location, timeout=10) as answer:
            return answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def checksum(zip_file):
    return base64.b64encode(hashlib.sha256(zip_file).digest()).decode()


def test_a_functions_zip_comes_back_byte_for_byte(platform):
    client, code = platform.client(), packages.built("echo")
    name = platform.create("kept", code, Publish=True)
    other = packages.package({"bootstrap": ("#!/bin/sh\nexit 1\n", 0o755)})
    first = client.get_function(FunctionName=name)["Code"]
    assert first["RepositoryType"] == "S3"
    client.update_function_code(FunctionName=name, ZipFile=other)
    for qualifier, sent in (("1", code), ("$LATEST", other)):
        shown = client.get_function(FunctionName=name, Qualifier=qualifier)
        body, kind = fetch(shown["Code"]["Location"])
        assert (body, kind) == (sent, "application/zip")
        assert checksum(body) == shown["Configuration"]["CodeSha256"]
        assert len(body) == shown["Configuration"]["CodeSize"]
    # It was of code that is no more the function's.
    assert fetch(first["Location"])[0] == 404


def test_a_layers_zip_comes_back_byte_for_byte(platform):
    client, files = platform.client(), packages.package({"words": "some", "lib/more": "others"})
    made = client.publish_layer_version(LayerName="kept", Content={"ZipFile": files})
    number = {"LayerName": "kept", "VersionNumber": made["Version"]}
    found = client.get_layer_version(**number)
    by_arn = client.get_layer_version_by_arn(Arn=made["LayerVersionArn"])
    for content in (made["Content"], found["Content"], by_arn["Content"]):
        assert fetch(content["Location"])[0] == files
        assert checksum(files) == content["CodeSha256"]
    client.delete_layer_version(**number)
    assert fetch(found["Content"]["Location"])[0] == 404


def test_a_location_cannot_be_changed_or_guessed_and_comes_in_s3s_words(platform):
    client = platform.client()
    name = platform.create("closed", packages.built("echo"))
    location = client.get_function(FunctionName=name)["Code"]["Location"]
    expires = int(re.search(r"Expires=(\d+)", location)[1])
    for changed in (
        location.replace("/closed/", "/kept/"),
        location.replace(f"Expires={expires}", f"Expires={expires + 1}"),
        location.split("&Signature")[0],
        location.split("?")[0],
    ):
        code, text = fetch(changed)
        assert code == 403 and "<Code>SignatureDoesNotMatch</Code>" in text, changed
    assert fetch(urllib.request.Request(location, method="POST"))[0] == 405


def test_a_location_needs_no_other_signature_where_the_api_does(start):
    platform, code = start("--credentials", "AKIDEXAMPLE:secret"), packages.built("echo")
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    for region in ("us-east-1", "eu-west-1"):
        client = boto3.client("lambda", endpoint_url=platform.url, region_name=region, **keys)
        client.create_function(
            FunctionName="signed", Runtime="provided.al2023", Role=ROLE, Handler="bootstrap", Code={"ZipFile": code}
        )
        assert fetch(client.get_function(FunctionName="signed")["Code"]["Location"])[0] == code
    assert fetch(f"{platform.url}/_onrush/functions")[0] == 403


def test_a_folder_of_a_template_comes_as_a_zip_of_its_files(start, tmp_path):
    (tmp_path / "code/lib").mkdir(parents=True)
    (tmp_path / "code/app.py").write_text("def handler(event, context):\n    return 1\n")
    (tmp_path / "code/lib/words.txt").write_text("some")
    template = tmp_path / "template.yaml"
    template.write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  Cart:\n    Type: AWS::Serverless::Function\n"
        "    Properties: {FunctionName: cart, Runtime: python3.13, Handler: app.handler, CodeUri: code}\n"
    )
    client = start(template=template).client()
    body, _ = fetch(client.get_function(FunctionName="cart")["Code"]["Location"])
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "app.py": (tmp_path / "code/app.py").read_bytes(),
            "lib/words.txt": b"some",
        }
    # What came can be sent again.
    answer = client.update_function_code(FunctionName="cart", ZipFile=body)
    assert answer["CodeSha256"] == checksum(body)
