"""Multipart uploads and copies in depth."""

import io
import os
import random
import tempfile

from boto3.s3.transfer import TransferConfig
from common import BODIES, STORE, listed, refused, s3, store, stored

MIB = 1 << 20
FRAME, SEALED_CHUNK = 80, 65_552


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def runs(body):
    return {body[at : at + 16] for at in range(0, len(body) - 15, 16)}


def hidden(bucket, bodies, composite):
    """The store holds these keys and nothing of these bodies; multipart uploads by a size that only they have."""
    held = stored(bucket)
    assert held.keys() == bodies.keys(), held.keys() ^ bodies.keys()
    for key, body in held.items():
        assert ((len(body) - FRAME) % SEALED_CHUNK == 1) == (key in composite), f"{key}: {len(body)} bytes"
        plain = runs(bodies[key])
        assert not any(body[at : at + 16] in plain for at in range(len(body) - 15)), f"{key}: plaintext in the store"


def complete(client, where, parts, **more):
    named = [{"PartNumber": number, **parts[number]} for number in parts]
    return client.complete_multipart_upload(**where, MultipartUpload={"Parts": named}, **more)


def send(client, where, number, body, **more):
    answer = client.upload_part(**where, PartNumber=number, Body=body, **more)
    sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
    return {"ETag": answer["ETag"], **sums}


def multipart(client, bucket):
    """multipart uploads: out of order, with gaps, sent again, listed, refused, completed twice, read by range and part"""
    where = {"Bucket": bucket, "Key": "dir/a key +"}
    start = client.create_multipart_upload(**where, Metadata={"a": "b"}, ContentType="text/x")
    assert start["ServerSideEncryption"] == "aws:kms"
    where["UploadId"] = start["UploadId"]
    bodies = {1: noise(1, 6 * MIB + 1), 3: noise(3, 5 * MIB), 4: noise(4, 5 * MIB + 77), 9999: noise(9, 10)}
    parts = {}
    for number in (4, 9999, 1, 3):
        send(client, where, number, noise(99, len(bodies[number])))
        parts[number] = send(client, where, number, bodies[number])
    parts = dict(sorted(parts.items()))

    seen = client.list_parts(**where)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in seen] == [(n, len(body)) for n, body in bodies.items()]
    # The embedded store lists no ETags; SeaweedFS lists each sending of a part, and not which was the last.
    if STORE not in ("dev", "seaweedfs"):
        bare = [part["ETag"].strip('"') for part in seen]
        assert bare == [part["ETag"].strip('"') for part in parts.values()], bare
    shown = client.list_parts(**where, MaxParts=2)
    assert (len(shown["Parts"]), shown["IsTruncated"], shown["Key"]) == (2, True, where["Key"])
    pages = client.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 1})
    assert [part["PartNumber"] for page in pages for part in page.get("Parts", [])] == list(bodies)
    assert [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [where["Key"]]
    assert listed(bucket) == {}

    odd = {**where, "UploadId": "nosuchupload"}
    refused("NoSuchUpload", client.upload_part, **odd, PartNumber=1, Body=b"x")
    for number in (0, 10_000, 10_001):
        refused("InvalidArgument", client.upload_part, **where, PartNumber=number, Body=b"x")
    refused("InvalidPartOrder", complete, client, where, {3: parts[3], 1: parts[1]})
    refused("InvalidPart", complete, client, where, {1: {"ETag": '"x"'}})
    refused("InvalidPart", complete, client, where, {1: parts[1], 2: parts[3]})
    refused("InvalidPart", complete, client, where, {1: parts[3]})
    refused("MalformedXML", complete, client, where, {})
    refused("InvalidPart", complete, client, where, {1: {"ETag": parts[4]["ETag"]}})
    refused("EntityTooSmall", complete, client, where, small(client, where, parts))
    if STORE != "dev":
        behind = client.list_parts(**where, PartNumberMarker=2)["Parts"]
        assert [part["PartNumber"] for part in behind] == [3, 4, 9999], "parts behind one that the store does not have"

    done = complete(client, where, parts)
    assert done["Key"] == where["Key"] and done["ServerSideEncryption"] == "aws:kms"
    assert complete(client, where, parts)["ETag"] == done["ETag"], "a completion that is repeated"
    refused("NoSuchUpload", complete, client, where, {1: parts[1]})
    refused("NoSuchUpload", client.list_parts, **where)

    del where["UploadId"]
    body = b"".join(bodies.values())
    reads(client, where, body, list(bodies.values()), list(bodies))
    head = client.head_object(**where)
    assert (head["ETag"], head["Metadata"], head["ContentType"]) == (done["ETag"], {"a": "b"}, "text/x")
    assert listed(bucket) == {where["Key"]: len(body)}
    hidden(bucket, {where["Key"]: body}, {where["Key"]})

    ended = client.create_multipart_upload(Bucket=bucket, Key="ended")["UploadId"]
    send(client, {"Bucket": bucket, "Key": "ended", "UploadId": ended}, 1, b"short")
    client.abort_multipart_upload(Bucket=bucket, Key="ended", UploadId=ended)
    refused("NoSuchUpload", client.upload_part, Bucket=bucket, Key="ended", UploadId=ended, PartNumber=2, Body=b"x")
    empty = {"Bucket": bucket, "Key": "empty"}
    empty["UploadId"] = client.create_multipart_upload(**empty)["UploadId"]
    complete(client, empty, {1: send(client, empty, 1, b"")})
    assert client.get_object(Bucket=bucket, Key="empty")["Body"].read() == b""
    assert listed(bucket) == {where["Key"]: len(body), "empty": 0}
    for key in listed(bucket):
        client.delete_object(Bucket=bucket, Key=key)
    assert stored(bucket) == {}, "no trace of an upload is left"
    client.delete_bucket(Bucket=bucket)


def small(client, where, parts):
    """A list whose middle part is shorter than S3 allows."""
    return {1: parts[1], 2: send(client, where, 2, b"short"), 3: parts[3]}


def reads(client, where, body, parts, numbers):
    """Whole, by ranges around every boundary, by parts."""
    answer = client.get_object(**where)
    assert answer["ContentLength"] == len(body) and answer["Body"].read() == body
    edges, at = {0, 1, 65_536, len(body)}, 0
    for part in parts:
        at += len(part)
        edges |= {at - 1, at, at + 1, at - 65_536}
    edges = sorted(edge for edge in edges if 0 <= edge <= len(body))
    spans = [(start, end) for start in edges for end in edges if start < end]
    for start, end in random.Random(5).sample(spans, min(40, len(spans))):
        answer = client.get_object(**where, Range=f"bytes={start}-{end - 1}")
        assert answer["ContentRange"] == f"bytes {start}-{end - 1}/{len(body)}"
        assert answer["Body"].read() == body[start:end], (start, end)
    assert client.get_object(**where, Range="bytes=-7")["Body"].read() == body[-7:]
    refused("InvalidRange", client.get_object, **where, Range=f"bytes={len(body)}-")
    for number, part in zip(numbers, parts):
        answer = client.get_object(**where, PartNumber=number)
        assert answer["Body"].read() == part and answer["PartsCount"] == len(parts), number
        assert client.head_object(**where, PartNumber=number)["ContentLength"] == len(part)
    refused("InvalidPartNumber 416", client.get_object, **where, PartNumber=10_000)


def multipart_checksums(client, bucket):
    """checksums of multipart uploads: of the object, of its parts, wrong ones refused"""
    bodies = [noise(1, 5 * MIB), noise(2, 70_000)]
    for algorithm, kind in [("SHA256", "COMPOSITE"), ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT")]:  # boto3 has CRC64NVME only with an extension.
        name = f"Checksum{algorithm}"
        where = {"Bucket": bucket, "Key": f"{algorithm} {kind}"}
        start = client.create_multipart_upload(**where, ChecksumAlgorithm=algorithm, ChecksumType=kind)
        assert (start["ChecksumAlgorithm"], start["ChecksumType"]) == (algorithm, kind)
        where["UploadId"] = start["UploadId"]
        parts = {n: send(client, where, n, body, ChecksumAlgorithm=algorithm) for n, body in enumerate(bodies, 1)}
        if kind == "COMPOSITE":
            refused("InvalidRequest", complete, client, where, {n: {"ETag": part["ETag"]} for n, part in parts.items()})
        refused("BadDigest", complete, client, where, parts, **{name: parts[1][name]})
        refused("InvalidRequest", complete, client, where, parts, MpuObjectSize=7)
        done = complete(client, where, parts, MpuObjectSize=sum(map(len, bodies)))
        assert done["ChecksumType"] == kind and done[name].endswith("-2") == (kind == "COMPOSITE"), done
        del where["UploadId"]
        for read in (client.head_object, client.get_object):
            assert read(**where, ChecksumMode="ENABLED")[name] == done[name]
            assert read(**where, PartNumber=2, ChecksumMode="ENABLED")[name] == parts[2][name]
        if kind == "FULL_OBJECT":
            whole = client.put_object(Bucket=bucket, Key="whole", Body=b"".join(bodies), ChecksumAlgorithm=algorithm)
            assert whole[name] == done[name]
        shown = client.get_object_attributes(**where, ObjectAttributes=["Checksum", "ObjectParts", "ObjectSize"])
        assert shown["Checksum"][name] == done[name].split("-")[0] and shown["ObjectSize"] == sum(map(len, bodies))
        assert shown["ObjectParts"]["TotalPartsCount"] == 2
        assert [(part["Size"], part[name]) for part in shown["ObjectParts"]["Parts"]] == [
            (len(body), parts[n][name]) for n, body in enumerate(bodies, 1)
        ]


def transfers(client, bucket):
    """uploads and downloads of the transfer manager, with parts of odd sizes, 32 at a time"""
    body = noise(7, 41 * MIB + 3)
    for size in (5 * MIB, 7 * MIB + 13):
        config = TransferConfig(multipart_threshold=MIB, multipart_chunksize=size, max_concurrency=32)
        with tempfile.TemporaryDirectory() as directory:
            up, down = os.path.join(directory, "up"), os.path.join(directory, "down")
            with open(up, "wb") as file:
                file.write(body)
            client.upload_file(up, bucket, "big", Config=config)
            client.download_file(bucket, "big", down, Config=config)
            with open(down, "rb") as file:
                assert file.read() == body
    assert listed(bucket) == {"big": len(body)}
    hidden(bucket, {"big": body}, {"big"})


def copies(client, bucket):
    """copies: metadata, tags, conditions, onto itself, from plain objects, of multipart uploads, by parts"""
    tagged = STORE in ("minio", "seaweedfs")
    body = BODIES["big.bin"]
    tags = {"Tagging": "k=v%20w&x="} if tagged else {}
    first = client.put_object(Bucket=bucket, Key="a ü+b", Body=body, Metadata={"m": "1"}, ContentType="text/x", **tags)
    source = {"Bucket": bucket, "Key": "a ü+b"}

    done = client.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    assert done["ServerSideEncryption"] == "aws:kms" and done["CopyObjectResult"]["ETag"]
    copy = client.get_object(Bucket=bucket, Key="copy")
    assert (copy["Body"].read() == body, copy["Metadata"], copy["ContentType"]) == (True, {"m": "1"}, "text/x")
    again = {"MetadataDirective": "REPLACE", "Metadata": {"n": "2"}, "ContentType": "text/y"}
    client.copy_object(Bucket=bucket, Key="copy 2", CopySource=source, **again)
    copy = client.get_object(Bucket=bucket, Key="copy 2")
    assert (copy["Body"].read() == body, copy["Metadata"], copy["ContentType"]) == (True, {"n": "2"}, "text/y")
    if tagged:
        shown = client.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"]
        assert sorted((tag["Key"], tag["Value"]) for tag in shown) == [("k", "v w"), ("x", "")]
    # What rclone and s3cmd do to change metadata.
    refused("InvalidRequest", client.copy_object, Bucket=bucket, Key="copy", CopySource=f"{bucket}/copy")
    client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/copy", **again)
    copy = client.get_object(Bucket=bucket, Key="copy")
    assert (copy["Body"].read() == body, copy["Metadata"]) == (True, {"n": "2"})

    where = {"Bucket": bucket, "Key": "no", "CopySource": source}
    refused("PreconditionFailed", client.copy_object, **where, CopySourceIfMatch='"x"')
    refused("PreconditionFailed", client.copy_object, **where, CopySourceIfNoneMatch=first["ETag"])
    refused("NoSuchKey", client.copy_object, **{**where, "CopySource": f"{bucket}/none"})
    refused("NoSuchBucket NoSuchKey", client.copy_object, **{**where, "CopySource": f"{bucket}-none/none"})
    refused("InvalidArgument", client.copy_object, **where, MetadataDirective="BOTH")
    refused("AccessDenied", client.copy_object, **{**where, "CopySource": f"{bucket}/.s3veil/uploads/x/record"})
    refused("404", client.head_object, Bucket=bucket, Key="no")

    bodies = {"a ü+b": body, "copy": body, "copy 2": body}
    big = noise(3, 11 * MIB + 5)
    client.upload_fileobj(io.BytesIO(big), bucket, "big", Config=TransferConfig(multipart_chunksize=5 * MIB))
    client.copy_object(Bucket=bucket, Key="big copy", CopySource=f"{bucket}/big")
    assert client.get_object(Bucket=bucket, Key="big copy")["Body"].read() == big
    assert client.head_object(Bucket=bucket, Key="big copy", PartNumber=2)["PartsCount"] == 3

    upload = {"Bucket": bucket, "Key": "parts"}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    parts = {}
    for number, (key, span) in enumerate([("big", "bytes=100-6000099"), ("big copy", None), ("copy", "bytes=0-99")], 1):
        more = {"CopySourceRange": span} if span else {}
        answer = client.upload_part_copy(**upload, PartNumber=number, CopySource=f"{bucket}/{key}", **more)
        parts[number] = {"ETag": answer["CopyPartResult"]["ETag"]}
    past = {"CopySource": f"{bucket}/copy", "CopySourceRange": f"bytes=0-{len(body)}"}
    refused("InvalidArgument", client.upload_part_copy, **upload, PartNumber=4, **past)
    complete(client, upload, parts)
    joined = big[100:6_000_100] + big + body[:100]
    assert client.get_object(Bucket=bucket, Key="parts")["Body"].read() == joined
    bodies |= {"big": big, "big copy": big, "parts": joined}
    hidden(bucket, bodies, {"big", "big copy", "parts"})
    assert listed(bucket) == {key: len(body) for key, body in bodies.items()}


def plain_copies(client, _bucket):
    """copies of plain objects become sealed, with their metadata and tags"""
    bucket = "mixed-copies"  # Where plain objects are read.
    client.create_bucket(Bucket=bucket)
    body, tags = BODIES["big.bin"], {"Tagging": "t=1"} if STORE != "garage" else {}
    store().put_object(Bucket=bucket, Key="plain", Body=body, Metadata={"p": "1"}, **tags)
    client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/plain")
    copy = client.get_object(Bucket=bucket, Key="copy")
    assert (copy["Body"].read() == body, copy["Metadata"], copy["ServerSideEncryption"]) == (True, {"p": "1"}, "aws:kms")
    if tags:
        assert client.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"] == [{"Key": "t", "Value": "1"}]
    client.copy_object(Bucket=bucket, Key="plain", CopySource=f"{bucket}/plain", MetadataDirective="REPLACE")
    assert client.get_object(Bucket=bucket, Key="plain")["Body"].read() == body
    hidden(bucket, {"plain": body, "copy": body}, set())


def strangers(client, bucket):
    """who has no key, or a wrong one, stores nothing"""
    refused("InvalidAccessKeyId", s3(key="nobody").put_object, Bucket=bucket, Key="k", Body=b"x")
    refused("SignatureDoesNotMatch", s3(secret="wrong").put_object, Bucket=bucket, Key="k", Body=b"x")
    refused("SignatureDoesNotMatch", s3(secret="wrong").create_multipart_upload, Bucket=bucket, Key="k")
    assert stored(bucket) == {}
