"""Multipart uploads where versions are kept and objects are locked."""

import datetime

from common import listed, refused, store
from depth_multipart import MIB, complete, noise, send


def upload(client, bucket, key, seed, **more):
    """Two parts, the last one so short that it waits beside the upload, and sent twice. Returns body and answer."""
    where = {"Bucket": bucket, "Key": key}
    where["UploadId"] = client.create_multipart_upload(**where, **more)["UploadId"]
    bodies = {1: noise(seed, 5 * MIB + seed), 2: noise(seed + 1, 7_000 + seed)}
    send(client, where, 2, b"other")
    parts = {number: send(client, where, number, body) for number, body in bodies.items()}
    return b"".join(bodies.values()), complete(client, where, parts)


def everything(bucket):
    """Keys of all versions and delete markers in the store, past s3veil."""
    seen = store().list_object_versions(Bucket=bucket)
    return sorted(entry["Key"] for entry in seen.get("Versions", []) + seen.get("DeleteMarkers", []))


def versioned_uploads(client, bucket):
    """versions of multipart uploads: listed, read, copied and deleted by id; no version of s3veil's own stays"""
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    bodies = {}
    for seed in (1, 2):
        body, done = upload(client, bucket, "k", seed)
        bodies[done["VersionId"]] = body
    left = client.create_multipart_upload(Bucket=bucket, Key="aborted")
    where = {"Bucket": bucket, "Key": "aborted", "UploadId": left["UploadId"]}
    send(client, where, 1, b"short")
    client.abort_multipart_upload(**where)
    assert everything(bucket) == ["k", "k"], everything(bucket)

    seen = client.list_object_versions(Bucket=bucket)["Versions"]
    assert {entry["VersionId"]: entry["Size"] for entry in seen} == {v: len(body) for v, body in bodies.items()}
    for version, body in bodies.items():
        which = {"Bucket": bucket, "Key": "k", "VersionId": version}
        assert client.get_object(**which)["Body"].read() == body
        across = client.get_object(**which, Range=f"bytes={5 * MIB - 9}-{5 * MIB + 99}")
        assert across["Body"].read() == body[5 * MIB - 9 : 5 * MIB + 100] and across["VersionId"] == version
        head = client.head_object(**which, PartNumber=2)
        assert (head["PartsCount"], head["VersionId"]) == (2, version)
        copied = client.copy_object(Bucket=bucket, Key=f"copy {version}", CopySource={**which})
        assert copied["CopySourceVersionId"] == version
        assert client.get_object(Bucket=bucket, Key=f"copy {version}")["Body"].read() == body
        missing = {**which, "VersionId": version[:-1] + ("0" if version[-1] != "0" else "1")}
        refused("NoSuchVersion NoSuchKey", client.copy_object, Bucket=bucket, Key="no", CopySource=missing)
    for entry in client.list_object_versions(Bucket=bucket)["Versions"]:
        client.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    client.delete_bucket(Bucket=bucket)


def locked_uploads(client, bucket):
    """multipart uploads under object lock: by the client's headers and by the bucket's default"""
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    named = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until, "ObjectLockLegalHoldStatus": "ON"}
    body, done = upload(client, bucket, "named", 1, **named)
    head = client.head_object(Bucket=bucket, Key="named")
    assert (head["ObjectLockMode"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "ON"), head
    assert client.get_object(Bucket=bucket, Key="named")["Body"].read() == body
    refused("AccessDenied InvalidRequest", client.delete_object, Bucket=bucket, Key="named", VersionId=done["VersionId"])
    assert everything(bucket) == ["named"], everything(bucket)

    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    body, done = upload(client, bucket, "default", 3)
    assert client.head_object(Bucket=bucket, Key="default")["ObjectLockMode"] == "GOVERNANCE"
    assert client.get_object(Bucket=bucket, Key="default")["Body"].read() == body
    # The default locks what s3veil keeps of an upload as well: it stays until then, out of sight.
    assert any(key.startswith(".s3veil/") for key in everything(bucket))
    assert set(listed(bucket)) == {"named", "default"}
    assert {entry["Key"] for entry in client.list_object_versions(Bucket=bucket)["Versions"]} == {"named", "default"}
    refused("AccessDenied InvalidRequest", client.delete_object, Bucket=bucket, Key="default", VersionId=done["VersionId"])
