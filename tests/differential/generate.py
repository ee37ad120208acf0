"""A stream of requests: all operations that s3veil knows, plain and odd, right and wrong, from one seed."""

import base64
import hashlib
import random
import zlib

from wire import Ask, encode

BUCKETS = ["differential", "differential-versions"]
ODD_BUCKETS = ["no-such-bucket-here", "UPPER", "ab", "with.dot"]
KEYS = [
    "a", "b", "dir/a", "dir/b", "dir/deep/c", "dir/", "with space", "plus+plus", "per%cent", "per%2Fcent", "ümlaut", "日本", "q?m", "h#h",
    "amp&<>'\"", "comma,colon:", "=eq", "tilde~", "x" * 200, "dot.", "semi;colon", "(paren)*!", "back\\slash", "pipe|", "~", "a/b/c/d/e",
]
SIZES = [0, 1, 15, 16, 17, 100, 1000, 65_535, 65_536, 65_537, 131_072, 150_000]
PART = 5 << 20
TIMES = ["Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 21 Oct 2044 07:28:00 GMT", "2015-10-21T07:28:00Z", "yesterday"]
XML = "http://s3.amazonaws.com/doc/2006-03-01/"
META = [
    ("x-amz-meta-a", "one"), ("x-amz-meta-b", "two words"), ("X-Amz-Meta-Case", "Case"), ("x-amz-meta-empty", ""),
    ("x-amz-meta-long", "v" * 500), ("Content-Type", "text/plain; charset=utf-8"), ("Content-Type", "application/x-odd"),
    ("Cache-Control", "max-age=3, private"), ("Content-Disposition", 'attachment; filename="ä.txt"'.encode().decode("latin-1")),
    ("Content-Disposition", "inline"), ("Content-Encoding", "gzip"), ("Content-Language", "de, en"), ("Expires", TIMES[1]),
    ("Expires", "soon"), ("x-amz-storage-class", "STANDARD"), ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ("x-amz-storage-class", "ODD"), ("x-amz-tagging", "a=1&b=2"), ("x-amz-tagging", "a=1&a=2"), ("x-amz-tagging", "&&"),
    ("x-amz-acl", "private"), ("x-amz-acl", "public-read"), ("x-amz-acl", "odd"), ("x-amz-website-redirect-location", "/there"),
    ("x-amz-request-payer", "requester"), ("x-amz-expected-bucket-owner", "111122223333"), ("x-unknown", "1"),
]

BUCKET_RESOURCES = [
    *((name, ["GET", "PUT", "DELETE"]) for name in (
        "analytics", "cors", "intelligent-tiering", "inventory", "lifecycle", "metrics", "ownershipControls", "policy",
        "publicAccessBlock", "replication", "tagging", "website",
    )),
    *((name, ["GET", "PUT"]) for name in (
        "accelerate", "acl", "logging", "notification", "object-lock", "requestPayment", "versioning",
    )),
    *((name, ["GET"]) for name in ("location", "policyStatus")),
]


class Stream:
    """Requests for two buckets, the second of which keeps versions."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        # How many values of a kind have been given out, and for what: (bucket, key).
        self.given = {"etag": [], "version": [], "upload": [], "token": []}
        self.parts = {}

    def opening(self):
        for bucket in BUCKETS:
            yield Ask("PUT", f"/{bucket}")
        body = f'<VersioningConfiguration xmlns="{XML}"><Status>Enabled</Status></VersioningConfiguration>'
        yield Ask("PUT", f"/{BUCKETS[1]}", (("versioning", None),), body=body.encode())

    def next(self):
        makers = [
            (self.put, 22), (self.get, 26), (self.head, 10), (self.delete, 5), (self.delete_many, 3), (self.copy, 8), (self.listing, 18),
            (self.create_upload, 4), (self.part, 6), (self.part_copy, 3), (self.list_parts, 3), (self.complete, 4), (self.abort, 1),
            (self.object_resource, 8), (self.bucket_resource, 10), (self.service, 1), (self.wrong, 5), (self.attributes, 3),
        ]
        make = self.chance.choices([make for make, _ in makers], [weight for _, weight in makers])[0]
        return make()

    def learn(self, kind, about):
        """Counts a value that both sides have given out."""
        self.given[kind].append(about)

    # --- what requests are made of ----------------------------------------------------------------------------------

    def maybe(self, probability):
        return self.chance.random() < probability

    def one(self, choices):
        return self.chance.choice(choices)

    def bucket(self):
        return self.one(ODD_BUCKETS) if self.maybe(0.01) else self.one(BUCKETS)

    def key(self):
        # A few keys see most of it, so that reads find something.
        return self.one(KEYS[:6]) if self.maybe(0.6) else self.one(KEYS)

    def path(self, bucket, key=None):
        if key is None:
            return f"/{bucket}" + ("/" if self.maybe(0.3) else "")
        return f"/{bucket}/{encode(key, '-._~/')}"

    def bytes(self, size=None):
        size = self.one(SIZES) if size is None else size
        return bytes(self.chance.choices(range(256), k=min(size, 64))) * (size // 64 + 1) if size > 64 else self.chance.randbytes(size)

    def body(self, size=None):
        size = self.one(SIZES) if size is None else size
        return self.bytes(size)[:size]

    def value(self, kind, about=None):
        """A value that was given out, by its placeholder; now and then one of another object, or of nobody."""
        known = [n for n, whose in enumerate(self.given[kind]) if about is None or whose == about]
        if not known or self.maybe(0.1):
            known = range(len(self.given[kind]))
        if not known or self.maybe(0.05):
            return self.one(["", "null", "odd", '"0123456789abcdef0123456789abcdef"', "0" * 32])
        return f"{{{kind}:{self.one(list(known))}}}"

    def some(self, choices, most=3):
        chosen = {}
        for name, value in self.chance.sample(choices, self.chance.randint(0, most)):
            chosen.setdefault(name.lower(), (name, value))
        return list(chosen.values())

    def conditions(self, about, prefix=""):
        made = []
        if self.maybe(0.25):
            for name in self.chance.sample(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"], self.one([1, 1, 2])):
                if name.endswith("match"):
                    value = self.one([self.value("etag", about), "*", f"{self.value('etag', about)}, \"x\"", "W/" + self.value("etag", about)])
                else:
                    value = self.one(TIMES)
                made.append((prefix + name, value))
        return made

    def checks(self, body):
        """Checksums of a body, right or wrong."""
        if not self.maybe(0.3):
            return []
        data = body if self.maybe(0.85) else body + b"!"
        b64 = lambda octets: base64.b64encode(octets).decode()
        return [self.one([
            ("Content-MD5", b64(hashlib.md5(data).digest())), ("Content-MD5", "odd"), ("Content-MD5", ""),
            ("x-amz-checksum-crc32", b64(zlib.crc32(data).to_bytes(4, "big"))), ("x-amz-checksum-crc32", "odd"),
            ("x-amz-checksum-sha256", b64(hashlib.sha256(data).digest())), ("x-amz-checksum-sha1", b64(hashlib.sha1(data).digest())),
        ])]

    def signing(self):
        return self.chance.choices(["hash", "unsigned", "presigned", "wrong"], [80, 10, 8, 1])[0]

    def version(self, bucket, key):
        if bucket == BUCKETS[1] and self.maybe(0.2) or self.maybe(0.02):
            return [("versionId", self.value("version", (bucket, key)))]
        return []

    def range(self):
        first, last = self.chance.randint(0, 200_000), self.chance.randint(0, 200_000)
        return self.one([
            f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=0-", "bytes=5-2",
            "bytes=0-1,3-4", "bytes=a-b", "items=0-1", "bytes", "bytes=65535-65536", f"bytes={10**20}-", "bytes=0-18446744073709551616",
        ])

    # --- objects ----------------------------------------------------------------------------------------------------

    def put(self):
        bucket, key, body = self.bucket(), self.key(), self.body()
        headers = self.some(META) + self.checks(body) + self.conditions((bucket, key)) * self.maybe(0.3)
        if self.maybe(0.05):
            headers.append(("Expect", "100-continue"))
        ask = Ask("PUT", self.path(bucket, key), (), tuple(headers), body, self.signing(), note=f"{bucket} {key}")
        if self.maybe(0.08) and not any(name.lower() in ("content-encoding", "expect") or "checksum" in name for name, _ in headers):
            value = base64.b64encode(zlib.crc32(body + b"!" * self.maybe(0.1)).to_bytes(4, "big")).decode()
            ask.signing, ask.trailer = "chunks", (("x-amz-checksum-crc32", value),)
        return ask

    def get(self, method="GET"):
        bucket, key = self.bucket(), self.key()
        query, headers = self.version(bucket, key), self.conditions((bucket, key))
        if self.maybe(0.35):
            headers.append(("Range", self.range()))
        if self.maybe(0.1):
            query.append(("partNumber", self.one(["1", "2", "3", "0", "-1", "x", "10000", ""])))
        if self.maybe(0.1):
            headers.append(("x-amz-checksum-mode", self.one(["ENABLED", "enabled", "odd"])))
        if self.maybe(0.12):
            name, value = self.one([
                ("content-type", "a/b"), ("cache-control", "no"), ("content-disposition", "x y"), ("expires", TIMES[1]),
                ("content-encoding", "br"), ("content-language", "fr"), ("odd", "1"),
            ])
            query.append((f"response-{name}", value))
        if self.maybe(0.03):
            headers.append(("If-Range", self.value("etag", (bucket, key))))
        return Ask(method, self.path(bucket, key), tuple(query), tuple(headers), signing=self.signing(), note=f"{bucket} {key}")

    def head(self):
        return self.get("HEAD")

    def attributes(self):
        bucket, key = self.bucket(), self.key()
        names = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize", "Odd"]
        wanted = ",".join(self.chance.sample(names[:5] if self.maybe(0.9) else names, self.chance.randint(1, 4)))
        headers = [("x-amz-object-attributes", wanted)] * self.maybe(0.95)
        if self.maybe(0.2):
            headers.append(("x-amz-max-parts", self.one(["1", "0", "x"])))
        return Ask("GET", self.path(bucket, key), (("attributes", None), *self.version(bucket, key)), tuple(headers), note=f"{bucket} {key}")

    def delete(self):
        bucket, key = self.bucket(), self.key()
        return Ask("DELETE", self.path(bucket, key), tuple(self.version(bucket, key)), signing=self.signing(), note=f"{bucket} {key}")

    def delete_many(self):
        bucket = self.bucket()
        objects = ""
        for _ in range(self.chance.randint(0, 4)):
            key = self.key()
            version = self.value("version", (bucket, key)) if self.maybe(0.2) else None
            objects += f"<Object><Key>{escape(key)}</Key>" + (f"<VersionId>{escape(version)}</VersionId>" if version else "") + "</Object>"
        body = f'<Delete xmlns="{XML}">{"<Quiet>true</Quiet>" * self.maybe(0.3)}{objects}</Delete>'
        if self.maybe(0.1):
            body = self.one(["", "<Delete>", "no xml", "<Other/>"])
        octets = body.encode()
        headers = [("Content-MD5", base64.b64encode(hashlib.md5(octets).digest()).decode())] * ("{" not in body)
        return Ask("POST", self.path(bucket), (("delete", None),), tuple(headers), octets)

    def copy(self):
        (from_bucket, from_key), (bucket, key) = (self.bucket(), self.key()), (self.bucket(), self.key())
        source = f"{self.one(['/', ''])}{from_bucket}/{encode(from_key, '-._~/')}"
        if self.maybe(0.15):
            source += f"?versionId={self.value('version', (from_bucket, from_key))}"
        if self.maybe(0.03):
            source = self.one(["", "/", "nobucket", "/bucket/", "%zz", "//a"])
        headers = [("x-amz-copy-source", source)] 
        # One of them: which of two counts is a matter of its own at some stores.
        headers += self.conditions((from_bucket, from_key), "x-amz-copy-source-")[:1]
        if self.maybe(0.4):
            headers.append(("x-amz-metadata-directive", self.one(["COPY", "REPLACE", "REPLACE", "odd"])))
        if self.maybe(0.2):
            headers.append(("x-amz-tagging-directive", self.one(["COPY", "REPLACE", "odd"])))
        # Tags count with a directive only; MinIO takes them without one where the source has none.
        replaced = ("x-amz-tagging-directive", "REPLACE") in headers
        headers += [header for header in self.some(META[:-3], 2) if replaced or header[0] != "x-amz-tagging"]
        return Ask("PUT", self.path(bucket, key), (), tuple(headers), note=f"{bucket} {key}")

    # --- listings ---------------------------------------------------------------------------------------------------

    def listing(self):
        bucket = self.bucket()
        kind = self.one(["v1", "v2", "v2", "versions", "uploads"])
        query = {"v1": [], "v2": [("list-type", "2")], "versions": [("versions", None)], "uploads": [("uploads", None)]}[kind]
        after = {"v1": ["marker"], "v2": ["start-after", "continuation-token"], "versions": ["key-marker", "version-id-marker"],
                 "uploads": ["key-marker", "upload-id-marker"]}[kind]
        most = "max-uploads" if kind == "uploads" else "max-keys"
        if self.maybe(0.4):
            query.append(("prefix", self.one(["", "d", "dir/", "dir/a", "x", "per%", "ü", "zzz", "/"])))
        if self.maybe(0.4):
            query.append(("delimiter", self.one(["/", "/", "", "a", "日", "ir/"])))
        if self.maybe(0.4):
            query.append((most, self.one(["1", "2", "3", "5", "1000", "0", "-1", "x", "", "100000", "99999999999999999999"])))
        if self.maybe(0.3):
            query.append(("encoding-type", self.one(["url", "url", "url", "odd", ""])))
        for name in after:
            if self.maybe(0.2):
                kinds = {"continuation-token": "token", "version-id-marker": "version", "upload-id-marker": "upload"}
                query.append((name, self.value(kinds[name]) if name in kinds else self.key()))
        if kind == "v2" and self.maybe(0.2):
            query.append(("fetch-owner", self.one(["true", "false", "odd"])))
        return Ask("GET", self.path(bucket), tuple(query), signing=self.signing(), note=f"{bucket} {kind}")

    # --- uploads ----------------------------------------------------------------------------------------------------

    def upload(self):
        """An upload under way, with its bucket and key; now and then a wrong one."""
        if not self.given["upload"] or self.maybe(0.05):
            return self.bucket(), self.key().rstrip("/"), self.one(["odd", ""])
        number = self.one(range(len(self.given["upload"]))[-6:])
        bucket, key = self.given["upload"][number]
        return bucket, key, f"{{upload:{number}}}"

    def create_upload(self):
        bucket, key = self.one(BUCKETS), self.key().rstrip("/")
        headers = self.some(META)
        if self.maybe(0.05):
            headers.append(("x-amz-checksum-algorithm", "odd"))
        return Ask("POST", self.path(bucket, key), (("uploads", None),), tuple(headers), note=f"{bucket} {key}")

    def part(self):
        bucket, key, upload = self.upload()
        number = self.one(["1", "1", "2", "2", "3", "0", "10001", "x"]) if self.maybe(0.9) else "9999"
        body = self.body(PART) if number == "1" and self.maybe(0.7) else self.body()
        headers = self.checks(body)
        return Ask(
            "PUT", self.path(bucket, key), (("partNumber", number), ("uploadId", upload)), tuple(headers), body, self.signing(),
            note=f"part {number} {upload}",
        )

    def part_copy(self):
        bucket, key, upload = self.upload()
        # MinIO has no parts of what ends in a slash, nor of what has a slash that leans back.
        from_bucket, from_key = self.one(BUCKETS), self.key().rstrip("/").replace("\\", "")
        headers = [("x-amz-copy-source", f"/{from_bucket}/{encode(from_key, '-._~/')}")]
        if self.maybe(0.5):
            headers.append(("x-amz-copy-source-range", self.one(["bytes=0-9", "bytes=0-99", "bytes=5-", "bytes=9-1", "odd", "bytes=0-99999999"])))
        # Numbers of their own: a part that is sent again, once long and once short, is there twice.
        number = self.one(["4", "5", "6"])
        return Ask("PUT", self.path(bucket, key), (("partNumber", number), ("uploadId", upload)), tuple(headers), note=f"part {number} {upload}")

    def list_parts(self):
        bucket, key, upload = self.upload()
        query = [("uploadId", upload)]
        if self.maybe(0.3):
            query.append(("max-parts", self.one(["1", "2", "0", "x", "10000"])))
        if self.maybe(0.2):
            query.append(("part-number-marker", self.one(["1", "2", "x", "-1"])))
        return Ask("GET", self.path(bucket, key), tuple(query))

    def complete(self):
        bucket, key, upload = self.upload()
        parts = [(number, etag) for (number, etag) in sorted(self.parts.get(upload, {}).items())]
        if parts and self.maybe(0.15):
            parts = self.one([parts[::-1], parts[:1], parts + [("7", '"00000000000000000000000000000000"')]])
        body = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>" for number, etag in parts)
        body = f'<CompleteMultipartUpload xmlns="{XML}">{body}</CompleteMultipartUpload>'
        if self.maybe(0.05):
            body = self.one(["", "<CompleteMultipartUpload>", "odd"])
        headers = self.conditions((bucket, key)) if self.maybe(0.3) else []
        return Ask("POST", self.path(bucket, key), (("uploadId", upload),), tuple(headers), body.encode(), note=f"{bucket} {key}")

    def abort(self):
        bucket, key, upload = self.upload()
        return Ask("DELETE", self.path(bucket, key), (("uploadId", upload),))

    # --- all else ---------------------------------------------------------------------------------------------------

    def object_resource(self):
        bucket, key = self.bucket(), self.key()
        name = self.one(["tagging", "tagging", "acl", "legal-hold", "retention", "restore", "torrent"])
        method = self.one(["GET", "PUT", "DELETE"]) if name == "tagging" else self.one(["GET", "PUT"]) if name != "restore" else "POST"
        body = DOCUMENTS.get(name, "") if method in ("PUT", "POST") else ""
        if body and self.maybe(0.15):
            body = self.one(["", "odd", body[:-5], body.replace("Value", "Odd")])
        return Ask(method, self.path(bucket, key), ((name, None), *self.version(bucket, key)), body=body.encode(), signing=self.signing())

    def bucket_resource(self):
        bucket = self.bucket()
        # Only with methods that S3 has: MinIO takes `DELETE ?logging` for one of the bucket.
        name, methods = self.one(BUCKET_RESOURCES)
        # What the other requests rest on stays as it is.
        method = "GET" if name in ("versioning", "policy", "lifecycle") and self.maybe(0.9) else self.one(methods)
        if name in ("versioning", "policy", "lifecycle") and method == "PUT":
            return Ask("PUT", self.path(bucket), ((name, None),), body=b"<odd/>")
        body = DOCUMENTS.get(f"bucket {name}", "") if method == "PUT" else ""
        if body and self.maybe(0.2):
            body = self.one(["", "odd", body[:-5]])
        headers = [("Content-MD5", base64.b64encode(hashlib.md5(body.encode()).digest()).decode())] if body and self.maybe(0.7) else []
        return Ask(method, self.path(bucket), ((name, None),), tuple(headers), body.encode(), self.signing())

    def service(self):
        return self.one([
            Ask("GET", "/"), Ask("GET", "/", (("max-buckets", "1"),)), Ask("HEAD", self.path(self.bucket())), Ask("PUT", f"/{BUCKETS[0]}"),
            Ask("DELETE", "/no-such-bucket-here"), Ask("DELETE", f"/{BUCKETS[1]}"), Ask("HEAD", "/"), Ask("POST", "/"),
        ])

    def wrong(self):
        bucket, key = self.bucket(), self.key()
        path = self.path(bucket, key)
        return self.one([
            Ask("PATCH", path), Ask("POST", path), Ask("GET", path, (("unknown", None),)), Ask("PUT", path, (("unknown", "1"),), body=b"x"),
            Ask("GET", path, (("uploads", None),)), Ask("DELETE", path, (("tagging", None), ("odd", "1"))),
            Ask("GET", f"/{bucket}/%", note="a path that is not encoded"), Ask("GET", f"/{bucket}/%ff", note="no UTF-8"),
            Ask("GET", path, headers=(("Range", "bytes=0-0"), ("Range", "bytes=1-1"))), Ask("PUT", f"/{bucket}/{'k' * 1100}", body=b"x"),
            Ask("GET", path, signing="anonymous"), Ask("OPTIONS", path, headers=(("Origin", "http://a.example"), ("Access-Control-Request-Method", "GET")), signing="anonymous"),
            Ask("OPTIONS", path, signing="anonymous"), Ask("GET", path, headers=(("Origin", "http://a.example"),)),
            Ask("PUT", path, headers=(("x-amz-copy-source", "/x/y"), ("Content-Length", "1")), body=b"x"),
        ])


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


DOCUMENTS = {
    "tagging": "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>k2</Key><Value/></Tag></TagSet></Tagging>",
    "acl": "<AccessControlPolicy><Owner><ID>x</ID></Owner><AccessControlList/></AccessControlPolicy>",
    "legal-hold": "<LegalHold><Status>ON</Status></LegalHold>",
    "retention": "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate></Retention>",
    "restore": "<RestoreRequest><Days>1</Days></RestoreRequest>",
    "bucket tagging": "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
    "bucket acl": "<AccessControlPolicy><Owner><ID>x</ID></Owner><AccessControlList/></AccessControlPolicy>",
    "bucket cors": "<CORSConfiguration><CORSRule><AllowedOrigin>http://*.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
                   "<ExposeHeader>etag</ExposeHeader></CORSRule></CORSConfiguration>",
    "bucket website": "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>",
    "bucket notification": "<NotificationConfiguration/>",
    "bucket requestPayment": "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
    "bucket publicAccessBlock": "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>",
    "bucket ownershipControls": "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
    "bucket accelerate": "<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>",
    "bucket logging": "<BucketLoggingStatus/>",
}
