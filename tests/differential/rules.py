"""What may differ between a store and the same store behind s3veil.

Each rule names a phrase of docs/operations.md, which must stand there. Nothing else may differ. A rule is as narrow as it can be: by
the request that was made, and by what both sides answered.
"""

import dataclasses
import pathlib
import re
import typing
import urllib.parse

from compare import words
from processes import Failed

OPERATIONS = pathlib.Path(__file__).resolve().parents[2] / "docs/operations.md"


@dataclasses.dataclass
class Difference:
    """One place where two answers differ."""

    store: str
    ask: object
    direct: object
    through: object
    where: str  # "status", "header NAME", "xml PATH", "body", "connection"
    one: str  # what the store says
    other: str  # what s3veil says
    again: bool = False  # the completion of an upload that is complete
    twin: bool = False  # an ETag of the request is that of several objects on the direct side, of the same bytes

    @property
    def codes(self):
        return code(self.direct), code(self.through)

    @property
    def refused_here(self):
        """s3veil itself answers with an error."""
        return self.through.status >= 400 and self.through.header("server") is None

    def has(self, name):
        return any(given == name for given, _ in self.ask.query)

    def header(self, name):
        return next((value for given, value in self.ask.headers if given.lower() == name), None)


@dataclasses.dataclass
class Rule:
    docs: str
    holds: typing.Callable


def code(answer):
    found = re.search(rb"<Code>([A-Za-z0-9.]+)</Code>", answer.body)
    # A HEAD has no document; MinIO says it in a header.
    return found[1].decode() if found else answer.header("x-minio-error-code") or ""


def own_document(d):
    return d.refused_here and d.direct.status >= 400 and d.where not in ("status", "xml /Error/Code")


def sse(d):
    return d.where.startswith("header x-amz-server-side-encryption") and not d.one


def checksum(d):
    """CRC64NVME stands where the client gave no checksum. One that the client gave must be the same on both sides."""
    sums = ("header x-amz-checksum-crc64nvme", "header x-amz-checksum-type")
    if d.where in sums and not d.one:
        return True
    # The store's own default, where the client gave none.
    return d.where == "header x-amz-checksum-crc32" and not d.other and d.through.header("x-amz-checksum-crc64nvme")


def listed_checksum(d):
    return d.where.startswith("xml ") and re.search(r"children[ A-Za-z]* Checksum(Algorithm|Type)", d.where)


def parts_checksum(d):
    return re.fullmatch(r"xml /ListPartsResult/Part children Checksum[A-Z0-9]+", d.where)


def source_version(d):
    return d.where == "header x-amz-copy-source-version-id" and not d.one and d.has("uploadId")


def storage_class(d):
    """MinIO copies the class with the metadata, S3 does not; and says REDUCED_REDUNDANCY, which it does not have."""
    return d.where.endswith(("StorageClass", "header x-amz-storage-class")) and d.one == "REDUCED_REDUNDANCY"


def odd_range(d):
    """A range, or part number, that is none, several, or not of this world."""
    value = d.header("range")
    number = next((value for name, value in d.ask.query if name == "partNumber"), None)
    if d.ask.method not in ("GET", "HEAD") or (value is None and number is None):
        return False
    if number is not None:
        return value is not None or not re.fullmatch(r"[1-9]\d{0,3}", number) or d.through.status == 416 or empty(d)
    plain = re.fullmatch(r"bytes=(\d{1,15})-(\d{1,15})?", value)
    return not plain or plain[2] and int(plain[2]) < int(plain[1])


def empty(d):
    return d.through.header("content-length") == "0" and {d.direct.status, d.through.status} == {200, 206}


def range_of_head(d):
    """A store may look at the range before it looks at the conditions."""
    return (d.header("range") or d.has("partNumber")) and {d.direct.status, d.through.status} <= {412, 416, 304}


def twice(d):
    names = [name.lower() for name, _ in d.ask.headers]
    return d.refused_here and d.codes[1] == "InvalidRequest" and len(set(names)) < len(names)


def location(d):
    bare = urllib.parse.unquote(re.sub(r"^https?://[^/]*", "", d.one))
    return d.where == "xml /CompleteMultipartUploadResult/Location" and urllib.parse.unquote(d.other) == bare


def completed_again(d):
    return d.again and d.through.status == 200 and d.codes[0] in ("NoSuchUpload", "PreconditionFailed")


def method(d):
    return d.refused_here and (d.codes[1] == "MethodNotAllowed" or d.ask.method == "HEAD" and d.through.status == 405)


def state_bucket(d):
    return d.where.startswith("xml /ListAllMyBucketsResult/Buckets") and b"s3veil-state" in d.through.body


def encoding(d):
    asked = next((value for name, value in d.ask.query if name == "encoding-type"), None)
    return asked == "odd" and d.refused_here and d.codes[1] == "InvalidArgument"


def resource(d):
    """The path is made anew from bucket and key."""
    return d.where == "xml /Error/Resource" and d.one.rstrip("/") == d.other


def parts_page(d):
    return d.where in ("xml /ListPartsResult/MaxParts", "xml /ListPartsResult/NextPartNumberMarker")


def order(d):
    """The same elements in another order."""
    return d.where.endswith(" children") and sorted(d.one.split()) == sorted(d.other.split()) and "ListParts" in d.where


def copied_whole(d):
    """MinIO loses Expires when it copies."""
    return d.store == "minio" and d.where == "header expires" and not d.one


# What s3veil checks itself is answered as AWS does, whatever the store makes of it: (the store's code, s3veil's).
CHECKS = {
    ("XAmzContentChecksumMismatch", "BadDigest"), ("InvalidArgument", "InvalidRequest"), ("InvalidRequest", "MalformedXML"),
    ("InvalidArgument", "InvalidDigest"), ("BadRequest", "InvalidRequest"), ("InternalError", "InvalidRequest"),
    ("InternalError", "InvalidArgument"), ("SignatureDoesNotMatch", "InvalidURI"), ("MalformedXML", "InvalidPart"), ("InvalidPart", "InvalidArgument"),
    ("MissingContentLength", "MalformedXML"), ("XMinioInvalidObjectName", "InvalidArgument"),
}


def no_value(d):
    return d.refused_here and any(value == "" for _, value in d.ask.query) and d.codes[1] == "InvalidArgument"


def strict_delete(d):
    return d.refused_here and d.has("delete") and d.codes[1] == "MalformedXML"


def own_check(d):
    return d.refused_here and d.direct.status >= 400 and d.codes in CHECKS


# What is wrong with the parts of a completion: order, presence, size.
PARTS = {("InvalidPart", "EntityTooSmall"), ("EntityTooSmall", "InvalidPartOrder"), ("InvalidPart", "InvalidPartOrder")}


def first_error(d):
    """Two things are wrong with a request, and each side tells another first."""
    early = {"InvalidArgument", "InvalidRequest", "BadDigest", "InvalidDigest", "MalformedXML", "InvalidURI", "NotImplemented",
             "NoSuchUpload", "EntityTooSmall"}
    if d.ask.signing == "wrong":
        return d.refused_here and d.codes[1] == "SignatureDoesNotMatch" and d.direct.status >= 400
    late = {"NoSuchKey", "NoSuchUpload", "NoSuchBucket", "NoSuchVersion", "PreconditionFailed", "MethodNotAllowed", "InvalidTag",
            "InvalidPart", "InvalidStorageClass", "InvalidRange", "InvalidBucketName"}
    return d.refused_here and (d.codes[1] in early and d.codes[0] in late or d.codes in PARTS)


def copied(d):
    """The source is read first, by requests of s3veil's own."""
    if d.header("x-amz-copy-source") is None:
        return False
    if d.direct.status >= 400 and d.through.status >= 400:
        return d.where not in ("status", "xml /Error/Code") or d.codes[1] in (
            "NoSuchKey", "NoSuchBucket", "NoSuchVersion", "AccessDenied", "InvalidArgument", "PreconditionFailed",
        )
    # MinIO says the checksum of a copy in headers too, S3 in the document.
    return d.where.startswith("header x-amz-checksum-") and d.through.status == 200 and not d.other


def redirected(d):
    """MinIO does not count a website's redirect, or a storage class, among what a copy onto itself may change."""
    source = (d.header("x-amz-copy-source") or "").lstrip("/")
    redirects = d.header("x-amz-website-redirect-location") or d.header("x-amz-storage-class")
    return redirects and d.ask.path == f"/{source}" and d.codes[0] == "InvalidRequest" and d.through.status == 200


def attributes(d):
    return d.has("attributes") and d.through.status == d.direct.status and d.where.startswith(("header ", "xml / element", "xml /Error children"))


def checksum_mode(d):
    mode = d.header("x-amz-checksum-mode")
    return (mode == "enabled" or mode == "ENABLED" and d.has("partNumber")) and d.where.startswith("header x-amz-checksum-") and not d.one


def twin(d):
    """The same bytes have one ETag in the store, and each time another when sealed."""
    return d.twin and {d.direct.status, d.through.status} <= {200, 206, 304, 404, 412, 416}


RULES = [
    Rule("ETags are the store's own", twin),
    Rule("Errors that s3veil itself gives", own_document),
    Rule("responses for sealed objects carry x-amz-server-side-encryption: aws:kms and the EK", sse),
    Rule("without one, CRC64NVME is", checksum),
    Rule("x-amz-checksum-mode is read in any case, and for a part too", checksum_mode),
    Rule("Listings may show a ChecksumAlgorithm", listed_checksum),
    Rule("ListParts shows none", parts_checksum),
    Rule("names the version of its source", source_version),
    Rule("The storage class is not copied", storage_class),
    Rule("All of the metadata is copied", copied_whole),
    Rule("Ranges are S3's", odd_range),
    Rule("Ranges are S3's", range_of_head),
    Rule("A header that may stand once", twice),
    Rule("Location in the answer to a completion", location),
    Rule("Asked again, also by another replica", completed_again),
    Rule("a sub-resource with a method that S3 does not have for it MethodNotAllowed", method),
    Rule("The bucket of [state] is a bucket as any other", state_bucket),
    Rule("An encoding-type that S3 does not have", encoding),
    Rule("Error documents name the resource by bucket and key", resource),
    Rule("ListParts is made by s3veil", parts_page),
    Rule("ListParts is made by s3veil", order),
    Rule("What s3veil checks itself is answered as AWS answers it", own_check),
    Rule("DeleteObjects is read strictly", strict_delete),
    Rule("A parameter that must have a value", no_value),
    Rule("Where several things are wrong", first_error),
    Rule("An error of a copy", copied),
    Rule("a copy onto itself that changes nothing", redirected),
    Rule("answered from a HEAD", attributes),
]


def of(difference):
    return next((rule for rule in RULES if rule.holds(difference)), None)


def documented():
    """Fails for a rule that does not stand in the documentation."""
    text = words(OPERATIONS.read_text())
    for rule in RULES:
        if words(rule.docs) not in text:
            raise Failed(f"a rule does not stand in docs/operations.md: {rule.docs}")
