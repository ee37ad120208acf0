"""Requests as they go over the wire, signed by nobody's library, so that odd ones get through."""

import dataclasses
import datetime
import hashlib
import hmac
import http.client
import socket
import urllib.parse

SAFE = "-._~"


@dataclasses.dataclass
class Answer:
    status: int
    headers: list  # of (name in lower case, value), in the order of their coming
    body: bytes
    broken: str = ""

    def header(self, name):
        return next((value for given, value in self.headers if given == name), None)

    def __str__(self):
        lines = [f"{self.status}"] + [f"{name}: {value}" for name, value in self.headers]
        return "\n".join(lines + ["", repr(self.body[:1500]) + (f" BROKEN: {self.broken}" if self.broken else "")])


@dataclasses.dataclass
class Ask:
    """A request. `{kind:n}` in its texts stands for the n-th value of a kind that a side has given out, or `last`."""

    method: str
    path: str = "/"  # percent-encoded
    query: tuple = ()  # of (name, value or None), not encoded
    headers: tuple = ()  # of (name, value)
    body: bytes = b""
    signing: str = "hash"  # "hash", "unsigned", "chunks" (aws-chunked, unsigned trailer), "anonymous", "wrong", "presigned"
    trailer: tuple = ()  # of (name, value), with "chunks"
    # What the generator may learn from the answer.
    note: str = ""

    def __str__(self):
        query = "&".join(name if value is None else f"{name}={value}" for name, value in self.query)
        lines = [f"{self.method} {self.path}{'?' + query if query else ''} [{self.signing}] {self.note}"]
        lines += [f"{name}: {value}" for name, value in self.headers + self.trailer]
        return "\n".join(lines + ["", repr(self.body[:600]) + (f"... {len(self.body)} bytes" if len(self.body) > 600 else "")])


def encode(text, safe=SAFE):
    return urllib.parse.quote(text, safe=safe)


class Wire:
    """One side: an address, who asks there, and what it has given out."""

    def __init__(self, name, port, user, region="us-east-1"):
        self.name, self.port, self.user, self.region = name, port, user, region
        self.given = {}

    def fill(self, text):
        """The text with this side's own values."""
        for kind, values in self.given.items():
            for number, value in enumerate(values):
                text = text.replace(f"{{{kind}:{number}}}", value)
            text = text.replace(f"{{{kind}:last}}", values[-1])
        return text

    def ask(self, ask):
        path = self.fill(ask.path)
        query = [(self.fill(name), None if value is None else self.fill(value)) for name, value in ask.query]
        headers = [(name, self.fill(value)) for name, value in ask.headers]
        body = ask.body
        if b"{" in body and len(body) < 100_000:
            body = self.fill(body.decode("latin-1")).encode("latin-1")
        return self._send(ask, path, query, headers, body)

    def _send(self, ask, path, query, headers, body):
        names = {name.lower() for name, _ in headers}
        headers = [("Host", f"127.0.0.1:{self.port}")] + headers
        if ask.signing == "chunks":
            headers += [("x-amz-decoded-content-length", str(len(body))), ("Content-Encoding", "aws-chunked")]
            headers += [("x-amz-trailer", name) for name, _ in ask.trailer]
            hashed = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
            body = chunked(body, ask.trailer)
        else:
            hashed = hashlib.sha256(body).hexdigest() if ask.signing in ("hash", "wrong") else "UNSIGNED-PAYLOAD"
        if (body or ask.method in ("PUT", "POST")) and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(body))))
        if ask.signing == "presigned":
            query = self.presign(ask.method, path, query, headers)
        elif ask.signing != "anonymous":
            self.sign(ask.method, path, query, headers, hashed, wrong=ask.signing == "wrong")
        target = path + ("?" + written(query) if query else "")
        lines = [f"{ask.method} {target} HTTP/1.1"] + [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join(lines + ["Connection: close", "", ""]).encode("utf-8")
        return self.raw(head + body, ask.method)

    def raw(self, octets, method):
        """Sends these and reads the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                connection.sendall(octets)
            except OSError:
                pass  # Refused before all was sent: the answer says why.
            answer = http.client.HTTPResponse(connection, method=method)
            try:
                answer.begin()
            except (OSError, http.client.HTTPException) as why:
                return Answer(0, [], b"", f"no answer: {type(why).__name__}")
            headers = [(name.lower(), value) for name, value in answer.getheaders()]
            try:
                return Answer(answer.status, headers, answer.read())
            except (OSError, http.client.HTTPException) as why:
                return Answer(answer.status, headers, getattr(why, "partial", b""), type(why).__name__)

    def sign(self, method, path, query, headers, hashed, wrong=False):
        """Signature Version 4 over all headers but those of the connection."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers += [("x-amz-date", now), ("x-amz-content-sha256", hashed)]
        scope, signed, signature = self._signature(method, path, query, headers, hashed, now, wrong)
        headers.append((
            "Authorization",
            f"AWS4-HMAC-SHA256 Credential={self.user.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}",
        ))

    def presign(self, method, path, query, headers):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        signed = ";".join(sorted({name.lower() for name, _ in headers if signs(name)}))
        query = query + [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"), ("X-Amz-Credential", f"{self.user.access_key}/{scope}"),
            ("X-Amz-Date", now), ("X-Amz-Expires", "300"), ("X-Amz-SignedHeaders", signed),
        ]
        _, _, signature = self._signature(method, path, query, headers, "UNSIGNED-PAYLOAD", now, False)
        return query + [("X-Amz-Signature", signature)]

    def _signature(self, method, path, query, headers, hashed, now, wrong):
        canonical = {}
        for name, value in headers:
            if signs(name):
                canonical.setdefault(name.lower(), []).append(" ".join(value.split()))
        signed = ";".join(sorted(canonical))
        # Each side decodes the path and encodes it as S3 does.
        uri = encode(urllib.parse.unquote(path, "utf-8", "surrogateescape").encode("utf-8", "surrogateescape"), SAFE + "/")
        lines = [method, uri, written(sorted((encode(n), encode(v or "")) for n, v in query), encoded=True)]
        lines += [f"{name}:{','.join(values)}" for name, values in sorted(canonical.items())] + ["", signed, hashed]
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        key = f"AWS4{'x' if wrong else ''}{self.user.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return scope, signed, hmac.new(key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}".encode(), "sha256").hexdigest()


def signs(name):
    return name.lower() not in ("connection", "expect", "transfer-encoding", "content-length", "authorization")


def written(query, encoded=False):
    one = (lambda text: text) if encoded else encode
    return "&".join(one(name) + ("" if value is None else "=" + one(value)) for name, value in query)


def chunked(body, trailer):
    """In pieces of odd sizes."""
    out, at, size = b"", 0, 8192
    while at < len(body):
        piece = body[at:at + size]
        out += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        at, size = at + size, size + 977
    return out + b"0\r\n" + b"".join(f"{name}:{value}\r\n".encode() for name, value in trailer) + b"\r\n"
