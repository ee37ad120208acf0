"""Stores in depth: objects from before, versions, locks, tags, ACLs, and what is refused."""

import datetime

from common import BODIES, CHUNK, STORE, listed, nothing_plain, refused, s3, sealed_len, sizes, store, stored

BODY = BODIES["big.bin"]


def mixed(client, _bucket):
    """objects from before: served where the policy reads them, refused where it does not"""
    bodies = {"": b"", "one": b"x", "chunk": BODIES["dir/a chunk +"], "big": BODY}
    # Of a size that a sealed object could have, so that only its metadata tells.
    bodies["likely"] = BODY[: sealed_len(CHUNK)]
    plain = {f"plain {name}": body for name, body in bodies.items()}
    sealed = {f"sealed {name}": body for name, body in bodies.items()}
    for bucket in ("mixed-read", "sealed-only"):
        client.create_bucket(Bucket=bucket)
        for key, body in plain.items():
            store().put_object(Bucket=bucket, Key=key, Body=body)
        for key, body in sealed.items():
            client.put_object(Bucket=bucket, Key=key, Body=body)
    everything = plain | sealed
    assert listed("mixed-read") == sizes(everything), listed("mixed-read").items() ^ sizes(everything).items()
    for key, body in everything.items():
        where = {"Bucket": "mixed-read", "Key": key}
        assert client.get_object(**where)["Body"].read() == body, key
        head = client.head_object(**where)
        assert head["ContentLength"] == len(body), key
        assert ("ServerSideEncryption" in head) == key.startswith("sealed"), head
        for spec, part in [("0-9", body[:10]), ("65530-65545", body[65530:65546]), ("-5", body[-5:])]:
            if part:
                assert client.get_object(**where, Range=f"bytes={spec}")["Body"].read() == part, (key, spec)
    for key in plain:
        refused("AccessDenied", client.get_object, Bucket="sealed-only", Key=key)
        refused("AccessDenied", client.get_object, Bucket="sealed-only", Key=key, Range="bytes=0-0")
        refused("403", client.head_object, Bucket="sealed-only", Key=key)
    for key, body in sealed.items():
        assert client.get_object(Bucket="sealed-only", Key=key)["Body"].read() == body, key
    # Written anew through s3veil, an old object is sealed.
    for bucket in ("mixed-read", "sealed-only"):
        client.put_object(Bucket=bucket, Key="plain big", Body=BODY)
        assert len(stored(bucket)["plain big"]) == sealed_len(len(BODY))


def versions(client, bucket):
    """versions: listed with true sizes, read, described and deleted by id; delete markers"""
    where = {"Bucket": bucket, "Key": "k"}
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert client.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    lens = (0, 10, CHUNK, 70_000)
    ids = [client.put_object(**where, Body=BODY[:size])["VersionId"] for size in lens]
    marker = client.delete_object(**where)
    assert marker["DeleteMarker"]
    seen = client.list_object_versions(Bucket=bucket)
    assert {entry["VersionId"]: entry["Size"] for entry in seen["Versions"]} == dict(zip(ids, lens))
    assert [entry["VersionId"] for entry in seen["DeleteMarkers"]] == [marker["VersionId"]]
    refused("NoSuchKey", client.get_object, **where)
    refused("404", client.head_object, **where)
    assert listed(bucket) == {}
    for version, size in zip(ids, lens):
        got = client.get_object(**where, VersionId=version)
        assert (got["VersionId"], got["Body"].read()) == (version, BODY[:size])
        assert client.head_object(**where, VersionId=version)["ContentLength"] == size
        attributes = client.get_object_attributes(**where, VersionId=version, ObjectAttributes=["ObjectSize"])
        assert attributes["ObjectSize"] == size
    part = client.get_object(**where, VersionId=ids[3], Range="bytes=65530-65545")
    assert part["Body"].read() == BODY[65530:65546]
    client.delete_object(**where, VersionId=ids[0])
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == 3
    # Without the marker, the last version is the object again.
    client.delete_object(**where, VersionId=marker["VersionId"])
    assert client.get_object(**where)["Body"].read() == BODY[:70_000]
    assert listed(bucket) == {"k": 70_000}


def object_lock(client, bucket):
    """object lock: retention and legal hold, set with the object and after it"""
    where = {"Bucket": bucket, "Key": "k"}
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    until = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).replace(microsecond=0)
    put = client.put_object(**where, Body=BODY, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    version = put["VersionId"]
    assert client.get_object_retention(**where)["Retention"] == {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    head = client.head_object(**where)
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until)
    later = until + datetime.timedelta(days=1)
    client.put_object_retention(**where, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": later})
    assert client.get_object_retention(**where)["Retention"]["RetainUntilDate"] == later
    client.put_object_legal_hold(**where, LegalHold={"Status": "ON"})
    assert client.get_object_legal_hold(**where)["LegalHold"]["Status"] == "ON"
    client.put_object_legal_hold(**where, LegalHold={"Status": "OFF"})
    refused("AccessDenied InvalidRequest", client.delete_object, **where, VersionId=version)
    assert client.get_object(**where)["Body"].read() == BODY
    client.delete_object(**where, VersionId=version, BypassGovernanceRetention=True)
    refused("NoSuchKey", client.get_object, **where)


def tags(client, bucket):
    """tags, set with the object and after it"""
    where = {"Bucket": bucket, "Key": "k"}
    client.put_object(**where, Body=BODY, Tagging="a=b&c%20d=e%2Bf")
    got = {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(**where)["TagSet"]}
    assert got == {"a": "b", "c d": "e+f"}, got
    assert client.head_object(**where).get("TagCount", 2) == 2
    client.put_object_tagging(**where, Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    assert client.get_object_tagging(**where)["TagSet"] == [{"Key": "c", "Value": "d"}]
    client.delete_object_tagging(**where)
    assert client.get_object_tagging(**where)["TagSet"] == []
    assert client.get_object(**where)["Body"].read() == BODY
    nothing_plain(bucket, {"k": BODY})


def acl(client, bucket):
    """ACLs of objects and buckets"""
    client.put_object(Bucket=bucket, Key="k", Body=BODY, ACL="private")
    assert client.get_object_acl(Bucket=bucket, Key="k")["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert client.get_bucket_acl(Bucket=bucket)["Grants"]


def storage_class(client, bucket):
    """the storage class comes back"""
    where = {"Bucket": bucket, "Key": "k"}
    client.put_object(**where, Body=BODY, StorageClass="REDUCED_REDUNDANCY")
    assert client.head_object(**where)["StorageClass"] == "REDUCED_REDUNDANCY"
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == "REDUCED_REDUNDANCY"
    got = client.get_object_attributes(**where, ObjectAttributes=["StorageClass"])
    assert got["StorageClass"] == "REDUCED_REDUNDANCY"
    assert client.get_object(**where)["Body"].read() == BODY
