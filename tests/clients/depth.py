"""What a store can do beyond the basics, through s3veil, with boto3. depth.py, with STORE naming the store."""

import datetime

from botocore.exceptions import ClientError
from common import BODIES, KEY, STORE, listed, nothing_plain, s3, sealed_len, store

BODY = BODIES["big.bin"]
client = s3()


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        assert got in code.split(), f"{got} instead of {code}"
        return error
    raise AssertionError(f"{code} expected")


def keys():
    """Keys that other tools would clean up. MinIO refuses some of them itself."""
    bucket = "depth-keys"
    client.create_bucket(Bucket=bucket)
    odd = [" x ", "a+b", "100%", "%2F", "é", "e\u0301", "a&b=c?d#e", "\u20ac\U0001f600", "trailing/"]
    if STORE == "garage":
        odd += ["a//b", "a/./b", "a/../b", "k" * 400]  # its own limit is less than S3's
    bodies = {key: f"body of {key}".encode() for key in odd}
    for key, body in bodies.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)
    for key, body in bodies.items():
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    expected = {key: len(body) for key, body in bodies.items()}
    assert listed(bucket) == expected, listed(bucket).items() ^ expected.items()
    refused("KeyTooLongError", client.put_object, Bucket=bucket, Key="k" * 1025, Body=b"x")


def conditions():
    bucket = "depth-conditions"
    client.create_bucket(Bucket=bucket)
    etag = client.put_object(Bucket=bucket, Key="k", Body=BODY)["ETag"]
    assert client.head_object(Bucket=bucket, Key="k")["ETag"] == etag
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["ETag"] == etag
    past, future = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days) for days in (-1, 1))
    where = {"Bucket": bucket, "Key": "k"}
    for good in [{"IfMatch": etag}, {"IfNoneMatch": '"x"'}, {"IfModifiedSince": past}, {"IfUnmodifiedSince": future}]:
        assert client.get_object(**where, **good)["Body"].read() == BODY, good
    # Garage answers this one without a document.
    refused("PreconditionFailed 412", client.get_object, **where, IfMatch='"x"')
    refused("304", client.get_object, **where, IfNoneMatch=etag)
    refused("PreconditionFailed 412", client.get_object, **where, IfUnmodifiedSince=past)
    if STORE != "garage":  # Garage ignores conditions on a PUT, directly as well.
        refused("PreconditionFailed", client.put_object, **where, Body=b"y", IfNoneMatch="*")
        refused("PreconditionFailed", client.put_object, **where, Body=b"y", IfMatch='"x"')
        # A long body is refused before it is sent.
        refused("PreconditionFailed", client.put_object, **where, Body=bytes(8 << 20), IfNoneMatch="*")
        client.put_object(**where, Body=bytes(8 << 20), IfMatch=etag)
        assert client.head_object(**where)["ContentLength"] == 8 << 20
    answer = client.get_object(**where, ResponseContentType="text/y", ResponseContentDisposition="attachment")
    assert (answer["ContentType"], answer["ContentDisposition"]) == ("text/y", "attachment")


def checksums():
    bucket = "depth-checksums"
    client.create_bucket(Bucket=bucket)
    for algorithm in ["CRC32", "SHA1", "SHA256", None]:
        extra = {"ChecksumAlgorithm": algorithm} if algorithm else {}
        put = client.put_object(Bucket=bucket, Key="k", Body=BODY, **extra)
        got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert got["Body"].read() == BODY
        name = f"Checksum{algorithm or 'CRC32'}"
        assert put[name] == got[name] == client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[name], algorithm
    attributes = client.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectSize"])
    assert attributes["ObjectSize"] == len(BODY) and attributes["Checksum"]["ChecksumCRC32"] == got["ChecksumCRC32"]


def not_yet():
    bucket = "depth-notyet"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    refused("NotImplemented", client.create_multipart_upload, Bucket=bucket, Key="m")
    refused("NotImplemented", client.copy_object, Bucket=bucket, Key="c", CopySource=f"{bucket}/k")
    assert listed(bucket, store()) == {"k": sealed_len(1)}
    refused("InvalidAccessKeyId", s3(key="nobody").list_objects_v2, Bucket=bucket)
    refused("SignatureDoesNotMatch", s3(secret="wrong").list_objects_v2, Bucket=bucket)


def mixed():
    """Objects from before: served where the policy reads them, refused where it does not."""
    for bucket in ["mixed-read", "sealed-only"]:
        client.create_bucket(Bucket=bucket)
        store().put_object(Bucket=bucket, Key="plain", Body=BODY)
        client.put_object(Bucket=bucket, Key="sealed", Body=BODY)
    assert listed("mixed-read") == {"plain": len(BODY), "sealed": len(BODY)}
    for key in ["plain", "sealed"]:
        assert client.get_object(Bucket="mixed-read", Key=key)["Body"].read() == BODY
        for spec, part in [("0-9", BODY[:10]), ("200000-200009", BODY[200000:200010]), ("-5", BODY[-5:])]:
            assert client.get_object(Bucket="mixed-read", Key=key, Range=f"bytes={spec}")["Body"].read() == part, (key, spec)
    refused("AccessDenied", client.get_object, Bucket="sealed-only", Key="plain")
    assert client.get_object(Bucket="sealed-only", Key="sealed")["Body"].read() == BODY


def versions():
    bucket = "depth-versions"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = [client.put_object(Bucket=bucket, Key="k", Body=BODY[:size])["VersionId"] for size in (10, 70_000)]
    client.delete_object(Bucket=bucket, Key="k")
    seen = client.list_object_versions(Bucket=bucket)
    assert {entry["VersionId"]: entry["Size"] for entry in seen["Versions"]} == dict(zip(ids, (10, 70_000)))
    assert len(seen["DeleteMarkers"]) == 1
    refused("NoSuchKey", client.get_object, Bucket=bucket, Key="k")
    for version, size in zip(ids, (10, 70_000)):
        assert client.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read() == BODY[:size]
        assert client.head_object(Bucket=bucket, Key="k", VersionId=version)["ContentLength"] == size
    client.delete_object(Bucket=bucket, Key="k", VersionId=ids[0])
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == 1


def tags_and_acl():
    bucket = "depth-tags"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=BODY, Tagging="a=b", StorageClass="STANDARD")
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    client.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "c", "Value": "d"}]
    assert client.get_object_acl(Bucket=bucket, Key="k")["Grants"]
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
    nothing_plain(bucket, {"k": BODY})


def object_lock():
    bucket = "depth-lock"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    version = client.put_object(
        Bucket=bucket, Key="k", Body=BODY, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    assert client.get_object_retention(Bucket=bucket, Key="k")["Retention"]["Mode"] == "GOVERNANCE"
    refused("AccessDenied InvalidRequest", client.delete_object, Bucket=bucket, Key="k", VersionId=version)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
    client.delete_object(Bucket=bucket, Key="k", VersionId=version, BypassGovernanceRetention=True)


TESTS = {
    "garage": [keys, conditions, checksums, not_yet, mixed],
    "minio": [keys, conditions, checksums, not_yet, mixed, versions, tags_and_acl, object_lock],
    "seaweedfs": [conditions, checksums, not_yet, mixed, versions, tags_and_acl],
}
for test in TESTS[STORE]:
    test()
print(f"{STORE}: {', '.join(test.__name__ for test in TESTS[STORE])}")
