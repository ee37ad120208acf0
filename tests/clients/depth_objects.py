"""Objects in depth: keys, pages, conditions, checksums, response headers."""

import base64
import datetime
import hashlib
import time
import urllib.request

import botocore.httpchecksum
import tls
from common import BODIES, ENDPOINT, STORE, listed, nothing_plain, refused, s3, sizes, stored

BODY = BODIES["big.bin"]
NOW = datetime.datetime.now(datetime.UTC)
PAST, FUTURE = NOW - datetime.timedelta(days=1), NOW + datetime.timedelta(days=1)

# Keys that tools like to clean up.
ODD = [
    " x ", "a+b", "a b", "100%", "%2F", "%2f", "é", "e\u0301", "a&b=c?d#e", "<&\"'>", "\u20ac\U0001f600", "~!*'()",
    ".hidden", "a;b:c@d$e,f", "a%2Fb", "x?versionId=1",
]
# Those that stores like to clean up, and only Garage holds as they are. MinIO refuses them.
ODDER = ["a//b", "a/./b", "a/../b", "./a", "../a", "a/..", "a\\b"]


def keys(client, bucket):
    """odd keys, each an object of its own: put, got, listed, deleted"""
    odd = ODD + {
        # S3 allows 1,024 bytes. On LMDB Garage takes 479 and can't delete all of those; to more it says 503.
        "garage": [*ODDER, "trailing/", "k" * 460],
        # As long as S3 allows, no part of it longer than a name of a file.
        "minio": ["trailing/", "/".join(["k" * 203] * 5) + "/ené"],
        # `trailing/` would be a directory, without body and metadata.
        "seaweedfs": ["/".join(["k" * 203] * 5) + "/ené"],
    }[STORE]
    bodies = {key: f"the body of {key}".encode() for key in odd}
    for key, body in bodies.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)
    for key, body in bodies.items():
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
        assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(body), key
    assert listed(bucket) == sizes(bodies), listed(bucket).items() ^ sizes(bodies).items()
    nothing_plain(bucket, bodies)
    refused("KeyTooLongError", client.put_object, Bucket=bucket, Key="k" * 1025, Body=b"x")
    client.delete_object(Bucket=bucket, Key=odd[0])
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in odd[1:]]})
    assert len(answer["Deleted"]) == len(odd) - 1, answer
    assert stored(bucket) == {}


def pages(client, bucket):
    """listings in pages, by prefix and delimiter, V1 and V2"""
    bodies = {f"{prefix}{at:02} +": b"x" * at for prefix in ("", "dir/", "other/deep/") for at in range(7)}
    for key, body in bodies.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)
    for operation in ("list_objects", "list_objects_v2"):
        paginator = client.get_paginator(operation)
        answers = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": 5}))
        entries = [entry for answer in answers for entry in answer.get("Contents", [])]
        # The embedded store gives all at once.
        assert STORE == "dev" or len(answers) == 5, len(answers)
        assert {entry["Key"]: entry["Size"] for entry in entries} == sizes(bodies), operation
        level = getattr(client, operation)(Bucket=bucket, Delimiter="/")
        assert [entry["Prefix"] for entry in level["CommonPrefixes"]] == ["dir/", "other/"]
        assert [entry["Size"] for entry in level["Contents"]] == list(range(7))
        below = getattr(client, operation)(Bucket=bucket, Prefix="dir/")["Contents"]
        assert {entry["Key"]: entry["Size"] for entry in below} == {f"dir/{at:02} +": at for at in range(7)}


def conditions(client, bucket):
    """If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since on GET and HEAD"""
    where = {"Bucket": bucket, "Key": "k"}
    etag = client.put_object(**where, Body=BODY)["ETag"]
    assert client.head_object(**where)["ETag"] == etag
    assert client.list_objects_v2(Bucket=bucket)["Contents"][0]["ETag"] == etag
    for good in [{"IfMatch": etag}, {"IfNoneMatch": '"x"'}, {"IfModifiedSince": PAST}, {"IfUnmodifiedSince": FUTURE}]:
        assert client.get_object(**where, **good)["Body"].read() == BODY, good
        assert client.get_object(**where, **good, Range="bytes=-9")["Body"].read() == BODY[-9:], good
        assert client.head_object(**where, **good)["ContentLength"] == len(BODY), good
    time.sleep(1.1)  # a date in the future is not a condition
    now = datetime.datetime.now(datetime.UTC)
    for call in (client.get_object, client.head_object):
        # A HEAD has no document that names the code, and at Garage neither has a GET.
        refused("PreconditionFailed 412", call, **where, IfMatch='"x"')
        refused("PreconditionFailed 412", call, **where, IfUnmodifiedSince=PAST)
        refused("304", call, **where, IfNoneMatch=etag)
        refused("304", call, **where, IfModifiedSince=now)
    refused("InvalidRange 416", client.get_object, **where, Range="bytes=300123-")


def conditional_writes(client, bucket):
    """If-None-Match: * and If-Match on PUT; what is refused changes nothing"""
    where = {"Bucket": bucket, "Key": "k"}
    etag = client.put_object(**where, Body=BODY, IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", client.put_object, **where, Body=b"y", IfNoneMatch="*")
    refused("PreconditionFailed", client.put_object, **where, Body=b"y", IfMatch='"x"')
    assert client.get_object(**where)["Body"].read() == BODY
    # A long body, for which the client waits until it is asked: refused before it is sent, else stored.
    long = bytes(8 << 20)
    refused("PreconditionFailed", client.put_object, **where, Body=long, IfNoneMatch="*")
    etag = client.put_object(**where, Body=long, IfMatch=etag)["ETag"]
    assert client.get_object(**where)["Body"].read() == long
    client.put_object(**where, Body=b"y", IfMatch=etag)
    assert client.get_object(**where)["Body"].read() == b"y"


def _round_trips(client, where, name, **given):
    """A PUT's checksum is what PUT, GET and HEAD say; S3 keeps none of SHA-512, nor does s3veil."""
    put = client.put_object(**where, Body=BODY, **given)
    got = client.get_object(**where, ChecksumMode="ENABLED")
    # This class compares at the end what it has read.
    validates = isinstance(got["Body"], botocore.httpchecksum.StreamingChecksumBody)
    assert got["Body"].read() == BODY
    head = client.head_object(**where, ChecksumMode="ENABLED")
    shown = [{field for field in answer if field.startswith("Checksum") and field != "ChecksumType"} for answer in (got, head)]
    kept = "ChecksumCRC64NVME" if name == "ChecksumSHA512" else name
    assert shown == [{kept}] * 2, (name, shown)
    assert got[kept] == head[kept]
    assert kept != name or put[name] == got[name], put
    return validates, got[kept]


def checksums(client, bucket):
    """every algorithm that botocore computes, as header; GET validates; a wrong one stores nothing"""
    where = {"Bucket": bucket, "Key": "k"}
    # Without its library in C: no CRC-32C, CRC-64, XXHash. The first two are given as values below.
    computed = [name.upper() for name in botocore.httpchecksum._CHECKSUM_CLS]
    assert {"CRC32", "SHA1", "SHA256", "SHA512"} <= set(computed), computed
    for algorithm in computed:
        validates, _ = _round_trips(client, where, f"Checksum{algorithm}", ChecksumAlgorithm=algorithm)
        assert validates or algorithm == "SHA512", algorithm
    # What botocore does without being asked, and what s3veil does where the client does nothing.
    assert _round_trips(client, where, "ChecksumCRC32")[0]
    s3(request_checksum_calculation="when_required").put_object(**where, Body=BODY)
    crc64 = client.head_object(**where, ChecksumMode="ENABLED")["ChecksumCRC64NVME"]
    known = {"ChecksumCRC32C": crc(BODY, 0x82F63B78, 32), "ChecksumCRC64NVME": crc(BODY, 0x9A6C9329AC4BC9B5, 64)}
    known["ChecksumMD5"] = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    for name, value in known.items():
        assert _round_trips(client, where, name, **{name: value})[1] == value
        assert name != "ChecksumCRC64NVME" or value == crc64
    client.put_object(**where, Body=BODY, ContentMD5=base64.b64encode(hashlib.md5(BODY).digest()).decode())
    before = stored(bucket)
    lens = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32, "SHA512": 64, "MD5": 16}
    for field, length in [("ContentMD5", 16), *((f"Checksum{name}", length) for name, length in lens.items())]:
        wrong = {field: base64.b64encode(bytes(length)).decode()}
        for key in ("k", "new"):
            refused("BadDigest", client.put_object, Bucket=bucket, Key=key, Body=BODY, **wrong)
    assert stored(bucket) == before, "a refused write changed the store"


def crc(data, polynomial, width):
    """A reflected CRC, as S3 writes it. Slow and short, and by nobody else's code."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (polynomial if byte & 1 else 0)
        table.append(byte)
    ones = (1 << width) - 1
    value = ones
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return base64.b64encode((value ^ ones).to_bytes(width // 8, "big")).decode()


def trailers(_client, bucket):
    """the same behind the body, unsigned, over TLS, as SDKs do it by default"""
    where = {"Bucket": bucket, "Key": "k"}
    seen = []
    with tls.front() as (endpoint, certificate):
        client = s3(endpoint, verify=certificate)
        client.meta.events.register("before-send.s3.PutObject", lambda request, **_: seen.append(request.headers))
        for algorithm in botocore.httpchecksum._CHECKSUM_CLS:
            _round_trips(client, where, f"Checksum{algorithm.upper()}", ChecksumAlgorithm=algorithm.upper())
            # If botocore stops to do so, this tests something else.
            assert seen[-1]["X-Amz-Trailer"] in (f"x-amz-checksum-{algorithm}", f"x-amz-checksum-{algorithm}".encode())
        for key, body in BODIES.items():
            client.put_object(Bucket=bucket, Key=key, Body=body)
            assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
            assert "ContentEncoding" not in client.head_object(Bucket=bucket, Key=key), key
    nothing_plain(bucket, BODIES | {"k": BODY})


def overrides(client, bucket):
    """response-* parameters, signed in a header and in an address"""
    where = {"Bucket": bucket, "Key": "k"}
    client.put_object(**where, Body=BODY, ContentType="text/x", CacheControl="no-store", ContentLanguage="de")
    wanted = {
        "ContentType": "text/y", "ContentDisposition": 'attachment; filename="a b.txt"', "ContentLanguage": "en",
        "CacheControl": "max-age=9",
    }
    asked = {f"Response{name}": value for name, value in wanted.items()}
    answer = client.get_object(**where, **asked)
    assert {name: answer[name] for name in wanted} == wanted
    assert answer["Body"].read() == BODY
    answer = client.get_object(**where)
    assert (answer["ContentType"], answer["CacheControl"], answer["ContentLanguage"]) == ("text/x", "no-store", "de")
    url = client.generate_presigned_url("get_object", Params={**where, **asked})
    assert url.startswith(ENDPOINT)
    with urllib.request.urlopen(url) as got:
        assert got.headers["Content-Type"] == "text/y" and got.headers["Content-Disposition"] == wanted["ContentDisposition"]
        assert got.read() == BODY


def codings(client, bucket):
    """Content-Encoding, which is also where the framing of a body may stand"""
    where = {"Bucket": bucket, "Key": "k"}
    for coding in ("gzip", "br", "gzip,br"):
        client.put_object(**where, Body=BODY, ContentEncoding=coding)
        for answer in (client.head_object(**where), client.get_object(**where), client.get_object(**where, Range="bytes=0-0")):
            assert answer["ContentEncoding"] == coding, (coding, answer)
        assert client.get_object(**where)["Body"].read() == BODY, coding
        assert client.head_object(**where)["ContentLength"] == len(BODY), coding


def attributes(client, bucket):
    """GetObjectAttributes: size, checksum, ETag"""
    put = client.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm="SHA256")
    wanted = ["ETag", "Checksum", "ObjectSize", "StorageClass"]
    got = client.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert got["ObjectSize"] == len(BODY) and got["ETag"] == put["ETag"].strip('"'), got
    assert got["Checksum"]["ChecksumSHA256"] == put["ChecksumSHA256"], got
    refused("NoSuchKey", client.get_object_attributes, Bucket=bucket, Key="no", ObjectAttributes=wanted)
