"""AWS CLI: 100 MiB there and back by `s3 cp` as it is, through a pipe, and from bucket to bucket"""

import hashlib

from common import ENDPOINT, KEY, SECRET, run, run_bytes, tree
from depth_multipart import MIB, noise


def main(bucket, work):
    env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}

    def s3(*command, call=run):
        return call("aws", "--endpoint-url", ENDPOINT, "s3", *command, **env)

    body = noise(9, 100 * MIB + 1)
    tree(work, {"up": body})
    s3("cp", f"{work}/up", f"s3://{bucket}/large")
    s3("cp", f"s3://{bucket}/large", f"s3://{bucket}/copied")
    for key in ("large", "copied"):
        piped = s3("cp", f"s3://{bucket}/{key}", "-", call=run_bytes)
        assert hashlib.sha256(piped).digest() == hashlib.sha256(body).digest(), key
    s3("cp", f"s3://{bucket}/copied", f"{work}/down")
    with open(f"{work}/down", "rb") as file:
        assert file.read() == body
