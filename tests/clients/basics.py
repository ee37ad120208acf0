"""One client, unchanged, through s3veil: put, get, ranges, sizes, sync twice, presigned URLs, delete.

basics.py CLIENT
"""

import io
import os
import sys
import tempfile

from common import (BIN, BODIES, ENDPOINT, KEY, SECRET, fetch, listed, nothing_plain, run, s3, same_tree, sizes, tree)

AWS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


def boto3_client(bucket, _work):
    client = s3()
    for key, body in BODIES.items():
        client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/x-test", Metadata={"color": "blue"})
        head = client.head_object(Bucket=bucket, Key=key)
        assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (len(body), "text/x-test", {"color": "blue"})
        assert head["ServerSideEncryption"] == "aws:kms"
        assert client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")["Body"].read() == body, key
    body = BODIES["big.bin"]
    for spec, part in [
        ("0-0", body[:1]), ("65535-65536", body[65535:65537]), ("100000-", body[100000:]), ("-7", body[-7:]),
        ("131072-196607", body[131072:196608]), ("300000-999999", body[300000:]), ("-999999", body),
    ]:
        answer = client.get_object(Bucket=bucket, Key="big.bin", Range=f"bytes={spec}")
        assert answer["Body"].read() == part, spec
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "big.bin"})
    assert fetch(url) == body
    fetch(client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "big.bin"}), "PUT", body)
    assert fetch(url) == body


def awscli(bucket, work):
    aws = lambda *command: run("aws", "--endpoint-url", ENDPOINT, *command, **AWS)
    tree(f"{work}/up", BODIES)
    aws("s3", "sync", f"{work}/up", f"s3://{bucket}")
    assert aws("s3", "sync", f"{work}/up", f"s3://{bucket}").strip() == "", "the second sync transfers something"
    aws("s3", "sync", f"s3://{bucket}", f"{work}/down")
    same_tree(f"{work}/down", BODIES)
    aws("s3api", "get-object", "--bucket", bucket, "--key", "big.bin", "--range", "bytes=65530-65545", f"{work}/part")
    assert open(f"{work}/part", "rb").read() == BODIES["big.bin"][65530:65546]
    assert " 300123 big.bin" in aws("s3", "ls", f"s3://{bucket}/")
    config = f"{work}/config"
    with open(config, "w") as file:
        file.write("[default]\ns3 =\n  signature_version = s3v4\n")
    url = run("aws", "--endpoint-url", ENDPOINT, "s3", "presign", f"s3://{bucket}/big.bin", AWS_CONFIG_FILE=config, **AWS)
    assert fetch(url.strip()) == BODIES["big.bin"]


def rclone(bucket, work):
    # As with S3's own SSE-KMS, rclone must be told that an ETag is not an MD5.
    open(f"{work}/none", "w").close()
    env = {
        "RCLONE_CONFIG": f"{work}/none", "RCLONE_CONFIG_P_TYPE": "s3", "RCLONE_CONFIG_P_PROVIDER": "Other",
        "RCLONE_CONFIG_P_ENDPOINT": ENDPOINT, "RCLONE_CONFIG_P_ACCESS_KEY_ID": KEY, "RCLONE_CONFIG_P_SECRET_ACCESS_KEY": SECRET,
        "RCLONE_CONFIG_P_REGION": "us-east-1", "RCLONE_CONFIG_P_SERVER_SIDE_ENCRYPTION": "aws:kms",
    }
    tree(f"{work}/up", BODIES)
    run("rclone", "sync", f"{work}/up", f"p:{bucket}", **env)
    again = run("rclone", "sync", "-v", f"{work}/up", f"p:{bucket}", **env)
    assert "Copied" not in again and "There was nothing to transfer" in again, again
    run("rclone", "check", "--download", f"{work}/up", f"p:{bucket}", **env)
    run("rclone", "copy", f"p:{bucket}", f"{work}/down", **env)
    same_tree(f"{work}/down", BODIES)
    part = run("rclone", "cat", "--offset", "65530", "--count", "16", f"p:{bucket}/big.bin", **env)
    assert part == BODIES["big.bin"][65530:65546].decode("latin-1"), part
    assert "   300123 big.bin" in run("rclone", "ls", f"p:{bucket}", **env)


def s3cmd(bucket, work):
    host = ENDPOINT.removeprefix("http://")
    options = [
        "--no-ssl", f"--host={host}", f"--host-bucket={host}", f"--access_key={KEY}", f"--secret_key={SECRET}",
        "--region=us-east-1", f"--config={work}/none",
    ]
    tree(f"{work}/up", BODIES)
    run("s3cmd", *options, "sync", "--no-check-md5", f"{work}/up/", f"s3://{bucket}/")
    again = run("s3cmd", *options, "sync", "--no-check-md5", f"{work}/up/", f"s3://{bucket}/")
    assert "upload:" not in again, again
    os.makedirs(f"{work}/down")
    run("s3cmd", *options, "sync", f"s3://{bucket}/", f"{work}/down/")
    same_tree(f"{work}/down", BODIES)
    assert "300123 " in run("s3cmd", *options, "ls", f"s3://{bucket}/big.bin")


def minio_py(bucket, _work):
    from minio import Minio
    from minio.deleteobjects import DeleteObject

    client = Minio(ENDPOINT.removeprefix("http://"), access_key=KEY, secret_key=SECRET, secure=False, region="us-east-1")
    for key, body in BODIES.items():
        client.put_object(bucket, key, io.BytesIO(body), len(body), content_type="text/x-test")
        assert client.stat_object(bucket, key).size == len(body)
        assert client.get_object(bucket, key).read() == body
    assert client.get_object(bucket, "big.bin", offset=65530, length=16).read() == BODIES["big.bin"][65530:65546]
    assert {entry.object_name: entry.size for entry in client.list_objects(bucket, recursive=True)} == sizes(BODIES)
    assert fetch(client.presigned_get_object(bucket, "big.bin")) == BODIES["big.bin"]
    client.put_object(bucket, "gone", io.BytesIO(b"x"), 1)
    assert list(client.remove_objects(bucket, [DeleteObject("gone")])) == []


def s5cmd(bucket, work):
    s5 = lambda *command: run("s5cmd", "--endpoint-url", ENDPOINT, *command, **AWS)
    tree(f"{work}/up", BODIES)
    s5("sync", f"{work}/up/", f"s3://{bucket}/")
    again = s5("sync", "--size-only", f"{work}/up/", f"s3://{bucket}/")
    assert again.strip() == "", again
    s5("cp", f"s3://{bucket}/*", f"{work}/down/")
    same_tree(f"{work}/down", BODIES)
    assert "300123" in s5("ls", f"s3://{bucket}/big.bin")


CLIENTS = {"boto3": boto3_client, "awscli": awscli, "rclone": rclone, "s3cmd": s3cmd, "minio-py": minio_py, "s5cmd": s5cmd}


def main(name):
    bucket = f"basics-{name}"
    client = s3()
    client.create_bucket(Bucket=bucket)
    with tempfile.TemporaryDirectory() as work:
        CLIENTS[name](bucket, work)
    assert listed(bucket) == sizes(BODIES), listed(bucket)
    nothing_plain(bucket, BODIES)
    # One by one and several at once.
    client.delete_object(Bucket=bucket, Key="one")
    rest = [{"Key": key} for key in BODIES if key != "one"]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": rest})
    assert len(answer["Deleted"]) == len(rest), answer
    assert listed(bucket) == {}
    client.delete_bucket(Bucket=bucket)
    print(f"{name}: put, get, ranges, sizes, sync, presigned, delete")


main(sys.argv[1])
