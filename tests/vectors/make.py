#!/usr/bin/env python3
"""Makes the test vectors of the sealed format, with the keys of the second reader and none of s3veil's code.

    make.py            writes stream-v1.json, stream-v1-negative.json and composite-v1.json beside itself

Every random byte of a writer (salt, OEK) is a SHA-256 of a name here, so that the files come out the same each time.
"""

import base64
import hashlib
import json
import pathlib
import sys
import unicodedata

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reader"))

import s3veil_reader as reader  # noqa: E402


def fixed(name):
    return hashlib.sha256(name.encode()).digest()


DEK, OEK, SALT, UPLOAD = fixed("dek"), fixed("oek"), fixed("salt"), fixed("upload")
NFC, NFD = (unicodedata.normalize(form, "ünï/ćode é 你好 🦀.txt") for form in ("NFC", "NFD"))


# A writer.


def number(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    width = next(w for w in (1, 2, 4, 8) if n < 1 << 8 * w)
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + n.to_bytes(width, "big")


def cbor(value):
    if isinstance(value, int):
        return number(0, value)
    data = value.encode() if isinstance(value, str) else value
    return number(3 if isinstance(value, str) else 2, len(data)) + data


def header(fields):
    return number(5, len(fields)) + b"".join(cbor(n) + cbor(fields[n]) for n in sorted(fields))


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def record(head, sealed_oek, commitment):
    return number(4, 3) + cbor(head) + cbor(sealed_oek) + cbor(commitment)


def fields_of(length, **changed):
    fields = {0: 1, 1: 1, 2: "kes", 3: "my-key", 5: bytes(range(76)), 6: SALT, 7: length, 8: 1}
    fields.update({int(name[1:]): value for name, value in changed.items()})
    return {n: value for n, value in fields.items() if value is not None}


def canonical(entries):
    """The one JSON form of a client's encryption context."""
    escaped = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    unicode = lambda c: f"\\u{ord(c):04x}" if c < " " or c in "<>&\u2028\u2029" else c
    quoted = lambda text: '"' + "".join(escaped.get(c) or unicode(c) for c in text) + '"'
    names = sorted(entries, key=str.encode)
    return ("{" + ",".join(f"{quoted(name)}:{quoted(entries[name])}" for name in names) + "}").encode()


def customers(length, **changed):
    """Under a customer's key (SSE-C): nothing speaks of a KMS."""
    return fields_of(length, **{"_2": None, "_3": None, "_5": None, "_8": 3, **changed})


def envelope(fields, bucket, key, dek=DEK, oek=OEK, head=None, commitment=None):
    head = header(fields) if head is None else head
    wrapping = reader.kek(dek, fields, bucket.encode(), key.encode())
    sealed_oek = AESGCM(wrapping).encrypt(bytes(12), oek, head)
    return text(record(head, sealed_oek, commitment or reader.expand(oek, b"commit")))


def plaintext(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def trailer_of(plain, client):
    algorithm, value = client or (0, b"")
    return reader.crc64nvme(plain) + bytes([algorithm]) + value.ljust(39, b"\0")


def seal_trailer(trailer, length, oek=OEK):
    return AESGCM(reader.expand(oek, b"trailer")).encrypt(bytes(12), trailer, length.to_bytes(8, "big"))


def seal_chunk(i, last, plain, oek=OEK):
    return AESGCM(reader.expand(oek, b"stream")).encrypt(i.to_bytes(11, "big") + bytes([last]), plain, None)


def body(plain, client=None, oek=OEK):
    pieces = [plain[at : at + reader.CHUNK] for at in range(0, len(plain), reader.CHUNK)] or [b""]
    sealed = [seal_chunk(i, i == len(pieces) - 1, piece, oek) for i, piece in enumerate(pieces)]
    return reader.MAGIC + b"".join(sealed) + seal_trailer(trailer_of(plain, client), len(plain), oek)


def seal_part(number, salt, plain, oek=OEK):
    key = AESGCM(reader.salted(oek, salt, b"part" + number.to_bytes(4, "big")))
    pieces = [plain[at : at + reader.CHUNK] for at in range(0, len(plain), reader.CHUNK)] or [b""]
    nonces = [i.to_bytes(11, "big") + bytes([i == len(pieces) - 1]) for i in range(len(pieces))]
    return reader.MAGIC + salt + b"".join(key.encrypt(nonce, piece, None) for nonce, piece in zip(nonces, pieces))


def array(items):
    return number(4, len(items)) + b"".join(array(i) if isinstance(i, list) else cbor(i) for i in items)


def seal_manifest(parts, checksum, salt, before, oek=OEK):
    """The block that closes an object with so many sealed bytes before it."""
    data = array([parts, checksum, UPLOAD])
    size = before + reader.SALT + len(data) + reader.TAG + reader.FOOTER
    padding = (1 - (size - reader.FRAME)) % (reader.CHUNK + reader.TAG)
    size += padding
    footer = reader.FOOTER_MAGIC + (size - before).to_bytes(8, "big")
    key = AESGCM(reader.salted(oek, salt, b"manifest"))
    return salt + key.encrypt(bytes(12), data + bytes(padding), size.to_bytes(8, "big") + footer) + footer


# Objects that open.


def composite(name, sizes, checksum=None, values=None, sse=None):
    """Parts of these numbers and lengths. The body, of 64 KiB at least, stands there as its hash."""
    fields = (customers if sse == 3 else fields_of)(None, _1=2, _8=sse or 1)
    plain = plaintext(sum(length for _, length in sizes))
    at, sealed, salts = 0, b"", []
    for n, length in sizes:
        salts.append(fixed(f"salt of part {n}"))
        sealed += seal_part(n, salts[-1], plain[at : at + length])
        at += length
    parts = [[n, length] + ([values[i]] if values else []) for i, (n, length) in enumerate(sizes)]
    salt = fixed("salt of the manifest")
    body = sealed + seal_manifest(parts, checksum or [], salt, len(sealed))
    made = envelope(fields, "bucket", "a/b")
    assert reader.read(made, body, DEK, "bucket", "a/b") == (
        plain,
        {"parts": parts, "checksum": checksum or [], "upload": UPLOAD},
    )
    return {
        "name": name,
        "dek": DEK.hex(),
        "oek": OEK.hex(),
        "salt": SALT.hex(),
        "bucket": "bucket",
        "key": "a/b",
        "parts": [{"number": n, "length": p, "salt": s.hex()} for (n, p), s in zip(sizes, salts)],
        "values": values and [value.hex() for value in values],
        "checksum": checksum and {"algorithm": checksum[0], "kind": checksum[1], "value": checksum[2].hex()},
        **({"sse": sse} if sse else {}),
        "upload": UPLOAD.hex(),
        "manifest_salt": salt.hex(),
        "envelope": made,
        "size": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }


def composites():
    yield composite("one empty part", [(1, 0)])
    yield composite("one part of one byte", [(1, 1)])
    yield composite("parts of odd lengths and numbers", [(1, 65_536), (2, 65_537), (7, 1), (9_999, 0)])
    yield composite("a full-object checksum", [(1, 100_000), (2, 7)], [3, 1, fixed("crc")[:8]])
    values = [fixed("part 1"), fixed("part 2")]
    yield composite("a checksum of checksums", [(1, 100_000), (2, 7)], [5, 2, fixed("all parts")], values)
    yield composite("many parts", [(n, n % 3) for n in range(1, 100)])
    yield composite("parts under a customer's key", [(1, 65_537), (3, 10)], sse=3)
    yield composite("parts under a Bucket Key", [(2, 10)], sse=4)


def positive(name, length, bucket="bucket", key="a/b", client=None, entries=None, **changed):
    kept = entries and canonical(entries)
    if kept:
        changed["_9"] = hashlib.sha256(kept).digest()
    fields = (customers if changed.get("_8") == 3 else fields_of)(length, **changed)
    data = body(plaintext(length), client)
    vector = {
        "name": name,
        "dek": DEK.hex(),
        "oek": OEK.hex(),
        "salt": SALT.hex(),
        "bucket": bucket,
        "key": key,
        "kms": fields.get(2, ""),
        "ek": fields.get(3, ""),
        "ek_version": fields.get(4),
        "wrapped_dek": fields.get(5, b"").hex(),
        "sse": fields[8],
        "context": fields[9].hex() if 9 in fields else None,
        "length": length,
        "client": client and {"algorithm": client[0], "value": client[1].hex()},
        "envelope": envelope(fields, bucket, key),
        "body_sha256": hashlib.sha256(data).hexdigest(),
    }
    if entries:
        vector |= {"entries": entries, "context_header": base64.b64encode(kept).decode()}
    if len(data) <= 2000:
        vector["body"] = data.hex()
    return vector


def positives():
    sums = {algorithm: fixed(f"checksum {algorithm}")[:size] for algorithm, size in reader.SUMS.items()}
    yield positive("empty", 0)
    yield positive("one byte", 1)
    yield positive("a short text", 1000)
    for length in (65_535, 65_536, 65_537, 131_072, 200_000):
        yield positive(f"{length} bytes", length)
    yield positive("a key in Unicode, composed", 5, key=NFC)
    yield positive("a key in Unicode, decomposed", 5, key=NFD)
    yield positive("a key with empty and dot segments", 5, key="a//./b%2Fc")
    yield positive("all fields", 300, _2="vault", _3="team/ek", _4="7", _5=b"\xff" * 184, _8=2, _9=fixed("context"))
    yield positive("the longest fields", 5, _2="k" * 64, _3="e" * 512, _4="v" * 256, _5=b"w" * 1024)
    for algorithm, value in sums.items():
        yield positive(f"client checksum {algorithm}", 10, client=(algorithm, value))
    for length in (0, 300, 65_537):
        yield positive(f"{length} bytes under a customer's key", length, client=(5, sums[5]), _8=3)
    yield positive("a Bucket Key", 300, _8=4)
    yield positive("an encryption context", 20, entries={"team": "a", "Team": ""})
    odd = {"<é>&": '"\\/\n\t\r\b\f\x7f', "\u2028": "\U0001f980", "\uffee": "\u2029", "": "no name"}
    yield positive("an encryption context that needs escapes", 20, entries=odd)


# Objects that do not.


def negative(name, step, error, text=None, data=None, dek=DEK, bucket="bucket", key="a/b"):
    text = envelope(fields_of(10), "bucket", "a/b") if text is None else text
    data = body(plaintext(10)) if data is None else data
    at = {"dek": dek.hex(), "bucket": bucket, "key": key}
    return {"name": name, "step": step, "error": error, **at, "envelope": text, "body": data.hex()}


def forms():
    """Envelopes that are not in the one form. All are sealed correctly, so that only the form can be the reason."""
    good = header(fields_of(10))

    def with_head(head):
        return envelope(fields_of(10), "bucket", "a/b", head=head)

    def refused(name, text, error="NotAnEnvelope"):
        return negative(name, "parse", error, text=text)

    right = envelope(fields_of(10), "bucket", "a/b")
    data = base64.urlsafe_b64decode(right + "=" * (-len(right) % 4))
    yield refused("empty text", "")
    yield refused("base64 padding", right + "=")
    yield refused("a space at the end", right + " ")
    yield refused("the other base64 alphabet", text(data + b"\xff\xff\xff")[:-1] + "/")
    yield refused("stray bits in the last character", stray(data))
    yield refused("a byte after the array", text(data + b"\0"))
    yield refused("the last byte missing", text(data[:-1]))
    yield refused("an array of four", text(b"\x84" + data[1:] + b"\0"))
    yield refused("an indefinite array", text(b"\x9f" + data[1:] + b"\xff"))
    yield refused("an array length in a longer form", text(b"\x98\x03" + data[1:]))
    yield refused("a sealed OEK of 49 bytes", text(record(good, bytes(49), bytes(32))))
    yield refused("a commitment of 31 bytes", text(record(good, bytes(48), bytes(31))))
    yield refused("a header that is no byte string", text(number(4, 3) + good + cbor(bytes(48)) + cbor(bytes(32))))
    yield refused("an indefinite map", with_head(b"\xbf" + good[1:] + b"\xff"))
    yield refused("a byte after the map", with_head(good + b"\0"))
    yield refused("a number in a longer form", with_head(good.replace(b"\x07\x0a", b"\x07\x18\x0a")))
    yield refused("a field twice", with_head(number(5, 9) + good[1:] + b"\x08\x01"))
    yield refused("fields out of order", with_head(good[:-4] + good[-2:] + good[-4:-2]))
    yield refused("an unknown field", with_head(header({**fields_of(10), 10: 1})))
    yield refused("text that is not UTF-8", with_head(good.replace(b"kes", b"k\xffs")))
    for n in (1, 2, 3, 5, 6, 7, 8):
        missing = {k: v for k, v in fields_of(10).items() if k != n}
        yield refused(f"field {n} missing", with_head(header(missing)))
    changes = {
        "an unknown layout": {"_1": 3},
        "a composite object with a length": {"_1": 2},
        # A customer's key since then, and still no envelope of one: it names a KMS. `kinds` has the rest.
        "an unknown SSE": {"_8": 3},
        "an empty KMS name": {"_2": ""},
        "a KMS name of 65 bytes": {"_2": "k" * 65},
        "an empty EK name": {"_3": ""},
        "an EK name of 513 bytes": {"_3": "e" * 513},
        "an empty EK version": {"_4": ""},
        "an empty wrapped DEK": {"_5": b""},
        "a wrapped DEK of 1,025 bytes": {"_5": bytes(1025)},
        "a salt of 31 bytes": {"_6": bytes(31)},
        "a length over 5 TiB": {"_7": (5 << 40) + 1},
        "a context digest of 31 bytes": {"_9": bytes(31)},
        "a text where bytes belong": {"_5": "text"},
        "bytes where a text belongs": {"_3": b"bytes"},
    }
    for name, change in changes.items():
        yield refused(name, with_head(header(fields_of(10, **change))))
    for version in (0, 2, 255, 1 << 40):
        yield refused(f"version {version}", with_head(header(fields_of(10, _0=version))), "UnknownVersion")
    yield refused("another version with unknown fields", with_head(number(5, 2) + b"\x00\x02\x0c\x0c"), "UnknownVersion")


def stray(data):
    """The same bytes with a bit set that base64 does not use; another EK name where the length leaves no such bit."""
    name = "my-key"
    while len(data) % 3 == 0:
        name += "x"
        right = envelope(fields_of(10, _3=name), "bucket", "a/b")
        data = base64.urlsafe_b64decode(right + "=" * (-len(right) % 4))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    right = text(data)
    return right[:-1] + alphabet[alphabet.index(right[-1]) | 1]


def keys():
    """Envelopes whose key must not come out."""

    def refused(name, **changed):
        return negative(name, "open", "Tampered", **changed)

    yield refused("another DEK", dek=fixed("another"))
    yield refused("another bucket", bucket="bucket2")
    for key in ("a//b", "a/./b", "a%2Fb", "a/b/", "A/b", "a/c"):
        yield refused(f"moved to the key {key}", key=key)
    composed = envelope(fields_of(10), "bucket", NFC)
    yield refused("moved from a composed to a decomposed key", text=composed, key=NFD)
    yield refused("bucket and key cut elsewhere", text=envelope(fields_of(10), "bucketa", "/b"))
    changes = {"KMS": {"_2": "kez"}, "EK": {"_3": "my-kez"}, "EK version": {"_4": "1"}, "wrapped DEK": {"_5": b"w"}}
    changes |= {"salt": {"_6": fixed("other")}, "length": {"_7": 11}, "SSE": {"_8": 2}, "context": {"_9": bytes(32)}}
    right = reader.parse(envelope(fields_of(10), "bucket", "a/b"))
    for name, change in changes.items():
        forged = record(header(fields_of(10, **change)), right["sealed_oek"], right["commitment"])
        yield refused(f"another {name} in the header", text=text(forged))
    swapped = AESGCM(reader.kek(DEK, fields_of(10), b"bucket", b"a/b")).encrypt(bytes(12), fixed("oek 2"), right["header"])
    yield refused("an OEK that is not the one committed to", text=text(record(right["header"], swapped, right["commitment"])))
    foreign = reader.expand(fixed("oek 2"), b"commit")
    yield refused("a commitment to another OEK", text=text(record(right["header"], right["sealed_oek"], foreign)))
    made = salamander(DEK, fixed("dek 2"))
    yield refused("one ciphertext for two DEKs, the DEK not committed to", text=made, dek=fixed("dek 2"))


def bodies():
    """Bodies that do not belong to their envelope, or were never written so."""

    def refused(name, step, data, length=10):
        made = envelope(fields_of(length), "bucket", "a/b")
        return negative(name, step, "Tampered", text=made, data=data)

    plain, right = plaintext(10), body(plaintext(10))
    for size in (0, 1, 15, 16, 42, 79, 80, 95, len(right) - 1):
        yield refused(f"cut to {size} bytes", "size", right[:size])
    yield refused("a byte appended", "size", right + b"\0")
    yield refused("a second body appended", "size", right + right)
    yield refused("the envelope says one byte more", "size", right, length=11)
    yield refused("the magic of version 2", "body", reader.MAGIC[:15] + b"\2" + right[16:])
    yield refused("no magic", "body", bytes(16) + right[16:])
    trailer = right[-64:]
    yield refused("the last chunk not marked", "body", reader.MAGIC + seal_chunk(0, 0, plain) + trailer)
    yield refused("the first chunk counted from 1", "body", reader.MAGIC + seal_chunk(1, 1, plain) + trailer)
    yield refused("the body of another object", "body", body(plain, oek=fixed("oek 2")))
    yield refused("the trailer of another object", "trailer", right[:-64] + body(plain, oek=fixed("oek 2"))[-64:])
    front = right[:-64]
    yield refused("a trailer for another length", "trailer", front + seal_trailer(trailer_of(plain, None), 11))
    odd = {
        "a reserved byte set": trailer_of(plain, None)[:-1] + b"\1",
        "a value without algorithm": trailer_of(plain, (0, b"\1")),
        "an unknown algorithm": trailer_of(plain, (10, b"")),
        "padding that is not zero": trailer_of(plain, (1, bytes(4) + b"\1")),
    }
    for name, inner in odd.items():
        yield refused(f"a trailer with {name}", "trailer", front + seal_trailer(inner, 10))


def kinds():
    """Envelopes that have other fields than their kind of SSE, or not the customer's key."""

    def refused(name, fields):
        # Sealed for what it says, so that only its fields can be the reason.
        return negative(name, "parse", "NotAnEnvelope", text=envelope(fields, "bucket", "a/b"))

    for kind in (0, 5):
        yield refused(f"SSE kind {kind}", fields_of(10, _8=kind))
        yield refused(f"SSE kind {kind} without an EK", customers(10, _8=kind))
    some = {2: "kes", 3: "my-key", 4: "1", 5: bytes(range(76)), 9: fixed("context")}
    for n, name in {2: "KMS", 3: "EK", 4: "EK version", 5: "wrapped DEK", 9: "context digest"}.items():
        yield refused(f"a customer's key and the field {n}, {name}", customers(10, **{f"_{n}": some[n]}))
    yield refused("a customer's key and an empty wrapped DEK", customers(10, _5=b""))
    yield refused("a customer's stream without a length", customers(None))
    for kind in (1, 2, 4):
        yield refused(f"SSE kind {kind} without an EK", customers(10, _8=kind))
        for n in (2, 3, 5):
            yield refused(f"SSE kind {kind} without the field {n}", fields_of(10, _8=kind, **{f"_{n}": None}))

    def closed(name, **changed):
        return negative(name, "open", "Tampered", **changed)

    right = envelope(customers(10), "bucket", "a/b")
    yield closed("another customer's key", text=right, dek=fixed("another"))
    yield closed("a customer's object at another key", text=right, key="a//b")
    yield closed("a customer's object in another bucket", text=right, bucket="bucket2")
    for name, own, other in (
        ("an EK's envelope made a customer's", fields_of(10), customers(10)),
        ("a customer's envelope made an EK's", customers(10), fields_of(10)),
        ("a Bucket Key in the header", fields_of(10), fields_of(10, _8=4)),
    ):
        made = reader.parse(envelope(own, "bucket", "a/b"))
        yield closed(name, text=text(record(header(other), made["sealed_oek"], made["commitment"])))


# The two-key attack on AES-GCM (2019/016): one sealed OEK that authenticates under two KEKs.


def multiply(x, y):
    """The product in GF(2^128), bits in GCM's order."""
    product = 0
    for bit in range(127, -1, -1):
        if y >> bit & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def power(x, n):
    result = 1 << 127
    for _ in range(n):
        result = multiply(result, x)
    return result


def inverse(x):
    result, square = 1 << 127, x
    for _ in range(127):
        square = multiply(square, square)
        result = multiply(result, square)
    return result


def salamander(dek_a, dek_b):
    """An envelope whose sealed OEK opens under both DEKs, to two OEKs; it commits to that of `dek_a`."""
    fields = fields_of(10)
    aad = header(fields)
    sides = []
    for dek in (dek_a, dek_b):
        wrapping = reader.kek(dek, fields, b"bucket", b"a/b")
        block = Cipher(algorithms.AES(wrapping), modes.ECB()).encryptor()
        h = int.from_bytes(block.update(bytes(16)), "big")
        mask = int.from_bytes(block.update(bytes(15) + b"\1"), "big")
        sides.append((wrapping, h, mask))
    first = bytes(16)
    blocks = [aad[at : at + 16].ljust(16, b"\0") for at in range(0, len(aad), 16)] + [first]
    lengths = int.from_bytes((8 * len(aad)).to_bytes(8, "big") + (8 * 32).to_bytes(8, "big"), "big")

    def rest(h, mask):
        """The tag without the second ciphertext block's share, which is that block times h^2."""
        total = mask ^ multiply(lengths, h)
        for i, data in enumerate(reversed(blocks)):
            total ^= multiply(int.from_bytes(data, "big"), power(h, i + 3))
        return total

    (key_a, h_a, mask_a), (key_b, h_b, mask_b) = sides
    difference = rest(h_a, mask_a) ^ rest(h_b, mask_b)
    second = multiply(difference, inverse(power(h_a, 2) ^ power(h_b, 2)))
    tag = rest(h_a, mask_a) ^ multiply(second, power(h_a, 2))
    sealed_oek = first + second.to_bytes(16, "big") + tag.to_bytes(16, "big")
    oeks = [AESGCM(key).decrypt(bytes(12), sealed_oek, aad) for key in (key_a, key_b)]
    assert oeks[0] != oeks[1], "the attack gives two keys"
    return text(record(aad, sealed_oek, reader.expand(oeks[0], b"commit")))


def write(name, vectors):
    for vector in vectors:
        if "body" in vector:
            reader.check(vector)
    lines = ",\n".join("  " + json.dumps(vector, ensure_ascii=False) for vector in vectors)
    (HERE / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write("stream-v1.json", list(positives()))
    write("stream-v1-negative.json", [*forms(), *keys(), *bodies(), *kinds()])
    write("composite-v1.json", list(composites()))
