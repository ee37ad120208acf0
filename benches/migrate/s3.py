"""A client of S3 that takes little time, as it shares the machine with what is measured; and work by several threads."""

import datetime
import hashlib
import hmac
import http.client
import threading
import time
import urllib.parse
import xml.etree.ElementTree

from processes import Failed

REGION = "us-east-1"
UNSIGNED = "UNSIGNED-PAYLOAD"
# Servers close what nobody uses: a connection that has rested for longer is not used again.
REST = 4.0
PATIENCE = 300


class Client:
    """Signs by Signature Version 4, bodies unsigned. Each thread has a connection of its own. Nothing is tried twice."""

    def __init__(self, port, access_key, secret_key):
        self.port, self.access_key, self.secret_key = port, access_key, secret_key
        self.own = threading.local()
        self.signing = "", b""  # The day, and its key.

    def open(self, method, path, query=(), headers=(), body=b"", length=None):
        """Sends a request, and gives the head of the answer. Its body is to be read before the next one."""
        headers = [("host", f"127.0.0.1:{self.port}"), *headers, *self._date()]
        query = "&".join(f"{quoted(name)}={quoted(value)}" for name, value in sorted(query))
        path = quoted(path, "/")
        headers.append(("authorization", self._authorization(method, path, query, headers)))
        if method in ("PUT", "POST"):
            headers.append(("content-length", str(len(body) if length is None else length)))
        connection = self._connection()
        connection.putrequest(method, f"{path}?{query}" if query else path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        self.own.used = time.monotonic()
        return connection.getresponse()

    def ask(self, method, path, query=(), headers=(), body=b"", length=None):
        """A request whose answer is small: status, headers, body."""
        answer = self.open(method, path, query, headers, body, length)
        body = answer.read()
        self.own.used = time.monotonic()
        return answer.status, answer.headers, body

    def need(self, method, path, *more, **named):
        """The same where all but success is a failure."""
        status, headers, body = self.ask(method, path, *more, **named)
        if not 200 <= status < 300:
            raise Failed(f"{method} {path} at port {self.port}: {status} {body[:600].decode(errors='replace')}")
        return headers, body

    def _connection(self):
        connection = getattr(self.own, "connection", None)
        if connection is None or time.monotonic() - self.own.used > REST:
            if connection is not None:
                connection.close()
            connection = self.own.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        return connection

    @staticmethod
    def _date():
        now = datetime.datetime.now(datetime.timezone.utc)
        return [("x-amz-date", now.strftime("%Y%m%dT%H%M%SZ")), ("x-amz-content-sha256", UNSIGNED)]

    def _authorization(self, method, path, query, headers):
        headers = sorted(headers)
        names = ";".join(name for name, _ in headers)
        lines = [method, path, query, *(f"{name}:{value}" for name, value in headers), "", names, UNSIGNED]
        date = next(value for name, value in headers if name == "x-amz-date")
        scope = f"{date[:8]}/{REGION}/s3/aws4_request"
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        signed = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
        signature = hmac.digest(self._key(date[:8]), signed.encode(), "sha256").hex()
        return f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"

    def _key(self, day):
        if self.signing[0] != day:
            key = f"AWS4{self.secret_key}".encode()
            for part in (day, REGION, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self.signing = day, key
        return self.signing[1]

    def put(self, bucket, thing):
        self.need("PUT", f"/{bucket}{thing.path}", headers=thing.headers(), body=thing.pieces(), length=thing.length)

    def delete(self, bucket, key):
        self.need("DELETE", f"/{bucket}/{key}")

    def differs(self, bucket, thing):
        """In what the object is not what it should be, or nothing."""
        answer = self.open("GET", f"/{bucket}{thing.path}")
        if answer.status != 200:
            return f"{answer.status} {answer.read().decode(errors='replace')}"
        wrong = []
        for number, piece in enumerate(thing.pieces()):
            if answer.read(len(piece)) != piece:
                wrong.append(f"other bytes in piece {number}")
                break
        if answer.read():
            wrong.append("more than its bytes, or others")
        self.own.used = time.monotonic()
        wrong += [f"{name} is {answer.getheader(name)!r}" for name, value in thing.headers() if answer.getheader(name) != value]
        return ", ".join(wrong)

    def is_gone(self, bucket, key):
        status, _, body = self.ask("GET", f"/{bucket}/{key}")
        return status == 404 and b"<Code>NoSuchKey</Code>" in body

    def is_sealed(self, bucket, key):
        """Whether an envelope is with it at the store."""
        headers, _ = self.need("HEAD", f"/{bucket}/{key}")
        return "x-amz-meta-s3veil" in headers

    def listing(self, bucket, prefix=""):
        """All keys and lengths."""
        after = ""
        while True:
            query = [("list-type", "2"), ("prefix", prefix), ("start-after", after)]
            page = self._page(f"/{bucket}", query)
            for entry in page.findall("Contents"):
                after = entry.findtext("Key")
                yield after, int(entry.findtext("Size"))
            if page.findtext("IsTruncated") != "true":
                return

    def versions(self, bucket, prefix=""):
        """How many versions there are, and how many delete markers."""
        versions, markers, key, version = 0, 0, "", ""
        while True:
            query = [("versions", ""), ("prefix", prefix), ("key-marker", key), ("version-id-marker", version)]
            page = self._page(f"/{bucket}", [one for one in query if one[1] or one[0] == "versions"])
            versions += len(page.findall("Version"))
            markers += len(page.findall("DeleteMarker"))
            if page.findtext("IsTruncated") != "true":
                return versions, markers
            key, version = page.findtext("NextKeyMarker"), page.findtext("NextVersionIdMarker") or ""

    def _page(self, path, query):
        _, body = self.need("GET", path, query)
        page = xml.etree.ElementTree.fromstring(body)
        for element in page.iter():
            element.tag = element.tag.rpartition("}")[2]
        return page


def quoted(text, safe=""):
    return urllib.parse.quote(text, safe=safe + "-._~")


def each(things, work, threads):
    """Does the work on each of them. The first failure ends it, and is raised."""
    things, lock, failures = iter(things), threading.Lock(), []

    def share():
        while not failures:
            with lock:
                thing = next(things, things)
            if thing is things:
                return
            try:
                work(thing)
            except Exception as why:  # Whatever it is: its thread can't raise it.
                failures.append(why if isinstance(why, Failed) else Failed(f"{thing}: {type(why).__name__}: {why}"))

    running = [threading.Thread(target=share, daemon=True) for _ in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    if failures:
        raise failures[0]
