"""What the client scripts share: where everything is, what is written, and what the store may hold of it."""

import os
import random
import subprocess
import tempfile
import time
import urllib.parse

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CHUNK = 65_536
ENDPOINT = os.environ["ENDPOINT"]
HOST = ENDPOINT.removeprefix("http://")
KEY, SECRET = os.environ["ACCESS_KEY"], os.environ["SECRET_KEY"]
STORE = os.environ["STORE"]
BIN = os.environ["TOOLS_BIN"]

_random = random.Random(7)

# Keys of every shape that all the stores take, and bodies around a chunk's length.
BODIES = {
    "empty": b"",
    "one": b"x",
    "dir/under a chunk": _random.randbytes(CHUNK - 1),
    "dir/a chunk +": _random.randbytes(CHUNK),
    "dir/über %41 chunk": _random.randbytes(CHUNK + 1),
    "big.bin": _random.randbytes(300_123),
}


class Failed(Exception):
    """A program ended with an error; the text is what it printed."""


def s3(endpoint=ENDPOINT, key=KEY, secret=SECRET, region="us-east-1", verify=None, **config):
    """A boto3 client; of the proxy unless told otherwise."""
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config)
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=region, aws_access_key_id=key, aws_secret_access_key=secret,
        verify=verify, config=config,
    )


def store():
    """A client of the store itself, past s3veil."""
    place = [os.environ[f"STORE_{name}"] for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "REGION")]
    return s3(*place)


def sealed_len(plain):
    """docs/format.md, "Lengths"."""
    return plain + 16 * max(1, -(-plain // CHUNK)) + 80


def run_bytes(*command, **env):
    """Runs a program of the tools; returns what it wrote to its output, byte for byte."""
    # Nothing of whoever runs the tests: no settings, no credentials, no home.
    env = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), "LC_ALL": "C.UTF-8", **env}
    done = subprocess.run([os.path.join(BIN, command[0]), *command[1:]], env=env, capture_output=True)
    if done.returncode != 0:
        printed = (done.stdout + done.stderr).decode(errors="replace")
        raise Failed(f"{' '.join(command)}\nfailed with {done.returncode}:\n{printed}")
    return done.stdout


def run(*command, **env):
    """The same as text."""
    return run_bytes(*command, **env).decode()


def tree(root, bodies):
    """Writes bodies as files."""
    for key, body in bodies.items():
        path = os.path.join(root, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(body)
        # Written a while ago: a store that counts in seconds must not call its own copy the older one.
        os.utime(path, (time.time() - 3600,) * 2)


def files(root):
    """The files below a directory: what `tree` wrote, or what a client brought back."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = file.read()
    return found


def same(got, expected, what):
    """Bodies by key, without printing them."""
    assert got.keys() == expected.keys(), f"{what}: {sorted(got.keys() ^ expected.keys())} in one of the two"
    wrong = [key for key in expected if got[key] != expected[key]]
    assert not wrong, f"{what}: other bytes in {wrong}"


def fetch(url, method="GET", body=None):
    """A presigned URL, by curl."""
    arguments = ["curl", "--silent", "--show-error", "--fail", "--request", method]
    if body is not None:
        arguments += ["--data-binary", "@-", "--header", "Content-Type:"]
    return subprocess.run([*arguments, url], input=body, stdout=subprocess.PIPE, check=True).stdout


def refused(code, call, *places, **arguments):
    """Any of several codes, for stores that disagree. Returns the error."""
    try:
        call(*places, **arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        assert got in code.split(), f"{got} instead of {code}"
        return error
    raise AssertionError(f"{code} expected")


def listed(bucket, client=None):
    pages = (client or s3()).get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def sizes(bodies):
    return {key: len(body) for key, body in bodies.items()}


def stored(bucket):
    """What the store holds, read past s3veil. Objects of the embedded store are files."""
    if STORE == "dev":
        return files(os.path.join(os.environ["STORE_DIRECTORY"], bucket))
    direct = store()
    return {key: direct.get_object(Bucket=bucket, Key=key)["Body"].read() for key in listed(bucket, direct)}


# Every 16-byte run of every body looked for so far.
_bodies, _runs = set(), set()


def nothing_plain(bucket, bodies):
    """The store holds exactly the sealed forms: of the right size, with no 16-byte run of any plaintext."""
    for body in set(bodies.values()) - _bodies:
        _bodies.add(body)
        _runs.update(body[at : at + 16] for at in range(len(body) - 15))
    held = stored(bucket)
    expected = {key: sealed_len(len(body)) for key, body in bodies.items()}
    assert sizes(held) == expected, f"stored sizes: {sizes(held).items() ^ expected.items()}"
    for key, body in held.items():
        assert not any(body[at : at + 16] in _runs for at in range(len(body) - 15)), f"{key}: plaintext in the store"
