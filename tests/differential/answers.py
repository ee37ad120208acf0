"""Two answers to one request, compared to the last header and element."""

import email.utils
import re
import xml.etree.ElementTree as Tree

# Of one connection, one moment or one server; none says anything of what was asked for.
PASSING = {
    "date", "connection", "keep-alive", "transfer-encoding", "x-amz-request-id", "x-amz-id-2", "x-ratelimit-limit",
    "x-ratelimit-remaining", "/Error/RequestId", "/Error/HostId",
}

# Values that a store makes up, by header and by element.
OPAQUE_HEADERS = {"etag": "etag", "x-amz-version-id": "version", "x-amz-copy-source-version-id": "version"}
OPAQUE_ELEMENTS = {
    "ETag": "etag", "VersionId": "version", "UploadId": "upload", "NextVersionIdMarker": "version", "VersionIdMarker": "version",
    "DeleteMarkerVersionId": "version", "NextUploadIdMarker": "upload", "UploadIdMarker": "upload",
    "NextContinuationToken": "token", "ContinuationToken": "token", "CopySourceVersionId": "version",
}
TIMES = {"LastModified", "Initiated", "CreationDate", "last-modified", "RetainUntilDate", "x-amz-abort-date"}
# Two values of a kind on one side are two on the other. Not so ETags: the same bytes are sealed anew each time.
ONE_TO_ONE = {"version", "upload"}


class Same:
    """Which value of the one side is which of the other. What was once the same stays so: that is all a client can see."""

    def __init__(self):
        self.direct_of = {}
        self.through_of = {}

    def holds(self, kind, direct, through):
        if (direct == "") != (through == "") or (direct == "null") != (through == "null"):
            return False
        if kind == "etag" and not etags_match(direct, through):
            return False
        if self.direct_of.setdefault((kind, through), direct) != direct:
            return False
        return kind not in ONE_TO_ONE or self.through_of.setdefault((kind, direct), through) == through


def etags_match(direct, through):
    """The same form. A multipart ETag counts the manifest, a part more, unless the last part went with it."""
    form = re.compile(r'("?)([0-9a-f]{32})(?:-(\d+))?("?)$')
    one, other = form.match(direct), form.match(through)
    if not one or not other:
        return direct == through
    parts = one[3] is None and other[3] is None or int(other[3] or 0) - int(one[3] or 0) in (0, 1)
    return one[1] == other[1] and one[4] == other[4] and parts


def differences(direct, through, same):
    """Where two answers differ: (where, direct's value, through's value)."""
    if direct.status != through.status:
        yield "status", str(direct.status), str(through.status)
    if direct.broken != through.broken:
        yield "connection", direct.broken, through.broken
    documents = document(direct), document(through)
    both_documents = None not in documents
    yield from headers(direct, through, same, both_documents)
    if both_documents:
        yield from trees("", *documents, same)
    elif direct.body != through.body:
        yield "body", short(direct.body), short(through.body)


def headers(direct, through, same, both_documents):
    names = dict.fromkeys(name for name, _ in direct.headers + through.headers)
    for name in names:
        # A document's length follows from what stands in it.
        if name in PASSING or (name == "content-length" and both_documents):
            continue
        one, other = ([value for given, value in answer.headers if given == name] for answer in (direct, through))
        if len(one) == 1 == len(other) and alike(name, OPAQUE_HEADERS.get(name), one[0], other[0], same):
            continue
        if one != other:
            yield f"header {name}", ", ".join(one), ", ".join(other)


def alike(name, kind, direct, through, same):
    if kind:
        return same.holds(kind, direct, through)
    if name in TIMES:
        return near(direct, through)
    return direct == through


def near(direct, through):
    """Two times of the same form, of one test."""
    if re.sub(r"\d", "0", direct) == re.sub(r"\d", "0", through) and "T" in direct:
        return True
    times = [email.utils.parsedate_to_datetime(value) if value.endswith("GMT") else None for value in (direct, through)]
    return None not in times and abs((times[0] - times[1]).total_seconds()) < 300


def document(answer):
    """The XML of an answer, if that is what its body is."""
    if not answer.body.lstrip().startswith(b"<"):
        return None
    try:
        return Tree.fromstring(answer.body)
    except Tree.ParseError:
        return None


def trees(path, direct, through, same):
    if direct.tag != through.tag:
        yield f"xml {path or '/'} element", direct.tag, through.tag
        return
    name = direct.tag.rsplit("}", 1)[-1]
    path = f"{path}/{name}"
    if direct.attrib != through.attrib:
        yield f"xml {path} attributes", str(direct.attrib), str(through.attrib)
    one, other = list(direct), list(through)
    tags = [[child.tag.rsplit("}", 1)[-1] for child in side] for side in (one, other)]
    if tags[0] != tags[1]:
        extra = [tag for tag in tags[0] if tag not in tags[1]] + [tag for tag in tags[1] if tag not in tags[0]]
        yield f"xml {path} children {' '.join(dict.fromkeys(extra))}".rstrip(), " ".join(tags[0]), " ".join(tags[1])
        # What both have is still compared, element by element of a name.
        for tag in dict.fromkeys(tag for tag in tags[0] if tags[0].count(tag) == tags[1].count(tag)):
            pairs = zip(*([child for child in side if child.tag.rsplit("}", 1)[-1] == tag] for side in (one, other)))
            for pair in pairs:
                yield from trees(path, *pair, same)
        return
    for pair in zip(one, other):
        yield from trees(path, *pair, same)
    if path in PASSING:
        return
    texts = [(side.text or "").strip() if len(side) else side.text or "" for side in (direct, through)]
    if path == "/Error/Message":
        # Some name the upload or the version.
        texts = [re.sub(r"[A-Za-z0-9+/=_-]{32,}", "ID", text) for text in texts]
    if not alike(name, OPAQUE_ELEMENTS.get(name), *texts, same):
        yield f"xml {path}", *texts


def short(octets):
    return repr(octets[:300]) + (f" ({len(octets)} bytes)" if len(octets) > 300 else "")
