"""Browser forms: presigned by boto3, sent by curl as a browser sends them."""

import os
import subprocess
import tempfile
import xml.etree.ElementTree as ET

from common import listed, nothing_plain, s3, store
from depth_multipart import MIB, noise

PLAIN = {"small": noise(1, 70_001), "exact": noise(2, 8 * MIB), "long": noise(3, 21 * MIB + 17)}


def send(post, body, name="a b.bin", **more):
    """Status, headers and body of the answer to a form."""
    with tempfile.TemporaryDirectory() as directory:
        file, head = os.path.join(directory, "file"), os.path.join(directory, "head")
        with open(file, "wb") as out:
            out.write(body)
        fields = {**post["fields"], **more}
        arguments = ["curl", "--silent", "--show-error", "--dump-header", head, "--max-redirs", "0"]
        for field, value in fields.items():
            arguments += ["--form-string", f"{field}={value}"]
        arguments += ["--form", f'file=@"{file}";filename="{name}"', "--form-string", "submit=Upload", post["url"]]
        answer = subprocess.run(arguments, stdout=subprocess.PIPE, check=True).stdout
        with open(head) as text:
            lines = text.read().strip().split("\n\n")[-1].splitlines()
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
    return int(lines[0].split()[1]), headers, answer.decode()


def code(answer):
    return ET.fromstring(answer).findtext("Code")


def forms(client, bucket):
    """browser forms: of every length, with metadata, conditions, answers; nothing is stored of what is refused"""
    for key, body in PLAIN.items():
        post = client.generate_presigned_post(
            bucket,
            key,
            Fields={"Content-Type": "image/png", "x-amz-meta-who": "form", "success_action_status": "201"},
            Conditions=[
                {"Content-Type": "image/png"},
                {"x-amz-meta-who": "form"},
                {"success_action_status": "201"},
                ["content-length-range", len(body), len(body)],
            ],
        )
        status, headers, answer = send(post, body)
        assert status == 201, (status, answer)
        document = ET.fromstring(answer)
        head = client.head_object(Bucket=bucket, Key=key)
        assert document.findtext("ETag") == head["ETag"] == headers["etag"], (answer, head)
        assert (document.findtext("Bucket"), document.findtext("Key")) == (bucket, key)
        assert (head["ContentType"], head["Metadata"]["who"], head["ContentLength"]) == ("image/png", "form", len(body))
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    assert listed(bucket) == {key: len(body) for key, body in PLAIN.items()}
    long = {key: body for key, body in PLAIN.items() if len(body) > MIB}
    short = {key: PLAIN[key] for key in PLAIN.keys() - long.keys()}
    for key, body in long.items():
        stored = store().get_object(Bucket=bucket, Key=key)["Body"].read()
        assert not any(body[at : at + 16] in stored for at in range(0, len(body), MIB)), key
        client.delete_object(Bucket=bucket, Key=key)
    nothing_plain(bucket, short)

    name = client.generate_presigned_post(bucket, "of/${filename}")
    status, headers, _ = send(name, b"named")
    assert (status, headers["location"]) == (204, f"/{bucket}/of/a%20b.bin")
    assert client.get_object(Bucket=bucket, Key="of/a b.bin")["Body"].read() == b"named"
    client.delete_object(Bucket=bucket, Key="of/a b.bin")

    address = "http://127.0.0.1:1/done?n=1"
    conditions = [{"success_action_redirect": address}]
    post = client.generate_presigned_post(bucket, "r", {"success_action_redirect": address}, conditions)
    status, headers, _ = send(post, b"redirected")
    etag = client.head_object(Bucket=bucket, Key="r")["ETag"].strip('"')
    assert status == 303 and headers["location"] == f"{address}&bucket={bucket}&key=r&etag=%22{etag}%22", headers
    client.delete_object(Bucket=bucket, Key="r")

    ranged = client.generate_presigned_post(bucket, "k", Conditions=[["content-length-range", 5, 10 * MIB]])
    good = client.generate_presigned_post(bucket, "k")
    expired = client.generate_presigned_post(bucket, "k", ExpiresIn=-1)
    other = s3(secret="wrong").generate_presigned_post(bucket, "k")
    for post, body, more, expected in [
        (ranged, b"1234", {}, "EntityTooSmall"),
        (ranged, noise(4, 10 * MIB + 1), {}, "EntityTooLarge"),
        (good, b"12345", {"key": "other"}, "AccessDenied"),
        (good, b"12345", {"acl": "public-read"}, "AccessDenied"),
        (good, b"12345", {"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"),
        (expired, b"12345", {}, "AccessDenied"),
        (other, b"12345", {}, "SignatureDoesNotMatch"),
        ({**good, "fields": {"key": "k"}}, b"12345", {}, "AccessDenied"),
    ]:
        status, _, answer = send(post, body, **more)
        assert code(answer) == expected and status in (400, 403), (expected, status, answer)
    nothing_plain(bucket, short)
    assert not store().list_multipart_uploads(Bucket=bucket).get("Uploads"), "an upload is left"
