"""What the client scripts share: where everything is, what is written, and what the store may hold of it."""

import os
import random
import subprocess
import tempfile
import time
import urllib.request

import boto3
from botocore.config import Config

CHUNK = 65_536
ENDPOINT = os.environ["ENDPOINT"]
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


def s3(endpoint=ENDPOINT, key=KEY, secret=SECRET, **config):
    """A boto3 client; of the proxy unless told otherwise."""
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config)
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret, config=config
    )


def store():
    """A client of the store itself, past s3veil."""
    return s3(os.environ["STORE_ENDPOINT"], os.environ["STORE_ACCESS_KEY"], os.environ["STORE_SECRET_KEY"])


def sealed_len(plain):
    """docs/format.md, "Lengths"."""
    return plain + 16 * max(1, -(-plain // CHUNK)) + 80


def run(*command, check=True, **env):
    """Runs a program of the tools; returns what it printed."""
    program = os.path.join(BIN, command[0])
    env = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), "LC_ALL": "C.UTF-8", **env}
    done = subprocess.run([program, *command[1:]], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed = done.stdout.decode("latin-1")  # a character for each byte
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed with {done.returncode}:\n{printed}")
    return printed


def tree(root, bodies):
    """Writes bodies as files."""
    for key, body in bodies.items():
        path = os.path.join(root, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(body)
        # Written a while ago: a store that counts in seconds must not call its own copy the older one.
        os.utime(path, (time.time() - 3600,) * 2)


def same_tree(root, bodies):
    for key, body in bodies.items():
        with open(os.path.join(root, key), "rb") as file:
            assert file.read() == body, key


def fetch(url, method="GET", body=None):
    """What curl would do with a presigned URL."""
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method)) as answer:
        return answer.read()


def listed(bucket, client=None):
    pages = (client or s3()).get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def sizes(bodies):
    return {key: len(body) for key, body in bodies.items()}


def nothing_plain(bucket, bodies):
    """The store holds exactly the sealed forms: of the right size, with no 16-byte run of any plaintext."""
    runs = {body[at : at + 16] for body in bodies.values() for at in range(len(body) - 15)}
    direct = store()
    assert listed(bucket, direct) == {key: sealed_len(len(body)) for key, body in bodies.items()}, "stored sizes"
    for key in bodies:
        stored = direct.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert not any(stored[at : at + 16] in runs for at in range(len(stored) - 15)), f"{key}: plaintext in the store"
