#!/usr/bin/env python3
"""A second reader of s3veil's sealed format, written from docs/format.md alone.

    s3veil_reader.py read ENVELOPE BODY_FILE DEK_HEX BUCKET KEY     writes the plaintext to stdout
    s3veil_reader.py vectors FILE...                                checks vector files, prints a line for each vector

DEK_HEX is the DEK as the KMS unwraps it, or the customer's own key of an object under one (SSE-C).

Needs Python 3.9 and `cryptography`. It reads whole bodies into memory: it is here to be read, not to be fast.
"""

import base64
import hashlib
import hmac
import json
import re
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

MAGIC = bytes.fromhex("9373337665696c000d0a1a0a00000001")
CHUNK, TAG, FRAME, TRAILER = 65_536, 16, 80, 64
FOOTER_MAGIC = bytes.fromhex("9373337665696c01")
PART_HEAD, SALT, FOOTER, BLOCK_MAX = 48, 32, 16, 1 << 20
MAX = 5 << 40
SUMS = {1: 4, 2: 4, 3: 8, 4: 20, 5: 32, 6: 16, 7: 8, 8: 8, 9: 16}


class Refused(Exception):
    """The object does not open. `step` is where, `why` one of the names of the negative vectors."""

    def __init__(self, step, why):
        super().__init__(f"{why} at {step}")
        self.step, self.why = step, why


def read(text, body, dek, bucket, key):
    """The plaintext of a stored object, and a stream's trailer or a composite object's manifest."""
    envelope = parse(text)
    oek = open_oek(envelope, dek, bucket.encode(), key.encode())
    if envelope["fields"][1] == 2:
        return open_composite(oek, body)
    return open_body(oek, envelope["fields"], body)


# Lengths.


def chunks(p):
    return max(1, -(-p // CHUNK))


def sealed(p):
    return p + TAG * chunks(p) + FRAME


def sealed_part(p):
    return p + TAG * chunks(p) + PART_HEAD


def layout(size):
    """("stream", P), ("composite", None), or None for a size that no sealed object has."""
    b = size - FRAME
    if b < 0:
        return None
    if b % (CHUNK + TAG) == 1:
        return "composite", None
    p = b - TAG * -(-b // (CHUNK + TAG))
    return ("stream", p) if 0 <= p <= MAX and sealed(p) == size else None


# Keys.


def f(x):
    return len(x).to_bytes(4, "big") + x


def o(x):
    return b"\0" if x is None else b"\1" + f(x)


def kek(dek, fields, bucket, key):
    text = lambda n: fields[n].encode() if n in fields else None
    names = f(text(2) or b"") + f(text(3) or b"") + o(text(4))
    context = bytes([1, fields[1]]) + names + f(bucket) + f(key) + o(fields.get(9))
    return HKDF(SHA256(), 32, salt=fields[6], info=b"s3veil/v1/kek" + context).derive(dek)


def expand(oek, label):
    return HKDFExpand(SHA256(), 32, info=b"s3veil/v1/" + label).derive(oek)


def salted(oek, salt, label):
    return HKDF(SHA256(), 32, salt=salt, info=b"s3veil/v1/" + label).derive(oek)


def open_oek(envelope, dek, bucket, key):
    try:
        wrapping = kek(dek, envelope["fields"], bucket, key)
        oek = AESGCM(wrapping).decrypt(bytes(12), envelope["sealed_oek"], envelope["header"])
    except InvalidTag:
        raise Refused("open", "Tampered") from None
    if not hmac.compare_digest(expand(oek, b"commit"), envelope["commitment"]):
        raise Refused("open", "Tampered")
    return oek


# Envelope.


def parse(text):
    refuse = Refused("parse", "NotAnEnvelope")
    try:
        if len(text) > 4096 or not re.fullmatch("[A-Za-z0-9_-]*", text):
            raise refuse
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
            raise refuse
        header, fields = None, None
        items, at = head(data, 0, 4)
        header, at = item(data, at)
        fields = read_header(header, refuse)
        sealed_oek, at = item(data, at)
        commitment, at = item(data, at)
    except (ValueError, IndexError, TypeError):
        raise refuse from None
    if items != 3 or at != len(data) or (type(sealed_oek), type(commitment)) != (bytes, bytes):
        raise refuse
    if (len(sealed_oek), len(commitment)) != (48, 32):
        raise refuse
    return {"header": header, "fields": fields, "sealed_oek": sealed_oek, "commitment": commitment}


TYPES = {0: int, 1: int, 2: str, 3: str, 4: str, 5: bytes, 6: bytes, 7: int, 8: int, 9: bytes}
SIZES = {2: (1, 64), 3: (1, 512), 4: (1, 256), 5: (1, 1024), 6: (32, 32), 9: (32, 32)}
# What an envelope has for each kind of SSE, beside the length, and what it may have.
CUSTOMER = 3
ALWAYS, OF_AN_EK, OPTIONAL = {0, 1, 6, 8}, {2, 3, 5}, {4, 9}


def read_header(data, refuse):
    count, at = head(data, 0, 5)
    fields = {}
    for _ in range(count):
        number, at = item(data, at)
        value, at = item(data, at)
        if not fields:
            if number != 0 or type(value) is not int:
                raise refuse
            if value != 1:
                raise Refused("parse", "UnknownVersion")
        elif number <= max(fields):
            raise refuse
        if type(value) is not TYPES.get(number):
            raise refuse
        low, high = SIZES.get(number, (0, 0))
        size = len(value.encode() if type(value) is str else value) if number in SIZES else 0
        if not low <= size <= high:
            raise refuse
        fields[number] = value
    if at != len(data) or fields.get(1) not in (1, 2) or fields.get(8) not in (1, 2, 3, 4):
        raise refuse
    customer = fields[8] == CUSTOMER
    needed = (ALWAYS if customer else ALWAYS | OF_AN_EK) | ({7} if fields[1] == 1 else set())
    if not needed <= fields.keys() <= needed | (set() if customer else OPTIONAL):
        raise refuse
    if fields.get(7, 0) > MAX:
        raise refuse
    return fields


def head(data, at, major):
    """The number in the head of a CBOR item of this major type, in its shortest form; and what comes after."""
    if data[at] >> 5 != major:
        raise ValueError("another type")
    small = data[at] & 31
    if small < 24:
        return small, at + 1
    width = {24: 1, 25: 2, 26: 4, 27: 8}[small] if small in (24, 25, 26, 27) else None
    if width is None or at + 1 + width > len(data):
        raise ValueError("no definite length")
    number = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    if number < (24 if width == 1 else 1 << (4 * width)):
        raise ValueError("not the shortest form")
    return number, at + 1 + width


def item(data, at):
    """An unsigned number, a byte string or a text; and what comes after."""
    major = data[at] >> 5
    number, at = head(data, at, major)
    if major == 0:
        return number, at
    value = data[at : at + number]
    if major not in (2, 3) or len(value) != number:
        raise ValueError("neither number nor string, or cut")
    return (value if major == 2 else value.decode()), at + number


# The client's encryption context.


def context(fields, kept):
    """The entries that the KMS gets beside the bucket's, from the header that is kept beside the envelope, or None."""
    if 9 not in fields:
        return {}
    refuse = Refused("context", "Tampered")
    try:
        text = base64.b64decode(kept or "", validate=True)
        entries = json.loads(text)
    except ValueError:
        raise refuse from None
    if hashlib.sha256(text).digest() != fields[9]:
        raise refuse
    return entries


# Body.


def open_body(oek, fields, body):
    p = fields[7]
    if layout(len(body)) != ("stream", p):
        raise Refused("size", "Tampered")
    if body[:16] != MAGIC:
        raise Refused("body", "Tampered")
    plain = open_chunks(expand(oek, b"stream"), p, body[16:])
    return plain, open_trailer(oek, p, body[-TRAILER:])


def open_chunks(key, p, data):
    """The plaintext of the chunks that data begins with."""
    key, at, plain = AESGCM(key), 0, []
    for i in range(chunks(p)):
        last = i == chunks(p) - 1
        size = (p - i * CHUNK if last else CHUNK) + TAG
        try:
            plain.append(key.decrypt(i.to_bytes(11, "big") + bytes([last]), data[at : at + size], None))
        except InvalidTag:
            raise Refused("body", "Tampered") from None
        at += size
    return b"".join(plain)


def open_composite(oek, body):
    if layout(len(body)) != ("composite", None):
        raise Refused("size", "Tampered")
    manifest, block = open_manifest(oek, body)
    if sum(sealed_part(part[1]) for part in manifest["parts"]) + block != len(body):
        raise Refused("manifest", "Tampered")
    plain, at = [], 0
    for number, p, *_ in manifest["parts"]:
        if body[at : at + 16] != MAGIC:
            raise Refused("body", "Tampered")
        key = salted(oek, body[at + 16 : at + PART_HEAD], b"part" + number.to_bytes(4, "big"))
        plain.append(open_chunks(key, p, body[at + PART_HEAD : at + sealed_part(p)]))
        at += sealed_part(p)
    return b"".join(plain), manifest


def open_manifest(oek, body):
    """The manifest of a composite object, and how many bytes its block has."""
    refuse = Refused("manifest", "Tampered")
    footer = body[-FOOTER:]
    length = int.from_bytes(footer[8:], "big")
    if footer[:8] != FOOTER_MAGIC or not SALT + TAG + FOOTER <= length <= min(BLOCK_MAX, len(body)):
        raise refuse
    block = body[-length:]
    try:
        key = AESGCM(salted(oek, block[:SALT], b"manifest"))
        data = key.decrypt(bytes(12), block[SALT:-FOOTER], len(body).to_bytes(8, "big") + footer)
        (parts, checksum, upload), at = nested(data, 0)
    except (InvalidTag, ValueError, IndexError, TypeError):
        raise refuse from None
    if any(data[at:]) or not parts or [part[0] for part in parts] != sorted({part[0] for part in parts}):
        raise refuse
    if not all(1 <= part[0] <= 9999 for part in parts) or sum(part[1] for part in parts) > MAX:
        raise refuse
    algorithm, kind, value = checksum or (0, 1, None)
    values = [part[2] for part in parts if len(part) > 2] + ([value] if checksum else [])
    if len(upload) != 32 or kind not in (1, 2) or any(len(value) != SUMS.get(algorithm) for value in values):
        raise refuse
    return {"parts": parts, "checksum": checksum, "upload": upload}, length


def nested(data, at):
    """An item that may be an array of items; and what comes after."""
    if data[at] >> 5 != 4:
        return item(data, at)
    count, at = head(data, at, 4)
    items = []
    for _ in range(count):
        value, at = nested(data, at)
        items.append(value)
    return items, at


def open_trailer(oek, p, data):
    try:
        trailer = AESGCM(expand(oek, b"trailer")).decrypt(bytes(12), data, p.to_bytes(8, "big"))
    except InvalidTag:
        raise Refused("trailer", "Tampered") from None
    algorithm, rest = trailer[8], trailer[9:]
    size = SUMS.get(algorithm, 0)
    if (algorithm and not size) or any(rest[size:]):
        raise Refused("trailer", "Tampered")
    return {"crc64": trailer[:8], "algorithm": algorithm, "value": rest[:size]}


def _crc_table():
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x9A6C9329AC4BC9B5 if n & 1 else 0)
        yield n


CRC_TABLE = tuple(_crc_table())


def crc64nvme(data):
    crc = (1 << 64) - 1
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return (crc ^ (1 << 64) - 1).to_bytes(8, "big")


# Command line.


def check(vector):
    """Opens a vector as it says that it opens, or fails."""
    hexed = bytes.fromhex
    args = (vector["envelope"], hexed(vector["body"]), hexed(vector["dek"]), vector["bucket"], vector["key"])
    if "error" in vector:
        try:
            read(*args)
        except Refused as refused:
            assert (refused.step, refused.why) == (vector["step"], vector["error"]), f"refused with {refused}"
            return
        raise AssertionError("opened, and should not")
    if "entries" in vector:
        fields = parse(vector["envelope"])["fields"]
        assert context(fields, vector["context_header"]) == vector["entries"], "another context"
        for other in (None, "", "e30=", "no base64", vector["context_header"][4:]):
            try:
                context(fields, other)
            except Refused as refused:
                assert (refused.step, refused.why) == ("context", "Tampered"), f"refused with {refused}"
            else:
                raise AssertionError("another context is taken")
    plain, trailer = read(*args)
    assert plain == bytes(i % 251 for i in range(vector["length"])), "another plaintext"
    assert trailer["crc64"] == crc64nvme(plain), "another CRC"
    client = vector["client"] or {"algorithm": 0, "value": ""}
    assert (trailer["algorithm"], trailer["value"].hex()) == (client["algorithm"], client["value"])


def main(args):
    if args[:1] == ["read"] and len(args) == 6:
        envelope, path, dek, bucket, key = args[1:]
        with open(path, "rb") as file:
            plain, end = read(envelope, file.read(), bytes.fromhex(dek), bucket, key)
        if end.get("crc64", crc64nvme(plain)) != crc64nvme(plain):
            raise Refused("trailer", "another CRC")
        sys.stdout.buffer.write(plain)
    elif args[:1] == ["vectors"] and len(args) > 1:
        for path in args[1:]:
            with open(path, encoding="utf-8") as file:
                for vector in json.load(file):
                    # A long body is not in the file; the plaintext of its sealing is checked in Rust.
                    if "body" in vector:
                        check(vector)
                        print("ok", vector["name"])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as refused:
        sys.exit(f"refused: {refused}")
