"""Requests that chance would hardly make: how they are framed and spelled, and calls of a bucket with all that belongs to them."""

import base64
import hashlib
import zlib

from generate import XML
from wire import Ask

BUCKET = "directed"
KEYS = ["plain", "a b", "a+b", "ü", "日本/語", "x&y<z>", "quote\"'", "per%cent", "tab\there", "new\nline", "dir/", "dir/x", "~tilde", "star*"]
ORIGIN = ("Origin", "http://app.example")
CORS = (
    "<CORSConfiguration><CORSRule><AllowedOrigin>http://app.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
    "<AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader><ExposeHeader>etag</ExposeHeader><MaxAgeSeconds>9</MaxAgeSeconds>"
    "</CORSRule></CORSConfiguration>"
)
WEBSITE = (
    f'<WebsiteConfiguration xmlns="{XML}"><IndexDocument><Suffix>index.html</Suffix></IndexDocument>'
    "<ErrorDocument><Key>error.html</Key></ErrorDocument></WebsiteConfiguration>"
)
LIFECYCLE = (
    f'<LifecycleConfiguration xmlns="{XML}"><Rule><ID>r</ID><Filter><Prefix>old/</Prefix></Filter><Status>Enabled</Status>'
    "<Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>"
)
POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],'
    f'"Resource":["arn:aws:s3:::{BUCKET}/public/*"]}}]}}'
)


def asks():
    yield Ask("PUT", f"/{BUCKET}")
    yield from spellings()
    yield from listings()
    yield from documents()
    yield from odd_documents()
    yield from uploads()
    yield from attributes()
    yield from tags_of_copies()
    yield from presigned()
    yield from framings()


def put(key, body=b"body", **more):
    from wire import encode
    return Ask("PUT", f"/{BUCKET}/{encode(key, '-._~/')}", body=body, **more)


def spellings():
    """Header names in any case, values with blanks around them, paths encoded in more ways than one."""
    yield put("case", headers=(("CONTENT-TYPE", "text/plain"), ("X-AMZ-META-Upper", "Value"), ("x-AmZ-mEtA-mixed", "  blanks  around  ")))
    yield Ask("HEAD", f"/{BUCKET}/case")
    yield Ask("GET", f"/{BUCKET}/case", headers=(("rAnGe", "bytes=1-2"), ("if-NONE-match", '"x"')))
    for path in "/%63ase", "/c%61se", "/case?x-id=GetObject", "/case?":
        path, _, query = path.partition("?")
        yield Ask("GET", f"/{BUCKET}{path}", (tuple(query.split("=")),) if query else ())
    yield Ask("GET", f"/{BUCKET}/a%2fb")
    yield put("meta", headers=tuple((f"x-amz-meta-{n}", "v" * n) for n in (1, 10, 100)))
    yield Ask("HEAD", f"/{BUCKET}/meta")


def listings():
    for key in KEYS:
        yield put(key)
    for kind in (), (("list-type", "2"),), (("versions", None),):
        for more in (), (("encoding-type", "url"),), (("delimiter", "/"), ("encoding-type", "url")), (("prefix", "a "),), (("delimiter", "a"),):
            # Without encoding a control character can't be written, and each store has its own way out.
            if more and more[-1][0] != "encoding-type":
                more += (("encoding-type", "url"),)
            if not more:
                more = (("prefix", "x"),)
            yield Ask("GET", f"/{BUCKET}", kind + more)


def documents():
    """With a namespace, without one, with a prefix; CORS, website, lifecycle, policy with what they change."""
    for body in (
        "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
        f'<Tagging xmlns="{XML}"><TagSet><Tag><Key>k</Key><Value>&#118;</Value></Tag></TagSet></Tagging>',
        f'<?xml version="1.0"?><s3:Tagging xmlns:s3="{XML}"><s3:TagSet/></s3:Tagging>',
    ):
        yield Ask("PUT", f"/{BUCKET}/plain", (("tagging", None),), body=body.encode())
        yield Ask("GET", f"/{BUCKET}/plain", (("tagging", None),))
    for name, body in ("cors", CORS), ("website", WEBSITE), ("lifecycle", LIFECYCLE), ("policy", POLICY):
        octets = body.encode()
        digest = base64.b64encode(hashlib.md5(octets).digest()).decode()
        yield Ask("GET", f"/{BUCKET}", ((name, None),))
        yield Ask("PUT", f"/{BUCKET}", ((name, None),), (("Content-MD5", digest),), octets)
        yield Ask("PUT", f"/{BUCKET}", ((name, None),), (("Content-MD5", digest[:-4] + "AAA="),), octets)
        yield Ask("GET", f"/{BUCKET}", ((name, None),))
        if name == "cors":
            yield Ask("GET", f"/{BUCKET}/plain", headers=(ORIGIN,))
            yield Ask("GET", f"/{BUCKET}/plain", headers=(("Origin", "http://other.example"),))
            for wanted in "GET", "DELETE":
                headers = (ORIGIN, ("Access-Control-Request-Method", wanted), ("Access-Control-Request-Headers", "x-amz-meta-a"))
                yield Ask("OPTIONS", f"/{BUCKET}/plain", headers=headers, signing="anonymous")
        yield Ask("DELETE", f"/{BUCKET}", ((name, None),))
        yield Ask("GET", f"/{BUCKET}", ((name, None),))


def odd_documents():
    """What one parser reads and another does not."""
    for name in "delete", "Deletes":
        body = f'<{name} xmlns="{XML}"><Object><Key>nobody</Key></Object></{name}>'.encode()
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        yield Ask("POST", f"/{BUCKET}", (("delete", None),), (("Content-MD5", digest),), body)
    yield Ask("DELETE", f"/{BUCKET}/nobody", (("uploadId", ""),))


def uploads():
    """Copies of parts, and what an answer says in headers and what in its document. The first upload of a run: `{upload:0}`."""
    yield Ask("POST", f"/{BUCKET}/up", (("uploads", None),), note=f"{BUCKET} up")
    part = (("partNumber", "1"), ("uploadId", "{upload:0}"))
    yield Ask("PUT", f"/{BUCKET}/up", part, (("x-amz-copy-source", f"/{BUCKET}/plain"),))
    yield Ask("PUT", f"/{BUCKET}/up", part, (("x-amz-copy-source", f"/{BUCKET}/plain"), ("x-amz-copy-source-range", "bytes=0-1")))
    yield Ask("GET", f"/{BUCKET}/up", (("uploadId", "{upload:0}"),))
    yield Ask("DELETE", f"/{BUCKET}/up", (("uploadId", "{upload:0}"),))
    yield Ask("GET", f"/{BUCKET}/up", (("uploadId", "{upload:0}"),))
    # A completion on conditions: the object is not there, then it is.
    yield Ask("POST", f"/{BUCKET}/condition", (("uploads", None),), note=f"{BUCKET} condition")
    upload = ("uploadId", "{upload:last}")
    yield Ask("PUT", f"/{BUCKET}/condition", (("partNumber", "1"), upload), body=b"part")
    part = "<Part><PartNumber>1</PartNumber><ETag>{etag:last}</ETag></Part>"
    body = f'<CompleteMultipartUpload xmlns="{XML}">{part}</CompleteMultipartUpload>'.encode()
    for condition in ("If-Match", "*"), ("If-Match", '"x"'), ("If-None-Match", "*"):
        yield Ask("POST", f"/{BUCKET}/condition", (upload,), (condition,), body)
    yield Ask("GET", f"/{BUCKET}/condition")


def attributes():
    wanted = ("x-amz-object-attributes", "ETag,ObjectSize")
    for more in (), (("x-amz-max-parts", "x"),), (("x-amz-part-number-marker", "x"),):
        yield Ask("GET", f"/{BUCKET}/plain", (("attributes", None),), (wanted, *more))
        yield Ask("GET", f"/{BUCKET}/nobody", (("attributes", None),), (wanted, *more))


def tags_of_copies():
    """Which tags a copy has: those of its source, unless told to replace them."""
    yield put("tagged", headers=(("x-amz-tagging", "s=1&t=2"),))
    for directives in (), (("x-amz-metadata-directive", "REPLACE"),), (("x-amz-tagging-directive", "REPLACE"),):
        for tags in (), (("x-amz-tagging", "a=1"),):
            source = ("x-amz-copy-source", f"/{BUCKET}/tagged")
            yield Ask("PUT", f"/{BUCKET}/copy", headers=(source, *directives, *tags))
            yield Ask("GET", f"/{BUCKET}/copy", (("tagging", None),))


def presigned():
    """A browser's preflight for an address that is presigned, for another method than its own."""
    preflight = (ORIGIN, ("Access-Control-Request-Method", "PUT"))
    yield Ask("OPTIONS", f"/{BUCKET}/plain", headers=preflight, signing="presigned")
    yield Ask("OPTIONS", f"/{BUCKET}/plain", signing="presigned")
    yield Ask("PUT", f"/{BUCKET}/presigned", body=b"x", signing="presigned")


def framings():
    body = b"0123456789" * 20_000
    yield put("expect", body, headers=(("Expect", "100-continue"),))
    checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    yield put("chunks", body, signing="chunks", trailer=(("x-amz-checksum-crc32", checksum),))
    yield Ask("HEAD", f"/{BUCKET}/chunks")
    yield put("unsigned", body, signing="unsigned")
    for key in "expect", "chunks", "unsigned":
        yield Ask("GET", f"/{BUCKET}/{key}", headers=(("Range", "bytes=65530-65545"),))
    yield put("empty", b"")
    yield Ask("GET", f"/{BUCKET}/empty")
    yield Ask("GET", f"/{BUCKET}/empty", headers=(("If-None-Match", "*"),))
    yield put("coded", headers=(("Content-Encoding", "gzip"),))
    yield Ask("GET", f"/{BUCKET}/coded", headers=(("Accept-Encoding", "gzip, br"),))
    yield put("wrong-length", b"x" * 10, headers=(("Content-Length", "ten"),))
